//! The root: where it is, how one is made, and whether it can be trusted.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::config::Config;
use super::{Identity, Result, Store, StoreError};
use crate::fs::{self, Moved, Ordering};

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

const ENGINE_TOML: &str = "# Settings of this engine root; all optional. See README.md, \"Settings\".\n";

/// Finds the nearest root at or above a directory: one that holds `engine.toml` or `.engine/engine.toml`.
#[must_use]
pub fn find(start: &Path) -> Option<PathBuf> {
    start.ancestors().find_map(|dir| {
        if dir.join("engine.toml").is_file() {
            return Some(dir.to_path_buf());
        }
        let hidden = dir.join(".engine");
        hidden.join("engine.toml").is_file().then_some(hidden)
    })
}

/// Says whether a root may be made in a directory without being asked to.
///
/// # Errors
/// `NoPlaceForRoot` for `/`, the home directory, and what others can write or own.
pub fn check_place(dir: &Path, home: Option<&Path>) -> Result<()> {
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
/// # Errors
/// `NotTrusted` for a directory that others can write or own, which is left as it is; file system errors.
pub fn create(root: &Path) -> Result<bool> {
    if let Ok(found) = fs::canonical(root) {
        trust(&found, None)?;
    }
    // Before anything is made where it would be of no use.
    if let Some(existing) = root.ancestors().find(|dir| dir.exists()) {
        fs::mount::file_system(existing)?.check_locks()?;
    }
    let mut missing: Vec<&Path> = root.ancestors().take_while(|dir| !dir.as_os_str().is_empty()).collect();
    missing.retain(|dir| !dir.exists());
    for dir in missing.into_iter().rev() {
        fs::create_dir(dir)?;
    }
    if root.file_name().is_some_and(|name| name == ".engine") {
        create_if_missing(&root.join(".gitignore"), b"/jobs/\n/state/\n")?;
    }
    create_if_missing(&root.join("engine.toml"), ENGINE_TOML.as_bytes())
}

/// Makes a file unless somebody has, or is faster; true if it was us.
fn create_if_missing(path: &Path, text: &[u8]) -> Result<bool> {
    if fs::exists(path)? {
        return Ok(false);
    }
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
        // Who only reads does not need it.
        let version = read_version(&root).ok().flatten();
        let ordering = fs::mount::file_system(&root)?.ordering;
        Self::with(root, version.map(|version| version.uuid).unwrap_or_default(), ordering)
    }

    /// Opens a root to change it: makes the directories that are missing, checks that nobody else can write them,
    /// and gives the store its version and uuid.
    ///
    /// # Errors
    /// `NoRoot`, `NotTrusted`, `LocksAreLocal`, `NewerFormat`, file system errors.
    pub fn open_to_change(root: &Path) -> Result<Self> {
        let root = settled(root)?;
        let file_system = fs::mount::file_system(&root)?;
        file_system.check_locks()?;
        let device = trust(&root, None)?;
        for directory in DIRECTORIES {
            let path = root.join(directory);
            // A rename from one directory of the queue to another must not leave its file system.
            match trust(&path, Some(device).filter(|_| directory.starts_with("jobs"))) {
                Err(StoreError::Fs(error)) if error.is_not_found() => drop(fs::create_dir(&path)?),
                other => drop(other?),
            }
        }
        // Whoever can write a manifest says what is run.
        match trust(&root.join("adapters"), None) {
            Err(StoreError::Fs(error)) if error.is_not_found() => {}
            other => drop(other?),
        }
        let uuid = match read_version(&root)? {
            Some(version) if version.number > 1 => {
                let path = root.join("state/VERSION");
                return Err(StoreError::NewerFormat { path, version: version.number });
            }
            Some(version) => version.uuid,
            None => publish_version(&root)?,
        };
        Self::with(root, uuid, file_system.ordering)
    }

    fn with(root: PathBuf, uuid: String, ordering: Ordering) -> Result<Self> {
        let config = Config::read(&root)?;
        Ok(Self { root, uuid, ordering, config, identity: Identity::of_this_process() })
    }
}

impl Store {
    /// True if the root is still the one that was opened.
    #[must_use]
    pub fn is_still_there(&self) -> bool {
        matches!(read_version(&self.root), Ok(Some(version)) if version.uuid == self.uuid)
    }
}

fn settled(root: &Path) -> Result<PathBuf> {
    let no_root = || StoreError::NoRoot { path: root.to_path_buf() };
    let root = fs::canonical(root).map_err(|_| no_root())?;
    if root.join("engine.toml").is_file() { Ok(root) } else { Err(no_root()) }
}

/// Checks that only we can change a directory, and gives its device, which must be the given one.
fn trust(path: &Path, device: Option<u64>) -> Result<u64> {
    let untrusted = |problem| StoreError::NotTrusted { path: path.to_path_buf(), problem };
    let metadata = std::fs::symlink_metadata(path).map_err(|source| fs::FsError {
        action: "looking at",
        path: path.to_path_buf(),
        source,
    })?;
    if !metadata.is_dir() {
        return Err(untrusted("is not a directory"));
    }
    if !fs::is_own(&metadata) {
        return Err(untrusted("belongs to another user"));
    }
    if fs::writable_by_others(&metadata) {
        return Err(untrusted("is writable by others"));
    }
    if device.is_some_and(|device| device != metadata.dev()) {
        return Err(untrusted("is on another file system than the root"));
    }
    Ok(metadata.dev())
}

/// What is wrong with the directories of a root, without changing any; a missing one is not: it is made when it is needed.
#[must_use]
pub fn problems(root: &Path) -> Vec<StoreError> {
    let device = trust(root, None).ok();
    let below = DIRECTORIES.into_iter().chain(["adapters"]);
    let wrong = |error: &StoreError| !matches!(error, StoreError::Fs(error) if error.is_not_found());
    let judged = below.map(|directory| {
        trust(&root.join(directory), device.filter(|_| directory.starts_with("jobs"))).map(drop)
    });
    let root_itself = std::iter::once(trust(root, None).map(drop));
    root_itself.chain(judged).filter_map(std::result::Result::err).filter(wrong).collect()
}

/// Says which format a root has; none where no command has changed it yet.
///
/// # Errors
/// `NewerFormat`, `Unreadable`, file system errors.
pub fn version(root: &Path) -> Result<Option<u64>> {
    match read_version(root)?.map(|version| version.number) {
        Some(version) if version > 1 => {
            Err(StoreError::NewerFormat { path: root.join("state/VERSION"), version })
        }
        other => Ok(other),
    }
}

struct Version {
    number: u64,
    uuid: String,
}

fn read_version(root: &Path) -> Result<Option<Version>> {
    let path = root.join("state/VERSION");
    let unreadable =
        || StoreError::Unreadable { path: path.clone(), problem: "not a version file".to_owned() };
    let file = match fs::open_regular(&path) {
        Ok(file) => file,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let bytes = fs::read_limited(&file, &path, 4096)?.ok_or_else(unreadable)?;
    let value: Value = serde_json::from_slice(&bytes).map_err(|_| unreadable())?;
    let number = value.get("schema_version").and_then(Value::as_u64).ok_or_else(unreadable)?;
    let uuid = value.get("store").and_then(Value::as_str).unwrap_or_default().to_owned();
    if uuid.is_empty() && number <= 1 {
        return Err(unreadable());
    }
    Ok(Some(Version { number, uuid }))
}

/// Makes `state/VERSION`, the last thing that makes a root; of two makers the loser reads the winner's.
fn publish_version(root: &Path) -> Result<String> {
    let uuid = uuid::Uuid::now_v7().to_string();
    let mut text = json!({ "schema_version": 1, "store": uuid }).to_string();
    text.push('\n');
    let path = root.join("state/VERSION");
    let temporary = root.join(format!("state/.engine-{uuid}.tmp"));
    let file = fs::create_new(&temporary, text.as_bytes())?;
    fs::sync_data(&file, &temporary)?;
    if fs::publish(&temporary, &path)? == Moved::Done {
        fs::sync_dir(&root.join("state"))?;
        return Ok(uuid);
    }
    Ok(read_version(root)?.map(|version| version.uuid).unwrap_or_default())
}
