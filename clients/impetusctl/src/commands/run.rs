//! `impetusctl run`: answers one prompt.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use protocol::generation::{Constraint, Json, Role};
use protocol::{Error, ErrorKind, Result};

use super::answer::{self, Ended};
use crate::cli::Run;
use crate::daemon::Daemon;
use crate::output::{Output, line};

/// The longest prompt read from standard input, in bytes.
const PROMPT_BYTES_MAX: u64 = 8 << 20;

/// The longest schema, in bytes.
const SCHEMA_BYTES_MAX: u64 = 1 << 20;

/// Runs the command.
pub async fn run(daemon: &Daemon, output: Output, run: Run) -> Result<()> {
    let prompt = if run.prompt == "-" { from_stdin()? } else { run.prompt };
    let constraint = run.schema.as_deref().map(from_file).transpose()?;
    let mut messages = answer::opening(&run.generation);
    messages.push(answer::message(Role::User, prompt));
    let client = daemon.start().await?;
    let answer = answer::stream(&client, answer::request(&run.generation, messages, constraint), !output.json).await?;
    if output.json {
        output.document(&answer)?;
    } else {
        line("")?;
        if run.generation.verbose {
            eprintln!("\n{}", answer.speed());
        }
    }
    match answer.ended {
        Ended::Whole => Ok(()),
        Ended::Cancelled => Err(Error::new(ErrorKind::Cancelled, "The answer was cancelled.")),
    }
}

/// Reads the schema that an answer is held to.
fn from_file(path: &Path) -> Result<Constraint> {
    let fault = |why: String| Error::invalid("schema", format!("{} {why}.", path.display()));
    let file = File::open(path).map_err(|error| fault(format!("cannot be opened: {error}")))?;
    let mut text = String::new();
    file.take(SCHEMA_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .map_err(|error| fault(format!("cannot be read: {error}")))?;
    if text.len() as u64 > SCHEMA_BYTES_MAX {
        return Err(fault(format!("is longer than {SCHEMA_BYTES_MAX} bytes")));
    }
    Ok(Constraint::JsonSchema { schema: Json(text), strict: true })
}

fn from_stdin() -> Result<String> {
    let mut bytes = Vec::new();
    std::io::stdin()
        .take(PROMPT_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Error::internal(format!("Standard input failed: {error}.")))?;
    if bytes.len() as u64 > PROMPT_BYTES_MAX {
        return Err(Error::invalid("prompt", format!("The prompt is longer than {PROMPT_BYTES_MAX} bytes.")));
    }
    String::from_utf8(bytes).map_err(|_| {
        Error::invalid("prompt", "The prompt on standard input is not UTF-8 text.")
            .hint("Convert it first, with iconv for example.")
    })
}
