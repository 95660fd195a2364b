//! Tells the processes of a job, or of a helper, from the other children of this process, and ends them.
//!
//! If this process had no child before, each new child is theirs. Else (a shell that left children of its own became the
//! engine; this process is the init of a container, to which every orphan comes) only that counts which carries their mark, is
//! in the session of the first one, or descends from such a process or from one that was seen before. That leaves out a daemon
//! that gave up both the mark and the session, and whose parent was gone before it was seen. Hard rule: a child that was there
//! before, and what comes of it, is never signalled.

use std::collections::HashSet;
use std::io;

use rustix::process::{Pid, Signal};

use super::left_over;
use super::tree::{self, Sent, Stat};

/// The processes of one job or helper.
#[derive(Debug)]
pub(crate) struct Kin {
    strangers: Vec<i32>,
    all_are_ours: bool,
    first: Option<i32>,
    first_is_gone: bool,
    mark: Vec<Vec<u8>>,
    known: Vec<(i32, u64)>,
    keep: Vec<String>,
    kept: Vec<(i32, u64)>,
}

/// The processes below this one.
#[derive(Debug, Default)]
pub(crate) struct Family {
    /// Those that live and descend from the job's tool, without the kept ones.
    pub ours: Vec<Stat>,
    /// Those that live and may outlive the job.
    pub kept: Vec<Stat>,
    /// Those children among them that are dead and not yet reaped.
    pub dead: Vec<Stat>,
    /// How many children of this process are none of the job's: its shell's, from before, or orphans of those.
    pub bystanders: usize,
}

impl Kin {
    /// Looks at the children of before. Every process to come carries one of the `NAME=value` of `mark`.
    #[must_use]
    pub(crate) fn before_the_start(mark: Vec<Vec<u8>>) -> Self {
        let own = tree::own_pid();
        let (none, children) = match tree::has_children() {
            false => (true, Ok(Vec::new())),
            true => (false, tree::all()),
        };
        let children = children.unwrap_or_default().into_iter().filter(|stat| stat.parent == own);
        Self {
            strangers: children.map(|stat| stat.pid).collect(),
            all_are_ours: none && own != 1,
            first: None,
            first_is_gone: false,
            mark,
            known: Vec::new(),
            keep: Vec::new(),
            kept: Vec::new(),
        }
    }

    /// Says which executables, by their file names, may outlive the job, with what they start; the tool itself may not.
    #[must_use]
    pub(crate) fn keeping(self, keep: Vec<String>) -> Self {
        Self { keep, ..self }
    }

    /// True if something may outlive the job.
    #[must_use]
    pub(crate) fn keeps(&self) -> bool {
        !self.keep.is_empty()
    }

    /// Says which process was started: it leads a session of its own.
    pub(crate) fn started(&mut self, first: i32) {
        self.first = Some(first);
    }

    /// True if each new child is to end: it is ours, and none is kept.
    #[must_use]
    pub(crate) fn all_are_to_end(&self) -> bool {
        self.all_are_ours && !self.keeps()
    }

    /// From now on others may come among the children.
    pub(crate) fn beware(&mut self) {
        self.all_are_ours = false;
    }

    /// Notes that a child was reaped: its pid may be another's now. True if it was there before.
    pub(crate) fn reaped(&mut self, pid: i32) -> bool {
        self.first_is_gone |= self.first == Some(pid);
        let before = self.strangers.len();
        self.strangers.retain(|stranger| *stranger != pid);
        self.strangers.len() < before
    }

    /// Looks at the processes below this one.
    pub(crate) fn family(&mut self) -> io::Result<Family> {
        let rest = tree::all()?;
        let own = tree::own_pid();
        let session = rest.iter().find(|stat| stat.pid == own).map_or(0, |stat| stat.session);
        // The session of the first one cannot get its number again while it has a member, except with a leader.
        let session_is_ours = !self.first_is_gone || rest.iter().all(|stat| Some(stat.pid) != self.first);
        let (children, mut rest): (Vec<Stat>, Vec<Stat>) =
            rest.into_iter().partition(|stat| stat.parent == own);
        let mut family = Family::default();
        for child in children {
            match (self.is_ours(&child, session, session_is_ours)?, child.is_dead()) {
                (true, false) => family.ours.push(child),
                (true, true) => family.dead.push(child),
                (false, false) => family.bystanders += 1,
                (false, true) => {}
            }
        }
        rest.retain(|stat| !stat.is_dead());
        let mut parents: Vec<i32> = family.ours.iter().map(|stat| stat.pid).collect();
        while !parents.is_empty() {
            let (children, others): (Vec<Stat>, Vec<Stat>) =
                rest.into_iter().partition(|stat| parents.contains(&stat.parent));
            rest = others;
            parents = children.iter().map(|stat| stat.pid).collect();
            family.ours.extend(children);
        }
        self.known = family.ours.iter().map(Stat::key).collect();
        (family.kept, family.ours) = self.set_apart(family.ours);
        Ok(family)
    }

    /// As `family`, looked at again while it is empty and the machine starts processes: one that is forked behind a walk, into a
    /// lower pid, is not seen by it.
    pub(crate) fn family_proved(&mut self) -> io::Result<Family> {
        const WALKS: u32 = 5;
        let mut family = Family::default();
        for _ in 0..WALKS {
            let before = left_over::forks();
            family = self.family()?;
            if !family.ours.is_empty() || before == left_over::forks() {
                break;
            }
        }
        Ok(family)
    }

    /// Those that are kept: by their names, by a parent that is, or because they were before. And the others.
    fn set_apart(&mut self, ours: Vec<Stat>) -> (Vec<Stat>, Vec<Stat>) {
        if !self.keeps() {
            return (Vec::new(), ours);
        }
        let (mut kept, mut rest): (Vec<Stat>, Vec<Stat>) = ours.into_iter().partition(|process| {
            let may_be = Some(process.pid) != self.first || self.first_is_gone;
            may_be && (self.kept.contains(&process.key()) || self.is_named(process.pid))
        });
        loop {
            let (children, others): (Vec<Stat>, Vec<Stat>) =
                rest.into_iter().partition(|process| kept.iter().any(|parent| parent.pid == process.parent));
            rest = others;
            if children.is_empty() {
                break;
            }
            kept.extend(children);
        }
        self.kept = kept.iter().map(Stat::key).collect();
        (kept, rest)
    }

    fn is_named(&self, pid: i32) -> bool {
        tree::executable(pid).is_some_and(|executable| self.keep.contains(&executable))
    }

    /// Kills the children that are ours, each with its group, the newest first; gives their pids.
    ///
    /// It needs no walk through the process table, so what forks and exits within a millisecond is met all the same. None of
    /// them can be another process by now, for nothing has waited for them.
    pub(crate) fn kill_children(&self, killed_groups: &mut HashSet<Pid>) -> Vec<i32> {
        let own_session = tree::session_of(None);
        let session_is_ours = self.all_are_ours
            || !self.first_is_gone
            || self.first.is_none_or(|first| tree::stat(first).is_none());
        let proves = |child: Stat| self.is_ours(&child, own_session, session_is_ours);
        let is_ours = |pid: i32| {
            self.all_are_ours || tree::stat(pid).is_some_and(|child| proves(child).unwrap_or(false))
        };
        let mut killed = Vec::new();
        for child in tree::children().into_iter().rev().filter(|child| is_ours(*child)) {
            if let Some(pid) = Pid::from_raw(child) {
                let _ = rustix::process::kill_process(pid, Signal::KILL);
                tree::kill_group_of(pid, killed_groups);
            }
            killed.push(child);
        }
        killed
    }

    /// Whether a child is ours. The first one makes a session of its own, so what is in that of this process is not.
    fn is_ours(&self, child: &Stat, own_session: i32, session_is_ours: bool) -> io::Result<bool> {
        if self.strangers.contains(&child.pid) || child.session == own_session {
            return Ok(false);
        }
        let is_known = self.all_are_ours
            || self.known.contains(&child.key())
            || (session_is_ours && Some(child.session) == self.first);
        Ok(is_known || (!child.is_dead() && tree::carries(child.pid, &self.mark)?))
    }
}

/// Stops all descendants until no new one appears, so that none can fork away, as long as there is time and they can be seen;
/// gives those that were not stopped before.
pub(crate) fn stop_descendants(kin: &mut Kin, has_time: &dyn Fn() -> bool) -> Vec<Stat> {
    const SWEEPS: usize = 50;
    let mut seen: Vec<(i32, u64)> = Vec::new();
    let mut stopped = Vec::new();
    for _ in 0..SWEEPS {
        let Ok(mut family) = kin.family() else { break };
        family.ours.retain(|stat| !seen.contains(&stat.key()));
        if family.ours.is_empty() || !has_time() {
            break;
        }
        for process in family.ours {
            seen.push(process.key());
            if tree::signal(&process, Signal::STOP) == Sent::Yes && process.state != 'T' {
                stopped.push(process);
            }
        }
    }
    stopped
}

/// Kills all descendants, and returns the ones that belong to another user.
///
/// # Errors
/// If they cannot be seen.
pub(crate) fn kill_descendants(kin: &mut Kin, has_time: &dyn Fn() -> bool) -> io::Result<Vec<Stat>> {
    let _ = stop_descendants(kin, has_time);
    let all = kin.family()?.ours;
    Ok(all.into_iter().filter(|process| tree::signal(process, Signal::KILL) == Sent::Denied).collect())
}
