//! The limits of a workstream and its way of recovering: the canonical form of every settings file.
//!
//! Values that no rule can use are read and raised by the rule (`repeats` and `same_failure` count as at least 2), because
//! the historical files allow them.

use serde::{Deserialize, Serialize};

use crate::job::ToolId;
use crate::job::number::Seconds;

/// The part of the work that a check belongs to: fixes are counted and allowed by it. Acceptance belongs to `runtime`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
    Static,
    Runtime,
}

impl Phase {
    /// The word in files.
    #[must_use]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Static => "static",
            Self::Runtime => "runtime",
        }
    }
}

/// The kind of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CheckKind {
    /// Looks at the files.
    Static,
    /// Runs the program or its tests.
    Runtime,
    /// A command of the bundle's `acceptance_tests`.
    Accept,
}

impl CheckKind {
    /// The word in files.
    #[must_use]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Static => "static",
            Self::Runtime => "runtime",
            Self::Accept => "accept",
        }
    }

    /// The part of the work that it belongs to.
    #[must_use]
    pub(crate) fn phase(self) -> Phase {
        match self {
            Self::Static => Phase::Static,
            Self::Runtime | Self::Accept => Phase::Runtime,
        }
    }
}

/// How many fixes each part of the work is allowed in one life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Fixes {
    /// Of static checks. Default 3.
    #[serde(rename = "static")]
    pub(crate) of_static: u32,
    /// Of runtime checks and acceptance. Default 2.
    #[serde(rename = "runtime")]
    pub(crate) of_runtime: u32,
}

impl Default for Fixes {
    fn default() -> Self {
        Self { of_static: 3, of_runtime: 2 }
    }
}

impl Fixes {
    /// Those of one part.
    #[must_use]
    pub(crate) fn of(self, phase: Phase) -> u32 {
        match phase {
            Phase::Static => self.of_static,
            Phase::Runtime => self.of_runtime,
        }
    }
}

/// What a tripped breaker makes of the workstream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OnTrip {
    /// It has failed.
    #[default]
    Fail,
    /// It is quarantined.
    Quarantine,
}

/// The limits of one workstream; all counters begin anew in each of its lives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Limits {
    /// How many fixes are allowed.
    pub(crate) fixes: Fixes,
    /// How many of the last failures of a check are searched for an oscillation. Default 5.
    pub(crate) window: u32,
    /// How often one failure must occur among them, with others in between, to be an oscillation. Default and least 2.
    pub(crate) repeats: u32,
    /// How often in a row, on different trees, the same failure means that there is no progress. Default 3, least 2.
    pub(crate) same_failure: u32,
    /// The parts of the work whose failures are mended. Default both.
    pub(crate) fix_for: Vec<Phase>,
    /// How many steps of agents one life may have. Default: no limit of its own.
    pub(crate) agent_attempts: Option<u32>,
    /// How long an attempt of the workstream may run. Default 3600.
    pub(crate) timeout_seconds: Seconds,
    /// What a tripped breaker makes of the workstream. Default `fail`.
    pub(crate) on_trip: OnTrip,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            fixes: Fixes::default(),
            window: 5,
            repeats: 2,
            same_failure: 3,
            fix_for: vec![Phase::Static, Phase::Runtime],
            agent_attempts: None,
            timeout_seconds: Seconds::HOUR,
            on_trip: OnTrip::Fail,
        }
    }
}

/// What follows a failed step of an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Recovery {
    /// How often the same tool tries again. Default 1.
    pub(crate) retries: u32,
    /// How long it waits before the first try; each further wait is twice as long. Default 5.
    pub(crate) backoff_seconds: u32,
    /// True if a context that was too large is tried once more with fewer files. Default true.
    pub(crate) reduce_context: bool,
    /// The tools that take over, in order. Default none.
    pub(crate) fallback: Vec<ToolId>,
}

impl Default for Recovery {
    fn default() -> Self {
        Self { retries: 1, backoff_seconds: 5, reduce_context: true, fallback: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_empty_table_has_the_defaults_and_what_is_written_is_read_back() {
        let limits: Limits = serde_json::from_value(json!({})).unwrap();
        assert_eq!(limits, Limits::default());
        let written = json!({
            "fixes": { "static": 3, "runtime": 2 }, "window": 5, "repeats": 2, "same_failure": 3,
            "fix_for": ["static", "runtime"], "agent_attempts": null, "timeout_seconds": 3600.0, "on_trip": "fail",
        });
        assert_eq!(serde_json::to_value(&limits).unwrap(), written);
        assert_eq!(serde_json::from_value::<Limits>(written).unwrap(), limits);
        let recovery: Recovery = serde_json::from_value(json!({})).unwrap();
        let written = json!({ "retries": 1, "backoff_seconds": 5, "reduce_context": true, "fallback": [] });
        assert_eq!(serde_json::to_value(&recovery).unwrap(), written);
        assert_eq!(serde_json::from_value::<Recovery>(written).unwrap(), recovery);
    }

    #[test]
    fn a_misspelled_limit_is_refused_and_not_left_at_its_default() {
        for wrong in [json!({ "fixs": 1 }), json!({ "fixes": { "edit": 1 } }), json!({ "on_trip": "stop" })] {
            assert!(serde_json::from_value::<Limits>(wrong.clone()).is_err(), "{wrong}");
        }
        assert!(serde_json::from_value::<Recovery>(json!({ "retry": 1 })).is_err());
    }
}
