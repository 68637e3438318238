//! The merges that a sentencepiece vocabulary means: it keeps a score for each token, and joins the pair of neighbours
//! whose token has the best one.

use std::collections::HashMap;

/// The most bytes of a token that is looked at for merges; real ones have a few dozen.
const TOKEN_BYTES_MAX: usize = 512;

/// Every way to make a token of two, best first; `joins` says whether a token may take part.
pub(super) fn of_scores<'a>(
    tokens: &[&'a str],
    scores: &[f64],
    joins: impl Fn(usize) -> bool,
) -> impl Iterator<Item = (&'a str, &'a str)> {
    let mut ids = HashMap::new();
    for (id, token) in tokens.iter().enumerate().filter(|(id, _)| joins(*id)) {
        ids.entry(*token).or_insert(id);
    }
    let mut merges = Vec::new();
    for (id, token) in tokens.iter().enumerate().filter(|(id, token)| joins(*id) && token.len() <= TOKEN_BYTES_MAX) {
        for (at, _) in token.char_indices().skip(1) {
            let (left, right) = token.split_at(at);
            if ids.contains_key(left) && ids.contains_key(right) {
                merges.push((scores[id], id, left, right));
            }
        }
    }
    // Of two tokens with one score, the one that was learned first.
    merges.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    merges.into_iter().map(|(_, _, left, right)| (left, right))
}
