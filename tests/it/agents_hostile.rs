//! Streams that no tool should print: secrets in all forms, no end, no line break, no text, no bottom.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::fake_agent::{EDIT, Fakes, TOOLS, case, ends, ends_as, side_file};
use crate::support::{Said, eventually, fake_tool, is_root, processes_with};

const SESSION: &str = "01a1ff11-b4df-7963-9a98-4b694edd5a24";

/// Runs a job and gives the largest resident set of the engine in KB beside what it said.
fn run_measured(fakes: &Fakes, document: &Value) -> (Said, u64) {
    let name = fakes.project.job(document);
    let engine = fakes.command(&["run-job", "--json", "--job-file", &name]);
    let mut measured = std::process::Command::new(fake_tool());
    measured.args(["max-rss", "rss"]).arg(engine.get_program()).args(engine.get_args());
    measured.current_dir(fakes.project.dir()).env_clear().envs(fakes.env());
    let said = Said::of(&measured.output().unwrap());
    (said, fakes.read("rss").parse().unwrap())
}

/// Less than this the engine needs, however much a tool prints: 8 MB more than for a plain success, which takes what the debug
/// build itself takes.
fn most_kb() -> u64 {
    static MOST: OnceLock<u64> = OnceLock::new();
    *MOST.get_or_init(|| {
        let plain = Fakes::playing("codex", &Fakes::new().replay(&case("codex", "success"), EDIT));
        run_measured(&plain, &Fakes::job("plain", "codex", &json!({}))).1 + (8 << 10)
    })
}

/// An event of a tool, whose NUMBER makes each another.
fn endless_event(tool: &str) -> String {
    let text = "x".repeat(1000);
    let event = match tool {
        "aider" => return format!("{text} NUMBER"),
        "codex" => {
            json!({"type": "item.completed", "item": {"id": "item_NUMBER", "type": "command_execution",
            "command": "/bin/bash -lc 'echo NUMBER'", "aggregated_output": text, "exit_code": 0,
            "status": "completed"}})
        }
        "claude" => json!({"type": "assistant", "session_id": SESSION, "message": {"id": "msg_NUMBER",
            "model": "claude-sonnet-4-5", "content": [{"type": "text", "text": text}, {"type": "tool_use",
            "id": "toolu_NUMBER", "name": "Bash", "input": {"command": "echo NUMBER"}}]}}),
        _ => json!({"type": "message", "role": "assistant", "content": text, "delta": true, "n": "NUMBER"}),
    };
    event.to_string()
}

/// Prints about so many megabytes of events before the lines of a recorded success.
fn endless(fakes: &Fakes, tool: &str, megabytes: usize) {
    let success = fakes.replay(&case(tool, "success"), EDIT);
    let event = endless_event(tool);
    fakes.write("fake/event", &event);
    let lines = (megabytes << 20) / event.len();
    let event = fakes.path("fake/event");
    let many = format!(
        "awk '{{ n = split($0, p, \"NUMBER\"); for (i = 0; i < {lines}; i++) {{ l = p[1]; for (k = 2; k <= n; k++) l = l i p[k]; print l }} }}' {}\n",
        event.display()
    );
    fakes.play(tool, &success.replacen("cat \"", &format!("{many}cat \""), 2).replacen(&many, "", 1));
}

#[test]
fn a_stream_of_200_megabytes_does_not_grow_the_engine() {
    let fakes = Fakes::new();
    endless(&fakes, "claude", 200);
    let start = Instant::now();
    let job = Fakes::job("a", "claude", &json!({"timeout_seconds": 300}));
    let (said, kilobytes) = run_measured(&fakes, &job);
    ends_as(&said, 0, "succeeded", "ok");
    assert!(kilobytes < most_kb(), "{kilobytes} KB");
    assert!(start.elapsed() < Duration::from_secs(120), "{:?}", start.elapsed());
}

#[test]
fn an_answer_in_endless_pieces_does_not_grow_the_engine() {
    // Of gemini each piece of an answer is an event, and all pieces together are the answer.
    let fakes = Fakes::new();
    endless(&fakes, "gemini", 40);
    let start = Instant::now();
    let job = Fakes::job("a", "gemini", &json!({"timeout_seconds": 300}));
    let (said, kilobytes) = run_measured(&fakes, &job);
    let result = ends_as(&said, 0, "succeeded", "ok");
    assert!(kilobytes < most_kb(), "{kilobytes} KB");
    assert!(start.elapsed() < Duration::from_secs(120), "{:?}", start.elapsed());
    assert!(result["metadata"]["answer"].as_str().unwrap().len() < 200_000);
}

#[test]
fn a_long_stream_of_events_that_are_each_another_does_not_grow_the_engine() {
    for (tool, _) in TOOLS {
        let fakes = Fakes::new();
        endless(&fakes, tool, 20);
        let (said, kilobytes) = run_measured(&fakes, &Fakes::job("a", tool, &json!({})));
        let result = ends_as(&said, 0, "succeeded", "ok");
        assert!(kilobytes < most_kb(), "{tool}: {kilobytes} KB");
        assert!(said.out.len() < 200_000, "{tool}: a result of {} bytes", said.out.len());
        let commands = result["metadata"]["commands"].as_array().unwrap().len();
        assert!(commands <= 50, "{tool}: {commands}");
    }
}

#[test]
fn a_line_of_five_megabytes_is_not_held_and_not_believed() {
    // No text of it can be cut.
    let numbers = "printf '{\"type\":\"item.completed\",\"item\":['; head -c 5000000 /dev/zero | tr '\\0' 1; echo ']}'\n";
    let fakes = Fakes::playing("codex", &format!("{EDIT}{numbers}exit 0\n"));
    let result = ends_as(&fakes.run(&Fakes::job("n", "codex", &json!({}))), 1, "failed", "protocol");
    assert_eq!(result["metadata"]["unread_lines"], 1);
    assert!(result["reason"]["message"].as_str().unwrap().contains("too long"), "{result:#}");
    for (tool, _) in TOOLS {
        let fakes = Fakes::new();
        let long = "printf '{\"type\":\"item.completed\",\"text\":\"'; head -c 5000000 /dev/zero | tr '\\0' x; echo '\"}'\n";
        let plain = fakes.replay(&case(tool, "success"), EDIT);
        fakes.play(tool, &format!("{long}{plain}"));
        let (said, kilobytes) = run_measured(&fakes, &Fakes::job("a", tool, &json!({})));
        let result = ends_as(&said, 0, "succeeded", "ok");
        assert!(kilobytes < most_kb(), "{tool}: {kilobytes} KB");
        assert_eq!(result["metadata"]["unread_lines"], Value::Null, "{tool} {}", result["metadata"]);
        // Without an end of its own it is no success.
        fakes.play(tool, &format!("{EDIT}{long}exit 0\n"));
        let result = ends(&fakes.run(&Fakes::job("b", tool, &json!({}))), 1);
        assert_eq!(result["reason"]["code"], "protocol", "{tool}");
    }
}

/// Of each tool that prints events: the recorded success, spoiled by a script that reads it.
#[test]
fn an_end_is_seen_whatever_stands_around_it() {
    for tool in ["claude", "codex", "gemini"] {
        for (id, spoil) in [
            ("sequences", "sed 's/^/\\x1b[?2004h\\x1b]0;title\\x07/; s/$/\\x1b[?2004l/'"),
            ("mark", "sed '1s/^/\\xef\\xbb\\xbf/'"),
            ("nul", "sed 's/^/\\x00/; s/$/\\x00/'"),
            ("crlf", "sed 's/$/\\r/'"),
            ("no-newline", "sed -z '$s/\\n$//'"),
            ("garbage", "sed 's/.*/npm warn {\\n&\\n}\\xff\\xfe\\n[1]/'"),
            (
                "long",
                r#"while IFS= read -r line; do printf '{"padding":"'; head -c 5000000 /dev/zero | tr '\0' x
                printf '",%s\n' "${line#?}"; done"#,
            ),
        ] {
            let fakes = Fakes::new();
            let play = fakes.replay(&case(tool, "success"), EDIT);
            let (out, end) = play.rsplit_once("cat ").unwrap();
            let (file, end) = end.split_once('\n').unwrap();
            fakes.play(tool, &format!("{out}{spoil} < {file}\n{end}"));
            let (said, kilobytes) = run_measured(&fakes, &Fakes::job(id, tool, &json!({})));
            ends_as(&said, 0, "succeeded", "ok");
            assert!(kilobytes < most_kb(), "{tool} {id}: {kilobytes} KB");
        }
    }
}

#[test]
fn bytes_that_are_no_text_and_json_without_a_bottom_break_nothing() {
    for (tool, _) in TOOLS {
        let fakes = Fakes::new();
        fakes.write("fake/bytes", b"\xff\xfe\x00\x1b[31m{\"type\":\"\xc3\x28\"}\n{\"type\":\"result\",\"x\":\"\xed\xa0\x80\"}\n\x00\x00\n\r\n");
        let deep = "[".repeat(10_000);
        let object = "{\"type\":".repeat(10_000);
        fakes.write("fake/deep", format!("{deep}\n{object}\n{{\"type\":\"result\",\"stats\":{deep}\n"));
        let noise = format!(
            "cat {0} {1}; cat {0} {1} >&2\n",
            fakes.path("fake/bytes").display(),
            fakes.path("fake/deep").display()
        );
        let plain = fakes.replay(&case(tool, "success"), EDIT);
        fakes.play(tool, &format!("{noise}{plain}"));
        let (said, kilobytes) = run_measured(&fakes, &Fakes::job("a", tool, &json!({})));
        ends_as(&said, 0, "succeeded", "ok");
        assert!(kilobytes < most_kb(), "{tool}: {kilobytes} KB");
        // The same in its own file of the session.
        fakes.write("repo/calc.py", crate::fake_agent::BEFORE);
        let side = side_file(tool, &case(tool, "success").session().unwrap_or_default());
        let spoil = format!(
            "cat {} {} >> \"{side}\"\n",
            fakes.path("fake/bytes").display(),
            fakes.path("fake/deep").display()
        );
        fakes.play(
            tool,
            &plain.replacen("cat \"", &format!("mkdir -p \"$(dirname \"{side}\")\"\n{spoil}cat \""), 2),
        );
        let result = ends_as(&fakes.run(&Fakes::job("b", tool, &json!({}))), 0, "succeeded", "ok");
        assert_ne!(result["metadata"]["tokens_source"], "none");
        // And with nothing else it is no success.
        fakes.play(tool, &format!("{EDIT}{noise}exit 0\n"));
        let result = ends(&fakes.run(&Fakes::job("c", tool, &json!({}))), 1);
        // The noise has a result of a kind: it says nothing of a success.
        let code = result["reason"]["code"].as_str().unwrap();
        assert!(["protocol", "failed"].contains(&code), "{tool} {code}");
    }
}

#[test]
fn a_stream_that_ends_in_the_middle_of_a_line_has_no_end() {
    for tool in ["claude", "codex", "gemini"] {
        let fakes = Fakes::new();
        let out = case(tool, "success").text("stdout");
        let last = out.trim_end().rfind('\n').unwrap();
        let (without_break, cut) = (out.trim_end(), &out[..last + 40]);
        fakes.write("fake/cut", cut);
        fakes.write("fake/whole", without_break);
        fakes.play(tool, &format!("{EDIT}cat {}; exit 0\n", fakes.path("fake/cut").display()));
        ends_as(&fakes.run(&Fakes::job("a", tool, &json!({}))), 1, "failed", "protocol");
        // Only the line break is missing: all was said.
        fakes.write("repo/calc.py", crate::fake_agent::BEFORE);
        fakes.play(tool, &format!("{EDIT}cat {}; exit 0\n", fakes.path("fake/whole").display()));
        ends_as(&fakes.run(&Fakes::job("b", tool, &json!({}))), 0, "succeeded", "ok");
    }
}

#[test]
fn an_agent_that_prints_nothing_and_changes_everything_is_no_success() {
    for (tool, _) in TOOLS {
        let fakes = Fakes::playing(tool, &format!("{EDIT}exit 0\n"));
        ends_as(&fakes.run(&Fakes::job("a", tool, &json!({}))), 1, "failed", "protocol");
        fakes.play(tool, "exit 3\n");
        ends_as(&fakes.run(&Fakes::job("b", tool, &json!({}))), 3, "failed", "failed");
        fakes.play(tool, "kill -9 $$\n");
        ends_as(&fakes.run(&Fakes::job("c", tool, &json!({}))), 137, "killed", "signal:9");
    }
}

/// The files below a directory that hold one of these texts; the job files themselves are the user's.
fn leaks(dir: &Path, texts: &[String], found: &mut Vec<(PathBuf, String)>) {
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if entry.file_type().unwrap().is_dir() {
            if !path.ends_with(".engine/jobs") {
                leaks(&path, texts, found);
            }
            continue;
        }
        let bytes = std::fs::read(&path).unwrap_or_default();
        for text in texts {
            if bytes.windows(text.len()).any(|window| window == text.as_bytes()) {
                found.push((path.clone(), text.clone()));
            }
        }
    }
}

/// The end of each tool's stream around an answer, with a command; `ANSWER` and `COMMAND` are replaced.
fn saying(tool: &str, answer: &str, command: &str) -> String {
    let events = match tool {
        "codex" => vec![
            json!({"type": "thread.started", "thread_id": SESSION}),
            json!({"type": "item.completed", "item": {"id": "item_0", "type": "command_execution",
                "command": format!("/bin/bash -lc '{command}'"), "aggregated_output": answer, "exit_code": 1,
                "status": "failed"}}),
            json!({"type": "item.completed", "item": {"id": "item_1", "type": "agent_message", "text": answer}}),
            json!({"type": "turn.completed", "usage": {"input_tokens": 10, "output_tokens": 1}}),
        ],
        "claude" => vec![
            json!({"type": "system", "subtype": "init", "session_id": SESSION, "model": "m"}),
            json!({"type": "assistant", "session_id": SESSION, "message": {"id": "m1", "model": "m", "content": [
                {"type": "tool_use", "id": "t1", "name": "Bash", "input": {"command": command}}]}}),
            json!({"type": "user", "session_id": SESSION, "message": {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "t1", "is_error": true, "content": answer}]}}),
            json!({"type": "result", "subtype": "success", "is_error": false, "result": answer,
                "session_id": SESSION, "modelUsage": {"m": {"inputTokens": 10, "outputTokens": 1}},
                "permission_denials": [{"tool_name": "Bash", "tool_input": {"command": command}}]}),
        ],
        _ => vec![
            json!({"type": "init", "session_id": SESSION, "model": "m"}),
            json!({"type": "message", "role": "user", "content": answer}),
            json!({"type": "tool_use", "tool_name": "run_shell_command", "tool_id": "t1", "parameters": {"command": command}}),
            json!({"type": "tool_result", "tool_id": "t1", "status": "error", "output": answer,
                "error": {"type": "edit_no_occurrence_found", "message": answer}}),
            json!({"type": "message", "role": "assistant", "content": answer, "delta": true}),
            json!({"type": "result", "status": "success", "stats": {"total_tokens": 11, "input_tokens": 10, "output_tokens": 1}}),
        ],
    };
    if tool == "aider" {
        return format!("{answer}\n{command}\nTokens: 1k sent, 1 received.\nApplied edit to calc.py\n");
    }
    events.iter().map(|event| format!("{event}\n")).collect()
}

/// Runs a tool that puts a text wherever it can, and gives the files that it is found in.
fn leaked(tool: &str, key: &str, shown: &str, is_of_job: bool) -> Vec<(PathBuf, String)> {
    let fakes = Fakes::new();
    let fake = fakes.path(&format!("fake/{tool}"));
    fakes.write(
        "shown",
        saying(tool, &format!("the key is {shown} indeed"), &format!("curl -H {shown} x; exit 1")),
    );
    // In two pieces that meet in the middle of each occurrence: the reader has taken the first before the second comes.
    let in_json = json!(shown).to_string();
    let written = if tool == "aider" { shown } else { in_json.trim_matches('"') };
    let at = std::fs::read_to_string(fakes.path("shown")).unwrap().find(written).unwrap() + written.len() / 2;
    let log = [
        json!({"event": "message_send_starting", "properties": {}}),
        json!({"event": "message_send", "properties": {"main_model": shown, "prompt_tokens": 10, "completion_tokens": 1}}),
        json!({"event": "exit", "properties": {}}),
    ];
    let side = match tool {
        "aider" => format!("cat > \"$side\" <<'END'\n{}\n{}\n{}\nEND\n", log[0], log[1], log[2]),
        _ => String::new(),
    };
    let (shown_file, shown_text) = (fakes.path("shown"), shown.replace('\'', "'\\''"));
    let play = format!(
        "{EDIT}{side}printf '%s\\n' '{shown_text}' >> calc.py; printf '%s\\n' '{shown_text}' >&2\n\
         head -c {at} {0}; sleep 0.3; tail -c +{1} {0}\nrm -f \"{2}\"/stdin.* \"{2}\"/environ.* \"{2}\"/play; exit 0\n",
        shown_file.display(),
        at + 1,
        fake.display(),
    );
    fakes.play(tool, &play);
    let mut job = Fakes::job("a", tool, &json!({"prompt": format!("Use {key} for it.\n")}));
    if is_of_job {
        job["env"] = json!({"SOME_TOKEN": key});
    }
    let name = fakes.project.job(&job);
    let mut command = fakes.command(&["run-job", "--job-file", &name]);
    if !is_of_job {
        for name in ["OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY"] {
            command.env(name, key);
        }
    }
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{tool}: {}", String::from_utf8_lossy(&output.stderr));
    fakes.write(".engine/said", [output.stdout, output.stderr].concat());
    for args in [&["show", "a", "--json"][..], &["list", "--json"], &["events"], &["usage", "--json"]] {
        let said = fakes.engine(args);
        fakes.write(&format!(".engine/said-{}", args[0]), format!("{}{}", said.out, said.err));
    }
    let mut found = Vec::new();
    leaks(&fakes.project.root(""), &[key.to_owned(), shown.to_owned(), written.to_owned()], &mut found);
    found
}

const KEY: &str = "sk-canary-4d1f0a9c8e7b6a55";

fn assert_no_leak(shown: &dyn Fn(&str) -> String, key: &str) {
    let mut wrong = Vec::new();
    for (tool, _) in TOOLS {
        for is_of_job in [true, false] {
            for (path, text) in leaked(tool, key, &shown(key), is_of_job) {
                let path = path.to_string_lossy().into_owned();
                let name = path.split(".engine/").nth(1).unwrap().to_owned();
                wrong.push(format!("{tool} (of the job: {is_of_job}): `{text}` in {name}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_secret_that_an_agent_repeats_is_in_no_file_and_in_no_answer() {
    assert_no_leak(&str::to_owned, KEY);
}

#[test]
fn a_secret_that_an_agent_repeats_in_base64_is_in_no_file_and_in_no_answer() {
    let base64 = |text: &str| {
        let mut child = std::process::Command::new("base64")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(child.stdin.as_mut().unwrap(), text.as_bytes()).unwrap();
        String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap().trim().to_owned()
    };
    assert_no_leak(&base64, KEY);
}

#[test]
fn a_secret_with_letters_that_json_escapes_is_in_no_file_and_in_no_answer() {
    assert_no_leak(&str::to_owned, "sk-\"canary\"/4d1f\\0a9c8e7b6a55");
}

#[test]
fn a_prompt_that_nobody_reads_and_one_that_is_long_hold_nothing_up() {
    for (tool, _) in TOOLS {
        let fakes = Fakes::new();
        let success = fakes.replay(&case(tool, "success"), EDIT);
        fakes.play(tool, &success);
        let prompt = "Correct it. ä\n".repeat(50_000);
        let job = Fakes::job("a", tool, &json!({"prompt": prompt}));
        ends_as(&fakes.run(&job), 0, "succeeded", "ok");
        assert_eq!(fakes.given(tool, "stdin", 1), prompt);
        // The same, unread.
        fakes.write("repo/calc.py", crate::fake_agent::BEFORE);
        let plain = fakes.read(&format!("bin/{tool}"));
        fakes.executable(&format!("bin/{tool}"), &plain.replace("cat /dev/stdin > \"$F/stdin.$n\"\n", ""));
        let result = ends_as(&fakes.run(&job), 0, "succeeded", "ok");
        assert!(result["duration_s"].as_f64().unwrap() < 30.0, "{result}");
    }
}

#[test]
fn a_patch_that_is_cut_or_lacks_a_large_file_says_so() {
    let fakes = Fakes::new();
    let many = "for i in 1 2 3 4 5 6 7 8 9; do yes \"line $i\" | head -c 300000 > part$i.txt; done\n";
    fakes.play("codex", &fakes.replay(&case("codex", "success"), many));
    let result = ends_as(&fakes.run(&Fakes::job("a", "codex", &json!({}))), 0, "succeeded", "ok");
    let evidence = &result["metadata"]["evidence"];
    assert_eq!((&evidence["files_total"], &evidence["patch_is_cut"]), (&json!(9), &json!(true)));
    let patch = std::fs::metadata(evidence["patch_path"].as_str().unwrap()).unwrap().len();
    assert!(patch < 2_000_000, "{patch}");
    let large = "yes 'a line of the file' | head -c 60000000 > large.txt\n";
    fakes.play("codex", &fakes.replay(&case("codex", "success"), large));
    let result = ends_as(&fakes.run(&Fakes::job("b", "codex", &json!({}))), 0, "succeeded", "ok");
    let evidence = &result["metadata"]["evidence"];
    assert_eq!(evidence["files"][0]["path"], "large.txt");
    assert_eq!(evidence["patch_left_out"], json!(["large.txt"]), "{evidence:#}");
}

#[test]
fn what_an_agent_leaves_running_is_ended_and_told() {
    for (tool, _) in TOOLS {
        let fakes = Fakes::new();
        let left = "setsid sleep 600 > /dev/null 2>&1 < /dev/null &\nsleep 600 > /dev/null 2>&1 &\n";
        fakes.play(tool, &fakes.replay(&case(tool, "success"), &format!("{EDIT}{left}")));
        let result =
            ends_as(&fakes.run(&Fakes::job("a", tool, &json!({"grace_seconds": 1}))), 0, "succeeded", "ok");
        assert_eq!(result["metadata"]["left_over_processes"], 2, "{tool}");
        assert_eq!(processes_with(&fakes.path("bin").display().to_string()), [0; 0]);
    }
}

#[test]
fn a_session_that_is_named_like_an_option_is_no_option() {
    for (tool, name) in [
        ("codex", "--dangerously-bypass-approvals-and-sandbox"),
        ("claude", "--dangerously-skip-permissions"),
        ("gemini", "-yolo"),
    ] {
        let fakes = Fakes::new();
        let side = side_file(tool, name);
        let failed = "hit your usage limit, try again in 1 second";
        let events = match tool {
            "codex" => [
                json!({"type": "thread.started", "thread_id": name}),
                json!({"type": "turn.failed", "error": {"message": failed}}),
            ],
            "claude" => [
                json!({"type": "system", "subtype": "init", "session_id": name}),
                json!({"type": "result", "subtype": "success", "is_error": true, "api_error_status": 429, "result": failed, "session_id": name}),
            ],
            _ => [
                json!({"type": "init", "session_id": name}),
                json!({"type": "result", "status": "error", "error": {"type": "unknown", "message": failed}}),
            ],
        };
        fakes.play_in_run(tool, 1, &format!("mkdir -p \"$(dirname \"{side}\")\"; echo '{{}}' > \"{side}\"\necho '{}'; echo '{}'; exit 1\n", events[0], events[1]));
        fakes.play_in_run(tool, 2, &fakes.replay(&case(tool, "success"), EDIT));
        ends_as(&fakes.run(&Fakes::job("a", tool, &json!({}))), 75, "parked", "quota");
        eventually("the job has ended", || {
            let _ = fakes.engine(&["work", "--drain", "-q"]);
            fakes.project.record("a")["status"] != "queued"
        });
        let argv = fakes.given(tool, "argv", 2);
        assert!(!argv.lines().any(|argument| argument == name), "{tool}: {argv}");
    }
}

#[test]
fn a_name_of_a_session_or_model_that_is_no_name_does_not_swell_the_record() {
    let long = "x".repeat(200_000);
    for tool in ["codex", "claude", "gemini"] {
        let fakes = Fakes::new();
        let (first, last) = match tool {
            "codex" => (
                json!({"type": "thread.started", "thread_id": long}),
                json!({"type": "turn.completed", "usage": {"input_tokens": 1, "output_tokens": 1}}),
            ),
            "claude" => (
                json!({"type": "system", "subtype": "init", "session_id": long, "model": long}),
                json!({"type": "result", "subtype": "success", "is_error": false, "result": "x", "session_id": long,
                    "modelUsage": {(long.as_str()): {"inputTokens": 1, "outputTokens": 1}}}),
            ),
            _ => (
                json!({"type": "init", "session_id": long, "model": long}),
                json!({"type": "result", "status": "success", "stats": {"total_tokens": 2, "input_tokens": 1,
                    "output_tokens": 1, "models": {(long.as_str()): {"total_tokens": 2, "input_tokens": 1, "output_tokens": 1}}}}),
            ),
        };
        fakes.write("events", format!("{first}\n{last}\n"));
        fakes.play(tool, &format!("{EDIT}cat {}; exit 0\n", fakes.path("events").display()));
        let _ = fakes.run(&Fakes::job("a", tool, &json!({})));
        let size = |name: &str| std::fs::metadata(fakes.project.root(name)).unwrap().len();
        let sizes = (size("state/jobs/a.jsonl"), size("state/usage.jsonl"), size("state/events.jsonl"));
        assert!(sizes.0 < 150_000 && sizes.1 < 10_000 && sizes.2 < 10_000, "{tool}: {sizes:?}");
    }
}

/// Makes something hang before the tool starts, or after it has ended; it makes this file first.
fn hang(fakes: &Fakes, what: &str) -> PathBuf {
    let mark = fakes.path("fake/hangs");
    let hang = format!(": > '{}'; exec sleep 1000", mark.display());
    if what == "version" {
        let text = fakes.read("bin/claude").replacen("echo asked", &format!("{hang}; echo asked"), 1);
        fakes.executable("bin/claude", &text);
        return mark;
    }
    let ran = fakes.path("fake/ran");
    let when = if what == "second look" {
        format!("[ ! -e '{}' ] ||", ran.display())
    } else {
        "false ||".to_owned()
    };
    fakes.executable(
        "bin/git",
        &format!(
            "#!/bin/sh\ncase \"$*\" in *status*) {when} {{ {hang}; }};; esac\n\
             PATH=/usr/local/bin:/usr/bin:/bin exec git \"$@\"\n"
        ),
    );
    fakes.play(
        "claude",
        &format!(": > '{}'\n{}", ran.display(), fakes.replay(&case("claude", "success"), EDIT)),
    );
    mark
}

#[test]
fn who_interrupts_or_cancels_need_not_wait_for_a_version_or_a_look() {
    for what in ["version", "look", "second look"] {
        for by_signal in [true, false] {
            let fakes = Fakes::playing("claude", EDIT);
            let mark = hang(&fakes, what);
            let name = fakes.project.job(&Fakes::job("a", "claude", &json!({})));
            let running = fakes.start(&["run-job", "--json", "--job-file", &name]);
            eventually(what, || mark.exists());
            let start = Instant::now();
            if by_signal {
                running.signal(rustix::process::Signal::INT);
            } else {
                fakes.engine(&["cancel", "a"]).exits(0);
            }
            let said = running.wait();
            assert!(start.elapsed() < Duration::from_secs(10), "{what}: {:?}", start.elapsed());
            let result = said.json();
            assert_eq!(result["outcome"], "canceled", "{what} {result:#}");
            let code = if by_signal { "signal:2" } else { "canceled_by_user" };
            assert_eq!(result["reason"]["code"], code, "{what} {result:#}");
            let left = processes_with(&fakes.path("").display().to_string());
            assert_eq!(left, [0; 0], "{what}");
        }
    }
}

#[test]
fn what_a_version_leaves_running_is_ended() {
    let fakes = Fakes::new();
    let pid = fakes.path("fake/pid");
    let daemon = format!(
        "setsid sh -c 'echo $$ > {0}.new; mv {0}.new {0}; exec sleep 1000' < /dev/null > /dev/null 2>&1 & \
         while [ ! -e {0} ]; do :; done; echo asked",
        pid.display()
    );
    let text = fakes.read("bin/claude").replacen("echo asked", &daemon, 1);
    fakes.executable("bin/claude", &text);
    fakes.play("claude", &fakes.replay(&case("claude", "success"), EDIT));
    ends_as(&fakes.run(&Fakes::job("a", "claude", &json!({}))), 0, "succeeded", "ok");
    let pid = std::fs::read_to_string(pid).unwrap();
    assert!(!Path::new(&format!("/proc/{}", pid.trim())).exists());
}

/// Makes a repository run a program when git is asked what it ignores: by its monitor, and to fetch what it lacks.
fn arm(fakes: &Fakes, dir: &str, mark: &Path) {
    let git = |args: &[&str]| {
        let mut command = std::process::Command::new("git");
        command.args(args).current_dir(fakes.path(dir)).env_clear().envs(fakes.env());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{dir}: git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    git(&["init", "-q", "."]);
    fakes.write(&format!("{dir}/.gitignore"), "nothing\n");
    git(&["add", ".gitignore"]);
    git(&["commit", "-q", "-m", "x"]);
    git(&["update-index", "--skip-worktree", ".gitignore"]);
    let blob = git(&["rev-parse", ":.gitignore"]);
    let program = format!("touch {}; false", mark.display());
    for (key, value) in [
        ("core.repositoryFormatVersion", "1"),
        ("extensions.partialClone", "origin"),
        ("remote.origin.url", "."),
        ("remote.origin.promisor", "true"),
        ("remote.origin.uploadpack", program.as_str()),
        ("core.fsmonitor", program.as_str()),
    ] {
        git(&["config", key, value]);
    }
    std::fs::remove_file(fakes.path(&format!("{dir}/.gitignore"))).unwrap();
    std::fs::remove_file(fakes.path(&format!("{dir}/.git/objects/{}/{}", &blob[..2], &blob[2..]))).unwrap();
}

#[test]
fn a_hostile_repository_around_in_and_beside_the_work_tree_runs_nothing() {
    let fakes = Fakes::new();
    fakes.play("claude", &fakes.replay(&case("claude", "success"), EDIT));
    let mark = fakes.path("fake/ran");
    for dir in [".", "repo/inner", "beside"] {
        std::fs::create_dir_all(fakes.path(dir)).unwrap();
        arm(&fakes, dir, &mark);
    }
    std::os::unix::fs::symlink(fakes.path("beside"), fakes.path("repo/link")).unwrap();
    // The worktree itself runs them too, for whoever asks without care.
    arm(&fakes, "repo", &mark);
    let careless = std::process::Command::new("git")
        .args(["status"])
        .current_dir(fakes.path("repo"))
        .env_clear()
        .envs(fakes.env())
        .output();
    assert!(careless.is_ok() && mark.exists());
    std::fs::remove_file(&mark).unwrap();
    ends_as(&fakes.run(&Fakes::job("a", "claude", &json!({}))), 0, "succeeded", "ok");
    assert!(!mark.exists(), "a program of a repository was run");
}

#[test]
fn settings_of_the_caller_count_and_its_repository_does_not() {
    let fakes = Fakes::new();
    if !is_root() {
        return;
    }
    fakes.play("claude", &fakes.replay(&case("claude", "success"), EDIT));
    for entry in walkdir::WalkDir::new(fakes.path("repo")) {
        std::os::unix::fs::lchown(entry.unwrap().path(), Some(12_345), Some(12_345)).unwrap();
    }
    let run = |id: &str, env: &[(&str, &str)]| {
        let name = fakes.project.job(&Fakes::job(id, "claude", &json!({})));
        let mut command = fakes.command(&["run-job", "--json", "--job-file", &name]);
        Said::of(&command.envs(env.iter().copied()).output().unwrap())
    };
    ends_as(&run("a", &[]), 125, "not_started", "repository_not_trusted");
    let trusted = [
        ("GIT_CONFIG_COUNT", "1"),
        ("GIT_CONFIG_KEY_0", "safe.directory"),
        ("GIT_CONFIG_VALUE_0", "*"),
        ("GIT_DIR", "/nowhere"),
        ("GIT_WORK_TREE", "/"),
        ("GIT_INDEX_FILE", "/nowhere/index"),
        ("GIT_OBJECT_DIRECTORY", "/nowhere"),
    ];
    ends_as(&run("b", &trusted), 0, "succeeded", "ok");
}
