//! A file mapped for reading: the bytes of weights, wherever they end up.
//!
//! It never writes and knows no format. `checkpoint` and `gguf` read through it.

use std::fs::File;
use std::io;
use std::ops::Deref;

use memmap2::Mmap;

/// A file's bytes, read from the disk as they are looked at.
pub(crate) struct Mapped(Mmap);

impl Mapped {
    /// Maps all of a file, as long as it is now.
    #[allow(unsafe_code)]
    pub fn new(file: &File) -> io::Result<Self> {
        // SAFETY: the mapping is private and read-only, and lives while the model is loaded. A file that another process
        // cuts short in that time raises SIGBUS, which ends this worker and no other process; the daemon reports it.
        Ok(Self(unsafe { Mmap::map(file) }?))
    }
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}
