//! What is asked for together works together: shapes with reasoning, calls, choices, batches and guesses; keys and values kept
//! as bytes with batches, guesses, choices, reused prefixes and a new worker.

use pipe::{Keep, Open, ToWorker};
use protocol::generation::{Chat, Constraint, FinishReason, GenerateRequest, Json, Tool, ToolChoice};

use super::kit::{Answer, Daemon, Folder, chat, open, request, shelved, submit};

/// A model that thinks before it answers, and is shown how calls are written.
const TEMPLATE: &str = "{% if tools %}{{ tools | tojson }}<tool_call>{% endif %}\
    {% for message in messages %}{{ message.content }}{% endfor %}</think><think>";

/// Asks for one after the other, and nobody guesses.
fn alone(open: &Open, asked: &[GenerateRequest]) -> Vec<Answer> {
    let mut daemon = Daemon::start(Open { draft_tokens_max: 0, ..open.clone() });
    asked.iter().zip(0..).map(|(asked, id)| answer(&mut daemon, id, asked)).collect()
}

fn together(daemon: &mut Daemon, asked: &[GenerateRequest]) -> Vec<Answer> {
    for (id, asked) in asked.iter().enumerate() {
        daemon.send(submit(id as u64, asked, Vec::new()));
    }
    (0..asked.len()).map(|id| daemon.answer(id as u64)).collect()
}

fn answer(daemon: &mut Daemon, id: u64, asked: &GenerateRequest) -> Answer {
    daemon.send(submit(id, asked, Vec::new()));
    daemon.answer(id)
}

#[track_caller]
fn assert_same(alone: &[Answer], other: &[Answer]) {
    for (id, (alone, other)) in alone.iter().zip(other).enumerate() {
        assert_eq!((&alone.tokens, &alone.text), (&other.tokens, &other.text), "request {id}");
        assert_eq!((&alone.reasons, &alone.calls.len()), (&other.reasons, &other.calls.len()), "request {id}");
    }
}

fn accepted(answers: &[Answer]) -> u32 {
    answers.iter().map(|answer| answer.finished.speculation.accepted).sum()
}

/// A question that is thought about for a few tokens and then answered in a shape.
fn thoughtful(more: Chat, constraint: Option<Constraint>, choices: u16) -> GenerateRequest {
    let mut asked = chat("one two three one two three one two three ", 300);
    if let protocol::generation::Prompt::Chat(chat) = &mut asked.prompt {
        *chat = Chat { messages: chat.messages.clone(), thinking_budget: Some(4), ..more };
    }
    GenerateRequest { constraint, choices, ..asked }
}

#[test]
fn shapes_after_reasoning_are_the_same_alone_in_a_batch_and_with_guesses() {
    let folder = Folder::new("shapes-together", |recipe| recipe).with_template(TEMPLATE);
    let flag = r#"{"type":"object","properties":{"flag":{"type":"boolean"}},"required":["flag"]}"#;
    let call = || Chat {
        tools: vec![Tool { name: "set".into(), description: None, parameters: Some(Json(flag.into())), strict: true }],
        tool_choice: ToolChoice::Required,
        single_tool_call: true,
        ..Chat::default()
    };
    let schema = Constraint::JsonSchema { schema: Json(flag.into()), strict: true };
    let asked = [
        // It repeats itself, so that whoever guesses is right at times.
        thoughtful(Chat::default(), Some(Constraint::Regex("(one two three ){12}".into())), 1),
        thoughtful(Chat::default(), Some(schema), 3),
        thoughtful(Chat::default(), Some(Constraint::Lark("start: \"a\" | \"b\"".into())), 2),
        thoughtful(call(), None, 2),
    ];
    let alone = alone(&open(&folder), &asked);
    let mut daemon = Daemon::start(open(&folder));
    let together = together(&mut daemon, &asked);
    assert_same(&alone, &together);
    assert!(accepted(&together) > 0, "shaped answers are guessed ahead too");
    assert!(together.iter().all(|answer| answer.finished.usage.reasoning_tokens > 0), "all of them thought first");
    assert_eq!(together[0].text[0], "one two three ".repeat(12));
    for text in &together[1].text {
        assert!(serde_json::from_str::<serde_json::Value>(text).unwrap()["flag"].is_boolean(), "{text}");
    }
    assert!(together[2].text.iter().all(|text| text == "a" || text == "b"), "{:?}", together[2].text);
    assert_eq!(together[3].reasons, [Some(FinishReason::ToolCalls); 2]);
}

#[test]
fn keys_and_values_kept_as_bytes_answer_the_same_in_every_company() {
    let folder = Folder::new("bytes", |recipe| recipe.endless());
    let bytes = |open| Open { keep: Keep::Int8, ..open };
    let repeating = "one two three four five six seven one two three four five six seven one two three ";
    let mut asked = [1, 2, 3].map(|times| request(&repeating.repeat(times), 60));
    asked[1].choices = 3;
    // A strong wish for one token, and a weaker one for a second, make even a random model repeat itself.
    asked[2].sampling.logit_bias = [(40, 32.0), (41, 30.0)].into();
    let alone = alone(&bytes(open(&folder)), &asked);

    let mut daemon = Daemon::start(bytes(shelved(&folder, 256)));
    let first = together(&mut daemon, &asked);
    assert_same(&alone, &first);
    assert!(accepted(&first) > 0, "some guesses were right");
    let cached = |daemon: &mut Daemon, unit: u32| {
        let again = together(daemon, &asked);
        assert_same(&alone, &again);
        let usage = again[2].finished.usage;
        assert_eq!(usage.cached_tokens, (usage.prompt_tokens - 1) / unit * unit);
    };
    cached(&mut daemon, 1);
    let blocks = daemon.idle_pulse().blocks_total;
    daemon.send(ToWorker::Drain);
    daemon.served().unwrap();
    // The disk keeps whole blocks.
    cached(&mut Daemon::start(bytes(shelved(&folder, 256))), 32);

    let mut wider = Daemon::start(shelved(&folder, 256));
    answer(&mut wider, 1, &asked[0]);
    assert!(blocks > wider.idle_pulse().blocks_total * 3 / 2, "the same memory holds more of them");
}
