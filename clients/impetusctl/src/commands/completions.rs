//! `impetusctl completions`: prints completions for a shell.

use clap::CommandFactory;
use clap_complete::{Shell as Target, generate};
use protocol::Result;
use serde_json::json;

use crate::cli::{Cli, Completions, Shell};
use crate::output::{Output, print};

/// Runs the command.
pub fn run(output: Output, completions: &Completions) -> Result<()> {
    let target = match completions.shell {
        Shell::Bash => Target::Bash,
        Shell::Zsh => Target::Zsh,
        Shell::Fish => Target::Fish,
    };
    let mut script = Vec::new();
    generate(target, &mut Cli::command(), "impetusctl", &mut script);
    let script = String::from_utf8_lossy(&script);
    if output.json { output.document(&json!({ "script": script })) } else { print(script) }
}
