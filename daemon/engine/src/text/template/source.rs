//! Finds a folder's chat templates, in the places where publishers put them.
//!
//! `chat_template.jinja` goes first, with the one for tools in a folder beside it, then `chat_template.json`, then
//! `chat_template` in `tokenizer_config.json`, which is a text or a list of named texts. The template room calls it once per
//! model.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::text::{TextError, files};

/// The name of the template that every model has.
pub const DEFAULT: &str = "default";
/// The name of the template for conversations with tools, where there are several.
pub const TOOL_USE: &str = "tool_use";
/// Where newer folders have it; a pull brings it.
const TOOL_USE_FILE: &str = "additional_chat_templates/tool_use.jinja";

/// The most bytes of a template; the longest known have 30 kB.
const BYTES_MAX: usize = 1 << 20;

/// Templates by name, and the file that has them.
pub struct Found {
    pub path: PathBuf,
    pub sources: BTreeMap<String, String>,
}

/// Finds the templates of a folder.
pub fn find(dir: &Path) -> Result<Option<Found>, TextError> {
    let found = search(dir)?;
    let long = |found: &Found| found.sources.values().map(String::len).find(|bytes| *bytes > BYTES_MAX);
    if let Some((found, bytes)) = found.as_ref().and_then(|found| Some((found, long(found)?))) {
        let problem = format!("its chat template has {bytes} bytes, and the most is {BYTES_MAX}");
        return Err(TextError::invalid(&found.path, problem));
    }
    Ok(found)
}

fn search(dir: &Path) -> Result<Option<Found>, TextError> {
    if let Some((path, source)) = text(dir, "chat_template.jinja")? {
        let mut sources = BTreeMap::from([(DEFAULT.to_string(), source)]);
        sources.extend(text(dir, TOOL_USE_FILE)?.map(|(_, source)| (TOOL_USE.to_string(), source)));
        return Ok(Some(Found { path, sources }));
    }
    for file in ["chat_template.json", "tokenizer_config.json"] {
        let object = files::read_object(dir, file)?;
        let sources = match object.get("chat_template") {
            None | Some(Value::Null) => continue,
            Some(Value::String(source)) => BTreeMap::from([(DEFAULT.to_string(), source.clone())]),
            Some(Value::Array(list)) => list.iter().filter_map(named).collect(),
            Some(_) => BTreeMap::new(),
        };
        if !sources.contains_key(DEFAULT) {
            return Err(TextError::invalid(&dir.join(file), "chat_template has no template named default"));
        }
        return Ok(Some(Found { path: dir.join(file), sources }));
    }
    Ok(None)
}

/// A template that has a file of its own.
fn text(dir: &Path, name: &str) -> Result<Option<(PathBuf, String)>, TextError> {
    let Some((path, content)) = files::read(dir, name)? else { return Ok(None) };
    let source = String::from_utf8(content).map_err(|error| TextError::invalid(&path, error.to_string()))?;
    Ok(Some((path, source)))
}

fn named(entry: &Value) -> Option<(String, String)> {
    Some((entry.get("name")?.as_str()?.to_string(), entry.get("template")?.as_str()?.to_string()))
}

/// Replaces the tags that mark an assistant's own words for training by ones that only group; whitespace control and
/// scope stay as they are.
pub fn plain(source: &str) -> String {
    let mut plain = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let (before, tag) = rest.split_at(start + 2);
        plain.push_str(before);
        rest = tag;
        let Some(end) = tag.find("%}") else { break };
        let replacement = match tag[..end].trim_matches(['-', '+']).trim() {
            "generation" => "with",
            "endgeneration" => "endwith",
            _ => continue,
        };
        let (inside, after) = tag.split_at(end);
        let inside = inside.replace("endgeneration", replacement).replace("generation", replacement);
        plain.push_str(&inside);
        rest = after;
    }
    plain.push_str(rest);
    plain
}
