//! What the database knows, in the protocol's words: models and keys. The database is the truth; the supervisor's
//! models are a shadow of it. Its calls wait for the disk, so they run on threads that may block.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use protocol::model::{ModelCard, ModelState, Source};
use protocol::status::{KeyRole, Principal};
use protocol::{Error, ErrorKind, Result};
use store::{
    About, Bounds, Change, Draft, Kept, Key, KeyState, Model, Reader, Record, Role, Secret, Store, StoreError,
};

use crate::daemon::blocking;

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
    pub async fn put(&self, card: ModelCard) -> Result<()> {
        let facts = serde_json::to_value(&card.facts).map_err(|error| Error::internal(error.to_string()))?;
        let source = match card.source {
            Source::Bundled => store::Source::Bundled,
            Source::Local => store::Source::Local,
            Source::Hub { repo, revision } => store::Source::Hub { repo, revision },
        };
        let subject = card.name.clone();
        let ModelCard { name, path, pinned, created_unix_s, .. } = card;
        let model = Model { name, source, path, facts, pinned, keep_alive_ms: None, created_unix_s };
        self.change("model.put", subject, move |store| store.models().put(model)).await
    }

    /// Writes whether a model is never evicted.
    pub async fn pin(&self, name: String, pinned: bool) -> Result<()> {
        let subject = name.clone();
        let action = if pinned { "model.pin" } else { "model.unpin" };
        self.change(action, subject, move |store| store.models().set_pinned(&name, pinned).map(drop)).await
    }

    /// Forgets a model.
    pub async fn remove(&self, name: String) -> Result<()> {
        let subject = name.clone();
        self.change("model.remove", subject, move |store| store.models().remove(&name).map(drop)).await
    }

    /// Whether there is any key. Blocks.
    pub fn has_keys(&self) -> Result<bool> {
        self.store.keys().list().map(|keys| !keys.is_empty()).map_err(broken)
    }

    /// Makes a key known, if it is not; it may do everything. Blocks.
    pub fn add_first_key(&self, secret: &Secret) -> Result<()> {
        let key = self.store.keys().insert(secret, "first key", Role::Admin, None, now_s()).map_err(broken)?;
        tracing::debug!(key = %key.id, "the first key is known");
        Ok(())
    }

    /// Returns who holds a key that opens the door.
    pub async fn holder(&self, secret: Secret) -> Result<Option<Principal>> {
        let store = self.store.clone();
        let key = blocking(move || store.keys().find(&secret, now_s()).map_err(broken)).await?;
        Ok(key.filter(|key| key.state(now_s()) == KeyState::Active).map(principal))
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

    /// Changes something, and writes down that it was changed.
    async fn change(
        &self,
        action: &'static str,
        subject: String,
        change: impl FnOnce(&Store) -> store::Result<()> + Send + 'static,
    ) -> Result<()> {
        let store = self.store.clone();
        let actor = format!("uid {}", protocol::socket::own_uid());
        let entry = Change { time_unix_ms: now_ms(), actor, action: action.to_owned(), subject };
        blocking(move || change(&store).and_then(|()| store.audit().record(entry)).map_err(broken)).await
    }
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

fn principal(key: Key) -> Principal {
    let role = match key.role {
        Role::Readonly => KeyRole::Readonly,
        Role::User => KeyRole::User,
        Role::Admin => KeyRole::Admin,
    };
    Principal { id: key.id, label: key.label, role }
}

fn broken(error: StoreError) -> Error {
    let hint = error.hint();
    Error::new(ErrorKind::Internal, error.to_string()).hint(hint)
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn now_ms() -> i64 {
    i64::try_from(since_1970().as_millis()).unwrap_or(i64::MAX)
}

fn now_s() -> i64 {
    i64::try_from(since_1970().as_secs()).unwrap_or(i64::MAX)
}
