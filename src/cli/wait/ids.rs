//! The ids of `engine wait`, from arguments or standard input.
//!
//! Hard rule: reading them ends with a signal, and what was read until then counts.

use std::collections::BTreeSet;
use std::io::Read;
use std::os::fd::AsFd;
use std::time::Duration;

use crate::cli::error::CliError;
use crate::cli::jobs::known_id;
use crate::cli::signals;
use crate::job::JobId;
use crate::process::signals::Signals;

/// The ids from arguments or standard input; after an interrupt, those read so far.
pub(super) fn ids_of(named: &[String], signals: Option<&Signals>) -> Result<BTreeSet<JobId>, CliError> {
    let mut ids = BTreeSet::new();
    for id in named {
        if id != "-" {
            ids.insert(known_id(id)?);
            continue;
        }
        let text = read_stdin(signals)
            .map_err(|error| CliError::plain("error reading the ids on standard input").because(&error))?;
        for id in text.split_whitespace() {
            ids.insert(known_id(id)?);
        }
    }
    if ids.is_empty() && !named.is_empty() && signals.and_then(signals::exit_status).is_none() {
        return Err(CliError::no("no ids on standard input: nothing to wait for"));
    }
    Ok(ids)
}

/// The text on standard input; after an interrupt only its whole lines: the last one may be cut off.
fn read_stdin(signals: Option<&Signals>) -> std::io::Result<String> {
    const HOUR: Duration = Duration::from_secs(3600);
    let mut stdin = std::io::stdin().lock();
    let mut bytes = Vec::new();
    let Some(signals) = signals else {
        stdin.read_to_end(&mut bytes)?;
        return utf8(bytes);
    };
    // A read is not ended by a signal: it is begun when there is something to read.
    while signals::exit_status(signals).is_none() {
        if !signals.wait(&[stdin.as_fd()], HOUR) {
            continue;
        }
        let mut part = [0; 4096];
        match rustix::io::read(&stdin, &mut part) {
            Ok(0) => return utf8(bytes),
            Ok(read) => bytes.extend_from_slice(part.get(..read).unwrap_or_default()),
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    bytes.truncate(whole);
    utf8(bytes)
}

fn utf8(bytes: Vec<u8>) -> std::io::Result<String> {
    String::from_utf8(bytes).map_err(|error| std::io::Error::new(std::io::ErrorKind::InvalidData, error))
}
