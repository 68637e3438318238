//! Prompts into requests, and choices out of answers.

use protocol::generation::{PromptToken, TokenLogprob};
use serde_json::{Value, json};

use super::*;

fn parts(more: Value) -> Result<(Shared, Own), Error> {
    let mut body = json!({"model": "m", "prompt": "Hi"});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let members = Members::read(&Bytes::from(body.to_string()), &[SHARED, OWN])?;
    Ok((members.part()?, members.part()?))
}

fn read(more: Value) -> Result<Vec<GenerateRequest>, Error> {
    let (shared, own) = parts(more)?;
    requests(shared, own)
}

fn echo(more: Value) -> Result<Option<Echo>, Error> {
    let (shared, own) = parts(more)?;
    Echo::of(&shared, &own)
}

#[test]
fn every_kind_of_prompt_is_read() {
    let prompts = |prompt: Value| -> Vec<Prompt> {
        read(json!({ "prompt": prompt })).unwrap().into_iter().map(|request| request.prompt).collect()
    };
    assert_eq!(prompts(json!("a")), [Prompt::Text("a".into())]);
    assert_eq!(prompts(json!([1, 2])), [Prompt::Tokens(vec![1, 2])]);
    assert_eq!(prompts(json!(["a", "b"])), [Prompt::Text("a".into()), Prompt::Text("b".into())]);
    assert_eq!(prompts(json!([[1], [2, 3]])), [Prompt::Tokens(vec![1]), Prompt::Tokens(vec![2, 3])]);
}

#[test]
fn the_default_limit_is_that_of_openai() {
    assert_eq!(read(json!({})).unwrap()[0].stop.max_tokens, Some(MAX_TOKENS));
    assert_eq!(read(json!({"max_tokens": 5})).unwrap()[0].stop.max_tokens, Some(5));
}

#[test]
fn prompts_times_n_is_bounded() {
    let prompts = vec!["a"; 64];
    assert_eq!(read(json!({"prompt": prompts, "n": 2})).unwrap().len(), 64);
    assert_eq!(read(json!({"prompt": prompts, "n": 3})).unwrap_err().param.as_deref(), Some("prompt"));
    assert_eq!(read(json!({"n": 3, "best_of": 2})).unwrap_err().param.as_deref(), Some("best_of"));
    assert_eq!(read(json!({"best_of": 2, "stream": true})).unwrap_err().param.as_deref(), Some("best_of"));
    assert!(read(json!({"n": 2, "best_of": 2, "stream": true})).is_ok());
    let request = read(json!({"best_of": 3})).unwrap().remove(0);
    assert_eq!((request.choices, request.logprobs), (3, Some(0)));
    assert_eq!(read(json!({"prompt": {"text": "a"}})).unwrap_err().param.as_deref(), Some("prompt"));
}

#[test]
fn the_likeliest_answers_of_each_prompt_are_kept() {
    let choice = |text: &str, logprobs: &[f32]| {
        let entry = |logprob: &f32| TokenLogprob { token: 0, bytes: Vec::new(), logprob: *logprob, top: Vec::new() };
        Choice { text: text.to_owned(), logprobs: logprobs.iter().map(entry).collect(), ..Choice::default() }
    };
    let all =
        || vec![choice("a", &[-3.0]), choice("b", &[-1.0, -1.0, -1.0]), choice("c", &[-2.0]), choice("d", &[-0.5])];
    let texts = |n, best_of| best(all(), n, best_of).into_iter().map(|choice| choice.text).collect::<String>();
    assert_eq!(texts(1, 2), "bd");
    assert_eq!(texts(2, 4), "db");
    assert_eq!(texts(2, 2), "abcd");
}

#[test]
fn an_echo_is_the_prompt_before_each_of_its_choices() {
    assert_eq!(echo(json!({})).unwrap(), None);
    let echo = echo(json!({"echo": true, "prompt": ["a", "b"], "n": 2})).unwrap().unwrap();
    let before: String = (0..5).map(|choice| echo.before(choice).0).collect();
    assert_eq!(before, "aabb");
}

#[test]
fn an_echo_with_log_probabilities_has_the_prompts_judged() {
    let judged = json!({"echo": true, "logprobs": 1, "max_tokens": 0, "prompt": ["a", "b"]});
    let requests = read(judged.clone()).unwrap();
    assert!(requests.iter().all(|request| request.prompt_logprobs && request.stop.max_tokens == Some(0)));
    assert!(!echo(judged).unwrap().unwrap().is_known());
    for (more, param) in [(json!({"n": 17}), "n"), (json!({"suffix": "b"}), "suffix")] {
        let mut body = json!({"echo": true, "logprobs": 1});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        assert_eq!(echo(body).unwrap_err().param.as_deref(), Some(param), "{more}");
    }
}

#[test]
fn an_echoed_prompt_of_token_ids_is_spelled_by_its_tokens() {
    let token = |bytes: &[u8], logprob| PromptToken { token: 0, bytes: bytes.to_vec(), logprob, top: Vec::new() };
    let entry = TokenLogprob { token: 0, bytes: b"!".to_vec(), logprob: -3.0, top: Vec::new() };
    let choice = || Choice { text: "!".into(), logprobs: vec![entry.clone()], ..Choice::default() };
    let mut heard = echo(json!({"echo": true, "logprobs": 1, "prompt": [1, 2]})).unwrap().unwrap();
    heard.hear(0, vec![token("\u{e9}".as_bytes().split_at(1).0, None), token(&[0xa9, b'h'], Some(-1.0))]);
    let shaped = serde_json::to_value(whole(0, choice(), true, Some(&heard))).unwrap();
    assert_eq!((&shaped["text"], &shaped["logprobs"]["text_offset"]), (&json!("\u{e9}h!"), &json!([0, 1, 2])));
    assert_eq!(shaped["logprobs"]["token_logprobs"], json!([null, -1.0, -3.0]));
    assert_eq!(shaped["logprobs"]["top_logprobs"], json!([null, {"\u{fffd}h": -1.0}, {"!": -3.0}]));
}

#[test]
fn a_streamed_echo_comes_first_and_once() {
    let known = echo(json!({"echo": true, "prompt": ["a", "b"]})).unwrap();
    let mut shape = TextShape::new(2, false, known);
    let opening = serde_json::to_value(shape.opening()).unwrap();
    assert_eq!(opening[1], json!({"index": 1, "text": "b", "logprobs": null, "finish_reason": null}));
    assert!(shape.opening().is_empty());
}

#[test]
fn a_streamed_echo_with_log_probabilities_comes_before_each_choice_once_it_is_heard() {
    let judged = echo(json!({"echo": true, "logprobs": 1, "prompt": "a", "n": 2})).unwrap();
    let mut shape = TextShape::new(2, true, judged);
    assert!(shape.opening().is_empty());
    let token = PromptToken { token: 0, bytes: b"a".to_vec(), logprob: None, top: Vec::new() };
    assert!(shape.more(Delta { prompt: vec![token], ..Delta::default() }).is_empty());
    let entry = || TokenLogprob { token: 0, bytes: b"!".to_vec(), logprob: -3.0, top: Vec::new() };
    let said = |choice| Delta { choice, text: "!".into(), logprobs: vec![entry()], ..Delta::default() };
    for choice in [1, 0] {
        let more = serde_json::to_value(shape.more(said(choice))).unwrap();
        assert_eq!((&more[0]["text"], &more[0]["logprobs"]["token_logprobs"]), (&json!("a"), &json!([null])));
        assert_eq!((&more[1]["text"], &more[1]["logprobs"]["text_offset"]), (&json!("!"), &json!([1])));
        assert_eq!(shape.more(said(choice)).len(), 1);
    }
    let mut alone = TextShape::new(1, true, echo(json!({"echo": true, "logprobs": 1})).unwrap());
    let finished = ChoiceFinished { choice: 0, reason: protocol::generation::FinishReason::Length, stop_string: None };
    assert_eq!(alone.complete(finished).len(), 2, "a prompt without an answer is said too");
}
