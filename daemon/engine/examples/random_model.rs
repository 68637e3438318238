//! Writes a random model folder: `random_model DIR SEED`, with `config.json` on standard input.
//!
//! The maker of golden logits calls it, so that Python and Rust see the same weights; by hand it makes any shape to try.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use engine::random::Recipe;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(dir), Some(seed)) = (arguments.next(), arguments.next()) else {
        return Err("usage: random_model DIR SEED < config.json".into());
    };
    let seed = seed.to_str().and_then(|text| text.parse().ok()).ok_or("SEED is a whole number")?;
    let config = serde_json::from_reader(io::stdin().lock())?;
    Recipe::from_config(config, seed).write(&PathBuf::from(dir))?;
    Ok(())
}
