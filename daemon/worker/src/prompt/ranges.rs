//! Which values a request's numbers may have; what is out of range is refused by the field's name, never clamped.
//!
//! Only `prompt` calls this. That a prompt fits the context is checked there, where its tokens are counted.

use protocol::Error;
use protocol::generation::{GenerateRequest, Sampling, Stop};

use crate::generation::CHOICES_MAX;

const LOGPROBS_MAX: u8 = 20;
const STOPS_MAX: usize = 16;
const STOP_BYTES_MAX: usize = 1024;
const BIASES_MAX: usize = 4096;
const BREAKERS_MAX: usize = 64;

/// Checks every number of a request against its range.
pub fn check(request: &GenerateRequest, vocabulary: u32) -> Result<(), Error> {
    within("choices", request.choices, 1, CHOICES_MAX)?;
    match request.logprobs {
        Some(logprobs) => within("logprobs", logprobs, 0, LOGPROBS_MAX)?,
        None if request.prompt_logprobs => {
            return Err(Error::invalid("prompt_logprobs", "prompt_logprobs needs logprobs"));
        }
        None => {}
    }
    sampling(&request.sampling, vocabulary)?;
    stop(&request.stop, vocabulary, if request.prompt_logprobs { 0 } else { 1 })
}

fn sampling(sampling: &Sampling, vocabulary: u32) -> Result<(), Error> {
    number("temperature", sampling.temperature, 0.0, 2.0)?;
    number("top_p", sampling.top_p, 0.0, 1.0)?;
    number("min_p", sampling.min_p, 0.0, 1.0)?;
    number("typical_p", sampling.typical_p, f32::MIN_POSITIVE, 1.0)?;
    number("xtc_probability", sampling.xtc_probability, 0.0, 1.0)?;
    number("xtc_threshold", sampling.xtc_threshold, 0.0, 1.0)?;
    number("dry_multiplier", sampling.dry_multiplier, 0.0, 100.0)?;
    number("dry_base", sampling.dry_base, 1.0, 100.0)?;
    let breakers = sampling.dry_breakers.as_deref().unwrap_or_default();
    within("dry_breakers", breakers.len(), 0, BREAKERS_MAX)?;
    for breaker in breakers {
        within("dry_breakers", breaker.len(), 1, STOP_BYTES_MAX)?;
    }
    number("mirostat_tau", sampling.mirostat_tau, 0.0, 100.0)?;
    number("mirostat_eta", sampling.mirostat_eta, 0.0, 1.0)?;
    replaced(sampling)?;
    number("repetition_penalty", sampling.repetition_penalty, f32::MIN_POSITIVE, 100.0)?;
    number("presence_penalty", sampling.presence_penalty, -2.0, 2.0)?;
    number("frequency_penalty", sampling.frequency_penalty, -2.0, 2.0)?;
    within("logit_bias", sampling.logit_bias.len(), 0, BIASES_MAX)?;
    for (token, bias) in &sampling.logit_bias {
        known("logit_bias", *token, vocabulary)?;
        number("logit_bias", Some(*bias), -100.0, 100.0)?;
    }
    Ok(())
}

/// Refuses filters that would have no effect beside mirostat.
fn replaced(sampling: &Sampling) -> Result<(), Error> {
    let filters = [
        ("top_k", sampling.top_k.is_some_and(|top_k| top_k > 0)),
        ("top_p", sampling.top_p.is_some_and(|top_p| top_p < 1.0)),
        ("min_p", sampling.min_p.is_some_and(|min_p| min_p > 0.0)),
        ("typical_p", sampling.typical_p.is_some_and(|typical_p| typical_p < 1.0)),
        ("xtc_probability", sampling.xtc_probability.is_some_and(|probability| probability > 0.0)),
    ];
    match filters.iter().find(|(_, given)| sampling.mirostat && *given) {
        Some((name, _)) => {
            Err(Error::invalid(*name, format!("{name} has no effect beside mirostat; send one of them")))
        }
        None => Ok(()),
    }
}

fn stop(stop: &Stop, vocabulary: u32, tokens_least: u32) -> Result<(), Error> {
    within("stop", stop.strings.len(), 0, STOPS_MAX)?;
    for string in &stop.strings {
        within("stop", string.len(), 1, STOP_BYTES_MAX)?;
    }
    within("stop_token_ids", stop.tokens.len(), 0, BIASES_MAX)?;
    for token in &stop.tokens {
        known("stop_token_ids", *token, vocabulary)?;
    }
    if let Some(tokens_max) = stop.max_tokens {
        within("max_tokens", tokens_max, tokens_least, u32::MAX)?;
        within("min_tokens", stop.min_tokens, 0, tokens_max)?;
    }
    Ok(())
}

/// Refuses a token id that the model does not score.
pub fn known(param: &str, token: u32, vocabulary: u32) -> Result<(), Error> {
    if token < vocabulary {
        return Ok(());
    }
    Err(Error::invalid(param, format!("{param} names token {token}, and this model's ids end at {}", vocabulary - 1)))
}

fn within<T: PartialOrd + std::fmt::Display>(param: &str, value: T, least: T, most: T) -> Result<(), Error> {
    if least <= value && value <= most {
        return Ok(());
    }
    Err(Error::invalid(param, format!("{param} is {value}, outside of {least} to {most}")))
}

/// As `within`, for a number that may be absent; what is no number is out of every range.
fn number(param: &str, value: Option<f32>, least: f32, most: f32) -> Result<(), Error> {
    let Some(value) = value else { return Ok(()) };
    if (least..=most).contains(&value) {
        return Ok(());
    }
    let bound = if least == f32::MIN_POSITIVE { "above 0".to_string() } else { format!("at least {least}") };
    Err(Error::invalid(param, format!("{param} is {value}, and must be {bound} and at most {most}")))
}
