//! Plays one case of a workstream with one tool, and finds out what of it is not as it must be.

pub mod cases;

use std::collections::BTreeSet;
use std::fmt::Write;

use serde_json::{Value, json};

use crate::bench::{BEFORE, Bench, Ended};
use crate::matrix::Outcome;
use crate::play::{GO_ON, end_all, tenths};
use crate::server::{Scenarios, Server};
use crate::tool::{KEY_VARIABLE, Login, Tool, fill};
use crate::{check, ledger};
use cases::{Case, Want};

const RUN: &str = "r";

const WORKSTREAM: &str = "ws-task";

/// The test that the task is about, and one that must not be missed where that is gone.
const TESTS: [(&str, &str); 2] = [
    (
        "tests/test_calc.py",
        "import unittest\n\nfrom calc import add\n\n\nclass Add(unittest.TestCase):\n    def test_add(self):\n        \
         self.assertEqual(add(2, 3), 5)\n",
    ),
    (
        "tests/test_other.py",
        "import unittest\n\n\nclass Other(unittest.TestCase):\n    def test_other(self):\n        \
         self.assertTrue(True)\n",
    ),
];

/// One run of a case.
struct Scene {
    want: Want,
    bench: Bench,
    server: Server,
    problems: Vec<String>,
}

/// Plays a case.
pub fn play(tool: Tool, case: &Case) -> Outcome {
    let mut bench = Bench::new(tool, case.name);
    bench.job_id = format!("{RUN}.{WORKSTREAM}");
    bench.commit(&TESTS);
    let scenario = json!({"jobs": {case.name: (case.replies)(tool)}});
    let server = Server::start(Scenarios::from_value(scenario).unwrap()).unwrap();
    settings(&bench, &server.url(), case);
    let start = bench.git(&["rev-parse", "HEAD"]);
    let task = format!("[[job:{}]] Correct add() in calc.py: it subtracts.", case.name);
    // A compiled module would stay valid after an edit of the same length in the same second.
    let check = "python3 -B -m unittest discover -q -s tests";
    let run = ["run", "--run", RUN, "--task", &task, "--tool", tool.name(), "--test", check];
    let ended = bench.engine(&[&run, case.args].concat());
    let scene = Scene { want: (case.want)(tool), bench, server, problems: Vec::new() };
    scene.conclude(case.name, &start, &ended)
}

/// Points all steps at the server by the settings of the root; the prices are the same for all tools.
fn settings(bench: &Bench, url: &str, case: &Case) {
    let tool = bench.tool;
    let login = if tool == Tool::Claude { case.login } else { Login::Key };
    let mut env = tool.point_at(url, &bench.path("home"), login);
    let more = (case.settings)(tool);
    if let Some((name, value)) = more.env {
        env[name] = json!(value);
    }
    if let Some((file, value)) = more.file {
        fill(&bench.path("home").join(file), &value.to_string());
    }
    let mut text = "[workstreams.env]\n".to_owned();
    for (name, value) in env.as_object().unwrap() {
        let from = format!("{{ from_env = \"{KEY_VARIABLE}\" }}");
        writeln!(text, "{name} = {}", if value.is_string() { value.to_string() } else { from }).unwrap();
    }
    fill(&bench.root("engine.toml"), &text);
    let price = json!({"input_usd_per_million": 3, "output_usd_per_million": 15});
    // What the server of gemini calls its model.
    let models = json!({tool.model(): price, "mock": price});
    let prices = json!({"schema_version": 1, "table": "of the test", "date": "2026-02-05", "source": "the test",
        "models": models});
    fill(&bench.root("prices.json"), &prices.to_string());
}

impl Scene {
    fn conclude(mut self, case: &str, start: &str, ended: &Ended) -> Outcome {
        let left = check::processes_with(self.bench.mark());
        self.problems.extend(left.iter().map(|process| format!("alive after the end: {process}")));
        end_all(&left);
        self.problems.extend(self.server.failures().iter().map(|failure| format!("the server: {failure}")));
        let shown = self.bench.engine(&["runs", "show", RUN, "--json"]);
        let printed = format!("{}{}{}", ended.out, ended.err, shown.out);
        check::no_secret(&self.bench, &printed, &mut self.problems);
        self.check_checkout(start);
        self.check_session();
        let seen = self.compare(ended, &shown);
        let (served, difference) = self.compare_ledger();
        let seconds = tenths(ended.seconds);
        let seconds = format!("{}.{}", seconds / 10, seconds % 10);
        let end = [seconds, self.answered().to_string(), served, difference, left.len().to_string()];
        let mut cells = vec![self.bench.tool.name().to_owned(), case.to_owned()];
        cells.extend(seen.into_iter().chain(end));
        if !self.problems.is_empty() && std::env::var_os("ENGINE_AGENTS_KEEP").is_some() {
            self.problems.push(format!("kept: {}", self.bench.keep().display()));
        }
        Outcome { problems: self.problems, cells, printed }
    }

    /// The cells that the case wants to be what they are, in their order.
    fn compare(&mut self, ended: &Ended, shown: &Ended) -> Vec<String> {
        let workstream = shown.document().unwrap_or_default()["workstreams"][0].clone();
        let attempts = ledger::lines(&self.bench);
        let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        let steps = self.steps(&workstream, &attempts);
        let want = &self.want;
        let cells = [
            ("status", text(&workstream["status"]), want.status),
            ("reason", text(&workstream["reason"]["code"]), want.reason),
            ("exit status", ended.exit.to_string(), &want.exit.to_string()),
            ("list of steps", steps, want.steps),
            ("list of commits", self.branch(), want.branch),
            ("list of what was put aside", self.aside(), want.aside),
            ("session", session(&attempts), want.session),
        ];
        let calc = self.bench.git(&["show", &format!("engine/{RUN}/{WORKSTREAM}:calc.py")]);
        for (what, is, should) in cells.iter().chain([&("calc.py", calc, want.calc)]) {
            if is != should {
                self.problems.push(format!("the {what} is `{is}`, not `{should}`"));
            }
        }
        cells.map(|(_, is, _)| is).to_vec()
    }

    /// What belongs to the user is as it was.
    fn check_checkout(&mut self, start: &str) {
        let git = |args: &[&str]| self.bench.git(args);
        let is_as_before = git(&["rev-parse", "HEAD"]) == start
            && git(&["symbolic-ref", "HEAD"]) == "refs/heads/main"
            && git(&["status", "--porcelain"]).is_empty()
            && self.bench.calc() == BEFORE;
        git(&["fsck", "--strict"]);
        if !is_as_before {
            self.problems.push("the checkout is not as it was".to_owned());
        }
    }

    /// The names of the steps, in order, each with the number of its attempts if it had more than one.
    fn steps(&mut self, workstream: &Value, attempts: &[Value]) -> String {
        check::record(&self.bench, &self.bench.job_id, &mut self.problems);
        let mut names = Vec::new();
        for step in workstream["steps"].as_array().unwrap_or(&Vec::new()) {
            let job = step["job_id"].as_str().unwrap_or_default();
            check::record(&self.bench, job, &mut self.problems);
            let name = job.rsplit('.').next().unwrap_or_default();
            names.push(match attempts.iter().filter(|line| line["job_id"] == job).count() {
                0 | 1 => name.to_owned(),
                count => format!("{name} ×{count}"),
            });
        }
        names.join(" ")
    }

    fn branch(&self) -> String {
        let format = "--format=%(trailers:key=Engine-Step,valueonly)";
        let range = format!("main..engine/{RUN}/{WORKSTREAM}");
        let steps = self.bench.git(&["log", "--reverse", format, &range]);
        joined(steps.lines().filter_map(|line| line.strip_prefix(&format!("{WORKSTREAM}/"))))
    }

    fn aside(&self) -> String {
        let refs = format!("refs/engine/{RUN}/{WORKSTREAM}");
        let found = self.bench.git(&["for-each-ref", "--format=%(refname:lstrip=4)", &refs]);
        joined(found.lines().filter(|name| *name != "head"))
    }

    /// A tool that can go on with its session was asked to.
    fn check_session(&mut self) {
        let requests = self.server.requests();
        let refused = requests.iter().rposition(|request| request.status == Some(429));
        let Some(refused) = refused.filter(|_| self.want.session == "same") else { return };
        if !requests.get(refused + 1).is_some_and(|request| request.body.contains(GO_ON)) {
            self.problems.push("the session was not asked to go on".to_owned());
        }
    }

    /// How many requests got an answer; one that is refused again and again counts once.
    fn answered(&self) -> usize {
        let requests = self.server.requests();
        let ordinals: BTreeSet<_> =
            requests.iter().filter(|request| request.status.is_some()).map(|it| it.ordinal).collect();
        ordinals.len()
    }

    /// What was served, and how many tokens the ledger differs from it.
    fn compare_ledger(&mut self) -> (String, String) {
        let served = ledger::served(&self.server.requests());
        let (told, tells_cached, _) = ledger::told(&self.bench);
        let told = told.unwrap_or_default();
        let cached = if tells_cached { told.cached.abs_diff(served.cached) } else { 0 };
        let difference = told.input.abs_diff(served.input) + told.output.abs_diff(served.output) + cached;
        if difference > 0 {
            self.problems.push(format!("the ledger has {told}, but {served} were served"));
        }
        (served.to_string(), difference.to_string())
    }
}

fn joined<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let words: Vec<&str> = words.collect();
    if words.is_empty() { "-".to_owned() } else { words.join(" ") }
}

/// Whether the second attempt of a step has the session of the first; `-` without a second attempt.
fn session(attempts: &[Value]) -> String {
    let Some(second) = attempts.iter().find(|line| line["attempt"] == 2) else { return "-".to_owned() };
    let first = attempts.iter().find(|line| line["job_id"] == second["job_id"] && line["attempt"] == 1);
    let is_same =
        second["session_id"].is_string() && first.is_some_and(|it| it["session_id"] == second["session_id"]);
    if is_same { "same" } else { "new" }.to_owned()
}
