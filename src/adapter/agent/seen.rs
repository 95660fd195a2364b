//! The reader of an agent's lines, and the facts that it collects.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::phrases;
use crate::clock::Timestamp;
use crate::cost::usage::{ModelUsage, Tokens};
use crate::job::class::Class;
use crate::process::Stream;
use crate::process::watch::Shown;

/// How many commands, failed edits and denied actions of one run are kept.
pub(super) const KEPT: usize = 200;
/// More warnings are not kept.
pub(super) const MOST_WARNINGS: usize = 20;
/// Longest text of an answer that is kept, in bytes.
pub(super) const LONGEST_ANSWER: usize = 8 << 10;

/// Reads the lines of one family of agents.
pub trait ReadAgent {
    /// Takes a line of the tool's streams, and gives what the log shows of it.
    fn line<'a>(&mut self, stream: Stream, line: &'a str, seen: &mut StreamFacts) -> Shown<'a>;

    /// Takes a line of the tool's own file of the session, and notes its facts.
    fn session_line(&mut self, line: &str, session: &mut SessionFacts);

    /// True if the tool has declared its end and has not gone on since.
    fn has_ended(&self, seen: &StreamFacts) -> bool {
        seen.finish.is_some()
    }

    /// Draws the last conclusions, when nothing more comes.
    fn finish(&mut self, seen: &mut StreamFacts);
}

/// The facts that the stream of a run gives.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StreamFacts {
    /// The tool's own name of the session.
    pub session_id: Option<String>,
    /// The model that is asked.
    pub model: Option<String>,
    /// The last message of the model.
    pub answer: Option<String>,
    /// True once the model said anything at all.
    pub answered: bool,
    /// The last trouble, while it lasts.
    pub trouble: Option<Trouble>,
    /// How the tool says that it ended.
    pub finish: Option<Finish>,
    /// How often it tried again.
    pub retries: u32,
    /// How often it tried again since the model last answered.
    pub retries_in_a_row: u32,
    /// What it used, by its stream.
    pub usage: StreamUsage,
    /// How often the model was asked, by its stream.
    pub turns: Option<u64>,
    /// The commands that it ran.
    pub commands: Vec<Command>,
    /// Edits that did not apply.
    pub failed_edits: Vec<String>,
    /// Actions that were not allowed.
    pub denied: Vec<String>,
    /// Events that were read.
    pub events: u64,
    /// Lines that should be events and are none.
    pub unreadable: u64,
    /// Warnings of lines that were read only in part.
    pub warnings: Vec<String>,
    /// The tool's numbers are known to be wrong: none is taken.
    pub usage_is_wrong: bool,
    /// The tool has no event of its end: an exit code other than 0 contradicts a success.
    pub exit_code_counts: bool,
    /// The exit code by which the tool says that its service is busy.
    pub busy_exit_code: Option<i32>,
}

/// The usage that a stream reports.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum StreamUsage {
    /// Nothing.
    #[default]
    Untold,
    /// What this run used, by model.
    OfThisRun(Vec<ModelUsage>),
    /// What the whole session used so far, the runs before this one included.
    OfTheSession(Tokens),
}

/// Something that keeps an agent from its work.
#[derive(Debug, Clone, PartialEq)]
pub struct Trouble {
    /// Its class.
    pub class: Class,
    /// The tool's words.
    pub message: String,
    /// When it is over, if that is said as a time.
    pub reset_at: Option<Timestamp>,
    /// True if the tool tries again by itself.
    pub retrying: bool,
    /// True if it may sleep for long before it does, and say nothing.
    pub sleeps: bool,
}

/// How a tool says that it ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Finish {
    /// Well.
    Success,
    /// Badly.
    Failure(Trouble),
}

/// A command that an agent ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Command {
    /// Its text.
    pub command: String,
    /// Its exit code, if the stream gives one.
    pub exit_code: Option<i32>,
    /// `stream`, or `session_file` where the stream hides it.
    pub source: &'static str,
    /// The tool's own name of the call, by which its end is found.
    #[serde(skip)]
    pub call: String,
}

/// What was read of the tool's own file of the session.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SessionFacts {
    /// Tokens by model; of tools whose figures grow over the session, the last figure.
    pub tokens: BTreeMap<Option<String>, Tokens>,
    /// Costs by model, where the file has them.
    pub costs: BTreeMap<Option<String>, f64>,
    /// How often the model answered.
    pub turns: u64,
    /// The model that was named last.
    pub model: Option<String>,
    /// The commands.
    pub commands: Vec<Command>,
}

/// The tokens of a message, and the model that it is of.
pub(super) type Message = (Option<String>, Tokens);

impl SessionFacts {
    /// Counts a message, in the place of what was known of it before.
    pub(super) fn replaces(&mut self, before: Option<Message>, (model, tokens): Message) {
        if let Some((model, tokens)) = before {
            let sum = self.tokens.entry(model).or_default();
            *sum = sum.since(tokens);
        }
        let sum = self.tokens.entry(model).or_default();
        *sum = sum.plus(tokens);
    }
}

impl StreamFacts {
    /// Takes note of a message of the model.
    pub fn says(&mut self, text: &str) {
        self.answered = true;
        self.answer = Some(crate::job::result::shorten(text, LONGEST_ANSWER));
    }

    /// The model answers: what was in its way is over, and an end that was declared was none.
    pub fn goes_on(&mut self) {
        self.trouble = None;
        self.finish = None;
        self.retries_in_a_row = 0;
    }

    /// A line that is not an event: of a tool that prints no events at all, it is a sign that it goes on.
    pub fn reads_no_event(&mut self, line: &str) {
        self.unreadable += u64::from(!line.trim().is_empty());
        if self.events == 0 {
            self.goes_on();
        }
    }

    /// Takes note of trouble; the known trouble is kept if the new words say less.
    pub fn is_in_trouble(&mut self, status: Option<u16>, message: &str, retrying: bool) {
        let class = phrases::class_of(status, message);
        let class = class.or(self.trouble.as_ref().map(|trouble| trouble.class));
        self.is_in_trouble_of(class.unwrap_or(Class::Failed), message, retrying);
    }

    /// As `is_in_trouble`, of a class that is known.
    pub fn is_in_trouble_of(&mut self, class: Class, message: &str, retrying: bool) {
        let message = crate::job::result::shorten(message, 2000);
        let reset_at = self.trouble.as_ref().and_then(|trouble| trouble.reset_at);
        self.retries += u32::from(retrying);
        self.retries_in_a_row += u32::from(retrying);
        self.trouble = Some(Trouble { class, message, reset_at, retrying, sleeps: false });
    }

    /// Takes note that the tool ended badly, for trouble of this class.
    pub fn fails(&mut self, class: Class, message: &str) {
        self.is_in_trouble_of(class, message, false);
        self.finish = self.trouble.clone().map(Finish::Failure);
    }

    /// Takes note of the end of a command, or of a whole one.
    pub fn ran(&mut self, command: Command) {
        push_command(&mut self.commands, command);
    }

    /// Takes note of the exit code of a command.
    pub fn command_ended(&mut self, call: &str, exit_code: i32) {
        if let Some(command) = self.commands.iter_mut().rev().find(|command| command.call == call) {
            command.exit_code = Some(exit_code);
        }
    }

    /// Takes note of an edit that did not apply.
    pub fn edit_failed(&mut self, what: &str) {
        push_text(&mut self.failed_edits, what);
    }

    /// Takes note of something to be said, once.
    pub fn warn(&mut self, warning: String) {
        if self.warnings.len() < MOST_WARNINGS && !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// Takes note of an action that was not allowed.
    pub fn was_denied(&mut self, what: &str) {
        push_text(&mut self.denied, what);
    }
}

pub(super) fn push_text(list: &mut Vec<String>, text: &str) {
    if list.len() < KEPT {
        list.push(text.chars().take(300).collect());
    }
}

/// An amount of money that a tool reports, if it is one.
pub(super) fn usd(value: Option<&Value>) -> Option<f64> {
    value.and_then(Value::as_f64).filter(|usd| usd.is_finite() && *usd >= 0.0)
}

/// Adds a command, or completes the one of the same call.
pub(super) fn push_command(commands: &mut Vec<Command>, mut command: Command) {
    command.command = crate::job::result::shorten(&command.command, 400);
    let room = commands.len() < KEPT;
    match commands.iter_mut().find(|known| !command.call.is_empty() && known.call == command.call) {
        Some(known) => known.exit_code = command.exit_code.or(known.exit_code),
        None if room => commands.push(command),
        None => {}
    }
}
