//! Asks the worker program about files on disk: the facts and texts of a model folder, the bundled models, a folder of a
//! GGUF file. impetusd links no tensor code, so a short-lived process reads what a config file means. Bounded in time and
//! output.
//! Called by `service` when models are added, pulled or imported, and by `bundled`.

mod import;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use protocol::model::{ModelFacts, ModelTexts};
use protocol::{Error, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;

/// More output than this is not an answer.
const OUTPUT_BYTES_MAX: u64 = 4 << 20;

/// The worker program, as something to ask.
#[derive(Clone, Debug)]
pub struct Inspector {
    program: PathBuf,
    limit: Duration,
}

/// A bundled model that was written to disk.
#[derive(Debug, Deserialize)]
pub struct Bundled {
    /// Its name.
    pub name: String,
    /// Its folder.
    pub path: String,
}

impl Inspector {
    /// Asks `program`, and waits up to `limit` for each answer.
    pub fn new(program: PathBuf, limit: Duration) -> Self {
        Self { program, limit }
    }

    /// Returns the worker program.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Reads the facts of a model folder.
    pub async fn facts(&self, path: &Path) -> Result<ModelFacts> {
        self.ask("inspect", path).await
    }

    /// Refuses a model folder that could not be served whatever its weights are, which need not be there yet.
    pub async fn foresee(&self, path: &Path) -> Result<()> {
        self.ask("foresee", path).await
    }

    /// Reads what a model folder holds for people to read.
    pub async fn texts(&self, path: &Path) -> Result<ModelTexts> {
        self.ask("texts", path).await
    }

    /// Writes the bundled models into `folder`, where they differ from what is there.
    pub async fn bundled(&self, folder: &Path) -> Result<Vec<Bundled>> {
        self.ask("bundled", folder).await
    }

    async fn ask<T: DeserializeOwned>(&self, verb: &str, path: &Path) -> Result<T> {
        let answer = tokio::time::timeout(self.limit, self.run(verb, path)).await;
        let late = |_| {
            let limit = self.limit.as_secs();
            Error::internal(format!("the worker program did not finish `{verb} {}` within {limit} s", path.display()))
        };
        let broken = |error: std::io::Error| {
            let program = self.program.display();
            Error::internal(format!("the worker program {program} cannot be asked: {error}"))
                .hint("install Impetus again, or set IMPETUS_WORKER to the program")
        };
        let (good, output) = answer.map_err(late)?.map_err(broken)?;
        let unreadable = |error: serde_json::Error| {
            Error::internal(format!("the worker program answered `{verb} {}` with no JSON: {error}", path.display()))
        };
        match good {
            true => serde_json::from_slice(&output).map_err(unreadable),
            false => Err(serde_json::from_slice::<Error>(&output).unwrap_or_else(unreadable)),
        }
    }

    /// Runs the program to its end; dropping the future kills it.
    async fn run(&self, verb: &str, path: &Path) -> std::io::Result<(bool, Vec<u8>)> {
        let mut child = Command::new(&self.program)
            .arg(verb)
            .arg(path)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let mut output = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            stdout.take(OUTPUT_BYTES_MAX).read_to_end(&mut output).await?;
        }
        Ok((child.wait().await?.success(), output))
    }
}

/// Finds the worker program: as configured, else beside this program.
pub fn locate(configured: &str) -> PathBuf {
    if !configured.is_empty() {
        return PathBuf::from(configured);
    }
    let beside = std::env::current_exe().ok().and_then(|program| Some(program.parent()?.join("impetus-worker")));
    beside.unwrap_or_else(|| PathBuf::from("impetus-worker"))
}
