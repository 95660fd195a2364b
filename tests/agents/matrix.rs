//! Tables of cases by tool: which of them are played, two at a time, and what is written of them.

use std::collections::VecDeque;
use std::fmt::Write;
use std::path::Path;
use std::sync::Mutex;

use sha2::{Digest, Sha256};

use crate::alone::tell;
use crate::tool::Tool;

/// A table in the documents.
pub struct Table {
    pub path: &'static str,
    /// The command that writes it.
    pub script: &'static str,
    /// All above the first line of a case.
    pub head: &'static str,
    /// Plays a case of a tool, by its name.
    pub play: fn(Tool, &str) -> Outcome,
    /// Which cases there are for which tool.
    pub all: fn() -> Vec<(Tool, &'static str)>,
}

/// What came of a case.
pub struct Outcome {
    /// What is not as it must be.
    pub problems: Vec<String>,
    /// Its line of the table.
    pub cells: Vec<String>,
    /// What the engine printed: the reason may be in it.
    pub printed: String,
}

impl Outcome {
    /// The problems, the line and what was printed, as one text.
    pub fn report(&self) -> String {
        let cut: String = self.printed.chars().take(6000).collect();
        format!("{}\n{}\n{cut}", self.problems.join("\n"), line(&self.cells))
    }
}

impl Table {
    /// Plays the case of this name.
    pub fn play(&self, tool: Tool, case: &str) -> Outcome {
        (self.play)(tool, case)
    }

    /// Plays everything, two at a time. The table is written with `ENGINE_UPDATE=1`, else compared. `ENGINE_AGENT_SAMPLE=N`
    /// plays N cases that `ENGINE_AGENT_SEED` chooses, and compares nothing.
    pub fn run(&self, tools: &[Tool]) {
        let only = std::env::var("ENGINE_AGENT_CASES").unwrap_or_default();
        let is_wanted = |tool: Tool, case: &str| {
            let names = [format!("{}:{case}", tool.name()), format!(":{case}"), tool.name().to_owned()];
            tools.contains(&tool)
                && (only.is_empty() || only.split(' ').any(|one| names.iter().any(|name| name == one)))
        };
        let mut all = (self.all)();
        all.retain(|(tool, case)| is_wanted(*tool, case));
        let sample = std::env::var("ENGINE_AGENT_SAMPLE").ok().map(|count| count.parse::<usize>().unwrap());
        if let Some(count) = sample {
            let seed = std::env::var("ENGINE_AGENT_SEED").unwrap_or_default();
            tell(&format!("a sample of {count} of {} cases: ENGINE_AGENT_SEED={seed}", all.len()));
            all.sort_by_key(|(tool, case)| Sha256::digest(format!("{seed} {} {case}", tool.name())));
            all.truncate(count);
        }
        let outcomes = self.play_all(&all);
        let table = self.text(&outcomes);
        let is_bad = |one: &&Outcome| !one.problems.is_empty();
        let problems: Vec<String> = outcomes.iter().filter(is_bad).map(Outcome::report).collect();
        if !problems.is_empty() {
            tell(&table);
        }
        assert!(problems.is_empty(), "{} of {} cases:\n{}", problems.len(), all.len(), problems.join("\n\n"));
        if only.is_empty() && sample.is_none() && tools.len() == Tool::ALL.len() {
            self.keep_current(&table);
        } else {
            tell(&table);
        }
    }

    fn play_all(&self, all: &[(Tool, &str)]) -> Vec<Outcome> {
        let next = Mutex::new((0..all.len()).collect::<VecDeque<_>>());
        let played = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while let Some(index) = take(&next) {
                        let (tool, case) = all[index];
                        let one = self.play(tool, case);
                        let verdict = if one.problems.is_empty() { "ok" } else { "FAILED" };
                        tell(&format!("{verdict:6} {}", line(&one.cells)));
                        played.lock().unwrap().push((index, one));
                    }
                });
            }
        });
        let mut played = played.into_inner().unwrap();
        played.sort_by_key(|(index, _)| *index);
        played.into_iter().map(|(_, one)| one).collect()
    }

    fn text(&self, outcomes: &[Outcome]) -> String {
        outcomes.iter().fold(self.head.to_owned(), |mut text, one| {
            writeln!(text, "{}", line(&one.cells)).unwrap();
            text
        })
    }

    fn keep_current(&self, table: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(self.path);
        if std::env::var_os("ENGINE_UPDATE").is_some_and(|value| value == "1") {
            std::fs::write(&path, table).unwrap();
            return;
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        let (kept, now) = (without_seconds(&kept), without_seconds(table));
        assert_eq!(kept, now, "{} is not current: {}", self.path, self.script);
    }
}

fn take(next: &Mutex<VecDeque<usize>>) -> Option<usize> {
    next.lock().unwrap().pop_front()
}

fn line(cells: &[String]) -> String {
    format!("| {} |", cells.join(" | "))
}

/// Seconds differ from run to run.
fn without_seconds(table: &str) -> Vec<String> {
    let column = table.lines().find_map(|line| line.split('|').position(|cell| cell.trim() == "seconds"));
    let cells = |line: &str| -> String {
        let cells: Vec<&str> = line.split('|').collect();
        let kept = cells.iter().enumerate().filter(|(index, _)| Some(*index) != column);
        kept.map(|(_, cell)| cell.trim()).collect::<Vec<_>>().join("|")
    };
    table.lines().map(cells).collect()
}
