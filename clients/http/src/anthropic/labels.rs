//! Members that no answer depends on: who asks, which tier of service would do, and a hint for the cache. They are read all
//! the same, because what is wrong with them is a fault of the request like any other. Called by `messages`.

use protocol::Error;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::body::Members;

/// The members, of which each endpoint knows some.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = AnthropicLabels)]
#[expect(dead_code, reason = "only what they are is judged")]
pub struct Labels {
    metadata: Option<Notes>,
    service_tier: Option<Tier>,
    cache_control: Option<CacheControl>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = AnthropicMetadata)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only what it is is judged")]
struct Notes {
    user_id: Option<String>,
}

/// There is one tier, which is in both.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = AnthropicServiceTier)]
#[serde(rename_all = "snake_case")]
enum Tier {
    Auto,
    StandardOnly,
}

/// A hint: the beginning of every prompt is cached without being asked, for as long as there is room.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = AnthropicCacheControl)]
#[expect(dead_code, reason = "only what it is is judged")]
pub struct CacheControl {
    r#type: CacheKind,
    ttl: Option<CacheTime>,
    /// Among whom it may be shared, as coding agents say; keys share nothing that their owner did not let them.
    scope: Option<String>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = AnthropicCacheControlType)]
#[serde(rename_all = "lowercase")]
enum CacheKind {
    Ephemeral,
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = AnthropicCacheControlTime)]
enum CacheTime {
    #[serde(rename = "5m")]
    Minutes,
    #[serde(rename = "1h")]
    Hour,
}

impl Labels {
    /// Refuses labels that are none.
    pub fn check(members: &Members) -> Result<(), Error> {
        members.part::<Self>().map(drop)
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Bytes;
    use serde_json::{Value, json};

    use super::*;

    fn check(name: &str, value: &Value) -> Result<(), Error> {
        Labels::check(&Members::read(&Bytes::from(json!({ name: value }).to_string()), &[&[name]])?)
    }

    #[test]
    fn labels_are_read_as_what_they_are() {
        for (name, fine) in [
            ("metadata", json!({"user_id": "someone"})),
            ("metadata", json!({"user_id": null})),
            ("metadata", json!({})),
            ("service_tier", json!("auto")),
            ("service_tier", json!("standard_only")),
            ("cache_control", json!({"type": "ephemeral", "ttl": "1h"})),
            ("cache_control", Value::Null),
        ] {
            assert!(check(name, &fine).is_ok(), "{name}: {fine}");
        }
        for (name, wrong) in [
            ("metadata", json!("someone")),
            ("metadata", json!({"user_id": 1})),
            ("metadata", json!({"user": "someone"})),
            ("service_tier", json!("priority")),
            ("service_tier", json!(true)),
            ("cache_control", json!({"type": "eternal"})),
            ("cache_control", json!({"type": "ephemeral", "ttl": "1y"})),
            ("cache_control", json!("ephemeral")),
        ] {
            let param = check(name, &wrong).unwrap_err().param.unwrap_or_default();
            assert!(param.starts_with(name), "{name}: {wrong}: {param}");
        }
    }
}
