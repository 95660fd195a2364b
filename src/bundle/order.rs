//! The order of workstreams: hard edges (`depends_on`) and soft edges, which keep apart workstreams that conflict.
//!
//! If two workstreams share a path, a directory or a group, or if one of them runs alone, a path of soft edges alone, or of hard
//! ones alone, leads from the later in plan order (level, id) to the earlier: on a mixed path one in the middle that never starts
//! has not waited for those that it depends on. Edges form chains, not pairs: their number grows with the number of bundles. Hard
//! rule: every edge points back, and equal bundles give equal edges.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::forest::Latest;
use super::levels;
use super::meeting::{Meaning, Paths, Use};

/// Workstreams in plan order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Order {
    /// By level, within a level by id.
    pub(crate) places: Vec<Place>,
}

/// A workstream in its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// Its bundle, by its place in the slice.
    pub(crate) bundle: usize,
    /// Its level, from 0.
    pub(crate) level: usize,
    /// The workstreams that must have succeeded first, by their places in the order, rising.
    pub(crate) depends_on: Vec<usize>,
    /// The workstreams that it comes after, rising; without those that follow from other ones. It may depend on one of them too.
    pub(crate) after: Vec<After>,
}

/// A workstream that another comes after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct After {
    /// Its place in the order.
    pub(crate) place: usize,
    /// Why; at least one.
    pub(crate) why: Vec<Why>,
}

/// Why a workstream comes after another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Why {
    /// One of them runs alone.
    Alone(String),
    /// Both are in this group.
    Group(String),
    /// Both may change this path.
    Path(String),
    /// The paths may mean the same file.
    Meeting {
        /// That of the earlier workstream.
        earlier: String,
        /// That of the later one.
        later: String,
    },
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alone(ws) => write!(f, "parallel_ok:{ws}"),
            Self::Group(group) => write!(f, "conflict_group:{group}"),
            Self::Path(path) => write!(f, "file_scope:{path}"),
            Self::Meeting { earlier, later } => write!(f, "pattern_overlap:{earlier} {later}"),
        }
    }
}

impl Order {
    /// The order of the bundles that these are the paths of.
    #[must_use]
    pub(crate) fn of(paths: &Paths<'_>) -> Self {
        let dependencies = levels::dependencies(paths.bundles);
        let levels = levels::levels(&dependencies);
        let mut order: Vec<usize> = (0..levels.len()).collect();
        order.sort_by_key(|&bundle| (levels[bundle], bundle));
        let mut place_of = vec![0; order.len()];
        for (place, &bundle) in order.iter().enumerate() {
            place_of[bundle] = place;
        }
        let mut line = Line::new(paths);
        let mut places: Vec<Place> = Vec::with_capacity(order.len());
        for &bundle in &order {
            let mut depends_on: Vec<usize> = dependencies[bundle].iter().map(|&on| place_of[on]).collect();
            depends_on.sort_unstable();
            let after = line.next(bundle);
            places.push(Place { bundle, level: levels[bundle], depends_on, after });
        }
        Self { places }.without_redundant()
    }

    /// The pairs (earlier, later) of places that a path of dependencies connects.
    pub(super) fn joined(&self, pairs: &BTreeSet<(usize, usize)>) -> BTreeSet<(usize, usize)> {
        let dependencies = self.places.iter().map(|place| place.depends_on.clone()).collect();
        levels::joined(&dependencies, pairs)
    }

    /// Drops the soft edges that longer paths of soft edges make redundant; and those that no such path needs, where dependencies
    /// say the same.
    fn without_redundant(mut self) -> Self {
        let soft: Vec<Vec<usize>> =
            self.places.iter().map(|place| place.after.iter().map(|after| after.place).collect()).collect();
        let edges: BTreeSet<(usize, usize)> =
            soft.iter().enumerate().flat_map(|(later, on)| on.iter().map(move |&on| (on, later))).collect();
        let redundant = levels::redundant(&soft, &edges);
        let followed: BTreeSet<usize> = soft.iter().flatten().copied().collect();
        let is_alone =
            |&(earlier, later): &(usize, usize)| soft[earlier].is_empty() && !followed.contains(&later);
        let joined = self.joined(&edges.into_iter().filter(is_alone).collect());
        for (later, place) in self.places.iter_mut().enumerate() {
            let is_needless = |edge: &(usize, usize)| redundant.contains(edge) || joined.contains(edge);
            place.after.retain(|after| !is_needless(&(after.place, later)));
        }
        self
    }
}

fn why(earlier: &Meaning, later: &Meaning) -> Why {
    match earlier.node == later.node {
        true => Why::Path(later.name().to_owned()),
        false => Why::Meeting { earlier: earlier.shown.clone(), later: later.shown.clone() },
    }
}

/// A workstream and the path with which it visits.
type By = (usize, usize);

/// The workstreams so far, as all of them are visited in plan order.
struct Line<'a> {
    paths: &'a Paths<'a>,
    /// The latest of each group.
    groups: BTreeMap<&'a str, usize>,
    /// The latest by directory.
    leads: Latest<'a, By>,
    /// The latest by literal head. The globs that match one path have such heads, so they are totally ordered.
    heads: Latest<'a, By>,
    /// The latest of each glob.
    globs: Vec<Option<usize>>,
    /// The latest of each path, until a glob that matches it follows.
    open: Vec<Option<usize>>,
    /// For each glob the paths that it matches and that may be open.
    touched: Vec<Vec<usize>>,
    /// The latest that runs alone: its place and its bundle.
    alone: Option<(usize, usize)>,
    /// The first place after it.
    since: usize,
    /// Whether a soft edge leads to a place.
    is_followed: Vec<bool>,
    /// The place of the present workstream, and the reasons for its edges.
    now: usize,
    found: BTreeMap<usize, BTreeSet<Why>>,
}

impl<'a> Line<'a> {
    fn new(paths: &'a Paths<'a>) -> Self {
        let count = paths.meanings.len();
        Self {
            paths,
            groups: BTreeMap::new(),
            leads: Latest::new(&paths.leads),
            heads: Latest::new(&paths.heads),
            globs: vec![None; count],
            open: vec![None; count],
            touched: vec![Vec::new(); count],
            alone: None,
            since: 0,
            is_followed: Vec::with_capacity(paths.bundles.len()),
            now: 0,
            found: BTreeMap::new(),
        }
    }

    /// Adds the next workstream.
    fn next(&mut self, bundle: usize) -> Vec<After> {
        let (paths, read) = (self.paths, &self.paths.bundles[bundle].bundle);
        self.now = self.is_followed.len();
        self.is_followed.push(false);
        if let Some(group) = read.group() {
            let before = self.groups.insert(group, self.now);
            self.after(before, || Why::Group(group.to_owned()));
        }
        paths.of_bundle(bundle).iter().for_each(|path| self.path(path));
        self.barrier(bundle);
        let found = std::mem::take(&mut self.found);
        for &before in found.keys() {
            self.is_followed[before] = true;
        }
        found.into_iter().map(|(place, why)| After { place, why: why.into_iter().collect() }).collect()
    }

    fn after(&mut self, before: Option<usize>, why: impl FnOnce() -> Why) {
        if let Some(before) = before.filter(|&before| before != self.now) {
            self.found.entry(before).or_default().insert(why());
        }
    }

    fn path(&mut self, path: &Use) {
        let (own, paths) = (path.meaning, self.paths);
        let meaning = &paths.meanings[own];
        let mut before = self.leads.visit(meaning.node, (self.now, own));
        if let Some(head) = meaning.head {
            before.extend(self.heads.visit(head, (self.now, own)));
            self.globs[own] = Some(self.now);
            for path in std::mem::take(&mut self.touched[own]) {
                before.extend(self.open[path].take().map(|place| (place, path)));
            }
        } else {
            let last = meaning.matches.iter().filter_map(|&glob| Some((self.globs[glob]?, glob))).max();
            before.extend(last);
            if self.open[own].replace(self.now).is_none() {
                meaning.matches.iter().for_each(|&glob| self.touched[glob].push(own));
            }
        }
        for (place, by) in before {
            self.after(Some(place), || why(&paths.meanings[by], meaning));
        }
    }

    /// A workstream that runs alone comes after all that have no successor yet; later ones come after it.
    fn barrier(&mut self, bundle: usize) {
        let is_alone = !self.paths.bundles[bundle].bundle.is_parallel_ok();
        if is_alone {
            let ws = self.paths.id(bundle).to_owned();
            let ends: Vec<usize> = (self.since..self.now).filter(|&place| !self.is_followed[place]).collect();
            ends.into_iter().for_each(|place| self.after(Some(place), || Why::Alone(ws.clone())));
        }
        if let Some((alone, of)) = self.alone
            && self.found.keys().all(|&before| before < alone)
        {
            let ws = self.paths.id(of).to_owned();
            self.after(Some(alone), || Why::Alone(ws));
        }
        if is_alone {
            (self.alone, self.since) = (Some((self.now, bundle)), self.now + 1);
        }
    }
}
