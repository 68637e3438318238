//! `/api/ws`: what the daemon does, as it happens, for those who watch: figures every second, models that come and go,
//! downloads, requests that ended.
//!
//! A client says which channels it wants and gets messages of JSON, each with a `type` (`message`). Keys, hosts and origins
//! are judged before the upgrade as for any request; the daemon judges what a key may know of, in `feed`, which all
//! sockets of one key share. A socket that a login opened ends with it. One that reads too slowly, or says nothing for too
//! long, is closed: what waits for it is bounded. Nothing here holds what was said to a model or by it.

mod feed;
pub mod message;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{Extension, Query, State};
use axum::response::Response;
use protocol::key::{KeyRole, Principal};
use protocol::{Error, ErrorKind};
use serde::Deserialize;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use utoipa::IntoParams;

use crate::access;
use crate::admin::models::Model;
use crate::app::Bridge;
use crate::body::query;
use crate::error::HttpError;
use crate::login::Claims;
use crate::openapi::{Operation, Routes};
use feed::{Feeds, Told};
use message::{Channel, Heard, Hello, Said};

/// Sockets that may be open; one more is refused as busy.
const SOCKETS_MAX: usize = 1_024;

/// The longest message of a client, in bytes: names of channels fit many times.
const HEARD_BYTES_MAX: usize = 4 << 10;

/// The longest that is read to its end, so that the refusal of it arrives; one beyond that may be cut.
const READ_BYTES_MAX: usize = 64 << 10;

/// Bytes that may wait to be written: a list of thousands of models fits.
const WAITING_BYTES_MAX: usize = 4 << 20;

/// How long a client may take to take a message.
const SEND_PATIENCE: Duration = Duration::from_secs(10);

/// How long a client may take to say that it has heard the end.
const FAREWELL_PATIENCE: Duration = Duration::from_secs(1);

/// How long all clients may take to hear that the bridge ends.
const CLOSING_PATIENCE: Duration = Duration::from_secs(2);

/// How often a client is asked whether it is there, and how long it may then say nothing.
const PING_EVERY: Duration = Duration::from_secs(20);
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// The sockets of this bridge.
pub struct Sockets {
    room: Arc<Semaphore>,
    feeds: Feeds,
    /// Becomes true when the bridge ends.
    closing: watch::Sender<bool>,
}

impl Default for Sockets {
    fn default() -> Self {
        let room = Arc::new(Semaphore::new(SOCKETS_MAX));
        Self { room, feeds: Feeds::default(), closing: watch::Sender::new(false) }
    }
}

impl Sockets {
    /// How many are open.
    pub fn open(&self) -> usize {
        SOCKETS_MAX - self.room.available_permits()
    }

    /// Tells all of them that the bridge ends.
    pub fn close(&self) {
        self.closing.send_replace(true);
    }

    /// Waits until they have heard it.
    pub async fn ended(&self) {
        // One that does not listen is cut.
        let _ = timeout(CLOSING_PATIENCE, self.room.acquire_many(SOCKETS_MAX as u32)).await;
    }
}

/// Returns the route of this module.
pub fn routes() -> Routes {
    let connect = Operation::new("Watch what happens, over a WebSocket")
        .more(
            "Messages are JSON and say their `type`. Say `{\"type\": \"subscribe\", \"channels\": [\"metrics\", \"models\", \
             \"downloads\", \"requests\"]}`, `unsubscribe` likewise, or `{\"type\": \"ping\"}`; `requests` is for \
             administrators. A socket that is not read is closed.",
        )
        .query::<Wish>()
        .upgrades("It goes on as a WebSocket.");
    Routes::new("Watching").get("/api/ws", self::connect, connect)
}

/// What to watch from the start.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct Wish {
    /// Channels, joined by commas; none if it is empty.
    channels: Option<String>,
}

/// Upgrades a request to a socket.
async fn connect(
    State(bridge): State<Arc<Bridge>>,
    login: Option<Extension<access::Login>>,
    wish: Result<Query<Wish>, QueryRejection>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, HttpError> {
    let keyless = || Error::new(ErrorKind::AuthRequired, "A socket needs a key.");
    let who = access::current().ok_or_else(keyless)?;
    let mut channels = Vec::new();
    let wished = query(wish)?.channels.filter(|names| !names.is_empty());
    for name in wished.iter().flat_map(|names| names.split(',')) {
        channels.push(permitted(&who, Channel::named(name.trim())?)?);
    }
    let upgrade = upgrade.map_err(|error| {
        Error::new(ErrorKind::Invalid, format!("This is no WebSocket handshake: {}.", error.body_text()))
            .hint("Connect with a WebSocket client, version 13.")
    })?;
    let place = bridge.sockets.room.clone().try_acquire_owned().map_err(|_| {
        Error::new(ErrorKind::Busy, format!("{SOCKETS_MAX} sockets are open, the most there may be."))
            .retry_after_ms(5_000)
    })?;
    let upgrade = upgrade
        .max_message_size(READ_BYTES_MAX)
        .max_frame_size(READ_BYTES_MAX)
        .read_buffer_size(HEARD_BYTES_MAX)
        .write_buffer_size(0)
        .max_write_buffer_size(WAITING_BYTES_MAX);
    Ok(upgrade.on_upgrade(move |socket| {
        // Before anything is said, so that nothing is missed between a first look and what comes after.
        let told = bridge.sockets.feeds.join(&bridge, &who.id);
        let login = login.and_then(|Extension(access::Login(login))| login);
        Watcher { socket, bridge, who, login, channels }.serve(told, place)
    }))
}

/// Refuses a channel that a key may not watch.
fn permitted(who: &Principal, channel: Channel) -> Result<Channel, Error> {
    if channel != Channel::Requests || who.role == KeyRole::Admin {
        return Ok(channel);
    }
    let message = "The channel 'requests' needs a key of the role admin.";
    Err(Error::new(ErrorKind::Forbidden, message).param("channels"))
}

/// Waits until the bridge is to end.
async fn wished(closing: &mut watch::Receiver<bool>) {
    // The sender lives in the bridge.
    let _ = closing.wait_for(|closing| *closing).await;
}

/// Why a socket ends.
enum End {
    /// The client is gone, or cannot be reached.
    Gone,
    /// The client has said that it goes.
    Left,
    /// The client is told why.
    Told(u16, String),
}

impl From<axum::Error> for End {
    fn from(_: axum::Error) -> Self {
        Self::Gone
    }
}

impl End {
    /// The end of whoever sent what cannot be read.
    fn unread(error: &axum::Error) -> Self {
        // The library's own error has no name here, only words.
        let said = error.to_string();
        let codes = [
            ("Space limit exceeded", close_code::SIZE),
            ("WebSocket protocol error", close_code::PROTOCOL),
            ("UTF-8 encoding error", close_code::INVALID),
        ];
        match codes.into_iter().find(|(words, _)| said.starts_with(words)) {
            Some((_, close_code::SIZE)) => Self::too_long(),
            Some((words, code)) => Self::Told(code, format!("{words}.")),
            None => Self::Gone,
        }
    }

    fn logged_out() -> Self {
        Self::Told(close_code::POLICY, "The login is over.".to_owned())
    }

    fn too_long() -> Self {
        Self::Told(close_code::SIZE, format!("A message may have {HEARD_BYTES_MAX} bytes."))
    }
}

/// One client and what it watches.
struct Watcher {
    socket: WebSocket,
    bridge: Arc<Bridge>,
    who: Arc<Principal>,
    /// The login that opened it, if one did.
    login: Option<Claims>,
    channels: Vec<Channel>,
}

impl Watcher {
    async fn serve(mut self, told: broadcast::Receiver<Told>, _place: OwnedSemaphorePermit) {
        match self.converse(told).await {
            End::Gone => return,
            End::Left => {}
            End::Told(code, reason) => {
                let frame = CloseFrame { code, reason: reason.into() };
                // A client that does not take it is gone all the same.
                let _ = timeout(SEND_PATIENCE, self.socket.send(Message::Close(Some(frame)))).await;
            }
        }
        // Reading on sends the answer to a client's end. It also takes what a client sent before it heard of ours: a
        // connection that ends with bytes unread is reset, and the end with it may never be read.
        let farewell = async { while let Some(Ok(_)) = self.socket.recv().await {} };
        let _ = timeout(FAREWELL_PATIENCE, farewell).await;
    }

    async fn converse(&mut self, mut told: broadcast::Receiver<Told>) -> End {
        let mut closing = self.bridge.sockets.closing.subscribe();
        let mut ping = interval_at(Instant::now() + PING_EVERY, PING_EVERY);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard = Instant::now();
        let begun = self.begin().await;
        let mut go_on = begun;
        while go_on.is_ok() {
            go_on = tokio::select! {
                message = self.socket.recv() => {
                    heard = Instant::now();
                    match message {
                        Some(Ok(message)) => self.hear(message).await,
                        Some(Err(error)) => Err(End::unread(&error)),
                        None => Err(End::Gone),
                    }
                }
                news = told.recv() => self.pass_on(news).await,
                _ = ping.tick() => match heard.elapsed() < SILENCE_MAX {
                    true => self.ask().await,
                    false => Err(End::Told(close_code::POLICY, "You said nothing for too long.".to_owned())),
                },
                () = wished(&mut closing) => {
                    Err(End::Told(close_code::AWAY, "The bridge ends.".to_owned()))
                }
            };
        }
        go_on.err().unwrap_or(End::Gone)
    }

    async fn begin(&mut self) -> Result<(), End> {
        let client = self.bridge.daemon.of(&self.who.id).await;
        let version = client.map(|client| client.welcome().version.clone()).ok();
        let may = |channel: &Channel| permitted(&self.who, *channel).is_ok();
        let channels = Channel::ALL.into_iter().filter(may).collect();
        self.say(&Said::Hello(Hello { version, key: self.who.id.clone(), channels })).await?;
        if self.channels.is_empty() { Ok(()) } else { self.subscribed(self.channels.clone()).await }
    }

    /// Does what a client asks.
    async fn hear(&mut self, message: Message) -> Result<(), End> {
        let text = match message {
            Message::Text(text) if text.len() > HEARD_BYTES_MAX => return Err(End::too_long()),
            Message::Binary(bytes) if bytes.len() > HEARD_BYTES_MAX => return Err(End::too_long()),
            Message::Text(text) => text,
            Message::Binary(_) => return self.refuse(&Error::new(ErrorKind::Invalid, "Messages are text.")).await,
            Message::Ping(_) | Message::Pong(_) => return Ok(()),
            Message::Close(_) => return Err(End::Left),
        };
        match Heard::read(&text) {
            Ok(Heard::Ping {}) => self.say(&Said::Pong).await,
            Ok(Heard::Subscribe { channels }) => {
                let permitted = channels.into_iter().map(|channel| permitted(&self.who, channel));
                match permitted.collect::<Result<Vec<_>, _>>() {
                    Ok(channels) => self.subscribed(channels).await,
                    Err(error) => self.refuse(&error).await,
                }
            }
            Ok(Heard::Unsubscribe { channels }) => {
                self.channels.retain(|channel| !channels.contains(channel));
                self.say(&Said::Subscribed { channels: self.channels.clone() }).await
            }
            Err(error) => self.refuse(&error).await,
        }
    }

    /// Adds channels, and says how things are now where changes alone would not tell.
    async fn subscribed(&mut self, channels: Vec<Channel>) -> Result<(), End> {
        let new = |channel: &Channel| !self.channels.contains(channel);
        let more: Vec<Channel> = channels.iter().copied().filter(new).collect();
        self.channels.extend(more);
        self.channels.sort();
        self.channels.dedup();
        self.say(&Said::Subscribed { channels: self.channels.clone() }).await?;
        if !channels.contains(&Channel::Models) {
            return Ok(());
        }
        let models = async { self.bridge.daemon.of(&self.who.id).await?.models().await };
        match models.await {
            Ok(cards) => self.say(&Said::Models { data: cards.into_iter().map(Model::from).collect() }).await,
            Err(error) => self.refuse(&error).await,
        }
    }

    /// Passes on what the daemon told, if it is wanted.
    async fn pass_on(&mut self, news: Result<Told, RecvError>) -> Result<(), End> {
        match news {
            Ok(Told::News(channel, text)) if channel.is_none_or(|channel| self.channels.contains(&channel)) => {
                self.send(Message::Text(text)).await
            }
            Ok(Told::News(..)) => Ok(()),
            Ok(Told::Over(error)) => Err(End::Told(close_code::POLICY, error.message)),
            Err(RecvError::Lagged(_)) => Err(End::Told(close_code::POLICY, "You read too slowly.".to_owned())),
            Err(RecvError::Closed) => Err(End::Gone),
        }
    }

    /// Asks whether the client is there, and whether its login was ended at another bridge.
    async fn ask(&mut self) -> Result<(), End> {
        match access::still_on(&self.bridge, self.login.clone()).await {
            Ok(None) if self.login.is_some() => Err(End::logged_out()),
            // Where that cannot be asked now, it is asked again.
            _ => self.send(Message::Ping(Default::default())).await,
        }
    }

    async fn refuse(&mut self, error: &Error) -> Result<(), End> {
        self.say(&Said::error(error)).await
    }

    async fn say(&mut self, said: &Said) -> Result<(), End> {
        self.send(Message::Text(said.text())).await
    }

    async fn send(&mut self, message: Message) -> Result<(), End> {
        if self.login.as_ref().is_some_and(|login| !self.bridge.logins.goes_on(login)) {
            return Err(End::logged_out());
        }
        timeout(SEND_PATIENCE, self.socket.send(message)).await.map_err(|_| End::Gone)?.map_err(End::from)
    }
}
