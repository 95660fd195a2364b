//! Plans of random bundles against the slow reference, and the properties of every plan.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Value, json};

use super::finding::FindingKind;
use super::meeting::Paths;
use super::order::Order;
use super::overlap::{overlaps, pattern_overlaps};
use super::plan::Plan;
use super::read::{Bundles, ReadBundle, Refused, Source, read};
use super::reference::{self, Mistake};
use crate::job::parse::problem::Kind;

const PATHS: [&str; 34] = [
    "a",
    "a/",
    "b",
    "a/b",
    "a/b/",
    "a/c.py",
    "a/b/c.py",
    "a\\b\\c.py",
    "/a/d.md",
    "c.py",
    "d.md",
    ".",
    "b/c.py",
    "ab",
    "ab/c.py",
    "v.d",
    "v.d/",
    "v.d/a",
    "*.py",
    "a/*.py",
    "a/*.md",
    "a/**/*.py",
    "**/*.py",
    "a/*",
    "a/*/",
    "a/**",
    "a*",
    "a*/c.py",
    "?/c.py",
    "[ab]/c.py",
    "[ab]/*",
    "*/b",
    "v*/a",
    "b/?.py",
];

fn path() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => select(PATHS.to_vec()).prop_map(str::to_owned),
        3 => (0..9_u8).prop_map(|n| format!("own/{n}.py")),
    ]
}

fn paths(least: usize, most: usize) -> impl Strategy<Value = Vec<String>> {
    proptest::collection::vec(path(), least..most)
}

/// Valid bundles whose dependencies are no circle; the order of their ids is not that of their dependencies.
fn bundles() -> impl Strategy<Value = Vec<Value>> {
    let on = prop_oneof![3 => Just(vec![]), 2 => proptest::collection::vec(any::<Index>(), 1..4)];
    let group = prop_oneof![4 => Just(None), 1 => Just(Some("")), 3 => select(vec![Some("g"), Some("h")])];
    let one = (on, paths(1, 4), paths(0, 3), group, prop::bool::weighted(0.08), any::<u16>());
    proptest::collection::vec(one, 1..13).prop_map(|found| {
        let id = |at: usize, salt: u16| format!("ws-{:x}{at}", salt % 16);
        let ids: Vec<String> = found.iter().enumerate().map(|(at, one)| id(at, one.5)).collect();
        let document = |(at, (on, scope, create, group, is_alone, _)): (usize, (Vec<Index>, _, _, _, bool, _))| {
            let on = on.iter().filter(|_| at > 0).map(|index| ids[index.index(at)].clone()).collect::<Vec<_>>();
            let mut document = json!({
                "id": ids[at], "openspec_change": "-", "ccpm_issue": 1, "gate": 1, "files_scope": scope, "tasks": [],
                "tool": "t", "files_create": create, "depends_on": on, "parallel_ok": !is_alone,
            });
            if let Some(group) = group {
                document["conflict_group"] = json!(group);
            }
            document
        };
        found.into_iter().enumerate().map(document).collect()
    })
}

/// A mistake in one of them, or none.
fn with_mistake() -> impl Strategy<Value = Vec<Value>> {
    (bundles(), 0..8_u8, any::<Index>(), any::<Index>()).prop_map(|(mut all, kind, at, other)| {
        let (at, other) = (at.index(all.len()), other.index(all.len()));
        match kind {
            0 => (all[at]["zeta"], all[at]["alpha"]) = (json!(1), json!(2)),
            1 => all.push(all[at].clone()),
            2 => all[at]["depends_on"] = json!(["ws-zz", "ws-yy"]),
            3 => {
                let on = all[other]["id"].clone();
                all[at]["depends_on"] = json!([on]);
                all[other]["depends_on"] = json!([all[at]["id"].clone()]);
            }
            _ => {}
        }
        all
    })
}

fn sources(documents: &[Value]) -> Vec<Source> {
    let source = |(at, document): (usize, &Value)| Source {
        file: format!("{at}.json"),
        bytes: document.to_string().into_bytes(),
    };
    documents.iter().enumerate().map(source).collect()
}

fn loaded(documents: &[Value]) -> Vec<ReadBundle> {
    read(&sources(documents), Vec::new()).unwrap().bundles
}

/// Whether the loader and the reference agree.
fn agrees(
    found: Result<Bundles, Refused>,
    wanted: Result<Vec<reference::Bundle>, Mistake>,
) -> Result<(), String> {
    let ids =
        |bundles: &[ReadBundle]| bundles.iter().map(|read| read.bundle.id.to_string()).collect::<Vec<_>>();
    let said = format!("{found:?}\n{wanted:?}");
    let does = match (found, wanted) {
        (Ok(found), Ok(wanted)) => {
            ids(&found.bundles) == wanted.into_iter().map(|bundle| bundle.id).collect::<Vec<_>>()
        }
        (Err(found), Err(Mistake::UnknownKeys(wanted))) => {
            let unknown = found.errors.iter().filter(|error| error.problem.kind == Kind::UnknownKey);
            unknown.map(|error| error.problem.pointer.trim_start_matches('/')).eq(wanted)
        }
        (Err(found), Err(Mistake::Duplicate(id))) => found.summary.contains(&format!("duplicate id `{id}`")),
        (Err(found), Err(Mistake::Missing(sentence))) => found.summary == sentence,
        (Err(found), Err(Mistake::Circle(ids))) => {
            let told = found.errors.iter().filter(|error| error.kind == FindingKind::Cycle);
            let mut first = told.filter_map(|error| error.id.as_ref()).peekable();
            first.peek().is_some() && first.all(|id| ids.contains(id))
        }
        _ => false,
    };
    if does { Ok(()) } else { Err(said) }
}

/// The transitive closure of edges, by ids: (earlier, later).
fn closure(edges: &BTreeSet<(String, String)>) -> BTreeSet<(String, String)> {
    let mut all = edges.clone();
    loop {
        let before = all.len();
        let more: Vec<(String, String)> = all
            .iter()
            .flat_map(|(one, middle)| {
                edges.iter().filter(move |(from, _)| from == middle).map(|(_, to)| (one.clone(), to.clone()))
            })
            .collect();
        all.extend(more);
        if all.len() == before {
            return all;
        }
    }
}

/// The edges of an order, by ids: (earlier, later).
fn edges(read: &[ReadBundle], order: &Order) -> BTreeSet<(String, String)> {
    let id = |place: usize| read[order.places[place].bundle].bundle.id.to_string();
    let of = |(later, place): (usize, &super::order::Place)| {
        let before = place.depends_on.iter().copied().chain(place.after.iter().map(|after| after.place));
        before.map(|before| (id(before), id(later))).collect::<Vec<_>>()
    };
    order.places.iter().enumerate().flat_map(of).collect()
}

#[derive(Clone, Copy, PartialEq)]
enum Edge {
    Hard,
    Soft,
}

/// The edges of one kind.
fn edges_of(read: &[ReadBundle], order: &Order, kind: Edge) -> BTreeSet<(String, String)> {
    let id = |place: usize| read[order.places[place].bundle].bundle.id.to_string();
    let of = |(later, place): (usize, &super::order::Place)| {
        let before: Vec<usize> = match kind {
            Edge::Hard => place.depends_on.clone(),
            Edge::Soft => place.after.iter().map(|after| after.place).collect(),
        };
        before.into_iter().map(|before| (id(before), id(later))).collect::<Vec<_>>()
    };
    order.places.iter().enumerate().flat_map(of).collect()
}

/// The same by the rules: for each pair that conflicts the later in plan order after the earlier.
fn wanted_edges(bundles: &[reference::Bundle]) -> BTreeSet<(String, String)> {
    let levels = reference::levels(bundles);
    let in_order: Vec<&reference::Bundle> =
        levels.iter().flatten().map(|id| bundles.iter().find(|bundle| bundle.id == *id).unwrap()).collect();
    let mut edges = BTreeSet::new();
    for (at, later) in in_order.iter().enumerate() {
        for earlier in &in_order[..at] {
            if later.depends_on.contains(&earlier.id) || reference::conflict(earlier, later) {
                edges.insert((earlier.id.clone(), later.id.clone()));
            }
        }
    }
    edges
}

fn order(documents: &[Value]) -> (Vec<ReadBundle>, Order) {
    let read = loaded(documents);
    let order = Order::of(&Paths::of(&read));
    (read, order)
}

/// Everything that is planned, as bytes.
fn whole(documents: &[Value]) -> String {
    let read = loaded(documents);
    let paths = Paths::of(&read);
    format!("{:?} {:?} {:?}", Plan::of(&paths, 3), overlaps(&paths), pattern_overlaps(&paths))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_loader_says_what_the_rules_say(documents in with_mistake()) {
        if let Err(said) = agrees(read(&sources(&documents), Vec::new()), reference::load(&documents)) {
            return Err(TestCaseError::fail(said));
        }
    }

    #[test]
    fn overlaps_levels_waves_and_conflicts_are_those_of_the_rules(documents in bundles()) {
        let (found, wanted) = (loaded(&documents), reference::load(&documents).unwrap());
        let paths = Paths::of(&found);
        let id = |bundle: &usize| found[*bundle].bundle.id.to_string();
        let ids = |sets: &[Vec<usize>]| sets.iter().map(|set| set.iter().map(id).collect()).collect::<Vec<Vec<_>>>();
        prop_assert_eq!(overlaps(&paths), reference::overlaps(&wanted));
        for max_workers in [1, 2, 3, 4, 8] {
            let (plan, rules) = (Plan::of(&paths, max_workers).waves, reference::waves(&wanted, max_workers));
            prop_assert_eq!(ids(&plan.levels), reference::levels(&wanted));
            prop_assert_eq!(ids(&plan.waves), rules.waves, "{} workers", max_workers);
            prop_assert_eq!(plan.bottlenecks.iter().map(id).collect::<Vec<_>>(), rules.bottlenecks);
            let conflicts: Vec<_> =
                plan.conflicts.iter().map(|one| (one.ws_a.clone(), one.ws_b.clone(), one.reason.clone())).collect();
            prop_assert_eq!(conflicts.len(), rules.conflicts.len(), "each is listed once");
            prop_assert_eq!(conflicts.into_iter().collect::<BTreeSet<_>>(), rules.conflicts);
        }
    }

    #[test]
    fn the_order_says_what_all_conflicting_pairs_say_and_nothing_else(documents in bundles()) {
        let (read, order) = order(&documents);
        let wanted = reference::load(&documents).unwrap();
        let (found, rules) = (closure(&edges(&read, &order)), closure(&wanted_edges(&wanted)));
        prop_assert_eq!(&found, &rules);
        let [hard, soft] = [Edge::Hard, Edge::Soft].map(|kind| closure(&edges_of(&read, &order, kind)));
        for place in &order.places {
            let bundle = |bundle: usize| &wanted[bundle];
            for after in &place.after {
                let earlier = &order.places[after.place];
                let (one, other) = (bundle(earlier.bundle), bundle(place.bundle));
                prop_assert!(!after.why.is_empty() && reference::conflict(one, other), "{:?}", after);
                let between = wanted.iter().find(|middle| {
                    soft.contains(&(one.id.clone(), middle.id.clone()))
                        && soft.contains(&(middle.id.clone(), other.id.clone()))
                });
                prop_assert!(between.is_none(), "redundant: {:?}", after);
            }
        }
        // One in the middle that never starts must not let the later one start beside the earlier.
        for (at, later) in order.places.iter().enumerate() {
            for earlier in &order.places[..at] {
                let (one, other) = (&wanted[earlier.bundle], &wanted[later.bundle]);
                let pair = (one.id.clone(), other.id.clone());
                let is_ordered = soft.contains(&pair) || hard.contains(&pair);
                prop_assert!(is_ordered || !reference::conflict(one, other), "{:?}", pair);
            }
        }
    }

    #[test]
    fn paths_that_meet_are_told_apart_from_those_that_are_equal(documents in bundles()) {
        let (found, wanted) = (loaded(&documents), reference::load(&documents).unwrap());
        let told: BTreeSet<(String, String)> =
            pattern_overlaps(&Paths::of(&found)).into_iter().map(|pair| (pair.ws_a, pair.ws_b)).collect();
        let of = |id: &String| documents.iter().find(|document| document["id"] == **id).unwrap();
        let listed = |document: &Value, key: &str| document[key].as_array().unwrap().clone();
        let mut rules = BTreeSet::new();
        for (at, one) in wanted.iter().enumerate() {
            for other in &wanted[at + 1..] {
                let (a, b) = (of(&one.id), of(&other.id));
                let pairs = ["files_scope", "files_create"].into_iter().flat_map(|key| {
                    ["files_scope", "files_create"].into_iter().map(move |second| (key, second))
                });
                for (key, second) in pairs {
                    for (path, with) in listed(a, key).iter().flat_map(|path| {
                        listed(b, second).into_iter().map(move |with| (path.clone(), with))
                    }) {
                        let (path, with) = (path.as_str().unwrap(), with.as_str().unwrap());
                        let normal = |path: &str| path.replace('\\', "/").trim_matches('/').to_owned();
                        let is_original = key == second && key == "files_scope" && normal(path) == normal(with);
                        if reference::meet(path, with) && !is_original {
                            rules.insert((one.id.clone(), other.id.clone()));
                        }
                    }
                }
            }
        }
        prop_assert_eq!(told, rules);
    }

    #[test]
    fn edges_point_back_and_what_no_path_of_edges_joins_has_nothing_in_common(documents in bundles()) {
        let (read, order) = order(&documents);
        let bundles = reference::load(&documents).unwrap();
        for (at, place) in order.places.iter().enumerate() {
            let before = place.depends_on.iter().copied().chain(place.after.iter().map(|after| after.place));
            prop_assert!(before.into_iter().all(|before| before < at));
            prop_assert!(place.after.is_sorted_by_key(|after| after.place) && place.depends_on.is_sorted());
        }
        let joined = closure(&edges(&read, &order));
        for (at, one) in bundles.iter().enumerate() {
            for other in &bundles[at + 1..] {
                let pair = |one: &reference::Bundle, other: &reference::Bundle| (one.id.clone(), other.id.clone());
                if !joined.contains(&pair(one, other)) && !joined.contains(&pair(other, one)) {
                    prop_assert!(!reference::conflict(one, other), "{} {}", one.id, other.id);
                    prop_assert!(!one.is_alone && !other.is_alone);
                }
            }
        }
    }

    #[test]
    fn one_more_dependency_loosens_nothing(documents in bundles(), one in any::<Index>(), other in any::<Index>()) {
        let (read, before) = order(&documents);
        let bundles = reference::load(&documents).unwrap();
        let (one, other) = (one.index(bundles.len()), other.index(bundles.len()));
        prop_assume!(one != other && !reference::waits(&bundles, &bundles[other], &bundles[one]));
        let mut more = documents.clone();
        let document = more.iter_mut().find(|document| document["id"] == *bundles[one].id).unwrap();
        document["depends_on"].as_array_mut().unwrap().push(json!(bundles[other].id));
        let (read_after, after) = order(&more);
        let joined = closure(&edges(&read_after, &after));
        prop_assert!(joined.contains(&(bundles[other].id.clone(), bundles[one].id.clone())));
        for (earlier, later) in edges(&read, &before) {
            // The pair may change places, but stays a pair.
            let is_joined = joined.contains(&(earlier.clone(), later.clone()))
                || joined.contains(&(later.clone(), earlier.clone()));
            prop_assert!(is_joined, "{earlier} {later}");
        }
        let level = |read: &[ReadBundle], order: &Order| -> BTreeMap<String, usize> {
            order.places.iter().map(|place| (read[place.bundle].bundle.id.to_string(), place.level)).collect()
        };
        let (old, new) = (level(&read, &before), level(&read_after, &after));
        prop_assert!(old.iter().all(|(id, level)| new[id] >= *level));
    }

    #[test]
    fn equal_bundles_give_equal_bytes_in_whichever_order_they_are_read(
        documents in bundles(), by in any::<Index>(),
    ) {
        let mut turned = documents.clone();
        turned.rotate_left(by.index(documents.len()));
        // The files have other names; nothing of that is planned.
        prop_assert_eq!(whole(&documents), whole(&turned));
    }
}

fn document(id: &str, scope: &[String], on: &[String]) -> Value {
    json!({
        "id": id, "openspec_change": "-", "ccpm_issue": 1, "gate": 1, "files_scope": scope, "tasks": [], "tool": "t",
        "depends_on": on,
    })
}

fn count(order: &Order) -> usize {
    order.places.iter().map(|place| place.after.len()).sum()
}

#[test]
fn three_hundred_bundles_of_one_file_are_a_chain_and_one_warning() {
    let one = |n: usize| document(&format!("ws-{n:03}"), &["shared.py".to_owned(), format!("{n}.py")], &[]);
    let read = loaded(&(0..300).map(one).collect::<Vec<_>>());
    let plan = Plan::of(&Paths::of(&read), 4);
    assert_eq!(count(&plan.order), 299);
    assert!(plan.order.places.iter().skip(1).enumerate().all(|(at, place)| place.after[0].place == at));
    assert_eq!(plan.waves.waves.len(), 300);
    assert_eq!(plan.waves.conflicts.len(), 1000, "there are 44,850");
    assert_eq!(
        plan.warnings,
        [
            "no dependency orders the workstreams that share `shared.py`: ws-000, ws-001, ws-002, ws-003, ws-004 and 295 more \
         run one after the other"
        ]
    );
}

#[test]
fn edges_grow_with_bundles_whatever_meets() {
    type Scope = fn(usize) -> Vec<String>;
    let kinds: [(&str, Scope); 5] = [
        ("globs of one head", |n| vec![format!("src/*.{n}")]),
        ("a glob after files", |n| {
            if n < 500 { vec![format!("src/{n}.py")] } else { vec![format!("src/*{}.py", n % 10)] }
        }),
        ("files after a glob", |n| {
            if n < 500 { vec![format!("src/*{}.py", n % 10)] } else { vec![format!("src/{n}.py")] }
        }),
        ("directories and files", |n| {
            if n % 3 == 0 { vec!["src".to_owned()] } else { vec![format!("src/{n}.py")] }
        }),
        ("each glob and a file of each", |n| vec![format!("src/{n}.py"), "src/?0*".to_owned()]),
    ];
    for (name, scope) in kinds {
        let documents: Vec<Value> =
            (0..1000).map(|n| document(&format!("ws-{n:04}"), &scope(n), &[])).collect();
        let (_, order) = order(&documents);
        assert!(count(&order) <= 3000, "{name}: {}", count(&order));
    }
}

#[test]
fn bundles_that_run_alone_are_barriers() {
    let one = |n: usize| {
        let mut one = document(&format!("ws-{n:03}"), &[format!("{n}.py")], &[]);
        one["parallel_ok"] = json!(n % 100 != 50);
        one
    };
    let (_, order) = order(&(0..300).map(one).collect::<Vec<_>>());
    let (into, out_of) = (50 + 99 + 99, 99 + 99 + 49);
    assert_eq!(count(&order), into + out_of);
}

#[test]
fn what_dependencies_order_is_neither_told_nor_an_edge() {
    let shared = ["a.py".to_owned()];
    let on = |id: &str| vec![id.to_owned()];
    let chain = [
        document("ws-a", &shared, &[]),
        document("ws-b", &["b".to_owned()], &on("ws-a")),
        document("ws-c", &shared, &on("ws-b")),
    ];
    let read = loaded(&chain);
    let plan = Plan::of(&Paths::of(&read), 4);
    assert_eq!((count(&plan.order), plan.warnings.len(), plan.waves.conflicts.len()), (0, 0, 0));
    let fork = [
        document("ws-a", &shared, &[]),
        document("ws-b", &shared, &[]),
        document("ws-c", &shared, &on("ws-b")),
    ];
    let read = loaded(&fork);
    let plan = Plan::of(&Paths::of(&read), 4);
    assert_eq!(
        (count(&plan.order), plan.warnings.len()),
        (2, 1),
        "ws-a, ws-b, ws-c is a chain of soft edges"
    );
}
