//! Names what one schema asks and the grammar engine does not enforce. `schema` calls this for each schema.

use serde_json::{Map, Value};

use super::formats::{Format, enforced};

/// Keywords of JSON Schema that the grammar engine cannot enforce.
pub const KEYWORDS: &[&str] = &[
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

/// Keywords whose value is a number, or holds some, and cannot be moved to one nearby.
const NUMBERS: &[&str] = &["const", "enum", "multipleOf"];

/// The first thing that is not enforced; `inner` schemas are those that stand in others.
pub fn find(object: &Map<String, Value>, inner: bool) -> Option<String> {
    let keyword = KEYWORDS.iter().find(|keyword| object.contains_key(**keyword)).map(|keyword| format!("'{keyword}'"));
    keyword
        .or_else(|| pattern(object))
        .or_else(|| reference(object, inner))
        .or_else(|| format(object))
        .or_else(|| number(object))
        .or_else(|| {
            // A name may be given twice and counts once.
            let least = object.get("minProperties").and_then(Value::as_u64)?;
            let listed = object.get("required").and_then(Value::as_array).map_or(0, Vec::len) as u64;
            let closed = object.get("additionalProperties") == Some(&Value::Bool(false));
            let open = !closed || object.contains_key("patternProperties");
            (open && least > listed + 1).then(|| format!("'minProperties' of {least} with names of any kind"))
        })
}

/// References are looked up from the root of the whole, by the names on the way.
fn reference(object: &Map<String, Value>, inner: bool) -> Option<String> {
    let leads_away = |reference: &&str| *reference != "#" && !reference.starts_with("#/");
    let away = object.get("$ref").and_then(Value::as_str).filter(leads_away);
    let base = || inner && object.get("$id").is_some_and(Value::is_string) && holds_reference(object);
    away.map(|reference| format!("'$ref' to '{reference}', as a reference that does not begin with '#/'"))
        .or_else(|| base().then(|| "'$id' of a part with references of its own".to_string()))
}

/// What regular expressions may ask and automata do not do: to look around, or back at what matched before.
const AROUND: [&str; 4] = ["(?=", "(?!", "(?<=", "(?<!"];

fn pattern(object: &Map<String, Value>) -> Option<String> {
    let own = object.get("pattern").and_then(Value::as_str);
    let named = object.get("patternProperties").and_then(Value::as_object).into_iter().flat_map(Map::keys);
    let looks = own.into_iter().chain(named.map(String::as_str)).any(looks_around);
    looks.then(|| "a pattern that looks around or back".to_string())
}

/// Leaves out the patterns of which that is so.
pub fn leave_patterns_out(object: &mut Map<String, Value>) {
    if object.get("pattern").and_then(Value::as_str).is_some_and(looks_around) {
        object.shift_remove("pattern");
    }
    if let Some(Value::Object(named)) = object.get_mut("patternProperties") {
        named.retain(|pattern, _| !looks_around(pattern));
    }
}

fn looks_around(pattern: &str) -> bool {
    let plain = pattern.replace("\\\\", "").replace("\\(", "");
    let back =
        plain.split('\\').skip(1).any(|after| after.starts_with(|letter: char| matches!(letter, '1'..='9' | 'k')));
    back || AROUND.iter().any(|around| plain.contains(around))
}

fn holds_reference(object: &Map<String, Value>) -> bool {
    object.iter().any(|(name, value)| name == "$ref" || within(value, &holds_reference))
}

/// Whether an object in this value is so.
fn within(value: &Value, is_so: &impl Fn(&Map<String, Value>) -> bool) -> bool {
    match value {
        Value::Object(object) => is_so(object),
        Value::Array(list) => list.iter().any(|value| within(value, is_so)),
        _ => false,
    }
}

fn format(object: &Map<String, Value>) -> Option<String> {
    let name = object.get("format")?.as_str().filter(|_| holds_text(object))?;
    (enforced(name) == Format::Unknown).then(|| format!("format '{name}'"))
}

/// Whether a value of this schema may be a text: formats of numbers are remarks.
pub fn holds_text(object: &Map<String, Value>) -> bool {
    match object.get("type") {
        Some(Value::String(name)) => name == "string",
        Some(Value::Array(names)) => names.iter().any(|name| name == "string"),
        _ => true,
    }
}

/// The grammar engine counts in floating point, where whole numbers past 2⁵³ run into one another.
fn number(object: &Map<String, Value>) -> Option<String> {
    let rounded = |keyword: &&&str| object.get(**keyword).is_some_and(is_rounded);
    NUMBERS.iter().find(rounded).map(|keyword| format!("a number of so many digits in '{keyword}'"))
}

fn is_rounded(value: &Value) -> bool {
    match value {
        Value::Number(number) => {
            let whole = number.as_i64().map(i128::from).or(number.as_u64().map(i128::from));
            whole.is_some_and(|whole| number.as_f64().is_none_or(|rounded| rounded as i128 != whole))
        }
        Value::Array(list) => list.iter().any(is_rounded),
        Value::Object(object) => object.values().any(is_rounded),
        _ => false,
    }
}
