//! A service that cannot serve now: the job waits in the queue, its slot is free, and it goes on with the session it had.

use serde_json::{Value, json};

use crate::fake_agent::{EDIT, Fakes, WAIT, case, ends_as, side_file};
use crate::support::{eventually, fake_tool};

const SESSION: &str = "01a1ff11-b4df-7963-9a98-4b694edd5a24";

/// Lines of a script that print these events.
fn events(events: &[Value]) -> String {
    let text: String = events.iter().map(|event| format!("{event}\n")).collect();
    format!("cat <<'END'\n{text}END\n")
}

/// Adds lines to the file that the tool has of the session.
fn session_lines(tool: &str, lines: &[Value]) -> String {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let file = side_file(tool, SESSION);
    format!("mkdir -p \"$(dirname \"{file}\")\"; cat >> \"{file}\" <<'END'\n{text}END\n")
}

/// What codex says of a session that has used so much by now, in its file of it.
fn codex_count(input: u64, cached: u64, output: u64) -> Value {
    let usage = json!({
        "input_tokens": input, "cached_input_tokens": cached, "output_tokens": output,
        "total_tokens": input + output,
    });
    json!({"type": "event_msg", "payload": {"type": "token_count", "info": {"total_token_usage": usage}}})
}

fn claude_message(id: &str, input: u64, cached: u64, output: u64) -> Value {
    let usage = json!({
        "input_tokens": input, "cache_creation_input_tokens": 0, "cache_read_input_tokens": cached,
        "output_tokens": output,
    });
    json!({
        "type": "assistant",
        "message": {"id": id, "model": "claude-sonnet-4-5", "content": [], "usage": usage},
    })
}

fn gemini_message(id: &str, input: u64, cached: u64, output: u64) -> Value {
    let tokens = json!({
        "input": input, "output": output, "cached": cached, "thoughts": 0, "tool": 0, "total": input + output,
    });
    json!({"id": id, "type": "gemini", "content": "x", "model": "gemini-2.5-flash", "tokens": tokens})
}

/// A first run that used something and then has no quota, for some seconds.
fn used_up(tool: &str) -> String {
    match tool {
        "codex" => {
            session_lines(tool, &[codex_count(1200, 200, 80)])
                + &events(&[
                    json!({"type": "thread.started", "thread_id": SESSION}),
                    json!({"type": "turn.started"}),
                    json!({"type": "turn.failed", "error": {"message":
                        "You\u{2019}ve hit your usage limit. Try again in 1 second."}}),
                ])
                + "exit 1\n"
        }
        "claude" => {
            session_lines(tool, &[claude_message("m1", 1200, 200, 80)])
                + &events(&[json!({"type": "system", "subtype": "init", "session_id": SESSION, "model": "claude-sonnet-4-5"})])
                + "soon=$(($(date +%s) + 3)); at=$(date -u -d @$soon '+%b %d, %Y, %I:%M%p')\n"
                + &events(&[
                    json!({"type": "rate_limit_event", "session_id": SESSION, "rate_limit_info":
                        {"status": "rejected", "resetsAt": 7_777_777, "rateLimitType": "five_hour"}}),
                    json!({"type": "assistant", "session_id": SESSION, "error": "rate_limit", "message":
                        {"id": "s1", "model": "<synthetic>", "content": [{"type": "text",
                        "text": "You've hit your session limit · resets AT (UTC)"}]}}),
                    json!({"type": "result", "subtype": "success", "is_error": true, "api_error_status": 429,
                        "num_turns": 1, "result": "You've hit your session limit · resets AT (UTC)",
                        "session_id": SESSION, "total_cost_usd": 0.00486,
                        "modelUsage": {"claude-sonnet-4-5": {"inputTokens": 1200, "outputTokens": 80,
                            "cacheReadInputTokens": 200, "cacheCreationInputTokens": 0, "costUSD": 0.00486}}}),
                ])
                .replacen("cat <<", "sed \"s/7777777/$soon/; s/AT (UTC)/$at (UTC)/\" <<", 1)
                + "exit 1\n"
        }
        "gemini" => {
            session_lines(tool, &[json!({"sessionId": SESSION}), gemini_message("m1", 1200, 200, 80)])
                + &events(&[
                    json!({"type": "init", "session_id": SESSION, "model": "gemini-2.5-flash"}),
                    json!({"type": "result", "status": "error", "error": {"type": "unknown", "message":
                        "You have exhausted your daily quota on this model. Please retry in 1s."}}),
                ])
                + "exit 173\n"
        }
        _ => {
            let log = [json!({"event": "message_send_starting", "properties": {}})];
            session_lines(tool, &log).replace("mkdir -p \"$(dirname \"$side\")\"; ", "")
                + "echo 'litellm.RateLimitError: RateLimitError: OpenAIException - You have exhausted your quota,'\n"
                + "echo 'resets in 1s.'\nexit 0\n"
        }
    }
}

/// The run that goes on and ends well; its figures are those of the tool: of the session, or of this run.
fn goes_on(tool: &str) -> String {
    let rest = match tool {
        "codex" => {
            let usage = json!({
                "input_tokens": 2700, "cached_input_tokens": 1100, "output_tokens": 110,
                "cache_write_input_tokens": 0, "reasoning_output_tokens": 0,
            });
            session_lines(tool, &[codex_count(2700, 1100, 110)])
                + &events(&[
                    json!({"type": "thread.started", "thread_id": SESSION}),
                    json!({"type": "turn.started"}),
                    json!({"type": "item.completed", "item": {"id": "item_0", "type": "agent_message", "text": "Done."}}),
                    json!({"type": "turn.completed", "usage": usage}),
                ])
        }
        "claude" => {
            session_lines(tool, &[claude_message("m2", 600, 900, 30)])
                + &events(&[
                    json!({"type": "system", "subtype": "init", "session_id": SESSION, "model": "claude-sonnet-4-5"}),
                    json!({"type": "assistant", "session_id": SESSION, "message": {"id": "m2",
                        "model": "claude-sonnet-4-5", "content": [{"type": "text", "text": "Done."}]}}),
                    json!({"type": "result", "subtype": "success", "is_error": false, "num_turns": 1,
                        "result": "Done.", "session_id": SESSION, "total_cost_usd": 0.00252,
                        "modelUsage": {"claude-sonnet-4-5": {"inputTokens": 600, "outputTokens": 30,
                            "cacheReadInputTokens": 900, "cacheCreationInputTokens": 0, "costUSD": 0.00252}}}),
                ])
        }
        "gemini" => {
            let stats = json!({
                "total_tokens": 1530, "input_tokens": 1500, "output_tokens": 30, "cached": 900, "input": 600,
                "models": {"gemini-2.5-flash": {"total_tokens": 1530, "input_tokens": 1500,
                    "output_tokens": 30, "cached": 900, "input": 600}},
            });
            session_lines(tool, &[gemini_message("m2", 1500, 900, 30)])
                + &events(&[
                    json!({"type": "init", "session_id": SESSION, "model": "gemini-2.5-flash"}),
                    json!({"type": "message", "role": "assistant", "content": "Done.", "delta": true}),
                    json!({"type": "result", "status": "success", "stats": stats}),
                ])
        }
        other => panic!("{other}"),
    };
    format!("{EDIT}{rest}exit 0\n")
}

/// Lets workers drain the queue until a job has ended.
fn work_until_ended(fakes: &Fakes, id: &str) -> Value {
    eventually("the job has ended", || {
        let _ = fakes.engine(&["work", "--drain", "-q"]);
        fakes.project.record(id)["status"] != "queued"
    });
    fakes.project.record(id)
}

fn submit(fakes: &Fakes, document: &Value) {
    let name = fakes.project.job(document);
    let said = fakes.engine(&["submit", &name]);
    assert_eq!(said.code, 0, "{}", said.err);
}

#[test]
fn a_parked_job_goes_on_with_its_session_and_nothing_is_counted_twice() {
    for tool in ["claude", "codex", "gemini"] {
        let fakes = Fakes::new();
        fakes.play_in_run(tool, 1, &used_up(tool));
        fakes.play_in_run(tool, 2, &goes_on(tool));
        let result = ends_as(&fakes.run(&Fakes::job("a", tool, &json!({}))), 75, "parked", "quota");
        assert_eq!(result["status"], "queued", "{tool}");
        let record = fakes.project.record("a");
        assert_eq!(
            (&record["status"], fakes.project.places("a")),
            (&json!("queued"), vec!["queued".to_owned()])
        );
        // Not all that wait for one quota come back in the same moment.
        let time = |value: &Value| engine::clock::Timestamp::parse(value.as_str().unwrap()).unwrap();
        let (not_before, reset) = (time(&record["not_before"]), time(&result["metadata"]["reset_at"]));
        assert!(not_before >= reset && not_before.since(reset).as_secs() <= 30, "{tool}: {record}");
        let record = work_until_ended(&fakes, "a");
        assert_eq!(record["status"], "succeeded", "{tool} {record:#}");
        assert_eq!(fakes.runs(tool), 2);
        let (argv, stdin) = (fakes.given(tool, "argv", 2), fakes.given(tool, "stdin", 2));
        assert!(argv.lines().any(|argument| argument == SESSION), "{tool}: {argv}");
        assert!(!fakes.given(tool, "argv", 1).contains(SESSION));
        assert!(!stdin.contains("Correct add()") && !stdin.is_empty(), "{tool}: {stdin}");
        let attempts: Vec<_> = record["attempts"].as_array().unwrap().iter().collect();
        assert_eq!(attempts.len(), 2);
        assert_eq!(attempts[0]["outcome"], "parked");
        assert!(attempts.iter().all(|attempt| attempt["session_id"] == SESSION), "{tool} {attempts:#?}");
        let told: Vec<_> = fakes
            .ledger()
            .iter()
            .map(|line| {
                let number = |key: &str| line[key].as_u64();
                (
                    number("attempt"),
                    number("input_tokens"),
                    number("cached_input_tokens"),
                    number("output_tokens"),
                )
            })
            .collect();
        let first = if tool == "claude" { 1400 } else { 1200 };
        let want = [(Some(1), Some(first), Some(200), Some(80)), (Some(2), Some(1500), Some(900), Some(30))];
        assert_eq!(told, want, "{tool}");
        assert_eq!(fakes.state_files("attempts"), [""; 0]);
    }
}

#[test]
fn an_agent_without_sessions_begins_anew_after_its_wait() {
    let fakes = Fakes::new();
    fakes.play_in_run("aider", 1, &used_up("aider"));
    fakes.play_in_run("aider", 2, &fakes.replay(&case("aider", "success"), EDIT));
    ends_as(&fakes.run(&Fakes::job("a", "aider", &json!({}))), 75, "parked", "quota");
    assert_eq!(work_until_ended(&fakes, "a")["status"], "succeeded");
    assert_eq!(fakes.given("aider", "stdin", 2), fakes.given("aider", "stdin", 1));
}

#[test]
fn a_session_whose_file_is_gone_is_not_asked_for_again() {
    let fakes = Fakes::new();
    fakes.play_in_run("codex", 1, &used_up("codex"));
    fakes.play_in_run("codex", 2, &goes_on("codex"));
    ends_as(&fakes.run(&Fakes::job("a", "codex", &json!({}))), 75, "parked", "quota");
    std::fs::remove_dir_all(fakes.path("home/of codex/sessions")).unwrap();
    assert_eq!(work_until_ended(&fakes, "a")["status"], "succeeded");
    assert!(!fakes.given("codex", "argv", 2).contains(SESSION));
    assert!(fakes.given("codex", "stdin", 2).contains("Correct add()"));
}

#[test]
fn a_worker_runs_another_job_while_one_waits_for_its_quota() {
    for tool in ["claude", "codex", "gemini", "aider"] {
        let fakes = Fakes::new();
        fakes.play(tool, &fakes.replay(&case(tool, "quota"), ""));
        let mut first = Fakes::job("a", tool, &json!({"retry_budget_seconds": 0.5}));
        first["priority"] = json!("high");
        submit(&fakes, &first);
        submit(
            &fakes,
            &json!({"job_id": "b", "tool": "shell", "command": {"exe": fake_tool(), "args": ["print", "x"]}}),
        );
        let said = fakes.engine(&["work", "--slots", "1", "--drain"]);
        assert_eq!(said.code, 0, "a job that waits has not failed: {}", said.err);
        let (first, second) = (fakes.project.record("a"), fakes.project.record("b"));
        assert_eq!((&first["status"], &second["status"]), (&json!("queued"), &json!("succeeded")), "{tool}");
        assert_eq!((fakes.runs(tool), fakes.project.places("a")), (1, vec!["queued".to_owned()]));
        let not_before = first["not_before"].as_str().unwrap();
        let reset = &first["result"]["metadata"]["reset_at"];
        match tool {
            "claude" => assert_eq!(reset, "2030-03-17T17:46:40.000Z"),
            "codex" => assert_eq!(reset, "2030-03-17T17:46:00.000Z"),
            "aider" => assert!(reset.as_str().unwrap() <= not_before, "{reset} {not_before}"),
            _ => assert_eq!(reset, &Value::Null),
        }
        // However far that is, it is asked again after 40 days.
        assert!(not_before < "2030", "{not_before}");
        // Nobody starts it before its time.
        assert_eq!(fakes.engine(&["work", "--slots", "1", "--drain"]).code, 0);
        assert_eq!(fakes.runs(tool), 1);
        let why = fakes.engine(&["explain", "a"]);
        assert!(why.out.contains(not_before.get(..10).unwrap()), "{} {}", why.out, why.err);
    }
}

#[test]
fn a_job_that_had_to_wait_too_often_fails_and_says_how_often() {
    let fakes = Fakes::new();
    fakes.play("codex", &used_up("codex"));
    ends_as(&fakes.run(&Fakes::job("a", "codex", &json!({"max_parks": 1}))), 75, "parked", "quota");
    let record = work_until_ended(&fakes, "a");
    let attempts = record["attempts"].as_array().unwrap();
    let outcomes: Vec<_> = attempts.iter().map(|attempt| attempt["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["parked", "failed"]);
    let reason = &record["result"]["reason"];
    assert_eq!(reason["code"], "quota");
    assert!(reason["message"].as_str().unwrap().contains("1 time"), "{reason}");
    assert_eq!((fakes.runs("codex"), fakes.project.places("a")), (2, vec!["quarantined".to_owned()]));
    // None at all: a direct run fails at once, with the tool's own code.
    ends_as(&fakes.run(&Fakes::job("b", "codex", &json!({"max_parks": 0}))), 1, "failed", "quota");
}

#[test]
fn an_attempt_that_had_to_wait_is_no_try() {
    let fakes = Fakes::new();
    fakes.play_in_run("codex", 1, &used_up("codex"));
    fakes.play_in_run("codex", 2, &used_up("codex"));
    fakes.play_in_run("codex", 3, &fakes.replay(&case("codex", "bad_edit"), ""));
    fakes.play_in_run("codex", 4, &fakes.replay(&case("codex", "success"), EDIT));
    let more = json!({"max_retries": 1, "retry_policy": "retry_same", "backoff": {"strategy": "immediate"}});
    ends_as(&fakes.run(&Fakes::job("a", "codex", &more)), 75, "parked", "quota");
    let record = work_until_ended(&fakes, "a");
    assert_eq!(record["status"], "succeeded", "{record:#}");
    assert_eq!(fakes.runs("codex"), 4);
    // A failed attempt had its chance: the next one begins anew.
    assert!(fakes.given("codex", "argv", 3).contains(SESSION));
    assert!(fakes.given("codex", "stdin", 4).contains("Correct add()"));
    // And without a retry left the second failure is the end.
    let fakes = Fakes::new();
    fakes.play("codex", &fakes.replay(&case("codex", "bad_edit"), ""));
    fakes.play_in_run("codex", 1, &used_up("codex"));
    ends_as(&fakes.run(&Fakes::job("a", "codex", &more)), 75, "parked", "quota");
    assert_eq!(work_until_ended(&fakes, "a")["status"], "quarantined");
    assert_eq!(fakes.runs("codex"), 3);
}

#[test]
fn a_parked_job_can_be_canceled_and_is_not_run_a_second_time_beside_itself() {
    let fakes = Fakes::new();
    fakes.play("codex", &fakes.replay(&case("codex", "quota"), ""));
    let job = Fakes::job("a", "codex", &json!({}));
    ends_as(&fakes.run(&job), 75, "parked", "quota");
    let again = fakes.run(&job);
    assert_eq!((again.code, fakes.runs("codex")), (125, 1), "{}", again.out);
    fakes.engine(&["cancel", "a"]).exits(0);
    assert_eq!(fakes.project.record("a")["status"], "canceled");
    assert_eq!(fakes.project.places("a"), ["done"]);
    assert_eq!(fakes.engine(&["work", "--drain"]).code, 0);
    assert_eq!(fakes.runs("codex"), 1);
    assert_eq!(fakes.engine(&["usage", "--json"]).code, 0);
}

#[test]
fn a_service_that_names_no_time_is_asked_again_after_a_wait_that_grows() {
    for (tool, name, class, range) in [
        ("codex", "http_500", "overloaded", 10.0..50.0),
        ("codex", "rate_429", "rate_limited", 10.0..50.0),
        ("gemini", "quota", "quota", 140.0..460.0),
    ] {
        let fakes = Fakes::new();
        fakes.play(tool, &fakes.replay(&case(tool, name), ""));
        let job = Fakes::job("a", tool, &json!({"retry_budget_seconds": 0.3}));
        let result = ends_as(&fakes.run(&job), 75, "parked", class);
        assert_eq!(result["metadata"]["reset_at"], Value::Null, "{tool} {name}");
        let time = |value: &Value| engine::clock::Timestamp::parse(value.as_str().unwrap()).unwrap();
        let record = fakes.project.record("a");
        let wait = time(&record["not_before"]).since(time(&result["finished_at"])).as_secs_f64();
        assert!(range.contains(&wait), "{tool} {name}: {wait}");
    }
}

#[test]
fn one_that_is_ended_in_the_middle_is_not_parked_for_the_trouble_that_was_over() {
    // A retry, then an answer, then silence: that is no busy service.
    let fakes = Fakes::new();
    let case = case("codex", "term_in_the_middle");
    let notice =
        events(&[json!({"type": "error", "message": "Reconnecting... 1/5 (unexpected status 500 x)"})]);
    let play = fakes.replay(&case, EDIT);
    let play = play.replace("cat \"", &format!("{notice}cat \""));
    fakes.play("codex", &play);
    let job = Fakes::job("a", "codex", &json!({"idle_timeout_seconds": 1, "grace_seconds": 1}));
    ends_as(&fakes.run(&job), 124, "stalled", "stalled");
    assert!(play.contains(WAIT));
}

#[test]
fn what_was_done_before_the_wait_is_work_of_the_job() {
    for tool in ["claude", "codex", "gemini"] {
        let fakes = Fakes::new();
        fakes.play_in_run(tool, 1, &format!("{EDIT}{}", used_up(tool)));
        fakes.play_in_run(tool, 2, &goes_on(tool).replace(EDIT, ""));
        ends_as(&fakes.run(&Fakes::job("a", tool, &json!({}))), 75, "parked", "quota");
        let record = work_until_ended(&fakes, "a");
        assert_eq!(record["status"], "succeeded", "{tool} {:#}", record["result"]);
    }
}

#[test]
fn what_was_done_out_of_scope_before_the_wait_is_not_forgotten() {
    let fakes = Fakes::new();
    fakes.play_in_run("codex", 1, &format!("echo x > other.py\n{}", used_up("codex")));
    fakes.play_in_run("codex", 2, &goes_on("codex"));
    let said = fakes.run(&Fakes::job("a", "codex", &json!({"files_scope": ["calc.py"]})));
    ends_as(&said, 75, "parked", "quota");
    let record = work_until_ended(&fakes, "a");
    assert_eq!(record["result"]["reason"]["code"], "scope_violation", "{:#}", record["result"]);
}

#[test]
fn whatever_lacks_a_descriptor_before_the_agent_starts_parks_the_job() {
    use std::os::unix::process::CommandExt;
    let fakes = Fakes::new();
    fakes.play("claude", &fakes.replay(&case("claude", "success"), "echo >> calc.py\n"));
    let tool = fakes.read("bin/claude").replacen('\n', "\nulimit -n 256\n", 1);
    fakes.executable("bin/claude", &tool);
    fakes.run(&Fakes::job("first", "claude", &json!({}))).exits(0);
    let mut before_the_start = 0;
    for limit in 9..24u32 {
        let id = format!("a{limit}");
        let name = fakes.project.job(&Fakes::job(&id, "claude", &json!({})));
        fakes.engine(&["submit", &name]).exits(0);
        let mut command = fakes.command(&["run-job", "--claim", &id]);
        // SAFETY: sets a limit between fork and exec.
        unsafe {
            command.pre_exec(move || {
                let limit = libc::rlimit { rlim_cur: limit.into(), rlim_max: 256 };
                libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
                Ok(())
            });
        }
        let said = command.output().unwrap();
        let Some(record) = fakes.project.record_if_any(&id) else { continue };
        if !record["attempts"][0]["exit_code"].is_null() && record["status"] == "quarantined" {
            // It ran, and what it did could not be looked at: that is said.
            let reason = record["result"]["reason"]["message"].as_str().unwrap();
            assert!(reason.contains("Too many open files"), "{limit}: {reason}");
            continue;
        }
        assert_ne!(record["status"], "quarantined", "{limit}: {record:#}");
        let Some(attempt) = record["attempts"].get(0).filter(|attempt| attempt["outcome"] == "parked") else {
            continue;
        };
        // Where not even a directory can be opened it is not told that the job waits.
        let code =
            if String::from_utf8_lossy(&said.stderr).contains("error: error opening") { 125 } else { 75 };
        assert_eq!((said.status.code(), &attempt["reason"]["code"]), (Some(code), &json!("start_failed")));
        let message = attempt["reason"]["message"].as_str().unwrap();
        assert!(message.contains("Too many open files"), "{message}");
        before_the_start += u32::from(!message.contains("bin/claude"));
    }
    assert!(before_the_start > 0, "no limit met what comes before the start");
}
