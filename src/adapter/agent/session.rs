//! The tool's own file of a session: where it is, and what was added to it.
//!
//! It is only read. What its stream leaves out stands there: usage of failed and killed runs, hidden commands.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::Dialect;
use crate::fs;

/// Most that is read of the file at once, and longest line.
const AT_ONCE: usize = 4 << 20;

/// Most files that are looked at for a session.
const FILES_LOOKED_AT: usize = 20_000;

/// A variable of the tool's environment.
pub type Variable<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// The file of a session, read as it grows.
#[derive(Debug, Default)]
pub struct SessionFile {
    path: Option<PathBuf>,
    offset: u64,
    open_line: Vec<u8>,
}

impl SessionFile {
    /// A file whose place is known.
    #[must_use]
    pub fn at(path: PathBuf) -> Self {
        Self { path: Some(path), ..Self::default() }
    }

    /// True if the place is known.
    #[must_use]
    pub fn is_found(&self) -> bool {
        self.path.is_some()
    }

    /// Hands on each whole line that was added since the last call.
    pub fn read_new(&mut self, take: &mut dyn FnMut(&str)) {
        let Some(path) = &self.path else { return };
        let Ok(file) = fs::open_regular(path) else { return };
        while let Some(bytes) = next_piece(&file, self.offset) {
            self.offset += bytes.len() as u64;
            let mut rest = bytes.as_slice();
            while let Some(end) = memchr::memchr(b'\n', rest) {
                let (line, after) = rest.split_at(end);
                self.open_line.extend_from_slice(line);
                rest = after.get(1..).unwrap_or_default();
                take(String::from_utf8_lossy(&self.open_line).as_ref());
                self.open_line.clear();
            }
            // Of a line that is too long nothing is handed on that could be read.
            if self.open_line.len() + rest.len() <= AT_ONCE {
                self.open_line.extend_from_slice(rest);
            }
        }
    }
}

fn next_piece(file: &File, offset: u64) -> Option<Vec<u8>> {
    let length = file.metadata().ok()?.len().checked_sub(offset).filter(|length| *length > 0)?;
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX).min(256 << 10)];
    let count = file.read_at(&mut bytes, offset).ok().filter(|count| *count > 0)?;
    bytes.truncate(count);
    Some(bytes)
}

/// Finds the file of a session by the tool's own name of it.
#[must_use]
pub fn find(dialect: Dialect, session_id: &str, variable: Variable<'_>) -> Option<PathBuf> {
    // It becomes part of a path.
    let is_plain = session_id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if session_id.is_empty() || !is_plain {
        return None;
    }
    let home = |name: &str, default: &str| {
        let given = variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        given.or_else(|| Some(Path::new(&variable("HOME")?).join(default)))
    };
    match dialect {
        Dialect::Aider => None,
        Dialect::Codex => {
            let ending = format!("-{session_id}.jsonl");
            by_name(&home("CODEX_HOME", ".codex")?.join("sessions"), 4, &|name| name.ends_with(&ending))
        }
        Dialect::Claude => {
            let name = format!("{session_id}.jsonl");
            by_name(&home("CLAUDE_CONFIG_DIR", ".claude")?.join("projects"), 2, &|found| found == name)
        }
        Dialect::Gemini => {
            let base = variable("GEMINI_CLI_HOME").or_else(|| variable("HOME"))?;
            // Its name has the beginning of the id; its first line has all of it.
            let short: String = session_id.chars().take(8).collect();
            let is_chat = |name: &str| name.starts_with("session-") && name.contains(&short);
            by_name(&Path::new(&base).join(".gemini/tmp"), 3, &is_chat)
        }
    }
}

/// The newest file below a directory whose name fits.
fn by_name(dir: &Path, depth: usize, fits: &dyn Fn(&str) -> bool) -> Option<PathBuf> {
    walkdir::WalkDir::new(dir)
        .max_depth(depth)
        .sort_by(|a, b| b.file_name().cmp(a.file_name()))
        .into_iter()
        .filter_map(Result::ok)
        .take(FILES_LOOKED_AT)
        .find(|entry| entry.file_type().is_file() && entry.file_name().to_str().is_some_and(fits))
        .map(walkdir::DirEntry::into_path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the test plays the tool")]
    fn the_file_of_a_session_is_found_and_read_as_it_grows() {
        let home = tempfile::tempdir().unwrap();
        let day = home.path().join("sessions/2026/11/21");
        std::fs::create_dir_all(&day).unwrap();
        let path = day.join("rollout-2026-11-21T10-00-00-01a1-f0.jsonl");
        std::fs::write(&path, "one\ntw").unwrap();
        let variable = |name: &str| (name == "CODEX_HOME").then(|| home.path().as_os_str().to_owned());
        assert_eq!(find(Dialect::Codex, "01a1-f0", &variable).as_deref(), Some(path.as_path()));
        for id in ["", "../x", "01a1-f1", "a/b", "*"] {
            assert_eq!(find(Dialect::Codex, id, &variable), None, "{id}");
        }
        let mut file = SessionFile::at(path.clone());
        let mut lines = Vec::new();
        file.read_new(&mut |line| lines.push(line.to_owned()));
        assert_eq!(lines, ["one"]);
        std::fs::write(&path, "one\ntwo\nthree\n").unwrap();
        file.read_new(&mut |line| lines.push(line.to_owned()));
        assert_eq!(lines, ["one", "two", "three"]);
    }
}
