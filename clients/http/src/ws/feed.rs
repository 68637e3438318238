//! What the daemon tells, read once for all sockets of one key and passed on to each. It is asked with the key's own
//! connection, so that the daemon decides what a key may know of. A feed ends with its last socket.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::ws::Utf8Bytes;
use protocol::client::Client;
use protocol::news::{Happening, WatchRequest};
use protocol::{Error, ErrorKind, Result};
use tokio::sync::broadcast;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::message::{Channel, Fault, Figures, Said};
use crate::admin::models::Model;
use crate::app::Bridge;

/// Messages that a socket may be behind before it is closed.
const BEHIND_MAX: usize = 512;

/// How often figures are told.
const FIGURES_EVERY: Duration = Duration::from_secs(1);

/// How long one question for news waits.
const WAIT_MS: u32 = 20_000;

/// How long to wait after the daemon could not be reached.
const PAUSE: Duration = Duration::from_secs(1);

/// Something for the sockets of a key.
#[derive(Clone, Debug)]
pub enum Told {
    /// A message for those who watch a channel, or for all.
    News(Option<Channel>, Utf8Bytes),
    /// The key may not watch any more.
    Over(Error),
}

/// The feeds that go on, by key.
#[derive(Default)]
pub struct Feeds(Mutex<HashMap<String, broadcast::Sender<Told>>>);

impl Feeds {
    /// Joins the feed of a key; the first one starts it.
    pub fn join(&self, bridge: &Arc<Bridge>, key: &str) -> broadcast::Receiver<Told> {
        let mut feeds = self.lock();
        if let Some(feed) = feeds.get(key) {
            return feed.subscribe();
        }
        let (sender, receiver) = broadcast::channel(BEHIND_MAX);
        feeds.insert(key.to_owned(), sender.clone());
        tokio::spawn(run(Feed { bridge: bridge.clone(), key: key.to_owned(), sender }));
        receiver
    }

    /// Ends a feed that nobody reads; false if somebody joined meanwhile.
    fn end(&self, key: &str, sender: &broadcast::Sender<Told>) -> bool {
        let mut feeds = self.lock();
        let unread = sender.receiver_count() == 0;
        if unread {
            feeds.remove(key);
        }
        unread
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, broadcast::Sender<Told>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one key watches.
struct Feed {
    bridge: Arc<Bridge>,
    key: String,
    sender: broadcast::Sender<Told>,
}

async fn run(feed: Feed) {
    loop {
        tokio::select! {
            () = feed.news() => {}
            () = feed.figures() => {}
            () = feed.sender.closed() => {}
        }
        if feed.bridge.sockets.feeds.end(&feed.key, &feed.sender) {
            return;
        }
    }
}

impl Feed {
    /// Tells what happens, for as long as somebody listens.
    async fn news(&self) {
        let mut after = None;
        loop {
            let told = async {
                let client = self.client().await?;
                loop {
                    self.tell_news(&client, &mut after).await?;
                }
            };
            let lost: Result<()> = told.await;
            if let Err(error) = lost {
                self.fail(error).await;
            }
        }
    }

    async fn tell_news(&self, client: &Client, after: &mut Option<u64>) -> Result<()> {
        let begins = after.is_none();
        let wait_ms = if begins { 0 } else { WAIT_MS };
        let news = client.watch(WatchRequest { after: *after, wait_ms }).await?;
        *after = Some(news.next);
        if news.missed {
            self.tell(None, &Said::Missed);
        }
        if news.missed || begins {
            // Whoever looked before knows what was; from here on nothing is lost unsaid.
            let models = client.models().await?.into_iter().map(Model::from).collect();
            self.tell(Some(Channel::Models), &Said::Models { data: models });
        }
        for happening in news.happenings {
            let (channel, said) = said(happening);
            self.tell(Some(channel), &said);
        }
        Ok(())
    }

    /// Tells figures, for as long as somebody listens.
    async fn figures(&self) {
        let mut tick = interval(FIGURES_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let status = async { self.client().await?.status().await };
            match status.await {
                Ok(status) => {
                    let figures = Figures::new(status, self.bridge.sockets.open());
                    self.tell(Some(Channel::Metrics), &Said::Metrics(figures));
                }
                // `news` waits for something to happen, and would hear of it late.
                Err(error) if is_out(&error) => self.fail(error).await,
                // Where the daemon cannot be reached, `news` says so.
                Err(_) => {}
            }
        }
    }

    async fn client(&self) -> Result<Client> {
        self.bridge.daemon.of(&self.key).await
    }

    fn tell(&self, channel: Option<Channel>, said: &Said) {
        // Nobody may be there to hear it; then the feed ends.
        let _ = self.sender.send(Told::News(channel, said.text()));
    }

    /// Tells that the daemon gave no answer, and waits before it is asked again.
    async fn fail(&self, error: Error) {
        match error.kind {
            _ if is_out(&error) => {
                let _ = self.sender.send(Told::Over(error));
            }
            // A lost answer is asked for again with the same cursor.
            ErrorKind::DeadlineExceeded => {}
            _ => self.tell(None, &Said::error(&error)),
        }
        sleep(PAUSE).await;
    }
}

/// Whether an error says that the key may not watch any more.
fn is_out(error: &Error) -> bool {
    matches!(error.kind, ErrorKind::AuthRequired | ErrorKind::Forbidden)
}

/// Returns what sockets are told of a happening, and on which channel.
fn said(happening: Happening) -> (Channel, Said) {
    match happening {
        Happening::Model(card) => (Channel::Models, Said::Model { model: card.into() }),
        Happening::Forgotten(model) => (Channel::Models, Said::Forgotten { model }),
        Happening::Loading(progress) => (Channel::Models, Said::Loading(progress.into())),
        Happening::Downloading(progress) => (Channel::Downloads, Said::Download(progress.into())),
        Happening::Downloaded(ended) => {
            let error = ended.error.as_ref().map(Fault::from);
            (Channel::Downloads, Said::Downloaded { subject: ended.repo, error })
        }
        Happening::Request(entry) => (Channel::Requests, Said::Request { request: entry.into() }),
    }
}
