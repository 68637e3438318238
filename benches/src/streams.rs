//! Many readers of one model: a hundred streams at once, over the socket.

use std::time::Instant;

use futures::future::join_all;
use tests::answer::ask;
use tests::house::{House, raw};

use crate::sample::row;

/// Streams at once.
const STREAMS: usize = 100;

/// Tokens of one stream.
const TOKENS: u32 = 64;

/// Runs the measures.
pub async fn run() {
    let house = House::start();
    let client = house.client().await;
    ask(&client, raw(None, "warm", 4)).await.unwrap();
    let (mut rates, mut errors) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        let start = Instant::now();
        let streams = (0..STREAMS).map(|index| ask(&client, raw(None, &format!("Stream {index} says"), TOKENS)));
        let answers = join_all(streams).await;
        let tokens: u32 = answers.iter().flatten().map(|answer| answer.finished.usage.completion_tokens).sum();
        rates.push(f64::from(tokens) / start.elapsed().as_secs_f64());
        errors.push(answers.iter().filter(|answer| answer.is_err()).count() as f64);
    }
    row("100 streams of 64 tokens, together", "tok/s", rates);
    row("errors among 100 streams", "", errors);
}
