//! The settings of workstreams, for every verb that needs them: flags, `PIPELINE_*`, `engine.toml`, the original files.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;

use crate::adapter::{self, Environment};
use crate::bundle::OriginalFile;
use crate::bundle::settings::{Fault, Flags, MOST_BYTES, ORIGINAL_FILES, Resolved, Sources, resolve};
use crate::causes::causes;
use crate::fs;
use crate::store::Store;

/// The settings for the bundles of a project.
///
/// # Errors
/// Everything that is wrong with them.
pub(super) fn resolved(
    flags: &Flags,
    store: Option<&Store>,
    environment: &Environment,
    project: &Path,
) -> Result<Resolved, Vec<Fault>> {
    let found = ORIGINAL_FILES.iter().filter_map(|name| original(project, name).transpose());
    let (files, unread): (Vec<_>, Vec<_>) = found.partition(Result::is_ok);
    let unread: Vec<Fault> = unread.into_iter().filter_map(Result::err).collect();
    if !unread.is_empty() {
        return Err(unread);
    }
    let files: Vec<OriginalFile> = files.into_iter().filter_map(Result::ok).collect();
    let table = store.map(|store| store.config.workstreams.clone()).unwrap_or_default();
    let (variables, adapters) = (environment.beginning_with("PIPELINE_"), adapters_for_checks(store));
    resolve(&Sources { flags, variables: &variables, table: &table, files: &files, adapters: &adapters })
}

/// A settings file of the original's, if it is there.
fn original(project: &Path, name: &str) -> Result<Option<OriginalFile>, Fault> {
    let path = project.join(name);
    match fs::open_regular(&path).and_then(|file| fs::read_limited(&file, &path, MOST_BYTES)) {
        Ok(Some(bytes)) => Ok(Some(OriginalFile { name: name.to_owned(), bytes })),
        Ok(None) => Err(Fault::of(name, format!("it has more than {MOST_BYTES} bytes"))),
        // A file of the project may be called as the directory is that holds it.
        Err(error) if error.is_not_found() || error.source.kind() == ErrorKind::NotADirectory => Ok(None),
        Err(error) => Err(Fault::of(name, causes(&error))),
    }
}

/// The adapters that a check may name: those with a command of their own that are no agents.
fn adapters_for_checks(store: Option<&Store>) -> BTreeSet<String> {
    let listed = adapter::list(store).unwrap_or_default().into_values().filter_map(Result::ok);
    let usable = listed.filter(|(manifest, _)| {
        manifest.executable.is_some() && manifest.reader.dialect().is_none() && !manifest.needs_prompt
    });
    usable.map(|(manifest, _)| manifest.id.to_string()).collect()
}
