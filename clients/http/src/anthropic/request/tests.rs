//! How a body becomes a request, and which wishes are refused.

use super::*;

fn read(more: Value) -> Result<GenerateRequest, Error> {
    let mut body = json!({"model": "m", "max_tokens": 2000, "messages": [{"role": "user", "content": "x"}]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let own: Own = serde_json::from_value(body.clone()).unwrap();
    own.request(serde_json::from_value(body).unwrap())
}

fn chat(more: Value) -> Chat {
    match read(more).unwrap().prompt {
        Prompt::Chat(chat) => chat,
        other => panic!("no conversation: {other:?}"),
    }
}

#[test]
fn a_limit_beyond_every_number_is_as_far_as_numbers_go() {
    assert_eq!(read(json!({"max_tokens": 10_000_000_000_u64})).unwrap().stop.max_tokens, Some(u32::MAX));
}

#[test]
fn wishes_about_thinking_reach_the_model() {
    assert_eq!(chat(json!({})).thinking, None);
    assert_eq!(chat(json!({"thinking": {"type": "enabled", "budget_tokens": 1024}})).thinking, Some(true));
    assert_eq!(chat(json!({"thinking": {"type": "enabled", "budget_tokens": 1024}})).thinking_budget, Some(1024));
    assert_eq!(chat(json!({"thinking": {"type": "adaptive"}})).thinking_budget, None);
    assert_eq!(chat(json!({"thinking": {"type": "disabled"}})).thinking, Some(false));
    assert_eq!(chat(json!({"thinking": {"type": "adaptive"}})).thinking, None);
    let effort = |effort: &str| chat(json!({"output_config": {"effort": effort}})).template_arguments.unwrap().0;
    assert_eq!(effort("low"), r#"{"reasoning_effort":"low"}"#);
    assert_eq!(effort("max"), r#"{"reasoning_effort":"high"}"#);
}

#[test]
fn tool_choices_have_their_counterparts() {
    let choice = |body: Value| read(json!({ "tool_choice": body })).map(|request| request.prompt);
    let chosen = |body: Value| match choice(body).unwrap() {
        Prompt::Chat(chat) => chat.tool_choice,
        other => panic!("no conversation: {other:?}"),
    };
    assert_eq!(chosen(json!({"type": "auto"})), g::ToolChoice::Auto);
    assert_eq!(chosen(json!({"type": "none"})), g::ToolChoice::None);
    assert_eq!(chosen(json!({"type": "any"})), g::ToolChoice::Required);
    assert_eq!(chosen(json!({"type": "tool", "name": "look"})), g::ToolChoice::Named("look".to_owned()));
    assert!(choice(json!({"type": "tool"})).is_err());
}

#[test]
fn shapes_and_the_ways_of_calls_are_passed_on() {
    let usual = json!({"allowed_callers": ["direct"], "defer_loading": false, "eager_input_streaming": true});
    let mut tools = json!([{"name": "t", "input_schema": {}, "strict": true, "cache_control": {"type": "ephemeral"}}]);
    tools[0].as_object_mut().unwrap().extend(usual.as_object().unwrap().clone());
    let more = json!({"tools": tools, "tool_choice": {"type": "any", "disable_parallel_tool_use": true}});
    let chat = chat(more);
    assert!(chat.single_tool_call && chat.tools[0].strict);
    let format = json!({"output_config": {"format": {"type": "json_schema", "schema": {"type": "null"}}}});
    let schema = g::Json(r#"{"type":"null"}"#.to_owned());
    assert_eq!(read(format).unwrap().constraint, Some(Constraint::JsonSchema { schema, strict: true }));
}

#[test]
fn a_deferred_tool_is_told_of_once_a_result_refers_to_it() {
    let tool = |name: &str, deferred: bool| json!({"name": name, "input_schema": {}, "defer_loading": deferred});
    let tools = json!([tool("search", false), tool("a", true), tool("b", true)]);
    let names = |chat: Chat| chat.tools.into_iter().map(|tool| tool.name).collect::<Vec<_>>();
    assert_eq!(names(chat(json!({ "tools": tools }))), ["search"]);
    let found = |name: &str| {
        json!([
            {"role": "user", "content": "x"},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "1", "name": "search", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": [
                {"type": "tool_reference", "tool_name": name}
            ]}]},
        ])
    };
    let after = chat(json!({ "tools": tools, "messages": found("b") }));
    assert_eq!(after.messages[2].content, "The tool b can be called now.");
    assert_eq!(names(after), ["search", "b"]);
    let unknown = read(json!({ "tools": tools, "messages": found("c") })).unwrap_err();
    assert_eq!(unknown.param.as_deref(), Some("messages[2].content[0].content[0]"));
}

#[test]
fn a_wish_for_what_happens_anyway_is_granted() {
    let usual = json!({"speed": "standard", "mcp_servers": [], "fallbacks": []});
    assert_eq!(read(usual).unwrap(), read(json!({})).unwrap());
}

#[test]
fn what_cannot_be_honoured_is_refused_by_name() {
    let cases = [
        (json!({"thinking": {"type": "enabled", "budget_tokens": 1023}}), "thinking.budget_tokens"),
        (json!({"thinking": {"type": "enabled", "budget_tokens": 2000}}), "thinking.budget_tokens"),
        (json!({"tools": [{"name": "t"}]}), "tools[0]"),
        (json!({"tools": [{"name": "t", "input_schema": {}, "input_examples": [{}]}]}), "tools[0].input_examples"),
        (json!({"tools": [{"name": "t", "input_schema": {}, "telepathy": 1}]}), "tools[0].telepathy"),
        (json!({"output_config": {"effort": "some"}}), "output_config.effort"),
        (json!({"output_config": {"telepathy": 1}}), "output_config.telepathy"),
        (json!({"output_config": {"format": {"type": "xml"}}}), "output_config.format"),
        (json!({"context_management": {"edits": [{"type": "clear_thinking_20251015"}]}}), "context_management.edits"),
        (json!({"context_management": {"more": []}}), "context_management.more"),
        (json!({"speed": "fast"}), "speed"),
        (json!({"mcp_servers": [{"type": "url", "url": "https://a.example", "name": "a"}]}), "mcp_servers"),
        (json!({"fallbacks": [{"model": "b"}]}), "fallbacks"),
        (json!({"temperature": -0.1}), "temperature"),
        (json!({"max_tokens": 0}), "max_tokens"),
    ];
    for (more, param) in cases {
        assert_eq!(read(more.clone()).unwrap_err().param.as_deref(), Some(param), "{more}");
    }
}
