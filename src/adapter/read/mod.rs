//! Readers: from exit and streams to a verdict.
//!
//! Pure and tolerant: whatever a tool prints, a reader answers. A verdict is a success only where both the exit code
//! and the evidence say so.

pub mod counts;
mod encoding;
pub mod exit_code;
pub mod git;
pub mod junit;
pub mod junit_xml;
pub mod plugin_json;
pub mod pytest;

use serde_json::{Map, Value};

use super::manifest::{Manifest, ReaderName};
use crate::job::Reason;
use crate::process::excerpt::{Excerpt, Keep};

/// What a tool left behind.
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'a> {
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
pub enum Report {
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
pub struct ReportFile {
    /// The file, as a person finds it.
    pub name: String,
    /// Its content.
    pub content: Vec<u8>,
}

/// Success or failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The tool did what it was asked to do.
    Success,
    /// It did not.
    Failure,
}

/// What a reader makes of the evidence.
#[derive(Debug, Clone)]
pub struct Reading {
    /// The verdict.
    pub verdict: Verdict,
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
    pub fn of_exit_code(evidence: &Evidence<'_>) -> Self {
        let success = evidence.success_exit_codes.contains(&evidence.exit_code);
        let mut reading = Self {
            verdict: Verdict::Success,
            reason: None,
            details: Vec::new(),
            metadata: Map::new(),
            test_results: None,
            git_command: None,
        };
        if !success {
            let message = format!("`{}` exited with code {}", evidence.exe, evidence.exit_code);
            reading.fail("exit_code", message);
            reading.details = last_lines(evidence.stderr, 20);
        }
        reading
    }

    /// Makes it a failure, with a reason that replaces a former one.
    pub fn fail(&mut self, code: &str, message: impl Into<String>) {
        self.verdict = Verdict::Failure;
        self.reason = Some(Reason::new(code, message));
    }
}

/// How much of standard output a reader needs.
#[must_use]
pub fn keep(manifest: &Manifest) -> Keep {
    match manifest.reader {
        ReaderName::ExitCode | ReaderName::Junit => Keep::PREVIEW,
        ReaderName::Git => Keep { head: 64 << 10, tail: 64 << 10 },
        // The names of failed tests stand before the last line.
        ReaderName::Pytest => Keep { head: 16 << 10, tail: 256 << 10 },
        ReaderName::PluginJson => Keep { head: 4 << 20, tail: 16 << 10 },
        // They read while it streams.
        ReaderName::Aider
        | ReaderName::Claude
        | ReaderName::Codex
        | ReaderName::Gemini
        | ReaderName::Agent => Keep::PREVIEW,
    }
}

/// Reads the evidence of a tool that exited by itself.
#[must_use]
pub fn read(reader: ReaderName, evidence: &Evidence<'_>) -> Reading {
    match reader {
        // Agents are judged by what was seen of them while they ran, see `agent`.
        ReaderName::ExitCode
        | ReaderName::Aider
        | ReaderName::Claude
        | ReaderName::Codex
        | ReaderName::Gemini
        | ReaderName::Agent => exit_code::read(evidence),
        ReaderName::Pytest => pytest::read(evidence),
        ReaderName::Junit => junit::read(evidence),
        ReaderName::Git => git::read(evidence),
        ReaderName::PluginJson => plugin_json::read(evidence),
    }
}

/// The last lines of a stream that are not empty.
#[must_use]
pub fn last_lines(stream: &Excerpt, count: usize) -> Vec<String> {
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

#[cfg(test)]
pub mod testing {
    //! Evidence for the readers' tests.
    use super::*;

    /// A report in one file.
    pub fn written(content: &[u8]) -> Report {
        let file = ReportFile { name: "r.xml".to_owned(), content: content.to_vec() };
        Report::Written { files: vec![file], not_of_this_attempt: 0 }
    }

    /// Reads an exit code and two texts.
    pub fn read_texts(
        reader: ReaderName,
        exit_code: i32,
        out: &[u8],
        err: &[u8],
        report: &Report,
    ) -> Reading {
        let excerpt = |bytes: &[u8]| {
            let mut excerpt = Excerpt::new(Keep { head: 1 << 20, tail: 1 << 20 });
            excerpt.push(bytes);
            excerpt
        };
        read(
            reader,
            &Evidence {
                exe: "tool",
                exit_code,
                success_exit_codes: &[0],
                args: &["-C".to_owned(), "x".to_owned(), "commit".to_owned()],
                stdout: &excerpt(out),
                stderr: &excerpt(err),
                report,
            },
        )
    }

    proptest::proptest! {
        #[test]
        fn every_reader_answers_whatever_a_tool_prints(
            out in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400),
            err in ".{0,200}",
            code in -1i32..300,
        ) {
            for reader in [ReaderName::ExitCode, ReaderName::Pytest, ReaderName::Junit, ReaderName::Git, ReaderName::PluginJson] {
                for report in [Report::NotNamed, Report::NotWritten("why".to_owned()), written(&out)] {
                    let reading = read_texts(reader, code, &out, err.as_bytes(), &report);
                    // No evidence of an ordinary success can come out of noise and a failing exit code.
                    proptest::prop_assert!(code == 0 || reading.verdict == Verdict::Failure);
                    proptest::prop_assert_eq!(reading.reason.is_some(), reading.verdict == Verdict::Failure);
                }
            }
        }
    }
}
