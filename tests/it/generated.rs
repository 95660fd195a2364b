//! Files that are made from the code are committed and current.

use std::fmt::Write as _;
use std::path::Path;

use clap::CommandFactory;

/// Compares a committed file with what the code makes; `ENGINE_UPDATE=1 cargo test generated` writes it.
fn is_current(path: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("ENGINE_UPDATE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == text,
        "{} is not current: run `ENGINE_UPDATE=1 cargo test generated`",
        path.display()
    );
}

#[test]
fn generated_schemas_are_current() {
    for schema in engine::cli::SCHEMAS {
        is_current(&format!("schema/jobs/{}.schema.json", schema.name), &(schema.generate)());
    }
}

#[test]
fn generated_man_pages_are_current() {
    let command = engine::cli::args::Cli::command();
    for (name, command) in pages("engine".to_owned(), &command) {
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page).unwrap();
        is_current(&format!("docs/man/{name}.1"), &String::from_utf8(page).unwrap());
    }
}

/// A command and those below it, each with the name of its page.
fn pages(name: String, command: &clap::Command) -> Vec<(String, clap::Command)> {
    let below = command.get_subcommands().flat_map(|sub| {
        let name = format!("{name}-{}", sub.get_name());
        pages(name.clone(), &sub.clone().name(&*name.leak()))
    });
    let below: Vec<_> = below.collect();
    std::iter::once((name, command.clone())).chain(below).collect()
}

#[test]
fn generated_page_of_reason_codes_is_current() {
    let mut page = String::from(REASON_CODES);
    let mut group = "";
    for row in engine::job::Code::ALL {
        if row.group != group {
            group = row.group;
            write!(page, "\n## {group}\n\n| code | meaning |\n|---|---|\n").unwrap();
        }
        let meaning = row.meaning.trim_end_matches('.').replace('|', "\\|");
        writeln!(page, "| `{}` | {meaning} |", row.code).unwrap();
        if row.code == engine::job::Code::LeftAlive {
            page.push_str(
                "| `signal:N` | A signal ended the tool (`outcome` is `killed`) or asked its runner to stop (`canceled`): `signal:15` |\n",
            );
        }
    }
    is_current("docs/reason-codes.md", &page);
}

const REASON_CODES: &str = "\
# Reason codes

`reason.code` says in a word why an attempt ended, why a job waits, or why it is refused. The findings of
`engine explain` have the same codes. `reason.message` says it in a sentence, which may change at any time.

A code keeps its meaning in every later version. New codes may be added: treat an unknown one by the `outcome` and
the exit status beside it. This page is generated from `src/job/code.rs`.
";
