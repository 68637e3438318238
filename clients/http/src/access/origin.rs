//! Web pages that may ask: those of this machine and of apps on it, and those that were allowed by name. Every other
//! origin is refused before anything happens, and no page reads an answer that is not for it.

use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::host::Hosts;

/// How long a browser may remember the answer to a preflight, in seconds.
const REMEMBER: &str = "600";

/// Schemes under which desktop apps keep their pages: no website has one of them.
const APPS: &[&str] = &["app", "tauri", "vscode-webview", "vscode-file"];

/// Origins trusted besides this machine's own.
#[derive(Clone, Debug, Default)]
pub struct Origins(Vec<String>);

impl Origins {
    /// Trusts these, each written as browsers send it: `https://chat.example`.
    pub fn new(allowed: &[String]) -> Self {
        Self(allowed.iter().map(|origin| origin.trim_end_matches('/').to_ascii_lowercase()).collect())
    }

    /// Says whether a page of `origin` may ask at `host`, which is allowed: this bridge's own pages are of the same.
    pub fn allow(&self, origin: &str, host: &str, hosts: &Hosts) -> bool {
        let near = origin.split_once("://").is_some_and(|(scheme, authority)| match scheme {
            "http" | "https" => authority.eq_ignore_ascii_case(host) || hosts.are_ours(authority),
            _ => APPS.contains(&scheme),
        });
        near || self.0.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin))
    }
}

/// Returns the answer to a browser that asks whether it may ask; `None` for any other request.
pub fn preflight(method: &Method, headers: &HeaderMap) -> Option<Response> {
    if method != Method::OPTIONS || !headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD) {
        return None;
    }
    let mut response = StatusCode::NO_CONTENT.into_response();
    let answer = response.headers_mut();
    answer.insert(
        header::ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
    );
    // Whatever header it wants to send: keys are judged by their value and not by who sends them.
    let wanted = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned();
    answer.insert(
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        wanted.unwrap_or_else(|| HeaderValue::from_static("authorization, content-type, x-api-key")),
    );
    answer.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(REMEMBER));
    Some(response)
}

/// Lets pages of a trusted origin read the answer.
pub fn share(origin: &HeaderValue, headers: &mut HeaderMap) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    headers.insert(
        header::ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static(
            "x-request-id, request-id, retry-after, x-ratelimit-limit, x-ratelimit-remaining, x-ratelimit-reset, \
             x-generation-incomplete, x-impetus-truncated",
        ),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_this_machine_and_allowed_ones_are_trusted() {
        let hosts = Hosts::new("127.0.0.1:8420".parse().unwrap(), &[]);
        let origins = Origins::new(&["https://chat.example/".to_owned()]);
        for origin in ["http://localhost:3000", "https://127.0.0.1", "https://chat.example", "HTTPS://Chat.example"] {
            assert!(origins.allow(origin, "127.0.0.1:8420", &hosts), "{origin}");
        }
        for origin in [
            "https://evil.example",
            "null",
            "",
            "localhost",
            "file://localhost",
            "http://chat.example",
            "https://chat.example.evil",
            "http://localhost.evil.example",
        ] {
            assert!(!origins.allow(origin, "127.0.0.1:8420", &hosts), "{origin}");
        }
        for (origin, trusted) in
            [("http://desk.local:8420", true), ("http://desk.local", false), ("http://tv.local:8420", false)]
        {
            assert_eq!(origins.allow(origin, "desk.local:8420", &hosts), trusted, "{origin}");
        }
    }

    #[test]
    fn pages_of_desktop_apps_are_trusted() {
        let hosts = Hosts::new("127.0.0.1:8420".parse().unwrap(), &[]);
        let allowed = |origin: &str| Origins::default().allow(origin, "127.0.0.1:8420", &hosts);
        for origin in [
            "app://obsidian.md",
            "tauri://localhost",
            "http://tauri.localhost",
            "vscode-webview://1a2b",
            "vscode-file://vscode-app",
        ] {
            assert!(allowed(origin), "{origin}");
        }
        for origin in ["file://", "chrome-extension://abc", "apps://x", "app:x", "https://app"] {
            assert!(!allowed(origin), "{origin}");
        }
    }

    #[test]
    fn a_page_may_read_what_headers_say_of_an_answer() {
        let mut headers = HeaderMap::new();
        share(&HeaderValue::from_static("http://localhost:3000"), &mut headers);
        let exposed = headers[header::ACCESS_CONTROL_EXPOSE_HEADERS].to_str().unwrap();
        for name in
            ["x-request-id", "retry-after", "x-ratelimit-reset", "x-generation-incomplete", "x-impetus-truncated"]
        {
            assert!(exposed.split(", ").any(|one| one == name), "{name}");
        }
    }

    #[test]
    fn only_a_browsers_question_is_a_preflight() {
        let mut headers = HeaderMap::new();
        assert!(preflight(&Method::OPTIONS, &headers).is_none());
        headers.insert(header::ACCESS_CONTROL_REQUEST_METHOD, HeaderValue::from_static("POST"));
        assert!(preflight(&Method::POST, &headers).is_none());
        headers.insert(header::ACCESS_CONTROL_REQUEST_HEADERS, HeaderValue::from_static("x-stainless-os"));
        let response = preflight(&Method::OPTIONS, &headers).unwrap();
        assert_eq!(response.status(), StatusCode::NO_CONTENT);
        assert_eq!(response.headers()[header::ACCESS_CONTROL_ALLOW_HEADERS], "x-stainless-os");
    }
}
