#!/usr/bin/env bash
# What running one job costs, against what a user would use instead, in one run.
#
# Needs: the Debian packages nq, hyperfine, python3; a Rust toolchain with the target x86_64-unknown-linux-musl.
# Prints a table of medians with spread, and the ratios that CHANGELOG and docs/performance.md quote.
set -euo pipefail
cd "$(dirname "$0")/.."
runs=${RUNS:-200}
engine=$(benches/built.sh)/engine
work=$(mktemp -d)
# KEEP=1 leaves the directories: on ext4 deleted inodes slow every creation for minutes.
trap '[ -n "${KEEP:-}" ] || rm -rf "$work"' EXIT
printf 'fn main() { println!("hello"); }\n' > "$work/hello.rs"
rustc -O -o "$work/hello" "$work/hello.rs"
cd "$work"

# Start-up: the static binary against a dynamic glibc hello.
hyperfine -N --warmup 20 --runs "$runs" --export-json start.json "$engine --version" "$work/hello" > /dev/null 2>&1

# One job: run-job with full durability against nq (which syncs nothing). Each round gets fresh directories, for both
# slow down with what they have kept; the rounds alternate.
for round in 1 2 3 4 5; do
    mkdir "root$round" "nq$round"
    "$engine" init -q "root$round"
    export ENGINE_ROOT=$work/root$round NQDIR=$work/nq$round
    # Through a shell, as a user types it; hyperfine takes the start of the shell itself off.
    hyperfine --warmup 3 --runs "$((runs / 5))" --export-json "job$round.json" "$engine run-job -- true" \
        "nq -q true > /dev/null; nq -w" > /dev/null 2>&1
done

# Output: a tool that prints a gigabyte, with a secret to take out.
export ENGINE_ROOT=$work/root1 BENCH_SECRET_TOKEN=not-to-be-shown
cat > gigabyte.py <<'PY'
import sys
line = b"x" * 99 + b"\n"
block = line * 10_000
for _ in range(1000):
    sys.stdout.buffer.write(block)
PY

python3 - "$engine" <<'PY'
import json, os, statistics, subprocess, sys, time

engine = sys.argv[1]

def times(file):
    return [result["times"] for result in json.load(open(file))["results"]]

def spread(values):
    values = sorted(v * 1e3 for v in values)
    tenth = max(1, len(values) // 10)
    return f"{statistics.median(values):.2f} ms ({values[tenth]:.2f}-{values[-tenth]:.2f})"

version, hello = times("start.json")
rounds = [times(f"job{n}.json") for n in range(1, 6)]
job, nq = ([t for r in rounds for t in r[k]] for k in range(2))

def cpu(argv, count=100):
    null = os.open(os.devnull, os.O_RDWR)
    actions = [(os.POSIX_SPAWN_DUP2, null, 1), (os.POSIX_SPAWN_DUP2, null, 2)]
    used = []
    for _ in range(count):
        pid = os.posix_spawn(argv[0], argv, os.environ, file_actions=actions)
        _, _, usage = os.wait4(pid, 0)
        used.append(usage.ru_utime + usage.ru_stime)
    return statistics.median(used)

def peak(argv):
    """Peak memory of the runner itself, without its children."""
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    most = 0
    while process.poll() is None:
        try:
            for line in open(f"/proc/{process.pid}/status"):
                if line.startswith("VmHWM"):
                    most = max(most, int(line.split()[1]))
        except (FileNotFoundError, ProcessLookupError):
            pass
        time.sleep(0.001)
    return most

tool = cpu(["/bin/true"])
own = cpu([engine, "run-job", "--", "/bin/true"]) - tool
before_fork = peak([engine, "run-job", "--", "/bin/sleep", "0.2"])
start = time.monotonic()
giga = peak([engine, "run-job", "--output", "never", "--", sys.executable, "gigabyte.py"])
giga_s = time.monotonic() - start
median = statistics.median
rows = [
    ("engine --version", spread(version), f"{median(version) / median(hello):.2f} of a dynamic hello", "<= 0.80"),
    ("hello, dynamic glibc", spread(hello), "", ""),
    ("engine run-job -- true (durable)", spread(job), f"{median(job) / median(nq):.2f} of nq", "<= 0.70"),
    ("nq true; nq -w (not durable)", spread(nq), "", ""),
    ("CPU of run-job without the tool", f"{own * 1e3:.2f} ms", f"tool {tool * 1e3:.2f} ms", "< 1 ms"),
    ("memory of run-job while its tool runs", f"{before_fork / 1024:.1f} MB", "", "< 3 MB"),
    ("a tool that prints 1 GB, redacted", f"{giga_s:.2f} s", f"{giga / 1024:.1f} MB", "< 3 s, < 20 MB"),
    ("size of the binary", f"{os.path.getsize(engine) / 1e6:.1f} MB", "", "< 8 MB"),
]
width = max(len(row[0]) for row in rows)
print(f"{'what':<{width}}  {'median (10-90 %)':<28}  {'ratio or note':<32}  goal")
for name, value, note, goal in rows:
    print(f"{name:<{width}}  {value:<28}  {note:<32}  {goal}")
PY
