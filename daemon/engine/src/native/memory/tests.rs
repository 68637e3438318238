//! Parts of memory are apart, aligned and zero, and what no system has is refused.

use super::{CHUNK, LINE, Memory};

/// Takes memory of each size and fills it with a byte of its own.
fn filled(sizes: &[usize]) -> Vec<Memory> {
    let fill = |(index, size): (usize, &usize)| {
        let mut memory = Memory::zeroed(*size).unwrap();
        assert_eq!(memory.len(), *size);
        assert!(memory.bytes().iter().all(|byte| *byte == 0), "{index} is not zero");
        memory.bytes_mut().fill(index as u8 + 1);
        memory
    };
    sizes.iter().enumerate().map(fill).collect()
}

#[test]
fn parts_of_a_chunk_are_zero_aligned_and_nobody_elses() {
    let sizes =
        [1, 63, 64, 65, 1 << 20, 0, 3 << 20, CHUNK / 4 - 1, CHUNK / 4, CHUNK / 4 - 1, CHUNK / 4 - 1, CHUNK / 4 - 1, 9];
    for _ in 0..2 {
        for (index, memory) in filled(&sizes).iter().enumerate() {
            assert!(memory.bytes().as_ptr().addr().is_multiple_of(LINE), "{index}");
            assert!(memory.bytes().iter().all(|byte| *byte == index as u8 + 1), "{index} was written by another");
        }
    }
}

#[test]
fn memory_that_no_system_has_is_refused() {
    assert!(Memory::zeroed(usize::MAX).is_err());
    assert!(Memory::zeroed(usize::MAX / 2).is_err());
}
