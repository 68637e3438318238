//! Connections that do not behave: each must end in bounded time, with an answer where one can be given.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::*;
use crate::client::Client;
use crate::model::RemoveRequest;
use crate::status::Bridge;
use crate::tests::daemon::Daemon;
use crate::transcript::{Cursor, ReadRequest, TranscriptId};
use crate::wire::FRAME_BYTES_MAX;

/// Sends bytes to a fresh connection and returns the client's end, and how serving ends.
async fn send(daemon: &Daemon, bytes: &[u8]) -> (DuplexStream, tokio::task::JoinHandle<Option<ServeError>>) {
    let (mut stream, served) = daemon.open(Limits { preface: Duration::from_millis(200), ..Limits::default() });
    stream.write_all(bytes).await.unwrap();
    (stream, served)
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(5), future).await.expect("it ends in time")
}

/// Reads a length and a JSON body.
async fn read_json(stream: &mut DuplexStream) -> Value {
    let length = within(stream.read_u32()).await.unwrap();
    let mut body = vec![0; length as usize];
    within(stream.read_exact(&mut body)).await.unwrap();
    serde_json::from_slice(&body).unwrap()
}

async fn read_preface(stream: &mut DuplexStream) -> Preface {
    let mut bytes = [0; PREFACE_BYTES];
    within(stream.read_exact(&mut bytes)).await.unwrap();
    Preface::from_bytes(bytes).unwrap()
}

fn frame(body: &[u8]) -> Vec<u8> {
    [&u32::try_from(body.len()).unwrap().to_be_bytes(), body].concat()
}

/// Checks that these first bytes are refused, and returns the error that says why.
async fn refused(bytes: &[u8]) -> Error {
    let (mut stream, served) = send(&Daemon::new(), bytes).await;
    let preface = read_preface(&mut stream).await;
    assert_eq!((preface.version, preface.status), (PROTOCOL_VERSION, REFUSED));
    let error: Error = serde_json::from_value(read_json(&mut stream).await).unwrap();
    assert_eq!(within(stream.read(&mut [0])).await.unwrap(), 0, "the connection is closed");
    assert!(matches!(within(served).await.unwrap(), Some(ServeError::Refused(_))));
    error
}

#[tokio::test]
async fn a_client_of_any_version_can_ask_for_the_end() {
    for version in [0, PROTOCOL_VERSION, PROTOCOL_VERSION + 1] {
        let preface = Preface { version, codec: 9, status: STOP };
        let (mut stream, served) = send(&Daemon::new(), &preface.to_bytes()).await;
        assert_eq!(read_preface(&mut stream).await.status, ACCEPTED);
        assert!(matches!(within(served).await.unwrap(), Some(ServeError::Stop)));
    }
}

/// Checks that a JSON client which sends this after its preface gets one last reply, and returns it.
async fn last_reply(bytes: &[u8]) -> Value {
    let (mut stream, served) = send(&Daemon::new(), &Preface::client(Codec::Json).to_bytes()).await;
    stream.write_all(bytes).await.unwrap();
    assert_eq!(read_preface(&mut stream).await.status, ACCEPTED);
    let reply = read_json(&mut stream).await;
    assert_eq!(within(stream.read(&mut [0])).await.unwrap(), 0, "the connection is closed");
    assert!(matches!(within(served).await.unwrap(), Some(ServeError::Unreadable(_))));
    reply
}

#[tokio::test]
async fn another_magic_is_refused_with_a_hint_at_http() {
    let error = refused(b"GET / HTTP/1.1\r\n\r\n").await;
    assert_eq!(error.kind, ErrorKind::Invalid);
    assert!(error.hint.unwrap().contains("HTTP"));
}

#[tokio::test]
async fn an_unknown_version_is_refused_and_both_versions_are_named() {
    let error = refused(&Preface { version: 999, codec: 0, status: 0 }.to_bytes()).await;
    assert_eq!(error.kind, ErrorKind::Incompatible);
    assert!(error.message.contains("version 999"), "{error}");
    assert!(error.message.contains(&format!("version {PROTOCOL_VERSION}")), "{error}");
}

#[tokio::test]
async fn an_unknown_codec_is_refused_and_named() {
    let error = refused(&Preface { version: PROTOCOL_VERSION, codec: 9, status: 0 }.to_bytes()).await;
    assert!(error.message.contains("codec 9"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn half_a_preface_and_then_silence_ends_at_the_deadline() {
    let (mut stream, served) = send(&Daemon::new(), b"IMPT").await;
    assert!(matches!(served.await.unwrap(), Some(ServeError::Silent(_))));
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_peer_that_goes_within_its_preface_is_let_go() {
    let (stream, served) = send(&Daemon::new(), b"IMP").await;
    drop(stream);
    assert!(matches!(within(served).await.unwrap(), Some(ServeError::Io(_))));
}

#[tokio::test]
async fn garbage_after_the_preface_gets_one_last_reply() {
    let reply = last_reply(&frame(b"\xff\xfenot json")).await;
    assert_eq!(reply["id"], json!(u64::MAX));
    assert_eq!(reply["result"]["Err"]["kind"], "Invalid");
}

#[tokio::test]
async fn an_unknown_verb_is_named_in_the_reply_to_its_request() {
    let body = json!({ "Request": { "id": 12, "deadline_ms": 1, "verb": { "Fly": {} } } });
    let reply = last_reply(&frame(body.to_string().as_bytes())).await;
    assert_eq!(reply["id"], 12);
    assert!(reply["result"]["Err"]["message"].as_str().unwrap().contains("Fly"), "{reply}");
}

#[tokio::test]
async fn an_oversized_frame_is_refused_by_its_length_alone() {
    let length = u32::try_from(FRAME_BYTES_MAX + 1).unwrap().to_be_bytes();
    let reply = last_reply(&length).await;
    assert_eq!(reply["result"]["Err"]["kind"], "Invalid");
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_stops_in_its_middle_ends_in_time_and_silence_between_frames_does_not() {
    let (mut stream, served) = send(&Daemon::new(), &Preface::client(Codec::Json).to_bytes()).await;
    assert_eq!(read_preface(&mut stream).await.status, ACCEPTED);
    let ask =
        frame(json!({ "Request": { "id": 3, "deadline_ms": 1, "verb": { "Models": {} } } }).to_string().as_bytes());
    let patience = Limits::default().frame;
    for pause in [patience * 9, patience / 2] {
        tokio::time::sleep(pause).await;
        let (first, rest) = ask.split_at(ask.len() / 2);
        stream.write_all(first).await.unwrap();
        tokio::time::sleep(patience / 2).await;
        stream.write_all(rest).await.unwrap();
        let length = stream.read_u32().await.unwrap();
        stream.read_exact(&mut vec![0; length as usize]).await.unwrap();
    }
    let begun = tokio::time::Instant::now();
    stream.write_all(&ask[..ask.len() - 1]).await.unwrap();
    assert!(matches!(served.await.unwrap(), Some(ServeError::Unreadable(_))));
    assert!((patience..patience * 2).contains(&begun.elapsed()));
    let reply = read_json(&mut stream).await;
    assert!(reply["result"]["Err"]["message"].as_str().unwrap().contains("within 30 s"), "{reply}");
}

#[tokio::test]
async fn an_answer_that_fits_no_frame_costs_only_its_own_request() {
    let client = Daemon::new().client(Codec::Bincode).await;
    let error = client.first_key().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Internal);
    assert!(client.models().await.is_ok());
}

#[tokio::test]
async fn a_client_gone_in_the_middle_of_a_read_ends_its_connection_and_its_work() {
    let daemon = Daemon::new();
    let (stream, served) = daemon.open(Limits::default());
    let client = Client::over(stream, Codec::Bincode, "test/1").await.unwrap();
    let read = tokio::spawn(async move {
        client.read(ReadRequest { id: TranscriptId(7), cursor: Cursor(0), wait_ms: 20_000 }).await
    });
    daemon.until(|state| state.reads_running == 1).await;
    read.abort();
    daemon.until(|state| state.reads_running == 0).await;
    assert!(within(served).await.unwrap().is_none(), "leaving is no error");
}

#[tokio::test]
async fn one_request_more_than_the_limit_is_refused_as_busy() {
    let daemon = Daemon::new();
    let (stream, _) = daemon.open(Limits { requests_max: 2, ..Limits::default() });
    let client = Client::over(stream, Codec::Json, "test/1").await.unwrap();
    for _ in 0..2 {
        let client = client.clone();
        tokio::spawn(
            async move { client.read(ReadRequest { id: TranscriptId(7), cursor: Cursor(0), wait_ms: 0 }).await },
        );
    }
    daemon.until(|state| state.reads_running == 2).await;
    let error = client.models().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Busy);
    assert!(error.retry_after_ms.is_some());
}

#[tokio::test]
async fn a_handler_that_panics_loses_its_connection_and_no_other() {
    let daemon = Daemon::new();
    let (client, other) = (daemon.client(Codec::Bincode).await, daemon.client(Codec::Bincode).await);
    let request = RemoveRequest { model: "boom".into(), delete_files: false };
    assert_eq!(client.remove(request).await.unwrap_err().kind, ErrorKind::Unreachable);
    within(client.closed()).await;
    assert!(other.models().await.is_ok());
}

#[tokio::test]
async fn a_dropped_call_is_cancelled_in_the_daemon_while_the_connection_lives() {
    let daemon = Daemon::new();
    let client = daemon.client(Codec::Bincode).await;
    let announced = client.announce(Bridge { url: String::new(), pid: 1 });
    assert!(tokio::time::timeout(Duration::from_millis(1), announced).await.is_err());
    let mut read = Box::pin(client.read(ReadRequest { id: TranscriptId(7), cursor: Cursor(0), wait_ms: 0 }));
    tokio::select! {
        _ = &mut read => panic!("there is nothing to read"),
        () = daemon.until(|state| state.reads_running == 1) => {}
    }
    drop(read);
    daemon.until(|state| state.reads_running == 0).await;
    assert!(client.models().await.is_ok());
}

#[tokio::test]
async fn a_second_request_with_an_id_in_flight_ends_the_connection_with_the_reason() {
    let daemon = Daemon::new();
    let (mut stream, served) = send(&daemon, &Preface::client(Codec::Json).to_bytes()).await;
    assert_eq!(read_preface(&mut stream).await.status, ACCEPTED);
    let ask = |id: u64, verb: Value| {
        frame(json!({ "Request": { "id": id, "deadline_ms": 60_000, "verb": verb } }).to_string().as_bytes())
    };
    let read = json!({ "Read": { "request": { "id": 7, "cursor": 0, "wait_ms": 0 } } });
    // An id is free again once its reply is there, or its request is taken back.
    for _ in 0..2 {
        stream.write_all(&ask(3, json!({ "Models": {} }))).await.unwrap();
        assert_eq!(read_json(&mut stream).await["id"], 3);
    }
    stream.write_all(&ask(4, read.clone())).await.unwrap();
    daemon.until(|state| state.reads_running == 1).await;
    stream.write_all(&frame(json!({ "Cancel": { "id": 4 } }).to_string().as_bytes())).await.unwrap();
    daemon.until(|state| state.reads_running == 0).await;
    stream.write_all(&ask(4, read)).await.unwrap();
    daemon.until(|state| state.reads_running == 1).await;
    stream.write_all(&ask(4, json!({ "Models": {} }))).await.unwrap();
    let reply = read_json(&mut stream).await;
    assert_eq!(reply["id"], json!(u64::MAX));
    assert!(reply["result"]["Err"]["message"].as_str().unwrap().contains("the id 4 is in flight"), "{reply}");
    assert_eq!(within(stream.read(&mut [0])).await.unwrap(), 0, "the connection is closed");
    assert!(matches!(within(served).await.unwrap(), Some(ServeError::Unreadable(_))));
    daemon.until(|state| state.reads_running == 0).await;
}
