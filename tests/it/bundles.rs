//! Bundles as people write them: which files are read, and what programs read of their problems.

use std::io::Write;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::{Project, Said, with};

/// A valid bundle, with other values.
pub fn bundle(id: &str, more: &Value) -> Value {
    let mut bundle = json!({
        "id": id, "openspec_change": "c", "ccpm_issue": 1, "gate": 1, "files_scope": [format!("{id}.py")],
        "tasks": ["do it"], "tool": "claude",
    });
    bundle.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    bundle
}

fn write(project: &Project, files: &[(&str, Value)]) {
    for (name, document) in files {
        let path = project.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, document.to_string()).unwrap();
    }
}

fn validate(project: &Project, args: &[&str]) -> Said {
    project.engine(&[&["workstreams", "validate"], args].concat())
}

const OK_3: &str = "Bundles: 3; no cycles; no overlaps detected.\n";

#[test]
fn the_bundles_of_the_project_are_those_of_the_top_level_of_its_directory() {
    let project = Project::new();
    let files = [
        ("workstreams/b.json", bundle("ws-b", &json!({"depends_on": ["ws-a"]}))),
        ("workstreams/a.json", json!([bundle("ws-a", &json!({})), bundle("ws-c", &json!({}))])),
        ("workstreams/notes.txt", json!("no bundle")),
        ("workstreams/old/d.json", json!("no bundle")),
        ("workstreams/e.json/f.json", json!("no bundle")),
    ];
    write(&project, &files);
    let said = validate(&project, &[]);
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (0, OK_3, ""));
    // From below, the root leads to the project.
    let mut command = project.command(&["workstreams", "validate"]);
    command.current_dir(project.path("workstreams/old"));
    assert_eq!(Said::of(&command.output().unwrap()).exits(0), OK_3);
}

#[test]
fn a_directory_of_the_environment_takes_its_place_and_paths_take_that_of_both() {
    let project = Project::without_root();
    write(
        &project,
        &[
            ("other/a.json", bundle("ws-a", &json!({}))),
            ("one.json", json!([bundle("ws-b", &json!({})), bundle("ws-c", &json!({}))])),
        ],
    );
    let env = [("PIPELINE_WORKSTREAM_DIR", "other")];
    let said = project.engine_with(&["workstreams", "validate"], &env).exits(0);
    assert_eq!(said, "Bundles: 1; no cycles; no overlaps detected.\n");
    let said = project.engine_with(&["workstreams", "validate", "one.json", "other"], &env);
    assert_eq!(said.exits(0), OK_3);
    let mut command = project.command(&["workstreams", "validate", "-", "one.json"]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let text = bundle("ws-a", &json!({})).to_string();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert_eq!(Said::of(&child.wait_with_output().unwrap()).exits(0), OK_3);
    let mut names: Vec<_> =
        std::fs::read_dir(project.dir()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["one.json", "other"], "a reading command creates nothing");
}

#[test]
fn what_is_valid_has_the_document_of_the_original() {
    let project = Project::without_root();
    write(&project, &[("workstreams/a.json", bundle("ws-a", &json!({"acceptance_tests": ["make test"]})))]);
    let document = validate(&project, &["--json"]).json();
    let warning = "workstreams/a.json:1:22: /acceptance_tests/0: prose, which is not run; to run it, write \"$ make test\"";
    assert_eq!(
        document,
        json!({"ok": true, "bundle_count": 1, "overlaps": {}, "pattern_overlaps": [], "error": null, "errors": [],
            "warnings": [warning]})
    );
    let document = validate(&project, &["--authoring", "--json"]).json();
    assert_eq!(document, json!({"ok": true, "bundles_checked": 1, "errors": []}));
}

#[test]
fn an_overlap_is_no_error_and_not_valid() {
    let project = Project::without_root();
    let scope = |paths: Value| json!({"files_scope": paths});
    write(
        &project,
        &[
            ("b.json", bundle("ws-b", &scope(json!(["src\\a.py", "lib/*.py"])))),
            ("a.json", bundle("ws-a", &scope(json!(["src/a.py", "lib/x.py"])))),
        ],
    );
    let said = validate(&project, &["b.json", "a.json", "--json"]);
    let document: Value = serde_json::from_str(&said.exits(1)).unwrap();
    let details = "1:32: /files_scope/0: `src/a.py` is in the scope of `ws-a` too";
    assert_eq!(
        document,
        json!({
            "ok": false, "bundle_count": 2, "overlaps": {"src/a.py": ["ws-a", "ws-b"]},
            "pattern_overlaps": [{"ws_a": "ws-a", "path_a": "lib/x.py", "ws_b": "ws-b", "path_b": "lib/*.py"}],
            "error": null, "errors": [{"type": "overlap", "file": "b.json", "id": "ws-b", "details": details}],
            "warnings": [],
        })
    );
    let said = validate(&project, &["b.json", "a.json"]);
    assert_eq!((said.code, said.out), (1, format!("b.json:{details}\n")));
    let (hint, warning) = said.err.split_once('\n').unwrap();
    assert!(hint.contains("make one depend on the other"), "{hint}");
    assert_eq!(warning, "warning: `lib/x.py` of ws-a and `lib/*.py` of ws-b may mean the same file\n");
    // What a dependency orders is no overlap.
    let ordered = with(scope(json!(["src\\a.py"])), &json!({"depends_on": ["ws-a"]}));
    write(&project, &[("b.json", bundle("ws-b", &ordered))]);
    assert_eq!(validate(&project, &["b.json", "a.json"]).code, 0);
}

#[test]
fn an_overlap_by_a_pattern_alone_is_valid() {
    let project = Project::without_root();
    let bundles = json!([
        bundle("ws-a", &json!({"files_scope": ["src"]})),
        bundle("ws-b", &json!({"files_scope": ["src/a.py"]})),
    ]);
    write(&project, &[("a.json", bundles)]);
    let said = validate(&project, &["a.json"]);
    assert_eq!(said.err, "warning: `src` of ws-a and `src/a.py` of ws-b may mean the same file\n");
    assert_eq!(said.exits(0), "Bundles: 2; no cycles; no overlaps detected.\n");
}

#[test]
fn errors_have_a_type_a_file_and_an_id_and_the_sentence_of_the_original() {
    let project = Project::without_root();
    let on = |id: &str, on: &[&str]| bundle(id, &json!({"depends_on": on}));
    write(
        &project,
        &[
            ("missing.json", json!([on("ws-b", &["ws-x"]), on("ws-a", &["ws-b", "ws-y"])])),
            ("circle.json", json!([on("ws-b", &["ws-a"]), on("ws-a", &["ws-b"])])),
            ("schema.json", bundle("ws-a", &json!({"gate": 0}))),
        ],
    );
    let of = |files: &[&str]| -> (Value, Vec<Value>) {
        let said = validate(&project, &[files, &["--json"]].concat());
        let document: Value = serde_json::from_str(&said.exits(1)).unwrap();
        let errors = document["errors"].as_array().unwrap().iter();
        let kinds = errors.map(|error| json!([error["type"], error["file"], error["id"]])).collect();
        (document["error"].clone(), kinds)
    };
    assert_eq!(
        of(&["missing.json"]),
        (
            json!("Missing dependency references: ws-a -> ws-y; ws-b -> ws-x"),
            vec![
                json!(["dependency", "missing.json", "ws-b"]),
                json!(["dependency", "missing.json", "ws-a"])
            ]
        )
    );
    assert_eq!(
        of(&["circle.json"]),
        (json!("Dependency cycle(s) detected: ws-a -> ws-b"), vec![json!(["cycle", "circle.json", "ws-a"])])
    );
    let (error, kinds) = of(&["schema.json", "nowhere.json"]);
    assert_eq!(
        kinds,
        [json!(["config", "nowhere.json", null]), json!(["schema", "schema.json", "ws-a"])],
        "what cannot be read comes first"
    );
    assert_eq!(
        error,
        json!("nowhere.json:1:1: error reading: No such file or directory (os error 2) (and 1 more)")
    );
}

#[test]
fn nothing_to_read_is_no_success() {
    let project = Project::without_root();
    std::fs::create_dir(project.path("empty")).unwrap();
    std::fs::write(project.path("none.json"), "[]").unwrap();
    let said = validate(&project, &[]).exits(1);
    assert_eq!(said, "workstreams:1:1: there is no such directory, and no bundle is named\n");
    let said = validate(&project, &["empty"]).exits(1);
    assert_eq!(said, "empty:1:1: there is no *.json file in this directory\n");
    std::os::unix::fs::symlink("nowhere", project.path("empty/link.json")).unwrap();
    let said = validate(&project, &["empty"]).exits(1);
    assert_eq!(said, "empty/link.json:1:1: error reading: No such file or directory (os error 2)\n");
    std::fs::remove_file(project.path("empty/link.json")).unwrap();
    assert_eq!(validate(&project, &["none.json"]).exits(1), "none.json:1:1: there is no bundle\n");
    let document = validate(&project, &["empty", "--json", "--authoring"]).out;
    let document: Value = serde_json::from_str(&document).unwrap();
    assert_eq!((&document["ok"], &document["errors"][0]["type"]), (&json!(false), &json!("config")));
}

#[test]
fn authors_see_each_file() {
    let project = Project::without_root();
    write(
        &project,
        &[
            ("w/b.json", bundle("ws-b", &json!({"depends_on": ["ws-a", "ws-x"]}))),
            ("w/a.json", bundle("ws-a", &json!({}))),
            ("w/c.json", json!({"bundle_id": "c", "workstreams": []})),
        ],
    );
    let said = validate(&project, &["w", "--authoring"]).exits(1);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[..2], ["w/a.json: ok", "w/b.json: ok"]);
    assert!(lines[2].starts_with("w/c.json:1:2: /bundle_id: unknown key `bundle_id`"), "{lines:?}");
    assert!(lines[3].starts_with("w/c.json:1:18: /workstreams: unknown key"), "{lines:?}");
    std::fs::remove_file(project.path("w/c.json")).unwrap();
    let said = validate(&project, &["w", "--authoring"]).exits(1);
    assert!(said.starts_with("w/a.json: ok\nw/b.json:1:"), "{said}");
    let document: Value =
        serde_json::from_str(&validate(&project, &["w", "--authoring", "--json"]).exits(1)).unwrap();
    assert_eq!((&document["ok"], &document["bundles_checked"]), (&json!(false), &json!(2)));
    let error = &document["errors"][0];
    assert_eq!((&error["type"], &error["file"]), (&json!("dependency"), &json!("w/b.json")));
    assert!(error["details"].as_str().unwrap().ends_with("/depends_on/1: there is no bundle `ws-x`"));
}

#[test]
fn a_file_of_any_size_is_answered() {
    let project = Project::without_root();
    let blank = " ".repeat((16 << 20) + 5);
    std::fs::write(project.path("large.json"), blank).unwrap();
    let said = validate(&project, &["large.json"]).exits(1);
    assert_eq!(said, "large.json:1:1: the file has 16777217 bytes, expected at most 16777216\n");
    let bundles: Vec<Value> = (0..1000).map(|n| bundle(&format!("ws-{n}"), &json!({}))).collect();
    write(&project, &[("many.json", json!(bundles))]);
    let said = validate(&project, &["many.json"]).exits(0);
    assert_eq!(said, "Bundles: 1000; no cycles; no overlaps detected.\n");
}
