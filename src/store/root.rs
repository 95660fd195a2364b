//! The root: where it is, how one is made, and whether it can be trusted.
//!
//! A root is trusted where only its owner can change it, no directory of its layout is a link, and it was made here or
//! accepted by a person (`version`).

use std::io::ErrorKind::PermissionDenied;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::config::Config;
use super::{Distrust, Identity, Result, Store, StoreError, version};
use crate::causes::Shortage;
use crate::clock::{Clock, SystemClock};
use crate::fs::{self, Ordering};

/// The directories of a root. `state/logs` and the like are made when the first command changes something.
const DIRECTORIES: [&str; 10] = [
    "jobs",
    "jobs/queued",
    "jobs/running",
    "jobs/done",
    "jobs/quarantined",
    "state",
    "state/jobs",
    "state/logs",
    "state/control",
    "state/locks",
];

/// Directories that are made when they are needed.
const LATER: [&str; 5] = ["adapters", "state/archive", "state/attempts", "state/keys", "state/prompts"];

/// Likewise; those of another user are not used.
const CACHES: [&str; 2] = ["state/cache", "state/cache/runs"];

const ENGINE_TOML: &str = "# Settings of this engine root; all optional. See docs/settings.md.\n";

/// Finds the nearest root at or above a directory: one that holds `engine.toml` or `.engine/engine.toml`.
#[must_use]
pub(crate) fn find(start: &Path) -> Option<PathBuf> {
    start.ancestors().find_map(|dir| {
        if dir.join("engine.toml").is_file() {
            return Some(dir.to_path_buf());
        }
        Some(inside(dir)).filter(|hidden| holds_settings(hidden))
    })
}

/// The root that a directory names: itself, or the one inside it.
#[must_use]
pub(crate) fn named(dir: PathBuf) -> PathBuf {
    let inside = inside(&dir);
    if !dir.join("engine.toml").exists() && holds_settings(&inside) { inside } else { dir }
}

fn inside(project: &Path) -> PathBuf {
    project.join(".engine")
}

/// True also for a root that this user may not read: it is not skipped for another one further up.
fn holds_settings(root: &Path) -> bool {
    let settings = std::fs::metadata(root.join("engine.toml"));
    settings.map_or_else(|error| error.kind() == PermissionDenied, |found| found.is_file())
}

/// Says whether a root may be made in a directory without being asked to.
///
/// # Errors
/// `NoPlaceForRoot` for `/`, the home directory, and what others can write or own.
pub(crate) fn check_place(dir: &Path, home: Option<&Path>) -> Result<()> {
    let refuse = |problem| Err(StoreError::NoPlaceForRoot { path: dir.to_path_buf(), problem });
    if dir.parent().is_none() {
        return refuse("the root of the file system");
    }
    if home == Some(dir) {
        return refuse("your home directory");
    }
    match std::fs::symlink_metadata(dir) {
        Ok(metadata) if !fs::is_own(&metadata) => refuse("not yours"),
        Ok(metadata) if fs::writable_by_others(&metadata) => refuse("writable by others"),
        _ => Ok(()),
    }
}

/// Makes a root, or completes one; true if there was none.
///
/// `engine.toml`, by which a root is found, comes last: a crash before it leaves a root that the next call completes. One
/// that is made where nothing is that could be run is accepted at once.
///
/// # Errors
/// `NotTrusted` for a directory that others can write or own, which is left as it is; file system errors.
pub(crate) fn create(root: &Path) -> Result<bool> {
    let root = make_directory(root)?;
    trust(&root, None)?;
    if root.join("engine.toml").exists() {
        return Ok(false);
    }
    let found = version::read(&root)?;
    if found.is_none() && nothing_to_run(&root)? {
        make_directories(&root)?;
        version::publish(&root, version::Accepted::Yes)?;
    }
    if root.file_name().is_some_and(|name| name == ".engine") {
        create_if_missing(&root.join(".gitignore"), b"/jobs/\n/state/\n")?;
    }
    create_if_missing(&root.join("engine.toml"), ENGINE_TOML.as_bytes())
}

/// Lets other users read a root, as far as the umask leaves them: what is there now, and what is made from now on. Prompts
/// and the files of attempts that run stay private.
///
/// # Errors
/// `Unreadable` where `engine.toml` says otherwise; file system errors.
pub(crate) fn share_reading(root: &Path) -> Result<()> {
    let root = fs::canonical(root)?;
    Config::share_reading(&root)?;
    fs::readers::let_others_read();
    fs::readers::share(&root)?;
    let private = ["attempts", "prompts"].map(|name| root.join("state").join(name));
    for name in [".gitignore", "engine.toml", "prices.json", "adapters", "jobs", "state"] {
        let found = walkdir::WalkDir::new(root.join(name)).into_iter();
        let found = found.filter_entry(|entry| !private.iter().any(|path| path == entry.path()));
        // What is gone, or belongs to another user, is not shared.
        for entry in found.filter_map(std::result::Result::ok) {
            match fs::readers::share(entry.path()) {
                Err(error)
                    if !error.is_not_found() && entry.metadata().is_ok_and(|found| fs::is_own(&found)) =>
                {
                    return Err(error.into());
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// Makes a directory and those that lead to it; its path without links.
fn make_directory(path: &Path) -> Result<PathBuf> {
    let Some(existing) = path.ancestors().find(|dir| dir.exists()) else {
        return Err(StoreError::NoRoot { path: path.to_path_buf() });
    };
    let mut made = fs::canonical(existing)?;
    // Before anything is made where it would be of no use.
    fs::mount::file_system(&made)?.check_locks()?;
    for part in path.strip_prefix(existing).unwrap_or(Path::new("")).components() {
        made.push(part);
        fs::create_dir(&made)?;
    }
    Ok(fs::canonical(&made)?)
}

/// True if a directory that becomes a root holds no job that waits, no manifest and no state: all of it is then made here.
fn nothing_to_run(root: &Path) -> Result<bool> {
    for directory in ["adapters", "jobs/queued", "jobs/running", "state"] {
        let names = fs::names(&root.join(directory))?;
        // A dot file is never run.
        let is_ours =
            |name: &String| name.starts_with('.') || DIRECTORIES.contains(&&*format!("{directory}/{name}"));
        if !names.iter().all(is_ours) {
            // Another process may have made the root meanwhile.
            return Ok(version::read(root)?.is_some());
        }
    }
    Ok(true)
}

/// Makes the directories that are missing, and checks that only we can change those that are there.
fn make_directories(root: &Path) -> Result<()> {
    let device = trust(root, None)?;
    for directory in DIRECTORIES {
        let path = root.join(directory);
        // A rename from one directory of the queue to another must not leave its file system.
        match trust(&path, Some(device).filter(|_| directory.starts_with("jobs"))) {
            Err(StoreError::Fs(error)) if error.is_not_found() => drop(fs::create_dir(&path)?),
            other => drop(other?),
        }
    }
    // Whatever ends now moves to the directory of today; those of former days are refused when they are used.
    match problems_of_later(root, vec![SystemClock::start().now().day()]).next() {
        Some(problem) => Err(problem),
        None => Ok(()),
    }
}

/// Makes a file unless another process has; true if it was this one.
fn create_if_missing(path: &Path, text: &[u8]) -> Result<bool> {
    match fs::create_new(path, text) {
        Ok(_) => Ok(true),
        Err(error) if error.source.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error.into()),
    }
}

impl Store {
    /// Opens a root to read it; creates nothing.
    ///
    /// # Errors
    /// `NoRoot`, errors of `engine.toml`. A newer format is read as far as it goes.
    pub fn open_to_read(root: &Path) -> Result<Self> {
        let root = settled(root)?;
        // A reader does not need it.
        let version = version::read(&root).ok().flatten();
        let is_accepted = version.as_ref().is_some_and(|version| version.is_accepted(&root));
        let ordering = fs::mount::file_system(&root)?.ordering;
        let (uuid, former) = version.map(|version| (version.uuid, version.former)).unwrap_or_default();
        let config = Config::read(&root)?;
        Ok(Self::with(root, config, (uuid, former), ordering, is_accepted))
    }

    /// Opens a root to change it: makes the directories that are missing, checks that no one else can write them,
    /// and gives the store its version and uuid.
    ///
    /// # Errors
    /// `NoRoot`, `NotTrusted`, `LocksAreLocal`, `NewerFormat`, file system errors.
    pub fn open_to_change(root: &Path) -> Result<Self> {
        let root = settled(root)?;
        let file_system = fs::mount::file_system(&root)?;
        file_system.check_locks()?;
        let config = Config::read(&root)?;
        // Before anything is made.
        if config.shared_read {
            fs::readers::let_others_read();
        }
        make_directories(&root)?;
        let version = version::settle(&root)?;
        let is_accepted = version.accepted == version::Accepted::Yes;
        Ok(Self::with(root, config, (version.uuid, version.former), file_system.ordering, is_accepted))
    }

    fn with(
        root: PathBuf,
        config: Config,
        (uuid, former_uuids): (String, Vec<String>),
        ordering: Ordering,
        is_accepted: bool,
    ) -> Self {
        let owner = std::fs::symlink_metadata(&root).map_or_else(|_| fs::this_user(), |found| found.uid());
        Self {
            root,
            uuid,
            former_uuids,
            ordering,
            owner,
            is_accepted,
            looked_up: super::looked_up::LookedUp::default(),
            config,
            identity: Identity::of_this_process(),
        }
    }

    /// The same store, if it was made here or a person has accepted it.
    ///
    /// # Errors
    /// `NotAccepted`.
    pub fn accepted(self) -> Result<Self> {
        if self.is_accepted { Ok(self) } else { Err(StoreError::NotAccepted { path: self.root }) }
    }

    /// True if the root is still the one that was opened.
    ///
    /// # Errors
    /// A shortage of the system, which says nothing of the root.
    pub fn is_still_there(&self) -> Result<bool> {
        match version::read(&self.root) {
            Ok(version) => Ok(version.is_some_and(|version| version.uuid == self.uuid)),
            Err(error) if Shortage::behind(&error).is_some() => Err(error),
            Err(_) => Ok(false),
        }
    }
}

fn settled(root: &Path) -> Result<PathBuf> {
    let no_root = || StoreError::NoRoot { path: root.to_path_buf() };
    let unreadable = |error: &std::io::Error| match error.kind() {
        PermissionDenied => StoreError::NoReader { path: root.to_path_buf() },
        _ => no_root(),
    };
    let found = fs::canonical(root).map_err(|error| unreadable(&error.source))?;
    match std::fs::metadata(found.join("engine.toml")) {
        Ok(settings) if settings.is_file() => Ok(found),
        Ok(_) => Err(no_root()),
        Err(error) => Err(unreadable(&error)),
    }
}

/// Checks that only we can change a directory, and gives its device, which must be the given one.
pub(super) fn trust(path: &Path, device: Option<u64>) -> Result<u64> {
    let untrusted = |problem| StoreError::NotTrusted { path: path.to_path_buf(), problem };
    let metadata = std::fs::symlink_metadata(path).map_err(|source| fs::FsError {
        action: "looking at",
        path: path.to_path_buf(),
        source,
    })?;
    if metadata.is_symlink() {
        return Err(untrusted(Distrust::Link));
    }
    if !metadata.is_dir() {
        return Err(untrusted(Distrust::NoDirectory));
    }
    if !fs::is_own(&metadata) {
        return Err(untrusted(Distrust::OfAnotherUser));
    }
    if fs::writable_by_others(&metadata) {
        return Err(untrusted(Distrust::WritableByOthers));
    }
    if device.is_some_and(|device| device != metadata.dev()) {
        return Err(untrusted(Distrust::ElsewhereMounted));
    }
    Ok(metadata.dev())
}

/// What is wrong with the directories of a root, without changing any; a missing one is not: it is made when it is needed.
#[must_use]
pub(crate) fn problems(root: &Path) -> Vec<StoreError> {
    let device = trust(root, None).ok();
    let judged = DIRECTORIES.into_iter().map(|directory| {
        trust(&root.join(directory), device.filter(|_| directory.starts_with("jobs"))).map(drop)
    });
    let root_itself = std::iter::once(trust(root, None).map(drop));
    // Checked when a run is made: no other command changes anything there.
    let runs = std::iter::once(trust(&root.join("state/runs"), None).map(drop));
    let found = root_itself.chain(judged).chain(runs).filter_map(std::result::Result::err);
    let days = fs::names(&root.join("jobs/done")).unwrap_or_default();
    found.filter(|error| !error.is_not_found()).chain(problems_of_later(root, days)).collect()
}

/// What is wrong with the directories that are made when they are needed: a person or a clone can have put anything there.
fn problems_of_later(root: &Path, days: Vec<String>) -> impl Iterator<Item = StoreError> {
    let days = days.into_iter().map(|day| format!("jobs/done/{day}"));
    let links = days.chain(CACHES.map(str::to_owned)).filter_map(|name| not_a_link(&root.join(name)).err());
    let others = LATER.into_iter().filter_map(|name| trust(&root.join(name), None).err());
    others.filter(|error| !error.is_not_found()).chain(links)
}

fn not_a_link(path: &Path) -> Result<()> {
    match path.is_symlink() {
        true => Err(StoreError::NotTrusted { path: path.to_path_buf(), problem: Distrust::Link }),
        false => Ok(()),
    }
}

/// Says which format a root has; none where no command has changed it yet.
///
/// # Errors
/// `NewerFormat`, `Unreadable`, file system errors.
pub(crate) fn format_version(root: &Path) -> Result<Option<u64>> {
    Ok(version::read(root)?.map(|version| version.number))
}
