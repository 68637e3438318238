//! Which dialect a path belongs to, for refusals made before any endpoint is reached: they too must be in its shape.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use protocol::Error;

use crate::anthropic::error::AnthropicError;
use crate::error::HttpError;
use crate::ollama::error::OllamaError;

/// A way of speaking that clients know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Anthropic's messages.
    Anthropic,
    /// Ollama's `/api`.
    Ollama,
    /// OpenAI's, and every path of the bridge's own.
    OpenAi,
}

impl Dialect {
    /// Returns the dialect spoken at `path`.
    pub fn of(path: &str) -> Self {
        const OLLAMA: &[&str] = &[
            "chat",
            "generate",
            "tags",
            "show",
            "ps",
            "version",
            "pull",
            "push",
            "delete",
            "copy",
            "create",
            "embed",
            "embeddings",
        ];
        let under = |root: &str| path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if under("/v1/messages") {
            Self::Anthropic
        } else if path.strip_prefix("/api/").is_some_and(|verb| OLLAMA.contains(&verb)) || under("/api/blobs") {
            Self::Ollama
        } else {
            Self::OpenAi
        }
    }

    /// Returns the response that says `error` in this dialect.
    pub fn refuse(self, error: Error) -> Response {
        match self {
            Self::Anthropic => AnthropicError(error).into_response(),
            Self::Ollama => OllamaError(error).into_response(),
            Self::OpenAi => HttpError(error).into_response(),
        }
    }

    /// Returns the same with a status that says more than the kind does, such as 413.
    pub fn refuse_as(self, status: StatusCode, error: Error) -> Response {
        match self {
            Self::Anthropic => AnthropicError(error).into_response_as(status),
            Self::Ollama => OllamaError(error).into_response_as(status),
            Self::OpenAi => HttpError(error).into_response_as(status),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Dialect;

    #[test]
    fn every_path_has_one_dialect() {
        for (path, dialect) in [
            ("/v1/messages", Dialect::Anthropic),
            ("/v1/messages/count_tokens", Dialect::Anthropic),
            ("/v1/messagesx", Dialect::OpenAi),
            ("/api/chat", Dialect::Ollama),
            ("/api/blobs/sha256:0", Dialect::Ollama),
            ("/api/health/status", Dialect::OpenAi),
            ("/api/models/pull", Dialect::OpenAi),
            ("/v1/chat/completions", Dialect::OpenAi),
            ("/", Dialect::OpenAi),
        ] {
            assert_eq!(Dialect::of(path), dialect, "{path}");
        }
    }
}
