//! The daemon's side of the protocol: one line per verb. Each decodes, calls and encodes in `service/`; what is
//! decided is decided in `supervisor`, `admission` and `residency`. Called by `protocol::server` for each request.

mod encode;
mod generation;
mod keys;
mod models;
mod pull;
mod records;
mod status;
mod text;

use std::sync::Arc;

use protocol::Result;
use protocol::encode::{EmbedRequest, RerankRequest};
use protocol::generation::GenerateRequest;
use protocol::model::{AddRequest, LoadRequest, ModelCard, PullRequest, RemoveRequest};
use protocol::record::{KeepRequest, ListRequest, Record, RecordCard, RecordId, RecordList};
use protocol::service::Impetus;
use protocol::status::{Bridge, Hello, Principal, Status, StopRequest, Welcome};
use protocol::text::{DetokenizeRequest, TokenizeRequest, Tokens};
use protocol::transcript::{Page, ReadRequest, TranscriptId};
use tarpc::context::Context;

use crate::admission::Whole;
use crate::session::Session;
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
        status::handshake(&self.0, &hello)
    }
    async fn status(self, _: Context) -> Result<Status> {
        status::status(&self.0.daemon).await
    }

    async fn begin(self, _: Context, request: GenerateRequest) -> Result<TranscriptId> {
        generation::begin(&self.0, request).await
    }
    async fn read(self, _: Context, request: ReadRequest) -> Result<Page> {
        generation::read(&self.0, request).await
    }
    async fn cancel(self, _: Context, id: TranscriptId) -> Result<()> {
        generation::cancel(&self.0, id).await
    }

    async fn models(self, _: Context) -> Result<Vec<ModelCard>> {
        models::list(&self.0.daemon).await
    }
    async fn add(self, _: Context, request: AddRequest) -> Result<ModelCard> {
        models::add(&self.0.daemon, request).await
    }
    async fn remove(self, _: Context, request: RemoveRequest) -> Result<()> {
        models::remove(&self.0.daemon, request).await
    }
    async fn pull(self, _: Context, request: PullRequest) -> Result<TranscriptId> {
        pull::pull(&self.0, request).await
    }
    async fn load(self, _: Context, request: LoadRequest) -> Result<TranscriptId> {
        models::load(&self.0, request).await
    }
    async fn unload(self, _: Context, model: String) -> Result<()> {
        models::unload(&self.0.daemon, model).await
    }

    async fn first_key(self, _: Context) -> Result<String> {
        keys::first_key(&self.0.daemon).await
    }
    async fn authenticate(self, _: Context, key: String) -> Result<Principal> {
        keys::authenticate(&self.0.daemon, &key).await
    }
    async fn announce(self, _: Context, bridge: Bridge) -> Result<()> {
        status::announce(&self.0, bridge)
    }
    async fn stop(self, _: Context, request: StopRequest) -> Result<()> {
        status::stop(&self.0.daemon, request).await
    }

    async fn tokenize(self, _: Context, request: TokenizeRequest) -> Result<Tokens> {
        text::tokenize(&self.0, request).await
    }
    async fn detokenize(self, _: Context, request: DetokenizeRequest) -> Result<String> {
        text::detokenize(&self.0, request).await
    }

    async fn keep(self, _: Context, request: KeepRequest) -> Result<RecordCard> {
        records::keep(&self.0, request).await
    }
    async fn recall(self, _: Context, id: RecordId) -> Result<Record> {
        records::recall(&self.0, id).await
    }
    async fn forget(self, _: Context, id: RecordId) -> Result<()> {
        records::forget(&self.0, id).await
    }
    async fn list(self, _: Context, request: ListRequest) -> Result<RecordList> {
        records::list(&self.0, request).await
    }
    async fn embed(self, _: Context, request: EmbedRequest) -> Result<TranscriptId> {
        encode::begin(&self.0, Whole::Embed(request)).await
    }
    async fn rerank(self, _: Context, request: RerankRequest) -> Result<TranscriptId> {
        encode::begin(&self.0, Whole::Rerank(request)).await
    }
}
