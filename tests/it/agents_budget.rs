//! What agents may spend: nothing starts that may not, what runs is ended in time, and what waited is not counted twice.

use serde_json::{Value, json};

use crate::fake_agent::{BEFORE, EDIT, Fakes, TOOLS, case, ends, ends_as, side_file};
use crate::support::eventually;

const SESSION: &str = "01a1ff11-b4df-7963-9a98-4b694edd5a24";

/// A line of codex's file of its session: so much was used by now.
fn count(input: u64, output: u64) -> Value {
    let usage = json!({"input_tokens": input, "cached_input_tokens": 0, "output_tokens": output});
    json!({"type": "event_msg", "payload": {"type": "token_count", "info": {"total_token_usage": usage}}})
}

/// Codex that runs until it is ended, while its session file tells more and more.
fn spends(model: &str) -> String {
    let file = side_file("codex", SESSION);
    let context = json!({"type": "turn_context", "payload": {"model": model}});
    let line = count(7_654_321, 1000).to_string().replace("7654321", "'$input'");
    format!(
        "mkdir -p \"$(dirname \"{file}\")\"; echo '{context}' > \"{file}\"; input=2000; echo '{line}' >> \"{file}\"\n\
         echo '{{\"type\":\"thread.started\",\"thread_id\":\"{SESSION}\"}}'; echo '{{\"type\":\"turn.started\"}}'\n\
         while :; do input=$((input + 2000)); echo '{line}' >> \"{file}\"; sleep 0.2; done\n"
    )
}

fn retries() -> Value {
    json!({"max_retries": 3, "retry_policy": "retry_same", "backoff": {"strategy": "immediate"}})
}

fn with(mut metadata: Value, key: &str, value: Value) -> Value {
    metadata[key] = value;
    metadata
}

/// A success of each tool uses between 1,280 and 4,160 tokens.
fn ready() -> Fakes {
    let fakes = Fakes::new();
    for (tool, _) in TOOLS {
        fakes.play(tool, &fakes.replay(&case(tool, "success"), EDIT));
    }
    fakes
}

#[test]
fn a_job_that_used_up_its_tokens_gets_no_other_attempt() {
    for (tool, _) in TOOLS {
        let fakes = Fakes::new();
        fakes.play(tool, &fakes.replay(&case(tool, "bad_edit"), ""));
        let metadata = with(retries(), "max_tokens", json!(1000));
        let said = fakes.run(&Fakes::job("a", tool, &metadata));
        ends_as(&said, 125, "not_started", "budget_exceeded");
        let record = fakes.project.record("a");
        let outcomes: Vec<&str> = record["attempts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|attempt| attempt["outcome"].as_str().unwrap())
            .collect();
        assert_eq!((outcomes, fakes.runs(tool)), (vec!["failed", "not_started"], 1), "{tool}");
        let message = record["result"]["reason"]["message"].as_str().unwrap();
        assert!(message.contains("of 1000 tokens") && message.contains("job"), "{message}");
        assert_eq!(fakes.project.places("a"), ["quarantined"]);
    }
}

#[test]
fn a_budget_of_zero_starts_nothing() {
    let fakes = ready();
    for (key, value) in [("max_tokens", json!(0)), ("max_cost_usd", json!(0))] {
        let job = Fakes::job("a", "claude", &json!({ key: value }));
        ends_as(&fakes.run(&job), 125, "not_started", "budget_exceeded");
    }
    assert_eq!(fakes.runs("claude"), 0);
}

#[test]
fn an_agent_that_spends_too_much_is_ended_while_it_runs() {
    for (model, limit, words) in [
        ("gpt-5", json!({"max_cost_usd": 0.02}), "USD"),
        ("of-nobody", json!({"max_tokens": 9000}), "of 9000 tokens"),
    ] {
        let fakes = Fakes::playing("codex", &spends(model));
        let job = Fakes::job(
            "a",
            "codex",
            &with(with(limit, "timeout_seconds", json!(60)), "max_retries", json!(2)),
        );
        let result = ends_as(&fakes.run(&job), 1, "failed", "budget_exceeded");
        let message = result["reason"]["message"].as_str().unwrap();
        assert!(message.contains(words) && message.contains("budget of the job"), "{message}");
        assert!(result["duration_s"].as_f64().unwrap() < 20.0, "{result}");
        assert_eq!(fakes.runs("codex"), 1);
        let lines = fakes.ledger();
        assert_eq!(lines.len(), 1);
        assert_eq!(
            (&lines[0]["reason_code"], &lines[0]["model"]),
            (&json!("budget_exceeded"), &json!(model))
        );
        assert!(lines[0]["input_tokens"].as_u64().unwrap() >= 6000, "{lines:?}");
        assert_eq!(lines[0]["computed_cost_usd"].is_null(), model == "of-nobody", "{lines:?}");
    }
}

#[test]
fn tokens_of_a_session_before_its_wait_are_not_spent_a_second_time() {
    // 3,000 before the wait and 2,000 after it are within 6,000; 3,000 and all 5,000 of the session are not.
    let fakes = Fakes::new();
    let file = side_file("codex", SESSION);
    let tell = |line: &Value| format!("mkdir -p \"$(dirname \"{file}\")\"; echo '{line}' >> \"{file}\"\n");
    let thread = format!("echo '{{\"type\":\"thread.started\",\"thread_id\":\"{SESSION}\"}}'\n");
    let failed =
        json!({"type": "turn.failed", "error": {"message": "usage limit reached, try again in 1 second"}});
    fakes.play_in_run("codex", 1, &format!("{thread}{}echo '{failed}'; exit 1\n", tell(&count(2900, 100))));
    let message =
        json!({"type": "item.completed", "item": {"type": "agent_message", "id": "i", "text": "Done."}});
    let completed = json!({"type": "turn.completed", "usage": {"input_tokens": 4800, "output_tokens": 200, "cached_input_tokens": 0}});
    // Long enough for the budget to be looked at.
    let second = format!(
        "{thread}{EDIT}{}sleep 3; echo '{message}'; echo '{completed}'; exit 0\n",
        tell(&count(4800, 200))
    );
    fakes.play_in_run("codex", 2, &second);
    ends_as(&fakes.run(&Fakes::job("a", "codex", &json!({"max_tokens": 6000}))), 75, "parked", "quota");
    eventually("the job has ended", || {
        let _ = fakes.engine(&["work", "--drain", "-q"]);
        fakes.project.record("a")["status"] != "queued"
    });
    let record = fakes.project.record("a");
    assert_eq!(record["status"], "succeeded", "{:#}", record["result"]);
    assert!(fakes.given("codex", "argv", 2).contains(SESSION));
    let told: Vec<_> = fakes.ledger().iter().map(|line| line["input_tokens"].as_u64()).collect();
    assert_eq!(told, [Some(2900), Some(1900)]);
}

fn settings(fakes: &Fakes, budget: &str) {
    let path = fakes.project.root("engine.toml");
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let text = text.split("[budget]").next().unwrap();
    std::fs::write(&path, format!("{text}[budget]\n{budget}\n")).unwrap();
}

fn warnings(result: &Value) -> String {
    result["metadata"]["budget_warnings"].to_string()
}

#[test]
fn a_budget_of_the_root_that_only_warns_warns_and_no_more() {
    let fakes = ready();
    settings(&fakes, "max_tokens = 1000\nmode = \"warn\"");
    for id in ["a", "b"] {
        fakes.write("repo/calc.py", BEFORE);
        let mut job = Fakes::job(id, "codex", &json!({}));
        job["run_id"] = json!("nightly");
        let result = ends_as(&fakes.run(&job), 0, "succeeded", "ok");
        assert!(warnings(&result).contains("of 1000 tokens"), "{result:#}");
        assert!(warnings(&result).contains("budget of the run"), "{result:#}");
    }
    assert_eq!(fakes.runs("codex"), 2);
    let fakes = Fakes::playing("codex", &spends("gpt-5"));
    settings(&fakes, "max_tokens = 1000\nmode = \"warn\"");
    ends_as(
        &fakes.run(&Fakes::job("a", "codex", &json!({"timeout_seconds": 3}))),
        124,
        "timed_out",
        "timed_out",
    );
}

#[test]
fn a_run_that_used_up_its_budget_starts_no_other_job_and_other_runs_go_on() {
    let fakes = ready();
    settings(&fakes, "max_tokens = 5000");
    let run = |id: &str, run_id: Option<&str>, code: i32| {
        fakes.write("repo/calc.py", BEFORE);
        let mut job = Fakes::job(id, "codex", &json!({}));
        if let Some(run_id) = run_id {
            job["run_id"] = json!(run_id);
        }
        ends(&fakes.run(&job), code)
    };
    // 2,720 tokens each.
    assert_eq!(warnings(&run("a", Some("nightly"), 0)), "null");
    assert!(warnings(&run("b", Some("nightly"), 0)).contains("used up: 5440 of 5000 tokens"));
    let result = run("c", Some("nightly"), 125);
    assert_eq!(result["reason"]["code"], "budget_exceeded");
    assert!(result["reason"]["message"].as_str().unwrap().contains("run"), "{result:#}");
    assert_eq!(fakes.runs("codex"), 2);
    // Another run, and jobs that are a run each.
    run("d", Some("weekly"), 0);
    run("e", None, 0);
    run("f", None, 0);
    assert_eq!(fakes.runs("codex"), 5);
}

#[test]
fn a_running_agent_is_ended_by_the_budget_of_its_run() {
    let fakes = Fakes::playing("codex", &spends("gpt-5"));
    settings(&fakes, "max_tokens = 9000\nmode = \"halt\"");
    let job = Fakes::job("a", "codex", &json!({"timeout_seconds": 60}));
    let result = ends_as(&fakes.run(&job), 1, "failed", "budget_exceeded");
    assert!(result["reason"]["message"].as_str().unwrap().contains("budget of the run"), "{result:#}");
}

#[test]
fn four_fifths_of_a_budget_are_a_warning() {
    let fakes = ready();
    // 2,720 tokens.
    for (limit, warns) in [(3401, false), (3400, true)] {
        fakes.write("repo/calc.py", BEFORE);
        let job = Fakes::job(&format!("j{limit}"), "codex", &json!({"max_tokens": limit}));
        let result = ends_as(&fakes.run(&job), 0, "succeeded", "ok");
        assert_eq!(warnings(&result).contains("nearly used up"), warns, "{limit}: {}", warnings(&result));
    }
}

#[test]
fn what_a_tool_does_not_tell_is_said_and_not_taken_for_nothing() {
    let fakes = Fakes::new();
    fakes.play("aider", &fakes.replay(&case("aider", "output_limit"), ""));
    let job = Fakes::job("a", "aider", &json!({"max_tokens": 1_000_000, "max_cost_usd": 5}));
    let result = ends_as(&fakes.run(&job), 1, "failed", "failed");
    assert!(warnings(&result).contains("tokens of 1 attempt is unknown"), "{result:#}");
    assert_eq!(result["metadata"]["tokens"]["input_tokens"], Value::Null);
    // The price of a model that nobody knows.
    fakes.play("codex", &fakes.replay(&case("codex", "success"), EDIT));
    let result = ends(&fakes.run(&Fakes::job("b", "codex", &json!({"max_cost_usd": 5}))), 0);
    assert!(warnings(&result).contains("cost of 1 attempt is unknown"), "{result:#}");
    assert_eq!(result["metadata"]["computed_cost_usd"], Value::Null);
}

#[test]
fn engine_usage_adds_up_what_the_attempts_told() {
    let fakes = ready();
    for (tool, _) in TOOLS {
        fakes.write("repo/calc.py", BEFORE);
        let mut job = Fakes::job(tool, tool, &json!({}));
        job["run_id"] = json!("nightly");
        ends(&fakes.run(&job), 0);
    }
    let said = fakes.engine(&["usage", "--by", "tool", "--json"]);
    assert_eq!(said.code, 0, "{}", said.err);
    let want: u64 = fakes
        .ledger()
        .iter()
        .map(|line| line["input_tokens"].as_u64().unwrap() + line["output_tokens"].as_u64().unwrap())
        .sum();
    // aider 1,280, claude 2,600 and 1,000 cached and 120, codex and gemini 2,720.
    assert_eq!(want, 1280 + 3720 + 2720 + 2720);
    let document = said.json();
    let rows = document["rows"].as_array().unwrap();
    let told: u64 = rows
        .iter()
        .map(|row| row["input_tokens"].as_u64().unwrap() + row["output_tokens"].as_u64().unwrap())
        .sum();
    assert_eq!((rows.len(), told), (4, want), "{document:#}");
}

#[test]
fn an_attempt_whose_runner_died_is_not_taken_for_one_that_used_nothing() {
    let fakes = Fakes::new();
    fakes.play_in_run("codex", 1, &spends("gpt-5"));
    fakes.play_in_run("codex", 2, &fakes.replay(&case("codex", "success"), EDIT));
    let mut job = Fakes::job("a", "codex", &json!({"max_tokens": 10_000_000}));
    job["on_crash"] = json!("requeue");
    let name = fakes.project.job(&job);
    let running = fakes.start(&["run-job", "--json", "--job-file", &name]);
    eventually("the session is in the record", || {
        let record = fakes.project.record_if_any("a");
        record.is_some_and(|record| record["attempts"][0]["session_id"].is_string())
    });
    running.signal(rustix::process::Signal::KILL);
    let _ = running.wait();
    let _ = fakes.engine(&["recover"]);
    eventually("the job has ended", || {
        let _ = fakes.engine(&["work", "--drain", "-q"]);
        !["queued", "running"].contains(&fakes.project.record("a")["status"].as_str().unwrap())
    });
    let record = fakes.project.record("a");
    assert_eq!(record["attempts"][0]["outcome"], "lost");
    let result = &record["result"];
    assert_eq!(result["success"], true, "{result:#}");
    // What it had used stands in its own file of the session.
    let lost = &fakes.ledger()[0];
    assert_eq!((&lost["attempt"], &lost["outcome"]), (&json!(1), &json!("lost")), "{lost:#}");
    assert!(lost["input_tokens"].as_u64().is_some_and(|tokens| tokens > 0), "{lost:#}");
    assert_eq!(fakes.state_files("attempts"), [""; 0]);
}
