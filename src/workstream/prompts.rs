//! What the prompts of a workstream are made of: its bundle, its history, and the failure that is to be mended.
//!
//! Reads the difference since the base, nothing else; `prompt` makes the text.

use serde_json::Value;

use super::assignment::Request;
use super::conductor::{Conductor, Known};
use super::prompt::{self, Failure, prompt};
use super::step::{self, AgentStep, Common};
use super::tried::tried;
use crate::bundle::checks::Check;
use crate::fix_loop::decision::NewStep;
use crate::fix_loop::{Step, Why, context, signature};
use crate::job::step::step_id;
use crate::job::{Code, JobResult, Reason, StepKind};
use crate::store::steps::StepFound;
use crate::worktree;

/// So much is read of the difference since the base; the prompt has less.
const MOST_OF_DIFF: usize = 64 << 10;

/// The prompt of a step, and the only files that its tool is handed, if not all of the scope.
pub(super) struct Asked {
    pub(super) prompt: String,
    pub(super) only: Option<Vec<String>>,
}

impl Conductor<'_, '_> {
    /// What a new step of an agent is asked to do.
    pub(super) fn ask(&self, known: &Known, new: &NewStep) -> Result<Asked, Reason> {
        let assignment = &self.request.assignment;
        let check = new.check.and_then(|index| self.checks.get(index));
        let failed = check.and_then(|check| last_failure(known, check));
        let diff = self.difference(known)?;
        let (only, left_out) = match new.is_reduced {
            true => self.fewer_files().map(|(files, left_out)| (Some(files), left_out))?,
            false => (None, Vec::new()),
        };
        let result = failed.and_then(|(_, found)| found.line.result.as_ref());
        // The word of the judge, if it is another than that of the check.
        let ended = failed.and_then(|(step, _)| step.ended()).and_then(|ended| ended.reason.as_ref());
        let failed_tests = result.map(|result| signature::failed_tests(&result.metadata)).unwrap_or_default();
        let output = result.map(output).unwrap_or_default();
        let failure = check.map(|check| Failure {
            check,
            iteration: new.iteration,
            most: assignment.limits.fixes.of(check.kind.phase()),
            exit_code: result.and_then(|result| result.exit_code),
            message: ended.map_or("", |reason| reason.message.as_str()),
            failed_tests: &failed_tests,
            output: &output,
            diff: &diff,
        });
        let prompt = prompt(&prompt::Request {
            run: self.request.run.as_str(),
            n: new.n,
            bundle: &assignment.bundle,
            checks: &self.checks,
            patch: &assignment.settings.patch,
            left_out: &left_out,
            tried: &tried(&known.steps),
            failure,
        });
        Ok(Asked { prompt, only })
    }

    fn difference(&self, known: &Known) -> Result<String, Reason> {
        let Some(head) = known.heads.head.as_ref().filter(|head| head.commit != self.base()) else {
            return Ok(String::new());
        };
        let (bytes, _) =
            worktree::patch(&self.place, (self.base(), &head.commit), MOST_OF_DIFF, &self.git())?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The files that fit into a context, and those that are left out.
    fn fewer_files(&self) -> Result<(Vec<String>, Vec<String>), Reason> {
        let scope = &self.counted.scope;
        let payload = self.request.assignment.bundle.capability_payload.as_ref();
        let first = payload.map(|payload| payload.files.as_slice()).unwrap_or_default();
        let in_scope =
            worktree::files(&self.place, &self.git())?.into_iter().filter(|(path, _)| scope.contains(path));
        let files: Vec<context::File> = in_scope
            .map(|(path, bytes)| {
                let path = path.to_string_lossy().into_owned();
                context::File { is_priority: first.contains(&path), path, chars: bytes }
            })
            .collect();
        let context = context::prune(&files, 0, context::reduced_bound(&files, 0));
        Ok((context.files, context.pruned_files))
    }
}

/// The last run of a check that failed.
fn last_failure<'k>(known: &'k Known, check: &Check) -> Option<(&'k Step, &'k StepFound)> {
    let digest = check.digest();
    let is_it = |step: &&Step| {
        step.kind.is_check() && step.check_digest.as_ref() == Some(&digest) && step.signature.is_some()
    };
    let step = known.steps.iter().rev().find(is_it)?;
    Some((step, known.found.iter().find(|found| found.n == step.n)?))
}

fn output(result: &JobResult) -> String {
    format!("{}\n{}", result.stdout, result.stderr)
}

/// The job file of the first step of a workstream that is not begun.
pub(super) fn first_step(request: &Request) -> Result<Option<Value>, Reason> {
    let assignment = &request.assignment;
    if !assignment.bundle.has_edit() {
        return Ok(None);
    }
    let facts = step::facts(1, StepKind::Edit, None, Why::Task);
    let id = step_id(&request.job_id, 1, StepKind::Edit)
        .map_err(|error| Reason::from_error(Code::Usage, &error))?;
    let prompt = prompt(&prompt::Request {
        run: request.run.as_str(),
        n: 1,
        bundle: &assignment.bundle,
        checks: &assignment.checks,
        patch: &assignment.settings.patch,
        left_out: &[],
        tried: &[],
        failure: None,
    });
    let common = Common { request, id: &id, facts: &facts };
    let tool = &assignment.bundle.tool;
    Ok(Some(step::agent(common, &AgentStep { tool, prompt: &prompt, only: None, max_cost_usd: None })))
}
