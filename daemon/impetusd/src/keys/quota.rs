//! Limits of a day. What a key has used, and what its requests in flight may still use, are together never more than what it
//! may: so a request is let in with what is left, up to the most that it can use, and its worker holds it to that. Once its
//! prompt is read it holds only what prompt and answers may come to, and when it ends, nothing. Used by `service` and, to
//! settle, by `journal`.

use std::sync::Arc;
use std::time::Duration;

use protocol::{Error, ErrorKind, Result};
use tokio::time::{Instant, timeout_at};

use super::{DAY_S, Keys, now_s};

/// How long a request waits for tokens that others of its key hold: their prompts may take less than was thought.
const PATIENCE: Duration = Duration::from_secs(2);

/// How soon a retry may find that others have ended.
const RETRY_MS: u64 = 1_000;

/// The most tokens that a request can use.
#[derive(Clone, Copy, Debug, Default)]
pub struct Most {
    /// Prompt and answers together.
    pub whole: u64,
    /// All of its answers.
    pub answers: u64,
    /// How many further parts like it follow.
    pub following: u64,
}

impl Most {
    /// How many tokens have to be left: of several parts, those of all answers and at least one of each prompt, so that the
    /// whole is refused before anything of it is spent.
    fn needed(&self) -> u64 {
        match self.following {
            0 => 1,
            following => self.answers.saturating_add(1).saturating_mul(following + 1),
        }
    }
}

/// Tokens of its key's day that a request may use. What is not used is free again when this is dropped.
#[derive(Debug)]
pub struct Hold {
    keys: Arc<Keys>,
    key: String,
    tokens: u64,
    answers: u64,
}

impl Hold {
    /// How many tokens the request may use.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// Frees what cannot be used any more, now that the prompt has so many tokens.
    pub fn read(&mut self, prompt_tokens: u32) {
        let most = self.answers.saturating_add(prompt_tokens.into());
        self.keys.free(&self.key, self.tokens.saturating_sub(most));
        self.tokens = self.tokens.min(most);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.keys.free(&self.key, self.tokens);
    }
}

/// What came of a try to let a request in.
enum Try {
    Let(Option<Hold>),
    /// All that is left is held by other requests.
    Held(Error),
}

impl Keys {
    /// Whether a key may use only so many tokens a day.
    pub fn counts_tokens(&self, id: &str) -> Result<bool> {
        self.active(&mut self.lock(), id).map(|held| held.key.limits.tokens_per_day.is_some())
    }

    /// Lets a request in, if its key's limits of the day allow it. It counts as one of the day's unless it is a `further` part
    /// of one; `None` holds no tokens, because the key may use any number.
    pub async fn charge(self: &Arc<Self>, id: &str, most: Most, further: bool) -> Result<Option<Hold>> {
        let until = Instant::now() + PATIENCE;
        loop {
            // Before the look, so that nothing that is freed after it is missed.
            let freed = self.freed.notified();
            match self.try_charge(id, most, further)? {
                Try::Let(hold) => return Ok(hold),
                Try::Held(refusal) => timeout_at(until, freed).await.map_err(|_| refusal)?,
            }
        }
    }

    fn try_charge(self: &Arc<Self>, id: &str, most: Most, further: bool) -> Result<Try> {
        let mut state = self.lock();
        let held = self.active(&mut state, id)?;
        let (limits, label) = (held.key.limits, &held.key.label);
        if let Some(limit) = limits.requests_per_day.filter(|limit| !further && held.spent.requests >= *limit) {
            return Err(used_up(label, limit, "requests"));
        }
        let mut hold = None;
        if let Some(limit) = limits.tokens_per_day {
            let left = limit.saturating_sub(held.spent.tokens);
            let free = left.saturating_sub(held.reserved);
            if left == 0 {
                return Err(used_up(label, limit, "tokens"));
            }
            let needed = most.needed();
            if left < needed {
                return Err(too_few(label, left, needed));
            }
            if free == 0 {
                let message =
                    format!("requests in flight of the key {label:?} hold the last of its {limit} tokens of today");
                let refusal = Error::new(ErrorKind::RateLimited, message);
                return Ok(Try::Held(refusal.hint("name a smaller max_tokens, or wait").retry_after_ms(RETRY_MS)));
            }
            let tokens = free.min(most.whole);
            held.reserved += tokens;
            hold = Some(Hold { keys: self.clone(), key: id.to_owned(), tokens, answers: most.answers });
        }
        held.spent.requests += u64::from(!further);
        Ok(Try::Let(hold))
    }

    fn free(&self, id: &str, tokens: u64) {
        if let Some(held) = self.lock().keys.get_mut(id) {
            held.reserved = held.reserved.saturating_sub(tokens);
        }
        self.freed.notify_waiters();
    }

    /// Takes back a request that was counted and got nothing.
    pub fn refund(&self, id: &str) {
        if let Some(held) = self.lock().today().keys.get_mut(id) {
            held.spent.requests = held.spent.requests.saturating_sub(1);
        }
    }

    /// Counts tokens against a key's limit of the day.
    pub fn spend(&self, id: &str, tokens: u64) {
        if let Some(held) = self.lock().today().keys.get_mut(id) {
            held.spent.tokens = held.spent.tokens.saturating_add(tokens);
        }
    }
}

fn used_up(label: &str, limit: u64, what: &str) -> Error {
    let message = format!("the key {label:?} has used its {limit} {what} of today");
    Error::new(ErrorKind::RateLimited, message)
        .hint("days begin at midnight UTC; an administrator can make a key with other limits")
        .retry_after_ms(left_of_day_ms())
}

fn too_few(label: &str, left: u64, needed: u64) -> Error {
    let message = format!(
        "the key {label:?} has {left} tokens of today left, and all prompts and their answers may take {needed}"
    );
    Error::new(ErrorKind::RateLimited, message)
        .hint("name a smaller max_tokens, or send fewer prompts")
        .retry_after_ms(left_of_day_ms())
}

fn left_of_day_ms() -> u64 {
    (DAY_S - now_s().rem_euclid(DAY_S)).unsigned_abs() * 1_000
}
