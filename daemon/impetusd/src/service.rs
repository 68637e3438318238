//! The daemon's side of the protocol: two lines per verb, who may say it and what does it. Each is done in `service/`; what is
//! decided is decided in `supervisor`, `admission` and `residency`. Called by `protocol::server` for each request.

mod background;
mod encode;
mod generation;
mod import;
mod journal;
mod keys;
mod models;
mod news;
mod pull;
mod records;
mod settings;
pub(crate) mod status;
mod text;

use std::path::PathBuf;
use std::sync::Arc;

use protocol::encode::{EmbedRequest, RerankRequest};
use protocol::generation::GenerateRequest;
use protocol::journal::{AuditPage, AuditRequest, RequestsPage, RequestsRequest};
use protocol::key::KeyRole::{Admin, Readonly, User};
use protocol::key::{CreateKeyRequest, IssuedKey, KeyCard, Knock, Principal, RotateKeyRequest};
use protocol::measures::Metrics;
use protocol::model::{AddRequest, ImportRequest, LoadRequest, ModelCard, ModelTexts, PullRequest, RemoveRequest};
use protocol::news::{News, WatchRequest};
use protocol::record::{KeepRequest, ListRequest, Record, RecordCard, RecordId, RecordList};
use protocol::service::Impetus;
use protocol::setting::{ChangeSettingsRequest, Setting};
use protocol::status::{Bridge, Hello, Status, StopRequest, Welcome};
use protocol::text::{DetokenizeRequest, TokenizeRequest, Tokens};
use protocol::trace::{Span, TraceParent};
use protocol::transcript::{Page, ReadRequest, TranscriptId};
use protocol::{Error, Result};
use tarpc::context::Context;

use crate::admission::Whole;
use crate::session::Session;
pub(crate) use import::sweep;
pub(crate) use models::register;

/// What answers one connection's requests.
#[derive(Clone, Debug)]
pub struct Service(Arc<Session>);

impl Service {
    /// Answers for `session`.
    pub fn new(session: Arc<Session>) -> Self {
        Self(session)
    }
}

impl Impetus for Service {
    async fn handshake(self, _: Context, hello: Hello) -> Result<Welcome> {
        status::handshake(&self.0, hello)
    }
    async fn status(self, _: Context) -> Result<Status> {
        self.0.allow(Readonly)?;
        status::status(&self.0).await
    }

    async fn begin(self, _: Context, request: GenerateRequest, trace: Option<TraceParent>) -> Result<TranscriptId> {
        self.0.allow(User)?;
        generation::begin(&self.0, request, trace).await
    }
    async fn read(self, _: Context, request: ReadRequest) -> Result<Page> {
        self.0.allow(User)?;
        generation::read(&self.0, request).await
    }
    async fn cancel(self, _: Context, id: TranscriptId) -> Result<()> {
        // Even a key that was revoked meanwhile may end what it began.
        generation::cancel(&self.0, id).await
    }

    async fn models(self, _: Context) -> Result<Vec<ModelCard>> {
        self.0.allow(Readonly)?;
        models::list(&self.0).await
    }
    async fn texts(self, _: Context, model: String) -> Result<ModelTexts> {
        self.0.allow(Readonly)?;
        models::texts(&self.0, &model).await
    }
    async fn backup(self, _: Context, path: String) -> Result<()> {
        self.0.allow(Admin)?;
        journal::backup(&self.0.daemon, &path).await
    }
    async fn add(self, _: Context, request: AddRequest) -> Result<ModelCard> {
        self.0.allow(Admin)?;
        models::add(&self.0, request).await
    }
    async fn remove(self, _: Context, request: RemoveRequest) -> Result<()> {
        self.0.allow(Admin)?;
        models::remove(&self.0, request).await
    }
    async fn pull(self, _: Context, request: PullRequest, trace: Option<TraceParent>) -> Result<TranscriptId> {
        self.0.allow(Admin)?;
        pull::pull(&self.0, request, trace).await
    }
    async fn load(self, _: Context, request: LoadRequest, trace: Option<TraceParent>) -> Result<TranscriptId> {
        // A generation loads its model too, so this is no more than a user may do anyway.
        self.0.allow(User)?;
        models::load(&self.0, request, trace).await
    }
    async fn unload(self, _: Context, model: String) -> Result<()> {
        self.0.allow(Admin)?;
        models::unload(&self.0, model).await
    }

    async fn first_key(self, _: Context) -> Result<String> {
        keys::first_key(&self.0).await
    }
    async fn authenticate(self, _: Context, knock: Knock) -> Result<Principal> {
        self.0.allow(Admin)?;
        keys::authenticate(&self.0, &knock).await
    }
    async fn announce(self, _: Context, bridge: Bridge) -> Result<()> {
        self.0.allow(Admin)?;
        status::announce(&self.0, bridge)
    }
    async fn stop(self, _: Context, request: StopRequest) -> Result<()> {
        self.0.allow(Admin)?;
        status::stop(&self.0.daemon, request).await
    }

    async fn tokenize(self, _: Context, request: TokenizeRequest, trace: Option<TraceParent>) -> Result<Tokens> {
        self.0.allow(User)?;
        text::tokenize(&self.0, request, trace).await
    }
    async fn detokenize(self, _: Context, request: DetokenizeRequest, trace: Option<TraceParent>) -> Result<String> {
        self.0.allow(User)?;
        text::detokenize(&self.0, request, trace).await
    }

    async fn keep(self, _: Context, request: KeepRequest) -> Result<RecordCard> {
        self.0.allow(User)?;
        records::keep(&self.0, request).await
    }
    async fn recall(self, _: Context, id: RecordId) -> Result<Record> {
        self.0.allow(User)?;
        records::recall(&self.0, id).await
    }
    async fn forget(self, _: Context, id: RecordId) -> Result<()> {
        self.0.allow(User)?;
        records::forget(&self.0, id).await
    }
    async fn list(self, _: Context, request: ListRequest) -> Result<RecordList> {
        self.0.allow(User)?;
        records::list(&self.0, request).await
    }
    async fn embed(self, _: Context, request: EmbedRequest, trace: Option<TraceParent>) -> Result<TranscriptId> {
        self.0.allow(User)?;
        encode::begin(&self.0, Whole::Embed(request), trace).await
    }
    async fn rerank(self, _: Context, request: RerankRequest, trace: Option<TraceParent>) -> Result<TranscriptId> {
        self.0.allow(User)?;
        encode::begin(&self.0, Whole::Rerank(request), trace).await
    }

    async fn keys(self, _: Context) -> Result<Vec<KeyCard>> {
        self.0.allow(Admin)?;
        keys::list(&self.0).await
    }
    async fn create_key(self, _: Context, request: CreateKeyRequest) -> Result<IssuedKey> {
        self.0.allow(Admin)?;
        keys::create(&self.0, request).await
    }
    async fn rotate_key(self, _: Context, request: RotateKeyRequest) -> Result<IssuedKey> {
        self.0.allow(Admin)?;
        keys::rotate(&self.0, request).await
    }
    async fn revoke_key(self, _: Context, id: String) -> Result<KeyCard> {
        self.0.allow(Admin)?;
        keys::revoke(&self.0, &id).await
    }
    async fn audit(self, _: Context, request: AuditRequest) -> Result<AuditPage> {
        self.0.allow(Admin)?;
        journal::audit(&self.0.daemon, request).await
    }
    async fn requests(self, _: Context, request: RequestsRequest) -> Result<RequestsPage> {
        self.0.allow(Admin)?;
        journal::requests(&self.0.daemon, request).await
    }

    async fn import(self, _: Context, request: ImportRequest, trace: Option<TraceParent>) -> Result<TranscriptId> {
        self.0.allow(Admin)?;
        import::import(&self.0, request, trace).await
    }

    async fn settings(self, _: Context) -> Result<Vec<Setting>> {
        self.0.allow(Admin)?;
        self.0.daemon.settings.list()
    }
    async fn change_settings(self, _: Context, request: ChangeSettingsRequest) -> Result<Vec<Setting>> {
        self.0.allow(Admin)?;
        settings::change(&self.0, request).await
    }
    async fn metrics(self, _: Context) -> Result<Metrics> {
        self.0.allow(Readonly)?;
        status::metrics(&self.0).await
    }
    async fn watch(self, _: Context, request: WatchRequest) -> Result<News> {
        self.0.allow(Readonly)?;
        news::watch(&self.0, request).await
    }
    async fn report_spans(self, _: Context, spans: Vec<Span>) -> Result<()> {
        self.0.allow(Admin)?;
        self.0.daemon.traces.take(spans)
    }
}

/// A client's path, which means the same in the daemon's folder.
fn absolute(path: &str) -> Result<PathBuf> {
    let found = PathBuf::from(path);
    if found.is_absolute() {
        return Ok(found);
    }
    let message = format!("the path {path:?} is not absolute");
    Err(Error::invalid("path", message).hint("the daemon runs in another folder than you: give the full path"))
}
