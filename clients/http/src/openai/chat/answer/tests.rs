//! Answers out of the house's words.

use protocol::generation::FinishReason;
use serde_json::json;

use super::*;

#[test]
fn a_whole_call_has_no_index_and_no_content() {
    let call = ToolCallDelta { index: 0, id: Some("call_1".into()), name: Some("f".into()), arguments: "{}".into() };
    let choice = Choice { tool_calls: vec![call], reason: Some(FinishReason::ToolCalls), ..Choice::default() };
    let expected = json!({
        "index": 0,
        "message": {
            "role": "assistant",
            "content": null,
            "refusal": null,
            "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        },
        "logprobs": null,
        "finish_reason": "tool_calls",
    });
    assert_eq!(serde_json::to_value(whole(0, choice, false)).unwrap(), expected);
}

#[test]
fn a_stream_opens_with_the_role_and_names_a_call_once() {
    let mut shape = ChatShape { choices: 2, with_logprobs: false };
    let opening = serde_json::to_value(shape.opening()).unwrap();
    assert_eq!(opening[1]["index"], 1);
    assert_eq!(opening[0]["delta"], json!({"role": "assistant", "content": null}));
    let mut delta = |id: Option<&str>, arguments: &str| {
        let id = id.map(str::to_owned);
        let call = ToolCallDelta { index: 0, name: id.clone(), id, arguments: arguments.into() };
        let choice = shape.more(Delta { tool_calls: vec![call], ..Delta::default() });
        serde_json::to_value(choice).unwrap()[0]["delta"]["tool_calls"][0].clone()
    };
    let first = json!({"index": 0, "id": "f", "type": "function", "function": {"name": "f", "arguments": ""}});
    assert_eq!(delta(Some("f"), ""), first);
    assert_eq!(delta(None, "{}"), json!({"index": 0, "function": {"arguments": "{}"}}));
    assert!(shape.more(Delta::default()).is_empty());
}
