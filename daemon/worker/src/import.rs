//! Makes a model folder of a GGUF file in a process of its own, and tells the daemon how far it is.
//!
//! The file is a stranger's and may be huge: whatever it does to this process costs one import. The process ends with its
//! input, so that none goes on writing for a daemon that is gone.

use std::io::{Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use pipe::{Imported, Importing};

use crate::facts::load_error;

/// How often the daemon hears.
const EVERY: Duration = Duration::from_millis(250);

/// Imports, and says so on `output`, a line of JSON each; returns whether all went well.
pub fn run(file: &Path, dir: &Path, mut input: impl Read + Send + 'static, mut output: impl Write) -> bool {
    let watch = move || {
        // Nothing is ever sent: what comes is the end.
        let _ = std::io::copy(&mut input, &mut std::io::sink());
        std::process::exit(1);
    };
    if let Err(error) = std::thread::Builder::new().name("input".to_string()).spawn(watch) {
        fail(&mut output, protocol::Error::internal(error.to_string()));
        return false;
    }
    let mut said = None;
    let mut progress = |done, total| {
        if done == total || said.is_none_or(|said: Instant| said.elapsed() >= EVERY) {
            said = Some(Instant::now());
            say(&mut output, &Importing::Progress { done, total });
        }
    };
    let imported = engine::gguf::import(file, dir, &mut progress);
    match imported {
        Ok(engine::gguf::Imported { requantized, moved }) => {
            say(&mut output, &Importing::Done(Imported { requantized, moved }))
        }
        Err(error) => {
            fail(&mut output, load_error(&error));
            false
        }
    }
}

/// Says why there is no folder.
pub fn fail(output: &mut impl Write, error: protocol::Error) {
    say(output, &Importing::Failed(error));
}

/// Writes one line; says whether anybody was there to read it.
fn say(output: &mut impl Write, line: &Importing) -> bool {
    let Ok(mut text) = serde_json::to_vec(line) else { return false };
    text.push(b'\n');
    output.write_all(&text).and_then(|()| output.flush()).is_ok()
}
