//! `/v1/completions`: raw prompts, no chat template.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use protocol::client::Client;
use protocol::generation::{ChoiceFinished, Delta, GenerateRequest, Prompt, Started};
use protocol::{Error, ErrorKind};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::chunks::{self, Header, Shape};
use super::labels::Labels;
use super::prompts;
use super::request::{SHARED, Shared, in_our_words};
use super::response::{Completion, TextLogprobs, UsageBody, finish_reason};
use crate::answer::{Choice, gather};
use crate::app::Bridge;
use crate::body::Members;
use crate::daemon::{answer_id, unix_seconds};
use crate::error::HttpError;
use crate::infill::Infill;
use crate::openapi::{EVENTS, Operation, part};

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
    answer(&bridge, &body).await.map_err(|error| in_our_words(error).into())
}

/// Answers the request of `body`.
pub async fn answer(bridge: &Bridge, body: &Bytes) -> Result<Response, Error> {
    let members = Members::read(body, KNOWN)?;
    Labels::check(&members)?;
    let shared: Shared = members.part()?;
    let own: Own = members.part()?;
    let streaming = shared.streaming()?;
    let echoes = Echoes::of(&shared, &own)?;
    let (n, best_of, with_logprobs) = (shared.choices(), best_of(&shared, &own)?, own.logprobs.is_some());
    let suffix = own.suffix();
    let model = shared.model.clone();
    let mut requests = requests(shared, own)?;
    let choices = requests.iter().map(|request| request.choices).sum();
    let (id, created) = (answer_id("cmpl-"), unix_seconds());
    let client = bridge.daemon.client().await?;
    if let Some(suffix) = suffix {
        fill(&client, model, suffix, &mut requests).await?;
    }
    // On the heap: it is long, and lives in the futures of all who wait for it.
    let begin = Box::pin(async move { prompts::generate(&client, requests).await });
    if let Some(counting) = streaming {
        let header = Header { id, object: "text_completion", created, counting };
        let Echoes::Texts(echoes) = echoes else { return Err(unstreamed()) };
        let shape = TextShape { with_logprobs, written: vec![0; usize::from(choices)], echoes };
        return chunks::respond(begin, header, shape).await;
    }
    let (Started { model, .. }, events) = begin.await?;
    let answer = gather(events, choices).await?;
    let choices = best(answer.choices, n, best_of).into_iter().enumerate();
    Ok(Json(Completion {
        id,
        object: "text_completion",
        created,
        model,
        choices: choices.map(|(index, choice)| whole(index, choice, with_logprobs, &echoes)).collect(),
        usage: Some(Some(UsageBody::of(answer.usage, answer.missed))),
        system_fingerprint: None,
    })
    .into_response())
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
            return Err(Error::new(ErrorKind::Unsupported, message).param("suffix"));
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
    let (sampling, priority, constraint) = (shared.sampling()?, shared.priority()?, shared.constraint()?);
    let request = |prompt| GenerateRequest {
        sampling: sampling.clone(),
        stop: stop.clone(),
        // The likelihood that the best are chosen by.
        logprobs: own.logprobs.or((best_of > shared.choices()).then_some(0)),
        choices: best_of,
        priority,
        constraint: constraint.clone(),
        prompt_logprobs: own.echo == Some(true) && own.logprobs.is_some(),
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

/// What goes before each choice's text.
#[derive(Debug, PartialEq)]
enum Echoes {
    /// These texts, which are prompts; none where nothing is echoed.
    Texts(Vec<String>),
    /// The prompt's tokens with their log-probabilities, and the text that they were sent as, if they were not sent as ids.
    Tokens(Vec<Option<String>>),
}

impl Echoes {
    /// Returns what a request wants echoed.
    fn of(shared: &Shared, own: &Own) -> Result<Self, Error> {
        if !own.echo.unwrap_or(false) {
            return Ok(Self::Texts(Vec::new()));
        }
        if own.logprobs.is_some() {
            return Self::with_logprobs(shared, own);
        }
        let texts = match &own.prompt {
            PromptBody::Text(text) => std::slice::from_ref(text),
            PromptBody::Texts(texts) => texts,
            PromptBody::Tokens(_) | PromptBody::TokenLists(_) => {
                let message = "'echo' of prompts of token ids needs 'logprobs', which tell their text.";
                return Err(Error::new(ErrorKind::Unsupported, message).hint("Send 'logprobs': 0.").param("echo"));
            }
        };
        let each = |text: &String| std::iter::repeat_n(text.clone(), usize::from(shared.choices()));
        // More choices than are allowed are refused with the requests; here they are only not copied.
        Ok(Self::Texts(texts.iter().flat_map(each).take(usize::from(CHOICES_MAX)).collect()))
    }

    fn with_logprobs(shared: &Shared, own: &Own) -> Result<Self, Error> {
        let refused = |param: &str, message: &str| Err(Error::new(ErrorKind::Unsupported, message).param(param));
        if shared.stream == Some(true) {
            return Err(unstreamed());
        }
        if own.suffix().is_some() {
            return refused(
                "suffix",
                "'suffix' cannot be sent with 'echo' and 'logprobs': the prompt is not only yours.",
            );
        }
        // A prompt can be long, and would be said as often.
        if own.best_of.unwrap_or(shared.choices()) > 1 {
            return refused("n", "'n' and 'best_of' are 1 where 'echo' comes with 'logprobs'.");
        }
        Ok(Self::Tokens(match &own.prompt {
            PromptBody::Text(text) => vec![Some(text.clone())],
            PromptBody::Texts(texts) => texts.iter().cloned().map(Some).collect(),
            PromptBody::Tokens(_) => vec![None],
            PromptBody::TokenLists(lists) => vec![None; lists.len()],
        }))
    }
}

fn unstreamed() -> Error {
    let message = "'echo' with 'logprobs' cannot be streamed: the prompt is said when all of it is read.";
    Error::new(ErrorKind::Unsupported, message).hint("Leave 'stream' out.").param("echo")
}

/// One choice, whole or in part.
#[derive(Debug, Serialize, ToSchema)]
struct TextChoice {
    index: usize,
    text: String,
    logprobs: Option<TextLogprobs>,
    finish_reason: Option<&'static str>,
}

fn whole(index: usize, choice: Choice, with_logprobs: bool, echoes: &Echoes) -> TextChoice {
    let answer = choice.reasoning + &choice.text;
    let (text, logprobs) = match echoes {
        Echoes::Texts(texts) => {
            let echo = texts.get(index).map(String::as_str).unwrap_or_default();
            let logprobs = with_logprobs.then(|| TextLogprobs::new(&choice.logprobs, 0));
            (format!("{echo}{answer}"), logprobs)
        }
        Echoes::Tokens(texts) => {
            let spelled = || {
                let bytes: Vec<u8> = choice.prompt.iter().flat_map(|token| token.bytes.iter().copied()).collect();
                String::from_utf8_lossy(&bytes).into_owned()
            };
            let prompt = texts.get(index).cloned().flatten().unwrap_or_else(spelled);
            let mut logprobs = TextLogprobs::of_prompt(&choice.prompt, &prompt);
            logprobs.extend(&choice.logprobs, prompt.chars().count());
            (prompt + &answer, Some(logprobs))
        }
    };
    TextChoice { index, text, logprobs, finish_reason: choice.reason.map(finish_reason) }
}

struct TextShape {
    with_logprobs: bool,
    /// Characters already sent, per choice.
    written: Vec<usize>,
    /// What goes before each choice's text.
    echoes: Vec<String>,
}

impl Shape for TextShape {
    type Choice = TextChoice;

    fn opening(&mut self) -> Vec<TextChoice> {
        let choice = |(index, text)| TextChoice { index, text, logprobs: None, finish_reason: None };
        std::mem::take(&mut self.echoes).into_iter().enumerate().map(choice).collect()
    }

    fn more(&mut self, delta: Delta) -> Option<TextChoice> {
        let index = usize::from(delta.choice);
        let written = self.written.get_mut(index)?;
        let text = delta.reasoning + &delta.text;
        let logprobs =
            (self.with_logprobs && !delta.logprobs.is_empty()).then(|| TextLogprobs::new(&delta.logprobs, *written));
        *written += text.chars().count();
        (!text.is_empty() || logprobs.is_some()).then_some(TextChoice { index, text, logprobs, finish_reason: None })
    }

    fn complete(&mut self, finished: ChoiceFinished) -> TextChoice {
        let reason = Some(finish_reason(finished.reason));
        TextChoice { index: usize::from(finished.choice), text: String::new(), logprobs: None, finish_reason: reason }
    }
}

#[cfg(test)]
mod tests;
