//! `impetus-worker`: one resident model in a process of its own, started by `impetusd` and by nobody else.
//!
//! `serve` speaks the daemon's pipe on standard input and output and ends with its input; `inspect` tells what a model
//! folder holds, `foresee` whether it may be served before its weights are there, and `texts` what is for people to read;
//! `bundled` writes the models that Impetus ships; `import` makes a folder of a GGUF file; `render` is the process in which
//! `serve` runs a model's chat template and tries the shapes of answers. Logs are JSON lines on standard error.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use protocol::model::ModelFacts;
use protocol::{Error, ErrorKind};
use serde::Serialize;
use tracing_subscriber::EnvFilter;
use worker::guard::{Excess, FILE_LIMITS, Guard, Limits};
use worker::prompt::renderer::Renderer;
use worker::render::RENDER_LIMITS;

const USAGE: &str = "\
impetus-worker holds one model for impetusd, which starts it. Its commands:

  impetus-worker serve          answers requests from standard input on standard output
  impetus-worker inspect PATH [BYTES]
                                prints what the model folder PATH holds, as JSON, and takes no more memory than 2 GiB, or BYTES
  impetus-worker foresee PATH   refuses the model folder PATH if it cannot be served whatever its weights are, which may be
                                missing still
  impetus-worker texts PATH     prints its chat template, license and defaults for sampling, as JSON
  impetus-worker bundled DIR    writes the models that Impetus ships into DIR and prints where they are, as JSON
  impetus-worker import FILE DIR
                                makes a model folder of a GGUF file in the empty folder DIR, says how far it is in lines
                                of JSON, and ends with its input
  impetus-worker render PATH [MILLISECONDS BYTES]
                                renders conversations with the chat template of the model folder PATH and tries grammars,
                                from frames of JSON on standard input, each within so much time and memory; `serve` starts it
";

fn main() -> ExitCode {
    protocol::memory::give_back();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["serve"] => serve(),
        ["inspect", path] => print(inspect(path, FILE_LIMITS)),
        ["inspect", path, bytes] => match bytes.parse() {
            Ok(bytes) => print(inspect(path, Limits { bytes, ..FILE_LIMITS })),
            Err(_) => misused(),
        },
        ["foresee", path] => {
            print(bounded(path, FILE_LIMITS, print_error).and_then(|()| worker::facts::foresee(Path::new(path))))
        }
        ["texts", path] => {
            print(bounded(path, FILE_LIMITS, print_error).and_then(|()| worker::facts::texts(Path::new(path))))
        }
        ["bundled", dir] => print(worker::bundled::install(Path::new(dir))),
        ["import", file, dir] => import(file, Path::new(dir)),
        ["render", path] => render(Path::new(path), Some(RENDER_LIMITS)),
        ["render", path, millis, bytes] => render(Path::new(path), limits(millis, bytes)),
        ["help" | "--help" | "-h"] => {
            print!("{USAGE}");
            ExitCode::SUCCESS
        }
        ["--version" | "-V"] => {
            println!("impetus-worker {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        _ => misused(),
    }
}

fn misused() -> ExitCode {
    eprint!("{USAGE}");
    ExitCode::from(2)
}

fn serve() -> ExitCode {
    log_to_stderr();
    // The daemon is gone when the input ends, and nobody would read what a running step still gives.
    // Without the buffer of `Stdout`, which writes what holds a newline in two parts.
    let output = match std::io::stdout().as_fd().try_clone_to_owned() {
        Ok(output) => File::from(output),
        Err(error) => {
            tracing::error!(%error, "the worker cannot use its output");
            return ExitCode::FAILURE;
        }
    };
    match worker::serve(&own_path(), std::io::stdin(), output, || std::process::exit(0)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the worker ends");
            ExitCode::FAILURE
        }
    }
}

/// Bounds the memory that this program takes to read what lies at `path`; beyond that it ends, and `tell` says why.
fn bounded(path: &str, limits: Limits, tell: impl FnOnce(Error) + Send + 'static) -> Result<(), Error> {
    let path = path.to_string();
    let end = move |excess: Excess| {
        let hint = "no sound model does; its tokenizer.json or the head of its weights is damaged or hostile";
        tell(Error::new(ErrorKind::ModelNotLoaded, format!("reading {path} {excess}")).hint(hint));
        std::process::exit(1);
    };
    let guard = Guard::start(end).map_err(|error| Error::internal(error.to_string()))?;
    guard.begin(limits);
    Ok(())
}

fn print_error(error: Error) {
    print(Err::<(), _>(error));
}

fn inspect(path: &str, limits: Limits) -> Result<ModelFacts, Error> {
    bounded(path, limits, print_error)?;
    let path = Path::new(path);
    let facts = worker::facts::inspect(path)?;
    if facts.capabilities.chat {
        Renderer::new(&own_path(), path, RENDER_LIMITS)
            .rendering()
            .start()
            .map_err(|error| Error::new(ErrorKind::ModelNotLoaded, error.to_string()))?;
    }
    Ok(facts)
}

fn import(file: &str, dir: &Path) -> ExitCode {
    let tell = |error: Error| worker::import::fail(&mut std::io::stdout(), error);
    if let Err(error) = bounded(file, FILE_LIMITS, tell) {
        tell(error);
        return ExitCode::FAILURE;
    }
    match worker::import::run(Path::new(file), dir, std::io::stdin(), std::io::stdout()) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn limits(millis: &str, bytes: &str) -> Option<Limits> {
    Some(Limits { time: Duration::from_millis(millis.parse().ok()?), bytes: bytes.parse().ok()? })
}

fn render(path: &Path, limits: Option<Limits>) -> ExitCode {
    let Some(limits) = limits else { return misused() };
    match worker::render::serve(path, limits, std::io::stdin().lock(), std::io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Where this program is, by which it starts itself to render.
fn own_path() -> PathBuf {
    std::env::current_exe().unwrap_or_else(|_| PathBuf::from("impetus-worker"))
}

/// Prints a result as JSON on standard output; an error makes the exit code 1.
fn print<T: Serialize>(result: Result<T, Error>) -> ExitCode {
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
    // Where nobody reads the log, saying so on the same standard error would end the thread that logs.
    let log = tracing_subscriber::fmt().json().log_internal_errors(false);
    log.with_writer(std::io::stderr).with_env_filter(filter).init();
    std::panic::set_hook(Box::new(|panic| tracing::error!(%panic, "a defect ended a thread")));
}
