//! Helpers that read a JSON event of unknown shape.

use serde_json::Value;

/// The text at a path of keys; empty if there is none.
#[must_use]
pub(crate) fn text<'v>(value: &'v Value, path: &[&str]) -> &'v str {
    at(value, path).and_then(Value::as_str).unwrap_or_default()
}

/// The text at a path of keys, if there is one that is not empty.
#[must_use]
pub(crate) fn name(value: &Value, path: &[&str]) -> Option<String> {
    Some(text(value, path)).filter(|text| !text.is_empty()).map(str::to_owned)
}

/// The value at a path of keys.
#[must_use]
pub(crate) fn at<'v>(value: &'v Value, path: &[&str]) -> Option<&'v Value> {
    path.iter().try_fold(value, |value, key| value.get(key))
}

/// The whole number at a path of keys.
#[must_use]
pub(crate) fn number(value: &Value, path: &[&str]) -> Option<u64> {
    at(value, path).and_then(Value::as_u64)
}

/// The list at a path of keys; empty if there is none.
#[must_use]
pub(crate) fn list<'v>(value: &'v Value, path: &[&str]) -> &'v [Value] {
    at(value, path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A line that should be an event: an object. What a terminal or an encoding puts around it is no part of it.
#[must_use]
pub(crate) fn event(line: &str) -> Option<Value> {
    serde_json::from_str(line).ok().or_else(|| bare_event(line)).filter(Value::is_object)
}

/// An event between escape sequences, control characters and byte order marks.
fn bare_event(line: &str) -> Option<Value> {
    let rest = without_escapes(line);
    if !rest.starts_with('{') {
        return None;
    }
    let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
    let event = values.next()?.ok()?;
    without_escapes(rest.get(values.byte_offset()..)?).is_empty().then_some(event)
}

/// What follows all escape sequences and the like at the beginning of a text.
fn without_escapes(mut text: &str) -> &str {
    loop {
        text = text.trim_start_matches(is_no_text);
        match text.strip_prefix('\u{1b}').and_then(behind_escape) {
            Some(behind) => text = behind,
            None => return text,
        }
    }
}

fn is_no_text(c: char) -> bool {
    c == '\u{feff}' || (c != '\u{1b}' && (c.is_control() || c.is_whitespace()))
}

/// What follows an escape sequence (ECMA-48), of which the ESC was taken off already: a control sequence, a string as that
/// which sets the title of a window, or a short one.
fn behind_escape(text: &str) -> Option<&str> {
    let kind = text.chars().next()?;
    let rest = text.get(kind.len_utf8()..)?;
    match kind {
        '[' => {
            let end = rest.find(|c: char| !(' '..='?').contains(&c))?;
            let last = rest.get(end..)?.chars().next().filter(|c| ('@'..='~').contains(c))?;
            rest.get(end + last.len_utf8()..)
        }
        ']' | 'P' | 'X' | '^' | '_' => {
            let end = rest.find(['\u{7}', '\u{1b}', '\u{9c}'])?;
            let end_is_long = rest.get(end..)?.starts_with("\u{1b}\\");
            let length = if end_is_long { 2 } else { rest.get(end..)?.chars().next()?.len_utf8() };
            rest.get(end + length..)
        }
        ' '..='/' => {
            let end = rest.find(|c: char| !(' '..='/').contains(&c))?;
            rest.get(end + 1..)
        }
        _ => Some(rest),
    }
}

/// The first line of a text, at most 200 characters of it: for the log.
#[must_use]
pub(crate) fn first_line(text: &str) -> String {
    let line = text.trim().lines().next().unwrap_or_default();
    let mut short: String = line.chars().take(200).collect();
    if short.len() < text.trim().len() {
        short.push_str(" ...");
    }
    short
}

#[cfg(test)]
mod tests {
    use super::event;

    #[test]
    fn an_event_is_read_whatever_a_terminal_or_an_encoding_puts_around_it() {
        let object = r#"{"type":"result","text":"a } b"}"#;
        for before in [
            "",
            "\u{feff}",
            "\u{1b}[?2004h",
            "\u{1b}[0m\u{1b}[38;5;1m",
            "\u{1b}]0;a title {\u{7}",
            "\u{1b}]8;;http://x\u{1b}\\",
            "\u{1b}7\u{1b}(B\u{1b}=",
            "\0\0",
            "\r \u{8}\u{1b}[2K\r",
        ] {
            for after in ["", "\r", "\0", "\u{1b}[?2004l", " \u{1b}[0m\u{1b}]0;}\u{7}"] {
                let read = event(&format!("{before}{object}{after}"));
                let text = read.as_ref().and_then(|event| event.get("text")).and_then(|text| text.as_str());
                assert_eq!(text, Some("a } b"), "{before:?} {after:?}");
            }
        }
    }

    #[test]
    fn an_object_in_prose_or_behind_half_a_sequence_is_no_event() {
        for line in [
            r#"I print {"type":"result"}"#,
            r#"{"type":"result"} and more"#,
            "\u{1b}[?2004",
            "\u{1b}[{\"type\":\"result\"}",
            "\u{1b}]0;{\"type\":\"result\"}",
            "\u{1b}",
            "\u{1b}[31m",
            "\u{feff}[1]",
            "}{",
            "\0}\0",
        ] {
            assert_eq!(event(line), None, "{line:?}");
        }
    }
}
