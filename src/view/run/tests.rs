//! Runs whose records the store itself wrote, on roots in temporary directories.
//!
//! Hard rule: nothing here starts a process.

use serde_json::{Map, Value, json};

use super::document::document;
use super::events::{RunEvent, Teller};
use super::patches::{self, Patch, PatchState};
use super::status::{RunStatus, WorkstreamStatus};
use super::{Depth, RunFacts, read};
use crate::clock::testing::ManualClock;
use crate::clock::{Clock, Timestamp};
use crate::fs::{self, Create};
use crate::job::record::Work;
use crate::job::step::{StepFacts, step_id};
use crate::job::{Code, JobId, Outcome, Place, Reason, RecordLine, RunId, RunManifest, Status, StepKind};
use crate::queue::attempt::{blank_result, new_life, next_line, open_attempt};
use crate::store::journal;
use crate::store::lease::Sync;
use crate::store::run_dir::testing::{make, manifest};
use crate::store::{Acquire, Durability, Lease, Store, run_dir, testing};

/// A run of one workstream, and the time in it.
struct Story {
    _dir: tempfile::TempDir,
    store: Store,
    clock: ManualClock,
    manifest: RunManifest,
    job: JobId,
}

impl Story {
    /// A run that was made and not submitted.
    fn new() -> Self {
        Self::of(&["ws-a"])
    }

    /// The same of these workstreams; the stories are those of the first.
    fn of(names: &[&str]) -> Self {
        let (dir, mut store) = testing::store();
        store.config.durability = Durability::Fast;
        let clock = ManualClock::starting_at(Timestamp::parse("2026-06-15T12:00:00Z").unwrap());
        let run = RunId::new("r").unwrap();
        let job = run.job_of(names[0]).unwrap();
        let metadata = json!({
            "base": {"commit": "b".repeat(40)},
            "checks": [{"name": "ruff", "kind": "static"}, {"name": "pytest", "kind": "runtime"}],
        });
        let jobs = [json!({"job_id": job, "tool": "workstream", "metadata": metadata})];
        let manifest = make(&store, manifest(&run, clock.now(), names), &jobs);
        Self { _dir: dir, store, clock, manifest, job }
    }

    fn write(&self, id: &JobId, change: impl FnOnce(&mut RecordLine)) {
        let Acquire::Held(mut lease) = Lease::acquire(&self.store, id, Create::IfMissing).unwrap() else {
            panic!("busy");
        };
        let mut line = next_line(&lease, self.clock.now());
        change(&mut line);
        lease.commit(&self.store, line, Sync::Later).unwrap();
    }

    fn wait(&self, seconds: u64) {
        self.clock.sleep(std::time::Duration::from_secs(seconds));
    }

    fn submit(&self) {
        self.write(&self.job, |_| {});
    }

    /// Starts an attempt of a job.
    fn start(&self, id: &JobId) {
        self.write(id, |line| {
            let attempt = open_attempt(&self.store, line.next_attempt(), self.clock.now());
            line.attempts.push(attempt);
            (line.status, line.place) = (Status::Running, Place::Running);
        });
    }

    /// Ends the open attempt of a job a second later.
    fn end(&self, id: &JobId, status: Status, outcome: Outcome, code: Option<&str>, told: &Value) {
        self.wait(1);
        let now = self.clock.now();
        let reason = code.map(|word| Reason::new(Code::of_word(word), format!("it is {word}")));
        self.write(id, |line| {
            let last = line.attempts.last_mut().unwrap();
            (last.outcome, last.ended_at, last.reason) = (Some(outcome), Some(now), reason.clone());
            line.status = status;
            line.place = match status {
                Status::Queued => Place::Queued,
                Status::Quarantined => Place::Quarantined,
                _ => Place::Done(now.day()),
            };
            let mut result = blank_result(line, outcome, reason, now);
            result.metadata = told.as_object().cloned().unwrap_or_default();
            line.result = Some(result);
        });
    }

    /// A step that ran on a tree and ended so; of an agent also the tree that it left.
    fn step(&self, (n, kind): (u32, StepKind), (check, tree): (Option<&str>, &str), end: End) -> JobId {
        let id = step_id(&self.job, n, kind).unwrap();
        let facts = StepFacts {
            n,
            kind: Some(kind),
            check: check.map(str::to_owned),
            tree: Some(tree.to_owned()),
            iteration: u32::from(kind == StepKind::Fix),
            ..StepFacts::default()
        };
        self.start(&id);
        let now = self.clock.now();
        let document = json!({"job_id": id, "tool": "shell", "metadata": {"step": facts}});
        let (status, outcome, code) = match end {
            End::Open => (Status::Running, None, None),
            End::Passed | End::Left(_) => (Status::Succeeded, Some(Outcome::Succeeded), None),
            End::Failed => (Status::Failed, Some(Outcome::Failed), Some("exit_code")),
        };
        let place = if outcome.is_some() { Place::Done(now.day()) } else { Place::Running };
        fs::create_dir(&self.store.place_dir(&place)).unwrap();
        fs::create_new(&self.store.job_file(&place, &id), document.to_string().as_bytes()).unwrap();
        if let End::Left(after) = end {
            self.write(&id, |line| {
                let work = Work {
                    origin_tree: tree.to_owned(),
                    tree: after.to_owned(),
                    changed: tree != after,
                    out_of_scope: false,
                };
                line.attempts.last_mut().unwrap().work = Some(work);
            });
        }
        if let Some(outcome) = outcome {
            self.end(
                &id,
                status,
                outcome,
                code,
                &json!({"evidence": {"files_total": 2, "patch_path": "state/logs/p"}}),
            );
        }
        id
    }

    /// A line of the ledger.
    fn spend(&self, id: &JobId, attempt: u32, cost: f64) {
        let line = json!({
            "schema_version": 1, "at": self.clock.now(), "job_id": id, "attempt": attempt, "started_at": null,
            "run_id": "r", "workstream_id": "ws-a", "tool": "claude", "model": null, "session_id": null,
            "outcome": "succeeded", "reason_code": null, "turns": null, "input_tokens": 5,
            "cached_input_tokens": null, "cache_write_tokens": null, "output_tokens": 1, "tokens_source": "stream",
            "cost_usd": cost, "computed_cost_usd": null, "price_source": null,
        });
        crate::store::usage::append(&self.store, &[serde_json::from_value(line).unwrap()]).unwrap();
    }

    fn facts(&self) -> RunFacts {
        read(&self.store, self.manifest.clone(), Depth::Everything, self.clock.now()).unwrap()
    }

    fn status(&self) -> (WorkstreamStatus, RunStatus) {
        let facts = self.facts();
        (WorkstreamStatus::of(&facts.workstreams[0]), RunStatus::of(&facts))
    }

    fn patches(&self) -> Vec<Patch> {
        patches::of_run(&self.facts())
    }

    /// An edit that fails a check, a fix, and all checks.
    fn one_fix(&self) {
        self.submit();
        self.start(&self.job);
        self.step((1, StepKind::Edit), (None, "t0"), End::Left("t1"));
        self.step((2, StepKind::Static), (Some("ruff"), "t1"), End::Failed);
        self.step((3, StepKind::Fix), (Some("ruff"), "t1"), End::Left("t2"));
        self.step((4, StepKind::Static), (Some("ruff"), "t2"), End::Passed);
        self.step((5, StepKind::Runtime), (Some("pytest"), "t2"), End::Passed);
    }

    fn succeed(&self) {
        let told = json!({
            "base": "b".repeat(40), "head": "h".repeat(40), "branch": "engine/r/ws-a", "worktree": "/w",
            "fixes": {"static": 1, "runtime": 0}, "files_changed": 2, "insertions": 3, "deletions": 1,
            "breaker": null, "put_aside": ["refs/engine/r/ws-a/01"], "warnings": ["w"], "acceptance_not_run": ["it is fast"],
        });
        self.end(&self.job, Status::Succeeded, Outcome::Succeeded, None, &told);
    }
}

#[derive(Clone, Copy)]
enum End {
    Open,
    Passed,
    Failed,
    Left(&'static str),
}

fn states(patch: &Patch) -> Vec<&'static str> {
    patch.state_history.iter().map(|one| one.state.as_str()).collect()
}

#[test]
fn the_status_follows_the_record_through_every_state() {
    use {RunStatus as R, WorkstreamStatus as W};
    let story = Story::new();
    assert_eq!(story.status(), (W::Pending, R::Pending), "it is not submitted");
    let reason = document(&story.facts()).workstreams[0].reason.clone().unwrap();
    assert_eq!(reason.code, Code::NotQueued);
    story.submit();
    assert_eq!(story.status(), (W::Pending, R::Pending));
    assert_eq!(document(&story.facts()).workstreams[0].reason, None);
    story.start(&story.job);
    assert_eq!(story.status(), (W::Running, R::Running));
    story.end(&story.job, Status::Queued, Outcome::Killed, Some("signal:9"), &json!({}));
    assert_eq!(story.status(), (W::Running, R::Running), "it runs again by itself");
    story.start(&story.job);
    story.end(&story.job, Status::Queued, Outcome::Parked, Some("quota"), &json!({}));
    assert_eq!(story.status(), (W::Parked, R::Running));
    for (status, outcome, want) in [
        (Status::Failed, Outcome::Failed, (W::Failed, R::Failed)),
        (Status::Quarantined, Outcome::Failed, (W::Quarantined, R::Quarantined)),
        (Status::Canceled, Outcome::Canceled, (W::Canceled, R::Canceled)),
        (Status::Succeeded, Outcome::Succeeded, (W::Succeeded, R::Succeeded)),
    ] {
        story.start(&story.job);
        story.end(&story.job, status, outcome, Some("failed"), &json!({}));
        assert_eq!(story.status(), want);
        story.write(&story.job, |line| *line = new_life(line, line.job.clone(), line.at));
        assert_eq!(story.status(), (W::Pending, R::Running), "a new life of {status}");
    }
    let started_at = Timestamp::parse("2026-06-15T12:00:00Z").unwrap();
    assert_eq!(story.facts().workstreams[0].started_at, Some(started_at), "the first attempt of all lives");
}

#[test]
fn a_record_that_cannot_be_read_is_named_and_the_rest_is_shown() {
    let story = Story::new();
    story.one_fix();
    fs::replace(&story.store.record_path(&step_id(&story.job, 2, StepKind::Static).unwrap()), b"{}\n")
        .unwrap();
    let shown = document(&story.facts());
    assert_eq!((shown.status, shown.workstreams[0].status), (RunStatus::Running, WorkstreamStatus::Running));
    assert_eq!(shown.workstreams[0].reason.as_ref().unwrap().code, Code::StateUnreadable);
    fs::replace(&story.store.record_path(&story.job), b"{}\n").unwrap();
    assert_eq!(story.status(), (WorkstreamStatus::Blocked, RunStatus::Failed));
}

#[test]
fn a_person_may_quarantine_a_run_that_has_succeeded() {
    let story = Story::new();
    story.one_fix();
    let file = run_dir::path(&story.store, &story.manifest.run_id).join("quarantine.json");
    fs::replace(&file, br#"{"reason": "wrong", "at": "2026-06-15T12:00:00Z"}"#).unwrap();
    assert_eq!(story.status().1, RunStatus::Running, "it is not over yet");
    story.succeed();
    assert_eq!(story.status(), (WorkstreamStatus::Succeeded, RunStatus::Quarantined));
}

#[test]
fn the_document_of_a_run_has_every_key_and_null_where_nothing_is_known() {
    let story = Story::new();
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let before = serde_json::to_value(document(&story.facts())).unwrap();
    for key in ["started_at", "finished_at", "duration_s", "integration"] {
        assert_eq!(before[key], Value::Null, "{key}");
    }
    story.one_fix();
    story.succeed();
    let after = serde_json::to_value(document(&story.facts())).unwrap();
    assert_eq!(keys(&before), keys(&after));
    let want = [
        "base",
        "counters",
        "created_at",
        "duration_s",
        "errors",
        "finished_at",
        "gates",
        "integration",
        "metrics",
        "next",
        "options",
        "origin",
        "quarantine",
        "run_id",
        "schema_version",
        "started_at",
        "status",
        "workstreams",
    ];
    assert_eq!(
        keys(&after).into_iter().collect::<std::collections::BTreeSet<_>>(),
        want.map(str::to_owned).into()
    );
    let one = &after["workstreams"][0];
    assert_eq!((&one["head"], &one["branch"]), (&json!("h".repeat(40)), &json!("engine/r/ws-a")));
    assert_eq!(one["warnings"], json!(["w", "not run, because it is no command: it is fast"]));
    assert_eq!(one["usage"], Value::Null);
    assert_eq!([&one["steps"][2]["kind"], &one["steps"][1]["outcome"]], ["fix", "failed"]);
    assert_eq!((&one["steps"][3]["tree"], &one["steps"][3]["name"]), (&json!("t2"), &json!("ruff")));
    let counters = json!({"step_attempts": 5, "patches_created": 2, "patches_applied": 2, "errors": 1});
    assert_eq!(after["counters"], counters);
    assert_eq!(after["metrics"]["error_frequency"], json!({"exit_code": 1}));
    assert_eq!(json!([after["metrics"]["fix_rounds"], after["errors"][0]["kind"]]), json!([1, "exit_code"]));
    assert_eq!(after["errors"][0]["signature"].as_str().map(str::len), Some(64));
    assert_eq!(after["duration_s"], json!(6.0));
}

#[test]
fn a_budget_of_the_run_is_judged_by_what_is_known() {
    let mut story = Story::new();
    let status = |story: &Story| {
        serde_json::to_value(document(&story.facts())).unwrap()["metrics"]["budget_status"].clone()
    };
    assert_eq!(status(&story), Value::Null);
    story.manifest.options = Map::from_iter([("max_cost_usd".to_owned(), json!(1.0))]);
    assert_eq!(status(&story), "ok");
    let id = step_id(&story.job, 1, StepKind::Edit).unwrap();
    for (attempt, cost, want) in [(1, 0.79, "ok"), (2, 0.01, "warning"), (3, 0.2, "exceeded")] {
        story.spend(&id, attempt, cost);
        assert_eq!(status(&story), want);
    }
    let shown = serde_json::to_value(document(&story.facts())).unwrap();
    assert_eq!(shown["workstreams"][0]["usage"]["tokens"], 18);
    assert_eq!(shown["metrics"]["total_tokens"], 18);
}

#[test]
fn a_patch_that_a_fix_follows_is_applied_and_the_one_that_passes_is_verified() {
    let story = Story::new();
    story.submit();
    story.start(&story.job);
    story.step((1, StepKind::Edit), (None, "t0"), End::Left("t1"));
    assert_eq!(states(&story.patches()[0]), ["created"], "it is not judged yet");
    story.step((2, StepKind::Static), (Some("ruff"), "t1"), End::Failed);
    assert_eq!(states(&story.patches()[0]), ["created", "validated", "applied"]);
    story.step((3, StepKind::Fix), (Some("ruff"), "t1"), End::Left("t2"));
    story.step((4, StepKind::Static), (Some("ruff"), "t2"), End::Passed);
    assert_eq!(states(&story.patches()[1]), ["created", "validated", "applied"], "one check is left");
    story.step((5, StepKind::Runtime), (Some("pytest"), "t2"), End::Passed);
    assert_eq!(states(&story.patches()[1]), ["created", "validated", "applied", "verified"]);
    story.succeed();
    let patches = story.patches();
    assert_eq!(states(&patches[0]), ["created", "validated", "applied", "committed"]);
    assert_eq!(states(&patches[1]), ["created", "validated", "applied", "verified", "committed"]);
    assert_eq!(patches[0].files_changed, Some(2));
    assert_eq!(patches[0].patch_path, Some(story.store.state("logs/p").display().to_string()));
}

#[test]
fn a_patch_that_was_put_aside_is_dropped_and_a_violation_is_quarantined() {
    let story = Story::new();
    story.submit();
    story.start(&story.job);
    story.step((1, StepKind::Edit), (None, "t0"), End::Left("t1"));
    // Refused: the next one runs on the same tree.
    story.step((2, StepKind::Edit), (None, "t0"), End::Left("t9"));
    let told = json!({"put_aside": ["refs/engine/r/ws-a/02"], "head": "b"});
    story.end(&story.job, Status::Quarantined, Outcome::Failed, Some("scope_violation"), &told);
    let patches = story.patches();
    assert_eq!(states(&patches[0]), ["created", "dropped"]);
    assert_eq!(states(&patches[1]), ["created", "quarantined"]);
    assert_eq!(patches[1].state_history[1].reason, Some(Code::ScopeViolation));
    assert_eq!(patches[1].state, PatchState::Quarantined);
    assert_eq!(document(&story.facts()).counters.patches_applied, 0);
}

#[test]
fn an_agent_that_changed_nothing_and_a_check_leave_no_patch() {
    let story = Story::new();
    story.submit();
    story.start(&story.job);
    story.step((1, StepKind::Edit), (None, "t0"), End::Left("t0"));
    story.step((2, StepKind::Static), (Some("ruff"), "t0"), End::Passed);
    story.step((3, StepKind::Fix), (Some("ruff"), "t0"), End::Open);
    assert_eq!(story.patches(), []);
}

/// The journal of a story, each line as often as given, told from the beginning.
fn told(story: &Story, times: usize) -> Vec<RunEvent> {
    let text = std::fs::read(story.store.state("events.jsonl")).unwrap();
    let mut teller = Teller::new(&story.manifest);
    let lines: Vec<_> = journal::parse(&text).collect();
    let repeated = lines.iter().flat_map(|line| std::iter::repeat_n(line, times));
    repeated.flat_map(|line| teller.tell(&story.store, line)).collect()
}

fn names(events: &[RunEvent]) -> Vec<&'static str> {
    events.iter().map(|event| event.event.as_str()).collect()
}

#[test]
fn the_events_of_a_run_begin_with_its_making_and_end_with_its_end_whatever_the_journal_repeats() {
    let story = Story::new();
    story.one_fix();
    story.write(&JobId::new("other.ws-a").unwrap(), |_| {});
    story.succeed();
    let events = told(&story, 1);
    let want = [
        "run_created",
        "run_started",
        "workstream_start",
        "step_started",
        "step_completed",
        "patch_created",
        "step_started",
        "step_completed",
        "step_started",
        "fix_attempt",
        "step_completed",
        "patch_created",
        "step_started",
        "step_completed",
        "step_started",
        "step_completed",
        "workstream_end",
        "run_completed",
    ];
    assert_eq!(names(&events), want);
    assert_eq!(names(&told(&story, 3)), want);
    let completed = serde_json::to_value(&events[7]).unwrap();
    let payload = json!({
        "n": 2, "kind": "static", "name": "ruff", "iteration": 0, "tool": null, "attempt": 1, "status": "failed",
        "outcome": "failed", "reason_code": "exit_code", "duration_s": 1.0,
    });
    assert_eq!((&completed["payload"], &completed["ws_id"]), (&payload, &json!("ws-a")));
    let last = serde_json::to_value(events.last().unwrap()).unwrap();
    assert_eq!((&last["payload"], &last["ws_id"]), (&json!({"status": "succeeded"}), &Value::Null));
}

#[test]
fn the_end_of_a_workstream_is_told_with_what_it_means() {
    for (status, outcome, code, want) in [
        (
            Status::Failed,
            Outcome::Failed,
            "oscillation",
            &["breaker_trip", "workstream_end", "run_completed"][..],
        ),
        (
            Status::Failed,
            Outcome::Failed,
            "no_progress",
            &["breaker_trip", "workstream_end", "run_completed"],
        ),
        (
            Status::Failed,
            Outcome::Failed,
            "budget_exceeded",
            &["budget_exceeded", "workstream_end", "run_completed"],
        ),
        (
            Status::Quarantined,
            Outcome::Failed,
            "scope_violation",
            &["scope_violation", "patch_quarantined", "workstream_end", "run_quarantined", "run_completed"],
        ),
        (
            Status::Quarantined,
            Outcome::Failed,
            "gate_tampered",
            &["patch_quarantined", "workstream_end", "run_quarantined", "run_completed"],
        ),
        (
            Status::Quarantined,
            Outcome::Lost,
            "poison",
            &["workstream_end", "run_quarantined", "run_completed"],
        ),
        (
            Status::Canceled,
            Outcome::Canceled,
            "canceled_by_user",
            &["workstream_end", "run_canceled", "run_completed"],
        ),
    ] {
        let story = Story::new();
        story.submit();
        story.start(&story.job);
        story.end(&story.job, status, outcome, Some(code), &json!({}));
        let events = told(&story, 1);
        assert_eq!(names(&events)[3..], *want, "{code}");
        let end = events.iter().find(|event| event.event.as_str() == "workstream_end").unwrap();
        let payload = json!({"final_status": status, "reason": code, "message": format!("it is {code}")});
        assert_eq!(Value::Object(end.payload.clone()), payload);
    }
}

#[test]
fn a_second_life_tells_its_own_start_and_end_and_a_park_that_it_waits() {
    let story = Story::new();
    story.submit();
    story.start(&story.job);
    story.end(&story.job, Status::Queued, Outcome::Parked, Some("quota"), &json!({}));
    story.start(&story.job);
    story.end(&story.job, Status::Failed, Outcome::Failed, Some("failed"), &json!({}));
    story.write(&story.job, |line| *line = new_life(line, line.job.clone(), line.at));
    story.start(&story.job);
    story.succeed();
    let want = [
        "run_created",
        "run_started",
        "workstream_start",
        "job_paused",
        "workstream_start",
        "workstream_end",
        "run_completed",
        "workstream_start",
        "workstream_end",
        "run_completed",
    ];
    assert_eq!(names(&told(&story, 2)), want);
}

#[test]
fn a_run_of_two_is_told_by_its_integration_which_says_what_the_ends_make_of_the_run() {
    let story = Story::of(&["ws-a", "ws-b"]);
    let [other, last] = ["ws-b", "integration"].map(|name| story.manifest.run_id.job_of(name).unwrap());
    for id in [&story.job, &other, &last] {
        story.write(id, |_| {});
    }
    assert_eq!(RunStatus::of(&story.facts()), RunStatus::Pending);
    for (id, status, outcome, code) in [
        (&story.job, Status::Succeeded, Outcome::Succeeded, None),
        (&other, Status::Canceled, Outcome::Canceled, Some("canceled_by_user")),
    ] {
        story.start(id);
        story.end(id, status, outcome, code, &json!({}));
        assert_eq!(RunStatus::of(&story.facts()), RunStatus::Running);
    }
    story.start(&last);
    let conflict = json!({"ws_id": "ws-b", "with": "ws-a", "type": "content", "path": "a.py"});
    let said = json!({
        "branch": "engine/r/integration", "commit": "c1", "merged": ["ws-a"], "skipped": [], "conflicts": [conflict],
        "run_status": "canceled",
    });
    story.end(&last, Status::Failed, Outcome::Failed, Some("incomplete"), &said);

    let want = [
        "run_created",
        "run_started",
        "workstream_start",
        "workstream_end",
        "workstream_start",
        "workstream_end",
        "integration_start",
        "merge_conflict_detected",
        "integration_end",
        "run_canceled",
        "run_completed",
    ];
    let events = told(&story, 2);
    assert_eq!(names(&events), want);
    assert_eq!(Value::Object(events[7].payload.clone()), conflict);
    assert_eq!(Value::Object(events[10].payload.clone()), json!({"status": "canceled"}));
    assert_eq!(events[0].job_id, last);

    let document = serde_json::to_value(document(&story.facts())).unwrap();
    assert_eq!(document["status"], "canceled", "only a cancel kept it from succeeding");
    assert_eq!(document["metrics"]["merge_conflicts"], 1);
    let integration = &document["integration"];
    let shown =
        ["status", "branch", "commit", "merged", "skipped", "checks"].map(|key| integration[key].clone());
    let want = json!(["failed", "engine/r/integration", "c1", ["ws-a"], [], []]);
    assert_eq!(json!(shown), want);
    assert_eq!(integration["reason"]["code"], "incomplete");
}

#[test]
fn a_reader_is_warned_once_of_a_budget_that_is_nearly_used_up() {
    let mut story = Story::new();
    story.manifest.options = Map::from_iter([("max_cost_usd".to_owned(), json!(1.0))]);
    story.submit();
    story.start(&story.job);
    for (n, cost) in [(1, 0.5), (3, 0.35), (5, 0.1)] {
        story.wait(1);
        let id = step_id(&story.job, n, StepKind::Fix).unwrap();
        story.spend(&id, 1, cost);
        story.step((n, StepKind::Fix), (Some("ruff"), "t0"), End::Left("t1"));
    }
    let events = told(&story, 1);
    let warnings: Vec<_> = events.iter().filter(|event| event.event.as_str() == "budget_warning").collect();
    let [warning] = warnings.as_slice() else { panic!("{events:#?}") };
    assert_eq!(warning.job_id, step_id(&story.job, 3, StepKind::Fix).unwrap());
    assert_eq!(warning.payload["usage_pct"], 85.0);
}

#[test]
fn an_end_that_a_person_requeued_is_no_end_of_the_run_and_does_not_make_it_pending() {
    let story = Story::of(&["ws-a", "ws-b"]);
    let ids = ["ws-a", "ws-b", "integration"].map(|name| story.manifest.run_id.job_of(name).unwrap());
    for id in &ids {
        story.write(id, |line| (line.status, line.place) = (Status::Canceled, Place::Done(line.at.day())));
    }
    assert_eq!(RunStatus::of(&story.facts()), RunStatus::Canceled);
    story.write(&ids[0], |line| *line = new_life(line, line.job.clone(), line.at));
    assert_eq!(RunStatus::of(&story.facts()), RunStatus::Running);
}
