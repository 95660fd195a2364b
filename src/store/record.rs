//! A record, and how one is read of the bytes of a file: its last complete line.
//!
//! A line without its newline is not there. Nothing here locks or changes anything.

use std::fs::File;
use std::io::{BufRead, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::{Result, StoreError};
use crate::fs::FsError;
use crate::job::record::{RecordLine, overlay};
use crate::job::{JobId, SCHEMA_VERSION};

/// The state of a job as its record says.
#[derive(Debug, Clone)]
pub struct Record {
    /// The typed line.
    pub line: RecordLine,
    /// A line as the file has it, with the keys that this program does not know; null if there are none.
    pub raw: Value,
}

impl Record {
    /// Drops the line as the file has it if this program knows every key of it: what is written next then has the keys in
    /// their usual order.
    #[must_use]
    pub fn without_what_is_known(self) -> Self {
        let typed = serde_json::to_value(&self.line).unwrap_or(Value::Null);
        if overlay(self.raw.clone(), typed.clone()) == typed {
            Self { raw: Value::Null, ..self }
        } else {
            self
        }
    }
}

/// The end of an append-only file.
#[derive(Debug)]
pub(crate) struct Tail {
    /// The last line that ends in a newline, without it.
    pub line: Option<Vec<u8>>,
    /// Where that newline's next byte is: what follows is torn.
    pub complete: u64,
    /// The size of the file.
    pub size: u64,
}

/// No line is longer, nor what a crash leaves behind the last one: so much is read of the end of a file, and no more.
const LONGEST_TAIL: u64 = 256 << 10;

/// Finds the last complete line of a file.
///
/// # Errors
/// File system errors; `Unreadable` if the end of the file holds none.
pub(crate) fn tail(file: &File, path: &Path) -> Result<Tail> {
    let error = |source| FsError { action: "reading", path: path.to_path_buf(), source };
    let size = file.metadata().map_err(error)?.len();
    let mut window: u64 = 16 << 10;
    loop {
        if window > LONGEST_TAIL {
            let problem = format!("its last {} KiB contain no complete line", LONGEST_TAIL >> 10);
            return Err(StoreError::Unreadable { path: path.to_path_buf(), problem });
        }
        let start = size.saturating_sub(window);
        let mut bytes = vec![0; usize::try_from(size - start).unwrap_or(usize::MAX)];
        file.read_exact_at(&mut bytes, start).map_err(error)?;
        let Some(end) = bytes.iter().rposition(|b| *b == b'\n') else {
            if start == 0 {
                return Ok(Tail { line: None, complete: 0, size });
            }
            window *= 4;
            continue;
        };
        let complete = start + end as u64 + 1;
        let body = bytes.get(..end).unwrap_or_default();
        let begin = match body.iter().rposition(|b| *b == b'\n') {
            Some(newline) => newline + 1,
            None if start == 0 => 0,
            None => {
                window *= 4;
                continue;
            }
        };
        return Ok(Tail { line: body.get(begin..).map(<[u8]>::to_vec), complete, size });
    }
}

/// Reads up to the end of the next line, its newline included; false at the end of the file, and at a line that is too long
/// to be one: what follows that is not looked for.
pub(super) fn next_line(reader: &mut impl BufRead, path: &Path, line: &mut Vec<u8>) -> Result<bool> {
    line.clear();
    let read = reader.take(LONGEST_TAIL).read_until(b'\n', line);
    read.map_err(|source| FsError { action: "reading", path: path.to_path_buf(), source })?;
    Ok(line.last() == Some(&b'\n'))
}

/// Reads one line of a record.
///
/// # Errors
/// `NewerFormat`, `Unreadable`.
pub fn parse(line: &[u8], path: &Path, id: &JobId) -> Result<Record> {
    let record = parse_any(line, path)?;
    if record.line.job_id == *id {
        return Ok(record);
    }
    let problem = format!("it is not a record of `{id}`");
    Err(StoreError::Unreadable { path: path.to_path_buf(), problem })
}

/// Reads one line of a record, as `parse`, without the line as the file has it.
///
/// # Errors
/// As `parse`.
pub(super) fn parse_line(line: &[u8], path: &Path, id: &JobId) -> Result<RecordLine> {
    let is_sound = |found: &RecordLine| {
        found.schema_version <= SCHEMA_VERSION && found.job_id == *id && found.seq != u64::MAX
    };
    match serde_json::from_slice::<RecordLine>(line).ok().filter(is_sound) {
        Some(found) => Ok(found),
        // It says what is wrong.
        None => parse(line, path, id).map(|record| record.line),
    }
}

/// Reads one line of the record of whichever job.
///
/// # Errors
/// `NewerFormat`, `Unreadable`.
pub(crate) fn parse_any(line: &[u8], path: &Path) -> Result<Record> {
    let unreadable = |problem: String| StoreError::Unreadable { path: path.to_path_buf(), problem };
    let raw: Value = serde_json::from_slice(line).map_err(|e| unreadable(e.to_string()))?;
    let version = raw.get("schema_version").and_then(Value::as_u64).unwrap_or(0);
    if version > u64::from(SCHEMA_VERSION) {
        return Err(StoreError::NewerFormat { path: path.to_path_buf(), version });
    }
    if !raw.is_object() {
        return Err(unreadable("it is not an object".to_owned()));
    }
    let line = RecordLine::deserialize(&raw).map_err(|e| unreadable(e.to_string()))?;
    if line.seq == u64::MAX {
        return Err(unreadable("no line can follow it".to_owned()));
    }
    Ok(Record { line, raw })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail_of(content: &[u8]) -> (Option<Vec<u8>>, u64) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut file.as_file(), content).unwrap();
        let tail = tail(file.as_file(), file.path()).unwrap();
        (tail.line, tail.complete)
    }

    #[test]
    fn a_line_without_its_newline_is_not_there() {
        assert_eq!(tail_of(b""), (None, 0));
        assert_eq!(tail_of(b"{\"a\""), (None, 0));
        assert_eq!(tail_of(b"one\n"), (Some(b"one".to_vec()), 4));
        assert_eq!(tail_of(b"one\ntwo\nthr"), (Some(b"two".to_vec()), 8));
    }

    #[test]
    fn a_last_line_longer_than_the_window_is_found_whole() {
        let long = vec![b'x'; 100_000];
        let mut content = b"one\n".to_vec();
        content.extend(&long);
        content.push(b'\n');
        content.extend(vec![b'y'; 70_000]);
        assert_eq!(tail_of(&content), (Some(long), 100_005));
    }

    #[test]
    fn a_last_line_that_begins_before_the_window_is_found_whole() {
        for length in [16 << 10, 64 << 10, 200 << 10] {
            let long = vec![b'x'; length];
            let content = [b"one\n", &long[..], b"\nyy"].concat();
            assert_eq!(tail_of(&content), (Some(long.clone()), length as u64 + 5));
            assert_eq!(tail_of(&content[4..]), (Some(long), length as u64 + 1), "the first of the file");
        }
    }

    #[test]
    fn the_end_of_a_file_without_a_line_is_not_read_without_end() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let size = usize::try_from(LONGEST_TAIL).unwrap() + 1;
        std::io::Write::write_all(&mut file.as_file(), &vec![b'x'; size]).unwrap();
        let error = tail(file.as_file(), file.path()).unwrap_err();
        assert!(error.to_string().contains("its last 256 KiB contain no complete line"), "{error}");
    }

    #[test]
    fn lines_are_read_one_by_one_up_to_a_torn_or_endless_one() {
        let endless = vec![b'x'; usize::try_from(LONGEST_TAIL).unwrap() + 1];
        for behind in [&b""[..], b"tor", &endless] {
            let content = [b"one\n\n", behind].concat();
            let (mut reader, mut line, path) = (&content[..], b"before".to_vec(), Path::new("f"));
            for wanted in [&b"one\n"[..], b"\n"] {
                assert!(next_line(&mut reader, path, &mut line).unwrap());
                assert_eq!(line, wanted);
            }
            assert!(!next_line(&mut reader, path, &mut line).unwrap());
        }
    }

    /// The first line of a record as JSON, with another value for a key.
    fn line_with(key: &str, value: Value) -> Vec<u8> {
        let id = JobId::new("a").unwrap();
        let mut line = serde_json::json!({
            "schema_version": 1, "seq": 1, "at": "2026-06-15T12:00:00.000Z", "job_id": id, "status": "queued",
            "place": "queued", "not_before": null, "life": 1, "first_attempt": 1, "attempts": [],
            "former": {"lives": 0, "attempts": 0, "last_outcome": null, "parked": 0},
            "job": {
                "run_id": null, "workstream_id": null, "tool": null, "key": null, "priority": null,
                "depends_on": [], "sha256": null
            },
            "result": null, "error_report": null,
        });
        line[key] = value;
        line.to_string().into_bytes()
    }

    #[test]
    fn a_line_is_read_only_of_its_job_of_a_known_version_and_with_one_to_follow() {
        let read = |key: &str, value: Value| {
            parse(&line_with(key, value), Path::new("f"), &JobId::new("a").unwrap())
        };
        assert_eq!(read("seq", 7.into()).unwrap().line.seq, 7);
        assert!(read("schema_version", 0.into()).is_ok());
        for (key, value, problem) in [
            ("job_id", "b".into(), "it is not a record of `a`"),
            ("seq", u64::MAX.into(), "no line can follow it"),
            ("schema_version", 2.into(), "format version 2"),
            ("status", "unknown".into(), "unknown variant `unknown`"),
        ] {
            let error = read(key, value).unwrap_err();
            assert!(error.to_string().contains(problem), "{error}");
        }
        for (text, problem) in [("[]", "it is not an object"), ("{", "EOF")] {
            let error = parse_any(text.as_bytes(), Path::new("f")).unwrap_err();
            assert!(error.to_string().contains(problem), "{error}");
        }
    }

    #[test]
    fn the_keys_of_a_newer_program_are_carried_on_and_known_ones_are_written_anew() {
        let raw = |key: &str, value: Value| {
            let record = parse_any(&line_with(key, value), Path::new("f")).unwrap();
            record.without_what_is_known().raw
        };
        assert_eq!(raw("seq", 7.into()), Value::Null);
        assert_eq!(raw("of_a_newer_program", 7.into())["of_a_newer_program"], 7);
    }
}
