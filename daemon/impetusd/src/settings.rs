//! The settings that an administrator may change while the daemon runs: which they are, what is in force, and how a change
//! is made. The database is written first; the supervisor, which alone reads most of them, then gets a new configuration.
//! What a variable or flag of the daemon fixes wins over every change. Used by `run` and `service`.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use protocol::setting::{Applies, ChangeSettingsRequest, Setting, SettingChange};
use protocol::{Error, ErrorKind, Result};

use crate::catalogue::Catalogue;
use crate::config::{Config, ConfigError};
use crate::nearest::nearest;

/// Changes of one request.
const CHANGES_MAX: usize = 64;

/// Bytes of a value.
const VALUE_BYTES_MAX: usize = 256;

/// The settings that can be changed honestly: somebody reads them again after the start.
const CHANGEABLE: [(&str, Applies, &str); 20] = {
    use Applies::{AtOnce, NextLoad};
    [
        ("cache.disk", NextLoad, "Disk for the prefixes of all models together, as in 4GB; 0B keeps nothing."),
        ("cache.disk_per_day", NextLoad, "What may be written of prefixes in a day, as in 32GB."),
        ("cache.shared", AtOnce, "Whether requests of different keys reuse each other's prefixes."),
        ("log.level", AtOnce, "What is logged at least: error, warn, info, debug or trace."),
        ("memory.budget", AtOnce, "What all loaded models may take together, as in 75% or 8GB."),
        ("memory.kv_max", NextLoad, "The most that the KV cache of one model may take, as in 20% or 2GB."),
        ("memory.kv_tokens", NextLoad, "Tokens in the KV cache of one model, or one full context if that is more."),
        ("memory.patience", AtOnce, "After how long a busy model gives way to a waiting one, as in 10s."),
        ("models.default", AtOnce, "The model that requests without a name get."),
        ("models.default_embedder", AtOnce, "The model that requests for vectors without a name get."),
        ("models.draft_model", NextLoad, "Which smaller model guesses for which, as in big=small,other=small."),
        ("models.keep_alive", AtOnce, "How long a model stays in memory without work, as in 15m, or forever."),
        ("models.warm_up", NextLoad, "Whether a first step is run before a model counts as loaded."),
        ("requests.choices_max", AtOnce, "Answers to one request."),
        ("requests.deadline", AtOnce, "The most time a request may take, as in 15m; those of a batch have its window."),
        ("worker.draft_tokens_max", NextLoad, "Tokens guessed ahead for one sequence in one step; 0 guesses nothing."),
        ("worker.prefill_tokens_max", NextLoad, "Prompt tokens in one step; half of them where it ends no prompt."),
        ("worker.sequences_max", NextLoad, "Sequences in one step."),
        ("worker.step", NextLoad, "How long a step may take while prompts are read, as in 80ms."),
        ("worker.threads", NextLoad, "Compute threads of each model; 0 lets Impetus decide."),
    ]
};

/// The settings, as configured and as changed.
#[derive(Debug)]
pub struct Settings {
    catalogue: Catalogue,
    configured: Config,
    changed: Mutex<BTreeMap<String, String>>,
    /// One change at a time: what is written is what then holds.
    turn: tokio::sync::Mutex<()>,
}

impl Settings {
    /// Reads what was changed before. What this build refuses is left out, and said so. Blocks.
    pub fn open(catalogue: Catalogue, configured: Config) -> Result<Self> {
        let mut changed = BTreeMap::new();
        for (name, value) in catalogue.settings()? {
            if let Some(by) = configured.fixed_by(&name) {
                tracing::info!(setting = %name, %value, "a change is not in force: {by} wins over it");
            }
            let readable = configured.with([(name.as_str(), value.as_str())]).map_err(|error| refusal(&name, &error));
            match changeable(&name).and(readable) {
                Ok(_) => drop(changed.insert(name, value)),
                Err(error) => tracing::warn!(setting = %name, %value, "a change is left out: {error}"),
            }
        }
        Ok(Self { catalogue, configured, changed: Mutex::new(changed), turn: tokio::sync::Mutex::default() })
    }

    /// Returns the configuration in force.
    pub fn config(&self) -> Result<Config> {
        self.laid_over(&self.lock())
    }

    /// Returns every setting, by name.
    pub fn list(&self) -> Result<Vec<Setting>> {
        let config = self.config()?;
        let changed = self.lock();
        let setting = |(name, applies, about): &(&str, Applies, &str)| Setting {
            name: (*name).to_owned(),
            value: config.text(name).unwrap_or_default(),
            configured: self.configured.text(name).unwrap_or_default(),
            changed: changed.contains_key(*name) && self.configured.fixed_by(name).is_none(),
            applies: *applies,
            fixed_by: self.configured.fixed_by(name).map(str::to_owned),
            about: (*about).to_owned(),
        };
        Ok(CHANGEABLE.iter().map(setting).collect())
    }

    /// Checks changes, writes them down, and returns the configuration that is then in force.
    pub async fn change(&self, actor: &str, request: ChangeSettingsRequest) -> Result<Config> {
        let changes = request.changes;
        let _turn = self.turn.lock().await;
        self.check(&changes)?;
        let mut changed = self.lock().clone();
        for SettingChange { name, value } in &changes {
            match value {
                Some(value) => drop(changed.insert(name.clone(), value.clone())),
                None => drop(changed.remove(name)),
            }
        }
        let config = self.laid_over(&changed)?;
        let changes = changes.into_iter().map(|change| (change.name, change.value)).collect();
        self.catalogue.change_settings(actor, changes).await?;
        *self.lock() = changed;
        Ok(config)
    }

    fn check(&self, changes: &[SettingChange]) -> Result<()> {
        if changes.is_empty() || changes.len() > CHANGES_MAX {
            let message = format!("{} settings are to be changed; it may be 1 to {CHANGES_MAX} at once", changes.len());
            return Err(Error::invalid("changes", message));
        }
        for (at, SettingChange { name, value }) in changes.iter().enumerate() {
            changeable(name)?;
            if changes[..at].iter().any(|earlier| earlier.name == *name) {
                return Err(Error::invalid(name, format!("{name} is to be changed twice")));
            }
            if let Some(by) = self.configured.fixed_by(name) {
                let message = format!("{name} is fixed by {by}, which wins over every change");
                let hint = "start the daemon without it, then change the setting";
                return Err(Error::new(ErrorKind::Conflict, message).param(name).hint(hint));
            }
            let Some(value) = value else { continue };
            let bytes = value.len();
            if bytes > VALUE_BYTES_MAX || value.contains(char::is_control) {
                let message = format!("a value has {VALUE_BYTES_MAX} bytes at most, and nothing that cannot be seen");
                return Err(Error::invalid(name, message));
            }
            // Each by itself, so that the one at fault is named.
            self.configured.with([(name.as_str(), value.as_str())]).map_err(|error| refusal(name, &error))?;
        }
        Ok(())
    }

    fn laid_over(&self, changed: &BTreeMap<String, String>) -> Result<Config> {
        let free = changed.iter().filter(|(name, _)| self.configured.fixed_by(name).is_none());
        let laid = self.configured.with(free.map(|(name, value)| (name.as_str(), value.as_str())));
        laid.map_err(|error| Error::internal(error.to_string()))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn changeable(name: &str) -> Result<()> {
    let names = || CHANGEABLE.iter().map(|(name, ..)| *name);
    if names().any(|known| known == name) {
        return Ok(());
    }
    let message = format!("there is no setting {name:?} that can be changed while the daemon runs");
    let hint = match nearest(name, names()) {
        Some(near) => format!("did you mean {near:?}? the others are in config.toml, which is read at the start"),
        None => "`impetusctl config list` names them; the others are in config.toml, which is read at the start".into(),
    };
    Err(Error::new(ErrorKind::NotFound, message).param(name).hint(hint))
}

fn refusal(name: &str, error: &ConfigError) -> Error {
    Error::invalid(name, error.to_string())
}

#[cfg(test)]
mod tests;
