//! `engine log`: prints the log of an attempt, and follows it.

use std::io::{ErrorKind, IsTerminal};
use std::path::PathBuf;
use std::time::Duration;

use super::error::CliError;
use super::global::Global;
use super::growing::{GrowingLog, Piece};
use super::jobs::{known_id, not_found};
use super::print::Reader;
use super::scrub::ToolOutput;
use super::{print, root};
use crate::job::{Attempt, JobId, Outcome, Place, Status};
use crate::queue::places;
use crate::store::{Record, Store, archived};
use crate::view::runner::{self, Runner};
use clap::Args;

/// `engine log`
#[derive(Debug, Clone, PartialEq, Args)]
#[command(
    after_help = "Examples:\n  engine log nightly\n  engine log nightly --follow\n  engine log nightly --attempt 2"
)]
pub struct LogArgs {
    /// The job
    pub id: String,
    /// The attempt (default: the last one)
    #[arg(long, value_name = "N")]
    pub attempt: Option<u32>,
    /// Wait for the start, and follow until the job ends, across retries; with --attempt, until that attempt ends
    #[arg(short, long)]
    pub follow: bool,
    /// Send control characters to the terminal too, as the tool printed them; a file or a pipe always gets them
    #[arg(long)]
    pub raw: bool,
}

/// How long a follower rests.
const REST: Duration = Duration::from_millis(100);

/// So many looks in a row that find no job file: between two of them one may be moved, or be on its way.
const LOOKS_WITHOUT_FILE: u32 = 10;

/// Prints the log; 1 if it does not exist.
pub(super) fn run(args: &LogArgs, global: &Global) -> Result<u8, CliError> {
    let store = root::to_read(global)?;
    let id = known_id(&args.id)?;
    // A terminal obeys what it is sent: it gets the text and the colors.
    let scrub = (!args.raw && std::io::stdout().is_terminal()).then(ToolOutput::default);
    let mut shown = Shown { store: &store, id: &id, scrub, log: GrowingLog::default() };
    let printed = if args.follow { follow(&mut shown, args.attempt) } else { once(&mut shown, args.attempt) };
    if let Some(scrub) = &mut shown.scrub {
        print::data(scrub.finish().as_bytes());
    }
    printed
}

fn once(shown: &mut Shown<'_>, number: Option<u32>) -> Result<u8, CliError> {
    let (store, id) = (shown.store, shown.id);
    let record = store.read_record(id)?;
    let Some(attempt) = find(store, id, record.as_ref(), number)? else {
        return Err(no_attempt(store, id, record.as_ref(), number));
    };
    if shown.print(&attempt)? == Log::Missing {
        shown.tell_missing(&attempt)?;
    }
    Ok(0)
}

/// Prints attempt after attempt until the job has ended, or the one attempt that was asked for.
fn follow(shown: &mut Shown<'_>, number: Option<u32>) -> Result<u8, CliError> {
    let (store, id) = (shown.store, shown.id);
    let (mut current, mut waits_for, mut has_shown, mut without_file) = (number, None, false, 0);
    loop {
        // First the state, then the log: nothing can follow an end.
        let record = store.read_record(id)?;
        let going = is_going(store, id, record.as_ref())?;
        let found = find(store, id, record.as_ref(), current)?;
        let Some(attempt) = found else {
            if !going {
                return if has_shown { Ok(0) } else { Err(no_attempt(store, id, record.as_ref(), number)) };
            }
            without_file = if has_file(store, id)? { 0 } else { without_file + 1 };
            if without_file == LOOKS_WITHOUT_FILE {
                return Err(file_is_gone(id));
            }
            // Several may start and end between two looks.
            current.get_or_insert(record.as_ref().map_or(1, |record| record.line.next_attempt()));
            if waits_for.replace(current) != Some(current) {
                print::note(&format!("`{id}` has not started yet; why: engine explain {id}"));
            }
            if print::wait(REST) == Reader::Gone {
                return Ok(0);
            }
            continue;
        };
        (current, has_shown) = (Some(attempt.attempt), true);
        let log = shown.print(&attempt)?;
        if attempt.outcome.is_none() {
            if runner_is_gone(store, id, &attempt) {
                // A slow reader may have delayed the print: a runner writes the record before it exits.
                let seq = |record: &Option<Record>| record.as_ref().map(|record| record.line.seq);
                if seq(&store.read_record(id)?) != seq(&record) {
                    continue;
                }
                return Err(CliError::no(format!("the runner of `{id}` is gone")).hint("engine recover"));
            }
        } else if number.is_some() || (!going && is_last(record.as_ref(), &attempt)) {
            if log == Log::Missing {
                shown.tell_missing(&attempt)?;
            }
            return Ok(0);
        } else {
            let how = attempt.outcome.map_or("", Outcome::as_str).replace('_', " ");
            print::note(&format!("attempt {} of `{id}` {how}; the next one follows", attempt.attempt));
            current = Some(attempt.attempt.saturating_add(1));
            waits_for = Some(current);
            shown.log = GrowingLog::default();
        }
        if print::wait(REST) == Reader::Gone {
            return Ok(0);
        }
    }
}

/// True if another attempt may come: the job has not ended.
fn is_going(store: &Store, id: &JobId, record: Option<&Record>) -> Result<bool, CliError> {
    Ok(match record {
        Some(record) => !record.line.status.is_terminal(),
        None => places::is_at(store, id, &Place::Queued)?,
    })
}

/// True if no attempt followed this one: of a job that has ended meanwhile, some may have.
fn is_last(record: Option<&Record>, attempt: &Attempt) -> bool {
    record.is_none_or(|record| record.line.next_attempt() <= attempt.attempt.saturating_add(1))
}

/// True if the job that has not ended has a file.
fn has_file(store: &Store, id: &JobId) -> Result<bool, CliError> {
    let found = places::active_files(store, id)?;
    Ok(found.queued || found.running || found.in_the_way.is_some())
}

fn file_is_gone(id: &JobId) -> CliError {
    let message = format!("there is no job `{id}` any more: its job file is gone from the queue");
    CliError::no(message).hint(format!("engine explain {id}"))
}

/// The printed state of a job.
struct Shown<'a> {
    store: &'a Store,
    id: &'a JobId,
    scrub: Option<ToolOutput>,
    log: GrowingLog,
}

/// Whether an attempt has a log.
#[derive(PartialEq, Eq)]
enum Log {
    There,
    Missing,
}

impl Shown<'_> {
    /// Prints what was added to the log of an attempt. The waiting loop notices a reader that is gone.
    fn print(&mut self, attempt: &Attempt) -> Result<Log, CliError> {
        let path = self.path(attempt);
        let scrub = &mut self.scrub;
        let mut take = |piece: Piece<'_>| {
            let dropped;
            let bytes = match piece {
                Piece::Bytes(bytes) => bytes,
                Piece::Dropped(count) => {
                    dropped = format!("\n[engine: {count} bytes dropped before they could be shown]\n");
                    dropped.as_bytes()
                }
            };
            match scrub {
                Some(scrub) => print::bytes(scrub.push(bytes).as_bytes()),
                None => print::bytes(bytes),
            }
        };
        match self.log.read_on(&path, &mut take) {
            Ok(()) => Ok(Log::There),
            Err(error) if error.kind() == ErrorKind::BrokenPipe || print::data_was_lost() => Ok(Log::There),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Log::Missing),
            Err(error) => {
                let message = format!("error reading the log `{}`", path.display());
                Err(CliError::no(message).because(&error))
            }
        }
    }

    fn path(&self, attempt: &Attempt) -> PathBuf {
        match &attempt.log_path {
            Some(recorded) => self.store.path_of_record(self.id, recorded),
            None => self.store.state("logs").join(format!("{}.{}.log", self.id, attempt.attempt)),
        }
    }

    /// Reports why there is no log.
    fn tell_missing(&self, attempt: &Attempt) -> Result<(), CliError> {
        let (id, number) = (self.id, attempt.attempt);
        let reason = attempt.reason.as_ref().map_or("", |reason| reason.message.as_str());
        let note = match attempt.outcome {
            None => format!("attempt {number} of `{id}` has printed nothing so far"),
            Some(Outcome::NotStarted | Outcome::Invalid) => {
                format!("attempt {number} of `{id}` did not start and has no log: {reason}")
            }
            // The default log is made with the first output.
            Some(_) if attempt.log_path.is_none() => {
                format!("attempt {number} of `{id}` has printed nothing")
            }
            Some(_) => {
                let message = format!("the log `{}` is gone", self.path(attempt).display());
                return Err(CliError::no(message).hint(format!("engine show {id}")));
            }
        };
        print::note(&note);
        Ok(())
    }
}

/// True if no process here ends the attempt any more. For people; nothing is decided by it.
pub(super) fn runner_is_gone(store: &Store, id: &JobId, attempt: &Attempt) -> bool {
    runner::probe(store, id, attempt) == Runner::Gone
}

/// An attempt of a job, the last one if no number is given.
fn find(
    store: &Store,
    id: &JobId,
    record: Option<&Record>,
    number: Option<u32>,
) -> Result<Option<Attempt>, CliError> {
    let Some(record) = record else { return Ok(None) };
    let wanted = |attempt: &&Attempt| number.is_none_or(|number| attempt.attempt == number);
    if let Some(found) = record.line.attempts.iter().rfind(wanted) {
        return Ok(Some(found.clone()));
    }
    if number.is_some_and(|number| number >= record.line.next_attempt()) {
        return Ok(None);
    }
    // An attempt of a former life is further up.
    let history = store.record_history(id)?;
    let former = history.iter().rev().flat_map(|record| record.line.attempts.iter().rev());
    Ok(former.filter(wanted).find(|attempt| attempt.outcome.is_some()).cloned())
}

/// Why there is nothing to print.
fn no_attempt(store: &Store, id: &JobId, record: Option<&Record>, number: Option<u32>) -> CliError {
    let going = match is_going(store, id, record) {
        Ok(going) => going,
        Err(error) => return error,
    };
    match (record, number) {
        (Some(_), Some(number)) => {
            CliError::no(format!("the job `{id}` has no attempt {number}")).hint(format!("engine show {id}"))
        }
        _ if going && has_file(store, id).is_ok_and(|has_file| !has_file) => file_is_gone(id),
        _ if going => CliError::no(format!("the job `{id}` has not started yet"))
            .hint(format!("`engine log {id} --follow` waits for it; why it waits: engine explain {id}")),
        (Some(record), None) => {
            let how = record.line.status;
            let how = if how == Status::Canceled { "was canceled" } else { "ended" };
            CliError::no(format!("the job `{id}` {how} before its first attempt: it has no log"))
                .hint(format!("engine show {id}"))
        }
        (None, _) => match archived::last_of(store, id) {
            Ok(Some(retired)) => {
                let line = &retired.record.line;
                let message = format!(
                    "the job `{id}` {} at {} and is in {}: its logs are gone",
                    line.status, line.at, retired.file
                );
                CliError::no(message).hint(format!(
                    "for its result and the head and tail of its output: engine show {id} --json"
                ))
            }
            Ok(None) => not_found(store, id),
            Err(error) => error.into(),
        },
    }
}
