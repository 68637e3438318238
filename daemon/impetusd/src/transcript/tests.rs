//! Reading is idempotent, waiting ends, merging loses nothing, and what is kept is bounded.

use std::sync::Arc;

use protocol::ErrorKind;
use protocol::encode::Embedded;
use protocol::generation::{Delta, PromptToken, Started, ToolCallDelta};
use protocol::transcript::{Progress, Stage, Unit};

use super::*;
use crate::config;

fn registry(ended_max: usize) -> Transcripts {
    let keep = Duration::from_secs(60);
    let ended_bytes_max = 100_000;
    Transcripts::new(&config::Transcripts {
        keep,
        ended_max,
        ended_bytes_max,
        page_events_max: 4,
        page_bytes_max: 1000,
    })
}

fn say(choice: u16, text: &str) -> Event {
    Event::Delta(Delta { choice, text: text.to_owned(), tokens: 1, ..Delta::default() })
}

fn think(text: &str) -> Event {
    Event::Delta(Delta { reasoning: text.to_owned(), tokens: 1, ..Delta::default() })
}

fn call(index: u16, id: Option<&str>, arguments: &str) -> Event {
    let id = id.map(str::to_owned);
    let call = ToolCallDelta { index, name: id.clone(), id, arguments: arguments.to_owned() };
    Event::Delta(Delta { tool_calls: vec![call], tokens: 1, ..Delta::default() })
}

fn loading(done: u64) -> Event {
    let subject = "nano".to_owned();
    Event::Progress(Progress { stage: Stage::Loading, subject, done, total: Some(9), unit: Unit::Bytes })
}

async fn now(transcript: &Transcript, cursor: u64) -> Page {
    transcript.read(Cursor(cursor), Duration::ZERO).await.unwrap()
}

#[tokio::test]
async fn reading_twice_returns_the_same_page() {
    let transcripts = registry(8);
    let transcript = transcripts.open();
    transcript.append(say(0, "a"));
    let first = now(&transcript, 0).await;
    transcript.append(say(0, "b"));
    let again = now(&transcript, 0).await;
    assert_eq!(first.events, [say(0, "a")]);
    assert_eq!(again.events, [say(0, "a"), say(0, "b")]);
    assert_eq!(now(&transcript, first.next.0).await.events, [say(0, "b")]);
    assert_eq!(now(&transcript, 2).await, Page { events: vec![], next: Cursor(2), ended: false });
}

#[tokio::test]
async fn what_nobody_has_read_is_merged_without_loss() {
    let transcripts = registry(8);
    let transcript = transcripts.open();
    for event in [loading(1), loading(5), think("hm"), say(0, "a"), say(0, "b"), say(1, "x"), say(0, "c")] {
        transcript.append(event);
    }
    let page = now(&transcript, 0).await;
    let mut merged = Delta { text: "ab".to_owned(), reasoning: "hm".to_owned(), tokens: 3, ..Delta::default() };
    assert_eq!(page.events, [loading(5), Event::Delta(merged.clone()), say(1, "x"), say(0, "c")]);
    // Reasoning after text, and text after a call, would change places.
    transcript.append(think("again"));
    transcript.append(call(0, Some("f"), "{"));
    transcript.append(call(0, None, "}"));
    transcript.append(call(1, Some("g"), "{}"));
    transcript.append(say(0, "done"));
    let page = now(&transcript, page.next.0).await;
    merged = Delta { reasoning: "again".to_owned(), tokens: 4, ..Delta::default() };
    for event in [call(0, Some("f"), "{}"), call(1, Some("g"), "{}")] {
        let Event::Delta(delta) = event else { unreachable!("a call is a delta") };
        merged.tool_calls.extend(delta.tool_calls);
    }
    assert_eq!(page.events, [Event::Delta(merged), say(0, "done")]);
}

#[tokio::test]
async fn a_prompt_is_merged_in_order_and_counts_as_bytes() {
    let transcripts = registry(8);
    let transcript = transcripts.open();
    let tokens = |range: std::ops::Range<u32>| {
        let token = |token| PromptToken { token, bytes: vec![b'x'; 80], logprob: None, top: Vec::new() };
        Event::Delta(Delta { prompt: range.map(token).collect(), ..Delta::default() })
    };
    for start in 0..10 {
        transcript.append(tokens(start..start + 1));
    }
    let mut prompt = Vec::new();
    for event in now(&transcript, 0).await.events {
        let Event::Delta(delta) = event else { panic!("{event:?}") };
        assert!(delta.prompt.len() < 10, "a merged delta has a limit");
        prompt.extend(delta.prompt.into_iter().map(|entry| entry.token));
    }
    assert_eq!(prompt[..4], [0, 1, 2, 3]);
}

#[tokio::test]
async fn pages_are_bounded_in_events_and_bytes() {
    let transcripts = registry(8);
    let transcript = transcripts.open();
    for choice in 0..10 {
        transcript.append(say(choice, "x"));
    }
    let page = now(&transcript, 0).await;
    assert_eq!((page.events.len(), page.next), (4, Cursor(4)));
    let large = transcripts.open();
    for _ in 0..10 {
        large.append(say(0, &"y".repeat(400)));
    }
    large.finish(Finished::default());
    let (mut cursor, mut text) = (0, 0);
    loop {
        let page = now(&large, cursor).await;
        let bytes: usize = page.events.iter().map(merge::bytes).sum();
        assert!(bytes <= 1000, "a page of {bytes} bytes");
        text += page
            .events
            .iter()
            .filter_map(|e| if let Event::Delta(d) = e { Some(d.text.len()) } else { None })
            .sum::<usize>();
        cursor = page.next.0;
        if page.ended {
            break;
        }
    }
    assert_eq!(text, 4000);
}

#[tokio::test(start_paused = true)]
async fn a_reader_waits_for_the_first_event_and_not_past_its_time() {
    let transcripts = registry(8);
    let transcript = transcripts.open();
    let before = Instant::now();
    let page = transcript.read(Cursor(0), Duration::from_secs(30)).await.unwrap();
    assert!(page.events.is_empty() && before.elapsed() >= Duration::from_secs(30));
    let reader = tokio::spawn({
        let transcript = transcript.clone();
        async move { transcript.read(Cursor(0), Duration::from_secs(30)).await }
    });
    tokio::task::yield_now().await;
    let before = Instant::now();
    transcript.append(say(0, "now"));
    assert_eq!(reader.await.unwrap().unwrap().events, [say(0, "now")]);
    assert_eq!(before.elapsed(), Duration::ZERO);
}

#[tokio::test]
async fn nothing_follows_the_end() {
    let transcripts = registry(8);
    let transcript = transcripts.open();
    transcript.append(Event::Started(Started { model: "nano".to_owned(), prompt_tokens: 1, seed: 1, max_tokens: 1 }));
    transcript.fail(Error::new(ErrorKind::Cancelled, "cancelled"));
    transcript.append(say(0, "late"));
    transcript.finish(Finished::default());
    let page = now(&transcript, 0).await;
    assert!(page.ended && page.events.len() == 2);
    assert!(now(&transcript, 2).await.ended);
}

#[tokio::test]
async fn a_cursor_past_the_end_is_refused_with_the_figures() {
    let transcripts = registry(8);
    let error = transcripts.open().read(Cursor(3), Duration::ZERO).await.unwrap_err();
    assert_eq!((error.kind, error.param.as_deref()), (ErrorKind::Invalid, Some("cursor")));
    assert!(error.message.contains('3'), "{}", error.message);
}

#[tokio::test(start_paused = true)]
async fn ended_transcripts_are_kept_for_a_while_and_never_too_many() {
    let transcripts = registry(2);
    let opened: Vec<Arc<Transcript>> = (0..4).map(|_| transcripts.open()).collect();
    for transcript in &opened[..3] {
        transcript.finish(Finished::default());
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    transcripts.prune(Instant::now());
    assert_eq!(transcripts.find(opened[0].id()).unwrap_err().kind, ErrorKind::NotFound);
    assert!(transcripts.find(opened[1].id()).is_ok() && transcripts.find(opened[3].id()).is_ok());
    tokio::time::advance(Duration::from_secs(60)).await;
    transcripts.prune(Instant::now());
    assert!(transcripts.find(opened[2].id()).is_err() && transcripts.find(opened[3].id()).is_ok());
    assert_eq!(transcripts.active(), 1);
    for _ in 0..100 {
        transcripts.open().finish(Finished::default());
    }
    let kept = (0..200).filter(|id| transcripts.find(TranscriptId(*id)).is_ok()).count();
    assert!(kept <= 10, "{kept} transcripts are kept");
}

#[tokio::test(start_paused = true)]
async fn ended_transcripts_of_many_bytes_make_room_for_younger_ones() {
    let transcripts = registry(64);
    let vector = |index| Event::Embedded(Embedded { index, tokens: 1, cut: false, vector: vec![0.5; 3000] });
    let mut opened = Vec::new();
    for _ in 0..5 {
        let transcript = transcripts.open();
        (0..3).for_each(|index| transcript.append(vector(index)));
        transcript.finish(Finished::default());
        opened.push(transcript.id());
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    let running = transcripts.open();
    (0..20).for_each(|index| running.append(vector(index)));
    transcripts.prune(Instant::now());
    let kept: Vec<bool> = opened.iter().map(|id| transcripts.find(*id).is_ok()).collect();
    assert_eq!(kept, [false, false, false, true, true]);
    assert!(transcripts.find(running.id()).is_ok(), "what goes on is never forgotten");
}

#[tokio::test(start_paused = true)]
async fn a_text_that_was_read_token_by_token_counts_as_the_memory_that_it_takes() {
    let transcripts = registry(64);
    let mut opened = Vec::new();
    for _ in 0..4 {
        let transcript = transcripts.open();
        for token in 0..300_u64 {
            transcript.append(say(0, "ab"));
            now(&transcript, token).await;
        }
        transcript.finish(Finished::default());
        opened.push(transcript.id());
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    // The next one makes room, long before the regular pruning.
    transcripts.open();
    let kept = opened.iter().filter(|id| transcripts.find(**id).is_ok()).count();
    let events = 301 * size_of::<Event>();
    assert!(kept > 0 && kept * events <= 100_000, "{kept} transcripts of {events} bytes and more are kept");
}
