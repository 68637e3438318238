//! Answers held to shapes. The model is random and babbles, so what fits does so because nothing else could come.

use engine::text::{Special, Tokenizer};
use pipe::Delivered;
use protocol::generation::{
    Chat, Constraint, Ending, FinishReason, GenerateRequest, Json, Message, Prompt, Role, Tool, ToolChoice,
};
use serde::Deserialize;

use super::kit::{Answer, Daemon, Folder, open, request, submit};

const TEMPLATE: &str = "{% if tools %}{{ tools | tojson }} between <tool_call> tags{% endif %}\
    {% for message in messages %}{{ message.content }}<|im_end|>{% endfor %}";

const PERSON: &str = r##"{
    "type": "object",
    "properties": {
        "name": { "type": "string", "maxLength": 6 },
        "age": { "type": "integer", "minimum": 0, "maximum": 130 },
        "friends": { "type": "array", "items": { "$ref": "#/$defs/Friend" }, "maxItems": 2 }
    },
    "required": ["name", "age", "friends"],
    "$defs": { "Friend": { "enum": ["Ada", "Bob"] } }
}"##;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Person {
    name: String,
    age: u8,
    friends: Vec<Friend>,
}

#[derive(Debug, Deserialize)]
enum Friend {
    Ada,
    Bob,
}

fn person() -> Constraint {
    Constraint::JsonSchema { schema: Json(PERSON.to_string()), strict: true }
}

fn shaped(constraint: Constraint, choices: u16) -> GenerateRequest {
    let mut asked = request("describe a person", 400);
    asked.sampling.temperature = Some(1.5);
    GenerateRequest { constraint: Some(constraint), choices, ..asked }
}

fn ask(daemon: &mut Daemon, id: u64, asked: &GenerateRequest) -> Answer {
    daemon.send(submit(id, asked, Vec::new()));
    daemon.answer(id)
}

#[track_caller]
fn check_person(text: &str) {
    let person: Person = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert!(person.name.chars().count() <= 6 && person.age <= 130 && person.friends.len() <= 2, "{text}");
}

fn conversation(chat: Chat) -> GenerateRequest {
    let content = "Hello".to_string();
    let hello =
        Message { role: Role::User, content, reasoning: None, tool_calls: vec![], tool_call_id: None, name: None };
    let mut asked = request("", 400);
    asked.sampling.temperature = Some(1.5);
    GenerateRequest { prompt: Prompt::Chat(Chat { messages: vec![hello], ..chat }), ..asked }
}

fn tool(name: &str, strict: bool) -> Tool {
    Tool { name: name.to_string(), description: None, parameters: Some(Json(PERSON.to_string())), strict }
}

fn with_template(name: &str) -> Folder {
    let folder = Folder::new(name, |recipe| recipe);
    std::fs::write(folder.path().join("chat_template.jinja"), TEMPLATE).unwrap();
    folder
}

#[test]
fn babble_fits_its_shape_and_its_end_is_the_answers_end() {
    let folder = Folder::new("shapes", |recipe| recipe);
    let mut daemon = Daemon::start(open(&folder));
    let answer = ask(&mut daemon, 1, &shaped(person(), 32));
    for (text, reason) in answer.text.iter().zip(&answer.reasons) {
        assert_eq!(*reason, Some(FinishReason::Stop), "{text}");
        check_person(text);
    }
    let answer = ask(&mut daemon, 2, &shaped(Constraint::Choice(vec!["yes".to_string(), "no".to_string()]), 16));
    assert!(answer.text.iter().all(|text| text == "yes" || text == "no"), "{:?}", answer.text);
    let answer = ask(&mut daemon, 3, &shaped(Constraint::Regex("[a-f]{4}".to_string()), 8));
    assert!(answer.text.iter().all(|text| text.len() == 4 && text.bytes().all(|byte| byte <= b'f')));
    let mut objects = shaped(Constraint::JsonObject, 8);
    objects.stop.max_tokens = Some(60);
    let answer = ask(&mut daemon, 4, &objects);
    for (text, reason) in answer.text.iter().zip(&answer.reasons) {
        let whole = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text).is_ok();
        assert!(text.starts_with('{') && whole == (*reason == Some(FinishReason::Stop)), "{text}");
    }
}

#[test]
fn an_answer_cut_off_by_its_limit_says_so() {
    let folder = Folder::new("cut", |recipe| recipe);
    let mut daemon = Daemon::start(open(&folder));
    let mut asked = shaped(person(), 1);
    asked.stop.max_tokens = Some(7);
    let answer = ask(&mut daemon, 1, &asked);
    assert_eq!(answer.reasons, [Some(FinishReason::Length)]);
    assert!(answer.text[0].starts_with('{') && !answer.text[0].ends_with('}'), "{}", answer.text[0]);
}

#[test]
fn constrained_and_free_answers_in_one_batch_are_as_each_alone() {
    let folder = Folder::new("mixed", |recipe| recipe);
    let mut daemon = Daemon::start(open(&folder));
    let mut with_bias = shaped(person(), 2);
    with_bias.sampling.logit_bias = vec![(u32::from(b'"'), 3.0)];
    with_bias.logprobs = Some(2);
    let mut with_minimum = shaped(Constraint::Regex("a*".to_string()), 1);
    with_minimum.stop.min_tokens = 5;
    let free = request("tell me a story", 40);
    let requests = [shaped(person(), 3), free, with_bias, with_minimum, shaped(Constraint::JsonObject, 1)];
    let alone: Vec<_> = requests.iter().zip(0..).map(|(asked, id)| ask(&mut daemon, id, asked)).collect();
    for (asked, id) in requests.iter().zip(100..) {
        daemon.send(submit(id, asked, Vec::new()));
    }
    for (alone, id) in alone.iter().zip(100..) {
        let batched = daemon.answer(id);
        assert_eq!((&batched.tokens, &batched.text), (&alone.tokens, &alone.text), "request {id}");
        assert_eq!((&batched.reasons, &batched.logprobs), (&alone.reasons, &alone.logprobs), "request {id}");
    }
    assert!(alone[3].tokens[0].len() > 5, "an end token waits for the least length");
}

#[test]
fn a_resumed_answer_finds_its_place_in_the_grammar() {
    let folder = Folder::new("place", |recipe| recipe);
    let mut daemon = Daemon::start(open(&folder));
    let asked = shaped(person(), 1);
    let whole = ask(&mut daemon, 1, &asked);
    check_person(&whole.text[0]);
    let tokens = &whole.tokens[0];
    for (cut, id) in (0..=tokens.len()).step_by(3).zip(10..) {
        daemon.send(submit(id, &asked, vec![Delivered { tokens: tokens[..cut].to_vec(), ..Delivered::default() }]));
        let rest = daemon.answer(id);
        let rest_tokens = rest.tokens.first().map_or(&[][..], Vec::as_slice);
        assert_eq!([&tokens[..cut], rest_tokens].concat(), *tokens, "cut at {cut}");
        assert_eq!(rest.reasons, [Some(FinishReason::Stop)]);
    }
}

#[test]
fn a_forced_call_comes_from_the_first_token_and_fits_its_schema() {
    let folder = with_template("forced");
    let mut daemon = Daemon::start(open(&folder));
    let tools = vec![tool("greet", false), tool("describe", false)];
    for id in 0..6 {
        let named = ToolChoice::Named("describe".to_string());
        let mut asked = conversation(Chat { tools: tools.clone(), tool_choice: named, ..Chat::default() });
        asked.sampling.logit_bias = vec![(id + 70, 1.0)];
        let answer = ask(&mut daemon, u64::from(id), &asked);
        assert_eq!((answer.text[0].as_str(), answer.reasons[0]), ("", Some(FinishReason::ToolCalls)));
        assert!(answer.calls.iter().all(|call| call.index == 0), "a named call is one call");
        assert_eq!(answer.calls[0].name.as_deref(), Some("describe"));
        check_person(&answer.calls.iter().map(|call| call.arguments.as_str()).collect::<String>());
    }
    let single = Chat { tools, tool_choice: ToolChoice::Required, single_tool_call: true, ..Chat::default() };
    let answer = ask(&mut daemon, 10, &conversation(single.clone()));
    assert_eq!(answer.calls.iter().filter(|call| call.id.is_some()).count(), 1);
    let mut many = conversation(Chat { single_tool_call: false, ..single });
    many.stop.min_tokens = 350;
    let answer = ask(&mut daemon, 11, &many);
    assert!(answer.calls.iter().filter(|call| call.id.is_some()).count() > 1, "several calls may follow each other");
    assert_eq!(answer.text[0], "");
}

#[test]
fn a_strict_tool_leaves_the_model_free_until_it_calls() {
    let folder = with_template("strict");
    let mut daemon = Daemon::start(open(&folder));
    let mut asked = conversation(Chat { tools: vec![tool("describe", true)], ..Chat::default() });
    asked.stop.max_tokens = Some(30);
    asked.choices = 8;
    let free = GenerateRequest { prompt: Prompt::Text("x".to_string()), constraint: None, ..asked.clone() };
    let answer = ask(&mut daemon, 1, &asked);
    assert!(answer.calls.is_empty() && answer.text.iter().all(|text| !text.is_empty()), "babble is text");
    assert!(!ask(&mut daemon, 2, &free).text.is_empty());
}

#[test]
fn an_answer_that_may_call_and_does_not_is_text_and_no_schema_is_refused() {
    for (family, markers) in FAMILIES {
        let folder = Folder::new(&format!("lazy-{family}"), |recipe| recipe.endless())
            .with_template(&TEMPLATE.replace("<tool_call>", markers));
        let mut daemon = Daemon::start(open(&folder));
        let mut asked = conversation(Chat { tools: vec![tool("describe", false)], ..Chat::default() });
        asked.stop.max_tokens = Some(40);
        asked.choices = 4;
        let held = ask(&mut daemon, 1, &asked);
        if let Prompt::Chat(chat) = &mut asked.prompt {
            chat.tools[0].parameters =
                Some(Json(r#"{"type": "object", "properties": {"x": {"$ref": 7}}}"#.to_string()));
        }
        assert!(held.reasons.len() == 4 && held.calls.is_empty(), "{family}: {:?}", held.text);
        let again = ask(&mut daemon, 3, &asked);
        assert_eq!(again.reasons.len(), 4, "{family}: a schema that does not compile refuses nothing");
    }
}

#[test]
fn a_shape_that_cannot_be_compiled_ends_its_request_alone() {
    let folder = Folder::new("hostile-shape", |recipe| recipe.endless());
    let mut daemon = Daemon::start(open(&folder));
    daemon.send(submit(1, &request("go on", 60), Vec::new()));
    let hostile = Constraint::Lark(format!("start: {}", "(".repeat(10_000)));
    daemon.send(submit(2, &shaped(hostile, 1), Vec::new()));
    assert_eq!(daemon.failure(2).param.as_deref(), Some("constraint"));
    assert_eq!(daemon.answer(1).tokens[0].len(), 60);
    let answer = ask(&mut daemon, 3, &shaped(person(), 1));
    check_person(&answer.text[0]);
    assert_eq!(answer.reasons, [Some(FinishReason::Stop)], "an answer ends where its shape does, without an end token");
}

const TRIP: &str = r##"{
    "type": "object",
    "properties": {
        "city": { "enum": ["Oslo", "Rome"], "type": "string" },
        "days": { "type": "integer", "minimum": 1, "maximum": 9 },
        "with": { "type": "object", "properties": { "dog": { "type": "boolean" } }, "required": ["dog"] },
        "quiet": { "type": "boolean" },
        "mood": { "anyOf": [{ "$ref": "#/$defs/Mood" }, { "type": "null" }] }
    },
    "required": ["city", "days", "with", "mood"],
    "$defs": { "Mood": { "enum": ["glad", "calm"] } }
}"##;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "that it can be read is what is asserted")]
struct Trip {
    city: City,
    days: u8,
    with: Company,
    quiet: Option<bool>,
    mood: Option<Mood>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mood {
    Glad,
    Calm,
}

#[derive(Debug, Deserialize)]
enum City {
    Oslo,
    Rome,
}

#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "that it can be read is what is asserted")]
struct Company {
    dog: bool,
}

/// By family, what its template shows of how calls are written.
const FAMILIES: [(&str, &str); 16] = [
    ("hermes", "<tool_call>"),
    ("llama", "<|python_tag|>"),
    ("mistral", "[TOOL_CALLS][ARGS]"),
    ("mistral-list", "[TOOL_CALLS]"),
    ("granite", "<|tool_call|>"),
    ("command", "<|START_ACTION|>"),
    ("command-r", "Action: tool_name"),
    ("nemotron", "<TOOLCALL>"),
    ("glm-4", "<|observation|> metadata"),
    ("deepseek", "<｜tool▁sep｜>"),
    ("deepseek-fenced", "<｜tool▁sep｜>```json"),
    ("glm", "<arg_key>"),
    ("coder", "<function="),
    ("function-gemma", "<start_function_call>"),
    ("gemma", "<|tool_call>"),
    ("harmony", "<|channel|><|message|>"),
];

#[test]
fn every_family_can_be_made_to_call_and_its_arguments_fit() {
    for (family, markers) in FAMILIES {
        let folder = Folder::new(family, |recipe| recipe).with_template(&TEMPLATE.replace("<tool_call>", markers));
        let mut daemon = Daemon::start(open(&folder));
        let trip = Tool { parameters: Some(Json(TRIP.to_string())), ..tool("travel", true) };
        for id in 0..3 {
            let chat = Chat {
                tools: vec![tool("greet", false), trip.clone()],
                tool_choice: ToolChoice::Named("travel".to_string()),
                // One family may think first, and babble knows no end.
                thinking_budget: Some(3),
                ..Chat::default()
            };
            let mut asked = conversation(chat);
            asked.sampling.logit_bias = vec![(id + 70, 1.0)];
            let answer = ask(&mut daemon, u64::from(id), &asked);
            assert_eq!(answer.reasons[0], Some(FinishReason::ToolCalls), "{family}: {:?}", answer.text);
            let said = (answer.calls[0].name.as_deref(), answer.text[0].trim());
            assert_eq!(said, (Some("travel"), ""), "{family}");
            let arguments: String = answer.calls.iter().map(|call| call.arguments.as_str()).collect();
            let trip: Trip =
                serde_json::from_str(&arguments).unwrap_or_else(|error| panic!("{family} {error}: {arguments}"));
            assert!((1..=9).contains(&trip.days), "{family}: {trip:?}");
        }
    }
}

#[test]
fn an_answer_in_the_harmony_form_is_held_to_its_shape_after_its_reasoning() {
    let folder = Folder::new("harmony-shape", |recipe| recipe)
        .with_template(&TEMPLATE.replace("<tool_call>", "<|channel|><|message|>"));
    let mut daemon = Daemon::start(open(&folder));
    let chat = Chat { thinking_budget: Some(4), ..Chat::default() };
    let choice = Constraint::Choice(vec!["yes".to_string(), "no".to_string()]);
    let answer = ask(&mut daemon, 1, &GenerateRequest { constraint: Some(choice), choices: 12, ..conversation(chat) });
    assert!(answer.text.iter().all(|text| text == "yes" || text == "no"), "{:?}", answer.text);
}

#[test]
fn what_follows_a_begun_answer_is_held_to_the_shape_and_may_be_made_a_call() {
    for (family, markers) in [("begun-hermes", "<tool_call>"), ("begun-harmony", "<|channel|><|message|>")] {
        let folder = Folder::new(family, |recipe| recipe).with_template(&TEMPLATE.replace("<tool_call>", markers));
        let mut daemon = Daemon::start(open(&folder));
        let going_on = |chat: Chat| {
            let mut asked = conversation(chat);
            if let Prompt::Chat(chat) = &mut asked.prompt {
                chat.messages.push(Message::new(Role::Assistant, "Well"));
                chat.ending = Ending::LastMessage;
            }
            asked
        };
        let constraint = Some(Constraint::Choice(vec!["yes".to_string(), "no".to_string()]));
        let asked = GenerateRequest { constraint, choices: 8, ..going_on(Chat::default()) };
        let answer = ask(&mut daemon, 1, &asked);
        assert!(answer.text.iter().all(|text| text == "yes" || text == "no"), "{family}: {:?}", answer.text);
        let trip = Tool { parameters: Some(Json(TRIP.to_string())), ..tool("travel", true) };
        let forced =
            Chat { tools: vec![trip], tool_choice: ToolChoice::Required, single_tool_call: true, ..Chat::default() };
        let answer = ask(&mut daemon, 2, &going_on(forced));
        assert_eq!(answer.reasons[0], Some(FinishReason::ToolCalls), "{family}: {:?}", answer.text);
        assert_eq!((answer.calls[0].name.as_deref(), answer.text[0].as_str()), (Some("travel"), ""), "{family}");
    }
}

#[test]
fn what_a_strict_tool_asks_and_its_family_cannot_enforce_is_refused_by_name() {
    let folder =
        Folder::new("unenforced", |recipe| recipe).with_template(&TEMPLATE.replace("<tool_call>", "<arg_key>"));
    let mut daemon = Daemon::start(open(&folder));
    let chat = Chat { tools: vec![tool("describe", true)], tool_choice: ToolChoice::Required, ..Chat::default() };
    daemon.send(submit(1, &conversation(chat), Vec::new()));
    let error = daemon.failure(1);
    assert!(error.message.contains("maxLength") && error.message.contains("describe"), "{}", error.message);
    assert_eq!(error.param.as_deref(), Some("tools"));
}

/// What a model writes that begins a call, given to it as a resumed answer's tokens are.
#[test]
fn a_call_that_a_free_answer_begins_is_of_a_known_function_and_fits_its_schema() {
    for (family, markers, begun) in [
        ("hermes", "<tool_call>", "Well. <tool_call>"),
        ("nemotron", "<TOOLCALL>", "Well. <TOOLCALL>["),
        ("llama", "<|python_tag|>", "{\"name\": \""),
        ("coder", "<function=", "Well. <tool_call>"),
        ("mistral", "[TOOL_CALLS][ARGS]", "Well. [TOOL_CALLS]"),
        ("thinking", "<think></think> <tool_call>", "<think>Hm <tool_call> it is.</think>\n\nWell. <tool_call>"),
        ("unsaid", "<tool_call>", "<think>Hm <tool_call> it is.</think>Well. <tool_call>"),
    ] {
        let folder = Folder::new(&format!("begins-{family}"), |recipe| recipe)
            .with_template(&TEMPLATE.replace("<tool_call>", markers));
        let tokenizer = Tokenizer::open(folder.path()).unwrap();
        let tokens = tokenizer.encode(begun, Special::Parse).unwrap();
        let mut daemon = Daemon::start(open(&folder));
        let trip = Tool { parameters: Some(Json(TRIP.to_string())), ..tool("travel", false) };
        let mut asked =
            conversation(Chat { tools: vec![tool("greet", false), trip], single_tool_call: true, ..Chat::default() });
        for id in 0..4 {
            asked.sampling.logit_bias = vec![(id + 70, 1.0)];
            daemon.send(submit(
                u64::from(id),
                &asked,
                vec![Delivered { tokens: tokens.clone(), ..Delivered::default() }],
            ));
            let answer = daemon.answer(u64::from(id));
            let name = answer.calls.first().and_then(|call| call.name.as_deref());
            assert!(matches!(name, Some("travel" | "greet")), "{family}: {name:?} {:?}", answer.text);
            let arguments: String = answer.calls.iter().map(|call| call.arguments.as_str()).collect();
            if answer.reasons[0] != Some(FinishReason::ToolCalls) {
                continue;
            }
            match name {
                Some("travel") => drop(
                    serde_json::from_str::<Trip>(&arguments)
                        .unwrap_or_else(|error| panic!("{family} {error}: {arguments}")),
                ),
                _ => check_person(&arguments),
            }
        }
    }
}

#[test]
fn a_forced_call_that_is_cut_before_its_name_is_known_is_no_text() {
    let folder = with_template("cut-call");
    let mut daemon = Daemon::start(open(&folder));
    for most in 1..30 {
        let mut asked = conversation(Chat {
            tools: vec![tool("describe", false)],
            tool_choice: ToolChoice::Required,
            ..Chat::default()
        });
        asked.stop.max_tokens = Some(most);
        let answer = ask(&mut daemon, u64::from(most), &asked);
        assert_eq!(answer.text.first().map_or("", String::as_str), "", "cut after {most}");
        assert!(answer.calls.iter().all(|call| call.name.as_deref().is_none_or(|name| name == "describe")));
    }
}

#[test]
fn an_answer_that_is_not_to_end_ends_only_where_its_shape_does() {
    let folder = Folder::new("not-to-end", |recipe| recipe);
    let mut daemon = Daemon::start(open(&folder));
    let mut asked = shaped(Constraint::Regex("(.|\\n)*".to_string()), 4);
    asked.stop.ignore_eos = true;
    asked.stop.max_tokens = Some(300);
    asked.sampling.logit_bias = vec![(engine::random::TOKENS - 1, 6.0)];
    let answer = ask(&mut daemon, 1, &asked);
    assert!(answer.reasons.iter().all(|reason| *reason == Some(FinishReason::Length)), "{:?}", answer.reasons);
    asked.constraint = Some(Constraint::Regex("a{3}".to_string()));
    let answer = ask(&mut daemon, 2, &asked);
    assert!(answer.text.iter().all(|text| text == "aaa"), "{:?}", answer.text);
}
