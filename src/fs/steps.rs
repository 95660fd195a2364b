//! Counts the durable steps of a process, so that a test can stop or end it at exactly one of them.
//!
//! Responsible for the counter, the trace and the ways to interfere. Hard rule: in a release build all of
//! it is empty functions.

use std::path::Path;

/// One kind of step that changes what a crash leaves behind, or that the outside world can see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
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
    #[cfg(debug_assertions)]
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
    /// A result is reported (likewise).
    Tell,
    /// A command of git changes a repository; the path is its verb.
    Git,
}

#[cfg(debug_assertions)]
pub(crate) use checked::{
    Aim, Interference, cut, die, fails, interfere, moved, pretended_mount, step, torn_write,
};
#[cfg(not(debug_assertions))]
pub(crate) use empty::{cut, die, fails, moved, pretended_mount, step, torn_write};

/// Whether a move may end on a name that is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// Then nothing is changed.
    MustBeFree,
    /// Then it is replaced.
    Replaced,
}

#[cfg(not(debug_assertions))]
mod empty {
    use super::{Path, Step, Target};

    /// Does nothing in a release build.
    #[inline(always)]
    pub(crate) fn step(_: Step, _: &Path) {}

    /// Does nothing in a release build.
    #[inline(always)]
    pub(crate) fn moved(_: Step, _: &Path, _: &Path, _: Target) {}

    /// Does nothing in a release build.
    #[inline(always)]
    pub(crate) fn cut(_: &Path, _: u64) {}

    /// Never tears a write in a release build.
    #[inline(always)]
    #[must_use]
    pub(crate) fn torn_write<'a>(_: Step, _: &Path, _: &'a [u8]) -> Option<&'a [u8]> {
        None
    }

    /// Never makes a step fail in a release build.
    #[inline(always)]
    #[must_use]
    pub(crate) fn fails(_: Step, _: &Path) -> bool {
        false
    }

    /// Never pretends in a release build.
    #[inline(always)]
    #[must_use]
    pub(crate) fn pretended_mount() -> Option<String> {
        None
    }

    /// Never called in a release build.
    #[inline(always)]
    pub(crate) fn die() {}
}

#[cfg(debug_assertions)]
mod checked {
    use std::fs::File;
    use std::io::Write;
    use std::path::PathBuf;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

    use super::{Path, Step, Target};

    /// What a test asks of this process.
    #[derive(Debug, Default, Clone)]
    pub(crate) struct Interference {
        /// Killed before the n-th step.
        pub kill_at: Option<u64>,
        /// Killed in the middle of the n-th step, if that writes; else before it.
        pub tear_at: Option<u64>,
        /// Stopped (SIGSTOP) before the n-th step, until it is continued.
        pub stop_at: Option<u64>,
        /// The n-th step fails, if it is a sync; from then on none does.
        pub fail_at: Option<u64>,
        /// Each step is added to this file, a line each.
        pub trace: Option<PathBuf>,
        /// Each step, also of processes that are not meant, is added to this file with all that is needed to make it again: a line
        /// of kind, path and the bytes in hexadecimal, the old name, or the length.
        pub disk: Option<PathBuf>,
        /// The line of `/proc/self/mountinfo` that every path is taken to be on.
        pub mount: Option<String>,
        /// Only this process is meant, of all that inherit the environment; none means each of them.
        pub aim: Option<Aim>,
    }

    /// One of the processes of a command.
    #[derive(Debug, Clone)]
    pub(crate) struct Aim {
        /// False for a process of another verb.
        pub is_of_verb: bool,
        /// True for a process that was forked without a new program, as the runner of a worker.
        pub is_forked: bool,
        /// Which of these, from 1, in the order in which they begin.
        pub turn: u32,
        /// An existing directory, in which each of them takes the next number.
        pub dir: PathBuf,
    }

    impl Aim {
        fn is_here(&self) -> bool {
            static TURN: OnceLock<Option<u32>> = OnceLock::new();
            let pid = PID.load(Ordering::SeqCst);
            if !self.is_of_verb || self.is_forked == (std::process::id() == pid) {
                return false;
            }
            let is_ours = |turn: &u32| {
                File::options().write(true).create_new(true).open(self.dir.join(turn.to_string())).is_ok()
            };
            *TURN.get_or_init(|| (1..=self.turn).find(is_ours)) == Some(self.turn)
        }
    }

    static ASKED: OnceLock<Interference> = OnceLock::new();
    static PID: AtomicU32 = AtomicU32::new(0);
    static COUNT: AtomicU64 = AtomicU64::new(0);

    /// Arranges the interference; only the first call counts.
    pub(crate) fn interfere(asked: Interference) {
        PID.store(std::process::id(), Ordering::SeqCst);
        let _ = ASKED.set(asked);
    }

    /// The interference with this process.
    fn asked() -> Option<&'static Interference> {
        ASKED.get().filter(|asked| asked.aim.as_ref().is_none_or(Aim::is_here))
    }

    /// The mount that a test wants every path to be on: one with bad locks cannot be made everywhere.
    pub(crate) fn pretended_mount() -> Option<String> {
        ASKED.get()?.mount.clone()
    }

    /// What belongs to a step beside its path.
    #[derive(Clone, Copy)]
    enum Detail<'a> {
        Nothing,
        Bytes(&'a [u8]),
        From(&'a Path, Target),
        Length(u64),
    }

    /// Counts a step that is about to be made.
    pub(crate) fn step(kind: Step, path: &Path) {
        let _ = count(kind, path, Detail::Nothing);
    }

    /// Counts a step that gives a file its name `to`.
    pub(crate) fn moved(kind: Step, from: &Path, to: &Path, target: Target) {
        let _ = count(kind, to, Detail::From(from, target));
    }

    /// Counts a step that cuts a file.
    pub(crate) fn cut(path: &Path, length: u64) {
        let _ = count(Step::Truncate, path, Detail::Length(length));
    }

    /// Counts a step; true if it is the one to fail.
    pub(crate) fn fails(kind: Step, path: &Path) -> bool {
        step(kind, path);
        asked().is_some_and(|asked| asked.fail_at == Some(COUNT.load(Ordering::SeqCst)))
    }

    /// Counts a step that writes; the part to write before death, if this is the one to tear.
    pub(crate) fn torn_write<'a>(kind: Step, path: &Path, bytes: &'a [u8]) -> Option<&'a [u8]> {
        count(kind, path, Detail::Bytes(bytes))
    }

    fn count<'a>(kind: Step, path: &Path, detail: Detail<'a>) -> Option<&'a [u8]> {
        let Some(asked) = asked() else {
            add_to_disk(kind, path, detail);
            return None;
        };
        let number = COUNT.fetch_add(1, Ordering::SeqCst).saturating_add(1);
        let bytes = if let Detail::Bytes(bytes) = detail { bytes } else { &[] };
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
        add_line(asked.trace.as_deref(), || {
            format!("{number}\t{kind:?}\t{}\t{}\n", bytes.len(), path.display())
        });
        add_to_disk(kind, path, detail);
        None
    }

    fn add_to_disk(kind: Step, path: &Path, detail: Detail<'_>) {
        add_line(ASKED.get().and_then(|asked| asked.disk.as_deref()), || {
            let detail = match detail {
                Detail::Nothing => String::new(),
                Detail::Bytes(bytes) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
                Detail::From(from, target) => format!("{}\t{target:?}", from.display()),
                Detail::Length(length) => length.to_string(),
            };
            format!("{kind:?}\t{}\t{detail}\n", path.display())
        });
    }

    /// By one write: several processes of a command share the file.
    fn add_line(file: Option<&Path>, line: impl FnOnce() -> String) {
        let Some(file) = file else { return };
        if let Ok(mut file) = File::options().create(true).append(true).open(file) {
            let _ = file.write_all(line().as_bytes());
        }
    }

    /// Ends this process as `kill -9` would.
    pub(crate) fn die() {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}
