//! Models come back as they went in, and the default follows them.

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
        keep_alive_ms: Some(300_000),
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
        assert!(store.models().insert(model.clone()).unwrap());
    }
    assert_eq!(store.models().list().unwrap(), models);
    assert_eq!(store.models().get("b").unwrap().as_ref(), Some(&models[1]));
    assert_eq!(store.models().get("B").unwrap(), None);
}

#[test]
fn a_taken_name_is_refused_and_the_first_model_stays() {
    let (_directory, store) = store();
    store.models().insert(model("a", Source::Local)).unwrap();
    assert!(!store.models().insert(model("a", hub("1"))).unwrap());
    assert_eq!(store.models().get("a").unwrap().unwrap().source, Source::Local);
}

#[test]
fn putting_a_newer_revision_keeps_what_its_owner_set() {
    let (_directory, store) = store();
    store.models().put(model("a", hub("1"))).unwrap();
    store.models().set_pinned("a", true).unwrap();
    store.models().set_keep_alive("a", Some(u64::MAX)).unwrap();
    store.models().put(Model { created_unix_s: 9, ..model("a", hub("2")) }).unwrap();
    let found = store.models().get("a").unwrap().unwrap();
    assert_eq!(found.source, hub("2"));
    assert!(found.pinned);
    assert_eq!(found.keep_alive_ms, Some(i64::MAX as u64));
    assert_eq!(found.created_unix_s, 1_790_000_000);
}

#[test]
fn changing_or_removing_what_is_not_there_says_so() {
    let (_directory, store) = store();
    assert!(!store.models().set_pinned("a", true).unwrap());
    assert!(!store.models().set_keep_alive("a", None).unwrap());
    assert!(!store.models().remove("a").unwrap());
    assert!(!store.models().set_default("a").unwrap());
}

#[test]
fn the_default_model_is_kept_until_it_is_removed() {
    let (_directory, store) = store();
    assert_eq!(store.models().default().unwrap(), None);
    store.models().insert(model("a", Source::Bundled)).unwrap();
    assert!(store.models().set_default("a").unwrap());
    assert_eq!(store.models().default().unwrap().as_deref(), Some("a"));
    assert!(store.models().remove("a").unwrap());
    assert_eq!(store.models().default().unwrap(), None);
}

#[test]
fn names_are_data_and_never_sql() {
    let (_directory, store) = store();
    let name = "a'; DROP TABLE models; --";
    store.models().insert(model(name, Source::Local)).unwrap();
    assert!(store.models().get(name).unwrap().is_some());
}
