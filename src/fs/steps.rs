//! Counts the durable steps of a process, so that a test can stop or end it at exactly one of them.
//!
//! Responsible for the counter, the trace and the ways to interfere. Hard rule: in a release build all of
//! it is empty functions.

use std::path::Path;

/// One kind of step that changes what a crash leaves behind, or that the outside world can see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A directory is made.
    Mkdir,
    /// A file gets its first name.
    Create,
    /// The content of a new file is written.
    Write,
    /// Bytes are added to an append-only file.
    Append,
    /// A file's data is synced.
    Sync,
    /// A directory is synced.
    SyncDir,
    /// A file is cut.
    Truncate,
    /// Space is reserved.
    Reserve,
    /// A file gets another name.
    Rename,
    /// A file gets one more name.
    Link,
    /// A name is removed.
    Unlink,
    /// The job's tool is started (not a change of a file; in the trace for its order).
    Spawn,
    /// A result is told to somebody (likewise).
    Tell,
}

#[cfg(debug_assertions)]
pub use checked::{Interference, die, fails, interfere, pretended_mount, step, torn_write};
#[cfg(not(debug_assertions))]
pub use empty::{die, fails, pretended_mount, step, torn_write};

#[cfg(not(debug_assertions))]
mod empty {
    use super::{Path, Step};

    /// Does nothing in a release build.
    #[inline(always)]
    pub fn step(_: Step, _: &Path) {}

    /// Never tears a write in a release build.
    #[inline(always)]
    #[must_use]
    pub fn torn_write<'a>(_: Step, _: &Path, _: &'a [u8]) -> Option<&'a [u8]> {
        None
    }

    /// Never makes a step fail in a release build.
    #[inline(always)]
    #[must_use]
    pub fn fails(_: Step, _: &Path) -> bool {
        false
    }

    /// Never pretends in a release build.
    #[inline(always)]
    #[must_use]
    pub fn pretended_mount() -> Option<String> {
        None
    }

    /// Never called in a release build.
    #[inline(always)]
    pub fn die() {}
}

#[cfg(debug_assertions)]
mod checked {
    use std::io::Write;
    use std::path::PathBuf;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::{Path, Step};

    /// What a test asks of this process.
    #[derive(Debug, Default, Clone)]
    pub struct Interference {
        /// Killed before the n-th step.
        pub kill_at: Option<u64>,
        /// Killed in the middle of the n-th step, if that writes; else before it.
        pub tear_at: Option<u64>,
        /// Stopped (SIGSTOP) before the n-th step, until somebody continues it.
        pub stop_at: Option<u64>,
        /// The n-th step fails, if it is a sync; from then on none does.
        pub fail_at: Option<u64>,
        /// Each step is added to this file, a line each.
        pub trace: Option<PathBuf>,
        /// The line of `/proc/self/mountinfo` that every path is taken to be on.
        pub mount: Option<String>,
    }

    static ASKED: OnceLock<Interference> = OnceLock::new();
    static COUNT: AtomicU64 = AtomicU64::new(0);

    /// Arranges the interference; only the first call counts.
    pub fn interfere(asked: Interference) {
        let _ = ASKED.set(asked);
    }

    /// The mount that a test wants every path to be on: one with bad locks can not be made everywhere.
    pub fn pretended_mount() -> Option<String> {
        ASKED.get()?.mount.clone()
    }

    /// Counts a step that is about to be made.
    pub fn step(kind: Step, path: &Path) {
        let _ = torn_write(kind, path, &[]);
    }

    /// Counts a step; true if it is the one to fail.
    pub fn fails(kind: Step, path: &Path) -> bool {
        step(kind, path);
        ASKED.get().is_some_and(|asked| asked.fail_at == Some(COUNT.load(Ordering::SeqCst)))
    }

    /// Counts a step that writes; the part to write before death, if this is the one to tear.
    pub fn torn_write<'a>(kind: Step, path: &Path, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let asked = ASKED.get()?;
        let number = COUNT.fetch_add(1, Ordering::SeqCst).saturating_add(1);
        if asked.kill_at == Some(number) {
            die();
        }
        if asked.stop_at == Some(number) {
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::STOP);
        }
        if asked.tear_at == Some(number) {
            if bytes.is_empty() {
                die();
            }
            return bytes.get(..bytes.len() / 2);
        }
        trace(asked, number, kind, path, bytes.len());
        None
    }

    fn trace(asked: &Interference, number: u64, kind: Step, path: &Path, length: usize) {
        let Some(file) = &asked.trace else { return };
        if let Ok(mut file) = std::fs::File::options().create(true).append(true).open(file) {
            let _ = writeln!(file, "{number}\t{kind:?}\t{length}\t{}", path.display());
        }
    }

    /// Ends this process as `kill -9` would.
    pub fn die() {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}
