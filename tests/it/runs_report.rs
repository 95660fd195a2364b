//! `engine runs report`: text of a record becomes markup, a report is too long for its place, or a reader of its format cannot
//! read it.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::checkout::Checkout;
use crate::support::{Said, not_run};

/// A check whose name is markup in each format, and which fails where `bad.txt` is.
const HOSTILE: &str =
    "test ! -e bad.txt # <script>alert(1)</script> | `@someone` #1 ]]> [a](http://example.org) \u{202e}";

/// One that has succeeded, one that has failed, and one that depends on that.
fn run() -> Checkout {
    let checkout = Checkout::new();
    for (id, file, depends_on) in
        [("ws-good", "good.txt", None), ("ws-bad", "bad.txt", None), ("ws-needs", "n.txt", Some("ws-bad"))]
    {
        let bundle = json!({"id": id, "openspec_change": "-", "ccpm_issue": 0, "gate": 1, "files_scope": [file],
            "tasks": ["write"], "tool": "ed", "depends_on": Vec::from_iter(depends_on)});
        std::fs::create_dir_all(checkout.out("bundles")).unwrap();
        std::fs::write(checkout.out("bundles").join(format!("{id}.json")), bundle.to_string()).unwrap();
    }
    let bundles = checkout.out("bundles").display().to_string();
    let writes = "f=${ENGINE_WORKSTREAM_ID#ws-}.txt; echo $ENGINE_STEP_NUMBER > $f";
    checkout.engine_editing(&["run", "--run", "r", &bundles, "--check", HOSTILE], writes).exits(1);
    checkout
}

fn report(checkout: &Checkout, format: &str) -> String {
    checkout.engine(&["runs", "report", "r", "--format", format]).exits(0)
}

/// What a program in Python prints, which gets the text on its standard input; none where a package is missing.
fn python(package: &str, program: &str, text: &str) -> Option<String> {
    let has = |what: &str| {
        let mut command = Command::new("python3");
        let said = command.args(["-c", &format!("import {what}")]).stderr(Stdio::null()).status();
        said.is_ok_and(|status| status.success())
    };
    if !has(package) {
        not_run(&format!("there is no {package} of Python"));
        return None;
    }
    let mut command = Command::new("python3");
    let command = command.args(["-c", program]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let said = child.wait_with_output().unwrap();
    assert!(said.status.success(), "{text}");
    Some(String::from_utf8(said.stdout).unwrap())
}

#[test]
fn a_report_says_the_worst_first_in_every_format_and_nothing_of_a_record_becomes_markup() {
    let checkout = run();
    let text = report(&checkout, "text");
    let rows: Vec<Vec<&str>> = text
        .lines()
        .filter(|line| !line.starts_with(' '))
        .map(|line| line.split_whitespace().take(2).collect())
        .collect();
    let rows: Vec<&[&str]> =
        rows.iter().map(Vec::as_slice).filter(|row| row.len() == 2 && row[1].starts_with("ws-")).collect();
    assert_eq!(rows, [["failed", "ws-bad"], ["blocked", "ws-needs"], ["succeeded", "ws-good"]], "{text}");
    assert!(text.contains("workstreams  1 succeeded, 1 blocked, 1 failed"), "{text}");

    let shown = checkout.shown().0;
    assert_eq!(serde_json::from_str::<Value>(&report(&checkout, "json")).unwrap(), shown);

    let markdown = report(&checkout, "md");
    let rows =
        |status: &str| markdown.lines().filter(|line| line.starts_with(&format!("| {status} |"))).count();
    assert_eq!([rows("failed"), rows("blocked"), rows("succeeded")], [1; 3], "{markdown}");
    assert!(!markdown.contains('\u{202e}'));
    let program = "import sys; from markdown_it import MarkdownIt\n\
        print(MarkdownIt('commonmark', {'html': True}).enable('table').render(sys.stdin.read()))";
    if let Some(page) = python("markdown_it", program, &markdown) {
        assert_eq!(page.matches("<tr>").count(), 4, "{page}");
        assert!(
            page.contains("&lt;script&gt;") && !page.contains("<script") && !page.contains("<a "),
            "{page}"
        );
    }

    let program = "import sys, json; from junitparser import JUnitXml, Failure, Skipped\n\
        suites = list(JUnitXml.fromstring(sys.stdin.read().encode()))\n\
        print(json.dumps([[s.name, s.tests, s.failures, s.errors, s.skipped,\n\
            [[c.name, type(c.result[0]).__name__ if c.result else None] for c in s]] for s in suites]))";
    if let Some(read) = python("junitparser", program, &report(&checkout, "junit")) {
        let read: Value = serde_json::from_str(&read).unwrap();
        let cases = json!([["ws-bad", "Failure"], ["ws-needs", "Skipped"], ["ws-good", null]]);
        assert_eq!(read[0], json!(["workstreams", 3, 1, 0, 1, cases]));
        assert_eq!(read[1][5][0], json!(["integration", "Failure"]));
    }
}

/// What the script says of a page; none where there is no browser.
fn in_browser(page: &str) -> Option<Value> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/browser");
    let is_there =
        Command::new("chromium").arg("--version").output().is_ok() && dir.join("node_modules").is_dir();
    if !is_there && std::env::var_os("ENGINE_BROWSER_ABSENT").is_some() {
        // Past the capture of the test's output.
        let _ = writeln!(std::io::stderr(), "not run: a page in a browser: there is none to install");
        return None;
    }
    if !is_there {
        not_run("tests/browser/install.sh has installed no browser");
        return None;
    }
    let file = tempfile::Builder::new().suffix(".html").tempfile().unwrap();
    std::fs::write(file.path(), page).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/page.mjs");
    let said = Command::new("node").arg(script).arg(dir).arg(file.path()).output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    Some(serde_json::from_slice(&said.stdout).unwrap())
}

#[test]
fn the_page_loads_nothing_and_runs_nothing_in_a_real_browser_and_everybody_can_read_it() {
    let checkout = run();
    let page = report(&checkout, "html");
    assert!(!page.contains("<script") && page.contains("&lt;script&gt;"), "{page}");
    let Some(seen) = in_browser(&page) else { return };
    let want = json!({"title": "r: failed", "requests": [], "said": [], "scripts": 0, "foreign": 0, "fits": true, "violations": []});
    assert_eq!(seen, want);
}

#[test]
fn a_run_that_works_still_and_one_that_is_not_there_are_reported_as_they_are() {
    let checkout = Checkout::new();
    let nothing: Said = checkout.engine(&["runs", "report", "r"]);
    assert_eq!(nothing.code, 1, "{}", nothing.err);
    let args = [
        "run", "--run", "r", "--detach", "--task", "t", "--files", "calc.py", "--tool", "ed", "--check",
        "true",
    ];
    checkout.engine(&args).exits(0);
    for format in ["text", "md", "html", "json", "junit"] {
        assert!(report(&checkout, format).contains("ws-task"), "{format}");
    }
    assert!(report(&checkout, "junit").contains("<error message=\"pending\""));
}
