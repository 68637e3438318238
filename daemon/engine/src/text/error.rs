//! What can be wrong with the text files of a model folder, in words for the person who has to fix it.
//!
//! Every variant names its file and says what to do. Rendering and sampling have errors of their own beside their
//! causes. The engine's `LoadError` wraps this one.

use std::io;
use std::path::{Path, PathBuf};

/// Why a model's tokenizer, template or generation settings cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    /// A file that is needed is not in the folder.
    #[error("{} is missing; download the model again, or convert it with its fast tokenizer", path.display())]
    Missing {
        /// The file that was looked for.
        path: PathBuf,
    },
    /// A file exists and cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is far larger than any honest one.
    #[error("{} has {bytes} bytes, and the most that is read is {bytes_max}; the file is not what its name says", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// The most that is read.
        bytes_max: u64,
    },
    /// A file's content is broken: not what its format says, or cut short.
    #[error("{} is invalid: {problem}; download it again", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A file asks for something that is not done here.
    #[error("{} uses {feature}, which is not supported", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The feature by name.
        feature: String,
    },
    /// A text comes to more tokens than a caller can use.
    #[error("the text has more than {more_than} tokens")]
    TooLong {
        /// How many it has at least.
        more_than: usize,
    },
    /// A text has no tokens in this model's vocabulary.
    #[error("the text cannot be turned into tokens: {problem}")]
    Encode {
        /// What the tokenizer said.
        problem: String,
    },
}

impl TextError {
    /// A file whose content is broken.
    pub(super) fn invalid(path: &Path, problem: impl Into<String>) -> Self {
        Self::Invalid { path: path.to_path_buf(), problem: problem.into() }
    }
}
