//! One block in one file: magic, name, checksum, contents, which may be sealed. A file is whole under its name, or not there.
//!
//! It is written under another name first and then renamed, so that whoever dies meanwhile leaves a file that the next
//! keeper removes. What does not read as it was written is removed too. So nothing waits for the disk: what a machine that
//! loses power leaves under a file's name and did not write, the checksum tells. Only the keeper calls this.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::Digest;
use super::seal::{SEAL_BYTES, Seal};

/// What a file of this form begins with; another form gets another one.
const MAGIC: &[u8; 8] = b"IMPTKV01";
/// Bytes before the contents.
const HEADER_BYTES: usize = 8 + 32 + 32;
/// The ending of whole files, and of those being written.
const WHOLE: &str = "kv";
const UNFINISHED: &str = "part";
/// How much of each file of a model is looked at to tell it from others.
const SAMPLE_BYTES: u64 = 1 << 16;

/// This build, whose keys and values another may compute otherwise: its version, and its commit where that is known.
pub const BUILD: [&str; 2] = [
    env!("CARGO_PKG_VERSION"),
    match option_env!("IMPETUS_COMMIT") {
        Some(commit) => commit,
        None => "unknown",
    },
];

/// Tells what one build computes of a model, and of its draft model, from all else: their configurations, and of their
/// weights the files, sizes, times and beginnings.
pub fn model_digest(build: [&str; 2], dir: &Path, draft: Option<&Path>, block_bytes: usize) -> io::Result<Digest> {
    let mut hash = Sha256::new_with_prefix(MAGIC);
    for word in build {
        hash.update((word.len() as u64).to_le_bytes());
        hash.update(word);
    }
    hash.update((block_bytes as u64).to_le_bytes());
    for dir in [Some(dir), draft].into_iter().flatten() {
        add_folder(&mut hash, dir)?;
    }
    Ok(hash.finalize().into())
}

fn add_folder(hash: &mut Sha256, dir: &Path) -> io::Result<()> {
    let mut paths: Vec<PathBuf> = fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "safetensors" || ending == "json"));
    paths.sort();
    for path in paths {
        // Links of a shared store are followed: the contents count.
        let facts = fs::metadata(&path)?;
        hash.update(path.file_name().unwrap_or_default().as_encoded_bytes());
        // Times of changes cannot be set, as those of contents can, and are by whoever makes images.
        let times = [facts.mtime(), facts.mtime_nsec(), facts.ctime(), facts.ctime_nsec()];
        for number in [facts.size() as i64, facts.ino() as i64].into_iter().chain(times) {
            hash.update(number.to_le_bytes());
        }
        let mut sample = Vec::new();
        File::open(&path)?.take(SAMPLE_BYTES).read_to_end(&mut sample)?;
        hash.update(sample);
    }
    Ok(())
}

/// Where a block lies.
pub fn path(dir: &Path, digest: &Digest) -> PathBuf {
    dir.join(hex(digest)).with_extension(WHOLE)
}

/// The name of a whole file's block; `None` for any other file.
pub fn digest_of(path: &Path) -> Option<Digest> {
    let name = path.file_stem()?.to_str()?.as_bytes();
    if path.extension()? != WHOLE || name.len() != 64 {
        return None;
    }
    let mut digest = [0; 32];
    for (byte, digits) in digest.iter_mut().zip(name.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(digest)
}

/// Whether a writer died over this file.
pub fn is_unfinished(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == UNFINISHED)
}

/// Names in folders and files.
pub fn hex(digest: &Digest) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes a block, sealed if there is a key; returns the bytes written.
pub fn write(dir: &Path, digest: &Digest, contents: &[u8], seal: Option<&Seal>) -> io::Result<u64> {
    let sealed = seal.map(|seal| seal.close(digest, contents)).transpose()?;
    let contents = sealed.as_deref().unwrap_or(contents);
    let whole = path(dir, digest);
    let unfinished = whole.with_extension(UNFINISHED);
    let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&unfinished)?;
    let checksum: Digest = Sha256::digest(contents).into();
    let parts: [&[u8]; 4] = [MAGIC, digest, &checksum, contents];
    let written =
        parts.into_iter().try_for_each(|part| file.write_all(part)).and_then(|()| fs::rename(&unfinished, &whole));
    if written.is_err() {
        // The disk may be full: half a file must not stay.
        let _ = fs::remove_file(&unfinished);
    }
    written.map(|()| (HEADER_BYTES + contents.len()) as u64)
}

/// Reads a block of `bytes` bytes; an error if it is not exactly what was written, and with this key.
pub fn read(dir: &Path, digest: &Digest, bytes: usize, seal: Option<&Seal>) -> io::Result<Vec<u8>> {
    let bytes = bytes + seal.map_or(0, |_| SEAL_BYTES);
    let mut file = File::open(path(dir, digest))?;
    let mut header = [0; HEADER_BYTES];
    file.read_exact(&mut header)?;
    let (magic, names) = header.split_at(MAGIC.len());
    let (name, checksum) = names.split_at(digest.len());
    let mut contents = Vec::with_capacity(bytes);
    file.take(bytes as u64 + 1).read_to_end(&mut contents)?;
    let sound = magic == MAGIC && name == digest && contents.len() == bytes;
    if !sound || Sha256::digest(&contents)[..] != *checksum {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the file is not what was written"));
    }
    match seal {
        Some(seal) => seal.open(digest, contents),
        None => Ok(contents),
    }
}
