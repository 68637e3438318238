//! `/api/generate`.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use protocol::Error;
use protocol::generation::{Chat, Message, Prompt, Role};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::error::OllamaError;
use super::lines::{Kind, Line, Manner, answer, only_load};
use super::request::{SHARED, Shared, card, unsupported};
use crate::app::Bridge;
use crate::body::Members;
use crate::infill::Infill;
use crate::openapi::{LINES, Operation, part};

/// The members of a request.
const KNOWN: &[&[&str]] = &[SHARED, OWN];

const OWN: &[&str] = &["prompt", "system", "raw", "suffix", "images", "template", "context"];

#[derive(Debug, Deserialize, ToSchema)]
struct Own {
    prompt: Option<String>,
    system: Option<String>,
    raw: Option<bool>,
    suffix: Option<String>,
    images: Option<Vec<Value>>,
    template: Option<String>,
    context: Option<Vec<Value>>,
}

/// What the document says of this endpoint.
pub fn operation() -> Operation {
    Operation::new("Answer a prompt")
        .more("It streams unless `stream` is false. Without a prompt it only brings the model into memory.")
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
    Ok(complete(&bridge, &body).await?)
}

async fn complete(bridge: &Bridge, body: &Bytes) -> Result<Response, Error> {
    let arrived = Instant::now();
    let members = Members::read(body, KNOWN)?;
    let mut shared: Shared = members.part()?;
    let own: Own = members.part()?;
    own.check()?;
    let client = bridge.daemon.client().await?;
    let card = card(&client, &shared.model).await?;
    let manner = Manner { kind: Kind::Generate, streams: shared.streams(), keep: shared.keep_alive()?, arrived };
    let settings = shared.settings(&card)?;
    let suffix = own.suffix.clone().filter(|suffix| !suffix.is_empty());
    if own.prompt.as_ref().is_none_or(String::is_empty) && suffix.is_none() {
        return only_load(&client, card.name, manner).await;
    }
    if let Some(suffix) = suffix {
        let infill = Infill::of(&client, Some(card.name.clone())).await?;
        let prompt = infill.prompt(own.prompt.unwrap_or_default(), suffix).await?;
        return answer(&client, settings.request(card.name, prompt), manner).await;
    }
    // A model without a template has nothing to wrap a prompt in.
    let prompt = match own.raw.unwrap_or(!card.facts.capabilities.chat) {
        true => raw(own, &shared)?,
        false => chat(own, &shared)?,
    };
    answer(&client, settings.request(card.name, prompt), manner).await
}

impl Own {
    /// Refuses what would have no effect.
    fn check(&self) -> Result<(), Error> {
        let given = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        let listed = |list: &Option<Vec<Value>>| list.as_ref().is_some_and(|list| !list.is_empty());
        let refused = [
            ("images", listed(&self.images), "images are not supported yet; only text is"),
            ("template", given(&self.template), "the model's own chat template is used; send 'raw' to use none"),
            ("system", given(&self.system) && given(&self.suffix), "it has no place where a gap is filled"),
            ("context", listed(&self.context), "use /api/chat and send the messages so far"),
        ];
        match refused.into_iter().find(|(_, given, _)| *given) {
            None => Ok(()),
            Some((name, _, why)) => Err(unsupported(name, format!("'{name}' is not supported here: {why}."))),
        }
    }
}

fn raw(own: Own, shared: &Shared) -> Result<Prompt, Error> {
    if own.system.is_some_and(|system| !system.is_empty()) {
        return Err(unsupported("system", "'system' has no place in a raw prompt."));
    }
    if shared.thinking()? == Some(true) {
        return Err(unsupported("think", "'think' has no effect on a raw prompt."));
    }
    Ok(Prompt::Text(own.prompt.unwrap_or_default()))
}

fn chat(own: Own, shared: &Shared) -> Result<Prompt, Error> {
    let system = own.system.filter(|system| !system.is_empty()).map(|system| Message::new(Role::System, system));
    let user = Message::new(Role::User, own.prompt.unwrap_or_default());
    let messages = system.into_iter().chain([user]).collect();
    let (thinking, template_arguments) = (shared.thinking()?, shared.effort()?);
    Ok(Prompt::Chat(Chat { messages, thinking, template_arguments, ..Chat::default() }))
}
