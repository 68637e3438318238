//! Follows long work with a progress bar; `pull`, `models import` and `load` share it.

use futures::StreamExt;
use indicatif::{ProgressBar, ProgressStyle};
use protocol::client::Client;
use protocol::transcript::{Event, Progress, Stage, TranscriptId, Unit};
use protocol::{Error, ErrorKind, Result};

use crate::output::Output;

/// Reads the transcript to its end; Ctrl-C cancels the work.
pub async fn follow(client: &Client, output: Output, id: TranscriptId) -> Result<()> {
    let bar = if output.json { ProgressBar::hidden() } else { ProgressBar::no_length() };
    let mut events = client.events(id);
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            _ = tokio::signal::ctrl_c() => {
                bar.abandon();
                return Err(Error::new(ErrorKind::Cancelled, "The work was cancelled."));
            }
        };
        match event {
            Some(Ok(Event::Progress(progress))) => show(&bar, &progress),
            Some(Ok(Event::Finished(_))) => {
                bar.finish_and_clear();
                return Ok(());
            }
            Some(Ok(Event::Failed(error)) | Err(error)) => {
                bar.abandon();
                return Err(error);
            }
            Some(Ok(_)) => {}
            None => return Err(Error::internal("The work ended without saying how.")),
        }
    }
}

fn show(bar: &ProgressBar, progress: &Progress) {
    let template = match (progress.unit, progress.total) {
        (Unit::Bytes, Some(_)) => {
            "{prefix:>11} {bar:24} {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec} {msg}"
        }
        (Unit::Bytes, None) => "{prefix:>11} {decimal_bytes} {msg}",
        (_, Some(_)) => "{prefix:>11} {bar:24} {pos}/{len} {msg}",
        (_, None) => "{prefix:>11} {pos} {msg}",
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    if let Some(total) = progress.total {
        bar.set_length(total);
    }
    bar.set_prefix(match progress.stage {
        Stage::Queued => "queued",
        Stage::Downloading => "downloading",
        Stage::Verifying => "verifying",
        Stage::Loading => "loading",
        Stage::Prefilling => "reading",
        Stage::Importing => "importing",
    });
    bar.set_message(progress.subject.clone());
    bar.set_position(progress.done);
}
