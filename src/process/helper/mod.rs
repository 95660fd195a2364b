//! Short helper commands that are not the job: is a tool there, which version has it, what does git say.
//!
//! Never used while a job's tool runs: the supervisor waits for every child of this process. A helper has a session of its
//! own, so a terminal's Ctrl-C does not reach it; the caller's hook says when to give it up. Hard rule: neither the time nor
//! the memory that a helper takes is without a bound, and when it has ended, by itself or not, nothing that it started is
//! left: neither its process group nor what left that group (see `orphans`).

use std::ffi::{OsStr, OsString};
use std::io::{self, PipeReader, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions};

use super::StopHook;
use super::git_variables::REPOSITORY_LOCAL;
use crate::clock::{self, Clock, SystemClock, timespec};
use held_signals::HeldSignals;
use orphans::Orphans;

mod held_signals;
mod orphans;

/// What is kept of standard error.
const MAX_ERROR_BYTES: usize = 64 << 10;

/// What is read of a command that only tells its version.
const MAX_SHORT_BYTES: usize = 64 << 10;

/// How long the hook is not asked while nothing happens.
const ASK_HOOK_EVERY: Duration = Duration::from_millis(100);

/// How long a killed process may take to be gone; longer takes only one that the kernel itself holds.
const LAST_WAIT: Duration = Duration::from_secs(2);

/// The same for processes that are found one by one.
const ORPHANS_WAIT: Duration = Duration::from_secs(10);

/// What a helper command printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Printed {
    /// Its exit code, if it exited.
    pub code: Option<i32>,
    /// Standard output and standard error together.
    pub text: String,
}

/// A helper command, and what it may take.
#[derive(Clone)]
pub(crate) struct Helper<'a> {
    /// The program: a name for PATH, or a path.
    pub exe: &'a OsStr,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Its working directory.
    pub cwd: &'a Path,
    /// Variables that are set.
    pub set: Vec<(OsString, OsString)>,
    /// Variables that are taken out of the environment of this process, beside those that lead git elsewhere.
    pub removed: Vec<&'a str>,
    /// Standard input.
    pub input: Vec<u8>,
    /// After so many bytes of standard output it is ended.
    pub max_bytes: usize,
    /// After this time it is ended.
    pub wait: Duration,
    /// Asked every tenth of a second: true ends it.
    pub stop: StopHook<'a>,
}

impl std::fmt::Debug for Helper<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Helper").field("exe", &self.exe).field("args", &self.args).finish_non_exhaustive()
    }
}

/// What became of a helper that was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured {
    /// Its exit code, if it exited by itself.
    pub code: Option<i32>,
    /// Standard output, as far as it was read.
    pub stdout: Vec<u8>,
    /// The first part of standard error.
    pub stderr: Vec<u8>,
    /// Whether there was more on standard output than was asked for; then it was ended.
    pub cut: bool,
}

/// A helper gave no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HelperError {
    /// It could not be started.
    #[error("error starting `{exe}`")]
    NotStarted {
        /// The program.
        exe: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It was ended after its time.
    #[error("`{exe}` took longer than {} s", wait.as_secs())]
    TookTooLong {
        /// The program.
        exe: String,
        /// Its time.
        wait: Duration,
    },
    /// It was ended because the engine is asked to stop.
    #[error("`{exe}` was interrupted")]
    Interrupted {
        /// The program.
        exe: String,
    },
}

/// Runs a command with no input; `None` if it could not be started, took too long or was interrupted. Of endless output the
/// beginning is given.
#[must_use]
pub(crate) fn run(
    exe: &str,
    args: &[&str],
    cwd: &Path,
    (wait, stop): (Duration, StopHook<'_>),
) -> Option<Printed> {
    let captured = capture(&Helper {
        exe: OsStr::new(exe),
        args: args.iter().map(OsString::from).collect(),
        cwd,
        set: Vec::new(),
        removed: Vec::new(),
        input: Vec::new(),
        max_bytes: MAX_SHORT_BYTES,
        wait,
        stop,
    })
    .ok()?;
    let text = [captured.stdout, captured.stderr].concat();
    Some(Printed { code: captured.code, text: String::from_utf8_lossy(&text).into_owned() })
}

/// Runs a helper with its streams apart.
///
/// # Errors
/// `HelperError`; an exit code other than 0 is an answer.
pub(crate) fn capture(helper: &Helper<'_>) -> Result<Captured, HelperError> {
    let exe = || helper.exe.to_string_lossy().into_owned();
    let clock = SystemClock::start();
    let left = || helper.wait.saturating_sub(clock.monotonic());
    let not_started = |source| HelperError::NotStarted { exe: exe(), source };
    // Lets go last, when nothing of the helper is there any more.
    let held = HeldSignals::take().map_err(not_started)?;
    if (helper.stop)() {
        return Err(HelperError::Interrupted { exe: exe() });
    }
    let orphans = Orphans::expect();
    let (mut group, mut streams) = start(helper, &held, &orphans).map_err(not_started)?;
    let progress = read_streams(&mut streams, &group, &held, (&left, helper.stop));
    let code = group.end();
    orphans.end(group.leader.as_raw_nonzero().get(), ORPHANS_WAIT);
    match progress.map_err(not_started)? {
        Progress::Ended | Progress::TooMuch => {}
        Progress::NoTimeLeft => return Err(HelperError::TookTooLong { exe: exe(), wait: helper.wait }),
        Progress::Interrupted => return Err(HelperError::Interrupted { exe: exe() }),
    }
    let [stdout, stderr] = streams;
    Ok(Captured { code, stdout: stdout.bytes, stderr: stderr.bytes, cut: stdout.full })
}

fn start(helper: &Helper<'_>, held: &HeldSignals, orphans: &Orphans) -> io::Result<(Group, [Stream; 2])> {
    let (stdout, stdout_end) = io::pipe()?;
    let (stderr, stderr_end) = io::pipe()?;
    let mut command = duct::cmd(helper.exe, &helper.args).dir(helper.cwd).unchecked();
    // What is said first is done last: a variable that is removed may be set all the same.
    for (name, value) in &helper.set {
        command = command.env(name, value);
    }
    command = command.env(orphans::MARK, orphans.mark());
    for name in helper.removed.iter().chain(&REPOSITORY_LOCAL) {
        command = command.env_remove(name);
    }
    command = match helper.input.is_empty() {
        true => command.stdin_null(),
        false => command.stdin_bytes(helper.input.as_slice()),
    };
    let (mask, engine) = (held.before(), rustix::process::getpid());
    command = command.before_spawn(move |command| {
        // SAFETY: between fork and exec only plain system calls are made.
        unsafe { command.pre_exec(move || stand_alone(engine, &mask)) };
        Ok(())
    });
    let handle = command.stdout_file(stdout_end).stderr_file(stderr_end).start()?;
    let group = Group::new(handle)?;
    Ok((group, [Stream::new(stdout, helper.max_bytes), Stream::new(stderr, MAX_ERROR_BYTES)]))
}

/// In the new process: a session of its own, killed when the engine dies, with the signals that the engine had.
fn stand_alone(engine: Pid, mask: &libc::sigset_t) -> io::Result<()> {
    rustix::process::setsid()?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // [PDEATH] The engine may have died before that request.
    if rustix::process::getppid() != Some(engine) {
        return Err(io::ErrorKind::Interrupted.into());
    }
    // SAFETY: the set is one that the system gave.
    match unsafe { libc::sigprocmask(libc::SIG_SETMASK, mask, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A helper that was started, with whatever it starts in its process group.
struct Group {
    handle: duct::Handle,
    leader: Pid,
    /// Readable when the leader has ended.
    ended: OwnedFd,
}

impl Group {
    fn new(handle: duct::Handle) -> io::Result<Self> {
        let first = handle.pids().first().and_then(|pid| i32::try_from(*pid).ok());
        let found = first.and_then(Pid::from_raw).ok_or(io::ErrorKind::NotFound.into());
        let opened =
            found.and_then(|leader| Ok((leader, rustix::process::pidfd_open(leader, PidfdFlags::empty())?)));
        match opened {
            Ok((leader, ended)) => Ok(Self { handle, leader, ended }),
            Err(error) => {
                let _ = handle.kill();
                Err(error)
            }
        }
    }

    /// Kills what is left of it. Only before `end`: until then no other group can have its number.
    fn kill(&self) {
        let _ = rustix::process::kill_process_group(self.leader, Signal::KILL);
    }

    /// Ends it, and gives the leader's exit code.
    fn end(&mut self) -> Option<i32> {
        self.kill();
        let output = self.handle.wait_timeout(LAST_WAIT).ok()??;
        let code = output.status.code();
        // Orphans are ours if this process takes them: a later wait for all children must not meet them.
        let clock = SystemClock::start();
        while clock.monotonic() < LAST_WAIT {
            if let Ok(Some(_)) = rustix::process::waitpgid(self.leader, WaitOptions::NOHANG) {
                continue;
            }
            if rustix::process::test_kill_process_group(self.leader).is_err() {
                break;
            }
            clock::sleep(Duration::from_millis(1));
        }
        code
    }
}

/// One output stream, until its end.
struct Stream {
    pipe: Option<PipeReader>,
    bytes: Vec<u8>,
    limit: usize,
    full: bool,
}

/// Why the reading ended.
enum Progress {
    Ended,
    TooMuch,
    NoTimeLeft,
    Interrupted,
}

impl Stream {
    fn new(pipe: PipeReader, limit: usize) -> Self {
        Self { pipe: Some(pipe), bytes: Vec::new(), limit, full: false }
    }

    /// Takes what is there; what is beyond the limit is read and dropped.
    fn read(&mut self) -> io::Result<()> {
        let Some(pipe) = &mut self.pipe else { return Ok(()) };
        let mut buffer = [0u8; 64 << 10];
        let length = pipe.read(&mut buffer)?;
        if length == 0 {
            self.pipe = None;
        }
        let wanted = self.limit.saturating_sub(self.bytes.len()).min(length);
        self.full |= wanted < length;
        self.bytes.extend_from_slice(buffer.get(..wanted).unwrap_or_default());
        Ok(())
    }
}

/// Reads until the helper has ended, or is to be ended.
fn read_streams(
    streams: &mut [Stream; 2],
    group: &Group,
    held: &HeldSignals,
    (left, stop): (&dyn Fn() -> Duration, StopHook<'_>),
) -> io::Result<Progress> {
    loop {
        let ready = ready(streams, [group.ended.as_fd(), held.came()], left().min(ASK_HOOK_EVERY))?;
        for (stream, _) in streams.iter_mut().zip(ready.streams).filter(|(_, ready)| *ready) {
            stream.read()?;
        }
        if streams[0].full {
            return Ok(Progress::TooMuch);
        }
        if ready.interrupted || (!ready.ended && stop()) {
            return Ok(Progress::Interrupted);
        }
        if ready.ended && !ready.streams.contains(&true) {
            return Ok(Progress::Ended);
        }
        if ready.ended {
            // What holds a stream open would be waited for; what it wrote so far is read.
            group.kill();
        }
        if left().is_zero() {
            return Ok(Progress::NoTimeLeft);
        }
    }
}

/// What a look has shown.
struct Ready {
    streams: [bool; 2],
    ended: bool,
    interrupted: bool,
}

fn ready(streams: &[Stream; 2], [ended, came]: [BorrowedFd<'_>; 2], wait: Duration) -> io::Result<Ready> {
    let mut polled: Vec<PollFd<'_>> =
        [ended, came].iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
    let open = streams.iter().filter_map(|stream| stream.pipe.as_ref());
    polled.extend(open.map(|pipe| PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN)));
    match poll(&mut polled, Some(&timespec(wait))) {
        Ok(_) => {}
        Err(rustix::io::Errno::INTR) => {
            return Ok(Ready { streams: [false; 2], ended: false, interrupted: false });
        }
        Err(error) => return Err(error.into()),
    }
    let mut found = polled.iter().map(|fd| !fd.revents().is_empty());
    let mut next = || found.next().unwrap_or(false);
    let (ended, interrupted) = (next(), next());
    let streams = [0, 1].map(|at: usize| streams.get(at).is_some_and(|s| s.pipe.is_some()) && next());
    Ok(Ready { streams, ended, interrupted })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, input: &[u8], max_bytes: usize, wait: Duration) -> Result<Captured, HelperError> {
        capture(&Helper {
            exe: OsStr::new("sh"),
            args: vec!["-c".into(), script.into()],
            cwd: Path::new("/"),
            set: vec![("GIVEN".into(), "yes".into())],
            removed: vec!["HOME", "GIVEN"],
            input: input.to_vec(),
            max_bytes,
            wait,
            stop: &|| false,
        })
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn the_streams_are_apart_and_the_environment_is_as_asked() {
        let script = "cat; echo $GIVEN${HOME-none}; printf 'a\\377' >&2; exit 3";
        let ended = sh(script, b"in\0put\n", 1000, LONG).unwrap();
        assert_eq!(ended.stdout, b"in\0put\nyesnone\n");
        assert_eq!((ended.stderr.as_slice(), ended.code, ended.cut), (b"a\xff".as_slice(), Some(3), false));
    }

    #[test]
    fn endless_output_is_cut_and_its_writer_ended() {
        let ended = sh("exec cat /dev/zero", b"", 100_000, LONG).unwrap();
        assert!(ended.cut);
        assert_eq!(ended.stdout.len(), 100_000);
        let noisy = sh("head -c 1000000 /dev/zero >&2; echo done", b"", 100, LONG).unwrap();
        assert_eq!((noisy.stdout.as_slice(), noisy.stderr.len()), (b"done\n".as_slice(), MAX_ERROR_BYTES));
    }

    #[test]
    fn one_that_does_not_end_is_ended_and_one_that_is_missing_is_named() {
        let silent = sh("exec sleep 1000", b"", 10, Duration::from_millis(50));
        assert!(matches!(silent, Err(HelperError::TookTooLong { .. })));
        let closed = sh("exec sleep 1000 >&- 2>&-", b"", 10, Duration::from_millis(50));
        assert!(matches!(closed, Err(HelperError::TookTooLong { .. })));
        let mut helper = Helper {
            exe: OsStr::new("there-is-no-such-program"),
            args: Vec::new(),
            cwd: Path::new("/"),
            set: Vec::new(),
            removed: Vec::new(),
            input: Vec::new(),
            max_bytes: 1,
            wait: LONG,
            stop: &|| false,
        };
        let Err(HelperError::NotStarted { exe, .. }) = capture(&helper) else { panic!("it was started") };
        assert_eq!(exe, "there-is-no-such-program");
        helper.exe = OsStr::new("true");
        assert_eq!(capture(&helper).unwrap().code, Some(0));
    }

    fn gone(pid: &Path) -> bool {
        let pid: i32 = std::fs::read_to_string(pid).unwrap().trim().parse().unwrap();
        crate::process::tree::stat(pid).is_none_or(|stat| stat.is_dead())
    }

    #[test]
    fn nothing_that_a_helper_started_is_alive_when_it_has_ended() {
        let dir = tempfile::tempdir().unwrap();
        let pid = dir.path().join("pid");
        let sleeper = format!("sleep 1000 & echo $! > '{}'; ", pid.display());
        // By itself, while the sleeper holds the streams; after its time; and after too much output.
        let ended = sh(&format!("{sleeper} echo 1.2.3; exit 7"), b"", 1000, LONG).unwrap();
        assert_eq!((ended.stdout.as_slice(), ended.code, ended.cut), (b"1.2.3\n".as_slice(), Some(7), false));
        assert!(gone(&pid));
        let slow = sh(&format!("{sleeper} wait"), b"", 10, Duration::from_millis(300));
        assert!(matches!(slow, Err(HelperError::TookTooLong { .. })));
        assert!(gone(&pid));
        let endless = sh(&format!("{sleeper} cat /dev/zero; wait"), b"", 1000, LONG).unwrap();
        assert!(endless.cut && gone(&pid));
    }

    #[test]
    fn what_left_the_group_of_a_helper_is_ended_too() {
        let dir = tempfile::tempdir().unwrap();
        let (pid, inner) = (dir.path().join("pid"), dir.path().join("inner"));
        let script = format!(
            "setsid sh -c 'sleep 1000 & echo $! > {}; echo $$ > {}; wait' > /dev/null 2>&1 < /dev/null &
             while [ ! -s {} ]; do :; done; exit 7",
            inner.display(),
            pid.display(),
            pid.display()
        );
        assert_eq!(sh(&script, b"", 10, LONG).unwrap().code, Some(7));
        assert!(gone(&pid) && gone(&inner));
    }

    #[test]
    fn a_helper_is_given_up_when_the_engine_is_asked_to_stop() {
        let dir = tempfile::tempdir().unwrap();
        let pid = dir.path().join("pid");
        let stop = || std::fs::read_to_string(&pid).is_ok_and(|text| text.ends_with('\n'));
        let script = format!("sleep 1000 & echo $! > '{}'; wait", pid.display());
        let stopped = run("sh", &["-c", &script], Path::new("/"), (LONG, &stop));
        assert!(stopped.is_none() && gone(&pid));
        assert!(run("true", &[], Path::new("/"), (LONG, &|| true)).is_none());
    }

    #[test]
    fn a_helper_is_in_no_group_that_a_terminal_interrupts() {
        let stat = sh("exec cat /proc/self/stat", b"", 1000, LONG).unwrap();
        let text = String::from_utf8(stat.stdout).unwrap();
        let fields: Vec<&str> = text.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let pid = text.split_once(' ').unwrap().0;
        assert_eq!((fields[2], fields[3]), (pid, pid), "group and session");
    }

    #[test]
    fn a_version_that_never_ends_is_cut() {
        let printed =
            run("sh", &["-c", "echo v1.2; exec cat /dev/zero"], Path::new("/"), (LONG, &|| false)).unwrap();
        assert!(printed.text.starts_with("v1.2\n") && printed.text.len() <= 2 * MAX_SHORT_BYTES);
        let both = run("sh", &["-c", "echo out; echo err >&2"], Path::new("/"), (LONG, &|| false)).unwrap();
        assert_eq!((both.text.as_str(), both.code), ("out\nerr\n", Some(0)));
    }
}
