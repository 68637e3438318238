//! What a path asks of a key: the least role, and which of its limits it counts against. Pure; the daemon judges roles
//! again, verb by verb, so a path that is missing here opens nothing.

use axum::http::Method;
use protocol::key::{KeyRole, Purpose};

/// What a request needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// The least role.
    pub role: KeyRole,
    /// Which limit it counts against.
    pub purpose: Purpose,
}

/// Folders that only administrators enter.
const ADMIN: &[&str] = &[
    "/api/keys",
    "/api/audit",
    "/api/requests",
    "/api/settings",
    "/api/models/unload",
    "/api/models/pull",
    "/api/pull",
    "/api/delete",
];

/// Paths that make a model work when something is posted to them.
const INFERENCE: &[&str] = &[
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    "/v1/messages",
    "/v1/embeddings",
    "/v1/rerank",
    "/v1/score",
    "/v2/embed",
    "/v2/rerank",
    "/rerank",
    "/score",
    "/completion",
    "/infill",
    "/chat/completions",
    "/completions",
    "/responses",
    "/embeddings",
    "/api/chat",
    "/api/generate",
    "/api/embed",
    "/api/embeddings",
];

/// Paths that are posted to and still only look.
const LOOKS: &[&str] = &["/api/show"];

/// Returns what a request needs.
pub fn need(method: &Method, path: &str) -> Need {
    // The alias means the same.
    let path = if path.starts_with("/api/v1/") { &path["/api".len()..] } else { path };
    let within =
        |folder: &&str| path.strip_prefix(*folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let looks = [Method::GET, Method::HEAD].contains(method) || LOOKS.contains(&path);
    let role = match (ADMIN.iter().any(within), looks) {
        (true, _) => KeyRole::Admin,
        (false, true) => KeyRole::Readonly,
        (false, false) => KeyRole::User,
    };
    let works = *method == Method::POST && is_inference(path);
    Need { role, purpose: if works { Purpose::Inference } else { Purpose::Read } }
}

/// Returns the least role that a path asks for.
pub fn role_needed(method: &Method, path: &str) -> KeyRole {
    need(method, path).role
}

/// Whether a path makes a model work.
pub fn is_inference(path: &str) -> bool {
    let path = if path.starts_with("/api/v1/") { &path["/api".len()..] } else { path };
    INFERENCE.contains(&path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_asks_for_the_least_that_does() {
        use KeyRole::{Admin, Readonly, User};
        use Purpose::{Inference, Read};
        for (method, path, role, purpose) in [
            (Method::POST, "/v1/chat/completions", User, Inference),
            (Method::POST, "/api/v1/chat/completions", User, Inference),
            (Method::POST, "/v1/messages", User, Inference),
            (Method::POST, "/v2/rerank", User, Inference),
            (Method::POST, "/rerank", User, Inference),
            (Method::POST, "/v1/score", User, Inference),
            (Method::POST, "/v2/embed", User, Inference),
            (Method::POST, "/completion", User, Inference),
            (Method::POST, "/infill", User, Inference),
            (Method::GET, "/props", Readonly, Read),
            (Method::POST, "/chat/completions", User, Inference),
            (Method::GET, "/models", Readonly, Read),
            (Method::POST, "/v1/messages/count_tokens", User, Read),
            (Method::POST, "/api/chat", User, Inference),
            (Method::POST, "/api/show", Readonly, Read),
            (Method::GET, "/v1/models", Readonly, Read),
            (Method::GET, "/api/v1/models/a/b", Readonly, Read),
            (Method::POST, "/api/pull", Admin, Read),
            (Method::DELETE, "/api/delete", Admin, Read),
            (Method::GET, "/api/keys", Admin, Read),
            (Method::POST, "/api/keys/key_1/rotate", Admin, Read),
            (Method::GET, "/api/keysx", Readonly, Read),
            (Method::POST, "/api/models/load", User, Read),
            (Method::POST, "/api/models/unload", Admin, Read),
            (Method::DELETE, "/v1/responses/1", User, Read),
        ] {
            assert_eq!(need(&method, path), Need { role, purpose }, "{method} {path}");
        }
    }
}
