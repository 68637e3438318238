//! The files of a model folder, each in turn a stranger's among good ones.

use std::fs;
use std::path::Path;

use engine::random::{Recipe, TempFolder, gguf};
use engine::text::{GenerationDefaults, Special, Template, Tokenizer};
use engine::{Model, Options, Precision, Row, Wanted};

use crate::choice;

/// Architectures whose weights lie beside a stranger's `config.json`; every other one lacks tensors and says so.
const FAMILIES: [&str; 8] = ["llama", "qwen2", "qwen3", "qwen3_moe", "gemma2", "gemma3_text", "gpt_oss", "phi3"];

thread_local! {
    static FOLDERS: Vec<TempFolder> = FAMILIES.map(|family| Recipe::tiny(family, 1).temporary().unwrap()).into();
    static SHARDED: TempFolder = Recipe::tiny("llama", 1).sharded(2).temporary().unwrap();
    static IMPORTED: TempFolder = TempFolder::new().unwrap();
}

/// Puts `bytes` in the place of a file while `look` looks at the folder.
fn with(folder: &Path, name: &str, bytes: &[u8], look: impl FnOnce(&Path)) {
    let path = folder.join(name);
    let good = fs::read(&path).ok();
    fs::write(&path, bytes).unwrap();
    look(folder);
    match good {
        Some(good) => fs::write(path, good).unwrap(),
        None => fs::remove_file(path).unwrap(),
    }
}

/// Reads a folder's facts; one that seems good is loaded and makes a step.
fn load(folder: &Path) {
    if engine::inspect(folder).is_err() {
        return;
    }
    let options = Options { threads: 1, blocks: 2, precision: Precision::Fast, keep: Precision::Fast.into() };
    let Ok(mut model) = Model::open(folder, &options, &mut |_, _| {}) else { return };
    let row = Row { tokens: &[1, 2, 3], start: 0, blocks: &[0], logits: Wanted::Last };
    // A refusal is an answer.
    let _ = model.forward(&[row], &mut Vec::new());
}

/// Reads how answers are sampled and ended.
fn generation(folder: &Path) {
    let Ok(tokenizer) = Tokenizer::open(folder) else { return };
    let _ = GenerationDefaults::open(folder, &tokenizer, None).map(drop);
}

/// Reads `config.json`, `generation_config.json` and `tokenizer_config.json`.
pub fn config(bytes: &[u8]) {
    let (family, bytes) = choice(bytes);
    FOLDERS.with(|folders| {
        let folder = folders[family % FAMILIES.len()].path();
        with(folder, "config.json", bytes, load);
        with(folder, "generation_config.json", bytes, generation);
        with(folder, "tokenizer_config.json", bytes, |folder| {
            let _ = Tokenizer::open(folder).map(drop);
            let _ = Template::open(folder).map(drop);
        });
    });
}

/// The good ones.
pub fn config_seeds() -> Vec<Vec<u8>> {
    let seed = |(family, folder): (usize, &TempFolder)| {
        [&[family as u8][..], &fs::read(folder.path().join("config.json")).unwrap()].concat()
    };
    FOLDERS.with(|folders| folders.iter().enumerate().map(seed).collect())
}

/// Reads weights.
pub fn safetensors(bytes: &[u8]) {
    FOLDERS.with(|folders| with(folders[0].path(), "model.safetensors", bytes, load));
}

/// Good ones.
pub fn safetensors_seeds() -> Vec<Vec<u8>> {
    FOLDERS.with(|folders| vec![fs::read(folders[0].path().join("model.safetensors")).unwrap()])
}

/// Reads the index of weights in several files.
pub fn index(bytes: &[u8]) {
    SHARDED.with(|folder| with(folder.path(), "model.safetensors.index.json", bytes, load));
}

/// Reads a tokenizer, and lets it read and spell.
pub fn tokenizer(bytes: &[u8]) {
    FOLDERS.with(|folders| {
        with(folders[0].path(), "tokenizer.json", bytes, |folder| {
            let Ok(tokenizer) = Tokenizer::open(folder) else { return };
            for special in [Special::Plain, Special::Parse, Special::Begin] {
                // A tokenizer may have no token for a letter, and says so.
                let _ = tokenizer.encode("Grüße, 東京 <|im_end|> \u{1f600}\n\n  x", special);
            }
            for token in (0..tokenizer.vocabulary().min(64)).chain([tokenizer.vocabulary(), u32::MAX]) {
                let _ = (tokenizer.token_bytes(token), tokenizer.is_special(token));
            }
        });
    });
}

/// A good one.
pub fn tokenizer_seeds() -> Vec<Vec<u8>> {
    FOLDERS.with(|folders| vec![fs::read(folders[0].path().join("tokenizer.json")).unwrap()])
}

/// Makes a folder of a GGUF file, and loads it.
pub fn gguf(bytes: &[u8]) {
    IMPORTED.with(|folder| {
        let (file, made) = (folder.path().join("model.gguf"), folder.path().join("made"));
        fs::write(&file, bytes).unwrap();
        fs::create_dir_all(&made).unwrap();
        if engine::gguf::import(&file, &made, &mut |_, _| {}).is_ok() {
            load(&made);
        }
        fs::remove_dir_all(made).unwrap();
    });
}

/// A good one, whose tensors are left out: what is read of them is never wrong.
pub fn gguf_seeds() -> Vec<Vec<u8>> {
    FOLDERS.with(|folders| {
        IMPORTED.with(|folder| {
            let file = folder.path().join("seed.gguf");
            let seed = |family: &TempFolder| {
                gguf::write_folder(family.path(), &file, |_| gguf::Form::F16).ok()?;
                fs::read(&file).ok()
            };
            let encoder = Recipe::tiny_encoder("bert", 1).pooled("cls").temporary().ok();
            folders.iter().take(3).chain(&encoder).filter_map(seed).collect()
        })
    })
}
