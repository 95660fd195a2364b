//! The command line: the only place that prints, reads the environment and decides the exit status.
//!
//! One file for each verb. Data goes to standard output, everything else to standard error.

mod adapters;
mod archived;
pub mod args;
mod cancel;
mod conduct;
pub mod doctor;
mod documents;
mod error;
pub mod events;
mod explain;
mod fast;
pub mod gc;
mod global;
mod growing;
mod hold;
mod init;
mod jobs;
mod list;
mod log;
mod named_root;
mod named_run;
mod new;
mod patches;
mod plan;
mod print;
mod recover;
mod requeue;
mod root;
mod run;
mod run_events;
mod run_job;
mod run_next;
mod run_text;
mod runs;
mod schema;
mod scrub;
mod show;
mod show_agent;
mod signals;
mod since;
pub mod status;
pub mod submit;
mod trace;
pub mod usage;
mod validate;
mod wait;
mod work;
mod workstream_settings;
mod workstreams;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};

use args::{Cli, Verb};
use error::USAGE;

pub use schema::SCHEMAS;

/// Runs the program with the arguments and the environment of this process.
#[must_use]
pub fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    interfere(&arguments);
    if fast::version(&arguments) {
        return exit(0);
    }
    let parsed = fast::parse(&arguments).map_or_else(|| parse(&arguments), Ok);
    let cli = match parsed {
        Ok(cli) => cli,
        Err(status) => return exit(status),
    };
    trace::to_stderr(&cli.global);
    let ran = match &cli.verb {
        Verb::Init(args) => init::run(args, &cli.global),
        Verb::Run(args) => run::run(args, &cli.global),
        Verb::Plan(args) => plan::run(args, &cli.global),
        Verb::Conduct(_) => conduct::run(&cli.global),
        Verb::RunJob(args) => run_job::run(args, &cli.global),
        Verb::Submit(args) => submit::run(args, &cli.global),
        Verb::New(args) => new::run(args, &cli.global),
        Verb::Validate(args) => validate::run(args, &cli.global),
        Verb::Schema(args) => schema::run(args),
        Verb::Show(args) => show::run(args, &cli.global),
        Verb::List(args) if args.archived => archived::list(args, &cli.global),
        Verb::List(args) => list::run(args, &cli.global),
        Verb::Status(args) => status::run(args, &cli.global),
        Verb::Events(args) => events::run(args, &cli.global),
        Verb::Log(args) => log::run(args, &cli.global),
        Verb::Usage(args) => usage::run(args, &cli.global),
        Verb::Runs(args) => runs::run(args, &cli.global),
        Verb::Patches(args) => patches::run(args, &cli.global),
        Verb::Adapters(args) => adapters::run(args, &cli.global),
        Verb::Recover(args) => recover::run(args, &cli.global),
        Verb::Work(args) => work::run(args, &cli.global),
        Verb::Gc(args) => gc::run(args, &cli.global),
        Verb::Doctor(args) => doctor::run(args, &cli.global),
        Verb::Cancel(args) => cancel::run(args, &cli.global),
        Verb::Requeue(args) => requeue::run(args, &cli.global),
        Verb::Hold(args) => hold::hold(args, &cli.global),
        Verb::Release(args) => hold::release(args, &cli.global),
        Verb::Wait(args) => wait::run(args, &cli.global),
        Verb::Explain(args) => explain::run(args, &cli.global),
        Verb::Workstreams(args) => workstreams::run(args, &cli.global),
        Verb::Completions(args) => schema::completions(args, Cli::command()),
    };
    match ran {
        Ok(status) => exit(status),
        Err(error) => exit(error.print(cli.global.quiet)),
    }
}

/// The status; not 0 if data could not be printed.
fn exit(status: u8) -> ExitCode {
    let lost = status == 0 && print::data_was_lost();
    ExitCode::from(if lost { crate::runner::exit_status::ENGINE } else { status })
}

fn parse(arguments: &[OsString]) -> Result<Cli, u8> {
    let command = Cli::command();
    let parsed = command.try_get_matches_from(arguments).and_then(|m| Cli::from_arg_matches(&m));
    parsed.map_err(|error| {
        let is_run_job = verb(arguments).is_some_and(|verb| verb == "run-job");
        let text = error.render().to_string();
        if error.use_stderr() {
            // An argument that is quoted in it may begin a line of its own.
            let own_lines = |argument: &OsString| argument.as_encoded_bytes().contains(&b'\n');
            let print = if arguments.iter().any(own_lines) { print::error_line } else { print::error_text };
            print(&text);
            // `run-job` keeps the low numbers for the tool.
            if is_run_job { crate::runner::exit_status::ENGINE } else { USAGE }
        } else {
            print::text(&text);
            0
        }
    })
}

/// The first argument that is neither an option nor the value of one.
fn verb(arguments: &[OsString]) -> Option<&OsString> {
    let mut rest = arguments.iter().skip(1);
    while let Some(argument) = rest.next() {
        if argument == "--root" {
            rest.next();
        } else if !argument.as_encoded_bytes().starts_with(b"-") {
            return Some(argument);
        }
    }
    None
}

/// Lets a test end or stop a debug build at a chosen step (see `fs::steps`).
#[cfg(debug_assertions)]
fn interfere(arguments: &[OsString]) {
    let number = |name| global::variable(name)?.to_str()?.parse().ok();
    crate::fs::steps::interfere(crate::fs::steps::Interference {
        kill_at: number("ENGINE_TEST_KILL_AT"),
        tear_at: number("ENGINE_TEST_TEAR_AT"),
        stop_at: number("ENGINE_TEST_STOP_AT"),
        fail_at: number("ENGINE_TEST_FAIL_AT"),
        trace: global::variable("ENGINE_TEST_TRACE").map(Into::into),
        disk: global::variable("ENGINE_TEST_DISK").map(Into::into),
        mount: global::variable("ENGINE_TEST_MOUNT").and_then(|line| line.into_string().ok()),
        aim: aim(arguments),
    });
}

/// `VERB:TURN:DIRECTORY`: only the process of this verb whose turn it is; `fork` stands for those that a worker forks.
#[cfg(debug_assertions)]
fn aim(arguments: &[OsString]) -> Option<crate::fs::steps::Aim> {
    let text = global::variable("ENGINE_TEST_AIM")?.into_string().ok()?;
    let mut words = text.splitn(3, ':');
    let kind = words.next()?;
    let (turn, dir) = (words.next()?.parse().ok()?, words.next()?.into());
    let is_forked = kind == "fork";
    let is_of_verb = is_forked || verb(arguments).is_some_and(|verb| verb == kind);
    Some(crate::fs::steps::Aim { is_of_verb, is_forked, turn, dir })
}

#[cfg(not(debug_assertions))]
fn interfere(_: &[OsString]) {}
