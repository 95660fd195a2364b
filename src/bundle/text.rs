//! The text of a bundle file as JSON: without its byte order mark and its comments.
//!
//! A comment becomes as many blanks, so every place stays. Hard rule: what is in a string is no comment.

use crate::job::Problem;
use crate::job::parse::locate::position;
use crate::job::parse::text_of;

/// Size above which a file is refused.
pub(crate) const MOST_BYTES: u64 = 16 << 20;

/// A text with what is to be said of it.
pub(super) struct Text {
    pub(super) json: String,
    pub(super) warnings: Vec<Problem>,
}

/// Reads bytes.
///
/// # Errors
/// The problem of a text that cannot be read at all.
pub(super) fn read(bytes: &[u8]) -> Result<Text, Problem> {
    if bytes.len() as u64 > MOST_BYTES {
        let found = format!("the file has {} bytes", bytes.len());
        return Err(Problem::at(1, 1, found).expected(format!("at most {MOST_BYTES}")));
    }
    let text = text_of(bytes)?;
    let (json, first) = without_comments(text)?;
    let mut warnings = Vec::new();
    if text.len() != bytes.len() {
        warnings.push(Problem::at(1, 1, "the file begins with a byte order mark; it is ignored"));
    }
    if let Some(at) = first {
        let (line, column) = position(text.as_bytes(), at);
        warnings.push(Problem::at(line, column, "comments are not JSON; they are ignored"));
    }
    Ok(Text { json, warnings })
}

/// Where a scan is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Within {
    Json,
    String,
    Line,
    Block { from: usize },
}

/// The text with blanks for comments, and the offset of the first.
fn without_comments(text: &str) -> Result<(String, Option<usize>), Problem> {
    let mut json = String::with_capacity(text.len());
    let mut first = None;
    let mut within = Within::Json;
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        let next = chars.peek().map(|(_, next)| *next);
        match (within, c, next) {
            (Within::Json, '/', Some(opens @ ('/' | '*'))) => {
                first = first.or(Some(at));
                within = if opens == '/' { Within::Line } else { Within::Block { from: at } };
                chars.next();
                json.push_str("  ");
            }
            (Within::Block { .. }, '*', Some('/')) => {
                within = Within::Json;
                chars.next();
                json.push_str("  ");
            }
            (Within::String, '\\', Some(_)) => {
                json.push(c);
                json.extend(chars.next().map(|(_, escaped)| escaped));
            }
            (Within::Json | Within::String, '"', _) => {
                within = if within == Within::Json { Within::String } else { Within::Json };
                json.push(c);
            }
            (Within::Line | Within::Block { .. }, '\n', _) => {
                within = if within == Within::Line { Within::Json } else { within };
                json.push(c);
            }
            (Within::Line | Within::Block { .. }, ..) => json.push(' '),
            (Within::Json | Within::String, ..) => json.push(c),
        }
    }
    match within {
        Within::Block { from } => {
            let (line, column) = position(text.as_bytes(), from);
            Err(Problem::at(line, column, "the comment is not closed").expected("`*/`"))
        }
        Within::Json | Within::String | Within::Line => Ok((json, first)),
    }
}

/// What a template language leaves in a file; none of it is JSON.
const OF_TEMPLATES: [&str; 4] = ["{[", "{{", "{%", "<%"];

/// The problem of a text that is no JSON, if it is a template that was not rendered: then a mark is where the parser ended.
pub(super) fn template(json: &str, problem: &Problem) -> Option<Problem> {
    let line = json.lines().nth(problem.line.checked_sub(1)?)?;
    let is_mark = |column: &usize| {
        let from = line.char_indices().nth(column.saturating_sub(1)).and_then(|(at, _)| line.get(at..));
        from.is_some_and(|from| OF_TEMPLATES.iter().any(|mark| from.starts_with(mark)))
    };
    let column = [problem.column.saturating_sub(1), problem.column].into_iter().find(is_mark)?;
    Some(Problem::at(problem.line, column.max(1), NOT_RENDERED))
}

/// The message of a template.
pub(super) const NOT_RENDERED: &str = "this is a template that was not rendered";

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> String {
        read(text.as_bytes()).map_or_else(|problem| problem.to_string(), |text| text.json)
    }

    #[test]
    fn comments_become_blanks_and_every_other_character_keeps_its_place() {
        assert_eq!(json("{ // ä\n \"a\": /* ö\n */ 1}"), "{     \n \"a\":     \n    1}");
        assert_eq!(json("1 // at the end"), "1              ");
        assert_eq!(json("/* a **/1"), "        1");
        assert_eq!(json("[/**/1/*/*/]"), "[    1     ]");
    }

    #[test]
    fn what_is_in_a_string_is_no_comment() {
        for text in [r#"{"a": "http://x/*y*/"}"#, r#"["\"//", "\\"]"#, r#"["a//b"#] {
            assert_eq!(json(text), text);
        }
    }

    #[test]
    fn a_mark_and_comments_are_warned_of_once_each() {
        let warnings = |text: &[u8]| read(text).map(|text| text.warnings).unwrap_or_default();
        let found = warnings(b"\xEF\xBB\xBF[\n //a\n //b\n]");
        let places: Vec<_> = found.iter().map(|warning| (warning.line, warning.column)).collect();
        assert_eq!(places, [(1, 1), (2, 2)]);
        assert_eq!(warnings(b"[]"), []);
    }

    #[test]
    fn what_is_no_text_is_named_at_its_place() {
        let lines = |bytes: &[u8]| read(bytes).err().map(|p| format!("{}:{}: {p}", p.line, p.column));
        assert_eq!(lines(b"[\n /* a"), Some("2:2: the comment is not closed, expected `*/`".to_owned()));
        assert_eq!(lines(b"[\"\xFF\"]"), Some("1:3: the file is not UTF-8, expected UTF-8 text".to_owned()));
        assert!(lines(b"").is_some_and(|line| line.contains("is empty")));
        assert!(lines(&vec![b' '; 17 << 20]).is_some_and(|line| line.contains("at most 16777216")));
    }

    #[test]
    fn a_template_is_named_at_its_mark_and_a_mark_in_a_string_is_none() {
        let place = |text: &str| {
            let problem = crate::job::parse::document(text).unwrap_err().remove(0);
            template(text, &problem).map(|found| (found.line, found.column))
        };
        for (text, want) in [
            ("{[WS_ID]}", (1, 1)),
            ("{\n \"id\": {[ws]}}", (2, 8)),
            ("{\"ä\": {{ x }}}", (1, 7)),
            ("{% for x in y %}{}", (1, 1)),
            ("[<%= x %>]", (1, 2)),
            ("[1, {{x}}]", (1, 5)),
        ] {
            assert_eq!(place(text), Some(want), "{text}");
        }
        for text in ["{\"tasks\": \"render {{ x }}\" 1}", "{\"id\": }", "{ [1]}", "{\"a\": \"{{\", \"a\": 1}"]
        {
            assert_eq!(place(text), None, "{text}");
        }
    }
}
