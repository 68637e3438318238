//! `/tokenize`, `/detokenize` and `/apply-template`, as llama-server and vLLM shape them, under the root and under `/v1`.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use protocol::Error;
use protocol::generation::{Chat, Prompt};
use protocol::text::{DetokenizeRequest, Special, TokenizeRequest};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::chat;
use super::request::in_our_words;
use crate::app::Bridge;
use crate::body::{Members, accept_only};
use crate::error::HttpError;
use crate::openapi::{Operation, Routes, part};

/// The members that make a conversation.
const CONVERSATION: &[&str] = &[
    "messages",
    "tools",
    "tool_choice",
    "chat_template_kwargs",
    "enable_thinking",
    "continue_final_message",
    "add_generation_prompt",
];

/// Returns the routes of this module, relative to wherever they are to be found.
pub fn routes() -> Routes {
    let conversation = json!([{ "role": "user", "content": "What is Impetus?" }]);
    let tokenize = Operation::new("Turn a text or a conversation into tokens")
        .takes(
            "TokenizeRequest",
            TOKENIZE,
            [part::<TokenizeBody>(), part::<chat::Own>()],
            json!({
                "content": "What is Impetus?", "with_pieces": true
            }),
        )
        .gives::<TokenList>("The tokens.");
    let detokenize = Operation::new("Turn tokens into text")
        .takes("DetokenizeRequest", DETOKENIZE, [part::<DetokenizeBody>()], json!({ "tokens": [1, 2, 3] }))
        .gives::<Spelt>("The text.");
    let template = Operation::new("Show the prompt that a conversation becomes")
        .takes(
            "TemplateRequest",
            TEMPLATE,
            [part::<TemplateBody>(), part::<chat::Own>()],
            json!({
                "messages": conversation.clone()
            }),
        )
        .gives::<Rendered>("The prompt, as the model's template writes it.");
    let count = Operation::new("Count a chat's tokens")
        .more("Takes what `/v1/chat/completions` does.")
        .takes(
            "ChatCountRequest",
            chat::KNOWN,
            [part::<TemplateBody>(), part::<chat::Own>()],
            json!({ "messages": conversation }),
        )
        .gives::<Counted>("How long the prompt is.");
    Routes::new("Tokens")
        .post("/chat/completions/input_tokens", count_chat, count)
        .post("/tokenize", self::tokenize, tokenize)
        .post("/detokenize", self::detokenize, detokenize)
        .post("/apply-template", apply_template, template)
}

const TOKENIZE: &[&[&str]] = &[OWN, CONVERSATION];
const OWN: &[&str] = &[
    "model",
    "content",
    "add_special",
    "parse_special",
    "with_pieces",
    // As vLLM's clients send them.
    "prompt",
    "add_special_tokens",
    "return_token_strs",
];
const DETOKENIZE: &[&[&str]] = &[&["model", "tokens"]];
const TEMPLATE: &[&[&str]] = &[&["model"], CONVERSATION];

#[derive(Debug, Deserialize, ToSchema)]
struct TokenizeBody {
    model: Option<String>,
    content: Option<String>,
    add_special: Option<bool>,
    parse_special: Option<bool>,
    with_pieces: Option<bool>,
    /// What vLLM calls `content`; what begins a prompt is added to it, unless `add_special_tokens` is false.
    prompt: Option<String>,
    add_special_tokens: Option<bool>,
    /// Only false.
    return_token_strs: Option<Value>,
    messages: Option<Value>,
}

#[derive(Debug, Deserialize, ToSchema)]
struct DetokenizeBody {
    model: Option<String>,
    tokens: Vec<u32>,
}

#[derive(Debug, Deserialize, ToSchema)]
struct TemplateBody {
    model: Option<String>,
}

/// A token, with or without what it spells.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
enum Token {
    Id(u32),
    Piece { id: u32, piece: Piece },
}

/// What a token spells: text, or bytes where it is half a character.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
enum Piece {
    Text(String),
    Bytes(Vec<u8>),
}

#[derive(Debug, Serialize, ToSchema)]
struct TokenList {
    tokens: Vec<Token>,
    count: usize,
    /// The model's context, where the request is one of vLLM's.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_model_len: Option<u32>,
}

/// What tokens spell.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DetokenizedText)]
struct Spelt {
    content: String,
    /// The same, as vLLM calls it.
    prompt: String,
}

/// What a conversation becomes.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RenderedTemplate)]
struct Rendered {
    prompt: String,
}

/// Reads what a body asks for; whether it is in vLLM's words.
pub fn read(body: &Bytes) -> Result<(TokenizeRequest, bool), Error> {
    let members = Members::read(body, TOKENIZE)?;
    let own: TokenizeBody = members.part()?;
    let pieces = own.with_pieces.unwrap_or(false);
    accept_only("return_token_strs", own.return_token_strs.as_ref(), &[json!(false)])?;
    let prompt = match (&own.content, &own.prompt, &own.messages) {
        (Some(text), None, None) | (None, Some(text), None) => Prompt::Text(text.clone()),
        (None, None, Some(_)) => Prompt::Chat(conversation(&members)?),
        _ => return Err(Error::invalid("content", "Send either 'content' or 'messages'.")),
    };
    let add = own.add_special.or(own.add_special_tokens).unwrap_or(own.prompt.is_some());
    let special = special(add, own.parse_special.unwrap_or(true))?;
    Ok((TokenizeRequest { model: own.model, prompt, special, pieces }, own.content.is_none()))
}

/// Returns the tokens of a text, or of a conversation.
async fn tokenize(State(bridge): State<Arc<Bridge>>, body: Bytes) -> Result<Json<TokenList>, HttpError> {
    let (request, in_other_words) = read(&body)?;
    let pieces = request.pieces;
    let client = bridge.daemon.client().await?;
    let found = client.tokenize(request).await.map_err(named)?;
    let max_model_len = match in_other_words {
        false => None,
        true => client.models().await?.into_iter().find(|card| card.name == found.model),
    }
    .map(|card| card.facts.context_length);
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
    Ok(Json(TokenList { tokens, count, max_model_len }))
}

/// Returns the text that tokens spell.
async fn detokenize(State(bridge): State<Arc<Bridge>>, body: Bytes) -> Result<Json<Spelt>, HttpError> {
    let DetokenizeBody { model, tokens } = Members::read(&body, DETOKENIZE)?.part()?;
    let content = bridge.daemon.client().await?.detokenize(DetokenizeRequest { model, tokens }).await?;
    Ok(Json(Spelt { prompt: content.clone(), content }))
}

/// Returns the prompt that the model's template makes of a conversation.
async fn apply_template(State(bridge): State<Arc<Bridge>>, body: Bytes) -> Result<Json<Rendered>, HttpError> {
    let members = Members::read(&body, TEMPLATE)?;
    let own: TemplateBody = members.part()?;
    let prompt = Prompt::Chat(conversation(&members)?);
    let request = TokenizeRequest { model: own.model, prompt, special: Special::Parse, pieces: false };
    let found = bridge.daemon.client().await?.tokenize(request).await.map_err(named)?;
    Ok(Json(Rendered { prompt: found.rendered.unwrap_or_default() }))
}

/// How long a chat's prompt is.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ChatTokens)]
struct Counted {
    object: &'static str,
    input_tokens: usize,
}

/// Returns how many tokens a chat's prompt has.
async fn count_chat(State(bridge): State<Arc<Bridge>>, body: Bytes) -> Result<Json<Counted>, HttpError> {
    let members = Members::read(&body, chat::KNOWN)?;
    let TemplateBody { model } = members.part()?;
    let request = TokenizeRequest {
        model,
        prompt: Prompt::Chat(conversation(&members)?),
        special: Special::Parse,
        pieces: false,
    };
    let found = bridge.daemon.client().await?.tokenize(request).await.map_err(in_our_words)?;
    Ok(Json(Counted { object: "response.input_tokens", input_tokens: found.tokens.len() }))
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
            Err(Error::unsupported("parse_special", message).hint("Leave one of them out."))
        }
    }
}

fn piece(bytes: Vec<u8>) -> Piece {
    String::from_utf8(bytes).map_or_else(|error| Piece::Bytes(error.into_bytes()), Piece::Text)
}
