//! The arguments, as clap reads them; man pages, completions and the reference are made from this.

use clap::{Parser, Subcommand};

use super::global::Global;

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
        Exit status of run-job: 0 success, the tool's own code if it failed, 1 failure although the tool exited with 0,\n\
        75 parked, 124 timed out, 125 engine error, 126 not executable, 127 not found, 128+n signal n.\n\
        Other commands: 0 yes, 1 no, 2 usage error, 125 engine error."
)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// The commands.
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub enum Verb {
    /// Create an engine root
    Init(super::init::InitArgs),
    /// Run a workstream: an agent edits, checks run, what fails is mended
    Run(super::run::RunArgs),
    /// Show the order of workstreams and the reasons for it
    Plan(super::plan::PlanArgs),
    /// Conduct a workstream; only a runner calls this
    #[command(hide = true)]
    Conduct(super::conduct::ConductArgs),
    /// Run one job to its end
    RunJob(super::run_job::RunJobArgs),
    /// Put jobs into the queue
    Submit(super::submit::SubmitArgs),
    /// Write a valid job file to start from
    New(super::new::NewArgs),
    /// Check job files and report every problem
    Validate(super::validate::ValidateArgs),
    /// Print a JSON Schema
    Schema(super::schema::SchemaArgs),
    /// Show one job
    Show(super::show::ShowArgs),
    /// List jobs, the newest first
    List(super::list::ListArgs),
    /// Show job counts by state, and the running jobs
    Status(super::status::StatusArgs),
    /// Print events, past and live
    Events(super::events::EventsArgs),
    /// Print the log of a job
    Log(super::log::LogArgs),
    /// Sum up tokens and costs of agents
    Usage(super::usage::UsageArgs),
    /// List and show runs of workstreams, and clean up after them
    Runs(super::runs::RunsArgs),
    /// List and show what agents changed in the workstreams of runs
    Patches(super::patches::PatchesArgs),
    /// List adapters, and whether their tools are installed
    Adapters(super::adapters::AdaptersArgs),
    /// Recover jobs that a crash left unfinished
    Recover(super::recover::RecoverArgs),
    /// Take jobs from the queue and run them
    Work(super::work::WorkArgs),
    /// Retire finished jobs: their records go to the archive
    Gc(super::gc::GcArgs),
    /// Check what this machine guarantees, and find problems in the root
    Doctor(super::doctor::DoctorArgs),
    /// Cancel queued and running jobs
    Cancel(super::cancel::CancelArgs),
    /// Put ended jobs back into the queue
    Requeue(super::requeue::RequeueArgs),
    /// Keep jobs, or the whole queue, from starting
    Hold(super::hold::HoldArgs),
    /// Release held jobs, or the whole queue
    Release(super::hold::ReleaseArgs),
    /// Wait until jobs have ended
    Wait(super::wait::WaitArgs),
    /// Explain why a job does not run, or how it ended
    Explain(super::explain::ExplainArgs),
    /// Check workstream bundles
    Workstreams(super::workstreams::WorkstreamsArgs),
    /// Print a completion script for a shell
    Completions(super::schema::CompletionsArgs),
}
