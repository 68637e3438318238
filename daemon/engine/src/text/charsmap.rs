//! sentencepiece's table of what letters are composed to, in the form that `tokenizer.json` has for it. A table that is
//! broken is found here and not by the first text that meets it. The import of GGUF files calls this.

use serde_json::Value;
use tokenizers::normalizers::Precompiled;

/// The normalizer of a table's bytes; the error says what is wrong with them.
pub(crate) fn normalizer(table: &[u8]) -> Result<Value, String> {
    let table = Precompiled::from(table).map_err(|error| error.to_string())?;
    serde_json::to_value(table).map_err(|error| error.to_string())
}
