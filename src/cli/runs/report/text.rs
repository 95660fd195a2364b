//! A report as lines for a terminal.

use super::summary::{Row, Summary};
use crate::cli::print;

pub(super) fn lines(summary: &Summary) -> Vec<String> {
    let mut lines = vec![format!("{}  {}", summary.run, summary.status)];
    lines.extend(summary.facts.iter().map(|(name, value)| format!("  {name:<12} {value}")));
    if !summary.rows.is_empty() {
        lines.push(String::new());
    }
    let longest = summary.rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0);
    for row in &summary.rows {
        lines.push(line(row, longest));
        lines.extend(row.reason.iter().map(|reason| format!("  {}: {}", reason.code, reason.message)));
        lines.extend(row.warnings.iter().map(|warning| format!("  warning: {warning}")));
    }
    if !summary.next.is_empty() {
        lines.push(String::new());
    }
    lines.extend(summary.next.iter().map(|next| format!("next: {next}")));
    lines
}

fn line(row: &Row, longest: usize) -> String {
    let mut parts = vec![format!("{:<11}  {:<longest$}", row.status, row.name)];
    parts.extend(row.changed.clone());
    parts.extend((row.fixes > 0).then(|| print::counted(row.fixes, "fix", "fixes")));
    parts.extend(row.used.clone());
    parts.extend(row.seconds.map(|seconds| format!("{seconds:.1} s")));
    parts.join("  ").trim_end().to_owned()
}
