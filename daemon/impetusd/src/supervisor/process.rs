//! One worker process and its three pipes: messages in, reports out, log lines forwarded. It understands no message
//! and decides nothing; when the process ends, for whatever reason, the last report says how. Used by `supervisor`.

use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use pipe::{FromWorker, ToWorker};
use tokio::io::{AsyncRead, AsyncWriteExt as _};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc;
use tokio_util::codec::{FramedRead, LengthDelimitedCodec, LinesCodec, LinesCodecError};
use tokio_util::sync::CancellationToken;

/// The longest log line of a worker; the rest of a longer one is dropped.
const LINE_BYTES_MAX: usize = 16 << 10;

/// How long a killed worker's pipes may stay open before they are given up.
const PIPES_CLOSE: Duration = Duration::from_secs(2);

/// What a worker process did.
#[derive(Debug)]
pub struct Report {
    /// The model it serves.
    pub model: Arc<str>,
    /// Which process of that model.
    pub worker: u64,
    /// What happened.
    pub what: What,
}

/// What happened.
#[derive(Debug)]
pub enum What {
    /// It sent a message.
    Said(Box<FromWorker>),
    /// It is gone; why, in words.
    Ended(String),
}

/// A running worker process; dropping it kills the process.
#[derive(Debug)]
pub struct Process {
    pid: u32,
    inbox: mpsc::Sender<ToWorker>,
    kill: CancellationToken,
}

/// What a process is started with.
pub struct Start<'a> {
    /// The worker program.
    pub program: &'a Path,
    /// The model it is to serve.
    pub model: Arc<str>,
    /// Its number, to tell it from its predecessors.
    pub worker: u64,
    /// Messages that may wait for it.
    pub inbox_max: usize,
}

impl Process {
    /// Starts a worker; its reports go to `reports`.
    pub fn start(start: &Start<'_>, reports: mpsc::Sender<Report>) -> io::Result<Self> {
        let mut child = Command::new(start.program)
            .arg("serve")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A group of its own: Ctrl-C in a terminal is for the daemon, which then drains.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let missing = || io::Error::other("a pipe of the worker is missing");
        let input = child.stdin.take().ok_or_else(missing)?;
        let output = child.stdout.take().ok_or_else(missing)?;
        let log = child.stderr.take().ok_or_else(missing)?;
        let pid = child.id().ok_or_else(missing)?;
        let (inbox, messages) = mpsc::channel(start.inbox_max);
        let kill = CancellationToken::new();
        let reporter = Reporter { model: start.model.clone(), worker: start.worker, reports };
        tokio::spawn(write(input, messages));
        tokio::spawn(forward_log(log, start.model.clone(), pid));
        tokio::spawn(attend(child, output, reporter, kill.clone()));
        Ok(Self { pid, inbox, kill })
    }

    /// Returns its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends a message. A worker that lets its inbox fill up has stopped reading, and is killed.
    pub fn send(&self, message: ToWorker) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.inbox.try_send(message) {
            self.kill();
        }
    }

    /// Kills it; its last report follows.
    pub fn kill(&self) {
        self.kill.cancel();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Writes messages until the sender is dropped; the worker then sees its input end, and exits.
async fn write(mut input: ChildStdin, mut messages: mpsc::Receiver<ToWorker>) {
    while let Some(message) = messages.recv().await {
        let written = match pipe::encode(&message) {
            Ok(frame) => input.write_all(&frame).await,
            Err(error) => {
                tracing::error!(%error, "a message to a worker cannot be encoded");
                Ok(())
            }
        };
        if written.is_err() {
            // The worker is gone; its last report says so.
            return;
        }
    }
}

struct Reporter {
    model: Arc<str>,
    worker: u64,
    reports: mpsc::Sender<Report>,
}

impl Reporter {
    async fn report(&self, what: What) {
        let report = Report { model: self.model.clone(), worker: self.worker, what };
        // Fails only once the supervisor itself has ended.
        let _ = self.reports.send(report).await;
    }
}

/// Reads messages until the worker ends or is killed, and then reports its end.
async fn attend(mut child: Child, output: ChildStdout, reporter: Reporter, kill: CancellationToken) {
    let codec = LengthDelimitedCodec::builder().little_endian().max_frame_length(pipe::FRAME_BYTES_MAX).new_codec();
    let mut frames = FramedRead::new(output, codec);
    let fault = tokio::select! {
        fault = read(&mut frames, &reporter) => fault,
        () = kill.cancelled() => {
            let _ = child.start_kill();
            // What it had already said still counts.
            tokio::time::timeout(PIPES_CLOSE, read(&mut frames, &reporter)).await.ok().flatten()
        }
    };
    if fault.is_some() {
        let _ = child.start_kill();
    }
    let status = tokio::select! {
        status = child.wait() => status,
        () = kill.cancelled() => {
            let _ = child.start_kill();
            child.wait().await
        }
    };
    let how = fault.unwrap_or_else(|| status.map_or_else(|error| error.to_string(), describe));
    reporter.report(What::Ended(how)).await;
}

/// Reads messages until the output ends; returns what was wrong with it, if anything.
async fn read(frames: &mut FramedRead<ChildStdout, LengthDelimitedCodec>, reporter: &Reporter) -> Option<String> {
    loop {
        match frames.next().await {
            None => return None,
            Some(Err(error)) => return Some(format!("it sent an unreadable frame: {error}")),
            Some(Ok(frame)) => match pipe::decode(&frame) {
                Ok(message) => reporter.report(What::Said(Box::new(message))).await,
                Err(error) => return Some(format!("it sent an unreadable message: {error}")),
            },
        }
    }
}

fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.signal(), status.code()) {
        (Some(9), _) => "it was killed (signal 9), perhaps for lack of memory".to_owned(),
        (Some(signal), _) => format!("it was ended by signal {signal}"),
        (_, Some(code)) => format!("it exited with code {code}"),
        _ => "it ended".to_owned(),
    }
}

/// Writes a worker's log lines into the daemon's own log, at their level.
async fn forward_log(log: ChildStderr, model: Arc<str>, pid: u32) {
    each_line(log, |line| forward_line(line, &model, pid)).await;
}

/// Reads lines to the end of the log, whatever they are: a worker whose log nobody reads any more ends with its next line.
async fn each_line(log: impl AsyncRead + Unpin, mut hear: impl FnMut(&str)) {
    let mut lines = FramedRead::new(log, LinesCodec::new_with_max_length(LINE_BYTES_MAX));
    loop {
        match lines.next().await {
            Some(Ok(line)) => hear(&line),
            // After an error the stream says once that it is over; this one goes on behind the line's end.
            Some(Err(LinesCodecError::MaxLineLengthExceeded)) => drop(lines.next().await),
            // What is no text is one line less.
            Some(Err(LinesCodecError::Io(error))) if error.kind() == io::ErrorKind::InvalidData => {
                drop(lines.next().await);
            }
            Some(Err(LinesCodecError::Io(_))) | None => return,
        }
    }
}

fn forward_line(line: &str, model: &str, pid: u32) {
    let parsed: Option<serde_json::Value> = serde_json::from_str(line).ok();
    let text = |pointer: &str| parsed.as_ref()?.pointer(pointer)?.as_str();
    let message = told(parsed.as_ref()).unwrap_or_else(|| line.to_owned());
    match text("/level").unwrap_or("WARN") {
        "ERROR" => tracing::error!(target: "worker", model, pid, "{message}"),
        "WARN" => tracing::warn!(target: "worker", model, pid, "{message}"),
        "INFO" => tracing::info!(target: "worker", model, pid, "{message}"),
        "DEBUG" => tracing::debug!(target: "worker", model, pid, "{message}"),
        _ => tracing::trace!(target: "worker", model, pid, "{message}"),
    }
}

/// What a line of a worker's log says: its message, and the causes that came with it.
fn told(line: Option<&serde_json::Value>) -> Option<String> {
    let line = line?;
    let Some(fields) = line.get("fields").and_then(serde_json::Value::as_object) else {
        return line.get("message")?.as_str().map(str::to_owned);
    };
    let mut told = fields.get("message")?.as_str()?.to_owned();
    for (name, value) in fields.iter().filter(|(name, _)| *name != "message") {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        told.push_str(&format!(", {name}: {value}"));
    }
    Some(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_told_with_the_causes_beside_its_message() {
        let line = r#"{"level":"WARN","fields":{"message":"it cannot be stored","error":"disk full","files":3}}"#;
        let told = |line: &str| told(serde_json::from_str(line).ok().as_ref());
        assert_eq!(told(line).as_deref(), Some("it cannot be stored, error: disk full, files: 3"));
        assert_eq!(told(r#"{"message":"plain"}"#).as_deref(), Some("plain"));
        assert_eq!(told("no JSON"), None);
    }

    #[tokio::test]
    async fn a_log_is_read_to_its_end_past_lines_that_are_too_long_or_no_text() {
        let long = "x".repeat(5 * LINE_BYTES_MAX);
        let log = [b"one\n", long.as_bytes(), b"\ntwo\n\xff\xfe\nthree\n", long.as_bytes()].concat();
        let mut heard = Vec::new();
        each_line(log.as_slice(), |line| heard.push(line.to_owned())).await;
        assert_eq!(heard, ["one", "two", "three"]);
    }
}
