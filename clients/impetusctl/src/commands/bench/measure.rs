//! Asks the model and times the answers.
//!
//! Prompts are token ids that no earlier prompt began with, so nothing comes from the prefix cache. It prints nothing.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures::StreamExt;
use futures::future::try_join_all;
use protocol::client::Client;
use protocol::encode::{EmbedRequest, Input, Overlong};
use protocol::generation::{GenerateRequest, Priority, Prompt, Sampling, Stop};
use protocol::model::ModelCard;
use protocol::transcript::Event;
use protocol::{Error, Result};

use super::report::Settings;

/// Tokens of a prompt whose length does not matter.
pub const SHORT: u32 = 16;

/// Measures one model.
pub struct Bencher<'a> {
    client: &'a Client,
    card: &'a ModelCard,
    settings: &'a Settings,
    /// Makes prompts differ from those of earlier runs of this program.
    salt: u64,
}

/// When an answer came, counted from its request.
struct Answer {
    prompt_tokens: u32,
    /// Until the first token.
    first: Duration,
    /// From the first token to the last, as the daemon saw it: tokens may arrive together.
    decode: Duration,
    /// Tokens after the first.
    rest: u32,
}

/// Asks for one token without naming a model, and returns the name of the one that answers.
pub async fn default_model(client: &Client) -> Result<String> {
    let mut events = client.generate(request(None, vec![0], 1)).await?;
    while let Some(event) = events.next().await {
        match event? {
            Event::Started(started) => return Ok(started.model),
            Event::Failed(error) => return Err(error),
            _ => {}
        }
    }
    Err(Error::internal("The answer ended without saying whose it is."))
}

/// Asks for exactly `tokens` tokens.
fn request(model: Option<&str>, prompt: Vec<u32>, tokens: u32) -> GenerateRequest {
    GenerateRequest {
        sampling: Sampling { temperature: Some(0.0), ..Sampling::default() },
        stop: Stop { max_tokens: Some(tokens), ignore_eos: true, ..Stop::default() },
        ..GenerateRequest::new(model.map(str::to_owned), Prompt::Tokens(prompt))
    }
}

impl<'a> Bencher<'a> {
    pub fn new(client: &'a Client, card: &'a ModelCard, settings: &'a Settings) -> Self {
        let salt = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
        Self { client, card, settings, salt }
    }

    /// One answer that nobody counts.
    pub async fn warm_up(&self) -> Result<()> {
        self.answer(0, SHORT, self.settings.tokens).await.map(drop)
    }

    /// Milliseconds to the first token of a short prompt.
    pub async fn first_tokens(&self) -> Result<Vec<f64>> {
        let mut samples = Vec::new();
        for run in 0..self.settings.runs {
            samples.push(self.answer(1000 + run, SHORT, 1).await?.first.as_secs_f64() * 1e3);
        }
        Ok(samples)
    }

    /// Prompt tokens per second, up to the first token of the answer.
    pub async fn prefills(&self) -> Result<Vec<f64>> {
        let mut samples = Vec::new();
        for run in 0..self.settings.runs {
            let answer = self.answer(2000 + run, self.settings.prompt, 1).await?;
            samples.push(f64::from(answer.prompt_tokens) / answer.first.as_secs_f64());
        }
        Ok(samples)
    }

    /// Tokens per second of one stream, from its first token on.
    pub async fn decodes(&self) -> Result<Vec<f64>> {
        let mut samples = Vec::new();
        for run in 0..self.settings.runs {
            let answer = self.answer(3000 + run, SHORT, self.settings.tokens).await?;
            samples.push(f64::from(answer.rest) / answer.decode.as_secs_f64().max(1e-9));
        }
        Ok(samples)
    }

    /// Tokens per second of all streams at once, from the first request to the last token.
    pub async fn batches(&self) -> Result<Vec<f64>> {
        let mut samples = Vec::new();
        for run in 0..self.settings.runs {
            let start = Instant::now();
            let seed = |stream| 4000 + run * self.settings.streams + stream;
            let answers =
                (0..self.settings.streams).map(|stream| self.answer(seed(stream), SHORT, self.settings.tokens));
            try_join_all(answers).await?;
            let tokens = self.settings.streams * self.settings.tokens;
            samples.push(f64::from(tokens) / start.elapsed().as_secs_f64());
        }
        Ok(samples)
    }

    /// Milliseconds to the vector of a short text.
    pub async fn latencies(&self) -> Result<Vec<f64>> {
        let mut samples = Vec::new();
        for run in 0..self.settings.runs {
            samples.push(self.embed(5000 + run, 1, SHORT).await?.as_secs_f64() * 1e3);
        }
        Ok(samples)
    }

    /// Tokens per second of so many texts of so many tokens, asked for at once.
    pub async fn embeds(&self, texts: u32, tokens: u32) -> Result<Vec<f64>> {
        let mut samples = Vec::new();
        for run in 0..self.settings.runs {
            let seconds = self.embed(6000 + run * texts, texts, tokens).await?.as_secs_f64();
            samples.push(f64::from(texts) * f64::from(tokens) / seconds);
        }
        Ok(samples)
    }

    /// Asks for the vectors of texts that `seed` makes, and returns how long they took.
    async fn embed(&self, seed: u32, texts: u32, tokens: u32) -> Result<Duration> {
        let text =
            |at: u32| Input::Tokens(prompt(self.salt ^ u64::from(seed + at), tokens, self.card.facts.vocabulary));
        let request = EmbedRequest {
            model: Some(self.card.name.clone()),
            inputs: (0..texts).map(text).collect(),
            dimensions: None,
            overlong: Overlong::Refuse,
            tokens_max: None,
            priority: Priority::Normal,
            deadline_ms: None,
        };
        let start = Instant::now();
        self.client.embeddings(request).await?;
        Ok(start.elapsed())
    }

    /// Asks for exactly `tokens` tokens after a prompt of `length` that `seed` makes.
    async fn answer(&self, seed: u32, length: u32, tokens: u32) -> Result<Answer> {
        let prompt = prompt(self.salt ^ u64::from(seed), length, self.card.facts.vocabulary);
        let request = request(Some(&self.card.name), prompt, tokens);
        let start = Instant::now();
        let mut events = self.client.generate(request).await?;
        let mut first = None;
        while let Some(event) = events.next().await {
            match event? {
                Event::Delta(delta) if first.is_none() && delta.tokens > 0 => first = Some(start.elapsed()),
                Event::Finished(finished) => {
                    let first = first.unwrap_or_else(|| start.elapsed());
                    let decode = Duration::from_micros(finished.timing.decode_us);
                    let rest = finished.usage.completion_tokens.saturating_sub(1);
                    let prompt_tokens = finished.usage.prompt_tokens - finished.usage.cached_tokens;
                    return Ok(Answer { prompt_tokens, first, decode, rest });
                }
                Event::Failed(error) => return Err(error),
                _ => {}
            }
        }
        Err(Error::internal("The answer ended without saying how."))
    }
}

/// Token ids drawn by SplitMix64.
fn prompt(seed: u64, length: u32, vocabulary: u32) -> Vec<u32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % u64::from(vocabulary.max(1))
    };
    (0..length).map(|_| next() as u32).collect()
}
