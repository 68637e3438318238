//! Pulls through the daemon's verbs: what becomes of models, of their files, and of both when a repository goes on.

use std::path::Path;

use protocol::model::ModelCard;

use super::*;
use crate::hub::tests::FakeHub;

/// A daemon that pulls from `fake`.
async fn house(fake: &FakeHub, folder: tempfile::TempDir) -> House {
    let cache = folder.path().join("hub");
    House::start_in(folder, |config| {
        config.hub.endpoint = fake.address.clone();
        config.hub.cache = cache.to_str().unwrap().to_owned();
    })
    .await
}

fn wish(repo: &str) -> PullRequest {
    PullRequest { repo: repo.to_owned(), revision: None, name: None }
}

async fn pull(client: &Client, request: PullRequest) {
    let id = client.pull(request).await.unwrap();
    let events: Vec<_> = client.events(id).collect().await;
    assert!(matches!(events.last(), Some(Ok(Event::Finished(_)))), "{events:?}");
}

async fn card(client: &Client, model: &str) -> ModelCard {
    client.models().await.unwrap().into_iter().find(|card| card.name == model).unwrap()
}

async fn answers(client: &Client, model: &str) -> bool {
    let request = GenerateRequest { model: Some(model.to_owned()), ..ask(2) };
    ends_well(client, client.begin(request).await.unwrap()).await
}

async fn remove(client: &Client, model: &str) {
    client.remove(RemoveRequest { model: model.to_owned(), delete_files: true }).await.unwrap();
}

#[tokio::test]
async fn a_pulled_model_serves_and_its_files_go_with_it() {
    let fake = FakeHub::start();
    let house = house(&fake, tempfile::tempdir().unwrap()).await;
    let client = house.client().await;
    let events: Vec<_> =
        client.events(client.pull(wish("org/model")).await.unwrap()).map(Result::unwrap).collect().await;
    assert!(matches!(events.last(), Some(Event::Finished(_))), "{events:?}");
    assert!(events.iter().any(|event| matches!(event, Event::Progress(progress) if progress.done > 400_000)));
    let card = card(&client, "org/model").await;
    assert!(matches!(card.source, Source::Hub { .. }) && card.facts.weights_bytes == 7_000_000, "{card:?}");
    assert!(answers(&client, "org/model").await);
    remove(&client, "org/model").await;
    // The scripted worker counts its lives in the folder, which so is not Impetus's alone.
    assert!(!Path::new(&card.path).join("model.safetensors").exists());
    let events: Vec<_> = client.events(client.pull(wish("org/missing")).await.unwrap()).collect().await;
    let failed = events.last().unwrap();
    assert!(matches!(failed, Ok(Event::Failed(error)) | Err(error) if error.kind == ErrorKind::NotFound), "{failed:?}");
    house.stop().await;
}

#[tokio::test]
async fn a_newer_commit_takes_the_place_of_the_older_one_at_once_and_after_a_restart() {
    let fake = FakeHub::start();
    let first = house(&fake, tempfile::tempdir().unwrap()).await;
    let client = first.client().await;
    pull(&client, wish("org/model")).await;
    let older = card(&client, "org/model").await;
    assert!(answers(&client, "org/model").await);
    fake.advance();
    pull(&client, wish("org/model")).await;
    let newer = card(&client, "org/model").await;
    assert!(newer.source != older.source && newer.path != older.path, "{newer:?}");
    assert!(answers(&client, "org/model").await);
    let second = house(&fake, first.stop().await).await;
    let client = second.client().await;
    assert_eq!(card(&client, "org/model").await.path, newer.path);
    assert!(answers(&client, "org/model").await);
    second.stop().await;
}

#[tokio::test]
async fn a_name_that_another_folder_has_is_refused_and_stays_what_it_was_on_disk() {
    let fake = FakeHub::start();
    let first = house(&fake, tempfile::tempdir().unwrap()).await;
    let client = first.client().await;
    add_scripted(&first, &client, "mine", "{}").await;
    let path = card(&client, "mine").await.path;
    for (name, kind) in [("mine", ErrorKind::Conflict), ("my model", ErrorKind::Invalid)] {
        let refused = client.pull(PullRequest { name: Some(name.to_owned()), ..wish("org/model") }).await.unwrap_err();
        assert_eq!((refused.kind, refused.param.as_deref()), (kind, Some("name")), "{}", refused.message);
    }
    assert_eq!(fake.ranges(), [""; 0], "nothing was fetched for it");
    let second = house(&fake, first.stop().await).await;
    assert_eq!(card(&second.client().await, "mine").await.path, path);
    second.stop().await;
}

#[tokio::test]
async fn a_model_that_cannot_be_served_is_refused_before_its_weights_are_fetched() {
    let fake = FakeHub::start();
    fake.make_strange();
    let house = house(&fake, tempfile::tempdir().unwrap()).await;
    let client = house.client().await;
    let events: Vec<_> = client.events(client.pull(wish("org/model")).await.unwrap()).collect().await;
    let Some(Err(error) | Ok(Event::Failed(error))) = events.last() else { panic!("{events:?}") };
    assert!(error.kind == ErrorKind::Unsupported && error.message.contains("strange"), "{error:?}");
    assert_eq!(fake.ranges().len(), 2, "config.json and script.json");
    house.stop().await;
}

#[tokio::test]
async fn files_of_a_repository_stay_until_the_last_model_of_it_goes() {
    let fake = FakeHub::start();
    fake.advance();
    let house = house(&fake, tempfile::tempdir().unwrap()).await;
    let client = house.client().await;
    let (revision, name) = (Some("v1".to_owned()), Some("model-v1".to_owned()));
    pull(&client, wish("org/model")).await;
    pull(&client, PullRequest { revision, name, ..wish("org/model") }).await;
    let (main, v1) = (card(&client, "org/model").await, card(&client, "model-v1").await);
    assert_ne!(main.path, v1.path);
    client.add(AddRequest { path: v1.path.clone(), name: Some("added".to_owned()) }).await.unwrap();
    remove(&client, "org/model").await;
    assert!(answers(&client, "model-v1").await, "it lost its files");
    client.unload("model-v1").await.unwrap();
    remove(&client, "model-v1").await;
    assert!(answers(&client, "added").await, "it lost its files");
    client.remove(RemoveRequest { model: "added".to_owned(), delete_files: true }).await.unwrap();
    pull(&client, wish("org/model")).await;
    remove(&client, "org/model").await;
    assert!(
        ![&main.path, &v1.path].iter().any(|path| Path::new(path).join("config.json").exists()),
        "the last one takes all"
    );
    house.stop().await;
}
