//! `/tokenize`, `/detokenize` and `/apply-template`, as llama-server shapes them, under the root and under `/v1`.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use protocol::generation::{Chat, Prompt};
use protocol::text::{DetokenizeRequest, Special, TokenizeRequest};
use protocol::{Error, ErrorKind};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::chat;
use super::request::{accept_only, in_our_words};
use crate::app::Bridge;
use crate::body::Members;
use crate::error::HttpError;

/// The members that make a conversation.
const CONVERSATION: &[&str] = &["messages", "tools", "tool_choice", "chat_template_kwargs", "enable_thinking"];

/// Returns the routes of this module, relative to wherever they are to be found.
pub fn routes() -> Router<Arc<Bridge>> {
    Router::new()
        .route("/tokenize", post(tokenize))
        .route("/detokenize", post(detokenize))
        .route("/apply-template", post(apply_template))
}

#[derive(Debug, Deserialize)]
struct TokenizeBody {
    model: Option<String>,
    content: Option<String>,
    add_special: Option<bool>,
    parse_special: Option<bool>,
    with_pieces: Option<bool>,
    messages: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct DetokenizeBody {
    model: Option<String>,
    tokens: Vec<u32>,
}

#[derive(Debug, Deserialize)]
struct TemplateBody {
    model: Option<String>,
    add_generation_prompt: Option<Value>,
}

/// A token, with or without what it spells.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Token {
    Id(u32),
    Piece { id: u32, piece: Piece },
}

/// What a token spells: text, or bytes where it is half a character.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Piece {
    Text(String),
    Bytes(Vec<u8>),
}

#[derive(Debug, Serialize)]
struct TokenList {
    tokens: Vec<Token>,
    count: usize,
}

/// Returns the tokens of a text, or of a conversation.
async fn tokenize(State(bridge): State<Arc<Bridge>>, body: Bytes) -> Result<Json<TokenList>, HttpError> {
    const OWN: &[&str] = &["model", "content", "add_special", "parse_special", "with_pieces"];
    let members = Members::read(&body, &[OWN, CONVERSATION])?;
    let own: TokenizeBody = members.part()?;
    let pieces = own.with_pieces.unwrap_or(false);
    let prompt = match (&own.content, &own.messages) {
        (Some(content), None) => Prompt::Text(content.clone()),
        (None, Some(_)) => Prompt::Chat(conversation(&members)?),
        _ => return Err(Error::invalid("content", "Send either 'content' or 'messages'.").into()),
    };
    let special = special(own.add_special.unwrap_or(false), own.parse_special.unwrap_or(true))?;
    let request = TokenizeRequest { model: own.model, prompt, special, pieces };
    let found = bridge.daemon.client().await?.tokenize(request).await.map_err(named)?;
    let count = found.tokens.len();
    let tokens = match pieces {
        false => found.tokens.into_iter().map(Token::Id).collect(),
        true => found
            .tokens
            .into_iter()
            .zip(found.pieces)
            .map(|(id, bytes)| Token::Piece { id, piece: piece(bytes) })
            .collect(),
    };
    Ok(Json(TokenList { tokens, count }))
}

/// Returns the text that tokens spell.
async fn detokenize(State(bridge): State<Arc<Bridge>>, body: Bytes) -> Result<Json<Value>, HttpError> {
    let DetokenizeBody { model, tokens } = Members::read(&body, &[&["model", "tokens"]])?.part()?;
    let content = bridge.daemon.client().await?.detokenize(DetokenizeRequest { model, tokens }).await?;
    Ok(Json(json!({ "content": content })))
}

/// Returns the prompt that the model's template makes of a conversation.
async fn apply_template(State(bridge): State<Arc<Bridge>>, body: Bytes) -> Result<Json<Value>, HttpError> {
    let members = Members::read(&body, &[&["model", "add_generation_prompt"], CONVERSATION])?;
    let own: TemplateBody = members.part()?;
    accept_only("add_generation_prompt", own.add_generation_prompt.as_ref(), &[json!(true)])?;
    let prompt = Prompt::Chat(conversation(&members)?);
    let request = TokenizeRequest { model: own.model, prompt, special: Special::Parse, pieces: false };
    let found = bridge.daemon.client().await?.tokenize(request).await.map_err(named)?;
    Ok(Json(json!({ "prompt": found.rendered.unwrap_or_default() })))
}

fn conversation(members: &Members) -> Result<Chat, Error> {
    chat::conversation(members.part()?)
}

/// Returns the daemon's refusal with the field at fault under this endpoint's name.
fn named(error: Error) -> HttpError {
    let mut error = in_our_words(error);
    if error.param.as_deref() == Some("prompt") {
        error.param = Some("content".to_owned());
    }
    error.into()
}

fn special(add: bool, parse: bool) -> Result<Special, Error> {
    match (add, parse) {
        (false, false) => Ok(Special::Plain),
        (false, true) => Ok(Special::Parse),
        (true, true) => Ok(Special::Begin),
        (true, false) => {
            let message = "'add_special': true together with 'parse_special': false is not supported.";
            Err(Error::new(ErrorKind::Unsupported, message).hint("Leave one of them out.").param("parse_special"))
        }
    }
}

fn piece(bytes: Vec<u8>) -> Piece {
    String::from_utf8(bytes).map_or_else(|error| Piece::Bytes(error.into_bytes()), Piece::Text)
}
