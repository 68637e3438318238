//! The heartbeat step by step: what a cancel costs is counted in steps, not waited for.

use std::collections::HashMap;
use std::sync::mpsc::sync_channel;

use pipe::{Open, ToWorker, WorkId};
use protocol::generation::{GenerateRequest, Priority};
use scheduler::{Held, Kept, blocks_for};

use super::guesses::Wish;
use super::*;
use crate::prompt::renderer::Rendering;
use crate::prompt::{Prepared, Prompter};
use crate::tests::kit::{self, Folder, program, request, submit};

/// A worker without threads: the test hands prompts over and lets the heart beat.
struct Stepped {
    runner: Runner,
    sender: SyncSender<Message>,
    jobs: Receiver<Job>,
    prompter: Prompter,
    rendering: Rendering,
    /// Messages that were not heard yet.
    unheard: usize,
}

impl Stepped {
    fn new(folder: &Folder) -> Self {
        Self::with(folder, &kit::open(folder))
    }

    fn with(folder: &Folder, open: &Open) -> Self {
        let facts = crate::facts::inspect(folder.path()).unwrap();
        let (emitter, _) = Emitter::start(std::io::sink()).unwrap();
        let opened = crate::open::open(open, facts, &program(), &emitter).unwrap();
        let (sender, inbox) = sync_channel(INBOX_MESSAGES_MAX);
        let (prompts, jobs) = sync_channel(64);
        let (model, scheduler, places) = (opened.model, opened.scheduler, opened.places);
        let pulse = opened.ready.pulse;
        let runner = Runner::new(Parts {
            model,
            drafter: opened.drafter,
            scheduler,
            pace: opened.pace,
            places,
            inbox,
            prompts,
            emitter,
            pulse,
            shelf: opened.shelf.and_then(|plan| plan.open(sender.clone())),
        });
        Self { runner, sender, jobs, prompter: opened.prompter, rendering: opened.rendering, unheard: 0 }
    }

    fn say(&mut self, message: ToWorker) {
        self.send(Message::Daemon(message));
    }

    fn send(&mut self, message: Message) {
        self.sender.send(message).unwrap();
        self.unheard += 1;
    }

    /// A heart without work would wait for a message that this thread never sends.
    fn rests(&self) -> bool {
        self.runner.scheduler.is_idle() && self.unheard == 0
    }

    fn step(&mut self) {
        assert!(self.rests() || self.runner.step().unwrap(), "the worker goes on");
        self.unheard = 0;
    }

    fn listen(&mut self) {
        assert!(self.rests() || self.runner.listen().unwrap(), "the worker goes on");
        self.unheard = 0;
    }

    /// Hears a request and hands its prompt back as tokens; returns how many. It runs from the next step on.
    fn submit(&mut self, id: u64, text: &str, max_tokens: u32) -> u32 {
        self.say(submit(id, &request(text, max_tokens), Vec::new()));
        self.runner.listen().unwrap();
        let job = self.jobs.try_recv().unwrap();
        self.prepare(job)
    }

    /// Hands the prompt of a request back as tokens; returns how many.
    fn prepare(&mut self, job: Job) -> u32 {
        let Job::Prepare { ticket, submit, arrived, .. } = job else { panic!("a prompt is to be read") };
        let work = submit.id;
        let generation = self.prompter.prepare(*submit, arrived, &mut self.rendering).unwrap();
        let tokens = generation.prompt.len() as u32;
        let prepared = Prepared { ticket, work, result: Ok(Box::new(generation)) };
        self.send(Message::Prepared(prepared));
        tokens
    }

    /// Steps until nothing is left to do, and waits for the disk meanwhile.
    fn rest(&mut self) {
        while self.runner.requests.running() + self.runner.requests.waiting() > 0 {
            if self.runner.scheduler.is_idle() {
                assert!(self.runner.listen().unwrap());
            }
            self.unheard = 0;
            self.step();
        }
    }

    /// What the draft model has of every prefix that nobody holds.
    fn known_to_the_draft_model(&self) -> HashMap<Vec<u32>, Vec<u8>> {
        let drafter = self.runner.drafter.as_ref().unwrap();
        let of_block = |kept: Kept| match kept.held {
            Held::Block(block) => (kept.tokens, drafter.read_block(block.0)),
            Held::State(_) => panic!("there are no states"),
        };
        self.runner.scheduler.kept().map(of_block).collect()
    }

    /// Steps until each of the requests 1, 2, … has answered with so many tokens; their prompts are this long.
    fn first_answered(&mut self, tokens: usize, prompts: &[u32]) -> Vec<Vec<u32>> {
        let mut answers = vec![None; prompts.len()];
        while answers.iter().any(Option::is_none) {
            assert!(!self.rests(), "somebody ended with fewer");
            self.step();
            for ((answer, id), prompt) in answers.iter_mut().zip(1..).zip(prompts) {
                let written = self.runner.scheduler.tokens(Ticket(id).sequence(0));
                let first = written.and_then(|written| written.get(*prompt as usize..)?.get(..tokens));
                *answer = answer.take().or_else(|| first.map(<[u32]>::to_vec));
            }
        }
        answers.into_iter().flatten().collect()
    }

    fn blocks_used(&self) -> u32 {
        self.runner.scheduler.stats().blocks_used
    }
}

#[test]
fn a_cancelled_answer_holds_no_block_after_the_next_step() {
    let folder = Folder::new("stepped", |recipe| recipe.endless());
    let mut worker = Stepped::new(&folder);
    let kept = worker.submit(1, "this one stays", 3_000);
    let _ = worker.submit(2, &"that one goes ".repeat(4), 3_000);
    for _ in 0..40 {
        worker.step();
    }
    assert_eq!(worker.runner.requests.running(), 2);
    let before = worker.blocks_used();
    worker.say(ToWorker::Cancel(WorkId(2)));
    worker.step();
    let (tokens, after) = (kept + 40, worker.blocks_used());
    assert!(
        after < before && (blocks_for(tokens - 1)..=blocks_for(tokens + 1)).contains(&after),
        "{before} then {after}"
    );
    assert_eq!((worker.runner.requests.running(), worker.runner.scheduler.stats().running), (1, 1));
    // The last one: nothing is left to compute, so not even a step passes.
    worker.say(ToWorker::Cancel(WorkId(1)));
    worker.listen();
    assert_eq!((worker.blocks_used(), worker.runner.requests.running()), (0, 0));
}

#[test]
fn a_request_cancelled_between_the_chunks_of_its_prompt_holds_no_block_after_the_next_step() {
    let folder = Folder::new("chunked", |recipe| recipe.endless());
    let mut worker = Stepped::new(&folder);
    let tokens = worker.submit(1, &"a long prompt that comes in many chunks ".repeat(40), 10);
    assert!(tokens > 4 * kit::open(&folder).prefill_tokens_max, "{tokens}");
    worker.step();
    worker.step();
    assert!(worker.blocks_used() > 0 && worker.runner.requests.running() == 1);
    worker.say(ToWorker::Cancel(WorkId(1)));
    worker.step();
    assert_eq!((worker.blocks_used(), worker.runner.requests.running()), (0, 0));
}

#[test]
fn no_more_requests_are_alive_than_another_worker_takes_in_however_many_give_way() {
    let folder = Folder::new("alive", |recipe| recipe.endless());
    let mut worker = Stepped::with(&folder, &Open { sequences_max: 1, waiting_max: 1, ..kit::open(&folder) });
    for (id, priority) in (1..).zip([Priority::Low, Priority::Normal, Priority::High]) {
        let asked = GenerateRequest { priority, ..request("some words", 500) };
        worker.say(submit(id, &asked, Vec::new()));
        worker.listen();
        if let Ok(job) = worker.jobs.try_recv() {
            worker.prepare(job);
        }
        (0..4).for_each(|_| worker.step());
    }
    assert_eq!(worker.runner.scheduler.stats().preemptions, 1, "the second took the place of the first");
    let requests = &worker.runner.requests;
    assert_eq!((requests.running(), requests.waiting(), requests.measures().refused), (2, 0, 1));
}

#[test]
fn a_prompt_whose_request_was_cancelled_is_not_wanted_any_more() {
    let mut worker = Stepped::new(&Folder::new("unwanted", |recipe| recipe));
    worker.say(submit(1, &request("some words", 5), Vec::new()));
    worker.listen();
    let job = worker.jobs.try_recv().unwrap();
    assert!(job.is_wanted());
    worker.say(ToWorker::Cancel(WorkId(1)));
    worker.listen();
    assert!(!job.is_wanted());
}

#[test]
fn a_preempted_answer_goes_on_from_what_was_put_away_of_it() {
    let folder = Folder::new("recalled", |recipe| recipe.endless());
    let mut worker = Stepped::with(&folder, &kit::shelved(&folder, 8));
    // Each grows to seven blocks, and there are eight.
    let prompts: Vec<u32> = (1..3).map(|id| worker.submit(id, &format!("{id} is ").repeat(12), 150)).collect();
    assert!(prompts.iter().all(|tokens| (44..=74).contains(tokens)), "{prompts:?}");
    worker.rest();
    assert_eq!(worker.runner.scheduler.stats().preemptions, 1);
    let measures = worker.runner.requests.measures();
    assert!(measures.stored_tokens >= 64 && measures.restored_tokens >= 64, "{measures:?}");
    assert!(worker.runner.preempted.is_empty() && worker.runner.fetching.is_empty());
}

#[test]
fn what_a_draft_model_knew_of_a_prefix_is_put_away_before_its_guesses_take_the_block() {
    let folder = Folder::new("drafted-shelf", |recipe| recipe.endless());
    let draft = Some(folder.path().to_string_lossy().into_owned());
    // A block holds the keys and values of both models.
    let mut worker = Stepped::with(&folder, &Open { draft, draft_tokens_max: 1, ..kit::shelved(&folder, 2 * 6) });
    let text = "a prefix of which both models keep their own keys and values. ".repeat(2);
    let tokens = worker.submit(1, &text, 1);
    assert!((96..128).contains(&tokens), "{tokens}");
    worker.rest();
    let before = worker.known_to_the_draft_model();
    assert_eq!(before.len(), 3);
    let tokens = worker.submit(2, "and something else that is told for long", 120);
    assert!((20..60).contains(&tokens), "{tokens}");
    let id = Ticket(2).sequence(0);
    while worker.runner.scheduler.tokens(id).is_none_or(|tokens| !(90..95).contains(&tokens.len())) {
        worker.step();
    }
    assert_eq!(worker.runner.scheduler.stats().blocks_cached, 3, "nothing is lost yet");
    worker.runner.grant(&[Wish { id, tokens: 20 }]).unwrap();
    assert_eq!(worker.runner.scheduler.stats().blocks_cached, 2, "a guess takes what is needed least");
    worker.say(ToWorker::Cancel(WorkId(2)));
    worker.listen();
    worker.submit(3, &text, 1);
    worker.rest();
    assert_eq!(worker.runner.requests.measures().restored_tokens, 32);
    let after = worker.known_to_the_draft_model();
    assert!(
        before.iter().all(|(tokens, contents)| after.get(tokens) == Some(contents)),
        "the draft model's half is whole"
    );
}

#[test]
fn ten_thousand_cancels_at_random_moments_leak_nothing() {
    let folder = Folder::new("cancels", |recipe| recipe.endless());
    let mut worker = Stepped::new(&folder);
    let mut seed = 0x5EED_u64;
    let mut random = move |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % below
    };
    let (mut alive, mut cancelled, mut next) = (Vec::new(), 0, 0);
    while cancelled < 10_000 {
        while alive.len() < 12 {
            next += 1;
            let text = "some words of a prompt ".repeat(random(6) as usize + 1);
            // Some are cancelled while their prompt is being read.
            if random(4) == 0 {
                worker.say(submit(next, &request(&text, 50), Vec::new()));
            } else {
                worker.submit(next, &text, 1 + random(50) as u32);
            }
            alive.push(next);
        }
        if random(3) == 0 {
            worker.step();
        }
        for _ in 0..random(8) {
            let id = alive.swap_remove(random(alive.len() as u64) as usize);
            worker.say(ToWorker::Cancel(WorkId(id)));
            cancelled += 1;
            if alive.is_empty() {
                break;
            }
        }
        worker.jobs.try_iter().for_each(drop);
    }
    alive.iter().for_each(|id| worker.say(ToWorker::Cancel(WorkId(*id))));
    worker.listen();
    let stats = worker.runner.scheduler.stats();
    assert_eq!((stats.running, stats.waiting, stats.blocks_used), (0, 0, 0));
    assert_eq!((worker.runner.requests.running(), worker.runner.requests.waiting()), (0, 0));
    assert!(worker.runner.requests.is_empty(), "nothing is remembered of what is gone");
}

#[test]
fn a_short_request_overtakes_the_reading_of_a_long_prompt() {
    let folder = Folder::new("overtake", |recipe| recipe.endless());
    let mut worker = Stepped::new(&folder);
    let long = worker.submit(1, &"a long prompt that comes in many chunks ".repeat(80), 4);
    assert!(long > 8 * kit::open(&folder).prefill_tokens_max, "{long}");
    let _ = worker.submit(2, "hello", 4);
    worker.step();
    let alive = |worker: &Stepped| worker.runner.requests.running() + worker.runner.requests.waiting();
    while alive(&worker) == 2 {
        worker.step();
    }
    let mut steps = 0;
    while alive(&worker) == 1 {
        worker.step();
        steps += 1;
    }
    assert!(steps > 4, "the long one was still being read when the short one ended, {steps} steps before");
}

/// Plans a step, with guesses of the draft model, and computes it while these messages come; whether it was completed.
fn forward_while_coming(worker: &mut Stepped, wishes: &[Wish], messages: Vec<Message>) -> bool {
    assert!(worker.runner.listen().unwrap());
    worker.runner.grant(wishes).unwrap();
    let plan = worker.runner.scheduler.plan(0, worker.runner.pace.budget());
    let load = worker.runner.load(&plan);
    messages.into_iter().for_each(|message| worker.sender.send(message).unwrap());
    worker.unheard = 0;
    // However slow the machine is, nothing of the step has passed when the messages are heard.
    let begun = Instant::now() + Duration::from_secs(3_600);
    let completed = worker.runner.forward(&plan, load, begun).unwrap();
    match completed {
        true => {
            let outcomes = worker.runner.draw(&plan);
            worker.runner.scheduler.commit(&outcomes);
            worker.runner.drafter.iter_mut().for_each(|drafter| drafter.settle(&outcomes));
        }
        false => worker.runner.leave(),
    }
    completed
}

#[test]
fn a_prompt_that_comes_while_a_step_is_computed_becomes_tokens_meanwhile() {
    let folder = Folder::new("overheard", |recipe| recipe.endless());
    let mut worker = Stepped::new(&folder);
    worker.submit(1, "some words", 40);
    worker.step();
    let coming = Message::Daemon(submit(2, &request("hello", 4), Vec::new()));
    assert!(forward_while_coming(&mut worker, &[], vec![coming, Message::Daemon(ToWorker::Cancel(WorkId(1)))]));
    assert!(matches!(worker.jobs.try_recv(), Ok(Job::Prepare { .. })), "it went off before the step was committed");
    assert_eq!(worker.runner.scheduler.stats().running, 1, "what touches a sequence waits for the end of the step");
    worker.listen();
    assert_eq!(worker.runner.scheduler.stats().running, 0);
}

#[test]
fn a_step_that_reads_a_long_prompt_is_left_for_a_short_one_and_both_answers_stay_the_same() {
    let folder = Folder::new("left", |recipe| recipe.endless());
    let answers = |left: bool| {
        let mut worker = Stepped::new(&folder);
        let long = worker.submit(1, &"a long prompt that comes in many chunks ".repeat(40), 500);
        (0..4).for_each(|_| worker.step());
        let short = worker.submit(2, "hello", 500);
        let coming = worker.runner.inbox.try_recv().unwrap();
        match left {
            true => assert!(!forward_while_coming(&mut worker, &[], vec![coming]), "the step is left"),
            false => worker.sender.send(coming).unwrap(),
        }
        worker.first_answered(30, &[long, short])
    };
    assert_eq!(answers(true), answers(false));
}

#[test]
fn a_step_that_checks_a_draft_models_guesses_is_left_and_neither_model_is_led_astray() {
    let folder = Folder::new("left-drafted", |recipe| recipe.endless());
    let draft = Some(folder.path().to_string_lossy().into_owned());
    let open = Open { draft, ..kit::open(&folder) };
    let run = |left: bool| {
        let mut worker = Stepped::with(&folder, &open);
        let mut lengths = vec![worker.submit(1, "a tale that is told", 500)];
        (0..9).for_each(|_| worker.step());
        lengths.push(worker.submit(2, &"a long prompt that comes in many chunks ".repeat(40), 500));
        (0..4).for_each(|_| worker.step());
        lengths.push(worker.submit(3, "hello", 500));
        let coming = worker.runner.inbox.try_recv().unwrap();
        let tale = Ticket(1).sequence(0);
        let written = |worker: &Stepped| worker.runner.scheduler.tokens(tale).unwrap().to_vec();
        let before = written(&worker);
        let wishes = [Wish { id: tale, tokens: 4 }];
        match left {
            true => assert!(!forward_while_coming(&mut worker, &wishes, vec![coming]), "the step is left"),
            false => worker.sender.send(coming).unwrap(),
        }
        assert_eq!(written(&worker), before, "nothing of it counts");
        let answers = worker.first_answered(60, &lengths);
        (1..=3).for_each(|id| worker.say(ToWorker::Cancel(WorkId(id))));
        worker.listen();
        (answers, worker.known_to_the_draft_model())
    };
    let ((undisturbed, known), (answers, known_after)) = (run(false), run(true));
    assert_eq!(answers, undisturbed);
    let whole = |contents: &Vec<u8>| contents.last() == Some(&32);
    let both = known.iter().filter_map(|(tokens, contents)| Some((contents, known_after.get(tokens)?)));
    let both: Vec<_> = both.filter(|(one, other)| whole(one) && whole(other)).collect();
    assert!(both.len() > 8 && both.iter().all(|(one, other)| one == other), "{} blocks are known to both", both.len());
}

#[test]
fn a_text_that_does_not_become_tokens_ends_the_worker() {
    let mut worker = Stepped::new(&Folder::new("ends", |recipe| recipe));
    worker.send(Message::Endless);
    assert!(matches!(worker.runner.step(), Err(RunError::Endless)));
}
