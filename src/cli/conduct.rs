//! `engine conduct`: the tool of a workstream's job. Hidden: only a runner starts it.

use std::io::Read;

use clap::Args;

use super::error::CliError;
use super::global::{Global, environment};
use super::{print, root, signals};
use crate::clock::SystemClock;
use crate::git::Program;
use crate::workstream::{self, Event, Means};

/// A larger request is not read: a job file has at most a megabyte.
const MOST_BYTES: u64 = 2 << 20;

/// `engine conduct`
#[derive(Debug, Clone, PartialEq, Args)]
pub struct ConductArgs {}

/// Conducts one workstream; the verdict is the last line of standard output.
pub(super) fn run(global: &Global) -> Result<u8, CliError> {
    let signals = signals::install()?;
    let mut request = Vec::new();
    std::io::stdin()
        .lock()
        .take(MOST_BYTES)
        .read_to_end(&mut request)
        .map_err(|error| CliError::plain("error reading the request").because(&error))?;
    let store = root::to_change(global)?;
    let environment = environment();
    let home = Some(environment.home().to_owned());
    let program = Program::find(environment.get("PATH"), home, store.project_dir())
        .map_err(|reason| CliError::plain(reason.message))?;
    let clock = SystemClock::start();
    let mut tell = |event: &Event<'_>| match event {
        Event::Step(id) => print::note(&format!("{id} started")),
        Event::Warning(text) => print::note(&format!("warning: {text}")),
    };
    let mut means = Means {
        store: &store,
        clock: &clock,
        signals: &signals,
        environment: &environment,
        program,
        tell: &mut tell,
    };
    let verdict = workstream::conduct(&mut means, &request);
    let line =
        serde_json::to_value(&verdict).map_err(|error| CliError::plain("internal error").because(&error))?;
    print::json_line(&line);
    Ok(0)
}
