//! The machine loses its power while a workstream is worked on: `engine run --resume` does the work all the same.
//!
//! The conductor is stopped before one of its durable steps. The root becomes what a disk may show of all that the processes of
//! the run have written until then. Of the git directory and the worktrees each file that no one synced is as it was before the
//! run, empty, gone, torn, or as it was written. Then another boot begins. In the suite a sample; `tests/workstreams/crash.sh`
//! takes each step. `ENGINE_STRESS_SEED` repeats one.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::crash::traced;
use crate::disk::{self, Files, Lost, Model};
use crate::power_loss::{ANY_DISK, read};
use crate::stress::{Random, seed};
use crate::support::{eventually, row};
use crate::workstream_bench::{Bench, End, ONE_FIX, undisturbed};
use crate::workstream_crash::{aimed, sample_of, steps};
use crate::workstream_kill::{Victim, found, is_stopped, kill_all};

const CONDUCTOR: (&str, u32) = ("conduct", 1);

/// How many steps more or fewer a conductor may have than another time: how old files look decides what git reads again.
const LEEWAY: u64 = 4;

/// Runs up to a step of the conductor, and gives the states of the root that a disk may show then; none if it ended just before.
fn interrupted(bench: &Bench, model: Model, number: u64) -> Vec<Lost> {
    let root = bench.project.root("");
    let (mut files, mut dirs) = read(bench.project.dir());
    files.retain(|path, _| path.starts_with(".engine"));
    dirs.retain(|path| path.starts_with(".engine"));
    let log = bench.outside.path().join("disk");
    let mut begin = bench.begin();
    begin.envs(aimed(bench, CONDUCTOR, ("ENGINE_TEST_STOP_AT", &number.to_string())));
    begin.env("ENGINE_TEST_DISK", &log);
    if model == Model::ByFile {
        begin.env("ENGINE_TEST_MOUNT", ANY_DISK);
    }
    let mut command = begin.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let pid = i32::try_from(command.id()).unwrap();
    let mut has_ended = false;
    eventually(&format!("the conductor stops at step {number}"), || {
        has_ended = command.try_wait().unwrap().is_some();
        let all = found(bench, pid);
        has_ended || all.iter().any(|(pid, victim)| *victim == Victim::Conductor && is_stopped(*pid))
    });
    let last = traced(&bench.outside.path().join("trace")).last().map_or(0, |step| step.number);
    if has_ended {
        assert!(last + LEEWAY >= number, "not the same steps each time: {last}, not {number}");
        return Vec::new();
    }
    // New objects are synced by several threads: the others may have gone on when the one that stops all is there.
    assert!((number - 1..number + 8).contains(&last), "not the same steps each time: {last}, not {number}");
    kill_all(bench, pid);
    command.wait().unwrap();
    let text = std::fs::read_to_string(&log).unwrap();
    let is_of_root =
        |line: &&str| line.split('\t').nth(1).is_some_and(|path| Path::new(path).starts_with(&root));
    let text: String = text.lines().filter(is_of_root).map(|line| format!("{line}\n")).collect();
    let steps = disk::parse(&text, bench.project.dir(), &files);
    disk::states_from(steps.len(), model, (&files, &dirs), &steps)
}

/// Makes the root what the disk shows, as another boot finds it.
fn boot(bench: &Bench, lost: &Lost) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::remove_dir_all(bench.project.root("")).unwrap();
    for dir in &lost.dirs {
        std::fs::create_dir_all(bench.project.path(dir.to_str().unwrap())).unwrap();
        let mode = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(bench.project.path(dir.to_str().unwrap()), mode).unwrap();
    }
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    for (path, content) in &lost.files {
        let is_record = path.extension().is_some_and(|ending| ending == "jsonl");
        let content = match std::str::from_utf8(content) {
            Ok(text) if is_record => {
                text.replace(boot.trim(), "00000000-0000-4000-8000-000000000000").into_bytes()
            }
            _ => content.clone(),
        };
        std::fs::write(bench.project.path(path.to_str().unwrap()), content).unwrap();
    }
    // What stands for the disk is a copy, which a power loss does not make of it.
    bench.engine(&["init", "-q", "--adopt"], &[]).exits(0);
}

/// What a power loss makes of a file that no one synced.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Kept,
    AsBefore,
    Empty,
    Gone,
    Torn,
}

const FATES: [Fate; 5] = [Fate::Kept, Fate::AsBefore, Fate::Empty, Fate::Gone, Fate::Torn];

impl Fate {
    fn any(random: &mut Random) -> Self {
        FATES[usize::try_from(random.below(FATES.len() as u64)).unwrap()]
    }

    fn befall(self, path: &Path, before: Option<&Vec<u8>>) {
        let now = std::fs::read(path).unwrap();
        let content = match self {
            Self::Kept => return,
            Self::AsBefore => before.cloned(),
            Self::Empty => Some(Vec::new()),
            Self::Gone => None,
            Self::Torn => Some(now[..now.len() / 2].to_vec()),
        };
        // git makes its objects read-only, and a file that is written anew is another one.
        std::fs::remove_file(path).unwrap();
        if let Some(content) = content {
            std::fs::write(path, content).unwrap();
        }
    }
}

/// The files of the git directory and of the worktrees that no one has synced. A reference of the engine is synced, and so are
/// the objects that it leads to.
fn unsynced(bench: &Bench, before: &Files) -> Vec<PathBuf> {
    let reached = bench.git(&["rev-list", "--objects", "--no-object-names", "--glob=refs/engine/*"]);
    let reached: BTreeSet<&str> = reached.lines().collect();
    let (now, _) = read(bench.project.dir());
    let is_synced = |path: &Path| {
        let name = path.strip_prefix(".git/objects").ok().map(|name| name.to_str().unwrap().replace('/', ""));
        path.starts_with(".git/refs/engine") || name.is_some_and(|name| reached.contains(&*name))
    };
    let of_git = now.into_iter().filter(|(path, bytes)| {
        path.starts_with(".git") && before.get(path) != Some(bytes) && !is_synced(path)
    });
    let of_git = of_git.map(|(path, _)| bench.project.path(path.to_str().unwrap()));
    let dir = bench.outside.path().join("engine");
    let worktrees = if dir.exists() { read(&dir).0 } else { Files::new() };
    let of_trees = worktrees.into_keys().map(|path| dir.join(path));
    of_git.chain(of_trees).collect()
}

/// Loses some of them: one, all in the same way, or each in a way of its own. Gives how, for people.
fn lose(bench: &Bench, before: &Files, random: &mut Random) -> String {
    let files = unsynced(bench, before);
    let one = usize::try_from(random.below(files.len().max(1) as u64)).unwrap();
    let (how, fate) = (random.below(3), Fate::any(random));
    let mut told = Vec::new();
    for (number, path) in files.iter().enumerate() {
        let fate = match how {
            0 if number == one => fate,
            0 => Fate::Kept,
            1 => fate,
            _ => Fate::any(random),
        };
        let below = path.strip_prefix(bench.project.dir()).unwrap_or(path);
        fate.befall(path, before.get(below));
        if !matches!(fate, Fate::Kept) {
            told.push(format!("{fate:?} {}", below.display()));
        }
    }
    told.join("\n")
}

/// True if there was a step to lose the power at.
fn lose_power(template: &Bench, want: &End, model: Model, number: u64, random: &mut Random) -> bool {
    let bench = template.copy();
    let (before, _) = read(bench.project.dir());
    let states = interrupted(&bench, model, number);
    if states.is_empty() {
        return false;
    }
    let lost = &states[usize::try_from(random.below(states.len() as u64)).unwrap()];
    boot(&bench, lost);
    let unsynced = lose(&bench, &before, random);
    let at = format!("{model:?}: step {number} of the conductor, {}\n{unsynced}", lost.how);
    bench.go_on(&at);
    bench.check_work(want, &at);
    true
}

#[test]
fn at_steps_of_the_conductor() {
    let template = Bench::new(&ONE_FIX);
    let want = undisturbed(&template);
    let mut random = Random(seed());
    for model in [Model::Ordered, Model::ByFile] {
        let mut numbers: Vec<u64> = steps(&template, CONDUCTOR).iter().map(|step| step.number).collect();
        sample_of(&mut numbers, 3);
        numbers.retain(|number| lose_power(&template, &want, model, *number, &mut random));
        assert!(!numbers.is_empty(), "the power was never lost");
        row(
            &format!("a workstream with one fix: power loss at a step of its conductor, {model:?} disk"),
            numbers.len(),
        );
    }
}
