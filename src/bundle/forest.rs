//! A forest of texts by prefix: the parent of a text is its longest proper prefix among the others.
//!
//! `Latest` records visits to its nodes, and finds the few latest visits that a new visit must follow. Hard rule: the cost of an
//! answer is paid by the entries that it removes, so that a series of visits is nearly linear.

use std::collections::BTreeSet;
use std::mem::take;
use std::ops::Range;

/// Distinct texts, sorted; a node is the place of a text in them.
#[derive(Debug)]
pub(super) struct Forest {
    texts: Vec<String>,
    above: Vec<Option<usize>>,
}

impl Forest {
    /// Builds the forest of these texts.
    pub(super) fn of(texts: BTreeSet<String>) -> Self {
        let texts: Vec<String> = texts.into_iter().collect();
        let mut line: Vec<usize> = Vec::new();
        let mut above = Vec::with_capacity(texts.len());
        for (node, text) in texts.iter().enumerate() {
            // In sorted order the texts that begin with another follow it directly.
            while line.last().is_some_and(|&top| !text.starts_with(&texts[top])) {
                line.pop();
            }
            above.push(line.last().copied());
            line.push(node);
        }
        Self { texts, above }
    }

    /// The number of nodes.
    pub(super) fn len(&self) -> usize {
        self.texts.len()
    }

    /// The node of a text; none if the text is not in the forest.
    pub(super) fn node(&self, text: &str) -> Option<usize> {
        self.texts.binary_search_by(|known| known.as_str().cmp(text)).ok()
    }

    /// The ancestors of a node, the nearest first.
    pub(super) fn above(&self, node: usize) -> impl Iterator<Item = usize> {
        std::iter::successors(self.above[node], |&node| self.above[node])
    }

    /// The descendants of a node.
    pub(super) fn below(&self, node: usize) -> Range<usize> {
        let text = &self.texts[node];
        let count = self.texts[node + 1..].partition_point(|other| other.starts_with(text));
        node + 1..node + 1 + count
    }
}

/// The latest visit of each node. Visits of a node, its ancestors and its descendants are totally ordered, so the latest of them
/// stands for the rest.
#[derive(Debug)]
pub(super) struct Latest<'a, T> {
    forest: &'a Forest,
    /// The latest visitor; none after a later visit of an ancestor.
    last: Vec<Option<T>>,
    /// The children with a visit in their subtree that is later than the latest visit of the node.
    busy: Vec<Vec<usize>>,
    is_busy: Vec<bool>,
}

impl<'a, T: Copy> Latest<'a, T> {
    /// A forest without visits.
    pub(super) fn new(forest: &'a Forest) -> Self {
        let count = forest.len();
        let (last, busy) = (vec![None; count], vec![Vec::new(); count]);
        Self { forest, last, busy, is_busy: vec![false; count] }
    }

    /// Records a visit. Returns visitors that together follow all earlier visitors of the node, its ancestors and its descendants.
    pub(super) fn visit(&mut self, node: usize, visitor: T) -> Vec<T> {
        let mut before = self.take_below(node);
        if before.is_empty() {
            let nearest =
                std::iter::once(node).chain(self.forest.above(node)).find_map(|node| self.last[node]);
            before.extend(nearest);
        }
        self.last[node] = Some(visitor);
        self.list(node);
        before
    }

    /// Removes the latest visits below a node: the new visit of the node stands for them.
    fn take_below(&mut self, node: usize) -> Vec<T> {
        let mut found = Vec::new();
        let mut open = take(&mut self.busy[node]);
        while let Some(next) = open.pop() {
            self.is_busy[next] = false;
            let last = self.last[next].take();
            match self.busy[next].is_empty() {
                true => found.extend(last),
                false => open.append(&mut self.busy[next]),
            }
        }
        found
    }

    fn list(&mut self, mut node: usize) {
        while let Some(above) = self.forest.above[node].filter(|_| !self.is_busy[node]) {
            self.is_busy[node] = true;
            self.busy[above].push(node);
            node = above;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forest(texts: &[&str]) -> Forest {
        Forest::of(texts.iter().map(|text| (*text).to_owned()).collect())
    }

    #[test]
    fn the_parent_of_a_text_is_its_longest_prefix() {
        let forest = forest(&["a/b/", "a/", "a/b/c/", "ab/", "", "a/c/", "b/"]);
        let node = |text| forest.node(text).unwrap();
        let above =
            |text| forest.above(node(text)).map(|node| forest.texts[node].as_str()).collect::<Vec<_>>();
        assert_eq!(above("a/b/c/"), ["a/b/", "a/", ""]);
        assert_eq!(above("ab/"), [""]);
        assert_eq!(
            forest.below(node("a/")).map(|node| &*forest.texts[node]).collect::<Vec<_>>(),
            ["a/b/", "a/b/c/", "a/c/"]
        );
        assert!(forest.below(node("b/")).is_empty() && forest.node("c/").is_none());
    }

    #[test]
    fn a_visit_follows_the_latest_of_its_line_and_none_twice() {
        let forest = forest(&["a/", "a/b/", "a/b/c/", "a/d/", "e/"]);
        let mut latest = Latest::new(&forest);
        let mut visit = |text, visitor: u32| {
            let mut before = latest.visit(forest.node(text).unwrap(), visitor);
            before.sort_unstable();
            before
        };
        assert_eq!(visit("a/b/c/", 0), [0; 0]);
        assert_eq!(visit("a/d/", 1), [0; 0]);
        assert_eq!(visit("a/b/", 2), [0]);
        assert_eq!(visit("a/b/c/", 3), [2]);
        assert_eq!(visit("a/", 4), [1, 3], "0 and 2 come before 3");
        assert_eq!(visit("a/", 5), [4]);
        assert_eq!(visit("a/b/c/", 6), [5]);
        assert_eq!(visit("e/", 7), [0; 0]);
        assert_eq!(visit("a/b/", 8), [6]);
    }
}
