//! The classes of an agent's end, by the evidence: the words of `reason.code`, and the consequence of each.
//!
//! Pure. Exit codes of agents lie; a class comes from their streams, their session files and the worktree.

use super::code::Code;
use serde::{Deserialize, Serialize};

use super::outcome::Outcome;

/// The class of an agent's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// It finished, and the worktree changed.
    Ok,
    /// It finished, and the worktree is as before.
    NoChange,
    /// It reports a failure, or its edits did not apply.
    Failed,
    /// The model refused.
    Refused,
    /// It needs a permission or an answer that no one could give.
    NeedsInput,
    /// The service does not accept the key.
    Auth,
    /// The service demands payment.
    Billing,
    /// The quota of a period is used up.
    Quota,
    /// Too many requests for the moment.
    RateLimited,
    /// The service is overloaded, broken or unreachable.
    Overloaded,
    /// The context is larger than the model accepts.
    ContextOverflow,
    /// Its stream is malformed or incomplete.
    Protocol,
    /// It printed nothing for too long.
    Stalled,
    /// Its time was over.
    TimedOut,
    /// Its runner died.
    Lost,
}

/// The consequence of a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consequence {
    /// The attempt has succeeded.
    Succeed,
    /// The job waits in the queue, and no attempt is counted.
    Park,
    /// The attempt has failed, and may be repeated.
    Fail,
    /// The attempt has failed, and the same tool would fail again.
    FailForGood,
    /// The outcome has its own word.
    Own(Outcome),
}

impl Class {
    /// The reason code of an attempt of this class.
    #[must_use]
    pub fn code(self) -> Code {
        match self {
            Self::Ok => Code::Ok,
            Self::NoChange => Code::NoChange,
            Self::Failed => Code::Failed,
            Self::Refused => Code::Refused,
            Self::NeedsInput => Code::NeedsInput,
            Self::Auth => Code::Auth,
            Self::Billing => Code::Billing,
            Self::Quota => Code::Quota,
            Self::RateLimited => Code::RateLimited,
            Self::Overloaded => Code::Overloaded,
            Self::ContextOverflow => Code::ContextOverflow,
            Self::Protocol => Code::Protocol,
            Self::Stalled => Code::Stalled,
            Self::TimedOut => Code::TimedOut,
            Self::Lost => Code::Lost,
        }
    }

    /// The consequence.
    #[must_use]
    pub fn consequence(self) -> Consequence {
        match self {
            Self::Ok => Consequence::Succeed,
            Self::Quota | Self::RateLimited | Self::Overloaded => Consequence::Park,
            Self::Auth | Self::Billing => Consequence::FailForGood,
            Self::NoChange
            | Self::Failed
            | Self::Refused
            | Self::NeedsInput
            | Self::ContextOverflow
            | Self::Protocol => Consequence::Fail,
            Self::Stalled => Consequence::Own(Outcome::Stalled),
            Self::TimedOut => Consequence::Own(Outcome::TimedOut),
            Self::Lost => Consequence::Own(Outcome::Lost),
        }
    }

    /// True if the first notice of it is enough: no further try of the same tool can change it.
    #[must_use]
    pub fn is_final_at_once(self) -> bool {
        matches!(self, Self::Auth | Self::Billing | Self::Quota | Self::ContextOverflow)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_ok_succeeds() {
        for class in [
            Class::NoChange,
            Class::Failed,
            Class::Refused,
            Class::NeedsInput,
            Class::Auth,
            Class::Billing,
            Class::Quota,
            Class::RateLimited,
            Class::Overloaded,
            Class::ContextOverflow,
            Class::Protocol,
            Class::Stalled,
            Class::TimedOut,
            Class::Lost,
        ] {
            assert_ne!(class.consequence(), Consequence::Succeed, "{class:?}");
        }
        assert_eq!(Class::Ok.consequence(), Consequence::Succeed);
    }
}
