//! `engine wait`: waits until jobs have ended. Reads only.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::cancel::{self, CancelArgs};
use super::error::{CliError, NO};
use super::global::Global;
use super::jobs::note_of;
use super::named_run::no_job_of;
use super::{print, root, signals};
use crate::clock::{Clock, SystemClock};
use crate::fs::watch::{Changes, Watch};
use crate::job::{JobId, RecordLine};
use crate::policy::dag;
use crate::queue::places;
use crate::runner::exit_status::TIMED_OUT;
use crate::store::{Store, archived};
use crate::view::members;
use crate::view::outcome::{self, Progress, Stuck};
use crate::view::runner::{self, Runner};

mod ids;

use ids::ids_of;

/// `engine wait`
#[derive(Debug, Clone, PartialEq, Args)]
#[command(
    override_usage = "engine wait [OPTIONS] <ID>...\n       engine wait [OPTIONS] --run <RUN>",
    after_help = "Examples:\n  engine wait nightly\n  \
    engine submit jobs.jsonl | engine wait --cancel-on-interrupt -\n  engine wait --run R --timeout 3600 --json\n\n\
    Exit status: 0 all succeeded, 1 some did not (they are named on standard error), 124 timed out.\n\
    A job that waits for its next attempt has not ended; one that was escalated is judged by its successor."
)]
pub struct WaitArgs {
    /// The jobs; `-` reads ids from standard input, one a line
    #[arg(required_unless_present = "run", conflicts_with = "run", value_name = "ID")]
    pub ids: Vec<String>,
    /// All jobs of this run, including those that join it later
    #[arg(long, value_name = "RUN")]
    pub run: Option<String>,
    /// Give up after so many seconds
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub timeout: Option<Duration>,
    /// Cancel the jobs that have not ended if this command is interrupted (Ctrl-C, TERM, HUP)
    #[arg(long)]
    pub cancel_on_interrupt: bool,
    /// Print one JSON document for each job that ends, a line each
    #[arg(long)]
    pub json: bool,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().map_err(|error| error.to_string())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

/// The most jobs that are named when the time is over.
const NAMED: usize = 10;

/// Waits; 1 if a job did not succeed, is not known, or will not run because a dependency did not succeed; 124 if the time was
/// over first.
pub(super) fn run(args: &WaitArgs, global: &Global) -> Result<u8, CliError> {
    // Before the ids are read: an interrupt may reach their submitter together with this process.
    let signals = if args.cancel_on_interrupt { Some(signals::install()?) } else { None };
    let ids = ids_of(&args.ids, signals.as_ref())?;
    let store = root::to_read(global)?;
    if let Some(status) = signals.as_ref().and_then(signals::exit_status) {
        cancel_all(&store, &ids, args, global)?;
        return Ok(status);
    }
    let clock = SystemClock::start();
    let until = args.timeout.map(|timeout| clock.monotonic().saturating_add(timeout));
    // Made before the first look: every later change is reported.
    let watch = Watch::new(&[&store.state("jobs"), &store.root().join("jobs/queued")]);
    let mut pause = Duration::ZERO;
    let mut waiting = Waiting::new(&store, args, global, ids)?;
    loop {
        let start = clock.monotonic();
        let changed = waiting.look_at_all()?;
        let now = clock.monotonic();
        pause = watch.pause(now.saturating_sub(start), changed, pause);
        let mut look_at_all_at = now.saturating_add(pause);
        // Reported jobs are looked at one by one, until it is time to look at everything again.
        while !waiting.pending.is_empty() {
            if let Some(status) = signals.as_ref().and_then(signals::exit_status) {
                cancel_all(&store, &waiting.pending, args, global)?;
                return Ok(status);
            }
            let now = clock.monotonic();
            if until.is_some_and(|until| now >= until) {
                waiting.tell_what_is_left(args.timeout.unwrap_or_default());
                return Ok(TIMED_OUT);
            }
            if now >= look_at_all_at {
                break;
            }
            let at_most = look_at_all_at.min(until.unwrap_or(look_at_all_at)).saturating_sub(now);
            match &signals {
                Some(signals) => drop(signals.wait(watch.fd().as_slice(), at_most)),
                None => watch.wait(at_most),
            }
            match watch.drain() {
                Changes::Names(names) => waiting.look_at(names),
                Changes::Unknown => look_at_all_at = clock.monotonic(),
            }
        }
        if let Some(stuck) = waiting.all_stuck() {
            waiting.tell_stuck(&stuck);
            return Ok(NO);
        }
        // One more look finds jobs that join the run at the moment of the last end.
        if waiting.pending.is_empty() && !waiting.look_at_all()? {
            return Ok(if waiting.some_failed { NO } else { 0 });
        }
    }
}

/// Cancels what has not ended; of an escalated job that is its successor.
fn cancel_all(
    store: &Store,
    pending: &BTreeSet<JobId>,
    args: &WaitArgs,
    global: &Global,
) -> Result<(), CliError> {
    let going = |id: &JobId| match outcome::look(store, id) {
        Ok(Progress::Going(Some(line))) => line.job_id.to_string(),
        _ => id.to_string(),
    };
    let ids: Vec<String> = pending.iter().map(going).collect();
    let jobs = print::counted(ids.len(), "job that has", "jobs that have");
    print::note(&format!("interrupted: canceling the {jobs} not ended"));
    cancel::run(&CancelArgs { ids, no_wait: true, json: args.json }, global)?;
    Ok(())
}

struct Waiting<'a> {
    store: &'a Store,
    args: &'a WaitArgs,
    global: &'a Global,
    pending: BTreeSet<JobId>,
    /// Jobs that were reported, and jobs of other runs.
    settled: BTreeSet<JobId>,
    /// Jobs with a successor.
    escalated: BTreeSet<JobId>,
    /// Jobs whose runner is gone, which was reported.
    warned: BTreeSet<JobId>,
    some_failed: bool,
}

impl<'a> Waiting<'a> {
    fn new(
        store: &'a Store,
        args: &'a WaitArgs,
        global: &'a Global,
        ids: BTreeSet<JobId>,
    ) -> Result<Self, CliError> {
        let mut pending = ids;
        for id in &pending {
            if !outcome::is_known(store, id)? && archived::last_of(store, id)?.is_none() {
                return Err(CliError::no(format!("there is no job `{id}`")).hint("engine list"));
            }
        }
        let mut some_failed = false;
        if let Some(run) = &args.run {
            let found = members::of_run(store, run)?;
            for (id, error) in &found.unreadable {
                // Its success is unknown.
                print::note(&format!("error: {id}, which may be of this run: {error}"));
                some_failed = true;
            }
            pending.extend(found.ids);
            if pending.is_empty() {
                pending.extend(members::retired_of_run(store, run)?);
            }
            if pending.is_empty() {
                return Err(no_job_of(store, run));
            }
        }
        Ok(Self {
            store,
            args,
            global,
            pending,
            settled: BTreeSet::new(),
            escalated: BTreeSet::new(),
            warned: BTreeSet::new(),
            some_failed,
        })
    }

    /// Looks at every job that is waited for, and for new ones of the run; true if one ended or joined.
    fn look_at_all(&mut self) -> Result<bool, CliError> {
        let mut changed = false;
        if self.args.run.is_some() {
            for id in places::all_ids(self.store)? {
                changed |= self.join(id);
            }
        }
        for id in self.pending.clone() {
            changed |= self.look_at_one(&id);
        }
        Ok(changed)
    }

    /// Looks at the jobs whose record or file has changed.
    fn look_at(&mut self, names: Vec<(usize, String)>) {
        let mut ids = BTreeSet::new();
        for (_, name) in names {
            let stem = name.strip_suffix(".jsonl").or_else(|| name.strip_suffix(".json"));
            ids.extend(stem.and_then(|stem| JobId::new(stem).ok()));
        }
        let mut others = false;
        for id in ids {
            if self.args.run.is_some() {
                self.join(id.clone());
            }
            others |= !self.pending.contains(&id);
            self.look_at_one(&id);
        }
        // One of them may be what an escalated job is judged by.
        if others {
            for id in self.escalated.clone() {
                self.look_at_one(&id);
            }
        }
    }

    /// Lets a job join that belongs to the run; true if it did.
    fn join(&mut self, id: JobId) -> bool {
        if self.pending.contains(&id) || self.settled.contains(&id) {
            return false;
        }
        match members::run_of(self.store, &id) {
            run if run == self.args.run => self.pending.insert(id),
            Some(_) => {
                self.settled.insert(id);
                false
            }
            // Not known yet, or none.
            None => false,
        }
    }

    /// Tells the end of a job; true if it has ended.
    fn look_at_one(&mut self, id: &JobId) -> bool {
        if !self.pending.contains(id) {
            return false;
        }
        let progress = match outcome::look(self.store, id) {
            Ok(progress) => progress,
            // An unreadable record stops its own job only.
            Err(error) => {
                self.some_failed = true;
                CliError::from(error).print(self.global.quiet);
                self.settle(id);
                return true;
            }
        };
        match progress {
            Progress::Going(line) => {
                if line.as_ref().is_some_and(|l| l.job_id != *id || l.escalated_to().is_some()) {
                    self.escalated.insert(id.clone());
                }
                self.warn_if_abandoned(id, line.as_deref());
                return false;
            }
            Progress::Ended(line) => self.tell(id, &line),
            Progress::Unknown => {
                self.some_failed = true;
                print::note(&format!("error: {id} was taken out of the queue"));
            }
        }
        self.settle(id);
        true
    }

    fn settle(&mut self, id: &JobId) {
        self.pending.remove(id);
        self.escalated.remove(id);
        self.settled.insert(id.clone());
    }

    fn tell(&mut self, id: &JobId, line: &RecordLine) {
        let success = outcome::is_success(line);
        let reason = line.result.as_ref().and_then(|result| result.reason.as_ref());
        let outcome = line.result.as_ref().map(|result| result.outcome);
        self.some_failed |= !success;
        if self.args.json {
            print::json_line(&json!({
                "job_id": id, "judged_by": line.job_id, "success": success, "status": line.status,
                "outcome": outcome, "reason": reason, "exit_code": line.result.as_ref().and_then(|r| r.exit_code),
                "at": line.at,
            }));
        }
        if !success {
            let by = if line.job_id == *id { String::new() } else { format!(" (as `{}`)", line.job_id) };
            let how = outcome.map_or(line.status.as_str(), |outcome| outcome.as_str()).replace('_', " ");
            let why = reason.map_or_else(String::new, |reason| format!(": {}", reason.message));
            print::note(&format!("{id} {how}{by}{why}"));
        }
    }

    /// Reports once that no process will end a job at present.
    fn warn_if_abandoned(&mut self, id: &JobId, line: Option<&RecordLine>) {
        let open = line.and_then(RecordLine::open_attempt);
        let runner = open.map_or(Runner::None, |attempt| runner::probe(self.store, id, attempt));
        let pid = open.map_or(0, |attempt| attempt.pid);
        let note = match runner {
            Runner::Gone => {
                Some(format!("the runner of {id} is gone; a worker or `engine recover` ends the job"))
            }
            other => note_of(other, pid).map(|note| format!("{id}: {note}")),
        };
        if let Some(note) = note.filter(|_| !self.global.quiet && self.warned.insert(id.clone())) {
            print::note(&format!("warning: {note}"));
        }
    }

    /// The jobs that are left, each with what it waits for, if none of them will run without a person.
    fn all_stuck(&self) -> Option<BTreeMap<JobId, Stuck>> {
        // Usually the first of them makes progress: then the others need no check.
        outcome::stuck(self.store, self.pending.first()?).ok().flatten()?;
        let stuck = outcome::all_stuck(self.store, &self.pending).ok()?;
        (stuck.len() == self.pending.len()).then_some(stuck)
    }

    fn tell_stuck(&self, stuck: &BTreeMap<JobId, Stuck>) {
        let behind = stuck.values().filter(|why| matches!(why, Stuck::Behind { .. })).count();
        if behind > 0 {
            let jobs = print::counted(behind, "job waits", "jobs wait");
            print::note(&format!("error: {jobs} for a job that did not succeed"));
        }
        let circles: BTreeSet<&Vec<JobId>> = stuck.values().filter_map(Stuck::circle).collect();
        for circle in circles {
            print::note(&format!("error: the dependencies run in a circle: {}", dag::shown(circle)));
        }
        if self.global.quiet {
            return;
        }
        for (id, why) in stuck.iter().take(NAMED) {
            match why {
                Stuck::Behind { on, .. } => {
                    print::note(&format!("{id} waits for {on}: {}", why.advice(id)));
                }
                Stuck::Circle(_) => print::note(&format!("{id} waits for ever: {}", why.advice(id))),
            }
        }
    }

    fn tell_what_is_left(&self, timeout: Duration) {
        let jobs = print::counted(self.pending.len(), "job has", "jobs have");
        print::note(&format!("error: {jobs} not ended after {} s", timeout.as_secs_f64()));
        if self.global.quiet {
            return;
        }
        for id in self.pending.iter().take(NAMED) {
            let status = self.store.read_record(id).ok().flatten().map(|record| record.line.status);
            let status = status.map_or("queued", |status| status.as_str());
            print::note(&format!("{id} is {status}: engine explain {id}"));
        }
    }
}
