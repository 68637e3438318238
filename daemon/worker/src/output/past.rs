//! Past calls as a model wrote them, for a conversation whose template shows only texts.
//!
//! What is written here, the reader of the same format understands. Formats whose templates all show calls are left out.
//! Only the prompt room asks.

use serde_json::Value;

use super::tools::ToolFormat;

impl ToolFormat {
    /// Calls, each a name and its arguments in JSON; `None` where it is not known how they are written.
    pub fn past(self, calls: &[(&str, String)]) -> Option<String> {
        let (name, arguments) = match self {
            Self::Hermes | Self::Listed | Self::MistralList | Self::Nemotron => ("name", "arguments"),
            Self::Llama3 => ("name", "parameters"),
            Self::Command | Self::Action => ("tool_name", "parameters"),
            _ => return None,
        };
        let object = |(function, given): &(&str, String)| {
            format!("{{\"{name}\": {}, \"{arguments}\": {given}}}", Value::from(*function))
        };
        let joined = |separator: &str| calls.iter().map(object).collect::<Vec<_>>().join(separator);
        Some(match (self, self.around_list()) {
            (_, Some(marks)) => format!("{}{}{}]{}", marks.before, marks.open, joined(", "), marks.after),
            (Self::Llama3, None) => joined("; "),
            _ => format!("<tool_call>\n{}\n</tool_call>", joined("\n</tool_call>\n<tool_call>\n")),
        })
    }
}
