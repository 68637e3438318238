//! Members that no answer depends on: who asks, notes about the request, and hints for a cache. They are read all the same,
//! because what is wrong with them is a fault of the request like any other. Called by every endpoint that answers.

use std::collections::BTreeMap;

use protocol::Error;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::request::check_notes;
use crate::body::{Members, accept_only};

/// The members, of which each endpoint knows some.
#[derive(Debug, Deserialize, ToSchema)]
#[expect(dead_code, reason = "only what they are is judged")]
pub struct Labels {
    user: Option<String>,
    safety_identifier: Option<String>,
    /// A hint; prompts that begin alike share their cache in any case.
    prompt_cache_key: Option<String>,
    prompt_cache_retention: Option<Retention>,
    prompt_cache_options: Option<CacheOptions>,
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    metadata: Option<Map<String, Value>>,
    client_metadata: Option<BTreeMap<String, Value>>,
    /// A hint of llama-server's clients; what was computed of a prompt changes no answer.
    cache_prompt: Option<bool>,
    /// Another: which place answers.
    id_slot: Option<i64>,
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

/// Hints for a cache; which prompts share it, and for how long, depends on none of them.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = PromptCacheOptions)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only what they are is judged")]
struct CacheOptions {
    mode: Option<CacheMode>,
    ttl: Option<String>,
    /// Only false: every request is answered.
    prewarm: Option<Value>,
}

/// Who says where a prompt is cut for a cache.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = PromptCacheMode)]
#[serde(rename_all = "lowercase")]
enum CacheMode {
    Implicit,
    Explicit,
}

impl Labels {
    /// Refuses labels that are none.
    pub fn check(members: &Members) -> Result<(), Error> {
        let labels: Self = members.part()?;
        let prewarm = labels.prompt_cache_options.as_ref().and_then(|options| options.prewarm.as_ref());
        accept_only("prompt_cache_options.prewarm", prewarm, &[json!(false)])?;
        check_notes(labels.metadata.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Bytes;

    use super::*;

    fn check(body: Value) -> Result<(), Error> {
        let known = body.as_object().unwrap().keys().map(String::as_str).collect::<Vec<_>>();
        Labels::check(&Members::read(&Bytes::from(body.to_string()), &[&known])?)
    }

    #[test]
    fn options_of_a_cache_are_hints_and_wishes_among_them_are_refused() {
        for (name, wish) in
            [("prewarm", json!(true)), ("comparison_response_id", json!("resp_1")), ("mode", json!("none"))]
        {
            let error = check(json!({"prompt_cache_options": { name: wish }})).unwrap_err();
            assert_eq!(error.param, Some(format!("prompt_cache_options.{name}")));
        }
    }

    #[test]
    fn labels_are_read_as_what_they_are() {
        let all = json!({
            "cache_prompt": false, "id_slot": -1, "user": "a", "safety_identifier": "b", "prompt_cache_key": "c", "prompt_cache_retention": "24h",
            "metadata": {"topic": "d"}, "client_metadata": {"e": 1},
            "prompt_cache_options": {"mode": "explicit", "ttl": "30m", "prewarm": false}
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
