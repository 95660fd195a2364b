//! No reason, hint or refusal without a snapshot: the codes that the sources make, compared with those that the snapshots show.

use std::collections::{BTreeMap, BTreeSet};

use crate::layers::{Source, sources};

/// Codes that no snapshot shows, each with why. One that is shown after all is to go from here.
const NOT_SHOWN: [(&str, &str); 18] = [
    ("alive", "`recover` reports nothing of a job that runs"),
    ("busy", "a process has to hold the lease of a job without running it"),
    ("cannot_tell", "the environments of processes have to be hidden"),
    ("healthy", "`recover` reports nothing of a job that needs nothing"),
    ("id_busy", "a process has to hold the lease of an id for all the patience of `submit`"),
    ("internal_error", "no way is known: the state table refuses a line"),
    ("home_not_writable", "the home has to be mounted read-only: root may write everywhere else"),
    ("interrupted", "a signal has to come while git is asked"),
    ("job_file_not_moved", "the directory has to fail between two steps of a start"),
    ("key_busy", "a process has to hold a key for all the patience of `submit`"),
    ("killed", "a process of recovery has to be killed"),
    ("left_alive", "a process of another user has to outlive the tool"),
    ("repository_not_trusted", "the repository has to belong to another user"),
    ("root_not_readable", "the root has to belong to another user"),
    ("start_failed", "the kernel has to refuse a process or a descriptor"),
    ("still_running", "a process has to carry the marker of a former store"),
    ("usage", "the message stands on standard error, and `--json` has no document of it"),
    ("work_tree_not_writable", "the work tree has to be mounted read-only: root may write everywhere else"),
];

/// What makes a reason, a finding or an answer of its first argument.
const MAKERS: [&str; 9] = [
    "Reason::new(",
    "Finding::new(",
    "Waiting::new(",
    "WhyNot::new(",
    "Answer::new(",
    "Self::new(",
    ".fail(",
    "cannot(",
    ".doubt(",
];

/// The code of a source without its comments and its tests; literals are left.
fn code(source: &Source) -> String {
    let end = source.text.find("\n#[cfg(test)]\nmod ").unwrap_or(source.text.len());
    let lines = source.text[..end].lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// The word of a literal that a text begins with, if it is one that a program may compare.
fn word(text: &str) -> Option<&str> {
    let (word, _) = text.trim_start().strip_prefix('"')?.split_once('"')?;
    let fits = |c: char| c.is_ascii_lowercase() || c == '_';
    (!word.is_empty() && word.chars().all(fits)).then_some(word)
}

/// The last name of a path that a text begins with, if it is one of a constant.
fn constant(text: &str) -> Option<&str> {
    let path = text.trim_start().split(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').next()?;
    let name = path.rsplit("::").next()?;
    (name.len() > 1 && name.chars().all(|c| c.is_ascii_uppercase() || c == '_')).then_some(name)
}

fn behind<'a>(text: &'a str, mark: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(mark).skip(1)
}

/// The codes that a text makes, and the constants that it makes codes of.
fn made(text: &str, codes: &mut BTreeSet<String>, constants: &mut BTreeSet<String>) {
    for rest in MAKERS.iter().flat_map(|maker| behind(text, maker)) {
        codes.extend(word(rest).map(str::to_owned));
        constants.extend(constant(rest).map(str::to_owned));
    }
    codes.extend(behind(text, " code: ").filter_map(word).map(str::to_owned));
    // A code and its message.
    codes.extend(behind(text, "=> (").filter_map(word).map(str::to_owned));
    for rest in behind(text, "let code = if") {
        let end = rest.find(';').unwrap_or(rest.len());
        codes.extend(behind(&rest[..end], "{").filter_map(word).map(str::to_owned));
    }
    // The arms of what says the code of an error, of a class, of a refusal.
    for mark in ["fn code(&self)", "let code = match", "let word = |done: &Recovered| match", "impl Class {"]
    {
        for rest in behind(text, mark) {
            let end = rest.find("\n    }\n").or_else(|| rest.find("};")).unwrap_or(rest.len());
            codes.extend(behind(&rest[..end], "=>").filter_map(word).map(str::to_owned));
        }
    }
}

/// The codes that the sources make.
fn of_sources() -> BTreeSet<String> {
    let (mut codes, mut constants, mut values) = (BTreeSet::new(), BTreeSet::new(), BTreeMap::new());
    for source in sources() {
        let text = code(&source);
        made(&text, &mut codes, &mut constants);
        for rest in behind(&text, "const ") {
            let named = rest.split_once(": &str =").filter(|(name, _)| constant(name) == Some(*name));
            values.extend(named.and_then(|(name, value)| Some((name.to_owned(), word(value)?.to_owned()))));
        }
    }
    codes.extend(constants.iter().filter_map(|name| values.get(name).cloned()));
    codes
}

/// The codes that a snapshot shows as codes: in documents, and in front of what `show` tells of a reason.
fn of_snapshot(text: &str) -> BTreeSet<String> {
    let keys = ["\"code\":", "\"reason_code\":", "\"done\":"];
    let mut codes: BTreeSet<String> =
        keys.iter().flat_map(|key| behind(text, key)).filter_map(word).map(str::to_owned).collect();
    let reasons = behind(text, "|   reason       ").filter_map(|rest| rest.split_once(": "));
    codes.extend(reasons.map(|(code, _)| code.to_owned()).filter(|code| !code.contains(':')));
    codes
}

fn of_snapshots() -> BTreeSet<String> {
    let entries = std::fs::read_dir(super::DIR).unwrap().map(|entry| entry.unwrap().path());
    let texts = entries.filter(|path| path.extension().is_some_and(|extension| extension == "snap"));
    texts.flat_map(|path| of_snapshot(&std::fs::read_to_string(path).unwrap())).collect()
}

#[test]
fn no_code_is_without_a_snapshot_or_a_reason_why() {
    let (made, shown) = (of_sources(), of_snapshots());
    assert!(made.len() > 100 && shown.len() > 80, "{} and {}", made.len(), shown.len());
    let excused: BTreeSet<String> = NOT_SHOWN.iter().map(|(code, _)| (*code).to_owned()).collect();
    let missing: Vec<&String> =
        made.iter().filter(|code| !shown.contains(*code) && !excused.contains(*code)).collect();
    assert!(missing.is_empty(), "no snapshot shows these codes, and nothing says why: {missing:#?}");
    let idle: Vec<&String> =
        excused.iter().filter(|code| shown.contains(*code) || !made.contains(*code)).collect();
    assert!(idle.is_empty(), "these are shown, or made no more: {idle:#?}");
    let unknown: Vec<&String> = shown.iter().filter(|code| !made.contains(*code)).collect();
    assert!(
        unknown.is_empty(),
        "the snapshots show codes that this test does not find in the sources: {unknown:#?}"
    );
}

#[test]
fn codes_are_found_in_what_makes_them() {
    let text = "Reason::new(\n    \"one\", x); Self::new(\"two\", \"no\"); cannot(super::THREE, m); Finding { code: \"four\" }\n\
                fn code(&self) -> &str {\n match self {\n A => \"five\",\n }\n    }\n A => (\"s_x\", format!(\"seven\")), f(\"no\")";
    let (mut codes, mut constants) = (BTreeSet::new(), BTreeSet::new());
    made(text, &mut codes, &mut constants);
    assert_eq!(codes.into_iter().collect::<Vec<_>>(), ["five", "four", "one", "s_x", "two"]);
    assert_eq!(constants.into_iter().collect::<Vec<_>>(), ["THREE"]);
    let shown = of_snapshot(
        "|   reason       one: why\n|   reason       signal:9: x\n\"code\": \"two\"\n\"code\":\"three\",\"code\":null",
    );
    assert_eq!(shown.into_iter().collect::<Vec<_>>(), ["one", "three", "two"]);
}
