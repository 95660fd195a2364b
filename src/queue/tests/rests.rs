//! Jobs of any status without attempts, for the tests of what is at rest.

use crate::clock::Timestamp;
use crate::fs::{self, Create};
use crate::job::{JobId, Place, Status};
use crate::queue::attempt::next_line;
use crate::store::lease::Sync;
use crate::store::{Acquire, Lease, Store};

pub(in crate::queue) fn id(text: &str) -> JobId {
    JobId::new(text).unwrap()
}

/// Appends a line with this status; of a queued job the file is there, with these dependencies.
pub(in crate::queue) fn put(store: &Store, name: &str, status: Status, depends_on: &[&str]) {
    let id = id(name);
    if status == Status::Queued {
        let job = serde_json::json!({"job_id": name, "tool": "shell", "command": {"exe": "true"}, "depends_on": depends_on});
        fs::create_dir(&store.place_dir(&Place::Queued)).unwrap();
        fs::replace(&store.job_file(&Place::Queued, &id), job.to_string().as_bytes()).unwrap();
    }
    let Acquire::Held(mut lease) = Lease::acquire(store, &id, Create::IfMissing).unwrap() else { panic!() };
    let mut line = next_line(&lease, Timestamp::from_millis(0));
    line.status = status;
    lease.commit(store, line, Sync::Later).unwrap();
}
