//! The plan of bundles: waves, order, and warnings of shared files.

use std::collections::{BTreeMap, BTreeSet};

use super::meeting::Paths;
use super::order::Order;
use super::waves::Waves;

/// A plan of bundles.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Levels and waves, which are only shown.
    pub(crate) waves: Waves,
    /// The order, which decides at run time.
    pub(crate) order: Order,
    /// The equal paths of bundles that no dependency orders. Other overlaps appear as reasons of the order.
    pub(crate) warnings: Vec<String>,
}

/// The most bundles of a path that are named.
const MOST_NAMED: usize = 5;

impl Plan {
    /// The plan of the bundles that these are the paths of.
    #[must_use]
    pub(crate) fn of(paths: &Paths<'_>, max_workers: usize) -> Self {
        let (waves, order) = (Waves::of(paths, max_workers), Order::of(paths));
        let warnings = warnings(paths, &order);
        Self { waves, order, warnings }
    }
}

/// The paths that several bundles have, of which at least two are not ordered by dependencies.
fn warnings(paths: &Paths<'_>, order: &Order) -> Vec<String> {
    let mut users: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (place, found) in order.places.iter().enumerate() {
        let distinct: BTreeSet<&str> =
            paths.of_bundle(found.bundle).iter().map(|path| paths.name(path)).collect();
        distinct.into_iter().for_each(|path| users.entry(path).or_default().push(place));
    }
    // They are ordered if each reaches the one before it.
    let pairs = |places: &[usize]| places.windows(2).map(|pair| (pair[0], pair[1])).collect::<BTreeSet<_>>();
    let all = users.values().flat_map(|places| pairs(places)).collect();
    let joined = order.joined(&all);
    users.retain(|_, places| !pairs(places).is_subset(&joined));
    users.iter().map(|(path, places)| warning(paths, order, (path, places))).collect()
}

fn warning(paths: &Paths<'_>, order: &Order, (path, places): (&str, &[usize])) -> String {
    let id = |&place: &usize| paths.id(order.places[place].bundle);
    let (named, more) = places.split_at(places.len().min(MOST_NAMED));
    let mut ids = named.iter().map(id).collect::<Vec<_>>().join(", ");
    if !more.is_empty() {
        ids += &format!(" and {} more", more.len());
    }
    format!("no dependency orders the workstreams that share `{path}`: {ids} run one after the other")
}
