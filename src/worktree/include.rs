//! `.worktreeinclude`: ignored files of the user's checkout that a new worktree gets a copy of, as `.env`.
//!
//! The file is in the format of `.gitignore`. Hard rule: only a file that git ignores in the new worktree too is copied, so none
//! becomes a change; and no link is followed.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::Place;
use super::git::{Git, joined};
use crate::fs::{self, FsError};
use crate::git::index::{is_plain, path_of};
use crate::git::{Client, write};
use crate::job::Reason;

const NAME: &str = ".worktreeinclude";

/// Copies the files that the checkout names into a worktree that was just made.
///
/// # Errors
/// A reason where git fails, or a file cannot be copied.
pub(super) fn copy_included(place: &Place, client: &Client) -> Result<(), Reason> {
    let rules = place.repo.join(NAME);
    if !rules.is_file() {
        return Ok(());
    }
    let git = Git::at(place, client);
    let list = ["ls-files", "-z", "--others", "--ignored"];
    let listed = git.read(&list).arg(format!("--exclude-from={}", rules.display())).output()?;
    let names = |listed: &[u8]| -> Vec<Vec<u8>> {
        let paths = listed.split(|byte| *byte == 0).filter(|path| !path.is_empty() && !path.ends_with(b"/"));
        paths.map(<[u8]>::to_vec).collect()
    };
    let wanted = names(&listed);
    if wanted.is_empty() {
        return Ok(());
    }
    let captured = write::answer(git.tree(&["check-ignore", "-z", "--stdin"]).input(joined(&wanted)))?;
    // 1 means that none is ignored.
    if !matches!(captured.code, Some(0 | 1)) {
        return Err(write::refusal("check-ignore", &place.dir, &captured));
    }
    for path in names(&captured.stdout).iter().filter(|path| is_plain(path)) {
        copy(place, &path_of(path)).map_err(|error| write::wrong(&error))?;
    }
    Ok(())
}

fn copy(place: &Place, path: &Path) -> fs::Result<()> {
    let from = place.repo.join(path);
    let at = |source: io::Error| FsError { action: "copying", path: from.clone(), source };
    let mut source = match fs::open_regular(&from) {
        Ok(source) => source,
        Err(error) if error.source.kind() == io::ErrorKind::InvalidInput || from.is_symlink() => {
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let mut target = fs::open_beneath(&place.dir, path)?;
    io::copy(&mut source, &mut target).map_err(at)?;
    let mode = source.metadata().map_err(at)?.mode() & 0o777;
    target.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode)).map_err(at)
}
