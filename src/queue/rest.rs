//! Whether a job is at rest: it has ended, whatever the outcome, or it is queued and waits, near or far, through `depends_on`
//! for one that ended without success. A hold, a time, a park and a wait through `after` are no rest: they pass.
//!
//! Hard rule `AFTER_CHAIN`: a job that is held, or has ended before an attempt of its life, has not waited for those that it comes
//! after. It is at rest only if they are, near or far: each job of a chain names only the one before it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::claim::{self, Content};
use super::follow::NotMet;
pub(crate) use super::held::Moving;
use super::held::{Alone, End, First, Held, Unstarted, is_still};
use super::{Result, places};
use crate::clock::Timestamp;
use crate::job::record::Dependency;
use crate::job::{JobFile, JobId};
use crate::store::Store;

/// What a look at a job found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Rest {
    /// It is at rest, with this status; the ends of these jobs say so.
    AtRest(Dependency, Vec<JobId>),
    /// It can still move.
    Moves(Moving),
}

/// Looks at jobs one after the other, and remembers what they have in common.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    held: Held,
    /// Jobs that have not run, each with the first to be waited for among those that it comes after, if there is one.
    unstarted: BTreeMap<JobId, Option<First>>,
}

/// What a look at a job found that another comes after which has not run.
enum Before {
    Rests,
    Unstarted(Unstarted),
    Moves(First),
}

impl Walk {
    /// Forgets what may have changed since the last look.
    pub(crate) fn begin(&mut self) {
        self.held.begin();
        self.unstarted.clear();
    }

    /// Looks at a job.
    ///
    /// # Errors
    /// File system errors; a record that cannot be read only makes its job one that may move.
    pub(crate) fn look(&mut self, store: &Store, id: &JobId) -> Result<Rest> {
        let (line, end, job) = match self.held.look(store, id)? {
            Alone::Rests(line, end, Some(job)) => (line, end, job),
            Alone::Rests(line, end, None) => return Ok(Rest::AtRest(line, end.into_jobs())),
            Alone::Moves(moving) => return Ok(Rest::Moves(moving)),
        };
        let why = NotMet::Is(job.id.clone(), line.status);
        let mut ends = vec![end];
        Ok(match self.look_before(store, job, &mut ends)? {
            Some((first, runs)) => Rest::Moves(Moving { why, first, runs }),
            None => Rest::AtRest(line, ends.into_iter().flat_map(End::into_jobs).collect()),
        })
    }

    /// `AFTER_CHAIN`: looks at the jobs that one which has not run comes after, and through those that have not run either. Tells
    /// the first to be waited for, or adds the ends of all.
    fn look_before(&mut self, store: &Store, job: Unstarted, ends: &mut Vec<End>) -> Result<Option<First>> {
        if let Some(known) = self.unstarted.get(&job.id) {
            return Ok(known.clone());
        }
        let (mut passed, mut first) = (Vec::new(), None);
        let mut path = vec![self.open(store, job)?];
        while let Some((_, after)) = path.last_mut() {
            let Some(other) = after.next() else {
                passed.extend(path.pop().map(|(job, _)| job));
                continue;
            };
            match self.before(store, &other, ends)? {
                Before::Rests => {}
                Before::Unstarted(job) => path.push(self.open(store, job)?),
                Before::Moves(moves) => {
                    first = Some(moves);
                    break;
                }
            }
        }
        // [AFTER_RECHECK] If nothing has changed, all of it was at rest at one moment.
        if let Some(changed) = changed(store, &passed, ends)? {
            let moves = first.get_or_insert((changed, true));
            self.unstarted.extend(passed.into_iter().map(|job| (job.id, Some(moves.clone()))));
        }
        let above = path.into_iter().map(|(job, _)| (job.id, first.clone()));
        self.unstarted.extend(above);
        Ok(first)
    }

    /// Looks at one of the jobs that another comes after which has not run.
    fn before(&mut self, store: &Store, other: &JobId, ends: &mut Vec<End>) -> Result<Before> {
        if let Some(known) = self.known(other) {
            return Ok(known);
        }
        Ok(match self.held.look(store, other)? {
            Alone::Moves(moving) => Before::Moves((moving.first, moving.runs)),
            Alone::Rests(_, end, job) => {
                ends.push(end);
                job.map_or(Before::Rests, |job| self.known(&job.id).unwrap_or(Before::Unstarted(job)))
            }
        })
    }

    fn known(&self, id: &JobId) -> Option<Before> {
        self.unstarted.get(id).map(|first| first.clone().map_or(Before::Rests, Before::Moves))
    }

    /// Comes to a job that has not run, once: also in a circle.
    fn open(&mut self, store: &Store, job: Unstarted) -> Result<(Unstarted, std::vec::IntoIter<JobId>)> {
        self.unstarted.insert(job.id.clone(), None);
        let after = file_of(store, &job)?.and_then(|file| file.after).unwrap_or_default();
        Ok((job, after.into_iter()))
    }
}

/// The first of these jobs that has changed since it was seen.
fn changed(store: &Store, jobs: &[Unstarted], ends: &[End]) -> Result<Option<JobId>> {
    for job in jobs {
        if store.read_record(&job.id)?.map(|record| record.line.seq) != job.seq {
            return Ok(Some(job.id.clone()));
        }
    }
    let mut known = BTreeSet::new();
    for end in ends.iter().filter(|end| known.insert((&end.line.job_id, end.line.seq))) {
        if !is_still(store, end)? {
            return Ok(Some(end.line.job_id.clone()));
        }
    }
    Ok(None)
}

/// The file of a job that has not run. It may be on the way from one place to another; of one that is gone or invalid, none.
fn file_of(store: &Store, job: &Unstarted) -> Result<Option<JobFile>> {
    let read = |path: &Path| claim::read_at(path, &job.id, true, Timestamp::from_millis(0));
    Ok(match places::read_moving(store, &job.id, Some(&job.place), &read)? {
        Some((Content::Job(parsed, _), _)) => Some(parsed.job),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Status;
    use crate::queue::tests::rests::{id, put};
    use crate::store::testing;

    fn look(store: &Store, name: &str) -> String {
        match Walk::default().look(store, &id(name)).unwrap() {
            Rest::AtRest(line, ends) => {
                let ends: Vec<_> = ends.iter().map(JobId::as_str).collect();
                format!("{} by {}", line.status, ends.join(","))
            }
            Rest::Moves(moving) => format!("{}; {} {}", moving.why, moving.first, moving.runs),
        }
    }

    /// A job that comes after others: queued, or else canceled before it ran.
    fn put_after(store: &Store, name: &str, status: Status, depends_on: &[&str], after: &[&str]) {
        put(store, name, status, depends_on);
        let place = store.read_record(&id(name)).unwrap().unwrap().line.place;
        let job = serde_json::json!({"job_id": name, "tool": "shell", "command": {"exe": "true"},
            "depends_on": depends_on, "after": after});
        crate::fs::create_dir(&store.place_dir(&place)).unwrap();
        crate::fs::replace(&store.job_file(&place, &id(name)), job.to_string().as_bytes()).unwrap();
    }

    #[test]
    fn a_job_that_has_not_run_is_at_rest_only_if_those_that_it_comes_after_are() {
        let (_dir, store) = testing::store();
        put(&store, "f", Status::Failed, &[]);
        put(&store, "a", Status::Running, &[]);
        put_after(&store, "b", Status::Canceled, &[], &["f", "a"]);
        put_after(&store, "held", Status::Queued, &["f"], &["b"]);
        put_after(&store, "far", Status::Canceled, &[], &["held"]);
        put_after(&store, "free", Status::Queued, &[], &["a"]);
        for (name, on) in [("p", "q"), ("q", "p")] {
            put_after(&store, name, Status::Canceled, &[], &[on]);
        }
        assert_eq!(look(&store, "b"), "is canceled; a true");
        assert_eq!(look(&store, "held"), "is queued; a true");
        assert_eq!(look(&store, "far"), "is canceled; a true");
        assert_eq!(look(&store, "p"), "canceled by p,q");
        put(&store, "a", Status::Succeeded, &[]);
        assert_eq!(look(&store, "far"), "canceled by far,f,b,f,a");
        assert_eq!(look(&store, "free"), "is queued; free false");
    }

    /// `AFTER_RECHECK`: it was queued again between the look at it and the look at those before it.
    #[test]
    fn a_job_that_has_not_run_and_changed_during_the_look_is_not_at_rest() {
        let (_dir, store) = testing::store();
        put(&store, "a", Status::Failed, &[]);
        put_after(&store, "b", Status::Canceled, &[], &["a"]);
        let mut walk = Walk::default();
        let Alone::Rests(_, end, Some(job)) = walk.held.look(&store, &id("b")).unwrap() else { panic!() };
        put_after(&store, "b", Status::Queued, &[], &["a"]);
        assert_eq!(walk.look_before(&store, job, &mut vec![end]).unwrap(), Some((id("b"), true)));
    }

    #[test]
    fn a_long_chain_of_jobs_that_have_not_run_is_looked_at_once() {
        let (_dir, store) = testing::store();
        put(&store, "f", Status::Failed, &[]);
        let names: Vec<String> = (0..1000).map(|n| format!("j{n:04}")).collect();
        put(&store, "j0000", Status::Running, &[]);
        for pair in names.windows(2) {
            put_after(&store, &pair[1], Status::Queued, &["f"], &[&pair[0]]);
        }
        for last in [Status::Running, Status::Failed] {
            put(&store, "j0000", last, &[]);
            let mut walk = Walk::default();
            let mut ends = 0;
            for name in names[1..].iter().rev() {
                match walk.look(&store, &id(name)).unwrap() {
                    Rest::Moves(moving) => assert_eq!((moving.first, last), (id("j0000"), Status::Running)),
                    Rest::AtRest(_, found) => ends += found.len(),
                }
            }
            // Each of the others adds what holds it, and no more.
            assert_eq!(ends, if last == Status::Running { 0 } else { 1000 + 998 });
        }
    }
}
