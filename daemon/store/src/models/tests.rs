//! Models come back as they went in.

use serde_json::json;

use super::*;
use crate::store::tests::store;

fn model(name: &str, source: Source) -> Model {
    Model {
        name: name.into(),
        source,
        path: format!("/models/{name}"),
        facts: json!({ "architecture": "qwen3", "parameters": 5_000_000 }),
        pinned: false,
        created_unix_s: 1_790_000_000,
    }
}

fn hub(revision: &str) -> Source {
    Source::Hub { repo: "ORG/NAME".into(), revision: revision.into() }
}

#[test]
fn models_of_every_source_come_back_by_name() {
    let (_directory, store) = store();
    let models = [model("a", Source::Bundled), model("b", hub("1")), model("c", Source::Local)];
    for model in models.iter().rev() {
        store.models().put(model.clone()).unwrap();
    }
    assert_eq!(store.models().list().unwrap(), models);
}

#[test]
fn putting_a_newer_revision_keeps_what_its_owner_set() {
    let (_directory, store) = store();
    store.models().put(model("a", hub("1"))).unwrap();
    store.models().set_pinned("a", true).unwrap();
    store.models().put(Model { created_unix_s: 9, ..model("a", hub("2")) }).unwrap();
    let kept = Model { pinned: true, ..model("a", hub("2")) };
    assert_eq!(store.models().list().unwrap(), [kept]);
}

#[test]
fn changing_or_removing_what_is_not_there_says_so() {
    let (_directory, store) = store();
    assert!(!store.models().set_pinned("a", true).unwrap());
    assert!(!store.models().remove("a").unwrap());
}

#[test]
fn names_are_data_and_never_sql() {
    let (_directory, store) = store();
    let name = "a'; DROP TABLE models; --";
    store.models().put(model(name, Source::Local)).unwrap();
    assert_eq!(store.models().list().unwrap(), [model(name, Source::Local)]);
}
