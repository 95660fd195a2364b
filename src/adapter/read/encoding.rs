//! The text of a test report: by its byte order mark, else by what its XML declaration says, else UTF-8.
//!
//! Never fails: what no encoding explains becomes U+FFFD. A report is judged by its elements, and those are ASCII.

use std::borrow::Cow;

use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE};

/// Where an XML declaration ends at the latest.
const DECLARATION: usize = 1024;

/// Decodes a report.
#[must_use]
pub(super) fn decode(bytes: &[u8]) -> Cow<'_, str> {
    let (encoding, mark) = Encoding::for_bom(bytes).unwrap_or_else(|| (without_mark(bytes), 0));
    encoding.decode_without_bom_handling(bytes.get(mark..).unwrap_or_default()).0
}

fn without_mark(bytes: &[u8]) -> &'static Encoding {
    match bytes {
        [b'<', 0, ..] => UTF_16LE,
        [0, b'<', ..] => UTF_16BE,
        _ => declared(bytes).unwrap_or(UTF_8),
    }
}

/// The encoding that the XML declaration names. It was read as ASCII, so one that is not like ASCII is a mistake of the writer.
fn declared(bytes: &[u8]) -> Option<&'static Encoding> {
    let head = bytes.get(..bytes.len().min(DECLARATION))?.trim_ascii_start();
    let head = head.strip_prefix(b"<?xml")?;
    let head = String::from_utf8_lossy(head.get(..memchr::memmem::find(head, b"?>")?)?);
    let (_, value) = head.split_once("encoding")?;
    let value = value.trim_start().strip_prefix('=')?.trim_start();
    let quote = value.chars().next().filter(|quote| matches!(quote, '"' | '\''))?;
    let (label, _) = value.get(1..)?.split_once(quote)?;
    Encoding::for_label(label.as_bytes()).filter(|encoding| encoding.is_ascii_compatible())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read_in_the_encoding_that_it_declares() {
        let utf_16 =
            |text: &str, bytes: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(bytes).collect::<Vec<u8>>();
        let cases: [(Vec<u8>, &str); 12] = [
            (b"<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?>gr\xFC\xDFe".to_vec(), "grüße"),
            (b"\n<?xml version='1.0' encoding = 'windows-1252' ?>\x93q\x94".to_vec(), "“q”"),
            (b"<?xml version=\"1.0\" encoding=\"Shift_JIS\"?>\x93\xFA\x96\x7B".to_vec(), "日本"),
            (b"<?xml version=\"1.0\" encoding=\"GB2312\"?>\xC4\xE3".to_vec(), "你"),
            (b"<?xml version=\"1.0\" encoding=\"KOI8-R\"?>\xC4\xC1".to_vec(), "да"),
            ([&b"\xEF\xBB\xBF"[..], "ä".as_bytes()].concat(), "ä"),
            (utf_16("\u{feff}<ä", u16::to_le_bytes), "<ä"),
            (utf_16("\u{feff}<ä", u16::to_be_bytes), "<ä"),
            (utf_16("<ä", u16::to_le_bytes), "<ä"),
            // What PowerShell writes: it says UTF-16 and is not.
            ([&b"<?xml version=\"1.0\" encoding=\"utf-16\"?>"[..], "ä".as_bytes()].concat(), "ä"),
            ([&b"<?xml version=\"1.0\" encoding=\"no-such\"?>"[..], "ä".as_bytes()].concat(), "ä"),
            (b"<a>\xFF\x00</a>".to_vec(), "<a>\u{fffd}\0</a>"),
        ];
        for (bytes, want) in cases {
            let text = decode(&bytes);
            assert!(text.ends_with(want), "{text:?}, not {want:?}");
        }
    }
}
