//! Makes a JSON schema ready for the grammar engine, and refuses by name what the engine would not enforce.
//!
//! Objects that list their properties and say nothing about others are closed: every answer still fits the schema, and a
//! model has no reason to invent members. White space is bounded, so that no answer is blanks without end. A lenient
//! schema loses what cannot be enforced instead of being refused.

mod apart;
mod formats;
mod references;
mod unenforced;

use serde_json::{Map, Value, json};

use self::formats::{Format, enforced};
use super::GrammarError;

/// How deep a schema may nest.
const DEPTH_MAX: usize = 64;
/// The white space between the tokens of an answer: a space, or a new line and its indentation.
const SPACE: &str = r"[ ]|\n[ ]{0,40}|\n\t{0,10}";

/// The letters of escapes without `u`: there is then one way only to write a name.
const ESCAPES: &str = "nrbtf\\\"";

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
    references::write_plainly(&mut schema, strict);
    let mut walk = Walk { strict, layered: false, root: schema.clone() };
    walk.visit(&mut schema, "#", 0)?;
    if !walk.layered {
        close(&mut schema);
    }
    let mut guidance = json!({ "whitespace_pattern": SPACE, "lenient": !strict, "coerce_one_of": !strict });
    if is_open(&mut schema) {
        guidance["json_allowed_escapes"] = json!(ESCAPES);
    }
    schema["x-guidance"] = guidance;
    Ok(schema)
}

struct Walk {
    strict: bool,
    /// Some value has properties from more than one schema, or may fit one of several only, so that none alone may be closed.
    layered: bool,
    /// What references are looked up in.
    root: Value,
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
        if self.strict
            && let Some(feature) = unenforced::find(object, depth > 0)
        {
            return Err(GrammarError::NotEnforced { feature, path: path.to_string() });
        }
        object.retain(|name, _| !unenforced::KEYWORDS.contains(&name.as_str()));
        unenforced::leave_patterns_out(object);
        self.ease(object);
        let layers = LAYERS.iter().filter(|layer| object.contains_key(**layer)).count();
        let shaped = ["properties", "required", "additionalProperties"].iter().any(|name| object.contains_key(*name));
        // A closed member of `oneOf` fits less, and what it fits might fit another member that is not closed.
        let exclusive = self.strict && object.contains_key("oneOf");
        self.layered |= object.contains_key("allOf") || layers > 1 || layers == 1 && shaped || exclusive;
        write_format_out(object);
        round_inward(object);
        for (step, inner) in children(object) {
            self.visit(inner, &format!("{path}/{step}"), depth + 1)?;
        }
        Ok(())
    }

    /// Makes `anyOf` of a `oneOf` that comes to the same.
    fn ease(&self, object: &mut Map<String, Value>) {
        let alternatives = object.get("oneOf").and_then(Value::as_array);
        let same = alternatives.is_some_and(|alternatives| apart::all_apart(alternatives, &self.root));
        if same && !object.contains_key("anyOf") {
            let renamed = |(name, value)| (if name == "oneOf" { "anyOf".to_string() } else { name }, value);
            *object = std::mem::take(object).into_iter().map(renamed).collect();
        }
    }
}

/// The schemas right inside of one, and where they stand in it.
fn children(object: &mut Map<String, Value>) -> Vec<(String, &mut Value)> {
    let mut children = Vec::new();
    for (name, value) in object.iter_mut() {
        match value {
            Value::Object(_) if ONE.contains(&name.as_str()) => children.push((name.clone(), value)),
            Value::Array(list) if LIST.contains(&name.as_str()) => {
                children.extend(list.iter_mut().enumerate().map(|(at, inner)| (format!("{name}/{at}"), inner)));
            }
            Value::Object(named) if NAMED.contains(&name.as_str()) => {
                children.extend(named.iter_mut().map(|(key, inner)| (format!("{name}/{key}"), inner)));
            }
            _ => {}
        }
    }
    children
}

/// Writes a format that the grammar engine lets too much through of as a pattern.
fn write_format_out(object: &mut Map<String, Value>) {
    let Some(name) = object.get("format").and_then(Value::as_str) else { return };
    let Format::Pattern(pattern, length_max) = enforced(name) else { return };
    object.shift_remove("format");
    if let Some(most) = length_max {
        let most = object.get("maxLength").and_then(Value::as_u64).map_or(most, |own| own.min(most));
        object.insert("maxLength".to_string(), json!(most));
    }
    if !object.contains_key("pattern") {
        object.insert("pattern".to_string(), json!(pattern));
    } else if let Value::Array(layers) = object.entry("allOf").or_insert_with(|| json!([])) {
        layers.push(json!({ "pattern": pattern }));
    }
}

/// The grammar engine counts in floating point: a bound between two such numbers moves to the one inside.
fn round_inward(object: &mut Map<String, Value>) {
    for (name, is_least) in
        [("minimum", true), ("exclusiveMinimum", true), ("maximum", false), ("exclusiveMaximum", false)]
    {
        let Some(bound) = object.get_mut(name) else { continue };
        let Some(whole) = bound.as_i64().map(i128::from).or(bound.as_u64().map(i128::from)) else { continue };
        let near = whole as f64;
        if is_least && (near as i128) < whole {
            *bound = json!(near.next_up());
        } else if !is_least && (near as i128) > whole {
            *bound = json!(near.next_down());
        }
    }
}

/// Closes every object that lists its properties and says nothing of others.
fn close(schema: &mut Value) {
    let Value::Object(object) = schema else { return };
    if object.contains_key("properties") && !names_others(object) {
        object.insert("additionalProperties".to_string(), json!(false));
    }
    children(object).into_iter().for_each(|(_, inner)| close(inner));
}

/// Whether some object may have members besides those that it lists, whose names must then be told apart from those.
fn is_open(schema: &mut Value) -> bool {
    let Value::Object(object) = schema else { return false };
    let listed = ["properties", "patternProperties", "required"].iter().any(|name| object.contains_key(*name));
    let patterns = object.contains_key("patternProperties");
    let open = listed && (patterns || object.get("additionalProperties") != Some(&json!(false)));
    // What stands elsewhere is not looked at.
    let known = ["#/$defs/", "#/definitions/"];
    let reference = object.get("$ref").and_then(Value::as_str);
    let elsewhere = reference.is_some_and(|to| to != "#" && !known.iter().any(|known| to.starts_with(known)));
    open || elsewhere || children(object).into_iter().any(|(_, inner)| is_open(inner))
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
