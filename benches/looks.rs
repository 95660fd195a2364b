//! What a look at a worktree costs beside git's own commands.
//!
//! `looks [RUNS [FILES [DIRECTORIES]]]` makes a repository with FILES untracked files, in so many directories or with 0 beside
//! the tracked ones, where `git status` lists each. It takes turns: `git hash-object
//! --stdin-paths` of them, a first look, a second look, a second look after one file was changed, `git status`, and `git
//! status --untracked-files=all`. Prints medians in milliseconds and the ratios; all in one run.

#![expect(
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a yardstick stops where anything goes wrong"
)]

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use engine::for_tests::Stop;
use engine::for_tests::evidence::{self, Means, Unmatched};

const KINDS: [&str; 6] = [
    "git hash-object",
    "first look",
    "second look",
    "second look, one file changed",
    "git status",
    "git status --untracked-files=all",
];

fn main() {
    let numbers: Vec<usize> = std::env::args().skip(1).map(|arg| arg.parse().expect("a number")).collect();
    let at = |index: usize, default| numbers.get(index).copied().unwrap_or(default);
    let (runs, files, directories) = (at(0, 11), at(1, 20_000), at(2, 200));
    let dir = tempfile::tempdir().expect("a directory");
    let top = dir.path().join("repo");
    let list = make(&top, files, directories);
    let mut times: [Vec<f64>; 6] = Default::default();
    for round in 0..=runs {
        let taken = round_of(&top, dir.path(), &list, round);
        // The first round warms the caches.
        for (times, taken) in times.iter_mut().zip(taken).filter(|_| round > 0) {
            times.push(taken);
        }
    }
    let medians = times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times.get(times.len() / 2).copied().unwrap_or_default()
    });
    println!("{files} untracked files in {directories} directories, medians of {runs} runs");
    for (kind, median) in KINDS.iter().zip(medians) {
        println!("{median:8.1} ms  {kind}");
    }
    let [hash, first, second, changed, status, all] = medians;
    println!("first look / git hash-object: {:.2}", first / hash);
    println!("second look / git status: {:.2}, with a change {:.2}", second / status, changed / status);
    println!("second look / git status --untracked-files=all: {:.2}, {:.2}", second / all, changed / all);
}

fn git(top: &Path, args: &[&str]) -> Command {
    let mut git = Command::new("git");
    git.args(["-c", "user.name=a", "-c", "user.email=a@example.org"]).args(args).current_dir(top);
    git.stdout(Stdio::null());
    git
}

/// Makes the repository, and gives the list of its untracked files.
fn make(top: &Path, files: usize, directories: usize) -> String {
    std::fs::create_dir(top).expect("a directory");
    let mut list = String::new();
    for args in [["init", "-q"].as_slice(), &["commit", "-q", "--allow-empty", "-m", "first"]] {
        assert!(git(top, args).status().expect("git").success());
    }
    for at in 0..files {
        let name = match directories {
            0 => format!("f{at}"),
            _ => format!("d{:04}/f{at}", at % directories),
        };
        let path = top.join(&name);
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
        std::fs::write(path, format!("line {at}\n").repeat(40)).expect("a file");
        writeln!(list, "{name}").expect("memory");
    }
    // A file that was changed in the second of a look is looked at anew.
    std::thread::sleep(Duration::from_millis(2_100));
    list
}

fn round_of(top: &Path, dir: &Path, list: &str, round: usize) -> [f64; 6] {
    let means = Means {
        search_path: std::env::var_os("PATH"),
        home: None,
        stop: Stop::never(),
        min_free_bytes: 0,
        unmatched: Unmatched::Refused,
    };
    let timed = |run: &mut dyn FnMut()| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64() * 1000.0
    };
    let names = dir.join("names");
    std::fs::write(&names, list).expect("a file");
    let hash = timed(&mut || {
        let input = std::fs::File::open(&names).expect("the list");
        assert!(git(top, &["hash-object", "--stdin-paths"]).stdin(input).status().expect("git").success());
    });
    let mut before = None;
    let first = timed(&mut || before = evidence::before((top, top), &[], &dir.join("scratch"), &means).ok());
    let before = before.expect("a look");
    let second = timed(&mut || assert!(!before.after().expect("a look").changed));
    let changed = list.lines().next().expect("a file");
    std::fs::write(top.join(changed), format!("round {round}\n")).expect("a file");
    let changed = timed(&mut || assert_eq!(before.after().expect("a look").files_total, 1));
    let status = timed(&mut || assert!(git(top, &["status"]).status().expect("git").success()));
    let all = ["status", "--untracked-files=all"];
    let all = timed(&mut || assert!(git(top, &all).status().expect("git").success()));
    std::thread::sleep(Duration::from_millis(1_100));
    [hash, first, second, changed, status, all]
}
