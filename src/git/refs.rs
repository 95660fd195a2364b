//! References, read from their files: one file each, and one of those that are packed.
//!
//! A call of git for each look costs more than all else in it, and git opens every reference of a directory to tell one of
//! them. Not responsible for references that are kept otherwise (reftable): then there is no answer, and git has to be asked.
//! Hard rule: no link is followed, and what is not understood is no answer.

use std::collections::BTreeMap;
use std::path::Path;

use super::worktree::line_of;
use crate::fs;

/// A larger file of packed references is not read: git finds one in it without reading it all.
const MAX_PACKED_BYTES: u64 = 4 << 20;

/// Names of references with the lines of their files, as a rule names of objects.
pub(crate) type Lines = BTreeMap<String, String>;

/// Names, of which those that end in a slash stand for all below them; and whether they are wanted. The longest that fits counts.
pub(crate) type Rules<'a> = &'a [(&'a str, bool)];

/// Reads references; `None` if git has to be asked.
///
/// A reference that another process packs meanwhile is found: its own file is looked for first.
#[must_use]
pub(crate) fn read(common_dir: &Path, rules: Rules<'_>) -> Option<Lines> {
    // A repository with reftable has a file there.
    if !common_dir.join("refs/heads").symlink_metadata().ok()?.is_dir() {
        return None;
    }
    let mut found = Lines::new();
    for (root, _) in rules.iter().filter(|(_, is_wanted)| *is_wanted) {
        match root.strip_suffix('/') {
            Some(dir) => walk(common_dir, dir, rules, &mut found)?,
            None => file(common_dir, root, &mut found)?,
        }
    }
    let path = common_dir.join("packed-refs");
    let packed = match fs::open_regular(&path) {
        Ok(file) => fs::read_limited(&file, &path, MAX_PACKED_BYTES).ok()??,
        Err(error) if error.is_not_found() => return Some(found),
        Err(_) => return None,
    };
    for line in String::from_utf8_lossy(&packed).lines() {
        let Some((object, name)) = line.split_once(' ') else { continue };
        if !line.starts_with('#') && is_wanted(rules, name) && !found.contains_key(name) {
            found.insert(name.to_owned(), object.to_owned());
        }
    }
    Some(found)
}

/// The longest rule that fits decides.
#[must_use]
pub(crate) fn is_wanted(rules: Rules<'_>, name: &str) -> bool {
    let fits = |rule: &str| name == rule || rule.ends_with('/') && name.starts_with(rule);
    let fitting = rules.iter().filter(|(rule, _)| fits(rule));
    fitting.max_by_key(|(rule, _)| rule.len()).is_some_and(|(_, is_wanted)| *is_wanted)
}

fn walk(common_dir: &Path, root: &str, rules: Rules<'_>, found: &mut Lines) -> Option<()> {
    let mut dirs = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        let entries = match std::fs::read_dir(common_dir.join(&dir)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(_) => return None,
        };
        for entry in entries {
            let entry = entry.ok()?;
            let (name, kind) = (entry.file_name().into_string().ok()?, entry.file_type().ok()?);
            // git takes neither for a reference.
            if name.starts_with('.') || name.ends_with(".lock") {
                continue;
            }
            let name = format!("{dir}/{name}");
            if kind.is_dir() && is_wanted(rules, &format!("{name}/")) {
                dirs.push(name);
            } else if !kind.is_dir() && is_wanted(rules, &name) {
                file(common_dir, &name, found)?;
            }
        }
    }
    Some(())
}

/// Adds a reference that has a file of its own; nothing if it has none.
fn file(common_dir: &Path, name: &str, found: &mut Lines) -> Option<()> {
    let path = common_dir.join(name);
    match path.symlink_metadata() {
        Ok(metadata) if metadata.is_file() => {}
        // A directory is what deleted references leave.
        Ok(metadata) if metadata.is_dir() => return Some(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Some(()),
        _ => return None,
    }
    // It may be gone since: packed, or deleted.
    match line_of(&path) {
        Some(line) => drop(found.insert(name.to_owned(), String::from_utf8(line).ok()?)),
        None if path.symlink_metadata().is_ok() => return None,
        None => {}
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::process::helper;

    fn sh(dir: &Path, script: &str) -> String {
        let wait = (Duration::from_secs(60), &(|| false) as &dyn Fn() -> bool);
        let ended = helper::run("sh", &["-ec", script], dir, wait).unwrap();
        assert_eq!(ended.code, Some(0), "{script}: {}", ended.text);
        ended.text
    }

    const MAKE: &str = "git init -q -b main; git config user.name a; git config user.email b@c
        git commit -q --allow-empty -m i; git commit -q --allow-empty -m j
        for name in refs/engine/r/a/head refs/engine/r/a/01 refs/engine/r/ab/head refs/heads/engine/r/a refs/heads/engine/r/ab; do
        git update-ref $name HEAD~; done";

    const RULES: Rules<'_> = &[
        ("refs/", true),
        ("refs/engine/", false),
        ("refs/heads/engine/", false),
        ("refs/engine/r/a/", true),
        ("refs/heads/engine/r/a", true),
    ];

    /// The same by git.
    fn by_git(dir: &Path) -> Lines {
        let list = "git for-each-ref --format='%(objectname) %(refname)'";
        let text = sh(dir, list);
        let all = text.lines().filter_map(|line| line.split_once(' '));
        let wanted = all.filter(|(_, name)| is_wanted(RULES, name));
        wanted.map(|(object, name)| (name.to_owned(), object.to_owned())).collect()
    }

    #[test]
    fn what_is_read_is_what_git_lists_loose_packed_and_both() {
        let dir = tempfile::tempdir().unwrap();
        sh(dir.path(), MAKE);
        let common = dir.path().join(".git");
        for script in [
            "true",
            "git pack-refs --all",
            "git update-ref refs/engine/r/a/head HEAD; git tag -m x t; git branch o/p",
            "git update-ref -d refs/engine/r/a/01; touch .git/refs/engine/r/a/head.lock",
            "git pack-refs --all; git tag u; mkdir -p .git/refs/heads/empty/dir",
            "git update-ref -d refs/heads/engine/r/a; rmdir .git/refs/heads/engine/r || true",
        ] {
            sh(dir.path(), script);
            let read = read(&common, RULES).unwrap();
            assert_eq!(read, by_git(dir.path()), "{script}");
            assert!(read.contains_key("refs/heads/main") && !read.contains_key("refs/engine/r/ab/head"));
        }
    }

    #[test]
    fn what_only_git_understands_is_no_answer() {
        let dir = tempfile::tempdir().unwrap();
        sh(dir.path(), MAKE);
        let common = dir.path().join(".git");
        sh(dir.path(), "mkdir away; ln -s ../../../away .git/refs/heads/link");
        assert_eq!(read(&common, RULES), None, "a link");
        sh(dir.path(), "rm .git/refs/heads/link; mkfifo .git/refs/heads/pipe");
        assert_eq!(read(&common, RULES), None, "a pipe");
        sh(
            dir.path(),
            "rm .git/refs/heads/pipe; mv .git/packed-refs away/ 2> /dev/null || true; mkdir .git/packed-refs",
        );
        assert_eq!(read(&common, RULES), None, "a directory for packed references");
        sh(dir.path(), "rmdir .git/packed-refs; rm -r .git/refs/heads; echo reftable > .git/refs/heads");
        assert_eq!(read(&common, RULES), None, "another format");
    }
}
