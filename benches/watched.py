"""What the benches of workstreams watch: the memory of processes, and conductors."""
import os


def most_memory(pid):
    """Peak memory of a process in KB; 0 if it is gone."""
    try:
        lines = open(f"/proc/{pid}/status").read().splitlines()
    except OSError:
        return 0
    return max([int(line.split()[1]) for line in lines if line.startswith("VmHWM")], default=0)


def conductors(work):
    """The conductors that work below a directory."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = open(f"/proc/{pid}/cmdline", "rb").read().split(b"\0")
        except OSError:
            continue
        if b"conduct" in words and work.encode() in b" ".join(words):
            yield int(pid)
