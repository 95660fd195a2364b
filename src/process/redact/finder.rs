//! Finds where one of many forms occurs or begins in a piece of a stream.
//!
//! An automaton looks for the heads of the forms: the first bytes that each of them can have. Where one occurs, the forms
//! that have it are compared. An automaton of whole forms would be tens of megabytes for long values and their encodings,
//! would have no end for spellings that mix, and could not say where the beginning of a form is cut off by the end of the
//! piece.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;

use aho_corasick::{AhoCorasick, AhoCorasickKind, Input, MatchKind};

use super::forms::{self, Form, Kind, SHORTEST};

/// What may separate two characters of an encoded form, also inside a JSON string. The longer one first.
const LINE_BREAKS: [&[u8]; 4] = [b"\r\n", b"\n", b"\\r\\n", b"\\n"];

/// So many ways to read the same text as a part of a form are followed. The shortest one, in which each character is as it
/// is, is always among them; only a value of dozens of quotes or backslashes in a row has more.
const MOST_READINGS: usize = 64;

/// So many heads the crate looks for by vectors: its automaton is hardly used and need not be quick.
const BY_VECTORS: usize = 64;

/// So many heads are looked for with a table of all transitions, twice as fast: it takes about a kilobyte for each.
const IN_A_TABLE: usize = 1_000;

/// Looks for forms.
#[derive(Debug)]
pub(super) struct Finder {
    forms: Vec<Form>,
    spellings: Spellings,
    /// Which forms can begin with these `SHORTEST` bytes.
    heads: BTreeMap<Vec<u8>, Vec<usize>>,
    /// Looks for the heads; without it every place is looked at.
    search: Option<AhoCorasick>,
}

/// The spellings of each character that is written out in a form.
#[derive(Debug)]
struct Spellings(HashMap<Vec<u8>, BTreeSet<Vec<u8>>>);

/// A place where a form occurs, or may occur.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Match {
    /// Where it begins.
    pub at: usize,
    /// The length of the longest complete one there; 0 if none is complete.
    pub whole: usize,
    /// Whether the text ends within one.
    pub cut: Cut,
}

/// Whether the text ends within a form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cut {
    /// What comes changes nothing.
    No,
    /// It may occur here when more comes.
    Yes,
}

impl Finder {
    /// Prepares to look for forms; none if there are none. Those that are too short are left out.
    #[must_use]
    pub(super) fn new(mut forms: Vec<Form>) -> Option<Self> {
        forms.retain(|form| form.bytes.len() >= SHORTEST);
        let spellings = Spellings::new(&forms);
        let mut heads: BTreeMap<Vec<u8>, Vec<usize>> = BTreeMap::new();
        for (index, form) in forms.iter().enumerate() {
            for head in spellings.heads(form) {
                heads.entry(head).or_default().push(index);
            }
        }
        // All are equally long, so the leftmost one is the first; only for that kind the crate has a search by vectors.
        let kind = if (BY_VECTORS + 1..=IN_A_TABLE).contains(&heads.len()) {
            AhoCorasickKind::DFA
        } else {
            AhoCorasickKind::ContiguousNFA
        };
        let mut builder = AhoCorasick::builder();
        let search = builder.match_kind(MatchKind::LeftmostFirst).kind(Some(kind)).build(heads.keys()).ok();
        (!forms.is_empty()).then_some(Self { forms, spellings, heads, search })
    }

    /// The first place from `from` on.
    #[must_use]
    pub(super) fn next(&self, text: &[u8], from: usize) -> Option<Match> {
        let mut at = from;
        while let Some(head) = self.next_head(text, at) {
            let found = self.look_at(text, head);
            if found.is_some() {
                return found;
            }
            at = head + 1;
        }
        let end = at.max(text.len().saturating_sub(SHORTEST - 1))..text.len();
        end.map(|at| Match { at, whole: 0, cut: Cut::Yes }).find(|found| self.begins_at(text, found.at))
    }

    fn next_head(&self, text: &[u8], from: usize) -> Option<usize> {
        match &self.search {
            Some(search) => search.find(Input::new(text).range(from..)).map(|head| head.start()),
            None => (from..text.len()).find(|at| text.len() - at >= SHORTEST),
        }
    }

    /// Whether a head begins with what is left of the text.
    fn begins_at(&self, text: &[u8], at: usize) -> bool {
        let rest = text.get(at..).unwrap_or_default();
        let mut from = self.heads.range::<[u8], _>((Bound::Included(rest), Bound::Unbounded));
        from.next().is_some_and(|(head, _)| head.starts_with(rest))
    }

    fn look_at(&self, text: &[u8], at: usize) -> Option<Match> {
        let rest = text.get(at..)?;
        let mut found = Match { at, whole: 0, cut: Cut::No };
        for form in self.heads.get(rest.get(..SHORTEST)?)?.iter().filter_map(|index| self.forms.get(*index)) {
            let (whole, cut) = match form.kind {
                Kind::Written => self.spellings.compare(&form.bytes, rest),
                Kind::Encoded => compare_over_lines(&form.bytes, rest),
            };
            found.whole = found.whole.max(whole);
            found.cut = found.cut.max(cut);
        }
        (found.whole > 0 || found.cut == Cut::Yes).then_some(found)
    }
}

impl Spellings {
    fn new(forms: &[Form]) -> Self {
        let mut known = HashMap::new();
        let written = forms.iter().filter(|form| form.kind == Kind::Written);
        for character in written.flat_map(|form| forms::characters(&form.bytes)) {
            if !known.contains_key(character) {
                known.insert(character.to_vec(), forms::spellings(character));
            }
        }
        Self(known)
    }

    fn spellings(&self, character: &[u8]) -> impl Iterator<Item = &[u8]> {
        self.0.get(character).into_iter().flatten().map(Vec::as_slice)
    }

    /// The first bytes that a form can have.
    fn heads(&self, form: &Form) -> BTreeSet<Vec<u8>> {
        if form.kind == Kind::Encoded {
            return form.bytes.get(..SHORTEST).map(<[u8]>::to_vec).into_iter().collect();
        }
        let mut heads = BTreeSet::from([Vec::new()]);
        for character in forms::characters(&form.bytes).take(SHORTEST) {
            let (mut longer, short): (_, BTreeSet<_>) =
                heads.into_iter().partition(|head: &Vec<u8>| head.len() == SHORTEST);
            for spelling in self.spellings(character) {
                longer.extend(
                    short.iter().map(|head| head.iter().chain(spelling).copied().take(SHORTEST).collect()),
                );
            }
            heads = longer;
        }
        heads
    }

    /// How long the text is that is a form, and whether the text may end within it.
    fn compare(&self, form: &[u8], rest: &[u8]) -> (usize, Cut) {
        let plain = form.iter().take_while(|byte| forms::is_plain(**byte)).count();
        let common = plain.min(rest.len());
        if form.get(..common) != rest.get(..common) {
            return (0, Cut::No);
        }
        if common == form.len() {
            return (common, Cut::No);
        }
        let mut cut = Cut::No;
        let mut ends = BTreeSet::from([common]);
        let mut characters = forms::characters(form.get(common..).unwrap_or_default());
        while !ends.is_empty()
            && let Some(character) = characters.next()
        {
            let mut next = BTreeSet::new();
            for end in ends.into_iter().take(MOST_READINGS) {
                let left = rest.get(end..).unwrap_or_default();
                for spelling in self.spellings(character) {
                    if left.starts_with(spelling) {
                        next.insert(end + spelling.len());
                    } else if spelling.starts_with(left) {
                        cut = Cut::Yes;
                    }
                }
            }
            ends = next;
        }
        (ends.last().copied().unwrap_or(0), cut)
    }
}

/// At most one line break separates two characters: what is held back stays bounded.
fn compare_over_lines(form: &[u8], rest: &[u8]) -> (usize, Cut) {
    let mut at = 0;
    for byte in form {
        let left = rest.get(at..).unwrap_or_default();
        if at > 0 && left.first() != Some(byte) {
            match LINE_BREAKS.iter().find(|line_break| left.starts_with(line_break)) {
                Some(line_break) => at += line_break.len(),
                None if LINE_BREAKS.iter().any(|line_break| line_break.starts_with(left)) => {
                    return (0, Cut::Yes);
                }
                None => return (0, Cut::No),
            }
        }
        match rest.get(at) {
            Some(found) if found == byte => at += 1,
            Some(_) => return (0, Cut::No),
            None => return (0, Cut::Yes),
        }
    }
    (at, Cut::No)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finder(forms: &[(&str, Kind)]) -> Finder {
        let form = |(text, kind): &(&str, Kind)| Form { bytes: text.as_bytes().to_vec(), kind: *kind };
        Finder::new(forms.iter().map(form).collect()).unwrap()
    }

    fn all(finder: &Finder, text: &str) -> Vec<(usize, usize, Cut)> {
        let mut found = Vec::new();
        let mut from = 0;
        while let Some(Match { at, whole, cut }) = finder.next(text.as_bytes(), from) {
            found.push((at, whole, cut));
            from = at + 1;
        }
        found
    }

    #[test]
    fn a_form_is_found_at_every_distance_from_both_ends() {
        let finder = finder(&[("needle", Kind::Written), ("other-needle", Kind::Written)]);
        for before in 0..20 {
            for after in 0..20 {
                let text = format!("{}needle{}", "-".repeat(before), "-".repeat(after));
                assert_eq!(all(&finder, &text), [(before, 6, Cut::No)], "{text}");
            }
        }
    }

    #[test]
    fn every_place_is_told_where_a_form_is_cut_off() {
        let finder =
            finder(&[("aaab", Kind::Written), ("abcdefgh", Kind::Written), ("ab\"cde", Kind::Written)]);
        assert_eq!(all(&finder, "xaaa"), [(1, 0, Cut::Yes), (2, 0, Cut::Yes), (3, 0, Cut::Yes)]);
        assert_eq!(all(&finder, "aaabcdefg"), [(0, 4, Cut::No), (2, 0, Cut::Yes)]);
        assert_eq!(all(&finder, "abcdefg-"), []);
        assert_eq!(all(&finder, "ab&qu"), [(0, 0, Cut::Yes)]);
        assert_eq!(all(&finder, "ab\"cd ab\"\"cd ab\"\"\"cde"), []);
    }

    #[test]
    fn one_line_break_may_stand_between_two_characters_and_no_more() {
        let finder = finder(&[("0123456789abcdef", Kind::Encoded), ("0123456789__", Kind::Written)]);
        for (text, want) in [
            ("0123456789\nabcdef", Some((17, Cut::No))),
            ("0123456789\r\na\nbcdef", Some((19, Cut::No))),
            ("0123456789\\nabcde\\r\\nf", Some((22, Cut::No))),
            ("0123456789\n", Some((0, Cut::Yes))),
            ("0123456789\r", Some((0, Cut::Yes))),
            ("0123456789\\r\\", Some((0, Cut::Yes))),
            ("0123456789\n\nabcdef", None),
            ("0123456789 abcdef", None),
            ("0123456789\n__", None),
        ] {
            let found = finder.next(text.as_bytes(), 0).map(|found| (found.whole, found.cut));
            assert_eq!(found, want, "{text:?}");
        }
    }

    #[test]
    fn a_value_of_nothing_but_quotes_takes_no_exponential_time() {
        let value = "\"\\".repeat(300);
        let finder = finder(&[(&value, Kind::Written)]);
        assert_eq!(finder.next(format!("x{value}").as_bytes(), 0).unwrap().at, 1);
        assert!(finder.next("\\".repeat(3_000).as_bytes(), 0).is_some());
    }

    proptest::proptest! {
        #[test]
        fn nothing_is_overlooked_that_looking_at_every_place_finds(
            written in proptest::collection::vec("[ab'\\\\]{4,14}", 0..4),
            encoded in proptest::collection::vec("[ab]{10,14}", 0..3),
            alone in "[abc]{4,5}",
            text in "[ab'\\\\]{0,12}([ab]{1,4}\n?){0,20}[abc]{0,6}",
        ) {
            let mut forms: Vec<(&str, Kind)> = written.iter().map(|text| (text.as_str(), Kind::Written)).collect();
            forms.extend(encoded.iter().map(|text| (text.as_str(), Kind::Encoded)));
            forms.push((&alone, Kind::Written));
            let mut finder = finder(&forms);
            let quick = all(&finder, &text);
            let mut want = Vec::new();
            for at in 0..text.len() {
                let rest = &text.as_bytes()[at..];
                let (mut whole, mut cut) = (0, Cut::No);
                for form in &finder.forms {
                    // The head of an encoded form goes over one line.
                    let head = &form.bytes[..SHORTEST];
                    let (length, ends) = match form.kind {
                        Kind::Written => finder.spellings.compare(&form.bytes, rest),
                        Kind::Encoded if !rest.starts_with(head) && !head.starts_with(rest) => (0, Cut::No),
                        Kind::Encoded => compare_over_lines(&form.bytes, rest),
                    };
                    (whole, cut) = (whole.max(length), cut.max(ends));
                }
                if whole > 0 || cut == Cut::Yes {
                    want.push((at, whole, cut));
                }
            }
            proptest::prop_assert_eq!(&quick, &want);
            finder.search = None;
            proptest::prop_assert_eq!(all(&finder, &text), want);
        }
    }
}
