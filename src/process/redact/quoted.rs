//! The forms in which shells, Python, XML, tables and hexadecimal dumps write a value.
//!
//! Pure. Of each what its common writers do; quotes around the whole are no part of a form.

use super::forms::{Form, Lines, UNBROKEN};

/// What is written in place of a byte.
type Replacements = [(u8, &'static str)];

/// In quotes of a shell: `bash -x`, `printf %q` of zsh, Python's `shlex`, and double quotes as in `export -p`.
const IN_SHELL_QUOTES: [&Replacements; 3] = [
    &[(b'\'', "'\\''")],
    &[(b'\'', "'\"'\"'")],
    &[(b'"', "\\\""), (b'$', "\\$"), (b'`', "\\`"), (b'\\', "\\\\")],
];

/// Written twice where it would end the value: YAML and SQL, CSV, and `$` in files of compose and make.
const DOUBLED: [&Replacements; 3] = [&[(b'\'', "''")], &[(b'"', "\"\"")], &[(b'$', "$$")]];

/// What `printf %q` of bash writes with a backslash before it.
const SPECIAL_IN_SHELLS: &[u8] = b" !\"$&'()*,;<>?[\\]^`{|}";

/// In XML and HTML. Writers agree on the first three alone; of the others they do all or none.
const IN_MARKUP: [&Replacements; 7] = [
    &[AND, LESS, GREATER],
    &[AND, LESS],
    &[AND, LESS, GREATER, QUOTE, (b'\n', "&#10;"), (b'\r', "&#13;"), (b'\t', "&#09;")],
    &[AND, LESS, GREATER, QUOTE, (b'\'', "&#x27;")],
    &[AND, LESS, GREATER, QUOTE, (b'\'', "&#39;")],
    &[AND, LESS, GREATER, QUOTE, (b'\'', "&apos;")],
    &[AND, LESS, GREATER, (b'"', "&#34;"), (b'\'', "&#39;")],
];

const AND: (u8, &str) = (b'&', "&amp;");
const LESS: (u8, &str) = (b'<', "&lt;");
const GREATER: (u8, &str) = (b'>', "&gt;");
const QUOTE: (u8, &str) = (b'"', "&quot;");

/// How a literal writes what is not ASCII.
#[derive(Clone, Copy, PartialEq, Eq)]
enum NonAscii {
    /// As it is: `repr` of a text, `$'…'` of bash.
    Kept,
    /// As code points: `ascii` of Python.
    CodePoints,
    /// As bytes: `repr` of bytes.
    Bytes,
}

/// The forms of a value in shells, markup and literals; each may be the value itself.
pub fn forms(value: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let replacements = IN_SHELL_QUOTES.iter().chain(&DOUBLED).chain(&IN_MARKUP);
    let replaced = replacements.map(|replacements| replaced(value, replacements));
    let literals =
        [NonAscii::Kept, NonAscii::CodePoints, NonAscii::Bytes].into_iter().flat_map(|non_ascii| {
            // A literal in double quotes has single ones in it as they are.
            [Some('\''), None].map(|quote| in_literal(value, quote, non_ascii).into_bytes())
        });
    replaced.chain([with_backslashes(value)]).chain(literals)
}

fn replaced(value: &[u8], replacements: &Replacements) -> Vec<u8> {
    let mut written = Vec::with_capacity(value.len());
    for byte in value {
        match replacements.iter().find(|(replaced, _)| replaced == byte) {
            Some((_, with)) => written.extend_from_slice(with.as_bytes()),
            None => written.push(*byte),
        }
    }
    written
}

fn with_backslashes(value: &[u8]) -> Vec<u8> {
    let mut written = Vec::with_capacity(value.len());
    for byte in value {
        if SPECIAL_IN_SHELLS.contains(byte) {
            written.push(b'\\');
        }
        written.push(*byte);
    }
    written
}

/// In a literal of Python.
fn in_literal(value: &[u8], quote: Option<char>, non_ascii: NonAscii) -> String {
    let mut written = String::with_capacity(value.len());
    for chunk in value.utf8_chunks() {
        chunk.valid().chars().for_each(|c| push_in_literal(&mut written, c, quote, non_ascii));
        chunk.invalid().iter().for_each(|byte| written.push_str(&format!("\\x{byte:02x}")));
    }
    written
}

fn push_in_literal(written: &mut String, c: char, quote: Option<char>, non_ascii: NonAscii) {
    let point = u32::from(c);
    match c {
        '\\' => written.push_str("\\\\"),
        '\n' => written.push_str("\\n"),
        '\r' => written.push_str("\\r"),
        '\t' => written.push_str("\\t"),
        c if Some(c) == quote => written.extend(['\\', c]),
        ' '..='~' => written.push(c),
        _ if non_ascii == NonAscii::Bytes => {
            c.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| written.push_str(&format!("\\x{byte:02x}")));
        }
        c if non_ascii == NonAscii::Kept && !c.is_control() => written.push(c),
        _ if point < 0x100 => written.push_str(&format!("\\x{point:02x}")),
        _ if point < 0x1_0000 => written.push_str(&format!("\\u{point:04x}")),
        _ => written.push_str(&format!("\\U{point:08x}")),
    }
}

/// Adds a value as `xxd -p` and `hex()` write it, without anything between the bytes but line breaks.
pub fn in_hex(value: &[u8], all: &mut Vec<Form>) {
    let lower: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
    for digits in [lower.to_ascii_uppercase(), lower] {
        over_lines(digits.into_bytes(), all);
    }
}

/// Adds a form that may go over several lines.
pub fn over_lines(bytes: Vec<u8>, all: &mut Vec<Form>) {
    // Where a line ends within its first characters, the rest is found.
    if let Some(rest) = bytes.get(UNBROKEN..).filter(|rest| rest.len() >= UNBROKEN) {
        all.push(Form { bytes: rest.to_vec(), lines: Lines::Several });
    }
    all.push(Form { bytes, lines: Lines::Several });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn has(value: &[u8], wanted: &[&str]) {
        let mut all: Vec<Form> = forms(value).map(|bytes| Form { bytes, lines: Lines::One }).collect();
        in_hex(value, &mut all);
        let text = |form: &Form| String::from_utf8_lossy(&form.bytes).into_owned();
        let texts: Vec<String> = all.iter().map(text).collect();
        for want in wanted {
            assert!(texts.iter().any(|text| text == want), "{want} in {texts:#?}");
        }
    }

    #[test]
    fn shells_quote_a_value_in_four_ways() {
        has(
            b"pa'ss\"w&<rd$x9\\Zq7",
            &[
                r#"pa'\''ss"w&<rd$x9\Zq7"#,
                r#"pa'"'"'ss"w&<rd$x9\Zq7"#,
                r#"pa'ss\"w&<rd\$x9\\Zq7"#,
                r#"pa\'ss\"w\&\<rd\$x9\\Zq7"#,
            ],
        );
    }

    #[test]
    fn quotes_and_dollars_are_doubled() {
        has(b"pa's\"w$d", &["pa''s\"w$d", "pa's\"\"w$d", "pa's\"w$$d"]);
    }

    #[test]
    fn markup_is_escaped_as_several_writers_do_it() {
        has(
            b"a'b\"c&d<e>f",
            &[
                "a'b\"c&amp;d&lt;e&gt;f",
                "a'b\"c&amp;d&lt;e>f",
                "a'b&quot;c&amp;d&lt;e&gt;f",
                "a&#x27;b&quot;c&amp;d&lt;e&gt;f",
                "a&#39;b&quot;c&amp;d&lt;e&gt;f",
                "a&apos;b&quot;c&amp;d&lt;e&gt;f",
                "a&#39;b&#34;c&amp;d&lt;e&gt;f",
            ],
        );
    }

    #[test]
    fn literals_of_python_are_those_of_texts_and_of_bytes() {
        has("a'b\n\\\u{1b}ä😀".as_bytes(), &["a\\'b\\n\\\\\\x1bä😀", "a'b\\n\\\\\\x1bä😀"]);
        has(
            "a'ä€😀\u{7f}".as_bytes(),
            &["a\\'\\xe4\\u20ac\\U0001f600\\x7f", "a'\\xc3\\xa4\\xe2\\x82\\xac\\xf0\\x9f\\x98\\x80\\x7f"],
        );
        has(b"ab\xff\x00", &["ab\\xff\\x00"]);
    }

    #[test]
    fn hexadecimal_digits_are_large_or_small() {
        has(b"key/\xff9", &["6b65792fff39", "6B65792FFF39"]);
    }
}
