//! Prompts whose own tokens are judged: as likely as when they were drawn, however and wherever they are read.

use engine::text::{Special, Tokenizer};
use pipe::ToWorker;
use protocol::generation::{FinishReason, GenerateRequest, Prompt, PromptToken};

use super::kit::{Answer, Daemon, Folder, open, request, submit};

/// A request that has these tokens judged.
fn judged(tokens: &[u32], max_tokens: u32) -> GenerateRequest {
    let mut asked = request("", max_tokens);
    asked.prompt = Prompt::Tokens(tokens.to_vec());
    asked.sampling.temperature = Some(0.0);
    (asked.logprobs, asked.prompt_logprobs) = (Some(3), true);
    asked
}

fn ask(daemon: &mut Daemon, id: u64, asked: &GenerateRequest) -> Answer {
    daemon.send(submit(id, asked, Vec::new()));
    daemon.answer(id)
}

/// A prompt, and what a model has said to it with the log-probabilities of that.
fn said(folder: &Folder, daemon: &mut Daemon) -> (Vec<u32>, Answer) {
    let text = "tell me a story ".repeat(6);
    let prompt = Tokenizer::open(folder.path()).unwrap().encode(&text, Special::Begin).unwrap();
    let mut asked = judged(&prompt, 40);
    asked.prompt_logprobs = false;
    let said = ask(daemon, 1, &asked);
    assert!(said.prompt.is_empty(), "nobody has asked for the prompt");
    (prompt, said)
}

#[test]
fn tokens_are_as_likely_in_a_prompt_as_when_they_were_drawn() {
    let folder = Folder::new("judged", |recipe| recipe.endless());
    let mut daemon = Daemon::start(open(&folder));
    let (mut tokens, said) = said(&folder, &mut daemon);
    let prompt = tokens.len();
    tokens.extend(&said.tokens[0][..39]);
    let told = ask(&mut daemon, 2, &judged(&tokens, 1));
    assert_eq!(told.prompt.iter().map(|entry| entry.token).collect::<Vec<_>>(), tokens);
    assert_eq!((told.prompt[0].logprob, told.prompt[0].top.len()), (None, 0), "nothing comes before the first token");
    for (entry, drawn) in told.prompt[prompt..].iter().zip(&said.logprobs[0]) {
        let whole = PromptToken {
            token: drawn.token,
            bytes: drawn.bytes.clone(),
            logprob: Some(drawn.logprob),
            top: drawn.top.clone(),
        };
        assert_eq!(*entry, whole);
    }
    assert_eq!((&told.tokens[0][..], &told.logprobs[0][..]), (&said.tokens[0][39..], &said.logprobs[0][39..]));
    assert_eq!(told.finished.usage.cached_tokens, 0, "what is judged is computed");

    // The same in small parts, in a cache where others take its blocks, and beside its own copies.
    let small = pipe::Open { prefill_tokens_max: 7, kv_bytes: 12 * folder.block_bytes(), ..open(&folder) };
    let mut daemon = Daemon::start(small);
    for id in 0..4 {
        daemon.send(submit(id, &judged(&tokens, 1), Vec::new()));
        daemon.send(submit(100 + id, &request(&"once upon a time ".repeat(id as usize + 2), 80), Vec::new()));
    }
    for id in 0..4 {
        assert_eq!(daemon.answer(id).prompt, told.prompt, "request {id}");
    }
}

#[test]
fn a_prompt_is_judged_once_for_all_choices_and_alone_where_no_answer_is_wanted() {
    let folder = Folder::new("judged-alone", |recipe| recipe.endless());
    let mut daemon = Daemon::start(open(&folder));
    let (tokens, _) = said(&folder, &mut daemon);
    let mut asked = judged(&tokens, 3);
    asked.choices = 3;
    let several = ask(&mut daemon, 2, &asked);
    assert_eq!((several.prompt.len(), several.tokens.len()), (tokens.len(), 3));
    let alone = ask(&mut daemon, 3, &judged(&tokens, 0));
    assert_eq!((&alone.prompt, &alone.reasons), (&several.prompt, &vec![Some(FinishReason::Length)]));
    assert_eq!((alone.finished.usage.completion_tokens, alone.finished.usage.prompt_tokens), (0, tokens.len() as u32));
    let single = ask(&mut daemon, 4, &judged(&tokens[..1], 0));
    assert_eq!(single.prompt, several.prompt[..1]);
    let mut unsaid = judged(&tokens, 1);
    unsaid.logprobs = None;
    daemon.send(submit(5, &unsaid, Vec::new()));
    assert_eq!(daemon.failure(5).param.as_deref(), Some("prompt_logprobs"));
}

#[test]
fn a_worker_goes_on_judging_where_another_has_ended() {
    let folder = Folder::new("judged-again", |recipe| recipe.endless());
    let mut daemon = Daemon::start(open(&folder));
    let (tokens, _) = said(&folder, &mut daemon);
    let whole = ask(&mut daemon, 2, &judged(&tokens, 2));
    for (id, told) in [(3, 1), (4, 50), (5, tokens.len())] {
        let mut message = submit(id, &judged(&tokens, 2), Vec::new());
        let ToWorker::Submit(again) = &mut message else { panic!("a submit") };
        again.prompt_told = told as u32;
        daemon.send(message);
        let rest = daemon.answer(id);
        assert_eq!((&rest.prompt[..], &rest.tokens), (&whole.prompt[told..], &whole.tokens), "after {told}");
    }
}

#[test]
fn the_token_that_ends_a_turn_counts_where_tokens_are_judged() {
    let folder = Folder::new("judged-end", |recipe| recipe.endless());
    let mut daemon = Daemon::start(open(&folder));
    let (tokens, said) = said(&folder, &mut daemon);
    let mut asked = judged(&tokens, 5);
    asked.stop.tokens = vec![said.tokens[0][0]];
    let ended = ask(&mut daemon, 2, &asked);
    assert_eq!((ended.reasons[0], ended.logprobs[0].len()), (Some(FinishReason::Stop), 1));
    asked.prompt_logprobs = false;
    assert_eq!(ask(&mut daemon, 3, &asked).logprobs[0].len(), 0, "it is no part of an answer");
}
