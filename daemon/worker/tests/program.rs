//! The program `impetus-worker` as the daemon and a person meet it: what it prints and how it exits.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use engine::random::Recipe;
use engine::random::gguf::{Form, write_folder};
use pipe::{FromWorker, Importing, Open, Submit, ToWorker, WorkId};
use protocol::ErrorKind;
use protocol::generation::{Chat, FinishReason, GenerateRequest, Message, Priority, Prompt, Role, Sampling, Stop};
use protocol::model::ModelFacts;
use protocol::trace::TraceParent;
use protocol::transcript::Event;

/// A folder that is removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("impetus-worker-program-{name}-{}", std::process::id())))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn run(words: &[&str], path: Option<&Path>) -> Output {
    Command::new(env!("CARGO_BIN_EXE_impetus-worker"))
        .args(words)
        .args(path)
        .stdin(Stdio::null())
        .output()
        .expect("the program starts")
}

#[test]
fn inspect_prints_facts_as_json() {
    let folder = Folder::new("facts");
    Recipe::tiny("llama", 1).quantized(4, 64).write(&folder.0).unwrap();
    let output = run(&["inspect"], Some(&folder.0));
    assert!(output.status.success());
    let facts: ModelFacts = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((facts.architecture.as_str(), facts.context_length), ("llama", 4096));
    assert!(facts.capabilities.chat && facts.kv_bytes_per_token > 0);
}

#[test]
fn inspect_of_no_model_prints_the_error_and_fails() {
    let output = run(&["inspect"], Some(&Folder::new("absent").0));
    assert_eq!(output.status.code(), Some(1));
    let error: protocol::Error = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(error.kind, ErrorKind::NotFound);
    assert!(error.message.contains("absent"), "{}", error.message);
}

#[test]
fn inspect_ends_where_a_tokenizer_takes_more_memory_than_it_may() {
    let folder = Folder::new("vast");
    Recipe::tiny("llama", 1).write(&folder.0).unwrap();
    let path = folder.0.join("tokenizer.json");
    let mut tokenizer: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let words: Vec<String> = (0..100_000).map(|word| format!("w{word}")).collect();
    let split = serde_json::json!({
        "type": "Split", "pattern": {"Regex": words.join("|")}, "behavior": "Isolated", "invert": false
    });
    tokenizer["pre_tokenizer"] =
        serde_json::json!({"type": "Sequence", "pretokenizers": [split, tokenizer["pre_tokenizer"]]});
    std::fs::write(&path, tokenizer.to_string()).unwrap();
    let bytes = (32 << 20).to_string();
    let output = run(&["inspect", folder.0.to_str().unwrap()], Some(Path::new(&bytes)));
    assert_eq!(output.status.code(), Some(1));
    let error: protocol::Error = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(error.kind, ErrorKind::ModelNotLoaded);
    assert!(error.message.contains("takes more than 32 MiB"), "{}", error.message);
}

#[test]
fn a_worker_without_a_daemon_ends_at_once() {
    assert!(run(&["serve"], None).status.success());
}

#[test]
fn unknown_words_show_the_usage() {
    let output = run(&["dance"], None);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("inspect PATH"));
}

fn question(text: &str) -> GenerateRequest {
    let message = Message {
        role: Role::User,
        content: text.to_string(),
        reasoning: None,
        tool_calls: Vec::new(),
        tool_call_id: None,
        name: None,
    };
    GenerateRequest {
        model: None,
        prompt: Prompt::Chat(Chat { messages: vec![message], ..Chat::default() }),
        sampling: Sampling { temperature: Some(0.0), ..Sampling::default() },
        stop: Stop { max_tokens: Some(200), ..Stop::default() },
        logprobs: None,
        choices: 1,
        priority: Priority::Normal,
        deadline_ms: None,
        constraint: None,
        prompt_logprobs: false,
        further: false,
        following: 0,
    }
}

#[test]
fn the_bundled_model_answers_over_the_pipe_and_ends_with_its_input_though_nobody_reads_its_log() {
    let folder = Folder::new("bundled");
    let output = run(&["bundled"], Some(&folder.0));
    let models: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let path = models[0]["path"].as_str().unwrap().to_string();
    let mut worker = Command::new(env!("CARGO_BIN_EXE_impetus-worker"))
        .arg("serve")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(worker.stderr.take());
    let (mut input, mut output) = (worker.stdin.take().unwrap(), worker.stdout.take().unwrap());
    let (name, kv_bytes) = ("impetus-nano".to_string(), 32 << 20);
    let open = Open {
        path,
        name,
        threads: 1,
        kv_bytes,
        keep: pipe::Keep::Bf16,
        sequences_max: 4,
        waiting_max: 4,
        prefill_tokens_max: 64,
        step_ms: 80,
        draft: None,
        draft_tokens_max: 4,
        shelf: None,
        warm_up: false,
    };
    pipe::write(&mut input, &ToWorker::Open(open)).unwrap();
    let request = question("What is Impetus?");
    let submit = Submit {
        id: WorkId(1),
        request,
        client: 0,
        salt: 0,
        seed: 1,
        received_unix_ms: 0,
        delivered: Vec::new(),
        prompt_told: 0,
        tokens_allowed: None,
        // What stands in a trace is logged.
        trace: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse::<TraceParent>().unwrap()),
    };
    pipe::write(&mut input, &ToWorker::Submit(Box::new(submit))).unwrap();
    let (mut text, mut reason) = (String::new(), None);
    loop {
        match pipe::read::<FromWorker>(&mut output).unwrap() {
            FromWorker::Event(work) => match work.event {
                Event::Delta(delta) => text.push_str(&delta.text),
                Event::ChoiceFinished(end) => reason = Some(end.reason),
                Event::Finished(_) => break,
                Event::Failed(error) => panic!("{error:?}"),
                _ => {}
            },
            FromWorker::LoadFailed(error) => panic!("{error:?}"),
            _ => {}
        }
    }
    assert!(text.contains("Impetus"), "{text}");
    assert_eq!(reason, Some(FinishReason::Stop), "{text}");
    drop(input);
    assert!(worker.wait().unwrap().success());
}

/// A GGUF file of a tiny model, and an empty folder for what is made of it.
fn gguf(folder: &Folder) -> (PathBuf, PathBuf) {
    Recipe::tiny("llama", 1).write(&folder.0).expect("the folder is written");
    let (file, made) = (folder.0.join("tiny.gguf"), folder.0.join("made"));
    write_folder(&folder.0, &file, |_| Form::F16).expect("the file is written");
    std::fs::create_dir(&made).expect("the folder is made");
    (file, made)
}

/// Runs an import to its end, and returns whether it went well and what it said.
fn listen(program: &mut Command) -> (bool, Vec<Importing>) {
    let mut child = program.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the program starts");
    // Its input stays open as long as somebody waits for it.
    let held = child.stdin.take();
    let output = child.wait_with_output().expect("the program ends");
    drop(held);
    let said = output.stdout.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
    (output.status.success(), said.collect())
}

#[test]
fn import_makes_a_folder_that_inspects_well() {
    let folder = Folder::new("import");
    let (file, made) = gguf(&folder);
    let mut program = Command::new(env!("CARGO_BIN_EXE_impetus-worker"));
    let (good, said) = listen(program.arg("import").args([&file, &made]));
    assert!(good);
    assert!(matches!(said.last(), Some(Importing::Done(imported)) if imported.requantized == 0), "{said:?}");
    assert!(run(&["inspect"], Some(&made)).status.success());
}

#[test]
fn import_to_a_disk_that_takes_no_more_says_so() {
    let folder = Folder::new("full");
    let (file, made) = gguf(&folder);
    // The largest size of a file stands for a full disk: a write fails in the middle.
    let script = "trap '' XFSZ; ulimit -f 100; exec \"$0\" import \"$1\" \"$2\"";
    let mut shell = Command::new("bash");
    let shell = shell.args(["-c", script, env!("CARGO_BIN_EXE_impetus-worker")]).args([&file, &made]);
    let (good, said) = listen(shell);
    assert!(!good);
    let Some(Importing::Failed(error)) = said.last() else { panic!("{said:?}") };
    assert!(error.message.contains("model.safetensors") && error.message.contains("cannot be written"), "{error:?}");
}
