//! `engine validate`: says everything that is wrong with job files.

use std::path::Path;

use serde_json::json;

use super::args::ValidateArgs;
use super::error::{CliError, NO};
use super::{print, run_job};
use crate::job::{Problem, parse_job};

/// Validates each file; 1 if one of them is invalid.
pub fn run(args: &ValidateArgs) -> Result<u8, CliError> {
    let mut status = 0;
    for file in &args.files {
        let (problems, warnings) = problems_of(file)?;
        if !problems.is_empty() {
            status = NO;
        }
        let name = file.display().to_string();
        if args.json {
            print::json_line(&json!({
                "file": name, "valid": problems.is_empty(), "problems": problems, "warnings": warnings,
            }));
            continue;
        }
        let show = |kind: &str, problem: &Problem| {
            let (line, column) = (problem.line, problem.column);
            print::data(&format!("{name}:{line}:{column}: {kind}{}\n", print::plain(&problem.to_string())));
        };
        warnings.iter().for_each(|warning| show("warning: ", warning));
        problems.iter().for_each(|problem| show("", problem));
        if problems.is_empty() {
            print::data(&format!("{name}: valid\n"));
        }
    }
    Ok(status)
}

fn problems_of(file: &Path) -> Result<(Vec<Problem>, Vec<Problem>), CliError> {
    let name = file.display().to_string();
    let parsed = match run_job::read_job_file(file)? {
        Ok(bytes) => parse_job(&bytes, &name),
        Err(problems) => Err(problems),
    };
    Ok(match parsed {
        Ok(parsed) => (Vec::new(), parsed.warnings),
        Err(problems) => (problems.problems, Vec::new()),
    })
}
