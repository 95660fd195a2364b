//! Lists what recovery would do to records and job files, and what only a person can do: recovery in a dry run, without a lease.
//!
//! Reads only, but for `repair`. A job may move while it is looked at: what looks wrong is looked at again, and counts only
//! if its record is still the same. Hard rule: these answers are only shown to people; nothing else is decided from them.

use std::collections::BTreeSet;

use crate::causes::causes;
use crate::clock::{Clock, Timestamp};
use crate::doctor::files::{self, Listing, advised};
use crate::doctor::finding::{Finding, Verdict};
use crate::doctor::state;
use crate::doctor::{file_system, trials};
use crate::fs::{self, Create};
use crate::job::{JobId, Place, RecordLine, Status};
use crate::queue::Result;
use crate::queue::places::{self, ActiveFiles};
use crate::queue::situation::Situation;
use crate::store::{Acquire, Lease, Store, StoreError, archive};
use crate::view::runner::{self, Runner};

/// The task of recovery or a person for a job.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Trouble {
    /// Its attempt is open and no process runs it; where its files are, if at several places.
    Abandoned(Vec<Place>),
    /// Its attempt was started where it cannot be judged from here.
    Elsewhere(String),
    /// It has files where the record has none; where its files are.
    Misplaced(Vec<Place>),
    /// It is to run, and has no job file.
    NoFile,
    /// Files where only recorded jobs are, and no record.
    NoRecord(Vec<Place>),
    /// It waits as a part of this job, of which there is no record.
    NoParent(JobId),
    /// Its file was taken out of the queue before it ever ran; where it is.
    Withdrawn(Vec<Place>),
}

impl Trouble {
    fn describe(&self, id: &JobId) -> String {
        match self {
            Self::Abandoned(places) if places.len() > 1 => {
                format!("{id}: its runner is gone, and it has files in {}", listed(places))
            }
            Self::Abandoned(_) => format!("{id}: its runner is gone"),
            Self::Elsewhere(host) => format!("{id}: runs, or ran, on {host} or in another container"),
            Self::Misplaced(places) if places.len() > 1 => {
                format!("{id}: has files in {}", listed(places))
            }
            Self::Misplaced(places) => {
                let place = places.first().unwrap_or(&Place::Queued);
                format!("{id}: its file is in jobs/{place}, its record says otherwise")
            }
            Self::NoFile => format!("{id}: waits for its next attempt, but its job file is missing"),
            Self::NoParent(parent) => format!("{id}: is a part of `{parent}`, of which there is no record"),
            Self::NoRecord(places) if places.len() > 1 => {
                format!("{id}: files in {} without a record", listed(places))
            }
            Self::NoRecord(places) => format!("{id}: a file in {} without a record", listed(places)),
            Self::Withdrawn(places) => {
                format!("{id}: was accepted and not run, and its file was moved to {}", listed(places))
            }
        }
    }
}

fn listed(places: &[Place]) -> String {
    places.iter().map(|place| format!("jobs/{place}")).collect::<Vec<_>>().join(" and ")
}

/// Checks the queue and the store.
pub(crate) fn all(store: &Store, clock: &dyn Clock) -> Result<Vec<Finding>> {
    let now = clock.now();
    let listing = Listing::take(store)?;
    let ids: BTreeSet<JobId> = store.recorded_ids()?.into_iter().collect();
    let mut seen = Records::default();
    for id in listing.files.keys().chain(&ids).collect::<BTreeSet<_>>() {
        seen.look(store, id, listing.files.get(id).map(Vec::as_slice).unwrap_or_default());
    }
    let mut findings = state::of_store(store, &ids);
    findings.extend(files::findings(store, &listing, &ids, now)?);
    findings.extend(seen.findings(now));
    Ok(findings)
}

/// The findings about the records.
#[derive(Debug, Default)]
struct Records {
    troubles: Vec<(JobId, Trouble)>,
    unreadable: Vec<String>,
    newer: Vec<String>,
    latest: Option<Timestamp>,
}

impl Records {
    fn look(&mut self, store: &Store, id: &JobId, places: &[Place]) {
        let line = match read(store, id) {
            Ok(line) => line,
            Err(error @ StoreError::NewerFormat { .. }) => return self.newer.push(causes(&error)),
            Err(error) => return self.unreadable.push(causes(&error)),
        };
        self.latest = self.latest.max(line.as_ref().map(|line| line.at));
        if judge(store, id, line.as_ref(), places).is_none() {
            return;
        }
        // Again: where its files are now, and whether the record stayed the same meanwhile.
        let candidates: BTreeSet<Place> = places
            .iter()
            .cloned()
            .chain(line.iter().map(|line| line.place.clone()))
            .chain([Place::Queued, Place::Running, Place::Quarantined])
            .collect();
        let Ok(before) = read(store, id) else { return };
        let there = |place: &Place| places::is_at(store, id, place).unwrap_or(false);
        let now: Vec<Place> = candidates.into_iter().filter(there).collect();
        let trouble = judge(store, id, before.as_ref(), &now);
        // The process that has it open is about to move the file.
        let same = !runner::is_open_elsewhere(&store.record_path(id))
            && read(store, id).is_ok_and(|after| seq(after.as_ref()) == seq(before.as_ref()));
        self.troubles.extend(trouble.filter(|_| same).map(|trouble| (id.clone(), trouble)));
    }

    fn findings(self, now: Timestamp) -> Vec<Finding> {
        let of = |wanted: fn(&Trouble) -> bool| -> Vec<String> {
            self.troubles.iter().filter(|(_, t)| wanted(t)).map(|(id, t)| t.describe(id)).collect()
        };
        let recover = "engine doctor --repair, or engine recover";
        let to_recover = of(|t| matches!(t, Trouble::Abandoned(_) | Trouble::Misplaced(_) | Trouble::NoFile));
        let mut found = vec![
            advised(
                Finding::none_of(
                    "jobs",
                    "jobs that a crash left unfinished",
                    to_recover,
                    Verdict::Fail,
                    "nothing is lost: recovery moves the files to where the records say",
                ),
                recover,
            ),
            advised(
                Finding::none_of(
                    "elsewhere",
                    "jobs that this machine cannot judge",
                    of(|t| matches!(t, Trouble::Elsewhere(_))),
                    Verdict::Warn,
                    "no machine declares the jobs of another one lost",
                ),
                "if that machine is dead: engine recover --host-is-dead HOST",
            ),
            advised(
                Finding::none_of(
                    "ended_files",
                    "job files out of the queue that were never run",
                    of(|t| matches!(t, Trouble::NoRecord(_) | Trouble::Withdrawn(_))),
                    Verdict::Warn,
                    "they are neither listed nor run",
                ),
                "move it to jobs/queued to run it, or remove it",
            ),
        ];
        found.push(advised(
            Finding::none_of(
                "parents",
                "waiting jobs whose parent is gone",
                of(|t| matches!(t, Trouble::NoParent(_))),
                Verdict::Warn,
                "a job with a `parent` is started by the tool of that one only",
            ),
            "engine cancel ID",
        ));
        found.extend(self.lines(now));
        found
    }

    fn lines(self, now: Timestamp) -> [Finding; 3] {
        const MOST: std::time::Duration = std::time::Duration::from_secs(2);
        let ahead = self.latest.map_or(std::time::Duration::ZERO, |latest| latest.since(now));
        let meaning = "record times follow the clock; setting it back makes new jobs look older";
        let clock = if ahead > MOST {
            let found = format!("the newest record is {:.0} s ahead of the clock", ahead.as_secs_f64());
            Finding::warn("clock", found, meaning).remedy("set the clock (NTP)")
        } else {
            Finding::ok("clock", "not behind the newest record", meaning)
        };
        [
            advised(
                Finding::none_of(
                    "records",
                    "records that cannot be read",
                    self.unreadable,
                    Verdict::Fail,
                    "their jobs do not move and their ids stay taken; other jobs continue",
                ),
                "inspect the last line of the file; restore it from a backup, or move the file aside",
            ),
            advised(
                Finding::none_of(
                    "newer_records",
                    "records of a newer engine",
                    self.newer,
                    Verdict::Warn,
                    "they are shown as far as possible, and never changed",
                ),
                "use the engine that wrote them",
            ),
            clock,
        ]
    }
}

fn seq(line: Option<&RecordLine>) -> Option<u64> {
    line.map(|line| line.seq)
}

fn read(store: &Store, id: &JobId) -> crate::store::Result<Option<RecordLine>> {
    Ok(store.read_record(id)?.map(|record| record.line))
}

/// The trouble that recovery would find for a job with files at these places, or would leave to a person.
fn judge(store: &Store, id: &JobId, line: Option<&RecordLine>, places: &[Place]) -> Option<Trouble> {
    let [queued, running] = [Place::Queued, Place::Running].map(|place| places.contains(&place));
    let files = ActiveFiles { queued, running, in_the_way: None };
    match Situation::judge(line, &files) {
        Situation::Free if places.is_empty() => None,
        Situation::Free if line.is_some() => Some(Trouble::Withdrawn(places.to_vec())),
        Situation::Free => Some(Trouble::NoRecord(places.to_vec())),
        Situation::AttemptOpen => match line.and_then(RecordLine::open_attempt) {
            None => Some(Trouble::Abandoned(places.to_vec())),
            Some(attempt) => match runner::probe(store, id, attempt) {
                Runner::Alive | Runner::Stopped | Runner::None => None,
                Runner::Gone => Some(Trouble::Abandoned(places.to_vec())),
                Runner::Elsewhere => Some(Trouble::Elsewhere(attempt.host.clone())),
            },
        },
        Situation::FileMissing if places.is_empty() => Some(Trouble::NoFile),
        Situation::Queued
        | Situation::Ended
        | Situation::StartNotRecorded
        | Situation::RetryNotMoved
        | Situation::EndNotMoved
        | Situation::FileMissing => {
            let recorded = line.map_or(&Place::Queued, |line| &line.place);
            let is_elsewhere = places.iter().any(|place| place != recorded);
            let misplaced = is_elsewhere.then(|| Trouble::Misplaced(places.to_vec()));
            misplaced.or_else(|| without_parent(store, line?))
        }
    }
}

/// A job that waits for the tool of a parent that is not there.
fn without_parent(store: &Store, line: &RecordLine) -> Option<Trouble> {
    let parent = line.job.parent.as_ref().filter(|_| line.status == Status::Queued)?;
    matches!(store.read_record(parent), Ok(None)).then(|| Trouble::NoParent(parent.clone()))
}

/// The removals beside the recoveries.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Repaired {
    /// Requests to attempts that have ended.
    pub requests: usize,
    /// Directories of trials whose process was killed.
    pub probes: usize,
    /// Torn ends of archive files.
    pub archives: usize,
    /// Jobs whose files were not where their records say.
    pub misplaced: usize,
}

/// Removes useless files, after recovery.
///
/// # Errors
/// File system and lock errors.
pub(crate) fn repair(store: &Store, clock: &dyn Clock) -> Result<Repaired> {
    let mut repaired = Repaired::default();
    for name in fs::names(&store.state("control"))? {
        let Some(Ok(id)) = name.strip_suffix(".cancel").map(JobId::new) else { continue };
        // Under the lease no attempt is open, and none that it could be meant for can start.
        let lease = Lease::acquire(store, &id, Create::No)?;
        let idle = match &lease {
            // A request may also name the next attempt of a job that waits.
            Acquire::Held(lease) => lease.line().is_none_or(|line| line.status.is_terminal()),
            Acquire::NoRecord => true,
            Acquire::Busy => false,
        };
        if idle {
            repaired.requests += usize::from(fs::remove(&store.state("control").join(&name))?);
        }
    }
    for dir in file_system::left(store, clock.now())? {
        match trials::remove(&dir) {
            Ok(()) => repaired.probes += 1,
            Err(error) => tracing::warn!(%error, "`{}` stays", dir.display()),
        }
    }
    if let Some(_lock) = crate::queue::gc::GcLock::acquire(store)? {
        repaired.archives = archive::cut_torn_ends(store)?;
    }
    for (id, places) in Listing::take(store)?.files {
        match settle(store, &id, &places) {
            Ok(moved) => repaired.misplaced += usize::from(moved),
            // An unreadable record stops its own job only.
            Err(error) => tracing::warn!(error = causes(&error), "the files of {id} stay"),
        }
    }
    Ok(repaired)
}

/// Brings the files of a job that does not run to the one place that its record says, a second one as a duplicate into
/// quarantine; true if one was elsewhere. Recovery looks at `queued/` and `running/` only.
fn settle(store: &Store, id: &JobId, places: &[Place]) -> Result<bool> {
    let is_settled = |line: &RecordLine| places.iter().all(|place| *place == line.place);
    if store.read_record(id)?.is_none_or(|record| is_settled(&record.line)) {
        return Ok(false);
    }
    let Acquire::Held(lease) = Lease::acquire(store, id, Create::No)? else { return Ok(false) };
    // Reads before the lease do not count.
    let situation = Situation::judge(lease.line(), &places::active_files(store, id)?);
    let Some(line) = lease.line() else { return Ok(false) };
    if matches!(situation, Situation::AttemptOpen | Situation::Free | Situation::StartNotRecorded) {
        // Of an id that nothing was promised for: whose file it is only a person knows.
        return Ok(false);
    }
    // [REC_RESYNC] Its writer may have been killed before its sync.
    lease.resync(store)?;
    let mut moved = false;
    for place in places.iter().filter(|place| **place != line.place) {
        if places::is_at(store, id, place)? {
            places::settle(store, id, place, &line.place)?;
            moved = true;
        }
    }
    Ok(moved)
}
