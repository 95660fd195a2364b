//! Starts a program so that it can not outlive its runner unseen.
//!
//! Between fork and exec the child makes a session of its own, asks for TERM when its runner dies, and makes sure that
//! the runner still lives. Must be called on the main thread: the death signal follows the thread that forked.
#![expect(clippy::disallowed_methods, reason = "this is the module that the fence protects")]

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use rustix::pipe::PipeFlags;
use rustix::process::Signal;

use super::program::{self, Program};
use super::{CommandSpec, Input, SpawnError, Terminal, pty};
use crate::fs::steps::{Step, step};

/// A started program and our ends of its streams.
#[derive(Debug)]
pub struct Child {
    /// Its pid, also its process group and session.
    pub pid: i32,
    /// Where its standard input is written, with what is still to be written.
    pub stdin: Option<(OwnedFd, Vec<u8>)>,
    /// Where its standard output is read; of a terminal, all its output.
    pub stdout: OwnedFd,
    /// Where its standard error is read.
    pub stderr: Option<OwnedFd>,
}

/// Starts a program.
///
/// # Errors
/// `SpawnError`: then nothing was started.
pub fn spawn(spec: CommandSpec) -> Result<Child, SpawnError> {
    let exe = spec.exe.to_string_lossy().into_owned();
    let system = |action| {
        let exe = exe.clone();
        move |source: io::Error| SpawnError::System { action, exe: exe.clone(), source }
    };
    let program = match program::find(&spec.exe, spec.search_path.as_deref(), &spec.cwd) {
        Program::At(program) => program,
        Program::NotExecutable(path) => {
            return Err(SpawnError::NotExecutable {
                exe: path.to_string_lossy().into_owned(),
                problem: "it is no file that is marked as executable".to_owned(),
            });
        }
        Program::Missing => return Err(SpawnError::NotFound { exe }),
    };
    let mut command = Command::new(program);
    if spec.terminal == Terminal::Yes {
        command.env("TERM", "xterm-256color");
    }
    command
        .arg0(&spec.exe)
        .args(&spec.args)
        .current_dir(&spec.cwd)
        .envs(spec.env.iter().map(|(name, value)| (name, value)));
    let streams = match spec.terminal {
        Terminal::No => pipes(&mut command),
        Terminal::Yes => terminal(&mut command),
    }
    .map_err(system("making the streams"))?;
    let stdin = match (spec.stdin, spec.terminal) {
        (Input::Null, Terminal::No) => {
            command.stdin(Stdio::null());
            None
        }
        // Nobody types at this terminal: who reads it reads the end.
        (Input::Null, Terminal::Yes) => {
            let typed = streams.stdout.try_clone().map_err(system("making the streams"))?;
            Some((typed, vec![pty::END_OF_FILE]))
        }
        (Input::File(file), _) => {
            command.stdin(Stdio::from(file));
            None
        }
        (Input::Bytes(bytes), _) => {
            let (read, write) = pipe().map_err(system("making the streams"))?;
            command.stdin(Stdio::from(read));
            Some((write, bytes))
        }
    };
    let ours = [Some(&streams.stdout), streams.stderr.as_ref(), stdin.as_ref().map(|stdin| &stdin.0)];
    for fd in ours.into_iter().flatten() {
        rustix::io::ioctl_fionbio(fd, true).map_err(|e| system("preparing the streams")(e.into()))?;
    }
    prepare(&mut command, spec.terminal);
    step(Step::Spawn, &spec.cwd);
    let child = command.spawn().map_err(|source| explain(&exe, source))?;
    // The pid is waited for by `wait4(-1)`, never through this handle, whose drop does nothing.
    let pid = i32::try_from(child.id()).unwrap_or(i32::MAX);
    Ok(Child { pid, stdin, stdout: streams.stdout, stderr: streams.stderr })
}

struct Streams {
    stdout: OwnedFd,
    stderr: Option<OwnedFd>,
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?)
}

fn pipes(command: &mut Command) -> io::Result<Streams> {
    let (stdout, tool_stdout) = pipe()?;
    let (stderr, tool_stderr) = pipe()?;
    command.stdout(Stdio::from(tool_stdout)).stderr(Stdio::from(tool_stderr));
    Ok(Streams { stdout, stderr: Some(stderr) })
}

fn terminal(command: &mut Command) -> io::Result<Streams> {
    let pty = pty::open()?;
    command.stdin(Stdio::from(pty.tool.try_clone()?));
    command.stdout(Stdio::from(pty.tool.try_clone()?));
    command.stderr(Stdio::from(pty.tool));
    Ok(Streams { stdout: pty.engine, stderr: None })
}

fn prepare(command: &mut Command, terminal: Terminal) {
    let runner = rustix::process::getpid();
    // SAFETY: between fork and exec only async-signal-safe calls are made: plain system calls, no allocation.
    unsafe {
        command.pre_exec(move || {
            rustix::process::setsid()?;
            if terminal == Terminal::Yes {
                rustix::process::ioctl_tiocsctty(rustix::stdio::stdout().as_fd())?;
            }
            // The runner's handler must not run here, and the death signal must do what TERM does.
            libc::signal(libc::SIGTERM, libc::SIG_DFL);
            libc::signal(libc::SIGXFSZ, libc::SIG_DFL);
            rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?;
            // [PDEATH] It may have died before that request: then nobody would ever end this child.
            if rustix::process::getppid() != Some(runner) {
                libc::_exit(1);
            }
            Ok(())
        });
    }
}

fn explain(exe: &str, source: io::Error) -> SpawnError {
    let exe = exe.to_owned();
    match source.raw_os_error() {
        Some(libc::ENOENT | libc::ENOTDIR) => SpawnError::NotFound { exe },
        Some(libc::EACCES | libc::EPERM) => {
            SpawnError::NotExecutable { exe, problem: "permission denied".to_owned() }
        }
        Some(libc::ENOEXEC) => {
            SpawnError::NotExecutable { exe, problem: "not a program, and no `#!` line".to_owned() }
        }
        Some(libc::E2BIG | libc::EISDIR | libc::ELIBBAD | libc::ETXTBSY | libc::ELOOP | libc::EINVAL) => {
            SpawnError::NotExecutable { exe, problem: source.to_string() }
        }
        _ => SpawnError::System { action: "starting the process", exe, source },
    }
}
