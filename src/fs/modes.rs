//! The modes of new files and directories: private, unless the root is shared.

use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::Mode;

/// One process works on one root.
static SHARED: AtomicBool = AtomicBool::new(false);

pub(super) const READ_FILE: Mode = Mode::RGRP.union(Mode::ROTH);
pub(super) const READ_DIRECTORY: Mode = READ_FILE.union(Mode::XGRP).union(Mode::XOTH);

/// Lets every user that the umask leaves read what this process makes from now on.
pub(crate) fn let_others_read() {
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
