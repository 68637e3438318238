//! The requests of a batch: the lines of a file in, what is to be asked out, or what is wrong with them. Pure.

use std::collections::HashSet;

use axum::body::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::object::{Endpoint, Fault};
use crate::body::strict;

/// The most requests of a batch.
const LINES_MAX: usize = 50_000;

/// The most faults that are told.
const FAULTS_MAX: usize = 100;

/// The longest name of a request, in bytes.
const NAME_BYTES_MAX: usize = 512;

/// One request.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// What its client calls it; no two of a batch are called the same.
    pub custom_id: String,
    /// What is asked.
    pub body: Bytes,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sent {
    custom_id: String,
    method: String,
    url: String,
    body: Map<String, Value>,
}

/// Reads the lines of a batch that asks `endpoint`; blank ones do not count, nor does the mark that Windows' editors put
/// before a text.
pub fn read(text: &str, endpoint: Endpoint) -> Result<Vec<Line>, Vec<Fault>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (mut lines, mut faults, mut names) = (Vec::new(), Vec::new(), HashSet::new());
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        if lines.len() == LINES_MAX {
            let message = format!("The file has more than {LINES_MAX} requests.");
            return Err(vec![fault("too_many_requests", message, None, None)]);
        }
        match request(line, endpoint) {
            Ok(line) if names.insert(line.custom_id.clone()) => lines.push(line),
            Ok(line) => {
                let message = format!("Another request is called '{}' too.", line.custom_id);
                faults.push(fault("duplicate_custom_id", message, Some("custom_id"), Some(number)));
            }
            Err((param, message)) => faults.push(fault("invalid_request", message, param, Some(number))),
        }
        if faults.len() == FAULTS_MAX {
            break;
        }
    }
    if lines.is_empty() && faults.is_empty() {
        faults.push(fault("empty_file", "The file has no requests.".to_owned(), None, None));
    }
    if faults.is_empty() { Ok(lines) } else { Err(faults) }
}

fn request(line: &str, endpoint: Endpoint) -> Result<Line, (Option<&'static str>, String)> {
    let sent = serde_json::from_str(line).and_then(|line| strict::read(&line));
    let Sent { custom_id, method, url, mut body } =
        sent.map_err(|error| (None, format!("The line cannot be read: {error}.")))?;
    if custom_id.is_empty() || custom_id.len() > NAME_BYTES_MAX {
        return Err((Some("custom_id"), format!("'custom_id' has 1 to {NAME_BYTES_MAX} bytes.")));
    }
    if method != "POST" {
        return Err((Some("method"), format!("'method' is '{method}'; it is POST.")));
    }
    if url != endpoint.path() {
        return Err((Some("url"), format!("'url' is '{url}'; this batch asks {}.", endpoint.path())));
    }
    if let Some(name) = ["stream", "background"].iter().find(|name| body.get(**name) == Some(&json!(true))) {
        return Err((Some("body"), format!("'{name}' has no place in a batch.")));
    }
    // Whoever waits for an answer goes before those who come back for it.
    body.insert("priority".to_owned(), json!("low"));
    Ok(Line { custom_id, body: Value::Object(body).to_string().into() })
}

fn fault(code: &str, message: String, param: Option<&str>, line: Option<u64>) -> Fault {
    Fault { code: code.to_owned(), message, param: param.map(str::to_owned), line }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(custom_id: &str, more: Value) -> String {
        let mut line = json!({"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": {}});
        line.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        line.to_string()
    }

    #[test]
    fn every_line_is_asked_in_its_turn_and_last_of_all() {
        let text = format!("{}\n\n{}", line("a", json!({"body": {"n": 1, "priority": "high"}})), line("b", json!({})));
        let lines = read(&text, Endpoint::Chat).unwrap();
        assert_eq!(lines.iter().map(|line| line.custom_id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(read(&format!("\u{feff}{text}"), Endpoint::Chat).unwrap().len(), 2);
        let asked: Value = serde_json::from_slice(&lines[0].body).unwrap();
        assert_eq!(asked, json!({"n": 1, "priority": "low"}));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let text = [
            line("a", json!({})),
            line("a", json!({})),
            line("b", json!({"url": "/v1/embeddings"})),
            line("c", json!({"method": "GET"})),
            line("d", json!({"body": {"stream": true}})),
            line("", json!({})),
            "{".to_owned(),
            line("e", json!({"more": 1})),
            json!(["f", "POST", "/v1/chat/completions", {}]).to_string(),
        ]
        .join("\n");
        let faults = read(&text, Endpoint::Chat).unwrap_err();
        let told: Vec<_> = faults.iter().map(|fault| (fault.line.unwrap(), fault.param.as_deref())).collect();
        let expected =
            [(2, Some("custom_id")), (3, Some("url")), (4, Some("method")), (5, Some("body")), (6, Some("custom_id"))];
        assert_eq!(told[..5], expected);
        assert_eq!(told[5..], [(7, None), (8, None), (9, None)]);
        assert_eq!(read("\n \n", Endpoint::Chat).unwrap_err()[0].code, "empty_file");
        let many = (0..=LINES_MAX).map(|at| line(&at.to_string(), json!({}))).collect::<Vec<_>>().join("\n");
        assert_eq!(read(&many, Endpoint::Chat).unwrap_err()[0].code, "too_many_requests");
    }
}
