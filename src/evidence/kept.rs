//! The content of files that the repository does not have, kept for the patch.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use super::hashing;
use super::paths::path_of;

/// So much is kept in all.
const MAX_KEPT_BYTES: u64 = 8 << 20;

/// The content of a larger file is not kept: its change would not find room in the patch.
const MAX_KEPT_FILE_BYTES: u64 = 1 << 20;

/// So many files are kept: to read more takes longer than the look.
const MAX_KEPT_FILES: usize = 250;

/// Files whose content the repository does not have: untracked, or changed before the job. Those that found no room have
/// no content.
#[derive(Debug, Clone, Default)]
pub struct Kept {
    pub(super) contents: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    files: usize,
    bytes: u64,
}

impl Kept {
    /// Keeps the content of a file or the text of a link, if there is room.
    pub fn keep(&mut self, top: &Path, path: &[u8]) {
        let left = MAX_KEPT_BYTES.saturating_sub(self.bytes).min(MAX_KEPT_FILE_BYTES);
        let link = || Some(std::fs::read_link(top.join(path_of(path))).ok()?.into_os_string().into_vec());
        let content = match self.files < MAX_KEPT_FILES {
            true => hashing::read(top, path, left).or_else(link),
            false => None,
        };
        if let Some(content) = &content {
            self.files += 1;
            self.bytes += content.len() as u64;
        }
        self.contents.insert(path.to_vec(), content);
    }
}
