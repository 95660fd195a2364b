//! Every case of every tool, and the table `docs/agents-matrix.md`.

use std::collections::VecDeque;
use std::fmt::Write;
use std::path::Path;
use std::sync::Mutex;

use sha2::{Digest, Sha256};

use crate::alone::tell;
use crate::cases::{self, Case};
use crate::play::{Row, play};
use crate::tool::Tool;

const TABLE: &str = "docs/agents-matrix.md";

const HEAD: &str = "\
# The engine with the real agents

Written by `tests/agents/matrix.sh`; a test compares everything but the seconds. Each row is one run of
`engine run-job` with the real tool (versions: `tests/agents/install.sh`), default settings, a fresh repository and a
scripted model server, in a network that is loopback only. Tokens are input/output (c = of the input, from a cache);
`-` = the tool tells nothing, or there is no result; `several` requests = the engine ended a tool that went on trying.
In all rows no process of the job was alive after its end, and the key was in no file and in nothing that was printed.

| tool | case | class | outcome | exit | changed | seconds | requests | served | ledger | alive |
|---|---|---|---|---:|---|---:|---:|---|---|---:|
";

/// Plays everything, two at a time. The table is written with `ENGINE_UPDATE=1`, else compared. `ENGINE_AGENT_SAMPLE=N` plays
/// N cases that `ENGINE_AGENT_SEED` chooses, and compares nothing.
pub fn run(tools: &[Tool]) {
    let cases = cases::all();
    let only = std::env::var("ENGINE_AGENT_CASES").unwrap_or_default();
    let is_wanted = |tool: Tool, case: &Case| {
        let names =
            [format!("{}:{}", tool.name(), case.name), format!(":{}", case.name), tool.name().to_owned()];
        case.tools.contains(&tool)
            && (only.is_empty() || only.split(' ').any(|one| names.iter().any(|name| name == one)))
    };
    let mut all: Vec<(Tool, &Case)> = tools
        .iter()
        .flat_map(|tool| cases.iter().map(|case| (*tool, case)))
        .filter(|(tool, case)| is_wanted(*tool, case))
        .collect();
    let sample = std::env::var("ENGINE_AGENT_SAMPLE").ok().map(|count| count.parse::<usize>().unwrap());
    if let Some(count) = sample {
        let seed = std::env::var("ENGINE_AGENT_SEED").unwrap_or_default();
        tell(&format!("a sample of {count} of {} cases: ENGINE_AGENT_SEED={seed}", all.len()));
        all.sort_by_key(|(tool, case)| Sha256::digest(format!("{seed} {} {}", tool.name(), case.name)));
        all.truncate(count);
    }
    let (rows, problems) = play_all(&all);
    if !problems.is_empty() {
        tell(&table(&rows));
    }
    assert!(problems.is_empty(), "{} of {} cases:\n{}", problems.len(), all.len(), problems.join("\n\n"));
    if only.is_empty() && sample.is_none() && tools.len() == Tool::ALL.len() {
        keep_current(&table(&rows));
    } else {
        tell(&table(&rows));
    }
}

fn play_all(all: &[(Tool, &Case)]) -> (Vec<Row>, Vec<String>) {
    let next = Mutex::new((0..all.len()).collect::<VecDeque<_>>());
    let played = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(index) = take(&next) {
                    let (tool, case) = all[index];
                    let one = play(tool, case);
                    let verdict = if one.problems.is_empty() { "ok" } else { "FAILED" };
                    tell(&format!("{verdict:6} {}", line(&one.row)));
                    played.lock().unwrap().push((index, one));
                }
            });
        }
    });
    let mut played = played.into_inner().unwrap();
    played.sort_by_key(|(index, _)| *index);
    let problems = played.iter().filter(|(_, one)| !one.problems.is_empty());
    let told = problems.map(|(_, one)| format!("{} {}: {}", one.row.tool, one.row.case, one.report()));
    let told = told.collect();
    (played.into_iter().map(|(_, one)| one.row).collect(), told)
}

fn take(next: &Mutex<VecDeque<usize>>) -> Option<usize> {
    next.lock().unwrap().pop_front()
}

fn line(row: &Row) -> String {
    let Row { tool, case, class, outcome, exit, changed, tenths, requests, served, told, left } = row;
    let seconds = format!("{}.{}", tenths / 10, tenths % 10);
    format!(
        "| {tool} | {case} | {class} | {outcome} | {exit} | {changed} | {seconds} | {requests} | {served} | {told} | {left} |"
    )
}

fn table(rows: &[Row]) -> String {
    rows.iter().fold(HEAD.to_owned(), |mut text, row| {
        writeln!(text, "{}", line(row)).unwrap();
        text
    })
}

fn keep_current(table: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(TABLE);
    if std::env::var_os("ENGINE_UPDATE").is_some_and(|value| value == "1") {
        std::fs::write(&path, table).unwrap();
        return;
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        without_seconds(&kept),
        without_seconds(table),
        "{TABLE} is not current: tests/agents/matrix.sh"
    );
}

/// Seconds differ from run to run.
fn without_seconds(table: &str) -> Vec<String> {
    let cells = |line: &str| -> String {
        let cells: Vec<&str> = line.split('|').collect();
        let kept = cells.iter().enumerate().filter(|(index, _)| cells.len() < 12 || *index != 7);
        kept.map(|(_, cell)| cell.trim()).collect::<Vec<_>>().join("|")
    };
    table.lines().map(cells).collect()
}
