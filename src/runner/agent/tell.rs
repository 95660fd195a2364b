//! The agent's part of a result, and the evidence files beside the log.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::super::end::Particulars;
use super::super::report::{redact, warn};
use super::ran::Ran;
use crate::adapter::agent::{Command, StreamFacts};
use crate::causes::causes;
use crate::evidence::Changes;
use crate::fs;
use crate::job::Reason;
use crate::job::digest::sha256;
use crate::process::redact::Secrets;
use crate::store::Store;

/// How many files and commands the result lists; the evidence file lists all.
const LISTED: usize = 50;
/// How many commands, failed edits and denied actions it lists: a record line has room for so many.
pub(super) const TOLD: usize = 15;

/// Writes the evidence and the patch beside the log, and gives what the result says of them.
pub(super) fn tell_evidence(
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
    let mut shown = document(&changes);
    for list in ["files", "outside", "ignored", "commits"] {
        if let Some(Value::Array(items)) = shown.get_mut(list) {
            items.truncate(LISTED);
        }
    }
    shown.extend(kept("evidence", &name("evidence.json"), text.as_bytes()));
    if changes.tree_before != changes.tree_after {
        shown.extend(keep_patch(&changes, &name("patch"), ran.secrets));
    }
    Value::Object(shown)
}

fn keep_patch(changes: &Changes, path: &Path, secrets: &Secrets) -> Map<String, Value> {
    match changes.patch() {
        Ok(patch) => {
            let mut shown = kept("patch", path, &secrets.redact_bytes(&patch.bytes));
            if patch.cut {
                shown.insert("patch_is_cut".to_owned(), true.into());
            }
            if !patch.left_out.is_empty() {
                let names: Vec<String> = patch.left_out.into_iter().take(LISTED).collect();
                shown.insert("patch_left_out".to_owned(), names.into());
            }
            shown
        }
        Err(reason) => Map::from_iter([("patch_error".to_owned(), reason.message.into())]),
    }
}

/// Tells what was seen of it.
pub(super) fn tell_seen(seen: &StreamFacts, particulars: &mut Particulars) {
    let metadata = &mut particulars.metadata;
    metadata.insert("session_id".to_owned(), json!(particulars.session_id));
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
    particulars.details.lines =
        lists.chain(seen.denied.iter().map(|denied| format!("not allowed: {denied}"))).collect();
    if let Some(trouble) = &seen.trouble {
        particulars.details.lines.push(trouble.message.clone());
    }
    if let Some(answer) = seen.answer.as_deref().filter(|answer| !answer.trim().is_empty()) {
        particulars
            .details
            .lines
            .extend(answer.lines().rev().take(10).map(str::to_owned).collect::<Vec<_>>().into_iter().rev());
    }
}

/// The commands of the stream, and those of this run that only the session file tells.
pub(super) fn commands(ran: &Ran<'_>) -> Vec<Command> {
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
fn same_command(reported: &str, hidden: &str) -> bool {
    let plain = |text: &str| text.chars().filter(|c| !matches!(c, '\'' | '"' | '\\')).collect::<String>();
    reported == hidden || plain(reported) == plain(hidden)
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
