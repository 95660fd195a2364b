//! The tables of the documents: single jobs, and workstreams.

use crate::matrix::Table;
use crate::tool::Tool;
use crate::workstreams;
use crate::{cases, play};

/// `engine run-job`: each way in which one job ends.
pub const JOBS: Table = Table {
    path: "docs/agents-matrix.md",
    script: "tests/agents/matrix.sh",
    head: "\
# The engine with the real agents

Written by `tests/agents/matrix.sh`; a test compares everything but the seconds. Each row is one run of
`engine run-job` with the real tool (versions: `tests/agents/install.sh`), default settings, a fresh repository and a
scripted model server, in a network that is loopback only. Tokens are input/output (c = of the input, from a cache);
`-` = the tool tells nothing, or there is no result; `several` requests = the engine ended a tool that went on trying.
In all rows no process of the job was alive after its end, and the key was in no file and in nothing that was printed.

| tool | case | class | outcome | exit | changed | seconds | requests | served | ledger | alive |
|---|---|---|---|---:|---|---:|---:|---|---|---:|
",
    play: |tool, case| play::play(tool, &cases::named(case)),
    all: || {
        let cases = cases::all();
        let of = |tool| cases.iter().filter(move |case| case.tools.contains(&tool)).map(move |case| (tool, case.name));
        Tool::ALL.into_iter().flat_map(of).collect()
    },
};

/// `engine run`: each case of a workstream.
pub const WORKSTREAMS: Table = Table {
    path: "docs/workstreams-matrix.md",
    script: "tests/workstreams/matrix.sh",
    head: "\
# Workstreams with the real agents

Written by `tests/workstreams/matrix.sh`; a test compares everything but the seconds. Each row is one run of
`engine run --task` with the real tool (versions: `tests/agents/install.sh`) for the edit and the fixes, a fresh
repository, one check (`python3 -B -m unittest`) and a scripted model server, in a network that is loopback only.

- one_fix: the edit fails the check, and the fix passes it. swings: the second fix restores the files of the edit.
  outside: the edit creates a file outside the scope. deletes: the fix deletes the test that fails. budget: the fix
  costs more than `--max-cost-usd` has left. quota: the quota is used up in the middle of the fix, and open again
  later.
- steps: in order; `×2` = two attempts. branch: the steps whose changes were taken, `-` = it is at the base. aside:
  the steps whose files were put aside under `refs/engine/`. session: whether the second attempt went on in the
  session of the first. requests: answered ones; one that was refused repeatedly counts once.
- served: tokens, input/output (c = of the input, from a cache). difference: of the ledger from them, in tokens; aider
  does not report cached ones. A tool that reports its usage while it works is ended in the middle of the step by its
  budget; with the others the step ends, and no further one begins.

In all rows no process was alive after the end, the checkout was as before, `git fsck` found nothing, and the key was
in no file and in nothing that was printed.

| tool | case | status | reason | exit | steps | branch | aside | session | seconds | requests | served | difference | alive |
|---|---|---|---|---:|---|---|---|---|---:|---:|---|---:|---:|
",
    play: |tool, case| workstreams::play(tool, &workstreams::cases::named(case)),
    all: || {
        let cases = workstreams::cases::all();
        let of = |tool| cases.iter().map(move |case| (tool, case.name));
        Tool::ALL.into_iter().flat_map(of).collect()
    },
};
