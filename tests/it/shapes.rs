//! Shapes of answers and forced calls, in every dialect and on the command line. What comes back always fits.

use serde_json::{Value, json};
use tests::ctl::run;
use tests::house::House;
use tests::http::Http;

fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "name": { "type": "string", "maxLength": 10 },
            "level": { "type": "integer", "minimum": 1, "maximum": 9 },
            "kind": { "enum": ["cat", "dog"] },
        },
        "required": ["name", "level", "kind"],
    })
}

#[track_caller]
fn check_fits(value: &Value) {
    let object = value.as_object().unwrap_or_else(|| panic!("{value} is no object"));
    assert_eq!(object.len(), 3, "{value}");
    assert!(value["name"].as_str().is_some_and(|name| name.chars().count() <= 10), "{value}");
    assert!(value["level"].as_i64().is_some_and(|level| (1..=9).contains(&level)), "{value}");
    assert!(value["kind"] == "cat" || value["kind"] == "dog", "{value}");
}

fn parsed(text: &Value) -> Value {
    serde_json::from_str(text.as_str().unwrap()).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn chat(more: Value) -> Value {
    let mut body = json!({
        "model": "impetus-nano", "max_tokens": 200, "temperature": 1, "seed": 11,
        "messages": [{ "role": "user", "content": "Name my pet." }],
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

async fn whole(http: &Http, path: &str, body: Value) -> Value {
    let answer = http.post(path, &body).await;
    let status = answer.status;
    let answer = answer.json().await;
    assert_eq!(status, 200, "{answer}");
    answer
}

#[tokio::test]
async fn every_dialect_holds_an_answer_to_its_schema() {
    let mut house = House::start();
    let http = house.http().await;
    let format = json!({"type": "json_schema", "json_schema": {"name": "pet", "strict": true, "schema": schema()}});
    let answer = whole(&http, "/v1/chat/completions", chat(json!({"response_format": format, "n": 3}))).await;
    for choice in answer["choices"].as_array().unwrap() {
        assert_eq!(choice["finish_reason"], "stop");
        check_fits(&parsed(&choice["message"]["content"]));
    }
    let beside = json!({"type": "json_object", "schema": schema()});
    let answer = whole(&http, "/v1/chat/completions", chat(json!({ "response_format": beside }))).await;
    check_fits(&parsed(&answer["choices"][0]["message"]["content"]));
    let format = json!({"format": {"type": "json_schema", "schema": schema()}});
    let answer = whole(&http, "/v1/messages", chat(json!({"output_config": format, "seed": null}))).await;
    check_fits(&parsed(&answer["content"][0]["text"]));
    let asked = json!({
        "model": "impetus-nano", "stream": false, "format": schema(), "options": {"seed": 4, "temperature": 1},
        "messages": [{ "role": "user", "content": "Name my pet." }],
    });
    check_fits(&parsed(&whole(&http, "/api/chat", asked).await["message"]["content"]));
    let asked = json!({"model": "impetus-nano", "prompt": "Hi", "max_tokens": 20,
                       "structured_outputs": {"choice": ["left", "right"]}});
    let answer = whole(&http, "/v1/completions", asked).await;
    assert!(["left", "right"].contains(&answer["choices"][0]["text"].as_str().unwrap()), "{answer}");
}

#[tokio::test]
async fn a_call_that_is_asked_for_comes_and_fits() {
    let mut house = House::start();
    let http = house.http().await;
    let function = |name: &str| json!({"type": "function", "function": {"name": name, "parameters": schema()}});
    let tools = json!([function("feed"), function("pet")]);
    let named = json!({"type": "function", "function": {"name": "pet"}});
    let answer = whole(&http, "/v1/chat/completions", chat(json!({"tools": tools, "tool_choice": named}))).await;
    let calls = answer["choices"][0]["message"]["tool_calls"].as_array().unwrap();
    assert_eq!((calls.len(), &calls[0]["function"]["name"]), (1, &json!("pet")));
    check_fits(&parsed(&calls[0]["function"]["arguments"]));
    assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls");
    let tool = |name: &str| json!({"name": name, "input_schema": schema()});
    let asked = json!({
        "tools": [tool("feed"), tool("pet")], "tool_choice": {"type": "any", "disable_parallel_tool_use": true},
        "seed": null,
    });
    let answer = whole(&http, "/v1/messages", chat(asked)).await;
    assert_eq!(answer["stop_reason"], "tool_use", "{answer}");
    let content = answer["content"].as_array().unwrap();
    assert_eq!((content.len(), &content[0]["type"]), (1, &json!("tool_use")), "{answer}");
    check_fits(&content[0]["input"]);
}

#[tokio::test]
async fn a_function_without_parameters_is_called_with_none() {
    let mut house = House::start();
    let http = house.http().await;
    for function in [json!({"name": "now"}), json!({"name": "now", "parameters": {}})] {
        let tools = json!([{"type": "function", "function": function}]);
        let asked = chat(json!({"tools": tools, "tool_choice": "required", "parallel_tool_calls": false}));
        let answer = whole(&http, "/v1/chat/completions", asked).await;
        let called = &answer["choices"][0]["message"]["tool_calls"][0]["function"];
        assert_eq!(parsed(&called["arguments"]), json!({}), "{function}");
    }
    let tool = json!({"type": "function", "name": "now", "parameters": null, "strict": null});
    let asked = json!({"model": "impetus-nano", "input": "What time is it?", "tools": [tool], "tool_choice": "required",
                       "parallel_tool_calls": false, "temperature": 1, "max_output_tokens": 200});
    let answer = whole(&http, "/v1/responses", asked).await;
    let called = answer["output"].as_array().unwrap().iter().find(|item| item["type"] == "function_call").unwrap();
    assert_eq!(parsed(&called["arguments"]), json!({}));
}

#[test]
fn the_command_line_takes_a_schema_from_a_file() {
    let house = House::start();
    let file = house.home().join("pet.json");
    std::fs::write(&file, schema().to_string()).unwrap();
    let said = run(&house, &["run", "--seed", "1", "--schema", file.to_str().unwrap(), "Name my pet."]);
    assert_eq!(said.code, 0, "{said:?}");
    check_fits(&said.json());
    std::fs::write(&file, "{\"type\": \"array\", \"contains\": {}}").unwrap();
    let refused = run(&house, &["run", "--schema", file.to_str().unwrap(), "Name my pet."]);
    assert!(refused.code != 0 && refused.err.contains("'contains'"), "{refused:?}");
    let missing = run(&house, &["run", "--schema", "/nowhere/pet.json", "Name my pet."]);
    assert!(missing.code != 0 && missing.err.contains("/nowhere/pet.json"), "{missing:?}");
}
