//! Filters that look at a distribution as a whole: typical sampling, XTC and mirostat.
//!
//! Each works on weights that are in proportion to probabilities. Typical sampling keeps the tokens whose surprise is
//! nearest to the expected one (Meister and others, 2022). XTC now and then leaves out all likely tokens but the least
//! likely of them. Mirostat 2 holds the surprise of a text near a target (Basu and others, 2020). The sampler calls them.

use super::candidates::pick;

/// A token and its weight.
pub type Weighted = (u32, f64);

fn total(weights: &[Weighted]) -> f64 {
    weights.iter().map(|&(_, weight)| weight).sum()
}

/// Keeps the most typical tokens that reach the share together, at least one.
pub fn typical(weights: &mut Vec<Weighted>, share: f64) {
    let total = total(weights);
    let surprise = |weight: f64| -(weight / total).ln();
    weights.retain(|&(_, weight)| weight > 0.0);
    let expected: f64 = weights.iter().map(|&(_, weight)| weight / total * surprise(weight)).sum();
    let strange = |&(_, weight): &Weighted| (surprise(weight) - expected).abs();
    weights.sort_by(|a, b| strange(a).total_cmp(&strange(b)).then(a.0.cmp(&b.0)));
    let mut reached = 0.0;
    let enough = weights.iter().position(|&(_, weight)| {
        reached += weight;
        reached >= share * total
    });
    weights.truncate(enough.map_or(weights.len(), |index| index + 1));
}

/// Leaves out every token of at least the threshold's probability, except the least likely of them and those of `keep`.
pub fn without_top(weights: &mut Vec<Weighted>, threshold: f64, keep: &[u32]) {
    let least = threshold * total(weights);
    let top = weights.iter().filter(|&&(_, weight)| weight >= least && weight > 0.0);
    // Of equal ones the highest id stays.
    let stays = top.clone().min_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0))).map(|&(token, _)| token);
    if top.count() >= 2 {
        weights.retain(|&(token, weight)| weight < least || Some(token) == stays || keep.contains(&token));
    }
}

/// Draws among the tokens whose surprise in bits is at most `most`, or the likeliest if there is none; returns the token
/// and its surprise among those.
pub fn unsurprising(weights: &[Weighted], most: f64, random: f64) -> Option<(u32, f64)> {
    let all = total(weights);
    let mut kept: Vec<Weighted> =
        weights.iter().copied().filter(|&(_, weight)| weight > 0.0 && -(weight / all).log2() <= most).collect();
    if kept.is_empty() {
        let likeliest = weights.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)))?;
        kept.push(likeliest);
    }
    let left = total(&kept);
    let token = pick(kept.iter().copied(), random * left)?;
    let weight = kept.iter().find(|&&(kept, _)| kept == token)?.1;
    Some((token, -(weight / left).log2()))
}
