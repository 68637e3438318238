//! The corpus is read again by every test run.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use fuzz::{TARGETS, Watch};

#[test]
fn nothing_in_the_corpus_finds_a_fault() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let watch = Watch::start();
    for target in TARGETS {
        let run = |input: &[u8]| watch.during(target.name, || (target.run)(input));
        let folder = corpus.join(target.name);
        let files: Vec<_> = fs::read_dir(&folder).map(|files| files.flatten().collect()).unwrap_or_default();
        let seeds = (target.seeds)();
        assert!(!files.is_empty() || !seeds.is_empty(), "{} has something to begin with", target.name);
        for file in files {
            println!("{}", file.path().display());
            run(&fs::read(file.path()).unwrap());
        }
        for seed in seeds {
            run(&seed);
            run(&seed[..seed.len() / 2]);
        }
        run(&[]);
    }
}
