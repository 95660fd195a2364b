//! The jobs of a run: `state/cache/runs/<run_id>`, a line that says up to where the journal was read, then the ids.
//!
//! A part of the cache: an id that is in it may have left the run, or be retired; each record is asked. One
//! that is missing is found when the journal names it.

use std::collections::{BTreeSet, HashSet};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::hash::hash;
use super::identity::Origin;
use super::journal::{self, Position};
use super::{Result, Store, brief, json_line};
use crate::fs;
use crate::job::event::short;
use crate::job::{JobId, RecordLine};

/// A larger file is none of ours.
const LARGEST: u64 = 1 << 30;
const LONGEST_NAME: usize = 200;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Header {
    origin: Origin,
    run_id: String,
    journal: Vec<Position>,
    ids: usize,
}

/// The ids of jobs that are, or once were, in a run. Job files that a person put into the queue have no record yet and
/// are not among them.
///
/// # Errors
/// File system errors of the records and the journal; not those of the cache.
pub(crate) fn ids(store: &Store, run: &str) -> Result<BTreeSet<JobId>> {
    let known = load(store, run);
    let parts = journal::open(store)?;
    if let Some((header, mut ids)) = known {
        let before = ids.len();
        let wanted = short(run);
        let mut each = |block: &[u8]| ids.extend(named(block, &wanted));
        if let Ok(positions) = journal::advance(&parts, &header.journal, &mut each)? {
            // A run that is over is not written again for what others did.
            if ids.len() != before {
                save(store, run, positions, &ids);
            }
            return Ok(ids);
        }
    }
    let (ids, positions) = build(store, run, &parts)?;
    save(store, run, positions, &ids);
    Ok(ids)
}

fn named<'a>(block: &'a [u8], run: &'a str) -> impl Iterator<Item = JobId> + use<'a> {
    journal::glances(block)
        .filter(move |line| line.run_id.as_ref().is_some_and(|text| text.0 == run))
        .filter_map(|line| JobId::new(&line.job_id).ok())
}

/// From the journal; and from the records of which it says nothing.
fn build(store: &Store, run: &str, parts: &[journal::Part]) -> Result<(BTreeSet<JobId>, Vec<Position>)> {
    let wanted = short(run);
    let (mut ids, mut told) = (BTreeSet::new(), HashSet::new());
    let mut each = |block: &[u8]| {
        told.extend(journal::glances(block).map(|line| hash(line.job_id.as_bytes())));
        ids.extend(named(block, &wanted));
    };
    let positions = journal::advance(parts, &[], &mut each)?.unwrap_or_default();
    let mut untold = store.recorded_ids()?;
    untold.retain(|id| !told.contains(&hash(id.as_str().as_bytes())));
    ids.extend(brief::read_many(store, &untold, |id, line: Result<Option<RecordLine>>| {
        let line = line.ok().flatten()?;
        (line.job.run_id.as_deref() == Some(run)).then(|| id.clone())
    })?);
    Ok((ids, positions))
}

fn load(store: &Store, run: &str) -> Option<(Header, BTreeSet<JobId>)> {
    let path = store.cache_dir()?.join("runs").join(file_name(run));
    let file = fs::open_regular(&path).ok()?;
    let text = String::from_utf8(fs::read_limited(&file, &path, LARGEST).ok()??).ok()?;
    let (first, rest) = text.split_once('\n')?;
    let header: Header = serde_json::from_str(first).ok()?;
    let is_current = header.origin.counts_beside(&store.origin()) && header.run_id == run;
    let ids: BTreeSet<JobId> = rest.lines().map(JobId::new).collect::<std::result::Result<_, _>>().ok()?;
    (is_current && ids.len() == header.ids && (rest.is_empty() || rest.ends_with('\n')))
        .then_some((header, ids))
}

/// Nothing depends on it, so a failure is only traced: a read-only root works without.
fn save(store: &Store, run: &str, journal: Vec<Position>, ids: &BTreeSet<JobId>) {
    let header = Header { origin: store.origin(), run_id: run.to_owned(), journal, ids: ids.len() };
    let Some(dir) = store.make_cache_dir().map(|dir| dir.join("runs")) else { return };
    let path = dir.join(file_name(run));
    let saved = json_line(&path, &header).and_then(|mut text| {
        ids.iter().for_each(|id| text.extend([id.as_str(), "\n"].concat().bytes()));
        fs::create_dir(&dir)?;
        Ok(fs::replace(&path, &text)?)
    });
    if let Err(error) = saved {
        tracing::debug!(%error, "the ids of the run are not kept");
    }
}

/// A run's name as a file name: what is not a letter, digit, `-`, `_` or an inner dot is escaped; a long one is hashed.
fn file_name(run: &str) -> String {
    let mut name = String::new();
    for byte in run.bytes() {
        match byte {
            b'.' if !name.is_empty() => name.push('.'),
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => name.push(char::from(byte)),
            _ => name.push_str(&format!("%{byte:02X}")),
        }
    }
    if name.is_empty() || name.len() > LONGEST_NAME {
        // No escape is written so: two names never meet.
        name = "%sha256-".to_owned();
        name.extend(Sha256::digest(run.as_bytes()).iter().map(|byte| format!("{byte:02x}")));
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_run_leaves_its_directory_and_no_two_runs_share_a_file() {
        let long = "x".repeat(5000);
        let longer = "x".repeat(5001);
        let runs = [
            "", ".", "..", "../a", "a/b", "a%2Fb", "a b", "ä", ".a", "a.b", "a\0", "\n", "nightly", &long,
            &longer,
        ];
        let names: BTreeSet<String> = runs.iter().map(|run| file_name(run)).collect();
        assert_eq!(names.len(), runs.len());
        for name in names {
            assert!(!name.starts_with('.') && !name.contains('/') && name.len() <= 255, "{name}");
        }
        assert_eq!(file_name("nightly-2026.11"), "nightly-2026.11");
    }
}
