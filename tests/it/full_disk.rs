//! A disk that is full, nearly full, or read-only: nothing that runs dies of it, and nothing is left half done.
//!
//! Needs a small file system of its own. Where none can be mounted (no root), the tests say that they did not run.

use std::ffi::CString;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde_json::json;

use crate::crash::{attempts, check, job, recover_and_check, snapshot, starts};
use crate::support::{Project, eventually, not_run};

/// A mounted file system, which vanishes with this value.
pub struct Mount(tempfile::TempDir);

impl Mount {
    fn new(options: &str) -> Option<Self> {
        let mount = Self(tempfile::tempdir().unwrap());
        match mount.call(0, options) {
            0 => Some(mount),
            _ => {
                not_run(&format!("cannot mount a tmpfs: {}", std::io::Error::last_os_error()));
                None
            }
        }
    }

    pub fn call(&self, flags: libc::c_ulong, options: &str) -> libc::c_int {
        let at = c_path(self.0.path());
        let options = CString::new(options).unwrap();
        // SAFETY: plain system call with texts that live through it.
        unsafe {
            libc::mount(c"tmpfs".as_ptr(), at.as_ptr(), c"tmpfs".as_ptr(), flags, options.as_ptr().cast())
        }
    }
}

fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap()
}

impl Drop for Mount {
    fn drop(&mut self) {
        let at = c_path(self.0.path());
        // SAFETY: as above; a failure leaves an empty mount behind, which harms nobody.
        unsafe { libc::umount2(at.as_ptr(), libc::MNT_DETACH) };
    }
}

/// A project on a disk of 2 MiB; the project goes first when both are dropped.
pub struct Disk {
    pub project: Project,
    pub mount: Mount,
}

/// What `min_free_bytes` says.
pub enum Guard {
    Off,
    AsByDefault,
}

impl Disk {
    pub fn new(guard: &Guard) -> Option<Self> {
        let mount = Mount::new("size=2m,mode=0700")?;
        let project = Project::in_dir(mount.0.path());
        // Makes the directories of the root.
        let settings = project.root("engine.toml");
        std::fs::write(&settings, "min_free_bytes = 0\n").unwrap();
        project.run(&json!({"job_id": "other", "tool": "shell", "command": {"exe": "true"}})).exits(0);
        if matches!(guard, Guard::AsByDefault) {
            std::fs::write(&settings, "").unwrap();
        }
        Some(Self { project, mount })
    }

    pub fn fill(&self) {
        let path = self.project.path("fill");
        let mut file = std::fs::File::options().create(true).append(true).open(path).unwrap();
        while file.write(&[1; 4096]).is_ok() {}
    }

    /// Leaves so many bytes free.
    pub fn fill_but(&self, bytes: u64) {
        self.fill();
        let file = std::fs::File::options().write(true).open(self.project.path("fill")).unwrap();
        file.set_len(file.metadata().unwrap().len() - bytes).unwrap();
    }

    pub fn free(&self) {
        std::fs::remove_file(self.project.path("fill")).unwrap();
    }
}

/// A tool that fills the disk, says much, and then ends.
const FILLS: &str = "echo $ENGINE_ATTEMPT >> starts; cat /dev/zero > fill; seq 100000; seq 100000 >&2; exit ";

#[test]
fn a_tool_that_runs_is_not_killed_by_a_full_disk_and_its_result_is_kept() {
    let Some(disk) = Disk::new(&Guard::Off) else { return };
    for (code, status, place) in [(0, "succeeded", "done"), (3, "quarantined", "quarantined")] {
        let mut document = job(&json!({}));
        document["command"]["args"] = json!(["-c", format!("{FILLS}{code}")]);
        let said = disk.project.run(&document);
        assert_eq!(said.code, code, "{}", said.err);
        let record = disk.project.record("a");
        assert_eq!(record["status"], status);
        assert_eq!(record["result"]["exit_code"], code);
        assert!(record["result"]["metadata"]["log_error"].is_string(), "the log is told to be cut: {record}");
        assert_eq!(disk.project.places("a"), [place]);
        disk.free();
        recover_and_check(&disk.project, "a", "full disk");
        let blocks = std::fs::metadata(disk.project.root("state/jobs/a.jsonl")).unwrap();
        assert!(blocks.blocks() * 512 < blocks.len() + 8192, "the reserve was not given back");
    }
    assert_eq!(starts(&disk.project), 2);
}

#[test]
fn a_low_disk_starts_nothing() {
    let Some(disk) = Disk::new(&Guard::AsByDefault) else { return };
    disk.project.job(&job(&json!({})));
    let before = snapshot(&disk.project);
    for args in [&["run-job", "--json", "--job-file", "a.json"][..], &["run-job", "--json", "--claim", "a"]] {
        let said = disk.project.engine(args);
        assert_eq!(said.code, 125, "{}", said.err);
        assert_eq!(said.json()["reason"]["code"], "disk_full");
    }
    assert!(before == snapshot(&disk.project), "something was written");
}

#[test]
fn a_run_on_a_full_disk_is_refused_and_leaves_nothing_half_done() {
    // Full; room for the job file but not for the reserve; room for neither the reserve nor the log.
    for room in [0, 4096, 3 * 4096, 64 << 10, 120 << 10] {
        let Some(disk) = Disk::new(&Guard::Off) else { return };
        let name = disk.project.job(&job(&json!({})));
        disk.fill_but(room);
        let args = ["run-job", "--json", "--job-file", &name];
        let said = disk.project.engine(&args);
        assert_eq!(said.code, 125, "{room}: {}", said.err);
        assert_eq!(said.json()["reason"]["code"], "disk_full", "{room}: {}", said.out);
        assert!(disk.project.record_if_any("a").is_none(), "{room}");
        assert_eq!(disk.project.places("a"), Vec::<String>::new(), "{room}");
        let left: Vec<_> = std::fs::read_dir(disk.project.root("jobs/queued")).unwrap().flatten().collect();
        assert!(left.is_empty(), "{room}: {left:?}");
        assert_eq!(starts(&disk.project), 0);
        disk.free();
        disk.project.engine(&args).exits(0);
        check(&disk.project, "a", "afterwards");
    }
}

#[test]
fn an_ended_id_on_a_full_disk_stays_ended_and_can_be_run_again() {
    for room in [0, 4096, 3 * 4096, 64 << 10, 120 << 10] {
        let Some(disk) = Disk::new(&Guard::Off) else { return };
        let name = disk.project.job(&job(&json!({})));
        let args = ["run-job", "--json", "--job-file", &name];
        disk.project.engine(&args).exits(0);
        disk.fill_but(room);
        let said = disk.project.engine(&args);
        assert_eq!(said.code, 125, "{room}: {}", said.err);
        assert_eq!(said.json()["reason"]["code"], "disk_full", "{room}: {}", said.out);
        disk.free();
        recover_and_check(&disk.project, "a", &format!("{room}"));
        assert_eq!(disk.project.record("a")["status"], "succeeded", "{room}");
        disk.project.engine(&args).exits(0);
        assert_eq!(attempts(&disk.project.record("a")), 2, "{room}");
    }
}

#[test]
fn a_claim_on_a_full_disk_leaves_the_job_queued() {
    let Some(disk) = Disk::new(&Guard::Off) else { return };
    crate::crash::put(&disk.project, "queued", &job(&json!({})).to_string());
    disk.fill();
    let said = disk.project.engine(&["run-job", "--json", "--claim", "a"]);
    assert_eq!(said.code, 125);
    assert_eq!(said.json()["reason"]["code"], "disk_full");
    assert_eq!(disk.project.places("a"), ["queued"]);
    disk.free();
    recover_and_check(&disk.project, "a", "full disk");
    disk.project.engine(&["run-job", "--claim", "a"]).exits(0);
    check(&disk.project, "a", "afterwards");
}

#[test]
fn a_drain_on_a_disk_without_room_for_a_result_says_so_and_leaves_the_jobs_queued() {
    let Some(disk) = Disk::new(&Guard::Off) else { return };
    let mut document = job(&json!({}));
    for id in ["a", "b"] {
        document["job_id"] = id.into();
        let name = disk.project.job(&document);
        disk.project.engine(&["submit", "-q", &name]).exits(0);
    }
    disk.fill_but(16 << 10);
    let said = disk.project.engine(&["work", "--drain"]);
    assert_eq!(said.code, 125, "{}", said.err);
    assert!(
        said.err.contains("the rest stays queued: ") && said.err.contains("No space left"),
        "{}",
        said.err
    );
    assert_eq!((disk.project.places("a"), starts(&disk.project)), (vec!["queued".to_owned()], 0));
    disk.free();
    disk.project.engine(&["work", "--drain"]).exits(0);
    check(&disk.project, "a", "afterwards");
}

#[test]
fn recovery_on_a_full_disk_changes_nothing_and_works_later() {
    let Some(disk) = Disk::new(&Guard::Off) else { return };
    let mut document = job(&json!({}));
    document["command"]["args"] =
        json!(["-c", "echo $ENGINE_ATTEMPT >> starts; cat /dev/zero > fill; sleep 1000"]);
    let name = disk.project.job(&document);
    let running = disk.project.start(&["run-job", "--job-file", &name], &[]);
    eventually("the disk is full", || rustix::fs::statvfs(disk.project.dir()).unwrap().f_bavail == 0);
    running.signal(rustix::process::Signal::KILL);
    running.wait().exits(-9);
    // The reserve of the dead attempt serves the line that calls it lost.
    let _ = disk.project.engine(&["recover"]);
    disk.free();
    recover_and_check(&disk.project, "a", "full disk");
    assert_eq!(disk.project.record("a")["attempts"][0]["outcome"], "lost");
}

#[test]
fn a_read_only_state_is_told_and_can_still_be_read() {
    let Some(disk) = Disk::new(&Guard::Off) else { return };
    let name = disk.project.job(&job(&json!({})));
    let before = snapshot(&disk.project);
    assert_eq!(disk.mount.call(libc::MS_REMOUNT | libc::MS_RDONLY, "size=2m,mode=0700"), 0);
    let said = disk.project.engine(&["run-job", "--json", "--job-file", &name]);
    assert_eq!(said.code, 125, "{}", said.err);
    assert_eq!(said.json()["reason"]["code"], "state_not_writable", "{}", said.out);
    disk.project.engine(&["show", "other"]).exits(0);
    disk.project.engine(&["list"]).exits(0);
    let looked = disk.project.engine(&["doctor"]);
    assert_eq!(looked.code, 1, "{}", looked.err);
    assert!(looked.out.contains("it is mounted read-only"), "{}", looked.out);
    disk.project.engine(&["gc", "--dry-run", "--keep-count", "0"]).exits(0);
    disk.project.engine(&["list", "--run", "r"]).exits(0);
    disk.project.engine(&["status"]).exits(0);
    disk.mount.call(libc::MS_REMOUNT, "size=2m,mode=0700");
    assert!(before == snapshot(&disk.project), "something was written");
    disk.project.engine(&["run-job", "--job-file", &name]).exits(0);
}

/// Lets a record be written again when a test ends.
struct Immutable<'a>(&'a Project);

impl Drop for Immutable<'_> {
    fn drop(&mut self) {
        let _ =
            std::process::Command::new("chattr").arg("-i").arg(self.0.root("state/jobs/a.jsonl")).output();
    }
}

#[test]
fn a_record_that_becomes_read_only_under_a_running_tool_is_told_and_does_not_end_the_tool() {
    let project = Project::new();
    let mut document = job(&json!({}));
    let script = "echo $ENGINE_ATTEMPT >> starts; chattr +i .engine/state/jobs/a.jsonl || exit 9; echo went on > after";
    document["command"]["args"] = json!(["-c", script]);
    let guard = Immutable(&project);
    let said = project.run(&document);
    if said.code == 9 {
        return not_run("this file system has no immutable files");
    }
    assert_eq!(std::fs::read_to_string(project.path("after")).unwrap(), "went on\n", "the tool went on");
    assert_eq!(said.code, 125, "{} {}", said.out, said.err);
    assert_eq!(said.json()["reason"]["code"], "result_not_kept");
    assert!(said.err.contains("Operation not permitted"), "{}", said.err);
    drop(guard);
    recover_and_check(&project, "a", "the record was read-only");
    assert_eq!(project.record("a")["attempts"][0]["outcome"], "lost");
}
