//! Each refusal names its field; what is in range passes.

use protocol::generation::{Message, Priority, Role, Sampling, Stop, Tool};
use protocol::model::Capabilities;

use super::*;

const LIMITS: Limits = Limits { choices_max: 4, deadline: Duration::from_secs(60), active_max: 2 };

fn text() -> GenerateRequest {
    GenerateRequest {
        model: None,
        prompt: Prompt::Text("hello".to_owned()),
        sampling: Sampling::default(),
        stop: Stop::default(),
        logprobs: None,
        choices: 1,
        priority: Priority::Normal,
        deadline_ms: None,
        constraint: None,
        prompt_logprobs: false,
        further: false,
        following: 0,
    }
}

fn conversation() -> Chat {
    let content = "hello".to_owned();
    let message =
        Message { role: Role::User, content, reasoning: None, tool_calls: vec![], tool_call_id: None, name: None };
    Chat { messages: vec![message], ..Chat::default() }
}

fn tool(parameters: &str) -> Tool {
    Tool { name: "clock".to_owned(), description: None, parameters: Some(Json(parameters.to_owned())), strict: false }
}

#[track_caller]
fn refused(param: &str, change: impl FnOnce(&mut GenerateRequest)) {
    let mut request = text();
    change(&mut request);
    let error = check(&request, &LIMITS).unwrap_err();
    assert_eq!((error.kind, error.param.as_deref()), (ErrorKind::Invalid, Some(param)), "{}", error.message);
}

#[test]
fn values_out_of_range_are_refused_by_field() {
    refused("temperature", |r| r.sampling.temperature = Some(2.1));
    refused("temperature", |r| r.sampling.temperature = Some(f32::NAN));
    refused("top_p", |r| r.sampling.top_p = Some(-0.1));
    refused("min_p", |r| r.sampling.min_p = Some(-0.1));
    refused("repetition_penalty", |r| r.sampling.repetition_penalty = Some(0.0));
    refused("repetition_penalty", |r| r.sampling.repetition_penalty = Some(0.005));
    refused("presence_penalty", |r| r.sampling.presence_penalty = Some(2.5));
    refused("frequency_penalty", |r| r.sampling.frequency_penalty = Some(f32::INFINITY));
    refused("typical_p", |r| r.sampling.typical_p = Some(0.0));
    refused("xtc_probability", |r| r.sampling.xtc_probability = Some(1.5));
    refused("dry_base", |r| r.sampling.dry_base = Some(0.5));
    refused("mirostat_tau", |r| r.sampling.mirostat_tau = Some(-1.0));
    refused("logit_bias", |r| r.sampling.logit_bias = vec![(1, 101.0)]);
    refused("stop", |r| r.stop.strings = vec!["x".to_owned(); 17]);
    refused("stop", |r| r.stop.strings = vec![String::new()]);
    refused("max_tokens", |r| r.stop.max_tokens = Some(0));
    refused("prompt_logprobs", |r| r.prompt_logprobs = true);
    refused("min_tokens", |r| (r.stop.max_tokens, r.stop.min_tokens) = (Some(3), 4));
    refused("logprobs", |r| r.logprobs = Some(21));
    refused("choices", |r| r.choices = 0);
    refused("choices", |r| r.choices = 5);
    refused("deadline_ms", |r| r.deadline_ms = Some(0));
    refused("prompt", |r| r.prompt = Prompt::Text(String::new()));
    refused("prompt", |r| r.prompt = Prompt::Tokens(vec![]));
    refused("messages", |r| r.prompt = Prompt::Chat(Chat::default()));
    let chat = |tools, tool_choice| Prompt::Chat(Chat { tools, tool_choice, ..conversation() });
    refused("tool_choice", |r| r.prompt = chat(vec![tool("{}")], ToolChoice::Named("watch".to_owned())));
    refused("tool_choice", |r| r.prompt = chat(vec![], ToolChoice::Required));
    refused("tools", |r| r.prompt = chat(vec![tool("[1]")], ToolChoice::Auto));
    refused("tools", |r| r.prompt = chat(vec![tool("{")], ToolChoice::Auto));
}

#[test]
fn what_is_in_range_passes_with_its_deadline() {
    assert_eq!(check(&text(), &LIMITS), Ok(Duration::from_secs(60)));
    let mut request = text();
    request.deadline_ms = Some(5);
    request.sampling = Sampling { temperature: Some(2.0), top_p: Some(1.0), ..Sampling::default() };
    request.prompt = Prompt::Chat(Chat { tools: vec![tool("{}")], ..conversation() });
    assert_eq!(check(&request, &LIMITS), Ok(Duration::from_millis(5)));
    request.deadline_ms = Some(u64::MAX);
    assert_eq!(check(&request, &LIMITS), Ok(Duration::from_secs(60)));
    request.priority = Priority::Low;
    assert_eq!(check(&request, &LIMITS), Ok(LOW_DEADLINE_MAX), "nobody waits for it");
    request.deadline_ms = None;
    assert_eq!(check(&request, &LIMITS), Ok(Duration::from_secs(60)));
}

#[test]
fn any_number_of_keys_leave_a_place_to_the_next() {
    let limits = Limits { active_max: 1_200, ..LIMITS };
    let mut active = 0;
    for key in 0..9 {
        let mut held = 0;
        while room(&Occupancy { active, bytes: 0, held: Some(held), draining: false }, &limits).is_ok() {
            (active, held) = (active + 1, held + 1);
        }
        assert!(held > 0 && active < 1_200, "{key} has {held} of {active}");
    }
    let only = Limits { active_max: 1, ..LIMITS };
    assert_eq!(room(&Occupancy { active: 0, bytes: 0, held: Some(0), draining: false }, &only), Ok(()));
}

#[test]
fn a_full_daemon_says_when_to_retry_and_a_closing_one_says_so() {
    let occupied = |active| Occupancy { active, bytes: 0, held: None, draining: false };
    assert_eq!(room(&occupied(1), &LIMITS), Ok(()));
    let full = room(&occupied(2), &LIMITS).unwrap_err();
    assert_eq!((full.kind, full.retry_after_ms), (ErrorKind::Busy, Some(1000)));
    let heavy = room(&Occupancy { bytes: BYTES_MAX, ..occupied(1) }, &LIMITS).unwrap_err();
    assert_eq!((heavy.kind, heavy.retry_after_ms), (ErrorKind::Busy, Some(1000)));
    assert_eq!(room(&Occupancy { draining: true, ..occupied(0) }, &LIMITS).unwrap_err().kind, ErrorKind::Closing);
}

#[test]
fn a_model_is_found_by_its_exact_name_or_by_default() {
    let names = ["a", "Org/Model", "z"];
    let find = |asked, default| resolve(asked, default, names.into_iter());
    assert_eq!(find(Some("z"), "a"), Ok("z"));
    assert_eq!(find(None, "z"), Ok("z"));
    assert_eq!(find(None, "gone"), Ok("a"));
    let error = find(Some("org/model"), "a").unwrap_err();
    assert_eq!(error.kind, ErrorKind::ModelNotFound);
    assert!(error.hint.unwrap().contains("Org/Model"));
    assert_eq!(resolve(None, "a", [].into_iter()).unwrap_err().kind, ErrorKind::ModelNotFound);
}

#[test]
fn what_the_model_cannot_do_is_refused_before_it_is_loaded() {
    let facts = |chat, tools| ModelFacts {
        architecture: "llama".to_owned(),
        parameters: 1,
        context_length: 10,
        vocabulary: 100,
        weights: "bf16".to_owned(),
        weights_bytes: 1,
        memory_bytes: 1,
        step_bytes: 1,
        kv_bytes_per_token: 1,
        dimensions: None,
        capabilities: Capabilities { chat, tools, ..Capabilities::default() },
    };
    let ask = |prompt, facts| suits(&GenerateRequest { prompt, ..text() }, "m", &facts);
    let param = |result: Result<()>| result.unwrap_err().param.unwrap();
    let with_tools = || Prompt::Chat(Chat { tools: vec![tool("{}")], ..conversation() });
    assert_eq!(param(ask(with_tools(), facts(false, false))), "messages");
    assert_eq!(param(ask(with_tools(), facts(true, false))), "tools");
    assert_eq!(ask(with_tools(), facts(true, true)), Ok(()));
    assert_eq!(ask(Prompt::Tokens(vec![1; 9]), facts(false, false)), Ok(()));
    assert_eq!(param(ask(Prompt::Tokens(vec![100]), facts(false, false))), "prompt");
    let error = ask(Prompt::Tokens(vec![1; 10]), facts(false, false)).unwrap_err();
    assert_eq!(error.kind, ErrorKind::ContextLengthExceeded);
    assert!(error.message.contains("maximum context length is 10 tokens"), "{}", error.message);
}
