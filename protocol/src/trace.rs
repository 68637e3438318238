//! The words for traces that cross programs: where a request stands in one, and a span that is done.
//!
//! A place is written as W3C Trace Context writes it (`traceparent`), so that every client can pass on what it was given.
//! Spans are facts about what has ended; nothing is waited for and nothing is decided by them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Where a request stands in a trace: `00-TRACE-SPAN-FLAGS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TraceParent {
    /// The trace.
    pub trace: TraceId,
    /// The span that asks.
    pub span: SpanId,
    /// Whether the trace is recorded.
    pub sampled: bool,
}

/// Names a trace: 32 hexadecimal digits, never all zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceId(pub u128);

/// Names a span in its trace: 16 hexadecimal digits, never all zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SpanId(pub u64);

/// A text that is no `traceparent`, or no name of a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no traceparent as W3C Trace Context defines it")]
pub struct NoTraceParent;

impl FromStr for TraceParent {
    type Err = NoTraceParent;

    /// Reads a header; versions to come are read by the rules of the first one, as the standard asks.
    fn from_str(text: &str) -> Result<Self, NoTraceParent> {
        let (version, rest) = text.split_once('-').ok_or(NoTraceParent)?;
        let (trace, rest) = rest.split_once('-').ok_or(NoTraceParent)?;
        let (span, flags) = rest.split_once('-').ok_or(NoTraceParent)?;
        let version = digits(version, 2)?;
        let flags = match flags.split_once('-') {
            Some((flags, _)) if version > 0 => flags,
            Some(_) => return Err(NoTraceParent),
            None => flags,
        };
        let (trace, span, flags) = (digits(trace, 32)?, span.parse()?, digits(flags, 2)?);
        if version == 0xff || trace == 0 {
            return Err(NoTraceParent);
        }
        Ok(Self { trace: TraceId(trace), span, sampled: flags & 1 == 1 })
    }
}

impl FromStr for SpanId {
    type Err = NoTraceParent;

    fn from_str(text: &str) -> Result<Self, NoTraceParent> {
        match digits(text, 16)? {
            0 => Err(NoTraceParent),
            id => Ok(Self(id as u64)),
        }
    }
}

/// Reads so many lower-case hexadecimal digits.
fn digits(text: &str, count: usize) -> Result<u128, NoTraceParent> {
    let hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if text.len() != count || !text.bytes().all(hex) {
        return Err(NoTraceParent);
    }
    u128::from_str_radix(text, 16).map_err(|_| NoTraceParent)
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace, self.span, u8::from(self.sampled))
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl TryFrom<String> for TraceParent {
    type Error = NoTraceParent;

    fn try_from(text: String) -> Result<Self, NoTraceParent> {
        text.parse()
    }
}

impl From<TraceParent> for String {
    fn from(parent: TraceParent) -> Self {
        parent.to_string()
    }
}

impl TryFrom<String> for SpanId {
    type Error = NoTraceParent;

    fn try_from(text: String) -> Result<Self, NoTraceParent> {
        text.parse()
    }
}

impl From<SpanId> for String {
    fn from(id: SpanId) -> Self {
        id.to_string()
    }
}

/// Something that was done as part of a trace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Span {
    /// Its trace and its own name in it.
    pub place: TraceParent,
    /// The span that asked for it; `None` begins the trace.
    pub parent: Option<SpanId>,
    /// What other tracers say of the trace (`tracestate`), as it came.
    pub state: Option<String>,
    /// What was done, in words that do not depend on the request.
    pub name: String,
    /// Whom it answers.
    pub kind: SpanKind,
    /// The program that did it.
    pub service: String,
    /// When it began, in nanoseconds since 1970.
    pub start_unix_ns: u64,
    /// When it ended.
    pub end_unix_ns: u64,
    /// What else is known of it; never what was said.
    pub attributes: Vec<(String, Value)>,
    /// Of what kind its failure was, if it failed: no sentence, which may hold words of the request.
    pub error: Option<String>,
}

/// Whom a span answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SpanKind {
    /// Somebody outside.
    Server,
    /// Somebody within.
    Internal,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Value {
    /// Text.
    Text(String),
    /// A whole number.
    Number(i64),
    /// A number.
    Real(f64),
    /// Texts.
    Texts(Vec<String>),
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_traceparent_is_read_and_written_the_same() {
        let parent: TraceParent = GOOD.parse().unwrap();
        assert!(parent.sampled);
        assert_eq!(parent.to_string(), GOOD);
        let quiet: TraceParent = format!("{}-00", &GOOD[..52]).parse().unwrap();
        assert_eq!((quiet.trace, quiet.span, quiet.sampled), (parent.trace, parent.span, false));
        let later: TraceParent = format!("cc{}-what-comes", &GOOD[2..]).parse().unwrap();
        assert_eq!(later, parent, "a later version may say more");
    }

    #[test]
    fn what_the_standard_forbids_is_refused() {
        for bad in [
            "",
            "00",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
            "0-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert!(bad.parse::<TraceParent>().is_err(), "{bad}");
        }
    }
}
