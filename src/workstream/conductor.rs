//! A conductor: what it works with, what it knows at one moment, and the small things that every part of its work needs.
//!
//! Hard rule: what is known is read anew for each decision; only what a commit holds, which never changes, is kept.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::assignment::Request;
use super::former::Former;
use super::history::{self, Judged, Sources, run_of};
use super::spent;
use crate::adapter::Environment;
use crate::bundle::checks::Check;
use crate::clock::{Clock, Timestamp};
use crate::fix_loop::progress::Progress;
use crate::fix_loop::{self, Plan, Present, Step};
use crate::git::{Client, Deadline, Program, Stop};
use crate::job::digest::sha256;
use crate::job::{Code, JobId, Reason};
use crate::process::program::{self, Program as Found};
use crate::process::signals::Signals;
use crate::store::Store;
use crate::store::steps::{self, StepFound};
use crate::worktree::{self, Counted, Heads, Place, Stat, StepRun, Taken};

/// How long the work on the worktree may take between two steps.
const GIT_TIME: Duration = Duration::from_secs(120);

/// The means of a conductor.
pub(crate) struct Means<'a> {
    /// The root.
    pub store: &'a Store,
    /// The time.
    pub clock: &'a dyn Clock,
    /// The requests to stop.
    pub signals: &'a Signals,
    /// The environment of this process.
    pub environment: &'a Environment,
    /// The program git.
    pub program: Program,
    /// Tells of its steps.
    pub tell: &'a mut dyn FnMut(&Event<'_>),
}

impl std::fmt::Debug for Means<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Means").field("store", &self.store).finish_non_exhaustive()
    }
}

/// What a conductor tells while it works.
#[derive(Debug)]
pub(crate) enum Event<'a> {
    /// A step begins.
    Step(&'a JobId),
    /// Something that a person should know.
    Warning(&'a str),
}

/// A conductor at its work.
pub(super) struct Conductor<'a, 'm> {
    pub(super) means: &'a mut Means<'m>,
    pub(super) request: &'a Request,
    pub(super) place: Place,
    pub(super) counted: Counted,
    pub(super) plan: Plan,
    /// The commit that the work builds on.
    pub(super) base: String,
    /// The life of the workstream's job, and when it began.
    pub(super) life: u32,
    pub(super) life_began: Timestamp,
    pub(super) judged: Judged,
    /// The commit of the last look, with the steps that are taken in it.
    pub(super) taken_at: RefCell<Option<(String, Vec<Taken>)>>,
    /// The checks of the plan, in its order.
    pub(super) checks: Vec<Check>,
    /// True once those that cannot run are left out of both.
    pub(super) has_chosen_checks: bool,
    pub(super) warnings: Vec<String>,
    /// How many requests to stop were passed on.
    pub(super) heeded: usize,
    /// How many runners of steps were killed one after the other.
    pub(super) killed_runners: u32,
    /// How far this process has come.
    pub(super) progress: Progress,
    /// What is beside the worktree, as it was before the step that runs, or after the last one if nothing has moved since.
    pub(super) before: Option<worktree::Look>,
    /// The reference of the last checkpoint, if the last step moved it; it was put back.
    pub(super) moved: Option<String>,
    /// True if the last step removed the worktree; it was made again.
    pub(super) is_tree_gone: bool,
    /// What is known of the files of the worktree.
    pub(super) files: Files,
    /// How much the last checkpoint differs from the base, both by their commits, if that was looked at.
    pub(super) stat: Option<([String; 2], Stat)>,
    /// What there was before this process, until its worktree is settled: up to then what is in it is not of this process.
    pub(super) unsettled: Option<Former>,
}

/// What is known of the files of a worktree, as long as no step has run since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Files {
    /// Nothing.
    Unknown,
    /// git sees no difference to the last checkpoint.
    Unchanged,
    /// They were just laid out, and there is nothing else.
    Fresh,
}

/// What is known at one moment: the records, the commits and the references, and what they make of the steps.
pub(super) struct Known {
    pub(super) found: Vec<StepFound>,
    pub(super) taken: Vec<Taken>,
    pub(super) heads: Heads,
    pub(super) steps: Vec<Step>,
}

impl Conductor<'_, '_> {
    /// Leaves out the optional checks whose program is missing, once `setup` has had its chance to install it.
    pub(super) fn choose_checks(&mut self) {
        let settings = &self.request.assignment.settings;
        let may_come =
            !settings.setup.is_empty() && !worktree::setup_is_done(&self.place, &self.setup_digest());
        if may_come || std::mem::replace(&mut self.has_chosen_checks, true) {
            return;
        }
        let (environment, dir) = (self.means.environment, self.place.dir.clone());
        let (missing, present): (Vec<_>, Vec<_>) = std::mem::take(&mut self.checks)
            .into_iter()
            .partition(|check| is_left_out(check, environment, &dir));
        self.plan.checks = present.iter().map(of_plan).collect();
        self.checks = present;
        for check in missing {
            self.warn(format!("the check `{}` was not run: its program is missing", check.name));
        }
    }

    /// A client for the work between two steps.
    pub(super) fn git(&self) -> Client {
        client(&self.means.program)
    }

    /// Reads the records and the references.
    pub(super) fn look(&self) -> Result<Known, Reason> {
        let git = self.git();
        let found = steps::steps(self.means.store, &self.request.job_id)?;
        let heads = worktree::heads(&self.place, &git)?;
        let taken = self.taken(&heads.checkpoint(&self.place)?.commit)?;
        let assignment = &self.request.assignment;
        let steps = history::fold(&Sources {
            store: self.means.store,
            life_began: self.life_began,
            found: &found,
            taken: &taken,
            judged: &self.judged,
            asides: &heads.asides,
            worktree: &assignment.worktree,
            allow_test_removal: assignment.bundle.allow_test_removal(),
        });
        Ok(Known { found, taken, heads, steps })
    }

    /// The steps that are taken in a commit. A check changes no commit, so most looks find the one of the look before.
    fn taken(&self, head: &str) -> Result<Vec<Taken>, Reason> {
        if let Some((at, taken)) = &*self.taken_at.borrow()
            && at == head
        {
            return Ok(taken.clone());
        }
        let taken = worktree::taken(&self.place, (self.base(), head), &self.git())?;
        *self.taken_at.borrow_mut() = Some((head.to_owned(), taken.clone()));
        Ok(taken)
    }

    pub(super) fn base(&self) -> &str {
        &self.base
    }

    pub(super) fn present(&self, known: &Known) -> Result<Present, Reason> {
        let is_change = |taken: &Taken| matches!(taken.kind.as_str(), "edit" | "fix");
        let rest = spent::rest(self.means.store, self.request, &known.found)?;
        Ok(Present {
            life: self.life,
            tree: known.heads.head.as_ref().map(|head| head.tree.clone()).unwrap_or_default(),
            is_changed: known.taken.iter().any(is_change),
            has_setup_mark: worktree::setup_is_done(&self.place, &self.setup_digest()),
            hand: known.taken.iter().filter_map(|taken| taken.hand).max(),
            taken_over: self.taken_over(known)?,
            last_n: known.taken.iter().filter_map(|taken| taken.head.step).max().unwrap_or(0),
            bundle_rest_usd: rest.bundle,
            run_rest_usd: rest.run,
        })
    }

    pub(super) fn setup_digest(&self) -> String {
        sha256(self.request.assignment.settings.setup.join("\n").as_bytes())
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.means.signals.requests() > 0
    }

    /// Puts aside what is not taken, and lays out the checkpoint; true if the worktree holds nothing else then.
    pub(super) fn clear(&mut self, known: &Known) -> Result<bool, Reason> {
        self.put_aside(known.found.last().map_or(StepRun::from(0), run_of), None)
    }

    /// The same for what a step left; with the reason, if it was refused.
    pub(super) fn put_aside(&mut self, run: StepRun, why: Option<&Reason>) -> Result<bool, Reason> {
        let git = self.git();
        self.before = None;
        let (aside, left) = worktree::put_aside_and_reset(&self.place, run, &self.counted, why, &git)?;
        if let Some(aside) = aside.filter(|aside| !aside.not_kept.is_empty()) {
            self.warn(format!("too large to be kept: {}", named(&aside.not_kept)));
        }
        if !left.is_empty() {
            self.warn(format!("left in place: {}", named(&left)));
        }
        Ok(left.is_empty())
    }

    pub(super) fn warn(&mut self, text: String) {
        (self.means.tell)(&Event::Warning(&text));
        if !self.warnings.contains(&text) {
            self.warnings.push(text);
        }
    }
}

/// A check as the loop knows it.
pub(super) fn of_plan(check: &Check) -> fix_loop::Check {
    fix_loop::Check { name: check.name.clone(), kind: check.kind, digest: check.digest() }
}

/// True for an optional check whose program is missing.
fn is_left_out(check: &Check, environment: &Environment, worktree: &Path) -> bool {
    let find = |program: String| program::find(OsStr::new(&program), environment.get("PATH"), worktree);
    check.optional && check.program().is_some_and(|program| find(program) == Found::Missing)
}

/// Some paths, and how many more there are.
pub(super) fn named(paths: &[PathBuf]) -> String {
    const NAMED: usize = 5;
    let first: Vec<_> = paths.iter().take(NAMED).map(|path| format!("`{}`", path.display())).collect();
    let more = paths.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", first.join(", "))
}

pub(super) fn broken(what: &str) -> Reason {
    Reason::new(Code::InternalError, format!("{what}: an error of the engine"))
}

/// A client of git for what is done between two steps.
pub(super) fn client(program: &Program) -> Client {
    Client {
        program: program.clone(),
        deadline: Deadline::new("the work on the worktree", GIT_TIME),
        stop: Stop::never(),
    }
}
