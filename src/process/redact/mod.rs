//! Takes secrets out of a stream of bytes, also where a secret is split over two reads.
//!
//! Finds a value in the forms of `forms`; what was altered in another way is not found. Nothing is held back but
//! the bytes at the end that may be the beginning of a secret. Where the found places overlap, all of them go.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, OnceLock};

use finder::{Cut, Finder};

mod finder;
mod forms;

/// The replacement of a secret.
pub(crate) const PLACEHOLDER: &str = "[redacted]";

/// The values that must not be shown. What finds them is built when there is something to look through.
#[derive(Clone, Default)]
pub(crate) struct Secrets {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    values: Vec<Vec<u8>>,
    finder: OnceLock<Option<Finder>>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({})", self.shared.values.len())
    }
}

impl Secrets {
    /// Takes a set of values; those of fewer than 4 bytes are left out, for they would take ordinary text apart.
    #[must_use]
    pub(crate) fn new(values: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let values = values.into_iter().filter(|value| value.len() >= forms::SHORTEST).collect();
        Self { shared: Arc::new(Shared { values, finder: OnceLock::new() }) }
    }

    fn finder(&self) -> Option<&Finder> {
        if self.is_empty() {
            return None;
        }
        self.shared.finder.get_or_init(|| Finder::new(forms::forms(&self.shared.values))).as_ref()
    }

    /// True if there is nothing to take out.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.shared.values.is_empty()
    }

    /// A text without its secrets.
    #[must_use]
    pub(crate) fn redact(&self, text: &str) -> String {
        String::from_utf8_lossy(&self.redact_bytes(text.as_bytes())).into_owned()
    }

    /// Bytes without their secrets.
    #[must_use]
    pub(crate) fn redact_bytes(&self, bytes: &[u8]) -> Vec<u8> {
        match self.finder() {
            None => bytes.to_vec(),
            Some(finder) => take_out(finder, bytes, 0, Behind::Nothing).shown.into_owned(),
        }
    }
}

/// The redaction of one stream.
#[derive(Default)]
pub(crate) struct Redactor {
    secrets: Secrets,
    held: Vec<u8>,
    /// So many of the first bytes held belong to a secret whose place was marked already.
    hidden: usize,
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redactor").field("held", &self.held.len()).finish_non_exhaustive()
    }
}

impl Redactor {
    /// Starts a stream.
    #[must_use]
    pub(crate) fn new(secrets: Secrets) -> Self {
        Self { secrets, held: Vec::new(), hidden: 0 }
    }

    /// Takes what was read and gives what may be shown.
    pub(crate) fn push<'a>(&mut self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        let secrets = self.secrets.clone();
        let Some(finder) = secrets.finder() else { return bytes.into() };
        if self.held.is_empty() {
            let taken = take_out(finder, bytes, 0, Behind::More);
            self.hold(taken.rest, taken.hidden);
            return taken.shown;
        }
        let mut buffer = std::mem::take(&mut self.held);
        buffer.extend_from_slice(bytes);
        let taken = take_out(finder, &buffer, self.hidden, Behind::More);
        self.hold(taken.rest, taken.hidden);
        taken.shown.into_owned().into()
    }

    fn hold(&mut self, rest: &[u8], hidden: usize) {
        self.held = rest.to_vec();
        self.hidden = hidden;
    }

    /// Gives what was held back, at the end of the stream.
    pub(crate) fn finish(&mut self) -> Vec<u8> {
        let buffer = std::mem::take(&mut self.held);
        let hidden = std::mem::take(&mut self.hidden);
        match self.secrets.finder() {
            Some(finder) => take_out(finder, &buffer, hidden, Behind::Nothing).shown.into_owned(),
            None => buffer,
        }
    }
}

/// What comes behind a text.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Behind {
    More,
    Nothing,
}

/// A text that was looked through.
struct Taken<'t> {
    shown: Cow<'t, [u8]>,
    /// The end that may be the beginning of a secret.
    rest: &'t [u8],
    /// So many bytes of it belong to a secret whose place is marked.
    hidden: usize,
}

/// Takes the secrets out of `text`, of which the first `hidden` bytes belong to one that was found before.
fn take_out<'t>(finder: &Finder, text: &'t [u8], hidden: usize, behind: Behind) -> Taken<'t> {
    let mut shown = Cow::Borrowed([].as_slice());
    // Up to here the text is shown or marked.
    let mut done = hidden;
    let mut rest = text.len();
    let mut from = 0;
    while let Some(found) = finder.next(text, from) {
        if found.cut == Cut::Yes && behind == Behind::More {
            // Even if a complete secret is here: it may be the beginning of a longer one.
            rest = found.at;
            break;
        }
        // The next one may begin within this one.
        from = found.at + 1;
        if found.whole == 0 {
            continue;
        }
        if found.at >= done {
            append(&mut shown, text.get(done..found.at).unwrap_or_default());
            append(&mut shown, PLACEHOLDER.as_bytes());
        }
        done = done.max(found.at + found.whole);
    }
    append(&mut shown, text.get(done..rest).unwrap_or_default());
    Taken { shown, rest: text.get(rest..).unwrap_or_default(), hidden: done.saturating_sub(rest) }
}

fn append<'t>(shown: &mut Cow<'t, [u8]>, piece: &'t [u8]) {
    if shown.is_empty() {
        *shown = Cow::Borrowed(piece);
    } else if !piece.is_empty() {
        shown.to_mut().extend_from_slice(piece);
    }
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

    fn redact_at(secrets: &Secrets, text: &[u8], cuts: &[usize]) -> String {
        let mut redactor = Redactor::new(secrets.clone());
        let mut shown = Vec::new();
        let mut from = 0;
        for cut in cuts.iter().copied().chain([text.len()]) {
            shown.extend_from_slice(&redactor.push(&text[from..cut]));
            from = cut;
        }
        shown.extend(redactor.finish());
        String::from_utf8_lossy(&shown).into_owned()
    }

    /// An encoder for the tests, plain and whole.
    fn base64(bytes: &[u8]) -> String {
        let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut text = String::new();
        for group in bytes.chunks(3) {
            let number = (0..3).fold(0usize, |n, at| n << 8 | usize::from(*group.get(at).unwrap_or(&0)));
            for at in 0..4 {
                let letter = char::from(letters[number >> (18 - 6 * at) & 63]);
                text.push(if at > group.len() { '=' } else { letter });
            }
        }
        text
    }

    fn json(text: &str) -> String {
        let quoted = serde_json::to_string(text).unwrap();
        quoted[1..quoted.len() - 1].to_owned()
    }

    fn python_json(text: &str) -> String {
        let unit = |c: char| match c {
            _ if c.is_ascii() => c.to_string(),
            _ => c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect(),
        };
        json(text).chars().map(unit).collect()
    }

    const AWKWARD: &str = "pä\"ss\\wo\nrd/😀+1";

    #[test]
    fn every_form_is_taken_out_wherever_the_reads_split_it() {
        let secrets = Secrets::new([AWKWARD.as_bytes().to_vec()]);
        let urls = ["p%C3%A4%22ss%5Cwo%0Ard%2F%F0%9F%98%80%2B1", "p%c3%a4%22ss%5cwo%0ard%2f%f0%9f%98%80%2b1"];
        let forms = [
            AWKWARD.to_owned(),
            AWKWARD.replace('\n', "\r\n"),
            json(AWKWARD),
            python_json(AWKWARD),
            json(&json(AWKWARD)),
            python_json(&python_json(AWKWARD)),
            urls[0].to_owned(),
            urls[1].to_owned(),
            "70c3a42273735c776f0a72642ff09f98802b31".to_owned(),
            AWKWARD.replace('"', "&quot;"),
            "pä\"ss\\\\wo\\nrd/😀+1".to_owned(),
            "p\\xe4\"ss\\\\wo\\nrd/\\U0001f600+1".to_owned(),
        ];
        for form in forms {
            let text = format!("before {form} and {form}{form}.");
            let want = "before [redacted] and [redacted][redacted].";
            for first in 0..=text.len() {
                assert_eq!(redact_at(&secrets, text.as_bytes(), &[first]), want, "{form}, {first}");
                for second in first..=text.len().min(first + 60) {
                    assert_eq!(
                        redact_at(&secrets, text.as_bytes(), &[first, second]),
                        want,
                        "{form}, {first}, {second}"
                    );
                }
            }
        }
    }

    #[test]
    fn base64_of_a_text_with_a_secret_in_it_is_taken_out_wherever_the_reads_split_it() {
        let secrets = Secrets::new([b"hunter22>>>???".to_vec()]);
        for before in 0..6 {
            let long =
                base64(format!("{}hunter22>>>???, more", "user:".split_at(5.min(before)).0).as_bytes());
            let url = long.replace('+', "-").replace('/', "_");
            for text in [long, url] {
                let whole = redact_at(&secrets, text.as_bytes(), &[]);
                assert!(whole.contains(PLACEHOLDER) && whole.len() < text.len(), "{text}: {whole}");
                // 14 bytes have at most 20 characters; 17 of them at the least depend on nothing else.
                assert!(text.len() - (whole.len() - PLACEHOLDER.len()) >= 17, "{text}: {whole}");
                for first in 0..=text.len() {
                    for second in first..=text.len() {
                        let shown = redact_at(&secrets, text.as_bytes(), &[first, second]);
                        assert_eq!(shown, whole, "{text}, {first}, {second}");
                    }
                }
            }
        }
    }

    #[test]
    fn base64_that_is_wrapped_into_lines_is_taken_out() {
        let secret: String = (0..120u32).map(|n| char::from_u32(33 + n * 7 % 90).unwrap()).collect();
        let secrets = Secrets::new([secret.as_bytes().to_vec()]);
        for before in 0..60 {
            for line_break in ["\n", "\r\n", "\\n"] {
                let encoded = base64(format!("{}{secret}{}", "x".repeat(before), "y".repeat(80)).as_bytes());
                let lines: Vec<&str> =
                    encoded.as_bytes().chunks(76).map(|l| str::from_utf8(l).unwrap()).collect();
                let text = lines.join(line_break);
                let shown = redact_at(&secrets, text.as_bytes(), &[]);
                // Of 158 characters at most the first few stay, where a line ends within them.
                assert_eq!(shown.matches(PLACEHOLDER).count(), 1, "{before}: {shown}");
                let left = shown.replace(PLACEHOLDER, "").replace(line_break, "");
                assert!(encoded.len() - left.len() >= 148, "{before}: {shown}");
            }
        }
    }

    #[test]
    fn overlapping_secrets_leave_nothing_of_either() {
        let secrets = Secrets::new(["abcdefgh", "efghijkl", "ijklmnop"].map(|s| s.as_bytes().to_vec()));
        let text = b"1 abcdefghijklmnop 2 efghijklm 3 abcdefgijkl";
        for first in 0..=text.len() {
            for second in first..=text.len() {
                let shown = redact_at(&secrets, text, &[first, second]);
                assert_eq!(shown, "1 [redacted] 2 [redacted]m 3 abcdefgijkl", "{first}, {second}");
            }
        }
    }

    #[test]
    fn a_secret_that_overlaps_the_base64_of_another_leaves_nothing_of_it() {
        let encoded = base64(b"user:hunter22:more");
        // Begins one character before the base64 of the other, and is a part of it.
        for (from, to) in [(5, 13), (8, 16), (14, 22)] {
            let secrets = Secrets::new([b"hunter22".to_vec(), encoded.as_bytes()[from..to].to_vec()]);
            for cut in 0..=encoded.len() {
                let shown = redact_at(&secrets, encoded.as_bytes(), &[cut]);
                assert!(!shown.contains("h1bnRlcjIy") && !shown.contains("1bnRl"), "{shown}");
                assert!(!shown.contains(&encoded[from..to]), "{shown}");
            }
        }
    }

    #[test]
    fn no_more_than_the_beginning_of_a_secret_is_held_back() {
        let secrets = Secrets::new([b"hunter22-and-more".to_vec()]);
        let mut redactor = Redactor::new(secrets);
        let core = &base64(b"hunter22-and-more")[..22];
        for _ in 0..3 {
            assert_eq!(&*redactor.push(&core.as_bytes()[..20]), b"");
            // One line break can be within it, two cannot.
            assert_eq!(&*redactor.push(b"\n"), b"");
            assert_eq!(&*redactor.push(b"\n"), [&core[..20], "\n\n"].concat().as_bytes());
        }
        assert_eq!(&*redactor.push(b"hunter22-and-mor"), b"");
        assert_eq!(redactor.finish(), b"hunter22-and-mor");
        assert_eq!(redactor.finish(), b"");
    }

    #[test]
    fn short_values_are_not_looked_for_in_base64_and_very_short_ones_not_at_all() {
        let secrets = Secrets::new(["abcd", "abc", "hunter2"].map(|s| s.as_bytes().to_vec()));
        let text = format!("abc abcd {} hunter2", base64(b"hunter2hunter2"));
        let want = format!("abc [redacted] {} [redacted]", base64(b"hunter2hunter2"));
        assert_eq!(secrets.redact(&text), want);
    }

    #[test]
    fn no_value_stands_in_the_debug_output() {
        let secrets = Secrets::new([b"hunter22".to_vec()]);
        let mut redactor = Redactor::new(secrets.clone());
        redactor.push(b"hunter2");
        let shown = format!("{secrets:?} {redactor:?}");
        assert!(!shown.contains("hunter") && !shown.contains("104"), "{shown}");
    }

    proptest::proptest! {
        #[test]
        fn nothing_of_any_secret_is_left_in_any_form_however_the_stream_is_cut(
            values in proptest::collection::vec("[ -~äß€😀\n]{8,64}", 1..4),
            around in proptest::collection::vec("[ -~ä\n]{0,9}", 8),
            cuts in proptest::collection::vec(0usize..4000, 0..6),
        ) {
            let mut text = String::new();
            for value in &values {
                for around in &around {
                    let held = format!("{around}{value}{around}");
                    text.push_str(&held);
                    text.push_str(&json(&held));
                    text.push_str(&python_json(&held));
                    text.push_str(&json(&json(&held)));
                    text.push_str(&base64(held.as_bytes()));
                    text.push_str(&base64(json(&held).as_bytes()).replace('+', "-").replace('/', "_"));
                }
            }
            let secrets = Secrets::new(values.iter().map(|value| value.as_bytes().to_vec()));
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut % (text.len() + 1)).collect();
            cuts.sort_unstable();
            let shown = redact_at(&secrets, text.as_bytes(), &cuts);
            proptest::prop_assert_eq!(&shown, &secrets.redact(&text));
            for value in &values {
                let mut left = vec![value.clone(), json(value), python_json(value), json(&json(value))];
                for before in 0..3usize {
                    let encoded = base64(&[&vec![0; before], value.as_bytes()].concat());
                    let core = encoded[(before * 8).div_ceil(6)..(before + value.len()) * 8 / 6].to_owned();
                    left.push(core.replace('+', "-").replace('/', "_"));
                    left.push(core);
                }
                for form in left {
                    proptest::prop_assert!(!shown.contains(&form), "{form:?} in {shown:?}");
                }
            }
        }

        #[test]
        fn what_has_no_secret_in_it_is_shown_as_it_is(
            value in "[a-m]{8,20}",
            text in proptest::collection::vec("[n-zN-Z0-9 \n\\\\]{0,80}", 0..5),
        ) {
            let secrets = Secrets::new([value.into_bytes()]);
            let mut redactor = Redactor::new(secrets);
            let mut shown = Vec::new();
            for piece in &text {
                shown.extend_from_slice(&redactor.push(piece.as_bytes()));
            }
            shown.extend(redactor.finish());
            proptest::prop_assert_eq!(shown, text.concat().into_bytes());
        }
    }
}
