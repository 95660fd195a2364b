//! Files to bundles, or to all that is wrong with them.
//!
//! The order is that of the original: each bundle by itself (unknown keys, schema), ids that are there twice, missing
//! dependencies, circles. The original ends with the first of these; here all are told at once, each at its place.

use std::collections::BTreeMap;

use serde_json::Value;

use super::check;
use super::finding::{Finding, FindingKind};
use super::graph::{self, Circle, Edge, Node};
use super::spec::Bundle;
use super::text::{self, Text};
use crate::job::Problem;
use crate::job::digest::sha256;
use crate::job::parse::document;
use crate::job::parse::locate::Locations;
use crate::policy::dag;

/// A file of bundles: one object, or an array of them.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// The file as messages name it.
    pub(crate) file: String,
    /// Its content.
    pub(crate) bytes: Vec<u8>,
}

/// A valid bundle, and where it is from.
#[derive(Debug, Clone)]
pub(crate) struct ReadBundle {
    /// The bundle.
    pub(crate) bundle: Bundle,
    /// The file as it was named.
    pub(crate) file: String,
    /// SHA-256 of the file, hexadecimal.
    pub(crate) sha256: String,
    /// The places of its values.
    pub(super) places: Locations,
}

impl ReadBundle {
    /// One that is of no file.
    #[must_use]
    pub(crate) fn of_command_line(bundle: Bundle) -> Self {
        let text = serde_json::to_string(&bundle).unwrap_or_default();
        let sha256 = sha256(text.as_bytes());
        Self { bundle, file: "the command line".to_owned(), sha256, places: Locations::default() }
    }
}

/// Valid bundles.
#[derive(Debug)]
pub(crate) struct Bundles {
    /// At least one, sorted by id.
    pub(crate) bundles: Vec<ReadBundle>,
    /// What is to be said of them.
    pub(crate) warnings: Vec<Finding>,
}

/// Bundles of which at least one is not valid.
#[derive(Debug)]
pub(crate) struct Refused {
    /// Everything that is wrong.
    pub(crate) errors: Vec<Finding>,
    /// What else is to be said.
    pub(crate) warnings: Vec<Finding>,
    /// How many bundles there are, valid or not.
    pub(crate) documents: usize,
    /// Those that are valid by themselves, sorted by id.
    pub(crate) valid: Vec<ReadBundle>,
    /// What is wrong, in one sentence; for dependencies and circles that of the original.
    pub(crate) summary: String,
}

/// Reads files of bundles. `unread` is what was wrong with other files.
///
/// # Errors
/// `Refused` with all that is wrong, also if there is no bundle.
pub(crate) fn read(sources: &[Source], unread: Vec<Finding>) -> Result<Bundles, Refused> {
    let mut reader = Reader { complete: unread.is_empty(), errors: unread, ..Reader::default() };
    for source in sources {
        reader.file(source);
    }
    if reader.documents.is_empty() && reader.errors.is_empty() {
        let first = sources.first().map_or("-", |source| &source.file);
        reader.errors.push(Finding::of_files(first, Problem::at(1, 1, "there is no bundle")));
    }
    reader.together()
}

/// A bundle that may be invalid.
struct Document {
    file: String,
    sha256: String,
    id: Option<String>,
    depends_on: Vec<String>,
    bundle: Option<Bundle>,
    places: Locations,
}

#[derive(Default)]
struct Reader {
    documents: Vec<Document>,
    errors: Vec<Finding>,
    warnings: Vec<Finding>,
    /// False if a bundle may be in a file that could not be read.
    complete: bool,
}

impl Reader {
    fn file(&mut self, source: &Source) {
        let finding =
            |problem| Finding { kind: FindingKind::Schema, ..Finding::of_files(&*source.file, problem) };
        match parse(&source.bytes) {
            Ok((text, value)) => {
                self.warnings.extend(text.warnings.into_iter().map(finding));
                self.documents(source, &value, &Locations::scan(&text.json));
            }
            Err(problems) => {
                self.complete = false;
                self.errors.extend(problems.into_iter().map(finding));
            }
        }
    }

    fn documents(&mut self, source: &Source, value: &Value, places: &Locations) {
        let digest = sha256(&source.bytes);
        match value {
            Value::Array(items) => {
                for (at, item) in items.iter().enumerate() {
                    self.document((&source.file, &digest), item, places.below(&format!("/{at}")));
                }
            }
            one => self.document((&source.file, &digest), one, places.clone()),
        }
    }

    fn document(&mut self, (file, sha256): (&str, &str), value: &Value, places: Locations) {
        let id = value.get("id").and_then(Value::as_str).map(str::to_owned);
        self.complete &= id.is_some();
        let finding =
            |problem| Finding { kind: FindingKind::Schema, file: file.to_owned(), id: id.clone(), problem };
        let bundle = match check::check(value, &places) {
            Ok(bundle) => {
                self.warnings.extend(check::warnings(&bundle, value, &places).into_iter().map(finding));
                Some(bundle)
            }
            Err(problems) => {
                self.errors.extend(problems.into_iter().map(finding));
                None
            }
        };
        let depends_on = value.get("depends_on").and_then(Value::as_array).into_iter().flatten();
        // An item that is no string is a problem of its own, and keeps the places of the others.
        let depends_on =
            depends_on.map(|id| id.as_str().map_or_else(|| id.to_string(), str::to_owned)).collect();
        self.documents.push(Document {
            file: file.to_owned(),
            sha256: sha256.to_owned(),
            id,
            depends_on,
            bundle,
            places,
        });
    }

    /// Compares the bundles with each other, once all are read.
    fn together(mut self) -> Result<Bundles, Refused> {
        let (related, sentence) = related(&self.documents, self.complete);
        let summary = if self.errors.is_empty() { sentence } else { summary_of(&self.errors) };
        self.errors.extend(related);
        let Self { documents, errors, warnings, .. } = self;
        let count = documents.len();
        let read = |document: Document| {
            let Document { file, sha256, places, bundle, .. } = document;
            Some(ReadBundle { bundle: bundle?, file, sha256, places })
        };
        let mut bundles: Vec<ReadBundle> = documents.into_iter().filter_map(read).collect();
        bundles.sort_by(|one, other| one.bundle.id.cmp(&other.bundle.id));
        match errors.is_empty() {
            true => Ok(Bundles { bundles, warnings }),
            false => Err(Refused { errors, warnings, documents: count, valid: bundles, summary }),
        }
    }
}

/// The document of a file.
fn parse(bytes: &[u8]) -> Result<(Text, Value), Vec<Problem>> {
    let text = text::read(bytes).map_err(|problem| vec![problem])?;
    let named = |problem| text::template(&text.json, &problem).unwrap_or(problem);
    let value =
        document(&text.json).map_err(|problems| problems.into_iter().map(named).collect::<Vec<_>>())?;
    Ok((text, value))
}

/// What is wrong between bundles, and the first of it in a sentence.
fn related(documents: &[Document], complete: bool) -> (Vec<Finding>, String) {
    let named: Vec<&Document> = documents.iter().filter(|document| document.id.is_some()).collect();
    let node = |document: &&Document| Node {
        id: document.id.clone().unwrap_or_default(),
        depends_on: document.depends_on.clone(),
    };
    let nodes: Vec<Node> = named.iter().map(node).collect();
    let mut found = duplicates(&named, &nodes);
    let missing = if complete { graph::missing(&nodes) } else { Vec::new() };
    let circles = graph::circles(&nodes);
    let duplicate = (!found.is_empty()).then(|| summary_of(&found));
    let sentence = duplicate.or_else(|| missing_text(&nodes, &missing)).or_else(|| circles_text(&circles));
    found.extend(missing.iter().filter_map(|edge| missing_finding(&named, edge)));
    found.extend(circles.iter().filter_map(|circle| circle_finding(&named, circle)));
    (found, sentence.unwrap_or_default())
}

/// The first of some findings, and how many there are beside it.
fn summary_of(findings: &[Finding]) -> String {
    let first = findings.first().map_or_else(String::new, Finding::line);
    match findings.len() {
        0 | 1 => first,
        more => format!("{first} (and {} more)", more - 1),
    }
}

fn at_value(document: &Document, kind: FindingKind, pointer: &str, message: String) -> Finding {
    let problem = Problem::of_value(&document.places, pointer, message);
    Finding { kind, file: document.file.clone(), id: document.id.clone(), problem }
}

fn duplicates(named: &[&Document], nodes: &[Node]) -> Vec<Finding> {
    let finding = |(at, earlier): (usize, usize)| {
        let (second, first) = (named.get(at)?, named.get(earlier)?);
        let (line, column) = first.places.value("/id");
        let id = first.id.as_deref().unwrap_or_default();
        let message = format!("duplicate id `{id}`: {}:{line}:{column} has it too", first.file);
        Some(at_value(second, FindingKind::Schema, "/id", message))
    };
    graph::duplicates(nodes).into_iter().filter_map(finding).collect()
}

fn missing_finding(named: &[&Document], edge: &Edge) -> Option<Finding> {
    let document = named.get(edge.node)?;
    let id = document.depends_on.get(edge.dependency)?;
    let pointer = format!("/depends_on/{}", edge.dependency);
    Some(at_value(document, FindingKind::Dependency, &pointer, format!("there is no bundle `{id}`")))
}

fn circle_finding(named: &[&Document], circle: &Circle) -> Option<Finding> {
    let document = named.get(circle.edge.node)?;
    let pointer = format!("/depends_on/{}", circle.edge.dependency);
    let message = format!("the bundles wait for each other: {}", dag::shown(&circle.ids));
    Some(at_value(document, FindingKind::Cycle, &pointer, message))
}

/// The sentence of the original, which scripts may look for.
fn missing_text(nodes: &[Node], missing: &[Edge]) -> Option<String> {
    let mut by_id: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for edge in missing {
        let node = nodes.get(edge.node)?;
        by_id.entry(&node.id).or_default().push(node.depends_on.get(edge.dependency)?);
    }
    let parts: Vec<String> = by_id.iter().map(|(id, on)| format!("{id} -> {}", on.join(", "))).collect();
    (!parts.is_empty()).then(|| format!("Missing dependency references: {}", parts.join("; ")))
}

/// As `missing_text`.
fn circles_text(circles: &[Circle]) -> Option<String> {
    let parts: Vec<String> = circles.iter().map(|circle| around(&circle.ids)).collect();
    (!parts.is_empty()).then(|| format!("Dependency cycle(s) detected: {}", parts.join("; ")))
}

/// The most ids of a circle that the sentence has.
const LONGEST_SHOWN: usize = 100;

/// The ids of a circle; of a long one its ends.
fn around(ids: &[String]) -> String {
    if ids.len() <= LONGEST_SHOWN {
        return ids.join(" -> ");
    }
    let (first, rest) = ids.split_at(LONGEST_SHOWN / 2);
    let (left_out, last) = rest.split_at(rest.len() - LONGEST_SHOWN / 2);
    format!("{} -> … {} more … -> {}", first.join(" -> "), left_out.len(), last.join(" -> "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(files: &[(&str, &str)]) -> Vec<Source> {
        let source = |(file, text): &(&str, &str)| Source {
            file: (*file).to_owned(),
            bytes: text.as_bytes().to_vec(),
        };
        files.iter().map(source).collect()
    }

    fn bundle(id: &str, more: &str) -> String {
        format!(
            r#"{{"id": "{id}", "openspec_change": "c", "ccpm_issue": 1, "gate": 1, "files_scope": ["{id}.py"],
 "tasks": [], "tool": "aider"{more}}}"#
        )
    }

    fn refused(files: &[(&str, &str)]) -> (Vec<String>, String) {
        let refused = read(&sources(files), Vec::new()).unwrap_err();
        (refused.errors.iter().map(Finding::line).collect(), refused.summary)
    }

    #[test]
    fn bundles_of_objects_and_arrays_are_sorted_by_id_and_know_their_file() {
        let two = format!("[{},\n{}]", bundle("ws-c", ""), bundle("ws-a", r#", "depends_on": ["ws-b"]"#));
        let one = bundle("ws-b", "");
        let read = read(&sources(&[("two.json", &two), ("one.json", &one)]), Vec::new()).unwrap();
        let found: Vec<_> =
            read.bundles.iter().map(|read| (read.bundle.id.as_str(), read.file.as_str())).collect();
        assert_eq!(found, [("ws-a", "two.json"), ("ws-b", "one.json"), ("ws-c", "two.json")]);
        assert_eq!(read.bundles[1].sha256, sha256(one.as_bytes()));
        assert!(read.warnings.is_empty(), "{:?}", read.warnings);
    }

    #[test]
    fn all_problems_of_all_files_are_told_at_once_in_the_original_order() {
        let first = format!(
            "[{},\n {},\n {}]",
            bundle("ws-b", r#", "depends_on": ["ws-a"], "zzz": 1, "aaa": 2"#),
            bundle("ws-a", r#", "depends_on": ["ws-b", "ws-x"]"#),
            bundle("ws-a", "")
        );
        let (lines, summary) = refused(&[("a.json", &first), ("b.json", "[1]")]);
        let want = [
            "a.json:2:66: /aaa: unknown key `aaa`",
            "a.json:2:56: /zzz: unknown key `zzz`",
            "b.json:1:2: found 1, expected an object",
            "a.json:5:9: /id: duplicate id `ws-a`: a.json:3:9 has it too",
            "a.json:4:47: /depends_on/0: the bundles wait for each other: `ws-a` waits for `ws-b` waits for `ws-a`",
        ];
        assert_eq!(lines, want, "a missing dependency may be the bundle that has no id");
        assert_eq!(summary, format!("{} (and 2 more)", want[0]));
    }

    #[test]
    fn what_is_between_bundles_has_the_sentence_of_the_original() {
        let of = |id: &str, on: &str| bundle(id, &format!(r#", "depends_on": {on}"#));
        let missing = format!("[{},{}]", of("ws-b", r#"["ws-x", "ws-y"]"#), of("ws-a", r#"["ws-z"]"#));
        let (lines, summary) = refused(&[("f", &missing)]);
        assert_eq!(lines[0], "f:2:47: /depends_on/0: there is no bundle `ws-x`");
        assert_eq!(
            (lines.len(), summary.as_str()),
            (3, "Missing dependency references: ws-a -> ws-z; ws-b -> ws-x, ws-y")
        );
        let circle = format!("[{},{}]", of("ws-b", r#"["ws-a"]"#), of("ws-a", r#"["ws-b"]"#));
        assert_eq!(refused(&[("f", &circle)]).1, "Dependency cycle(s) detected: ws-a -> ws-b");
        let long: Vec<String> = (0..5000)
            .map(|n| of(&format!("ws-{n:04}"), &format!(r#"["ws-{:04}"]"#, (n + 1) % 5000)))
            .collect();
        let (lines, summary) = refused(&[("f", &format!("[{}]", long.join(",")))]);
        assert_eq!(lines.len(), 1);
        assert!(lines[0].len() < 400 && summary.len() < 2000, "{}", lines[0]);
        assert!(summary.contains("ws-0049 -> … 4900 more … -> ws-4950"), "{summary}");
        let twice = bundle("ws-a", "");
        let (lines, summary) = refused(&[("f", &twice), ("g", &twice)]);
        assert_eq!(lines, ["g:1:8: /id: duplicate id `ws-a`: f:1:8 has it too"]);
        assert_eq!(summary, lines[0]);
    }

    #[test]
    fn what_is_no_json_is_named_as_what_it_is() {
        for (text, want) in [
            ("", "f:1:1: the file is empty"),
            ("{\"id\": \"ws-a\"", "f:1:13: the JSON text ends too early"),
            ("[1, 2", "ends too early"),
            ("{\n \"id\": {[WS_ID]}\n}", "f:2:8: this is a template that was not rendered"),
            ("{\"a\": 1, \"a\": 2}", "f:1:10: /a: duplicate key"),
            ("[]", "f:1:1: there is no bundle"),
            ("3", "f:1:1: found 3, expected an object"),
        ] {
            let (lines, _) = refused(&[("f", text)]);
            assert!(lines.len() == 1 && lines[0].contains(want), "{lines:?} for {want}");
        }
        assert_eq!(refused(&[]).0, ["-:1:1: there is no bundle"]);
    }

    #[test]
    fn a_mark_comments_and_annotations_are_no_problem() {
        let more = r#", "_comment": "why", "doc_id": "D", "$schema": "s", "x-team": 1,
            "circuit_breaker": {"_comment": "", "max_attempts": 1}"#;
        let text = format!("\u{feff}// a template\n{} /* end */", bundle("ws-a", more));
        let read = read(&sources(&[("f", &text)]), Vec::new()).unwrap();
        let warnings: Vec<_> = read.warnings.iter().map(Finding::line).collect();
        let want = [
            "f:1:1: the file begins with a byte order mark; it is ignored",
            "f:1:1: comments are not JSON; they are ignored",
        ];
        assert_eq!(warnings, want);
    }
}
