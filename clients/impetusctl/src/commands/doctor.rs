//! `impetusctl doctor`: checks this installation from the outside and names what is wrong and what to do.
//!
//! It changes nothing but what any command may: a daemon is not started for it.

use std::path::Path;

use futures::StreamExt;
use protocol::client::Client;
use protocol::generation::{GenerateRequest, Priority, Prompt, Sampling, Stop};
use protocol::transcript::Event;
use protocol::{Error, PROTOCOL_VERSION, Result};
use serde::Serialize;

use crate::daemon::Daemon;
use crate::output::Output;

#[derive(Debug, Serialize)]
struct Finding {
    check: &'static str,
    ok: bool,
    detail: String,
    hint: Option<String>,
}

/// Runs the command; any failed check is an error.
pub async fn run(daemon: &Daemon, output: Output) -> Result<()> {
    let mut findings = vec![programs(), home(daemon.home())];
    match daemon.connect().await {
        Err(error) => findings.push(failed("daemon", &error)),
        Ok(client) => {
            findings.push(version(&client));
            findings.push(answer(&client).await);
            findings.push(bridge(&client).await);
        }
    }
    let bad = findings.iter().filter(|finding| !finding.ok).count();
    let lines: Vec<_> = findings.iter().map(describe).collect();
    output.result(&findings, lines.join("\n"))?;
    match bad {
        0 => Ok(()),
        _ => Err(Error::internal(format!("{bad} of {} checks failed.", findings.len()))),
    }
}

fn describe(finding: &Finding) -> String {
    let mark = if finding.ok { "ok  " } else { "FAIL" };
    let hint = finding.hint.as_ref().map(|hint| format!("\n       {hint}")).unwrap_or_default();
    format!("{mark} {}: {}{hint}", finding.check, finding.detail)
}

fn passed(check: &'static str, detail: String) -> Finding {
    Finding { check, ok: true, detail, hint: None }
}

fn failed(check: &'static str, error: &Error) -> Finding {
    Finding { check, ok: false, detail: error.message.clone(), hint: error.hint.clone() }
}

fn programs() -> Finding {
    let own = std::env::current_exe().unwrap_or_default();
    let missing: Vec<_> = ["impetusd", "impetus-worker", "impetus-http"]
        .into_iter()
        .filter(|program| !own.with_file_name(program).is_file())
        .collect();
    if missing.is_empty() {
        return passed("programs", format!("all in {}", own.parent().unwrap_or(Path::new("")).display()));
    }
    let error = Error::internal(format!("{} missing beside {}", missing.join(", "), own.display()))
        .hint("Build or install the whole of Impetus: its programs live in one folder.");
    failed("programs", &error)
}

fn home(home: &Path) -> Finding {
    use std::os::unix::fs::MetadataExt;
    match home.metadata() {
        Ok(metadata) if metadata.mode() & 0o077 == 0 => passed("home", format!("{} is private", home.display())),
        Ok(metadata) => {
            let message = format!("{} may be read by others (mode {:o})", home.display(), metadata.mode() & 0o777);
            failed("home", &Error::internal(message).hint(format!("chmod 700 '{}'", home.display())))
        }
        Err(error) => {
            let message = format!("{} cannot be read: {error}", home.display());
            failed("home", &Error::internal(message).hint("The daemon makes it at its first start."))
        }
    }
}

fn version(client: &Client) -> Finding {
    let welcome = client.welcome();
    let own = env!("CARGO_PKG_VERSION");
    if welcome.version == own {
        return passed("daemon", format!("{own}, protocol {PROTOCOL_VERSION}, pid {}", welcome.pid));
    }
    let message = format!("the daemon is {}, this program {own}", welcome.version);
    failed("daemon", &Error::internal(message).hint("Restart it: impetusctl stop, then impetusctl serve --detach."))
}

async fn answer(client: &Client) -> Finding {
    match first_token(client).await {
        Ok(model) => passed("answer", format!("{model} answers")),
        Err(error) => failed("answer", &error),
    }
}

async fn first_token(client: &Client) -> Result<String> {
    let request = GenerateRequest {
        sampling: Sampling { temperature: Some(0.0), ..Sampling::default() },
        stop: Stop { max_tokens: Some(1), ..Stop::default() },
        priority: Priority::High,
        deadline_ms: Some(60_000),
        ..GenerateRequest::new(None, Prompt::Text("Hello".to_owned()))
    };
    let mut model = String::new();
    let mut events = client.generate(request).await?;
    while let Some(event) = events.next().await {
        match event? {
            Event::Started(started) => model = started.model,
            Event::Finished(_) => return Ok(model),
            _ => {}
        }
    }
    Err(Error::internal("the answer ended without saying how"))
}

async fn bridge(client: &Client) -> Finding {
    match client.status().await {
        Ok(status) => match status.bridges.first() {
            Some(bridge) => passed("http", bridge.url.clone()),
            None => passed("http", "no bridge runs; impetusctl serve --detach starts one".to_owned()),
        },
        Err(error) => failed("http", &error),
    }
}
