//! Files that more than one bundle may change.
//!
//! An overlap is what it was in the original: equal normalised strings of `files_scope`. Everything else that may meet is told apart
//! from it: directories, globs, and files that are created.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::finding::{Finding, FindingKind};
use super::paths;
use super::read::ReadBundle;
use crate::job::Problem;
use crate::job::scope::PathPattern;

/// The paths that are in several scopes, each with the ids, sorted.
pub(crate) fn overlaps(bundles: &[ReadBundle]) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for path in of_all(bundles).filter(|path| path.key == SCOPE) {
        found.entry(paths::shown(&path.pattern)).or_default().insert(path.id().to_owned());
    }
    let several = found.into_iter().filter(|(_, ids)| ids.len() > 1);
    several.map(|(path, ids)| (path, ids.into_iter().collect())).collect()
}

/// The same, as a finding at each place but the first.
pub(crate) fn overlap_findings(bundles: &[ReadBundle]) -> Vec<Finding> {
    let mut first: BTreeMap<String, &str> = BTreeMap::new();
    let mut findings = Vec::new();
    for path in of_all(bundles).filter(|path| path.key == SCOPE) {
        let shown = paths::shown(&path.pattern);
        let owner = *first.entry(shown.clone()).or_insert(path.id());
        if owner != path.id() {
            let message = format!("`{shown}` is in the scope of `{owner}` too");
            findings.push(Finding { kind: FindingKind::Overlap, ..path.finding(message) });
        }
    }
    findings
}

/// Two bundles that may change one file, though their paths are not equal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct PatternOverlap {
    /// The first bundle.
    pub(crate) ws_a: String,
    /// Its path.
    pub(crate) path_a: String,
    /// The second bundle.
    pub(crate) ws_b: String,
    /// Its path.
    pub(crate) path_b: String,
}

/// The most that are told: many globs of one directory meet by the million.
const MOST_TOLD: usize = 1000;

/// Bundles that overlap by a directory, by a glob, or in a file that is created; sorted, the first thousand.
pub(crate) fn pattern_overlaps(bundles: &[ReadBundle]) -> Vec<PatternOverlap> {
    let paths: Vec<Path<'_>> = of_all(bundles).collect();
    let pairs = paths.iter().enumerate().flat_map(|(at, one)| {
        paths.iter().skip(at + 1).filter(|other| other.id() != one.id()).map(move |other| (one, other))
    });
    let overlap = |(one, other): (&Path<'_>, &Path<'_>)| PatternOverlap {
        ws_a: one.id().to_owned(),
        path_a: paths::shown(&one.pattern),
        ws_b: other.id().to_owned(),
        path_b: paths::shown(&other.pattern),
    };
    let found: BTreeSet<PatternOverlap> =
        pairs.filter(|(one, other)| meet_apart(one, other)).map(overlap).take(MOST_TOLD).collect();
    found.into_iter().collect()
}

const SCOPE: &str = "files_scope";

/// A path of a bundle.
struct Path<'a> {
    of: &'a ReadBundle,
    key: &'static str,
    at: usize,
    pattern: PathPattern,
    /// For a glob: what each of its first parts means, the shortest first.
    beginnings: Vec<PathPattern>,
}

impl<'a> Path<'a> {
    fn id(&self) -> &'a str {
        self.of.bundle.id.as_str()
    }

    fn finding(&self, message: String) -> Finding {
        let pointer = format!("/{}/{}", self.key, self.at);
        let problem = Problem::of_value(&self.of.places, pointer, message);
        Finding { id: Some(self.id().to_owned()), ..Finding::of_files(&*self.of.file, problem) }
    }
}

fn of_all(bundles: &[ReadBundle]) -> impl Iterator<Item = Path<'_>> {
    bundles.iter().flat_map(|of| {
        let scope = of.bundle.files_scope.iter().enumerate().map(|path| (SCOPE, path));
        let created = of.bundle.files_create.iter().enumerate().map(|path| ("files_create", path));
        scope.chain(created).filter_map(move |(key, (at, given))| {
            let pattern = paths::read(given).ok()?;
            let beginnings = beginnings(&pattern);
            Some(Path { of, key, at, pattern, beginnings })
        })
    })
}

fn beginnings(pattern: &PathPattern) -> Vec<PathPattern> {
    let slashes = pattern.path().match_indices('/').filter(|_| pattern.has_wildcard());
    slashes.filter_map(|(at, _)| paths::read(pattern.path().get(..at)?).ok()).collect()
}

/// Whether two paths may mean one file, and that is no overlap of the original.
fn meet_apart(one: &Path<'_>, other: &Path<'_>) -> bool {
    match one.pattern.path() == other.pattern.path() {
        true => one.key != SCOPE || other.key != SCOPE,
        false => meet(one, other),
    }
}

/// Whether two paths that are not equal may mean one file.
fn meet(one: &Path<'_>, other: &Path<'_>) -> bool {
    let (one_path, other_path) = (one.pattern.path(), other.pattern.path());
    match (one.pattern.has_wildcard(), other.pattern.has_wildcard()) {
        (false, false) => is_below(one_path, other_path) || is_below(other_path, one_path),
        (true, true) => {
            let (one, other) = (literal_head(one_path), literal_head(other_path));
            one.starts_with(other) || other.starts_with(one)
        }
        (true, false) => glob_meets(one, other),
        (false, true) => glob_meets(other, one),
    }
}

fn is_below(path: &str, dir: &str) -> bool {
    dir.is_empty() || path.strip_prefix(dir).is_some_and(|rest| rest.starts_with('/'))
}

/// What stands before the first wildcard.
fn literal_head(glob: &str) -> &str {
    glob.find(['*', '?', '[']).and_then(|at| glob.get(..at)).unwrap_or(glob)
}

/// A name may be that of a directory: then what the glob means below it counts.
fn glob_meets(glob: &Path<'_>, plain: &Path<'_>) -> bool {
    let path = plain.pattern.path();
    let name = path.rsplit('/').next().unwrap_or_default();
    let may_be_directory = plain.pattern.given().ends_with('/') || !name.contains('.');
    let leads_there = |beginning: &PathPattern| match beginning.has_wildcard() {
        true => may_be_directory && beginning.holds(path),
        false => beginning.path() == path,
    };
    path.is_empty() || glob.pattern.holds(path) || glob.beginnings.iter().any(leads_there)
}

#[cfg(test)]
mod tests {
    use super::super::read::{Source, read};
    use super::*;

    fn bundles(files: &[(&str, &[&str], &[&str])]) -> Vec<ReadBundle> {
        let document = |(id, scope, create): &(&str, &[&str], &[&str])| {
            serde_json::json!({
                "id": id, "openspec_change": "c", "ccpm_issue": 1, "gate": 1, "files_scope": scope,
                "files_create": create, "tasks": [], "tool": "aider",
            })
        };
        let all: Vec<_> = files.iter().map(document).collect();
        let bytes = serde_json::to_vec(&all).unwrap();
        read(&[Source { file: "f".to_owned(), bytes }], Vec::new()).unwrap().bundles
    }

    #[test]
    fn an_overlap_is_an_equal_path_of_two_scopes_however_it_is_written() {
        let read = bundles(&[
            ("ws-c", &["src\\a.py", "b"], &["d"]),
            ("ws-b", &["/src/a.py/", "src/a.py"], &["b"]),
            ("ws-a", &["src/a.py", "d"], &[]),
        ]);
        let want =
            BTreeMap::from([("src/a.py".to_owned(), ["ws-a", "ws-b", "ws-c"].map(str::to_owned).to_vec())]);
        assert_eq!(overlaps(&read), want);
        let lines: Vec<_> = overlap_findings(&read).iter().map(Finding::line).collect();
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert!(lines[0].contains(": /files_scope/0: `src/a.py` is in the scope of `ws-a` too"), "{lines:?}");
        let apart: Vec<_> =
            pattern_overlaps(&read).into_iter().map(|o| (o.ws_a, o.path_a, o.ws_b, o.path_b)).collect();
        let of =
            |a: &str, b: &str, path: &str| (a.to_owned(), path.to_owned(), b.to_owned(), path.to_owned());
        assert_eq!(apart, [of("ws-a", "ws-c", "d"), of("ws-b", "ws-c", "b")]);
    }

    #[test]
    fn directories_and_globs_are_told_apart() {
        for (one, other, want) in [
            ("src", "src/a.py", true),
            ("src", "srcs/a.py", false),
            (".", "src/a.py", true),
            (".", "*.py", true),
            ("src/*.py", "src/a.py", true),
            ("src/*.py", "src/sub/a.py", false),
            ("src/**/*.py", "src", true),
            ("src/**/*.py", "lib", false),
            ("**/*.py", "src/sub", true),
            ("**/*.py", "src/a.md", false),
            ("*/a.py", "src", true),
            ("*/a.py", "src/sub", false),
            ("v1.d/*.py", "v1.d", true),
            ("src/*.py", "src/*.md", true),
            ("src/a*", "src/b*", false),
            ("src/*/", "src/sub/a.py", true),
            ("**/**/**/**/**/**/**/**/x", "a/b/c/d/e/f/g/h/i/j/k/l", true),
        ] {
            for (one, other) in [(one, other), (other, one)] {
                let read = bundles(&[("ws-a", &[one], &[]), ("ws-b", &[other], &[])]);
                assert_eq!(!pattern_overlaps(&read).is_empty(), want, "{one} {other}");
                assert!(overlaps(&read).is_empty());
            }
        }
    }

    #[test]
    fn globs_that_meet_by_the_million_are_not_all_told() {
        let owned: Vec<_> =
            (0..100).map(|n| (format!("ws-{n}"), format!("src/{n}*"), format!("src/?{n}"))).collect();
        let scopes: Vec<[&str; 2]> = owned.iter().map(|(_, one, two)| [one.as_str(), two.as_str()]).collect();
        let files: Vec<(&str, &[&str], &[&str])> = owned
            .iter()
            .zip(&scopes)
            .map(|((id, ..), scope)| (id.as_str(), scope.as_slice(), [].as_slice()))
            .collect();
        assert_eq!(pattern_overlaps(&bundles(&files)).len(), MOST_TOLD);
    }

    #[test]
    fn one_bundle_does_not_overlap_with_itself() {
        let read = bundles(&[("ws-a", &["src", "src/a.py", "*"], &["src/a.py"])]);
        assert!(pattern_overlaps(&read).is_empty() && overlaps(&read).is_empty());
    }
}
