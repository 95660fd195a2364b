//! No file of `src/` uses a file that uses it, over any number of steps: draws the arrows from the code.
//!
//! An arrow goes from a file to the file that defines what it names, through re-exports. `mod` and `pub use` lines are none.

use std::collections::{BTreeMap, BTreeSet};

use crate::layers::{expand, sources};

type Module = Vec<String>;

/// A module: the paths that its file uses, and the names that it hands on.
#[derive(Default)]
struct File {
    name: String,
    used: BTreeSet<Vec<String>>,
    handed_on: BTreeMap<String, Vec<String>>,
}

fn path_of(text: &str) -> Vec<String> {
    text.split("::").map(str::to_owned).collect()
}

/// The module of a file, and none for the program itself.
fn module_of(name: &str) -> Option<Module> {
    let path = name.strip_suffix(".rs")?;
    let mut module: Module = path.split('/').map(str::to_owned).collect();
    if module.last().is_some_and(|last| last == "mod" || last == "lib") {
        module.pop();
    }
    (path != "main").then_some(module)
}

/// Splits code into its `use` lines, each with whether it hands on, and the rest.
fn split(code: &str) -> (Vec<(bool, String)>, String) {
    let (mut uses, mut rest) = (Vec::new(), String::new());
    let mut open: Option<(bool, String)> = None;
    for line in code.lines() {
        if let Some((_, text)) = &mut open {
            text.push_str(line);
        } else {
            let plain = line.trim_start();
            let behind = plain.strip_prefix("pub").map(|rest| match rest.strip_prefix('(') {
                Some(scope) => scope.split_once(')').map_or("", |(_, rest)| rest).trim_start(),
                None => rest.trim_start(),
            });
            match behind.unwrap_or(plain).strip_prefix("use ") {
                // Of a module within this file: it means this file.
                Some(text) if line.starts_with(' ') && text.starts_with("super::") => {}
                Some(text) => open = Some((behind.is_some(), text.to_owned())),
                None => {
                    rest.push_str(line);
                    rest.push('\n');
                }
            }
        }
        if open.as_ref().is_some_and(|(_, text)| text.contains(';')) {
            uses.extend(open.take());
        }
    }
    (uses, rest)
}

/// Every path of two names or more in an expression or a type.
fn inline(code: &str) -> BTreeSet<Vec<String>> {
    let mut found = BTreeSet::new();
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    for word in code.split(|c: char| !is_name(c) && c != ':') {
        let path: Vec<String> = word.trim_matches(':').split("::").map(str::to_owned).collect();
        if path.len() > 1 && path.iter().all(|name| !name.is_empty() && name.chars().all(is_name)) {
            found.insert(path);
        }
    }
    found
}

fn file_of(name: String, code: &str) -> File {
    let (uses, rest) = split(code);
    let (mut file, mut known) = (File { name, ..File::default() }, BTreeMap::new());
    for (hands_on, text) in uses {
        let mut paths = BTreeSet::new();
        expand("", &text, &mut paths);
        for path in &paths {
            let mut path = path_of(path);
            if path.last().is_some_and(|last| last == "self") {
                path.pop();
            }
            let Some(last) = path.last().cloned() else { continue };
            if hands_on {
                file.handed_on.insert(last.clone(), path.clone());
            } else {
                file.used.insert(path.clone());
            }
            known.insert(last, path);
        }
    }
    for path in inline(&rest) {
        let full = match known.get(&path[0]) {
            Some(prefix) => prefix.iter().chain(&path[1..]).cloned().collect(),
            None => path,
        };
        file.used.insert(full);
    }
    file
}

struct Graph(BTreeMap<Module, File>);

impl Graph {
    /// A path from the root of the crate; none if it leads to another crate or to an item of its own.
    fn absolute(&self, module: &Module, path: &[String]) -> Option<Vec<String>> {
        let first = path.first()?.as_str();
        let ups = path.iter().take_while(|name| *name == "super").count();
        let base = match first {
            "crate" => Vec::new(),
            "self" => module.clone(),
            "super" => module[..module.len().checked_sub(ups)?].to_vec(),
            child => {
                let below = [module.as_slice(), &[child.to_owned()]].concat();
                return self.0.contains_key(&below).then(|| [module.as_slice(), path].concat());
            }
        };
        Some([base.as_slice(), &path[ups.max(1)..]].concat())
    }

    /// The module that defines what a path names.
    fn defines(&self, module: &Module, path: &[String], steps: usize) -> Option<Module> {
        let path = self.absolute(module, path)?;
        let mut found = Module::new();
        for (at, name) in path.iter().enumerate() {
            let below = [found.as_slice(), std::slice::from_ref(name)].concat();
            if self.0.contains_key(&below) {
                found = below;
                continue;
            }
            let on = self.0.get(&found)?.handed_on.get(name).filter(|_| steps > 0);
            let Some(on) = on else { return Some(found) };
            let whole = [on.as_slice(), &path[at + 1..]].concat();
            return self.defines(&found, &whole, steps - 1).or(Some(found));
        }
        Some(found)
    }

    fn arrows(&self) -> BTreeMap<&Module, BTreeSet<Module>> {
        let of = |(module, file): (_, &File)| -> BTreeSet<Module> {
            let targets = file.used.iter().filter_map(|path| self.defines(module, path, 20));
            targets.filter(|target| target != module).collect()
        };
        self.0.iter().map(|(module, file)| (module, of((module, file)))).collect()
    }

    /// Files on a circle, each with those that it uses on it.
    fn circles(&self) -> BTreeMap<&str, Vec<&str>> {
        let mut arrows = self.arrows();
        loop {
            let before: usize = arrows.values().map(BTreeSet::len).sum();
            let used: BTreeSet<Module> = arrows.values().flatten().cloned().collect();
            let using: BTreeSet<Module> =
                arrows.iter().filter(|(_, to)| !to.is_empty()).map(|(module, _)| (*module).clone()).collect();
            arrows.retain(|module, _| used.contains(*module));
            arrows.values_mut().for_each(|to| to.retain(|target| using.contains(target)));
            if arrows.values().map(BTreeSet::len).sum::<usize>() == before {
                break;
            }
        }
        let name = |module: &Module| self.0[module].name.as_str();
        let left = arrows.into_iter().filter(|(_, to)| !to.is_empty());
        left.map(|(module, to)| (name(module), to.iter().map(name).collect())).collect()
    }
}

fn graph(files: impl IntoIterator<Item = (String, String)>) -> Graph {
    let read = files.into_iter().filter_map(|(name, code)| Some((module_of(&name)?, file_of(name, &code))));
    Graph(read.collect())
}

#[test]
fn no_file_uses_a_file_that_uses_it() {
    let graph = graph(sources().into_iter().map(|source| (source.name, source.code)));
    let arrows: usize = graph.arrows().values().map(BTreeSet::len).sum();
    assert!(arrows > 500, "only {arrows} arrows were found");
    let circles = graph.circles();
    assert!(circles.is_empty(), "{circles:#?}");
}

#[test]
fn a_circle_is_found_through_re_exports_imported_names_and_super() {
    let files = |b: &str| {
        let files = [
            ("lib.rs", "pub mod a;\npub mod room;"),
            ("a.rs", "use crate::room::{Thing,\n    b};\nfn f() { b::g() }"),
            ("room/mod.rs", "pub mod b;\nmod c;\npub use c::Thing;"),
            ("room/b.rs", b),
            ("room/c.rs", "pub struct Thing;"),
        ];
        graph(files.map(|(name, code)| (name.to_owned(), code.to_owned())))
    };
    let free = files("use super::Thing;\nfn g(_: Thing) {}");
    assert_eq!(free.circles(), BTreeMap::new());
    let circle = files("fn g() { super::super::a::f() }");
    assert_eq!(circle.circles(), BTreeMap::from([("a.rs", vec!["room/b.rs"]), ("room/b.rs", vec!["a.rs"])]));
}
