//! Opening, migrating, crashing, damage, backups: what happens to the file.

use std::path::PathBuf;

use serde_json::json;

use super::*;
use crate::keys::tests::new_key;
use crate::migrate::MIGRATIONS;
use crate::{Model, Role, Secret, Source};

/// Returns an open store in a fresh directory.
pub(crate) fn store() -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(&directory.path().join("impetus.db")).unwrap();
    (directory, store)
}

fn model(name: &str) -> Model {
    Model {
        name: name.into(),
        source: Source::Local,
        path: "/models/a".into(),
        facts: json!({}),
        pinned: false,
        created_unix_s: 0,
    }
}

/// Returns a path in a fresh directory.
fn fresh() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("impetus.db");
    (directory, path)
}

fn version(connection: &Connection) -> i64 {
    connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_new_database_is_private_durable_and_of_the_latest_version() {
    let (_directory, path) = fresh();
    let connection = connect(&path).unwrap();
    let pragma = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, rusqlite::types::Value>(0));
    assert_eq!(version(&connection), MIGRATIONS.len() as i64);
    assert_eq!(pragma("journal_mode").unwrap(), "wal".to_owned().into());
    assert_eq!(pragma("synchronous").unwrap(), 2.into());
    assert_eq!(pragma("foreign_keys").unwrap(), 1.into());
    for entry in std::fs::read_dir(path.parent().unwrap()).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
    }
}

#[test]
fn what_was_written_is_there_after_reopening() {
    let (directory, store) = store();
    store.models().put(model("a")).unwrap();
    let path = directory.path().join("impetus.db");
    drop(store);
    let store = Store::open(&path).unwrap();
    assert_eq!(store.models().list().unwrap(), [model("a")]);
    store.backup(&path.with_file_name("sound.db")).unwrap();
}

#[test]
fn two_handles_of_one_file_see_each_others_writes() {
    let (directory, first) = store();
    let second = Store::open(&directory.path().join("impetus.db")).unwrap();
    first.models().put(model("a")).unwrap();
    second.models().put(model("b")).unwrap();
    assert_eq!(first.models().list().unwrap(), second.models().list().unwrap());
    assert_eq!(first.models().list().unwrap().len(), 2);
}

#[test]
fn threads_share_a_handle_and_lose_no_write() {
    let (_directory, store) = store();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let store = store.clone();
            scope.spawn(move || {
                for number in 0..10 {
                    store.models().put(model(&format!("{thread}-{number}"))).unwrap();
                }
            });
        }
    });
    assert_eq!(store.models().list().unwrap().len(), 80);
}

#[test]
fn a_migration_that_fails_leaves_no_trace() {
    let mut connection = Connection::open_in_memory().unwrap();
    let broken = ["CREATE TABLE a (x)", "CREATE TABLE b (x); INSERT INTO absent VALUES (1)"];
    assert!(migrate::run(&mut connection, &broken).is_err());
    assert_eq!(version(&connection), 0);
    assert!(connection.prepare("SELECT * FROM a").is_err());
}

#[test]
fn only_the_migrations_that_are_missing_run() {
    let mut connection = Connection::open_in_memory().unwrap();
    let steps = ["CREATE TABLE a (x)", "INSERT INTO a VALUES (1)", "INSERT INTO a VALUES (2)"];
    migrate::run(&mut connection, &steps[..2]).unwrap();
    migrate::run(&mut connection, &steps).unwrap();
    migrate::run(&mut connection, &steps).unwrap();
    let sum: i64 = connection.query_row("SELECT sum(x) FROM a", [], |row| row.get(0)).unwrap();
    assert_eq!((sum, version(&connection)), (3, 3));
}

#[test]
fn a_database_is_kept_as_it_was_before_it_is_migrated() {
    let (_directory, path) = fresh();
    for known in [MIGRATIONS.len() - 2, MIGRATIONS.len() - 1] {
        // Twice: the second copy takes the place of the first.
        let _ = std::fs::remove_file(&path);
        let mut older = Connection::open(&path).unwrap();
        migrate::run(&mut older, &MIGRATIONS[..known]).unwrap();
        drop(older);
        drop(connect(&path).unwrap());
        let kept = path.with_file_name("impetus.db.older");
        assert_eq!(mode(&kept), 0o600);
        assert_eq!(version(&Connection::open(&kept).unwrap()), known as i64);
        assert_eq!(version(&Connection::open(&path).unwrap()), MIGRATIONS.len() as i64);
    }
    let (_directory, new) = fresh();
    drop(connect(&new).unwrap());
    assert!(!new.with_file_name("impetus.db.older").exists(), "there was nothing to keep");
}

#[test]
fn documents_that_were_kept_under_names_for_all_are_there_under_their_owners() {
    let mut connection = Connection::open_in_memory().unwrap();
    migrate::run(&mut connection, &MIGRATIONS[..4]).unwrap();
    let older = "INSERT INTO records VALUES ('sessions', 'talk', NULL, 'l', 3, 1, 2, 9, 4, '[12]')";
    connection.execute_batch(older).unwrap();
    migrate::run(&mut connection, MIGRATIONS).unwrap();
    let found = "SELECT label || version || created_unix_ms || updated_unix_ms || expires_unix_ms || bytes || body
        FROM records WHERE collection = 'sessions' AND id = 'talk' AND owner IS NULL";
    let found: String = connection.query_row(found, [], |row| row.get(0)).unwrap();
    assert_eq!(found, "l31294[12]");
    assert!(connection.execute_batch(older).is_err(), "one owner has one document of a name");
}

#[test]
fn a_database_of_a_later_release_is_refused_and_left_alone() {
    let (_directory, path) = fresh();
    connect(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let before = std::fs::read(&path).unwrap();
    let error = Store::open(&path).unwrap_err();
    assert!(matches!(error, StoreError::Newer { found: 99, .. }), "{error}");
    assert!(error.to_string().contains("version 99"));
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn a_database_of_another_program_is_refused_and_left_alone() {
    let (_directory, path) = fresh();
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE theirs (x)").unwrap();
    let before = std::fs::read(&path).unwrap();
    assert!(matches!(Store::open(&path), Err(StoreError::Foreign { .. })));
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn a_file_that_is_no_database_is_refused_named_and_kept() {
    let (_directory, path) = fresh();
    std::fs::write(&path, "this is not a database, but somebody's only copy of something".repeat(20)).unwrap();
    let before = std::fs::read(&path).unwrap();
    let error = Store::open(&path).unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
    assert!(error.hint().contains(path.to_str().unwrap()) && error.hint().contains("backup"), "{}", error.hint());
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn damage_inside_the_file_is_found_before_a_backup_and_the_file_kept() {
    let (_directory, path) = fresh();
    let connection = connect(&path).unwrap();
    for number in 0..200 {
        let insert = "INSERT INTO models VALUES (?1, 'local', NULL, NULL, ?2, '{}', 0, 0)";
        connection.execute(insert, (format!("{number:04}"), "x".repeat(500))).unwrap();
    }
    drop(connection);
    let mut bytes = std::fs::read(&path).unwrap();
    let from = bytes.len() / 2;
    bytes[from..].fill(0xA5);
    std::fs::write(&path, &bytes).unwrap();
    let copy = path.with_file_name("copy.db");
    let error = Store::open(&path).and_then(|store| store.backup(&copy)).unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
    assert!(!copy.exists());
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
}

#[test]
fn a_crash_in_mid_transaction_keeps_what_was_committed_and_nothing_else() {
    let (_directory, path) = fresh();
    let mut connection = connect(&path).unwrap();
    let insert = "INSERT INTO models VALUES (?1, 'local', NULL, NULL, ?2, '{}', 0, 0)";
    connection.execute(insert, ("committed", "/a")).unwrap();
    // A tiny cache spills the open transaction into the log, as a large one would.
    connection.pragma_update(None, "cache_size", 1).unwrap();
    let transaction = connection.transaction().unwrap();
    for number in 0..500 {
        transaction.execute(insert, (format!("{number}"), "x".repeat(500))).unwrap();
    }
    // What kill -9 would leave on the disk at this moment.
    let crashed = tempfile::tempdir().unwrap();
    for name in ["impetus.db", "impetus.db-wal"] {
        std::fs::copy(path.with_file_name(name), crashed.path().join(name)).unwrap();
    }
    assert!(std::fs::metadata(crashed.path().join("impetus.db-wal")).unwrap().len() > 100_000, "it has spilled");
    let store = Store::open(&crashed.path().join("impetus.db")).unwrap();
    let names: Vec<_> = store.models().list().unwrap().into_iter().map(|model| model.name).collect();
    assert_eq!(names, ["committed"]);
    store.backup(&path.with_file_name("sound.db")).unwrap();
}

#[test]
fn a_backup_is_complete_private_and_never_overwrites() {
    let (directory, store) = store();
    let secret = Secret::new().unwrap();
    store.models().put(model("a")).unwrap();
    let key = store.keys().insert(&secret, new_key("first", Role::Admin)).unwrap();
    let copy = directory.path().join("copy.db");
    store.backup(&copy).unwrap();
    assert_eq!(mode(&copy), 0o600);
    assert!(matches!(store.backup(&copy), Err(StoreError::Io { .. })));
    let restored = Store::open(&copy).unwrap();
    assert_eq!(restored.models().list().unwrap(), [model("a")]);
    assert_eq!(restored.keys().list().unwrap(), [key]);
}

#[test]
fn a_database_that_others_could_read_is_made_private() {
    let (_directory, path) = fresh();
    drop(connect(&path).unwrap());
    std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    drop(connect(&path).unwrap());
    assert_eq!(mode(&path), 0o600);
}

#[test]
fn a_change_that_cannot_be_written_down_is_not_made() {
    let (_directory, store) = store();
    store.models().put(model("a")).unwrap();
    let key = store.keys().insert(&Secret::new().unwrap(), new_key("first", Role::Admin)).unwrap();
    let refuse = "CREATE TRIGGER full BEFORE INSERT ON audit_log BEGIN SELECT RAISE(ABORT, 'full'); END";
    store.call(move |connection| connection.execute_batch(refuse)).unwrap();
    let (actor, action, subject) = ("uid 1".to_owned(), "key.revoke".to_owned(), key.id.clone());
    let noting = store.noting(Change { time_unix_ms: 1, actor, action, subject });
    noting.keys().revoke(&key.id, 5).unwrap_err();
    noting.keys().rotate(&key.id, &Secret::new().unwrap(), 5).unwrap_err();
    noting.keys().insert(&Secret::new().unwrap(), new_key("second", Role::User)).unwrap_err();
    noting.models().put(Model { path: "/models/b".into(), ..model("a") }).unwrap_err();
    noting.models().put(model("b")).unwrap_err();
    noting.models().set_pinned("a", true).unwrap_err();
    noting.models().remove("a").unwrap_err();
    assert_eq!(store.keys().list().unwrap(), [key]);
    assert_eq!(store.models().list().unwrap(), [model("a")]);
    store.keys().revoke(&store.keys().list().unwrap()[0].id, 5).unwrap();
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let error = Store::open(Path::new("/absent/impetus.db")).unwrap_err();
    assert!(error.to_string().contains("/absent/impetus.db"), "{error}");
}

#[test]
fn a_job_that_panics_closes_the_store_and_hangs_nobody() {
    let (_directory, store) = store();
    let job = |_: &mut Connection| -> rusqlite::Result<()> { panic!("a defect") };
    assert!(matches!(store.call(job), Err(StoreError::Closed)));
    assert!(matches!(store.models().list(), Err(StoreError::Closed)));
}
