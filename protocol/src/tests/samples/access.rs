//! Values of the types for keys, and for what has happened.

use crate::journal::{AuditEntry, RequestEntry, RequestsRequest};
use crate::key::{
    CreateKeyRequest, IssuedKey, KeyCard, KeyLimits, KeyRole, KeyState, Knock, LimitsRequest, Login, Proof, Purpose,
    Spent,
};

pub(in crate::tests) fn login() -> Knock {
    Knock { proof: Proof::Login(Login { key: "key_1".into(), print: 7 }), counted_elsewhere: true, ..knock() }
}

pub(in crate::tests) fn knock() -> Knock {
    Knock {
        proof: Proof::Secret("imp_example".into()),
        peer: "127.0.0.1".into(),
        purpose: Purpose::Inference,
        counted_elsewhere: false,
    }
}

pub(in crate::tests) fn create_key() -> CreateKeyRequest {
    CreateKeyRequest {
        label: "laptop".into(),
        role: KeyRole::Readonly,
        models: vec!["impetus-nano".into()],
        expires_in_s: Some(3_600),
        limits: LimitsRequest {
            inference_per_minute: Some(0),
            requests_per_day: Some(100),
            ..LimitsRequest::default()
        },
    }
}

pub(in crate::tests) fn key_card() -> KeyCard {
    KeyCard {
        id: "key_1".into(),
        label: "laptop".into(),
        role: KeyRole::User,
        models: vec!["impetus-nano".into()],
        limits: KeyLimits { inference_per_minute: Some(60), tokens_per_day: Some(100_000), ..KeyLimits::default() },
        state: KeyState::Revoked,
        spent_today: Spent { requests: 3, tokens: 900 },
        created_unix_s: 1_790_000_000,
        expires_unix_s: Some(1_790_003_600),
        revoked_unix_s: Some(1_790_000_100),
        last_used_unix_s: None,
    }
}

pub(in crate::tests) fn issued() -> IssuedKey {
    IssuedKey { secret: "imp_example".into(), card: key_card() }
}

pub(in crate::tests) fn requests() -> RequestsRequest {
    RequestsRequest { limit: 10, after: Some(7), model: None, key: Some("key_1".into()), status: Some("ok".into()) }
}

pub(in crate::tests) fn request_entry() -> RequestEntry {
    RequestEntry {
        id: 6,
        time_unix_ms: 1_790_000_000_000,
        verb: "generate".into(),
        model: Some("impetus-nano".into()),
        key: None,
        status: "ok".into(),
        prompt_tokens: 12,
        completion_tokens: 3,
        latency_ms: 40,
    }
}

pub(in crate::tests) fn audit_entry() -> AuditEntry {
    AuditEntry {
        id: 7,
        time_unix_ms: 1_790_000_000_000,
        actor: "uid 501".into(),
        action: "key.create".into(),
        subject: "key_1".into(),
    }
}
