//! How much a model is asked to reason, as OpenAI's clients say it to chats and to responses.

use protocol::Error;
use protocol::generation::Json;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// How much a model reasons before it answers.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize, ToSchema)]
#[schema(as = ReasoningEffort)]
#[serde(rename_all = "lowercase")]
pub enum Effort {
    None,
    Minimal,
    Low,
    Medium,
    High,
    Xhigh,
    Max,
}

/// How much, as Ollama's and routers' clients say it to chats.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[schema(as = ChatReasoning)]
#[serde(deny_unknown_fields)]
pub struct Reasoning {
    effort: Option<Effort>,
}

impl Effort {
    /// Returns the one effort that is asked for, under either name.
    pub fn either(plain: Option<Self>, within: Option<Reasoning>) -> Result<Option<Self>, Error> {
        match (plain, within.and_then(|reasoning| reasoning.effort)) {
            (Some(plain), Some(within)) if plain != within => {
                let message = "'reasoning.effort' and 'reasoning_effort' say different things; send one of them.";
                Err(Error::invalid("reasoning.effort", message))
            }
            (plain, within) => Ok(plain.or(within)),
        }
    }

    /// The most tokens of reasoning; great efforts have no limit.
    pub fn budget(self) -> Option<u32> {
        match self {
            Self::Minimal => Some(512),
            Self::Low => Some(2048),
            Self::Medium => Some(8192),
            Self::None | Self::High | Self::Xhigh | Self::Max => None,
        }
    }

    /// The word that templates know, if they know one.
    fn word(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Minimal | Self::Low => Some("low"),
            Self::Medium => Some("medium"),
            Self::High | Self::Xhigh | Self::Max => Some("high"),
        }
    }
}

/// Returns the template's further variables; an effort goes by the name that templates know it by.
pub fn template_arguments(given: Option<serde_json::Map<String, Value>>, effort: Option<Effort>) -> Option<Json> {
    let word = effort.and_then(Effort::word);
    let mut arguments = given.or(word.map(|_| serde_json::Map::new()))?;
    if let Some(word) = word {
        arguments.entry("reasoning_effort").or_insert(word.into());
    }
    Some(Json(Value::Object(arguments).to_string()))
}
