//! Reports changes in a few directories: by inotify where it works, else not at all.
//!
//! Not responsible for being complete: a network file system does not tell what another machine does, and a queue of the
//! kernel may overflow. Hard rule: a caller that waits for a change also looks by itself now and then.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

use crate::clock::timespec;

/// A watch on directories.
#[derive(Debug)]
pub(crate) struct Watch {
    fd: Option<OwnedFd>,
    /// The kernel's numbers of the directories, in the order they were named.
    numbers: Vec<i32>,
}

/// What has changed since the last time that it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Changes {
    /// These names appeared or were written, each with the index of its directory.
    Names(Vec<(usize, String)>),
    /// The kernel lost count: anything may have changed.
    Unknown,
}

/// The changes of a directory to watch for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum For {
    /// Names that appear or go, and files that are written: also a close after no write.
    Names,
    /// Content that changes; a file opened for writing and not changed is not reported.
    Content,
}

impl Watch {
    /// Watches directories for names that appear or files that are written.
    #[must_use]
    pub(crate) fn new(directories: &[&Path]) -> Self {
        let all: Vec<(&Path, For)> = directories.iter().map(|path| (*path, For::Names)).collect();
        Self::for_events(&all)
    }

    /// Watches each directory for its own kind of change.
    #[must_use]
    pub(crate) fn for_events(directories: &[(&Path, For)]) -> Self {
        Self::start(directories).unwrap_or_else(|error| {
            tracing::debug!(%error, "no inotify: changes are looked for");
            Self { fd: None, numbers: Vec::new() }
        })
    }

    fn start(directories: &[(&Path, For)]) -> Result<Self, Errno> {
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let names = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::CLOSE_WRITE | WatchFlags::DELETE;
        let add = |(path, what): &(&Path, For)| {
            let flags = if *what == For::Names { names | WatchFlags::MODIFY } else { WatchFlags::MODIFY };
            inotify::add_watch(&fd, *path, flags | WatchFlags::ONLYDIR)
        };
        let numbers = directories.iter().map(add).collect::<Result<_, _>>()?;
        Ok(Self { fd: Some(fd), numbers })
    }

    /// True if changes on this machine are reported.
    #[must_use]
    pub(crate) fn works(&self) -> bool {
        self.fd.is_some()
    }

    /// What to wait on; readable when something has changed.
    #[must_use]
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.fd.as_ref().map(AsFd::as_fd)
    }

    /// Takes what has changed, without waiting.
    #[must_use]
    pub(crate) fn drain(&self) -> Changes {
        let mut names = Vec::new();
        let Some(fd) = &self.fd else { return Changes::Names(names) };
        let mut buffer = [std::mem::MaybeUninit::uninit(); 16 << 10];
        let mut reader = inotify::Reader::new(fd, &mut buffer);
        while let Ok(event) = reader.next() {
            if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                return Changes::Unknown;
            }
            let directory = self.numbers.iter().position(|number| *number == event.wd());
            let name = event.file_name().and_then(|name| name.to_str().ok());
            if let (Some(directory), Some(name)) = (directory, name) {
                names.push((directory, name.to_owned()));
            }
        }
        Changes::Names(names)
    }

    /// Sleeps until a change is reported, or the time is over; the caller looks to find out which.
    pub(crate) fn wait(&self, at_most: Duration) {
        let mut fds: Vec<PollFd<'_>> = self.fd.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
        let _ = poll(&mut fds, Some(&timespec(at_most)));
    }

    /// How long until everything is looked at again, given how long the last look took, whether it showed a change, and the
    /// pause before it: a second where changes are reported, else from 20 milliseconds up to that. Looking takes 2 % of a
    /// processor at most.
    #[must_use]
    pub(crate) fn pause(&self, look_took: Duration, changed: bool, before: Duration) -> Duration {
        const SHORTEST: Duration = Duration::from_millis(20);
        const LONGEST: Duration = Duration::from_secs(1);
        const SHARE: u32 = 50;
        let pause = match (self.works(), changed) {
            (true, _) => LONGEST,
            (false, true) => SHORTEST,
            (false, false) => (before * 2).clamp(SHORTEST, LONGEST),
        };
        pause.max(look_took * SHARE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs;

    #[test]
    fn what_appears_under_its_name_is_told_with_its_directory() {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let watch = Watch::new(&[dirs[0].path(), dirs[1].path()]);
        assert!(watch.works());
        assert_eq!(watch.drain(), Changes::Names(Vec::new()));
        let hidden = dirs[0].path().join(".t");
        drop(fs::create_new(&hidden, b"x").unwrap());
        fs::rename_noreplace(&hidden, &dirs[1].path().join("job.json")).unwrap();
        let Changes::Names(names) = watch.drain() else { panic!("overflow") };
        assert!(names.contains(&(1, "job.json".to_owned())), "{names:?}");
        assert_eq!(watch.drain(), Changes::Names(Vec::new()));
    }

    #[test]
    fn who_opens_a_lock_and_changes_nothing_is_not_told_where_only_content_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gpu.0");
        drop(fs::create_new(&path, b"holder").unwrap());
        let watch = Watch::for_events(&[(dir.path(), For::Content)]);
        let file = fs::open_append(&path, fs::Create::IfMissing).unwrap();
        drop(file);
        assert_eq!(watch.drain(), Changes::Names(Vec::new()));
        let file = fs::open_append(&path, fs::Create::No).unwrap();
        fs::truncate(&file, &path, 0).unwrap();
        assert_eq!(watch.drain(), Changes::Names(vec![(0, "gpu.0".to_owned())]));
    }

    #[test]
    fn a_directory_that_is_not_there_leaves_a_watch_that_tells_nothing() {
        let watch = Watch::new(&[Path::new("/does/not/exist")]);
        assert!(!watch.works() && watch.fd().is_none());
        assert_eq!(watch.drain(), Changes::Names(Vec::new()));
        watch.wait(Duration::from_millis(1));
    }

    #[test]
    fn what_nobody_tells_is_looked_for_at_once_after_a_change_and_then_more_and_more_rarely() {
        let watch = Watch::new(&[Path::new("/does/not/exist")]);
        let pauses: Vec<u128> = (0..8)
            .scan(Duration::ZERO, |pause, look| {
                *pause = watch.pause(Duration::ZERO, look == 0, *pause);
                Some(pause.as_millis())
            })
            .collect();
        assert_eq!(pauses, [20, 40, 80, 160, 320, 640, 1000, 1000]);
        let slow = Duration::from_millis(100);
        assert_eq!(watch.pause(slow, true, Duration::ZERO), Duration::from_secs(5));
    }
}
