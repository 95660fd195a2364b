//! Reads the ordinary forms of `engine run-job` and `engine --version` without building clap's parser.
//!
//! Building that parser for all verbs takes a million instructions, 0.3 ms: nearly half of what a direct run of a short
//! command costs, which git hooks, scripts and loops start again and again. The runners of a queue are forked and parse
//! nothing. Whatever is not exactly one of these forms is left to clap; a test holds both against each other.

use std::ffi::{OsStr, OsString};

use super::args::Cli;
use super::args::Verb;
use super::global::Global;
use super::print;
use super::run_job::RunJobArgs;
use super::run_job::When;

/// Reads the arguments, the program's name first; `None` leaves them to clap.
pub(super) fn parse(arguments: &[OsString]) -> Option<Cli> {
    let mut rest = arguments.iter().skip(1).map(OsString::as_os_str);
    let mut args = RunJobArgs::default();
    let mut global = Global::default();
    let mut first = rest.next()?;
    if first == "--root" {
        global.root = Some(value(rest.next())?.into());
        first = rest.next()?;
    }
    if first != "run-job" {
        return None;
    }
    while let Some(argument) = rest.next() {
        match argument.to_str()? {
            "--job-file" if args.job_file.is_none() => args.job_file = Some(value(rest.next())?.into()),
            "--claim" if args.claim.is_none() => args.claim = Some(value(rest.next())?.to_str()?.to_owned()),
            "--root" if global.root.is_none() => global.root = Some(value(rest.next())?.into()),
            "--json" if !args.json => args.json = true,
            "-q" | "--quiet" if !global.quiet => global.quiet = true,
            "--park" if !args.park => args.park = true,
            "--output" if args.output.is_none() => {
                args.output = Some(match value(rest.next())?.to_str()? {
                    "never" => When::Never,
                    "failure" => When::Failure,
                    "always" => When::Always,
                    _ => return None,
                });
            }
            "--" => {
                args.command = rest.by_ref().map(OsStr::to_owned).collect();
                if args.command.is_empty() {
                    return None;
                }
            }
            _ => return None,
        }
    }
    let sources = [args.job_file.is_some(), args.claim.is_some(), !args.command.is_empty()];
    let one = sources.into_iter().filter(|given| *given).count() == 1;
    let apart = !(args.park && args.claim.is_some());
    (one && apart).then_some(Cli { global, verb: Verb::RunJob(args) })
}

/// Answers `engine --version`, if that is all that was asked.
pub(super) fn version(arguments: &[OsString]) -> bool {
    let asked = arguments.len() == 2 && arguments.get(1).is_some_and(|a| a == "--version" || a == "-V");
    if asked {
        print::line(concat!("engine ", env!("CARGO_PKG_VERSION")));
    }
    asked
}

fn value(argument: Option<&OsStr>) -> Option<&OsStr> {
    argument.filter(|value| !value.is_empty() && !value.as_encoded_bytes().starts_with(b"-"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[test]
    fn the_fast_way_reads_what_clap_reads() {
        let lines = [
            "engine run-job --job-file a.json",
            "engine run-job --json --job-file a.json --output never --root /r",
            "engine run-job --claim a",
            "engine run-job --park --job-file a",
            "engine run-job -- echo --json -- x",
            "engine run-job --output failure -- true",
            "engine --root r run-job --job-file a",
            "engine --root r run-job --quiet --output never --claim a",
            "engine run-job -q --job-file a",
        ];
        for line in lines {
            let arguments: Vec<OsString> = line.split(' ').map(Into::into).collect();
            assert_eq!(parse(&arguments).unwrap(), Cli::parse_from(&arguments), "{line}");
        }
    }

    #[test]
    fn every_other_form_is_left_to_clap() {
        for line in [
            "engine",
            "engine list",
            "engine run-job",
            "engine run-job --",
            "engine run-job --job-file",
            "engine run-job --job-file -",
            "engine run-job --job-file a --job-file b",
            "engine run-job --job-file=a",
            "engine run-job --job-file a --claim b",
            "engine run-job --claim a --park",
            "engine run-job --output sometimes --job-file a",
            "engine run-job --wait 3 --job-file a",
            "engine run-job -v --job-file a",
            "engine -v run-job --job-file a",
        ] {
            let arguments: Vec<OsString> = line.split(' ').map(Into::into).collect();
            assert_eq!(parse(&arguments), None, "{line}");
        }
    }
}
