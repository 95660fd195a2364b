//! Two looks at what a tree of git does not show: files of the git directories that can run programs, links that lead out, and
//! references.
//!
//! Every step is looked at: also a check runs what an agent wrote. The look before a step is in memory, and in `<ws>.look` beside
//! the worktree as long as what the step did is not judged, so that the next process can judge it where this one dies. The file
//! is not synced: after a reboot what a step did beside its tree, and was not judged yet, is not known. A file of another step is
//! not read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Place;
use super::git::{Git, HAND_REF, is_object, lines_by_git, replace};
use crate::clock::Timestamp;
use crate::evidence::{Guarded, Links};
use crate::fs::{self, Moment, Stamp};
use crate::git::index::{self, Entries, LINK};
use crate::git::worktree::line_of;
use crate::git::{Client, refs, write};
use crate::job::{Code, Reason};

/// The most references that are looked at.
const MAX_REFS: usize = 20_000;

/// Those of other workstreams of the run are looked at as long as it has so many at most: each of its workstreams would read the
/// references of all of them several times.
const MOST_OF_RUN: usize = 100;

/// One look.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Look {
    guarded: Guarded,
    links: Links,
    /// The files that join the worktree with its git directory.
    joints: BTreeMap<String, Option<Vec<u8>>>,
    refs: BTreeMap<String, String>,
    /// The references of the run that are of other workstreams, or of none; `None` of a large run. Not for the next process: each
    /// workstream knows where its own have to be.
    #[serde(skip)]
    of_run: Option<BTreeMap<String, String>>,
    /// The commit of the own branch, which a step may move.
    branch: Option<String>,
    /// Own references that the step moved, and that are put back since.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    put_back: Vec<String>,
    begun: Moment,
}

/// What happened between two looks, or what an agent's evidence tells of its attempt.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Files of git directories that changed, as `.git/hooks/pre-commit`. One that ends in `/.git` is a repository that was made in a
    /// directory of tracked files.
    pub git_dir: Vec<String>,
    /// Files outside of the worktree that were changed behind a link.
    pub outside: Vec<String>,
    /// Own references of the workstream below `refs/engine/` that moved, likewise.
    pub own_refs: Vec<String>,
    /// References of other workstreams of the run that moved; mostly their own conductors moved them.
    pub of_run: Vec<String>,
    /// References of others that moved meanwhile, by whichever program.
    pub moved_refs: Vec<String>,
    /// Settings of git that changed meanwhile, likewise, and are no danger: as `.git/config: user.name`.
    pub settings: Vec<String>,
}

/// Looks. The index of the engine must be that of the files: a second look comes after `left`.
///
/// # Errors
/// A reason where git fails.
pub(crate) fn look(place: &Place, client: &Client) -> Result<Look, Reason> {
    let begun = begun(place)?;
    // A step can have removed it; the links of before are looked at all the same.
    let entries = match index::read(&place.index())? {
        Some((bytes, _)) => index::entries(&bytes, place.hash_bytes)?,
        None => Entries::new(),
    };
    let own = place.own_git_dir();
    let git_dir = own.clone().unwrap_or_else(|| place.common_dir.clone());
    let links = entries.iter().filter(|(_, entry)| entry.mode == LINK).map(|(path, _)| path);
    let joints = [".git".into(), "commondir".into(), "gitdir".into()].map(|name: String| {
        let dir = if name == ".git" { Some(&place.dir) } else { own.as_ref() };
        let line = dir.and_then(|dir| line_of(&dir.join(&name)));
        (name, line)
    });
    let Refs { refs, of_run, branch } = refs(place, client)?;
    Ok(Look {
        guarded: Guarded::look((&git_dir, &place.common_dir, &place.dir), &entries),
        links: Links::look(&place.dir, &place.dir, links),
        joints: joints.into(),
        refs,
        of_run,
        branch,
        put_back: Vec::new(),
        begun,
    })
}

/// The moment by the clock of the file system.
fn begun(place: &Place) -> Result<Moment, Reason> {
    let path = place.beside("look.new");
    let made = || {
        fs::remove(&path)?;
        fs::create_new(&path, b"")?;
        let begun = Stamp::read(&path).map(|stamp| stamp.changed()).unwrap_or_default();
        fs::remove(&path)?;
        Ok(begun)
    };
    made().map_err(|error| write::wrong(&error))
}

/// The references of the repository: of other workstreams of the run, the own branch, which a step may move, and the rest. Those of
/// other runs are left out: their conductors move them.
#[derive(Default)]
struct Refs {
    refs: BTreeMap<String, String>,
    of_run: Option<BTreeMap<String, String>>,
    branch: Option<String>,
}

fn refs(place: &Place, client: &Client) -> Result<Refs, Reason> {
    let roots = ["refs/engine/", "refs/heads/engine/"];
    let [of_run, branches] = roots.map(|root| format!("{root}{}/", place.run));
    let workstreams = fs::names(&place.common_dir.join(&of_run)).unwrap_or_default();
    let is_small = workstreams.len() <= MOST_OF_RUN;
    let (own, own_branch) = (place.refs(""), place.branch());
    let [theirs, branches] = if is_small { [&*of_run, &*branches] } else { [&*own, &*own_branch] };
    let rules = [("refs/", true), (roots[0], false), (roots[1], false), (theirs, true), (branches, true)];
    let is_engines_object = |(name, line): (&String, &String)| {
        is_object(line) || !roots.iter().any(|root| name.starts_with(root))
    };
    let lines = match refs::read(&place.common_dir, &rules) {
        // What leads to another reference, or nowhere, git has to read.
        Some(found) if found.len() <= MAX_REFS && found.iter().all(is_engines_object) => found,
        _ => lines_by_git(&place.repository(client), &rules, Some(MAX_REFS))?,
    };
    let mut found = Refs { of_run: is_small.then(BTreeMap::new), ..Refs::default() };
    for (name, commit) in lines {
        if name == own_branch {
            found.branch = Some(commit);
        } else if !name.starts_with(&own) && roots.iter().any(|root| name.starts_with(root)) {
            found.of_run.get_or_insert_default().insert(name, commit);
        } else {
            found.refs.insert(name, commit);
        }
    }
    Ok(found)
}

/// The names that two looks hold differently.
fn moved(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<String> {
    let names = before.keys().chain(after.keys().filter(|name| !before.contains_key(*name)));
    names.filter(|name| before.get(*name) != after.get(*name)).cloned().collect()
}

/// A look in its file, with the step that it was taken before.
#[derive(Serialize, Deserialize)]
struct Noted<L> {
    step: String,
    look: L,
}

/// Notes a look for the process that judges the step if this one cannot.
///
/// # Errors
/// A reason where the file cannot be written.
pub(crate) fn note(place: &Place, step: &str, look: &Look) -> Result<(), Reason> {
    let noted = Noted { step: step.to_owned(), look };
    let bytes =
        serde_json::to_vec(&noted).map_err(|error| Reason::from_error(Code::InternalError, &error))?;
    replace(&place.beside("look"), &bytes)
}

/// The look that was noted before a step; none if there is none, or it is torn.
#[must_use]
pub(crate) fn noted(place: &Place, step: &str) -> Option<Look> {
    let bytes = std::fs::read(place.beside("look")).ok()?;
    let noted: Noted<Look> = serde_json::from_slice(&bytes).ok()?;
    (noted.step == step).then_some(noted.look)
}

/// Notes in the look before a step, if there is one, that these references are put back next: a later process does not see any more
/// that the step moved them.
///
/// # Errors
/// A reason where the file cannot be written.
pub(crate) fn note_put_back(place: &Place, step: &str, names: &[String]) -> Result<(), Reason> {
    let Some(mut look) = noted(place, step) else { return Ok(()) };
    look.put_back.extend_from_slice(names);
    note(place, step, &look)
}

/// Forgets the look: what the step did is judged, and a refusal of it is kept.
///
/// # Errors
/// A reason where the file cannot be removed.
pub(crate) fn forget(place: &Place) -> Result<(), Reason> {
    fs::remove(&place.beside("look")).map_err(|error| write::wrong(&error)).map(drop)
}

impl Look {
    /// The commit of the own branch.
    pub(crate) fn branch(&self) -> Option<&str> {
        self.branch.as_deref()
    }

    /// What happened up to a later look at the same place.
    ///
    /// # Errors
    /// A reason where git fails.
    pub(crate) fn compare(&self, after: &Self, place: &Place, client: &Client) -> Result<Seen, Reason> {
        let guarded = self.guarded.compare(&after.guarded, client)?;
        let mut git_dir: Vec<String> = guarded.files.iter().map(ToString::to_string).collect();
        let joints = self.joints.iter().filter(|(name, line)| after.joints.get(*name) != Some(*line));
        git_dir.extend(joints.map(|(name, _)| match name.as_str() {
            ".git" => name.clone(),
            name => format!(".git/{name}"),
        }));
        let outside = self.links.clone().compare(&after.links, self.begun);
        let outside = outside.into_iter().map(|change| change.path).collect();
        let (own, moved_refs): (Vec<String>, Vec<String>) =
            moved(&self.refs, &after.refs).into_iter().partition(|name| name.starts_with(&place.refs("")));
        let of_run = match (&self.of_run, &after.of_run) {
            (Some(before), Some(after)) => moved(before, after),
            _ => Vec::new(),
        };
        // The engine makes those at a start, and no decision depends on them.
        let own = own.into_iter().filter(|name| !name.starts_with(&place.refs(HAND_REF)));
        let own_refs = own.chain(self.put_back.clone()).collect::<BTreeSet<_>>().into_iter().collect();
        Ok(Seen { git_dir, outside, own_refs, of_run, moved_refs, settings: guarded.daily })
    }

    /// When the look was taken, by the clock of the file system.
    pub(crate) fn begun(&self) -> Timestamp {
        let (seconds, nanoseconds) = self.begun;
        Timestamp::from_millis(seconds.saturating_mul(1000).saturating_add(nanoseconds / 1_000_000))
    }

    fn at(&self, name: &str) -> Option<&String> {
        self.refs.get(name).or_else(|| self.of_run.as_ref()?.get(name))
    }

    /// Puts references back to where they were in this look.
    ///
    /// # Errors
    /// A reason where git fails.
    pub(crate) fn put_back(
        &self,
        names: &[String],
        (after, place): (&Self, &Place),
        client: &Client,
    ) -> Result<(), Reason> {
        let git = Git::at(place, client);
        for name in names {
            let now = after.at(name).map(String::as_str);
            if now.is_none() {
                remove_broken(&place.common_dir.join(name))?;
            }
            match (self.at(name), now) {
                (Some(before), now) => git.move_ref(name, before, now)?,
                (None, Some(now)) => {
                    write::run(git.repo(&["update-ref", "--no-deref", "-d", name, now]))?;
                }
                (None, None) => {}
            }
        }
        Ok(())
    }
}

/// Removes the file of a reference that git cannot read, and so does not change.
fn remove_broken(path: &Path) -> Result<(), Reason> {
    match line_of(path) {
        Some(line) if !line.starts_with(b"ref: ") && !std::str::from_utf8(&line).is_ok_and(is_object) => {
            fs::remove(path).map_err(|error| write::wrong(&error)).map(drop)
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Bench;
    use super::*;

    #[test]
    fn a_look_that_another_process_reads_sees_the_same_changes() {
        let bench = Bench::made();
        let (place, client) = (&bench.place, bench.client());
        bench.agent("mkdir ../far; echo 1 > ../far/file; odd=$(printf 'to_\\377'); ln -s ../../far src/to; ln -s ../../far \"src/$odd\"");
        bench.tree();
        let before = look(place, &client).unwrap();
        note(place, "r1.ws-a.01-edit", &before).unwrap();
        bench.agent("git config core.fsmonitor x; echo 2 > ../far/file; git tag t; git update-ref refs/engine/r1/ws-a/09 HEAD");
        let after = look(place, &client).unwrap();
        let seen = before.compare(&after, place, &client).unwrap();
        assert_eq!(seen.git_dir, [".git/config: core.fsmonitor"]);
        assert_eq!(seen.own_refs, ["refs/engine/r1/ws-a/09"]);
        assert_eq!((seen.outside.len(), &*seen.moved_refs), (1, &["refs/tags/t".to_owned()][..]));
        let noted_look = noted(place, "r1.ws-a.01-edit").unwrap();
        assert_eq!(noted_look.compare(&after, place, &client).unwrap(), seen);
        assert!(noted(place, "r1.ws-a.02-static").is_none(), "it is of another step");
        forget(place).unwrap();
        assert!(noted(place, "r1.ws-a.01-edit").is_none());
        // As a power loss leaves a file that no one synced.
        fs::create_new(&place.beside("look"), b"{\"step\": \"r1.ws-a.01-edit\", \"lo").unwrap();
        assert!(noted(place, "r1.ws-a.01-edit").is_none());
        forget(place).unwrap();
    }
}
