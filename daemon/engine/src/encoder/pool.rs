//! From the tokens of a text to what is asked of it: pooled rows, shortened unit vectors, scores as probabilities.
//!
//! Sums run over the tokens in order, so they depend on the text alone.

use crate::models::encoders::Pooling;

/// Pools the rows of one text, `[tokens, out.len()]`, into `out`.
pub(super) fn pool(pooling: Pooling, rows: &[f32], out: &mut [f32]) {
    let width = out.len();
    match pooling {
        Pooling::First => out.copy_from_slice(&rows[..width]),
        Pooling::Last => out.copy_from_slice(&rows[rows.len() - width..]),
        Pooling::Mean => {
            out.fill(0.0);
            for row in rows.chunks_exact(width) {
                out.iter_mut().zip(row).for_each(|(out, x)| *out += x);
            }
            let count = (rows.len() / width) as f32;
            out.iter_mut().for_each(|out| *out /= count);
        }
    }
}

/// The first `dimensions` numbers of a vector (all, if it has fewer), at length 1: what Matryoshka training is for. A vector
/// of zeros stays one.
pub fn shorten(vector: &[f32], dimensions: usize) -> Vec<f32> {
    let vector = &vector[..dimensions.min(vector.len())];
    let length = vector.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    let length = if length > 0.0 { length } else { 1.0 };
    vector.iter().map(|x| (f64::from(*x) / length) as f32).collect()
}

/// A score as a probability: the logistic function.
pub fn probability(score: f32) -> f32 {
    (1.0 / (1.0 + (-f64::from(score)).exp())) as f32
}
