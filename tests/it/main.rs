//! The house seen from outside: one binary, one file a concern. `tidy` checks that no file is forgotten.

#![allow(clippy::unwrap_used, clippy::panic)]

mod access;
mod admin;
mod anthropic;
mod batches;
mod begun;
mod bridge;
mod cli;
mod echo;
mod embed;
mod faults;
mod generate;
mod gguf;
mod http;
mod infill;
mod llama;
mod login;
mod metrics;
mod ollama;
mod openapi;
mod prefixes;
mod quotas;
mod redis;
mod responses;
mod sessions;
mod shapes;
mod slow;
mod sockets;
mod stranger;
mod strict;
mod tidy;
mod tokens;
mod traces;
mod words;
mod ws;
