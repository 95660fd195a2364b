//! Whether a job may start now: hold, time, dependencies, and the jobs that it comes after. Claim, worker and views ask here; a lock is known only once it
//! is taken.

use std::collections::BTreeSet;

use super::Result;
use super::follow::{self, NotMet};
use super::rest::{Moving, Rest, Walk};
use crate::clock::Timestamp;
use crate::job::record::Dependency;
use crate::job::{AfterSeen, Code, JobFile, JobId, Reason};
use crate::store::Store;
use crate::store::control::{self, Hold};

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
    /// A job of `after`, which is not at rest.
    After(JobId, Moving),
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
            Self::After(id, moving) => {
                Reason::new(Code::WaitingAfter, format!("comes after `{id}`, which {}", moving.why))
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
    /// The jobs that must be at rest.
    pub after: &'a [JobId],
}

impl<'a> Conditions<'a> {
    /// Those of a job file; `parked_until` is the time of its record.
    #[must_use]
    pub(crate) fn of_file(job: &'a JobFile, parked_until: Option<Timestamp>) -> Self {
        let not_before = job.not_before.into_iter().chain(parked_until).max();
        let (depends_on, after) = (job.dependencies(), job.comes_after());
        Self { id: &job.job_id, parent: job.parent.as_ref(), not_before, depends_on, after }
    }
}

/// Where holds and dependencies are looked up: a list of many jobs looks up each of them once.
pub(crate) trait LookUp {
    /// The hold that counts for a job.
    fn hold(&mut self, id: &JobId) -> Result<Option<(String, Hold)>>;

    /// A dependency as it is judged.
    fn dependency(&mut self, id: &JobId) -> Result<std::result::Result<Dependency, NotMet>>;

    /// Whether a job of `after` is at rest.
    fn rest(&mut self, id: &JobId) -> Result<Rest>;
}

/// For one job: everything is looked up as it is now.
struct Now<'a> {
    store: &'a Store,
    walk: Walk,
}

impl<'a> Now<'a> {
    fn of(store: &'a Store) -> Self {
        Self { store, walk: Walk::default() }
    }
}

impl LookUp for Now<'_> {
    fn hold(&mut self, id: &JobId) -> Result<Option<(String, Hold)>> {
        Ok(control::hold_of(self.store, id)?)
    }

    fn dependency(&mut self, id: &JobId) -> Result<std::result::Result<Dependency, NotMet>> {
        follow::dependency(self.store, id)
    }

    fn rest(&mut self, id: &JobId) -> Result<Rest> {
        self.walk.look(self.store, id)
    }
}

/// What a job waited for, as it was found when it may start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Met {
    /// Its dependencies.
    pub dependencies: Vec<Dependency>,
    /// The jobs of `after`, if it names any.
    pub after: Option<AfterSeen>,
    /// The jobs whose ends count for those of `after`: their records are durable before the start.
    pub ends: BTreeSet<JobId>,
}

/// A condition that is met, and what was found.
enum Checked {
    Plain,
    Dependency(Dependency),
    AtRest(Dependency, Vec<JobId>),
}

impl Met {
    fn add(&mut self, checked: Checked) {
        match checked {
            Checked::Plain => {}
            Checked::Dependency(found) => self.dependencies.push(found),
            Checked::AtRest(found, ends) => {
                self.after.get_or_insert_default().add(found);
                self.ends.extend(ends);
            }
        }
    }
}

/// A condition to check.
enum Step<'a> {
    Parent,
    Hold,
    Time,
    Dependency(&'a JobId),
    After(&'a JobId),
}

/// Checks one condition after the other, lazily. An id that `after` names twice counts once.
fn checks<'a>(
    look_up: &'a mut dyn LookUp,
    conditions: Conditions<'a>,
    now: Timestamp,
) -> impl Iterator<Item = Result<std::result::Result<Checked, Blocker>>> + 'a {
    let Conditions { id, parent, not_before, depends_on, after } = conditions;
    let mut named = BTreeSet::new();
    let after = after.iter().filter(move |id| named.insert(*id)).map(Step::After);
    let steps = [Step::Parent, Step::Hold, Step::Time].into_iter();
    let steps = steps.chain(depends_on.iter().map(Step::Dependency)).chain(after);
    steps.map(move |step| {
        let blocker = match step {
            Step::Parent => parent.cloned().map(Blocker::Parent),
            Step::Hold => look_up.hold(id)?.map(|(file, hold)| Blocker::Hold(file, hold)),
            Step::Time => not_before.filter(|time| *time > now).map(Blocker::Time),
            Step::Dependency(on) => match look_up.dependency(on)? {
                Ok(met) => return Ok(Ok(Checked::Dependency(met))),
                Err(why) => Some(Blocker::Dependency(on.clone(), why)),
            },
            Step::After(other) => match look_up.rest(other)? {
                Rest::AtRest(found, ends) => return Ok(Ok(Checked::AtRest(found, ends))),
                Rest::Moves(moving) => Some(Blocker::After(other.clone(), moving)),
            },
        };
        Ok(blocker.map_or(Ok(Checked::Plain), Err))
    })
}

/// Judges a job; if it may start, what it waited for as it was found, else the first that keeps it.
pub(crate) fn judge_by(
    look_up: &mut dyn LookUp,
    conditions: Conditions<'_>,
    now: Timestamp,
) -> Result<std::result::Result<Met, Blocker>> {
    let mut met = Met::default();
    for checked in checks(look_up, conditions, now) {
        match checked? {
            Ok(checked) => met.add(checked),
            Err(blocker) => return Ok(Err(blocker)),
        }
    }
    Ok(Ok(met))
}

/// As `judge_by`, for one job by its file.
pub(crate) fn judge(
    store: &Store,
    job: &JobFile,
    parked_until: Option<Timestamp>,
    now: Timestamp,
) -> Result<std::result::Result<Met, Blocker>> {
    judge_by(&mut Now::of(store), Conditions::of_file(job, parked_until), now)
}

/// As `judge`, but for the jobs of `after`, each of which costs a look.
pub(crate) fn judge_but_after(
    store: &Store,
    job: &JobFile,
    parked_until: Option<Timestamp>,
    now: Timestamp,
) -> Result<std::result::Result<Met, Blocker>> {
    let conditions = Conditions { after: &[], ..Conditions::of_file(job, parked_until) };
    judge_by(&mut Now::of(store), conditions, now)
}

/// As `judge`, for a runner, which `parent::why_not_under` has let through.
pub(crate) fn judge_under(
    store: &Store,
    job: &JobFile,
    parked_until: Option<Timestamp>,
    now: Timestamp,
) -> Result<std::result::Result<Met, Blocker>> {
    let conditions = Conditions { parent: None, ..Conditions::of_file(job, parked_until) };
    judge_by(&mut Now::of(store), conditions, now)
}

/// Everything that keeps a job from starting.
pub(crate) fn blockers(
    store: &Store,
    job: &JobFile,
    parked_until: Option<Timestamp>,
    now: Timestamp,
) -> Result<Vec<Blocker>> {
    let mut look_up = Now::of(store);
    let checks = checks(&mut look_up, Conditions::of_file(job, parked_until), now);
    checks.filter_map(|checked| checked.map(std::result::Result::err).transpose()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Status;

    fn succeeded(id: &JobId) -> Dependency {
        Dependency { job_id: id.clone(), status: Status::Succeeded, seq: 3 }
    }

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
                false => Ok(succeeded(id)),
            })
        }

        fn rest(&mut self, id: &JobId) -> Result<Rest> {
            self.asked.push(format!("after {id}"));
            Ok(match self.failed.contains(&id.as_str()) {
                true => Rest::Moves(Moving {
                    why: NotMet::Is(id.clone(), Status::Running),
                    first: id.clone(),
                    runs: true,
                }),
                false => Rest::AtRest(succeeded(id), vec![id.clone()]),
            })
        }
    }

    fn reasons(given: &mut Given, not_before: i64) -> (Vec<String>, Vec<Code>) {
        let [id, one, two] = ["a", "one", "two"].map(|id| JobId::new(id).unwrap());
        let (depends_on, not_before) = ([one, two], Some(Timestamp::from_millis(not_before)));
        let conditions =
            Conditions { id: &id, parent: None, not_before, depends_on: &depends_on, after: &[] };
        let now = Timestamp::from_millis(1000);
        let first = judge_by(given, conditions, now).unwrap();
        let first = first.map_or_else(
            |blocker| vec![blocker.reason().message],
            |met| met.dependencies.iter().map(|met| format!("{} succeeded", met.job_id)).collect(),
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
        let (depends_on, after) = (&[one, two][..], &[][..]);
        let conditions = Conditions { id: &id, parent: None, not_before: None, depends_on, after };
        assert!(judge_by(&mut given, conditions, Timestamp::from_millis(0)).unwrap().is_err());
        assert_eq!(given.asked, ["hold", "one"]);
    }

    #[test]
    fn a_job_that_is_named_twice_in_after_is_looked_at_once_and_the_first_that_moves_ends_the_look() {
        let [id, one, two, three] = ["a", "one", "two", "three"].map(|id| JobId::new(id).unwrap());
        let after = [one.clone(), two.clone(), one.clone(), three.clone(), two.clone()];
        let conditions =
            Conditions { id: &id, parent: None, not_before: None, depends_on: &[], after: &after };
        let now = Timestamp::from_millis(0);
        let mut given = Given::default();
        let met = judge_by(&mut given, conditions, now).unwrap().unwrap();
        assert_eq!(given.asked, ["hold", "after one", "after two", "after three"]);
        assert_eq!(met.after.unwrap().counts.into_iter().collect::<Vec<_>>(), [(Status::Succeeded, 3)]);
        assert_eq!(met.ends, BTreeSet::from([one, two, three]));

        let mut given = Given { failed: vec!["two", "three"], ..Given::default() };
        let blocker = judge_by(&mut given, conditions, now).unwrap().unwrap_err();
        assert_eq!(blocker.reason().message, "comes after `two`, which is running");
        assert_eq!(blocker.reason().code, Code::WaitingAfter);
        assert_eq!(given.asked, ["hold", "after one", "after two"]);
        let all = checks(&mut given, conditions, now).filter_map(|checked| checked.unwrap().err());
        assert_eq!(all.count(), 2);
    }
}
