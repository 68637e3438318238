//! Memory of a cache that is touched before it is needed.

use super::{Keep, KvCache};

/// How many blocks are touched before enough are.
fn touched(cache: &mut KvCache) -> usize {
    std::iter::from_fn(|| cache.touch_ahead().then_some(())).count()
}

#[test]
fn a_thousand_tokens_beyond_the_last_that_was_written_are_touched_and_nothing_written_changes() {
    let mut cache = KvCache::new(2, 100, 1, 32, Keep::Bf16).unwrap();
    assert_eq!(touched(&mut cache), 32);
    let (k, v) = ([1.5; 32], [2.5; 32]);
    cache.write(0, 3, 0, &k, &v);
    let written = cache.block(3).to_vec();
    assert_eq!(touched(&mut cache), 4);
    cache.block_mut(50).fill(7);
    assert_eq!(touched(&mut cache), 32, "nothing below is touched again");
    cache.copy(3, 60);
    assert_eq!(touched(&mut cache), 10);
    cache.block_mut(97);
    assert_eq!(touched(&mut cache), 2, "there are no more");
    let full: Vec<usize> = (0..100).filter(|&block| cache.block(block as u32).iter().any(|&byte| byte != 0)).collect();
    assert_eq!(full, [3, 50, 60]);
    assert_eq!((cache.block(3), cache.block(60)), (&written[..], &written[..]));
    assert!(cache.block(50).iter().all(|&byte| byte == 7));
}
