//! Writes references in the one way that the grammar engine reads them: from the root, by names that need no escapes.
//!
//! A part whose pointer has escapes gets a name of its own among the definitions. What a lenient schema refers to and does not hold
//! is left out. `schema` calls this before anything else looks at references.

use serde_json::{Map, Value, json};

use super::{DEPTH_MAX, children};

/// The most parts that get a name.
const NAMED_MAX: usize = 1024;

/// Rewrites the references of a whole schema.
pub fn write_plainly(schema: &mut Value, strict: bool) {
    let root = schema.clone();
    let mut named: Vec<String> = Vec::new();
    rewrite(schema, &root, strict, &mut named, 0);
    let mut at = 0;
    while let Some(pointer) = named.get(at).cloned() {
        let mut part = target(&pointer, &root).cloned().unwrap_or(Value::Null);
        rewrite(&mut part, &root, strict, &mut named, 0);
        if let Value::Object(defined) = &mut schema["$defs"] {
            defined.insert(name(at), part);
        } else {
            schema["$defs"] = json!({ name(at): part });
        }
        at += 1;
    }
}

fn rewrite(schema: &mut Value, root: &Value, strict: bool, named: &mut Vec<String>, depth: usize) {
    let Value::Object(object) = schema else { return };
    if depth > DEPTH_MAX {
        return;
    }
    rewrite_own(object, root, strict, named);
    children(object).into_iter().for_each(|(_, inner)| rewrite(inner, root, strict, named, depth + 1));
}

fn rewrite_own(object: &mut Map<String, Value>, root: &Value, strict: bool, named: &mut Vec<String>) {
    let Some(reference) = object.get("$ref").and_then(Value::as_str) else { return };
    let found = target(reference, root).is_some();
    if !found && !strict {
        object.shift_remove("$ref");
    } else if found && reference.contains(['~', '%']) && named.len() < NAMED_MAX {
        let known = named.iter().position(|known| known == reference);
        let at = known.unwrap_or_else(|| {
            named.push(reference.to_string());
            named.len() - 1
        });
        object["$ref"] = json!(format!("#/$defs/{}", name(at)));
    }
}

fn name(at: usize) -> String {
    format!("impetus part {at}")
}

/// What a reference from the root leads to.
fn target<'a>(reference: &str, root: &'a Value) -> Option<&'a Value> {
    let pointer = decoded(reference.strip_prefix('#')?)?;
    root.pointer(&pointer).filter(|part| part.is_object() || part.is_boolean())
}

/// A pointer without the escapes that it has as a part of an address.
fn decoded(pointer: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = pointer.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = [rest.next()?, rest.next()?];
        bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
    }
    String::from_utf8(bytes).ok()
}
