//! The Jinja environment that chat templates expect: Hugging Face's settings, functions and filters.
//!
//! Blocks are trimmed, JSON is Python's, undefined values are lenient, and values have Python's methods. A template
//! gets an allowance of instructions. The template room makes one environment for each model.

use std::fmt;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Object, Value, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State};

use super::{json, methods, strftime, values};

/// The variable that holds the time; no template can name it.
pub const CLOCK: &str = "the clock";

/// The largest conversations need some hundred thousand instructions; this many take about a second.
const INSTRUCTIONS_MAX: u64 = 10_000_000;

/// What a template said when it refused a conversation.
#[derive(Debug)]
pub struct Raised(pub String);

impl fmt::Display for Raised {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Raised {}

/// The time that a template is rendered at, in milliseconds since 1970.
#[derive(Debug)]
pub struct Clock(pub i64);

impl Object for Clock {}

/// An environment without templates.
pub fn new() -> Environment<'static> {
    let mut environment = Environment::new();
    let mut syntax = SyntaxConfig::builder();
    syntax.trim_blocks(true).lstrip_blocks(true);
    environment.set_syntax(syntax.build().expect("the delimiters are Jinja's own"));
    environment.set_fuel(Some(INSTRUCTIONS_MAX));
    environment.set_unknown_method_callback(methods::call);
    environment.add_filter("tojson", json::tojson);
    environment.add_filter("length", length);
    environment.add_filter("count", length);
    environment.add_test("sequence", |value: &Value| {
        matches!(value.kind(), ValueKind::Seq | ValueKind::Map | ValueKind::String | ValueKind::Undefined)
    });
    environment.add_test("iterable", |value: &Value| !value.is_none() && value.try_iter().is_ok());
    environment.add_test("number", values::is_number);
    environment.add_test("float", values::is_float);
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", strftime_now);
    environment
}

/// As Jinja2 counts: an undefined value has no items.
fn length(value: &Value) -> Result<usize, Error> {
    if value.is_undefined() {
        return Ok(0);
    }
    value.len().ok_or_else(|| {
        Error::new(ErrorKind::InvalidOperation, format!("a value of type {} has no length", value.kind()))
    })
}

fn raise_exception(words: &Value) -> Result<Value, Error> {
    let raised = Raised(words.to_string());
    Err(Error::new(ErrorKind::InvalidOperation, "raised by the template").with_source(raised))
}

fn strftime_now(state: &mut State<'_, '_>, format: &str) -> Result<String, Error> {
    let clock = state.lookup(CLOCK);
    let now_unix_ms = clock.as_ref().and_then(|it| it.downcast_object_ref::<Clock>()).map_or(0, |it| it.0);
    Ok(strftime::format(format, now_unix_ms))
}
