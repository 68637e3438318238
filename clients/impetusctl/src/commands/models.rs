//! `impetusctl models`: lists models, shows one, or adds one from a folder or a GGUF file.

use std::path::Path;

use protocol::model::{AddRequest, ImportRequest, ModelCard, ModelState, Source};
use protocol::{Error, ErrorKind, Result};
use serde_json::json;

use super::{ready, work};
use crate::cli::{Models, ModelsCommand};
use crate::daemon::Daemon;
use crate::output::{Output, bytes, table};

/// Runs the command.
pub async fn run(daemon: &Daemon, output: Output, models: Models) -> Result<()> {
    let client = daemon.start().await?;
    match models.command.unwrap_or(ModelsCommand::List) {
        ModelsCommand::List => {
            let cards = client.models().await?;
            output.result(&cards, list(&cards))
        }
        ModelsCommand::Show { model } => {
            let card = client.models().await?.into_iter().find(|card| card.name == model).ok_or_else(|| {
                Error::new(ErrorKind::ModelNotFound, format!("There is no model {model:?}."))
                    .hint("`impetusctl models` lists the names; `impetusctl pull ORG/NAME` fetches another model")
            })?;
            output.result(&card, describe(&card))
        }
        ModelsCommand::Add { path, name } => {
            let path = full(&path)?;
            let card = client.add(AddRequest { path, name }).await?;
            output.result(&card, ready::ask(&card.name, card.facts.capabilities))
        }
        ModelsCommand::Import { path, name } => {
            let path = full(&path)?;
            let stem = Path::new(&path).file_stem().map(|stem| stem.to_string_lossy().into_owned());
            let model = name.clone().or(stem).unwrap_or_default();
            let id = client.import(ImportRequest { path, name }).await?;
            work::follow(&client, output, id).await?;
            output.result(&json!({ "model": model }), ready::say(&client, &model).await?)
        }
    }
}

/// The path as the daemon needs it, which runs elsewhere.
fn full(path: &Path) -> Result<String> {
    let found = std::fs::canonicalize(path)
        .map_err(|error| Error::new(ErrorKind::NotFound, format!("{} cannot be read: {error}.", path.display())))?;
    let text = found.into_os_string().into_string();
    text.map_err(|path| Error::invalid("path", format!("The path {} is not UTF-8 text.", path.to_string_lossy())))
}

fn describe(card: &ModelCard) -> String {
    let facts = &card.facts;
    let can = [
        ("chat", facts.capabilities.chat),
        ("tools", facts.capabilities.tools),
        ("reasoning", facts.capabilities.reasoning),
        ("embed", facts.capabilities.embed),
        ("rerank", facts.capabilities.rerank),
    ];
    let can: Vec<_> = can.into_iter().filter_map(|(word, can)| can.then_some(word)).collect();
    let can = if can.is_empty() { "continue text".to_owned() } else { can.join(", ") };
    let state = match &card.state {
        ModelState::Loaded(residence) => {
            format!("loaded, pid {}, {}, {}", residence.pid, bytes(residence.memory_bytes), residence.device)
        }
        ModelState::Failed(error) => format!("failed: {}", error.message),
        other => state(other).to_owned(),
    };
    let vectors = facts.dimensions.map(|numbers| format!("\n  vectors     {numbers} numbers")).unwrap_or_default();
    format!(
        "{}
  kind        {}, {:.1}M parameters, {}
  size        {}
  context     {} tokens, {} of memory for each
  vocabulary  {} tokens{vectors}
  can         {can}
  state       {state}{}
  source      {}
  folder      {}",
        card.name,
        facts.architecture,
        facts.parameters as f64 / 1e6,
        facts.weights,
        bytes(facts.weights_bytes),
        facts.context_length,
        bytes(facts.kv_bytes_per_token),
        facts.vocabulary,
        if card.pinned { ", pinned" } else { "" },
        match &card.source {
            Source::Hub { repo, revision } => format!("{repo} at {revision}"),
            Source::Bundled => "bundled".to_owned(),
            Source::Local => "local".to_owned(),
        },
        card.path,
    )
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
