//! Many streams at once while their worker is killed again and again; each must equal its undisturbed twin.
//!
//! `make test` runs a small one and `make soak` a long one. It reports what it saw and asserts nothing itself.

use std::cell::Cell;
use std::time::Duration;

use futures::future::join_all;
use protocol::client::Client;
use protocol::generation::GenerateRequest;
use protocol::model::ModelState;

use crate::answer::{Answer, ask};
use crate::house::raw;
use crate::process;

/// How hard it blows.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Streams at once.
    pub streams: usize,
    /// Tokens of each.
    pub tokens: u32,
    /// Kills in all.
    pub kills: usize,
    /// The longest wait before a kill.
    pub wait_max: Duration,
    /// Where the random waits begin.
    pub seed: u64,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Kills that struck a worker.
    pub kills: usize,
    /// Streams that were read to their end.
    pub streams: usize,
    /// What differed from the undisturbed answers, or failed.
    pub differences: Vec<String>,
}

/// Configuration under which nothing gives up: a storm kills far more often than any defect would.
pub const CONFIG: &str =
    "[worker]\nrestarts_max = 100000\nresubmits_max = 100000\nbackoff = \"1ms\"\nbackoff_max = \"20ms\"\n";

/// Blows over a model that is registered as `model`, in as many rounds as the kills take.
pub async fn blow(client: &Client, model: &str, plan: Plan) -> Report {
    let undisturbed = answers(client, model, plan).await;
    let mut report = Report::default();
    let kills = Cell::new(0);
    let mut seed = plan.seed;
    while kills.get() < plan.kills {
        let disturbed = tokio::select! {
            disturbed = answers(client, model, plan) => disturbed,
            () = kill(client, model, plan, &mut seed, &kills) => unreachable!("killing has no end of its own"),
        };
        for (index, (before, after)) in undisturbed.iter().zip(&disturbed).enumerate() {
            report.streams += 1;
            match (before, after) {
                (Ok(before), Ok(after)) if before.texts == after.texts && before.reasons == after.reasons => {}
                (before, after) => report.differences.push(format!("stream {index}: {before:?} became {after:?}")),
            }
        }
    }
    Report { kills: kills.get(), ..report }
}

/// Kills each worker of the model some random time after it is loaded, until there were enough.
async fn kill(client: &Client, model: &str, plan: Plan, seed: &mut u64, kills: &Cell<usize>) {
    let mut last = 0;
    while kills.get() < plan.kills {
        let pid = worker(client, model, last).await;
        // xorshift64: the storm is the same each time, as far as the machine lets it.
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        let wait = Duration::from_micros(*seed % plan.wait_max.as_micros().max(1) as u64);
        tokio::time::sleep(wait).await;
        process::kill(pid);
        last = pid;
        kills.set(kills.get() + 1);
    }
    std::future::pending().await
}

/// Waits for a worker of the model that is not `last`.
async fn worker(client: &Client, model: &str, last: u32) -> u32 {
    loop {
        let cards = client.models().await.expect("the daemon answers");
        match cards.into_iter().find(|card| card.name == model).map(|card| card.state) {
            Some(ModelState::Loaded(residence)) if residence.pid != last => return residence.pid,
            _ => tokio::time::sleep(Duration::from_millis(2)).await,
        }
    }
}

async fn answers(client: &Client, model: &str, plan: Plan) -> Vec<protocol::Result<Answer>> {
    let asked = |index: usize| -> GenerateRequest {
        let words = "all that was said of it before ".repeat(index % 7 + 1);
        let mut request = raw(Some(model), &format!("{index}: {words}"), plan.tokens + index as u32 % 16);
        request.sampling.temperature = Some((index % 3) as f32 * 0.5);
        request.sampling.seed = Some(index as u64);
        request.deadline_ms = Some(600_000);
        request
    };
    join_all((0..plan.streams).map(|index| ask(client, asked(index)))).await
}
