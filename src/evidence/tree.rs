//! The work tree of a repository as it stands: tracked, uncommitted and untracked files as one tree of git.
//!
//! Responsible for computing that tree without changing the repository: a copy of the index and settings of our own, in a
//! directory that is made for one look and removed with it. Between two looks everything that decides is in memory: the
//! settings, the rules and the index of before, so nothing that was done meanwhile to the repository or to our directory
//! hides a change. Content is hashed, never copied. Hard rule: what could not be read is kept by its stamp, not left out.

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use super::feed::Feed;
use super::guard::Guarded;
use super::hidden::{self, Rules};
use super::index::{self, Form, LINK, REPOSITORY};
use super::links::Links;
use super::objects::{self, Tree};
use super::place::{Look, Ours, Spot, wrong};
use super::repository::{Files, Repository};
use super::snapshot::Snapshot;
use super::stamp::{Moment, Stamp};
use super::status::status;
use crate::fs::{self, FsError};
use crate::job::{Code, Reason};

/// The names of more ignored files than this are not kept.
const MAX_IGNORED: usize = 10_000;

/// What git writes for an entry of the index beside its path, in the index and in a tree.
const ENTRY_BYTES: usize = 150;

/// Of more files that the repository does not have the whole is also made a commit of ours: to list each as new takes longer
/// than to look at them.
const MANY: usize = 500;

impl Snapshot {
    /// Looks at the work tree of a repository.
    ///
    /// # Errors
    /// A reason.
    pub fn of(repository: Repository, look: &Rc<Look>) -> Result<Self, Reason> {
        let spot = Spot::outermost(&repository.top);
        Self::first(repository, look, spot)
    }

    /// The first look at a repository.
    pub(super) fn first(repository: Repository, look: &Rc<Look>, spot: Spot) -> Result<Self, Reason> {
        let files = repository.freeze(&look.client)?;
        let place = Ours::lay_out(look, spot, &repository.top, &files)?;
        let path = repository.git_dir.join("index");
        let found = read_index(&path)?;
        let (mut index, written) = found.unwrap_or_else(|| (index::empty(repository.hash_bytes), (0, 0)));
        if let Form::Folded(shared) = index::form(&index, repository.hash_bytes) {
            index = unfold(&place, &repository, &index, shared.as_deref())?;
        }
        look_at(&place, repository, (index, files), written.0, None)
    }

    /// Looks at the same work tree again.
    ///
    /// # Errors
    /// A reason, also where the time is over.
    pub fn again(&self, look: &Rc<Look>) -> Result<Self, Reason> {
        let found = Repository::find(&self.repository.top, &look.client);
        let known = &self.repository;
        let same = |found: &Repository| {
            found.top == known.top && found.identity == known.identity && found.common_dir == known.common_dir
        };
        let (repository, is_replaced) = match found {
            Ok(found) if same(&found) => (found, false),
            // Of a look without an answer nothing is known of the repository.
            Err(reason) if reason.code == Code::GitMissing || look.client.is_over() => return Err(reason),
            _ => (Repository { head: None, head_tree: None, branch: None, ..self.repository.clone() }, true),
        };
        let place = Ours::lay_out(look, self.spot.clone(), &self.repository.top, &self.files)?;
        let index = (self.index.clone(), Files::new());
        let mut after = look_at(&place, repository, index, self.begun.0, Some(self))?;
        after.is_replaced = is_replaced;
        Ok(after)
    }
}

/// A larger index is not looked at: five million files.
const MAX_INDEX_BYTES: u64 = 512 << 20;

/// The bytes of an index and when it was written; `None` if there is none yet.
fn read_index(path: &Path) -> Result<Option<(Vec<u8>, Moment)>, Reason> {
    let file = match fs::open_regular(path) {
        Ok(file) => file,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(wrong(&error)),
    };
    let unreadable = |source| wrong(&FsError { action: "looking at", path: path.to_path_buf(), source });
    let written = Stamp::from(&file.metadata().map_err(unreadable)?).modified();
    let bytes = fs::read_limited(&file, path, MAX_INDEX_BYTES).map_err(|error| wrong(&error))?;
    let too_large =
        || Reason::new(Code::EvidenceFailed, format!("`{}` is larger than 512 MB", path.display()));
    Ok(Some((bytes.ok_or_else(too_large)?, written)))
}

/// An index that git has just written.
fn written_index(path: &Path) -> Result<Vec<u8>, Reason> {
    let gone = || Reason::new(Code::EvidenceFailed, format!("`{}` is gone", path.display()));
    Ok(read_index(path)?.ok_or_else(gone)?.0)
}

/// Makes one whole index of one that is spread over files, or in which a directory stands for what is below.
fn unfold(
    place: &Ours,
    repository: &Repository,
    index: &[u8],
    shared: Option<&str>,
) -> Result<Vec<u8>, Reason> {
    if let Some(name) = shared {
        place.write(name, &written_index(&repository.git_dir.join(name))?)?;
    }
    let path = place.write("index", index)?;
    place.git(&path, &["update-index", "--no-split-index", "--force-write-index"]).output()?;
    written_index(&path)
}

/// Looks at a work tree from an index in which what was changed in or after the second `trusted_before` is looked at anew.
fn look_at(
    place: &Ours,
    repository: Repository,
    (mut index, mut files): (Vec<u8>, Files),
    trusted_before: i64,
    before: Option<&Snapshot>,
) -> Result<Snapshot, Reason> {
    let hash = repository.hash_bytes;
    index::distrust(&mut index, hash, trusted_before, |path| Stamp::of(&place.file(path)).is_some())?;
    place.look().has_room(3 * index.len())?;
    let path = place.write("index.now", &index)?;
    let begun = Stamp::of(&path).map(|stamp| stamp.changed()).unwrap_or_default();
    let status = status(place, &path, before.is_some())?;
    let names: usize = status.changed.iter().map(|path| path.len() + ENTRY_BYTES).sum();
    place.look().has_room(2 * (index.len() + names))?;
    let mut feed = Feed::new(place, before, Snapshot::first);
    feed.tell(&path, &status.changed)?;
    for path in status.unlisted {
        let stamp = Stamp::of(&place.file(&path));
        feed.unread.insert(path, stamp);
    }
    // A second look that finds nothing has the entries of the first.
    let mut entries = match before.filter(|_| feed.told == 0) {
        Some(before) => Rc::clone(&before.entries),
        None => {
            index = written_index(&path)?;
            Rc::new(index::entries(&index, hash)?)
        }
    };
    let rules = Rules::look(&place.top, &entries, &status.ignored);
    let hidden = match before {
        Some(before) => hidden::newly_ignored(place, &path, (&before.rules, &rules), hash)?,
        None => Vec::new(),
    };
    if !hidden.is_empty() {
        feed.tell(&path, &hidden)?;
        index = written_index(&path)?;
        entries = Rc::new(index::entries(&index, hash)?);
    }
    if let Some(before) = before {
        let known = (&*entries, before.begun);
        let behind = hidden::behind_attributes(place, (&before.rules, &rules), known, hash);
        if !behind.is_empty() {
            Rc::make_mut(&mut entries).extend(behind);
        }
    }
    for (path, _) in entries.iter().filter(|(_, entry)| entry.mode == REPOSITORY) {
        feed.inner(path)?;
    }
    let tree = match (before, &repository.head_tree) {
        (None, Some(tree)) if feed.told == 0 && !status.staged => tree.clone(),
        (Some(before), _) if Rc::ptr_eq(&before.entries, &entries) => before.tree.clone(),
        _ => {
            let tree = objects::tree(&entries, hash);
            if before.is_none() && feed.told > MANY && index::remember(&mut index, hash, &tree.extension) {
                files.extend(commit(&tree, hash));
            }
            index::hexadecimal(&tree.id)
        }
    };
    let bounded = feed.bounded || status.ignored.len() > MAX_IGNORED;
    let stamped = |path: Vec<u8>| {
        let stamp = Stamp::of(&place.file(&path));
        (path, stamp)
    };
    let ignored: BTreeMap<_, _> = status.ignored.into_iter().take(MAX_IGNORED).map(stamped).collect();
    let is_link = |entry: &(&Vec<u8>, &Option<Stamp>)| entry.1.is_some_and(|stamp| stamp.is_link());
    let tracked = entries.iter().filter(|(_, entry)| entry.mode == LINK).map(|(path, _)| path);
    let links = tracked.chain(ignored.iter().filter(is_link).map(|(path, _)| path));
    let Feed { unread, kept, nested, .. } = feed;
    Ok(Snapshot {
        guarded: Guarded::look(&repository, &entries),
        links: Links::look(&place.top, &place.spot.outermost, links),
        is_replaced: false,
        unread,
        kept,
        ignored,
        rules,
        repository,
        tree,
        entries,
        nested,
        begun,
        bounded,
        spot: place.spot.clone(),
        files,
        index,
    })
}

/// A commit of a tree of ours, to be the HEAD of the next look.
fn commit(tree: &Tree, hash: usize) -> Files {
    let name = index::hexadecimal(&tree.id);
    let text = format!("tree {name}\nauthor engine <> 0 +0000\ncommitter engine <> 0 +0000\n\n");
    let id = objects::id("commit", text.as_bytes(), hash);
    let head = format!("{}\n", index::hexadecimal(&id));
    vec![
        objects::file("tree", &tree.body, &tree.id),
        objects::file("commit", text.as_bytes(), &id),
        ("HEAD".to_owned(), head.into_bytes()),
    ]
}
