//! `workstreams validate`: what authors of bundles read.

use super::Session;
use crate::support::Project;

#[test]
fn workstreams_validate() {
    let project = Project::without_root();
    std::fs::create_dir(project.path("workstreams")).unwrap();
    let write =
        |name: &str, text: &str| std::fs::write(project.path("workstreams").join(name), text).unwrap();
    let rest = r#""openspec_change": "-", "ccpm_issue": 1, "gate": 1, "tasks": ["Add it"], "tool": "claude""#;
    let mut session = Session::new(&project);
    write("a.json", &format!("// why\n{{\"id\": \"ws-a\", \"files_scope\": [\"calc.py\"], {rest}}}\n"));
    session.engine_all(&[
        "workstreams validate",
        "workstreams validate --authoring",
        "workstreams validate --json",
    ]);
    session.note("another one in the same files, with prose");
    let tests = r#""acceptance_tests": ["$ pytest -q", "pytest -q", "It is fast."]"#;
    write(
        "b.json",
        &format!("{{\"id\": \"ws-b\", \"files_scope\": [\"calc.py\", \"*\"], {tests}, {rest}}}\n"),
    );
    session.engine_all(&[
        "workstreams validate",
        "workstreams validate --authoring",
        "workstreams validate --json",
    ]);
    session.note("mistakes of all kinds");
    write(
        "b.json",
        "{\n  \"id\": \"{ws_id}\",\n  \"steps\": [],\n  \"files_scope\": [\"../x\", \"a[\"]\n}\n",
    );
    write("c.json", "{\"id\": {[ws_id]}}\n");
    write(
        "d.json",
        &format!("{{\"id\": \"ws-a\", \"files_scope\": [\"d\"], \"depends_on\": [\"ws-a\"], {rest}}}\n"),
    );
    session.engine_all(&[
        "workstreams validate",
        "workstreams validate --authoring",
        "workstreams validate --json",
    ]);
    session.engine_all(&["workstreams validate nowhere", "workstreams", "workstreams valdate"]);
    session.matches("workstreams-validate");
}
