//! `engine init`: makes a root, or accepts one that came from elsewhere.

use std::path::PathBuf;

use super::error::CliError;
use super::global::Global;
use super::global::current_dir;
use super::{print, root as find_root};
use crate::adapter;
use crate::job::Place;
use crate::queue::places;
use crate::store::{Store, root, version};
use clap::Args;

/// `engine init`
#[derive(Debug, Clone, PartialEq, Args)]
#[command(
    after_help = "Examples:\n  engine init          make .engine/ here\n  engine init jobs     make jobs/ a root\n  \
    engine init --adopt  after git clone, cp -a or a restore: allow this root to run what its files name"
)]
pub struct InitArgs {
    /// The directory that becomes a root [default: .engine]
    pub dir: Option<PathBuf>,
    /// Accept a root that was cloned, copied or restored; without DIR the nearest one
    #[arg(long)]
    pub adopt: bool,
    /// Let other users read the root (without DIR the nearest one), as far as your umask leaves them
    #[arg(long)]
    pub shared_read: bool,
}

/// Makes a root in the given directory; completes an existing one.
pub(super) fn run(args: &InitArgs, global: &Global) -> Result<u8, CliError> {
    let dir = directory(args, global)?;
    let is_new = root::create(&dir)?;
    if args.shared_read {
        root::share_reading(&dir)?;
    }
    let mut store = Store::open_to_change(&dir)?;
    if args.adopt && !store.is_accepted() {
        version::accept(store.root())?;
        store = Store::open_to_change(&dir)?;
        if !global.quiet {
            print::note(&format!(
                "accepted the root {}: {}",
                store.root().display(),
                what_it_may_run(&store)?
            ));
        }
        return Ok(0);
    }
    let store = store.accepted()?;
    let what = if is_new { "made the root" } else { "there is already a root at" };
    let readers =
        if args.shared_read { "; other users may read it, as far as your umask leaves them" } else { "" };
    if !global.quiet {
        print::note(&format!("{what} {}{readers}", store.root().display()));
    }
    Ok(0)
}

/// The directory that is named; to adopt or to share without a name, the nearest root.
fn directory(args: &InitArgs, global: &Global) -> Result<PathBuf, CliError> {
    let is_of_a_root = (args.adopt || args.shared_read) && args.dir.is_none();
    let nearest = if is_of_a_root { find_root::find(global, None)? } else { None };
    match nearest {
        Some(nearest) => Ok(nearest),
        None => Ok(current_dir()?.join(args.dir.as_deref().unwrap_or(".engine".as_ref()))),
    }
}

fn what_it_may_run(store: &Store) -> Result<String, CliError> {
    let queued = places::ids(store, &Place::Queued)?.len();
    let own = |listed: adapter::registry::Listed| match listed {
        Ok((manifest, adapter::registry::Source::File(_))) => Some(manifest.id.to_string()),
        _ => None,
    };
    let manifests: Vec<String> = adapter::list(store)?.into_values().filter_map(own).collect();
    let adapters = if manifests.is_empty() { "none".to_owned() } else { manifests.join(", ") };
    let queued = print::counted(queued, "queued job", "queued jobs");
    Ok(format!("{queued}; adapters of its own: {adapters}"))
}
