//! Files that more than one bundle may change.
//!
//! An overlap is what it was in the original: equal normalised strings of `files_scope`. Everything else that may meet is told apart
//! from it: directories, globs, and files that are created.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::finding::{Finding, FindingKind};
use super::meeting::{List, Paths, Use};
use super::order::Order;
use crate::job::Problem;

/// The paths that are in several scopes, each with the ids, sorted.
pub(crate) fn overlaps(paths: &Paths<'_>) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
    for path in scopes(paths) {
        found.entry(paths.name(path)).or_default().insert(path.bundle);
    }
    let several = found.into_iter().filter(|(_, bundles)| bundles.len() > 1);
    let ids =
        |bundles: BTreeSet<usize>| bundles.into_iter().map(|bundle| paths.id(bundle).to_owned()).collect();
    several.map(|(path, bundles)| (path.to_owned(), ids(bundles))).collect()
}

fn scopes<'a>(paths: &'a Paths<'_>) -> impl Iterator<Item = &'a Use> {
    paths.uses.iter().filter(|path| path.list == List::Scope)
}

/// The uses of a path by the place of their bundle in the order, each with its number.
type Users<'a> = BTreeMap<usize, Vec<(usize, &'a Use)>>;

/// The same as findings, of bundles that no dependency orders: at each place but the first.
pub(crate) fn overlap_findings(paths: &Paths<'_>) -> Vec<Finding> {
    let order = Order::of(paths);
    let mut place_of = vec![0; order.places.len()];
    for (place, found) in order.places.iter().enumerate() {
        place_of[found.bundle] = place;
    }
    let mut users: BTreeMap<&str, Users<'_>> = BTreeMap::new();
    for (at, path) in scopes(paths).enumerate() {
        users.entry(paths.name(path)).or_default().entry(place_of[path.bundle]).or_default().push((at, path));
    }
    // They are ordered if each reaches the one before it.
    let neighbors = |users: &Users<'_>| {
        let places: Vec<usize> = users.keys().copied().collect();
        places.windows(2).map(|two| (two[0], two[1])).collect::<Vec<_>>()
    };
    let joined = order.joined(&users.values().flat_map(&neighbors).collect());
    let mut findings = BTreeMap::new();
    for (name, users) in &users {
        for (earlier, later) in neighbors(users).into_iter().filter(|two| !joined.contains(two)) {
            let owner = paths.id(order.places[earlier].bundle);
            for (at, path) in &users[&later] {
                let message = format!("`{name}` is in the scope of `{owner}` too");
                findings.insert(*at, finding(paths, path, message));
            }
        }
    }
    findings.into_values().collect()
}

fn finding(paths: &Paths<'_>, path: &Use, message: String) -> Finding {
    let of = &paths.bundles[path.bundle];
    let pointer = format!("/{}/{}", path.list.key(), path.at);
    let problem = Problem::of_value(&of.places, pointer, message);
    let id = Some(paths.id(path.bundle).to_owned());
    Finding { kind: FindingKind::Overlap, id, ..Finding::of_files(&*of.file, problem) }
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

/// The most that are listed: many globs of one directory have millions.
const MOST_TOLD: usize = 1000;

/// Bundles that overlap by a directory, by a glob, or in a file that is created; sorted, the first thousand.
pub(crate) fn pattern_overlaps(paths: &Paths<'_>) -> Vec<PatternOverlap> {
    let mut by_meaning = vec![Vec::new(); paths.meanings.len()];
    for (at, path) in paths.uses.iter().enumerate() {
        by_meaning[path.meaning].push(at);
    }
    let mut found = BTreeSet::new();
    for (at, one) in paths.uses.iter().enumerate() {
        let meaning = &paths.meanings[one.meaning];
        let apart = paths.met_by(meaning).into_iter().map(|other| (other, false));
        let equal = paths.at_node[meaning.node].iter().map(|&other| (other, true));
        for (other, is_equal) in apart.chain(equal) {
            let later =
                by_meaning[other].iter().filter(|&&other| other > at).map(|&other| &paths.uses[other]);
            found.extend(
                later.filter(|other| tells(one, other, is_equal)).map(|other| pair(paths, one, other)),
            );
        }
        if found.len() >= MOST_TOLD {
            break;
        }
    }
    found.into_iter().take(MOST_TOLD).collect()
}

/// Whether two paths that may mean one file are of two bundles, and no overlap of the original.
fn tells(one: &Use, other: &Use, is_equal: bool) -> bool {
    let is_of_the_original = is_equal && one.list == List::Scope && other.list == List::Scope;
    one.bundle != other.bundle && !is_of_the_original
}

fn pair(paths: &Paths<'_>, one: &Use, other: &Use) -> PatternOverlap {
    PatternOverlap {
        ws_a: paths.id(one.bundle).to_owned(),
        path_a: paths.meanings[one.meaning].shown.clone(),
        ws_b: paths.id(other.bundle).to_owned(),
        path_b: paths.meanings[other.meaning].shown.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::read::{ReadBundle, Source, read};
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
            ("ws-b", &["/src/a.py/", "src/a.py", "x/*/"], &["b"]),
            ("ws-a", &["src/a.py", "d", "x/*"], &[]),
        ]);
        let found: Vec<_> =
            overlaps(&Paths::of(&read)).into_iter().map(|(path, ids)| (path, ids.join(" "))).collect();
        assert_eq!(
            found,
            [("src/a.py", "ws-a ws-b ws-c"), ("x/*", "ws-a ws-b")]
                .map(|(path, ids)| { (path.to_owned(), ids.to_owned()) })
        );
        let lines: Vec<_> = overlap_findings(&Paths::of(&read)).iter().map(Finding::line).collect();
        assert_eq!(lines.len(), 4, "{lines:?}");
        assert!(lines[0].contains(": /files_scope/0: `src/a.py` is in the scope of `ws-a` too"), "{lines:?}");
        let apart: Vec<_> = pattern_overlaps(&Paths::of(&read))
            .into_iter()
            .map(|o| (o.ws_a, o.path_a, o.ws_b, o.path_b))
            .collect();
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
            ("src/a*", "src/a", true),
            ("*", "src/a*", true),
            ("src/*.py", "src/", true),
            ("**/**/**/**/**/**/**/**/x", "a/b/c/d/e/f/g/h/i/j/k/l", true),
        ] {
            for (one, other) in [(one, other), (other, one)] {
                let read = bundles(&[("ws-a", &[one], &[]), ("ws-b", &[other], &[])]);
                assert_eq!(!pattern_overlaps(&Paths::of(&read)).is_empty(), want, "{one} {other}");
                assert!(overlaps(&Paths::of(&read)).is_empty());
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
        assert_eq!(pattern_overlaps(&Paths::of(&bundles(&files))).len(), MOST_TOLD);
    }

    #[test]
    fn one_bundle_does_not_overlap_with_itself() {
        let read = bundles(&[("ws-a", &["src", "src/a.py", "*"], &["src/a.py"])]);
        assert!(pattern_overlaps(&Paths::of(&read)).is_empty() && overlaps(&Paths::of(&read)).is_empty());
    }
}
