//! A key is found by its secret alone, and the secret is nowhere in the database.

use std::collections::HashSet;

use super::*;
use crate::store::tests::store;

#[test]
fn secrets_have_the_documented_form_and_never_repeat() {
    let secrets: HashSet<_> = (0..1_000).map(|_| Secret::new().unwrap().reveal().to_owned()).collect();
    assert_eq!(secrets.len(), 1_000);
    for secret in secrets {
        let letters = secret.strip_prefix("imp_").unwrap();
        assert_eq!(letters.len(), 43);
        assert!(letters.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{secret}");
    }
}

#[test]
fn every_letter_is_about_as_likely() {
    let mut counts = [0_u32; 128];
    for _ in 0..2_000 {
        Secret::new().unwrap().reveal()[4..].bytes().for_each(|byte| counts[usize::from(byte)] += 1);
    }
    // 86,000 letters, 1,387 of each expected; ten standard deviations are 370.
    let drawn = counts.iter().filter(|count| **count > 0);
    assert!(drawn.clone().all(|count| (1_000..1_800).contains(count)), "{counts:?}");
    assert_eq!(drawn.count(), 62);
}

pub(crate) fn new_key(label: &str, role: Role) -> NewKey {
    NewKey {
        label: label.into(),
        role,
        models: vec![],
        limits: Limits::default(),
        created_unix_s: 100,
        expires_unix_s: None,
    }
}

#[test]
fn a_key_is_known_by_the_digest_of_its_secret() {
    let (_directory, store) = store();
    let (secret, other) = (Secret::new().unwrap(), Secret::new().unwrap());
    let key = store.keys().insert(&secret, new_key("first", Role::Admin)).unwrap();
    assert_eq!(key.state(100), KeyState::Active);
    assert_eq!(key.digest, Secret::from_text(&format!(" {}\n", secret.reveal())).digest());
    assert_ne!(key.digest, other.digest());
    assert!(key.id.starts_with("key_") && key.id.len() == 16, "{}", key.id);
}

#[test]
fn every_bit_of_a_digest_counts() {
    let digest = Secret::from_text("imp_a").digest();
    for bit in 0..256 {
        let mut bytes = *digest.bytes();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert_ne!(Digest::new(bytes), digest, "bit {bit}");
    }
    assert_eq!(Digest::new(*digest.bytes()), digest);
}

#[test]
fn adding_the_same_secret_again_returns_the_key_it_has() {
    let (_directory, store) = store();
    let secret = Secret::new().unwrap();
    let first = store.keys().insert(&secret, new_key("first", Role::User)).unwrap();
    let again = store.keys().insert(&secret, new_key("again", Role::Admin)).unwrap();
    assert_eq!(again, first);
    assert_eq!(store.keys().list().unwrap(), [first]);
}

#[test]
fn models_and_limits_come_back_as_they_were_given() {
    let (_directory, store) = store();
    let limits = Limits {
        inference_per_minute: Some(60),
        reads_per_minute: None,
        requests_per_day: Some(u64::MAX),
        tokens_per_day: Some(5),
    };
    let new = NewKey { models: vec!["a".into(), "b/\"c".into()], limits, ..new_key("guest", Role::User) };
    let key = store.keys().insert(&Secret::new().unwrap(), new).unwrap();
    assert_eq!(key.models, ["a", "b/\"c"]);
    assert_eq!(key.limits, Limits { requests_per_day: Some(i64::MAX as u64), ..limits });
}

#[test]
fn a_key_expires_at_its_second_and_is_revoked_for_good() {
    let (_directory, store) = store();
    let new = NewKey { expires_unix_s: Some(500), ..new_key("guest", Role::Readonly) };
    let key = store.keys().insert(&Secret::new().unwrap(), new).unwrap();
    assert_eq!((key.state(499), key.state(500)), (KeyState::Active, KeyState::Expired));
    store.keys().revoke(&key.id, 300).unwrap().unwrap();
    let again = store.keys().revoke(&key.id, 400).unwrap().unwrap();
    assert_eq!((again.state(450), again.revoked_unix_s), (KeyState::Revoked, Some(300)));
    assert_eq!(store.keys().revoke("key_absent", 300).unwrap(), None);
}

#[test]
fn a_rotated_key_keeps_its_id_and_remembers_its_last_secret() {
    let (_directory, store) = store();
    let (old, new) = (Secret::new().unwrap(), Secret::new().unwrap());
    let key = store.keys().insert(&old, new_key("laptop", Role::User)).unwrap();
    let rotated = store.keys().rotate(&key.id, &new, 160).unwrap().unwrap();
    assert_eq!((rotated.id.as_str(), rotated.digest), (key.id.as_str(), new.digest()));
    assert_eq!(rotated.old, Some((old.digest(), 160)));
    assert_eq!(store.keys().list().unwrap(), [rotated]);
    assert_eq!(store.keys().rotate("key_absent", &new, 0).unwrap(), None);
}

#[test]
fn the_time_of_last_use_is_written_for_many_keys_at_once() {
    let (_directory, store) = store();
    let keys: Vec<_> =
        (0..3).map(|_| store.keys().insert(&Secret::new().unwrap(), new_key("k", Role::User)).unwrap()).collect();
    store.keys().used(vec![(keys[0].id.clone(), 5), (keys[2].id.clone(), 9)]).unwrap();
    let used = |id: &str| store.keys().list().unwrap().into_iter().find(|key| key.id == id).unwrap().last_used_unix_s;
    assert_eq!([used(&keys[0].id), used(&keys[1].id), used(&keys[2].id)], [Some(5), None, Some(9)]);
}

#[test]
fn no_secret_is_in_the_files_or_in_a_debug_print() {
    let (directory, store) = store();
    let secret = Secret::new().unwrap();
    let key = store.keys().insert(&secret, new_key("first", Role::Admin)).unwrap();
    for entry in std::fs::read_dir(directory.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        let letters = &secret.reveal().as_bytes()[4..];
        assert!(!bytes.windows(letters.len()).any(|window| window == letters));
    }
    assert!(!format!("{secret:?} {key:?}").contains(&secret.reveal()[4..]));
}
