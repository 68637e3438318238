//! The words for settings that an administrator may change while the daemon runs.
//!
//! A value travels as the text that the configuration file would hold, so that it reads the same everywhere: `75%`,
//! `8GB`, `15m`, `true`. What was changed is kept, and wins over the file until it is taken back.

use serde::{Deserialize, Serialize};

/// One setting that can be changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// Its name, as in `memory.budget`.
    pub name: String,
    /// What is in force.
    pub value: String,
    /// What the configuration says; in force unless it was changed.
    pub configured: String,
    /// Whether somebody changed it while the daemon ran.
    pub changed: bool,
    /// When a change takes effect.
    pub applies: Applies,
    /// What fixes it, as in `IMPETUS_MEMORY_BUDGET`: a variable or flag of the daemon wins over every change.
    pub fixed_by: Option<String>,
    /// What it is, in a sentence.
    pub about: String,
}

/// When a change takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Applies {
    /// With the next request.
    AtOnce,
    /// When a model is next loaded; models in memory keep what they have.
    NextLoad,
}

/// Asks for settings to be changed, all of them or none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeSettingsRequest {
    /// The changes; each name once.
    pub changes: Vec<SettingChange>,
}

/// What one setting is to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SettingChange {
    /// The setting.
    pub name: String,
    /// What it is to be; `None` takes back what was changed.
    pub value: Option<String>,
}
