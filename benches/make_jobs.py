#!/usr/bin/env python3
"""Makes a root with many jobs, as if they had been submitted and had run: for benchmarks.

    benches/make_jobs.py DIR [--queued N] [--finished N] [--run NAME] [--prefix P]

DIR must hold a root that `engine init` made (DIR itself, or DIR/.engine) and have no jobs of that prefix yet. Finished jobs ran `true`,
700 a second; every 20th failed (half of those in done/, half in quarantined/). Writes records, job
files and journal in the format of protocol 1 and 5, without any sync. Every 100th finished job belongs to the run NAME.
"""

import argparse
import datetime
import hashlib
import json
import os
import pathlib
import socket
import sys
import uuid

ROTATE_AT = 64 << 20


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("dir", type=pathlib.Path)
    parser.add_argument("--queued", type=int, default=0)
    parser.add_argument("--finished", type=int, default=0)
    parser.add_argument("--run", default="nightly", help="the run of every 100th finished job")
    parser.add_argument("--prefix", default="job", help="the ids are PREFIX-f000000 and PREFIX-q000000")
    return parser.parse_args()


def text(document):
    return json.dumps(document, separators=(",", ":"))


def stamp(millis):
    at = datetime.datetime.fromtimestamp(millis / 1000, datetime.timezone.utc)
    return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{millis % 1000:03d}Z"


class Maker:
    def __init__(self, root, run, prefix):
        self.root, self.run, self.prefix = root, run, prefix
        self.jobs, self.state = root / "jobs", root / "state"
        for part in ["queued", "running", "done", "quarantined"]:
            (self.jobs / part).mkdir(mode=0o700, parents=True, exist_ok=True)
        for part in ["jobs", "logs", "control", "locks"]:
            (self.state / part).mkdir(mode=0o700, parents=True, exist_ok=True)
        os.chmod(self.jobs, 0o700)
        os.chmod(self.state, 0o700)
        version = self.state / "VERSION"
        if not version.exists():
            version.write_text(text({"schema_version": 1, "store": str(uuid.uuid4())}) + "\n")
        self.boot_id = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        self.namespace = os.readlink("/proc/self/ns/pid")
        self.journal = open(self.state / "events.jsonl", "a")

    def job_file(self, job_id, run, place):
        document = {"job_id": job_id, "tool": "shell", "command": {"exe": "true", "args": []}}
        if run:
            document["run_id"] = run
        body = text(document).encode()
        directory = self.jobs / place
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.write(directory / f"{job_id}.json", body)
        return hashlib.sha256(body).hexdigest()

    @staticmethod
    def write(path, body):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        os.write(descriptor, body)
        os.close(descriptor)

    def attempt(self, started, ended, outcome):
        return {
            "attempt": 1, "started_at": stamp(started), "ended_at": ended and stamp(ended), "outcome": outcome,
            "reason": reason(outcome), "exit_code": exit_code(outcome), "signal": None,
            "usage": ended and {"cpu_user_s": 0.0006, "cpu_system_s": 0.0, "max_rss_bytes": 13758464},
            "log_path": None, "host": socket.gethostname(), "boot_id": self.boot_id,
            "pid_namespace": self.namespace, "pid": os.getpid(), "repeatable": False, "dependencies": [],
        }

    def line(self, seq, at, job_id, status, place, run, sha256, attempts, result=None, report=None):
        return {
            "schema_version": 1, "seq": seq, "at": stamp(at), "job_id": job_id, "status": status, "place": place,
            "not_before": None,
            "job": {"run_id": run, "workstream_id": None, "tool": "shell", "key": None, "priority": None,
                    "depends_on": [], "sha256": sha256},
            "life": 1, "first_attempt": 1, "former": {"lives": 0, "attempts": 0, "last_outcome": None},
            "attempts": attempts, "result": result, "error_report": report,
        }

    def tell(self, line):
        last = line["attempts"][-1] if line["attempts"] else {}
        why = last.get("reason")
        self.journal.write(text({
            "schema_version": 1, "at": line["at"], "job_id": line["job_id"], "seq": line["seq"],
            "attempt": last.get("attempt"), "status": line["status"], "outcome": last.get("outcome"),
            "reason_code": why and why["code"], "place": line["place"], "run_id": line["job"]["run_id"],
            "workstream_id": None, "tool": "shell",
        }) + "\n")
        if self.journal.tell() > ROTATE_AT:
            self.journal.close()
            path = self.state / "events.jsonl"
            millis = int(datetime.datetime.fromisoformat(line["at"]).timestamp() * 1000)
            path.rename(self.state / f"events.{millis}-{path.stat().st_ino}.jsonl")
            self.journal = open(path, "a")

    def record(self, job_id, lines):
        self.write(self.state / "jobs" / f"{job_id}.jsonl", "".join(text(line) + "\n" for line in lines).encode())
        for line in lines:
            self.tell(line)

    def finished(self, number, at):
        job_id = f"{self.prefix}-f{number:06d}"
        run = self.run if number % 100 == 0 else None
        outcome = "failed" if number % 20 == 19 else "succeeded"
        status = {"succeeded": "succeeded", "failed": "failed" if number % 40 == 19 else "quarantined"}[outcome]
        place = "quarantined" if status == "quarantined" else f"done/{stamp(at)[:10]}"
        sha256 = self.job_file(job_id, run, place)
        ended = self.attempt(at + 1, at + 2, outcome)
        result = {
            "schema_version": 1, "job_id": job_id, "tool": "shell", "attempt": 1, "success": outcome == "succeeded",
            "status": status, "outcome": outcome, "reason": ended["reason"], "exit_code": ended["exit_code"],
            "signal": None, "started_at": stamp(at + 1), "finished_at": stamp(at + 2), "duration_s": 0.001,
            "usage": ended["usage"], "log_path": None, "error_report_path": None, "stdout": "", "stderr": "",
            "metadata": {},
        }
        self.record(job_id, [
            self.line(1, at, job_id, "queued", "queued", run, sha256, []),
            self.line(2, at + 1, job_id, "running", "running", run, sha256, [self.attempt(at + 1, None, None)]),
            self.line(3, at + 2, job_id, status, place, run, sha256, [ended], result),
        ])

    def queued(self, number, at):
        job_id = f"{self.prefix}-q{number:06d}"
        sha256 = self.job_file(job_id, None, "queued")
        self.record(job_id, [self.line(1, at, job_id, "queued", "queued", None, sha256, [])])


def reason(outcome):
    return {"code": "exit_code", "message": "`true` exited with code 1"} if outcome == "failed" else None


def exit_code(outcome):
    return {None: None, "succeeded": 0, "failed": 1}[outcome]


def main():
    os.umask(0o077)
    given = arguments()
    root = given.dir / ".engine" if (given.dir / ".engine" / "engine.toml").exists() else given.dir
    if not (root / "engine.toml").exists():
        sys.exit(f"make_jobs.py: no root in {given.dir}: engine init {given.dir}")
    maker = Maker(root, given.run, given.prefix)
    # 700 jobs a second, the last one now.
    now = int(datetime.datetime.now().timestamp() * 1000)
    first = now - (given.finished + given.queued) * 1000 // 700
    for number in range(given.finished):
        maker.finished(number, first + number * 1000 // 700)
    for number in range(given.queued):
        maker.queued(number, first + (given.finished + number) * 1000 // 700)
    maker.journal.close()


main()
