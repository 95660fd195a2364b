//! `engine submit`: puts jobs into the queue, all of a batch or none.

use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde_json::json;

use super::args::Global;
use super::error::{CliError, NO};
use super::validate::KnownAdapters;
use super::{current_dir, print, root, run_job};
use crate::clock::SystemClock;
use crate::job::parse::MAX_JOB_BYTES;
use crate::job::split::{Piece, Splitter};
use crate::job::{Problem, Problems, Reason, SCHEMA_VERSION, parse_job};
use crate::queue::batch::{Batch, IfExists, Origin, Refused};
use crate::queue::enter::Incoming;
use crate::queue::submit::{How, IfRefused, Inside, Options, Told, submit};
use crate::store::Store;

/// `engine submit`
#[derive(Debug, Clone, PartialEq, Args)]
#[command(after_help = "Examples:\n  engine submit build.json test.json        all of them or none\n  \
    engine submit -- make test                a command, with a generated id\n  \
    generate-jobs | engine submit -           an object, an array or JSON Lines, of any size\n  \
    engine submit --skip-existing jobs.jsonl  after a crash: what is missing\n\n\
    The ids are printed, one a line, once the jobs are durable in the queue.")]
pub struct SubmitArgs {
    /// Files of jobs: an object, an array or JSON Lines each; `-` for standard input
    #[arg(value_name = "FILE", required_unless_present = "command", conflicts_with = "command")]
    pub files: Vec<PathBuf>,
    /// Count a job whose id is there already as submitted
    #[arg(long)]
    pub skip_existing: bool,
    /// Submit the valid jobs although others are refused
    #[arg(long)]
    pub keep_going: bool,
    /// Print one JSON document for each job that is accepted or refused, a line each
    #[arg(long)]
    pub json: bool,
    /// A command to submit as a shell job with a generated id
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// Submits; 1 if a job is refused.
pub fn run(args: &SubmitArgs, global: &Global) -> Result<u8, CliError> {
    let first = args.files.iter().find(|file| !is_stdin(file)).map(PathBuf::as_path);
    let found = root::find(global, first)?;
    let spool = found.clone().map_or_else(current_dir, Ok)?;
    let known = found.as_deref().and_then(|root| Store::open_to_read(root).ok());
    let adapters = KnownAdapters::of(known.as_ref());
    let mut desk = Desk { args, global, batch: Batch::new(&spool), refused: 0, taken: 0, adapters };
    if args.command.is_empty() {
        for file in &args.files {
            desk.read(file)?;
        }
    } else {
        let bytes = run_job::command_as_job(&args.command, global)?;
        desk.document("the command", Piece { line: 1, column: 1, content: Ok(bytes) })?;
    }
    if desk.refused > 0 && (!args.keep_going || desk.batch.accepted() == 0) {
        // Whatever else is wrong is said as well, if there is something to compare with.
        if let Some(store) = found.and_then(|root| Store::open_to_change(&root).ok()) {
            desk.check(&store)?;
        }
        return Ok(desk.nothing());
    }
    let store = root::to_change_or_make(global, first)?.accepted()?;
    desk.check(&store)?;
    if desk.refused > 0 && !args.keep_going {
        return Ok(desk.nothing());
    }
    desk.submit(&store)
}

/// Where jobs are handed in.
struct Desk<'a> {
    args: &'a SubmitArgs,
    global: &'a Global,
    batch: Batch,
    refused: usize,
    /// How many of those because of an id that was there before.
    taken: usize,
    adapters: KnownAdapters<'a>,
}

impl Desk<'_> {
    /// Reads a file, whatever its size, one document after the other.
    fn read(&mut self, file: &Path) -> Result<(), CliError> {
        let name = file.display().to_string();
        let mut input: Box<dyn Read> = match open(file) {
            Ok(input) => input,
            Err(problem) => {
                self.refuse(&unreadable(&name, problem));
                return Ok(());
            }
        };
        let mut splitter = Splitter::default();
        let mut part = vec![0; 64 << 10];
        let mut pieces = Vec::new();
        loop {
            let length = match input.read(&mut part) {
                Ok(length) => length,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    self.refuse(&unreadable(&name, Problem::at(1, 1, format!("error reading: {error}"))));
                    return Ok(());
                }
            };
            splitter.push(part.get(..length).unwrap_or_default(), &mut pieces);
            for piece in pieces.drain(..) {
                self.document(&name, piece)?;
            }
            if length == 0 {
                break;
            }
        }
        splitter.finish(&mut pieces);
        pieces.into_iter().try_for_each(|piece| self.document(&name, piece))
    }

    fn document(&mut self, name: &str, piece: Piece) -> Result<(), CliError> {
        let origin = Origin { file: Arc::from(name), line: piece.line, column: piece.column };
        let mut bytes = match piece.content {
            Ok(bytes) => bytes,
            Err(problem) => {
                self.refuse(&Refused {
                    id: None,
                    code: "invalid_job_file",
                    problems: origin.problems(vec![problem]),
                });
                return Ok(());
            }
        };
        let parsed = match parse_job(&bytes, name) {
            Ok(parsed) => parsed,
            Err(problems) => {
                let refused = self.batch.refuse_document(&bytes, origin.problems(problems.problems));
                self.refuse(&refused);
                return Ok(());
            }
        };
        if !self.global.quiet {
            let mut warnings = parsed.warnings;
            warnings.extend(self.adapters.without_effect(&parsed.job, &bytes));
            for line in origin.problems(warnings).lines() {
                print::note(&format!("warning: {line}"));
            }
        }
        // A text file ends its last line; at the limit it may lack that.
        if !bytes.ends_with(b"\n") && (bytes.len() as u64) < MAX_JOB_BYTES {
            bytes.push(b'\n');
        }
        let incoming = Incoming { job: &parsed.job, bytes: &bytes };
        if let Err(refused) = self.batch.add(incoming, origin)? {
            self.refuse(&refused);
        }
        Ok(())
    }

    fn check(&mut self, store: &Store) -> Result<(), CliError> {
        let if_exists = self.options().if_exists;
        for refused in self.batch.check(store, &SystemClock::start(), if_exists)? {
            self.refuse(&refused);
        }
        Ok(())
    }

    fn options(&self) -> Options {
        Options {
            if_exists: if self.args.skip_existing { IfExists::Skip } else { IfExists::Refuse },
            if_refused: if self.args.keep_going { IfRefused::GoOn } else { IfRefused::Stop },
        }
    }

    fn submit(&mut self, store: &Store) -> Result<u8, CliError> {
        let mut refused = Vec::new();
        let mut inside = 0usize;
        let json = self.args.json;
        let mut tell = |told| match told {
            Told::In(job) => {
                inside += 1;
                tell_inside(&job, store, json);
            }
            Told::Out(job) => refused.push(job),
        };
        let options = self.options();
        let done = submit(&mut self.batch, store, &SystemClock::start(), options, &mut tell);
        refused.iter().for_each(|refused| self.refuse(refused));
        if let Err(error) = done {
            if inside > 0 {
                print::note(&format!("submitted: {inside}, before this happened"));
            }
            return Err(CliError::from(error));
        }
        if self.refused == 0 {
            if inside == 0 && !self.global.quiet {
                print::note("there are no jobs in it; nothing was submitted");
            }
            return Ok(0);
        }
        if inside == 0 {
            return Ok(self.nothing());
        }
        print::note(&format!("submitted: {inside}, refused: {}", self.refused));
        self.hint(None);
        Ok(NO)
    }

    fn refuse(&mut self, refused: &Refused) {
        self.refused += 1;
        self.taken += usize::from(matches!(refused.code, "id_queued" | "id_running" | "id_taken"));
        if self.args.json {
            let reason = Reason::new(refused.code, refused.problems.to_string());
            print::json_line(&json!({
                "schema_version": SCHEMA_VERSION, "job_id": refused.id, "submitted": "refused", "place": null,
                "path": null, "file": refused.problems.file, "reason": reason, "problems": refused.problems.problems,
            }));
        }
        for line in refused.problems.lines() {
            print::error_line(&line);
        }
    }

    fn nothing(&self) -> u8 {
        print::note("error: nothing was submitted");
        let others = self.batch.accepted();
        self.hint((others > 0).then_some(others));
        NO
    }

    fn hint(&self, others: Option<usize>) {
        if self.global.quiet {
            return;
        }
        if self.taken > 0 && !self.args.skip_existing {
            print::note("hint: --skip-existing counts jobs whose id is there already as submitted");
        }
        if let Some(others) = others.filter(|_| !self.args.keep_going) {
            print::note(&format!("hint: --keep-going submits the {others} that could be accepted"));
        }
    }
}

fn is_stdin(file: &Path) -> bool {
    file.as_os_str() == "-"
}

fn open(file: &Path) -> Result<Box<dyn Read>, Problem> {
    if is_stdin(file) {
        return Ok(Box::new(std::io::stdin().lock()));
    }
    let opened = std::fs::File::open(file).and_then(|opened| Ok((opened.metadata()?.is_dir(), opened)));
    match opened {
        Ok((false, opened)) => Ok(Box::new(opened)),
        Ok((true, _)) => {
            let here = file.display();
            Err(Problem::at(1, 1, "this is a directory").expected(format!("files, as {here}/*.json")))
        }
        Err(error) => Err(Problem::at(1, 1, format!("error opening: {error}"))),
    }
}

fn unreadable(name: &str, problem: Problem) -> Refused {
    Refused { id: None, code: "file_unreadable", problems: Problems::one(name, problem) }
}

fn tell_inside(job: &Inside, store: &Store, json: bool) {
    if !json {
        print::line(job.id.as_str());
        return;
    }
    let submitted = match job.how {
        How::Accepted => "accepted",
        How::Skipped => "skipped",
        How::Reused => "reused",
    };
    print::json_line(&json!({
        "schema_version": SCHEMA_VERSION, "job_id": job.id, "submitted": submitted, "place": job.place,
        "path": store.job_file(&job.place, &job.id), "file": null, "reason": null, "problems": [],
    }));
}
