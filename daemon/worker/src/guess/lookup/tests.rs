//! What a lookup guesses, and when it does not.

use super::*;

const FREE: Step<'_> = Step { rows: 1, cost: &|_| 1.0 };

/// What a narrow step costs on a machine that reads weights once for all rows.
fn usual(more: u32) -> f64 {
    1.0 + 0.08 * f64::from(more)
}

const USUAL: Step<'_> = Step { rows: 1, cost: &usual };

#[test]
fn what_followed_before_is_guessed() {
    let mut lookup = Lookup::new(&[1, 2, 3, 4, 5, 6, 1, 2, 3]);
    assert_eq!(lookup.guess(4, &FREE), [4, 5, 6, 1]);
    let mut lookup = Lookup::new(&[1, 2, 3, 4, 9, 1, 2, 3, 7, 1, 2, 3]);
    assert_eq!(lookup.guess(2, &FREE), [7, 1], "the last time counts");
    let mut lookup = Lookup::new(&[8, 2, 3, 4, 9, 1, 2, 3, 7, 8, 2, 3]);
    assert_eq!(lookup.guess(2, &FREE), [4, 9], "and a longer match more");
    assert_eq!(Lookup::new(&[1, 2, 3, 4]).guess(4, &FREE), [0_u32; 0], "nothing followed these before");
}

#[test]
fn a_run_is_followed_past_a_word_that_is_changed_left_out_or_put_in() {
    let text: Vec<u32> = (10..40).collect();
    let copying = || {
        let mut lookup = Lookup::new(&text);
        [10, 11, 12, 13].into_iter().for_each(|token| lookup.push(token));
        assert_eq!(lookup.guess(3, &FREE), [14, 15, 16]);
        lookup
    };
    let mut changed = copying();
    changed.push(99);
    assert_eq!(changed.guess(3, &FREE), [15, 16, 17]);
    let mut left_out = copying();
    left_out.push(16);
    assert_eq!(left_out.guess(3, &FREE), [17, 18, 19]);
    let mut put_in = copying();
    [99, 14].into_iter().for_each(|token| put_in.push(token));
    assert_eq!(put_in.guess(3, &FREE), [15, 16, 17]);
    let mut elsewhere = copying();
    (100..110).for_each(|token| elsewhere.push(token));
    assert_eq!(elsewhere.guess(3, &FREE), [0_u32; 0], "a run that is over is let go");
}

#[test]
fn guesses_go_as_far_as_they_pay() {
    let prompt: Vec<u32> = (0..40).chain(0..10).collect();
    let mut lookup = Lookup::new(&prompt);
    assert_eq!(lookup.guess(12, &FREE).len(), 12);
    let dear = &Step { rows: 1, cost: &|more| 1.0 + 0.75 * f64::from(more) };
    assert_eq!(lookup.guess(12, dear).len(), 1, "each further one costs more than it promises");
    assert!(lookup.worthwhile(8, 12, &Step { rows: 1, cost: &|more| 1.0 + f64::from(more) }) == 0);
    (0..40).for_each(|_| lookup.learn(4, 4));
    assert!(lookup.guess(12, dear).len() > 4, "trust grows with every right guess");
}

#[test]
fn a_text_that_is_copied_with_changes_takes_few_steps() {
    let text: Vec<u32> = (1_000..1_480).collect();
    let mut changed = text.clone();
    changed.iter_mut().skip(23).step_by(24).for_each(|token| *token += 5_000);
    let mut lookup = Lookup::new(&text);
    changed[..2].iter().for_each(|token| lookup.push(*token));
    let (mut at, mut cost) = (2, 0.0);
    while at < changed.len() {
        let guesses = lookup.guess(12, &USUAL).to_vec();
        let right = guesses.iter().zip(&changed[at..]).take_while(|(guess, own)| guess == own).count();
        let right = right.min(changed.len() - at - 1);
        changed[at..=at + right].iter().for_each(|token| lookup.push(*token));
        lookup.learn(guesses.len(), right);
        at += right + 1;
        cost += usual(guesses.len() as u32);
    }
    assert!(cost * 3.5 < changed.len() as f64, "{cost} steps' time for {} tokens", changed.len());
}

#[test]
fn guesses_that_are_always_wrong_become_rare_and_cost_little() {
    let mut lookup = Lookup::new(&[1, 2, 3, 4, 1, 2, 3]);
    let (mut guesses, mut cost) = (0, 0.0);
    for _ in 0..1_000 {
        let guessed = lookup.guess(4, &USUAL).len();
        guesses += usize::from(guessed > 0);
        cost += usual(guessed as u32) - 1.0;
        lookup.learn(guessed, 0);
        // The same few tokens again, and each time another that follows.
        lookup.run = None;
    }
    assert!(guesses < 45 && cost < 6.0, "{guesses} guesses cost {cost} steps");
}
