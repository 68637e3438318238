//! `impetusctl serve`: starts the daemon and the HTTP bridge, in the foreground or to stay.

use std::process::Child;

use protocol::client::Client;
use protocol::status::StopRequest;
use protocol::{Error, Result};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Duration, sleep};

use crate::cli::Serve;
use crate::daemon::Daemon;
use crate::output::Output;

/// How long running work may take once the foreground service is interrupted.
const DRAIN_MS: u64 = 10_000;

/// How often the foreground service looks whether its programs still run.
const LOOK: Duration = Duration::from_millis(200);

/// Runs the command.
pub async fn run(daemon: &Daemon, output: Output, serve: &Serve) -> Result<()> {
    if serve.detach { detached(daemon, output, serve).await } else { foreground(daemon, output, serve).await }
}

async fn detached(daemon: &Daemon, output: Output, serve: &Serve) -> Result<()> {
    let client = daemon.start().await?;
    let running = client.status().await?.bridges.into_iter().next();
    let url = match running {
        Some(bridge) => Some(bridge.url),
        None if serve.no_http => None,
        None => Some(daemon.spawn_bridge(&client, &flags(serve)).await?.1),
    };
    report(&client, output, url).await
}

async fn foreground(daemon: &Daemon, output: Output, serve: &Serve) -> Result<()> {
    if let Ok(client) = daemon.connect().await {
        let pid = client.welcome().pid;
        return Err(Error::new(protocol::ErrorKind::Conflict, format!("impetusd runs already, as process {pid}."))
            .hint("Stop it with 'impetusctl stop', or use 'impetusctl serve --detach' to start what is missing."));
    }
    let mut children = vec![daemon.spawn_daemon(true)?];
    let client = daemon.connected(&mut children[0]).await?;
    let mut url = None;
    if !serve.no_http {
        let (child, announced) = daemon.spawn_bridge(&client, &flags(serve)).await?;
        children.push(child);
        url = Some(announced);
    }
    report(&client, output, url).await?;
    let ended = watch(&mut children).await;
    let stopped = client.stop(StopRequest { drain_ms: DRAIN_MS }).await;
    for child in &mut children[1..] {
        super::stop::terminate(child.id());
    }
    if stopped.is_ok() {
        let _ = tokio::time::timeout(Duration::from_millis(DRAIN_MS + 5_000), client.closed()).await;
    }
    for mut child in children {
        // A child that is gone already cannot be waited for twice; either is an end.
        let _ = child.wait();
    }
    ended
}

/// Waits for a signal or for the end of a child.
async fn watch(children: &mut [Child]) -> Result<()> {
    let failed = |error: std::io::Error| Error::internal(format!("Signals cannot be watched: {error}."));
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    loop {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => return Ok(()),
            _ = terminate.recv() => return Ok(()),
            () = sleep(LOOK) => {}
        }
        for child in children.iter_mut() {
            if let Ok(Some(status)) = child.try_wait() {
                return Err(Error::internal(format!("A program of the service ended: {status}."))
                    .hint("'impetusctl logs' shows why."));
            }
        }
    }
}

/// Returns the flags of the bridge.
fn flags(serve: &Serve) -> Vec<String> {
    let mut flags = vec!["--listen".to_owned(), serve.http.to_string()];
    let given = [("--allow-host", &serve.allow_host), ("--allow-origin", &serve.allow_origin)];
    for (flag, values) in given {
        flags.extend(values.iter().flat_map(|value| [flag.to_owned(), value.clone()]));
    }
    let given = [("--tls-cert", &serve.tls_cert), ("--tls-key", &serve.tls_key)];
    flags.extend(given.into_iter().flat_map(|(flag, value)| Some([flag.to_owned(), value.clone()?])).flatten());
    flags
}

async fn report(client: &Client, output: Output, url: Option<String>) -> Result<()> {
    let status = client.status().await?;
    let value = json!({
        "version": status.version, "pid": status.pid, "socket": status.socket, "http": url, "home": status.home,
    });
    let http = url.unwrap_or_else(|| "no bridge".to_owned());
    output.result(
        &value,
        format_args!(
            "Impetus {} serves, pid {}\n  socket  {}\n  http    {http}\n  stop    impetusctl stop",
            status.version, status.pid, status.socket
        ),
    )
}
