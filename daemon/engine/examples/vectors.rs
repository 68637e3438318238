//! Writes what an encoder makes of texts: `vectors DIR`, with a JSON list of texts, or of pairs of texts, on standard input, and
//! little-endian f32 on standard output, computed in full precision. The comparisons of tools/goldens call it.

use std::error::Error;
use std::io::{self, Write as _};
use std::path::Path;

use engine::encoder::{Manner, Text};
use engine::text::Tokenizer;
use engine::{Encoder, Precision};

#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Asked {
    One(String),
    Pair(String, String),
}

fn main() -> Result<(), Box<dyn Error>> {
    let dir = std::env::args_os().nth(1).ok_or("usage: vectors DIR < texts.json")?;
    let asked: Vec<Asked> = serde_json::from_reader(io::stdin().lock())?;
    let (tokenizer, manner) = (Tokenizer::open(Path::new(&dir))?, Manner::of(Path::new(&dir))?);
    let mut encoder = Encoder::open(Path::new(&dir), 2, Precision::Exact, &mut |_, _| {})?;
    for asked in asked {
        let whole = match asked {
            Asked::One(text) => tokenizer.whole(&manner.put(&text))?,
            Asked::Pair(first, second) => tokenizer.pair(&first, &second)?,
        };
        let mut numbers = Vec::new();
        encoder.encode(&[Text { tokens: &whole.tokens, segments: &whole.segments }], &mut || {}, &mut numbers)?;
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        io::stdout().write_all(&bytes)?;
    }
    Ok(())
}
