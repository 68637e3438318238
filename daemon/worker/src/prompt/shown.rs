//! Where a chat template shows tools: asked once, by rendering a conversation with a tool of a name of its own.
//!
//! Some templates show tools beside a system message only, and some speak of tools and show none: a call of what the model
//! never saw would be made up. `conversation` asks this of a model's template with the first tools.

use protocol::{Error, ErrorKind};
use serde_json::{Map, Value, json};

use super::habits::Habits;
use super::renderer::RenderError;
use crate::render::ToRender;

const NAME: &str = "look_up_the_tide";

/// Where a template shows tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// In any conversation, as far as can be told.
    Anywhere,
    /// Where there is a system message.
    BesideSystem,
    /// Nowhere.
    Nowhere,
}

impl Shown {
    /// Finds it out; a template that refuses the short conversation of the trial is trusted.
    pub fn find(
        habits: &Habits,
        now_unix_ms: i64,
        mut render: impl FnMut(ToRender) -> Result<String, RenderError>,
    ) -> Self {
        let parameters = json!({ "type": "object", "properties": { "place": { "type": "string" } } });
        let function = json!({ "name": NAME, "description": "Looks up the tide", "parameters": parameters });
        let tools = json!([{ "type": "function", "function": function }]);
        let mut shows = |mut messages: Value| {
            habits.add_tools(&mut messages, &tools);
            let text = render(ToRender {
                messages,
                tools: Some(tools.clone()),
                add_generation_prompt: true,
                continue_final_message: false,
                arguments: Map::new(),
                now_unix_ms,
            });
            text.map(|text| text.contains(NAME))
        };
        let mut messages = json!([{ "role": "user", "content": "When is it high?" }]);
        match shows(messages.clone()) {
            Ok(true) | Err(_) => Self::Anywhere,
            Ok(false) => {
                add_system(&mut messages);
                if shows(messages).is_ok_and(|shown| shown) { Self::BesideSystem } else { Self::Nowhere }
            }
        }
    }

    /// Changes messages so that the tools are shown with them.
    pub fn prepare(self, messages: &mut Value, tools: &Value, habits: &Habits) -> Result<(), Error> {
        match self {
            Self::Anywhere => {}
            Self::BesideSystem => add_system(messages),
            Self::Nowhere => return Err(not_shown()),
        }
        habits.add_tools(messages, tools);
        Ok(())
    }
}

/// Why tools are refused that no prompt would show.
pub fn not_shown() -> Error {
    let message = "this model's chat template does not show tools, so they would have no effect";
    Error::new(ErrorKind::Unsupported, message).param("tools").hint("choose a model that calls tools")
}

/// Has a conversation begin with a system message.
pub fn add_system(messages: &mut Value) {
    if let Some(messages) = messages.as_array_mut().filter(|messages| messages[0]["role"] != "system") {
        messages.insert(0, json!({ "role": "system", "content": "" }));
    }
}
