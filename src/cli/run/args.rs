//! The arguments of `engine run`, and the error of a run that is not made.

use std::path::PathBuf;

use clap::Args;

use crate::cli::error::CliError;
use crate::runner::exit_status::ENGINE;

/// `engine run`
#[derive(Debug, Clone, PartialEq, Args)]
#[command(
    override_usage = "engine run [OPTIONS] [PATH]...\n       engine run [OPTIONS] --task <TEXT> --files <PATH>... [--check <COMMAND>]... \
    [--test <COMMAND>]...\n       engine run [OPTIONS] --resume <RUN|last>",
    after_help = "Examples:\n  \
    engine run --task \"add() subtracts; mend it\" --files calc.py --tool claude --check \"ruff check .\" --test \"pytest -q\"\n  \
    engine run workstreams/ws-parser.json     run one bundle\n  \
    engine run --resume last                  go on with the newest run, after a crash or a failure\n  \
    engine run --resume last --only ws-a      the same, of one workstream and those that it depends on\n  \
    engine run ws.json --park                 exit with 75 where only waiting is left: cron goes on\n\n\
    Exit status: 0 succeeded, 1 not, 75 it waits (--park) or is held, 125 nothing was started, 130 or 143 stopped.\n\
    Ctrl-C or TERM: the first starts nothing more, the second stops the workstream and leaves a clean tree, the third kills."
)]
pub struct RunArgs {
    /// Bundles: files, directories, `-` (default: PIPELINE_WORKSTREAM_DIR, else workstreams/)
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// The name of the run (default: one with the time)
    #[arg(long, value_name = "ID", conflicts_with = "resume")]
    pub run: Option<String>,
    /// What to do, instead of a bundle
    #[arg(long, value_name = "TEXT", conflicts_with = "paths", requires = "files")]
    pub task: Option<String>,
    /// The files that the task may change: paths and globs
    #[arg(long, value_name = "PATH", num_args = 1.., requires = "task")]
    pub files: Vec<String>,
    /// The adapter that edits the task (default: `tool` of [workstreams]); a bundle names its own
    #[arg(long, value_name = "TOOL", conflicts_with = "resume")]
    pub tool: Option<String>,
    /// A static check: a command line, or the name of a profile or adapter
    #[arg(long, value_name = "COMMAND")]
    pub check: Vec<String>,
    /// A check that runs the program, as tests do
    #[arg(long, value_name = "COMMAND")]
    pub test: Vec<String>,
    /// Only these bundles, and those that they depend on
    #[arg(long, value_name = "WS", conflicts_with = "task")]
    pub only: Vec<String>,
    /// After a failure start no other workstream; what runs ends
    #[arg(long, conflicts_with_all = ["task", "resume"])]
    pub fail_fast: bool,
    /// First run the checks on the base commit: if one fails there, no agent is asked
    #[arg(long, conflicts_with = "resume")]
    pub baseline: bool,
    /// Do not merge what has succeeded
    #[arg(long, conflicts_with_all = ["task", "resume"])]
    pub no_integrate: bool,
    /// The commit to begin on (default: HEAD)
    #[arg(long, value_name = "REV")]
    pub base: Option<String>,
    /// What the run may cost, in US dollars
    #[arg(long, value_name = "X")]
    pub max_cost_usd: Option<f64>,
    /// How many jobs of the run at a time (default: `max_workers` of [workstreams])
    #[arg(long, visible_alias = "max-workers", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub slots: Option<u16>,
    /// After success merge into the branch of the checkout, as engine runs merge
    #[arg(long, conflicts_with_all = ["no_integrate", "detach", "dry_run"])]
    pub merge: bool,
    /// Exit with 75 where only waiting is left
    #[arg(long)]
    pub park: bool,
    /// Only submit: workers do it
    #[arg(long, conflicts_with = "park")]
    pub detach: bool,
    /// Print every job file and prompt as JSON Lines, and write nothing
    #[arg(long, conflicts_with_all = ["detach", "park"])]
    pub dry_run: bool,
    /// Go on with a run: recover, requeue what did not succeed, work
    #[arg(long, value_name = "RUN", conflicts_with_all = ["paths", "task", "dry_run", "base", "check", "test", "max_cost_usd"])]
    pub resume: Option<String>,
    /// Print the events of the run as JSON Lines
    #[arg(long)]
    pub json: bool,
}

/// A run that was not made.
pub(super) fn nothing(why: &str) -> CliError {
    CliError::plain(format!("nothing was started: {why}")).with_status(ENGINE)
}
