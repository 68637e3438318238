//! `impetusctl man`: writes a manual page for every command, from the words in `cli`. It has none of its own, and installs none.

use std::fs;

use clap::CommandFactory;
use clap_mangen::generate_to;
use protocol::{Error, Result};
use serde_json::json;

use crate::cli::{Cli, Man};
use crate::output::Output;

/// Runs the command.
pub fn run(output: Output, man: &Man) -> Result<()> {
    let folder = &man.folder;
    let shown = folder.display();
    fs::create_dir_all(folder)
        .and_then(|()| generate_to(Cli::command(), folder))
        .map_err(|error| Error::invalid("folder", format!("Manual pages cannot be written to {shown}: {error}.")))?;
    let pages = json!({ "folder": folder, "first": folder.join("impetusctl.1") });
    output.result(&pages, format_args!("Read them with `man {shown}/impetusctl.1`."))
}
