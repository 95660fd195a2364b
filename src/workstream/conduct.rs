//! The conductor of one workstream: history, next step, run it, judge it, take it; and again.
//!
//! Responsible for the order of these. `fix_loop` decides what is next, the step's own runner supervises it, `worktree` keeps
//! what was taken. Hard rule: a conductor keeps nothing. Killed at any instruction it is run again, and finds in the records
//! of its steps and in the commits of its branch what it had known.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::time::Duration;

use serde_json::Value;

use super::conductor::{Conductor, Event, Files, Known, broken};
use super::former::Former;
use super::prompts::Asked;
use super::result::Verdict;
use super::step::{self, AgentStep, Common};
use crate::fix_loop::Why;
use crate::fix_loop::decision::{Again, How, NewStep, Next};
use crate::fix_loop::next::next;
use crate::job::step::{StepFacts, step_id};
use crate::job::{Code, JobId, Reason, StepKind};
use crate::process::child;
use crate::store::steps::{self, StepFound};
use crate::worktree;

/// How long another process may take to recover a step.
const LONGEST_RECOVERY: Duration = Duration::from_secs(60);

/// How long is waited for it between two tries.
const BETWEEN_TRIES: Duration = Duration::from_millis(200);

/// A longer wait is a park: it holds no slot.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// So many runners in a row that were killed, or calls of git, say that the next would be, too.
const MOST_KILLED: u32 = 3;

impl Conductor<'_, '_> {
    /// Works until there is a verdict. Where git was killed, or another program moved or locked a reference of the workstream, it
    /// begins again with what that left.
    pub(super) fn work(&mut self) -> Result<Verdict, Reason> {
        let mut former = self.former_end()?;
        for _ in 0..MOST_KILLED {
            match self.work_after(former) {
                Err(reason) if reason.code == Code::GitKilled && !self.is_stopped() => {
                    self.warn(reason.message);
                    former = Former { is_killed: true, ..self.former_end()? };
                }
                Err(reason)
                    if matches!(reason.code, Code::RefMoved | Code::RefLocked) && !self.is_stopped() =>
                {
                    self.put_back_expected()?;
                    former = self.former_end()?;
                }
                ended => return ended,
            }
        }
        self.work_after(former)
    }

    fn work_after(&mut self, former: Former) -> Result<Verdict, Reason> {
        self.settle(former)?;
        loop {
            self.choose_checks();
            let known = self.look()?;
            let present = self.present(&known)?;
            let decided = self.progress.guard(next(&self.plan, &known.steps, &present));
            // What a step has left by its end is judged before anything is put aside, and a verdict that is reached is reported: a
            // violation would be forgotten.
            if self.is_stopped() && !matches!(decided, Next::Judge(_) | Next::End(_)) {
                return self.stopped();
            }
            let ended = match decided {
                Next::End(end) => return self.end(&known, &end),
                Next::Judge(n) => self.judge(&known, n).map(|()| None)?,
                Next::Run(step) => self.run(&known, &step)?,
                Next::Again(again) => self.again(&known, &again)?,
            };
            if let Some(verdict) = ended {
                return Ok(verdict);
            }
        }
    }

    /// Runs a step that is new.
    fn run(&mut self, known: &Known, new: &NewStep) -> Result<Option<Verdict>, Reason> {
        if let Some(parked) = self.wait(new.delay.map(|delay| delay.left(self.means.clock.now())))? {
            return Ok(Some(parked));
        }
        if new.kind.is_agent() && self.files != Files::Fresh {
            self.clear(known)?;
        }
        let check = new.check.and_then(|index| self.checks.get(index));
        let head = known.heads.head.as_ref();
        let facts = StepFacts {
            iteration: new.iteration,
            life: self.life,
            tree: head.map(|head| head.tree.clone()),
            checkpoint: head.map(|head| head.commit.clone()),
            ..step::facts(new.n, new.kind, check, new.why)
        };
        let facts = match new.kind {
            StepKind::Setup => StepFacts { check_digest: Some(self.setup_digest()), ..facts },
            _ => facts,
        };
        let id = self.id_of(new.n, new.kind)?;
        let common = Common { request: self.request, id: &id, facts: &facts };
        let document = match new.kind {
            StepKind::Setup => step::setup(common, &self.request.assignment.settings),
            StepKind::Edit | StepKind::Fix => {
                let Some(tool) = &new.tool else { return Err(broken("a step of an agent without a tool")) };
                let Asked { prompt, only } = self.ask(known, new)?;
                self.make_directories()?;
                let max_cost_usd = new.max_cost_usd;
                step::agent(common, &AgentStep { tool: &tool.id, prompt: &prompt, only, max_cost_usd })
            }
            StepKind::Static | StepKind::Runtime | StepKind::Accept => {
                let Some(check) = check else { return Err(broken("a check without a definition")) };
                step::check(common, check, &self.request.assignment.bundle.writable())
            }
        };
        self.execute(known, (&id, new.n, new.kind), &["--job-file", "-"], &document)
    }

    /// Runs a step again that was interrupted, or goes on with one that waited.
    fn again(&mut self, known: &Known, again: &Again) -> Result<Option<Verdict>, Reason> {
        let now = self.means.clock.now();
        let until = match again.how {
            How::WhereItWaits { until } => until.map(|until| until.since(now)),
            How::FromCheckpoint => None,
        };
        if let Some(parked) = self.wait(until.or(again.delay.map(|delay| delay.left(now))))? {
            return Ok(Some(parked));
        }
        let Some(found) = known.found.iter().find(|found| found.n == again.n) else {
            return Err(broken("a step without a record was to be run again"));
        };
        let (id, kind) = (found.id.clone(), found.kind);
        if let How::WhereItWaits { .. } = again.how {
            return self.execute(known, (&id, again.n, kind), &["--claim", id.as_str()], &Value::Null);
        }
        if kind.is_agent() {
            self.clear(known)?;
            self.make_directories()?;
        }
        if kind.is_agent() && found.facts.as_ref().is_some_and(|facts| facts.life != self.life) {
            let document = self.asked_anew(known, found, again)?;
            return self.execute(known, (&id, again.n, kind), &["--job-file", "-"], &document);
        }
        let Some(mut document) = steps::job_document(self.means.store, &found.line) else {
            return Err(Reason::new(Code::JobFileMissing, format!("the job file of `{id}` is missing")));
        };
        if let Some(facts) = document.pointer_mut("/metadata/step").and_then(Value::as_object_mut) {
            facts.insert("life".to_owned(), self.life.into());
            let head = known.heads.head.as_ref();
            facts.insert("tree".to_owned(), head.map(|head| head.tree.clone()).into());
            facts.insert("checkpoint".to_owned(), head.map(|head| head.commit.clone()).into());
        }
        if let (Some(most), Some(metadata)) =
            (again.max_cost_usd, document.get_mut("metadata").and_then(Value::as_object_mut))
        {
            metadata.insert("max_cost_usd".to_owned(), most.into());
        }
        self.execute(known, (&id, again.n, kind), &["--job-file", "-"], &document)
    }

    /// The job file of a step of an agent that a former life left unfinished: a person may have changed the task since.
    fn asked_anew(&self, known: &Known, found: &StepFound, again: &Again) -> Result<Value, Reason> {
        let head = known.heads.head.as_ref();
        let facts = StepFacts {
            life: self.life,
            tree: head.map(|head| head.tree.clone()),
            checkpoint: head.map(|head| head.commit.clone()),
            ..found.facts.clone().unwrap_or_default()
        };
        let tools = || self.plan.tools().find(|tool| Some(&tool.id) == found.line.job.tool.as_ref());
        let tool = tools().unwrap_or(&self.plan.tool);
        let by_name = || self.checks.iter().position(|check| facts.check.as_ref() == Some(&check.name));
        let by_digest = self.checks.iter().position(|check| facts.check_digest == Some(check.digest()));
        let step = NewStep {
            n: again.n,
            kind: found.kind,
            // A person may have changed its command.
            check: by_digest.or_else(by_name),
            tool: Some(tool.clone()),
            why: Why::Retry,
            iteration: facts.iteration,
            is_reduced: again.is_reduced,
            max_cost_usd: again.max_cost_usd,
            delay: None,
        };
        let Asked { prompt, only } = self.ask(known, &step)?;
        let common = Common { request: self.request, id: &found.id, facts: &facts };
        let max_cost_usd = again.max_cost_usd;
        Ok(step::agent(common, &AgentStep { tool: &tool.id, prompt: &prompt, only, max_cost_usd }))
    }

    /// Waits for a short time; a long one parks the workstream.
    fn wait(&mut self, wait: Option<Duration>) -> Result<Option<Verdict>, Reason> {
        let Some(wait) = wait.filter(|wait| !wait.is_zero()) else { return Ok(None) };
        if wait > LONGEST_WAIT {
            return self.park(self.means.clock.now().after(wait)).map(Some);
        }
        let until = self.means.clock.monotonic().saturating_add(wait);
        while !self.is_stopped() {
            let left = until.saturating_sub(self.means.clock.monotonic());
            if left.is_zero() {
                break;
            }
            self.means.signals.wait(&[], left);
        }
        self.progress.has_waited();
        Ok(None)
    }

    /// Has a step run by a process of its own, to its end; a verdict if it could not be run.
    fn execute(
        &mut self,
        known: &Known,
        (id, n, kind): (&JobId, u32, StepKind),
        how: &[&str],
        document: &Value,
    ) -> Result<Option<Verdict>, Reason> {
        // Between the look at the signals and the start of the runner another may come: it is passed on.
        if self.is_stopped() {
            return Ok(None);
        }
        let before = match self.before.take() {
            Some(look) => look,
            None => worktree::look(&self.place, &self.git())?,
        };
        worktree::note(&self.place, id.as_str(), &before)?;
        self.files = Files::Unknown;
        self.before = Some(before);
        self.judged.forget(n);
        (self.means.tell)(&Event::Step(id));
        let input = if document.is_null() { Vec::new() } else { document.to_string().into_bytes() };
        let root = self.means.store.root().as_os_str();
        let mut args: Vec<OsString> = ["--root".into(), root.to_owned()].into();
        args.extend(["run-job", "--json", "--quiet"].iter().chain(how).map(OsString::from));
        let program = child::Program { exe: "/proc/self/exe", args, input: &input };
        let finished = self.run_step(id, &program)?;
        if !self.is_stopped() {
            // Nothing of the step is alive any more.
            worktree::remove_left_locks(&self.place)?;
        }
        self.restore(known, id)?;
        if let Some(found) = steps::step(self.means.store, (id, n, kind))? {
            self.judge_end(known, &found)?;
        }
        let is_refused = || self.judged.is_refused(n);
        if kind == StepKind::Setup && finished.code == Some(0) && !is_refused() {
            worktree::mark_setup(&self.place, &self.setup_digest())?;
        }
        Ok(None)
    }

    /// Runs the runner of a step to its end. Its record says what is next where it was killed; a step without a record is made
    /// once more.
    fn run_step(&mut self, id: &JobId, program: &child::Program<'_>) -> Result<child::Finished, Reason> {
        let until = self.means.clock.monotonic().saturating_add(LONGEST_RECOVERY);
        loop {
            let finished = child::run(program, self.means.signals, &mut self.heeded)
                .map_err(|error| Reason::from_error(Code::StartFailed, &error))?;
            if finished.code.is_none() {
                self.killed_runners += 1;
                self.warn(format!("the runner of `{id}` was killed"));
                self.recover_steps()?;
                if self.killed_runners <= MOST_KILLED {
                    return Ok(finished);
                }
            }
            match refused(id, &finished) {
                Some(reason) if !self.is_stopped() => {
                    // Another process may be recovering the step at this moment.
                    let is_over = self.means.clock.monotonic() >= until;
                    if !reason.code.passes() || is_over {
                        return Err(reason);
                    }
                    self.means.signals.wait(&[], BETWEEN_TRIES);
                }
                _ => {
                    self.killed_runners = 0;
                    return Ok(finished);
                }
            }
        }
    }

    /// Puts back what no step may change, and without which nothing that it left can be looked at.
    fn restore(&mut self, known: &Known, id: &JobId) -> Result<(), Reason> {
        let Some(head) = &known.heads.head else { return Ok(()) };
        self.put_back_head(&head.commit, id)?;
        self.is_tree_gone = !self.place.dir.is_dir();
        if self.is_tree_gone {
            worktree::make(&self.place, &self.git())?;
            self.warn(format!("`{id}` removed the worktree; it was made again"));
        }
        Ok(())
    }

    /// Puts the reference of the last checkpoint back to where it must be after a step.
    pub(super) fn put_back_head(&mut self, commit: &str, id: &JobId) -> Result<(), Reason> {
        let git = self.git();
        self.moved = None;
        if worktree::is_head_at(&self.place, commit, &git)? {
            return Ok(());
        }
        let reference = self.place.head_ref();
        worktree::note_put_back(&self.place, id.as_str(), std::slice::from_ref(&reference))?;
        worktree::put_back_head(&self.place, commit, &git)?;
        self.warn(format!("`{reference}` was moved while `{id}` ran; put back"));
        self.moved = Some(reference);
        Ok(())
    }

    fn id_of(&self, n: u32, kind: StepKind) -> Result<JobId, Reason> {
        step_id(&self.request.job_id, n, kind)
            .map_err(|error| Reason::from_error(Code::InternalError, &error))
    }

    /// Makes the directories of the files that are named and not there yet.
    fn make_directories(&self) -> Result<(), Reason> {
        let writable = self.request.assignment.bundle.writable();
        let is_pattern = |path: &&String| path.contains(['*', '?', '[']);
        let parents: BTreeSet<_> = writable
            .iter()
            .filter(|path| !is_pattern(path))
            .filter_map(|path| path.rsplit_once('/'))
            .collect();
        for (parent, _) in parents {
            worktree::make_directory(&self.place, parent)?;
        }
        Ok(())
    }
}

/// Why a step was not run, as its runner said; none if it was.
fn refused(id: &JobId, finished: &child::Finished) -> Option<Reason> {
    let said: Option<Value> = serde_json::from_slice(&finished.output).ok();
    let Some(said) = said else {
        let code = finished.code.map_or_else(|| "a signal".to_owned(), |code| format!("exit {code}"));
        return Some(Reason::new(
            Code::Killed,
            format!("the runner of `{id}` ended with {code} before it reported"),
        ));
    };
    if said.get("outcome").is_some_and(|outcome| !outcome.is_null()) {
        return None;
    }
    let reason = said.get("reason").and_then(|reason| serde_json::from_value(reason.clone()).ok());
    reason.or_else(|| Some(Reason::new(Code::Error, format!("the runner of `{id}` did not run it"))))
}
