//! What the database knows: models, keys, and what has happened. The database is the truth; the supervisor's models and
//! the keys in memory are shadows of it. Its calls wait for the disk, so they run on threads that may block.

use std::path::{Path, PathBuf};

use protocol::journal::{AuditEntry, AuditPage, AuditRequest, RequestEntry, RequestsPage, RequestsRequest};
use protocol::model::{ModelCard, ModelState, Source};
use protocol::{Error, ErrorKind, Result};
use store::{
    About, Bounds, Change, Draft, Kept, Key, Model, NewKey, Reader, Record, Request, RequestFilter, Secret, Spent,
    Store, StoreError,
};

use crate::daemon::blocking;
use crate::time::{now_ms, now_s};

/// Entries in one page, and where a request does not say.
const PAGE_MAX: u32 = 1_000;
const PAGE: u32 = 100;

/// The models and keys on disk.
#[derive(Clone, Debug)]
pub struct Catalogue {
    store: Store,
}

impl Catalogue {
    /// Opens the database; one is made if there is none.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self { store: Store::open(path).map_err(broken)? })
    }

    /// Returns all models, by name. One whose facts this build does not understand is left out, and said so.
    pub fn models(&self) -> Result<Vec<ModelCard>> {
        let models = self.store.models().list().map_err(broken)?;
        Ok(models.into_iter().filter_map(card).collect())
    }

    /// Writes a model; the one of its name keeps its pin and when it was added.
    pub async fn put(&self, actor: &str, card: ModelCard) -> Result<()> {
        let facts = serde_json::to_value(&card.facts).map_err(|error| Error::internal(error.to_string()))?;
        let source = match card.source {
            Source::Bundled => store::Source::Bundled,
            Source::Local => store::Source::Local,
            Source::Hub { repo, revision } => store::Source::Hub { repo, revision },
        };
        let subject = card.name.clone();
        let ModelCard { name, path, pinned, created_unix_s, .. } = card;
        let model = Model { name, source, path, facts, pinned, created_unix_s };
        self.change(actor, "model.add", subject, move |store| store.models().put(model)).await
    }

    /// Writes whether a model is never evicted.
    pub async fn pin(&self, actor: &str, name: String, pinned: bool) -> Result<()> {
        let subject = name.clone();
        let action = if pinned { "model.pin" } else { "model.unpin" };
        self.change(actor, action, subject, move |store| store.models().set_pinned(&name, pinned).map(drop)).await
    }

    /// Forgets a model.
    pub async fn remove(&self, actor: &str, name: String) -> Result<()> {
        let subject = name.clone();
        self.change(actor, "model.remove", subject, move |store| store.models().remove(&name).map(drop)).await
    }

    /// Writes down what somebody did that changed nothing here.
    pub async fn audit(&self, actor: &str, action: &'static str, subject: String) -> Result<()> {
        let (store, entry) = (self.store.clone(), change(actor, action, subject));
        blocking(move || store.audit().record(entry).map_err(broken)).await
    }

    /// Returns what was changed of the configuration, by name. Blocks.
    pub fn settings(&self) -> Result<Vec<(String, String)>> {
        self.store.settings().list().map_err(broken)
    }

    /// Writes changes of the configuration, or forgets those that are `None`, and who made them.
    pub async fn change_settings(&self, actor: &str, changes: Vec<(String, Option<String>)>) -> Result<()> {
        let store = self.store.clone();
        let told = |(name, value): &(String, Option<String>)| {
            let action = if value.is_some() { "setting.change" } else { "setting.reset" };
            change(actor, action, value.as_ref().map_or_else(|| name.clone(), |value| format!("{name} = {value}")))
        };
        let audit = changes.iter().map(told).collect();
        blocking(move || store.settings().change(changes, audit).map_err(broken)).await
    }

    /// Writes a copy of the database to a new file.
    pub async fn backup(&self, to: PathBuf) -> Result<()> {
        let store = self.store.clone();
        blocking(move || store.backup(&to).map_err(broken)).await
    }

    /// Returns every key, oldest first. Blocks.
    pub fn keys(&self) -> Result<Vec<Key>> {
        self.store.keys().list().map_err(broken)
    }

    /// Returns what keys have used today. Blocks.
    pub fn spent_today(&self) -> Result<Vec<(String, Spent)>> {
        self.store.requests().spent(now_ms()).map_err(broken)
    }

    /// Makes a key known, if it is not. Blocks.
    pub fn add_first_key(&self, secret: &Secret, new: NewKey) -> Result<Key> {
        self.store.keys().insert(secret, new).map_err(broken)
    }

    /// Adds a key.
    pub async fn add_key(&self, actor: &str, secret: Secret, new: NewKey) -> Result<Key> {
        self.change(actor, "key.create", secret.id(), move |store| store.keys().insert(&secret, new)).await
    }

    /// Gives a key another secret; `None` if there is no such key.
    pub async fn rotate_key(&self, actor: &str, id: String, secret: Secret, old_until: i64) -> Result<Option<Key>> {
        let rotate = {
            let id = id.clone();
            move |store: &Store| store.keys().rotate(&id, &secret, old_until)
        };
        self.change(actor, "key.rotate", id, rotate).await
    }

    /// Revokes a key; `None` if there is no such key.
    pub async fn revoke_key(&self, actor: &str, id: String) -> Result<Option<Key>> {
        self.change(actor, "key.revoke", id.clone(), move |store| store.keys().revoke(&id, now_s())).await
    }

    /// Notes when keys were last used.
    pub async fn keys_used(&self, uses: Vec<(String, i64)>) -> Result<()> {
        let store = self.store.clone();
        blocking(move || store.keys().used(uses).map_err(broken)).await
    }

    /// Writes a document that a client asked to be kept; `draft` is told the time.
    pub async fn keep(&self, draft: impl FnOnce(i64) -> Draft, bounds: Bounds) -> Result<Kept> {
        let (store, now) = (self.store.clone(), now_ms());
        let draft = draft(now);
        blocking(move || store.records().keep(draft, bounds, now).map_err(broken)).await
    }

    /// Returns such a document.
    pub async fn recall(&self, collection: &'static str, id: String, reader: Reader) -> Result<Option<Record>> {
        let store = self.store.clone();
        blocking(move || store.records().find(collection, &id, reader, now_ms()).map_err(broken)).await
    }

    /// Forgets such a document; says whether there was one.
    pub async fn forget(&self, collection: &'static str, id: String, reader: Reader) -> Result<bool> {
        let store = self.store.clone();
        blocking(move || store.records().forget(collection, &id, reader, now_ms()).map_err(broken)).await
    }

    /// Lists such documents, those written last first.
    pub async fn list(
        &self,
        collection: &'static str,
        reader: Reader,
        after: Option<String>,
        count: u32,
    ) -> Result<Vec<About>> {
        let store = self.store.clone();
        blocking(move || store.records().list(collection, reader, after, count, now_ms()).map_err(broken)).await
    }

    /// Writes down requests, and returns their numbers.
    pub async fn record(&self, requests: Vec<Request>) -> Result<Vec<i64>> {
        let store = self.store.clone();
        blocking(move || store.requests().record(requests).map_err(broken)).await
    }

    /// Returns requests, newest first.
    pub async fn requests_page(&self, request: RequestsRequest) -> Result<RequestsPage> {
        let limit = page(request.limit)?;
        let filter = RequestFilter {
            after: request.after.map(number),
            model: request.model,
            key_id: request.key,
            status: request.status,
        };
        let store = self.store.clone();
        let mut found = blocking(move || store.requests().page(limit + 1, filter).map_err(broken)).await?;
        let more = found.len() > limit as usize;
        found.truncate(limit as usize);
        let next = found.last().filter(|_| more).map(|(id, _)| id.unsigned_abs());
        Ok(RequestsPage { entries: found.into_iter().map(request_entry).collect(), next })
    }

    /// Returns changes, newest first.
    pub async fn audit_page(&self, request: AuditRequest) -> Result<AuditPage> {
        let (limit, after) = (page(request.limit)?, request.after.map(number));
        let store = self.store.clone();
        let mut found = blocking(move || store.audit().page(limit + 1, after).map_err(broken)).await?;
        let more = found.len() > limit as usize;
        found.truncate(limit as usize);
        let next = found.last().filter(|_| more).map(|(id, _)| id.unsigned_abs());
        Ok(AuditPage { entries: found.into_iter().map(audit_entry).collect(), next })
    }

    /// Changes something, and writes down who changed it, in one go.
    async fn change<T: Send + 'static>(
        &self,
        actor: &str,
        action: &str,
        subject: String,
        change: impl FnOnce(&Store) -> store::Result<T> + Send + 'static,
    ) -> Result<T> {
        let store = self.store.noting(self::change(actor, action, subject));
        blocking(move || change(&store).map_err(broken)).await
    }
}

fn change(actor: &str, action: &str, subject: String) -> Change {
    Change { time_unix_ms: now_ms(), actor: actor.to_owned(), action: action.to_owned(), subject }
}

fn page(limit: u32) -> Result<u32> {
    match limit {
        0 => Ok(PAGE),
        1..=PAGE_MAX => Ok(limit),
        _ => Err(Error::invalid("limit", format!("limit is {limit}; it may be {PAGE_MAX} at most"))),
    }
}

/// The database counts with a sign.
fn number(id: u64) -> i64 {
    i64::try_from(id).unwrap_or(i64::MAX)
}

/// Returns a request as clients see it.
pub fn request_entry((id, request): (i64, Request)) -> RequestEntry {
    RequestEntry {
        id: id.unsigned_abs(),
        time_unix_ms: request.time_unix_ms,
        verb: request.verb,
        model: request.model,
        key: request.key_id,
        status: request.status,
        prompt_tokens: request.prompt_tokens,
        completion_tokens: request.completion_tokens,
        latency_ms: request.latency_ms,
    }
}

fn audit_entry((id, change): (i64, Change)) -> AuditEntry {
    let Change { time_unix_ms, actor, action, subject } = change;
    AuditEntry { id: id.unsigned_abs(), time_unix_ms, actor, action, subject }
}

fn card(model: Model) -> Option<ModelCard> {
    let facts = match serde_json::from_value(model.facts) {
        Ok(facts) => facts,
        Err(error) => {
            tracing::error!(model = %model.name, %error, "what is known of a model is not understood; add it again");
            return None;
        }
    };
    let source = match model.source {
        store::Source::Bundled => Source::Bundled,
        store::Source::Local => Source::Local,
        store::Source::Hub { repo, revision } => Source::Hub { repo, revision },
    };
    let Model { name, path, pinned, created_unix_s, .. } = model;
    Some(ModelCard { name, source, path, facts, state: ModelState::Available, pinned, created_unix_s })
}

fn broken(error: StoreError) -> Error {
    let taken = |source: &std::io::Error| source.kind() == std::io::ErrorKind::AlreadyExists;
    let kind = match &error {
        StoreError::Io { source, .. } if taken(source) => ErrorKind::Conflict,
        _ => ErrorKind::Internal,
    };
    Error::new(kind, error.to_string()).hint(error.hint())
}
