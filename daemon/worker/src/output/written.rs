//! Tool calls as each format writes them, for grammars: the readers' other half.
//!
//! What these grammars allow, the reader of the same format understands. Only the prompt room asks.

use engine::text::{Grammar, Shape};

use super::deepseek;
use super::tools::ToolFormat;

impl ToolFormat {
    /// Whether calls of this format can be held to a grammar.
    pub fn can_be_forced(self) -> bool {
        use ToolFormat::{Command, DeepSeek, DeepSeekFenced, Hermes, Listed, Llama3, Mistral, MistralList};
        matches!(self, Hermes | Llama3 | Mistral | MistralList | Listed | Command | DeepSeek | DeepSeekFenced)
    }

    /// One call of a function with arguments of this shape. Formats that cannot be forced write theirs as Hermes does.
    pub fn call(self, name: &str, arguments: Grammar) -> Grammar {
        let quoted = serde_json::Value::from(name);
        let (before, after) = match self {
            Self::Command => (format!("{{\"tool_call_id\": \"0\", \"tool_name\": {quoted}, \"parameters\": "), "}"),
            Self::Llama3 => (format!("{{\"name\": {quoted}, \"parameters\": "), "}"),
            Self::Mistral => return Grammar::Sequence(vec![text(name), text("[ARGS]"), arguments]),
            Self::DeepSeek => return Grammar::Sequence(vec![text(name), text(deepseek::SEPARATOR), arguments]),
            Self::DeepSeekFenced => {
                let head = vec![text("function"), text(deepseek::SEPARATOR), text(&format!("{name}\n```json\n"))];
                return Grammar::Sequence(head.into_iter().chain([arguments, text("\n```")]).collect());
            }
            _ => (format!("{{\"name\": {quoted}, \"arguments\": "), "}"),
        };
        Grammar::Sequence(vec![Grammar::Text(before), arguments, text(after)])
    }

    /// At least one call, and nothing else.
    pub fn calls(self, call: Grammar, most: u32) -> Grammar {
        let many =
            |item, separator: &str| Grammar::Repeated { item: Box::new(item), separator: separator.to_string(), most };
        match self {
            Self::DeepSeek | Self::DeepSeekFenced => {
                let each = Grammar::Sequence(vec![text(deepseek::CALL), call, text(deepseek::CALL_END)]);
                let separator = if self == Self::DeepSeek { "" } else { "\n" };
                Grammar::Sequence(vec![text(deepseek::BEGIN), many(each, separator), text(deepseek::END)])
            }
            Self::Command => {
                let list = many(call, ", ");
                Grammar::Sequence(vec![text("<|START_ACTION|>"), text("["), list, text("]"), text("<|END_ACTION|>")])
            }
            Self::Hermes | Self::Glm | Self::Coder | Self::FunctionGemma | Self::Gemma4 => many(
                Grammar::Sequence(vec![text("<tool_call>"), text("\n"), call, text("\n"), text("</tool_call>")]),
                "\n",
            ),
            Self::Llama3 => many(call, "; "),
            Self::Mistral => many(Grammar::Sequence(vec![text("[TOOL_CALLS]"), call]), ""),
            Self::MistralList | Self::Listed => {
                Grammar::Sequence(vec![text(self.marker()), text("["), many(call, ", "), text("]")])
            }
        }
    }

    /// What an array of calls follows.
    fn marker(self) -> &'static str {
        if self == Self::Listed { "<|tool_call|>" } else { "[TOOL_CALLS]" }
    }

    /// Text in which calls may stand, and nothing that looks like one and is none.
    pub fn calls_in_text(self, call: Grammar, most: u32) -> Grammar {
        let marked = |marker: &str, rest: Vec<Grammar>| {
            let mut parts = vec![Grammar::Until(marker.to_string())];
            parts.extend(rest);
            let calls = Grammar::Repeated { item: Box::new(Grammar::Sequence(parts)), separator: String::new(), most };
            let tail = Grammar::Without(marker.to_string());
            Grammar::Sequence(vec![Grammar::Optional(Box::new(calls)), tail])
        };
        match self {
            Self::DeepSeek | Self::DeepSeekFenced => {
                let rest = Grammar::Without(deepseek::BEGIN.to_string());
                let calls = self.calls(call, most);
                // The calls begin with their marker, which `Until` takes.
                let Grammar::Sequence(mut parts) = calls else { return rest };
                parts[0] = Grammar::Until(deepseek::BEGIN.to_string());
                Grammar::Either(vec![Grammar::Sequence(parts), rest])
            }
            Self::Command => {
                let rest = Grammar::Without("<|START_ACTION|>".to_string());
                let Grammar::Sequence(mut parts) = self.calls(call, most) else { return rest };
                parts[0] = Grammar::Until("<|START_ACTION|>".to_string());
                Grammar::Either(vec![Grammar::Sequence(parts), rest])
            }
            Self::Hermes | Self::Glm | Self::Coder | Self::FunctionGemma | Self::Gemma4 => {
                marked("<tool_call>", vec![text("\n"), call, text("\n"), text("</tool_call>")])
            }
            Self::Mistral => marked("[TOOL_CALLS]", vec![call]),
            Self::MistralList | Self::Listed => {
                let list = Grammar::Repeated { item: Box::new(call), separator: ", ".to_string(), most };
                let whole =
                    Grammar::Sequence(vec![Grammar::Until(self.marker().to_string()), text("["), list, text("]")]);
                Grammar::Either(vec![whole, Grammar::Without(self.marker().to_string())])
            }
            // Only the beginning of an answer can be a call.
            Self::Llama3 => {
                let other = Grammar::Shape(Shape::Regex("([^{;\\s](.|\\n)*)?".to_string()));
                Grammar::Either(vec![self.calls(call, most), other])
            }
        }
    }
}

fn text(text: &str) -> Grammar {
    Grammar::Text(text.to_string())
}
