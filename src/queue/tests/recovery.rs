//! What recovery makes of each state that a crash can leave.

use super::Line::{Accepted, Empty, Ended, NoRecord, Requeued, Retry, Started, StartedAgain};
use super::*;
use crate::job::Place::{Done, Quarantined, Queued, Running};
use crate::queue::recovery::{Again, Options, Recovered, recover_all, recover_one};
use crate::queue::situation::look;
use crate::store::control::{self, AttemptId};

/// What was done, in a word.
fn word(done: &Recovered) -> String {
    done.as_str().replace('_', " ")
}

impl Root {
    fn recover_with(&self, id: &JobId, options: &Options) -> Recovered {
        recover_one(&self.store, &self.clock, id, options, &mut |_| Ok(())).unwrap()
    }

    fn recover(&self, id: &JobId) -> Recovered {
        self.recover_with(id, &Options::default())
    }

    /// What holds of a job after its recovery, whatever was done.
    #[track_caller]
    fn is_recovered(&self, id: &JobId, at: &str) {
        let before = self.snapshot();
        assert_eq!(word(&self.recover(id)), "healthy", "{at}: recovered twice");
        assert!(self.snapshot() == before, "{at}: a healthy job is changed");
        let Some(line) = self.line_of(id) else { return };
        assert!(line.open_attempt().is_none() && line.status != Status::Running, "{at}: {line:?}");
        let own = self.places_of(id);
        assert!(own.is_empty() || own == [line.place], "{at}: {own:?}");
    }
}

/// What is done, by the files of the job, and the status of its record afterwards.
const TABLE: [(Line, [&str; 4], Option<Status>); 11] = [
    (NoRecord, ["healthy", "healthy", "lost", "lost"], None),
    (Empty, ["healthy", "healthy", "lost", "lost"], None),
    (Accepted, ["healthy", "healthy", "lost", "lost"], Some(Status::Queued)),
    (Requeued, ["quarantined", "healthy", "moved", "moved"], Some(Status::Queued)),
    (Retry, ["quarantined", "healthy", "moved", "moved"], Some(Status::Queued)),
    (Started, ["lost", "lost", "lost", "lost"], None),
    (StartedAgain, ["lost", "lost", "lost", "lost"], None),
    (Ended(Status::Succeeded), ["healthy", "moved", "moved", "moved"], Some(Status::Succeeded)),
    (Ended(Status::Failed), ["healthy", "moved", "moved", "moved"], Some(Status::Failed)),
    (Ended(Status::Canceled), ["healthy", "moved", "moved", "moved"], Some(Status::Canceled)),
    (Ended(Status::Quarantined), ["healthy", "moved", "moved", "moved"], Some(Status::Quarantined)),
];

#[test]
fn each_state_is_brought_to_where_its_record_says_and_stays_there() {
    let root = Root::new();
    for (row, (line, cells, kept)) in TABLE.into_iter().enumerate() {
        for (files, wanted) in ALL_FILES.into_iter().zip(cells) {
            let (id, at) = (id(&format!("j{row}-{files:?}")), format!("{line:?}, {files:?}"));
            root.record(&id, line);
            for place in files.places() {
                root.put_job(place, &id, &json!({}));
            }
            let held = root.lease(&id, Create::No);
            if held.is_some() {
                assert_eq!(word(&root.recover(&id)), "alive", "{at}");
            }
            drop(held);
            let is_start = matches!(line, NoRecord | Empty | Accepted) && wanted == "lost";
            let situation = look(&root.store, &id).unwrap().0;
            assert_eq!(situation.is_move_missing(), wanted == "moved" || is_start, "{at}");
            assert_eq!(word(&root.recover(&id)), wanted, "{at}");
            let status = root.line_of(&id).map(|line| line.status);
            match wanted {
                "lost" | "quarantined" => assert_eq!(status, Some(Status::Quarantined), "{at}"),
                _ => assert_eq!(status, kept, "{at}"),
            }
            if (wanted, files) == ("lost", Files::Both) {
                assert_eq!(word(&root.recover(&id)), "moved", "{at}: one file at a time");
            }
            root.is_recovered(&id, &at);
        }
    }
}

#[test]
fn a_second_file_of_a_job_is_put_aside_and_never_lost() {
    let root = Root::new();
    let id = id("a");
    root.record(&id, Ended(Status::Succeeded));
    root.put_job(&Queued, &id, &json!({"priority": "low"}));
    root.put_job(&Running, &id, &json!({"priority": "high"}));
    assert_eq!(root.recover(&id), Recovered::Moved(root.done()));
    assert_eq!(root.places_of(&id), [root.done()]);
    let aside = fs::names(&root.store.place_dir(&Quarantined)).unwrap();
    let text = |path: &std::path::Path| std::fs::read_to_string(path).unwrap();
    let texts: String =
        aside.iter().map(|name| text(&root.store.place_dir(&Quarantined).join(name))).collect();
    let all = texts + &text(&root.store.job_file(&root.done(), &id));
    assert!(all.contains("low") && all.contains("high"), "{aside:?}: {all}");
}

/// Each way in which an attempt may have been left: 2 × 3 × 3 × 3 × 2 × 2 of them.
#[test]
fn a_lost_attempt_is_made_again_only_if_it_is_repeatable_and_neither_poison_nor_canceled() {
    let root = Root::new();
    let mut number = 0;
    for manifest in [false, true] {
        for crashes in 0..3 {
            for files in [Files::None, Files::Queued, Files::Running] {
                for wish in [None, Some("requeue"), Some("quarantine")] {
                    for again in [Again::IfRepeatable, Again::Never] {
                        for canceled in [false, true] {
                            number += 1;
                            let id = id(&format!("j{number}"));
                            let at = format!("{manifest} {crashes} {files:?} {wish:?} {again:?} {canceled}");
                            left(&root, &id, (manifest, crashes), files, wish);
                            if canceled {
                                let target = AttemptId::open_or_next(root.line_of(&id).as_ref());
                                control::request_cancel(&root.store, &id, target, root.clock.now()).unwrap();
                            }
                            let repeatable = wish.map_or(manifest, |wish| wish == "requeue");
                            let is_again = repeatable
                                && crashes < 2
                                && files != Files::None
                                && again == Again::IfRepeatable;
                            let wanted = match (canceled, is_again) {
                                (true, _) => Recovered::Canceled(root.done()),
                                (false, true) => Recovered::Lost(Queued),
                                (false, false) => Recovered::Lost(Quarantined),
                            };
                            let options = Options { again, ..Options::default() };
                            assert_eq!(root.recover_with(&id, &options), wanted, "{at}");
                            let line = root.line_of(&id).unwrap();
                            let last = line.attempts.last().unwrap();
                            assert_eq!(last.outcome, Some(Outcome::Lost), "{at}");
                            assert_eq!(
                                (last.ended_at, line.count(Outcome::Lost)),
                                (Some(line.at), crashes + 1)
                            );
                            assert_eq!(line.result.unwrap().outcome, Outcome::Lost, "{at}");
                            assert_eq!(root.places_of(&id).len(), usize::from(files != Files::None), "{at}");
                            assert!(control::cancel_request(&root.store, &id).is_none(), "{at}");
                        }
                    }
                }
            }
        }
    }
    assert_eq!(number, 216);
    // All of it once more: there is nothing left to do.
    let report =
        recover_all(&root.store, &root.clock, &Options::default(), &mut |_| panic!("nothing runs")).unwrap();
    assert!(report.jobs.is_empty() && report.failed.is_empty() && report.is_complete(), "{report:?}");
}

/// An open attempt behind so many crashes, of a job whose adapter and file say whether it may be repeated.
fn left(root: &Root, id: &JobId, (repeatable, crashes): (bool, usize), files: Files, wish: Option<&str>) {
    let mut attempts = root.attempts(&[vec![Some(Outcome::Lost); crashes], vec![None]].concat());
    for attempt in &mut attempts {
        attempt.repeatable = repeatable;
    }
    root.write(id, |line| {
        (line.status, line.place, line.attempts) = (Status::Running, Running, attempts);
    });
    for place in files.places() {
        root.put_job(place, id, &wish.map_or(json!({}), |wish| json!({"on_crash": wish})));
    }
}

#[test]
fn an_attempt_is_judged_only_where_its_runner_can_be_and_else_nothing_is_changed() {
    let names = ["host", "boot_id", "pid_namespace"];
    // Of host, boot and namespace those that are not ours; then what this process does not know of itself.
    let table: [(&[&str], &[&str], &str); 8] = [
        (&[], &[], "lost"),
        (&["host"], &[], "lost"),
        (&["boot_id"], &[], "lost"),
        (&["pid_namespace"], &[], "elsewhere"),
        (&["host", "boot_id"], &[], "elsewhere"),
        (&["boot_id", "pid_namespace"], &[], "lost"),
        (&[], &["pid_namespace"], "cannot tell"),
        (&[], &["boot_id"], "cannot tell"),
    ];
    for (its, unknown, wanted) in table {
        let (mut root, id, at) = (Root::new(), id("a"), format!("{its:?} {unknown:?}"));
        let field = |name: &str| if its.contains(&name) { "another" } else { "ours" };
        let [host, boot_id, pid_namespace] = names.map(field).map(str::to_owned);
        root.record(&id, Started);
        root.write(&id, |line| {
            let attempt = line.attempts.last_mut().unwrap();
            (attempt.host, attempt.boot_id, attempt.pid_namespace) = (host.clone(), boot_id, pid_namespace);
        });
        root.put_job(&Running, &id, &json!({}));
        let ours = |name: &str| if unknown.contains(&name) { String::new() } else { "ours".to_owned() };
        let [host_here, boot_here, namespace_here] = names.map(ours);
        let identity = &mut root.store.identity;
        (identity.host, identity.boot_id, identity.pid_namespace) = (host_here, boot_here, namespace_here);
        let before = root.snapshot();
        let done = root.recover(&id);
        assert_eq!(word(&done), wanted, "{at}");
        assert_eq!(done.is_done(), wanted == "lost", "{at}");
        assert_eq!(root.snapshot() == before, wanted != "lost", "{at}");
        // A person's word that the machine is dead counts.
        if wanted != "lost" {
            let other = Options { host_is_dead: Some("a third".to_owned()), ..Options::default() };
            assert_eq!(word(&root.recover_with(&id, &other)), wanted, "{at}");
            let dead = Options { host_is_dead: Some(host), ..Options::default() };
            assert_eq!(word(&root.recover_with(&id, &dead)), "lost", "{at}");
        }
    }
}

#[test]
fn a_job_whose_processes_are_not_ended_stays_as_it_is() {
    for why in
        [Recovered::StillRunning(vec!["7 sh".to_owned()]), Recovered::CannotTell("no /proc".to_owned())]
    {
        let (root, id) = (Root::new(), id("a"));
        root.record(&id, Started);
        root.put_job(&Running, &id, &json!({}));
        let before = root.snapshot();
        let mut asked = 0;
        let done = recover_one(&root.store, &root.clock, &id, &Options::default(), &mut |lease| {
            asked += 1;
            assert!(lease.line().is_some_and(|line| line.open_attempt().is_some()));
            Err(why.clone())
        });
        assert_eq!((done.unwrap(), asked), (why, 1));
        assert!(root.snapshot() == before);
        assert_eq!(root.recover(&id), Recovered::Lost(Quarantined));
    }
}

/// What is in a file of a job.
type Bytes = fn(&JobId) -> Vec<u8>;

fn bytes_of(id: &JobId, more: &Value) -> Vec<u8> {
    document(id, more).to_string().into_bytes()
}

fn whole(id: &JobId) -> Vec<u8> {
    bytes_of(id, &json!({}))
}

/// What is done with a queued file by what is in it: without a line in its record, and of an accepted job.
#[test]
fn a_queued_file_that_is_no_job_is_put_aside_once_it_has_stood_still() {
    let table: [(&str, Bytes, &str, &str); 5] = [
        ("a job", whole, "healthy", "healthy"),
        ("torn", |id| whole(id)[..20].to_vec(), "quarantined", "quarantined"),
        ("not valid", |id| bytes_of(id, &json!({"unknown_key": 1})), "healthy", "healthy"),
        ("of another id", |_| whole(&id("other")), "quarantined", "healthy"),
        ("a text", |_| b"to do".to_vec(), "quarantined", "healthy"),
    ];
    let root = Root::new();
    for (row, (name, bytes, unknown, known)) in table.into_iter().enumerate() {
        for (line, wanted) in [(NoRecord, unknown), (Empty, unknown), (Accepted, known)] {
            let (id, at) = (id(&format!("j{row}-{line:?}")), format!("{name}, {line:?}"));
            root.record(&id, line);
            root.put(&Queued, &id, &bytes(&id), Duration::from_secs(4));
            assert_eq!(word(&root.recover(&id)), "healthy", "{at}: it may be being copied");
            root.clock.sleep(Duration::from_secs(1));
            assert_eq!(word(&root.recover(&id)), wanted, "{at}");
            let mut aside = fs::names(&root.store.place_dir(&Quarantined)).unwrap();
            aside.retain(|name| name.starts_with(id.as_str()) && !name.ends_with(".reason.json"));
            assert_eq!(aside.len(), usize::from(wanted == "quarantined"), "{at}: {aside:?}");
            root.is_recovered(&id, &at);
        }
    }
}

#[test]
fn all_that_needs_it_is_recovered_and_what_cannot_be_is_named() {
    let mut root = Root::new();
    let names = ["done", "elsewhere", "lost", "missing", "moved", "unreadable", "waits"].map(id);
    let [done, elsewhere, lost, missing, moved, unreadable, waits] = &names;
    root.record(done, Ended(Status::Succeeded));
    root.record(elsewhere, Started);
    root.store.identity.pid_namespace = "another".to_owned();
    root.record(lost, Started);
    root.record(missing, Retry);
    root.record(moved, Ended(Status::Canceled));
    root.put_job(&Running, moved, &json!({}));
    root.record(unreadable, Accepted);
    let path = root.store.record_path(unreadable);
    fs::append(&fs::open_append(&path, Create::No).unwrap(), &path, b"garbage\n").unwrap();
    root.put_job(&Queued, unreadable, &json!({}));
    root.record(waits, Accepted);
    root.put_job(&Queued, waits, &json!({}));
    root.put(&Queued, &id("note"), b"to do", Duration::from_secs(60));
    let temporary = fs::temporary_in(&root.store.place_dir(&Queued));
    let file = fs::create_new(&temporary, b"half").unwrap();
    let changed = Duration::from_millis(root.clock.now().as_millis().unsigned_abs());
    file.set_modified(SystemTime::UNIX_EPOCH + changed).unwrap();

    let recover = || recover_all(&root.store, &root.clock, &Options::default(), &mut |_| Ok(())).unwrap();
    let report = recover();
    let jobs: Vec<_> = report.jobs.iter().map(|(id, done)| (id.as_str(), done.as_str())).collect();
    let wanted =
        [("elsewhere", "elsewhere"), ("lost", "lost"), ("missing", "quarantined"), ("moved", "moved")];
    assert_eq!(jobs, wanted);
    assert_eq!(report.failed.iter().map(|(id, _)| id).collect::<Vec<_>>(), [unreadable]);
    assert_eq!(report.foreign.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["note.json"]);
    assert_eq!(report.temporary, 0, "its writer may be at work");
    assert!(!report.is_complete(), "one was not looked at");
    assert_eq!(root.places_of(unreadable), [Queued], "it stops its own job only");
    assert_eq!(root.line_of(waits).unwrap().seq, 1);

    root.clock.sleep(Duration::from_secs(61));
    let again = recover();
    assert_eq!(again.jobs.iter().map(|(id, _)| id).collect::<Vec<_>>(), [elsewhere]);
    assert_eq!((again.temporary, again.foreign.len(), again.journal_lines), (1, 0, 0));
    assert!(matches!(root.places_of(moved)[..], [Done(_)]));
}
