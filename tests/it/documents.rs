//! Links in the documents that lead nowhere, and examples that no longer do what the text shows.
//!
//! A document names what a block is by its fence. `sh`: commands that succeed. `sh by-ci`: commands of `.ci/run` or a person,
//! not run here. `console`: commands behind `$ `, each with its output. `json NAME` and `toml NAME`: a file that the commands use. `text`, `mermaid`, `crontab`: not run. Every
//! document has a project of its own, and its blocks run in order. `ENGINE_UPDATE=1` writes the output as it is now.

use std::path::{Path, PathBuf};
use std::process::Output;

use crate::fake_agent::{EDIT, Fakes, case};

/// What the machine and the hour decide: `d` is a digit, `h` a hexadecimal one, `#` any number of digits.
const VARYING: [&str; 8] = [
    "dddddddd-dddddd-hhhhhhhh",
    "hhhhhhhh-hhhh-hhhh-hhhh-hhhhhhhhhhhh",
    "at hhhhhhhhhhhh",
    "dddd-dd-ddTdd:dd:dd.dddZ",
    "dddd-dd-dd",
    "#.# s",
    "# KiB",
    "session      s-#",
];

/// How each line of a block begins that is marked as not run here, for it builds the program or needs what no test may install.
const RUN_BY_CI: [&str; 4] = ["cargo ", "ENGINE_UPDATE=1 cargo ", "rustup ", ".ci/run"];

const LONGEST_LINE: usize = 120;
const LONGEST_ROW: usize = 160;

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn below(dir: &str) -> Vec<PathBuf> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&top().join(dir), &mut found);
    found.sort();
    found
}

fn documents() -> Vec<PathBuf> {
    let mut found = below("docs");
    found.extend(
        ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(|name| top().join(name)),
    );
    found
}

/// The lines outside fenced blocks.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut in_code = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        in_code ^= fence;
        !in_code && !fence
    })
}

/// The targets of `[text](target)`, of `![text](target)` and of `[name]: target`; code is left out.
fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in prose(text) {
        let outside_of_code: String = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
        let inline = outside_of_code.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
        found.extend(inline.map(|(target, _)| target.to_owned()));
        let named = outside_of_code.strip_prefix('[').and_then(|rest| rest.split_once("]: "));
        found.extend(named.map(|(_, target)| target.trim().to_owned()));
    }
    // A title may stand behind the target.
    found.iter().filter_map(|link| link.split_whitespace().next()).map(str::to_owned).collect()
}

/// The anchors that a page of headings has, as GitHub makes them.
fn anchors(text: &str) -> Vec<String> {
    let headings = prose(text).filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let kept = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = kept.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn links_are_found_and_code_is_none() {
    let text = "a [b](c.md) [`d`](e/f.md#g) `[no](x)` ![i](j.png \"title\")\n```\n[no](y)\n```\n[k]: l.md\n";
    assert_eq!(links(text), ["c.md", "e/f.md#g", "j.png", "l.md"]);
    assert_eq!(anchors("# A `b`, c\n```sh\n# no\n```\n"), ["a-b-c"]);
}

#[test]
fn every_relative_link_of_a_document_leads_to_a_file_and_a_heading() {
    let mut dead = Vec::new();
    let mut count = 0;
    for document in documents() {
        let text = std::fs::read_to_string(&document).unwrap();
        for link in links(&text) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            count += 1;
            let (path, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target =
                if path.is_empty() { document.clone() } else { document.parent().unwrap().join(path) };
            let has =
                || anchors(&std::fs::read_to_string(&target).unwrap()).iter().any(|found| found == anchor);
            if !target.exists() || !anchor.is_empty() && !has() {
                dead.push(format!("{}: {link}", document.display()));
            }
        }
    }
    assert!(count > 30, "only {count} links were looked at");
    assert!(dead.is_empty(), "links that lead nowhere:\n{}", dead.join("\n"));
}

#[test]
fn no_document_has_a_line_that_is_hard_to_read() {
    let written = |path: &PathBuf| {
        let name = path.file_name().unwrap();
        name != "ARCHITECTURE.md" && name != "CHANGELOG.md"
    };
    let mut long = Vec::new();
    for document in documents().into_iter().filter(written) {
        for line in prose(&std::fs::read_to_string(&document).unwrap()) {
            let limit = if line.starts_with('|') { LONGEST_ROW } else { LONGEST_LINE };
            if line.chars().count() > limit {
                long.push(format!("{}: {line}", document.display()));
            }
        }
    }
    assert!(long.is_empty(), "longer than {LONGEST_LINE}, rows than {LONGEST_ROW}:\n{}", long.join("\n"));
}

#[test]
fn every_decision_has_its_number_a_status_and_a_date() {
    for path in below("docs/adr") {
        let text = std::fs::read_to_string(&path).unwrap();
        let number: u32 = path.file_name().unwrap().to_str().unwrap()[..4].parse().unwrap();
        let mut lines = text.lines();
        let title = lines.next().unwrap_or_default();
        assert!(title.starts_with(&format!("# ADR {number}: ")), "{}: {title}", path.display());
        let said: Vec<&str> = lines.skip(1).take(2).map(|line| line.split(": ").next().unwrap()).collect();
        assert_eq!(said, ["- Status", "- Date"], "{}", path.display());
    }
}

/// A line with what varies replaced by its pattern.
fn shape(line: &str) -> String {
    let mut shape = String::new();
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        let varying = VARYING.iter().find_map(|pattern| Some((*pattern, matched(rest, pattern)?)));
        let (text, length) = varying.unwrap_or((&rest[..first.len_utf8()], first.len_utf8()));
        shape.push_str(text);
        rest = &rest[length..];
    }
    shape
}

/// The length of what a pattern matches at the beginning of a text.
fn matched(text: &str, pattern: &str) -> Option<usize> {
    let mut rest = text;
    for wanted in pattern.chars() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let first = rest.bytes().next()?;
        let length = match wanted {
            '#' => digits,
            'd' => usize::from(first.is_ascii_digit()),
            'h' => usize::from(first.is_ascii_hexdigit()),
            other => usize::from(char::from(first) == other),
        };
        if length == 0 {
            return None;
        }
        rest = &rest[length..];
    }
    Some(text.len() - rest.len())
}

#[test]
fn what_varies_from_run_to_run_has_one_shape_and_nothing_else() {
    let line = "sh-20261130-181756-9037f2ca at 2026-11-30T18:17:56.150Z took 0.02 s, 21972 KiB, exit code 3";
    let other = "sh-20270101-000000-00000000 at 2027-01-01T00:00:00.000Z took 10.5 s, 4 KiB, exit code 3";
    assert_eq!(shape(line), shape(other));
    assert_ne!(shape(line), shape(&other.replace("code 3", "code 4")));
}

/// The project that the documents speak of: a git repository with a Makefile, and agents and a test tool in PATH.
struct Reader(Fakes);

impl Reader {
    fn new() -> Self {
        let fakes = Fakes::new();
        // The documents make their own root, in the repository.
        std::fs::remove_dir_all(fakes.project.root("")).unwrap();
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_engine"), fakes.path("bin/engine")).unwrap();
        fakes.executable("bin/pytest", "#!/bin/sh\necho '==== 12 passed in 0.31s ===='\n");
        let agent = std::fs::read(top().join("examples/own-agent/my-agent")).unwrap();
        fakes.write("bin/my-agent", agent);
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(fakes.path("bin/my-agent"), executable).unwrap();
        fakes.play("claude", &fakes.replay(&case("claude", "success"), EDIT));
        fakes.write("repo/Makefile", "test lint docs:\n\t@echo \"$@: all is well\"\n");
        std::os::unix::fs::symlink(top().join("examples"), fakes.path("repo/examples")).unwrap();
        fakes.git(&["add", "."]);
        fakes.git(&["commit", "-q", "-m", "a project"]);
        Self(fakes)
    }

    fn sh(&self, script: &str) -> Output {
        let mut sh = std::process::Command::new("sh");
        sh.args(["-u", "-c", script]).current_dir(self.0.path("repo")).env_clear().envs(self.0.env());
        sh.stdin(std::process::Stdio::null()).output().unwrap()
    }

    /// What a block does; gives its lines as they are now.
    fn play(&self, fence: &str, lines: &[&str]) -> Result<Vec<String>, String> {
        let kept = || Ok(lines.iter().map(|line| (*line).to_owned()).collect());
        match fence.split_once(' ').unwrap_or((fence, "")) {
            ("sh", "") => self.commands(lines).and_then(|()| kept()),
            ("sh", "by-ci") => by_ci(lines).and_then(|()| kept()),
            ("console", "") => self.console(lines),
            ("json" | "toml", name) if !name.is_empty() => self.file(name, lines).and_then(|()| kept()),
            ("text" | "mermaid" | "crontab", "") => kept(),
            _ => Err(format!("`{fence}` says neither how it is run nor that it is not")),
        }
    }

    fn commands(&self, lines: &[&str]) -> Result<(), String> {
        if lines.is_empty() {
            return Err("there is no command".to_owned());
        }
        let output = self.sh(&format!("set -e\n{}", lines.join("\n")));
        let said = || format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
        output.status.success().then_some(()).ok_or_else(said)
    }

    fn file(&self, name: &str, lines: &[&str]) -> Result<(), String> {
        let text = lines.join("\n") + "\n";
        self.0.write(&format!("repo/{name}"), &text);
        match text.contains("\"job_id\"") {
            true => self.commands(&[&format!("engine validate {name}")]),
            false => Ok(()),
        }
    }

    fn console(&self, lines: &[&str]) -> Result<Vec<String>, String> {
        const END: &str = "\u{1e}\n";
        let commands: Vec<&str> = lines.iter().filter_map(|line| line.strip_prefix("$ ")).collect();
        // A command sees the exit status of the one before, as in a terminal.
        let script = commands.iter().fold("true\n".to_owned(), |script, command| {
            format!("{script}{{ {command}\n}} 2>&1\ns=$?; printf '\\036\\n'; (exit $s)\n")
        });
        let output = self.sh(&script);
        let said = String::from_utf8_lossy(&output.stdout);
        let said = said.replace(&self.0.path("repo").display().to_string(), "/home/me/my-project");
        let said = said.replace(&self.0.path("home").display().to_string(), "/home/me");
        let said = said.replace(&self.0.project.dir().display().to_string(), "/home/me");
        let parts: Vec<&str> = said.split(END).collect();
        if parts.len() != commands.len() + 1 {
            return Err(format!("ended early: {said}{}", String::from_utf8_lossy(&output.stderr)));
        }
        let mut now = Vec::new();
        for (command, said) in commands.iter().zip(parts) {
            now.push(format!("$ {command}"));
            now.extend(said.lines().map(|line| line.trim_end().to_owned()));
        }
        Ok(now)
    }
}

/// Refuses what hides in a block that is not run.
fn by_ci(lines: &[&str]) -> Result<(), String> {
    let is_by_ci = |line: &&&str| RUN_BY_CI.iter().any(|command| line.starts_with(command));
    match lines.iter().find(|line| !is_by_ci(line)) {
        Some(line) => Err(format!("`{line}` is run nowhere")),
        None => Ok(()),
    }
}

/// Plays a document; gives it as it would be now, and what is wrong with it.
fn play(text: &str) -> (String, Vec<String>) {
    let (mut now, mut wrong) = (String::new(), Vec::new());
    let reader = Reader::new();
    let mut lines = text.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        now += &format!("{line}\n");
        let Some(fence) = line.strip_prefix("```") else { continue };
        let block: Vec<&str> =
            lines.by_ref().map(|(_, line)| line).take_while(|line| !line.starts_with("```")).collect();
        let played = reader.play(fence, &block).unwrap_or_else(|why| {
            wrong.push(format!("line {}: {why}", at + 1));
            block.iter().map(|line| (*line).to_owned()).collect()
        });
        let same = played.iter().map(|line| shape(line)).eq(block.iter().map(|line| shape(line)));
        if same {
            block.iter().for_each(|line| now += &format!("{line}\n"));
        } else {
            wrong.push(format!("line {}: the output is now\n{}", at + 1, played.join("\n")));
            played.iter().for_each(|line| now += &format!("{line}\n"));
        }
        now += "```\n";
    }
    (now, wrong)
}

#[test]
fn an_example_that_no_longer_holds_is_found() {
    let play = |text: &str| play(text).1.len();
    assert_eq!(play("```console\n$ engine run-job -- false; echo $?\nno\n```\n"), 1);
    assert_eq!(play("```console\n$ echo a; false\na\n$ echo $?\n1\n```\n"), 0);
    assert_eq!(play("```sh\nengine show nothing\n```\n"), 1);
    assert_eq!(play("```json j.json\n{\"job_id\": \"j\", \"tol\": \"shell\"}\n```\n"), 1);
    assert_eq!(play("```\nwhat is this?\n```\n"), 1);
    // A word in a line is no reason not to run it.
    assert_eq!(play("```sh\nengine show nothing # as cargo run -- show nothing\n```\n"), 1);
    assert_eq!(play("```sh\n```\n"), 1);
    assert_eq!(play("```sh by-ci\ncargo build\n```\n"), 0);
    assert_eq!(play("```sh by-ci\ncargo build\nengine show nothing\n```\n"), 1);
}

#[test]
fn every_example_of_the_documents_runs_and_prints_what_is_shown() {
    let pages = below("docs").into_iter().filter(|path| path.parent().unwrap().ends_with("docs"));
    let mut wrong = Vec::new();
    for document in
        pages.chain(["README.md", "CONTRIBUTING.md", "docs/recipes/README.md"].map(|name| top().join(name)))
    {
        let text = std::fs::read_to_string(&document).unwrap();
        let (now, problems) = play(&text);
        if std::env::var_os("ENGINE_UPDATE").is_some() && now != text {
            std::fs::write(&document, now).unwrap();
        }
        wrong.extend(problems.iter().map(|problem| format!("{}, {problem}", document.display())));
    }
    assert!(wrong.is_empty(), "ENGINE_UPDATE=1 writes the output anew:\n{}", wrong.join("\n"));
}
