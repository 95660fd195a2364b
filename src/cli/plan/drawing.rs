//! A plan as a graph: solid arrows for dependencies, dashed arrows with their reasons for the soft order.

use std::fmt::Write as _;

use super::planned::Planned;
use crate::bundle::After;

/// For Graphviz.
pub(super) fn dot(planned: &Planned<'_>) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let mut text = "digraph plan {\n  rankdir=LR;\n  node [shape=box];\n".to_owned();
    for place in &planned.plan.order.places {
        let own = quoted(planned.id(place.bundle));
        let _ = writeln!(text, "  {own};");
        for &on in &place.depends_on {
            let _ = writeln!(text, "  {} -> {own};", quoted(planned.id_at(on)));
        }
        for after in &place.after {
            let (before, why) = (quoted(planned.id_at(after.place)), quoted(&label(after)));
            let _ = writeln!(text, "  {before} -> {own} [style=dashed, label={why}];");
        }
    }
    text + "}\n"
}

/// For Mermaid. A node has a number for a name: some words, as `end`, may not be one.
pub(super) fn mermaid(planned: &Planned<'_>) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('#', "#35;").replace('"', "#quot;"));
    let mut text = "flowchart LR\n".to_owned();
    for (at, place) in planned.plan.order.places.iter().enumerate() {
        let _ = writeln!(text, "  n{at}[{}]", quoted(planned.id(place.bundle)));
        for on in &place.depends_on {
            let _ = writeln!(text, "  n{on} --> n{at}");
        }
        for after in &place.after {
            let _ = writeln!(text, "  n{} -.->|{}| n{at}", after.place, quoted(&label(after)));
        }
    }
    text
}

/// The first reason, and how many more there are.
fn label(after: &After) -> String {
    let first = after.why.first().map_or_else(String::new, ToString::to_string);
    match after.why.len() {
        0 | 1 => first,
        more => format!("{first} and {} more", more - 1),
    }
}
