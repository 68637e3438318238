//! The logs keep what they are given, in order, and no more than their bound.

use super::*;
use crate::store::tests::store;
use crate::{Change, Role, Secret};

fn request(time_unix_ms: i64, key_id: Option<&str>) -> Request {
    Request {
        time_unix_ms,
        verb: "begin".into(),
        model: Some("impetus-nano".into()),
        key_id: key_id.map(str::to_owned),
        status: "ok".into(),
        prompt_tokens: 10,
        completion_tokens: u32::MAX,
        latency_ms: 7,
    }
}

#[test]
fn requests_come_back_newest_first() {
    let (_directory, store) = store();
    store.requests().record(vec![request(1, None), request(3, None), request(2, None)]).unwrap();
    assert_eq!(store.requests().latest(2).unwrap(), [request(3, None), request(2, None)]);
}

#[test]
fn what_a_key_spent_is_summed_since_a_time() {
    let (_directory, store) = store();
    let key = store.keys().insert(&Secret::new().unwrap(), "first", Role::User, None, 0).unwrap();
    let requests = [1, 5, 9].map(|time| request(time, Some(&key.id))).into_iter().chain([request(9, None)]);
    store.requests().record(requests.collect()).unwrap();
    let spent = Spent { requests: 2, prompt_tokens: 20, completion_tokens: 2 * u64::from(u32::MAX) };
    assert_eq!(store.requests().spent(&key.id, 5).unwrap(), spent);
    assert_eq!(store.requests().spent("key_absent", 0).unwrap(), Spent::default());
}

#[test]
fn a_batch_with_one_bad_entry_is_not_recorded_at_all() {
    let (_directory, store) = store();
    assert!(store.requests().record(vec![request(1, None), request(2, Some("key_absent"))]).is_err());
    assert_eq!(store.requests().latest(10).unwrap(), []);
}

#[test]
fn the_oldest_entries_go_when_the_log_is_full() {
    let (_directory, store) = store();
    store.call(|connection| connection.execute_batch("UPDATE sqlite_sequence SET seq = 0")).unwrap();
    store.requests().record((0..10).map(|time| request(time, None)).collect()).unwrap();
    let far = "INSERT INTO request_log SELECT ?1, 99, 'begin', NULL, NULL, 'ok', 0, 0, 0";
    store.call(move |connection| connection.execute(far, [KEPT + 4])).unwrap();
    store.requests().record(vec![request(100, None)]).unwrap();
    let times: Vec<_> = store.requests().latest(100).unwrap().iter().map(|request| request.time_unix_ms).collect();
    assert_eq!(times, [100, 99, 9, 8, 7, 6, 5], "ids up to 5 are gone");
}

#[test]
fn changes_come_back_newest_first() {
    let (_directory, store) = store();
    let change = |subject: &str| Change {
        time_unix_ms: 5,
        actor: "uid 501".into(),
        action: "model.add".into(),
        subject: subject.into(),
    };
    for subject in ["a", "b", "c"] {
        store.audit().record(change(subject)).unwrap();
    }
    assert_eq!(store.audit().latest(2).unwrap(), [change("c"), change("b")]);
}
