//! Imports of GGUF files: whole models appear, and whatever goes wrong leaves nothing behind.

use std::path::PathBuf;

use protocol::model::ImportRequest;
use protocol::transcript::Stage;

use super::*;

/// Writes a file for the scripted worker to import.
fn file(house: &House, text: &str) -> String {
    let path = house.folder.path().join("some model.gguf");
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

fn request(path: String) -> ImportRequest {
    ImportRequest { path, name: Some("m".to_owned()) }
}

/// The folders of imported models.
fn folders(house: &House) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(house.config.home.join("models/imported"));
    entries.into_iter().flatten().map(|entry| entry.unwrap().path()).collect()
}

#[tokio::test]
async fn a_gguf_file_becomes_a_model_and_its_folder_goes_with_it() {
    let house = House::start().await;
    let client = house.client().await;
    let path = file(&house, "{}");
    let id = client.import(ImportRequest { path: path.clone(), name: Some("org/m".to_owned()) }).await.unwrap();
    let events: Vec<_> = client.events(id).map(Result::unwrap).collect().await;
    let importing = |event: &Event| matches!(event, Event::Progress(progress) if progress.stage == Stage::Importing);
    assert!(events.iter().any(importing) && matches!(events.last(), Some(Event::Finished(_))), "{events:?}");
    let generation = GenerateRequest { model: Some("org/m".to_owned()), ..ask(2) };
    assert!(ends_well(&client, client.begin(generation).await.unwrap()).await);
    let [folder] = &folders(&house)[..] else { panic!("one folder: {:?}", folders(&house)) };
    assert!(!folder.join("unfinished").exists());
    let taken = client.import(ImportRequest { path: path.clone(), name: Some("org/m".to_owned()) }).await.unwrap_err();
    assert_eq!(taken.kind, ErrorKind::Conflict, "{}", taken.message);
    client.remove(RemoveRequest { model: "org/m".to_owned(), delete_files: true }).await.unwrap();
    assert_eq!(folders(&house), [""; 0].map(PathBuf::from));
    assert!(std::fs::exists(path).unwrap(), "the file itself stays");
    house.stop().await;
}

#[tokio::test]
async fn an_import_that_fails_or_dies_says_why_and_leaves_nothing() {
    let house = House::start().await;
    let client = house.client().await;
    for (text, says) in [("fail", "mamba"), ("die", "ended early"), ("no script", "holds no script")] {
        let id = client.import(request(file(&house, text))).await.unwrap();
        let events: Vec<_> = client.events(id).collect().await;
        let Some(Err(error)) = events.last() else { panic!("{text}: {events:?}") };
        assert!(error.message.contains(says), "{text}: {}", error.message);
        assert_eq!(folders(&house), [""; 0].map(PathBuf::from), "{text}");
    }
    let models = client.models().await.unwrap();
    assert!(models.iter().all(|card| card.name != "m"));
    house.stop().await;
}

#[tokio::test]
async fn an_import_that_says_nothing_any_more_is_given_up() {
    let limit = |config: &mut Config| config.worker.inspect = Duration::from_secs(1);
    let house = House::start_in(tempfile::tempdir().unwrap(), limit).await;
    let client = house.client().await;
    let id = client.import(request(file(&house, "hang"))).await.unwrap();
    let events: Vec<_> = client.events(id).collect().await;
    let Some(Err(error)) = events.last() else { panic!("{events:?}") };
    assert!(error.message.contains("came no further within 1 s"), "{}", error.message);
    house.stop().await;
}

#[tokio::test]
async fn a_cancelled_import_and_one_of_a_daemon_that_ends_leave_nothing() {
    let house = House::start().await;
    let client = house.client().await;
    let path = file(&house, "hang");
    let id = client.import(request(path.clone())).await.unwrap();
    let twice = client.import(request(path.clone())).await.unwrap_err();
    assert_eq!(twice.kind, ErrorKind::Conflict, "{}", twice.message);
    client.cancel(id).await.unwrap();
    let events: Vec<_> = client.events(id).collect().await;
    assert!(matches!(events.last(), Some(Err(error)) if error.kind == ErrorKind::Cancelled), "{events:?}");
    assert_eq!(folders(&house), [""; 0].map(PathBuf::from));
    client.import(request(path)).await.unwrap();
    let home = house.config.home.clone();
    let _folder = house.stop().await;
    let left = std::fs::read_dir(home.join("models/imported")).into_iter().flatten().count();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn what_a_killed_daemon_left_unfinished_is_swept_and_whole_models_stay() {
    let house = House::start().await;
    let client = house.client().await;
    let id = client.import(request(file(&house, "{}"))).await.unwrap();
    assert!(ends_well(&client, id).await);
    let [whole] = &folders(&house)[..] else { panic!("one folder") };
    let (whole, left) = (whole.clone(), house.config.home.join("models/imported/left-gguf"));
    drop(client);
    let folder = house.stop().await;
    std::fs::create_dir(&left).unwrap();
    std::fs::write(left.join("unfinished"), "").unwrap();
    std::fs::write(left.join("model.safetensors"), "half").unwrap();
    // Killed between the catalogue and the marker.
    std::fs::write(whole.join("unfinished"), "").unwrap();
    let house = House::start_in(folder, |_| {}).await;
    assert!(house.client().await.models().await.unwrap().iter().any(|card| card.name == "m"));
    assert_eq!(folders(&house), std::slice::from_ref(&whole));
    assert!(!whole.join("unfinished").exists());
    house.stop().await;
}

#[tokio::test]
async fn a_path_that_is_no_file_is_refused_with_what_to_do() {
    let house = House::start().await;
    let client = house.client().await;
    for path in ["relative.gguf", "/nowhere/at/all.gguf", "/tmp"] {
        let error = client.import(request(path.to_owned())).await.unwrap_err();
        assert_eq!(error.param.as_deref(), Some("path"), "{path}: {}", error.message);
    }
    let add = AddRequest { path: file(&house, "{}"), name: None };
    let error = client.add(add).await.unwrap_err();
    assert!(error.hint.unwrap().contains("models import"));
    house.stop().await;
}
