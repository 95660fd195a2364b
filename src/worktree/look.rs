//! Two looks at what a tree of git does not show: files of the git directories that can run programs, links that lead out, and
//! references.
//!
//! Every step is looked at: also a check runs what an agent wrote. The look before a step is in memory, and in `<ws>.look` beside
//! the worktree as long as what the step did is not judged, so that the next process can judge it where this one dies. The file
//! is not synced: after a reboot what a step did beside its tree, and was not judged yet, is not known. A file of another step is
//! not read.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Place;
use super::git::{Git, is_object, replace};
use crate::evidence::{Guarded, Links};
use crate::fs::{self, Moment, Stamp};
use crate::git::index::{self, Entries, LINK};
use crate::git::worktree::line_of;
use crate::git::{Client, refs, write};
use crate::job::{Code, Reason};

/// The most references that are looked at.
const MAX_REFS: usize = 20_000;

/// One look.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Look {
    guarded: Guarded,
    links: Links,
    /// The files that join the worktree with its git directory.
    joints: BTreeMap<String, Option<Vec<u8>>>,
    refs: BTreeMap<String, String>,
    /// The commit of the own branch, which a step may move.
    branch: Option<String>,
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
    let (refs, branch) = refs(place, client)?;
    Ok(Look {
        guarded: Guarded::look((&git_dir, &place.common_dir, &place.dir), &entries),
        links: Links::look(&place.dir, &place.dir, links),
        joints: joints.into(),
        refs,
        branch,
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

/// The references, and the own branch.
type Refs = (BTreeMap<String, String>, Option<String>);

/// Every reference but those that conductors of other workstreams move; the branch, which a step may move, apart.
fn refs(place: &Place, client: &Client) -> Result<Refs, Reason> {
    let (own, own_branch) = (place.refs(""), place.branch());
    let rules = [
        ("refs/", true),
        ("refs/engine/", false),
        ("refs/heads/engine/", false),
        (&*own, true),
        (&*own_branch, true),
    ];
    let mut refs = match refs::read(&place.common_dir, &rules) {
        // What git follows to another reference, it has to follow.
        Some(found)
            if found.len() <= MAX_REFS && found.get(&own_branch).is_none_or(|line| is_object(line)) =>
        {
            found
        }
        _ => by_git(place, &rules, client)?,
    };
    let branch = refs.remove(&own_branch);
    Ok((refs, branch))
}

/// The same where the files do not tell.
fn by_git(place: &Place, rules: refs::Rules<'_>, client: &Client) -> Result<refs::Lines, Reason> {
    let count = format!("--count={MAX_REFS}");
    let args = ["for-each-ref", &count, "--format=%(objectname) %(refname)"];
    let listed = Git::at(place, client).read(&args).output()?;
    let text = String::from_utf8_lossy(&listed);
    let all = text.lines().filter_map(|line| line.split_once(' '));
    let meant = all.filter(|(_, name)| refs::is_wanted(rules, name));
    Ok(meant.map(|(commit, name)| (name.to_owned(), commit.to_owned())).collect())
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
        let names = self.refs.keys().chain(after.refs.keys().filter(|name| !self.refs.contains_key(*name)));
        let moved = names.filter(|name| self.refs.get(*name) != after.refs.get(*name));
        let (own, moved_refs): (Vec<String>, Vec<String>) =
            moved.cloned().partition(|name| name.starts_with(&place.refs("")));
        git_dir.extend(own);
        Ok(Seen { git_dir, outside, moved_refs, settings: guarded.daily })
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
        assert_eq!(seen.git_dir, [".git/config: core.fsmonitor", "refs/engine/r1/ws-a/09"]);
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
