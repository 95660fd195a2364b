//! Checks the directories of the queue and `state/control/`: job files, and foreign files.
//!
//! Names foreign files and never opens them. `records` checks whether job files are where their records say.

use std::collections::{BTreeMap, BTreeSet};

use crate::clock::Timestamp;
use crate::doctor::file_system;
use crate::doctor::finding::{Finding, Verdict};
use crate::fs::{self, Entry};
use crate::job::place::is_day;
use crate::job::{JobId, Place};
use crate::queue::claim::{self, Content};
use crate::queue::{Result, temporary};
use crate::store::Store;

/// The directories of the queue as they were listed.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Where job files are, by id.
    pub files: BTreeMap<JobId, Vec<Place>>,
    /// Foreign entries, each with its kind.
    pub foreign: Vec<String>,
}

impl Listing {
    /// Lists all directories.
    pub(super) fn take(store: &Store) -> Result<Self> {
        let mut listing = Self::default();
        for place in [Place::Queued, Place::Running, Place::Quarantined] {
            listing.add(store, &place)?;
        }
        for name in fs::names(&store.root().join("jobs/done"))? {
            let is_dir = store.root().join("jobs/done").join(&name).is_dir();
            if is_day(&name) && is_dir {
                listing.add(store, &Place::Done(name))?;
            } else {
                listing.foreign.push(format!("jobs/done/{name}: not the directory of a day"));
            }
        }
        Ok(listing)
    }

    fn add(&mut self, store: &Store, place: &Place) -> Result<()> {
        let dir = store.place_dir(place);
        for name in fs::names(&dir)? {
            let what = match fs::entry(&dir.join(&name), store.owner())? {
                Entry::Missing => continue,
                Entry::Ours if fs::is_temporary(&name) => continue,
                Entry::Ours if *place == Place::Quarantined && is_of_a_foreign_file(&name) => continue,
                Entry::Ours => match name.strip_suffix(".json").map(JobId::new) {
                    Some(Ok(id)) => {
                        self.files.entry(id).or_default().push(place.clone());
                        continue;
                    }
                    _ => "its name is not that of a job",
                },
                Entry::NotRegular => "not a regular file",
                Entry::NotTrusted => "of another user, or writable by others",
            };
            self.foreign.push(format!("jobs/{place}/{}: {what}", name.escape_debug()));
        }
        Ok(())
    }
}

/// `<stem>~<n>.json` and the reason beside it: what was quarantined and is no job.
fn is_of_a_foreign_file(name: &str) -> bool {
    let stem = name.strip_suffix(".reason.json").unwrap_or(name).strip_suffix(".json");
    let number = stem.and_then(|stem| stem.rsplit_once('~')).map(|(_, number)| number);
    number.is_some_and(|number| number.parse::<u32>().is_ok())
}

/// Foreign files, unreadable files, names that differ only by case, and left-overs of crashes.
pub(super) fn findings(
    store: &Store,
    listing: &Listing,
    ids: &BTreeSet<JobId>,
    now: Timestamp,
) -> Result<Vec<Finding>> {
    let left = temporary::stale(store, now)?.into_iter().chain(file_system::left(store, now)?);
    let left = left.map(|path| path.display().to_string()).collect();
    Ok(vec![
        Finding::none_of(
            "foreign_files",
            "entries of the queue's directories that are no job files",
            listing.foreign.clone(),
            Verdict::Warn,
            "they are left alone: never opened, never run",
        ),
        advised(
            Finding::none_of(
                "job_files",
                "queued job files that are not valid",
                unreadable(store, listing, now),
                Verdict::Warn,
                "a claim quarantines such a job; other jobs continue",
            ),
            "fix them before they are claimed: engine validate FILE",
        ),
        Finding::none_of(
            "case",
            "ids that differ only by case",
            same_but_for_case(listing.files.keys().chain(ids)),
            Verdict::Warn,
            "two jobs here would share one file on a case-insensitive file system",
        ),
        advised(
            Finding::none_of(
                "temporary_files",
                "temporary files of killed processes",
                left,
                Verdict::Warn,
                "they were never part of an accepted job",
            ),
            "engine doctor --repair",
        ),
        control(store, listing, ids)?,
    ])
}

/// Advice, where there is something to do.
pub(super) fn advised(finding: Finding, advice: &str) -> Finding {
    if finding.verdict == Verdict::Ok { finding } else { finding.remedy(advice) }
}

fn unreadable(store: &Store, listing: &Listing, now: Timestamp) -> Vec<String> {
    let queued = listing.files.iter().filter(|(_, places)| places.contains(&Place::Queued));
    queued
        .filter_map(|(id, _)| {
            let problem = match claim::read(store, id, true, now) {
                Ok((Content::Invalid(problems), true)) => problems.to_string(),
                Ok((Content::Foreign(reason), true)) => reason.message,
                _ => return None,
            };
            Some(problem.lines().next().unwrap_or_default().to_owned())
        })
        .collect()
}

fn same_but_for_case<'a>(ids: impl Iterator<Item = &'a JobId>) -> Vec<String> {
    let mut by_lower: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for id in ids {
        by_lower.entry(id.as_str().to_ascii_lowercase()).or_default().insert(id.as_str());
    }
    let several = by_lower.into_values().filter(|ids| ids.len() > 1);
    several.map(|ids| ids.into_iter().collect::<Vec<_>>().join(", ")).collect()
}

/// Requests that nothing will answer, and holds.
fn control(store: &Store, listing: &Listing, ids: &BTreeSet<JobId>) -> Result<Finding> {
    let mut items = Vec::new();
    for name in fs::names(&store.state("control"))? {
        let known = |id: &JobId| ids.contains(id) || listing.files.contains_key(id);
        let what = if name == "HOLD" {
            "no job starts: engine release --all"
        } else if is_stale_cancel(store, &name) {
            "asks an attempt to end that is not running"
        } else if let Some(id) = name.strip_suffix(".hold").map(JobId::new) {
            match id {
                Ok(id) if known(&id) => continue,
                _ => "holds a job that is not here",
            }
        } else if name.ends_with(".cancel") || fs::is_temporary(&name) {
            continue;
        } else {
            "is no request of the engine"
        };
        items.push(format!("state/control/{}: {what}", name.escape_debug()));
    }
    let meaning = "a hold keeps jobs waiting until you remove it; a request for a dead attempt does nothing";
    Ok(Finding::none_of("control", "pending control files", items, Verdict::Warn, meaning))
}

/// True for `<id>.cancel` where neither an attempt nor a job that waits can honor it.
fn is_stale_cancel(store: &Store, name: &str) -> bool {
    let Some(Ok(id)) = name.strip_suffix(".cancel").map(JobId::new) else { return false };
    match store.read_record(&id) {
        Ok(record) => record.is_none_or(|record| record.line.status.is_terminal()),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarantined_file_with_its_reason_is_no_foreign_one() {
        for name in ["a~1.json", "a~1.json.reason.json", "a.b~12.json"] {
            assert!(is_of_a_foreign_file(name), "{name}");
        }
        for name in ["a.json", "a~x.json", "a~1", "a.reason.json"] {
            assert!(!is_of_a_foreign_file(name), "{name}");
        }
    }

    #[test]
    fn ids_that_differ_by_case_are_named_together() {
        let ids = ["Job", "job", "JOB", "other"].map(|id| JobId::new(id).unwrap());
        assert_eq!(same_but_for_case(ids.iter()), ["JOB, Job, job"]);
    }
}
