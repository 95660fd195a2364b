//! The graph of dependencies: does it run in a circle?
//!
//! Pure: who depends on whom is given. A job that is not a key of the graph depends on nobody.

use std::collections::BTreeMap;

use super::JobId;

/// Who depends on whom.
pub type Graph = BTreeMap<JobId, Vec<JobId>>;

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
/// The walk keeps its path on the heap: a chain may be as long as a queue.
#[must_use]
pub fn cycles(graph: &Graph) -> Vec<Vec<JobId>> {
    let mut found = Vec::new();
    let mut colors: BTreeMap<&JobId, Color> = BTreeMap::new();
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
                    let on_circle = path.iter().skip_while(|(job, _)| *job != next);
                    found.push(on_circle.map(|(job, _)| (*job).clone()).collect());
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

fn dependencies<'a>(graph: &'a Graph, job: &JobId) -> &'a [JobId] {
    graph.get(job).map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(edges: &[(&str, &str)]) -> Vec<String> {
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
        assert_eq!(of(&[("a", "b"), ("a", "c"), ("b", "d"), ("c", "d"), ("e", "a")]), [""; 0]);
    }

    #[test]
    fn a_circle_is_told_without_the_way_to_it() {
        assert_eq!(of(&[("a", "b"), ("b", "c"), ("c", "d"), ("d", "b")]), ["b>c>d"]);
        assert_eq!(of(&[("a", "a")]), ["a"]);
    }

    #[test]
    fn circles_apart_are_all_found() {
        assert_eq!(of(&[("a", "b"), ("b", "a"), ("x", "y"), ("y", "x")]), ["a>b", "x>y"]);
    }

    #[test]
    fn a_chain_of_a_hundred_thousand_jobs_needs_no_deep_stack() {
        let id = |n: usize| JobId::new(&format!("j{n:06}")).unwrap();
        let mut graph: Graph = (0..100_000).map(|n| (id(n), vec![id(n + 1)])).collect();
        assert!(cycles(&graph).is_empty());
        graph.insert(id(100_000), vec![id(0)]);
        assert_eq!(cycles(&graph)[0].len(), 100_001);
    }
}
