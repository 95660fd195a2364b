//! `engine`: a job-file runner. Every action is a JSON job file, run by one process, recorded in files.
//!
//! A module uses only those that the table of ARCHITECTURE.md gives it; a test reads the code. What is public is what the
//! program, its tests and its benches need, and the types of the files in `job`.

#![warn(unreachable_pub)]

mod adapter;
mod bundle;
mod causes;
pub mod cli;
pub mod clock;
mod cost;
mod doctor;
mod evidence;
mod fix_loop;
mod fs;
mod git;
pub mod job;
mod lock;
mod policy;
mod process;
mod queue;
mod runner;
mod store;
mod view;
mod worker;
mod workstream;
mod worktree;

/// What tests and benches look at from outside, without a promise.
#[doc(hidden)]
pub mod for_tests {
    pub use crate::adapter::agent::session::SessionFile;
    pub use crate::adapter::agent::verdict::{Ending, Judged, judge};
    pub use crate::adapter::agent::watch::{AgentWatch, Rules, Watched};
    pub use crate::adapter::agent::{Dialect, Finish, usage};
    pub use crate::adapter::find as find_adapter;
    pub use crate::cost::usage::{Tokens, UsageSource};
    pub use crate::fs::Create;
    pub use crate::git::Stop;
    pub use crate::process::Stream;
    pub use crate::process::git_variables::REPOSITORY_LOCAL;
    pub use crate::process::output::moves_the_cursor;
    pub use crate::process::pty::open as open_terminal;
    pub use crate::process::watch::Watch;
    pub use crate::queue::attempt::{new_life, next_line, open_attempt, unknown_summary};
    pub use crate::runner::WorkTrees;
    pub use crate::store::lease::Sync;
    pub use crate::store::record::parse as parse_record;
    pub use crate::store::{Acquire, Lease, Store};

    pub mod evidence {
        pub use crate::evidence::{Changes, Kind, Means, Scope, Unmatched, WorkTreeBefore, before};
    }

    pub mod cache {
        pub use crate::store::cache::{Totals, counts};
    }

    pub mod journal {
        pub use crate::store::journal::{
            append, fill_gaps, fill_latest, live_inode, old_parts, parse, remove,
        };
    }

    pub mod listing {
        pub use crate::view::listing::{Row, State, Wanted, list};
    }
}
