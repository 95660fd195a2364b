//! One job through the command line: verdict, exit status, files.

use serde_json::json;

use crate::support::Project;

#[test]
fn a_command_runs_as_a_recorded_job_and_its_exit_code_is_passed_through() {
    let project = Project::without_root();
    let said = project.engine(&["run-job", "--json", "--", "sh", "-c", "echo hi; exit 7"]);
    let result = said.json();
    assert_eq!(said.code, 7);
    assert_eq!(result["outcome"], "failed");
    assert_eq!(result["stdout"], "hi\n");
    let id = result["job_id"].as_str().unwrap();
    assert_eq!(project.places(id), ["quarantined"]);
    assert_eq!(project.record(id)["result"]["exit_code"], 7);
    assert_eq!(project.journal().len(), 2);
}

#[test]
fn a_job_file_that_ends_well_is_in_done() {
    let project = Project::new();
    let said = project.run(&json!({"job_id": "a", "tool": "shell", "command": {"exe": "true"}}));
    said.exits(0);
    assert_eq!(project.places("a"), ["done"]);
}

#[test]
fn a_command_runs_where_it_was_typed() {
    let project = Project::new();
    std::fs::create_dir(project.path("sub")).unwrap();
    let output =
        project.command(&["run-job", "--", "pwd"]).current_dir(project.path("sub")).output().unwrap();
    let sub = project.path("sub").canonicalize().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), sub.to_string_lossy());
}
