//! The events of a run while it is worked on: a line each on standard error, below them a live line on a terminal; or JSON Lines
//! on standard output.
//!
//! A thread of its own follows the journal, because the worker does not wait for it. Hard rule: it changes nothing, and what it
//! cannot read it leaves out.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::live::Live;
use crate::cli::error::CliError;
use crate::cli::global::Global;
use crate::cli::print::{self, Reader};
use crate::cli::run_events::{self, Audience};
use crate::cli::run_text;
use crate::clock::{self, Timestamp};
use crate::job::{Code, JobId, RunManifest};
use crate::store::Store;
use crate::view::run::document::RunDocument;
use crate::view::run::events::RunEvent;
use crate::worker;

/// Tells the events of a run until it is ended.
pub(super) struct Teller {
    shared: Arc<Shared>,
    /// None of a run that is to be quiet.
    thread: Option<JoinHandle<()>>,
}

/// What the worker tells the thread.
#[derive(Default)]
struct Shared {
    ends: AtomicBool,
    waits_until: Mutex<Option<Timestamp>>,
}

impl Teller {
    /// Begins to tell what happens from now on.
    pub(super) fn start(store: &Store, manifest: RunManifest, since: Timestamp, how: How) -> Self {
        let shared = Arc::new(Shared::default());
        let (root, of_thread) = (store.root().to_path_buf(), shared.clone());
        let tell = move || follow(&root, &manifest, (since, how), &of_thread);
        Self { shared, thread: (how != How::Quiet).then(|| std::thread::spawn(tell)) }
    }

    /// Shows that nothing happens before a time; none once something does again.
    pub(super) fn waits(&self, until: Option<Timestamp>) {
        *self.shared.waits_until.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }

    /// Tells what has happened until now, and ends.
    pub(super) fn end(self) {
        self.shared.ends.store(true, Ordering::SeqCst);
        let _ = self.thread.map(JoinHandle::join);
        print::end_live();
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

fn follow(root: &Path, manifest: &RunManifest, (since, how): (Timestamp, How), shared: &Shared) {
    let Ok(store) = Store::open_to_read(root) else { return };
    let live = if how == How::Lines { Live::start(&store, &manifest.run_id) } else { None };
    let told = run_events::follow(&store, manifest, &mut Audible { store: &store, since, how, live, shared });
    if let Err(error) = told {
        tracing::debug!(?error, "the events of the run are not told any more");
    }
}

struct Audible<'a> {
    store: &'a Store,
    since: Timestamp,
    how: How,
    live: Option<Live>,
    shared: &'a Shared,
}

impl Audience for Audible<'_> {
    fn is_over(&mut self) -> Result<bool, CliError> {
        Ok(self.shared.ends.load(Ordering::SeqCst))
    }

    fn hear(&mut self, event: &RunEvent) -> Reader {
        // Of a former life: it was told then.
        if event.at < self.since {
            return Reader::There;
        }
        if let Some(live) = &mut self.live {
            live.hear(self.store, event);
        }
        match self.how {
            How::Json => print::json_line(event),
            How::Lines => print::note(&run_text::event(event)),
            How::Quiet => {}
        }
        Reader::There
    }

    fn rest(&mut self, time: Duration) -> Reader {
        if let Some(live) = &self.live {
            live.show(*self.shared.waits_until.lock().unwrap_or_else(PoisonError::into_inner));
        }
        clock::sleep(time);
        Reader::There
    }
}

/// What only the worker knows; `working` names the jobs that run.
pub(super) fn of_worker(event: &worker::Event<'_>, global: &Global, working: &dyn Fn() -> Vec<String>) {
    let text = match event {
        worker::Event::Stopping(0) => "stopping: nothing runs".to_owned(),
        worker::Event::Stopping(count) => {
            let (them, is_one) = named(*count, &working());
            let (end, it) = if is_one { ("ends", "it") } else { ("end", "them") };
            format!("stopping: {them} {end} first; signal again to interrupt {it}")
        }
        worker::Event::Asked(count) => {
            let (them, is_one) = named(*count, &working());
            let was = if is_one { "was" } else { "were" };
            format!("{them} {was} asked to stop; signal again to kill")
        }
        worker::Event::Killed(count) => {
            let (them, is_one) = named(*count, &working());
            format!("{them} {} killed", if is_one { "is" } else { "are" })
        }
        worker::Event::NotRun(id, reason) => format!("{id} was not run: {}", reason.message),
        worker::Event::Paused(why) => format!("starting nothing: {why}"),
        _ => return,
    };
    if !global.quiet {
        print::note(&text);
    }
}

/// The jobs that run, in words, and whether there is one alone. One that was just started may have no record of it yet.
fn named(count: usize, names: &[String]) -> (String, bool) {
    const MOST: usize = 5;
    if names.is_empty() {
        return (print::counted(count, "running job", "running jobs"), count == 1);
    }
    let (shown, more) = names.split_at(names.len().min(MOST));
    let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
    (format!("{}{more}", shown.join(", ")), names.len() == 1)
}

/// Says of each job once that a hold keeps it.
pub(super) fn of_holds(run: &RunDocument, told: &mut BTreeSet<JobId>, global: &Global) {
    let gates = run.gates.iter().map(|one| (&one.job_id, &one.reason));
    let workstreams = run.workstreams.iter().map(|one| (&one.job_id, &one.reason));
    let integration = run.integration.iter().map(|one| (&one.job_id, &one.reason));
    for (id, reason) in gates.chain(workstreams).chain(integration) {
        let hold = reason.as_ref().filter(|reason| reason.code == Code::WaitingHold);
        if let Some(hold) = hold.filter(|_| !global.quiet)
            && told.insert(id.clone())
        {
            print::note(&format!("{id} waits: {}", hold.message));
        }
    }
}
