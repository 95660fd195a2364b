//! The usage of an agent whose runner died: read from its stream and its session file, and written to the ledger.
//!
//! The runner leaves a note in the directory of the attempt that says where the tool keeps its sessions. Recovery reads it after
//! the last process of the attempt is gone, and removes the directory.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::account::{self, Entry};
use crate::adapter;
use crate::adapter::agent::session::{self, SessionFile};
use crate::adapter::agent::usage::{SessionBefore, used};
use crate::adapter::agent::{Dialect, SessionFacts, StreamFacts};
use crate::causes::causes;
use crate::clock::Timestamp;
use crate::cost::usage::LedgerLine;
use crate::fs::{self, Scratch};
use crate::job::{Code, Outcome, RecordLine};
use crate::process::Stream;
use crate::store::{Store, prices, usage};

/// The name of the note.
const NOTE: &str = "session.json";

/// Where the tool keeps its sessions.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Note {
    variables: BTreeMap<String, String>,
    model: Option<String>,
    /// True if the attempt went on with a session: what that had used before is not known here.
    resumed: bool,
}

/// Leaves the note; without it a lost attempt has no numbers, which is said.
pub(super) fn leave_note(
    scratch: &Scratch,
    variables: &BTreeMap<String, OsString>,
    (model, resumed): (Option<&str>, bool),
) {
    let text = |value: &OsString| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let note = Note {
        variables: variables.iter().map(|(name, value)| (name.clone(), text(value))).collect(),
        model: model.map(str::to_owned),
        resumed,
    };
    let bytes = serde_json::to_vec(&note).unwrap_or_default();
    if let Err(error) = scratch.write(NOTE, &bytes) {
        tracing::warn!(error = causes(&error), "cannot leave a note for recovery");
    }
}

/// Writes to the ledger what a lost attempt of an agent had used, and removes the directory of the attempt.
pub(crate) fn account_for(store: &Store, now: Timestamp, line: &RecordLine) {
    let Some((attempt, tool)) = line.open_attempt().zip(line.job.tool.as_ref()) else { return };
    let manifest = adapter::find(store, tool).ok().flatten();
    let Some(dialect) = manifest.and_then(|manifest| manifest.reader.dialect()) else { return };
    let name = format!("{}.{}", line.job_id, attempt.attempt);
    let dir = store.state("attempts").join(&name);
    if !dir.is_dir() {
        return;
    }
    let note: Note =
        read(&dir.join(NOTE)).and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    let stream = store.state("logs").join(format!("{name}.stream"));
    let (seen, session) = read_again(dialect, (&dir, &stream), attempt.session_id.as_deref(), &note);
    let before = if note.resumed { SessionBefore::Unknown } else { SessionBefore::New };
    let entry = Entry {
        at: now,
        started_at: attempt.started_at,
        job_id: &line.job_id,
        run_id: line.job.run_id.as_deref(),
        workstream_id: line.job.workstream_id.as_deref(),
        tool: Some(tool),
        asked_model: note.model.as_deref(),
        attempt: attempt.attempt,
        session_id: attempt.session_id.as_deref(),
        outcome: Outcome::Lost,
        reason_code: Some(&Code::Lost),
    };
    let prices = prices::read(store.root()).unwrap_or_default();
    let mut lines = account::lines(entry, &used(&seen, &session, before), &prices);
    let is_of_it =
        |known: &LedgerLine| known.attempt == attempt.attempt && known.started_at == Some(attempt.started_at);
    let known = usage::of_job(store, &line.job_id).unwrap_or_default();
    let known: Vec<LedgerLine> = known.into_iter().filter(is_of_it).collect();
    if !known.is_empty() {
        // Its runner had written them: only how it ended is another thing now.
        let lost = |line| LedgerLine { outcome: Some(Outcome::Lost), reason_code: Some(Code::Lost), ..line };
        lines = known.into_iter().map(lost).collect();
    }
    if let Err(error) = usage::append(store, &lines) {
        tracing::warn!(error = causes(&error), "cannot write the usage of a lost attempt");
        return;
    }
    // The directory is gone when this is dropped.
    if let Err(error) = Scratch::fresh(&store.state("attempts"), &name) {
        tracing::warn!(error = causes(&error), "cannot remove the directory of a lost attempt");
    }
}

/// Reads the stream as it was kept, and the session file.
fn read_again(
    dialect: Dialect,
    (dir, stream): (&Path, &Path),
    session_id: Option<&str>,
    note: &Note,
) -> (StreamFacts, SessionFacts) {
    let (mut reader, mut seen, mut session) =
        (dialect.reader(), StreamFacts::default(), SessionFacts::default());
    SessionFile::at(stream.to_path_buf()).read_rest(&mut |line| {
        reader.line(Stream::Stdout, line, &mut seen);
    });
    let variable = |name: &str| note.variables.get(name).map(OsString::from);
    let id = session_id.map(str::to_owned).or_else(|| seen.session_id.clone());
    let path = match dialect {
        Dialect::Aider => Some(dir.join("analytics.jsonl")),
        _ => id.and_then(|id| session::find(dialect, &id, None, &variable)),
    };
    if let Some(path) = path {
        SessionFile::at(path).read_rest(&mut |line| reader.session_line(line, &mut session));
    }
    reader.finish(&mut seen);
    (seen, session)
}

fn read(path: &Path) -> Option<Vec<u8>> {
    let file = fs::open_regular(path).ok()?;
    fs::read_limited(&file, path, 1 << 20).ok().flatten()
}
