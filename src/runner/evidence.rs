//! Files that a tool leaves as evidence of what it did: test reports.
//!
//! A report may stand behind a symbolic link, wherever that leads: the tool could have written the same into the file itself.
//! Only what this attempt wrote counts, and only regular files are opened.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::adapter::read::{self, Report};
use crate::causes::causes;
use crate::clock::Timestamp;
use crate::fs;
use crate::job::JobFile;

/// More of all reports together is not read.
const MAX_REPORT_BYTES: u64 = 64 << 20;

/// More files are no report of one run.
const MAX_FILES: usize = 10_000;

/// How much older than the attempt a file may seem that it wrote: file systems round.
const ROUNDING_SECONDS: i64 = 2;

/// The test reports that a job names, as they were before the tool started.
#[derive(Debug)]
pub struct ReportFiles {
    names: Result<Vec<String>, String>,
    working_dir: PathBuf,
    before: BTreeMap<PathBuf, Option<Seen>>,
    started: Timestamp,
}

/// What is seen of a file, through a link if it is one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    target: PathBuf,
    /// What changes when it is written again: device, inode, size, time.
    stamp: (u64, u64, u64, i64, i64),
}

impl ReportFiles {
    /// Looks at the reports before the start; `None` if the job names none.
    #[must_use]
    pub fn before(job: &JobFile, working_dir: &Path, now: Timestamp) -> Option<Self> {
        let names = names(job.metadata.all.get("junit_file")?).transpose()?;
        let found = names.as_ref().ok().and_then(|names| find(names, working_dir).ok()).unwrap_or_default();
        let before = found.into_iter().map(|path| (path.clone(), see(&path).ok())).collect();
        Some(Self { names, working_dir: working_dir.to_path_buf(), before, started: now })
    }

    /// Reads the reports that the tool wrote: an old one is no evidence.
    #[must_use]
    pub fn after(&self) -> Report {
        let names = match &self.names {
            Ok(names) => names,
            Err(why) => return Report::Unreadable(why.clone()),
        };
        let found = match find(names, &self.working_dir) {
            Ok(found) => found,
            Err(why) => return Report::Unreadable(why),
        };
        let mut files = Vec::new();
        let mut old = 0usize;
        let mut room = MAX_REPORT_BYTES;
        for path in &found {
            let shown = path.strip_prefix(&self.working_dir).unwrap_or(path).to_string_lossy().into_owned();
            let seen = match see(path) {
                Ok(seen) if self.is_old(path, &seen) => {
                    old += 1;
                    continue;
                }
                Ok(seen) => seen,
                // A link to what this attempt did not write.
                Err(error) if error.is_not_found() => continue,
                Err(error) => return unreadable(&shown, &causes(&error)),
            };
            let content =
                fs::open_regular(&seen.target).and_then(|file| fs::read_limited(&file, &seen.target, room));
            match content {
                Ok(Some(content)) => {
                    room = room.saturating_sub(content.len() as u64);
                    files.push(read::ReportFile { name: shown, content });
                }
                Ok(None) => {
                    let why = format!(
                        "it has {} bytes; of all test reports together at most {MAX_REPORT_BYTES} are read",
                        seen.stamp.2
                    );
                    return unreadable(&shown, &why);
                }
                Err(error) => return unreadable(&shown, &causes(&error)),
            }
        }
        if files.is_empty() {
            return Report::NotWritten(self.why_not(names, old));
        }
        Report::Written { files, not_of_this_attempt: old }
    }

    /// Whether a file is as it was before, or a link was only set to what is older than the attempt.
    fn is_old(&self, path: &Path, now: &Seen) -> bool {
        let before = self.before.get(path).and_then(Option::as_ref);
        if before.is_some_and(|before| before.stamp == now.stamp) {
            return true;
        }
        let is_link = std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink());
        let is_redirected = is_link && before.is_none_or(|before| before.target != now.target);
        is_redirected && now.stamp.3 < self.started.as_millis() / 1000 - ROUNDING_SECONDS
    }

    fn why_not(&self, names: &[String], old: usize) -> String {
        let is_link = |name: &&String| self.working_dir.join(name).is_symlink();
        let dangling = names.iter().find(is_link);
        let names = names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        match old {
            0 if let Some(link) = dangling => format!("`{link}` is a link to what is not there"),
            0 => format!("{names} is not there in {}", self.working_dir.display()),
            1 => format!("{names} is there, but older than this attempt"),
            old => format!("{names}: all {old} files are older than this attempt"),
        }
    }
}

fn unreadable(name: &str, why: &str) -> Report {
    Report::Unreadable(format!("the test report `{name}` cannot be read: {why}"))
}

/// What the job names: a path, a glob, a directory, or a list of them.
fn names(value: &Value) -> Result<Option<Vec<String>>, String> {
    let one = |value: &Value| value.as_str().filter(|name| !name.is_empty()).map(str::to_owned);
    match value {
        Value::Null => Ok(None),
        Value::String(name) if name.is_empty() => Ok(None),
        Value::Array(items) if items.is_empty() => Ok(None),
        Value::String(name) => Ok(Some(vec![name.clone()])),
        Value::Array(items) if items.iter().all(|item| one(item).is_some()) => {
            Ok(Some(items.iter().filter_map(one).collect()))
        }
        _ => Err("`metadata.junit_file` is no path, and no list of paths".to_owned()),
    }
}

fn find(names: &[String], working_dir: &Path) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    for name in names {
        let path = working_dir.join(name);
        if path.is_dir() {
            let entries = walkdir::WalkDir::new(&path).sort_by_file_name().into_iter().filter_map(Result::ok);
            let is_report = |path: &PathBuf| {
                path.extension().is_some_and(|end| end.eq_ignore_ascii_case("xml")) && !path.is_dir()
            };
            found.extend(entries.map(walkdir::DirEntry::into_path).filter(is_report).take(MAX_FILES + 1));
        } else if std::fs::symlink_metadata(&path).is_ok() {
            found.push(path);
        } else if name.contains(['*', '?', '[']) {
            let base = glob::Pattern::escape(&working_dir.to_string_lossy());
            let pattern = Path::new(&base).join(name);
            let matches = glob::glob(&pattern.to_string_lossy())
                .map_err(|error| format!("`{name}` is not a glob: {error}"))?;
            found.extend(matches.filter_map(Result::ok).filter(|path| !path.is_dir()).take(MAX_FILES + 1));
        }
        if found.len() > MAX_FILES {
            return Err(format!("`junit_file` names more than {MAX_FILES} files"));
        }
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

fn see(path: &Path) -> fs::Result<Seen> {
    let target = fs::canonical(path)?;
    let metadata = std::fs::symlink_metadata(&target).map_err(|source| fs::FsError {
        action: "looking at",
        path: target.clone(),
        source,
    })?;
    let stamp = (metadata.dev(), metadata.ino(), metadata.size(), metadata.mtime(), metadata.mtime_nsec());
    Ok(Seen { target, stamp })
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests play the tool that writes the reports")]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::job::parse_job;

    struct Place(tempfile::TempDir);

    impl Place {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn put(&self, name: &str, text: &str) {
            let path = self.0.path().join(name);
            std::fs::DirBuilder::new().recursive(true).create(path.parent().unwrap()).unwrap();
            std::io::Write::write_all(&mut self.file(name), text.as_bytes()).unwrap();
        }

        fn file(&self, name: &str) -> std::fs::File {
            let mut options = std::fs::File::options();
            options.write(true).create(true).truncate(true).open(self.0.path().join(name)).unwrap()
        }

        fn link(&self, target: &str, name: &str) {
            let path = self.0.path().join(name);
            let _ = fs::remove(&path);
            rustix::fs::symlink(target, path).unwrap();
        }

        /// Looks before and after a tool; what was written: names and contents, or the reason that there is nothing.
        fn after(&self, names: &str, tool: impl FnOnce()) -> Result<(Vec<(String, String)>, usize), String> {
            let text =
                format!(r#"{{"job_id": "j", "tool": "tests", "metadata": {{"junit_file": {names}}}}}"#);
            let job = parse_job(text.as_bytes(), "f").unwrap().job;
            let before = ReportFiles::before(&job, self.0.path(), crate::clock::SystemClock::start().now());
            tool();
            match before.unwrap().after() {
                Report::Written { files, not_of_this_attempt } => {
                    let text = |file: read::ReportFile| (file.name, String::from_utf8(file.content).unwrap());
                    Ok((files.into_iter().map(text).collect(), not_of_this_attempt))
                }
                Report::NotWritten(why) | Report::Unreadable(why) => Err(why),
                Report::NotNamed => Err(String::new()),
            }
        }

        fn names(&self, names: &str, tool: impl FnOnce()) -> Vec<String> {
            self.after(names, tool).unwrap().0.into_iter().map(|(name, _)| name).collect()
        }

        fn is_old(&self, name: &str) {
            let file = self.file(name);
            let time = file.metadata().unwrap().modified().unwrap() - Duration::from_hours(1);
            file.set_modified(time).unwrap();
        }
    }

    use crate::clock::Clock;

    #[test]
    fn a_report_behind_a_link_counts_when_its_target_is_written_and_not_when_only_the_link_is_set() {
        let place = Place::new();
        place.put("d/1.xml", "old");
        place.link("d/1.xml", "latest.xml");
        let read = place.after("\"latest.xml\"", || place.put("d/1.xml", "new"));
        assert_eq!(read.unwrap().0, [("latest.xml".to_owned(), "new".to_owned())]);
        let read = place.after("\"latest.xml\"", || {
            place.put("d/2.xml", "newer");
            place.link("d/2.xml", "latest.xml");
        });
        assert_eq!(read.unwrap().0[0].1, "newer");
        assert!(place.after("\"latest.xml\"", || ()).unwrap_err().contains("older than this attempt"));
        place.is_old("d/1.xml");
        let redirected = place.after("\"latest.xml\"", || place.link("d/1.xml", "latest.xml"));
        assert!(redirected.unwrap_err().contains("older than this attempt"));
        let dangling = place.after("\"latest.xml\"", || place.link("d/absent.xml", "latest.xml"));
        assert!(dangling.unwrap_err().contains("is a link to what is not there"));
        let endless = place.after("\"a.xml\"", || place.link("a.xml", "a.xml"));
        assert!(endless.unwrap_err().contains("cannot be read"));
    }

    #[test]
    fn reports_are_named_by_a_glob_a_directory_or_a_list() {
        let place = Place::new();
        place.put("build/a/old.xml", "old");
        let write = || {
            place.put("build/a/TEST-1.xml", "1");
            place.put("build/b/c/TEST-2.XML", "2");
            place.put("build/b/notes.txt", "no report");
        };
        let all = place.after("\"build\"", write).unwrap();
        let names: Vec<&str> = all.0.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!((names, all.1), (vec!["build/a/TEST-1.xml", "build/b/c/TEST-2.XML"], 1));
        assert_eq!(place.names("\"build/**/*.xml\"", write), ["build/a/TEST-1.xml"]);
        let list = r#"["build/b", "build/a/TEST-?.xml", "build/a/TEST-1.xml", "none.xml"]"#;
        assert_eq!(place.names(list, write), ["build/a/TEST-1.xml", "build/b/c/TEST-2.XML"]);
        // A file of that name comes before a pattern.
        assert_eq!(place.names("\"r[1].xml\"", || place.put("r[1].xml", "x")), ["r[1].xml"]);
        let stale = place.after("\"build/**/*.xml\"", || ()).unwrap_err();
        assert!(stale.contains("all 2 files are older than this attempt"), "{stale}");
    }

    #[test]
    fn a_report_that_is_not_read_has_the_true_reason() {
        let place = Place::new();
        assert!(place.after("\"r.xml\"", || ()).unwrap_err().starts_with("`r.xml` is not there in /"));
        let large =
            place.after("\"large.xml\"", || place.file("large.xml").set_len(MAX_REPORT_BYTES + 1).unwrap());
        assert!(
            large
                .unwrap_err()
                .contains("it has 67108865 bytes; of all test reports together at most 67108864")
        );
        let fifo = place.after("\"pipe.xml\"", || {
            let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
            rustix::fs::mknodat(
                rustix::fs::CWD,
                place.0.path().join("pipe.xml"),
                rustix::fs::FileType::Fifo,
                mode,
                0,
            )
            .unwrap();
        });
        assert!(fifo.unwrap_err().contains("not a regular file"));
        assert!(place.after("7", || ()).unwrap_err().contains("no path, and no list of paths"));
        assert!(place.after("[\"a\", 1]", || ()).unwrap_err().contains("no path, and no list of paths"));
        assert!(place.after("\"a**b/[\"", || ()).unwrap_err().contains("is not a glob"));
    }
}
