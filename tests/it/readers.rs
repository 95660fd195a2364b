//! Readers that look all the time while jobs run see whole documents, and never one that goes back.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::support::Project;

const JOBS: usize = 200;

/// What a reader has seen.
#[derive(Default)]
struct StreamFacts {
    seq: BTreeMap<String, u64>,
    rounds: usize,
    between: usize,
}

/// The last complete line of a file, as contracts 2 says that readers take it.
fn last_line(path: &Path) -> Option<Value> {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{} vanished: {error}", path.display()));
    let end = bytes.iter().rposition(|b| *b == b'\n')?;
    let line = bytes[..end].rsplit(|b| *b == b'\n').next()?;
    Some(
        serde_json::from_slice(line)
            .unwrap_or_else(|error| panic!("{}: {error}: {}", path.display(), String::from_utf8_lossy(line))),
    )
}

fn look(project: &Project, seen: &mut StreamFacts) {
    let mut now = std::collections::BTreeSet::new();
    for entry in std::fs::read_dir(project.root("state/jobs")).unwrap().flatten() {
        let id = entry.file_name().to_string_lossy().trim_end_matches(".jsonl").to_owned();
        let line = last_line(&entry.path());
        now.insert(id.clone());
        let known = seen.seq.get(&id).copied().unwrap_or(0);
        let Some(line) = line else {
            assert_eq!(known, 0, "the lines of {id} vanished");
            continue;
        };
        assert_eq!(line["job_id"], id.as_str());
        let seq = line["seq"].as_u64().unwrap();
        assert!(seq >= known, "{id} went back from {known} to {seq}");
        seen.between += usize::from(line["status"] == "running");
        seen.seq.insert(id, seq);
    }
    assert!(seen.seq.keys().all(|id| now.contains(id)), "a record vanished");
    let bytes = std::fs::read(project.root("state/events.jsonl")).unwrap_or_default();
    let end = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    let mut journal: BTreeMap<String, u64> = BTreeMap::new();
    for line in bytes[..end].split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
        let line: Value = serde_json::from_slice(line).expect("no torn line in the journal");
        let seq = line["seq"].as_u64().unwrap();
        let last = journal.insert(line["job_id"].as_str().unwrap().to_owned(), seq);
        assert!(last.is_none_or(|last| last < seq), "the journal goes back: {line}");
    }
    seen.rounds += 1;
}

#[test]
fn a_reader_never_sees_a_torn_or_vanishing_document_and_no_seq_goes_back() {
    let project = Project::new();
    project.run(&json!({"job_id": "first", "tool": "shell", "command": {"exe": "true"}})).exits(0);
    let over = AtomicBool::new(false);
    let seen = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen = StreamFacts::default();
            while !over.load(Ordering::Relaxed) {
                look(&project, &mut seen);
            }
            look(&project, &mut seen);
            seen
        });
        let runner = |half: usize| {
            let project = &project;
            move || {
                for number in (0..JOBS).filter(|number| number % 2 == half) {
                    // Every third fails, and the long output makes long lines.
                    let script = format!("seq 2000; exit {}", usize::from(number % 3 == 0));
                    let job = json!({"job_id": format!("j{number}"), "tool": "shell",
                        "command": {"exe": "sh", "args": ["-c", script]}});
                    let _ = project.run(&job).out;
                }
            }
        };
        let runners = [scope.spawn(runner(0)), scope.spawn(runner(1))];
        let ended: Vec<_> = runners.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        over.store(true, Ordering::Relaxed);
        let seen = reader.join().unwrap();
        assert!(ended.iter().all(Result::is_ok));
        seen
    });
    assert_eq!(seen.seq.len(), JOBS + 1);
    assert!(seen.seq.values().all(|seq| *seq == 2), "{:?}", seen.seq);
    assert!(seen.rounds > 10 && seen.between > 0, "{} rounds, {} running jobs", seen.rounds, seen.between);
}
