//! Lists of jobs, the newest first.
//!
//! The journal, the directories or the cache say where to look; the shown values come from the record, or from the file of a
//! job that a person put into the queue. Changes nothing, locks nothing, decides nothing.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashSet};

use crate::clock::Timestamp;
use crate::fs::dir::Dir;
use crate::fs::{self, Entry};
use crate::job::event::short;
use crate::job::{Code, JobId, Place, RecordLine, Status};
use crate::queue::Result;
use crate::queue::attempt::{summary, unknown_summary};
use crate::queue::claim::{self, Content};
use crate::queue::foreign::{self, ForeignFile};
use crate::store::brief::{self, Reader};
use crate::store::hash::hash;
use crate::store::journal::follow::DISORDER;
use crate::store::journal::{self, Glance};
use crate::store::{Store, StoreError, runs};
use crate::view::facts::Trees;
use crate::view::waits::Waits;

pub use crate::view::row::Row;

/// Which jobs are wanted. Nothing set: all.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// In this state.
    pub state: Option<State>,
    /// Of this run.
    pub run: Option<String>,
    /// Of this workstream.
    pub workstream: Option<String>,
    /// Of this adapter.
    pub tool: Option<String>,
    /// Whether parts of other jobs are wanted.
    pub parts: Parts,
    /// Changed at this time or later.
    pub since: Option<Timestamp>,
    /// The newest so many.
    pub limit: Option<usize>,
}

/// Which jobs that are a part of another one are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Parts {
    /// None.
    #[default]
    None,
    /// All, beside the other jobs.
    Beside,
    /// Those of this job, and nothing else.
    Of(JobId),
}

impl Wanted {
    /// True if files are named that were moved aside because they are no jobs: they have neither run nor tool.
    fn names_foreign_files(&self) -> bool {
        let of_jobs = self.run.is_some() || self.workstream.is_some() || self.tool.is_some();
        self.state == Some(State::Is(Status::Quarantined)) && !of_jobs
    }
}

/// A state to look for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// As the record says.
    Is(Status),
    /// Queued, and something keeps it from starting.
    Waiting,
}

/// The listed jobs.
#[derive(Debug, Default)]
pub struct Listed {
    /// The jobs, the newest first.
    pub rows: Vec<Row>,
    /// Records that cannot be read.
    pub unreadable: Vec<StoreError>,
    /// Files in `quarantined/` that are no jobs, if quarantined jobs are wanted; the newest first, as many as jobs.
    pub foreign: Vec<ForeignFile>,
}

/// Lists jobs. A list of queued, running or waiting jobs is made from the files in `queued/` and `running/`; a job whose
/// file is missing there (power loss) is in the other lists, and `recover` finds it.
///
/// # Errors
/// File system errors; those of one record are in the answer.
pub fn list(store: &Store, now: Timestamp, wanted: &Wanted, trees: &dyn Trees) -> Result<Listed> {
    let mut found = Selection {
        store,
        now,
        trees,
        wanted,
        rows: BTreeMap::new(),
        looked_at: HashSet::new(),
        unreadable: Vec::new(),
    };
    let mut oldest = None;
    match wanted {
        Wanted { limit: Some(0), .. } => return Ok(Listed::default()),
        Wanted { state: Some(State::Is(Status::Queued | Status::Running) | State::Waiting), .. } => {}
        Wanted { run: Some(run), .. } => {
            found.confirm(&runs::ids(store, run)?.into_iter().collect::<Vec<_>>())?;
        }
        Wanted { limit: None, since: None, .. } => found.confirm(&store.recorded_ids()?)?,
        Wanted { .. } => oldest = found.walk_back()?,
    }
    found.in_directories(oldest)?;
    let mut listed = found.listed();
    if wanted.names_foreign_files() {
        listed.foreign = foreign::quarantined(store)?;
        listed.foreign.retain(|file| wanted.since.is_none_or(|since| file.at >= since));
        listed.foreign.truncate(wanted.limit.unwrap_or(usize::MAX));
    }
    Ok(listed)
}

struct Selection<'a> {
    store: &'a Store,
    now: Timestamp,
    trees: &'a dyn Trees,
    wanted: &'a Wanted,
    rows: BTreeMap<JobId, Row>,
    /// The jobs whose records were read, whatever the outcome.
    looked_at: HashSet<JobId>,
    unreadable: Vec<StoreError>,
}

impl Selection<'_> {
    /// True if a job may be wanted; whether it waits is checked later.
    fn may_be_wanted(&self, row: &Row) -> bool {
        let Wanted { state, run, workstream, tool, parts, since, limit: _ } = self.wanted;
        let parent = row.job.parent.as_ref();
        let of_parts = match parts {
            Parts::None => parent.is_none(),
            Parts::Beside => true,
            Parts::Of(id) => parent == Some(id),
        };
        let status = match state {
            None => true,
            Some(State::Is(status)) => row.status == *status,
            Some(State::Waiting) => row.status == Status::Queued,
        };
        let is =
            |wanted: &Option<String>, value: Option<&str>| wanted.is_none() || wanted.as_deref() == value;
        status
            && of_parts
            && is(run, row.job.run_id.as_deref())
            && is(workstream, row.job.workstream_id.as_deref())
            && is(tool, row.job.tool.as_ref().map(crate::job::ToolId::as_str))
            && since.is_none_or(|since| row.at >= since)
    }

    fn add(&mut self, row: Row) {
        if self.may_be_wanted(&row) {
            self.rows.insert(row.id.clone(), row);
        }
    }

    /// Reads the records of these jobs.
    fn confirm(&mut self, ids: &[JobId]) -> Result<()> {
        let store = self.store;
        let read = brief::read_many(store, ids, |_, line| row_of(store, line).transpose())?;
        self.looked_at.extend(ids.iter().cloned());
        for row in read {
            match row {
                Ok(row) => self.add(row),
                Err(error) => self.unreadable.push(error),
            }
        }
        Ok(())
    }

    /// Reads the journal backward until older lines cannot matter; the time before which nothing is wanted. If that
    /// is not reached, reads the records too of which the journal says nothing.
    fn walk_back(&mut self) -> Result<Option<Timestamp>> {
        let mut newest = Newest::new(self.wanted);
        let mut reader = Reader::open(self.store)?;
        let mut named = HashSet::new();
        for part in journal::open(self.store)?.iter().rev() {
            let mut blocks = part.backward()?;
            while let Some(block) = blocks.block()? {
                let mut latest = None;
                for line in journal::glances(&block).rev() {
                    latest = latest.max(Some(line.at));
                    named.insert(hash(line.job_id.as_bytes()));
                    if newest.oldest().is_some_and(|oldest| line.at < oldest)
                        || !self.line_may_be_wanted(&line)
                    {
                        continue;
                    }
                    self.look_at(&line, &mut reader, &mut newest);
                }
                let bound = newest.oldest();
                if latest.zip(bound).is_some_and(|(latest, oldest)| latest.after(DISORDER) < oldest) {
                    return Ok(bound);
                }
            }
        }
        let mut rest = self.store.recorded_ids()?;
        rest.retain(|id| !named.contains(&hash(id.as_str().as_bytes())));
        self.confirm(&rest)?;
        Ok(None)
    }

    /// A line may tell an older state than the record: then a later line of the job has been, or will be, met.
    fn line_may_be_wanted(&self, line: &Glance<'_>) -> bool {
        let Wanted { state, workstream, tool, .. } = self.wanted;
        let is = |wanted: &Option<String>, value: &Option<journal::Text<'_>>| {
            wanted.as_ref().is_none_or(|wanted| value.as_ref().is_some_and(|text| text.0 == short(wanted)))
        };
        state.is_none_or(|state| state == State::Is(line.status))
            && is(workstream, &line.workstream_id)
            && is(tool, &line.tool)
    }

    fn look_at(&mut self, line: &Glance<'_>, reader: &mut Reader, newest: &mut Newest) {
        let Ok(id) = JobId::new(&line.job_id) else { return };
        if !self.looked_at.insert(id.clone()) {
            return;
        }
        match row_of(self.store, reader.last_line(&id)) {
            Ok(Some(row)) if self.may_be_wanted(&row) => {
                newest.add(row.at);
                self.add(row);
            }
            Ok(_) => {}
            Err(error) => self.unreadable.push(error),
        }
    }

    /// Adds what is in `running/` and `queued/` and was not found yet, unless it is older than what is wanted.
    fn in_directories(&mut self, oldest: Option<Timestamp>) -> Result<()> {
        for place in [Place::Running, Place::Queued] {
            let mut ids = Vec::new();
            for (id, look) in job_files(self.store, &place)? {
                let too_old = oldest.is_some_and(|oldest| look.modified.after(DISORDER) < oldest);
                if look.entry == Entry::Ours && !too_old && !self.rows.contains_key(&id) {
                    ids.push(id);
                }
            }
            let looked_at = &self.looked_at;
            let read = brief::read_many(self.store, &ids, |id, line| Some((id.clone(), line)))?;
            let read: Vec<_> =
                read.into_iter().filter(|(id, line)| line.is_ok() || !looked_at.contains(id)).collect();
            for (id, line) in read {
                match line {
                    Ok(line) => {
                        if let Some(row) = in_directory(self.store, &id, &place, line) {
                            self.add(row);
                        }
                    }
                    Err(error) => self.unreadable.push(error),
                }
                self.looked_at.insert(id);
            }
        }
        Ok(())
    }

    fn listed(self) -> Listed {
        let mut rows: Vec<Row> = self.rows.into_values().collect();
        rows.sort_by(|a, b| newest_first(a).cmp(&newest_first(b)));
        let limit = self.wanted.limit.unwrap_or(usize::MAX);
        let only_waiting = self.wanted.state == Some(State::Waiting);
        if !only_waiting {
            rows.truncate(limit);
        }
        let mut waits = Waits::look(self.store, self.now, self.trees);
        for row in rows.iter_mut().filter(|row| row.status == Status::Queued && row.problem.is_none()) {
            row.waiting = waits.reason(row);
        }
        if only_waiting {
            rows.retain(|row| row.waiting.is_some());
            rows.truncate(limit);
        }
        Listed { rows, unreadable: self.unreadable, foreign: Vec::new() }
    }
}

/// Of jobs that changed at once, those accepted later are newer; within a batch, those further back in it.
fn newest_first(row: &Row) -> (Reverse<(Timestamp, Timestamp, u32)>, &JobId) {
    (Reverse((row.at, row.accepted.at, row.accepted.place)), &row.id)
}

/// The times of the newest so many jobs.
struct Newest {
    limit: Option<usize>,
    since: Option<Timestamp>,
    times: BinaryHeap<Reverse<Timestamp>>,
}

impl Newest {
    fn new(wanted: &Wanted) -> Self {
        Self { limit: wanted.limit, since: wanted.since, times: BinaryHeap::new() }
    }

    fn add(&mut self, at: Timestamp) {
        let Some(limit) = self.limit else { return };
        self.times.push(Reverse(at));
        if self.times.len() > limit {
            self.times.pop();
        }
    }

    /// Older jobs than this are not wanted.
    fn oldest(&self) -> Option<Timestamp> {
        let full = self.limit == Some(self.times.len());
        self.times.peek().filter(|_| full).map(|time| time.0).max(self.since)
    }
}

fn row_of(
    store: &Store,
    line: crate::store::Result<Option<RecordLine>>,
) -> std::result::Result<Option<Row>, StoreError> {
    match line? {
        // A free id: nothing was ever run, and nothing waits.
        Some(line) if store.is_free(&line)? => Ok(None),
        line => Ok(line.map(Row::from_last_line)),
    }
}

/// A file in `queued/` or `running/`, with its record if it has one; `None`: it is gone again.
pub(super) fn in_directory(
    store: &Store,
    id: &JobId,
    place: &Place,
    line: Option<RecordLine>,
) -> Option<Row> {
    match line {
        // Started by no process that a record knows of: recovery will call it lost.
        Some(line) if *place == Place::Running && line.is_untouched() => {
            Some(Row::without_record(id, place.clone(), line.at, line.job))
        }
        Some(line) => Some(Row::from_last_line(line)),
        None => put_there(store, id, place),
    }
}

/// A job file that a person put there.
fn put_there(store: &Store, id: &JobId, place: &Place) -> Option<Row> {
    let path = store.job_file(place, id);
    let modified =
        std::fs::symlink_metadata(&path).ok().and_then(|metadata| Timestamp::modified(&metadata))?;
    let (content, _) = claim::read_at(&path, id, true, modified).ok()?;
    let empty = |problem| {
        let row = Row::without_record(id, place.clone(), modified, unknown_summary());
        Some(Row { problem: Some(problem), ..row })
    };
    match content {
        Content::Job(parsed, bytes) => {
            let row = Row::without_record(id, place.clone(), modified, summary(&parsed.job, &bytes));
            Some(Row { not_before: parsed.job.not_before, ..row })
        }
        Content::Invalid(_) => empty(Code::InvalidJobFile),
        Content::Foreign(reason) => empty(reason.code),
    }
}

/// The entries with the name of a job file at a place, each with its kind.
pub(super) fn job_files(store: &Store, place: &Place) -> Result<Vec<(JobId, fs::dir::Look)>> {
    let path = store.place_dir(place);
    let Some(dir) = Dir::open(&path)? else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for name in fs::names(&path)? {
        let Some(id) = name.strip_suffix(".json").and_then(|stem| JobId::new(stem).ok()) else { continue };
        if let Some(look) = dir.look(&name)? {
            found.push((id, look));
        }
    }
    Ok(found)
}
