//! Accepts a batch, one group of jobs after the other.
//!
//! Responsible for the groups, and for telling what became of each job in the order of the input. What is in a batch, and
//! whether it makes sense, is `batch`'s; how a group enters is `group`'s. Hard rule: nothing is told of a group before all of
//! it is durable.

use std::collections::{BTreeMap, BTreeSet};

use super::Result;
use super::batch::{Batch, Fate, IfExists, Refused, WhyNot};
use super::group::{Group, Stopped};
use crate::clock::Clock;
use crate::job::{Code, JobId, Place};
use crate::store::Store;

/// Jobs that share their syncs, each with an open record.
const LARGEST_GROUP: usize = 256;

/// Bytes of job files in a group, above which it is closed.
const HEAVIEST_GROUP: usize = 16 << 20;

/// Descriptors that are left to everything else.
const OTHER_DESCRIPTORS: u64 = 32;

/// How a batch is accepted.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// What happens to a job whose id is taken.
    pub if_exists: IfExists,
    /// What happens to the others when one is refused.
    pub if_refused: IfRefused,
}

/// What happens to the other jobs of a batch when one is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfRefused {
    /// They stay outside.
    Stop,
    /// They go in.
    GoOn,
}

/// What became of a document of the batch.
#[derive(Debug)]
pub enum Told {
    /// The job is durable in the queue, or was there before.
    In(Inside),
    /// It is not.
    Out(Refused),
}

/// A job that is accepted.
#[derive(Debug, Clone)]
pub struct Inside {
    /// Its id; of a reused job the id of the one that was there.
    pub id: JobId,
    /// Whether it is new.
    pub how: How,
    /// Where its file is.
    pub place: Place,
}

/// Whether an accepted job is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// It is.
    Accepted,
    /// A job of its id was there before.
    Skipped,
    /// A job of its key and content was there before.
    Reused,
}

/// Accepts what is left of a checked batch, group after group, and tells what became of each job once that is durable.
///
/// If one is refused only now, because another process was faster, and the others are not to go on, then its whole group
/// and what comes after it stays outside.
///
/// # Errors
/// Store errors: of the group in which it happened nothing is accepted, and nothing of it was told.
pub fn submit(
    batch: &mut Batch,
    store: &Store,
    clock: &dyn Clock,
    options: Options,
    tell: &mut dyn FnMut(Told),
) -> Result<()> {
    let twins: BTreeSet<usize> = batch.members.iter().filter_map(|member| twin_of(member.fate)).collect();
    let mut inside: BTreeMap<usize, Inside> = BTreeMap::new();
    let mut from = 0;
    while let Some(to) = end_of_group(batch, from) {
        let mut group = Group::new(store, clock, batch, options);
        group.enter(from..to)?;
        // The leases go before anything is told: who reads it may take his time.
        let (mut told, stopped) = group.into_told();
        for index in from..to {
            if let Some(first) = batch.members.get(index).and_then(|member| twin_of(member.fate)) {
                let twin = match inside.get(&first) {
                    Some(there) => Told::In(Inside { how: How::Reused, ..there.clone() }),
                    None => refused_with_its_first(batch, index, first)?,
                };
                told.insert(index, twin);
            }
            let Some(one) = told.remove(&index) else { continue };
            if let Told::In(new) = &one
                && twins.contains(&index)
            {
                inside.insert(index, new.clone());
            }
            tell(one);
        }
        if stopped == Stopped::Yes {
            return Ok(());
        }
        from = to;
    }
    Ok(())
}

/// A document with the key and content of an earlier one that stayed outside.
fn refused_with_its_first(batch: &mut Batch, index: usize, first: usize) -> Result<Told> {
    let of = batch.members.get(first).map_or_else(String::new, |member| format!(" `{}`", member.id));
    let message = format!("it has the key and content of{of}, which was refused");
    Ok(Told::Out(batch.refuse(index, WhyNot::new(Code::KeyRefused, "/key", message))?))
}

fn twin_of(fate: Fate) -> Option<usize> {
    match fate {
        Fate::SameAs(first) => Some(first),
        Fate::Goes | Fate::Refused => None,
    }
}

/// Where the group that begins at an index ends; `None` behind the last job.
fn end_of_group(batch: &Batch, from: usize) -> Option<usize> {
    let mut bytes = 0;
    let rest = batch.members.get(from..)?;
    let fits = rest.iter().take(largest_group()).take_while(|member| {
        bytes += member.span.length();
        bytes <= HEAVIEST_GROUP
    });
    let count = fits.count();
    (count > 0).then_some(from + count)
}

/// As many jobs as this process may hold records of open.
fn largest_group() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let left = limit.unwrap_or(u64::MAX).saturating_sub(OTHER_DESCRIPTORS);
    usize::try_from(left).unwrap_or(usize::MAX).clamp(1, LARGEST_GROUP)
}
