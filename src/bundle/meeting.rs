//! The paths of bundles, and an index of the pairs that may mean the same file, built without comparing every pair.
//!
//! Two paths meet if one is a directory above the other (or above a glob), if the literal head of one glob is a prefix of that of
//! another glob, or if a glob matches a path. The first two relations are prefixes, and each has a `Forest`. Not responsible for
//! the consequences: `overlap.rs` reports them, `order.rs` derives an order.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

use super::forest::Forest;
use super::paths;
use super::read::ReadBundle;
use crate::job::scope::PathPattern;

/// The paths of bundles.
#[derive(Debug)]
pub(crate) struct Paths<'a> {
    pub(super) bundles: &'a [ReadBundle],
    /// Every path as it is used, in the order of the bundles.
    pub(super) uses: Vec<Use>,
    /// The distinct paths.
    pub(super) meanings: Vec<Meaning>,
    /// All paths, each with a trailing slash: the ancestors of a path are the directories above it.
    pub(super) leads: Forest,
    /// The literal heads of the globs.
    pub(super) heads: Forest,
    of_bundle: Vec<Range<usize>>,
    /// The paths at each node of `leads`: those that are equal.
    pub(super) at_node: Vec<Vec<usize>>,
    /// The globs at each node of `heads`.
    at_head: Vec<Vec<usize>>,
}

/// A path of a bundle.
#[derive(Debug, Clone, Copy)]
pub(super) struct Use {
    pub(super) bundle: usize,
    pub(super) list: List,
    /// Its place in the list.
    pub(super) at: usize,
    pub(super) meaning: usize,
}

/// The list that a path is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum List {
    Scope,
    Create,
}

impl List {
    pub(super) fn key(self) -> &'static str {
        match self {
            Self::Scope => "files_scope",
            Self::Create => "files_create",
        }
    }
}

/// A distinct path, in whatever spelling.
#[derive(Debug)]
pub(super) struct Meaning {
    /// The path as it is shown.
    pub(super) shown: String,
    /// Its node in `leads`; equal paths share it.
    pub(super) node: usize,
    /// The node of its head in `heads`, for a glob.
    pub(super) head: Option<usize>,
    /// For a glob the paths that it matches, for a path the globs that match it.
    pub(super) matches: Vec<usize>,
    pattern: PathPattern,
    /// The leading parts of a glob that contain wildcards.
    beginnings: Vec<PathPattern>,
    /// A name without a dot may be a directory: then files below it count that a glob matches.
    may_be_directory: bool,
}

impl<'a> Paths<'a> {
    /// Reads the paths of bundles.
    #[must_use]
    pub(crate) fn of(bundles: &'a [ReadBundle]) -> Self {
        let mut reader = Reader::default();
        let mut of_bundle = Vec::with_capacity(bundles.len());
        for (bundle, read) in bundles.iter().enumerate() {
            let from = reader.uses.len();
            reader.list(bundle, List::Scope, &read.bundle.files_scope);
            reader.list(bundle, List::Create, &read.bundle.files_create);
            of_bundle.push(from..reader.uses.len());
        }
        let Reader { uses, mut meanings, .. } = reader;
        let leads = Forest::of(meanings.iter().map(Meaning::lead).collect());
        let heads = meanings.iter().filter(|meaning| meaning.is_glob());
        let heads = Forest::of(heads.map(|meaning| literal_head(meaning.path()).to_owned()).collect());
        let (mut at_node, mut at_head) = (vec![Vec::new(); leads.len()], vec![Vec::new(); heads.len()]);
        for (at, meaning) in meanings.iter_mut().enumerate() {
            meaning.node = leads.node(&meaning.lead()).unwrap_or_default();
            meaning.head = heads.node(literal_head(meaning.path())).filter(|_| meaning.is_glob());
            at_node[meaning.node].push(at);
            meaning.head.iter().for_each(|&head| at_head[head].push(at));
        }
        matches(&mut meanings);
        Self { bundles, uses, meanings, leads, heads, of_bundle, at_node, at_head }
    }

    /// The paths of a bundle.
    pub(super) fn of_bundle(&self, bundle: usize) -> &[Use] {
        &self.uses[self.of_bundle[bundle].clone()]
    }

    /// A path of a bundle; two that are equal have one name.
    pub(super) fn name(&self, path: &Use) -> &str {
        self.meanings[path.meaning].name()
    }

    /// The id of a bundle.
    pub(super) fn id(&self, bundle: usize) -> &str {
        self.bundles[bundle].bundle.id.as_str()
    }

    /// The paths that meet a path without being equal to it.
    pub(super) fn met_by(&self, meaning: &Meaning) -> BTreeSet<usize> {
        let leads = self.leads.above(meaning.node).chain(self.leads.below(meaning.node));
        let mut met: BTreeSet<usize> = leads.flat_map(|node| &self.at_node[node]).copied().collect();
        if let Some(head) = meaning.head {
            let heads = self.heads.above(head).chain(self.heads.below(head)).chain([head]);
            met.extend(heads.flat_map(|head| &self.at_head[head]));
        }
        met.extend(&meaning.matches);
        met.retain(|&other| self.meanings[other].node != meaning.node);
        met
    }
}

#[derive(Default)]
struct Reader<'a> {
    uses: Vec<Use>,
    meanings: Vec<Meaning>,
    /// Paths that were read already, by their text.
    known: HashMap<&'a str, usize>,
    /// The same by their normal form.
    distinct: HashMap<(String, bool), usize>,
}

impl<'a> Reader<'a> {
    fn list(&mut self, bundle: usize, list: List, given: &'a [String]) {
        for (at, path) in given.iter().enumerate() {
            if let Some(meaning) = self.meaning(path) {
                self.uses.push(Use { bundle, list, at, meaning });
            }
        }
    }

    fn meaning(&mut self, given: &'a str) -> Option<usize> {
        if let Some(known) = self.known.get(given) {
            return Some(*known);
        }
        let meaning = Meaning::of(paths::read(given).ok()?);
        let key = (meaning.shown.clone(), meaning.may_be_directory);
        let at = *self.distinct.entry(key).or_insert(self.meanings.len());
        if at == self.meanings.len() {
            self.meanings.push(meaning);
        }
        self.known.insert(given, at);
        Some(at)
    }
}

impl Meaning {
    fn of(pattern: PathPattern) -> Self {
        let slashes = pattern.path().match_indices('/').filter(|_| pattern.has_wildcard());
        let parts = slashes.filter_map(|(at, _)| paths::read(pattern.path().get(..at)?).ok());
        let beginnings = parts.filter(PathPattern::has_wildcard).collect();
        let name = pattern.path().rsplit('/').next().unwrap_or_default();
        let is_plain = !pattern.has_wildcard();
        let may_be_directory = is_plain && (pattern.given().ends_with('/') || !name.contains('.'));
        let shown = paths::shown(&pattern);
        Self { shown, node: 0, head: None, matches: Vec::new(), pattern, beginnings, may_be_directory }
    }

    fn path(&self) -> &str {
        self.pattern.path()
    }

    /// The path in its normal form; `.` is all of the repository.
    pub(super) fn name(&self) -> &str {
        if self.path().is_empty() { "." } else { self.path() }
    }

    pub(super) fn is_glob(&self) -> bool {
        self.pattern.has_wildcard()
    }

    /// The text of `leads`.
    fn lead(&self) -> String {
        if self.path().is_empty() { String::new() } else { format!("{}/", self.path()) }
    }

    /// Whether a glob may mean a path, or something below it.
    fn matches(&self, tail: &str, plain: &Self) -> bool {
        let path = plain.path();
        // Far cheaper than a match, and decides nearly all.
        let can_hold = path.ends_with(tail) || self.pattern.given().ends_with('/');
        can_hold && self.pattern.holds(path)
            || plain.may_be_directory && self.beginnings.iter().any(|beginning| beginning.holds(path))
    }
}

/// Notes which globs match which paths: only paths that begin with the head of a glob are looked at.
fn matches(meanings: &mut [Meaning]) {
    let mut plain: Vec<usize> = (0..meanings.len()).filter(|&at| !meanings[at].is_glob()).collect();
    plain.sort_unstable_by(|&one, &other| meanings[one].path().cmp(meanings[other].path()));
    let mut found = Vec::new();
    for (at, glob) in meanings.iter().enumerate().filter(|(_, meaning)| meaning.is_glob()) {
        let (head, tail) = (literal_head(glob.path()), literal_tail(glob.path()));
        let from = plain.partition_point(|&plain| meanings[plain].path() < head);
        let candidates = plain[from..].iter().take_while(|&&plain| meanings[plain].path().starts_with(head));
        found.extend(
            candidates.filter(|&&plain| glob.matches(tail, &meanings[plain])).map(|&plain| (at, plain)),
        );
    }
    for (glob, plain) in found {
        meanings[glob].matches.push(plain);
        meanings[plain].matches.push(glob);
    }
}

const WILDCARDS: [char; 3] = ['*', '?', '['];

/// The text before the first wildcard.
fn literal_head(glob: &str) -> &str {
    glob.find(WILDCARDS).and_then(|at| glob.get(..at)).unwrap_or(glob)
}

/// The text after the last wildcard, or a part of it.
fn literal_tail(glob: &str) -> &str {
    glob.rfind(['*', '?', '[', ']']).and_then(|at| glob.get(at + 1..)).unwrap_or_default()
}
