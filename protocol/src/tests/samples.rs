//! One value of every type on the wire, each optional field present somewhere and absent somewhere else.

mod access;
mod admin;
mod answer;

use crate::encode::{EmbedRequest, Embedded, Input, Overlong, RerankRequest, Scored};
use crate::generation::{
    Chat, ChoiceFinished, Constraint, Ending, FinishReason, Finished, GenerateRequest, Json, Message, Missed, Priority,
    Prompt, Role, Sampling, Speculation, Started, Stop, Timing, Tool, ToolCall, ToolChoice, Usage,
};
use crate::journal::{AuditPage, AuditRequest, RequestsPage};
use crate::key::{KeyRole, Principal, Rate, RotateKeyRequest};
use crate::measures::Measures;
use crate::model::{
    AddRequest, Capabilities, ImportRequest, LoadRequest, ModelCard, ModelFacts, ModelState, ModelTexts, PullRequest,
    RemoveRequest, Residence, Source,
};
use crate::news::WatchRequest;
use crate::record::{Collection, KeepRequest, ListRequest, Record, RecordCard, RecordId, RecordList};
use crate::service::{ImpetusRequest as Request, ImpetusResponse as Response};
use crate::status::{Bridge, Hello, Machine, Memory, Status, StopRequest, Welcome};
use crate::text::{DetokenizeRequest, Special, TokenizeRequest, Tokens};
use crate::transcript::{Cursor, Event, Page, Progress, ReadRequest, Stage, TranscriptId, Unit};
use crate::wire::{Call, Reply};
use crate::{Error, ErrorKind};

use access::{audit_entry, create_key, knock, login, request_entry, requests};
pub(super) use access::{issued, key_card};
use admin::{change_settings, spans, trace};
pub(super) use admin::{metrics, news, setting};
pub(super) use answer::delta;

/// Returns every golden call, by name.
pub(super) fn calls() -> Vec<(&'static str, Call<Request>)> {
    let read = ReadRequest { id: TranscriptId(7), cursor: Cursor(3), wait_ms: 20_000 };
    let load = LoadRequest { model: "impetus-nano".into(), pin: Some(true), keep_alive_ms: None };
    let remove = RemoveRequest { model: "impetus-nano".into(), delete_files: true };
    let import = ImportRequest { path: "/models/qwen.gguf".into(), name: Some("mine".into()) };
    let add = AddRequest { path: "/models/qwen".into(), name: None };
    let verbs = vec![
        (
            "handshake",
            Request::Handshake { hello: Hello { client: "impetusctl/0.1.0".into(), key: Some("key_1".into()) } },
        ),
        ("status", Request::Status {}),
        ("begin-chat", Request::Begin { request: chat(), trace: Some(trace()) }),
        ("begin-text", Request::Begin { request: text(), trace: None }),
        ("begin-tokens", Request::Begin { request: tokens(), trace: None }),
        ("read", Request::Read { request: read }),
        ("cancel", Request::Cancel { id: TranscriptId(7) }),
        ("models", Request::Models {}),
        ("add", Request::Add { request: add }),
        ("remove", Request::Remove { request: remove }),
        ("pull", Request::Pull { request: pull(), trace: Some(trace()) }),
        ("load", Request::Load { request: load, trace: Some(trace()) }),
        ("unload", Request::Unload { model: "impetus-nano".into() }),
        ("first-key", Request::FirstKey {}),
        ("authenticate", Request::Authenticate { knock: knock() }),
        ("announce", Request::Announce { bridge: bridge() }),
        ("stop", Request::Stop { request: StopRequest { drain_ms: 5_000 } }),
        ("tokenize", Request::Tokenize { request: tokenize(), trace: Some(trace()) }),
        (
            "detokenize",
            Request::Detokenize { request: DetokenizeRequest { model: None, tokens: vec![5, 6] }, trace: None },
        ),
        ("keep", Request::Keep { request: keep() }),
        ("recall", Request::Recall { id: record_id() }),
        ("forget", Request::Forget { id: record_id() }),
        ("list", Request::List { request: list() }),
        ("embed", Request::Embed { request: embed(), trace: Some(trace()) }),
        ("rerank", Request::Rerank { request: rerank(), trace: None }),
        ("keys", Request::Keys {}),
        ("create-key", Request::CreateKey { request: create_key() }),
        ("rotate-key", Request::RotateKey { request: RotateKeyRequest { id: "key_1".into(), grace_s: 60 } }),
        ("revoke-key", Request::RevokeKey { id: "key_1".into() }),
        ("audit", Request::Audit { request: AuditRequest { limit: 10, after: Some(7) } }),
        ("requests", Request::Requests { request: requests() }),
        ("import", Request::Import { request: import, trace: None }),
        ("settings", Request::Settings {}),
        ("change-settings", Request::ChangeSettings { request: change_settings() }),
        ("metrics", Request::Metrics {}),
        ("report-spans", Request::ReportSpans { spans: spans() }),
        ("watch", Request::Watch { request: WatchRequest { after: Some(7), wait_ms: 20_000 } }),
        ("texts", Request::Texts { model: "impetus-nano".into() }),
        ("backup", Request::Backup { path: "/backups/impetus.db".into() }),
    ];
    let number = |(id, (name, verb))| (name, Call::Request { id: id as u64, deadline_ms: 5_000, verb });
    let mut calls: Vec<_> = verbs.into_iter().enumerate().map(number).collect();
    calls.push(("take-back", Call::Cancel { id: 5 }));
    let verb = Request::Authenticate { knock: login() };
    calls.push(("authenticate-login", Call::Request { id: 6, deadline_ms: 5_000, verb }));
    calls
}

/// Returns every golden reply, by name.
pub(super) fn replies() -> Vec<(&'static str, Reply<Response>)> {
    let rate = Rate { limit: 60, remaining: 59, reset_ms: 1_000, wait_ms: 0 };
    let principal =
        Principal { id: "key_1".into(), label: "first".into(), role: KeyRole::User, rate: Some(rate), print: 7 };
    let refused = Error::new(ErrorKind::Busy, "too many requests are in flight on this connection");
    let verbs = vec![
        ("handshake", Ok(Response::Handshake(Ok(welcome())))),
        ("status", Ok(Response::Status(Ok(status())))),
        ("begin", Ok(Response::Begin(Ok(TranscriptId(7))))),
        ("begin-failed", Ok(Response::Begin(Err(error())))),
        ("read", Ok(Response::Read(Ok(page())))),
        ("read-empty", Ok(Response::Read(Ok(Page { events: vec![], next: Cursor(3), ended: false })))),
        ("cancel", Ok(Response::Cancel(Ok(())))),
        ("models", Ok(Response::Models(Ok(cards())))),
        ("add", Ok(Response::Add(Ok(card())))),
        ("remove", Ok(Response::Remove(Ok(())))),
        ("pull", Ok(Response::Pull(Ok(TranscriptId(8))))),
        ("load", Ok(Response::Load(Ok(TranscriptId(9))))),
        ("unload", Ok(Response::Unload(Ok(())))),
        ("first-key", Ok(Response::FirstKey(Ok("imp_example".into())))),
        ("authenticate", Ok(Response::Authenticate(Ok(principal)))),
        ("announce", Ok(Response::Announce(Ok(())))),
        ("stop", Ok(Response::Stop(Ok(())))),
        ("tokenize", Ok(Response::Tokenize(Ok(tokens_of())))),
        ("detokenize", Ok(Response::Detokenize(Ok("Hi".into())))),
        ("keep", Ok(Response::Keep(Ok(record().card)))),
        ("recall", Ok(Response::Recall(Ok(record())))),
        ("forget", Ok(Response::Forget(Ok(())))),
        ("list", Ok(Response::List(Ok(RecordList { cards: vec![record().card], more: true })))),
        ("embed", Ok(Response::Embed(Ok(TranscriptId(10))))),
        ("rerank", Ok(Response::Rerank(Ok(TranscriptId(11))))),
        ("keys", Ok(Response::Keys(Ok(vec![key_card()])))),
        ("create-key", Ok(Response::CreateKey(Ok(issued())))),
        ("rotate-key", Ok(Response::RotateKey(Ok(issued())))),
        ("revoke-key", Ok(Response::RevokeKey(Ok(key_card())))),
        ("audit", Ok(Response::Audit(Ok(AuditPage { entries: vec![audit_entry()], next: Some(7) })))),
        ("requests", Ok(Response::Requests(Ok(RequestsPage { entries: vec![request_entry()], next: None })))),
        ("import", Ok(Response::Import(Ok(TranscriptId(12))))),
        ("settings", Ok(Response::Settings(Ok(vec![setting()])))),
        ("change-settings", Ok(Response::ChangeSettings(Ok(vec![setting()])))),
        ("metrics", Ok(Response::Metrics(Ok(metrics())))),
        ("report-spans", Ok(Response::ReportSpans(Ok(())))),
        ("watch", Ok(Response::Watch(Ok(news())))),
        ("refused", Err(refused.retry_after_ms(100))),
        ("texts", Ok(Response::Texts(Ok(texts())))),
        ("backup", Ok(Response::Backup(Ok(())))),
    ];
    verbs.into_iter().enumerate().map(|(id, (name, result))| (name, Reply { id: id as u64, result })).collect()
}

/// Returns one error of every kind.
pub(super) fn errors() -> Vec<Error> {
    use ErrorKind::*;
    let kinds = [
        Invalid,
        ContextLengthExceeded,
        Unsupported,
        AuthRequired,
        Forbidden,
        ModelNotFound,
        ModelNotLoaded,
        NotFound,
        Conflict,
        Busy,
        NoMemory,
        DeadlineExceeded,
        Cancelled,
        Closing,
        Unreachable,
        Incompatible,
        Internal,
        RateLimited,
    ];
    kinds.map(|kind| Error::new(kind, format!("{kind:?} happened"))).into()
}

/// Returns an error with every field.
pub(super) fn error() -> Error {
    Error::new(ErrorKind::ModelNotFound, "no model is named `absent`")
        .hint("see `impetusctl models`")
        .param("model")
        .retry_after_ms(1_000)
}

fn stop() -> Stop {
    Stop {
        strings: vec!["\n\n".into()],
        tokens: vec![2],
        ignore_eos: true,
        max_tokens: Some(64),
        or_fewer: true,
        min_tokens: 1,
    }
}

fn chat() -> GenerateRequest {
    let call =
        ToolCall { id: "call_1".into(), name: "weather".into(), arguments: Json(r#"{"city":"Łódź"}"#.into()) };
    let message = |role, content: &str| Message::new(role, content);
    let tool = Tool {
        name: "weather".into(),
        description: Some("Tells the weather.".into()),
        parameters: Some(Json(r#"{"type":"object"}"#.into())),
        strict: true,
    };
    let messages = vec![
        message(Role::System, "Be brief."),
        Message { name: Some("Ada".into()), ..message(Role::User, "Weather in Łódź? 🌦") },
        Message { reasoning: Some("A tool knows.".into()), tool_calls: vec![call], ..message(Role::Assistant, "") },
        Message { tool_call_id: Some("call_1".into()), ..message(Role::Tool, "rain") },
    ];
    let chat = Chat {
        messages,
        tools: vec![tool],
        tool_choice: ToolChoice::Named("weather".into()),
        single_tool_call: true,
        thinking: Some(false),
        thinking_budget: Some(512),
        template_arguments: Some(Json(r#"{"brief":true}"#.into())),
        ending: Ending::LastMessage,
    };
    let sampling = Sampling {
        temperature: Some(0.7),
        top_p: Some(0.9),
        top_k: Some(40),
        min_p: Some(0.05),
        repetition_penalty: Some(1.1),
        repetition_window: Some(64),
        one_window: true,
        presence_penalty: Some(-0.5),
        frequency_penalty: Some(0.25),
        typical_p: Some(0.95),
        xtc_probability: Some(0.5),
        xtc_threshold: Some(0.2),
        dry_multiplier: Some(0.8),
        dry_base: Some(1.5),
        dry_allowed_length: Some(3),
        dry_breakers: Some(vec!["\n".into()]),
        mirostat: true,
        mirostat_tau: Some(4.0),
        mirostat_eta: Some(0.2),
        logit_bias: vec![(5, -100.0), (6, 2.5)],
        seed: Some(u64::MAX),
    };
    let stop = stop();
    GenerateRequest {
        model: Some("impetus-nano".into()),
        prompt: Prompt::Chat(chat),
        sampling,
        stop,
        logprobs: Some(5),
        choices: 2,
        priority: Priority::High,
        deadline_ms: Some(60_000),
        constraint: Some(Constraint::JsonSchema { schema: Json(r#"{"type":"object"}"#.into()), strict: true }),
        prompt_logprobs: true,
        further: true,
        following: 2,
    }
}

fn text() -> GenerateRequest {
    GenerateRequest::new(None, Prompt::Text("Once upon a time".into()))
}

fn tokens() -> GenerateRequest {
    GenerateRequest { prompt: Prompt::Tokens(vec![1, 2, 3]), priority: Priority::Low, ..text() }
}

fn tokenize() -> TokenizeRequest {
    let prompt = Prompt::Text("Hi<|im_end|>".into());
    TokenizeRequest { model: Some("impetus-nano".into()), prompt, special: Special::Plain, pieces: true }
}

pub(super) fn tokens_of() -> Tokens {
    let pieces = vec![b"Hi".to_vec(), vec![0xF0, 0x9F]];
    Tokens { model: "impetus-nano".into(), rendered: Some("Hi".into()), tokens: vec![5, 6], pieces }
}

fn record_id() -> RecordId {
    RecordId { collection: Collection::Answers, id: "resp_1".into() }
}

fn keep() -> KeepRequest {
    let (label, body) = ("weather".into(), Json(r#"{"a":1}"#.into()));
    let collection = Collection::Sessions;
    KeepRequest { collection, id: "s-1".into(), label, body, replaces: Some(0), ttl_ms: Some(60_000) }
}

fn list() -> ListRequest {
    ListRequest { collection: Collection::Sessions, after: Some("s-1".into()), limit: 20 }
}

pub(super) fn record() -> Record {
    let card = RecordCard {
        id: "s-1".into(),
        label: "weather".into(),
        version: 1,
        created_unix_ms: 1_790_000_000_000,
        updated_unix_ms: 1_790_000_000_001,
        expires_unix_ms: Some(1_790_000_060_000),
        bytes: 7,
    };
    Record { card, body: Json(r#"{"a":1}"#.into()) }
}

fn embed() -> EmbedRequest {
    EmbedRequest {
        model: Some("impetus-nano-embed".into()),
        inputs: vec![Input::Text("Łódź".into()), Input::Tokens(vec![1, 2])],
        dimensions: Some(64),
        overlong: Overlong::Cut,
        tokens_max: Some(32),
        priority: Priority::Low,
        deadline_ms: Some(60_000),
    }
}

fn rerank() -> RerankRequest {
    RerankRequest {
        model: None,
        query: "Where is it?".into(),
        documents: vec!["Here.".into(), "There.".into()],
        overlong: Overlong::Refuse,
        priority: Priority::Normal,
        deadline_ms: None,
    }
}

fn pull() -> PullRequest {
    PullRequest { repo: "ORG/NAME".into(), revision: None, name: Some("mine".into()) }
}

fn bridge() -> Bridge {
    Bridge { url: "http://127.0.0.1:11434".into(), pid: 43 }
}

pub(super) fn welcome() -> Welcome {
    Welcome {
        version: "0.1.0".into(),
        commit: "unknown".into(),
        pid: 42,
        protocol: 1,
        capabilities: vec!["generate".into(), "pull".into()],
    }
}

pub(super) fn status() -> Status {
    Status {
        version: "0.1.0".into(),
        commit: "unknown".into(),
        pid: 42,
        uptime_ms: 1_234,
        environment: "development".into(),
        home: "/home/ada/.local/share/impetus".into(),
        socket: "/run/user/1000/impetus/impetus.sock".into(),
        logs: "/home/ada/.local/share/impetus/logs".into(),
        bridges: vec![bridge()],
        draining: false,
        connections: 2,
        active: 1,
        default_model: Some("impetus-nano".into()),
        models: vec![card()],
        memory: Memory {
            total_bytes: 16 << 30,
            available_bytes: 8 << 30,
            budget_bytes: 12 << 30,
            models_bytes: 1 << 24,
            daemon_bytes: 20 << 20,
        },
        machine: Machine {
            os: "linux".into(),
            arch: "x86_64".into(),
            cpu: "a processor".into(),
            cores: 2,
            performance_cores: None,
            features: vec!["avx2".into()],
            gpu: None,
        },
    }
}

pub(super) fn card() -> ModelCard {
    ModelCard {
        name: "impetus-nano".into(),
        source: Source::Bundled,
        path: "/home/ada/.local/share/impetus/models/impetus-nano".into(),
        facts: ModelFacts {
            architecture: "qwen3".into(),
            parameters: 5_000_000,
            context_length: 32_768,
            vocabulary: 4_096,
            weights: "4-bit, group 64".into(),
            weights_bytes: 3_000_000,
            memory_bytes: 3_100_000,
            step_bytes: 2_500_000,
            kv_bytes_per_token: 4_096,
            dimensions: None,
            capabilities: Capabilities { chat: true, tools: true, ..Capabilities::default() },
        },
        state: ModelState::Loaded(Residence {
            pid: 44,
            device: "CPU, 2 threads, AVX2".into(),
            memory_bytes: 1 << 24,
            accounted_bytes: 1 << 25,
            kv_bytes: 1 << 23,
            load_ms: 20,
            expires_in_ms: Some(300_000),
            running: 1,
            waiting: 0,
            blocks_used: 3,
            blocks_total: 512,
            measures: measures(),
        }),
        pinned: true,
        created_unix_s: 1_790_000_000,
    }
}

pub(super) fn measures() -> Measures {
    let mut measures =
        Measures { requests: 3, prompt_tokens: 40, cached_tokens: 32, tokens: 9, steps: 4, ..Default::default() };
    measures.queue.record(900);
    measures.first_token.record(1_001);
    measures.gap.record(90_000_000);
    Measures {
        refused: 1,
        rows: 6,
        restored_tokens: 32,
        stored_tokens: 64,
        drafted: 5,
        accepted: 2,
        preemptions: 1,
        ..measures
    }
}

/// Returns the texts of one folder.
pub(super) fn texts() -> ModelTexts {
    ModelTexts {
        template: Some("{{ messages }}".into()),
        license: None,
        sampling: Sampling { temperature: Some(0.5), top_k: Some(20), ..Sampling::default() },
    }
}

/// Returns a card of every source and state.
fn cards() -> Vec<ModelCard> {
    let mut embedder = card();
    embedder.name = "impetus-nano-embed".into();
    embedder.facts.dimensions = Some(256);
    embedder.facts.capabilities = Capabilities { embed: true, ..Capabilities::default() };
    let mut reranker = card();
    reranker.facts.capabilities = Capabilities { rerank: true, ..Capabilities::default() };
    let hub = Source::Hub { repo: "ORG/NAME".into(), revision: "0123abc".into() };
    vec![
        card(),
        embedder,
        reranker,
        ModelCard { source: hub, state: ModelState::Available, ..card() },
        ModelCard { source: Source::Local, state: ModelState::Loading, ..card() },
        ModelCard { state: ModelState::Unloading, ..card() },
        ModelCard { state: ModelState::Failed(error()), ..card() },
    ]
}

/// Returns a page with an event of every sort.
fn page() -> Page {
    let progress = Progress {
        stage: Stage::Loading,
        subject: "impetus-nano".into(),
        done: 1_000,
        total: Some(3_000_000),
        unit: Unit::Bytes,
    };
    let waiting = Progress { stage: Stage::Queued, done: 0, total: None, unit: Unit::Steps, ..progress.clone() };
    let started = Started { model: "impetus-nano".into(), prompt_tokens: 12, seed: u64::MAX, max_tokens: 64 };
    let finished = Finished {
        usage: Usage { prompt_tokens: 12, cached_tokens: 8, completion_tokens: 3, reasoning_tokens: 1 },
        timing: Timing { queue_us: 10, prefill_us: 2_000, decode_us: 30_000 },
        speculation: Speculation { drafted: 4, accepted: 1 },
        missed: Some(Missed::Differs(8)),
    };
    let ended = |reason, stop_string| ChoiceFinished { choice: 1, reason, stop_string };
    let events = vec![
        Event::Progress(waiting),
        Event::Progress(progress),
        Event::Started(started),
        Event::Delta(delta()),
        Event::ChoiceFinished(ended(FinishReason::Stop, Some("\n\n".into()))),
        Event::ChoiceFinished(ended(FinishReason::Length, None)),
        Event::ChoiceFinished(ended(FinishReason::ToolCalls, None)),
        Event::Embedded(Embedded { index: 2, tokens: 7, cut: true, vector: vec![0.6, -0.8] }),
        Event::Scored(Scored { index: 1, tokens: 9, cut: false, score: 0.75 }),
        Event::Finished(finished),
        Event::Failed(error()),
    ];
    Page { next: Cursor(3 + events.len() as u64), events, ended: true }
}
