//! `engine adapters`: which adapters there are, and whether their tools are on this machine.

use serde_json::{Map, Value, json};

use super::error::{CliError, NO};
use super::global::Global;
use super::global::{current_dir, variable};
use super::{print, root};
use crate::adapter::registry::Source;
use crate::adapter::{self, Manifest, detect};
use clap::Args;

/// `engine adapters`
#[derive(Debug, Clone, PartialEq, Args)]
#[command(after_help = "Examples:\n  engine adapters\n  engine adapters --json | jq .git.version")]
pub struct AdaptersArgs {
    /// Also run the version command of each manifest in this root
    #[arg(long)]
    pub detect: bool,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// Lists the adapters; 1 if a manifest of the root cannot be read.
pub(super) fn run(args: &AdaptersArgs, global: &Global) -> Result<u8, CliError> {
    let store = root::to_read_if_any(global)?;
    let (cwd, path) = (current_dir()?, variable("PATH"));
    let mut status = 0;
    let mut document = Map::new();
    let mut table = vec![["ID", "PRESENT", "VERSION", "READER", "CAPABILITIES"].map(str::to_owned).to_vec()];
    for (id, manifest) in adapter::list(store.as_ref())? {
        match manifest {
            Ok((manifest, source)) => {
                let found = match (&source, args.detect) {
                    // A manifest of a root says itself what is run to tell the version.
                    (Source::File(_), false) => detect::locate(&manifest, path.as_deref(), &cwd),
                    _ => detect::detect(&manifest, path.as_deref(), &cwd),
                };
                table.push(cells(&manifest, &found));
                document.insert(id, as_json(&manifest, &source, &found));
            }
            Err(error) => {
                status = NO;
                let error = CliError::from(error);
                error.print(global.quiet);
                document.insert(id, json!({ "error": error.message }));
            }
        }
    }
    if args.json {
        print::json_pretty(&document);
    } else {
        print::table(&table);
    }
    Ok(status)
}

fn cells(manifest: &Manifest, found: &detect::Detected) -> Vec<String> {
    let present = match (&manifest.executable, &found.path) {
        (None, _) => "-",
        (Some(_), Some(_)) => "yes",
        (Some(_), None) => "no",
    };
    let version = found.version.clone().unwrap_or_else(|| "-".to_owned());
    vec![
        manifest.id.to_string(),
        present.to_owned(),
        version,
        manifest.reader.to_string(),
        manifest.capabilities.join(","),
    ]
}

fn as_json(manifest: &Manifest, source: &Source, found: &detect::Detected) -> Value {
    let file = match source {
        Source::BuiltIn => None,
        Source::File(path) => Some(path.to_string_lossy()),
    };
    json!({
        "summary": manifest.summary,
        "file": file,
        "executable": manifest.executable,
        "present": manifest.executable.as_ref().map(|_| found.path.is_some()),
        "path": found.path.as_ref().map(|path| path.to_string_lossy()),
        "version": found.version,
        "reader": manifest.reader,
        "capabilities": manifest.capabilities,
        "repeatable": manifest.repeatable,
    })
}
