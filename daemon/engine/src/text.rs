//! Text on its way into a model and out of it: prompts to tokens, logits to tokens, tokens to text.
//!
//! `Template` turns a conversation into a prompt, `Tokenizer` a prompt into tokens, `Sampler` logits into a token, and
//! `Detokenizer` tokens into text that never breaks a character. `Grammars` says which tokens keep an answer in a shape.
//! `GenerationDefaults` is what a model's own files say
//! about ending and sampling. Nothing here knows a tensor, a request or a clock. The worker calls all of it.

pub(crate) mod charsmap;
mod detokenizer;
mod error;
mod files;
mod generation;
mod grammar;
mod license;
mod sampler;
mod template;
mod tokenizer;

pub use detokenizer::{Detokenizer, Start};
pub use error::TextError;
pub use generation::GenerationDefaults;
pub use grammar::{Allowed, Grammar, GrammarError, Grammars, Interrupt, Matcher, Shape, Written, try_grammar};
pub use license::license;
pub use sampler::{DrySettings, Mirostat, Sampled, Sampler, Sampling, SamplingError};
pub use template::{Compiled, Conversation, Template, TemplateError};
pub use tokenizer::{Special, Tokenizer, Whole, read_enough};
