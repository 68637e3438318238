//! `impetusctl`: the daemon's command line. Parses the arguments, runs one command, turns its error into an exit code.
//!
//! `cli` holds what can be typed, `commands` one file a verb, `output` how answers look to people and to programs,
//! `daemon` how the daemon is found and started. This program decides nothing that the daemon could decide.

mod cli;
mod commands;
mod daemon;
mod exit;
mod output;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::Cli;
use crate::output::Output;

fn main() -> ExitCode {
    let cli = Cli::try_parse().unwrap_or_else(|error| output::mistake(&error));
    let output = Output { json: cli.json };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return output.failure(&protocol::Error::internal(format!("The runtime did not start: {error}.")));
        }
    };
    let done = runtime.block_on(commands::run(cli, output));
    // A reader thread may still sit on standard input; nobody waits for it.
    runtime.shutdown_background();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => output.failure(&error),
    }
}
