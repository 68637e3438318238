//! `/api/generate`.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use protocol::Error;
use protocol::client::Client;
use protocol::generation::{Chat, Message, Prompt, Role};
use protocol::model::ModelCard;
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::context;
use super::error::OllamaError;
use super::lines::{Kind, Line, Manner, answer, only_load};
use super::request::{SHARED, Settings, Shared, card, lacking};
use crate::app::Bridge;
use crate::body::Members;
use crate::infill::Infill;
use crate::openapi::{LINES, Operation, part};

/// The members of a request.
pub const KNOWN: &[&[&str]] = &[SHARED, OWN];

const OWN: &[&str] = &["prompt", "system", "raw", "suffix", "images", "template", "context"];

/// The members of this endpoint alone.
#[derive(Debug, Deserialize, ToSchema)]
pub struct Own {
    prompt: Option<String>,
    system: Option<String>,
    raw: Option<bool>,
    suffix: Option<String>,
    images: Option<Vec<Value>>,
    template: Option<String>,
    /// What the answer before gave back.
    context: Option<Vec<u32>>,
}

/// What the document says of this endpoint.
pub fn operation() -> Operation {
    Operation::new("Answer a prompt")
        .more(
            "It streams unless `stream` is false. Without a prompt it only brings the model into memory. The `context` of an \
             answer, sent with the next prompt, has the conversation go on.",
        )
        .takes(
            "OllamaGenerateRequest",
            KNOWN,
            [part::<Shared>(), part::<Own>()],
            json!({
                "model": "impetus-nano", "prompt": "What is Impetus?", "stream": false
            }),
        )
        .gives::<Line>("The answer, whole, or line by line.")
        .streams::<Line>(LINES)
}

/// Answers a prompt; an empty one only brings the model into memory.
pub async fn generate(State(bridge): State<Arc<Bridge>>, body: Bytes) -> Result<Response, OllamaError> {
    Ok(complete(&bridge, body).await.map_err(|error| match error.param.as_deref() {
        // What the daemon calls every conversation.
        Some("messages") => error.param("prompt"),
        _ => error,
    })?)
}

async fn complete(bridge: &Bridge, body: Bytes) -> Result<Response, Error> {
    let arrived = Instant::now();
    let members = Members::read(&body, KNOWN)?;
    let mut shared: Shared = members.part()?;
    let own: Own = members.part()?;
    // Nothing of it is held while a model answers.
    drop((members, body));
    own.check()?;
    let client = bridge.daemon.client().await?;
    let card = card(&client, &shared.model).await?;
    let manner = Manner::new(Kind::Generate, &shared, arrived)?;
    let settings = shared.settings()?;
    shared.thinking()?;
    if own.prompt.as_ref().is_none_or(String::is_empty) && own.suffix.as_ref().is_none_or(String::is_empty) {
        return only_load(&client, card.name, manner).await;
    }
    let answered = prompted(&client, &card, own, &shared, settings, manner).await;
    answered.map_err(|error| lacking(&card, "generate", error))
}

/// Answers what `own` asks a model.
async fn prompted(
    client: &Client,
    card: &ModelCard,
    own: Own,
    shared: &Shared,
    settings: Settings,
    manner: Manner,
) -> Result<Response, Error> {
    let model = card.name.clone();
    if let Some(suffix) = own.suffix.clone().filter(|suffix| !suffix.is_empty()) {
        if shared.thinking()? == Some(true) {
            return Err(Error::unsupported("think", "'think' has no effect where a gap is filled."));
        }
        let infill = Infill::of(client, Some(model.clone())).await?;
        let prompt = infill.prompt(own.prompt.unwrap_or_default(), suffix).await?;
        return answer(client, settings.request(model, prompt), manner).await;
    }
    // A model without a template has nothing to wrap a prompt in.
    if own.raw.unwrap_or(!card.facts.capabilities.chat) {
        return answer(client, settings.request(model, raw(own, shared)?), manner).await;
    }
    let chat = chat(own, shared)?;
    let manner = Manner { turns: Some(chat.messages.clone()), ..manner };
    answer(client, settings.request(model, Prompt::Chat(chat)), manner).await
}

impl Own {
    /// Refuses what would have no effect.
    pub fn check(&self) -> Result<(), Error> {
        let given = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        let images = self.images.as_ref().is_some_and(|images| !images.is_empty());
        let context = self.context.as_ref().is_some_and(|context| !context.is_empty());
        let refused = [
            ("images", images, "images are not supported yet; only text is"),
            ("template", given(&self.template), "the model's own chat template is used; send 'raw' to use none"),
            ("system", given(&self.system) && given(&self.suffix), "it has no place where a gap is filled"),
            ("context", context && given(&self.suffix), "it has no place where a gap is filled"),
        ];
        match refused.into_iter().find(|(_, given, _)| *given) {
            None => Ok(()),
            Some((name, _, why)) => Err(Error::unsupported(name, format!("'{name}' is not supported here: {why}."))),
        }
    }
}

fn raw(own: Own, shared: &Shared) -> Result<Prompt, Error> {
    if own.system.is_some_and(|system| !system.is_empty()) {
        return Err(Error::unsupported("system", "'system' has no place in a raw prompt."));
    }
    if own.context.is_some_and(|context| !context.is_empty()) {
        return Err(Error::unsupported("context", "'context' has no place in a raw prompt."));
    }
    if shared.thinking()? == Some(true) {
        return Err(Error::unsupported("think", "'think' has no effect on a raw prompt."));
    }
    Ok(Prompt::Text(own.prompt.unwrap_or_default()))
}

/// Returns the conversation that a prompt goes on with, or begins.
pub fn chat(own: Own, shared: &Shared) -> Result<Chat, Error> {
    let mut messages = context::read(&own.context.unwrap_or_default())?;
    if let Some(system) = own.system.filter(|system| !system.is_empty()) {
        // Instructions stand in place of those that were there.
        messages.retain(|turn| turn.role != Role::System);
        messages.insert(0, Message::new(Role::System, system));
    }
    messages.push(Message::new(Role::User, own.prompt.unwrap_or_default()));
    let (thinking, template_arguments) = (shared.thinking()?, shared.effort()?);
    Ok(Chat { messages, thinking, template_arguments, ..Chat::default() })
}
