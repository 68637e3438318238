//! `impetusctl key`: the keys of the HTTP bridge. A secret is printed when it is made and never again, except for the
//! first key's, which lies in a file of its owner.

use protocol::key::{CreateKeyRequest, IssuedKey, KeyCard, KeyRole, KeyState, LimitsRequest, RotateKeyRequest};
use protocol::{Error, ErrorKind, Result};
use serde_json::json;

use crate::cli::{CreateKey, Key, KeyCommand, Role};
use crate::daemon::Daemon;
use crate::output::{Output, table, when};

/// Runs the command.
pub async fn run(daemon: &Daemon, output: Output, key: Key) -> Result<()> {
    let client = daemon.start().await?;
    match key.command {
        KeyCommand::Show { id: None } => {
            let key = client.first_key().await?;
            output.result(&json!({ "key": key }), &key)
        }
        KeyCommand::Show { id: Some(id) } => {
            let card = client.keys().await?.into_iter().find(|card| card.id == id).ok_or_else(|| {
                Error::new(ErrorKind::NotFound, format!("There is no key {id:?}."))
                    .hint("`impetusctl key list` shows the ids.")
            })?;
            output.result(&card, describe(&card))
        }
        KeyCommand::List => {
            let cards = client.keys().await?;
            output.result(&cards, list(&cards))
        }
        KeyCommand::Create(wish) => issued(output, &client.create_key(request(wish)).await?),
        KeyCommand::Rotate { id, grace } => {
            issued(output, &client.rotate_key(RotateKeyRequest { id, grace_s: grace }).await?)
        }
        KeyCommand::Revoke { id } => {
            let card = client.revoke_key(&id).await?;
            output.result(&card, format_args!("{} ({}) is revoked", card.id, card.label))
        }
    }
}

fn request(wish: CreateKey) -> CreateKeyRequest {
    CreateKeyRequest {
        label: wish.label,
        role: match wish.role {
            Role::Readonly => KeyRole::Readonly,
            Role::User => KeyRole::User,
            Role::Admin => KeyRole::Admin,
        },
        models: wish.models,
        expires_in_s: wish.expires,
        limits: LimitsRequest {
            inference_per_minute: wish.inference_per_minute,
            reads_per_minute: wish.reads_per_minute,
            requests_per_day: wish.requests_per_day,
            tokens_per_day: wish.tokens_per_day,
        },
    }
}

fn issued(output: Output, issued: &IssuedKey) -> Result<()> {
    let IssuedKey { secret, card } = issued;
    output.result(issued, format_args!("{secret}\n\n{}\nThis secret is not shown again.", describe(card)))
}

fn describe(card: &KeyCard) -> String {
    let limits = card.limits;
    let models = if card.models.is_empty() { "all".to_owned() } else { card.models.join(", ") };
    let many = |limit: Option<u64>| limit.map_or_else(|| "any number".to_owned(), |limit| limit.to_string());
    format!(
        "{} ({})
  role    {}, {}
  models  {models}
  minute  {} requests that make a model work, {} that look
  day     {} requests, {} tokens; used today: {}, {}
  times   made {}, expires {}, last used {}",
        card.id,
        card.label,
        card.role,
        state(card),
        many(limits.inference_per_minute.map(u64::from)),
        many(limits.reads_per_minute.map(u64::from)),
        many(limits.requests_per_day),
        many(limits.tokens_per_day),
        card.spent_today.requests,
        card.spent_today.tokens,
        when(card.created_unix_s),
        card.expires_unix_s.map_or_else(|| "never".to_owned(), when),
        card.last_used_unix_s.map_or_else(|| "never".to_owned(), when),
    )
}

fn list(cards: &[KeyCard]) -> String {
    let row = |card: &KeyCard| {
        [
            card.id.clone(),
            card.role.to_string(),
            state(card).to_owned(),
            when(card.created_unix_s),
            card.last_used_unix_s.map_or_else(|| "never".to_owned(), when),
            card.label.clone(),
        ]
    };
    let rows: Vec<_> = cards.iter().map(row).collect();
    table(["ID", "ROLE", "STATE", "MADE", "LAST USED", "LABEL"], &rows)
}

fn state(card: &KeyCard) -> &'static str {
    match card.state {
        KeyState::Active => "active",
        KeyState::Expired => "expired",
        KeyState::Revoked => "revoked",
    }
}
