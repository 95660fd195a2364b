//! The paths of bundles, and which of them may mean one file, without a look at each pair.
//!
//! Two paths meet where one leads to the other (a directory, also that of a glob), where the literal head of a glob begins that
//! of another, or where a glob matches the other. The first two are beginnings of texts, and each has a `Forest`. Not
//! responsible for what follows from it: `overlap.rs` tells it, `order.rs` makes an order of it.

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
    /// All paths, each with a slash at its end: what is above a path leads to it.
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

/// What a path means, however it is written.
#[derive(Debug)]
pub(super) struct Meaning {
    /// The path as it is shown.
    pub(super) shown: String,
    /// Its node in `leads`: two paths are equal where these are.
    pub(super) node: usize,
    /// The node of its head in `heads`, for a glob.
    pub(super) head: Option<usize>,
    /// Of a glob the paths that it matches, of a path the globs that match it.
    pub(super) matches: Vec<usize>,
    pattern: PathPattern,
    /// What the first parts of a glob mean, as far as they have wildcards.
    beginnings: Vec<PathPattern>,
    /// A name without a dot may be that of a directory: then what a glob means below it counts.
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
    /// What was read already, by the text as it was given.
    known: HashMap<&'a str, usize>,
    /// The same by what it means.
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

/// What stands before the first wildcard.
fn literal_head(glob: &str) -> &str {
    glob.find(WILDCARDS).and_then(|at| glob.get(..at)).unwrap_or(glob)
}

/// What stands behind the last wildcard, or less.
fn literal_tail(glob: &str) -> &str {
    glob.rfind(['*', '?', '[', ']']).and_then(|at| glob.get(at + 1..)).unwrap_or_default()
}
