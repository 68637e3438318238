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
    let tools = json!([{"name": "t", "input_schema": {}, "strict": true}]);
    let more = json!({"tools": tools, "tool_choice": {"type": "any", "disable_parallel_tool_use": true}});
    let chat = chat(more);
    assert!(chat.single_tool_call && chat.tools[0].strict);
    let format = json!({"output_config": {"format": {"type": "json_schema", "schema": {"type": "null"}}}});
    let schema = g::Json(r#"{"type":"null"}"#.to_owned());
    assert_eq!(read(format).unwrap().constraint, Some(Constraint::JsonSchema { schema, strict: true }));
}

#[test]
fn what_cannot_be_honoured_is_refused_by_name() {
    let cases = [
        (json!({"thinking": {"type": "enabled", "budget_tokens": 1023}}), "thinking.budget_tokens"),
        (json!({"thinking": {"type": "enabled", "budget_tokens": 2000}}), "thinking.budget_tokens"),
        (json!({"tools": [{"name": "t"}]}), "tools[0]"),
        (json!({"output_config": {"effort": "some"}}), "output_config.effort"),
        (json!({"output_config": {"telepathy": 1}}), "output_config.telepathy"),
        (json!({"output_config": {"format": {"type": "xml"}}}), "output_config.format"),
        (json!({"context_management": {"edits": [{"type": "clear_thinking_20251015"}]}}), "context_management.edits"),
        (json!({"context_management": {"more": []}}), "context_management.more"),
        (json!({"temperature": -0.1}), "temperature"),
        (json!({"max_tokens": 0}), "max_tokens"),
    ];
    for (more, param) in cases {
        assert_eq!(read(more.clone()).unwrap_err().param.as_deref(), Some(param), "{more}");
    }
}
