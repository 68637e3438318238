//! Logins of the dashboard: a key, shown once, becomes a cookie that lasts a while, so that no page keeps the key.
//!
//! The cookie holds a signed token (`token`), which scripts cannot read and browsers send to this bridge alone. The key behind
//! it is judged by the daemon on every request, so that a key that is revoked, or rotated away, ends its logins at once.
//!
//! A browser sends cookies whoever made it ask, so a cookie counts only for requests that this bridge's own pages made: what
//! changes something must carry an `Origin` that is the bridge's own, and so must whatever carries an `Origin` at all, as
//! WebSockets do. Called by `access`, which lets the holder of a login in, and by `app`.

pub mod token;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::response::{AppendHeaders, IntoResponse, Response};
use axum::{Extension, Json};
use protocol::key::{Knock, Login, Proof, Purpose};
use protocol::{Error, ErrorKind};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use crate::access::{self, Peer};
use crate::admin::keys::Role;
use crate::app::Bridge;
use crate::body::Members;
use crate::error::HttpError;
use crate::ids::new_id;
use crate::openapi::{Operation, Routes, part};
use crate::shared::Shared;
use crate::time::now_s;

pub use token::Claims;
use token::{LOGIN_S, Signer};

/// The cookie's name.
pub const COOKIE: &str = "impetus_login";

/// Logins that were ended before their time and are remembered until it is over.
const ENDED_MAX: usize = 4_096;

/// The logins of this bridge.
#[derive(Debug)]
pub struct Logins {
    signer: Signer,
    /// Whether browsers may send the cookie over TLS only.
    secure: bool,
    /// Logins that were ended, and when they would have been over.
    ended: Mutex<HashMap<String, u64>>,
}

impl Logins {
    /// Prepares for logins that are signed with a secret; over TLS the cookie never travels without it.
    pub fn new(secure: bool, secret: &[u8]) -> Self {
        Self { signer: Signer::new(secret), secure, ended: Mutex::default() }
    }

    /// Returns the login that a request carries; `None` if it has no cookie, or one that is over.
    pub fn of(&self, headers: &HeaderMap) -> Option<Claims> {
        self.signer.read(cookie(headers)?, now_s()).filter(|claims| self.goes_on(claims))
    }

    /// Whether a login that a request carried is still one.
    pub fn goes_on(&self, claims: &Claims) -> bool {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        now_s() < claims.exp && !ended.contains_key(&claims.jti)
    }

    /// Returns the cookie that goes on where this one is half over.
    pub fn renewed(&self, claims: &Claims) -> Option<HeaderValue> {
        Some(self.cookie(&claims.renewed(now_s())?))
    }

    fn end(&self, claims: &Claims) {
        let now = now_s();
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if ended.len() >= ENDED_MAX {
            ended.retain(|_, over| *over > now);
        }
        // Thousands of logins ended within their life: the one that would be over first is forgotten first.
        if ended.len() >= ENDED_MAX
            && let Some(first) = ended.iter().min_by_key(|(_, over)| **over).map(|(name, _)| name.clone())
        {
            ended.remove(&first);
        }
        ended.insert(claims.jti.clone(), claims.auth_time + LOGIN_S);
    }

    fn cookie(&self, claims: &Claims) -> HeaderValue {
        self.written(&self.signer.sign(claims), claims.exp.saturating_sub(claims.iat))
    }

    fn written(&self, value: &str, seconds: u64) -> HeaderValue {
        let secure = if self.secure { "; Secure" } else { "" };
        let text = format!("{COOKIE}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}");
        HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
    }
}

/// Returns what logins are signed with: drawn anew, or what bridges that share anything have in common.
pub async fn secret(shared: Option<&Shared>) -> Result<Vec<u8>, Error> {
    let drawn = token::draw()?;
    match shared {
        Some(shared) => shared.secret(&drawn).await,
        None => Ok(drawn.to_vec()),
    }
}

/// Returns the cookie's value.
fn cookie(headers: &HeaderMap) -> Option<&str> {
    let lines = headers.get_all(header::COOKIE).into_iter().filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE).map(|(_, value)| value)
}

/// Refuses a request that another page may have made a browser send.
pub fn own_page(method: &Method, headers: &HeaderMap) -> Result<(), Error> {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let origin = headers.get(header::ORIGIN).map(|origin| origin.to_str().unwrap_or_default());
    let ours = |origin: &str| {
        let page = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        page.is_some_and(|page| page.eq_ignore_ascii_case(host))
    };
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    let looks = [Method::GET, Method::HEAD].contains(method);
    let fine = match origin {
        Some(origin) => ours(origin),
        None => looks && site.is_none_or(|site| [&b"same-origin"[..], b"none"].contains(&site)),
    };
    if fine {
        return Ok(());
    }
    let message = "A login counts for requests of this bridge's own pages only.";
    Err(Error::new(ErrorKind::Forbidden, message)
        .hint("Send an Origin header that is this bridge's own, or a key in place of the cookie."))
}

/// Returns the routes that need no key.
pub fn open() -> Routes {
    let login = Operation::new("Log in")
        .more(
            "A key becomes a cookie (HttpOnly, SameSite=Strict) that lasts an hour, and up to twelve while it is used. \
             It ends with the key, with a logout, and with the bridge unless bridges share Redis. It counts for requests of the bridge's own pages: \
             whatever is not a GET must carry the bridge's own `Origin`.",
        )
        .takes("LoginRequest", LOGIN, [part::<Shown>()], json!({ "key": "imp_example" }))
        .gives::<Session>("Who is logged in; the cookie is in `Set-Cookie`.");
    let logout = Operation::new("Log out").gives::<Gone>("The cookie is taken back.");
    Routes::new("Login")
        .post("/api/auth/login", self::login, login)
        .post("/api/auth/logout", self::logout, logout)
        .open()
}

/// Returns the routes that need a key or a login.
pub fn keyed() -> Routes {
    let session = Operation::new("Tell who asks, and until when a login lasts").gives::<Session>("Who asks.");
    Routes::new("Login").get("/api/auth/session", self::session, session)
}

const LOGIN: &[&[&str]] = &[&["key"]];

#[derive(Deserialize, ToSchema)]
struct Shown {
    /// The key.
    key: String,
}

/// Who asks.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LoginSession)]
struct Session {
    /// The key's id.
    id: String,
    /// The key's label.
    label: String,
    role: Role,
    /// When the login is over unless it is used, in seconds since 1970; null where a key was sent.
    expires: Option<u64>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LoggedOut)]
struct Gone {
    /// Always false.
    logged_in: bool,
}

async fn login(
    State(bridge): State<Arc<Bridge>>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, HttpError> {
    // Another page must not log its own user in either.
    if headers.contains_key(header::ORIGIN) {
        own_page(&Method::POST, &headers)?;
    }
    let Shown { key } = Members::read(&body, LOGIN)?.part()?;
    let peer = peer.map(|Extension(Peer(peer))| peer.to_string()).unwrap_or_default();
    let knock = Knock { proof: Proof::Secret(key), peer, purpose: Purpose::Read, counted_elsewhere: false };
    let principal = access::judge(&bridge, knock).await?;
    access::within_rate(&principal)?;
    let login = Login { key: principal.id.clone(), print: principal.print };
    let claims = Claims::new(login, new_id("login_"), now_s());
    tracing::info!(key = %principal.id, "a login begins");
    let session =
        Session { id: principal.id, label: principal.label, role: principal.role.into(), expires: Some(claims.exp) };
    Ok((AppendHeaders([(header::SET_COOKIE, bridge.logins.cookie(&claims))]), Json(session)).into_response())
}

async fn logout(State(bridge): State<Arc<Bridge>>, headers: HeaderMap) -> Result<Response, HttpError> {
    own_page(&Method::POST, &headers)?;
    if let Some(claims) = bridge.logins.of(&headers) {
        bridge.logins.end(&claims);
        if let Some(shared) = &bridge.shared {
            let over = claims.auth_time + LOGIN_S;
            shared.end_login(&claims.jti, over.saturating_sub(now_s())).await?;
        }
    }
    let gone = bridge.logins.written("", 0);
    Ok((AppendHeaders([(header::SET_COOKIE, gone)]), Json(Gone { logged_in: false })).into_response())
}

async fn session(State(bridge): State<Arc<Bridge>>, headers: HeaderMap) -> Result<Json<Session>, HttpError> {
    let who = access::current().ok_or_else(|| Error::internal("Nobody was let in."))?;
    let expires = bridge.logins.of(&headers).filter(|claims| claims.sub == who.id).map(|claims| claims.exp);
    Ok(Json(Session { id: who.id.clone(), label: who.label.clone(), role: who.role.into(), expires }))
}

#[cfg(test)]
mod tests;
