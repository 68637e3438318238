//! Draws against exact distributions, and the order of the filters.

use super::*;

/// A distribution over a small vocabulary that is neither flat nor steep.
fn logits() -> Vec<f32> {
    vec![0.5, 2.0, -1.0, 1.0, 2.5, 0.0, -3.0, 1.5, f32::NEG_INFINITY, 0.7]
}

fn many_logits() -> Vec<f32> {
    (0..50_000u32).map(|id| (random::uniform(5, 0, id, false)[0] as f32 - 0.5) * 12.0).collect()
}

fn sampling() -> Sampling {
    Sampling { temperature: 1.0, seed: 42, ..Sampling::default() }
}

fn draw_one(settings: &Sampling, logits: &[f32], position: u32) -> u32 {
    let mut sampler = Sampler::new(settings.clone()).unwrap();
    sampler.sample(&mut logits.to_vec(), position, None).unwrap().token
}

fn softmax(logits: &[f64]) -> Vec<f64> {
    let total: f64 = logits.iter().map(|logit| logit.exp()).sum();
    logits.iter().map(|logit| logit.exp() / total).collect()
}

/// Draws many tokens and compares with expected probabilities by the chi-square statistic.
#[track_caller]
fn check_distribution(settings: &Sampling, logits: &[f32], expected: &[f64]) {
    check_sampler(&mut Sampler::new(settings.clone()).unwrap(), logits, expected);
}

/// The same with a sampler that has seen something.
#[track_caller]
fn check_sampler(sampler: &mut Sampler, logits: &[f32], expected: &[f64]) {
    check_draws(expected, |position| sampler.sample(&mut logits.to_vec(), position, None).unwrap().token);
}

#[track_caller]
fn check_draws(expected: &[f64], mut draw: impl FnMut(u32) -> u32) {
    let draws = 20_000;
    let mut counts = vec![0u32; expected.len()];
    for nth in 0..draws {
        counts[draw(nth) as usize] += 1;
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
fn choices_and_seeds_draw_independently_of_one_another() {
    let all = probabilities(1.0);
    check_draws(&all, |nth| draw_one(&Sampling { choice: nth as u16, ..sampling() }, &logits(), 7));
    check_draws(&all, |nth| draw_one(&Sampling { seed: u64::from(nth), ..sampling() }, &logits(), 7));
    // Pairs of neighbours, as pairs of tokens: what one draws says nothing about the other.
    let (both, few) = ([0.5_f32, 1.0, 0.0], softmax(&[0.5, 1.0, 0.0]));
    let pairs: Vec<f64> = few.iter().flat_map(|first| few.iter().map(move |second| first * second)).collect();
    let pair = |first: &Sampling, second: &Sampling, at: (u32, u32)| {
        draw_one(first, &both, at.0) * 3 + draw_one(second, &both, at.1)
    };
    check_draws(&pairs, |nth| pair(&sampling(), &sampling(), (2 * nth, 2 * nth + 1)));
    check_draws(&pairs, |nth| pair(&sampling(), &Sampling { choice: 1, ..sampling() }, (nth, nth)));
    check_draws(&pairs, |nth| pair(&sampling(), &Sampling { seed: 43, ..sampling() }, (nth, nth)));
}

#[test]
fn what_was_seen_shapes_the_distribution_as_its_definition_says() {
    let sampler = |settings: Sampling| {
        let mut sampler = Sampler::new(settings).unwrap();
        sampler.observe_prompt(&[2, 4, 5, 6, 1, 5, 6]);
        [1, 7, 1].into_iter().for_each(|token| sampler.observe(token));
        sampler
    };
    let changed = |temperature: f64, change: &dyn Fn(usize, f64) -> f64| {
        let of = |(token, logit): (usize, &f32)| change(token, f64::from(*logit)) / temperature;
        softmax(&logits().iter().enumerate().map(of).collect::<Vec<_>>())
    };
    let check = |settings: Sampling, change: &dyn Fn(usize, f64) -> f64| {
        let temperature = f64::from(settings.temperature);
        check_sampler(&mut sampler(settings), &logits(), &changed(temperature, change));
    };
    let seen = |token| [1, 2, 4, 5, 6, 7].contains(&token);
    let times = |token: usize| [0.0, 2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0][token];
    check(Sampling { repetition_penalty: 1.3, ..sampling() }, &|token, logit| match (seen(token), logit > 0.0) {
        (true, true) => logit / 1.3,
        (true, false) => logit * 1.3,
        (false, _) => logit,
    });
    check(Sampling { presence_penalty: 0.9, ..sampling() }, &|token, logit| {
        logit - if times(token) > 0.0 { 0.9 } else { 0.0 }
    });
    check(Sampling { frequency_penalty: 0.7, temperature: 1.4, ..sampling() }, &|token, logit| {
        logit - 0.7 * times(token)
    });
    let biased = Sampling { logit_bias: vec![(6, 4.0), (4, -1.5), (1, -100.0)], temperature: 0.8, ..sampling() };
    check(biased, &|token, logit| logit + [0.0, -100.0, 0.0, 0.0, -1.5, 0.0, 4.0, 0.0, 0.0, 0.0][token]);
    check(Sampling { eos: vec![4, 7], min_tokens: 4, ..sampling() }, &|token, logit| {
        if [4, 7].contains(&token) { f64::NEG_INFINITY } else { logit }
    });
    check(Sampling { eos: vec![4, 7], min_tokens: 3, ..sampling() }, &|_, logit| logit);
}

#[test]
fn what_would_go_on_with_a_repetition_is_less_likely_by_what_it_costs() {
    let dry = Some(DrySettings { multiplier: 0.8, base: 1.75, allowed_length: 2, breakers: Vec::new() });
    let mut sampler = Sampler::new(Sampling { dry, ..sampling() }).unwrap();
    // Three tokens are said again, after which came 4, and the last two of them, after which came 7.
    sampler.observe_prompt(&[1, 2, 3, 4, 5, 2, 3, 7, 9]);
    [1, 2, 3].into_iter().for_each(|token| sampler.observe(token));
    let cost = [(4, 0.8 * 1.75), (7, 0.8)];
    let expected: Vec<f64> = logits()
        .iter()
        .enumerate()
        .map(|(token, logit)| {
            let cost = cost.iter().find(|(of, _)| *of == token).map_or(0.0, |(_, cost)| *cost);
            f64::from(*logit) - cost
        })
        .collect();
    check_sampler(&mut sampler, &logits(), &softmax(&expected));
}

#[test]
fn filters_keep_the_likeliest_tokens() {
    let all = probabilities(1.0);
    // By likelihood: 4, 1, 7, 3, 9, 0, 5, 2, 6.
    check_distribution(&Sampling { top_k: 3, ..sampling() }, &logits(), &only(&[4, 1, 7], &all));
    check_distribution(&Sampling { top_k: 100, ..sampling() }, &logits(), &all);
    let share = (all[4] + all[1] + all[7] - 1e-4) as f32;
    check_distribution(&Sampling { top_p: share, ..sampling() }, &logits(), &only(&[4, 1, 7], &all));
    check_distribution(&Sampling { top_p: 0.0, ..sampling() }, &logits(), &only(&[4], &all));
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
    let logits = many_logits();
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
fn a_draw_from_a_large_vocabulary_falls_where_adding_up_would_put_it() {
    let mut logits = many_logits();
    logits[..3_000].fill(f32::NEG_INFINITY);
    let weights: Vec<f64> = logits.iter().map(|logit| f64::from(*logit).exp()).collect();
    let total: f64 = weights.iter().sum();
    for position in 0..100 {
        let (point, mut reached) = (random::uniform(42, 0, position, false)[0] * total, 0.0);
        let due = weights.iter().position(|weight| {
            reached += weight;
            reached > point
        });
        assert_eq!(Some(draw_one(&sampling(), &logits, position) as usize), due);
    }
}

#[test]
fn greedy_takes_the_lowest_id_among_equals() {
    let greedy = Sampling::default();
    assert_eq!(draw_one(&greedy, &[1.0, 3.0, 3.0, 2.0], 0), 1);
    assert_eq!(draw_one(&greedy, &[-0.0, 0.0], 0), 0);
    let mut many: Vec<f32> = (0..1_000).map(|id| id as f32 / 1e3).collect();
    (many[517], many[950]) = (2.0, 2.0);
    assert_eq!(draw_one(&greedy, &many, 0), 517);
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
fn penalties_change_the_logits_of_seen_tokens() {
    let logits = [1.0, -1.0, 1.0, -1.0, 1.0];
    let adjusted = |settings: Sampling| {
        let mut sampler = Sampler::new(settings).unwrap();
        sampler.observe_prompt(&[0, 1, 1]);
        for token in [2, 3, 2, 2] {
            sampler.observe(token);
        }
        let mut logits = logits;
        sampler.penalize(&mut logits);
        logits
    };
    let repeated = |window| Sampling { repetition_penalty: 2.0, repetition_window: window, ..sampling() };
    assert_eq!(adjusted(repeated(None)), [0.5, -2.0, 0.5, -2.0, 1.0]);
    assert_eq!(adjusted(repeated(Some(0))), logits);
    assert_eq!(adjusted(repeated(Some(2))), [1.0, -1.0, 0.5, -1.0, 1.0]);
    assert_eq!(adjusted(repeated(Some(5))), [1.0, -2.0, 0.5, -2.0, 1.0]);
    assert_eq!(adjusted(repeated(Some(7))), adjusted(repeated(None)));
    assert_eq!(adjusted(Sampling { presence_penalty: 0.5, ..sampling() }), [1.0, -1.0, 0.5, -1.5, 1.0]);
    assert_eq!(adjusted(Sampling { frequency_penalty: 0.5, ..sampling() }), [1.0, -1.0, -0.5, -1.5, 1.0]);
    let windowed = |penalty: Sampling| adjusted(Sampling { repetition_window: Some(5), one_window: true, ..penalty });
    assert_eq!(windowed(Sampling { presence_penalty: 0.5, ..sampling() }), [1.0, -1.5, 0.5, -1.5, 1.0]);
    assert_eq!(windowed(Sampling { frequency_penalty: 0.5, ..sampling() }), [1.0, -1.5, -0.5, -1.5, 1.0]);
    assert_eq!(windowed(sampling()), logits);
    let whole = Sampling { frequency_penalty: 0.5, one_window: true, ..sampling() };
    assert_eq!(adjusted(whole), [0.5, -2.0, -0.5, -1.5, 1.0]);
    let biased = Sampling { logit_bias: vec![(0, 2.0), (4, f32::NEG_INFINITY), (99, 1.0)], ..sampling() };
    assert_eq!(adjusted(biased), [3.0, -1.0, 1.0, -1.0, f32::NEG_INFINITY]);
}

#[test]
fn an_end_token_waits_for_the_least_length() {
    let settings = Sampling { eos: vec![1, 77], min_tokens: 2, ..Sampling::default() };
    let mut sampler = Sampler::new(settings).unwrap();
    for expected in [0, 0, 1] {
        assert_eq!(sampler.sample(&mut [1.0, 5.0], 0, None).unwrap().token, expected);
        sampler.observe(0);
    }
}

#[test]
fn log_probabilities_are_of_the_untouched_logits() {
    let settings =
        Sampling { logprobs: Some(3), temperature: 0.1, top_k: 1, logit_bias: vec![(6, 100.0)], ..sampling() };
    let sampled = Sampler::new(settings).unwrap().sample(&mut logits(), 0, None).unwrap();
    let expected = probabilities(1.0);
    assert_eq!(sampled.token, 6);
    assert!((f64::from(sampled.logprob.unwrap()) - expected[6].ln()).abs() < 1e-6);
    let tokens: Vec<u32> = sampled.top.iter().map(|it| it.0).collect();
    assert_eq!(tokens, [4, 1, 7]);
    for (token, logprob) in sampled.top {
        assert!((f64::from(logprob) - expected[token as usize].ln()).abs() < 1e-6);
    }
    let without = Sampler::new(sampling()).unwrap().sample(&mut logits(), 0, None).unwrap();
    assert_eq!((without.logprob, without.top), (None, vec![]));
}

#[test]
fn logits_that_are_no_numbers_are_refused() {
    for broken in [f32::NAN, f32::INFINITY, -f32::NAN] {
        let error = Sampler::new(sampling()).unwrap().sample(&mut [1.0, broken, 2.0], 9, None).unwrap_err();
        assert_eq!(error, SamplingError::NotANumber { position: 9, token: 1 });
    }
    let banned = Sampling { logit_bias: vec![(0, f32::NEG_INFINITY)], ..sampling() };
    let error = Sampler::new(banned).unwrap().sample(&mut [1.0, f32::NEG_INFINITY], 3, None).unwrap_err();
    assert_eq!(error, SamplingError::NothingAllowed { position: 3 });
}

#[test]
fn settings_without_meaning_are_refused_by_name() {
    let refused = |settings: Sampling| Sampler::new(settings).err().expect("it is refused").to_string();
    let base = Sampling::default;
    assert_eq!(refused(Sampling { temperature: -0.1, ..base() }), "temperature is -0.1; it must be from 0 to 100");
    assert!(refused(Sampling { temperature: f32::NAN, ..base() }).contains("temperature"));
    assert!(refused(Sampling { top_p: -0.1, ..base() }).contains("top_p"));
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

#[test]
fn typical_sampling_keeps_what_is_nearest_to_the_expected_surprise() {
    let all = probabilities(1.0);
    let entropy: f64 = all.iter().filter(|p| **p > 0.0).map(|p| -p * p.ln()).sum();
    let mut order: Vec<usize> = (0..all.len()).filter(|token| all[*token] > 0.0).collect();
    order.sort_by(|a, b| (-all[*a].ln() - entropy).abs().total_cmp(&(-all[*b].ln() - entropy).abs()));
    let mut reached = 0.0;
    for count in 1..order.len() {
        reached += all[order[count - 1]];
        let settings = Sampling { typical_p: reached as f32 - 1e-4, ..sampling() };
        check_distribution(&settings, &logits(), &only(&order[..count], &all));
    }
    assert_ne!(order[0], 4, "the likeliest token is not the most typical one");
    // Together with top_k, of what that leaves.
    let best = only(&[4, 1, 7], &all);
    let settings = Sampling { typical_p: 0.2, top_k: 3, ..sampling() };
    let entropy: f64 = best.iter().filter(|p| **p > 0.0).map(|p| -p * p.ln()).sum();
    let nearest = [4, 1, 7]
        .into_iter()
        .min_by(|a: &usize, b: &usize| (-best[*a].ln() - entropy).abs().total_cmp(&(-best[*b].ln() - entropy).abs()));
    check_distribution(&settings, &logits(), &only(&[nearest.unwrap()], &all));
}

#[test]
fn xtc_leaves_out_likely_tokens_as_often_as_it_should() {
    let all = probabilities(1.0);
    // By likelihood: 4, 1, 7, 3, 9, 0, 5, 2, 6; four have at least the threshold, of which 3 stays.
    let threshold = (all[3] - 1e-4) as f32;
    let left = only(&[3, 9, 0, 5, 2, 6], &all);
    let mixed =
        |share: f64| all.iter().zip(&left).map(|(all, left)| all * (1.0 - share) + left * share).collect::<Vec<_>>();
    for share in [1.0, 0.5, 0.1] {
        let settings = Sampling { xtc_probability: share as f32, xtc_threshold: threshold, ..sampling() };
        check_distribution(&settings, &logits(), &mixed(share));
    }
    let alone = Sampling { xtc_probability: 1.0, xtc_threshold: (all[1] + 1e-4) as f32, ..sampling() };
    check_distribution(&alone, &logits(), &all);
    let kept = Sampling { xtc_keep: vec![4], xtc_probability: 1.0, xtc_threshold: threshold, ..sampling() };
    check_distribution(&kept, &logits(), &only(&[4, 3, 9, 0, 5, 2, 6], &all));
}

#[test]
fn mirostat_keeps_the_surprise_near_its_target() {
    for (tau, temperature) in [(1.0, 1.0), (1.8, 1.0), (1.5, 2.0)] {
        let mirostat = Some(Mirostat { tau, eta: 0.1 });
        let mut sampler = Sampler::new(Sampling { mirostat, temperature, ..sampling() }).unwrap();
        let all = probabilities(f64::from(temperature));
        let (mut sum, draws) = (0.0, 20_000);
        for position in 0..draws {
            let most = sampler.state().unwrap();
            let token = sampler.sample(&mut logits(), position, None).unwrap().token as usize;
            let kept: Vec<usize> = (0..all.len()).filter(|at| all[*at] > 0.0 && -all[*at].log2() <= most).collect();
            assert!(kept.contains(&token) || kept.is_empty() && token == 4, "{token} is too surprising for {most}");
            let left: f64 = kept.iter().map(|at| all[*at]).sum();
            sum += if kept.is_empty() { 0.0 } else { -(all[token] / left).log2() };
        }
        let mean = sum / f64::from(draws);
        assert!((mean - f64::from(tau)).abs() < 0.01, "{mean} is not {tau}");
    }
}

#[test]
fn mirostat_draws_from_what_is_not_too_surprising() {
    let all = probabilities(1.0);
    let cases =
        [(0.5, &[4][..]), (1.0, &[4]), (1.5, &[4, 1, 7]), (2.0, &[4, 1, 7, 3, 9]), (9.0, &[4, 1, 7, 3, 9, 0, 5, 2, 6])];
    for (tau, kept) in cases {
        // Without a rate its bound stays where it begins, at twice the target.
        let bound = 2.0 * f64::from(tau);
        let within: Vec<usize> = (0..all.len()).filter(|at| all[*at] > 0.0 && -all[*at].log2() <= bound).collect();
        let mut kept = kept.to_vec();
        kept.sort_unstable();
        assert!(within == kept || within.is_empty() && kept == [4], "a bound of {bound} bits leaves {within:?}");
        let expected = only(&kept, &all);
        check_distribution(
            &Sampling { mirostat: Some(Mirostat { tau, eta: 0.0 }), ..sampling() },
            &logits(),
            &expected,
        );
    }
}

#[test]
fn mirostat_goes_on_from_its_state() {
    let settings = Sampling { mirostat: Some(Mirostat { tau: 1.2, eta: 0.3 }), ..sampling() };
    let mut whole = Sampler::new(settings.clone()).unwrap();
    let draw = |sampler: &mut Sampler, position| sampler.sample(&mut logits(), position, None).unwrap().token;
    for position in 0..50 {
        draw(&mut whole, position);
    }
    let mut resumed = Sampler::new(settings).unwrap();
    resumed.restore(whole.state().unwrap());
    for position in 50..200 {
        assert_eq!(draw(&mut resumed, position), draw(&mut whole, position));
    }
    assert_eq!(Sampler::new(sampling()).unwrap().state(), None);
}

fn dry(tokens: &[u32], allowed_length: u32) -> Dry {
    let settings = DrySettings { multiplier: 0.8, base: 1.75, allowed_length, breakers: Vec::new() };
    let mut dry = Dry::new(settings);
    tokens.iter().for_each(|token| dry.observe(*token));
    dry
}

#[test]
fn dry_finds_what_goes_on_with_a_repetition() {
    assert_eq!(dry(&[1, 2, 3, 9, 1, 2, 3], 2).repetitions(), [(9, 3)]);
    assert_eq!(dry(&[1, 2, 3, 9, 1, 2, 3], 4).repetitions(), []);
    assert_eq!(dry(&[5, 2, 7, 1, 2, 8, 1, 2], 1).repetitions(), [(7, 1), (8, 2)]);
    assert_eq!(dry(&[4, 4, 4], 1).repetitions(), [(4, 2)]);
    assert_eq!(dry(&[], 1).repetitions(), []);
    let mut logits = [1.0_f32; 10];
    dry(&[1, 2, 3, 9, 1, 2, 3], 2).apply(&mut logits);
    assert_eq!(logits[9], 1.0 - 0.8 * 1.75);
    assert!(logits[..9].iter().all(|logit| *logit == 1.0));
    // Against the definition, on texts that repeat a lot.
    for seed in 0..60 {
        let text: Vec<u32> = (0..40).map(|at| (random::uniform(seed, 0, at, false)[0] * 3.0) as u32).collect();
        let mut expected: Vec<(u32, u32)> = (0..3).filter_map(|token| longest(&text, token)).collect();
        expected.retain(|(_, length)| *length >= 2);
        assert_eq!(dry(&text, 2).repetitions(), expected, "{text:?}");
    }
}

/// The longest end of a text that stands before this token somewhere in it, by trying all.
fn longest(text: &[u32], token: u32) -> Option<(u32, u32)> {
    let ends = (0..text.len()).filter(|at| text[*at] == token);
    let common = |at: usize| text[..at].iter().rev().zip(text.iter().rev()).take_while(|(a, b)| a == b).count() as u32;
    ends.map(common).max().map(|length| (token, length))
}

#[test]
fn nothing_is_repeated_past_a_breaker() {
    let folder = crate::random::Recipe::tiny("qwen3", 7).temporary().unwrap();
    let tokenizer = Tokenizer::open(folder.path()).unwrap();
    let settings = DrySettings { multiplier: 1.0, base: 1.0, allowed_length: 2, breakers: vec!["\n".to_string()] };
    let found = |text: &str| {
        let mut dry = Dry::new(settings.clone()).reading(&tokenizer);
        text.bytes().for_each(|byte| dry.observe(u32::from(byte)));
        dry.repetitions()
    };
    assert_eq!(found("abcXabc"), [(u32::from(b'X'), 3)]);
    assert_eq!(found("a\nbcXa\nbc"), [(u32::from(b'X'), 2)]);
    assert_eq!(found("ab\ncXab\nc"), []);
}

#[test]
fn new_settings_without_meaning_are_refused_by_name() {
    let refused = |settings: Sampling| Sampler::new(settings).err().expect("it is refused").to_string();
    assert!(refused(Sampling { typical_p: 0.0, ..sampling() }).contains("typical_p"));
    assert!(refused(Sampling { xtc_probability: 1.1, ..sampling() }).contains("xtc_probability"));
    assert!(refused(Sampling { xtc_threshold: f32::NAN, ..sampling() }).contains("xtc_threshold"));
    let dry = DrySettings { multiplier: 1.0, base: 0.5, allowed_length: 2, breakers: Vec::new() };
    assert!(refused(Sampling { dry: Some(dry), ..sampling() }).contains("dry_base"));
    let mirostat = Some(Mirostat { tau: f32::INFINITY, eta: 0.1 });
    assert!(refused(Sampling { mirostat, ..sampling() }).contains("mirostat_tau"));
}
