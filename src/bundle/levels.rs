//! Dependencies as a graph of numbers: levels, and reachability of many pairs at once.

use std::collections::{BTreeMap, BTreeSet};

use super::read::ReadBundle;

/// The dependencies of each bundle, by their places in the slice, which is sorted by id. One that is not in it is left out.
pub(super) fn dependencies(bundles: &[ReadBundle]) -> Vec<Vec<usize>> {
    let place = |id: &String| bundles.binary_search_by(|read| read.bundle.id.as_str().cmp(id)).ok();
    let of = |read: &ReadBundle| {
        let found: BTreeSet<usize> = read.bundle.depends_on.iter().filter_map(place).collect();
        found.into_iter().collect()
    };
    bundles.iter().map(of).collect()
}

/// The level of each bundle, from 0: one above the highest level of its dependencies. There is no cycle.
pub(super) fn levels(dependencies: &[Vec<usize>]) -> Vec<usize> {
    let mut dependants = vec![Vec::new(); dependencies.len()];
    for (node, on) in dependencies.iter().enumerate() {
        on.iter().for_each(|&on| dependants[on].push(node));
    }
    let mut open: Vec<usize> = dependencies.iter().map(Vec::len).collect();
    let mut ready: Vec<usize> = (0..open.len()).filter(|&node| open[node] == 0).collect();
    let mut levels = vec![0; open.len()];
    while let Some(node) = ready.pop() {
        for &above in &dependants[node] {
            levels[above] = levels[above].max(levels[node] + 1);
            open[above] -= 1;
            if open[above] == 0 {
                ready.push(above);
            }
        }
    }
    levels
}

/// The bundles of each level, sorted.
pub(super) fn by_level(levels: &[usize]) -> Vec<Vec<usize>> {
    let mut found: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (bundle, level) in levels.iter().enumerate() {
        found.entry(*level).or_default().push(bundle);
    }
    found.into_values().collect()
}

/// The predecessors of each node, which have smaller numbers.
pub(super) type Before = Vec<Vec<usize>>;

/// The pairs (earlier, later) that a path connects.
pub(super) fn joined(before: &Before, pairs: &BTreeSet<(usize, usize)>) -> BTreeSet<(usize, usize)> {
    follow(before, pairs, |(_, later), marks| marks[later])
}

/// The edges (earlier, later) that a longer path makes redundant.
pub(super) fn redundant(before: &Before, edges: &BTreeSet<(usize, usize)>) -> BTreeSet<(usize, usize)> {
    follow(before, edges, |(earlier, later), marks| {
        before[later].iter().filter(|&&other| other != earlier).fold(0, |all, &other| all | marks[other])
    })
}

/// Marks every node with the earlier nodes that reach it, and keeps the pairs whose mark `arrives` selects.
fn follow(
    before: &Before,
    pairs: &BTreeSet<(usize, usize)>,
    arrives: impl Fn((usize, usize), &[u64]) -> u64,
) -> BTreeSet<(usize, usize)> {
    let mut found = BTreeSet::new();
    let mut later_of: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (earlier, later) in pairs {
        later_of.entry(*earlier).or_default().push(*later);
    }
    let sources: Vec<(usize, Vec<usize>)> = later_of.into_iter().collect();
    let mut marks = vec![0_u64; before.len()];
    // One bit for each source: one pass over the nodes follows 64 of them.
    for some in sources.chunks(64) {
        let from = some.first().map_or(0, |(source, _)| *source);
        let to = some.iter().flat_map(|(_, later)| later.last()).max().copied().unwrap_or(from);
        marks.fill(0);
        for (bit, (source, _)) in some.iter().enumerate() {
            marks[*source] |= 1 << bit;
        }
        for node in from..=to {
            marks[node] = before[node].iter().fold(marks[node], |all, &other| all | marks[other]);
        }
        for (bit, (source, later)) in some.iter().enumerate() {
            let pairs = later.iter().map(|&later| (*source, later));
            found.extend(pairs.filter(|&pair| arrives(pair, &marks) >> bit & 1 == 1));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_one_above_the_highest_dependency() {
        let levels = levels(&[vec![3], vec![], vec![0, 1], vec![1]]);
        assert_eq!(levels, [2, 0, 3, 1]);
        assert_eq!(by_level(&levels), [[1], [3], [0], [2]]);
    }

    #[test]
    fn a_path_joins_what_no_edge_does_also_among_more_than_are_followed_at_once() {
        // Two chains beside each other.
        let before: Before = (0..400_usize).map(|node| node.checked_sub(2).into_iter().collect()).collect();
        let pairs: BTreeSet<(usize, usize)> = (0..300).flat_map(|node| [(node, 398), (node, 399)]).collect();
        let found = joined(&before, &pairs);
        assert_eq!(found.len(), 300);
        assert!(found.iter().all(|(earlier, later)| earlier % 2 == later % 2), "{found:?}");
        assert!(joined(&before, &BTreeSet::new()).is_empty());
    }

    #[test]
    fn an_edge_beside_a_longer_path_is_redundant_and_the_path_is_not() {
        let before: Before = vec![vec![], vec![0], vec![0, 1], vec![0], vec![2, 3]];
        let edges = BTreeSet::from([(0, 1), (0, 2), (1, 2), (0, 3), (2, 4), (3, 4)]);
        assert_eq!(redundant(&before, &edges), BTreeSet::from([(0, 2)]));
    }
}
