//! Plays one case with one tool, and finds out what of it is as it must be.

use std::process::Child;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::bench::{BEFORE, Bench, CANARY, Ended};
use crate::cases::{Case, Deed, Want};
use crate::matrix::Outcome;
use crate::server::{Scenarios, Server};
use crate::tool::{Login, Tool};
use crate::{check, ledger};

/// Nothing listens there, and no free port is ever given out there.
const NOBODY: &str = "http://127.0.0.1:28999";

/// Longest run of a case that is no hang.
const LONGEST_SECONDS: f64 = 90.0;

/// The beginning of what the engine says to a session that goes on.
pub const GO_ON: &str = "You were interrupted";

/// A line of the table.
struct Row {
    tool: String,
    case: String,
    class: String,
    outcome: String,
    exit: i32,
    changed: String,
    tenths: u64,
    /// How many; `several` where the engine ended a tool that tried again and again, in its own rhythm.
    requests: String,
    served: String,
    told: String,
    left: usize,
}

impl Row {
    /// The cells, in the order of the table.
    fn cells(&self) -> Vec<String> {
        let Self { tool, case, class, outcome, exit, changed, tenths, requests, served, told, left } = self;
        let seconds = format!("{}.{}", tenths / 10, tenths % 10);
        [
            tool,
            case,
            class,
            outcome,
            &exit.to_string(),
            changed,
            &seconds,
            requests,
            served,
            told,
            &left.to_string(),
        ]
        .map(String::clone)
        .to_vec()
    }
}

/// One run of a case.
struct Scene<'a> {
    case: &'a Case,
    want: Want,
    bench: Bench,
    server: Server,
    problems: Vec<String>,
}

/// Plays a case.
pub fn play(tool: Tool, case: &Case) -> Outcome {
    let bench = Bench::new(tool, case.name);
    let scenario = json!({"jobs": {case.name: (case.replies)(tool)}});
    let server = Server::start(Scenarios::from_value(scenario).unwrap()).unwrap();
    let url = if case.is_served { server.url() } else { NOBODY.to_owned() };
    let login = if tool == Tool::Claude { case.login } else { Login::Key };
    let file = bench.job(case.name, &url, login, &case.metadata, (case.args)(tool));
    let mut scene = Scene { case, want: (case.want)(tool), bench, server, problems: Vec::new() };
    let run = ["run-job", "--job-file", file.to_str().unwrap(), "--json"];
    let ended = match case.deed {
        Deed::Nothing => scene.bench.engine(&run),
        Deed::Term => scene.signaled(&run, Signal::TERM),
        Deed::Kill => scene.killed(&run),
        Deed::Resume => scene.resumed(&run),
    };
    scene.conclude(&ended)
}

impl Scene<'_> {
    /// Sends a signal to the engine when the first edit is made and the next request waits.
    fn signaled(&mut self, run: &[&str], signal: Signal) -> Ended {
        let (mut is_sent, mut alive) = (false, 0);
        let ended = self.bench.engine_with(run, &mut |engine: &Child| {
            if !is_sent && self.server.requests().len() > 1 && self.bench.calc() != BEFORE {
                alive = check::processes_with(self.bench.mark()).len();
                let pid = Pid::from_raw(i32::try_from(engine.id()).unwrap()).unwrap();
                kill_process(pid, signal).unwrap();
                is_sent = true;
            }
        });
        if !is_sent {
            self.problems.push("it ended before the signal".to_owned());
        } else if alive < 2 {
            self.problems.push("the engine and its tool are not found while they run".to_owned());
        }
        ended
    }

    fn killed(&mut self, run: &[&str]) -> Ended {
        let ended = self.signaled(run, Signal::KILL);
        let recovered = self.bench.engine(&["recover"]);
        if recovered.exit != 0 {
            self.problems.push(format!("`engine recover` exits with {}: {}", recovered.exit, recovered.err));
        }
        ended
    }

    /// Runs the job until it is parked, and claims it when its time has come.
    fn resumed(&mut self, run: &[&str]) -> Ended {
        let first = self.bench.engine(run);
        let told = first.document().unwrap_or_default();
        if first.exit != 75 || told["outcome"] != "parked" || told["metadata"]["class"] != "quota" {
            self.problems.push(format!("the first run is not parked for its quota: {} {told}", first.exit));
            return first;
        }
        let before = self.server.requests().len();
        let claim = ["run-job", "--claim", &self.bench.job_id.clone(), "--json"];
        let until = Instant::now() + Duration::from_secs(80);
        let mut second = loop {
            let ended = self.bench.engine(&claim);
            let waits = ended.document().is_some_and(|told| told["reason"]["code"] == "waiting_time");
            if !waits || Instant::now() > until {
                break ended;
            }
            std::thread::sleep(Duration::from_millis(200));
        };
        let sessions =
            [told, second.document().unwrap_or_default()].map(|told| told["metadata"]["session_id"].clone());
        if !sessions[0].is_string() || sessions[0] != sessions[1] {
            self.problems.push(format!("it did not go on with its session: {sessions:?}"));
        }
        let requests = self.server.requests();
        if !requests.get(before).is_some_and(|request| request.body.contains(GO_ON)) {
            self.problems.push("the session was not asked to go on".to_owned());
        }
        second.seconds += first.seconds;
        second
    }

    fn conclude(mut self, ended: &Ended) -> Outcome {
        let left = check::processes_with(self.bench.mark());
        for process in &left {
            self.problems.push(format!("alive after the end: {process}"));
        }
        end_all(&left);
        for failure in self.server.failures() {
            self.problems.push(format!("the server: {failure}"));
        }
        let printed = format!("{}{}", ended.out, ended.err);
        check::record(&self.bench, &self.bench.job_id, &mut self.problems);
        check::no_secret(&self.bench, &printed, &mut self.problems);
        let row = Row { left: left.len(), ..self.row(ended) };
        self.compare(ended, &row);
        self.look_closer(ended);
        if !self.problems.is_empty() && std::env::var_os("ENGINE_AGENTS_KEEP").is_some() {
            let dir = self.bench.keep();
            self.problems.push(format!("kept: {}", dir.display()));
        }
        Outcome { problems: self.problems, cells: row.cells(), printed }
    }

    fn row(&self, ended: &Ended) -> Row {
        let record: Value =
            self.bench.record().last().and_then(|line| serde_json::from_str(line).ok()).unwrap_or_default();
        let last = record["attempts"].as_array().and_then(|all| all.last()).cloned().unwrap_or_default();
        let metadata = &record["result"]["metadata"];
        let class = [&metadata["class"], &last["reason"]["code"]].into_iter().find_map(Value::as_str);
        let (told, ..) = ledger::told(&self.bench);
        Row {
            tool: self.bench.tool.name().to_owned(),
            case: self.case.name.to_owned(),
            class: class.unwrap_or("-").to_owned(),
            outcome: last["outcome"].as_str().unwrap_or("-").to_owned(),
            exit: ended.exit,
            changed: match metadata["evidence"]["changed"].as_bool() {
                Some(true) => "yes",
                Some(false) => "no",
                None => "-",
            }
            .to_owned(),
            tenths: tenths(ended.seconds),
            requests: match self.server.requests().len() {
                2.. if metadata["ended_by_engine"] == true => "several".to_owned(),
                count => count.to_string(),
            },
            served: ledger::served(&self.server.requests()).to_string(),
            told: told.map_or_else(|| "-".to_owned(), |sum| sum.to_string()),
            left: 0,
        }
    }

    /// What the case itself wants.
    fn compare(&mut self, ended: &Ended, row: &Row) {
        let want = &self.want;
        let changed = want.changed.map_or("-", |changed| if changed { "yes" } else { "no" });
        let mut differ = |what: &str, is: String, should: String| {
            if is != should {
                self.problems.push(format!("{what} is `{is}`, not `{should}`"));
            }
        };
        differ("outcome", row.outcome.clone(), want.outcome.to_owned());
        differ("class", row.class.clone(), want.class.to_owned());
        differ("exit status", ended.exit.to_string(), want.exit.to_string());
        differ("changed", row.changed.clone(), changed.to_owned());
        let is_changed = self.bench.calc() != BEFORE;
        differ("a change in the file", is_changed.to_string(), want.changed.unwrap_or(true).to_string());
        if let Some(told) = ended.document() {
            let outcome = told["outcome"].as_str().unwrap_or("-");
            differ("the printed outcome", outcome.to_owned(), row.outcome.clone());
        } else if self.case.deed != Deed::Kill {
            self.problems.push("no document was printed".to_owned());
        }
        if self.case.name != "hang" && ended.seconds > LONGEST_SECONDS {
            self.problems.push(format!("it took {:.0} s", ended.seconds));
        }
        self.compare_ledger();
    }

    fn compare_ledger(&mut self) {
        let served = ledger::served(&self.server.requests());
        let (told, tells_cached, attempts) = ledger::told(&self.bench);
        let expected_attempts = match self.case.deed {
            Deed::Resume => 2,
            Deed::Nothing | Deed::Term | Deed::Kill => 1,
        };
        if attempts != expected_attempts {
            self.problems.push(format!("the ledger has {attempts} attempts, not {expected_attempts}"));
        }
        match told {
            Some(told) => {
                let cached = if tells_cached { served.cached } else { 0 };
                if told != (ledger::Sum { cached, ..served }) {
                    self.problems.push(format!("the ledger has {told}, but {served} were served"));
                }
            }
            None if served.input > 0 => {
                self.problems.push(format!("the ledger has no tokens, but {served} were served"));
            }
            None => {}
        }
    }

    /// What only one case is about.
    fn look_closer(&mut self, ended: &Ended) {
        let told = ended.document().unwrap_or_default();
        let reset = told["metadata"]["reset_at"].as_str().unwrap_or("-");
        // The server's time is 1900000000; codex tells no seconds, gemini no time.
        let tells_time = match self.bench.tool {
            Tool::Claude => reset == "2030-03-17T17:46:40.000Z",
            Tool::Codex => reset == "2030-03-17T17:46:00.000Z",
            Tool::Aider => reset != "-",
            Tool::Gemini => true,
        };
        if self.case.name == "quota" && !tells_time {
            self.problems.push(format!("the time of its end is `{reset}`"));
        }
        let answered = || self.server.requests().iter().skip(1).any(|request| request.body.contains(CANARY));
        if self.case.name == "detached" && !answered() {
            self.problems.push("the command did not show the key, so that nothing was tested".to_owned());
        }
        // Codex ends the processes of its commands itself.
        let ended_by_engine = told["metadata"]["left_over_processes"].as_u64().unwrap_or(0);
        if self.case.name == "detached" && self.bench.tool == Tool::Claude && ended_by_engine == 0 {
            self.problems.push("no process was left, so that nothing was tested".to_owned());
        }
    }
}

/// Ends what should not be there any more, by its pid.
pub fn end_all(left: &[String]) {
    for process in left {
        let pid = process.split(' ').next().and_then(|pid| pid.parse().ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "seconds of a test are few")]
pub fn tenths(seconds: f64) -> u64 {
    (seconds * 10.0).round() as u64
}
