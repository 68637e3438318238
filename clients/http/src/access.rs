//! Who may speak to the bridge: the `Host` must be ours, browsers must come from here, and a key must be known.
//!
//! The Host check stops DNS rebinding: a web page that resolves its own name to this machine still sends its own
//! name. Keys are judged by the daemon on every request, before the body is read, so that a revocation counts at once.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::Response;
use protocol::{Error, ErrorKind};

use crate::app::Bridge;
use crate::dialect::Dialect;

/// The host names that requests may carry.
#[derive(Clone, Debug)]
pub struct Hosts(Vec<String>);

impl Hosts {
    /// Allows loopback names, the address listened on, and `more`, with or without a port.
    pub fn new(listen: SocketAddr, more: &[String]) -> Self {
        let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "[::1]".to_owned()];
        names.push(match listen {
            SocketAddr::V4(address) => address.ip().to_string(),
            SocketAddr::V6(address) => format!("[{}]", address.ip()),
        });
        names.extend(more.iter().map(|name| name.to_ascii_lowercase()));
        Self(names)
    }

    /// Says whether a `Host` header, or the authority of an `Origin`, names this machine.
    pub fn allow(&self, authority: &str) -> bool {
        let name = match authority.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => authority,
        };
        self.0.iter().any(|allowed| allowed.eq_ignore_ascii_case(name))
    }
}

/// Refuses requests whose Host or Origin is not ours.
pub async fn check_host(State(bridge): State<Arc<Bridge>>, request: Request, next: Next) -> Response {
    match host_verdict(&bridge.hosts, request.headers()) {
        Ok(()) => next.run(request).await,
        Err(error) => Dialect::of(request.uri().path()).refuse(error),
    }
}

fn host_verdict(hosts: &Hosts, headers: &HeaderMap) -> Result<(), Error> {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if !hosts.allow(host) {
        return Err(Error::new(ErrorKind::Forbidden, format!("The Host '{host}' is not allowed."))
            .hint("Use the address that impetusctl status shows, or start the bridge with --allow-host."));
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(()) };
    let origin = origin.to_str().unwrap_or_default();
    let authority = origin.split_once("://").map_or(origin, |(_, authority)| authority);
    if hosts.allow(authority) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Forbidden, format!("Requests from the web origin '{origin}' are not allowed."))
        .hint("Start the bridge with --allow-host to trust a page of yours."))
}

/// Refuses requests without a known key.
pub async fn check_key(State(bridge): State<Arc<Bridge>>, request: Request, next: Next) -> Response {
    match authenticate(&bridge, request.headers()).await {
        Ok(()) => next.run(request).await,
        Err(error) => Dialect::of(request.uri().path()).refuse(error),
    }
}

async fn authenticate(bridge: &Bridge, headers: &HeaderMap) -> Result<(), Error> {
    let hint = "Send 'Authorization: Bearer KEY' or 'x-api-key: KEY'; impetusctl key show prints the first key.";
    let Some(key) = key(headers) else {
        return Err(Error::new(ErrorKind::AuthRequired, "This request carries no key.").hint(hint));
    };
    bridge.daemon.client().await?.authenticate(key).await.map(|_| ())
}

/// Returns the key of a request: a bearer token, or `x-api-key`, which Anthropic's clients send.
fn key(headers: &HeaderMap) -> Option<&str> {
    let bearer = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, key)| key.trim());
    let named = || headers.get("x-api-key").and_then(|value| value.to_str().ok()).map(str::trim);
    let given = |key: &&str| !key.is_empty();
    bearer.filter(given).or_else(|| named().filter(given))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts() -> Hosts {
        Hosts::new("127.0.0.1:8420".parse().unwrap(), &["box.local".to_owned()])
    }

    #[test]
    fn loopback_names_pass_with_and_without_a_port() {
        for host in ["localhost", "LOCALHOST:8420", "127.0.0.1:1", "[::1]:8420", "[::1]", "box.local:80"] {
            assert!(hosts().allow(host), "{host}");
        }
    }

    #[test]
    fn a_rebound_name_is_refused() {
        for host in ["evil.example", "localhost.evil.example:8420", "127.0.0.1.evil.example", "", "::1"] {
            assert!(!hosts().allow(host), "{host}");
        }
    }

    #[test]
    fn a_key_is_a_bearer_token_or_has_a_header_of_its_own() {
        let read = |lines: &[(&'static str, &str)]| {
            let headers: HeaderMap = lines
                .iter()
                .map(|(name, value)| (header::HeaderName::from_static(name), value.parse().unwrap()))
                .collect();
            key(&headers).map(str::to_owned)
        };
        assert_eq!(read(&[("authorization", "Bearer a")]).as_deref(), Some("a"));
        assert_eq!(read(&[("x-api-key", " b ")]).as_deref(), Some("b"));
        assert_eq!(read(&[("authorization", "bearer a"), ("x-api-key", "b")]).as_deref(), Some("a"));
        assert_eq!(read(&[("authorization", "Basic a"), ("x-api-key", "b")]).as_deref(), Some("b"));
        assert_eq!(read(&[("authorization", "Bearer "), ("x-api-key", "")]), None);
    }

    #[test]
    fn a_foreign_origin_is_refused_even_with_our_host() {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, "localhost:8420".parse().unwrap());
        assert!(host_verdict(&hosts(), &headers).is_ok());
        headers.insert(header::ORIGIN, "http://localhost:3000".parse().unwrap());
        assert!(host_verdict(&hosts(), &headers).is_ok());
        headers.insert(header::ORIGIN, "https://evil.example".parse().unwrap());
        assert_eq!(host_verdict(&hosts(), &headers).unwrap_err().kind, ErrorKind::Forbidden);
    }
}
