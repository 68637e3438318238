//! Supervision with real processes: a scripted worker that dies, hangs and refuses where its script says so.

use std::path::Path;

use protocol::generation::{Prompt, Sampling, Stop};
use protocol::model::ModelState;
use protocol::transcript::{Cursor, Event, Stage};
use tokio::task::JoinHandle;

use super::*;
use crate::inspect::Inspector;
use crate::testing;
use crate::transcript::Transcripts;

mod room;
mod waiting;

/// No wait of these tests is longer.
const LIMIT: Duration = Duration::from_secs(30);

/// A supervisor with scripted models in a folder of its own.
struct World {
    folder: tempfile::TempDir,
    config: Config,
    budget: u64,
    program: PathBuf,
    transcripts: Transcripts,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::testing(folder.path());
        config.worker.backoff = Duration::from_millis(5);
        config.worker.backoff_max = Duration::from_millis(20);
        config.memory.overhead = 0;
        let transcripts = Transcripts::new(&config.transcripts);
        Self { folder, config, budget: 1_000_000_000, program: testing::scripted_worker(), transcripts }
    }

    /// Starts the supervisor with a model for each script.
    async fn start(&self, scripts: &[(&str, &str)]) -> (Supervisor, JoinHandle<()>) {
        let models = self.models(scripts).await;
        Supervisor::start(self.setting(), models)
    }

    async fn models(&self, scripts: &[(&str, &str)]) -> Vec<ModelCard> {
        let inspector = Inspector::new(testing::scripted_worker(), LIMIT);
        let mut models = Vec::new();
        for (name, script) in scripts {
            let path = self.path(name);
            std::fs::create_dir(&path).unwrap();
            std::fs::write(path.join("script.json"), script).unwrap();
            models.push(ModelCard {
                name: (*name).to_owned(),
                source: Source::Local,
                facts: inspector.facts(&path).await.unwrap(),
                path: path.to_str().unwrap().to_owned(),
                state: ModelState::Available,
                pinned: false,
                created_unix_s: 0,
            });
        }
        models
    }

    fn setting(&self) -> Setting {
        Setting {
            config: self.config.clone(),
            pools: Pools { budget: self.budget, kv_max: 1_000_000 },
            machine: placement::Machine { cores: 2, performance_cores: None },
            program: self.program.clone(),
            prefixes: PathBuf::new(),
            prefix_key: None,
            newsroom: Newsroom::default(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Asks for an answer.
    async fn begin(&self, supervisor: &Supervisor, request: GenerateRequest) -> Result<Arc<Transcript>> {
        self.begin_for(None, supervisor, request).await
    }

    /// Asks for an answer with a key that may hold no more than its share.
    async fn begin_for(
        &self,
        holder: Option<u64>,
        supervisor: &Supervisor,
        request: GenerateRequest,
    ) -> Result<Arc<Transcript>> {
        let transcript = self.transcripts.open();
        let asker = Asker { client: 1, salt: 0, holder, tokens: None, trace: None };
        supervisor.begin(transcript.clone(), request, asker).await.map(|()| transcript)
    }

    async fn load(&self, supervisor: &Supervisor, model: &str, keep_alive_ms: Option<u64>) -> Arc<Transcript> {
        let transcript = self.transcripts.open();
        let request = LoadRequest { model: model.to_owned(), pin: None, keep_alive_ms };
        supervisor.load(transcript.clone(), request).await.unwrap();
        transcript
    }
}

fn ask(model: &str, tokens: u32) -> GenerateRequest {
    GenerateRequest {
        model: Some(model.to_owned()),
        prompt: Prompt::Text("hello".to_owned()),
        sampling: Sampling { seed: Some(5), ..Sampling::default() },
        stop: Stop { max_tokens: Some(tokens), ..Stop::default() },
        logprobs: None,
        choices: 1,
        priority: protocol::generation::Priority::Normal,
        deadline_ms: None,
        constraint: None,
        prompt_logprobs: false,
        further: false,
        following: 0,
    }
}

/// What the scripted worker answers when nothing disturbs it.
fn answer(tokens: u32) -> String {
    (0..tokens).map(|position| format!("{} ", (5 + position * 7) % 1000)).collect()
}

/// Reads a transcript to its end.
async fn read(transcript: &Arc<Transcript>) -> Vec<Event> {
    let mut cursor = Cursor(0);
    let mut events = Vec::new();
    loop {
        let page = transcript.read(cursor, LIMIT).await.unwrap();
        assert!(!page.events.is_empty(), "no event came in time, after {events:?}");
        events.extend(page.events);
        cursor = page.next;
        if page.ended {
            return events;
        }
    }
}

fn text(events: &[Event]) -> String {
    events
        .iter()
        .filter_map(|event| if let Event::Delta(delta) = event { Some(delta.text.as_str()) } else { None })
        .collect()
}

#[track_caller]
fn failure(events: &[Event]) -> &Error {
    match events.last() {
        Some(Event::Failed(error)) => error,
        other => panic!("it did not fail, but ended with {other:?}"),
    }
}

fn finished(events: &[Event]) -> bool {
    matches!(events.last(), Some(Event::Finished(_)))
}

/// Waits until a model's state is as wanted.
async fn until(supervisor: &Supervisor, model: &str, wanted: impl Fn(&ModelState) -> bool) -> ModelState {
    let look = async {
        loop {
            let snapshot = supervisor.look().await.unwrap();
            let state = snapshot.models.into_iter().find(|card| card.name == model).unwrap().state;
            if wanted(&state) {
                return state;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(LIMIT, look).await.expect("the model did not get into the state in time")
}

fn lives(path: &Path) -> u64 {
    std::fs::metadata(path.join("lives")).map_or(0, |metadata| metadata.len())
}

fn loaded(state: &ModelState) -> bool {
    matches!(state, ModelState::Loaded(_))
}

#[tokio::test]
async fn a_request_loads_its_model_and_is_answered() {
    let world = World::new();
    let (supervisor, _task) = world.start(&[("m", "{}")]).await;
    let events = read(&world.begin(&supervisor, ask("m", 6)).await.unwrap()).await;
    assert!(matches!(&events[0], Event::Progress(progress) if progress.stage == Stage::Queued), "{events:?}");
    assert!(events.iter().any(|event| matches!(event, Event::Progress(progress) if progress.stage == Stage::Loading)));
    assert_eq!(text(&events), answer(6));
    assert!(finished(&events));
    let state = until(&supervisor, "m", loaded).await;
    assert!(matches!(state, ModelState::Loaded(residence) if residence.expires_in_ms.is_some()));
    assert!(supervisor.look().await.unwrap().bytes >= 10_000_000);
    // The next request finds it loaded.
    let events = read(&world.begin(&supervisor, ask("m", 3)).await.unwrap()).await;
    assert!(matches!(&events[0], Event::Started(started) if started.seed == 5), "{events:?}");
    assert_eq!(lives(&world.path("m")), 1);
}

#[tokio::test]
async fn requests_that_wait_for_one_load_are_all_answered_by_it() {
    let world = World::new();
    let (supervisor, _task) = world.start(&[("m", "{}")]).await;
    let mut transcripts = vec![world.load(&supervisor, "m", None).await];
    for _ in 0..20 {
        transcripts.push(world.begin(&supervisor, ask("m", 4)).await.unwrap());
    }
    for transcript in &transcripts {
        assert!(finished(&read(transcript).await));
    }
    assert_eq!(lives(&world.path("m")), 1);
}

#[tokio::test]
async fn a_stream_goes_on_where_it_was_when_its_worker_dies() {
    let world = World::new();
    let (supervisor, _task) = world.start(&[("m", r#"{"die_at": 7, "lives": 1}"#)]).await;
    let transcripts =
        [world.begin(&supervisor, ask("m", 20)).await.unwrap(), world.begin(&supervisor, ask("m", 30)).await.unwrap()];
    for (transcript, tokens) in transcripts.iter().zip([20, 30]) {
        let events = read(transcript).await;
        assert_eq!(text(&events), answer(tokens));
        assert_eq!(events.iter().filter(|event| matches!(event, Event::Started(_))).count(), 1);
        assert!(finished(&events));
    }
    assert_eq!(lives(&world.path("m")), 2);
}

#[tokio::test]
async fn a_hanging_worker_is_killed_and_its_work_goes_on() {
    let mut world = World::new();
    world.config.worker.silence = Duration::from_secs(1);
    let (supervisor, _task) = world.start(&[("m", r#"{"hang_at": 3, "lives": 1}"#)]).await;
    let events = read(&world.begin(&supervisor, ask("m", 9)).await.unwrap()).await;
    assert_eq!(text(&events), answer(9));
    // On a machine that stops for a while any worker may be silent.
    assert!(lives(&world.path("m")) >= 2);
}

#[tokio::test]
async fn silence_counts_only_while_the_daemon_could_hear() {
    let mut world = World::new();
    world.config.worker.load_silence = Duration::from_secs(8);
    let models = world.models(&[("m", r#"{"load": "hang"}"#)]).await;
    let (reports, _outbox) = mpsc::channel(REPORTS_MAX);
    let mut state = State::new(world.setting(), models, reports);
    state
        .load(world.transcripts.open(), &LoadRequest { model: "m".to_owned(), pin: None, keep_alive_ms: None })
        .unwrap();
    let mut killed = |heard: u64, ticked: u64| {
        let ago = |seconds| Instant::now() - Duration::from_secs(seconds);
        state.models.get_mut("m").unwrap().worker_mut().unwrap().heard = ago(heard);
        state.ticked = ago(ticked);
        state.tick();
        state.models["m"].worker().unwrap().killed.is_some()
    };
    assert!(!killed(10, 9), "it was asleep along with the daemon");
    assert!(killed(9, 1), "it was not heard by a daemon that was awake");
}

#[tokio::test]
async fn a_worker_that_hangs_while_it_loads_is_killed() {
    let mut world = World::new();
    world.config.worker.load_silence = Duration::from_millis(100);
    world.config.worker.restarts_max = 1;
    let (supervisor, _task) = world.start(&[("m", r#"{"load": "hang"}"#)]).await;
    let events = read(&world.begin(&supervisor, ask("m", 9)).await.unwrap()).await;
    let error = failure(&events);
    assert_eq!(error.kind, ErrorKind::ModelNotLoaded);
    assert!(error.message.contains("said nothing"), "{}", error.message);
}

#[tokio::test]
async fn a_crash_loop_ends_with_a_failed_model_that_says_why() {
    let world = World::new();
    let (supervisor, _task) = world.start(&[("m", r#"{"load": "crash"}"#)]).await;
    let transcripts = [world.begin(&supervisor, ask("m", 1)).await.unwrap(), world.load(&supervisor, "m", None).await];
    for transcript in &transcripts {
        let events = read(transcript).await;
        let error = failure(&events);
        assert_eq!(error.kind, ErrorKind::ModelNotLoaded);
        assert!(error.message.contains("died 6 times") && error.hint.as_ref().unwrap().contains("logs"), "{error:?}");
    }
    assert_eq!(lives(&world.path("m")), 6);
    until(&supervisor, "m", |state| matches!(state, ModelState::Failed(_))).await;
    // For a while requests are refused at once; an explicit load tries again.
    let error = world.begin(&supervisor, ask("m", 1)).await.unwrap_err();
    assert!(error.kind == ErrorKind::ModelNotLoaded && error.retry_after_ms.is_some(), "{error:?}");
    std::fs::write(world.path("m").join("script.json"), "{}").unwrap();
    assert!(finished(&read(&world.load(&supervisor, "m", None).await).await));
}

#[tokio::test]
async fn a_model_that_cannot_be_loaded_is_reported_to_everybody_who_waits() {
    let world = World::new();
    let (supervisor, _task) = world.start(&[("m", r#"{"load": "fail"}"#)]).await;
    let transcripts = [world.begin(&supervisor, ask("m", 1)).await.unwrap(), world.load(&supervisor, "m", None).await];
    for transcript in &transcripts {
        assert_eq!(failure(&read(transcript).await).message, "the script refuses");
    }
    // It was no death: nothing is gained by trying again at once.
    assert_eq!(lives(&world.path("m")), 1);
}

#[tokio::test]
async fn a_request_that_kills_every_worker_is_given_up() {
    let world = World::new();
    let (supervisor, _task) = world.start(&[("m", r#"{"die_at": 0}"#)]).await;
    let events = read(&world.begin(&supervisor, ask("m", 5)).await.unwrap()).await;
    let error = failure(&events);
    assert_eq!(error.kind, ErrorKind::Internal);
    assert!(error.message.contains("died 3 times"), "{}", error.message);
    assert_eq!(lives(&world.path("m")), 3);
}

#[tokio::test]
async fn an_answer_that_comes_further_in_each_life_outlives_any_number_of_deaths() {
    let mut world = World::new();
    world.config.worker.restarts_max = 100;
    let (supervisor, _task) = world.start(&[("m", r#"{"stint": 2}"#)]).await;
    let events = read(&world.begin(&supervisor, ask("m", 17)).await.unwrap()).await;
    assert_eq!(text(&events), answer(17));
    assert_eq!(lives(&world.path("m")), 9);
}

#[tokio::test]
async fn cancelling_ends_running_and_waiting_work() {
    let world = World::new();
    let (supervisor, _task) = world.start(&[("m", "{}"), ("stuck", r#"{"load": "hang"}"#)]).await;
    let running = world.begin(&supervisor, ask("m", 100_000)).await.unwrap();
    let waiting = world.begin(&supervisor, ask("stuck", 1)).await.unwrap();
    let loading = world.load(&supervisor, "stuck", None).await;
    until(&supervisor, "m", |state| matches!(state, ModelState::Loaded(residence) if residence.running == 1)).await;
    for transcript in [&running, &waiting, &loading] {
        supervisor.cancel(transcript.id()).await;
        assert_eq!(failure(&read(transcript).await).kind, ErrorKind::Cancelled);
        supervisor.cancel(transcript.id()).await;
    }
    until(&supervisor, "m", |state| matches!(state, ModelState::Loaded(residence) if residence.running == 0)).await;
    // Nobody waits for the load any more, so it ends.
    until(&supervisor, "stuck", |state| *state == ModelState::Available).await;
}

#[tokio::test]
async fn work_whose_transcript_another_hand_ended_leaves_its_worker() {
    let world = World::new();
    let (supervisor, _task) = world.start(&[("m", "{}")]).await;
    let running = world.begin(&supervisor, ask("m", 100_000)).await.unwrap();
    until(&supervisor, "m", |state| matches!(state, ModelState::Loaded(residence) if residence.running == 1)).await;
    running.fail(Error::new(ErrorKind::Cancelled, "the client left"));
    until(&supervisor, "m", |state| matches!(state, ModelState::Loaded(residence) if residence.running == 0)).await;
}

#[tokio::test]
async fn a_deadline_ends_waiting_and_running_work() {
    let world = World::new();
    let (supervisor, _task) = world.start(&[("m", "{}"), ("stuck", r#"{"load": "hang"}"#)]).await;
    assert!(finished(&read(&world.load(&supervisor, "m", None).await).await));
    for (model, word) in [("m", "answered"), ("stuck", "waited")] {
        let request = GenerateRequest { deadline_ms: Some(100), ..ask(model, 100_000) };
        let events = read(&world.begin(&supervisor, request).await.unwrap()).await;
        let error = failure(&events);
        assert_eq!(error.kind, ErrorKind::DeadlineExceeded);
        assert!(error.message.contains(word), "{}", error.message);
    }
    until(&supervisor, "m", |state| matches!(state, ModelState::Loaded(residence) if residence.running == 0)).await;
}

#[tokio::test]
async fn unloading_lets_running_work_end_and_new_work_load_again() {
    let world = World::new();
    let (supervisor, _task) = world.start(&[("m", r#"{"rests_at": 2}"#)]).await;
    let before = world.begin(&supervisor, ask("m", 9)).await.unwrap();
    until(&supervisor, "m", |state| matches!(state, ModelState::Loaded(residence) if residence.running == 1)).await;
    let unloading = tokio::spawn({
        let supervisor = supervisor.clone();
        async move { supervisor.unload("m".to_owned()).await }
    });
    until(&supervisor, "m", |state| *state == ModelState::Unloading).await;
    let after = world.begin(&supervisor, ask("m", 3)).await.unwrap();
    std::fs::write(world.path("m").join("go"), "").unwrap();
    assert_eq!(text(&read(&before).await), answer(9));
    unloading.await.unwrap().unwrap();
    assert_eq!(text(&read(&after).await), answer(3));
    assert_eq!(lives(&world.path("m")), 2);
    supervisor.unload("m".to_owned()).await.unwrap();
    until(&supervisor, "m", |state| *state == ModelState::Available).await;
}

#[tokio::test]
async fn a_model_makes_room_for_another_and_too_large_a_one_is_refused() {
    let mut world = World::new();
    world.budget = 100_000_000;
    let scripts = [("a", r#"{"megabytes": 60}"#), ("b", r#"{"megabytes": 70}"#), ("c", r#"{"megabytes": 101}"#)];
    let (supervisor, _task) = world.start(&scripts).await;
    assert!(finished(&read(&world.begin(&supervisor, ask("a", 2)).await.unwrap()).await));
    assert!(finished(&read(&world.begin(&supervisor, ask("b", 2)).await.unwrap()).await));
    until(&supervisor, "a", |state| *state == ModelState::Available).await;
    assert!(supervisor.look().await.unwrap().bytes <= 100_000_000);
    let error = world.begin(&supervisor, ask("c", 2)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NoMemory);
    assert!(error.message.contains("101 MB") && error.message.contains("100 MB"), "{}", error.message);
}

#[tokio::test]
async fn an_idle_model_leaves_when_its_time_is_over() {
    let world = World::new();
    let (supervisor, _task) = world.start(&[("m", "{}")]).await;
    assert!(finished(&read(&world.load(&supervisor, "m", Some(50)).await).await));
    until(&supervisor, "m", |state| *state == ModelState::Available).await;
}

#[tokio::test]
async fn a_load_that_says_nothing_of_it_leaves_how_long_a_model_stays() {
    let world = World::new();
    let (supervisor, _task) = world.start(&[("m", "{}")]).await;
    let stays = async |keep_alive_ms| {
        assert!(finished(&read(&world.load(&supervisor, "m", keep_alive_ms).await).await));
        let ModelState::Loaded(residence) = until(&supervisor, "m", loaded).await else { panic!("it is loaded") };
        residence.expires_in_ms.is_none()
    };
    assert!(!stays(None).await && stays(Some(u64::MAX)).await && stays(None).await && !stays(Some(60_000)).await);
}

#[tokio::test]
async fn a_preloaded_model_is_loaded_at_the_start_and_stays() {
    let mut world = World::new();
    world.config.models.preload = vec!["m".to_owned()];
    world.config.models.keep_alive = Some(Duration::ZERO);
    let (supervisor, _task) = world.start(&[("m", "{}")]).await;
    let state = until(&supervisor, "m", loaded).await;
    assert!(matches!(state, ModelState::Loaded(residence) if residence.expires_in_ms.is_none()));
    assert_eq!(supervisor.unload("m".to_owned()).await.unwrap_err().kind, ErrorKind::Conflict);
}

#[tokio::test]
async fn a_missing_worker_program_is_an_error_with_a_way_out() {
    let mut world = World::new();
    world.program = PathBuf::from("/nonexistent/impetus-worker");
    let (supervisor, _task) = world.start(&[("m", "{}")]).await;
    let events = read(&world.begin(&supervisor, ask("m", 1)).await.unwrap()).await;
    let error = failure(&events);
    assert!(error.message.contains("/nonexistent/impetus-worker") && error.hint.is_some(), "{error:?}");
}

#[tokio::test]
async fn a_drain_lets_work_end_until_its_deadline_and_leaves_no_worker() {
    let world = World::new();
    let (supervisor, task) = world.start(&[("m", "{}")]).await;
    let short = world.begin(&supervisor, ask("m", 20)).await.unwrap();
    let long = world.begin(&supervisor, ask("m", 100_000)).await.unwrap();
    let ModelState::Loaded(residence) = until(&supervisor, "m", loaded).await else { unreachable!("it is loaded") };
    supervisor.drain(Instant::now() + LIMIT).await;
    assert_eq!(world.begin(&supervisor, ask("m", 1)).await.unwrap_err().kind, ErrorKind::Closing);
    assert_eq!(text(&read(&short).await), answer(20));
    supervisor.drain(Instant::now()).await;
    assert_eq!(failure(&read(&long).await).kind, ErrorKind::Closing);
    tokio::time::timeout(LIMIT, task).await.unwrap().unwrap();
    assert!(!testing::is_alive(residence.pid));
    assert_eq!(world.begin(&supervisor, ask("m", 1)).await.unwrap_err().kind, ErrorKind::Closing);
}

#[tokio::test]
async fn a_removed_model_is_gone_and_a_used_one_stays() {
    let world = World::new();
    let (supervisor, _task) = world.start(&[("m", "{}")]).await;
    assert!(finished(&read(&world.load(&supervisor, "m", None).await).await));
    assert_eq!(supervisor.remove("m".to_owned()).await.unwrap_err().kind, ErrorKind::Conflict);
    supervisor.unload("m".to_owned()).await.unwrap();
    assert_eq!(supervisor.remove("m".to_owned()).await.unwrap().name, "m");
    assert_eq!(supervisor.remove("m".to_owned()).await.unwrap_err().kind, ErrorKind::ModelNotFound);
}

#[tokio::test]
async fn a_draft_model_is_counted_with_its_model_and_missed_by_its_name() {
    let mut world = World::new();
    world.budget = 100_000_000;
    let pair = |(model, draft): (&str, &str)| (model.to_owned(), draft.to_owned());
    world.config.models.draft_model = [("a", "small"), ("c", "gone")].map(pair).into();
    let scripts = [("a", r#"{"megabytes": 60}"#), ("small", r#"{"megabytes": 50}"#), ("c", r#"{"megabytes": 10}"#)];
    let (supervisor, _task) = world.start(&scripts).await;
    let error = world.begin(&supervisor, ask("a", 2)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NoMemory);
    assert!(error.message.contains("110 MB"), "{}", error.message);
    let events = read(&world.begin(&supervisor, ask("c", 2)).await.unwrap()).await;
    let Some(Event::Failed(error)) = events.last() else { panic!("{events:?}") };
    assert!(error.message.contains("gone") && error.message.contains("models.draft_model"), "{}", error.message);
}
