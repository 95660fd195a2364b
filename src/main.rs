//! The `engine` program; everything is in the library's `cli`.

use std::process::ExitCode;

/// musl's own allocator asks the kernel for every few objects, which a process of two milliseconds feels.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> ExitCode {
    engine::cli::main()
}
