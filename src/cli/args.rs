//! The arguments, as clap reads them; man pages, completions and the reference are made from this.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::submit::SubmitArgs;
use crate::job::Status;

/// Run JSON job files, one process a job, with the truth in files.
#[derive(Debug, Clone, PartialEq, Parser)]
#[command(
    name = "engine",
    version,
    propagate_version = true,
    max_term_width = 100,
    after_help = "Examples:\n  \
        engine run-job -- make test          run a command as a job, recorded\n  \
        engine run-job --job-file job.json   run a job file; its exit status is the verdict\n  \
        engine list                          what ran and how it ended\n  \
        engine show ID                       everything about one job\n\n\
        Exit status of run-job: 0 success, the tool's own code if it failed, 1 failure although the tool said 0,\n\
        75 parked, 124 timed out, 125 the engine could not, 126 not executable, 127 not found, 128+n signal n.\n\
        Other commands: 0 yes, 1 no, 2 wrong usage, 125 the engine could not."
)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// Options of every command.
#[derive(Debug, Clone, Default, PartialEq, Args)]
pub struct Global {
    /// The engine root (default: ENGINE_ROOT, else the nearest directory with engine.toml or .engine/)
    #[arg(long, global = true, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Say more on standard error; twice for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Say only errors on standard error
    #[arg(short, long, global = true)]
    pub quiet: bool,
}

/// The commands.
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub enum Verb {
    /// Make an engine root
    Init(InitArgs),
    /// Run one job to its end
    RunJob(RunJobArgs),
    /// Put jobs into the queue
    Submit(SubmitArgs),
    /// Write a valid job file to start from
    New(NewArgs),
    /// Say everything that is wrong with job files
    Validate(ValidateArgs),
    /// Print a JSON Schema
    Schema(SchemaArgs),
    /// Show one job
    Show(ShowArgs),
    /// List jobs, the newest first
    List(ListArgs),
    /// Show how many jobs are where, and what runs
    Status(super::status::StatusArgs),
    /// Print what happened, and what happens
    Events(super::events::EventsArgs),
    /// Print the log of a job
    Log(LogArgs),
    /// Sum up tokens and costs of agents
    Usage(super::usage::UsageArgs),
    /// List the adapters: are their tools here, in which version
    Adapters(AdaptersArgs),
    /// Complete or declare lost what a crash left behind
    Recover(RecoverArgs),
    /// Take jobs from the queue and run them
    Work(super::work::WorkArgs),
    /// Retire finished jobs: their records go to the archive
    Gc(super::gc::GcArgs),
    /// Say what is guaranteed here, and what is wrong in the root
    Doctor(super::doctor::DoctorArgs),
    /// Cancel jobs: those that wait, and those that run
    Cancel(super::cancel::CancelArgs),
    /// Put ended jobs back into the queue
    Requeue(super::requeue::RequeueArgs),
    /// Keep jobs, or the whole queue, from starting
    Hold(super::hold::HoldArgs),
    /// Let held jobs start again
    Release(super::hold::ReleaseArgs),
    /// Wait until jobs have ended
    Wait(super::wait::WaitArgs),
    /// Say why a job does not run, or what became of it
    Explain(super::explain::ExplainArgs),
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
}

/// `engine init`
#[derive(Debug, Clone, PartialEq, Args)]
#[command(
    after_help = "Examples:\n  engine init          make .engine/ here\n  engine init jobs     make jobs/ a root\n  \
    engine init --adopt  after git clone, cp -a or a restore: allow this root to run what its files name"
)]
pub struct InitArgs {
    /// The directory that becomes a root [default: .engine]
    pub dir: Option<PathBuf>,
    /// Accept a root that was cloned, copied or restored; without DIR the nearest one
    #[arg(long)]
    pub adopt: bool,
    /// Let other users read the root (without DIR the nearest one), as far as your umask leaves them
    #[arg(long)]
    pub shared_read: bool,
}

/// `engine run-job`
#[derive(Debug, Clone, Default, PartialEq, Args)]
#[command(
    override_usage = "engine run-job [OPTIONS] --job-file <FILE>\n       engine run-job [OPTIONS] --claim <ID>\n       \
    engine run-job [OPTIONS] -- <COMMAND>...",
    after_help = "Examples:\n  engine run-job -- make test\n  engine run-job --job-file job.json --json\n  \
    engine run-job --job-file nightly.json --output failure   (in a crontab)\n  \
    generate-job | engine run-job --job-file -"
)]
pub struct RunJobArgs {
    /// The job file; `-` reads it from standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["claim", "command"])]
    pub job_file: Option<PathBuf>,
    /// A job that waits in the queue: makes one attempt of it
    #[arg(long, value_name = "ID", conflicts_with = "command")]
    pub claim: Option<String>,
    /// Print the result as one JSON document on standard output
    #[arg(long)]
    pub json: bool,
    /// When the tool's output is shown: live, or its ends after a failure (default: always, with --json never)
    #[arg(long, value_name = "WHEN")]
    pub output: Option<When>,
    /// Wait so many seconds for a hold, a time, a dependency or a lock that keeps the job from starting
    #[arg(long, value_name = "SECONDS", conflicts_with_all = ["park", "claim"])]
    pub wait: Option<u64>,
    /// Leave the job in the queue if it cannot start, or between two attempts (exit status 75)
    #[arg(long, conflicts_with = "claim")]
    pub park: bool,
    /// A command to run as a shell job with a generated id
    #[arg(last = true, value_name = "COMMAND", required_unless_present_any = ["job_file", "claim"])]
    pub command: Vec<OsString>,
}

/// When output is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum When {
    /// Not at all
    Never,
    /// Head and tail, on standard error, if the job did not succeed
    Failure,
    /// Live
    Always,
}

/// `engine new`
#[derive(Debug, Clone, PartialEq, Args)]
#[command(
    after_help = "Examples:\n  engine new shell -- make test\n  engine new tests --file nightly.json -- pytest -x\n  \
    engine new codex --file -"
)]
pub struct NewArgs {
    /// The adapter
    pub tool: String,
    /// The job id (default: made from the adapter, the time and a random part)
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
    /// The file to write, `-` for standard output (default: ID.json here)
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// The command of the job
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// `engine validate`
#[derive(Debug, Clone, PartialEq, Args)]
#[command(after_help = "Examples:\n  engine validate jobs/*.json\n  generate-job | engine validate -")]
pub struct ValidateArgs {
    /// Files of jobs: an object, an array or JSON Lines each; `-` for standard input
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// Print one JSON document for each file, a line each
    #[arg(long)]
    pub json: bool,
}

/// `engine schema`
#[derive(Debug, Clone, PartialEq, Args)]
#[command(
    after_help = "Examples:\n  engine schema job > job.schema.json\n  engine schema record | jq .properties"
)]
pub struct SchemaArgs {
    /// Which: job, record, result, error_report, event, adapter, usage or prices
    pub name: String,
}

/// `engine show`
#[derive(Debug, Clone, PartialEq, Args)]
#[command(
    after_help = "Examples:\n  engine show nightly\n  engine show nightly --json | jq .result.outcome\n  engine show nightly --all | jq -c .status"
)]
pub struct ShowArgs {
    /// The job
    pub id: String,
    /// Print the record as one JSON document
    #[arg(long)]
    pub json: bool,
    /// Print every line of the record, former lives too (JSON Lines)
    #[arg(long)]
    pub all: bool,
}

/// `engine list`
#[derive(Debug, Clone, PartialEq, Args)]
#[command(
    after_help = "Examples:\n  engine list --limit 20\n  engine list --state quarantined --since 24h\n  \
    engine list --run nightly --json | jq -r .job_id"
)]
pub struct ListArgs {
    /// Only jobs in this state
    #[arg(long, value_name = "STATE")]
    pub state: Option<StateFilter>,
    /// Only jobs of this run
    #[arg(long, value_name = "RUN")]
    pub run: Option<String>,
    /// Only jobs of this adapter
    #[arg(long, value_name = "TOOL")]
    pub tool: Option<String>,
    /// Only jobs of this workstream
    #[arg(long, value_name = "WORKSTREAM")]
    pub workstream: Option<String>,
    /// Only jobs that changed since: a time such as 2026-11-21T10:00:00Z, or 90s, 30m, 2h, 7d ago
    #[arg(long, value_name = "TIME", value_parser = super::since::Since::parse)]
    pub since: Option<super::since::Since>,
    /// Only the newest so many (default: all)
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// The jobs that gc retired, instead of those that are there
    #[arg(long)]
    pub archived: bool,
    /// Print JSON Lines
    #[arg(long)]
    pub json: bool,
}

/// A state to filter by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[expect(missing_docs, reason = "the names are those of the states")]
pub enum StateFilter {
    Queued,
    /// Queued, and something keeps it from starting
    Waiting,
    Running,
    Succeeded,
    Failed,
    Canceled,
    Quarantined,
}

impl StateFilter {
    /// The status; none for what is computed.
    #[must_use]
    pub fn status(self) -> Option<Status> {
        match self {
            Self::Waiting => None,
            Self::Queued => Some(Status::Queued),
            Self::Running => Some(Status::Running),
            Self::Succeeded => Some(Status::Succeeded),
            Self::Failed => Some(Status::Failed),
            Self::Canceled => Some(Status::Canceled),
            Self::Quarantined => Some(Status::Quarantined),
        }
    }
}

/// `engine log`
#[derive(Debug, Clone, PartialEq, Args)]
#[command(
    after_help = "Examples:\n  engine log nightly\n  engine log nightly --follow\n  engine log nightly --attempt 2"
)]
pub struct LogArgs {
    /// The job
    pub id: String,
    /// The attempt (default: the last one)
    #[arg(long, value_name = "N")]
    pub attempt: Option<u32>,
    /// Wait for the start, and go on until the job ends, over its retries; with --attempt until that one ends
    #[arg(short, long)]
    pub follow: bool,
    /// Send control characters to the terminal too, as the tool printed them; a file or a pipe always gets them
    #[arg(long)]
    pub raw: bool,
}

/// `engine adapters`
#[derive(Debug, Clone, PartialEq, Args)]
#[command(after_help = "Examples:\n  engine adapters\n  engine adapters --json | jq .git.version")]
pub struct AdaptersArgs {
    /// Ask the tools of this root's own manifests for their versions too, by the command that each manifest names
    #[arg(long)]
    pub detect: bool,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// `engine recover`
#[derive(Debug, Clone, PartialEq, Args)]
#[command(
    after_help = "Examples:\n  engine recover                            after a crash; safe at any time\n  engine recover --host-is-dead build-7     for jobs that ran on a machine that is gone"
)]
pub struct RecoverArgs {
    /// Say that a machine is dead, so that its running jobs may be declared lost
    #[arg(long, value_name = "HOST")]
    pub host_is_dead: Option<String>,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// `engine completions`
#[derive(Debug, Clone, PartialEq, Args)]
#[command(
    after_help = "Examples:\n  engine completions bash > ~/.local/share/bash-completion/completions/engine"
)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: clap_complete::Shell,
}
