//! How to ask: one connection, a method for each verb, and transcripts as streams of events.
//!
//! `Client` is what every front end uses. It waits patiently for a daemon that is starting, gives each verb its own
//! deadline (tarpc's default of ten seconds suits none), and turns whatever breaks into a `protocol::Error`. Clones
//! share the connection and may call at once. It starts no daemon and keeps no state of its own.

mod connect;
mod encode;
mod events;

#[cfg(test)]
mod tests;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use tarpc::client::RpcError;
use tarpc::context::Context;
use tokio::sync::watch;

use crate::encode::{EmbedRequest, RerankRequest};
use crate::generation::GenerateRequest;
use crate::journal::{AuditPage, AuditRequest, RequestsPage, RequestsRequest};
use crate::key::{CreateKeyRequest, IssuedKey, KeyCard, Knock, Principal, RotateKeyRequest};
use crate::measures::Metrics;
use crate::model::{AddRequest, ImportRequest, LoadRequest, ModelCard, ModelTexts, PullRequest, RemoveRequest};
use crate::news::{News, WatchRequest};
use crate::record::{KeepRequest, ListRequest, Record, RecordCard, RecordId, RecordList};
use crate::service::ImpetusClient;
use crate::setting::{ChangeSettingsRequest, Setting};
use crate::status::{Bridge, Status, StopRequest, Welcome};
use crate::text::{DetokenizeRequest, TokenizeRequest, Tokens};
use crate::trace::{Span, TraceParent};
use crate::transcript::{Page, ReadRequest, TranscriptId};
use crate::wire::frame::unwrap_refusal;
use crate::wire::{FRAME_BYTES_MAX, encoded_bytes};
use crate::{Error, ErrorKind, Result};

pub use connect::Patience;
pub use encode::{Embeddings, Scores};
pub use events::EventStream;

/// How long the daemon may take over a verb that only looks something up.
const QUICK: Duration = Duration::from_secs(5);

/// How long it may take over a verb that reads files or starts a process.
const SLOW: Duration = Duration::from_secs(60);

/// How long it may take to copy everything.
const COPY: Duration = Duration::from_secs(600);

/// What a read may take beyond the time it waits.
const READ_GRACE: Duration = Duration::from_secs(5);

/// Room in a frame for what surrounds a request.
const ENVELOPE_BYTES: usize = 64;

/// A connection to the daemon; clones share it, and it closes with the last of them.
#[derive(Clone, Debug)]
pub struct Client {
    rpc: ImpetusClient,
    /// Where what is asked stands in a trace.
    trace: Option<TraceParent>,
    welcome: Arc<Welcome>,
    /// Closes when the connection does.
    closed: watch::Receiver<()>,
}

impl Client {
    /// Returns what the daemon said of itself.
    pub fn welcome(&self) -> &Welcome {
        &self.welcome
    }

    /// Returns the same connection, for requests that stand there in a trace.
    pub fn traced(mut self, trace: Option<TraceParent>) -> Self {
        self.trace = trace;
        self
    }

    /// Says whether the connection is lost; a new one must then be made.
    pub fn is_closed(&self) -> bool {
        self.closed.has_changed().is_err()
    }

    /// Waits until the connection is lost.
    pub async fn closed(&self) {
        // Nothing is ever sent: the wait ends with the sender.
        let _ = self.closed.clone().changed().await;
    }

    /// Returns how the daemon is.
    pub async fn status(&self) -> Result<Status> {
        call("status", QUICK, |context| self.rpc.status(context)).await
    }

    /// Starts a generation; read its events with `events`.
    pub async fn begin(&self, request: GenerateRequest) -> Result<TranscriptId> {
        fits("prompt", &request)?;
        call("begin", QUICK, |context| self.rpc.begin(context, request, self.trace)).await
    }

    /// Starts a generation and returns its events. Dropping the future cancels the work, however far it is.
    pub async fn generate(&self, request: GenerateRequest) -> Result<EventStream> {
        let client = self.clone();
        self.attended(async move { client.begin(request).await }).await
    }

    /// Begins work in a task of its own, which hears of its id in any case: where nobody waits for the events any more they are
    /// dropped, and that cancels the work.
    async fn attended(
        &self,
        begin: impl Future<Output = Result<TranscriptId>> + Send + 'static,
    ) -> Result<EventStream> {
        let client = self.clone();
        let begun = tokio::spawn(async move { begin.await.map(|id| client.events(id)) });
        begun.await.map_err(|error| Error::internal(format!("the task that begins work has ended: {error}")))?
    }

    /// Returns the events of a transcript from its start; dropping them before their end cancels the work.
    pub fn events(&self, id: TranscriptId) -> EventStream {
        EventStream::new(self.clone(), id)
    }

    /// Returns the events of a transcript after a cursor; waits for the first.
    pub async fn read(&self, request: ReadRequest) -> Result<Page> {
        let limit = Duration::from_millis(request.wait_ms.into()) + READ_GRACE;
        call("read", limit, |context| self.rpc.read(context, request)).await
    }

    /// Ends the work of a transcript; ending it twice is no error.
    pub async fn cancel(&self, id: TranscriptId) -> Result<()> {
        call("cancel", QUICK, |context| self.rpc.cancel(context, id)).await
    }

    /// Lists the models, by name.
    pub async fn models(&self) -> Result<Vec<ModelCard>> {
        call("models", QUICK, |context| self.rpc.models(context)).await
    }

    /// Returns what a model's folder holds for people to read.
    pub async fn texts(&self, model: &str) -> Result<ModelTexts> {
        call("texts", SLOW, |context| self.rpc.texts(context, model.to_owned())).await
    }

    /// Registers a folder of model files.
    pub async fn add(&self, request: AddRequest) -> Result<ModelCard> {
        call("add", SLOW, |context| self.rpc.add(context, request)).await
    }

    /// Forgets a model.
    pub async fn remove(&self, request: RemoveRequest) -> Result<()> {
        call("remove", SLOW, |context| self.rpc.remove(context, request)).await
    }

    /// Starts to fetch a model from the hub; follow it with `events`.
    pub async fn pull(&self, request: PullRequest) -> Result<TranscriptId> {
        call("pull", QUICK, |context| self.rpc.pull(context, request, self.trace)).await
    }

    /// Starts to make a model folder of a GGUF file; follow it with `events`.
    pub async fn import(&self, request: ImportRequest) -> Result<TranscriptId> {
        call("import", QUICK, |context| self.rpc.import(context, request, self.trace)).await
    }

    /// Starts to bring a model into memory; follow it with `events`.
    pub async fn load(&self, request: LoadRequest) -> Result<TranscriptId> {
        call("load", QUICK, |context| self.rpc.load(context, request, self.trace)).await
    }

    /// Takes a model out of memory once its running work is done.
    pub async fn unload(&self, model: &str) -> Result<()> {
        call("unload", SLOW, |context| self.rpc.unload(context, model.to_owned())).await
    }

    /// Returns the first key; only for the daemon's own user.
    pub async fn first_key(&self) -> Result<String> {
        call("first_key", QUICK, |context| self.rpc.first_key(context)).await
    }

    /// Says who holds a key, and counts the request against its limit per minute.
    pub async fn authenticate(&self, knock: Knock) -> Result<Principal> {
        call("authenticate", QUICK, |context| self.rpc.authenticate(context, knock)).await
    }

    /// Tells the daemon where an HTTP bridge listens, for as long as this connection lasts.
    pub async fn announce(&self, bridge: Bridge) -> Result<()> {
        call("announce", QUICK, |context| self.rpc.announce(context, bridge)).await
    }

    /// Asks the daemon to end.
    pub async fn stop(&self, request: StopRequest) -> Result<()> {
        call("stop", QUICK, |context| self.rpc.stop(context, request)).await
    }

    /// Returns a prompt's tokens, as the model would read it.
    pub async fn tokenize(&self, request: TokenizeRequest) -> Result<Tokens> {
        fits("prompt", &request)?;
        call("tokenize", SLOW, |context| self.rpc.tokenize(context, request, self.trace)).await
    }

    /// Returns the text that tokens spell.
    pub async fn detokenize(&self, request: DetokenizeRequest) -> Result<String> {
        fits("tokens", &request)?;
        call("detokenize", SLOW, |context| self.rpc.detokenize(context, request, self.trace)).await
    }

    /// Keeps a document for a later request.
    pub async fn keep(&self, request: KeepRequest) -> Result<RecordCard> {
        fits("body", &request)?;
        call("keep", SLOW, |context| self.rpc.keep(context, request)).await
    }

    /// Returns a document that was kept.
    pub async fn recall(&self, id: RecordId) -> Result<Record> {
        call("recall", QUICK, |context| self.rpc.recall(context, id)).await
    }

    /// Forgets a document.
    pub async fn forget(&self, id: RecordId) -> Result<()> {
        call("forget", SLOW, |context| self.rpc.forget(context, id)).await
    }

    /// Lists documents without their bodies.
    pub async fn list(&self, request: ListRequest) -> Result<RecordList> {
        call("list", QUICK, |context| self.rpc.list(context, request)).await
    }

    /// Starts to turn texts into vectors; read its events with `events`.
    pub async fn embed(&self, request: EmbedRequest) -> Result<TranscriptId> {
        fits("inputs", &request)?;
        call("embed", QUICK, |context| self.rpc.embed(context, request, self.trace)).await
    }

    /// Starts to score documents for a query; read its events with `events`.
    pub async fn rerank(&self, request: RerankRequest) -> Result<TranscriptId> {
        fits("documents", &request)?;
        call("rerank", QUICK, |context| self.rpc.rerank(context, request, self.trace)).await
    }

    /// Lists the keys, oldest first, revoked ones too.
    pub async fn keys(&self) -> Result<Vec<KeyCard>> {
        call("keys", QUICK, |context| self.rpc.keys(context)).await
    }

    /// Makes a key; its secret is in this answer and nowhere else.
    pub async fn create_key(&self, request: CreateKeyRequest) -> Result<IssuedKey> {
        call("create_key", QUICK, |context| self.rpc.create_key(context, request)).await
    }

    /// Gives a key a new secret.
    pub async fn rotate_key(&self, request: RotateKeyRequest) -> Result<IssuedKey> {
        call("rotate_key", QUICK, |context| self.rpc.rotate_key(context, request)).await
    }

    /// Takes a key back for good, at once.
    pub async fn revoke_key(&self, id: &str) -> Result<KeyCard> {
        call("revoke_key", QUICK, |context| self.rpc.revoke_key(context, id.to_owned())).await
    }

    /// Returns who changed what.
    pub async fn audit(&self, request: AuditRequest) -> Result<AuditPage> {
        call("audit", QUICK, |context| self.rpc.audit(context, request)).await
    }

    /// Returns what was asked of which model.
    pub async fn requests(&self, request: RequestsRequest) -> Result<RequestsPage> {
        call("requests", QUICK, |context| self.rpc.requests(context, request)).await
    }

    /// Lists the settings that can be changed while the daemon runs, by name.
    pub async fn settings(&self) -> Result<Vec<Setting>> {
        call("settings", QUICK, |context| self.rpc.settings(context)).await
    }

    /// Changes settings, all of them or none, and returns them all.
    pub async fn change_settings(&self, request: ChangeSettingsRequest) -> Result<Vec<Setting>> {
        call("change_settings", QUICK, |context| self.rpc.change_settings(context, request)).await
    }

    /// Writes a copy of the database to a new file of this full path.
    pub async fn backup(&self, path: &str) -> Result<()> {
        call("backup", COPY, |context| self.rpc.backup(context, path.to_owned())).await
    }

    /// Returns what was counted since the daemon started.
    pub async fn metrics(&self) -> Result<Metrics> {
        call("metrics", QUICK, |context| self.rpc.metrics(context)).await
    }

    /// Returns what happened after a cursor; waits for the first.
    pub async fn watch(&self, request: WatchRequest) -> Result<News> {
        let limit = Duration::from_millis(request.wait_ms.into()) + READ_GRACE;
        call("watch", limit, |context| self.rpc.watch(context, request)).await
    }

    /// Hands over spans of traces, for the daemon to export.
    pub async fn report_spans(&self, spans: Vec<Span>) -> Result<()> {
        call("report_spans", QUICK, |context| self.rpc.report_spans(context, spans)).await
    }
}

/// Refuses a request whose frame cannot be sent: sending it would end the connection for everyone on it.
fn fits(param: &str, request: &impl Serialize) -> Result<()> {
    let bytes = encoded_bytes(request).map_err(|error| Error::internal(error.to_string()))?;
    if bytes + ENVELOPE_BYTES <= FRAME_BYTES_MAX {
        return Ok(());
    }
    let message = format!("the request is {bytes} bytes; at most {FRAME_BYTES_MAX} can be sent");
    Err(Error::invalid(param, message).hint(format!("shorten the {param}")))
}

/// Calls one verb, within a time limit; the only place that makes a context.
async fn call<T, F>(verb: &str, limit: Duration, send: impl FnOnce(Context) -> F) -> Result<T>
where
    F: Future<Output = std::result::Result<Result<T>, RpcError>>,
{
    let mut context = tarpc::context::current();
    context.deadline = Instant::now() + limit;
    // Requests that wait for their turn on the connection have the same limit, which their context does not see to.
    let answered = tokio::time::timeout(limit, send(context)).await.unwrap_or(Err(RpcError::DeadlineExceeded));
    answered.unwrap_or_else(|error| Err(broken(verb, limit, error)))
}

/// Says what a call that got no answer means.
fn broken(verb: &str, limit: Duration, error: RpcError) -> Error {
    match error {
        RpcError::DeadlineExceeded => {
            let message = format!("impetusd did not answer `{verb}` within {} s", limit.as_secs());
            Error::new(ErrorKind::DeadlineExceeded, message).hint("look into its log with `impetusctl logs`")
        }
        RpcError::Server(error) => unwrap_refusal(error),
        RpcError::Shutdown | RpcError::Send(_) | RpcError::Channel(_) => {
            Error::new(ErrorKind::Unreachable, "the connection to impetusd was lost")
                .hint("it was stopped or has crashed: see `impetusctl status` and `impetusctl logs`, then try again")
        }
    }
}
