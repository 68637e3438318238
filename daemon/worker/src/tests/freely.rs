//! Answers that may call tools and need not. The model is random: what it calls, it calls because its answer was begun so, and
//! what it passes fits because nothing else could come.

use engine::text::{Special, Tokenizer};
use pipe::Delivered;
use protocol::generation::{Chat, FinishReason, GenerateRequest, Json, Prompt, Tool, ToolChoice};
use serde_json::{Value, json};

use super::kit::{Answer, Daemon, Folder, chat, open, submit};

const TEMPLATE: &str = "{% if tools %}{{ tools | tojson }}<tool_call>{% endif %}\
    {% for message in messages %}{{ message.content }}<|im_end|>{% endfor %}";

/// A tool that sets a flag.
fn flag() -> Tool {
    tool("set", json!({"type": "object", "properties": {"flag": {"type": "boolean"}}, "required": ["flag"]}))
}

fn tool(name: &str, parameters: Value) -> Tool {
    Tool { name: name.to_string(), description: None, parameters: Some(Json(parameters.to_string())), strict: false }
}

fn asked(more: Chat) -> GenerateRequest {
    let mut asked = chat("Hello", 400);
    let Prompt::Chat(chat) = &mut asked.prompt else { panic!("a conversation is asked for") };
    *chat = Chat { messages: chat.messages.clone(), ..more };
    asked
}

/// What an answer begins with, as a worker is told that goes on with it.
fn begun(folder: &Folder, text: &str) -> Vec<Delivered> {
    let tokens = Tokenizer::open(folder.path()).unwrap().encode(text, Special::Parse).unwrap();
    vec![Delivered { tokens, ..Delivered::default() }]
}

/// The calls of an answer: their names and their arguments.
fn calls(answer: &Answer) -> Vec<(String, String)> {
    let mut calls: Vec<(String, String)> = Vec::new();
    for delta in &answer.calls {
        if let Some(name) = &delta.name {
            calls.push((name.clone(), String::new()));
        }
        calls.last_mut().expect("a name comes first").1.push_str(&delta.arguments);
    }
    calls
}

fn is_flag(arguments: &str) -> bool {
    serde_json::from_str::<Value>(arguments)
        .is_ok_and(|it| it.as_object().is_some_and(|it| it.len() == 1) && it["flag"].is_boolean())
}

#[test]
fn a_tool_whose_schema_does_not_compile_loses_it_alone() {
    let broken = json!({"type": "object", "properties": {"x": {"$ref": 7}}, "required": ["x"]});
    for (family, markers, before, named) in [
        ("alone-hermes", "<tool_call>", "<tool_call>\n", "{\"name\": \"s"),
        ("alone-coder", "<function=", "<tool_call>\n", "<function=s"),
        ("alone-harmony", "<|channel|><|message|>", "<|channel|>", "commentary to=functions.s"),
    ] {
        let folder = Folder::new(family, |recipe| recipe).with_template(&TEMPLATE.replace("<tool_call>", markers));
        let mut daemon = Daemon::start(open(&folder));
        // To this vocabulary the markers of the harmony form are text, so that a free answer may go on in any way.
        let free = (family != "alone-harmony").then_some(ToolChoice::Auto);
        for (id, choice) in [ToolChoice::Required, ToolChoice::Required].into_iter().chain(free).enumerate() {
            let tools = vec![tool("first", broken.clone()), flag(), tool("last", broken.clone())];
            let asked = asked(Chat { tools, tool_choice: choice, single_tool_call: true, ..Chat::default() });
            let begun = begun(&folder, &format!("{before}{named}"));
            daemon.send(submit(id as u64, &asked, begun));
            let answer = daemon.answer(id as u64);
            let calls = calls(&answer);
            assert_eq!((calls.len(), answer.reasons[0]), (1, Some(FinishReason::ToolCalls)), "{family}: {calls:?}");
            assert!(calls[0].0 == "set" && is_flag(&calls[0].1), "{family}: {calls:?}");
        }
    }
}
