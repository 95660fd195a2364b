//! The limit: what a queue of this protocol costs if nothing but its system calls is made.
//!
//! `limit ROOT COUNT SLOTS` submits COUNT jobs of `/bin/true` in this process and drains them with SLOTS runner
//! processes at a time, each with the writes, moves and the four syncs of the protocol. It validates nothing, reads
//! nothing it does not need, and would lose jobs where the engine does not; it is a yardstick, not a queue.
//! `limit --fast …` makes no sync.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::zombie_processes,
    reason = "a yardstick stops where anything goes wrong"
)]

use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let fast = args.iter().any(|arg| arg == "--fast");
    let rest: Vec<&str> = args.iter().map(String::as_str).filter(|arg| *arg != "--fast").collect();
    match rest.as_slice() {
        ["run", root, id] => run(Path::new(root), id, fast),
        [root, count, slots] => drain(Path::new(root), number(count), number(slots), fast),
        _ => panic!("usage: limit [--fast] ROOT COUNT SLOTS"),
    }
}

fn number(text: &str) -> usize {
    text.parse().expect("a number")
}

fn open(path: &Path, flags: i32) -> File {
    File::options()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(flags)
        .open(path)
        .expect("open")
}

fn sync(file: &File, fast: bool) {
    if !fast {
        file.sync_data().expect("fdatasync");
    }
}

fn lock(file: &File) {
    // SAFETY: a plain system call on an open descriptor.
    assert_eq!(unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) }, 0, "flock");
}

fn record(root: &Path, id: &str) -> PathBuf {
    root.join(format!("state/jobs/{id}.jsonl"))
}

fn journal(root: &Path) {
    open(&root.join("state/events.jsonl"), 0).write_all(&[b'j'; 240]).expect("journal");
}

fn drain(root: &Path, count: usize, slots: usize, fast: bool) {
    for dir in ["jobs/queued", "jobs/running", "jobs/done/today", "state/jobs"] {
        std::fs::create_dir_all(root.join(dir)).expect("mkdir");
    }
    let ids: Vec<String> = (0..count).map(|n| format!("job-{n}")).collect();
    for id in &ids {
        submit(root, id, fast);
    }
    let ourselves = std::env::current_exe().expect("exe");
    let mut waiting = ids.iter();
    let mut running = 0;
    loop {
        while running < slots
            && let Some(id) = waiting.next()
        {
            let mut command = Command::new(&ourselves);
            if fast {
                command.arg("--fast");
            }
            command.arg("run").arg(root).arg(id).stdin(Stdio::null()).spawn().expect("spawn");
            running += 1;
        }
        if running == 0 {
            return;
        }
        // SAFETY: a plain system call.
        assert!(unsafe { libc::wait(std::ptr::null_mut()) } > 0, "wait");
        running -= 1;
    }
}

/// Record, job file (synced), its name (synced), and the first line.
fn submit(root: &Path, id: &str, fast: bool) {
    let mut record = open(&record(root, id), 0);
    lock(&record);
    let temporary = root.join(format!("jobs/queued/.{id}"));
    let mut file = open(&temporary, 0);
    file.write_all(&[b'f'; 160]).expect("write");
    sync(&file, fast);
    std::fs::rename(&temporary, root.join(format!("jobs/queued/{id}.json"))).expect("rename");
    if !fast {
        File::open(root.join("jobs/queued")).expect("open").sync_all().expect("fsync");
    }
    record.write_all(&[b'q'; 700]).expect("write");
    journal(root);
}

/// One attempt: start line (synced), move, the tool, end line (synced), move.
fn run(root: &Path, id: &str, fast: bool) {
    let mut record = open(&record(root, id), 0);
    lock(&record);
    let mut text = Vec::new();
    let queued = root.join(format!("jobs/queued/{id}.json"));
    let running = root.join(format!("jobs/running/{id}.json"));
    File::open(&queued).expect("open").read_to_end(&mut text).expect("read");
    record.write_all(&[b's'; 800]).expect("write");
    sync(&record, fast);
    journal(root);
    std::fs::rename(&queued, &running).expect("rename");
    let (mut out, write) = std::io::pipe().expect("pipe");
    let child = spawn_true(&write);
    drop(write);
    out.read_to_end(&mut text).expect("read");
    // SAFETY: a plain system call on our child.
    assert_eq!(unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) }, child, "waitpid");
    record.write_all(&[b'e'; 1400]).expect("write");
    sync(&record, fast);
    journal(root);
    std::fs::rename(&running, root.join(format!("jobs/done/today/{id}.json"))).expect("rename");
}

fn spawn_true(out: &impl AsRawFd) -> i32 {
    let path = CString::new("/bin/true").expect("text");
    let mut pid = 0;
    // SAFETY: all pointers live through the call; the action list is initialised before it is used.
    unsafe {
        let mut actions = std::mem::zeroed();
        libc::posix_spawn_file_actions_init(&raw mut actions);
        libc::posix_spawn_file_actions_adddup2(&raw mut actions, out.as_raw_fd(), 1);
        let argv = [path.as_ptr().cast_mut(), std::ptr::null_mut()];
        let none = [std::ptr::null_mut()];
        let code = libc::posix_spawn(
            &raw mut pid,
            path.as_ptr(),
            &raw const actions,
            std::ptr::null(),
            argv.as_ptr(),
            none.as_ptr(),
        );
        assert_eq!(code, 0, "posix_spawn");
        libc::posix_spawn_file_actions_destroy(&raw mut actions);
    }
    pid
}
