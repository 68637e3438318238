//! What the bridge makes of what it is sent, bodies, forms, messages and heads, without a daemon: for the fuzz targets, which are
//! strangers to this crate. No product code calls this.

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderValue};
use protocol::Result;

use crate::access::{Hosts, Origins};
use crate::body::Members;
use crate::login::Logins;
use crate::login::token::Signer;
use crate::openai::responses::request::{Asked, Body};
use crate::{admin, anthropic, cohere, llama, ollama, openai, rerank, score, traces, ws};

/// Reads a body as the request of every dialect in turn. Only that it comes to an end is of interest: what comes of it,
/// a refusal too, is dropped.
pub fn read(body: &[u8]) {
    let body = Bytes::copy_from_slice(body);
    for read in [chat, text, response, messages, ollama_chat, ollama_generate, llama_completion, others] {
        let _ = read(&body).map_err(openai::request::in_our_words);
    }
}

/// Reads the form of an upload whose content type is the first line of `upload`, and what it holds as a batch of each kind.
pub fn form(upload: &[u8]) {
    let (first, rest) = upload.split_at(upload.iter().position(|byte| *byte == b'\n').unwrap_or(0));
    let content_type = std::str::from_utf8(first).ok();
    let body = Bytes::copy_from_slice(rest.strip_prefix(b"\n").unwrap_or(rest));
    if let Ok((text, _)) = openai::files::read(content_type, &body, 0) {
        lines(&text);
    }
    lines(&body);
}

/// Reads the lines of a batch.
fn lines(text: &[u8]) {
    use openai::batches::object::Endpoint;
    let Ok(text) = std::str::from_utf8(text) else { return };
    for endpoint in [Endpoint::Chat, Endpoint::Completions, Endpoint::Embeddings, Endpoint::Responses] {
        // What is wrong is told; that is all that may happen.
        let _ = openai::batches::lines::read(text, endpoint);
    }
}

/// Reads a text as a WebSocket's message, as a login of this bridge's own that says it, and as one that it did not sign.
pub fn message(text: &[u8]) {
    let words = String::from_utf8_lossy(text);
    let _ = ws::message::Heard::read(&words);
    let signer = Signer::new(b"a secret of nobody's");
    for token in [signer.seal(text), words.into_owned()] {
        let _ = signer.read(&token, 0).map(|claims| claims.renewed(0));
    }
}

/// Reads lines of a request's head as its Host, its Origin and its traceparent.
pub fn head(lines: &[u8]) {
    let lines = String::from_utf8_lossy(lines);
    let mut lines = lines.lines();
    let mut next = || lines.next().unwrap_or_default();
    let (host, origin, trace) = (next(), next(), next());
    let hosts = Hosts::new(([127, 0, 0, 1], 0).into(), &[host.to_owned()]);
    for name in [host, origin] {
        let _ = hosts.allow(name);
        let _ = Origins::new(&[origin.to_owned()]).allow(name, host, &hosts);
    }
    let mut headers = HeaderMap::new();
    for (name, value) in [("traceparent", trace), ("cookie", host), ("tracestate", origin)] {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.append(name, value);
        }
    }
    let _ = traces::parent(&headers).map(|parent| parent.to_string());
    let _ = Logins::new(false, b"a secret of nobody's").of(&headers);
}

/// The bodies that ask for no text.
fn others(body: &Bytes) -> Result<()> {
    let _ = (openai::embeddings::read(body), rerank::read(body), openai::tokens::read(body));
    let _ = (anthropic::messages::counted(body), admin::keys::read(body));
    let _ = (llama::infill::read(body), score::read(body), cohere::read(body));
    Ok(())
}

fn chat(body: &Bytes) -> Result<()> {
    let members = Members::read(body, openai::chat::KNOWN)?;
    openai::labels::Labels::check(&members)?;
    let shared: openai::request::Shared = members.part()?;
    shared.streaming()?;
    openai::chat::request(shared, members.part()?).map(drop)
}

fn text(body: &Bytes) -> Result<()> {
    let members = Members::read(body, openai::completions::KNOWN)?;
    openai::labels::Labels::check(&members)?;
    let shared: openai::request::Shared = members.part()?;
    shared.streaming()?;
    openai::completions::requests(shared, members.part()?).map(drop)
}

fn llama_completion(body: &Bytes) -> Result<()> {
    let (shared, own, given, _) = llama::completion::read(body)?;
    llama::completion::request(&shared, &own, given.len()).map(drop)
}

fn response(body: &Bytes) -> Result<()> {
    let members = Members::read(body, openai::responses::request::KNOWN)?;
    let body = Body::read(&members)?;
    Asked::after(Vec::new(), &members.part()?, body).map(drop)
}

fn messages(body: &Bytes) -> Result<()> {
    let members = Members::read(body, anthropic::messages::CREATE)?;
    anthropic::labels::Labels::check(&members)?;
    let own: anthropic::request::Own = members.part()?;
    own.request(members.part()?).map(drop)
}

fn ollama_chat(body: &Bytes) -> Result<()> {
    let members = Members::read(body, ollama::chat::KNOWN)?;
    let mut shared: ollama::request::Shared = members.part()?;
    let own: ollama::chat::Own = members.part()?;
    shared.keep_alive().and(shared.thinking())?;
    shared.settings()?;
    own.turns().map(drop)
}

fn ollama_generate(body: &Bytes) -> Result<()> {
    let members = Members::read(body, ollama::generate::KNOWN)?;
    let own: ollama::generate::Own = members.part()?;
    own.check()?;
    ollama::generate::chat(own, &members.part()?).map(drop)
}
