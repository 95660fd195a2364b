//! The directories of files that are still to be created, made before an agent starts.
//!
//! Hard rule: they are made within the worktree and through no link, and none is made that another system would take for one
//! that is there.

use std::io;
use std::path::{Component, Path, PathBuf};

use super::Place;
use crate::fs;
use crate::git::write;
use crate::job::{Code, Reason};

/// Makes a directory of the worktree, and those that lead to it.
///
/// # Errors
/// `scope_invalid` with what is in the way, or a reason where the file system refuses it.
pub(crate) fn make_directory(place: &Place, dir: &str) -> Result<(), Reason> {
    place.is_there()?;
    let refused = |why: String| {
        let message =
            format!("the directory `{dir}` cannot be made in the worktree: {why}; correct `files_create`");
        Err(Reason::new(Code::ScopeInvalid, message))
    };
    let mut made = PathBuf::new();
    for part in Path::new(dir).components() {
        match part {
            Component::CurDir => continue,
            Component::Normal(name) if !name.eq_ignore_ascii_case(".git") => made.push(name),
            Component::Normal(_) => return refused("`.git` is git's own".to_owned()),
            _ => return refused("it leads out".to_owned()),
        }
        let path = place.file(&made);
        match std::fs::symlink_metadata(&path) {
            Ok(found) if found.is_dir() => {}
            Ok(found) if found.is_symlink() => return refused(format!("`{}` is a link", made.display())),
            Ok(_) => return refused(format!("the file `{}` is in the way", made.display())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if let Some(other) = same_but_for_case(&path) {
                    return refused(format!("`{}` differs from `{other}` only in case", made.display()));
                }
                fs::create_dir(&path).map_err(|error| write::wrong(&error))?;
            }
            Err(error) => return refused(format!("`{}`: {error}", made.display())),
        }
    }
    Ok(())
}

/// The name beside a path that some file systems take for the same.
fn same_but_for_case(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?.to_lowercase();
    fs::names(path.parent()?).ok()?.into_iter().find(|other| other.to_lowercase() == name)
}
