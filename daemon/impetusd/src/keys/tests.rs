//! Keys over a real database: who is let in, for how long, and for how much.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use super::*;
use crate::paths::Paths;

struct Room {
    _home: tempfile::TempDir,
    paths: Paths,
    catalogue: Catalogue,
}

impl Room {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let paths = Paths::make(home.path()).unwrap();
        let catalogue = Catalogue::open(&paths.database()).unwrap();
        Self { _home: home, paths, catalogue }
    }

    fn keys(&self) -> Arc<Keys> {
        first::prepare(&self.paths, &self.catalogue).unwrap();
        Arc::new(Keys::open(self.catalogue.clone()).unwrap())
    }
}

fn knock(secret: &str) -> Knock {
    Knock {
        proof: Proof::Secret(secret.to_owned()),
        peer: "10.0.0.1".to_owned(),
        purpose: Purpose::Inference,
        counted_elsewhere: false,
    }
}

fn wish(role: KeyRole) -> CreateKeyRequest {
    let limits = LimitsRequest::default();
    CreateKeyRequest { label: "guest".to_owned(), role, models: vec![], expires_in_s: None, limits }
}

#[tokio::test]
async fn the_first_key_is_made_once_kept_private_and_let_in() {
    let room = Room::new();
    let keys = room.keys();
    let key = first::read(&room.paths).unwrap();
    assert!(key.starts_with("imp_") && key.len() > 40, "a key of {} letters", key.len());
    assert_eq!(fs::metadata(room.paths.key()).unwrap().permissions().mode() & 0o777, 0o600);
    let principal = keys.knock(&knock(&key)).unwrap();
    assert_eq!((principal.role, principal.rate), (KeyRole::Admin, None));
    for wrong in ["", "imp_", "imp_00", &key[..key.len() - 1], &"x".repeat(10_000)] {
        assert_eq!(keys.knock(&knock(wrong)).unwrap_err().kind, ErrorKind::AuthRequired);
    }
    // A key that its user put away stays valid, and no second one is made behind their back.
    fs::remove_file(room.paths.key()).unwrap();
    let again = room.keys();
    assert_eq!(first::read(&room.paths).unwrap_err().kind, ErrorKind::NotFound);
    assert!(again.knock(&knock(&key)).is_ok());
}

#[tokio::test]
async fn a_key_file_makes_its_key_known_to_a_new_database_only() {
    let room = Room::new();
    fs::write(room.paths.key(), "imp_mine\n").unwrap();
    assert!(room.keys().knock(&knock("imp_mine")).is_ok());
    fs::write(room.paths.key(), "imp_other\n").unwrap();
    assert!(room.keys().knock(&knock("imp_other")).is_err());
}

#[tokio::test]
async fn a_revoked_key_is_refused_at_once_and_after_a_restart() {
    let room = Room::new();
    let keys = room.keys();
    let issued = keys.create("uid 1", wish(KeyRole::User)).await.unwrap();
    assert_eq!(keys.knock(&knock(&issued.secret)).unwrap().id, issued.card.id);
    assert_eq!(keys.role(&issued.card.id).unwrap(), KeyRole::User);
    let card = keys.revoke("uid 1", &issued.card.id).await.unwrap();
    assert_eq!(card.state, KeyState::Revoked);
    for keys in [keys, room.keys()] {
        assert_eq!(keys.knock(&knock(&issued.secret)).unwrap_err().kind, ErrorKind::AuthRequired);
        assert_eq!(keys.role(&issued.card.id).unwrap_err().kind, ErrorKind::AuthRequired);
        let request = RotateKeyRequest { id: issued.card.id.clone(), grace_s: 0 };
        assert_eq!(keys.rotate("uid 1", &request).await.unwrap_err().kind, ErrorKind::Conflict);
    }
}

#[tokio::test]
async fn a_rotated_key_has_one_secret_or_two_for_its_grace() {
    let room = Room::new();
    let keys = room.keys();
    let issued = keys.create("uid 1", wish(KeyRole::User)).await.unwrap();
    let id = issued.card.id.clone();
    let (second, _) = keys.rotate("uid 1", &RotateKeyRequest { id: id.clone(), grace_s: 3_600 }).await.unwrap();
    for keys in [&keys, &room.keys()] {
        assert_eq!(keys.knock(&knock(&issued.secret)).unwrap().id, id);
        assert_eq!(keys.knock(&knock(second.reveal())).unwrap().id, id);
    }
    let (third, card) = keys.rotate("uid 1", &RotateKeyRequest { id: id.clone(), grace_s: 0 }).await.unwrap();
    assert_eq!(card.id, id);
    assert!(keys.knock(&knock(&issued.secret)).is_err() && keys.knock(&knock(second.reveal())).is_err());
    assert!(keys.knock(&knock(third.reveal())).is_ok());
    let absent = RotateKeyRequest { id: "key_absent".to_owned(), grace_s: 0 };
    assert_eq!(keys.rotate("uid 1", &absent).await.unwrap_err().kind, ErrorKind::NotFound);
}

#[tokio::test]
async fn secrets_that_were_rotated_away_take_no_memory() {
    let room = Room::new();
    let keys = room.keys();
    let id = keys.create("uid 1", wish(KeyRole::User)).await.unwrap().card.id;
    let before = keys.lock().index.len();
    for _ in 0..10 {
        keys.rotate("uid 1", &RotateKeyRequest { id: id.clone(), grace_s: 0 }).await.unwrap();
    }
    assert_eq!(keys.lock().index.len(), before + 1, "the last secret, and the one before it");
}

#[tokio::test]
async fn a_login_is_good_for_as_long_as_the_secret_behind_it() {
    let room = Room::new();
    let keys = room.keys();
    let issued = keys.create("uid 1", wish(KeyRole::User)).await.unwrap();
    let id = issued.card.id.clone();
    let login = |print| Knock { proof: Proof::Login(Login { key: id.clone(), print }), ..knock("") };
    let first = keys.knock(&knock(&issued.secret)).unwrap().print;
    assert_eq!(keys.knock(&login(first)).unwrap().id, id);
    assert_eq!(keys.knock(&login(first + 1)).unwrap_err().kind, ErrorKind::AuthRequired);
    let rotate = |grace_s| RotateKeyRequest { id: id.clone(), grace_s };
    keys.rotate("uid 1", &rotate(3_600)).await.unwrap();
    assert!(keys.knock(&login(first)).is_ok(), "the old secret has its grace, and so has its login");
    let (secret, _) = keys.rotate("uid 1", &rotate(0)).await.unwrap();
    assert!(keys.knock(&login(first)).is_err());
    let second = keys.knock(&knock(secret.reveal())).unwrap().print;
    assert!(keys.knock(&login(second)).is_ok());
    keys.revoke("uid 1", &id).await.unwrap();
    let kinds: Vec<_> = (0..30).map(|_| keys.knock(&login(second)).unwrap_err().kind).collect();
    assert!(kinds.iter().all(|kind| *kind == ErrorKind::AuthRequired), "a login that is over is no guess");
}

#[tokio::test]
async fn rates_follow_the_role_and_the_wish() {
    let room = Room::new();
    let keys = room.keys();
    let card = |issued: &IssuedKey| (issued.card.limits.inference_per_minute, issued.card.limits.reads_per_minute);
    let user = keys.create("uid 1", wish(KeyRole::User)).await.unwrap();
    assert_eq!(card(&user), (Some(60), Some(120)));
    assert_eq!(card(&keys.create("uid 1", wish(KeyRole::Admin)).await.unwrap()), (None, None));
    let limits = LimitsRequest { inference_per_minute: Some(2), reads_per_minute: Some(0), ..LimitsRequest::default() };
    let own = keys.create("uid 1", CreateKeyRequest { limits, ..wish(KeyRole::User) }).await.unwrap();
    assert_eq!(card(&own), (Some(2), None));
    let waits: Vec<u64> = (0..3).map(|_| keys.knock(&knock(&own.secret)).unwrap().rate.unwrap().wait_ms).collect();
    assert!(waits[..2] == [0, 0] && waits[2] > 20_000, "{waits:?}");
    let read = Knock { purpose: Purpose::Read, ..knock(&own.secret) };
    assert_eq!(keys.knock(&read).unwrap().rate, None);
    let elsewhere = Knock { counted_elsewhere: true, ..knock(&user.secret) };
    assert!((0..70).all(|_| keys.knock(&elsewhere).unwrap().rate == Some(Rate::unused(60))));
    assert_eq!(keys.knock(&knock(&user.secret)).unwrap().rate.unwrap().remaining, 59, "nothing was taken");
    assert_eq!(keys.knock(&knock(&user.secret)).unwrap().rate.unwrap().wait_ms, 0, "keys do not share a bucket");
}

#[tokio::test]
async fn limits_of_a_day_hold_over_a_restart() {
    let room = Room::new();
    let limits = LimitsRequest { requests_per_day: Some(2), tokens_per_day: Some(100), ..LimitsRequest::default() };
    let keys = room.keys();
    let id = keys.create("uid 1", CreateKeyRequest { limits, ..wish(KeyRole::User) }).await.unwrap().card.id;
    let charge = async |keys: &Arc<Keys>| keys.charge(&id, Most::default(), false).await;
    drop(charge(&keys).await.unwrap());
    keys.spend(&id, 100);
    let error = charge(&keys).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::RateLimited);
    assert!(error.message.contains("100 tokens") && error.retry_after_ms.unwrap() <= 86_400_000, "{error:?}");
    let entry = store::Request {
        time_unix_ms: now_s() * 1_000,
        verb: "generate".to_owned(),
        model: None,
        key_id: Some(id.clone()),
        status: "ok".to_owned(),
        prompt_tokens: 40,
        completion_tokens: 59,
        latency_ms: 1,
        charged: true,
    };
    let refused = store::Request { charged: false, ..entry.clone() };
    room.catalogue.record(vec![entry.clone(), refused]).await.unwrap();
    let keys = room.keys();
    drop(charge(&keys).await.unwrap());
    assert!(charge(&keys).await.unwrap_err().message.contains("2 requests"));
    assert!(keys.charge(&id, Most::default(), true).await.is_ok(), "a part of a request that counted already");
    let spent = keys.cards().into_iter().find(|card| card.id == id).unwrap().spent_today;
    assert_eq!(spent, Spent { requests: 2, tokens: 99 });
}

#[tokio::test(start_paused = true)]
async fn what_requests_in_flight_may_use_is_never_more_than_what_is_left() {
    let room = Room::new();
    let keys = room.keys();
    let limits = LimitsRequest { tokens_per_day: Some(100), ..LimitsRequest::default() };
    let id = keys.create("uid 1", CreateKeyRequest { limits, ..wish(KeyRole::User) }).await.unwrap().card.id;
    let most = Most { whole: 80, answers: 30, following: 0 };
    let charge = async || keys.charge(&id, most, false).await;
    let mut first = charge().await.unwrap().unwrap();
    let second = charge().await.unwrap().unwrap();
    assert_eq!((first.tokens(), second.tokens()), (80, 20));
    let refused = charge().await.unwrap_err();
    assert_eq!((refused.kind, refused.retry_after_ms), (ErrorKind::RateLimited, Some(1_000)));
    // Who waits gets what a prompt that was read leaves.
    let (third, ()) = tokio::join!(charge(), async { first.read(15) });
    assert_eq!((first.tokens(), third.unwrap().unwrap().tokens()), (45, 35));
    keys.spend(&id, 40);
    drop(first);
    let rest = charge().await.unwrap().unwrap();
    assert_eq!(rest.tokens(), 40, "60 are left, and the second still holds its 20");
    drop((rest, second));
    assert_eq!(charge().await.unwrap().unwrap().tokens(), 60);
    let free = keys.create("uid 1", wish(KeyRole::User)).await.unwrap().card.id;
    assert!(keys.charge(&free, most, false).await.unwrap().is_none(), "without a limit nothing is held");
    // Of the day's 100, 40 are spent: two parts of 30 and their prompts are 62.
    let refused = keys.charge(&id, Most { following: 1, ..most }, false).await.unwrap_err();
    assert!(refused.message.contains("60 tokens") && refused.message.contains("may take 62"), "{}", refused.message);
    let two = Most { answers: 29, following: 1, ..most };
    assert_eq!(keys.charge(&id, two, false).await.unwrap().unwrap().tokens(), 60);
}

#[tokio::test]
async fn a_key_uses_only_the_models_it_names() {
    let room = Room::new();
    let keys = room.keys();
    let wish = CreateKeyRequest { models: vec!["a".to_owned()], ..wish(KeyRole::User) };
    let id = keys.create("uid 1", wish).await.unwrap().card.id;
    keys.allows(&id, "a").unwrap();
    let error = keys.allows(&id, "b").unwrap_err();
    assert_eq!((error.kind, error.param.as_deref()), (ErrorKind::Forbidden, Some("model")));
}

#[tokio::test]
async fn bad_keys_of_one_address_are_slowed_down_and_good_ones_pass() {
    let room = Room::new();
    let keys = room.keys();
    let good = first::read(&room.paths).unwrap();
    let kinds: Vec<_> = (0..30).map(|_| keys.knock(&knock("imp_guess")).unwrap_err().kind).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == ErrorKind::AuthRequired).count(), 20);
    assert!(keys.knock(&knock("imp_guess")).unwrap_err().retry_after_ms.is_some());
    assert!(keys.knock(&knock(&good)).is_ok());
    let elsewhere = Knock { peer: "10.0.0.2".to_owned(), ..knock("imp_guess") };
    assert_eq!(keys.knock(&elsewhere).unwrap_err().kind, ErrorKind::AuthRequired);
    for peer in 0..3 * PEERS_MAX {
        let _ = keys.knock(&Knock { peer: peer.to_string(), ..knock("imp_guess") });
    }
    assert!(keys.lock().failures.len() <= PEERS_MAX + 1);
}

#[tokio::test]
async fn wishes_out_of_bounds_are_refused_by_name() {
    let room = Room::new();
    let keys = room.keys();
    let good = wish(KeyRole::User);
    let cases = [
        ("label", CreateKeyRequest { label: " ".to_owned(), ..good.clone() }),
        ("label", CreateKeyRequest { label: "x".repeat(129), ..good.clone() }),
        ("label", CreateKeyRequest { label: "a\nb".to_owned(), ..good.clone() }),
        ("models", CreateKeyRequest { models: vec![String::new()], ..good.clone() }),
        ("models", CreateKeyRequest { models: vec!["m".to_owned(); 65], ..good.clone() }),
        ("expires_in_s", CreateKeyRequest { expires_in_s: Some(0), ..good.clone() }),
        ("expires_in_s", CreateKeyRequest { expires_in_s: Some(u64::MAX), ..good }),
    ];
    for (param, wish) in cases {
        let error = keys.create("uid 1", wish).await.unwrap_err();
        assert_eq!((error.kind, error.param.as_deref()), (ErrorKind::Invalid, Some(param)));
    }
}

#[tokio::test]
async fn every_change_of_a_key_is_written_down_with_who_made_it() {
    let room = Room::new();
    let keys = room.keys();
    let id = keys.create("uid 7", wish(KeyRole::User)).await.unwrap().card.id;
    keys.rotate("key_9", &RotateKeyRequest { id: id.clone(), grace_s: 0 }).await.unwrap();
    keys.revoke("uid 7", &id).await.unwrap();
    let page = room.catalogue.audit_page(Default::default()).await.unwrap();
    let seen: Vec<_> = page.entries.iter().map(|entry| (entry.actor.as_str(), entry.action.as_str())).collect();
    assert_eq!(seen, [("uid 7", "key.revoke"), ("key_9", "key.rotate"), ("uid 7", "key.create")]);
    assert!(page.entries.iter().all(|entry| entry.subject == id));
}
