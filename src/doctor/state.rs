//! Checks the files below `state/`: version, permissions, journal, archive, runs, locks, cache.
//!
//! Reads only and locks nothing, so files may change meanwhile: an apparent problem is checked a second time. `records`
//! checks the records and the job files.

use std::collections::BTreeSet;

use crate::causes::causes;
use crate::doctor::finding::{Finding, Verdict};
use crate::fs;
use crate::job::{JobId, RunId};
use crate::lock;
use crate::store::archive::{self, End};
use crate::store::{Record, Result, Store, journal, root, run_dir};
use crate::view::runner::{self, Runner};

/// Checks everything below `state/` but the records. `ids` are the recorded ones.
#[must_use]
pub(crate) fn of_store(store: &Store, ids: &BTreeSet<JobId>) -> Vec<Finding> {
    let answer = |check, found: Result<Finding>| {
        found.unwrap_or_else(|error| Finding::fail(check, causes(&error), "the check could not run"))
    };
    vec![
        version(store),
        accepted(store),
        permissions(store),
        answer("journal", gaps(store, ids)),
        answer("archive", archives(store)),
        answer("runs", runs(store)),
        answer("locks", locks(store)),
        cache(store),
    ]
}

fn version(store: &Store) -> Finding {
    let meaning = "an engine never writes into a root of a newer format";
    match root::format_version(store.root()) {
        Ok(Some(number)) => Finding::ok("version", format!("format {number}"), meaning),
        Ok(None) => Finding::ok("version", "none yet: no command has changed this root", meaning),
        Err(error) => {
            let advice = error.hint().unwrap_or_else(|| "restore state/VERSION from a backup".to_owned());
            let meaning = "changing commands stop with 125; reading commands continue as far as possible";
            Finding::fail("version", causes(&error), meaning).remedy(advice)
        }
    }
}

fn accepted(store: &Store) -> Finding {
    let meaning =
        "a root that was cloned, copied or restored runs nothing of its own before a person accepts it";
    match store.not_accepted() {
        None => Finding::ok("accepted", "yes".to_owned(), meaning),
        Some(error) => {
            Finding::warn("accepted", "no".to_owned(), meaning).remedy(error.hint().unwrap_or_default())
        }
    }
}

fn permissions(store: &Store) -> Finding {
    if store.owner() != fs::this_user() {
        let found = format!("the root belongs to another user (uid {}): read-only for you", store.owner());
        let meaning = "only its owner changes it and runs its jobs; the checks below cover what you can read";
        return Finding::ok("permissions", found, meaning);
    }
    let wrong: Vec<String> = root::problems(store.root()).iter().map(|error| causes(error)).collect();
    let meaning = "a user that can write a job file or a manifest can run commands as you: changing commands stop with 125";
    let found = Finding::none_of(
        "permissions",
        "directories that other users can write",
        wrong,
        Verdict::Fail,
        meaning,
    );
    let bad = found.verdict == Verdict::Fail;
    if bad {
        found.remedy("chmod go-w DIR, or chown it; `jobs/` and its folders on one file system")
    } else {
        found
    }
}

/// True for the last line of a record that another process has open.
fn is_being_written(store: &Store, id: &JobId, seq: u64) -> bool {
    let is_last = |record: Record| record.line.seq == seq;
    store.read_record(id).ok().flatten().is_some_and(is_last)
        && runner::is_open_elsewhere(&store.record_path(id))
}

/// Lines of records that the journal lacks. A line that is just being written is there when it is looked for again, or its
/// writer, which syncs it first, has the record open.
fn gaps(store: &Store, ids: &BTreeSet<JobId>) -> Result<Finding> {
    let look = |ids: &BTreeSet<JobId>| -> Result<BTreeSet<(JobId, u64)>> {
        let mut missing = BTreeSet::new();
        journal::each_gap(store, ids, &mut |record| {
            missing.insert((record.line.job_id.clone(), record.line.seq));
            Ok(())
        })?;
        Ok(missing)
    };
    let mut missing = look(ids)?;
    if !missing.is_empty() {
        let again = look(&missing.iter().map(|(id, _)| id.clone()).collect())?;
        missing.retain(|gap| again.contains(gap));
        missing.retain(|(id, seq)| !is_being_written(store, id, *seq));
    }
    let items = missing.into_iter().map(|(id, seq)| format!("{id} line {seq}")).collect();
    let meaning = "followers and lists do not see these lines; the records are complete";
    let found =
        Finding::none_of("journal", "record lines that the journal lacks", items, Verdict::Warn, meaning);
    Ok(if found.items.is_empty() { found } else { found.remedy("engine recover") })
}

fn archives(store: &Store) -> Result<Finding> {
    let mut torn = Vec::new();
    let mut damaged = Vec::new();
    let all = archive::health(store)?;
    for file in &all {
        let name = file.path.display();
        match file.end {
            End::Clean(_) => {}
            End::Torn(at) => torn.push(format!("{name}: torn from byte {at} on")),
            End::Foreign(at) => damaged.push(format!("{name}: not ours from byte {at} on")),
        }
        damaged.extend(file.damaged.iter().map(|at| format!("{name}: damaged at byte {at}")));
    }
    if !damaged.is_empty() {
        let meaning = "retired records there cannot be read, and no record can follow a foreign end";
        return Ok(Finding::fail("archive", format!("{} damaged places", damaged.len()), meaning)
            .items(damaged)
            .remedy("restore the file from a backup, or move it aside"));
    }
    let meaning = "retired records can be read; the torn record still exists outside the archive";
    if torn.is_empty() {
        return Ok(Finding::ok("archive", format!("{} files", all.len()), meaning));
    }
    Ok(Finding::warn("archive", "a torn end", meaning).items(torn).remedy("the next `engine gc` cuts it"))
}

/// Directories of runs without a readable manifest, and other things beside them. One that is being made has a lock.
fn runs(store: &Store) -> Result<Finding> {
    let listed = run_dir::list(store)?;
    let is_held = |run: &RunId| lock::is_held(&run_dir::path(store, run));
    let unfinished = listed.unfinished.iter().filter(|run| !is_held(run));
    let unfinished = unfinished.map(|run| format!("{run}: has no manifest: engine runs clean {run}"));
    let unreadable = listed.unreadable.iter().map(|(run, error)| format!("{run}: {}", causes(error)));
    let foreign = listed.foreign.iter().map(|name| format!("{}: is no run", name.escape_debug()));
    let items: Vec<String> = unfinished.chain(unreadable).chain(foreign).collect();
    let meaning = "a run without its manifest was never made; the records of its jobs are complete";
    let found =
        Finding::none_of("runs", "entries of state/runs that are no runs", items, Verdict::Warn, meaning);
    Ok(if found.items.is_empty() {
        Finding { found: format!("{} runs", listed.runs.len()), ..found }
    } else {
        found
    })
}

/// Named locks that a dead holder did not empty, and other things in their place.
fn locks(store: &Store) -> Result<Finding> {
    let dir = store.state("locks");
    let mut left = Vec::new();
    for name in fs::names(&dir)? {
        let path = dir.join(&name);
        let file = match fs::open_regular(&path) {
            Ok(file) => file,
            Err(error) => {
                left.push(format!("{name}: cannot be taken: {}", causes(&error)));
                continue;
            }
        };
        let bytes = fs::read_limited(&file, &path, 4096)?.unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let Some(id) = text.split_whitespace().next().and_then(|word| JobId::new(word).ok()) else {
            continue;
        };
        let record = store.read_record(&id);
        let open =
            record.as_ref().ok().and_then(Option::as_ref).and_then(|record| record.line.open_attempt());
        let may_run = open.is_some_and(|attempt| runner::probe(store, &id, attempt) != Runner::Gone);
        if !may_run && !runner::is_open_elsewhere(&path) {
            let why = if record.is_ok() { "does not run" } else { "has a record that cannot be read" };
            left.push(format!("{name}: held by {id}, which {why}"));
        }
    }
    let meaning = "the next user of the lock first recovers its former holder, and waits while that is not possible; \
                   if something else is in place of the lock file, jobs wait until you remove it";
    let what = "named locks that were not released or cannot be taken";
    Ok(Finding::none_of("locks", what, left, Verdict::Warn, meaning))
}

fn cache(store: &Store) -> Finding {
    let path = store.state("cache").join("counts.json");
    let meaning = "a cache decides nothing and is rebuilt if missing";
    let read = fs::open_regular(&path).and_then(|file| fs::read_limited(&file, &path, 1 << 20));
    match read {
        Err(error) if error.is_not_found() => Finding::ok("cache", "none", meaning),
        Ok(Some(bytes)) if serde_json::from_slice::<serde_json::Value>(&bytes).is_ok() => {
            Finding::ok("cache", "readable", meaning)
        }
        _ => Finding::warn("cache", "cannot be read", meaning).remedy(format!("rm {}", path.display())),
    }
}
