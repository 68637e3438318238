//! A worker that follows a script instead of a model, for tests of impetusd: it speaks the pipe like the real one, and
//! dies, hangs or refuses where `script.json` in the model's folder says so. It is built with the tests and is part
//! of no product. Its answers depend on seed and position only, like those of the real worker.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use pipe::{Answer, Ask, FromWorker, Open, Pulse, Question, Ready, Submit, ToWorker, WorkEvent, WorkId};
use protocol::generation::{ChoiceFinished, Delta, FinishReason, Finished, Prompt, Started, Usage};
use protocol::model::{Capabilities, ModelFacts};
use protocol::text::Tokens;
use protocol::transcript::Event;
use protocol::{Error, ErrorKind};
use serde::Deserialize;

/// What the worker of one folder does.
#[derive(Deserialize)]
#[serde(default)]
struct Script {
    /// `ok`, `fail`, `crash` or `hang`.
    load: String,
    /// Tokens of an answer whose request does not say how many.
    tokens: u32,
    /// Dies when it is to make this token ...
    die_at: Option<u32>,
    /// ... or stops for good at this one ...
    hang_at: Option<u32>,
    /// ... in its first so many lives.
    lives: u64,
    /// Makes no token after this one before there is a file `go` beside its script.
    rests_at: Option<u32>,
    /// Dies when an answer has got this many tokens in one life.
    stint: Option<u32>,
    /// Milliseconds for a step.
    pace_ms: u64,
    /// Megabytes of its weights.
    megabytes: u64,
    /// Whether its folder is refused before its weights are looked at.
    strange: bool,
    /// Whether an answer says who asks, and nothing else.
    says_client: bool,
}

impl Default for Script {
    fn default() -> Self {
        let (load, tokens, pace_ms, megabytes) = ("ok".to_owned(), 8, 1, 10);
        Self {
            load,
            tokens,
            die_at: None,
            hang_at: None,
            rests_at: None,
            lives: u64::MAX,
            stint: None,
            pace_ms,
            megabytes,
            strange: false,
            says_client: false,
        }
    }
}

/// A request that is being answered.
struct Running {
    submit: Submit,
    made: u32,
    /// How many were made in earlier lives.
    before: u32,
    tokens: u32,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve"] => serve(),
        ["inspect", path] => inspect(Path::new(path)),
        ["foresee", path] => foresee(Path::new(path)),
        ["bundled", path] => bundled(Path::new(path)),
        ["import", file, dir] => import(Path::new(file), Path::new(dir)),
        _ => std::process::exit(64),
    }
}

fn script(path: &Path) -> Option<Script> {
    serde_json::from_str(&std::fs::read_to_string(path.join("script.json")).ok()?).ok()
}

fn facts(script: &Script) -> ModelFacts {
    ModelFacts {
        architecture: "script".to_owned(),
        parameters: 1000,
        context_length: 1000,
        vocabulary: 1_000_000,
        weights: "none".to_owned(),
        weights_bytes: script.megabytes * 1_000_000,
        memory_bytes: script.megabytes * 1_000_000,
        step_bytes: script.megabytes * 1_000_000,
        kv_bytes_per_token: 10,
        dimensions: None,
        capabilities: Capabilities { chat: true, tools: true, ..Capabilities::default() },
    }
}

fn foresee(path: &Path) {
    if script(path).is_some_and(|script| script.strange) {
        let error = Error::new(ErrorKind::Unsupported, "architecture strange is not supported");
        println!("{}", serde_json::to_string(&error).unwrap());
        std::process::exit(1);
    }
    println!("null");
}

fn inspect(path: &Path) {
    match script(path) {
        Some(script) => println!("{}", serde_json::to_string(&facts(&script)).unwrap()),
        None => {
            let error = Error::new(ErrorKind::Unsupported, format!("{} holds no script", path.display()));
            println!("{}", serde_json::to_string(&error).unwrap());
            std::process::exit(1);
        }
    }
}

fn bundled(folder: &Path) {
    let path = folder.join("impetus-nano");
    std::fs::create_dir_all(&path).unwrap();
    std::fs::write(path.join("script.json"), "{}").unwrap();
    std::fs::write(path.join("config.json"), "{}").unwrap();
    println!("{}", serde_json::json!([{ "name": "impetus-nano", "path": path.to_str().unwrap() }]));
}

/// A file is a script, or the word for how its import ends.
fn import(file: &Path, dir: &Path) {
    let line = |line: &pipe::Importing| println!("{}", serde_json::to_string(line).unwrap());
    let text = std::fs::read_to_string(file).unwrap();
    line(&pipe::Importing::Progress { done: 1, total: 2 });
    std::fs::write(dir.join("script.json"), &text).unwrap();
    match text.as_str() {
        "fail" => {
            line(&pipe::Importing::Failed(Error::new(ErrorKind::Unsupported, "architecture mamba is not supported")));
        }
        "die" => std::process::exit(9),
        // Until the daemon lets go.
        "hang" => drop(io::copy(&mut io::stdin(), &mut io::sink())),
        _ => line(&pipe::Importing::Done(pipe::Imported { requantized: 0, moved: 0.0 })),
    }
}

fn say(message: &FromWorker) {
    if pipe::write(&mut io::stdout().lock(), message).is_err() {
        std::process::exit(0);
    }
}

fn serve() {
    let Ok(ToWorker::Open(open)) = pipe::read(&mut io::stdin().lock()) else { std::process::exit(65) };
    let path = Path::new(&open.path);
    let mut script = script(path).unwrap();
    if count_life(path) > script.lives {
        (script.die_at, script.hang_at) = (None, None);
    }
    eprintln!("{}", serde_json::json!({ "level": "INFO", "fields": { "message": "scripted worker starts" } }));
    say(&FromWorker::Loading { done: 1, total: 2 });
    match script.load.as_str() {
        "fail" => {
            say(&FromWorker::LoadFailed(Error::new(ErrorKind::Unsupported, "the script refuses")));
            std::process::exit(1);
        }
        "crash" => std::process::abort(),
        "hang" => hang(),
        _ => {}
    }
    let pulse = Pulse { memory_bytes: 1_000_000, blocks_total: 100, ..Pulse::default() };
    say(&FromWorker::Ready(Ready { facts: facts(&script), device: "script".to_owned(), load_ms: 1, pulse }));
    let (sender, inbox) = channel();
    std::thread::spawn(move || {
        while let Ok(message) = pipe::read::<ToWorker>(&mut io::stdin().lock()) {
            if sender.send(message).is_err() {
                return;
            }
        }
    });
    step_for_ever(&open, &script, &inbox);
}

/// Counts this start in a file beside the script.
fn count_life(path: &Path) -> u64 {
    let mut lives = std::fs::OpenOptions::new().create(true).append(true).open(path.join("lives")).unwrap();
    lives.write_all(b".").unwrap();
    lives.metadata().unwrap().len()
}

fn hang() -> ! {
    loop {
        std::thread::park();
    }
}

fn step_for_ever(open: &Open, script: &Script, inbox: &Receiver<ToWorker>) {
    let mut works: BTreeMap<WorkId, Running> = BTreeMap::new();
    let mut draining = false;
    loop {
        let wait = if works.is_empty() { 3_600_000 } else { script.pace_ms };
        match inbox.recv_timeout(Duration::from_millis(wait)) {
            Ok(ToWorker::Submit(submit)) => accept(open, script, *submit, &mut works),
            Ok(ToWorker::Cancel(id)) => drop(works.remove(&id)),
            Ok(ToWorker::Drain) => draining = true,
            Ok(ToWorker::Ask(ask)) => answer(open, script, ask),
            Ok(ToWorker::Open(_) | ToWorker::Encode(_)) => std::process::exit(65),
            Err(RecvTimeoutError::Disconnected) => std::process::exit(0),
            Err(RecvTimeoutError::Timeout) => works.retain(|id, work| step(open, script, *id, work)),
        }
        let running = works.len() as u32;
        say(&FromWorker::Pulse(Pulse { running, memory_bytes: 1_000_000, blocks_total: 100, ..Pulse::default() }));
        if draining && works.is_empty() {
            std::process::exit(0);
        }
    }
}

/// Answers a question: a byte is a token. One whose script says that it dies does so here too.
fn answer(open: &Open, script: &Script, ask: Ask) {
    if script.die_at.is_some() {
        std::process::abort();
    }
    let answer = match ask.question {
        Question::Tokenize(request) => match request.prompt {
            Prompt::Text(text) => {
                let tokens = text.bytes().map(u32::from).collect();
                Ok(Answer::Tokens(Tokens { model: open.name.clone(), rendered: None, tokens, pieces: Vec::new() }))
            }
            _ => Err(Error::new(ErrorKind::Unsupported, "the script reads text only")),
        },
        Question::Detokenize(request) => {
            Ok(Answer::Text(request.tokens.into_iter().filter_map(char::from_u32).collect()))
        }
    };
    say(&FromWorker::Answer(ask.id, answer));
}

fn tell(id: WorkId, tokens: Vec<u32>, event: Event) {
    say(&FromWorker::Event(WorkEvent { id, tokens, sampler: None, event }));
}

fn accept(open: &Open, script: &Script, submit: Submit, works: &mut BTreeMap<WorkId, Running>) {
    let started = Started { model: open.name.clone(), prompt_tokens: 1, seed: submit.seed, max_tokens: 0 };
    tell(submit.id, vec![], Event::Started(started));
    let made = submit.delivered.first().map_or(0, |choice| choice.tokens.len() as u32);
    let tokens = submit.request.stop.max_tokens.unwrap_or(script.tokens);
    works.insert(submit.id, Running { submit, made, before: made, tokens });
}

/// Makes one token; returns whether more are to come.
fn step(open: &Open, script: &Script, id: WorkId, work: &mut Running) -> bool {
    if script.die_at == Some(work.made) || script.stint == Some(work.made - work.before) {
        std::process::abort();
    }
    if script.hang_at == Some(work.made) {
        hang();
    }
    if script.rests_at == Some(work.made) && !Path::new(&open.path).join("go").exists() {
        return true;
    }
    if work.made < work.tokens {
        let token = ((work.submit.seed + u64::from(work.made) * 7) % 1000) as u32;
        let text = if script.says_client { work.submit.client.to_string() } else { format!("{token} ") };
        let delta = Delta { text, tokens: 1, ..Delta::default() };
        tell(id, vec![token], Event::Delta(delta));
        work.made += 1;
        return true;
    }
    let reason = FinishReason::Length;
    tell(id, vec![], Event::ChoiceFinished(ChoiceFinished { choice: 0, reason, stop_string: None }));
    let usage = Usage { prompt_tokens: 1, completion_tokens: work.made, ..Usage::default() };
    tell(id, vec![], Event::Finished(Finished { usage, ..Finished::default() }));
    false
}
