//! Lets the holder of a key in, or of a login that was made with one. The daemon judges it on every request, so that a
//! revocation counts at once, and counts the request against the key's limit per minute, so that several bridges share one count.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use protocol::key::{KeyRole, Knock, Principal, Proof, Rate};
use protocol::{Error, ErrorKind};

use super::host::Peer;
use super::need::{Need, need};
use crate::app::Bridge;
use crate::dialect::Dialect;
use crate::login::{Claims, own_page};

tokio::task_local! {
    static CURRENT: Arc<Principal>;
}

/// Returns who asks, while a request is being handled; `None` outside of any, as in the body of a stream.
pub fn current() -> Option<Arc<Principal>> {
    CURRENT.try_with(Arc::clone).ok()
}

/// Does work that was asked for earlier with the rights of the key that asked; `None` is the user of the socket.
pub async fn on_behalf_of<F: Future>(key: Option<String>, work: F) -> F::Output {
    match key {
        // What it may do is the daemon's to say; it is asked for nothing else here.
        Some(id) => {
            let principal = Principal { id, label: String::new(), role: KeyRole::User, rate: None, print: 0 };
            CURRENT.scope(Arc::new(principal), work).await
        }
        None => work.await,
    }
}

/// The login that let a request in; `None` where a key did.
#[derive(Clone, Debug)]
pub struct Login(pub Option<Claims>);

/// Refuses requests without a known key, with one that may not do this, or with one that has asked too much.
pub async fn check_key(State(bridge): State<Arc<Bridge>>, mut request: Request, next: Next) -> Response {
    let dialect = Dialect::asked(request.uri().path(), request.headers());
    let need = need(request.method(), request.uri().path());
    let secret = key(request.headers()).map(|secret| Proof::Secret(secret.to_owned()));
    // A page that sends a key needs no login, and none is renewed for it.
    let login = secret.is_none().then(|| bridge.logins.of(request.headers())).flatten();
    if login.is_some()
        && let Err(error) = own_page(request.method(), request.headers())
    {
        return dialect.refuse(error);
    }
    let login = match still_on(&bridge, login).await {
        Ok(login) => login,
        Err(error) => return dialect.refuse(error),
    };
    let proof = secret.or_else(|| Some(Proof::Login(login.as_ref()?.login())));
    let principal = match enter(&bridge, proof.map(|proof| knock(&request, need, proof))).await {
        Ok(principal) => principal,
        Err(error) => return dialect.refuse(error),
    };
    let rate = principal.rate;
    let mut response = match verdict(&principal, need) {
        Ok(()) => {
            request.extensions_mut().insert(Login(login.clone()));
            CURRENT.scope(Arc::new(principal), next.run(request)).await
        }
        Err(error) => dialect.refuse(error),
    };
    if let Some(rate) = rate {
        tell(rate, response.headers_mut());
    }
    if let Some(cookie) = login.and_then(|claims| bridge.logins.renewed(&claims)) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

/// Returns what a request shows at the door.
fn knock(request: &Request, need: Need, proof: Proof) -> Knock {
    let peer = request.extensions().get::<Peer>().map(|peer| peer.0.to_string()).unwrap_or_default();
    Knock { proof, peer, purpose: need.purpose, counted_elsewhere: false }
}

async fn enter(bridge: &Bridge, knock: Option<Knock>) -> Result<Principal, Error> {
    let hint = "Send 'Authorization: Bearer KEY' or 'x-api-key: KEY'; impetusctl key show prints the first key.";
    let keyless = || Error::new(ErrorKind::AuthRequired, "This request carries no key.").hint(hint);
    judge(bridge, knock.ok_or_else(keyless)?).await
}

/// Has the daemon judge whoever knocks, and count it unless that is shared with other bridges.
pub async fn judge(bridge: &Bridge, mut knock: Knock) -> Result<Principal, Error> {
    let (peer, purpose) = (knock.peer.clone(), knock.purpose);
    knock.counted_elsewhere = bridge.shared.is_some();
    let judged = bridge.daemon.own().await?.authenticate(knock).await;
    match &bridge.shared {
        Some(shared) => shared.count(judged, &peer, purpose).await,
        None => judged,
    }
}

/// Returns a login that was not ended at another bridge.
pub async fn still_on(bridge: &Bridge, login: Option<Claims>) -> Result<Option<Claims>, Error> {
    match (&bridge.shared, login) {
        (Some(shared), Some(claims)) => Ok((!shared.has_ended(&claims.jti).await?).then_some(claims)),
        (_, login) => Ok(login),
    }
}

/// Refuses whoever has asked too much.
pub fn within_rate(principal: &Principal) -> Result<(), Error> {
    if let Some(rate) = principal.rate.filter(|rate| rate.wait_ms > 0) {
        let message = format!("The key '{}' may ask {} times a minute.", principal.label, rate.limit);
        return Err(Error::new(ErrorKind::RateLimited, message)
            .hint("Wait as long as Retry-After says, or use a key with another limit.")
            .retry_after_ms(rate.wait_ms));
    }
    Ok(())
}

fn verdict(principal: &Principal, need: Need) -> Result<(), Error> {
    within_rate(principal)?;
    if principal.role < need.role {
        let message = format!("This needs a key of the role {}; this one is {}.", need.role, principal.role);
        return Err(
            Error::new(ErrorKind::Forbidden, message).hint("An administrator makes keys: impetusctl key create.")
        );
    }
    Ok(())
}

/// Says how much of a limit is left; the reset is in seconds from now.
fn tell(rate: Rate, headers: &mut HeaderMap) {
    let reset = HeaderValue::from(rate.reset_ms.div_ceil(1_000));
    headers.insert("x-ratelimit-limit", HeaderValue::from(rate.limit));
    headers.insert("x-ratelimit-remaining", HeaderValue::from(rate.remaining));
    headers.insert("x-ratelimit-reset", reset);
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
    use protocol::key::Purpose;

    use super::*;

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
    fn a_role_too_small_and_a_rate_too_high_are_told_apart() {
        let rate = |wait_ms| Some(Rate { limit: 60, remaining: 0, reset_ms: 60_000, wait_ms });
        let who = |role, rate| Principal { id: "key_1".into(), label: "laptop".into(), role, rate, print: 0 };
        let need = Need { role: KeyRole::User, purpose: Purpose::Inference };
        assert!(verdict(&who(KeyRole::User, rate(0)), need).is_ok());
        assert!(verdict(&who(KeyRole::Admin, None), need).is_ok());
        let small = verdict(&who(KeyRole::Readonly, None), need).unwrap_err();
        assert_eq!(small.kind, ErrorKind::Forbidden);
        assert_eq!(small.message, "This needs a key of the role user; this one is readonly.");
        let fast = verdict(&who(KeyRole::User, rate(900)), need).unwrap_err();
        assert_eq!((fast.kind, fast.retry_after_ms), (ErrorKind::RateLimited, Some(900)));
    }
}
