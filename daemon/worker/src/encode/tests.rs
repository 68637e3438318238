//! A worker with an encoder, over its pipe: results, refusals, cuts, cancels, and what was left out by a dead predecessor.

use std::io::pipe as os_pipe;

use engine::random::Recipe;
use pipe::EncodeTask;
use protocol::encode::{Input, Overlong};
use protocol::generation::Priority;

use super::*;
use crate::tests::kit;

struct Bench {
    daemon: kit::Daemon,
    ready: Ready,
    folder: engine::random::TempFolder,
}

impl Bench {
    fn start(recipe: &Recipe) -> Self {
        let folder = recipe.temporary().unwrap();
        let open = Open {
            path: folder.path().to_string_lossy().into_owned(),
            name: "tiny".to_string(),
            threads: 1,
            kv_bytes: 0,
            keep: pipe::Keep::Bf16,
            sequences_max: 4,
            waiting_max: 4,
            prefill_tokens_max: 64,
            draft: None,
            draft_tokens_max: 0,
            step_ms: 0,
            shelf: None,
            warm_up: true,
        };
        let mut daemon = kit::Daemon::begin(open);
        let FromWorker::Ready(ready) = daemon.until(|message| matches!(message, FromWorker::Ready(_))) else {
            panic!("a worker that is ready was waited for")
        };
        Self { daemon, ready, folder }
    }

    fn encode(&mut self, id: u64, task: EncodeTask, overlong: Overlong) {
        let encode =
            Encode { id: WorkId(id), task, overlong, priority: Priority::Normal, tokens_allowed: None, trace: None };
        self.daemon.send(ToWorker::Encode(Box::new(encode)));
    }

    fn vectors(&mut self, id: u64) -> Vec<Embedded> {
        let pick = |event| if let Event::Embedded(result) = event { Some(result) } else { None };
        let mut vectors: Vec<Embedded> = self.daemon.events(id).into_iter().filter_map(pick).collect();
        vectors.sort_by_key(|result| result.index);
        vectors
    }

    fn drain(mut self) {
        self.daemon.send(ToWorker::Drain);
        self.daemon.served().unwrap();
    }
}

fn embedder() -> Recipe {
    Recipe::tiny_encoder("nomic_bert", 3).set("max_position_embeddings", 100).pooled("mean")
}

fn embed(texts: &[&str], dimensions: Option<u32>) -> EncodeTask {
    let input = |(index, text): (usize, &&str)| (index as u32, Input::Text((*text).to_string()));
    EncodeTask::Embed { inputs: texts.iter().enumerate().map(input).collect(), dimensions, tokens_max: None }
}

#[test]
fn texts_become_unit_vectors_that_do_not_depend_on_their_company() {
    let mut bench = Bench::start(&embedder());
    assert_eq!((bench.ready.facts.dimensions, bench.ready.pulse.blocks_total), (Some(64), 0));
    let texts = ["a short text", "another one, quite a bit longer than the first", "x"];
    bench.encode(1, embed(&texts, None), Overlong::Refuse);
    let together = bench.vectors(1);
    for (index, text) in texts.iter().enumerate() {
        let id = 10 + index as u64;
        bench.encode(id, embed(&[text], None), Overlong::Refuse);
        assert_eq!(bench.vectors(id)[0].vector, together[index].vector);
        let length: f32 = together[index].vector.iter().map(|x| x * x).sum();
        assert!((length - 1.0).abs() < 1e-5, "{length}");
    }
    bench.encode(2, embed(&texts[..1], Some(16)), Overlong::Refuse);
    let short = bench.vectors(2).remove(0).vector;
    let again = shorten(&together[0].vector, 16);
    assert!(short.len() == 16 && short.iter().zip(&again).all(|(a, b)| (a - b).abs() < 1e-6), "{short:?}");
    bench.drain();
}

#[test]
fn the_heart_beats_while_a_text_is_read() {
    let mut bench = Bench::start(&embedder());
    bench.encode(1, embed(&["one text, in one step"], None), Overlong::Refuse);
    let told = |message: &FromWorker| match message {
        FromWorker::Pulse(pulse) => pulse.running == 1,
        FromWorker::Event(WorkEvent { event, .. }) => matches!(event, Event::Embedded(_)),
        _ => false,
    };
    let first = bench.daemon.until(told);
    assert!(matches!(first, FromWorker::Pulse(_)), "nothing was heard of the text before its result");
    bench.drain();
}

#[test]
fn the_vectors_are_those_of_the_engine() {
    let mut bench = Bench::start(&embedder());
    let tokens = [5, 6, 7, 8];
    let task =
        EncodeTask::Embed { inputs: vec![(0, Input::Tokens(tokens.to_vec()))], dimensions: None, tokens_max: None };
    bench.encode(1, task, Overlong::Refuse);
    let vector = bench.vectors(1).remove(0).vector;
    let mut encoder = Encoder::open(bench.folder.path(), 1, Precision::Fast, &mut |_, _| {}).unwrap();
    let mut rows = Vec::new();
    encoder.encode(&[Text { tokens: &tokens, segments: &[] }], &mut || {}, &mut rows).unwrap();
    assert_eq!(vector, shorten(&rows, 64));
    bench.drain();
}

#[test]
fn what_does_not_fit_is_refused_with_the_figures_or_cut_where_that_is_asked() {
    let mut bench = Bench::start(&embedder());
    let long = "z".repeat(150);
    bench.encode(1, embed(&["a", &long], None), Overlong::Refuse);
    let error = bench.daemon.failure(1);
    assert_eq!((error.kind, error.param.as_deref()), (ErrorKind::ContextLengthExceeded, Some("inputs")));
    assert!(error.message.contains("is 100 tokens") && error.message.contains("at 1 "), "{}", error.message);
    bench.encode(2, embed(&["a", &long], None), Overlong::Cut);
    let vectors = bench.vectors(2);
    assert_eq!(vectors.iter().map(|result| (result.tokens, result.cut)).collect::<Vec<_>>(), [(3, false), (100, true)]);
    let tokens =
        EncodeTask::Embed { inputs: vec![(0, Input::Tokens(vec![1_000_000]))], dimensions: None, tokens_max: None };
    bench.encode(3, tokens, Overlong::Refuse);
    assert_eq!(bench.daemon.failure(3).kind, ErrorKind::Invalid);
    bench.drain();
}

#[test]
fn a_request_may_ask_for_a_shorter_context_than_the_models() {
    let mut bench = Bench::start(&embedder());
    let mut asked = |id: u64, tokens_max: u32, overlong: Overlong| {
        let inputs = vec![(0, Input::Text("z".repeat(20))), (1, Input::Tokens(vec![5; 6]))];
        bench.encode(id, EncodeTask::Embed { inputs, dimensions: None, tokens_max: Some(tokens_max) }, overlong);
        bench.daemon.events(id)
    };
    let Some(Event::Failed(error)) = asked(1, 5, Overlong::Refuse).pop() else { panic!("a refusal was waited for") };
    assert_eq!(error.kind, ErrorKind::ContextLengthExceeded);
    assert!(error.message.starts_with("This request's maximum context length is 5 tokens"), "{}", error.message);
    let mut read = |id: u64, tokens_max: u32, overlong: Overlong| -> Vec<(u32, bool)> {
        let pick = |event| if let Event::Embedded(result) = event { Some((result.tokens, result.cut)) } else { None };
        asked(id, tokens_max, overlong).into_iter().filter_map(pick).collect()
    };
    assert_eq!(read(2, 5, Overlong::Cut), [(5, true), (5, true)]);
    let whole = read(3, 1_000, Overlong::Refuse);
    assert!(whole[0].0 > 5 && whole.iter().all(|(_, cut)| !cut), "the model's is the least: {whole:?}");
    bench.drain();
}

#[test]
fn a_text_far_beyond_the_context_is_refused_or_cut_without_being_read_whole() {
    let mut bench = Bench::start(&embedder());
    let (long, vast) = ("z".repeat(150), "z".repeat(8 << 20));
    let before = resident_bytes();
    bench.encode(1, embed(&[&vast], None), Overlong::Refuse);
    let message = bench.daemon.failure(1).message;
    assert!(message.contains("the text at 0 has more than"), "{message}");
    bench.encode(2, embed(&[&vast, &long], None), Overlong::Cut);
    let vectors = bench.vectors(2);
    assert!(vectors[0].vector == vectors[1].vector && vectors[0].cut, "both are cut to the same");
    assert!(resident_bytes() < before + (512 << 20));
    bench.drain();
    let recipe = Recipe::tiny_encoder("bert", 4).set("architectures", vec!["BertForSequenceClassification"]);
    let mut bench = Bench::start(&recipe);
    bench.encode(1, EncodeTask::Rerank { query: vast, documents: vec![(0, "one".to_string())] }, Overlong::Cut);
    let error = bench.daemon.failure(1);
    assert_eq!((error.kind, error.param.as_deref()), (ErrorKind::ContextLengthExceeded, Some("query")));
    bench.drain();
}

#[test]
fn a_reranker_scores_pairs_and_nothing_else() {
    let recipe = Recipe::tiny_encoder("bert", 4).set("architectures", vec!["BertForSequenceClassification"]);
    let mut bench = Bench::start(&recipe);
    let documents = vec![(4, "one".to_string()), (7, "another".to_string())];
    bench.encode(1, EncodeTask::Rerank { query: "which".to_string(), documents }, Overlong::Refuse);
    let events = bench.daemon.events(1);
    let pick = |event: &Event| if let Event::Scored(result) = event { Some(*result) } else { None };
    let scores: Vec<Scored> = events.iter().filter_map(pick).collect();
    assert_eq!(scores.iter().map(|result| result.index).collect::<Vec<_>>(), [4, 7]);
    assert!(scores.iter().all(|result| result.score > 0.0 && result.score < 1.0));
    assert_ne!(scores[0].score, scores[1].score);
    let Some(Event::Finished(finished)) = events.last() else { panic!("{events:?}") };
    assert_eq!(finished.usage.prompt_tokens, scores.iter().map(|result| result.tokens).sum::<u32>());
    bench.encode(2, embed(&["a"], None), Overlong::Refuse);
    assert_eq!(bench.daemon.failure(2).kind, ErrorKind::Unsupported);
    let submit = kit::submission(3, kit::chat("Hi", 1));
    bench.daemon.send(ToWorker::Submit(Box::new(submit)));
    assert_eq!(bench.daemon.failure(3).kind, ErrorKind::Unsupported);
    bench.drain();
}

#[test]
fn a_cancelled_request_says_nothing_more_and_others_go_on() {
    let mut bench = Bench::start(&embedder());
    let many = vec!["text of many words"; 400];
    bench.encode(1, embed(&many, None), Overlong::Refuse);
    bench.daemon.send(ToWorker::Cancel(WorkId(1)));
    bench.encode(2, embed(&["a"], None), Overlong::Refuse);
    // Whoever has begun with the second has heard that the first is not wanted.
    bench.daemon.until(|message| matches!(message, FromWorker::Event(event) if event.id == WorkId(2)));
    bench.daemon.drop_passed(1);
    assert_eq!(bench.vectors(2).len(), 1);
    assert_eq!(bench.daemon.drop_passed(1), 0);
    bench.drain();
}

#[test]
fn a_request_whose_results_were_all_told_by_another_worker_ends() {
    let mut bench = Bench::start(&embedder());
    bench.encode(1, embed(&[], None), Overlong::Refuse);
    assert!(matches!(bench.daemon.events(1)[..], [Event::Started(_), Event::Finished(_)]));
    bench.drain();
}

#[test]
fn texts_that_do_not_become_tokens_cost_their_request_and_the_heart_hears_of_it() {
    let folder = embedder().set("max_position_embeddings", 100_000).temporary().unwrap();
    kit::look_far(folder.path());
    let reader = Reader::open(folder.path(), "tiny", &crate::facts::facts(folder.path()).unwrap()).unwrap();
    let (mut output, to_daemon) = os_pipe().unwrap();
    let (emitter, _) = Emitter::start(to_daemon).unwrap();
    let ((sender, inbox), (texts, jobs)) = (sync_channel(4), sync_channel(4));
    let lookout = Lookout::start(Duration::from_millis(1), emitter.clone(), sender.clone()).unwrap();
    std::thread::spawn(move || reader.run(&jobs, &sender, &emitter, &lookout));
    let text = "a ".repeat(20_000);
    let (task, overlong) = (embed(&[&text], None), Overlong::Refuse);
    let encode =
        Encode { id: WorkId(7), task, overlong, priority: Priority::Normal, tokens_allowed: None, trace: None };
    texts.send(Job::Encode { encode, arrived: Instant::now() }).unwrap();
    let FromWorker::Event(refused) = pipe::read(&mut output).unwrap() else { panic!("a refusal was waited for") };
    assert!(refused.id == WorkId(7) && matches!(refused.event, Event::Failed(_)), "{refused:?}");
    assert!(matches!(inbox.recv().unwrap(), Message::Endless));
}

#[test]
fn a_text_that_does_not_become_tokens_ends_the_worker() {
    let folder = embedder().temporary().unwrap();
    let encoder = Encoder::open(folder.path(), 1, Precision::Fast, &mut |_, _| {}).unwrap();
    let (emitter, _) = Emitter::start(std::io::sink()).unwrap();
    let ((sender, inbox), (texts, _jobs)) = (sync_channel(1), sync_channel(1));
    let runner = Runner {
        name: "tiny".to_string(),
        tokens_max: 64,
        places: 1,
        encoder,
        inbox,
        texts,
        heart: Heart::new(emitter.clone(), Pulse::default(), Instant::now()),
        emitter,
        measures: Measures::default(),
        reading: HashSet::new(),
        queue: Queue::default(),
        draining: false,
        rows: Vec::new(),
    };
    sender.send(Message::Endless).unwrap();
    drop(sender);
    assert!(matches!(runner.run(), Err(RunError::Endless)));
}
