//! The layout of the shared cache: `models--ORG--NAME/{blobs,refs,snapshots}`. Blobs are named by their digest, a
//! snapshot links to them by file name. Paths come from hf-hub; this file adds links and looks whether all is there.

use std::io;
use std::path::{Path, PathBuf};

use hf_hub::Repo;
use protocol::{Error, ErrorKind};

use super::Fetched;
use super::listing::File;
use super::made::Made;

/// The cache folder that Hugging Face tools share.
#[derive(Clone, Debug)]
pub struct Cache {
    hub: hf_hub::Cache,
    /// The folder of the lists of what Impetus put there.
    made: PathBuf,
}

impl Cache {
    /// Uses the folder `path`; empty means the usual place in the user's home. In `made` is kept what Impetus puts there.
    pub fn new(path: &str, made: PathBuf) -> Self {
        let hub = if path.is_empty() { hf_hub::Cache::default() } else { hf_hub::Cache::new(PathBuf::from(path)) };
        Self { hub, made }
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        self.hub.path()
    }

    /// The token that `hf auth login` left beside the cache, if any.
    pub fn token(&self) -> Option<String> {
        self.hub.token()
    }

    /// The folder of one commit's files.
    pub fn snapshot(&self, repo: &Repo, commit: &str) -> PathBuf {
        self.hub.repo(repo.clone()).pointer_path(commit)
    }

    /// Where the bytes of a file belong.
    pub fn blob(&self, repo: &Repo, file: &File) -> PathBuf {
        self.hub.repo(repo.clone()).blob_path(&file.digest)
    }

    /// Whether the file is there, with the right size.
    pub fn has(&self, repo: &Repo, file: &File) -> bool {
        let path = self.snapshot(repo, repo.revision()).join(&file.name);
        std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.len() == file.bytes)
    }

    /// How many bytes of a file are still to be fetched.
    pub fn missing(&self, repo: &Repo, file: &File) -> u64 {
        let blob = self.blob(repo, file);
        let there = |path: &Path| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
        match self.has(repo, file) || there(&blob) == file.bytes {
            true => 0,
            false => file.bytes.saturating_sub(there(&blob.with_added_extension("incomplete"))),
        }
    }

    /// Notes that the bytes of a file are about to be fetched.
    pub fn note(&self, repo: &Repo, file: &File) -> io::Result<()> {
        self.made(repo).note(&format!("blobs/{}", file.digest))
    }

    /// Links the snapshot of `repo`, whose revision is a commit, to a blob that is complete.
    pub fn link(&self, repo: &Repo, file: &File) -> io::Result<()> {
        let link = self.snapshot(repo, repo.revision()).join(&file.name);
        self.made(repo).note(&format!("snapshots/{}/{}", repo.revision(), file.name))?;
        if let Some(folder) = link.parent() {
            std::fs::create_dir_all(folder)?;
        }
        match std::fs::remove_file(&link) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // One step up for the snapshot's folder, one for that of all, and one for each that the file lies in.
        let up = "../".repeat(2 + file.name.matches('/').count());
        std::os::unix::fs::symlink(format!("{up}blobs/{}", file.digest), link)
    }

    /// Notes which commit a branch or tag is.
    pub fn remember(&self, repo: &Repo, commit: &str) -> io::Result<()> {
        self.made(repo).note(&format!("refs/{}", repo.revision()))?;
        self.hub.repo(repo.clone()).create_ref(commit)
    }

    fn made(&self, repo: &Repo) -> Made {
        Made::of(&self.made, &repo.folder_name())
    }

    /// Deletes what Impetus put into the folder of a repository, unless one of `used` lies in it; nothing there is no error.
    pub fn delete(&self, repo: &Repo, used: &[PathBuf]) -> io::Result<()> {
        // Links are followed, because a folder that was added is known by where it really is.
        let folder = match self.root().join(repo.folder_name()).canonicalize() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            folder => folder?,
        };
        let is_used = used.iter().any(|path| path.canonicalize().is_ok_and(|path| path.starts_with(&folder)));
        if is_used { Ok(()) } else { self.made(repo).delete(&folder) }
    }

    /// Finds what was fetched before, if it looks like a whole model.
    pub fn complete(&self, repo: &Repo) -> Option<Fetched> {
        // A name that would lead out of the folder was refused long before.
        let reference = self.root().join(repo.folder_name()).join("refs").join(repo.revision());
        let commit = std::fs::read_to_string(reference).ok()?.trim().to_owned();
        let path = self.snapshot(repo, &commit);
        let names: Vec<String> = std::fs::read_dir(&path)
            .ok()?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            // A link whose blob is gone is no file.
            .filter(|name| path.join(name).is_file())
            .collect();
        let weights = names.iter().any(|name| name.ends_with(".safetensors"));
        (weights && names.iter().any(|name| name == "config.json")).then_some(Fetched { path, commit })
    }
}

/// Says that the cache folder cannot be written.
pub fn broken(path: &Path, error: &io::Error) -> Error {
    let full = error.kind() == io::ErrorKind::StorageFull;
    let hint = if full {
        "make room on the disk; what was fetched is kept"
    } else {
        "check the folder's permissions, or set HF_HOME"
    };
    Error::new(ErrorKind::Internal, format!("{} cannot be written: {error}", path.display())).hint(hint)
}
