//! Draws against exact distributions, and the order of the filters.

use super::*;

/// A distribution over a small vocabulary that is neither flat nor steep.
fn logits() -> Vec<f32> {
    vec![0.5, 2.0, -1.0, 1.0, 2.5, 0.0, -3.0, 1.5, f32::NEG_INFINITY, 0.7]
}

fn sampling() -> Sampling {
    Sampling { temperature: 1.0, seed: 42, ..Sampling::default() }
}

fn draw_one(settings: &Sampling, logits: &[f32], position: u32) -> u32 {
    let sampler = Sampler::new(settings.clone()).unwrap();
    sampler.sample(&mut logits.to_vec(), position).unwrap().token
}

fn softmax(logits: &[f64]) -> Vec<f64> {
    let total: f64 = logits.iter().map(|logit| logit.exp()).sum();
    logits.iter().map(|logit| logit.exp() / total).collect()
}

/// Draws many tokens and compares with expected probabilities by the chi-square statistic.
#[track_caller]
fn check_distribution(settings: &Sampling, logits: &[f32], expected: &[f64]) {
    let sampler = Sampler::new(settings.clone()).unwrap();
    let draws = 20_000;
    let mut counts = vec![0u32; logits.len()];
    for position in 0..draws {
        counts[sampler.sample(&mut logits.to_vec(), position).unwrap().token as usize] += 1;
    }
    let mut statistic = 0.0;
    let mut freedom = -1.0f64;
    for (&count, &probability) in counts.iter().zip(expected) {
        if probability == 0.0 {
            assert_eq!(count, 0, "a token was drawn that cannot be: {counts:?}");
            continue;
        }
        let due = probability * f64::from(draws);
        statistic += (f64::from(count) - due).powi(2) / due;
        freedom += 1.0;
    }
    // Wilson and Hilferty's approximation of the 99.9th percentile.
    let freedom = freedom.max(1.0);
    let limit = freedom * (1.0 - 2.0 / (9.0 * freedom) + 3.09 * (2.0 / (9.0 * freedom)).sqrt()).powi(3);
    assert!(statistic < limit, "chi-square {statistic:.1} is above {limit:.1}: {counts:?}");
}

/// The probabilities that are left when only these tokens may be drawn.
fn only(tokens: &[usize], probabilities: &[f64]) -> Vec<f64> {
    let total: f64 = tokens.iter().map(|token| probabilities[*token]).sum();
    let kept = |token: usize| if tokens.contains(&token) { probabilities[token] / total } else { 0.0 };
    (0..probabilities.len()).map(kept).collect()
}

fn probabilities(temperature: f64) -> Vec<f64> {
    softmax(&logits().iter().map(|logit| f64::from(*logit) / temperature).collect::<Vec<_>>())
}

#[test]
fn draws_follow_the_distribution() {
    check_distribution(&sampling(), &logits(), &probabilities(1.0));
    check_distribution(&Sampling { temperature: 2.0, ..sampling() }, &logits(), &probabilities(2.0));
    check_distribution(&Sampling { temperature: 0.3, ..sampling() }, &logits(), &probabilities(0.3));
    check_distribution(&Sampling { choice: 9, seed: u64::MAX, ..sampling() }, &logits(), &probabilities(1.0));
}

#[test]
fn filters_keep_the_likeliest_tokens() {
    let all = probabilities(1.0);
    // By likelihood: 4, 1, 7, 3, 9, 0, 5, 2, 6.
    check_distribution(&Sampling { top_k: 3, ..sampling() }, &logits(), &only(&[4, 1, 7], &all));
    check_distribution(&Sampling { top_k: 100, ..sampling() }, &logits(), &all);
    let share = (all[4] + all[1] + all[7] - 1e-4) as f32;
    check_distribution(&Sampling { top_p: share, ..sampling() }, &logits(), &only(&[4, 1, 7], &all));
    check_distribution(&Sampling { top_p: share + 2e-4, ..sampling() }, &logits(), &only(&[4, 1, 7, 3], &all));
    let least = (all[3] / all[4] - 1e-4) as f32;
    check_distribution(&Sampling { min_p: least, ..sampling() }, &logits(), &only(&[4, 1, 7, 3], &all));
    check_distribution(&Sampling { min_p: least, top_p: 0.999, ..sampling() }, &logits(), &only(&[4, 1, 7, 3], &all));
}

#[test]
fn the_nucleus_is_of_what_top_k_leaves_and_sees_the_temperature() {
    let all = probabilities(1.0);
    // Of the best four, two have 0.67 of the probability; of all, three are needed for that.
    let settings = Sampling { top_k: 4, top_p: 0.65, ..sampling() };
    check_distribution(&settings, &logits(), &only(&[4, 1], &all));
    check_distribution(&Sampling { top_p: 0.65, ..sampling() }, &logits(), &only(&[4, 1, 7], &all));
    let cold = probabilities(0.25);
    check_distribution(&Sampling { temperature: 0.25, top_p: 0.8, ..sampling() }, &logits(), &only(&[4], &cold));
}

#[test]
fn a_large_vocabulary_is_filtered_as_a_full_sort_would() {
    let logits: Vec<f32> = (0..50_000u32).map(|id| (random::uniform(5, 0, id) as f32 - 0.5) * 12.0).collect();
    let mut order: Vec<u32> = (0..50_000).collect();
    order.sort_by(|a, b| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b)));
    let weights: Vec<f64> = order.iter().map(|id| f64::from(logits[*id as usize]).exp()).collect();
    let total: f64 = weights.iter().sum();
    for share in [0.001, 0.3, 0.9, 0.9999] {
        let mut reached = 0.0;
        let count = weights
            .iter()
            .take_while(|weight| {
                let go_on = reached < share * total;
                reached += **weight;
                go_on
            })
            .count();
        let settings = Sampling { top_p: share as f32, ..sampling() };
        let rank = |position| {
            let token = draw_one(&settings, &logits, position);
            order.iter().position(|id| *id == token).expect("the token is in the vocabulary")
        };
        let worst = (0..40).map(rank).max().expect("there are draws");
        assert!(worst <= count, "rank {worst} of {count} for {share}");
    }
    let top: Vec<u32> = candidates::best(&logits, 20).iter().map(|it| it.token).collect();
    assert_eq!(top, order[..20]);
}

#[test]
fn greedy_takes_the_lowest_id_among_equals() {
    let greedy = Sampling::default();
    assert_eq!(draw_one(&greedy, &[1.0, 3.0, 3.0, 2.0], 0), 1);
    assert_eq!(draw_one(&greedy, &[-0.0, 0.0], 0), 0);
    assert_eq!(draw_one(&greedy, &[f32::NEG_INFINITY, -5.0], 0), 1);
    assert_eq!(draw_one(&Sampling { top_k: 1, ..sampling() }, &[1.0, 3.0, 3.0, 2.0], 3), 1);
}

#[test]
fn a_draw_depends_on_seed_choice_and_position_only() {
    let draw_all = |settings: &Sampling| -> Vec<u32> { (0..64).map(|at| draw_one(settings, &logits(), at)).collect() };
    let settings = sampling();
    assert_eq!(draw_all(&settings), draw_all(&settings));
    let backwards: Vec<u32> = (0..64).rev().map(|at| draw_one(&settings, &logits(), at)).collect();
    assert_eq!(draw_all(&settings), backwards.into_iter().rev().collect::<Vec<_>>());
    assert_ne!(draw_all(&settings), draw_all(&Sampling { seed: 43, ..settings.clone() }));
    assert_ne!(draw_all(&settings), draw_all(&Sampling { seed: 42 + (1 << 40), ..settings.clone() }));
    assert_ne!(draw_all(&settings), draw_all(&Sampling { choice: 1, ..settings }));
}

#[test]
fn random_numbers_are_those_of_the_published_generator() {
    assert_eq!(random::philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
    let ones = u32::MAX;
    assert_eq!(random::philox([ones; 4], [ones; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
    let counter = [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344];
    let block = random::philox(counter, [0xa409_3822, 0x299f_31d0]);
    assert_eq!(block, [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]);
}

#[test]
fn penalties_change_the_logits_of_seen_tokens() {
    let logits = [1.0, -1.0, 1.0, -1.0, 1.0];
    let adjusted = |settings: Sampling| {
        let mut sampler = Sampler::new(settings).unwrap();
        sampler.observe_prompt(&[0, 1, 1]);
        for token in [2, 3, 2, 2] {
            sampler.observe(token);
        }
        let mut logits = logits;
        sampler.adjust(&mut logits);
        logits
    };
    assert_eq!(adjusted(Sampling { repetition_penalty: 2.0, ..sampling() }), [0.5, -2.0, 0.5, -2.0, 1.0]);
    assert_eq!(adjusted(Sampling { presence_penalty: 0.5, ..sampling() }), [1.0, -1.0, 0.5, -1.5, 1.0]);
    assert_eq!(adjusted(Sampling { frequency_penalty: 0.5, ..sampling() }), [1.0, -1.0, -0.5, -1.5, 1.0]);
    let biased = Sampling { logit_bias: vec![(0, 2.0), (4, f32::NEG_INFINITY), (99, 1.0)], ..sampling() };
    assert_eq!(adjusted(biased), [3.0, -1.0, 1.0, -1.0, f32::NEG_INFINITY]);
}

#[test]
fn an_end_token_waits_for_the_least_length() {
    let settings = Sampling { eos: vec![1, 77], min_tokens: 2, ..Sampling::default() };
    let mut sampler = Sampler::new(settings).unwrap();
    for expected in [0, 0, 1] {
        assert_eq!(sampler.sample(&mut [1.0, 5.0], 0).unwrap().token, expected);
        sampler.observe(0);
    }
}

#[test]
fn log_probabilities_are_of_the_untouched_logits() {
    let settings =
        Sampling { logprobs: Some(3), temperature: 0.1, top_k: 1, logit_bias: vec![(6, 100.0)], ..sampling() };
    let sampled = Sampler::new(settings).unwrap().sample(&mut logits(), 0).unwrap();
    let expected = probabilities(1.0);
    assert_eq!(sampled.token, 6);
    assert!((f64::from(sampled.logprob.unwrap()) - expected[6].ln()).abs() < 1e-6);
    let tokens: Vec<u32> = sampled.top.iter().map(|it| it.0).collect();
    assert_eq!(tokens, [4, 1, 7]);
    for (token, logprob) in sampled.top {
        assert!((f64::from(logprob) - expected[token as usize].ln()).abs() < 1e-6);
    }
    let without = Sampler::new(sampling()).unwrap().sample(&mut logits(), 0).unwrap();
    assert_eq!((without.logprob, without.top), (None, vec![]));
}

#[test]
fn logits_that_are_no_numbers_are_refused() {
    for broken in [f32::NAN, f32::INFINITY, -f32::NAN] {
        let error = Sampler::new(sampling()).unwrap().sample(&mut [1.0, broken, 2.0], 9).unwrap_err();
        assert_eq!(error, SamplingError::NotANumber { position: 9, token: 1 });
    }
    let banned = Sampling { logit_bias: vec![(0, f32::NEG_INFINITY)], ..sampling() };
    let error = Sampler::new(banned).unwrap().sample(&mut [1.0, f32::NEG_INFINITY], 3).unwrap_err();
    assert_eq!(error, SamplingError::NothingAllowed { position: 3 });
}

#[test]
fn settings_without_meaning_are_refused_by_name() {
    let refused = |settings: Sampling| Sampler::new(settings).err().expect("it is refused").to_string();
    let base = Sampling::default;
    assert_eq!(refused(Sampling { temperature: -0.1, ..base() }), "temperature is -0.1; it must be from 0 to 100");
    assert!(refused(Sampling { temperature: f32::NAN, ..base() }).contains("temperature"));
    assert!(refused(Sampling { top_p: 0.0, ..base() }).contains("top_p"));
    assert!(refused(Sampling { min_p: 1.5, ..base() }).contains("min_p"));
    assert!(refused(Sampling { repetition_penalty: 0.0, ..base() }).contains("repetition_penalty"));
    assert!(refused(Sampling { presence_penalty: f32::INFINITY, ..base() }).contains("presence_penalty"));
    assert!(refused(Sampling { logit_bias: vec![(1, f32::NAN)], ..base() }).contains("logit_bias"));
}

#[test]
fn extreme_temperatures_and_logits_still_draw() {
    let wide = [1e30, -1e30, 9.9e29, 0.0];
    for temperature in [1e-30, 1e-3, 1.0, 100.0] {
        for (top_k, top_p) in [(0, 1.0), (0, 0.5), (2, 0.5), (2, 1.0)] {
            let settings = Sampling { temperature, top_k, top_p, ..sampling() };
            assert_eq!(draw_one(&settings, &wide, 0), 0);
        }
    }
}
