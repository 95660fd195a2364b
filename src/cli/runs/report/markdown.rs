//! A report as a comment of a pull request: short, the worst first, at most as long as a comment may be.
//!
//! Hard rule: what a record says stands in a code span, where no name and no message becomes a link, a mention, or markup.

use super::summary::{Reason, Row, Summary};
use crate::cli::{print, scrub};

/// The longest comment that GitHub takes, in characters.
const LONGEST: usize = 65_536;

/// What is left for the lines that say how much is missing.
const RESERVE: usize = 1_024;

/// A longer message is cut: the record has all of it.
const LONGEST_MESSAGE: usize = 500;

/// The report, at most as long as a comment may be.
pub(super) fn document(summary: &Summary) -> String {
    let mut comment = Comment { text: String::new(), left: LONGEST - RESERVE };
    comment.push(&format!("### {}: {}\n\n", code(&summary.run), summary.status));
    let (mut missing, facts) = (0, &summary.facts);
    for (name, value) in facts {
        missing += usize::from(!comment.push(&format!("- {name}: {}\n", code(&cut(value)))));
    }
    comment.rest(missing, "fact", "facts");
    comment.push("\n| status | workstream | reason | changed | fixes | used | time |\n");
    comment.push("|---|---|---|---|---:|---|---:|\n");
    let missing = summary.rows.iter().filter(|row| !comment.push(&line(row))).count();
    comment.rest(missing, "workstream", "workstreams");
    let warnings = summary.rows.iter().flat_map(|row| row.warnings.iter().map(move |text| (&row.name, text)));
    section(&mut comment, "Warnings", "warning", warnings, |(name, text)| {
        format!("- {}: {}\n", code(name), code(&cut(text)))
    });
    section(&mut comment, "Failures of steps", "failure", &summary.failures, |(count, reason)| {
        format!("- {count} × {}\n", told(reason))
    });
    section(&mut comment, "Next", "command", &summary.next, |next| format!("- {}\n", code(next)));
    comment.text
}

/// A comment, and how many characters it may still have.
struct Comment {
    text: String,
    left: usize,
}

impl Comment {
    /// Adds a text as a whole; false if it does not fit.
    fn push(&mut self, text: &str) -> bool {
        let Some(left) = self.left.checked_sub(text.chars().count()) else { return false };
        self.text.push_str(text);
        self.left = left;
        true
    }

    /// Says how much did not fit. The reserve has room for each section's line.
    fn rest(&mut self, missing: usize, one: &str, several: &str) {
        if missing > 0 {
            self.text.push_str(&format!("\n{} more\n", print::counted(missing, one, several)));
        }
    }
}

fn section<T>(
    comment: &mut Comment,
    title: &str,
    kind: &str,
    items: impl IntoIterator<Item = T>,
    line: impl Fn(T) -> String,
) {
    let mut items = items.into_iter().peekable();
    if items.peek().is_none() {
        return;
    }
    comment.push(&format!("\n**{title}**\n\n"));
    let missing = items.filter_map(|item| (!comment.push(&line(item))).then_some(())).count();
    comment.rest(missing, kind, &format!("{kind}s"));
}

fn line(row: &Row) -> String {
    let cells = [
        row.status.to_string(),
        code(&row.name),
        row.reason.as_ref().map(told).unwrap_or_default(),
        row.changed.clone().unwrap_or_default(),
        row.fixes.to_string(),
        row.used.clone().unwrap_or_default(),
        row.seconds.map(|seconds| format!("{seconds:.1} s")).unwrap_or_default(),
    ];
    // A row ends a cell at a bar behind two backslashes.
    let cells = cells.map(|cell| cell.replace("\\|", "\\ |").replace('|', "\\|"));
    format!("| {} |\n", cells.join(" | "))
}

fn told(reason: &Reason) -> String {
    format!("{}: {}", code(&reason.code.as_str()), code(&cut(&reason.message)))
}

fn cut(message: &str) -> String {
    match message.char_indices().nth(LONGEST_MESSAGE) {
        Some((end, _)) => format!("{}…", message.get(..end).unwrap_or_default()),
        None => message.to_owned(),
    }
}

/// A text as a code span, on one line, between more backquotes than stand in it at once.
fn code(text: &str) -> String {
    let text = scrub::line(text);
    let text = text.trim();
    if text.is_empty() {
        return String::new();
    }
    let runs = text.split(|c| c != '`').map(str::len);
    let fence = "`".repeat(runs.max().unwrap_or(0) + 1);
    let space = if text.starts_with('`') || text.ends_with('`') { " " } else { "" };
    format!("{fence}{space}{text}{space}{fence}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_of_a_record_ends_its_code_span() {
        assert_eq!(code("a"), "`a`");
        assert_eq!(code("a`b``c"), "```a`b``c```");
        assert_eq!(code("`a`"), "`` `a` ``");
        assert_eq!(code("@user #1 <b>\n# title"), "`@user #1 <b>\\n# title`");
        assert_eq!(code("  "), "");
    }
}
