//! Whether a tool is on this machine, and which version.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::manifest::Manifest;
use crate::process::program::{self, Program};
use crate::process::{StopHook, helper};

/// What was found of a tool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Detected {
    /// Where its program is; none if it is not there or the adapter has none.
    pub path: Option<PathBuf>,
    /// Its version, as it says itself.
    pub version: Option<String>,
}

/// How long a tool may take to tell its version.
const WAIT: Duration = Duration::from_secs(10);

/// Looks for the program of a manifest and asks it for its version.
#[must_use]
pub(crate) fn detect(manifest: &Manifest, path: Option<&OsStr>, cwd: &Path) -> Detected {
    let Some(found) = locate(manifest, path, cwd).path else { return Detected::default() };
    let version = version_of(manifest, &found, cwd, &|| false);
    Detected { path: Some(found), version }
}

/// Looks for the program of a manifest; runs nothing.
#[must_use]
pub(crate) fn locate(manifest: &Manifest, path: Option<&OsStr>, cwd: &Path) -> Detected {
    let exe = manifest.executable.as_deref().unwrap_or_default();
    // A relative entry would run what lies in the directory of the moment.
    let absolute = std::env::split_paths(path.unwrap_or(OsStr::new(program::DEFAULT_PATH)));
    let absolute = std::env::join_paths(absolute.filter(|entry| entry.is_absolute())).unwrap_or_default();
    let found = match program::find(OsStr::new(exe), Some(&absolute), cwd) {
        Program::At(found) => Some(found),
        Program::Missing | Program::NotExecutable(_) => None,
    };
    Detected { path: found, version: None }
}

/// Asks a program for its version; `None` if it does not tell, or the hook says to stop.
#[must_use]
pub(crate) fn version_of(
    manifest: &Manifest,
    program: &Path,
    cwd: &Path,
    stop: StopHook<'_>,
) -> Option<String> {
    let default = vec!["--version".to_owned()];
    let args = manifest.detect.as_ref().map_or(&default, |detect| &detect.args);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let printed = helper::run(&program.to_string_lossy(), &args, cwd, (WAIT, stop))?;
    version(&printed.text)
}

/// The first word that looks like a version: digits, a dot, digits.
fn version(text: &str) -> Option<String> {
    text.split(|c: char| c.is_whitespace() || matches!(c, ',' | '(' | ')')).find_map(|word| {
        let word = word.trim_start_matches('v');
        let number = word.split_once('.').is_some_and(|(major, rest)| {
            !major.is_empty()
                && major.bytes().all(|b| b.is_ascii_digit())
                && rest.bytes().next().is_some_and(|b| b.is_ascii_digit())
        });
        (number && word.len() <= 40).then(|| word.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_tools_print() {
        for (text, want) in [
            ("aider 0.86.2\n", Some("0.86.2")),
            ("codex-cli 0.169.0", Some("0.169.0")),
            ("2.1.197 (Claude Code)", Some("2.1.197")),
            ("git version 2.47.3", Some("2.47.3")),
            ("v20.20.2", Some("20.20.2")),
            ("pytest 9.0.1, from /x", Some("9.0.1")),
            ("usage: x [--y]", None),
        ] {
            assert_eq!(version(text).as_deref(), want, "{text}");
        }
    }
}
