//! Arguments as formats write them that have no JSON around them: between tags one by one, or as Gemma's objects.
//!
//! Each argument follows the schema of its own property: texts stand bare, everything else as JSON or as the format has it.
//! What a format cannot hold an argument to is refused by name where the tool is strict. `written` calls this.

use engine::text::{Grammar, Shape};
use serde_json::{Map, Value, json};

use super::text;

/// How deep objects and lists may nest.
const DEPTH_MAX: usize = 16;
/// The most entries of a list.
const ENTRIES_MAX: u32 = 256;
/// Where none is required, the most arguments of which any may come first.
const OPTIONAL_MAX: usize = 16;

/// A tool's schema, and whether all of it must hold.
pub struct Arguments<'a> {
    schema: &'a Value,
    strict: bool,
}

/// One property of an object.
struct Property<'a> {
    name: &'a str,
    schema: &'a Value,
    required: bool,
}

impl<'a> Arguments<'a> {
    pub fn new(schema: &'a Value, strict: bool) -> Self {
        Self { schema, strict }
    }

    /// One after the other, each between `key` and its end; `before` goes before and `between` between name and value.
    pub fn tagged(&self, key: &[&str], between: &[&str], end: &str) -> Result<Grammar, String> {
        let mut all = Vec::new();
        for property in properties(self.schema) {
            let mut parts: Vec<Grammar> = key.iter().map(|part| text(part)).collect();
            parts.push(text(property.name));
            parts.extend(between.iter().map(|part| text(part)));
            if property.schema["type"] == "string" {
                parts.extend(self.bare(property.schema, end)?);
            } else {
                parts.push(self.json(property.schema));
                parts.push(text(end));
            }
            parts.push(text("\n"));
            let whole = Grammar::Sequence(parts);
            all.push(if property.required { whole } else { Grammar::Optional(Box::new(whole)) });
        }
        Ok(Grammar::Sequence(all))
    }

    /// An object with bare keys, and texts between `quote`s.
    pub fn quoted(&self, quote: &str) -> Result<Grammar, String> {
        self.object(self.schema, quote, 0)
    }

    fn object(&self, schema: &Value, quote: &str, depth: usize) -> Result<Grammar, String> {
        let (mut required, mut optional) = (Vec::new(), Vec::new());
        for property in properties(schema) {
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
        let schema = self.resolved(schema);
        if depth > DEPTH_MAX {
            return Err("arguments that nest so deep".to_string());
        }
        match schema["type"].as_str() {
            Some("string") => {
                let rest = self.bare(schema, quote)?;
                Ok(Grammar::Sequence(std::iter::once(text(quote)).chain(rest).collect()))
            }
            Some("object") => self.object(schema, quote, depth),
            Some("array") => {
                let item = Box::new(self.value(&schema["items"], quote, depth + 1)?);
                let items = Grammar::Repeated { item, separator: ",".to_string(), most: ENTRIES_MAX };
                Ok(Grammar::Sequence(vec![text("["), Grammar::Optional(Box::new(items)), text("]")]))
            }
            Some("number" | "integer" | "boolean" | "null") => Ok(self.json(schema)),
            _ => Err("arguments without one type".to_string()),
        }
    }

    /// A text that stands bare, and what ends it.
    fn bare(&self, schema: &Value, end: &str) -> Result<Vec<Grammar>, String> {
        let schema = self.resolved(schema);
        let choice = match (schema.get("const"), schema.get("enum")) {
            (Some(Value::String(only)), _) => Some(vec![only.clone()]),
            (_, Some(Value::Array(texts))) => texts.iter().map(|text| text.as_str().map(str::to_string)).collect(),
            _ => None,
        };
        if let Some(texts) = choice.filter(|texts| texts.iter().all(|text| !text.is_empty())) {
            return Ok(vec![Grammar::Shape(Shape::Choice(texts)), text(end)]);
        }
        let kept = ["type", "description", "title", "default", "examples"];
        let unkept = schema.as_object().into_iter().flat_map(Map::keys).find(|key| !kept.contains(&key.as_str()));
        match unkept.filter(|_| self.strict) {
            Some(keyword) => Err(format!("{keyword} of a text")),
            None => Ok(vec![Grammar::Until(end.to_string())]),
        }
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

    /// What a reference into the tool's own schema leads to.
    fn resolved<'s>(&'s self, schema: &'s Value) -> &'s Value {
        let path = schema["$ref"].as_str().and_then(|path| path.strip_prefix('#'));
        path.and_then(|path| self.schema.pointer(path)).unwrap_or(schema)
    }
}

fn properties(schema: &Value) -> impl Iterator<Item = Property<'_>> {
    let required = |name: &str| schema["required"].as_array().is_some_and(|names| names.contains(&json!(name)));
    schema["properties"].as_object().into_iter().flatten().map(move |(name, schema)| Property {
        name: name.as_str(),
        schema,
        required: required(name),
    })
}
