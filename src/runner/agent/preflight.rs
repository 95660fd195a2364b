//! Checks before an agent starts that its program, version, key and prompt are present.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use rustix::fs::Access;

use super::super::Workplace;
use super::super::halt::Halt;
use super::super::paths::Directories;
use crate::adapter::agent::{Dialect, session};
use crate::adapter::manifest::Credentials;
use crate::adapter::plan::prompt_missing;
use crate::adapter::{Environment, Manifest, detect};
use crate::fs;
use crate::job::spec::EnvValue;
use crate::job::{Code, JobFile, Reason};
use crate::process::program::{self, Program};
use crate::store::versions;

/// A prompt file of this size is not looked through for a word.
const LONGEST_BLANK: u64 = 64 << 10;

/// Checks it all.
pub(super) fn check(
    place: &Workplace<'_>,
    job: &JobFile,
    manifest: &Manifest,
    directories: &Directories,
    halt: &Halt,
) -> Result<(), Reason> {
    prompt(job, manifest, &directories.working_dir)?;
    let found = means(place.environment, job, manifest, directories)?;
    match (&manifest.min_version, found) {
        (Some(wanted), Some(path)) => version(place, manifest, (&path, wanted), halt),
        _ => Ok(()),
    }
}

/// Looks for its program, its home and its key.
fn means(
    environment: &Environment,
    job: &JobFile,
    manifest: &Manifest,
    directories: &Directories,
) -> Result<Option<PathBuf>, Reason> {
    let found = program(environment, job, manifest, &directories.working_dir)?;
    home(environment, job, manifest)?;
    if let Some(credentials) = &manifest.credentials {
        key(environment, job, manifest, (credentials, &directories.repo_root))?;
    }
    Ok(found)
}

/// Checks that a job with this tool would find its program and, of an agent, its home and its key; for jobs that are made now
/// and start later. Nothing is started.
///
/// # Errors
/// `tool_not_found`, `home_missing`, `home_not_writable`, `key_missing`.
pub(crate) fn can_start(
    environment: &Environment,
    job: &JobFile,
    manifest: &Manifest,
    repo_root: &Path,
) -> Result<(), Reason> {
    let here = Directories { repo_root: repo_root.to_path_buf(), working_dir: repo_root.to_path_buf() };
    means(environment, job, manifest, &here).map(drop)
}

fn prompt(job: &JobFile, manifest: &Manifest, working_dir: &Path) -> Result<(), Reason> {
    if !manifest.needs_prompt {
        return Ok(());
    }
    let known = &job.metadata.known;
    let empty = |what: &str| Err(Reason::new(Code::PromptEmpty, format!("{what} is empty")));
    if known.prompt.as_deref().is_some_and(|prompt| prompt.trim().is_empty()) {
        return empty("`metadata.prompt`");
    }
    let Some(name) = known.message_file.as_deref().filter(|name| !name.is_empty()) else {
        return if known.prompt.is_some() { Ok(()) } else { Err(prompt_missing()) };
    };
    let path = working_dir.join(name);
    let head = fs::open_regular(&path).and_then(|file| fs::read_limited(&file, &path, LONGEST_BLANK));
    match head {
        Ok(Some(text)) if text.trim_ascii().is_empty() => empty(&format!("`{}`", path.display())),
        _ => Ok(()),
    }
}

/// Looks for the program where it would be looked for at the start.
fn program(
    environment: &Environment,
    job: &JobFile,
    manifest: &Manifest,
    working_dir: &Path,
) -> Result<Option<PathBuf>, Reason> {
    let Some(exe) = &manifest.executable else { return Ok(None) };
    match program::find(OsStr::new(exe), environment.of_job(job, "PATH"), working_dir) {
        Program::At(path) => Ok(Some(path)),
        Program::Missing => {
            let message = format!("`{exe}` was not found; is it installed, and in PATH?");
            Err(Reason::new(Code::ToolNotFound, message))
        }
        // The start itself reports the problem.
        Program::NotExecutable(_) => Ok(None),
    }
}

/// Looks for a place for the tool's own files. Measured: without a home each of the tools ends before it begins, and where theirs
/// cannot be written Gemini hangs and Codex says that a file is missing.
fn home(environment: &Environment, job: &JobFile, manifest: &Manifest) -> Result<(), Reason> {
    let Some(dialect) = manifest.reader.dialect().filter(|dialect| *dialect != Dialect::Own) else {
        return Ok(());
    };
    let variable = |name: &str| environment.of_agent(job, manifest, name).map(OsStr::to_owned);
    let id = &manifest.id;
    let missing = |message| Err(Reason::new(Code::HomeMissing, message));
    let Some(dir) = session::home_of(dialect, &variable) else {
        return missing(format!("`{id}` has no home directory: set `HOME`; the user database has none"));
    };
    let shown = dir.display();
    // A template of the manifest has no value yet.
    if dir.to_string_lossy().contains('{') {
        return Ok(());
    }
    if dir.is_relative() {
        return missing(format!("`{id}` would keep its own files in the worktree: `{shown}` is relative"));
    }
    if !matches!(dialect, Dialect::Codex | Dialect::Gemini) {
        return Ok(());
    }
    not_writable(&dir).map_or(Ok(()), |why| {
        let message = format!(
            "`{id}` keeps its own files in `{shown}`, but {why}: set `HOME` to a directory of your own"
        );
        Err(Reason::new(Code::HomeNotWritable, message))
    })
}

/// Why a directory can neither be written nor be made.
fn not_writable(dir: &Path) -> Option<String> {
    let there = dir.ancestors().find(|above| above.exists())?;
    if !there.is_dir() {
        return Some(format!("`{}` is not a directory", there.display()));
    }
    let error = rustix::fs::access(there, Access::WRITE_OK | Access::EXEC_OK).err()?;
    Some(format!("`{}` cannot be written: {error}", there.display()))
}

/// Any one of the credentials is enough; a reference under the name of a key in the job's own `env` is one of the job's own.
fn key(
    environment: &Environment,
    job: &JobFile,
    manifest: &Manifest,
    (credentials, repo_root): (&Credentials, &Path),
) -> Result<(), Reason> {
    let is_set = |name: &str| {
        let of_job = match job.env.get(name) {
            Some(EnvValue::Text(text)) => Some(!text.is_empty()),
            Some(EnvValue::FromEnv(_)) => Some(true),
            None => None,
        };
        of_job.unwrap_or_else(|| environment.get(name).is_some_and(|value| !value.is_empty()))
    };
    let by_variable = credentials.env.iter().any(|name| match name.strip_prefix('*') {
        Some(ending) => {
            job.env.keys().any(|name| name.ends_with(ending)) || environment.has_name_ending(ending)
        }
        None => is_set(name),
    });
    let is_key = |name: &String| ["_KEY", "_TOKEN"].iter().any(|ending| name.ends_with(ending));
    let by_reference =
        job.env.iter().any(|(name, value)| is_key(name) && matches!(value, EnvValue::FromEnv(_)));
    let by_file = credentials
        .files
        .iter()
        .any(|file| place_of(file, environment, (job, manifest), repo_root).is_some_and(|p| p.is_file()));
    if by_variable || by_reference || by_file {
        return Ok(());
    }
    let names = credentials.env.iter().chain(&credentials.files).map(|name| format!("`{name}`"));
    let message =
        format!("`{}` has no key: none of {} is set", manifest.id, names.collect::<Vec<_>>().join(", "));
    Err(Reason::new(Code::KeyMissing, message))
}

/// `~/x` in the home directory, `$NAME/x` in the directory of a variable, else in the repository.
fn place_of(
    file: &str,
    environment: &Environment,
    (job, manifest): (&JobFile, &Manifest),
    repo_root: &Path,
) -> Option<PathBuf> {
    let variable = |name: &str| environment.of_agent(job, manifest, name).map(PathBuf::from);
    if let Some(rest) = file.strip_prefix("~/") {
        return Some(variable("HOME")?.join(rest));
    }
    match file.strip_prefix('$').and_then(|rest| rest.split_once('/')) {
        Some((name, rest)) => Some(variable(name)?.join(rest)),
        None => Some(repo_root.join(file)),
    }
}

/// Asks for the version once for each program file: some tools take two seconds to tell it.
fn version(
    place: &Workplace<'_>,
    manifest: &Manifest,
    (path, wanted): (&Path, &str),
    halt: &Halt,
) -> Result<(), Reason> {
    let found = versions::remembered(place.store, path).or_else(|| {
        let detected = detect::version_of(manifest, path, place.store.root(), &|| halt.reason().is_some())?;
        versions::remember(place.store, path, &detected);
        Some(detected)
    });
    match found {
        Some(found) if is_older(&found, wanted) => {
            let message =
                format!("`{}` has version {found}; version {wanted} or later is required", path.display());
            Err(Reason::new(Code::ToolVersion, message))
        }
        Some(_) => Ok(()),
        None if halt.reason().is_some() => {
            let message = format!("`{}` was interrupted while it reported its version", path.display());
            Err(Reason::new(Code::Interrupted, message))
        }
        None => {
            tracing::warn!("`{}` does not report its version", path.display());
            Ok(())
        }
    }
}

/// Compares the numbers of two versions, the first first; what is not there counts as 0.
fn is_older(found: &str, wanted: &str) -> bool {
    let numbers = |text: &str| -> Vec<u64> {
        let digits = |part: &str| part.chars().take_while(char::is_ascii_digit).collect::<String>();
        text.split('.').map(|part| digits(part).parse().unwrap_or(0)).collect()
    };
    let (found, wanted) = (numbers(found), numbers(wanted));
    let at = |version: &[u64], index: usize| version.get(index).copied().unwrap_or(0);
    (0..found.len().max(wanted.len()))
        .map(|index| at(&found, index).cmp(&at(&wanted, index)))
        .find(|order| order.is_ne())
        .is_some_and(std::cmp::Ordering::is_lt)
}

#[cfg(test)]
mod tests {
    use super::is_older;

    #[test]
    fn versions_are_compared_by_their_numbers() {
        for (found, wanted) in [("0.79.9", "0.80"), ("1.9", "1.10"), ("2.1.99", "2.1.110")] {
            assert!(is_older(found, wanted) && !is_older(wanted, found), "{found} {wanted}");
        }
        assert!(!is_older("0.80.0", "0.80") && !is_older("0.80", "0.80.0"));
        assert!(!is_older("2.1.197-beta", "2.1.110"));
    }
}
