//! `impetusctl bench`: how fast a model is through the daemon, beside what this machine's memory allows.
//!
//! Everything is timed at this end of the socket, as a client sees it. `measure` asks and times, `bandwidth` finds the
//! roofline, `report` holds the figures, `baseline` compares them with those of another day.

mod bandwidth;
mod baseline;
mod measure;
mod report;

use protocol::client::Client;
use protocol::model::{Capabilities, LoadRequest, ModelCard, ModelState};
use protocol::status::Status;
use protocol::{Error, ErrorKind, Result};

use super::work;
use crate::cli::Bench;
use crate::daemon::Daemon;
use crate::output::Output;
use measure::{Bencher, SHORT};
use report::{Measure, Report, Settings};

/// Runs the command.
pub async fn run(daemon: &Daemon, output: Output, bench: Bench) -> Result<()> {
    // A baseline that cannot be read should fail now, not after a minute of work.
    let baseline = bench.baseline.as_deref().map(baseline::read).transpose()?;
    let client = daemon.start().await?;
    let status = client.status().await?;
    let model = match &bench.model {
        Some(model) => model.clone(),
        None => measure::default_model(&client).await?,
    };
    let settings = Settings { runs: bench.runs, prompt: bench.prompt, tokens: bench.tokens, streams: bench.streams };
    if let Some((path, before)) = &baseline {
        before.check(path, &model, &settings)?;
    }
    let read = bandwidth::measure(status.memory.available_bytes)?;
    let card = load(&client, output, &model).await?;
    let report = measured(&client, &status, card, settings, read).await?;
    if let Some(path) = &bench.save {
        report.save(path)?;
    }
    match baseline {
        None => output.result(&report, report.table()),
        Some((_, before)) => {
            let comparison = before.compare(&report, bench.regression);
            output
                .result(&comparison.document(&report)?, format_args!("{}\n\n{}", report.table(), comparison.table()))?;
            comparison.verdict()
        }
    }
}

/// Brings the model into memory and returns what is known of it then.
async fn load(client: &Client, output: Output, model: &str) -> Result<ModelCard> {
    let id = client.load(LoadRequest { model: model.to_owned(), pin: None, keep_alive_ms: None }).await?;
    work::follow(client, output, id).await?;
    client.models().await?.into_iter().find(|card| card.name == model).ok_or_else(|| {
        Error::new(ErrorKind::ModelNotFound, format!("The model {model:?} was removed while it was measured."))
    })
}

async fn measured(client: &Client, status: &Status, card: ModelCard, settings: Settings, read: f64) -> Result<Report> {
    let ModelState::Loaded(residence) = &card.state else {
        return Err(Error::new(ErrorKind::ModelNotLoaded, format!("The model {:?} left memory again.", card.name)));
    };
    let bencher = Bencher::new(client, &card, &settings);
    let measures = match card.facts.capabilities {
        Capabilities { rerank: true, .. } => {
            let message = format!("{} scores documents; models that generate or embed are measured.", card.name);
            return Err(Error::new(ErrorKind::Unsupported, message).param("model"));
        }
        Capabilities { embed: true, .. } => {
            bencher.embeds(1, SHORT).await?;
            vec![
                Measure::lower("latency", "ms", bencher.latencies().await?),
                Measure::higher("embed", "tok/s", bencher.embeds(1, settings.prompt).await?),
                Measure::higher("embed_batch", "tok/s", bencher.embeds(settings.streams, settings.tokens).await?),
            ]
        }
        _ => {
            bencher.warm_up().await?;
            // A token that is decoded alone reads its weights once; a daemon that does not say how many gets no roofline.
            // Prompts and batches have none here: what bounds them is arithmetic, whose peak only the kernels' own
            // instructions reach, and no client links those.
            let step_bytes = Some(card.facts.step_bytes).filter(|bytes| *bytes > 0);
            let roofline = step_bytes.map(|bytes| read / bytes as f64);
            vec![
                Measure::lower("ttft", "ms", bencher.first_tokens().await?),
                Measure::higher("prefill", "tok/s", bencher.prefills().await?),
                Measure::higher("decode", "tok/s", bencher.decodes().await?).against(roofline),
                Measure::higher("batch", "tok/s", bencher.batches().await?),
            ]
        }
    };
    Ok(Report {
        version: status.version.clone(),
        commit: status.commit.clone(),
        cpu: status.machine.cpu.clone(),
        device: residence.device.clone(),
        weights: card.facts.weights.clone(),
        model: card.name,
        settings,
        memory_read_bytes_per_s: read,
        measures,
    })
}
