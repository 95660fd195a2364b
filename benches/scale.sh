#!/usr/bin/env bash
# How the price of a command grows with the queue: 10 to 100,000 jobs, queued and finished.
#
# Needs: python3, hyperfine; a Rust toolchain with the musl target. Roots are kept side by side until the end, because
# deleted inodes slow the next run. SIZES="10 1000" makes it short.
set -euo pipefail
cd "$(dirname "$0")/.."
here=$PWD
engine=$(benches/built.sh)/engine
work=$(mktemp -d "${TMPDIR:-/tmp}/engine-scale.XXXXXX")
# KEEP=1 leaves the directories: on ext4 deleted inodes slow every creation for minutes.
trap '[ -n "${KEEP:-}" ] || rm -rf "$work"' EXIT
cd "$work"
python3 - "$engine" "$here/benches/make_jobs.py" ${SIZES:-10 1000 10000 100000} <<'PY'
import json, os, statistics, subprocess, sys, time

engine, maker, sizes = sys.argv[1], sys.argv[2], [int(size) for size in sys.argv[3:]]
quiet = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

def run(*args, **more):
    return subprocess.run([engine, *args], check=True, **{**quiet, **more})

def timed(call):
    start = time.monotonic()
    call()
    return (time.monotonic() - start) * 1e3

def median(call, times=21):
    return statistics.median(timed(call) for _ in range(times))

def peak_and_first(root, marker):
    """Starts a worker; milliseconds until its first job has run, and its peak memory in MB then."""
    start = time.monotonic()
    worker = subprocess.Popen([engine, "--root", root, "work", "-q"], **quiet)
    while not os.path.exists(marker):
        if time.monotonic() - start > 120:
            raise SystemExit("no job was started within 120 s")
        time.sleep(0.001)
    first = (time.monotonic() - start) * 1e3
    status = open(f"/proc/{worker.pid}/status").read()
    peak = int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024
    worker.terminate()
    worker.wait()
    return first, peak

rows = []
for size in sizes:
    queued, finished, bulk = f"queued-{size}", f"finished-{size}", f"bulk-{size}"
    for root in (queued, finished, bulk):
        run("init", "-q", root)
        run("--root", root, "recover", "-q")
    lines = "".join(
        json.dumps({"job_id": f"job-{n}", "tool": "shell", "command": {"exe": "/bin/true"}}) + "\n" for n in range(size)
    ).encode()
    submit_all = timed(lambda: run("--root", bulk, "submit", "-", input=lines))
    subprocess.run([sys.executable, maker, queued, "--queued", str(size)], check=True, **quiet)
    subprocess.run([sys.executable, maker, finished, "--finished", str(size)], check=True, **quiet)
    submit_one = median(lambda: run("--root", queued, "submit", "--", "/bin/true"))
    marker = os.path.abspath(f"first-{size}")
    urgent = {"job_id": "urgent", "tool": "shell", "priority": "critical", "command": {"exe": "touch", "args": [marker]}}
    run("--root", queued, "submit", "-", input=json.dumps(urgent).encode())
    first, peak = peak_and_first(queued, marker)
    status_cold = timed(lambda: run("--root", finished, "status"))
    status = median(lambda: run("--root", finished, "status"))
    listed = median(lambda: run("--root", finished, "list", "--limit", "50"))
    rows.append((size, submit_all * 1e3 / size, submit_one, first, peak, status_cold, status, listed))

head = ("jobs", "bulk µs a job", "submit one ms", "first job ms", "worker MB", "status cold ms", "status ms", "list 50 ms")
print(" | ".join(head))
for row in rows:
    print(" | ".join([str(row[0])] + [f"{value:.1f}" for value in row[1:]]))
least, most = rows[0], rows[-1]
print(f"submit one with {most[0]} queued / with {least[0]}: {most[2] / least[2]:.2f} (<= 1.3)")
print(f"bulk submit: {most[1]:.0f} µs a job (<= 100); first job: {most[3]:.0f} ms (<= 1500); worker: {most[4]:.1f} MB (<= 40)")
print(f"status: {most[6]:.1f} ms (<= 20), without cache {most[5]:.0f} ms (<= 1200); list --limit 50: {most[7]:.1f} ms (<= 30)")
PY
