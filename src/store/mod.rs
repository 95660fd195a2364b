//! The state store: a root directory, its records, journal and named locks.
//!
//! Responsible for the files below `state/` and for the layout of a root. Never starts a process. Hard rule:
//! a record is changed only through a `Lease`.

pub(crate) mod archive;
pub(crate) mod archived;
pub(crate) mod batch_sync;
pub(crate) mod boot;
pub(crate) mod brief;
pub(crate) mod cache;
pub(crate) mod config;
pub(crate) mod control;
pub(crate) mod counted;
mod error;
pub(crate) mod gc_lock;
mod handle;
pub(crate) mod hash;
pub(crate) mod identity;
pub(crate) mod journal;
pub(crate) mod keys;
pub(crate) mod lease;
mod line;
mod looked_up;
pub(crate) mod named_locks;
pub(crate) mod prices;
pub(crate) mod record;
mod records;
pub(crate) mod root;
pub(crate) mod run_dir;
pub(crate) mod runs;
pub(crate) mod spent;
pub(crate) mod steps;
pub(crate) mod usage;
pub(crate) mod version;
pub(crate) mod versions;

pub(crate) use config::{Config, Durability};
pub(crate) use error::{Distrust, Result, StoreError};
pub use handle::Store;
pub(crate) use handle::project_of;
pub(crate) use identity::Identity;
pub use lease::{Acquire, Lease};
pub(crate) use record::Record;

use error::{json_line, unless_stale};

#[cfg(test)]
pub(crate) mod testing {
    use super::{Store, root};

    /// A root in a directory of its own, which is gone when the first is dropped.
    pub(crate) fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("root");
        root::create(&path).unwrap();
        let store = Store::open_to_change(&path).unwrap();
        (dir, store)
    }
}
