//! What a job or a run has spent, without reading the whole ledger again: `state/cache/spent/<hash>`, the figures of one of
//! them, the ledger lines without what no sum needs, and up to where the ledger was read for them. A run that is new to the
//! cache is looked for in the whole ledger, once; a job that begins a life is not.
//!
//! A part of the cache. A budget is decided by it, so no sum is kept: of one attempt and model the last line counts, and it
//! may still come. What the ledger got since is always read. Hard rule: what is not certainly of this ledger, or not whole, is made anew from it.

use std::path::PathBuf;

use memchr::memmem;
use serde::{Deserialize, Serialize};

use super::hash::hash;
use super::identity::Origin;
use super::journal::{self, Position};
use super::usage::{self, Lines};
use super::{Result, Store, json_line};
use crate::clock::Timestamp;
use crate::cost::budget::Spent;
use crate::cost::totals::Totals;
use crate::cost::usage::LedgerLine;
use crate::fs;
use crate::job::JobId;
use crate::job::event::short;

/// So much of a ledger is read rather than remembered.
const WORTH_KEEPING: u64 = 64 << 10;
/// A larger file is none of ours.
const LARGEST: u64 = 64 << 20;

/// The owner of the lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Of {
    /// All attempts of a job, or those of its present life.
    Job(JobId),
    /// All attempts of the jobs of a run, whose name is cut as in the ledger. A job without a run is a run by itself.
    Run(String),
}

impl Of {
    /// The lines of a run.
    #[must_use]
    pub(crate) fn run(run_id: &str) -> Self {
        Self::Run(short(run_id))
    }

    fn text(&self) -> &str {
        match self {
            Self::Job(id) => id.as_str(),
            Self::Run(run) => run,
        }
    }

    fn wants(&self, line: &LedgerLine) -> bool {
        match self {
            Self::Job(id) => line.job_id == *id,
            Self::Run(run) => line.run_id.as_deref().map(short).as_ref() == Some(run),
        }
    }
}

/// The first line of the file; the ledger lines follow it.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Header {
    origin: Origin,
    of: Of,
    ledger: Vec<Position>,
    newer: u64,
    /// The hash of what follows.
    check: u64,
}

/// What was spent, read on as the ledger grows.
#[derive(Debug, Clone)]
pub(crate) struct Spending {
    of: Of,
    lines: Lines,
    read: Vec<Position>,
}

impl Spending {
    /// Reads what there is: from the cache, and from the ledger what it got since.
    ///
    /// # Errors
    /// File system errors of the ledger; one that is not there has no lines.
    pub(crate) fn open(store: &Store, of: Of) -> Result<Self> {
        let mut spending =
            Self::load(store, &of).unwrap_or(Self { of, lines: Lines::default(), read: Vec::new() });
        let known = spending.offset();
        spending.read_on(store)?;
        spending.lines.warn_of_newer(&usage::path(store));
        if spending.offset().abs_diff(known) > WORTH_KEEPING {
            spending.keep(store);
        }
        Ok(spending)
    }

    /// For the first attempt of a life of a job: nothing of it is in the ledger yet, so none of what is there is read.
    pub(crate) fn begin(store: &Store, of: Of) -> Result<Self> {
        let part = journal::part(&usage::path(store))?;
        let read = part.into_iter().map(|part| part.end()).collect::<Result<Vec<_>>>()?;
        let spending = Self { of, lines: Lines::default(), read };
        if spending.offset() > WORTH_KEEPING {
            spending.keep(store);
        }
        Ok(spending)
    }

    /// Reads what the ledger got since.
    pub(crate) fn read_on(&mut self, store: &Store) -> Result<()> {
        let parts: Vec<_> = journal::part(&usage::path(store))?.into_iter().collect();
        for _ in 0..2 {
            let Self { of, lines, read } = self;
            let text = memmem::Finder::new(of.text());
            let mut each = |block: &[u8]| lines.add(block, &text, &|line| of.wants(line));
            if let Ok(positions) = journal::advance(&parts, read, &mut each)? {
                *read = positions;
                return Ok(());
            }
            // It is another ledger: it is read from its beginning.
            *lines = Lines::default();
            read.clear();
        }
        Ok(())
    }

    /// The sum, of the attempts from a number and, if it is known, a time on: those of the first attempt of a job's present life.
    #[must_use]
    pub(crate) fn spent(&self, (from_attempt, began): (u32, Option<Timestamp>)) -> Spent {
        let is_later = |line: &&LedgerLine| match (line.started_at, began) {
            (Some(started), Some(began)) => started >= began,
            _ => true,
        };
        let of_life = |line: &&LedgerLine| line.attempt >= from_attempt && is_later(line);
        match &self.of {
            Of::Job(_) => {
                let lines: Vec<LedgerLine> = self.lines.lines.iter().filter(of_life).cloned().collect();
                Totals::sum_lines(&lines).spent()
            }
            Of::Run(_) => Totals::sum_lines(&self.lines.lines).spent(),
        }
    }

    /// The lines, without what no sum needs.
    #[must_use]
    pub(crate) fn lines(&self) -> &[LedgerLine] {
        &self.lines.lines
    }

    fn offset(&self) -> u64 {
        self.read.last().map_or(0, |position| position.offset)
    }

    fn load(store: &Store, of: &Of) -> Option<Self> {
        let path = store.cache_dir()?.join(DIR).join(file_name(of));
        let file = fs::open_regular(&path).ok()?;
        let bytes = fs::read_limited(&file, &path, LARGEST).ok()??;
        let (first, rest) = bytes.split_at(memchr::memchr(b'\n', &bytes)? + 1);
        let known: Header = serde_json::from_slice(first).ok()?;
        let expected = header(known.origin.clone(), of, known.ledger.clone(), known.newer, rest);
        if !known.origin.counts_beside(&store.origin()) || expected != known {
            return None;
        }
        let mut lines = Lines { newer: known.newer, ..Lines::default() };
        for line in rest.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            lines.put(serde_json::from_slice(line).ok()?);
        }
        Some(Self { of: of.clone(), lines, read: known.ledger })
    }

    /// Nothing depends on it, so a failure is only traced.
    fn keep(&self, store: &Store) {
        let Some(dir) = store.make_cache_dir().map(|dir| dir.join(DIR)) else { return };
        let path: PathBuf = dir.join(file_name(&self.of));
        let keep = || -> Result<()> {
            let mut rest = Vec::new();
            for line in &self.lines.lines {
                rest.extend(json_line(&path, &without_words(line))?);
            }
            let mut text = json_line(
                &path,
                &header(store.origin(), &self.of, self.read.clone(), self.lines.newer, &rest),
            )?;
            text.extend(rest);
            fs::create_dir(&dir)?;
            Ok(fs::replace(&path, &text)?)
        };
        if let Err(error) = keep() {
            tracing::debug!(%error, "what was spent is not kept");
        }
    }
}

/// The numbers of a line that are summed, and its key.
fn without_words(line: &LedgerLine) -> LedgerLine {
    let (run_id, workstream_id, session_id) = (None, None, None);
    let (tool, reason_code, price_source) = (None, None, None);
    LedgerLine { run_id, workstream_id, session_id, tool, reason_code, price_source, ..line.clone() }
}

/// The directory below the cache.
pub(crate) const DIR: &str = "spent";

fn file_name(of: &Of) -> String {
    let kind = match of {
        Of::Job(_) => "job",
        Of::Run(_) => "run",
    };
    format!("{kind}-{:016x}", hash(of.text().as_bytes()))
}

fn header(origin: Origin, of: &Of, ledger: Vec<Position>, newer: u64, rest: &[u8]) -> Header {
    Header { origin, of: of.clone(), ledger, newer, check: hash(rest) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::Create;
    use crate::store::testing::store;

    fn line(job: &str, attempt: u32, run: &str, usd: f64) -> String {
        let line = serde_json::json!({"schema_version": 1, "at": "2026-11-30T00:00:00.000Z", "job_id": job,
            "attempt": attempt, "run_id": run, "tokens_source": "none", "cost_usd": usd});
        format!("{line}\n")
    }

    fn put(store: &Store, text: &str) {
        let path = usage::path(store);
        let file = fs::open_append(&path, Create::IfMissing).unwrap();
        fs::append(&file, &path, text.as_bytes()).unwrap();
    }

    fn usd(store: &Store, run: &str) -> Option<f64> {
        Spending::open(store, Of::run(run)).unwrap().spent((1, None)).cost_usd
    }

    fn others(store: &Store, kilobytes: usize) {
        let one = line("other", 1, "others", 1.0);
        put(store, &one.repeat((kilobytes << 10) / one.len()));
    }

    /// What this thread has read from files.
    fn bytes_read() -> u64 {
        let text = std::fs::read_to_string("/proc/thread-self/io").unwrap();
        text.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap()
    }

    fn cached(store: &Store) -> PathBuf {
        store.state("cache").join(DIR).join(file_name(&Of::run("r")))
    }

    #[test]
    fn what_is_read_does_not_grow_with_the_ledger() {
        let read = |kilobytes| {
            let (_dir, store) = store();
            others(&store, kilobytes);
            put(&store, &line("a", 1, "r", 2.0));
            assert_eq!(usd(&store, "r"), Some(2.0));
            put(&store, &line("a", 2, "r", 3.0));
            let before = bytes_read();
            let mut spending = Spending::open(&store, Of::run("r")).unwrap();
            assert_eq!(spending.spent((1, None)).cost_usd, Some(5.0));
            for attempt in 3..20 {
                put(&store, &line("a", attempt, "r", 1.0));
                spending.read_on(&store).unwrap();
            }
            assert_eq!(spending.spent((1, None)).cost_usd, Some(22.0));
            bytes_read() - before
        };
        let (small, large) = (read(1), read(8 << 10));
        assert!(large < small + (16 << 10), "{large} bytes of a large ledger, {small} of a small one");
    }

    #[test]
    fn the_first_attempt_of_a_job_reads_no_ledger_and_the_second_one_only_what_came_since() {
        let read = |kilobytes| {
            let (_dir, store) = store();
            put(&store, &line("a", 1, "r", 64.0));
            others(&store, kilobytes);
            // Nothing has looked at this ledger before.
            assert!(!store.state("cache").exists());
            let job = || Of::Job(JobId::new("a").unwrap());
            let before = bytes_read();
            let began = Some(Timestamp::parse("2026-11-30T00:00:00Z").unwrap());
            let mut spending = Spending::begin(&store, job()).unwrap();
            assert_eq!(spending.spent((1, began)).cost_usd, None);
            put(&store, &line("a", 1, "r", 2.0));
            others(&store, 1);
            spending.read_on(&store).unwrap();
            assert_eq!(spending.spent((1, began)).cost_usd, Some(2.0));
            let read = bytes_read() - before;
            let next = Spending::open(&store, job()).unwrap().spent((1, began)).cost_usd;
            (read, bytes_read() - before, next)
        };
        let (small, large) = (read(1), read(8 << 10));
        assert!(large.0 < small.0 + (80 << 10), "{large:?} {small:?}");
        assert!(large.1 < small.1 + (160 << 10), "{large:?} {small:?}");
        assert_eq!(large.2, Some(2.0));
    }

    #[test]
    fn a_run_that_is_known_is_read_on_for_each_of_its_jobs_and_its_file_is_no_copy_of_the_ledger() {
        let (_dir, store) = store();
        put(
            &store,
            &line("a", 1, "r", 2.0)
                .replace("\"tokens_source\"", "\"session_id\":\"long-name\",\"tokens_source\""),
        );
        others(&store, 8 << 10);
        assert_eq!(usd(&store, "r"), Some(2.0));
        let before = bytes_read();
        put(&store, &line("b", 1, "r", 1.0));
        assert_eq!(usd(&store, "r"), Some(3.0));
        assert!(bytes_read() - before < 160 << 10, "{} bytes", bytes_read() - before);
        let kept = std::fs::read_to_string(cached(&store)).unwrap();
        assert!(!kept.contains("long-name") && !kept.contains("\"r\",\"workstream"), "{kept}");
    }

    #[test]
    fn a_line_that_is_written_again_counts_once_and_a_torn_one_when_it_is_whole() {
        let (_dir, store) = store();
        put(&store, &line("a", 1, "r", 2.0));
        others(&store, 100);
        assert_eq!(usd(&store, "r"), Some(2.0));
        assert!(cached(&store).exists());
        put(&store, &line("a", 1, "r", 4.0));
        assert_eq!(usd(&store, "r"), Some(4.0));
        let whole = line("a", 2, "r", 8.0);
        let (first, rest) = whole.split_at(60);
        put(&store, first);
        assert_eq!(usd(&store, "r"), Some(4.0));
        put(&store, rest);
        assert_eq!(usd(&store, "r"), Some(12.0));
        others(&store, 100);
        assert_eq!(usd(&store, "r"), Some(12.0));
        assert_eq!(usd(&store, "r"), Some(12.0));
    }

    #[test]
    fn what_is_not_whole_or_of_another_ledger_is_made_anew() {
        let (_dir, store) = store();
        put(&store, &line("a", 1, "r", 2.0));
        others(&store, 100);
        put(&store, &line("a", 2, "r", 1.0));
        assert_eq!(usd(&store, "r"), Some(3.0));
        let good = std::fs::read(cached(&store)).unwrap();
        let text = String::from_utf8(good.clone()).unwrap();
        let changed = text.replace("\"cost_usd\":2.0", "\"cost_usd\":0.0");
        assert_ne!(changed, text);
        let newer = text.replacen("\"schema_version\":1", "\"schema_version\":2", 1);
        for bad in [
            b"".to_vec(),
            b"\n".to_vec(),
            good[..good.len() / 2].to_vec(),
            vec![0; good.len()],
            changed.into_bytes(),
            newer.into_bytes(),
        ] {
            fs::replace(&cached(&store), &bad).unwrap();
            assert_eq!(usd(&store, "r"), Some(3.0));
            assert_eq!(std::fs::read(cached(&store)).unwrap(), good, "it was made anew");
        }
        // A ledger that was put there instead, shorter and longer.
        let ledger = usage::path(&store);
        for more in [0, 300] {
            fs::remove(&ledger).unwrap();
            put(&store, &line("a", 1, "r", 64.0));
            others(&store, more);
            assert_eq!(usd(&store, "r"), Some(64.0));
        }
        fs::remove(&ledger).unwrap();
        assert_eq!(usd(&store, "r"), None);
        fs::remove(&cached(&store)).unwrap();
        fs::create_dir(&cached(&store)).unwrap();
        put(&store, &line("a", 1, "r", 2.0));
        others(&store, 100);
        assert_eq!(usd(&store, "r"), Some(2.0));
    }

    #[test]
    fn of_a_job_only_the_attempts_of_its_present_life_count() {
        let (_dir, store) = store();
        (1..=3).for_each(|attempt| put(&store, &line("a", attempt, "r", f64::from(attempt))));
        put(&store, &line("aa", 9, "a", 100.0));
        let spending = Spending::open(&store, Of::Job(JobId::new("a").unwrap())).unwrap();
        assert_eq!(spending.spent((1, None)).cost_usd, Some(6.0));
        assert_eq!(spending.spent((2, None)).cost_usd, Some(5.0));
    }
}
