//! Tool calls as each format writes them, for grammars: the readers' other half.
//!
//! What these grammars allow, the reader of the same format understands. Only the prompt room asks.

mod arguments;

use engine::text::{Grammar, Shape};
use serde_json::{Value, json};

use self::arguments::Arguments;
use super::functions::resolved;
use super::tools::ToolFormat;
use super::{deepseek, gemma};

/// The most arguments of a call that nothing is known of.
const ARGUMENTS_MAX: u32 = 256;
/// The most messages before a call in the harmony form.
const MESSAGES_MAX: u32 = 64;
/// What a reader takes for the beginning of a call where no marker says so.
const CALL_BEGINS: &str = r#"\s*\{\s*"(name|tool_name|arguments|parameters|id|type|tool_call_id)""#;

/// What stands around a list of calls.
pub(super) struct ListMarks {
    pub before: &'static str,
    pub open: &'static str,
    pub after: &'static str,
}

impl ToolFormat {
    /// One call of a function with arguments of this schema; an error names what cannot be held to it.
    pub fn call(self, name: &str, schema: &Value, strict: bool) -> Result<Grammar, String> {
        let whole = resolved(schema);
        let apart = Arguments::new(&whole, strict);
        Ok(match self {
            Self::Glm => {
                let between = ["</arg_key>", "\n", "<arg_value>"];
                let arguments = apart.tagged(&["<arg_key>"], &between, "</arg_value>")?;
                Grammar::Sequence(vec![text(&format!("{name}\n")), arguments])
            }
            Self::Coder => {
                let arguments = apart.tagged(&["<parameter="], &[">\n"], "\n</parameter>")?;
                Grammar::Sequence(vec![text(&format!("<function={name}>\n")), arguments, text("</function>")])
            }
            Self::FunctionGemma | Self::Gemma4 => {
                let marks = if self == Self::Gemma4 { gemma::FOUR } else { gemma::FUNCTION };
                Grammar::Sequence(vec![text(&format!("call:{name}")), apart.quoted(marks.quote)?])
            }
            _ => self.json_call(name, schema, strict),
        })
    }

    /// The same where the arguments are JSON.
    fn json_call(self, name: &str, schema: &Value, strict: bool) -> Grammar {
        let arguments = || Grammar::Shape(Shape::Json { schema: schema.clone(), strict });
        let quoted = Value::from(name);
        let object = |before: String| Grammar::Sequence(vec![Grammar::Text(before), arguments(), text("}")]);
        match self {
            Self::Llama3 => object(format!("{{\"name\": {quoted}, \"parameters\": ")),
            Self::Command => object(format!("{{\"tool_call_id\": \"0\", \"tool_name\": {quoted}, \"parameters\": ")),
            Self::Action => object(format!("{{\"tool_name\": {quoted}, \"parameters\": ")),
            Self::Glm4 => Grammar::Sequence(vec![text(&format!("{name}\n")), arguments()]),
            Self::Mistral => Grammar::Sequence(vec![text(name), text("[ARGS]"), arguments()]),
            Self::DeepSeek => Grammar::Sequence(vec![text(name), text(deepseek::SEPARATOR), arguments()]),
            Self::DeepSeekFenced => Grammar::Sequence(vec![
                text("function"),
                text(deepseek::SEPARATOR),
                text(&format!("{name}\n```json\n")),
                arguments(),
                text("\n```"),
            ]),
            _ => object(format!("{{\"name\": {quoted}, \"arguments\": ")),
        }
    }

    /// One call of a function with any arguments.
    pub fn any_call(self, name: &str) -> Grammar {
        let many = |item: Vec<Grammar>| {
            let item = Box::new(Grammar::Sequence(item));
            Grammar::Optional(Box::new(Grammar::Repeated { item, separator: String::new(), most: ARGUMENTS_MAX }))
        };
        let until = |end: &str| Grammar::Until(end.to_string());
        match self {
            Self::Glm => {
                let line = Grammar::Shape(Shape::Regex("\n?".to_string()));
                let each = vec![text("<arg_key>"), until("</arg_value>"), line];
                Grammar::Sequence(vec![text(&format!("{name}\n")), many(each)])
            }
            Self::Coder => {
                let each = vec![text("<parameter="), until("</parameter>"), text("\n")];
                Grammar::Sequence(vec![text(&format!("<function={name}>\n")), many(each), text("</function>")])
            }
            Self::FunctionGemma | Self::Gemma4 => {
                let marks = if self == Self::Gemma4 { gemma::FOUR } else { gemma::FUNCTION };
                let any = Grammar::Without(vec![marks.close.to_string()]);
                Grammar::Sequence(vec![text(&format!("call:{name}{{")), any])
            }
            _ => self.json_call(name, &json!({ "type": "object" }), false),
        }
    }

    /// At least one call, and nothing else.
    pub fn calls(self, call: Grammar, most: u32) -> Grammar {
        let many =
            |item, separator: &str| Grammar::Repeated { item: Box::new(item), separator: separator.to_string(), most };
        if let Some(ListMarks { before, open, after }) = self.around_list() {
            let after = (!after.is_empty()).then(|| text(after));
            let list = vec![text(before), text(open), many(call, ", "), text("]")];
            return Grammar::Sequence(list.into_iter().chain(after).collect());
        }
        match self {
            Self::DeepSeek | Self::DeepSeekFenced => {
                let each = Grammar::Sequence(vec![text(deepseek::CALL), call, text(deepseek::CALL_END)]);
                let separator = if self == Self::DeepSeek { "" } else { "\n" };
                Grammar::Sequence(vec![text(deepseek::BEGIN), many(each, separator), text(deepseek::END)])
            }
            Self::Llama3 => many(call, "; "),
            Self::Glm4 => many(call, "\n"),
            _ => {
                let (marker, rest, separator) = self.marked(call);
                many(Grammar::Sequence(std::iter::once(text(marker)).chain(rest).collect()), separator)
            }
        }
    }

    /// What stands before and after a list of calls, where calls are one.
    pub(super) fn around_list(self) -> Option<ListMarks> {
        let (before, open, after) = match self {
            Self::MistralList => ("[TOOL_CALLS]", "[", ""),
            Self::Listed => ("<|tool_call|>", "[", ""),
            Self::Command => ("<|START_ACTION|>", "[", "<|END_ACTION|>"),
            Self::Nemotron => ("<TOOLCALL>", "[", "</TOOLCALL>"),
            Self::Action => ("Action: ```json", "\n[", "\n```"),
            _ => return None,
        };
        Some(ListMarks { before, open, after })
    }

    /// What begins a call where each has a marker of its own, what follows the marker, and what stands between two.
    fn marked(self, call: Grammar) -> (&'static str, Vec<Grammar>, &'static str) {
        match self {
            Self::Mistral => ("[TOOL_CALLS]", vec![call], ""),
            Self::Glm => ("<tool_call>", vec![call, text("</tool_call>")], "\n"),
            Self::FunctionGemma => (gemma::FUNCTION.open, vec![call, text(gemma::FUNCTION.close)], ""),
            Self::Gemma4 => (gemma::FOUR.open, vec![call, text(gemma::FOUR.close)], ""),
            _ => ("<tool_call>", vec![text("\n"), call, text("\n"), text("</tool_call>")], "\n"),
        }
    }

    /// Other texts than its marker that its reader takes for the beginning of a call.
    fn other_markers(self) -> Vec<String> {
        let others: &[&str] = match self {
            Self::Coder => &["<function="],
            Self::DeepSeek | Self::DeepSeekFenced => &[deepseek::CALL],
            Self::Listed => &["<tool_call>", "functools["],
            Self::Action => &["Action:\n```json"],
            _ => &[],
        };
        others.iter().map(ToString::to_string).collect()
    }

    fn until(self, marker: &str) -> Grammar {
        Grammar::UntilWithout(marker.to_string(), self.other_markers())
    }

    fn no_calls(self, marker: &str) -> Grammar {
        Grammar::Without(std::iter::once(marker.to_string()).chain(self.other_markers()).collect())
    }

    /// Text in which calls of functions of these names may stand, and nothing that looks like one and is none.
    pub fn calls_in_text(self, call: Grammar, most: u32, names: &[&str]) -> Grammar {
        // Formats with one marker before all calls: `Until` takes it in place of the first part.
        let listed = |marker: &str, calls: Grammar| {
            let rest = self.no_calls(marker);
            let Grammar::Sequence(mut parts) = calls else { return rest };
            parts[0] = self.until(marker);
            Grammar::Either(vec![Grammar::Sequence(parts), rest])
        };
        if let Some(ListMarks { before, .. }) = self.around_list() {
            return listed(before, self.calls(call, most));
        }
        match self {
            Self::DeepSeek | Self::DeepSeekFenced => listed(deepseek::BEGIN, self.calls(call, most)),
            // Only the beginning of an answer can be a call.
            Self::Llama3 => {
                let calls = self.calls(call, most);
                let tag = || text("<|python_tag|>");
                let tagged = Grammar::Sequence(vec![tag(), calls.clone()]);
                // Code, or a call that is written as code.
                let code = Grammar::Sequence(vec![tag(), Grammar::Shape(Shape::Regex("[^{\\s](.|\\n)*".to_string()))]);
                let other = other_than(&format!("{CALL_BEGINS}|(.|\\n)*<\\|python_tag\\|>"));
                Grammar::Either(vec![calls, tagged, code, other])
            }
            Self::Glm4 => {
                let names: Vec<String> = names.iter().map(|name| escaped(name)).collect();
                let other = other_than(&format!("\\s*({})\\s*\\n\\s*\\{{", names.join("|")));
                Grammar::Either(vec![self.calls(call, most), other])
            }
            _ => {
                let (marker, rest, _) = self.marked(call);
                let each = std::iter::once(self.until(marker)).chain(rest).collect();
                let item = Box::new(Grammar::Sequence(each));
                let calls = Grammar::Repeated { item, separator: String::new(), most };
                Grammar::Sequence(vec![Grammar::Optional(Box::new(calls)), self.no_calls(marker)])
            }
        }
    }
}

/// Answers in the harmony form: reasoning if the model likes, then a call or the answer.
pub struct HarmonyForm;

impl HarmonyForm {
    /// One call of a function.
    pub fn call(name: &str, schema: &Value, strict: bool) -> Grammar {
        let arguments = Grammar::Shape(Shape::Json { schema: schema.clone(), strict });
        let header = format!("commentary to=functions.{name} ");
        Grammar::Sequence(vec![
            text("<|channel|>"),
            Grammar::Text(header),
            text("<|constrain|>"),
            text("json"),
            text("<|message|>"),
            arguments,
        ])
    }

    /// Any answer whose call, if it makes one, is one of these.
    pub fn freely(calls: Vec<Grammar>) -> Grammar {
        let any = || Grammar::Shape(Shape::Regex("(.|\\n)*".to_string()));
        let message = |channel: &str| [text("<|channel|>"), text(channel), text("<|message|>")].into_iter();
        let said = |channel: &str| {
            let end = [Grammar::Until("<|end|>".to_string()), text("<|start|>"), text("assistant")];
            Grammar::Sequence(message(channel).chain(end).collect())
        };
        let last = |channel: &str| Grammar::Sequence(message(channel).chain([any()]).collect());
        let item = Box::new(Grammar::Either(vec![said("analysis"), said("commentary")]));
        let before = Grammar::Repeated { item, separator: String::new(), most: MESSAGES_MAX };
        let ends = [last("final"), last("analysis"), last("commentary"), any()];
        let rest = Grammar::Either(calls.into_iter().chain(ends).collect());
        Grammar::Sequence(vec![Grammar::Optional(Box::new(before)), rest])
    }

    /// The answer; without a shape it is any text.
    pub fn answer(shape: Option<Grammar>) -> Grammar {
        let shape = shape.unwrap_or_else(|| Grammar::Shape(Shape::Regex("(.|\\n)*".to_string())));
        Grammar::Sequence(vec![text("<|channel|>"), text("final"), text("<|message|>"), shape])
    }

    /// A call after an answer that was begun.
    pub fn after_answer(call: Grammar) -> Grammar {
        Grammar::Sequence(vec![text("<|end|>"), text("<|start|>"), text("assistant"), call])
    }

    /// The same after any reasoning.
    pub fn after_reasoning(rest: Grammar) -> Grammar {
        let end = Grammar::Until("<|end|>".to_string());
        let thought =
            vec![text("<|channel|>"), text("analysis"), text("<|message|>"), end, text("<|start|>"), text("assistant")];
        Grammar::Sequence(vec![Grammar::Optional(Box::new(Grammar::Sequence(thought))), rest])
    }
}

fn text(text: &str) -> Grammar {
    Grammar::Text(text.to_string())
}

/// Any text that does not begin so.
fn other_than(begins: &str) -> Grammar {
    let begins = begins.replace('/', "\\/");
    Grammar::Shape(Shape::Lark(format!("start: TEXT\nTEXT: /(.|\\n)*/ & ~/({begins})(.|\\n)*/")))
}

/// A name inside of a regular expression.
fn escaped(name: &str) -> String {
    let plain = |letter: char| letter.is_alphanumeric() || letter == '_';
    name.chars().flat_map(|letter| (!plain(letter)).then_some('\\').into_iter().chain([letter])).collect()
}
