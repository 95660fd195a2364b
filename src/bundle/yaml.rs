//! The one YAML reader: text to a JSON value, with the position of each value and key.
//!
//! Scalars follow the core schema of YAML 1.2, so `no` and `on` are texts. Hard rule: a text that two readers could understand
//! differently is refused: repeated keys, merge keys, tags of other schemas, a second document, and aliases without end.

use std::collections::BTreeMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span, Tag};
use serde_json::{Map, Number, Value};

use crate::job::Problem;
use crate::job::parse::locate::{Locations, Position, escape};

/// A document with the positions of what is in it.
#[derive(Debug, Default)]
pub(crate) struct Document {
    /// The content.
    pub value: Value,
    /// Where it was written.
    pub places: Locations,
    /// What was written, by JSON pointer, where a value no longer shows it: `3.10`, `True`.
    pub texts: BTreeMap<String, String>,
}

/// Deeper collections are refused: everything that walks a value may recurse.
const DEEPEST: usize = 64;

/// What all aliases of a document may stand for together: values, and bytes of text.
const MOST_REPEATED: usize = 100_000;

/// Reads a document; a text without any is null.
///
/// # Errors
/// The first thing that is wrong, at its place.
pub(crate) fn read(text: &str) -> Result<Document, Problem> {
    let mut reader = Reader::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| {
            let (line, column) = position(*error.marker());
            Problem::at(line, column, format!("not YAML: {}", error.info()))
        })?;
        reader.take(event, span)?;
    }
    Ok(Document { value: reader.root.unwrap_or_default(), places: reader.places, texts: reader.texts })
}

fn position(mark: Marker) -> Position {
    (mark.line(), mark.col() + 1)
}

/// A node, as an alias repeats it.
#[derive(Clone)]
struct Node {
    value: Value,
    /// Collections from here down, itself included.
    height: usize,
    /// What a repetition costs.
    weight: usize,
    /// Where it is.
    pointer: String,
}

/// A collection that has not ended.
struct Open {
    collection: Collection,
    anchor: usize,
    pointer: String,
    height: usize,
    weight: usize,
}

enum Collection {
    List(Vec<Value>),
    /// With the key whose value comes next.
    Map(Map<String, Value>, Option<String>),
}

#[derive(Default)]
struct Reader {
    open: Vec<Open>,
    root: Option<Value>,
    documents: usize,
    anchors: BTreeMap<usize, Node>,
    repeated: usize,
    places: Locations,
    texts: BTreeMap<String, String>,
}

impl Reader {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Problem> {
        let at = position(span.start);
        match event {
            Event::DocumentStart(_) => self.document(at),
            Event::Scalar(text, style, anchor, tag) => self.scalar(&text, style, anchor, tag.as_deref(), at),
            Event::SequenceStart(anchor, tag) => {
                refuse_tag(tag.as_deref(), "seq", at)?;
                self.start(Collection::List(Vec::new()), anchor, at)
            }
            Event::MappingStart(anchor, tag) => {
                refuse_tag(tag.as_deref(), "map", at)?;
                self.start(Collection::Map(Map::new(), None), anchor, at)
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(anchor) => self.alias(anchor, at),
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
        }
    }

    fn document(&mut self, at: Position) -> Result<(), Problem> {
        self.documents += 1;
        if self.documents > 1 {
            return Err(problem(at, "a second document begins").expected("one document"));
        }
        Ok(())
    }

    fn scalar(
        &mut self,
        text: &str,
        style: ScalarStyle,
        anchor: usize,
        tag: Option<&Tag>,
        at: Position,
    ) -> Result<(), Problem> {
        if self.awaits_key() {
            return self.key(text, style, at);
        }
        let value = scalar(text, style, tag).map_err(|message| problem(at, message))?;
        let pointer = self.note(at);
        let shown = value.to_string();
        if !value.is_string() && shown != text {
            self.texts.insert(pointer.clone(), text.to_owned());
        }
        self.add(Node { weight: 1 + text.len(), height: 0, value, pointer }, anchor);
        Ok(())
    }

    fn awaits_key(&self) -> bool {
        matches!(self.open.last().map(|open| &open.collection), Some(Collection::Map(_, None)))
    }

    fn key(&mut self, text: &str, style: ScalarStyle, at: Position) -> Result<(), Problem> {
        if text == "<<" && style == ScalarStyle::Plain {
            let expected = "the keys themselves: YAML 1.2 has no merge keys";
            return Err(problem(at, "`<<` is a merge key").expected(expected));
        }
        let Some(Open { collection: Collection::Map(map, next), pointer, .. }) = self.open.last_mut() else {
            return Ok(());
        };
        let below = format!("{pointer}/{}", escape(text));
        if map.contains_key(text) {
            return Err(Problem { pointer: below, ..problem(at, "duplicate key") });
        }
        *next = Some(text.to_owned());
        self.places.place_key(below, at);
        Ok(())
    }

    fn start(&mut self, collection: Collection, anchor: usize, at: Position) -> Result<(), Problem> {
        if self.awaits_key() {
            return Err(problem(at, "a key is a collection").expected("a text"));
        }
        if self.open.len() >= DEEPEST {
            return Err(too_deep(at));
        }
        let pointer = self.note(at);
        self.open.push(Open { collection, anchor, pointer, height: 1, weight: 1 });
        Ok(())
    }

    fn end(&mut self) -> Result<(), Problem> {
        let Some(open) = self.open.pop() else { return Ok(()) };
        let value = match open.collection {
            Collection::List(items) => Value::Array(items),
            Collection::Map(map, _) => Value::Object(map),
        };
        let Open { height, weight, pointer, anchor, .. } = open;
        self.add(Node { value, height, weight, pointer }, anchor);
        Ok(())
    }

    fn alias(&mut self, anchor: usize, at: Position) -> Result<(), Problem> {
        if self.awaits_key() {
            return Err(problem(at, "a key is an alias").expected("a text"));
        }
        // One that is still open would hold itself.
        let node = self.anchors.get(&anchor).cloned();
        let node = node.ok_or_else(|| problem(at, "the alias names a collection that it is in"))?;
        self.repeated += node.weight;
        if self.repeated > MOST_REPEATED {
            return Err(problem(at, "the aliases of this document repeat too much of it"));
        }
        if self.open.len() + node.height > DEEPEST {
            return Err(too_deep(at));
        }
        let here = self.note(at);
        let repeated = self.texts.range(node.pointer.clone()..);
        let repeated =
            repeated.map_while(|(pointer, text)| Some((pointer.strip_prefix(&node.pointer)?, text)));
        // `/a` is also the beginning of `/ab`.
        let repeated = repeated.filter(|(below, _)| below.is_empty() || below.starts_with('/'));
        let repeated: Vec<_> =
            repeated.map(|(below, text)| (format!("{here}{below}"), text.clone())).collect();
        self.texts.extend(repeated);
        self.add(node, 0);
        Ok(())
    }

    /// The pointer of the value that comes next.
    fn pointer(&self) -> String {
        let Some(open) = self.open.last() else { return String::new() };
        let part = match &open.collection {
            Collection::List(items) => items.len().to_string(),
            Collection::Map(_, key) => escape(key.as_deref().unwrap_or_default()),
        };
        format!("{}/{part}", open.pointer)
    }

    fn note(&mut self, at: Position) -> String {
        let pointer = self.pointer();
        self.places.place_value(pointer.clone(), at);
        pointer
    }

    fn add(&mut self, node: Node, anchor: usize) {
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node.value);
            return;
        };
        open.height = open.height.max(node.height + 1);
        open.weight += node.weight;
        match &mut open.collection {
            Collection::List(items) => items.push(node.value),
            Collection::Map(map, key) => {
                map.insert(key.take().unwrap_or_default(), node.value);
            }
        }
    }
}

fn problem(at: Position, message: impl Into<String>) -> Problem {
    Problem::at(at.0, at.1, message)
}

fn too_deep(at: Position) -> Problem {
    problem(at, "the YAML is nested too deeply").expected(format!("at most {DEEPEST} levels"))
}

/// The word of a tag of the core schema; `str` for the tag `!`, which says that the text is one.
fn word(tag: &Tag) -> Option<&str> {
    if tag.is_yaml_core_schema() {
        return Some(&tag.suffix);
    }
    matches!((tag.handle.as_str(), tag.suffix.as_str()), ("!", "") | ("", "!")).then_some("str")
}

fn refuse_tag(tag: Option<&Tag>, own: &str, at: Position) -> Result<(), Problem> {
    match tag {
        Some(tag) if word(tag) != Some(own) => Err(problem(at, format!("the tag `{tag}` is not read"))),
        _ => Ok(()),
    }
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Value, String> {
    let plain = || plain(text).ok_or_else(|| format!("`{text}` is no finite number"));
    let Some(tag) = tag else {
        return if style == ScalarStyle::Plain { plain() } else { Ok(Value::String(text.to_owned())) };
    };
    let value = match word(tag) {
        Some("str") => return Ok(Value::String(text.to_owned())),
        Some("null" | "bool" | "int" | "float") => plain()?,
        _ => return Err(format!("the tag `{tag}` is not read")),
    };
    let fits = match word(tag) {
        Some("null") => value.is_null(),
        Some("bool") => value.is_boolean(),
        Some("int") => value.is_u64() || value.is_i64(),
        _ => value.is_number(),
    };
    if fits { Ok(value) } else { Err(format!("`{text}` is not of the type that its tag names")) }
}

/// A plain scalar by the core schema; none for a number that JSON does not have.
fn plain(text: &str) -> Option<Value> {
    Some(match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ => match number(text) {
            Some(number) => Value::Number(number?),
            None => Value::String(text.to_owned()),
        },
    })
}

/// A number; the outer `None` is no number, the inner one a number that is not finite.
fn number(text: &str) -> Option<Option<Number>> {
    let digits = |text: &str, radix: u32| {
        (!text.is_empty() && text.chars().all(|c| c.is_digit(radix)))
            .then(|| u64::from_str_radix(text, radix))
    };
    if let Some(octal) = text.strip_prefix("0o").and_then(|rest| digits(rest, 8)) {
        return Some(octal.ok().map(Number::from));
    }
    if let Some(hexadecimal) = text.strip_prefix("0x").and_then(|rest| digits(rest, 16)) {
        return Some(hexadecimal.ok().map(Number::from));
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return Some(None);
    }
    let text = text.strip_prefix('+').unwrap_or(text);
    if !unsigned.is_empty() && unsigned.bytes().all(|byte| byte.is_ascii_digit()) {
        let whole = text.parse::<u64>().map(Number::from).or_else(|_| text.parse::<i64>().map(Number::from));
        return Some(whole.ok().or_else(|| text.parse().ok().and_then(Number::from_f64)));
    }
    is_decimal(unsigned).then(|| text.parse().ok().and_then(Number::from_f64))
}

/// `.5`, `1.`, `1.5e-3`: what Rust also reads, but not the words that Rust reads as numbers.
fn is_decimal(text: &str) -> bool {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let of_mantissa = digits(whole) && digits(fraction) && !(whole.is_empty() && fraction.is_empty());
    let of_exponent = exponent.is_none_or(|text| {
        let text = text.strip_prefix(['+', '-']).unwrap_or(text);
        !text.is_empty() && digits(text)
    });
    of_mantissa && of_exponent
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn value(text: &str) -> Value {
        read(text).unwrap_or_else(|problem| panic!("{text:?}: {problem:?}")).value
    }

    fn refused(text: &str) -> String {
        let problem = read(text).map(|document| document.value).unwrap_err();
        format!("{}:{}: {problem}", problem.line, problem.column)
    }

    #[test]
    fn scalars_are_as_they_were_written_and_a_norwegian_stays_a_norwegian() {
        for (text, wanted) in [
            ("no", json!("no")),
            ("On", json!("On")),
            ("y", json!("y")),
            ("True", json!(true)),
            ("~", json!(null)),
            ("", json!(null)),
            ("12:30:45", json!("12:30:45")),
            ("012", json!(12)),
            ("0o17", json!(15)),
            ("0x1F", json!(31)),
            ("+5", json!(5)),
            ("-5", json!(-5)),
            ("18446744073709551615", json!(u64::MAX)),
            ("1.50", json!(1.5)),
            (".5", json!(0.5)),
            ("1e3", json!(1000.0)),
            ("1_000", json!("1_000")),
            ("inf", json!("inf")),
            ("nan", json!("nan")),
            (".", json!(".")),
            ("+", json!("+")),
            ("1e", json!("1e")),
            ("2026-01-02", json!("2026-01-02")),
            ("\"5\"", json!("5")),
            ("'true'", json!("true")),
            ("!!str 5", json!("5")),
            ("! 5", json!("5")),
            ("!!int 5", json!(5)),
            ("|\n  a\n  b\n", json!("a\nb\n")),
            (">-\n  a\n  b\n", json!("a b")),
        ] {
            assert_eq!(value(&format!("k: {text}")), json!({ "k": wanted }), "{text}");
        }
    }

    #[test]
    fn a_file_without_a_document_is_null_and_keys_stay_texts() {
        for text in ["", "# nothing\n", "---\n", "---\n# nothing\n...\n"] {
            assert_eq!(value(text), Value::Null, "{text:?}");
        }
        assert_eq!(value("1: a\ntrue: b\n~: c"), json!({ "1": "a", "true": "b", "~": "c" }));
    }

    #[test]
    fn every_value_and_key_has_its_line_and_column() {
        let document = read("# x\na:\n  - b: 1\n    \"c/d\": ä\n  - [e, {f: 2}]\n").unwrap();
        let places = &document.places;
        assert_eq!(document.value, json!({ "a": [{ "b": 1, "c/d": "ä" }, ["e", { "f": 2 }]] }));
        assert_eq!(
            (places.key("/a"), places.value("/a/0/b"), places.key("/a/0/c~1d")),
            ((2, 1), (3, 8), (4, 5))
        );
        assert_eq!((places.value("/a/0/c~1d"), places.value("/a/1/1/f")), ((4, 12), (5, 13)));
    }

    #[test]
    fn what_a_value_no_longer_shows_is_kept() {
        let document =
            read("a: &x [3.10, 5, True, {b: 0x1F}]\nab: 1.0e1\nc: [*x]\nd: '3.10'\ne: 1.5").unwrap();
        let texts: Vec<_> =
            document.texts.iter().map(|(pointer, text)| format!("{pointer} {text}")).collect();
        let wanted = [
            "/a/0 3.10",
            "/a/2 True",
            "/a/3/b 0x1F",
            "/ab 1.0e1",
            "/c/0/0 3.10",
            "/c/0/2 True",
            "/c/0/3/b 0x1F",
        ];
        assert_eq!(texts, wanted);
    }

    #[test]
    fn aliases_are_followed_as_far_as_they_end() {
        let text = "a: &x {b: [1]}\nc: *x\nd: [*x, &y z, *y]";
        assert_eq!(
            value(text),
            json!({ "a": { "b": [1] }, "c": { "b": [1] }, "d": [{ "b": [1] }, "z", "z"] })
        );
        assert!(refused("a: &x [*x]").contains("1:8: the alias names a collection that it is in"));
        let laughs = (1..9).fold("a0: &a0 [lol, lol]\n".to_owned(), |text, n| {
            let list = vec![format!("*a{}", n - 1); 10].join(", ");
            format!("{text}a{n}: &a{n} [{list}]\n")
        });
        assert!(refused(&laughs).contains("repeat too much"), "{}", refused(&laughs));
        let deep = (1..20).fold("a0: &a0 [[[[x]]]]\n".to_owned(), |text, n| {
            format!("{text}a{n}: &a{n} [[[[*a{}]]]]\n", n - 1)
        });
        assert!(refused(&deep).contains("nested too deeply"), "{}", refused(&deep));
    }

    #[test]
    fn what_two_readers_could_understand_differently_is_refused_at_its_place() {
        for (text, wanted) in [
            ("a: 1\nb:\n  c: 1\n  c: 2\n", "4:3: /b/c: duplicate key"),
            ("{a: 1, \"a\": 2}", "1:8: /a: duplicate key"),
            ("a: 1\n---\nb: 2\n", "2:1: a second document begins"),
            ("a: &x {b: 1}\nc:\n  <<: *x\n", "3:3: `<<` is a merge key"),
            ("? [a, b]\n: c\n", "1:3: a key is a collection"),
            ("a: !secret x\n", "1:4: the tag `!secret` is not read"),
            ("a: !!set {x, y}\n", "is not read"),
            ("a: !!int x\n", "1:4: `x` is not of the type"),
            ("a: .inf\n", "1:4: `.inf` is no finite number"),
            ("a: 0x1ffffffffffffffff\n", "is no finite number"),
            ("a: 1\n b: 2\n", "2:"),
            ("a: [1, 2\n", "not YAML: "),
            ("a: \"x\n", "not YAML: "),
            ("a: *nothing\n", "not YAML: "),
            ("a:\n\tb: 1\n", "not YAML: "),
        ] {
            let problem = refused(text);
            assert!(problem.contains(wanted), "{text:?}: {problem}");
        }
        assert!(refused(&"[".repeat(100)).contains("too deeply"), "{}", refused(&"[".repeat(100)));
        assert!(refused(&"- ".repeat(10_000)).contains("too deeply"));
    }

    mod any_text {
        use proptest::prelude::*;

        proptest! {
            #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

            /// A release build ends at a panic, whatever made it.
            #[test]
            fn does_no_harm(text in "([-?:,\\[\\]{}#&*!|>'\"%@`~ \n\t.<=a0é]|: |- |\n  |---|\\.\\.\\.|<<|!!str |&a |\\*a){0,40}") {
                let _ = super::read(&text);
            }

            #[test]
            fn of_json_is_read_as_json_is(value in json(), indented in any::<bool>()) {
                let text = if indented { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
                prop_assert_eq!(super::value(&text.unwrap()), value);
            }
        }

        fn json() -> impl Strategy<Value = serde_json::Value> {
            let leaf = prop_oneof![
                Just(serde_json::Value::Null),
                any::<bool>().prop_map(Into::into),
                any::<i32>().prop_map(Into::into),
                "[ -~é]{0,8}".prop_map(Into::into),
            ];
            leaf.prop_recursive(4, 32, 4, |inner| {
                prop_oneof![
                    proptest::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
                    proptest::collection::btree_map("[ -~]{0,6}", inner, 0..4)
                        .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
                ]
            })
        }
    }
}
