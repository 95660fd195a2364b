//! The directory of a run: `state/runs/<run>/` with `run.json` (the manifest) and `jobs.jsonl` (its job files).
//!
//! Responsible for these files and for the order in which they are written. Not responsible for the jobs that are submitted
//! from them. Hard rules: a run exists if and only if it has `run.json`, which is never changed; a directory changes only
//! under its lock. What a crash leaves, line by line:
//!
//! ```text
//! make the directory, lock it       a directory without run.json: the same id takes it over
//! write jobs.jsonl, sync            the same
//! name run.json                     the run, or the same
//! sync the directories              the run
//! ```

use std::fs::File;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Result, Store, StoreError, json_line, root};
use crate::clock::Timestamp;
use crate::fs::{self, Moved};
use crate::job::digest::sha256;
use crate::job::{RunId, RunManifest, SCHEMA_VERSION};
use crate::lock::{self, Locked};

const DIR: &str = "runs";
const MANIFEST: &str = "run.json";
const JOBS: &str = "jobs.jsonl";
const QUARANTINE: &str = "quarantine.json";
/// The mark of a merge that was ended in the middle (`worktree`).
const MERGE: &str = "merge.json";

/// A larger file is none of ours.
const LARGEST: u64 = 256 << 20;

/// The right to change the directory of a run, until it is dropped.
#[derive(Debug)]
pub(crate) struct RunDir {
    path: PathBuf,
    _lock: Locked,
}

/// What became of an attempt to make a run.
#[derive(Debug)]
pub(crate) enum Created {
    /// The directory is ours and has no manifest.
    Ours(RunDir, Remnant),
    /// There is a run of this name.
    Taken,
    /// Another process is making or removing one.
    Busy,
}

/// What is there of a run of that name that was begun in this root and never made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remnant {
    /// Nothing.
    None,
    /// Its directory, and perhaps the reference of its base.
    Unfinished,
}

/// A person's word that nothing of a run may be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Quarantine {
    /// Why.
    pub reason: String,
    /// When it was said.
    pub at: Timestamp,
    /// When a person took it back. The run counts as failed until it is resumed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged_at: Option<Timestamp>,
}

/// The runs of a root.
#[derive(Debug, Default)]
pub(crate) struct Listed {
    /// Their manifests, the newest first.
    pub runs: Vec<RunManifest>,
    /// Directories without a manifest, which a crash left or another process is making, sorted.
    pub unfinished: Vec<RunId>,
    /// Runs whose manifest cannot be read.
    pub unreadable: Vec<(RunId, StoreError)>,
    /// Other entries beside them.
    pub foreign: Vec<String>,
}

/// The directory of all runs; made with the first.
#[must_use]
pub(crate) fn all(store: &Store) -> PathBuf {
    store.state(DIR)
}

/// The directory of a run.
#[must_use]
pub(crate) fn path(store: &Store, run: &RunId) -> PathBuf {
    all(store).join(run.as_str())
}

/// Makes the directory of a run, or takes over one without a manifest, and locks it.
///
/// # Errors
/// `NotTrusted`, file system and lock errors.
pub(crate) fn create(store: &Store, run: &RunId) -> Result<Created> {
    let path = path(store, run);
    fs::create_dir(&all(store))?;
    let left = if fs::create_dir(&path)? { Remnant::None } else { Remnant::Unfinished };
    root::trust(&all(store), None)?;
    root::trust(&path, None)?;
    let Some(dir) = lock(path)? else { return Ok(Created::Busy) };
    match fs::exists(&dir.path.join(MANIFEST))? {
        true => Ok(Created::Taken),
        false => Ok(Created::Ours(dir, left)),
    }
}

/// Whether a run of that name was begun.
///
/// # Errors
/// File system errors.
pub(crate) fn remnant(store: &Store, run: &RunId) -> Result<Remnant> {
    Ok(if fs::exists(&path(store, run))? { Remnant::Unfinished } else { Remnant::None })
}

/// Locks the directory of a run, whether it has a manifest or not; none if it is missing or another process has it.
///
/// # Errors
/// File system and lock errors.
pub(crate) fn take(store: &Store, run: &RunId) -> Result<Option<RunDir>> {
    lock(path(store, run))
}

/// True if a process holds the directory of a run, as far as the kernel reports it; only for messages.
#[must_use]
pub(crate) fn is_in_work(store: &Store, run: &RunId) -> bool {
    lock::is_held(&path(store, run))
}

fn lock(path: PathBuf) -> Result<Option<RunDir>> {
    let dir = match fs::open_dir(&path) {
        Ok(dir) => dir,
        // Another process has removed it since.
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let Some(lock) = Locked::exclusive(dir, &path)? else { return Ok(None) };
    // [RECHECK] Its last holder may have removed it.
    let is_there = fs::is_same_file(&lock, &path)?;
    Ok(is_there.then(|| RunDir { path, _lock: lock }))
}

impl RunDir {
    /// Writes the job files of the run, durable, and gives the digest that the manifest names.
    ///
    /// # Errors
    /// File system errors; what was there before remains.
    pub(crate) fn write_jobs(&self, store: &Store, jobs: &[Value]) -> Result<String> {
        let path = self.path.join(JOBS);
        let mut text = Vec::new();
        for job in jobs {
            text.extend(json_line(&path, job)?);
        }
        self.finish(store, &text, &|temporary| Ok(fs::rename_replace(temporary, &path)?))?;
        Ok(sha256(&text))
    }

    /// Names the manifest: when this returns, the run exists, and a power loss does not end it. Comes after `write_jobs`.
    ///
    /// # Errors
    /// File system errors. After one it is open whether the run exists: look with `read_manifest`.
    pub(crate) fn publish_manifest(&self, store: &Store, manifest: &RunManifest) -> Result<()> {
        let path = self.path.join(MANIFEST);
        let text = json_line(&path, manifest)?;
        self.finish(store, &text, &|temporary| match fs::rename_noreplace(temporary, &path)? {
            Moved::Done => Ok(()),
            Moved::TargetExists | Moved::SourceMissing => {
                let problem = "it was made by a process without the lock of its directory".to_owned();
                Err(StoreError::Unreadable { path: path.clone(), problem })
            }
        })?;
        store.sync_dir(&all(store))?;
        store.sync_dir(&store.state(""))
    }

    /// Writes a person's word that nothing of the run may be used, or that this was looked at; durable.
    ///
    /// # Errors
    /// File system errors; what was said before remains.
    pub(crate) fn write_quarantine(&self, store: &Store, quarantine: &Quarantine) -> Result<()> {
        let path = self.path.join(QUARANTINE);
        let text = json_line(&path, quarantine)?;
        self.finish(store, &text, &|temporary| Ok(fs::rename_replace(temporary, &path)?))
    }

    /// Forgets that word, as a run that goes on is judged anew.
    ///
    /// # Errors
    /// File system errors.
    pub(crate) fn remove_quarantine(&self, store: &Store) -> Result<()> {
        match fs::remove(&self.path.join(QUARANTINE))? {
            true => store.sync_dir(&self.path),
            false => Ok(()),
        }
    }

    /// Writes a file under a temporary name, syncs it, gives it its name, and syncs that.
    fn finish(&self, store: &Store, text: &[u8], give_name: &dyn Fn(&Path) -> Result<()>) -> Result<()> {
        let temporary = fs::temporary_in(&self.path);
        let written = fs::create_new(&temporary, text).map_err(StoreError::from).and_then(|file| {
            store.sync_data(&file, &temporary)?;
            give_name(&temporary)
        });
        if written.is_err() {
            let _ = fs::remove(&temporary);
        }
        written?;
        store.sync_dir(&self.path)
    }

    /// Removes the run: first its manifest, then the rest. What else is in the directory stays, and so does the directory
    /// then; true if it is gone.
    ///
    /// # Errors
    /// File system errors; a run without a manifest is removed by the next call.
    pub(crate) fn remove(self) -> Result<bool> {
        let names = fs::names(&self.path)?;
        let temporary = names.iter().map(String::as_str).filter(|name| fs::is_temporary(name));
        for name in [MANIFEST, QUARANTINE, MERGE, JOBS].into_iter().chain(temporary) {
            fs::remove(&self.path.join(name))?;
        }
        Ok(fs::remove_empty_dir(&self.path)?)
    }
}

/// The manifest of a run; none if there is no such run.
///
/// # Errors
/// File system errors, `NewerFormat`, `Unreadable`.
pub(crate) fn read_manifest(store: &Store, run: &RunId) -> Result<Option<RunManifest>> {
    let path = path(store, run).join(MANIFEST);
    let Some(bytes) = read(&path)? else { return Ok(None) };
    let unreadable = |problem: String| StoreError::Unreadable { path: path.clone(), problem };
    #[derive(Deserialize)]
    struct Version {
        #[serde(default)]
        schema_version: u64,
    }
    // Not by way of a document: one of a thousand workstreams is read by each of them.
    let version = serde_json::from_slice::<Version>(&bytes).map_err(|error| unreadable(error.to_string()))?;
    if version.schema_version > u64::from(SCHEMA_VERSION) {
        return Err(StoreError::NewerFormat { path, version: version.schema_version });
    }
    let manifest: RunManifest =
        serde_json::from_slice(&bytes).map_err(|error| unreadable(error.to_string()))?;
    if manifest.run_id != *run {
        return Err(unreadable(format!("it is not the manifest of `{run}`")));
    }
    Ok(Some(manifest))
}

/// The job files of a run as they are submitted.
///
/// # Errors
/// File system errors; `Unreadable` where they are not those that the manifest names.
pub(crate) fn read_jobs(store: &Store, manifest: &RunManifest) -> Result<Vec<Value>> {
    let path = path(store, &manifest.run_id).join(JOBS);
    let unreadable = |problem: String| StoreError::Unreadable { path: path.clone(), problem };
    let bytes = read(&path)?.ok_or_else(|| unreadable("it is missing".to_owned()))?;
    if sha256(&bytes) != manifest.jobs_sha256 {
        return Err(unreadable("it was changed since the run was made".to_owned()));
    }
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).map_err(|error| unreadable(error.to_string()))).collect()
}

/// A person's word that nothing of the run may be used, if there is one.
///
/// # Errors
/// File system errors, `Unreadable`.
pub(crate) fn quarantine(store: &Store, run: &RunId) -> Result<Option<Quarantine>> {
    let path = path(store, run).join(QUARANTINE);
    let Some(bytes) = read(&path)? else { return Ok(None) };
    let unreadable =
        |error: serde_json::Error| StoreError::Unreadable { path: path.clone(), problem: error.to_string() };
    serde_json::from_slice(&bytes).map(Some).map_err(unreadable)
}

fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    let file: File = match fs::open_regular(path) {
        Ok(file) => file,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let too_large =
        || StoreError::Unreadable { path: path.to_path_buf(), problem: "it is too large".to_owned() };
    Ok(Some(fs::read_limited(&file, path, LARGEST)?.ok_or_else(too_large)?))
}

/// The runs of a root. What cannot be read is part of the answer.
///
/// # Errors
/// File system errors of the directory of all runs.
pub(crate) fn list(store: &Store) -> Result<Listed> {
    let mut listed = Listed::default();
    for name in fs::names(&all(store))? {
        let run = match RunId::new(&name) {
            Ok(run) if path(store, &run).is_dir() => run,
            _ => {
                listed.foreign.push(name);
                continue;
            }
        };
        match read_manifest(store, &run) {
            Ok(Some(manifest)) => listed.runs.push(manifest),
            Ok(None) => listed.unfinished.push(run),
            Err(error) => listed.unreadable.push((run, error)),
        }
    }
    listed.runs.sort_by(|one, other| {
        other.created_at.cmp(&one.created_at).then_with(|| other.run_id.cmp(&one.run_id))
    });
    listed.unfinished.sort();
    listed.unreadable.sort_by(|one, other| one.0.cmp(&other.0));
    listed.foreign.sort();
    Ok(listed)
}

/// The newest run.
///
/// # Errors
/// As `list`.
pub(crate) fn last(store: &Store) -> Result<Option<RunManifest>> {
    Ok(list(store)?.runs.into_iter().next())
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use crate::job::run::{Base, BundleRef, Ordered, Origin};

    /// The manifest of a run of these workstreams.
    pub(crate) fn manifest(run: &RunId, created_at: Timestamp, workstreams: &[&str]) -> RunManifest {
        let bundle = |ws: &&str| BundleRef { ws_id: (*ws).to_owned(), file: None, sha256: "0".repeat(64) };
        let ordered = |ws: &&str| Ordered { ws_id: (*ws).to_owned(), ..Ordered::default() };
        RunManifest {
            schema_version: SCHEMA_VERSION,
            run_id: run.clone(),
            created_at,
            engine_version: "0.0.0".to_owned(),
            repo: "/repo".to_owned(),
            base: Base { reference: Some("refs/heads/main".to_owned()), commit: "b".repeat(40) },
            origin: Origin { trigger_type: "manual".to_owned(), command: vec!["engine".to_owned()] },
            options: serde_json::Map::new(),
            bundles: workstreams.iter().map(bundle).collect(),
            jobs_sha256: String::new(),
            order: workstreams.iter().map(ordered).collect(),
        }
    }

    /// Makes a run of these job files.
    pub(crate) fn make(store: &Store, mut manifest: RunManifest, jobs: &[Value]) -> RunManifest {
        let Created::Ours(dir, _) = create(store, &manifest.run_id).unwrap() else { panic!("taken") };
        manifest.jobs_sha256 = dir.write_jobs(store, jobs).unwrap();
        dir.publish_manifest(store, &manifest).unwrap();
        manifest
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{make, manifest};
    use super::*;
    use crate::store::testing;
    use serde_json::json;

    fn run(text: &str) -> RunId {
        RunId::new(text).unwrap()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_millis(1_800_000_000_000 + second * 1000)
    }

    #[test]
    fn a_run_is_there_with_its_manifest_and_its_name_is_taken_from_then_on() {
        let (_dir, store) = testing::store();
        let jobs = [json!({"job_id": "a.ws-1"}), json!({"job_id": "a.ws-2", "metadata": {"x": "\n"}})];
        let made = make(&store, manifest(&run("a"), at(0), &["ws-1"]), &jobs);
        assert_eq!(read_manifest(&store, &run("a")).unwrap().as_ref(), Some(&made));
        assert_eq!(read_jobs(&store, &made).unwrap(), jobs);
        assert!(matches!(create(&store, &run("a")).unwrap(), Created::Taken));
        assert!(read_manifest(&store, &run("b")).unwrap().is_none());
    }

    #[test]
    fn what_a_crash_left_before_the_manifest_is_taken_over_and_only_while_no_other_process_has_it() {
        let (_dir, store) = testing::store();
        let Created::Ours(first, _) = create(&store, &run("a")).unwrap() else { panic!() };
        first.write_jobs(&store, &[json!({"job_id": "old"})]).unwrap();
        assert!(matches!(create(&store, &run("a")).unwrap(), Created::Busy));
        assert_eq!(list(&store).unwrap().unfinished, [run("a")]);
        drop(first);
        let made = make(&store, manifest(&run("a"), at(0), &[]), &[json!({"job_id": "new"})]);
        assert_eq!(read_jobs(&store, &made).unwrap(), [json!({"job_id": "new"})]);
    }

    #[test]
    fn job_files_that_were_changed_since_are_not_used() {
        let (_dir, store) = testing::store();
        let made = make(&store, manifest(&run("a"), at(0), &[]), &[json!({"job_id": "a.b"})]);
        let jobs = path(&store, &run("a")).join(JOBS);
        for content in [&b"{\"job_id\":\"c\"}\n"[..], b""] {
            fs::replace(&jobs, content).unwrap();
            assert!(matches!(read_jobs(&store, &made), Err(StoreError::Unreadable { .. })));
        }
        fs::remove(&jobs).unwrap();
        assert!(matches!(read_jobs(&store, &made), Err(StoreError::Unreadable { .. })));
    }

    #[test]
    fn the_newest_run_comes_first_and_what_is_no_run_is_told_apart() {
        let (_dir, store) = testing::store();
        for (name, second) in [("old", 1), ("newest", 3), ("b", 2), ("a", 2)] {
            make(&store, manifest(&run(name), at(second), &[]), &[]);
        }
        drop(create(&store, &run("half")).unwrap());
        fs::create_dir(&all(&store).join("no.run")).unwrap();
        make(&store, manifest(&run("torn"), at(9), &[]), &[]);
        fs::replace(&path(&store, &run("torn")).join(MANIFEST), b"{\"schema_version\": 1").unwrap();
        make(&store, manifest(&run("other"), at(9), &[]), &[]);
        fs::rename_replace(
            &path(&store, &run("other")).join(MANIFEST),
            &path(&store, &run("half")).join("x"),
        )
        .unwrap();
        let listed = list(&store).unwrap();
        let names: Vec<&str> = listed.runs.iter().map(|made| made.run_id.as_str()).collect();
        assert_eq!(names, ["newest", "b", "a", "old"]);
        assert_eq!(listed.unfinished, [run("half"), run("other")]);
        assert_eq!(listed.unreadable.iter().map(|(run, _)| run.clone()).collect::<Vec<_>>(), [run("torn")]);
        assert_eq!(listed.foreign, ["no.run"]);
        assert_eq!(last(&store).unwrap().unwrap().run_id, run("newest"));
    }

    #[test]
    fn a_removed_run_leaves_its_name_free_and_nothing_foreign_is_removed() {
        let (_dir, store) = testing::store();
        make(&store, manifest(&run("a"), at(0), &[]), &[]);
        let foreign = path(&store, &run("a")).join("notes.txt");
        fs::create_new(&foreign, b"x").unwrap();
        assert!(!take(&store, &run("a")).unwrap().unwrap().remove().unwrap());
        assert!(read_manifest(&store, &run("a")).unwrap().is_none() && foreign.exists());
        fs::remove(&foreign).unwrap();
        assert!(take(&store, &run("a")).unwrap().unwrap().remove().unwrap());
        assert!(take(&store, &run("a")).unwrap().is_none());
        assert!(list(&store).unwrap().unfinished.is_empty());
    }

    #[test]
    fn a_person_may_say_that_nothing_of_a_run_may_be_used() {
        let (_dir, store) = testing::store();
        make(&store, manifest(&run("a"), at(0), &[]), &[]);
        assert_eq!(quarantine(&store, &run("a")).unwrap(), None);
        let said = Quarantine { reason: "wrong base".to_owned(), at: at(1), acknowledged_at: None };
        let dir = take(&store, &run("a")).unwrap().unwrap();
        dir.write_quarantine(&store, &said).unwrap();
        assert_eq!(quarantine(&store, &run("a")).unwrap(), Some(said.clone()));
        let acknowledged = Quarantine { acknowledged_at: Some(at(2)), ..said };
        dir.write_quarantine(&store, &acknowledged).unwrap();
        assert_eq!(quarantine(&store, &run("a")).unwrap(), Some(acknowledged));
        dir.remove_quarantine(&store).unwrap();
        dir.remove_quarantine(&store).unwrap();
        assert_eq!(quarantine(&store, &run("a")).unwrap(), None);
    }
}
