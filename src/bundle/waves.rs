//! Waves: how bundles could run level by level, as the original planned them.
//!
//! Within a level, sorted by id, each bundle goes into the first wave that has room and no conflict with it. Waves are only shown:
//! at run time the order decides. Each wave that refuses a bundle because of a conflict is listed as one.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Serialize;

use super::levels::{self, by_level};
use super::meeting::{List, Paths};

/// Levels and waves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Waves {
    /// The bundles of each level, sorted, by their places in the slice.
    pub(crate) levels: Vec<Vec<usize>>,
    /// The bundles of each wave, sorted.
    pub(crate) waves: Vec<Vec<usize>>,
    /// The bundles with `parallel_ok: false`, each a wave of its own.
    pub(crate) bottlenecks: Vec<usize>,
    /// The conflicts that kept bundles out of waves; the first thousand.
    pub(crate) conflicts: Vec<Conflict>,
}

/// A bundle that keeps another out of a wave.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Conflict {
    /// The bundle in the wave.
    pub(crate) ws_a: String,
    /// The bundle that goes into a later wave.
    pub(crate) ws_b: String,
    /// `conflict_group:GROUP`, or `file_scope:PATH,…`.
    pub(crate) reason: String,
}

/// The most conflicts that are listed: bundles that share one file have millions.
const MOST_TOLD: usize = 1000;

impl Waves {
    /// The waves of the bundles that these are the paths of.
    #[must_use]
    pub(crate) fn of(paths: &Paths<'_>, max_workers: usize) -> Self {
        let levels = by_level(&levels::levels(&levels::dependencies(paths.bundles)));
        let mut found =
            Self { levels: Vec::new(), waves: Vec::new(), bottlenecks: Vec::new(), conflicts: Vec::new() };
        for level in &levels {
            let mut filling = Filling::new(paths, max_workers.max(1));
            level.iter().for_each(|&bundle| filling.add(bundle, &mut found.conflicts));
            found.waves.extend(filling.waves);
        }
        let is_alone =
            |wave: &&Vec<usize>| matches!(wave[..], [one] if !paths.bundles[one].bundle.is_parallel_ok());
        found.bottlenecks = found.waves.iter().filter(is_alone).flatten().copied().collect();
        Self { levels, ..found }
    }

    /// The size of the largest wave.
    #[must_use]
    pub(crate) fn max_parallelism(&self) -> usize {
        self.waves.iter().map(Vec::len).max().unwrap_or(1)
    }

    /// How many times faster it is than one bundle after the other, if each takes the same time.
    #[must_use]
    pub(crate) fn estimated_speedup(&self) -> f64 {
        let count: usize = self.waves.iter().map(Vec::len).sum();
        let as_float = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
        as_float(count) / as_float(self.waves.len().max(1))
    }

    /// The wave of each bundle, from 1.
    #[must_use]
    pub(crate) fn wave_of(&self) -> Vec<usize> {
        let mut found = vec![0; self.waves.iter().map(Vec::len).sum()];
        for (wave, bundles) in self.waves.iter().enumerate() {
            bundles.iter().for_each(|&bundle| found[bundle] = wave + 1);
        }
        found
    }
}

/// A property that two bundles of one wave must not share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Key<'a> {
    Group(&'a str),
    Path(&'a str),
}

/// The waves that have a key.
#[derive(Debug, Default)]
struct Holders {
    /// The first bundle that has it, by wave.
    first: BTreeMap<usize, usize>,
    taken: Taken,
}

/// Numbers that are taken. Each leads to a later number; all between them are taken too.
#[derive(Debug, Default)]
struct Taken(HashMap<usize, usize>);

impl Taken {
    fn take(&mut self, number: usize) {
        self.0.insert(number, number + 1);
    }

    /// The first free number from a number on.
    fn free_from(&mut self, from: usize) -> usize {
        let mut free = from;
        while let Some(next) = self.0.get(&free) {
            free = *next;
        }
        // Shortens the way for the next search.
        let mut at = from;
        while at != free {
            at = self.0.insert(at, free).unwrap_or(free);
        }
        free
    }
}

/// The waves of one level.
struct Filling<'a> {
    paths: &'a Paths<'a>,
    max_workers: usize,
    waves: Vec<Vec<usize>>,
    /// The waves without room.
    full: Taken,
    holders: HashMap<Key<'a>, Holders>,
}

impl<'a> Filling<'a> {
    fn new(paths: &'a Paths<'a>, max_workers: usize) -> Self {
        Self { paths, max_workers, waves: Vec::new(), full: Taken::default(), holders: HashMap::new() }
    }

    fn add(&mut self, bundle: usize, conflicts: &mut Vec<Conflict>) {
        if !self.paths.bundles[bundle].bundle.is_parallel_ok() {
            self.full.take(self.waves.len());
            self.waves.push(vec![bundle]);
            return;
        }
        let keys = self.keys(bundle);
        let wave = self.first_without(&keys);
        if conflicts.len() < MOST_TOLD {
            self.note(bundle, (&keys, wave), conflicts);
            conflicts.truncate(MOST_TOLD);
        }
        if wave == self.waves.len() {
            self.waves.push(Vec::new());
        }
        self.waves[wave].push(bundle);
        if self.waves[wave].len() == self.max_workers {
            self.full.take(wave);
        }
        for key in keys {
            let holders = self.holders.entry(key).or_default();
            holders.first.insert(wave, bundle);
            holders.taken.take(wave);
        }
    }

    /// The properties of a bundle that no other of its wave may have.
    fn keys(&self, bundle: usize) -> BTreeSet<Key<'a>> {
        let paths = self.paths;
        let group = paths.bundles[bundle].bundle.group().map(Key::Group);
        let scope = paths.of_bundle(bundle).iter().filter(|path| path.list == List::Scope);
        scope.map(|path| Key::Path(paths.name(path))).chain(group).collect()
    }

    /// The first wave that has room and none of these keys.
    fn first_without(&mut self, keys: &BTreeSet<Key<'a>>) -> usize {
        let mut wave = 0;
        loop {
            let from = wave;
            wave = self.full.free_from(wave);
            for key in keys {
                wave = self.holders.get_mut(key).map_or(wave, |holders| holders.taken.free_from(wave));
            }
            if wave == from {
                return wave;
            }
        }
    }

    /// Lists why the waves before its own refused a bundle: the group, else the paths.
    fn note(&self, bundle: usize, (keys, wave): (&BTreeSet<Key<'a>>, usize), conflicts: &mut Vec<Conflict>) {
        let mut kept_out: BTreeMap<usize, (usize, Vec<Key<'a>>)> = BTreeMap::new();
        for key in keys {
            let holders = self.holders.get(key).into_iter().flat_map(|holders| holders.first.range(..wave));
            for (&wave, &by) in holders.take(MOST_TOLD) {
                let (first, shared) = kept_out.entry(wave).or_insert((by, Vec::new()));
                match (shared.first(), key) {
                    (Some(Key::Group(_)), _) => {}
                    _ => {
                        *first = by.min(*first);
                        shared.push(*key);
                    }
                }
            }
        }
        conflicts.extend(kept_out.into_values().map(|(by, shared)| Conflict {
            ws_a: self.paths.id(by).to_owned(),
            ws_b: self.paths.id(bundle).to_owned(),
            reason: reason(&shared),
        }));
    }
}

/// The group, or the paths.
fn reason(keys: &[Key<'_>]) -> String {
    let paths: Vec<&str> = keys
        .iter()
        .map(|key| match key {
            Key::Group(name) | Key::Path(name) => *name,
        })
        .collect();
    match keys.first() {
        Some(Key::Group(group)) => format!("conflict_group:{group}"),
        _ => format!("file_scope:{}", paths.join(",")),
    }
}
