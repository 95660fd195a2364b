//! Jobs that go as one: those of a run of which one has parts, with all parts.
//!
//! Pure. Hard rules: a part goes before its parent `CHILD_GC_FIRST`; while one of them cannot go, none does.

use std::collections::{BTreeMap, BTreeSet};

use crate::clock::Timestamp;
use crate::job::JobId;
use crate::policy::retention::{self, Cause, Finished, Limits};

/// A part of another job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    /// Its job, as if it had ended.
    pub job: Finished,
    /// Its state.
    pub state: State,
}

/// The state of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// It has ended.
    Ended,
    /// It waits, and is canceled before it goes.
    Waits,
    /// It may run.
    Open,
}

/// The parts of jobs, by their parents.
pub(crate) type Parts = BTreeMap<JobId, Vec<Part>>;

/// The jobs that have not ended and are no parts, with their runs.
pub(crate) type Unfinished = BTreeMap<JobId, Option<String>>;

/// What makes a family: the run, or the parent where it has none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Run(String),
    Job(JobId),
}

impl Key {
    fn of(id: &JobId, run: Option<&String>) -> Self {
        run.map_or_else(|| Self::Job(id.clone()), |run| Self::Run(run.clone()))
    }
}

/// The jobs that go together.
#[derive(Debug, Default)]
struct Family {
    members: Vec<Finished>,
    parts: Vec<Part>,
    /// True if a member has not ended.
    is_open: bool,
}

impl Family {
    fn may_go(&self, needed: &BTreeSet<JobId>) -> bool {
        let stays = |part: &Part| part.state == State::Open || needed.contains(&part.job.id);
        !self.is_open && !self.parts.iter().any(stays)
    }

    fn size(&self) -> usize {
        self.members.len() + self.parts.len()
    }

    /// Its members, each as old as the youngest of all; their sizes together are that of all.
    fn as_one(&self) -> impl Iterator<Item = Finished> {
        let ended_at = self.members.iter().chain(self.parts.iter().map(|part| &part.job));
        let ended_at = ended_at.map(|job| job.ended_at).max();
        let of_parts: u64 = self.parts.iter().map(|part| part.job.bytes).sum();
        self.members.iter().enumerate().map(move |(at, job)| Finished {
            ended_at: ended_at.unwrap_or(job.ended_at),
            bytes: job.bytes + if at == 0 { of_parts } else { 0 },
            ..job.clone()
        })
    }
}

/// As `retention::decide`, of jobs with parts. Among those that go, parts come first, also those that wait.
pub(crate) fn decide(
    finished: Vec<Finished>,
    parts: Parts,
    (unfinished, needed): (&Unfinished, &BTreeSet<JobId>),
    limits: &Limits,
    now: Timestamp,
) -> retention::Plan {
    if parts.is_empty() {
        return retention::decide(finished, needed, limits, now);
    }
    let (families, mut candidates) = gather(finished, parts, unfinished);
    let (go, stay): (Vec<Family>, Vec<Family>) = families.into_iter().partition(|one| one.may_go(needed));
    candidates.extend(go.iter().flat_map(Family::as_one));
    let mut plan = retention::decide(candidates, needed, limits, now);
    plan.kept += stay.iter().map(Family::size).sum::<usize>();
    expand(&mut plan, go);
    plan
}

/// The families, and the jobs that stand for themselves: also parts whose parent is gone, however that came.
fn gather(finished: Vec<Finished>, parts: Parts, unfinished: &Unfinished) -> (Vec<Family>, Vec<Finished>) {
    let of_finished = finished.iter().map(|job| (&job.id, job.run_id.as_ref()));
    let known = of_finished.chain(unfinished.iter().map(|(id, run)| (id, run.as_ref())));
    let keys: BTreeMap<JobId, Key> = known
        .filter(|(id, _)| parts.contains_key(*id))
        .map(|(id, run)| (id.clone(), Key::of(id, run)))
        .collect();
    let (mut families, mut alone): (BTreeMap<Key, Family>, Vec<Finished>) = Default::default();
    for (parent, parts) in parts {
        match keys.get(&parent) {
            Some(key) => families.entry(key.clone()).or_default().parts.extend(parts),
            None => {
                alone
                    .extend(parts.into_iter().filter(|part| part.state == State::Ended).map(|part| part.job));
            }
        }
    }
    for job in finished {
        match families.get_mut(&Key::of(&job.id, job.run_id.as_ref())) {
            Some(family) => family.members.push(job),
            None => alone.push(job),
        }
    }
    for (id, run) in unfinished {
        if let Some(family) = families.get_mut(&Key::of(id, run.as_ref())) {
            family.is_open = true;
        }
    }
    (families.into_values().collect(), alone)
}

/// Adds the parts of the families that go as a whole, and takes the members of the others out again.
fn expand(plan: &mut retention::Plan, families: Vec<Family>) {
    let mut dropped: BTreeMap<JobId, usize> =
        plan.drop.iter().enumerate().map(|(at, (job, _))| (job.id.clone(), at)).collect();
    let mut going: Vec<(Finished, Cause)> = Vec::new();
    let mut stay: BTreeSet<JobId> = BTreeSet::new();
    for family in families {
        let at: Vec<usize> = family.members.iter().filter_map(|job| dropped.remove(&job.id)).collect();
        let cause = at.first().and_then(|at| plan.drop.get(*at)).map(|(_, cause)| *cause);
        match cause.filter(|_| at.len() == family.members.len()) {
            Some(cause) => {
                going.extend(family.parts.into_iter().map(|part| (part.job, cause)));
                // With their own age and size again.
                for (at, own) in at.into_iter().zip(family.members) {
                    plan.drop.get_mut(at).into_iter().for_each(|(job, _)| *job = own.clone());
                }
            }
            None => {
                plan.kept += at.len() + family.parts.len();
                stay.extend(family.members.into_iter().map(|job| job.id));
            }
        }
    }
    plan.drop.retain(|(job, _)| !stay.contains(&job.id));
    going.append(&mut plan.drop);
    plan.drop = going;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Status;

    fn id(text: &str) -> JobId {
        JobId::new(text).unwrap()
    }

    fn job(name: &str, ended: i64) -> Finished {
        let ended_at = Timestamp::from_millis(ended * 1000);
        Finished {
            id: id(name),
            status: Status::Succeeded,
            ended_at,
            seq: 1,
            bytes: 10,
            parent: None,
            run_id: None,
        }
    }

    fn part(of: &str, name: &str, ended: i64, state: State) -> (JobId, Part) {
        let job = Finished { parent: Some(id(of)), ..job(name, ended) };
        (id(of), Part { job, state })
    }

    fn decided(
        finished: Vec<Finished>,
        of: Vec<(JobId, Part)>,
        unfinished: &[&str],
        needed: &[&str],
        limits: &Limits,
    ) -> (Vec<String>, usize) {
        let mut parts = Parts::new();
        for (parent, part) in of {
            parts.entry(parent).or_default().push(part);
        }
        let run = |id: &JobId| id.as_str().starts_with("r.").then(|| "r".to_owned());
        let unfinished = unfinished.iter().map(|one| (id(one), run(&id(one)))).collect();
        let needed = needed.iter().map(|one| id(one)).collect();
        let of_run = |job: Finished| Finished { run_id: run(&job.id), ..job };
        let finished = finished.into_iter().map(of_run).collect();
        let now = Timestamp::from_millis(100_000);
        let plan = decide(finished, parts, (&unfinished, &needed), limits, now);
        (plan.drop.iter().map(|(job, _)| job.id.to_string()).collect(), plan.kept)
    }

    fn age(seconds: u64) -> Limits {
        Limits { older_than: Some(std::time::Duration::from_secs(seconds)), ..Limits::default() }
    }

    fn two() -> Vec<(JobId, Part)> {
        vec![
            part("r.a", "r.a.01-edit", 5, State::Ended),
            part("r.a", "r.a.02-static", 6, State::Waits),
            part("r.b", "r.b.01-edit", 20, State::Ended),
        ]
    }

    #[test]
    fn parts_go_before_their_parents_and_a_run_goes_as_one_when_its_last_job_is_old() {
        let jobs = || vec![job("x", 1), job("r.a", 10), job("r.b", 21)];
        let steps = ["r.a.01-edit", "r.a.02-static", "r.b.01-edit"];
        let all = [&steps[..], &["x", "r.b", "r.a"]].concat();
        let (mut gone, kept) = decided(jobs(), two(), &[], &[], &age(50));
        assert_eq!((&gone[..3], kept), (&steps.map(str::to_owned)[..], 0));
        gone.sort();
        let mut all: Vec<String> = all.iter().map(|id| (*id).to_owned()).collect();
        all.sort();
        assert_eq!(gone, all);
        // At 21 s its last job ended; the first alone would be old enough.
        assert_eq!(decided(jobs(), two(), &[], &[], &age(85)), (vec!["x".to_owned()], 5));
    }

    #[test]
    fn while_one_of_them_cannot_go_none_does() {
        let jobs = || vec![job("r.a", 10), job("r.b", 21)];
        let none = (Vec::<String>::new(), 5);
        let open = || {
            let mut parts = two();
            parts[1].1.state = State::Open;
            parts
        };
        assert_eq!(decided(jobs(), open(), &[], &[], &age(0)), none);
        assert_eq!(decided(jobs(), two(), &[], &["r.a.01-edit"], &age(0)), none);
        // The other workstream of the run has not ended.
        assert_eq!(decided(vec![job("r.a", 10)], two(), &["r.b"], &[], &age(0)), (vec![], 4));
        assert_eq!(decided(jobs(), two(), &["r.c"], &[], &age(0)), none);
        let one = Limits { keep_count: Some(1), ..Limits::default() };
        assert_eq!(decided(jobs(), two(), &[], &[], &one).0, [""; 0]);
        // A part whose parent is gone stands for itself.
        assert_eq!(decided(vec![], two(), &["r.b"], &[], &age(0)).0, ["r.a.01-edit"]);
    }
}
