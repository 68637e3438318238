//! What each dialect makes of a body, without a daemon: for the fuzz targets, which are strangers to this crate.
//! No product code calls this.

use axum::body::Bytes;
use protocol::Result;

use crate::body::Members;
use crate::openai::responses::request::{Asked, Body};
use crate::{anthropic, ollama, openai};

/// Reads a body as the request of every dialect in turn. Only that it comes to an end is of interest: what comes of it,
/// a refusal too, is dropped.
pub fn read(body: &[u8]) {
    let body = Bytes::copy_from_slice(body);
    for read in [chat, text, response, messages, ollama_chat, ollama_generate] {
        let _ = read(&body).map_err(openai::request::in_our_words);
    }
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
