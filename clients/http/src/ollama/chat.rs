//! `/api/chat`.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use protocol::Error;
use protocol::generation::{self as g, Chat, Json, Message, Prompt, Role, ToolCall};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::error::OllamaError;
use super::lines::{Kind, Line, Manner, answer, only_load};
use super::request::{SHARED, Shared, card, lacking};
use crate::app::Bridge;
use crate::body::Members;
use crate::openapi::{LINES, Operation, part};
use crate::turns::ending;

/// The members of a request.
pub const KNOWN: &[&[&str]] = &[SHARED, &["messages", "tools"]];

/// The members of a conversation.
#[derive(Debug, Deserialize, ToSchema)]
pub struct Own {
    messages: Option<Vec<MessageBody>>,
    tools: Option<Vec<ToolBody>>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = OllamaMessage)]
struct MessageBody {
    role: RoleBody,
    content: Option<String>,
    thinking: Option<String>,
    images: Option<Vec<Value>>,
    tool_calls: Option<Vec<CallBody>>,
    tool_name: Option<String>,
    tool_call_id: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[schema(as = OllamaRole)]
#[serde(rename_all = "lowercase")]
enum RoleBody {
    System,
    User,
    Assistant,
    Tool,
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = OllamaCall)]
struct CallBody {
    id: Option<String>,
    function: CalledBody,
    #[serde(rename = "type")]
    _kind: Option<String>,
    #[serde(rename = "index")]
    _index: Option<u32>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = OllamaCalled)]
struct CalledBody {
    name: String,
    arguments: Option<Map<String, Value>>,
    /// Where it stood among the calls of its answer.
    #[serde(rename = "index")]
    _index: Option<u32>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = OllamaTool)]
struct ToolBody {
    r#type: Option<String>,
    function: FunctionBody,
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = OllamaFunction)]
struct FunctionBody {
    name: String,
    description: Option<String>,
    parameters: Option<Value>,
    /// Whether calls are held to the parameters, as OpenAI's clients ask.
    strict: Option<bool>,
}

/// What the document says of this endpoint.
pub fn operation() -> Operation {
    Operation::new("Answer a conversation")
        .more(
            "It streams unless `stream` is false. Without messages it only brings the model into memory. The answer goes on \
             with a last message of the assistant, and holds only what follows.",
        )
        .takes("OllamaChatRequest", KNOWN, [part::<Shared>(), part::<Own>()], json!({
            "model": "impetus-nano", "messages": [{ "role": "user", "content": "What is Impetus?" }], "stream": false
        }))
        .gives::<Line>("The answer, whole, or line by line.")
        .streams::<Line>(LINES)
}

/// Answers a conversation; one without messages only brings the model into memory.
pub async fn chat(State(bridge): State<Arc<Bridge>>, body: Bytes) -> Result<Response, OllamaError> {
    Ok(converse(&bridge, body).await?)
}

async fn converse(bridge: &Bridge, body: Bytes) -> Result<Response, Error> {
    let arrived = Instant::now();
    let members = Members::read(&body, KNOWN)?;
    let mut shared: Shared = members.part()?;
    let mut own: Own = members.part()?;
    // Nothing of it is held while a model answers.
    drop((members, body));
    let client = bridge.daemon.client().await?;
    let card = card(&client, &shared.model).await?;
    let manner = Manner::new(Kind::Chat, &shared, arrived)?;
    let settings = shared.settings()?;
    let tools = own.tools.take().into_iter().flatten().map(tool).collect::<Result<_, _>>()?;
    let thinking = shared.thinking()?;
    if own.messages.as_ref().is_none_or(Vec::is_empty) {
        return only_load(&client, card.name, manner).await;
    }
    let messages = own.turns()?;
    let chat = Chat {
        tools,
        ending: ending(&messages),
        messages,
        thinking,
        template_arguments: shared.effort()?,
        ..Chat::default()
    };
    let answered = answer(&client, settings.request(card.name.clone(), Prompt::Chat(chat)), manner).await;
    answered.map_err(|error| lacking(&card, "chat", error))
}

impl Own {
    /// Returns the turns of a conversation.
    pub fn turns(self) -> Result<Vec<Message>, Error> {
        messages(self.messages.unwrap_or_default())
    }
}

/// Returns the turns; calls without an id get one, and results without one answer the oldest call that waits.
fn messages(bodies: Vec<MessageBody>) -> Result<Vec<Message>, Error> {
    let mut waiting: Vec<(String, String)> = Vec::new();
    let mut called = 0;
    let mut turns = Vec::new();
    for (at, body) in bodies.into_iter().enumerate() {
        if body.images.is_some_and(|images| !images.is_empty()) {
            return Err(Error::unsupported(
                format!("messages[{at}].images"),
                "Images are not supported yet; only text is.",
            ));
        }
        let role = match body.role {
            RoleBody::System => Role::System,
            RoleBody::User => Role::User,
            RoleBody::Assistant => Role::Assistant,
            RoleBody::Tool => Role::Tool,
        };
        let mut tool_calls = Vec::new();
        for call in body.tool_calls.into_iter().flatten() {
            called += 1;
            let id = call.id.filter(|id| !id.is_empty()).unwrap_or_else(|| format!("call_{called:024}"));
            let name = call.function.name;
            waiting.push((id.clone(), name.clone()));
            let arguments = Json(Value::Object(call.function.arguments.unwrap_or_default()).to_string());
            tool_calls.push(ToolCall { id, name, arguments });
        }
        let (mut tool_call_id, mut name) = (body.tool_call_id, body.tool_name);
        if role == Role::Tool {
            let fits = |(id, tool): &(String, String)| match (&tool_call_id, &name) {
                (Some(wanted), _) => id == wanted,
                (None, Some(wanted)) => tool == wanted,
                (None, None) => true,
            };
            if let Some(found) = waiting.iter().position(fits) {
                let (id, tool) = waiting.remove(found);
                (tool_call_id, name) = (Some(id), Some(tool));
            }
        }
        let content = body.content.unwrap_or_default();
        turns.push(Message { role, content, reasoning: body.thinking, tool_calls, tool_call_id, name });
    }
    Ok(turns)
}

fn tool(body: ToolBody) -> Result<g::Tool, Error> {
    if let Some(kind) = body.r#type.filter(|kind| kind != "function") {
        let message = format!("Tools of type '{kind}' are not supported; only functions are.");
        return Err(Error::unsupported("tools", message));
    }
    let FunctionBody { name, description, parameters, strict } = body.function;
    let parameters = parameters.map(|schema| Json(schema.to_string()));
    Ok(g::Tool { name, description, parameters, strict: strict == Some(true) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bodies: Value) -> Result<Vec<Message>, Error> {
        Ok(conversation(json!({ "messages": bodies }))?.0)
    }

    fn conversation(members: Value) -> Result<(Vec<Message>, Vec<g::Tool>), Error> {
        let mut own: Own = Members::read(&Bytes::from(members.to_string()), KNOWN)?.part()?;
        let tools = own.tools.take().into_iter().flatten().map(tool).collect::<Result<_, _>>()?;
        Ok((own.turns()?, tools))
    }

    #[test]
    fn results_find_the_calls_they_answer() {
        let turns = read(json!([
            {"role": "user", "content": "weather?"},
            {"role": "assistant", "content": "", "tool_calls": [
                {"function": {"name": "look", "arguments": {"city": "Kyiv"}}},
                {"function": {"name": "ask", "arguments": {}}},
            ]},
            {"role": "tool", "tool_name": "ask", "content": "no"},
            {"role": "tool", "content": "sun"},
        ]))
        .unwrap();
        let (look, ask) = (&turns[1].tool_calls[0], &turns[1].tool_calls[1]);
        assert_ne!(look.id, ask.id);
        assert_eq!(turns[2].tool_call_id.as_ref(), Some(&ask.id));
        assert_eq!((turns[3].tool_call_id.as_ref(), turns[3].name.as_deref()), (Some(&look.id), Some("look")));
    }

    #[test]
    fn members_that_nobody_reads_are_refused_wherever_they_stand() {
        let call = json!({"id": "c", "type": "function", "index": 0, "function": {"index": 0, "name": "f"}});
        let body = json!({
            "messages": [{"role": "user", "content": "x", "images": null}, {"role": "assistant", "tool_calls": [call]}],
            "tools": [{"type": "function", "function": {"name": "f", "strict": true}}],
        });
        assert!(conversation(body.clone()).unwrap().1[0].strict);
        for at in [
            "/messages/0",
            "/messages/1/tool_calls/0",
            "/messages/1/tool_calls/0/function",
            "/tools/0",
            "/tools/0/function",
        ] {
            let mut body = body.clone();
            body.pointer_mut(at).unwrap()["colour"] = json!("red");
            let error = conversation(body).unwrap_err();
            assert_eq!(error.kind, protocol::ErrorKind::Unsupported, "{at}: {}", error.message);
        }
    }

    #[test]
    fn images_are_refused_by_name() {
        let error = read(json!([{"role": "user", "content": "what?", "images": ["AAAA"]}])).unwrap_err();
        assert_eq!(error.param.as_deref(), Some("messages[0].images"));
        assert!(read(json!([{"role": "user", "content": "what?", "images": []}])).is_ok());
    }
}
