//! Finds where one of many forms stands or begins in a piece of a stream.
//!
//! A form that begins somewhere has a block of three bytes at one of the few places that are looked at: each block that the
//! forms begin with is known with its distances from the beginning, and most blocks of a text are none. An automaton of
//! all forms would be megabytes for long values and their encodings, and could not say where the beginning of a form is cut off
//! by the end of the piece.

use std::cmp::Ordering;

use super::forms::{Form, Lines, UNBROKEN};

/// No form is shorter.
pub const SHORTEST: usize = 4;

/// A form is recognised by so many bytes of its beginning.
const BLOCK: usize = 3;

/// The places where a block can stand in the beginning of a form are bits of a byte.
const MOST_DISTANCES: usize = 8;

const SLOTS: usize = 1 << 16;

/// What may stand between two characters of a form that goes over several lines, also inside a JSON string. The longer one
/// first.
const LINE_BREAKS: [&[u8]; 4] = [b"\r\n", b"\n", b"\\r\\n", b"\\n"];

/// Looks for forms.
#[derive(Debug)]
pub struct Finder {
    /// In the order of their bytes.
    forms: Vec<Form>,
    /// At so many distances from the beginning of a form its blocks are known.
    distances: usize,
    /// By the hash of a block: a bit for each distance at which a form has it.
    known: Vec<u8>,
}

/// A place where a form stands, or may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Where it begins.
    pub at: usize,
    /// How long the longest one is that stands there whole; 0 if none does.
    pub whole: usize,
    /// Whether the text ends within one.
    pub cut: Cut,
}

/// Whether the text ends within a form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// It may stand here when more comes.
    Yes,
    /// What comes changes nothing.
    No,
}

/// How a form compares with a place.
enum Fit {
    Not,
    Whole(usize),
    Cut,
}

impl Finder {
    /// Prepares to look for forms, which are in order; none if there are none. Those that are too short are left out.
    #[must_use]
    pub fn new(mut forms: Vec<Form>) -> Option<Self> {
        forms.retain(|form| form.bytes.len() >= SHORTEST);
        let shortest = forms.iter().map(|form| form.bytes.len()).min()?;
        let distances = (shortest.min(UNBROKEN) + 1 - BLOCK).min(MOST_DISTANCES);
        let mut known = vec![0u8; SLOTS];
        for form in &forms {
            for (distance, block) in form.bytes.windows(BLOCK).take(distances).enumerate() {
                if let Some(bits) = known.get_mut(slot(block)) {
                    *bits |= 1 << distance;
                }
            }
        }
        Some(Self { forms, distances, known })
    }

    /// The first place from `from` on.
    #[must_use]
    pub fn next(&self, text: &[u8], from: usize) -> Option<Found> {
        let mut at = from;
        let looked_at = text.get(from + self.distances - 1..).unwrap_or_default();
        // With this step every beginning has one block that is looked at, whatever stands between.
        for block in looked_at.windows(BLOCK).step_by(self.distances) {
            let bits = self.bits(block);
            if bits != 0 {
                let beginnings = (0..self.distances).rev().filter(|distance| bits & 1 << distance != 0);
                let last = at + self.distances - 1;
                let found = beginnings.map(|distance| last - distance).find_map(|at| self.look_at(text, at));
                if found.is_some() {
                    return found;
                }
            }
            at += self.distances;
        }
        (at..text.len()).find_map(|at| self.look_at(text, at))
    }

    fn bits(&self, block: &[u8]) -> u8 {
        self.known.get(slot(block)).copied().unwrap_or(0)
    }

    /// The forms from the first one on that is not before `beginning`.
    fn from(&self, beginning: &[u8]) -> impl Iterator<Item = &Form> {
        let before = |form: &Form| form.bytes.as_slice().cmp(beginning) == Ordering::Less;
        self.forms.get(self.forms.partition_point(before)..).unwrap_or_default().iter()
    }

    fn look_at(&self, text: &[u8], at: usize) -> Option<Found> {
        let rest = text.get(at..)?;
        let mut blocks = rest.windows(BLOCK).take(self.distances).enumerate();
        if blocks.any(|(distance, block)| self.bits(block) & 1 << distance == 0) {
            return None;
        }
        let beginning = rest.get(..self.distances - 1 + BLOCK).unwrap_or(rest);
        let mut found = Found { at, whole: 0, cut: Cut::No };
        for form in self.from(beginning).take_while(|form| form.bytes.starts_with(beginning)) {
            match fit(form, rest) {
                Fit::Not => {}
                Fit::Whole(length) => found.whole = found.whole.max(length),
                Fit::Cut => found.cut = Cut::Yes,
            }
        }
        (found.whole > 0 || found.cut == Cut::Yes).then_some(found)
    }
}

fn slot(block: &[u8]) -> usize {
    let number = block.iter().fold(0u32, |number, byte| number << 8 | u32::from(*byte));
    (number.wrapping_mul(0x9E37_79B1) >> (32 - SLOTS.trailing_zeros())) as usize
}

fn fit(form: &Form, rest: &[u8]) -> Fit {
    let bytes = form.bytes.as_slice();
    let common = rest.len().min(bytes.len());
    match (rest.get(..common) == bytes.get(..common), form.lines) {
        (true, _) if common == bytes.len() => Fit::Whole(common),
        (true, _) => Fit::Cut,
        (false, Lines::One) => Fit::Not,
        (false, Lines::Several) => fit_over_lines(bytes, rest),
    }
}

/// At most one line break stands between two characters: what is held back stays bounded.
fn fit_over_lines(bytes: &[u8], rest: &[u8]) -> Fit {
    let mut at = 0;
    for (index, byte) in bytes.iter().enumerate() {
        if index > 0 && rest.get(at) != Some(byte) {
            let left = rest.get(at..).unwrap_or_default();
            match LINE_BREAKS.iter().find(|line_break| left.starts_with(line_break)) {
                Some(line_break) => at += line_break.len(),
                None if LINE_BREAKS.iter().any(|line_break| line_break.starts_with(left)) => return Fit::Cut,
                None => return Fit::Not,
            }
        }
        match rest.get(at) {
            Some(found) if found == byte => at += 1,
            Some(_) => return Fit::Not,
            None => return Fit::Cut,
        }
    }
    Fit::Whole(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finder(forms: &[(&str, Lines)]) -> Finder {
        let form = |(text, lines): &(&str, Lines)| Form { bytes: text.as_bytes().to_vec(), lines: *lines };
        let mut forms: Vec<Form> = forms.iter().map(form).collect();
        forms.sort();
        Finder::new(forms).unwrap()
    }

    fn all(finder: &Finder, text: &str) -> Vec<(usize, usize, Cut)> {
        let mut found = Vec::new();
        let mut from = 0;
        while let Some(Found { at, whole, cut }) = finder.next(text.as_bytes(), from) {
            found.push((at, whole, cut));
            from = at + 1;
        }
        found
    }

    #[test]
    fn a_form_is_found_at_every_distance_from_both_ends() {
        let finder = finder(&[("needle", Lines::One), ("other-needle", Lines::One)]);
        for before in 0..20 {
            for after in 0..20 {
                let text = format!("{}needle{}", "-".repeat(before), "-".repeat(after));
                assert_eq!(all(&finder, &text), [(before, 6, Cut::No)], "{text}");
            }
        }
    }

    #[test]
    fn every_place_is_told_where_a_form_is_cut_off() {
        let finder = finder(&[("aaab", Lines::One), ("abcdefgh", Lines::One)]);
        assert_eq!(all(&finder, "xaaa"), [(1, 0, Cut::Yes), (2, 0, Cut::Yes), (3, 0, Cut::Yes)]);
        assert_eq!(all(&finder, "aaabcdefg"), [(0, 4, Cut::No), (2, 0, Cut::Yes)]);
        assert_eq!(all(&finder, "abcdefg-"), []);
    }

    #[test]
    fn one_line_break_may_stand_between_two_characters_and_no_more() {
        let finder = finder(&[("0123456789abcdef", Lines::Several), ("0123456789__", Lines::One)]);
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

    proptest::proptest! {
        #[test]
        fn nothing_is_overlooked_that_looking_at_every_place_finds(
            one in proptest::collection::vec("[ab]{4,14}", 0..4),
            several in proptest::collection::vec("[ab]{10,14}", 0..3),
            alone in "[abc]{4,5}",
            text in "[ab]{0,12}([ab]{1,4}\n?){0,20}[abc]{0,6}",
        ) {
            let mut forms: Vec<(&str, Lines)> = one.iter().map(|text| (text.as_str(), Lines::One)).collect();
            forms.extend(several.iter().map(|text| (text.as_str(), Lines::Several)));
            forms.push((&alone, Lines::One));
            let finder = finder(&forms);
            let mut want = Vec::new();
            for at in 0..text.len() {
                let rest = &text.as_bytes()[at..];
                let (mut whole, mut cut) = (0, Cut::No);
                for form in &finder.forms {
                    // What it is recognised by goes over one line.
                    let beginning = &form.bytes[..finder.distances - 1 + BLOCK];
                    if !rest.starts_with(beginning) && !beginning.starts_with(rest) {
                        continue;
                    }
                    match fit(form, rest) {
                        Fit::Not => {}
                        Fit::Whole(length) => whole = whole.max(length),
                        Fit::Cut => cut = Cut::Yes,
                    }
                }
                if whole > 0 || cut == Cut::Yes {
                    want.push((at, whole, cut));
                }
            }
            proptest::prop_assert_eq!(all(&finder, &text), want);
        }
    }
}
