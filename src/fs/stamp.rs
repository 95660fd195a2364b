//! What changes when a file is written, replaced or removed, found without reading it.
//!
//! Hard rule: the time of the last change of the inode is part of it, which no program can set back.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// What a file was like at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    dev: u64,
    inode: u64,
    mode: u32,
    size: u64,
    modified: Moment,
    changed: Moment,
}

/// A moment of the kernel's clock for files, in seconds and nanoseconds.
pub(crate) type Moment = (i64, i64);

impl Stamp {
    /// Looks at a path, without following a link; `None` if there is nothing, or nothing that we may see.
    #[must_use]
    pub fn read(path: &Path) -> Option<Self> {
        std::fs::symlink_metadata(path).ok().map(|metadata| Self::from(&metadata))
    }

    /// True if the file was changed at this moment or later.
    #[must_use]
    pub fn is_since(&self, moment: Moment) -> bool {
        self.changed >= moment
    }

    /// True if it is a symbolic link.
    #[must_use]
    pub fn is_link(&self) -> bool {
        rustix::fs::FileType::from_raw_mode(self.mode).is_symlink()
    }

    /// When the inode was last changed.
    #[must_use]
    pub fn changed(&self) -> Moment {
        self.changed
    }

    /// When the content was last changed.
    #[must_use]
    pub fn modified(&self) -> Moment {
        self.modified
    }
}

impl From<&std::fs::Metadata> for Stamp {
    fn from(metadata: &std::fs::Metadata) -> Self {
        Self {
            dev: metadata.dev(),
            inode: metadata.ino(),
            mode: metadata.mode(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}
