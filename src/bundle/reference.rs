//! A slow reference of the rules of bundles and plans, written from their text, for `plan_tests.rs`.
//!
//! Shares no code with the loader and the planner: reads JSON documents, compares every pair.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// A bundle, as far as plans need it.
#[derive(Debug, Clone)]
pub(super) struct Bundle {
    pub(super) id: String,
    pub(super) depends_on: Vec<String>,
    scope: Vec<String>,
    create: Vec<String>,
    group: String,
    pub(super) is_alone: bool,
}

/// The first kind of mistake that the loader of the original finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mistake {
    UnknownKeys(Vec<String>),
    Duplicate(String),
    Missing(String),
    /// One of the bundles waits for itself.
    Circle(BTreeSet<String>),
}

const KEYS: [&str; 11] = [
    "id",
    "openspec_change",
    "ccpm_issue",
    "gate",
    "files_scope",
    "tasks",
    "tool",
    "files_create",
    "depends_on",
    "parallel_ok",
    "conflict_group",
];

fn texts(document: &Value, key: &str) -> Vec<String> {
    let items = document[key].as_array().into_iter().flatten();
    items.map(|item| item.as_str().unwrap().to_owned()).collect()
}

/// Loads bundles as the original does: sorted by id, or the first mistake.
pub(super) fn load(documents: &[Value]) -> Result<Vec<Bundle>, Mistake> {
    let mut bundles = Vec::new();
    for document in documents {
        let unknown = document.as_object().unwrap().keys().filter(|key| !KEYS.contains(&key.as_str()));
        let unknown: BTreeSet<String> = unknown.cloned().collect();
        if !unknown.is_empty() {
            return Err(Mistake::UnknownKeys(unknown.into_iter().collect()));
        }
        bundles.push(Bundle {
            id: document["id"].as_str().unwrap().to_owned(),
            depends_on: texts(document, "depends_on"),
            scope: texts(document, "files_scope"),
            create: texts(document, "files_create"),
            group: document["conflict_group"].as_str().unwrap_or_default().to_owned(),
            is_alone: document["parallel_ok"] == Value::Bool(false),
        });
    }
    for (at, bundle) in bundles.iter().enumerate() {
        if bundles[..at].iter().any(|earlier| earlier.id == bundle.id) {
            return Err(Mistake::Duplicate(bundle.id.clone()));
        }
    }
    bundles.sort_by(|one, other| one.id.cmp(&other.id));
    let mut missing = Vec::new();
    for bundle in &bundles {
        let unknown = bundle.depends_on.iter().filter(|id| bundles.iter().all(|other| other.id != **id));
        let unknown: Vec<&str> = unknown.map(String::as_str).collect();
        if !unknown.is_empty() {
            missing.push(format!("{} -> {}", bundle.id, unknown.join(", ")));
        }
    }
    if !missing.is_empty() {
        return Err(Mistake::Missing(format!("Missing dependency references: {}", missing.join("; "))));
    }
    let circle: BTreeSet<String> =
        bundles.iter().filter(|one| waits(&bundles, one, one)).map(|bundle| bundle.id.clone()).collect();
    if circle.is_empty() { Ok(bundles) } else { Err(Mistake::Circle(circle)) }
}

/// Whether a bundle depends on another, over any number of steps.
pub(super) fn waits(bundles: &[Bundle], one: &Bundle, on: &Bundle) -> bool {
    let mut reached: BTreeSet<&str> = BTreeSet::new();
    loop {
        let before = reached.len();
        let from =
            bundles.iter().filter(|bundle| bundle.id == one.id || reached.contains(bundle.id.as_str()));
        let next: Vec<&str> = from.flat_map(|bundle| &bundle.depends_on).map(String::as_str).collect();
        reached.extend(next);
        if reached.len() == before {
            return reached.contains(on.id.as_str());
        }
    }
}

/// Backslash to slash, no slash at the ends.
fn normal(path: &str) -> String {
    path.replace('\\', "/").trim_matches('/').to_owned()
}

/// Paths that are in several scopes, with the ids.
pub(super) fn overlaps(bundles: &[Bundle]) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for bundle in bundles {
        for path in &bundle.scope {
            found.entry(normal(path)).or_default().insert(bundle.id.clone());
        }
    }
    found.retain(|_, ids| ids.len() > 1);
    found.into_iter().map(|(path, ids)| (path, ids.into_iter().collect())).collect()
}

/// The ids of each level.
pub(super) fn levels(bundles: &[Bundle]) -> Vec<Vec<String>> {
    let mut done: BTreeSet<String> = BTreeSet::new();
    let mut levels = Vec::new();
    while done.len() < bundles.len() {
        let is_ready = |bundle: &&Bundle| {
            !done.contains(&bundle.id) && bundle.depends_on.iter().all(|id| done.contains(id))
        };
        let ready: Vec<String> = bundles.iter().filter(is_ready).map(|bundle| bundle.id.clone()).collect();
        done.extend(ready.clone());
        levels.push(ready);
    }
    levels
}

/// Waves and conflicts: (bundle in the wave, bundle kept out, reason).
#[derive(Debug, Default, PartialEq)]
pub(super) struct Waves {
    pub(super) waves: Vec<Vec<String>>,
    pub(super) conflicts: BTreeSet<(String, String, String)>,
    pub(super) bottlenecks: Vec<String>,
}

pub(super) fn waves(bundles: &[Bundle], max_workers: usize) -> Waves {
    let mut found = Waves::default();
    for level in levels(bundles) {
        let mut rest: Vec<&Bundle> = bundles.iter().filter(|bundle| level.contains(&bundle.id)).collect();
        while !rest.is_empty() {
            let wave = wave(&rest, max_workers, &mut found.conflicts);
            rest.retain(|bundle| !wave.iter().any(|in_it| in_it.id == bundle.id));
            if wave.iter().any(|bundle| bundle.is_alone) {
                found.bottlenecks.push(wave[0].id.clone());
            }
            found.waves.push(wave.iter().map(|bundle| bundle.id.clone()).collect());
        }
    }
    found
}

/// The next wave of the rest of a level.
fn wave<'a>(
    rest: &[&'a Bundle],
    max_workers: usize,
    conflicts: &mut BTreeSet<(String, String, String)>,
) -> Vec<&'a Bundle> {
    let scope = |bundle: &Bundle| bundle.scope.iter().map(|path| normal(path)).collect::<BTreeSet<String>>();
    let mut wave: Vec<&Bundle> = Vec::new();
    for bundle in rest {
        if bundle.is_alone {
            if wave.is_empty() {
                return vec![bundle];
            }
            continue;
        }
        let same_group = |other: &&&Bundle| !bundle.group.is_empty() && other.group == bundle.group;
        if let Some(other) = wave.iter().find(same_group) {
            conflicts.insert((
                other.id.clone(),
                bundle.id.clone(),
                format!("conflict_group:{}", bundle.group),
            ));
            continue;
        }
        let used: BTreeSet<String> = wave.iter().flat_map(|other| scope(other)).collect();
        let shared: Vec<String> = scope(bundle).intersection(&used).cloned().collect();
        if let Some(other) = wave.iter().find(|other| !scope(other).is_disjoint(&scope(bundle))) {
            conflicts.insert((
                other.id.clone(),
                bundle.id.clone(),
                format!("file_scope:{}", shared.join(",")),
            ));
            continue;
        }
        if wave.len() < max_workers {
            wave.push(bundle);
        }
    }
    wave
}

/// Whether two bundles must not work beside each other.
pub(super) fn conflict(one: &Bundle, other: &Bundle) -> bool {
    let share = || {
        let paths = |bundle: &Bundle| [bundle.scope.clone(), bundle.create.clone()].concat();
        paths(one).iter().any(|path| paths(other).iter().any(|second| meet(path, second)))
    };
    one.is_alone || other.is_alone || !one.group.is_empty() && one.group == other.group || share()
}

fn is_glob(path: &str) -> bool {
    path.contains(['*', '?', '['])
}

/// Whether two paths may mean one file.
pub(super) fn meet(one: &str, other: &str) -> bool {
    let parts = |path: &str| -> Vec<String> {
        normal(path).split('/').filter(|part| !part.is_empty() && *part != ".").map(str::to_owned).collect()
    };
    let (a, b) = (parts(one), parts(other));
    if a.starts_with(&b) || b.starts_with(&a) {
        // Equal, or one is a directory above the other. A glob is no directory.
        let upper = if a.len() < b.len() { &a } else { &b };
        if a == b || !upper.iter().any(|part| is_glob(part)) {
            return true;
        }
    }
    match (is_glob(one), is_glob(other)) {
        (false, false) => false,
        (true, true) => {
            let head = |parts: &[String]| {
                parts.join("/").chars().take_while(|c| !is_glob(&c.to_string())).collect::<String>()
            };
            head(&a).starts_with(&head(&b)) || head(&b).starts_with(&head(&a))
        }
        (true, false) => reaches(&a, one, &b, other),
        (false, true) => reaches(&b, other, &a, one),
    }
}

/// Whether a glob means a path, something below it if that may be a directory, or, by its slash, something above it.
fn reaches(glob: &[String], given: &str, path: &[String], path_given: &str) -> bool {
    let is_whole = given.replace('\\', "/").ends_with('/');
    let upper = (1..path.len()).any(|count| is_whole && matches(glob, &path[..count]));
    let may_be_directory =
        path_given.replace('\\', "/").ends_with('/') || path.last().is_some_and(|name| !name.contains('.'));
    let lower = (1..glob.len()).any(|count| may_be_directory && matches(&glob[..count], path));
    matches(glob, path) || upper || lower
}

fn matches(glob: &[String], path: &[String]) -> bool {
    match glob.split_first() {
        None => path.is_empty(),
        Some((first, [])) if first == "**" => !path.is_empty(),
        Some((first, rest)) if first == "**" => (0..=path.len()).any(|count| matches(rest, &path[count..])),
        Some((first, rest)) => path.split_first().is_some_and(|(name, below)| {
            let (pattern, name): (Vec<char>, Vec<char>) = (first.chars().collect(), name.chars().collect());
            matches_name(&pattern, &name) && matches(rest, below)
        }),
    }
}

fn matches_name(pattern: &[char], name: &[char]) -> bool {
    match pattern {
        [] => name.is_empty(),
        ['*', rest @ ..] => (0..=name.len()).any(|count| matches_name(rest, &name[count..])),
        ['[', rest @ ..] => {
            let end = rest.iter().position(|c| *c == ']').unwrap();
            name.split_first().is_some_and(|(first, below)| {
                rest[..end].contains(first) && matches_name(&rest[end + 1..], below)
            })
        }
        [one, rest @ ..] => name
            .split_first()
            .is_some_and(|(first, below)| (*one == '?' || one == first) && matches_name(rest, below)),
    }
}
