//! `engine log`: prints the log of an attempt, and follows it.

use std::io::{ErrorKind, IsTerminal, Read, Seek, SeekFrom};
use std::path::Path;
use std::time::Duration;

use super::args::{Global, LogArgs};
use super::error::CliError;
use super::scrub::ToolOutput;
use super::show::known_id;
use super::{print, root};
use crate::clock;
use crate::job::{Attempt, JobId};
use crate::process::wake;
use crate::queue::facts::Runner;
use crate::store::Store;
use crate::store::health;

/// Prints the log; 1 if there is none.
pub fn run(args: &LogArgs, global: &Global) -> Result<u8, CliError> {
    let store = root::to_read(global)?;
    let id = known_id(&args.id)?;
    let attempt = find(&store, &id, args.attempt)?;
    let path = match &attempt.log_path {
        Some(recorded) => store.path_of_record(&id, recorded),
        None => store.state("logs").join(format!("{id}.{}.log", attempt.attempt)),
    };
    // A terminal obeys what it is sent: it gets the text and the colors.
    let mut scrub = (!args.raw && std::io::stdout().is_terminal()).then(ToolOutput::default);
    let log = Log { store: &store, id: &id, attempt: &attempt, path: &path };
    let printed = print_log(args, &log, &mut scrub);
    let rest = scrub.map_or_else(String::new, |mut scrub| scrub.finish());
    // Whether anybody reads it was found out above.
    let _ = print::bytes(rest.as_bytes());
    printed
}

/// The log of an attempt.
struct Log<'a> {
    store: &'a Store,
    id: &'a JobId,
    attempt: &'a Attempt,
    path: &'a Path,
}

fn print_log(args: &LogArgs, log: &Log<'_>, scrub: &mut Option<ToolOutput>) -> Result<u8, CliError> {
    let &Log { store, id, attempt, path } = log;
    let mut position = 0;
    loop {
        // First whether it has ended, then what there is: nothing can come after that.
        let now = find(store, id, Some(attempt.attempt))?;
        let ended = now.outcome.is_some();
        let printed = print_from(path, &mut position, scrub);
        match printed {
            Ok(true) => {}
            // Nobody reads any more.
            Ok(false) => return Ok(0),
            // The default log is made with the first output.
            Err(error)
                if error.kind() == ErrorKind::NotFound
                    && (now.log_path.is_none() || !ended && !args.follow) =>
            {
                let when = if ended { "" } else { " so far" };
                print::note(&format!("attempt {} of `{id}` has printed nothing{when}", now.attempt));
                return Ok(0);
            }
            Err(error) if ended || !args.follow => {
                let message = format!("error reading the log `{}`", path.display());
                return Err(CliError::no(message).because(&error));
            }
            Err(_) => {}
        }
        if ended || !args.follow {
            return Ok(0);
        }
        if runner_is_gone(store, id, attempt) {
            return Err(CliError::no(format!("the runner of `{id}` is gone")).hint("engine recover"));
        }
        clock::sleep(Duration::from_millis(100));
    }
}

/// True if nobody here ends the attempt any more. For people; nothing is decided by it.
pub fn runner_is_gone(store: &Store, id: &JobId, attempt: &Attempt) -> bool {
    runner_of(store, id, attempt) == Runner::Gone
}

/// What there is to see of the runner of an open attempt. For people; nothing is decided by it.
pub fn runner_of(store: &Store, id: &JobId, attempt: &Attempt) -> Runner {
    match health::runner(store, id, attempt) {
        health::Runner::Gone => Runner::Gone,
        health::Runner::Elsewhere(_) => Runner::Elsewhere,
        health::Runner::Alive if wake::is_stopped(attempt.pid) => Runner::Stopped,
        health::Runner::Alive => Runner::Alive,
    }
}

fn find(store: &Store, id: &JobId, number: Option<u32>) -> Result<Attempt, CliError> {
    let record = store.read_record(id)?;
    let mut current = record.iter().flat_map(|record| &record.line.attempts);
    let wanted = |attempt: &&Attempt| number.is_none_or(|number| attempt.attempt == number);
    if let Some(found) = current.rfind(wanted) {
        return Ok(found.clone());
    }
    // An attempt of a former life stands further up.
    let history = store.record_history(id)?;
    let former = history.iter().rev().flat_map(|record| record.line.attempts.iter().rev());
    former.filter(wanted).find(|attempt| attempt.outcome.is_some()).cloned().ok_or_else(|| {
        let what = number.map_or_else(|| "attempt".to_owned(), |number| format!("attempt {number}"));
        CliError::no(format!("the job `{id}` has no {what}")).hint(format!("engine show {id}"))
    })
}

/// Prints what was added; a log that became shorter was cut in the middle, and is printed on from there.
fn print_from(path: &Path, position: &mut u64, scrub: &mut Option<ToolOutput>) -> std::io::Result<bool> {
    let mut file = crate::fs::open_regular(path).map_err(|error| error.source)?;
    *position = file.metadata()?.len().min(*position);
    file.seek(SeekFrom::Start(*position))?;
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(true);
        }
        *position += count as u64;
        let piece = buffer.get(..count).unwrap_or_default();
        let printed = match scrub {
            Some(scrub) => print::bytes(scrub.push(piece).as_bytes()),
            None => print::bytes(piece),
        };
        if printed.is_err() {
            return Ok(false);
        }
    }
}
