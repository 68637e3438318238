//! The order of events for a whole response, and that what is streamed is what is kept.

use protocol::ErrorKind;
use protocol::generation::Usage;

use super::*;
use crate::openai::responses::object::Response;

fn builder(reasoning: Value) -> Builder {
    asked(json!({ "reasoning": reasoning }))
}

fn asked(asked: Value) -> Builder {
    let asked = serde_json::from_value(asked).unwrap();
    let response = Response {
        id: "resp_1".into(),
        object: "response",
        created_at: 1,
        completed_at: None,
        status: Status::Queued,
        background: false,
        error: None,
        incomplete_details: None,
        model: String::new(),
        output: Vec::new(),
        usage: None,
        holds_thoughts: false,
        asked,
    };
    Builder::new(response, "m".into(), true)
}

fn events(frames: &[Bytes]) -> Vec<Value> {
    let text = String::from_utf8(frames.concat()).unwrap();
    let read = |frame: &str| {
        let (name, data) = frame.split_once("\ndata: ").unwrap();
        let value: Value = serde_json::from_str(data).unwrap();
        assert_eq!(name.strip_prefix("event: "), value["type"].as_str());
        value
    };
    text.split("\n\n").filter(|frame| !frame.is_empty()).map(read).collect()
}

fn call(index: u16, id: Option<&str>, arguments: &str) -> Event {
    let (id, name) = (id.map(str::to_owned), id.map(|_| "look".to_owned()));
    let call = ToolCallDelta { index, id, name, arguments: arguments.to_owned() };
    Event::Delta(Delta { tool_calls: vec![call], ..Delta::default() })
}

fn finished(reason: FinishReason) -> [Event; 2] {
    let usage = Usage { prompt_tokens: 9, cached_tokens: 4, completion_tokens: 7, reasoning_tokens: 1 };
    let choice = ChoiceFinished { choice: 0, reason, stop_string: None };
    [Event::ChoiceFinished(choice), Event::Finished(Finished { usage, ..Finished::default() })]
}

fn write(mut builder: Builder, given: Vec<Event>) -> (Vec<Value>, Value) {
    let mut frames = vec![builder.opening()];
    for event in given {
        frames.push(match event {
            Event::Finished(end) => builder.finished(end),
            event => builder.event(event),
        });
    }
    let kept = builder.outcome().take().unwrap();
    (events(&frames), serde_json::to_value(kept).unwrap())
}

fn names(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().unwrap().trim_start_matches("response.")).collect()
}

#[test]
fn every_item_is_added_filled_and_done_before_the_next() {
    let mut given = vec![
        Event::Delta(Delta { reasoning: "hm".into(), text: "Yes".into(), ..Delta::default() }),
        Event::Delta(Delta { text: ".".into(), ..Delta::default() }),
        call(0, Some("a"), "{"),
        call(0, None, "}"),
    ];
    given.extend(finished(FinishReason::ToolCalls));
    let (events, kept) = write(builder(Value::Null), given);
    let expected = [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "reasoning_text.delta",
        "reasoning_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ];
    assert_eq!(names(&events), expected);
    assert!(events.iter().enumerate().all(|(at, event)| event["sequence_number"] == at));
    assert_eq!(events.last().unwrap()["response"], kept);
    assert_eq!(kept["output"][1]["content"][0]["text"], "Yes.");
    assert_eq!((&kept["output"][2]["call_id"], &kept["output"][2]["arguments"]), (&json!("a"), &json!("{}")));
    assert_eq!(kept["usage"]["input_tokens_details"]["cached_tokens"], 4);
    for event in events.iter().filter(|event| !event["item_id"].is_null()) {
        let item = &kept["output"][event["output_index"].as_u64().unwrap() as usize];
        assert_eq!(event["item_id"], item["id"]);
    }
}

#[test]
fn thoughts_are_a_summary_where_one_is_asked_for() {
    let mut given = vec![Event::Delta(Delta { reasoning: "hm".into(), ..Delta::default() })];
    given.extend(finished(FinishReason::Stop));
    let (events, kept) = write(builder(json!({"summary": "auto"})), given);
    let expected = [
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
    ];
    assert_eq!(names(&events)[3..7], expected);
    assert_eq!(kept["output"][0]["summary"][0], json!({"type": "summary_text", "text": "hm"}));
    assert_eq!(kept["output"][0]["content"], json!([]));
}

#[test]
fn thoughts_that_a_client_would_drop_are_held_where_it_keeps_them() {
    for held in [true, false] {
        let mut builder = builder(json!({"summary": "auto"}));
        builder.response.holds_thoughts = held;
        let thought = |text: &str| Event::Delta(Delta { reasoning: text.into(), ..Delta::default() });
        let mut given = vec![thought("h"), thought("m")];
        given.extend(finished(FinishReason::Stop));
        let (events, kept) = write(builder, given);
        let done = events.iter().find(|event| event["type"] == "response.output_item.done").unwrap();
        assert_eq!(done["item"], kept["output"][0]);
        let expected = if held { json!(sign("hm")) } else { Value::Null };
        assert_eq!(kept["output"][0]["encrypted_content"], expected);
    }
}

#[test]
fn a_failure_says_whether_to_ask_again() {
    let code = |kind| {
        let frames = builder(Value::Null).failed(&Error::new(kind, "no"));
        events(&[frames])[0]["response"]["error"]["code"].clone()
    };
    assert_eq!(code(ErrorKind::ContextLengthExceeded), "context_length_exceeded");
    assert_eq!(code(ErrorKind::RateLimited), "rate_limit_exceeded");
    for at_fault in [ErrorKind::Invalid, ErrorKind::Unsupported, ErrorKind::ModelNotFound, ErrorKind::Forbidden] {
        assert_eq!(code(at_fault), "invalid_prompt", "{at_fault:?}");
    }
    // The daemon finds no work that it did not outlive.
    for passing in [ErrorKind::Internal, ErrorKind::Busy, ErrorKind::NotFound] {
        assert_eq!(code(passing), "server_error", "{passing:?}");
    }
}

#[test]
fn a_call_of_a_namespaces_function_names_both() {
    let docs = json!({"type": "namespace", "name": "mcp__docs", "tools": [{"type": "function", "name": "look"}]});
    let named = |offered: &str| {
        let (id, name) = (Some("a".to_owned()), Some(offered.to_owned()));
        let tool = ToolCallDelta { index: 0, id, name, arguments: "{}".to_owned() };
        let mut given = vec![Event::Delta(Delta { tool_calls: vec![tool], ..Delta::default() })];
        given.extend(finished(FinishReason::ToolCalls));
        let (events, kept) = write(asked(json!({ "tools": [docs] })), given);
        assert_eq!(events[4]["name"], "look");
        (kept["output"][0]["namespace"].clone(), kept["output"][0]["name"].clone())
    };
    assert_eq!(named("mcp__docs__look"), (json!("mcp__docs"), json!("look")));
    assert_eq!(named("look"), (Value::Null, json!("look")));
}

#[test]
fn an_answer_cut_off_is_incomplete_and_a_failure_keeps_what_there_was() {
    let text = |text: &str| Event::Delta(Delta { text: text.into(), ..Delta::default() });
    let mut given = vec![text("Ye")];
    given.extend(finished(FinishReason::Length));
    let (events, kept) = write(builder(Value::Null), given);
    assert_eq!(names(&events).last(), Some(&"incomplete"));
    assert_eq!((&kept["status"], &kept["output"][0]["status"]), (&json!("incomplete"), &json!("incomplete")));
    assert_eq!(kept["incomplete_details"]["reason"], "max_output_tokens");

    let mut failing = builder(Value::Null);
    failing.event(text("Ye"));
    let frames = failing.failed(&Error::internal("gone"));
    let last = self::events(&[frames]).pop().unwrap();
    assert_eq!((&last["type"], &last["response"]["status"]), (&json!("response.failed"), &json!("failed")));
    assert_eq!(last["response"]["error"]["message"], "gone");
    assert_eq!(last["response"]["output"][0]["content"][0]["text"], "Ye");
}
