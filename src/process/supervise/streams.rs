//! Waiting for the tool: its streams, our signals, and the time.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};

use super::{Phase, Run};
use crate::clock::{self, timespec};
use crate::process::output::Output;
use crate::process::stream::Stream;

/// Size of the read buffer of a tool that prints much.
const FULL_BUFFER: usize = 64 << 10;
/// Bytes read from a stream before the loop looks at everything else again.
const READ_AT_ONCE: usize = 1 << 20;
/// A loop that wakes so much later than it asked for was stopped, or its machine was: that time was not silence of the tool.
const STOOD_STILL: Duration = Duration::from_secs(1);

impl Run<'_> {
    /// Sleeps until something happens, and moves what there is to move.
    pub(super) fn wait(&mut self, output: &mut Output<'_>) {
        let now = self.clock.monotonic();
        let timeout = self.next_deadline(now, output.stop_at());
        let due = timeout.map(|timeout| now + timeout);
        let (signal, readable, writable) = {
            let mut fds = vec![PollFd::new(self.signals, PollFlags::IN)];
            let streams = [(Stream::Stdout, &self.stdout), (Stream::Stderr, &self.stderr)];
            let mut watched = Vec::new();
            for (stream, fd) in streams {
                if let Some(fd) = fd.as_ref().filter(|_| !output.is_full(stream)) {
                    fds.push(PollFd::new(fd, PollFlags::IN));
                    watched.push(stream);
                }
            }
            let others: Vec<BorrowedFd<'_>> =
                output.waiting_on().chain(self.stdin.as_ref().map(|s| s.0.as_fd())).collect();
            fds.extend(others.iter().map(|fd| PollFd::new(fd, PollFlags::OUT)));
            match rustix::event::poll(&mut fds, timeout.map(timespec).as_ref()) {
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) if !self.is_late(due) => return,
                Err(rustix::io::Errno::INTR) => fds.iter_mut().for_each(PollFd::clear_revents),
                // A hostile tool took our descriptors away by a limit: go on without spinning.
                Err(_) => return clock::sleep(Duration::from_millis(1)),
            }
            let ready = |index: usize| fds.get(index).is_some_and(|fd| !fd.revents().is_empty());
            let readable: Vec<Stream> =
                watched.iter().enumerate().filter(|(i, _)| ready(i + 1)).map(|(_, s)| *s).collect();
            (ready(0), readable, (watched.len() + 1..fds.len()).any(ready))
        };
        if signal {
            self.signals.drain();
        }
        let late = self.is_late(due);
        if self.phase == Phase::Running {
            let now = self.clock.monotonic();
            if late {
                self.last_output = now;
            }
            self.hook.look(signal || late, now);
            output.tick(now);
        }
        for stream in readable {
            self.read(stream, READ_AT_ONCE, output);
        }
        if writable {
            output.write_ready();
            self.feed();
        }
    }

    /// True if this process wakes so late that it, or its machine, was stopped meanwhile.
    fn is_late(&self, due: Option<Duration>) -> bool {
        due.is_some_and(|due| self.clock.monotonic() >= due + STOOD_STILL)
    }

    /// Moves what a stream holds, and gives how much that was.
    fn read(&mut self, stream: Stream, at_most: usize, output: &mut Output<'_>) -> usize {
        let slot = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        let mut total = 0;
        while let Some(fd) = slot.as_ref() {
            match rustix::io::read(fd, self.buffer.as_mut_slice()) {
                Ok(0) => self.ended_streams.extend(slot.take()),
                Ok(count) => {
                    self.last_output = self.clock.monotonic();
                    output.push(stream, self.buffer.get(..count).unwrap_or_default(), self.last_output);
                    total += count;
                    if total >= at_most || count < self.buffer.len() || output.is_full(stream) {
                        break;
                    }
                    self.buffer.resize(FULL_BUFFER, 0);
                }
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => break,
                // EIO is how a terminal says that no process has it open any more.
                Err(_) => self.ended_streams.extend(slot.take()),
            }
        }
        total
    }

    /// Writes standard input as far as the tool reads it.
    fn feed(&mut self) {
        let Some((fd, bytes)) = &mut self.stdin else { return };
        match rustix::io::write(&*fd, bytes) {
            Ok(written) => drop(bytes.drain(..written)),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return,
            // The tool does not want the rest.
            Err(_) => bytes.clear(),
        }
        if bytes.is_empty() {
            self.stdin = None;
        }
    }

    /// Takes what the pipes still hold, a megabyte each at most; it waits neither for other holders nor for our own reader:
    /// what it has not taken stays with the output.
    pub(super) fn read_the_rest(&mut self, output: &mut Output<'_>) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let mut total = 0;
            // A terminal gives what it holds in pieces: only a `read` that gets nothing says that it is empty.
            while total < READ_AT_ONCE {
                match self.read(stream, READ_AT_ONCE, output) {
                    0 => break,
                    count => total += count,
                }
            }
        }
    }
}
