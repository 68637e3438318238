//! Prefixes as the owner of a house sees them: kept on disk over a restart, sealed where that is asked for, made useless by
//! deleting the key, gone where they are switched off or their model is, and no key's to find but its own.

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;

use engine::random::Recipe;
use protocol::generation::GenerateRequest;
use protocol::model::{AddRequest, RemoveRequest};
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

/// The files of prefixes of this many models.
fn kept_of_models(house: &House) -> (usize, usize) {
    let kept: Vec<PathBuf> = kept(house).into_iter().filter(|path| path.extension().is_some()).collect();
    let models: HashSet<_> = kept.iter().filter_map(|path| path.parent()?.parent()).collect();
    (kept.len(), models.len())
}

#[tokio::test]
async fn a_model_that_is_removed_leaves_no_prefixes_unless_another_name_has_its_folder() {
    let mut house = house("");
    let client = house.client().await;
    let path = model::add(&house, &client, "m", &Recipe::tiny("qwen3", 18).endless()).await.path;
    client.add(AddRequest { path, name: Some("again".to_owned()) }).await.unwrap();
    model::add(&house, &client, "other", &Recipe::tiny("qwen3", 19).endless()).await;
    let asked = |model: &str| GenerateRequest { model: Some(model.to_owned()), ..request() };
    for model in ["m", "other"] {
        ask(&client, asked(model)).await.unwrap();
        client.unload(model).await.unwrap();
    }
    let (all, models) = kept_of_models(&house);
    assert!(all > 0 && models == 2, "{all} files of {models} models");
    let remove = async |model: &str| {
        client.remove(RemoveRequest { model: model.to_owned(), delete_files: false }).await.unwrap();
    };
    remove("m").await;
    assert_eq!(kept_of_models(&house), (all, 2), "its folder has another name");
    let usage = ask(&client, asked("again")).await.unwrap().finished.usage;
    assert!(usage.cached_tokens > 0, "and is found under that");
    remove("again").await;
    let (left, models) = kept_of_models(&house);
    assert!(left < all && models == 1, "{left} of {all} files are left, of {models} models");
    let unknown = house.home().join("cache/prefixes/unknown");
    fs::create_dir_all(&unknown).unwrap();
    drop(client);
    house.kill_daemon();
    house.restart_daemon();
    house.client().await;
    assert!(!unknown.exists(), "what was left over is found at the next start");
    assert_eq!(kept_of_models(&house), (left, 1));
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
