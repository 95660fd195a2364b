//! Following the journal: every line once, over rotations, as far back as asked.

use super::super::{Result, Store};
use super::read::{Part, Position, advance, glances, live_inode, open};
use crate::clock::Timestamp;

/// How much later than a line behind it a line can be: its writer waited for a sync in between.
pub(crate) const DISORDER: std::time::Duration = std::time::Duration::from_secs(2);

/// The position of a reader of the journal.
#[derive(Debug)]
pub(crate) struct Follower {
    parts: Vec<Part>,
    positions: Vec<Position>,
}

impl Follower {
    /// Before the first line, or before the first file that can hold a line of that time or later.
    pub(crate) fn start(store: &Store, since: Option<Timestamp>) -> Result<Self> {
        let parts = open(store)?;
        let mut positions = Vec::new();
        for part in &parts {
            let last = part.backward()?.block()?.and_then(|block| glances(&block).map(|line| line.at).max());
            if last.zip(since).is_some_and(|(last, since)| last.after(DISORDER) < since) {
                positions.push(part.end()?);
            }
        }
        Ok(Self { parts, positions })
    }

    /// Gives the lines that were written since the last time, by blocks of whole lines.
    pub(crate) fn more(&mut self, store: &Store, each: &mut dyn FnMut(&[u8])) -> Result<()> {
        if live_inode(store) != self.parts.last().map(|part| part.inode) {
            self.parts = open(store)?;
        }
        match advance(&self.parts, &self.positions, each)? {
            Ok(positions) => self.positions = positions,
            // Another journal was put there.
            Err(_) => self.positions.clear(),
        }
        Ok(())
    }
}
