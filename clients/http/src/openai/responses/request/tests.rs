//! Which wishes reach the model, which are ignored, and which are refused.

use super::*;

fn body(more: Value) -> Result<(GenerateRequest, Response)> {
    let mut sent = json!({"model": "m", "input": "Hi"});
    sent.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let members = Members::read(&sent.to_string().into_bytes().into(), KNOWN)?;
    let asked = Asked::after(Vec::new(), &members.part()?, Body::read(&members)?)?;
    Ok((asked.request, asked.response))
}

fn chat(more: Value) -> Chat {
    match body(more).unwrap().0.prompt {
        Prompt::Chat(chat) => chat,
        other => panic!("{other:?}"),
    }
}

fn param(more: Value) -> String {
    body(more).err().unwrap().param.unwrap_or_default()
}

fn function(name: &str) -> Value {
    json!({"type": "function", "name": name, "description": null, "parameters": {"type": "object"}, "strict": false})
}

#[test]
fn tools_of_other_kinds_are_not_offered() {
    let tools = json!([{"type": "web_search"}, {"type": "namespace", "name": "n", "tools": []}, function("f")]);
    let (_, response) = body(json!({"tools": tools})).unwrap();
    assert_eq!(response.asked["tools"], json!([function("f")]));
    let names = |choice: Value| -> Vec<String> {
        let asked = json!({"tools": [function("f"), function("g")], "tool_choice": choice});
        chat(asked).tools.into_iter().map(|tool| tool.name).collect()
    };
    assert_eq!(names(json!("auto")), ["f", "g"]);
    let allowed = json!({"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "g"}]});
    assert_eq!(names(allowed), ["g"]);
}

#[test]
fn functions_of_namespaces_are_offered_under_one_name_and_repeated_as_they_were_sent() {
    let docs = json!({"type": "namespace", "name": "mcp__docs__", "description": "A library.", "tools": [
        function("search"), {"type": "web_search"}, function("f")
    ]});
    let mut asked = json!({ "tools": [function("f"), docs] });
    let offered = chat(asked.clone()).tools;
    assert_eq!(
        offered.iter().map(|tool| tool.name.as_str()).collect::<Vec<_>>(),
        ["f", "mcp__docs__search", "mcp__docs__f"]
    );
    assert_eq!((offered[1].description.as_deref(), &offered[2].description), (Some("A library."), &None));
    let shown = &body(asked.clone()).unwrap().1.asked["tools"][1];
    assert_eq!((&shown["name"], &shown["tools"]), (&json!("mcp__docs__"), &json!([function("search"), function("f")])));

    let search = json!({"type": "function", "namespace": "mcp__docs__", "name": "search"});
    asked["tool_choice"] = search.clone();
    assert_eq!(chat(asked.clone()).tool_choice, g::ToolChoice::Named("mcp__docs__search".into()));
    asked["tool_choice"] = json!({"type": "allowed_tools", "mode": "auto", "tools": [search]});
    assert_eq!(chat(asked.clone()).tools.len(), 1);

    asked["tools"].as_array_mut().unwrap().push(function("mcp__docs__f"));
    assert_eq!(param(asked), "tools[2].name", "the model could not tell them apart");
    let member = |member: Value| json!({"tools": [{"type": "namespace", "name": "n", "tools": [member]}]});
    assert_eq!(param(member(json!({"name": "f"}))), "tools[0].tools[0].type");
    let free = json!({"type": "custom", "name": "f"});
    assert_eq!(param(member(free.clone())), "tools[0].tools[0].type");
    assert_eq!(param(json!({ "tools": [free] })), "tools[0].type");
    assert_eq!(param(member(json!({"type": "function", "name": "f", "colour": 1}))), "tools[0].tools[0].colour");
}

#[test]
fn a_response_repeats_what_was_asked_and_says_what_was_not() {
    let (_, response) =
        body(json!({"temperature": 0.7, "metadata": {"a": "b"}, "reasoning": {"effort": "low"}})).unwrap();
    let shown = serde_json::to_value(&response).unwrap();
    assert_eq!((&shown["temperature"], &shown["metadata"]), (&json!(0.7), &json!({"a": "b"})));
    assert_eq!(shown["reasoning"], json!({"effort": "low", "summary": null}));
    assert_eq!((&shown["tool_choice"], &shown["parallel_tool_calls"]), (&json!("auto"), &json!(true)));
    assert_eq!((&shown["usage"], &shown["error"], &shown["status"]), (&Value::Null, &Value::Null, &json!("queued")));
}

#[test]
fn shapes_and_the_ways_of_calls_are_passed_on() {
    let tool = json!({"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": true});
    let chat = chat(json!({"tools": [tool], "parallel_tool_calls": false}));
    assert!(chat.single_tool_call && chat.tools[0].strict);
    let format = json!({"type": "json_schema", "name": "n", "schema": {"type": "null"}, "strict": true});
    let (request, response) = body(json!({"text": {"format": format}})).unwrap();
    let schema = g::Json(r#"{"type":"null"}"#.to_owned());
    assert_eq!(request.constraint, Some(g::Constraint::JsonSchema { schema, strict: true }));
    assert_eq!(serde_json::to_value(&response).unwrap()["text"]["format"], format);
    assert_eq!(param(json!({"text": {"format": {"type": "xml"}}})), "text.format.type");
}

#[test]
fn effort_and_limits_reach_the_model() {
    assert_eq!(chat(json!({"reasoning": {"effort": "none"}})).thinking, Some(false));
    let effort = chat(json!({"reasoning": {"effort": "xhigh", "summary": "auto"}})).template_arguments.unwrap().0;
    assert_eq!(effort, r#"{"reasoning_effort":"high"}"#);
    assert_eq!(chat(json!({"reasoning": {"effort": "low"}})).thinking_budget, Some(2048));
    let (request, _) = body(json!({"max_output_tokens": 7, "include": ["message.output_text.logprobs"]})).unwrap();
    assert_eq!((request.stop.max_tokens, request.logprobs), (Some(7), Some(0)));
    let holds = |include: Value| body(json!({ "include": include })).unwrap().1.holds_thoughts;
    assert!(holds(json!(["reasoning.encrypted_content"])) && !holds(json!([])));
    assert_eq!(body(json!({"top_logprobs": 3})).unwrap().0.logprobs, Some(3));
    let drawn = json!({"temperature": 0.5, "top_p": 0.9, "top_k": 40, "repetition_penalty": 1.2, "seed": 42});
    let sampling = body(drawn).unwrap().0.sampling;
    assert_eq!((sampling.temperature, sampling.top_p, sampling.top_k), (Some(0.5), Some(0.9), Some(40)));
    assert_eq!((sampling.repetition_penalty, sampling.seed), (Some(1.2), Some(42)));
    assert_eq!(param(json!({"seed": "a"})), "seed");
}

#[test]
fn a_wish_for_what_happens_anyway_is_granted() {
    let usual = json!({"context_management": [], "truncation": "disabled", "service_tier": "auto"});
    assert!(body(usual).is_ok());
    assert!(body(json!({"stream": true, "stream_options": {"include_obfuscation": false}})).is_ok());
}

#[test]
fn what_would_have_no_effect_is_refused_by_name() {
    assert_eq!(param(json!({"truncation": "auto"})), "truncation");
    assert_eq!(param(json!({"conversation": "c"})), "conversation");
    assert_eq!(param(json!({"max_tool_calls": 1})), "max_tool_calls");
    assert_eq!(param(json!({"include": ["file_search_call.results"]})), "include");
    assert_eq!(param(json!({"text": {"verbosity": "high"}})), "text.verbosity");
    assert_eq!(param(json!({"top_logprobs": 21})), "top_logprobs");
    assert_eq!(param(json!({"context_management": [{"type": "compaction"}]})), "context_management");
    assert_eq!(param(json!({"stream_options": {}})), "stream_options");
    assert_eq!(param(json!({"metadata": {"a": 1}})), "metadata");
    assert_eq!(param(json!({"tool_choice": "required"})), "tool_choice");
    assert_eq!(param(json!({"tool_choice": {"type": "function"}})), "tool_choice.name");
    assert_eq!(param(json!({"tools": [{"type": "function"}]})), "tools[0]");
    assert_eq!(param(json!({"tools": [{"type": "web_search"}, {"name": "f"}]})), "tools[1].type");
    for (name, wish) in [("defer_loading", json!(true)), ("allowed_callers", json!([])), ("output_schema", json!({}))] {
        let mut tool = function("f");
        tool[name] = wish;
        assert_eq!(param(json!({ "tools": [tool] })), format!("tools[0].{name}"));
    }
    let choice = json!({"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "g"}]});
    assert_eq!(param(json!({"tools": [function("f")], "tool_choice": choice})), "tool_choice");
    assert_eq!(param(json!({"text": {"format": {"type": "text", "grammar": "x"}}})), "text.format.grammar");
}
