//! Samples of one figure, and the line they become.

use std::time::Duration;

/// The head of a table of such rows.
pub const HEAD: &str = "| measure | median | p99 or worst | runs |
|---|---|---|---|";

/// Prints one row: the median and the 99th percentile (the worst, below a hundred samples).
pub fn row(measure: &str, unit: &str, mut samples: Vec<f64>) {
    samples.sort_by(f64::total_cmp);
    let last = samples.len() - 1;
    let median = samples[samples.len() / 2];
    let high = samples[(samples.len() * 99 / 100).min(last)];
    println!("| {measure} | {median:.2} {unit} | {high:.2} {unit} | {} |", samples.len());
}

/// Returns milliseconds.
pub fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Returns microseconds.
pub fn us(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}
