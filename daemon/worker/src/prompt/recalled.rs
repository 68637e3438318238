//! How a chat template takes past calls of tools: found out once, by rendering conversations with calls of their own words.
//!
//! Some templates join a call's arguments to a text and some read them as an object; some show calls only beside no content
//! at all, or lose what was said beside them; some take one call for each turn, and some show none. `conversation` asks
//! with the first calls. What a template cannot show is refused by name.

use std::cmp::Reverse;

use protocol::{Error, ErrorKind};
use serde_json::{Map, Value, json};

use super::habits::as_python;
use super::renderer::RenderError;
use crate::output::ToolFormat;
use crate::render::ToRender;

const FUNCTION: &str = "find_the_ferry";
const ARGUMENT: &str = "pier_of_departure";
const VALUE: &str = "Roscoff";
const SAID: &str = "I ask at the harbour.";
const RESULTS: [&str; 2] = ["It leaves at dawn.", "It is sold out."];

/// What is done to past calls so that a template shows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recalled {
    form: Form,
    /// What was said beside calls becomes a turn before them.
    text_apart: bool,
    /// Each of several calls becomes a turn, with its result after it.
    calls_apart: bool,
}

/// What calls become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Calls, whose arguments are a text or an object, and beside which no content is null or an empty text.
    Calls { text: bool, null: bool },
    /// Text, as the model wrote them.
    Written(ToolFormat),
    /// Texts with a function's name beside each, and their results observations: GLM-4-0414.
    Observed,
    /// Nothing: the template has no place for them.
    Nowhere,
}

/// What every template is thought to take until it is asked.
const PLAIN: Form = Form::Calls { text: false, null: false };

/// What became of the calls of a trial, from worse to better.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// The template refuses the trial.
    Refused,
    /// Something of them is missing.
    Lost,
    /// They are shown, and not in JSON.
    Odd,
    /// They are shown.
    Right,
}

impl Form {
    /// Which of two is taken that a template shows alike: what it makes of an object is its own.
    fn rank(self) -> u8 {
        match self {
            Self::Calls { text: false, .. } => 2,
            Self::Calls { text: true, .. } => 1,
            _ => 0,
        }
    }
}

impl Recalled {
    fn of(form: Form) -> Self {
        let apart = form == Form::Observed;
        Self { form, text_apart: apart, calls_apart: apart }
    }

    /// Finds it out; a template that refuses every trial is trusted.
    pub fn find(
        with_tools: bool,
        format: Option<ToolFormat>,
        now_unix_ms: i64,
        mut render: impl FnMut(ToRender) -> Result<String, RenderError>,
    ) -> Result<Self, RenderError> {
        let mut attempt = |recalled: Self, said, calls| {
            let mut messages = trial(said, calls);
            recalled.change(&mut messages);
            let text = render(ToRender {
                messages,
                tools: with_tools.then(tools),
                add_generation_prompt: true,
                continue_final_message: false,
                arguments: Map::new(),
                now_unix_ms,
            });
            match text {
                Ok(text) => Ok((judge(&text, said, calls), text.len())),
                Err(RenderError::Template(_)) => Ok((Outcome::Refused, 0)),
                Err(error) => Err(error),
            }
        };
        let calls = [(false, false), (false, true), (true, false), (true, true)];
        let calls = calls.map(|(text, null)| Form::Calls { text, null });
        let other =
            format.map(|format| if format == ToolFormat::Glm4 { Form::Observed } else { Form::Written(format) });
        let (mut form, mut best) = (PLAIN, (Outcome::Refused, 0, Reverse(0)));
        for next in calls.into_iter().chain(other) {
            let (outcome, length) = attempt(Self::of(next), "", 1)?;
            // Of two that show the same, the shorter one has no empty turn and no word for nothing.
            let score = (outcome, next.rank(), Reverse(length));
            if outcome > Outcome::Refused && score > best {
                (form, best) = (next, score);
            }
        }
        if best.0 == Outcome::Lost {
            return Ok(Self::of(Form::Nowhere));
        }
        for (text_apart, calls_apart) in [(false, false), (true, false), (false, true), (true, true)] {
            let way = Self { form, text_apart, calls_apart };
            if attempt(way, SAID, 2)?.0 > Outcome::Lost {
                return Ok(way);
            }
        }
        Ok(Self::of(form))
    }

    /// Changes messages so that the calls in them are shown.
    pub fn prepare(self, messages: &mut Value) -> Result<(), Error> {
        if self.form == Form::Nowhere {
            let message = "this model's chat template does not show past calls of tools and their results";
            return Err(Error::new(ErrorKind::Unsupported, message)
                .param("messages")
                .hint("choose a model that calls tools, or leave the calls and their results out"));
        }
        self.change(messages);
        Ok(())
    }

    fn change(self, messages: &mut Value) {
        let Some(messages) = messages.as_array_mut() else { return };
        let mut rest = std::mem::take(messages).into_iter().peekable();
        while let Some(mut turn) = rest.next() {
            let Some(calls) = turn["tool_calls"].as_array().cloned() else {
                messages.push(self.formed(turn));
                continue;
            };
            if let Form::Written(format) = self.form {
                write_out(&mut turn, &calls, format);
                messages.push(turn);
                continue;
            }
            if self.text_apart && !is_empty(&turn["content"]) {
                let before = std::mem::replace(&mut turn, calling(calls.clone()));
                messages.push(without_calls(before));
            }
            if !self.calls_apart || calls.len() < 2 {
                messages.push(self.formed(turn));
                continue;
            }
            let mut results: Vec<Value> = std::iter::from_fn(|| rest.next_if(|next| next["role"] == "tool")).collect();
            for call in calls {
                let own = |result: &mut Value| result["tool_call_id"] == call["id"];
                let own: Vec<Value> = results.extract_if(.., own).collect();
                let next = std::mem::replace(&mut turn, calling(Vec::new()));
                messages.push(self.formed(with_calls(next, vec![call])));
                messages.extend(own.into_iter().map(|result| self.formed(result)));
            }
            messages.extend(results.into_iter().map(|result| self.formed(result)));
        }
    }

    /// A turn with calls or a result, in the form that the template takes.
    fn formed(self, mut turn: Value) -> Value {
        let observed = self.form == Form::Observed;
        if observed && turn["role"] == "tool" {
            turn["role"] = json!("observation");
        }
        let Some(calls) = turn.get_mut("tool_calls").and_then(Value::as_array_mut) else { return turn };
        let functions = calls.iter_mut().map(|call| &mut call["function"]);
        if observed {
            let Some(function) = functions.last() else { return turn };
            return json!({ "role": "assistant", "metadata": function["name"], "content": as_python(&function["arguments"]) });
        }
        let Form::Calls { text, null } = self.form else { return turn };
        for function in functions.filter(|_| text) {
            function["arguments"] = json!(as_python(&function["arguments"]));
        }
        if null && is_empty(&turn["content"]) {
            turn["content"] = Value::Null;
        }
        turn
    }
}

/// Puts calls after what was said, as text.
fn write_out(turn: &mut Value, calls: &[Value], format: ToolFormat) {
    let read = |call: &Value| {
        Some((call["function"]["name"].as_str()?.to_string(), call["function"].get("arguments")?.clone()))
    };
    let calls: Vec<(String, Value)> = calls.iter().filter_map(read).collect();
    let calls: Vec<(&str, String)> =
        calls.iter().map(|(name, arguments)| (name.as_str(), as_python(arguments))).collect();
    let written = format.past(&calls).unwrap_or_default();
    *turn = without_calls(turn.take());
    match &mut turn["content"] {
        Value::String(said) if said.is_empty() => *said = written,
        Value::String(said) => *said = format!("{said}\n{written}"),
        Value::Array(parts) => parts.push(json!({ "type": "text", "text": written })),
        content => *content = json!(written),
    }
}

fn calling(calls: Vec<Value>) -> Value {
    json!({ "role": "assistant", "content": "", "tool_calls": calls })
}

fn with_calls(mut turn: Value, calls: Vec<Value>) -> Value {
    turn["tool_calls"] = Value::Array(calls);
    turn
}

fn without_calls(mut turn: Value) -> Value {
    if let Some(turn) = turn.as_object_mut() {
        turn.remove("tool_calls");
    }
    turn
}

fn is_empty(content: &Value) -> bool {
    content.is_null() || content.as_str().is_some_and(str::is_empty) || content.as_array().is_some_and(Vec::is_empty)
}

/// A conversation with so many calls.
fn trial(said: &str, calls: usize) -> Value {
    // Nine letters, which every template takes.
    let id = |index: usize| format!("ferry000{index}");
    let call = |index| {
        let function = json!({ "name": FUNCTION, "arguments": { ARGUMENT: VALUE } });
        json!({ "id": id(index), "type": "function", "function": function })
    };
    let result =
        |(index, result)| json!({ "role": "tool", "tool_call_id": id(index), "name": FUNCTION, "content": result });
    let mut called = calling((0..calls).map(call).collect());
    called["content"] = json!(said);
    let asked = json!({ "role": "user", "content": "When does it leave?" });
    let results = RESULTS.into_iter().take(calls).enumerate().map(result);
    [asked, called].into_iter().chain(results).collect()
}

/// A tool that no call of a trial is of, so that its description is not taken for one.
fn tools() -> Value {
    let place = json!({ "type": "string", "description": "Where" });
    let parameters = json!({ "type": "object", "properties": { "place": place }, "required": ["place"] });
    let function = json!({ "name": "look_up_the_tide", "description": "Looks up the tide", "parameters": parameters });
    json!([{ "type": "function", "function": function }])
}

/// What became of a trial's words.
fn judge(text: &str, said: &str, calls: usize) -> Outcome {
    let times = |word: &str| text.matches(word).count();
    let called = [FUNCTION, ARGUMENT, VALUE].into_iter().all(|word| times(word) >= calls);
    let before = |said: &str| text.find(said).is_some_and(|at| text[at..].matches(FUNCTION).count() >= calls);
    if !called || !before(said) || !RESULTS.iter().take(calls).all(|result| text.contains(result)) {
        return Outcome::Lost;
    }
    // As Python prints an object, and as a text inside of a text.
    let odd = [format!("'{ARGUMENT}'"), format!("\\\"{ARGUMENT}")].iter().any(|words| text.contains(words));
    if odd { Outcome::Odd } else { Outcome::Right }
}
