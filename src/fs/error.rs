//! An operation on a path failed: which, where and why.

use std::io;
use std::path::{Path, PathBuf};

/// An operation on a path failed.
#[derive(Debug, thiserror::Error)]
#[error("error {action} `{}`", path.display())]
pub struct FsError {
    /// What was attempted, as "opening".
    pub action: &'static str,
    /// Where.
    pub path: PathBuf,
    /// The cause.
    #[source]
    pub source: io::Error,
}

impl FsError {
    /// True where the cause is that the path does not exist.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }
}

/// Result of a file operation.
pub(crate) type Result<T> = std::result::Result<T, FsError>;

pub(super) trait At<T> {
    fn at(self, action: &'static str, path: &Path) -> Result<T>;
}

impl<T, E: Into<io::Error>> At<T> for std::result::Result<T, E> {
    fn at(self, action: &'static str, path: &Path) -> Result<T> {
        self.map_err(|source| FsError { action, path: path.to_path_buf(), source: source.into() })
    }
}
