//! Workers under load while everything is killed at random: nothing is lost, nothing runs twice, nothing stays alive.
//!
//! In the suite with few jobs; `benches/matrix.sh` runs it in full. `ENGINE_STRESS_JOBS` says how many jobs,
//! `ENGINE_STRESS_SEED` repeats the order of jobs and kills (not the moments: the machine has its own).
//! A kill reaches only a process that is looked at again through its pidfd, so a reused pid is nobody's danger.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal};
use serde_json::{Value, json};

use crate::crash::attempts;
use crate::support::{Project, eventually, fake_tool, processes_with, row};

const WORKERS: usize = 4;
/// How many jobs a submitter brings at a time.
const BATCH: usize = 10;

/// A small generator of numbers that look random (xorshift64*).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 33) % end
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// What a job may do, as far as the end is judged by it.
struct Job {
    document: Value,
    repeatable: bool,
    fails: bool,
    retries: usize,
    depends_on: Option<String>,
}

fn jobs(count: usize, random: &mut Random) -> BTreeMap<String, Job> {
    let (tool, mut jobs) = (fake_tool(), BTreeMap::new());
    for n in 0..count {
        let id = format!("j{n:05}");
        let repeatable = random.chance(40);
        let fails = random.chance(10);
        let retries = if fails || random.chance(10) { 2 } else { 0 };
        let depends_on = (n > 0 && random.chance(15)).then(|| format!("j{:05}", random.below(n as u64)));
        let mut args = vec!["alone".to_owned(), "runs".into()];
        let locked = random.chance(10);
        if locked {
            args.extend(["exclusive".into(), "runs/the-lock".into()]);
        }
        if random.chance(5) {
            args.extend(["setsid-child".into(), format!("runs/{id}.pid")]);
        }
        args.extend(["sleep".into(), format!("0.{:03}", random.below(30))]);
        if fails {
            args.extend(["exit".into(), "3".into()]);
        }
        let mut document = json!({
            "job_id": id, "tool": "shell", "run_id": "stress", "command": {"exe": tool, "args": args},
            "on_crash": if repeatable { "requeue" } else { "quarantine" },
        });
        if let Some(on) = &depends_on {
            document["depends_on"] = json!([on]);
        }
        if locked {
            document["locks"] = json!(["the-lock"]);
        }
        if retries > 0 {
            let backoff = json!({"strategy": "immediate"});
            document["metadata"] =
                json!({"retry_policy": "retry_same", "max_retries": retries, "backoff": backoff});
        }
        jobs.insert(id, Job { document, repeatable, fails, retries, depends_on });
    }
    jobs
}

/// Whom a kill can hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Victim {
    Submitter,
    Worker,
    Launcher,
    Runner,
    Tool,
    Recovery,
}

/// The processes of one root, found by what cannot be mistaken: program, directory, marker, open lease.
struct Processes {
    engine: PathBuf,
    dir: PathBuf,
    marker: String,
}

impl Processes {
    fn of(project: &Project) -> Self {
        let version = std::fs::read_to_string(project.root("state/VERSION")).unwrap();
        let version: Value = serde_json::from_str(&version).unwrap();
        Self {
            engine: std::fs::canonicalize(env!("CARGO_BIN_EXE_engine")).unwrap(),
            dir: std::fs::canonicalize(project.dir()).unwrap(),
            marker: format!("ENGINE_ATTEMPT={}/", version["store"].as_str().unwrap()),
        }
    }

    /// What a process is, if it is one of this root that a worker did not start itself as our child.
    fn kind(&self, proc: &Path, ours: &BTreeSet<i32>, pid: i32) -> Option<Victim> {
        let environment = std::fs::read(proc.join("environ")).ok()?;
        if environment.windows(self.marker.len()).any(|part| part == self.marker.as_bytes()) {
            return Some(Victim::Tool);
        }
        let is_engine = std::fs::read_link(proc.join("exe")).ok()? == self.engine;
        if ours.contains(&pid) || !is_engine || std::fs::read_link(proc.join("cwd")).ok()? != self.dir {
            return None;
        }
        let mut open = std::fs::read_dir(proc.join("fd")).ok()?.flatten();
        let lease = open.any(|fd| {
            std::fs::read_link(fd.path()).is_ok_and(|path| path.to_string_lossy().contains("/state/jobs/"))
        });
        Some(if lease { Victim::Runner } else { Victim::Launcher })
    }

    /// Kills a random one of a kind; false if there is none.
    fn kill_one(&self, wanted: Victim, ours: &BTreeSet<i32>, random: &mut Random) -> bool {
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
                continue;
            };
            if self.kind(&entry.path(), ours, pid) == Some(wanted) {
                found.push(pid);
            }
        }
        if found.is_empty() {
            return false;
        }
        let pid = found[usize::try_from(random.below(found.len() as u64)).unwrap()];
        let Some(pidfd) = pidfd(pid) else { return false };
        // The same process still, or the pid is somebody else's by now.
        self.kind(Path::new(&format!("/proc/{pid}")), ours, pid) == Some(wanted)
            && rustix::process::pidfd_send_signal(&pidfd, Signal::KILL).is_ok()
    }
}

pub fn pidfd(pid: i32) -> Option<OwnedFd> {
    rustix::process::pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()
}

/// A child of ours with nothing on its streams.
fn start(project: &Project, args: &[&str]) -> Child {
    project.command(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// What happened.
#[derive(Default)]
struct Tally {
    kills: BTreeMap<Victim, usize>,
    acknowledged: BTreeSet<String>,
}

/// The loop in which everything dies.
struct Chaos<'a> {
    project: &'a Project,
    processes: Processes,
    random: Random,
    workers: Vec<Child>,
    tally: Tally,
}

impl<'a> Chaos<'a> {
    fn new(project: &'a Project, random: Random) -> Self {
        let workers = (0..WORKERS).map(|_| start(project, &["work", "--slots", "2"])).collect();
        Self { project, processes: Processes::of(project), random, workers, tally: Tally::default() }
    }

    fn count(&mut self, victim: Victim) {
        *self.tally.kills.entry(victim).or_default() += 1;
    }

    /// Hands in some jobs; a submitter that was killed is repeated until one has told all ids.
    fn submit(&mut self, batch: &[(&String, &Job)]) {
        let text: String = batch.iter().map(|(_, job)| format!("{}\n", job.document)).collect();
        loop {
            let mut command = self.project.command(&["submit", "--skip-existing", "-"]);
            let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
            let mut input = child.stdin.take().unwrap();
            let dies = self.random.chance(30);
            let after = Duration::from_micros(self.random.below(12_000));
            let _ = input.write_all(text.as_bytes());
            drop(input);
            if dies {
                std::thread::sleep(after);
                let _ = child.kill();
            }
            let output = child.wait_with_output().unwrap();
            // An id that was printed is acknowledged, whatever became of the submitter then.
            let told = String::from_utf8(output.stdout).unwrap();
            let complete = &told[..told.rfind('\n').map_or(0, |end| end + 1)];
            self.tally.acknowledged.extend(complete.lines().map(str::to_owned));
            match output.status.code() {
                Some(0) => return,
                None => self.count(Victim::Submitter),
                Some(code) => panic!("submit: {code}: {}", String::from_utf8_lossy(&output.stderr)),
            }
        }
    }

    fn kill_something(&mut self) {
        let victim = match self.random.below(20) {
            0..3 => Victim::Worker,
            3..5 => Victim::Launcher,
            5..12 => Victim::Runner,
            12..16 => Victim::Tool,
            _ => Victim::Recovery,
        };
        match victim {
            Victim::Worker => {
                let index = usize::try_from(self.random.below(WORKERS as u64)).unwrap();
                let _ = self.workers[index].kill();
                let _ = self.workers[index].wait();
                self.workers[index] = start(self.project, &["work", "--slots", "2"]);
                self.count(victim);
            }
            Victim::Recovery => {
                let mut recovery = start(self.project, &["recover"]);
                std::thread::sleep(Duration::from_micros(self.random.below(15_000)));
                let _ = recovery.kill();
                if recovery.wait().unwrap().code().is_none() {
                    self.count(victim);
                }
            }
            _ => {
                let ours = self.workers.iter().map(|worker| i32::try_from(worker.id()).unwrap()).collect();
                if self.processes.kill_one(victim, &ours, &mut self.random) {
                    self.count(victim);
                }
            }
        }
    }

    /// Submits all and kills until all have ended, or for this long.
    fn run(mut self, jobs: &BTreeMap<String, Job>, longest: Duration) -> Tally {
        let until = Instant::now() + longest;
        let all: Vec<(&String, &Job)> = jobs.iter().collect();
        let mut batches = all.chunks(BATCH);
        loop {
            match batches.next() {
                Some(batch) => self.submit(batch),
                None if Instant::now() > until || !anything_moves(self.project) => break,
                None => {}
            }
            for _ in 0..3 {
                self.kill_something();
                std::thread::sleep(Duration::from_millis(self.random.below(25)));
            }
        }
        for worker in &mut self.workers {
            let _ = worker.kill();
            let _ = worker.wait();
        }
        self.tally
    }
}

/// True if a job runs, or waits for something that can still come.
fn anything_moves(project: &Project) -> bool {
    let names = |place: &str| std::fs::read_dir(project.root(&format!("jobs/{place}"))).unwrap().flatten();
    let waits_in_vain = |id: &str| {
        let text =
            std::fs::read_to_string(project.root(&format!("jobs/queued/{id}.json"))).unwrap_or_default();
        let job: Value = serde_json::from_str(&text).unwrap_or_default();
        let on = job["depends_on"][0].as_str().map(str::to_owned);
        on.is_some_and(|on| project.places(&on) != ["done"])
    };
    names("running").next().is_some()
        || names("queued").any(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            name.strip_suffix(".json").is_some_and(|id| !waits_in_vain(id))
        })
}

/// Calm: what is left is recovered and run to its end.
fn settle(project: &Project) {
    // Runners whose worker was killed end their jobs by themselves.
    eventually("the orphaned runners end", || {
        project.engine(&["recover", "-q"]).exits(0);
        std::fs::read_dir(project.root("jobs/running")).unwrap().next().is_none()
    });
    for _ in 0..2 {
        let drained = project.engine(&["work", "--drain", "--slots", "4", "-q"]);
        assert!(drained.code == 0 || drained.code == 1, "{}", drained.err);
        project.engine(&["recover", "-q"]).exits(0);
    }
}

/// The starts that the tools have noted: how many of each attempt of each id.
fn noted(project: &Project) -> BTreeMap<String, BTreeMap<u64, usize>> {
    let text = std::fs::read_to_string(project.path("runs/starts")).unwrap_or_default();
    let mut starts: BTreeMap<String, BTreeMap<u64, usize>> = BTreeMap::new();
    for line in text.lines() {
        let (id, attempt) = line.split_once(' ').unwrap_or_else(|| panic!("a torn note: {line}"));
        let attempt = attempt.parse().unwrap_or_else(|_| panic!("a torn note: {line}"));
        *starts.entry(id.to_owned()).or_default().entry(attempt).or_default() += 1;
    }
    starts
}

/// The outcomes of all attempts of a record.
fn outcomes(record: &Value) -> Vec<String> {
    let attempts = record["attempts"].as_array().unwrap();
    attempts.iter().map(|attempt| attempt["outcome"].as_str().unwrap_or("open").to_owned()).collect()
}

/// What must hold of one job in the end; gives the number of its lost attempts.
fn judge(project: &Project, id: &str, job: &Job, starts: &BTreeMap<u64, usize>) -> usize {
    let record = project.record_if_any(id);
    let places = project.places(id);
    assert_eq!(places.len(), 1, "{id} is at {places:?}: {record:?}");
    if places == ["queued"] {
        let on = job.depends_on.as_ref().unwrap_or_else(|| panic!("{id} waits for nothing: {record:?}"));
        assert_ne!(project.record(on)["status"], "succeeded", "{id} waits for {on}, which succeeded");
        assert!(starts.is_empty(), "{id} started without {on}");
        return 0;
    }
    let record = record.unwrap_or_else(|| panic!("{id} has no record and is at {places:?}"));
    let status = record["status"].as_str().unwrap();
    let expected = if status == "succeeded" { "done" } else { "quarantined" };
    assert!(
        places == [expected] && ["succeeded", "quarantined"].contains(&status),
        "{id}: {places:?} {record}"
    );
    let outcomes = outcomes(&record);
    let lost = outcomes.iter().filter(|outcome| *outcome == "lost").count();
    let failed = outcomes.len() - lost - usize::from(status == "succeeded");
    assert!(
        starts.keys().all(|n| *n >= 1 && *n <= outcomes.len() as u64),
        "{id}: a start was forgotten: {record}"
    );
    assert!(starts.values().all(|count| *count == 1), "{id}: an attempt ran twice: {starts:?}");
    assert_eq!(outcomes.len(), attempts(&record), "{id}: one life");
    assert!(failed <= job.retries + 1, "{id}: more retries than asked: {outcomes:?}");
    assert!(status != "succeeded" || !job.fails, "{id} cannot succeed: {record}");
    if job.repeatable {
        assert!(lost <= 3, "{id}: {outcomes:?}");
    } else if let Some(at) = outcomes.iter().position(|outcome| outcome == "lost") {
        assert_eq!(at + 1, outcomes.len(), "{id} is not repeatable and ran again: {outcomes:?}");
    }
    lost
}

/// Every line of every record stands in the journal.
fn journal_is_complete(project: &Project, jobs: &BTreeMap<String, Job>) {
    let key = |line: &Value| (line["job_id"].as_str().unwrap().to_owned(), line["seq"].as_u64().unwrap());
    let journal: BTreeSet<(String, u64)> = project.journal().iter().map(key).collect();
    for id in jobs.keys() {
        let last = project.record_if_any(id).map_or(0, |record| record["seq"].as_u64().unwrap());
        for seq in 1..=last {
            assert!(journal.contains(&(id.clone(), seq)), "line {seq} of {id} is not in the journal");
        }
    }
}

pub fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// The seed of this run, which is told, so that it can be repeated.
pub fn seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let seed = variable("ENGINE_STRESS_SEED").unwrap_or(u64::from(now.subsec_nanos()) + 1).max(1);
    row("seed", usize::try_from(seed).unwrap());
    seed
}

#[test]
fn nothing_is_lost_or_run_twice_or_left_alive_when_everything_is_killed_at_random() {
    let count = variable("ENGINE_STRESS_JOBS").and_then(|n| usize::try_from(n).ok());
    let seed = seed();
    let longest = Duration::from_secs(if count.is_some() { 600 } else { 6 });
    let count = count.unwrap_or(150);
    let mut random = Random(seed);
    let jobs = jobs(count, &mut random);
    let project = Project::new();
    project.engine(&["recover", "-q"]).exits(0);
    std::fs::create_dir(project.path("runs")).unwrap();

    let tally = Chaos::new(&project, random).run(&jobs, longest);
    settle(&project);

    assert_eq!(tally.acknowledged.len(), count, "every id is acknowledged in the end");
    let starts = noted(&project);
    let none = BTreeMap::new();
    let lost: usize =
        jobs.iter().map(|(id, job)| judge(&project, id, job, starts.get(id).unwrap_or(&none))).sum();
    assert!(tally.kills.values().sum::<usize>() >= 20, "hardly anything was killed: {:?}", tally.kills);
    let killed = |victim| tally.kills.get(&victim).copied().unwrap_or_default();
    assert!(
        lost <= killed(Victim::Runner),
        "{lost} attempts are lost, {} runners were killed",
        killed(Victim::Runner)
    );
    let overlaps = std::fs::read_to_string(project.path("runs/overlaps")).unwrap_or_default();
    assert_eq!(overlaps, "", "two runs of one id, or of one lock, at a time");
    journal_is_complete(&project, &jobs);
    let processes = Processes::of(&project);
    assert_eq!(processes_with(&processes.marker), Vec::<i32>::new(), "processes of the jobs are alive");
    assert_eq!(std::fs::read_dir(project.root("jobs/running")).unwrap().count(), 0);
    let doctor = project.engine(&["doctor"]);
    assert_eq!(doctor.code, 0, "{}{}", doctor.out, doctor.err);

    let ran: usize = starts.values().map(BTreeMap::len).sum();
    row(
        &format!("{WORKERS} workers x {count} jobs, {ran} starts, {lost} attempts lost with their runners"),
        1,
    );
    for (victim, kills) in &tally.kills {
        row(&format!("kill -9 of a {victim:?} at a random moment of it"), *kills);
    }
}
