//! The license that lies in a model's folder, as its publisher wrote it. Nothing depends on it; it is read for whoever asks.

use std::path::Path;

use super::{TextError, files};

/// Where it may lie; `impetusd` downloads these.
const NAMES: [&str; 3] = ["LICENSE", "LICENSE.txt", "LICENSE.md"];

/// The most bytes of a license; what is longer is something else.
const BYTES_MAX: usize = 1 << 20;

/// The text of a folder's license; `None` if it has none.
pub fn license(dir: &Path) -> Result<Option<String>, TextError> {
    for name in NAMES {
        if let Some((_, content)) = files::read(dir, name)?.filter(|(_, content)| content.len() <= BYTES_MAX) {
            return Ok(Some(String::from_utf8_lossy(&content).into_owned()));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_license_is_found_under_its_usual_names() {
        let folder = crate::random::TempFolder::new().unwrap();
        let write = |name: &str, content: &[u8]| fs::write(folder.path().join(name), content).unwrap();
        write("license.json", b"{}");
        assert_eq!(license(folder.path()).unwrap(), None);
        write("LICENSE.txt", b"Do what you like.");
        assert_eq!(license(folder.path()).unwrap().as_deref(), Some("Do what you like."));
        write("LICENSE", b"Do good.");
        assert_eq!(license(folder.path()).unwrap().as_deref(), Some("Do good."));
        write("LICENSE", &vec![b'x'; BYTES_MAX + 1]);
        assert_eq!(license(folder.path()).unwrap().as_deref(), Some("Do what you like."), "too long to be one");
    }
}
