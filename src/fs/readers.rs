//! The readers of what this process makes: only its user, or all users that the umask leaves.
//!
//! A root is private, for its job files can hold secrets. Where `shared_read` is set, files get the mode 0644 and
//! directories 0755, less the umask. Hard rule: nothing here lets another user write.

use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::error::{At, Result};
use super::modes::{READ_DIRECTORY, READ_FILE};
use super::no_links;

pub(crate) use super::modes::let_others_read;

/// Lets every user that the umask leaves read a file or directory that is there; links and special files stay as they are.
pub(crate) fn share(path: &Path) -> Result<()> {
    let action = "letting others read";
    let found = std::fs::symlink_metadata(path).at("looking at", path)?;
    let read = match found.file_type() {
        kind if kind.is_dir() => READ_DIRECTORY,
        kind if kind.is_file() => READ_FILE,
        _ => return Ok(()),
    };
    let file = no_links::open(path, OFlags::RDONLY | OFlags::NONBLOCK).at(action, path)?;
    let mode = Mode::from_raw_mode(rustix::fs::fstat(&file).at(action, path)?.st_mode);
    rustix::fs::fchmod(&file, mode | (read & !umask())).at(action, path)
}

/// The umask, which can only be read by setting it; a file made in between is private.
fn umask() -> Mode {
    let umask = rustix::process::umask(Mode::RWXG | Mode::RWXO);
    rustix::process::umask(umask);
    umask
}
