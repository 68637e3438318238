//! What front ends rely on: patience, one stream per transcript, cancellation by dropping, and errors that say why.

use std::path::PathBuf;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;

use super::*;
use crate::generation::{Delta, Finished, Prompt, Sampling, Stop};
use crate::server::{Limits, accept};
use crate::tests::daemon::Daemon;
use crate::tests::directory;
use crate::transcript::Event;
use crate::wire::Codec;
use crate::{socket, tests::crate_path};

fn request(model: Option<&str>, prompt: &str) -> GenerateRequest {
    GenerateRequest {
        model: model.map(str::to_owned),
        prompt: Prompt::Text(prompt.into()),
        sampling: Sampling::default(),
        stop: Stop::default(),
        logprobs: None,
        choices: 1,
        priority: Default::default(),
        deadline_ms: None,
        constraint: None,
        prompt_logprobs: false,
        further: false,
        following: 0,
    }
}

fn text(text: &str) -> Event {
    Event::Delta(Delta { text: text.into(), ..Delta::default() })
}

/// Serves a daemon on a real socket until the test ends.
async fn listen(daemon: Daemon, path: PathBuf) {
    let listener = socket::bind(&path).await.unwrap();
    tokio::spawn(async move {
        while let Ok(stream) = listener.accept().await {
            let daemon = daemon.clone();
            tokio::spawn(async move { accept(stream, &Limits::default()).await.unwrap().serve(daemon).await });
        }
    });
}

#[tokio::test]
async fn an_answer_arrives_event_by_event_in_both_codecs() {
    for codec in [Codec::Bincode, Codec::Json] {
        let daemon = Daemon::new();
        let client = daemon.client(codec).await;
        let mut events = client.generate(request(None, "hi")).await.unwrap();
        for word in ["one", "two"] {
            daemon.change(|state| state.events.push(text(word)));
            assert_eq!(events.next().await, Some(Ok(text(word))));
        }
        daemon.change(|state| {
            state.events.push(Event::Finished(Finished::default()));
            state.ended = true;
        });
        assert_eq!(events.next().await, Some(Ok(Event::Finished(Finished::default()))));
        assert_eq!(events.next().await, None);
        drop(events);
        client.models().await.unwrap();
        daemon.change(|state| assert_eq!(state.cancelled, [], "what ended by itself is not cancelled"));
    }
}

#[tokio::test]
async fn work_that_begins_after_nobody_waits_for_it_any_more_is_cancelled() {
    let daemon = Daemon::new();
    let client = daemon.client(Codec::Bincode).await;
    daemon.change(|state| state.begins_wait = true);
    {
        let mut generate = std::pin::pin!(client.generate(request(None, "hi")));
        let begun = daemon.until(|state| state.begins == 1);
        tokio::select! {
            _ = &mut generate => panic!("it waits for the daemon"),
            () = begun => {}
        }
    }
    daemon.change(|state| state.begins_wait = false);
    daemon.until(|state| state.cancelled == [TranscriptId(7)]).await;
}

#[tokio::test]
async fn a_thousand_streams_that_wait_hold_up_nobody() {
    let daemon = Daemon::new();
    let client = daemon.client(Codec::Bincode).await;
    let mut streams: Vec<_> = (0..1_010).map(|_| client.events(TranscriptId(7))).collect();
    let mut waiting: FuturesUnordered<_> = streams.iter_mut().map(|stream| stream.next()).collect();
    let asked = async {
        daemon.until(|state| state.reads_running == 1_010).await;
        client.models().await
    };
    tokio::select! {
        _ = waiting.next() => panic!("nothing was said"),
        models = asked => assert_eq!(models.unwrap().len(), 1),
    }
}

#[tokio::test]
async fn a_failed_transcript_ends_with_its_error() {
    let daemon = Daemon::new();
    let client = daemon.client(Codec::Bincode).await;
    let mut events = client.events(TranscriptId(7));
    let error = Error::new(ErrorKind::NoMemory, "it does not fit");
    daemon.change(|state| {
        state.events.push(Event::Failed(error.clone()));
        state.ended = true;
    });
    assert_eq!(events.next().await, Some(Err(error)));
    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn dropping_a_stream_before_its_end_cancels_the_work() {
    let daemon = Daemon::new();
    let client = daemon.client(Codec::Bincode).await;
    let mut events = client.events(TranscriptId(7));
    daemon.change(|state| state.events.push(text("one")));
    events.next().await.unwrap().unwrap();
    drop(events);
    daemon.until(|state| state.cancelled == [TranscriptId(7)]).await;
}

#[tokio::test]
async fn a_lost_reply_is_read_again_from_the_same_cursor() {
    let daemon = Daemon::new();
    let client = daemon.client(Codec::Bincode).await;
    daemon.change(|state| {
        state.replies_to_lose = 2;
        state.events.push(text("one"));
    });
    let mut events = client.events(TranscriptId(7));
    assert_eq!(events.next().await, Some(Ok(text("one"))));
    daemon.until(|state| state.reads == 3).await;
}

#[tokio::test]
async fn replies_lost_without_end_are_given_up_and_the_work_cancelled() {
    let daemon = Daemon::new();
    let client = daemon.client(Codec::Bincode).await;
    daemon.change(|state| state.replies_to_lose = u32::MAX);
    let mut events = client.events(TranscriptId(7));
    assert_eq!(events.next().await.unwrap().unwrap_err().kind, ErrorKind::DeadlineExceeded);
    assert_eq!(events.next().await, None);
    daemon.until(|state| state.cancelled == [TranscriptId(7)]).await;
}

#[tokio::test]
async fn two_hundred_streams_share_one_connection() {
    let daemon = Daemon::new();
    let client = daemon.client(Codec::Bincode).await;
    let streams: Vec<_> = (0..200).map(|id| client.events(TranscriptId(id))).collect();
    let answers = streams.into_iter().map(|stream| stream.collect::<Vec<_>>());
    let answers = tokio::spawn(futures::future::join_all(answers));
    daemon.until(|state| state.reads_running == 200).await;
    daemon.change(|state| {
        state.events = vec![text("one"), text("two")];
        state.ended = true;
    });
    for answer in answers.await.unwrap() {
        assert_eq!(answer, [Ok(text("one")), Ok(text("two"))]);
    }
}

#[tokio::test]
async fn the_daemons_refusal_arrives_whole() {
    let client = Daemon::new().client(Codec::Json).await;
    let error = client.generate(request(Some("absent"), "hi")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::ModelNotFound);
    assert_eq!(error.param.as_deref(), Some("model"));
    assert!(error.hint.is_some());
}

#[tokio::test]
async fn a_prompt_too_long_for_a_frame_is_refused_and_the_connection_lives() {
    let client = Daemon::new().client(Codec::Bincode).await;
    let error = client.begin(request(None, &"x".repeat(FRAME_BYTES_MAX))).await.unwrap_err();
    assert_eq!((error.kind, error.param.as_deref()), (ErrorKind::Invalid, Some("prompt")));
    assert!(client.models().await.is_ok());
}

#[tokio::test]
async fn a_connection_that_is_lost_says_so_to_every_call() {
    let daemon = Daemon::new();
    let (stream, served) = daemon.open(Limits::default());
    let client = Client::over(stream, Codec::Bincode, "test/1").await.unwrap();
    let mut events = client.events(TranscriptId(7));
    let next = tokio::spawn(async move { events.next().await });
    daemon.until(|state| state.reads_running == 1).await;
    assert!(!client.is_closed());
    served.abort();
    assert_eq!(next.await.unwrap().unwrap().unwrap_err().kind, ErrorKind::Unreachable);
    client.closed().await;
    assert!(client.is_closed());
    assert_eq!(client.models().await.unwrap_err().kind, ErrorKind::Unreachable);
}

#[tokio::test]
async fn a_patient_client_waits_for_a_daemon_that_is_starting() {
    let directory = directory();
    let path = directory.path().join("run/impetus.sock");
    let connecting = tokio::spawn({
        let path = path.clone();
        async move { Client::connect(&path, "test/1", Patience::STARTING).await }
    });
    tokio::task::yield_now().await;
    listen(Daemon::new(), path).await;
    let client = connecting.await.unwrap().unwrap();
    assert_eq!(client.welcome().pid, 42);
    assert_eq!(client.models().await.unwrap().len(), 1);
}

#[tokio::test]
async fn an_impatient_client_says_at_once_that_no_daemon_runs() {
    let directory = directory();
    let path = directory.path().join("impetus.sock");
    let error = Client::connect(&path, "test/1", Patience::NONE).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unreachable);
    assert!(error.message.contains(path.to_str().unwrap()), "{error}");
    assert!(error.hint.unwrap().contains("impetusctl serve"));
}

#[tokio::test]
async fn a_daemon_of_another_version_is_named_and_not_waited_for() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let (near, mut far) = tokio::io::duplex(1024);
    let connecting = tokio::spawn(Client::over(near, Codec::Bincode, "test/1"));
    far.read_exact(&mut [0; 8]).await.unwrap();
    far.write_all(b"IMPT\x09\x00\x00\x01").await.unwrap();
    drop(far);
    let error = connecting.await.unwrap().unwrap_err();
    assert_eq!(error.kind, ErrorKind::Incompatible);
    assert!(error.message.contains("version 9") && error.message.contains("speaks 1"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_accepts_and_says_nothing_is_given_up() {
    let (near, _far) = tokio::io::duplex(1024);
    let error = Client::over(near, Codec::Bincode, "test/1").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::DeadlineExceeded);
}

#[tokio::test]
async fn the_python_example_lists_models_and_streams_an_answer() {
    let directory = directory();
    let path = directory.path().join("impetus.sock");
    let daemon = Daemon::new();
    daemon.change(|state| {
        state.events = vec![text("A private"), text(" AI service ⚡")];
        state.ended = true;
    });
    listen(daemon, path.clone()).await;
    let example = crate_path("examples/impetus.py");
    let output = tokio::process::Command::new("python3")
        .arg(example)
        .arg("What is Impetus?")
        .env("IMPETUS_SOCKET", path)
        .env("PYTHONIOENCODING", "utf-8")
        .kill_on_drop(true)
        .output();
    let output = match tokio::time::timeout(Duration::from_secs(20), output).await.expect("it ends") {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
        Err(error) => panic!("{error}"),
    };
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(stdout.contains("impetus-nano"), "{stdout}");
    assert!(stdout.contains("A private AI service ⚡"), "{stdout}");
}
