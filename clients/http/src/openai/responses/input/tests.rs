//! Items become the turns that a template would have been given.

use super::*;

fn turns(input: Value) -> Result<Vec<Message>> {
    let mut turns = Turns::new(Some("Be brief."));
    for (at, item) in complete(input)?.into_iter().enumerate() {
        turns.read(&format!("input[{at}]"), item)?;
    }
    Ok(turns.end())
}

fn param(input: Value) -> String {
    turns(input).unwrap_err().param.unwrap_or_default()
}

#[test]
fn text_is_a_question_and_instructions_stand_together() {
    let plain = turns(json!("Hi")).unwrap();
    assert_eq!(plain, [Message::new(Role::System, "Be brief."), Message::new(Role::User, "Hi")]);
    let developer = json!([
        {"role": "developer", "content": "Use tools."},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]},
    ]);
    let told = turns(developer).unwrap();
    assert_eq!(told, [Message::new(Role::System, "Be brief.\n\nUse tools."), Message::new(Role::User, "ab")]);
}

#[test]
fn what_an_assistant_did_in_one_go_is_one_turn() {
    let read = turns(json!([
        {"role": "user", "content": "weather?"},
        {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "A tool knows."}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Let me look."}]},
        {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"},
        {"type": "function_call", "call_id": "c2", "namespace": "mcp__desk", "name": "ask", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c2", "output": "no"},
        {"type": "function_call_output", "call_id": "c1", "output": [{"type": "input_text", "text": "sun"}]},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Sunny."}]},
        {"role": "assistant", "content": "It is sunny."},
    ]))
    .unwrap();
    let roles: Vec<Role> = read[1..].iter().map(|turn| turn.role).collect();
    assert_eq!(roles, [Role::User, Role::Assistant, Role::Tool, Role::Tool, Role::Assistant]);
    assert_eq!((read[2].content.as_str(), read[2].reasoning.as_deref()), ("Let me look.", Some("A tool knows.")));
    assert_eq!(read[2].tool_calls.len(), 2);
    assert_eq!((read[3].name.as_deref(), read[4].content.as_str()), (Some("mcp__desk__ask"), "sun"));
    assert_eq!((read[5].reasoning.as_deref(), read[5].content.as_str()), (Some("Sunny."), "It is sunny."));
}

#[test]
fn thoughts_of_which_nothing_else_is_left_are_read_from_where_they_are_held() {
    let thought = |more: Value| {
        let mut item = json!({"type": "reasoning", "summary": [], "encrypted_content": thoughts::sign("Hm.")});
        item.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        turns(json!([item, {"role": "assistant", "content": "Yes."}])).unwrap()[1].reasoning.clone()
    };
    assert_eq!(thought(json!({})).as_deref(), Some("Hm."));
    assert_eq!(thought(json!({"content": []})).as_deref(), Some("Hm."));
    let shown = json!({"summary": [{"type": "summary_text", "text": "Shown."}]});
    assert_eq!(thought(shown).as_deref(), Some("Shown."), "it is said once");
    assert_eq!(thought(json!({"encrypted_content": "gAAAAAB"})), None, "another server's");
}

#[test]
fn a_refusal_is_what_the_assistant_said() {
    let parts = json!([{"type": "output_text", "text": "Well: "}, {"type": "refusal", "refusal": "No."}]);
    let read = turns(json!([{"role": "assistant", "content": parts}])).unwrap();
    assert_eq!(read[1], Message::new(Role::Assistant, "Well: No."));
}

#[test]
fn a_search_of_another_server_is_left_out_of_what_its_assistant_did() {
    let search = |more: Value| {
        let mut item = json!({"type": "web_search_call", "id": "ws_1", "status": "completed"});
        item.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let said = json!({"role": "assistant", "content": [{"type": "output_text", "text": "Sunny."}]});
        turns(json!([{"role": "user", "content": "weather?"}, item, said]))
    };
    let read = search(json!({"action": {"type": "search", "query": "Kyiv"}})).unwrap();
    assert_eq!(read[1..], [Message::new(Role::User, "weather?"), Message::new(Role::Assistant, "Sunny.")]);
    assert_eq!(search(json!({"action": "search"})).unwrap_err().param.as_deref(), Some("input[1].action"));
    assert_eq!(search(json!({"colour": 1})).unwrap_err().param.as_deref(), Some("input[1].colour"));
}

#[test]
fn items_get_what_they_lack_and_keep_what_they_have() {
    let items =
        complete(json!([{"id": "msg_mine", "role": "user", "content": "Hi"}, {"type": "function_call_output"}]));
    let items = items.unwrap();
    assert_eq!(items[0]["id"], "msg_mine");
    assert_eq!(items[0]["content"], json!([{"type": "input_text", "text": "Hi"}]));
    assert!(items[1]["id"].as_str().unwrap().starts_with("fco_"));
    assert_eq!(items[1]["status"], "completed");
}

#[test]
fn what_cannot_be_read_is_refused_by_its_place() {
    assert_eq!(param(json!(5)), "input");
    assert_eq!(param(json!([5])), "input[0]");
    assert_eq!(param(json!([{"text": "x"}])), "input[0].type");
    assert_eq!(param(json!([{"type": "item_reference", "id": "msg_1"}])), "input[0]");
    assert_eq!(param(json!([{"role": "king", "content": "x"}])), "input[0].role");
    let image = json!([{"role": "user", "content": [{"type": "input_image", "image_url": "data:,"}]}]);
    assert_eq!(param(image), "input[0].content[0]");
    assert_eq!(param(json!([{"role": "user", "content": "x", "colour": 1}])), "input[0].colour");
    assert_eq!(param(json!([{"role": "user", "content": "x", "status": 1}])), "input[0].status");
    let part = json!([{"role": "user", "content": [{"type": "input_text", "text": "x", "colour": 1}]}]);
    assert_eq!(param(part), "input[0].content[0].colour");
    let call =
        |arguments: &str| json!([{"type": "function_call", "call_id": "c", "name": "f", "arguments": arguments}]);
    assert_eq!(param(call("{")), "input[0].arguments");
    assert_eq!(turns(call("")).unwrap()[1].tool_calls[0].arguments.0, "{}");
    let lost = json!([{"type": "function_call_output", "call_id": "c9", "output": "x"}]);
    assert_eq!(param(lost), "input[0].call_id");
}
