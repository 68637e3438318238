//! What `impetusd` and one `impetus-worker` say to each other, over the worker's standard input and output.
//!
//! Frames are a little-endian u32 length and a bincode body (`protocol::wire`). The worker ends when its input ends,
//! so it never outlives the daemon. This crate holds words and framing only: supervision is impetusd's, work is
//! the worker's. It is private: both programs are always of the same build.

use std::io::{Read, Write};

use protocol::Error;
use protocol::encode::{Input, Overlong};
use protocol::generation::{FinishReason, GenerateRequest, Priority};
use protocol::measures::Measures;
use protocol::model::ModelFacts;
use protocol::text::{DetokenizeRequest, TokenizeRequest, Tokens};
use protocol::trace::TraceParent;
use protocol::transcript::Event;
use serde::{Deserialize, Serialize};

/// The longest frame either side accepts, in bytes.
pub const FRAME_BYTES_MAX: usize = 64 << 20;

/// What the worker program says while it makes a model folder of a GGUF file: a line of JSON each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Importing {
    /// Bytes of tensors that are done, of how many.
    Progress {
        /// Done.
        done: u64,
        /// Of so many.
        total: u64,
    },
    /// The folder is whole; nothing follows.
    Done(Imported),
    /// It is of no use; nothing follows.
    Failed(Error),
}

/// What an import made of a file.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Imported {
    /// Tensors whose numbers moved, because no form that is served holds them exactly.
    pub requantized: u32,
    /// How far those moved, as a share of their size.
    pub moved: f64,
}

/// Names one generation on this pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct WorkId(pub u64);

/// What the daemon tells a worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToWorker {
    /// Loads the model; always the first message.
    Open(Open),
    /// Answers a request.
    Submit(Box<Submit>),
    /// Drops a request; its blocks are free within one step.
    Cancel(WorkId),
    /// Takes no more requests, finishes the running ones and exits.
    Drain,
    /// Asks what the model's text side makes of something; answered once, whatever else goes on.
    Ask(Ask),
    /// Reads texts whole, for vectors or scores; only a model that embeds or reranks is asked.
    Encode(Box<Encode>),
}

/// Names one question on this pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AskId(pub u64);

/// A question to the text side of a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ask {
    /// Its name on this pipe.
    pub id: AskId,
    /// What is asked.
    pub question: Question,
    /// When the daemon received it, in milliseconds since 1970; templates that print a date use this.
    pub received_unix_ms: i64,
}

/// What the text side of a model can be asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Question {
    /// Which tokens a prompt becomes.
    Tokenize(TokenizeRequest),
    /// Which text tokens spell.
    Detokenize(DetokenizeRequest),
}

/// What a question came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Answer {
    /// To `Tokenize`.
    Tokens(Tokens),
    /// To `Detokenize`.
    Text(String),
}

/// Which model to load, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Open {
    /// The model's folder.
    pub path: String,
    /// The name its answers carry.
    pub name: String,
    /// Compute threads.
    pub threads: u32,
    /// Bytes of memory that the KV cache may take.
    pub kv_bytes: u64,
    /// How it keeps keys and values.
    pub keep: Keep,
    /// The most sequences in one step.
    pub sequences_max: u32,
    /// The most requests waiting; one more is refused as busy.
    pub waiting_max: u32,
    /// The most prompt tokens computed in one step.
    pub prefill_tokens_max: u32,
    /// How long a step that computes prompts may take, in milliseconds; the worker learns how many tokens that is.
    pub step_ms: u32,
    /// The folder of the model that guesses for this one; it must have the same vocabulary.
    pub draft: Option<String>,
    /// The most tokens that are guessed ahead for one sequence in one step; 0 guesses nothing.
    pub draft_tokens_max: u32,
    /// Where prefixes that memory has no room for are put away; `None` keeps them in memory only.
    pub shelf: Option<Shelf>,
    /// Whether a first step is run before the worker says it is ready.
    pub warm_up: bool,
}

/// How a worker keeps keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Keep {
    /// In 16 bits.
    Bf16,
    /// In 8 bits, with scales.
    Int8,
}

impl Keep {
    /// Bytes that a token takes at most, of a model whose tokens take so many in bf16. In int8, a head of 32 dimensions
    /// has 72 bytes for 128; larger ones a little less.
    pub fn bytes_per_token(self, bf16: u64) -> u64 {
        match self {
            Keep::Bf16 => bf16,
            Keep::Int8 => bf16.saturating_mul(9).div_ceil(16),
        }
    }
}

/// Where a worker puts prefixes away, and how much of them. All workers may share one folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shelf {
    /// The folder.
    pub dir: String,
    /// The folder in it for what is put away of this model.
    pub model: String,
    /// The most bytes in it.
    pub bytes_max: u64,
    /// The most bytes written to it in a day.
    pub day_bytes_max: u64,
    /// What its files are sealed with; `None` leaves them open.
    pub key: Option<ShelfKey>,
}

/// A key that is never printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShelfKey(pub [u8; 32]);

impl std::fmt::Debug for ShelfKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("redacted")
    }
}

/// A request and, after a worker's death, what of its answer was already delivered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Submit {
    /// Its name on this pipe.
    pub id: WorkId,
    /// What is asked.
    pub request: GenerateRequest,
    /// Who asks: requests of one client share its turns.
    pub client: u64,
    /// Whose prefixes it may reuse: requests of one salt share theirs.
    pub salt: u64,
    /// The seed in use.
    pub seed: u64,
    /// When the daemon received it, in milliseconds since 1970; templates that print a date use this.
    pub received_unix_ms: i64,
    /// What was delivered before, one entry per choice; empty for a new request.
    pub delivered: Vec<Delivered>,
    /// How many tokens of the prompt were reported before, where they are asked for.
    pub prompt_told: u32,
    /// How many tokens prompt and answers may take together; `None` sets no limit.
    pub tokens_allowed: Option<u64>,
    /// Where it stands in a trace, for logs.
    pub trace: Option<TraceParent>,
}

/// Texts to be read whole; after a worker's death only those without a result are sent again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Encode {
    /// Its name on this pipe.
    pub id: WorkId,
    /// What is asked.
    pub task: EncodeTask,
    /// What becomes of a text that is too long.
    pub overlong: Overlong,
    /// Who goes first.
    pub priority: Priority,
    /// How many tokens the texts may have together; `None` sets no limit.
    pub tokens_allowed: Option<u64>,
    /// Where it stands in a trace, for logs.
    pub trace: Option<TraceParent>,
}

/// What is asked of texts that are read whole; each has the index of its result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum EncodeTask {
    /// Their vectors.
    Embed {
        /// The texts.
        inputs: Vec<(u32, Input)>,
        /// How many numbers a vector has.
        dimensions: Option<u32>,
        /// The most tokens of a text, where the model's context has more.
        tokens_max: Option<u32>,
    },
    /// Their scores.
    Rerank {
        /// What they are to answer.
        query: String,
        /// The texts.
        documents: Vec<(u32, String)>,
    },
}

/// How far one choice had come when its worker died.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Delivered {
    /// Every token whose event the daemon has received.
    pub tokens: Vec<u32>,
    /// What its sampler had come to with the last of them, where tokens alone do not tell.
    pub sampler: Option<f64>,
    /// Why the choice ended, if it had.
    pub finished: Option<FinishReason>,
}

/// What a worker tells the daemon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum FromWorker {
    /// How much of the weights is read, in bytes.
    Loading {
        /// Bytes read.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// The model is in memory.
    Ready(Ready),
    /// The model cannot be loaded; the worker exits.
    LoadFailed(Error),
    /// Something happened to a request. After `Finished` or `Failed` the id is free.
    Event(WorkEvent),
    /// How the worker is: at least once a second while it has work, and after its last work ends.
    Pulse(Pulse),
    /// What a question came to; its id is then free.
    Answer(AskId, Result<Answer, Error>),
}

/// A model in memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ready {
    /// What was loaded.
    pub facts: ModelFacts,
    /// The compute device in words.
    pub device: String,
    /// Milliseconds that the load took.
    pub load_ms: u64,
    /// How the worker is.
    pub pulse: Pulse,
}

/// Something happened to a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkEvent {
    /// The request.
    pub id: WorkId,
    /// The tokens that a delta commits; the daemon keeps them to resume by. A delta without text still carries its token.
    pub tokens: Vec<u32>,
    /// What the choice's sampler has come to with them, where tokens alone do not tell; the daemon keeps it to resume by.
    pub sampler: Option<f64>,
    /// What happened.
    pub event: Event,
}

/// How a worker is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pulse {
    /// Requests being answered.
    pub running: u32,
    /// Requests waiting.
    pub waiting: u32,
    /// KV blocks in use by requests.
    pub blocks_used: u32,
    /// KV blocks in all.
    pub blocks_total: u32,
    /// Bytes of memory the process holds.
    pub memory_bytes: u64,
    /// What it has counted and timed since the start.
    pub measures: Measures,
}

/// Why a pipe ended.
#[derive(Debug, thiserror::Error)]
pub enum PipeError {
    /// The other side is gone.
    #[error("the other end of the pipe is closed")]
    Closed,
    /// Reading or writing failed.
    #[error("the pipe failed: {0}")]
    Io(#[from] std::io::Error),
    /// A frame is longer than the limit.
    #[error("a frame of {bytes} bytes exceeds the limit of {FRAME_BYTES_MAX}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// A frame does not decode; the two programs are of different builds.
    #[error("a frame does not decode: {0}")]
    Malformed(String),
}

/// Writes one message and flushes it.
pub fn write<M: Serialize>(output: &mut impl Write, message: &M) -> Result<(), PipeError> {
    let body = encode(message)?;
    output.write_all(&body)?;
    output.flush()?;
    Ok(())
}

/// Encodes one message with its length in front.
pub fn encode<M: Serialize>(message: &M) -> Result<Vec<u8>, PipeError> {
    let body = protocol::wire::encode(message).map_err(|error| PipeError::Malformed(error.to_string()))?;
    if body.len() > FRAME_BYTES_MAX {
        return Err(PipeError::TooLong { bytes: body.len() });
    }
    let mut frame = Vec::with_capacity(4 + body.len());
    frame.extend_from_slice(&(body.len() as u32).to_le_bytes());
    frame.extend_from_slice(&body);
    Ok(frame)
}

/// Reads one message; `Closed` if the other side ended between frames.
pub fn read<M: for<'de> Deserialize<'de>>(input: &mut impl Read) -> Result<M, PipeError> {
    let mut length = [0_u8; 4];
    match input.read_exact(&mut length) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Err(PipeError::Closed),
        Err(error) => return Err(PipeError::Io(error)),
    }
    let bytes = u32::from_le_bytes(length) as usize;
    if bytes > FRAME_BYTES_MAX {
        return Err(PipeError::TooLong { bytes });
    }
    let mut body = vec![0; bytes];
    input.read_exact(&mut body)?;
    decode(&body)
}

/// Decodes the body of one frame.
pub fn decode<M: for<'de> Deserialize<'de>>(body: &[u8]) -> Result<M, PipeError> {
    protocol::wire::decode(body).map_err(|error| PipeError::Malformed(error.to_string()))
}
