//! Files outside of the repository that a link in it leads to.
//!
//! Git keeps the text of a link and never looks at its target, so no tree shows a write through a link. A program that has
//! nothing to do with the job may change such a file as well: the evidence is only that it changed. Hard rule: the work is
//! bounded, and a bound that was hit is reported.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::fs::{self, Moment, Stamp};
use crate::git::index::Kind;

/// The most links that are looked at.
const MAX_LINKS: usize = 10_000;

/// The most names that are looked at in the directory that a link leads to, one level below it included.
const MAX_NAMES: usize = 1_000;

/// A file outside that changed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct OutsideChange {
    /// The file.
    pub path: String,
    /// The link in the repository that leads to it, or to a directory above it.
    pub link: String,
    /// The kind of change.
    pub kind: Kind,
}

/// Where a link leads, and the files that were there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Target {
    path: OsString,
    #[serde(with = "pairs")]
    seen: BTreeMap<OsString, Stamp>,
}

/// The links that lead out of a repository.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Links {
    #[serde(with = "pairs")]
    targets: BTreeMap<Vec<u8>, Target>,
    /// Whether there were more links, or more names in a directory, than were looked at.
    pub bounded: bool,
}

impl Links {
    /// Looks at those of these links of the worktree `top` that lead out of `inside`.
    #[must_use]
    pub fn look<'n>(top: &Path, inside: &Path, names: impl IntoIterator<Item = &'n Vec<u8>>) -> Self {
        let mut links = Self::default();
        for (count, name) in names.into_iter().enumerate() {
            if count >= MAX_LINKS {
                links.bounded = true;
                break;
            }
            let Some(path) = target(&top.join(OsStr::from_bytes(name))) else { continue };
            if path.starts_with(inside) {
                continue;
            }
            let seen = links.seen(&path);
            links.targets.insert(name.clone(), Target { path: path.into(), seen });
        }
        links
    }

    fn seen(&mut self, path: &Path) -> BTreeMap<OsString, Stamp> {
        let mut seen = BTreeMap::new();
        let walk = walkdir::WalkDir::new(path).max_depth(2);
        for (count, entry) in walk.into_iter().filter_map(Result::ok).enumerate() {
            if count >= MAX_NAMES {
                self.bounded = true;
                break;
            }
            // The time of a directory changes with every name in it, and the names are looked at themselves.
            if !entry.file_type().is_dir()
                && let Some(stamp) = Stamp::read(entry.path())
            {
                seen.insert(entry.into_path().into(), stamp);
            }
        }
        seen
    }

    /// The changes behind the links of before, and since the moment of the first look behind those of `after`.
    #[must_use]
    pub fn compare(&mut self, after: &Self, since: Moment) -> Vec<OutsideChange> {
        let mut changes = BTreeMap::new();
        let known: BTreeSet<OsString> = self.targets.values().map(|target| target.path.clone()).collect();
        let mut tell = |path: &OsStr, link: &[u8], kind| {
            let text = String::from_utf8_lossy(link).into_owned();
            changes.entry(PathBuf::from(path)).or_insert((text, kind));
        };
        for (link, target) in self.targets.clone() {
            let now = self.seen(Path::new(&target.path));
            for path in target.seen.keys().filter(|path| !now.contains_key(path.as_os_str())) {
                tell(path, &link, Kind::Deleted);
            }
            for (path, stamp) in &now {
                match target.seen.get(path) {
                    None => tell(path, &link, Kind::Added),
                    Some(before) if before != stamp => tell(path, &link, Kind::Modified),
                    Some(_) => {}
                }
            }
        }
        // A job that makes a link and writes through it changes the target after the first look.
        for (link, target) in after.targets.iter().filter(|(_, target)| !known.contains(&target.path)) {
            for (path, _) in target.seen.iter().filter(|(_, stamp)| stamp.is_since(since)) {
                tell(path, link, Kind::Modified);
            }
        }
        let shown = |(path, (link, kind)): (PathBuf, (String, Kind))| OutsideChange {
            path: path.to_string_lossy().into_owned(),
            link,
            kind,
        };
        changes.into_iter().map(shown).collect()
    }
}

/// Maps as lists of pairs: in JSON a key is text, and not every path is. The paths are `OsString`, which keeps every byte.
mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<K: Serialize, V: Serialize, S: Serializer>(
        map: &BTreeMap<K, V>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_seq(map)
    }

    pub(super) fn deserialize<'de, K, V, D>(from: D) -> Result<BTreeMap<K, V>, D::Error>
    where
        K: Deserialize<'de> + Ord,
        V: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        Ok(Vec::<(K, V)>::deserialize(from)?.into_iter().collect())
    }
}

/// Where a link leads, also where nothing is there yet.
fn target(link: &Path) -> Option<PathBuf> {
    if let Ok(path) = fs::canonical(link) {
        return Some(path);
    }
    let path = link.parent()?.join(std::fs::read_link(link).ok()?);
    let parent = fs::canonical(path.parent()?).ok()?;
    Some(parent.join(path.file_name()?))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test plays the program that writes")]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn links(names: &[&str]) -> Vec<Vec<u8>> {
        names.iter().map(|name| name.as_bytes().to_vec()).collect()
    }

    #[test]
    fn a_write_behind_a_link_is_seen_even_if_the_link_is_gone_afterwards() {
        let dir = tempfile::tempdir().unwrap();
        let base = fs::canonical(dir.path()).unwrap();
        let top = base.join("top");
        std::fs::create_dir_all(base.join("far")).unwrap();
        std::fs::create_dir(&top).unwrap();
        std::fs::write(base.join("far/file"), "1").unwrap();
        symlink("../far", top.join("to_dir")).unwrap();
        symlink("../not_yet", top.join("to_nothing")).unwrap();
        symlink("to_dir", top.join("to_link")).unwrap();
        std::fs::write(top.join("own"), "1").unwrap();
        symlink("own", top.join("to_own")).unwrap();
        let names = ["to_dir", "to_link", "to_nothing", "to_own"];
        let mut before = Links::look(&top, &top, &links(&names));
        assert_eq!(before.targets.len(), 3);
        assert!(before.clone().compare(&before, (0, 0)).is_empty());
        std::fs::write(top.join("to_dir/file"), "2").unwrap();
        std::fs::write(top.join("to_nothing"), "2").unwrap();
        for name in names {
            std::fs::remove_file(top.join(name)).unwrap();
        }
        let told = before.compare(&Links::default(), (0, 0));
        let told: Vec<_> = told.iter().map(|change| (Path::new(&change.path), change.kind)).collect();
        let (file, new) = (base.join("far/file"), base.join("not_yet"));
        assert_eq!(told, [(&*file, Kind::Modified), (&*new, Kind::Added)]);
    }

    #[test]
    fn a_new_link_to_what_was_changed_long_ago_is_no_write() {
        let dir = tempfile::tempdir().unwrap();
        let base = fs::canonical(dir.path()).unwrap();
        let top = base.join("top");
        std::fs::create_dir(&top).unwrap();
        std::fs::write(base.join("far"), "1").unwrap();
        let changed = Stamp::read(&base.join("far")).unwrap().changed();
        symlink("../far", top.join("new")).unwrap();
        let after = Links::look(&top, &top, &links(&["new"]));
        assert!(Links::default().compare(&after, (changed.0 + 1, 0)).is_empty());
        assert_eq!(Links::default().compare(&after, changed).len(), 1);
    }

    #[test]
    fn a_directory_without_end_is_looked_at_up_to_a_bound_that_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let base = fs::canonical(dir.path()).unwrap();
        let top = base.join("top");
        std::fs::create_dir_all(base.join("far")).unwrap();
        std::fs::create_dir(&top).unwrap();
        for at in 0..=MAX_NAMES {
            std::fs::write(base.join(format!("far/{at}")), "").unwrap();
        }
        symlink("../far", top.join("to_dir")).unwrap();
        assert!(Links::look(&top, &top, &links(&["to_dir"])).bounded);
    }
}
