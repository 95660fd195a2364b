//! What every command prints, as committed texts in `tests/snapshots/`: a change of a contract is a change of one of them.
//!
//! A snapshot is a session: each command line with its standard output (`|`), standard error (`!`) and exit status (`=`).
//! After a change that is meant: `INSTA_UPDATE=always cargo nextest run -E 'test(/snapshots/)'`, then read `git diff`.

mod bundles;
mod codes;
mod former;
mod help;
mod queue;
mod reading;
mod reasons;
mod reasons_of_agents;
mod redact;
mod running;
mod runs;
mod upkeep;

use std::fmt::Write;
use std::path::Path;
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Project, Running, Said, eventually, processes_with, shell, with};

/// The directory of the snapshots.
const DIR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/snapshots");

/// Compares a text with the committed one of that name.
#[track_caller]
fn matches(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(DIR);
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

/// A session in a project: commands, and what they printed.
struct Session<'a> {
    project: &'a Project,
    env: Vec<(String, String)>,
    text: String,
}

impl<'a> Session<'a> {
    fn new(project: &'a Project) -> Self {
        Self { project, env: Vec::new(), text: String::new() }
    }

    /// With more variables in the environment.
    fn with(project: &'a Project, env: &[(&str, &str)]) -> Self {
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self { env, ..Self::new(project) }
    }

    /// Runs the program with these words as arguments; a word in single quotes may hold spaces.
    fn engine(&mut self, line: &str) {
        let said = self.said(line);
        self.show(line, &said);
    }

    /// The same, one after the other.
    fn engine_all(&mut self, lines: &[&str]) {
        lines.iter().for_each(|line| self.engine(line));
    }

    /// Runs it and shows nothing; it has to be right.
    #[track_caller]
    fn quietly(&self, line: &str, code: i32) {
        self.said(line).exits(code);
    }

    /// Runs it, shows nothing, and gives what it printed. It is run again while it changes nothing because a process of the
    /// same user, as of a test beside this one, is just being started and cannot be looked at.
    fn said(&self, line: &str) -> Said {
        let run = || {
            let mut command = self.project.command(&words(line));
            command.envs(self.env.iter().map(|(name, value)| (name, value)));
            Said::of(&command.output().unwrap())
        };
        let mut said = run();
        eventually("all processes can be looked at", || {
            let is_told = ![&said.out, &said.err].iter().any(|text| text.contains("cannot tell whether"));
            if !is_told {
                said = run();
            }
            is_told
        });
        said
    }

    /// Runs it with a text as its standard input.
    fn engine_reads(&mut self, line: &str, input: &str) {
        use std::io::Write;
        let mut command = self.project.command(&words(line));
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        self.show(line, &Said::of(&child.wait_with_output().unwrap()));
    }

    /// Runs it and shows only the first lines of what it printed.
    fn first_lines(&mut self, count: usize, line: &str) {
        let said = self.said(line);
        let mut lines: Vec<&str> = said.out.lines().take(count).collect();
        lines.push("(and so on)\n");
        let shown = Said { code: said.code, out: lines.join("\n"), err: said.err };
        self.show(line, &shown);
    }

    /// Writes a job that runs until it is ended, starts it, and waits until its tool runs.
    fn start(&mut self, id: &str, more: &Value) -> Running {
        self.job(&with(shell(id, &format!("touch {id}.started; exec sleep 600")), more));
        self.start_again(id, &format!("run-job --job-file {id}.json"))
    }

    /// Starts such a job in this way, and waits until its tool runs.
    fn start_again(&mut self, id: &str, line: &str) -> Running {
        self.note(&format!("engine {line} &"));
        let started = self.project.path(&format!("{id}.started"));
        let _ = std::fs::remove_file(&started);
        let env: Vec<(&str, &str)> = self.env.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        let running = self.project.start(&words(line), &env);
        eventually("its tool runs", || started.exists());
        running
    }

    /// Kills the runner of a job; its tool is gone too.
    fn abandon(&mut self, id: &str, running: Running) {
        running.signal(Signal::KILL);
        running.wait().exits(-9);
        let dir = self.project.dir().display().to_string();
        eventually("its tool is gone", || processes_with(&dir).is_empty());
        self.note(&format!("kill -KILL the runner of `{id}`"));
    }

    /// Tells a command and what it printed.
    fn show(&mut self, line: &str, said: &Said) {
        writeln!(self.text, "{}", format!("$ engine {line}").trim_end()).unwrap();
        self.marked('|', &said.out);
        self.marked('!', &said.err);
        writeln!(self.text, "= {}\n", said.code).unwrap();
    }

    fn marked(&mut self, mark: char, text: &str) {
        for line in text.lines() {
            for part in spread(line) {
                writeln!(self.text, "{}", format!("{mark} {part}").trim_end()).unwrap();
            }
        }
        if !text.is_empty() && !text.ends_with('\n') {
            writeln!(self.text, "{mark} (without a newline)").unwrap();
        }
    }

    /// Tells what happens between two commands.
    fn note(&mut self, text: &str) {
        for line in text.lines() {
            writeln!(self.text, "# {line}").unwrap();
        }
    }

    /// Writes a file of the project, and says so.
    fn file(&mut self, name: &str, text: &str) {
        self.note(&format!("{name}: {}", text.trim_end()));
        let path = self.project.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Writes a job file `<id>.json`, and says so.
    fn job(&mut self, document: &Value) {
        self.file(&format!("{}.json", document["job_id"].as_str().unwrap()), &document.to_string());
    }

    /// Writes job files, and says so.
    fn jobs(&mut self, documents: &[Value]) {
        documents.iter().for_each(|document| self.job(document));
    }

    /// Compares the session with the snapshot of this name.
    #[track_caller]
    fn matches(&self, name: &str) {
        matches(name, &redact::redact(self.project, &self.text));
    }
}

fn words(line: &str) -> Vec<String> {
    let parts = line.split('\'').enumerate();
    let words = parts.flat_map(|(at, part)| match at % 2 {
        0 => part.split_whitespace().map(str::to_owned).collect(),
        _ => vec![part.to_owned()],
    });
    words.collect()
}

/// A long document on one line, as lines of one value each; nothing but white space is added.
fn spread(line: &str) -> Vec<String> {
    let is_document = line.starts_with('{') && serde_json::from_str::<Value>(line).is_ok();
    if !is_document || line.len() < 100 {
        return vec![line.to_owned()];
    }
    let (mut lines, mut text, mut depth, mut in_string, mut escaped) =
        (vec!["(one line)".to_owned()], String::new(), 0_usize, false, false);
    for c in line.chars() {
        if !in_string && matches!(c, '}' | ']') {
            depth -= 1;
        }
        text.push(c);
        in_string ^= c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        if !in_string && matches!(c, '{' | '[') {
            depth += 1;
        }
        if !in_string && (c == ',' && depth <= 2 || depth == 1 && c == '{') {
            lines.push(std::mem::take(&mut text));
            text = "  ".repeat(depth);
        }
    }
    lines.push(text);
    lines
}

/// Puts a program into a directory.
fn executable(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_document_is_spread_without_a_change_of_its_text() {
    let line = format!(
        r#"{{"a":"}},{{\"{}","b":[1,{{"c":2}}],"d":{{"e":null,"f":[{{"g":1,"h":2}}]}}}}"#,
        "x".repeat(90)
    );
    let lines = spread(&line);
    assert_eq!(lines[1..].iter().map(|line| line.trim_start()).collect::<String>(), line);
    assert_eq!(lines[2].trim_start(), format!(r#""a":"}},{{\"{}","#, "x".repeat(90)));
}

#[test]
fn words_may_be_quoted() {
    assert_eq!(words("hold a --reason 'not now'"), ["hold", "a", "--reason", "not now"]);
}
