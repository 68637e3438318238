//! The work on one batch: its requests are asked, some at a time, and what they come to is written as they come.
//!
//! What is written is the truth: whoever begins the work anew, after an interruption of whatever kind, reads which requests
//! have their lines and asks the others. Every write of the batch is over the version that was read, so that two bridges
//! never work on one for long, and a wish to give it up is never lost.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use protocol::client::Client;
use protocol::{Error, ErrorKind, Result};
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::ask::{Outcome, ask, expired};
use super::lines::{self, Line};
use super::object::{Fault, Kept, Status};
use super::written::Written;
use crate::app::Bridge;
use crate::openai::files::kept::File;
use crate::time::now_s;

/// How many requests of one batch are asked at once.
const AT_ONCE: usize = 16;

/// How often what came is written: what is lost with a bridge is asked again, so this bounds work done twice.
const WRITE_EVERY: Duration = Duration::from_secs(5);

/// A batch at work.
pub struct Work {
    bridge: Arc<Bridge>,
    client: Client,
    kept: Kept,
    version: u64,
}

/// What ended the asking.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Whole,
    Late,
    Unwanted,
}

impl Work {
    /// Takes a batch for this bridge; `None` if it has ended, or another bridge that lives works on it.
    pub async fn take(bridge: &Arc<Bridge>, id: &str) -> Result<Option<Self>> {
        let own = bridge.daemon.own().await?;
        let (_, Kept { key, .. }) = Kept::find(&own, id).await?;
        let client = match &key {
            Some(key) => bridge.daemon.of(key).await?,
            None => own.clone(),
        };
        let (card, mut kept) = Kept::find(&client, id).await?;
        let name = bridge.name();
        if let Some(other) = kept.bridge.as_ref().filter(|other| **other != name) {
            let bridges = own.status().await?.bridges;
            if bridges.iter().any(|bridge| crate::app::bridge_name(&bridge.url, bridge.pid) == *other) {
                return Ok(None);
            }
        }
        if kept.batch.status.ended() {
            return Ok(None);
        }
        kept.bridge = Some(name);
        let mut work = Self { bridge: bridge.clone(), client, kept, version: card.version };
        work.save().await?;
        Ok(Some(work))
    }

    /// Works until the batch has ended; a change from outside is a conflict, after which it must be taken again.
    pub async fn run(mut self, changed: &Notify) -> Result<()> {
        let (id, seconds) = (self.kept.output.clone(), self.kept.files_seconds);
        let mut done = HashSet::new();
        let mut answers = Written::open(&self.client, &id, seconds, |name| {
            done.insert(name);
        })
        .await?;
        let id = self.kept.faults.clone();
        let mut faults = Written::open(&self.client, &id, seconds, |name| {
            done.insert(name);
        })
        .await?;
        let mut rest = Vec::new();
        let mut end = End::Unwanted;
        if self.kept.batch.status != Status::Cancelling {
            rest = match self.input().await? {
                Ok(lines) => lines,
                Err(faults) => {
                    self.kept.fail(faults, now_s());
                    return self.save().await;
                }
            };
            self.begin(rest.len()).await?;
            rest.retain(|line| !done.contains(&line.custom_id));
            end = self.answer(&mut rest, &mut answers, &mut faults, changed).await?;
        }
        if end == End::Late {
            rest.iter().for_each(|line| faults.push(&expired(&line.custom_id)));
        }
        self.finish(end, &mut answers, &mut faults).await
    }

    /// Ends a batch that cannot go on. The bridge does so in its own name: the key may be what is gone.
    pub async fn fail(bridge: &Bridge, id: &str, error: &Error) -> Result<()> {
        let own = bridge.daemon.own().await?;
        let (card, mut kept) = Kept::find(&own, id).await?;
        if kept.batch.status.ended() {
            return Ok(());
        }
        let (code, message) = match error.kind {
            ErrorKind::AuthRequired => ("key_invalid", "The key of this batch was revoked or has expired.".to_owned()),
            _ => ("batch_failed", error.message.clone()),
        };
        kept.fail(vec![Fault { code: code.to_owned(), message, param: None, line: None }], now_s());
        kept.keep(&own, card.version).await.map(drop)
    }

    /// Reads the batch's file; the inner error is what is wrong with it.
    async fn input(&self) -> Result<std::result::Result<Vec<Line>, Vec<Fault>>> {
        let id = self.kept.batch.input_file_id.clone();
        let gone = |message: String| {
            let (code, param) = ("file_not_found".to_owned(), Some("input_file_id".to_owned()));
            Ok(Err(vec![Fault { code, message, param, line: None }]))
        };
        let file = match File::find(&self.client, &id).await {
            Ok(file) => file,
            Err(error) if error.kind == ErrorKind::NotFound => return gone(error.message),
            Err(error) => return Err(error),
        };
        let content = file.content(self.client.clone(), id);
        let text = content.try_fold(String::new(), |mut text, piece| async move {
            text.push_str(&String::from_utf8_lossy(&piece));
            Ok(text)
        });
        match text.await {
            Ok(text) => Ok(lines::read(&text, self.kept.batch.endpoint)),
            Err(error) if error.kind == ErrorKind::Internal => gone(error.message),
            Err(error) => Err(error),
        }
    }

    /// Notes that the requests are being answered.
    async fn begin(&mut self, total: usize) -> Result<()> {
        let batch = &mut self.kept.batch;
        batch.request_counts.total = total;
        if batch.status == Status::Validating {
            (batch.status, batch.in_progress_at) = (Status::InProgress, Some(now_s()));
        }
        self.save().await
    }

    /// Asks what is left and writes what comes; takes what has its line out of `rest`.
    async fn answer(
        &mut self,
        rest: &mut Vec<Line>,
        answers: &mut Written,
        faults: &mut Written,
        changed: &Notify,
    ) -> Result<End> {
        let (bridge, key, endpoint) = (self.bridge.clone(), self.kept.key.clone(), self.kept.batch.endpoint);
        let left = self.kept.batch.expires_at.saturating_sub(now_s());
        let expiry = Instant::now() + Duration::from_secs(left);
        let mut named = HashSet::new();
        let asked = rest.clone().into_iter().map(|line| {
            let (bridge, key, name) = (bridge.clone(), key.clone(), line.custom_id.clone());
            async move { (name, ask(bridge, endpoint, key, line, expiry).await) }
        });
        let mut outcomes = std::pin::pin!(stream::iter(asked).buffer_unordered(AT_ONCE));
        let mut pulse = interval(WRITE_EVERY);
        pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let end = loop {
            tokio::select! {
                outcome = outcomes.next() => match outcome {
                    None => break Ok(End::Whole),
                    Some((_, Err(error))) => break Err(error),
                    Some((name, Ok(Outcome::Answered(line)))) => { named.insert(name); answers.push(&line); }
                    Some((name, Ok(Outcome::Failed(line)))) => { named.insert(name); faults.push(&line); }
                },
                _ = pulse.tick() => self.write(answers, faults).await?,
                () = changed.notified() => break Err(Error::new(ErrorKind::Conflict, "the batch was changed")),
                () = sleep_until(expiry) => break Ok(End::Late),
            }
            if answers.is_full() || faults.is_full() {
                self.write(answers, faults).await?;
            }
        };
        if end.is_err() {
            // What came is not asked again. The batch itself is left as it was changed.
            answers.flush(&self.client).await?;
            faults.flush(&self.client).await?;
        }
        rest.retain(|line| !named.contains(&line.custom_id));
        end
    }

    /// Writes how far the batch is, and then what came: who has lost the batch to another bridge writes nothing more.
    async fn write(&mut self, answers: &mut Written, faults: &mut Written) -> Result<()> {
        self.count(answers, faults);
        self.save().await?;
        answers.flush(&self.client).await?;
        faults.flush(&self.client).await
    }

    fn count(&mut self, answers: &Written, faults: &Written) {
        let counts = &mut self.kept.batch.request_counts;
        (counts.completed, counts.failed) = (answers.lines(), faults.lines());
    }

    /// Gives the files their names and ends the batch.
    async fn finish(&mut self, end: End, answers: &mut Written, faults: &mut Written) -> Result<()> {
        if self.kept.batch.status != Status::Cancelling {
            (self.kept.batch.status, self.kept.batch.finalizing_at) = (Status::Finalizing, Some(now_s()));
        }
        self.write(answers, faults).await?;
        let now = now_s();
        let batch = &mut self.kept.batch;
        batch.output_file_id = answers.close(&self.client, format!("{}_output.jsonl", batch.id), now).await?;
        batch.error_file_id = faults.close(&self.client, format!("{}_error.jsonl", batch.id), now).await?;
        match end {
            End::Whole => (batch.status, batch.completed_at) = (Status::Completed, Some(now)),
            End::Late => (batch.status, batch.expired_at) = (Status::Expired, Some(now)),
            End::Unwanted => (batch.status, batch.cancelled_at) = (Status::Cancelled, Some(now)),
        }
        self.save().await
    }

    async fn save(&mut self) -> Result<()> {
        self.version = self.kept.keep(&self.client, self.version).await?;
        Ok(())
    }
}
