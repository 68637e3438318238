//! Holds an answer to a shape: says at every position which tokens may come next.
//!
//! A [`Grammar`] is put together from texts, free stretches and [`Shape`]s (JSON schemas, regular expressions, choices,
//! Lark grammars). [`Grammars`] compiles it for one model's vocabulary, in bounded time and memory, and a [`Matcher`]
//! follows one answer. What a schema asks and nothing enforces is refused by name. It knows no request and no reader of
//! answers. The worker compiles beside its prompts and asks for masks while the model computes.

mod lark;
mod matcher;
mod schema;
#[cfg(test)]
mod tests;
mod trial;
mod vocabulary;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::Builder;
use std::time::Duration;

use llguidance::ParserFactory;
use llguidance::api::TopLevelGrammar;

use super::Tokenizer;

pub use self::matcher::{Allowed, Interrupt, Matcher};
pub use self::trial::try_grammar;

/// The longest text of all shapes of a grammar together.
const SHAPE_BYTES_MAX: usize = 512 << 10;
/// How long one grammar may take to compile.
const COMPILE_PATIENCE: Duration = Duration::from_secs(5);
/// How many compilations may be under way, given-up ones included.
const COMPILING_MAX: usize = 8;
/// Compilers descend into nested rules; memory is touched only as deep as they go.
const COMPILE_STACK: usize = 64 << 20;
/// How many compiled grammars are kept for requests that ask for the same again.
const KEPT_MAX: usize = 16;

/// What an answer, or a part of it, looks like.
#[derive(Clone, Debug, PartialEq)]
pub enum Grammar {
    /// Exactly this text. A special token of the model that is written so is meant as the token.
    Text(String),
    /// Something of a shape.
    Shape(Shape),
    /// Anything up to and including the first such text.
    Until(String),
    /// The same without any of these texts before it. Other special tokens may come before it, but for those that end answers.
    UntilWithout(String, Vec<String>),
    /// Anything in which none of these texts occurs. Other special tokens may, but for those that end answers.
    Without(Vec<String>),
    /// This, whose free stretches do not begin with this text; as a special token it does not occur in them.
    NotFirst(String, Box<Grammar>),
    /// One after the other.
    Sequence(Vec<Grammar>),
    /// One of these.
    Either(Vec<Grammar>),
    /// This or nothing.
    Optional(Box<Grammar>),
    /// This at least once and at most so often, with the separator between.
    Repeated {
        /// What is repeated.
        item: Box<Grammar>,
        /// What stands between two.
        separator: String,
        /// The most repetitions.
        most: u32,
    },
}

/// A shape that a caller asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// JSON of a schema.
    Json {
        /// The schema.
        schema: serde_json::Value,
        /// Whether what cannot be enforced is refused, and not left out.
        strict: bool,
    },
    /// A whole match of a regular expression.
    Regex(String),
    /// One of these texts.
    Choice(Vec<String>),
    /// A Lark grammar; its rule `start` is the whole.
    Lark(String),
}

/// Why there is no grammar, or no next token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrammarError {
    /// A schema asks for something that is not enforced.
    #[error("the schema uses {feature} at {path}, which is not enforced here")]
    NotEnforced {
        /// The keyword or value.
        feature: String,
        /// Where it stands, as a JSON pointer; `#` is the root.
        path: String,
    },
    /// A shape is malformed or asks for the impossible.
    #[error("{0}")]
    Invalid(String),
    /// A shape is larger than what is compiled here.
    #[error("the {what} has {value}; the most is {most}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// How large it is.
        value: usize,
        /// The most.
        most: usize,
    },
    /// Compiling takes too long.
    #[error("the grammar does not compile within {} seconds; make it smaller", COMPILE_PATIENCE.as_secs())]
    TooSlow,
    /// Compiling takes too much memory.
    #[error("the grammar takes more than {} MiB of memory to compile; make it smaller", .0 >> 20)]
    TooMuchMemory(u64),
    /// Others compile already.
    #[error("too many grammars are being compiled already")]
    Busy,
    /// An answer cannot go on; the grammar has no continuation in this vocabulary, or became too complex.
    #[error("the grammar cannot be followed any further: {0}")]
    Stuck(String),
}

/// A grammar in the language of the grammar engine, of sizes that may be compiled.
pub struct Written {
    whole: TopLevelGrammar,
    text: String,
}

impl Written {
    /// The whole of it, for [`try_grammar`].
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// Compiles grammars for one model's vocabulary; cloning it shares it.
#[derive(Clone)]
pub struct Grammars {
    inner: Arc<Inner>,
}

struct Inner {
    tokenizer: Tokenizer,
    /// The tokens that end an answer.
    eos: Vec<u32>,
    /// The special tokens that do not.
    free: Vec<u32>,
    /// How many tokens the model scores.
    vocabulary: u32,
    /// Made at the first use: most models never need one.
    factory: OnceLock<Result<ParserFactory, GrammarError>>,
    kept: Mutex<VecDeque<(String, llguidance::Matcher)>>,
    compiling: AtomicUsize,
}

impl Grammars {
    /// Grammars of a model that scores `vocabulary` tokens and ends its answers with `eos`.
    pub fn new(tokenizer: &Tokenizer, eos: &[u32], vocabulary: u32) -> Self {
        let inner = Inner {
            tokenizer: tokenizer.clone(),
            free: (0..vocabulary).filter(|token| tokenizer.is_special(*token) && !eos.contains(token)).collect(),
            eos: eos.iter().copied().filter(|token| *token < vocabulary).collect(),
            vocabulary,
            factory: OnceLock::new(),
            kept: Mutex::new(VecDeque::new()),
            compiling: AtomicUsize::new(0),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Compiles a grammar, or takes it from the last few. The first call of all also lays out the vocabulary.
    pub fn compile(&self, grammar: &Grammar) -> Result<Matcher, GrammarError> {
        self.compile_written(self.write(grammar)?)
    }

    /// Writes a grammar for the grammar engine; what a caller may not ask is refused here.
    pub fn write(&self, grammar: &Grammar) -> Result<Written, GrammarError> {
        let whole = lark::render(grammar, &self.inner.tokenizer, &self.inner.free)?;
        let text = serde_json::to_string(&whole).map_err(|error| GrammarError::Invalid(error.to_string()))?;
        Ok(Written { whole, text })
    }

    /// Whether it is among the last few that were compiled.
    pub fn has(&self, written: &Written) -> bool {
        let kept = self.inner.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().any(|(known, _)| *known == written.text)
    }

    /// Compiles what was written. A stranger's grammar is first tried in another process, as what it takes of time and
    /// memory can only be bounded there.
    pub fn compile_written(&self, written: Written) -> Result<Matcher, GrammarError> {
        let Written { whole, text } = written;
        let made = match self.inner.kept(&text) {
            Some(made) => made,
            None => {
                let made = self.compile_aside(whole)?;
                self.inner.keep(text, made.deep_clone());
                made
            }
        };
        Ok(Matcher::new(made, self.inner.eos.clone(), self.inner.vocabulary))
    }

    /// Compiles on a thread with a deep stack, and gives up on it when it takes too long.
    fn compile_aside(&self, whole: TopLevelGrammar) -> Result<llguidance::Matcher, GrammarError> {
        if self.inner.compiling.fetch_add(1, Ordering::Relaxed) >= COMPILING_MAX {
            self.inner.compiling.fetch_sub(1, Ordering::Relaxed);
            return Err(GrammarError::Busy);
        }
        let (sender, made) = sync_channel(1);
        let inner = self.inner.clone();
        let begun = Builder::new().name("grammar".to_string()).stack_size(COMPILE_STACK).spawn(move || {
            let compiled = inner.compile(whole);
            inner.compiling.fetch_sub(1, Ordering::Relaxed);
            // Nobody listens any more once it was given up.
            let _ = sender.send(compiled);
        });
        if let Err(error) = begun {
            self.inner.compiling.fetch_sub(1, Ordering::Relaxed);
            return Err(GrammarError::Invalid(format!("a thread cannot be started: {error}")));
        }
        match made.recv_timeout(COMPILE_PATIENCE) {
            Ok(compiled) => compiled,
            Err(RecvTimeoutError::Timeout) => Err(GrammarError::TooSlow),
            Err(RecvTimeoutError::Disconnected) => {
                Err(GrammarError::Invalid("the grammar compiler failed".to_string()))
            }
        }
    }
}

impl Inner {
    fn compile(&self, whole: TopLevelGrammar) -> Result<llguidance::Matcher, GrammarError> {
        let make = || vocabulary::factory(&self.tokenizer, &self.eos, self.vocabulary);
        let factory = self.factory.get_or_init(make).as_ref().map_err(Clone::clone)?;
        let parser = factory.create_parser(whole).map_err(|error| GrammarError::Invalid(matcher::words(&error)))?;
        let made = llguidance::Matcher::new(Ok(parser)).into_cancellable();
        // What has no first token, as a schema that refers to itself alone has none, is told now and not in mid-answer.
        match made.deep_clone().compute_mask_or_eos() {
            Ok(_) => Ok(made),
            Err(error) => Err(GrammarError::Invalid(format!("no answer fits the grammar: {}", matcher::words(&error)))),
        }
    }

    fn kept(&self, key: &str) -> Option<llguidance::Matcher> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let at = kept.iter().position(|(known, _)| known == key)?;
        let entry = kept.remove(at)?;
        let made = entry.1.deep_clone();
        kept.push_back(entry);
        Some(made)
    }

    fn keep(&self, key: String, made: llguidance::Matcher) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEPT_MAX {
            kept.pop_front();
        }
        kept.push_back((key, made));
    }
}
