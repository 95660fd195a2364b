//! Afraid of an agent whose work is not seen: hidden, committed, written through a link, or outside of what was asked.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use engine::for_tests::Stop;
use engine::for_tests::evidence::{self, Changes, Kind, Means, Scope, Unmatched, WorkTreeBefore};
use engine::job::{Code, Reason};

use crate::support::{heeding_modes, is_root};

/// A repository with a commit, and a place for what is needed for a look at it.
struct Fixture {
    dir: tempfile::TempDir,
}

fn git_in(dir: &Path, args: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "protocol.file.allow=always"])
        .args(args)
        .current_dir(dir)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .unwrap();
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

fn look(root: &Path, working: &Path, patterns: &[String], scratch: &Path) -> Result<WorkTreeBefore, Reason> {
    evidence::before((root, working), patterns, scratch, &means())
}

fn means() -> Means {
    Means {
        search_path: std::env::var_os("PATH"),
        home: None,
        stop: Stop::never(),
        min_free_bytes: 0,
        unmatched: Unmatched::Refused,
    }
}

impl Fixture {
    fn empty() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("repo")).unwrap();
        let fixture = Self { dir };
        fixture.git(&["init", "-q", "-b", "main"]);
        fixture
    }

    fn new() -> Self {
        let fixture = Self::empty();
        fixture.write("src/a.rs", "a");
        fixture.write("src/b.rs", "b");
        fixture.write("README", "r");
        fixture.commit("first");
        fixture
    }

    fn repo(&self) -> PathBuf {
        self.dir.path().join("repo")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.repo().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn git(&self, args: &[&str]) -> String {
        git_in(&self.repo(), args)
    }

    fn script(&self, text: &str) {
        let mut command = Command::new("sh");
        command.args(["-e", "-c", text]).current_dir(self.repo());
        for name in ["GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"] {
            command.env(name, "a@example.org");
        }
        assert!(command.status().unwrap().success(), "{text}");
    }

    fn commit(&self, message: &str) -> String {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "-m", message]);
        self.git(&["rev-parse", "HEAD"])
    }

    fn before_with(&self, patterns: &[&str]) -> WorkTreeBefore {
        let patterns: Vec<String> = patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
        look(&self.repo(), &self.repo(), &patterns, &self.dir.path().join("scratch")).unwrap()
    }

    fn before(&self) -> WorkTreeBefore {
        self.before_with(&[])
    }
}

fn told(changes: &Changes) -> Vec<(&str, Kind)> {
    assert_eq!(changes.files.len(), changes.files_total);
    assert_eq!(changes.changed, changes.files_total + changes.outside.len() > 0);
    changes.files.iter().map(|file| (file.path.as_str(), file.kind)).collect()
}

fn out_of_scope(changes: &Changes) -> Vec<&str> {
    changes.files.iter().filter(|file| file.in_scope == Some(false)).map(|file| file.path.as_str()).collect()
}

/// Everything of a directory that could be changed, with its time of change.
fn whole(dir: &Path) -> Vec<(PathBuf, u64, i64, i64)> {
    use std::os::unix::fs::MetadataExt;
    let mut found: Vec<_> = walkdir::WalkDir::new(dir)
        .into_iter()
        .map(|entry| {
            let entry = entry.unwrap();
            let metadata = entry.metadata().unwrap();
            (entry.into_path(), metadata.ino(), metadata.ctime(), metadata.ctime_nsec())
        })
        .collect();
    found.sort();
    found
}

#[test]
fn a_repository_that_nobody_touched_is_unchanged_and_was_not_changed_by_looking() {
    let fixture = Fixture::new();
    fixture.write("src/a.rs", "staged");
    fixture.git(&["add", "src/a.rs"]);
    fixture.write("src/a.rs", "and edited");
    fixture.write("new", "untracked");
    let all = whole(&fixture.repo());
    let before = fixture.before();
    let changes = before.after().unwrap();
    assert_eq!(told(&changes), []);
    assert!(!changes.changed && !changes.truncated);
    assert_eq!(changes.tree_before, changes.tree_after);
    assert_eq!(changes.branch_after.as_deref(), Some("main"));
    assert!(changes.patch().unwrap().bytes.is_empty());
    assert_eq!(whole(&fixture.repo()), all);
    let scratch = fixture.dir.path().join("scratch");
    assert!(scratch.join("evidence").exists(), "for the patch");
    drop(changes);
    // Between two looks nothing is there that a job could write.
    assert_eq!(std::fs::read_dir(scratch).unwrap().count(), 0);
}

#[test]
fn the_tree_of_a_clean_work_tree_is_the_tree_of_head() {
    let fixture = Fixture::new();
    let before = fixture.before();
    assert_eq!(before.snapshot().tree, fixture.git(&["rev-parse", "HEAD^{tree}"]));
    fixture.write("src/a.rs", "other");
    fixture.write("new", "n");
    let changes = before.after().unwrap();
    fixture.commit("the same by git");
    assert_eq!(changes.tree_after, fixture.git(&["rev-parse", "HEAD^{tree}"]));
}

#[test]
fn uncommitted_untracked_committed_and_deleted_files_are_told_with_their_content() {
    let fixture = Fixture::new();
    let before = fixture.before();
    fixture.write("src/a.rs", "committed");
    let commit = fixture.commit("by the agent");
    fixture.write("src/b.rs", "uncommitted");
    fixture.write("src/new.rs", "untracked");
    std::fs::remove_file(fixture.path("README")).unwrap();
    let changes = before.after().unwrap();
    assert_eq!(
        told(&changes),
        [
            ("README", Kind::Deleted),
            ("src/a.rs", Kind::Modified),
            ("src/b.rs", Kind::Modified),
            ("src/new.rs", Kind::Added)
        ]
    );
    let committed: Vec<bool> = changes.files.iter().map(|file| file.committed).collect();
    assert_eq!(committed, [false, true, false, false]);
    assert_eq!(changes.commits, [commit]);
    assert_eq!(changes.files[0].sha256, None);
    assert_eq!(changes.files[1].sha256, Some(engine::job::digest::sha256(b"committed")));
    let patch = changes.patch().unwrap();
    assert!(!patch.cut);
    let text = String::from_utf8(patch.bytes).unwrap();
    for part in ["+uncommitted", "+untracked", "-r\n", "+committed"] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn the_patch_applies_to_what_was_before() {
    let fixture = Fixture::new();
    fixture.write("blob", "\0\u{1}binary");
    fixture.commit("second");
    let before = fixture.before();
    fixture.write("blob", "\0\u{2}other");
    fixture.write("src/x\ny", "n");
    std::fs::set_permissions(fixture.path("README"), PermissionsExt::from_mode(0o755)).unwrap();
    let changes = before.after().unwrap();
    let patch = fixture.dir.path().join("patch");
    std::fs::write(&patch, changes.patch().unwrap().bytes).unwrap();
    fixture.git(&["checkout", "-q", "."]);
    fixture.git(&["clean", "-q", "-fd"]);
    fixture.git(&["apply", patch.to_str().unwrap()]);
    assert_eq!(before.after().unwrap().tree_after, changes.tree_after);
}

#[test]
fn a_patch_without_end_is_cut_and_says_so() {
    let fixture = Fixture::new();
    let before = fixture.before();
    fixture.write("long", &"a line of text\n".repeat(200_000));
    let patch = before.after().unwrap().patch().unwrap();
    assert!(patch.cut);
    assert!(patch.bytes.len() <= 1 << 20 && patch.bytes.ends_with(b"\n"));
}

#[test]
fn a_commit_that_is_amended_back_changes_nothing_and_is_listed() {
    let fixture = Fixture::new();
    let before = fixture.before();
    fixture.write("src/a.rs", "x");
    fixture.commit("there");
    fixture.write("src/a.rs", "a");
    fixture.git(&["add", "-A"]);
    fixture.git(&["commit", "-q", "--amend", "--allow-empty", "-m", "and back"]);
    let changes = before.after().unwrap();
    assert_eq!(told(&changes), []);
    assert_eq!(changes.commits, [fixture.git(&["rev-parse", "HEAD"])]);
    assert_ne!(changes.head_before, changes.head_after);
}

#[test]
fn commits_on_another_branch_and_a_stash_are_seen_for_what_they_do_to_the_files() {
    let fixture = Fixture::new();
    fixture.write("src/a.rs", "of the user, not committed");
    let before = fixture.before();
    fixture.git(&["stash", "-q"]);
    let stashed = before.after().unwrap();
    assert_eq!(told(&stashed), [("src/a.rs", Kind::Modified)]);
    assert!(stashed.commits.is_empty() && !stashed.files[0].committed);
    fixture.git(&["checkout", "-q", "-b", "other"]);
    fixture.write("new", "n");
    fixture.commit("on the other");
    let changes = before.after().unwrap();
    assert_eq!(
        (changes.branch_before.as_deref(), changes.branch_after.as_deref()),
        (Some("main"), Some("other"))
    );
    assert_eq!(told(&changes), [("new", Kind::Added), ("src/a.rs", Kind::Modified)]);
    fixture.git(&["checkout", "-q", "--detach"]);
    assert_eq!(before.after().unwrap().branch_after, None);
}

/// The script runs in a repository with the branches `main` and `other`, the tag `old`, a commit `deep` in the middle of
/// `other`, and a stash if it is clean. Whether anything is different, and whether the repository held all of it.
#[test]
fn what_the_repository_held_before_is_no_work_and_what_is_taken_away_or_added_is() {
    let (same, moved, work) = ((false, false), (true, true), (true, false));
    for (script, dirty, want) in [
        ("true", false, same),
        ("git checkout -q other", false, moved),
        ("git checkout -q --detach deep", false, moved),
        ("git checkout -q old", false, moved),
        ("git merge -q --ff-only other", false, moved),
        ("git reset -q --hard old", false, moved),
        ("git stash pop -q", false, moved),
        ("git switch -q -c mine other", false, moved),
        ("git checkout -q other && touch new", false, work),
        ("git checkout -q other && rm README", false, work),
        ("git checkout -q other && echo x > README && git commit -qam x", false, work),
        ("git merge -q --no-ff -m m side", false, moved),
        ("git merge -q --no-ff -m m other && git merge -q --no-ff -m n side", false, moved),
        ("git merge -q -m m other side", false, moved),
        ("git merge -q --no-ff -m m side && echo x > README && git commit -qam x", false, work),
        ("git merge -q --no-ff --no-commit side >&2; echo x > README; git commit -qam evil", false, work),
        ("git merge -q --no-ff --no-commit side >&2; git rm -q README; git commit -qam evil", false, work),
        ("echo x > new; git add .; git commit -qm x; git merge -q -m m side", false, work),
        ("git checkout -q wide && git merge -q -m m long", false, work),
        ("git merge -q --squash side >&2", false, work),
        ("git merge -q --squash side >&2 && git commit -qm m", false, work),
        ("git cherry-pick other >&2", false, work),
        ("git revert --no-edit HEAD >&2", false, work),
        ("git show old:src/a.rs > src/a.rs", false, work),
        ("git checkout -q deep -- src/a.rs", false, work),
        ("git stash pop -q && touch new", false, work),
        ("git checkout -q other && echo x > .git/hooks/post-commit", false, work),
        // What a person has not committed is taken away.
        ("git checkout -q -- .", true, work),
        ("git reset -q --hard", true, work),
        ("git stash -q", true, work),
        ("git checkout -q -f other", true, work),
        ("git reset -q --hard old", true, work),
        // It is carried over.
        ("git checkout -q other", true, moved),
    ] {
        let fixture = Fixture::new();
        let prepare = "seq 20 > lines; git add .; git commit -qm lines; git tag old; echo 2 > src/a.rs; git commit -qam second; git branch side
            git checkout -q -b other; echo 3 > src/a.rs; git commit -qam third; git tag deep
            echo 4 > src/c.rs; git add .; git commit -qm fourth; git checkout -q side
            echo s > side; git add .; git commit -qm side; git checkout -q main; echo m > main; git add .
            git commit -qm main; git reset -q --hard HEAD^
            git checkout -q -b wide; sed -i 's/^2$/wide/' lines; git commit -qam wide; git checkout -q -b long main
            sed -i 's/^19$/long/' lines; git commit -qam long; git checkout -q main; echo stashed > README; git stash -q";
        fixture.script(prepare);
        if dirty {
            fixture.write("src/b.rs", "of the user, not committed");
            fixture.write("README", "of the user, not committed");
        }
        let before = fixture.before();
        fixture.script(script);
        let changes = before.after().unwrap();
        assert_eq!((changes.changed, changes.only_moved), want, "{script} {dirty}: {:#?}", changes.files);
    }
}

#[test]
fn a_move_of_the_repository_within_is_told_as_a_change() {
    let fixture = Fixture::new();
    let inner = fixture.path("inner");
    std::fs::create_dir(&inner).unwrap();
    let prepare = "git init -q; echo 1 > f; git add .; git commit -qm 1; git checkout -q -b other; echo 2 > f
        git commit -qam 2; git checkout -q -";
    fixture.script(&format!("cd inner\n{prepare}"));
    let before = fixture.before();
    fixture.script("cd inner; git checkout -q other");
    let changes = before.after().unwrap();
    assert!(changes.changed && !changes.only_moved, "{:#?}", changes.files);
}

#[test]
fn an_unborn_branch_and_its_first_commit_are_fine() {
    let fixture = Fixture::empty();
    let before = fixture.before();
    assert_eq!(before.snapshot().repository.branch.as_deref(), Some("main"));
    fixture.write("a", "1");
    let changes = before.after().unwrap();
    assert_eq!((told(&changes), &changes.head_after), (vec![("a", Kind::Added)], &None));
    let commit = fixture.commit("first");
    let changes = before.after().unwrap();
    assert_eq!(changes.commits, [commit]);
    assert!(changes.files[0].committed);
}

#[test]
fn a_write_to_a_file_that_the_index_is_told_to_overlook_is_seen() {
    for bit in ["--skip-worktree", "--assume-unchanged"] {
        let fixture = Fixture::new();
        let before = fixture.before();
        fixture.git(&["update-index", bit, "src/a.rs"]);
        fixture.write("src/a.rs", "hidden");
        assert_eq!(fixture.git(&["status", "--porcelain"]), "");
        assert_eq!(told(&before.after().unwrap()), [("src/a.rs", Kind::Modified)], "{bit}");
        // A second job finds the mark already there.
        let second = fixture.before();
        assert_ne!(second.snapshot().tree, fixture.git(&["rev-parse", "HEAD^{tree}"]), "{bit}");
        fixture.write("src/a.rs", "hidden again");
        assert_eq!(told(&second.after().unwrap()), [("src/a.rs", Kind::Modified)], "{bit}");
    }
}

#[test]
fn a_write_in_the_same_second_with_the_old_size_and_time_is_seen() {
    let fixture = Fixture::new();
    let old = std::fs::metadata(fixture.path("src/a.rs")).unwrap().modified().unwrap();
    let old = old - std::time::Duration::from_secs(1000);
    let set = |to| {
        std::fs::File::options()
            .write(true)
            .open(fixture.path("src/a.rs"))
            .unwrap()
            .set_modified(to)
            .unwrap();
    };
    set(old);
    fixture.git(&["update-index", "-q", "--refresh"]);
    let before = fixture.before();
    std::fs::write(fixture.path("src/a.rs"), "z").unwrap();
    set(old);
    assert_eq!(told(&before.after().unwrap()), [("src/a.rs", Kind::Modified)]);
}

#[test]
fn a_changed_ignore_rule_hides_nothing_that_came_with_it() {
    let fixture = Fixture::new();
    fixture.write(".gitignore", "*.log\n/build/\n");
    fixture.write("build/out", "1");
    fixture.write("a.log", "1");
    fixture.write("seen", "1");
    fixture.git(&["add", ".gitignore"]);
    fixture.git(&["commit", "-q", "-m", "rules"]);
    let before = fixture.before();
    fixture.write(".gitignore", "*.log\n/build/\nsecret\nseen\n/hidden/\n");
    fixture.write("secret", "1");
    fixture.write("hidden/deep/file", "1");
    fixture.write("hidden/b.log", "1");
    fixture.write("seen", "2");
    fixture.write("build/more", "1");
    git_in(&fixture.repo(), &["init", "-q", "hidden/inner"]);
    fixture.write("hidden/inner/file", "1");
    let changes = before.after().unwrap();
    assert_eq!(
        told(&changes),
        [
            (".gitignore", Kind::Modified),
            ("hidden/deep/file", Kind::Added),
            ("hidden/inner/.git", Kind::Added),
            ("hidden/inner/file", Kind::Added),
            ("secret", Kind::Added),
            ("seen", Kind::Modified)
        ]
    );
    assert_eq!(before.after().unwrap().tree_after, changes.tree_after);
}

#[test]
fn rules_and_settings_outside_of_the_tree_hide_nothing_and_are_told_themselves() {
    let fixture = Fixture::new();
    let before = fixture.before_with(&["src"]);
    fixture.write(".git/info/exclude", "*\n");
    fixture.write(".git/info/attributes", "* filter=evil\n");
    let rules = fixture.dir.path().join("rules");
    std::fs::write(&rules, "*\n").unwrap();
    let mark = fixture.dir.path().join("mark");
    let program = format!("touch {}; cat", mark.display());
    for (key, value) in [
        ("core.excludesFile", rules.to_str().unwrap()),
        ("core.fileMode", "false"),
        ("core.fsmonitor", program.as_str()),
        ("filter.evil.clean", program.as_str()),
        ("diff.external", program.as_str()),
    ] {
        fixture.git(&["config", key, value]);
    }
    fixture.write(".gitattributes", "* filter=evil diff=evil\n");
    std::fs::set_permissions(fixture.path("src/b.rs"), PermissionsExt::from_mode(0o755)).unwrap();
    fixture.write("src/new", "n");
    let _ = std::fs::remove_file(&mark);
    let changes = before.after().unwrap();
    changes.patch().unwrap();
    assert!(!mark.exists(), "a program of the repository was run");
    assert_eq!(
        told(&changes),
        [
            (".git/config", Kind::Modified),
            (".git/info/attributes", Kind::Added),
            (".git/info/exclude", Kind::Modified),
            (".gitattributes", Kind::Added),
            ("src/b.rs", Kind::Modified),
            ("src/new", Kind::Added)
        ]
    );
    assert_eq!(out_of_scope(&changes).len(), 4);
    // And none is run by the look of the next job, whose settings these are from the start.
    let next = fixture.before();
    fixture.write("src/new", "m");
    next.after().unwrap().patch().unwrap();
    assert!(!mark.exists(), "a program of the repository was run");
}

#[test]
fn a_hook_is_a_violation_whatever_the_scope_says() {
    let fixture = Fixture::new();
    for patterns in [&[][..], &["."], &[".git"]] {
        let hook = fixture.path(".git/hooks/pre-commit");
        let _ = std::fs::remove_file(&hook);
        let before = fixture.before_with(patterns);
        std::fs::write(&hook, "#!/bin/sh\n").unwrap();
        let changes = before.after().unwrap();
        assert_eq!(told(&changes), [(".git/hooks/pre-commit", Kind::Added)]);
        assert_eq!(changes.files[0].sha256, Some(engine::job::digest::sha256(b"#!/bin/sh\n")));
        let reason = changes.scope_violation().unwrap();
        assert_eq!(reason.code, Code::ScopeViolation);
        assert!(reason.message.contains("`.git/hooks/pre-commit`"), "{}", reason.message);
        let armed = fixture.before_with(patterns);
        std::fs::set_permissions(&hook, PermissionsExt::from_mode(0o755)).unwrap();
        assert_eq!(told(&armed.after().unwrap()), [(".git/hooks/pre-commit", Kind::Modified)]);
    }
}

#[test]
fn what_is_out_of_scope_is_told_however_it_was_written() {
    let fixture = Fixture::new();
    std::fs::create_dir(fixture.path("docs")).unwrap();
    symlink("../README", fixture.path("src/link")).unwrap();
    fixture.commit("a link");
    let before = fixture.before_with(&["src", "docs/new.md"]);
    let scope: Vec<_> = before.scope_files().iter().map(|path| path.to_str().unwrap()).collect();
    assert_eq!(scope, ["docs/new.md", "src/a.rs", "src/b.rs", "src/link"]);
    let shell = "echo 1 > src/a.rs; echo 2 > src/link; echo 3 > docs/new.md; mkdir other; echo 4 > other/x; mv src/b.rs src/B.rs";
    assert!(Command::new("sh").args(["-c", shell]).current_dir(fixture.repo()).status().unwrap().success());
    let changes = before.after().unwrap();
    assert_eq!(out_of_scope(&changes), ["README", "other/x"]);
    assert_eq!(changes.violations_total, 2);
    let in_scope: Vec<_> = changes.files.iter().filter(|file| file.in_scope == Some(true)).collect();
    let in_scope: Vec<_> = in_scope.iter().map(|file| (file.path.as_str(), file.kind)).collect();
    assert_eq!(
        in_scope,
        [
            ("docs/new.md", Kind::Added),
            ("src/B.rs", Kind::Added),
            ("src/a.rs", Kind::Modified),
            ("src/b.rs", Kind::Deleted)
        ]
    );
}

#[test]
fn a_write_through_a_link_that_leads_out_is_seen_for_old_and_new_links() {
    let fixture = Fixture::new();
    let outside = fixture.dir.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    for name in ["old", "new", "kept", "in_dir"] {
        std::fs::write(outside.join(name), "1").unwrap();
    }
    symlink(outside.join("old"), fixture.path("src/to_old")).unwrap();
    symlink(outside.join("kept"), fixture.path("src/to_kept")).unwrap();
    fixture.commit("links");
    let before = fixture.before_with(&["src"]);
    let was = std::fs::metadata(outside.join("old")).unwrap().modified().unwrap();
    std::fs::write(fixture.path("src/to_old"), "2").unwrap();
    let file = std::fs::File::options().write(true).open(outside.join("old")).unwrap();
    file.set_modified(was).unwrap();
    symlink(outside.join("new"), fixture.path("src/to_new")).unwrap();
    std::fs::write(fixture.path("src/to_new"), "2").unwrap();
    let changes = before.after().unwrap();
    let path = |name: &str| std::fs::canonicalize(outside.join(name)).unwrap().display().to_string();
    let got: Vec<_> = changes.outside.iter().map(|o| (o.path.clone(), o.link.as_str(), o.kind)).collect();
    assert_eq!(
        got,
        [(path("new"), "src/to_new", Kind::Modified), (path("old"), "src/to_old", Kind::Modified)]
    );
    assert_eq!(out_of_scope(&changes), [""; 0]);
    assert!(changes.scope_violation().unwrap().message.contains(&path("old")));
    assert_eq!(
        changes.files[0].sha256,
        Some(engine::job::digest::sha256(outside.join("new").as_os_str().as_bytes()))
    );
}

#[test]
fn names_that_break_lines_quotes_and_encodings_are_told() {
    let fixture = Fixture::new();
    let odd = ["line\nbreak", "quo\"te", " space ", "tab\t", "back\\slash", "*", "-n", ":(top)"];
    for name in odd {
        fixture.write(name, "1");
    }
    let not_utf8 = fixture.repo().join(std::ffi::OsStr::from_bytes(b"\xff\xfe"));
    let before = fixture.before_with(&["src"]);
    for name in odd {
        fixture.write(name, "2");
    }
    std::fs::write(&not_utf8, "1").unwrap();
    let changes = before.after().unwrap();
    let mut paths: Vec<&str> = changes.files.iter().map(|file| file.path.as_str()).collect();
    let mut want: Vec<&str> = odd.to_vec();
    want.push("\u{fffd}\u{fffd}");
    want.sort_unstable();
    paths.sort_unstable();
    assert_eq!(paths, want);
    assert_eq!(changes.violations_total, want.len());
    let json = serde_json::to_value(&changes).unwrap();
    let lossy = json["files"].as_array().unwrap().iter().filter(|file| file["path_is_lossy"] == true).count();
    assert_eq!(lossy, 1);
    assert!(changes.files.iter().all(|file| file.sha256.is_some()));
    assert!(json.get("trees").is_none() && json["tree_before"].is_string());
}

#[test]
fn a_submodule_is_seen_by_its_commit_and_by_its_files() {
    let fixture = Fixture::new();
    let other = Fixture::new();
    fixture.git(&["submodule", "--quiet", "add", other.repo().to_str().unwrap(), "sub"]);
    fixture.commit("a submodule");
    let before = fixture.before_with(&["src"]);
    assert_eq!(told(&before.after().unwrap()), []);
    fixture.write("sub/src/a.rs", "dirty");
    fixture.write(".git/modules/sub/hooks/post-commit", "x");
    let dirty = before.after().unwrap();
    assert_eq!(told(&dirty), [("sub/.git/hooks/post-commit", Kind::Added), ("sub/src/a.rs", Kind::Modified)]);
    assert_eq!(dirty.tree_before, dirty.tree_after);
    assert_eq!(dirty.files[1].sha256, Some(engine::job::digest::sha256(b"dirty")));
    std::fs::remove_file(fixture.path(".git/modules/sub/hooks/post-commit")).unwrap();
    git_in(&fixture.path("sub"), &["commit", "-q", "-a", "-m", "inside"]);
    let moved = before.after().unwrap();
    assert_eq!(told(&moved), [("sub", Kind::Modified), ("sub/src/a.rs", Kind::Modified)]);
    assert_ne!(moved.tree_before, moved.tree_after);
    assert_eq!(moved.files.iter().map(|file| file.committed).collect::<Vec<_>>(), [false, true]);
    assert_eq!(out_of_scope(&moved).len(), 2);
}

#[test]
fn a_repository_that_an_agent_makes_hides_no_files() {
    for with_commit in [true, false] {
        let fixture = Fixture::new();
        let before = fixture.before_with(&["src"]);
        fixture.write("inner/file", "1");
        fixture.write("src/inner/file", "1");
        for place in ["inner", "src/inner"] {
            git_in(&fixture.path(place), &["init", "-q"]);
            if with_commit {
                git_in(&fixture.path(place), &["add", "-A"]);
                git_in(&fixture.path(place), &["commit", "-q", "-m", "x"]);
            }
        }
        let changes = before.after().unwrap();
        let paths: Vec<&str> = changes.files.iter().map(|file| file.path.as_str()).collect();
        for path in ["inner/file", "inner/.git", "src/inner/file", "src/inner/.git"] {
            assert!(paths.contains(&path), "{path} of {paths:?}");
        }
        assert!(out_of_scope(&changes).contains(&"inner/file"), "{changes:?}");
        let second = fixture.before();
        fixture.write("inner/file", "2");
        assert_eq!(told(&second.after().unwrap()), [("inner/file", Kind::Modified)], "{with_commit}");
        std::fs::remove_dir_all(fixture.path("inner")).unwrap();
        let gone = second.after().unwrap();
        assert!(told(&gone).contains(&("inner/file", Kind::Deleted)), "{gone:?}");
    }
}

#[test]
fn a_repository_put_over_tracked_files_hides_none_of_their_changes() {
    let fixture = Fixture::new();
    let before = fixture.before();
    fixture.write("src/a.rs", "changed");
    fixture.write("src/new.rs", "new");
    git_in(&fixture.path("src"), &["init", "-q"]);
    let told: Vec<String> = before.after().unwrap().files.into_iter().map(|file| file.path).collect();
    for path in ["src/a.rs", "src/new.rs", "src/.git"] {
        assert!(told.iter().any(|told| told == path), "{path} of {told:?}");
    }
}

#[test]
fn the_git_directory_may_be_thrown_away_or_made_anew() {
    let fixture = Fixture::new();
    let before = fixture.before();
    fixture.write("src/a.rs", "changed");
    std::fs::remove_dir_all(fixture.path(".git")).unwrap();
    let gone = before.after().unwrap();
    assert!(told(&gone).contains(&(".git", Kind::Modified)), "{gone:?}");
    assert!(told(&gone).contains(&("src/a.rs", Kind::Modified)), "{gone:?}");
    assert_eq!(gone.head_after, None);
    fixture.git(&["init", "-q", "-b", "main"]);
    fixture.commit("all anew");
    let anew = before.after().unwrap();
    assert!(told(&anew).contains(&("src/a.rs", Kind::Modified)), "{anew:?}");
    assert!(anew.scope_violation().is_some());
}

#[test]
fn a_linked_work_tree_is_looked_at_for_itself() {
    let fixture = Fixture::new();
    let linked = fixture.dir.path().join("linked");
    fixture.git(&["worktree", "add", "-q", "-b", "side", linked.to_str().unwrap()]);
    let scratch = fixture.dir.path().join("scratch");
    let before = look(&linked, &linked, &[], &scratch).unwrap();
    std::fs::write(linked.join("src/a.rs"), "x").unwrap();
    fixture.write("src/b.rs", "of the main worktree");
    fixture.write(".git/hooks/post-checkout", "x");
    let changes = before.after().unwrap();
    assert_eq!(told(&changes), [(".git/hooks/post-checkout", Kind::Added), ("src/a.rs", Kind::Modified)]);
    assert_eq!(changes.branch_after.as_deref(), Some("side"));
    git_in(&linked, &["commit", "-q", "-a", "-m", "x"]);
    assert_eq!(before.after().unwrap().commits.len(), 1);
}

#[test]
fn a_conflict_a_left_lock_and_a_changed_type_are_no_obstacle() {
    let fixture = Fixture::new();
    fixture.git(&["checkout", "-q", "-b", "other"]);
    fixture.write("src/a.rs", "theirs");
    fixture.commit("theirs");
    fixture.git(&["checkout", "-q", "main"]);
    fixture.write("src/a.rs", "ours");
    fixture.commit("ours");
    let merge =
        Command::new("git").args(["merge", "-q", "other"]).current_dir(fixture.repo()).output().unwrap();
    assert!(!merge.status.success());
    std::fs::write(fixture.path(".git/index.lock"), "").unwrap();
    let before = fixture.before();
    assert_eq!(told(&before.after().unwrap()), []);
    std::fs::remove_file(fixture.path("README")).unwrap();
    symlink("src", fixture.path("README")).unwrap();
    std::fs::remove_file(fixture.path("src/b.rs")).unwrap();
    fixture.write("src/b.rs/below", "1");
    fixture.write("src/a.rs", "solved");
    let changes = before.after().unwrap();
    assert_eq!(
        told(&changes),
        [
            ("README", Kind::TypeChanged),
            ("src/a.rs", Kind::Modified),
            ("src/b.rs", Kind::Deleted),
            ("src/b.rs/below", Kind::Added)
        ]
    );
}

#[test]
fn other_forms_of_the_index_are_read() {
    for form in ["split", "sparse", "sparse index", "version 4", "sha256"] {
        let fixture = if form == "sha256" {
            let fixture = Fixture { dir: tempfile::tempdir().unwrap() };
            std::fs::create_dir(fixture.repo()).unwrap();
            fixture.git(&["init", "-q", "-b", "main", "--object-format=sha256"]);
            fixture
        } else {
            Fixture::empty()
        };
        for name in ["src/a.rs", "src/b.rs", "docs/deep/x", "docs/y", "README"] {
            fixture.write(name, "1");
        }
        fixture.commit("first");
        match form {
            "split" => drop(fixture.git(&["update-index", "--split-index"])),
            "sparse" => drop(fixture.git(&["sparse-checkout", "set", "src"])),
            "sparse index" => drop(fixture.git(&["sparse-checkout", "set", "--sparse-index", "src"])),
            "version 4" => drop(fixture.git(&["update-index", "--index-version", "4"])),
            _ => {}
        }
        let before = fixture.before();
        assert_eq!(before.snapshot().tree, fixture.git(&["rev-parse", "HEAD^{tree}"]), "{form}");
        assert_eq!(before.snapshot().entries.len(), 5, "{form}");
        assert_eq!(told(&before.after().unwrap()), [], "{form}");
        fixture.write("src/a.rs", "2");
        fixture.write("docs/y", "2");
        let changes = before.after().unwrap();
        assert_eq!(told(&changes), [("docs/y", Kind::Modified), ("src/a.rs", Kind::Modified)], "{form}");
        let text = String::from_utf8(changes.patch().unwrap().bytes).unwrap();
        assert!(text.contains("+++ b/docs/y"), "{form}: {text}");
    }
}

#[test]
fn line_ends_are_what_git_makes_of_them_and_a_filter_that_must_run_does_not() {
    let fixture = Fixture::new();
    fixture.write(".gitattributes", "*.txt text\n*.dat filter=large\n");
    fixture.write("a.txt", "one\r\ntwo\r\n");
    fixture.write("b.dat", "content");
    fixture.git(&["config", "filter.large.clean", "sed s/content/pointer/"]);
    fixture.git(&["config", "filter.large.smudge", "sed s/pointer/content/"]);
    fixture.git(&["config", "filter.large.required", "true"]);
    fixture.git(&["config", "core.autocrlf", "true"]);
    let commit = fixture.commit("filtered");
    assert!(fixture.git(&["show", &format!("{commit}:b.dat")]).contains("pointer"));
    let before = fixture.before();
    fixture.write("a.txt", "one\ntwo\n");
    assert_eq!(told(&before.after().unwrap()), []);
    fixture.write("a.txt", "one\r\nthree\r\n");
    fixture.write("b.dat", "other");
    assert_eq!(told(&before.after().unwrap()), [("a.txt", Kind::Modified), ("b.dat", Kind::Modified)]);
}

#[test]
fn a_file_that_can_not_be_read_is_told_and_its_next_change_too() {
    let look = || {
        let fixture = Fixture::new();
        let before = fixture.before();
        for name in ["src/a.rs", "new"] {
            fixture.write(name, "hidden");
            std::fs::set_permissions(fixture.path(name), PermissionsExt::from_mode(0o000)).unwrap();
        }
        assert_eq!(told(&before.after().unwrap()), [("new", Kind::Added), ("src/a.rs", Kind::Modified)]);
        (fixture.before(), fixture)
    };
    heeding_modes(|| {
        let (second, fixture) = look();
        assert_eq!(told(&second.after().unwrap()), []);
        std::fs::set_permissions(fixture.path("new"), PermissionsExt::from_mode(0o600)).unwrap();
        assert_eq!(told(&second.after().unwrap()), [("new", Kind::Modified)]);
    });
    // To root every file is readable; there, nothing is hidden by a mode.
    if is_root() {
        look();
    }
}

#[test]
fn ignored_files_are_told_apart_and_are_no_violation() {
    let fixture = Fixture::new();
    fixture.write(".gitignore", ".env\n/build/\nnewlink\n");
    fixture.commit("rules");
    fixture.write(".env", "KEY=1");
    fixture.write("build/out", "1");
    let before = fixture.before_with(&["src"]);
    fixture.write(".env", "KEY=2");
    fixture.write("build/out", "2");
    let changes = before.after().unwrap();
    assert_eq!(told(&changes), []);
    assert_eq!(changes.ignored, [".env"]);
    assert_eq!(changes.scope_violation(), None);
    let outside = fixture.dir.path().join("outside");
    std::fs::write(&outside, "1").unwrap();
    symlink(&outside, fixture.path("newlink")).unwrap();
    std::fs::write(fixture.path("newlink"), "2").unwrap();
    let through = before.after().unwrap();
    assert_eq!(through.outside.iter().map(|outside| outside.link.as_str()).collect::<Vec<_>>(), ["newlink"]);
    assert_eq!(through.violations_total, 1);
}

#[test]
fn a_large_file_is_seen_and_left_out_of_the_patch() {
    let fixture = Fixture::new();
    fixture.write("big", &"x".repeat(33 << 20));
    let before = fixture.before();
    let objects = walkdir::WalkDir::new(fixture.dir.path().join("scratch")).into_iter();
    let kept: u64 = objects.map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    assert!(kept < 1 << 20, "{kept} bytes were kept");
    fixture.write("src/a.rs", "changed");
    assert_eq!(told(&before.after().unwrap()), [("src/a.rs", Kind::Modified)]);
    fixture.write("big", &"y".repeat(33 << 20));
    let changes = before.after().unwrap();
    assert_eq!(told(&changes), [("big", Kind::Modified), ("src/a.rs", Kind::Modified)]);
    assert!(changes.files[0].sha256.is_some());
    let patch = changes.patch().unwrap();
    assert_eq!(patch.left_out, ["big"]);
    assert!(String::from_utf8(patch.bytes).unwrap().contains("src/a.rs"));
}

#[test]
fn more_files_than_are_listed_are_counted_and_violations_come_first() {
    let fixture = Fixture::new();
    let before = fixture.before_with(&["src"]);
    for at in 0..1_100 {
        fixture.write(&format!("src/{at}"), "1");
    }
    fixture.write("zzz", "1");
    let changes = before.after().unwrap();
    assert_eq!((changes.files.len(), changes.files_total, changes.truncated), (1_000, 1_101, true));
    assert_eq!(out_of_scope(&changes), ["zzz"]);
}

#[test]
fn what_can_not_be_proved_is_refused_with_its_reason() {
    let fixture = Fixture::new();
    let base = fixture.dir.path();
    let code = |root: &Path, working: &Path, patterns: &[&str]| {
        let patterns: Vec<String> = patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
        look(root, working, &patterns, &base.join("scratch")).unwrap_err().code
    };
    let repo = fixture.repo();
    assert_eq!(code(base, base, &[]), Code::NotARepository);
    assert_eq!(code(&base.join("none"), base, &[]), Code::NotARepository);
    assert_eq!(code(&repo.join(".git"), &repo, &[]), Code::NotARepository);
    assert_eq!(code(&repo, base, &[]), Code::WorkingDirOutsideRepository);
    assert_eq!(code(&repo, &repo, &["../x"]), Code::ScopeInvalid);
    assert_eq!(code(&repo, &repo, &["src", "*.py"]), Code::ScopeMatchesNothing);
    let bare = base.join("bare");
    git_in(base, &["init", "-q", "--bare", "bare"]);
    assert_eq!(code(&bare, &bare, &[]), Code::NotARepository);
    std::fs::set_permissions(repo.join("src"), PermissionsExt::from_mode(0o555)).unwrap();
    heeding_modes(|| assert_eq!(code(&repo, &repo.join("src"), &[]), Code::WorkTreeNotWritable));
}

#[test]
fn a_repository_below_its_top_has_its_scope_from_there() {
    let fixture = Fixture::new();
    let sub = fixture.path("src");
    let absolute = sub.join("b.rs").display().to_string();
    let patterns = ["a.rs".to_owned(), absolute];
    let before = look(&sub, &sub, &patterns, &fixture.dir.path().join("scratch")).unwrap();
    assert_eq!(before.scope_files(), [PathBuf::from("src/a.rs"), PathBuf::from("src/b.rs")]);
    fixture.write("src/a.rs", "2");
    fixture.write("src/b.rs", "2");
    fixture.write("a.rs", "2");
    assert_eq!(out_of_scope(&before.after().unwrap()), ["a.rs"]);
}

#[test]
fn litter_is_no_change_however_much_there_is_and_hides_none() {
    let fixture = Fixture::new();
    let outside = fixture.dir.path().join("venv");
    std::fs::create_dir_all(outside.join("__pycache__")).unwrap();
    symlink(&outside, fixture.path("venv")).unwrap();
    fixture.commit("a link");
    let before = fixture.before_with(&["src/a.rs"]);
    let own = Scope::of_no_change(&[".own*".to_owned()], &fixture.repo()).unwrap();
    // More than a list holds.
    for number in 0..1200 {
        fixture.write(&format!("a/__pycache__/{number}.pyc"), "x");
    }
    fixture.write(".own.history", "x");
    std::fs::write(outside.join("__pycache__/x.pyc"), "x").unwrap();
    let changes = before.after_without(&own, Stop::never()).unwrap();
    assert_eq!(told(&changes), []);
    assert!(!changes.changed && !changes.truncated && changes.violations_total == 0);
    fixture.write("src/a.rs", "edited");
    fixture.write("z.rs", "out of scope");
    fixture.write(".git/hooks/x.pyc", "a program");
    let changes = before.after_without(&own, Stop::never()).unwrap();
    assert_eq!(out_of_scope(&changes), [".git/hooks/x.pyc", "z.rs"]);
    assert_eq!((changes.files_total, changes.violations_total), (3, 2));
    assert_eq!(before.after().unwrap().files_total, 1204, "without it all is told");
}

/// A program that notes that it was run.
fn marks(fixture: &Fixture, name: &str) -> (String, PathBuf) {
    let mark = fixture.dir.path().join(format!("{name}.mark"));
    (format!("touch '{}'; cat", mark.display()), mark)
}

#[test]
fn what_a_job_writes_where_the_look_was_decides_nothing() {
    let fixture = Fixture::new();
    let before = fixture.before_with(&["src"]);
    let forged = fixture.dir.path().join("scratch/evidence/ours");
    let (program, mark) = marks(&fixture, "clean");
    for (name, text) in [
        ("info/exclude", "*\n".to_owned()),
        ("info/attributes", "* filter=evil\n".to_owned()),
        ("config", format!("[filter \"evil\"]\n\tclean = {program}\n[core]\n\tfsmonitor = {program}\n")),
        ("index.now", "no index".to_owned()),
    ] {
        std::fs::create_dir_all(forged.join(name).parent().unwrap()).unwrap();
        std::fs::write(forged.join(name), text).unwrap();
    }
    fixture.write("hidden", "1");
    fixture.write("src/a.rs", "2");
    let changes = before.after().unwrap();
    changes.patch().unwrap();
    assert_eq!(told(&changes), [("hidden", Kind::Added), ("src/a.rs", Kind::Modified)]);
    assert_eq!(out_of_scope(&changes), ["hidden"]);
    assert!(!mark.exists(), "a program of the job was run");
}

#[test]
fn an_ignore_rule_that_ignores_itself_hides_nothing() {
    let fixture = Fixture::new();
    fixture.write("old/.gitignore", "*\n");
    fixture.write("old/file", "1");
    let before = fixture.before_with(&["src"]);
    fixture.write("old/file", "2");
    assert_eq!(told(&before.after().unwrap()), []);
    fixture.write("new/.gitignore", "*\n");
    fixture.write("new/file", "1");
    let changes = before.after().unwrap();
    assert_eq!(told(&changes), [("new/.gitignore", Kind::Added), ("new/file", Kind::Added)]);
}

#[test]
fn an_attribute_that_a_job_brings_hides_no_change_of_bytes() {
    let fixture = Fixture::new();
    fixture.write(".git/info/exclude", ".gitattributes\n");
    fixture.write("id", "$Id$\n");
    fixture.write("ends", "one\ntwo\n");
    fixture.write("same", "one\n");
    fixture.commit("files");
    let before = fixture.before_with(&["src"]);
    fixture.write(".gitattributes", "id ident\nends text\n");
    fixture.write("id", "$Id: a payload $\n");
    fixture.write("ends", "one\r\ntwo\r\n");
    fixture.write("same", "one\n");
    let changes = before.after().unwrap();
    assert_eq!(told(&changes), [("ends", Kind::Modified), ("id", Kind::Modified)]);
    assert_ne!(changes.tree_before, changes.tree_after);
}

#[test]
fn what_is_in_a_directory_that_git_cannot_list_is_a_change() {
    let fixture = Fixture::new();
    let before = fixture.before_with(&["README"]);
    // Deeper than a path may be: git warns of it and goes on.
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "for i in $(seq 420); do mkdir dddddddddd && cd -P dddddddddd || exit 1; done; echo x >evil",
    ]);
    assert!(command.current_dir(fixture.repo()).status().unwrap().success());
    let changes = before.after().unwrap();
    assert!(changes.changed && changes.violations_total > 0, "{:?}", changes.files);
    heeding_modes(|| {
        let fixture = Fixture::new();
        let before = fixture.before_with(&["README"]);
        fixture.write("hidden/evil", "x");
        std::fs::set_permissions(fixture.path("hidden"), PermissionsExt::from_mode(0o300)).unwrap();
        let changes = before.after().unwrap();
        std::fs::set_permissions(fixture.path("hidden"), PermissionsExt::from_mode(0o700)).unwrap();
        assert!(changes.changed && changes.violations_total > 0, "{:?}", changes.files);
    });
}

#[test]
fn a_git_of_the_repository_around_is_not_run() {
    let fixture = Fixture::new();
    let (program, mark) = marks(&fixture, "git");
    fixture.write("bin/git", &format!("#!/bin/sh\n{program}\n"));
    std::fs::set_permissions(fixture.path("bin/git"), PermissionsExt::from_mode(0o755)).unwrap();
    let inner = fixture.path("inner");
    fixture.git(&["init", "-q", inner.to_str().unwrap()]);
    let means = Means { search_path: Some(fixture.path("bin").into()), ..means() };
    let scratch = fixture.dir.path().join("scratch");
    let reason = evidence::before((&inner, &inner), &[], &scratch, &means).unwrap_err();
    assert!(reason.code == Code::GitMissing && !mark.exists(), "{}", reason.message);
}

#[test]
fn a_git_that_a_job_could_write_is_not_run() {
    let fixture = Fixture::new();
    let (program, mark) = marks(&fixture, "git");
    fixture.write("bin/git", &format!("#!/bin/sh\n{program}\n"));
    std::fs::set_permissions(fixture.path("bin/git"), PermissionsExt::from_mode(0o755)).unwrap();
    let outside = fixture.dir.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    symlink(fixture.path("bin/git"), outside.join("git")).unwrap();
    let hostile = format!("bin:.:{}:{}", fixture.path("bin").display(), outside.display());
    let look = |path: &str| {
        let means = Means { search_path: Some(path.into()), ..means() };
        evidence::before((&fixture.repo(), &fixture.repo()), &[], &fixture.dir.path().join("scratch"), &means)
    };
    let reason = look(&hostile).unwrap_err();
    assert_eq!(reason.code, Code::GitMissing);
    assert!(reason.message.contains(&format!("`{}`", fixture.path("bin").display())), "{}", reason.message);
    let path = std::env::var("PATH").unwrap();
    let before = look(&format!("{hostile}:{path}")).unwrap();
    fixture.write("new", "1");
    assert_eq!(told(&before.after().unwrap()), [("new", Kind::Added)]);
    assert!(!mark.exists(), "a git of the worktree was run");
    // One that was found outside and is another after the job.
    let real = path.split(':').map(|dir| Path::new(dir).join("git")).find(|git| git.is_file()).unwrap();
    std::fs::remove_file(outside.join("git")).unwrap();
    symlink(real, outside.join("git")).unwrap();
    let before = look(&format!("{}:{path}", outside.display())).unwrap();
    std::fs::remove_file(outside.join("git")).unwrap();
    std::fs::copy(fixture.path("bin/git"), outside.join("git")).unwrap();
    let reason = before.after().unwrap_err();
    assert_eq!(reason.code, Code::EvidenceFailed);
    assert!(reason.message.contains("was replaced") && !mark.exists(), "{}", reason.message);
}

#[test]
fn a_work_tree_that_is_not_the_one_of_its_git_directory_is_refused() {
    let fixture = Fixture::new();
    let base = fixture.dir.path();
    let refused = |dir: &Path| look(dir, dir, &[], &base.join("scratch")).unwrap_err();
    fixture.git(&["config", "core.worktree", base.to_str().unwrap()]);
    let reason = refused(&fixture.repo());
    assert_eq!(reason.code, Code::WorkTreeElsewhere);
    assert!(reason.message.contains("core.worktree"), "{}", reason.message);
    fixture.git(&["config", "core.worktree", "/"]);
    assert_eq!(refused(&fixture.repo()).code, Code::WorkTreeElsewhere);
    // A `.git` that leads to a git directory which names another worktree.
    let decoy = base.join("decoy");
    std::fs::create_dir(&decoy).unwrap();
    std::fs::write(decoy.join(".git"), format!("gitdir: {}\n", fixture.path(".git").display())).unwrap();
    assert_eq!(refused(&decoy).code, Code::WorkTreeElsewhere);
    fixture.git(&["config", "--unset", "core.worktree"]);
    let before = fixture.before();
    fixture.git(&["config", "core.worktree", base.to_str().unwrap()]);
    fixture.write("new", "1");
    let changes = before.after().unwrap();
    assert!(told(&changes).contains(&("new", Kind::Added)) && changes.scope_violation().is_some());
}

#[test]
fn untracked_content_is_hashed_and_not_copied() {
    let fixture = Fixture::new();
    for name in ["one", "two", "three"] {
        fixture.write(&format!("data/{name}"), &name.repeat(3 << 20));
    }
    fixture.write("small", "old\n");
    fixture.write("src/a.rs", "changed by the user\n");
    symlink("one", fixture.path("link")).unwrap();
    let before = fixture.before();
    let scratch = fixture.dir.path().join("scratch");
    assert_eq!(walkdir::WalkDir::new(&scratch).into_iter().count(), 1, "only the directory itself");
    fixture.write("data/one", "other\n");
    fixture.write("the new one", &"four".repeat(3 << 20));
    fixture.write("small", "new\n");
    fixture.write("src/a.rs", "changed by the agent\n");
    std::fs::remove_file(fixture.path("link")).unwrap();
    symlink("two", fixture.path("link")).unwrap();
    let changes = before.after().unwrap();
    let want = ["data/one", "link", "small", "src/a.rs", "the new one"];
    assert_eq!(told(&changes).iter().map(|(path, _)| *path).collect::<Vec<_>>(), want);
    let patch = changes.patch().unwrap();
    let written: u64 = walkdir::WalkDir::new(&scratch)
        .into_iter()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    assert!(written < 100 << 10, "{written} bytes were written");
    assert_eq!((patch.left_out, patch.cut), (vec!["data/one".to_owned()], true));
    let text = String::from_utf8(patch.bytes).unwrap();
    for part in ["-old\n+new", "-changed by the user\n+changed by the agent", "-one\n", "+two\n"] {
        assert!(text.contains(part), "{part:?} in {text:.2000}");
    }
}

#[test]
fn where_a_git_directory_gets_its_objects_and_settings_from_is_told() {
    let (fixture, other) = (Fixture::new(), Fixture::new());
    let linked = fixture.dir.path().join("linked");
    fixture.git(&["worktree", "add", "-q", "-b", "side", linked.to_str().unwrap()]);
    let scratch = fixture.dir.path().join("scratch");
    let before = fixture.before();
    let alternates = fixture.path(".git/objects/info/alternates");
    std::fs::write(&alternates, format!("{}\n", other.path(".git/objects").display())).unwrap();
    assert_eq!(told(&before.after().unwrap()), [(".git/objects/info/alternates", Kind::Added)]);
    std::fs::remove_file(&alternates).unwrap();
    let before = look(&linked, &linked, &[], &scratch).unwrap();
    let common = fixture.path(".git/worktrees/linked/commondir");
    std::fs::write(&common, format!("{}\n", other.path(".git").display())).unwrap();
    let changes = before.after().unwrap();
    assert!(told(&changes).contains(&(".git", Kind::Modified)), "{changes:?}");
}

#[test]
fn a_look_leaves_the_space_that_is_to_be_left() {
    let fixture = Fixture::new();
    let means = Means { min_free_bytes: u64::MAX / 2, ..means() };
    let places = (&*fixture.repo(), &*fixture.repo());
    let reason = evidence::before(places, &[], &fixture.dir.path().join("scratch"), &means).unwrap_err();
    assert_eq!(reason.code, Code::EvidenceFailed);
    assert!(reason.message.contains("`min_free_bytes`"), "{}", reason.message);
}

#[test]
fn more_untracked_files_than_are_listed_one_by_one_are_looked_at_again() {
    let fixture = Fixture::new();
    for at in 0..700 {
        fixture.write(&format!("data/d{}/f{at}", at % 7), "1");
    }
    let before = fixture.before();
    assert_eq!(told(&before.after().unwrap()), []);
    fixture.write("data/d0/f0", "2");
    fixture.write("src/a.rs", "2");
    std::fs::remove_file(fixture.path("data/d1/f1")).unwrap();
    let changes = before.after().unwrap();
    assert_eq!(
        told(&changes),
        [("data/d0/f0", Kind::Modified), ("data/d1/f1", Kind::Deleted), ("src/a.rs", Kind::Modified)]
    );
    fixture.commit("all of it");
    let committed = before.after().unwrap();
    assert!(committed.files.iter().all(|file| file.committed), "{committed:?}");
    assert_eq!(committed.tree_after, fixture.git(&["rev-parse", "HEAD^{tree}"]));
}
