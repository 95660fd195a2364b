//! What becomes of the tool's output: redacted, then logged, handed on and excerpted, in the order it was read.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::event::{PollFd, PollFlags};

use super::excerpt::{Excerpt, Keep};
use super::log::CappedLog;
use super::pass_through::PassThrough;
use super::redact::{Redactor, Secrets};
use super::signals::Signals;

/// Which of the tool's two streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the streams'")]
pub enum Stream {
    Stdout,
    Stderr,
}

/// The way of the tool's output.
#[derive(Debug)]
pub struct Output {
    log: Option<CappedLog>,
    log_error: Option<io::Error>,
    stdout: Channel,
    stderr: Channel,
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

impl Output {
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
        }
    }

    /// Takes what was read from a stream.
    pub fn push(&mut self, stream: Stream, bytes: &[u8]) {
        let channel = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        let shown = channel.redactor.push(bytes);
        deliver(&shown, &mut channel.excerpt, channel.pass.as_mut(), self.log.as_mut(), &mut self.log_error);
    }

    /// Lets go what was held back, at the end of both streams.
    pub fn finish(&mut self) {
        for channel in [&mut self.stdout, &mut self.stderr] {
            let shown = channel.redactor.finish();
            deliver(
                &shown,
                &mut channel.excerpt,
                channel.pass.as_mut(),
                self.log.as_mut(),
                &mut self.log_error,
            );
        }
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

fn deliver(
    shown: &[u8],
    excerpt: &mut Excerpt,
    pass: Option<&mut PassThrough>,
    log: Option<&mut CappedLog>,
    log_error: &mut Option<io::Error>,
) {
    if shown.is_empty() {
        return;
    }
    excerpt.push(shown);
    if let Some(pass) = pass {
        pass.push(shown);
    }
    if let Some(log) = log
        && let Err(error) = log.write(shown)
    {
        *log_error = Some(error);
    }
}
