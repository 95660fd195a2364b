//! Bundles that depend on each other: ids that are there twice, dependencies that are missing, circles.
//!
//! Works on what can be read of each bundle, whether or not it is valid otherwise: all problems are told at once.

use std::collections::{BTreeMap, BTreeSet};

use crate::job::parse::nearest::nearest;
use crate::policy::dag::{self, Graph};

/// What can be read of a bundle.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) id: String,
    pub(super) depends_on: Vec<String>,
}

/// A dependency of a bundle, by the places of both in the lists that they are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Edge {
    pub(super) node: usize,
    pub(super) dependency: usize,
}

/// The workstreams of these names, with those that they depend on; without names all.
///
/// # Errors
/// A name that none of them has, and the one that may be meant.
pub(crate) fn with_dependencies<'a>(
    known: &BTreeMap<&'a str, &'a [String]>,
    names: &'a [String],
) -> Result<BTreeSet<&'a str>, (&'a str, Option<&'a str>)> {
    let mut next: Vec<&str> = match names {
        [] => known.keys().copied().collect(),
        names => names.iter().map(String::as_str).collect(),
    };
    if let Some(unknown) = next.iter().find(|name| !known.contains_key(*name)) {
        let all: Vec<&str> = known.keys().copied().collect();
        return Err((unknown, nearest(unknown, &all)));
    }
    let mut wanted = BTreeSet::new();
    while let Some(name) = next.pop() {
        if wanted.insert(name) {
            next.extend(known.get(name).copied().unwrap_or_default().iter().map(String::as_str));
        }
    }
    Ok(wanted)
}

/// The bundles whose id an earlier one has, each with that one.
pub(super) fn duplicates(nodes: &[Node]) -> Vec<(usize, usize)> {
    let mut first = BTreeMap::new();
    let mut found = Vec::new();
    for (at, node) in nodes.iter().enumerate() {
        let earlier = *first.entry(&node.id).or_insert(at);
        if earlier != at {
            found.push((at, earlier));
        }
    }
    found
}

/// The dependencies that are no bundle, in the order of the bundles.
pub(super) fn missing(nodes: &[Node]) -> Vec<Edge> {
    let ids: BTreeSet<&String> = nodes.iter().map(|node| &node.id).collect();
    let edges = nodes.iter().enumerate().flat_map(|(node, of)| {
        let unknown = of.depends_on.iter().enumerate().filter(|(_, id)| !ids.contains(id));
        unknown.map(move |(dependency, _)| Edge { node, dependency })
    });
    edges.collect()
}

/// A circle of dependencies.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Circle {
    /// The ids on it, the smallest first, each depending on the next and the last on the first.
    pub(super) ids: Vec<String>,
    /// The dependency of the first on the next.
    pub(super) edge: Edge,
}

/// The circles, each once, sorted.
pub(super) fn circles(nodes: &[Node]) -> Vec<Circle> {
    let mut graph: Graph<String> = BTreeMap::new();
    for node in nodes {
        // Of two bundles with one id the first counts.
        graph.entry(node.id.clone()).or_insert_with(|| node.depends_on.clone());
    }
    let rotated: BTreeSet<Vec<String>> = dag::cycles(&graph).into_iter().map(from_the_smallest).collect();
    rotated.into_iter().filter_map(|ids| Some(Circle { edge: first_edge(nodes, &ids)?, ids })).collect()
}

fn from_the_smallest(mut ids: Vec<String>) -> Vec<String> {
    let smallest = ids.iter().enumerate().min_by_key(|(_, id)| *id).map_or(0, |(at, _)| at);
    ids.rotate_left(smallest);
    ids
}

fn first_edge(nodes: &[Node], ids: &[String]) -> Option<Edge> {
    let first = ids.first()?;
    let next = ids.get(1).unwrap_or(first);
    let (at, node) = nodes.iter().enumerate().find(|(_, node)| node.id == *first)?;
    let dependency = node.depends_on.iter().position(|id| id == next)?;
    Some(Edge { node: at, dependency })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(edges: &[(&str, &[&str])]) -> Vec<Node> {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        edges.iter().map(|(id, on)| Node { id: (*id).to_owned(), depends_on: owned(on) }).collect()
    }

    fn edge(node: usize, dependency: usize) -> Edge {
        Edge { node, dependency }
    }

    #[test]
    fn the_second_of_two_ids_is_the_duplicate() {
        assert_eq!(duplicates(&nodes(&[("a", &[]), ("b", &[]), ("a", &[]), ("a", &[])])), [(2, 0), (3, 0)]);
    }

    #[test]
    fn each_missing_dependency_is_named() {
        assert_eq!(missing(&nodes(&[("a", &["b", "x"]), ("b", &["y", "a"])])), [edge(0, 1), edge(1, 0)]);
    }

    #[test]
    fn a_circle_begins_with_its_smallest_id_and_is_told_once() {
        let found = circles(&nodes(&[("c", &["a"]), ("b", &["x", "c"]), ("a", &["b"]), ("x", &["b"])]));
        let ids: Vec<_> = found.iter().map(|circle| circle.ids.join(" ")).collect();
        assert_eq!(ids, ["a b c", "b x"]);
        assert_eq!((found[0].edge, found[1].edge), (edge(2, 0), edge(1, 0)));
        assert_eq!(
            circles(&nodes(&[("a", &["b", "a"])]))[0],
            Circle { ids: vec!["a".into()], edge: edge(0, 1) }
        );
        assert_eq!(circles(&nodes(&[("a", &["b"]), ("b", &[])])), []);
    }
}
