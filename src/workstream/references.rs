//! The references of a run that any program of the user can move: agents and checks of all its workstreams work in one repository
//! at the same time.
//!
//! Each conductor knows by its records where its own last checkpoint is, and puts the reference back; nothing is built on what
//! another program wrote there. Who moved a reference is not recorded anywhere, so a step is blamed only where nothing else of
//! the run worked meanwhile. Hard rule: what a conductor of another workstream may have moved is no offence of a step.

use serde_json::Value;

use super::assignment::job_of;
use super::conductor::{Conductor, Known};
use crate::clock::Timestamp;
use crate::git::Client;
use crate::job::{Code, JobId, Reason};
use crate::store::run_dir;
use crate::store::steps::StepFound;
use crate::worktree::{self, Look, Seen};

impl Conductor<'_, '_> {
    /// Puts back what no conductor of this workstream has moved since the last verdict: no step ran.
    pub(super) fn put_back_since_verdict(&mut self) -> Result<(), Reason> {
        let Some(told) = self.told_head()? else { return Ok(()) };
        let git = self.git();
        if worktree::is_by_hand_upon(&self.place, &told, &git)? {
            return Ok(());
        }
        match self.put_back_head_at(&told, &git) {
            // A person removed the references, and git the commits.
            Err(reason) if reason.code == Code::GitFailed => Ok(()),
            done => done,
        }
    }

    /// Puts the own last checkpoint back to where this process knows it.
    pub(super) fn put_back_expected(&mut self) -> Result<(), Reason> {
        let Some(expected) = self.place.expected_head() else { return Ok(()) };
        let git = self.git();
        self.put_back_head_at(&expected, &git)
    }

    /// From now on this process knows where the last checkpoint is; and the base of the run is held.
    pub(super) fn hold_references(&mut self, known: &Known) -> Result<(), Reason> {
        self.place.expect_head(&known.heads.checkpoint(&self.place)?.commit);
        let git = self.git();
        self.put_back_base(&git)
    }

    fn put_back_head_at(&mut self, commit: &str, git: &Client) -> Result<(), Reason> {
        if worktree::put_back_head(&self.place, commit, git)? {
            let name = self.place.head_ref();
            self.warn(format!("`{name}` was moved by something else than its workstream; put back"));
        }
        Ok(())
    }

    fn put_back_base(&mut self, git: &Client) -> Result<(), Reason> {
        let base = self.request.assignment.base.commit.clone();
        if worktree::put_back_base(&self.place, &base, git)? {
            self.warn(format!("the reference to the base of the run was moved; put back to {base:.12}"));
        }
        Ok(())
    }

    /// The last checkpoint as the last verdict of the workstream said it.
    fn told_head(&self) -> Result<Option<String>, Reason> {
        let history = self.means.store.record_history(&self.request.job_id)?;
        let mut results = history.iter().rev().filter_map(|record| record.line.result.as_ref());
        // Of a conductor that was killed there is none of its words, and one that git failed may not know the commit.
        let last = results.find(|result| result.metadata.contains_key("branch"));
        let told = last.and_then(|result| result.metadata.get("head")).and_then(Value::as_str);
        Ok(told.map(str::to_owned))
    }

    /// Judges the references that moved between a look and the one after a step: own ones are put back, and what is left in `seen` is
    /// the step's doing. True if the later look does not hold any more.
    pub(super) fn judge_references(
        &mut self,
        (found, seen): (&StepFound, &mut Seen),
        (before, after): (Option<&Look>, &Look),
    ) -> Result<bool, Reason> {
        let git = self.git();
        if let Some(before) = before.filter(|_| !seen.own_refs.is_empty()) {
            worktree::note_put_back(&self.place, found.id.as_str(), &seen.own_refs)?;
            before.put_back(&seen.own_refs, (after, &self.place), &git)?;
        }
        let moved = self.moved.iter().filter(|name| !seen.own_refs.contains(name));
        let moved: Vec<String> = moved.cloned().collect();
        seen.own_refs.extend(moved);
        if seen.own_refs.is_empty() && seen.of_run.is_empty() {
            return Ok(false);
        }
        let began = found.line.attempts.last().map(|attempt| attempt.started_at);
        let since = before.map(Look::begun).or(began).unwrap_or(self.life_began);
        let mut unowned = Vec::new();
        for name in std::mem::take(&mut seen.of_run) {
            if !self.owner_has_worked(&name, since)? {
                unowned.push(name);
            }
        }
        if unowned.is_empty() && seen.own_refs.is_empty() {
            return Ok(false);
        }
        let is_alone = self.is_alone(since)?;
        // A person may commit on the branch of a workstream that is at rest.
        let (branches, references): (Vec<_>, Vec<_>) =
            unowned.into_iter().partition(|name| name.starts_with("refs/heads/"));
        let mut unproved = branches;
        match is_alone {
            true => {
                // No conductor has moved them, and one that is new may be in the way of another workstream.
                if let Some(before) = before {
                    before.put_back(&references, (after, &self.place), &git)?;
                }
                seen.of_run = references;
            }
            false => unproved.extend(references.into_iter().chain(std::mem::take(&mut seen.own_refs))),
        }
        self.put_back_base(&git)?;
        for name in unproved {
            self.warn(format!("`{name}` moved while `{}` ran, and not by its workstream", found.id));
        }
        Ok(true)
    }

    /// True if the workstream of a reference may have moved it since. A reference without one is moved by no conductor.
    fn owner_has_worked(&self, name: &str, since: Timestamp) -> Result<bool, Reason> {
        let below = name.strip_prefix("refs/heads/engine/").or_else(|| name.strip_prefix("refs/engine/"));
        let owner = below.and_then(|below| below.split('/').nth(1)).unwrap_or_default();
        match job_of(&self.request.run, owner) {
            Ok(job) => self.has_worked(&job, since),
            Err(_) => Ok(false),
        }
    }

    /// True if no other job of the run has worked since.
    fn is_alone(&self, since: Timestamp) -> Result<bool, Reason> {
        let Some(manifest) = run_dir::read_manifest(self.means.store, &self.request.run)? else {
            return Ok(true);
        };
        let others = manifest.order.iter().map(|ordered| job_of(&manifest.run_id, &ordered.ws_id));
        for job in others.chain(manifest.integration_job().map(Ok)) {
            let job = job?;
            if job != self.request.job_id && self.has_worked(&job, since)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// True if a job is at work, or its record has changed since.
    fn has_worked(&self, job: &JobId, since: Timestamp) -> Result<bool, Reason> {
        let line = self.means.store.read_line(job)?;
        Ok(line.is_some_and(|line| line.open_attempt().is_some() || line.at >= since))
    }
}
