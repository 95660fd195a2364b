//! What agents tried before, for the next one: each try with what came of it.

use std::fmt;

use crate::fix_loop::Step;
use crate::job::{Code, Outcome, StepKind};

/// The most tries that are told, the last ones.
const MOST: usize = 10;

/// A try, as a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tried(pub(super) String);

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The last tries of a history, oldest first. What has not come to an end is none.
pub(crate) fn tried(steps: &[Step]) -> Vec<Tried> {
    let all: Vec<Tried> = steps
        .iter()
        .enumerate()
        .filter(|(_, step)| step.kind.is_agent())
        .filter_map(|(at, step)| told(step, steps.get(at + 1..).unwrap_or_default()))
        .collect();
    all.into_iter().rev().take(MOST).rev().collect()
}

fn told(step: &Step, later: &[Step]) -> Option<Tried> {
    let what = match (&step.check, step.kind) {
        (Some(check), StepKind::Fix) => format!("step {}, a fix of `{check}` by {}", step.n, step.tool),
        _ => format!("step {}, an edit by {}", step.n, step.tool),
    };
    let came_of_it = match (&step.taken, &step.refused) {
        (Some(_), _) => consequence(step, later),
        (None, Some(refused)) if refused.code != Code::NoChange => {
            format!("its change was refused: {}", refused.message)
        }
        (None, _) if step.changed_nothing() => "it changed nothing".to_owned(),
        (None, _) => {
            let reason = step.ended()?.reason.as_ref()?;
            format!("it failed: {}", reason.message)
        }
    };
    Some(Tried(format!("{what}: {came_of_it}")))
}

/// What the checks said of a change that was taken, up to the next one.
fn consequence(step: &Step, later: &[Step]) -> String {
    let until_next = later.iter().take_while(|later| !later.kind.is_agent());
    let failed = until_next
        .filter(|run| run.kind.is_check() && run.ended().is_some())
        .find(|run| !run.has_outcome(Outcome::Succeeded));
    match failed.and_then(|run| Some((run, run.check.as_ref()?))) {
        Some((run, check)) => {
            let is_own = step.check_digest.is_some() && step.check_digest == run.check_digest;
            let still = if is_own { "still failed" } else { "failed" };
            format!("its change was taken, and `{check}` {still} after it in step {}", run.n)
        }
        None => "its change was taken".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::fix_loop::{Ended, StepState, Why};
    use crate::job::{Reason, ToolId};

    fn step(n: u32, kind: StepKind, check: Option<&str>, outcome: Outcome, reason: Option<Reason>) -> Step {
        Step {
            n,
            kind,
            check: check.map(str::to_owned),
            check_digest: check.map(str::to_owned),
            life: 1,
            iteration: 0,
            tool: ToolId::new("claude").unwrap(),
            tree: "t".to_owned(),
            why: Why::Task,
            state: StepState::Ended(Ended { outcome, reason, at: Timestamp::from_millis(0) }),
            kills: 0,
            signature: None,
            taken: None,
            tree_after: None,
            refused: None,
        }
    }

    #[test]
    fn each_try_is_told_with_what_came_of_it() {
        use Outcome::{Failed, Succeeded};
        let taken = |step: Step| Step { taken: Some("c".to_owned()), ..step };
        let reason = |code, message: &str| Some(Reason::new(code, message));
        let steps = [
            step(1, StepKind::Edit, None, Failed, reason(Code::Protocol, "the stream was cut off")),
            Step {
                refused: reason(Code::ScopeViolation, "`b.py` is out of scope"),
                ..step(2, StepKind::Edit, None, Succeeded, None)
            },
            taken(step(3, StepKind::Edit, None, Succeeded, None)),
            step(4, StepKind::Static, Some("lint"), Succeeded, None),
            step(5, StepKind::Runtime, Some("unit"), Failed, None),
            taken(step(6, StepKind::Fix, Some("unit"), Succeeded, None)),
            step(7, StepKind::Runtime, Some("unit"), Failed, None),
            step(8, StepKind::Fix, Some("unit"), Failed, reason(Code::NoChange, "nothing changed")),
            Step { state: StepState::Open, ..step(9, StepKind::Fix, Some("unit"), Failed, None) },
        ];
        let told: Vec<String> = tried(&steps).iter().map(Tried::to_string).collect();
        let want = [
            "step 1, an edit by claude: it failed: the stream was cut off",
            "step 2, an edit by claude: its change was refused: `b.py` is out of scope",
            "step 3, an edit by claude: its change was taken, and `unit` failed after it in step 5",
            "step 6, a fix of `unit` by claude: its change was taken, and `unit` still failed after it in step 7",
            "step 8, a fix of `unit` by claude: it changed nothing",
        ];
        assert_eq!(told, want);
    }

    #[test]
    fn only_the_last_tries_are_told() {
        let edits: Vec<Step> = (1..=12)
            .map(|n| step(n, StepKind::Edit, None, Outcome::Failed, Some(Reason::new(Code::Failed, "x"))))
            .collect();
        let told = tried(&edits);
        assert_eq!(
            (told.len(), told[0].to_string()),
            (MOST, "step 3, an edit by claude: it failed: x".to_owned())
        );
    }
}
