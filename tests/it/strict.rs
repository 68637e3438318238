//! Members that change no answer are judged all the same, and what cannot be honoured is refused by name, at every endpoint.

use serde_json::{Value, json};
use tests::house::House;

const CHAT: &str = "/v1/chat/completions";
const TEXT: &str = "/v1/completions";
const RESPONSES: &str = "/v1/responses";
const EMBEDDINGS: &str = "/v1/embeddings";
const MESSAGES: &str = "/v1/messages";
const COUNT: &str = "/v1/messages/count_tokens";

fn body(path: &str, more: &Value) -> Value {
    let messages = json!([{"role": "user", "content": "Hi"}]);
    let mut body = match path {
        CHAT | MESSAGES => json!({"model": "impetus-nano", "messages": messages, "max_tokens": 1}),
        COUNT => json!({"model": "impetus-nano", "messages": messages}),
        TEXT => json!({"model": "impetus-nano", "prompt": "Hi", "max_tokens": 1}),
        RESPONSES => json!({"model": "impetus-nano", "input": "Hi", "max_output_tokens": 1}),
        _ => json!({"model": "impetus-nano-embed", "input": "Hi"}),
    };
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// Wishes that are refused, and the name under which they are.
type Refused = Vec<(Value, &'static str)>;

/// Of each endpoint what is fine, and what is not.
fn cases() -> Vec<(&'static str, Value, Refused)> {
    let labels = json!({"user": "u", "safety_identifier": "s", "prompt_cache_key": "k", "metadata": {"a": "b"}});
    let wrong = [
        (json!({"user": 1}), "user"),
        (json!({"safety_identifier": {}}), "safety_identifier"),
        (json!({"prompt_cache_key": true}), "prompt_cache_key"),
        (json!({"prompt_cache_retention": "for ever"}), "prompt_cache_retention"),
        (json!({"metadata": {"a": 1}}), "metadata"),
        (json!({"service_tier": "flex"}), "service_tier"),
    ];
    let with = |more: &[(Value, &'static str)]| wrong.iter().chain(more).cloned().collect();
    vec![
        (
            CHAT,
            labels.clone(),
            with(&[
                (json!({"max_completion_tokens": 2}), "max_tokens"),
                (json!({"max_tokens": null, "max_completion_tokens": 0}), "max_completion_tokens"),
                (json!({"response_format": {"type": "text", "grammar": "x"}}), "response_format.grammar"),
                (json!({"response_format": {"type": "json_object", "schema": 1}}), "response_format.schema"),
                (json!({"store": "yes"}), "store"),
            ]),
        ),
        (TEXT, labels.clone(), with(&[])),
        (
            RESPONSES,
            labels,
            with(&[
                (json!({"client_metadata": "x"}), "client_metadata"),
                (json!({"tools": [{"name": "f"}]}), "tools[0].type"),
                (json!({"max_output_tokens": 0}), "max_output_tokens"),
                (json!({"text": {"format": {"type": "text", "grammar": "x"}}}), "text.format.grammar"),
            ]),
        ),
        (EMBEDDINGS, json!({"user": "u"}), vec![(json!({"user": 1}), "user"), (json!({"metadata": {}}), "metadata")]),
        (
            MESSAGES,
            json!({"metadata": {"user_id": "u"}, "service_tier": "standard_only", "cache_control": {"type": "ephemeral"}}),
            vec![
                (json!({"metadata": {"user_id": 1}}), "metadata.user_id"),
                (json!({"metadata": []}), "metadata"),
                (json!({"service_tier": "priority"}), "service_tier"),
                (json!({"cache_control": true}), "cache_control"),
                (json!({"thinking": {"type": "adaptive", "display": "sung"}}), "thinking.display"),
                (json!({"tool_choice": {"type": "auto", "why": 1}}), "why"),
                (json!({"messages": [{"role": "user", "content": "Hi", "id": 1}]}), "messages[0]"),
            ],
        ),
        (COUNT, json!({"cache_control": {"type": "ephemeral"}}), vec![(json!({"cache_control": 1}), "cache_control")]),
    ]
}

#[tokio::test]
async fn labels_are_judged_by_their_type_and_wishes_without_effect_refused() {
    let mut house = House::start();
    let http = house.http().await;
    for (path, fine, wrong) in cases() {
        let answer = http.post(path, &body(path, &fine)).await;
        let (status, text) = (answer.status, answer.text().await);
        assert_eq!(status, 200, "{path}: {text}");
        for (more, param) in wrong {
            let refused = http.post(path, &body(path, &more)).await;
            let status = refused.status;
            let error = refused.json().await["error"].clone();
            assert_eq!(status, 400, "{path} {more}: {error}");
            if path.starts_with(MESSAGES) {
                assert!(error["message"].as_str().unwrap().contains(param), "{path} {more}: {error}");
            } else {
                assert_eq!(error["param"], param, "{path} {more}: {error}");
            }
        }
    }
    let message = http.post(RESPONSES, &body(RESPONSES, &json!({"max_output_tokens": 0}))).await.json().await;
    assert_eq!(message["error"]["message"], "max_output_tokens is 0; it must be at least 1");
}
