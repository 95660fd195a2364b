//! `engine submit`: puts jobs into the queue, all of a batch or none.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde_json::json;

use super::error::{CliError, NO};
use super::global::Global;
use super::global::current_dir;
use super::validate::Judge;
use super::{documents, print, root, run_job};
use crate::clock::SystemClock;
use crate::job::parse::MAX_JOB_BYTES;
use crate::job::parse::split::Piece;
use crate::job::{Code, Place, Problem, Problems, Reason, SCHEMA_VERSION, parse_job};
use crate::queue::door::Incoming;
use crate::queue::submit::answer::{
    AcceptedAs, AcceptedJob, IfExists, IfRefused, Options, Refused, Submitted,
};
use crate::queue::submit::batch::{Batch, Origin};
use crate::queue::submit::submit;
use crate::store::Store;

/// `engine submit`
#[derive(Debug, Clone, PartialEq, Args)]
#[command(
    override_usage = "engine submit [OPTIONS] <FILE>...\n       engine submit [OPTIONS] -- <COMMAND>...",
    after_help = "Examples:\n  engine submit build.json test.json        all of them or none\n  \
    engine submit -- make test                a command, with a generated id\n  \
    generate-jobs | engine submit -           an object, an array or JSON Lines, of any size\n  \
    engine submit --skip-existing jobs.jsonl  after a crash: submit the missing ones\n\n\
    The ids are printed, one a line, once the jobs are durable in the queue."
)]
pub struct SubmitArgs {
    /// Files of jobs: an object, an array or JSON Lines each; `-` for standard input
    #[arg(value_name = "FILE", required_unless_present = "command", conflicts_with = "command")]
    pub files: Vec<PathBuf>,
    /// Count a job whose id exists as submitted; refuse it if its content differs
    #[arg(long)]
    pub skip_existing: bool,
    /// Submit the valid jobs even if others are refused
    #[arg(long)]
    pub keep_going: bool,
    /// Check everything and write nothing: print the jobs that would be accepted, and all problems
    #[arg(long)]
    pub dry_run: bool,
    /// Print one JSON document for each job that is accepted or refused, a line each
    #[arg(long)]
    pub json: bool,
    /// A command to submit as a shell job with a generated id
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

/// The most jobs that are named of those that are refused because another is.
const FOLLOWING: usize = 10;

/// Submits; 1 if a job is refused.
pub fn run(args: &SubmitArgs, global: &Global) -> Result<u8, CliError> {
    let first = args.files.iter().find(|file| !documents::is_stdin(file)).map(PathBuf::as_path);
    let found = root::find(global, first)?;
    let spool = found.clone().map_or_else(current_dir, Ok)?;
    let known = found.as_deref().and_then(|root| Store::open_to_read(root).ok());
    let judge = Judge::for_store(known.as_ref())?;
    let batch = Batch::new(&spool);
    let mut desk = Desk { args, global, batch, refused: 0, following: 0, taken: 0, judge };
    if args.command.is_empty() {
        for file in &args.files {
            desk.read(file)?;
        }
    } else {
        let bytes = run_job::command_as_job(&args.command, global)?;
        desk.document("the command", Piece { line: 1, column: 1, content: Ok(bytes) })?;
    }
    if args.dry_run {
        return desk.foretell(known.as_ref());
    }
    if desk.refused > 0 && (!args.keep_going || desk.batch.accepted() == 0) {
        // Whatever else is wrong is said as well.
        desk.check(known.as_ref())?;
        return Ok(desk.nothing());
    }
    let store = root::to_change_or_make(global, first)?.accepted()?;
    desk.check(Some(&store))?;
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
    /// How many of those only because another is refused.
    following: usize,
    /// How many of those because of an id that was there before.
    taken: usize,
    judge: Judge<'a>,
}

impl Desk<'_> {
    /// Reads a file, whatever its size, one document after the other.
    fn read(&mut self, file: &Path) -> Result<(), CliError> {
        let name = file.display().to_string();
        if let Err(problem) = documents::each(file, &mut |piece| self.document(&name, piece))? {
            self.refuse(&unreadable(&name, problem));
        }
        Ok(())
    }

    fn document(&mut self, name: &str, piece: Piece) -> Result<(), CliError> {
        let origin = Origin { file: Arc::from(name), line: piece.line, column: piece.column };
        let mut bytes = match piece.content {
            Ok(bytes) => bytes,
            Err(problem) => {
                self.refuse(&Refused {
                    id: None,
                    code: Code::InvalidJobFile,
                    problems: origin.problems(vec![problem]),
                    follows: false,
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
            for line in origin.problems(self.judge.at_the_door(&parsed, &bytes)).lines() {
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

    /// Says what would become of each job.
    fn foretell(&mut self, store: Option<&Store>) -> Result<u8, CliError> {
        self.check(store)?;
        let accepted = if self.refused > 0 && !self.args.keep_going { 0 } else { self.batch.accepted() };
        let mut left = 0;
        if accepted > 0 {
            let json = self.args.json;
            self.batch.foretell(store, &mut |job| {
                left += usize::from(job.place != Place::Queued);
                tell_accepted(&job, store, (json, DryRun::Yes));
            })?;
        }
        self.tell_following();
        let jobs = print::counted(accepted - left, "job", "jobs");
        let left = match left {
            0 => String::new(),
            left => format!(
                ", {}",
                print::counted(
                    left,
                    "job runs or has ended and would be left as it is",
                    "jobs run or have ended and would be left as they are"
                )
            ),
        };
        print::note(&format!(
            "dry run: {jobs} would be in the queue{left}, {} refused; nothing was written",
            self.refused
        ));
        Ok(if self.refused > 0 { NO } else { 0 })
    }

    fn check(&mut self, store: Option<&Store>) -> Result<(), CliError> {
        let if_exists = self.options().if_exists;
        for refused in self.batch.check(store, if_exists)? {
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
        let mut tell = |submitted| match submitted {
            Submitted::Accepted(job) => {
                inside += 1;
                tell_accepted(&job, Some(store), (json, DryRun::No));
            }
            Submitted::Refused(job) => refused.push(job),
        };
        let options = self.options();
        let done = submit(&mut self.batch, store, &SystemClock::start(), options, &mut tell);
        refused.iter().for_each(|refused| self.refuse(refused));
        if let Err(error) = done {
            if inside > 0 {
                print::note(&format!("submitted before this error: {inside}"));
            }
            return Err(CliError::from(error));
        }
        if self.refused == 0 {
            if inside == 0 && !self.global.quiet {
                print::note("the input has no jobs; nothing was submitted");
            }
            return Ok(0);
        }
        if inside == 0 {
            return Ok(self.nothing());
        }
        self.tell_following();
        print::note(&format!("submitted: {inside}, refused: {}", self.refused));
        self.hint(None);
        Ok(NO)
    }

    fn refuse(&mut self, refused: &Refused) {
        self.refused += 1;
        self.taken += usize::from(matches!(refused.code, Code::IdQueued | Code::IdRunning | Code::IdTaken));
        if self.args.json {
            let reason = Reason::new(refused.code.clone(), refused.problems.to_string());
            print::json_line(&json!({
                "schema_version": SCHEMA_VERSION, "job_id": refused.id, "submitted": "refused", "place": null,
                "path": null, "file": refused.problems.file, "reason": reason, "problems": refused.problems.problems,
            }));
        }
        self.following += usize::from(refused.follows);
        if refused.follows && self.following > FOLLOWING {
            return;
        }
        for line in refused.problems.lines() {
            print::error_line(&line);
        }
    }

    /// Prints how many jobs were not listed one by one.
    fn tell_following(&self) {
        if let Some(more) = self.following.checked_sub(FOLLOWING).filter(|more| *more > 0) {
            print::note(&format!("{more} more are refused because of these; list all with --json"));
        }
    }

    fn nothing(&self) -> u8 {
        self.tell_following();
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
            print::note(
                "hint: --skip-existing counts jobs whose id is there already, with the same content, as submitted; \
                 one that has ended runs again by `engine requeue ID`, or by `engine run-job --job-file FILE`",
            );
        }
        if let Some(others) = others.filter(|_| !self.args.keep_going) {
            print::note(&format!("hint: --keep-going submits the {others} that could be accepted"));
        }
    }
}

fn unreadable(name: &str, problem: Problem) -> Refused {
    Refused { id: None, code: Code::FileUnreadable, problems: Problems::one(name, problem), follows: false }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum DryRun {
    Yes,
    No,
}

fn tell_accepted(job: &AcceptedJob, store: Option<&Store>, (json, dry_run): (bool, DryRun)) {
    if !json {
        print::line(job.id.as_str());
        return;
    }
    let submitted = match job.accepted_as {
        AcceptedAs::New => "accepted",
        AcceptedAs::Skipped => "skipped",
        AcceptedAs::Reused => "reused",
    };
    let path = store.map(|store| store.job_file(&job.place, &job.id));
    let mut document = json!({
        "schema_version": SCHEMA_VERSION, "job_id": job.id, "submitted": submitted, "place": job.place,
        "path": path, "file": null, "reason": null, "problems": [],
    });
    if dry_run == DryRun::Yes {
        document["dry_run"] = json!(true);
    }
    print::json_line(&document);
}
