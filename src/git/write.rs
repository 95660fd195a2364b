//! Calls of git that change a repository: objects, references, the files of a linked worktree.
//!
//! Responsible for running them, each as a counted step, and for the code of their failures. Hard rule: no call runs a hook, an
//! editor, a signer, or a collection of garbage. A call that is killed leaves what git leaves: objects without a reference, or
//! a lock file; each caller says who completes that.

use std::path::Path;

use super::client::{Call, Client, GitDir, failed};
use crate::fs::FsError;
use crate::fs::steps::{Step, step};
use crate::job::{Code, Reason};
use crate::process::helper::Captured;

/// The oldest version with every option that is used here.
const OLDEST: (u32, u32) = (2, 38);

/// What `git worktree add` starts.
const PARTS: [&str; 4] = ["branch", "reset", "symbolic-ref", "update-ref"];

/// Runs a call that writes, and gives its output.
///
/// # Errors
/// A reason `git_failed`, `git_killed`, `index_locked`, `ref_locked`, `ref_moved`, `disk_full`, or as for any call of git.
pub(crate) fn run(call: Call<'_>) -> Result<Vec<u8>, Reason> {
    let (verb, cwd) = call.about();
    let captured = answer(call)?;
    match captured.code {
        Some(0) if !captured.cut => Ok(captured.stdout),
        _ => Err(refusal(&verb, cwd, &captured)),
    }
}

/// Runs a call that writes, and gives its output as one line of text.
///
/// # Errors
/// As `run`.
pub(crate) fn line(call: Call<'_>) -> Result<String, Reason> {
    Ok(String::from_utf8_lossy(run(call)?.trim_ascii_end()).into_owned())
}

/// Runs a call that writes, and gives its answer, whether or not it succeeded.
///
/// # Errors
/// A reason where it could not be started or the task is over.
pub(crate) fn answer(call: Call<'_>) -> Result<Captured, Reason> {
    step(Step::Git, Path::new(&call.about().0));
    call.answer().map_err(no_evidence)
}

/// The reason of a failed call that writes.
#[must_use]
pub(crate) fn refusal(verb: &str, cwd: &Path, captured: &Captured) -> Reason {
    let reason = failed(verb, captured);
    if reason.code != Code::EvidenceFailed {
        return reason;
    }
    let said = String::from_utf8_lossy(&captured.stderr);
    let code = code_of(&said);
    let is_cause = |line: &&str| line.starts_with("fatal: ") || line.starts_with("error: ");
    let cause = said.lines().find(is_cause).or(said.lines().last()).unwrap_or_default();
    let status = captured.code.unwrap_or_default();
    let message = format!("`git {verb}` in `{}` failed with exit {status}: {cause}", cwd.display());
    Reason { code, message, ..reason }
}

fn code_of(said: &str) -> Code {
    let has = |text: &str| said.contains(text);
    if has("No space left on device") || has("Disk quota exceeded") {
        Code::DiskFull
    } else if has("index.lock': File exists") {
        Code::IndexLocked
    } else if has(".lock': File exists") {
        Code::RefLocked
    } else if has("but expected") || has("reference already exists") {
        Code::RefMoved
    } else if said.lines().any(is_killed_part) {
        Code::GitKilled
    } else {
        Code::GitFailed
    }
}

/// True where git says that a part of it, which is a program of its own, was killed. A filter that dies of a signal is none.
fn is_killed_part(line: &str) -> bool {
    let part = line.strip_prefix("error: ").and_then(|line| line.split_once(" died of signal "));
    part.is_some_and(|(part, _)| PARTS.contains(&part))
}

fn no_evidence(reason: Reason) -> Reason {
    match reason.code {
        Code::EvidenceFailed => Reason { code: Code::GitFailed, ..reason },
        _ => reason,
    }
}

/// The reason of a file beside git's that cannot be changed.
#[must_use]
pub(crate) fn wrong(error: &FsError) -> Reason {
    let code = match error.source.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Code::DiskFull,
        _ => Code::GitFailed,
    };
    Reason::from_error(code, error)
}

/// Checks that git is new enough to work on linked worktrees.
///
/// # Errors
/// `git_too_old` with both versions, or as for any call of git.
pub(crate) fn check_version(client: &Client, dir: &Path) -> Result<(), Reason> {
    let said = Call::new(client, dir, GitDir::Repository, &["version"]).output()?;
    let said = String::from_utf8_lossy(&said);
    match version(&said) {
        Some(found) if found >= OLDEST => Ok(()),
        _ => {
            let (major, minor) = OLDEST;
            let message = format!("{}: install git {major}.{minor} or newer", said.trim());
            Err(Reason::new(Code::GitTooOld, message))
        }
    }
}

/// The version in `git version 2.39.5 (Apple Git-154)`.
fn version(said: &str) -> Option<(u32, u32)> {
    let mut numbers = said.strip_prefix("git version ")?.split('.');
    let mut next = || numbers.next()?.trim().parse().ok();
    Some((next()?, next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_with_what_vendors_add_to_it() {
        for (said, want) in [
            ("git version 2.47.3\n", Some((2, 47))),
            ("git version 2.39.5 (Apple Git-154)\n", Some((2, 39))),
            ("git version 2.38.rc1", Some((2, 38))),
            ("git version 2.9.0", Some((2, 9))),
            ("hub version 2.9.0", None),
            ("git version next", None),
        ] {
            assert_eq!(version(said), want, "{said}");
        }
        assert!((2, 9) < OLDEST && (3, 0) > OLDEST);
    }

    #[test]
    fn a_failure_has_the_code_of_its_cause_and_names_it() {
        for (said, want) in [
            (
                "fatal: Unable to create '/r/.git/worktrees/a/index.lock': File exists.\n\nAnother git process\n",
                Code::IndexLocked,
            ),
            (
                "fatal: update_ref failed for ref 'x': cannot lock ref 'x': Unable to create '/r/x.lock': File exists.\n",
                Code::RefLocked,
            ),
            (
                "fatal: update_ref failed for ref 'x': cannot lock ref 'x': is at a1 but expected b2\n",
                Code::RefMoved,
            ),
            ("fatal: cannot lock ref 'x': reference already exists\n", Code::RefMoved),
            ("warning: x\nerror: unable to write file a: No space left on device\nhint: y\n", Code::DiskFull),
            // A part of it that is a program of its own.
            ("error: branch died of signal 9\n", Code::GitKilled),
            (
                "error: sh -c 'kill $$' died of signal 15\nerror: external filter 'x' failed\n",
                Code::GitFailed,
            ),
            ("error: unable to write file a: Read-only file system\nhint: y\n", Code::GitFailed),
        ] {
            let stderr = said.as_bytes().to_vec();
            let captured = Captured { code: Some(128), stdout: Vec::new(), stderr, cut: false };
            let reason = refusal("verb", Path::new("/w"), &captured);
            assert_eq!(reason.code, want, "{said}");
            assert!(
                reason.message.contains("`git verb` in `/w` failed with exit 128: "),
                "{}",
                reason.message
            );
            assert!(!reason.message.contains("hint"), "{}", reason.message);
        }
    }
}
