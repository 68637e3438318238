//! `impetus-worker`: one resident model in a process of its own, started by `impetusd` and by nobody else.
//!
//! `serve` speaks the daemon's pipe on standard input and output and ends with its input; `inspect` tells what a model
//! folder holds; `bundled` writes the models that Impetus ships. Logs are JSON lines on standard error.

use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;
use tracing_subscriber::EnvFilter;

const USAGE: &str = "\
impetus-worker holds one model for impetusd, which starts it. It has three commands:

  impetus-worker serve          answers requests from standard input on standard output
  impetus-worker inspect PATH   prints what the model folder PATH holds, as JSON
  impetus-worker bundled DIR    writes the models that Impetus ships into DIR and prints where they are, as JSON
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["serve"] => serve(),
        ["inspect", path] => print(worker::facts::inspect(Path::new(path))),
        ["bundled", dir] => print(worker::bundled::install(Path::new(dir))),
        ["help" | "--help" | "-h"] => {
            print!("{USAGE}");
            ExitCode::SUCCESS
        }
        ["--version" | "-V"] => {
            println!("impetus-worker {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        _ => {
            eprint!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn serve() -> ExitCode {
    log_to_stderr();
    // The daemon is gone when the input ends, and nobody would read what a running step still gives.
    match worker::serve(std::io::stdin(), std::io::stdout(), || std::process::exit(0)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the worker ends");
            ExitCode::FAILURE
        }
    }
}

/// Prints a result as JSON on standard output; an error makes the exit code 1.
fn print<T: Serialize>(result: Result<T, protocol::Error>) -> ExitCode {
    let (json, code) = match result {
        Ok(value) => (serde_json::to_string(&value), ExitCode::SUCCESS),
        Err(error) => (serde_json::to_string(&error), ExitCode::FAILURE),
    };
    match json {
        Ok(json) => {
            println!("{json}");
            code
        }
        Err(error) => {
            eprintln!("the result cannot be written as JSON: {error}");
            ExitCode::FAILURE
        }
    }
}

fn log_to_stderr() {
    let filter = EnvFilter::try_from_env("IMPETUS_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().json().with_writer(std::io::stderr).with_env_filter(filter).init();
    std::panic::set_hook(Box::new(|panic| tracing::error!(%panic, "a defect ended a thread")));
}
