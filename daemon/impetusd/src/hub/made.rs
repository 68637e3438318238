//! What Impetus put into the shared cache, so that it deletes that and nothing of other tools: a list for each repository,
//! in a folder of the daemon's own, of links, bytes and references by their paths in the repository's folder. A path is
//! noted before it is made: after a kill one too many is listed, never one too few. Used by `cache` alone.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The list of one repository.
#[derive(Debug)]
pub struct Made {
    list: PathBuf,
}

impl Made {
    /// The list of the repository whose folder in the cache has the name `repo`; the lists lie in `folder`.
    pub fn of(folder: &Path, repo: &str) -> Self {
        Self { list: folder.join(repo) }
    }

    /// Adds the path of something that is about to be made.
    pub fn note(&self, path: &str) -> io::Result<()> {
        let mut paths = self.paths()?;
        if !paths.insert(path.to_owned()) {
            return Ok(());
        }
        self.list.parent().map_or(Ok(()), fs::create_dir_all)?;
        let part = self.list.with_added_extension("part");
        fs::write(&part, paths.into_iter().collect::<Vec<_>>().join("\n"))?;
        fs::rename(part, &self.list)
    }

    /// Deletes everything listed that nothing else needs from the repository's folder `repo`, and the list.
    pub fn delete(&self, repo: &Path) -> io::Result<()> {
        let paths = self.paths()?;
        let listed = |under: &'static str| paths.iter().filter(move |path| path.starts_with(under));
        for link in listed("snapshots/").map(|path| repo.join(path)) {
            gone(fs::remove_file(&link))?;
            link.ancestors().skip(1).take_while(|folder| *folder != repo).for_each(unless_used);
        }
        let linked = linked(&repo.join("snapshots"))?;
        for blob in listed("blobs/").map(|path| repo.join(path)) {
            gone(fs::remove_file(blob.with_added_extension("incomplete")))?;
            if !linked.contains(blob.file_name().unwrap_or_default()) {
                gone(fs::remove_file(blob))?;
            }
        }
        for reference in listed("refs/").map(|path| repo.join(path)) {
            let commit = fs::read_to_string(&reference).unwrap_or_default();
            if !repo.join("snapshots").join(commit.trim()).exists() {
                gone(fs::remove_file(&reference))?;
            }
            reference.ancestors().skip(1).take_while(|folder| *folder != repo).for_each(unless_used);
        }
        unless_used(&repo.join("blobs"));
        unless_used(repo);
        gone(fs::remove_file(&self.list))
    }

    fn paths(&self) -> io::Result<BTreeSet<String>> {
        match fs::read_to_string(&self.list) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeSet::new()),
            text => Ok(text?.lines().map(str::to_owned).collect()),
        }
    }
}

/// The names of all bytes that some file below `folder` is a link to.
fn linked(folder: &Path) -> io::Result<BTreeSet<std::ffi::OsString>> {
    let mut names = BTreeSet::new();
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(names),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            names.extend(linked(&path)?);
        } else if let Ok(target) = fs::read_link(&path) {
            names.extend(target.file_name().map(std::ffi::OsStr::to_owned));
        }
    }
    Ok(names)
}

/// What is gone already needs no deleting.
fn gone(deleted: io::Result<()>) -> io::Result<()> {
    deleted.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

/// Deletes an empty folder; another tool's files keep theirs.
fn unless_used(folder: &Path) {
    let _ = fs::remove_dir(folder);
}
