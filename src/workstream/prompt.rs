//! The prompt of an edit or a fix, as a text.
//!
//! Pure: the caller gives the bundle, the checks and what is known of a failure; its output has passed the redaction. Hard rule:
//! a prompt has at most 256 KB as a JSON string, and what is cut says so.

use std::fmt::Write;

use super::tried::Tried;
use crate::bundle::checks::{Check, CheckCommand};
use crate::bundle::table::PatchPolicy;
use crate::bundle::{Bundle, Classification, Issue};
use crate::job::result::shorten;

/// The most bytes of a prompt, written as a JSON string.
const MOST_BYTES: usize = 256 << 10;

/// The most bytes of the differences since the base.
const MOST_OF_DIFF: usize = 48 << 10;

/// The most bytes of the output of a check.
const MOST_OF_OUTPUT: usize = 32 << 10;

/// The most names of a list that an engine and not a person wrote.
const MOST_NAMES: usize = 50;

/// What an agent is asked to do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request<'a> {
    /// The run.
    pub(crate) run: &'a str,
    /// The number of the step.
    pub(crate) n: u32,
    /// What is to be done, where, and when it is right.
    pub(crate) bundle: &'a Bundle,
    /// Every check that runs afterwards, in order.
    pub(crate) checks: &'a [Check],
    /// What a change may be.
    pub(crate) patch: &'a PatchPolicy,
    /// The files that the tool is not given because the context was too large.
    pub(crate) left_out: &'a [String],
    /// What agents did before.
    pub(crate) tried: &'a [Tried],
    /// What a fix is to mend; none of an edit.
    pub(crate) failure: Option<Failure<'a>>,
}

/// What a fix is to mend.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Failure<'a> {
    /// The check that failed.
    pub(crate) check: &'a Check,
    /// Which fix this is, from 1.
    pub(crate) iteration: u32,
    /// How many are allowed.
    pub(crate) most: u32,
    /// The exit code; none if the check did not exit.
    pub(crate) exit_code: Option<i32>,
    /// How it ended, as a sentence: the message of its reason.
    pub(crate) message: &'a str,
    /// The names of the tests that failed.
    pub(crate) failed_tests: &'a [String],
    /// Its output, redacted.
    pub(crate) output: &'a str,
    /// The differences since the base.
    pub(crate) diff: &'a str,
}

/// The prompt.
pub(crate) fn prompt(request: &Request<'_>) -> String {
    let mut divisor = 1;
    loop {
        let text = whole(request, divisor);
        if json_bytes(&text) <= MOST_BYTES {
            return text;
        }
        // Control characters take six bytes each: less of what the engine adds may be enough.
        divisor *= 4;
        if divisor > MOST_OF_DIFF {
            return shortened(&text);
        }
    }
}

/// The bytes of a text as a JSON string.
fn json_bytes(text: &str) -> usize {
    serde_json::Value::from(text).to_string().len()
}

/// Cuts a text whose tasks alone are too long: its middle goes.
fn shortened(text: &str) -> String {
    let mut bytes = MOST_BYTES / 2;
    loop {
        let shorter = shorten(text, bytes);
        if json_bytes(&shorter) <= MOST_BYTES {
            return shorter;
        }
        bytes /= 2;
    }
}

fn whole(request: &Request<'_>, divisor: usize) -> String {
    let sections = [
        ("HEADER", header(request)),
        ("OBJECTIVE", objective(request)),
        ("CONTEXT", context(request, divisor)),
        ("CONSTRAINTS", constraints(request)),
        ("FILES_SCOPE", files_scope(request.bundle)),
        ("OUTPUT_SPEC", output_spec(request)),
        ("VALIDATION", validation(request)),
    ];
    let texts = sections.map(|(name, text)| format!("## {name}\n\n{}\n", text.trim_end()));
    texts.join("\n")
}

fn header(request: &Request<'_>) -> String {
    let bundle = request.bundle;
    let class = bundle.classification();
    let mut text = format!("Role: {}\n", role(&class));
    let Classification { complexity, quality, domain, operation } = &class;
    add(
        &mut text,
        format_args!(
            "Task: complexity {complexity}, quality {quality}, domain {domain}, operation {operation}"
        ),
    );
    let step = match &request.failure {
        None => format!("step {}, edit", request.n),
        Some(failure) => format!("step {}, fix {} of at most {}", request.n, failure.iteration, failure.most),
    };
    add(&mut text, format_args!("Workstream: {} of run {}, {step}", bundle.id, request.run));
    if let Some(origin) = origin(bundle) {
        add(&mut text, format_args!("Origin: {origin}"));
    }
    text
}

/// Experience, profession and speciality, as the original composed them.
fn role(class: &Classification) -> String {
    let is_hard =
        class.quality == "production" || matches!(class.complexity.as_str(), "complex" | "enterprise");
    let experience = if is_hard { "senior " } else { "" };
    let profession = match class.domain.as_str() {
        "docs" => "technical writer",
        "tests" => "test engineer",
        _ => "software engineer",
    };
    let speciality = match class.operation.as_str() {
        "refactor" => "refactors without a change of behavior",
        "bugfix" => "finds the cause of a bug before mending it",
        "analysis_only" => "analyzes and reviews",
        _ => "adds features in the style of the code that is there",
    };
    format!("{experience}{profession}, {speciality}")
}

/// The change and the issue behind a bundle; none if its author named none.
fn origin(bundle: &Bundle) -> Option<String> {
    let change = Some(bundle.openspec_change.as_str()).filter(|change| !matches!(*change, "" | "-"));
    let issue = match &bundle.ccpm_issue {
        Issue::Number(number) => Some(number.to_string()).filter(|number| number != "0"),
        Issue::Text(text) => Some(text.clone()).filter(|text| !text.is_empty()),
    };
    let parts =
        [change.map(|change| format!("change {change}")), issue.map(|issue| format!("issue {issue}"))];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn objective(request: &Request<'_>) -> String {
    let mut text = String::new();
    if let Some(failure) = &request.failure {
        add(
            &mut text,
            format_args!(
                "Make the check `{}` pass. It fails on the present state of the files.",
                failure.check.name
            ),
        );
        add(
            &mut text,
            format_args!("Mend the cause in the work on these tasks, and keep what is done of them:\n"),
        );
    }
    if let Some(prompt) = request.bundle.prompt() {
        add(&mut text, format_args!("{}\n", prompt.trim_end()));
    }
    for (at, task) in request.bundle.tasks.iter().enumerate() {
        add(&mut text, format_args!("{}. {task}", at + 1));
    }
    text
}

fn context(request: &Request<'_>, divisor: usize) -> String {
    let mut text = String::from(
        "The working directory is a git worktree of its own, made for this task. Earlier steps are committed in it.\n",
    );
    if let Some(failure) = &request.failure {
        add_failure(&mut text, failure, divisor);
    }
    if !request.tried.is_empty() {
        add(&mut text, format_args!("\nTried before:"));
        for tried in request.tried {
            add(&mut text, format_args!("- {}", shorten(&tried.to_string(), MOST_OF_OUTPUT / divisor / 16)));
        }
    }
    if !request.left_out.is_empty() {
        add(
            &mut text,
            format_args!(
                "\nThese files were not given, because the context was too large; open what is needed:"
            ),
        );
        add_names(&mut text, request.left_out);
    }
    text
}

fn add_failure(text: &mut String, failure: &Failure<'_>, divisor: usize) {
    add(text, format_args!("\nThe check that fails: {}", shown(failure.check)));
    let code = failure.exit_code.map_or_else(|| "none".to_owned(), |code| code.to_string());
    add(text, format_args!("Its exit code: {code}"));
    if !failure.message.is_empty() {
        add(text, format_args!("How it ended: {}", shorten(failure.message, MOST_OF_OUTPUT / divisor)));
    }
    if !failure.failed_tests.is_empty() {
        add(text, format_args!("\nTests that failed:"));
        add_names(text, failure.failed_tests);
    }
    add_block(text, "Its output", failure.output, MOST_OF_OUTPUT / divisor);
    add_block(
        text,
        "The differences of the worktree since the task began",
        failure.diff,
        MOST_OF_DIFF / divisor,
    );
}

fn constraints(request: &Request<'_>) -> String {
    let mut text = String::from(
        "- Change, create and delete only what FILES_SCOPE names. A change of any other file ends the task as a failure.\n\
         - Do not commit, stash, reset, rebase, switch branches, add worktrees or change the configuration of git.\n\
         - Do not make a check pass by changing what it checks with: no deleted, skipped or weakened tests, and no changed \
         configuration of tests, linters or builds, unless FILES_SCOPE names that file itself.\n\
         - Do not ask questions: they get no answer. Decide what is uncertain, and say so at the end.\n\
         - Leave no process running.\n",
    );
    let patch = request.patch;
    if let Some(lines) = patch.max_lines_changed {
        add(&mut text, format_args!("- Change at most {lines} lines, added and deleted together."));
    }
    if let Some(files) = patch.max_files_changed {
        add(&mut text, format_args!("- Change at most {files} files."));
    }
    if patch.forbid_binary {
        add(&mut text, format_args!("- Change no binary file."));
    }
    if !patch.forbidden_paths.is_empty() {
        add(
            &mut text,
            format_args!("- Change nothing that matches `{}`.", patch.forbidden_paths.join("`, `")),
        );
    }
    text
}

fn files_scope(bundle: &Bundle) -> String {
    let mut text = String::from("May change (a directory means all below it):\n");
    let writable = bundle.writable();
    for path in &writable {
        add(&mut text, format_args!("- {}", if path == "." { "every file" } else { path }));
    }
    if !bundle.files_create.is_empty() {
        add(&mut text, format_args!("\nOf these, to be created: {}", bundle.files_create.join(", ")));
    }
    text
}

fn output_spec(request: &Request<'_>) -> String {
    let mut text = String::from(
        "Edit the files in place: the task is judged by what they hold at the end, not by the answer.\n",
    );
    if request.failure.is_none() && request.bundle.allow_no_change() {
        text.push_str("If nothing has to be changed, change nothing.\n");
    } else {
        text.push_str("A step that changes nothing has failed.\n");
    }
    text.push_str("End with a summary of at most ten lines: what was changed, why, and what is uncertain.\n");
    text
}

fn validation(request: &Request<'_>) -> String {
    let mut text = String::new();
    if request.checks.is_empty() {
        text.push_str("No check runs afterwards.\n");
    } else {
        text.push_str("These checks run afterwards, in this order, and each must pass:\n");
    }
    for check in request.checks {
        add(&mut text, format_args!("- {}", shown(check)));
    }
    let prose = request.bundle.prose();
    if !prose.is_empty() {
        add(&mut text, format_args!("\nThis must hold too, and no command checks it:"));
        prose.iter().for_each(|item| add(&mut text, format_args!("- {item}")));
    }
    text
}

/// A check with its command.
fn shown(check: &Check) -> String {
    let (name, kind) = (&check.name, check.kind.as_str());
    match &check.command {
        CheckCommand::Run(line) if line == name => format!("`{name}` ({kind})"),
        CheckCommand::Run(line) => format!("{name} ({kind}): `{line}`"),
        CheckCommand::Profile(profile) => {
            let words: Vec<&str> = profile.words().collect();
            format!("{name} ({kind}): `{}`", words.join(" "))
        }
        CheckCommand::Adapter(adapter) => format!("{name} ({kind}): the tool `{adapter}`"),
    }
}

fn add(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a text does not fail.
    let _ = writeln!(text, "{line}");
}

/// Names of a list, the first of them if it is long.
fn add_names(text: &mut String, names: &[String]) {
    for name in names.iter().take(MOST_NAMES) {
        add(text, format_args!("- {}", shorten(name, 500)));
    }
    let more = names.len().saturating_sub(MOST_NAMES);
    if more > 0 {
        add(text, format_args!("- and {more} more"));
    }
}

/// A text that is not the engine's own, between fences that it does not contain.
fn add_block(text: &mut String, title: &str, content: &str, longest: usize) {
    if content.trim().is_empty() {
        return add(text, format_args!("\n{title}: nothing"));
    }
    let content = shorten(content.trim_matches('\n'), longest);
    let longest_run = content.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest_run.max(2) + 1);
    add(text, format_args!("\n{title}:\n{fence}text\n{content}\n{fence}"));
}
