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

#[test]
fn a_key_is_found_by_its_secret_and_by_nothing_else() {
    let (_directory, store) = store();
    let (secret, other) = (Secret::new().unwrap(), Secret::new().unwrap());
    let key = store.keys().insert(&secret, "first", Role::Admin, None, 100).unwrap();
    assert_eq!(key.state(100), KeyState::Active);
    let found = store.keys().find(&Secret::from_text(&format!(" {}\n", secret.reveal())), 200).unwrap().unwrap();
    assert_eq!((found.id, found.role, found.label), (key.id, Role::Admin, "first".into()));
    assert_eq!(store.keys().find(&other, 200).unwrap(), None);
    assert_eq!(store.keys().find(&Secret::from_text(""), 200).unwrap(), None);
}

#[test]
fn adding_the_same_secret_again_returns_the_key_it_has() {
    let (_directory, store) = store();
    let secret = Secret::new().unwrap();
    let first = store.keys().insert(&secret, "first", Role::User, None, 100).unwrap();
    let again = store.keys().insert(&secret, "again", Role::Admin, None, 200).unwrap();
    assert_eq!(again, first);
    assert_eq!(store.keys().list().unwrap(), [first]);
}

#[test]
fn a_key_expires_at_its_second_and_is_revoked_for_good() {
    let (_directory, store) = store();
    let secret = Secret::new().unwrap();
    let key = store.keys().insert(&secret, "guest", Role::Readonly, Some(500), 100).unwrap();
    assert_eq!((key.state(499), key.state(500)), (KeyState::Active, KeyState::Expired));
    assert!(store.keys().revoke(&key.id, 300).unwrap());
    assert!(store.keys().revoke(&key.id, 400).unwrap());
    let found = store.keys().find(&secret, 450).unwrap().unwrap();
    assert_eq!((found.state(450), found.revoked_unix_s, found.last_used_unix_s), (KeyState::Revoked, Some(300), None));
    assert!(!store.keys().revoke("key_absent", 300).unwrap());
}

#[test]
fn the_time_of_last_use_is_kept_to_the_minute() {
    let (_directory, store) = store();
    let secret = Secret::new().unwrap();
    store.keys().insert(&secret, "first", Role::Admin, None, 0).unwrap();
    let used_at = |now| store.keys().find(&secret, now).unwrap().unwrap().last_used_unix_s;
    assert_eq!([used_at(10), used_at(69), used_at(70)], [Some(10), Some(10), Some(70)]);
}

#[test]
fn no_secret_is_in_the_files_or_in_a_debug_print() {
    let (directory, store) = store();
    let secret = Secret::new().unwrap();
    store.keys().insert(&secret, "first", Role::Admin, None, 0).unwrap();
    for entry in std::fs::read_dir(directory.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        let letters = &secret.reveal().as_bytes()[4..];
        assert!(!bytes.windows(letters.len()).any(|window| window == letters));
    }
    assert!(!format!("{secret:?}").contains(&secret.reveal()[4..]));
}
