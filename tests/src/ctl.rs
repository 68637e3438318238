//! Runs `impetusctl` in a house and reads what it says.

use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::house::House;
use crate::programs::program;

/// What a run of `impetusctl` came to.
#[derive(Debug)]
pub struct Said {
    /// The exit code.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Said {
    /// Returns standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("no JSON ({error}): {self:?}"))
    }
}

/// Returns the command for `impetusctl` with the house's home and socket.
pub fn command(house: &House, arguments: &[&str]) -> Command {
    let mut command = Command::new(program("impetusctl"));
    command
        .args(arguments)
        .env("IMPETUS_HOME", house.home())
        .env("IMPETUS_SOCKET", house.socket())
        .stdin(Stdio::null());
    command
}

/// Runs `impetusctl` to its end.
pub fn run(house: &House, arguments: &[&str]) -> Said {
    said(command(house, arguments).output().expect("impetusctl runs"))
}

/// Reads what a finished process said.
pub fn said(output: Output) -> Said {
    Said {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).expect("impetusctl speaks UTF-8"),
        err: String::from_utf8(output.stderr).expect("impetusctl speaks UTF-8"),
    }
}
