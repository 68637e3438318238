//! The files by which sentence-transformers knows an embedder: its modules, and how its tokens are pooled.

use std::fs;
use std::io;
use std::path::Path;

use serde_json::{Value, json};

use super::write_json;

/// Writes `modules.json` and the settings of its pooling, of vectors so wide.
pub(super) fn write(dir: &Path, mode: &str, width: &Value) -> io::Result<()> {
    let module = |index: usize, path: &str, kind: &str| json!({ "idx": index, "name": index.to_string(), "path": path, "type": format!("sentence_transformers.models.{kind}") });
    let modules =
        [module(0, "", "Transformer"), module(1, "1_Pooling", "Pooling"), module(2, "2_Normalize", "Normalize")];
    write_json(&dir.join("modules.json"), &json!(modules))?;
    fs::create_dir_all(dir.join("1_Pooling"))?;
    let mode = |name: &str| mode == name;
    let pooling = json!({
        "word_embedding_dimension": width,
        "pooling_mode_cls_token": mode("cls"), "pooling_mode_mean_tokens": mode("mean"),
        "pooling_mode_lasttoken": mode("lasttoken"),
    });
    write_json(&dir.join("1_Pooling").join("config.json"), &pooling)
}
