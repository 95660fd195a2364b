#!/usr/bin/env bash
# Makes `root-0.1/`, a root as version 0.1 leaves it, with the program of that version:
#
#     tests/data/root-0.1.sh PATH/TO/engine-0.1
#
# It runs in namespaces of its own (as root, or where users may make them), so that the records name the machine `old-host`,
# a boot that is over and the directory /srv/project. The tests copy the root; no file of it is edited by hand.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
if [ "${1:-}" != --inside ]; then
    engine=$(realpath "$1")
    kind=$([ "$(id -u)" = 0 ] && echo -mu || echo -rmu)
    exec unshare "$kind" "$0" --inside "$engine" "$here/root-0.1"
fi
engine=$2 to=$3

hostname old-host
mount -t tmpfs none /srv
echo 0b007000-0000-4000-8000-000000000001 > /srv/boot
mount --bind /srv/boot /proc/sys/kernel/random/boot_id
mkdir -p /srv/project/{repo,bin,home}
cd /srv/project
unset "${!GIT_@}" "${!ENGINE_@}"
export HOME=/srv/project/home PATH="/srv/project/bin:/usr/local/bin:/usr/bin:/bin" TZ=UTC LC_ALL=C
export ANTHROPIC_API_KEY=test-key-of-anthropic OPENAI_API_KEY=test-key-of-openai
export GIT_AUTHOR_DATE=2026-11-21T10:00:00Z GIT_COMMITTER_DATE=2026-11-21T10:00:00Z
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.org GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@example.org

printf 'def add(a, b):\n    return a - b\n' > repo/calc.py
git -C repo init -q -b main
git -C repo add .
git -C repo commit -q -m start

# Agents that play one run each: one edits the file and tells what it cost, one has no quota left.
cat > bin/claude <<'PLAY'
#!/bin/sh
[ "$1" = --version ] && { echo '2.1.197 (Claude Code)'; exit 0; }
cat > /dev/null
sed -i 's/a - b/a + b/' calc.py
echo '{"type":"system","subtype":"init","session_id":"01a1ff11-b4df-7963-9a98-4b694edd5a24","model":"claude-sonnet-4-5"}'
echo '{"type":"assistant","session_id":"01a1ff11-b4df-7963-9a98-4b694edd5a24","message":{"id":"m1","model":"claude-sonnet-4-5","content":[{"type":"text","text":"Done."}]}}'
echo '{"type":"result","subtype":"success","is_error":false,"num_turns":1,"result":"Done.","session_id":"01a1ff11-b4df-7963-9a98-4b694edd5a24","total_cost_usd":0.00252,"modelUsage":{"claude-sonnet-4-5":{"inputTokens":600,"outputTokens":30,"cacheReadInputTokens":900,"cacheCreationInputTokens":0,"costUSD":0.00252}}}'
PLAY
cat > bin/codex <<'PLAY'
#!/bin/sh
[ "$1" = --version ] && { echo 'codex-cli 0.169.0'; exit 0; }
cat > /dev/null
echo '{"type":"thread.started","thread_id":"01a1ff11-b4df-7963-9a98-4b694edd5a25"}'
echo '{"type":"turn.started"}'
echo '{"type":"turn.failed","error":{"message":"You have hit your usage limit. Try again in 1 second."}}'
exit 1
PLAY
chmod 755 bin/*

job() { # ID SCRIPT MORE...: a shell job on standard output
    printf '{"job_id": "%s", "tool": "shell", "command": {"exe": "sh", "args": ["-c", "%s"]}%s}\n' "$1" "$2" "${3:-}"
}
submit() { job "$@" | "$engine" submit -q -; }
run() { job "$@" | "$engine" run-job --output never -q --job-file - || true; }
agent() { # ID TOOL
    printf '{"job_id": "%s", "tool": "%s", "run_id": "agents", "paths": {"repo_root": "repo"}, "metadata": {"prompt": "Correct add() in calc.py."}}\n' "$1" "$2" |
        "$engine" run-job --output never -q --job-file - || true
}
abandon() { # as `run`, but its runner is killed while its tool runs
    job "$@" > "$1.json"
    "$engine" run-job --output never -q --job-file "$1.json" &
    until [ -e "$1.started" ]; do sleep 0.05; done
    kill -9 $!
    wait $! 2> /dev/null || true
    while grep -qsz "^ENGINE_ATTEMPT=.*/$1/1$" /proc/[0-9]*/environ; do sleep 0.05; done
}

"$engine" init -q
printf '[retention]\ndays = 30\n' > .engine/engine.toml

# What gc has retired.
run archived-good "echo out" ', "run_id": "old"'
run archived-bad "echo err >&2; exit 3" ', "run_id": "old"'
"$engine" gc --older-than 0s > /dev/null

# What has ended.
run done "echo out; echo err >&2" ', "run_id": "r", "workstream_id": "w"'
run done "echo a second life" ', "run_id": "r", "workstream_id": "w"'
run failed "exit 4" ', "on_failure": "done"'
run quarantined "echo out; exit 3" ', "run_id": "r", "metadata": {"retry_policy": "retry_same", "max_retries": 1, "backoff": {"strategy": "immediate"}}'
submit canceled "true"
"$engine" cancel canceled > /dev/null
agent paid claude

# What runs no more: one that may run again, and one that must not.
abandon lost "touch lost.started; exec sleep 600" ', "locks": ["gpu"]'
abandon repeatable "[ -e repeatable.started ] || { touch repeatable.started; exec sleep 600; }" ', "on_crash": "requeue"'

# What waits.
agent parked codex
submit queued "echo ran" ', "priority": "high", "key": "the key"'
submit after-queued "true" ', "depends_on": ["queued", "done"]'
submit after-quarantined "true" ', "depends_on": ["quarantined"]'
submit after-archived "true" ', "depends_on": ["archived-good"]'
submit needs-gpu "true" ', "locks": ["gpu"]'
submit later "true" ', "not_before": "2999-01-01T00:00:00Z"'
submit held "true"
"$engine" hold held --reason "the disk is new" > /dev/null
# A person's own file, which no record knows.
job by-hand "true" > .engine/jobs/queued/by-hand.json

rm -rf "$to"
cp -r .engine "$to"
# It would hide the files from git; the remembered versions are of programs that are not there.
rm -f "$to/.gitignore" "$to/state/cache/versions.json"

# A job that waits counts as more urgent each hour. So that it makes no difference when the tests run, all but the archive
# gets to be days older.
day=$(date -u +%F)
old=$(date -u -d '-9 days' +%F)
find "$to" -type f ! -path '*/archive*' -exec sed -i "s/$day/$old/g" {} +
mv "$to/jobs/done/$day" "$to/jobs/done/$old"
# As git keeps them; the tests give the copy its modes.
chmod -R u=rwX,go=rX "$to"
