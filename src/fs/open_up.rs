//! Directories that their user closed: a program took the right to list or change one.
//!
//! Hard rule: no link is followed, and no right of another user changes.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use rustix::fd::AsRawFd;

use super::error::{At, Result};
use super::no_links;

/// Lets its user list and change a directory.
pub(crate) fn open_up(dir: &Path) -> Result<()> {
    let open = || {
        let opened = no_links::dir(dir)?;
        // A descriptor of a closed directory cannot be changed, but its name below `/proc` can.
        let name = format!("/proc/self/fd/{}", opened.as_raw_fd());
        let mode = std::fs::metadata(&name)?.mode() & 0o7777;
        match mode & 0o700 {
            0o700 => Ok(()),
            _ => std::fs::set_permissions(&name, PermissionsExt::from_mode(mode | 0o700)),
        }
    };
    open().at("changing the mode of", dir)
}
