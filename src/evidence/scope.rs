//! Which files a job may touch: paths and globs, relative to the repository.
//!
//! One pattern is `job/scope.rs`. Pure but for `check`, which asks whether a path could be created. Hard rule: no pattern
//! leads out of the repository.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::job::scope::PathPattern;
use crate::job::{Code, Reason};

/// What becomes of a pattern of the scope that matches no file yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unmatched {
    /// The look is refused: it is probably a mistake.
    Refused,
    /// It counts when the changes are judged.
    Counts,
}

/// What running, testing or looking at a program leaves in every worktree, ignored by git or not.
pub(super) const LITTER: [&str; 5] =
    ["**/*.pyc", "**/.pytest_cache/**", "**/.mypy_cache/**", "**/.ruff_cache/**", "**/.DS_Store"];

/// Patterns of files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    items: Vec<PathPattern>,
}

impl Scope {
    /// Reads patterns that are relative to the directory `base` of the repository whose top is `top`.
    ///
    /// # Errors
    /// A reason `scope_invalid` that names the pattern.
    pub fn new(patterns: &[String], top: &Path, base: &Path) -> Result<Self, Reason> {
        let prefix = base.strip_prefix(top).unwrap_or(Path::new("")).to_path_buf();
        let items = patterns.iter().map(|given| item(given, top, &prefix)).collect::<Result<_, _>>()?;
        Ok(Self { items })
    }

    /// The files that are no change of a job: those that its tool writes for itself, and litter.
    ///
    /// # Errors
    /// A reason `scope_invalid` that names the pattern of the tool.
    pub fn of_no_change(own_files: &[String], top: &Path) -> Result<Self, Reason> {
        let litter = LITTER.iter().map(|pattern| (*pattern).to_owned());
        let patterns: Vec<String> = own_files.iter().cloned().chain(litter).collect();
        Self::new(&patterns, top, top)
    }

    /// True if the scope holds this path, which is relative to the top of the repository.
    #[must_use]
    pub fn contains(&self, path: &Path) -> bool {
        let text = path.to_string_lossy();
        self.items.iter().any(|item| item.holds(&text))
    }

    /// True if a pattern is this very path, and not only a glob or a directory that holds it.
    #[must_use]
    pub fn names(&self, path: &Path) -> bool {
        let text = path.to_string_lossy();
        self.items.iter().any(|item| item.path() == text)
    }

    /// The paths that patterns without a wildcard name.
    pub fn literal(&self) -> impl Iterator<Item = &str> {
        self.items.iter().filter(|item| !item.has_wildcard()).map(PathPattern::path)
    }

    /// The files that each pattern means, in the order of the patterns.
    #[must_use]
    pub fn expand<'f>(&self, files: &[&'f Path]) -> Vec<Vec<&'f Path>> {
        let texts: Vec<_> = files.iter().map(|file| (*file, file.to_string_lossy())).collect();
        let of = |item: &PathPattern| {
            texts.iter().filter(|(_, text)| item.holds(text)).map(|(file, _)| *file).collect()
        };
        self.items.iter().map(of).collect()
    }

    /// The files that the scope means now, with those that it names and that are still to be created.
    ///
    /// # Errors
    /// A reason `scope_matches_nothing` that names the pattern.
    pub fn check(&self, top: &Path, files: &[&Path], unmatched: Unmatched) -> Result<Vec<PathBuf>, Reason> {
        let mut found = BTreeSet::new();
        for (item, means) in self.items.iter().zip(self.expand(files)) {
            found.extend(means.iter().map(|path| path.to_path_buf()));
            if !means.is_empty() || item.path().is_empty() {
                continue;
            }
            let is_refused = unmatched == Unmatched::Refused;
            if item.has_wildcard() {
                if is_refused {
                    return Err(matches_nothing(item, "the repository has no such file"));
                }
                continue;
            }
            let path = top.join(item.path());
            match std::fs::symlink_metadata(&path) {
                Ok(metadata) if metadata.is_dir() => {}
                Ok(_) => drop(found.insert(PathBuf::from(item.path()))),
                Err(_) if path.parent().is_some_and(Path::is_dir) => {
                    if !item.given().ends_with('/') {
                        found.insert(PathBuf::from(item.path()));
                    }
                }
                Err(_) if is_refused => {
                    return Err(matches_nothing(item, "neither it nor its directory exists"));
                }
                Err(_) => {}
            }
        }
        Ok(found.into_iter().collect())
    }
}

fn item(given: &str, top: &Path, prefix: &Path) -> Result<PathPattern, Reason> {
    let invalid = |why| Reason::new(Code::ScopeInvalid, format!("`{given}` in `metadata.files_scope` {why}"));
    PathPattern::new(given, top, prefix).map_err(invalid)
}

fn matches_nothing(item: &PathPattern, why: &str) -> Reason {
    let message = format!("`{}` in `metadata.files_scope` matches nothing: {why}", item.given());
    Reason::new(Code::ScopeMatchesNothing, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(patterns: &[&str]) -> Result<Scope, Reason> {
        let patterns: Vec<String> = patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
        Scope::new(&patterns, Path::new("/r"), Path::new("/r"))
    }

    fn holds(pattern: &str, path: &str) -> bool {
        scope(&[pattern]).unwrap().contains(Path::new(path))
    }

    #[test]
    fn one_star_stays_in_its_directory_and_two_do_not() {
        for (pattern, path, want) in [
            ("src/*.rs", "src/a.rs", true),
            ("src/*.rs", "src/a/b.rs", false),
            ("src/*", "src/a/b.rs", false),
            ("src/*/", "src/a/b.rs", true),
            ("src/**/*.rs", "src/a/b/c.rs", true),
            ("src/**/*.rs", "src/c.rs", true),
            ("**/*.rs", "c.rs", true),
            ("src/**", "src/a/b", true),
            ("src/**", "srcs/a", false),
            ("*", ".hidden", true),
            ("a?c", "abc", true),
            ("a?c", "a/c", false),
            ("Src/a", "src/a", false),
        ] {
            assert_eq!(holds(pattern, path), want, "{pattern} {path}");
        }
    }

    #[test]
    fn litter_and_a_tools_own_files_are_no_change_and_sources_are_one() {
        let own = Scope::of_no_change(&[".aider*".to_owned()], Path::new("/r")).unwrap();
        for (path, want) in [
            ("__pycache__/calc.cpython-313.pyc", true),
            ("src/a/__pycache__/sitecustomize.py", false),
            ("old.pyc", true),
            (".pytest_cache/v/cache/lastfailed", true),
            ("sub/.mypy_cache/x.json", true),
            (".ruff_cache/CACHEDIR.TAG", true),
            ("docs/.DS_Store", true),
            (".aider.chat.history.md", true),
            ("__pycache__", false),
            ("calc.py", false),
            ("x.pyc/real.py", false),
            ("DS_Store", false),
            ("pytest_cache/a", false),
        ] {
            assert_eq!(own.contains(Path::new(path)), want, "{path}");
        }
        assert_eq!(
            Scope::of_no_change(&["../x".to_owned()], Path::new("/r")).unwrap_err().code,
            Code::ScopeInvalid
        );
    }

    #[test]
    fn a_directory_means_all_below_it_and_no_name_that_only_begins_like_it() {
        for pattern in ["src", "src/", "./src", "/r/src", "x/../src", "src/."] {
            assert!(holds(pattern, "src/a/b") && holds(pattern, "src"), "{pattern}");
            assert!(!holds(pattern, "src2/a") && !holds(pattern, "a/src"), "{pattern}");
        }
        assert!(holds(".", "any/thing") && holds("/r", "any/thing"));
        assert!(holds("app/[id]/page.ts", "app/[id]/page.ts") && holds("app/[id]/page.ts", "app/i/page.ts"));
    }

    #[test]
    fn nothing_leads_out_of_the_repository() {
        for pattern in ["..", "../x", "a/../../x", "/etc", "/rr", ""] {
            assert_eq!(scope(&[pattern]).unwrap_err().code, Code::ScopeInvalid, "{pattern}");
        }
        let reason = scope(&["a["]).unwrap_err();
        assert!(reason.code == Code::ScopeInvalid && reason.message.contains("`a[`"), "{}", reason.message);
        let below =
            Scope::new(&["x".to_owned(), "../y".to_owned()], Path::new("/r"), Path::new("/r/sub")).unwrap();
        assert!(below.contains(Path::new("sub/x")) && below.contains(Path::new("y")));
        assert!(!below.contains(Path::new("x")));
    }

    #[test]
    fn a_pattern_that_means_nothing_is_named_and_a_file_to_be_created_is_fine() {
        let dir = tempfile::tempdir().unwrap();
        crate::fs::create_dir(&dir.path().join("src")).unwrap();
        let files = [Path::new("src/a.rs"), Path::new("b.txt")];
        let check = |pattern: &str, unmatched| {
            let scope = Scope::new(&[pattern.to_owned()], dir.path(), dir.path()).unwrap();
            scope.check(dir.path(), &files, unmatched)
        };
        let refused = Unmatched::Refused;
        assert_eq!(check("src", refused).unwrap(), [PathBuf::from("src/a.rs")]);
        assert_eq!(check("src/new.rs", refused).unwrap(), [PathBuf::from("src/new.rs")]);
        assert_eq!(check(".", refused).unwrap().len(), 2);
        for pattern in ["*.py", "none/new.rs", "src/**/*.c"] {
            assert!(check(pattern, Unmatched::Counts).unwrap().is_empty());
            let reason = check(pattern, refused).unwrap_err();
            assert_eq!(reason.code, Code::ScopeMatchesNothing);
            assert!(reason.message.contains(pattern), "{}", reason.message);
        }
    }
}
