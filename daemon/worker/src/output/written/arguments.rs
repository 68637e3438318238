//! Arguments as formats write them that have no JSON around them: between tags one by one, or as Gemma's objects.
//!
//! Each argument follows the schema of its own property: texts stand bare, everything else as JSON or as the format has it.
//! What a format cannot hold an argument to is refused by name where the tool is strict. `written` calls this.

use std::cell::Cell;

use engine::text::{Grammar, Shape};
use serde_json::{Map, Value, json};

use super::super::functions::kinds;
use super::text;

/// How deep objects and lists may nest.
const DEPTH_MAX: usize = 16;
/// The most values in all.
const VALUES_MAX: u32 = 4096;
/// The most entries of a list.
const ENTRIES_MAX: u32 = 256;
/// Where none is required, the most arguments of which any may come first.
const OPTIONAL_MAX: usize = 16;
/// The most entries that a list can be asked to have.
const LEAST_MAX: u64 = 32;

/// Keywords that say nothing of which values fit, or do so elsewhere.
const NOTES: [&str; 13] = [
    "type",
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
    "$schema",
    "$id",
    "$comment",
    "$defs",
    "definitions",
];
/// Keywords of an object and of a list that are kept.
const OF_OBJECTS: [&str; 3] = ["properties", "required", "additionalProperties"];
const OF_LISTS: [&str; 3] = ["items", "minItems", "maxItems"];
/// Keywords of an object that say of what it consists beside its properties.
const LAYERS: [&str; 7] = ["$ref", "anyOf", "oneOf", "allOf", "const", "enum", "patternProperties"];

/// A tool's schema, and whether all of it must hold.
pub struct Arguments<'a> {
    schema: &'a Value,
    strict: bool,
    /// How many values of objects may still be written: a schema can refer to itself in many places.
    room: Cell<u32>,
}

/// One property of an object.
struct Property<'a> {
    name: &'a str,
    schema: &'a Value,
    required: bool,
}

impl<'a> Arguments<'a> {
    pub fn new(schema: &'a Value, strict: bool) -> Self {
        Self { schema, strict, room: Cell::new(VALUES_MAX) }
    }

    /// One after the other, each between `key` and its end; `before` goes before and `between` between name and value.
    pub fn tagged(&self, key: &[&str], between: &[&str], end: &str) -> Result<Grammar, String> {
        let mut all = Vec::new();
        for property in self.properties(self.schema)? {
            let mut parts: Vec<Grammar> = key.iter().map(|part| text(part)).collect();
            parts.push(text(property.name));
            parts.extend(between.iter().map(|part| text(part)));
            parts.push(self.untyped(property.schema, end)?);
            parts.push(text("\n"));
            let whole = Grammar::Sequence(parts);
            all.push(if property.required { whole } else { Grammar::Optional(Box::new(whole)) });
        }
        Ok(Grammar::Sequence(all))
    }

    /// A value that is written without its type, and what ends it.
    fn untyped(&self, schema: &Value, end: &str) -> Result<Grammar, String> {
        let kinds = kinds(schema, self.schema).unwrap_or_default();
        let (texts, others): (Vec<&Value>, Vec<&Value>) = kinds.iter().partition(|kind| kind["type"] == "string");
        if texts.is_empty() {
            return Ok(Grammar::Sequence(vec![self.json(schema), text(end)]));
        }
        let mut either = Vec::new();
        if others.iter().any(|kind| kind["type"] != "null") {
            // A text that reads as one of the others becomes it, whatever its rules say.
            if self.strict {
                return Err("a text or something else".to_string());
            }
            return Ok(until(end));
        }
        if !others.is_empty() {
            either.push(Grammar::Sequence(vec![text("null"), text(end)]));
        }
        for kind in texts {
            either.push(Grammar::Sequence(self.bare(kind, end)?));
        }
        Ok(Grammar::Either(either))
    }

    /// An object with bare keys, and texts between `quote`s.
    pub fn quoted(&self, quote: &str) -> Result<Grammar, String> {
        self.object(self.schema, quote, 0)
    }

    fn object(&self, schema: &Value, quote: &str, depth: usize) -> Result<Grammar, String> {
        let (mut required, mut optional) = (Vec::new(), Vec::new());
        for property in self.properties(schema)? {
            let value = self.value(property.schema, quote, depth + 1)?;
            let entry = Grammar::Sequence(vec![text(property.name), text(":"), value]);
            if property.required { required.push(entry) } else { optional.push(entry) }
        }
        let more = |entry: Grammar| Grammar::Sequence(vec![text(","), entry]);
        let maybe = |entry: Grammar| Grammar::Optional(Box::new(entry));
        let mut parts = vec![text("{")];
        let mut entries = required.into_iter();
        if let Some(first) = entries.next() {
            parts.push(first);
            parts.extend(entries.map(more));
            parts.extend(optional.into_iter().map(|entry| maybe(more(entry))));
        } else if !optional.is_empty() {
            let count = optional.len().min(OPTIONAL_MAX);
            let from = |first: usize| {
                let rest = optional[first + 1..].iter().cloned().map(|entry| maybe(more(entry)));
                Grammar::Sequence(std::iter::once(optional[first].clone()).chain(rest).collect())
            };
            parts.push(maybe(Grammar::Either((0..count).map(from).collect())));
        }
        parts.push(text("}"));
        Ok(Grammar::Sequence(parts))
    }

    fn value(&self, schema: &Value, quote: &str, depth: usize) -> Result<Grammar, String> {
        self.room.set(self.room.get().saturating_sub(1));
        if depth > DEPTH_MAX || self.room.get() == 0 {
            return Err("arguments that nest so deep".to_string());
        }
        let kinds = kinds(schema, self.schema).ok_or("arguments without a type")?;
        let each = kinds.iter().map(|kind| self.typed(kind, quote, depth));
        Ok(Grammar::Either(each.collect::<Result<_, _>>()?))
    }

    /// A value of a schema that allows one type.
    fn typed(&self, schema: &Value, quote: &str, depth: usize) -> Result<Grammar, String> {
        match schema["type"].as_str() {
            Some("string") => {
                let rest = self.bare(schema, quote)?;
                Ok(Grammar::Sequence(std::iter::once(text(quote)).chain(rest).collect()))
            }
            Some("object") => self.object(schema, quote, depth),
            Some("array") => self.list(schema, quote, depth),
            _ => Ok(self.json(schema)),
        }
    }

    fn list(&self, schema: &Value, quote: &str, depth: usize) -> Result<Grammar, String> {
        self.keep(schema, &OF_LISTS, "a list")?;
        let item = self.value(&schema["items"], quote, depth + 1)?;
        let least = schema["minItems"].as_u64().unwrap_or(0);
        let most = schema["maxItems"].as_u64().map_or(ENTRIES_MAX, |most| most.min(ENTRIES_MAX.into()) as u32);
        if least > LEAST_MAX || least > most.into() {
            return Err(format!("a list of at least {least}"));
        }
        let mut parts = vec![text("[")];
        (1..least).for_each(|_| parts.extend([item.clone(), text(",")]));
        let more = most - (least as u32).saturating_sub(1);
        let rest = Grammar::Repeated { item: Box::new(item), separator: ",".to_string(), most: more };
        match least {
            0 if most == 0 => {}
            0 => parts.push(Grammar::Optional(Box::new(rest))),
            _ => parts.push(rest),
        }
        parts.push(text("]"));
        Ok(Grammar::Sequence(parts))
    }

    /// The properties of an object. Where it may have others too they are left out; where it has none that are known, or must
    /// have others, nothing can be written in their place.
    fn properties<'b>(&self, schema: &'b Value) -> Result<Vec<Property<'b>>, String> {
        if let Some(layer) = LAYERS.into_iter().find(|layer| schema.get(layer).is_some()) {
            return Err(format!("{layer} of an object"));
        }
        self.keep(schema, &OF_OBJECTS, "an object")?;
        let listed = schema["properties"].as_object();
        let required: Vec<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let others = schema.get("additionalProperties").map_or(listed.is_none(), |others| *others != json!(false));
        let known = |name: &&str| listed.is_some_and(|listed| listed.contains_key(*name));
        if others && listed.is_none_or(Map::is_empty) || !required.iter().all(known) {
            return Err("arguments that it does not list".to_string());
        }
        let property = |(name, schema): (&'b String, &'b Value)| {
            let required = required.contains(&name.as_str());
            Property { name, schema, required }
        };
        Ok(listed.into_iter().flatten().map(property).collect())
    }

    /// Refuses what a schema asks beyond these keywords, where all of it must hold.
    fn keep(&self, schema: &Value, keywords: &[&str], of: &str) -> Result<(), String> {
        let kept = |key: &str| NOTES.contains(&key) || keywords.contains(&key);
        let unkept = schema.as_object().into_iter().flat_map(Map::keys).find(|key| !kept(key));
        match unkept.filter(|_| self.strict) {
            Some(keyword) => Err(format!("{keyword} of {of}")),
            None => Ok(()),
        }
    }

    /// A text that stands bare, and what ends it.
    fn bare(&self, schema: &Value, end: &str) -> Result<Vec<Grammar>, String> {
        let choice: Option<Vec<String>> = match (schema.get("const"), schema.get("enum")) {
            (Some(Value::String(only)), _) => Some(vec![only.clone()]),
            (_, Some(Value::Array(values))) => {
                Some(values.iter().filter_map(Value::as_str).map(String::from).collect())
            }
            _ => None,
        };
        if let Some(texts) = choice.filter(|texts| !texts.is_empty() && texts.iter().all(|text| !text.is_empty())) {
            return Ok(vec![Grammar::Shape(Shape::Choice(texts)), text(end)]);
        }
        self.keep(schema, &[], "a text")?;
        Ok(vec![until(end)])
    }

    /// A property as JSON, with what its references lead to.
    fn json(&self, schema: &Value) -> Grammar {
        let mut schema = schema.clone();
        for shared in ["$defs", "definitions"] {
            if let (Some(defined), Some(schema)) = (self.schema.get(shared), schema.as_object_mut()) {
                schema.entry(shared).or_insert_with(|| defined.clone());
            }
        }
        Grammar::Shape(Shape::Json { schema, strict: self.strict })
    }
}

/// Any text and its end, which ends it without a line of its own too.
fn until(end: &str) -> Grammar {
    Grammar::Until(end.trim_start().to_string())
}
