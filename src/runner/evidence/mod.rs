//! Files that a tool leaves as evidence of what it did: test reports.
//!
//! A report may be a symbolic link, wherever it leads: the tool could have written the same into the file itself.
//! Only what this attempt wrote counts, and only regular files are opened.

mod search;

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use self::search::{Bounds, find};
use crate::adapter::read::{self, Report};
use crate::causes::causes;
use crate::clock::Timestamp;
use crate::fs;
use crate::git::Stop;
use crate::job::JobFile;

/// More of all reports together is not read.
const MAX_REPORT_BYTES: u64 = 64 << 20;

/// How much older than the attempt a file may seem that it wrote: file systems round.
const ROUNDING_SECONDS: i64 = 2;

/// How far ahead of the last change of a file its time of writing may be: it can be a copy from a machine with another clock.
const SKEW_SECONDS: i64 = 86_400;

/// The test reports that a job names, as they were before the tool started.
#[derive(Debug)]
pub(super) struct ReportFiles {
    names: Result<Vec<String>, String>,
    working_dir: PathBuf,
    before: BTreeSet<Stamp>,
    started: Timestamp,
}

/// What is seen of a file, through a link if it is one.
#[derive(Debug)]
struct FileState {
    target: PathBuf,
    stamp: Stamp,
    /// The second of the last change of the content or of the names.
    changed: i64,
}

/// What changes when a file is written again, and not when it gets another name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
}

impl ReportFiles {
    /// Looks at the reports before the start; `None` if the job names none.
    #[must_use]
    pub(super) fn before(job: &JobFile, working_dir: &Path, now: Timestamp, stop: Stop) -> Option<Self> {
        let names = read::junit::names(job.metadata.all.get("junit_file")?).transpose()?;
        // The tool may be what makes a search possible; without one, the age of a file tells.
        let search = |names: &Vec<String>| find(names, working_dir, Bounds::until(stop)).ok();
        let found = names.as_ref().ok().and_then(search).unwrap_or_default();
        let before = found.iter().filter_map(|path| file_state(path).ok()).map(|seen| seen.stamp).collect();
        Some(Self { names, working_dir: working_dir.to_path_buf(), before, started: now })
    }

    /// Reads the reports that the tool wrote: an old one is no evidence.
    #[must_use]
    pub(super) fn after(&self, stop: Stop) -> Report {
        let names = match &self.names {
            Ok(names) => names,
            Err(why) => return Report::Unreadable(why.clone()),
        };
        let found = match find(names, &self.working_dir, Bounds::until(stop)) {
            Ok(found) => found,
            Err(why) => return Report::Unreadable(why),
        };
        let mut files = Vec::new();
        let mut old = 0usize;
        let mut taken = BTreeSet::new();
        let mut room = MAX_REPORT_BYTES;
        for path in &found {
            let shown = path.strip_prefix(&self.working_dir).unwrap_or(path).to_string_lossy().into_owned();
            let seen = match file_state(path) {
                // Another name of the same file.
                Ok(seen) if !taken.insert((seen.stamp.device, seen.stamp.inode)) => continue,
                Ok(seen) if self.is_old(&seen) => {
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
                        seen.stamp.size
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

    /// Whether a file is as it was before, under whatever name or behind whatever link, or older than the attempt: what was only
    /// moved or linked here was not written. A time that no write can have given it was set.
    ///
    /// A file that was only touched counts as written. Its content would not tell: a tool that writes the same report again
    /// leaves the same bytes in the same file, and is as honest as its first run.
    fn is_old(&self, now: &FileState) -> bool {
        let started = self.started.as_millis() / 1000 - ROUNDING_SECONDS;
        let written = now.stamp.modified.0;
        let was_set = written > now.changed.saturating_add(SKEW_SECONDS);
        self.before.contains(&now.stamp) || written.min(now.changed) < started || was_set
    }

    fn why_not(&self, names: &[String], old: usize) -> String {
        let quoted =
            |names: &[&String]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let all: Vec<&String> = names.iter().collect();
        match (old, names) {
            (0, _) => {}
            (1, [name]) if self.working_dir.join(name).is_file() => {
                return format!("`{name}` exists, but is older than this attempt");
            }
            (1, _) => return format!("{}: the only file is older than this attempt", quoted(&all)),
            (old, _) => return format!("{}: all {old} files are older than this attempt", quoted(&all)),
        }
        let path = |name: &str| self.working_dir.join(name);
        if let Some(link) = names.iter().find(|name| path(name).is_symlink() && !path(name).exists()) {
            return format!("`{link}` is a link to a missing file");
        }
        let (dirs, absent): (Vec<&String>, Vec<&String>) =
            all.into_iter().partition(|name| path(name).is_dir());
        let (patterns, absent): (Vec<&String>, Vec<&String>) =
            absent.into_iter().partition(|name| search::is_pattern(name));
        let say = |names: &[&String], one: &str, many: &str| match names.len() {
            0 => None,
            1 => Some(format!("{} {one}", quoted(names))),
            _ => Some(format!("{} {many}", quoted(names))),
        };
        let parts = [
            say(&absent, "is not there", "are not there"),
            say(&patterns, "matches no file", "match no file"),
            say(&dirs, "has no report in it (`*.xml`)", "have no report in them (`*.xml`)"),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        format!("{} in {}", parts.join("; "), self.working_dir.display())
    }
}

fn unreadable(name: &str, why: &str) -> Report {
    Report::Unreadable(format!("the test report `{name}` cannot be read: {why}"))
}

fn file_state(path: &Path) -> fs::Result<FileState> {
    let target = fs::canonical(path)?;
    let metadata = std::fs::symlink_metadata(&target).map_err(|source| fs::FsError {
        action: "looking at",
        path: target.clone(),
        source,
    })?;
    let stamp = Stamp {
        device: metadata.dev(),
        inode: metadata.ino(),
        size: metadata.size(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
    };
    Ok(FileState { target, stamp, changed: metadata.ctime() })
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
            let now = crate::clock::SystemClock::start().now();
            let before = ReportFiles::before(&job, self.0.path(), now, Stop::never());
            tool();
            match before.unwrap().after(Stop::never()) {
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
        assert!(dangling.unwrap_err().contains("is a link to a missing file"));
        let endless = place.after("\"a.xml\"", || place.link("a.xml", "a.xml"));
        assert!(endless.unwrap_err().contains("cannot be read"));
    }

    #[test]
    fn a_report_whose_time_was_only_set_ahead_does_not_count_and_one_written_again_with_the_same_text_does() {
        let place = Place::new();
        let set = |seconds: u64| {
            let file = std::fs::File::options().append(true).open(place.0.path().join("r.xml")).unwrap();
            file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
        };
        place.put("r.xml", "<old/>");
        set(1_000_000_000);
        let in_2096 = place.after("\"r.xml\"", || set(4_000_000_000));
        assert!(in_2096.unwrap_err().contains("older than this attempt"));
        let same = place.after("\"r.xml\"", || place.put("r.xml", "<old/>"));
        assert_eq!(same.unwrap().0[0].1, "<old/>");
        // A copy from a machine whose clock is ahead.
        let copied = place.after("\"r.xml\"", || {
            place.put("r.xml", "<new/>");
            let now = place.0.path().join("r.xml").metadata().unwrap().modified().unwrap();
            set(now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() + 3600);
        });
        assert_eq!(copied.unwrap().0[0].1, "<new/>");
    }

    #[test]
    fn an_old_report_does_not_count_behind_a_link_to_its_directory_or_under_a_new_name() {
        let place = Place::new();
        place.put("old/r.xml", "<old/>");
        place.is_old("old/r.xml");
        let linked = place.after("\"latest/r.xml\"", || place.link("old", "latest"));
        assert!(linked.unwrap_err().contains("older than this attempt"));
        for (names, name) in [("\"new.xml\"", "new.xml"), ("\"*.xml\"", "new2.xml"), ("\".\"", "d.xml")] {
            place.put("other", "<old/>");
            place.is_old("other");
            let renamed = place.after(names, || {
                std::fs::rename(place.0.path().join("other"), place.0.path().join(name)).unwrap();
            });
            assert!(renamed.unwrap_err().contains("older than this attempt"), "{name}");
        }
        // It was there just before, among those that are named, under another name.
        place.put("n/1.xml", "<old/>");
        let renamed = place.after("\"n\"", || {
            std::fs::rename(place.0.path().join("n/1.xml"), place.0.path().join("n/2.xml")).unwrap();
        });
        assert!(renamed.unwrap_err().contains("older than this attempt"));
        // A file with two names is one report.
        let twice = place.names("\"n\"", || {
            place.put("n/3.xml", "<new/>");
            place.link("3.xml", "n/latest.xml");
        });
        assert_eq!(twice, ["n/3.xml"]);
    }

    #[test]
    fn a_search_that_is_stopped_or_has_no_end_is_no_report() {
        let place = Place::new();
        place.put("r.xml", "x");
        let job = br#"{"job_id": "j", "tool": "tests", "metadata": {"junit_file": "*.xml"}}"#;
        let job = parse_job(job, "f").unwrap().job;
        let now = crate::clock::SystemClock::start().now();
        let before = ReportFiles::before(&job, place.0.path(), now, Stop::new(|| true)).unwrap();
        assert!(before.before.is_empty());
        let Report::Unreadable(why) = before.after(Stop::new(|| true)) else { panic!("it was read") };
        assert!(why.contains("was stopped"), "{why}");
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
        let why = |names: &str| place.after(names, || ()).unwrap_err();
        assert!(why("\"r.xml\"").starts_with("`r.xml` is not there in /"));
        assert!(why(r#"["r.xml", "s.xml"]"#).starts_with("`r.xml`, `s.xml` are not there in /"));
        assert!(why("\"*.xml\"").starts_with("`*.xml` matches no file in /"));
        place.put("empty/notes.txt", "");
        assert!(why("\"empty\"").starts_with("`empty` has no report in it (`*.xml`) in /"));
        let mixed = why(r#"["r.xml", "empty"]"#);
        assert!(mixed.starts_with("`r.xml` is not there; `empty` has no report in it"), "{mixed}");
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
        assert!(place.after("7", || ()).unwrap_err().contains("neither a path nor a list of paths"));
        assert!(place.after("[\"a\", 1]", || ()).unwrap_err().contains("neither a path nor a list of paths"));
        assert!(place.after("\"a**b/[\"", || ()).unwrap_err().contains("is not a glob"));
    }
}
