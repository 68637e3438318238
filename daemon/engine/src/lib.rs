//! Tensors and text: a model folder becomes something that maps token rows to logits, and text to tokens and back.
//!
//! The engine knows folders, weights, kernels, tokenizers, templates and sampling. It knows no requests, users or sockets,
//! and no type of the protocol. The worker calls [`inspect`] for a folder's facts, [`Model::open`] to load it,
//! [`Model::forward`] once a step, and [`text`] for everything that has letters in it. [`Encoder`] is the other kind of
//! model: whole texts in, a vector or a score each.

pub mod bundled;
mod checkpoint;
mod config;
mod cpu;
mod decoder;
pub mod encoder;
mod error;
mod facts;
mod folder;
pub mod gguf;
mod matrix;
#[cfg(feature = "mlx")]
mod mlx;
mod model;
mod models;
pub mod native;
mod ops;
mod projection;
pub mod random;
pub mod text;

pub use encoder::Encoder;
pub use error::{ForwardError, LoadError};
pub use facts::{Capabilities, Facts, STATE_TOKENS, facts, inspect};
pub use folder::foresee;
pub use model::{Model, Options, Row, State, Wanted};
pub use native::{Keep, Precision};
