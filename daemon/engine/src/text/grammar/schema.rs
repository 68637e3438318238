//! Makes a JSON schema ready for the grammar engine, and refuses by name what the engine would not enforce.
//!
//! Objects that list their properties and say nothing about others are closed: every answer still fits the schema, and a
//! model has no reason to invent members. White space is bounded, so that no answer is blanks without end. A lenient
//! schema loses what cannot be enforced instead of being refused.

use serde_json::{Map, Value, json};

use super::GrammarError;

/// How deep a schema may nest.
const DEPTH_MAX: usize = 64;
/// The white space between the tokens of an answer: a space, or a new line and its indentation.
const SPACE: &str = r"[ ]|\n[ ]{0,40}|\n\t{0,10}";

/// Keywords of JSON Schema that the grammar engine cannot enforce.
const NOT_ENFORCED: &[&str] = &[
    "not",
    "if",
    "then",
    "else",
    "contains",
    "minContains",
    "maxContains",
    "propertyNames",
    "uniqueItems",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "unevaluatedItems",
    "unevaluatedProperties",
    "$dynamicRef",
    "$recursiveRef",
];
/// Keywords whose value is a schema.
const ONE: &[&str] = &["items", "additionalItems", "additionalProperties"];
/// Keywords whose value is a list of schemas.
const LIST: &[&str] = &["anyOf", "oneOf", "allOf", "prefixItems", "items"];
/// Keywords whose value has a schema under each name.
const NAMED: &[&str] = &["properties", "patternProperties", "$defs", "definitions"];
/// Keywords that lay another schema over the same value.
const LAYERS: &[&str] = &["anyOf", "oneOf", "allOf", "$ref"];

/// The schema as the grammar engine is given it.
pub fn prepared(schema: &Value, strict: bool) -> Result<Value, GrammarError> {
    let mut schema = match schema {
        Value::Bool(true) => json!({}),
        Value::Object(_) => schema.clone(),
        _ => return Err(GrammarError::Invalid("the schema is not a JSON object".to_string())),
    };
    let mut walk = Walk { strict, layered: false };
    walk.visit(&mut schema, "#", 0)?;
    if !walk.layered {
        close(&mut schema);
    }
    schema["x-guidance"] = json!({ "whitespace_pattern": SPACE, "lenient": !strict, "coerce_one_of": !strict });
    Ok(schema)
}

struct Walk {
    strict: bool,
    /// Some value has properties from more than one schema, so that none of them alone may be closed.
    layered: bool,
}

impl Walk {
    fn visit(&mut self, schema: &mut Value, path: &str, depth: usize) -> Result<(), GrammarError> {
        if depth > DEPTH_MAX {
            return Err(GrammarError::TooLarge { what: "schema's depth", value: depth, most: DEPTH_MAX });
        }
        let Value::Object(object) = schema else { return Ok(()) };
        object.shift_remove("x-guidance");
        if object.get("uniqueItems") == Some(&json!(false)) {
            object.shift_remove("uniqueItems");
        }
        if let Some(keyword) = NOT_ENFORCED.iter().find(|keyword| object.contains_key(**keyword)) {
            if self.strict {
                return Err(GrammarError::NotEnforced { feature: format!("'{keyword}'"), path: path.to_string() });
            }
            object.retain(|name, _| !NOT_ENFORCED.contains(&name.as_str()));
        }
        let layers = LAYERS.iter().filter(|layer| object.contains_key(**layer)).count();
        let shaped = ["properties", "required", "additionalProperties"].iter().any(|name| object.contains_key(*name));
        self.layered |= object.contains_key("allOf") || layers > 1 || layers == 1 && shaped;
        for (name, value) in object.iter_mut() {
            let below = |step: &str| format!("{path}/{name}{step}");
            match value {
                Value::Object(_) if ONE.contains(&name.as_str()) => self.visit(value, &below(""), depth + 1)?,
                Value::Array(list) if LIST.contains(&name.as_str()) => {
                    for (at, inner) in list.iter_mut().enumerate() {
                        self.visit(inner, &below(&format!("/{at}")), depth + 1)?;
                    }
                }
                Value::Object(named) if NAMED.contains(&name.as_str()) => {
                    for (key, inner) in named.iter_mut() {
                        self.visit(inner, &below(&format!("/{key}")), depth + 1)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Closes every object that lists its properties and says nothing of others.
fn close(schema: &mut Value) {
    let Value::Object(object) = schema else { return };
    if object.contains_key("properties") && !names_others(object) {
        object.insert("additionalProperties".to_string(), json!(false));
    }
    for (name, value) in object.iter_mut() {
        match value {
            Value::Object(_) if ONE.contains(&name.as_str()) => close(value),
            Value::Array(list) if LIST.contains(&name.as_str()) => list.iter_mut().for_each(close),
            Value::Object(named) if NAMED.contains(&name.as_str()) => named.values_mut().for_each(close),
            _ => {}
        }
    }
}

/// Whether an object may or must have members that it does not list.
fn names_others(object: &Map<String, Value>) -> bool {
    let listed = |name: &Value| name.as_str().is_some_and(|name| object["properties"].get(name).is_some());
    let required = object.get("required").and_then(Value::as_array);
    object.contains_key("additionalProperties")
        || object.contains_key("patternProperties")
        || object.contains_key("minProperties")
        || required.is_some_and(|names| !names.iter().all(listed))
}
