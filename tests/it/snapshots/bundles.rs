//! `workstreams validate` and `plan`: what authors of bundles read.

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

#[test]
fn plan() {
    let project = Project::without_root();
    std::fs::create_dir(project.path("workstreams")).unwrap();
    let write = |id: &str, scope: &str, more: &str| {
        let text = format!(
            r#"{{"id": "ws-{id}", "files_scope": [{scope}], {more} "openspec_change": "-", "ccpm_issue": 1, "gate": 1,
                "tasks": ["Add it"], "tool": "claude"}}"#
        );
        std::fs::write(project.path("workstreams").join(format!("{id}.json")), text).unwrap();
    };
    let mut session = Session::new(&project);
    write("parser", r#""src/parser.py""#, "");
    session.engine("plan");
    session.note("an overlap, a directory, a group, one that needs others and one that runs alone");
    write("lexer", r#""src/parser.py", "src/lexer.py""#, "");
    write("style", r#""src/**/*.py""#, r#""conflict_group": "style","#);
    write("docs", r#""docs""#, r#""conflict_group": "style", "kind": "docs","#);
    write(
        "release",
        r#""setup.cfg""#,
        r#""depends_on": ["ws-docs", "ws-style"], "circuit_breaker": {"max_attempts": 4},"#,
    );
    write("move", r#""lib""#, r#""parallel_ok": false,"#);
    session.engine_all(&["plan", "plan --max-workers 2 --json", "plan --dot", "plan --mermaid"]);
    session.note("mistakes");
    write("lexer", "", r#""depends_on": ["ws-release"],"#);
    write("docs", r#""docs""#, r#""depends_on": ["ws-release"],"#);
    session.engine_all(&["plan", "plan --json", "plan --dot --json", "plan --max-workers 0"]);
    session.matches("plan");
}
