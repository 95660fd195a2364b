//! Accepts a batch, one group of jobs after the other.
//!
//! Responsible for the groups, and for reporting the outcome of each job in the order of the input. `batch` checks the
//! content of a batch; `group` lets a group enter. Hard rule: nothing of a group is reported before all of it is durable.

pub(crate) mod answer;
pub(crate) mod batch;
pub(crate) mod dependencies;
pub(super) mod existing;
mod group;
pub(super) mod key;
pub(super) mod refusal;
mod spool;

use std::collections::{BTreeMap, BTreeSet};

use crate::clock::Clock;
use crate::job::Code;
use crate::queue::Result;
use crate::store::Store;
use answer::{AcceptedAs, AcceptedJob, Options, Submitted};
use batch::{Batch, Fate};
use group::{Group, Stopped};
use refusal::Refusal;

/// Jobs that share their syncs, each with an open record.
const LARGEST_GROUP: usize = 256;

/// Bytes of job files in a group, above which it is closed.
const HEAVIEST_GROUP: usize = 16 << 20;

/// Descriptors that are left to everything else.
const OTHER_DESCRIPTORS: u64 = 32;

/// Accepts the rest of a checked batch, group by group, and reports the outcome of each job once that is durable.
///
/// If one is refused only now, because another process was faster, and the others are not to go on, then its whole group
/// and what comes after it stays outside.
///
/// # Errors
/// Store errors: no job of the group in which it happened is accepted or reported.
pub(crate) fn submit(
    batch: &mut Batch,
    store: &Store,
    clock: &dyn Clock,
    options: Options,
    tell: &mut dyn FnMut(Submitted),
) -> Result<()> {
    let twins: BTreeSet<usize> = batch.members.iter().filter_map(|member| twin_of(member.fate)).collect();
    let mut inside: BTreeMap<usize, AcceptedJob> = BTreeMap::new();
    let mut from = 0;
    while let Some(to) = end_of_group(batch, from) {
        let mut group = Group::new(store, clock, batch, options);
        group.enter(from..to)?;
        // Release the leases before reporting: the reader may be slow.
        let (mut outcomes, stopped) = group.into_outcomes();
        for index in from..to {
            if let Some(first) = batch.members.get(index).and_then(|member| twin_of(member.fate)) {
                let twin = match inside.get(&first) {
                    Some(there) => {
                        Submitted::Accepted(AcceptedJob { accepted_as: AcceptedAs::Reused, ..there.clone() })
                    }
                    None => refused_with_its_first(batch, index, first)?,
                };
                outcomes.insert(index, twin);
            }
            let Some(one) = outcomes.remove(&index) else { continue };
            if let Submitted::Accepted(new) = &one
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

/// A document with the key and content of an earlier, refused one.
fn refused_with_its_first(batch: &mut Batch, index: usize, first: usize) -> Result<Submitted> {
    let of = batch.members.get(first).map_or_else(String::new, |member| format!(" `{}`", member.id));
    let message = format!("it has the key and content of{of}, which was refused");
    Ok(Submitted::Refused(batch.refuse(index, Refusal::new(Code::KeyRefused, "/key", message))?))
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
