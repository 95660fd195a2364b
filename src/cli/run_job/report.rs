//! Reports of `engine run-job` about a job that it ran, or did not run.
//!
//! Not responsible for running it. Hard rule: with `--json` standard output holds one document and nothing else.

use clap::ValueEnum;
use serde_json::json;

use crate::cli::global::Global;
use crate::cli::{print, signals};
use crate::clock::{Clock, SystemClock};
use crate::job::parse::problem::Problems;
use crate::job::{Code, JobId, JobResult, Outcome, Place, Reason, Status, parse_job};
use crate::process::signals::Signals;
use crate::runner::Conclusion;
use crate::runner::exit_status::{self, ENGINE, PARKED};
use crate::store::Store;

/// When output is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum When {
    /// Not at all
    Never,
    /// Head and tail, on standard error, if the job did not succeed
    Failure,
    /// Live
    Always,
}

/// How the conclusion of a job is reported.
pub(super) struct Report<'a> {
    pub(super) store: &'a Store,
    pub(super) global: &'a Global,
    pub(super) json: bool,
    pub(super) output: When,
    /// True for a job that waited in the queue.
    pub(super) is_claim: bool,
}

impl Report<'_> {
    /// Tells it, and gives the exit status.
    pub(super) fn tell(&self, conclusion: &Conclusion, signals: &Signals) -> u8 {
        match conclusion {
            Conclusion::Result(result) => self.tell_result(result),
            Conclusion::Ended(result) => self.tell_ended(result),
            Conclusion::Parked(id, reason) => {
                self.tell_reason(id, reason, Some(Status::Queued));
                if !self.global.quiet {
                    print::note(&format!("{id} is left in the queue: {}", reason.message));
                }
                PARKED
            }
            Conclusion::Refused(id, reason) => {
                self.tell_reason(id, reason, None);
                // The job waits, nothing is wrong.
                if self.is_claim && self.global.quiet && reason.code.passes() {
                    return ENGINE;
                }
                print::note(&format!("error: {id} was not run: {}", reason.message));
                if let Some(hint) = self.hint(reason, id).filter(|_| !self.global.quiet) {
                    print::note(&format!("hint: {hint}"));
                }
                signals::exit_status(signals).unwrap_or(ENGINE)
            }
        }
    }

    /// Reports that the job is another one, by its key and content.
    pub(super) fn tell_if_another(&self, asked: Option<&JobId>, conclusion: &Conclusion) {
        if self.global.quiet {
            return;
        }
        let id = match conclusion {
            Conclusion::Result(result) | Conclusion::Ended(result) => &result.job_id,
            Conclusion::Parked(id, _) | Conclusion::Refused(id, _) => id,
        };
        if let Some(asked) = asked.filter(|asked| *asked != id) {
            print::note(&format!("{asked} is already the job `{id}`, with the same key and content"));
        }
        if let Conclusion::Ended(result) = conclusion {
            let at = result.finished_at;
            let how = result.outcome.as_str().replace('_', " ");
            print::note(&format!(
                "{id} ended at {at} ({how}) and was not run again; `engine requeue {id}` runs it again"
            ));
        }
    }

    fn hint(&self, reason: &Reason, id: &JobId) -> Option<String> {
        match reason.code {
            Code::WaitingTime if self.is_claim => Some(waiting_time(id, self.store)),
            Code::WaitingHold
            | Code::WaitingDependency
            | Code::WaitingAfter
            | Code::WaitingLock
            | Code::LockNotReleased
                if self.is_claim =>
            {
                Some(format!("engine explain {id}"))
            }
            Code::WaitingHold
            | Code::WaitingTime
            | Code::WaitingDependency
            | Code::WaitingAfter
            | Code::WaitingLock => {
                Some("--wait SECONDS waits for it, --park leaves the job in the queue".to_owned())
            }
            Code::NotQueued => Some(format!(
                "a job that has ended is run again by --job-file; where it is: engine show {id}"
            )),
            Code::IdRunning => Some(format!("engine show {id}; engine log {id} --follow")),
            Code::IdQueued => Some(format!(
                "engine run-job --claim {id} runs what is queued; after engine cancel {id} this file runs"
            )),
            Code::WrongName | Code::NotAJobFile => {
                Some(format!("it is now in {}", self.store.root().join("jobs/quarantined").display()))
            }
            _ => None,
        }
    }

    fn tell_reason(&self, id: &JobId, reason: &Reason, status: Option<Status>) {
        if self.json {
            print::json_line(&json!({
                "job_id": id, "success": false, "status": status, "outcome": null, "exit_code": null, "reason": reason,
            }));
        }
    }

    /// An earlier end is reported unchanged; `ran` tells programs that nothing ran now.
    fn tell_ended(&self, result: &JobResult) -> u8 {
        if self.json {
            let mut document = json!(self.shown(result));
            document["ran"] = json!(false);
            print::json_line(&document);
        }
        self.tell_output(result);
        exit_status::for_result(result)
    }

    /// A result with the paths of this root.
    fn shown(&self, result: &JobResult) -> JobResult {
        let mut shown = result.clone();
        let id = &result.job_id;
        shown.each_path(&mut |path| {
            *path = self.store.path_of_record(id, path).to_string_lossy().into_owned();
        });
        shown
    }

    fn tell_output(&self, result: &JobResult) {
        if self.output == When::Failure && !result.success {
            for text in [&result.stdout, &result.stderr] {
                print::tool_text(text);
            }
        }
    }

    fn tell_result(&self, result: &JobResult) -> u8 {
        if self.json {
            print::json_line(&self.shown(result));
        }
        self.tell_output(result);
        let took = format!("{:.2} s", result.duration_s);
        let id = &result.job_id;
        if result.success {
            // Silent without a terminal: cron mails what is printed.
            let watched = rustix::termios::isatty(std::io::stderr());
            if !self.global.quiet && !self.json && (watched || self.global.verbose > 0) {
                print::note(&format!("{id} succeeded in {took}"));
            }
        } else if result.status == Status::Queued && !self.json && !self.global.quiet {
            let tried = result.outcome.as_str().replace('_', " ");
            let why = result.reason.as_ref().map_or_else(String::new, |r| format!(": {}", r.message));
            print::note(&format!("{id}: attempt {} {tried}{why}", result.attempt));
            let until = self.store.read_record(id).ok().flatten().and_then(|record| record.line.not_before);
            let until = until.map_or_else(String::new, |time| format!(", not before {time}"));
            print::note(&format!("it waits in the queue{until}; hint: engine work, engine show {id}"));
        } else if !self.global.quiet && !self.json {
            let why = result.reason.as_ref().map_or_else(String::new, |r| format!(": {}", r.message));
            print::note(&format!("{id} {} after {took}{why}", result.outcome.as_str().replace('_', " ")));
            print::note(&format!("hint: engine show {id}"));
        }
        exit_status::for_result(result)
    }
}

/// An invalid file is reported and leaves no trace.
pub(super) fn tell_invalid(json: bool, problems: &Problems) -> u8 {
    if json {
        let reason = Reason::new(Code::InvalidJobFile, problems.to_string());
        print::json_line(&json!({
            "success": false, "outcome": Outcome::Invalid, "reason": reason, "problems": problems.problems,
        }));
    }
    for line in problems.lines() {
        print::error_line(&line);
    }
    print::note("error: the job file is invalid; nothing was run");
    ENGINE
}

/// A job file may hold a time of its own; a time in the record goes away with a new life.
fn waiting_time(id: &JobId, store: &Store) -> String {
    let path = store.job_file(&Place::Queued, id);
    let own = std::fs::read(&path).ok().and_then(|bytes| parse_job(&bytes, "").ok());
    let now = SystemClock::start().now();
    if own.and_then(|parsed| parsed.job.not_before).is_some_and(|time| time > now) {
        return format!(
            "`engine work` goes on with it then; to run it now, take `not_before` out of {}",
            path.display()
        );
    }
    format!("`engine work` goes on with it then; to try now: engine cancel {id} && engine requeue {id}")
}
