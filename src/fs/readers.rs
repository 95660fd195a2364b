//! Who may read what this process makes: only its user, or everybody whom the umask leaves.
//!
//! A root is private, for its job files can hold secrets. Where `shared_read` is set, files get the mode 0644 and
//! directories 0755, less the umask. Hard rule: nothing here lets another user write.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Mode, OFlags};

use super::{At, Result, no_links};

/// One process works on one root.
static SHARED: AtomicBool = AtomicBool::new(false);

const READ_FILE: Mode = Mode::RGRP.union(Mode::ROTH);
const READ_DIRECTORY: Mode = READ_FILE.union(Mode::XGRP).union(Mode::XOTH);

/// Lets everybody whom the umask leaves read what this process makes from now on.
pub fn let_others_read() {
    SHARED.store(true, Ordering::Relaxed);
}

fn for_others(read: Mode) -> Mode {
    if SHARED.load(Ordering::Relaxed) { read } else { Mode::empty() }
}

/// The mode of a new file, less the umask.
pub(super) fn file_mode() -> Mode {
    Mode::RUSR | Mode::WUSR | for_others(READ_FILE)
}

/// The mode of a new directory, less the umask.
pub(super) fn directory_mode() -> Mode {
    Mode::RWXU | for_others(READ_DIRECTORY)
}

/// Lets everybody whom the umask leaves read a file or directory that is there; links and special files stay as they are.
///
/// # Errors
/// `FsError` with the path.
pub fn share(path: &Path) -> Result<()> {
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
