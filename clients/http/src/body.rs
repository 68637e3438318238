//! Request bodies: JSON read with the name of the field at fault, and parameters that would have no effect refused. Queries
//! and ids in paths too.
//!
//! A parameter this bridge does not know is a 400 that names it, never ignored: a caller who sets it expects
//! something to happen. Every dialect reads its bodies through here.

pub mod room;
pub mod strict;

use std::time::Duration;

use axum::body::HttpBody;
use axum::body::{Body, Bytes};
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::Response;
use futures::StreamExt;
use protocol::{Error, ErrorKind};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tokio::time::timeout;

use self::room::{Room, Taken};
use self::strict::{InParts, Strict};
use crate::dialect::Dialect;
use crate::serve::last;

/// The largest request body, in bytes: a full context of text with room for escapes.
const BODY_BYTES_MAX: usize = 16 << 20;

/// The most values in a body, in lists and objects. One takes up to a hundred bytes of memory, whatever it is written in; the
/// tokens of the longest prompts fit.
const VALUES_MAX: usize = 1 << 20;

/// The largest file that is sent, in bytes, with the form around it.
const FILE_BYTES_MAX: usize = 64 << 20;

/// The largest body of a request without a key.
const LITTLE_BYTES_MAX: usize = 16 << 10;

/// How long a body may take to arrive.
const BODY_PATIENCE: Duration = Duration::from_secs(60);

/// Receives the whole body before the handler runs: in bounded time, of bounded size, refused in our shape.
pub async fn receive(State(room): State<Room>, request: Request, next: Next) -> Response {
    receive_at_most(bytes_max(request.uri().path()), room.enter(), request, next).await
}

/// The same where nobody was let in yet.
pub async fn receive_little(State(room): State<Room>, request: Request, next: Next) -> Response {
    receive_at_most(LITTLE_BYTES_MAX, room.enter(), request, next).await
}

/// Holds the room of the body until the request is answered.
async fn receive_at_most(most: usize, mut taken: Taken, request: Request, next: Next) -> Response {
    let dialect = Dialect::of(request.uri().path());
    let (head, body) = request.into_parts();
    let coded = |coding: &&HeaderValue| !coding.as_bytes().eq_ignore_ascii_case(b"identity");
    if let Some(coding) = head.headers.get(header::CONTENT_ENCODING).filter(coded) {
        let message = format!("A body with the Content-Encoding {coding:?} is not read here.");
        let error = Error::new(ErrorKind::Unsupported, message).hint("Send it as it is.");
        return dialect.refuse_as(StatusCode::UNSUPPORTED_MEDIA_TYPE, error);
    }
    let Refusal(status, message) = match read_within(BODY_PATIENCE, body, most, &mut taken).await {
        Ok(bytes) => {
            let mut request = Request::from_parts(head, Body::from(bytes));
            // Measured already; the framework's own limit is smaller.
            DefaultBodyLimit::disable().apply(&mut request);
            return next.run(request).await;
        }
        Err(refusal) => refusal,
    };
    let error = match status {
        StatusCode::SERVICE_UNAVAILABLE => Error::new(ErrorKind::Busy, message).retry_after_ms(1_000),
        _ => Error::new(ErrorKind::Invalid, message),
    };
    let refused = dialect.refuse_as(status, error);
    // What has not come until now is not waited for again.
    if status == StatusCode::REQUEST_TIMEOUT { last(refused) } else { refused }
}

#[derive(Debug)]
struct Refusal(StatusCode, String);

/// Returns how long the body of a request to `path` may be.
fn bytes_max(path: &str) -> usize {
    if ["/v1/files", "/api/v1/files"].contains(&path) { FILE_BYTES_MAX } else { BODY_BYTES_MAX }
}

async fn read_within(patience: Duration, body: Body, most: usize, taken: &mut Taken) -> Result<Vec<u8>, Refusal> {
    let late = |_| {
        let message = format!("The body did not arrive within {} seconds.", patience.as_secs_f32());
        Err(Refusal(StatusCode::REQUEST_TIMEOUT, message))
    };
    timeout(patience, read(body, most, taken)).await.unwrap_or_else(late)
}

async fn read(body: Body, most: usize, taken: &mut Taken) -> Result<Vec<u8>, Refusal> {
    let too_large = || {
        let message = format!("The body is larger than the limit of {most} bytes.");
        Err(Refusal(StatusCode::PAYLOAD_TOO_LARGE, message))
    };
    if body.size_hint().lower() > most as u64 {
        return too_large();
    }
    let mut stream = body.into_data_stream();
    let mut bytes = Vec::new();
    while let Some(piece) = stream.next().await {
        let piece = piece.map_err(|error| Refusal(StatusCode::BAD_REQUEST, format!("The body broke off: {error}.")))?;
        let size = bytes.len().saturating_add(piece.len());
        if size > most {
            return too_large();
        }
        if !taken.grow(size) {
            let message = "The bodies of the requests under way leave no room for another large one.";
            return Err(Refusal(StatusCode::SERVICE_UNAVAILABLE, message.to_string()));
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

/// A request body whose members are all known.
pub struct Members(Value);

impl Members {
    /// Reads a JSON object, refusing members outside `known`; a null member counts as absent.
    pub fn read(body: &Bytes, known: &[&[&str]]) -> Result<Self, Error> {
        let mut object = object(body)?;
        object.retain(|_, value| !value.is_null());
        match object.keys().find(|name| !known.iter().any(|names| names.contains(&name.as_str()))) {
            None => Ok(Self(Value::Object(object))),
            Some(name) => Err(not_honoured(name, format!("The parameter '{name}' is not supported here."))),
        }
    }

    /// Reads the members that `T` names.
    pub fn part<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_path_to_error::deserialize(InParts(&self.0)).map_err(|error| {
            let path = error.path().to_string();
            let message = error.into_inner().to_string();
            if path == "." {
                // A missing member has no path of its own; serde names it in backquotes.
                let missing = message.split('`').nth(1).unwrap_or_default().to_owned();
                Error::invalid(missing, format!("The request is incomplete: {message}."))
            } else {
                misread(path, &message)
            }
        })
    }
}

/// Reads the members of `T` from a JSON object that stands at `at` in the request.
pub fn part<T: DeserializeOwned>(at: &str, object: Map<String, Value>) -> Result<T, Error> {
    serde_path_to_error::deserialize(Strict(&Value::Object(object))).map_err(|error| {
        let path = match error.path().to_string().as_str() {
            "." => at.to_owned(),
            inner => format!("{at}.{inner}"),
        };
        misread(path, &error.into_inner().to_string())
    })
}

/// Says what is wrong with what stands at `path`.
fn misread(path: String, message: &str) -> Error {
    let Some(name) = strict::unknown(message) else {
        let message = format!("Invalid value for '{path}': {}.", plain(message));
        return Error::invalid(path, message);
    };
    unread(&path, name)
}

/// Says in users' words what is expected where serde names a type of Rust's.
fn plain(message: &str) -> String {
    let Some((before, expected)) = message.rsplit_once(", expected ") else { return message.to_owned() };
    let expected = match expected.split(' ').next() {
        Some("u8") => "a whole number from 0 to 255",
        Some("u16") => "a whole number from 0 to 65535",
        Some("u32") => "a whole number from 0 to 4294967295",
        Some("u64" | "usize") => "a whole number that is not negative",
        Some("i64") => "a whole number",
        Some("f32") => "a number",
        Some("struct") => "an object",
        _ => expected,
    };
    format!("{before}, expected {expected}")
}

/// Refuses members of an object at `at` that are not `known`, where no struct says which are.
pub fn only(at: &str, object: &Value, known: &[&str]) -> Result<(), Error> {
    let mut members = object.as_object().into_iter().flatten();
    match members.find(|(name, value)| !value.is_null() && !known.contains(&name.as_str())) {
        None => Ok(()),
        Some((name, _)) => Err(unread(at, name)),
    }
}

fn unread(at: &str, name: &str) -> Error {
    let param = format!("{at}.{name}");
    let message = format!("'{param}' is not supported here.");
    not_honoured(param, message)
}

/// Refuses what cannot be honoured.
pub fn not_honoured(param: impl Into<String>, message: impl Into<String>) -> Error {
    let hint = "Leave it out: Impetus refuses what it cannot honour instead of ignoring it.";
    Error::unsupported(param, message).hint(hint)
}

/// Accepts `value` only where it asks for what happens anyway; `usual` says what that is.
pub fn accept_only(name: &str, value: Option<&Value>, usual: &[Value]) -> Result<(), Error> {
    match value {
        Some(value) if !value.is_null() && !usual.contains(value) => {
            let usual = usual.iter().map(Value::to_string).collect::<Vec<_>>().join(" or ");
            Err(not_honoured(name, format!("'{name}' cannot be {value} here; only {usual} is supported.")))
        }
        _ => Ok(()),
    }
}

/// Returns what stands after a path's question mark, or says what is wrong with it.
pub fn query<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, Error> {
    query.map(|Query(query)| query).map_err(|error| {
        let text = error.body_text();
        let (before, reason) = text.rsplit_once(": ").unwrap_or(("query", &text));
        // A field that is there twice, or not at all, is named in the sentence alone.
        let named = reason.split_once(" field `").and_then(|(_, rest)| rest.split('`').next());
        let param = named.or(before.rsplit(' ').next()).unwrap_or("query");
        let message = format!("The query cannot be read: {text}.");
        Error::invalid(param, message).hint("Write it as name=value, joined by '&'.")
    })
}

/// Refuses whatever stands after the question mark of a path that has nothing to say there.
pub fn no_query(uri: &Uri) -> Result<(), Error> {
    let Some(first) = uri.query().and_then(|query| query.split('&').find(|pair| !pair.is_empty())) else {
        return Ok(());
    };
    let name = first.split('=').next().unwrap_or_default();
    Err(not_honoured(name, format!("{} takes no '{name}' after a question mark.", uri.path())))
}

/// An id in a path.
pub type PathId = Result<Path<String>, PathRejection>;

/// Returns an id that stands in a path.
pub fn path_id(id: PathId) -> Result<String, Error> {
    id.map(|Path(id)| id).map_err(|_| Error::invalid("id", "The id in the path is not UTF-8."))
}

/// Reads a JSON object, whatever its members.
pub fn object(body: &Bytes) -> Result<Map<String, Value>, Error> {
    let hint = "Send a JSON object with the header Content-Type: application/json.";
    if body.is_empty() {
        return Err(Error::new(ErrorKind::Invalid, "The request has no body.").hint(hint));
    }
    if values(body) > VALUES_MAX {
        let message = format!("The body holds more than {VALUES_MAX} values in lists and objects.");
        return Err(Error::new(ErrorKind::Invalid, message).hint("Send fewer in one request."));
    }
    match serde_json::from_slice(unmarked(body)) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Error::new(ErrorKind::Invalid, "The body is JSON, but not an object.").hint(hint)),
        Err(error) => Err(Error::new(ErrorKind::Invalid, format!("The body is not valid JSON: {error}.")).hint(hint)),
    }
}

/// Returns text without the mark that Windows' editors put before it.
fn unmarked(text: &[u8]) -> &[u8] {
    text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text)
}

/// How many values a body may hold at most, if it is JSON: each but the first follows a bracket or a comma.
fn values(body: &[u8]) -> usize {
    let (mut count, mut quoted, mut escaped) = (1, false, false);
    for byte in body {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = quoted,
            b'"' => quoted = !quoted,
            b'[' | b'{' | b',' if !quoted => count += 1,
            _ => {}
        }
    }
    count
}

#[cfg(test)]
mod tests;
