//! Processes that a helper started and that left its process group.
//!
//! This process is their reaper, so once the helper has ended they are its children. Hard rule: a child that was there
//! before, or that another thread of this process started, is never signalled.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitOptions};

use crate::clock::{self, Clock, SystemClock};
use crate::process::tree::{self, Sent, Stat};

/// The variable that every process of a helper carries.
pub const MARK: &str = "ENGINE_HELPER";

static HELPERS: AtomicUsize = AtomicUsize::new(0);

/// What is known before a helper starts.
#[derive(Debug)]
pub struct Orphans {
    mark: String,
    strangers: Vec<i32>,
}

impl Orphans {
    /// Makes this process the reaper of what a helper leaves.
    #[must_use]
    pub fn expect() -> Self {
        let own = rustix::process::getpid();
        let _ = rustix::process::set_child_subreaper(Some(own));
        let number = HELPERS.fetch_add(1, Ordering::Relaxed);
        let strangers = match has_children() {
            true => children().into_iter().map(|stat| stat.pid).collect(),
            false => Vec::new(),
        };
        Self { mark: format!("{}.{number}", own.as_raw_nonzero()), strangers }
    }

    /// The value of the variable.
    #[must_use]
    pub fn mark(&self) -> &str {
        &self.mark
    }

    /// Kills and reaps them, until there are none, one is another user's, or the time is over.
    pub fn end(&self, at_most: Duration) {
        let clock = SystemClock::start();
        // One that is killed loses its environment before its own children become ours, so it is waited for.
        let mut killed: Vec<(i32, u64)> = Vec::new();
        while has_children() {
            let is_one = |stat: &Stat| killed.contains(&(stat.pid, stat.started)) || self.is_one(stat);
            let found: Vec<Stat> = children().into_iter().filter(is_one).collect();
            if found.is_empty() || clock.monotonic() > at_most {
                return;
            }
            for stat in found {
                if tree::signal(&stat, Signal::KILL) == Sent::Denied {
                    return;
                }
                if let Some(pid) = Pid::from_raw(stat.pid) {
                    let _ = rustix::process::waitpid(Some(pid), WaitOptions::NOHANG);
                }
                killed.push((stat.pid, stat.started));
            }
            clock::sleep(Duration::from_millis(1));
        }
    }

    fn is_one(&self, stat: &Stat) -> bool {
        if self.strangers.contains(&stat.pid) {
            return false;
        }
        let environment = std::fs::read(format!("/proc/{}/environ", stat.pid)).unwrap_or_default();
        let mark = format!("{MARK}={}", self.mark);
        // One with an emptied environment is known by its session, where no other thread can have started it.
        environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
            || (is_single_threaded() && tree::stat(own()).is_some_and(|own| own.session != stat.session))
    }
}

fn own() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}

fn is_single_threaded() -> bool {
    std::fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() == 1)
}

fn children() -> Vec<Stat> {
    let own = own();
    tree::all().into_iter().filter(|stat| stat.parent == own).collect()
}

/// Asks without reaping anything.
fn has_children() -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    rustix::process::waitid(WaitId::All, options).is_ok()
}
