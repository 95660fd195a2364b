//! Opening a file that a job names below a directory that nothing may lead out of, neither `..` nor a link. A link that
//! stays below it is a person's own and is followed, but at the end of the path.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::error::{At, Result};
use super::steps::{Step, step};
use super::{no_links, regular};

/// Opens `relative` below `base`, whose own path has no link, for reading and writing; creates it, with the directories that
/// lead to it, if it is not there. Neither `..` nor a link may lead out of `base`.
///
/// An escape is an error of kind `CrossesDevices` (the kernel's answer to it).
pub(crate) fn open_beneath(base: &Path, relative: &Path) -> Result<File> {
    let shown = base.join(relative);
    let mut parent = no_links::dir(base).at("opening", base)?;
    if let Some(directories) = relative.parent().filter(|p| !p.as_os_str().is_empty()) {
        create_beneath(&parent, directories).at("creating directory", &shown)?;
        parent = open_dir_at(&parent, directories).at("opening", &shown)?;
    }
    let Some(name) = relative.file_name() else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a file name")).at("opening", &shown);
    };
    step(Step::Create, &shown);
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOFOLLOW;
    let opened = rustix::fs::openat(&parent, name, flags, super::modes::file_mode()).at("opening", &shown)?;
    regular(File::from(opened), &shown)
}

fn open_dir_at(dir: impl rustix::fd::AsFd, path: &Path) -> std::result::Result<rustix::fd::OwnedFd, Errno> {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
    rustix::fs::openat2(dir, path, flags, Mode::empty(), ResolveFlags::BENEATH)
}

fn create_beneath(dir: &rustix::fd::OwnedFd, path: &Path) -> std::result::Result<(), Errno> {
    let mut made = PathBuf::new();
    for part in path.components() {
        made.push(part);
        match open_dir_at(dir, &made) {
            Ok(_) => {}
            Err(Errno::NOENT) => {
                step(Step::Mkdir, &made);
                let parent = made.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
                let parent = open_dir_at(dir, parent)?;
                let name = made.file_name().ok_or(Errno::INVAL)?;
                match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o777)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(error),
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
