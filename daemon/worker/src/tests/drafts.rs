//! A draft model guesses: answers stay the same to the token, alone and together, sampled and not, whatever it guesses.

use pipe::{Delivered, Open};
use protocol::generation::{Constraint, GenerateRequest};

use super::kit::{Answer, Daemon, Folder, open, request, submit};

fn requests() -> Vec<GenerateRequest> {
    let with = |text: &str, change: fn(&mut GenerateRequest)| {
        let mut asked = request(text, 60);
        change(&mut asked);
        asked
    };
    vec![
        with("a tale that is told", |it| it.sampling.temperature = Some(0.0)),
        with("another tale, a longer one, that is told as well", |it| it.sampling.temperature = Some(0.7)),
        with("one more", |it| (it.choices, it.sampling.top_p) = (3, Some(0.9))),
        with("with a wish", |it| it.sampling.repetition_penalty = Some(1.2)),
        with("and a measure", |it| (it.sampling.mirostat, it.logprobs) = (true, Some(1))),
        with("in shape", |it| it.constraint = Some(Constraint::Regex("[a-h]{40,90}".to_string()))),
    ]
}

fn drafted(folder: &Folder, draft: &Folder) -> Open {
    Open { draft: Some(draft.path().to_string_lossy().into_owned()), ..open(folder) }
}

fn answers(open: Open) -> Vec<Answer> {
    let mut daemon = Daemon::start(open);
    let requests = requests();
    for (asked, id) in requests.iter().zip(0..) {
        daemon.send(submit(id, asked, Vec::new()));
    }
    (0..requests.len() as u64).map(|id| daemon.answer(id)).collect()
}

#[track_caller]
fn check_same(plain: &[Answer], guessed: &[Answer]) {
    for (id, (plain, guessed)) in plain.iter().zip(guessed).enumerate() {
        assert_eq!((&plain.tokens, &plain.text), (&guessed.tokens, &guessed.text), "request {id}");
        assert_eq!((&plain.reasons, &plain.logprobs), (&guessed.reasons, &guessed.logprobs), "request {id}");
    }
}

/// How many were guessed and right of the answers in these places.
fn accepted(answers: &[Answer], of: std::ops::Range<usize>) -> (u32, u32) {
    let sum = |of: fn(&Answer) -> u32, range: std::ops::Range<usize>| answers[range].iter().map(of).sum();
    (
        sum(|answer| answer.finished.speculation.drafted, of.clone()),
        sum(|answer| answer.finished.speculation.accepted, of),
    )
}

#[test]
fn a_draft_model_changes_no_answer_however_well_it_guesses() {
    let folder = Folder::new("drafted", |recipe| recipe.endless());
    let plain = answers(Open { draft_tokens_max: 0, ..open(&folder) });
    // The model itself is the best of all draft models.
    let twin = answers(drafted(&folder, &folder));
    check_same(&plain, &twin);
    // The text guesses too, and which of both guesses is a matter of time, so only much is asked of each.
    let (guessed, right) = accepted(&twin, 0..3);
    assert!(right > 60, "{right} of {guessed} were right");
    let stranger = Folder::new("stranger", |recipe| recipe.endless().set("num_hidden_layers", 1));
    let strange = answers(drafted(&folder, &stranger));
    check_same(&plain, &strange);
    let (guessed, right) = accepted(&strange, 0..3);
    assert!(guessed > right + 30, "{right} of {guessed} were right");
}

#[test]
fn a_draft_model_works_in_a_starved_cache_and_beside_shared_prefixes() {
    let folder = Folder::new("drafted-starved", |recipe| recipe.endless());
    let block = 2 * folder.block_bytes();
    let plain = answers(Open { draft_tokens_max: 0, ..open(&folder) });
    check_same(&plain, &answers(Open { kv_bytes: 9 * block, ..drafted(&folder, &folder) }));
    let mut daemon = Daemon::start(drafted(&folder, &folder));
    let long = "the same beginning for all of them ".repeat(8);
    let ask = |daemon: &mut Daemon, id, text: &str| {
        let mut asked = request(text, 40);
        asked.sampling.temperature = Some(0.0);
        daemon.send(submit(id, &asked, Vec::new()));
        daemon.answer(id)
    };
    let first = ask(&mut daemon, 1, &long);
    let again = ask(&mut daemon, 2, &long);
    assert_eq!(first.tokens, again.tokens);
    let usage = again.finished.usage;
    assert_eq!(usage.cached_tokens, usage.prompt_tokens - 1);
    let (guessed, right) = accepted(&[again], 0..1);
    assert!(right > 10 && right * 2 > guessed, "the reused is known to the draft model too: {right} of {guessed}");
}

#[test]
fn an_answer_goes_on_after_a_restart_with_a_draft_model() {
    let folder = Folder::new("drafted-restart", |recipe| recipe.endless());
    let asked = request("what comes then", 50);
    let mut daemon = Daemon::start(drafted(&folder, &folder));
    daemon.send(submit(1, &asked, Vec::new()));
    let whole = daemon.answer(1);
    drop(daemon);
    let mut daemon = Daemon::start(drafted(&folder, &folder));
    let delivered = Delivered { tokens: whole.tokens[0][..21].to_vec(), ..Delivered::default() };
    daemon.send(submit(2, &asked, vec![delivered]));
    assert_eq!(daemon.answer(2).tokens[0], whole.tokens[0][21..]);
}

#[test]
fn a_draft_model_with_another_tokenizer_is_refused_by_name() {
    let folder = Folder::new("drafted-refused", |recipe| recipe.endless());
    let other = Folder::new("other-words", |recipe| recipe.endless());
    let path = other.path().join("tokenizer.json");
    let words = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, words.replace("<|im_start|>", "<|im_begin|>")).unwrap();
    let error = Daemon::begin(drafted(&folder, &other)).load_failure();
    assert!(error.message.contains("draft model") && error.message.contains("other-words"), "{}", error.message);
}
