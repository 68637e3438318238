//! `/api/settings`: what may be changed while the daemon runs, read and changed by administrators. The names and values
//! are those of `config.toml`.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use protocol::setting::{Applies, ChangeSettingsRequest, SettingChange};
use protocol::{Error, ErrorKind};
use serde::{Deserialize, Serialize};
use serde_json::{Map, json};
use utoipa::ToSchema;

use super::List;
use crate::app::Bridge;
use crate::body::{self, PathId, path_id};
use crate::error::HttpError;
use crate::openapi::{Operation, Routes};

/// Returns the routes of this module.
pub fn routes() -> Routes {
    let list = Operation::new("List the settings that can be changed while the daemon runs")
        .gives_of::<List<Setting>, Setting>("SettingList", "Every setting, by name.");
    let change = Operation::new("Change settings, all of them or none")
        .more(
            "An object of names and values, which are those of `config.toml`; null takes a change back. What is changed \
             stays changed after a restart.",
        )
        .takes_object(json!({ "memory.budget": "60%", "models.keep_alive": null }))
        .gives_of::<List<Setting>, Setting>("SettingList", "Every setting, as it is then.");
    let show = Operation::new("Show a setting").path("id", "Its name, as in memory.budget.").gives::<Setting>("It.");
    Routes::new("Settings").get("/api/settings", self::list, list).patch("/api/settings", self::change, change).get(
        "/api/settings/{id}",
        self::show,
        show,
    )
}

/// One setting.
#[derive(Debug, Serialize, ToSchema)]
pub struct Setting {
    /// As in `memory.budget`.
    id: String,
    object: &'static str,
    /// What is in force, as `config.toml` would hold it.
    value: String,
    /// What the configuration says.
    configured: String,
    /// Whether somebody changed it while the daemon ran.
    changed: bool,
    applies: Effect,
    /// The variable or flag of the daemon that wins over every change.
    fixed_by: Option<String>,
    about: String,
}

/// When a change takes effect.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[schema(as = SettingEffect)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// With the next request.
    AtOnce,
    /// When a model is next loaded.
    NextLoad,
}

/// What a setting is to be.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// As `config.toml` would hold it.
    Text(String),
    /// A plain number.
    Number(i64),
    /// A switch.
    Switch(bool),
}

/// Lists the settings, by name.
async fn list(State(bridge): State<Arc<Bridge>>) -> Result<Json<List<Setting>>, HttpError> {
    let settings = bridge.daemon.client().await?.settings().await?;
    Ok(Json(listed(settings)))
}

/// Shows one setting.
async fn show(State(bridge): State<Arc<Bridge>>, id: PathId) -> Result<Json<Setting>, HttpError> {
    let id = path_id(id)?;
    let settings = bridge.daemon.client().await?.settings().await?;
    let absent = || {
        Error::new(ErrorKind::NotFound, format!("There is no setting '{id}' that can be changed."))
            .hint("GET /api/settings lists them.")
            .param("id")
    };
    Ok(Json(settings.into_iter().find(|setting| setting.name == id).ok_or_else(absent)?.into()))
}

/// Changes settings, all of them or none: a JSON object of names and values, where null takes a change back.
async fn change(State(bridge): State<Arc<Bridge>>, body: Bytes) -> Result<Json<List<Setting>>, HttpError> {
    let wishes: Map<String, serde_json::Value> = body::object(&body)?;
    let changes = wishes.into_iter().map(|(name, value)| Ok(SettingChange { value: text(&name, value)?, name }));
    let request = ChangeSettingsRequest { changes: changes.collect::<Result<_, Error>>()? };
    Ok(Json(listed(bridge.daemon.client().await?.change_settings(request).await?)))
}

fn text(name: &str, value: serde_json::Value) -> Result<Option<String>, Error> {
    if value.is_null() {
        return Ok(None);
    }
    match serde_json::from_value(value) {
        Ok(Value::Text(text)) => Ok(Some(text)),
        Ok(Value::Number(number)) => Ok(Some(number.to_string())),
        Ok(Value::Switch(switch)) => Ok(Some(switch.to_string())),
        Err(_) => {
            let message = format!("Invalid value for '{name}': it must be text, a whole number, true, false or null.");
            Err(Error::invalid(name, message))
        }
    }
}

fn listed(settings: Vec<protocol::setting::Setting>) -> List<Setting> {
    List::new(settings.into_iter().map(Setting::from).collect(), None::<u64>)
}

impl From<protocol::setting::Setting> for Setting {
    fn from(setting: protocol::setting::Setting) -> Self {
        Self {
            id: setting.name,
            object: "setting",
            value: setting.value,
            configured: setting.configured,
            changed: setting.changed,
            applies: match setting.applies {
                Applies::AtOnce => Effect::AtOnce,
                Applies::NextLoad => Effect::NextLoad,
            },
            fixed_by: setting.fixed_by,
            about: setting.about,
        }
    }
}
