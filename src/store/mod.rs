//! The state store: a root directory, its records, journal and named locks.
//!
//! Responsible for the files below `state/` and for the layout of a root. Never starts a process. Hard rule:
//! a record is changed only through a `Lease`.

pub mod archive;
pub mod archived;
pub mod batch_sync;
pub mod boot;
pub mod brief;
pub mod cache;
pub mod config;
pub mod control;
pub mod counted;
mod error;
pub mod gc_lock;
mod handle;
pub mod hash;
pub mod identity;
pub mod journal;
pub mod keys;
pub mod lease;
mod line;
mod looked_up;
pub mod named_locks;
pub mod prices;
pub mod record;
mod records;
pub mod root;
pub mod runs;
pub mod spent;
pub mod usage;
pub mod version;
pub mod versions;

pub use config::{Config, Durability};
pub use error::{Distrust, Result, StoreError};
pub use handle::{Store, project_of};
pub use identity::Identity;
pub use lease::{Acquire, Lease};
pub use looked_up::Retired;
pub use record::Record;

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
