//! What a pace makes of measured steps.

use super::*;

fn ms(ms: f64) -> Duration {
    Duration::from_secs_f64(ms / 1e3)
}

fn prompt(prompt: f64) -> Load {
    Load { prompt, decode: 0 }
}

fn decode(decode: u32) -> Load {
    Load { prompt: 0.0, decode }
}

#[test]
fn the_budget_is_what_the_step_has_time_for() {
    let mut pace = Pace::new(80, 128);
    pace.learn(prompt(100.0), ms(100.0));
    assert_eq!(pace.budget(), 80);
    (0..40).for_each(|_| pace.learn(decode(1), ms(20.0)));
    assert!((59..=60).contains(&pace.budget()), "decoding takes its part of the step");
    (0..40).for_each(|_| pace.learn(Load { prompt: 30.0, decode: 1 }, ms(80.0)));
    assert!((29..=31).contains(&pace.budget()), "a machine that got slower gets less");
    (0..40).for_each(|_| pace.learn(decode(64), ms(500.0)));
    assert!((19..=21).contains(&pace.budget()), "prompts go on under the heaviest load");
    (0..40).for_each(|_| pace.learn(prompt(128.0), ms(1.0)));
    assert_eq!(pace.budget(), 128, "however fast the machine is");
}

#[test]
fn costs_are_learnt_by_width() {
    let mut pace = Pace::new(80, 128);
    assert!((pace.cost(1, 3) - 1.3).abs() < 1e-9, "the usual is expected at first");
    (0..40).for_each(|_| pace.learn(decode(1), ms(10.0)));
    (0..40).for_each(|_| pace.learn(decode(4), ms(30.0)));
    assert!((1.8..3.1).contains(&pace.cost(1, 3)), "{}", pace.cost(1, 3));
    (0..500).for_each(|_| pace.learn(decode(1), ms(10.0)));
    assert!(pace.cost(1, 3) < 1.4, "what was long ago fades");
}

#[test]
fn every_width_costs_more_than_a_narrower_one_until_something_is_known() {
    let pace = Pace::new(80, 128);
    let costs: Vec<f64> = (1..200).map(|more| pace.cost(1, more)).collect();
    assert!(costs.is_sorted() && costs[0] > 1.0);
}
