//! Agents: the facts in their streams and session files, while they run and after.
//!
//! A reader turns lines into `StreamFacts`; `verdict` turns them and the evidence of the worktree into a class. Nothing
//! here trusts an exit code. Hard rule: an event or field that is not known is passed over, never an error.

pub(crate) mod aider;
pub(crate) mod claude;
pub(crate) mod codex;
pub(crate) mod gemini;
pub(crate) mod json;
pub(crate) mod own;
pub(crate) mod phrases;
pub(crate) mod reset_time;
pub(crate) mod seen;
pub(crate) mod session;
pub mod usage;
pub(crate) mod verdict;
pub(crate) mod watch;

pub use seen::Finish;
pub(crate) use seen::{Command, ReadAgent, SessionFacts, StreamFacts};
pub(crate) use verdict::Judged;

/// A family of agents: how its lines are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the tools'")]
pub enum Dialect {
    Aider,
    Claude,
    Codex,
    Gemini,
    Own,
}

impl Dialect {
    /// A reader for a run that begins.
    #[must_use]
    pub fn reader(self) -> Box<dyn ReadAgent> {
        match self {
            Self::Aider => Box::<aider::Aider>::default(),
            Self::Claude => Box::<claude::Claude>::default(),
            Self::Codex => Box::<codex::Codex>::default(),
            Self::Gemini => Box::<gemini::Gemini>::default(),
            Self::Own => Box::<own::Own>::default(),
        }
    }
}
