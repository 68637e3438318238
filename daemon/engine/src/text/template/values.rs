//! JSON as a template's values, with numbers that read as Python's do.
//!
//! Python writes 1e-07 where Rust writes 0.0000001, and a template may join a number to a text in ways that no filter
//! sees. So the few numbers that the two write differently are values of their own. The template room converts a
//! conversation with this.

use std::fmt;
use std::sync::Arc;

use minijinja::Value;
use minijinja::value::{Object, ObjectRepr, Serde, ValueKind};
use serde::{Serialize, Serializer};

use super::json;

/// A number that Python writes with an exponent.
#[derive(Debug)]
pub struct Exponential(pub f64);

impl Object for Exponential {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn render(self: &Arc<Self>, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&json::float(self.0))
    }
}

/// Converts JSON.
pub fn of(json: &serde_json::Value) -> Value {
    Serde(Readable(json)).into()
}

/// JSON that serializes with its exponential numbers as values of their own.
struct Readable<'a>(&'a serde_json::Value);

impl Serialize for Readable<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            serde_json::Value::Array(items) => serializer.collect_seq(items.iter().map(Readable)),
            serde_json::Value::Object(entries) => {
                serializer.collect_map(entries.iter().map(|(key, value)| (key, Readable(value))))
            }
            serde_json::Value::Number(number) if number.is_f64() => {
                let float = number.as_f64().unwrap_or_default();
                // minijinja knows its own values again.
                match json::float(float).contains('e') {
                    true => Value::from_object(Exponential(float)).serialize(serializer),
                    false => serializer.serialize_f64(float),
                }
            }
            other => other.serialize(serializer),
        }
    }
}

/// Whether a value is a number; in Python a truth value is one.
pub fn is_number(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Number | ValueKind::Bool) || is_exponential(value)
}

/// Whether a value is a number with a fraction.
pub fn is_float(value: &Value) -> bool {
    (value.kind() == ValueKind::Number && !value.is_integer()) || is_exponential(value)
}

fn is_exponential(value: &Value) -> bool {
    value.downcast_object_ref::<Exponential>().is_some()
}
