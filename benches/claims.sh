#!/usr/bin/env bash
# How long a claim takes while a worker recovers jobs whose left-overs ignore TERM, beside how long it takes without.
#
# Needs: python3, and without ENGINE (a built program) a Rust toolchain with the musl target. A worker with one slot is
# killed with its runner LEFT times (1; a worker recovers four at a time); the next worker recovers the jobs for as long
# as their grace, and meanwhile takes CLAIMS jobs, one after the other. From the name in queued/ to what the tool does
# first it must be 100 ms at most; run it on a quiet machine.
set -euo pipefail
cd "$(dirname "$0")/.."
ENGINE=${ENGINE:-$(benches/built.sh)/engine}
work=$(mktemp -d "${TMPDIR:-/tmp}/engine-claims.XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 - "$ENGINE" "${CLAIMS:-50}" "${LEFT:-1}" <<'PY'
import json, os, signal, statistics, subprocess, sys, time

engine, claims, left = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
stubborn = [f"stubborn-{n}" for n in range(left)]
quiet = dict(stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

def until(what, seconds=20):
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.0005)
    return found

def submit(job, *command):
    document = {"job_id": job, "tool": "shell", "command": {"exe": command[0], "args": list(command[1:])}}
    with open(f".{job}", "w") as file:
        json.dump(document, file)
    os.rename(f".{job}", f"jobs/queued/{job}.json")

def last(job):
    with open(f"state/jobs/{job}.jsonl") as file:
        return json.loads(file.read().splitlines()[-1])

def work():
    return subprocess.Popen([engine, "--root", ".", "work", "-q"], **quiet)

def measured(name):
    times = []
    for n in range(claims):
        start = time.monotonic()
        submit(f"{name}-{n}", "touch", f"{name}-{n}.ran")
        until(lambda: os.path.exists(f"{name}-{n}.ran"))
        times.append((time.monotonic() - start) * 1000)
        until(lambda: last(f"{name}-{n}")["status"] == "succeeded")
    print(f"{name:12} median {statistics.median(times):6.1f} ms, longest {max(times):6.1f} ms, {claims} claims")
    return max(times)

subprocess.run([engine, "init", "-q", "."], check=True, **quiet)
with open("engine.toml", "w") as toml:
    toml.write("grace_seconds = 30\n")
subprocess.run([engine, "--root", ".", "recover", "-q"], check=True, **quiet)
for job in stubborn:
    submit(job, "sh", "-c", f"trap '' TERM; echo $PPID > .pid; mv .pid {job}.pid; while :; do sleep 0.05; done")
    worker = work()
    until(lambda: os.path.exists(f"{job}.pid"))
    worker.kill()
    worker.wait()
    with open(f"{job}.pid") as file:
        os.kill(int(file.read()), signal.SIGKILL)
    os.rename(f"jobs/running/{job}.json", f".{job}.json")
worker = work()
try:
    measured("without")
    for job in stubborn:
        os.rename(f".{job}.json", f"jobs/running/{job}.json")
    # The worker looks for abandoned jobs every five seconds; a process that recovers a job holds its record.
    def recovered():
        with open("/proc/locks") as file:
            locks = file.read()
        return all(f":{os.stat(f'state/jobs/{job}.jsonl').st_ino} " in locks for job in stubborn)
    until(recovered)
    longest = measured("recovering")
    assert all(last(job)["attempts"][-1]["outcome"] is None for job in stubborn), "the recoveries have ended: fewer CLAIMS"
    assert longest <= 100, f"a claim took {longest:.0f} ms beside recoveries"
finally:
    worker.kill()
    worker.wait()
    # The recoveries go on without the worker, and end what is left.
    for job in stubborn:
        until(lambda: last(job)["attempts"][-1]["outcome"] is not None, 60)
PY
