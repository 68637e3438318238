//! A batch: as clients receive it, and with what else is kept of it.

use protocol::client::Client;
use protocol::record::{Collection, RecordCard};
use protocol::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::openai::files::TTL_SECONDS;
use crate::openai::files::kept::{find, put};

/// For how many seconds a batch is worked on.
pub const WINDOW_SECONDS: u64 = 24 * 3600;

/// What the label of a record says of a batch that is to be worked on, and of one that has ended.
pub const OPEN: &str = "open";
const ENDED: &str = "ended";

/// Where a batch is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = BatchStatus)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Its file is to be read.
    Validating,
    /// Its file is not what it must be.
    Failed,
    /// Its requests are being answered.
    InProgress,
    /// Its answers are being written.
    Finalizing,
    /// Everything is answered.
    Completed,
    /// Its time was over first.
    Expired,
    /// Its client no longer wants it.
    Cancelling,
    /// It was given up.
    Cancelled,
}

impl Status {
    /// Whether nothing more will be done.
    pub fn ended(self) -> bool {
        matches!(self, Self::Failed | Self::Completed | Self::Expired | Self::Cancelled)
    }
}

/// Which endpoint a batch asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = BatchEndpoint)]
pub enum Endpoint {
    /// Conversations.
    #[serde(rename = "/v1/chat/completions")]
    Chat,
    /// Raw prompts.
    #[serde(rename = "/v1/completions")]
    Completions,
    /// Vectors.
    #[serde(rename = "/v1/embeddings")]
    Embeddings,
    /// Responses.
    #[serde(rename = "/v1/responses")]
    Responses,
}

impl Endpoint {
    /// Returns its path.
    pub fn path(self) -> &'static str {
        match self {
            Self::Chat => "/v1/chat/completions",
            Self::Completions => "/v1/completions",
            Self::Embeddings => "/v1/embeddings",
            Self::Responses => "/v1/responses",
        }
    }
}

/// A batch, as clients receive it. Times are in seconds since 1970.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[schema(as = Batch)]
pub struct Batch {
    /// `batch_…`.
    pub id: String,
    /// Always `batch`.
    pub object: String,
    /// What its requests ask.
    pub endpoint: Endpoint,
    /// What is wrong with its file.
    pub errors: Option<Faults>,
    /// The file of its requests.
    pub input_file_id: String,
    /// `24h`.
    pub completion_window: String,
    /// Where it is in its life.
    pub status: Status,
    /// The file of its answers, once there is one.
    pub output_file_id: Option<String>,
    /// The file of what failed, if anything did.
    pub error_file_id: Option<String>,
    /// When it was asked for.
    pub created_at: u64,
    /// Since when its requests are answered.
    pub in_progress_at: Option<u64>,
    /// When it is given up.
    pub expires_at: u64,
    /// Since when its answers are written.
    pub finalizing_at: Option<u64>,
    /// When it was whole.
    pub completed_at: Option<u64>,
    /// When it failed.
    pub failed_at: Option<u64>,
    /// When its time was over.
    pub expired_at: Option<u64>,
    /// When its client gave it up.
    pub cancelling_at: Option<u64>,
    /// When the work ended after that.
    pub cancelled_at: Option<u64>,
    /// How far it is.
    pub request_counts: Counts,
    /// Its client's notes.
    #[schema(value_type = Option<HashMap<String, String>>)]
    pub metadata: Option<Map<String, Value>>,
}

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = BatchErrors)]
pub struct Faults {
    /// Always `list`.
    pub object: String,
    /// The first of what is wrong.
    pub data: Vec<Fault>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = BatchError)]
pub struct Fault {
    /// In a word.
    pub code: String,
    /// In a sentence.
    pub message: String,
    /// The member at fault.
    pub param: Option<String>,
    /// The line at fault, from 1.
    pub line: Option<u64>,
}

/// How many requests a batch has, and what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = BatchCounts)]
pub struct Counts {
    /// All of them.
    pub total: usize,
    /// Those that were answered.
    pub completed: usize,
    /// Those that failed.
    pub failed: usize,
}

/// What is kept of a batch.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Kept {
    /// What clients receive.
    pub batch: Batch,
    /// The id of the key that asked for it, whose rights the work has.
    pub key: Option<String>,
    /// The bridge that works on it.
    pub bridge: Option<String>,
    /// What its files are called, from the start, so that whoever goes on finds what was written.
    pub output: String,
    /// The same for what failed.
    pub faults: String,
    /// For how many seconds its files are kept.
    pub files_seconds: u64,
}

impl Kept {
    /// Finds a batch and the card of its record.
    pub async fn find(client: &Client, id: &str) -> Result<(RecordCard, Self)> {
        find(client, Collection::Batches, "batch", id).await
    }

    /// Writes it over the version it was read at; returns the new one.
    pub async fn keep(&self, client: &Client, replaces: u64) -> Result<u64> {
        let label = if self.batch.status.ended() { ENDED } else { OPEN };
        let (seconds, replaces) = (WINDOW_SECONDS + TTL_SECONDS, Some(replaces));
        let card = put(client, Collection::Batches, &self.batch.id, label.to_owned(), self, replaces, seconds).await?;
        Ok(card.version)
    }

    /// Ends it, because what it was to read is not what it must be.
    pub fn fail(&mut self, faults: Vec<Fault>, now: u64) {
        self.batch.errors = Some(Faults { object: "list".to_owned(), data: faults });
        (self.batch.status, self.batch.failed_at) = (Status::Failed, Some(now));
    }

    /// Has it given up.
    pub fn cancel(&mut self, now: u64) -> Result<()> {
        if self.batch.status.ended() {
            let status = serde_json::to_value(self.batch.status).unwrap_or_default();
            let message = format!("The batch '{}' is {} already.", self.batch.id, status.as_str().unwrap_or_default());
            return Err(Error::new(protocol::ErrorKind::Conflict, message).param("id"));
        }
        (self.batch.status, self.batch.cancelling_at) = (Status::Cancelling, self.batch.cancelling_at.or(Some(now)));
        Ok(())
    }
}
