//! A verdict that the tool tells itself, on the last line of standard output: how the conductor of a workstream ends.
//!
//! `{"verdict": "parked", "reason": {"code": "quota", "message": "…"}, "not_before": "…", "metadata": {…}}`; only `verdict` is
//! required, and what is not known is passed over. Hard rule: a success needs exit code 0 as well.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Evidence, Reading, Telling, Told, Verdict};
use crate::clock::Timestamp;
use crate::job::{Code, Reason};

/// A key of the result's `metadata`: the verdict that the tool told, whatever became of the attempt.
const VERDICT: &str = "verdict";

#[derive(Debug, Deserialize)]
struct Line {
    verdict: Told,
    #[serde(default)]
    reason: Option<Why>,
    #[serde(default)]
    not_before: Option<Timestamp>,
    #[serde(default)]
    metadata: Option<Map<String, Value>>,
}

#[derive(Debug, Deserialize)]
struct Why {
    code: Code,
    #[serde(default)]
    message: String,
}

/// Reads the verdict; a failing exit code outweighs a success.
#[must_use]
pub(crate) fn read(evidence: &Evidence<'_>) -> Reading {
    let mut reading = Reading { telling: Telling::Nothing, ..Reading::of_exit_code(evidence) };
    let line = match last_line(&evidence.stdout.ending()) {
        Ok(line) => line,
        Err(problem) => {
            if reading.verdict == Verdict::Success {
                reading.fail(Code::InvalidAnswer, problem);
                reading.details = super::last_lines(evidence.stdout, 20);
            }
            return reading;
        }
    };
    reading.metadata = line.metadata.unwrap_or_default();
    reading.metadata.insert(VERDICT.to_owned(), word(line.verdict).into());
    if line.verdict == Told::Succeeded && reading.verdict == Verdict::Failure {
        return reading;
    }
    reading.telling = Telling::This(line.verdict, line.not_before);
    if line.verdict == Told::Succeeded {
        reading.reason = line.reason.map(|why| Reason::new(why.code, why.message));
        return reading;
    }
    let why = line.reason.unwrap_or_else(|| Why {
        code: Code::PluginFailed,
        message: format!("the tool told the verdict `{}` without a reason", word(line.verdict)),
    });
    reading.fail(why.code, why.message);
    reading
}

fn last_line(stdout: &[u8]) -> Result<Line, String> {
    let last = stdout.trim_ascii_end().rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    let told = |error| format!("the last line of standard output is not a verdict: {error}");
    serde_json::from_slice(last).map_err(told)
}

fn word(told: Told) -> &'static str {
    match told {
        Told::Succeeded => "succeeded",
        Told::Failed => "failed",
        Told::Quarantined => "quarantined",
        Told::Parked => "parked",
        Told::Canceled => "canceled",
    }
}

#[cfg(test)]
mod tests {
    use super::super::Report;
    use super::super::testing::read_texts;
    use super::*;
    use crate::adapter::manifest::ReaderName;

    fn read(code: i32, out: &str) -> Reading {
        read_texts(ReaderName::Verdict, code, out.as_bytes(), b"", &Report::NotNamed)
    }

    #[test]
    fn each_verdict_is_read_from_the_last_line_with_its_reason_time_and_metadata() {
        let time = Timestamp::parse("2026-12-01T00:00:00Z").ok();
        for (word, told) in [
            ("succeeded", Told::Succeeded),
            ("failed", Told::Failed),
            ("quarantined", Told::Quarantined),
            ("parked", Told::Parked),
            ("canceled", Told::Canceled),
        ] {
            let line = format!(
                r#"{{"verdict": "{word}", "reason": {{"code": "quota", "message": "m"}}, "not_before": "2026-12-01T00:00:00Z", "metadata": {{"head": "abc"}}, "of_a_newer": 1}}"#
            );
            let reading = read(0, &format!("chatter\n{{\"verdict\": \"canceled\"}}\n{line}\n\n"));
            assert_eq!(reading.telling, Telling::This(told, time));
            assert_eq!(reading.reason, Some(Reason::new(Code::Quota, "m")));
            assert_eq!(reading.verdict == Verdict::Success, told == Told::Succeeded);
            assert_eq!(
                (&reading.metadata["head"], &reading.metadata["verdict"]),
                (&"abc".into(), &word.into())
            );
        }
    }

    #[test]
    fn a_success_needs_exit_code_0_and_every_other_verdict_counts_whatever_the_code_is() {
        let failed = read(3, r#"{"verdict": "succeeded"}"#);
        assert_eq!((failed.telling, failed.reason.unwrap().code), (Telling::Nothing, Code::ExitCode));
        let parked = read(3, r#"{"verdict": "parked"}"#);
        let told = Telling::This(Told::Parked, None);
        assert_eq!((parked.telling, parked.reason.unwrap().code), (told, Code::PluginFailed));
    }

    #[test]
    fn anything_else_on_the_last_line_is_no_verdict() {
        let good = r#"{"verdict": "failed"}"#;
        for out in [
            "",
            "done",
            "[]",
            "{}",
            r#"{"verdict": "done"}"#,
            r#"{"verdict": "failed""#,
            &format!("{good}\nmore"),
        ] {
            let reading = read(0, out);
            assert!(!reading.metadata.contains_key("verdict"));
            let found = (reading.telling, reading.reason.unwrap().code);
            assert_eq!(found, (Telling::Nothing, Code::InvalidAnswer), "{out}");
        }
        assert_eq!(read(2, "").reason.unwrap().code, Code::ExitCode);
    }
}
