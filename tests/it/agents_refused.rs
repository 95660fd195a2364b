//! What an agent lacks is found before it starts: it is named, the tool never runs, and nothing of the attempt is left.

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::fake_agent::{BEFORE, EDIT, Fakes, TOOLS, WAIT, case, ends, ends_as};
use crate::support::{Said, heeding_modes, not_run};

/// A project in which each tool would do its work, if it was started.
fn ready() -> Fakes {
    let fakes = Fakes::new();
    for (tool, _) in TOOLS {
        fakes.play(tool, &fakes.replay(&case(tool, "success"), EDIT));
    }
    fakes
}

/// Asserts that a job was refused before its tool ran, with a message that names what is wrong.
#[track_caller]
fn refused(fakes: &Fakes, tool: &str, said: &Said, (code, reason, named): (i32, &str, &str)) -> Value {
    let result = ends_as(said, code, "not_started", reason);
    assert_eq!(fakes.runs(tool), 0, "{tool} was started");
    let message = result["reason"]["message"].as_str().unwrap();
    assert!(message.contains(named), "{message}");
    let report = std::fs::read_to_string(result["error_report_path"].as_str().unwrap()).unwrap();
    let report: Value = serde_json::from_str(&report).unwrap();
    assert!(report["summary"].as_str().unwrap().contains(named), "{report:#}");
    assert_eq!(fakes.state_files("attempts"), [""; 0]);
    assert!(fakes.state_files("logs").iter().all(|name| name.ends_with(".error.json")));
    assert!(fakes.ledger().is_empty(), "nothing was used");
    assert_eq!(fakes.read("repo/calc.py"), BEFORE);
    result
}

#[test]
fn an_agent_that_is_not_installed_is_named_and_told_apart_from_one_that_can_not_be_executed() {
    use std::os::unix::fs::PermissionsExt;
    for (tool, _) in TOOLS {
        let fakes = ready();
        let job = Fakes::job("j", tool, &json!({}));
        let program = fakes.path(&format!("bin/{tool}"));
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o644)).unwrap();
        refused(&fakes, tool, &fakes.run(&job), (126, "tool_not_executable", tool));
        std::fs::remove_file(&program).unwrap();
        refused(&fakes, tool, &fakes.run(&job), (127, "tool_not_found", tool));
    }
}

#[test]
fn a_version_that_is_not_understood_is_refused_with_both_versions_named() {
    for (tool, old) in [("aider", "0.79.2"), ("claude", "2.1.99"), ("codex", "0.99.1"), ("gemini", "0.19.4")]
    {
        let fakes = ready();
        fakes.install(tool, old);
        let said = fakes.run(&Fakes::job("j", tool, &json!({})));
        refused(&fakes, tool, &said, (125, "tool_version", old));
        assert!(said.json()["reason"]["message"].as_str().unwrap().contains(&format!("bin/{tool}")));
    }
}

#[test]
fn an_agent_without_a_key_is_not_started_and_the_message_says_where_a_key_may_be() {
    for (tool, name) in [
        ("aider", "*_API_KEY"),
        ("claude", "ANTHROPIC_API_KEY"),
        ("codex", "OPENAI_API_KEY"),
        ("gemini", "GEMINI_API_KEY"),
    ] {
        let fakes = ready();
        let name_of_file = fakes.project.job(&Fakes::job("j", tool, &json!({})));
        let without = |empty: bool| {
            let mut command = fakes.command(&["run-job", "--json", "--job-file", &name_of_file]);
            for key in ["ANTHROPIC_API_KEY", "OPENAI_API_KEY", "GEMINI_API_KEY"] {
                command.env_remove(key);
                if empty {
                    command.env(key, "");
                }
            }
            Said::of(&command.output().unwrap())
        };
        refused(&fakes, tool, &without(false), (125, "key_missing", name));
        // A variable that is there and empty is no key.
        refused(&fakes, tool, &without(true), (125, "key_missing", name));
    }
}

#[test]
fn a_key_is_found_where_the_tool_itself_looks_for_it() {
    for (tool, place) in [
        ("aider", "repo/.env"),
        ("aider", "home/.aider.conf.yml"),
        ("claude", "home/of claude/.credentials.json"),
        ("codex", "home/of codex/auth.json"),
        ("gemini", "home/.gemini/oauth_creds.json"),
    ] {
        let fakes = ready();
        fakes.write(place, "{}");
        let name = fakes.project.job(&Fakes::job("j", tool, &json!({})));
        let mut command = fakes.command(&["run-job", "--json", "--job-file", &name]);
        for key in ["ANTHROPIC_API_KEY", "OPENAI_API_KEY", "GEMINI_API_KEY"] {
            command.env_remove(key);
        }
        ends(&Said::of(&command.output().unwrap()), 0);
        assert_eq!(fakes.runs(tool), 1, "{tool} {place}");
    }
    // By a reference of the job, under whatever name.
    let fakes = ready();
    let mut job = Fakes::job("j", "codex", &json!({}));
    job["env"] = json!({"OPENAI_API_KEY": {"from_env": "KEY_OF_THE_TEAM"}});
    let name = fakes.project.job(&job);
    let mut command = fakes.command(&["run-job", "--json", "--job-file", &name]);
    command.env_remove("OPENAI_API_KEY").env("KEY_OF_THE_TEAM", "key-of-the-team");
    ends(&Said::of(&command.output().unwrap()), 0);
    assert!(fakes.given("codex", "environ", 1).contains("OPENAI_API_KEY=key-of-the-team\n"));
}

/// A run with another `HOME` or none, and without the variables that name a directory of one tool.
fn run_at_home(fakes: &Fakes, job: &Value, home: Option<&str>) -> Said {
    let name = fakes.project.job(job);
    let mut command = fakes.command(&["run-job", "--json", "--job-file", &name]);
    command.env_remove("CODEX_HOME").env_remove("CLAUDE_CONFIG_DIR");
    match home {
        Some(home) => command.env("HOME", home),
        None => command.env_remove("HOME"),
    };
    Said::of(&command.output().unwrap())
}

#[test]
fn an_agent_without_a_home_that_can_be_written_is_not_started() {
    for (tool, _) in TOOLS {
        let fakes = ready();
        fakes.write("file", "");
        let job = |id: &str| Fakes::job(id, tool, &json!({}));
        let file = fakes.path("file").display().to_string();
        // The tool would take it from its working directory, which is the worktree.
        let said = run_at_home(&fakes, &job("b"), Some("home"));
        refused(&fakes, tool, &said, (125, "home_missing", &format!("`home/.{tool}` is relative")));
        assert!(!fakes.path("home").join(format!(".{tool}")).exists());
        // The other two work all the same, without a session to go on with.
        if !["codex", "gemini"].contains(&tool) {
            ends(&run_at_home(&fakes, &job("a"), Some(&file)), 0);
            continue;
        }
        let said = run_at_home(&fakes, &job("a"), Some(&file));
        refused(&fakes, tool, &said, (125, "home_not_writable", &format!("`{file}` is not a directory")));
        let locked = fakes.path("locked");
        std::fs::create_dir(&locked).unwrap();
        std::fs::set_permissions(&locked, PermissionsExt::from_mode(0o555)).unwrap();
        let (home, problem) = (locked.join("home"), format!("`{}` cannot be written", locked.display()));
        heeding_modes(|| {
            let said = run_at_home(&fakes, &job("c"), home.to_str());
            refused(&fakes, tool, &said, (125, "home_not_writable", &problem));
        });
    }
}

#[test]
fn an_agent_that_inherits_no_home_gets_the_one_of_the_user_and_never_the_work_tree() {
    const NAME: &str =
        "agents_refused::an_agent_that_inherits_no_home_gets_the_one_of_the_user_and_never_the_work_tree";
    if std::env::var_os("HOME").is_some() {
        // Without it the standard library answers here as it does in the engine.
        let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
        alone.args(["--exact", NAME, "--nocapture"]).env_remove("HOME");
        let said = Said::of(&alone.output().unwrap());
        assert!(said.code == 0 && said.out.contains("1 passed"), "{}{}", said.out, said.err);
        return;
    }
    let Some(home) = std::env::home_dir().filter(|home| !home.as_os_str().is_empty()) else {
        return not_run("this user has no home");
    };
    assert!(home.is_absolute(), "{}", home.display());
    // One agent, which keeps nothing there; where each one looks is tested where the rule is.
    for inherited in [None, Some("")] {
        let fakes = ready();
        fakes.play("claude", "exit 0\n");
        let told = run_at_home(&fakes, &Fakes::job("j", "claude", &json!({})), inherited).json();
        assert_ne!(told["outcome"], "not_started", "{told:#}");
        let given = fakes.given("claude", "environ", 1);
        let given = given.lines().filter(|line| line.starts_with("HOME="));
        assert_eq!(given.collect::<Vec<_>>(), [format!("HOME={}", home.display())], "{inherited:?}");
    }
}

#[test]
fn a_key_in_the_working_directory_of_the_engine_is_none_of_an_empty_home() {
    for (tool, file) in [("codex", ".codex/auth.json"), ("claude", ".claude/.credentials.json")] {
        let fakes = ready();
        fakes.write(file, "{}");
        let mut job = Fakes::job("j", tool, &json!({}));
        job["env"] = json!({"HOME": "", "CODEX_HOME": "", "CLAUDE_CONFIG_DIR": ""});
        let name = fakes.project.job(&job);
        let mut command = fakes.command(&["run-job", "--json", "--job-file", &name]);
        for key in ["ANTHROPIC_API_KEY", "OPENAI_API_KEY"] {
            command.env_remove(key);
        }
        refused(&fakes, tool, &Said::of(&command.output().unwrap()), (125, "key_missing", tool));
    }
}

#[test]
fn a_work_tree_that_can_not_be_written_is_found_before_anything_is_paid() {
    let fakes = ready();
    let name = fakes.project.job(&Fakes::job("j", "claude", &json!({})));
    let engine = fakes.command(&["run-job", "--json", "--job-file", &name]);
    let script =
        r#"mount --bind repo repo && mount -o remount,bind,ro repo && echo mounted >&2 && exec "$@""#;
    let mut alone = std::process::Command::new("unshare");
    alone.args(if rustix::process::getuid().is_root() { vec!["-m"] } else { vec!["-r", "-m"] });
    alone.args(["sh", "-c", script, "sh"]).arg(engine.get_program()).args(engine.get_args());
    alone.current_dir(fakes.project.dir()).env_clear().envs(fakes.env());
    let said = match alone.output() {
        Ok(output) => Said::of(&output),
        Err(error) => return not_run(&format!("there is no `unshare`: {error}")),
    };
    if !said.err.contains("mounted") {
        return not_run(&format!("this user cannot mount: {}", said.err));
    }
    refused(&fakes, "claude", &said, (125, "work_tree_not_writable", "repo"));
}

#[test]
fn a_directory_that_is_no_repository_is_refused_for_without_one_nothing_proves_a_change() {
    let fakes = ready();
    std::fs::create_dir(fakes.path("plain")).unwrap();
    for (tool, _) in TOOLS {
        let mut job = Fakes::job("j", tool, &json!({}));
        job["paths"]["repo_root"] = json!("plain");
        refused(&fakes, tool, &fakes.run(&job), (125, "not_a_repository", "plain"));
        job["paths"]["repo_root"] = json!("absent");
        refused(&fakes, tool, &fakes.run(&job), (125, "path_missing", "absent"));
    }
}

#[test]
fn a_prompt_that_is_missing_or_empty_is_no_question_to_pay_for() {
    let fakes = ready();
    fakes.write("repo/empty.md", "");
    fakes.write("repo/blank.md", " \n\t\n");
    std::fs::create_dir(fakes.path("repo/directory.md")).unwrap();
    for (tool, _) in TOOLS {
        for (key, value, reason) in [
            ("prompt", "", "prompt_empty"),
            ("prompt", " \n", "prompt_empty"),
            ("message_file", "empty.md", "prompt_empty"),
            ("message_file", "blank.md", "prompt_empty"),
            ("message_file", "absent.md", "path_missing"),
            ("message_file", "directory.md", "path_missing"),
        ] {
            let mut job = Fakes::job("j", tool, &json!({}));
            job["metadata"].as_object_mut().unwrap().remove("prompt");
            job["metadata"][key] = json!(value);
            let named = if key == "prompt" { "prompt" } else { value };
            refused(&fakes, tool, &fakes.run(&job), (125, reason, named));
        }
    }
}

#[test]
fn a_scope_that_means_no_file_is_a_mistake_and_not_a_scope() {
    let fakes = ready();
    for (tool, _) in TOOLS {
        let job = Fakes::job("j", tool, &json!({"files_scope": ["calc.py", "src/**/*.rs"]}));
        refused(&fakes, tool, &fakes.run(&job), (125, "scope_matches_nothing", "src/**/*.rs"));
    }
}

#[test]
fn nothing_that_an_agent_starts_may_outlive_it_and_validate_says_so_too() {
    for (tool, _) in TOOLS {
        let fakes = ready();
        let job = Fakes::job("j", tool, &json!({"keep": ["sccache"]}));
        let name = fakes.project.job(&job);
        let said = fakes.project.engine(&["validate", &name]);
        assert!(said.out.contains("metadata.keep") && said.out.contains("cannot start"), "{}", said.out);
        refused(&fakes, tool, &fakes.run(&job), (125, "keep_refused", "metadata.keep"));
    }
}

#[test]
fn what_is_wrong_in_the_job_is_told_before_what_is_wrong_with_the_machine() {
    // A job without a prompt, or with `keep`, is wrong everywhere, whatever else this machine lacks.
    let fakes = ready();
    std::fs::remove_file(fakes.path("bin/codex")).unwrap();
    let mut job = Fakes::job("j", "codex", &json!({"keep": ["sccache"]}));
    refused(&fakes, "codex", &fakes.run(&job), (125, "keep_refused", "metadata.keep"));
    job["metadata"] = json!({});
    refused(&fakes, "codex", &fakes.run(&job), (125, "prompt_missing", "prompt"));
    // A command of its own that reads as an agent does ends with it too.
    job["metadata"] = json!({"keep": ["sccache"]});
    job["command"] = json!({"exe": "true"});
    refused(&fakes, "codex", &fakes.run(&job), (125, "keep_refused", "metadata.keep"));
}

#[test]
fn a_tool_is_asked_for_its_version_once_and_again_when_its_program_is_another() {
    let fakes = ready();
    let run = |id: &str, code: i32| {
        fakes.write("repo/calc.py", BEFORE);
        ends(&fakes.run(&Fakes::job(id, "codex", &json!({}))), code);
        fakes.asked_for_version("codex")
    };
    assert_eq!((run("a", 0), run("b", 0), run("a", 0)), (1, 1, 1));
    let remembered = std::fs::read_to_string(fakes.project.root("state/cache/versions.json")).unwrap();
    assert!(remembered.contains("0.169.0") && remembered.contains("bin/codex"), "{remembered}");
    // It is installed anew, and older: what is remembered of another file does not count.
    std::fs::remove_file(fakes.path("bin/codex")).unwrap();
    fakes.install("codex", "0.9.0");
    assert_eq!(run("c", 125), 2);
    assert_eq!(run("d", 125), 2);
    // Nothing depends on the cache.
    std::fs::remove_file(fakes.project.root("state/cache/versions.json")).unwrap();
    fakes.write("fake/codex/version", "codex-cli 0.200.0\n");
    fakes.play("codex", &fakes.replay(&case("codex", "success"), EDIT));
    assert_eq!(run("e", 0), 3);
    std::fs::write(fakes.project.root("state/cache/versions.json"), "{torn").unwrap();
    assert_eq!(run("f", 0), 4);
}

#[test]
fn a_tool_that_hangs_or_says_nothing_when_asked_for_its_version_is_run_all_the_same() {
    let fakes = ready();
    fakes.write("fake/codex/version", "codex, the newest\n");
    ends(&fakes.run(&Fakes::job("a", "codex", &json!({}))), 0);
    let plain = std::fs::read_to_string(fakes.path("bin/codex")).unwrap();
    let hanging = plain.replace("cat \"$F/version\"; exit 0", WAIT.trim());
    assert_ne!(plain, hanging);
    fakes.executable("bin/codex", &hanging);
    fakes.write("repo/calc.py", BEFORE);
    let result = ends(&fakes.run(&Fakes::job("b", "codex", &json!({}))), 0);
    assert!(result["duration_s"].as_f64().unwrap() < 25.0, "{result}");
}
