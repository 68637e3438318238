//! Writes a random model folder: `random_model DIR SEED [POOLING [DENSE]]`, with `config.json` on standard input.
//!
//! With `mean`, `cls` or `lasttoken` it is an embedder, and DENSE is a JSON list of the settings of matrices that its vectors go
//! through. The maker of golden logits calls it, so that Python and Rust see the same weights; by hand it makes any shape to try.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use engine::random::Recipe;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(dir), Some(seed)) = (arguments.next(), arguments.next()) else {
        return Err("usage: random_model DIR SEED [mean | cls | lasttoken [DENSE]] < config.json".into());
    };
    let seed = seed.to_str().and_then(|text| text.parse().ok()).ok_or("SEED is a whole number")?;
    let config = serde_json::from_reader(io::stdin().lock())?;
    let mut recipe = Recipe::from_config(config, seed);
    if let Some(pooling) = arguments.next() {
        let known = ["mean", "cls", "lasttoken"].into_iter().find(|mode| pooling == *mode);
        recipe = recipe.pooled(known.ok_or("POOLING is mean, cls or lasttoken")?);
    }
    if let Some(dense) = arguments.next() {
        recipe = recipe.projected(serde_json::from_str(dense.to_str().ok_or("DENSE is JSON")?)?);
    }
    recipe.write(&PathBuf::from(dir))?;
    Ok(())
}
