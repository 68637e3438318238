//! What can go wrong with a model folder and with a step, in words for the person who has to fix it.
//!
//! Every load error names the file, tensor or feature and says what to do. Nothing here is recovered from inside the
//! engine: the worker reports load errors to the daemon and treats a forward error as its own defect.

use std::io;
use std::path::{Path, PathBuf};

use crate::native::ShapeError;
use crate::text::TextError;

/// Why a model folder cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The folder does not exist, or is a file.
    #[error("there is no folder {}; give the path of a folder that holds config.json", .0.display())]
    NoFolder(PathBuf),
    /// A file that every model needs is not in the folder.
    #[error("{} is missing; {advice}", path.display())]
    MissingFile {
        /// The file that was looked for.
        path: PathBuf,
        /// What to do about it.
        advice: String,
    },
    /// A file exists and cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("{} cannot be written: {source}", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file's content is broken: not what its format says, or cut short.
    #[error("{} is invalid: {problem}; download it again", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The folder asks for something that this engine does not do.
    #[error("{feature} is not supported; {supported}")]
    Unsupported {
        /// The feature by name, with the value that was found.
        feature: String,
        /// What is supported instead.
        supported: String,
    },
    /// The weight files lack a tensor that the architecture needs.
    #[error(
        "tensor {name} is missing from the weights; the download is incomplete, or config.json is of another model"
    )]
    MissingTensor {
        /// The tensor's name.
        name: String,
    },
    /// A tensor's shape or type is not the one that `config.json` calls for.
    #[error("tensor {name} is {found} where config.json calls for {expected}; the files are of different models")]
    WrongTensor {
        /// The tensor's name.
        name: String,
        /// The shape or type that is needed.
        expected: String,
        /// The shape or type in the file.
        found: String,
    },
    /// The tokenizer, the chat template or the generation settings are broken.
    #[error(transparent)]
    Text(#[from] TextError),
    /// The device refused the weights.
    #[error("the device cannot hold the weights: {message}")]
    Device {
        /// What it said.
        message: String,
    },
    /// The kernels cannot hold a matrix or the cache.
    #[error(transparent)]
    Kernel(#[from] ShapeError),
}

impl LoadError {
    /// Sorts an I/O error of a file that must exist into missing or unreadable.
    pub(crate) fn reading(path: &Path, source: io::Error, advice: &str) -> Self {
        if source.kind() == io::ErrorKind::NotFound {
            Self::MissingFile { path: path.to_path_buf(), advice: advice.to_string() }
        } else {
            Self::Unreadable { path: path.to_path_buf(), source }
        }
    }

    /// A file whose content is broken.
    pub(crate) fn invalid(path: &Path, problem: impl Into<String>) -> Self {
        Self::Invalid { path: path.to_path_buf(), problem: problem.into() }
    }

    /// A feature that is refused by name.
    pub(crate) fn unsupported(feature: impl Into<String>, supported: impl Into<String>) -> Self {
        Self::Unsupported { feature: feature.into(), supported: supported.into() }
    }
}

/// Why a step has no result. But for `Device`, the scheduler's plan broke a rule, and nothing was computed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForwardError {
    /// The device failed; what it computed is lost.
    #[error("the device failed: {message}")]
    Device {
        /// What it said.
        message: String,
    },
    /// A row has no tokens.
    #[error("row {row} has no tokens")]
    EmptyRow {
        /// The row's index in the step.
        row: usize,
    },
    /// A token id is outside the vocabulary.
    #[error("row {row} holds token {token}, and the vocabulary ends at {vocabulary}")]
    UnknownToken {
        /// The row's index in the step.
        row: usize,
        /// The token id.
        token: u32,
        /// How many ids there are.
        vocabulary: u32,
    },
    /// A row's blocks do not cover its positions.
    #[error("row {row} reaches position {positions}, and its blocks hold {room}")]
    TooFewBlocks {
        /// The row's index in the step.
        row: usize,
        /// Positions that the row needs room for.
        positions: u64,
        /// Positions that its blocks hold.
        room: u64,
    },
    /// A row names a block that the cache does not have.
    #[error("row {row} names block {block}, and the cache has {blocks}")]
    UnknownBlock {
        /// The row's index in the step.
        row: usize,
        /// The block.
        block: u32,
        /// How many blocks there are.
        blocks: u32,
    },
    /// A row reaches past the context that the model was configured for.
    #[error("row {row} reaches position {positions}, and the model's context ends at {context}")]
    PastContext {
        /// The row's index in the step.
        row: usize,
        /// Positions that the row reaches.
        positions: u64,
        /// The model's context.
        context: u32,
    },
    /// The step does not say for each row of a model with recurrent states where its state lies, or says it of another.
    #[error("{named} states are named for {rows} rows, and the model has room for {states}")]
    States {
        /// How many were named.
        named: usize,
        /// How many rows there are.
        rows: usize,
        /// How many states there is room for.
        states: u32,
    },
    /// A row's state is not there, is not where a row begins, or is another row's too.
    #[error(
        "row {row} cannot leave its state in {to}: there are {states}, and each is written alone and has a beginning"
    )]
    UnknownState {
        /// The row's index in the step.
        row: usize,
        /// Where its state was to be left.
        to: u32,
        /// How many states there is room for.
        states: u32,
    },
    /// A row's segments are not one a token.
    #[error("row {row} has {segments} segments for {tokens} tokens")]
    Segments {
        /// The row's index in the step.
        row: usize,
        /// How many segments were given.
        segments: usize,
        /// How many tokens it has.
        tokens: usize,
    },
    /// The system has no memory for so many tokens at once.
    #[error("the system has no memory for {tokens} tokens at once")]
    TooManyTokens {
        /// The tokens of the step.
        tokens: usize,
    },
}
