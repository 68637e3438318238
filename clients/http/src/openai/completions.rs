//! `/v1/completions`: raw prompts, no chat template.

mod echo;

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use protocol::Error;
use protocol::client::Client;
use protocol::generation::{ChoiceFinished, Delta, GenerateRequest, Prompt, Started};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::chunks::{self, Header, Shape};
use super::labels::Labels;
use super::prompts;
use super::request::{SHARED, Shared, in_our_words, naming_shape, rename};
use super::response::{Completion, TextLogprobs, UsageBody, fingerprint, finish_reason};
use crate::answer::{Choice, gather};
use crate::app::Bridge;
use crate::body::Members;
use crate::error::HttpError;
use crate::ids::new_id;
use crate::infill::Infill;
use crate::openapi::{EVENTS, Operation, part};
use crate::sampling::alternatives;
use crate::time::now_s;
use crate::timings::Timings;

use echo::Echo;

/// OpenAI's default for this endpoint.
const MAX_TOKENS: u32 = 16;

/// How long an answer may take, in milliseconds; chats get the daemon's limit.
const DEADLINE_MS: u64 = 10 * 60_000;

/// The most choices of all prompts together.
const CHOICES_MAX: u16 = 128;

/// The members of a request.
pub const KNOWN: &[&[&str]] = &[SHARED, OWN];

const OWN: &[&str] = &["prompt", "suffix", "logprobs", "echo", "best_of"];

/// The members that only this endpoint has.
#[derive(Debug, Deserialize, ToSchema)]
pub struct Own {
    prompt: PromptBody,
    /// What stands after the gap, for models that fill one.
    suffix: Option<String>,
    #[serde(default, deserialize_with = "alternatives")]
    #[schema(maximum = 20)]
    logprobs: Option<u8>,
    echo: Option<bool>,
    best_of: Option<u16>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = CompletionPrompt)]
#[serde(
    untagged,
    expecting = "expected a string, an array of strings, an array of token ids, or an array of such arrays"
)]
enum PromptBody {
    Text(String),
    Tokens(Vec<u32>),
    Texts(Vec<String>),
    TokenLists(Vec<Vec<u32>>),
}

impl PromptBody {
    /// The prompts that are token ids.
    fn ids(&self) -> Vec<Vec<u32>> {
        match self {
            Self::Text(_) | Self::Texts(_) => Vec::new(),
            Self::Tokens(tokens) => vec![tokens.clone()],
            Self::TokenLists(lists) => lists.clone(),
        }
    }
}

/// What the document says of this endpoint.
pub fn operation() -> Operation {
    Operation::new("Continue a text")
        .takes(
            "CompletionRequest",
            KNOWN,
            [part::<Shared>(), part::<Own>(), part::<Labels>()],
            json!({
                "model": "impetus-nano", "prompt": "Impetus is", "max_tokens": 16, "temperature": 0
            }),
        )
        .gives_of::<Completion<TextChoice>, TextChoice>(
            "TextCompletion",
            "The text, whole, or in chunks where `stream` is true.",
        )
        .streams_of::<Completion<TextChoice>, TextChoice>("TextCompletion", EVENTS)
}

/// Continues a prompt, whole or streamed.
pub async fn complete(State(bridge): State<Arc<Bridge>>, body: Bytes) -> Result<Response, HttpError> {
    answer(&bridge, body).await.map_err(|error| in_our_words(error).into())
}

/// Answers the request of `body`.
pub async fn answer(bridge: &Bridge, body: Bytes) -> Result<Response, Error> {
    let members = Members::read(&body, KNOWN)?;
    Labels::check(&members)?;
    let shared: Shared = members.part()?;
    let own: Own = members.part()?;
    // Nothing of it is held while a model answers.
    drop((members, body));
    let streaming = shared.streaming()?;
    let mut echo = Echo::of(&shared, &own)?;
    let ids = own.prompt.ids();
    let (n, best_of, with_logprobs) = (shared.choices(), best_of(&shared, &own)?, own.logprobs.is_some());
    let suffix = own.suffix();
    let (model, shape) = (shared.model.clone(), shared.shape_name());
    let mut requests = requests(shared, own)?;
    let choices = requests.iter().map(|request| request.choices).sum();
    let (id, created) = (new_id("cmpl-"), now_s());
    let client = bridge.daemon.client().await?;
    let fingerprint = fingerprint(&client);
    if let Some(echo) = &mut echo {
        echo.spell(&client, model.as_deref(), &ids).await?;
    }
    if let Some(suffix) = suffix {
        fill(&client, model, suffix, &mut requests).await?;
    }
    // On the heap: it is long, and lives in the futures of all who wait for it.
    let begin =
        Box::pin(async move { prompts::generate(&client, requests).await.map_err(|error| named(error, shape)) });
    if let Some(counting) = streaming {
        let header = Header { id, object: "text_completion", created, counting, fingerprint };
        return chunks::respond(begin, header, TextShape::new(choices, with_logprobs, echo)).await;
    }
    let (Started { model, .. }, events) = begin.await?;
    let mut answer = gather(events, choices).await?;
    for (at, choice) in answer.choices.iter_mut().enumerate() {
        if let Some(echo) = &mut echo {
            echo.hear(at / usize::from(best_of) * usize::from(n), std::mem::take(&mut choice.prompt));
        }
    }
    let choices = best(answer.choices, n, best_of).into_iter().enumerate();
    Ok(Json(Completion {
        id,
        object: "text_completion",
        created,
        model,
        choices: choices.map(|(index, choice)| whole(index, choice, with_logprobs, echo.as_ref())).collect(),
        usage: Some(Some(UsageBody::of(answer.usage, answer.missed))),
        system_fingerprint: fingerprint,
        timings: Some(Timings::of(answer.usage, answer.timing)),
    })
    .into_response())
}

/// Returns the daemon's refusal with the field at fault under this endpoint's name.
fn named(error: Error, shape: &'static str) -> Error {
    let mut error = naming_shape(error, shape);
    rename(&mut error, |param| (param == "messages").then_some("prompt"));
    error
}

/// Has each request write what belongs between its prompt and the suffix.
async fn fill(
    client: &Client,
    model: Option<String>,
    suffix: String,
    requests: &mut [GenerateRequest],
) -> Result<(), Error> {
    let infill = Infill::of(client, model).await?;
    for request in requests {
        let Prompt::Text(text) = &request.prompt else {
            let message = "'suffix' needs prompts of text, not of token ids.";
            return Err(Error::unsupported("suffix", message));
        };
        request.prompt = infill.prompt(text.clone(), suffix.clone()).await?;
    }
    Ok(())
}

impl Own {
    /// What stands after the gap; an empty text says that there is none.
    fn suffix(&self) -> Option<String> {
        self.suffix.clone().filter(|suffix| !suffix.is_empty())
    }
}

/// Returns one request per prompt.
pub fn requests(shared: Shared, own: Own) -> Result<Vec<GenerateRequest>, Error> {
    let best_of = best_of(&shared, &own)?;
    let prompts = match own.prompt {
        PromptBody::Text(text) => vec![Prompt::Text(text)],
        PromptBody::Tokens(tokens) => vec![Prompt::Tokens(tokens)],
        PromptBody::Texts(texts) => texts.into_iter().map(Prompt::Text).collect(),
        PromptBody::TokenLists(lists) => lists.into_iter().map(Prompt::Tokens).collect(),
    };
    let choices = prompts.len().saturating_mul(usize::from(best_of));
    if choices > usize::from(CHOICES_MAX) {
        let message =
            format!("'prompt' and 'n' or 'best_of' ask for {choices} choices; one request has at most {CHOICES_MAX}.");
        return Err(Error::invalid("prompt", message));
    }
    let mut stop = shared.stop(None)?;
    stop.max_tokens.get_or_insert(MAX_TOKENS);
    // An echo without an answer is of use too; that is what the daemon calls a prompt that is judged.
    let judged = own.echo == Some(true) && (own.logprobs.is_some() || stop.max_tokens == Some(0));
    let (sampling, priority, constraint) = (shared.sampling()?, shared.priority()?, shared.constraint()?);
    let request = |prompt| GenerateRequest {
        sampling: sampling.clone(),
        stop: stop.clone(),
        // The likelihood that the best are chosen by.
        logprobs: own.logprobs.or((best_of > shared.choices() || judged).then_some(0)),
        choices: best_of,
        priority,
        constraint: constraint.clone(),
        prompt_logprobs: judged,
        deadline_ms: Some(DEADLINE_MS),
        ..GenerateRequest::new(shared.model.clone(), prompt)
    };
    Ok(prompts.into_iter().map(request).collect())
}

/// Returns how many answers each prompt gets, of which the best `n` are returned.
fn best_of(shared: &Shared, own: &Own) -> Result<u16, Error> {
    let (n, best_of) = (shared.choices(), own.best_of.unwrap_or(shared.choices()));
    if best_of < n {
        let message = format!("'best_of' is {best_of}; it must be at least 'n', which is {n}.");
        return Err(Error::invalid("best_of", message));
    }
    if best_of > n && shared.stream == Some(true) {
        return Err(Error::invalid(
            "best_of",
            "'best_of' beyond 'n' cannot be streamed: the best is known at the end.",
        ));
    }
    Ok(best_of)
}

/// Keeps the `n` likeliest of each prompt's answers by the mean log-probability of their tokens, best first.
fn best(choices: Vec<Choice>, n: u16, best_of: u16) -> Vec<Choice> {
    if n == best_of {
        return choices;
    }
    let mean = |choice: &Choice| {
        let sum: f64 = choice.logprobs.iter().map(|entry| f64::from(entry.logprob)).sum();
        sum / choice.logprobs.len().max(1) as f64
    };
    let mut rest = choices.into_iter();
    let mut kept = Vec::new();
    loop {
        let mut of_prompt: Vec<Choice> = rest.by_ref().take(usize::from(best_of)).collect();
        if of_prompt.is_empty() {
            return kept;
        }
        of_prompt.sort_by(|a, b| mean(b).total_cmp(&mean(a)));
        kept.extend(of_prompt.into_iter().take(usize::from(n)));
    }
}

/// One choice, whole or in part.
#[derive(Debug, Serialize, ToSchema)]
struct TextChoice {
    index: usize,
    text: String,
    logprobs: Option<TextLogprobs>,
    finish_reason: Option<&'static str>,
}

fn whole(index: usize, choice: Choice, with_logprobs: bool, echo: Option<&Echo>) -> TextChoice {
    let (before, mut logprobs) = echo.map(|echo| echo.before(index)).unwrap_or_default();
    logprobs.extend(&choice.logprobs, before.chars().count());
    TextChoice {
        index,
        text: before + &choice.reasoning + &choice.text,
        logprobs: with_logprobs.then_some(logprobs),
        finish_reason: choice.reason.map(finish_reason),
    }
}

struct TextShape {
    with_logprobs: bool,
    /// Characters already sent, per choice.
    written: Vec<usize>,
    /// What goes before each choice's text.
    echo: Option<Echo>,
    /// Whether it was said, per choice.
    echoed: Vec<bool>,
}

impl TextShape {
    fn new(choices: u16, with_logprobs: bool, echo: Option<Echo>) -> Self {
        let choices = usize::from(choices);
        Self { with_logprobs, written: vec![0; choices], echo, echoed: vec![false; choices] }
    }

    /// What goes before a choice, if that is still to be said.
    fn echo(&mut self, index: usize) -> Option<TextChoice> {
        let (echo, said) = (self.echo.as_ref()?, self.echoed.get_mut(index)?);
        if std::mem::replace(said, true) {
            return None;
        }
        let (text, logprobs) = echo.before(index);
        self.written[index] += text.chars().count();
        Some(TextChoice { index, text, logprobs: self.with_logprobs.then_some(logprobs), finish_reason: None })
    }
}

impl Shape for TextShape {
    type Choice = TextChoice;

    fn opening(&mut self) -> Vec<TextChoice> {
        match &self.echo {
            Some(echo) if echo.is_known() => (0..self.written.len()).filter_map(|index| self.echo(index)).collect(),
            _ => Vec::new(),
        }
    }

    fn more(&mut self, delta: Delta) -> Vec<TextChoice> {
        let index = usize::from(delta.choice);
        if let Some(echo) = &mut self.echo {
            echo.hear(index, delta.prompt);
        }
        let text = delta.reasoning + &delta.text;
        if index >= self.written.len() || (text.is_empty() && delta.logprobs.is_empty()) {
            return Vec::new();
        }
        let echo = self.echo(index);
        let written = &mut self.written[index];
        let logprobs =
            (self.with_logprobs && !delta.logprobs.is_empty()).then(|| TextLogprobs::new(&delta.logprobs, *written));
        *written += text.chars().count();
        let more = (!text.is_empty() || logprobs.is_some()).then_some(TextChoice {
            index,
            text,
            logprobs,
            finish_reason: None,
        });
        echo.into_iter().chain(more).collect()
    }

    fn complete(&mut self, finished: ChoiceFinished) -> Vec<TextChoice> {
        let (index, reason) = (usize::from(finished.choice), Some(finish_reason(finished.reason)));
        let end = TextChoice { index, text: String::new(), logprobs: None, finish_reason: reason };
        self.echo(index).into_iter().chain([end]).collect()
    }
}

#[cfg(test)]
mod tests;
