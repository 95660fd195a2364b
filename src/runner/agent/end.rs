//! After an agent has ended: the evidence, the class, the outcome, the ledger.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::super::exit_status::ENDED_BY_ENGINE;
use super::super::halt::Halt;
use super::super::past::Past;
use super::super::report::{redact, warn};
use super::Agent;
use super::account::{self, Entry};
use crate::adapter::Manifest;
use crate::adapter::agent::usage::{Before as SessionBefore, used};
use crate::adapter::agent::verdict::{self, Ending};
use crate::adapter::agent::watch::{Watched, is_session_id};
use crate::adapter::agent::{Command, Judged, Seen};
use crate::causes::causes;
use crate::clock::{self, Timestamp};
use crate::cost::budget::Spent;
use crate::evidence::{Changes, Scope};
use crate::fs;
use crate::job::class::{Class, Consequence};
use crate::job::digest::sha256;
use crate::job::record::Work;
use crate::job::spec::FallbackOn;
use crate::job::{Code, JobFile, Outcome, Reason};
use crate::policy::backoff;
use crate::process::redact::Secrets;
use crate::process::{Ended, Exit, StopCause};
use crate::store::control::AttemptId;
use crate::store::{Store, usage};

/// How often a job may wait for a service, if it does not say.
const MAX_PARKS: u32 = 10;
/// How many files and commands stand in the result; all of them stand in the evidence file.
const LISTED: usize = 50;
/// How many commands, failed edits and denied actions stand in it: a record line has room for so many.
const TOLD: usize = 15;
/// A longer name of a model is cut.
const LONGEST_NAME: usize = 128;
/// A service that says to come back later than this is asked before.
const LONGEST_PARK: Duration = Duration::from_secs(40 * 86_400);
/// How long a look that lacked something waits for another one, at first and at last: 6 seconds together.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_millis(3200);

/// What came out of an agent's run.
#[derive(Debug)]
pub struct AgentEnd {
    /// The outcome.
    pub outcome: Outcome,
    /// Why.
    pub reason: Reason,
    /// The class, where the run was judged.
    pub class: Option<Class>,
    /// What to look at first.
    pub details: Vec<String>,
    /// What goes into the result.
    pub metadata: Map<String, Value>,
    /// The session.
    pub session_id: Option<String>,
    /// When a parked job goes on.
    pub not_before: Option<Timestamp>,
    /// True if the same tool would fail again.
    pub for_good: bool,
    /// True if no other tool should go on from here either.
    pub stays_here: bool,
    /// When the job would go on if it is not handed on, although it could be.
    pub park_instead: Option<Timestamp>,
    /// What it and the attempts before it did to the work tree.
    pub work: Option<Work>,
}

/// A run that ended, and whose it was.
#[derive(Debug)]
pub struct Ran<'a> {
    /// The job.
    pub job: &'a JobFile,
    /// Its adapter.
    pub manifest: &'a Manifest,
    /// The attempt.
    pub target: AttemptId,
    /// What was before it.
    pub past: &'a Past,
    /// How the tool ended.
    pub exit: &'a Exit,
    /// What was seen of it.
    pub watched: Watched,
    /// The outcome by what the engine or a signal did to it, if that decides.
    pub by_force: Option<(Outcome, Reason)>,
    /// Ends the look after it.
    pub halt: Halt,
    /// How many lines of its output were too long to be read.
    pub unread_lines: u64,
    /// What must not be shown.
    pub secrets: &'a Secrets,
}

impl Agent {
    /// Takes the evidence, judges, and writes the ledger.
    pub fn end(&self, store: &Store, now: Timestamp, ran: &Ran<'_>) -> AgentEnd {
        let changes = self.changes(ran);
        let work = work(changes.as_ref(), ran.past);
        let judged = self.judge(ran, (changes.as_ref(), work.as_ref()));
        let mut end = decide(ran, judged, now);
        let told = ran.watched.seen.session_id.clone().filter(|id| is_session_id(id));
        end.session_id = told.or_else(|| self.session.clone());
        tell_seen(&ran.watched.seen, &mut end);
        if outstayed(ran) {
            let message = "the agent had declared its end and stayed: the engine ended it";
            tracing::warn!("{}: {message}", ran.job.job_id);
            warn(&mut end.metadata, [message.to_owned()]);
            end.metadata.insert(ENDED_BY_ENGINE.to_owned(), true.into());
        }
        let commands = commands(ran);
        let evidence = self.tell_evidence(store, ran, (changes, &commands));
        end.metadata.insert("evidence".to_owned(), evidence);
        end.metadata.insert("commands".to_owned(), json!(commands.iter().take(TOLD).collect::<Vec<_>>()));
        end.metadata.insert("commands_total".to_owned(), commands.len().into());
        end.work = work;
        // The ledger last, and before the record: what was spent is known whatever happens next.
        let spent = self.write_ledger(store, now, ran, &mut end);
        self.tell_budget(ran, spent, &mut end);
        end
    }

    /// What is different in the work tree; `None` without a look before.
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

    /// The class, and the reason with the word of it; another word where a limit of the engine's own decides.
    fn judge(
        &self,
        ran: &Ran<'_>,
        (changes, work): (Option<&Result<Changes, Reason>>, Option<&Work>),
    ) -> Verdict {
        let outstayed = outstayed(ran);
        if let Some((outcome, reason)) = ran.by_force.as_ref().filter(|_| !outstayed) {
            return match outcome {
                Outcome::TimedOut => Verdict::class(Class::TimedOut, reason.message.clone()),
                Outcome::Stalled => Verdict::class(Class::Stalled, reason.message.clone()),
                outcome => Verdict::Forced(*outcome, reason.clone()),
            };
        }
        if let (Some(Err(_)), Some(reason)) = (changes, ran.halt.reason()) {
            return Verdict::Forced(Outcome::Canceled, reason);
        }
        let was_stopped = ran.exit.stopped == Some(StopCause::Watch) && !outstayed;
        if let Some(halted) = ran.watched.halted.as_ref().filter(|_| was_stopped) {
            return Verdict::Other(Reason::new(Code::BudgetExceeded, format!("it was ended: {halted}")));
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
                "it came to its end, and its work tree holds only what its repository held before".to_owned();
        }
        if judged.class == Class::Protocol && ran.watched.seen.finish.is_none() && ran.unread_lines > 0 {
            let lines = ran.unread_lines;
            let _ =
                write!(judged.message, " that was read; {lines} of its lines were too long (4 MiB and more)");
        }
        match (judged.class, changes) {
            // What was looked at before and cannot be looked at now proves nothing.
            (Class::Ok | Class::Failed, Some(Err(reason))) => {
                Verdict::class(Class::Failed, format!("{}: {}", judged.message, reason.message))
            }
            (Class::Ok, Some(Ok(changes))) => match scope_violation(changes, work) {
                Some(reason) => Verdict::Other(reason),
                None => Verdict::Judged(judged),
            },
            _ => Verdict::Judged(judged),
        }
    }

    fn write_ledger(&self, store: &Store, now: Timestamp, ran: &Ran<'_>, end: &mut AgentEnd) -> Spent {
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
            session_id: end.session_id.as_deref(),
            outcome: end.outcome,
            reason_code: Some(&end.reason.code),
        };
        let mut lines = account::lines(entry, &used, self.purse.prices());
        for model in lines.iter_mut().filter_map(|line| line.model.as_mut()) {
            // A name that the tool tells may hold anything.
            *model = ran.secrets.redact(model).chars().take(LONGEST_NAME).collect();
        }
        if let Err(error) = usage::append(store, &lines) {
            tracing::warn!(error = causes(&error), "the usage ledger is not written");
            end.metadata.insert("ledger_error".to_owned(), causes(&error).into());
        }
        end.metadata.extend(account::told(&lines));
        account::spent_by(&lines)
    }

    fn tell_budget(&self, ran: &Ran<'_>, spent: Spent, end: &mut AgentEnd) {
        let (halt, mut warnings) = self.purse.look(spent);
        if end.reason.code != Code::BudgetExceeded {
            warnings.extend(halt);
        }
        for warning in &warnings {
            tracing::warn!("{}: {warning}", ran.job.job_id);
        }
        if !warnings.is_empty() {
            end.metadata.insert("budget_warnings".to_owned(), warnings.into());
        }
    }

    /// Writes the evidence and the patch beside the log, and gives what the result says of them.
    fn tell_evidence(
        &self,
        store: &Store,
        ran: &Ran<'_>,
        (changes, commands): (Option<Result<Changes, Reason>>, &[Command]),
    ) -> Value {
        let changes = match changes {
            None => return Value::Null,
            Some(Err(reason)) => return json!({ "error": reason }),
            Some(Ok(changes)) => changes,
        };
        let name = |ending: &str| {
            store.state("logs").join(format!("{}.{}.{ending}", ran.job.job_id, ran.target.attempt))
        };
        let mut whole = document(&changes);
        whole.insert("commands".to_owned(), json!(commands));
        if !ran.secrets.is_empty() {
            redact(ran.secrets, &mut whole);
        }
        let text = format!("{:#}\n", Value::Object(whole));
        let mut told = document(&changes);
        for list in ["files", "outside", "ignored", "commits"] {
            if let Some(Value::Array(items)) = told.get_mut(list) {
                items.truncate(LISTED);
            }
        }
        told.extend(kept("evidence", &name("evidence.json"), text.as_bytes()));
        if changes.tree_before != changes.tree_after {
            told.extend(self.keep_patch(&changes, &name("patch"), ran.secrets));
        }
        Value::Object(told)
    }

    fn keep_patch(&self, changes: &Changes, path: &Path, secrets: &Secrets) -> Map<String, Value> {
        match changes.patch() {
            Ok(patch) => {
                let mut told = kept("patch", path, &secrets.redact_bytes(&patch.bytes));
                if patch.cut {
                    told.insert("patch_is_cut".to_owned(), true.into());
                }
                if !patch.left_out.is_empty() {
                    let names: Vec<String> = patch.left_out.into_iter().take(LISTED).collect();
                    told.insert("patch_left_out".to_owned(), names.into());
                }
                told
            }
            Err(reason) => Map::from_iter([("patch_error".to_owned(), reason.message.into())]),
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

/// What the attempts of this life did to the work tree, this one the last. Where this look failed it is what was known before.
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
    let before = before.then(|| {
        Reason::new(Code::ScopeViolation, "files out of scope were changed by an attempt before this one")
    });
    changes.scope_violation().or(before)
}

/// What an agent's run was found to be.
enum Verdict {
    /// Of a class.
    Judged(Judged),
    /// A failure with a word of the engine's own.
    Other(Reason),
    /// The engine, a person or a signal decided.
    Forced(Outcome, Reason),
}

impl Verdict {
    fn class(class: Class, message: String) -> Self {
        Self::Judged(Judged { class, message, reset_at: None })
    }
}

fn decide(ran: &Ran<'_>, verdict: Verdict, now: Timestamp) -> AgentEnd {
    let mut end = AgentEnd {
        outcome: Outcome::Failed,
        reason: Reason::new(Code::Failed, String::new()),
        class: None,
        details: Vec::new(),
        metadata: Map::new(),
        session_id: None,
        not_before: None,
        for_good: false,
        stays_here: false,
        park_instead: None,
        work: None,
    };
    let judged = match verdict {
        Verdict::Forced(outcome, reason) => return AgentEnd { outcome, reason, ..end },
        Verdict::Other(reason) => {
            // Another attempt would be refused, or begin with files that should not be there.
            end.for_good = true;
            end.stays_here = true;
            return AgentEnd { reason, ..end };
        }
        Verdict::Judged(judged) => judged,
    };
    end.class = Some(judged.class);
    end.reason = Reason::new(judged.class.code(), judged.message.clone());
    end.metadata.insert("class".to_owned(), json!(judged.class));
    match judged.class.consequence() {
        Consequence::Succeed => end.outcome = Outcome::Succeeded,
        Consequence::Own(outcome) => end.outcome = outcome,
        Consequence::Fail => {}
        Consequence::FailForGood => end.for_good = true,
        Consequence::Park if hands_on(ran.job, judged.class) => {
            end.for_good = true;
            end.park_instead = may_park(ran).then(|| goes_on_at(ran, &judged, now));
        }
        Consequence::Park if may_park(ran) => {
            end.outcome = Outcome::Parked;
            end.not_before = Some(goes_on_at(ran, &judged, now));
        }
        Consequence::Park => {
            end.reason.message = format!("{} (after waiting {} times)", end.reason.message, ran.past.parks);
            end.for_good = true;
        }
    }
    end.metadata.insert("reset_at".to_owned(), json!(judged.reset_at));
    end
}

/// True if the engine ended an agent that had declared its end before, for no reason but that it stayed.
fn outstayed(ran: &Ran<'_>) -> bool {
    let is_limit = match ran.exit.stopped {
        Some(StopCause::TotalTime | StopCause::IdleTime) => true,
        Some(StopCause::Watch) => ran.watched.stopped_for.is_none() && ran.watched.halted.is_none(),
        Some(StopCause::Interrupt(_) | StopCause::Requested) | None => false,
    };
    is_limit && ran.watched.ended_before_stop
}

fn may_park(ran: &Ran<'_>) -> bool {
    let most = ran.job.metadata.known.max_parks.map_or(MAX_PARKS, crate::job::number::Count::as_u32);
    ran.past.parks < most
}

/// True if the job is to be handed to another adapter rather than wait.
fn hands_on(job: &JobFile, class: Class) -> bool {
    let allowed = job.metadata.known.fallback_on.as_deref().unwrap_or_default();
    class == Class::Quota && allowed.contains(&FallbackOn::Quota) && job.escalates_to().is_some()
}

/// When a parked job goes on: when the service says, but not so soon that waiting is no waiting, and not all at once; else after a
/// wait that grows.
fn goes_on_at(ran: &Ran<'_>, judged: &Judged, now: Timestamp) -> Timestamp {
    let is_quota = judged.class == Class::Quota;
    let (id, parks) = (ran.job.job_id.as_str(), ran.past.parks);
    let wait = backoff::park_wait(is_quota, id, parks);
    match judged.reset_at.filter(|reset| *reset > now) {
        Some(reset) if is_quota => {
            reset.after(backoff::spread(reset.since(now), id, parks)).min(now.after(LONGEST_PARK))
        }
        Some(reset) => reset.max(now.after(wait / 2)).min(now.after(LONGEST_PARK)),
        None => now.after(wait),
    }
}

fn tell_seen(seen: &Seen, end: &mut AgentEnd) {
    let metadata = &mut end.metadata;
    metadata.insert("session_id".to_owned(), json!(end.session_id));
    metadata.insert("answer".to_owned(), json!(seen.answer));
    metadata.insert("retries".to_owned(), seen.retries.into());
    for (key, list) in [("failed_edits", &seen.failed_edits), ("denied", &seen.denied)] {
        if !list.is_empty() {
            metadata.insert(key.to_owned(), json!(list.iter().take(TOLD).collect::<Vec<_>>()));
        }
    }
    if !seen.warnings.is_empty() {
        warn(metadata, seen.warnings.iter().cloned());
    }
    let lists = seen.failed_edits.iter().map(|edit| format!("edit did not fit: {edit}"));
    end.details = lists.chain(seen.denied.iter().map(|denied| format!("not allowed: {denied}"))).collect();
    if let Some(trouble) = &seen.trouble {
        end.details.push(trouble.message.clone());
    }
    if let Some(answer) = seen.answer.as_deref().filter(|answer| !answer.trim().is_empty()) {
        end.details
            .extend(answer.lines().rev().take(10).map(str::to_owned).collect::<Vec<_>>().into_iter().rev());
    }
}

/// The commands of the stream, and those of this run that only the session file tells.
fn commands(ran: &Ran<'_>) -> Vec<Command> {
    let mut all = ran.watched.seen.commands.clone();
    for hidden in &ran.watched.session.commands {
        let is_told = all.iter().any(|known| same_command(&known.command, &hidden.command));
        if !is_told {
            all.push(hidden.clone());
        }
    }
    all
}

/// The same command may be quoted once more in the stream.
fn same_command(told: &str, hidden: &str) -> bool {
    let plain = |text: &str| text.chars().filter(|c| !matches!(c, '\'' | '"' | '\\')).collect::<String>();
    told == hidden || plain(told) == plain(hidden)
}

fn document(changes: &Changes) -> Map<String, Value> {
    match serde_json::to_value(changes) {
        Ok(Value::Object(document)) => document,
        _ => Map::new(),
    }
}

/// Writes a file of evidence, and gives its path and SHA-256, or why it is not there.
fn kept(what: &str, path: &Path, bytes: &[u8]) -> Map<String, Value> {
    let parent = path.parent().map_or(Ok(false), fs::create_dir);
    match parent.and_then(|_| fs::replace(path, bytes)) {
        Ok(()) => Map::from_iter([
            (format!("{what}_path"), json!(path.to_string_lossy())),
            (format!("{what}_sha256"), json!(sha256(bytes))),
        ]),
        Err(error) => Map::from_iter([(format!("{what}_error"), json!(causes(&error)))]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_that_lacked_a_descriptor_is_tried_again_and_another_failure_is_not() {
        let short = || Reason::of(Code::EvidenceFailed, &std::io::Error::from_raw_os_error(libc::EMFILE));
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
