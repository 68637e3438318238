//! Reads the small files of a model folder: bounded in size, and with errors that name the file.
//!
//! A file that is absent is `None`; whether that matters is for the caller to say. It reads no weights and follows no
//! links of its own. The tokenizer, the template and the generation settings call it.

use std::fs::{self, File};
use std::io::{Error, ErrorKind, Read};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::TextError;
use crate::config::pointer;

/// The largest tokenizers known have 35 MB. A byte of JSON may become sixteen of memory.
const BYTES_MAX: u64 = 64 << 20;

/// The content of `dir/name`, or `None` where there is no such file.
pub fn read(dir: &Path, name: &str) -> Result<Option<(PathBuf, Vec<u8>)>, TextError> {
    let path = dir.join(name);
    let unreadable = |source| TextError::Unreadable { path: path.clone(), source };
    // Before it is opened, which may wait for ever where the name is a pipe's.
    let metadata = match fs::metadata(&path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    if !metadata.is_file() {
        return Err(unreadable(Error::other("it is not a regular file")));
    }
    let file = File::open(&path).map_err(unreadable)?;
    let bytes = metadata.len();
    if bytes > BYTES_MAX {
        return Err(TextError::TooLarge { path, bytes, bytes_max: BYTES_MAX });
    }
    let mut content = Vec::new();
    file.take(BYTES_MAX).read_to_end(&mut content).map_err(unreadable)?;
    match pointer(&content) {
        Some(problem) => Err(TextError::invalid(&path, problem)),
        None => Ok(Some((path, content))),
    }
}

/// The JSON object in `dir/name`; empty where there is no such file.
pub fn read_object(dir: &Path, name: &str) -> Result<Map<String, Value>, TextError> {
    let Some((path, content)) = read(dir, name)? else { return Ok(Map::new()) };
    match serde_json::from_slice(&content) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(TextError::invalid(&path, "it is not a JSON object")),
        Err(error) => Err(TextError::invalid(&path, error.to_string())),
    }
}

/// The text of a special token as configuration files write it: a string, or an object with its `content`.
pub fn token_text(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("content")?.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_are_read() {
        let folder = crate::random::TempFolder::new().unwrap();
        assert!(read(folder.path(), "config.json").unwrap().is_none());
        fs::create_dir(folder.path().join("config.json")).unwrap();
        let error = read(folder.path(), "config.json").unwrap_err();
        assert!(error.to_string().contains("config.json"), "{error}");
        std::os::unix::fs::symlink("/dev/zero", folder.path().join("chat_template.jinja")).unwrap();
        let error = read(folder.path(), "chat_template.jinja").unwrap_err();
        assert!(error.to_string().contains("not a regular file"), "{error}");
    }
}
