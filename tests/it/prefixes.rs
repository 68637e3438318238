//! Prefixes as the owner of a house sees them: kept on disk over a restart, sealed where that is asked for, made useless by
//! deleting the key, gone where they are switched off, and no key's to find but its own.

use std::fs;
use std::path::PathBuf;

use engine::random::Recipe;
use protocol::generation::GenerateRequest;
use protocol::status::StopRequest;
use serde_json::{Value, json};
use tests::answer::ask;
use tests::house::{House, Plan, raw};
use tests::http::Http;
use tests::{model, wait};

fn house(config: &str) -> House {
    House::with(Plan { config: config.to_owned(), ..Plan::default() })
}

fn request() -> GenerateRequest {
    raw(Some("m"), &"a long story that many will hear ".repeat(20), 4)
}

/// Asks once, stops the house in peace and starts it again.
async fn ask_and_restart(house: &mut House) {
    let client = house.client().await;
    ask(&client, request()).await.unwrap();
    client.stop(StopRequest { drain_ms: 60_000 }).await.unwrap();
    drop(client);
    assert!(house.daemon_ended());
    house.restart_daemon();
}

/// How many tokens of the prompt come from the cache, and how many could.
async fn cached(house: &House) -> (u32, u32) {
    let usage = ask(&house.client().await, request()).await.unwrap().finished.usage;
    (usage.cached_tokens, (usage.prompt_tokens - 1) / 32 * 32)
}

/// The files of prefixes, in whatever folders they lie.
fn kept(house: &House) -> Vec<PathBuf> {
    kept_in(house, "cache")
}

/// Those in one folder of the home.
fn kept_in(house: &House, folder: &str) -> Vec<PathBuf> {
    let mut folders = vec![house.home().join(folder)];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files
}

#[tokio::test]
async fn sealed_prefixes_outlive_a_restart_and_are_nothing_without_their_key() {
    let mut house = house("[cache]\nencrypt = true\n");
    model::add(&house, &house.client().await, "m", &Recipe::tiny("qwen3", 18).endless()).await;
    ask_and_restart(&mut house).await;
    let (from_cache, possible) = cached(&house).await;
    assert!(from_cache == possible && possible > 0, "{from_cache} of {possible}");
    assert!(!kept(&house).is_empty());
    house.kill_daemon();
    fs::remove_file(house.home().join("cache.key")).unwrap();
    house.restart_daemon();
    assert_eq!(cached(&house).await.0, 0, "a new key opens nothing that an old one sealed");
}

#[tokio::test]
async fn where_disk_is_switched_off_nothing_is_written_and_nothing_outlives_a_restart() {
    let mut house = house("[cache]\ndisk = \"0B\"\n");
    model::add(&house, &house.client().await, "m", &Recipe::tiny("qwen3", 18).endless()).await;
    ask_and_restart(&mut house).await;
    assert_eq!(kept(&house), Vec::<PathBuf>::new());
    assert_eq!(cached(&house).await.0, 0);
}

#[tokio::test]
async fn what_was_kept_is_removed_once_it_should_be_sealed_or_not_be_kept() {
    let mut house = house("");
    model::add(&house, &house.client().await, "m", &Recipe::tiny("qwen3", 18).endless()).await;
    ask_and_restart(&mut house).await;
    assert!(!kept_in(&house, "cache/prefixes").is_empty());
    fs::write(house.home().join("config.toml"), "[cache]\nencrypt = true\n").unwrap();
    ask_and_restart(&mut house).await;
    ask_and_restart(&mut house).await;
    // The worker of a house before may have been ending, and putting away.
    let plain_gone = || async { kept_in(&house, "cache/prefixes").is_empty().then_some(()) };
    wait::for_some("nothing to be kept unsealed", plain_gone).await;
    assert!(!kept_in(&house, "cache/sealed").is_empty());
    fs::write(house.home().join("config.toml"), "[cache]\ndisk = \"0B\"\n").unwrap();
    ask_and_restart(&mut house).await;
    wait::for_some("nothing to be kept", || async { kept(&house).is_empty().then_some(()) }).await;
}

/// How many tokens of one prompt this key finds cached.
async fn found_by(http: &Http) -> Value {
    let prompt = "what nobody else shall know ".repeat(20);
    let asked = json!({ "model": "impetus-nano", "prompt": prompt, "max_tokens": 1 });
    let answer = http.post("/v1/completions", &asked).await.json().await;
    answer["usage"]["prompt_tokens_details"]["cached_tokens"].clone()
}

#[tokio::test]
async fn a_key_cannot_tell_what_others_have_asked_unless_prefixes_are_shared() {
    let mut house = House::start();
    let one = house.http().await;
    let issued = one.post("/api/keys", &json!({ "label": "other", "role": "user" })).await.json().await;
    let other = Http::new(one.authority(), issued["secret"].as_str().unwrap());
    assert_eq!(found_by(&one).await, 0);
    let own = found_by(&one).await;
    assert!(own.as_u64().unwrap() > 0, "its own prefix is there: {own}");
    assert_eq!(found_by(&other).await, 0);
    let shared = one.send("PATCH", "/api/settings", &json!({ "cache.shared": "true" })).await;
    assert_eq!(shared.status, 200);
    assert_eq!(found_by(&one).await, 0, "what is shared from now on begins anew");
    assert_eq!(found_by(&other).await, own);
}
