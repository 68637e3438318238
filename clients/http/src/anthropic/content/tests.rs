//! How blocks become turns.

use serde_json::json;

use super::*;

fn read(system: Value, messages: Value) -> Result<Vec<Message>, Error> {
    conversation(serde_json::from_value(system).unwrap(), serde_json::from_value(messages).unwrap())
}

#[test]
fn leading_instructions_become_one_turn_and_later_ones_stay_where_they_are() {
    let messages = json!([
        {"role": "system", "content": [{"type": "text", "text": "b"}, {"type": "text", "text": "c"}]},
        {"role": "user", "content": "hello"},
        {"role": "system", "content": "d"},
        {"role": "user", "content": "more"},
    ]);
    let turns = read(json!("a"), messages).unwrap();
    let shown: Vec<_> = turns.iter().map(|turn| (turn.role, turn.content.as_str())).collect();
    let expected = [(Role::System, "a\n\nb\n\nc"), (Role::User, "hello"), (Role::System, "d"), (Role::User, "more")];
    assert_eq!(shown, expected);
}

#[test]
fn an_account_alone_makes_no_turn() {
    let account = json!([{"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1.100.7b4; cch=eb6c6;"}]);
    let turns = read(account, json!([{"role": "user", "content": "hello"}])).unwrap();
    assert_eq!(turns.iter().map(|turn| turn.role).collect::<Vec<_>>(), [Role::User]);
}

#[test]
fn calls_thoughts_and_results_become_turns_in_order() {
    let messages = json!([
        {"role": "user", "content": "weather?"},
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "", "signature": thoughts::sign("hm")},
            {"type": "text", "text": "Looking."},
            {"type": "tool_use", "id": "t1", "name": "look", "input": {"city": "Kyiv"}},
            {"type": "tool_use", "id": "t2", "name": "ask", "input": {}},
        ]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "sun"}]},
            {"type": "tool_result", "tool_use_id": "t2", "content": "gone", "is_error": true},
            {"type": "text", "text": "And?", "cache_control": {"type": "ephemeral"}},
        ]},
    ]);
    let turns = read(Value::Null, messages).unwrap();
    assert_eq!(turns.len(), 5);
    assert_eq!((turns[1].content.as_str(), turns[1].reasoning.as_deref()), ("Looking.", Some("hm")));
    assert_eq!(turns[1].tool_calls[0].arguments.0, r#"{"city":"Kyiv"}"#);
    let result = |at: usize| {
        let turn: &Message = &turns[at];
        (turn.role, turn.content.as_str(), turn.tool_call_id.as_deref(), turn.name.as_deref())
    };
    assert_eq!(result(2), (Role::Tool, "sun", Some("t1"), Some("look")));
    assert_eq!(result(3), (Role::Tool, "Error: gone", Some("t2"), Some("ask")));
    assert_eq!((turns[4].role, turns[4].content.as_str()), (Role::User, "And?"));
}

#[test]
fn what_only_another_server_can_read_of_its_answer_is_left_out() {
    let said = json!([
        {"type": "redacted_thinking", "data": "x"},
        {"type": "text", "text": "I look."},
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "Kyiv"}},
        {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [
            {"type": "web_search_result", "url": "https://a.example", "title": "A", "encrypted_content": "x"}
        ]},
        {"type": "text", "text": "It is sunny.", "citations": []},
    ]);
    let history = |said: &Value| {
        read(Value::Null, json!([{"role": "user", "content": "weather?"}, {"role": "assistant", "content": said}]))
    };
    let turns = history(&said).unwrap();
    assert_eq!(turns[1..], [Message::new(Role::Assistant, "I look.\n\nIt is sunny.")]);
    for (at, wrong) in [
        (0, json!({"type": "redacted_thinking"})),
        (0, json!({"type": "redacted_thinking", "data": "x", "colour": 1})),
        (2, json!({"type": "server_tool_use", "id": 1, "name": "web_search", "input": {}})),
        (3, json!({"type": "web_search_tool_result", "content": []})),
        (3, json!({"type": "code_execution_tool_result", "tool_use_id": "srvtoolu_1", "content": {}})),
    ] {
        let mut said = said.clone();
        said[at] = wrong;
        let param = history(&said).unwrap_err().param.unwrap_or_default();
        assert!(param.starts_with(&format!("messages[1].content[{at}]")), "{param}");
    }
}

#[test]
fn what_cannot_be_read_is_named_with_its_place() {
    let cases = [
        (json!([{"type": "image", "source": {}}]), "messages[0].content[0]"),
        (json!([{"type": "text"}]), "messages[0].content[0]"),
        (json!([{"type": "text", "text": 1}]), "messages[0].content[0].text"),
        (json!([{"text": "x"}]), "messages[0].content[0].type"),
        (json!([{"type": "tool_result", "tool_use_id": "t9"}]), "messages[0].content[0].tool_use_id"),
        (json!([]), "messages[0].content"),
        (json!([{"type": "text", "text": "x", "colour": 1}]), "messages[0].content[0].colour"),
        (
            json!([{"type": "text", "text": "x", "cache_control": {"type": "x"}}]),
            "messages[0].content[0].cache_control.type",
        ),
        (
            json!([{"type": "document", "source": {"type": "text", "data": "x", "colour": 1}}]),
            "messages[0].content[0].source.colour",
        ),
        (
            json!([{"type": "document", "source": {"type": "text", "data": "x"}, "citations": {"enabled": true}}]),
            "messages[0].content[0].citations",
        ),
    ];
    for (content, param) in cases {
        let error = read(Value::Null, json!([{"role": "user", "content": content}])).unwrap_err();
        assert_eq!(error.param.as_deref(), Some(param), "{}", error.message);
    }
    let begun = json!([{"role": "user", "content": "x"}, {"role": "assistant", "content": "y\n"}]);
    assert_eq!(read(Value::Null, begun).unwrap_err().kind, protocol::ErrorKind::Invalid);
    assert_eq!(read(Value::Null, json!([])).unwrap_err().param.as_deref(), Some("messages"));
}
