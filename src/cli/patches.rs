//! `engine patches`: what agents changed in the workstreams of runs, and what became of it.

use clap::{Args, Subcommand};

use super::error::CliError;
use super::global::Global;
use super::jobs::known_id;
use super::named_run::named;
use super::{print, root};
use crate::clock::{Clock, SystemClock};
use crate::fs;
use crate::job::step::parse_step_id;
use crate::job::{RunId, RunManifest};
use crate::store::{Store, run_dir};
use crate::view::run::patches::{self, Patch};
use crate::view::run::{self, Depth};

/// `engine patches`
#[derive(Debug, Clone, PartialEq, Args)]
#[command(
    after_help = "Examples:\n  engine patches list --run last\n  engine patches show r-20261201-101500-3f2a.ws-task.02-edit\n\n\
    The id of a patch is that of its step."
)]
pub struct PatchesArgs {
    /// What to do
    #[command(subcommand)]
    pub verb: PatchesVerb,
}

/// The verbs of `engine patches`.
#[derive(Debug, Clone, PartialEq, Subcommand)]
pub enum PatchesVerb {
    /// List patches: those of the newest run first, of a run in the order of its steps
    List(PatchesListArgs),
    /// Show one patch: what became of it, and its text
    Show(PatchesShowArgs),
}

/// `engine patches list`
#[derive(Debug, Clone, PartialEq, Args)]
pub struct PatchesListArgs {
    /// Only patches of this run, or `last`
    #[arg(long, value_name = "RUN")]
    pub run: Option<String>,
    /// Print JSON Lines
    #[arg(long)]
    pub json: bool,
}

/// `engine patches show`
#[derive(Debug, Clone, PartialEq, Args)]
pub struct PatchesShowArgs {
    /// The patch
    pub id: String,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// A longer text is not shown.
const LARGEST: u64 = 64 << 20;

/// Does what was asked.
pub(super) fn run(args: &PatchesArgs, global: &Global) -> Result<u8, CliError> {
    let store = root::to_read(global)?;
    match &args.verb {
        PatchesVerb::List(args) => list(&store, args),
        PatchesVerb::Show(args) => show(&store, args),
    }
}

fn list(store: &Store, args: &PatchesListArgs) -> Result<u8, CliError> {
    let runs = match &args.run {
        Some(name) => vec![named(store, name)?],
        None => run_dir::list(store)?.runs,
    };
    let mut found = Vec::new();
    for manifest in runs {
        found.extend(of_run(store, manifest)?);
    }
    if args.json {
        found.iter().for_each(print::json_line);
        return Ok(0);
    }
    if found.is_empty() {
        return Ok(0);
    }
    let mut table = vec![["PATCH", "STATE", "TOOL", "FILES", "AT", "WHY"].map(str::to_owned).to_vec()];
    table.extend(found.iter().map(cells));
    print::table(&table);
    Ok(0)
}

fn of_run(store: &Store, manifest: RunManifest) -> Result<Vec<Patch>, CliError> {
    let facts = run::read(store, manifest, Depth::Everything, SystemClock::start().now())?;
    Ok(patches::of_run(&facts))
}

fn cells(patch: &Patch) -> Vec<String> {
    let last = patch.state_history.last();
    let why = last.and_then(|last| last.reason.as_ref());
    vec![
        patch.patch_id.to_string(),
        patch.state.to_string(),
        patch.tool.clone().unwrap_or_else(|| "-".to_owned()),
        // Nothing counts what an adapter that is no agent changes.
        patch.files_changed.map_or_else(|| "-".to_owned(), |files| files.to_string()),
        last.map_or_else(String::new, |last| last.at.to_string()),
        why.map_or_else(String::new, ToString::to_string),
    ]
}

fn show(store: &Store, args: &PatchesShowArgs) -> Result<u8, CliError> {
    let id = known_id(&args.id)?;
    let absent = || CliError::no(format!("there is no patch `{id}`")).hint("engine patches list");
    let run = parse_step_id(&id).and_then(|_| RunId::of_job(&id)).ok_or_else(absent)?;
    let manifest = run_dir::read_manifest(store, &run)?.ok_or_else(absent)?;
    let patch = of_run(store, manifest)?.into_iter().find(|patch| patch.patch_id == id).ok_or_else(absent)?;
    if args.json {
        print::json_pretty(&patch);
        return Ok(0);
    }
    print::report(describe(&patch));
    match text(&patch)? {
        Some(text) => print::text(&format!("\n{text}")),
        None => print::report([String::new(), where_else(&patch)]),
    }
    Ok(0)
}

fn describe(patch: &Patch) -> Vec<String> {
    let mut lines = vec![format!("{}  {}", patch.patch_id, patch.state)];
    lines.extend(patch.tool.as_ref().map(|tool| format!("  {:<12} {tool}", "tool")));
    lines.extend(patch.patch_path.as_ref().map(|path| format!("  {:<12} {path}", "text")));
    for one in &patch.state_history {
        let why = one.reason.as_ref().map_or_else(String::new, |code| format!("  {code}"));
        lines.push(format!("  {:<12} {}{why}", one.state, one.at));
    }
    lines
}

/// The text of a patch; none if none was kept, or if gc has removed it.
fn text(patch: &Patch) -> Result<Option<String>, CliError> {
    let Some(path) = patch.patch_path.as_ref().map(std::path::Path::new) else { return Ok(None) };
    let file = match fs::open_regular(path) {
        Ok(file) => file,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let bytes = fs::read_limited(&file, path, LARGEST)?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

/// A change that was taken is a commit, whichever adapter made it.
fn where_else(patch: &Patch) -> String {
    let Patch { run_id, ws_id, patch_id, .. } = patch;
    match parse_step_id(patch_id) {
        Some((_, n, _)) if patch.has_been(patches::PatchState::Applied) => {
            format!("its text: git log -p --grep='^Engine-Step: {ws_id}/{n:02}$' engine/{run_id}/{ws_id}")
        }
        Some((_, n, _)) => {
            format!("its text, if it was put aside: git show refs/engine/{run_id}/{ws_id}/{n:02}")
        }
        None => String::new(),
    }
}
