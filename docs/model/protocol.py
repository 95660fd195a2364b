#!/usr/bin/env python3
"""Explicit-state model checker for the queue protocol of `engine` (contracts 2, 4, 7).  Plain Python 3.11, breadth first.

README (its output is output.txt; README.md says how long it runs and what was added to the model that the design began with)
  python3 protocol.py            all rules on: states, no violation; then each rule alone off: shortest counterexample; then side worlds
  python3 protocol.py SCENARIO   one scenario, all rules on
  python3 protocol.py -RULE S    rule RULE off in scenario S (both disk modes)

World      One job id.  Five places: Q queued/, R running/, D done/, X quarantined/ hold an inode number or 0; REC is the record
           file: (status, outcomes) or None (absent or empty).  `outcomes[k]` is attempt k+1: 'run' (open), 'ok', 'fail', 'lost', 'invalid'.
           NEW is a record that holds nothing but the unsynced line `queued`.
Locks      flock: one holder per inode; follows the inode through renames; released when the holder dies; with CLOEXEC off
           the tool inherits it and keeps it while it lives.  ID_LOCK on: the lock is on the record file, one inode per id that is never
           replaced, only appended to (gc removes it, so it has a generation).  ID_LOCK off: on the job file, as an earlier draft said.
Disk       Current state = newest snapshot.  Power loss picks an older one: mode `ordered` (ext4, xfs, btrfs: one history, any fsync
           makes everything before it durable) or `weak` (moves of the job file and versions of the record are two independent
           histories, a directory fsync collapses only its own; rename stays atomic).  An inode or record whose data was not
           fsynced reads as TORN (a job file: E) after a power loss; in `weak` a record whose name was not synced may be gone.
           No move out of queued/ or running/ is synced in any actor below (rename_sync serves section 3 only).
           Mode `split` (rename itself not atomic: each directory entry on its own) is run only to show what the protocol can not survive; such a file system must be refused.
Control    state/control/: `req` is <id>.cancel, (life, attempt) and the generation of the id it was meant for, which only the judge knows; `hold`
           is HOLD. Both are (now, durable): a power loss shows either, on every disk. A request is never removed here but by gc, which is worse than
           what the program does.
Forks      In scenarios with `hops` recovery walks the process table in two steps, low pids before high ones, and an orphan may fork and exit
           between any two steps, so that its child has a pid at the other end.
Crash      kill -9 of any actor between any two steps (budget per scenario); its tool lives on as an orphan.  After a power loss recovery
           runs, and actors that had not begun may begin, before it, between its steps or after it (not in the three `big` scenarios).
Actors     sub submitter (sub2 in `skip`: submit --skip-existing), run worker+runner, dir direct run-job (skip: without s1 and s2 if
           the id is free), can canceller, req requeuer, rec recovery, gc, edit (an editor that
           saves by rename), copy (somebody copies the root while an attempt is open; recovery runs in the copy, which has the marker's uuid and a lease of its
           own), ask (cancel --no-wait of an id whose lease is held: reads the record, writes the request, tells), hold.  When everything has ended, a last recovery F runs (it can crash and is then started again), then the end state
           is judged and F runs once more: it must change nothing.
Ghosts     acked (submitted, requeued, found by --skip-existing, or 75 told by a direct run),
           permits (starts that were asked for: submit 1, requeue +1, retry +1, lost and repeatable +1), started (attempts whose
           tool ran), reported (results somebody was told).
Violations LOST acknowledged job has no name or no content | TWICE two live tools | RERUN a start nobody asked for | FORGOT started
           attempt not in the record | UNSAID reported result not in the record | STUCK last recovery leaves running/, an open
           attempt, two names, a live process, or record and directory that disagree | UNSTABLE second recovery changes something |
           DOUBLE-ACK one id accepted twice | FALSE-LOST a live runner's attempt is declared lost | RAN-TORN a torn job file is run |
           UNCANCELED a request was told, and a later attempt is claimed, or queued, or runs on with nobody to look | WRONG-CANCEL a request of a former
           life ends another one | HELD a claim that looks after a hold was told goes on |
           ROBBED the recovery of a copy ends the tool of a live runner | MEDDLED it ends a process of an attempt that it does not declare lost |
           BLOCKED an id that was never accepted can never be used.  Nobody is promised the file of a direct run that told nothing or only
           its result: with s1 and s2 skipped it may be missing or torn afterwards, its attempts and results may not.
NOT CLOSED An asker who stands still between his look and his request, while the job ends, gc retires it and the same id is submitted anew, would
           cancel the new one (life 1, attempt 1 again). `ask` assumes that this does not happen; take the line out to see the 35 steps.
Not here   Several ids (but for a parent and its child, part 8, and a job after others, part 9), named locks (but for one slot, part 6), keys (but for one, part 7), NFS, full disk, time.  `lost` may cover an attempt that was recorded
           but never started: that is allowed.
A rule is one line in RULES; switching it off means the naive reading of the contract.
"""
import sys, time
from collections import deque, namedtuple

Q, R, D, X, REC = range(5)
DIR = ['queued', 'running', 'done', 'quarantined', 'record']
W = namedtuple('W', 'hist rhist isync locks tools acts g crash power phase rname req hold forks', defaults=((None, None), (False, False), 0))
# hist: snapshots of (Q,R,D,X), rhist: versions of the record, both since their last sync, each with a time stamp; rname: the record's own name is durable
NEW = ('new', (), 1)                                        # a record that holds nothing but lines `queued` from its birth: no attempt, never ended
G = namedtuple('G', 'acks permits started reported gced told held', defaults=((), False))       # told: requests (gced, life, attempt) that were acknowledged
A = namedtuple('A', 'name pc r')
Tool = namedtuple('Tool', 'n owner daemon stage at', defaults=(1,))        # stage: 'fork' (before exec: no marker yet) or 'run'; at: 0 a low pid, 1 a high one

RULES = {
 'SUBMIT_DATA': 'submit: fsync the job file before it gets its name in queued/',
 'SUBMIT_DIR': 'submit: fsync queued/ before the id is acknowledged',
 'NOREPLACE': 'every move and publication is no-replace (link or renameat2)',
 'ONE_DOOR': 'an id enters only through queued/<id>.json, under the lock of the id, only if its record is empty or says nothing but `queued` (direct run: or terminal)',
 'TAKE_OVER': 'an id whose record is empty or says nothing but `queued`, and that has no file in queued/, is free (elsewhere it has none: REC_FIRST)',
 'REC_FIRST': 'the record exists before the job file leaves queued/ (claim, cancel)',
 'LOCK_FIRST': 'claim: flock before rename',
 'ID_LOCK': 'the lease is on one permanent inode per id (the append-only record), not on the job file',
 'RECHECK': 'claim: after flock, path and descriptor are the same inode, and the job is still in queued/',
 'RECHECK_REC': 'recovery too: after flock, look again where the job is',
 'READ_LOCKED': 'decisions come from a record that was read after the lock was taken',
 'START_REC': 'attempt n is written as started before the tool is started',
 'START_SYNC': 'and is durable (data and name) before the tool is started',
 'FIN_DATA': '(only if the record is replaced by rename:) fsync its data before the rename',
 'FIN_SYNC': 'finish: the record is durable before the result is told to anybody',
 'FIN_ORDER': 'finish: record before the move out of running/',
 'REC_WINS': 'claimer and recovery: record outranks directory (terminal: only move; open attempt: lost; in queued/ too)',
 'RETRY_ORDER': 'retry: record (attempt ended, queued) durable before running -> queued',
 'CANCEL_LOCK': 'cancel of a queued job takes its lock and rechecks',
 'REQ_ORDER': 'requeue, direct run: job file into queued/ under the lock first, record second (recovery never scans done/)',
 'REQ_SYNC': 'and queued/ is fsynced before the record says so',
 'REC_RESYNC': 'who acts on a record that he did not write fsyncs it first (its writer may have been killed before his fsync)',
 'MARKER': 'left-over processes are found without a recorded pid (environment marker / cgroup / subreaper scan)',
 'PDEATH': 'the child asks for a parent-death signal and compares getppid before exec: no tool starts after its runner died',
 'KILL_FIRST': 'recovery ends left-over processes before it moves the job',
 'SCAN_FORKS': 'a look through the process table that found nothing proves it only if nothing was forked meanwhile; else it is made again',
 'MARKER_EXACT': 'recovery ends only processes whose marker names the attempt that it declares lost',
 'COPY_HELD': 'and none that descends from a live runner which holds a record of that name: that is the runner of another copy of the root',
 'CLOEXEC': 'the tool does not inherit the lock descriptor',
 'GC_LOCK': 'gc: lock, recheck, re-read the record; the record goes last',
 'GC_SYNC': 'gc: the removal of the job file is durable before the record goes',
 'UNLOCK_LAST': 'finish: the lock is kept until the move out of running/ is done',
 'REC_NAME': 'the first synced line of a record makes its name durable too (fsync state/jobs/ there, not in submit, where the file system does not do it by itself)',
 'REC_SCAN': 'recovery after a reboot also reads the records: an open attempt, or `queued` after an attempt, without a job file is quarantined (job_file_missing)',
 'REQ_DATA': 'requeue fsyncs the job file itself (a direct run that skipped s1, or a person with cp, did not)',
 'PARK_SYNC': 'a direct run that skipped s1 and s2 makes them up before it tells 75 (parked, retry later)',
 'CANCEL_LIFE': 'a request to cancel names the life, and is honored in no other (an id that is run again is not canceled by an old wish)',
 'CANCEL_EARLIER': 'it is honored for the attempt that it names and for any later one of that life (the job may go on between the look and the request)',
 'CANCEL_TICK': 'the runner looks for a request again and again while its tool runs',
 'CANCEL_CLAIM': 'a claimer looks for a request under its lease, before the start line',
 'CANCEL_RECOVERY': 'recovery looks for a request before it queues a repeatable job again: the attempt is lost, the job canceled',
 'CANCEL_SYNC': 'the request is durable before it is told',
 'GC_REQUEST': 'gc: the removal of the request is durable before the record goes',
 'HOLD_LOCKED': 'a claimer looks for a hold under its lease',
 'HOLD_SYNC': 'the hold is durable before it is told',
 'SKIP_SYNC': 'submit --skip-existing fsyncs a queued file and queued/ before it counts it as accepted (its submitter may have been killed before s2)',
}

class Bad(Exception):
    pass

def files(w): return w.hist[-1][1]
def record(w): return w.rhist[-1][1]
def now(w): return max(w.hist[-1][0], w.rhist[-1][0]) + 1

def put(w, **to):                                    # one atomic directory operation: put(w, Q=0, R=3)
    f = list(files(w))
    for k, v in to.items(): f['QRDX'.index(k)] = v
    return norm(w._replace(hist=w.hist + ((now(w), tuple(f)),)))

def life(rec): return rec[2] if rec and rec != 'TORN' else 1

def setrec(w, rec, synced, more=0):                   # more: 1 begins a new life
    if rec is not None: rec = rec[:2] + (life(record(w)) + more,)
    return norm(w._replace(rhist=w.rhist + ((now(w), rec, synced),)))

def norm(w):                                          # renumber time stamps, so equal states are equal
    ts = sorted({x[0] for x in w.hist} | {x[0] for x in w.rhist})
    m = {t: i for i, t in enumerate(ts)}
    return w._replace(hist=tuple((m[x[0]],) + x[1:] for x in w.hist), rhist=tuple((m[x[0]],) + x[1:] for x in w.rhist))

def sync(w, m, *dirs):                                # fsync of directories
    if m.disk == 'ordered':
        return norm(w._replace(hist=w.hist[-1:], rhist=w.rhist[-1:]))
    if REC in dirs: w = w._replace(rhist=w.rhist[-1:])       # the record's data; its name: rname
    h = w.hist                                        # durable up to the last operation that touched one of these directories
    keep = 0
    for i in range(1, len(h)):
        if any(d != REC and h[i][1][d] != h[i - 1][1][d] for d in dirs): keep = i
    return norm(w._replace(hist=h[keep:]))

def fsync_data(w, m, inode):
    w = w._replace(isync=tuple(sorted(set(w.isync) | {inode})))
    return sync(w, m) if m.disk == 'ordered' else w

def lock(w, i, me):                                   # None: busy
    return None if any(k == i for k, _ in w.locks) else w._replace(locks=tuple(sorted(w.locks + ((i, me),), key=str)))
def unlock(w, me): return w._replace(locks=tuple(x for x in w.locks if x[1] != me))
def key(m, w, i): return ('id', w.g.gced) if 'ID_LOCK' in m.on else i
def resync(w, m): return sync(w, m, REC) if 'REC_RESYNC' in m.on else w
def ghost(w, **k): return w._replace(g=w.g._replace(**k))

def told(w, rec, n): return any(g == w.g.gced and l == life(rec) and k <= n for g, l, k in w.g.told)
def honors(w, m, rec, n):
    """Whether who looks at the request ends attempt n for it."""
    if w.req[0] is None: return False
    of, l, k = w.req[0]
    if 'CANCEL_LIFE' in m.on and l != life(rec) or not (k == n or k < n and 'CANCEL_EARLIER' in m.on): return False
    if of != w.g.gced or l != life(rec): raise Bad('WRONG-CANCEL')
    return True

def terminal(rec): return rec and rec != 'TORN' and rec[0] in ('ok', 'fail', 'canceled', 'quarantined')
def is_open(rec): return rec and rec != 'TORN' and 'run' in rec[1]
def outs(rec): return rec[1] if rec and rec != 'TORN' else ()
def home(rec): return 'X' if rec[0] in ('fail', 'quarantined') else 'D'

def move(w, m, src, dst, inode):
    """Rename under lock.  Target taken by the same inode: drop the source name; by another inode: the mover goes to quarantine."""
    f = files(w); s, d = 'QRDX'.index(src), 'QRDX'.index(dst)
    if f[s] == 0: return w                             # ENOENT: already moved
    if 'NOREPLACE' in m.on and f[d] and f[d] != f[s]:
        return put(w, **{src: 0, 'X': f[s]}) if not f[X] else w
    return put(w, **{src: 0, dst: f[s]})

# ---- actors: generators of (label, world, pc, registers); pc None = ended --------------------------------------------------
def a_sub(w, m, me, pc, r):
    f, rec = files(w), record(w)
    mine, skip = (1 if me == 'sub' else 2), m.existing and me == 'sub2'   # skip: submit --skip-existing
    if pc == 0:                                        # looks for the id, place by place
        yield 'looks in done/, quarantined/', w, (1 if not (f[D] or f[X]) else None), ()
    elif pc == 1:
        yield 'looks in queued/, running/', w, (2 if not (f[Q] or f[R]) or skip else None), ()
    elif pc == 2:
        if 'SUBMIT_DATA' in m.on: w = fsync_data(w, m, mine)
        yield 'writes temp file' + (', fsync' if 'SUBMIT_DATA' in m.on else ''), w, 3, (key(m, w, mine),)
    elif pc == 3:
        if 'ONE_DOOR' not in m.on: yield '(no lock)', w, 4, r; return
        w2 = lock(w, r[0], me)
        if not w2: yield 'id is busy: refused', w, None, ()
        elif r[0] != key(m, w, mine): yield 'record was removed: starts again', w, 0, ()
        elif not (rec is None or rec == NEW and ('TAKE_OVER' in m.on or f[Q])): yield 'record is not empty: refused', w, None, ()
        else: yield 'locks the id, record is empty' + (' but for `queued`' if rec else ''), w2, 4, r
    elif pc == 4:
        if f[Q] and skip: yield ('exists: fsyncs file and queued/', sync(fsync_data(w, m, f[Q]), m, Q), 7, ()) if 'SKIP_SYNC' in m.on else ('exists (no fsync)', w, 7, ())
        elif 'NOREPLACE' in m.on and f[Q]: yield 'link: EEXIST, refused', unlock(w, me), None, ()
        else: yield 'publishes queued/', asked(put(w, Q=mine), f), 5, r
    elif pc == 5:
        yield ('fsync queued/', sync(w, m, Q)._replace(rname=True), 5.5, ()) if 'SUBMIT_DIR' in m.on else ('(no fsync)', w, 5.5, ())
    elif pc == 5.5:
        yield 'line 1: queued, not synced', setrec(w, NEW, False), 6, ()
    elif pc == 6:
        if w.g.acks: raise Bad('DOUBLE-ACK')
        yield 'ACK', ghost(w, acks=w.g.acks + 1), 8, ()
    elif pc == 7: yield 'ACK (existing)', ghost(w, acks=w.g.acks + 10), 8, ()
    elif pc == 8: yield 'unlock', unlock(w, me), None, ()

def asked(w, before):                                  # a submission asks for one start; one that takes over a dead, unacknowledged one replaces its wish
    return ghost(w, permits=(w.g.permits if any(before) or w.g.acks else len(w.g.started)) + 1)

def a_run(w, m, me, pc, r):                           # worker + runner; `dir` (direct run-job) enters here after its own submit
    f, rec = files(w), record(w)
    if pc == 0:
        if not f[Q]: yield 'nothing queued', w, None, ()
        elif 'HOLD_LOCKED' not in m.on and w.hold[0]: yield 'held', w, None, ()
        elif 'LOCK_FIRST' in m.on: yield 'opens', w, 1, (f[Q], key(m, w, f[Q]))
        else: yield 'rename queued -> running (no lock yet)', put(w, Q=0, R=f[Q]), 1, (f[Q], key(m, w, f[Q]))
    elif pc == 1:
        w2 = lock(w, r[1], me)
        if w2: yield 'flock', w2, (2 if 'LOCK_FIRST' in m.on else 3), r
        else: yield 'flock busy', w, None, ()
    elif pc == 2:
        ok = f[Q] and key(m, w, f[Q]) == r[1]
        if w.hold[0] and 'HOLD_LOCKED' in m.on: yield 'held: leaves', unlock(w, me), None, ()
        elif ok and w.g.held: raise Bad('HELD')
        elif ok or 'RECHECK' not in m.on: yield 'still queued, same inode' if ok else '(no check)', w, 3, r
        else: yield 'not the same any more: leaves', unlock(w, me), None, ()
    elif pc == 3: yield 'reads the record', w, 3.2, r[:2] + (rec,)
    elif pc == 3.2:                                    # record outranks directory
        rec, src = r[2], 'Q' if 'LOCK_FIRST' in m.on else 'R'
        if 'REC_WINS' in m.on and terminal(rec):
            yield 'record is terminal: only moves', unlock(move(resync(w, m), m, src, home(rec), r[0]), me), None, ()
        elif 'REC_WINS' in m.on and (is_open(rec) or rec == 'TORN'):
            yield 'record has an open attempt: leaves it to recovery', unlock(w, me), None, ()
        elif 'CANCEL_CLAIM' in m.on and prog(me) is a_run and honors(w, m, rec, len(outs(rec)) + 1):
            yield 'request: record canceled', sync(setrec(w, ('canceled', outs(rec)), True), m, REC), 3.5, r
        elif prog(me) is a_run and told(w, rec, len(outs(rec))): raise Bad('UNCANCELED')
        else:
            n = len(outs(rec)) + 1
            w2 = w
            if 'REC_FIRST' in m.on and 'START_REC' in m.on: w2 = setrec(w, ('running', outs(rec) + ('run',)), 'START_SYNC' in m.on)
            yield 'record: attempt %d started' % n if w2 is not w else '-', w2, 4, (r[0], n)
    elif pc == 3.5: yield 'rename queued -> done, unlock', unlock(move(w, m, 'Q', 'D', r[0]), me), None, ()
    elif pc == 4:
        w2 = sync(w, m, REC) if 'START_SYNC' in m.on and 'REC_FIRST' in m.on else w
        yield 'record durable' if w2 is not w else '(no fsync)', w2, 5, r
    elif pc == 5:
        if 'LOCK_FIRST' not in m.on: yield '(already moved)', w, 7, r
        elif f[Q] == 0: yield 'rename: ENOENT', unlock(w, me), None, ()
        elif f[R] and 'NOREPLACE' in m.on: yield 'rename: EEXIST', unlock(w, me), None, ()
        else: yield 'rename queued -> running', put(w, Q=0, R=f[Q]), (6 if f[Q] == 'E' else 7), ((f[Q],) if 'ID_LOCK' in m.on else r[:1]) + r[1:]
    elif pc == 6:                                      # reads and validates the job file
        yield 'torn: record invalid', sync(setrec(w, ('quarantined', outs(rec)[:-1] + ('invalid',)), True), m, REC), 6.5, r
    elif pc == 6.5: yield 'rename running -> X, unlock', unlock(move(w, m, 'R', 'X', r[0]), me), None, ()
    elif pc == 7:                                      # the naive order writes the record here
        if 'REC_FIRST' not in m.on and 'START_REC' in m.on and not is_open(rec):
            w = setrec(w, ('running', outs(rec) + ('run',)), 'START_SYNC' in m.on)
            if 'START_SYNC' in m.on: w = sync(w, m, REC)
            yield 'record: attempt %d started' % r[1], w, 8, r
        else: yield '-', (sync(w, m, R) if m.rename_sync else w), 8, r
    elif pc == 8:
        if w.tools: raise Bad('TWICE')
        if f[R] == 'E': raise Bad('RAN-TORN')
        if len(w.g.started) + 1 > w.g.permits: raise Bad('RERUN')
        w2 = w._replace(tools=(Tool(r[1], me, m.daemon, 'fork'),))
        yield 'forks (attempt %d)' % r[1], ghost(w2, started=w.g.started + (r[1],)), 9, r
    elif pc == 9:
        yield 'writes the pid down', w, 10, r + ('pid',)
    elif pc == 10:                                     # the tool ends
        if [x for x in w.tools if x.owner == me and x.stage == 'fork']: return
        t = tuple(x for x in w.tools if x.owner != me)
        if 'CANCEL_TICK' in m.on and honors(w, m, rec, r[1]): yield 'tick: request, ends the tool', w._replace(tools=t), 11, r + ('canceled',)
        elif told(w, rec, r[1]): raise Bad('UNCANCELED')
        for o in m.outcomes: yield 'tool ends: ' + o, w._replace(tools=t), 11, r + (o,)
    elif pc == 11:
        retry = r[-1] == 'fail' and r[1] == 1 and m.retry
        status = 'queued' if retry else r[-1]
        if not (('RETRY_ORDER' if retry else 'FIN_ORDER') in m.on):
            yield 'moves out of running/ first', move(w, m, 'R', 'Q' if retry else ('X' if status == 'fail' else 'D'), r[0]), 12, r + (status,)
        else: yield '-', w, 12, r + (status,)
    elif pc == 12:
        rec2 = (r[-1], outs(rec)[:r[1] - 1] + (r[-2],))
        w2 = setrec(w, rec2, 'FIN_DATA' in m.on)
        if r[-1] == 'queued': w2 = ghost(w2, permits=w2.g.permits + 1)
        yield 'record: attempt %d %s' % (r[1], r[-2]), w2, 13, r
    elif pc == 13:
        w2 = sync(w, m, REC) if 'FIN_SYNC' in m.on else w
        yield 'fsync record' if 'FIN_SYNC' in m.on else '(no fsync)', w2, (15 if m.tell == 'last' else 14), r
    elif pc == 14: yield tell(w, r[1], r[-2]) + (15, r)                    # an earlier order: told before the move
    elif pc == 15:
        w2 = w if 'UNLOCK_LAST' in m.on else unlock(w, me)
        yield '-' if w2 is w else 'unlocks', w2, 16, r
    elif pc == 16:
        dst = 'Q' if r[-1] == 'queued' else 'X' if r[-1] == 'fail' else 'D'
        w2 = move(w, m, 'R', dst, r[0]) if f[R] == r[0] or 'UNLOCK_LAST' not in m.on else w
        late = dst == 'Q' and m.skip and 'PARK_SYNC' in m.on and prog(me) is a_dir          # the two syncs it had skipped
        yield 'rename running -> ' + dst + (', fsync file, queued/' if late else ''), (sync(fsync_data(w2, m, r[0]), m, Q) if late else w2), 17, r
    elif pc == 17:
        yield 'unlock', unlock(w, me), (18 if m.tell == 'last' else None), ((r[1], r[-2], r[-1], w.g.gced) if m.tell == 'last' else ())
    elif pc == 18:                                     # the runner tells from memory; what gc retired meanwhile binds nobody
        if r[2] == 'queued' and prog(me) is a_dir: w = ghost(w, acks=w.g.acks + 10)       # 75 is a promise too
        yield (tell(w, r[0], r[1]) if w.g.gced == r[3] else ('REPORTS, removed meanwhile', w)) + (None, ())

def tell(w, n, outcome): return 'REPORTS %s' % outcome, ghost(w, reported=w.g.reported + ((n, outcome),))

def a_dir(w, m, me, pc, r):                           # direct run-job: one door, keeps its lock from birth; else naive: straight into running/
    f, rec = files(w), record(w)
    if not (isinstance(pc, str) and pc.startswith('d')): yield from a_run(w, m, me, pc, r); return
    free, k = rec is None or rec == NEW and 'TAKE_OVER' in m.on, pc
    if k == 'd0':
        if f[Q] or f[R]: yield 'id is queued or running: refused (125)', w, None, ()
        elif 'ONE_DOOR' not in m.on: yield 'id is free or finished', w, 'd1', (3, 3)
        else: yield 'opens', w, 'd1', (3, key(m, w, 3))
    elif k == 'd1':
        w2 = lock(w if m.skip == 'all' or m.skip and free else fsync_data(w, m, 3), r[1], me)         # skip: s1 only where something was told before
        if not w2: yield 'id is busy: refused', w, None, ()
        elif 'ONE_DOOR' not in m.on:
            if f[R] and 'NOREPLACE' in m.on: yield 'link running/: EEXIST, refused', w, None, ()
            else: yield 'links running/ (no door)', ghost(put(w2, R=3), permits=w2.g.permits + 1), 'd3', (3, len(outs(rec)) + 1)
        elif f[R] or r[1] != key(m, w, 3) or not (free or terminal(rec)): yield 'busy: refused', w, None, ()
        elif f[Q]: yield 'link queued/: EEXIST, refused', w, None, ()
        elif not free and any(f): yield 'moves the finished file back to queued/', put(w2, Q=f[D] or f[X], D=0, X=0), 'd15', r
        elif free: yield 'links queued/ under the lock of the id', asked(put(w2, Q=3), f), ('d12' if m.skip else 'd15'), r
        else: yield 'finished without a file: links queued/', put(w2, Q=3), 'd15', r
    elif k == 'd12':                                   # s1 and s2 skipped: nothing was told; line 1 may stand there or not
        yield 'line 1: queued, not synced (s1, s2 skipped)', setrec(w, NEW, False), 3, r
        yield '(s1, s2 and line 1 skipped)', w, 3, r
    elif k == 'd15': yield ('fsync queued/', sync(w, m, Q)._replace(rname=True), 'd2', r) if 'REQ_SYNC' in m.on else ('(no fsync)', w, 'd2', r)
    elif k == 'd2':
        if not terminal(rec): yield 'line 1: queued, not synced', setrec(w, NEW, False), 3, r   # goes on as a claimer that has the lock already
        elif f[Q] == 3: yield '-', w, 'd25', r
        else: yield 'replaces the queued file under the lock', put(w, Q=3), 'd25', r
    elif k == 'd25':
        yield 'record: new life', ghost(setrec(w, ('queued', outs(rec)), True, 1), permits=w.g.permits + 1), 3, r
    elif k == 'd3':
        yield 'record', setrec(w, ('running', outs(rec) + ('run',)), True), 8, r

def a_can(w, m, me, pc, r):
    f, rec = files(w), record(w)
    if pc == 0:
        if not f[Q]: yield 'not queued', w, None, ()
        else: yield 'opens', w, (1 if 'CANCEL_LOCK' in m.on else 3), (f[Q], key(m, w, f[Q]))
    elif pc == 1:
        w2 = lock(w, r[1], me)
        yield ('flock', w2, 2, r) if w2 else ('busy', w, None, ())
    elif pc == 2:
        yield ('still queued', w, 3, r) if f[Q] and key(m, w, f[Q]) == r[1] else ('moved', unlock(w, me), None, ())
    elif pc == 3:
        if 'REC_WINS' in m.on and 'CANCEL_LOCK' in m.on and (terminal(rec) or is_open(rec) or rec == 'TORN'):
            yield 'record is not queued: leaves', unlock(w, me), None, ()
        else: yield 'record canceled', sync(setrec(w, ('canceled', outs(rec)), True), m, REC), 4, r
    elif pc == 4:
        yield 'rename queued -> done', move(w, m, 'Q', 'D', r[0]), 5, r
    elif pc == 5:
        yield 'unlock', unlock(w, me), None, ()

def a_req(w, m, me, pc, r):
    f, rec = files(w), record(w)
    if pc == 0:
        i = f[D] or f[X]
        if not i: yield 'not finished', w, None, ()
        else: yield 'opens', w, 1, (i, 'D' if f[D] else 'X', key(m, w, i))
    elif pc == 1:
        w2 = lock(w, r[2], me)
        yield ('flock', w2, 2, r) if w2 else ('busy', w, None, ())
    elif pc == 2:
        same = r[0] != 'E' and r[2] == key(m, w, r[0]) and f['QRDX'.index(r[1])] == r[0] and terminal(rec)
        yield ('same inode, terminal', w, 3, r) if same else ('moved', unlock(w, me), None, ())
    elif pc == 3:
        if 'REQ_ORDER' in m.on:
            if f[Q]: yield 'rename: EEXIST', unlock(w, me), None, ()
            else: yield 'rename -> queued', move(w, m, r[1], 'Q', r[0]), 3.5, r
        else: yield 'record queued', ghost(setrec(w, ('queued', outs(rec)), True, 1), permits=w.g.permits + 1), 4, r
    elif pc == 3.5:
        if 'REQ_DATA' in m.on: w = fsync_data(w, m, r[0])
        yield ('fsync queued/' + (' and job file' if 'REQ_DATA' in m.on else ''), sync(w, m, Q), 4, r) if 'REQ_SYNC' in m.on else ('(no fsync)', w, 4, r)
    elif pc == 4:
        if 'REQ_ORDER' in m.on: yield 'record queued', ghost(setrec(w, ('queued', outs(rec)), True, 1), permits=w.g.permits + 1), 5, r
        else: yield 'rename -> queued', move(w, m, r[1], 'Q', r[0]), 5, r
    elif pc == 5: yield 'fsync record' + ('' if 'REQ_ORDER' in m.on else ', queued/'), sync(w, m, REC, *(() if 'REQ_ORDER' in m.on else (Q,))), 6, r
    elif pc == 6:
        yield 'ACK requeue', ghost(w, acks=w.g.acks + 10), 7, r
    elif pc == 7:
        yield 'unlock', unlock(w, me), None, ()

def a_rec(w, m, me, pc, r):
    f, rec = files(w), record(w)
    if pc == 0:                                        # same inode under two names: the later stage wins
        i = f[R] or f[Q]
        if not any(f) and 'REC_SCAN' in m.on and (is_open(rec) or rec and rec[0] == 'queued'): yield 'opens a record without a file', w, 1, (0, '-', rec, key(m, w, 0))
        elif not i: yield 'nothing in queued/, running/', w, None, ()
        else: yield 'opens %s/' % ('running' if f[R] else 'queued'), w, 1, (i, 'R' if f[R] else 'Q', rec, key(m, w, i))
    elif pc == 1:
        w2 = lock(w, r[3], me)
        yield ('flock', w2, 2, r) if w2 else ('busy: alive', w, None, ())
    elif pc == 2:
        same = (not any(f) if r[1] == '-' else f['QRDX'.index(r[1])] == r[0]) and r[3] == key(m, w, r[0])
        if not same and 'RECHECK_REC' in m.on: yield 'moved meanwhile: leaves', unlock(w, me), None, ()
        else: yield 'same inode' if same else '(no check)', w, 3, r
    elif pc == 3:
        rc = rec if 'READ_LOCKED' in m.on else r[2]
        src = r[1]
        torn = r[0] == 'E' and not is_open(rc) and not terminal(rc)
        if src == '-' and not is_open(rc): yield ('job_file_missing', sync(setrec(w, ('quarantined', outs(rc)), True), m, REC), 7, r[:2] + ('X',)) if rc and rc[0] == 'queued' else ('healthy', unlock(w, me), None, ())
        elif torn: yield 'torn: record invalid', sync(setrec(w, ('quarantined', outs(rc)), True), m, REC), 7, r[:2] + ('X',)
        elif src == 'Q' and ('REC_WINS' not in m.on or not (terminal(rc) or is_open(rc) or rc == 'TORN')):
            yield 'queued and healthy', unlock(w, me), None, ()
        elif terminal(rc): yield 'record terminal: completes the move', resync(w, m), 7, r[:2] + (home(rc),)
        elif rc and rc != 'TORN' and rc[0] == 'queued' and not is_open(rc) and outs(rc) and ('START_REC' in m.on or m.reading == 'end'):
            yield 'record says queued: completes the move', resync(w, m), 7, r[:2] + ('Q',)
        elif 'KILL_FIRST' not in m.on: yield 'lost', w, 5, r[:2] + (outs(rc),)
        else: yield 'lost: looks for left-over processes', w, 4, r[:2] + (outs(rc),)
    elif pc in (4, 4.5) and m.hops:                    # the walk by ascending pid, in two steps
        found = [t for t in w.tools if t.stage == 'run' and t.at == (pc == 4.5)]
        w2, so_far = w._replace(tools=tuple(t for t in w.tools if t not in found)), r[3:] or (w.forks, 0)
        if pc == 4: yield 'walks the low pids: ends %d' % len(found), w2, 4.5, r + (w.forks, len(found))
        else:
            again = len(found) + so_far[1] or 'SCAN_FORKS' in m.on and w.forks != so_far[0]
            yield 'walks the high pids: ends %d%s' % (len(found), ', and again' if again else ''), w2, (4 if again else 5), r[:3]
    elif pc in (4, 6.5):
        found = [t for t in w.tools if 'MARKER' in m.on and t.stage == 'run' or ('pid', t.owner) in m.pids(w)]
        w2 = w._replace(tools=tuple(t for t in w.tools if t not in found))
        yield 'ends %d left-over' % len(found), w2, (5 if pc == 4 else None), r if pc == 4 else ()
    elif pc == 5:
        for x in w.acts:                               # nobody who is alive may be declared dead
            if prog(x.name) in (a_run, a_dir) and x.pc not in (None, 'dead') and x.r and x.r[0] == r[0] and (
                    isinstance(x.pc, (int, float)) and (3 <= x.pc < 15 or 'LOCK_FIRST' not in m.on and x.pc < 15)): raise Bad('FALSE-LOST')
        o = tuple(x for x in r[2] if x != 'run') + ('lost',)
        again = m.repeatable and r[0] not in (0, 'E')      # no job file, no second run
        st = 'queued' if again else 'quarantined'
        if 'CANCEL_RECOVERY' in m.on and honors(w, m, rec, len(o)): st, again = 'canceled', False
        elif again and told(w, rec, len(o)): raise Bad('UNCANCELED')
        w2 = sync(setrec(w, (st, o), True), m, REC)
        if again: w2 = ghost(w2, permits=w2.g.permits + 1)
        yield 'record lost' + ('' if r[0] not in (0, 'E') else ', job_file_missing'), w2, 7, r[:2] + ('Q' if again else 'D' if st == 'canceled' else 'X',)
    elif pc == 7:
        w2 = unlock(move(w, m, r[1], r[2], r[0]), me) if r[1] not in ('-', r[2]) else unlock(w, me)
        yield 'moves %s -> %s, unlock' % (r[1], r[2]), w2, (6.5 if 'KILL_FIRST' not in m.on else None), ()

def a_gc(w, m, me, pc, r):
    f, rec = files(w), record(w)
    if pc == 0:
        if rec == NEW and not any(f) and 'GC_LOCK' in m.on: yield 'sees a record `queued` without a file', w, 1, (0, key(m, w, 0))
        elif not (f[D] and terminal(rec)): yield 'nothing to remove', w, None, ()
        else: yield 'sees done/ and a terminal record', w, (1 if 'GC_LOCK' in m.on else 3), (f[D], key(m, w, f[D]))
    elif pc == 1:
        w2 = lock(w, r[1], me)
        yield ('flock', w2, 2, r) if w2 else ('busy', w, None, ())
    elif pc == 2:
        if r[0] == 0: yield ('same, never accepted', w, 4, r) if rec == NEW and not any(f) and key(m, w, 0) == r[1] else ('changed', unlock(w, me), None, ()); return
        yield ('same, still terminal', w, 3, r) if f[D] and key(m, w, f[D]) == r[1] and terminal(rec) else ('moved', unlock(w, me), None, ())
    elif pc == 3:
        w2 = put(w, D=0) if f[D] else w
        if not any(files(w2)): w2 = ghost(w2, acks=0, started=(), reported=())     # retired by decision
        yield 'unlinks done/' + (', fsync' if 'GC_SYNC' in m.on else ''), (sync(w2, m, D) if 'GC_SYNC' in m.on else w2), 4, r
    elif pc == 4:
        w = w._replace(req=(None, None if 'GC_REQUEST' in m.on else w.req[1]))
        w2 = w if r[0] == 0 else ghost(w, reported=())                              # told between the two unlinks: retired too
        yield 'unlinks record', ghost(setrec(w2, None, True), gced=w.g.gced + 1), 5, r
    elif pc == 5:
        yield 'unlock', unlock(w, me), None, ()

def a_edit(w, m, me, pc, r):
    f = files(w)
    if pc == 0: yield ('editor saves queued/ by rename', put(fsync_data(w, m, 4), Q=4), None, ()) if f[Q] else ('no file', w, None, ())

def a_copy(w, m, me, pc, r):                          # cp -a of the root, and `recover` in the copy
    rec = record(w)
    if pc == 0:
        if not is_open(rec): yield 'no attempt is open: nothing to recover there', w, None, ()
        else: yield 'copies the root with attempt %d open' % (outs(rec).index('run') + 1), w, 1, (outs(rec).index('run') + 1,)
    elif pc == 1:
        alive = [a.name for a in w.acts if a.pc not in (None, 'dead')]
        found = [t for t in w.tools if t.stage == 'run' and (t.n == r[0] or 'MARKER_EXACT' not in m.on) and not ('COPY_HELD' in m.on and t.owner in alive)]
        if [t for t in found if t.owner in alive]: raise Bad('ROBBED')
        if [t for t in found if t.n != r[0]]: raise Bad('MEDDLED')
        yield 'recovery in the copy: ends %d' % len(found), w._replace(tools=tuple(t for t in w.tools if t not in found)), None, ()

def a_ask(w, m, me, pc, r):                           # cancel --no-wait of an id that somebody works on
    rec = record(w)
    if pc == 0:
        if not any(k == key(m, w, 1) for k, _ in w.locks) and not is_open(rec): yield 'nobody holds the lease: cancels it there or leaves', w, None, ()
        elif rec is None or rec == 'TORN' or terminal(rec): yield 'has ended', w, None, ()
        else: yield 'reads the record', w, 1, (w.g.gced, life(rec), len(outs(rec)) + (0 if is_open(rec) else 1))
    elif pc == 1 and w.g.gced != r[0]: yield 'the id is another one by now: leaves', w, None, ()       # assumed, see NOT CLOSED
    elif pc == 1: yield 'writes the request for attempt %d' % r[2], w._replace(req=(r, w.req[1])), 2, r
    elif pc == 2: yield ('fsync file and control/', w._replace(req=(w.req[0], w.req[0])), 3, r) if 'CANCEL_SYNC' in m.on else ('(no fsync)', w, 3, r)
    elif pc == 3: yield 'ACK asked', ghost(w, told=w.g.told + (r,)), None, ()

def a_hold(w, m, me, pc, r):
    if pc == 0: yield 'writes HOLD', w._replace(hold=(True, w.hold[1])), 1, ()
    elif pc == 1: yield ('fsync file and control/', w._replace(hold=(True, True)), 2, ()) if 'HOLD_SYNC' in m.on else ('(no fsync)', w, 2, ())
    elif pc == 2: yield 'ACK hold', ghost(w, held=True), None, ()

PROG = {'copy': a_copy, 'ask': a_ask, 'hold': a_hold, 'sub': a_sub, 'run': a_run, 'dir': a_dir, 'can': a_can, 'req': a_req, 'rec': a_rec, 'gc': a_gc, 'edit': a_edit, 'F': a_rec}

class M:                                              # a scenario
    def __init__(s, actors, off=(), append=True, rename_sync=False, reading='start', disk='ordered', crash=1, power=0, retry=False, repeatable=False, daemon=False, start='empty',
                 outcomes=('ok',), skip=False, existing=False, tell='last', later=True, hops=0):
        s.actors, s.off, s.disk, s.crash, s.power, s.retry = actors, set(off), disk, crash, power, retry
        s.repeatable, s.daemon, s.start, s.outcomes = repeatable, daemon, start, outcomes
        s.hops = hops
        s.append, s.rename_sync, s.reading, s.skip, s.existing, s.tell, s.later = append, rename_sync, reading, skip, existing, tell, later
        s.on = set(RULES) - s.off
    def pids(s, w):                                   # what a recorded pid lets recovery find
        return {('pid', a.name) for a in w.acts if 'pid' in a.r}
    def init(s):
        f, rec, g, isync = (0, 0, 0, 0), None, G(0, 0, (), (), 0), ()
        if s.start == 'queued': f, g, isync = (1, 0, 0, 0), G(1, 1, (), (), 0), (1,)
        if s.start == 'cp': f, g = (1, 0, 0, 0), G(0, 1, (), (), 0)         # a person's cp: not synced, nothing promised, no record
        if s.start == 'done': f, rec, g, isync = (0, 0, 1, 0), ('ok', ('ok',), 1), G(1, 1, (1,), ((1, 'ok'),), 0), (1,)
        acts = tuple(A(a, 'd0' if a.startswith('dir') else 0, ()) for a in s.actors)
        h = ((0, (0, 0, 0, 0)), (1, f)) if s.start == 'cp' else ((0, f),)
        rh = ((0, rec, True), (1, NEW, False)) if s.start == 'queued' else ((0, rec, True),)     # line 1 is never synced
        return W(h, rh, isync, (), (), acts, g, s.crash, s.power, 0, 'REC_NAME' in s.on or s.start in ('queued', 'done'))

def prog(name): return PROG[name.rstrip('0123456789')]

def judge(w, m):
    f, rec, g = files(w), record(w), w.g
    if len(w.tools) > 1: raise Bad('TWICE')
    if g.acks and not any(f): raise Bad('LOST')
    if g.acks and 'E' in f: raise Bad('LOST')
    for n, o in g.reported:
        if len(outs(rec)) < n or outs(rec)[n - 1] != o: raise Bad('UNSAID')

def final(w, m):
    f, rec, g = files(w), record(w), w.g
    if w.tools: raise Bad('STUCK (a process of the job is alive)')
    if f[R]: raise Bad('STUCK (file in running/)')
    if len([i for i in f if i]) > 1: raise Bad('STUCK (two names)')
    if is_open(rec) or rec == 'TORN': raise Bad('STUCK (open attempt)')
    if len(outs(rec)) < len(g.started): raise Bad('FORGOT')
    if not any(f) and rec and rec[0] == 'queued': raise Bad('STUCK (queued after an attempt, no file)')
    if not any(f) and rec == NEW and 'TAKE_OVER' not in m.on: raise Bad('BLOCKED (nobody can ever use the id)')
    if not any(f): return
    if f[Q] and terminal(rec) or (f[D] or f[X]) and not terminal(rec): raise Bad('STUCK (directory and record disagree)')

def kill(w, m, a):
    if 'PDEATH' in m.on: w = w._replace(tools=tuple(t for t in w.tools if t.owner != a.name or t.stage != 'fork'))
    left = [t for t in w.tools if t.owner == a.name]
    w = w._replace(acts=tuple(x if x.name != a.name else A(x.name, 'dead', ('pid',) if 'pid' in x.r else ()) for x in w.acts))
    if left and 'CLOEXEC' not in m.on:
        return w._replace(locks=tuple((i, 'tool') if h == a.name else (i, h) for i, h in w.locks))
    return unlock(w, a.name)

def power(w, m):
    """All states the disk may show after the machine died."""
    def inode(i): return i if i == 0 or i in w.isync else 'E'
    if m.disk == 'ordered':
        cuts = sorted({x[0] for x in w.hist} | {x[0] for x in w.rhist})
        base = max(w.hist[0][0], w.rhist[0][0])
        pairs = [([x for x in w.hist if x[0] <= t][-1], [x for x in w.rhist if x[0] <= t][-1]) for t in cuts if t >= base]
    else: pairs = [(a, b) for a in w.hist for b in w.rhist + (() if w.rname else ((0, None, True),))]
    if m.disk == 'split':
        from itertools import product
        pairs = [((0, p), b) for p in product(*[{x[1][k] for x in w.hist} for k in range(4)]) for b in w.rhist]
    acts = tuple(a if a.pc in (0, 'd0') and m.later else A(a.name, None if a.pc is None else 'dead', ()) for a in w.acts if a.name != 'F')   # who has not begun may begin after the reboot
    for a, b in pairs:
        f = tuple(inode(i) for i in a[1])
        rec = b[1] if m.append or b[2] or b[1] is None else 'TORN'
        for req in set(w.req):
            for hold in set(w.hold): yield W(((0, f),), ((0, rec, True),), w.isync, (), (), acts, w.g, w.crash, w.power - 1, 0, w.rname, (req, req), (hold, hold))

def successors(w, m):
    live = [a for a in w.acts if a.pc not in (None, 'dead')]
    for a in live:
        for label, w2, pc, r in prog(a.name)(w, m, a.name, a.pc, a.r) or ():
            yield '%-4s %s' % (a.name, label), w2._replace(acts=tuple(A(a.name, pc, r) if x.name == a.name else x for x in w2.acts))
    if w.crash:
        for a in live:
            if a.pc not in (0, 'd0') and a.name != 'edit':
                yield '%-4s KILLED' % a.name, kill(w, m, a)._replace(crash=w.crash - 1)
    for t in w.tools:
        if t.stage == 'fork': yield 'tool execs', w._replace(tools=tuple(x._replace(stage='run') if x == t else x for x in w.tools))
    for t in w.tools:                                  # an orphan may end by itself, unless it is a daemon
        if not t.daemon and t.stage == 'run' and any(x.name == t.owner and x.pc == 'dead' for x in w.acts):
            yield 'orphan ends', w._replace(tools=tuple(x for x in w.tools if x != t), locks=tuple(l for l in w.locks if l[1] != 'tool'))
        if w.forks < m.hops and t.stage == 'run' and any(x.name == t.owner and x.pc == 'dead' for x in w.acts):
            yield 'orphan forks into a %s pid, and exits' % ('high', 'low')[t.at], w._replace(forks=w.forks + 1, tools=tuple(x._replace(at=1 - t.at) if x == t else x for x in w.tools))
    if w.power:
        for w2 in power(w, m): yield 'POWER LOSS -> %s %s' % (show(files(w2)), record(w2)), w2
    if not live:
        if w.phase == 0:
            base = tuple(a for a in w.acts if a.name != 'F')
            # a second pass is made if the first one found work: recovery handles one name a pass
            yield 'last recovery', w._replace(acts=base + (A('F', 0, ()),), phase=1)
        elif w.phase in (1, 2, 3):
            fa = [a for a in w.acts if a.name == 'F'][0]
            base = tuple(a for a in w.acts if a.name != 'F')
            if fa.pc == 'dead': yield 'recovery again', w._replace(acts=base + (A('F', 0, ()),), phase=1)
            elif w.phase < 3: yield 'recovery again', w._replace(acts=base + (A('F', 0, ()),), phase=w.phase + 1)
            else:
                final(w, m)

def show(f): return ' '.join('%s=%s' % (DIR[k], v) for k, v in enumerate(f) if v) or 'no file'

def check(m, limit=900000):
    w0 = m.init(); seen = {w0: None}; todo = deque([w0])
    while todo:
        w = todo.popleft()
        try:
            judge(w, m)
            for label, w2 in successors(w, m):
                if w2 not in seen:
                    if w.phase == 3 and w2.phase == 3 and (files(w2), record(w2)) != (files(w), record(w)):
                        raise Bad('UNSTABLE')
                    seen[w2] = (w, label); todo.append(w2)
        except Bad as b:
            path = []
            x = w
            while seen[x]: x, l = seen[x]; path.append(l)
            return str(b), path[::-1], len(seen)
        if len(seen) > limit: return 'limit', [], len(seen)
    return None, [], len(seen)


S = {                                                 # scenario: keyword arguments of M
 'submit':   dict(actors=['sub'], crash=1, power=1),
 'twins':    dict(actors=['sub', 'sub2', 'run'], crash=0),
 'twins+k':  dict(actors=['sub', 'sub2', 'run'], crash=1, power=1),
 'claim':    dict(actors=['run', 'run2', 'rec'], crash=1, start='queued'),
 'claim+r':  dict(actors=['run', 'run2', 'rec'], crash=1, start='queued', repeatable=True),
 'edit':     dict(actors=['run', 'run2', 'edit'], crash=0, start='queued'),
 'edit+k':   dict(actors=['run', 'run2', 'edit', 'rec'], crash=1, start='queued', repeatable=True),
 'power':    dict(actors=['run', 'run2'], crash=0, power=1, start='queued'),
 'power+k':  dict(actors=['run', 'run2', 'rec'], crash=1, power=1, start='queued'),
 'powerdat': dict(actors=['run', 'run2'], crash=0, power=1, start='queued', append=False),
 'retry':    dict(actors=['run', 'run2', 'rec'], crash=1, start='queued', retry=True, outcomes=('ok', 'fail')),
 'retry+p':  dict(actors=['run', 'run2'], crash=1, power=1, start='queued', retry=True, outcomes=('ok', 'fail')),
 'retry+kk': dict(actors=['run', 'run2', 'rec'], crash=2, power=1, start='queued', retry=True, outcomes=('ok', 'fail')),
 'cancel':   dict(actors=['run', 'can', 'rec'], crash=1, start='queued'),
 'cancel+p': dict(actors=['run', 'can'], crash=1, power=1, start='queued'),
 'requeue':  dict(actors=['req', 'run', 'rec'], crash=1, start='done'),
 'requeue+p': dict(actors=['req', 'run'], crash=1, power=1, start='done'),
 'aba':      dict(actors=['run', 'req', 'run2', 'rec'], crash=1, start='queued'),
 'gc':       dict(actors=['gc', 'req', 'run'], crash=1, start='done'),
 'gc+p':     dict(actors=['gc', 'req', 'run'], crash=0, power=1, start='done'),
 'gcnew':    dict(actors=['run', 'run2', 'gc', 'sub2', 'run3'], crash=0, start='queued'),
 'gcrec':    dict(actors=['run', 'gc', 'sub2', 'run2', 'rec'], crash=0, start='queued'),
 'direct':   dict(actors=['dir', 'sub', 'run'], crash=1),
 'direct2':  dict(actors=['dir', 'req', 'run'], crash=1, start='done'),
 'orphan':   dict(actors=['run', 'rec', 'run2'], crash=1, start='queued', repeatable=True),
 'daemon':   dict(actors=['run', 'rec', 'run2'], crash=1, start='queued', repeatable=True, daemon=True),
 'big':      dict(actors=['run', 'run2', 'rec', 'can'], crash=2, power=1, start='queued', retry=True, outcomes=('ok', 'fail'), later=False),
 'big2':     dict(actors=['run', 'req', 'run2', 'rec'], crash=2, power=1, start='queued', repeatable=True, later=False),
 'big3':     dict(actors=['dir', 'sub', 'run', 'rec', 'can'], crash=1, power=1, later=False),
 'cp':       dict(actors=['run', 'sub', 'rec'], crash=1, power=1, start='cp'),
 'cp+req':   dict(actors=['run', 'req', 'run2'], crash=0, power=1, start='cp'),
 'skip':     dict(actors=['sub', 'sub2', 'run'], crash=1, power=1, existing=True),
 'takeover': dict(actors=['dir', 'sub', 'sub2', 'gc'], crash=1, power=1, skip=True),
 'first':    dict(actors=['dir', 'run', 'rec'], crash=1, power=1, skip=True),
 'first+r':  dict(actors=['dir', 'run', 'rec'], crash=1, power=1, skip=True, repeatable=True),
 'first+f':  dict(actors=['dir', 'run'], crash=1, power=1, skip=True, retry=True, outcomes=('ok', 'fail')),
 'first+s':  dict(actors=['dir', 'sub', 'run'], crash=1, power=1, skip=True),
 'first+q':  dict(actors=['dir', 'req', 'run'], crash=1, power=1, skip=True),
 'first+d':  dict(actors=['dir', 'dir2'], crash=1, power=1, skip=True),
 'first+gc': dict(actors=['dir', 'gc', 'sub'], crash=0, power=1, skip=True),
 'ask':      dict(actors=['run', 'ask', 'run2'], crash=1, start='queued', retry=True, outcomes=('ok', 'fail')),
 'ask+r':    dict(actors=['run', 'ask', 'rec', 'run2'], crash=1, start='queued', repeatable=True),
 'ask+p':    dict(actors=['run', 'ask', 'run2'], crash=0, power=1, start='queued', repeatable=True),
 'ask+req':  dict(actors=['run', 'ask', 'req', 'run2'], crash=1, start='queued'),
 'ask+dir':  dict(actors=['run', 'ask', 'dir'], crash=1, start='queued'),
 'ask+gc':   dict(actors=['run', 'ask', 'gc', 'sub2', 'run2'], crash=0, power=1, start='queued', later=True),
 'ask+can':  dict(actors=['run', 'ask', 'can', 'req', 'run2'], crash=0, start='queued'),
 'hold':     dict(actors=['run', 'hold', 'run2'], crash=1, start='queued', retry=True, outcomes=('ok', 'fail')),
 'hold+p':   dict(actors=['run', 'hold', 'run2'], crash=1, power=1, start='queued', retry=True, outcomes=('ok', 'fail')),
 'hop':      dict(actors=['run', 'rec', 'run2'], crash=1, start='queued', repeatable=True, daemon=True, hops=3),
 'copy':     dict(actors=['run', 'copy', 'run2', 'rec'], crash=1, start='queued', retry=True, outcomes=('ok', 'fail')),
 'copy+r':   dict(actors=['run', 'rec', 'copy', 'run2'], crash=1, start='queued', repeatable=True, daemon=True),
 'twokills': dict(actors=['run', 'rec', 'run2'], crash=2, start='queued', repeatable=True),
}
NEED = {                                              # rule -> scenarios in which its absence may show
 'SUBMIT_DATA': ['submit'], 'SUBMIT_DIR': ['submit'], 'NOREPLACE': ['twins', 'direct', 'direct2'], 'ONE_DOOR': ['twins', 'direct', 'direct2'], 'REC_FIRST': ['twins', 'twins+k', 'power'],
 'LOCK_FIRST': ['claim', 'claim+r'], 'ID_LOCK': ['edit', 'edit+k'], 'RECHECK': ['claim', 'aba', 'gcnew'], 'RECHECK_REC': ['claim', 'aba', 'gcrec'],
 'READ_LOCKED': ['claim', 'aba'], 'START_REC': ['power', 'power+k'], 'START_SYNC': ['power', 'power+k'], 'FIN_DATA': ['powerdat'],
 'FIN_SYNC': ['power'], 'FIN_ORDER': ['claim', 'power'], 'REC_WINS': ['power', 'power+k'], 'RETRY_ORDER': ['retry', 'retry+p', 'retry+kk'],
 'CANCEL_LOCK': ['cancel'], 'REQ_ORDER': ['requeue'], 'REQ_SYNC': ['requeue+p'], 'REC_RESYNC': ['power+k', 'retry+p', 'cancel+p'], 'MARKER': ['orphan', 'claim'],
 'PDEATH': ['orphan', 'claim'], 'KILL_FIRST': ['orphan'], 'SCAN_FORKS': ['hop'], 'MARKER_EXACT': ['copy', 'copy+r'], 'COPY_HELD': ['copy', 'copy+r'], 'CLOEXEC': ['daemon'], 'GC_LOCK': ['gc'], 'GC_SYNC': ['gc+p'], 'UNLOCK_LAST': ['claim', 'aba'],
 'TAKE_OVER': ['takeover', 'first'], 'REC_NAME': ['first', 'cp'], 'REC_SCAN': ['first', 'first+r'], 'REQ_DATA': ['first+q', 'cp+req'], 'PARK_SYNC': ['first+f'], 'SKIP_SYNC': ['skip'],
 'CANCEL_LIFE': ['ask+req', 'ask+dir'], 'CANCEL_EARLIER': ['ask'], 'CANCEL_TICK': ['ask'], 'CANCEL_CLAIM': ['ask'], 'CANCEL_RECOVERY': ['ask+r'], 'CANCEL_SYNC': ['ask+p'],
 'GC_REQUEST': ['ask+gc'], 'HOLD_LOCKED': ['hold'], 'HOLD_SYNC': ['hold+p'],
}

FIRST = [n for n in S if n.startswith('first')] + ['takeover']

def run(name, off=(), quiet=False, **kw):
    t = time.time()
    bad, path, n = check(M(off=off, **{**S[name], **kw}))
    if not quiet: print('   scenario %-9s %-8s %8d states %5.1f s  %s' % (name, kw.get('disk', 'ordered'), n, time.time() - t, bad or 'no violation'), flush=True)
    return bad, path, n

def main(argv):
    if argv and argv[0].startswith('-'):
        for disk in ('ordered', 'weak'): bad, path, n = run(argv[1], (argv[0][1:],), disk=disk); print('\n'.join('      ' + p for p in path))
        return
    if argv:
        bad, path, n = run(argv[0]); print('\n'.join('      ' + p for p in path)); return
    print('1. All %d rules on' % len(RULES)); total = 0
    for disk in ('ordered', 'weak'):
        for name in S:
            bad, path, n = run(name, disk=disk); total += n
            if bad: print('\n'.join('      ' + p for p in path))
    print('   total %d states' % total)
    print('\n2. Each rule alone off: shortest counterexample')
    for rule, names in NEED.items():
        best = None
        for disk in ('ordered', 'weak'):
            for name in names:
                bad, path, n = run(name, (rule,), quiet=True, disk=disk)
                if bad and (best is None or len(path) < len(best[3])): best = (name, disk, bad, path)
        print('\n%s: %s' % (rule, RULES[rule]))
        if best is None:
            for name in names:                         # masked: is it needed once the rule that masks it is gone?
                for other in ('REC_WINS', 'ID_LOCK', 'READ_LOCKED'):
                    b0, p0, _ = run(name, (other,), quiet=True)
                    bad, path, n = run(name, (rule, other), quiet=True)
                    if bad and (b0 is None or bad != b0) and best is None: best = (name + ', ' + other + ' off too', 'ordered', bad, path)
        if best is None: print('   no violation in %s: implied by the other rules here' % ', '.join(names))
        else:
            print('   without it: %s  (scenario %s, %s disk, %d steps)' % (best[2], best[0], best[1], len(best[3])))
            for p in best[3]: print('      ' + p)

    print('\n3. Other orders, cheaper and weaker worlds')
    for name in ('claim', 'power+k', 'retry+kk', 'aba', 'requeue+p', 'gcnew', 'first+s'):
        bad, path, n = run(name, quiet=True, tell='first', disk='weak')
        print('   told before the move and the unlock instead of after them, %s: %s' % (name, bad or 'no violation in %d states' % n))
    for text, disk, skip, names in (('direct run skips s1 and s2, ext4, xfs, btrfs', 'ordered', True, FIRST), ('nobody skips a sync, elsewhere', 'weak', False, FIRST), ('a person\'s cp, elsewhere', 'weak', False, ('cp', 'cp+req'))):
        got = [(n, run(n, ('REC_SCAN',), quiet=True, disk=disk, skip=skip)) for n in names]
        print('   without REC_SCAN, %s: %s' % (text, '; '.join('%s in %s, %d steps' % (b, n, len(p)) for n, (b, p, _) in got if b) or 'no violation in %d states' % sum(x[1][2] for x in got)))
    for text, kw in (('a direct run that skips s1 for an ended id too (it was promised to somebody once)', dict(name='direct2', skip='all', power=1)),
                     ('the page before: state/jobs/ fsynced in submit only, a person\'s cp', dict(name='cp', off=('REC_NAME',), disk='weak')),
                     ('attempt start = durable rename into running/, record only at the end; first attempt', dict(name='power', rename_sync=True, off=('START_REC', 'REC_FIRST'))),
                     ('the same, but running/ + record "attempt 1 failed, retry" read as an unfinished end', dict(name='retry', rename_sync=True, reading='end', off=('START_REC', 'REC_FIRST'))),
                     ('a file system whose rename is not atomic across directories at power loss', dict(name='power', disk='split'))):
        name, off = kw.pop('name'), kw.pop('off', ())
        bad, path, n = run(name, off, quiet=True, **kw)
        print('   %s: %s' % (text, bad or 'no violation in %d states' % n)); print(''.join('      ' + p + '\n' for p in path), end='')
    print('\n4. Lease on the job file (an earlier draft) with all its checks: scenarios that break')
    for name in [n for n in S if not n.startswith('big')]:
        bad, path, n = run(name, ('ID_LOCK',), quiet=True)
        if bad: print('   %-9s %s in %d steps: %s' % (name, bad, len(path), ' | '.join(' '.join(p.split()) for p in path[-3:])))
    print('\n5. The journal (events.jsonl): two appenders, one of them killed in the middle of a write, one repairer')
    for repair in ('truncate', 'newline first', 'truncate, appends and repair under one lock'): print('   repair by %-42s %s' % (repair + ':', journal(repair)))
    print('\n6. A slot of a named lock whose dead holder has an unreadable record: a runner of two attempts, and another job that needs it')
    print('   all rules on: %s' % slot(()))
    for rule, text in SLOT_RULES.items(): print('   %s: %s\n      without it: %s' % (rule, text, slot((rule,))))
    print('\n7. A dedup key whose file a power loss has torn: two jobs that want it, and one that had it, accepted or not')
    print('   all rules on: %s' % keys(()))
    for rule, text in KEY_RULES.items(): print('   %s: %s\n      without it: %s' % (rule, text, keys((rule,))))
    parent_and_child()
    job_after_others()

def parent_and_child():
    print('\n8. A parent whose tool runs a child: both runners, the conductor and recoveries killed, the next conductor, cancel, gc, a person')
    print('   all rules on: %s' % family(()))
    for rule, text in CHILD_RULES.items(): print('   %s: %s\n      without it: %s' % (rule, text, family((rule,))))

SLOT_RULES = {
 'SLOT_FIRST': 'the slot names an attempt before the tool of that attempt is started',
 'SLOT_NAMED': 'each attempt of a direct run writes its own number into the slot',
 'SLOT_PROOF': 'a slot that is not empty, and whose holder has an unreadable record, is free once nothing with the marker of the named attempt is alive',
 'SLOT_IDENTITY': 'and only if the holder was of this boot and pid namespace: elsewhere the walk does not see its tool',
}

def slot(off):
    """A state: the runner's step, whether it lives, its attempt, the attempt whose tool lives (0: none), what the slot names, whether the runner is in
    another pid namespace, and whether the other job's tool runs. The runner's record is damaged as soon as it is dead."""
    order = ['name', 'start'] if 'SLOT_FIRST' not in off else ['start', 'name']
    first = [(order[0], True, 1, 0, 0, elsewhere, False) for elsewhere in (False, True)]
    seen, todo = {w: None for w in first}, deque(first)
    def steps(w):
        step, lives, n, tool, named, elsewhere, other = w
        if lives:
            yield 'runner killed', ('-', False, n, tool, named, elsewhere, other)
            after = order[1] if step == order[0] else 'end'
            if step == 'name':
                written = n if n == 1 or 'SLOT_NAMED' not in off else named
                yield 'slot names attempt %d' % written, (after, True, n, tool, written, elsewhere, other)
            if step == 'start': yield 'tool %d starts' % n, (after, True, n, n, named, elsewhere, other)
            if step == 'end' and n == 1: yield 'tool 1 ends, attempt 2', (order[0], True, 2, 0, named, elsewhere, other)
            if step == 'end' and n == 2: yield 'tool 2 ends, slot emptied, unlocked', ('-', False, n, 0, 0, elsewhere, other)
        elif not other:
            if tool: yield 'orphan ends', ('-', False, n, 0, named, elsewhere, other)
            if named and 'SLOT_PROOF' not in off:
                if elsewhere and 'SLOT_IDENTITY' not in off: return
                if tool == named and not elsewhere: tool = 0        # found by its marker, and ended
            yield 'other job takes the slot and starts', ('-', False, n, tool, 0, elsewhere, True)
    while todo:
        w = todo.popleft()
        if w[6] and w[3]:
            path = []
            while seen[w]: w, label = seen[w]; path.append(label)
            return 'TWICE: ' + ' | '.join(path[::-1])
        for label, w2 in steps(w):
            if w2 not in seen: seen[w2] = (w, label); todo.append(w2)
    return 'no violation in %d states' % len(seen)

KEY_RULES = {
 'KEY_LOCK': 'a key file that names no job is replaced only under the lock of that file',
 'KEY_RECHECK': 'and only if, under that lock, the file still has its name and names no job',
 'KEY_RECORDS': 'the new file names the job that has the key by its record or its queued file, if there is one',
 'KEY_OWNER': 'a key file that names a free id is replaced only under the lease of that id',
}

def keys(off):
    """A state: the key file (inode, the job it names or '-'), the locks (what, holder), the accepted jobs, and of the claimants `a` and `b` the step and
    what it remembers. `o` had the key. A claimant holds the lease of its own id until it is accepted, refused or killed."""
    leases = frozenset({('a', 'a'), ('b', 'b')})
    first = [((0, name), leases, had, (('judge', None),) * 2) for name in '-o' for had in (frozenset(), frozenset('o'))]
    seen, todo = {w: None for w in first}, deque(first)
    def steps(w):
        (inode, named), locks, accepted, claimants = w
        for i, me in enumerate('ab'):
            pc, r = claimants[i]
            if pc is None: continue
            def go(pc, r=None, file=(inode, named), locks=locks, accepted=accepted):
                if pc is None: locks = frozenset(x for x in locks if x[1] != me)
                return file, locks, accepted, claimants[:i] + ((pc, r),) + claimants[i + 1:]
            without = lambda what: locks - {(what, me)}
            taken = lambda what: any(x[0] == what for x in locks)
            yield me + ' killed', go(None)
            if pc == 'judge' and named == '-': yield me + ' reads a torn key file', go('lock' if 'KEY_LOCK' not in off else 'scan', inode)
            elif pc == 'judge' and named == me: yield me + ' has the key', go('accept')
            elif pc == 'judge' and named in accepted: yield me + ' refused', go(None)
            elif pc == 'judge' and 'KEY_OWNER' in off: yield me + ' finds the owner free', go('take over', named)
            elif pc == 'judge' and taken(named): yield me + ' refused: the owner comes in', go(None)
            elif pc == 'judge': yield me + ' takes the lease of the owner', go('recheck owner', named, locks=locks | {(named, me)})
            elif pc == 'lock' and not taken(r): yield me + ' locks the torn file', go('recheck', r, locks=locks | {(r, me)})
            elif pc == 'recheck' and 'KEY_RECHECK' not in off and (inode, named) != (r, '-'): yield me + ' another was first', go('judge', locks=without(r))
            elif pc == 'recheck': yield me + ' the file is the same', go('scan', r)
            elif pc == 'scan':
                owner = min(accepted, default=me) if 'KEY_RECORDS' not in off else me
                yield me + ' by the records it is of ' + owner, go('replace', (r, owner))
            elif pc == 'replace': yield me + ' writes the key of ' + r[1], go('judge', file=(inode + 1, r[1]), locks=without(r[0]))
            elif pc == 'recheck owner':
                same = named == r and r not in accepted
                yield me + ' looks under the lease', go('take over' if same else 'judge', r if same else None, locks=locks if same else without(r))
            elif pc == 'take over': yield me + ' takes the key over', go('judge', file=(inode + 1, me), locks=without(r))
            elif pc == 'accept': yield me + ' accepted', go(None, accepted=accepted | {me})
    while todo:
        w = todo.popleft()
        if len(w[2]) > 1:
            path = []
            while seen[w]: w, label = seen[w]; path.append(label)
            return 'TWO: ' + ' | '.join(path[::-1])
        for label, w2 in steps(w):
            if w2 not in seen: seen[w2] = (w, label); todo.append(w2)
    return 'no violation in %d states' % len(seen)

CHILD_RULES = {
 'CHILD_UNDER': 'a child is run only by a process whose environment names the open attempt of its parent',
 'CHILD_MARK': 'the tool of a child carries the marker of its parent too, and left-overs of the parent are found by both',
 'CHILD_KILL_FIRST': 'the next run of a child, like any recovery of it, ends what its last attempt left before it goes on',
 'CHILD_CANCELED': 'a child\'s runner that was asked to stop before it recorded the end says canceled, whatever its tool made of the signal',
 'CHILD_RUNNER_FIRST': 'recovery of a parent signals the tools of children only when no process with the marker of the parent itself is left: the runners come first',
 'CHILD_CLAIM': 'a child that waits (parked) is claimed under its parent',
 'CHILD_REQUEUE': 'a child is never requeued by itself',
 'CHILD_GC_QUEUED': 'gc cancels the queued child of an ended parent',
 'CHILD_GC_FIRST': 'gc retires children before their parent',
}

Family = namedtuple('Family', 'p n runner cond c step tool attempts kills hand asked said told')
Step = namedtuple('Step', 'n stage asked end')

def family(off):
    """Two ids: a parent whose tool is a conductor, and its child, a step. Who acts: the parent's runner, the conductor, the child's runner and tool, workers that
    claim and recover both, the next conductor, gc, and a person who cancels the parent, runs the child by hand, requeues it. Each process may be killed, twice in all.
    p, c: record of parent and child: - (none), queued, parked, open, ok, fail, canceled, gone (retired). n: the last attempt of the parent. runner: it lives. cond:
    the attempt of the conductor that lives, 0 none. step: the child's runner: the parent's attempt that its environment names (0: none), its stage, whether it was
    asked to stop, the end of its tool. tool: the parent's attempt under which the child's living tool was started, and whether it got TERM; it outlives its runner, as one that
    ignores TERM does. Recovery of the parent looks, signals what it found, and looks again until there is nothing; then it writes.
    LOOSE: a runner or tool of the child lives, and the attempt of its parent is over | TWICE: two tools of one child | FALSE-FAIL: the end of a tool that the engine
    stopped is recorded as its own | UNRUN: a child that was told to be queued waits for ever | ORPHAN: a child that waits, or any record of it, without its parent |
    STUCK: nothing moves, and the parent has not ended or a child waits."""
    first = Family('queued', 0, False, 0, '-', None, None, 0, 0, 0, False, False, False)
    seen, todo = {first: None}, deque([first])
    ended = ('ok', 'fail', 'canceled')
    def bad(w):
        over = lambda n: not (w.p == 'open' and w.n == n)
        if w.step and w.step.stage == 'runs' and over(w.step.n): return 'LOOSE'
        if w.tool and over(w.tool[0]): return 'LOOSE'
        if w.p == 'gone' and w.c not in ('-', 'gone'): return 'ORPHAN'
    def steps(w):
        set = w._replace
        s, t = w.step, w.tool
        if w.kills < 2:
            if w.runner: yield 'parent\'s runner killed', set(runner=False, kills=w.kills + 1)
            if w.cond: yield 'conductor killed', set(cond=0, kills=w.kills + 1)
            if s: yield 'child\'s runner killed', set(step=None, kills=w.kills + 1)
        # the parent
        if w.p in ('queued', 'parked') and not w.runner and w.n < 4: yield 'worker starts attempt %d of the parent' % (w.n + 1), set(p='open', n=w.n + 1, runner=True, cond=w.n + 1, asked=False, said=False)
        if w.p == 'open' and w.runner and not w.cond and not s and not t:         # ECHILD
            how = 'canceled' if w.asked else ('parked' if w.c == 'parked' else w.c) if w.said else 'queued' if w.n < 3 else 'fail'
            yield 'parent\'s runner records: %s' % how, set(p=how, runner=False)
        if w.p == 'open' and w.runner and not w.cond and (s or t):               # what outlives the conductor is asked, and killed after the grace
            if s and not s.asked: yield 'parent\'s runner asks the child\'s runner', set(step=s._replace(asked=True))
            yield 'parent\'s runner kills what is left', set(step=None, tool=None)
        if w.p == 'open' and w.runner and not w.asked and w.hand < 1: yield 'person cancels the parent', set(asked=True, hand=w.hand + 1)
        if w.p == 'open' and not w.runner:                                        # recovery, under the lease
            mine, found = w.cond or s and s.n == w.n, t and 'CHILD_MARK' not in off
            if not mine and not found: yield 'recovery: the parent\'s attempt %d is lost' % w.n, set(p='queued' if w.n < 3 else 'fail')
            if s and s.n == w.n and not s.asked: yield 'recovery: TERM to the child\'s runner', set(step=s._replace(asked=True))
            if mine: yield 'recovery: KILL to the runners', set(cond=0, step=None if s and s.n == w.n else s)
            if found and (not mine or 'CHILD_RUNNER_FIRST' in off):
                if not t[1]: yield 'recovery: TERM to the child\'s tool', set(tool=(t[0], True))
                yield 'recovery: KILL to the tools', set(tool=None)
        # the conductor: what it does follows from the records
        if w.cond and not s:
            again = w.c in ('-', 'open') or w.c == 'canceled' and not w.asked
            if w.asked: yield 'conductor tells: canceled', set(cond=0, said=True)
            elif again and w.attempts < 5: yield 'conductor runs the child', set(step=Step(w.cond, 'begins', False, ''))
            elif w.c == 'queued' or w.c == 'parked' and w.n > 1:
                if 'CHILD_CLAIM' not in off: yield 'conductor claims the child', set(step=Step(w.cond, 'begins', False, ''))
            elif w.c == 'parked': yield 'conductor tells: parked', set(cond=0, said=True)
            elif w.c in ended: yield 'conductor tells: %s' % w.c, set(cond=0, said=True)
        if w.cond and s and w.asked and not s.asked: yield 'conductor asks the child\'s runner', set(step=s._replace(asked=True))
        # the child's runner
        if s and s.stage == 'begins':
            if w.c in ended and s.n == 0: yield 'child refused: it has ended', set(step=None)
            elif 'CHILD_UNDER' not in off and not (w.p == 'open' and s.n == w.n): yield 'child refused: not under its parent', set(step=None)
            elif s.asked: yield 'child\'s runner, asked, starts nothing', set(step=None)
            elif w.c == 'open' and t and 'CHILD_KILL_FIRST' not in off: yield 'child\'s runner ends what the last attempt left', set(tool=None)
            elif t: yield 'child\'s tool starts beside the last one', 'TWICE'
            else: yield 'child\'s tool starts', set(c='open', step=s._replace(stage='runs'), tool=(s.n, False), attempts=w.attempts + 1, told=False)
        if s and s.stage == 'runs':
            if t and s.asked and not t[1]: yield 'child\'s runner asks its tool', set(tool=(t[0], True))
            if t:
                ends = ['exit 1 by TERM'] if t[1] else ['ok', 'fail'] + ['parked'] * (w.attempts < 2)
                for end in ends: yield 'child\'s tool ends: %s' % end, set(tool=None, step=s._replace(end=end))
            else:
                how = 'canceled' if s.asked and 'CHILD_CANCELED' not in off else 'fail' if s.end in ('', 'exit 1 by TERM') else s.end
                yield 'child\'s runner records: %s' % how, 'FALSE-FAIL' if how == 'fail' and s.end == 'exit 1 by TERM' else set(c=how, step=None)
        elif t and not s: yield 'tool without a runner ends', set(tool=None)
        # recovery of the child, by anybody
        if w.c == 'open' and not s:
            if t and 'CHILD_KILL_FIRST' not in off: yield 'recovery ends what the child left', set(tool=None)
            else: yield 'recovery: the child is lost, and queued again', set(c='queued')
        # others
        if w.c in ('queued', 'parked') and not s and w.hand < 1: yield 'child is claimed by hand', set(step=Step(0, 'begins', False, ''), hand=w.hand + 1)
        if w.c in ended and w.p in ended and w.hand < 1:
            if 'CHILD_REQUEUE' in off: yield 'person requeues the child, and is told so', set(c='queued', told=True, hand=w.hand + 1)
        if w.p in ended and not s and not t:
            if w.c in ('queued', 'parked') and 'CHILD_GC_QUEUED' not in off: yield 'gc cancels the queued child', 'UNRUN' if w.told else set(c='canceled')
            if w.c in ended and 'CHILD_GC_FIRST' not in off: yield 'gc retires the child', set(c='gone')
            if w.c in ('-', 'gone') or 'CHILD_GC_FIRST' in off and w.c in ended: yield 'gc retires the parent', set(p='gone')
    while todo:
        w = todo.popleft()
        after = list(steps(w))
        what = bad(w) or next((x for _, x in after if isinstance(x, str)), None)
        if not what and not any('killed' not in label for label, _ in after) and not (w.p == 'gone' and w.c in ('-', 'gone')): what = 'STUCK'
        if what:
            path = [label for label, x in after if x == what]
            while seen[w]: w, label = seen[w]; path.append(label)
            return what + ': ' + ' | '.join(path[::-1])
        for label, w2 in after:
            if w2 not in seen: seen[w2] = (w, label); todo.append(w2)
    return 'no violation in %d states' % len(seen)

AFTER_RULES = {
 'AFTER_LOCKED': '`after` is judged by the claimer, under its lease, whatever the worker saw before',
 'AFTER_HELD': 'a queued job that waits, near or far, through depends_on for one that ended without success is at rest',
 'AFTER_CHAIN': 'a job that ended before an attempt of its life, or is held, is at rest only if all that it comes `after` is, in the same sense',
 'AFTER_FOLLOW': 'a job that was escalated is at rest when its successor is',
 'AFTER_UNKNOWN': 'an id that is not known is not at rest: it may be on its way in',
 'AFTER_RECHECK': 'a queued job is taken for held, and a job that has not run for one at rest, only if what was seen is the same after the look at the others',
 'AFTER_SYNC': 'the ends by which a job starts are durable before its start line',
 'AFTER_ENDS': 'a worker wakes what waits by any end of the job that it waits for, not only by a success',
 'AFTER_FIRST': 'it waits for the first job below that runs, or else the first that can still move, not for the one that `after` names',
 'AFTER_DRAIN': 'a drain goes on while the job waited for runs, whoever runs it, or has ended since',
 'AFTER_AGAIN': 'before a drain ends, what waits is judged once more if anything was recorded since: another dependency may hold what it waits for',
 'AFTER_RESET': 'a claim that is refused sends the worker back to the first id: what it saw at rest may have been requeued',
}

AFTER_WORLDS = {                                                # name: ids of `after`, depends_on of each job, jobs on hold, jobs not there yet, who may be escalated, power failures, `after` of each job, which may be canceled before its start
 'end': ('x', {'x': ''}, '', '', '', 1),
 'escalation': ('x', {'x': '', 's': ''}, '', 's', 'x', 1),
 'held': ('x', {'x': 'y', 'y': ''}, '', '', '', 1),
 'held by a successor': ('x', {'x': 'y', 'y': '', 's': ''}, '', 's', 'y', 0),
 'chain': ('x', {'x': 'y', 'y': 'z', 'z': ''}, '', '', '', 0),
 'branch': ('x', {'x': 'yz', 'y': '', 'z': ''}, 'y', '', '', 0),
 'two': ('ax', {'a': '', 'x': 'y', 'y': ''}, '', '', '', 0),
 'coming in': ('x', {'x': ''}, '', 'x', '', 0),
 'canceled after': ('x', {'a': '', 'x': ''}, '', '', '', 1, {'x': 'a'}),
 'canceled far': ('x', {'a': '', 'w': '', 'x': ''}, '', '', '', 0, {'w': 'a', 'x': 'w'}),
 'held after': ('x', {'a': '', 'x': 'y', 'y': ''}, '', '', '', 0, {'x': 'a'}),
}

Job = namedtuple('Job', 'is_ seq before')                       # before: what a power loss leaves, None if the last line is durable
Look = namedtuple('Look', 'stack on basis')                     # stack: (job, seq, next dependency); on: the first that can still move
After = namedtuple('After', 'jobs r worker claimer kills power requeues rested')
# r: queued, or the basis (job, seq) of its start. worker: None, ('look', cursor, Look, refused, news), ('wait', cursor, of, on, news), ('runner', cursor, Look, refused), 'left'; news: whether
# anything was recorded since the worker began to look
# claimer: None, or (index, Look, basis) under the lease. rested: the ids of `after` that were at rest at a moment since the lease was taken

def coming_after(world, off):
    """One job that comes after others, its worker and its claimer; the others are run by other workers. Two of these happen at any moment: worker
    or claimer is killed, power fails, a person requeues what has ended.
    EARLY: it starts, and one of `after` was not at rest at any moment since the lease was taken | UNDONE: after a power loss it has started, and an end by which it did has not
    happened | ASLEEP: what a worker waits for has ended, and does not wake it | LEFT: a drain has ended, and it may start, or a job that it waits for runs."""
    ids, deps, on_hold, absent, escalates, fails, earlier = (AFTER_WORLDS[world] + ({},))[:7]
    earlier = {n: earlier.get(n, '') for n in deps}
    names = sorted(deps)
    at = names.index
    first = After(tuple(Job('-' if n in absent else 'queued', 0, None) for n in names), 'queued', ('look', 0, None, 0, False), None, 0, 0, 0, frozenset())
    seen, todo = {first: None}, deque([first])
    ended, on_rule = ('ok', 'fail', 'esc', 'never'), lambda rule: rule not in off         # never: canceled before an attempt
    def decides(jobs, n):
        while jobs[at(n)].is_ == 'esc': n = 's'
        return n
    def without_success(jobs, n): return jobs[at(decides(jobs, n))].is_ in ('fail', 'never') or held(jobs, n)
    def held(jobs, n):
        n = decides(jobs, n)
        return jobs[at(n)].is_ == 'queued' and any(without_success(jobs, d) for d in deps[n])
    def may(jobs, n):                                           # it is at rest, or what keeps it from that moves
        return rests(jobs, n) or jobs[at(n)].is_ == 'open' or moves(jobs, n) or (jobs[at(n)].is_ == 'never' or held(jobs, n)) and all(may(jobs, m) for m in earlier[n])
    def moves(jobs, n):                                         # a job of the worker's own queue: ready, or waiting for one that runs
        unmet = [d for d in deps[n] if jobs[at(decides(jobs, d))].is_ != 'ok']
        return jobs[at(n)].is_ == 'queued' and n not in on_hold and (not unmet and all(may(jobs, m) for m in earlier[n]) or any(jobs[at(decides(jobs, d))].is_ == 'open' for d in unmet[:1]))
    def rests(jobs, n):
        d = decides(jobs, n)
        return jobs[at(d)].is_ in ('ok', 'fail') or (jobs[at(d)].is_ == 'never' or held(jobs, n)) and all(rests(jobs, m) for m in earlier[d])
    def write(jobs, n, to, durable):
        old = jobs[at(n)]
        return jobs[:at(n)] + (Job(to, old.seq + 1, None if durable or not fails else (old.is_, old.seq)),) + jobs[at(n) + 1:]
    def look_at(jobs, n, l):
        """One read. Gives (label, what was found of `n` or None, Look): 'rest', 'moves', or None while the look goes on."""
        def better(on, j): return j if on is None or jobs[at(j)].is_ == 'open' != jobs[at(on)].is_ else on
        def found(stack, what, j, basis, on):                   # what a dependency is, told to the job that waits for it
            if not stack: return what, Look((), on, basis)
            (up, seq, k), rest = stack[-1], stack[:-1]
            if what == 'holds' and on_rule('AFTER_HELD'): return None, Look(rest + ((up, seq, 'recheck'),), on, basis)
            return None, Look(rest + ((up, seq, k + 1),), on, basis)
        stack, on, basis = l if l else ((), None, frozenset())
        j = n
        if stack:
            up, seq, k = stack[-1]
            if k == 'recheck':
                same = jobs[at(up)][:2] == ('queued', seq) or not on_rule('AFTER_RECHECK')
                what, l2 = found(stack[:-1], 'rest' if len(stack) == 1 and same else 'holds' if same else 'moves', up, basis, on if same else better(on, up))
                return 'looks at %s again' % up, what, l2
            if k == len(deps[up]):
                what, l2 = found(stack[:-1], 'moves', up, basis, better(on, up))
                return '%s can move' % up, what, l2
            j = deps[up][k]
        is_, seq = jobs[at(j)][:2]
        label = 'sees %s %s' % (j, is_ if is_ != '-' else 'nowhere')
        passed = frozenset()
        if is_ == 'esc' and on_rule('AFTER_FOLLOW'): passed = frozenset({(j, seq)}); j = 's'; is_, seq = jobs[at(j)][:2]; label += ', and s %s' % is_
        if is_ == 'queued': return label, None, Look(stack + ((j, seq, 0),), on, basis)
        if is_ in ended or is_ == '-' and not on_rule('AFTER_UNKNOWN'):
            unhelpful = stack and is_ != 'ok'
            kept = basis | passed | {(j, seq)} if (fails or any(earlier.values())) and (not stack or unhelpful) else basis
            what, l2 = found(stack, 'rest' if not stack else 'holds' if unhelpful else 'ok', j, kept, on)
        else: what, l2 = found(stack, 'moves', j, basis, better(on, j))
        return label, what, l2
    def look(jobs, n, l):
        """One read of `n`, or of what it comes after where it has not run. facts: what was seen of each, read again at the end."""
        if not any(earlier.values()): return look_at(jobs, n, l)
        todo, facts, l, basis = l if l else ((n,), (), None, frozenset())
        if todo:
            label, what, l = look_at(jobs, todo[0], l)
            if what == 'moves': return label, what, l
            if what is None: return label, None, (todo, facts, l, basis)
            d, todo = todo[0], todo[1:]                         # none is escalated here
            facts = facts + tuple(sorted(l.basis | {(d, jobs[at(d)].seq)}))
            if on_rule('AFTER_CHAIN') and jobs[at(d)].is_ not in ('ok', 'fail'): todo = todo + tuple(earlier[d])
            if not todo and len(facts) == 1: return label, 'rest', Look((), l.on, basis | l.basis)
            return label, None, (todo, facts, None, basis | l.basis)
        (m, was), facts = facts[0], facts[1:]
        same = jobs[at(m)].seq == was or not on_rule('AFTER_RECHECK')
        if not same: return 'looks at %s again' % m, 'moves', Look((), m, basis)
        return 'looks at %s again' % m, None if facts else 'rest', (todo, facts, None, basis) if facts else Look((), None, basis)
    def steps(w):
        set, jobs = w._replace, w.jobs
        # other workers, and a person
        for n in names:
            j = jobs[at(n)]
            if j.is_ == '-' and n not in 's': yield '%s comes in' % n, set(jobs=write(jobs, n, 'queued', True))
            if j.is_ == 'queued' and n not in on_hold and all(jobs[at(decides(jobs, d))].is_ == 'ok' for d in deps[n]) and all(rests(jobs, m) for m in earlier[n]): yield '%s starts' % n, set(jobs=write(jobs, n, 'open', True))
            if j.is_ == 'queued' and earlier[n]: yield 'person cancels %s' % n, set(jobs=write(jobs, n, 'never', True))
            if j.is_ == 'open':
                for end in ('ok', 'fail'): yield '%s ends: %s' % (n, end), set(jobs=write(jobs, n, end, False))
                if j.seq < 3: yield '%s is parked' % n, set(jobs=write(jobs, n, 'queued', True))
                if n in escalates and jobs[at('s')].is_ == '-': yield '%s is escalated to s' % n, set(jobs=write(write(jobs, 's', 'queued', True), n, 'esc', False))
            if j.before: yield '%s: its end is durable' % n, set(jobs=jobs[:at(n)] + (j._replace(before=None),) + jobs[at(n) + 1:])
            if j.is_ in ended and w.kills + w.power + w.requeues < 2: yield 'person requeues %s' % n, set(jobs=write(jobs, n, 'queued', True), requeues=w.requeues + 1)
        # the worker
        k = w.worker
        if k is None: yield 'next worker', set(worker=('look', 0, None, 0, False))
        if k and k != 'left':
            if w.kills < 1 and w.requeues + w.power < 2: yield 'worker killed', set(worker=None, kills=1)
            if k[0] == 'look' and w.claimer is None and w.r == 'queued':
                label, what, l = look(jobs, ids[k[1]], k[2])
                if what == None: yield 'worker ' + label, set(worker=('look', k[1], l, k[3], k[4]))
                elif what == 'moves': yield 'worker %s: waits for %s' % (label, l.on), set(worker=('wait', k[1], ids[k[1]], l.on if on_rule('AFTER_FIRST') else ids[k[1]], k[4]))
                elif k[1] + 1 < len(ids): yield 'worker ' + label, set(worker=('look', k[1] + 1, None, k[3], k[4]))
                else: yield 'worker %s: starts a runner' % label, set(worker=('runner', k[1], None, k[3]), claimer=(0, None, l.basis), rested=frozenset())
            if k[0] == 'runner' and w.claimer is None and w.r == 'queued':
                if on_rule('AFTER_RESET'): yield 'worker begins again', set(worker=('look', 0, None, 0, False))
                elif k[3] == 0: yield 'worker goes on where it was', set(worker=('look', k[1], None, 1, False))
                else: yield 'worker gives up for now', set(worker=('wait', k[1], None, None, False))
            if k[0] == 'wait':
                of, on = k[2], k[3]
                wakes = lambda n: n and (jobs[at(n)].is_ in ended if on_rule('AFTER_ENDS') else jobs[at(n)].is_ in ('ok', 'esc'))
                if wakes(of) or wakes(on): yield 'worker is woken', set(worker=('look', k[1], None, 0, False))
                elif on and any(jobs[at(n)].is_ in ended for n in (of, on)): yield 'worker is not woken', 'ASLEEP'
                else:
                    runs = on_rule('AFTER_DRAIN') and any(n and jobs[at(n)].is_ == 'open' for n in (of, on))
                    if not runs and not any(moves(jobs, n) for n in names):
                        if on_rule('AFTER_AGAIN') and k[4] and on: yield 'worker judges once more', set(worker=('look', k[1], None, 0, False))
                        else: yield 'drain ends', set(worker='left')
        # the claimer
        c = w.claimer
        if c:
            if w.kills < 1 and w.requeues + w.power < 2: yield 'claimer killed', set(claimer=None, kills=1)
            i, l, basis = c
            if i < len(ids) and on_rule('AFTER_LOCKED'):
                basis = basis if i or l else frozenset()
                label, what, l = look(jobs, ids[i], l)
                if what == 'moves': yield 'claimer %s: refused' % label, set(claimer=None)
                elif what: yield 'claimer ' + label, set(claimer=(i + 1, None, basis | l.basis))
                else: yield 'claimer ' + label, set(claimer=(i, l, basis))
            else:
                durable = tuple(j._replace(before=None) if on_rule('AFTER_SYNC') and any(n == m for m, _ in basis) else j for n, j in zip(names, jobs))
                yield 'it starts', set(claimer=None, r=basis, jobs=durable) if len(w.rested) == len(ids) else 'EARLY'
        if w.power < fails and w.requeues + w.kills < 2:
            unsure = [n for n in names if jobs[at(n)].before]
            for gone in unsure:
                j = jobs[at(gone)]
                back = write(jobs, gone, 'queued' if j.before[0] == 'open' else j.before[0], True)
                undone = w.r != 'queued' and (gone, j.seq) in w.r
                yield 'POWER LOSS: the end of %s is gone' % gone, 'UNDONE' if undone else set(jobs=back, worker=w.worker and ('look', 0, None, 0, False), claimer=None, power=1)
    def noted(w, x):
        if x.jobs != w.jobs and x.worker and len(x.worker) == 5 and any(a[1] != b[1] for a, b in zip(w.jobs, x.jobs)): x = x._replace(worker=x.worker[:4] + (True,))
        return x._replace(rested=frozenset(n for n in ids if x.claimer and (n in x.rested or rests(x.jobs, n))))
    while todo:
        w = todo.popleft()
        after = [(label, x if isinstance(x, str) else noted(w, x)) for label, x in steps(w)]
        what = next((x for _, x in after if isinstance(x, str)), None)
        runs = lambda w: any(j.is_ == 'open' for j in w.jobs)
        if not what: what = next(('LEFT' for label, x in after if x.worker == 'left' != w.worker and x.r == 'queued' and (runs(x) or all(rests(x.jobs, n) for n in ids))), None)
        if what:
            path = [next(label for label, x in after if x == what or what == 'LEFT' and x.worker == 'left')]
            while seen[w]: w, label = seen[w]; path.append(label)
            return what + ': ' + ' | '.join(path[::-1]), len(path)
        for label, w2 in after:
            if w2 not in seen: seen[w2] = (w, label); todo.append(w2)
    return None, len(seen)

def job_after_others():
    print('\n9. A job that comes after others: its worker and its claimer killed, power lost, what it waits for ended, held, escalated, requeued at any moment')
    whole = {world: coming_after(world, ()) for world in AFTER_WORLDS}
    print('   all rules on: %s' % ('; '.join('%s: %s' % (world, bad) for world, (bad, _) in whole.items() if bad) or 'no violation in %d states' % sum(n for _, n in whole.values())))
    for rule, text in AFTER_RULES.items():
        found = [(n, world, bad) for world in AFTER_WORLDS if len(AFTER_WORLDS[world]) == 6 or rule in ('AFTER_CHAIN', 'AFTER_RECHECK') for bad, n in [coming_after(world, (rule,))] if bad]
        print('   %s: %s\n      without it: %s' % (rule, text, '%s (%s)' % min(found)[:0:-1] if found else 'no violation'))

def journal(repair):
    """A line is two halves, so a kill or ENOSPC can leave one.  File: tuple of chunks.  A reader takes every complete line; B's line was
    acknowledged.  Returns the first bad interleaving or how many were tried."""
    from itertools import permutations
    locked, tried = 'one lock' in repair, 0
    step = {'A': ['A1'], 'B': ['look', 'write'], 'R': ['read', 'cut']}   # A is killed after half a line; O_APPEND: a write lands at the end
    orders = {sum(([x] * len(step[x]) for x in p), []) and tuple(sum(([x] * len(step[x]) for x in p), [])) for p in permutations('ABR')} \
        if locked else set(permutations('ABBRR'))
    for seq in sorted(orders):
        f, at, cut, nl = 'old\n', {'A': 0, 'B': 0, 'R': 0}, None, False
        for who in seq:
            s = step[who][at[who]]; at[who] += 1
            if s == 'A1': f += 'half'
            elif s == 'look': nl = repair != 'truncate' and not f.endswith('\n')
            elif s == 'write': f += ('\n' if nl or repair == 'newline first' else '') + 'B\n'
            elif s == 'read': cut = f.rfind('\n') + 1
            elif s == 'cut' and repair != 'newline first': f = f[:cut]
        tried += 1
        if 'B' not in f.split('\n')[:-1]: return 'acknowledged line LOST by order %s' % ' '.join(seq)
    return 'no line lost in %d orders' % tried

if __name__ == '__main__':
    main(sys.argv[1:])
