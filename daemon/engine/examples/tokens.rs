//! Writes the tokens of texts: `tokens DIR`, with a JSON list of texts on standard input and a list of lists on standard
//! output.
//!
//! Text that spells an added token becomes it, as in transformers. The comparisons of tools/goldens call it, so that what
//! they compare is the engine's own tokenizer and not the library under it.

use std::error::Error;
use std::io;
use std::path::Path;

use engine::text::{Special, Tokenizer};

fn main() -> Result<(), Box<dyn Error>> {
    let dir = std::env::args_os().nth(1).ok_or("usage: tokens DIR < texts.json")?;
    let texts: Vec<String> = serde_json::from_reader(io::stdin().lock())?;
    let tokenizer = Tokenizer::open(Path::new(&dir))?;
    let tokens = texts.iter().map(|text| tokenizer.encode(text, Special::Parse)).collect::<Result<Vec<_>, _>>()?;
    serde_json::to_writer(io::stdout().lock(), &tokens)?;
    Ok(())
}
