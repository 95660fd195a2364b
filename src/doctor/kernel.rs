//! Checks what the kernel provides for jobs: terminals, the end of process trees, namespaces, limits.
//!
//! Starts no process. Each finding states its meaning in the terms of the contract.

use std::path::Path;

use rustix::process::{PidfdFlags, Resource};

use crate::doctor::finding::Finding;
use crate::process::left_over::{self, LeftOver};
use crate::process::pty;

/// Asks everything.
#[must_use]
pub(crate) fn kernel() -> Vec<Finding> {
    vec![terminal(), reaper(), death_signal(), pidfd(), processes(), namespace(), cgroup(), limits()]
}

fn terminal() -> Finding {
    match pty::open() {
        Ok(_) => Finding::ok("pty", "works", "jobs with `pty: true` get a terminal"),
        Err(error) => {
            let meaning = "jobs with `pty: true` are not started";
            Finding::warn("pty", format!("does not work: {error}"), meaning)
                .remedy("mount devpts at /dev/pts")
        }
    }
}

/// The attribute applies to this process only and ends with it.
fn reaper() -> Finding {
    match rustix::process::set_child_subreaper(Some(rustix::process::getpid())) {
        Ok(()) => Finding::ok("subreaper", "works", "when a job has ended, none of its processes is alive"),
        Err(error) => {
            let meaning =
                "orphans of a tool go to init; their marker finds them if they kept their environment";
            Finding::warn("subreaper", format!("does not work: {error}"), meaning)
        }
    }
}

fn death_signal() -> Finding {
    match rustix::process::parent_process_death_signal() {
        Ok(_) => Finding::ok("death_signal", "works", "a tool gets a signal when its runner is killed"),
        Err(error) => {
            let meaning = "a tool keeps running when its runner is killed, until recovery ends it";
            Finding::warn("death_signal", format!("does not work: {error}"), meaning)
        }
    }
}

fn pidfd() -> Finding {
    match rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty()) {
        Ok(_) => Finding::ok(
            "pidfd",
            "works",
            "signals reach the intended process, never a later one with the same pid",
        ),
        Err(error) => {
            let meaning = "processes of a dead attempt cannot be ended, and its job stays in place";
            Finding::fail("pidfd", format!("does not work: {error}"), meaning)
                .remedy("use Linux 5.3 or later")
        }
    }
}

/// Left-over processes are found by the marker in their environment.
fn processes() -> Finding {
    let meaning = "processes that outlive their runner are found by their environment and ended, before anything \
                   else happens to the job; not those that were started with `env -i` or as another user";
    if let Err(LeftOver::Unknown(why)) = left_over::check_proc() {
        let meaning =
            "processes that outlive their runner cannot be found, so recovery declares no attempt lost";
        return Finding::fail("proc", why, meaning).remedy("mount proc at /proc");
    }
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let hidden = table.lines().any(|line| line.contains(" - proc ") && line.contains("hidepid="));
    if hidden {
        return Finding::warn("proc", "other users' processes are hidden (hidepid)", meaning);
    }
    Finding::ok("proc", "environments can be read", meaning)
}

fn namespace() -> Finding {
    /// The number of the first pid namespace of every boot.
    const FIRST: &str = "pid:[4026531836]";
    let name =
        std::fs::read_link("/proc/self/ns/pid").map(|link| link.display().to_string()).unwrap_or_default();
    match name.as_str() {
        "" => {
            let meaning = "this process cannot judge whether a runner is dead: you declare it";
            Finding::warn("pid_namespace", "cannot be read", meaning)
        }
        FIRST => Finding::ok(
            "pid_namespace",
            "the machine's own",
            "recovery handles all jobs of this machine by itself",
        ),
        _ => {
            let meaning = "recovery acts alone on the jobs of this container; of another container it declares nothing \
                           lost: `engine recover --host-is-dead`";
            Finding::ok("pid_namespace", format!("a container's, {name}"), meaning)
        }
    }
}

/// The engine uses no group per job; the finding says whether it could.
fn cgroup() -> Finding {
    let meaning = "not needed: the process tree and markers track all processes";
    let text = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let Some(own) = text.lines().find_map(|line| line.strip_prefix("0::")) else {
        return Finding::ok("cgroup", "no cgroup v2", meaning);
    };
    let dir = Path::new("/sys/fs/cgroup").join(own.trim_start_matches('/'));
    let writable = rustix::fs::access(dir.join("cgroup.procs"), rustix::fs::Access::WRITE_OK).is_ok()
        && rustix::fs::access(&dir, rustix::fs::Access::WRITE_OK).is_ok();
    let shown = if writable { "v2, delegated to this user" } else { "v2, not delegated" };
    Finding::ok("cgroup", shown, meaning)
}

fn limits() -> Finding {
    const FILES: u64 = 256;
    const PROCESSES: u64 = 64;
    let files = rustix::process::getrlimit(Resource::Nofile).current;
    let processes = rustix::process::getrlimit(Resource::Nproc).current;
    let shown = |limit: Option<u64>| limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string());
    let found = format!("{} open files, {} processes", shown(files), shown(processes));
    let meaning = "a worker and `gc` keep files open for each job, and each job is at least two processes";
    if files.is_some_and(|most| most < FILES) || processes.is_some_and(|most| most < PROCESSES) {
        return Finding::warn("limits", found, meaning).remedy("ulimit -n 1024; ulimit -u unlimited");
    }
    Finding::ok("limits", found, meaning)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_answers_once() {
        let found = kernel();
        let names: std::collections::BTreeSet<&str> = found.iter().map(|finding| finding.check).collect();
        assert_eq!(names.len(), found.len());
    }
}
