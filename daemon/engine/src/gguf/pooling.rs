//! How a file's tokens become the vector of a text, as the files that sentence-transformers keeps beside a model. The import
//! writes them, and so do random models that embed; `models/encoders/settings` reads them.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::head::Head;
use super::pages::Page;
use super::write_json;
use crate::LoadError;

/// Writes `modules.json` and the settings of its pooling, if the file says how it pools: by that a folder is known to embed.
pub(super) fn write(head: &Head<'_>, page: &Page, dir: &Path) -> Result<(), LoadError> {
    let Some(mode) = page.pooling(head)? else { return Ok(()) };
    write_mode(dir, mode, &json!(head.fields.count(&page.key("embedding_length"))?), &[])
}

/// Writes them for one of sentence-transformers' modes, as in `mean_tokens`, of vectors so wide, which then go through matrices
/// with these settings.
pub(crate) fn write_mode(dir: &Path, mode: &str, width: &Value, dense: &[Value]) -> Result<(), LoadError> {
    let module = |index: usize, path: &str, kind: &str| json!({ "idx": index, "name": index.to_string(), "path": path, "type": format!("sentence_transformers.models.{kind}") });
    let mut modules = vec![module(0, "", "Transformer"), module(1, "1_Pooling", "Pooling")];
    let pooling = json!({ "word_embedding_dimension": width, format!("pooling_mode_{mode}"): true });
    write_module(&dir.join("1_Pooling"), &pooling)?;
    for (index, settings) in (2..).zip(dense) {
        let path = format!("{index}_Dense");
        modules.push(module(index, &path, "Dense"));
        write_module(&dir.join(path), settings)?;
    }
    let last = modules.len();
    modules.push(module(last, &format!("{last}_Normalize"), "Normalize"));
    write_json(&dir.join("modules.json"), &json!(modules))
}

fn write_module(folder: &Path, settings: &Value) -> Result<(), LoadError> {
    fs::create_dir_all(folder).map_err(|source| LoadError::Unwritable { path: folder.to_path_buf(), source })?;
    write_json(&folder.join("config.json"), settings)
}
