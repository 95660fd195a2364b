//! The verdict of a conductor, as it tells it to its runner, and what it says of the work.
//!
//! Hard rule: no verdict is reported before the worktree is clean, what was unfinished put aside; only a step that waits keeps
//! its tree.

use serde_json::{Map, Value, json};

use super::conductor::{Conductor, Files, Known};
use super::former::{LEFT_CLEAN, STARTS, starts};
use super::history::run_of;
use super::spent;
use crate::bundle::KeepWorktrees;
use crate::clock::Timestamp;
use crate::fix_loop::decision::{self, End};
use crate::fix_loop::{StepState, next};
use crate::job::{Code, Reason};
use crate::store::steps;
use crate::worktree::{self, Stat};

/// The word of a verdict.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Word {
    Succeeded,
    #[default]
    Failed,
    Quarantined,
    Parked,
    Canceled,
}

/// The last line that a conductor prints.
#[derive(Debug, Default, serde::Serialize)]
pub(crate) struct Verdict {
    /// What became of the work.
    #[serde(rename = "verdict")]
    pub word: Word,
    /// Why; none for a success.
    pub reason: Option<Reason>,
    /// When it goes on, if it waits.
    pub not_before: Option<Timestamp>,
    /// What is said of the work.
    pub metadata: Map<String, Value>,
}

impl Verdict {
    /// That of a conductor that could not go on.
    pub(super) fn failed(reason: Reason) -> Self {
        Self { word: Word::Failed, reason: Some(reason), ..Self::default() }
    }

    /// A success, or a failure with its reason.
    pub(super) fn of(reason: Option<Reason>) -> Self {
        let word = if reason.is_some() { Word::Failed } else { Word::Succeeded };
        Self { word, reason, ..Self::default() }
    }

    /// That of a conductor that the machine stopped.
    pub(super) fn parked(reason: Reason, until: Timestamp) -> Self {
        Self { word: Word::Parked, reason: Some(reason), not_before: Some(until), ..Self::default() }
    }
}

impl Conductor<'_, '_> {
    /// The verdict that the loop has come to.
    pub(super) fn end(&mut self, known: &Known, end: &End) -> Result<Verdict, Reason> {
        let word = match end.verdict {
            decision::Verdict::Succeeded => Word::Succeeded,
            decision::Verdict::Failed => Word::Failed,
            decision::Verdict::Quarantined => Word::Quarantined,
        };
        let is_kept = match self.request.assignment.settings.keep_worktrees {
            KeepWorktrees::Always => true,
            KeepWorktrees::Failed => word != Word::Succeeded,
            KeepWorktrees::Never => false,
        };
        // Of a tree that is removed only what git sees is to be put aside.
        let is_clean = (!is_kept && self.files != Files::Unknown) || self.clear(known)?;
        for n in next::flaky(&self.plan, &known.steps) {
            self.warn(format!("step {n:02} failed and passed again on the same tree: the check is flaky"));
        }
        let mut metadata = self.metadata()?;
        if end.is_trip {
            let code = end.reason.as_ref().map(|reason| &reason.code);
            metadata.insert("breaker".to_owned(), json!({ "rule": code, "steps": end.evidence }));
        }
        // What was left in place was reported already, and stays.
        if !is_kept && is_clean {
            match worktree::remove_clean(&self.place, &self.git()) {
                Ok(()) => drop(metadata.insert("worktree".to_owned(), Value::Null)),
                // The work is done; what is left of the tree is for `runs clean`.
                Err(reason) => {
                    self.warn(format!("the worktree was not removed: {}", reason.message));
                    metadata.insert("warnings".to_owned(), json!(self.warnings));
                }
            }
        }
        Ok(Verdict { word, reason: end.reason.clone(), not_before: None, metadata })
    }

    /// Leaves the tree as the next start expects it: that of a step that waits is put aside and stays, because its session goes
    /// on in it. What no step will go on with is put aside and reset.
    fn leave(&mut self, known: &Known) -> Result<(), Reason> {
        let waits = known
            .steps
            .last()
            .filter(|step| step.kind.is_agent() && matches!(step.state, StepState::Parked(_)));
        match waits {
            Some(step) => {
                let run = known.found.iter().find(|found| found.n == step.n).map_or(step.n.into(), run_of);
                worktree::put_aside(&self.place, run, &self.counted, None, &self.git()).map(drop)
            }
            None => self.clear(known).map(drop),
        }
    }

    /// The verdict of a workstream that waits.
    pub(super) fn park(&mut self, until: Timestamp) -> Result<Verdict, Reason> {
        let known = self.look()?;
        self.leave(&known)?;
        let why =
            known.found.last().and_then(|step| step.line.result.as_ref()).and_then(|r| r.reason.clone());
        let why = why.map_or_else(String::new, |why| format!(": {}", why.message));
        let reason = Reason::new(Code::WaitingTime, format!("it goes on at {until}{why}"));
        Ok(Verdict {
            word: Word::Parked,
            reason: Some(reason),
            not_before: Some(until),
            metadata: self.metadata()?,
        })
    }

    /// The verdict of a workstream that was asked to stop.
    pub(super) fn stopped(&mut self) -> Result<Verdict, Reason> {
        let known = self.look()?;
        self.leave(&known)?;
        let reason =
            Reason::new(Code::Interrupted, "the workstream was stopped between two steps, its tree is clean");
        Ok(Verdict {
            word: Word::Canceled,
            reason: Some(reason),
            not_before: None,
            metadata: self.metadata()?,
        })
    }

    /// The verdict of a workstream that an error ended. The tree is left clean, and what is known of the work is said, as far as
    /// that can be done: often what failed once does not fail again. Work that is not judged is left to the next process; so is
    /// what was in the tree before this one, as a person's changes.
    pub(super) fn give_up(&mut self, mut verdict: Verdict) -> Verdict {
        let is_clean = match self.unsettled {
            Some(former) => Ok(former.is_left_clean()),
            None => self.judge_and_leave().map(|()| true),
        };
        if let Err(reason) = &is_clean {
            self.warn(format!("the worktree was not left clean: {}", reason.message));
        }
        let (metadata, _) = self.facts();
        verdict.metadata = metadata;
        verdict.metadata.insert(LEFT_CLEAN.to_owned(), is_clean.unwrap_or(false).into());
        verdict
    }

    fn judge_and_leave(&mut self) -> Result<(), Reason> {
        let known = self.look()?;
        if let decision::Next::Judge(n) = next::next(&self.plan, &known.steps, &self.present(&known)?) {
            self.judge(&known, n)?;
        }
        let known = self.look()?;
        self.leave(&known)
    }

    /// What is said of the work so far.
    pub(super) fn metadata(&self) -> Result<Map<String, Value>, Reason> {
        match self.facts() {
            (metadata, None) => Ok(metadata),
            (_, Some(reason)) => Err(reason),
        }
    }

    /// What can be said of the work so far, and the first error if that is not all.
    fn facts(&self) -> (Map<String, Value>, Option<Reason>) {
        let assignment = &self.request.assignment;
        let mut metadata = Map::new();
        let mut tell = |key: &str, value: Value| drop(metadata.insert(key.to_owned(), value));
        tell("base", json!(self.base()));
        tell("branch", json!(self.place.branch_name()));
        tell("worktree", json!(assignment.worktree));
        tell("acceptance_not_run", json!(assignment.bundle.prose()));
        tell("breaker", Value::Null);
        tell("warnings", json!(self.warnings));
        let found = steps::steps(self.means.store, &self.request.job_id).map_err(Reason::from);
        let of_records = found.and_then(|found| {
            tell("phase", json!(found.last().map(|step| step.kind)));
            tell(STARTS, starts(&found).into());
            let used = spent::used(self.means.store, &found)?;
            tell("cost_usd", json!(used.cost_usd));
            tell("tokens", json!(used.tokens));
            Ok(())
        });
        let of_git = self.look().and_then(|known| {
            let aside = known.heads.asides.iter().map(|aside| self.place.aside_ref(aside.step));
            tell("put_aside", json!(aside.collect::<Vec<_>>()));
            let head = known.heads.head.as_ref().map_or(self.base(), |head| head.commit.as_str());
            tell("head", json!(head));
            tell("fixes", json!(next::used_fixes(&self.plan, &known.steps, &self.present(&known)?)));
            let stat = match &self.stat {
                Some(([base, of], stat)) if base == self.base() && of == head => *stat,
                _ => Stat::of(&worktree::changes(&self.place, (self.base(), head), &self.git())?),
            };
            tell("files_changed", json!(stat.files));
            tell("insertions", json!(stat.insertions));
            tell("deletions", json!(stat.deletions));
            Ok(())
        });
        let error = of_records.err().or(of_git.err());
        (metadata, error)
    }
}
