//! Answers through the daemon: right, repeatable, many at once, and gone when nobody reads them.

use engine::random::Recipe;
use futures::future::join_all;
use protocol::ErrorKind;
use protocol::client::Client;
use protocol::generation::FinishReason;
use protocol::model::{ModelState, Residence};
use protocol::transcript::{Cursor, ReadRequest};
use tests::answer::{ask, first_text};
use tests::house::{House, question, raw};
use tests::{model, wait};

async fn residence(client: &Client, name: &str) -> Option<Residence> {
    let cards = client.models().await.expect("the daemon answers");
    match cards.into_iter().find(|card| card.name == name)?.state {
        ModelState::Loaded(residence) => Some(residence),
        _ => None,
    }
}

#[tokio::test]
async fn the_bundled_model_answers_the_first_prompt() {
    let house = House::start();
    let client = house.client().await;
    let answer = ask(&client, question(None, "What is Impetus?", 200)).await.unwrap();
    assert!(answer.text().contains("Impetus"), "{answer:?}");
    assert_eq!(answer.reasons, [Some(FinishReason::Stop)]);
}

#[tokio::test]
async fn every_architecture_serves_in_every_weight_format() {
    let house = House::start();
    let client = house.client().await;
    for architecture in ["llama", "qwen2", "qwen3", "mistral"] {
        let plain = Recipe::tiny(architecture, 1);
        for (form, recipe) in [
            ("bf16", plain.clone()),
            ("4bit", plain.clone().quantized(4, 64)),
            ("8bit-shards", plain.quantized(8, 32).sharded(3)),
        ] {
            let name = format!("{architecture}-{form}");
            model::add(&house, &client, &name, &recipe.endless()).await;
            let answer = ask(&client, raw(Some(&name), "once upon a time", 12)).await.unwrap();
            assert_eq!(answer.finished.usage.completion_tokens, 12, "{name}");
            assert_eq!(answer.reasons, [Some(FinishReason::Length)], "{name}");
            client.unload(&name).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_seed_repeats_an_answer_and_another_changes_it() {
    let house = House::start();
    let client = house.client().await;
    model::add(&house, &client, "m", &Recipe::tiny("qwen3", 3).endless()).await;
    let draw = |seed| {
        let mut request = raw(Some("m"), "one two three", 48);
        request.sampling.temperature = Some(1.0);
        request.sampling.seed = Some(seed);
        request
    };
    let [first, again, other] = [draw(1), draw(1), draw(2)].map(|request| ask(&client, request));
    let (first, again, other) = (first.await.unwrap(), again.await.unwrap(), other.await.unwrap());
    assert_eq!(first.texts, again.texts);
    assert_ne!(first.texts, other.texts);
}

#[tokio::test]
async fn a_hundred_streams_at_once_say_what_each_says_alone() {
    let house = House::start();
    let client = house.client().await;
    model::add(&house, &client, "m", &Recipe::tiny("llama", 4).quantized(4, 64).endless()).await;
    let request = |index: usize| {
        let mut request = raw(Some("m"), &format!("stream number {index} says"), 16 + (index as u32 % 7));
        request.sampling.temperature = Some(0.9);
        request.sampling.seed = Some(index as u64);
        request
    };
    let mut alone = Vec::new();
    for index in 0..5 {
        alone.push(ask(&client, request(index * 20)).await.unwrap().texts);
    }
    let together = join_all((0..100).map(|index| ask(&client, request(index)))).await;
    for (index, answer) in together.iter().enumerate() {
        let answer = answer.as_ref().unwrap_or_else(|error| panic!("stream {index}: {error:?}"));
        assert_eq!(answer.finished.usage.completion_tokens, 16 + (index as u32 % 7));
        if index % 20 == 0 {
            assert_eq!(answer.texts, alone[index / 20], "stream {index}");
        }
    }
}

#[tokio::test]
async fn a_repeated_prompt_is_read_from_the_cache() {
    let house = House::start();
    let client = house.client().await;
    model::add(&house, &client, "m", &Recipe::tiny("qwen3", 5).endless()).await;
    let long = "the same long beginning of a prompt ".repeat(20);
    let first = ask(&client, raw(Some("m"), &long, 8)).await.unwrap();
    let again = ask(&client, raw(Some("m"), &long, 8)).await.unwrap();
    assert_eq!(first.finished.usage.cached_tokens, 0);
    let usage = again.finished.usage;
    assert_eq!(usage.cached_tokens, usage.prompt_tokens - 1, "all but the token whose logits are wanted");
    assert_eq!(first.texts, again.texts);
}

#[tokio::test]
async fn several_choices_differ_and_each_ends() {
    let house = House::start();
    let client = house.client().await;
    model::add(&house, &client, "m", &Recipe::tiny("qwen2", 6).endless()).await;
    let mut request = raw(Some("m"), "choose", 24);
    request.choices = 3;
    request.sampling.temperature = Some(1.0);
    request.logprobs = Some(2);
    let answer = ask(&client, request).await.unwrap();
    assert_eq!(answer.reasons, [Some(FinishReason::Length); 3]);
    assert_ne!(answer.texts[0], answer.texts[1]);
    assert_eq!(answer.finished.usage.completion_tokens, 72);
    for logprobs in &answer.logprobs {
        assert_eq!(logprobs.len(), 24);
        assert!(logprobs.iter().all(|token| token.top.len() == 2 && token.logprob <= 0.0));
    }
}

#[tokio::test]
async fn a_stop_string_ends_the_answer_and_is_not_part_of_it() {
    let house = House::start();
    let client = house.client().await;
    model::add(&house, &client, "m", &Recipe::tiny("qwen3", 7).endless()).await;
    let whole = ask(&client, raw(Some("m"), "go on", 40)).await.unwrap();
    let characters: Vec<char> = whole.text().chars().collect();
    let stop: String = characters[10..14].iter().collect();
    let mut request = raw(Some("m"), "go on", 40);
    request.stop.strings = vec![stop.clone()];
    let stopped = ask(&client, request).await.unwrap();
    let expected = whole.text().split(&stop).next().unwrap();
    assert_eq!(stopped.text(), expected);
    assert_eq!(stopped.reasons, [Some(FinishReason::Stop)]);
}

#[tokio::test]
async fn a_prompt_past_the_context_is_refused_with_the_figures() {
    let house = House::start();
    let client = house.client().await;
    let small = Recipe::tiny("qwen3", 8).set("max_position_embeddings", 64);
    model::add(&house, &client, "m", &small).await;
    let refused = ask(&client, raw(Some("m"), &"too long ".repeat(200), 8)).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::ContextLengthExceeded);
    assert!(refused.message.contains("maximum context length is 64 tokens"), "{refused:?}");
}

#[tokio::test]
async fn a_dropped_stream_and_a_dropped_connection_give_their_blocks_back() {
    let house = House::start();
    let watcher = house.client().await;
    model::add(&house, &watcher, "m", &Recipe::tiny("qwen3", 9).endless()).await;
    let idle = || async {
        residence(&watcher, "m")
            .await
            .filter(|residence| residence.running == 0 && residence.blocks_used == 0)
            .map(drop)
    };
    let mut stream = watcher.generate(raw(Some("m"), "never ends", 3000)).await.unwrap();
    first_text(&mut stream).await;
    drop(stream);
    wait::for_some("the dropped stream's blocks", idle).await;

    let leaver = house.client().await;
    let id = leaver.begin(raw(Some("m"), "never ends", 3000)).await.unwrap();
    let read = ReadRequest { id, cursor: Cursor(0), wait_ms: 30_000 };
    assert!(!leaver.read(read).await.unwrap().events.is_empty(), "the work has begun");
    drop(leaver);
    wait::for_some("the dropped connection's blocks", idle).await;
    assert!(watcher.cancel(id).await.is_err() || watcher.status().await.unwrap().active == 0);
}
