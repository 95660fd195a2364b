//! What commits tell of themselves: their trees and the trailers of the engine.
//!
//! Kept as long as the process, because a commit never changes: most looks at the references find commits that were met before.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use crate::git::Call;
use crate::job::Reason;

/// The key of the trailer with the code of a refusal, in the commit of what was put aside.
pub(super) const REFUSED: &str = "Engine-Refused";

/// The key of the trailer with the number of the attempt that left what was put aside.
pub(super) const ATTEMPT: &str = "Engine-Attempt";

/// What one commit tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// Its tree; empty of an object that is no commit.
    pub tree: String,
    /// The values of `Engine-Job`.
    pub job: String,
    /// The values of `Engine-Step`.
    pub step: String,
    /// The value of `Engine-Refused`.
    pub refused: String,
    /// The value of `Engine-Attempt`.
    pub attempt: String,
    /// Its message without the subject.
    pub body: String,
}

impl Told {
    /// That of the checkpoint of a step.
    pub(super) fn of_step((run, ws): (&str, &str), step: u32, tree: &str) -> Self {
        let (job, step) = (format!("{run}.{ws}"), format!("{ws}/{step:02}"));
        Self { tree: tree.to_owned(), job, step, ..Self::default() }
    }
}

/// The commits that were met.
#[derive(Debug, Clone, Default)]
pub(crate) struct Commits(Rc<RefCell<HashMap<String, Told>>>);

impl Commits {
    /// Remembers a commit that was just made.
    pub(super) fn remember(&self, commit: &str, told: Told) {
        self.0.borrow_mut().insert(commit.to_owned(), told);
    }

    /// What these commits tell; git is asked once for those that were not met yet.
    ///
    /// # Errors
    /// A reason where git fails.
    pub(super) fn read<'c>(
        &self,
        read: impl FnOnce(&[&str]) -> Call<'c>,
        commits: &[&str],
    ) -> Result<Vec<Told>, Reason> {
        let mut known = self.0.borrow_mut();
        let new: Vec<&str> = commits.iter().copied().filter(|commit| !known.contains_key(*commit)).collect();
        if !new.is_empty() {
            // Each field ends with a byte that no message of a commit has.
            let format = format!(
                "--format=%H%x00%T%x00%(trailers:key=Engine-Job,valueonly,separator=%x2C)%x00\
                 %(trailers:key=Engine-Step,valueonly,separator=%x2C)%x00%(trailers:key={REFUSED},valueonly)%x00\
                 %(trailers:key={ATTEMPT},valueonly)%x00%b%x00"
            );
            let list = read(&["rev-list", "--no-walk=unsorted", "--no-commit-header", &format, "--stdin"]);
            let listed = list.input(new.join("\n").into_bytes()).output()?;
            let listed = String::from_utf8_lossy(&listed);
            for record in listed.split('\0').collect::<Vec<_>>().chunks_exact(7) {
                let [commit, tree, job, step, refused, attempt, body] =
                    <[&str; 7]>::try_from(record).unwrap_or_default().map(str::to_owned);
                known
                    .insert(commit.trim_start().to_owned(), Told { tree, job, step, refused, attempt, body });
            }
        }
        Ok(commits.iter().map(|commit| known.get(*commit).cloned().unwrap_or_default()).collect())
    }
}
