//! Processes that a helper started and that left its process group.
//!
//! This process is their reaper, so once the helper has ended they are its children. Hard rule: a child that was there
//! before, or that another thread of this process started, is never signalled (see `kin`).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions};

use crate::clock::{self, Clock, SystemClock};
use crate::process::kin::Kin;
use crate::process::tree::{self, Sent};

/// The variable that every process of a helper carries.
pub(super) const MARK: &str = "ENGINE_HELPER";

static HELPERS: AtomicUsize = AtomicUsize::new(0);

/// What is known before a helper starts.
#[derive(Debug)]
pub(super) struct Orphans {
    mark: String,
    kin: Kin,
}

impl Orphans {
    /// Makes this process the reaper of what a helper leaves.
    #[must_use]
    pub(super) fn expect() -> Self {
        let own = rustix::process::getpid();
        let _ = rustix::process::set_child_subreaper(Some(own));
        let number = HELPERS.fetch_add(1, Ordering::Relaxed);
        let mark = format!("{}.{number}", own.as_raw_nonzero());
        let kin = Kin::before_the_start(vec![format!("{MARK}={mark}").into_bytes()]);
        Self { mark, kin }
    }

    /// The value of the variable.
    #[must_use]
    pub(super) fn mark(&self) -> &str {
        &self.mark
    }

    /// Kills and reaps what the helper, whose process is reaped, has left: until there is none, one is another user's, they
    /// cannot be seen, or the time is over.
    pub(super) fn end(mut self, leader: i32, at_most: Duration) {
        let clock = SystemClock::start();
        self.kin.started(leader);
        self.kin.reaped(leader);
        while tree::has_children() {
            if !is_single_threaded() {
                self.kin.beware();
            }
            let Ok(family) = self.kin.family() else { return };
            if (family.ours.is_empty() && family.dead.is_empty()) || clock.monotonic() > at_most {
                return;
            }
            for stat in family.ours.into_iter().chain(family.dead) {
                if tree::signal(&stat, Signal::KILL) == Sent::Denied {
                    return;
                }
                if let Some(pid) = Pid::from_raw(stat.pid) {
                    let _ = rustix::process::waitpid(Some(pid), WaitOptions::NOHANG);
                }
            }
            clock::sleep(Duration::from_millis(1));
        }
    }
}

fn is_single_threaded() -> bool {
    std::fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() == 1)
}
