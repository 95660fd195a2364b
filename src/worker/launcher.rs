//! The launcher: a small process that has read everything a runner needs, and forks itself for each job.
//!
//! A forked runner does not load the program, open the root and inspect the machine again for every job, which is half the
//! cost of a short job; and the fork does not copy the worker, which may know a hundred thousand jobs. The launcher outlives
//! a worker that is killed: it waits for its runners, then ends. A worker that ends by itself waits for that. A process of the
//! same kind recovers what a dead runner left and reports what it did. Hard rule: each job has a process of its own.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::pipe::PipeFlags;

use super::Runner;
use crate::clock::{Clock, SystemClock, timespec};
use crate::job::JobId;
use crate::process::detached::{self, ChildEnds, Forked, Request};

/// What a runner does with the id of its job; gives its exit status, and what is to be said if the job was not run, as
/// `RecoverJob` does.
pub(crate) type RunJob<'a> = dyn Fn(&JobId) -> (u8, Option<String>) + 'a;

/// Recovers a job; gives what is to be said of it, one line of at most `LONGEST` bytes.
pub(crate) type RecoverJob<'a> = dyn Fn(&JobId) -> String + 'a;

/// The duties of the processes of a launcher.
#[derive(Clone, Copy)]
pub(crate) struct Duties<'a> {
    /// In a runner.
    pub run: &'a RunJob<'a>,
    /// In a process that recovers a job.
    pub recover: &'a RecoverJob<'a>,
}

impl std::fmt::Debug for Duties<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Duties").finish_non_exhaustive()
    }
}

/// The pipe writes so many bytes at once, even with other writers.
pub(crate) const LONGEST: usize = 4000;

/// The worker's end of a launcher.
#[derive(Debug)]
pub(crate) struct Launcher {
    pid: i32,
    /// None once it is to end.
    commands: Option<File>,
    replies: OwnedFd,
    /// The beginning of a reply whose end was not yet read.
    partial: Vec<u8>,
}

/// The replies of a launcher.
#[derive(Debug, Default)]
pub(crate) struct Replies {
    /// The processes that have ended, each with its number.
    pub ended: Vec<(i32, Runner)>,
    /// Reports of processes about themselves, before they ended.
    pub said: Vec<(i32, String)>,
    /// True if the launcher itself is gone.
    pub gone: bool,
}

impl Launcher {
    /// Starts a launcher. Each duty is done in a process of its own.
    ///
    /// # Errors
    /// The system's.
    pub(crate) fn start(duties: Duties<'_>) -> io::Result<Self> {
        let (their_commands, commands) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        let (replies, their_replies) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        match detached::fork()? {
            Forked::Child => {
                drop((commands, replies));
                detached::exit(serve(File::from(their_commands), File::from(their_replies), duties))
            }
            Forked::Parent(pid) => {
                rustix::io::ioctl_fionbio(&replies, true)?;
                Ok(Self { pid, commands: Some(File::from(commands)), replies, partial: Vec::new() })
            }
        }
    }

    /// Has a runner started, under a number of the caller's choice.
    ///
    /// # Errors
    /// The launcher is gone.
    pub(crate) fn run(&mut self, number: i32, id: &JobId) -> io::Result<()> {
        self.tell(&format!("run {number} {id}\n"))
    }

    /// Has a job recovered, under a number of the caller's choice.
    ///
    /// # Errors
    /// The launcher is gone.
    pub(crate) fn recover(&mut self, number: i32, id: &JobId) -> io::Result<()> {
        self.tell(&format!("recover {number} {id}\n"))
    }

    /// Has a runner asked to end its job; the second time to kill it.
    ///
    /// # Errors
    /// The launcher is gone.
    pub(crate) fn stop(&mut self, number: i32) -> io::Result<()> {
        self.tell(&format!("stop {number}\n"))
    }

    fn tell(&mut self, command: &str) -> io::Result<()> {
        let commands = self.commands.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        commands.write_all(command.as_bytes())
    }

    /// Takes what the launcher has said, without waiting.
    pub(crate) fn replies(&mut self) -> Replies {
        let mut said = Replies::default();
        let mut buffer = [0; 4096];
        loop {
            match rustix::io::read(&self.replies, &mut buffer) {
                Ok(0) => {
                    said.gone = true;
                    break;
                }
                Ok(count) => self.partial.extend_from_slice(buffer.get(..count).unwrap_or_default()),
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => break,
            }
        }
        while let Some(end) = self.partial.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.partial.drain(..=end).collect();
            said.add(&String::from_utf8_lossy(&line));
        }
        said
    }
}

impl Replies {
    fn add(&mut self, line: &str) {
        let mut words = line.trim_end().splitn(3, ' ');
        let (Some(verb), Some(number)) = (words.next(), words.next().and_then(|word| word.parse().ok()))
        else {
            return;
        };
        let rest = words.next();
        if verb == "said" {
            self.said.extend(rest.map(|text| (number, text.to_owned())));
        } else {
            let mut rest = rest.unwrap_or_default().split(' ');
            let pid = rest.next().and_then(|pid| pid.parse().ok());
            let status = rest.next().and_then(|status| status.parse().ok());
            self.ended.push((number, Runner { pid, status }));
        }
    }
}

/// A launcher ends with its last runner, and that has reported its end before; only one that was stopped hard may still run.
const LONGEST_END: Duration = Duration::from_secs(2);

impl Drop for Launcher {
    /// Has it end, and waits for that, so that nothing of a worker is alive after it.
    fn drop(&mut self) {
        self.commands = None;
        let clock = SystemClock::start();
        loop {
            let left = LONGEST_END.saturating_sub(clock.monotonic());
            if self.replies().gone {
                // The end of its replies is a part of its own.
                return detached::reap(self.pid);
            }
            if left.is_zero() {
                return;
            }
            let mut fds = [PollFd::new(&self.replies, PollFlags::IN)];
            let _ = rustix::event::poll(&mut fds, Some(&timespec(left)));
        }
    }
}

impl AsFd for Launcher {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.replies.as_fd()
    }
}

/// The launcher's life: commands until its worker closes them, then the rest of its runners.
fn serve(mut commands: File, mut replies: File, duties: Duties<'_>) -> u8 {
    // The terminal's signals are the worker's, and a shutdown's are heeded by worker and runners: this one ends after them.
    let Ok(children) = detached::without_input_and_output().and_then(|()| ChildEnds::watch()) else {
        return 1;
    };
    let Ok(reports) = Reports::open() else { return 1 };
    let mut running: HashMap<i32, Child> = HashMap::new();
    let mut text = Vec::new();
    let mut open = true;
    while open || !running.is_empty() {
        let mut fds = vec![PollFd::new(&children, PollFlags::IN), PollFd::new(&reports.read, PollFlags::IN)];
        if open {
            fds.push(PollFd::new(&commands, PollFlags::IN));
        }
        let _ = rustix::event::poll(&mut fds, None);
        let readable = fds.get(2).is_some_and(|fd| !fd.revents().is_empty());
        children.drain();
        let ended = detached::ended();
        // The report of a process is handed on before its end.
        reports.hand_on(&mut replies);
        for (pid, status) in ended {
            if let Some(Child { number, .. }) = running.remove(&pid) {
                let status = status.map_or_else(String::new, |status| format!(" {status}"));
                // A worker that is gone needs no answer.
                let _ = say(&mut replies, &format!("ended {number} {pid}{status}"));
            }
        }
        if !readable {
            continue;
        }
        let mut buffer = [0; 4096];
        match commands.read(&mut buffer) {
            Ok(0) => open = false,
            Ok(count) => text.extend_from_slice(buffer.get(..count).unwrap_or_default()),
            Err(_) => {}
        }
        while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = text.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let Some((duty, number, id)) = obey(&line, &mut running) else { continue };
            match detached::fork() {
                Ok(Forked::Child) => {
                    // The replies end with the launcher: no child holds them.
                    drop((commands, replies));
                    let mut reports = reports.into_write();
                    children.forget();
                    let (status, said) = match duty {
                        Duty::Run => (duties.run)(&id),
                        Duty::Recover => (0, Some((duties.recover)(&id))),
                    };
                    let reported = said.map(|said| say(&mut reports, &format!("said {number} {said}")));
                    detached::exit(status.max(u8::from(matches!(reported, Some(Err(_))))));
                }
                Ok(Forked::Parent(pid)) => {
                    let _ = running.insert(pid, Child { number, next: Request::First });
                }
                // The worker finds the job as it was.
                Err(_) => drop(say(&mut replies, &format!("ended {number}"))),
            }
        }
    }
    0
}

/// The pipe into which children report; both ends are the launcher's, so that a child that outlives it keeps no process
/// waiting.
struct Reports {
    read: OwnedFd,
    write: OwnedFd,
}

impl Reports {
    fn open() -> io::Result<Self> {
        let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&read, true)?;
        Ok(Self { read, write })
    }

    /// In a child: the end into which it says something.
    fn into_write(self) -> File {
        File::from(self.write)
    }

    /// Hands reports on. Each line came in one write, so that the pipe is empty only where a line ends.
    fn hand_on(&self, replies: &mut File) {
        let mut lines = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = rustix::io::read(&self.read, &mut buffer) {
            lines.extend_from_slice(buffer.get(..count).unwrap_or_default());
        }
        if !lines.is_empty() {
            let _ = replies.write_all(&lines);
        }
    }
}

/// One write for a line: others write into the same pipe.
fn say(replies: &mut File, line: &str) -> io::Result<()> {
    replies.write_all(format!("{line}\n").as_bytes())
}

/// A process that was forked.
struct Child {
    number: i32,
    /// The next request to end that it gets.
    next: Request,
}

/// The purpose of a process.
#[derive(Clone, Copy)]
enum Duty {
    Run,
    Recover,
}

/// Obeys a command; what a process is to be started for is given back.
fn obey(line: &str, running: &mut HashMap<i32, Child>) -> Option<(Duty, i32, JobId)> {
    let mut words = line.split_whitespace();
    let (verb, number) = (words.next()?, words.next()?.parse::<i32>().ok()?);
    let duty = match verb {
        "run" => Some(Duty::Run),
        "recover" => Some(Duty::Recover),
        _ => None,
    };
    if let Some(duty) = duty {
        return Some((duty, number, JobId::new(words.next()?).ok()?));
    }
    for (pid, child) in running.iter_mut().filter(|(_, child)| child.number == number) {
        detached::ask_to_end(*pid, std::mem::replace(&mut child.next, Request::Again));
    }
    None
}
