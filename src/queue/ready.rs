//! Whether a job may start now: hold, time and dependencies. Claim, worker and views ask here; a lock is known only once it
//! is taken.

use std::fmt;

use super::{Result, places};
use crate::causes::causes;
use crate::clock::Timestamp;
use crate::job::record::Dependency;
use crate::job::{Code, JobFile, JobId, Place, Reason, RecordLine, Status};
use crate::store::control::{self, Hold};
use crate::store::{Store, StoreError, archived};

/// A reason that keeps a job from starting.
#[derive(Debug)]
pub(crate) enum Blocker {
    /// It is a part of this job, whose tool starts it.
    Parent(JobId),
    /// A hold, of the job or of the queue: its file, and what it says.
    Hold(String, Hold),
    /// A time.
    Time(Timestamp),
    /// Another job, which has not succeeded.
    Dependency(JobId, NotMet),
}

/// Why a dependency is not met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NotMet {
    /// There is no such job.
    Unknown,
    /// It was escalated too often.
    TooLong,
    /// The record of the job that decides cannot be read, for this reason.
    Unreadable(JobId, String),
    /// The job that decides has this status.
    Is(JobId, Status),
    /// The job that decides had this status when gc retired it.
    Was(JobId, Status),
}

impl fmt::Display for NotMet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("is not known here"),
            Self::TooLong => f.write_str("was escalated too often"),
            Self::Unreadable(..) => f.write_str("has a record that cannot be read"),
            Self::Is(_, status) => write!(f, "is {status}"),
            Self::Was(_, status) => write!(f, "was {status} when gc retired it"),
        }
    }
}

impl Blocker {
    /// For people and programs.
    #[must_use]
    pub(crate) fn reason(&self) -> Reason {
        match self {
            Self::Parent(parent) => {
                Reason::new(Code::WaitingParent, format!("is a part of `{parent}`, whose tool starts it"))
            }
            Self::Hold(file, Hold { reason: Some(reason), .. }) => {
                Reason::new(Code::WaitingHold, format!("held by `{file}`: {reason}"))
            }
            Self::Hold(file, _) => Reason::new(Code::WaitingHold, format!("held by `{file}`")),
            Self::Time(time) => Reason::new(Code::WaitingTime, format!("not before {time}")),
            Self::Dependency(id, why) => {
                Reason::new(Code::WaitingDependency, format!("waits for `{id}`, which {why}"))
            }
        }
    }
}

/// What a job asks for before it starts: by its file, or, in lists of many, by its record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Conditions<'a> {
    /// The job.
    pub id: &'a JobId,
    /// The job that it is a part of, where it would not be that one which starts it.
    pub parent: Option<&'a JobId>,
    /// The later of its own time and that of its record.
    pub not_before: Option<Timestamp>,
    /// The jobs that must have succeeded.
    pub depends_on: &'a [JobId],
}

impl<'a> Conditions<'a> {
    /// Those of a job file; `parked_until` is the time of its record.
    #[must_use]
    pub(crate) fn of_file(job: &'a JobFile, parked_until: Option<Timestamp>) -> Self {
        let not_before = job.not_before.into_iter().chain(parked_until).max();
        Self { id: &job.job_id, parent: job.parent.as_ref(), not_before, depends_on: job.dependencies() }
    }
}

/// Where holds and dependencies are looked up: a list of many jobs looks up each of them once.
pub(crate) trait LookUp {
    /// The hold that counts for a job.
    fn hold(&mut self, id: &JobId) -> Result<Option<(String, Hold)>>;

    /// A dependency as it is judged.
    fn dependency(&mut self, id: &JobId) -> Result<std::result::Result<Dependency, NotMet>>;
}

impl LookUp for &Store {
    fn hold(&mut self, id: &JobId) -> Result<Option<(String, Hold)>> {
        Ok(control::hold_of(self, id)?)
    }

    fn dependency(&mut self, id: &JobId) -> Result<std::result::Result<Dependency, NotMet>> {
        dependency(self, id)
    }
}

/// A condition to check.
enum Step<'a> {
    Parent,
    Hold,
    Time,
    Dependency(&'a JobId),
}

/// Checks one condition after the other, lazily; returns a dependency that is met.
fn checks<'a>(
    look_up: &'a mut dyn LookUp,
    conditions: Conditions<'a>,
    now: Timestamp,
) -> impl Iterator<Item = Result<std::result::Result<Option<Dependency>, Blocker>>> + 'a {
    let Conditions { id, parent, not_before, depends_on } = conditions;
    let steps =
        [Step::Parent, Step::Hold, Step::Time].into_iter().chain(depends_on.iter().map(Step::Dependency));
    steps.map(move |step| {
        let blocker = match step {
            Step::Parent => parent.cloned().map(Blocker::Parent),
            Step::Hold => look_up.hold(id)?.map(|(file, hold)| Blocker::Hold(file, hold)),
            Step::Time => not_before.filter(|time| *time > now).map(Blocker::Time),
            Step::Dependency(on) => match look_up.dependency(on)? {
                Ok(met) => return Ok(Ok(Some(met))),
                Err(why) => Some(Blocker::Dependency(on.clone(), why)),
            },
        };
        Ok(blocker.map_or(Ok(None), Err))
    })
}

/// Judges a job; if it may start, its dependencies as they were found, else the first that keeps it.
pub(crate) fn judge_by(
    look_up: &mut dyn LookUp,
    conditions: Conditions<'_>,
    now: Timestamp,
) -> Result<std::result::Result<Vec<Dependency>, Blocker>> {
    let mut met = Vec::new();
    for checked in checks(look_up, conditions, now) {
        match checked? {
            Ok(dependency) => met.extend(dependency),
            Err(blocker) => return Ok(Err(blocker)),
        }
    }
    Ok(Ok(met))
}

/// As `judge_by`, for one job by its file.
pub(crate) fn judge(
    mut store: &Store,
    job: &JobFile,
    parked_until: Option<Timestamp>,
    now: Timestamp,
) -> Result<std::result::Result<Vec<Dependency>, Blocker>> {
    judge_by(&mut store, Conditions::of_file(job, parked_until), now)
}

/// As `judge`, for a runner, which `parent::why_not_under` has let through.
pub(crate) fn judge_under(
    mut store: &Store,
    job: &JobFile,
    parked_until: Option<Timestamp>,
    now: Timestamp,
) -> Result<std::result::Result<Vec<Dependency>, Blocker>> {
    let conditions = Conditions { parent: None, ..Conditions::of_file(job, parked_until) };
    judge_by(&mut store, conditions, now)
}

/// Everything that keeps a job from starting.
pub(crate) fn blockers(
    mut store: &Store,
    job: &JobFile,
    parked_until: Option<Timestamp>,
    now: Timestamp,
) -> Result<Vec<Blocker>> {
    let checks = checks(&mut store, Conditions::of_file(job, parked_until), now);
    checks.filter_map(|checked| checked.map(std::result::Result::err).transpose()).collect()
}

/// A dependency as it is judged, or what keeps it from having succeeded.
pub(crate) fn dependency(store: &Store, id: &JobId) -> Result<std::result::Result<Dependency, NotMet>> {
    Ok(match follow(store, id)? {
        Followed::Unknown => Err(NotMet::Unknown),
        Followed::Queued(decides) => Err(NotMet::Is(decides, Status::Queued)),
        Followed::TooLong => Err(NotMet::TooLong),
        Followed::Unreadable(decides, error) => Err(NotMet::Unreadable(decides, causes(&error))),
        Followed::Job(line) | Followed::Archived(line) if line.status == Status::Succeeded => {
            Ok(Dependency { job_id: line.job_id.clone(), status: line.status, seq: line.seq })
        }
        Followed::Job(line) => Err(NotMet::Is(line.job_id, line.status)),
        Followed::Archived(line) => Err(NotMet::Was(line.job_id, line.status)),
    })
}

/// The job whose end counts for another.
#[derive(Debug)]
pub(crate) enum Followed {
    /// There is no such job.
    Unknown,
    /// This one, whose file waits in the queue and has no record yet.
    Queued(JobId),
    /// It was escalated too often.
    TooLong,
    /// The record of this one cannot be read.
    Unreadable(JobId, StoreError),
    /// This one, as its record says.
    Job(Box<RecordLine>),
    /// This one, as it was when gc retired it.
    Archived(Box<RecordLine>),
}

/// Finds the job that decides for an id: a job that was escalated is judged by the one that it was escalated to.
pub(crate) fn follow(store: &Store, id: &JobId) -> Result<Followed> {
    const LONGEST_CHAIN: usize = 16;
    let mut asked = id.clone();
    for _ in 0..LONGEST_CHAIN {
        let mut decided: fn(Box<RecordLine>) -> Followed = Followed::Job;
        let record = match store.read_record(&asked) {
            Ok(Some(record)) => record,
            // A file that is there is a job to come, whatever was archived under its name.
            Ok(None) if places::is_at(store, &asked, &Place::Queued)? => return Ok(Followed::Queued(asked)),
            Ok(None) => match archived::last_of(store, &asked)? {
                Some(retired) => {
                    decided = Followed::Archived;
                    retired.record
                }
                None => return Ok(Followed::Unknown),
            },
            Err(error @ (StoreError::Unreadable { .. } | StoreError::NewerFormat { .. })) => {
                return Ok(Followed::Unreadable(asked, error));
            }
            Err(error) => return Err(error.into()),
        };
        match record.line.escalated_to().and_then(|next| JobId::new(next).ok()) {
            Some(next) => asked = next,
            None => return Ok(decided(Box::new(record.line))),
        }
    }
    Ok(Followed::TooLong)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks nothing up but in itself, and notes what it was asked for.
    #[derive(Default)]
    struct Given {
        held: bool,
        failed: Vec<&'static str>,
        asked: Vec<String>,
    }

    impl LookUp for Given {
        fn hold(&mut self, _: &JobId) -> Result<Option<(String, Hold)>> {
            self.asked.push("hold".to_owned());
            Ok(self.held.then(|| ("state/control/HOLD".to_owned(), Hold::default())))
        }

        fn dependency(&mut self, id: &JobId) -> Result<std::result::Result<Dependency, NotMet>> {
            self.asked.push(id.to_string());
            Ok(match self.failed.contains(&id.as_str()) {
                true => Err(NotMet::Is(id.clone(), Status::Failed)),
                false => Ok(Dependency { job_id: id.clone(), status: Status::Succeeded, seq: 3 }),
            })
        }
    }

    fn reasons(given: &mut Given, not_before: i64) -> (Vec<String>, Vec<Code>) {
        let [id, one, two] = ["a", "one", "two"].map(|id| JobId::new(id).unwrap());
        let (depends_on, not_before) = ([one, two], Some(Timestamp::from_millis(not_before)));
        let conditions = Conditions { id: &id, parent: None, not_before, depends_on: &depends_on };
        let now = Timestamp::from_millis(1000);
        let first = judge_by(given, conditions, now).unwrap();
        let first = first.map_or_else(
            |blocker| vec![blocker.reason().message],
            |met| met.iter().map(|met| format!("{} succeeded", met.job_id)).collect(),
        );
        given.asked.clear();
        let all = checks(given, conditions, now).filter_map(|checked| checked.unwrap().err());
        (first, all.map(|blocker| blocker.reason().code).collect())
    }

    #[test]
    fn a_job_is_kept_by_the_first_of_hold_time_and_dependencies_and_explained_by_all() {
        let free = reasons(&mut Given::default(), 1000);
        assert_eq!(free, (vec!["one succeeded".to_owned(), "two succeeded".to_owned()], vec![]));

        let mut given = Given { failed: vec!["one", "two"], ..Given::default() };
        let (first, all) = reasons(&mut given, 1000);
        assert_eq!(first, ["waits for `one`, which is failed"]);
        assert_eq!(all, [Code::WaitingDependency, Code::WaitingDependency]);

        let (first, _) = reasons(&mut given, 1001);
        assert_eq!(first, ["not before 1970-01-01T00:00:01.001Z"]);

        given.held = true;
        let (first, all) = reasons(&mut given, 1001);
        assert_eq!(first, ["held by `state/control/HOLD`"]);
        assert_eq!(
            all,
            [Code::WaitingHold, Code::WaitingTime, Code::WaitingDependency, Code::WaitingDependency]
        );
        assert_eq!(given.asked, ["hold", "one", "two"]);
    }

    #[test]
    fn a_dependency_behind_the_first_that_is_not_met_is_not_looked_up() {
        let mut given = Given { failed: vec!["one"], ..Given::default() };
        let [id, one, two] = ["a", "one", "two"].map(|id| JobId::new(id).unwrap());
        let conditions = Conditions { id: &id, parent: None, not_before: None, depends_on: &[one, two] };
        assert!(judge_by(&mut given, conditions, Timestamp::from_millis(0)).unwrap().is_err());
        assert_eq!(given.asked, ["hold", "one"]);
    }
}
