//! The whole engine and a fake agent that replays what the real tools printed: outcome, reason, exit status, ledger.
//!
//! Exit codes of agents lie, and so do their words; what is afraid of here is that the engine believes them.

use serde_json::{Value, json};

use crate::fake_agent::{BEFORE, EDIT, Fakes, Recorded, TOOLS, WAIT, case, ends, ends_as, recorded};
use crate::support::eventually;

/// The class of a recorded run.
fn class_of(case: &Recorded) -> &'static str {
    let tool = case.tool.as_str();
    match case.name.as_str() {
        "success" | "rate_429_once" | "resume" | "known_model" | "near_edit" => "ok",
        // It does not try again.
        "cut_stream_once" => {
            if tool == "gemini" {
                "protocol"
            } else {
                "ok"
            }
        }
        // A file is written, be it by a command that the stream hides.
        "hidden_command" | "read_only_command" => "ok",
        "no_change" | "command" => "no_change",
        "http_401" | "http_403" => "auth",
        "http_402" | "insufficient_quota" | "ok_then_402" => "billing",
        "http_404" | "http_404_no_code" | "bad_edit" | "loop" | "max_turns" => "failed",
        "http_500" | "http_529" | "dead_port" | "overloaded_in_stream" | "overloaded_before_text" => {
            "overloaded"
        }
        "rate_429" | "rate_limit_in_stream" => "rate_limited",
        "rate_429_retry_after_3600" => {
            if tool == "claude" {
                "quota"
            } else {
                "rate_limited"
            }
        }
        "quota" | "quota_api_key" => "quota",
        "context_overflow" => "context_overflow",
        "cut_stream" => {
            if tool == "aider" {
                "overloaded"
            } else {
                "protocol"
            }
        }
        "malformed" | "html_answer" | "json_answer" | "no_final_event" | "empty_reply" => "protocol",
        // That the prompt was blocked is not in the stream.
        "prompt_blocked" => "protocol",
        "refusal" | "refusal_incomplete" => "refused",
        "output_limit" => {
            if tool == "gemini" {
                "no_change"
            } else {
                "failed"
            }
        }
        "denied" => "needs_input",
        // Found before the start; but a tool may find its key unusable itself.
        "missing_key" => "auth",
        "hang" | "hang_in_stream" | "term_in_the_middle" => "stalled",
        other => panic!("{tool} {other}: which class?"),
    }
}

/// What the tool did to the repository.
fn edit_of(case: &Recorded) -> &'static str {
    match case.name.as_str() {
        "success" | "rate_429_once" | "resume" | "known_model" | "near_edit" | "ok_then_402"
        | "max_turns" | "term_in_the_middle" => EDIT,
        "cut_stream_once" if case.tool != "gemini" => EDIT,
        "hidden_command" | "read_only_command" => "echo x > written.txt\n",
        _ => "",
    }
}

/// Contracts 6, for a class.
fn exit_status(case: &Recorded, class: &str, result: &Value) -> i32 {
    match class {
        "ok" => 0,
        "quota" | "rate_limited" | "overloaded" => 75,
        "stalled" => 124,
        _ if result["metadata"]["ended_by_engine"] == true => 1,
        _ if case.exit() > 0 => case.exit(),
        _ => 1,
    }
}

fn outcome(class: &str) -> &'static str {
    match class {
        "ok" => "succeeded",
        "quota" | "rate_limited" | "overloaded" => "parked",
        "stalled" => "stalled",
        _ => "failed",
    }
}

/// What was served, with cached tokens among the input.
fn served(case: &Recorded) -> (u64, u64, u64) {
    let requests = case.requests();
    let sum = |key: &str| requests.iter().filter_map(|request| request["tokens"][key].as_u64()).sum::<u64>();
    let apart = if case.tool == "claude" { sum("cached") } else { 0 };
    (sum("input") + apart, sum("output"), sum("cached"))
}

/// What is wrong with the ledger of a run.
fn wrong_in_ledger(case: &Recorded, result: &Value, lines: &[Value]) -> Option<String> {
    let sum = |key: &str| -> Option<u64> {
        let told: Vec<u64> = lines.iter().filter_map(|line| line[key].as_u64()).collect();
        (!told.is_empty()).then(|| told.iter().sum())
    };
    let told = (sum("input_tokens"), sum("output_tokens"), sum("cached_input_tokens"));
    let tokens = &result["metadata"]["tokens"];
    let of_result = |key: &str| tokens[key].as_u64();
    if told != (of_result("input_tokens"), of_result("output_tokens"), of_result("cached_input_tokens")) {
        return Some(format!("the result says {tokens}, the ledger {told:?}"));
    }
    for line in lines {
        let same = [("outcome", &result["outcome"]), ("reason_code", &result["reason"]["code"])];
        for (key, want) in same.into_iter().chain([("session_id", &result["metadata"]["session_id"])]) {
            if line[key] != *want {
                return Some(format!("{key} is {} in the ledger and {want} in the result", line[key]));
            }
        }
    }
    if lines.is_empty() || lines.iter().any(|line| line["tool"] != case.tool || line["attempt"] != 1) {
        return Some(format!("the lines are {lines:?}"));
    }
    // The second run of a session is tested apart; what an answer costs that was begun and cut off nobody knows.
    if matches!(case.name.as_str(), "resume" | "overloaded_in_stream") {
        return None;
    }
    let (input, output, cached) = served(case);
    let is_right = match told {
        (None, None, None) => lines.iter().all(|line| line["tokens_source"] == "none"),
        (told_input, told_output, told_cached) => {
            (told_input, told_output) == (Some(input), Some(output))
                && told_cached.is_none_or(|told| told == cached)
        }
    };
    (!is_right).then(|| format!("{told:?} in the ledger, {:?} served", (input, output, cached)))
}

/// Plays all that was recorded of a tool, one job each, in one project.
fn replay_all(tool: &str) {
    let fakes = Fakes::new();
    let mut wrong = Vec::new();
    for case in recorded(tool) {
        fakes.write("repo/calc.py", BEFORE);
        let _ = std::fs::remove_file(fakes.path("repo/written.txt"));
        fakes.play(tool, &fakes.replay(&case, edit_of(&case)));
        let class = class_of(&case);
        let limits = match outcome(class) {
            "stalled" => json!({"idle_timeout_seconds": 1.5, "grace_seconds": 2}),
            _ if case.was_ended() => {
                json!({"retry_budget_seconds": 0.2, "timeout_seconds": 60, "grace_seconds": 2})
            }
            "parked" => json!({"retry_budget_seconds": 0.2, "timeout_seconds": 60, "grace_seconds": 2}),
            // Long enough for a slow machine to come from the notice to the answer.
            _ => json!({"retry_budget_seconds": 2, "timeout_seconds": 60, "grace_seconds": 2}),
        };
        let id = case.name.replace('_', "-");
        let said = fakes.run(&Fakes::job(&id, tool, &limits));
        let mut is_wrong = |what: String| wrong.push(format!("{tool} {}: {what}", case.name));
        let Ok(result) = serde_json::from_str::<Value>(&said.out) else {
            is_wrong(format!("{} {} {}", said.code, said.out, said.err));
            continue;
        };
        let (want, found) = (outcome(class), result["outcome"].as_str().unwrap_or(""));
        if (want, class) != (found, result["reason"]["code"].as_str().unwrap_or("")) {
            is_wrong(format!("{found} {}, not {want} {class}", result["reason"]));
        } else if said.code != exit_status(&case, class, &result) {
            is_wrong(format!("exit status {}, not {}", said.code, exit_status(&case, class, &result)));
        }
        if result["reason"]["message"].as_str().is_none_or(str::is_empty) {
            is_wrong("no message in the reason".to_owned());
        }
        if result["metadata"]["session_id"] != json!(case.session()) {
            is_wrong(format!("session {} in the result", result["metadata"]["session_id"]));
        }
        let lines: Vec<Value> = fakes.ledger().into_iter().filter(|line| line["job_id"] == *id).collect();
        if let Some(what) = wrong_in_ledger(&case, &result, &lines) {
            is_wrong(what);
        }
        let waits = fakes.project.record(&id)["status"] == "queued";
        if waits != (want == "parked") || waits != (fakes.project.places(&id) == ["queued"]) {
            is_wrong(format!("it is in {:?}", fakes.project.places(&id)));
        }
        if !fakes.state_files("attempts").is_empty() {
            is_wrong(format!("left in state/attempts: {:?}", fakes.state_files("attempts")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(fakes.asked_for_version(tool), 1);
}

#[test]
fn no_end_of_aider_is_believed_without_evidence() {
    replay_all("aider");
}

#[test]
fn no_end_of_claude_is_believed_without_evidence() {
    replay_all("claude");
}

#[test]
fn no_end_of_codex_is_believed_without_evidence() {
    replay_all("codex");
}

#[test]
fn no_end_of_gemini_is_believed_without_evidence() {
    replay_all("gemini");
}

#[test]
fn nothing_changed_is_a_failure_unless_the_job_allows_it() {
    for (tool, _) in TOOLS {
        let fakes = Fakes::new();
        fakes.play(tool, &fakes.replay(&case(tool, "no_change"), ""));
        ends_as(&fakes.run(&Fakes::job("a", tool, &json!({}))), 1, "failed", "no_change");
        assert_eq!(fakes.project.places("a"), ["quarantined"]);
        let allowed = Fakes::job("b", tool, &json!({"allow_no_change": true}));
        let result = ends_as(&fakes.run(&allowed), 0, "succeeded", "ok");
        assert_eq!(result["metadata"]["evidence"]["changed"], false);
        assert_eq!(fakes.project.places("b"), ["done"]);
        // What it claims to have edited counts as little as its exit code.
        fakes.play(tool, &fakes.replay(&case(tool, "success"), ""));
        ends_as(&fakes.run(&Fakes::job("c", tool, &json!({}))), 1, "failed", "no_change");
    }
}

#[test]
fn an_edit_that_was_there_before_the_run_is_not_the_agents() {
    let fakes = Fakes::playing("codex", "");
    fakes.play("codex", &fakes.replay(&case("codex", "success"), ""));
    fakes.write("repo/calc.py", "def add(a, b):\n    return a + b\n");
    fakes.write("repo/new.py", "not yet known to git\n");
    ends_as(&fakes.run(&Fakes::job("a", "codex", &json!({}))), 1, "failed", "no_change");
    // And what it undoes is a change.
    fakes.play("codex", &fakes.replay(&case("codex", "success"), "rm new.py\n"));
    let result = ends_as(&fakes.run(&Fakes::job("b", "codex", &json!({}))), 0, "succeeded", "ok");
    let files = &result["metadata"]["evidence"]["files"];
    assert_eq!((&files[0]["path"], &files[0]["kind"]), (&json!("new.py"), &json!("deleted")), "{files}");
    assert_eq!(files.as_array().unwrap().len(), 1);
}

#[test]
fn an_edit_outside_of_the_scope_is_found_whatever_way_it_was_made() {
    let ways = [
        ("by a shell", "echo x > other.py\n", "other.py"),
        ("by deleting", "rm keep.py\n", "keep.py"),
        ("by a link inside", "ln -s keep.py calc-link.py; echo x > calc-link.py\n", "keep.py"),
        ("by a link that leads out", "echo x > src/link.py\n", "outside.py"),
        ("by a commit", "echo x > other.py; git add other.py; git commit -q -m x\n", "other.py"),
        (
            "by a commit that is gone",
            "echo x > keep.py; git commit -q -a -m x; git mv keep.py k2.py\n",
            "k2.py",
        ),
        ("by a hook", "echo x > .git/hooks/pre-commit\n", ".git/hooks/pre-commit"),
    ];
    for (tool, _) in TOOLS {
        let fakes = Fakes::new();
        std::fs::create_dir(fakes.path("repo/src")).unwrap();
        for (way, play, named) in ways {
            fakes.git(&["checkout", "-q", "-f", "-B", "main", "start"]);
            fakes.git(&["clean", "-q", "-f", "-d"]);
            let _ = std::fs::remove_file(fakes.path("repo/.git/hooks/pre-commit"));
            fakes.write("outside.py", "");
            fakes.write("repo/keep.py", "kept\n");
            std::fs::create_dir_all(fakes.path("repo/src")).unwrap();
            std::os::unix::fs::symlink("../../outside.py", fakes.path("repo/src/link.py")).unwrap();
            fakes.git(&["add", "."]);
            fakes.git(&["commit", "-q", "-m", "before"]);
            fakes.play(tool, &fakes.replay(&case(tool, "success"), &format!("{EDIT}{play}")));
            let scope = json!({"files_scope": ["calc*.py", "src/*"]});
            let said = fakes.run(&Fakes::job("a", tool, &scope));
            let result = ends_as(&said, 1, "failed", "scope_violation");
            let message = result["reason"]["message"].as_str().unwrap();
            assert!(message.contains(named), "{tool} {way}: {message}");
        }
        // Two files in the scope, one of them new.
        fakes.git(&["checkout", "-q", "-f", "-B", "main", "start"]);
        std::fs::create_dir_all(fakes.path("repo/src")).unwrap();
        let play = format!("{EDIT}echo y > src/new.py\n");
        fakes.play(tool, &fakes.replay(&case(tool, "success"), &play));
        let scope = json!({"files_scope": ["calc.py", "src/new.py"]});
        ends_as(&fakes.run(&Fakes::job("b", tool, &scope)), 0, "succeeded", "ok");
    }
}

#[test]
fn files_that_aider_keeps_for_itself_are_no_work() {
    let own = "mkdir -p .aider.tags.cache.v4; echo x > .aider.tags.cache.v4/cache.db; echo x > .aider.chat.history.md\n";
    let fakes = Fakes::new();
    fakes.play("aider", &fakes.replay(&case("aider", "success"), own));
    ends_as(&fakes.run(&Fakes::job("a", "aider", &json!({}))), 1, "failed", "no_change");
    std::fs::remove_dir_all(fakes.path("repo/.aider.tags.cache.v4")).unwrap();
    fakes.play("aider", &fakes.replay(&case("aider", "success"), &format!("{EDIT}{own}")));
    let scope = json!({"files_scope": ["calc.py"]});
    let result = ends_as(&fakes.run(&Fakes::job("b", "aider", &scope)), 0, "succeeded", "ok");
    assert_eq!(result["metadata"]["evidence"]["files"].as_array().unwrap().len(), 1, "{result:#}");
    // Of another tool they are files like others.
    fakes.play("codex", &fakes.replay(&case("codex", "success"), "echo y > .aider.conf.yml\n"));
    ends_as(&fakes.run(&Fakes::job("c", "codex", &json!({}))), 0, "succeeded", "ok");
}

/// The first event of claude, and one of a try that failed.
fn claude_retries(status: u16, error: &str) -> String {
    let init = json!({
        "type": "system", "subtype": "init", "session_id": SESSION, "model": "claude-sonnet-4-5",
        "claude_code_version": "2.1.197",
    });
    let retry = json!({
        "type": "system", "subtype": "api_retry", "attempt": 1, "max_retries": 10, "retry_delay_ms": 500,
        "error_status": status, "error": error, "session_id": SESSION,
    });
    format!("echo '{init}'\necho '{retry}'\n")
}

const SESSION: &str = "0b2dd1c5-8a39-4a6f-9c27-57b1f2fbd001";

fn seconds(result: &Value) -> f64 {
    result["duration_s"].as_f64().unwrap()
}

#[test]
fn a_key_that_is_not_accepted_ends_the_run_at_the_first_notice() {
    let fakes = Fakes::playing("claude", &format!("{}{WAIT}", claude_retries(401, "authentication_failed")));
    let result = ends_as(&fakes.run(&Fakes::job("a", "claude", &json!({}))), 1, "failed", "auth");
    assert!(seconds(&result) < 20.0, "{result}");
    assert_eq!(result["metadata"]["ended_by_engine"], true);
    assert_eq!(crate::support::processes_with(&fakes.path("bin").display().to_string()), [0; 0]);
}

#[test]
fn a_service_that_stays_broken_is_left_when_the_retry_budget_is_over() {
    let trouble = claude_retries(500, "server_error");
    let fakes = Fakes::playing("claude", &format!("{trouble}sleep 1.2\n{trouble}{WAIT}"));
    let job = Fakes::job("a", "claude", &json!({"retry_budget_seconds": 1}));
    let result = ends_as(&fakes.run(&job), 75, "parked", "overloaded");
    assert!((0.9..20.0).contains(&seconds(&result)), "{result}");
    assert_eq!(fakes.project.places("a"), ["queued"]);
    assert!(fakes.project.record("a")["not_before"].is_string());
}

#[test]
fn who_thinks_long_after_a_trouble_that_is_over_is_not_ended() {
    let fakes = Fakes::new();
    let rest = fakes.replay(&case("claude", "success"), EDIT);
    let trouble = claude_retries(529, "overloaded");
    fakes.play("claude", &format!("{trouble}sleep 1.5\n{rest}"));
    let job = Fakes::job("a", "claude", &json!({"retry_budget_seconds": 0.5}));
    ends_as(&fakes.run(&job), 0, "succeeded", "ok");
}

#[test]
fn a_service_that_recovers_within_the_retry_budget_costs_nothing() {
    let fakes = Fakes::new();
    let rest = fakes.replay(&case("claude", "success"), EDIT);
    // The time since the first trouble begins anew when the model answers.
    let trouble = claude_retries(500, "server_error");
    fakes.play("claude", &format!("{trouble}sleep 0.7\n{rest}"));
    let job = Fakes::job("a", "claude", &json!({"retry_budget_seconds": 5}));
    let result = ends_as(&fakes.run(&job), 0, "succeeded", "ok");
    assert_eq!(result["metadata"]["retries"], 1);
}

#[test]
fn a_tool_that_ignores_the_request_to_end_is_killed_after_the_grace_time() {
    let play = format!("trap '' TERM\n{}{WAIT}", claude_retries(401, "authentication_failed"));
    let fakes = Fakes::playing("claude", &play);
    let job = Fakes::job("a", "claude", &json!({"grace_seconds": 1}));
    let result = ends_as(&fakes.run(&job), 1, "failed", "auth");
    assert!((0.9..20.0).contains(&seconds(&result)), "{result}");
    assert_eq!(result["signal"], 9);
    assert_eq!(crate::support::processes_with(&fakes.path("bin").display().to_string()), [0; 0]);
}

#[test]
fn to_check_out_or_merge_what_was_there_before_is_no_work() {
    for (id, edit, outcome) in [
        ("checkout", "git checkout -q other\n", "no_change"),
        ("merge", "git merge -q --ff-only other\n", "no_change"),
        ("both", "git checkout -q other\nsed -i 's/return/return 1 +/' calc.py\n", "ok"),
        ("commit", "git commit -q --allow-empty -m x; git merge -q -m m other\n", "ok"),
    ] {
        let fakes = Fakes::new();
        fakes.git(&["checkout", "-q", "-b", "other"]);
        fakes.write("repo/calc.py", BEFORE.replace('-', "+"));
        fakes.git(&["commit", "-q", "-a", "-m", "there"]);
        fakes.git(&["checkout", "-q", "main"]);
        fakes.play("codex", &fakes.replay(&case("codex", "success"), edit));
        let said = fakes.run(&Fakes::job(id, "codex", &json!({})));
        let is_ok = outcome == "ok";
        let result = ends_as(&said, i32::from(!is_ok), if is_ok { "succeeded" } else { "failed" }, outcome);
        let moved = &result["metadata"]["evidence"]["only_moved"];
        assert_eq!(*moved == true, !is_ok, "{id} {result:#}");
        if !is_ok {
            assert!(result["reason"]["message"].as_str().unwrap().contains("held before"), "{result:#}");
        }
    }
}

/// The play of a success after which the process does what `then` says.
fn success_then(fakes: &Fakes, tool: &str, then: &str) -> String {
    let play = fakes.replay(&case(tool, "success"), EDIT);
    let play = play.trim_end().strip_suffix("exit 0").unwrap().to_owned();
    format!("{play}{then}")
}

#[test]
fn an_agent_that_has_declared_its_end_and_stays_is_ended_and_judged_by_what_it_left() {
    let (silent, grace) = ("exec sleep 600\n", json!({"grace_seconds": 1}));
    for (tool, name, stays, limits) in [
        ("aider", "silent", silent, &grace),
        ("codex", "silent", silent, &grace),
        ("gemini", "silent", silent, &grace),
        ("claude", "silent", silent, &grace),
        ("claude", "deaf", "trap '' TERM\nwhile :; do sleep 0.1; done\n", &grace),
        ("claude", "noisy", "while :; do echo still here; sleep 0.2; done\n", &grace),
        ("claude", "traps", "trap 'exit 143' TERM\nwhile :; do sleep 0.1; done\n", &grace),
        ("claude", "waits", "sleep 600 & wait\n", &grace),
        ("claude", "idle", silent, &json!({"grace_seconds": 100, "idle_timeout_seconds": 3})),
        ("claude", "late", silent, &json!({"grace_seconds": 100, "timeout_seconds": 4})),
    ] {
        let fakes = Fakes::new();
        fakes.play(tool, &success_then(&fakes, tool, stays));
        let result = ends_as(&fakes.run(&Fakes::job(name, tool, limits)), 0, "succeeded", "ok");
        let warnings = result["metadata"]["warnings"].to_string();
        assert!(warnings.contains("declared its end but kept running"), "{tool} {name} {warnings}");
        assert!(seconds(&result) < 20.0, "{tool} {name}");
        assert_eq!(crate::support::processes_with(&fakes.path("bin").display().to_string()), [0; 0]);
    }
}

#[test]
fn a_failure_that_an_agent_declares_before_it_stays_is_that_failure() {
    let fakes = Fakes::new();
    for (tool, name, class) in [("claude", "max_turns", "failed"), ("codex", "http_402", "billing")] {
        let play = fakes.replay(&case(tool, name), "");
        let stays = play.trim_end().rsplit_once('\n').unwrap().0.to_owned();
        fakes.play(tool, &format!("{stays}\ntrap 'exit 143' TERM\nwhile :; do sleep 0.1; done\n"));
        ends_as(&fakes.run(&Fakes::job(tool, tool, &json!({"grace_seconds": 1}))), 1, "failed", class);
    }
}

#[test]
fn an_agent_that_begins_another_turn_after_its_end_has_not_ended() {
    for tool in ["claude", "codex"] {
        let fakes = Fakes::new();
        let out = case(tool, "success").text("stdout");
        let begin = out.lines().position(|line| line.contains("turn.started") || line.contains("\"init\""));
        let second: String = out.lines().skip(begin.unwrap()).map(|line| format!("{line}\n")).collect();
        fakes.write("second", &second);
        let second = fakes.path("second").display().to_string();
        // Of the second turn only the beginning comes, and then nothing.
        let half = format!("head -n 1 '{second}'\nexec sleep 600\n");
        fakes.play(tool, &success_then(&fakes, tool, &half));
        let limits = json!({"grace_seconds": 1, "idle_timeout_seconds": 4});
        ends_as(&fakes.run(&Fakes::job("half", tool, &limits)), 124, "stalled", "stalled");
        // It goes on for longer than the grace, and ends.
        let whole = format!("head -n 1 '{second}'\nsleep 3\ntail -n +2 '{second}'\nexit 0\n");
        fakes.git(&["checkout", "-q", "."]);
        fakes.play(tool, &success_then(&fakes, tool, &whole));
        let result = ends_as(&fakes.run(&Fakes::job("whole", tool, &limits)), 0, "succeeded", "ok");
        assert!(seconds(&result) > 3.0, "{tool}");
        assert_eq!(result["metadata"]["warnings"], Value::Null, "{tool}");
    }
}

#[test]
fn codex_that_obeys_an_hour_of_silence_is_parked_and_does_not_sit_it_out() {
    let fakes = Fakes::new();
    fakes.play("codex", &fakes.replay(&case("codex", "rate_429_retry_after_3600"), ""));
    let job = Fakes::job("a", "codex", &json!({"retry_budget_seconds": 1}));
    let result = ends_as(&fakes.run(&job), 75, "parked", "rate_limited");
    assert!((0.9..20.0).contains(&seconds(&result)), "{result}");
}

#[test]
fn a_success_that_a_tool_declares_because_it_was_ended_is_none() {
    // Claude kills its own child, asks the model once more and calls it a success.
    let fakes = Fakes::new();
    let end = fakes.replay(&case("claude", "success"), "");
    fakes.play("claude", &format!("{EDIT}trap 'finish' TERM\nfinish() {{\n{end}}}\nsleep 600 & wait\n"));
    let job = Fakes::job("a", "claude", &json!({"timeout_seconds": 0.7, "grace_seconds": 5}));
    ends_as(&fakes.run(&job), 124, "timed_out", "timed_out");
    let job = Fakes::job("b", "claude", &json!({"idle_timeout_seconds": 0.7, "grace_seconds": 5}));
    ends_as(&fakes.run(&job), 124, "stalled", "stalled");
}

#[test]
fn the_session_stands_in_the_record_while_the_tool_still_runs() {
    for tool in ["claude", "codex", "gemini"] {
        let fakes = Fakes::new();
        let case = case(tool, "hang");
        fakes.play(tool, &fakes.replay(&case, ""));
        let name = fakes.project.job(&Fakes::job("a", tool, &json!({"grace_seconds": 1})));
        let running = fakes.start(&["run-job", "--json", "--job-file", &name]);
        let session = json!(case.session().unwrap());
        eventually("the session is in the record", || {
            let said = fakes.engine(&["show", "a", "--json"]);
            said.code == 0 && said.json()["attempts"][0]["session_id"] == session
        });
        assert_eq!(fakes.project.record("a")["status"], "running");
        running.signal(rustix::process::Signal::INT);
        let result = ends(&running.wait(), 130);
        assert_eq!((&result["outcome"], &result["metadata"]["session_id"]), (&json!("canceled"), &session));
        assert_eq!(fakes.project.record("a")["attempts"][0]["session_id"], session);
    }
}

#[test]
fn a_runner_that_is_killed_leaves_the_session_in_the_record() {
    let fakes = Fakes::new();
    let case = case("codex", "hang");
    fakes.play("codex", &fakes.replay(&case, ""));
    let name = fakes.project.job(&Fakes::job("a", "codex", &json!({})));
    let running = fakes.start(&["run-job", "--json", "--job-file", &name]);
    eventually("the session is in the record", || {
        let record = fakes.project.record_if_any("a");
        record.is_some_and(|record| record["attempts"][0]["session_id"].is_string())
    });
    running.signal(rustix::process::Signal::KILL);
    let _ = running.wait();
    let _ = fakes.engine(&["recover"]);
    let record = fakes.project.record("a");
    assert_eq!(record["attempts"][0]["outcome"], "lost");
    assert_eq!(record["attempts"][0]["session_id"], json!(case.session().unwrap()));
    assert_eq!(crate::support::processes_with(&fakes.path("bin").display().to_string()), [0; 0]);
}

#[test]
fn a_key_or_a_bill_is_never_tried_again() {
    for (tool, name, class) in [
        ("aider", "http_401", "auth"),
        ("claude", "http_403", "auth"),
        ("codex", "http_402", "billing"),
        ("codex", "insufficient_quota", "billing"),
        ("gemini", "http_401", "auth"),
        ("claude", "http_402", "billing"),
    ] {
        let fakes = Fakes::new();
        fakes.play(tool, &fakes.replay(&case(tool, name), ""));
        let more = json!({
            "max_retries": 3, "retry_policy": "retry_same", "backoff": {"strategy": "immediate"},
        });
        let said = fakes.run(&Fakes::job("a", tool, &more));
        assert_eq!(said.json()["reason"]["code"], class, "{tool} {name}");
        assert_eq!((said.json()["attempt"].as_u64(), fakes.runs(tool)), (Some(1), 1), "{tool} {name}");
        assert_eq!(fakes.project.places("a"), ["quarantined"]);
    }
    // Other failures are.
    let fakes = Fakes::new();
    fakes.play("codex", &fakes.replay(&case("codex", "bad_edit"), ""));
    fakes.play_in_run("codex", 3, &fakes.replay(&case("codex", "success"), EDIT));
    let more = json!({"max_retries": 3, "retry_policy": "retry_same", "backoff": {"strategy": "immediate"}});
    assert_eq!(ends(&fakes.run(&Fakes::job("a", "codex", &more)), 0)["attempt"], 3);
    assert_eq!(fakes.ledger().len(), 3);
}

#[test]
fn what_an_agent_leaves_goes_with_its_job() {
    let fakes = Fakes::new();
    for (tool, _) in TOOLS {
        fakes.write("repo/calc.py", BEFORE);
        fakes.play(tool, &fakes.replay(&case(tool, "success"), EDIT));
        ends(&fakes.run(&Fakes::job(tool, tool, &json!({}))), 0);
        let files = fakes.state_files("logs");
        for ending in ["log", "stream", "evidence.json", "patch"] {
            let name = format!("{tool}.1.{ending}");
            assert!(files.contains(&name), "{name} in {files:?}");
        }
        // A file of evidence is what the result says that it is.
        let result = &fakes.project.record_shown(tool)["result"]["metadata"]["evidence"];
        for what in ["evidence", "patch"] {
            let path = result[format!("{what}_path")].as_str().unwrap();
            let said = std::process::Command::new("sha256sum").arg(path).output().unwrap();
            let sum = String::from_utf8_lossy(&said.stdout).split(' ').next().unwrap().to_owned();
            assert_eq!(result[format!("{what}_sha256")], sum, "{what}");
        }
    }
    let patch = std::fs::read_to_string(fakes.project.root("state/logs/codex.1.patch")).unwrap();
    assert!(patch.contains("-    return a - b\n+    return a + b\n"), "{patch}");
    fakes.engine(&["gc", "--keep-count", "0"]).exits(0);
    assert_eq!(fakes.state_files("logs"), [""; 0]);
    assert_eq!(fakes.state_files("attempts"), [""; 0]);
    assert_eq!(fakes.ledger().len(), 4, "the ledger stays");
}

#[test]
fn what_a_canceled_or_stalled_agent_used_is_in_the_ledger() {
    for tool in ["claude", "codex", "gemini"] {
        // It was answered once, then nothing more came; its stream tells no usage, its file of the session does.
        let fakes = Fakes::new();
        let case = case(tool, "term_in_the_middle");
        fakes.play(tool, &fakes.replay(&case, EDIT));
        let name = fakes.project.job(&Fakes::job("a", tool, &json!({"grace_seconds": 1})));
        let running = fakes.start(&["run-job", "--json", "--job-file", &name]);
        eventually("the session is in the record", || {
            let record = fakes.project.record_if_any("a");
            record.is_some_and(|record| record["attempts"][0]["session_id"].is_string())
        });
        fakes.engine(&["cancel", "a"]).exits(0);
        let result = ends(&running.wait(), 143);
        assert_eq!(result["outcome"], "canceled");
        let lines = fakes.ledger();
        let (input, output, _) = served(&case);
        assert_eq!((lines.len(), lines[0]["outcome"].as_str()), (1, Some("canceled")), "{tool} {lines:?}");
        let told = (lines[0]["input_tokens"].as_u64(), lines[0]["output_tokens"].as_u64());
        assert_eq!(told, (Some(input), Some(output)), "{tool}");
        assert_eq!(lines[0]["tokens_source"], "session_file");
        // The edit is evidence all the same.
        assert_eq!(result["metadata"]["evidence"]["changed"], true, "{tool}");
    }
}

#[test]
fn the_edit_of_another_job_is_not_taken_for_ones_own() {
    let fakes = Fakes::new();
    // The one edits in the midst of the other, which does nothing and calls it a success.
    let (seen, done) = (fakes.path("idle-runs"), fakes.path("edited"));
    let edit =
        format!("while [ ! -e {} ]; do sleep 0.05; done\n{EDIT}touch {}\n", seen.display(), done.display());
    let idle = format!("touch {}; while [ ! -e {} ]; do sleep 0.05; done\n", seen.display(), done.display());
    fakes.play("codex", &fakes.replay(&case("codex", "success"), &edit));
    fakes.play("claude", &fakes.replay(&case("claude", "success"), &idle));
    let limits = json!({"timeout_seconds": 3, "idle_timeout_seconds": 3, "grace_seconds": 1});
    for tool in ["codex", "claude"] {
        let name = fakes.project.job(&Fakes::job(tool, tool, &limits));
        assert_eq!(fakes.engine(&["submit", &name]).code, 0);
    }
    let _ = fakes.engine(&["work", "--slots", "2", "--drain", "-q"]);
    let idle = fakes.project.record("claude");
    assert_ne!(idle["status"], "succeeded", "{:#}", idle["result"]);
}

#[test]
fn what_the_engine_writes_in_the_repository_is_no_change_of_an_agent() {
    let fakes = Fakes::new();
    let root = fakes.path("repo/own").display().to_string();
    assert_eq!(fakes.engine(&["init", "-q", &root]).code, 0);
    fakes.play("claude", &fakes.replay(&case("claude", "no_change"), ""));
    let mut job = Fakes::job("a", "claude", &json!({}));
    job["paths"]["repo_root"] = json!(fakes.path("repo"));
    job["paths"]["log_file"] = json!("out/a.log");
    job["paths"]["error_report"] = json!("out/a.error.json");
    let name = fakes.project.job(&job);
    let said = fakes.engine(&["--root", &root, "run-job", "--json", "--job-file", &name]);
    ends_as(&said, 1, "failed", "no_change");
    assert!(fakes.path("repo/out/a.log").exists() && fakes.path("repo/own/state/usage.jsonl").exists());
    // With a scope they are no violation either.
    fakes.play("claude", &fakes.replay(&case("claude", "success"), EDIT));
    job["metadata"]["files_scope"] = json!(["calc.py"]);
    let name = fakes.project.job(&job);
    let said = fakes.engine(&["--root", &root, "run-job", "--json", "--job-file", &name]);
    ends_as(&said, 0, "succeeded", "ok");
}

#[test]
fn agents_of_one_work_tree_run_one_after_the_other_and_none_is_lost_by_waiting() {
    let fakes = Fakes::new();
    let edit = "echo '# more' >> calc.py; sleep 0.4\n";
    fakes.play("claude", &fakes.replay(&case("claude", "success"), edit));
    for n in 1..=4 {
        // Each may run for less than it has to wait.
        let job = Fakes::job(&format!("a{n}"), "claude", &json!({"timeout_seconds": 2}));
        assert_eq!(fakes.engine(&["submit", &fakes.project.job(&job)]).code, 0);
    }
    assert_eq!(fakes.engine(&["work", "--slots", "4", "--drain", "-q"]).code, 0);
    for n in 1..=4 {
        let record = fakes.project.record(&format!("a{n}"));
        assert_eq!(
            (&record["status"], record["attempts"].as_array().map(Vec::len)),
            (&json!("succeeded"), Some(1))
        );
        assert_eq!(record["result"]["metadata"]["evidence"]["files_total"], 1, "{record:#}");
    }
    // Who comes directly is told, and writes nothing.
    fakes.play("claude", &fakes.replay(&case("claude", "success"), "touch began; sleep 600\n"));
    let name = fakes.project.job(&Fakes::job("b1", "claude", &json!({})));
    let running = fakes.start(&["run-job", "--json", "--job-file", &name]);
    eventually("it runs", || fakes.path("repo/began").exists());
    let said = fakes.run(&Fakes::job("b2", "claude", &json!({})));
    assert_eq!(said.code, 125);
    assert_eq!(said.json()["reason"]["code"], "waiting_lock");
    // Who waits in the queue is explained by it, and counted as waiting.
    assert_eq!(
        fakes.engine(&["submit", &fakes.project.job(&Fakes::job("b3", "claude", &json!({})))]).code,
        0
    );
    let explained = fakes.engine(&["explain", "b3", "--json"]).json();
    assert_eq!(explained["findings"][0]["code"], "waiting_lock", "{explained}");
    assert_eq!(explained["findings"][0]["job_id"], "b1");
    let listed = fakes.engine(&["list", "--state", "waiting", "--json"]).json();
    assert_eq!((&listed["job_id"], &listed["waiting"]["code"]), (&json!("b3"), &json!("waiting_lock")));
    assert_eq!(fakes.engine(&["status", "--json"]).json()["waiting"]["lock"], 1);
    running.signal(rustix::process::Signal::TERM);
    let _ = running.wait();
    let explained = fakes.engine(&["explain", "b3", "--json"]).json();
    assert_eq!(explained["findings"][0]["code"], "ready", "{explained}");
}
