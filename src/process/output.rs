//! What becomes of the tool's output: redacted, then logged, handed on and excerpted, in the order it was read.
//!
//! With a `Watch` the log holds what that makes of each line, and the streams themselves are kept beside it. A reader
//! decodes and joins, so its text may hold a secret or an escape sequence that no line held. Hard rule: its text reaches the
//! log only through a redaction of its own, and without control characters.

use std::borrow::Cow;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};

use super::excerpt::{Excerpt, Keep};
use super::log::CappedLog;
use super::pass_through::PassThrough;
use super::redact::{Redactor, Secrets};
use super::signals::Signals;
use super::stream::Stream;
use super::watch::{Lines, Shown, Watch};

/// The way of the tool's output.
#[derive(Debug)]
pub(crate) struct Output<'w> {
    log: Option<CappedLog>,
    log_error: Option<io::Error>,
    stdout: Channel,
    stderr: Channel,
    secrets: Secrets,
    watched: Option<Watched<'w>>,
}

/// The watcher of the output, and the file that keeps standard output as it came.
struct Watched<'w> {
    watch: &'w mut dyn Watch,
    raw: CappedLog,
    stdout: Lines,
    stderr: Lines,
    /// For what the log shows, of both streams.
    shown: Redactor,
}

impl std::fmt::Debug for Watched<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watched").finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Channel {
    redactor: Redactor,
    excerpt: Excerpt,
    pass: Option<PassThrough>,
}

/// Where output is handed on to.
#[derive(Debug, Default)]
pub(crate) struct Onward {
    /// For standard output.
    pub stdout: Option<PassThrough>,
    /// For standard error.
    pub stderr: Option<PassThrough>,
}

impl Onward {
    /// Why output was lost, if it was, and not because its reader is gone.
    #[must_use]
    pub(crate) fn failure(&self) -> Option<io::Error> {
        [&self.stdout, &self.stderr].into_iter().flatten().find_map(PassThrough::failure)
    }

    /// Writes what still waits, until the reader has it, or is gone, or the engine is interrupted anew.
    pub(crate) fn flush(&mut self, signals: &Signals) {
        let before = signals.asked();
        while signals.asked() == before {
            let waiting: Vec<BorrowedFd<'_>> = [&self.stdout, &self.stderr]
                .into_iter()
                .filter_map(|pass| pass.as_ref()?.waiting_on())
                .collect();
            if waiting.is_empty() {
                return;
            }
            let mut fds = vec![PollFd::new(signals, PollFlags::IN)];
            fds.extend(waiting.iter().map(|fd| PollFd::new(fd, PollFlags::OUT)));
            let _ = rustix::event::poll(&mut fds, None);
            signals.drain();
            for pass in [&mut self.stdout, &mut self.stderr].into_iter().flatten() {
                pass.write_ready();
            }
        }
    }
}

impl<'w> Output<'w> {
    /// Prepares the way.
    #[must_use]
    pub(crate) fn new(log: Option<CappedLog>, secrets: &Secrets, keep: Keep, onward: Onward) -> Self {
        let channel = |keep, pass| Channel {
            redactor: Redactor::new(secrets.clone()),
            excerpt: Excerpt::new(keep),
            pass,
        };
        Self {
            log,
            log_error: None,
            stdout: channel(keep, onward.stdout),
            stderr: channel(Keep::PREVIEW, onward.stderr),
            secrets: secrets.clone(),
            watched: None,
        }
    }

    /// Lets a reader follow; `raw` takes standard output as it comes.
    #[must_use]
    pub(crate) fn watched_by(mut self, watch: &'w mut dyn Watch, raw: CappedLog) -> Self {
        let (stdout, stderr) = (Lines::default(), Lines::default());
        let shown = Redactor::new(self.secrets.clone());
        self.watched = Some(Watched { watch, raw, stdout, stderr, shown });
        self
    }

    /// The same without its watcher.
    #[must_use]
    pub(crate) fn unwatched(self) -> Output<'static> {
        let Self { log, log_error, stdout, stderr, secrets, watched: _ } = self;
        Output { log, log_error, stdout, stderr, secrets, watched: None }
    }

    /// Takes what was read from a stream.
    pub(crate) fn push(&mut self, stream: Stream, bytes: &[u8], now: Duration) {
        let channel = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        let shown = channel.redactor.push(bytes);
        if shown.is_empty() {
            return;
        }
        channel.excerpt.push(&shown);
        if let Some(pass) = &mut channel.pass {
            pass.push(&shown);
        }
        match &mut self.watched {
            None => log(self.log.as_mut(), &shown, &mut self.log_error),
            Some(watched) => {
                let given = (stream, Given::Bytes(&shown));
                watched.take(given, now, self.log.as_mut(), &mut self.log_error);
            }
        }
    }

    /// Lets go what was held back, at the end of both streams.
    pub(crate) fn finish(&mut self, now: Duration) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let channel = match stream {
                Stream::Stdout => &mut self.stdout,
                Stream::Stderr => &mut self.stderr,
            };
            let shown = channel.redactor.finish();
            channel.excerpt.push(&shown);
            if let Some(pass) = &mut channel.pass {
                pass.push(&shown);
            }
            match &mut self.watched {
                None => log(self.log.as_mut(), &shown, &mut self.log_error),
                Some(watched) => {
                    for given in [Given::Bytes(&shown), Given::End] {
                        watched.take((stream, given), now, self.log.as_mut(), &mut self.log_error);
                    }
                }
            }
        }
        if let Some(watched) = &mut self.watched {
            log(self.log.as_mut(), &watched.shown.finish(), &mut self.log_error);
        }
    }

    /// Passes the time to the watcher.
    pub(crate) fn tick(&mut self, now: Duration) {
        if let Some(watched) = &mut self.watched {
            watched.watch.tick(now);
        }
    }

    /// The monotonic time from which the watcher wants the tool ended.
    #[must_use]
    pub(crate) fn stop_at(&self) -> Option<Duration> {
        self.watched.as_ref()?.watch.stop_at()
    }

    /// Informs the watcher that the tool is asked to end.
    pub(crate) fn asked_to_end(&mut self) {
        if let Some(watched) = &mut self.watched {
            watched.watch.asked_to_end();
        }
    }

    /// How many lines were too long to be read.
    #[must_use]
    pub(crate) fn unread_lines(&self) -> u64 {
        self.watched.as_ref().map_or(0, |watched| watched.stdout.too_long() + watched.stderr.too_long())
    }

    /// True if standard output was kept as it came.
    #[must_use]
    pub(crate) fn has_raw(&self) -> bool {
        self.watched.as_ref().is_some_and(|watched| watched.raw.is_open())
    }

    /// True if a stream should rest because its reader is slow.
    #[must_use]
    pub(crate) fn is_full(&self, stream: Stream) -> bool {
        let channel = match stream {
            Stream::Stdout => &self.stdout,
            Stream::Stderr => &self.stderr,
        };
        channel.pass.as_ref().is_some_and(PassThrough::is_full)
    }

    /// The descriptors that have bytes waiting.
    pub(crate) fn waiting_on(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        [&self.stdout, &self.stderr].into_iter().filter_map(|c| c.pass.as_ref()?.waiting_on())
    }

    /// Writes what can be written without blocking.
    pub(crate) fn write_ready(&mut self) {
        for channel in [&mut self.stdout, &mut self.stderr] {
            if let Some(pass) = &mut channel.pass {
                pass.write_ready();
            }
        }
    }

    /// What was kept of standard output.
    #[must_use]
    pub(crate) fn stdout(&self) -> &Excerpt {
        &self.stdout.excerpt
    }

    /// What was kept of standard error.
    #[must_use]
    pub(crate) fn stderr(&self) -> &Excerpt {
        &self.stderr.excerpt
    }

    /// Why the log is not complete, if it is not.
    #[must_use]
    pub(crate) fn log_error(&self) -> Option<&io::Error> {
        self.log_error.as_ref()
    }

    /// True if there is a log file.
    #[must_use]
    pub(crate) fn has_log(&self) -> bool {
        self.log.as_ref().is_some_and(CappedLog::is_open)
    }

    /// Gives back where output is handed on to, for the next attempt.
    #[must_use]
    pub(crate) fn into_onward(self) -> Onward {
        Onward { stdout: self.stdout.pass, stderr: self.stderr.pass }
    }
}

/// What a stream passes to the watcher.
#[derive(Clone, Copy)]
enum Given<'b> {
    Bytes(&'b [u8]),
    End,
}

impl Watched<'_> {
    fn take(
        &mut self,
        (stream, given): (Stream, Given<'_>),
        now: Duration,
        mut to: Option<&mut CappedLog>,
        error: &mut Option<io::Error>,
    ) {
        let lines = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        let mut take = |line: &str| {
            if let Some(text) = text_of(self.watch.line(stream, line, now), line) {
                log(to.as_deref_mut(), &self.shown.push(text.as_bytes()), error);
            }
        };
        match given {
            Given::Bytes(bytes) => lines.push(bytes, &mut take),
            Given::End => lines.finish(&mut take),
        }
        if let (Stream::Stdout, Given::Bytes(bytes)) = (stream, given) {
            log(Some(&mut self.raw), bytes, error);
        }
    }
}

/// What the log shows of a line, with the end of the line.
fn text_of(shown: Shown<'_>, line: &str) -> Option<String> {
    let text = match shown {
        Shown::Nothing => return None,
        Shown::AsItIs => Cow::Borrowed(line),
        Shown::Text(text) => text,
    };
    let mut plain = String::with_capacity(text.len() + 1);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\r' if chars.peek() == Some(&'\n') => {}
            c if moves_the_cursor(c) => plain.push(char::REPLACEMENT_CHARACTER),
            c => plain.push(c),
        }
    }
    plain.push('\n');
    Some(plain)
}

/// Control characters, and those that turn the direction of the text around: a reader of the log in a terminal would not see
/// what it holds.
#[must_use]
pub fn moves_the_cursor(c: char) -> bool {
    let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    turns || (c.is_control() && c != '\n' && c != '\t')
}

fn log(to: Option<&mut CappedLog>, bytes: &[u8], error: &mut Option<io::Error>) {
    if !bytes.is_empty()
        && let Some(log) = to
        && let Err(failure) = log.write(bytes)
    {
        *error = Some(failure);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek};

    use super::*;

    /// Decodes each line as JSON and shows the text; `-` is shown with the next one, `=` as it is.
    #[derive(Default)]
    struct Joins {
        open: String,
    }

    impl Watch for Joins {
        fn line<'a>(&mut self, _: Stream, line: &'a str, _: Duration) -> Shown<'a> {
            if line.starts_with('=') {
                return Shown::AsItIs;
            }
            let Some(text) = line.strip_prefix('-') else {
                let text: String = serde_json::from_str(line).unwrap();
                return Shown::Text(format!("{}{text}", std::mem::take(&mut self.open)).into());
            };
            self.open.push_str(text);
            Shown::Nothing
        }

        fn tick(&mut self, _: Duration) {}

        fn stop_at(&self) -> Option<Duration> {
            None
        }

        fn asked_to_end(&mut self) {}
    }

    fn logged(secrets: &[&str], lines: &[(Stream, &str)]) -> String {
        let mut file = tempfile::tempfile().unwrap();
        let locked = |file| crate::lock::Locked::exclusive(file, "log".as_ref()).unwrap().unwrap();
        let log = CappedLog::new(locked(file.try_clone().unwrap()), 1 << 20).unwrap();
        let raw = CappedLog::new(locked(tempfile::tempfile().unwrap()), 1 << 20).unwrap();
        let secrets = Secrets::new(secrets.iter().map(|secret| secret.as_bytes().to_vec()));
        let mut watch = Joins::default();
        let output = Output::new(Some(log), &secrets, Keep::PREVIEW, Onward::default());
        let mut output = output.watched_by(&mut watch, raw);
        for (stream, line) in lines {
            output.push(*stream, format!("{line}\n").as_bytes(), Duration::ZERO);
        }
        output.finish(Duration::ZERO);
        assert!(output.log_error().is_none());
        let mut text = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn a_secret_that_a_reader_puts_together_from_two_lines_is_not_in_the_log() {
        let lines = [(Stream::Stdout, "-sk-abc"), (Stream::Stdout, r#""def-9 and more""#)];
        assert_eq!(logged(&["sk-abcdef-9"], &lines), "[redacted] and more\n");
    }

    #[test]
    fn a_secret_that_a_reader_decodes_is_not_in_the_log() {
        let lines = [(Stream::Stdout, r#""x sk-\u0061\u0062cdef-9""#)];
        assert_eq!(logged(&["sk-abcdef-9"], &lines), "x [redacted]\n");
    }

    #[test]
    fn a_secret_of_two_lines_that_are_shown_one_by_one_is_not_in_the_log() {
        let lines = [(Stream::Stdout, r#""a one\u0020two""#), (Stream::Stderr, r#""three f\u006fur b""#)];
        assert_eq!(logged(&["one two\nthree four"], &lines), "a [redacted] b\n");
        let lines = [(Stream::Stdout, r#""a one\u0020two""#), (Stream::Stderr, r#""three""#)];
        assert_eq!(logged(&["one two\nthree four"], &lines), "a one two\nthree\n", "held back, then let go");
    }

    #[test]
    fn no_control_character_of_a_tool_reaches_the_log() {
        let lines = [
            (Stream::Stdout, r#""copy \u001b]52;c;eA==\u0007 ok\tx\r\ny""#),
            (Stream::Stdout, r#""good\rforged \u009b2J \u202e""#),
            (Stream::Stderr, "=\u{1b}[2Jraw\rforged"),
        ];
        let want = "copy \u{fffd}]52;c;eA==\u{fffd} ok\tx\ny\ngood\u{fffd}forged \u{fffd}2J \u{fffd}\n\
                    =\u{fffd}[2Jraw\u{fffd}forged\n";
        assert_eq!(logged(&[], &lines), want);
    }
}
