//! How much longer a tokenizer may make a text, before one is opened: its steps multiply one another.
//!
//! A file of a few hundred bytes can ask for ten replacements that each write a hundred letters for one. What is refused
//! here is far from what any model does. Only the tokenizer calls this.

use serde_json::Value;

/// How many times longer a normalizer may make a text; known ones write three bytes for a space.
const NORMALIZED_MAX: usize = 256;
/// How many times a post-processor may write a text; known ones write it once.
const PROCESSED_MAX: usize = 16;

/// What is wrong with the steps of a tokenizer, if they may make texts too long.
pub fn problem(normalizer: &Value, processor: &Value) -> Option<String> {
    let normalized = normalized(normalizer);
    if normalized > NORMALIZED_MAX {
        return Some(format!(
            "its normalizer may make a text {normalized} times as long; the most is {NORMALIZED_MAX}"
        ));
    }
    let processed = processed(processor);
    (processed > PROCESSED_MAX)
        .then(|| format!("its post-processor writes a text {processed} times; the most is {PROCESSED_MAX}"))
}

fn normalized(step: &Value) -> usize {
    match step["type"].as_str() {
        Some("Sequence") => product(&step["normalizers"], normalized),
        Some("Replace") => {
            let written = step["content"].as_str().map_or(0, str::len);
            // A regular expression may match a single letter, and nothing before it.
            let replaced = step["pattern"]["String"].as_str().map_or(1, str::len);
            written.div_ceil(replaced.max(1)).max(1)
        }
        _ => 1,
    }
}

fn processed(step: &Value) -> usize {
    match step["type"].as_str() {
        Some("Sequence") => product(&step["processors"], processed),
        Some("TemplateProcessing") => {
            let times = |pieces: &Value| {
                let pieces = pieces.as_array().map_or(&[][..], Vec::as_slice);
                pieces.iter().filter(|piece| piece.get("Sequence").is_some()).count()
            };
            times(&step["single"]).max(times(&step["pair"])).max(1)
        }
        _ => 1,
    }
}

fn product(steps: &Value, of: fn(&Value) -> usize) -> usize {
    steps.as_array().map_or(1, |steps| steps.iter().map(of).fold(1, usize::saturating_mul))
}
