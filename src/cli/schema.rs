//! `engine schema` and `engine completions`: print what is generated from the types of this program.

use super::error::CliError;
use super::print;
use crate::adapter::Manifest;
use crate::bundle::{self, Bundle};
use crate::cost::prices::PriceFile;
use crate::cost::usage::LedgerLine;
use crate::job::event::JournalLine;
use crate::job::parse::nearest::nearest;
use crate::job::schema::{JOB_SCHEMA, generate, generate_draft_7};
use crate::job::{ErrorReport, JobFile, JobResult, RecordLine, RunManifest};
use crate::view::run::document::RunDocument;
use crate::view::run::events::RunEvent;
use crate::view::run::patches::Patch;
use clap::Args;

/// `engine schema`
#[derive(Debug, Clone, PartialEq, Args)]
#[command(
    after_help = "Examples:\n  engine schema job > job.schema.json\n  engine schema record | jq .properties"
)]
pub struct SchemaArgs {
    /// Which: job, record, result, error_report, event, adapter, usage, prices, workstream, run, run_manifest, run_event or
    /// patch
    pub name: String,
}

/// `engine completions`
#[derive(Debug, Clone, PartialEq, Args)]
#[command(
    after_help = "Examples:\n  engine completions bash > ~/.local/share/bash-completion/completions/engine"
)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: clap_complete::Shell,
}

/// A schema: its name, its committed text, and what makes it.
#[derive(Debug, Clone, Copy)]
pub struct NamedSchema {
    /// The name, as in `schema/jobs/<name>.schema.json`.
    pub name: &'static str,
    /// The committed text.
    pub text: &'static str,
    /// Makes it from the types.
    pub generate: fn() -> String,
}

/// Every schema.
pub const SCHEMAS: [NamedSchema; 13] = [
    NamedSchema { name: "job", text: JOB_SCHEMA, generate: generate::<JobFile> },
    NamedSchema {
        name: "record",
        text: include_str!("../../schema/jobs/record.schema.json"),
        generate: generate::<RecordLine>,
    },
    NamedSchema {
        name: "result",
        text: include_str!("../../schema/jobs/result.schema.json"),
        generate: generate::<JobResult>,
    },
    NamedSchema {
        name: "error_report",
        text: include_str!("../../schema/jobs/error_report.schema.json"),
        generate: generate::<ErrorReport>,
    },
    NamedSchema {
        name: "event",
        text: include_str!("../../schema/jobs/event.schema.json"),
        generate: generate::<JournalLine>,
    },
    NamedSchema {
        name: "adapter",
        text: include_str!("../../schema/jobs/adapter.schema.json"),
        generate: generate::<Manifest>,
    },
    NamedSchema {
        name: "usage",
        text: include_str!("../../schema/jobs/usage.schema.json"),
        generate: generate::<LedgerLine>,
    },
    NamedSchema {
        name: "prices",
        text: include_str!("../../schema/jobs/prices.schema.json"),
        generate: generate::<PriceFile>,
    },
    NamedSchema { name: "workstream", text: bundle::SCHEMA, generate: generate_draft_7::<Bundle> },
    NamedSchema {
        name: "run",
        text: include_str!("../../schema/jobs/run.schema.json"),
        generate: generate::<RunDocument>,
    },
    NamedSchema {
        name: "run_manifest",
        text: include_str!("../../schema/jobs/run_manifest.schema.json"),
        generate: generate::<RunManifest>,
    },
    NamedSchema {
        name: "run_event",
        text: include_str!("../../schema/jobs/run_event.schema.json"),
        generate: generate::<RunEvent>,
    },
    NamedSchema {
        name: "patch",
        text: include_str!("../../schema/jobs/patch.schema.json"),
        generate: generate::<Patch>,
    },
];

/// Prints a schema.
pub(super) fn run(args: &SchemaArgs) -> Result<u8, CliError> {
    let Some(schema) = SCHEMAS.iter().find(|schema| schema.name == args.name) else {
        let names: Vec<&str> = SCHEMAS.iter().map(|schema| schema.name).collect();
        let near =
            nearest(&args.name, &names).map_or_else(String::new, |near| format!("did you mean `{near}`? "));
        let message = format!("there is no schema `{}`", args.name);
        return Err(CliError::no(message).hint(format!("{near}There are: {}", names.join(", "))));
    };
    print::text(schema.text);
    Ok(0)
}

/// Prints a completion script.
pub(super) fn completions(args: &CompletionsArgs, mut command: clap::Command) -> Result<u8, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "engine", &mut script);
    print::text(&String::from_utf8_lossy(&script));
    Ok(0)
}
