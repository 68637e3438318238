//! `impetusctl serve`: starts the daemon and the HTTP bridge, in the foreground or to stay.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Child;

use protocol::client::Client;
use protocol::status::{Bridge, StopRequest};
use protocol::{Error, ErrorKind, Result};
use serde_json::{Value, json};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Duration, Instant, sleep};

use crate::cli::Serve;
use crate::daemon::Daemon;
use crate::output::Output;

/// Where a bridge listens unless told otherwise.
const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8420);

/// How long a bridge that survived its daemon may take to find the next one: some of its looks, two a second.
const SURVIVOR_MAX: Duration = Duration::from_secs(3);

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
    let running = client.status().await?.bridges;
    let url = match asked_for(serve, running)? {
        Some(bridge) => Some(bridge.url),
        None if serve.no_http => None,
        None => Some(bridge(daemon, &client, serve).await?.url),
    };
    let (value, text) = report(&client, url).await?;
    output.result(&value, text)
}

/// Finds the bridge that was asked for among those that run.
fn asked_for(serve: &Serve, running: Vec<Bridge>) -> Result<Option<Bridge>> {
    let there = |bridge: &Bridge| serve.http.is_none_or(|address| bridge.url.ends_with(&format!("://{address}")));
    let found = running.into_iter().find(there);
    match found {
        Some(bridge) if !serve.allow_host.is_empty() || !serve.allow_origin.is_empty() || serve.tls_cert.is_some() => {
            let url = bridge.url;
            let message =
                format!("A bridge runs already at {url}, with the certificate, hosts and origins of its start.");
            Err(Error::new(ErrorKind::Conflict, message)
                .hint("Stop it with `impetusctl stop`, or give another address with --http."))
        }
        found => Ok(found),
    }
}

/// Starts a bridge. One that survived its daemon still holds the address, and soon announces itself to the new one.
async fn bridge(daemon: &Daemon, client: &Client, serve: &Serve) -> Result<Bridge> {
    let mut child = daemon.spawn_bridge(&flags(serve))?;
    let error = match daemon.announced(client, &mut child).await {
        Ok(bridge) => return Ok(bridge),
        Err(error) => error,
    };
    end(&mut child);
    let end = Instant::now() + SURVIVOR_MAX;
    while Instant::now() < end {
        let here = Serve { http: Some(address(serve)), ..serve.clone() };
        if let Some(bridge) = asked_for(&here, client.status().await?.bridges)? {
            return Ok(bridge);
        }
        sleep(LOOK).await;
    }
    Err(error)
}

async fn foreground(daemon: &Daemon, output: Output, serve: &Serve) -> Result<()> {
    // First, so that whatever it starts ends with it.
    let mut signals = Signals::watch()?;
    if let Ok(client) = daemon.connect().await {
        let pid = client.welcome().pid;
        return Err(Error::new(ErrorKind::Conflict, format!("impetusd runs already, as process {pid}."))
            .hint("Stop it with `impetusctl stop`, or use `impetusctl serve --detach` to start what is missing."));
    }
    let mut children = Vec::new();
    let ended = tokio::select! {
        ended = serve_until_one_ends(daemon, output, serve, &mut children) => ended,
        () = signals.next() => Ok(()),
    };
    end_all(daemon, children).await;
    ended
}

/// Starts the programs, and waits until one of them ends, which is no failure where it was told to.
async fn serve_until_one_ends(daemon: &Daemon, output: Output, serve: &Serve, children: &mut Vec<Child>) -> Result<()> {
    children.push(daemon.spawn_daemon()?);
    let client = daemon.connected(&mut children[0]).await?;
    let mut url = None;
    if !serve.no_http {
        children.push(daemon.spawn_bridge(&flags(serve))?);
        url = Some(daemon.announced(&client, &mut children[1]).await?.url);
    }
    let (value, text) = report(&client, url).await?;
    output.news(&value, text)?;
    loop {
        sleep(LOOK).await;
        for child in children.iter_mut() {
            match child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => {
                    return Err(Error::internal(format!("A program of the service ended: {status}."))
                        .hint("`impetusctl logs` shows why."));
                }
                _ => {}
            }
        }
    }
}

/// Ends the programs that were started, the daemon first in line, with time for its work.
async fn end_all(daemon: &Daemon, children: Vec<Child>) {
    let asked = async { daemon.connect().await?.stop(StopRequest { drain_ms: DRAIN_MS }).await };
    let asked = !children.is_empty() && asked.await.is_ok();
    let limit = Instant::now() + Duration::from_millis(DRAIN_MS + 5_000);
    for (place, mut child) in children.into_iter().enumerate().rev() {
        // A daemon that was asked over its socket drains as long as it was told to.
        if place > 0 || !asked {
            super::stop::terminate(child.id());
        }
        while Instant::now() < limit && matches!(child.try_wait(), Ok(None)) {
            sleep(Duration::from_millis(20)).await;
        }
        end(&mut child);
    }
}

/// Ends a program at once; one that is gone already is as good.
fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

/// What ends the foreground service: Ctrl-C, a polite signal, and the end of its terminal.
struct Signals([Signal; 3]);

impl Signals {
    fn watch() -> Result<Self> {
        let failed = |error: std::io::Error| Error::internal(format!("Signals cannot be watched: {error}."));
        let watch = |kind| signal(kind).map_err(failed);
        Ok(Self([watch(SignalKind::interrupt())?, watch(SignalKind::terminate())?, watch(SignalKind::hangup())?]))
    }

    async fn next(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

/// Returns where the bridge is to listen.
fn address(serve: &Serve) -> SocketAddr {
    serve.http.unwrap_or(LISTEN)
}

/// Returns the flags of the bridge.
fn flags(serve: &Serve) -> Vec<String> {
    let mut flags = vec!["--listen".to_owned(), address(serve).to_string()];
    let given = [("--allow-host", &serve.allow_host), ("--allow-origin", &serve.allow_origin)];
    for (flag, values) in given {
        flags.extend(values.iter().flat_map(|value| [flag.to_owned(), value.clone()]));
    }
    let given = [("--tls-cert", &serve.tls_cert), ("--tls-key", &serve.tls_key)];
    flags.extend(given.into_iter().flat_map(|(flag, value)| Some([flag.to_owned(), value.clone()?])).flatten());
    flags
}

/// Returns what there is to say of the service, for programs and for people.
async fn report(client: &Client, url: Option<String>) -> Result<(Value, String)> {
    // Ready is who can answer: at the very first start the bundled models are written to disk meanwhile.
    client.models().await?;
    let status = client.status().await?;
    let value = json!({
        "version": status.version, "pid": status.pid, "socket": status.socket, "http": url, "home": status.home,
    });
    let http = url.unwrap_or_else(|| "no bridge".to_owned());
    let text = format!(
        "Impetus {} serves, pid {}\n  socket  {}\n  http    {http}\n  stop    impetusctl stop",
        status.version, status.pid, status.socket
    );
    Ok((value, text))
}
