//! The events of a run while it is worked on: a line each on standard error, or JSON Lines on standard output.
//!
//! A thread of its own follows the journal, because the worker does not wait for it. Hard rule: it changes nothing, and what it
//! cannot read it leaves out.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::cli::global::Global;
use crate::cli::{print, run_text};
use crate::clock::{self, Timestamp};
use crate::job::RunManifest;
use crate::store::journal::follow::Follower;
use crate::store::{Store, journal};
use crate::view::run::events::{self, RunEvent};
use crate::worker;

/// How long it rests between two looks.
const REST: Duration = Duration::from_millis(50);

/// Tells the events of a run until it is ended.
pub(super) struct Teller {
    ends: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Teller {
    /// Begins to tell what happens from now on.
    pub(super) fn start(store: &Store, manifest: RunManifest, since: Timestamp, how: How) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let (root, flag) = (store.root().to_path_buf(), ends.clone());
        let thread = std::thread::spawn(move || follow(&root, &manifest, since, how, &flag));
        Self { ends, thread }
    }

    /// Tells what has happened until now, and ends.
    pub(super) fn end(self) {
        self.ends.store(true, Ordering::SeqCst);
        let _ = self.thread.join();
    }
}

/// How events are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// As JSON Lines on standard output.
    Json,
    /// A line each on standard error.
    Lines,
    /// Not at all.
    Quiet,
}

fn follow(root: &Path, manifest: &RunManifest, since: Timestamp, how: How, ends: &AtomicBool) {
    let Ok(store) = Store::open_to_read(root) else { return };
    let Ok(mut follower) = Follower::start(&store, Some(since)) else { return };
    let mut teller = events::Teller::new(manifest);
    loop {
        // What was written before the end is still told.
        let is_last = ends.load(Ordering::SeqCst);
        let mut lines = Vec::new();
        if follower.more(&store, &mut |block| lines.extend(journal::parse(block))).is_err() {
            return;
        }
        for line in lines.iter().filter(|line| line.at >= since) {
            teller.tell(&store, line).iter().for_each(|event| tell(event, how));
        }
        if is_last {
            return;
        }
        clock::sleep(REST);
    }
}

fn tell(event: &RunEvent, how: How) {
    match how {
        How::Json => print::json_line(&serde_json::to_value(event).unwrap_or_default()),
        How::Lines => {
            print::note(&run_text::event(event));
        }
        How::Quiet => {}
    }
}

/// What only the worker knows.
pub(super) fn of_worker(event: &worker::Event<'_>, global: &Global) {
    let text = match event {
        worker::Event::Stopping(0) => "stopping".to_owned(),
        worker::Event::Stopping(_) => {
            "stopping: the running workstream ends first; signal again to interrupt it".to_owned()
        }
        worker::Event::Asked(_) => {
            "the running workstream was asked to stop; signal again to kill".to_owned()
        }
        worker::Event::Killed(_) => "the running workstream is killed".to_owned(),
        worker::Event::NotRun(id, reason) => format!("{id} was not run: {}", reason.message),
        worker::Event::Paused(why) => format!("starting nothing: {why}"),
        _ => return,
    };
    if !global.quiet {
        print::note(&text);
    }
}
