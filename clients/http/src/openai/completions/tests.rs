//! Prompts into requests, and choices out of answers.

use protocol::generation::TokenLogprob;
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

fn echo(more: Value) -> Result<Vec<String>, Error> {
    let (shared, own) = parts(more)?;
    echoes(&shared, &own)
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
    assert_eq!(echo(json!({})).unwrap(), [""; 0]);
    assert_eq!(echo(json!({"echo": true, "prompt": ["a", "b"], "n": 2})).unwrap(), ["a", "a", "b", "b"]);
    for refused in [json!({"echo": true, "logprobs": 1}), json!({"echo": true, "prompt": [1, 2]})] {
        assert_eq!(echo(refused.clone()).unwrap_err().param.as_deref(), Some("echo"), "{refused}");
    }
}

#[test]
fn a_streamed_echo_comes_first_and_once() {
    let mut shape = TextShape { with_logprobs: false, written: vec![0; 2], echoes: vec!["a".into(), "b".into()] };
    let opening = serde_json::to_value(shape.opening()).unwrap();
    assert_eq!(opening[1], json!({"index": 1, "text": "b", "logprobs": null, "finish_reason": null}));
    assert!(shape.opening().is_empty());
}
