//! The OpenAI dialect: its requests become `GenerateRequest`s, its responses are made from events.
//!
//! `request` and `response` hold the words; `chat`, `completions` and `models` are the endpoints; `answer` gathers a
//! whole answer and `chunks` streams one. Nothing outside this folder knows these shapes.

pub mod answer;
pub mod chat;
pub mod chunks;
pub mod completions;
pub mod models;
pub mod request;
pub mod response;
