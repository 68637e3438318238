//! Finds alternatives of which no value can fit two: `oneOf` of them is `anyOf`, which the grammar engine enforces.
//!
//! The grammar engine looks for itself, but not through references, and tagged unions are mostly lists of those. What is not
//! certain counts as not apart, so that nothing is ever loosened. `schema` calls this.

use serde_json::{Map, Value};

/// How many references are followed one after the other, and how deep properties are compared.
const DEPTH_MAX: usize = 8;
/// The most alternatives of one list: each is compared with each.
const ALTERNATIVES_MAX: usize = 256;

const TYPES: [&str; 6] = ["null", "boolean", "number", "string", "array", "object"];

/// Whether no value fits two of these alternatives; `root` is what their references are looked up in.
pub fn all_apart(alternatives: &[Value], root: &Value) -> bool {
    let pairs =
        alternatives.iter().enumerate().flat_map(|(at, one)| alternatives[..at].iter().map(move |other| (one, other)));
    alternatives.len() <= ALTERNATIVES_MAX && pairs.into_iter().all(|(one, other)| apart(one, other, root, 0))
}

fn apart(one: &Value, other: &Value, root: &Value, depth: usize) -> bool {
    let (Some(one), Some(other)) = (resolved(one, root), resolved(other, root)) else { return false };
    if depth > DEPTH_MAX {
        return false;
    }
    if let (Some(these), Some(those)) = (types(one), types(other))
        && !these.iter().any(|name| those.contains(name))
    {
        return true;
    }
    if let (Some(these), Some(those)) = (values(one), values(other)) {
        return !these.iter().any(|this| those.iter().any(|that| same(this, that)));
    }
    let is_object = |schema| types(schema).is_some_and(|names| names == ["object"]);
    (is_object(one) || is_object(other)) && tagged(one, other, root, depth)
}

/// Whether a property that must be there differs.
fn tagged(one: &Map<String, Value>, other: &Map<String, Value>, root: &Value, depth: usize) -> bool {
    let required = |schema: &Map<String, Value>| schema.get("required").and_then(Value::as_array).cloned();
    let names = [required(one), required(other)].into_iter().flatten().flatten();
    let property = |schema: &Map<String, Value>, name: &str| schema.get("properties")?.get(name).cloned();
    names.into_iter().any(|name| {
        let name = name.as_str().unwrap_or_default();
        let both = property(one, name).zip(property(other, name));
        both.is_some_and(|(this, that)| apart(&this, &that, root, depth + 1))
    })
}

/// A schema, or what its reference leads to.
fn resolved<'a>(schema: &'a Value, root: &'a Value) -> Option<&'a Map<String, Value>> {
    let mut schema = schema.as_object()?;
    for _ in 0..DEPTH_MAX {
        let Some(reference) = schema.get("$ref") else { return Some(schema) };
        let pointer = reference.as_str()?.strip_prefix('#')?;
        // What is escaped, or leads to a nameless member, the grammar engine reads otherwise.
        if pointer.contains(['~', '%']) || pointer.ends_with('/') {
            return None;
        }
        schema = root.pointer(pointer)?.as_object()?;
    }
    None
}

/// The values that it lists, if it does.
fn values(schema: &Map<String, Value>) -> Option<Vec<&Value>> {
    match (schema.get("const"), schema.get("enum")) {
        (Some(value), _) => Some(vec![value]),
        (None, Some(Value::Array(values))) => Some(values.iter().collect()),
        _ => None,
    }
}

/// The types that its values may have, if it says so.
fn types(schema: &Map<String, Value>) -> Option<Vec<&str>> {
    let known = |name: &str| {
        if name == "integer" { "number" } else { TYPES.into_iter().find(|known| *known == name).unwrap_or("") }
    };
    let named = match schema.get("type") {
        Some(Value::String(name)) => vec![known(name)],
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).map(known).collect(),
        _ => values(schema)?.into_iter().map(type_of).collect(),
    };
    Some(named)
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Whether two values are one; numbers are whatever they are written like.
fn same(one: &Value, other: &Value) -> bool {
    match (one.as_f64(), other.as_f64()) {
        (Some(one), Some(other)) => one == other,
        // Numbers may lie inside, so lists and objects count as the same.
        _ => one == other || type_of(one) == type_of(other) && (one.is_array() || one.is_object()),
    }
}
