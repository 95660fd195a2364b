//! Takes secrets out of a stream of bytes, also where a secret is split over two reads.
//!
//! Works on exact values; an encoded or altered secret is not found. Nothing is held back but the bytes at the end
//! that may be the beginning of a secret.

use std::sync::{Arc, OnceLock};

use aho_corasick::{AhoCorasick, MatchKind};

/// What stands in place of a secret.
pub const PLACEHOLDER: &str = "[redacted]";

/// A line of a secret of several lines is a secret by itself from this length on.
const LONG_LINE: usize = 8;

/// The values that must not be shown. What finds them is built when there is something to look through.
#[derive(Debug, Clone, Default)]
pub struct Secrets {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    values: Vec<Vec<u8>>,
    automaton: OnceLock<Option<AhoCorasick>>,
}

impl Secrets {
    /// Prepares a set of values; empty ones are left out.
    #[must_use]
    pub fn new(values: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let mut all: Vec<Vec<u8>> = Vec::new();
        for value in values {
            // A key of several lines is often printed line by line, or with other line ends.
            let lines = value.split(|b| *b == b'\n').map(<[u8]>::trim_ascii);
            all.extend(lines.filter(|line| line.len() >= LONG_LINE).map(<[u8]>::to_vec));
            if value.contains(&b'\n') {
                // As a terminal writes it.
                all.push(value.split(|b| *b == b'\n').collect::<Vec<_>>().join(b"\r\n".as_slice()));
            }
            all.push(value);
        }
        all.retain(|value| !value.is_empty());
        all.sort();
        all.dedup();
        Self { shared: Arc::new(Shared { values: all, automaton: OnceLock::new() }) }
    }

    fn automaton(&self) -> Option<&AhoCorasick> {
        let build =
            || AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(&self.shared.values).ok();
        if self.is_empty() { None } else { self.shared.automaton.get_or_init(build).as_ref() }
    }

    /// True if there is nothing to take out.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shared.values.is_empty()
    }

    /// A text without its secrets.
    #[must_use]
    pub fn redact(&self, text: &str) -> String {
        match self.automaton() {
            None => text.to_owned(),
            Some(automaton) => {
                String::from_utf8_lossy(&automaton.replace_all_bytes(
                    text.as_bytes(),
                    &vec![PLACEHOLDER.as_bytes(); self.shared.values.len()],
                ))
                .into_owned()
            }
        }
    }

    /// Bytes without their secrets.
    #[must_use]
    pub fn redact_bytes(&self, bytes: &[u8]) -> Vec<u8> {
        let mut redactor = Redactor::new(self.clone());
        let mut shown = redactor.push(bytes).into_owned();
        shown.extend(redactor.finish());
        shown
    }

    /// Where the end of `bytes` begins that may be the beginning of a secret.
    fn held_from(&self, bytes: &[u8]) -> usize {
        let longest = self.shared.values.iter().map(Vec::len).max().unwrap_or(0);
        let from = bytes.len().saturating_sub(longest.saturating_sub(1));
        (from..bytes.len())
            .find(|at| {
                let end = bytes.get(*at..).unwrap_or_default();
                self.shared.values.iter().any(|value| value.len() > end.len() && value.starts_with(end))
            })
            .unwrap_or(bytes.len())
    }
}

/// The redaction of one stream.
#[derive(Debug, Default)]
pub struct Redactor {
    secrets: Secrets,
    held: Vec<u8>,
}

impl Redactor {
    /// Starts a stream.
    #[must_use]
    pub fn new(secrets: Secrets) -> Self {
        Self { secrets, held: Vec::new() }
    }

    /// Takes what was read and gives what may be shown.
    pub fn push<'a>(&mut self, bytes: &'a [u8]) -> std::borrow::Cow<'a, [u8]> {
        let secrets = self.secrets.clone();
        let Some(automaton) = secrets.automaton() else { return bytes.into() };
        if self.held.is_empty() && self.secrets.held_from(bytes) == bytes.len() && !automaton.is_match(bytes)
        {
            return bytes.into();
        }
        self.held.extend_from_slice(bytes);
        let buffer = std::mem::take(&mut self.held);
        let hold = self.secrets.held_from(&buffer);
        let (shown, rest) = take_out(automaton, &buffer, hold);
        self.held = rest.to_vec();
        shown.into()
    }

    /// Gives what was held back, at the end of the stream.
    pub fn finish(&mut self) -> Vec<u8> {
        let buffer = std::mem::take(&mut self.held);
        if buffer.is_empty() {
            return buffer;
        }
        match self.secrets.automaton() {
            Some(automaton) => take_out(automaton, &buffer, buffer.len()).0,
            None => buffer,
        }
    }
}

/// What may be shown of `buffer` up to `hold`, and what is kept for later.
fn take_out<'b>(automaton: &AhoCorasick, buffer: &'b [u8], hold: usize) -> (Vec<u8>, &'b [u8]) {
    let mut shown = Vec::with_capacity(buffer.len());
    let mut at = 0;
    for found in automaton.find_iter(buffer) {
        // It may be the beginning of a longer secret.
        if found.start() >= hold {
            break;
        }
        shown.extend_from_slice(buffer.get(at..found.start()).unwrap_or_default());
        shown.extend_from_slice(PLACEHOLDER.as_bytes());
        at = found.end();
    }
    let end = hold.max(at);
    shown.extend_from_slice(buffer.get(at..end).unwrap_or_default());
    (shown, buffer.get(end..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redact_in_pieces(secrets: &[&str], text: &str, piece: usize) -> String {
        let secrets = Secrets::new(secrets.iter().map(|s| s.as_bytes().to_vec()));
        let mut redactor = Redactor::new(secrets);
        let mut shown = Vec::new();
        for bytes in text.as_bytes().chunks(piece) {
            shown.extend_from_slice(&redactor.push(bytes));
        }
        shown.extend(redactor.finish());
        String::from_utf8(shown).unwrap()
    }

    #[test]
    fn a_secret_split_over_reads_of_any_size_is_taken_out() {
        let text = "start sk-12345 middle sk-12345sk-12345 end sk-1234";
        let want = "start [redacted] middle [redacted][redacted] end sk-1234";
        for piece in 1..=text.len() {
            assert_eq!(redact_in_pieces(&["sk-12345"], text, piece), want, "pieces of {piece}");
        }
    }

    #[test]
    fn of_two_secrets_with_one_beginning_the_longer_is_taken_out_whole() {
        for piece in 1..=20 {
            assert_eq!(
                redact_in_pieces(&["abcd", "abcdefgh"], "x abcdefgh y abcd z", piece),
                "x [redacted] y [redacted] z"
            );
        }
    }

    #[test]
    fn what_is_no_secret_is_shown_at_once() {
        let mut redactor = Redactor::new(Secrets::new([b"secret".to_vec()]));
        assert_eq!(&*redactor.push(b"password: "), b"password: ");
        assert_eq!(&*redactor.push(b"is"), b"i");
        assert_eq!(&*redactor.push(b"x"), b"sx");
    }

    #[test]
    fn the_lines_of_a_long_key_are_secrets_too() {
        let key = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0\nabc\n-----END KEY-----";
        let shown = redact_in_pieces(&[key], "a MIIEvQIBADANBgkqhkiG9w0\r\nabc b", 7);
        assert_eq!(shown, "a [redacted]\r\nabc b");
    }
}
