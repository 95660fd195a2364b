//! Reads an agent while it runs: hands its lines to the reader, follows its session file, and decides when it is useless to
//! go on.
//!
//! Tools try again for minutes, or for ever. The first notice of a refusal that no try can change ends the run. Of any other
//! trouble so much time is left as the job allows, and then the next notice ends it: a silent tool may be thinking. A tool
//! that has declared its end and stays is ended too; what it said until then counts.

use std::time::Duration;

use super::reset_time;
use super::seen::{Finish, ReadAgent, SessionFacts, StreamFacts, Trouble};
use super::session::{ReadLines, SessionFile};
use super::usage::SessionBefore;
use crate::clock::Clock;
use crate::process::Stream;
use crate::process::watch::{Shown, Watch};

/// How often the session file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often it is looked for at least, as long as it is not found.
const LOOK_AT_LEAST_EVERY: Duration = Duration::from_secs(32);
/// How many names of its session a run may tell.
const SESSIONS: u32 = 3;

/// Called once, as soon as the session is known.
pub(crate) type OnSession<'w> = Box<dyn FnMut(&str) + 'w>;

/// Finds the file of a session; asked again until it is there.
pub(crate) type FindFile<'w> = Box<dyn Fn(&str) -> Option<SessionFile> + 'w>;

/// Asked about once a second, with what was seen, what the session holds and what it held before: why the budget lets the run
/// not go on, if it does not.
pub(crate) type BudgetCheck<'w> =
    Box<dyn FnMut(&StreamFacts, &SessionFacts, SessionBefore<'_>) -> Option<String> + 'w>;

/// The callbacks while an agent runs, and its limits.
pub struct Rules<'w> {
    /// How long it may go on trying a service that fails.
    pub retry_budget: Duration,
    /// How long it may stay after it has declared its end, and after its last event since.
    pub stay_after_end: Duration,
    /// See there.
    pub on_session: OnSession<'w>,
    /// See there.
    pub find_file: FindFile<'w>,
    /// See there; none without a budget.
    pub budget_check: Option<BudgetCheck<'w>>,
}

/// Reads an agent while it runs.
pub struct AgentWatch<'w> {
    reader: Box<dyn ReadAgent>,
    seen: StreamFacts,
    session: SessionFacts,
    before: Option<SessionFacts>,
    file: SessionFile,
    rules: Rules<'w>,
    clock: &'w dyn Clock,
    known_session: Option<String>,
    sessions: u32,
    in_trouble_since: Option<Duration>,
    notices: u32,
    stop_at: Option<Duration>,
    stopped_for: Option<Trouble>,
    ended_at: Option<Duration>,
    /// What it had said of its end and of trouble, when it was asked to end after that.
    said_before_stop: Option<(Option<Finish>, Option<Trouble>)>,
    look_again_after: Duration,
    halted: Option<String>,
    next_look: Duration,
}

impl std::fmt::Debug for AgentWatch<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AgentWatch").field("seen", &self.seen).finish_non_exhaustive()
    }
}

/// The facts when an agent has ended.
#[derive(Debug, Default)]
pub struct Watched {
    /// The facts of its streams.
    pub seen: StreamFacts,
    /// The facts of its session file.
    pub session: SessionFacts,
    /// Those before the run began, if it continued a session.
    pub before: Option<SessionFacts>,
    /// Why the budget ended it, if it did.
    pub halted: Option<String>,
    /// The trouble for which it was to be ended, if it was.
    pub stopped_for: Option<Trouble>,
    /// True if it had declared its end before it was asked to end.
    pub ended_before_stop: bool,
}

impl<'w> AgentWatch<'w> {
    /// Begins to read; `file` is the session file where its place is known beforehand.
    #[must_use]
    pub fn new(
        reader: Box<dyn ReadAgent>,
        file: SessionFile,
        rules: Rules<'w>,
        clock: &'w dyn Clock,
    ) -> Self {
        Self {
            reader,
            seen: StreamFacts::default(),
            session: SessionFacts::default(),
            before: None,
            file,
            rules,
            clock,
            known_session: None,
            sessions: 0,
            in_trouble_since: None,
            notices: 0,
            stop_at: None,
            stopped_for: None,
            ended_at: None,
            said_before_stop: None,
            look_again_after: LOOK_EVERY,
            halted: None,
            next_look: Duration::ZERO,
        }
    }

    /// Takes note of what the session file held before the run: for a run that goes on with a session.
    pub fn goes_on_with_session(&mut self) {
        self.read_session_file(SessionFile::read_rest);
        self.before = Some(self.session.clone());
        // They are those of former runs.
        self.session.commands.clear();
    }

    /// Draws the last conclusions.
    #[must_use]
    pub fn finish(mut self) -> Watched {
        self.read_session_file(SessionFile::read_rest);
        let ended_before_stop = self.said_before_stop.is_some();
        if let Some((finish, trouble)) = self.said_before_stop.take() {
            (self.seen.finish, self.seen.trouble) = (finish, trouble);
        }
        self.reader.finish(&mut self.seen);
        self.date_trouble();
        Watched {
            seen: self.seen,
            session: self.session,
            before: self.before,
            halted: self.halted,
            stopped_for: self.stopped_for,
            ended_before_stop,
        }
    }

    fn read_session_file(&mut self, read: ReadLines) {
        if let (false, Some(id)) = (self.file.is_found(), &self.known_session)
            && let Some(file) = (self.rules.find_file)(id)
        {
            self.file = file;
        }
        let (reader, session) = (&mut self.reader, &mut self.session);
        read(&mut self.file, &mut |line| reader.session_line(line, session));
    }

    /// Each name costs a line of the record: a stream that names one after the other is not followed.
    fn look_at_session_id(&mut self) {
        if self.seen.session_id == self.known_session || self.sessions >= SESSIONS {
            return;
        }
        self.sessions += 1;
        self.known_session.clone_from(&self.seen.session_id);
        if let Some(id) = self.known_session.as_deref().filter(|id| is_session_id(id)) {
            (self.rules.on_session)(id);
        }
    }

    /// Reads from the words of the trouble when it is over.
    fn date_trouble(&mut self) {
        let now = self.clock.now();
        let finish = match &mut self.seen.finish {
            Some(Finish::Failure(trouble)) => Some(trouble),
            _ => None,
        };
        for trouble in self.seen.trouble.iter_mut().chain(finish).chain(&mut self.stopped_for) {
            if trouble.reset_at.is_none() {
                trouble.reset_at = reset_time::reset_time(&trouble.message, now);
            }
        }
    }

    /// Each event after the end gives it time anew; another line does not.
    fn look_at_end(&mut self, now: Duration, is_event: bool) {
        if !self.reader.has_ended(&self.seen) {
            self.ended_at = None;
        } else if is_event || self.ended_at.is_none() {
            self.ended_at = Some(now);
        }
    }

    fn look_at_trouble(&mut self, now: Duration) {
        let Some(trouble) = &self.seen.trouble else {
            self.in_trouble_since = None;
            self.stop_at = None;
            return;
        };
        // Of a tool that gives up by itself more is to come.
        if !trouble.retrying || self.seen.retries == self.notices {
            return;
        }
        self.notices = self.seen.retries;
        let over = *self.in_trouble_since.get_or_insert(now) + self.rules.retry_budget;
        self.stop_at = if trouble.class.is_final_at_once() || now >= over {
            Some(now)
        } else {
            trouble.sleeps.then_some(over)
        };
        if self.stop_at.is_some() {
            self.stopped_for = Some(trouble.clone());
        }
    }
}

/// What can be the name of a session, and an argument of the tool.
#[must_use]
pub(crate) fn is_session_id(id: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    id.len() <= 200
        && id.bytes().all(is_plain)
        && id.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
}

impl Watch for AgentWatch<'_> {
    fn line<'a>(&mut self, stream: Stream, line: &'a str, now: Duration) -> Shown<'a> {
        let events = self.seen.events;
        let shown = self.reader.line(stream, line, &mut self.seen);
        self.look_at_end(now, self.seen.events > events);
        self.look_at_session_id();
        self.look_at_trouble(now);
        shown
    }

    fn tick(&mut self, now: Duration) {
        if now < self.next_look {
            return;
        }
        // A search that finds nothing is made less and less often.
        if !self.file.is_found() && self.known_session.is_some() {
            self.look_again_after = (self.look_again_after * 2).min(LOOK_AT_LEAST_EVERY);
        } else {
            self.look_again_after = LOOK_EVERY;
        }
        self.next_look = now + self.look_again_after;
        self.read_session_file(SessionFile::read_new);
        self.look_at_end(now, false);
        // What is over cannot be halted: its end says what it used.
        if self.ended_at.is_some() {
            return;
        }
        if let Some(check) = &mut self.rules.budget_check
            && self.halted.is_none()
        {
            let before = self.before.as_ref().map_or(SessionBefore::New, SessionBefore::Known);
            self.halted = check(&self.seen, &self.session, before);
        }
    }

    fn stop_at(&self) -> Option<Duration> {
        let leaves_at = self.ended_at.map(|ended| ended + self.rules.stay_after_end);
        if self.halted.is_some() {
            Some(Duration::ZERO)
        } else {
            self.stop_at.into_iter().chain(leaves_at).min()
        }
    }

    fn asked_to_end(&mut self) {
        if self.reader.has_ended(&self.seen) {
            self.said_before_stop = Some((self.seen.finish.clone(), self.seen.trouble.clone()));
        }
    }
}
