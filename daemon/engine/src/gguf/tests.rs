//! Imported folders compute what the files' models compute, and files that lie or ask too much are refused by name.

mod encoders;
mod families;
mod forms;
mod hostile;
mod letters;
mod models;

use std::path::{Path, PathBuf};

use super::*;
use crate::random::gguf::{Form, Gguf, letters, of_folder, of_folder_since, write_folder};
use crate::random::{Recipe, TempFolder};
use crate::{Keep, Model, Options, Precision, Row, State, Wanted};

/// A tiny model whose rows are long enough for blocks of 256.
fn wide(architecture: &str) -> Recipe {
    Recipe::tiny(architecture, 3).set("hidden_size", 256).set("intermediate_size", 256).set("head_dim", 64)
}

/// A recipe's folder, and a file of it with matrices in one form.
fn file_of(recipe: &Recipe, form: Form) -> (TempFolder, PathBuf) {
    let folder = recipe.temporary().unwrap();
    let path = folder.path().join("model.gguf");
    write_folder(folder.path(), &path, |_| form).unwrap();
    (folder, path)
}

/// Writes a file in the making beside its folder, after a change.
fn changed(recipe: &Recipe, change: impl FnOnce(&mut Gguf<'_>)) -> (TempFolder, PathBuf) {
    let folder = recipe.temporary().unwrap();
    let path = folder.path().join("model.gguf");
    let mut file = of_folder(folder.path(), |_| Form::F32).unwrap();
    change(&mut file);
    file.write(&path).unwrap();
    (folder, path)
}

fn imported(path: &Path) -> TempFolder {
    let folder = TempFolder::new().unwrap();
    import(path, folder.path(), &mut |_, _| {}).unwrap();
    folder
}

/// What a file is refused with.
#[track_caller]
fn refusal(path: &Path) -> String {
    let folder = TempFolder::new().unwrap();
    import(path, folder.path(), &mut |_, _| {}).expect_err("the file is refused").to_string()
}

/// The logits after a few tokens, in full precision.
fn logits(folder: &Path) -> Vec<f32> {
    let options = Options { threads: 1, blocks: 2, precision: Precision::Exact, keep: Keep::F32 };
    let mut model = Model::open(folder, &options, &mut |_, _| {}).unwrap();
    let tokens: Vec<u32> = (0..40).map(|at| at * 7 % 280).collect();
    let mut logits = Vec::new();
    let row = Row { tokens: &tokens, start: 0, blocks: &[0, 1], logits: Wanted::Tail(40) };
    let states = [State { from: None, to: 0 }];
    let states = &states[..usize::from(model.facts().state_bytes > 0)];
    model.reserve_states(1).unwrap();
    model.forward_from(&[row], states, &mut logits).unwrap();
    logits
}

/// How far two runs of numbers are apart, as a share of their size.
fn distance(left: &[f32], right: &[f32]) -> f64 {
    let square = |value: f32| f64::from(value).powi(2);
    let apart: f64 = left.iter().zip(right).map(|(left, right)| square(left - right)).sum();
    (apart / left.iter().map(|value| square(*value)).sum::<f64>()).sqrt()
}
