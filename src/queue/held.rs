//! Whether a job is at rest by itself, whatever it comes after: it has ended, or it is held, that is queued behind a dependency
//! that ended without success. `queue/rest.rs` looks at what it comes after.
//!
//! Looks without leases. Hard rule `AFTER_RECHECK`: a queued job is taken for held only if its record has not changed between
//! the look before that at the job which holds it and the look after: so there was a moment at which it was at rest.

use std::collections::{BTreeMap, BTreeSet};

use super::claim::{self, Content};
use super::follow::{Followed, NotMet, follow_through};
use super::{QueueError, Result};
use crate::causes::causes;
use crate::clock::Timestamp;
use crate::job::record::Dependency;
use crate::job::{JobId, Place, RecordLine, Status};
use crate::store::Store;

/// A job that is not at rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Moving {
    /// What the job that decides is.
    pub why: NotMet,
    /// `AFTER_FIRST`: the first job below that runs, or else the first that can still move. Its end is to be waited for.
    pub first: JobId,
    /// True if that one runs.
    pub runs: bool,
}

impl Moving {
    /// The two jobs whose ends may put a job at rest: it, but if it has ended already, and the first.
    pub(crate) fn waited_for(self, job: JobId) -> (JobId, JobId) {
        match self.why {
            NotMet::Is(_, status) if status.is_terminal() => (self.first.clone(), self.first),
            _ => (job, self.first),
        }
    }
}

/// Looks at jobs one after the other, and remembers what they have in common.
///
/// What it remembers of jobs that can move, or have succeeded, may be old: it takes a job that rests for one that moves, never the
/// other way round. What holds others is looked at again.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// Queued jobs that are held, each with what holds it.
    held: BTreeMap<JobId, End>,
    /// Queued jobs that can move, each with the first below.
    free: BTreeMap<JobId, First>,
    /// Dependencies that have succeeded.
    succeeded: BTreeSet<JobId>,
}

/// The end of a job: the line that says so, and the jobs that were escalated on the way to it.
#[derive(Debug, Clone)]
pub(super) struct End {
    /// The line that says so.
    pub line: Dependency,
    through: Vec<JobId>,
    /// Where its file is, if it ended before an attempt of its life.
    unstarted_at: Option<Place>,
}

impl End {
    /// The jobs that it is made of.
    pub(super) fn into_jobs(self) -> Vec<JobId> {
        let mut jobs = self.through;
        jobs.push(self.line.job_id);
        jobs
    }
}

/// The first job that can still move, and whether it runs.
pub(super) type First = (JobId, bool);

/// A job that is at rest only if those that it comes after are.
pub(super) struct Unstarted {
    /// Its id.
    pub id: JobId,
    /// Where its file is.
    pub place: Place,
    /// Its last line, if it has one.
    pub seq: Option<u64>,
}

/// What a look at a job found, whatever it comes after.
pub(super) enum Alone {
    /// It is at rest, with this status; by this end.
    Rests(Dependency, End, Option<Unstarted>),
    /// It can still move.
    Moves(Moving),
}

/// One look at one job.
enum Seen {
    Ended(End),
    Queued(Queued),
    Moves(Moving),
}

/// A queued job, its last line if it has one, and the jobs that were escalated to it.
struct Queued {
    id: JobId,
    seq: Option<u64>,
    through: Vec<JobId>,
}

/// A queued job whose dependencies are looked at.
struct Frame {
    job: Queued,
    depends_on: std::vec::IntoIter<JobId>,
    first: Option<First>,
}

impl Frame {
    /// Notes what can still move below; what runs counts more.
    fn note(&mut self, first: First) {
        if self.first.as_ref().is_none_or(|(_, runs)| first.1 && !runs) {
            self.first = Some(first);
        }
    }
}

/// What a look at the next dependencies of a frame led to.
enum Step {
    Down(Frame),
    Held(End),
    Free,
}

impl Held {
    /// Forgets what may have changed since the last look; that a job has succeeded is kept, for it seldom runs again.
    pub(super) fn begin(&mut self) {
        self.held.clear();
        self.free.clear();
    }

    /// Looks at a job, and at nothing that it comes after.
    ///
    /// # Errors
    /// File system errors; a record that cannot be read only makes its job one that may move.
    pub(super) fn look(&mut self, store: &Store, id: &JobId) -> Result<Alone> {
        let named = |status, seq| Dependency { job_id: id.clone(), status, seq };
        let queued = match see(store, id)? {
            Seen::Ended(end) => {
                let line = named(end.line.status, end.line.seq);
                let job = end.unstarted_at.clone().map(|place| {
                    let Dependency { job_id, seq, .. } = end.line.clone();
                    Unstarted { id: job_id, place, seq: Some(seq) }
                });
                return Ok(Alone::Rests(line, end, job));
            }
            Seen::Moves(moving) => return Ok(Alone::Moves(moving)),
            Seen::Queued(queued) => queued,
        };
        let line = named(Status::Queued, queued.seq.unwrap_or_default());
        let why = NotMet::Is(queued.id.clone(), Status::Queued);
        let job = Unstarted { id: queued.id.clone(), place: Place::Queued, seq: queued.seq };
        // Above all: it is never left, so the loop ends within.
        let above = Queued { id: id.clone(), seq: None, through: Vec::new() };
        let mut top = Frame { job: above, depends_on: Vec::new().into_iter(), first: None };
        let mut path = Vec::new();
        let mut step = self.enter(store, &mut top, queued)?;
        loop {
            let held = match step.take() {
                Some(Step::Down(frame)) => {
                    path.push(frame);
                    None
                }
                Some(Step::Held(end)) => self.rise(store, (&mut path, &mut top), end)?,
                Some(Step::Free) => {
                    self.leave(&mut path, &mut top);
                    None
                }
                None => None,
            };
            if let Some(end) = held {
                return Ok(Alone::Rests(line, end, Some(job)));
            }
            let Some(frame) = path.last_mut() else { break };
            step = Some(self.next(store, frame)?);
        }
        let (first, runs) = top.first.unwrap_or_else(|| (id.clone(), false));
        Ok(Alone::Moves(Moving { why, first, runs }))
    }

    /// Looks at the next dependencies of a job.
    fn next(&mut self, store: &Store, frame: &mut Frame) -> Result<Step> {
        while let Some(on) = frame.depends_on.next() {
            if self.succeeded.contains(&on) {
                continue;
            }
            match see(store, &on)? {
                Seen::Ended(end) if end.line.status == Status::Succeeded => drop(self.succeeded.insert(on)),
                Seen::Ended(end) => return Ok(Step::Held(end)),
                Seen::Moves(moving) => frame.note((moving.first, moving.runs)),
                Seen::Queued(queued) => {
                    if let Some(step) = self.enter(store, frame, queued)? {
                        return Ok(step);
                    }
                }
            }
        }
        Ok(Step::Free)
    }

    /// Comes to a queued job below another; `None` if it is known that it can move.
    fn enter(&mut self, store: &Store, above: &mut Frame, job: Queued) -> Result<Option<Step>> {
        if let Some(end) = self.held.get(&job.id).cloned() {
            if is_still(store, &end)? {
                return Ok(Some(Step::Held(end)));
            }
            self.held.remove(&job.id);
        }
        if let Some(first) = self.free.get(&job.id) {
            above.note(first.clone());
            return Ok(None);
        }
        // Also for a circle: whoever comes back to it goes no further.
        self.free.insert(job.id.clone(), (job.id.clone(), false));
        let depends_on = dependencies_of(store, &job.id)?.into_iter();
        Ok(Some(Step::Down(Frame { job, depends_on, first: None })))
    }

    /// Leaves the last job of the path: it can move.
    fn leave(&mut self, path: &mut Vec<Frame>, top: &mut Frame) {
        let Some(Frame { job, first, .. }) = path.pop() else { return };
        let first = first.unwrap_or_else(|| (job.id.clone(), false));
        self.free.insert(job.id, first.clone());
        path.last_mut().unwrap_or(top).note(first);
    }

    /// Tells the jobs of the path that the last one is held, up to the first that has changed meanwhile; none has: that is it.
    fn rise(
        &mut self,
        store: &Store,
        (path, top): (&mut Vec<Frame>, &mut Frame),
        mut end: End,
    ) -> Result<Option<End>> {
        while let Some(Frame { job, .. }) = path.pop() {
            // [AFTER_RECHECK] Else it may have run since, and another one than held it then has ended.
            if store.read_record(&job.id)?.map(|record| record.line.seq) != job.seq {
                path.last_mut().unwrap_or(top).note((job.id, true));
                return Ok(None);
            }
            end.through.extend(job.through);
            self.free.remove(&job.id);
            self.held.insert(job.id, end.clone());
        }
        Ok(Some(end))
    }
}

fn see(store: &Store, id: &JobId) -> Result<Seen> {
    let mut through = Vec::new();
    let followed = follow_through(store, id, &mut |escalated| through.push(escalated.clone()))?;
    let moves =
        |why: NotMet, first: &JobId, runs| Ok(Seen::Moves(Moving { why, first: first.clone(), runs }));
    match followed {
        // [AFTER_UNKNOWN] It may be on its way in.
        Followed::Unknown => moves(NotMet::Unknown, id, false),
        Followed::TooLong => moves(NotMet::TooLong, id, false),
        Followed::Unreadable(decides, error) => {
            moves(NotMet::Unreadable(decides.clone(), causes(&error)), &decides, false)
        }
        Followed::Queued(id) => Ok(Seen::Queued(Queued { id, seq: None, through })),
        Followed::Job(line) if line.status.is_terminal() => {
            let unstarted_at = line.attempts.is_empty().then(|| line.place.clone());
            Ok(Seen::Ended(End { unstarted_at, ..ended(*line, through) }))
        }
        // Its file is gone, and with it what it came after.
        Followed::Archived(line) if line.status.is_terminal() => Ok(Seen::Ended(ended(*line, through))),
        Followed::Job(line) if line.status == Status::Queued => {
            Ok(Seen::Queued(Queued { id: line.job_id, seq: Some(line.seq), through }))
        }
        Followed::Job(line) | Followed::Archived(line) => {
            moves(NotMet::Is(line.job_id.clone(), line.status), &line.job_id, true)
        }
    }
}

fn ended(line: RecordLine, through: Vec<JobId>) -> End {
    let RecordLine { job_id, status, seq, .. } = line;
    End { line: Dependency { job_id, status, seq }, through, unstarted_at: None }
}

/// True if a job has not changed since it was seen to have ended.
pub(super) fn is_still(store: &Store, end: &End) -> Result<bool> {
    Ok(matches!(see(store, &end.line.job_id)?, Seen::Ended(now) if now.line == end.line))
}

/// The dependencies of a queued job by its file, which may have been edited. Of one that is invalid, or has left the queue
/// meanwhile, none: it moves.
fn dependencies_of(store: &Store, id: &JobId) -> Result<Vec<JobId>> {
    match claim::read(store, id, true, Timestamp::from_millis(0)) {
        Ok((Content::Job(parsed, _), _)) => Ok(parsed.job.depends_on.unwrap_or_default()),
        Ok(_) => Ok(Vec::new()),
        Err(QueueError::Store(error)) if error.is_not_found() => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::tests::rests::{id, put};
    use crate::store::testing;

    fn word(rest: &Alone) -> String {
        match rest {
            Alone::Rests(line, end, _) => format!("{} by {}", line.status, end.line.job_id),
            Alone::Moves(moving) => format!("{}; {} {}", moving.why, moving.first, moving.runs),
        }
    }

    fn look(store: &Store, name: &str) -> String {
        word(&Held::default().look(store, &id(name)).unwrap())
    }

    #[test]
    fn a_job_is_at_rest_by_its_end_or_behind_an_end_without_success_and_not_otherwise() {
        let (_dir, store) = testing::store();
        for (name, status) in [
            ("ok", Status::Succeeded),
            ("failed", Status::Failed),
            ("canceled", Status::Canceled),
            ("quarantined", Status::Quarantined),
            ("runs", Status::Running),
        ] {
            put(&store, name, status, &[]);
        }
        for (name, on) in [
            ("free", &[][..]),
            ("after-ok", &["ok"]),
            ("after-runs", &["ok", "runs"]),
            ("stray", &["unknown"]),
            ("held", &["runs", "canceled"]),
            ("far", &["after-ok", "free", "held"]),
            ("both", &["free", "after-runs"]),
            ("p", &["q"]),
            ("q", &["p", "ok"]),
            ("from-circle", &["p", "failed"]),
        ] {
            put(&store, name, Status::Queued, on);
        }
        for (name, found) in [
            ("ok", "succeeded by ok"),
            ("failed", "failed by failed"),
            ("quarantined", "quarantined by quarantined"),
            ("runs", "is running; runs true"),
            ("unknown", "is not known here; unknown false"),
            ("free", "is queued; free false"),
            ("after-ok", "is queued; after-ok false"),
            ("after-runs", "is queued; runs true"),
            ("stray", "is queued; unknown false"),
            ("held", "queued by canceled"),
            ("far", "queued by canceled"),
            // What runs comes before what is ready.
            ("both", "is queued; runs true"),
            ("p", "is queued; p false"),
            ("from-circle", "queued by failed"),
        ] {
            assert_eq!(look(&store, name), found, "{name}");
        }
    }

    /// `AFTER_RECHECK`: the job ran in between, and the one that ended then is not the one that it started after.
    #[test]
    fn a_job_whose_record_changed_during_the_look_is_not_taken_for_held() {
        let (_dir, store) = testing::store();
        put(&store, "x", Status::Queued, &["y"]);
        put(&store, "y", Status::Failed, &[]);
        let frame = |seq| Frame {
            job: Queued { id: id("x"), seq, through: Vec::new() },
            depends_on: Vec::new().into_iter(),
            first: None,
        };
        let end = || {
            let Seen::Ended(end) = see(&store, &id("y")).unwrap() else { panic!() };
            end
        };
        let seq = store.read_record(&id("x")).unwrap().map(|record| record.line.seq);
        let mut top = frame(None);
        let rise = |top: &mut Frame, seq| Held::default().rise(&store, (&mut vec![frame(seq)], top), end());
        assert!(rise(&mut top, seq).unwrap().is_some() && top.first.is_none());
        put(&store, "x", Status::Running, &[]);
        put(&store, "x", Status::Queued, &["y"]);
        assert!(rise(&mut top, seq).unwrap().is_none());
        assert_eq!(top.first, Some((id("x"), true)));
        assert!(rise(&mut top, None).unwrap().is_none());
    }

    #[test]
    fn a_long_chain_that_is_held_costs_each_of_its_jobs_a_few_looks_from_either_end() {
        let (_dir, store) = testing::store();
        put(&store, "j0000", Status::Failed, &[]);
        let names: Vec<String> = (0..1000).map(|n| format!("j{n:04}")).collect();
        for pair in names.windows(2) {
            put(&store, &pair[1], Status::Queued, &[&pair[0]]);
        }
        for backwards in [false, true] {
            let mut walk = Held::default();
            let mut order: Vec<&String> = names.iter().collect();
            if backwards {
                order.reverse();
            }
            for name in order {
                assert!(matches!(walk.look(&store, &id(name)).unwrap(), Alone::Rests(..)), "{name}");
            }
            assert_eq!(walk.held.len(), 999);
        }
        // It is no longer held once what held it is queued again.
        let mut walk = Held::default();
        walk.look(&store, &id("j0999")).unwrap();
        put(&store, "j0000", Status::Queued, &[]);
        assert_eq!(word(&walk.look(&store, &id("j0999")).unwrap()), "is queued; j0000 false");
    }
}
