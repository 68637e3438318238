//! Responses that are made after their request was answered: at most so many at once, each with its events so far, so
//! that a stream that broke off can be taken up where it was.
//!
//! The daemon keeps the response itself, again and again while it is made. Work that ends with its bridge is seen by its
//! not being kept any more, and is then said to have failed. What another bridge makes is cancelled by what is kept of it, and
//! deleted by its being gone: whoever makes it looks, and writes over the version that it wrote last only.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use futures::{Stream, StreamExt, stream};
use protocol::client::Client;
use protocol::generation::GenerateRequest;
use protocol::key::KeyRole;
use protocol::transcript::Event;
use protocol::{Error, ErrorKind, Result};
use serde_json::{Value, json};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep};

use super::kept::{Keeping, Stored};
use super::named;
use super::request::Asked;
use super::writer::Builder;
use crate::access;
use crate::begin::{Begun, begin};
use crate::frames::Writer;
use crate::time::now_ms;

/// The most responses made at once in the background. A key holds no more of them than are free, as of the daemon's places.
const RUNNING_MAX: usize = 32;

/// For how long the events of one that has ended can be read again.
const READ_AGAIN: Duration = Duration::from_secs(300);

/// How often it is looked whether a response that is made is still wanted.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// A response is kept at every so many looks: it may be long.
const LOOKS_PER_KEEP: u32 = 5;

/// After how long without being kept a response is given up: its bridge has ended.
const LOST_AFTER_MS: i64 = 60_000;

/// How often a response is tried to be kept that somebody else keeps too.
const TRIES: usize = 3;

/// The events of a response so far; its clones are one.
#[derive(Clone)]
pub struct Log(Arc<watch::Sender<Events>>);

#[derive(Default)]
struct Events {
    frames: Vec<Bytes>,
    ended: Option<Instant>,
    /// The response as it ended, where that could not be kept.
    unkept: Option<Value>,
}

impl Log {
    fn new() -> Self {
        Self(Arc::new(watch::channel(Events::default()).0))
    }

    fn push(&self, frames: &[u8]) {
        let events = split(frames);
        self.0.send_modify(|log| log.frames.extend(events));
    }

    fn end(&self, unkept: Option<Value>) {
        self.0.send_modify(|log| (log.ended, log.unkept) = (Some(Instant::now()), unkept));
    }

    fn unkept(&self) -> Option<Value> {
        self.0.borrow().unkept.clone()
    }

    fn ended(&self) -> Option<Instant> {
        self.0.borrow().ended
    }

    async fn wait(&self) {
        // The sender lives in self.
        let _ = self.0.subscribe().wait_for(|log| log.ended.is_some()).await;
    }

    /// Returns the events from the one numbered `from` on, those that are there and those that come.
    pub fn frames(&self, from: u64) -> impl Stream<Item = Bytes> + Send + 'static + use<> {
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        stream::unfold((self.0.subscribe(), from), |(mut events, from)| async move {
            let page = {
                let log = events.wait_for(|log| log.frames.len() > from || log.ended.is_some()).await.ok()?;
                log.frames.get(from..).unwrap_or_default().to_vec()
            };
            let next = from.saturating_add(page.len());
            (!page.is_empty()).then(|| (Bytes::from(page.concat()), (events, next)))
        })
    }
}

/// Splits what a writer gives into events; comments are no part of what can be read again.
fn split(frames: &[u8]) -> Vec<Bytes> {
    let text = String::from_utf8_lossy(frames);
    let events = text.split_inclusive("\n\n").filter(|frame| frame.starts_with("event: "));
    events.map(|frame| Bytes::copy_from_slice(frame.as_bytes())).collect()
}

struct Running {
    log: Log,
    /// Dropped or used to end the work.
    end: Option<oneshot::Sender<()>>,
    /// The key that asked; `None` for administrators.
    holder: Option<String>,
}

/// The responses that this bridge makes in the background; clones are one.
#[derive(Clone, Default)]
pub struct Background(Arc<Mutex<HashMap<String, Running>>>);

impl Background {
    /// Starts to make a response; returns its id and its events.
    pub async fn start(&self, client: Client, asked: Asked) -> Result<(String, Log)> {
        let Asked { request, response, stored, .. } = asked;
        let stored = stored.ok_or_else(|| Error::internal("a response in the background is always kept"))?;
        let (id, log) = (response.id.clone(), Log::new());
        let (end, ended) = oneshot::channel();
        let place = self.enter(&id, Running { log: log.clone(), end: Some(end), holder: holder() })?;
        let version = stored.keep(&client, &response, None).await?;
        let work = Work { client, stored, version, looks: 0, log: log.clone() };
        let model = response.model.clone();
        tokio::spawn(async move {
            work.run(request, Builder::new(response, model, true), ended).await;
            place.linger().await;
        });
        Ok((id, log))
    }

    fn enter(&self, id: &str, new: Running) -> Result<Place> {
        let mut running = self.lock();
        let open = || running.values().filter(|one| one.log.ended().is_none());
        let free = RUNNING_MAX.saturating_sub(open().count());
        if free == 0 {
            let message = format!("{RUNNING_MAX} responses are being made in the background already.");
            return Err(Error::new(ErrorKind::Busy, message).hint("Wait for one of them.").retry_after_ms(5_000));
        }
        let held = open().filter(|one| one.holder.is_some() && one.holder == new.holder).count();
        if held >= free {
            let message = format!(
                "{held} responses of this key are being made in the background; it may have as many as there are free places, now {free}."
            );
            return Err(Error::new(ErrorKind::RateLimited, message)
                .hint("Wait for one of them.")
                .retry_after_ms(5_000));
        }
        if running.len() >= 2 * RUNNING_MAX {
            let oldest = running.iter().filter_map(|(id, one)| Some((one.log.ended()?, id.clone()))).min();
            oldest.and_then(|(_, id)| running.remove(&id));
        }
        running.insert(id.to_owned(), new);
        Ok(Place { all: self.clone(), id: id.to_owned() })
    }

    /// Returns the events of a response that is being made, or was a while ago.
    pub fn log(&self, id: &str) -> Option<Log> {
        self.lock().get(id).map(|running| running.log.clone())
    }

    /// Ends the work on a response, if it goes on, and waits until that has been kept.
    pub async fn end(&self, id: &str) {
        let Some((log, end)) = self.lock().get_mut(id).map(|running| (running.log.clone(), running.end.take())) else {
            return;
        };
        if let Some(end) = end {
            // Work that has ended by itself does not listen any more.
            let _ = end.send(());
        }
        log.wait().await;
    }

    /// Returns a response as it is: as it ended here, though the daemon was gone then; and one whose bridge has ended has
    /// failed.
    pub async fn look(&self, client: &Client, id: &str) -> Result<Stored> {
        let mut stored = Stored::find(client, id).await?;
        let open = stored.is_open();
        let log = self.log(id);
        if open && let Some(response) = log.as_ref().and_then(Log::unkept) {
            stored.response = response;
            return stored.replace(client, id).await;
        }
        let ours = log.is_some_and(|log| log.ended().is_none());
        if open && !ours && now_ms().saturating_sub(stored.updated_unix_ms) > LOST_AFTER_MS {
            stored.response["status"] = json!("failed");
            let message = "The bridge that made this response has ended.";
            stored.response["error"] = json!({ "code": "server_error", "message": message });
            stored = stored.replace(client, id).await?;
        }
        Ok(stored)
    }

    /// Ends a response, wherever it is made, and returns it as it is then.
    pub async fn cancel(&self, client: &Client, id: &str) -> Result<Stored> {
        self.end(id).await;
        let mut stored = self.look(client, id).await?;
        // Its bridge, if there still is one, keeps it too.
        for _ in 0..TRIES {
            if !stored.is_open() {
                break;
            }
            stored.response["status"] = json!("cancelled");
            stored = stored.replace(client, id).await?;
        }
        Ok(stored)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Running>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place among the responses that are made: free again when this is dropped, as it is where whoever asked is gone before the
/// work has begun.
struct Place {
    all: Background,
    id: String,
}

impl Place {
    /// Leaves the events of what has ended to be read again for a while.
    async fn linger(self) {
        sleep(READ_AGAIN).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.all.lock().remove(&self.id);
    }
}

struct Work {
    client: Client,
    stored: Keeping,
    /// The version that it kept last.
    version: u64,
    looks: u32,
    log: Log,
}

impl Work {
    async fn run(mut self, request: GenerateRequest, builder: Builder, end: oneshot::Receiver<()>) {
        let mut builder = builder;
        self.log.push(&builder.opening());
        let frames = tokio::select! {
            last = self.make(request, &mut builder) => last.unwrap_or_else(|error| builder.failed(&named(error))),
            _ = end => builder.cancelled(),
        };
        self.close(&builder, &frames).await;
    }

    /// Makes the response, and returns the last of its frames.
    async fn make(&mut self, request: GenerateRequest, builder: &mut Builder) -> Result<Bytes> {
        let mut pulse = interval(LOOK_EVERY);
        pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let client = self.client.clone();
        // A model may have to be loaded first, and others be answered.
        let Some(begun) = self.meanwhile(&mut pulse, builder, begin(&client, request)).await else {
            return Ok(builder.cancelled());
        };
        let Begun { started, mut events, .. } = begun?;
        builder.made_by(started.model);
        loop {
            let Some(event) = self.meanwhile(&mut pulse, builder, events.next()).await else {
                return Ok(builder.cancelled());
            };
            match event.transpose()? {
                Some(Event::Finished(finished)) => return Ok(builder.finished(finished)),
                Some(Event::Failed(error)) => return Err(error),
                Some(event) => self.log.push(&builder.event(event)),
                None => return Err(Error::internal("The daemon's events ended without saying how.")),
            }
        }
    }

    /// Waits for what comes next, and keeps the response meanwhile; `None` once it is not wanted any more.
    async fn meanwhile<T>(
        &mut self,
        pulse: &mut Interval,
        builder: &Builder,
        next: impl Future<Output = T>,
    ) -> Option<T> {
        let mut next = std::pin::pin!(next);
        loop {
            tokio::select! {
                next = &mut next => return Some(next),
                _ = pulse.tick() => {}
            }
            let keeps = self.looks.is_multiple_of(LOOKS_PER_KEEP);
            self.looks = self.looks.wrapping_add(1);
            let wanted = if keeps { self.keep(builder).await } else { self.look(builder).await };
            // Whatever failed is tried again and again while it is made.
            if wanted.is_ok_and(|wanted| !wanted) {
                return None;
            }
        }
    }

    /// Whether the response is still wanted: it was neither deleted nor ended from outside.
    async fn look(&mut self, builder: &Builder) -> Result<bool> {
        match Stored::find(&self.client, &builder.response().id).await {
            Ok(kept) => {
                self.version = kept.version;
                Ok(kept.is_open())
            }
            Err(error) if error.kind == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Keeps the response as it is now, if it is still wanted; says whether it is.
    async fn keep(&mut self, builder: &Builder) -> Result<bool> {
        let kept = self.replace(builder).await;
        kept.inspect_err(|error| tracing::error!(%error, "a response could not be kept"))
    }

    async fn replace(&mut self, builder: &Builder) -> Result<bool> {
        for _ in 0..TRIES {
            match self.stored.keep(&self.client, builder.response(), Some(self.version)).await {
                Ok(version) => {
                    self.version = version;
                    return Ok(true);
                }
                Err(error) if error.kind == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
            // Its own, if the answer to a write was lost.
            if !self.look(builder).await? {
                return Ok(false);
            }
        }
        Err(Error::new(ErrorKind::Conflict, "somebody else keeps this response"))
    }

    /// Keeps the response as it ended, if it is still wanted; its readers hear of its end after that.
    async fn close(&mut self, builder: &Builder, frames: &[u8]) {
        let unkept = match self.keep(builder).await {
            Ok(_) => None,
            Err(_) => serde_json::to_value(builder.response()).ok(),
        };
        self.log.push(frames);
        self.log.end(unkept);
    }
}

/// Whose share of the places what is asked now takes.
fn holder() -> Option<String> {
    access::current().filter(|principal| principal.role < KeyRole::Admin).map(|principal| principal.id.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(all: &Background, log: &Log, id: &str, holder: Option<&str>) -> Result<Place> {
        all.enter(id, Running { log: log.clone(), end: None, holder: holder.map(str::to_owned) })
    }

    #[test]
    fn a_place_whose_work_never_began_is_free_again() {
        let (all, log, mut places) = (Background::default(), Log::new(), Vec::new());
        for at in 0..=RUNNING_MAX {
            drop(enter(&all, &log, &format!("given up {at}"), None).unwrap());
        }
        for at in 0..RUNNING_MAX {
            places.push(enter(&all, &log, &format!("at work {at}"), None).unwrap());
        }
        assert_eq!(enter(&all, &log, "one more", None).err().unwrap().kind, ErrorKind::Busy);
        log.end(None);
        places.push(enter(&all, &log, "one more", None).unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_ended_is_read_again_for_a_while_and_then_takes_no_memory() {
        let (all, log) = (Background::default(), Log::new());
        let place = enter(&all, &log, "resp_1", None).unwrap();
        log.end(None);
        let lingers = tokio::spawn(place.linger());
        sleep(READ_AGAIN - Duration::from_secs(1)).await;
        assert!(all.log("resp_1").is_some());
        lingers.await.unwrap();
        assert!(all.log("resp_1").is_none());
    }

    #[test]
    fn a_key_holds_no_more_places_than_are_free() {
        let (all, log) = (Background::default(), Log::new());
        let mut places = Vec::new();
        let mut enter = |holder| {
            let place = enter(&all, &log, &places.len().to_string(), holder).map_err(|error| error.kind)?;
            places.push(place);
            Ok(())
        };
        for (key, places) in [("a", RUNNING_MAX / 2), ("b", RUNNING_MAX / 4)] {
            for _ in 0..places {
                enter(Some(key)).unwrap();
            }
            assert_eq!(enter(Some(key)), Err(ErrorKind::RateLimited));
        }
        for _ in 0..RUNNING_MAX / 4 {
            enter(None).unwrap();
        }
        assert_eq!((enter(None), enter(Some("c"))), (Err(ErrorKind::Busy), Err(ErrorKind::Busy)));
    }
}
