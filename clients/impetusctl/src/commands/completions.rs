//! `impetusctl completions`: prints completions for a shell.

use clap::CommandFactory;
use clap_complete::{Shell as Target, generate};
use protocol::Result;

use crate::cli::{Cli, Completions, Shell};
use crate::output::print;

/// Runs the command.
pub fn run(completions: &Completions) -> Result<()> {
    let target = match completions.shell {
        Shell::Bash => Target::Bash,
        Shell::Zsh => Target::Zsh,
        Shell::Fish => Target::Fish,
    };
    let mut script = Vec::new();
    generate(target, &mut Cli::command(), "impetusctl", &mut script);
    print(String::from_utf8_lossy(&script))
}
