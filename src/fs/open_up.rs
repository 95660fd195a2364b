//! Files and directories that their user closed: a program took the right to read or change one.
//!
//! Hard rule: no link is followed, and no right of another user changes.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fd::AsRawFd;
use rustix::fs::OFlags;

use super::error::{At, Result};
use super::no_links;

/// Lets its user read and change a file, or list and change a directory.
pub(crate) fn open_up(path: &Path) -> Result<()> {
    let open = || {
        let opened = no_links::open(path, OFlags::PATH)?;
        // A descriptor of a closed file cannot be changed, but its name below `/proc` can.
        let name = format!("/proc/self/fd/{}", opened.as_raw_fd());
        let metadata = std::fs::metadata(&name)?;
        let wanted = if metadata.is_dir() { 0o700 } else { 0o600 };
        let mode = metadata.permissions().mode() & 0o7777;
        match mode & wanted == wanted {
            true => Ok(()),
            false => std::fs::set_permissions(&name, PermissionsExt::from_mode(mode | wanted)),
        }
    };
    open().at("changing the mode of", path)
}
