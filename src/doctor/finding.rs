//! The finding of a check: the verdict, its meaning for the contract, and the remedy.
//!
//! Made by the probes of the file system and the kernel and by the looks at the store and the queue; printed by `doctor`.

use serde::Serialize;

/// How good it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// The contract holds.
    Ok,
    /// It holds, but not in full, or something waits for a person.
    Warn,
    /// Something does not hold, or is wrong.
    Fail,
}

impl Verdict {
    /// The word for programs and people.
    #[must_use]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// The answer of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// The check, a fixed word.
    pub check: &'static str,
    /// How good it is.
    pub verdict: Verdict,
    /// The observed state.
    pub found: String,
    /// The meaning for the contract.
    pub meaning: &'static str,
    /// The remedy; empty if there is nothing to do.
    pub remedy: String,
    /// The files, jobs or processes it is about.
    pub items: Vec<String>,
}

impl Finding {
    /// All is well.
    #[must_use]
    pub(crate) fn ok(check: &'static str, found: impl Into<String>, meaning: &'static str) -> Self {
        let found = found.into();
        Self { check, verdict: Verdict::Ok, found, meaning, remedy: String::new(), items: Vec::new() }
    }

    /// Something to know.
    #[must_use]
    pub(crate) fn warn(check: &'static str, found: impl Into<String>, meaning: &'static str) -> Self {
        Self { verdict: Verdict::Warn, ..Self::ok(check, found, meaning) }
    }

    /// A failure.
    #[must_use]
    pub(crate) fn fail(check: &'static str, found: impl Into<String>, meaning: &'static str) -> Self {
        Self { verdict: Verdict::Fail, ..Self::ok(check, found, meaning) }
    }

    /// With what to do.
    #[must_use]
    pub(crate) fn remedy(self, remedy: impl Into<String>) -> Self {
        Self { remedy: remedy.into(), ..self }
    }

    /// With what it is about.
    #[must_use]
    pub(crate) fn items(self, items: Vec<String>) -> Self {
        Self { items, ..self }
    }

    /// A list that should be empty: `bad` of so many things if it is not.
    #[must_use]
    pub(crate) fn none_of(
        check: &'static str,
        what: &str,
        items: Vec<String>,
        bad: Verdict,
        meaning: &'static str,
    ) -> Self {
        let verdict = if items.is_empty() { Verdict::Ok } else { bad };
        let found = if items.is_empty() { format!("no {what}") } else { format!("{} {what}", items.len()) };
        Self { verdict, items, ..Self::ok(check, found, meaning) }
    }
}
