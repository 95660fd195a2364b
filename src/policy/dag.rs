//! The graph of dependencies: does it run in a circle?
//!
//! Pure: the caller gives the dependencies. A job that is not a key of the graph depends on no other.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use crate::job::JobId;

/// The dependencies of each job, or of each bundle.
pub(crate) type Graph<Id = JobId> = BTreeMap<Id, Vec<Id>>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Color {
    /// On the path that is walked just now.
    Open,
    /// Walked to its end.
    Done,
}

/// Finds circles, each as the jobs on it in the order of their dependencies, the last one depending on the first.
///
/// Every part of the graph that is not free of circles yields at least one; without those jobs there may be others.
/// The walk keeps its path on the heap: a chain may be as long as a queue. In a graph with very many circles the
/// later ones are left out that share a job with an earlier one.
#[must_use]
pub(crate) fn cycles<Id: Ord + Clone>(graph: &Graph<Id>) -> Vec<Vec<Id>> {
    let mut found: Vec<Vec<Id>> = Vec::new();
    let mut told = Told::default();
    let mut colors: BTreeMap<&Id, Color> = BTreeMap::new();
    for start in graph.keys() {
        if colors.contains_key(start) {
            continue;
        }
        colors.insert(start, Color::Open);
        let mut path = vec![(start, dependencies(graph, start).iter())];
        while let Some((job, rest)) = path.last_mut() {
            let Some(next) = rest.next() else {
                colors.insert(job, Color::Done);
                path.pop();
                continue;
            };
            match colors.get(next) {
                Some(Color::Done) => {}
                Some(Color::Open) => {
                    let on_circle = path.iter().map(|(job, _)| *job).skip_while(|job| *job != next);
                    if told.is_worth(on_circle.clone()) {
                        found.push(on_circle.cloned().collect());
                    }
                }
                None => {
                    colors.insert(next, Color::Open);
                    path.push((next, dependencies(graph, next).iter()));
                }
            }
        }
    }
    found
}

/// The number of jobs on all circles from which on circles are left out.
const MANY: usize = 10_000;

/// The jobs on the circles that are told.
struct Told<'a, Id> {
    jobs: BTreeSet<&'a Id>,
    count: usize,
}

impl<Id> Default for Told<'_, Id> {
    fn default() -> Self {
        Self { jobs: BTreeSet::new(), count: 0 }
    }
}

impl<'a, Id: Ord> Told<'a, Id> {
    /// Whether a circle is reported: thousands of circles through one job would take all memory.
    fn is_worth(&mut self, circle: impl Iterator<Item = &'a Id> + Clone) -> bool {
        if self.count > MANY && circle.clone().any(|job| self.jobs.contains(job)) {
            return false;
        }
        for job in circle {
            self.count += 1;
            self.jobs.insert(job);
        }
        true
    }
}

/// The longest circle that is printed whole. A longer one is shortened in its middle.
const LONGEST_SHOWN: usize = 8;

/// A circle in words, on one screen however long it is.
#[must_use]
pub(crate) fn shown(circle: &[impl Display]) -> String {
    let name = |id: &_| format!("`{id}`");
    let mut around: Vec<String> = circle.iter().chain(circle.first()).map(name).collect();
    if circle.len() <= LONGEST_SHOWN {
        return around.join(" waits for ");
    }
    let end = around.split_off(circle.len() + 1 - LONGEST_SHOWN / 2);
    around.truncate(LONGEST_SHOWN / 2);
    let left_out = circle.len() - LONGEST_SHOWN + 1;
    format!(
        "{} waits for … {left_out} more … waits for {} ({} jobs)",
        around.join(" waits for "),
        end.join(" waits for "),
        circle.len()
    )
}

fn dependencies<'a, Id: Ord>(graph: &'a Graph<Id>, job: &Id) -> &'a [Id] {
    graph.get(job).map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cycles_in(edges: &[(&str, &str)]) -> Vec<String> {
        let id = |text: &str| JobId::new(text).unwrap();
        let mut graph = Graph::new();
        for (job, on) in edges {
            graph.entry(id(job)).or_default().push(id(on));
        }
        let shown = |circle: Vec<JobId>| circle.iter().map(JobId::as_str).collect::<Vec<_>>().join(">");
        cycles(&graph).into_iter().map(shown).collect()
    }

    #[test]
    fn what_branches_and_meets_again_is_no_circle() {
        assert_eq!(cycles_in(&[("a", "b"), ("a", "c"), ("b", "d"), ("c", "d"), ("e", "a")]), [""; 0]);
    }

    #[test]
    fn a_circle_is_told_without_the_way_to_it() {
        assert_eq!(cycles_in(&[("a", "b"), ("b", "c"), ("c", "d"), ("d", "b")]), ["b>c>d"]);
        assert_eq!(cycles_in(&[("a", "a")]), ["a"]);
    }

    #[test]
    fn circles_apart_are_all_found() {
        assert_eq!(cycles_in(&[("a", "b"), ("b", "a"), ("x", "y"), ("y", "x")]), ["a>b", "x>y"]);
    }

    #[test]
    fn a_long_circle_is_told_with_its_ends_and_its_length() {
        let circle = |length| (0..length).map(|n| JobId::new(&format!("j{n}")).unwrap()).collect::<Vec<_>>();
        assert_eq!(shown(&circle(1)), "`j0` waits for `j0`");
        assert_eq!(shown(&circle(8)).matches("waits for").count(), 8);
        assert_eq!(
            shown(&circle(300)),
            "`j0` waits for `j1` waits for `j2` waits for `j3` waits for … 293 more … waits for \
             `j297` waits for `j298` waits for `j299` waits for `j0` (300 jobs)"
        );
    }

    #[test]
    fn a_chain_of_a_hundred_thousand_jobs_needs_no_deep_stack() {
        let id = |n: usize| JobId::new(&format!("j{n:06}")).unwrap();
        let mut graph: Graph = (0..100_000).map(|n| (id(n), vec![id(n + 1)])).collect();
        assert!(cycles(&graph).is_empty());
        graph.insert(id(100_000), vec![id(0)]);
        assert_eq!(cycles(&graph)[0].len(), 100_001);
    }

    #[test]
    fn thousands_of_circles_through_one_job_are_not_all_told_and_one_apart_is() {
        let id = |n: usize| JobId::new(&format!("j{n:06}")).unwrap();
        let mut graph: Graph = (0..5_000).map(|n| (id(n), vec![id(n + 1), id(0)])).collect();
        graph.insert(id(900_000), vec![id(900_000)]);
        let found = cycles(&graph);
        let jobs: usize = found.iter().map(Vec::len).sum();
        assert!((MANY..2 * MANY).contains(&jobs), "{jobs}");
        assert_eq!(found.last().unwrap(), &[id(900_000)]);
    }
}
