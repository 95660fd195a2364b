//! Derives a class from the facts of an agent's run and from the worktree. Pure.
//!
//! Hard rule: only an end that the tool declares and a change that the worktree shows are a success. Only of a command of
//! the job's own that prints no events, where there is no more, the exit code counts for the end.

use super::seen::{Finish, StreamFacts, Trouble};
use super::watch::Watched;
use crate::clock::Timestamp;
use crate::job::class::Class;

/// How a run ended, beside what its streams tell.
#[derive(Debug, Clone, Copy)]
pub struct Ending {
    /// The exit code, if it exited.
    pub exit_code: Option<i32>,
    /// True if the worktree is another than before; none if that is not known.
    pub changed: Option<bool>,
    /// True if the engine ended it for what it printed.
    pub was_stopped: bool,
    /// True if nothing needs to change.
    pub allow_no_change: bool,
    /// True if the job gives the whole command: then the streams may be of another form than asked for.
    pub is_literal: bool,
}

/// A class, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// The class.
    pub class: Class,
    /// One sentence.
    pub message: String,
    /// When a quota is open again, if that is known.
    pub reset_at: Option<Timestamp>,
}

impl Judged {
    fn new(class: Class, message: impl Into<String>) -> Self {
        Self { class, message: message.into(), reset_at: None }
    }
}

impl From<&Trouble> for Judged {
    fn from(trouble: &Trouble) -> Self {
        Self { class: trouble.class, message: trouble.message.clone(), reset_at: trouble.reset_at }
    }
}

/// Judges a run that no limit and no person ended.
#[must_use]
pub fn judge(watched: &Watched, ending: Ending) -> Judged {
    let seen = &watched.seen;
    match (&seen.finish, &seen.trouble) {
        (Some(Finish::Failure(trouble)), _) => trouble.into(),
        // What a tool calls a success after the request to end is half of the work.
        (Some(Finish::Success), _) if ending.was_stopped => stopped(watched),
        (Some(Finish::Success), _) => judge_success(seen, ending),
        (None, _) if ending.was_stopped => stopped(watched),
        (None, Some(trouble)) => trouble.into(),
        (None, None) if ending.is_literal && seen.events == 0 => judge_literal(ending),
        (None, None) => without_an_end(seen, ending),
    }
}

fn stopped(watched: &Watched) -> Judged {
    let trouble = watched.stopped_for.as_ref().or(watched.seen.trouble.as_ref());
    trouble.map_or_else(|| Judged::new(Class::Protocol, "the engine ended it"), Into::into)
}

fn judge_success(seen: &StreamFacts, ending: Ending) -> Judged {
    if let Some(trouble) = seen.trouble.as_ref().filter(|trouble| trouble.class == Class::Refused) {
        return trouble.into();
    }
    if ending.exit_code.is_some() && ending.exit_code == seen.busy_exit_code {
        let message = format!("{}: its service is busy", exit_message(ending.exit_code));
        return Judged::new(Class::Overloaded, message);
    }
    if seen.exit_code_counts && ending.exit_code != Some(0) {
        return Judged::new(Class::Failed, exit_message(ending.exit_code));
    }
    match ending.changed {
        Some(true) => Judged::new(Class::Ok, "finished, and the worktree changed"),
        Some(false) => judge_unchanged(seen, ending),
        None if ending.is_literal => Judged::new(Class::Ok, "finished"),
        None => Judged::new(Class::Failed, "its changes could not be determined"),
    }
}

fn judge_unchanged(seen: &StreamFacts, ending: Ending) -> Judged {
    let answer = seen.answer.as_deref().map(str::trim);
    if let Some(edit) = seen.failed_edits.first() {
        return Judged::new(Class::Failed, format!("its edits did not apply: {edit}"));
    }
    if answer == Some("") {
        return Judged::new(Class::Protocol, "the model returned no answer");
    }
    if ending.allow_no_change {
        return match seen.denied.first() {
            Some(denied) if answer.is_none() => {
                Judged::new(Class::NeedsInput, format!("needs permission that no one could grant: {denied}"))
            }
            Some(denied) => Judged::new(
                Class::Ok,
                format!("finished, but needed permission that no one could grant: {denied}"),
            ),
            None => Judged::new(Class::Ok, "finished, and no change was required"),
        };
    }
    match seen.denied.first() {
        Some(denied) => {
            Judged::new(Class::NeedsInput, format!("needs permission that no one could grant: {denied}"))
        }
        None => Judged::new(Class::NoChange, "finished without changing anything"),
    }
}

/// A command of the job's own, whose output is not a stream of events: its exit code and the worktree are all there is.
fn judge_literal(ending: Ending) -> Judged {
    match (ending.exit_code, ending.changed) {
        (Some(0), Some(false)) if !ending.allow_no_change => {
            Judged::new(Class::NoChange, "exited with success but changed nothing")
        }
        (Some(0), _) => Judged::new(Class::Ok, "exited with success"),
        (code, _) => Judged::new(Class::Failed, exit_message(code)),
    }
}

fn without_an_end(seen: &StreamFacts, ending: Ending) -> Judged {
    match ending.exit_code {
        Some(code) if code != 0 && seen.events == 0 => {
            Judged::new(Class::Failed, format!("{} before it began", exit_message(Some(code))))
        }
        code => Judged::new(Class::Protocol, format!("{} without a result", exit_message(code))),
    }
}

fn exit_message(code: Option<i32>) -> String {
    code.map_or_else(|| "ended".to_owned(), |code| format!("exited with {code}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Ending = Ending {
        exit_code: Some(0),
        changed: Some(true),
        was_stopped: false,
        allow_no_change: false,
        is_literal: false,
    };

    fn watched(seen: &StreamFacts) -> Watched {
        Watched { seen: seen.clone(), ..Watched::default() }
    }

    #[test]
    fn a_success_after_the_engine_ended_it_is_the_trouble_for_which_it_was_ended() {
        let mut seen = StreamFacts { finish: Some(Finish::Success), ..StreamFacts::default() };
        let stopped = Ending { was_stopped: true, ..PLAIN };
        assert_eq!(judge(&watched(&seen), stopped).class, Class::Protocol);
        seen.is_in_trouble(Some(529), "Overloaded", true);
        let trouble = seen.trouble.take();
        let watched = Watched { seen, stopped_for: trouble, ..Watched::default() };
        assert_eq!(judge(&watched, stopped).class, Class::Overloaded);
    }

    #[test]
    fn a_tool_without_an_event_of_its_end_must_exit_with_zero() {
        let seen =
            StreamFacts { finish: Some(Finish::Success), exit_code_counts: true, ..StreamFacts::default() };
        assert_eq!(judge(&watched(&seen), PLAIN).class, Class::Ok);
        for exit_code in [None, Some(1)] {
            assert_eq!(judge(&watched(&seen), Ending { exit_code, ..PLAIN }).class, Class::Failed);
        }
    }

    #[test]
    fn a_literal_command_whose_events_have_no_end_is_no_success() {
        let seen = StreamFacts { events: 3, ..StreamFacts::default() };
        let literal = Ending { is_literal: true, ..PLAIN };
        assert_eq!(judge(&watched(&seen), literal).class, Class::Protocol);
    }

    #[test]
    fn an_exit_code_of_zero_and_silence_are_no_success() {
        let class = |seen: &StreamFacts, ending| judge(&watched(seen), ending).class;
        let mut seen = StreamFacts::default();
        for changed in [None, Some(false), Some(true)] {
            assert_eq!(class(&seen, Ending { changed, ..PLAIN }), Class::Protocol);
        }
        seen.finish = Some(Finish::Success);
        assert_eq!(class(&seen, PLAIN), Class::Ok);
        assert_eq!(class(&seen, Ending { changed: Some(false), ..PLAIN }), Class::NoChange);
        assert_eq!(class(&seen, Ending { changed: None, ..PLAIN }), Class::Failed);
        // What the tool calls a success is one, whatever it exits with.
        assert_eq!(class(&seen, Ending { exit_code: Some(1), ..PLAIN }), Class::Ok);
    }

    #[test]
    fn a_failure_that_the_tool_declares_is_one_although_the_tree_changed() {
        let mut seen = StreamFacts::default();
        seen.is_in_trouble(Some(402), "credit balance is too low", false);
        seen.finish = seen.trouble.clone().map(Finish::Failure);
        assert_eq!(judge(&watched(&seen), PLAIN).class, Class::Billing);
    }

    #[test]
    fn without_a_change_the_reason_is_told() {
        let unchanged = Ending { changed: Some(false), ..PLAIN };
        let mut seen = StreamFacts { finish: Some(Finish::Success), ..StreamFacts::default() };
        seen.was_denied("Bash rm");
        assert_eq!(judge(&watched(&seen), unchanged).class, Class::NeedsInput);
        seen.edit_failed("no match");
        assert_eq!(judge(&watched(&seen), unchanged).class, Class::Failed);
        let mut quiet = StreamFacts { finish: Some(Finish::Success), ..StreamFacts::default() };
        quiet.says("all is well");
        let allowed = Ending { allow_no_change: true, ..unchanged };
        assert_eq!(judge(&watched(&quiet), allowed).class, Class::Ok);
        quiet.says("");
        assert_eq!(judge(&watched(&quiet), allowed).class, Class::Protocol);
    }

    #[test]
    fn a_command_of_the_jobs_own_is_judged_by_its_exit_and_the_tree() {
        let literal = Ending { is_literal: true, ..PLAIN };
        let class = |ending| judge(&watched(&StreamFacts::default()), ending).class;
        assert_eq!(class(literal), Class::Ok);
        assert_eq!(class(Ending { changed: None, ..literal }), Class::Ok);
        assert_eq!(class(Ending { changed: Some(false), ..literal }), Class::NoChange);
        assert_eq!(class(Ending { exit_code: Some(3), ..literal }), Class::Failed);
    }
}
