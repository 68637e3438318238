//! From a request to texts that can be computed: made of tokens, and measured against the model's context.
//!
//! It works on a thread of its own behind a bounded queue. What is too long is refused with the figures, or cut where the
//! request allows that, and then the result says so. Questions about tokens are answered here too: there are no prompts.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use engine::LoadError;
use engine::encoder::Manner;
use engine::text::{TextError, Tokenizer, Whole, read_enough};
use pipe::{Answer, Ask, Encode, EncodeTask, FromWorker, Question, WorkId};
use protocol::encode::{Input, Overlong};
use protocol::generation::Prompt;
use protocol::model::ModelFacts;
use protocol::text::{Special, TokenizeRequest, Tokens};
use protocol::{Error, ErrorKind};

use super::queue::{Item, Request};
use crate::emit::Emitter;
use crate::inbox::Message;
use crate::lookout::{For, Lookout};
use crate::prompt::ask::{Words, special};
use crate::quota;

/// What the thread is to do.
pub enum Job {
    /// Turns the texts of a request into tokens.
    Encode {
        /// What is asked.
        encode: Encode,
        /// When it arrived.
        arrived: Instant,
    },
    /// Answers a question.
    Ask(Ask),
}

/// What came of a job.
pub struct Read {
    /// Its name on the pipe.
    pub(super) work: WorkId,
    /// The request, or why there is none.
    pub(super) result: Result<Request, Error>,
}

/// How long the texts of a request may be.
#[derive(Clone, Copy)]
struct Bound {
    /// The most tokens.
    most: u32,
    /// What becomes of one that has more.
    overlong: Overlong,
}

/// Turns texts into tokens.
pub struct Reader {
    model: String,
    tokenizer: Tokenizer,
    context: u32,
    vocabulary: u32,
    /// How long a vector is.
    dimensions: Option<u32>,
    manner: Manner,
}

impl Reader {
    /// Reads the text side of a model folder.
    pub fn open(dir: &Path, model: &str, facts: &ModelFacts) -> Result<Self, LoadError> {
        let (context, vocabulary, dimensions) = (facts.context_length, facts.vocabulary, facts.dimensions);
        let (tokenizer, manner) = (Tokenizer::open(dir)?, Manner::of(dir)?);
        Ok(Self { model: model.to_owned(), tokenizer, context, vocabulary, dimensions, manner })
    }

    /// Works until nobody sends jobs or nobody hears of the results.
    pub fn run(&self, jobs: &Receiver<Job>, inbox: &SyncSender<Message>, answers: &Emitter, lookout: &Lookout) {
        while let Ok(job) = jobs.recv() {
            let heard = match job {
                Job::Encode { encode, arrived } => {
                    let work = encode.id;
                    let result = lookout.watch(For::Work(work), || survive(|| self.read(encode, arrived)));
                    inbox.send(Message::Read(Read { work, result })).is_ok()
                }
                Job::Ask(Ask { id, question, .. }) => {
                    let result = lookout.watch(For::Ask(id), || survive(|| self.answer(&question)));
                    answers.send(FromWorker::Answer(id, result)).is_ok()
                }
            };
            if !heard {
                return;
            }
        }
    }

    fn answer(&self, question: &Question) -> Result<Answer, Error> {
        let words = Words { model: &self.model, tokenizer: &self.tokenizer, vocabulary: self.vocabulary };
        match question {
            Question::Tokenize(request) => self.tokenize(&words, request).map(Answer::Tokens),
            Question::Detokenize(request) => words.detokenize(request).map(Answer::Text),
        }
    }

    fn tokenize(&self, words: &Words<'_>, request: &TokenizeRequest) -> Result<Tokens, Error> {
        let tokens = match &request.prompt {
            Prompt::Text(text) => words.encode(text, |text| match request.special {
                // Around a text stands more than before it.
                Special::Begin => self.tokenizer.whole(&self.manner.put(text)).map(|whole| whole.tokens),
                other => self.tokenizer.encode(text, special(other)),
            })?,
            Prompt::Tokens(tokens) => {
                words.known("prompt", tokens)?;
                tokens.clone()
            }
            Prompt::Chat(_) => {
                let message = format!("{} reads whole texts; it has no prompts for conversations", self.model);
                let hint = "send a text, or use a model that generates text";
                return Err(Error::new(ErrorKind::Unsupported, message).param("model").hint(hint));
            }
        };
        words.reply(None, tokens, request.pieces)
    }

    fn read(&self, encode: Encode, arrived: Instant) -> Result<Request, Error> {
        let Encode { id, task, overlong, priority, tokens_allowed, trace: _ } = encode;
        let (texts, dimensions) = match task {
            EncodeTask::Embed { inputs, dimensions, tokens_max } => {
                let Some(all) = self.dimensions else { return Err(mismatch("embed")) };
                let bound = Bound { most: self.context.min(tokens_max.unwrap_or(u32::MAX)), overlong };
                let fit = |(index, input)| self.input(id, index, input, bound);
                (inputs.into_iter().map(fit).collect::<Result<_, _>>()?, Some(dimensions.unwrap_or(all) as usize))
            }
            EncodeTask::Rerank { query, documents } => {
                if self.dimensions.is_some() {
                    return Err(mismatch("rerank"));
                }
                let bound = Bound { most: self.context, overlong };
                let (whole, more) = self.enough(&query, |query| self.tokenizer.whole(query), bound, "query")?;
                if whole.tokens.len() > self.context as usize {
                    return Err(self.too_long("query", "the query", whole.tokens.len(), more, bound));
                }
                let fit = |(index, document): (u32, String)| self.document(id, index, &query, &document, bound);
                (documents.into_iter().map(fit).collect::<Result<_, _>>()?, None)
            }
        };
        let request = Request::new(id, priority, dimensions, arrived, texts);
        quota::check(tokens_allowed, request.tokens().into(), now_unix_ms())?;
        Ok(request)
    }

    fn input(&self, work: WorkId, index: u32, input: Input, bound: Bound) -> Result<Item, Error> {
        match input {
            Input::Text(text) => {
                let whole = self.enough(&self.manner.put(&text), |text| self.tokenizer.whole(text), bound, "inputs")?;
                self.fit("inputs", work, index, whole, bound)
            }
            Input::Tokens(mut tokens) => {
                let cut = self.check("inputs", index, tokens.len(), None, bound)?;
                tokens.truncate(bound.most as usize);
                if let Some(token) = tokens.iter().find(|token| **token >= self.vocabulary) {
                    let message = format!("input {index} holds token {token}; the model knows {}", self.vocabulary);
                    return Err(Error::invalid("inputs", message));
                }
                Ok(Item { work, index, tokens, segments: Vec::new(), cut })
            }
        }
    }

    fn document(&self, work: WorkId, index: u32, query: &str, document: &str, bound: Bound) -> Result<Item, Error> {
        let read = |document: &str| match self.manner.judges {
            true => self.tokenizer.question(query, document),
            false => self.tokenizer.pair(query, document),
        };
        let whole = self.enough(document, read, bound, "documents")?;
        self.fit("documents", work, index, whole, bound)
    }

    /// Reads a text, or as much of a long one as tells that it is too long; then it has more tokens than are named.
    fn enough(
        &self,
        text: &str,
        read: impl Fn(&str) -> Result<Whole, TextError>,
        bound: Bound,
        param: &str,
    ) -> Result<(Whole, Option<usize>), Error> {
        let enough = read_enough(text, bound.most as usize, read, |whole| whole.tokens.len());
        enough.map_err(|error| unreadable(param, &error))
    }

    /// Measures a text, and cuts it where that is asked.
    fn fit(
        &self,
        param: &str,
        work: WorkId,
        index: u32,
        (mut whole, more): (Whole, Option<usize>),
        bound: Bound,
    ) -> Result<Item, Error> {
        let cut = self.check(param, index, whole.tokens.len(), more, bound)?;
        if cut && !whole.cut(bound.most as usize) {
            let message = format!("{}, and what surrounds the text at {index} takes more", self.says(bound));
            let param = if param == "documents" { "query" } else { param };
            return Err(Error::new(ErrorKind::ContextLengthExceeded, message).param(param).hint("shorten it"));
        }
        Ok(Item { work, index, tokens: whole.tokens, segments: whole.segments, cut })
    }

    /// Whether a text of so many tokens is to be cut; an error where it may not be.
    fn check(&self, param: &str, index: u32, tokens: usize, more: Option<usize>, bound: Bound) -> Result<bool, Error> {
        if tokens == 0 {
            return Err(Error::invalid(param, format!("the text at {index} has no tokens")));
        }
        if tokens <= bound.most as usize {
            return Ok(false);
        }
        if bound.overlong == Overlong::Cut {
            return Ok(true);
        }
        Err(self.too_long(param, &format!("the text at {index}"), tokens, more, bound))
    }

    /// Refuses a text of so many tokens, or of more than are named.
    fn too_long(&self, param: &str, text: &str, tokens: usize, more: Option<usize>, bound: Bound) -> Error {
        let tokens = more.map_or(tokens.to_string(), |more| format!("more than {more}"));
        let message = format!("{}, and {text} has {tokens}", self.says(bound));
        let hint = "shorten or split it, or allow that its end is left out";
        Error::new(ErrorKind::ContextLengthExceeded, message).param(param).hint(hint)
    }

    /// Who bounds a text, and where.
    fn says(&self, Bound { most, .. }: Bound) -> String {
        let whose = if most < self.context { "This request's" } else { "This model's" };
        format!("{whose} maximum context length is {most} tokens")
    }
}

/// Nothing here changes while a text is read, so a defect that one text brings to light ends one request.
fn survive<T>(read: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(read))
        .unwrap_or_else(|_| Err(Error::internal("reading the texts failed; the log has the cause")))
}

fn now_unix_ms() -> i64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX)
}

fn unreadable(param: &str, error: &TextError) -> Error {
    Error::invalid(param, error.to_string())
}

/// The daemon asks only what the facts allow.
fn mismatch(verb: &str) -> Error {
    Error::new(ErrorKind::Unsupported, format!("this model does not {verb}")).param("model")
}
