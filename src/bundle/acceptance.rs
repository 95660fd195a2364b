//! Acceptance tests: commands told from prose.
//!
//! Hard rule: only what is marked as a command is one. A sentence that happens to begin with the name of a program is never run.

/// One acceptance test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Acceptance {
    /// A line for `/bin/sh -c`.
    Command(String),
    /// A sentence: it is part of the prompt, and is not run.
    Prose {
        /// The sentence.
        text: String,
        /// How it is written as the command that it looks like.
        hint: Option<String>,
    },
}

/// Programs that check something. A sentence that begins with one is probably meant to be run.
const RUNNERS: [&str; 32] = [
    "bandit", "bash", "bundle", "cargo", "cmake", "coverage", "ctest", "deno", "dotnet", "eslint", "flake8",
    "go", "gradle", "jest", "make", "mvn", "mypy", "node", "npm", "npx", "nox", "php", "pnpm", "poetry",
    "pylint", "pytest", "python", "python3", "ruff", "sh", "tox", "yarn",
];

/// Words behind a program's name that make a sentence of it: "make sure", "go to".
const OF_SENTENCES: [&str; 8] = ["a", "an", "is", "it", "sure", "that", "the", "to"];

/// Reads an item of `acceptance_tests`.
pub(super) fn read(item: &str) -> Acceptance {
    let item = item.trim();
    match command(item) {
        Some(command) => Acceptance::Command(command.to_owned()),
        None => {
            let hint = looks_like_command(item).then(|| format!("$ {item}"));
            Acceptance::Prose { text: item.to_owned(), hint }
        }
    }
}

fn command(item: &str) -> Option<&str> {
    let in_backticks = || item.strip_prefix('`')?.strip_suffix('`').filter(|inner| !inner.contains('`'));
    let command = item.strip_prefix("$ ").or_else(in_backticks)?.trim();
    (!command.is_empty()).then_some(command)
}

fn looks_like_command(item: &str) -> bool {
    let mut words = item.split_whitespace();
    let (first, second) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let is_runner = RUNNERS.contains(&first) || first.len() > 2 && first.starts_with("./");
    is_runner && !OF_SENTENCES.contains(&second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_marked_as_one_and_everything_else_is_prose() {
        for (item, command) in [
            ("$ pytest -q", "pytest -q"),
            ("  $  make test ", "make test"),
            ("`ruff check .`", "ruff check ."),
            ("$ echo `date`", "echo `date`"),
        ] {
            assert_eq!(read(item), Acceptance::Command(command.to_owned()));
        }
        for item in ["add(2, 3) is 5", "$", "$ ", "``", "`a` and `b`", "`a", "$HOME is set", ""] {
            assert!(matches!(read(item), Acceptance::Prose { hint: None, .. }), "{item}");
        }
    }

    #[test]
    fn prose_that_looks_like_a_command_is_told_how_to_be_one() {
        for item in ["pytest -q tests", "make test", "./run.sh", "npm test", "go test ./...", "pytest"] {
            let hint = Some(format!("$ {item}"));
            assert_eq!(read(item), Acceptance::Prose { text: item.to_owned(), hint });
        }
        for item in ["make sure it works", "go to the page", "Pytest passes", "the tests pass", "./"] {
            assert!(matches!(read(item), Acceptance::Prose { hint: None, .. }), "{item}");
        }
    }
}
