//! `/api/keys`: made, listed, rotated, revoked. A secret is in the answer that makes it and in no other.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use protocol::key::{
    CreateKeyRequest, IssuedKey, KeyCard, KeyLimits, KeyRole, KeyState, LimitsRequest, RotateKeyRequest,
};
use protocol::{Error, ErrorKind};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::{List, Part};
use crate::app::Bridge;
use crate::body::{Members, PathId, path_id, query};
use crate::error::HttpError;
use crate::openapi::{Operation, Routes, part};

/// Returns the routes of this module.
pub fn routes() -> Routes {
    let id = "The key's id, which grants nothing.";
    let list = Operation::new("List the keys, oldest first")
        .query::<Part>()
        .gives_of::<List<Key>, Key>("KeyList", "Every key, revoked ones too, without their secrets.");
    let create = Operation::new("Make a key")
        .more(
            "Limits that are left out are the role's own; 0 is without limit. A day's tokens are never exceeded: a \
             request holds the most it may use of them until it ends, and an answer that would take more ends there.",
        )
        .takes(
            "KeyRequest",
            &[WISH],
            [part::<Wish>()],
            json!({
                "label": "laptop", "role": "user", "expires_in_s": 2_592_000, "tokens_per_day": 1_000_000
            }),
        )
        .makes::<NewKey>("The key with its secret, which is shown this once.");
    let show = Operation::new("Show a key").path("id", id).gives::<Key>("The key, without its secret.");
    let revoke = Operation::new("Revoke a key, at once and for good").path("id", id).gives::<Key>("The key.");
    let rotate = Operation::new("Give a key a new secret")
        .path("id", id)
        .may_take("KeyRotation", &[GRACE], [part::<Grace>()], json!({ "grace_s": 900 }))
        .gives::<NewKey>("The key with its new secret, which is shown this once.");
    Routes::new("Keys")
        .get("/api/keys", self::list, list)
        .post("/api/keys", self::create, create)
        .get("/api/keys/{id}", self::show, show)
        .delete("/api/keys/{id}", self::revoke, revoke)
        .post("/api/keys/{id}/rotate", self::rotate, rotate)
}

/// What a key may do.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Look.
    Readonly,
    /// Look, and have models work.
    User,
    /// Everything.
    Admin,
}

/// Whether a key opens the door.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[schema(as = KeyState)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// It does.
    Active,
    /// Its time is over.
    Expired,
    /// Somebody took it back.
    Revoked,
}

/// How much a key may ask for; null is without limit.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = KeyLimits)]
pub struct Limits {
    inference_per_minute: Option<u32>,
    reads_per_minute: Option<u32>,
    requests_per_day: Option<u64>,
    tokens_per_day: Option<u64>,
}

/// What a key has used since midnight UTC.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = KeySpent)]
pub struct Spent {
    requests: u64,
    tokens: u64,
}

/// A key, without its secret.
#[derive(Debug, Serialize, ToSchema)]
pub struct Key {
    id: String,
    object: &'static str,
    label: String,
    role: Role,
    state: Standing,
    /// The only models it may use; empty is all of them.
    models: Vec<String>,
    limits: Limits,
    spent_today: Spent,
    created: i64,
    expires: Option<i64>,
    revoked: Option<i64>,
    last_used: Option<i64>,
}

/// A key with its secret, which is shown this once.
#[derive(Debug, Serialize, ToSchema)]
pub struct NewKey {
    secret: String,
    #[serde(flatten)]
    key: Key,
}

/// What a new key is to be.
#[derive(Debug, Deserialize, ToSchema)]
pub struct Wish {
    label: String,
    role: Role,
    models: Option<Vec<String>>,
    expires_in_s: Option<u64>,
    inference_per_minute: Option<u32>,
    reads_per_minute: Option<u32>,
    requests_per_day: Option<u64>,
    tokens_per_day: Option<u64>,
}

const WISH: &[&str] = &[
    "label",
    "role",
    "models",
    "expires_in_s",
    "inference_per_minute",
    "reads_per_minute",
    "requests_per_day",
    "tokens_per_day",
];

const GRACE: &[&str] = &["grace_s"];

/// For how long an old secret still works.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub struct Grace {
    grace_s: Option<u64>,
}

/// Lists the keys, oldest first, revoked ones too.
async fn list(
    State(bridge): State<Arc<Bridge>>,
    part: Result<Query<Part>, QueryRejection>,
) -> Result<Json<List<Key>>, HttpError> {
    let part = query(part)?;
    let cards = bridge.daemon.client().await?.keys().await?;
    Ok(Json(part.of(cards.into_iter().map(Key::from).collect(), |key| &key.id)?))
}

/// Shows one key.
async fn show(State(bridge): State<Arc<Bridge>>, id: PathId) -> Result<Json<Key>, HttpError> {
    let id = path_id(id)?;
    let cards = bridge.daemon.client().await?.keys().await?;
    let absent = || Error::new(ErrorKind::NotFound, format!("There is no key '{id}'.")).param("id");
    Ok(Json(cards.into_iter().find(|card| card.id == id).ok_or_else(absent)?.into()))
}

/// Reads what key is wanted.
pub fn read(body: &Bytes) -> Result<CreateKeyRequest, Error> {
    let wish: Wish = Members::read(body, &[WISH])?.part()?;
    Ok(CreateKeyRequest {
        label: wish.label,
        role: match wish.role {
            Role::Readonly => KeyRole::Readonly,
            Role::User => KeyRole::User,
            Role::Admin => KeyRole::Admin,
        },
        models: wish.models.unwrap_or_default(),
        expires_in_s: wish.expires_in_s,
        limits: LimitsRequest {
            inference_per_minute: wish.inference_per_minute,
            reads_per_minute: wish.reads_per_minute,
            requests_per_day: wish.requests_per_day,
            tokens_per_day: wish.tokens_per_day,
        },
    })
}

/// Makes a key.
async fn create(State(bridge): State<Arc<Bridge>>, body: Bytes) -> Result<(StatusCode, Json<NewKey>), HttpError> {
    let issued = bridge.daemon.client().await?.create_key(read(&body)?).await?;
    Ok((StatusCode::CREATED, Json(issued.into())))
}

/// Gives a key a new secret.
async fn rotate(State(bridge): State<Arc<Bridge>>, id: PathId, body: Bytes) -> Result<Json<NewKey>, HttpError> {
    let id = path_id(id)?;
    // Nothing has to be said.
    let grace: Grace = if body.is_empty() { Grace::default() } else { Members::read(&body, &[GRACE])?.part()? };
    let request = RotateKeyRequest { id, grace_s: grace.grace_s.unwrap_or(0) };
    Ok(Json(bridge.daemon.client().await?.rotate_key(request).await?.into()))
}

/// Takes a key back, at once and for good.
async fn revoke(State(bridge): State<Arc<Bridge>>, id: PathId) -> Result<Json<Key>, HttpError> {
    Ok(Json(bridge.daemon.client().await?.revoke_key(&path_id(id)?).await?.into()))
}

impl From<KeyRole> for Role {
    fn from(role: KeyRole) -> Self {
        match role {
            KeyRole::Readonly => Self::Readonly,
            KeyRole::User => Self::User,
            KeyRole::Admin => Self::Admin,
        }
    }
}

impl From<KeyCard> for Key {
    fn from(card: KeyCard) -> Self {
        let KeyLimits { inference_per_minute, reads_per_minute, requests_per_day, tokens_per_day } = card.limits;
        Self {
            id: card.id,
            object: "key",
            label: card.label,
            role: card.role.into(),
            state: match card.state {
                KeyState::Active => Standing::Active,
                KeyState::Expired => Standing::Expired,
                KeyState::Revoked => Standing::Revoked,
            },
            models: card.models,
            limits: Limits { inference_per_minute, reads_per_minute, requests_per_day, tokens_per_day },
            spent_today: Spent { requests: card.spent_today.requests, tokens: card.spent_today.tokens },
            created: card.created_unix_s,
            expires: card.expires_unix_s,
            revoked: card.revoked_unix_s,
            last_used: card.last_used_unix_s,
        }
    }
}

impl From<IssuedKey> for NewKey {
    fn from(issued: IssuedKey) -> Self {
        Self { secret: issued.secret, key: issued.card.into() }
    }
}
