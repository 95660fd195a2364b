//! The live line of `engine run` on a terminal: the step that runs, its fix, its tool, its time, and the cost so far.
//!
//! It has no colors, so there is nothing for `NO_COLOR` to take away. Hard rule: it never wraps, for a line that did could not be
//! rewritten.

use std::collections::BTreeMap;
use std::io::IsTerminal;

use crate::cli::global::variable;
use crate::cli::{print, scrub};
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::cost::totals::Totals;
use crate::job::RunId;
use crate::store::Store;
use crate::store::spent::{Of, Spending};
use crate::view::run::events::{EventName, RunEvent};

/// The width of a terminal that does not say its own.
const COLUMNS: u16 = 80;

/// What the line is made of.
#[derive(Default)]
pub(super) struct Live {
    /// The last step of each workstream that works, by its name.
    steps: BTreeMap<String, Step>,
    spending: Option<Spending>,
    cost_usd: Option<f64>,
}

/// A step, as its events tell it.
struct Step {
    text: String,
    since: Timestamp,
}

impl Live {
    /// Begins, if standard error is a terminal that can rewrite a line.
    pub(super) fn start(store: &Store, run: &RunId) -> Option<Self> {
        let is_able = variable("TERM").is_some_and(|term| term != "dumb") && std::io::stderr().is_terminal();
        is_able.then(|| {
            let spending = Spending::open(store, Of::run(run.as_str())).ok();
            Self { cost_usd: spending.as_ref().and_then(cost), spending, steps: BTreeMap::new() }
        })
    }

    /// Takes what an event says.
    pub(super) fn hear(&mut self, store: &Store, event: &RunEvent) {
        let Some(workstream) = &event.ws_id else { return };
        match event.event {
            EventName::StepStarted | EventName::StepCompleted => {
                let step = Step { text: describe(event), since: event.at };
                self.steps.insert(workstream.clone(), step);
                if let Some(spending) = &mut self.spending {
                    // What cannot be read now is read with the next step.
                    let _ = spending.read_on(store);
                    self.cost_usd = cost(spending);
                }
            }
            EventName::WorkstreamEnd => drop(self.steps.remove(workstream)),
            _ => {}
        }
    }

    /// Shows the line as it is now; without a step there is none.
    pub(super) fn show(&self, waits_until: Option<Timestamp>) {
        let now = SystemClock::start().now();
        match render(self.steps.iter(), (now, waits_until), self.cost_usd, columns()) {
            Some(line) => print::live(&line),
            None => print::end_live(),
        }
    }
}

fn cost(spending: &Spending) -> Option<f64> {
    Totals::sum_lines(spending.lines()).spent_usd.known
}

fn columns() -> usize {
    let size = rustix::termios::tcgetwinsize(std::io::stderr()).map(|size| size.ws_col);
    size.ok().filter(|columns| *columns > 0).unwrap_or(COLUMNS).into()
}

/// The step of an event: `03-fix  fix 1  claude`, and how it ended, if it did.
fn describe(event: &RunEvent) -> String {
    let text = |key: &str| event.payload.get(key).and_then(|value| value.as_str()).map(str::to_owned);
    let number = |key: &str| event.payload.get(key).and_then(serde_json::Value::as_u64);
    let is_agent = matches!(text("kind").as_deref(), Some("edit" | "fix"));
    let step = format!("{:02}-{}", number("n").unwrap_or(0), text("kind").unwrap_or_default());
    let iteration = number("iteration").filter(|iteration| *iteration > 0);
    let by = if is_agent { text("tool") } else { text("name") };
    let parts = [Some(step), iteration.map(|iteration| format!("fix {iteration}")), by, text("status")];
    parts.into_iter().flatten().collect::<Vec<_>>().join("  ")
}

/// The line, cut to the terminal; none without a step.
fn render<'s>(
    mut steps: impl Iterator<Item = (&'s String, &'s Step)>,
    (now, waits_until): (Timestamp, Option<Timestamp>),
    cost_usd: Option<f64>,
    columns: usize,
) -> Option<String> {
    let (workstream, step) = steps.next()?;
    let seconds = now.since(step.since).as_secs();
    let mut end = match waits_until {
        Some(until) => format!("waits until {until}"),
        None => format!("{}:{:02}", seconds / 60, seconds % 60),
    };
    if let Some(cost) = cost_usd {
        end.push_str(&format!("  {cost:.4} USD"));
    }
    // The last column stays free: some terminals wrap as soon as it is written.
    let columns = columns.saturating_sub(1);
    let end = cut(&format!("  {end}"), columns);
    let begin = scrub::line(&format!("{workstream}  {}", step.text));
    Some(cut(&begin, columns.saturating_sub(end.len())) + &end)
}

/// The beginning of a text that fits. A character outside of ASCII counts as two columns, which is the most that one takes.
fn cut(text: &str, columns: usize) -> String {
    let mut left = columns;
    let fits = |c: &char| {
        let rest = left.checked_sub(if c.is_ascii() { 1 } else { 2 });
        rest.inspect(|rest| left = *rest).is_some()
    };
    text.chars().take_while(fits).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(payload: &serde_json::Value) -> RunEvent {
        RunEvent {
            schema_version: 1,
            at: Timestamp::from_millis(0),
            event: EventName::StepStarted,
            run_id: RunId::new("r").unwrap(),
            ws_id: Some("ws-a".to_owned()),
            job_id: crate::job::JobId::new("r.ws-a.03-fix").unwrap(),
            seq: 1,
            payload: payload.as_object().cloned().unwrap_or_default(),
        }
    }

    fn rendered(text: &str, cost: Option<f64>, columns: usize) -> String {
        let steps =
            [("ws-a".to_owned(), Step { text: text.to_owned(), since: Timestamp::from_millis(1000) })];
        let steps = steps.iter().map(|(name, step)| (name, step));
        render(steps, (Timestamp::from_millis(76_500), None), cost, columns).unwrap()
    }

    #[test]
    fn the_line_names_step_fix_tool_time_and_cost() {
        let fix = json!({"n": 3, "kind": "fix", "name": "pytest -q", "iteration": 1, "tool": "claude"});
        let check = json!({"n": 4, "kind": "runtime", "name": "pytest -q", "iteration": 0, "tool": "tests", "status": "failed"});
        let [fix, check] = [fix, check].map(|payload| describe(&event(&payload)));
        assert_eq!(rendered(&fix, Some(0.0123), 80), "ws-a  03-fix  fix 1  claude  1:15  0.0123 USD");
        assert_eq!(rendered(&check, None, 80), "ws-a  04-runtime  pytest -q  failed  1:15");
        let none: [(&String, &Step); 0] = [];
        assert_eq!(render(none.into_iter(), (Timestamp::from_millis(0), None), None, 80), None);
    }

    #[test]
    fn nothing_makes_the_line_wrap_and_its_end_stays() {
        for text in ["a".repeat(300), "\u{65e5}\u{672c}".repeat(100), "a\nb\t\u{1b}[2J\u{202e}".repeat(40)] {
            for columns in 0..120 {
                let line = rendered(&text, None, columns);
                let width: usize = line.chars().map(|c| if c.is_ascii() { 1 } else { 2 }).sum();
                assert!(width < columns.max(1), "{columns}: {line:?}");
                assert!(!line.contains(['\n', '\t', '\u{1b}', '\u{202e}']), "{line:?}");
                assert!(columns < 7 || line.ends_with("  1:15"), "{columns}: {line:?}");
            }
        }
    }
}
