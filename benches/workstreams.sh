#!/usr/bin/env bash
# What a run of many workstreams costs, against the sum of what cannot be avoided, measured in the same run.
#
# Needs: git 2.38, python3; a Rust toolchain with the target x86_64-unknown-linux-musl.
# Each bundle is one edit by a script and two `true` checks, in a repository of 100 files; two slots. Not to be avoided: the
# same three jobs a bundle drained by the engine, two at a time; and git's own, with the syncs that the engine makes: worktree
# add (one at a time: git fails where two meet), commit and worktree remove, two at a time, then merge-tree and commit-tree.
# Prints the table of docs/performance.md. Usage: benches/workstreams.sh [BUNDLES]; KEEP=1 leaves its directory.
set -euo pipefail
cd "$(dirname "$0")/.."
ENGINE=${ENGINE:-$(benches/built.sh)/engine}
work=$(mktemp -d)
trap '[ -n "${KEEP:-}" ] || rm -rf "$work"' EXIT
export ENGINE HOME=$work/home XDG_CACHE_HOME=$work/cache GIT_CONFIG_NOSYSTEM=1
export PYTHONPATH=$PWD/benches PYTHONDONTWRITEBYTECODE=1
unset ENGINE_ROOT
mkdir "$HOME" "$work/seed"
cd "$work/seed"
git init -q -b main
git config user.name bench
git config user.email bench@localhost
for dir in 0 1 2 3 4 5 6 7 8 9; do
    mkdir "d$dir"
    for file in 0 1 2 3 4 5 6 7 8 9; do seq 40 > "d$dir/f$file.txt"; done
done
git add .
git commit -q -m "a project"
echo .engine >> .git/info/exclude
# The parts of one worker of git: a token in a pipe lets one add or remove a worktree at a time.
cat > "$work/git.sh" <<'SH'
set -e
first=$1 count=$2 trees=$3
exec 9<> "$trees/token"
for ((n = first; n < count; n += 2)); do
    name=ws-$n tree=$trees/ws-$n
    read -r -n 1 -u 9
    git worktree add -q -b "bare/$name" "$tree" main
    printf x >&9
    mkdir "$tree/out"
    echo "$name" > "$tree/out/$name"
    git -C "$tree" add "out/$name"
    git -C "$tree" -c core.fsync=reference commit -q -m "$name"
    read -r -n 1 -u 9
    git worktree remove "$tree"
    printf x >&9
done
SH
cat > "$work/merge.sh" <<'SH'
set -e
commit=$(git rev-parse main)
for ((n = 0; n < $1; n++)); do
    git merge-tree --write-tree "$commit" "bare/ws-$n" > "$2"
    read -r tree < "$2"
    git commit-tree -m "merge ws-$n" -p "$commit" -p "bare/ws-$n" "$tree" > "$2"
    read -r commit < "$2"
done
git -c core.fsync=reference update-ref refs/heads/bare/all "$commit"
SH
python3 - "$work" "${1:-1000}" <<'PY'
import glob, hashlib, json, os, statistics, subprocess, sys, threading, time
from watched import conductors, most_memory

work, count = sys.argv[1], int(sys.argv[2])
engine, null = os.environ["ENGINE"], subprocess.DEVNULL
SCRIPT = 'echo "$ENGINE_WORKSTREAM_ID" > "out/$ENGINE_WORKSTREAM_ID"'

def project(name):
    """A copy of the project with a root that is ready."""
    path = f"{work}/{name}"
    subprocess.run(["cp", "-a", f"{work}/seed", path], check=True)
    run = lambda *args: subprocess.run([engine, *args], cwd=path, check=True, stdout=null, stderr=null)
    run("init", "-q")
    os.makedirs(f"{path}/.engine/adapters", exist_ok=True)
    adapter = {"id": "script", "executable": "/bin/sh", "args": ["-c", SCRIPT], "stdin": "prompt", "needs_prompt": True}
    open(f"{path}/.engine/adapters/script.json", "w").write(json.dumps(adapter))
    with open(f"{path}/.engine/engine.toml", "a") as toml:
        toml.write('[workstreams]\nstatic = ["true"]\nruntime = ["true"]\nmax_workers = 2\n')
    run("recover", "-q")
    return path

def bundles(path, number):
    os.mkdir(f"{path}-bundles")
    for n in range(number):
        bundle = {"id": f"ws-{n}", "openspec_change": "bench", "ccpm_issue": 1, "gate": 1, "files_scope": [f"out/ws-{n}"],
                  "tasks": ["write the file"], "tool": "script"}
        open(f"{path}-bundles/ws-{n}.json", "w").write(json.dumps(bundle))
    return f"{path}-bundles"

def timed(args, path, **more):
    start = time.monotonic()
    subprocess.run(args, cwd=path, check=True, stdout=null, **more)
    return time.monotonic() - start

def by_engine(path, number):
    """The run: its time, and the peak memory of the command and of a conductor."""
    args = [engine, "run", "-q", "--run", "bench", "--slots", "2", bundles(path, number)]
    start = time.monotonic()
    process = subprocess.Popen(args, cwd=path, stdout=null)
    own, child, looks = 0, 0, 0
    while process.poll() is None:
        own = max(own, most_memory(process.pid))
        # A look at all processes is not cheap.
        if looks % 40 == 20:
            child = max([child, *map(most_memory, conductors(work))])
        looks += 1
        time.sleep(0.05)
    took = time.monotonic() - start
    assert process.wait() == 0, "the run did not succeed"
    return took, own, child

def by_drain(path, template):
    """The same steps as jobs without a workstream."""
    steps = []
    for kind in ("edit", "static", "runtime"):
        [file] = glob.glob(f"{template}/.engine/jobs/done/*/bench.ws-0.*-{kind}.json")
        steps.append(json.load(open(file)))
    tree = f"{path}-tree"
    subprocess.run(["git", "worktree", "add", "-q", "--detach", tree], cwd=path, check=True)
    os.mkdir(f"{tree}/out")
    lines = []
    for n in range(count):
        for step in steps:
            text = json.dumps(step).replace("ws-0", f"ws-{n}")
            job = json.loads(text)
            job.pop("parent")
            job["job_id"], job["paths"] = job["job_id"].replace(".", "-"), {**job["paths"], "repo_root": tree}
            job["run_id"] = "drained"
            lines.append(json.dumps(job) + "\n")
    subprocess.run([engine, "submit", "-"], cwd=path, input="".join(lines).encode(), check=True,
                   stdout=null, stderr=null)
    return timed([engine, "work", "--drain", "--slots", "2", "-q"], path)

def by_git(path):
    trees = f"{path}-trees"
    os.mkdir(trees)
    os.mkfifo(f"{trees}/token")
    token = os.open(f"{trees}/token", os.O_RDWR)
    os.write(token, b"x")
    start = time.monotonic()
    both = [subprocess.Popen(["bash", f"{work}/git.sh", str(first), str(count), trees], cwd=path) for first in (0, 1)]
    assert [one.wait() for one in both] == [0, 0]
    middle = time.monotonic()
    subprocess.run(["bash", f"{work}/merge.sh", str(count), f"{trees}/name"], cwd=path, check=True)
    return middle - start, time.monotonic() - middle

def median(args, path, times=9):
    took = sorted(timed(args, path) for _ in range(times))
    return took[times // 2], f"{took[times // 2] * 1e3:.0f} ({took[0] * 1e3:.0f}-{took[-1] * 1e3:.0f})"

def two_hundred(path):
    """200 ended runs of five workstreams: one that was run, and copies of all its files."""
    subprocess.run([engine, "run", "-q", "--run", "seed000", "--slots", "2", bundles(path, 5)], cwd=path, check=True,
                   stdout=null)
    root = f"{path}/.engine"
    files = [f"{root}/state/runs/seed000/jobs.jsonl", f"{root}/state/runs/seed000/run.json"]
    files += glob.glob(f"{root}/state/jobs/seed000.*") + glob.glob(f"{root}/jobs/done/*/seed000.*")
    for n in range(1, 200):
        name = f"seed{n:03}"
        os.mkdir(f"{root}/state/runs/{name}")
        for file in files:
            text = open(file).read().replace("seed000", name)
            if file.endswith("jobs.jsonl"):
                digest = hashlib.sha256(text.encode()).hexdigest()
            if file.endswith("run.json"):
                text = json.dumps({**json.loads(text), "jobs_sha256": digest}) + "\n"
            open(file.replace("seed000", name), "w").write(text)

load = os.getloadavg()[0]
template = project("template")
by_engine(template, 2)
made = project("made")
whole, own, child = by_engine(made, count)
drained = by_drain(project("drained"), template)
each, merges = by_git(project("bare"))
shown, show = median([engine, "runs", "show", "bench", "--json"], made)
listed = project("listed")
two_hundred(listed)
several, many = median([engine, "runs", "list"], listed)
least = drained + each + merges
ratio = whole / least
rows = [
    (f"{3 * count} jobs drained by the engine, s", f"{drained:.2f}", "", None),
    ("git: worktree add, commit, worktree remove, s", f"{each:.2f}", "", None),
    ("git: merge-tree and commit-tree, s", f"{merges:.2f}", "", None),
    ("the sum of these, s", f"{least:.2f}", "", None),
    (f"`engine run` of {count} bundles, s", f"{whole:.2f}", "", None),
    ("`engine run` to the sum", f"{ratio:.2f}", "at most 1.5", ratio <= 1.5),
    ("peak memory of `engine run`, MB", f"{own / 1024:.1f}", "at most 40", own / 1024 <= 40),
    ("peak memory of a conductor, MB", f"{child / 1024:.1f}", "at most 8", child / 1024 <= 8),
    ("`runs show --json` of it, ms", show, "at most 150", shown <= 0.15),
    ("`runs list` of 200 runs of five workstreams, ms", many, "at most 50", several <= 0.05),
]
print(f"load before: {load:.1f}, after: {os.getloadavg()[0]:.1f}\n")
print("| what | median (min-max) | goal | met |\n|---|---:|---|---|")
for name, value, goal, met in rows:
    print(f"| {name} | {value} | {goal} | {'' if met is None else 'yes' if met else '**no**'} |")
PY
