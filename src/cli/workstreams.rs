//! `engine workstreams validate`: reports every problem of bundles.
//!
//! Also finds the files of bundles, for every verb that takes them. Standard output is that of the original script; warnings go to
//! standard error.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::error::{CliError, NO};
use super::global::{Global, current_dir, variable};
use super::{documents, print, root};
use crate::bundle::{
    self, Bundles, Finding, FindingKind, MOST_BYTES, Paths, PatternOverlap, Refused, Source,
    overlap_findings, overlaps, pattern_overlaps,
};
use crate::job::Problem;
use clap::{Args, Subcommand};

/// `engine workstreams`
#[derive(Debug, Clone, PartialEq, Args)]
pub struct WorkstreamsArgs {
    /// What to do
    #[command(subcommand)]
    pub verb: WorkstreamsVerb,
}

/// The commands below `engine workstreams`.
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub enum WorkstreamsVerb {
    /// Check bundles and report every problem
    Validate(ValidateArgs),
}

/// `engine workstreams validate`
#[derive(Debug, Clone, PartialEq, Args)]
#[command(
    after_help = "Examples:\n  engine workstreams validate\n  engine workstreams validate a.json --json\n  \
                        plan | engine workstreams validate -\n\n\
                        Exit status: 0 valid, 1 a problem, or bundles that share a path and that no dependency orders."
)]
pub struct ValidateArgs {
    /// Bundles: files, directories of *.json, `-` for standard input; default PIPELINE_WORKSTREAM_DIR, else workstreams/
    pub paths: Vec<PathBuf>,
    /// Report file by file, for authors
    #[arg(long)]
    pub authoring: bool,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
pub(super) fn run(args: &WorkstreamsArgs, global: &Global) -> Result<u8, CliError> {
    let WorkstreamsVerb::Validate(args) = &args.verb;
    let sources = sources(&args.paths, global)?;
    let files = sources.names();
    let report = Report::of(sources.read());
    match (args.authoring, args.json) {
        (false, false) => report.print(),
        (false, true) => print::json_pretty(&report.document()),
        (true, false) => report.print_by_file(&files),
        (true, true) => print::json_pretty(&report.authoring_document(files.len())),
    }
    if !args.json && !global.quiet {
        report.print_warnings();
    }
    Ok(if report.is_ok() { 0 } else { NO })
}

/// Files of bundles, read or not.
#[derive(Default)]
pub(super) struct Sources {
    read: Vec<Source>,
    /// What cannot be read.
    unread: Vec<Finding>,
}

impl Sources {
    /// The bundles of them all.
    pub(super) fn read(self) -> Result<Bundles, Refused> {
        bundle::read(&self.read, self.unread)
    }

    fn names(&self) -> Vec<String> {
        let unread = self.unread.iter().map(|finding| &finding.file);
        self.read.iter().map(|source| &source.file).chain(unread).cloned().collect()
    }

    fn add(&mut self, path: &Path) {
        let name = path.display().to_string();
        match content(path) {
            Ok(bytes) => self.read.push(Source { file: name, bytes }),
            Err(error) => self.unreadable(path, &format!("error reading: {error}")),
        }
    }

    fn add_directory(&mut self, dir: &Path) {
        match top_level(dir) {
            Ok(files) => files.iter().for_each(|file| self.add(file)),
            Err(error) => self.unreadable(dir, &format!("error reading: {error}")),
        }
    }

    fn unreadable(&mut self, path: &Path, message: &str) {
        self.unread.push(Finding::of_files(path.display().to_string(), Problem::at(1, 1, message)));
    }
}

/// The files that are meant: those that are named, or those of the directory of bundles.
pub(super) fn sources(paths: &[PathBuf], global: &Global) -> Result<Sources, CliError> {
    let mut sources = Sources::default();
    let default = match (paths.is_empty(), variable("PIPELINE_WORKSTREAM_DIR")) {
        (false, _) => None,
        (true, Some(named)) => Some(PathBuf::from(named)),
        (true, None) => Some(of_project(global)?),
    };
    for path in paths.iter().chain(&default) {
        let before = sources.read.len() + sources.unread.len();
        if default.is_some() && !path.exists() {
            sources.unreadable(path, "there is no such directory, and no bundle is named");
        } else if !documents::is_stdin(path) && path.is_dir() {
            sources.add_directory(path);
        } else {
            sources.add(path);
        }
        if sources.read.len() + sources.unread.len() == before {
            sources.unreadable(path, "there is no *.json file in this directory");
        }
    }
    Ok(sources)
}

/// The directory of bundles of the project, named from here if it is below.
fn of_project(global: &Global) -> Result<PathBuf, CliError> {
    let dir = root::project_dir(global)?.join("workstreams");
    let below = dir.strip_prefix(current_dir()?).map(Path::to_path_buf);
    Ok(below.unwrap_or(dir))
}

/// The files of a directory that hold bundles, by name.
fn top_level(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let is_json = path.extension().is_some_and(|extension| extension == "json");
        // A link that leads nowhere is told when it is read: it was meant to be a bundle.
        if is_json && std::fs::metadata(&path).map_or(true, |found| found.is_file()) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The content of a file, or enough of it to see that it is too long.
fn content(path: &Path) -> std::io::Result<Vec<u8>> {
    let input: Box<dyn Read> = if documents::is_stdin(path) {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(path)?)
    };
    let mut bytes = Vec::new();
    input.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What is to be said of bundles.
struct Report {
    /// How many bundles there are, valid or not.
    count: usize,
    /// The first error in a sentence. An overlap alone has none, as in the original.
    error: Option<String>,
    errors: Vec<Finding>,
    warnings: Vec<Finding>,
    overlaps: BTreeMap<String, Vec<String>>,
    pattern_overlaps: Vec<PatternOverlap>,
}

impl Report {
    fn of(read: Result<Bundles, Refused>) -> Self {
        let (count, bundles, warnings, error, mut errors) = match read {
            Ok(Bundles { bundles, warnings }) => (bundles.len(), bundles, warnings, None, Vec::new()),
            Err(Refused { errors, warnings, documents, valid, summary }) => {
                (documents, valid, warnings, Some(summary), errors)
            }
        };
        let paths = Paths::of(&bundles);
        errors.extend(overlap_findings(&paths));
        Self {
            count,
            error,
            errors,
            warnings,
            overlaps: overlaps(&paths),
            pattern_overlaps: pattern_overlaps(&paths),
        }
    }

    fn is_ok(&self) -> bool {
        self.errors.is_empty()
    }

    fn print(&self) {
        print::lines(self.errors.iter().map(Finding::line));
        if self.is_ok() {
            print::line(&format!("Bundles: {}; no cycles; no overlaps detected.", self.count));
        }
    }

    fn print_by_file(&self, files: &[String]) {
        for file in files {
            let of_file = || self.errors.iter().filter(|finding| finding.file == *file);
            print::lines(of_file().map(Finding::line));
            if of_file().next().is_none() {
                print::line(&format!("{file}: ok"));
            }
        }
    }

    fn print_warnings(&self) {
        for Finding { file, problem, .. } in &self.warnings {
            print::error_line(&format!("{file}:{}:{}: warning: {problem}", problem.line, problem.column));
        }
        if self.errors.iter().any(|finding| finding.kind == FindingKind::Overlap) {
            print::note(
                "hint: make one depend on the other; engine run accepts them as they are, one after the other",
            );
        }
        for PatternOverlap { ws_a, path_a, ws_b, path_b } in &self.pattern_overlaps {
            print::error_line(&format!(
                "warning: `{path_a}` of {ws_a} and `{path_b}` of {ws_b} may mean the same file"
            ));
        }
    }

    fn document(&self) -> Value {
        json!({
            "ok": self.is_ok(), "bundle_count": self.count, "overlaps": self.overlaps,
            "pattern_overlaps": self.pattern_overlaps, "error": self.error, "errors": listed(&self.errors),
            "warnings": self.warnings.iter().map(Finding::line).collect::<Vec<_>>(),
        })
    }

    fn authoring_document(&self, files: usize) -> Value {
        json!({ "ok": self.is_ok(), "bundles_checked": files, "errors": listed(&self.errors) })
    }
}

pub(super) fn listed(findings: &[Finding]) -> Vec<Value> {
    let entry = |finding: &Finding| {
        let Finding { kind, file, id, problem } = finding;
        let details = format!("{}:{}: {problem}", problem.line, problem.column);
        json!({ "type": kind, "file": file, "id": id, "details": details })
    };
    findings.iter().map(entry).collect()
}
