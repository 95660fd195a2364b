//! The document of `engine plan --json`. Its first keys are those of the original's plan report.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use super::planned::Planned;
use crate::bundle::checks::Check;
use crate::bundle::layers::{Layer, Sourced};
use crate::bundle::{After, Conflict, Finding, Place};
use crate::cli::workstreams::listed;
use crate::workstream::estimate::Estimate;

/// A plan, or the errors of its bundles.
#[derive(Debug, Default, Serialize)]
pub(super) struct PlanDocument<'a> {
    valid: bool,
    errors: Vec<Value>,
    warnings: Vec<String>,
    levels: Vec<Vec<&'a str>>,
    estimated_duration_seq: usize,
    estimated_duration_par: usize,
    bottlenecks: Vec<&'a str>,
    parallelism: Option<Parallelism<'a>>,
    order: Vec<OrderEntry<'a>>,
    estimate_s: Option<Estimate>,
    limits: BTreeMap<&'a str, &'a Sourced>,
    checks: Vec<Value>,
    settings: BTreeMap<&'a str, &'a Sourced>,
}

#[derive(Debug, Serialize)]
struct Parallelism<'a> {
    max_parallelism: usize,
    estimated_speedup: f64,
    waves: Vec<Vec<&'a str>>,
    bottlenecks: Vec<&'a str>,
    conflicts: &'a [Conflict],
}

/// A workstream: as in the manifest of a run, and each reason by itself.
#[derive(Debug, Serialize)]
struct OrderEntry<'a> {
    ws_id: &'a str,
    wave: usize,
    depends_on: Vec<&'a str>,
    after: Vec<&'a str>,
    reason: Option<String>,
    reasons: BTreeMap<&'a str, Vec<String>>,
    #[serde(skip_serializing_if = "Layer::is_empty")]
    limits: Layer,
}

/// The document of bundles that are not valid.
pub(super) fn refused(errors: &[Finding], warnings: &[Finding]) -> PlanDocument<'static> {
    let warnings = warnings.iter().map(Finding::line).collect();
    PlanDocument { errors: listed(errors), warnings, ..PlanDocument::default() }
}

/// The document of a plan.
pub(super) fn valid<'a>(planned: &'a Planned<'a>, warnings: &[Finding]) -> PlanDocument<'a> {
    let waves = &planned.plan.waves;
    let ids = |bundles: &Vec<usize>| bundles.iter().map(|&bundle| planned.id(bundle)).collect::<Vec<_>>();
    let wave_of = waves.wave_of();
    let entry =
        |place: &'a Place| entry(planned, place, wave_of.get(place.bundle).copied().unwrap_or_default());
    let values = || planned.settings.values.iter();
    PlanDocument {
        valid: true,
        errors: Vec::new(),
        warnings: planned.warnings(warnings).collect(),
        levels: waves.levels.iter().map(ids).collect(),
        estimated_duration_seq: planned.bundles.len(),
        estimated_duration_par: waves.waves.len(),
        bottlenecks: ids(&waves.bottlenecks),
        parallelism: Some(Parallelism {
            max_parallelism: waves.max_parallelism(),
            estimated_speedup: waves.estimated_speedup(),
            waves: waves.waves.iter().map(ids).collect(),
            bottlenecks: ids(&waves.bottlenecks),
            conflicts: &waves.conflicts,
        }),
        order: planned.plan.order.places.iter().map(entry).collect(),
        estimate_s: planned.estimate,
        limits: values().filter_map(|(key, value)| Some((key.strip_prefix("limits.")?, value))).collect(),
        checks: checks(planned),
        settings: values()
            .filter(|(key, _)| !key.starts_with("limits.") && !key.starts_with("checks."))
            .collect(),
    }
}

fn entry<'a>(planned: &'a Planned<'a>, place: &'a Place, wave: usize) -> OrderEntry<'a> {
    let texts = |after: &After| after.why.iter().map(ToString::to_string).collect::<Vec<_>>();
    let reason = |after: &After| format!("{}: {}", planned.id_at(after.place), texts(after).join(", "));
    let reason: Vec<String> = place.after.iter().map(reason).collect();
    let read = planned.bundles.get(place.bundle);
    OrderEntry {
        ws_id: planned.id(place.bundle),
        wave,
        depends_on: place.depends_on.iter().map(|&on| planned.id_at(on)).collect(),
        after: place.after.iter().map(|after| planned.id_at(after.place)).collect(),
        reason: (!reason.is_empty()).then(|| reason.join("; ")),
        reasons: place.after.iter().map(|after| (planned.id_at(after.place), texts(after))).collect(),
        limits: read.map_or_else(Layer::default, |read| planned.settings.of_bundle(&read.file, &read.bundle)),
    }
}

/// The checks of every workstream, each with where it is from.
fn checks(planned: &Planned<'_>) -> Vec<Value> {
    let one = |check: &Check| {
        let mut document = json!(check);
        let from =
            planned.settings.values.get(&format!("checks.{}", check.kind.as_str())).map(|value| &value.from);
        document["judged_by"] = json!(check.judged_by());
        document["from"] = json!(from);
        document
    };
    planned.settings.checks.iter().map(one).collect()
}
