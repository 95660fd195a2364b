//! The last lines of many records, without the results in them: what lists and counts read.
//!
//! Responsible for doing that fast (one descriptor for the directory, one read a record, a typed parse that passes over the
//! largest keys). Locks nothing; a result may be old the moment it is returned.

use std::os::unix::fs::FileExt;

use serde::Deserialize;

use super::record;
use super::{Result, Store, StoreError};
use crate::clock::Timestamp;
use crate::fs::dir::Dir;
use crate::fs::{self, FsError};
use crate::job::record::{Acceptance, Former, JobSummary};
use crate::job::{Attempt, JobId, Place, RecordLine, SCHEMA_VERSION, Status};

/// Most records are shorter and are read at once.
const READ_AT_ONCE: usize = 16 << 10;
/// Fewer records than this are not worth a second thread.
const WORTH_A_THREAD: usize = 256;
const MOST_THREADS: usize = 4;

/// The parts of a last line that are read.
pub(crate) trait LastLine: Sized + Send {
    /// Reads it from the text of a line.
    ///
    /// # Errors
    /// What is wrong with the text.
    fn read(line: &[u8]) -> serde_json::Result<Self>;
    /// Its format version, its job and its number.
    fn head(&self) -> (u32, &JobId, u64);
}

/// The parts of a line that counts need.
#[derive(Debug, Deserialize)]
pub(crate) struct StatusLine {
    schema_version: u32,
    job_id: JobId,
    /// The number of the line.
    pub seq: u64,
    /// When it was written.
    pub at: Timestamp,
    /// The status of the job.
    pub status: Status,
    /// Whether it is a part of another one.
    pub job: PartOf,
}

/// The part of a summary that counts need.
#[derive(Debug, Deserialize)]
pub(crate) struct PartOf {
    /// The job that it is a part of.
    #[serde(default)]
    pub parent: Option<JobId>,
}

impl LastLine for StatusLine {
    fn read(line: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(line)
    }

    fn head(&self) -> (u32, &JobId, u64) {
        (self.schema_version, &self.job_id, self.seq)
    }
}

/// The whole line, but without `result` and `error_report`: they are `None`.
impl LastLine for RecordLine {
    fn read(line: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(line).map(Brief::into_line)
    }

    fn head(&self) -> (u32, &JobId, u64) {
        (self.schema_version, &self.job_id, self.seq)
    }
}

/// The whole line, with all that it has.
struct Whole(RecordLine);

impl LastLine for Whole {
    fn read(line: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(line).map(Self)
    }

    fn head(&self) -> (u32, &JobId, u64) {
        self.0.head()
    }
}

#[derive(Deserialize)]
struct Brief {
    schema_version: u32,
    seq: u64,
    at: Timestamp,
    job_id: JobId,
    status: Status,
    place: Place,
    not_before: Option<Timestamp>,
    job: JobSummary,
    life: u32,
    first_attempt: u32,
    former: Former,
    attempts: Vec<Attempt>,
    accepted: Option<Acceptance>,
}

impl Brief {
    fn into_line(self) -> RecordLine {
        RecordLine {
            schema_version: self.schema_version,
            seq: self.seq,
            at: self.at,
            job_id: self.job_id,
            status: self.status,
            place: self.place,
            not_before: self.not_before,
            job: self.job,
            life: self.life,
            first_attempt: self.first_attempt,
            former: self.former,
            attempts: self.attempts,
            result: None,
            error_report: None,
            accepted: self.accepted,
        }
    }
}

#[derive(Deserialize)]
struct Version {
    #[serde(default)]
    schema_version: u64,
}

/// Reads the last lines of these records and gives what `keep` made of each, in the order of the ids.
///
/// # Errors
/// File system errors of the directory; those of one record are given to `keep`.
pub(crate) fn read_many<L: LastLine, T: Send>(
    store: &Store,
    ids: &[JobId],
    keep: impl Fn(&JobId, Result<Option<L>>) -> Option<T> + Sync,
) -> Result<Vec<T>> {
    let Some(dir) = Dir::open(&store.state("jobs"))? else { return Ok(Vec::new()) };
    let read = |ids: &[JobId]| -> Vec<T> {
        let mut buffer = vec![0; READ_AT_ONCE];
        ids.iter().filter_map(|id| keep(id, last_line(&dir, id, &mut buffer))).collect()
    };
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = cores.min(MOST_THREADS).min(ids.len() / WORTH_A_THREAD);
    if threads < 2 {
        return Ok(read(ids));
    }
    let share = ids.len().div_ceil(threads);
    let kept = std::thread::scope(|scope| {
        let started: Vec<_> = ids.chunks(share).map(|chunk| scope.spawn(|| read(chunk))).collect();
        let mut kept = Vec::with_capacity(ids.len());
        for thread in started {
            match thread.join() {
                Ok(mut part) => kept.append(&mut part),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        kept
    });
    Ok(kept)
}

/// Reads the last lines of records one by one, as `read_many` does.
#[derive(Debug)]
pub(crate) struct Reader {
    dir: Option<Dir>,
    buffer: Vec<u8>,
}

impl Reader {
    /// Opens the directory of the records.
    pub(crate) fn open(store: &Store) -> Result<Self> {
        Ok(Self { dir: Dir::open(&store.state("jobs"))?, buffer: vec![0; READ_AT_ONCE] })
    }

    /// The last line of a record, with all that it has.
    ///
    /// # Errors
    /// File system errors, `NewerFormat`, `Unreadable`.
    pub(crate) fn whole_line(&mut self, id: &JobId) -> Result<Option<RecordLine>> {
        let Some(dir) = &self.dir else { return Ok(None) };
        Ok(last_line::<Whole>(dir, id, &mut self.buffer)?.map(|whole| whole.0))
    }

    /// The last line of a record, without `result` and `error_report`.
    ///
    /// # Errors
    /// File system errors, `NewerFormat`, `Unreadable`.
    pub(crate) fn last_line(&mut self, id: &JobId) -> Result<Option<RecordLine>> {
        self.dir.as_ref().map_or(Ok(None), |dir| last_line(dir, id, &mut self.buffer))
    }
}

fn last_line<L: LastLine>(dir: &Dir, id: &JobId, buffer: &mut [u8]) -> Result<Option<L>> {
    let name = format!("{id}.jsonl");
    let Some(file) = dir.open_file(&name)? else { return Ok(None) };
    let path = || dir.path_of(&name);
    let count =
        file.read_at(buffer, 0).map_err(|source| FsError { action: "reading", path: path(), source })?;
    if count == buffer.len() {
        return record::tail(&file, &path())?.line.map(|line| parse(&line, id, path)).transpose();
    }
    let bytes = buffer.get(..count).unwrap_or_default();
    let Some(end) = bytes.iter().rposition(|b| *b == b'\n') else { return Ok(None) };
    let line = bytes.get(..end).and_then(|bytes| bytes.rsplit(|b| *b == b'\n').next()).unwrap_or_default();
    parse(line, id, path).map(Some)
}

fn parse<L: LastLine>(line: &[u8], id: &JobId, path: impl Fn() -> std::path::PathBuf) -> Result<L> {
    let unreadable = |problem: String| StoreError::Unreadable { path: path(), problem };
    let found = match L::read(line) {
        Ok(found) => found,
        Err(error) => {
            let version = serde_json::from_slice(line).map_or(0, |found: Version| found.schema_version);
            return Err(newer(version, &path).unwrap_or_else(|| unreadable(error.to_string())));
        }
    };
    let (version, job_id, seq) = found.head();
    if let Some(error) = newer(version.into(), &path) {
        return Err(error);
    }
    if job_id != id || seq == u64::MAX {
        return Err(unreadable(format!("it is not a record of `{id}`")));
    }
    Ok(found)
}

fn newer(version: u64, path: impl Fn() -> std::path::PathBuf) -> Option<StoreError> {
    (version > u64::from(SCHEMA_VERSION)).then(|| StoreError::NewerFormat { path: path(), version })
}

impl Store {
    /// True if a record holds nothing but acceptance and there is no queued file: its id is free.
    ///
    /// # Errors
    /// File system errors.
    pub fn is_free(&self, line: &RecordLine) -> Result<bool> {
        Ok(line.is_untouched() && !fs::exists(&self.job_file(&Place::Queued, &line.job_id))?)
    }
}
