//! The merges that a sentencepiece vocabulary means: it keeps a score for each token, and joins the pair of neighbours
//! whose token has the best one.

use std::collections::HashSet;

/// The most bytes of a token that is looked at for merges; real ones have a few dozen.
const TOKEN_BYTES_MAX: usize = 512;

/// Every way to make a token of two, best first; `joins` says whether a token may take part.
pub(super) fn of_scores<'a>(
    tokens: &[&'a str],
    scores: &[f64],
    joins: impl Fn(usize) -> bool,
) -> impl Iterator<Item = (&'a str, &'a str)> {
    let known: HashSet<&str> =
        tokens.iter().enumerate().filter(|(id, _)| joins(*id)).map(|(_, token)| *token).collect();
    let mut merges = Vec::new();
    for (id, token) in tokens.iter().enumerate().filter(|(id, token)| joins(*id) && token.len() <= TOKEN_BYTES_MAX) {
        for (at, _) in token.char_indices().skip(1) {
            let (left, right) = token.split_at(at);
            if known.contains(left) && known.contains(right) {
                merges.push((scores[id], id, left, right));
            }
        }
    }
    // Of two tokens with one score, the one that was learned first.
    merges.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    merges.into_iter().map(|(_, _, left, right)| (left, right))
}

/// The tokens that stand for themselves: sentencepiece gives symbols of a user no score, and converters call them ordinary
/// tokens. No two tokens make one, so they are looked for before anything else, as sentencepiece does.
pub(super) fn symbols(tokens: &[&str], scores: &[f64], ordinary: impl Fn(usize) -> bool) -> Vec<usize> {
    let known: HashSet<&str> = tokens.iter().copied().collect();
    let made = |token: &str| {
        token.char_indices().skip(1).any(|(at, _)| known.contains(&token[..at]) && known.contains(&token[at..]))
    };
    let symbol = |id: usize| {
        let token = tokens[id];
        let long = token.chars().nth(1).is_some() && token.len() <= TOKEN_BYTES_MAX;
        ordinary(id) && scores[id] == 0.0 && long && !token.contains('▁') && !made(token)
    };
    (0..tokens.len()).filter(|id| symbol(*id)).collect()
}
