//! Where a job works and where its output goes, found at the start of each attempt.
//!
//! What this machine does not have (a drive letter, a missing directory) is a reason not to start, and then nothing is
//! created. A log or report leads neither by `..` nor by a link out of the repository or project.

use std::fs::File;
use std::path::{Component, Path, PathBuf};

use crate::fs::{self, Moved};
use crate::job::{Code, JobFile, Reason};
use crate::lock::Locked;
use crate::store::Store;

/// Linux opens no longer path; its NUL counts.
const LONGEST_PATH: usize = 4096;

/// The directories of an attempt.
#[derive(Debug)]
pub(crate) struct Directories {
    /// The repository.
    pub repo_root: PathBuf,
    /// Where the tool works.
    pub working_dir: PathBuf,
}

/// A file that an attempt writes.
#[derive(Debug)]
pub(super) struct Target {
    base: PathBuf,
    relative: PathBuf,
    given: Given,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Given {
    ByTheJob,
    ByDefault,
}

/// Where one attempt works and logs, or why it cannot: found once, before its start line names the log.
#[derive(Debug)]
pub(super) struct Places {
    /// The directories.
    pub directories: Result<Directories, Reason>,
    /// The log.
    pub log: Result<Target, Reason>,
}

impl Places {
    /// Looks for the places of attempt `number`.
    #[must_use]
    pub(super) fn find(store: &Store, job: &JobFile, number: u32) -> Self {
        let directories = directories(store.project_dir(), job);
        let default = format!("{}.{number}.log", job.job_id);
        let log = match &directories {
            Ok(found) => target(store, &found.repo_root, "log_file", job.paths.log_file.as_deref(), &default),
            Err(reason) => Err(reason.clone()),
        };
        Self { directories, log }
    }

    /// No places, for an attempt that cannot start for this reason.
    #[must_use]
    pub(super) fn none(reason: &Reason) -> Self {
        Self { directories: Err(reason.clone()), log: Err(reason.clone()) }
    }

    /// The path of the log, where there is one.
    #[must_use]
    pub(super) fn log_path(&self) -> Option<String> {
        Some(self.log.as_ref().ok()?.path().to_string_lossy().into_owned())
    }
}

/// Finds the directories.
///
/// # Errors
/// `path_foreign`, `path_missing`.
pub(crate) fn directories(project_dir: &Path, job: &JobFile) -> Result<Directories, Reason> {
    let repo_root = directory("repo_root", project_dir, job.paths.repo_root.as_deref())?;
    let working_dir = directory("working_dir", &repo_root, job.paths.working_dir.as_deref())?;
    Ok(Directories { repo_root, working_dir })
}

fn directory(key: &str, base: &Path, given: Option<&str>) -> Result<PathBuf, Reason> {
    // The base is a directory that was found and made canonical before.
    let Some(given) = checked(key, given)? else { return Ok(base.to_path_buf()) };
    let path = base.join(given);
    let missing = |message| Reason::new(Code::PathMissing, message).at(pointer_of(key));
    match fs::canonical(&path) {
        Ok(found) if found.is_dir() => Ok(found),
        Ok(_) => Err(missing(format!("`paths.{key}` `{}` is not a directory", path.display()))),
        Err(error) => {
            let message = format!("`paths.{key}` `{}`: {}", path.display(), error.source);
            Err(missing(message).because(&error))
        }
    }
}

fn pointer_of(key: &str) -> String {
    format!("/paths/{key}")
}

/// A path that means something here; an empty one counts as absent.
fn checked<'a>(key: &str, given: Option<&'a str>) -> Result<Option<&'a str>, Reason> {
    let Some(given) = given.filter(|given| !given.is_empty()) else { return Ok(None) };
    if is_foreign(given) {
        let message = format!("`paths.{key}` `{given}` is a path of another operating system");
        return Err(Reason::new(Code::PathForeign, message).at(pointer_of(key)));
    }
    if given.contains('\0') {
        let message = format!("`paths.{key}` holds a NUL character");
        return Err(Reason::new(Code::PathInvalid, message).at(pointer_of(key)));
    }
    Ok(Some(given))
}

/// A drive letter (`C:/x`, `C:\x`) or a network share (`\\server`).
fn is_foreign(path: &str) -> bool {
    let mut bytes = path.bytes();
    let drive = bytes.next().is_some_and(|b| b.is_ascii_alphabetic())
        && bytes.next() == Some(b':')
        && matches!(bytes.next(), Some(b'/' | b'\\') | None);
    drive || path.starts_with("\\\\")
}

/// Finds the place of the log or the report of an attempt.
///
/// # Errors
/// `path_foreign`, `path_invalid`, `path_escapes`.
pub(super) fn target(
    store: &Store,
    repo_root: &Path,
    key: &str,
    given: Option<&str>,
    default: &str,
) -> Result<Target, Reason> {
    let Some(given) = checked(key, given)? else {
        let base = store.state("logs");
        return Ok(Target { base, relative: default.into(), given: Given::ByDefault });
    };
    let escapes = || {
        let message =
            format!("`paths.{key}` `{given}` leads out of the repository and of the project directory");
        Reason::new(Code::PathEscapes, message)
    };
    let path = normal(&repo_root.join(given)).ok_or_else(escapes)?;
    let length = path.as_os_str().len();
    if length >= LONGEST_PATH {
        let message = format!("`paths.{key}` has {length} bytes; a path here has fewer than {LONGEST_PATH}");
        return Err(Reason::new(Code::PathInvalid, message));
    }
    if is_the_engines(store, &path) {
        let message =
            format!("`paths.{key}` `{given}` is a place of the engine itself; only state/logs/ is free");
        return Err(Reason::new(Code::PathEscapes, message));
    }
    let bases = [repo_root.to_path_buf(), canonical(store.project_dir())];
    bases
        .into_iter()
        .find_map(|base| {
            let relative = path.strip_prefix(&base).ok()?.to_path_buf();
            relative.file_name()?;
            Some(Target { base: canonical(&base), relative, given: Given::ByTheJob })
        })
        .ok_or_else(escapes)
}

/// True for a path that only the engine may write: no job may name a record or a queued job as its log.
fn is_the_engines(store: &Store, path: &Path) -> bool {
    // As far as it is there it is looked at as it really is, for a link may lead into the root.
    let real = path.ancestors().skip(1).find_map(|above| Some((fs::canonical(above).ok()?, above)));
    let path = match &real {
        Some((real, above)) => path.strip_prefix(above).map_or_else(|_| path.into(), |rest| real.join(rest)),
        None => path.to_path_buf(),
    };
    let root = store.root();
    let owned = ["jobs", "state", "adapters", "engine.toml", "prices.json"];
    let inside = owned.iter().any(|name| path.starts_with(root.join(name)));
    inside && !path.starts_with(root.join("state/logs"))
}

fn canonical(path: &Path) -> PathBuf {
    fs::canonical(path).unwrap_or_else(|_| path.to_path_buf())
}

/// A path without `.` and `..`; `None` if it leads above the root.
fn normal(path: &Path) -> Option<PathBuf> {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                if !normal.pop() {
                    return None;
                }
            }
            Component::CurDir => {}
            other => normal.push(other),
        }
    }
    Some(normal)
}

impl Target {
    /// The path, for people.
    #[must_use]
    pub(super) fn path(&self) -> PathBuf {
        self.base.join(&self.relative)
    }

    /// True if the job names it.
    #[must_use]
    pub(super) fn is_given(&self) -> bool {
        self.given == Given::ByTheJob
    }

    /// Opens and locks the log of attempt `number`. A file that the job names and that a former attempt wrote is first
    /// renamed to `<name>.<number - 1>`, or the next number that is free.
    ///
    /// # Errors
    /// `log_in_use`, `path_escapes`, `log_not_writable`.
    pub(super) fn open_log(&self, number: u32) -> Result<Locked, Reason> {
        let file = self.open_locked()?;
        if !self.put_aside(number)? {
            return Ok(file);
        }
        self.open_locked()
    }

    /// The lock counts only if the file still has the name: another attempt may have put it aside in between.
    fn open_locked(&self) -> Result<Locked, Reason> {
        loop {
            let file = self.lock(self.open()?)?;
            match fs::is_same_file(&file, &self.path()) {
                Ok(true) => return Ok(file),
                Ok(false) => {}
                Err(error) => return Err(self.not_writable(&error)),
            }
        }
    }

    /// Writes a report whole: a reader sees the former one or this one.
    ///
    /// # Errors
    /// `path_escapes`, `log_not_writable`.
    pub(super) fn write_report(&self, number: u32, text: &str) -> Result<PathBuf, Reason> {
        // Opening it below its base proves that it does not lead out.
        drop(self.open()?);
        // An existing file is kept, whatever its origin.
        self.put_aside(number.max(2))?;
        fs::replace(&self.real()?, text.as_bytes()).map_err(|error| self.not_writable(&error))?;
        Ok(self.path())
    }

    /// The path to change the file by, once it was opened: a link that a person made below the base is resolved, and one
    /// that comes later is refused.
    fn real(&self) -> Result<PathBuf, Reason> {
        let path = self.path();
        let (Given::ByTheJob, Some(dir), Some(name)) = (self.given, path.parent(), path.file_name()) else {
            return Ok(path);
        };
        let dir = canonical(dir);
        if dir.starts_with(&self.base) { Ok(dir.join(name)) } else { Err(self.escapes()) }
    }

    fn escapes(&self) -> Reason {
        let message = format!("`{}` leads out of `{}`", self.path().display(), self.base.display());
        Reason::new(Code::PathEscapes, message)
    }

    fn open(&self) -> Result<File, Reason> {
        fs::open_beneath(&self.base, &self.relative).map_err(|error| match error.source.raw_os_error() {
            Some(libc::EXDEV | libc::ELOOP) => self.escapes(),
            _ => self.not_writable(&error),
        })
    }

    fn lock(&self, file: File) -> Result<Locked, Reason> {
        match Locked::exclusive(file, &self.path()) {
            Ok(Some(locked)) => Ok(locked),
            Ok(None) => {
                let message = format!("`{}` is the log of another running job", self.path().display());
                Err(Reason::new(Code::LogInUse, message))
            }
            Err(error) => Err(Reason::from_error(Code::LogNotWritable, &error)),
        }
    }

    /// Renames an existing file to a free name; true if there was one.
    fn put_aside(&self, number: u32) -> Result<bool, Reason> {
        let path = self.real()?;
        let has_content = path.metadata().is_ok_and(|metadata| metadata.len() > 0);
        if self.given == Given::ByDefault || number < 2 || !has_content {
            return Ok(false);
        }
        let name =
            self.relative.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        // What has such a name is kept as well: gc frees an id, whose attempts are then counted from 1 again.
        for number in number - 1.. {
            let aside = path.with_file_name(format!("{name}.{number}"));
            match fs::rename_noreplace(&path, &aside) {
                Ok(Moved::TargetExists) => {}
                Ok(moved) => return Ok(moved == Moved::Done),
                Err(error) => return Err(self.not_writable(&error)),
            }
        }
        Ok(false)
    }

    fn not_writable(&self, error: &fs::FsError) -> Reason {
        Reason::from_error(Code::LogNotWritable, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_another_operating_system_are_known() {
        for path in ["C:/x", "c:\\x", "C:", "\\\\server\\share"] {
            assert!(is_foreign(path), "{path}");
        }
        for path in ["/x", "x", "c:x", "a:b/c", "C"] {
            assert!(!is_foreign(path), "{path}");
        }
    }

    #[test]
    fn dots_are_resolved_and_do_not_lead_above_the_root() {
        assert_eq!(normal(Path::new("/a/./b/../c")), Some(PathBuf::from("/a/c")));
        assert_eq!(normal(Path::new("/a/../../..")), None);
    }
}
