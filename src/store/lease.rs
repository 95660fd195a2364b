//! The lease: the exclusive lock on a record, without which no record changes.
//!
//! Holding it proves that the former runner of the job is dead. What was read before it was taken is not used. The file is
//! never renamed or replaced, so the lock is on one inode for the life of the id.

use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use super::journal;
use super::line::{MAX_LINE, encode};
use super::record::{self, Record};
use super::{Result, Store, StoreError, unless_stale};
use crate::causes::causes;
use crate::clock;
use crate::fs::{self, Create, Ordering};
use crate::job::event::JournalLine;
use crate::job::{JobId, RecordLine};
use crate::lock::Locked;

/// A longer record was damaged: it is never read whole. gc retires a record before it comes near.
const LARGEST_HISTORY: u64 = 256 << 20;

/// The exclusive right to change one job, until it is dropped or the process dies.
#[derive(Debug)]
pub struct Lease {
    id: JobId,
    path: PathBuf,
    file: Locked,
    record: Option<Record>,
    /// Length of the complete lines.
    end: u64,
    /// True if a torn line follows them.
    torn: bool,
    /// True once this record's name is known to be durable.
    named: bool,
    reserved: bool,
}

/// How often a busy lease is asked for, and how long between.
const TRIES: u32 = 40;
const BETWEEN_TRIES: Duration = Duration::from_millis(5);

/// What became of an attempt to take a lease.
#[derive(Debug)]
pub enum Acquire {
    /// It is ours.
    Held(Box<Lease>),
    /// A living process holds it: the job runs, or is being changed right now.
    Busy,
    /// There is no record, and none was to be made.
    NoRecord,
}

/// Whether a line must survive a power loss before the next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// It is synced before `commit` returns.
    Now,
    /// A later line's sync is enough.
    Later,
}

impl Lease {
    /// Takes the lease of an id, making the record's file if asked to.
    ///
    /// # Errors
    /// File system and lock errors, `NewerFormat`, `Unreadable`.
    pub fn acquire(store: &Store, id: &JobId, create: Create) -> Result<Acquire> {
        unless_stale(|| Self::acquire_once(store, id, create))
    }

    fn acquire_once(store: &Store, id: &JobId, create: Create) -> Result<Acquire> {
        let path = store.record_path(id);
        loop {
            let file = match fs::open_append(&path, create) {
                Ok(file) => file,
                Err(error) if create == Create::No && error.is_not_found() => return Ok(Acquire::NoRecord),
                Err(error) => return Err(error.into()),
            };
            let Some(file) = Locked::exclusive(file, &path)? else { return Ok(Acquire::Busy) };
            // [RECHECK] Only gc removes a record, under this lock: then ours is a file without a name.
            if !fs::is_same_file(&file, &path)? {
                continue;
            }
            let tail = record::tail(&file, &path)?;
            let record = tail.line.map(|line| record::parse(&line, &path, id)).transpose()?;
            let record = record.map(Record::without_what_is_known);
            let torn = tail.size > tail.complete;
            // An unsynced line of acceptance, or the first start, whose writer may have been killed, proves nothing.
            let named = record.as_ref().is_some_and(|record| {
                let attempts = record.line.next_attempt().saturating_sub(1);
                attempts > u32::from(record.line.open_attempt().is_some())
            });
            let id = id.clone();
            return Ok(Acquire::Held(Box::new(Self {
                id,
                path,
                file,
                record,
                end: tail.complete,
                torn,
                named,
                reserved: false,
            })));
        }
    }

    /// As `acquire`, but does not take a process that only looks (a claimer, a recovery) for a runner: unless the record says
    /// that an attempt is open, a busy lease is asked for again, for a fifth of a second.
    pub(crate) fn acquire_soon(store: &Store, id: &JobId, create: Create) -> Result<Acquire> {
        for _ in 0..TRIES {
            match Self::acquire(store, id, create)? {
                Acquire::Busy if !is_open(store, id) => clock::sleep(BETWEEN_TRIES),
                other => return Ok(other),
            }
        }
        Ok(Acquire::Busy)
    }

    /// The id.
    #[must_use]
    pub(crate) fn id(&self) -> &JobId {
        &self.id
    }

    /// The last line; `None` if the record is empty.
    #[must_use]
    pub fn line(&self) -> Option<&RecordLine> {
        self.record.as_ref().map(|record| &record.line)
    }

    /// Reserves the space of one line, so that the result can be written on a full disk.
    ///
    /// Fails where the disk is full.
    pub(crate) fn reserve(&mut self) -> Result<()> {
        self.cut_torn_tail()?;
        self.reserved = fs::reserve(&self.file, &self.path, self.end, 2 * MAX_LINE as u64)?;
        Ok(())
    }

    /// Makes durable what another process wrote, before anything is done because of it `REC_RESYNC`.
    pub(crate) fn resync(&self, store: &Store) -> Result<()> {
        store.sync_data(&self.file, &self.path)
    }

    /// Appends a line to the record, syncs it if asked to, and adds it to the journal.
    ///
    /// A crash before the sync leaves the former state or this one, after it this one; a crash before the journal
    /// line leaves a gap that recovery fills.
    ///
    /// # Errors
    /// File system errors: the line is then not in the record.
    pub fn commit(&mut self, store: &Store, line: RecordLine, sync: Sync) -> Result<()> {
        let told = self.commit_unjournaled(store, line, sync)?;
        if let Err(error) = journal::append(store, &told) {
            // The record is the truth; recovery fills the gap.
            tracing::warn!(error = causes(&error), "journal line not written");
        }
        Ok(())
    }

    /// As `commit`, and leaves the journal's line to the caller, who has many of them.
    pub(crate) fn commit_unjournaled(
        &mut self,
        store: &Store,
        mut line: RecordLine,
        sync: Sync,
    ) -> Result<JournalLine> {
        self.cut_torn_tail()?;
        line.each_path(&mut |path| *path = store.path_in_record(path));
        line.seq = self.line().map_or(1, |last| last.seq + 1);
        let new_life = self.line().is_some_and(|last| last.life != line.life);
        let mut carried = self.record.as_ref().map_or(Value::Null, |record| record.raw.clone());
        if let Some(object) = carried.as_object_mut() {
            // They hold free objects of one attempt, which must not be mixed with those of another.
            object.remove("result");
            object.remove("error_report");
            if new_life {
                object.remove("attempts");
            }
        }
        let bytes = encode(&self.path, &carried, &mut line)?;
        match sync {
            Sync::Later => self.append(&bytes)?,
            // The kernel drops what it could not write: the same bytes are never synced again, but written anew they are new
            // ones. The next holder must not find a line that only looks kept.
            Sync::Now => {
                self.append_durably(store, &bytes).or_else(|_| self.append_durably(store, &bytes))?;
            }
        }
        // Only a result is reported; the start of an attempt that is lost again is found at its end.
        if sync == Sync::Now && line.result.is_some() {
            self.check_kept()?;
        }
        let journal_line = JournalLine::from_record(&line);
        self.record = Some(Record { line, raw: carried });
        Ok(journal_line)
    }

    /// Appends bytes and syncs them; if either fails, nothing of them is left.
    fn append_durably(&mut self, store: &Store, bytes: &[u8]) -> Result<()> {
        let before = self.end;
        self.append(bytes)?;
        let synced = store.sync_data(&self.file, &self.path).and_then(|()| self.sync_name(store));
        if synced.is_err() {
            self.end = before;
            self.torn = true;
            self.cut_torn_tail()?;
        }
        synced
    }

    /// Proves that the record's name still leads to what was written, and that nothing follows it.
    fn check_kept(&self) -> Result<()> {
        if self.length()? == self.end && fs::is_same_file(&self.file, &self.path)? {
            return Ok(());
        }
        let problem = "another program removed, replaced or changed it while the engine held it";
        Err(StoreError::Unreadable { path: self.path.clone(), problem: problem.to_owned() })
    }

    fn length(&self) -> Result<u64> {
        Ok(self.at("looking at", self.file.metadata())?.len())
    }

    fn at<T>(&self, action: &'static str, done: std::io::Result<T>) -> Result<T> {
        done.map_err(|source| fs::FsError { action, path: self.path.clone(), source }.into())
    }

    /// Finds the real end of a file that others have written to, which the lock does not prevent: the next line begins there.
    fn find_end(&mut self) -> Result<()> {
        let length = self.length()?;
        if length == self.end {
            return Ok(());
        }
        tracing::warn!("`{}` was changed by another program", self.path.display());
        self.end = length;
        let mut last = [b'\n'];
        self.at("reading", self.file.read_at(&mut last, length.saturating_sub(1)))?;
        if last != [b'\n'] {
            fs::append(&self.file, &self.path, b"\n")?;
            self.end += 1;
        }
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.cut_torn_tail()?;
        self.find_end()?;
        if let Err(error) = fs::append(&self.file, &self.path, bytes) {
            // Whatever part was written is cut off again, else the next line would be glued to it.
            self.torn = true;
            let _ = self.cut_torn_tail();
            return Err(error.into());
        }
        self.end += bytes.len() as u64;
        Ok(())
    }

    /// Gives back what was reserved; after the last line of an attempt. Nothing depends on it, so a failure is only traced.
    pub(crate) fn give_back(&mut self) {
        // What others wrote behind the end is not cut off.
        let is_end = self.length().is_ok_and(|length| length == self.end);
        if !is_end || (!self.reserved && !self.holds_reserved_space()) {
            return;
        }
        match fs::truncate(&self.file, &self.path, self.end) {
            Ok(()) => self.reserved = false,
            Err(error) => tracing::debug!(error = causes(&error), "reserved space not given back"),
        }
    }

    /// True if a dead holder's reserved space is still there.
    fn holds_reserved_space(&self) -> bool {
        self.file.metadata().is_ok_and(|metadata| metadata.blocks() * 512 > self.end + MAX_LINE as u64)
    }

    /// `REC_NAME` Where a synced file does not make its own name durable, the first synced line does.
    fn sync_name(&mut self, store: &Store) -> Result<()> {
        if !self.named && store.ordering == Ordering::Unknown {
            store.sync_dir(&store.state("jobs"))?;
        }
        self.named = true;
        Ok(())
    }

    /// The complete lines of the record.
    ///
    /// A record that no number of lines of ours makes so large is `Unreadable`.
    pub(crate) fn history(&self) -> Result<Vec<u8>> {
        if self.end > LARGEST_HISTORY {
            let problem = format!("its {} bytes are more than the engine writes to a record", self.end);
            return Err(StoreError::Unreadable { path: self.path.clone(), problem });
        }
        let mut bytes = vec![0; usize::try_from(self.end).unwrap_or(usize::MAX)];
        self.at("reading", self.file.read_exact_at(&mut bytes, 0))?;
        Ok(bytes)
    }

    /// Removes the record, last of all that belonged to the job, and then gives the lease back: the id is free.
    ///
    /// A process that has the file open and waits for its lock finds that it lost its name, and starts again `RECHECK`.
    ///
    /// If it fails, the record stays.
    pub(crate) fn retire(self) -> Result<()> {
        fs::remove(&self.path)?;
        Ok(())
    }

    fn cut_torn_tail(&mut self) -> Result<()> {
        if self.torn {
            fs::truncate(&self.file, &self.path, self.end)?;
            self.torn = false;
        }
        Ok(())
    }
}

/// True if the record says that an attempt runs.
fn is_open(store: &Store, id: &JobId) -> bool {
    store
        .read_record(id)
        .is_ok_and(|record| record.is_some_and(|record| record.line.open_attempt().is_some()))
}
