//! Durations of workstreams in former runs, and an estimate for a plan.
//!
//! Reads only. Hard rule: no number without a record behind it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::bundle::{Bundle, BundleKind, Order};
use crate::job::{JobId, RecordLine, RunManifest, Status, ToolId};
use crate::store::{self, Store, archived, run_dir};

/// Medians of the workstreams that succeeded in their first life.
#[derive(Debug, Default)]
pub(crate) struct Durations {
    by_kind: BTreeMap<(ToolId, BundleKind), Duration>,
    by_tool: BTreeMap<ToolId, Duration>,
}

/// The duration of a plan, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Estimate {
    /// One workstream after the other.
    pub(crate) sequential: f64,
    /// Several at a time, each as soon as its order allows.
    pub(crate) parallel: f64,
}

/// Older workstreams are not read.
const MOST_READ: usize = 200;

/// Reads the records of former runs. Unreadable ones are skipped.
///
/// # Errors
/// File system errors of the directory of all runs.
pub(crate) fn read(store: &Store) -> store::Result<Durations> {
    let mut found = Vec::new();
    let mut looked_at = 0;
    for manifest in run_dir::list(store)?.runs {
        if looked_at >= MOST_READ {
            break;
        }
        looked_at += manifest.order.len();
        found.extend(of_run(store, &manifest));
    }
    Ok(Durations::of(found))
}

/// The workstreams of a run that succeeded, each with its duration.
fn of_run(store: &Store, manifest: &RunManifest) -> Vec<(ToolId, BundleKind, Duration)> {
    let jobs = run_dir::read_jobs(store, manifest).unwrap_or_default();
    let one = |job: &Value| {
        let id = JobId::new(job.get("job_id")?.as_str()?).ok()?;
        let bundle = Bundle::read(job.get("metadata")?.get("bundle")?).ok()?;
        let line = match store.read_record(&id).ok()? {
            Some(record) => record.line,
            None => archived::last_of(store, &id).ok()??.record.line,
        };
        Some((bundle.tool.clone(), bundle.kind(), took(&line)?))
    };
    jobs.iter().take(MOST_READ).filter_map(one).collect()
}

/// The sum of all attempts; none after a resume, for an earlier life did a part of the work.
fn took(line: &RecordLine) -> Option<Duration> {
    let is_whole = line.life == 1 && line.former.attempts == 0;
    if line.status != Status::Succeeded || !is_whole {
        return None;
    }
    let each = line.attempts.iter().map(|attempt| Some(attempt.ended_at?.since(attempt.started_at)));
    each.sum()
}

impl Durations {
    fn of(found: Vec<(ToolId, BundleKind, Duration)>) -> Self {
        let mut by_kind: BTreeMap<_, Vec<Duration>> = BTreeMap::new();
        let mut by_tool: BTreeMap<_, Vec<Duration>> = BTreeMap::new();
        for (tool, kind, took) in found {
            by_tool.entry(tool.clone()).or_default().push(took);
            by_kind.entry((tool, kind)).or_default().push(took);
        }
        Self { by_kind: medians(by_kind), by_tool: medians(by_tool) }
    }

    /// The median of the same tool and kind, else of the same tool.
    #[must_use]
    pub(crate) fn of_bundle(&self, bundle: &Bundle) -> Option<Duration> {
        let same_kind = self.by_kind.get(&(bundle.tool.clone(), bundle.kind()));
        same_kind.or_else(|| self.by_tool.get(&bundle.tool)).copied()
    }
}

fn medians<Key: Ord>(found: BTreeMap<Key, Vec<Duration>>) -> BTreeMap<Key, Duration> {
    let median = |mut all: Vec<Duration>| {
        all.sort_unstable();
        let (low, high) = (all.get((all.len() - 1) / 2), all.get(all.len() / 2));
        (low.copied().unwrap_or_default() + high.copied().unwrap_or_default()) / 2
    };
    found.into_iter().map(|(key, all)| (key, median(all))).collect()
}

/// Estimates an order; `took` gives the duration of a bundle. None if it is unknown for one of them.
#[must_use]
pub(crate) fn estimate(
    order: &Order,
    max_workers: usize,
    took: impl Fn(usize) -> Option<Duration>,
) -> Option<Estimate> {
    let times: Vec<Duration> = order.places.iter().map(|place| took(place.bundle)).collect::<Option<_>>()?;
    let parallel = makespan(order, max_workers.max(1), &times);
    Some(Estimate { sequential: seconds(times.iter().sum()), parallel: seconds(parallel) })
}

/// Seconds to the millisecond, as records have them.
fn seconds(duration: Duration) -> f64 {
    f64::from(u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)) / 1000.0
}

/// The end of the last workstream if a free worker always takes the first ready one in plan order.
fn makespan(order: &Order, max_workers: usize, times: &[Duration]) -> Duration {
    let mut next_of: Vec<Vec<usize>> = vec![Vec::new(); times.len()];
    let mut open: Vec<usize> = Vec::with_capacity(times.len());
    for (at, place) in order.places.iter().enumerate() {
        let before = place.depends_on.iter().copied().chain(place.after.iter().map(|after| after.place));
        open.push(before.map(|before| next_of[before].push(at)).count());
    }
    let mut ready: BinaryHeap<Reverse<usize>> =
        open.iter().enumerate().filter(|(_, open)| **open == 0).map(|(at, _)| Reverse(at)).collect();
    let mut running: BinaryHeap<Reverse<(Duration, usize)>> = BinaryHeap::new();
    let mut now = Duration::ZERO;
    loop {
        while running.len() < max_workers
            && let Some(Reverse(at)) = ready.pop()
        {
            running.push(Reverse((now + times[at], at)));
        }
        let Some(Reverse((end, at))) = running.pop() else { return now };
        now = end;
        for &next in &next_of[at] {
            open[next] -= 1;
            if open[next] == 0 {
                ready.push(Reverse(next));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::{After, Place};
    use crate::store::run_dir::testing;
    use serde_json::json;

    fn of_seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    fn bundle(tool: &str, kind: &str) -> Bundle {
        let document = json!({"id": "ws-a", "openspec_change": "c", "ccpm_issue": 1, "gate": 1, "files_scope": ["a"],
            "tasks": [], "tool": tool, "kind": kind});
        Bundle::read(&document).unwrap()
    }

    fn tool(name: &str) -> ToolId {
        ToolId::new(name).unwrap()
    }

    #[test]
    fn the_median_of_tool_and_kind_counts_then_that_of_the_tool_then_nothing_does() {
        let (docs, test) = (BundleKind::Docs, BundleKind::Test);
        let took = [(docs, 9), (docs, 1), (docs, 3), (test, 10), (test, 20)];
        let found = took.into_iter().map(|(kind, took)| (tool("claude"), kind, of_seconds(took))).collect();
        let durations = Durations::of(found);
        for (of, want) in [
            (bundle("claude", "docs"), Some(3)),
            (bundle("claude", "test"), Some(15)),
            (bundle("claude", "spike"), Some(9)),
            (bundle("codex", "docs"), None),
        ] {
            assert_eq!(durations.of_bundle(&of), want.map(of_seconds), "{of:?}");
        }
    }

    #[test]
    fn only_what_succeeded_in_its_first_life_is_counted_with_all_its_attempts() {
        let line = |status: &str, life: u32| -> RecordLine {
            let attempt = |n: u32, from: &str, to: &str| {
                json!({"attempt": n, "started_at": from, "ended_at": to, "outcome": "parked", "reason": null,
                    "exit_code": null, "signal": null, "usage": null, "log_path": null, "host": "h", "boot_id": "b",
                    "pid_namespace": "p", "pid": 1, "repeatable": false, "dependencies": []})
            };
            serde_json::from_value(json!({
                "schema_version": 1, "seq": 1, "at": "2026-11-01T00:00:00Z", "job_id": "r.ws-a", "status": status,
                "place": "done/2026-11-01", "not_before": null, "life": life, "first_attempt": 1,
                "job": {"run_id": null, "workstream_id": null, "tool": null, "key": null, "priority": null,
                    "depends_on": [], "sha256": null},
                "former": {"lives": life - 1, "attempts": 0, "last_outcome": null},
                "attempts": [
                    attempt(1, "2026-11-01T00:00:00Z", "2026-11-01T00:00:10Z"),
                    attempt(2, "2026-11-01T05:00:00Z", "2026-11-01T05:00:05Z"),
                ],
                "result": null, "error_report": null,
            }))
            .unwrap()
        };
        assert_eq!(took(&line("succeeded", 1)), Some(of_seconds(15)), "the time between attempts is a wait");
        assert_eq!(took(&line("succeeded", 2)), None);
        assert_eq!(took(&line("failed", 1)), None);
    }

    #[test]
    fn a_root_without_former_runs_gives_no_estimate() {
        let (_dir, store) = store::testing::store();
        assert!(read(&store).unwrap().by_tool.is_empty());
        let run = crate::job::RunId::new("a").unwrap();
        let at = crate::clock::Timestamp::from_millis(1_800_000_000_000);
        testing::make(&store, testing::manifest(&run, at, &["ws-1"]), &[json!({"job_id": "a.ws-1"})]);
        assert!(read(&store).unwrap().by_tool.is_empty(), "one without a record says nothing");
    }

    /// An order of soft edges only.
    fn order(before: &[&[usize]]) -> Order {
        let after = |on: &[usize]| on.iter().map(|&place| After { place, why: Vec::new() }).collect();
        let place = |(bundle, on): (usize, &&[usize])| Place {
            bundle,
            level: 0,
            depends_on: Vec::new(),
            after: after(on),
        };
        Order { places: before.iter().enumerate().map(place).collect() }
    }

    #[test]
    fn an_estimate_keeps_order_and_number_of_workers() {
        let times = [4, 1, 2, 8];
        let took = |bundle: usize| Some(of_seconds(times[bundle]));
        let parallel =
            |before: &[&[usize]], workers| estimate(&order(before), workers, took).unwrap().parallel;
        let free: &[&[usize]] = &[&[], &[], &[], &[]];
        assert_eq!(estimate(&order(free), 1, took), Some(Estimate { sequential: 15.0, parallel: 15.0 }));
        assert_eq!(parallel(free, 4), 8.0);
        // 0 and 1 start, 2 follows 1, 3 follows that.
        assert_eq!(parallel(free, 2), 11.0);
        assert_eq!(parallel(&[&[], &[0], &[1], &[2]], 2), 15.0);
        assert_eq!(parallel(&[&[], &[0], &[1], &[]], 2), 8.0, "a chain of 7 beside the longest");
        assert_eq!(estimate(&order(free), 2, |bundle| took(bundle).filter(|_| bundle != 2)), None);
    }
}
