//! What a lookup guesses, and when it does not.

use super::*;

fn free(_: u32) -> f64 {
    1.0
}

#[test]
fn what_followed_before_is_guessed() {
    let mut lookup = Lookup::new(&[1, 2, 3, 4, 5, 6, 1, 2, 3]);
    assert_eq!(lookup.guess(4, free), [4, 5, 6, 1]);
    lookup.push(7);
    assert_eq!(lookup.guess(4, free), [0_u32; 0], "nothing followed these before");
    [1, 2, 3].into_iter().for_each(|token| lookup.push(token));
    assert_eq!(lookup.guess(2, free), [7, 1], "the last time counts");
}

#[test]
fn guesses_go_as_far_as_they_pay() {
    let prompt: Vec<u32> = (0..40).chain(0..10).collect();
    let mut lookup = Lookup::new(&prompt);
    assert_eq!(lookup.guess(12, free).len(), 12);
    let dear = |more: u32| 1.0 + 0.5 * f64::from(more);
    assert_eq!(lookup.guess(12, dear).len(), 1, "each further one costs more than it promises");
    assert_eq!(lookup.guess(12, |more| 1.0 + f64::from(more)).len(), 0);
    (0..20).for_each(|_| lookup.learn(4, 4));
    assert!(lookup.guess(12, dear).len() > 4, "trust grows with every right guess");
}

#[test]
fn a_lookup_that_is_always_wrong_falls_almost_silent() {
    let mut lookup = Lookup::new(&[1, 2, 3, 4, 1, 2, 3]);
    let mut guesses = 0;
    for _ in 0..1_000 {
        let guessed = lookup.guess(4, |more| 1.0 + 0.05 * f64::from(more)).len();
        guesses += usize::from(guessed > 0);
        lookup.learn(guessed, 0);
    }
    assert!((5..20).contains(&guesses), "{guesses}");
}
