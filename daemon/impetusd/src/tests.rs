//! The daemon as one call, over a real socket, with the scripted worker in place of a model.

use std::time::{Duration, Instant};

use futures::StreamExt as _;
use protocol::client::{Client, Patience};
use protocol::encode::{EmbedRequest, Input, Overlong};
use protocol::generation::{GenerateRequest, Json, Priority, Prompt, Sampling, Stop};
use protocol::journal::{AuditRequest, RequestsRequest};
use protocol::key::{CreateKeyRequest, KeyRole, Knock, LimitsRequest, Proof, Purpose, RotateKeyRequest};
use protocol::model::{AddRequest, LoadRequest, ModelState, PullRequest, RemoveRequest, Source};
use protocol::record::{Collection, KeepRequest, ListRequest, RecordId};
use protocol::setting::{ChangeSettingsRequest, SettingChange};
use protocol::status::{Bridge, Hello, StopRequest};
use protocol::text::{DetokenizeRequest, Special, TokenizeRequest};
use protocol::transcript::{Cursor, Event, ReadRequest, TranscriptId};
use protocol::{ErrorKind, Result, socket};
use tokio::task::JoinHandle;

use super::*;

mod import;
mod pull;
mod turns;

/// No wait of these tests is longer.
const LIMIT: Duration = Duration::from_secs(30);

/// A running daemon in a folder of its own.
struct House {
    folder: tempfile::TempDir,
    config: Config,
    shutdown: Shutdown,
    task: JoinHandle<std::result::Result<(), RunError>>,
}

impl House {
    async fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), |_| {}).await
    }

    async fn start_in(folder: tempfile::TempDir, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::testing(folder.path());
        config.worker.program = testing::scripted_worker().to_str().unwrap().to_owned();
        change(&mut config);
        let listener = socket::bind(&config.socket).await.unwrap();
        let shutdown = Shutdown::default();
        let task = tokio::spawn(run(config.clone(), vec![listener], shutdown.clone()));
        Self { folder, config, shutdown, task }
    }

    async fn client(&self) -> Client {
        Client::connect(&self.config.socket, "test", Patience::STARTING).await.unwrap()
    }

    /// Ends the daemon, and gives back its folder.
    async fn stop(self) -> tempfile::TempDir {
        self.shutdown.request(Duration::ZERO);
        tokio::time::timeout(LIMIT, self.task).await.unwrap().unwrap().unwrap();
        self.folder
    }
}

fn ask(tokens: u32) -> GenerateRequest {
    GenerateRequest {
        model: None,
        prompt: Prompt::Text("hello".to_owned()),
        sampling: Sampling { seed: Some(5), ..Sampling::default() },
        stop: Stop { max_tokens: Some(tokens), ..Stop::default() },
        logprobs: None,
        choices: 1,
        priority: Priority::Normal,
        deadline_ms: None,
        constraint: None,
        prompt_logprobs: false,
        further: false,
        following: 0,
    }
}

async fn ends_well(client: &Client, id: TranscriptId) -> bool {
    let events: Vec<_> = client.events(id).collect().await;
    matches!(events.last(), Some(Ok(Event::Finished(_))))
}

/// Waits until the client's view of the daemon is as wanted.
async fn until(client: &Client, wanted: impl Fn(&protocol::status::Status) -> bool) {
    let end = Instant::now() + LIMIT;
    loop {
        let status = client.status().await.unwrap();
        if wanted(&status) {
            return;
        }
        assert!(Instant::now() < end, "the daemon did not get there in time: {status:#?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn running(status: &protocol::status::Status) -> u32 {
    let states = status.models.iter().map(|card| &card.state);
    states.map(|state| if let ModelState::Loaded(residence) = state { residence.running } else { 0 }).sum()
}

#[tokio::test]
async fn a_fresh_daemon_answers_with_its_bundled_model() {
    let house = House::start().await;
    let client = house.client().await;
    assert_eq!(client.welcome().pid, std::process::id());
    let id = client.begin(ask(4)).await.unwrap();
    let events: Vec<_> = client.events(id).map(Result::unwrap).collect().await;
    let text: String = events
        .iter()
        .filter_map(|e| if let Event::Delta(delta) = e { Some(delta.text.as_str()) } else { None })
        .collect();
    assert_eq!(text, "5 12 19 26 ");
    let status = client.status().await.unwrap();
    assert_eq!(status.default_model.as_deref(), Some("impetus-nano"));
    assert_eq!(status.models[0].source, Source::Bundled);
    assert_eq!((status.connections, status.active, status.draining), (1, 0, false));
    assert!(status.memory.budget_bytes > 0 && status.memory.models_bytes > 0, "{:?}", status.memory);
    // A page can be read again for a while.
    let read = ReadRequest { id, cursor: Cursor(0), wait_ms: 0 };
    assert!(client.read(read).await.unwrap().ended);
    house.stop().await;
}

#[tokio::test]
async fn bundled_models_that_cannot_be_written_are_the_reason_that_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let models = folder.path().join("models");
    std::fs::create_dir(&models).unwrap();
    // A file where the folder should be stands for a disk that takes nothing more.
    std::fs::write(models.join("bundled"), "").unwrap();
    let house = House::start_in(folder, |_| {}).await;
    let error = house.client().await.begin(ask(4)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::ModelNotFound);
    assert!(error.message.contains("no models") && error.message.contains("bundled"), "{error:?}");
    house.stop().await;
}

#[tokio::test]
async fn a_lost_connection_cancels_what_it_began() {
    let house = House::start().await;
    let watcher = house.client().await;
    let client = house.client().await;
    let bridge = Bridge { url: "http://127.0.0.1:1".to_owned(), pid: 1 };
    client.announce(bridge.clone()).await.unwrap();
    client.begin(ask(100_000)).await.unwrap();
    until(&watcher, |status| running(status) == 1 && status.bridges == [bridge.clone()]).await;
    drop(client);
    until(&watcher, |status| running(status) == 0 && status.active == 0 && status.bridges.is_empty()).await;
    house.stop().await;
}

#[tokio::test]
async fn models_are_added_listed_and_removed_and_survive_a_restart() {
    let house = House::start().await;
    let client = house.client().await;
    let path = house.folder.path().join("mine");
    std::fs::create_dir(&path).unwrap();
    let add = |path: &std::path::Path| AddRequest { path: path.to_str().unwrap().to_owned(), name: None };
    let error = client.add(add(&path)).await.unwrap_err();
    assert!(error.message.contains("holds no script"), "{error:?}");
    std::fs::write(path.join("script.json"), r#"{"megabytes": 3}"#).unwrap();
    let card = client.add(add(&path)).await.unwrap();
    assert_eq!((card.name.as_str(), card.facts.weights_bytes), ("mine", 3_000_000));
    let load = LoadRequest { model: "mine".to_owned(), pin: Some(true), keep_alive_ms: None };
    assert!(ends_well(&client, client.load(load).await.unwrap()).await);
    drop(client);

    let house = House::start_in(house.stop().await, |_| {}).await;
    let client = house.client().await;
    let names: Vec<_> = client.models().await.unwrap().into_iter().map(|card| (card.name, card.pinned)).collect();
    assert_eq!(names, [("impetus-nano".to_owned(), false), ("mine".to_owned(), true)]);
    let remove = |model: &str| RemoveRequest { model: model.to_owned(), delete_files: true };
    assert_eq!(client.remove(remove("impetus-nano")).await.unwrap_err().kind, ErrorKind::Conflict);
    client.remove(remove("mine")).await.unwrap();
    assert_eq!(client.remove(remove("mine")).await.unwrap_err().kind, ErrorKind::ModelNotFound);
    // A local folder's files are its owner's.
    assert!(path.join("script.json").is_file());
    house.stop().await;
}

#[tokio::test]
async fn bad_paths_names_cursors_and_transcripts_are_refused_by_name() {
    let house = House::start().await;
    let client = house.client().await;
    let add = |path: &str, name: Option<&str>| AddRequest { path: path.to_owned(), name: name.map(str::to_owned) };
    let nano = client.models().await.unwrap()[0].path.clone();
    for (request, param) in [
        (add("relative/folder", None), "path"),
        (add("/nonexistent/folder", None), "path"),
        (add("/dev/null", None), "path"),
        (add(&nano, Some("two words")), "name"),
    ] {
        let error = client.add(request).await.unwrap_err();
        assert_eq!((error.kind, error.param.as_deref()), (ErrorKind::Invalid, Some(param)), "{}", error.message);
    }
    let mine = house.folder.path().join("impetus-nano");
    std::fs::create_dir(&mine).unwrap();
    std::fs::write(mine.join("script.json"), "{}").unwrap();
    let error = client.add(add(mine.to_str().unwrap(), None)).await.unwrap_err();
    assert_eq!((error.kind, error.param.as_deref()), (ErrorKind::Conflict, Some("name")));
    let read = |id, wait_ms| ReadRequest { id: TranscriptId(id), cursor: Cursor(0), wait_ms };
    assert_eq!(client.read(read(999, 0)).await.unwrap_err().kind, ErrorKind::NotFound);
    assert_eq!(client.read(read(999, 30_001)).await.unwrap_err().param.as_deref(), Some("wait_ms"));
    assert_eq!(client.cancel(TranscriptId(999)).await.unwrap_err().kind, ErrorKind::NotFound);
    let load = LoadRequest { model: "impetus-nan".to_owned(), pin: None, keep_alive_ms: None };
    assert!(client.load(load).await.unwrap_err().hint.unwrap().contains("impetus-nano"));
    for repo in ["nano", "a/b/c", "../../etc", "a/..", "a/b?x=1", ""] {
        let pull = PullRequest { repo: repo.to_owned(), revision: None, name: None };
        assert_eq!(client.pull(pull).await.unwrap_err().param.as_deref(), Some("repo"), "{repo:?}");
    }
    house.stop().await;
}

#[tokio::test]
async fn a_client_can_stop_the_daemon_which_then_takes_no_more_work() {
    let house = House::start().await;
    let client = house.client().await;
    let long = client.begin(ask(100_000)).await.unwrap();
    until(&client, |status| running(status) == 1).await;
    client.stop(StopRequest { drain_ms: 60_000 }).await.unwrap();
    until(&client, |status| status.draining).await;
    assert_eq!(client.begin(ask(1)).await.unwrap_err().kind, ErrorKind::Closing);
    // A second wish may only hurry.
    client.stop(StopRequest { drain_ms: 100 }).await.unwrap();
    let events: Vec<_> = client.events(long).collect().await;
    let failed = events.last().unwrap();
    assert!(matches!(failed, Ok(Event::Failed(error)) | Err(error) if error.kind == ErrorKind::Closing), "{failed:?}");
    tokio::time::timeout(LIMIT, house.task).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_client_of_another_release_can_stop_the_daemon_too() {
    let house = House::start().await;
    let long = house.client().await.begin(ask(100_000)).await.unwrap();
    Client::end(&house.config.socket).await.unwrap();
    tokio::time::timeout(LIMIT, house.task).await.unwrap().unwrap().unwrap();
    assert_eq!(Client::end(&house.config.socket).await.unwrap_err().kind, ErrorKind::Unreachable, "{long:?}");
}

fn knock(secret: &str) -> Knock {
    Knock {
        proof: Proof::Secret(secret.to_owned()),
        peer: "127.0.0.1".to_owned(),
        purpose: Purpose::Inference,
        counted_elsewhere: false,
    }
}

fn wish(role: KeyRole) -> CreateKeyRequest {
    let limits = Default::default();
    CreateKeyRequest { label: "guest".to_owned(), role, models: vec![], expires_in_s: None, limits }
}

#[tokio::test]
async fn the_first_key_lets_its_holder_in_even_after_its_rotation() {
    let house = House::start().await;
    let client = house.client().await;
    let key = client.first_key().await.unwrap();
    let principal = client.authenticate(knock(&key)).await.unwrap();
    assert_eq!(principal.role, KeyRole::Admin);
    assert_eq!(client.authenticate(knock("imp_wrong")).await.unwrap_err().kind, ErrorKind::AuthRequired);
    let request = RotateKeyRequest { id: principal.id, grace_s: 0 };
    let issued = client.rotate_key(request).await.unwrap();
    assert_eq!(client.first_key().await.unwrap(), issued.secret);
    assert!(client.authenticate(knock(&key)).await.is_err());
    let folder = house.stop().await;
    let house = House::start_in(folder, |_| {}).await;
    let client = house.client().await;
    assert!(client.authenticate(knock(&issued.secret)).await.is_ok());
    assert!(client.authenticate(knock(&key)).await.is_err());
    house.stop().await;
}

#[tokio::test]
async fn a_connection_for_a_key_may_do_what_the_key_may_and_no_more() {
    let house = House::start().await;
    let owner = house.client().await;
    let mut keys = Vec::new();
    for role in [KeyRole::Readonly, KeyRole::User, KeyRole::Admin] {
        keys.push(owner.create_key(wish(role)).await.unwrap().card.id);
    }
    let act = async |key: &str| {
        let hello = Hello { client: "test".to_owned(), key: Some(key.to_owned()) };
        Client::connect_as(&house.config.socket, hello, Patience::STARTING).await
    };
    let [reader, user, admin] =
        [act(&keys[0]).await.unwrap(), act(&keys[1]).await.unwrap(), act(&keys[2]).await.unwrap()];
    let forbidden = |error: Option<protocol::Error>| error.map(|error| error.kind) == Some(ErrorKind::Forbidden);
    assert_eq!(reader.models().await.unwrap().len(), 1);
    assert!(forbidden(reader.begin(ask(2)).await.err()) && forbidden(reader.keys().await.err()));
    assert!(ends_well(&user, user.begin(ask(2)).await.unwrap()).await);
    assert!(forbidden(user.keys().await.err()) && forbidden(user.unload("impetus-nano").await.err()));
    assert!(forbidden(user.first_key().await.err()) && forbidden(admin.first_key().await.err()));
    assert_eq!(admin.keys().await.unwrap().len(), 4);
    admin.revoke_key(&keys[1]).await.unwrap();
    assert_eq!(user.models().await.unwrap_err().kind, ErrorKind::AuthRequired);
    assert_eq!(act(&keys[1]).await.unwrap_err().kind, ErrorKind::AuthRequired);
    house.stop().await;
}

#[tokio::test]
async fn requests_and_changes_are_written_down_for_whoever_made_them() {
    let house = House::start().await;
    let owner = house.client().await;
    let limits = LimitsRequest { requests_per_day: Some(2), ..LimitsRequest::default() };
    let wish = CreateKeyRequest { models: vec!["impetus-nano".to_owned()], limits, ..wish(KeyRole::User) };
    let key = owner.create_key(wish).await.unwrap().card.id;
    let hello = Hello { client: "test".to_owned(), key: Some(key.clone()) };
    let client = Client::connect_as(&house.config.socket, hello, Patience::STARTING).await.unwrap();
    assert!(ends_well(&client, client.begin(ask(4)).await.unwrap()).await);
    let other = GenerateRequest { model: Some("other".to_owned()), ..ask(4) };
    assert_eq!(client.begin(other).await.unwrap_err().kind, ErrorKind::Forbidden);
    let bad = GenerateRequest { choices: 0, ..ask(4) };
    assert_eq!(client.begin(bad).await.unwrap_err().kind, ErrorKind::Invalid);
    let spent = async || owner.keys().await.unwrap().into_iter().find(|card| card.id == key).unwrap().spent_today;
    assert_eq!(spent().await.requests, 1, "what no model began with costs nothing");
    assert!(ends_well(&client, client.begin(ask(4)).await.unwrap()).await);
    assert_eq!(client.begin(ask(4)).await.unwrap_err().kind, ErrorKind::RateLimited);
    let page = async |after| {
        let request = RequestsRequest { limit: 3, after, key: Some(key.clone()), ..RequestsRequest::default() };
        owner.requests(request).await.unwrap()
    };
    let written = async {
        while page(None).await.entries.first().is_none_or(|entry| entry.status != "rate_limited") {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(LIMIT, written).await.expect("five requests are written down in time");
    let newest = page(None).await;
    let statuses: Vec<_> = newest.entries.iter().map(|entry| entry.status.as_str()).collect();
    assert_eq!(statuses, ["rate_limited", "ok", "invalid"]);
    let first = page(newest.next).await.entries;
    assert_eq!((first.len(), first[1].status.as_str(), first[1].completion_tokens), (2, "ok", 4));
    assert_eq!(first[1].model.as_deref(), Some("impetus-nano"));
    let card = owner.keys().await.unwrap().into_iter().find(|card| card.id == key).unwrap();
    assert_eq!(card.spent_today.requests, 2);
    owner.unload("impetus-nano").await.unwrap();
    let actions: Vec<_> = owner.audit(AuditRequest::default()).await.unwrap().entries;
    let ours = actions.iter().filter(|entry| entry.actor != "impetusd");
    assert_eq!(ours.map(|entry| entry.action.as_str()).collect::<Vec<_>>(), ["model.unload", "key.create"]);
    house.stop().await;
}

#[tokio::test]
async fn a_name_that_no_model_can_have_is_refused_and_not_kept() {
    let house = House::start().await;
    let client = house.client().await;
    for name in ["x".repeat(1 << 20), "\u{1b}]52;c;AAAA\u{7}".to_owned()] {
        let named = |ask| GenerateRequest { model: Some(name.clone()), ..ask };
        assert_eq!(client.begin(named(ask(1))).await.unwrap_err().kind, ErrorKind::ModelNotFound);
        let embed = EmbedRequest { model: Some(name.clone()), ..embed_nothing() };
        assert_eq!(client.embed(embed).await.unwrap_err().kind, ErrorKind::ModelNotFound);
        let error = client.tokenize(letters(&name)).await.unwrap_err();
        assert!(error.kind == ErrorKind::ModelNotFound && error.message.len() < 200, "{error:?}");
    }
    let house = House::start_in(house.stop().await, |_| {}).await;
    let kept = house.client().await.requests(RequestsRequest::default()).await.unwrap().entries;
    assert_eq!((kept.len(), kept[0].status.as_str(), &kept[0].model), (4, "model_not_found", &None));
    assert!(kept.iter().all(|entry| entry.model.is_none()), "{:.300}", format!("{kept:?}"));
    house.stop().await;
}

fn embed_nothing() -> EmbedRequest {
    let (inputs, overlong) = (vec![Input::Text("hi".to_owned())], Overlong::Refuse);
    let (dimensions, tokens_max, deadline_ms) = (None, None, None);
    EmbedRequest { model: None, inputs, dimensions, overlong, tokens_max, priority: Priority::Normal, deadline_ms }
}

#[tokio::test]
async fn only_a_load_that_changed_something_is_written_down_and_no_pin_that_was_refused() {
    let house = House::start().await;
    let client = house.client().await;
    let change = SettingChange { name: "memory.budget".to_owned(), value: Some("100MB".to_owned()) };
    client.change_settings(ChangeSettingsRequest { changes: vec![change] }).await.unwrap();
    add_scripted(&house, &client, "large", r#"{"megabytes": 101}"#).await;
    let load = |model: &str, pin| LoadRequest { model: model.to_owned(), pin, keep_alive_ms: None };
    for _ in 0..3 {
        assert!(ends_well(&client, client.load(load("impetus-nano", None)).await.unwrap()).await);
    }
    assert_eq!(client.load(load("nobody", Some(true))).await.unwrap_err().kind, ErrorKind::ModelNotFound);
    assert_eq!(client.load(load("large", Some(true))).await.unwrap_err().kind, ErrorKind::NoMemory);
    let entries = client.audit(AuditRequest::default()).await.unwrap().entries;
    let actions = entries.iter().map(|entry| format!("{} {}", entry.action, entry.subject));
    assert_eq!(actions.take(2).collect::<Vec<_>>(), ["model.load impetus-nano", "model.add large"]);
    let house = House::start_in(house.stop().await, |_| {}).await;
    assert!(house.client().await.models().await.unwrap().iter().all(|card| !card.pinned));
    house.stop().await;
}

/// Adds a model whose worker follows `script`.
async fn add_scripted(house: &House, client: &Client, name: &str, script: &str) {
    let path = house.folder.path().join(name);
    std::fs::create_dir(&path).unwrap();
    std::fs::write(path.join("script.json"), script).unwrap();
    client.add(AddRequest { path: path.to_str().unwrap().to_owned(), name: None }).await.unwrap();
}

fn letters(model: &str) -> TokenizeRequest {
    let prompt = Prompt::Text("hi".to_owned());
    TokenizeRequest { model: Some(model.to_owned()), prompt, special: Special::Plain, pieces: false }
}

#[tokio::test]
async fn a_question_brings_the_model_into_memory_and_is_answered() {
    let house = House::start().await;
    let client = house.client().await;
    let tokens = client.tokenize(letters("impetus-nano")).await.unwrap();
    assert_eq!((tokens.model.as_str(), tokens.tokens), ("impetus-nano", vec![104, 105]));
    let words = DetokenizeRequest { model: None, tokens: vec![104, 105] };
    assert_eq!(client.detokenize(words).await.unwrap(), "hi");
    assert_eq!(client.tokenize(letters("nobody")).await.unwrap_err().kind, ErrorKind::ModelNotFound);
    house.stop().await;
}

#[tokio::test]
async fn a_question_outlives_one_worker_and_is_given_up_when_all_die() {
    let house = House::start_in(tempfile::tempdir().unwrap(), |config| {
        config.worker.backoff = Duration::from_millis(5);
    })
    .await;
    let client = house.client().await;
    add_scripted(&house, &client, "mortal", r#"{"die_at": 0, "lives": 1}"#).await;
    assert_eq!(client.tokenize(letters("mortal")).await.unwrap().tokens, [104, 105]);
    add_scripted(&house, &client, "doomed", r#"{"die_at": 0}"#).await;
    assert_eq!(client.tokenize(letters("doomed")).await.unwrap_err().kind, ErrorKind::Busy);
    house.stop().await;
}

#[tokio::test]
async fn a_document_outlives_the_daemon_and_bad_ones_are_refused_by_name() {
    let house = House::start().await;
    let client = house.client().await;
    let keep = |id: &str, body: &str, replaces| KeepRequest {
        collection: Collection::Answers,
        id: id.to_owned(),
        label: String::new(),
        body: Json(body.to_owned()),
        replaces,
        ttl_ms: Some(3_600_000),
    };
    assert_eq!(client.keep(keep("a", "[1]", Some(0))).await.unwrap().version, 1);
    let refused = client.keep(keep("a", "[2]", Some(0))).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Conflict);
    for (id, body, param) in [("../a", "[]", "id"), ("", "[]", "id"), ("a", "[", "body")] {
        assert_eq!(client.keep(keep(id, body, None)).await.unwrap_err().param.as_deref(), Some(param), "{id} {body}");
    }
    let house = House::start_in(house.stop().await, |_| {}).await;
    let client = house.client().await;
    let id = |collection, id: &str| RecordId { collection, id: id.to_owned() };
    assert_eq!(client.recall(id(Collection::Answers, "a")).await.unwrap().body.0, "[1]");
    assert_eq!(client.recall(id(Collection::Sessions, "a")).await.unwrap_err().kind, ErrorKind::NotFound);
    client.keep(keep("b", "[]", None)).await.unwrap();
    let page = ListRequest { collection: Collection::Answers, after: None, limit: 1 };
    let list = client.list(page).await.unwrap();
    assert_eq!((list.cards.len(), list.cards[0].id.as_str(), list.more), (1, "b", true));
    client.forget(id(Collection::Answers, "a")).await.unwrap();
    assert_eq!(client.forget(id(Collection::Answers, "a")).await.unwrap_err().kind, ErrorKind::NotFound);
    house.stop().await;
}
