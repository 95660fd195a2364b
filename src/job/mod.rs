//! The job contract: the types of every file, their validation, and the life of a job as a table.
//!
//! Pure: no input or output, no clock, no environment. Every decision depends on arguments alone.

pub mod ahead;
pub mod annotations;
pub mod class;
pub mod code;
pub mod digest;
pub mod event;
pub mod id;
pub mod number;
pub mod outcome;
pub mod parse;
pub mod place;
pub mod record;
pub mod result;
pub mod run;
pub mod schema;
pub(crate) mod scope;
pub(crate) mod secret_names;
pub mod spec;
pub mod state;
pub mod step;

pub use ahead::AfterSeen;
pub use code::Code;
pub use id::{JobId, RunId, ToolId};
pub use outcome::{Outcome, Reason};
pub use parse::problem::{Problem, Problems};
pub use parse::{Parsed, parse_job};
pub use place::Place;
pub use record::{Attempt, RecordLine};
pub use result::{ErrorReport, JobResult};
pub use run::RunManifest;
pub use spec::JobFile;
pub use state::Status;
pub use step::StepKind;

/// The version of every format in this program.
pub const SCHEMA_VERSION: u32 = 1;
