//! Makes the process of a tool by a `clone` that borrows this process's memory until the `execve`, as `posix_spawn` does.
//!
//! A `fork` copies the page tables and then, write by write, the pages of a process that only wants to be replaced; and
//! `posix_spawn` has no place for the death signal. The runner pauses until the tool's program is in place, or until it is
//! known why it is not. Hard rule: between `clone` and `execve` only plain system calls are made.
#![expect(clippy::disallowed_methods, reason = "this is the module that the fence protects")]

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString, c_char, c_int, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI32, Ordering};

use super::git_variables::REPOSITORY_LOCAL;

/// What the process of a tool is made of.
#[derive(Debug)]
pub(crate) struct Program {
    /// The file.
    pub path: PathBuf,
    /// Its arguments, its own name first.
    pub args: Vec<OsString>,
    /// Added to what is inherited of the environment of this process; of two of one name the last counts.
    pub env: Vec<(OsString, OsString)>,
    /// Its working directory.
    pub cwd: PathBuf,
    /// Its standard input, output and error.
    pub streams: [OwnedFd; 3],
    /// Whether its standard output is to be its controlling terminal.
    pub terminal: super::Terminal,
}

/// Where the start of a process failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Before there was a process, or before it was set up.
    Process,
    /// Changing to the working directory.
    Directory,
    /// At the `execve`.
    Program,
}

/// Starts the program in a session of its own, with TERM as the signal of its runner's death; gives its pid.
///
/// Must be called on the main thread: the death signal follows the thread.
///
/// # Errors
/// Where it failed, and the system's error; then there is no process.
pub(crate) fn start(program: Program) -> Result<i32, (Stage, io::Error)> {
    let early = |error| (Stage::Process, error);
    let path = c_string(program.path.into_os_string()).map_err(early)?;
    let args = program.args.into_iter().map(c_string).collect::<io::Result<Vec<_>>>().map_err(early)?;
    let env = environment(program.env, &program.cwd);
    let env = env.into_iter().map(c_string).collect::<io::Result<Vec<_>>>().map_err(early)?;
    let cwd = c_string(program.cwd.into_os_string()).map_err(early)?;
    let (argv, envp) = (pointers(&args), pointers(&env));
    let mut mask = MaybeUninit::<libc::sigset_t>::uninit();
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: both sets are written before they are read. Blocked until the tool's own mask is set: a handler of ours that
    // ran in the child would count a signal of the child's as ours, for the memory is shared.
    let mask = unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), mask.as_mut_ptr());
        mask.assume_init()
    };
    let plan = Plan {
        path: path.as_ptr(),
        argv: argv.as_ptr(),
        envp: envp.as_ptr(),
        cwd: cwd.as_ptr(),
        streams: [0, 1, 2].map(|at: usize| program.streams.get(at).map_or(-1, AsRawFd::as_raw_fd)),
        terminal: program.terminal == super::Terminal::Yes,
        // SAFETY: a plain system call.
        runner: unsafe { libc::getpid() },
        mask,
        stage: AtomicI32::new(Stage::Process as i32),
        errno: AtomicI32::new(0),
    };
    // The stack of the child until its `execve`: it lies in this frame, which stays until then.
    let mut stack = MaybeUninit::<[u128; 1024]>::uninit();
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: `child` has a stack of 16 KB, aligned as the ABI wants it, of which it uses a few hundred bytes; `plan`, what it
    // points to and the stack outlive the call, because CLONE_VFORK returns only when the child has executed or is gone.
    let (pid, failed) = unsafe {
        let top = stack.as_mut_ptr().add(1).cast::<c_void>();
        let pid = libc::clone(child, top, flags, (&raw const plan).cast_mut().cast());
        let failed = io::Error::last_os_error();
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const plan.mask, std::ptr::null_mut());
        (pid, failed)
    };
    if pid < 0 {
        return Err((Stage::Process, failed));
    }
    let errno = plan.errno.load(Ordering::SeqCst);
    if errno == 0 {
        return Ok(pid);
    }
    // SAFETY: the child never became the tool; it is waited for so that nothing takes it for one.
    unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
    let stage = match plan.stage.load(Ordering::SeqCst) {
        stage if stage == Stage::Program as i32 => Stage::Program,
        stage if stage == Stage::Directory as i32 => Stage::Directory,
        _ => Stage::Process,
    };
    Err((stage, io::Error::from_raw_os_error(errno)))
}

/// What the child needs, ready to be used without another allocation.
struct Plan {
    path: *const c_char,
    argv: *const *const c_char,
    envp: *const *const c_char,
    cwd: *const c_char,
    streams: [RawFd; 3],
    terminal: bool,
    runner: libc::pid_t,
    mask: libc::sigset_t,
    /// How far the child came, and why not further: it writes into our memory.
    stage: AtomicI32,
    errno: AtomicI32,
}

extern "C" fn child(plan: *mut c_void) -> c_int {
    // SAFETY: `start` gives a `Plan` that lives until the `execve`.
    let plan = unsafe { &*plan.cast::<Plan>() };
    // SAFETY: plain system calls on values that `start` prepared.
    unsafe {
        become_the_tool(plan);
        plan.errno.store(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL), Ordering::SeqCst);
    }
    127
}

/// Returns only where a step fails, with its `errno`.
unsafe fn become_the_tool(plan: &Plan) {
    // SAFETY: as of `child`.
    unsafe {
        for (target, fd) in (0..).zip(plan.streams) {
            if libc::dup2(fd, target) < 0 {
                return;
            }
        }
        if libc::setsid() < 0 || (plan.terminal && libc::ioctl(1, libc::TIOCSCTTY, 0) < 0) {
            return;
        }
        default_signals();
        if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) < 0 {
            return;
        }
        // [PDEATH] The runner may have died before that request: then nothing would ever end this child.
        if libc::getppid() != plan.runner {
            libc::_exit(1);
        }
        plan.stage.store(Stage::Directory as i32, Ordering::SeqCst);
        if libc::chdir(plan.cwd) < 0 {
            return;
        }
        plan.stage.store(Stage::Program as i32, Ordering::SeqCst);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const plan.mask, std::ptr::null_mut());
        libc::execve(plan.path, plan.argv, plan.envp);
    }
}

/// Gives signals that this process handles, or ignores for itself, their default; what was ignored before stays so.
unsafe fn default_signals() {
    const HANDLED: [c_int; 7] = [
        libc::SIGINT,
        libc::SIGTERM,
        libc::SIGHUP,
        libc::SIGQUIT,
        libc::SIGCHLD,
        libc::SIGUSR1,
        libc::SIGTSTP,
    ];
    // SAFETY: an all-zero sigaction is a valid value to be overwritten; handlers are not shared with the parent.
    unsafe {
        for signal in HANDLED {
            let mut now: libc::sigaction = std::mem::zeroed();
            libc::sigaction(signal, std::ptr::null(), &raw mut now);
            // The death signal must do what TERM does, whatever a shell asked us to ignore.
            if now.sa_sigaction != libc::SIG_IGN || signal == libc::SIGTERM {
                libc::signal(signal, libc::SIG_DFL);
            }
        }
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        libc::signal(libc::SIGXFSZ, libc::SIG_DFL);
    }
}

/// `NAME=value` for every variable that the tool gets.
///
/// Not inherited is what speaks of where or how the caller works: its repository (a hook's `GIT_DIR` would lead every git of
/// the job there), its directory, and a `LANGUAGE` that would outweigh the locale that was asked for.
fn environment(added: Vec<(OsString, OsString)>, cwd: &Path) -> Vec<OsString> {
    let mut set: BTreeMap<OsString, OsString> = BTreeMap::from([(OsString::from("PWD"), cwd.into())]);
    set.extend(added);
    let is_callers = |name: &OsStr| match name.as_encoded_bytes() {
        b"OLDPWD" => true,
        b"LANGUAGE" => set.contains_key(OsStr::new("LC_ALL")),
        [b'G', b'I', b'T', b'_', ..] => REPOSITORY_LOCAL.iter().any(|local| name == *local),
        _ => false,
    };
    let inherited = std::env::vars_os().filter(|(name, _)| !set.contains_key(name) && !is_callers(name));
    let joined = |(mut name, value): (OsString, OsString)| {
        name.reserve_exact(value.len() + 2);
        name.push("=");
        name.push(value);
        name
    };
    let mut all: Vec<OsString> = inherited.map(joined).collect();
    all.extend(set.into_iter().map(joined));
    all
}

fn c_string(text: OsString) -> io::Result<CString> {
    Ok(CString::new(text.into_vec())?)
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_added_variable_replaces_an_inherited_one_and_the_last_of_a_name_counts() {
        let pair = |name: &str, value: &str| (OsString::from(name), OsString::from(value));
        let added = vec![pair("PATH", "one"), pair("NEW", ""), pair("PATH", "two")];
        let made = environment(added, Path::new("/work"));
        let of = |name: &str| -> Vec<&OsString> {
            made.iter().filter(|v| v.as_encoded_bytes().starts_with(name.as_bytes())).collect()
        };
        assert_eq!(of("PATH="), ["PATH=two"]);
        assert_eq!(of("NEW="), ["NEW="]);
        assert_eq!(of("PWD="), ["PWD=/work"]);
        assert!(made.len() >= 2);
    }
}
