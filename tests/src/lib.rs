//! The kit: what it takes to look at the house from outside.
//!
//! `answer` reads generations; `collector` takes traces, `programs` builds and finds the binaries, `house` starts them in a home
//! of their own, `ctl` runs the command line, `model` writes small models, `http` speaks raw HTTP, `hub` gives models away,
//! `process` kills, `storm` kills again and again, `wait` waits for conditions, `ws` watches. Tests in `it/` use the product
//! through these alone; the kit asserts nothing of its own and is used by nothing else but `benches`.

#![allow(clippy::unwrap_used, clippy::panic)]

pub mod answer;
pub mod collector;
pub mod ctl;
pub mod house;
pub mod http;
pub mod hub;
pub mod model;
pub mod process;
pub mod programs;
pub mod storm;
pub mod wait;
pub mod ws;
