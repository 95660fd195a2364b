//! The `engine` program; everything is in the library's `cli`, but for what acts on a whole process and would do so in each test
//! that holds the library: the allocator, and what runs before `main`.

use std::os::fd::{AsRawFd, IntoRawFd};
use std::process::ExitCode;

/// musl's own allocator asks the kernel for every few objects, which a process of two milliseconds feels.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

/// Runs before `main`.
// SAFETY: the loader calls such a function once, without arguments that it needs, and this one uses system calls alone, which
// need nothing of what the standard library sets up.
#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = occupy_output;

/// Takes the place of a standard output that is closed, by a directory, which cannot be written. The standard library would
/// put `/dev/null` there, open as the callers of many programs open it, and what is printed would be lost in silence.
extern "C" fn occupy_output() {
    use rustix::fs::{Mode, OFlags};
    if rustix::io::fcntl_getfd(rustix::stdio::stdout()).is_ok() {
        return;
    }
    let Ok(directory) = rustix::fs::open("/", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()) else {
        return;
    };
    if directory.as_raw_fd() == 1 {
        let _ = directory.into_raw_fd();
    } else {
        let _ = rustix::stdio::dup2_stdout(&directory);
    }
}

fn main() -> ExitCode {
    engine::cli::main()
}
