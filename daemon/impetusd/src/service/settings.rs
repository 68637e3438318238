//! `change_settings`: written down first, then in force.

use protocol::Result;
use protocol::setting::{ChangeSettingsRequest, Setting, SettingChange};

use crate::admission::unknown_model;
use crate::session::Session;
use crate::supervisor::Pools;
use crate::{machine, telemetry};

pub async fn change(session: &Session, request: ChangeSettingsRequest) -> Result<Vec<Setting>> {
    let daemon = &session.daemon;
    for SettingChange { name, value } in &request.changes {
        if let ("models.default" | "models.default_embedder", Some(model)) = (name.as_str(), value) {
            known(session, name, model).await?;
        }
        tracing::info!(setting = %name, value = value.as_deref(), by = %session.actor(), "a setting is changed");
    }
    let config = daemon.settings.change(&session.actor(), request).await?;
    telemetry::set_level(config.log.level);
    let pools = Pools::of(&config, machine::memory().total);
    daemon.supervisor.configure(config, pools).await?;
    daemon.settings.list()
}

/// Refuses a default that no request could get.
async fn known(session: &Session, setting: &str, model: &str) -> Result<()> {
    session.daemon.prepared().await;
    let models = session.daemon.supervisor.look().await?.models;
    if models.iter().any(|card| card.name == model) {
        return Ok(());
    }
    Err(unknown_model(model, models.iter().map(|card| card.name.as_str())).param(setting))
}
