//! The tool's own file of a session: where it is, and what was added to it.
//!
//! It is only read. It holds what the stream leaves out: usage of failed and killed runs, hidden commands. Where a tool
//! keeps it follows from the working directory or from the id; only where it is not there the tool's directories are walked.
//! Hard rule: no look reads or walks without a bound.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use walkdir::{DirEntry, WalkDir};

use super::Dialect;
use crate::clock::Timestamp;
use crate::fs;

/// Longest line.
const LONGEST_LINE: usize = 4 << 20;

/// Most that is read of the file in one call.
const AT_ONCE: u64 = 8 << 20;

/// Longest id of a session; it becomes an argument and part of a path.
const LONGEST_ID: usize = 200;

/// So much of a file is looked through for the id that its first line names.
const FIRST_LINE: u64 = 4 << 10;

/// Most files that are looked at for a session.
const FILES_LOOKED_AT: usize = 20_000;

/// A variable of the tool's environment.
pub(crate) type Variable<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// How much of the file is read: `SessionFile::read_new` or `SessionFile::read_rest`.
pub(crate) type ReadLines = fn(&mut SessionFile, &mut dyn FnMut(&str));

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

    /// Hands on each whole line that was added since the last call, at most 8 MB at once.
    pub fn read_new(&mut self, take: &mut dyn FnMut(&str)) {
        self.read(AT_ONCE, take);
    }

    /// The same of all that the file holds now, for when nothing waits for it.
    pub fn read_rest(&mut self, take: &mut dyn FnMut(&str)) {
        self.read(u64::MAX, take);
    }

    fn read(&mut self, at_most: u64, take: &mut dyn FnMut(&str)) {
        let Some(path) = &self.path else { return };
        let Ok(file) = fs::open_regular(path) else { return };
        // What is added meanwhile is for the next call: else a fast writer is read for ever.
        let Ok(length) = file.metadata().map(|metadata| metadata.len()) else { return };
        let end = length.min(self.offset.saturating_add(at_most));
        while let Some(bytes) = next_piece(&file, self.offset, end) {
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
            if self.open_line.len() + rest.len() <= LONGEST_LINE {
                self.open_line.extend_from_slice(rest);
            }
        }
    }
}

fn next_piece(file: &File, offset: u64, end: u64) -> Option<Vec<u8>> {
    let length = end.checked_sub(offset).filter(|length| *length > 0)?;
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX).min(256 << 10)];
    let count = file.read_at(&mut bytes, offset).ok().filter(|count| *count > 0)?;
    bytes.truncate(count);
    Some(bytes)
}

/// True if a text can be the name of a session: it becomes part of a path and, where the session goes on, an argument.
#[must_use]
pub(crate) fn is_id(text: &str) -> bool {
    let is_plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    is_plain && text.len() <= LONGEST_ID && text.starts_with(|c: char| c.is_ascii_alphanumeric())
}

/// The directory in which a tool keeps its settings and sessions, as its variables name it; none of an agent of one's own, nor
/// without a home.
#[must_use]
pub(crate) fn home_of(dialect: Dialect, variable: Variable<'_>) -> Option<PathBuf> {
    let named = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let in_home = |name: &str| named("HOME").map(|home| home.join(name));
    match dialect {
        Dialect::Own => None,
        Dialect::Aider => in_home(".aider"),
        Dialect::Claude => named("CLAUDE_CONFIG_DIR").or_else(|| in_home(".claude")),
        Dialect::Codex => named("CODEX_HOME").or_else(|| in_home(".codex")),
        Dialect::Gemini => {
            named("GEMINI_CLI_HOME").map(|home| home.join(".gemini")).or_else(|| in_home(".gemini"))
        }
    }
}

/// Finds the file of a session by the tool's own name of it. `working_dir` is where the tool runs, without links.
#[must_use]
pub(crate) fn find(
    dialect: Dialect,
    session_id: &str,
    working_dir: Option<&Path>,
    variable: Variable<'_>,
) -> Option<PathBuf> {
    if !is_id(session_id) {
        return None;
    }
    let home = home_of(dialect, variable).filter(|home| home.is_absolute())?;
    match dialect {
        Dialect::Aider | Dialect::Own => None,
        Dialect::Codex => {
            let (dir, ending) = (home.join("sessions"), format!("-{session_id}.jsonl"));
            let fits = |entry: &DirEntry| name_of(entry).ends_with(&ending);
            let days = days_of(session_id).into_iter();
            days.filter_map(|day| newest(&dir.join(day), 1, &fits)).next().or_else(|| newest(&dir, 4, &fits))
        }
        Dialect::Claude => {
            let (dir, name) = (home.join("projects"), format!("{session_id}.jsonl"));
            let own = working_dir.map(|working_dir| dir.join(project_of(working_dir)).join(&name));
            own.filter(|path| path.is_file()).or_else(|| newest(&dir, 2, &|entry| name_of(entry) == name))
        }
        Dialect::Gemini => {
            // Its name has the beginning of the id only.
            let short: String = session_id.chars().take(8).collect();
            newest(&home.join("tmp"), 3, &|entry| {
                let name = name_of(entry);
                name.starts_with("session-")
                    && name.contains(&short)
                    && names_in_first_line(entry.path(), session_id)
            })
        }
    }
}

/// The directories of a session of Codex by the day that its id was made on: the id begins with the milliseconds since 1970
/// (UUID version 7, RFC 9562), and the directory is named after the day where the tool runs. None of another id.
fn days_of(session_id: &str) -> Vec<String> {
    let parts: Vec<&str> = session_id.split('-').collect();
    let [high @ .., version, _, _] = parts.as_slice() else { return Vec::new() };
    let hex = high.concat();
    let is_of_time =
        hex.len() == 12 && hex.bytes().all(|b| b.is_ascii_hexdigit()) && version.starts_with('7');
    let Some(made) = i64::from_str_radix(&hex, 16).ok().filter(|_| is_of_time) else { return Vec::new() };
    let day = |hours: i64| Timestamp::from_millis(made + hours * 3_600_000).day().replace('-', "/");
    let mut days: Vec<String> = [0, -12, 14].map(day).into();
    days.dedup();
    days
}

/// The name of Claude's directory for a working directory: each unit of UTF-16 that is not a letter or digit of ASCII is a
/// dash.
fn project_of(working_dir: &Path) -> String {
    let text = working_dir.to_string_lossy();
    let unit = |unit: u16| u8::try_from(unit).ok().filter(u8::is_ascii_alphanumeric).map_or('-', char::from);
    text.encode_utf16().map(unit).collect()
}

fn names_in_first_line(path: &Path, session_id: &str) -> bool {
    let Ok(file) = fs::open_regular(path) else { return false };
    let Some(bytes) = next_piece(&file, 0, FIRST_LINE) else { return false };
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    memchr::memmem::find(line, format!("\"{session_id}\"").as_bytes()).is_some()
}

fn name_of(entry: &DirEntry) -> &str {
    entry.file_name().to_str().unwrap_or_default()
}

/// The file below a directory that fits and whose name is the last one.
fn newest(dir: &Path, depth: usize, fits: &dyn Fn(&DirEntry) -> bool) -> Option<PathBuf> {
    WalkDir::new(dir)
        .max_depth(depth)
        .sort_by(|a, b| b.file_name().cmp(a.file_name()))
        .into_iter()
        .filter_map(Result::ok)
        .take(FILES_LOOKED_AT)
        .find(|entry| entry.file_type().is_file() && fits(entry))
        .map(DirEntry::into_path)
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
        assert_eq!(find(Dialect::Codex, "01a1-f0", None, &variable).as_deref(), Some(path.as_path()));
        for id in ["", "../x", "01a1-f1", "a/b", "*"] {
            assert_eq!(find(Dialect::Codex, id, None, &variable), None, "{id}");
        }
        let mut file = SessionFile::at(path.clone());
        let mut lines = Vec::new();
        file.read_new(&mut |line| lines.push(line.to_owned()));
        assert_eq!(lines, ["one"]);
        std::fs::write(&path, "one\ntwo\nthree\n").unwrap();
        file.read_new(&mut |line| lines.push(line.to_owned()));
        assert_eq!(lines, ["one", "two", "three"]);
    }
    #[expect(clippy::disallowed_methods, reason = "the test plays the tool")]
    fn write(path: &Path, text: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    #[test]
    fn an_id_that_could_be_an_option_or_has_no_end_is_none() {
        for id in ["-x", "--help", "_x", "", "a b", "a/b", "a.b", "\u{e4}", &"a".repeat(201)] {
            assert!(!is_id(id), "{id}");
        }
        assert!(is_id("01a1ff0e-9916-7aa3-90d7-5a3c882bd0d6") && is_id(&"a".repeat(200)) && is_id("a_b"));
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "links stand for many files")]
    fn many_older_files_do_not_hide_the_file_of_a_session() {
        let home = tempfile::tempdir().unwrap();
        let variable = |name: &str| (name == "HOME").then(|| home.path().as_os_str().to_owned());
        let projects = home.path().join(".claude/projects");
        let sessions = home.path().join(".codex/sessions");
        for number in 0..=FILES_LOOKED_AT {
            // Sorted before what is looked for, whatever the order.
            let (dir, last) = (projects.join("zz"), sessions.join("2999/12/31"));
            if number == 0 {
                write(&dir.join("x"), "");
                write(&last.join("x"), "");
            }
            std::os::unix::fs::symlink("x", dir.join(format!("{number}"))).unwrap();
            std::os::unix::fs::symlink("x", last.join(format!("{number}"))).unwrap();
        }
        let claude = projects.join("-home-a--b--c---d/11aa.jsonl");
        write(&claude, "");
        let working_dir = Path::new("/home/a_/b./c \u{1f600}d");
        assert_eq!(find(Dialect::Claude, "11aa", Some(working_dir), &variable), Some(claude));
        assert_eq!(find(Dialect::Claude, "11aa", None, &variable), None, "the walk has an end");
        // Made on 2026-11-21 at 17:24 UTC; in Auckland that is the next day.
        let id = "01a1ff0e-9916-7aa3-90d7-5a3c882bd0d6";
        for day in ["2026/11/22", "2026/11/21"] {
            let codex = sessions.join(day).join(format!("rollout-2026-11-21T10-00-00-{id}.jsonl"));
            write(&codex, "");
            assert_eq!(find(Dialect::Codex, id, None, &variable), Some(codex));
        }
        let of_no_time = "01a1ff0e-9916-4aa3-90d7-5a3c882bd0d6";
        assert_eq!(find(Dialect::Codex, of_no_time, None, &variable), None);
    }

    #[test]
    fn a_chat_of_another_session_with_the_same_beginning_is_not_taken() {
        let home = tempfile::tempdir().unwrap();
        let variable = |name: &str| (name == "HOME").then(|| home.path().as_os_str().to_owned());
        let chat = |time: &str, id: &str| {
            let path = home.path().join(format!(".gemini/tmp/p/chats/session-{time}-{}.jsonl", &id[..8]));
            write(&path, &format!("{{\"sessionId\":\"{id}\"}}\n{{\"text\":\"21d9cd3c-ffff\"}}\n"));
            path
        };
        let own = chat("2026-11-21T10-00", "21d9cd3c-9524");
        let _other = chat("2026-11-21T11-00", "21d9cd3c-0000");
        let found = |id: &str| find(Dialect::Gemini, id, None, &variable);
        assert_eq!(found("21d9cd3c-9524"), Some(own));
        for id in ["2", "21d9cd3c", "21d9cd3c-95", "21d9cd3c-ffff"] {
            assert_eq!(found(id), None, "{id}");
        }
    }

    #[test]
    fn of_a_huge_file_one_call_reads_a_part_and_the_rest_is_not_lost() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.jsonl");
        write(&path, &format!("{}\n", "x".repeat((1 << 20) - 1)).repeat(20));
        let count_of = |file: &mut SessionFile, rest: bool| {
            let mut count = 0;
            let take: &mut dyn FnMut(&str) = &mut |line| count += usize::from(line.len() == (1 << 20) - 1);
            if rest {
                file.read_rest(take);
            } else {
                file.read_new(take);
            }
            count
        };
        let mut file = SessionFile::at(path);
        assert_eq!([false, false, true, true].map(|rest| count_of(&mut file, rest)), [8, 8, 4, 0]);
    }
}
