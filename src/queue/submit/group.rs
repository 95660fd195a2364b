//! A group of jobs that enter together: steps 1 to 5 of protocol 2, with shared syncs.
//!
//! Responsible for the order of what is written and for leaving nothing behind where it fails. Hard rule: a job counts as
//! accepted only when its file and the name of its file are durable.
//!
//! What a crash leaves, step by step: after the leases empty records, which are free ids · after the keys key files of
//! free ids, which the next claimant takes over · after the files temporary files, which recovery removes · after the
//! names unreported jobs: they run, and `--skip-existing` finds them · after the sync of `queued/`, all of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::answer::{AcceptedAs, AcceptedJob, IfExists, IfRefused, Options, Submitted};
use super::batch::{Batch, Fate};
use super::existing::{self, Compared, Existing, Settled};
use super::key::{self, Claimant, Taking};
use super::refusal::Refusal;
use crate::causes::causes;
use crate::clock::Clock;
use crate::fs::steps::{Step, step};
use crate::fs::{self, Create};
use crate::job::{Code, JobId, Place, parse, parse_job};
use crate::queue::door::{self, FirstLine, Incoming};
use crate::queue::places::{self, TemporarySync};
use crate::queue::{QueueError, Result, situation};
use crate::store::batch_sync::BatchSync;
use crate::store::{Acquire, Lease, Record, Store, archived, journal, keys};

/// Whether the batch continues after a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stopped {
    Yes,
    No,
}

/// A free id under its lease, and how far it has come.
struct Entering {
    id: JobId,
    lease: Box<Lease>,
    /// The key that was taken for it just now.
    key: Option<String>,
    first_line: Option<FirstLine>,
    written: Written,
}

enum Written {
    Not,
    Temporary(PathBuf),
    Named,
}

/// Jobs on their way in together.
pub(super) struct Group<'a> {
    store: &'a Store,
    clock: &'a dyn Clock,
    batch: &'a mut Batch,
    options: Options,
    entering: BTreeMap<usize, Entering>,
    /// The outcome of each; new jobs are added once they are durable.
    pub outcomes: BTreeMap<usize, Submitted>,
    /// What must be durable before anything is reported.
    unsynced: Vec<PathBuf>,
    /// Directories likewise, before the queue.
    directories: BTreeSet<PathBuf>,
    pub stopped: Stopped,
}

impl<'a> Group<'a> {
    pub(super) fn new(
        store: &'a Store,
        clock: &'a dyn Clock,
        batch: &'a mut Batch,
        options: Options,
    ) -> Self {
        Self {
            store,
            clock,
            batch,
            options,
            entering: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            unsynced: Vec::new(),
            directories: BTreeSet::new(),
            stopped: Stopped::No,
        }
    }

    /// Lets the group in, or leaves nothing of it.
    pub(super) fn enter(&mut self, indexes: std::ops::Range<usize>) -> Result<()> {
        let sync = BatchSync::begin(self.store)?;
        let entered = self.decide(indexes).and_then(|()| match self.stopped {
            Stopped::No => self.publish(&sync),
            Stopped::Yes => Ok(()),
        });
        if entered.is_err() || self.stopped == Stopped::Yes {
            self.withdraw();
            self.outcomes.retain(|_, outcome| matches!(outcome, Submitted::Refused(_)));
            return entered;
        }
        self.record();
        step(Step::Tell, self.store.root());
        Ok(())
    }

    /// Gives the leases back; returns the outcome of each job.
    pub(super) fn into_outcomes(self) -> (BTreeMap<usize, Submitted>, Stopped) {
        (self.outcomes, self.stopped)
    }

    /// Takes the leases and the keys, and then decides which jobs enter.
    fn decide(&mut self, indexes: std::ops::Range<usize>) -> Result<()> {
        let members = self.batch.members.iter().enumerate().take(indexes.end).skip(indexes.start);
        let mut ids: Vec<(JobId, usize)> = members
            .filter(|(_, member)| member.fate == Fate::Goes)
            .map(|(index, member)| (member.id.clone(), index))
            .collect();
        // Two batches of the same ids meet at the first id, and neither waits for leases of the other.
        ids.sort();
        for (id, index) in ids {
            match existing::settled(self.store, self.clock, &id, &self.batch.patience)? {
                Settled::Free(lease) => {
                    let new = Entering { id, lease, key: None, first_line: None, written: Written::Not };
                    self.entering.insert(index, new);
                }
                Settled::Taken(existing) => self.taken(index, &existing)?,
                Settled::Blocked(reason) => {
                    self.refuse(index, Refusal::new(Code::JobFileNotTrusted, "/job_id", reason.message))?;
                }
                Settled::Busy => {
                    let message = format!("another process is changing the job `{id}`; try again");
                    self.refuse(index, Refusal::new(Code::IdBusy, "/job_id", message))?;
                }
            }
        }
        let held: BTreeSet<JobId> = self.entering.values().map(|new| new.id.clone()).collect();
        for index in indexes {
            if self.entering.contains_key(&index) {
                self.claim_key(index, &held)?;
            }
        }
        Ok(())
    }

    fn refuse(&mut self, index: usize, why: Refusal) -> Result<()> {
        let refused = self.batch.refuse(index, why)?;
        self.outcomes.insert(index, Submitted::Refused(refused));
        if self.options.if_refused == IfRefused::Stop {
            self.stopped = Stopped::Yes;
        }
        Ok(())
    }

    /// Counts an existing job as the submitted one, once it is durable.
    fn count(&mut self, index: usize, existing: &Existing, accepted_as: AcceptedAs) {
        self.unsynced.extend(existing.unsynced(self.store));
        self.directories.insert(self.store.place_dir(&Place::Queued));
        let place = existing.place.clone();
        self.outcomes
            .insert(index, Submitted::Accepted(AcceptedJob { id: existing.id.clone(), accepted_as, place }));
    }

    /// The id is taken: by the same job, or by another.
    fn taken(&mut self, index: usize, existing: &Existing) -> Result<()> {
        if existing.is_unreadable(self.store)? {
            let message = format!("the file of the job `{}` in the queue is not a job file", existing.id);
            return self.refuse(index, Refusal::new(Code::JobFileUnreadable, "/job_id", message));
        }
        let compared = match self.batch.members.get(index) {
            Some(member) => existing.compared(self.store, &self.batch.bytes(member.span)?)?,
            None => Compared::Unknown,
        };
        let accepted_as = match self.options.if_exists {
            IfExists::Skip => match Refusal::not_skipped(existing, compared, self.store) {
                Some(why) => return self.refuse(index, why),
                None => AcceptedAs::Skipped,
            },
            IfExists::Refuse if compared == Compared::Same && self.has_its_key(index, existing)? => {
                AcceptedAs::Reused
            }
            IfExists::Refuse => {
                return match Refusal::taken(existing.situation, &existing.id) {
                    Some(why) => self.refuse(index, why),
                    None => Ok(()),
                };
            }
        };
        self.count(index, existing, accepted_as);
        Ok(())
    }

    /// True if a job has a key, and nothing says that it belongs to another than the job that has its id.
    fn has_its_key(&self, index: usize, existing: &Existing) -> Result<bool> {
        let Some((key, _)) = self.keyed(index)? else { return Ok(false) };
        Ok(keys::owner(self.store, &key)?.is_none_or(|owner| owner == existing.id))
    }

    /// The key of a job, if it has one, and its content.
    fn keyed(&self, index: usize) -> Result<Option<(String, serde_json::Value)>> {
        let Some(member) = self.batch.members.get(index) else { return Ok(None) };
        let Some(key) = member.key.clone() else { return Ok(None) };
        Ok(parse::content(&self.batch.bytes(member.span)?).map(|content| (key, content)))
    }

    /// Makes sure that the key of a job is its own, before any process can see the job.
    fn claim_key(&mut self, index: usize, held: &BTreeSet<JobId>) -> Result<()> {
        let Some((key, content)) = self.keyed(index)? else { return Ok(()) };
        let Some(id) = self.entering.get(&index).map(|new| new.id.clone()) else { return Ok(()) };
        self.unsynced.push(keys::path(self.store, &key));
        self.directories.insert(keys::dir(self.store));
        let claimant = Claimant { id: &id, key: &key, content: &content };
        let refused = match key::take(self.store, self.clock, claimant, (held, &self.batch.patience))? {
            Taking::Ours => None,
            Taking::Same(existing) => {
                self.entering.remove(&index);
                self.count(index, &existing, AcceptedAs::Reused);
                return Ok(());
            }
            Taking::Other(owner) => Some(Refusal::key_taken(&owner)),
            Taking::NotCompared(owner) => Some(Refusal::key_not_compared(&owner)),
            Taking::Busy => Some(Refusal::key_busy()),
        };
        if let Some(why) = refused {
            self.entering.remove(&index);
            return self.refuse(index, why);
        }
        if let Some(new) = self.entering.get_mut(&index) {
            new.key = Some(key);
        }
        Ok(())
    }

    /// Writes the files, makes them durable, gives them their names, and makes those durable.
    fn publish(&mut self, sync: &BatchSync) -> Result<()> {
        for (index, new) in &mut self.entering {
            let Some(member) = self.batch.members.get(*index) else { continue };
            let bytes = self.batch.bytes(member.span)?;
            let temporary = places::write_temporary(self.store, &bytes, TemporarySync::Never)?;
            self.unsynced.push(temporary.clone());
            new.written = Written::Temporary(temporary);
            // It was valid when it was read.
            if let Ok(parsed) = parse_job(&bytes, "") {
                new.first_line = Some(FirstLine::new(Incoming { job: &parsed.job, bytes: &bytes }, *index));
            }
        }
        self.keep_dependencies()?;
        // [SUBMIT_DATA] [SKIP_SYNC]
        sync.sync(self.store, &self.unsynced)?;
        for new in self.entering.values_mut() {
            if let Written::Temporary(temporary) = &new.written {
                door::name(self.store, temporary, &new.id)?;
                new.written = Written::Named;
            }
        }
        // [SUBMIT_DIR] The queue last: a job without its key would be submitted again.
        let queue = (!self.entering.is_empty()).then(|| self.store.place_dir(&Place::Queued));
        let before = self.directories.iter().filter(|directory| Some(*directory) != queue.as_ref());
        for directory in before.chain(&queue) {
            self.store.sync_dir(directory)?;
        }
        Ok(())
    }

    /// Writes what is not promised any more: the first lines of the records.
    fn record(&mut self) {
        let mut lines = Vec::with_capacity(self.entering.len());
        for (index, new) in &mut self.entering {
            let first = new.first_line.take();
            let line = first.map(|first| door::queued_line(self.store, self.clock, &mut new.lease, first));
            match line {
                Some(Ok(line)) => lines.push(line),
                // The file in `queued/` is what was promised: a job without a record waits like any other.
                Some(Err(error)) => tracing::warn!(
                    error = causes(&error),
                    "the record of {} does not say yet that it is queued",
                    new.id
                ),
                None => {}
            }
            let inside =
                AcceptedJob { id: new.id.clone(), accepted_as: AcceptedAs::New, place: Place::Queued };
            self.outcomes.insert(*index, Submitted::Accepted(inside));
        }
        if let Err(error) = journal::append_all(self.store, &lines) {
            tracing::warn!(error = causes(&error), "journal lines not written");
        }
    }

    /// Makes sure that the dependencies of the jobs do not go while the jobs enter: gc looks at the files in `queued/`, temporary
    /// ones too, after it has taken its leases. An ended job that has a free lease now, with our files there, stays; a job in
    /// the archive is judged by that.
    fn keep_dependencies(&self) -> Result<()> {
        let ours: BTreeSet<&JobId> = self.batch.members.iter().map(|member| &member.id).collect();
        let mut seen: BTreeSet<&JobId> = BTreeSet::new();
        for index in self.entering.keys() {
            let Some(member) = self.batch.members.get(*index) else { continue };
            for on in member.ahead.iter().filter(|on| !ours.contains(on)) {
                let is_gone = seen.insert(on) && is_retired(self.store, on)?;
                if is_gone && archived::last_of(self.store, on)?.is_none() {
                    return Err(QueueError::DependencyRetired { id: member.id.clone(), on: on.clone() });
                }
            }
        }
        Ok(())
    }

    /// Takes everything of the group out again; nothing of it was reported.
    fn withdraw(&mut self) {
        for new in self.entering.values_mut() {
            match &new.written {
                Written::Not => {}
                Written::Temporary(temporary) => warn("a temporary file stays", fs::remove(temporary)),
                Written::Named => door::withdraw(self.store, &mut new.lease),
            }
            if let Some(key) = &new.key {
                warn("a key stays with a free id", keys::give_back(self.store, key, &new.id));
            }
        }
        self.entering.clear();
    }
}

/// True if an ended job is gone, or is held by a process that does not run it: gc.
fn is_retired(store: &Store, id: &JobId) -> Result<bool> {
    let ended = |record: Option<Record>| record.map(|record| record.line.status.is_terminal());
    match ended(store.read_record(id)?) {
        Some(true) => {}
        Some(false) => return Ok(false),
        // A file that a person put there has no record, and gc lets it be.
        None => return Ok(!situation::is_taken(store, id)?),
    }
    match Lease::acquire_soon(store, id, Create::No)? {
        Acquire::Held(_) => Ok(false),
        Acquire::NoRecord => Ok(true),
        Acquire::Busy => Ok(ended(store.read_record(id)?) != Some(false)),
    }
}

fn warn<T, E: std::error::Error>(what: &str, done: std::result::Result<T, E>) {
    if let Err(error) = done {
        tracing::warn!(error = causes(&error), "{what}");
    }
}
