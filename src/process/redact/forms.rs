//! The forms in which a value can stand in a text: as it is, inside a JSON string, in a URL, in base64, and those of `quoted`
//! (shells, XML and HTML, Python, hexadecimal).
//!
//! Pure. Not responsible for finding them. The encodings are our own because only parts of an encoded text are wanted, in
//! the dialects of several writers. What is not found: a value that is encoded twice (but for JSON in JSON, and JSON in
//! base64), compressed, encrypted, hashed, reversed or cut into pieces; escaped as octal, as numbers of characters in markup
//! (`&#112;`, `&#x22;`), as in Ruby (`\#{`) or Java properties (`\:`, `\=`), or by `re.escape`; in quoted-printable, base32 or
//! base85; in a hexadecimal dump with anything but line breaks between its bytes (`xxd`, `hexdump -C`, `aa:bb`); in another
//! character set (UTF-16) or with other letters (in capitals, normalized).

use super::quoted;

/// A line of a value of several lines counts by itself from this length on.
const LONG_LINE: usize = 8;

/// The base64 of a shorter value is as short as a word and would take ordinary text apart.
const SHORTEST_IN_BASE64: usize = 8;

/// So much of a form stands unbroken where it is found.
pub const UNBROKEN: usize = 10;

/// So many bytes of values are looked for in all forms, with `OVERHEAD` for each value or line: the forms of a job file full of
/// secrets would take hundreds of megabytes.
const MOST_IN_ALL_FORMS: usize = 256 << 10;

/// About what a short value takes beside its bytes.
const OVERHEAD: usize = 64;

/// One form of a value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Form {
    /// What stands in the text.
    pub bytes: Vec<u8>,
    /// Where it may be broken.
    pub lines: Lines,
}

/// Whether a form may go over several lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lines {
    /// It stands in the text exactly as it is.
    One,
    /// Line breaks may stand between any two characters: `base64` and `openssl` wrap what they write.
    Several,
}

/// All forms of all values, each once, in order. Beyond `MOST_IN_ALL_FORMS` a value is looked for as it is.
#[must_use]
pub fn forms<'v>(values: impl IntoIterator<Item = &'v Vec<u8>>) -> Vec<Form> {
    let mut all = Vec::new();
    let mut left = MOST_IN_ALL_FORMS;
    let mut add = |value: &[u8]| match left.checked_sub(value.len() + OVERHEAD) {
        Some(rest) => {
            left = rest;
            let mut forms = Vec::new();
            of_one(value, &mut forms);
            // Most writers agree: only what differs is kept.
            forms.sort();
            forms.dedup();
            all.append(&mut forms);
        }
        None => all.push(Form { bytes: value.to_vec(), lines: Lines::One }),
    };
    let mut values: Vec<&Vec<u8>> = values.into_iter().collect();
    // One large value does not take the place of many keys.
    values.sort_by_key(|value| value.len());
    for value in values {
        let lines: Vec<&[u8]> = value.split(|b| *b == b'\n').collect();
        // A key of several lines is often printed line by line, or with other line ends.
        let long = lines.iter().map(|line| line.trim_ascii()).filter(|line| line.len() >= LONG_LINE);
        long.for_each(&mut add);
        if lines.len() > 1 {
            // As a terminal writes it.
            add(&lines.join(b"\r\n".as_slice()));
        }
        add(value);
    }
    all.retain(|form| !form.bytes.is_empty());
    all.sort();
    all.dedup();
    all
}

fn of_one(value: &[u8], all: &mut Vec<Form>) {
    let plain = |bytes: Vec<u8>| Form { bytes, lines: Lines::One };
    all.push(plain(value.to_vec()));
    quoted::in_hex(value, all);
    in_base64(value, all);
    // Most keys and tokens: every writer leaves them as they are.
    if value.iter().all(|byte| is_unreserved(*byte)) {
        return;
    }
    let json = in_json(value);
    // In a JSON document that is encoded as a whole, as in a token, the value stands as JSON has it.
    if let Some(text) = json.first().filter(|text| text.as_slice() != value) {
        in_base64(text, all);
    }
    all.extend(json.into_iter().map(plain));
    all.extend(in_urls(value).map(plain));
    all.extend(quoted::forms(value).map(plain));
}

/// What a writer of JSON writes as escapes beside what must be escaped.
struct Dialect {
    /// ASCII characters written as `\uXXXX`.
    as_units: &'static str,
    non_ascii: Escaped,
    slash: Escaped,
    hex: Hex,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Escaped {
    Yes,
    No,
}

#[derive(Clone, Copy)]
enum Hex {
    Lower,
    Upper,
}

/// The first two are met inside each other as well.
const DIALECTS: [Dialect; 5] = [
    // JavaScript, serde, jq.
    Dialect { as_units: "", non_ascii: Escaped::No, slash: Escaped::No, hex: Hex::Lower },
    // Python.
    Dialect { as_units: "", non_ascii: Escaped::Yes, slash: Escaped::No, hex: Hex::Lower },
    // Go, Rails.
    Dialect { as_units: "<>&", non_ascii: Escaped::No, slash: Escaped::No, hex: Hex::Lower },
    // PHP.
    Dialect { as_units: "", non_ascii: Escaped::Yes, slash: Escaped::Yes, hex: Hex::Lower },
    // .NET.
    Dialect { as_units: "\"&'+<>`", non_ascii: Escaped::Yes, slash: Escaped::No, hex: Hex::Upper },
];

/// A value inside a JSON string, and inside a JSON string in a JSON string; the commonest form first. None for what is no
/// text.
fn in_json(value: &[u8]) -> Vec<Vec<u8>> {
    let Ok(text) = std::str::from_utf8(value) else { return Vec::new() };
    let mut found: Vec<String> = DIALECTS.iter().map(|dialect| escaped(text, dialect)).collect();
    for inner in DIALECTS.iter().take(2) {
        let once = escaped(text, inner);
        found.extend(DIALECTS.iter().take(2).map(|outer| escaped(&once, outer)));
    }
    found.into_iter().map(String::into_bytes).collect()
}

fn escaped(text: &str, dialect: &Dialect) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        let as_units = dialect.as_units.contains(c) || !c.is_ascii() && dialect.non_ascii == Escaped::Yes;
        match c {
            _ if as_units => push_units(&mut escaped, c, dialect.hex),
            '"' => escaped.push_str("\\\""),
            '\\' => escaped.push_str("\\\\"),
            '/' if dialect.slash == Escaped::Yes => escaped.push_str("\\/"),
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\t' => escaped.push_str("\\t"),
            '\u{8}' => escaped.push_str("\\b"),
            '\u{c}' => escaped.push_str("\\f"),
            '\0'..='\u{1f}' => push_units(&mut escaped, c, dialect.hex),
            _ => escaped.push(c),
        }
    }
    escaped
}

fn push_units(escaped: &mut String, c: char, hex: Hex) {
    for unit in c.encode_utf16(&mut [0; 2]) {
        escaped.push_str(&match hex {
            Hex::Lower => format!("\\u{unit:04x}"),
            Hex::Upper => format!("\\u{unit:04X}"),
        });
    }
}

/// What different writers leave as it is in a URL, beside letters, digits and `-._~`: RFC 3986, Python's `quote`,
/// JavaScript's `encodeURIComponent` and `encodeURI`.
const KEPT_IN_URLS: [&[u8]; 4] = [b"", b"/", b"!*'()", b"!*'();/?:@&=+$,#"];

/// A value in a URL, or in the body of a form.
fn in_urls(value: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let forms = KEPT_IN_URLS.iter().flat_map(|kept| [(*kept, " "), (*kept, "+")]);
    forms.flat_map(|(kept, space)| {
        [Hex::Lower, Hex::Upper].map(|hex| percent_encoded(value, kept, space == "+", hex))
    })
}

/// What no writer of URLs, JSON, markup or programs changes.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

fn percent_encoded(value: &[u8], kept: &[u8], plus_for_space: bool, hex: Hex) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(value.len());
    for byte in value {
        match byte {
            b' ' if plus_for_space => encoded.push(b'+'),
            _ if is_unreserved(*byte) || kept.contains(byte) => encoded.push(*byte),
            _ => encoded.extend(
                match hex {
                    Hex::Lower => format!("%{byte:02x}"),
                    Hex::Upper => format!("%{byte:02X}"),
                }
                .bytes(),
            ),
        }
    }
    encoded
}

/// The characters that every base64 of a text with this value in it has: three alignments, two alphabets. The characters
/// at the ends that depend on the neighbours too are not among them.
fn in_base64(value: &[u8], all: &mut Vec<Form>) {
    if value.len() < SHORTEST_IN_BASE64 {
        return;
    }
    for before in 0..3 {
        for symbols in [b"+/", b"-_"] {
            quoted::over_lines(base64_core(value, before, *symbols), all);
        }
    }
}

/// `before`: how many bytes of a group of three stand in front of the value.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(value: &str) -> Vec<String> {
        let forms = forms([&value.as_bytes().to_vec()]);
        forms.into_iter().map(|form| String::from_utf8(form.bytes).unwrap()).collect()
    }

    #[track_caller]
    fn has(value: &str, wanted: &[&str]) {
        let texts = texts(value);
        for want in wanted {
            assert!(texts.iter().any(|text| text == want), "{want} of {value:?} in {texts:#?}");
        }
    }

    #[test]
    fn a_plain_short_value_is_written_as_it_is_or_in_hexadecimal() {
        assert_eq!(texts("hunter2"), ["68756E74657232", "68756e74657232", "hunter2"]);
    }

    #[test]
    fn of_very_many_or_very_large_values_all_are_found_as_they_are_and_the_shortest_in_all_forms() {
        let many: Vec<Vec<u8>> = (0..30_000).map(|n| format!("a\"b$'{n:05}:/=x y").into_bytes()).collect();
        let lines: Vec<String> = (0..100_000).map(|n| format!("line{n:05}\"")).collect();
        for mut values in [many, vec![lines.join("\n").into_bytes()]] {
            values.push(b"pa\"ss".to_vec());
            let forms = forms(&values);
            assert!(forms.len() < 30_000 + 100_000 + 200_000, "{}", forms.len());
            let has = |bytes: &[u8]| forms.binary_search_by(|form| form.bytes.as_slice().cmp(bytes)).is_ok();
            assert!(values.iter().all(|value| has(value)) && has(br#"pa\"ss"#));
        }
    }

    #[test]
    fn base64_has_the_characters_that_depend_on_the_value_alone() {
        // `printf hunter22 | base64`, and with one and two bytes in front.
        has("hunter22", &["aHVudGVyMj", "h1bnRlcjIy", "odW50ZXIyM"]);
        // Four of 10 characters or more: 8 bytes are 64 bits.
        let is_hex = |text: &String| text.bytes().all(|b| b.is_ascii_hexdigit());
        assert!(texts("hunter22").iter().all(|text| text == "hunter22" || text.len() == 10 || is_hex(text)));
        has("\u{3ff}\u{3ff}\u{3ff}\u{3ff}???>>>", &["z7_Pv8-_z78_Pz8-Pj", "z7/Pv8+/z78/Pz8+Pj"]);
    }

    #[test]
    fn json_is_escaped_as_several_writers_do_it() {
        has(
            "a\"b\\c\n\u{1b}/ä<😀",
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
    }

    #[test]
    fn urls_are_encoded_as_several_writers_do_it() {
        has(
            "p/w d!ä",
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
    fn what_serde_writes_is_among_the_forms_of_any_text() {
        for value in ["\u{0}\u{7f}\u{2028}x", "tab\there", "quote\"", "back\\slash", "\u{8}\u{c}\r\n"] {
            let once = serde_json::to_string(value).unwrap();
            let twice = serde_json::to_string(&once[1..once.len() - 1]).unwrap();
            has(value, &[&once[1..once.len() - 1], &twice[1..twice.len() - 1]]);
        }
    }
}
