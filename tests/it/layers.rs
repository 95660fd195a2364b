//! The house rules that a compiler does not know: who may use whom, how long a file is, what opens it.
//!
//! Reads the sources of `src/` as text; `#[cfg(test)]` modules are left out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Which modules a module may use: the table of ARCHITECTURE.md, the lowest first. None is used before its own row.
const MAY_USE: [(&str, &[&str]); 22] = [
    ("causes", &[]),
    ("clock", &[]),
    ("lock", &[]),
    ("fs", &["clock"]),
    ("job", &["causes", "clock"]),
    ("cost", &["clock", "job"]),
    ("policy", &["clock", "job"]),
    ("fix_loop", &["clock", "job"]),
    ("bundle", &["fix_loop", "job", "policy"]),
    ("process", &["causes", "clock", "fs", "job", "lock"]),
    ("store", &["bundle", "causes", "clock", "cost", "fs", "job", "lock"]),
    ("git", &["causes", "clock", "fs", "job", "lock", "process"]),
    ("queue", &["causes", "clock", "fs", "job", "policy", "store"]),
    ("evidence", &["fs", "git", "job"]),
    ("worktree", &["bundle", "clock", "evidence", "fs", "git", "job"]),
    ("adapter", &["clock", "cost", "fs", "job", "process", "store"]),
    ("view", &["causes", "clock", "cost", "fix_loop", "fs", "job", "policy", "process", "queue", "store"]),
    (
        "runner",
        &[
            "adapter", "causes", "clock", "cost", "evidence", "fs", "git", "job", "lock", "policy",
            "process", "queue", "store", "view",
        ],
    ),
    ("worker", &["causes", "clock", "fs", "job", "policy", "process", "queue", "runner", "store", "view"]),
    (
        "workstream",
        &[
            "adapter", "bundle", "clock", "cost", "evidence", "fix_loop", "fs", "git", "job", "process",
            "queue", "runner", "store", "view", "worktree",
        ],
    ),
    ("doctor", &["causes", "clock", "fs", "job", "lock", "process", "queue", "store", "view"]),
    (
        "cli",
        &[
            "adapter",
            "bundle",
            "causes",
            "clock",
            "cost",
            "doctor",
            "fs",
            "git",
            "job",
            "policy",
            "process",
            "queue",
            "runner",
            "store",
            "view",
            "worker",
            "workstream",
            "worktree",
        ],
    ),
];

/// What a module may use of another, where that is not all of it: `process` knows no jobs, and a view starts nothing.
const ONLY: [(&str, &str, &[&str]); 2] = [
    ("process", "job", &["job::result::Usage", "job::result::shorten"]),
    ("view", "process", &["process::wake"]),
];

/// Lines of a file, its tests included, and without them.
const LONGEST_FILE: usize = 600;
const LONGEST_CODE: usize = 400;

/// A file of `src/`.
pub struct Source {
    /// Path below `src/`.
    pub name: String,
    pub text: String,
    /// The text without comments, the contents of literals and test modules.
    pub code: String,
}

pub fn sources() -> Vec<Source> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    walk(&src, &mut paths);
    paths.sort();
    assert!(paths.len() > 50, "only {} files in {}", paths.len(), src.display());
    let source = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        let name = path.strip_prefix(&src).unwrap().to_string_lossy().into_owned();
        Source { name, code: without_tests(&only_code(&text)), text }
    };
    paths.into_iter().map(source).collect()
}

/// Blanks comments and the contents of string and character literals; line breaks stay.
fn only_code(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::new();
    let mut at = 0;
    let starts = |at: usize, what: &str| what.chars().enumerate().all(|(i, c)| chars.get(at + i) == Some(&c));
    let keep_lines =
        |from: usize, to: usize| chars[from..to].iter().filter(|c| **c == '\n').collect::<String>();
    while at < chars.len() {
        let from = at;
        if starts(at, "//") {
            while at < chars.len() && chars[at] != '\n' {
                at += 1;
            }
        } else if let Some(hashes) = raw_string(&chars, at) {
            let end = format!("\"{}", "#".repeat(hashes));
            at += hashes + 2;
            while at < chars.len() && !starts(at, &end) {
                at += 1;
            }
            at = (at + end.len()).min(chars.len());
        } else if chars[at] == '"' {
            at += 1;
            while at < chars.len() && chars[at] != '"' {
                at += if chars[at] == '\\' { 2 } else { 1 };
            }
            at = (at + 1).min(chars.len());
        } else if chars[at] == '\'' && chars.get(at + 1) == Some(&'\\') {
            at += 3;
            while at < chars.len() && chars[at] != '\'' {
                at += 1;
            }
            at += 1;
        } else if chars[at] == '\'' && chars.get(at + 2) == Some(&'\'') {
            at += 3;
        } else {
            code.push(chars[at]);
            at += 1;
            continue;
        }
        code.push(' ');
        code.push_str(&keep_lines(from, at.min(chars.len())));
    }
    code
}

/// The number of hashes of a raw string that begins here.
fn raw_string(chars: &[char], at: usize) -> Option<usize> {
    let before = at.checked_sub(1).and_then(|at| chars.get(at));
    if chars[at] != 'r' || before.is_some_and(|c| c.is_alphanumeric() && *c != 'b' || *c == '_') {
        return None;
    }
    let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
    (chars.get(at + 1 + hashes) == Some(&'"')).then_some(hashes)
}

/// Takes out every item behind `#[cfg(test)]`, up to its closing brace or semicolon.
fn without_tests(code: &str) -> String {
    let mut left = String::new();
    let mut rest = code;
    while let Some((before, after)) = rest.split_once("#[cfg(test)]") {
        left.push_str(before);
        let mut depth = 0usize;
        let end = after.char_indices().find_map(|(at, c)| {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            (depth == 0 && (c == '}' || c == ';')).then_some(at + 1)
        });
        rest = &after[end.expect("the item behind #[cfg(test)] ends")..];
    }
    left + rest
}

/// Every path behind `crate::`, braces taken apart: `job::{Id, result::Usage}` is two.
fn crate_paths(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        if code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        expand("", &code[at + "crate::".len()..], &mut found);
    }
    found
}

pub fn expand(prefix: &str, text: &str, found: &mut BTreeSet<String>) {
    let text = text.trim_start();
    if let Some(inner) = text.strip_prefix('{') {
        let mut depth = 1usize;
        let mut item = 0;
        for (at, c) in inner.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if depth == 0 || (depth == 1 && c == ',') {
                let part = inner[item..at].trim();
                if !part.is_empty() {
                    expand(prefix, part, found);
                }
                item = at + 1;
            }
            if depth == 0 {
                return;
            }
        }
        panic!("a brace is not closed: {text:.60}");
    }
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let name = &text[..end];
    let path = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}::{name}") };
    match text[end..].trim_start().strip_prefix("::") {
        Some(more) => expand(&path, more, found),
        None => drop(found.insert(path)),
    }
}

fn top(path: &str) -> &str {
    path.split(['/', ':', '.']).next().unwrap_or_default()
}

/// What a module does wrong by using a path.
fn offence(module: &str, path: &str) -> Option<String> {
    let used = top(path);
    if used == module {
        return None;
    }
    let Some((_, may)) = MAY_USE.into_iter().find(|(name, _)| *name == module) else {
        return Some(format!("`{module}` is in no row: extend the table here and in ARCHITECTURE.md"));
    };
    if !may.contains(&used) {
        return Some(format!("`{module}` may not use `{used}`"));
    }
    let only = ONLY.into_iter().find(|(one, other, _)| *one == module && *other == used);
    let is_meant = |paths: &[&str]| {
        paths.iter().any(|allowed| path == *allowed || path.starts_with(&format!("{allowed}::")))
    };
    only.filter(|(_, _, paths)| !is_meant(paths)).map(|_| format!("`{module}` may not use all of `{used}`"))
}

#[test]
fn each_module_uses_those_that_it_may_use_and_each_permission_is_used() {
    let mut wrong = BTreeMap::new();
    let mut used = BTreeSet::new();
    for source in sources() {
        let module = top(&source.name);
        if module == "lib" || module == "main" {
            continue;
        }
        for path in crate_paths(&source.code) {
            used.insert((module.to_owned(), top(&path).to_owned()));
            if let Some(offence) = offence(module, &path) {
                wrong.insert(format!("src/{}: crate::{path}", source.name), offence);
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let permitted = MAY_USE
        .into_iter()
        .flat_map(|(module, may)| may.iter().map(move |other| (module.to_owned(), (*other).to_owned())));
    let idle: Vec<_> = permitted.filter(|arrow| !used.contains(arrow)).collect();
    assert!(idle.is_empty(), "permitted and not used: {idle:?}");
}

#[test]
fn no_row_uses_a_later_one() {
    for (at, (module, may)) in MAY_USE.into_iter().enumerate() {
        for other in may {
            let place = MAY_USE.into_iter().position(|(name, _)| name == *other);
            assert!(
                place.is_some_and(|place| place < at),
                "`{module}` uses `{other}`, which is in no row above it"
            );
        }
    }
}

#[test]
fn only_the_program_itself_is_behind_the_command_line() {
    let main = sources().into_iter().find(|source| source.name == "main.rs").unwrap();
    assert_eq!(main.code.matches("engine::").count(), 1, "{}", main.code);
    assert!(main.code.contains("engine::cli::main()"));
    // It may hold what acts on a whole process, and the library may not: that would act in each test and benchmark too.
    for source in sources().iter().filter(|source| source.name != "main.rs") {
        let acts = ["link_section", "global_allocator"].iter().find(|word| source.code.contains(**word));
        assert_eq!(acts, None, "src/{}", source.name);
    }
}

#[test]
fn what_a_file_uses_of_another_module_is_named_from_the_crate() {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| !["lib.rs", "main.rs"].contains(&&*source.name)) {
        let path = source.name.trim_end_matches(".rs").trim_end_matches("/mod");
        let to_the_crate = "super::".repeat(path.split('/').count());
        let uses = source.code.lines().filter(|line| line.starts_with("use ") || line.starts_with("pub"));
        wrong.extend(
            uses.filter(|line| line.contains(&to_the_crate))
                .map(|line| format!("src/{}: {line}", source.name)),
        );
    }
    assert!(wrong.is_empty(), "the table of modules sees only `crate::`: {wrong:#?}");
}

/// The files that are modules for tests as a whole.
fn test_files() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for source in sources() {
        let folder = source.name.strip_suffix("mod.rs").unwrap_or_default();
        for declared in source.text.split("\n#[cfg(test)]\nmod ").skip(1) {
            if let Some((name, _)) = declared.split_once(';').filter(|(name, _)| !name.contains(' ')) {
                found.insert(format!("{folder}{name}.rs"));
            }
        }
    }
    found
}

#[test]
fn no_file_is_too_long_and_each_says_what_it_is_for() {
    let mut wrong = Vec::new();
    let tests = test_files();
    for source in sources() {
        let lines = source.text.lines().count();
        if lines > LONGEST_FILE {
            wrong.push(format!("src/{} has {lines} lines, more than {LONGEST_FILE}", source.name));
        }
        let code = source.text.split("\n#[cfg(test)]\nmod tests").next().unwrap_or_default().lines().count();
        if code > LONGEST_CODE && !tests.contains(&source.name) {
            wrong.push(format!(
                "src/{} has {code} lines before its tests, more than {LONGEST_CODE}",
                source.name
            ));
        }
        if !source.text.starts_with("//! ") {
            wrong.push(format!("src/{} does not begin with //!", source.name));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn nothing_is_allowed_without_a_reason_or_left_to_do() {
    let mut wrong = Vec::new();
    for source in sources() {
        let code: String = source.code.chars().filter(|c| !c.is_whitespace()).collect();
        for word in ["#[allow(", "#![allow(", "todo!", "unimplemented!"] {
            if code.contains(word) {
                wrong.push(format!("src/{}: {word}", source.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The string literals of a source, outside of comments and test modules.
fn literals(source: &Source) -> Vec<String> {
    let tests = source.text.find("\n#[cfg(test)]").unwrap_or(source.text.len());
    let lines = source.text[..tests].lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.flat_map(|line| line.split('"').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()).collect()
}

#[test]
fn git_is_a_program_in_one_place() {
    // Where `git` is the name of an adapter.
    let others = ["adapter/registry.rs", "cli/new.rs"];
    let names_it = |source: &Source| {
        literals(source).iter().any(|literal| literal == "git" || literal.ends_with("/git"))
    };
    let found: Vec<String> = sources().into_iter().filter(names_it).map(|source| source.name).collect();
    assert!(found.contains(&"git/program.rs".to_owned()), "{found:?}");
    let wrong: Vec<&String> =
        found.iter().filter(|name| *name != "git/program.rs" && !others.contains(&name.as_str())).collect();
    assert!(wrong.is_empty(), "git is named by `git/program.rs` alone, not by {wrong:?}");
}

mod the_test_itself {
    use super::*;

    fn paths(text: &str) -> Vec<String> {
        crate_paths(&without_tests(&only_code(text))).into_iter().collect()
    }

    #[test]
    fn finds_paths_in_use_lines_in_expressions_and_in_nested_braces() {
        let text = "use crate::{fs::{self, Moved}, job::JobId};\npub(crate) use crate::cli::\n    main;\n\
                    fn f() { crate::queue::claim::look() }\ntype A<'a> = &'a crate::store::Store;";
        let want = ["cli::main", "fs::Moved", "fs::self", "job::JobId", "queue::claim::look", "store::Store"];
        assert_eq!(paths(text), want);
    }

    #[test]
    fn overlooks_comments_literals_and_test_modules() {
        let text = "// crate::a\n/// crate::b\nconst A: &str = \"crate::c \\\" crate::d\";\nconst B: char = '\"';\n\
                    const C: &str = r#\"crate::e \" crate::f\"#;\nconst D: char = '\\'';\n#[cfg(test)]\nmod tests {\n\
                    use crate::g; fn f() { { } }\n}\n#[cfg(test)]\nuse crate::h;\nuse crate::i;\nuse mycrate::j;";
        assert_eq!(paths(text), ["i"]);
    }

    #[test]
    fn knows_an_offence() {
        for (module, path) in [
            ("fs", "job::JobId"),
            ("job", "store::Store"),
            ("job", "fs::FsError"),
            ("store", "queue::claim"),
            ("process", "job::JobId"),
            ("process", "job::result::JobResult"),
            ("queue", "process::Spawner"),
            ("adapter", "runner::Told"),
            ("runner", "cli::main"),
            ("cli", "invented::X"),
        ] {
            assert!(offence(module, path).is_some(), "{module} uses {path}");
        }
        for (module, path) in [
            ("job", "clock::Timestamp"),
            ("queue", "store::Store"),
            ("process", "job::result::Usage"),
            ("runner", "adapter::plan"),
            ("cli", "runner::Told"),
            ("fs", "fs::steps"),
            ("store", "job::JobId"),
        ] {
            assert_eq!(offence(module, path), None, "{module} uses {path}");
        }
    }
}
