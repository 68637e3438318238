//! What a request may ask, and how a refusal names what is wrong. The model is tiny and random; only its text side is read.

use std::time::Instant;

use pipe::{Answer, Question};
use protocol::generation::{Chat, Constraint, Ending, Json, Message, Role, Tool, ToolCall, ToolChoice};
use protocol::generation::{GenerateRequest, Prompt};
use protocol::text::{DetokenizeRequest, Special, TokenizeRequest, Tokens};
use protocol::{Error, ErrorKind};

use super::{Prompter, Window};
use crate::facts::resident_bytes;
use crate::generation::Generation;
use crate::render::RENDER_LIMITS;
use crate::tests::kit::{Folder, request, submission};

mod hostile;
mod recalled;
mod shown;
mod thinking;

const WINDOW: Window = Window { context: 4096, capacity: 1024 };

fn prompter(folder: &Folder) -> Prompter {
    let facts = crate::facts::inspect(folder.path()).unwrap();
    Prompter::open(folder.renderer(RENDER_LIMITS), "tiny", &facts, WINDOW).unwrap()
}

fn prepare(prompter: &Prompter, request: &GenerateRequest) -> Result<Generation, Error> {
    let submit = submission(1, request.clone());
    prompter.prepare(submit, Instant::now(), &mut prompter.rendering()?)
}

fn message(role: Role, content: &str) -> Message {
    let content = content.to_string();
    Message { role, content, reasoning: None, tool_calls: Vec::new(), tool_call_id: None, name: None }
}

fn chat(chat: Chat) -> GenerateRequest {
    GenerateRequest { prompt: Prompt::Chat(chat), ..request("", 10) }
}

fn weather() -> Tool {
    let parameters = Some(Json(r#"{"type":"object","properties":{"city":{"type":"string"}}}"#.to_string()));
    Tool { name: "weather".to_string(), description: None, parameters, strict: false }
}

#[track_caller]
fn check_refused(result: Result<Generation, Error>, kind: ErrorKind, param: &str) -> Error {
    let error = result.err().expect("the request is refused");
    assert_eq!((error.kind, error.param.as_deref()), (kind, Some(param)), "{}", error.message);
    error
}

#[test]
fn every_number_out_of_range_is_refused_by_its_name() {
    let folder = Folder::new("ranges", |recipe| recipe);
    let prompter = prompter(&folder);
    type Spoil = fn(&mut GenerateRequest);
    let cases: [(&str, Spoil); 26] = [
        ("temperature", |it| it.sampling.temperature = Some(2.1)),
        ("temperature", |it| it.sampling.temperature = Some(f32::NAN)),
        ("top_p", |it| it.sampling.top_p = Some(-0.1)),
        ("top_p", |it| it.sampling.top_p = Some(1.5)),
        ("min_p", |it| it.sampling.min_p = Some(-0.1)),
        ("repetition_penalty", |it| it.sampling.repetition_penalty = Some(0.0)),
        ("presence_penalty", |it| it.sampling.presence_penalty = Some(2.5)),
        ("frequency_penalty", |it| it.sampling.frequency_penalty = Some(-2.5)),
        ("typical_p", |it| it.sampling.typical_p = Some(0.0)),
        ("xtc_probability", |it| it.sampling.xtc_probability = Some(2.0)),
        ("dry_base", |it| it.sampling.dry_base = Some(0.0)),
        ("dry_breakers", |it| it.sampling.dry_breakers = Some(vec![String::new()])),
        ("mirostat_eta", |it| it.sampling.mirostat_eta = Some(2.0)),
        ("top_p", |it| (it.sampling.mirostat, it.sampling.top_p) = (true, Some(0.5))),
        ("logit_bias", |it| it.sampling.logit_bias = vec![(1_000_000, 1.0)]),
        ("logit_bias", |it| it.sampling.logit_bias = vec![(1, 101.0)]),
        ("logprobs", |it| it.logprobs = Some(21)),
        ("choices", |it| it.choices = 0),
        ("choices", |it| it.choices = 129),
        ("max_tokens", |it| it.stop.max_tokens = Some(0)),
        ("min_tokens", |it| it.stop.min_tokens = 11),
        ("stop", |it| it.stop.strings = vec![String::new()]),
        ("stop", |it| it.stop.strings = vec!["x".to_string(); 17]),
        ("stop_token_ids", |it| it.stop.tokens = vec![1_000_000]),
        ("prompt", |it| it.prompt = Prompt::Tokens(vec![1_000_000])),
        ("prompt", |it| it.prompt = Prompt::Text(String::new())),
    ];
    for (param, spoil) in cases {
        let mut request = request("hello", 10);
        spoil(&mut request);
        let error = check_refused(prepare(&prompter, &request), ErrorKind::Invalid, param);
        assert!(error.message.contains(param), "{}", error.message);
    }
    prepare(&prompter, &request("hello", 10)).unwrap();
}

#[test]
fn a_prompt_past_the_context_is_refused_with_the_figures() {
    let folder = Folder::new("window", |recipe| recipe);
    let prompter = prompter(&folder);
    let long = GenerateRequest { prompt: Prompt::Tokens(vec![5; 1_024]), ..request("", 1) };
    let error = check_refused(prepare(&prompter, &long), ErrorKind::ContextLengthExceeded, "messages");
    assert!(error.message.contains("This model's maximum context length is 1024 tokens"), "{}", error.message);
    let asked = GenerateRequest { prompt: Prompt::Tokens(vec![5; 1_000]), ..request("", 25) };
    let error = check_refused(prepare(&prompter, &asked), ErrorKind::ContextLengthExceeded, "max_tokens");
    assert!(error.message.contains("1000") && error.message.contains("25"), "{}", error.message);
    assert!(error.hint.is_some_and(|hint| hint.contains("4096")));
    let or_fewer = |request: GenerateRequest| {
        let stop = protocol::generation::Stop { or_fewer: true, ..request.stop.clone() };
        prepare(&prompter, &GenerateRequest { stop, ..request })
    };
    assert_eq!(or_fewer(asked).unwrap().choices[0].tokens_max(), 24);
    check_refused(or_fewer(long), ErrorKind::ContextLengthExceeded, "messages");
}

#[test]
fn a_conversation_is_rendered_by_the_models_template() {
    let folder = Folder::new("render", |recipe| recipe);
    let prompter = prompter(&folder);
    let messages = vec![message(Role::System, "Be brief."), message(Role::User, "Hi")];
    let rendered = prepare(&prompter, &chat(Chat { messages: messages.clone(), ..Chat::default() })).unwrap();
    let text = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n";
    let tokens = prompter.tokenizer.encode(text, engine::text::Special::Parse).unwrap();
    assert_eq!(rendered.prompt, tokens);
    let with_tools = Chat { messages: messages.clone(), tools: vec![weather()], ..Chat::default() };
    let shown = self::tokens(&prompter, Prompt::Chat(with_tools.clone()), Special::Parse, false).unwrap();
    assert!(shown.tokens.len() > tokens.len() + 20, "the tools are shown");
    let hidden = Chat { tool_choice: ToolChoice::None, ..with_tools };
    assert_eq!(prepare(&prompter, &chat(hidden)).unwrap().prompt, tokens);
}

#[test]
fn a_prompt_ends_where_the_answer_that_is_to_be_continued_does() {
    let folder = Folder::new("continued", |recipe| recipe);
    let prompter = prompter(&folder);
    let begun = |text: &str| {
        let messages = vec![message(Role::User, "Hi"), message(Role::Assistant, text)];
        Chat { messages, ending: Ending::LastMessage, ..Chat::default() }
    };
    let rendered = |chat| tokens(&prompter, Prompt::Chat(chat), Special::Parse, false).unwrap().rendered.unwrap();
    let fresh = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n";
    assert_eq!(rendered(begun("Hel ")), format!("{fresh}Hel "));
    assert_eq!(rendered(begun("")), fresh);
    let closed = Chat { ending: Ending::Closed, ..begun("Hel ") };
    assert_eq!(rendered(closed), format!("{fresh}Hel <|im_end|>\n"));
    let refused = |chat_: Chat, kind, param| check_refused(prepare(&prompter, &chat(chat_)), kind, param);
    let mut called = begun("");
    let arguments = Json("{}".to_string());
    called.messages[1].tool_calls = vec![ToolCall { id: "c".to_string(), name: "weather".to_string(), arguments }];
    refused(called, ErrorKind::Invalid, "messages");
    let asked = Chat { messages: vec![message(Role::User, "Hi")], ending: Ending::LastMessage, ..Chat::default() };
    refused(asked, ErrorKind::Invalid, "messages");
}

#[test]
fn an_answer_that_was_begun_is_past_its_thoughts_unless_it_says_otherwise() {
    let source = "{{ '</think>' if enable_thinking is defined }}{% for m in messages %}{{ m.content }}{% endfor %}";
    let folder = Folder::new("begun-thoughts", |recipe| recipe).with_template(source);
    let prompter = prompter(&folder);
    let asked = |text: &str, thinking| {
        let messages = vec![message(Role::User, "Hi"), message(Role::Assistant, text)];
        chat(Chat { messages, ending: Ending::LastMessage, thinking, ..Chat::default() })
    };
    for thinking in [None, Some(false)] {
        prepare(&prompter, &asked("It", thinking)).unwrap();
    }
    check_refused(prepare(&prompter, &asked("It", Some(true))), ErrorKind::Unsupported, "thinking");
    prepare(&prompter, &asked("<think>Hm", Some(true))).unwrap();
}

#[test]
fn a_template_that_rewrites_what_is_to_be_continued_is_refused() {
    let source = "{% for m in messages %}{{ m.content | replace('x', 'y') }}{% endfor %}";
    let folder = Folder::new("rewrites", |recipe| recipe).with_template(source);
    let prompter = prompter(&folder);
    let begun = |text: &str| {
        chat(Chat { messages: vec![message(Role::Assistant, text)], ending: Ending::LastMessage, ..Chat::default() })
    };
    prepare(&prompter, &begun("abc")).unwrap();
    let error = check_refused(prepare(&prompter, &begun("xyz")), ErrorKind::Invalid, "messages");
    assert!(error.message.contains("cannot be continued"), "{}", error.message);
}

#[test]
fn a_models_own_ways_to_draw_and_to_end_stand_behind_those_of_a_request() {
    let folder = Folder::new("defaults", |recipe| recipe);
    let own = r#"{"typical_p": 0.5, "min_new_tokens": 4, "stop_strings": ["STOP"]}"#;
    std::fs::write(folder.path().join("generation_config.json"), own).unwrap();
    let prompter = prompter(&folder);
    let drawn = |request: &GenerateRequest, tokens_max| {
        prompter.sampling(request, 0, &prompter.ends(request, tokens_max), 1, true)
    };
    let mut asked = request("Hi", 10);
    assert_eq!((drawn(&asked, 10).typical_p, drawn(&asked, 10).min_tokens), (0.5, 4));
    assert_eq!(drawn(&asked, 3).min_tokens, 3, "never more than there may be");
    assert_eq!(prompter.stop_strings(&asked), ["STOP"]);
    (asked.sampling.typical_p, asked.stop.min_tokens) = (Some(0.9), 7);
    asked.stop.strings = vec!["END".to_string()];
    assert_eq!((drawn(&asked, 10).typical_p, drawn(&asked, 10).min_tokens), (0.9, 7));
    assert_eq!(prompter.stop_strings(&asked), ["END", "STOP"]);
    asked.stop.ignore_eos = true;
    assert_eq!(prompter.stop_strings(&asked), ["END"]);
}

#[test]
fn what_cannot_be_honoured_is_refused_by_name() {
    let folder = Folder::new("refusals", |recipe| recipe);
    let prompter = prompter(&folder);
    let messages = vec![message(Role::User, "Hi")];
    let plain = Chat { messages: messages.clone(), ..Chat::default() };
    let check = |chat_: Chat, kind, param| check_refused(prepare(&prompter, &chat(chat_)), kind, param);
    // This model's template shows tools and no way to call them.
    for choice in [ToolChoice::Auto, ToolChoice::Required, ToolChoice::Named("weather".to_string())] {
        let uncallable = Chat { tools: vec![weather()], tool_choice: choice, ..plain.clone() };
        check(uncallable, ErrorKind::Unsupported, "tools");
    }
    let uncalled = Chat { tools: vec![weather()], tool_choice: ToolChoice::None, ..plain.clone() };
    prepare(&prompter, &chat(uncalled)).unwrap();
    let shaped = |constraint| GenerateRequest { constraint: Some(constraint), ..request("Hi", 10) };
    let schema = |text: &str| Constraint::JsonSchema { schema: Json(text.to_string()), strict: true };
    let unique = shaped(schema(r#"{"type":"array","uniqueItems":true}"#));
    let error = check_refused(prepare(&prompter, &unique), ErrorKind::Unsupported, "constraint");
    assert!(error.message.contains("uniqueItems"), "{}", error.message);
    check_refused(prepare(&prompter, &shaped(schema("{"))), ErrorKind::Invalid, "constraint");
    check_refused(prepare(&prompter, &shaped(Constraint::Regex("(".to_string()))), ErrorKind::Invalid, "constraint");
    check(Chat { thinking: Some(true), ..plain.clone() }, ErrorKind::Unsupported, "thinking");
    check(Chat::default(), ErrorKind::Invalid, "messages");
    let broken = Some(Json("[1".to_string()));
    check(Chat { template_arguments: broken.clone(), ..plain.clone() }, ErrorKind::Invalid, "template_arguments");
    let tools = vec![Tool { parameters: broken, ..weather() }];
    check(Chat { tools, ..plain.clone() }, ErrorKind::Invalid, "tools[0].parameters");
    for reserved in ["messages", "tools", "add_generation_prompt", "raise_exception", "eos_token", "colour"] {
        let arguments = Some(Json(format!("{{\"{reserved}\": []}}")));
        let taken = Chat { template_arguments: arguments, ..plain.clone() };
        let error = check(taken, ErrorKind::Invalid, "template_arguments");
        assert!(error.message.contains(reserved), "{}", error.message);
    }
    let unnamed = vec![Tool { name: " ".to_string(), ..weather() }];
    check(Chat { tools: unnamed, ..plain.clone() }, ErrorKind::Invalid, "tools[0].name");
    let twice = Chat { tools: vec![weather(), weather()], ..plain.clone() };
    let error = check(twice.clone(), ErrorKind::Invalid, "tools[1].name");
    assert!(error.message.contains("\"weather\""), "{}", error.message);
    check(Chat { tool_choice: ToolChoice::None, ..twice }, ErrorKind::Invalid, "tools[1].name");
    let mut caller = message(Role::Assistant, "");
    let arguments = Json("{\"city\":".to_string());
    caller.tool_calls = vec![ToolCall { id: "call_1".to_string(), name: "weather".to_string(), arguments }];
    check(Chat { messages: vec![caller], ..plain }, ErrorKind::Invalid, "messages[0].tool_calls");
}

#[test]
fn a_prompt_far_beyond_the_context_is_refused_without_being_read_whole() {
    let folder = Folder::new("far-beyond", |recipe| recipe);
    let prompter = prompter(&folder);
    let before = resident_bytes();
    let result = prepare(&prompter, &request(&"x".repeat(8 << 20), 10));
    let error = check_refused(result, ErrorKind::ContextLengthExceeded, "messages");
    assert!(error.message.contains("maximum context length is 1024 tokens; the prompt has more than"), "{error:?}");
    assert!(resident_bytes() < before + (512 << 20));
}

/// A schema that lays a long pattern over each of many alternatives, which the grammar engine copies it into.
fn unfolding() -> String {
    let long = format!(r#"{{"type":"string","pattern":"{}"}}"#, "a".repeat(200_000));
    let alternatives = vec![r#"{"type":"string","pattern":"a*"}"#; 8_000].join(",");
    format!(r#"{{"allOf":[{long},{{"anyOf":[{alternatives}]}}]}}"#)
}

#[test]
fn a_shape_that_takes_gigabytes_costs_its_request_and_not_the_worker() {
    let folder = Folder::new("unfolding", |recipe| recipe);
    let prompter = prompter(&folder);
    let mut rendering = prompter.rendering().unwrap();
    let mut prepare = |schema: String| {
        let constraint = Some(Constraint::JsonSchema { schema: Json(schema), strict: true });
        let submit = submission(1, GenerateRequest { constraint, ..request("Hi", 10) });
        prompter.prepare(submit, Instant::now(), &mut rendering)
    };
    let before = resident_bytes();
    let error = check_refused(prepare(unfolding()), ErrorKind::Invalid, "constraint");
    // A slow machine gets to the end of its time before that of its memory.
    let ends = ["MiB of memory to compile", "does not compile within"];
    assert!(ends.iter().any(|words| error.message.contains(words)), "{}", error.message);
    assert!(resident_bytes() < before + (512 << 20), "the worker itself took no more");
    prepare(r#"{"type":"integer"}"#.to_string()).map(drop).unwrap();
}

#[test]
fn a_model_without_a_template_takes_text_and_refuses_conversations() {
    let folder = Folder::new("plain", |recipe| recipe);
    std::fs::remove_file(folder.path().join("chat_template.jinja")).unwrap();
    let prompter = prompter(&folder);
    prepare(&prompter, &request("Once upon a time", 5)).unwrap();
    let chat = chat(Chat { messages: vec![message(Role::User, "Hi")], ..Chat::default() });
    let error = check_refused(prepare(&prompter, &chat), ErrorKind::Unsupported, "messages");
    assert!(error.message.contains("tiny has no chat template"), "{}", error.message);
}

#[test]
fn a_tokenizer_of_another_model_refuses_the_request_and_spares_the_worker() {
    let folder = Folder::new("stranger", |recipe| recipe.set("vocab_size", 280));
    let prompter = prompter(&folder);
    prepare(&prompter, &request("Once upon a time", 5)).unwrap();
    let chat = chat(Chat { messages: vec![message(Role::User, "Hi")], ..Chat::default() });
    let error = check_refused(prepare(&prompter, &chat), ErrorKind::Unsupported, "prompt");
    assert!(error.message.contains("its weights end at 279"), "{}", error.message);
}

fn tokens(prompter: &Prompter, prompt: Prompt, special: Special, pieces: bool) -> Result<Tokens, Error> {
    let request = TokenizeRequest { model: None, prompt, special, pieces };
    match prompter.answer(&Question::Tokenize(request), 0, &mut prompter.rendering()?)? {
        Answer::Tokens(tokens) => Ok(tokens),
        Answer::Text(text) => panic!("{text}"),
    }
}

#[test]
fn what_is_counted_is_what_an_answer_would_read() {
    let folder = Folder::new("counted", |recipe| recipe);
    let prompter = prompter(&folder);
    let talk = Chat { messages: vec![message(Role::User, "Grüße, 🌦!")], ..Chat::default() };
    let read = prepare(&prompter, &chat(talk.clone())).unwrap().prompt;
    let counted = tokens(&prompter, Prompt::Chat(talk), Special::Plain, true).unwrap();
    assert_eq!(counted.tokens, read);
    let rendered = counted.rendered.unwrap();
    assert!(rendered.contains("Grüße, 🌦!"), "{rendered}");
    assert_eq!(String::from_utf8(counted.pieces.concat()).unwrap(), rendered);
    let spelled = Question::Detokenize(DetokenizeRequest { model: None, tokens: read });
    assert_eq!(prompter.answer(&spelled, 0, &mut prompter.rendering().unwrap()).unwrap(), Answer::Text(rendered));
}

#[test]
fn special_tokens_are_text_where_they_are_told_to_be() {
    let folder = Folder::new("special", |recipe| recipe);
    let prompter = prompter(&folder);
    let count =
        |special| tokens(&prompter, Prompt::Text("<|im_end|>".to_string()), special, false).unwrap().tokens.len();
    assert_eq!(count(Special::Parse), 1);
    assert!(count(Special::Plain) > 1);
}

#[test]
fn questions_about_unknown_tokens_and_for_too_much_are_refused_by_name() {
    let folder = Folder::new("questions", |recipe| recipe);
    let prompter = prompter(&folder);
    let error = tokens(&prompter, Prompt::Tokens(vec![1, 1_000_000]), Special::Plain, false).unwrap_err();
    assert_eq!((error.kind, error.param.as_deref()), (ErrorKind::Invalid, Some("prompt")));
    let many = Question::Detokenize(DetokenizeRequest { model: None, tokens: vec![1_000_000] });
    assert_eq!(
        prompter.answer(&many, 0, &mut prompter.rendering().unwrap()).unwrap_err().param.as_deref(),
        Some("tokens")
    );
    let error = tokens(&prompter, Prompt::Tokens(vec![1; (1 << 20) + 1]), Special::Plain, false).unwrap_err();
    assert!(error.message.contains("1048577 tokens"), "{}", error.message);
}

/// What a template makes of a call, its result and the reasoning before them; it shows calls in conversations that a user begins.
fn habits(source: &str) -> String {
    let source =
        format!("{{% if messages[0].role == 'user' %}}{{{{ messages | tojson }}}}{{% else %}}{source}{{% endif %}}");
    let folder = Folder::new("habits", |recipe| recipe).with_template(&source);
    let prompter = prompter(&folder);
    let mut caller = message(Role::Assistant, "I look.");
    caller.reasoning = Some("Look it up.".to_string());
    let arguments = Json("{}".to_string());
    caller.tool_calls =
        vec![ToolCall { id: "call_0123456789abcdef".to_string(), name: "weather".to_string(), arguments }];
    let mut result = message(Role::Tool, "21");
    result.tool_call_id = Some("call_0123456789abcdef".to_string());
    let asked = chat(Chat { messages: vec![caller, result], ..Chat::default() });
    let prepared = prepare(&prompter, &asked).unwrap();
    let bytes = prepared.prompt.iter().flat_map(|token| prompter.tokenizer.token_bytes(*token).to_vec());
    String::from_utf8(bytes.collect()).unwrap()
}

#[test]
fn templates_find_reasoning_where_they_look_for_it() {
    for field in ["reasoning_content", "reasoning", "thinking", "thought"] {
        assert_eq!(habits(&format!("{{{{ messages[0].{field} }}}}!")), "Look it up.!");
        assert_eq!(habits(&format!("{{{{ messages[0]['{field}'] }}}}{{{{ messages[0]|length }}}}")), "Look it up.4");
    }
    let blocks = "{% for block in messages[0].content %}{% if block.type == 'thinking' %}<{{ block['thinking'] }}>\
                  {% else %}{{ block.text }}{% endif %}{% endfor %}";
    assert_eq!(habits(blocks), "<Look it up.>I look.");
    assert_eq!(habits("{{ messages[0]|length }}"), "3");
}

#[test]
fn templates_that_want_short_call_ids_get_them() {
    let ids = "{{ messages[0].tool_calls[0].id }} {{ messages[1].tool_call_id }}";
    assert_eq!(habits(ids), "call_0123456789abcdef call_0123456789abcdef");
    let short = habits(&format!("{{% if messages[1].tool_call_id|length != 9 %}}no{{% endif %}}{ids}"));
    let (call, result) = short.split_once(' ').unwrap();
    assert_eq!((call, call.len()), (result, 9));
    assert!(call.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{call}");
}
