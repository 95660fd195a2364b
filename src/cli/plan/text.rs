//! A plan for people: the waves, then each workstream with its predecessors and the reasons.

use super::planned::Planned;
use crate::bundle::{After, Place, Why};
use crate::cli::print::counted;
use crate::cli::status::duration;

/// The most predecessors or reasons that are listed.
const MOST_NAMED: usize = 5;

/// The lines.
pub(super) fn describe(planned: &Planned<'_>) -> Vec<String> {
    let waves = &planned.plan.waves;
    let mut lines = vec![format!(
        "{} in {} and {} of at most {}; speedup {:.2}",
        counted(planned.bundles.len(), "workstream", "workstreams"),
        counted(waves.levels.len(), "level", "levels"),
        counted(waves.waves.len(), "wave", "waves"),
        planned.max_workers,
        waves.estimated_speedup(),
    )];
    if let Some(estimate) = planned.estimate {
        let [sequential, parallel] = [estimate.sequential, estimate.parallel].map(shown);
        let workers = planned.max_workers;
        lines.push(format!(
            "by former runs: {sequential} one after the other, {parallel} with {workers} at a time"
        ));
    }
    lines.extend(waves.waves.iter().enumerate().map(|(at, wave)| {
        let ids: Vec<&str> = wave.iter().map(|&bundle| planned.id(bundle)).collect();
        let first = wave.first().and_then(|&bundle| planned.bundles.get(bundle));
        let is_alone = first.is_some_and(|read| !read.bundle.is_parallel_ok());
        format!("wave {}: {}{}", at + 1, ids.join(" "), if is_alone { " (runs alone)" } else { "" })
    }));
    lines.extend(planned.plan.order.places.iter().map(|place| workstream(planned, place)));
    lines
}

fn shown(seconds: f64) -> String {
    duration(std::time::Duration::try_from_secs_f64(seconds).unwrap_or_default().as_secs())
}

fn workstream(planned: &Planned<'_>, place: &Place) -> String {
    let mut parts = Vec::new();
    if !place.depends_on.is_empty() {
        let ids: Vec<String> = place.depends_on.iter().map(|&on| planned.id_at(on).to_owned()).collect();
        parts.push(format!("needs {}", named(&ids, ", ")));
    }
    let is_needed = |after: &&After| place.depends_on.binary_search(&after.place).is_ok();
    let after: Vec<&After> = place.after.iter().filter(|after| !is_needed(after)).collect();
    if !after.is_empty() {
        let after: Vec<String> = after.into_iter().map(|after| with_reasons(planned, after)).collect();
        parts.push(format!("comes after {}", named(&after, ", ")));
    }
    let waits = if parts.is_empty() { "starts at once".to_owned() } else { parts.join("; ") };
    format!("{}: {waits}", planned.id(place.bundle))
}

fn named(texts: &[String], between: &str) -> String {
    let (some, more) = texts.split_at(texts.len().min(MOST_NAMED));
    let end = if more.is_empty() { String::new() } else { format!("{between}and {} more", more.len()) };
    some.join(between) + &end
}

fn with_reasons(planned: &Planned<'_>, after: &After) -> String {
    let before = planned.id_at(after.place);
    let why: Vec<String> = after.why.iter().map(|why| in_words(why, before)).collect();
    format!("{before} ({})", named(&why, "; "))
}

fn in_words(why: &Why, before: &str) -> String {
    match why {
        Why::Alone(ws) => format!("{ws} runs alone"),
        Why::Group(group) => format!("both are in the group `{group}`"),
        Why::Path(path) => format!("both may change `{path}`"),
        Why::Meeting { earlier, later } => format!("`{earlier}` of {before} overlaps `{later}`"),
    }
}
