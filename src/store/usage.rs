//! The usage ledger: `state/usage.jsonl`, one line for each attempt and model.
//!
//! Append-only, never repaired in place: a torn line is skipped by readers and ended by the next writer. Of the lines of one
//! `(job_id, attempt, started_at, model)` the last counts. Hard rule: only lines of ours are summed.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use memchr::memmem;
use serde::Deserialize;

use super::{Result, Store, journal, json_line};
use crate::clock::Timestamp;
use crate::cost::usage::LedgerLine;
use crate::fs::{self, Create, FsError};
use crate::job::event::short;
use crate::job::{JobId, SCHEMA_VERSION};

/// A longer line is not one of ours.
const LONGEST: usize = 64 << 10;

/// Appends whole lines by one `write`, and makes them durable; free texts are cut as in the journal.
///
/// # Errors
/// File system errors; a link or directory in the place of the ledger is one. Some lines may be there all the same.
pub(crate) fn append(store: &Store, lines: &[LedgerLine]) -> Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    let path = path(store);
    let file = fs::open_append(&path, Create::IfMissing)?;
    let (is_new, is_torn) =
        end(&file).map_err(|source| FsError { action: "reading", path: path.clone(), source })?;
    let mut text = Vec::with_capacity(512 * lines.len());
    if is_torn {
        text.push(b'\n');
    }
    for line in lines {
        text.extend(json_line(&path, &cut(line))?);
    }
    fs::append(&file, &path, &text)?;
    store.sync_data(&file, &path)?;
    if is_new {
        // Without its name the file is gone after a power loss, and with it what was spent.
        store.sync_dir(&store.state(""))?;
    }
    Ok(())
}

/// All lines, of one key the last one, in the order in which their keys first came.
///
/// # Errors
/// File system errors; a ledger that is not there has no lines.
pub(crate) fn read(store: &Store) -> Result<Vec<LedgerLine>> {
    lines_where(store, "", |_| true)
}

/// The lines of a job, of one key the last one.
pub(crate) fn of_job(store: &Store, id: &JobId) -> Result<Vec<LedgerLine>> {
    lines_where(store, id.as_str(), |line| line.job_id == *id)
}

pub(super) fn path(store: &Store) -> PathBuf {
    store.state("usage.jsonl")
}

/// Whether a file is empty, and whether it ends within a line.
fn end(file: &File) -> std::io::Result<(bool, bool)> {
    let length = file.metadata()?.len();
    let mut last = [b'\n'];
    if length > 0 {
        file.read_at(&mut last, length - 1)?;
    }
    Ok((length == 0, last != [b'\n']))
}

fn cut(line: &LedgerLine) -> LedgerLine {
    let cut = |text: &Option<String>| text.as_deref().map(short);
    LedgerLine {
        run_id: cut(&line.run_id),
        workstream_id: cut(&line.workstream_id),
        model: cut(&line.model),
        session_id: cut(&line.session_id),
        price_source: line.price_source.as_deref().map(|text| text.chars().take(512).collect()),
        ..line.clone()
    }
}

/// The wanted lines; all of them hold the text.
fn lines_where(store: &Store, text: &str, wanted: impl Fn(&LedgerLine) -> bool) -> Result<Vec<LedgerLine>> {
    let path = path(store);
    let mut lines = Lines::default();
    if let Some(part) = journal::part(&path)? {
        let text = memmem::Finder::new(text);
        part.forward(0, &mut |block| lines.add(block, &text, &wanted))?;
    }
    lines.warn_of_newer(&path);
    Ok(lines.lines)
}

/// The key of an attempt's use of a model.
type Key = (JobId, u32, Option<i64>, Option<String>);

/// Lines of the ledger, of one key the last one, in the order in which their keys first came.
#[derive(Debug, Clone, Default)]
pub(super) struct Lines {
    pub(super) lines: Vec<LedgerLine>,
    pub(super) places: HashMap<Key, usize>,
    /// How many lines a newer program wrote.
    pub(super) newer: u64,
}

impl Lines {
    /// Takes the wanted lines of a block of whole lines; all of them hold the text.
    pub(super) fn add(
        &mut self,
        block: &[u8],
        text: &memmem::Finder<'_>,
        wanted: &dyn Fn(&LedgerLine) -> bool,
    ) {
        for raw in block.split(|byte| *byte == b'\n').filter(|raw| raw.len() < LONGEST) {
            // A text with escapes can be written in several ways: then the parsed line decides.
            if text.find(raw).is_none() && memchr::memchr(b'\\', raw).is_none() {
                continue;
            }
            match parse(raw) {
                Parsed::Line(line) if wanted(&line) => self.put(*line),
                Parsed::Newer => self.newer += 1,
                Parsed::Line(_) | Parsed::Foreign => {}
            }
        }
    }

    pub(super) fn put(&mut self, line: LedgerLine) {
        let started = line.started_at.map(Timestamp::as_millis);
        let key = (line.job_id.clone(), line.attempt, started, line.model.clone());
        let place = *self.places.entry(key).or_insert(self.lines.len());
        match self.lines.get_mut(place) {
            Some(before) => *before = line,
            None => self.lines.push(line),
        }
    }

    pub(super) fn warn_of_newer(&self, path: &Path) {
        if self.newer > 0 {
            let lines = self.newer;
            tracing::warn!(path = %path.display(), lines, "lines of a newer format are not counted");
        }
    }
}

enum Parsed {
    Line(Box<LedgerLine>),
    /// Of a newer program.
    Newer,
    Foreign,
}

fn parse(raw: &[u8]) -> Parsed {
    #[derive(Deserialize)]
    struct Version {
        schema_version: u32,
    }
    let read: Option<LedgerLine> = serde_json::from_slice(raw).ok();
    let version = read
        .as_ref()
        .map(|line| line.schema_version)
        .or_else(|| serde_json::from_slice::<Version>(raw).ok().map(|version| version.schema_version));
    let is_negative = |cost: Option<f64>| cost.is_some_and(|usd| usd < 0.0);
    match read {
        _ if version.is_some_and(|version| version > SCHEMA_VERSION) => Parsed::Newer,
        // A negative cost is none: it would hide what others spent.
        Some(line) if is_negative(line.cost_usd) || is_negative(line.computed_cost_usd) => Parsed::Foreign,
        Some(line) => Parsed::Line(Box::new(line)),
        None => Parsed::Foreign,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::cost::budget::Spent;
    use crate::cost::usage::UsageSource;
    use crate::store::spent::{Of, Spending};
    use crate::store::testing::store;

    fn line(job: &str, attempt: u32, model: Option<&str>, cost_usd: Option<f64>) -> LedgerLine {
        LedgerLine {
            schema_version: 1,
            at: Timestamp::from_millis(0),
            job_id: JobId::new(job).unwrap(),
            attempt,
            started_at: None,
            run_id: None,
            workstream_id: None,
            tool: None,
            model: model.map(str::to_owned),
            session_id: None,
            outcome: None,
            reason_code: None,
            turns: None,
            input_tokens: None,
            cached_input_tokens: None,
            cache_write_tokens: None,
            output_tokens: None,
            tokens_source: UsageSource::None,
            cost_usd,
            computed_cost_usd: None,
            price_source: None,
        }
    }

    fn put(store: &Store, bytes: &[u8]) {
        let file = fs::open_append(&path(store), Create::IfMissing).unwrap();
        fs::append(&file, &path(store), bytes).unwrap();
    }

    fn json(line: &LedgerLine) -> String {
        serde_json::to_string(line).unwrap()
    }

    fn spent_by_job(store: &Store, job: &str, from: u32) -> Spent {
        let of = Of::Job(JobId::new(job).unwrap());
        Spending::open(store, of).unwrap().spent((from, None))
    }

    fn spent_by_run(store: &Store, run: &str) -> Spent {
        Spending::open(store, Of::run(run)).unwrap().spent((1, None))
    }

    #[test]
    fn a_missing_or_empty_ledger_has_no_lines() {
        let (_dir, store) = store();
        assert_eq!(read(&store).unwrap(), []);
        append(&store, &[]).unwrap();
        assert!(!path(&store).exists());
        put(&store, b"");
        assert_eq!(read(&store).unwrap(), []);
    }

    #[test]
    fn what_was_appended_is_read_and_of_one_key_the_last_counts_in_its_first_place() {
        let (_dir, store) = store();
        let (a, b) = (line("a", 1, Some("m"), Some(1.0)), line("a", 1, None, None));
        append(&store, &[a.clone(), b.clone()]).unwrap();
        let again = LedgerLine { cost_usd: Some(5.0), ..a.clone() };
        append(&store, &[line("a", 2, Some("m"), None), again.clone()]).unwrap();
        assert_eq!(read(&store).unwrap(), [again, b, line("a", 2, Some("m"), None)]);
    }

    #[test]
    fn torn_foreign_newer_and_endless_lines_are_skipped_and_a_torn_end_spoils_nothing() {
        let (_dir, store) = store();
        let whole = json(&line("a", 1, None, Some(1.0)));
        put(&store, format!("{}\n{whole}\n", &whole[..whole.len() / 2]).as_bytes());
        put(&store, b"\n\0\xff\xfe\n{}\n[1]\n{\"schema_version\": 1}\n");
        put(
            &store,
            format!("{}\n", whole.replace("\"schema_version\":1", "\"schema_version\":2")).as_bytes(),
        );
        put(&store, format!("{}\n", json(&line("a", 7, None, Some(-9.0)))).as_bytes());
        put(&store, &vec![b'x'; 3 * LONGEST + 5]);
        put(&store, b"\n");
        // As long as one read, to the byte.
        put(&store, &vec![b'y'; LONGEST]);
        put(&store, b"\n");
        put(&store, &whole.as_bytes()[..20]);
        assert_eq!(read(&store).unwrap(), [line("a", 1, None, Some(1.0))]);
        append(&store, &[line("b", 1, None, None)]).unwrap();
        assert_eq!(read(&store).unwrap(), [line("a", 1, None, Some(1.0)), line("b", 1, None, None)]);
        // A line that is still being written is none yet.
        put(&store, whole.replace("\"a\"", "\"c\"").as_bytes());
        assert_eq!(read(&store).unwrap().len(), 2);
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the test is about a link")]
    fn a_link_or_a_directory_in_its_place_is_an_error_and_is_left_alone() {
        let (dir, store) = store();
        let outside = dir.path().join("outside");
        fs::create_new(&outside, b"").unwrap();
        std::os::unix::fs::symlink(&outside, path(&store)).unwrap();
        assert!(append(&store, &[line("a", 1, None, None)]).is_err());
        assert!(read(&store).is_err());
        assert_eq!(outside.metadata().unwrap().len(), 0);
        fs::remove(&path(&store)).unwrap();
        fs::create_dir(&path(&store)).unwrap();
        assert!(append(&store, &[line("a", 1, None, None)]).is_err());
        assert!(read(&store).is_err());
    }

    #[test]
    fn what_a_job_spent_is_not_what_others_with_its_name_in_theirs_spent() {
        let (_dir, store) = store();
        let run = |job: &str, attempt, run: &str, cost| LedgerLine {
            run_id: Some(run.to_owned()),
            ..line(job, attempt, None, cost)
        };
        let all = [
            run("a", 1, "r", Some(1.0)),
            run("a", 2, "r", None),
            run("a", 3, "r", Some(4.0)),
            run("ab", 1, "a", Some(16.0)),
            run("b", 1, "r\"\\ü", Some(32.0)),
            line("c", 1, None, Some(64.0)),
        ];
        append(&store, &all).unwrap();
        let spent = |cost, unknown_cost, unknown_tokens| Spent {
            cost_usd: cost,
            tokens: None,
            unknown_cost,
            unknown_tokens,
        };
        let by_job = |job: &str, from| spent_by_job(&store, job, from);
        assert_eq!(by_job("a", 1), spent(Some(5.0), 1, 3));
        // The life before is not counted.
        assert_eq!(by_job("a", 3), spent(Some(4.0), 0, 1));
        assert_eq!(by_job("d", 1), Spent::default());
        assert_eq!(spent_by_run(&store, "r"), spent(Some(5.0), 1, 3));
        assert_eq!(spent_by_run(&store, "a"), spent(Some(16.0), 0, 1));
        assert_eq!(spent_by_run(&store, "r\"\\ü"), spent(Some(32.0), 0, 1));
        assert_eq!(spent_by_run(&store, "none"), Spent::default());
    }

    #[test]
    fn a_name_that_is_written_with_escapes_or_is_endless_is_found_all_the_same() {
        let (_dir, store) = store();
        let text = json(&line("abc", 1, None, Some(2.0))).replace("abc", "\\u0061bc");
        put(&store, format!("{text}\n").as_bytes());
        assert_eq!(spent_by_job(&store, "abc", 1).cost_usd, Some(2.0));
        let run = "ü\u{1}".repeat(100_000);
        append(&store, &[LedgerLine { run_id: Some(run.clone()), ..line("z", 1, None, Some(3.0)) }]).unwrap();
        assert_eq!(spent_by_run(&store, &run).cost_usd, Some(3.0));
    }

    #[test]
    fn writers_at_the_same_time_lose_no_line() {
        let (_dir, store) = store();
        std::thread::scope(|scope| {
            for job in ["a", "b", "c", "d"] {
                let store = &store;
                scope.spawn(move || {
                    for attempt in 1..=25 {
                        let lines =
                            [line(job, attempt, Some("m"), None), line(job, attempt, Some("n"), None)];
                        append(store, &lines).unwrap();
                    }
                });
            }
        });
        assert_eq!(read(&store).unwrap().len(), 200);
    }
}
