//! The integration of a run: what has succeeded, merged in plan order on one branch, and checked there. The gate before the
//! workstreams is the same with nothing merged.
//!
//! A conductor of its own kind: it merges by objects alone, then has the checks run as steps in a worktree at the merged commit.
//! Killed at any instruction it is run again, and makes the same commit of the same workstreams. Hard rule: it succeeds only if
//! every workstream of the run has succeeded, all are merged, and every check has passed on that very tree.

use serde_json::{Map, Value, json};

use super::assignment::Request;
use super::conductor::{Conductor, Event, Known, Means, broken};
use super::former::Former;
use super::result::{Verdict, Word};
use super::{conductor, predecessors};
use crate::job::run::INTEGRATION;
use crate::job::{Code, Reason, RunManifest};
use crate::store::run_dir;
use crate::view::run::status::{Integration, Jobs, RunStatus, WorkstreamStatus};
use crate::view::run::{self as view, Depth};
use crate::worktree::{self, Integrated, OfRun, Part};

/// Integrates the run of a request; again where git was killed.
pub(super) fn integrate(means: &mut Means<'_>, request: &Request) -> Result<Verdict, Reason> {
    for times in 0..MOST_KILLED {
        match integrate_once(means, request, times > 0) {
            Err(reason) if reason.code == Code::GitKilled && means.signals.requests() == 0 => {
                (means.tell)(&Event::Warning(&reason.message));
            }
            ended => return ended,
        }
    }
    integrate_once(means, request, true)
}

/// So many calls of git in a row that were killed say that the next would be, too.
const MOST_KILLED: u32 = 3;

fn integrate_once(means: &mut Means<'_>, request: &Request, is_killed: bool) -> Result<Verdict, Reason> {
    let manifest = run_dir::read_manifest(means.store, &request.run)?;
    let manifest = manifest.ok_or_else(|| broken("a run without a manifest"))?;
    let is_baseline = request.is_baseline();
    let parts = match is_baseline {
        true => Vec::new(),
        false => predecessors::all(means.store, &manifest)?,
    };
    if request.assignment.is_not_merged {
        let reason = incomplete(&manifest, &parts);
        return ended(means, &manifest, Verdict::of(reason));
    }
    let mut conductor = conductor(means, request)?;
    let run = OfRun { run: request.run.as_str(), made_at: manifest.created_at };
    let base = request.assignment.base.commit.as_str();
    let git = conductor.git();
    conductor.leave_former_tree(is_killed)?;
    let done = worktree::integrate(&conductor.place, run, (base, &parts), &git)?;
    let is_proved = !is_baseline && is_proved(&conductor, &done, &parts)?;
    let checked = match is_proved {
        true => Verdict::of(None),
        false => {
            conductor.base.clone_from(&done.commit);
            conductor.work()?
        }
    };
    let (branch, warnings) = (conductor.place.branch_name(), json!(conductor.warnings));
    if matches!(checked.word, Word::Parked | Word::Canceled) {
        return Ok(checked);
    }
    if is_baseline {
        return Ok(of_baseline(request, checked));
    }
    let mut verdict = judged(&manifest, (&parts, &done), checked);
    let heads: Map<String, Value> = parts.iter().map(|part| (part.ws.clone(), json!(part.head))).collect();
    verdict.metadata.extend([
        ("heads".to_owned(), Value::Object(heads)),
        ("branch".to_owned(), json!(branch)),
        ("warnings".to_owned(), warnings),
        ("commit".to_owned(), json!(done.commit)),
        ("head".to_owned(), json!(done.commit)),
        ("merged".to_owned(), json!(done.merged)),
        ("conflicts".to_owned(), json!(done.conflicts)),
        ("skipped".to_owned(), json!(done.skipped)),
    ]);
    ended(means, &manifest, verdict)
}

impl Conductor<'_, '_> {
    /// Leaves the worktree of a former life as its own commit has it, before the branch moves. What a person did there is put aside
    /// and named: the branch is built anew, so it belongs in a workstream.
    fn leave_former_tree(&mut self, is_killed: bool) -> Result<(), Reason> {
        self.recover_steps()?;
        let former = self.former_end()?;
        let former = Former { is_killed: is_killed || former.is_killed, ..former };
        self.wait_for_locks(former)?;
        if !former.has_worked {
            self.put_back_since_verdict()?;
        }
        // What a person committed there stays on its branch.
        worktree::check_integration(&self.place, &self.git())?;
        let is_there = self.place.dir.is_dir() && self.place.own_git_dir().is_some();
        if !is_there || worktree::heads(&self.place, &self.git())?.head.is_none() {
            return Ok(());
        }
        let known = self.look()?;
        let asides =
            |known: &Known| known.heads.asides.iter().map(|aside| aside.commit.clone()).collect::<Vec<_>>();
        let before = asides(&known);
        self.clear(&known)?;
        let known = self.look()?;
        let new = known.heads.asides.iter().find(|aside| !before.contains(&aside.commit));
        if let Some(aside) = new.filter(|_| !former.has_worked) {
            let (dir, reference) = (self.place.dir.display(), self.place.aside_ref(aside.step));
            let text = format!(
                "changes by hand in `{dir}` were put aside as `{reference}`: bring them into the branch of a workstream, and resume"
            );
            self.warn(text);
        }
        Ok(())
    }
}

/// True if there is nothing to be checked: no check, no merge, or one workstream whose checks passed on that very tree.
fn is_proved(conductor: &Conductor<'_, '_>, done: &Integrated, parts: &[Part]) -> Result<bool, Reason> {
    if conductor.checks.is_empty() || done.merged.is_empty() {
        return Ok(true);
    }
    let [one] = done.merged.as_slice() else { return Ok(false) };
    let head = parts.iter().find(|part| part.ws == *one).map(|part| part.head.as_str());
    let Some(head) = head else { return Ok(false) };
    Ok(worktree::changes(&conductor.place, (head, &done.commit), &conductor.git())?.is_empty())
}

/// Why a run is not whole, whatever its merges and its checks say.
fn incomplete(manifest: &RunManifest, parts: &[Part]) -> Option<Reason> {
    let has_succeeded = |ws: &str| parts.iter().any(|part| part.ws == ws);
    let missing: Vec<&str> =
        manifest.order.iter().map(|one| one.ws_id.as_str()).filter(|ws| !has_succeeded(ws)).collect();
    let (first, run) = (missing.first()?, &manifest.run_id);
    let more = match missing.len() {
        1 => String::new(),
        many => format!(" and {} more", many - 1),
    };
    let message = format!("`{first}`{more} did not succeed: engine runs show {run}");
    Some(Reason::new(Code::Incomplete, message))
}

/// The verdict of the gate before the workstreams.
fn of_baseline(request: &Request, checked: Verdict) -> Verdict {
    if checked.word != Word::Failed {
        return checked;
    }
    let why = checked.reason.as_ref().map_or_else(String::new, |why| format!(": {}", why.message));
    let run = &request.run;
    let message = format!(
        "the base commit itself does not pass, so no agent was asked{why}. Where the commit is at fault: mend it, begin a new run \
         on that, and give this one up (engine runs cancel {run})"
    );
    let reason = Reason::new(Code::BaselineFailed, message);
    Verdict { metadata: checked.metadata, ..Verdict::of(Some(reason)) }
}

/// The verdict of all three: the workstreams, the merges, and the checks.
fn judged(manifest: &RunManifest, (parts, done): (&[Part], &Integrated), checked: Verdict) -> Verdict {
    if checked.word == Word::Quarantined {
        return checked;
    }
    let conflict = done.conflicts.first().map(|conflict| {
        let with = conflict.with.as_ref().map_or_else(String::new, |with| format!(" with `{with}`"));
        let path = conflict.path.as_deref().unwrap_or("their histories");
        // It holds all that are merged, and so every one with which this one is in conflict.
        let how = worktree::merged_by_hand(manifest.run_id.as_str(), &conflict.ws_id, INTEGRATION);
        let message = format!(
            "`{}` does not merge{with}: {path}; {how}, go back to your branch, and resume",
            conflict.ws_id
        );
        Reason::new(Code::MergeConflict, message)
    });
    let failed = (checked.word != Word::Succeeded).then(|| {
        let why = checked.reason.as_ref().map_or_else(String::new, |why| format!(": {}", why.message));
        let tree = checked.metadata.get("worktree").and_then(Value::as_str);
        let look = tree.map_or_else(String::new, |tree| format!("; look at it in `{tree}`"));
        let branch = format!("engine/{}/WS", manifest.run_id);
        let message = format!(
            "the merged tree is not proved{why}{look}; mend it on the branch of a workstream (git switch {branch}), commit, go \
             back to your branch, and resume"
        );
        Reason::new(Code::IntegrationFailed, message)
    });
    let reason = incomplete(manifest, parts).or(conflict).or(failed);
    Verdict { metadata: checked.metadata, ..Verdict::of(reason) }
}

/// The verdict, with what it makes of the run.
fn ended(means: &Means<'_>, manifest: &RunManifest, mut verdict: Verdict) -> Result<Verdict, Reason> {
    let facts = view::read(means.store, manifest.clone(), Depth::Status, means.clock.now())?;
    let is_incomplete = verdict.reason.as_ref().is_some_and(|reason| reason.code == Code::Incomplete);
    let status = match verdict.word {
        Word::Succeeded => WorkstreamStatus::Succeeded,
        Word::Quarantined => WorkstreamStatus::Quarantined,
        _ => WorkstreamStatus::Failed,
    };
    let run = RunStatus::fold(&Jobs {
        integration: Some(Integration { status, is_incomplete, is_outdated: false }),
        ..Jobs::of(&facts)
    });
    verdict.metadata.insert("run_status".to_owned(), Value::from(run.as_str()));
    Ok(verdict)
}
