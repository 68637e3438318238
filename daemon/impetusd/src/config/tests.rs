//! Which source wins, and how mistakes are named.

use super::*;

fn sources(file: Option<&str>, variables: &[(&str, &str)], settings: &[&str]) -> Sources {
    Sources {
        file: file.map(|text| (text.to_owned(), "config.toml".to_owned())),
        variables: variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        settings: settings.iter().map(|setting| (*setting).to_owned()).collect(),
    }
}

#[track_caller]
fn refused(file: Option<&str>, variables: &[(&str, &str)], settings: &[&str], words: &[&str]) {
    let message = Config::parse(&sources(file, variables, settings)).unwrap_err().to_string();
    for word in words {
        assert!(message.contains(word), "{message:?} does not say {word:?}");
    }
}

#[test]
fn the_embedded_defaults_are_complete_in_every_environment() {
    for environment in ENVIRONMENTS {
        let config = Config::parse(&sources(None, &[("IMPETUS_ENV", environment)], &[])).unwrap();
        assert_eq!(config.environment, environment);
    }
    let config = Config::parse(&Sources::default()).unwrap();
    assert_eq!(config.environment, "production");
    assert_eq!(config.log.format, Format::Human);
    assert_eq!(config.memory.budget, Amount::Percent(75));
}

#[test]
fn a_number_that_no_daemon_can_serve_with_is_blamed_on_its_source() {
    refused(Some("[hub]\npulls_max = 0\n"), &[], &[], &["config.toml", "hub.pulls_max is 0", "from 1 to 1000"]);
    let endless = [("IMPETUS_SERVER_CONNECTIONS_MAX", "9223372036854775807")];
    refused(None, &endless, &[], &["IMPETUS_SERVER_CONNECTIONS_MAX", "server.connections_max"]);
    refused(None, &[], &["worker.silence=0s"], &["--set worker.silence=0s", "1ms at least"]);
}

#[test]
fn a_later_source_wins() {
    let file = "[memory]\nbudget = \"8GB\"\n[requests]\nactive_max = 7\n[profile.testing.requests]\nactive_max = 8\n";
    let plain = Config::parse(&sources(Some(file), &[], &[])).unwrap();
    assert_eq!((plain.memory.budget, plain.requests.active_max), (Amount::Bytes(8_000_000_000), 7));
    let testing = [("IMPETUS_ENV", "testing")];
    assert_eq!(Config::parse(&sources(Some(file), &testing, &[])).unwrap().requests.active_max, 8);
    let variables = [("IMPETUS_ENV", "testing"), ("IMPETUS_REQUESTS_ACTIVE_MAX", "9")];
    assert_eq!(Config::parse(&sources(Some(file), &variables, &[])).unwrap().requests.active_max, 9);
    let settings = ["requests.active_max=10"];
    assert_eq!(Config::parse(&sources(Some(file), &variables, &settings)).unwrap().requests.active_max, 10);
}

#[test]
fn variables_set_lists_switches_and_durations() {
    let variables = [
        ("IMPETUS_MODELS_PRELOAD", "a, b/c"),
        ("IMPETUS_MODELS_WARM_UP", "false"),
        ("IMPETUS_MODELS_KEEP_ALIVE", "forever"),
        ("IMPETUS_WORKER", "/opt/impetus-worker"),
        ("IMPETUS_HTTP_PORT", "1234"),
        ("PATH", "/bin"),
    ];
    let config = Config::parse(&sources(None, &variables, &[])).unwrap();
    assert_eq!(config.models.preload, ["a", "b/c"]);
    assert!(!config.models.warm_up);
    assert_eq!(config.models.keep_alive, None);
    assert_eq!(config.worker.program, "/opt/impetus-worker");
}

#[test]
fn changes_are_laid_over_it_and_what_a_variable_or_flag_fixes_is_known() {
    let file = "[memory]\nbudget = \"8GB\"\n";
    let variables = [("IMPETUS_LOG_LEVEL", "warn")];
    let config = Config::parse(&sources(Some(file), &variables, &["worker.threads=2"])).unwrap();
    let changed = config.with([("memory.budget", "50%"), ("models.preload", "a,b"), ("worker.sequences_max", "3")]);
    let changed = changed.unwrap();
    assert_eq!((changed.memory.budget, changed.worker.sequences_max), (Amount::Percent(50), 3));
    assert_eq!((config.text("memory.budget"), changed.text("memory.budget")), (Some("8GB".into()), Some("50%".into())));
    let texts = ["models.preload", "worker.sequences_max", "models.warm_up"].map(|name| changed.text(name).unwrap());
    assert_eq!(texts, ["a,b", "3", "true"]);
    assert_eq!(changed.fixed_by("log.level"), Some("IMPETUS_LOG_LEVEL"));
    assert_eq!(changed.fixed_by("worker.threads"), Some("--set worker.threads=2"));
    assert_eq!((changed.fixed_by("memory.budget"), &changed.environment), (None, &config.environment));
    let wrong = config.with([("memory.budget", "lots")]).unwrap_err().to_string();
    assert!(wrong.contains("memory.budget") && wrong.contains("lots"), "{wrong}");
}

#[test]
fn the_variables_of_opentelemetry_name_a_collector() {
    let collector = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318/");
    let config = Config::parse(&sources(None, &[collector], &[])).unwrap();
    assert_eq!(config.traces.endpoint, "http://127.0.0.1:4318/v1/traces");
    let exact = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:9/traces");
    let headers = ("OTEL_EXPORTER_OTLP_HEADERS", "x-token=secret,x-tenant=ada");
    let config = Config::parse(&sources(None, &[exact, collector, headers], &[])).unwrap();
    assert_eq!(config.traces.endpoint, "http://127.0.0.1:9/traces");
    assert_eq!(config.traces.headers.len(), 2);
    assert!(!format!("{config:?}").contains("x-token"), "headers may hold secrets");
    assert_eq!(Config::parse(&Sources::default()).unwrap().traces.endpoint, "", "off unless it is wanted");
}

#[test]
fn secrets_are_not_printed() {
    let config = Config::parse(&sources(None, &[("HF_TOKEN", "hf_xyzzy")], &[])).unwrap();
    assert!(!format!("{config:?}").contains("xyzzy"));
}

#[test]
fn unknown_keys_are_refused_by_name_with_a_suggestion() {
    refused(Some("[log]\nlevle = \"info\""), &[], &[], &["config.toml", "\"levle\"", "did you mean \"level\"?"]);
    refused(Some("[lgo]\nlevel = \"info\""), &[], &[], &["\"lgo\"", "\"log\""]);
    refused(Some("[profile.tseting.log]\nlevel = \"info\""), &[], &[], &["\"tseting\"", "\"testing\""]);
    refused(Some("[profile.staging.log]\nlevle = \"info\""), &[], &[], &["profile staging", "\"level\""]);
    refused(None, &[("IMPETUS_MEMORY_BUGDET", "1GB")], &[], &["IMPETUS_MEMORY_BUGDET", "\"budget\""]);
    refused(None, &[], &["worker.thread=2"], &["--set worker.thread=2", "\"threads\""]);
    refused(None, &[("IMPETUS_ENV", "prod")], &[], &["IMPETUS_ENV", "prod", "production"]);
}

#[test]
fn wrong_values_are_blamed_on_their_source() {
    refused(Some("[memory]\nbudget = \"lots\""), &[], &[], &["config.toml", "lots", "75%"]);
    refused(Some("[memory]\noverhead = \"5%\""), &[], &[], &["5%", "makes no sense"]);
    refused(Some("log = 3"), &[], &[], &["log is a section"]);
    refused(Some("not toml"), &[], &[], &["config.toml"]);
    refused(None, &[("IMPETUS_REQUESTS_ACTIVE_MAX", "many")], &[], &["IMPETUS_REQUESTS_ACTIVE_MAX", "whole number"]);
    refused(None, &[("IMPETUS_SERVER_DRAIN", "5")], &[], &["IMPETUS_SERVER_DRAIN", "no duration"]);
    refused(None, &[], &["log.level=loud"], &["--set log.level=loud", "loud"]);
    refused(None, &[], &["log"], &["section.key=value"]);
}

#[test]
fn draft_models_are_named_in_the_file_by_a_variable_or_by_a_flag() {
    let file = "[models.draft_model]\n\"org/big\" = \"org/small\"\n";
    let pair = |big: &str, small: &str| (big.to_owned(), small.to_owned());
    let from = |file, variables: &[_], settings: &[_]| {
        let config = Config::parse(&sources(file, variables, settings)).unwrap();
        config.models.draft_model.into_iter().collect::<Vec<_>>()
    };
    assert_eq!(from(None, &[], &[]), []);
    assert_eq!(from(Some(file), &[], &[]), [pair("org/big", "org/small")]);
    let variable = [("IMPETUS_MODELS_DRAFT_MODEL", "a = b, c=d")];
    assert_eq!(from(Some(file), &variable, &[]), [pair("a", "b"), pair("c", "d")]);
    assert_eq!(from(None, &variable, &["models.draft_model=e=f"]), [pair("e", "f")]);
    refused(None, &[], &["models.draft_model=big"], &["--set", "NAME=VALUE"]);
}
