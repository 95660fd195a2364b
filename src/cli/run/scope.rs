//! Paths of a scope that are perhaps a mistake: an agent is paid for before that shows.
//!
//! Warns only: a directory may be made, by the agent or by a workstream before.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::git::{Call, Client, Deadline, GitDir, Program, Stop};
use crate::workstream::create::Prepared;
use crate::workstream::prepare::WantedBundle;

/// How long the look at the base commit may take.
const LOOK_TIME: Duration = Duration::from_secs(60);

/// A path of a scope, and the directory that it is in.
pub(super) struct Placed {
    workstream: String,
    path: String,
    dir: String,
}

/// The paths without a pattern that are below a directory; without those of bundles that build on others, which may make it.
pub(super) fn placed(bundles: &[WantedBundle]) -> Vec<Placed> {
    let bundles = bundles.iter().map(|one| &one.read.bundle).filter(|bundle| bundle.depends_on.is_empty());
    let of_bundle = |bundle: &crate::bundle::Bundle| {
        let placed = |path: String| {
            let dir = path.rsplit_once('/')?.0.to_owned();
            Some(Placed { workstream: bundle.id.to_string(), path, dir })
        };
        bundle.plain_scope().into_iter().filter_map(placed).collect::<Vec<_>>()
    };
    bundles.flat_map(of_bundle).collect()
}

/// A warning of each path whose directory is not in the base commit. What cannot be looked up is not told.
pub(super) fn warnings(program: &Program, prepared: &Prepared, placed: &[Placed]) -> Vec<String> {
    if placed.is_empty() {
        return Vec::new();
    }
    let client = Client {
        program: program.clone(),
        deadline: Deadline::new("the look at the base commit", LOOK_TIME),
        stop: Stop::never(),
    };
    let args = ["ls-tree", "-d", "-r", "--name-only", "-z", "--full-tree", prepared.base.commit.as_str()];
    let Ok(listed) = Call::new(&client, &prepared.repo, GitDir::Repository, &args).output() else {
        return Vec::new();
    };
    let dirs: BTreeSet<&[u8]> = listed.split(|byte| *byte == 0).collect();
    let missing = placed.iter().filter(|one| !dirs.contains(one.dir.as_bytes()));
    let warning = |one: &Placed| {
        format!("{}: `{}`: the base commit has no directory `{}`", one.workstream, one.path, one.dir)
    };
    missing.map(warning).collect()
}
