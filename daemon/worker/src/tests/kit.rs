//! The daemon's side of the pipe for tests, and a folder with a random model.
//!
//! Nothing waits without a limit: a worker that goes silent fails its test.

use std::fs;
use std::io::{PipeWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use engine::random::Recipe;
use pipe::{Delivered, FromWorker, Open, PipeError, Pulse, Submit, ToWorker, WorkId};
use protocol::generation::{
    Chat, FinishReason, Finished, GenerateRequest, Message, Priority, Prompt, PromptToken, Role, Sampling, Stop,
    TokenLogprob, ToolCallDelta,
};
use protocol::transcript::Event;
use protocol::{Error, ErrorKind};
use serde_json::{Value, json};

use crate::ServeError;
use crate::guard::Limits;
use crate::prompt::renderer::Renderer;

const PATIENCE: Duration = Duration::from_secs(120);

/// A folder with a random model, removed at the end.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new(name: &str, recipe: impl FnOnce(Recipe) -> Recipe) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let unique = format!("{name}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(format!("impetus-worker-{unique}"));
        recipe(Recipe::tiny("qwen3", 7)).write(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The same folder with another chat template.
    pub fn with_template(self, source: &str) -> Self {
        fs::write(self.0.join("chat_template.jinja"), source).unwrap();
        self
    }

    /// Renders its template within limits.
    pub fn renderer(&self, limits: Limits) -> Renderer {
        Renderer::new(&program(), &self.0, limits)
    }

    /// Bytes of one KV block.
    pub fn block_bytes(&self) -> u64 {
        crate::facts::inspect(&self.0).unwrap().kv_bytes_per_token * u64::from(scheduler::BLOCK_TOKENS)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// `impetus-worker`, which cargo builds before it runs the tests of this package.
pub fn program() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    own.parent().and_then(Path::parent).unwrap().join("impetus-worker")
}

/// Has the tokenizer of a model folder look at the whole rest of a text for each of its letters.
pub fn look_far(dir: &Path) {
    let path = dir.join("tokenizer.json");
    let mut tokenizer: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let split =
        json!({"type": "Split", "pattern": {"Regex": r"(?s:.*)\x00|."}, "behavior": "Isolated", "invert": false});
    tokenizer["pre_tokenizer"] = json!({"type": "Sequence", "pretokenizers": [split, tokenizer["pre_tokenizer"]]});
    fs::write(&path, tokenizer.to_string()).unwrap();
}

/// A conversation of one turn.
pub fn chat(text: &str, max_tokens: u32) -> GenerateRequest {
    let message = Message {
        role: Role::User,
        content: text.to_string(),
        reasoning: None,
        tool_calls: Vec::new(),
        tool_call_id: None,
        name: None,
    };
    let prompt = Prompt::Chat(Chat { messages: vec![message], ..Chat::default() });
    GenerateRequest { prompt, ..request("", max_tokens) }
}

pub fn open(folder: &Folder) -> Open {
    Open {
        path: folder.path().to_string_lossy().into_owned(),
        name: "tiny".to_string(),
        threads: 1,
        kv_bytes: 64 << 20,
        keep: pipe::Keep::Bf16,
        sequences_max: 16,
        waiting_max: 16,
        prefill_tokens_max: 48,
        step_ms: 80,
        draft: None,
        draft_tokens_max: 6,
        shelf: None,
        warm_up: true,
    }
}

/// A shelf in a folder of its own, and a worker whose cache holds `blocks`.
pub fn shelved(folder: &Folder, blocks: u64) -> Open {
    let dir = folder.path().join("prefixes").to_string_lossy().into_owned();
    let model = "model".to_string();
    let shelf = Some(pipe::Shelf { dir, model, bytes_max: 1 << 30, day_bytes_max: 1 << 30, key: None });
    Open { kv_bytes: blocks * folder.block_bytes(), shelf, ..open(folder) }
}

pub fn request(text: &str, max_tokens: u32) -> GenerateRequest {
    GenerateRequest {
        model: None,
        prompt: Prompt::Text(text.to_string()),
        sampling: Sampling { temperature: Some(0.9), ..Sampling::default() },
        stop: Stop { max_tokens: Some(max_tokens), ..Stop::default() },
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

pub fn submit(id: u64, request: &GenerateRequest, delivered: Vec<Delivered>) -> ToWorker {
    submit_as(0, id, request, delivered)
}

pub fn submit_as(client: u64, id: u64, request: &GenerateRequest, delivered: Vec<Delivered>) -> ToWorker {
    ToWorker::Submit(Box::new(Submit { client, seed: 42, delivered, ..submission(id, request.clone()) }))
}

/// A request as the daemon hands it over for the first time.
pub fn submission(id: u64, request: GenerateRequest) -> Submit {
    Submit {
        id: WorkId(id),
        request,
        client: 0,
        salt: 0,
        seed: 1,
        received_unix_ms: 0,
        delivered: Vec::new(),
        prompt_told: 0,
        tokens_allowed: None,
        trace: None,
    }
}

/// What a request came to, by choice.
#[derive(Default)]
pub struct Answer {
    pub started: bool,
    pub tokens: Vec<Vec<u32>>,
    pub text: Vec<String>,
    pub reasons: Vec<Option<FinishReason>>,
    pub stop_strings: Vec<String>,
    pub logprobs: Vec<Vec<TokenLogprob>>,
    pub prompt: Vec<PromptToken>,
    pub calls: Vec<ToolCallDelta>,
    pub finished: Finished,
    /// Deltas of other requests seen meanwhile.
    pub others: u32,
}

/// A worker on a thread, and the daemon's ends of its pipe.
pub struct Daemon {
    input: Option<PipeWriter>,
    output: Receiver<Result<FromWorker, PipeError>>,
    /// What was read while waiting for something else.
    passed: Vec<FromWorker>,
    ended: Receiver<()>,
    worker: Option<JoinHandle<Result<(), ServeError>>>,
}

impl Daemon {
    /// Starts a worker and waits until its model is loaded.
    pub fn start(open: Open) -> Self {
        let mut daemon = Self::begin(open);
        daemon.until(|message| matches!(message, FromWorker::Ready(_)));
        daemon
    }

    /// Starts a worker and tells it to load a model.
    pub fn begin(open: Open) -> Self {
        let (from_daemon, input) = std::io::pipe().unwrap();
        let (mut output, to_daemon) = std::io::pipe().unwrap();
        let (end, ended) = channel();
        let worker = std::thread::spawn(move || {
            crate::serve(&program(), from_daemon, to_daemon, move || end.send(()).unwrap_or_default())
        });
        let (sender, messages) = channel();
        std::thread::spawn(move || {
            loop {
                let message = pipe::read(&mut output);
                let over = message.is_err();
                if sender.send(message).is_err() || over {
                    return;
                }
            }
        });
        let mut daemon = Self { input: Some(input), output: messages, passed: Vec::new(), ended, worker: Some(worker) };
        daemon.send(ToWorker::Open(open));
        daemon
    }

    pub fn send(&mut self, message: ToWorker) {
        pipe::write(self.input.as_mut().unwrap(), &message).unwrap();
    }

    /// Sends several messages at once, so that the worker does nothing between them.
    pub fn send_all(&mut self, messages: impl IntoIterator<Item = ToWorker>) {
        let frames: Vec<u8> = messages.into_iter().flat_map(|message| pipe::encode(&message).unwrap()).collect();
        self.input.as_mut().unwrap().write_all(&frames).unwrap();
    }

    /// The next message; a worker that only says how it is does not end the wait.
    fn next(&mut self, until: Instant) -> FromWorker {
        let left = until.saturating_duration_since(Instant::now());
        self.output.recv_timeout(left).expect("the worker says it in time").expect("the worker lives")
    }

    /// Reads until a message is what is waited for; what came before stays for others.
    #[track_caller]
    pub fn until(&mut self, wanted: impl Fn(&FromWorker) -> bool) -> FromWorker {
        if let Some(index) = self.passed.iter().position(&wanted) {
            return self.passed.remove(index);
        }
        let end = Instant::now() + PATIENCE;
        loop {
            let message = self.next(end);
            if wanted(&message) {
                return message;
            }
            self.passed.push(message);
        }
    }

    /// Waits until a request has a first delta.
    pub fn see_delta(&mut self, id: u64) {
        let end = Instant::now() + PATIENCE;
        while !self.seen_delta(id) {
            let message = self.next(end);
            self.passed.push(message);
        }
    }

    /// Whether a request has been seen to have a delta.
    pub fn seen_delta(&self, id: u64) -> bool {
        let is_delta = |message: &FromWorker| matches!(message, FromWorker::Event(event) if event.id.0 == id && matches!(event.event, Event::Delta(_)));
        self.passed.iter().any(is_delta)
    }

    /// How many events of a request were read while others were waited for; they are dropped.
    pub fn drop_passed(&mut self, id: u64) -> usize {
        self.passed.extract_if(.., |message| matches!(message, FromWorker::Event(event) if event.id.0 == id)).count()
    }

    /// Every event of a request up to its last, without tokens.
    pub fn events(&mut self, id: u64) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            let message = self.until(|message| matches!(message, FromWorker::Event(event) if event.id.0 == id));
            let FromWorker::Event(event) = message else { continue };
            let last = matches!(event.event, Event::Finished(_) | Event::Failed(_));
            events.push(event.event);
            if last {
                return events;
            }
        }
    }

    /// The whole answer of a request.
    #[track_caller]
    pub fn answer(&mut self, id: u64) -> Answer {
        let mut answer = Answer::default();
        loop {
            let message = self.until(|message| matches!(message, FromWorker::Event(event) if event.id.0 == id));
            let FromWorker::Event(work) = message else { continue };
            match work.event {
                Event::Started(_) => answer.started = true,
                // How much of a prompt is read changes no answer.
                Event::Progress(_) => {}
                Event::Delta(delta) => {
                    assert_eq!(delta.tokens as usize, work.tokens.len());
                    let choice = answer.choice(delta.choice);
                    answer.tokens[choice].extend(work.tokens);
                    answer.text[choice].push_str(&delta.text);
                    answer.logprobs[choice].extend(delta.logprobs);
                    answer.calls.extend(delta.tool_calls);
                    answer.prompt.extend(delta.prompt);
                }
                Event::ChoiceFinished(end) => {
                    let choice = answer.choice(end.choice);
                    answer.reasons[choice] = Some(end.reason);
                    answer.stop_strings.extend(end.stop_string);
                }
                Event::Finished(finished) => {
                    let others =
                        |message: &&FromWorker| matches!(message, FromWorker::Event(event) if event.id.0 != id);
                    answer.others = self.passed.iter().filter(others).count() as u32;
                    answer.finished = finished;
                    return answer;
                }
                other => panic!("request {id} came to {other:?}"),
            }
        }
    }

    /// The error that a request ends with.
    #[track_caller]
    pub fn failure(&mut self, id: u64) -> Error {
        match self.events(id).pop() {
            Some(Event::Failed(error)) => error,
            other => panic!("request {id} did not fail: {other:?}"),
        }
    }

    /// Waits until some request has a delta, or is refused for want of room, and says which; everything read before is dropped.
    pub fn next_told(&mut self) -> (u64, bool) {
        self.passed.clear();
        let end = Instant::now() + PATIENCE;
        loop {
            let FromWorker::Event(work) = self.next(end) else { continue };
            match work.event {
                Event::Delta(_) => return (work.id.0, true),
                Event::Failed(error) if error.kind == ErrorKind::Busy => return (work.id.0, false),
                Event::Failed(error) => panic!("request {} failed: {error}", work.id.0),
                _ => {}
            }
        }
    }

    /// The next pulse of a worker without work; everything read before is dropped.
    pub fn idle_pulse(&mut self) -> Pulse {
        self.passed.clear();
        let idle =
            |message: &FromWorker| matches!(message, FromWorker::Pulse(pulse) if pulse.running + pulse.waiting == 0);
        let FromWorker::Pulse(pulse) = self.until(idle) else { panic!("a pulse was waited for") };
        self.passed.clear();
        pulse
    }

    pub fn load_failure(&mut self) -> Error {
        match self.until(|message| matches!(message, FromWorker::LoadFailed(_) | FromWorker::Ready(_))) {
            FromWorker::LoadFailed(error) => error,
            other => panic!("the load went well: {other:?}"),
        }
    }

    /// How the worker ended.
    pub fn served(mut self) -> Result<(), ServeError> {
        self.worker.take().unwrap().join().unwrap()
    }

    /// Closes the worker's input and waits until it has noticed.
    pub fn close_input(mut self) {
        self.input = None;
        self.ended.recv_timeout(PATIENCE).expect("the end of the input is noticed");
    }
}

impl Answer {
    fn choice(&mut self, choice: u16) -> usize {
        let choice = usize::from(choice);
        let count = self.tokens.len().max(choice + 1);
        self.tokens.resize(count, Vec::new());
        self.text.resize(count, String::new());
        self.logprobs.resize(count, Vec::new());
        self.reasons.resize(count, None);
        choice
    }
}
