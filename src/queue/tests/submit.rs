//! Submission of a batch: the outcome of each job, and the state left when one cannot enter.

use std::sync::Arc;

use super::Line::{Accepted, Empty, Ended, NoRecord, Retry, Started};
use super::*;
use crate::job::parse_job;
use crate::queue::door::Incoming;
use crate::queue::situation::is_taken;
use crate::queue::submit::answer::{AcceptedAs, AcceptedJob, IfExists, IfRefused, Options, Submitted};
use crate::queue::submit::batch::{Batch, Origin};
use crate::queue::submit::submit;
use crate::store::keys;

const REFUSE: Options = Options { if_exists: IfExists::Refuse, if_refused: IfRefused::Stop };

impl Root {
    /// A batch of these documents, none of which is refused for what is in it.
    fn batch(&self, documents: &[Value]) -> Batch {
        let mut batch = Batch::new(self.store.root());
        for (line, document) in documents.iter().enumerate() {
            let bytes = document.to_string().into_bytes();
            let parsed = parse_job(&bytes, "f").unwrap();
            let origin = Origin { file: Arc::from("f"), line: line + 1, column: 1 };
            // A duplicate is reported here and not again.
            let _ = batch.add(Incoming { job: &parsed.job, bytes: &bytes }, origin).unwrap();
        }
        batch
    }

    /// The outcome of each, in the order of the reports: `id`, `id skipped`, `id reused`, or `id: why`.
    fn submit(&self, batch: &mut Batch, options: Options) -> Vec<String> {
        let mut all = Vec::new();
        submit(batch, &self.store, &self.clock, options, &mut |outcomes| all.push(word(&outcomes))).unwrap();
        all
    }

    /// Checks a batch, and submits the rest of it.
    fn enter(&self, documents: &[Value], options: Options) -> Vec<String> {
        let mut batch = self.batch(documents);
        let refused = batch.check(Some(&self.store), options.if_exists).unwrap();
        let mut all: Vec<String> =
            refused.into_iter().map(|refused| word(&Submitted::Refused(refused))).collect();
        if all.is_empty() || options.if_refused == IfRefused::GoOn {
            all.extend(self.submit(&mut batch, options));
        }
        all
    }

    /// The names in `queued/` and `state/keys/`: where a batch leaves something.
    fn traces(&self) -> Vec<String> {
        let dirs = [self.store.place_dir(&Place::Queued), keys::dir(&self.store)];
        dirs.iter().flat_map(|dir| fs::names(dir).unwrap()).collect()
    }
}

fn word(outcomes: &Submitted) -> String {
    match outcomes {
        Submitted::Accepted(AcceptedJob { id, accepted_as: AcceptedAs::New, .. }) => id.to_string(),
        Submitted::Accepted(AcceptedJob { id, accepted_as: AcceptedAs::Skipped, .. }) => {
            format!("{id} skipped")
        }
        Submitted::Accepted(AcceptedJob { id, accepted_as: AcceptedAs::Reused, .. }) => {
            format!("{id} reused")
        }
        Submitted::Refused(refused) => {
            format!("{}: {}", refused.id.as_ref().map_or("?", JobId::as_str), refused.code)
        }
    }
}

fn job(name: &str, more: &Value) -> Value {
    document(&id(name), more)
}

#[test]
fn a_batch_of_any_size_enters_whole_and_is_reported_in_its_order() {
    for count in [1, 2, 256, 257] {
        let root = Root::new();
        // The ids are not in the order of the batch.
        let names: Vec<String> = (0..count).map(|n| format!("j{:03}", n * 7 % 1000)).collect();
        let documents: Vec<Value> = names.iter().map(|name| job(name, &json!({}))).collect();
        assert_eq!(root.enter(&documents, REFUSE), names, "{count}");
        for (place, name) in (0..).zip(&names) {
            let line = root.line_of(&id(name)).unwrap();
            let accepted = line.accepted.unwrap();
            assert_eq!((line.status, line.seq, accepted.place), (Status::Queued, 1, place), "{name}");
            assert_eq!(accepted.at, root.clock.now());
        }
        assert_eq!(root.traces().len(), count, "no temporary file is left");
        let outcomes = std::fs::read_to_string(root.store.state("events.jsonl")).unwrap();
        assert_eq!(outcomes.lines().count(), count);
    }
}

/// What becomes of a job, by what has its id: refused, or counted with `--skip-existing`. The same one asks for the same.
const TAKEN: [(Line, Files, [&str; 4]); 12] = [
    // refused: the same, another; skipped: the same, another
    (NoRecord, Files::None, ["a", "a", "a", "a"]),
    (Empty, Files::None, ["a", "a", "a", "a"]),
    (Accepted, Files::None, ["a", "a", "a", "a"]),
    (NoRecord, Files::Queued, ["a: id_queued", "a: id_queued", "a skipped", "a: id_changed"]),
    (Accepted, Files::Queued, ["a: id_queued", "a: id_queued", "a skipped", "a: id_changed"]),
    (Retry, Files::Queued, ["a: id_queued", "a: id_queued", "a skipped", "a: id_changed"]),
    (Retry, Files::Running, ["a: id_running", "a: id_running", "a skipped", "a: id_changed"]),
    (Started, Files::Running, ["a: id_running", "a: id_running", "a skipped", "a: id_changed"]),
    (Ended(Status::Succeeded), Files::None, ["a: id_taken", "a: id_taken", "a skipped", "a: id_changed"]),
    (Ended(Status::Failed), Files::None, ["a: id_taken", "a: id_taken", "a skipped", "a: id_changed"]),
    (Ended(Status::Canceled), Files::None, ["a: id_taken", "a: id_taken", "a skipped", "a: id_changed"]),
    (Ended(Status::Quarantined), Files::None, ["a: id_taken", "a: id_taken", "a skipped", "a: id_changed"]),
];

#[test]
fn an_id_that_is_taken_is_refused_or_counts_as_there_if_it_asks_for_the_same() {
    let root = Root::new();
    let mut number = 0;
    for (line, files, cells) in TAKEN {
        for (index, wanted) in cells.into_iter().enumerate() {
            let if_exists = if index < 2 { IfExists::Refuse } else { IfExists::Skip };
            let more = if index % 2 == 0 { json!({}) } else { json!({"priority": "low"}) };
            // As it looks before, and as it is found under the lease only.
            for checked in [true, false] {
                for if_refused in [IfRefused::Stop, IfRefused::GoOn] {
                    number += 1;
                    let (taken, free) = (format!("a{number}"), format!("b{number}"));
                    let at = format!("{line:?} {files:?} {more} {if_exists:?} {if_refused:?} {checked}");
                    taken_by(&root, &id(&taken), line, files);
                    assert_eq!(is_taken(&root.store, &id(&taken)).unwrap(), cells[0] != "a", "{at}");
                    let documents = [job(&taken, &more), job(&free, &json!({}))];
                    let options = Options { if_exists, if_refused };
                    let outcomes = match checked {
                        true => root.enter(&documents, options),
                        false => root.submit(&mut root.batch(&documents), options),
                    };
                    let first = wanted.replacen('a', &taken, 1);
                    let goes_on = !wanted.contains(':') || if_refused == IfRefused::GoOn;
                    let all = if goes_on { vec![first, free.clone()] } else { vec![first] };
                    assert_eq!(outcomes, all, "{at}");
                    assert_eq!(root.places_of(&id(&free)).len(), usize::from(goes_on), "{at}");
                    assert!(root.lease(&id(&free), Create::IfMissing).is_some(), "{at}: a lease is left");
                }
            }
        }
    }
    assert_eq!(number, 12 * 4 * 2 * 2);
    assert!(!root.traces().iter().any(|name| fs::is_temporary(name)));
}

/// Lets a job have an id: with this line of its record, and with these files beside the one of an ended job.
fn taken_by(root: &Root, id: &JobId, line: Line, files: Files) {
    root.record(id, line);
    let ended = root.line_of(id).filter(|line| line.status.is_terminal()).map(|line| line.place);
    for place in files.places().iter().chain(&ended) {
        root.put_job(place, id, &json!({}));
    }
}

/// A batch with a name, those that are refused, and those that go in.
type Row<'a> = (&'a str, Vec<Value>, &'a [&'a str], &'a [&'a str]);

#[test]
fn a_batch_that_contradicts_itself_is_refused_before_anything_goes_in() {
    let on = |name: &str, other: &str| job(name, &json!({"depends_on": [other]}));
    let key = |name: &str, more: &Value| with_key(name, "k", more);
    let table: [Row<'_>; 6] = [
        ("unknown", vec![on("a", "x"), job("b", &json!({}))], &["a: unknown_dependency"], &["b"]),
        (
            "behind it",
            vec![on("a", "b"), on("b", "x")],
            &["a: unknown_dependency", "b: unknown_dependency"],
            &[],
        ),
        (
            "circle",
            vec![on("a", "b"), on("b", "a"), job("c", &json!({}))],
            &["a: dependency_cycle", "b: dependency_cycle"],
            &["c"],
        ),
        ("later", vec![on("a", "b"), job("b", &json!({}))], &[], &["a", "b"]),
        ("one key", vec![key("a", &json!({})), key("b", &json!({}))], &[], &["a", "a reused"]),
        ("twice", vec![job("a", &json!({})), job("b", &json!({}))], &[], &["a", "b"]),
    ];
    for (name, documents, refused, inside) in table {
        let root = Root::new();
        let outcomes = root.enter(&documents, REFUSE);
        if refused.is_empty() {
            assert_eq!(outcomes, inside, "{name}");
            continue;
        }
        assert_eq!(outcomes, refused, "{name}");
        assert_eq!(root.traces(), [""; 0], "{name}");
        let go_on = Options { if_refused: IfRefused::GoOn, ..REFUSE };
        assert_eq!(root.enter(&documents, go_on), [refused, inside].concat(), "{name}");
    }
}

fn with_key(name: &str, key: &str, more: &Value) -> Value {
    let mut job = job(name, more);
    job["key"] = key.into();
    job
}

#[test]
fn a_key_is_of_one_job_wherever_that_is() {
    for line in [Accepted, Started, Retry, Ended(Status::Succeeded), Ended(Status::Quarantined)] {
        for (same, skip) in [(true, false), (false, false), (true, true), (false, true)] {
            let (root, at) = (Root::new(), format!("{line:?} {same} {skip}"));
            assert_eq!(root.enter(&[with_key("a", "k", &json!({}))], REFUSE), ["a"]);
            root.record(&id("a"), line);
            let place = root.line_of(&id("a")).unwrap().place;
            if place != Place::Queued {
                places::settle(&root.store, &id("a"), &Place::Queued, &place).unwrap();
            }
            let more = if same { json!({}) } else { json!({"priority": "low"}) };
            let if_exists = if skip { IfExists::Skip } else { IfExists::Refuse };
            let options = Options { if_exists, if_refused: IfRefused::Stop };
            let outcomes = root.enter(&[with_key("b", "k", &more)], options);
            assert_eq!(outcomes, [if same { "a reused" } else { "b: key_taken" }], "{at}");
            assert!(root.line_of(&id("b")).is_none() && root.places_of(&id("b")).is_empty(), "{at}");
            assert_eq!(root.enter(&[with_key("c", "other", &more)], options), ["c"], "{at}");
        }
    }
}

#[test]
fn a_group_that_cannot_come_in_leaves_nothing_and_can_be_repeated() {
    let documents: Vec<Value> =
        (0..20).map(|n| with_key(&format!("j{n}"), &format!("k{n}"), &json!({}))).collect();
    for taken in [0, 7, 19] {
        let root = Root::new();
        let mut batch = root.batch(&documents);
        assert!(batch.check(Some(&root.store), IfExists::Refuse).unwrap().is_empty());
        // Another process is faster with one of the ids.
        let faster = id(&format!("j{taken}"));
        root.put_job(&Place::Queued, &faster, &json!({"priority": "low"}));
        assert_eq!(root.submit(&mut batch, REFUSE), [format!("j{taken}: id_queued")]);
        assert_eq!(root.traces(), [format!("j{taken}.json")], "files, keys and temporary files are gone");
        for n in 0..documents.len() {
            let id = id(&format!("j{n}"));
            assert!(root.line_of(&id).is_none(), "{id}");
            assert!(root.lease(&id, Create::IfMissing).is_some(), "{id}: a lease is left");
        }
        fs::remove(&root.store.job_file(&Place::Queued, &faster)).unwrap();
        assert_eq!(root.enter(&documents, REFUSE).len(), documents.len());
    }
}

#[test]
fn of_a_batch_in_groups_what_went_in_before_a_refusal_stays() {
    let root = Root::new();
    let names: Vec<String> = (0..300).map(|n| format!("j{n:03}")).collect();
    let documents: Vec<Value> = names.iter().map(|name| job(name, &json!({}))).collect();
    let mut batch = root.batch(&documents);
    root.put_job(&Place::Queued, &id("j299"), &json!({"priority": "low"}));
    let outcomes = root.submit(&mut batch, REFUSE);
    assert_eq!(outcomes[..256], names[..256]);
    assert_eq!(outcomes[256..], ["j299: id_queued"]);
    assert_eq!(root.traces().len(), 257);
    // The whole batch again, as after a crash: existing jobs count, and the rest enters.
    fs::remove(&root.store.job_file(&Place::Queued, &id("j299"))).unwrap();
    let skip = Options { if_exists: IfExists::Skip, ..REFUSE };
    let outcomes = root.enter(&documents, skip);
    assert_eq!(outcomes.iter().filter(|word| word.ends_with(" skipped")).count(), 256);
    assert_eq!(root.traces().len(), 300);
}

#[test]
fn a_failure_of_the_disk_accepts_nothing_and_tells_nothing() {
    let documents = [with_key("a", "k", &json!({})), job("b", &json!({}))];
    let root = Root::new();
    let queued = root.store.place_dir(&Place::Queued);
    fs::remove_empty_dir(&queued).unwrap();
    drop(fs::create_new(&queued, b"no directory").unwrap());
    let mut batch = root.batch(&documents);
    let failed = submit(&mut batch, &root.store, &root.clock, REFUSE, &mut |outcomes| panic!("{outcomes:?}"));
    assert!(failed.is_err());
    assert_eq!(fs::names(&keys::dir(&root.store)).unwrap(), [""; 0], "its key is given back");
    fs::remove(&queued).unwrap();
    fs::create_dir(&queued).unwrap();
    assert_eq!(root.enter(&documents, REFUSE), ["a", "b"]);
}

/// The real clock lets a submitter wait for another for five seconds; here each look takes one.
struct HastyClock(std::cell::Cell<u64>);

impl Clock for HastyClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(0)
    }
    fn monotonic(&self) -> Duration {
        self.0.set(self.0.get() + 1);
        Duration::from_secs(self.0.get())
    }
}

#[test]
fn a_stopped_submitter_is_waited_for_once_and_its_ids_are_refused() {
    let root = Root::new();
    let names = ["a", "b", "c", "d"];
    let held: Vec<_> =
        names[..3].iter().map(|name| root.lease(&id(name), Create::IfMissing).unwrap()).collect();
    let documents = names.map(|name| job(name, &json!({})));
    let clock = HastyClock(std::cell::Cell::new(0));
    let options = Options { if_refused: IfRefused::GoOn, ..REFUSE };
    let mut outcomes = Vec::new();
    let mut batch = root.batch(&documents);
    submit(&mut batch, &root.store, &clock, options, &mut |one| outcomes.push(word(&one))).unwrap();
    assert_eq!(outcomes, ["a: id_busy", "b: id_busy", "c: id_busy", "d"]);
    drop(held);
    assert_eq!(root.enter(&documents[..3], REFUSE), names[..3]);
}
