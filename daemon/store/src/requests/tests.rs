//! The logs keep what they are given, in order, and no more than their bound.

use super::*;
use crate::keys::tests::new_key;
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
        charged: true,
    }
}

fn key(store: &Store) -> String {
    store.keys().insert(&Secret::new().unwrap(), new_key("first", Role::User)).unwrap().id
}

fn times(store: &Store, count: u32, filter: RequestFilter) -> Vec<i64> {
    store.requests().page(count, filter).unwrap().iter().map(|(_, request)| request.time_unix_ms).collect()
}

#[test]
fn requests_come_back_newest_first_and_page_by_page() {
    let (_directory, store) = store();
    store.requests().record((1..=5).map(|time| request(time, None)).collect()).unwrap();
    let page = store.requests().page(2, RequestFilter::default()).unwrap();
    assert_eq!(page, [(5, request(5, None)), (4, request(4, None))]);
    assert_eq!(times(&store, 9, RequestFilter { after: Some(page[1].0), ..RequestFilter::default() }), [3, 2, 1]);
}

#[test]
fn a_filter_lets_only_its_own_pass() {
    let (_directory, store) = store();
    let id = key(&store);
    let odd = Request { model: Some("odd".into()), status: "Busy".into(), ..request(3, None) };
    store.requests().record(vec![request(1, Some(&id)), request(2, None), odd]).unwrap();
    let of = |filter| times(&store, 9, filter);
    assert_eq!(of(RequestFilter { key_id: Some(id), ..RequestFilter::default() }), [1]);
    assert_eq!(of(RequestFilter { model: Some("odd".into()), ..RequestFilter::default() }), [3]);
    assert_eq!(of(RequestFilter { status: Some("ok".into()), ..RequestFilter::default() }), [2, 1]);
}

#[test]
fn what_a_key_spent_is_summed_by_day() {
    let (_directory, store) = store();
    let id = key(&store);
    let requests =
        [1, 5, DAY_MS, DAY_MS + 9].map(|time| request(time, Some(&id))).into_iter().chain([request(9, None)]);
    store.requests().record(requests.collect()).unwrap();
    let free = Request { charged: false, ..request(DAY_MS, Some(&id)) };
    store.requests().record(vec![request(DAY_MS * 2 - 1, Some(&id)), free]).unwrap();
    let spent = |requests| Spent { requests, tokens: requests * (10 + u64::from(u32::MAX)) };
    assert_eq!(store.requests().spent(DAY_MS - 1).unwrap(), [(id.clone(), spent(2))]);
    assert_eq!(store.requests().spent(DAY_MS).unwrap(), [(id.clone(), spent(3))]);
    assert_eq!(store.requests().spent(DAY_MS * 2).unwrap(), []);
    store.requests().record(vec![request(DAY_MS * (2 + DAYS_KEPT), Some(&id))]).unwrap();
    assert_eq!(store.requests().spent(DAY_MS).unwrap(), [], "old days go");
}

#[test]
fn a_batch_with_one_bad_entry_is_not_recorded_at_all() {
    let (_directory, store) = store();
    assert!(store.requests().record(vec![request(1, None), request(2, Some("key_absent"))]).is_err());
    assert!(times(&store, 10, RequestFilter::default()).is_empty());
}

#[test]
fn the_oldest_entries_go_when_the_log_is_full() {
    let (_directory, store) = store();
    store.call(|connection| connection.execute_batch("UPDATE sqlite_sequence SET seq = 0")).unwrap();
    store.requests().record((0..10).map(|time| request(time, None)).collect()).unwrap();
    let far = "INSERT INTO request_log SELECT ?1, 99, 'begin', NULL, NULL, 'ok', 0, 0, 0";
    store.call(move |connection| connection.execute(far, [KEPT + 4])).unwrap();
    store.requests().record(vec![request(100, None)]).unwrap();
    assert_eq!(times(&store, 100, RequestFilter::default()), [100, 99, 9, 8, 7, 6, 5], "ids up to 5 are gone");
}

#[test]
fn changes_come_back_newest_first_and_page_by_page() {
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
    assert_eq!(store.audit().page(2, None).unwrap(), [(3, change("c")), (2, change("b"))]);
    assert_eq!(store.audit().page(2, Some(2)).unwrap(), [(1, change("a"))]);
}
