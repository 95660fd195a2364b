//! Which root a command works on.

use std::path::{Path, PathBuf};

use super::error::CliError;
use super::global::Global;
use super::global::{current_dir, home, variable};
use super::named_root;
use super::print;
use crate::store::{Store, root};

/// The root of a reading command.
pub(super) fn to_read(global: &Global) -> Result<Store, CliError> {
    let root = find(global, None)?.ok_or_else(|| no_root(&current_dir().unwrap_or_default()))?;
    Ok(Store::open_to_read(&root)?)
}

/// The root of a reading command, if there is one.
pub(super) fn to_read_if_any(global: &Global) -> Result<Option<Store>, CliError> {
    match find(global, None)? {
        Some(root) => Ok(Some(Store::open_to_read(&root)?)),
        None => Ok(None),
    }
}

/// The root of a changing command that makes no root. A root from elsewhere must be accepted first.
pub(super) fn to_change(global: &Global) -> Result<Store, CliError> {
    let root = find(global, None)?.ok_or_else(|| no_root(&current_dir().unwrap_or_default()))?;
    Ok(Store::open_to_change(&root)?.accepted()?)
}

/// The root of a command that may make one: `.engine/` in the working directory. Whether it is accepted is not asked.
pub(super) fn to_change_or_make(global: &Global, job_file: Option<&Path>) -> Result<Store, CliError> {
    let root = match find(global, job_file)? {
        Some(root) => root,
        None => make_here(global)?,
    };
    Ok(Store::open_to_change(&root)?)
}

/// Where adapters are looked for, if there is a root.
pub(super) fn find(global: &Global, job_file: Option<&Path>) -> Result<Option<PathBuf>, CliError> {
    if let Some(named) = &global.root {
        named_root::is_needed(named);
    }
    if let Some(named) = global.root.clone().or_else(|| variable("ENGINE_ROOT").map(PathBuf::from)) {
        return Ok(Some(root::named(named)));
    }
    if let Some(found) = root::find(&current_dir()?) {
        return Ok(Some(found));
    }
    let beside = job_file.and_then(|file| file.canonicalize().ok());
    let found = beside.as_deref().and_then(Path::parent).and_then(root::find);
    if let Some(found) = &found {
        named_root::is_needed(found);
    }
    Ok(found)
}

/// The project directory of the root that a command will use, without links; that of one to be made is here.
pub(super) fn project_dir(global: &Global) -> Result<PathBuf, CliError> {
    let Some(root) = find(global, None)?.and_then(|root| crate::fs::canonical(&root).ok()) else {
        return current_dir();
    };
    Ok(crate::store::project_of(&root).to_path_buf())
}

fn make_here(global: &Global) -> Result<PathBuf, CliError> {
    let here = current_dir()?;
    // The kernel reports the working directory without links; on some systems `/home` is one.
    let home = home().map(PathBuf::from).map(|home| home.canonicalize().unwrap_or(home));
    root::check_place(&here, home.as_deref())?;
    let made = here.join(".engine");
    root::create(&made)?;
    if !global.quiet {
        print::note(&format!("made the root {}", made.display()));
    }
    Ok(made)
}

fn no_root(here: &Path) -> CliError {
    CliError::from(crate::store::StoreError::NoRoot { path: here.to_path_buf() })
}
