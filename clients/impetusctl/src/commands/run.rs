//! `impetusctl run`: answers one prompt.

use std::fs::File;
use std::io::{IsTerminal, Read};
use std::path::Path;

use clap::CommandFactory;
use protocol::client::Client;
use protocol::generation::{Constraint, Json, Role};
use protocol::{Error, ErrorKind, Result};

use super::answer::{self, Ended, Show};
use crate::cli::{Cli, Run};
use crate::daemon::Daemon;
use crate::output::{Output, line, mistake, note};

/// The longest prompt read from standard input, in bytes.
const PROMPT_BYTES_MAX: u64 = 8 << 20;

/// The longest schema, in bytes.
const SCHEMA_BYTES_MAX: u64 = 1 << 20;

/// Runs the command.
pub async fn run(daemon: &Daemon, output: Output, run: Run) -> Result<()> {
    let first = run.words.first().filter(|_| run.words.len() > 1 && run.generation.model.is_none()).cloned();
    let prompt = prompt(run.words)?;
    let constraint = run.schema.as_deref().map(from_file).transpose()?;
    let mut messages = answer::opening(&run.generation);
    messages.push(answer::message(Role::User, prompt));
    let client = daemon.start().await?;
    if let Some(word) = first {
        no_model(&client, &word).await?;
    }
    let request = answer::request(&run.generation, messages, constraint);
    let answer = answer::stream(&client, request, Show::to(output)).await?;
    if output.json {
        output.document(&answer)?;
    } else {
        line("")?;
        if run.generation.verbose {
            note(format_args!("\n{}", answer.speed()));
        }
    }
    match answer.ended {
        Ended::Whole => Ok(()),
        Ended::Cancelled => Err(Error::new(ErrorKind::Cancelled, "The answer was cancelled.")),
    }
}

/// Refuses a prompt that begins with a model's name, as other programs of this kind take it: it would go to another model.
async fn no_model(client: &Client, word: &str) -> Result<()> {
    if client.models().await?.iter().all(|card| card.name != word) {
        return Ok(());
    }
    let hint = format!("impetusctl run --model {word} PROMPT; or quote the prompt, if it does begin so");
    Err(Error::invalid("prompt", format!("{word} is a model, and would be the first word of the prompt.")).hint(hint))
}

/// Puts the prompt together: the words, and what standard input says where a `-` stands or nothing else is there.
fn prompt(mut words: Vec<String>) -> Result<String> {
    if words.is_empty() && !std::io::stdin().is_terminal() {
        words.push("-".to_owned());
    }
    if words.iter().filter(|word| *word == "-").count() > 1 {
        return Err(Error::invalid("prompt", "Standard input can stand in one place only."));
    }
    let parts: Result<Vec<String>> =
        words.into_iter().map(|word| if word == "-" { from_stdin() } else { Ok(word) }).collect();
    let prompt = parts?.join(" ");
    if prompt.trim().is_empty() {
        let mut cli = Cli::command();
        cli.build();
        let run = cli.find_subcommand_mut("run").expect("it is the command that runs");
        let missing = "there is no prompt; give one, as in impetusctl run \"Why is the sky blue?\"";
        mistake(&run.error(clap::error::ErrorKind::MissingRequiredArgument, missing));
    }
    Ok(prompt)
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
