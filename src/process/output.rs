//! What becomes of the tool's output: redacted, then logged, handed on and excerpted, in the order it was read.
//!
//! With a `Watch` the log holds what that makes of each line, and the streams themselves are kept beside it.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};

use super::excerpt::{Excerpt, Keep};
use super::log::CappedLog;
use super::pass_through::PassThrough;
use super::redact::{Redactor, Secrets};
use super::signals::Signals;
use super::watch::{Lines, Shown, Watch};

/// Which of the tool's two streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the streams'")]
pub enum Stream {
    Stdout,
    Stderr,
}

/// The way of the tool's output.
#[derive(Debug)]
pub struct Output<'w> {
    log: Option<CappedLog>,
    log_error: Option<io::Error>,
    stdout: Channel,
    stderr: Channel,
    watched: Option<Watched<'w>>,
}

/// Who reads along, and where standard output is kept as it came.
struct Watched<'w> {
    watch: &'w mut dyn Watch,
    raw: CappedLog,
    stdout: Lines,
    stderr: Lines,
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
pub struct Onward {
    /// For standard output.
    pub stdout: Option<PassThrough>,
    /// For standard error.
    pub stderr: Option<PassThrough>,
}

impl Onward {
    /// Writes what still waits, until the reader has it, or is gone, or somebody interrupts the engine anew.
    pub fn flush(&mut self, signals: &Signals) {
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
    pub fn new(log: Option<CappedLog>, secrets: &Secrets, keep: Keep, onward: Onward) -> Self {
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
            watched: None,
        }
    }

    /// Lets somebody read along; `raw` takes standard output as it comes.
    #[must_use]
    pub fn watched_by(mut self, watch: &'w mut dyn Watch, raw: CappedLog) -> Self {
        self.watched = Some(Watched { watch, raw, stdout: Lines::default(), stderr: Lines::default() });
        self
    }

    /// The same without who read along.
    #[must_use]
    pub fn unwatched(self) -> Output<'static> {
        let Self { log, log_error, stdout, stderr, watched: _ } = self;
        Output { log, log_error, stdout, stderr, watched: None }
    }

    /// Takes what was read from a stream.
    pub fn push(&mut self, stream: Stream, bytes: &[u8], now: Duration) {
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
    pub fn finish(&mut self, now: Duration) {
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
    }

    /// Tells who reads along what time it is.
    pub fn tick(&mut self, now: Duration) {
        if let Some(watched) = &mut self.watched {
            watched.watch.tick(now);
        }
    }

    /// The monotonic time from which who reads along wants the tool ended.
    #[must_use]
    pub fn stop_at(&self) -> Option<Duration> {
        self.watched.as_ref()?.watch.stop_at()
    }

    /// How many lines were too long to be read.
    #[must_use]
    pub fn unread_lines(&self) -> u64 {
        self.watched.as_ref().map_or(0, |watched| watched.stdout.too_long() + watched.stderr.too_long())
    }

    /// True if standard output was kept as it came.
    #[must_use]
    pub fn has_raw(&self) -> bool {
        self.watched.as_ref().is_some_and(|watched| watched.raw.is_open())
    }

    /// True if a stream should rest because its reader is slow.
    #[must_use]
    pub fn is_full(&self, stream: Stream) -> bool {
        let channel = match stream {
            Stream::Stdout => &self.stdout,
            Stream::Stderr => &self.stderr,
        };
        channel.pass.as_ref().is_some_and(PassThrough::is_full)
    }

    /// The descriptors that have bytes waiting.
    pub fn waiting_on(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        [&self.stdout, &self.stderr].into_iter().filter_map(|c| c.pass.as_ref()?.waiting_on())
    }

    /// Writes what can be written without blocking.
    pub fn write_ready(&mut self) {
        for channel in [&mut self.stdout, &mut self.stderr] {
            if let Some(pass) = &mut channel.pass {
                pass.write_ready();
            }
        }
    }

    /// What was kept of standard output.
    #[must_use]
    pub fn stdout(&self) -> &Excerpt {
        &self.stdout.excerpt
    }

    /// What was kept of standard error.
    #[must_use]
    pub fn stderr(&self) -> &Excerpt {
        &self.stderr.excerpt
    }

    /// Why the log is not complete, if it is not.
    #[must_use]
    pub fn log_error(&self) -> Option<&io::Error> {
        self.log_error.as_ref()
    }

    /// True if there is a log file.
    #[must_use]
    pub fn has_log(&self) -> bool {
        self.log.as_ref().is_some_and(CappedLog::is_open)
    }

    /// Gives back where output is handed on to, for the next attempt.
    #[must_use]
    pub fn into_onward(self) -> Onward {
        Onward { stdout: self.stdout.pass, stderr: self.stderr.pass }
    }
}

/// What a stream gives who reads along.
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
            show(&self.watch.line(stream, line, now), line, to.as_deref_mut(), error);
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

fn show(shown: &Shown<'_>, line: &str, to: Option<&mut CappedLog>, error: &mut Option<io::Error>) {
    let text = match shown {
        Shown::Nothing => return,
        Shown::AsItIs => line,
        Shown::Text(text) => text,
    };
    log(to, format!("{text}\n").as_bytes(), error);
}

fn log(to: Option<&mut CappedLog>, bytes: &[u8], error: &mut Option<io::Error>) {
    if !bytes.is_empty()
        && let Some(log) = to
        && let Err(failure) = log.write(bytes)
    {
        *error = Some(failure);
    }
}
