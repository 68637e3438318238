//! What `/completion` and `/infill` answer: one object a choice, whole, or in pieces that end with a last one, which tells all
//! but the text. It asks nothing of a model; both endpoints call it.

use axum::body::Bytes;
use protocol::Error;
use protocol::generation::{FinishReason, Finished, GenerateRequest, Started, TokenLogprob};
use protocol::transcript::Event;
use serde::Serialize;
use serde_json::{Map, Value, json};
use tokio::time::Instant;
use utoipa::ToSchema;

use crate::answer::{Answer, Choice};
use crate::frames::Writer;
use crate::sse::Pace;
use crate::timings::Timings;
use crate::{error, request_id, sse};

/// A whole answer, or the last piece of one.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LlamaCompletion)]
pub struct Whole {
    index: usize,
    /// The answer; empty in the last piece of a stream.
    content: String,
    /// Its tokens, if they were asked for.
    tokens: Vec<u32>,
    stop: bool,
    model: String,
    tokens_predicted: u32,
    tokens_evaluated: u32,
    tokens_cached: u32,
    #[schema(value_type = Object)]
    generation_settings: Value,
    /// As it was sent; empty where it was token ids.
    prompt: String,
    has_new_line: bool,
    /// Always false: no prompt is cut.
    truncated: bool,
    /// `eos`, `limit` or `word`.
    stop_type: &'static str,
    stopping_word: String,
    timings: Timings,
    #[serde(skip_serializing_if = "Option::is_none")]
    completion_probabilities: Option<Vec<Likely>>,
}

/// A piece of an answer.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LlamaCompletionPiece)]
pub struct Piece {
    index: u16,
    content: String,
    tokens: Vec<u32>,
    stop: bool,
    tokens_predicted: u32,
    tokens_evaluated: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    completion_probabilities: Option<Vec<Likely>>,
}

/// A token, how likely it was, and what else could have come.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LlamaToken)]
struct Likely {
    #[serde(flatten)]
    token: Token,
    top_logprobs: Vec<Token>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LlamaTokenLogprob)]
struct Token {
    id: u32,
    token: String,
    bytes: Vec<u8>,
    logprob: f32,
}

/// JSON has no infinity: what could not come at all is this unlikely.
const LEAST: f32 = -9999.0;

impl Token {
    fn of(id: u32, bytes: &[u8], logprob: f32) -> Self {
        let token = String::from_utf8_lossy(bytes).into_owned();
        Self { id, token, bytes: bytes.to_vec(), logprob: logprob.max(LEAST) }
    }
}

fn likely(tokens: &[TokenLogprob]) -> Vec<Likely> {
    let one = |entry: &TokenLogprob| Likely {
        token: Token::of(entry.token, &entry.bytes, entry.logprob),
        top_logprobs: entry.top.iter().map(|(id, bytes, logprob)| Token::of(*id, bytes, *logprob)).collect(),
    };
    tokens.iter().map(one).collect()
}

/// What is told of every answer of a request, and how.
#[derive(Clone, Debug)]
pub struct Manner {
    /// The prompts as they were sent, one after the other.
    pub prompts: Vec<String>,
    /// How many answers each has.
    pub choices: u16,
    /// Whether tokens come with their probabilities.
    pub likely: bool,
    /// Whether whole answers come with their tokens.
    pub tokens: bool,
    /// Which members whole answers have, if not all.
    pub fields: Vec<String>,
    /// How the tokens were drawn.
    pub settings: Map<String, Value>,
}

impl Manner {
    /// Says how the tokens of a request are drawn: what it names; the rest is the model's own.
    pub fn settings(request: &GenerateRequest) -> Map<String, Value> {
        let (sampling, stop) = (&request.sampling, &request.stop);
        let told = json!({
            "temperature": sampling.temperature, "top_k": sampling.top_k, "top_p": sampling.top_p,
            "min_p": sampling.min_p, "typical_p": sampling.typical_p,
            "repeat_penalty": sampling.repetition_penalty, "repeat_last_n": sampling.repetition_window,
            "presence_penalty": sampling.presence_penalty, "frequency_penalty": sampling.frequency_penalty,
            "mirostat": if sampling.mirostat { 2 } else { 0 }, "mirostat_tau": sampling.mirostat_tau,
            "mirostat_eta": sampling.mirostat_eta, "xtc_probability": sampling.xtc_probability,
            "xtc_threshold": sampling.xtc_threshold, "dry_multiplier": sampling.dry_multiplier,
            "dry_base": sampling.dry_base, "dry_allowed_length": sampling.dry_allowed_length,
            "dry_sequence_breakers": sampling.dry_breakers, "logit_bias": sampling.logit_bias,
            "stop": stop.strings, "ignore_eos": stop.ignore_eos,
        });
        let mut told = if let Value::Object(told) = told { told } else { Map::new() };
        told.retain(|_, value| !value.is_null());
        told
    }

    fn of_started(&self, started: &Started) -> Value {
        let mut settings = self.settings.clone();
        settings.insert("seed".to_owned(), started.seed.into());
        settings.insert("n_predict".to_owned(), started.max_tokens.into());
        settings.insert("max_tokens".to_owned(), started.max_tokens.into());
        Value::Object(settings)
    }

    /// Returns the answers, each as the request wants it.
    pub fn whole(&self, started: &Started, answer: Answer, last: bool) -> Vec<Value> {
        let (usage, single) = (answer.usage, answer.choices.len() == 1);
        let timings = Timings::of(usage, answer.timing);
        let choices = answer.choices.into_iter().enumerate();
        let whole = choices.map(|(index, choice)| {
            let predicted = if single { usage.completion_tokens } else { choice.logprobs.len() as u32 };
            let word = choice.stop_string.clone().unwrap_or_default();
            let whole = Whole {
                index,
                has_new_line: choice.text.contains('\n'),
                tokens: if self.tokens && !last { ids(&choice.logprobs) } else { Vec::new() },
                stop: true,
                model: started.model.clone(),
                tokens_predicted: predicted,
                tokens_evaluated: started.prompt_tokens,
                tokens_cached: usage.cached_tokens,
                generation_settings: self.of_started(started),
                prompt: self.prompts.get(index / usize::from(self.choices.max(1))).cloned().unwrap_or_default(),
                truncated: false,
                stop_type: stop_type(&choice),
                stopping_word: word,
                timings: timings.clone(),
                completion_probabilities: (self.likely && !last).then(|| likely(&choice.logprobs)),
                content: if last { String::new() } else { choice.reasoning + &choice.text },
            };
            self.chosen(json!(whole))
        });
        whole.collect()
    }

    /// Keeps the members that were asked for; one inside another is named by both, with a slash between.
    fn chosen(&self, whole: Value) -> Value {
        if self.fields.is_empty() {
            return whole;
        }
        let found = |field: &String| Some((field.clone(), whole.pointer(&format!("/{field}"))?.clone()));
        Value::Object(self.fields.iter().filter_map(found).collect())
    }
}

fn ids(tokens: &[TokenLogprob]) -> Vec<u32> {
    tokens.iter().map(|entry| entry.token).collect()
}

fn stop_type(choice: &Choice) -> &'static str {
    match (choice.reason, &choice.stop_string) {
        (Some(FinishReason::Length), _) => "limit",
        (_, Some(_)) => "word",
        _ => "eos",
    }
}

/// Writes an answer in pieces.
pub struct Pieces {
    manner: Manner,
    started: Started,
    /// All of it, for what the last pieces tell.
    answer: Answer,
    predicted: Vec<u32>,
    pace: Pace,
    request_id: Option<String>,
}

impl Pieces {
    /// Writes so many choices.
    pub fn new(manner: Manner, started: Started, choices: u16) -> Self {
        let (answer, predicted) = (Answer::of(choices), vec![0; usize::from(choices)]);
        Self { manner, started, answer, predicted, pace: Pace::default(), request_id: request_id::current() }
    }
}

impl Writer for Pieces {
    fn event(&mut self, event: Event) -> Bytes {
        match event {
            Event::Delta(delta) => {
                let Some(predicted) = self.predicted.get_mut(usize::from(delta.choice)) else { return Bytes::new() };
                *predicted += delta.tokens;
                let piece = Piece {
                    index: delta.choice,
                    content: format!("{}{}", delta.reasoning, delta.text),
                    tokens: ids(&delta.logprobs),
                    stop: false,
                    tokens_predicted: *predicted,
                    tokens_evaluated: self.started.prompt_tokens,
                    completion_probabilities: self.manner.likely.then(|| likely(&delta.logprobs)),
                };
                self.answer.absorb(Event::Delta(delta));
                let silent = piece.content.is_empty() && piece.tokens.is_empty();
                if silent { Bytes::new() } else { sse::data(&piece) }
            }
            Event::Progress(progress) => sse::comment(&self.pace.describe(&progress, Instant::now())),
            ended @ Event::ChoiceFinished(_) => {
                self.answer.absorb(ended);
                Bytes::new()
            }
            _ => Bytes::new(),
        }
    }

    fn finished(&mut self, finished: Finished) -> Bytes {
        self.answer.absorb(Event::Finished(finished));
        let answer = std::mem::take(&mut self.answer);
        let last = self.manner.whole(&self.started, answer, true);
        last.iter().map(sse::data).collect::<Vec<_>>().concat().into()
    }

    fn failed(&mut self, error: &Error) -> Bytes {
        sse::data(&error::body(error, self.request_id.clone()))
    }
}

#[cfg(test)]
mod tests {
    use protocol::generation::{Delta, Usage};

    use super::*;

    fn manner(fields: &[&str]) -> Manner {
        Manner {
            prompts: vec!["one".into(), "two".into()],
            choices: 1,
            likely: true,
            tokens: true,
            fields: fields.iter().map(|field| (*field).to_owned()).collect(),
            settings: Map::new(),
        }
    }

    fn started() -> Started {
        Started { model: "m".into(), prompt_tokens: 3, seed: 9, max_tokens: 5 }
    }

    fn token(token: u32, text: &str) -> TokenLogprob {
        let top = vec![(token, text.as_bytes().to_vec(), -0.5)];
        TokenLogprob { token, bytes: text.as_bytes().to_vec(), logprob: -0.5, top }
    }

    fn choice(text: &str, reason: FinishReason, stop: Option<&str>) -> Choice {
        Choice { text: text.into(), reason: Some(reason), stop_string: stop.map(Into::into), ..Choice::default() }
    }

    #[test]
    fn an_answer_tells_why_it_ended_and_which_prompt_it_is_of() {
        let choices = vec![choice("a\nb", FinishReason::Stop, Some("!")), choice("c", FinishReason::Length, None)];
        let told = manner(&[]).whole(&started(), Answer { choices, ..Answer::default() }, false);
        let shown: Vec<_> = told
            .iter()
            .map(|one| {
                json!([one["index"], one["prompt"], one["stop_type"], one["stopping_word"], one["has_new_line"]])
            })
            .collect();
        assert_eq!(shown, [json!([0, "one", "word", "!", true]), json!([1, "two", "limit", "", false])]);
        assert_eq!(told[0]["generation_settings"], json!({"seed": 9, "n_predict": 5, "max_tokens": 5}));
    }

    #[test]
    fn only_the_members_that_are_asked_for_are_told() {
        let answer = Answer { choices: vec![choice("a", FinishReason::Stop, None)], ..Answer::default() };
        let told = manner(&["content", "generation_settings/n_predict", "nothing"]).whole(&started(), answer, false);
        assert_eq!(told, [json!({"content": "a", "generation_settings/n_predict": 5})]);
    }

    #[test]
    fn a_stream_ends_with_a_piece_that_tells_all_but_the_text() {
        let mut pieces = Pieces::new(manner(&[]), started(), 1);
        let delta = Delta { text: "Hi".into(), tokens: 1, logprobs: vec![token(7, "Hi")], ..Delta::default() };
        let read = |bytes: Bytes| serde_json::from_slice::<Value>(&bytes["data: ".len()..]).unwrap();
        let first = read(pieces.event(Event::Delta(delta)));
        assert_eq!((&first["content"], &first["tokens"], &first["stop"]), (&json!("Hi"), &json!([7]), &json!(false)));
        assert_eq!(first["completion_probabilities"][0]["top_logprobs"][0]["id"], 7);
        assert!(pieces.event(Event::Delta(Delta::default())).is_empty());
        let usage = Usage { completion_tokens: 1, prompt_tokens: 3, ..Usage::default() };
        let last = read(pieces.finished(Finished { usage, ..Finished::default() }));
        assert_eq!((&last["content"], &last["tokens"], &last["stop"]), (&json!(""), &json!([]), &json!(true)));
        assert_eq!((&last["tokens_predicted"], &last["timings"]["prompt_n"]), (&json!(1), &json!(3)));
    }
}
