//! Ends an agent's attempt: evidence, class, outcome, ledger.

use std::fmt::Write;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::super::end::{End, Particulars};
use super::super::exit_status::ENDED_BY_ENGINE;
use super::super::past::Past;
use super::super::report::warn;
use super::Agent;
use super::account::{self, Entry};
use super::consequence::follow;
use super::ran::Ran;
use super::tell::{TOLD, commands, tell_evidence, tell_seen};
use crate::adapter::agent::Judged;
use crate::adapter::agent::usage::{SessionBefore, used};
use crate::adapter::agent::verdict::{self, Ending};
use crate::adapter::agent::watch::is_session_id;
use crate::causes::causes;
use crate::clock::{self, Timestamp};
use crate::cost::budget::Spent;
use crate::evidence::{Changes, Scope};
use crate::job::class::Class;
use crate::job::record::Work;
use crate::job::{Code, Outcome, Reason};
use crate::process::{Ended, StopCause};
use crate::store::{Store, usage};

/// A longer name of a model is cut.
const LONGEST_NAME: usize = 128;
/// How long a look that lacked something waits for another one, at first and at last: 6 seconds together.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_millis(3200);

impl Agent {
    /// Takes the evidence, judges, and writes the ledger.
    pub(crate) fn end(&self, store: &Store, now: Timestamp, ran: &Ran<'_>) -> (End, Particulars) {
        let changes = self.changes(ran);
        let work = work(changes.as_ref(), ran.past);
        let judged = self.judge(ran, (changes.as_ref(), work.as_ref()));
        let mut particulars = Particulars::default();
        let end = judged.map_or_else(|end| end, |judged| follow(ran, judged, now, &mut particulars.metadata));
        let session_id = ran.watched.seen.session_id.clone().filter(|id| is_session_id(id));
        particulars.session_id = session_id.or_else(|| self.session.clone());
        tell_seen(&ran.watched.seen, &mut particulars);
        if ran.outstayed() {
            let message = "the agent declared its end but kept running: the engine ended it";
            tracing::warn!("{}: {message}", ran.job.job_id);
            warn(&mut particulars.metadata, [message.to_owned()]);
            particulars.metadata.insert(ENDED_BY_ENGINE.to_owned(), true.into());
        }
        let commands = commands(ran);
        let evidence = tell_evidence(store, ran, (changes, &commands));
        particulars.metadata.insert("evidence".to_owned(), evidence);
        particulars
            .metadata
            .insert("commands".to_owned(), json!(commands.iter().take(TOLD).collect::<Vec<_>>()));
        particulars.metadata.insert("commands_total".to_owned(), commands.len().into());
        particulars.work = work;
        // The ledger last, and before the record: what was spent is known whatever happens next.
        let spent = self.write_ledger(store, now, (ran, &end), &mut particulars);
        self.tell_budget((ran, &end), spent, &mut particulars.metadata);
        if ran.exit.stopped == Some(StopCause::Watch) {
            particulars.metadata.insert(ENDED_BY_ENGINE.to_owned(), true.into());
        }
        (end, particulars)
    }

    /// The changes in the worktree; `None` without a snapshot before.
    fn changes(&self, ran: &Ran<'_>) -> Option<Result<Changes, Reason>> {
        let before = self.before.as_ref()?;
        let top = &before.snapshot().repository.top;
        let own: Vec<String> = ran.manifest.own_files.iter().chain(&self.engine_files).cloned().collect();
        let no_change = Scope::of_no_change(&own, top);
        Some(no_change.and_then(|no_change| {
            let look = || before.after_without(&no_change, ran.halt.stop());
            again_after_a_shortage(look, |wait| {
                clock::sleep(wait);
                ran.halt.reason().is_none()
            })
        }))
    }

    /// The class; else the end, where the engine, a person or a signal decided.
    fn judge(
        &self,
        ran: &Ran<'_>,
        (changes, work): (Option<&Result<Changes, Reason>>, Option<&Work>),
    ) -> Result<Judged, End> {
        let outstayed = ran.outstayed();
        if let Some(end) = ran.by_force.as_ref().filter(|_| !outstayed) {
            let class = match end.outcome {
                Outcome::TimedOut => Class::TimedOut,
                Outcome::Stalled => Class::Stalled,
                _ => return Err(end.clone()),
            };
            let message = end.reason.as_ref().map_or_else(String::new, |reason| reason.message.clone());
            return Ok(Judged { class, message, reset_at: None });
        }
        if let (Some(Err(_)), Some(reason)) = (changes, ran.halt.reason()) {
            return Err(End::canceled(reason));
        }
        let was_stopped = ran.exit.stopped == Some(StopCause::Watch) && !outstayed;
        if let Some(halted) = ran.watched.halted.as_ref().filter(|_| was_stopped) {
            return Err(End::out_of_bounds(Reason::new(
                Code::BudgetExceeded,
                format!("ended by the engine: {halted}"),
            )));
        }
        let ending = Ending {
            exit_code: match ran.exit.ended {
                // That it was ended says nothing of its work.
                _ if outstayed => Some(0),
                Ended::Code(code) if ran.manifest.success_exit_codes.contains(&code) => Some(0),
                Ended::Code(code) => Some(code),
                Ended::Signal(_) => None,
            },
            changed: work.filter(|_| matches!(changes, Some(Ok(_)))).map(|work| work.changed),
            was_stopped,
            allow_no_change: ran.job.metadata.known.allow_no_change == Some(true),
            is_literal: self.is_literal,
        };
        let mut judged = verdict::judge(&ran.watched, ending);
        if judged.class == Class::NoChange
            && let Some(Ok(Changes { only_moved: true, .. })) = changes
        {
            judged.message =
                "finished, but its worktree holds only what its repository held before".to_owned();
        }
        if judged.class == Class::Protocol && ran.watched.seen.finish.is_none() && ran.unread_lines > 0 {
            let lines = ran.unread_lines;
            let _ = write!(judged.message, " that was read; {lines} lines were too long (4 MiB or more)");
        }
        match (judged.class, changes) {
            // A worktree that was readable before and is not now proves nothing.
            (Class::Ok | Class::Failed, Some(Err(reason))) => {
                let message = format!("{}: {}", judged.message, reason.message);
                Ok(Judged { class: Class::Failed, message, reset_at: None })
            }
            (Class::Ok, Some(Ok(changes))) => match scope_violation(changes, work) {
                Some(reason) => Err(End::out_of_bounds(reason)),
                None => Ok(judged),
            },
            _ => Ok(judged),
        }
    }

    fn write_ledger(
        &self,
        store: &Store,
        now: Timestamp,
        (ran, end): (&Ran<'_>, &End),
        particulars: &mut Particulars,
    ) -> Spent {
        let before = match (&ran.watched.before, &self.session) {
            (Some(before), Some(_)) => SessionBefore::Known(before),
            (None, Some(_)) => SessionBefore::Unknown,
            (_, None) => SessionBefore::New,
        };
        let used = used(&ran.watched.seen, &ran.watched.session, before);
        let entry = Entry {
            at: now,
            started_at: ran.past.started_at.unwrap_or(now),
            job_id: &ran.job.job_id,
            run_id: ran.job.run_id.as_deref(),
            workstream_id: ran.job.workstream_id.as_deref(),
            tool: Some(&ran.job.tool),
            asked_model: account::asked_model(ran.job),
            attempt: ran.target.attempt,
            session_id: particulars.session_id.as_deref(),
            outcome: end.outcome,
            reason_code: end.reason.as_ref().map(|reason| &reason.code),
        };
        let mut lines = account::lines(entry, &used, self.purse.prices());
        for model in lines.iter_mut().filter_map(|line| line.model.as_mut()) {
            // A name that the tool tells may hold anything.
            *model = ran.secrets.redact(model).chars().take(LONGEST_NAME).collect();
        }
        if let Err(error) = usage::append(store, &lines) {
            tracing::warn!(error = causes(&error), "cannot write the usage ledger");
            particulars.metadata.insert("ledger_error".to_owned(), causes(&error).into());
        }
        particulars.metadata.extend(account::ledger_summary(&lines));
        account::spent_by(&lines)
    }

    fn tell_budget(&self, (ran, end): (&Ran<'_>, &End), spent: Spent, metadata: &mut Map<String, Value>) {
        let (halt, mut warnings) = self.purse.look(spent);
        if end.reason.as_ref().is_none_or(|reason| reason.code != Code::BudgetExceeded) {
            warnings.extend(halt);
        }
        for warning in &warnings {
            tracing::warn!("{}: {warning}", ran.job.job_id);
        }
        if !warnings.is_empty() {
            metadata.insert("budget_warnings".to_owned(), warnings.into());
        }
    }
}

/// Looks again if there was a shortage, as long as it may be waited for: the tool has run, and what it did is not thrown away for
/// a moment without descriptors.
fn again_after_a_shortage<T>(
    mut look: impl FnMut() -> Result<T, Reason>,
    mut wait: impl FnMut(Duration) -> bool,
) -> Result<T, Reason> {
    let mut next = FIRST_WAIT;
    loop {
        let seen = look();
        let is_short = seen.as_ref().err().is_some_and(|why| why.shortage.is_some());
        if !is_short || next > LONGEST_WAIT || !wait(next) {
            return seen;
        }
        next *= 2;
    }
}

/// What the attempts of this life did to the worktree, this one the last. Where this look failed it is what was known before.
fn work(changes: Option<&Result<Changes, Reason>>, past: &Past) -> Option<Work> {
    let Some(Ok(changes)) = changes else { return past.work.clone() };
    let out_of_scope = changes.violations_total > 0;
    let changed = changes.changed && !changes.only_moved;
    let tree = changes.tree_after.clone();
    Some(match &past.work {
        None => Work { origin_tree: changes.tree_before.clone(), tree, changed, out_of_scope },
        Some(before) => {
            // What they did may have been taken back, and what others did between is not the work of this job.
            let is_kept = before.tree == changes.tree_before && before.origin_tree != changes.tree_after;
            Work {
                changed: changed || (before.changed && is_kept),
                out_of_scope: out_of_scope || before.out_of_scope,
                origin_tree: before.origin_tree.clone(),
                tree,
            }
        }
    })
}

fn scope_violation(changes: &Changes, work: Option<&Work>) -> Option<Reason> {
    let before = work.is_some_and(|work| work.out_of_scope);
    let before =
        before.then(|| Reason::new(Code::ScopeViolation, "an earlier attempt changed files out of scope"));
    changes.scope_violation().or(before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_that_lacked_a_descriptor_is_tried_again_and_another_failure_is_not() {
        let short =
            || Reason::from_error(Code::EvidenceFailed, &std::io::Error::from_raw_os_error(libc::EMFILE));
        let mut answers = vec![Ok(7), Err(short()), Err(short())];
        let mut waits = Vec::new();
        let mut wait = |one| {
            waits.push(one);
            true
        };
        assert_eq!(again_after_a_shortage(|| answers.pop().unwrap(), &mut wait), Ok(7));
        assert_eq!(waits, [FIRST_WAIT, FIRST_WAIT * 2]);
        let (mut looks, mut waited) = (0, Duration::ZERO);
        let never = again_after_a_shortage(
            || {
                looks += 1;
                Err::<(), _>(short())
            },
            |one| {
                waited += one;
                true
            },
        );
        assert_eq!((never, looks), (Err(short()), 7));
        assert!(waited < Duration::from_secs(10));
        let canceled = again_after_a_shortage(|| Err::<(), _>(short()), |_| false);
        assert_eq!(canceled, Err(short()));
        let other = Reason::new(Code::EvidenceFailed, "it says: Too many open files (os error 24)");
        let seen = again_after_a_shortage(|| Err::<(), _>(other.clone()), |_| panic!("it waits"));
        assert_eq!(seen, Err(other.clone()));
    }
}
