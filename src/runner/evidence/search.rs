//! The search for the files that a job names: a path, a directory, a glob, or a list of them.
//!
//! Bounded in time and in what it visits, and ends with the attempt: a pattern may lead through a whole file system. A
//! directory that cannot be entered is an error: it could hold a report.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use glob::Pattern;

use crate::causes::causes;
use crate::fs;
use crate::git::{Deadline, Stop};

/// More files are no report of one run.
const MAX_FILES: usize = 10_000;

/// More entries of directories are not looked at.
const MAX_ENTRIES: usize = 1_000_000;

/// A search takes no longer.
const LONGEST: Duration = Duration::from_secs(30);

/// Whether the search may go on is asked once in so many entries.
const ASK_EVERY: usize = 256;

/// Files that end so are the reports of a directory.
const REPORTS: &str = "*.[xX][mM][lL]";

/// How much a search may do.
#[derive(Debug)]
pub(super) struct Bounds {
    entries: usize,
    deadline: Deadline,
    stop: Stop,
}

impl Bounds {
    /// Those of a search that begins now.
    #[must_use]
    pub(super) fn until(stop: Stop) -> Self {
        Self { entries: MAX_ENTRIES, deadline: Deadline::new("the search", LONGEST), stop }
    }
}

/// One component of a pattern.
#[derive(Debug)]
enum Part {
    /// `**`: directories, or none.
    Any,
    One(Pattern),
}

/// Finds the files, each once and in the order of their names.
///
/// # Errors
/// Why the search did not come to its end.
pub(super) fn find(names: &[String], working_dir: &Path, bounds: Bounds) -> Result<Vec<PathBuf>, String> {
    let mut search = Search { bounds, visited: 0, found: Vec::new() };
    for name in names {
        let path = working_dir.join(name);
        match std::fs::symlink_metadata(&path) {
            Ok(_) if path.is_dir() => {
                let reports = Pattern::new(REPORTS).map_err(|error| error.to_string())?;
                search.walk(path, &[Part::Any, Part::One(reports)])?;
            }
            Err(error) if is_absent(&error) => {
                let (base, parts) = parts(name, working_dir)?;
                if !parts.is_empty() {
                    search.walk(base, &parts)?;
                }
            }
            // Opening it reports the problem.
            _ => search.found.push(path),
        }
    }
    search.found.sort_unstable();
    search.found.dedup();
    Ok(search.found)
}

/// Whether a name has to be searched for.
pub(super) fn is_pattern(name: &str) -> bool {
    name.contains(['*', '?', '['])
}

fn is_absent(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
}

/// Takes a pattern apart: the directory before the first wildcard, and the rest; no rest where there is no wildcard.
fn parts(name: &str, working_dir: &Path) -> Result<(PathBuf, Vec<Part>), String> {
    Pattern::new(name).map_err(|error| format!("`{name}` is not a glob: {error}"))?;
    let mut base = working_dir.to_path_buf();
    let mut parts = Vec::new();
    for component in Path::new(name).components() {
        let text = component.as_os_str().to_string_lossy();
        match component {
            _ if parts.is_empty() && !is_pattern(&text) => base.push(component),
            Component::Normal(_) if text == "**" => parts.push(Part::Any),
            Component::Normal(_) => {
                let pattern =
                    Pattern::new(&text).map_err(|error| format!("`{name}` is not a glob: {error}"))?;
                parts.push(Part::One(pattern));
            }
            _ => return Err(format!("`{name}` has `..` behind a wildcard; name the directory instead")),
        }
    }
    Ok((base, parts))
}

struct Search {
    bounds: Bounds,
    visited: usize,
    found: Vec<PathBuf>,
}

impl Search {
    /// Looks at each directory once for the same rest of the pattern, whichever links lead to it.
    fn walk(&mut self, base: PathBuf, parts: &[Part]) -> Result<(), String> {
        let mut seen = HashSet::new();
        let mut open = vec![(base, with_any(vec![0], parts))];
        while let Some((dir, at)) = open.pop() {
            self.count()?;
            let cannot = |error| cannot_be_read(&dir, error);
            let listed =
                std::fs::metadata(&dir).and_then(|metadata| Ok((metadata, std::fs::read_dir(&dir)?)));
            let (metadata, entries) = match listed {
                Ok(listed) => listed,
                Err(error) if is_absent(&error) => continue,
                Err(error) => return Err(cannot(error)),
            };
            if !seen.insert((metadata.dev(), metadata.ino(), at.clone())) {
                continue;
            }
            for entry in entries {
                self.count()?;
                let entry = entry.map_err(cannot)?;
                let name = entry.file_name();
                let (next, is_match) = step(&at, &name.to_string_lossy(), parts);
                if next.is_empty() && !is_match {
                    continue;
                }
                let path = entry.path();
                let kind = entry.file_type().map_err(cannot)?;
                if kind.is_dir() || (kind.is_symlink() && path.is_dir()) {
                    if !next.is_empty() {
                        open.push((path, next));
                    }
                } else if is_match {
                    self.take(path)?;
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, path: PathBuf) -> Result<(), String> {
        self.found.push(path);
        if self.found.len() > MAX_FILES {
            return Err(format!("`junit_file` names more than {MAX_FILES} files"));
        }
        Ok(())
    }

    fn count(&mut self) -> Result<(), String> {
        let Bounds { entries, deadline, stop } = &self.bounds;
        self.visited += 1;
        if self.visited > *entries {
            return Err(format!(
                "`junit_file` leads through more than {entries} files and directories; name a smaller directory"
            ));
        }
        if self.visited % ASK_EVERY != 1 {
            return Ok(());
        }
        if stop.is_asked() {
            return Err("the search for the files of `junit_file` was stopped".to_owned());
        }
        if deadline.is_over() {
            return Err(format!(
                "the search for the files of `junit_file` took longer than {} s; name a smaller directory",
                LONGEST.as_secs()
            ));
        }
        Ok(())
    }
}

fn cannot_be_read(dir: &Path, source: std::io::Error) -> String {
    let error = fs::FsError { action: "listing", path: dir.to_path_buf(), source };
    format!("a directory that `junit_file` leads through cannot be read: {}", causes(&error))
}

/// The places in the pattern after one name, and whether the name is the last one.
fn step(at: &[usize], name: &str, parts: &[Part]) -> (Vec<usize>, bool) {
    let mut next = Vec::new();
    let mut is_match = false;
    for at in at {
        match parts.get(*at) {
            Some(Part::Any) => next.push(*at),
            Some(Part::One(pattern)) if pattern.matches(name) => {
                is_match |= at + 1 == parts.len();
                next.push(at + 1);
            }
            _ => {}
        }
    }
    next.retain(|at| *at < parts.len());
    (with_any(next, parts), is_match)
}

/// `**` also matches no directory.
fn with_any(mut at: Vec<usize>, parts: &[Part]) -> Vec<usize> {
    let mut from = 0;
    while let Some(place) = at.get(from).copied() {
        if matches!(parts.get(place), Some(Part::Any)) && place + 1 < parts.len() {
            at.push(place + 1);
        }
        from += 1;
    }
    at.sort_unstable();
    at.dedup();
    at
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests play the tool that writes the reports")]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;

    fn dir(base: &Path, name: &str) -> PathBuf {
        let path = base.join(name);
        std::fs::DirBuilder::new().recursive(true).create(&path).unwrap();
        path
    }

    fn file(base: &Path, name: &str) {
        dir(base, Path::new(name).parent().unwrap().to_str().unwrap());
        std::fs::File::options().write(true).create(true).truncate(true).open(base.join(name)).unwrap();
    }

    fn bounds(entries: usize, time: Duration, stop: Stop) -> Bounds {
        Bounds { entries, deadline: Deadline::new("the search", time), stop }
    }

    fn search(base: &Path, name: &str) -> Result<Vec<String>, String> {
        let found = find(&[name.to_owned()], base, Bounds::until(Stop::never()))?;
        Ok(found.iter().map(|path| path.strip_prefix(base).unwrap().to_string_lossy().into_owned()).collect())
    }

    #[test]
    fn a_search_ends_at_its_bounds_with_the_true_reason() {
        let place = tempfile::tempdir().unwrap();
        (0..20).for_each(|n| file(place.path(), &format!("d{n}/x.txt")));
        let all = ["**/*.nothing".to_owned()];
        let why = |bounds| find(&all, place.path(), bounds).unwrap_err();
        assert!(why(bounds(10, LONGEST, Stop::never())).contains("leads through more than 10 files"));
        assert!(why(bounds(1000, Duration::ZERO, Stop::never())).contains("took longer than 30 s"));
        assert!(why(bounds(1000, LONGEST, Stop::new(|| true))).contains("was stopped"));
        let in_directory = find(&[".".to_owned()], place.path(), bounds(10, LONGEST, Stop::never()));
        assert!(in_directory.unwrap_err().contains("leads through more than 10 files"));
        assert_eq!(
            find(&all, place.path(), bounds(1000, LONGEST, Stop::never())).unwrap(),
            [""; 0].map(PathBuf::from)
        );
    }

    #[test]
    fn a_stop_in_the_midst_of_a_search_ends_it() {
        let place = tempfile::tempdir().unwrap();
        (0..2 * ASK_EVERY).for_each(|n| file(place.path(), &format!("d/{n}.txt")));
        let asked = Rc::new(Cell::new(0));
        let count = asked.clone();
        let stop = Stop::new(move || count.replace(count.get() + 1) > 0);
        let stopped = find(&["**/*.xml".to_owned()], place.path(), bounds(MAX_ENTRIES, LONGEST, stop));
        assert!(stopped.unwrap_err().contains("was stopped") && asked.get() == 2);
    }

    #[test]
    fn a_directory_that_cannot_be_entered_is_an_error_with_its_path() {
        let place = tempfile::tempdir().unwrap();
        file(place.path(), "r/good.xml");
        // A path that is too long cannot be entered by root either.
        let mut deep =
            rustix::fs::open(place.path().join("r"), rustix::fs::OFlags::PATH, rustix::fs::Mode::empty())
                .unwrap();
        let name = "d".repeat(250);
        for _ in 0..17 {
            rustix::fs::mkdirat(&deep, &name, rustix::fs::Mode::RWXU).unwrap();
            deep = rustix::fs::openat(&deep, &name, rustix::fs::OFlags::PATH, rustix::fs::Mode::empty())
                .unwrap();
        }
        for pattern in ["r", "r/**/*.xml", "**/*.xml"] {
            let why = search(place.path(), pattern).unwrap_err();
            assert!(why.contains("cannot be read: error listing `/") && why.contains("/r/ddd"), "{why}");
        }
        assert_eq!(search(place.path(), "r/*.xml").unwrap(), ["r/good.xml"]);
    }

    #[test]
    fn a_pattern_means_what_it_means_to_a_shell_and_links_lead_round_in_no_circle() {
        let place = tempfile::tempdir().unwrap();
        let base = place.path();
        for name in ["a/r.xml", "a/b/r.xml", "a/b/c/R.XML", "z/b/r.xml", "z/.hidden/r.xml", "r.txt"] {
            file(base, name);
        }
        rustix::fs::symlink("..", base.join("a/b/up")).unwrap();
        rustix::fs::symlink("z", base.join("latest")).unwrap();
        rustix::fs::symlink("absent", base.join("a/dangling.xml")).unwrap();
        assert_eq!(search(base, "a/*/r.xml").unwrap(), ["a/b/r.xml"]);
        assert_eq!(search(base, "./a/**/r.xml").unwrap(), ["a/b/r.xml", "a/r.xml"]);
        assert_eq!(search(base, "a/**/b/**/[rR].*").unwrap().len(), 3);
        assert_eq!(search(base, "latest/*/r.xml").unwrap(), ["latest/.hidden/r.xml", "latest/b/r.xml"]);
        assert_eq!(search(base, "l*/b/r.xml").unwrap(), ["latest/b/r.xml"]);
        assert_eq!(search(base, "a").unwrap(), ["a/b/c/R.XML", "a/b/r.xml", "a/dangling.xml", "a/r.xml"]);
        assert_eq!(search(base, "absent/**/*.xml").unwrap(), [""; 0]);
        assert!(search(base, "a/*/../r.xml").unwrap_err().contains("`..` behind a wildcard"));
        let absolute = format!("{}/a/b/*.xml", base.display());
        assert_eq!(search(base, &absolute).unwrap(), ["a/b/r.xml"]);
    }
}
