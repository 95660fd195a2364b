//! Fills the result with what a tool left.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::Workplace;
use super::end::{AttemptEnd, Details, End, Particulars, Stop, Then};
use super::report::redact;
use crate::adapter::read;
use crate::job::result::shorten;
use crate::job::{Outcome, Reason};
use crate::process::excerpt::Excerpt;
use crate::process::output::Output;
use crate::process::redact::Secrets;
use crate::process::{Ended, Exit};

/// The results of a tool that ran.
pub(super) struct Ran {
    /// The verdict on it.
    pub end: End,
    /// The particulars from its reader.
    pub particulars: Particulars,
    /// How it ended.
    pub exit: Exit,
    /// Its output.
    pub output: Output<'static>,
    /// Where standard output of an agent is kept as it came.
    pub stream_path: Option<PathBuf>,
    /// How many lines of an agent were too long to be read.
    pub unread_lines: u64,
    /// The secrets to hide.
    pub secrets: Secrets,
}

/// True if a preview is not all of a stream.
fn is_cut(stream: &Excerpt, preview: &str) -> bool {
    stream.whole().is_none_or(|whole| String::from_utf8_lossy(&whole) != preview)
}

/// A longer line of details is cut, after the redaction.
const LONGEST_DETAIL: usize = 1000;

/// So is a longer message: it may quote what a report says.
const LONGEST_MESSAGE: usize = 4 << 10;

/// So many kept processes are named in a result: a line of a record has a bound.
const KEPT_NAMED: usize = 20;

/// The reason as it may be shown.
pub(super) fn without_secrets(reason: Reason, secrets: &Secrets) -> Reason {
    Reason { message: shorten(&secrets.redact(&reason.message), LONGEST_MESSAGE), ..reason }
}

/// Fills in the end of an attempt whose tool ran; gives what only the error report has.
pub(super) fn fill_in(place: &mut Workplace<'_>, end: &mut AttemptEnd, ran: Ran) -> Details {
    let Ran { end: judged, particulars, exit, output, stream_path, unread_lines, secrets } = ran;
    let result = &mut end.result;
    end.then = judged.then;
    result.outcome = judged.outcome;
    result.success = judged.outcome == Outcome::Succeeded;
    result.reason = judged.reason.map(|reason| without_secrets(reason, &secrets));
    match exit.ended {
        Ended::Code(code) => result.exit_code = Some(code),
        Ended::Signal(signal) => result.signal = Some(signal),
    }
    result.usage = Some(exit.usage);
    result.stdout = output.stdout().preview(100, 16 << 10);
    result.stderr = output.stderr().preview(50, 8 << 10);
    result.stdout_truncated = is_cut(output.stdout(), &result.stdout);
    result.stderr_truncated = is_cut(output.stderr(), &result.stderr);
    if !output.has_log() {
        result.log_path = None;
    }
    if let Some(error) = output.log_error() {
        result.metadata.insert("log_error".to_owned(), error.to_string().into());
    }
    let stragglers = exit.stragglers;
    if stragglers > 0 {
        // The verdict is the tool's, but the user should know of the left-overs.
        result.metadata.insert("left_over_processes".to_owned(), stragglers.into());
        let (processes, were) = if stragglers == 1 { ("process", "was") } else { ("processes", "were") };
        tracing::warn!("{stragglers} {processes} outlived the tool and {were} ended");
    }
    if !exit.left_alive.is_empty() {
        end.then = Then::Stop(Stop::LeftAlive);
        result.metadata.insert("left_alive".to_owned(), exit.left_alive.into());
    }
    if !exit.kept.is_empty() {
        result.metadata.insert("kept_processes".to_owned(), exit.kept.len().into());
        let first =
            exit.kept.into_iter().take(KEPT_NAMED).map(|kept| json!({"pid": kept.pid, "name": kept.name}));
        result.metadata.insert("kept".to_owned(), first.collect());
    }
    if unread_lines > 0 {
        result.metadata.insert("unread_lines".to_owned(), unread_lines.into());
    }
    if let Some(path) = stream_path {
        result.metadata.insert("stream_path".to_owned(), path.to_string_lossy().into());
    }
    let Particulars { metadata, mut details, session_id, work } = particulars;
    result.metadata.extend(metadata);
    (end.session_id, end.work) = (session_id, work);
    if details.lines.is_empty() {
        details.lines = read::last_lines(output.stderr(), 20);
    }
    let result = &mut end.result;
    if !secrets.is_empty() {
        redact(&secrets, &mut result.metadata);
        details.lines = details.lines.iter().map(|line| secrets.redact(line)).collect();
        details.git_command = details.git_command.map(|command| secrets.redact(&command));
        if let Some(Value::Object(results)) = &mut details.test_results {
            redact(&secrets, results);
        }
    }
    for line in &mut details.lines {
        *line = line.chars().take(LONGEST_DETAIL).collect();
    }
    place.onward = output.into_onward();
    details
}
