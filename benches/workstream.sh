#!/usr/bin/env bash
# What a workstream costs, against a shell script that does the same.
#
# Needs: git, python3; a Rust toolchain with the target x86_64-unknown-linux-musl.
# One edit of 1 s and two checks of 0.2 s. The script: `git worktree add`, the same commands, one commit, `git worktree remove`.
# Prints the table of docs/performance.md. Usage: benches/workstream.sh [RUNS]
set -euo pipefail
cd "$(dirname "$0")/.."
ENGINE=${ENGINE:-$(benches/built.sh)/engine}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export ENGINE HOME=$work/home XDG_CACHE_HOME=$work/cache GIT_CONFIG_NOSYSTEM=1
export PYTHONPATH=$PWD/benches PYTHONDONTWRITEBYTECODE=1
unset ENGINE_ROOT
mkdir "$HOME" "$work/project"
cd "$work/project"
git init -q -b main
git config user.name bench
git config user.email bench@localhost
printf 'def add(a, b):\n    return a - b\n' > calc.py
git add .
git commit -q -m "a project"
"$ENGINE" init -q
echo .engine >> .git/info/exclude
mkdir -p .engine/adapters
cat > .engine/adapters/script.json <<'JSON'
{"id": "script", "executable": "/bin/sh", "args": ["-c", "cat > /dev/null; sleep 1; sed -i 's/a - b/a + b/' calc.py"],
 "stdin": "prompt", "needs_prompt": true}
JSON
cat > "$work/script.sh" <<'SH'
set -e
git worktree add -q -b "$1" "$2/$1"
cd "$2/$1"
/bin/sh -c "cat > /dev/null; sleep 1; sed -i 's/a - b/a + b/' calc.py" < /dev/null
/bin/sh -c "sleep 0.2"
/bin/sh -c "sleep 0.2"
git add calc.py
git commit -q -m "$1"
cd - > /dev/null
git worktree remove "$2/$1"
SH

python3 - "$work" "${1:-5}" <<'PY'
import json, os, statistics, subprocess, sys, time
from datetime import datetime
from watched import conductors, most_memory

work, runs = sys.argv[1], int(sys.argv[2])
engine, null = os.environ["ENGINE"], subprocess.DEVNULL
EDIT, CHECK = 1.0, 0.2

def by_script(n):
    start = time.monotonic()
    subprocess.run(["sh", f"{work}/script.sh", f"bare-{n}", work], check=True)
    return time.monotonic() - start

def by_engine(n, watched=False):
    run = f"bench-{n}"
    flags = ["--task", "add() subtracts", "--files", "calc.py", "--tool", "script", "--run", run]
    checks = ["--check", "sleep 0.2", "--test", "sleep 0.2"]
    start = time.monotonic()
    process = subprocess.Popen([engine, "run", "-q", *flags, *checks], stdout=null)
    own, child = 0, 0
    while watched and process.poll() is None:
        own = max(own, most_memory(process.pid))
        child = max([child, *map(most_memory, conductors(work))])
        time.sleep(0.02)
    assert process.wait() == 0, "the run did not succeed"
    return time.monotonic() - start, run, own, child

def seconds(text):
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()

def events(run):
    """The times of a run: before its first step, its edit, its first check, its last check, and its end."""
    text = subprocess.run([engine, "runs", "events", run, "--json"], check=True, stdout=subprocess.PIPE).stdout
    found = [json.loads(line) for line in text.splitlines()]
    at = {}
    for event in found:
        at.setdefault(event["event"], []).append(seconds(event["at"]))
    starts, end = at["step_started"], at["workstream_end"][0]
    return (starts[0] - at["run_created"][0], starts[1] - starts[0] - EDIT,
            starts[2] - starts[1] - CHECK, end - starts[2] - CHECK)

by_script("warm"), by_engine("warm")
bare, whole, names = [], [], []
for n in range(runs):
    bare.append(by_script(n))
    took, run, _, _ = by_engine(n)
    whole.append(took)
    names.append(run)
_, _, own, child = by_engine("watched", watched=True)
before, edit, check, last = (list(part) for part in zip(*map(events, names)))

def spread(values, unit=1e3, digits=0):
    return f"{statistics.median(values) * unit:.{digits}f} ({min(values) * unit:.{digits}f}-{max(values) * unit:.{digits}f})"

ratio = statistics.median(whole) / statistics.median(bare)
rows = [
    ("the script, s", spread(bare, 1, 3), "", None),
    ("`engine run`, s", spread(whole, 1, 3), "", None),
    ("`engine run` to the script", f"{ratio:.3f}", "at most 1.10", ratio <= 1.10),
    ("a check step over its command, ms", spread(check), "at most 15", statistics.median(check) <= 0.015),
    ("an edit step over its command, ms", spread(edit), "at most 60", statistics.median(edit) <= 0.060),
    ("from the acceptance of the run to its first step, ms", spread(before), "", None),
    ("the last check over its command, with the end, ms", spread(last), "", None),
    ("peak memory of the conductor, MB", f"{child / 1024:.1f}", "at most 8", child / 1024 <= 8),
    ("peak memory of `engine run`, MB", f"{own / 1024:.1f}", "at most 12", own / 1024 <= 12),
]
print("| what | median (min-max) | goal | met |\n|---|---:|---|---|")
for name, value, goal, met in rows:
    print(f"| {name} | {value} | {goal} | {'' if met is None else 'yes' if met else '**no**'} |")
PY
