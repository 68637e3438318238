//! API keys in memory: who holds the one a request shows, what it may do, and how much of its limits is left. The
//! database is the truth and is written first, so that a revocation counts at once and for good; what is here only
//! spares every request the disk. No secret is kept or logged. Used by `session` and `service`.

mod bucket;
pub mod first;
mod quota;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use protocol::key::{
    BAD_KEYS_PER_MINUTE, CreateKeyRequest, IssuedKey, KeyCard, KeyLimits, KeyRole, KeyState, Knock, LimitsRequest,
    Login, Principal, Proof, Purpose, Rate, RotateKeyRequest, Spent,
};
use protocol::{Error, ErrorKind, Result};
use store::{Digest, Key, Limits, NewKey, Role, Secret};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::catalogue::Catalogue;
use crate::time::now_s;
use bucket::Bucket;
pub use quota::{Hold, Most};

/// Longer texts are no keys, and are not looked up.
const SECRET_BYTES_MAX: usize = 256;

/// Addresses whose bad keys are counted; when there are more, those that may try again anyway are forgotten.
const PEERS_MAX: usize = 4_096;

/// Keys in all, revoked ones included.
const KEYS_MAX: usize = 10_000;

/// Bytes of a label, models that one key may name, and bytes of such a name.
const LABEL_BYTES_MAX: usize = 128;
const MODELS_MAX: usize = 64;
const MODEL_BYTES_MAX: usize = 128;

/// Defaults of keys that are not for administrators, per minute.
const INFERENCE_PER_MINUTE: u32 = 60;
const READS_PER_MINUTE: u32 = 120;

/// The longest life of a key, and of a secret after its rotation, in seconds: a hundred years, and a month.
const LIFE_S_MAX: u64 = 100 * 366 * 86_400;
const GRACE_S_MAX: u64 = 31 * 86_400;

/// How stale the time of last use may get on disk, in seconds.
const USED_S: i64 = 60;

const DAY_S: i64 = 86_400;

/// The keys.
#[derive(Debug)]
pub struct Keys {
    catalogue: Catalogue,
    epoch: Instant,
    state: Mutex<State>,
    /// Told whenever a request holds fewer tokens than before.
    freed: Notify,
}

#[derive(Debug, Default)]
struct State {
    keys: BTreeMap<String, Held>,
    /// Ids of keys by the beginning of the digests of their secrets, in which no two of so many random ones are alike.
    index: HashMap<u64, String>,
    failures: HashMap<String, Bucket>,
    /// The day that `spent` is about, in days since 1970.
    day: i64,
}

#[derive(Debug)]
struct Held {
    key: Key,
    inference: Bucket,
    reads: Bucket,
    spent: Spent,
    /// Tokens that requests in flight may still use.
    reserved: u64,
    used_written: Option<i64>,
}

impl Keys {
    /// Reads the keys and what they have used today. Blocks.
    pub fn open(catalogue: Catalogue) -> Result<Self> {
        let mut state = State { day: now_s().div_euclid(DAY_S), ..State::default() };
        catalogue.keys()?.into_iter().for_each(|key| state.put(key));
        for (id, spent) in catalogue.spent_today()? {
            if let Some(held) = state.keys.get_mut(&id) {
                held.spent = Spent { requests: spent.requests, tokens: spent.tokens };
            }
        }
        Ok(Self { catalogue, epoch: Instant::now(), state: Mutex::new(state), freed: Notify::new() })
    }

    /// Says who holds a key, and counts the request against its limit per minute. Good keys are let in whatever else
    /// came from their address: a guess at 256 random bits is hopeless at any speed, and a neighbour with a wrong key
    /// must not lock anybody out. What is bounded is the trouble that bad ones make.
    pub fn knock(&self, knock: &Knock) -> Result<Principal> {
        let now_us = u64::try_from(self.epoch.elapsed().as_micros()).unwrap_or(u64::MAX);
        let mut state = self.lock();
        let (held, print) = match &knock.proof {
            Proof::Secret(secret) => {
                let digest = Secret::from_text(secret).digest();
                let found = (secret.len() <= SECRET_BYTES_MAX).then(|| state.find(&digest, now_s())).flatten();
                let Some(held) = found else { return Err(state.refuse(&knock.peer, now_us)) };
                (held, digest.prefix())
            }
            // No guess: whoever asks has checked it, and only its key can have changed since.
            Proof::Login(login) => (state.logged_in(login, now_s()).ok_or_else(refused)?, login.print),
        };
        held.key.last_used_unix_s = Some(now_s());
        let (bucket, limit) = match knock.purpose {
            Purpose::Inference => (&mut held.inference, held.key.limits.inference_per_minute),
            Purpose::Read => (&mut held.reads, held.key.limits.reads_per_minute),
        };
        Ok(Principal {
            rate: limit.map(|limit| match knock.counted_elsewhere {
                true => Rate::unused(limit),
                false => bucket.take(limit, now_us),
            }),
            id: held.key.id.clone(),
            label: held.key.label.clone(),
            role: role(held.key.role),
            print,
        })
    }

    /// Returns the role of a key that a connection acts for; an error once it is revoked or expired.
    pub fn role(&self, id: &str) -> Result<KeyRole> {
        self.active(&mut self.lock(), id).map(|held| role(held.key.role))
    }

    /// Whether a key may use a model.
    pub fn allows(&self, id: &str, model: &str) -> Result<()> {
        let mut state = self.lock();
        let key = &self.active(&mut state, id)?.key;
        if key.models.is_empty() || key.models.iter().any(|allowed| allowed == model) {
            return Ok(());
        }
        let message = format!("the key {:?} may not use the model {model:?}", key.label);
        let hint = format!("it may use {}", key.models.join(", "));
        Err(Error::new(ErrorKind::Forbidden, message).hint(hint).param("model"))
    }

    /// Returns the only models that a key may use; empty is all of them.
    pub fn models(&self, id: &str) -> Result<Vec<String>> {
        self.active(&mut self.lock(), id).map(|held| held.key.models.clone())
    }

    /// Returns the id of the key that a secret belongs to, if it opens the door.
    pub fn id_of(&self, secret: &str) -> Option<String> {
        let digest = Secret::from_text(secret).digest();
        self.lock().find(&digest, now_s()).map(|held| held.key.id.clone())
    }

    /// Returns every key, oldest first.
    pub fn cards(&self) -> Vec<KeyCard> {
        let mut state = self.lock();
        let mut cards: Vec<_> = state.today().keys.values().map(Held::card).collect();
        cards.sort_by(|a, b| (a.created_unix_s, &a.id).cmp(&(b.created_unix_s, &b.id)));
        cards
    }

    /// Makes a key.
    pub async fn create(&self, actor: &str, request: CreateKeyRequest) -> Result<IssuedKey> {
        let new = new_key(request)?;
        if self.lock().keys.len() >= KEYS_MAX {
            return Err(Error::new(ErrorKind::Conflict, format!("there are {KEYS_MAX} keys, the most there may be"))
                .hint("use one key for a program and not one for a run"));
        }
        let secret = Secret::new().map_err(|error| Error::internal(error.to_string()))?;
        let key = self.catalogue.add_key(actor, secret.clone(), new).await?;
        Ok(IssuedKey { secret: secret.reveal().to_owned(), card: self.hold(key) })
    }

    /// Gives a key another secret.
    pub async fn rotate(&self, actor: &str, request: &RotateKeyRequest) -> Result<(Secret, KeyCard)> {
        if request.grace_s > GRACE_S_MAX {
            let message = format!("grace_s is {}; it may be {GRACE_S_MAX} at most", request.grace_s);
            return Err(Error::invalid("grace_s", message));
        }
        let known = self.lock().keys.get(&request.id).map(|held| held.key.state(now_s()));
        match known {
            None => return Err(unknown(&request.id)),
            Some(store::KeyState::Active) => {}
            Some(_) => {
                let message = format!("the key {} is revoked or has expired", request.id);
                return Err(Error::new(ErrorKind::Conflict, message).hint("make a new one: `impetusctl key create`"));
            }
        }
        let secret = Secret::new().map_err(|error| Error::internal(error.to_string()))?;
        let until = now_s().saturating_add_unsigned(request.grace_s);
        let key = self.catalogue.rotate_key(actor, request.id.clone(), secret.clone(), until).await?;
        Ok((secret, self.hold(key.ok_or_else(|| unknown(&request.id))?)))
    }

    /// Takes a key back, at once.
    pub async fn revoke(&self, actor: &str, id: &str) -> Result<KeyCard> {
        if !self.lock().keys.contains_key(id) {
            return Err(unknown(id));
        }
        let key = self.catalogue.revoke_key(actor, id.to_owned()).await?;
        Ok(self.hold(key.ok_or_else(|| unknown(id))?))
    }

    /// Writes down when keys were last used, where that is stale on disk.
    pub async fn write_uses(&self) {
        let stale: Vec<(String, i64)> = {
            let mut state = self.lock();
            let stale = |held: &&mut Held| match (held.key.last_used_unix_s, held.used_written) {
                (Some(used), Some(written)) => used >= written + USED_S,
                (used, _) => used.is_some(),
            };
            let note = |held: &mut Held| {
                held.used_written = held.key.last_used_unix_s;
                Some((held.key.id.clone(), held.used_written?))
            };
            state.keys.values_mut().filter(stale).filter_map(note).collect()
        };
        if !stale.is_empty()
            && let Err(error) = self.catalogue.keys_used(stale).await
        {
            tracing::warn!(%error, "the last use of keys cannot be written down");
        }
    }

    /// Takes in a key as the database now has it.
    fn hold(&self, key: Key) -> KeyCard {
        let mut state = self.lock();
        let id = key.id.clone();
        state.put(key);
        state.today().keys.get(&id).map(Held::card).expect("the key was put in under the same lock")
    }

    fn active<'a>(&self, state: &'a mut State, id: &str) -> Result<&'a mut Held> {
        let held = state.today().keys.get_mut(id);
        held.filter(|held| held.key.state(now_s()) == store::KeyState::Active).ok_or_else(refused)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn put(&mut self, key: Key) {
        if self.keys.contains_key(&key.id) {
            // What was rotated away leaves nothing behind.
            self.index.retain(|_, id| *id != key.id);
        }
        for digest in [Some(key.digest), key.old.map(|(digest, _)| digest)].into_iter().flatten() {
            self.index.insert(digest.prefix(), key.id.clone());
        }
        match self.keys.get_mut(&key.id) {
            Some(held) => held.key = Key { last_used_unix_s: held.key.last_used_unix_s, ..key },
            None => {
                let (inference, reads) = (Bucket::default(), Bucket::default());
                let used_written = key.last_used_unix_s;
                let held = Held { inference, reads, spent: Spent::default(), reserved: 0, used_written, key };
                self.keys.insert(held.key.id.clone(), held);
            }
        }
    }

    /// Returns the key of a secret, if it opens the door.
    fn find(&mut self, digest: &Digest, now: i64) -> Option<&mut Held> {
        let fits =
            |key: &Key| key.digest == *digest || key.old.is_some_and(|(old, until)| old == *digest && now < until);
        let held = self.keys.get_mut(self.index.get(&digest.prefix())?)?;
        (fits(&held.key) && held.key.state(now) == store::KeyState::Active).then_some(held)
    }

    /// Returns the key of a login, if the secret that it was made with still opens the door.
    fn logged_in(&mut self, login: &Login, now: i64) -> Option<&mut Held> {
        let fits = |key: &Key| {
            let old = key.old.is_some_and(|(old, until)| old.prefix() == login.print && now < until);
            old || key.digest.prefix() == login.print
        };
        let held = self.keys.get_mut(&login.key)?;
        (fits(&held.key) && held.key.state(now) == store::KeyState::Active).then_some(held)
    }

    /// Counts a bad key of an address, and returns what it is told.
    fn refuse(&mut self, peer: &str, now_us: u64) -> Error {
        if self.failures.len() >= PEERS_MAX {
            self.failures.retain(|_, bucket| !bucket.is_full(now_us));
        }
        // Where thousands of addresses guess at once, those past the bound share one bucket.
        let peer = if self.failures.len() >= PEERS_MAX && !self.failures.contains_key(peer) { "" } else { peer };
        let rate = self.failures.entry(peer.to_owned()).or_default().take(BAD_KEYS_PER_MINUTE, now_us);
        if rate.wait_ms == 0 {
            return refused();
        }
        Error::new(ErrorKind::RateLimited, "too many bad API keys came from this address")
            .hint("wait, then send a key that is known: `impetusctl key show` prints the first one")
            .retry_after_ms(rate.wait_ms)
    }

    /// Forgets what was spent once the day is over.
    fn today(&mut self) -> &mut Self {
        let day = now_s().div_euclid(DAY_S);
        if day != self.day {
            self.day = day;
            self.keys.values_mut().for_each(|held| held.spent = Spent::default());
        }
        self
    }
}

impl Held {
    fn card(&self) -> KeyCard {
        let Key { id, label, models, created_unix_s, expires_unix_s, revoked_unix_s, last_used_unix_s, .. } =
            self.key.clone();
        let limits = self.key.limits;
        KeyCard {
            id,
            label,
            role: role(self.key.role),
            models,
            limits: KeyLimits {
                inference_per_minute: limits.inference_per_minute,
                reads_per_minute: limits.reads_per_minute,
                requests_per_day: limits.requests_per_day,
                tokens_per_day: limits.tokens_per_day,
            },
            state: match self.key.state(now_s()) {
                store::KeyState::Active => KeyState::Active,
                store::KeyState::Expired => KeyState::Expired,
                store::KeyState::Revoked => KeyState::Revoked,
            },
            spent_today: self.spent,
            created_unix_s,
            expires_unix_s,
            revoked_unix_s,
            last_used_unix_s,
        }
    }
}

/// Checks what is asked for, and fills in the role's defaults.
fn new_key(request: CreateKeyRequest) -> Result<NewKey> {
    let label = request.label.trim();
    if label.is_empty() || label.len() > LABEL_BYTES_MAX || label.contains(char::is_control) {
        let message = format!("a key's label has 1 to {LABEL_BYTES_MAX} bytes, and nothing that cannot be seen");
        return Err(Error::invalid("label", message).hint("say what the key is for, as in \"laptop\""));
    }
    let named = |model: &String| !model.is_empty() && model.len() <= MODEL_BYTES_MAX;
    if request.models.len() > MODELS_MAX || !request.models.iter().all(named) {
        let message = format!("a key names at most {MODELS_MAX} models, each in 1 to {MODEL_BYTES_MAX} bytes");
        return Err(Error::invalid("models", message));
    }
    if let Some(life) = request.expires_in_s.filter(|life| !(1..=LIFE_S_MAX).contains(life)) {
        return Err(Error::invalid("expires_in_s", format!("expires_in_s is {life}; it is from 1 to {LIFE_S_MAX}")));
    }
    Ok(NewKey {
        label: label.to_owned(),
        role: match request.role {
            KeyRole::Readonly => Role::Readonly,
            KeyRole::User => Role::User,
            KeyRole::Admin => Role::Admin,
        },
        models: request.models,
        limits: limits(request.role, request.limits),
        created_unix_s: now_s(),
        expires_unix_s: request.expires_in_s.map(|life| now_s().saturating_add_unsigned(life)),
    })
}

fn limits(role: KeyRole, asked: LimitsRequest) -> Limits {
    let default = |limit| (role != KeyRole::Admin).then_some(limit);
    let minute = |asked: Option<u32>, limit| asked.map_or(default(limit), |asked| (asked > 0).then_some(asked));
    let day = |asked: Option<u64>| asked.filter(|asked| *asked > 0);
    Limits {
        inference_per_minute: minute(asked.inference_per_minute, INFERENCE_PER_MINUTE),
        reads_per_minute: minute(asked.reads_per_minute, READS_PER_MINUTE),
        requests_per_day: day(asked.requests_per_day),
        tokens_per_day: day(asked.tokens_per_day),
    }
}

fn role(role: Role) -> KeyRole {
    match role {
        Role::Readonly => KeyRole::Readonly,
        Role::User => KeyRole::User,
        Role::Admin => KeyRole::Admin,
    }
}

fn refused() -> Error {
    Error::new(ErrorKind::AuthRequired, "this API key is not known, or is no longer valid")
        .hint("`impetusctl key show` prints the first one")
}

fn unknown(id: &str) -> Error {
    let message = format!("there is no key {id:?}");
    Error::new(ErrorKind::NotFound, message).param("id").hint("`impetusctl key list` shows the ids")
}
