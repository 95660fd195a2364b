//! The forms in which a value can appear in a text: written out, where each character has several spellings, or encoded as a
//! whole, in base64 or hexadecimal digits.
//!
//! Pure. Not responsible for finding them. ADR 19 lists what the search finds and misses.

use std::collections::BTreeSet;

/// No form is shorter.
pub(super) const SHORTEST: usize = 4;

/// A line of a value of several lines counts by itself from this length on.
const LONG_LINE: usize = 8;

/// The base64 of a shorter value is as short as a word and would take ordinary text apart.
const SHORTEST_IN_BASE64: usize = 8;

/// The rest of an encoded form counts by itself from this length on.
const SHORTEST_REST: usize = 10;

/// So many bytes of values are looked for encoded as well, with `OVERHEAD` for each value or line: a job file full of secrets
/// would take hundreds of megabytes.
const MOST_ENCODED: usize = 256 << 10;

/// About what a short value takes beside its bytes.
const OVERHEAD: usize = 64;

/// One form of a value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Form {
    /// The characters, each as it is.
    pub bytes: Vec<u8>,
    /// What may take their place.
    pub kind: Kind,
}

/// How the characters of a form may differ from what they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Each may be spelled as any writer does it.
    Written,
    /// Line breaks may separate any two: `base64` and `openssl` wrap what they write.
    Encoded,
}

/// All forms of all values, each once, in order. Beyond `MOST_ENCODED` a value is looked for written out only.
#[must_use]
pub(super) fn forms(values: &[Vec<u8>]) -> Vec<Form> {
    let mut all = Vec::new();
    let mut left = MOST_ENCODED;
    let mut values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
    // One large value does not take the place of many keys.
    values.sort_by_key(|value| value.len());
    for value in values {
        // A key of several lines is often printed line by line.
        let lines = value.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        for part in lines.filter(|line| line.len() >= LONG_LINE).chain([value]) {
            all.push(Form { bytes: part.to_vec(), kind: Kind::Written });
            if let Some(rest) = left.checked_sub(part.len() + OVERHEAD) {
                left = rest;
                add_encoded(part, &mut all);
            }
        }
    }
    all.sort();
    all.dedup();
    all
}

fn add_encoded(value: &[u8], all: &mut Vec<Form>) {
    let lower: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut encoded = vec![lower.to_ascii_uppercase().into_bytes(), lower.into_bytes()];
    encoded.extend(in_base64(value));
    // In a JSON document that is encoded as a whole, as in a token, the value appears as JSON writes it.
    encoded.extend(str::from_utf8(value).iter().flat_map(|text| in_base64(in_json(text).as_bytes())));
    for bytes in encoded {
        // Where a line ends within the first characters, by which a form is recognised, the rest is found.
        let rest = bytes.get(SHORTEST..).filter(|rest| rest.len() >= SHORTEST_REST).map(<[u8]>::to_vec);
        all.extend(rest.into_iter().chain([bytes]).map(|bytes| Form { bytes, kind: Kind::Encoded }));
    }
}

/// The characters that every base64 of a text with this value in it has: three alignments, two alphabets. The characters
/// at the ends that depend on the neighbours too are not among them.
fn in_base64(value: &[u8]) -> Vec<Vec<u8>> {
    if value.len() < SHORTEST_IN_BASE64 {
        return Vec::new();
    }
    let cores = (0..3).flat_map(|before| [*b"+/", *b"-_"].map(|symbols| base64_core(value, before, symbols)));
    cores.collect()
}

/// `before`: how many bytes of a group of three precede the value.
fn base64_core(value: &[u8], before: usize, symbols: [u8; 2]) -> Vec<u8> {
    let byte = |at: usize| at.checked_sub(before).and_then(|at| value.get(at)).map_or(0, |b| u16::from(*b));
    let first = (before * 8).div_ceil(6);
    let end = (before + value.len()) * 8 / 6;
    let sextet = |at: usize| {
        let bit = at * 6;
        let pair = byte(bit / 8) << 8 | byte(bit / 8 + 1);
        (pair >> (10 - bit % 8) & 0x3F) as u8
    };
    (first..end).map(|at| base64_letter(sextet(at), symbols)).collect()
}

fn base64_letter(sextet: u8, [plus, slash]: [u8; 2]) -> u8 {
    match sextet {
        0..=25 => b'A' + sextet,
        26..=51 => b'a' + (sextet - 26),
        52..=61 => b'0' + (sextet - 52),
        62 => plus,
        _ => slash,
    }
}

/// What no writer changes. Most keys and tokens have nothing else in them.
pub(super) fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// The characters of a value, and the bytes that are none.
pub(super) fn characters(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.utf8_chunks().flat_map(|chunk| {
        let valid = chunk.valid().split_inclusive(|_| true).map(str::as_bytes);
        valid.chain(chunk.invalid().chunks(1))
    })
}

/// What a writer puts in place of a character beside what `spellings` derives from its number: forms of the web, the end of
/// a line on a terminal, quotes of a shell (`bash -x`, Python's `shlex`), what is doubled in YAML, SQL, CSV and makefiles,
/// and names in XML and HTML.
const REPLACED: [(char, &str); 12] = [
    (' ', "+"),
    ('\n', "\r\n"),
    ('\'', "'\\''"),
    ('\'', "'\"'\"'"),
    ('\'', "''"),
    ('"', "\"\""),
    ('$', "$$"),
    ('&', "&amp;"),
    ('<', "&lt;"),
    ('>', "&gt;"),
    ('"', "&quot;"),
    ('\'', "&apos;"),
];

/// How writers spell a character, or a byte that is none: as it is, in URLs, JSON, literals, shells, XML and HTML, and each
/// of these inside a JSON string.
pub(super) fn spellings(character: &[u8]) -> BTreeSet<Vec<u8>> {
    if let [byte] = character
        && is_plain(*byte)
    {
        return BTreeSet::from([character.to_vec()]);
    }
    let each = |spelled: fn(&u8) -> String| character.iter().map(spelled).collect::<String>();
    let mut written = vec![
        each(|byte| format!("%{byte:02X}")),
        each(|byte| format!("%{byte:02x}")),
        each(|byte| format!("\\x{byte:02x}")),
        each(|byte| format!("\\{byte:03o}")),
    ];
    let text = str::from_utf8(character).unwrap_or_default();
    text.chars().for_each(|c| add_spellings(c, &mut written));
    let nested: Vec<String> = written.iter().map(|spelling| in_json(spelling)).collect();
    let all = written.into_iter().chain(nested).map(String::into_bytes);
    all.chain([character.to_vec()]).collect()
}

fn add_spellings(c: char, written: &mut Vec<String>) {
    let point = u32::from(c);
    let units = |spelled: fn(&mut u16) -> String| {
        c.encode_utf16(&mut [0; 2]).iter_mut().map(spelled).collect::<String>()
    };
    written.extend([
        in_json(c.encode_utf8(&mut [0; 4])),
        format!("\\{c}"),
        units(|unit| format!("\\u{unit:04x}")),
        units(|unit| format!("\\u{unit:04X}")),
        format!("\\x{point:02x}"),
        format!("\\U{point:08x}"),
        format!("&#{point};"),
        format!("&#{point:02};"),
        format!("&#{point:03};"),
        format!("&#x{point:x};"),
        format!("&#x{point:X};"),
    ]);
    written.extend(REPLACED.iter().filter(|(of, _)| *of == c).map(|(_, spelling)| (*spelling).to_owned()));
}

/// A text as a JSON string writes it.
fn in_json(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted.get(1..quoted.len() - 1).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::{PLACEHOLDER, Secrets};
    use super::*;

    #[track_caller]
    fn is_found(value: &[u8], written: &[&str]) {
        let secrets = Secrets::new([value.to_vec()]);
        for text in written {
            assert_eq!(secrets.redact(text), PLACEHOLDER, "{text}");
        }
    }

    fn encoded(value: &str) -> Vec<String> {
        let forms = forms(&[value.as_bytes().to_vec()]).into_iter().filter(|form| form.kind == Kind::Encoded);
        forms.map(|form| String::from_utf8(form.bytes).unwrap()).collect()
    }

    #[test]
    fn a_plain_short_value_is_written_as_it_is_or_in_hexadecimal() {
        let want = ["68756E742D7232", "68756e742d7232", "6E742D7232", "6e742d7232"];
        assert_eq!(encoded("hunt-r2"), want);
    }

    #[test]
    fn of_very_many_or_very_large_values_all_are_found_written_out_and_the_shortest_encoded() {
        let many: Vec<Vec<u8>> = (0..30_000).map(|n| format!("a\"b$'{n:05}:/=x y").into_bytes()).collect();
        let lines: Vec<String> = (0..100_000).map(|n| format!("line{n:05}\"")).collect();
        for mut values in [many, vec![lines.join("\n").into_bytes()]] {
            values.push(b"pa\"ss".to_vec());
            let forms = forms(&values);
            assert!(forms.len() < 30_000 + 100_000 + 200_000, "{}", forms.len());
            let has = |bytes: &[u8]| forms.binary_search_by(|form| form.bytes.as_slice().cmp(bytes)).is_ok();
            assert!(values.iter().all(|value| has(value)) && has(b"7061227373"));
        }
    }

    #[test]
    fn base64_has_the_characters_that_depend_on_the_value_alone() {
        // `printf hunter22 | base64`, and with one and two bytes in front: 8 bytes are 64 bits, so 10 characters.
        let of_text = ["aHVudGVyMj", "h1bnRlcjIy", "odW50ZXIyM"];
        assert!(encoded("hunter22").ends_with(&of_text.map(str::to_owned)));
        let found = encoded("\u{3ff}\u{3ff}\u{3ff}\u{3ff}???>>>");
        for want in ["z7_Pv8-_z78_Pz8-Pj", "z7/Pv8+/z78/Pz8+Pj"] {
            assert!(found.iter().any(|text| text == want), "{want} in {found:#?}");
        }
        // As a JSON document that is encoded has it.
        assert!(encoded("a\"b\"c\"de").contains(&"YVwiYlwiY1wiZG".to_owned()));
    }

    #[test]
    fn json_is_escaped_as_several_writers_do_it() {
        let value = "a\"b\\c\n\u{1b}/ä<😀";
        is_found(
            value.as_bytes(),
            &[
                r#"a\"b\\c\n\u001b/ä<😀"#,
                r#"a\"b\\c\n\u001b/\u00e4<\ud83d\ude00"#,
                r#"a\"b\\c\n\u001b/ä\u003c😀"#,
                r#"a\"b\\c\n\u001b\/\u00e4<\ud83d\ude00"#,
                r"a\u0022b\\c\n\u001B/\u00E4\u003C\uD83D\uDE00",
                r#"a\\\"b\\\\c\\n\\u001b/ä<😀"#,
                r#"a\\\"b\\\\c\\n\\u001b/\\u00e4<\\ud83d\\ude00"#,
            ],
        );
        let values = ["\u{0}\u{7f}\u{2028}x", "tab\there", "quote\"", "back\\slash", "\u{8}\u{c}\r\n"];
        for value in values.into_iter().chain([value]) {
            let once = in_json(value);
            is_found(value.as_bytes(), &[&once, &in_json(&once)]);
        }
    }

    #[test]
    fn urls_are_encoded_as_several_writers_do_it() {
        is_found(
            "p/w d!ä".as_bytes(),
            &[
                "p%2Fw%20d%21%C3%A4",
                "p%2fw%20d%21%c3%a4",
                "p%2Fw+d%21%C3%A4",
                "p/w%20d%21%C3%A4",
                "p%2Fw%20d!%C3%A4",
            ],
        );
    }

    #[test]
    fn shells_quote_a_value_in_four_ways() {
        is_found(
            b"pa'ss\"w&<rd$x9\\Zq7",
            &[
                r#"pa'\''ss"w&<rd$x9\Zq7"#,
                r#"pa'"'"'ss"w&<rd$x9\Zq7"#,
                r#"pa'ss\"w&<rd\$x9\\Zq7"#,
                r#"pa\'ss\"w\&\<rd\$x9\\Zq7"#,
            ],
        );
        is_found("a\u{1b}ä9".as_bytes(), &["a\\033\\303\\2449"]);
    }

    #[test]
    fn quotes_and_dollars_are_doubled() {
        is_found(b"pa's\"w$d", &["pa''s\"w$d", "pa's\"\"w$d", "pa's\"w$$d"]);
    }

    #[test]
    fn markup_is_escaped_as_several_writers_do_it() {
        is_found(
            b"a'b\"c&d<e>f\tg",
            &[
                "a'b\"c&amp;d&lt;e&gt;f\tg",
                "a'b\"c&amp;d&lt;e>f\tg",
                "a'b&quot;c&amp;d&lt;e&gt;f&#09;g",
                "a&#x27;b&quot;c&amp;d&lt;e&gt;f&#9;g",
                "a&#39;b&quot;c&amp;d&lt;e&gt;f\tg",
                "a&#039;b&quot;c&amp;d&lt;e&gt;f\tg",
                "a&apos;b&quot;c&amp;d&lt;e&gt;f&#x9;g",
                "a&#39;b&#34;c&amp;d&lt;e&gt;f\tg",
            ],
        );
    }

    #[test]
    fn literals_of_python_are_those_of_texts_and_of_bytes() {
        is_found("a'b\n\\\u{1b}ä😀".as_bytes(), &["a\\'b\\n\\\\\\x1bä😀", "a'b\\n\\\\\\x1bä😀"]);
        is_found(
            "a'ä€😀\u{7f}".as_bytes(),
            &["a\\'\\xe4\\u20ac\\U0001f600\\x7f", "a'\\xc3\\xa4\\xe2\\x82\\xac\\xf0\\x9f\\x98\\x80\\x7f"],
        );
        is_found(b"ab\xff\x00", &["ab\\xff\\x00"]);
    }

    #[test]
    fn hexadecimal_digits_are_large_or_small() {
        is_found(b"key/\xff9", &["6b65792fff39", "6B65792FFF39"]);
    }
}
