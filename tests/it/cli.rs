//! The command line: what people type works, what programs read is JSON, and exit codes mean what `--help` says.

use std::io::{BufRead as _, BufReader};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;

use engine::random::Recipe;
use tests::ctl::{command, run, said};
use tests::house::{House, Plan};
use tests::{model, process, wait};

#[test]
fn run_prints_the_answer_and_its_speed() {
    let house = House::start();
    let answer = run(&house, &["run", "--verbose", "--max-tokens", "60", "What is Impetus?"]);
    assert_eq!(answer.code, 0, "{answer:?}");
    assert!(answer.out.contains("Impetus"), "{answer:?}");
    assert!(answer.err.contains("tok/s") && answer.err.contains("first token"), "{answer:?}");
    let again = run(&house, &["run", "--json", "--max-tokens", "60", "What is Impetus?"]).json();
    assert_eq!(again["text"].as_str().unwrap().trim_end(), answer.out.trim_end());
    assert!(again["usage"]["completion_tokens"].as_u64().unwrap() > 3);
}

#[test]
fn a_prompt_comes_from_standard_input_too() {
    use std::io::Write;
    let house = House::start();
    let mut child = command(&house, &["run", "--max-tokens", "8", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"Hello there").unwrap();
    let answer = said(child.wait_with_output().unwrap());
    assert_eq!(answer.code, 0, "{answer:?}");
    assert!(!answer.out.trim().is_empty());
}

#[test]
fn what_is_typed_into_a_chat_is_kept_nowhere() {
    use std::io::Write;
    let house = House::start();
    let chat = command(&house, &["chat", "--max-tokens", "4"]);
    // Only lines that are typed at a terminal have a history.
    let mut terminal = std::process::Command::new("python3")
        .args(["-c", "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)"])
        .arg(chat.get_program())
        .args(chat.get_args())
        .envs(chat.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .env("TERM", "xterm")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 is installed: tools/bootstrap.sh sees to it");
    let mut typed = terminal.stdin.take().unwrap();
    typed.write_all(b"my hamster is called Xylophon\r").unwrap();
    wait::until("the chat ends", || {
        // What is typed during an answer may be lost, and after the end nobody reads.
        let _ = typed.write_all(b"/exit\r");
        terminal.try_wait().unwrap().is_some()
    });
    let chat = said(terminal.wait_with_output().unwrap());
    assert!(chat.code == 0 && chat.out.contains("Xylophon"), "{chat:?}");
    let mut folders = vec![house.home().to_owned()];
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            match std::fs::symlink_metadata(&path).unwrap().file_type() {
                kind if kind.is_dir() => folders.push(path),
                kind if kind.is_file() => {
                    let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
                    assert!(!text.contains("Xylophon"), "{}", path.display());
                }
                // A socket or a link keeps nothing.
                _ => {}
            }
        }
    }
}

#[test]
fn a_prompt_is_all_its_words_and_what_is_piped_in() {
    use std::io::Write;
    let house = House::start();
    let ask = |arguments: &[&str], piped: &str| {
        let arguments = [&["run", "--json", "--temperature", "0", "--max-tokens", "4"], arguments].concat();
        let mut child = command(&house, &arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that reads no input may be gone already.
        let _ = child.stdin.take().unwrap().write_all(piped.as_bytes());
        said(child.wait_with_output().unwrap())
    };
    let read = |said: &tests::ctl::Said| said.json()["usage"]["prompt_tokens"].as_u64().unwrap();
    let whole = ask(&["What is Impetus?"], "");
    assert_eq!(read(&ask(&["What", "is", "Impetus?"], "")), read(&whole));
    assert_eq!(read(&ask(&[], "What is Impetus?")), read(&whole));
    assert_eq!(read(&ask(&["What", "-", "Impetus?"], "is")), read(&whole));
    assert_eq!(ask(&["-", "-"], "twice").code, 7);
    let elsewhere = ask(&["impetus-nano", "What is Impetus?"], "");
    assert!(elsewhere.code == 7 && elsewhere.err.contains("--model impetus-nano"), "{elsewhere:?}");
    for empty in [ask(&[], " \n"), ask(&["-"], ""), ask(&["", " "], "")] {
        assert!(empty.code == 2 && empty.err.contains("there is no prompt"), "{empty:?}");
    }
}

#[test]
fn models_are_added_loaded_listed_and_forgotten() {
    let house = House::start();
    let folder = model::write(&house, "tiny", &Recipe::tiny("llama", 21));
    let added = run(&house, &["models", "add", folder.to_str().unwrap(), "--json"]);
    assert_eq!(added.json()["name"], "tiny", "{added:?}");
    let ranks = Recipe::tiny_encoder("xlm-roberta", 5)
        .set("pad_token_id", 1)
        .set("architectures", vec!["XLMRobertaForSequenceClassification"]);
    for (name, recipe, asked) in [
        ("writes", Recipe::tiny("llama", 21), "run --model writes"),
        ("embeds", Recipe::tiny_encoder("bert", 5), "embed --model embeds"),
        ("ranks", ranks, "/v1/rerank"),
    ] {
        let folder = model::write(&house, name, &recipe);
        let added = run(&house, &["models", "add", folder.to_str().unwrap()]);
        assert!(added.out.contains(asked), "a model is asked for what it can do: {added:?}");
    }
    assert_eq!(run(&house, &["load", "tiny"]).code, 0);
    let loaded = run(&house, &["ps", "--json"]).json();
    let tiny = loaded.as_array().unwrap().iter().find(|card| card["name"] == "tiny").expect("it is in memory");
    assert!(tiny["state"]["Loaded"]["memory_bytes"].as_u64().unwrap() > 0);
    assert!(run(&house, &["ps"]).out.contains("tiny"));
    let shown = run(&house, &["models", "show", "tiny"]);
    assert!(shown.out.contains("llama") && shown.out.contains("loaded, pid"), "{shown:?}");
    assert_eq!(run(&house, &["models", "show", "--json", "tiny"]).json()["path"], folder.to_str().unwrap());
    assert_eq!(run(&house, &["models", "show", "nobody"]).code, 3);
    assert!(run(&house, &["unload", "tiny"]).out.contains("is not in memory"));
    assert!(run(&house, &["models"]).out.contains("impetus-nano"));
    assert_eq!(run(&house, &["models", "list"]).out, run(&house, &["models"]).out);
    assert_eq!(run(&house, &["rm", "tiny"]).code, 0);
    assert!(!run(&house, &["models"]).out.contains("tiny "));
    assert!(folder.join("config.json").exists(), "a local folder's files stay");
}

#[test]
fn a_model_is_pinned_released_and_kept_as_long_as_was_said() {
    let house = House::start();
    let load = |flags: &[&str]| {
        assert_eq!(run(&house, &[&["load", "impetus-nano"], flags].concat()).code, 0, "{flags:?}");
        run(&house, &["models", "show", "--json", "impetus-nano"]).json()
    };
    let expires = |card: &serde_json::Value| card["state"]["Loaded"]["expires_in_ms"].as_u64();
    assert_eq!(load(&["--pin"])["pinned"], true);
    let released = load(&["--unpin", "--keep-alive", "2h"]);
    assert_eq!(released["pinned"], false);
    assert!((7_100_000..=7_200_000).contains(&expires(&released).unwrap()), "{released}");
    assert_eq!(expires(&load(&["--keep-alive", "forever"])), None);
    assert_eq!(run(&house, &["load", "impetus-nano", "--pin", "--unpin"]).code, 2);
}

#[test]
fn every_command_speaks_json_mistakes_too() {
    let environment = vec![("IMPETUS_LOG_LEVEL".to_owned(), "info".to_owned())];
    let house = House::with(Plan { environment, ..Plan::default() });
    // Who answers has written its first lines.
    assert_eq!(run(&house, &["status"]).code, 0);
    let logs = run(&house, &["logs", "--json"]);
    let lines: Vec<serde_json::Value> = logs.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.iter().any(|line| line["level"] == "INFO" && line["timestamp"].is_string()), "{logs:?}");
    assert!(run(&house, &["completions", "--json", "zsh"]).json()["script"].as_str().unwrap().contains("impetusctl"));
    let mistaken = run(&house, &["--json", "run", "--warmth", "9"]);
    assert_eq!(mistaken.code, 2);
    let body: serde_json::Value = serde_json::from_str(&mistaken.err).unwrap_or_else(|_| panic!("{mistaken:?}"));
    assert!(body["error"]["message"].as_str().unwrap().contains("--warmth"), "{body}");
}

#[test]
fn every_command_has_a_manual_page_that_says_what_its_help_says() {
    let house = House::start();
    let folder = house.home().join("man1");
    assert_eq!(run(&house, &["man", folder.to_str().unwrap()]).code, 0);
    let page = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    assert!(page("impetusctl.1").contains("Exit codes") && page("impetusctl-models-add.1").contains("Hugging Face"));
    let help = run(&house, &["serve", "--help"]).out;
    let options = help.split_whitespace().filter_map(|word| word.strip_prefix("--"));
    let said = page("impetusctl-serve.1").replace("\\-", "-");
    assert!(options.clone().count() > 5 && options.clone().all(|option| said.contains(option)), "{said}");
    let in_the_way = house.home().join("file");
    std::fs::write(&in_the_way, "").unwrap();
    assert_eq!(run(&house, &["man", in_the_way.to_str().unwrap()]).code, 7);
}

#[test]
fn a_backup_in_the_place_of_the_database_brings_back_what_was_lost() {
    let mut house = House::start();
    let labels = |house: &House| {
        let keys = run(house, &["key", "list", "--json"]).json();
        keys.as_array().unwrap().iter().map(|key| key["label"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(run(&house, &["key", "create", "laptop"]).code, 0);
    let before = labels(&house);
    assert!(before.contains(&"laptop".to_owned()), "{before:?}");
    let copy = house.home().join("copy.db");
    let made = run(&house, &["backup", copy.to_str().unwrap()]);
    assert_eq!(made.code, 0, "{made:?}");
    let again = run(&house, &["backup", copy.to_str().unwrap()]);
    assert!(again.code == 7 && again.err.contains("copy.db"), "nothing is overwritten: {again:?}");
    assert_eq!(run(&house, &["key", "create", "phone"]).code, 0);
    house.kill_daemon();
    let _ = std::fs::remove_file(house.home().join("impetus.db-wal"));
    std::fs::rename(&copy, house.home().join("impetus.db")).unwrap();
    house.restart_daemon();
    assert_eq!(labels(&house), before);
}

#[test]
fn exit_codes_tell_errors_apart() {
    let house = House::start();
    let unknown = run(&house, &["run", "--model", "nobody", "hi"]);
    assert_eq!(unknown.code, 3, "{unknown:?}");
    assert!(unknown.err.contains("nobody") && unknown.err.contains("hint"), "{unknown:?}");
    assert_eq!(run(&house, &["run"]).code, 2);
    assert_eq!(run(&house, &["run", "--temperature", "9", "hi"]).code, 7);
    assert_eq!(run(&house, &["models", "add", "/nowhere/at/all"]).code, 3);
    let error = run(&house, &["--json", "load", "nobody"]);
    let body: serde_json::Value = serde_json::from_str(&error.err).expect("errors are JSON too");
    assert_eq!(body["error"]["kind"], "ModelNotFound");
}

#[test]
fn an_error_that_nobody_hears_keeps_its_exit_code() {
    let mut house = House::start();
    house.kill_daemon();
    let mut status = command(&house, &["status"]).stderr(Stdio::piped()).spawn().unwrap();
    drop(status.stderr.take());
    assert_eq!(status.wait().unwrap().code(), Some(6));
}

#[test]
fn status_names_what_scripts_rely_on() {
    let house = House::start();
    let status = run(&house, &["status", "--json"]).json();
    assert_eq!(status["pid"], house.daemon_pid());
    assert_eq!(status["socket"], house.socket().to_str().unwrap());
    assert!(status["http"].is_null() && status["version"].is_string());
    assert!(status["models"].is_array() && status["memory"]["budget_bytes"].as_u64().unwrap() > 0);
    let key = run(&house, &["key", "show"]);
    assert!(key.out.starts_with("imp_") && key.out.trim().len() > 40, "{key:?}");
    assert_eq!(run(&house, &["version", "--json"]).json()["daemon"]["pid"], house.daemon_pid());
    assert!(run(&house, &["logs"]).code == 0);
    assert!(run(&house, &["completions", "bash"]).out.contains("impetusctl"));
}

#[test]
fn doctor_finds_a_healthy_house_healthy() {
    let house = House::start();
    let findings = run(&house, &["doctor", "--json"]);
    assert_eq!(findings.code, 0, "{findings:?}");
    assert!(findings.json().as_array().unwrap().iter().all(|finding| finding["ok"] == true));
}

#[test]
fn serve_starts_what_is_missing_and_stop_ends_it() {
    let mut house = House::start();
    let serve = run(&house, &["serve", "--detach", "--http", "127.0.0.1:0", "--json"]);
    assert_eq!(serve.code, 0, "{serve:?}");
    let url = serve.json()["http"].as_str().unwrap().to_owned();
    assert!(url.starts_with("http://127.0.0.1:"), "{url}");
    assert_eq!(run(&house, &["status", "--json"]).json()["http"], url.as_str());
    let stopped = run(&house, &["stop"]);
    assert_eq!(stopped.code, 0, "{stopped:?}");
    assert!(house.daemon_ended());
    let bridge = url.trim_start_matches("http://");
    wait::until("the bridge listens no more", || TcpStream::connect(bridge).is_err());
    assert_eq!(run(&house, &["status"]).code, 6);
    assert_eq!(run(&house, &["stop"]).code, 0);
    // The daemon is started by whoever needs it, with the models it knew.
    let models = run(&house, &["models"]);
    assert!(models.out.contains("impetus-nano"), "{models:?}");
    assert_eq!(run(&house, &["stop"]).code, 0);
    let start = std::fs::read_to_string(house.home().join("logs/impetusd.start.log")).unwrap();
    assert_eq!(start, "", "its log is elsewhere, and rotated");
}

#[test]
fn what_a_foreground_service_starts_ends_with_it() {
    let mut house = House::start();
    assert_eq!(run(&house, &["stop"]).code, 0);
    assert!(house.daemon_ended());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let refused = run(&house, &["serve", "--http", &taken.local_addr().unwrap().to_string()]);
    assert!(refused.code == 6 && refused.err.contains("cannot listen"), "{refused:?}");
    assert!(!refused.err.contains("--listen"), "this program's flag is --http: {refused:?}");
    assert_eq!(run(&house, &["status"]).code, 6, "the daemon went with it");

    let serve = || {
        let mut serve = command(&house, &["serve", "--http", "127.0.0.1:0"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut first = String::new();
        BufReader::new(serve.stdout.take().unwrap()).read_line(&mut first).unwrap();
        assert!(first.contains("serves"), "{first}");
        serve
    };
    let mut foreground = serve();
    process::hang_up(foreground.id());
    assert!(foreground.wait().unwrap().success(), "a signal is no failure");
    assert_eq!(run(&house, &["status"]).code, 6);
    let mut foreground = serve();
    assert_eq!(run(&house, &["stop"]).code, 0);
    assert!(foreground.wait().unwrap().success(), "and neither is being stopped");
}

#[test]
fn a_foreground_service_serves_on_when_nobody_reads_what_it_says() {
    let mut house = House::start();
    assert_eq!(run(&house, &["stop"]).code, 0);
    assert!(house.daemon_ended());
    let mut deaf = command(&house, &["serve", "--http", "127.0.0.1:0"]).stdout(Stdio::piped()).spawn().unwrap();
    drop(deaf.stdout.take());
    wait::until("the bridge is announced", || {
        let status = run(&house, &["status", "--json"]);
        status.code == 0 && status.json()["http"].is_string()
    });
    // What it says comes when models are known; others are asked meanwhile, and after.
    for verb in ["models", "ps", "status", "models", "ps", "status"] {
        assert_eq!(run(&house, &[verb]).code, 0);
    }
    assert!(deaf.try_wait().unwrap().is_none(), "it is there ...");
    process::hang_up(deaf.id());
    assert!(deaf.wait().unwrap().success());
    assert_eq!(run(&house, &["status"]).code, 6, "... to end what it has started");
}

#[test]
fn a_bridge_whose_daemon_was_killed_is_stopped_too() {
    let mut house = House::start();
    let url = run(&house, &["serve", "--detach", "--json", "--http", "127.0.0.1:0"]).json()["http"]
        .as_str()
        .unwrap()
        .to_owned();
    house.kill_daemon();
    let stopped = run(&house, &["stop", "--json"]);
    assert_eq!(stopped.json()["stopped"], true, "{stopped:?}");
    wait::until("the bridge listens no more", || TcpStream::connect(url.trim_start_matches("http://")).is_err());
    wait::until("nothing is left to stop", || run(&house, &["stop", "--json"]).json()["stopped"] == false);
}

#[test]
fn a_bridge_is_where_it_was_asked_for_and_outlives_a_killed_daemon() {
    let mut house = House::start();
    let serve = |house: &House, flags: &[&str]| run(house, &[&["serve", "--detach", "--json"], flags].concat());
    let first = serve(&house, &["--http", "127.0.0.1:0"]).json()["http"].as_str().unwrap().to_owned();
    // Who serves can answer: the bundled models are known.
    assert_eq!(run(&house, &["status", "--json"]).json()["default_model"], "impetus-nano");
    assert_eq!(serve(&house, &[]).json()["http"], first.as_str());
    let second = serve(&house, &["--http", "127.0.0.1:0"]).json()["http"].as_str().unwrap().to_owned();
    assert_ne!(first, second);
    assert_eq!(run(&house, &["status", "--json"]).json()["bridges"].as_array().unwrap().len(), 2);
    let address = first.trim_start_matches("http://");
    let flags = serve(&house, &["--http", address, "--allow-host", "box.lan"]);
    assert!(flags.code == 7 && flags.err.contains(address), "flags that a bridge never saw are no success: {flags:?}");
    let tls = serve(&house, &["--tls-cert", "/a.pem", "--tls-key", "/a.key"]);
    assert!(
        tls.code == 7 && tls.err.contains("certificate"),
        "a bridge without TLS is not what was asked for: {tls:?}"
    );

    house.kill_daemon();
    let again = serve(&house, &["--http", address]);
    assert_eq!(again.code, 0, "the bridge that holds the address is found again: {again:?}");
    assert_eq!(again.json()["http"], first.as_str());
    wait::until("both bridges have found the new daemon", || {
        run(&house, &["status", "--json"]).json()["bridges"].as_array().unwrap().len() == 2
    });
    assert_eq!(run(&house, &["stop"]).code, 0);
    for url in [&first, &second] {
        wait::until("the bridge listens no more", || TcpStream::connect(url.trim_start_matches("http://")).is_err());
    }
}

#[test]
fn any_language_can_speak_the_protocol() {
    let house = House::start();
    let script = tests::programs::root().join("protocol/examples/impetus.py");
    let output = std::process::Command::new("python3")
        .arg(script)
        .arg("What is Impetus?")
        .env("IMPETUS_HOME", house.home())
        .env("IMPETUS_SOCKET", house.socket())
        .output()
        .expect("python3 is installed: tools/bootstrap.sh sees to it");
    let said = said(output);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.contains("impetus-nano") && said.out.contains("Impetus is"), "{said:?}");
}

#[test]
fn bench_reports_every_figure_and_fails_past_a_regression() {
    let house = House::start();
    let file = house.home().join("baseline.json");
    let file = file.to_str().unwrap();
    let few = ["bench", "--json", "--runs", "2", "--prompt", "32", "--tokens", "8", "--streams", "2"];
    let saved = run(&house, &[&few[..], &["--save", file]].concat());
    assert_eq!(saved.code, 0, "{saved:?}");
    let report = saved.json();
    let names: Vec<_> = report["measures"].as_array().unwrap().iter().map(|measure| &measure["name"]).collect();
    assert_eq!(names, ["ttft", "prefill", "decode", "batch"]);
    assert!(report["measures"].as_array().unwrap().iter().all(|measure| measure["value"].as_f64().unwrap() > 0.0));
    assert!(report["measures"][2]["roofline_percent"].as_f64().unwrap() > 0.0, "{report}");
    assert!(report["memory_read_bytes_per_s"].as_f64().unwrap() > 1e6);

    // A baseline that no machine reaches: the comparison is printed, and the command fails.
    let mut faster: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    faster["measures"][2]["value"] = 1e12.into();
    std::fs::write(file, faster.to_string()).unwrap();
    let regressed = run(&house, &[&few[..], &["--baseline", file, "--regression", "50"]].concat());
    assert_eq!(regressed.code, 1, "{regressed:?}");
    let changes = regressed.json()["comparison"]["changes"].clone();
    assert_eq!((&changes[2]["name"], &changes[2]["regressed"]), (&"decode".into(), &true.into()));
    assert!(regressed.err.contains("decode"), "{regressed:?}");

    let other = run(&house, &["bench", "--tokens", "9", "--baseline", file]);
    assert_eq!(other.code, 7, "{other:?}");

    let report = run(&house, &[&few[..], &["impetus-nano-embed"]].concat()).json();
    let names: Vec<_> = report["measures"].as_array().unwrap().iter().map(|measure| &measure["name"]).collect();
    assert_eq!(names, ["latency", "embed", "embed_batch"]);
    assert!(report["measures"].as_array().unwrap().iter().all(|measure| measure["value"].as_f64().unwrap() > 0.0));
}
