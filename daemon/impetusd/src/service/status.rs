//! `handshake`, `status`, `announce` and `stop`: the daemon itself.

use std::time::Duration;

use protocol::key::KeyRole;
use protocol::measures::Metrics;
use protocol::status::{Bridge, Hello, Memory, Status, StopRequest, Welcome};
use protocol::{Error, PROTOCOL_VERSION, Result};

use super::models::only_allowed;
use crate::daemon::Daemon;
use crate::session::Session;
use crate::time::milliseconds;
use crate::{COMMIT, VERSION, machine};

/// What this daemon can do; words are only ever added.
const CAPABILITIES: [&str; 12] = [
    "generate", "models", "pull", "keys", "tokenize", "records", "embed", "rerank", "journal", "settings", "metrics",
    "watch",
];

/// The longest drain that a client may ask for.
const DRAIN_MAX: Duration = Duration::from_secs(3600);

/// Bytes of an announced URL.
const URL_BYTES_MAX: usize = 512;

pub fn handshake(session: &Session, hello: Hello) -> Result<Welcome> {
    let client: String = hello.client.chars().filter(|c| !c.is_control()).take(64).collect();
    if let Some(key) = hello.key {
        session.act_for(key)?;
    }
    tracing::debug!(session = session.id, %client, actor = %session.actor(), "handshake");
    // Only said where it is so: clients need not make spans that nobody takes.
    let traces = session.daemon.traces.on().then_some("traces");
    Ok(Welcome {
        version: VERSION.to_owned(),
        commit: COMMIT.to_owned(),
        pid: std::process::id(),
        protocol: PROTOCOL_VERSION,
        capabilities: CAPABILITIES.into_iter().chain(traces).map(str::to_owned).collect(),
    })
}

pub async fn status(session: &Session) -> Result<Status> {
    let daemon = &session.daemon;
    let mut snapshot = daemon.supervisor.look().await?;
    only_allowed(session, &mut snapshot.models)?;
    // What a key may not use it does not hear of, nor, unless it is an administrator's, where things lie on this machine.
    let default_model = snapshot.default.filter(|name| snapshot.models.iter().any(|card| card.name == *name));
    let shown = |path: &dyn std::fmt::Display| match session.allow(KeyRole::Admin) {
        Ok(()) => path.to_string(),
        Err(_) => String::new(),
    };
    let memory = machine::memory();
    let (connections, bridges) = daemon.connected();
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    Ok(Status {
        version: VERSION.to_owned(),
        commit: COMMIT.to_owned(),
        pid: std::process::id(),
        uptime_ms: milliseconds(daemon.started.elapsed()),
        environment: daemon.config.environment.clone(),
        home: shown(&daemon.paths.home().display()),
        socket: shown(&daemon.config.socket.display()),
        logs: shown(&daemon.paths.logs().display()),
        bridges,
        draining: daemon.shutdown.is_requested(),
        connections: count(connections),
        active: count(daemon.transcripts.active()),
        default_model,
        models: snapshot.models,
        memory: Memory {
            total_bytes: memory.total,
            available_bytes: memory.available,
            budget_bytes: snapshot.budget,
            models_bytes: snapshot.bytes,
            daemon_bytes: memory.own,
        },
        machine: daemon.machine.clone(),
    })
}

pub async fn metrics(session: &Session) -> Result<Metrics> {
    let daemon = &session.daemon;
    let allowed = session.key().map_or(Ok(Vec::new()), |key| daemon.keys.models(key))?;
    let sees = |model: &String| allowed.is_empty() || allowed.contains(model);
    let tally = daemon.journal.tally();
    let mut metrics = Metrics {
        models: daemon.supervisor.measures().await?,
        requests: tally.requests(),
        durations: tally.durations(),
    };
    metrics.models.retain(|of| sees(&of.model));
    metrics.requests.retain(|of| sees(&of.model));
    metrics.durations.retain(|of| sees(&of.model));
    Ok(metrics)
}

pub fn announce(session: &Session, bridge: Bridge) -> Result<()> {
    let web = bridge.url.starts_with("http://") || bridge.url.starts_with("https://");
    if !web || bridge.url.len() > URL_BYTES_MAX || bridge.url.contains(char::is_control) {
        return Err(Error::invalid("url", "a bridge's url must begin with http:// or https:// and be short"));
    }
    tracing::info!(session = session.id, url = %bridge.url, pid = bridge.pid, "a bridge is connected");
    session.daemon.announce(session.id, bridge);
    Ok(())
}

pub async fn stop(daemon: &Daemon, request: StopRequest) -> Result<()> {
    tracing::info!(drain_ms = request.drain_ms, "told to end by a client");
    let deadline = daemon.shutdown.request(Duration::from_millis(request.drain_ms).min(DRAIN_MAX));
    // Told here too, so that whatever is asked after the answer to this is refused.
    daemon.supervisor.drain(deadline).await;
    Ok(())
}
