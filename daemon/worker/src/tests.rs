//! The whole worker on a tiny random model, driven through its pipe as the daemon drives it.
//!
//! `kit` holds the daemon's side. Every answer is compared with the same request's answer elsewhere: alone, in a batch,
//! after a restart, in a starved cache.

mod drafts;
mod freely;
mod judged;
pub mod kit;
mod samplers;
mod shapes;
mod states;
mod storm;
mod together;

use pipe::{Delivered, FromWorker, ToWorker, WorkId};
use protocol::ErrorKind;
use protocol::generation::{FinishReason, Missed, Prompt, Stop};
use protocol::transcript::{Event, Stage};

use kit::{Daemon, Folder, chat, open, request, shelved, submit, submit_as};

#[test]
fn a_batch_answers_as_each_request_alone() {
    let folder = Folder::new("batch", |recipe| recipe.endless());
    let mut daemon = Daemon::start(open(&folder));
    let requests: Vec<_> = (0..6).map(|index| request(&"tell me a story ".repeat(index + 1), 24)).collect();
    let alone: Vec<_> = requests
        .iter()
        .enumerate()
        .map(|(index, request)| {
            daemon.send(submit(index as u64, request, Vec::new()));
            daemon.answer(index as u64)
        })
        .collect();
    for (index, request) in requests.iter().enumerate() {
        daemon.send(submit(100 + index as u64, request, Vec::new()));
    }
    for (index, alone) in alone.iter().enumerate() {
        let batched = daemon.answer(100 + index as u64);
        assert_eq!(batched.tokens, alone.tokens, "request {index}");
        assert_eq!((batched.text, batched.reasons), (alone.text.clone(), alone.reasons.clone()));
        assert_eq!(batched.tokens[0].len(), 24);
    }
}

#[test]
fn a_starved_cache_preempts_and_answers_the_same() {
    let folder = Folder::new("starved", |recipe| recipe.endless());
    let requests: Vec<_> = (0..4).map(|index| request(&"once upon a time ".repeat(index + 2), 80)).collect();
    let answers = |blocks: u64| {
        let mut daemon = Daemon::start(pipe::Open { kv_bytes: blocks * folder.block_bytes(), ..open(&folder) });
        for (index, request) in requests.iter().enumerate() {
            daemon.send(submit(index as u64, request, Vec::new()));
        }
        (0..requests.len()).map(|index| daemon.answer(index as u64).tokens).collect::<Vec<_>>()
    };
    assert_eq!(answers(6), answers(64));
}

#[test]
fn a_resumed_answer_goes_on_as_if_undisturbed() {
    let folder = Folder::new("resume", |recipe| recipe.endless());
    let mut asked = request("what is the answer", 40);
    asked.choices = 3;
    let mut daemon = Daemon::start(open(&folder));
    daemon.send(submit(1, &asked, Vec::new()));
    let whole = daemon.answer(1);
    assert!(whole.started);
    drop(daemon);

    let mut daemon = Daemon::start(open(&folder));
    let cuts = [0, 17, 40];
    let delivered = |finished| {
        let part = |(index, cut): (usize, &usize)| Delivered {
            tokens: whole.tokens[index][..*cut].to_vec(),
            finished: if *cut == 40 { finished } else { None },
            sampler: None,
        };
        cuts.iter().enumerate().map(part).collect::<Vec<_>>()
    };
    daemon.send(submit(2, &asked, delivered(Some(FinishReason::Length))));
    let rest = daemon.answer(2);
    assert!(!rest.started, "a started event is not told twice");
    for (index, cut) in cuts[..2].iter().enumerate() {
        assert_eq!(rest.tokens[index], whole.tokens[index][*cut..], "choice {index}");
        assert!(whole.text[index].ends_with(&rest.text[index]));
    }
    assert_eq!(rest.reasons, [Some(FinishReason::Length); 2], "what is complete is silent");
    assert_eq!(rest.finished.usage.completion_tokens, 120);

    daemon.send(submit(3, &asked, delivered(None)));
    let rest = daemon.answer(3);
    assert_eq!(rest.tokens[2], [0_u32; 0]);
    assert_eq!(rest.reasons, [Some(FinishReason::Length); 3], "an end that was not delivered is told");

    let counted = daemon.idle_pulse().measures;
    assert_eq!((counted.requests, counted.queue.count()), (0, 0), "another worker counted it");
    assert_eq!((counted.prompt_tokens, counted.first_token.count()), (0, 0));
}

#[test]
fn cancelling_returns_every_block_and_silences_the_request() {
    let folder = Folder::new("cancel", |recipe| recipe.endless());
    let mut daemon = Daemon::start(open(&folder));
    daemon.send(submit(1, &request("go on for ever", 3_000), Vec::new()));
    daemon.see_delta(1);
    daemon.send(ToWorker::Cancel(WorkId(1)));
    let pulse = daemon.idle_pulse();
    assert_eq!((pulse.running, pulse.waiting, pulse.blocks_used), (0, 0, 0));
    daemon.send(submit(2, &request("hello", 2), Vec::new()));
    let seen = daemon.answer(2).others;
    assert_eq!(seen, 0, "nothing of the cancelled request follows the pulse");
}

#[test]
fn a_full_queue_answers_busy() {
    let folder = Folder::new("busy", |recipe| recipe.endless());
    let mut daemon = Daemon::start(pipe::Open { sequences_max: 1, waiting_max: 1, ..open(&folder) });
    daemon.send_all((1..=3).map(|id| submit(id, &request("go on for ever", 1_000), Vec::new())));
    let error = daemon.failure(3);
    assert_eq!(error.kind, ErrorKind::Busy);
    assert!(error.retry_after_ms.is_some());
    daemon.send(ToWorker::Cancel(WorkId(1)));
    assert_eq!(daemon.answer(2).tokens[0].len(), 1_000, "the waiting one is served");
}

#[test]
fn a_drain_finishes_what_runs_and_takes_nothing_more() {
    let folder = Folder::new("drain", |recipe| recipe.endless());
    let mut daemon = Daemon::start(open(&folder));
    let (taken, late) = (request("go on", 400), request("too late", 5));
    daemon.send_all([submit(1, &taken, Vec::new()), ToWorker::Drain, submit(2, &late, Vec::new())]);
    assert_eq!(daemon.failure(2).kind, ErrorKind::Closing);
    assert_eq!(daemon.answer(1).tokens[0].len(), 400);
    daemon.served().unwrap();
}

#[test]
fn the_end_of_the_input_is_told_at_once() {
    let folder = Folder::new("end", |recipe| recipe.endless());
    let mut daemon = Daemon::start(open(&folder));
    daemon.send(submit(1, &request("go on for ever", 3_000), Vec::new()));
    daemon.see_delta(1);
    daemon.close_input();
}

#[test]
fn a_folder_that_is_no_model_fails_to_load() {
    let folder = Folder::new("broken", |recipe| recipe);
    std::fs::remove_file(folder.path().join("tokenizer.json")).unwrap();
    let mut daemon = Daemon::begin(open(&folder));
    let error = daemon.load_failure();
    assert_eq!(error.kind, ErrorKind::ModelNotLoaded);
    assert!(error.message.contains("tokenizer.json"), "{}", error.message);
    assert!(daemon.served().is_err());
}

#[test]
fn a_cache_too_small_for_a_block_is_refused_with_the_arithmetic() {
    let folder = Folder::new("small", |recipe| recipe);
    let mut daemon = Daemon::begin(pipe::Open { kv_bytes: 10, ..open(&folder) });
    let error = daemon.load_failure();
    assert_eq!(error.kind, ErrorKind::NoMemory);
    assert!(error.message.contains("10 bytes"), "{}", error.message);
}

#[test]
fn an_answer_comes_with_usage_timing_and_log_probabilities() {
    let folder = Folder::new("usage", |recipe| recipe.endless());
    let mut daemon = Daemon::start(open(&folder));
    let mut asked = request(&"the same words again and again ".repeat(4), 10);
    asked.logprobs = Some(3);
    asked.sampling.temperature = Some(0.0);
    daemon.send(submit(1, &asked, Vec::new()));
    let first = daemon.answer(1);
    daemon.send(submit(2, &asked, Vec::new()));
    let second = daemon.answer(2);
    assert_eq!(first.tokens, second.tokens);
    assert_eq!((first.finished.usage.cached_tokens, first.finished.usage.completion_tokens), (0, 10));
    let usage = second.finished.usage;
    assert_eq!(usage.cached_tokens, usage.prompt_tokens - 1, "all but the token whose logits are wanted");
    assert!(second.finished.timing.decode_us > 0 && second.finished.timing.prefill_us > 0);
    for (entry, token) in second.logprobs[0].iter().zip(&second.tokens[0]) {
        assert_eq!((entry.token, entry.top.len()), (*token, 3));
        assert_eq!((entry.top[0].0, entry.top[0].2), (entry.token, entry.logprob), "greedy takes the likeliest");
    }
    assert_eq!(second.logprobs[0].len(), 10);
}

#[test]
fn a_stop_string_ends_the_answer_and_is_no_part_of_it() {
    let folder = Folder::new("stop", |recipe| recipe.endless());
    let mut daemon = Daemon::start(open(&folder));
    let asked = request("say something", 60);
    daemon.send(submit(1, &asked, Vec::new()));
    let whole = daemon.answer(1);
    let text: Vec<char> = whole.text[0].chars().collect();
    let stop: String = text[text.len() / 2..text.len() / 2 + 3].iter().collect();
    let before = whole.text[0].split(&stop).next().unwrap().to_string();
    let mut stopped = asked.clone();
    stopped.stop.strings = vec![stop.clone()];
    daemon.send(submit(2, &stopped, Vec::new()));
    let answer = daemon.answer(2);
    assert_eq!((&answer.text[0], answer.reasons[0]), (&before, Some(FinishReason::Stop)));
    assert_eq!(answer.stop_strings, [stop]);
    assert!(whole.tokens[0].starts_with(&answer.tokens[0]));
}

#[test]
fn the_models_own_end_token_ends_an_answer_unless_ignored() {
    let folder = Folder::new("eos", |recipe| recipe);
    let mut daemon = Daemon::start(open(&folder));
    let mut asked = request("say something", 400);
    asked.sampling.logit_bias = vec![(engine::random::TOKENS - 1, 4.0)];
    daemon.send(submit(1, &asked, Vec::new()));
    let ended = daemon.answer(1);
    assert_eq!(ended.reasons, [Some(FinishReason::Stop)]);
    assert_eq!(ended.tokens[0].last(), Some(&(engine::random::TOKENS - 1)));
    asked.stop = Stop { ignore_eos: true, ..asked.stop };
    daemon.send(submit(2, &asked, Vec::new()));
    let ignored = daemon.answer(2);
    assert_eq!((ignored.tokens[0].len(), ignored.reasons[0]), (400, Some(FinishReason::Length)));
}

#[test]
fn an_answer_without_a_limit_ends_where_the_context_does() {
    let folder = Folder::new("context", |recipe| recipe.endless().set("max_position_embeddings", 64));
    let mut daemon = Daemon::start(open(&folder));
    let mut asked = request("unused", 1);
    asked.prompt = Prompt::Tokens((0..30).collect());
    asked.stop.max_tokens = None;
    daemon.send(submit(1, &asked, Vec::new()));
    let answer = daemon.answer(1);
    assert_eq!((answer.tokens[0].len(), answer.reasons[0]), (34, Some(FinishReason::Length)));
    asked.stop.max_tokens = Some(35);
    daemon.send(submit(2, &asked, Vec::new()));
    assert_eq!(daemon.failure(2).kind, ErrorKind::ContextLengthExceeded);
}

#[test]
fn events_of_a_request_end_with_one_last_event() {
    let folder = Folder::new("order", |recipe| recipe.endless());
    let mut daemon = Daemon::start(open(&folder));
    daemon.send(submit(1, &request("hello", 3), Vec::new()));
    let events = daemon.events(1);
    assert!(matches!(events[0], Event::Started(_)));
    assert!(events[1..4].iter().all(|event| matches!(event, Event::Delta(delta) if delta.tokens == 1)));
    assert!(matches!(events[4..], [Event::ChoiceFinished(_), Event::Finished(_)]));
}

/// Doubles a text, nests a list, or computes for a while, as the conversation asks.
const HOSTILE: &str = "{%- set ns = namespace(x='x' * 1000) -%}
{%- if messages[0].content == 'double' -%}{%- for i in range(60) -%}{%- set ns.x = ns.x ~ ns.x -%}{%- endfor -%}
{%- elif messages[0].content == 'nest' -%}{%- for i in range(99999) -%}{%- set ns.x = [ns.x] -%}{%- endfor -%}{{ ns.x }}
{%- elif messages[0].content == 'slow' -%}{%- for i in range(900) -%}{%- set ns.y = (ns.x * 1000).upper() -%}{%- endfor -%}
{%- endif -%}{{ messages[0].content }}";

#[test]
fn a_hostile_template_costs_one_request_and_delays_no_other() {
    let folder = Folder::new("hostile", |recipe| recipe.endless()).with_template(HOSTILE);
    let mut daemon = Daemon::start(open(&folder));
    let ask = |(id, content)| submit(id, &chat(content, 5), Vec::new());
    daemon.send_all([(1, "slow"), (2, "slow"), (3, "slow"), (4, "hello")].map(ask));
    let answer = daemon.answer(4);
    assert_eq!((answer.tokens[0].len(), answer.others), (5, 0), "the ordinary one waits for none of the others");
    for id in 1..=3 {
        assert_eq!(daemon.answer(id).tokens[0].len(), 5, "what only takes long is answered");
    }
    daemon.send_all([(5, "double"), (6, "nest")].map(ask));
    let error = daemon.failure(5);
    assert_eq!((error.kind, error.param.as_deref()), (ErrorKind::Invalid, Some("messages")), "{}", error.message);
    assert!(error.message.contains("more than 512 MiB"), "{}", error.message);
    assert!(daemon.failure(6).message.contains("crashed"));
    for id in 7..12 {
        daemon.send(submit(id, &chat("hello", 3), Vec::new()));
        assert_eq!(daemon.answer(id).tokens[0].len(), 3);
    }
}

#[test]
fn while_prompts_are_read_and_nothing_is_computed_the_daemon_hears_that_the_worker_lives() {
    let folder =
        Folder::new("alive", |recipe| recipe.endless()).with_template(&HOSTILE.replace("range(900)", "range(90000)"));
    let mut daemon = Daemon::start(open(&folder));
    daemon.send(submit(1, &chat("slow", 5), Vec::new()));
    for _ in 0..3 {
        daemon.until(|message| matches!(message, FromWorker::Pulse(pulse) if pulse.waiting == 1));
    }
}

#[test]
fn a_template_that_does_not_compile_fails_the_load_by_its_line() {
    let folder = Folder::new("uncompiled", |recipe| recipe).with_template("fine\n{% if %}");
    let error = Daemon::begin(open(&folder)).load_failure();
    assert_eq!(error.kind, ErrorKind::ModelNotLoaded);
    assert!(error.message.contains("chat_template.jinja is invalid: line 2"), "{}", error.message);
}

#[test]
fn guessing_ahead_changes_no_answer() {
    let folder = Folder::new("guess", |recipe| recipe.endless());
    let repeating = "one two three four five six seven one two three four five six seven one two three ";
    let answers = |draft_tokens_max| {
        let mut daemon = Daemon::start(pipe::Open { draft_tokens_max, ..open(&folder) });
        let mut asked: Vec<_> = [0.0, 0.0, 0.4, 1.0]
            .map(|temperature| {
                let mut asked = request(repeating, 160);
                asked.sampling.temperature = Some(temperature);
                asked
            })
            .into();
        asked[1].sampling.repetition_penalty = Some(1.3);
        asked[2].choices = 3;
        asked[3].logprobs = Some(2);
        // A strong wish for a few tokens makes even a random model repeat itself.
        asked[3].sampling.logit_bias = (40..44).map(|token| (token, 30.0)).collect();
        for (id, asked) in asked.iter().enumerate() {
            daemon.send(submit(id as u64, asked, Vec::new()));
        }
        (0..asked.len()).map(|id| daemon.answer(id as u64)).collect::<Vec<_>>()
    };
    let (plain, guessed) = (answers(0), answers(6));
    for (id, (plain, guessed)) in plain.iter().zip(&guessed).enumerate() {
        assert_eq!((&plain.tokens, &plain.text), (&guessed.tokens, &guessed.text), "request {id}");
        assert_eq!((&plain.reasons, &plain.logprobs), (&guessed.reasons, &guessed.logprobs), "request {id}");
        assert_eq!(plain.finished.speculation.drafted, 0);
    }
    let accepted: u32 = guessed.iter().map(|answer| answer.finished.speculation.accepted).sum();
    assert!(accepted > 40, "some guesses were right: {accepted}");
    assert!(guessed.iter().any(|answer| {
        let speculation = answer.finished.speculation;
        speculation.drafted > speculation.accepted
    }));
}

#[test]
fn choices_share_one_reading_of_their_prompt() {
    let folder = Folder::new("choices", |recipe| recipe.endless());
    let mut asked = request(&"the same words for everybody ".repeat(6), 20);
    let alone = |choice: u16| {
        let mut daemon = Daemon::start(pipe::Open { sequences_max: 1, ..open(&folder) });
        let mut asked = asked.clone();
        asked.choices = choice + 1;
        daemon.send(submit(1, &asked, Vec::new()));
        daemon.answer(1).tokens.remove(usize::from(choice))
    };
    let one_by_one: Vec<_> = (0..4).map(alone).collect();
    asked.choices = 4;
    let mut daemon = Daemon::start(open(&folder));
    daemon.send(submit(1, &asked, Vec::new()));
    let together = daemon.answer(1);
    assert_eq!(together.tokens, one_by_one);
    assert!(together.tokens[0] != together.tokens[1], "choices differ");
    let measures = daemon.idle_pulse().measures;
    assert_eq!(measures.prompt_tokens, u64::from(together.finished.usage.prompt_tokens));
}

#[test]
fn what_requests_cost_is_counted() {
    let folder = Folder::new("counted", |recipe| recipe.endless());
    let mut daemon = Daemon::start(open(&folder));
    daemon.send(submit_as(1, 1, &request(&"a very long story about nothing ".repeat(80), 4), Vec::new()));
    daemon.send(submit_as(1, 2, &request("hello", 4), Vec::new()));
    daemon.answer(2);
    daemon.answer(1);
    let measures = daemon.idle_pulse().measures;
    assert_eq!((measures.requests, measures.first_token.count(), measures.tokens), (2, 2, 8));
    assert_eq!(measures.queue.count(), 2);
}

#[test]
fn an_answer_says_why_its_prefix_missed() {
    let folder = Folder::new("missed", |recipe| recipe.endless());
    let mut daemon = Daemon::start(open(&folder));
    let mut ask = |id, tokens: Vec<u32>| {
        let mut asked = request("", 2);
        asked.prompt = Prompt::Tokens(tokens);
        daemon.send(submit(id, &asked, Vec::new()));
        daemon.answer(id).finished.missed
    };
    assert_eq!(ask(1, (0..100).collect()), Some(Missed::New(0)));
    assert_eq!(ask(2, (0..97).collect()), Some(Missed::Nothing));
    assert_eq!(ask(3, (0..40).chain(90..170).collect()), Some(Missed::Differs(40)));
}

#[test]
fn a_prefix_survives_the_worker_on_disk() {
    let folder = Folder::new("survives", |recipe| recipe.endless());
    let asked = request(&"a story that is told again and again ".repeat(6), 12);
    let mut daemon = Daemon::start(shelved(&folder, 40));
    daemon.send(submit(1, &asked, Vec::new()));
    let first = daemon.answer(1);
    daemon.send(ToWorker::Drain);
    daemon.served().unwrap();

    let mut daemon = Daemon::start(shelved(&folder, 40));
    daemon.send(submit(1, &asked, Vec::new()));
    let second = daemon.answer(1);
    assert_eq!((&first.tokens, &first.text), (&second.tokens, &second.text));
    let usage = second.finished.usage;
    assert_eq!(usage.cached_tokens, (usage.prompt_tokens - 1) / 32 * 32, "every full block came from the disk");
    let measures = daemon.idle_pulse().measures;
    assert_eq!(measures.restored_tokens, u64::from(usage.cached_tokens));
}

#[test]
fn an_evicted_prefix_is_brought_back_from_disk() {
    let folder = Folder::new("evicted", |recipe| recipe.endless());
    let mut daemon = Daemon::start(shelved(&folder, 10));
    let requests: Vec<_> = ["one", "two", "six"].map(|word| request(&format!("{word} ").repeat(60), 8)).into();
    let mut ask = |id: u64| {
        daemon.send(submit(id, &requests[id as usize % 3], Vec::new()));
        daemon.answer(id)
    };
    let first: Vec<_> = (0..3).map(&mut ask).collect();
    let again: Vec<_> = (3..9).map(&mut ask).collect();
    for (index, answer) in again.iter().enumerate() {
        assert_eq!(answer.tokens, first[index % 3].tokens);
        assert!(answer.finished.usage.cached_tokens >= 96, "{index}: {:?}", answer.finished);
    }
    let measures = daemon.idle_pulse().measures;
    assert!(measures.stored_tokens >= 96 && measures.restored_tokens >= 96, "{measures:?}");
}

#[test]
fn a_starved_cache_that_puts_away_what_it_preempts_answers_the_same() {
    let folder = Folder::new("put-away", |recipe| recipe.endless());
    let answers = |open: pipe::Open| {
        let mut daemon = Daemon::start(open);
        for (id, word) in ["one", "two", "six", "ten", "red", "sun"].iter().enumerate() {
            daemon.send(submit(id as u64, &request(&format!("{word} ").repeat(15), 100), Vec::new()));
        }
        (0..6).map(|id| daemon.answer(id).tokens).collect::<Vec<_>>()
    };
    assert_eq!(answers(shelved(&folder, 8)), answers(open(&folder)));
}

#[test]
fn a_request_that_is_cancelled_while_its_prefix_is_brought_leaves_nothing() {
    let folder = Folder::new("fetching", |recipe| recipe.endless());
    let asked = request(&"a story that is told again and again ".repeat(6), 400);
    let mut daemon = Daemon::start(shelved(&folder, 40));
    daemon.send(submit(1, &asked, Vec::new()));
    daemon.see_delta(1);
    daemon.send(ToWorker::Cancel(WorkId(1)));
    daemon.send(ToWorker::Drain);
    daemon.served().unwrap();
    let mut daemon = Daemon::start(shelved(&folder, 40));
    for id in 1..20 {
        daemon.send(submit(id, &asked, Vec::new()));
        daemon.send(ToWorker::Cancel(WorkId(id)));
    }
    // Some may be answered until they are cancelled; whatever they had by then is given back.
    daemon.send(submit(99, &request("hello", 3), Vec::new()));
    assert_eq!(daemon.answer(99).tokens[0].len(), 3);
    assert_eq!(daemon.idle_pulse().blocks_used, 0);
}

#[test]
fn a_long_prompt_tells_how_much_of_it_is_read() {
    let folder = Folder::new("progress", |recipe| recipe.endless());
    let mut daemon = Daemon::start(pipe::Open { prefill_tokens_max: 16, ..open(&folder) });
    daemon.send(submit(1, &request(&"once upon a time ".repeat(20), 2), Vec::new()));
    let events = daemon.events(1);
    let told = events.iter().find_map(|event| match event {
        Event::Progress(progress) => Some((progress.stage, progress.done, progress.total)),
        _ => None,
    });
    let Some((Stage::Prefilling, done, Some(total))) = told else { panic!("{told:?}") };
    assert!(0 < done && done < total, "{done} of {total}");
    daemon.send(submit(2, &request("once", 2), Vec::new()));
    assert!(
        !daemon.events(2).iter().any(|event| matches!(event, Event::Progress(_))),
        "a short prompt has no progress"
    );
}
