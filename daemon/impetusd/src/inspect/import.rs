//! Has the worker program make a model folder of a GGUF file, and hears how far it is.

use std::path::Path;
use std::process::Stdio;

use pipe::{Imported, Importing};
use protocol::{Error, Result};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::Command;

use super::{Inspector, OUTPUT_BYTES_MAX};

impl Inspector {
    /// Makes a folder of `file` in `dir`, which exists and is empty; `heard` is told bytes that are done, of how many. A
    /// program that says nothing for as long as any answer may take is given up. Dropping the future kills it.
    pub async fn import(&self, file: &Path, dir: &Path, mut heard: impl FnMut(u64, u64)) -> Result<Imported> {
        let broken = |error: std::io::Error| {
            let program = self.program.display();
            Error::internal(format!("the worker program {program} cannot import: {error}"))
        };
        let mut child = Command::new(&self.program)
            .arg("import")
            .args([file, dir])
            // It ends with its input, so it never outlives the daemon.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(broken)?;
        let stdout = child.stdout.take().ok_or_else(|| Error::internal("the worker program has no output"))?;
        let mut lines = BufReader::new(stdout.take(OUTPUT_BYTES_MAX)).lines();
        loop {
            let line = tokio::time::timeout(self.limit, lines.next_line()).await;
            let late = |_| {
                let limit = self.limit.as_secs();
                Error::internal(format!("the import of {} came no further within {limit} s", file.display()))
            };
            let Some(line) = line.map_err(late)?.map_err(broken)? else {
                let status = child.wait().await.map_err(broken)?;
                return Err(Error::internal(format!("the import of {} ended early: {status}", file.display())));
            };
            match serde_json::from_str(&line) {
                Ok(Importing::Progress { done, total }) => heard(done, total),
                Ok(Importing::Done(imported)) => return Ok(imported),
                Ok(Importing::Failed(error)) => return Err(error),
                Err(error) => return Err(Error::internal(format!("the import said something strange: {error}"))),
            }
        }
    }
}
