//! What a reader reads, and what it makes of it.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::clock::Timestamp;
use crate::job::{Code, Reason};
use crate::process::excerpt::Excerpt;

/// What a tool left behind.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Evidence<'a> {
    /// The program that ran.
    pub exe: &'a str,
    /// The exit code.
    pub exit_code: i32,
    /// The codes that do not mean failure.
    pub success_exit_codes: &'a [i32],
    /// The arguments it was called with.
    pub args: &'a [String],
    /// What was kept of standard output.
    pub stdout: &'a Excerpt,
    /// What was kept of standard error.
    pub stderr: &'a Excerpt,
    /// The test report that the job names, if the tool wrote it.
    pub report: &'a Report,
}

/// The test reports in files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Report {
    /// The job names none.
    #[default]
    NotNamed,
    /// Nothing is there that this attempt wrote, and why.
    NotWritten(String),
    /// Something is there and cannot be read, and why.
    Unreadable(String),
    /// What this attempt wrote.
    Written {
        /// The files; at least one.
        files: Vec<ReportFile>,
        /// How many more there are that were there before.
        not_of_this_attempt: usize,
    },
}

/// A test report in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReportFile {
    /// The file, as a person finds it.
    pub name: String,
    /// Its content.
    pub content: Vec<u8>,
}

/// Success or failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The tool did what it was asked to do.
    Success,
    /// It did not.
    Failure,
}

/// Whether a tool told a verdict itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Telling {
    /// Its reader judges it.
    NotAsked,
    /// It should have, and did not.
    Nothing,
    /// This one, and the time until which it waits.
    This(Told, Option<Timestamp>),
}

/// A verdict that a tool tells itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Told {
    /// It did what it was asked to do.
    Succeeded,
    /// It did not.
    Failed,
    /// It did not, and a person must look at it.
    Quarantined,
    /// It waits.
    Parked,
    /// It was asked to stop.
    Canceled,
}

/// What a reader makes of the evidence.
#[derive(Debug, Clone)]
pub(crate) struct Reading {
    /// The verdict.
    pub verdict: Verdict,
    /// The one that the tool told.
    pub telling: Telling,
    /// Why it is a failure.
    pub reason: Option<Reason>,
    /// What to look at first.
    pub details: Vec<String>,
    /// What was read, for programs.
    pub metadata: Map<String, Value>,
    /// Counts and names of a test run.
    pub test_results: Option<Value>,
    /// The git operation.
    pub git_command: Option<String>,
}

impl Reading {
    /// What the exit code alone says.
    #[must_use]
    pub(crate) fn of_exit_code(evidence: &Evidence<'_>) -> Self {
        let success = evidence.success_exit_codes.contains(&evidence.exit_code);
        let mut reading = Self {
            verdict: Verdict::Success,
            telling: Telling::NotAsked,
            reason: None,
            details: Vec::new(),
            metadata: Map::new(),
            test_results: None,
            git_command: None,
        };
        if !success {
            let message = format!("`{}` exited with code {}", evidence.exe, evidence.exit_code);
            reading.fail(Code::ExitCode, message);
            reading.details = last_lines(evidence.stderr, 20);
        }
        reading
    }

    /// Makes it a failure, with a reason that replaces a former one.
    pub(crate) fn fail(&mut self, code: Code, message: impl Into<String>) {
        self.verdict = Verdict::Failure;
        self.reason = Some(Reason::new(code, message));
    }
}

/// The last lines of a stream that are not empty.
#[must_use]
pub(crate) fn last_lines(stream: &Excerpt, count: usize) -> Vec<String> {
    let ending = stream.ending();
    let text = String::from_utf8_lossy(&ending);
    let mut lines: Vec<String> = text
        .lines()
        .rev()
        .filter(|line| !line.trim().is_empty())
        .take(count)
        .map(|line| line.chars().take(1000).collect())
        .collect();
    lines.reverse();
    lines
}
