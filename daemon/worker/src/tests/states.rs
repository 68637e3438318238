//! A model whose layers keep recurrent states answers as one without: the same alone, in a batch, with guesses, with choices,
//! after a cancel and from a reused prefix.

use engine::random::Recipe;
use pipe::{ToWorker, WorkId};
use protocol::generation::GenerateRequest;

use super::kit::{Answer, Daemon, Folder, open, request, shelved, submit};

fn folder(name: &str) -> Folder {
    Folder::new(name, |_| Recipe::tiny("qwen3_next", 7).quantized(4, 32).endless())
}

/// Prompts that share beginnings, repeat themselves and have choices.
fn requests() -> Vec<GenerateRequest> {
    let repeating = "one two three four five six seven one two three four five six seven one two three ";
    let mut asked: Vec<_> = [1, 2, 3].map(|times| request(&repeating.repeat(times), 70)).into();
    asked.push(request(&"tell me a story ".repeat(9), 50));
    asked[0].sampling.temperature = Some(0.0);
    asked[1].choices = 3;
    // A strong wish for one token, and a weaker one for a second, make even a random model repeat itself for most of the
    // time: how often somebody guesses depends on the clock, and whoever guesses must be right at times, and wrong at times.
    asked[2].sampling.logit_bias = [(40, 32.0), (41, 30.0)].into();
    asked
}

fn answer(daemon: &mut Daemon, id: u64, asked: &GenerateRequest) -> Answer {
    daemon.send(submit(id, asked, Vec::new()));
    daemon.answer(id)
}

#[test]
fn answers_are_the_same_alone_in_a_batch_and_with_guesses() {
    let folder = folder("states");
    let asked = requests();
    let alone: Vec<_> = asked
        .iter()
        .map(|asked| {
            let mut daemon = Daemon::start(pipe::Open { draft_tokens_max: 0, ..open(&folder) });
            answer(&mut daemon, 1, asked)
        })
        .collect();
    let mut daemon = Daemon::start(open(&folder));
    for (id, asked) in asked.iter().enumerate() {
        daemon.send(submit(id as u64, asked, Vec::new()));
    }
    let together: Vec<_> = (0..asked.len()).map(|id| daemon.answer(id as u64)).collect();
    for (id, (alone, together)) in alone.iter().zip(&together).enumerate() {
        assert_eq!((&alone.tokens, &alone.text), (&together.tokens, &together.text), "request {id}");
    }
    let speculation = together.iter().map(|answer| answer.finished.speculation);
    let (drafted, accepted) =
        speculation.fold((0, 0), |(drafted, accepted), more| (drafted + more.drafted, accepted + more.accepted));
    assert!(accepted > 0 && drafted > accepted, "{accepted} of {drafted} guesses were right");
    assert_eq!(daemon.idle_pulse().blocks_used, 0);
}

#[test]
fn a_prefix_is_reused_where_its_state_was_kept_and_the_answer_stays_the_same() {
    let folder = folder("reused");
    let mut daemon = Daemon::start(open(&folder));
    let asked = request(&"tell me a story ".repeat(9), 40);
    let first = answer(&mut daemon, 1, &asked);
    daemon.send(submit(2, &asked, Vec::new()));
    daemon.send(ToWorker::Cancel(WorkId(2)));
    let again = answer(&mut daemon, 3, &asked);
    let usage = again.finished.usage;
    assert_eq!(usage.cached_tokens, (usage.prompt_tokens - 1) / 32 * 32);
    assert_eq!((first.finished.usage.cached_tokens, first.tokens), (0, again.tokens));
    // What another asks begins alike, and goes on differently.
    let other = request(&format!("{} and then some", "tell me a story ".repeat(8)), 40);
    let mixed = answer(&mut daemon, 4, &other);
    let fresh = answer(&mut Daemon::start(open(&folder)), 1, &other);
    assert_eq!(mixed.tokens, fresh.tokens);
}

#[test]
fn a_prefix_and_the_state_at_its_end_survive_the_worker_on_disk() {
    let folder = folder("kept");
    let asked = request(&"tell me a story ".repeat(9), 40);
    let mut daemon = Daemon::start(shelved(&folder, 256));
    let first = answer(&mut daemon, 1, &asked);
    daemon.send(ToWorker::Drain);
    daemon.served().unwrap();
    let mut daemon = Daemon::start(shelved(&folder, 256));
    let again = answer(&mut daemon, 1, &asked);
    let usage = again.finished.usage;
    assert_eq!((usage.cached_tokens, again.tokens), ((usage.prompt_tokens - 1) / 32 * 32, first.tokens));
}

#[test]
fn a_state_that_gave_way_is_brought_back_to_its_prefix() {
    let folder = folder("gave-way");
    // Room for many prompts, and for the states of one sequence.
    let mut daemon = Daemon::start(shelved(&folder, 64));
    let requests = ["one", "two", "six"].map(|word| request(&format!("{word} ").repeat(60), 8));
    let first: Vec<_> = (0..3).map(|id| answer(&mut daemon, id, &requests[id as usize])).collect();
    for id in 3..9 {
        let again = answer(&mut daemon, id, &requests[id as usize % 3]);
        let usage = again.finished.usage;
        assert_eq!(usage.cached_tokens, (usage.prompt_tokens - 1) / 32 * 32, "{id}: {:?}", again.finished.missed);
        assert_eq!(again.tokens, first[id as usize % 3].tokens);
    }
}

#[test]
fn a_cache_without_room_for_two_states_is_refused_with_the_figures() {
    let folder = folder("narrow");
    let mut daemon = Daemon::begin(pipe::Open { kv_bytes: 40 * folder.block_bytes(), ..open(&folder) });
    let error = daemon.load_failure();
    assert!(error.message.contains("holds 1280 tokens and one recurrent state"), "{error:?}");
}
