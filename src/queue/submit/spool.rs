//! The documents of a batch between reading and accepting: in memory while they are few, else in a file without a name.
//!
//! Hard rule: no other process ever sees any of it, and nothing of it is left when the process ends.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::fs::{self, FsError};
use crate::queue::Result;

/// The documents in memory.
const IN_MEMORY: usize = 4 << 20;

/// A store of texts, each found again by its span.
#[derive(Debug)]
pub(super) struct Spool {
    dir: PathBuf,
    file: Option<File>,
    /// How much is in the file; what is in memory comes behind it.
    in_file: u64,
    memory: Vec<u8>,
}

/// Where a text is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    offset: u64,
    length: usize,
}

impl Span {
    /// The length in bytes.
    #[must_use]
    pub(super) fn length(self) -> usize {
        self.length
    }
}

impl Spool {
    /// A spool whose file, if it needs one, is in a directory.
    #[must_use]
    pub(super) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_path_buf(), file: None, in_file: 0, memory: Vec::new() }
    }

    /// Keeps a text.
    ///
    /// # Errors
    /// File system errors, above all a full disk.
    pub(super) fn keep(&mut self, bytes: &[u8]) -> Result<Span> {
        if !self.memory.is_empty() && self.memory.len() + bytes.len() > IN_MEMORY {
            let file = match self.file.take() {
                Some(file) => file,
                None => fs::unnamed(&self.dir)?,
            };
            let written = fs::write_at(&file, self.in_file, &self.memory);
            written.map_err(|source| self.error("writing a temporary file in", source))?;
            self.file = Some(file);
            self.in_file += self.memory.len() as u64;
            self.memory.clear();
        }
        let span = Span { offset: self.in_file + self.memory.len() as u64, length: bytes.len() };
        self.memory.extend_from_slice(bytes);
        Ok(span)
    }

    /// Gives a text back.
    pub(super) fn read(&self, span: Span) -> Result<Vec<u8>> {
        if let Some(from) = span.offset.checked_sub(self.in_file) {
            let from = usize::try_from(from).unwrap_or(usize::MAX);
            let kept = self.memory.get(from..from.saturating_add(span.length));
            return Ok(kept.unwrap_or_default().to_vec());
        }
        let mut bytes = vec![0; span.length];
        if let Some(file) = &self.file {
            let read = file.read_exact_at(&mut bytes, span.offset);
            read.map_err(|source| self.error("reading a temporary file in", source))?;
        }
        Ok(bytes)
    }

    fn error(&self, action: &'static str, source: std::io::Error) -> FsError {
        FsError { action, path: self.dir.clone(), source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_come_back_from_memory_and_from_the_file_and_leave_no_name() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::new(dir.path());
        let text = |n: usize| vec![u8::try_from(n).unwrap(); 900_000 + n];
        let spans: Vec<Span> = (0..12).map(|n| spool.keep(&text(n)).unwrap()).collect();
        for (n, span) in spans.into_iter().enumerate() {
            assert!(spool.read(span).unwrap() == text(n), "{n}");
        }
        assert!(spool.file.is_some());
        assert_eq!(fs::names(dir.path()).unwrap(), [""; 0]);
    }
}
