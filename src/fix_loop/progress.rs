//! The guard against a loop that comes to nothing: a step that is started again and again, and no run of which counts.
//!
//! Each way to repeat a step has a bound of its own, but for a run that something outside of the workstream stops; and an error in
//! one of them must not cost a person's money all night. Numbers of steps only rise, so a higher one is progress.

use super::decision::{End, Next, Verdict};
use crate::job::{Code, Reason};

/// So many decisions in a row about steps that were there before: more than any bound allows without a wait.
const MOST: u32 = 20;

/// How far a process has come.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// The highest step that was decided about.
    highest: u32,
    /// How many decisions were about no higher one, since that or since a wait.
    without: u32,
}

impl Progress {
    /// Notes a wait: it is bounded by the time of the workstream.
    pub(crate) fn has_waited(&mut self) {
        self.without = 0;
    }

    /// A decision as it is; the end of the workstream where too many of them came to nothing.
    pub(crate) fn guard(&mut self, decided: Next) -> Next {
        let n = match &decided {
            Next::End(_) => return decided,
            Next::Run(new) => new.n,
            Next::Again(again) => again.n,
            Next::Judge(n) => *n,
        };
        if n > self.highest {
            *self = Self { highest: n, without: 0 };
            return decided;
        }
        self.without += 1;
        if self.without < MOST {
            return decided;
        }
        let message = format!(
            "step {n:02} was started {MOST} times in a row, and something ended each run before it counted: see its log, then resume"
        );
        Next::End(End {
            verdict: Verdict::Failed,
            reason: Some(Reason::new(Code::StepRepeats, message)),
            is_trip: false,
            evidence: vec![n],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fix_loop::decision::{Again, How};

    fn again(n: u32) -> Next {
        let how = How::FromCheckpoint;
        Next::Again(Again { n, how, is_reduced: false, max_cost_usd: None, delay: None })
    }

    /// How many decisions are followed, of these over and over; the code of the end.
    fn followed(all: &[Next], wait_after: Option<usize>) -> Option<(usize, Code)> {
        let mut progress = Progress::default();
        for (at, decided) in all.iter().cycle().take(1000).enumerate() {
            match progress.guard(decided.clone()) {
                Next::End(end) => return Some((at, end.reason?.code)),
                same => assert_eq!(same, *decided),
            }
            if wait_after.is_some_and(|every| at % every == 0) {
                progress.has_waited();
            }
        }
        None
    }

    #[test]
    fn a_step_that_is_repeated_without_a_wait_or_a_new_step_ends_the_workstream() {
        let most = usize::try_from(MOST).unwrap();
        let end = |starts: usize| Some((starts, Code::StepRepeats));
        assert_eq!(followed(&[again(4)], None), end(most));
        assert_eq!(followed(&[Next::Judge(4)], None), end(most));
        assert_eq!(followed(&[again(4), Next::Judge(4)], None), end(most));
        assert_eq!(followed(&[again(3), again(4)], None), end(most + 1), "two steps in turn");
        assert_eq!(followed(&[again(4)], Some(10)), None, "each wait takes time, and that is bounded");
    }

    #[test]
    fn new_steps_and_the_end_are_never_stopped() {
        let rising: Vec<Next> = (1..=1000).flat_map(|n| [again(n), again(n), Next::Judge(n)]).collect();
        assert_eq!(followed(&rising, None), None);
        let end = End { verdict: Verdict::Succeeded, reason: None, is_trip: false, evidence: Vec::new() };
        let mut progress = Progress::default();
        for _ in 0..50 {
            assert_eq!(progress.guard(Next::End(end.clone())), Next::End(end.clone()));
        }
    }
}
