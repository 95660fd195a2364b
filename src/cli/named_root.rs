//! Commands in messages name the root, where the working directory does not lead to it.

use std::borrow::Cow;
use std::path::Path;
use std::sync::OnceLock;

/// The verbs, so that `engine` before another word stays as it is.
const VERBS: [&str; 29] = [
    "adapters",
    "cancel",
    "completions",
    "doctor",
    "events",
    "explain",
    "gc",
    "hold",
    "init",
    "list",
    "log",
    "new",
    "patches",
    "plan",
    "recover",
    "release",
    "requeue",
    "run",
    "run-job",
    "runs",
    "schema",
    "show",
    "status",
    "submit",
    "usage",
    "validate",
    "wait",
    "work",
    "workstreams",
];

/// The options that a printed command needs to work on the same root when typed here.
static NEEDED: OnceLock<String> = OnceLock::new();

/// A text in which each command names the root, where the working directory does not lead to it.
pub(super) fn in_commands(text: &str) -> Cow<'_, str> {
    let Some(root) = NEEDED.get() else { return text.into() };
    let mut rest = text;
    let mut named = String::with_capacity(text.len() + root.len());
    while let Some(at) = rest.find("engine ") {
        let (before, from) = rest.split_at(at);
        let (name, after) = from.split_at("engine ".len());
        let begins = before.chars().last().or(named.chars().last()).is_none_or(|c| " `(".contains(c));
        let verb = after.split(|c: char| !c.is_ascii_lowercase() && c != '-').next().unwrap_or_default();
        named += before;
        named += name;
        if begins && VERBS.contains(&verb) {
            named += &format!("--root {root} ");
        }
        rest = after;
    }
    (named + rest).into()
}

/// Notes that commands must name this root.
pub(super) fn is_needed(root: &Path) {
    let shown = root.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@%:=,~".contains(c);
    let quoted = format!("'{}'", shown.replace('\'', r"'\''"));
    let _ = NEEDED.set(if shown.chars().all(plain) { shown.into_owned() } else { quoted });
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_verbs_are_those_of_the_command_line() {
        let command = crate::cli::args::Cli::command();
        let shown = command.get_subcommands().filter(|verb| !verb.is_hide_set());
        let mut verbs: Vec<&str> = shown.map(clap::Command::get_name).collect();
        verbs.sort_unstable();
        assert_eq!(verbs, super::VERBS);
    }
}
