//! Plans of bundles as they may come: wrong, very many, all in one file; and settings and former runs that a plan tells.

use serde_json::{Value, json};

use crate::bundles::bundle;
use crate::checkout::{CHECK, Checkout, JOB, MENDS};
use crate::support::{Project, Said};

/// A project with these bundles in one file.
fn project(bundles: impl IntoIterator<Item = Value>) -> Project {
    let project = Project::without_root();
    std::fs::create_dir(project.path("workstreams")).unwrap();
    let bundles = Value::Array(bundles.into_iter().collect());
    std::fs::write(project.path("workstreams/all.json"), bundles.to_string()).unwrap();
    project
}

fn plan(project: &Project, args: &[&str]) -> Said {
    project.engine(&[&["plan"], args].concat())
}

fn document(project: &Project, args: &[&str]) -> Value {
    let said = plan(project, &[&["--json"], args].concat());
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    said.json()
}

#[test]
fn one_bad_bundle_among_a_thousand_is_named_with_all_of_its_mistakes() {
    let project = Project::without_root();
    std::fs::create_dir(project.path("workstreams")).unwrap();
    for n in 0..1000 {
        let more = match n {
            500 => json!({"gate": 0, "zzz": 1, "files_scope": ["../x"], "depends_on": ["ws-none"]}),
            _ => json!({}),
        };
        let path = project.path(&format!("workstreams/{n:04}.json"));
        std::fs::write(path, bundle(&format!("ws-{n:04}"), &more).to_string()).unwrap();
    }
    let said = plan(&project, &[]);
    let lines: Vec<&str> = said.err.lines().collect();
    assert_eq!((said.code, said.out.as_str(), lines.len()), (1, "", 4), "{}", said.err);
    for (line, wanted) in
        lines.iter().zip(["unknown key `zzz`", "`../x` leads out", "/gate: ", "no bundle `ws-none`"])
    {
        assert!(line.starts_with("workstreams/0500.json:1:") && line.contains(wanted), "{line}");
    }
    let document = plan(&project, &["--json"]);
    assert_eq!(document.code, 1);
    let document = document.json();
    assert_eq!((&document["valid"], document["errors"].as_array().unwrap().len()), (&json!(false), 4));
    assert_eq!((&document["order"], &document["parallelism"]), (&json!([]), &Value::Null));
}

#[test]
fn a_circle_through_five_thousand_bundles_is_named_short() {
    let on = |n: usize| json!({"depends_on": [format!("ws-{:04}", (n + 1) % 5000)]});
    let project = project((0..5000).map(|n| bundle(&format!("ws-{n:04}"), &on(n))));
    let said = plan(&project, &[]);
    assert_eq!((said.code, said.out.as_str(), said.err.lines().count()), (1, "", 1));
    assert!(said.err.contains("wait for each other: `ws-0000` waits for `ws-0001`"), "{}", said.err);
    assert!(said.err.contains("… 4993 more …") && said.err.len() < 400, "{}", said.err);
}

#[test]
fn three_hundred_bundles_that_share_one_file_run_one_after_the_other() {
    let more = json!({"files_scope": ["shared.py"]});
    let project = project((0..300).map(|n| bundle(&format!("ws-{n:03}"), &more)));
    let document = document(&project, &[]);
    let order = document["order"].as_array().unwrap();
    let edges: usize = order.iter().map(|entry| entry["after"].as_array().unwrap().len()).sum();
    assert_eq!(edges, 299);
    assert_eq!(order[299]["reason"], json!("ws-298: file_scope:shared.py"));
    assert_eq!(order[299]["reasons"], json!({"ws-298": ["file_scope:shared.py"]}));
    assert_eq!(document["warnings"].as_array().unwrap().len(), 1);
    // The same is an error for authors.
    assert_eq!(project.engine(&["workstreams", "validate", "-q"]).code, 1);
}

#[test]
fn ids_that_differ_by_case_and_an_empty_directory_are_refused() {
    let first = project([bundle("ws-a", &json!({})), bundle("ws-A", &json!({}))]);
    let said = plan(&first, &[]);
    assert!(said.code == 1 && said.err.contains("found \"ws-A\", expected ws- and then a-z"), "{}", said.err);
    let empty = Project::without_root();
    std::fs::create_dir(empty.path("workstreams")).unwrap();
    let said = plan(&empty, &[]);
    assert!(said.code == 1 && said.err.contains("there is no *.json file in this directory"), "{}", said.err);
    let document = plan(&empty, &["--json"]).json();
    assert_eq!((&document["valid"], &document["errors"][0]["type"]), (&json!(false), &json!("config")));
}

#[test]
fn settings_that_cannot_be_used_are_told_beside_the_mistakes_of_bundles() {
    let project = project([bundle("ws-a", &json!({"gate": 0}))]);
    let said = project.engine_with(&["plan"], &[("PIPELINE_MAX_WORKERS", "many")]);
    assert_eq!((said.code, said.err.lines().count()), (1, 2), "{}", said.err);
    assert!(said.err.contains("PIPELINE_MAX_WORKERS:1:1: ") && said.err.contains("/gate: "), "{}", said.err);
}

#[test]
fn each_setting_says_where_it_comes_from_and_a_bundle_what_it_says_for_itself() {
    let breaker = json!({"circuit_breaker": {"max_attempts": 4}});
    let project = project([bundle("ws-a", &breaker), bundle("ws-b", &json!({}))]);
    std::fs::write(
        project.path("engine.toml"),
        "[workstreams]\nmax_workers = 2\nstatic = [\"ruff check .\"]\n",
    )
    .unwrap();
    std::fs::create_dir(project.path("config")).unwrap();
    let breakers = "defaults:\n  oscillation_window: 7\n";
    std::fs::write(project.path("config/circuit_breakers.yaml"), breakers).unwrap();
    project.engine(&["init", "-q"]).exits(0);
    let found = document(&project, &[]);
    assert_eq!(found["limits"]["window"], json!({"value": 7, "from": "config/circuit_breakers.yaml:2"}));
    assert_eq!(found["limits"]["fixes.static"]["from"], json!("default"));
    assert_eq!(
        found["order"][0]["limits"],
        json!({"limits.agent_attempts": {"value": 4, "from": "workstreams/all.json"}})
    );
    assert_eq!(found["order"][1].get("limits"), None);
    let flagged = document(&project, &["--max-workers", "8"]);
    assert_eq!(flagged["settings"]["max_workers"]["from"], json!("flag --slots"));
}

#[test]
fn an_estimate_is_that_of_former_runs_of_the_same_tool() {
    let checkout = Checkout::new();
    let planned = |tool: &str| {
        let bundles = json!([bundle("ws-a", &json!({"tool": tool})), bundle("ws-b", &json!({"tool": tool}))]);
        std::fs::write(checkout.project.path("all.json"), bundles.to_string()).unwrap();
        document(&checkout.project, &["all.json"])["estimate_s"].clone()
    };
    assert_eq!(planned("ed"), Value::Null);
    checkout.run(MENDS, &["--test", CHECK]).exits(0);
    let attempt = checkout.project.record(JOB)["attempts"][0].clone();
    let at = |key: &str| attempt[key].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let took = (at("ended_at").as_millisecond() - at("started_at").as_millisecond()) as f64 / 1000.0;
    let estimate = planned("ed");
    assert_eq!((&estimate["sequential"], &estimate["parallel"]), (&json!(2.0 * took), &json!(took)));
    let said = plan(&checkout.project, &["all.json"]);
    assert!(said.out.contains(" one after the other, "), "{}", said.out);
    assert_eq!(planned("claude"), Value::Null, "no record says anything of it");
}
