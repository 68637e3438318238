//! Narrows a vocabulary to the tokens that may be drawn, and draws one.
//!
//! A vocabulary has up to 260,000 entries and a draw looks at few of them, so tokens are never all sorted: whole
//! passes only compare and sum, and sorting takes the best few at a time until the filters are satisfied. Equal logits
//! are ordered by token id. The sampler calls it.

use std::cmp::Ordering;

use super::Sampling;
use super::filters::{self, Weighted};
use crate::native::exponential::exp;

/// A token that may be drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// The token.
    pub token: u32,
    /// Its logit.
    pub logit: f32,
}

impl Candidate {
    /// Best first: the greater logit, then the lower id.
    fn order(&self, other: &Self) -> Ordering {
        other.logit.partial_cmp(&self.logit).unwrap_or(Ordering::Equal).then(self.token.cmp(&other.token))
    }
}

/// How many logits are looked at together: a pass without a branch inside is vectorised.
const RUN: usize = 64;

/// How many sums of a pass do not wait for each other.
const LANES: usize = 16;

/// How many weights have a sum of their own, so that a draw need not add up all before it.
const SUMMED: usize = 1024;

/// Whether some logit of a run is wanted.
fn any(run: &[f32], wanted: impl Fn(f32) -> bool) -> bool {
    run.iter().fold(false, |any, &logit| any | wanted(logit))
}

/// The greatest logit above minus infinity.
pub fn greatest(logits: &[f32]) -> Option<f32> {
    let more = |most: f32, logit: f32| if logit > most { logit } else { most };
    let (runs, rest) = logits.as_chunks::<RUN>();
    let mut lanes = [f32::NEG_INFINITY; RUN];
    for run in runs {
        lanes.iter_mut().zip(run).for_each(|(most, &logit)| *most = more(*most, logit));
    }
    let greatest = lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |most, &logit| more(most, logit));
    (greatest > f32::NEG_INFINITY).then_some(greatest)
}

/// The first token of this logit.
pub fn first(logits: &[f32], wanted: f32) -> Option<usize> {
    let start = RUN * logits.chunks(RUN).position(|run| any(run, |logit| logit == wanted))?;
    logits[start..].iter().position(|&logit| logit == wanted).map(|index| start + index)
}

/// The sum of what logits weigh, in an order that no machine changes.
pub fn total(logits: &[f32], weight: impl Fn(f32) -> f32) -> f64 {
    let (chunks, rest) = logits.as_chunks::<LANES>();
    let mut lanes = [0.0; LANES];
    for chunk in chunks {
        let weights = chunk.map(&weight);
        lanes.iter_mut().zip(weights).for_each(|(sum, weight)| *sum += f64::from(weight));
    }
    lanes.iter().sum::<f64>() + rest.iter().map(|&logit| f64::from(weight(logit))).sum::<f64>()
}

/// The `count` best tokens, best first.
pub fn best(logits: &[f32], count: usize) -> Vec<Candidate> {
    let count = count.min(logits.len());
    let mut kept = Vec::with_capacity(2 * count + 1);
    let mut least = f32::NEG_INFINITY;
    for (index, run) in logits.chunks(RUN).enumerate() {
        // Tokens come in ascending order, so one that only equals the least kept is ordered after it.
        if !any(run, |logit| logit > least) {
            continue;
        }
        for (token, &logit) in (index * RUN..).zip(run).filter(|&(_, &logit)| logit > least) {
            kept.push(Candidate { token: token as u32, logit });
        }
        if kept.len() > 2 * count {
            least = keep_best(&mut kept, count);
        }
    }
    keep_best(&mut kept, count);
    kept.sort_unstable_by(Candidate::order);
    kept
}

/// Drops all but the `count` best, unordered; returns the least logit kept.
fn keep_best(candidates: &mut Vec<Candidate>, count: usize) -> f32 {
    if candidates.len() > count {
        if count > 0 {
            candidates.select_nth_unstable_by(count - 1, Candidate::order);
        }
        candidates.truncate(count);
    }
    candidates.iter().fold(f32::INFINITY, |least, it| least.min(it.logit))
}

/// Draws a token: the first of the random numbers in [0, 1) says where in the distribution that the settings leave, the
/// second whether XTC leaves something out.
pub fn draw(logits: &[f32], settings: &Sampling, [random, chance]: [f64; 2]) -> Option<u32> {
    let greatest = greatest(logits)?;
    let scale = Scale { greatest, temperature: settings.temperature };
    let kept = if settings.top_k > 0 && (settings.top_k as usize) < logits.len() {
        let mut kept = best(logits, settings.top_k as usize);
        kept.retain(|it| it.logit > f32::NEG_INFINITY);
        let total: f64 = kept.iter().map(|it| scale.weight(it.logit)).sum();
        kept.truncate(nucleus(&kept, settings.top_p, total, &scale));
        kept
    } else if settings.top_p < 1.0 {
        likeliest(logits, settings.top_p, &scale)
    } else if settings.typical_p < 1.0 || settings.xtc_probability > 0.0 {
        all(logits).collect()
    } else {
        return draw_from_all(logits, settings.min_p, &scale, random);
    };
    let weights = kept.iter().map(|it| (it.token, scale.weight(it.logit)));
    let mut weights: Vec<Weighted> = weights.filter(|&(_, weight)| weight >= f64::from(settings.min_p)).collect();
    if settings.typical_p < 1.0 {
        filters::typical(&mut weights, f64::from(settings.typical_p));
    }
    if chance < f64::from(settings.xtc_probability) {
        filters::without_top(&mut weights, f64::from(settings.xtc_threshold), &settings.xtc_keep);
    }
    let total: f64 = weights.iter().map(|&(_, weight)| weight).sum();
    pick(weights.into_iter(), random * total)
}

/// Draws a token of at most so much surprise in bits, if there is any; returns it and how surprising it was.
pub fn draw_unsurprising(logits: &[f32], temperature: f32, most: f64, random: f64) -> Option<(u32, f64)> {
    let scale = Scale { greatest: greatest(logits)?, temperature };
    let weights: Vec<Weighted> = all(logits).map(|it| (it.token, scale.weight(it.logit))).collect();
    filters::unsurprising(&weights, most, random)
}

/// Every token that may be drawn at all.
fn all(logits: &[f32]) -> impl Iterator<Item = Candidate> {
    let candidates = logits.iter().enumerate().map(|(token, &logit)| Candidate { token: token as u32, logit });
    candidates.filter(|it| it.logit > f32::NEG_INFINITY)
}

/// What makes a logit a weight: the likeliest token weighs 1.
struct Scale {
    greatest: f32,
    temperature: f32,
}

impl Scale {
    fn weight(&self, logit: f32) -> f64 {
        f64::from(exp(self.exponent(logit)))
    }

    fn exponent(&self, logit: f32) -> f32 {
        (logit - self.greatest) / self.temperature
    }
}

/// How many of the ordered candidates reach the share together, at least one.
fn nucleus(ordered: &[Candidate], share: f32, total: f64, scale: &Scale) -> usize {
    if share >= 1.0 {
        return ordered.len();
    }
    let mut reached = 0.0;
    let enough = ordered.iter().position(|it| {
        reached += scale.weight(it.logit);
        reached >= f64::from(share) * total
    });
    enough.map_or(ordered.len(), |index| index + 1)
}

/// The fewest tokens that reach the share of all probability together, best first.
fn likeliest(logits: &[f32], share: f32, scale: &Scale) -> Vec<Candidate> {
    let total = total(logits, |logit| exp(scale.exponent(logit)));
    // Tokens lighter than this weigh less than the share left over, all of them together, so none is needed.
    let least = (1.0 - f64::from(share)) * total / logits.len() as f64;
    let exponent_least = least.ln() as f32 - 1e-3;
    let heavy = |logit| scale.exponent(logit) >= exponent_least;
    let mut rest = Vec::new();
    for (index, run) in logits.chunks(RUN).enumerate().filter(|(_, run)| any(run, heavy)) {
        let tokens = (index * RUN..).zip(run).filter(|&(_, &logit)| heavy(logit));
        rest.extend(tokens.map(|(token, &logit)| Candidate { token: token as u32, logit }));
    }
    let (mut ordered, mut portion) = (0, 64);
    while ordered < rest.len() {
        let unordered = &mut rest[ordered..];
        let portion_now = portion.min(unordered.len());
        if portion_now < unordered.len() {
            unordered.select_nth_unstable_by(portion_now, Candidate::order);
        }
        unordered[..portion_now].sort_unstable_by(Candidate::order);
        ordered += portion_now;
        let enough = nucleus(&rest[..ordered], share, total, scale);
        if enough < ordered {
            rest.truncate(enough);
            break;
        }
        portion *= 4;
    }
    rest
}

/// Draws where no filter needs an order.
fn draw_from_all(logits: &[f32], min_p: f32, scale: &Scale, random: f64) -> Option<u32> {
    let weigh = |logit: f32| {
        let weight = exp(scale.exponent(logit));
        if weight >= min_p { weight } else { 0.0 }
    };
    // First in which run the point lies, and then where in it.
    let sums: Vec<f64> = logits.chunks(SUMMED).map(|run| total(run, weigh)).collect();
    let point = random * sums.iter().sum::<f64>();
    let run = pick((0..).zip(sums.iter().copied()), point)?;
    let before: f64 = sums[..run as usize].iter().sum();
    let start = run as usize * SUMMED;
    let weights = (start as u32..).zip(&logits[start..]).take(SUMMED);
    pick(weights.map(|(token, &logit)| (token, f64::from(weigh(logit)))), point - before)
}

/// The token in whose share of the total the point lies.
pub fn pick(weights: impl Iterator<Item = (u32, f64)>, point: f64) -> Option<u32> {
    let mut passed = 0.0;
    let mut last = None;
    for (token, weight) in weights.filter(|&(_, weight)| weight > 0.0) {
        passed += weight;
        last = Some(token);
        if passed > point {
            break;
        }
    }
    last
}
