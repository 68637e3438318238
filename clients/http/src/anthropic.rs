//! The Anthropic dialect: its messages become `GenerateRequest`s, its content blocks are made from events.
//!
//! `messages` is the endpoint; `request`, `content` and `labels` read what clients send, `response` and `stream` shape what they
//! receive, `thoughts` belong to both, `error` is how refusals look. Nothing outside this folder knows these shapes.
//!
//! What clients may rely on: `max_tokens` beyond the context is cut to what the context leaves, because coding agents
//! ask for 32,000 and more of any model. `thinking` switches reasoning on and off; its budget is a wish of at most so
//! much, and a model is not stopped in the middle of a thought. `effort` reaches models whose template knows it as
//! `reasoning_effort`. `cache_control` changes nothing: every prompt's prefix
//! is cached without being asked. A tool that is deferred stands in the prompt from the first result on that refers to it.

pub mod content;
pub mod error;
pub mod labels;
pub mod messages;
pub mod request;
pub mod response;
pub mod stream;
pub mod thoughts;
