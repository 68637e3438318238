//! The names this machine is called by. The check stops DNS rebinding: a web page that resolves its own name to this
//! machine still sends its own name. Names that nobody can buy are this machine's where they lead here: those of its own
//! network, of containers on it and of itself. Pages under them are not: only those that this bridge answers with.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Uri, Version, header};
use axum::middleware::Next;
use axum::response::Response;
use protocol::{Error, ErrorKind};

use super::origin;
use crate::app::Bridge;
use crate::dialect::Dialect;

/// Where a request comes from; `serve` adds it to every one.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub IpAddr);

/// How names end that the public DNS has not: those of mDNS, and of Docker and private networks.
const NEARBY: &[&str] = &["local", "internal"];

/// How names of loopback end.
const LOOPBACK: &str = "localhost";

/// The host names that requests may carry.
#[derive(Clone, Debug)]
pub struct Hosts {
    names: Vec<String>,
    /// Whether any address will do: rebinding needs a name.
    addresses: bool,
}

impl Hosts {
    /// Allows names and addresses of loopback, the address listened on, and `more`, with or without a port.
    pub fn new(listen: SocketAddr, more: &[String]) -> Self {
        let mut names = vec![LOOPBACK.to_owned()];
        names.push(match listen {
            SocketAddr::V4(address) => address.ip().to_string(),
            SocketAddr::V6(address) => format!("[{}]", address.ip()),
        });
        names.extend(more.iter().map(|name| name.to_ascii_lowercase()));
        Self { names, addresses: listen.ip().is_unspecified() }
    }

    /// Says whether a `Host` header may name this machine.
    pub fn allow(&self, authority: &str) -> bool {
        self.are_ours(authority) || NEARBY.iter().any(|zone| within(zone, name(authority)))
    }

    /// Says whether an authority is this machine's and nobody else's.
    pub fn are_ours(&self, authority: &str) -> bool {
        let name = name(authority);
        let address = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
        self.names.iter().any(|allowed| allowed.eq_ignore_ascii_case(name))
            || within(LOOPBACK, name)
            || address.parse::<IpAddr>().is_ok_and(|address| self.addresses || address.to_canonical().is_loopback())
    }
}

/// Whether a name is one of a zone.
fn within(zone: &str, name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(before, end)| !before.is_empty() && end.eq_ignore_ascii_case(zone))
}

/// Returns an authority without its port, and without the dot that says that a name is whole.
fn name(authority: &str) -> &str {
    let name = match authority.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => authority,
    };
    name.strip_suffix('.').unwrap_or(name)
}

/// Refuses requests whose Host or Origin is not ours, answers preflights, and tells browsers who may read the answer.
pub async fn check_host(State(bridge): State<Arc<Bridge>>, request: Request, next: Next) -> Response {
    let trusted = match verdict(&bridge, &request) {
        Ok(trusted) => trusted,
        Err(error) => return Dialect::asked(request.uri().path(), request.headers()).refuse(error),
    };
    let Some(origin) = trusted else { return next.run(request).await };
    let preflight = origin::preflight(request.method(), request.headers());
    let mut response = match preflight {
        Some(response) => response,
        None => next.run(request).await,
    };
    origin::share(&origin, response.headers_mut());
    response
}

/// Returns the host that a request is for: what its address names, where that is a whole one, else its one Host header. In
/// HTTP/1.0 there may be neither; no browser speaks that, so no name was rebound.
fn host<'a>(version: Version, uri: &'a Uri, headers: &'a HeaderMap) -> Result<Option<&'a str>, Error> {
    let mut given = headers.get_all(header::HOST).iter();
    let first = given.next();
    let host = first.and_then(|host| host.to_str().ok());
    if given.next().is_some() {
        return Err(Error::invalid("Host", "The request has more than one Host header."));
    }
    let named = uri.authority().map(|authority| authority.as_str());
    if version == Version::HTTP_10 && first.is_none() && named.is_none() {
        return Ok(None);
    }
    named.or(host).map(Some).ok_or_else(|| Error::invalid("Host", "The request has no Host header that can be read."))
}

/// Returns the origin, if there is one and it is trusted.
fn verdict(bridge: &Bridge, request: &Request) -> Result<Option<header::HeaderValue>, Error> {
    let headers = request.headers();
    let host = host(request.version(), request.uri(), headers)?;
    if let Some(host) = host.filter(|host| !bridge.hosts.allow(host)) {
        return Err(Error::new(ErrorKind::Forbidden, format!("The Host '{host}' is not allowed."))
            .hint("Use the address that impetusctl status shows, or start the bridge with --allow-host."));
    }
    let Some(value) = headers.get(header::ORIGIN) else { return Ok(None) };
    let origin = value.to_str().unwrap_or_default();
    if bridge.origins.allow(origin, host.unwrap_or_default(), &bridge.hosts) {
        return Ok(Some(value.clone()));
    }
    Err(Error::new(ErrorKind::Forbidden, format!("Requests from the web origin '{origin}' are not allowed."))
        .hint("Start the bridge with --allow-origin to trust a page of yours."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts() -> Hosts {
        Hosts::new("127.0.0.1:8420".parse().unwrap(), &["box.lan".to_owned()])
    }

    #[test]
    fn loopback_names_pass_with_and_without_a_port() {
        for host in ["localhost", "LOCALHOST:8420", "a.localhost:1", "box.lan:80", "localhost.", "localhost.:8420"] {
            assert!(hosts().allow(host), "{host}");
        }
        for host in ["127.0.0.1:1", "127.9.9.9", "[::1]:8420", "[::1]", "[0:0:0:0:0:0:0:1]:1", "[::ffff:127.0.0.1]"] {
            assert!(hosts().allow(host), "{host}");
        }
    }

    #[test]
    fn names_that_nobody_can_buy_pass_and_are_not_ours_alone() {
        for host in ["host.docker.internal:8420", "desk.local", "Desk.LOCAL:8420"] {
            assert!(hosts().allow(host) && !hosts().are_ours(host), "{host}");
        }
    }

    #[test]
    fn a_rebound_name_is_refused() {
        for host in [
            "evil.example",
            "localhost.evil.example:8420",
            "127.0.0.1.evil.example",
            "",
            "::1",
            "10.0.0.7",
            "desk.local.evil.example",
            "evillocal",
            ".local",
            ".local.",
            "evil.example.",
            "127.0.0.1.evil",
            "[fe80::1]",
        ] {
            assert!(!hosts().allow(host), "{host}");
        }
    }

    #[test]
    fn a_bridge_on_every_interface_has_every_address_and_no_other_name() {
        let hosts = Hosts::new("0.0.0.0:8420".parse().unwrap(), &[]);
        for host in ["10.0.0.7:8420", "[fe80::1]:8420", "localhost"] {
            assert!(hosts.allow(host), "{host}");
        }
        for host in ["evil.example:8420", "10.0.0.7.evil.example", ""] {
            assert!(!hosts.allow(host), "{host}");
        }
    }

    #[test]
    fn a_request_is_for_one_host_and_a_whole_address_goes_before_its_header() {
        let of = |uri: &str, hosts: &[&str]| {
            let lines = hosts.iter().map(|host| (header::HOST, host.parse().unwrap()));
            let found =
                host(Version::HTTP_11, &uri.parse().unwrap(), &lines.collect()).map(|host| host.map(str::to_owned));
            found.map(Option::unwrap_or_default).map_err(|error| error.kind)
        };
        let older = |lines: HeaderMap| host(Version::HTTP_10, &"/".parse().unwrap(), &lines).map(|host| host.is_none());
        assert_eq!(older(HeaderMap::new()), Ok(true));
        assert_eq!(older([(header::HOST, "a".parse().unwrap())].into_iter().collect()), Ok(false));
        assert_eq!(of("/v1/models", &["a:1"]).as_deref(), Ok("a:1"));
        assert_eq!(of("http://evil.example/v1/models", &["a:1"]).as_deref(), Ok("evil.example"));
        for hosts in [&[][..], &["a", "a"], &["a", "b"]] {
            assert_eq!(of("/v1/models", hosts), Err(ErrorKind::Invalid), "{hosts:?}");
        }
    }
}
