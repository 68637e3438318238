//! Requests into the house's words.

use protocol::transcript::Event;

use super::*;
use crate::answer::Answer;

fn read(more: Value) -> Result<GenerateRequest, Error> {
    let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "Hi"}]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let members = Members::read(&Bytes::from(body.to_string()), &[SHARED, OWN])?;
    request(members.part()?, members.part()?)
}

fn conversation(more: Value) -> Chat {
    match read(more).unwrap().prompt {
        Prompt::Chat(chat) => chat,
        other => panic!("{other:?}"),
    }
}

fn param(more: Value) -> String {
    read(more).unwrap_err().param.unwrap_or_default()
}

#[test]
fn a_developer_is_the_system_and_parts_join() {
    let chat = conversation(json!({"messages": [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
    ]}));
    assert_eq!(chat.messages[0].role, Role::System);
    assert_eq!(chat.messages[1].content, "ab");
}

#[test]
fn an_agents_account_is_no_part_of_its_instructions() {
    let account = "x-anthropic-billing-header: cc_version=2.1.100.7b4; cc_entrypoint=cli; cch=eb6c6;\nBe brief.";
    let chat = conversation(json!({"messages": [
        {"role": "system", "content": account},
        {"role": "user", "content": account},
    ]}));
    assert_eq!((chat.messages[0].content.as_str(), chat.messages[1].content.as_str()), ("Be brief.", account));
}

#[test]
fn an_answer_may_be_sent_back_as_it_came() {
    let call = json!({"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}});
    let chat = conversation(json!({"messages": [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": null, "refusal": null, "annotations": [], "audio": null, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "done"},
    ]}));
    assert_eq!(chat.messages[1].tool_calls[0].name, "f");
    assert_eq!(chat.messages[2].tool_call_id.as_deref(), Some("call_1"));
    let called = |arguments: &str| {
        let call = json!({"id": "c", "function": {"name": "f", "arguments": arguments}});
        json!({"messages": [{"role": "assistant", "tool_calls": [call]}]})
    };
    assert_eq!(conversation(called("")).messages[0].tool_calls[0].arguments.0, "{}");
    assert_eq!(param(called("{")), "messages[0].tool_calls[0].function.arguments");
}

#[test]
fn a_result_answers_a_call_before_it() {
    let call =
        |id: &str| json!({"role": "assistant", "tool_calls": [{"id": id, "function": {"name": "f", "arguments": ""}}]});
    let result = |id: Value| json!({"role": "tool", "tool_call_id": id, "content": "sun"});
    let asked = || json!({"role": "user", "content": "weather?"});
    let answered = json!([asked(), call("a"), call("b"), result(json!("b")), asked(), result(json!("a"))]);
    assert_eq!(conversation(json!({ "messages": answered })).messages.len(), 6);
    for (messages, at) in [
        (json!([asked(), call("a"), result(json!("b"))]), "messages[2].tool_call_id"),
        (json!([asked(), call("a"), result(Value::Null)]), "messages[2].tool_call_id"),
        (json!([asked(), result(json!("a")), call("a")]), "messages[1].tool_call_id"),
    ] {
        assert_eq!(check_messages(messages.as_array().unwrap()).unwrap_err().param.as_deref(), Some(at));
        assert_eq!(param(json!({ "messages": messages })), at);
    }
}

#[test]
fn an_editors_history_comes_back_with_its_labels_and_its_thoughts_by_both_names() {
    let turn = |thoughts: Value| {
        let mut turn = json!({
            "role": "assistant", "content": "Yes.", "cot_id": "t1", "cot_summary": "Hm.",
            "copilot_cache_control": {"type": "ephemeral"}
        });
        turn.as_object_mut().unwrap().extend(thoughts.as_object().unwrap().clone());
        json!({"messages": [turn, {"role": "user", "content": "Sure?"}]})
    };
    for thoughts in [
        json!({"reasoning": "Hm."}),
        json!({"reasoning_content": "Hm."}),
        json!({"reasoning": "Hm.", "reasoning_content": "Hm."}),
    ] {
        assert_eq!(conversation(turn(thoughts)).messages[0].reasoning.as_deref(), Some("Hm."));
    }
    assert_eq!(param(turn(json!({"reasoning": "a", "reasoning_content": "b"}))), "messages[0].reasoning");
}

#[test]
fn members_that_nobody_reads_are_refused_wherever_they_stand() {
    let function = json!({"name": "f", "arguments": "{}"});
    let body = json!({
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}]},
            {"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "index": 0, "function": function}]},
            {"role": "tool", "tool_call_id": "c", "content": "done"},
        ],
        "tools": [{"type": "function", "function": {"name": "f", "strict": null}, "colour": null}],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "stream": true, "stream_options": {"include_usage": true},
    });
    read(body.clone()).unwrap();
    for at in [
        "/messages/0",
        "/messages/0/content/0",
        "/messages/1/tool_calls/0",
        "/messages/1/tool_calls/0/function",
        "/tools/0",
        "/tools/0/function",
        "/tool_choice",
        "/tool_choice/function",
        "/stream_options",
    ] {
        let mut body = body.clone();
        body.pointer_mut(at).unwrap()["colour"] = json!("red");
        let error = read(body).unwrap_err();
        assert_eq!(error.kind, protocol::ErrorKind::Unsupported, "{at}: {}", error.message);
        assert!(error.param.is_some_and(|param| param.ends_with(".colour")), "{at}");
    }
}

#[test]
fn an_array_is_no_object() {
    let call = json!({"id": "c", "function": ["f", "{}"]});
    let part = json!({"role": "user", "content": [["text", "x"]]});
    assert_eq!(param(json!({"messages": [["user", "x"]]})), "messages[0]");
    assert_eq!(
        param(json!({"messages": [{"role": "assistant", "tool_calls": [call]}]})),
        "messages[0].tool_calls[0].function"
    );
    assert_eq!(param(json!({ "messages": [part] })), "messages[0].content");
    assert_eq!(param(json!({"messages": [{"role": "user", "content": [{"text": "x"}]}]})), "messages[0].content[0]");
    assert_eq!(param(json!({"tools": [["function", ["f", "does", {}, true]]]})), "tools[0]");
    let tools = json!([{"type": "function", "function": {"name": "f"}}]);
    assert_eq!(param(json!({"tools": tools.clone(), "tool_choice": ["f"]})), "tool_choice");
    assert_eq!(param(json!({"tools": tools, "tool_choice": {"function": ["f"]}})), "tool_choice.function");
    assert_eq!(param(json!({"stream": true, "stream_options": [true, null]})), "stream_options");
}

#[test]
fn refusals_name_the_member_at_fault() {
    let message = |message: Value| param(json!({ "messages": [message] }));
    assert_eq!(message(json!({"role": "king", "content": "x"})), "messages[0].role");
    assert_eq!(message(json!({"role": "user"})), "messages[0].content");
    assert_eq!(message(json!({"role": "user", "content": "x", "audio": {"id": "a"}})), "messages[0].audio");
    let image = json!([{"type": "text", "text": "x"}, {"type": "image_url", "image_url": {"url": "data:,"}}]);
    assert_eq!(message(json!({"role": "user", "content": image})), "messages[0].content[1]");
    assert_eq!(param(json!({"top_logprobs": 1})), "top_logprobs");
    assert_eq!(param(json!({"logprobs": true, "top_logprobs": 21})), "top_logprobs");
    assert_eq!(param(json!({"tool_choice": "required"})), "tool_choice");
    assert_eq!(param(json!({"logit_bias": {"word": 1}})), "logit_bias");
    assert_eq!(param(json!({"functions": []})), "functions");
    assert_eq!(param(json!({"response_format": {"type": "xml"}})), "response_format.type");
    assert_eq!(param(json!({"service_tier": "flex"})), "service_tier");
}

#[test]
fn a_limit_has_two_names_and_seeds_may_be_negative() {
    assert_eq!(param(json!({"max_tokens": 5, "max_completion_tokens": 7})), "max_tokens");
    let request = read(json!({"max_completion_tokens": 7, "seed": -2, "stop": "x"})).unwrap();
    assert_eq!(request.stop.max_tokens, Some(7));
    assert_eq!(request.sampling.seed, Some(u64::MAX - 1));
    assert_eq!(request.stop.strings, ["x"]);
}

#[test]
fn a_named_tool_must_be_among_the_tools() {
    let tool = json!({"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}});
    let choose = |name: &str| json!({"tools": [tool], "tool_choice": {"type": "function", "function": {"name": name}}});
    assert_eq!(conversation(choose("f")).tool_choice, g::ToolChoice::Named("f".into()));
    assert_eq!(param(choose("g")), "tool_choice");
}

#[test]
fn a_choice_may_allow_some_of_the_tools() {
    let tool = |name: &str| json!({"type": "function", "function": {"name": name}});
    let allow = |mode: &str, name: &str| {
        let allowed = json!({"mode": mode, "tools": [tool(name)]});
        json!({"tools": [tool("f"), tool("g")], "tool_choice": {"type": "allowed_tools", "allowed_tools": allowed}})
    };
    let chat = conversation(allow("required", "g"));
    assert_eq!(chat.tools.iter().map(|tool| tool.name.as_str()).collect::<Vec<_>>(), ["g"]);
    assert_eq!(chat.tool_choice, g::ToolChoice::Required);
    assert_eq!(conversation(allow("auto", "f")).tool_choice, g::ToolChoice::Auto);
    assert_eq!(param(allow("auto", "h")), "tool_choice");
    assert_eq!(
        param(json!({"tools": [tool("f")], "tool_choice": {"type": "custom", "function": {"name": "f"}}})),
        "tool_choice"
    );
}

#[test]
fn shapes_and_the_ways_of_calls_are_passed_on() {
    let tool = json!({"type": "function", "function": {"name": "f", "strict": true}});
    let more = json!({"tools": [tool], "parallel_tool_calls": false, "response_format": {"type": "json_object"}});
    let request = read(more.clone()).unwrap();
    assert_eq!(request.constraint, Some(g::Constraint::JsonObject));
    let chat = conversation(more);
    assert!(chat.single_tool_call && chat.tools[0].strict);
    assert!(!conversation(json!({"tools": [tool]})).single_tool_call);
    assert!(!conversation(json!({"parallel_tool_calls": false})).single_tool_call, "nothing to limit");
}

#[test]
fn efforts_become_budgets_and_words() {
    let chat = |effort: &str| conversation(json!({ "reasoning_effort": effort }));
    assert_eq!((chat("none").thinking, chat("none").thinking_budget), (Some(false), None));
    assert_eq!((chat("low").thinking, chat("low").thinking_budget), (None, Some(2048)));
    assert_eq!(chat("medium").template_arguments.unwrap().0, r#"{"reasoning_effort":"medium"}"#);
    assert_eq!(chat("high").thinking_budget, None);
    assert_eq!(conversation(json!({"thinking_budget_tokens": 7})).thinking_budget, Some(7));
    assert_eq!(param(json!({"reasoning_effort": "some"})), "reasoning_effort");
    let within = |effort: &str| json!({"reasoning": {"effort": effort}});
    assert_eq!(conversation(within("low")).thinking_budget, Some(2048));
    assert_eq!(conversation(within("none")).thinking, Some(false));
    let mut both = within("low");
    both["reasoning_effort"] = json!("high");
    assert_eq!(param(both), "reasoning.effort");
    assert_eq!(param(json!({"reasoning": {"max_tokens": 5}})), "reasoning.max_tokens");
}

#[test]
fn a_budget_of_reasoning_has_vllms_name_too() {
    assert_eq!(conversation(json!({"thinking_token_budget": 7})).thinking_budget, Some(7));
    assert_eq!(param(json!({"thinking_token_budget": -1})), "thinking_token_budget");
}

#[test]
fn reasoning_has_two_names_and_may_be_left_out_with_what_is_said_of_its_tokens() {
    let entry = || g::TokenLogprob { token: 1, bytes: b"Hm".to_vec(), logprob: -1.0, top: Vec::new() };
    let thought = || g::Delta { reasoning: "Hm".into(), tokens: 1, logprobs: vec![entry()], ..g::Delta::default() };
    let text = || g::Delta { text: "Hi".into(), tokens: 1, logprobs: vec![entry()], ..g::Delta::default() };
    let events = || futures::stream::iter([thought(), text()].map(|delta| Ok(Event::Delta(delta))));
    let whole = |answer: Answer| {
        let choice = answer.choices.into_iter().next().unwrap();
        let counted = choice.logprobs.len();
        (json!(message_body(choice)), counted)
    };
    let gathered = |events: Vec<Result<Event, Error>>| {
        let mut answer = Answer::of(1);
        events.into_iter().for_each(|event| answer.absorb(event.unwrap()));
        answer
    };
    let (shown, counted) = whole(gathered(futures::executor::block_on(events().collect())));
    assert_eq!((&shown["reasoning"], &shown["reasoning_content"], counted), (&json!("Hm"), &json!("Hm"), 2));
    let (left, counted) = whole(gathered(futures::executor::block_on(without_reasoning(events()).collect())));
    assert_eq!((left.get("reasoning"), left.get("reasoning_content"), &left["content"]), (None, None, &json!("Hi")));
    assert_eq!(counted, 1);
}
