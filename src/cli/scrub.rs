//! Removes from a text all that makes a terminal show something else: control characters, escape sequences, and characters
//! that reverse the direction of writing.
//!
//! Pure. Text for people loses them, a JSON document has them as escapes, and the output of a tool keeps its colors.

use std::borrow::Cow;

use crate::job::parse::problem::{breaks_the_line, one_line};
use crate::process::output::moves_the_cursor;

/// A longer sequence is no color.
const LONGEST_SEQUENCE: usize = 48;

/// Sets colors and weight back to what they were.
const RESET: &str = "\u{1b}[0m";

/// Text for people. Lines and tabs stay.
pub(super) fn text(text: &str) -> Cow<'_, str> {
    replaced(text, moves_the_cursor, |scrubbed, _| scrubbed.push(char::REPLACEMENT_CHARACTER))
}

/// One line of text for people, whatever it contains: the name of a file cannot begin another line.
pub(super) fn line(text: &str) -> String {
    self::text(&one_line(text)).into_owned()
}

/// A JSON document; it means the same as before.
pub(super) fn json(document: &str) -> Cow<'_, str> {
    // ASCII line breaks and tabs are between the values, never in them.
    let is_bad = |c: char| moves_the_cursor(c) || (breaks_the_line(c) && !c.is_ascii());
    // All of these are below U+FFFF.
    replaced(document, is_bad, |scrubbed, c| scrubbed.push_str(&format!("\\u{:04x}", u32::from(c))))
}

fn replaced(
    text: &str,
    is_bad: impl Fn(char) -> bool,
    mut replace: impl FnMut(&mut String, char),
) -> Cow<'_, str> {
    let is_plain = |byte: u8| matches!(byte, b' '..=b'~' | b'\n' | b'\t');
    if text.bytes().all(is_plain) || !text.contains(&is_bad) {
        return text.into();
    }
    let mut scrubbed = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_bad(c) { replace(&mut scrubbed, c) } else { scrubbed.push(c) }
    }
    scrubbed.into()
}

/// The output of a tool on its way to a terminal, piece by piece.
#[derive(Debug, Default)]
pub(super) struct ToolOutput {
    /// The end of the last piece, in the middle of a character or a sequence.
    held: Vec<u8>,
    /// Whether the terminal has the tool's colors.
    colored: bool,
}

impl ToolOutput {
    /// Takes a piece and gives what may be shown.
    pub(super) fn push(&mut self, bytes: &[u8]) -> String {
        let mut piece = std::mem::take(&mut self.held);
        piece.extend_from_slice(bytes);
        let mut shown = String::with_capacity(piece.len());
        let mut rest = piece.as_slice();
        while let Some(taken) = self.take(rest, &mut shown) {
            rest = rest.get(taken..).unwrap_or_default();
        }
        self.held = rest.to_vec();
        shown
    }

    /// Gives what was held back, and sets the terminal's colors back.
    pub(super) fn finish(&mut self) -> String {
        let mut shown = String::from_utf8_lossy(&std::mem::take(&mut self.held)).into_owned();
        shown = text(&shown.replace('\r', "\n")).into_owned();
        if std::mem::take(&mut self.colored) {
            shown.push_str(RESET);
        }
        shown
    }

    /// Takes plain text, a character or a sequence; returns its length, `None` if it is incomplete.
    fn take(&mut self, rest: &[u8], shown: &mut String) -> Option<usize> {
        let special = |byte: &u8| !matches!(byte, b' '..=b'~' | b'\n' | b'\t');
        match rest.iter().position(special) {
            None if rest.is_empty() => None,
            Some(0) => self.take_special(rest, shown),
            plain => {
                let plain = plain.unwrap_or(rest.len());
                shown.push_str(&String::from_utf8_lossy(rest.get(..plain).unwrap_or_default()));
                Some(plain)
            }
        }
    }

    fn take_special(&mut self, rest: &[u8], shown: &mut String) -> Option<usize> {
        match rest {
            [b'\r'] => None,
            // The overwriting text goes below the line.
            [b'\r', next, ..] => {
                if *next != b'\n' {
                    shown.push('\n');
                }
                Some(1)
            }
            [0x1b, ..] => match sequence(rest) {
                Sequence::Open => None,
                Sequence::Color(color) => {
                    self.colored = color != RESET && color != "\u{1b}[m";
                    shown.push_str(color);
                    Some(color.len())
                }
                Sequence::Other => {
                    shown.push(char::REPLACEMENT_CHARACTER);
                    Some(1)
                }
            },
            _ => take_character(rest, shown),
        }
    }
}

fn take_character(rest: &[u8], shown: &mut String) -> Option<usize> {
    let head = rest.get(..4).unwrap_or(rest);
    let chunk = head.utf8_chunks().next()?;
    match chunk.valid().chars().next() {
        Some(c) => {
            shown.push(if moves_the_cursor(c) { char::REPLACEMENT_CHARACTER } else { c });
            Some(c.len_utf8())
        }
        // Cut off by the end of the piece.
        None if chunk.invalid().len() == rest.len() && rest.len() < 4 && is_begun(rest) => None,
        None => {
            shown.push(char::REPLACEMENT_CHARACTER);
            Some(chunk.invalid().len())
        }
    }
}

/// Whether these bytes can be the beginning of a character.
fn is_begun(bytes: &[u8]) -> bool {
    str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

/// A sequence that begins with an escape character.
enum Sequence<'t> {
    Color(&'t str),
    Other,
    /// Its end is still to come.
    Open,
}

/// `ESC [ 1;31 m`; nothing that conceals text.
fn sequence(rest: &[u8]) -> Sequence<'_> {
    let body = rest.get(1..).unwrap_or_default();
    let Some(parameters) = body.strip_prefix(b"[") else {
        return if body.is_empty() { Sequence::Open } else { Sequence::Other };
    };
    let length = parameters.iter().take_while(|byte| matches!(byte, b'0'..=b'9' | b';' | b':')).count();
    if length > LONGEST_SEQUENCE {
        return Sequence::Other;
    }
    let text = parameters.get(..length).and_then(|text| str::from_utf8(text).ok()).unwrap_or_default();
    match parameters.get(length) {
        None => Sequence::Open,
        Some(b'm') if !conceals(text) => rest
            .get(..length + 3)
            .and_then(|color| str::from_utf8(color).ok())
            .map_or(Sequence::Other, Sequence::Color),
        Some(_) => Sequence::Other,
    }
}

/// Whether a parameter is 8, and not the number of a color: `38;5;8` and `38:5:8` are gray.
fn conceals(parameters: &str) -> bool {
    let mut parts = parameters.split(';');
    while let Some(part) = parts.next() {
        let (number, rest) = part.split_once(':').unwrap_or((part, ""));
        let is_color = matches!(number.trim_start_matches('0'), "38" | "48" | "58");
        if is_color && number == part {
            let of_color = match parts.next().map(|form| form.trim_start_matches('0')) {
                Some("5") => 1,
                Some("2") => 3,
                // Another form: the rest counts unchanged.
                _ => return parameters.split([';', ':']).any(is_8),
            };
            parts.by_ref().take(of_color).for_each(drop);
        } else if is_8(number) || (!is_color && rest.split(':').any(is_8)) {
            return true;
        }
    }
    false
}

fn is_8(parameter: &str) -> bool {
    parameter.trim_start_matches('0') == "8"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(pieces: &[&[u8]]) -> String {
        let mut output = ToolOutput::default();
        let mut shown: String = pieces.iter().map(|piece| output.push(piece)).collect();
        shown.push_str(&output.finish());
        shown
    }

    #[test]
    fn colors_stay_and_are_set_back_and_nothing_else_reaches_the_terminal() {
        for (output, want) in [
            ("plain\ttext\nä😀\n", "plain\ttext\nä😀\n"),
            ("\u{1b}[1;31mred\u{1b}[0m\n", "\u{1b}[1;31mred\u{1b}[0m\n"),
            ("\u{1b}[38;5;8mgray", "\u{1b}[38;5;8mgray\u{1b}[0m"),
            ("\u{1b}[38;2;8;8;8mgray\u{1b}[m", "\u{1b}[38;2;8;8;8mgray\u{1b}[m"),
            ("a\u{1b}]0;title\u{7}b\u{1b}[2Jc", "a\u{fffd}]0;title\u{fffd}b\u{fffd}[2Jc"),
            ("\u{1b}[8mhidden", "\u{fffd}[8mhidden"),
            ("\u{1b}[38;5;1;08mhidden", "\u{fffd}[38;5;1;08mhidden"),
            ("\u{1b}[38;9;08mhidden", "\u{fffd}[38;9;08mhidden"),
            ("\u{1b}[8:mhidden", "\u{fffd}[8:mhidden"),
            ("\u{1b}[38:5:8mgray\u{1b}[m", "\u{1b}[38:5:8mgray\u{1b}[m"),
            ("\u{1b}[38:5:8;08:1mhidden", "\u{fffd}[38:5:8;08:1mhidden"),
            ("\u{1b}[38:2:1:2:3mcolor\u{1b}[m", "\u{1b}[38:2:1:2:3mcolor\u{1b}[m"),
            ("one\r\ntwo\rthree\r", "one\ntwo\nthree\n"),
            ("\u{9b}2J\u{202e}x\u{8}", "\u{fffd}2J\u{fffd}x\u{fffd}"),
            ("end \u{1b}[3", "end \u{fffd}[3"),
        ] {
            assert_eq!(shown(&[output.as_bytes()]), want, "{output:?}");
            for cut in 0..=output.len() {
                let (one, two) = output.as_bytes().split_at(cut);
                assert_eq!(shown(&[one, two]), want, "{output:?} cut at {cut}");
            }
        }
        assert_eq!(shown(&[b"\x9b2J\xff\xe2\x80", b"(\xf0\x9f"]), "\u{fffd}2J\u{fffd}\u{fffd}(\u{fffd}");
        assert_eq!(shown(&[format!("\u{1b}[{}m", "1;".repeat(40)).as_bytes()]).matches('\u{1b}').count(), 0);
    }

    proptest::proptest! {
        #[test]
        fn no_output_of_a_tool_moves_the_cursor_however_it_is_cut(
            output in proptest::collection::vec(proptest::sample::select(b"\x1b[]0158;:mJ\r\n\x07\x9b\xc2\xe2\x80\xaex".as_slice()), 0..60),
            cut in 0usize..60,
        ) {
            let (one, two) = output.split_at(cut.min(output.len()));
            let shown = shown(&[one, two]);
            let mut rest = shown.as_str();
            while let Some(at) = rest.find(moves_the_cursor) {
                let (_, from) = rest.split_at(at);
                let Sequence::Color(color) = sequence(from.as_bytes()) else { panic!("{shown:?}") };
                rest = &from[color.len()..];
            }
        }

        #[test]
        fn a_json_document_means_the_same_afterwards(text in "\\PC{0,20}[\u{7f}-\u{9f}\u{200e}\u{202e}\u{2066}\u{2028}]{0,3}.{0,20}") {
            let document = serde_json::to_string_pretty(&serde_json::json!({"key": text, text.clone(): 1})).unwrap();
            let scrubbed = json(&document);
            proptest::prop_assert!(!scrubbed.contains(moves_the_cursor), "{scrubbed:?}");
            proptest::prop_assert!(!scrubbed.contains(['\u{2028}', '\u{2029}']), "{scrubbed:?}");
            let (one, two): (serde_json::Value, serde_json::Value) =
                (serde_json::from_str(&document).unwrap(), serde_json::from_str(&scrubbed).unwrap());
            proptest::prop_assert_eq!(one, two);
        }
    }
}
