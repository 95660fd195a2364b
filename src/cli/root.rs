//! Which root a command works on.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use clap::CommandFactory;

use super::args::{Cli, Global};
use super::error::CliError;
use super::{current_dir, home, print, variable};
use crate::store::{Store, root};

/// The root of a reading command.
pub fn to_read(global: &Global) -> Result<Store, CliError> {
    let root = find(global, None)?.ok_or_else(|| no_root(&current_dir().unwrap_or_default()))?;
    Ok(Store::open_to_read(&root)?)
}

/// The root of a command that reads, if there is one.
pub fn to_read_if_any(global: &Global) -> Result<Option<Store>, CliError> {
    match find(global, None)? {
        Some(root) => Ok(Some(Store::open_to_read(&root)?)),
        None => Ok(None),
    }
}

/// The root of a command that changes something, and makes none. One that came from elsewhere must be accepted first.
pub fn to_change(global: &Global) -> Result<Store, CliError> {
    let root = find(global, None)?.ok_or_else(|| no_root(&current_dir().unwrap_or_default()))?;
    Ok(Store::open_to_change(&root)?.accepted()?)
}

/// The root of a command that may make one: `.engine/` in the working directory. Whether it is accepted is not asked.
pub fn to_change_or_make(global: &Global, job_file: Option<&Path>) -> Result<Store, CliError> {
    let root = match find(global, job_file)? {
        Some(root) => root,
        None => make_here(global)?,
    };
    Ok(Store::open_to_change(&root)?)
}

/// What a command that is printed needs, so that it works on the same root when it is typed here.
static NEEDED: OnceLock<String> = OnceLock::new();

/// A text in which each command names the root, where the working directory does not lead to it.
pub fn in_commands(text: &str) -> Cow<'_, str> {
    let Some(root) = NEEDED.get() else { return text.into() };
    let mut rest = text;
    let mut told = String::with_capacity(text.len() + root.len());
    while let Some(at) = rest.find("engine ") {
        let (before, from) = rest.split_at(at);
        let (name, after) = from.split_at("engine ".len());
        let begins = before.chars().last().or(told.chars().last()).is_none_or(|c| " `(".contains(c));
        let verb = after.split(|c: char| !c.is_ascii_lowercase() && c != '-').next().unwrap_or_default();
        told += before;
        told += name;
        if begins && Cli::command().find_subcommand(verb).is_some() {
            told += &format!("--root {root} ");
        }
        rest = after;
    }
    (told + rest).into()
}

fn is_needed(root: &Path) {
    let shown = root.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@%:=,~".contains(c);
    let quoted = format!("'{}'", shown.replace('\'', r"'\''"));
    let _ = NEEDED.set(if shown.chars().all(plain) { shown.into_owned() } else { quoted });
}

/// Where adapters are looked for, if there is a root.
pub fn find(global: &Global, job_file: Option<&Path>) -> Result<Option<PathBuf>, CliError> {
    if let Some(named) = &global.root {
        is_needed(named);
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
        is_needed(found);
    }
    Ok(found)
}

/// The project directory of the root that a command will use, without links; that of one to be made is here.
pub fn project_dir(global: &Global) -> Result<PathBuf, CliError> {
    let Some(root) = find(global, None)?.and_then(|root| crate::fs::canonical(&root).ok()) else {
        return current_dir();
    };
    Ok(root::project_of(&root).to_path_buf())
}

fn make_here(global: &Global) -> Result<PathBuf, CliError> {
    let here = current_dir()?;
    // The working directory is told without links; on some systems `/home` is one.
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
