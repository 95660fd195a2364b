//! How an attempt ended, and why.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::code::Code;
use crate::causes::{Shortage, causes};

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The verdict was success.
    Succeeded,
    /// The verdict was failure.
    Failed,
    /// The total time was over.
    TimedOut,
    /// The tool printed nothing for too long.
    Stalled,
    /// A signal that was not ours ended the tool.
    Killed,
    /// A person stopped it.
    Canceled,
    /// It waits for a quota.
    Parked,
    /// Its runner died: the tool may have run.
    Lost,
    /// The tool was never started.
    NotStarted,
    /// The job file could not be read when it was claimed.
    Invalid,
}

impl Outcome {
    /// The word in files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::Stalled => "stalled",
            Self::Killed => "killed",
            Self::Canceled => "canceled",
            Self::Parked => "parked",
            Self::Lost => "lost",
            Self::NotStarted => "not_started",
            Self::Invalid => "invalid",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A reason: a word for programs and a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reason {
    /// A fixed word, as `path_missing`.
    pub code: Code,
    /// What happened and what to do.
    pub message: String,
    /// The resource that the system lacked, if that is the cause. No file holds it.
    #[serde(skip)]
    pub shortage: Option<Shortage>,
    /// The pointer to the value of the job that it is about, if it is about one; the root if not. No file holds it.
    #[serde(skip)]
    pub pointer: String,
}

impl Reason {
    /// Makes a reason.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), shortage: None, pointer: String::new() }
    }

    /// With the value of the job that it is about.
    #[must_use]
    pub fn at(self, pointer: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), ..self }
    }

    /// Makes a reason of an error.
    pub fn from_error(code: Code, error: &(dyn std::error::Error + 'static)) -> Self {
        Self::new(code, causes(error)).because(error)
    }

    /// Adds the shortage behind an error, if there is one.
    #[must_use]
    pub fn because(self, error: &(dyn std::error::Error + 'static)) -> Self {
        Self { shortage: Shortage::behind(error), ..self }
    }
}
