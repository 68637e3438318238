//! Answers that may call tools and need not. The model is random: what it calls, it calls because its answer was begun so, and
//! what it passes fits because nothing else could come.

use engine::text::{Special, Tokenizer};
use pipe::{Delivered, Open};
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

/// Answers that call several tools, one, none at all, and one for which others may be drawn.
fn company(folder: &Folder) -> Vec<(GenerateRequest, Vec<Delivered>)> {
    let counting = "one two three one two three one two three ";
    let said = json!({"type": "object", "properties": {"text": {"const": counting.repeat(3)}}, "required": ["text"]});
    let asked = |single| {
        let tools = vec![flag(), tool("say", said.clone())];
        let mut asked = asked(Chat { tools, single_tool_call: single, ..Chat::default() });
        let Prompt::Chat(chat) = &mut asked.prompt else { panic!("a conversation is asked for") };
        chat.messages[0].content = counting.repeat(2);
        asked.sampling.temperature = Some(0.0);
        asked
    };
    let mut several = asked(false);
    // Another call is likelier than the end of their list.
    several.sampling.logit_bias = vec![(u32::from(b','), 20.0)];
    let mut drawn = asked(true);
    drawn.sampling.temperature = Some(1.5);
    let call = |text: &str| begun(folder, &format!("Well. <TOOLCALL>[{text}"));
    vec![
        (several, call("{\"name\": \"say\"")),
        (asked(true), call("{\"name\": \"s")),
        (asked(false), Vec::new()),
        (drawn, call("")),
    ]
}

#[test]
fn free_answers_are_the_same_alone_in_a_batch_and_with_guesses_and_may_call_several_times() {
    let folder = Folder::new("freely", |recipe| recipe).with_template(&TEMPLATE.replace("<tool_call>", "<TOOLCALL>"));
    let company = company(&folder);
    let mut daemon = Daemon::start(Open { draft_tokens_max: 0, ..open(&folder) });
    let alone = company.iter().zip(0..).map(|((asked, begun), id)| {
        daemon.send(submit(id, asked, begun.clone()));
        daemon.answer(id)
    });
    let alone: Vec<Answer> = alone.collect();
    for draft_tokens_max in [0, 6] {
        let mut daemon = Daemon::start(Open { draft_tokens_max, ..open(&folder) });
        for ((asked, begun), id) in company.iter().zip(0..) {
            daemon.send(submit(id, asked, begun.clone()));
        }
        let batched: Vec<Answer> = (0..company.len()).map(|id| daemon.answer(id as u64)).collect();
        for (id, (alone, batched)) in alone.iter().zip(&batched).enumerate() {
            assert_eq!((&alone.tokens, &alone.text), (&batched.tokens, &batched.text), "request {id}");
            assert_eq!((&alone.reasons, calls(alone)), (&batched.reasons, calls(batched)), "request {id}");
        }
        let accepted: u32 = batched.iter().map(|answer| answer.finished.speculation.accepted).sum();
        assert_eq!(accepted > 0, draft_tokens_max > 0, "{accepted} guesses were right");
    }
    let several = calls(&alone[0]);
    assert!(several.len() > 2, "{several:?}");
    for (name, arguments) in &several[..several.len() - 1] {
        assert!(name == "say" || name == "set" && is_flag(arguments), "{several:?}");
        assert!(serde_json::from_str::<Value>(arguments).is_ok(), "{arguments}");
    }
    assert_eq!(calls(&alone[1]).len(), 1);
    assert!(calls(&alone[2]).is_empty() && !alone[2].text[0].is_empty(), "babble is text");
}
