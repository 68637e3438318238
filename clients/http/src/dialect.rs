//! Which dialect a path belongs to, for refusals made before any endpoint is reached: they too must be in its shape.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use protocol::Error;

use crate::anthropic::error::{AnthropicError, named};
use crate::error::HttpError;
use crate::ollama::error::OllamaError;
use crate::request_id;

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

    /// Returns the dialect of a request: at paths that two dialects share, Anthropic's clients say which version they speak.
    pub fn asked(path: &str, headers: &HeaderMap) -> Self {
        if is_shared(path) && headers.contains_key(VERSION) { Self::Anthropic } else { Self::of(path) }
    }

    /// Returns an answer, or the refusal, with what this dialect says in headers of both.
    pub fn answer(self, answer: Result<Response, Error>) -> Response {
        match answer {
            Ok(response) if self == Self::Anthropic => named(response),
            Ok(response) => response,
            Err(error) => self.refuse(error),
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

/// The header in which Anthropic's clients say which version they speak.
const VERSION: &str = "anthropic-version";

/// Whether clients of OpenAI and of Anthropic ask at this path.
fn is_shared(path: &str) -> bool {
    path.strip_prefix("/v1/models").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl<S: Sync> FromRequestParts<S> for Dialect {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        // Of the path, a handler sees what is below the root that it is served under.
        let anthropic = request_id::path_is(is_shared) && parts.headers.contains_key(VERSION);
        Ok(if anthropic { Self::Anthropic } else { Self::of(parts.uri.path()) })
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderMap, HeaderValue};

    use super::Dialect;

    #[test]
    fn a_path_that_two_dialects_share_is_of_the_one_that_the_request_says() {
        let plain = HeaderMap::new();
        let said =
            HeaderMap::from_iter([("anthropic-version".parse().unwrap(), HeaderValue::from_static("2023-06-01"))]);
        for path in ["/v1/models", "/v1/models/org/name"] {
            assert_eq!(Dialect::asked(path, &said), Dialect::Anthropic, "{path}");
            assert_eq!(Dialect::asked(path, &plain), Dialect::OpenAi, "{path}");
        }
        for path in ["/v1/modelsx", "/v1/chat/completions"] {
            assert_eq!(Dialect::asked(path, &said), Dialect::OpenAi, "{path}");
        }
    }

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
