//! The usage ledger as people read it: no line is lost or counted twice, and what nobody told is no 0.

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::Project;

const PARTITIONS: [&str; 5] = ["job", "run", "tool", "model", "day"];

/// A line of the ledger; everything that is not said is null.
fn line(job: &str, attempt: u32, more: &Value) -> Value {
    let mut line = json!({
        "schema_version": 1, "at": "2026-11-20T23:59:00.000Z", "job_id": job, "attempt": attempt, "run_id": null,
        "workstream_id": null, "tool": "claude", "model": null, "session_id": null, "outcome": "succeeded",
        "reason_code": null, "turns": null, "input_tokens": null, "cached_input_tokens": null,
        "cache_write_tokens": null, "output_tokens": null, "tokens_source": "stream", "cost_usd": null,
        "computed_cost_usd": null, "price_source": null,
    });
    line.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    line
}

fn write(project: &Project, text: &str) {
    std::fs::write(project.root("state/usage.jsonl"), text).unwrap();
}

fn write_lines(project: &Project, lines: &[Value]) {
    write(project, &lines.iter().map(|line| format!("{line}\n")).collect::<String>());
}

fn usage(project: &Project, args: &[&str]) -> Value {
    let said = project.engine(&[&["usage", "--json"], args].concat());
    assert_eq!(said.code, 0, "{}", said.err);
    said.json()
}

/// A ledger as two crashes and a newer program leave it.
fn battered(project: &Project) {
    let big = json!({
        "run_id": "r", "model": "big", "turns": 4, "input_tokens": 1000, "cached_input_tokens": 600,
        "output_tokens": 50, "cost_usd": 1.5, "computed_cost_usd": 1.25,
    });
    let first = line("a", 1, &json!({"run_id": "r", "model": "big", "input_tokens": 1, "outcome": null}));
    let last = line("a", 1, &big);
    let small = line(
        "a",
        1,
        &json!({"run_id": "r", "model": "small", "input_tokens": 10, "output_tokens": 5, "computed_cost_usd": 0.25}),
    );
    let failed = line(
        "a",
        2,
        &json!({"run_id": "r", "model": "big", "input_tokens": 100, "output_tokens": 1, "cost_usd": 0.75,
                "computed_cost_usd": 0.75, "outcome": "timed_out", "at": "2026-11-21T00:00:00.000Z"}),
    );
    let silent = line(
        "b",
        1,
        &json!({"tool": "codex", "outcome": "failed", "tokens_source": "none",
                                     "at": "2026-11-21T08:00:00.000Z", "workstream_id": "w"}),
    );
    let newer = line("c", 1, &json!({"schema_version": 2, "cost_usd": 1000.0}));
    let torn = &failed.to_string()[..90];
    write(
        project,
        &format!("{first}\n{torn}\n{last}\n\n{small}\n{newer}\n{failed}\n{silent}\nnot ours\n{torn}"),
    );
}

#[test]
fn a_battered_ledger_is_summed_right() {
    let project = Project::new();
    battered(&project);
    let total = usage(&project, &[])["total"].clone();
    assert_eq!(total["attempts"], 3);
    assert_eq!(total["failed_attempts"], 2);
    assert_eq!(total["turns"], 4);
    assert_eq!(total["input_tokens"], 1110);
    assert_eq!(total["cached_input_tokens"], 600);
    assert_eq!(total["cache_write_tokens"], Value::Null);
    assert_eq!(total["output_tokens"], 56);
    assert_eq!(total["cost_usd"], 2.25);
    assert_eq!(total["computed_cost_usd"], 2.25);
    assert_eq!(total["spent_usd"], 2.5);
    assert_eq!(total["failed_spent_usd"], 0.75);
    let unknown = json!({
        "turns": 2, "input_tokens": 1, "cached_input_tokens": 3, "cache_write_tokens": 3, "output_tokens": 1,
        "cost_usd": 2, "computed_cost_usd": 1, "spent_usd": 1, "failed_spent_usd": 1,
    });
    assert_eq!(total["unknown_attempts"], unknown);
}

#[test]
fn each_partition_has_its_rows_and_failed_attempts_are_in_them() {
    let project = Project::new();
    battered(&project);
    let rows = |by: &str| -> Vec<(Value, Value, Value, Value)> {
        let document = usage(&project, &["--by", by]);
        assert_eq!(document["by"], by);
        let rows = document["rows"].as_array().unwrap().clone();
        rows.into_iter()
            .map(|row| {
                (
                    row["key"].clone(),
                    row["attempts"].clone(),
                    row["input_tokens"].clone(),
                    row["spent_usd"].clone(),
                )
            })
            .collect()
    };
    let want = |rows: Value| -> Vec<(Value, Value, Value, Value)> {
        let rows = rows.as_array().unwrap().clone();
        rows.into_iter().map(|row| (row[0].clone(), row[1].clone(), row[2].clone(), row[3].clone())).collect()
    };
    assert_eq!(rows("job"), want(json!([["a", 2, 1110, 2.5], ["b", 1, null, null]])));
    assert_eq!(rows("run"), want(json!([["r", 2, 1110, 2.5], [null, 1, null, null]])));
    assert_eq!(rows("tool"), want(json!([["claude", 2, 1110, 2.5], ["codex", 1, null, null]])));
    // An attempt that used two models is in both rows.
    assert_eq!(
        rows("model"),
        want(json!([["big", 2, 1100, 2.25], ["small", 1, 10, 0.25], [null, 1, null, null]]))
    );
    assert_eq!(rows("day"), want(json!([["2026-11-20", 1, 1010, 1.75], ["2026-11-21", 2, 100, 0.75]])));
    assert_eq!(usage(&project, &["--by", "run"])["rows"][1]["job_id"], "b");
    assert_eq!(usage(&project, &[])["by"], "job");
    project.engine(&["usage", "--by", "week"]).exits(2);
}

#[test]
fn people_see_a_mark_where_something_is_not_known() {
    let project = Project::new();
    battered(&project);
    let table = project.engine(&["usage"]).exits(0);
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    let want = [
        "JOB ATTEMPTS FAILED INPUT CACHED OUTPUT REPORTED COMPUTED OF COST",
        "a 2 1 1110 600+? 56 2.25+? 2.25 30%",
        "b 1 1 ? ? ? ? ? ?",
        "total 3 2 1110+? 600+? 56+? 2.25+? 2.25+? ?",
    ];
    assert_eq!(rows.iter().map(|row| row.join(" ")).collect::<Vec<_>>(), want, "{table}");
    let by_run = project.engine(&["usage", "--by", "run"]).exits(0);
    assert!(by_run.lines().any(|line| line.starts_with("(job b) ")), "{by_run}");
}

#[test]
fn filters_take_what_they_name() {
    let project = Project::new();
    battered(&project);
    let input = |args: &[&str]| usage(&project, args)["total"]["input_tokens"].clone();
    assert_eq!(input(&["--since", "2026-11-21T00:00:00Z"]), 100);
    assert_eq!(input(&["--since", "2026-11-20T00:00:00Z"]), 1110);
    assert_eq!(input(&["--since", "2026-11-20T00:00:00Z", "--run", "r"]), 1110);
    assert_eq!(input(&["--run", "a"]), Value::Null);
    assert_eq!(usage(&project, &["--workstream", "w"])["total"]["attempts"], 1);
    let said = project.engine(&["usage", "--run", "none"]);
    assert!(said.err.contains("the usage ledger has no entries for this"), "{}", said.err);
    assert_eq!(said.exits(0), "");
}

#[test]
fn no_ledger_and_an_empty_one_say_so_and_are_no_error() {
    let project = Project::new();
    for empty in [false, true] {
        if empty {
            write(&project, "");
        }
        let said = project.engine(&["usage"]);
        assert!(said.err.contains("the usage ledger is empty"), "{}", said.err);
        assert_eq!(said.exits(0), "");
        let said = project.engine(&["-q", "usage"]);
        assert_eq!((said.err.as_str(), said.code), ("", 0));
        let document = usage(&project, &[]);
        assert_eq!((&document["rows"], &document["total"]["attempts"]), (&json!([]), &json!(0)));
        assert_eq!(document["total"]["cost_usd"], Value::Null);
    }
    assert!(!project.root("prices.json").exists());
}

#[test]
fn a_link_or_directory_instead_of_the_ledger_is_an_error_and_not_followed() {
    let project = Project::new();
    let outside = project.path("outside.jsonl");
    std::fs::write(&outside, format!("{}\n", line("a", 1, &json!({})))).unwrap();
    std::os::unix::fs::symlink(&outside, project.root("state/usage.jsonl")).unwrap();
    let said = project.engine(&["usage", "--json"]);
    assert!(said.err.contains("usage.jsonl"), "{}", said.err);
    assert_eq!(said.exits(125), "");
    std::fs::remove_file(project.root("state/usage.jsonl")).unwrap();
    std::fs::create_dir(project.root("state/usage.jsonl")).unwrap();
    project.engine(&["usage"]).exits(125);
}

#[test]
fn a_name_can_not_write_a_row_of_its_own_or_move_the_cursor() {
    let project = Project::new();
    let evil = "m\n\u{1b}[2Jtotal  0  0  0";
    write_lines(&project, &[line("a", 1, &json!({"model": evil, "cost_usd": 1e300}))]);
    let table = project.engine(&["usage", "--by", "model"]).exits(0);
    assert_eq!(table.lines().count(), 3, "{table}");
    assert!(!table.contains('\u{1b}'));
    assert_eq!(usage(&project, &["--by", "model"])["rows"][0]["key"], evil);
}

#[test]
fn the_schemas_hold_for_what_is_written_and_for_the_built_in_prices() {
    let schema = |name: &str| {
        let schema = engine::cli::SCHEMAS.into_iter().find(|schema| schema.name == name).unwrap();
        engine::job::parse::explain::Explainer::new(&(schema.generate)()).unwrap()
    };
    let prices: Value = serde_json::from_str(include_str!("../../prices.json")).unwrap();
    assert!(schema("prices").accepts(&prices));
    let mut wrong = prices.clone();
    wrong["models"]["gpt-5"]["input"] = json!(1);
    assert!(!schema("prices").accepts(&wrong));
    let mut wrong = prices;
    wrong["models"]["gpt-5"]["output_usd_per_million"] = json!(-1);
    assert!(!schema("prices").accepts(&wrong));
    assert!(schema("usage").accepts(&line("a", 1, &json!({"cost_usd": 0.5}))));
    assert!(!schema("usage").accepts(&line("a", 1, &json!({"cost_usd": "0.5"}))));
}

fn some_line() -> impl Strategy<Value = Value> {
    let count = || proptest::option::of(0u64..1_000_000);
    // Quarters of a dollar: their sums are exact, in any order.
    let usd = || proptest::option::of((0u32..1000).prop_map(|quarters| f64::from(quarters) / 4.0));
    let names = (0..3u8, 1..3u32, proptest::option::of("[a-c]"), proptest::option::of("[a-c]"), 1..4u8);
    (names, (count(), count(), count()), (usd(), usd()), any::<bool>()).prop_map(
        |((job, attempt, run, model, day), (input, cached, output), (cost, computed), ok)| {
            let more = json!({
                "run_id": run, "model": model, "at": format!("2026-11-0{day}T12:00:00Z"),
                "outcome": if ok { "succeeded" } else { "failed" }, "input_tokens": input,
                "cached_input_tokens": cached, "output_tokens": output, "cost_usd": cost,
                "computed_cost_usd": computed,
            });
            line(&format!("j{job}"), attempt, &more)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn the_rows_of_every_partition_add_up_to_the_total(lines in proptest::collection::vec(some_line(), 1..30)) {
        let project = Project::new();
        write_lines(&project, &lines);
        // What the last line of each key says, by another way.
        let mut last = std::collections::BTreeMap::new();
        for line in &lines {
            last.insert(format!("{} {} {}", line["job_id"], line["attempt"], line["model"]), line);
        }
        for by in PARTITIONS {
            let document = usage(&project, &["--by", by]);
            let rows = document["rows"].as_array().unwrap();
            for figure in ["input_tokens", "cached_input_tokens", "output_tokens", "cost_usd", "computed_cost_usd"] {
                let known = |values: Vec<&Value>| -> Option<f64> {
                    values.into_iter().filter_map(Value::as_f64).reduce(|one, more| one + more)
                };
                let wanted = known(last.values().map(|line| &line[figure]).collect());
                prop_assert_eq!(document["total"][figure].as_f64(), wanted, "{}", figure);
                prop_assert_eq!(known(rows.iter().map(|row| &row[figure]).collect()), wanted, "{} by {}", figure, by);
                let unknown = |row: &Value| row["unknown_attempts"][figure].as_u64().unwrap();
                prop_assert_eq!(rows.iter().any(|row| unknown(row) > 0), unknown(&document["total"]) > 0);
            }
        }
    }
}
