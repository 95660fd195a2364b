//! `engine runs report`: a run for readers who did not watch it, in the format of the place where they read it.

mod html;
mod junit;
mod markdown;
mod summary;
mod text;

use clap::{Args, ValueEnum};

use super::show::whole;
use crate::cli::error::CliError;
use crate::cli::named_run::named;
use crate::cli::print;
use crate::store::Store;

/// `engine runs report`
#[derive(Debug, Clone, PartialEq, Args)]
#[command(
    after_help = "Examples:\n  engine runs report last\n  engine runs report last --format md | gh pr comment --body-file -\n  \
    engine runs report last --format html > report.html\n  engine runs report last --format junit > junit.xml"
)]
pub struct RunsReportArgs {
    /// The run, or `last`
    pub run: String,
    /// The format: md fits into a comment of a pull request, html is one file without scripts
    #[arg(long, value_enum, default_value_t = Format::Text, value_name = "FORMAT")]
    pub format: Format,
}

/// A format of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Lines for a terminal
    Text,
    /// Markdown as GitHub and GitLab show it
    Md,
    /// One page that loads nothing
    Html,
    /// The document of `engine runs show --json`
    Json,
    /// `JUnit` XML: a test case for each workstream
    Junit,
}

/// Prints the report; 0 whatever became of the run.
pub(super) fn run(store: &Store, args: &RunsReportArgs) -> Result<u8, CliError> {
    let (document, _) = whole(store, named(store, &args.run)?)?;
    let summary = summary::of(&document);
    match args.format {
        Format::Text => print::report(text::lines(&summary)),
        Format::Md => print::text(&markdown::document(&summary)),
        Format::Html => print::text(&html::page(&summary)),
        Format::Json => print::json_pretty(&document),
        Format::Junit => print::text(&junit::document(&summary)),
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::summary::{Check, Part, Reason, Row, Summary};
    use super::*;
    use crate::adapter::read::junit_xml;
    use crate::clock::Timestamp;
    use crate::job::{Code, Status};
    use crate::view::run::status::{RunStatus, WorkstreamStatus};

    /// A thousand workstreams that failed with a message of any length.
    fn large(message: &str) -> Summary {
        let row = |number: usize| Row {
            name: format!("ws-{number:04}"),
            status: WorkstreamStatus::Failed,
            reason: Some(Reason { code: Code::FixLimit, message: message.to_owned() }),
            changed: Some("3 files, +10 -2".to_owned()),
            fixes: 2,
            used: Some("0.0100 USD, 3000 tokens".to_owned()),
            seconds: Some(12.5),
            steps: vec!["01-edit      succeeded   edit  0.40 s  ok".to_owned(); 6],
            warnings: Vec::new(),
        };
        Summary {
            run: "r".to_owned(),
            status: RunStatus::Failed,
            created_at: Timestamp::from_millis(0),
            duration_s: Some(1.0),
            facts: vec![("merged".to_owned(), "ws, ".repeat(1000))],
            rows: (0..1000).map(row).collect(),
            parts: Vec::new(),
            failures: vec![(1000, Reason { code: Code::FixLimit, message: message.to_owned() })],
            next: vec!["engine run --resume r".to_owned()],
        }
    }

    #[test]
    fn a_report_of_a_thousand_workstreams_fits_in_its_place_and_says_what_is_missing() {
        for length in [0, 10, 300, 100_000] {
            let summary = large(&"`|é<".repeat(length / 4));
            let comment = markdown::document(&summary);
            assert!(comment.chars().count() <= 65_536, "{} with {length}", comment.chars().count());
            let rows = comment.lines().filter(|line| line.starts_with("| failed")).count();
            assert!((50..1000).contains(&rows), "{rows} rows");
            assert!(comment.contains(&format!("\n{} workstreams more\n", 1000 - rows)), "{comment}");
        }
        assert!(html::page(&large(&"m".repeat(300))).len() < 2_000_000);
    }

    #[test]
    fn a_report_in_the_form_of_test_results_is_read_as_such_whatever_the_names_are() {
        let mut summary = large("]]> & \u{0} \u{ffff} \" <a>");
        summary.rows.truncate(3);
        summary.rows[1].status = WorkstreamStatus::Succeeded;
        summary.rows[2].status = WorkstreamStatus::Blocked;
        summary.rows[2].reason = Some(Reason { code: Code::WaitingDependency, message: "behind".to_owned() });
        "<&\"\u{1b}\u{fffe}".clone_into(&mut summary.rows[0].name);
        let counts = junit_xml::counts(junit::document(&summary).as_bytes()).unwrap();
        assert_eq!((counts.passed, counts.failed, counts.skipped), (1, 1, 1));
    }

    #[test]
    fn what_has_not_ended_is_an_error_and_no_time_is_negative() {
        for status in [
            WorkstreamStatus::Pending,
            WorkstreamStatus::Running,
            WorkstreamStatus::Parked,
            WorkstreamStatus::Canceled,
            WorkstreamStatus::Blocked,
        ] {
            let mut summary = large("m");
            summary.rows.truncate(1);
            (summary.rows[0].status, summary.rows[0].seconds) = (status, None);
            let check = Check { name: "c".to_owned(), status: Status::Succeeded, seconds: Some(0.25) };
            let (reason, seconds) = (None, Some(1.0));
            let checks = vec![check];
            summary.parts = vec![Part { name: "integration".to_owned(), status, reason, seconds, checks }];
            let text = junit::document(&summary);
            let counts = junit_xml::counts(text.as_bytes()).unwrap();
            assert_eq!((counts.passed, counts.failed + counts.errors, counts.skipped), (1, 2, 0), "{text}");
            assert!(text.contains("errors=\"2\"") && !text.contains("-0.000"), "{text}");
            let times = [
                "time=\"0.750\"",
                "time=\"0.250\"",
                "failures=\"0\" errors=\"1\" skipped=\"0\" time=\"1.000\"",
            ];
            assert!(times.iter().all(|time| text.contains(time)), "{text}");
        }
    }
}
