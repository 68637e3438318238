//! The license that lies in a model's folder, as its publisher wrote it. Nothing depends on it; it is read for whoever asks.

use std::fs;
use std::path::Path;

use super::{TextError, files};

/// The names without their endings, in lower case, and those endings.
const STEMS: [&str; 3] = ["license", "licence", "copying"];
const ENDINGS: [&str; 3] = ["", "txt", "md"];

/// The most bytes of a license; what is longer is something else.
const BYTES_MAX: usize = 1 << 20;

/// The text of a folder's license; `None` if it has none.
pub fn license(dir: &Path) -> Result<Option<String>, TextError> {
    let unreadable = |source| TextError::Unreadable { path: dir.to_path_buf(), source };
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        names.extend(name.to_str().filter(|name| is_license(name)).map(str::to_owned));
    }
    let Some(name) = names.into_iter().min() else { return Ok(None) };
    let content = files::read(dir, &name)?.map(|(_, content)| content).filter(|content| content.len() <= BYTES_MAX);
    Ok(content.map(|content| String::from_utf8_lossy(&content).into_owned()))
}

fn is_license(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let (stem, ending) = name.split_once('.').unwrap_or((&name, ""));
    STEMS.contains(&stem) && ENDINGS.contains(&ending)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_license_is_found_under_its_usual_names() {
        let folder = crate::random::TempFolder::new().unwrap();
        fs::write(folder.path().join("license.json"), "{}").unwrap();
        fs::write(folder.path().join("LICENSES"), "no").unwrap();
        assert_eq!(license(folder.path()).unwrap(), None);
        fs::write(folder.path().join("License.txt"), "Do what you like.").unwrap();
        assert_eq!(license(folder.path()).unwrap().as_deref(), Some("Do what you like."));
        fs::write(folder.path().join("LICENSE"), "Do good.").unwrap();
        assert_eq!(license(folder.path()).unwrap().as_deref(), Some("Do good."));
        fs::write(folder.path().join("LICENSE"), vec![b'x'; BYTES_MAX + 1]).unwrap();
        assert_eq!(license(folder.path()).unwrap(), None);
    }
}
