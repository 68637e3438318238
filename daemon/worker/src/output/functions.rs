//! The functions that may be called, which types of JSON their arguments may have, and what a written argument then is.
//!
//! Readers ask for names where what looks like a call may be none. Some families write arguments without their types: text as
//! it stands, and all else as JSON or as Python prints it. Where a schema says nothing, what reads as JSON is JSON. It checks
//! no value: a schema may hold rules that only grammars keep.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

/// How many parts of one argument's schema are looked at.
const PARTS_MAX: u32 = 256;
/// How many references are followed one after the other to a function's schema.
const REFERENCES_MAX: usize = 8;

/// The functions that a model is shown.
#[derive(Clone, Debug, Default)]
pub struct Functions(Arc<HashMap<String, Arguments>>);

/// By the name of an argument, its types; `None` where the schema does not say.
type Arguments = HashMap<String, Option<Types>>;

/// A set of types.
#[derive(Clone, Copy, Debug, Default)]
struct Types(u8);

const TEXT: u8 = 1;
const WHOLE: u8 = 1 << 1;
const FRACTION: u8 = 1 << 2;
const BOOLEAN: u8 = 1 << 3;
const NULL: u8 = 1 << 4;
const ARRAY: u8 = 1 << 5;
const OBJECT: u8 = 1 << 6;

impl Functions {
    /// What the names and schemas of functions say.
    pub fn of<'a>(functions: impl IntoIterator<Item = (&'a str, &'a Value)>) -> Self {
        let bits = |kind: &Value| kind["type"].as_str().and_then(Types::named).unwrap_or_default().0;
        let types = |kinds: Vec<Value>| Types(kinds.iter().fold(0, |all, kind| all | bits(kind)));
        let arguments = |schema: &Value| -> Arguments {
            let whole = resolved(schema);
            let properties = whole["properties"].as_object().into_iter().flatten();
            properties.map(|(name, property)| (name.clone(), kinds(property, &whole).map(types))).collect()
        };
        Self(Arc::new(functions.into_iter().map(|(name, schema)| (name.to_string(), arguments(schema))).collect()))
    }

    /// Whether there is a function of this name.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Whether the name of a function begins so.
    pub fn may_begin(&self, name: &str) -> bool {
        self.0.keys().any(|known| known.starts_with(name))
    }

    /// Whether an argument is one of a function's; where nothing is known of them, every one may be.
    pub fn may_have(&self, function: &str, argument: &str) -> bool {
        self.0.get(function).is_none_or(|arguments| arguments.is_empty() || arguments.contains_key(argument))
    }

    /// Whether an argument is a text and nothing else.
    pub fn is_text(&self, function: &str, argument: &str) -> bool {
        self.types(function, argument).is_some_and(|types| types.0 == TEXT)
    }

    /// What an argument is that was written without its type.
    pub fn read(&self, function: &str, argument: &str, written: &str) -> Value {
        let types = self.types(function, argument);
        let text = types.is_some_and(|types| types.0 & TEXT != 0);
        let holds = |value: &Value| types.is_some_and(|types| types.hold(value));
        let python = match written {
            "True" => Some(Value::Bool(true)),
            "False" => Some(Value::Bool(false)),
            "None" => Some(Value::Null),
            _ => None,
        };
        // Text is written without quotes, so it is whatever else may not be.
        let fits = |value: &Value| if text { !value.is_string() && holds(value) } else { true };
        let json = || serde_json::from_str(written).ok().filter(fits);
        let printed = || from_python(written).filter(|value| !text && holds(value));
        python.filter(holds).or_else(json).or_else(printed).unwrap_or_else(|| written.into())
    }

    /// The same as JSON, in which numbers keep the digits that they were written with.
    pub fn json(&self, function: &str, argument: &str, written: &str) -> String {
        let value = self.read(function, argument, written);
        let same = || serde_json::from_str(written).is_ok_and(|json: Value| json == value);
        if is_rounded(&value) && same() { written.trim().to_string() } else { value.to_string() }
    }

    fn types(&self, function: &str, argument: &str) -> Option<Types> {
        *self.0.get(function)?.get(argument)?
    }
}

impl Types {
    fn named(name: &str) -> Option<Self> {
        Some(Self(match name {
            "string" => TEXT,
            "integer" => WHOLE,
            "number" => WHOLE | FRACTION,
            "boolean" => BOOLEAN,
            "null" => NULL,
            "array" => ARRAY,
            "object" => OBJECT,
            _ => return None,
        }))
    }

    /// Whether a value is of one of them.
    fn hold(self, value: &Value) -> bool {
        let own = match value {
            Value::Number(number) if number.is_f64() => FRACTION,
            value => Self::named(name_of(value)).unwrap_or_default().0 & !FRACTION,
        };
        self.0 & own != 0
    }
}

/// Whether a number in it may have been written with more digits.
fn is_rounded(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_f64(),
        Value::Array(items) => items.iter().any(is_rounded),
        Value::Object(entries) => entries.values().any(is_rounded),
        _ => false,
    }
}

/// A function's schema, and in place of a reference what that leads to, where nothing stands beside it that both say.
pub fn resolved(schema: &Value) -> Cow<'_, Value> {
    let mut whole = Cow::Borrowed(schema);
    for _ in 0..REFERENCES_MAX {
        let place = whole["$ref"].as_str().and_then(|place| place.strip_prefix('#'));
        let Some(Value::Object(target)) = place.and_then(|place| schema.pointer(place)) else { break };
        let mut joined = whole.as_object().cloned().unwrap_or_default();
        joined.remove("$ref");
        let notes = ["title", "description", "default", "examples"];
        let agree = |(key, value): (&String, &Value)| {
            notes.contains(&key.as_str()) || joined.get(key).is_none_or(|other| other == value)
        };
        if !target.iter().all(agree) {
            break;
        }
        for (key, value) in target {
            joined.entry(key).or_insert_with(|| value.clone());
        }
        whole = Cow::Owned(Value::Object(joined));
    }
    whole
}

/// What a schema inside of `root` allows, by type: schemas of one type each; `None` if it does not say.
pub fn kinds(schema: &Value, root: &Value) -> Option<Vec<Value>> {
    kinds_within(schema, root, &mut PARTS_MAX.clone())
}

fn kinds_within(schema: &Value, root: &Value, parts: &mut u32) -> Option<Vec<Value>> {
    *parts = parts.checked_sub(1)?;
    let of_type = |name: &str| with(schema, "type", Value::from(name));
    if let Some(name) = schema["type"].as_str() {
        return Types::named(name).map(|_| vec![of_type(name)]);
    }
    if let Some(names) = schema["type"].as_array() {
        return names.iter().map(|name| Types::named(name.as_str()?).and(name.as_str()).map(of_type)).collect();
    }
    if let Some(values) = schema["enum"].as_array() {
        let mut names: Vec<&str> = values.iter().map(name_of).collect();
        names.sort_unstable();
        names.dedup();
        let of = |name: &str| values.iter().filter(|value| name_of(value) == name).cloned().collect::<Value>();
        return Some(names.into_iter().map(|name| with(&of_type(name), "enum", of(name))).collect());
    }
    if let Some(value) = schema.get("const") {
        return Some(vec![of_type(name_of(value))]);
    }
    // What stands beside a reference or a choice holds for every part of it.
    let beside = |key: &str, kinds: Vec<Value>| {
        let mut beside = schema.as_object().cloned().unwrap_or_default();
        beside.remove(key);
        let join = |kind: Value| {
            let mut whole = beside.clone();
            whole.extend(kind.as_object().cloned().into_iter().flatten());
            Value::Object(whole)
        };
        kinds.into_iter().map(join).collect::<Vec<_>>()
    };
    if let Some(place) = schema["$ref"].as_str().and_then(|place| place.strip_prefix('#')) {
        return Some(beside("$ref", kinds_within(root.pointer(place)?, root, parts)?));
    }
    for key in ["anyOf", "oneOf"] {
        if let Some(either) = schema[key].as_array() {
            let kinds: Option<Vec<_>> = either.iter().map(|part| kinds_within(part, root, parts)).collect();
            return Some(beside(key, kinds?.concat()));
        }
    }
    let all = schema["allOf"].as_array()?;
    let kinds = all.iter().find_map(|part| kinds_within(part, root, parts))?;
    // The other parts hold as well: the word stays, so that nobody takes the rest for the whole.
    Some(beside(if all.len() == 1 { "allOf" } else { "" }, kinds))
}

/// What Python printed: texts in single quotes, and its own words in any case.
fn from_python(written: &str) -> Option<Value> {
    let (mut json, mut word) = (String::new(), String::new());
    let mut letters = written.chars();
    loop {
        let letter = letters.next();
        if let Some(letter) =
            letter.filter(|letter| letter.is_alphanumeric() || matches!(letter, '_' | '.' | '-' | '+'))
        {
            word.push(letter);
            continue;
        }
        json.push_str(match word.to_ascii_lowercase().as_str() {
            "true" => "true",
            "false" => "false",
            "none" | "null" => "null",
            _ => &word,
        });
        word.clear();
        match letter {
            Some(quote @ ('\'' | '"')) => json.push_str(&quoted(quote, &mut letters)?),
            Some(letter) => json.push(letter),
            None => return serde_json::from_str(&json).ok(),
        }
    }
}

/// The rest of a text between such quotes, as JSON.
fn quoted(quote: char, letters: &mut std::str::Chars<'_>) -> Option<String> {
    let mut text = String::from("\"");
    loop {
        match letters.next()? {
            letter if letter == quote => return Some(text + "\""),
            '\\' => match letters.next()? {
                '\'' => text.push('\''),
                escape => text.extend(['\\', escape]),
            },
            letter => text.push_str(&escaped(letter.encode_utf8(&mut [0; 4]))),
        }
    }
}

/// A part of a text as it stands inside of JSON's quotes.
pub fn escaped(text: &str) -> String {
    let quoted = Value::from(text).to_string();
    quoted[1..quoted.len() - 1].to_string()
}

fn with(schema: &Value, key: &str, value: Value) -> Value {
    let mut schema = schema.clone();
    schema[key] = value;
    schema
}

fn name_of(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "string",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::Bool(_) => "boolean",
        Value::Null => "null",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(schema: Value, cases: &[(&str, Value)]) {
        let tool = json!({
            "properties": { "a": schema },
            "$defs": { "Word": { "type": "string" }, "Loop": { "anyOf": [{ "$ref": "#/$defs/Loop" }, { "$ref": "#/$defs/Loop" }] } },
        });
        let functions = Functions::of([("f", &tool)]);
        for (written, expected) in cases {
            assert_eq!(functions.read("f", "a", written), *expected, "{written} as {}", tool["properties"]["a"]);
        }
    }

    #[test]
    fn text_that_reads_as_something_else_stays_text_where_only_text_is_allowed() {
        let optional = [("12345", json!("12345")), ("None", json!(null)), ("null", json!(null)), ("a", json!("a"))];
        check(json!({ "anyOf": [{ "type": "string" }, { "type": "null" }] }), &optional);
        check(json!({ "type": ["string", "null"] }), &optional);
        check(json!({ "oneOf": [{ "$ref": "#/$defs/Word" }, { "const": null }] }), &optional);
        let text = [("12", json!("12")), ("True", json!("True")), ("null", json!("null")), ("\"q\"", json!("\"q\""))];
        check(json!({ "type": "string" }), &text);
        check(json!({ "enum": ["12", "13"] }), &text);
        check(json!({ "allOf": [{ "description": "a word" }, { "$ref": "#/$defs/Word" }] }), &text);
        check(json!({ "type": ["string", "integer"] }), &[("12", json!(12)), ("1.5", json!("1.5"))]);
        check(json!({ "type": ["string", "number"] }), &[("12", json!(12)), ("1.5", json!(1.5))]);
        check(json!({ "type": ["string", "array"] }), &[("[1]", json!([1])), ("{}", json!("{}"))]);
    }

    #[test]
    fn booleans_and_nothing_are_read_as_python_writes_them() {
        check(json!({ "type": "boolean" }), &[("True", json!(true)), ("False", json!(false)), ("true", json!(true))]);
        check(json!({ "type": ["boolean", "null"] }), &[("None", json!(null)), ("Maybe", json!("Maybe"))]);
        check(json!({ "type": "integer" }), &[("True", json!("True")), ("5", json!(5))]);
    }

    #[test]
    fn lists_and_objects_are_read_as_python_prints_them() {
        let lists = [
            ("['a', \"b's\", 'c\"\\'d']", json!(["a", "b's", "c\"'d"])),
            ("[True, None, -1.5]", json!([true, null, -1.5])),
            ("[\"a\"]", json!(["a"])),
            ("['a", json!("['a")),
            ("{'a': 1}", json!("{'a': 1}")),
        ];
        check(json!({ "type": "array" }), &lists);
        check(json!({ "type": "object" }), &[("{'a': {'b': False}}", json!({ "a": { "b": false } }))]);
        check(json!({ "type": ["boolean", "null"] }), &[("TRUE", json!(true)), ("none", json!(null))]);
        check(json!({ "type": ["string", "array"] }), &[("['a']", json!("['a']"))]);
        check(json!({}), &[("['a']", json!("['a']"))]);
    }

    #[test]
    fn numbers_keep_their_digits() {
        let functions = Functions::of([("f", &json!({ "properties": { "a": { "type": "integer" }, "b": {} } }))]);
        for (argument, written, json) in [
            ("a", "123456789012345678901234567890", "123456789012345678901234567890"),
            ("b", " [1e2, {\"c\": 98765432109876543210}]", "[1e2, {\"c\": 98765432109876543210}]"),
            ("b", "\"q\"", "\"q\""),
            ("a", "True", "\"True\""),
            ("b", "it is", "\"it is\""),
        ] {
            assert_eq!(functions.json("f", argument, written), json);
        }
    }

    #[test]
    fn the_arguments_of_a_function_are_those_that_its_reference_leads_to() {
        let place = json!({ "type": "object", "properties": { "a": { "type": "string" } } });
        let schema = json!({ "type": "object", "$ref": "#/definitions/Place", "definitions": { "Place": place } });
        assert!(Functions::of([("f", &schema)]).is_text("f", "a"));
        let endless = json!({ "$ref": "#/$defs/A", "$defs": { "A": { "$ref": "#/$defs/A" } } });
        assert!(!Functions::of([("f", &endless)]).is_text("f", "a"));
    }

    #[test]
    fn what_a_schema_does_not_say_is_json_where_it_reads_as_json() {
        let silent = [("12", json!(12)), ("True", json!("True")), ("\"q\"", json!("q")), ("a b", json!("a b"))];
        for schema in
            [json!({}), json!(true), json!({ "$ref": "#/$defs/Loop" }), json!({ "anyOf": [{}, { "type": "string" }] })]
        {
            check(schema, &silent);
        }
    }
}
