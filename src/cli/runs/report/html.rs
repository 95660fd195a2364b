//! A report as one page: no script, nothing that is loaded, and a policy that forbids both.
//!
//! Hard rule: what a record says is escaped, also in attributes.

use std::fmt::Write;

use quick_xml::escape::escape;

use super::summary::{Reason, Row, Summary};
use crate::cli::{print, scrub};
use crate::view::run::status::WorkstreamStatus;

const STYLE: &str = "\
:root{color-scheme:light dark;--back:#fff;--text:#1f2328;--line:#8c959f;--good:#116329;--bad:#a40e26;--other:#6639ba}\
@media(prefers-color-scheme:dark){:root{--back:#0d1117;--text:#e6edf3;--good:#56d364;--bad:#ff938a;--other:#d2a8ff}}\
html{background:var(--back);color:var(--text)}body{font:15px/1.5 system-ui,sans-serif;margin:1.5rem auto;max-width:80rem;padding:0 1rem}\
dl{display:grid;grid-template-columns:max-content 1fr;gap:.1rem 1.5rem}dt{font-weight:600}dd{margin:0;overflow-wrap:anywhere}\
table{border-collapse:collapse;width:100%}caption{text-align:left;font-weight:600;font-size:1.2rem;margin:.5rem 0}\
th,td{border-bottom:1px solid var(--line);padding:.3rem .6rem;text-align:left;vertical-align:top;overflow-wrap:anywhere}\
td.n{text-align:right;white-space:nowrap}code,pre{font:13px/1.5 ui-monospace,monospace}pre{white-space:pre-wrap;margin:.3rem 0}\
.good{color:var(--good)}.bad{color:var(--bad)}.other{color:var(--other)}.good,.bad,.other{font-weight:600}";

/// The page.
pub(super) fn page(summary: &Summary) -> String {
    let mut page = String::new();
    let title = format!("{}: {}", shown(&summary.run), summary.status);
    // To a string nothing fails.
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
        <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
        <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n\
        <style>{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n<dl>\n"
    );
    for (name, value) in &summary.facts {
        let _ = writeln!(page, "<dt>{}</dt><dd>{}</dd>", shown(name), shown(value));
    }
    page.push_str("</dl>\n");
    workstreams(&mut page, &summary.rows);
    if !summary.failures.is_empty() {
        page.push_str("<h2>Failures of steps</h2>\n<ul>\n");
        for (count, failure) in &summary.failures {
            let _ = writeln!(page, "<li>{count} × {}</li>", reason(failure));
        }
        page.push_str("</ul>\n");
    }
    if !summary.next.is_empty() {
        page.push_str("<h2>Next</h2>\n<ul>\n");
        for next in &summary.next {
            let _ = writeln!(page, "<li><code>{}</code></li>", shown(next));
        }
        page.push_str("</ul>\n");
    }
    page.push_str("</main>\n</body>\n</html>\n");
    page
}

fn workstreams(page: &mut String, rows: &[Row]) {
    page.push_str(
        "<table>\n<caption>Workstreams</caption>\n<thead><tr><th scope=\"col\">Workstream</th><th scope=\"col\">Status</th>\
        <th scope=\"col\">Reason, steps</th><th scope=\"col\">Changed</th><th scope=\"col\">Fixes</th>\
        <th scope=\"col\">Used</th><th scope=\"col\">Time</th></tr></thead>\n<tbody>\n",
    );
    for row in rows {
        let _ = write!(
            page,
            "<tr><th scope=\"row\">{}</th><td class=\"{}\">{}</td><td>",
            shown(&row.name),
            class(row.status),
            row.status
        );
        page.push_str(&row.reason.as_ref().map(reason).unwrap_or_default());
        for warning in &row.warnings {
            let _ = write!(page, "<p>{}</p>", shown(warning));
        }
        if !row.steps.is_empty() {
            let steps: Vec<String> = row.steps.iter().map(|step| shown(step)).collect();
            let (count, steps) = (print::counted(row.steps.len(), "step", "steps"), steps.join("\n"));
            let _ = write!(page, "<details><summary>{count}</summary><pre>{steps}</pre></details>");
        }
        let text = |text: &Option<String>| shown(text.as_deref().unwrap_or_default());
        let time = row.seconds.map(|seconds| format!("{seconds:.1} s")).unwrap_or_default();
        let _ = writeln!(
            page,
            "</td><td>{}</td><td class=\"n\">{}</td><td>{}</td><td class=\"n\">{time}</td></tr>",
            text(&row.changed),
            row.fixes,
            text(&row.used),
        );
    }
    page.push_str("</tbody>\n</table>\n");
}

fn class(status: WorkstreamStatus) -> &'static str {
    match status {
        WorkstreamStatus::Succeeded => "good",
        WorkstreamStatus::Failed | WorkstreamStatus::Quarantined => "bad",
        WorkstreamStatus::Pending
        | WorkstreamStatus::Running
        | WorkstreamStatus::Parked
        | WorkstreamStatus::Blocked
        | WorkstreamStatus::Canceled => "other",
    }
}

fn reason(reason: &Reason) -> String {
    format!("<code>{}</code>: {}", shown(&reason.code.as_str()), shown(&reason.message))
}

/// A text on one line, as the page shows it.
fn shown(text: &str) -> String {
    escape(scrub::line(text)).into_owned()
}
