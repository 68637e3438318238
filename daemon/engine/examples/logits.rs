//! Writes the logits after each of some tokens: `logits DIR`, with a JSON list of ids on standard input and little-endian f32
//! on standard output, computed in full precision. The comparisons of tools/goldens call it.

use std::error::Error;
use std::io::{self, Write as _};
use std::path::Path;

use engine::native::BLOCK_TOKENS;
use engine::{Keep, Model, Options, Precision, Row, State, Wanted};

fn main() -> Result<(), Box<dyn Error>> {
    let dir = std::env::args_os().nth(1).ok_or("usage: logits DIR < tokens.json")?;
    let tokens: Vec<u32> = serde_json::from_reader(io::stdin().lock())?;
    let blocks: Vec<u32> = (0..tokens.len().div_ceil(BLOCK_TOKENS) as u32).collect();
    let options = Options { threads: 2, blocks: blocks.len() as u32, precision: Precision::Exact, keep: Keep::F32 };
    let mut model = Model::open(Path::new(&dir), &options, &mut |_, _| {})?;
    let row = Row { tokens: &tokens, start: 0, blocks: &blocks, logits: Wanted::Tail(tokens.len() as u32) };
    // Models whose layers keep a state need room for one.
    let states = [State { from: None, to: 0 }];
    let states = &states[..usize::from(model.facts().state_bytes > 0)];
    model.reserve_states(1)?;
    let mut logits = Vec::new();
    model.forward_from(&[row], states, &mut logits)?;
    let bytes: Vec<u8> = logits.iter().flat_map(|logit| logit.to_le_bytes()).collect();
    Ok(io::stdout().write_all(&bytes)?)
}
