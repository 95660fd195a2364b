//! A disk that has lost its power: from the log of a command's steps, every state that the disk may show afterwards.
//!
//! The two models are those of `docs/model/protocol.py`. `Ordered` (ext4, xfs, btrfs): names have one history, and any
//! sync makes all before it durable. `ByFile`: the moves of the job files and the lines of the records are two histories,
//! each durable up to its own last sync; a rename is atomic; a record whose directory was not synced may have no name.
//! In both, data that was not synced may be there, half there, or not there.
//! Not modelled: a rename that is torn apart, and the logs of tools, which nobody is promised.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The files of a project by their path below it.
pub type Files = BTreeMap<PathBuf, Vec<u8>>;

/// What a disk makes of what was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Model {
    Ordered,
    ByFile,
}

/// What is there of data that was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unsynced {
    Whole,
    Half,
    Gone,
}

const UNSYNCED: [Unsynced; 3] = [Unsynced::Whole, Unsynced::Half, Unsynced::Gone];

#[derive(Debug, Clone)]
enum Kind {
    Mkdir,
    Create,
    Write(Vec<u8>),
    Append(Vec<u8>),
    Truncate(usize),
    Rename {
        from: PathBuf,
        replaces: bool,
    },
    Link {
        from: PathBuf,
    },
    Unlink,
    Sync,
    SyncDir,
    /// Of the whole file system.
    SyncAll,
    Other,
}

/// One logged step.
#[derive(Debug, Clone)]
pub struct Step {
    /// As the program calls it.
    pub name: String,
    path: PathBuf,
    kind: Kind,
    /// The file that is made, written or synced.
    inode: Option<usize>,
}

/// Which history a step belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum History {
    JobFiles,
    Records,
    Rest,
}

impl Step {
    /// Reads a line of the log; the paths below `dir` become relative.
    fn parse(line: &str, dir: &Path) -> Self {
        let mut fields = line.split('\t');
        let mut next = || fields.next().unwrap_or_default();
        let (name, path, detail, target) = (next(), next(), next(), next());
        let below = |path: &str| Path::new(path).strip_prefix(dir).unwrap_or(Path::new(path)).to_path_buf();
        let bytes = || -> Vec<u8> {
            (0..detail.len() / 2)
                .map(|at| u8::from_str_radix(&detail[2 * at..2 * at + 2], 16).unwrap())
                .collect()
        };
        let kind = match name {
            "Mkdir" => Kind::Mkdir,
            "Create" => Kind::Create,
            "Write" => Kind::Write(bytes()),
            "Append" => Kind::Append(bytes()),
            "Truncate" => Kind::Truncate(detail.parse().unwrap()),
            "Rename" => Kind::Rename { from: below(detail), replaces: target == "Replaced" },
            "Link" => Kind::Link { from: below(detail) },
            "Unlink" => Kind::Unlink,
            "Sync" if below(path) == Path::new(".engine") => Kind::SyncAll,
            "Sync" => Kind::Sync,
            "SyncDir" => Kind::SyncDir,
            "Reserve" | "Spawn" | "Tell" => Kind::Other,
            other => panic!("a step that the disk does not know: {other}"),
        };
        Self { name: name.to_owned(), path: below(path), kind, inode: None }
    }

    fn is_sync(&self) -> bool {
        matches!(self.kind, Kind::Sync | Kind::SyncDir | Kind::SyncAll)
    }

    fn is_data(&self) -> bool {
        matches!(self.kind, Kind::Write(_) | Kind::Append(_) | Kind::Truncate(_))
    }

    fn history(&self) -> History {
        if self.path.starts_with(".engine/jobs") {
            History::JobFiles
        } else if self.path.starts_with(".engine/state/jobs") {
            History::Records
        } else {
            History::Rest
        }
    }

    /// True if `later` makes the data of this write durable.
    fn data_is_synced_by(&self, later: &Self) -> bool {
        match later.kind {
            Kind::Sync => later.inode == self.inode,
            Kind::SyncAll => true,
            _ => false,
        }
    }

    /// True if `later` makes this change of names durable.
    fn name_is_synced_by(&self, later: &Self) -> bool {
        match later.kind {
            Kind::SyncDir => self.touches(&later.path),
            Kind::SyncAll => !self.is_sync() && !self.is_data(),
            _ => false,
        }
    }

    fn touches(&self, dir: &Path) -> bool {
        let from = match &self.kind {
            Kind::Rename { from, .. } | Kind::Link { from } => from.parent(),
            _ => None,
        };
        !self.is_sync() && !self.is_data() && (self.path.parent() == Some(dir) || from == Some(dir))
    }
}

/// Reads a whole log of steps that began with these files.
pub fn parse(log: &str, dir: &Path, before: &Files) -> Vec<Step> {
    let mut names = Names { files: before.keys().cloned().zip(0..).collect(), dirs: BTreeSet::new() };
    let mut free = before.len();
    let mut steps: Vec<Step> = log.lines().map(|line| Step::parse(line, dir)).collect();
    for step in &mut steps {
        step.inode = names.files.get(&step.path).copied();
        if matches!(step.kind, Kind::Create) && step.inode.is_none() {
            step.inode = Some(free);
            free += 1;
        }
        names.apply(step);
    }
    steps
}

/// A state that the disk may show, and the last moment at which the power may have gone: so many steps were made.
#[derive(Debug)]
pub struct Lost {
    pub files: Files,
    pub dirs: BTreeSet<PathBuf>,
    pub at: usize,
    /// How it came about, for people.
    pub how: String,
}

/// Every state that a disk may show after a power loss at any moment of these steps, each once, with its last moment.
pub fn states(model: Model, before: &Files, dirs: &BTreeSet<PathBuf>, steps: &[Step]) -> Vec<Lost> {
    states_from(0, model, (before, dirs), steps)
}

/// The same, but only for the moments from the one after so many steps on.
pub fn states_from(
    first: usize,
    model: Model,
    (before, dirs): (&Files, &BTreeSet<PathBuf>),
    steps: &[Step],
) -> Vec<Lost> {
    let mut found: BTreeMap<(Files, BTreeSet<PathBuf>), (usize, String)> = BTreeMap::new();
    for at in first..=steps.len() {
        for unsynced in UNSYNCED {
            for (files_upto, records_upto) in cuts(model, &steps[..at]) {
                let cut = Cut { model, at, unsynced, files_upto, records_upto };
                let state = replay(before, dirs, steps, &cut);
                let how = format!("{cut:?}");
                found.insert(state, (at, how));
            }
        }
    }
    let lost = |((files, dirs), (at, how))| Lost { files, dirs, at, how };
    found.into_iter().map(lost).collect()
}

/// Which steps a power loss leaves.
#[derive(Debug)]
struct Cut {
    model: Model,
    /// So many steps were made.
    at: usize,
    unsynced: Unsynced,
    /// Names of job files are there up to this step.
    files_upto: usize,
    /// The records are there up to this step.
    records_upto: usize,
}

/// How far the two histories may have come on the disk, after these steps.
fn cuts(model: Model, made: &[Step]) -> Vec<(usize, usize)> {
    let after_last = |is: &dyn Fn(usize) -> bool| (0..made.len()).rev().find(|n| is(*n)).map_or(0, |n| n + 1);
    if model == Model::Ordered {
        let from = after_last(&|n| made[n].is_sync());
        return (from..=made.len()).map(|upto| (upto, upto)).collect();
    }
    let files_from = after_last(&|n| {
        made[n].history() == History::JobFiles
            && made[n + 1..].iter().any(|later| made[n].name_is_synced_by(later))
    });
    let records_from = after_last(&|n| {
        made[n].history() == History::Records
            && made[n].is_data()
            && made[n + 1..].iter().any(|later| made[n].data_is_synced_by(later))
    });
    let pairs = |files| (records_from..=made.len()).map(move |records| (files, records));
    (files_from..=made.len()).flat_map(pairs).collect()
}

impl Cut {
    /// True if a change of names is on the disk.
    fn has_name(&self, steps: &[Step], n: usize) -> bool {
        let synced = || steps[n + 1..self.at].iter().any(|later| steps[n].name_is_synced_by(later));
        match (self.model, steps[n].history()) {
            (Model::Ordered, _) | (Model::ByFile, History::JobFiles) => n < self.files_upto,
            // A name that was not synced may be gone, also under lines that were.
            (Model::ByFile, History::Records) => {
                n < self.at && (synced() || n < self.records_upto && self.unsynced == Unsynced::Whole)
            }
            (Model::ByFile, History::Rest) => n < self.at && (synced() || self.unsynced != Unsynced::Gone),
        }
    }

    /// How much of a write is on the disk.
    fn data(&self, steps: &[Step], n: usize) -> Unsynced {
        if n >= self.at {
            return Unsynced::Gone;
        }
        let synced = steps[n + 1..self.at].iter().any(|later| steps[n].data_is_synced_by(later));
        let upto = match (self.model, steps[n].history()) {
            (Model::Ordered, _) => self.files_upto,
            (Model::ByFile, History::Records) => self.records_upto,
            (Model::ByFile, _) => self.at,
        };
        if synced || n < upto && self.model == Model::ByFile && steps[n].history() == History::Records {
            Unsynced::Whole
        } else if n < upto {
            // Of a file that is appended to, only the last part can be torn.
            let last = !steps[n + 1..upto].iter().any(|step| step.is_data() && step.inode == steps[n].inode);
            if last || self.unsynced == Unsynced::Gone { self.unsynced } else { Unsynced::Whole }
        } else {
            // The first write behind the end may have come half.
            let first = !steps[upto..n].iter().any(|step| step.is_data() && step.inode == steps[n].inode);
            if first && self.unsynced == Unsynced::Half { Unsynced::Half } else { Unsynced::Gone }
        }
    }
}

/// Names and what they lead to.
struct Names {
    files: BTreeMap<PathBuf, usize>,
    dirs: BTreeSet<PathBuf>,
}

impl Names {
    fn apply(&mut self, step: &Step) {
        match &step.kind {
            Kind::Mkdir => drop(self.dirs.insert(step.path.clone())),
            Kind::Create => {
                if let Some(inode) = step.inode {
                    self.files.entry(step.path.clone()).or_insert(inode);
                }
            }
            Kind::Rename { from, replaces } => {
                if (*replaces || !self.files.contains_key(&step.path))
                    && let Some(inode) = self.files.remove(from)
                {
                    self.files.insert(step.path.clone(), inode);
                }
            }
            Kind::Link { from } => {
                if let Some(inode) = self.files.get(from).copied() {
                    self.files.entry(step.path.clone()).or_insert(inode);
                }
            }
            Kind::Unlink => {
                self.files.remove(&step.path);
                self.dirs.remove(&step.path);
            }
            _ => {}
        }
    }
}

/// Makes the steps again that the cut leaves.
fn replay(before: &Files, dirs: &BTreeSet<PathBuf>, steps: &[Step], cut: &Cut) -> (Files, BTreeSet<PathBuf>) {
    let mut content: BTreeMap<usize, Vec<u8>> = (0..).zip(before.values().cloned()).collect();
    let mut left = Names { files: before.keys().cloned().zip(0..).collect(), dirs: dirs.clone() };
    for (n, step) in steps.iter().enumerate().take(cut.at) {
        if step.is_data() {
            let inode = step.inode.unwrap_or_else(|| panic!("a write to no file: {step:?}"));
            write(content.entry(inode).or_default(), &step.kind, cut.data(steps, n));
        } else if cut.has_name(steps, n) {
            left.apply(step);
        }
    }
    let there = |path: &Path| path.parent().is_none_or(|dir| left.dirs.contains(dir));
    let files = left.files.iter().filter(|(path, _)| there(path));
    (
        files.map(|(path, inode)| (path.clone(), content.get(inode).cloned().unwrap_or_default())).collect(),
        left.dirs.clone(),
    )
}

fn write(content: &mut Vec<u8>, kind: &Kind, how: Unsynced) {
    let part = |bytes: &[u8]| match how {
        Unsynced::Whole => bytes.to_vec(),
        Unsynced::Half => bytes[..bytes.len() / 2].to_vec(),
        Unsynced::Gone => Vec::new(),
    };
    match kind {
        Kind::Write(bytes) => *content = part(bytes),
        Kind::Append(bytes) => content.extend(part(bytes)),
        Kind::Truncate(length) if how != Unsynced::Gone => content.truncate(*length),
        _ => {}
    }
}
