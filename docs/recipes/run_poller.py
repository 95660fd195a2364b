#!/usr/bin/env python3
"""Shows a run until nothing of it can move. usage: run_poller.py ROOT RUN [--once]

Asks `engine runs show RUN --json` only when the journal has grown, so an idle screen costs one `stat` a look."""
import json, os, subprocess, sys, time

root, run, once = sys.argv[1], sys.argv[2], "--once" in sys.argv
journal = os.path.join(root, "state/events.jsonl")
shown, looked_at = {}, None


def show(name, state):
    """A line for what has changed since the last look."""
    if shown.get(name) != state:
        shown[name] = state
        print(name, state, flush=True)


while True:
    size = os.stat(journal).st_size
    if size != looked_at:
        looked_at = size
        command = ["engine", "--root", root, "runs", "show", run, "--json"]
        document = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        for workstream in document["workstreams"]:
            for step in workstream["steps"]:
                show(step["job_id"], step["outcome"] or step["status"])
            reason = workstream["reason"]
            show(workstream["job_id"], workstream["status"] + (": " + reason["code"] if reason else ""))
        show(document["run_id"], document["status"])
        if document["status"] not in ("pending", "running"):
            break
    if once:
        break
    time.sleep(0.5)
