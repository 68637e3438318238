//! A daemon for tests: it answers every verb from memory, and shows what happened to it.
//!
//! Its only transcript is written by the test through `State`; reading waits for it as the real one does.

use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tarpc::context::Context;
use tokio::io::DuplexStream;
use tokio::sync::watch;

use super::samples;
use crate::client::Client;
use crate::encode::{EmbedRequest, RerankRequest};
use crate::generation::GenerateRequest;
use crate::journal::{AuditPage, AuditRequest, RequestsPage, RequestsRequest};
use crate::key::{CreateKeyRequest, IssuedKey, KeyCard, Knock, Principal, RotateKeyRequest};
use crate::measures::Metrics;
use crate::model::{AddRequest, ImportRequest, LoadRequest, ModelCard, ModelTexts, PullRequest, RemoveRequest};
use crate::news::{News, WatchRequest};
use crate::record::{KeepRequest, ListRequest, Record, RecordCard, RecordId, RecordList};
use crate::server::{Limits, ServeError, accept};
use crate::service::Impetus;
use crate::setting::{ChangeSettingsRequest, Setting};
use crate::status::{Bridge, Hello, Status, StopRequest, Welcome};
use crate::text::{DetokenizeRequest, TokenizeRequest, Tokens};
use crate::trace::{Span, TraceParent};
use crate::transcript::{Cursor, Event, Page, ReadRequest, TranscriptId};
use crate::wire::Codec;
use crate::{Error, ErrorKind, Result};

/// What the tests write and see.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub events: Vec<Event>,
    pub ended: bool,
    pub cancelled: Vec<TranscriptId>,
    pub reads: u32,
    pub reads_running: u32,
    pub replies_to_lose: u32,
    pub begins: u32,
    pub begins_wait: bool,
}

/// The daemon; its clones are one.
#[derive(Clone)]
pub(crate) struct Daemon {
    state: Arc<watch::Sender<State>>,
}

/// Counts a read for as long as it is running.
struct Running(Arc<watch::Sender<State>>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.send_modify(|state| state.reads_running -= 1);
    }
}

impl Daemon {
    pub(crate) fn new() -> Self {
        Self { state: Arc::new(watch::channel(State::default()).0) }
    }

    /// Changes what the daemon knows.
    pub(crate) fn change(&self, change: impl FnOnce(&mut State)) {
        self.state.send_modify(change);
    }

    /// Waits until the state is as the test wants it; fails after five seconds.
    pub(crate) async fn until(&self, wanted: impl FnMut(&State) -> bool) {
        let mut states = self.state.subscribe();
        let wait = states.wait_for(wanted);
        tokio::time::timeout(Duration::from_secs(5), wait).await.expect("the daemon got there").unwrap();
    }

    /// Serves one connection and returns the client's end of it, and how serving ends.
    pub(crate) fn open(&self, limits: Limits) -> (DuplexStream, tokio::task::JoinHandle<Option<ServeError>>) {
        let (near, far) = tokio::io::duplex(1 << 16);
        let daemon = self.clone();
        let served = tokio::spawn(async move {
            match accept(far, &limits).await {
                Ok(connection) => connection.serve(daemon).await.err(),
                Err(error) => Some(error),
            }
        });
        (near, served)
    }

    /// Connects a client over memory.
    pub(crate) async fn client(&self, codec: Codec) -> Client {
        let (stream, _) = self.open(Limits::default());
        Client::over(stream, codec, "test/1").await.unwrap()
    }
}

impl Impetus for Daemon {
    async fn handshake(self, _: Context, _: Hello) -> Result<Welcome> {
        Ok(samples::welcome())
    }

    async fn status(self, _: Context) -> Result<Status> {
        Ok(samples::status())
    }

    async fn begin(self, _: Context, request: GenerateRequest, _: Option<TraceParent>) -> Result<TranscriptId> {
        self.change(|state| state.begins += 1);
        let open = self.state.subscribe().wait_for(|state| !state.begins_wait).await.is_ok();
        match request.model.as_deref() {
            Some("absent") => Err(samples::error()),
            _ if open => Ok(TranscriptId(7)),
            _ => pending().await,
        }
    }

    async fn read(self, _: Context, request: ReadRequest) -> Result<Page> {
        let lose = Mutex::new(false);
        self.change(|state| {
            state.reads += 1;
            state.reads_running += 1;
            if state.replies_to_lose > 0 {
                state.replies_to_lose -= 1;
                *lose.lock().unwrap() = true;
            }
        });
        let _running = Running(Arc::clone(&self.state));
        if lose.into_inner().unwrap() {
            return Err(Error::new(ErrorKind::DeadlineExceeded, "this reply is lost"));
        }
        let from = usize::try_from(request.cursor.0).unwrap();
        let mut states = self.state.subscribe();
        let wait = states.wait_for(|state| state.events.len() > from || state.ended);
        let Ok(state) = wait.await else { return pending().await };
        let events = state.events[from..].to_vec();
        Ok(Page { events, next: Cursor(state.events.len() as u64), ended: state.ended })
    }

    async fn cancel(self, _: Context, id: TranscriptId) -> Result<()> {
        self.change(|state| state.cancelled.push(id));
        Ok(())
    }

    async fn models(self, _: Context) -> Result<Vec<ModelCard>> {
        Ok(vec![samples::card()])
    }

    async fn texts(self, _: Context, _: String) -> Result<ModelTexts> {
        Ok(samples::texts())
    }

    async fn backup(self, _: Context, _: String) -> Result<()> {
        Ok(())
    }

    async fn add(self, _: Context, _: AddRequest) -> Result<ModelCard> {
        Ok(samples::card())
    }

    async fn remove(self, _: Context, request: RemoveRequest) -> Result<()> {
        assert_ne!(request.model, "boom", "a handler that panics");
        Ok(())
    }

    async fn pull(self, _: Context, _: PullRequest, _: Option<TraceParent>) -> Result<TranscriptId> {
        Ok(TranscriptId(8))
    }

    async fn import(self, _: Context, _: ImportRequest, _: Option<TraceParent>) -> Result<TranscriptId> {
        Ok(TranscriptId(12))
    }

    async fn load(self, _: Context, _: LoadRequest, _: Option<TraceParent>) -> Result<TranscriptId> {
        Ok(TranscriptId(9))
    }

    async fn unload(self, _: Context, _: String) -> Result<()> {
        Ok(())
    }

    async fn first_key(self, _: Context) -> Result<String> {
        // Longer than a frame: what a daemon must never say, and must survive having said.
        Ok("x".repeat(crate::wire::FRAME_BYTES_MAX))
    }

    async fn authenticate(self, _: Context, _: Knock) -> Result<Principal> {
        Err(Error::new(ErrorKind::AuthRequired, "this key is not known"))
    }

    async fn announce(self, _: Context, _: Bridge) -> Result<()> {
        pending().await
    }

    async fn stop(self, _: Context, _: StopRequest) -> Result<()> {
        Ok(())
    }

    async fn tokenize(self, _: Context, _: TokenizeRequest, _: Option<TraceParent>) -> Result<Tokens> {
        Ok(samples::tokens_of())
    }

    async fn detokenize(self, _: Context, _: DetokenizeRequest, _: Option<TraceParent>) -> Result<String> {
        Ok("Hi".into())
    }

    async fn keep(self, _: Context, _: KeepRequest) -> Result<RecordCard> {
        Ok(samples::record().card)
    }

    async fn recall(self, _: Context, _: RecordId) -> Result<Record> {
        Ok(samples::record())
    }

    async fn forget(self, _: Context, _: RecordId) -> Result<()> {
        Ok(())
    }

    async fn list(self, _: Context, _: ListRequest) -> Result<RecordList> {
        Ok(RecordList { cards: vec![samples::record().card], more: false })
    }

    async fn embed(self, _: Context, _: EmbedRequest, _: Option<TraceParent>) -> Result<TranscriptId> {
        Ok(TranscriptId(10))
    }

    async fn rerank(self, _: Context, _: RerankRequest, _: Option<TraceParent>) -> Result<TranscriptId> {
        Ok(TranscriptId(11))
    }

    async fn keys(self, _: Context) -> Result<Vec<KeyCard>> {
        Ok(vec![samples::key_card()])
    }

    async fn create_key(self, _: Context, _: CreateKeyRequest) -> Result<IssuedKey> {
        Ok(samples::issued())
    }

    async fn rotate_key(self, _: Context, _: RotateKeyRequest) -> Result<IssuedKey> {
        Ok(samples::issued())
    }

    async fn revoke_key(self, _: Context, _: String) -> Result<KeyCard> {
        Ok(samples::key_card())
    }

    async fn audit(self, _: Context, _: AuditRequest) -> Result<AuditPage> {
        Ok(AuditPage { entries: vec![], next: None })
    }

    async fn requests(self, _: Context, _: RequestsRequest) -> Result<RequestsPage> {
        Ok(RequestsPage { entries: vec![], next: None })
    }

    async fn settings(self, _: Context) -> Result<Vec<Setting>> {
        Ok(vec![samples::setting()])
    }

    async fn change_settings(self, _: Context, _: ChangeSettingsRequest) -> Result<Vec<Setting>> {
        Ok(vec![samples::setting()])
    }

    async fn metrics(self, _: Context) -> Result<Metrics> {
        Ok(samples::metrics())
    }

    async fn watch(self, _: Context, _: WatchRequest) -> Result<News> {
        Ok(samples::news())
    }

    async fn report_spans(self, _: Context, _: Vec<Span>) -> Result<()> {
        Ok(())
    }
}
