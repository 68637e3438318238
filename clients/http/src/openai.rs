//! The OpenAI dialect: its requests become `GenerateRequest`s, its responses are made from events.
//!
//! `request` and `response` hold the words; `chat`, `completions` and `models` are the endpoints;
//! `chunks` streams an answer and `prompts` joins several. Nothing outside this folder knows these shapes.

pub mod chat;
pub mod chunks;
pub mod completions;
pub mod models;
pub mod prompts;
pub mod request;
pub mod response;
