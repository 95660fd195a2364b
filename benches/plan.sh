#!/usr/bin/env bash
# The cost of a plan of many bundles: reading, planning, the whole command, its memory.
#
# Needs: python3; a Rust toolchain with the target x86_64-unknown-linux-musl.
# Bundles of which each has a file of its own; in the mixed set also directories, globs, groups, dependencies, one file that a
# tenth of them share, and some that run alone. Prints the table of docs/performance.md. Usage: benches/plan.sh [RUNS] [BUNDLES]
set -euo pipefail
cd "$(dirname "$0")/.."
ENGINE=${ENGINE:-$(benches/built.sh)/engine}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export ENGINE
unset ENGINE_ROOT
python3 - "$work" "${1:-5}" "${2:-10000}" <<'PY'
import json, os, random, re, statistics, subprocess, sys, time

work, runs, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
engine = os.environ["ENGINE"]
random.seed(7)
ids = [f"ws-{n:06d}" for n in range(count)]

def bundle(n):
    return {
        "id": ids[n], "openspec_change": "-", "ccpm_issue": n, "gate": 1, "files_scope": [f"src/m{n // 10}/f{n}.py"],
        "files_create": [f"tests/test_{n}.py"], "tasks": ["Change it.", "Add a test."], "tool": "claude",
        "acceptance_tests": ["$ pytest -q"],
    }

def mixed(n):
    made, module = bundle(n), random.randrange(count // 10 or 1)
    if n % 10 == 3:
        made["files_scope"].append(f"src/m{module}")
    if n % 10 == 4:
        made["files_scope"].append(f"src/m{module}/*.py")
    if n % 10 == 5:
        made["files_scope"].append("shared.py")
    if n % 10 == 6:
        made["conflict_group"] = f"g{n % 37}"
    if n % 997 == 8:
        made["parallel_ok"] = False
    if n > 10 and n % 3 == 0:
        made["depends_on"] = sorted({ids[random.randrange(max(0, n - 300), n)] for _ in range(2)})
    return made

def one_file(n):
    return {**bundle(n), "files_scope": ["shared.py"]}

def write(name, make):
    os.mkdir(f"{work}/{name}")
    for n in range(count):
        with open(f"{work}/{name}/{ids[n]}.json", "w") as out:
            json.dump(make(n), out, indent=1)
    return f"{work}/{name}"

def milliseconds(text):
    number, unit = re.fullmatch(r"([0-9.]+)(s|ms|µs|ns)", text).groups()
    return float(number) * {"s": 1e3, "ms": 1, "µs": 1e-3, "ns": 1e-6}[unit]

def plan(path, *flags):
    """Wall time, time to read and to plan in ms, peak memory in MB."""
    start = time.monotonic()
    process = subprocess.Popen([engine, "-v", "plan", path, *flags], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    said = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    wall = (time.monotonic() - start) * 1e3
    assert status == 0, said
    read, planned = re.search(r"read=(\S+) planned=(\S+)", said).groups()
    return wall, milliseconds(read), milliseconds(planned), usage.ru_maxrss / 1024

sets = [("mixed", write("mixed", mixed)), ("one file each", write("plain", bundle)), ("all in one file", write("shared", one_file))]
array = f"{work}/all.json"
with open(array, "w") as out:
    random.seed(7)
    json.dump([mixed(n) for n in range(count)], out)
sets.append(("mixed, as one array", array))
goals = [400, None, 150, 150]
print(f"| {count} bundles | command, ms | of it reading, ms | planning, ms | peak memory, MB |\n|---|---:|---:|---:|---:|")
for name, path in sets:
    for flags in [], ["--json"]:
        plan(path, *flags)
        columns = list(zip(*(plan(path, *flags) for _ in range(runs))))
        cells = []
        for values, goal in zip(columns, goals):
            median = statistics.median(values)
            mark = "**" if goal and median > goal else ""
            cells.append(f"{mark}{median:.0f}{mark} ({min(values):.0f}-{max(values):.0f})")
        print(f"| {' '.join([name, *flags])} | {' | '.join(cells)} |")
print("| goal | 400 | | 150 | 150 |")
PY
