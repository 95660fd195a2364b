//! Standard output and standard error. A reader that is gone (`| head`) is no error.
//!
//! Hard rule: everything passes `scrub`, whatever its source: names of files, records and messages hold untrusted text.
//! `line` and `note` print one line each, whatever the text contains. Exceptions: `bytes`, whose callers scrub, and the output
//! of a tool in a pipe or a file (`tool_text`).

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::named_root;
use super::scrub::{self, ToolOutput};

static DATA_LOST: AtomicBool = AtomicBool::new(false);

/// True if some data could not be printed: then the answer is not 0.
pub(super) fn data_was_lost() -> bool {
    DATA_LOST.load(Ordering::Relaxed)
}

/// Prints a line of data.
pub(super) fn line(text: &str) {
    lines([text]);
}

/// Prints lines of data at once.
pub(super) fn lines(lines: impl IntoIterator<Item = impl AsRef<str>>) {
    let lines = lines.into_iter().map(|line| scrub::line(line.as_ref()) + "\n");
    out(&lines.collect::<String>());
}

/// Prints lines for people, as data; the commands in them work from here.
pub(super) fn report(report: impl IntoIterator<Item = impl AsRef<str>>) {
    lines(report.into_iter().map(|line| named_root::in_commands(line.as_ref()).into_owned()));
}

/// Prints a text of the program's own, as a help or a schema.
pub(super) fn text(text: &str) {
    out(&scrub::text(text));
}

/// Prints JSON as data.
pub(super) fn json(text: &str) {
    out(&scrub::json(text));
}

fn out(text: &str) {
    data(text.as_bytes());
}

/// Prints bytes as they are.
pub(super) fn data(data: &[u8]) {
    // That thread reports and remembers a failure.
    let _ = bytes(data);
}

/// Writes to standard output; the standard library's own writer takes a descriptor that cannot be written for success. One that
/// is closed has been made such a one before `main`.
fn write_all(mut bytes: &[u8]) -> std::io::Result<()> {
    let out = std::io::stdout().lock();
    while !bytes.is_empty() {
        match rustix::io::write(&out, bytes) {
            Ok(0) => return Err(std::io::ErrorKind::WriteZero.into()),
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Prints bytes unchanged, for callers that stop at a failure. A failure other than a reader that is gone is reported and
/// makes the exit status nonzero.
pub(super) fn bytes(bytes: &[u8]) -> std::io::Result<()> {
    let written = write_all(bytes);
    if let Err(error) = written.as_ref()
        && error.kind() != std::io::ErrorKind::BrokenPipe
    {
        lost(error);
    }
    written
}

/// Remembers, and says once, that data could not be printed.
pub(super) fn lost(error: &std::io::Error) {
    if !DATA_LOST.swap(true, Ordering::Relaxed) {
        note(&format!("error: error writing to standard output: {error}"));
    }
}

/// Whether what is printed still has a reader.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reader {
    /// As far as that is visible.
    There,
    /// The pipe is closed, or nothing more can be written.
    Gone,
}

/// Waits, and no longer than there is a reader: `events --follow | head -n1` ends by itself.
pub(super) fn wait(at_most: Duration) -> Reader {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    if data_was_lost() {
        return Reader::Gone;
    }
    let out = std::io::stdout();
    let mut watched = [PollFd::new(&out, PollFlags::empty())];
    let nanoseconds = at_most.subsec_nanos().into();
    let at_most_spec = Timespec { tv_sec: at_most.as_secs().cast_signed(), tv_nsec: nanoseconds };
    match poll(&mut watched, Some(&at_most_spec)) {
        Ok(0) | Err(rustix::io::Errno::INTR) => Reader::There,
        Ok(_) => Reader::Gone,
        Err(error) => {
            tracing::debug!(%error, "standard output cannot be watched");
            crate::clock::sleep(at_most);
            Reader::There
        }
    }
}

/// Notes held back until it is clear whether they are wanted.
static HELD_BACK: Mutex<Option<Vec<String>>> = Mutex::new(None);

/// Holds back notes from now on.
pub(super) fn hold_back() {
    *HELD_BACK.lock().unwrap_or_else(PoisonError::into_inner) = Some(Vec::new());
}

/// Ends that, and gives what was held back.
pub(super) fn held_back() -> Vec<String> {
    HELD_BACK.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default()
}

/// Prints a line for people. A command in it works from here.
pub(super) fn note(text: &str) {
    let line = format!("engine: {}", named_root::in_commands(text));
    match HELD_BACK.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
        Some(held_back) => held_back.push(line),
        None => error_line(&line),
    }
}

/// Prints a line for people without a name in front, as a place in a file.
pub(super) fn error_line(text: &str) {
    error_text(&(scrub::line(text) + "\n"));
}

/// Prints a text of the program's own for people.
pub(super) fn error_text(text: &str) {
    let mut err = std::io::stderr().lock();
    clear_live(&mut err);
    let _ = err.write_all(scrub::text(text).as_bytes());
}

/// The line at the bottom of the terminal that is rewritten. Taken under the lock of standard error only.
static LIVE: Mutex<Option<String>> = Mutex::new(None);

const CLEAR_LINE: &str = "\r\u{1b}[K";

/// Shows a line that stays below all others on the terminal and is replaced by the next one. The caller has made it fit.
pub(super) fn live(text: &str) {
    let text = scrub::line(text);
    let mut err = std::io::stderr().lock();
    let mut shown = LIVE.lock().unwrap_or_else(PoisonError::into_inner);
    if shown.as_ref() != Some(&text) {
        let _ = err.write_all(format!("{CLEAR_LINE}{text}").as_bytes());
        *shown = Some(text);
    }
}

/// Removes it.
pub(super) fn end_live() {
    clear_live(&mut std::io::stderr().lock());
}

fn clear_live(err: &mut std::io::StderrLock<'_>) {
    if LIVE.lock().unwrap_or_else(PoisonError::into_inner).take().is_some() {
        let _ = err.write_all(CLEAR_LINE.as_bytes());
    }
}

/// Prints what a tool had printed on standard error: in a terminal its text and colors alone, else as it is.
pub(super) fn tool_text(text: &str) {
    let mut err = std::io::stderr().lock();
    let mut output = ToolOutput::default();
    let _ = if err.is_terminal() {
        err.write_all([output.push(text.as_bytes()), output.finish()].concat().as_bytes())
    } else {
        err.write_all(text.as_bytes())
    };
}

/// A document on one line.
pub(super) fn json_line(document: &impl serde::Serialize) {
    json(&format!("{}\n", serde_json::to_string(document).unwrap_or_default()));
}

/// A document for people to read as well.
pub(super) fn json_pretty(document: &impl serde::Serialize) {
    json(&format!("{}\n", serde_json::to_string_pretty(document).unwrap_or_default()));
}

/// `1 job`, `2 jobs`.
pub(super) fn counted(count: usize, one: &str, several: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { several })
}

/// Rows in columns, each as wide as it must be; the last one is not padded.
pub(super) fn table(rows: &[Vec<String>]) {
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| scrub::line(cell)).collect()).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    lines(rows.iter().map(|row| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    }));
}
