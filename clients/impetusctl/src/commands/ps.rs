//! `impetusctl ps`: lists the models in memory.

use protocol::Result;
use protocol::model::{ModelCard, ModelState};

use crate::daemon::Daemon;
use crate::output::{Output, bytes, duration, table};

/// Runs the command.
pub async fn run(daemon: &Daemon, output: Output) -> Result<()> {
    let mut cards = daemon.start().await?.models().await?;
    cards.retain(|card| !matches!(card.state, ModelState::Available | ModelState::Failed(_)));
    let rows: Vec<_> = cards.iter().map(row).collect();
    let header = ["NAME", "PID", "MEMORY", "DEVICE", "RUNNING", "WAITING", "KV BLOCKS", "UNTIL"];
    output.result(&cards, table(header, &rows))
}

fn row(card: &ModelCard) -> [String; 8] {
    let ModelState::Loaded(residence) = &card.state else {
        let state = if card.state == ModelState::Loading { "loading" } else { "unloading" };
        return [card.name.clone(), state.into(), "".into(), "".into(), "".into(), "".into(), "".into(), "".into()];
    };
    [
        card.name.clone(),
        residence.pid.to_string(),
        bytes(residence.memory_bytes),
        residence.device.clone(),
        residence.running.to_string(),
        residence.waiting.to_string(),
        format!("{}/{}", residence.blocks_used, residence.blocks_total),
        residence.expires_in_ms.map_or_else(|| "stays".to_owned(), |ms| format!("in {}", duration(ms))),
    ]
}
