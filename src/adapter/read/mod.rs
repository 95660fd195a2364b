//! Readers: from exit and streams to a verdict.
//!
//! Pure and tolerant: whatever a tool prints, a reader answers. A verdict is a success only where both the exit code
//! and the evidence say so.

pub(crate) mod counts;
mod encoding;
pub(crate) mod exit_code;
pub(crate) mod git;
pub(crate) mod junit;
pub(crate) mod junit_xml;
pub(crate) mod plugin_json;
pub(crate) mod pytest;
mod reading;
pub(crate) mod verdict;

use super::manifest::{Manifest, ReaderName};
use crate::process::excerpt::Keep;

pub(crate) use reading::last_lines;
pub(crate) use reading::{Evidence, Reading, Report, ReportFile, Telling, Told, Verdict};

/// How much of standard output a reader needs.
#[must_use]
pub(crate) fn keep(manifest: &Manifest) -> Keep {
    match manifest.reader {
        ReaderName::ExitCode | ReaderName::Junit => Keep::PREVIEW,
        ReaderName::Git => Keep { head: 64 << 10, tail: 64 << 10 },
        // The names of failed tests precede the last line.
        ReaderName::Pytest => Keep { head: 16 << 10, tail: 256 << 10 },
        ReaderName::PluginJson => Keep { head: 4 << 20, tail: 16 << 10 },
        ReaderName::Verdict => Keep { head: 0, tail: 256 << 10 },
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
pub(crate) fn read(reader: ReaderName, evidence: &Evidence<'_>) -> Reading {
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
        ReaderName::Verdict => verdict::read(evidence),
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! Evidence for the readers' tests.
    use super::*;
    use crate::process::excerpt::Excerpt;

    /// A report in one file.
    pub(crate) fn written(content: &[u8]) -> Report {
        let file = ReportFile { name: "r.xml".to_owned(), content: content.to_vec() };
        Report::Written { files: vec![file], not_of_this_attempt: 0 }
    }

    /// Reads an exit code and two texts.
    pub(crate) fn read_texts(
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
            for reader in [ReaderName::ExitCode, ReaderName::Pytest, ReaderName::Junit, ReaderName::Git, ReaderName::PluginJson, ReaderName::Verdict] {
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
