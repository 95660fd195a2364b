//! What a person is told of a run: a terminal that shows what is over, a line that wraps, a hint that leads nowhere.

use std::fs::File;
use std::io::Read;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use rustix::termios::{Winsize, tcsetwinsize};

use crate::checkout::{CHECK, Checkout, FAILS, MENDS, WAITS};
use crate::support::eventually;

/// What a terminal of so many columns shows at the end; a line that wraps fails.
fn screen(written: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut rest = written;
    while let Some(c) = rest.chars().next() {
        let line = lines.last_mut().unwrap();
        if let Some(behind) = rest.strip_prefix("\r\u{1b}[K") {
            line.clear();
            rest = behind;
        } else if let Some(behind) = rest.strip_prefix("\r\n") {
            lines.push(String::new());
            rest = behind;
        } else {
            assert!(!c.is_control(), "{rest:?}");
            line.push(c);
            // Lines for good may be longer, those that are rewritten may not.
            assert!(line.starts_with("engine: ") || line.chars().count() < columns, "{line:?}");
            rest = &rest[c.len_utf8()..];
        }
    }
    lines
}

/// Runs with standard error on a terminal of 60 columns; gives what was written to it before the edit went on, and in all.
fn on_terminal(checkout: &Checkout, more: &[&str], term: &str, wait_for: &str) -> (String, String) {
    let pty = engine::for_tests::open_terminal().unwrap();
    tcsetwinsize(&pty.engine, Winsize { ws_row: 20, ws_col: 60, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    let args = ["run", "--run", "r", "--task", "mend", "--files", "calc.py", "--tool", "ed", "--test", CHECK];
    let args: Vec<&str> = args.iter().chain(more).copied().collect();
    let mut command = checkout.command(&args, &format!("{WAITS}; {MENDS}"));
    command.env("TERM", term).stdout(Stdio::null()).stderr(pty.tool);
    let mut child = command.spawn().unwrap();
    // It holds the other end of the terminal.
    drop(command);
    let written = Arc::new(Mutex::new(Vec::new()));
    let (mut engine, into) = (File::from(pty.engine), written.clone());
    let reader = std::thread::spawn(move || {
        let mut piece = [0; 4096];
        // The end is an error of the terminal.
        while let Ok(count @ 1..) = engine.read(&mut piece) {
            into.lock().unwrap().extend_from_slice(&piece[..count]);
        }
    });
    let text = || String::from_utf8_lossy(&written.lock().unwrap()).into_owned();
    eventually("the edit has begun", || checkout.out("begun").exists());
    eventually("the terminal shows it", || text().contains(wait_for));
    let before = text();
    std::fs::write(checkout.out("go"), "").unwrap();
    assert!(child.wait().unwrap().success(), "{}", text());
    reader.join().unwrap();
    (before, text())
}

#[test]
fn the_live_line_of_a_terminal_is_rewritten_never_wraps_and_leaves_nothing() {
    let checkout = Checkout::new();
    let (before, all) = on_terminal(&checkout, &[], "xterm", "ws-task  01-edit  ed  0:0");
    let shown = screen(&before, 60);
    assert!(shown.last().unwrap().starts_with("ws-task  01-edit  ed  0:0"), "{shown:?}");
    assert!(shown.iter().any(|line| line.contains("step_started  ws-task  01-edit")), "{shown:?}");
    let shown = screen(&all, 60);
    let (last, lines) = shown.split_last().unwrap();
    assert_eq!(last, "");
    assert!(lines.iter().all(|line| line.starts_with("engine: ")), "{shown:?}");
    assert!(lines.iter().any(|line| line.contains("run_completed")), "{shown:?}");
}

#[test]
fn there_is_no_live_line_where_it_is_not_wanted_or_cannot_be() {
    for (more, term, wait_for) in
        [(&[][..], "dumb", "step_started"), (&["--json"], "xterm", ""), (&["-q"], "xterm", "")]
    {
        let checkout = Checkout::new();
        let (_, all) = on_terminal(&checkout, more, term, wait_for);
        assert!(
            !all.contains('\u{1b}') && !all.replace("\r\n", "").contains('\r'),
            "{more:?} {term}: {all:?}"
        );
    }
}

/// What `runs show` says, and the file of the workstream's job below `jobs/`.
fn shown_and_job_file(checkout: &Checkout, place: &str) -> (String, String) {
    let file = checkout.project.root(&format!("jobs/{place}/r.ws-task.json")).display().to_string();
    (checkout.engine(&["runs", "show", "r"]).exits(0), file)
}

#[test]
fn after_a_violation_the_hints_lead_to_what_was_refused_and_to_the_scope() {
    let checkout = Checkout::new();
    let edit = format!("{MENDS}; echo y >> other.txt");
    let said = checkout.run(&edit, &["--test", CHECK]);
    let (shown, file) = shown_and_job_file(&checkout, "quarantined");
    let reference = "refs/engine/r/ws-task/01";
    let back = format!("git -C {} restore --source={reference} -SW -- .", checkout.worktree().display());
    for line in [
        format!("  put aside    {reference}; back with: {back}\n"),
        format!("next: git show {reference} prints what was refused\n"),
        format!("next: {back} takes it\n"),
        format!("next: to allow it: change `metadata.bundle.files_scope` (`--files`) in {file}\n"),
        "next: engine run --resume r\n".to_owned(),
    ] {
        assert!(shown.contains(&line), "no {line:?} in {shown}");
        assert!(said.err.contains(line.trim()), "no {line:?} in {}", said.err);
    }
    checkout.git(&["show", reference]);
    // As the hint says.
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(
        &file,
        text.replace(r#""files_scope":["calc.py"]"#, r#""files_scope":["calc.py","other.txt"]"#),
    )
    .unwrap();
    let _ = checkout.resume(&edit).exits(0);
    let (shown, _) = shown_and_job_file(&checkout, "done");
    assert!(shown.contains("next: engine runs merge r\n"), "{shown}");
}

#[test]
fn after_a_breaker_and_without_a_change_the_hints_name_the_log_and_the_key() {
    let checkout = Checkout::new();
    let said = checkout.run(FAILS, &["--test", CHECK]);
    let hint = "next: engine log r.ws-task.06-runtime; mend by hand in its worktree\n";
    assert!(
        said.err.contains(hint.trim()) && said.err.contains("next: engine run --resume r"),
        "{}",
        said.err
    );

    let checkout = Checkout::new();
    let said = checkout.run("true", &["--test", CHECK]);
    assert!(
        said.err.contains("next: to allow it: change `metadata.bundle.metadata.allow_no_change` in "),
        "{}",
        said.err
    );
    // The agent tried twice, and the second try is told as one.
    let is_retry = |line: &&str| line.contains("step_started  ws-task  02-edit  retry");
    assert_eq!(said.err.lines().filter(is_retry).count(), 1, "{}", said.err);
}

#[test]
fn a_run_that_is_parked_says_when_and_how_it_goes_on() {
    let checkout = Checkout::new();
    let said = checkout.run("exit 75", &["--tool", "agent", "--test", CHECK, "--park"]);
    let until = checkout.project.record("r.ws-task")["not_before"].as_str().unwrap().to_owned();
    let hint = format!("next: engine work --run r --drain goes on after {until}");
    assert!(said.code == 75 && said.err.contains(&hint), "{}", said.err);
}

#[test]
fn a_patch_names_the_adapter_that_made_it() {
    let checkout = Checkout::new();
    let _ = checkout.run(MENDS, &["--test", CHECK]).exits(0);
    let listed = checkout.engine(&["patches", "list"]).exits(0);
    let words: Vec<&str> = listed.lines().nth(1).unwrap().split_whitespace().take(4).collect();
    assert_eq!(words, ["r.ws-task.01-edit", "committed", "ed", "-"]);
}
