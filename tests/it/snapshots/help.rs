//! The help of every command, and what a wrong call is told.

use clap::CommandFactory;

use super::Session;
use crate::support::Project;

#[test]
fn help_of_each_command() {
    let project = Project::without_root();
    let command = engine::cli::args::Cli::command();
    let verbs: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
    assert!(verbs.len() > 20, "{verbs:?}");
    for verb in verbs {
        let mut session = Session::new(&project);
        session.engine(&format!("{verb} --help"));
        session.matches(&format!("help-{verb}"));
    }
    for verb in command.get_subcommands() {
        for below in verb.get_subcommands() {
            let mut session = Session::new(&project);
            session.engine(&format!("{} {} --help", verb.get_name(), below.get_name()));
            session.matches(&format!("help-{}-{}", verb.get_name(), below.get_name()));
        }
    }
}

#[test]
fn help_of_the_program_and_wrong_usage() {
    let project = Project::without_root();
    let mut session = Session::new(&project);
    for line in
        ["--help", "-h", "--version", "", "nonsense", "shw a", "list --nonsense", "list --state nonsense"]
    {
        session.engine(line);
    }
    for line in ["run-job", "run-job --nonsense", "run-job --job-file a --claim b", "submit", "requeue"] {
        session.engine(line);
    }
    session.matches("help");
}

#[test]
fn a_command_without_a_root() {
    let project = Project::without_root();
    let mut session = Session::new(&project);
    session.engine_all(&[
        "show a",
        "list",
        "status",
        "events",
        "log a",
        "usage",
        "recover",
        "work --drain",
        "gc",
        "doctor",
        "cancel a",
        "requeue a",
        "hold a",
        "release a",
        "wait a",
        "explain a",
        "run-job --claim a",
        "run-job --claim a --json",
    ]);
    session.matches("no-root");
}
