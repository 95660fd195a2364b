//! How a test ended, by the elements and the words of the tools that write such a report.
//!
//! Not responsible for counting. Hard rule: a word that no tool writes is an unknown end, never a pass.

/// How a test ended; of several signs the last one here counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum End {
    #[default]
    Passed,
    Skipped,
    Error,
    Failed,
}

impl End {
    pub(super) fn is_bad(self) -> bool {
        matches!(self, Self::Error | Self::Failed)
    }

    /// What an element inside a test, or a suite, says of it.
    pub(super) fn of_element(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "failure" | "rerunfailure" => Some(Self::Failed),
            "error" | "rerunerror" => Some(Self::Error),
            "skipped" | "disabled" | "ignored" | "notrun" => Some(Self::Skipped),
            _ => None,
        }
    }

    /// What an attribute `status` or `result` says, as googletest, `CTest` and others write it; `None` for a word that none of
    /// them writes.
    pub(super) fn of_word(word: &str) -> Option<Self> {
        let letters = word.chars().filter(char::is_ascii_alphabetic).map(|c| c.to_ascii_lowercase());
        match letters.collect::<String>().as_str() {
            "fail" | "failed" | "failure" | "failing" | "regression" | "unexpected" => Some(Self::Failed),
            "error" | "errored" | "broken" | "timeout" | "timedout" | "aborted" | "crashed" => {
                Some(Self::Error)
            }
            "notrun" | "skip" | "skipped" | "disabled" | "ignored" | "pending" | "suppressed"
            | "untested" | "todo" | "notexecuted" => Some(Self::Skipped),
            "run" | "completed" | "complete" | "pass" | "passed" | "success" | "successful" | "succeeded"
            | "ok" | "fixed" | "executed" | "expected" | "xfail" | "xfailed" | "xpass" | "xpassed"
            | "flaky" => Some(Self::Passed),
            // `status=""`.
            "" if word.trim().is_empty() => Some(Self::Passed),
            _ => None,
        }
    }

    /// The end of a test that was there before, after one more attempt: the last counts, but nothing that was not run undoes
    /// what was, and a test that failed and has an error in its clean-up is one failed test.
    pub(super) fn then(self, next: Self) -> Self {
        match (self, next) {
            (Self::Passed | Self::Failed | Self::Error, Self::Skipped) => self,
            (Self::Failed, Self::Error) => Self::Failed,
            _ => next,
        }
    }
}
