//! What a claim finds at the door.

use super::Line::{Accepted, Empty, Ended, NoRecord, Requeued, Retry, Started, StartedAgain};
use super::*;
use crate::queue::claim::{Claimable, Content, look, read};

/// What a claim came to, in a word.
fn word(found: &Claimable) -> String {
    match found {
        Claimable::Ready(_) => "ready".to_owned(),
        Claimable::NeedsRecovery => "recover".to_owned(),
        Claimable::Refused(reason) => reason.code.to_string(),
    }
}

const GONE: &str = "not_queued";
const BUSY: &str = "id_running";

/// What a claim comes to while no other process has the lease, by the files of the job.
const TABLE: [(Line, [&str; 4]); 11] = [
    (NoRecord, [GONE, "ready", GONE, "recover"]),
    (Empty, [GONE, "ready", "recover", "recover"]),
    (Accepted, [GONE, "ready", "recover", "recover"]),
    (Requeued, [GONE, "ready", "recover", "recover"]),
    (Retry, [GONE, "ready", "recover", "recover"]),
    (Started, [GONE, "recover", "recover", "recover"]),
    (StartedAgain, [GONE, "recover", "recover", "recover"]),
    (Ended(Status::Succeeded), [GONE, "recover", "recover", "recover"]),
    (Ended(Status::Failed), [GONE, "recover", "recover", "recover"]),
    (Ended(Status::Canceled), [GONE, "recover", "recover", "recover"]),
    (Ended(Status::Quarantined), [GONE, "recover", "recover", "recover"]),
];

#[test]
fn a_claim_goes_by_the_record_and_the_files_and_never_past_another_lease() {
    let root = Root::new();
    for (row, (line, cells)) in TABLE.into_iter().enumerate() {
        for (files, free) in ALL_FILES.into_iter().zip(cells) {
            let id = id(&format!("j{row}-{files:?}"));
            root.record(&id, line);
            for place in files.places() {
                root.put_job(place, &id, &json!({}));
            }
            // A process that only looks returns the lease of a waiting job at once: a claim asks again for a while.
            let asks_again = matches!(files, Files::Queued | Files::Both)
                && !matches!(line, Accepted | Started | StartedAgain);
            let held = (line != NoRecord && !asks_again).then(|| root.lease(&id, Create::No).unwrap());
            let wanted = match (&held, files) {
                (None, _) => free,
                (Some(_), Files::None) => GONE,
                (Some(_), _) => BUSY,
            };
            let before = root.line_of(&id).map(|line| line.seq);
            for (wanted, held) in [(wanted, held), (free, None)] {
                let found = look(&root.store, &id, root.clock.now()).unwrap();
                assert_eq!(word(&found), wanted, "{line:?}, {files:?}, held: {}", held.is_some());
            }
            assert_eq!(root.line_of(&id).map(|line| line.seq), before, "a look writes nothing");
            assert_eq!(root.places_of(&id), files.places());
        }
    }
}

#[test]
fn a_claim_holds_the_lease_of_what_it_found_ready_until_it_is_dropped() {
    let root = Root::new();
    let id = id("a");
    root.put_job(&Place::Queued, &id, &json!({}));
    let Claimable::Ready(ready) = look(&root.store, &id, root.clock.now()).unwrap() else {
        panic!("not ready")
    };
    assert!(matches!(ready.file, Content::Job(..)) && ready.parked_until.is_none());
    assert!(root.lease(&id, Create::No).is_none());
    drop(ready);
    assert!(root.lease(&id, Create::No).is_some());
}

/// What a file is to a claim: of a job without a line in its record, and of one that was accepted.
fn contents(id: &JobId) -> Vec<(&'static str, Vec<u8>, &'static str, &'static str)> {
    let valid = document(id, &json!({})).to_string();
    let torn = valid[..valid.len() / 2].to_owned();
    let other = document(&super::id("other"), &json!({})).to_string();
    let invalid = document(id, &json!({"unknown_key": 1})).to_string();
    let other_invalid = document(&super::id("other"), &json!({"unknown_key": 1})).to_string();
    let large = format!("{valid}{}", " ".repeat(crate::job::parse::MAX_JOB_BYTES as usize));
    vec![
        ("valid", valid.into_bytes(), "job", "job"),
        ("not valid", invalid.into_bytes(), "invalid", "invalid"),
        ("torn behind its id", torn.into_bytes(), "not_a_job_file", "invalid"),
        ("empty", Vec::new(), "not_a_job_file", "invalid"),
        ("zeros", vec![0; 100], "not_a_job_file", "invalid"),
        ("a text", b"to do: write a job".to_vec(), "not_a_job_file", "invalid"),
        ("too large", large.into_bytes(), "not_a_job_file", "invalid"),
        ("of another id", other.into_bytes(), "wrong_name", "wrong_name"),
        ("of another id, not valid", other_invalid.into_bytes(), "wrong_name", "wrong_name"),
    ]
}

fn content_word(content: &Content) -> String {
    match content {
        Content::Job(..) => "job".to_owned(),
        Content::Invalid(_) => "invalid".to_owned(),
        Content::Foreign(reason) => reason.code.to_string(),
    }
}

#[test]
fn a_file_is_judged_by_what_is_in_it_and_only_when_it_has_stood_still() {
    let root = Root::new();
    let second = Duration::from_secs(1);
    let mut number = 0;
    for index in 0..contents(&id("a")).len() {
        // The last one is a time that a clock which was set back has not reached yet.
        for (age, still) in [(0, false), (4, false), (5, true), (3600, true), (-4, false), (-3600, true)] {
            for recorded in [NoRecord, Empty, Accepted] {
                number += 1;
                let id = id(&format!("j{number}"));
                let (name, bytes, unknown, known) = contents(&id).swap_remove(index);
                let wanted = if recorded == Accepted { known } else { unknown };
                root.record(&id, recorded);
                let clock = root.clock.now();
                if age < 0 {
                    root.clock.sleep(second * i32::unsigned_abs(age));
                }
                root.put(&Place::Queued, &id, &bytes, second * u32::try_from(age).unwrap_or(0));
                root.clock.set(clock);
                let at = format!("{name}, {age} s old, {recorded:?}");
                let (content, is_still) = read(&root.store, &id, recorded == Accepted, clock).unwrap();
                assert_eq!((content_word(&content).as_str(), is_still), (wanted, still), "{at}");
                match look(&root.store, &id, clock).unwrap() {
                    Claimable::Ready(ready) => {
                        assert!(still || wanted == "job", "{at}");
                        assert_eq!(content_word(&ready.file), wanted, "{at}");
                    }
                    found => {
                        assert!(!still && wanted != "job", "{at}");
                        assert_eq!(word(&found), "job_file_changing", "{at}");
                    }
                }
            }
        }
    }
    assert_eq!(number, 9 * 6 * 3);
}

#[test]
fn what_is_no_regular_file_is_refused_and_left_alone() {
    let root = Root::new();
    let [link, dir] = ["link", "dir"].map(id);
    let path = |id: &JobId| root.store.job_file(&Place::Queued, id);
    root.put_job(&Place::Running, &link, &json!({}));
    symlink(&root.store.job_file(&Place::Running, &link), &path(&link));
    fs::create_dir(&path(&dir)).unwrap();
    for id in [link, dir] {
        let found = look(&root.store, &id, root.clock.now()).unwrap();
        assert!(matches!(found, Claimable::Refused(_)), "{id}: {found:?}");
        assert!(path(&id).symlink_metadata().is_ok_and(|entry| !entry.is_file()), "{id}");
        assert!(root.line_of(&id).is_none(), "{id}");
    }
}

#[expect(clippy::disallowed_methods, reason = "a test puts what a claim must not follow")]
fn symlink(target: &std::path::Path, path: &std::path::Path) {
    std::os::unix::fs::symlink(target, path).unwrap();
}

#[test]
fn a_job_waits_for_the_time_of_its_record_and_not_longer_than_a_clock_that_was_right_would_have_it() {
    let root = Root::new();
    let begun = root.clock.now();
    let in_a_minute = begun.after(Duration::from_secs(60));
    let id = id("a");
    root.record(&id, Retry);
    root.write(&id, |line| line.not_before = Some(in_a_minute));
    root.put_job(&Place::Queued, &id, &json!({}));
    // The clock at the claim, in seconds after the line was written; before it, the clock was set back since.
    for (after, waits) in
        [(0, true), (59, true), (60, true), (3600, true), (-30, true), (-61, false), (-3600, false)]
    {
        let gap = Duration::from_secs(i64::unsigned_abs(after));
        root.clock.set(if after < 0 { begun.before(gap) } else { begun.after(gap) });
        let Claimable::Ready(ready) = look(&root.store, &id, root.clock.now()).unwrap() else {
            panic!("{after}")
        };
        assert_eq!(ready.parked_until, waits.then_some(in_a_minute), "{after}");
    }
}
