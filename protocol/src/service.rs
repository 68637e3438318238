//! The service: every verb that a client can say to `impetusd`.
//!
//! This trait is the protocol's table of contents. `impetusd` implements it, `client` calls it. Long work returns a
//! `TranscriptId` to be read with a cursor; everything else answers at once.

use crate::Result;
use crate::encode::{EmbedRequest, RerankRequest};
use crate::generation::GenerateRequest;
use crate::journal::{AuditPage, AuditRequest, RequestsPage, RequestsRequest};
use crate::key::{CreateKeyRequest, IssuedKey, KeyCard, Knock, Principal, RotateKeyRequest};
use crate::measures::Metrics;
use crate::model::{AddRequest, ImportRequest, LoadRequest, ModelCard, ModelTexts, PullRequest, RemoveRequest};
use crate::news::{News, WatchRequest};
use crate::record::{KeepRequest, ListRequest, Record, RecordCard, RecordId, RecordList};
use crate::setting::{ChangeSettingsRequest, Setting};
use crate::status::{Bridge, Hello, Status, StopRequest, Welcome};
use crate::text::{DetokenizeRequest, TokenizeRequest, Tokens};
use crate::trace::{Span, TraceParent};
use crate::transcript::{Page, ReadRequest, TranscriptId};

/// Every verb of the daemon.
#[tarpc::service]
pub trait Impetus {
    /// Says who is there, on both sides.
    async fn handshake(hello: Hello) -> Result<Welcome>;
    /// Returns how the daemon is.
    async fn status() -> Result<Status>;

    /// Starts a generation.
    async fn begin(request: GenerateRequest, trace: Option<TraceParent>) -> Result<TranscriptId>;
    /// Returns the events of a transcript after a cursor; waits for the first.
    async fn read(request: ReadRequest) -> Result<Page>;
    /// Ends the work of a transcript; ending it twice is no error.
    async fn cancel(id: TranscriptId) -> Result<()>;

    /// Lists the models, by name.
    async fn models() -> Result<Vec<ModelCard>>;
    /// Registers a folder of model files.
    async fn add(request: AddRequest) -> Result<ModelCard>;
    /// Forgets a model.
    async fn remove(request: RemoveRequest) -> Result<()>;
    /// Starts to fetch a model from the hub.
    async fn pull(request: PullRequest, trace: Option<TraceParent>) -> Result<TranscriptId>;
    /// Starts to bring a model into memory.
    async fn load(request: LoadRequest, trace: Option<TraceParent>) -> Result<TranscriptId>;
    /// Takes a model out of memory once its running work is done.
    async fn unload(model: String) -> Result<()>;

    /// Returns the first key, made at the first start; only for peers of the daemon's own user.
    async fn first_key() -> Result<String>;
    /// Says who holds a key, and counts the request against its limit per minute.
    async fn authenticate(knock: Knock) -> Result<Principal>;
    /// Tells the daemon where an HTTP bridge listens, for as long as this connection lasts.
    async fn announce(bridge: Bridge) -> Result<()>;
    /// Asks the daemon to end.
    async fn stop(request: StopRequest) -> Result<()>;

    /// Returns a prompt's tokens, as the model would read it; brings the model into memory.
    async fn tokenize(request: TokenizeRequest, trace: Option<TraceParent>) -> Result<Tokens>;
    /// Returns the text that tokens spell; brings the model into memory.
    async fn detokenize(request: DetokenizeRequest, trace: Option<TraceParent>) -> Result<String>;

    /// Keeps a document for a later request.
    async fn keep(request: KeepRequest) -> Result<RecordCard>;
    /// Returns a document that was kept.
    async fn recall(id: RecordId) -> Result<Record>;
    /// Forgets a document.
    async fn forget(id: RecordId) -> Result<()>;
    /// Lists documents without their bodies.
    async fn list(request: ListRequest) -> Result<RecordList>;

    /// Starts to turn texts into vectors.
    async fn embed(request: EmbedRequest, trace: Option<TraceParent>) -> Result<TranscriptId>;
    /// Starts to score documents for a query.
    async fn rerank(request: RerankRequest, trace: Option<TraceParent>) -> Result<TranscriptId>;

    /// Lists the keys, oldest first, revoked ones too.
    async fn keys() -> Result<Vec<KeyCard>>;
    /// Makes a key; its secret is in this answer and nowhere else.
    async fn create_key(request: CreateKeyRequest) -> Result<IssuedKey>;
    /// Gives a key a new secret.
    async fn rotate_key(request: RotateKeyRequest) -> Result<IssuedKey>;
    /// Takes a key back for good, at once.
    async fn revoke_key(id: String) -> Result<KeyCard>;
    /// Returns who changed what.
    async fn audit(request: AuditRequest) -> Result<AuditPage>;
    /// Returns what was asked of which model.
    async fn requests(request: RequestsRequest) -> Result<RequestsPage>;

    /// Starts to make a model folder of a GGUF file.
    async fn import(request: ImportRequest, trace: Option<TraceParent>) -> Result<TranscriptId>;
    /// Lists the settings that can be changed while the daemon runs, by name.
    async fn settings() -> Result<Vec<Setting>>;
    /// Changes settings, all of them or none, and returns them all.
    async fn change_settings(request: ChangeSettingsRequest) -> Result<Vec<Setting>>;
    /// Returns what was counted since the daemon started.
    async fn metrics() -> Result<Metrics>;
    /// Returns what happened after a cursor; waits for the first.
    async fn watch(request: WatchRequest) -> Result<News>;
    /// Hands over spans of traces, for the daemon to export; those of a daemon that exports none are dropped.
    async fn report_spans(spans: Vec<Span>) -> Result<()>;
    /// Returns what a model's folder holds for people to read.
    async fn texts(model: String) -> Result<ModelTexts>;
    /// Writes a copy of the database to a new file of this full path, which only its owner can read.
    async fn backup(path: String) -> Result<()>;
}
