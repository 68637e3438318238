//! `impetusctl models`: lists models, or adds one from a folder.

use protocol::model::{AddRequest, ModelCard, ModelState, Source};
use protocol::{Error, ErrorKind, Result};

use crate::cli::{Models, ModelsCommand};
use crate::daemon::Daemon;
use crate::output::{Output, bytes, table};

/// Runs the command.
pub async fn run(daemon: &Daemon, output: Output, models: Models) -> Result<()> {
    let client = daemon.start().await?;
    match models.command {
        None => {
            let cards = client.models().await?;
            output.result(&cards, list(&cards))
        }
        Some(ModelsCommand::Add { path, name }) => {
            let found = std::fs::canonicalize(&path).map_err(|error| {
                Error::new(ErrorKind::NotFound, format!("The folder {} cannot be read: {error}.", path.display()))
            })?;
            let path = found.into_os_string().into_string().map_err(|path| {
                Error::invalid("path", format!("The path {} is not UTF-8 text.", path.to_string_lossy()))
            })?;
            let card = client.add(AddRequest { path, name }).await?;
            output.result(&card, format_args!("{} is ready: impetusctl run --model {} PROMPT", card.name, card.name))
        }
    }
}

fn list(cards: &[ModelCard]) -> String {
    let row = |card: &ModelCard| {
        [
            card.name.clone(),
            card.facts.architecture.clone(),
            format!("{:.1}M", card.facts.parameters as f64 / 1e6),
            card.facts.weights.clone(),
            bytes(card.facts.weights_bytes),
            card.facts.context_length.to_string(),
            state(&card.state).to_owned(),
            match &card.source {
                Source::Bundled => "bundled".to_owned(),
                Source::Local => "local".to_owned(),
                Source::Hub { repo, .. } => repo.clone(),
            },
        ]
    };
    let rows: Vec<_> = cards.iter().map(row).collect();
    table(["NAME", "KIND", "PARAMETERS", "WEIGHTS", "SIZE", "CONTEXT", "STATE", "SOURCE"], &rows)
}

fn state(state: &ModelState) -> &'static str {
    match state {
        ModelState::Available => "available",
        ModelState::Loading => "loading",
        ModelState::Loaded(_) => "loaded",
        ModelState::Unloading => "unloading",
        ModelState::Failed(_) => "failed",
    }
}
