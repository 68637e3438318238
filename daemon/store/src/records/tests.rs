//! Documents come back as they were written, to those who may see them, for as long as they are to be kept.

use super::*;
use crate::keys::tests::new_key;
use crate::store::tests::store;
use crate::{Role, Secret};

const ROOMY: Bounds = Bounds { count: 100, bytes: 1 << 20, full: Full::Drop };

fn draft(id: &str, body: &str) -> Draft {
    Draft {
        collection: "answers",
        id: id.into(),
        owner: None,
        label: format!("about {id}"),
        body: body.into(),
        replaces: None,
        expires_unix_ms: None,
    }
}

fn names(store: &Store, reader: Reader, after: Option<&str>, count: u32, now: i64) -> Vec<String> {
    let listed = store.records().list("answers", reader, after.map(str::to_owned), count, now).unwrap();
    listed.into_iter().map(|about| about.id).collect()
}

fn find(store: &Store, id: &str, reader: Reader, now: i64) -> Option<Record> {
    store.records().find("answers", id, reader, now).unwrap()
}

#[test]
fn a_document_is_found_changed_and_forgotten() {
    let (_directory, store) = store();
    let Kept::Written(first) = store.records().keep(draft("a", "[1]"), ROOMY, 5).unwrap() else { panic!() };
    assert_eq!((first.version, first.created_unix_ms, first.updated_unix_ms, first.bytes), (1, 5, 5, 3));
    let Kept::Written(second) = store.records().keep(draft("a", "[1, 2]"), ROOMY, 9).unwrap() else { panic!() };
    assert_eq!((second.version, second.created_unix_ms, second.updated_unix_ms), (2, 5, 9));
    assert_eq!(find(&store, "a", Reader::Anyone, 9), Some(Record { about: second, body: "[1, 2]".into() }));
    assert_eq!(store.records().find("other", "a", Reader::Anyone, 9).unwrap(), None);
    assert!(store.records().forget("answers", "a", Reader::Anyone, 9).unwrap());
    assert!(!store.records().forget("answers", "a", Reader::Anyone, 9).unwrap());
}

#[test]
fn a_change_made_meanwhile_is_not_overwritten() {
    let (_directory, store) = store();
    let keep = |replaces| store.records().keep(Draft { replaces, ..draft("a", "[]") }, ROOMY, 1).unwrap();
    assert_eq!(keep(Some(1)), Kept::Differs(None));
    assert!(matches!(keep(Some(0)), Kept::Written(_)));
    assert!(matches!(keep(Some(0)), Kept::Differs(Some(found)) if found.version == 1));
    assert!(matches!(keep(Some(1)), Kept::Written(written) if written.version == 2));
}

#[test]
fn a_key_sees_and_changes_its_own_documents_only() {
    let (_directory, store) = store();
    let key = || store.keys().insert(&Secret::new().unwrap(), new_key("k", Role::User)).unwrap().id;
    let (mine, other) = (key(), key());
    let owned = |body| Draft { owner: Some(mine.clone()), ..draft("a", body) };
    store.records().keep(owned("[1]"), ROOMY, 1).unwrap();
    let (me, them) = (Reader::Key(mine.clone()), Reader::Key(other.clone()));
    assert!(find(&store, "a", me.clone(), 1).is_some());
    assert!(find(&store, "a", Reader::Anyone, 1).is_some());
    assert_eq!(find(&store, "a", them.clone(), 1), None);
    assert_eq!(names(&store, them.clone(), None, 9, 1), [""; 0]);
    assert!(!store.records().forget("answers", "a", them, 1).unwrap());
    let theirs = |replaces| Draft { owner: Some(other.clone()), replaces, ..draft("a", "[2]") };
    assert_eq!(store.records().keep(theirs(Some(1)), ROOMY, 1).unwrap(), Kept::Differs(None));
    assert_eq!(find(&store, "a", me, 1).unwrap().body, "[1]");
}

#[test]
fn a_name_means_to_every_key_what_it_called_so_itself() {
    let (_directory, store) = store();
    let key = || store.keys().insert(&Secret::new().unwrap(), new_key("k", Role::User)).unwrap().id;
    let keys = [key(), key()];
    let bodies = ["[1]", "[2]"];
    for (at, (key, body)) in keys.iter().zip(bodies).enumerate() {
        let new = Draft { owner: Some(key.clone()), replaces: Some(0), ..draft("a", body) };
        let Kept::Written(about) = store.records().keep(new, ROOMY, 1 + at as i64).unwrap() else { panic!("{body}") };
        assert_eq!(about.version, 1);
    }
    let reader = |at: usize| Reader::Key(keys[at].clone());
    for (at, body) in bodies.into_iter().enumerate() {
        assert_eq!(find(&store, "a", reader(at), 9).unwrap().body, body);
        assert_eq!(names(&store, reader(at), None, 9, 9), ["a"]);
    }
    store.records().keep(Draft { owner: Some(keys[0].clone()), ..draft("b", "[]") }, ROOMY, 0).unwrap();
    // A name of others is no place in one's own list.
    assert_eq!(names(&store, reader(1), Some("b"), 9, 9), [""; 0]);
    assert_eq!(find(&store, "a", Reader::Anyone, 9).unwrap().body, "[2]", "what was written last");
    assert_eq!(names(&store, Reader::Anyone, None, 9, 9), ["a", "a", "b"]);
    assert_eq!(names(&store, Reader::Anyone, Some("a"), 9, 9), ["b"]);
    store.records().keep(draft("a", "[0]"), ROOMY, 0).unwrap();
    assert_eq!(find(&store, "a", Reader::Anyone, 9).unwrap().body, "[0]", "the socket's own comes first");
    assert!(store.records().forget("answers", "a", reader(0), 9).unwrap());
    assert_eq!(find(&store, "a", reader(0), 9), None);
    assert_eq!(find(&store, "a", reader(1), 9).unwrap().body, "[2]");
}

#[test]
fn the_user_of_the_socket_changes_what_belongs_to_a_key_only_knowing_its_version() {
    let (_directory, store) = store();
    let key = store.keys().insert(&Secret::new().unwrap(), new_key("k", Role::User)).unwrap().id;
    store.records().keep(Draft { owner: Some(key.clone()), ..draft("a", "[1]") }, ROOMY, 1).unwrap();
    let change = |replaces| store.records().keep(Draft { replaces, ..draft("a", "[2]") }, ROOMY, 2).unwrap();
    assert!(matches!(change(Some(2)), Kept::Differs(Some(_))));
    assert!(matches!(change(Some(1)), Kept::Written(about) if about.owner.as_ref() == Some(&key)));
    assert_eq!(find(&store, "a", Reader::Key(key.clone()), 2).unwrap().body, "[2]");
    assert!(matches!(change(None), Kept::Written(about) if about.owner.is_none()), "it has the name for itself too");
    assert_eq!(find(&store, "a", Reader::Key(key), 2).unwrap().about.version, 2);
}

#[test]
fn what_has_expired_is_gone_and_is_dropped_with_the_next_write() {
    let (_directory, store) = store();
    store.records().keep(Draft { expires_unix_ms: Some(10), ..draft("a", "[]") }, ROOMY, 1).unwrap();
    assert!(find(&store, "a", Reader::Anyone, 9).is_some());
    assert_eq!(find(&store, "a", Reader::Anyone, 10), None);
    assert_eq!(names(&store, Reader::Anyone, None, 9, 10), [""; 0]);
    store.records().keep(draft("b", "[]"), ROOMY, 10).unwrap();
    // Seen from before its end, it would still be there.
    assert_eq!(names(&store, Reader::Anyone, None, 9, 1), ["b"]);
}

#[test]
fn lists_go_from_the_newest_on_in_pages() {
    let (_directory, store) = store();
    for (at, id) in ["a", "b", "c", "d"].into_iter().enumerate() {
        store.records().keep(draft(id, "[]"), ROOMY, at as i64 / 2).unwrap();
    }
    assert_eq!(names(&store, Reader::Anyone, None, 2, 9), ["d", "c"]);
    assert_eq!(names(&store, Reader::Anyone, Some("c"), 9, 9), ["b", "a"]);
    assert_eq!(names(&store, Reader::Anyone, Some("nobody"), 9, 9), [""; 0]);
}

#[test]
fn the_oldest_go_when_a_collection_is_full() {
    let (_directory, store) = store();
    let three = Bounds { count: 3, bytes: 1 << 20, full: Full::Drop };
    for (at, id) in ["a", "b", "c", "a", "d"].into_iter().enumerate() {
        store.records().keep(draft(id, "[]"), three, at as i64).unwrap();
    }
    assert_eq!(names(&store, Reader::Anyone, None, 9, 9), ["d", "a", "c"]);
    let small = Bounds { count: 100, bytes: 8, full: Full::Drop };
    store.records().keep(draft("e", "[1,2]"), small, 20).unwrap();
    assert_eq!(names(&store, Reader::Anyone, None, 9, 21), ["e", "d"]);
    // Another collection has bounds of its own.
    store.records().keep(Draft { collection: "other", ..draft("z", "[]") }, three, 30).unwrap();
    assert_eq!(names(&store, Reader::Anyone, None, 9, 31), ["e", "d"]);
}

#[test]
fn a_full_collection_that_drops_nothing_takes_nothing_new() {
    let (_directory, store) = store();
    let keep = |id: &str, body: &str| {
        store.records().keep(draft(id, body), Bounds { count: 2, bytes: 8, full: Full::Refuse }, 1).unwrap()
    };
    assert!(matches!(keep("a", "[1]"), Kept::Written(_)));
    assert_eq!(keep("b", "[1, 2]"), Kept::Full);
    assert!(matches!(keep("b", "[1]"), Kept::Written(_)));
    assert_eq!(keep("c", "[]"), Kept::Full);
    // What is there can be written anew within the bounds, and what could not is as it was.
    assert!(matches!(keep("b", "[12]"), Kept::Written(_)));
    assert_eq!(keep("a", "[1234]"), Kept::Full);
    assert_eq!(find(&store, "a", Reader::Anyone, 1).unwrap().body, "[1]");
    assert_eq!(names(&store, Reader::Anyone, None, 9, 1).len(), 2);
}

#[test]
fn one_busy_key_pushes_out_nothing_of_the_others_and_fills_no_more_than_half() {
    let (_directory, store) = store();
    let key = || store.keys().insert(&Secret::new().unwrap(), new_key("k", Role::User)).unwrap().id;
    let (calm, busy) = (key(), key());
    let keep = |owner: &str, id: &str, body: &str, bounds, now| {
        store.records().keep(Draft { owner: Some(owner.to_owned()), ..draft(id, body) }, bounds, now).unwrap()
    };
    let few = Bounds { count: 4, bytes: 1 << 20, full: Full::Drop };
    keep(&calm, "mine", "[]", few, 0);
    for (at, id) in ["a", "b", "c", "d", "e"].into_iter().enumerate() {
        keep(&busy, id, "[]", few, 1 + at as i64);
    }
    assert_eq!(names(&store, Reader::Anyone, None, 9, 9), ["e", "d", "c", "mine"]);
    keep(&busy, "large", "[\"0123456789\"]", Bounds { count: 9, bytes: 18, full: Full::Drop }, 7);
    assert_eq!(names(&store, Reader::Anyone, None, 9, 9), ["large", "e", "mine"]);

    let half = Bounds { count: 8, bytes: 1 << 20, full: Full::Refuse };
    for id in ["f", "g"] {
        assert!(matches!(keep(&busy, id, "[]", half, 8), Kept::Written(_)), "{id}");
    }
    assert_eq!(keep(&busy, "h", "[]", half, 8), Kept::Full);
    assert!(matches!(keep(&calm, "h", "[]", half, 8), Kept::Written(_)));
    let small = Bounds { count: 99, bytes: 24, full: Full::Refuse };
    assert_eq!(keep(&busy, "f", "[1]", small, 9), Kept::Full, "it has more than half of the bytes");
}
