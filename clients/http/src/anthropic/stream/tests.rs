//! The order of events for a whole answer.

use futures::StreamExt;
use protocol::generation::{FinishReason, Usage};
use serde_json::Value;

use super::*;

fn write(events: Vec<Event>) -> Vec<Value> {
    write_as(Display::default(), events)
}

fn write_as(display: Display, events: Vec<Event>) -> Vec<Value> {
    let events = futures::stream::iter(events.into_iter().map(Ok));
    let writer = Blocks { display, ..Blocks::default() };
    let frames: Vec<Bytes> = futures::executor::block_on(frames(Bytes::new(), events, writer).collect());
    let text = String::from_utf8(frames.concat()).unwrap();
    let read = |frame: &str| {
        let (name, data) = frame.split_once('\n').unwrap();
        let value: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(name.strip_prefix("event: "), value["type"].as_str());
        value
    };
    text.split("\n\n").filter(|frame| !frame.is_empty()).map(read).collect()
}

fn call(index: u16, id: Option<&str>, arguments: &str) -> Event {
    let (id, name) = (id.map(str::to_owned), id.map(|_| "look".to_owned()));
    Event::Delta(Delta {
        tool_calls: vec![ToolCallDelta { index, id, name, arguments: arguments.to_owned() }],
        ..Delta::default()
    })
}

#[test]
fn every_block_is_begun_filled_and_ended_before_the_next() {
    let usage = Usage { prompt_tokens: 9, cached_tokens: 4, completion_tokens: 7, reasoning_tokens: 1 };
    let events = write(vec![
        Event::Delta(Delta { reasoning: "hm".into(), text: "Yes".into(), ..Delta::default() }),
        Event::Delta(Delta { text: ".".into(), ..Delta::default() }),
        call(0, Some("a"), "{"),
        call(0, None, "}"),
        call(1, Some("b"), "{}"),
        Event::ChoiceFinished(ChoiceFinished { choice: 0, reason: FinishReason::ToolCalls, stop_string: None }),
        Event::Finished(Finished { usage, ..Finished::default() }),
    ]);
    let shown: Vec<String> = events
        .iter()
        .map(|event| match event["index"].as_u64() {
            Some(index) => format!("{index} {}", event["type"].as_str().unwrap().trim_start_matches("content_block_")),
            None => event["type"].as_str().unwrap().to_owned(),
        })
        .collect();
    let expected = [
        "0 start",
        "0 delta",
        "0 delta",
        "0 stop",
        "1 start",
        "1 delta",
        "1 delta",
        "1 stop",
        "2 start",
        "2 delta",
        "2 delta",
        "2 stop",
        "3 start",
        "3 delta",
        "3 stop",
        "message_delta",
        "message_stop",
    ];
    assert_eq!(shown, expected);
    assert_eq!(
        events[2]["delta"],
        json!({"type": "signature_delta", "signature": sign("")}),
        "unsigned, it is dropped"
    );
    let end = &events[events.len() - 2];
    assert_eq!(end["delta"], json!({"stop_reason": "tool_use", "stop_sequence": null}));
    assert_eq!((&end["usage"]["input_tokens"], &end["usage"]["cache_read_input_tokens"]), (&json!(5), &json!(4)));
}

#[test]
fn thoughts_that_are_not_shown_are_held_by_their_signature() {
    let thought = |reasoning: &str| Event::Delta(Delta { reasoning: reasoning.to_owned(), ..Delta::default() });
    let answer = Event::Delta(Delta { text: "Yes".into(), ..Delta::default() });
    let events = write_as(Display::Omitted, vec![thought("h"), thought("m"), answer]);
    assert_eq!(events[0]["content_block"], json!({"type": "thinking", "thinking": "", "signature": ""}));
    assert_eq!(events[1]["delta"], json!({"type": "signature_delta", "signature": sign("hm")}));
    assert_eq!(events[2]["type"], "content_block_stop");
    assert_eq!(events[4]["delta"], json!({"type": "text_delta", "text": "Yes"}));
}

#[test]
fn a_stop_sequence_is_named() {
    let stop_string = Some("END".to_owned());
    let events = write(vec![
        Event::ChoiceFinished(ChoiceFinished { choice: 0, reason: FinishReason::Stop, stop_string }),
        Event::Finished(Finished::default()),
    ]);
    assert_eq!(events[0]["delta"], json!({"stop_reason": "stop_sequence", "stop_sequence": "END"}));
}

#[test]
fn a_failure_is_an_event() {
    let frame = Blocks::default().failed(&Error::internal("gone"));
    assert!(frame.starts_with(b"event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"api_error\""));
}
