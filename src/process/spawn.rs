//! Starts a program so that it cannot outlive its runner unseen.
//!
//! Finds the program and makes its streams; `exec` makes the process. Must be called on the main thread: the signal of the
//! runner's death follows the thread.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::pipe::PipeFlags;

use super::exec::{self, Stage};
use super::program::{self, Program};
use super::{CommandSpec, Input, SpawnError, Terminal, not_executable, pty};
use crate::fs::steps::{Step, step};

/// A started program and our ends of its streams.
#[derive(Debug)]
pub(crate) struct Child {
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
pub(crate) fn spawn(spec: CommandSpec) -> Result<Child, SpawnError> {
    let exe = spec.exe.to_string_lossy().into_owned();
    let system = |action| {
        let exe = exe.clone();
        move |source: io::Error| SpawnError::System { action, exe: exe.clone(), source }
    };
    let program = match program::find(&spec.exe, spec.search_path.as_deref(), &spec.cwd) {
        Program::At(program) => program,
        Program::NotExecutable(path) => {
            let problem = not_executable::why(&path, &spec.cwd);
            return Err(SpawnError::NotExecutable {
                exe: path.to_string_lossy().into_owned(),
                problem: problem.unwrap_or_else(|| "permission denied".to_owned()),
            });
        }
        Program::Missing => return Err(SpawnError::NotFound { exe }),
    };
    let mut env = spec.env;
    if spec.terminal == Terminal::Yes {
        // First, so that a TERM of the job counts.
        env.insert(0, ("TERM".into(), "xterm-256color".into()));
    }
    let streams = match spec.terminal {
        Terminal::No => pipes(),
        Terminal::Yes => terminal(),
    }
    .map_err(system("making the streams"))?;
    let (theirs, stdin) = match (spec.stdin, spec.terminal) {
        (Input::Null, Terminal::No) => (null().map_err(system("opening /dev/null"))?, None),
        // No one types here, so a tool that reads the terminal gets end-of-file.
        (Input::Null, Terminal::Yes) => {
            let terminal = streams.tool_stdout.try_clone().map_err(system("making the streams"))?;
            let typed = streams.stdout.try_clone().map_err(system("making the streams"))?;
            (terminal, Some((typed, vec![pty::END_OF_FILE])))
        }
        (Input::File(file), _) => (file.into(), None),
        (Input::Bytes(bytes), _) => {
            let (read, write) = pipe().map_err(system("making the streams"))?;
            (read, Some((write, bytes)))
        }
    };
    let ours = [Some(&streams.stdout), streams.stderr.as_ref(), stdin.as_ref().map(|stdin| &stdin.0)];
    for fd in ours.into_iter().flatten() {
        rustix::io::ioctl_fionbio(fd, true).map_err(|e| system("preparing the streams")(e.into()))?;
    }
    step(Step::Spawn, &spec.cwd);
    let (path, cwd) = (program.clone(), spec.cwd.clone());
    let pid = exec::start(exec::Program {
        path: program,
        args: std::iter::once(spec.exe).chain(spec.args).collect(),
        env,
        cwd: spec.cwd,
        streams: [theirs, streams.tool_stdout, streams.tool_stderr],
        terminal: spec.terminal,
    })
    .map_err(|(stage, source)| explain(stage, exe, (&path, &cwd), source))?;
    Ok(Child { pid, stdin, stdout: streams.stdout, stderr: streams.stderr })
}

struct Streams {
    stdout: OwnedFd,
    stderr: Option<OwnedFd>,
    tool_stdout: OwnedFd,
    tool_stderr: OwnedFd,
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?)
}

fn null() -> io::Result<OwnedFd> {
    Ok(rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}

fn pipes() -> io::Result<Streams> {
    let (stdout, tool_stdout) = pipe()?;
    let (stderr, tool_stderr) = pipe()?;
    Ok(Streams { stdout, stderr: Some(stderr), tool_stdout, tool_stderr })
}

fn terminal() -> io::Result<Streams> {
    let pty = pty::open()?;
    let tool_stderr = pty.tool.try_clone()?;
    Ok(Streams { stdout: pty.engine, stderr: None, tool_stdout: pty.tool, tool_stderr })
}

fn explain(stage: Stage, exe: String, (path, cwd): (&Path, &Path), source: io::Error) -> SpawnError {
    let is_of_the_file = matches!(
        source.raw_os_error(),
        Some(
            libc::ENOENT
                | libc::ENOTDIR
                | libc::EACCES
                | libc::EPERM
                | libc::ENOEXEC
                | libc::E2BIG
                | libc::EISDIR
                | libc::ELIBBAD
                | libc::ETXTBSY
                | libc::ELOOP
                | libc::EINVAL
        )
    );
    match stage {
        Stage::Program if is_of_the_file => match not_executable::why(path, cwd) {
            // It went away since it was found.
            None if !path.exists() => SpawnError::NotFound { exe },
            Some(problem) if source.raw_os_error() != Some(libc::E2BIG) => {
                SpawnError::NotExecutable { exe, problem }
            }
            _ => SpawnError::NotExecutable { exe, problem: source.to_string() },
        },
        Stage::Directory => SpawnError::System { action: "changing to the working directory", exe, source },
        Stage::Program | Stage::Process => SpawnError::System { action: "starting the process", exe, source },
    }
}
