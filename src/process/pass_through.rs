//! Hands the tool's output on to our own standard output and error, without ever blocking the supervision.
//!
//! A reader that is slow (`| less`) slows the tool down, as in a pipeline; one that is gone is forgotten.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::FileType;

/// Above this many waiting bytes the tool's stream is not read.
const FULL: usize = 64 << 10;

/// One stream to the outside.
#[derive(Debug)]
pub(crate) struct PassThrough {
    fd: OwnedFd,
    waiting: Vec<u8>,
    /// A pipe takes this much without blocking once it is ready; a file takes anything.
    piece: usize,
    gone: bool,
    /// Why it was not written, where that is more than a reader that is gone.
    failure: Option<rustix::io::Errno>,
}

impl PassThrough {
    /// Hands on to a descriptor.
    #[must_use]
    pub(crate) fn new(fd: OwnedFd) -> Self {
        let is_file = rustix::fs::fstat(&fd)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile);
        Self {
            fd,
            waiting: Vec::new(),
            piece: if is_file { 1 << 20 } else { 4096 },
            gone: false,
            failure: None,
        }
    }

    /// Takes bytes and writes what can be written at once.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if !self.gone {
            self.waiting.extend_from_slice(bytes);
            self.write_ready();
        }
    }

    /// Why bytes were lost, if they were, and not because their reader is gone.
    #[must_use]
    pub(crate) fn failure(&self) -> Option<std::io::Error> {
        self.failure.map(Into::into)
    }

    /// True if so much waits that the tool's stream should rest.
    #[must_use]
    pub(crate) fn is_full(&self) -> bool {
        self.waiting.len() >= FULL
    }

    /// The descriptor to wait for, if anything waits to be written.
    #[must_use]
    pub(crate) fn waiting_on(&self) -> Option<BorrowedFd<'_>> {
        if self.waiting.is_empty() { None } else { Some(self.fd.as_fd()) }
    }

    /// Writes as much as can be written without blocking.
    pub(crate) fn write_ready(&mut self) {
        let mut done = 0;
        while done < self.waiting.len() && self.is_writable() {
            let end = (done + self.piece).min(self.waiting.len());
            match rustix::io::write(&self.fd, self.waiting.get(done..end).unwrap_or_default()) {
                Ok(written) => done += written,
                Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => break,
                Err(error) => {
                    // No one reads any more, or nothing more can be written; the job goes on. A terminal that is hung up
                    // answers EIO.
                    let is_hang_up = error == rustix::io::Errno::IO && self.piece < 1 << 20;
                    self.failure =
                        Some(error).filter(|error| *error != rustix::io::Errno::PIPE && !is_hang_up);
                    self.gone = true;
                    done = self.waiting.len();
                }
            }
        }
        self.waiting.drain(..done);
    }

    fn is_writable(&self) -> bool {
        let mut fds = [PollFd::new(&self.fd, PollFlags::OUT)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        matches!(rustix::event::poll(&mut fds, Some(&now)), Ok(n) if n > 0)
    }
}
