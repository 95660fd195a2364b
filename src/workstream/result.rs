//! The verdict of a conductor, as it tells it to its runner, and what it says of the work.
//!
//! Hard rule: no verdict is told before the work tree is clean, what was unfinished put aside; only a step that waits keeps
//! its tree.

use serde_json::{Map, Value, json};

use super::conductor::{Conductor, Known};
use super::spent;
use crate::bundle::KeepWorktrees;
use crate::clock::Timestamp;
use crate::fix_loop::decision::{self, End};
use crate::fix_loop::{StepState, next};
use crate::job::{Code, Reason};
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
        let is_clean = self.clear(known)?;
        for n in next::flaky(&self.plan, &known.steps) {
            self.warn(format!("step {n:02} failed and passed again on the same tree: the check is flaky"));
        }
        let mut metadata = self.metadata()?;
        if end.is_trip {
            let code = end.reason.as_ref().map(|reason| &reason.code);
            metadata.insert("breaker".to_owned(), json!({ "rule": code, "steps": end.evidence }));
        }
        let keep = self.request.assignment.settings.keep_worktrees;
        let is_kept = match keep {
            KeepWorktrees::Always => true,
            KeepWorktrees::Failed => word != Word::Succeeded,
            KeepWorktrees::Never => false,
        };
        // What was left in place is told already, and stays.
        if !is_kept && is_clean {
            match worktree::remove_clean(&self.place, &self.git()) {
                Ok(()) => drop(metadata.insert("worktree".to_owned(), Value::Null)),
                // The work is done; what is left of the tree is for `runs clean`.
                Err(reason) => {
                    self.warn(format!("the work tree was not removed: {}", reason.message));
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
                worktree::put_aside(&self.place, step.n, &self.counted, None, &self.git()).map(drop)
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

    /// What is said of the work so far.
    pub(super) fn metadata(&self) -> Result<Map<String, Value>, Reason> {
        let known = self.look()?;
        let git = self.git();
        let assignment = &self.request.assignment;
        let head = known.heads.head.as_ref().map_or(self.base(), |head| head.commit.as_str());
        let stat = Stat::of(&worktree::changes(&self.place, (self.base(), head), &git)?);
        let used = spent::used(self.means.store, &known.found)?;
        let aside: Vec<String> = known.heads.asides.iter().map(|(n, _)| self.place.aside_ref(*n)).collect();
        let metadata = json!({
            "base": self.base(),
            "head": head,
            "branch": self.place.branch_name(),
            "worktree": assignment.worktree,
            "phase": known.found.last().map(|step| step.kind),
            "fixes": next::used_fixes(&self.plan, &known.steps, &self.present(&known)?),
            "files_changed": stat.files,
            "insertions": stat.insertions,
            "deletions": stat.deletions,
            "acceptance_not_run": assignment.bundle.prose(),
            "breaker": null,
            "put_aside": aside,
            "cost_usd": used.cost_usd,
            "tokens": used.tokens,
            "warnings": self.warnings,
        });
        Ok(match metadata {
            Value::Object(metadata) => metadata,
            _ => Map::new(),
        })
    }
}
