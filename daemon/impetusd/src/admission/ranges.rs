//! The ranges of sampling and stopping, in one place. Each refusal names the field, its value and its range.
//! Called by `admission::check`.

use std::fmt::Display;

use protocol::generation::{Sampling, Stop};
use protocol::{Error, Result};

/// Stop strings of one request.
const STOP_STRINGS_MAX: usize = 16;
/// Bytes of one stop string: the output holds back this much text while a match is possible.
const STOP_BYTES_MAX: usize = 1024;
/// Stop tokens and biased tokens of one request.
const TOKENS_MAX: usize = 4096;

/// Refuses a value outside `least..=most`.
pub fn within<T: PartialOrd + Display>(param: &str, value: T, least: T, most: T) -> Result<()> {
    // Written so that NaN, which is in no range, is refused.
    if value >= least && value <= most {
        return Ok(());
    }
    Err(Error::invalid(param, format!("{param} is {value}; it must be from {least} to {most}")))
}

/// Checks how tokens are to be drawn.
pub fn sampling(sampling: &Sampling) -> Result<()> {
    let ranges = [
        ("temperature", sampling.temperature, 0.0, 2.0),
        ("top_p", sampling.top_p, 0.0, 1.0),
        ("min_p", sampling.min_p, 0.0, 1.0),
        ("xtc_probability", sampling.xtc_probability, 0.0, 1.0),
        ("xtc_threshold", sampling.xtc_threshold, 0.0, 1.0),
        ("dry_multiplier", sampling.dry_multiplier, 0.0, 100.0),
        ("dry_base", sampling.dry_base, 1.0, 100.0),
        ("mirostat_tau", sampling.mirostat_tau, 0.0, 100.0),
        ("mirostat_eta", sampling.mirostat_eta, 0.0, 1.0),
        // Below this logits overflow.
        ("repetition_penalty", sampling.repetition_penalty, 0.01, 10.0),
        ("presence_penalty", sampling.presence_penalty, -2.0, 2.0),
        ("frequency_penalty", sampling.frequency_penalty, -2.0, 2.0),
    ];
    for (param, value, least, most) in ranges {
        value.map_or(Ok(()), |value| within(param, value, least, most))?;
    }
    positive("typical_p", sampling.typical_p, 1.0)?;
    counted("logit_bias", sampling.logit_bias.len(), TOKENS_MAX)?;
    sampling.logit_bias.iter().try_for_each(|(_, bias)| within("logit_bias", *bias, -100.0, 100.0))
}

/// Checks when an answer is to end; one without a token is of use only where the prompt is reported.
pub fn stop(stop: &Stop, with_prompt: bool) -> Result<()> {
    counted("stop", stop.strings.len(), STOP_STRINGS_MAX)?;
    counted("stop.tokens", stop.tokens.len(), TOKENS_MAX)?;
    for text in &stop.strings {
        within("the length of a stop string", text.len(), 1, STOP_BYTES_MAX).map_err(|error| error.param("stop"))?;
    }
    match stop.max_tokens {
        Some(0) if !with_prompt => Err(Error::invalid("max_tokens", "max_tokens is 0; it must be at least 1")),
        Some(max) if stop.min_tokens > max => {
            let message = format!("min_tokens is {}, more than max_tokens, which is {max}", stop.min_tokens);
            Err(Error::invalid("min_tokens", message))
        }
        _ => Ok(()),
    }
}

fn positive(param: &str, value: Option<f32>, most: f32) -> Result<()> {
    match value {
        Some(value) if !(value > 0.0 && value <= most) => {
            Err(Error::invalid(param, format!("{param} is {value}; it must be above 0 and at most {most}")))
        }
        _ => Ok(()),
    }
}

fn counted(param: &str, count: usize, most: usize) -> Result<()> {
    if count <= most {
        return Ok(());
    }
    Err(Error::invalid(param, format!("{param} has {count} entries; it may have {most}")))
}
