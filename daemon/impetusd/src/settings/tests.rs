//! What may be changed, what is refused by name, and what a restart remembers.

use super::*;
use crate::config::{Amount, Sources};

fn configured(variables: &[(&str, &str)]) -> Config {
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Config::parse(&Sources { variables, ..Sources::default() }).unwrap()
}

fn open(folder: &tempfile::TempDir, variables: &[(&str, &str)]) -> Settings {
    Settings::open(Catalogue::open(&folder.path().join("impetus.db")).unwrap(), configured(variables)).unwrap()
}

fn changes(changes: &[(&str, Option<&str>)]) -> ChangeSettingsRequest {
    let change = |(name, value): &(&str, Option<&str>)| SettingChange {
        name: (*name).to_owned(),
        value: value.map(str::to_owned),
    };
    ChangeSettingsRequest { changes: changes.iter().map(change).collect() }
}

fn shown(settings: &Settings, name: &str) -> Setting {
    settings.list().unwrap().into_iter().find(|setting| setting.name == name).unwrap()
}

#[tokio::test]
async fn a_change_is_in_force_survives_a_restart_and_can_be_taken_back() {
    let folder = tempfile::tempdir().unwrap();
    let settings = open(&folder, &[]);
    let wish = changes(&[("memory.budget", Some("50%")), ("models.keep_alive", Some("forever"))]);
    let config = settings.change("key_1", wish).await.unwrap();
    assert_eq!((config.memory.budget, config.models.keep_alive), (Amount::Percent(50), None));
    let again = open(&folder, &[]);
    assert_eq!(again.config().unwrap().memory.budget, Amount::Percent(50));
    let budget = shown(&again, "memory.budget");
    assert_eq!((budget.value.as_str(), budget.configured.as_str(), budget.changed), ("50%", "75%", true));
    again.change("key_1", changes(&[("memory.budget", None)])).await.unwrap();
    let budget = shown(&again, "memory.budget");
    assert_eq!((budget.value.as_str(), budget.changed), ("75%", false));
    let audit = again.catalogue.audit_page(Default::default()).await.unwrap().entries;
    let told: Vec<_> = audit.iter().map(|entry| (entry.action.as_str(), entry.subject.as_str())).collect();
    let expected = [
        ("setting.reset", "memory.budget"),
        ("setting.change", "models.keep_alive = forever"),
        ("setting.change", "memory.budget = 50%"),
    ];
    assert_eq!(told, expected);
}

#[tokio::test]
async fn what_cannot_be_changed_is_refused_by_name_and_nothing_is() {
    let folder = tempfile::tempdir().unwrap();
    let settings = open(&folder, &[("IMPETUS_LOG_LEVEL", "warn")]);
    for (name, value, kind) in [
        ("memory.bugdet", "50%", ErrorKind::NotFound),
        ("server.connections_max", "5", ErrorKind::NotFound),
        ("memory.budget", "lots", ErrorKind::Invalid),
        ("memory.budget", "0%", ErrorKind::Invalid),
        ("worker.sequences_max", "0", ErrorKind::Invalid),
        ("worker.step", "0s", ErrorKind::Invalid),
        ("requests.deadline", "1ms", ErrorKind::Invalid),
        ("models.default", "a\nb", ErrorKind::Invalid),
        ("log.level", "debug", ErrorKind::Conflict),
    ] {
        let wish = changes(&[("memory.patience", Some("1s")), (name, Some(value))]);
        let error = settings.change("key_1", wish).await.unwrap_err();
        assert_eq!((error.kind, error.param.as_deref()), (kind, Some(name)), "{value}");
    }
    let twice = changes(&[("memory.budget", Some("50%")), ("memory.budget", None)]);
    assert_eq!(settings.change("key_1", twice).await.unwrap_err().kind, ErrorKind::Invalid);
    assert!(settings.change("key_1", changes(&[])).await.is_err());
    assert!(settings.list().unwrap().iter().all(|setting| !setting.changed));
}

#[tokio::test]
async fn a_variable_of_the_daemon_wins_over_an_earlier_change() {
    let folder = tempfile::tempdir().unwrap();
    open(&folder, &[]).change("key_1", changes(&[("memory.budget", Some("50%"))])).await.unwrap();
    let settings = open(&folder, &[("IMPETUS_MEMORY_BUDGET", "3GB")]);
    assert_eq!(settings.config().unwrap().memory.budget, Amount::Bytes(3_000_000_000));
    let budget = shown(&settings, "memory.budget");
    assert_eq!((budget.fixed_by.as_deref(), budget.changed), (Some("IMPETUS_MEMORY_BUDGET"), false));
}

#[test]
fn every_changeable_setting_exists_and_they_are_in_order() {
    let config = configured(&[]);
    assert!(CHANGEABLE.iter().all(|(name, ..)| config.text(name).is_some()));
    assert!(CHANGEABLE.is_sorted_by_key(|(name, ..)| name));
}
