//! The judgement of what an `edit` or `fix` left, by its tree against the last checkpoint.
//!
//! Responsible for the rules and for the words of a violation. Pure but for `left`. Hard rule: the tree decides, not what the agent
//! says, nor how it made the changes: by a commit, a shell, or a link.

use std::path::{Path, PathBuf};

use super::changes::{Change, Stat, changes};
use super::content::{Counted, Tree, differing, record};
use super::git::{Git, Head};
use super::look::Seen;
use super::{Place, filters, protected, unseen};
use crate::bundle::table::PatchPolicy;
use crate::evidence::Scope;
use crate::fs::Sweep;
use crate::git::Client;
use crate::git::index::Kind;
use crate::job::{Code, Reason};

/// So many characters of a path are shown.
const MAX_SHOWN: usize = 200;

/// So many paths are named in a message.
const MAX_NAMED: usize = 10;

/// What a step left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Left {
    /// The content of the worktree.
    pub tree: Tree,
    /// What differs from the last checkpoint.
    pub changes: Vec<Change>,
    /// Files that were neither regular nor links; they are gone.
    pub removed: Vec<PathBuf>,
    /// Files of the last checkpoint whose filter gives another content each time.
    pub unstable: Vec<PathBuf>,
}

/// The rules for the changes of a step.
#[derive(Debug, Clone)]
pub(crate) struct Rules<'a> {
    /// `files_scope` and `files_create`.
    pub scope: &'a Scope,
    /// Patterns of the settings, beside those that are built in.
    pub protected: &'a [String],
    /// The files of the tree that checks may execute.
    pub executed: &'a [String],
    /// Limits of the change.
    pub patch: PatchPolicy,
    /// Whether a step without a change is right.
    pub allow_no_change: bool,
    /// Whether tests may be removed.
    pub allow_test_removal: bool,
}

/// Looks at what a step left upon this tree. Files at which a later step could wait for ever are removed.
///
/// # Errors
/// A reason where git fails.
pub(crate) fn left(place: &Place, head: &Head, counted: &Counted, client: &Client) -> Result<Left, Reason> {
    let git = Git::at(place, client);
    let found = differing(&git, counted)?;
    let swept = unseen::sweep(&git, &found, Sweep { special: true, ..Sweep::default() })?;
    let removed = found.unblocked.iter().cloned().chain(swept.special).collect();
    let mut tree = record(&git, found)?;
    tree.nested.extend(swept.repositories);
    let changes = changes(place, (&head.tree, &tree.id), client)?;
    let is_outside =
        |change: &&Change| change.kind == Kind::Modified && !counted.scope.contains(&change.path);
    let outside: Vec<&Path> = changes.iter().filter(is_outside).map(|change| &*change.path).collect();
    let unstable = filters::unstable(&git, &outside, [&head.tree, &tree.id])?;
    Ok(Left { tree, changes, removed, unstable })
}

/// The first rule that is broken, as a reason; `None` if the changes may be taken.
///
/// # Errors
/// `scope_invalid` if a pattern of the settings is none.
pub(crate) fn judge(left: &Left, seen: &Seen, rules: &Rules<'_>) -> Result<Option<Reason>, Reason> {
    let (protected, collected) = (protected::protected(rules.protected)?, protected::collected()?);
    let is_executed = |path: &Path| rules.executed.iter().any(|file| Path::new(file) == path);
    let is_gate = |path: &Path| protected.contains(path) || is_executed(path);
    Ok(filter_unstable(left)
        .or_else(|| out_of_scope(left, seen, rules))
        .or_else(|| git_dir_changed(seen))
        .or_else(|| references_moved(seen))
        .or_else(|| submodule_changed(left))
        .or_else(|| gate_tampered(left, rules, is_gate))
        .or_else(|| tests_vanished(left, rules, &collected))
        .or_else(|| tree_not_clean(left, seen))
        .map_or_else(|| patch_policy(left, rules), |reason| Ok(Some(reason)))?
        .or_else(|| no_change(left, rules)))
}

/// A reason that names these paths, if there are any.
fn about(code: Code, what: &str, paths: impl IntoIterator<Item = String>, way_out: &str) -> Option<Reason> {
    let all: Vec<String> = paths.into_iter().map(|path| format!("`{path}`")).collect();
    if all.is_empty() {
        return None;
    }
    let (named, more) = all.split_at(all.len().min(MAX_NAMED));
    let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
    Some(Reason::new(code, format!("{what}: {}{more}; {way_out}", named.join(", "))))
}

/// A path as a message holds it: a name may be as long as a path can be.
fn shown(path: &Path) -> String {
    let text = path.display().to_string();
    match text.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

fn out_of_scope(left: &Left, seen: &Seen, rules: &Rules<'_>) -> Option<Reason> {
    let changed = left.changes.iter().filter(|change| !change.is_submodule);
    let outside = changed.filter(|change| !rules.scope.contains(&change.path)).map(|c| shown(&c.path));
    let paths = outside.chain(seen.outside.iter().cloned());
    let way_out = "add them to `files_scope` and resume, or resume with a task that needs no such change";
    about(Code::ScopeViolation, "the step changed files outside the scope", paths, way_out)
}

fn filter_unstable(left: &Left) -> Option<Reason> {
    let paths = left.unstable.iter().map(|path| shown(path));
    let way_out = "let the filter give one content for one file, then resume";
    let what = "a filter of git gives another content for the same file, so changes of the step cannot be told from its own";
    about(Code::EvidenceFailed, what, paths, way_out)
}

fn is_laid_over(path: &str) -> bool {
    path.ends_with("/.git")
}

fn git_dir_changed(seen: &Seen) -> Option<Reason> {
    let paths = seen.git_dir.iter().filter(|path| !is_laid_over(path)).cloned();
    let way_out = "look at them and undo what must not stay, then resume: what is there then counts as yours";
    about(Code::GitDirChanged, "the step changed files of the git directory", paths, way_out)
}

fn references_moved(seen: &Seen) -> Option<Reason> {
    let names = seen.own_refs.iter().chain(&seen.of_run).cloned();
    let way_out = "look at the log of the step, then resume: the engine puts them back";
    about(Code::GitDirChanged, "the step moved references of the engine", names, way_out)
}

fn submodule_changed(left: &Left) -> Option<Reason> {
    let commits = left.changes.iter().filter(|change| change.is_submodule).map(|change| &change.path);
    let paths = left.tree.submodules.iter().chain(commits).map(|path| shown(path));
    let way_out = "change it in its own repository, then resume";
    about(Code::SubmoduleChanged, "the step changed submodules", paths, way_out)
}

fn gate_tampered(left: &Left, rules: &Rules<'_>, is_gate: impl Fn(&Path) -> bool) -> Option<Reason> {
    let is_it = |change: &&Change| is_gate(&change.path) && !rules.scope.names(&change.path);
    let paths = left.changes.iter().filter(is_it).map(|change| shown(&change.path));
    let way_out = "name them literally in `files_scope` if the task is to change them, then resume";
    about(Code::GateTampered, "the step changed files that decide how checks run", paths, way_out)
}

fn tests_vanished(left: &Left, rules: &Rules<'_>, collected: &Scope) -> Option<Reason> {
    if rules.allow_test_removal {
        return None;
    }
    // A renamed test is still one only under a name that a runner looks for.
    let is_kept = |change: &Change| {
        change.renamed_to.as_deref().is_some_and(|path| collected.contains(path))
            || rules.scope.names(&change.path)
    };
    let is_gone = |kind| matches!(kind, Kind::Deleted | Kind::TypeChanged);
    let gone = left.changes.iter().filter(|change| is_gone(change.kind) && collected.contains(&change.path));
    let paths = gone.filter(|change| !is_kept(change)).map(|change| shown(&change.path));
    let way_out = "name them literally in `files_scope`, or set `metadata.allow_test_removal`, then resume";
    about(Code::TestsVanished, "the step deleted test files", paths, way_out)
}

fn tree_not_clean(left: &Left, seen: &Seen) -> Option<Reason> {
    let Tree { nested, unread, refused, foreign, .. } = &left.tree;
    let inner = nested.iter().map(|path| shown(path));
    let laid_over = seen.git_dir.iter().filter(|path| is_laid_over(path)).cloned();
    let way_out = "remove or repair them by hand, then resume";
    about(Code::TreeNotClean, "the step left repositories in the worktree", inner.chain(laid_over), way_out)
        .or_else(|| {
            let paths = unread.iter().map(|path| shown(path));
            about(Code::TreeNotClean, "the step left files that cannot be read", paths, way_out)
        })
        .or_else(|| {
            let said = refused.first().map_or("", |(_, said)| said);
            let what = format!("the step left files that git does not record ({said})");
            let paths = refused.iter().map(|(path, _)| shown(path));
            about(Code::TreeNotClean, &what, paths, way_out)
        })
        .or_else(|| {
            let paths = foreign.iter().map(|path| shown(path));
            about(Code::TreeNotClean, "the step left files of another user", paths, way_out)
        })
}

fn patch_policy(left: &Left, rules: &Rules<'_>) -> Result<Option<Reason>, Reason> {
    let policy = &rules.patch;
    let forbidden = Scope::new(&policy.forbidden_paths, Path::new("/"), Path::new("/"))?;
    let sum = Stat::of(&left.changes);
    let lines = sum.insertions + sum.deletions;
    let way_out = "divide the task, or change `[workstreams] patch`, then resume";
    let over = |what: &str, found: u64, most: Option<u64>| {
        let most = most.filter(|most| found > *most)?;
        let message = format!("the step changed {found} {what}, more than {most}; {way_out}");
        Some(Reason::new(Code::PatchPolicy, message))
    };
    let binary = || {
        let is_binary = |change: &&Change| change.lines.is_none() && change.kind != Kind::Deleted;
        let paths = left.changes.iter().filter(is_binary).map(|change| shown(&change.path));
        let paths = paths.filter(|_| policy.forbid_binary);
        about(Code::PatchPolicy, "the step changed binary files", paths, way_out)
    };
    let paths = left.changes.iter().filter(|change| forbidden.contains(&change.path));
    let paths = paths.map(|change| shown(&change.path));
    Ok(about(Code::PatchPolicy, "the step changed forbidden files", paths, way_out)
        .or_else(binary)
        .or_else(|| over("files", sum.files, policy.max_files_changed))
        .or_else(|| over("lines", lines, policy.max_lines_changed)))
}

fn no_change(left: &Left, rules: &Rules<'_>) -> Option<Reason> {
    let is_change = !left.changes.is_empty() || rules.allow_no_change;
    let message = "the step changed nothing; set `metadata.allow_no_change` if that can be right";
    (!is_change).then(|| Reason::new(Code::NoChange, message))
}

/// The tests of one run of a check.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Tests that passed.
    pub passed: u64,
    /// Tests that did not run.
    pub skipped: u64,
}

/// The reason not to believe a check that passes: it has fewer tests than its best run, or skips more. `None` if it can be
/// believed.
#[must_use]
pub(crate) fn fewer_tests(now: Counts, best: Counts, check: &str) -> Option<Reason> {
    let what = if now.passed < best.passed {
        format!("passed with {} tests, {} before", now.passed, best.passed)
    } else if now.skipped > best.skipped {
        format!("passed and skipped {} tests, {} before", now.skipped, best.skipped)
    } else {
        return None;
    };
    let way_out =
        "look at the last checkpoints, and set `metadata.allow_test_removal` if that is right, then resume";
    Some(Reason::new(Code::TestsVanished, format!("the check `{check}` {what}; {way_out}")))
}

/// The reason not to count the pass of a check that changed files itself: it has not passed on the tree that is handed over. The
/// same files give the same words.
#[must_use]
pub(crate) fn changed_by_check(paths: &[PathBuf], check: &str) -> Option<Reason> {
    let what = format!("`{check}` passed, and changed files itself, so the pass does not count");
    let way_out = "have the check report without a change, as tools do with an option like `--check`, or make \
                   its changes part of the work (`files_scope` names what an agent may change)";
    about(Code::CheckChangedFiles, &what, paths.iter().map(|path| shown(path)), way_out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(path: &str, kind: Kind) -> Change {
        let lines = Some((1, 1));
        Change { path: path.into(), kind, renamed_to: None, lines, is_submodule: false }
    }

    fn code(changes: Vec<Change>, scope: &[&str], settings: impl FnOnce(&mut Rules<'_>)) -> Option<Code> {
        of(&Left { changes, ..Left::default() }, &Seen::default(), scope, settings).map(|reason| reason.code)
    }

    fn of(left: &Left, seen: &Seen, scope: &[&str], settings: impl FnOnce(&mut Rules<'_>)) -> Option<Reason> {
        let scope: Vec<String> = scope.iter().map(|pattern| (*pattern).to_owned()).collect();
        let scope = Scope::new(&scope, Path::new("/r"), Path::new("/r")).unwrap();
        let executed = ["ci/check.sh".to_owned()];
        let mut rules = Rules {
            scope: &scope,
            protected: &[],
            executed: &executed,
            patch: PatchPolicy::default(),
            allow_no_change: false,
            allow_test_removal: false,
        };
        settings(&mut rules);
        judge(left, seen, &rules).unwrap()
    }

    use Kind::{Added, Deleted, Modified};

    #[test]
    fn changes_in_scope_may_be_taken_and_each_violation_has_its_code() {
        let renamed = |to: &str| Change { renamed_to: Some(to.into()), ..change("src/test_a.py", Deleted) };
        let sub = Change { is_submodule: true, ..change("src/sub", Modified) };
        for (changes, want) in [
            (vec![change("src/a.py", Modified)], None),
            (vec![], Some(Code::NoChange)),
            (vec![change("src/a.py", Modified), change("b.py", Added)], Some(Code::ScopeViolation)),
            (vec![change("Src/a.py", Added)], Some(Code::ScopeViolation)),
            (vec![sub], Some(Code::SubmoduleChanged)),
            (vec![change("src/conftest.py", Added)], Some(Code::GateTampered)),
            (vec![change("src/test_a.py", Deleted)], Some(Code::TestsVanished)),
            (vec![change("src/test_a.py", Modified)], None),
            (vec![renamed("src/test_b.py"), change("src/test_b.py", Added)], None),
            (vec![renamed("src/old_a.py"), change("src/old_a.py", Added)], Some(Code::TestsVanished)),
        ] {
            let told = format!("{changes:?}");
            assert_eq!(code(changes, &["src"], |_| ()), want, "{told}");
        }
    }

    #[test]
    fn a_literal_name_in_the_scope_allows_what_a_directory_does_not() {
        for (path, kind) in
            [("src/pyproject.toml", Modified), ("ci/check.sh", Modified), ("src/test_a.py", Deleted)]
        {
            assert!(code(vec![change(path, kind)], &["src", "ci/"], |_| ()).is_some(), "{path}");
            assert_eq!(code(vec![change(path, kind)], &["src", "ci", path], |_| ()), None, "{path}");
        }
        let removed = |rules: &mut Rules<'_>| rules.allow_test_removal = true;
        assert_eq!(code(vec![change("src/test_a.py", Deleted)], &["src"], removed), None);
        assert_eq!(code(vec![], &["src"], |rules| rules.allow_no_change = true), None);
    }

    #[test]
    fn what_no_tree_shows_is_a_violation_that_names_it() {
        let left = Left { changes: vec![change("src/a", Modified)], ..Left::default() };
        let git_dir = vec![".git/hooks/pre-commit".to_owned(), "src/.git".to_owned()];
        let seen = Seen { git_dir, ..Seen::default() };
        let reason = of(&left, &seen, &["src"], |_| ()).unwrap();
        assert_eq!(reason.code, Code::GitDirChanged);
        assert!(reason.message.contains("`.git/hooks/pre-commit`;"), "{}", reason.message);
        let seen = Seen { git_dir: vec!["src/.git".to_owned()], ..Seen::default() };
        assert_eq!(of(&left, &seen, &["src"], |_| ()).unwrap().code, Code::TreeNotClean);
        let seen = Seen { outside: vec!["/etc/x".to_owned()], ..Seen::default() };
        assert_eq!(of(&left, &seen, &["src"], |_| ()).unwrap().code, Code::ScopeViolation);
        for tree in [
            Tree { nested: vec!["src/n".into()], ..Tree::default() },
            Tree { unread: vec!["src/u".into()], ..Tree::default() },
            Tree { foreign: vec!["src/f".into()], ..Tree::default() },
        ] {
            let left = Left { tree, ..left.clone() };
            assert_eq!(of(&left, &Seen::default(), &["src"], |_| ()).unwrap().code, Code::TreeNotClean);
        }
        let many = (0..14).map(|n| change(&format!("x{n}"), Added)).collect();
        let reason = of(&Left { changes: many, ..left }, &Seen::default(), &["src"], |_| ()).unwrap();
        assert!(reason.message.contains("`x9` and 4 more; add them"), "{}", reason.message);
    }

    #[test]
    fn each_limit_of_a_patch_is_kept_to_the_last_line() {
        let binary = Change { lines: None, ..change("src/b", Modified) };
        let (lines, files) = (Some(3), Some(1));
        for (changes, policy, want) in [
            (vec!["a", "b"], PatchPolicy { max_lines_changed: Some(4), ..PatchPolicy::default() }, false),
            (vec!["a", "b"], PatchPolicy { max_lines_changed: lines, ..PatchPolicy::default() }, true),
            (vec!["a"], PatchPolicy { max_files_changed: files, ..PatchPolicy::default() }, false),
            (vec!["a", "b"], PatchPolicy { max_files_changed: files, ..PatchPolicy::default() }, true),
            (
                vec!["a"],
                PatchPolicy { forbidden_paths: vec!["src/a".into()], ..PatchPolicy::default() },
                true,
            ),
        ] {
            let changes = changes.iter().map(|name| change(&format!("src/{name}"), Modified)).collect();
            let found = code(changes, &["src"], |rules| rules.patch = policy.clone());
            assert_eq!(found, want.then_some(Code::PatchPolicy), "{policy:?}");
        }
        let forbid = |rules: &mut Rules<'_>| {
            rules.patch = PatchPolicy { forbid_binary: true, ..PatchPolicy::default() };
        };
        assert_eq!(code(vec![binary.clone()], &["src"], forbid), Some(Code::PatchPolicy));
        assert_eq!(code(vec![binary], &["src"], |_| ()), None);
    }

    #[test]
    fn a_check_with_fewer_or_more_skipped_tests_is_not_believed() {
        let counts = |passed, skipped| Counts { passed, skipped };
        for (now, best, want) in [
            (counts(5, 1), counts(5, 1), false),
            (counts(6, 0), counts(5, 1), false),
            (counts(4, 1), counts(5, 1), true),
            (counts(5, 2), counts(5, 1), true),
            (counts(6, 2), counts(5, 1), true),
        ] {
            let reason = fewer_tests(now, best, "pytest -q");
            assert_eq!(reason.is_some(), want, "{now:?} {best:?}");
            assert!(reason.is_none_or(|reason| reason.message.contains("`pytest -q`")));
        }
    }
}
