#!/usr/bin/env bash
# What a queue of short jobs costs: engine, its limit, and what a user would use instead, side by side in one run.
#
# Needs: the Debian packages parallel, task-spooler, nq, make, python3; a Rust toolchain with the musl target.
# Each round does 1,000 times /bin/true with two slots, every program in a fresh directory; the rounds alternate, and
# nothing is deleted before the end, because deleted inodes slow the next run. JOBS and ROUNDS change the numbers.
set -euo pipefail
cd "$(dirname "$0")/.."
built=$(benches/built.sh --example limit)
work=$(mktemp -d "${TMPDIR:-/tmp}/engine-queue.XXXXXX")
# KEEP=1 leaves the directories: on ext4 deleted inodes slow every creation for minutes.
trap '[ -n "${KEEP:-}" ] || rm -rf "$work"' EXIT
cd "$work"
PATH=/usr/bin:/bin python3 - "$built" "${JOBS:-1000}" "${ROUNDS:-5}" <<'PY'
import json, os, statistics, subprocess, sys, time

built, jobs, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
engine, limit = f"{built}/engine", f"{built}/examples/limit"
quiet = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

lines = "".join(
    json.dumps({"job_id": f"job-{n}", "tool": "shell", "command": {"exe": "/bin/true"}}) + "\n" for n in range(jobs)
).encode()

def fresh(name, number):
    path = f"{name}-{number}"
    os.mkdir(path)
    return path

def run_engine(path, durability="full"):
    subprocess.run([engine, "init", "-q", path], check=True)
    with open(f"{path}/engine.toml", "w") as toml:
        toml.write(f'durability = "{durability}"\n')
    subprocess.run([engine, "--root", path, "recover", "-q"], check=True, **quiet)
    start = time.monotonic()
    subprocess.run([engine, "--root", path, "submit", "-"], input=lines, check=True, **quiet)
    submitted = time.monotonic()
    subprocess.run([engine, "--root", path, "work", "--drain", "--slots", "2", "-q"], check=True, **quiet)
    parts["submit " + durability].append(submitted - start)
    parts["drain " + durability].append(time.monotonic() - submitted)

def run_limit(path, *options):
    subprocess.run([limit, *options, path, str(jobs), "2"], check=True, **quiet)

def run_tsp(path):
    env = {**os.environ, "TS_SOCKET": f"{os.getcwd()}/{path}/socket", "TMPDIR": path, "TS_MAXFINISHED": "10"}
    subprocess.run(["tsp", "-S", "2"], env=env, check=True, **quiet)
    script = f"i=0; while [ $i -lt {jobs} ]; do tsp -n /bin/true; i=$((i+1)); done; tsp -w"
    subprocess.run(["sh", "-c", script], env=env, check=True, **quiet)
    # The last one that was queued need not be the last one that ends.
    while b"running" in subprocess.run(["tsp"], env=env, capture_output=True).stdout:
        time.sleep(0.005)
    subprocess.run(["tsp", "-K"], env=env, **quiet)

def run_nq(path):
    script = f"i=0; while [ $i -lt {jobs} ]; do nq -q /bin/true; i=$((i+1)); done; nq -w"
    subprocess.run(["sh", "-c", script], env={**os.environ, "NQDIR": path}, **quiet)

def run_make(path):
    with open(f"{path}/Makefile", "w") as makefile:
        names = " ".join(f"job-{n}" for n in range(jobs))
        makefile.write(f".PHONY: all {names}\nall: {names}\n{names}:\n\t@/bin/true\n")
    subprocess.run(["make", "-s", "-j2", "-C", path], check=True, **quiet)

def run_parallel(path):
    numbers = "\n".join(map(str, range(jobs))).encode()
    subprocess.run(["parallel", "-j2", "/bin/true"], input=numbers, check=True, env={**os.environ, "HOME": path}, **quiet)

def run_xargs(path):
    numbers = "\n".join(map(str, range(jobs))).encode()
    subprocess.run(["xargs", "-P2", "-n1", "/bin/true"], input=numbers, check=True, **quiet)

parts = {f"{what} {how}": [] for what in ("submit", "drain") for how in ("full", "fast")}
programs = {
    "engine, full": lambda path: run_engine(path),
    "limit, full": lambda path: run_limit(path),
    "engine, fast": lambda path: run_engine(path, "fast"),
    "limit, fast": lambda path: run_limit(path, "--fast"),
    "task-spooler": run_tsp,
    "GNU parallel": run_parallel,
    "nq (one slot)": run_nq,
    "make -j2": run_make,
    "xargs -P2": run_xargs,
}
taken = {name: [] for name in programs}
for number in range(rounds):
    for name, run in programs.items():
        path = fresh(name.replace(" ", "-").replace(",", ""), number)
        start = time.monotonic()
        before = sum(map(len, parts.values()))
        run(path)
        whole = time.monotonic() - start
        if sum(map(len, parts.values())) > before:
            how = "fast" if "fast" in name else "full"
            whole = parts[f"submit {how}"][-1] + parts[f"drain {how}"][-1]
        taken[name].append(whole)

median = {name: statistics.median(values) for name, values in taken.items()}
print(f"{jobs} jobs of /bin/true, two slots, {rounds} rounds; submit and drain together")
print(f"{'what':<16} {'µs a job':>9} {'spread':>15} {'of engine, full':>16}")
for name, values in taken.items():
    low, high = (f"{value / jobs * 1e6:.0f}" for value in (min(values), max(values)))
    print(f"{name:<16} {median[name] / jobs * 1e6:>9.0f} {low + '-' + high:>15} {median[name] / median['engine, full']:>16.2f}")
for part, values in parts.items():
    print(f"  of that {part}: {statistics.median(values) / jobs * 1e6:.0f} µs a job")
# The must-reach: ratios of the same round, so that what slows the machine slows both.
def ratio(one, other):
    return statistics.median(a / b for a, b in zip(taken[one], taken[other]))
print("ratios, medians over the rounds (goal)")
print(f"  engine, full / limit, full:    {ratio('engine, full', 'limit, full'):.2f} (<= 1.25)")
print(f"  engine, full / task-spooler:   {ratio('engine, full', 'task-spooler'):.2f} (<= 1.00)")
print(f"  engine, full / GNU parallel:   {ratio('engine, full', 'GNU parallel'):.2f} (<= 0.70)")
print(f"  engine, fast / xargs -P2:      {ratio('engine, fast', 'xargs -P2'):.2f} (<= 2.00)")
PY
