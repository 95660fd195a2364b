#!/usr/bin/env python3
"""Shows what happens in an engine root; reads files, nothing else. usage: poller.py ROOT [--once]"""
import json, os, sys, time

root, once = sys.argv[1], "--once" in sys.argv


def record(job_id):
    """The last complete line of a record: the whole state of the job. None: gc has retired it."""
    try:
        with open(os.path.join(root, "state/jobs", job_id + ".jsonl"), "rb") as file:
            lines = file.read().split(b"\n")[:-1]
    except FileNotFoundError:
        return None
    return json.loads(lines[-1]) if lines else None


def events(lines):
    """What parses: a torn or foreign line is passed over."""
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and "job_id" in event:
            yield event


position, rest = 0, b""
while True:
    path = os.path.join(root, "state/events.jsonl")
    if os.path.exists(path):
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size < position:
                position, rest = 0, b""  # the journal was rotated
            file.seek(position)
            rest += file.read()
            position = file.tell()
        *lines, rest = rest.split(b"\n")
        for event in events(lines):
            job = record(event["job_id"])
            if event["place"].startswith("archive/"):
                what = "retired to " + event["place"]
            else:
                what = event["status"] + " " + (event["outcome"] or "")
            print(event["at"], event["job_id"], what, "now:", job["status"] if job else "not there")
    sys.stdout.flush()
    if once:
        break
    time.sleep(0.5)
