//! Claims, recovery, batches and gc on roots in temporary directories, with a clock that only a test turns.
//!
//! A test makes many cases, each a job or a root of its own. Hard rule: nothing here starts a process.

mod claim;
mod gc;
mod ready;
mod recovery;
pub(super) mod rests;
mod submit;

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::attempt::{next_line, open_attempt};
use super::places;
use crate::clock::testing::ManualClock;
use crate::clock::{Clock, Timestamp};
use crate::fs::{self, Create};
use crate::job::{Attempt, JobId, Outcome, Place, RecordLine, Status};
use crate::store::lease::Sync;
use crate::store::{Acquire, Durability, Lease, Store, testing};

/// A root, and the time in it: noon of a day of its own.
struct Root {
    _dir: tempfile::TempDir,
    store: Store,
    clock: ManualClock,
}

/// The last line of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    /// There is no record.
    NoRecord,
    /// The record has none.
    Empty,
    Accepted,
    /// The second life of a job.
    Requeued,
    /// Waits for its second attempt.
    Retry,
    /// The first attempt is open.
    Started,
    /// The second one is.
    StartedAgain,
    Ended(Status),
}

/// The places of the files of a job, besides the one that its record names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Files {
    None,
    Queued,
    Running,
    Both,
}

const ALL_FILES: [Files; 4] = [Files::None, Files::Queued, Files::Running, Files::Both];

impl Files {
    fn places(self) -> &'static [Place] {
        match self {
            Self::None => &[],
            Self::Queued => &[Place::Queued],
            Self::Running => &[Place::Running],
            Self::Both => &[Place::Queued, Place::Running],
        }
    }
}

fn id(text: &str) -> JobId {
    JobId::new(text).unwrap()
}

/// A job that does nothing, with more keys.
fn document(id: &JobId, more: &Value) -> Value {
    let mut document = json!({"job_id": id, "tool": "shell", "command": {"exe": "true"}});
    for (key, value) in more.as_object().unwrap() {
        document[key] = value.clone();
    }
    document
}

impl Root {
    fn new() -> Self {
        let (dir, mut store) = testing::store();
        store.config.durability = Durability::Fast;
        store.config.min_free_bytes = 0;
        let noon = Timestamp::parse("2026-06-15T12:00:00Z").unwrap();
        Self { _dir: dir, store, clock: ManualClock::starting_at(noon) }
    }

    /// Puts a file into a directory of the queue, last changed so long ago.
    fn put(&self, place: &Place, id: &JobId, bytes: &[u8], age: Duration) {
        fs::create_dir(&self.store.place_dir(place)).unwrap();
        let file = fs::create_new(&self.store.job_file(place, id), bytes).unwrap();
        let changed = Duration::from_millis(self.clock.now().before(age).as_millis().unsigned_abs());
        file.set_modified(SystemTime::UNIX_EPOCH + changed).unwrap();
    }

    /// The same of a valid job that has stayed unchanged.
    fn put_job(&self, place: &Place, id: &JobId, more: &Value) {
        self.put(place, id, document(id, more).to_string().as_bytes(), Duration::from_secs(60));
    }

    fn lease(&self, id: &JobId, create: Create) -> Option<Box<Lease>> {
        match Lease::acquire(&self.store, id, create).unwrap() {
            Acquire::Held(lease) => Some(lease),
            Acquire::Busy | Acquire::NoRecord => None,
        }
    }

    /// Appends a line to a record.
    fn write(&self, id: &JobId, change: impl FnOnce(&mut RecordLine)) {
        let mut lease = self.lease(id, Create::IfMissing).unwrap();
        let mut line = next_line(&lease, self.clock.now());
        change(&mut line);
        lease.commit(&self.store, line, Sync::Later).unwrap();
    }

    /// Attempts of this machine; one without an outcome is open.
    fn attempts(&self, outcomes: &[Option<Outcome>]) -> Vec<Attempt> {
        let attempt = |(outcome, number): (&Option<Outcome>, u32)| Attempt {
            outcome: *outcome,
            ..open_attempt(&self.store, number, self.clock.now())
        };
        outcomes.iter().zip(1..).map(attempt).collect()
    }

    /// Writes a record with this last line.
    fn record(&self, id: &JobId, line: Line) {
        let set = |status: Status, place: Place, outcomes: &[Option<Outcome>]| {
            let attempts = self.attempts(outcomes);
            self.write(id, |line| {
                (line.status, line.place, line.attempts) = (status, place, attempts);
            });
        };
        match line {
            Line::NoRecord => {}
            Line::Empty => drop(self.lease(id, Create::IfMissing)),
            Line::Accepted => set(Status::Queued, Place::Queued, &[]),
            Line::Requeued => self.write(id, |line| line.life = 2),
            Line::Retry => set(Status::Queued, Place::Queued, &[Some(Outcome::Failed)]),
            Line::Started => set(Status::Running, Place::Running, &[None]),
            Line::StartedAgain => set(Status::Running, Place::Running, &[Some(Outcome::Failed), None]),
            Line::Ended(status) => {
                let (outcome, place) = match status {
                    Status::Succeeded => (Outcome::Succeeded, self.done()),
                    Status::Canceled => (Outcome::Canceled, self.done()),
                    Status::Failed => (Outcome::Failed, self.done()),
                    _ => (Outcome::Failed, Place::Quarantined),
                };
                set(status, place, &[Some(outcome)]);
            }
        }
    }

    /// Where the jobs of this day end.
    fn done(&self) -> Place {
        Place::Done(self.clock.now().day())
    }

    fn line_of(&self, id: &JobId) -> Option<RecordLine> {
        self.store.read_record(id).unwrap().map(|record| record.line)
    }

    /// Where the files of a job are, whatever the directory.
    fn places_of(&self, id: &JobId) -> Vec<Place> {
        let mut all = vec![Place::Queued, Place::Running, Place::Quarantined];
        all.extend(fs::names(&self.store.root().join("jobs/done")).unwrap().into_iter().map(Place::Done));
        all.retain(|place| places::is_at(&self.store, id, place).unwrap());
        all
    }

    /// The names of all files below the root, with what is in them: what a command must not change.
    fn snapshot(&self) -> Vec<(String, Vec<u8>)> {
        let files =
            walkdir::WalkDir::new(self.store.root()).sort_by_file_name().into_iter().map(Result::unwrap);
        let files = files.filter(|entry| entry.file_type().is_file());
        files
            .map(|entry| (entry.path().display().to_string(), std::fs::read(entry.path()).unwrap()))
            .collect()
    }
}
