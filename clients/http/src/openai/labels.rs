//! Members that no answer depends on: who asks, notes about the request, and hints for a cache. They are read all the same,
//! because what is wrong with them is a fault of the request like any other. Called by every endpoint that answers.

use std::collections::BTreeMap;

use protocol::Error;
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::request::check_notes;
use crate::body::Members;

/// The members, of which each endpoint knows some.
#[derive(Debug, Deserialize, ToSchema)]
#[expect(dead_code, reason = "only what they are is judged")]
pub struct Labels {
    user: Option<String>,
    safety_identifier: Option<String>,
    /// A hint; prompts that begin alike share their cache in any case.
    prompt_cache_key: Option<String>,
    prompt_cache_retention: Option<Retention>,
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    metadata: Option<Map<String, Value>>,
    client_metadata: Option<BTreeMap<String, Value>>,
}

/// How long a prompt may stay cached; it stays as long as there is room.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = PromptCacheRetention)]
enum Retention {
    #[serde(rename = "in_memory", alias = "in-memory")]
    InMemory,
    #[serde(rename = "24h")]
    Day,
}

impl Labels {
    /// Refuses labels that are none.
    pub fn check(members: &Members) -> Result<(), Error> {
        let labels: Self = members.part()?;
        check_notes(labels.metadata.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Bytes;
    use serde_json::json;

    use super::*;

    fn check(body: Value) -> Result<(), Error> {
        let known = body.as_object().unwrap().keys().map(String::as_str).collect::<Vec<_>>();
        Labels::check(&Members::read(&Bytes::from(body.to_string()), &[&known])?)
    }

    #[test]
    fn labels_are_read_as_what_they_are() {
        let all = json!({
            "user": "a", "safety_identifier": "b", "prompt_cache_key": "c", "prompt_cache_retention": "24h",
            "metadata": {"topic": "d"}, "client_metadata": {"e": 1}
        });
        assert!(check(all).is_ok() && check(json!({"user": null})).is_ok());
        for retention in ["in_memory", "in-memory"] {
            assert!(check(json!({ "prompt_cache_retention": retention })).is_ok());
        }
        for name in ["user", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"] {
            for wrong in [json!(1), json!(true), json!(["a"]), json!({"a": "b"})] {
                let error = check(json!({ name: wrong })).unwrap_err();
                assert_eq!(error.param.as_deref(), Some(name), "{}", error.message);
            }
        }
        for (name, wrong) in [
            ("metadata", json!("a")),
            ("metadata", json!(["a"])),
            ("metadata", json!({"a": 1})),
            ("client_metadata", json!("a")),
            ("prompt_cache_retention", json!("for ever")),
        ] {
            assert_eq!(check(json!({ name: wrong.clone() })).unwrap_err().param.as_deref(), Some(name), "{wrong}");
        }
    }
}
