//! The reason codes: the words in `reason.code`, in the findings of `explain`, and in refusals, each with what it means.
//!
//! A code is written as its word and read back from it; the table below is also the page `docs/reason-codes.md`. Hard rule:
//! a word that was once written keeps its meaning, and decisions compare the enum, never a word.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One row of the page of codes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// Its heading.
    pub group: &'static str,
    /// The code.
    pub code: Code,
    /// What it means, in a sentence.
    pub meaning: &'static str,
}

macro_rules! codes {
    ($($group:literal { $($name:ident = $word:literal: $meaning:literal,)+ })+) => {
        /// A reason, as a word for programs.
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Code {
            $($(#[doc = $meaning] $name,)+)+
            /// A signal ended the tool (`killed`), or asked the runner to stop (`canceled`): `signal:9`.
            Signal(i32),
            /// A word that this version does not know: read from a file of another one.
            Other(Box<str>),
        }

        impl Code {
            /// Every code but `Signal` and `Other`, with what it means.
            pub const ALL: &[Described] =
                &[$($(Described { group: $group, code: Self::$name, meaning: $meaning },)+)+];

            /// The word in files.
            #[must_use]
            pub fn as_str(&self) -> Cow<'_, str> {
                Cow::Borrowed(match self {
                    $($(Self::$name => $word,)+)+
                    Self::Signal(number) => return Cow::Owned(format!("signal:{number}")),
                    Self::Other(word) => word,
                })
            }

            /// The code of a word.
            #[must_use]
            pub fn of_word(word: &str) -> Self {
                match word {
                    $($($word => Self::$name,)+)+
                    _ => match word.strip_prefix("signal:").and_then(|number| number.parse().ok()) {
                        Some(number) => Self::Signal(number),
                        None => Self::Other(word.into()),
                    },
                }
            }
        }
    };
}

codes! {
    "How an attempt ended" {
        ExitCode = "exit_code": "The tool's exit status says failure.",
        TimedOut = "timed_out": "The tool ran longer than `timeout_seconds`.",
        Stalled = "stalled": "The tool printed nothing for longer than `idle_timeout_seconds`.",
        CanceledByUser = "canceled_by_user": "A person canceled the job with `engine cancel`.",
        Crash = "crash": "The runner died while the tool may have been running.",
        Poison = "poison": "The runner of a repeatable job died three times: the job is not repeated again.",
        LeftAlive = "left_alive": "Processes of the job could not be ended.",
        Escalated = "escalated": "The job was handed on to another job, named in the message.",
        ResultNotKept = "result_not_kept": "The result could not be written: recovery will declare the attempt lost.",
        TestsFailed = "tests_failed": "Tests failed or ended with an error.",
        NoTestsRun = "no_tests_run": "No test ran.",
        NoTestSummary = "no_test_summary": "The test output contains no summary.",
        TestReportMissing = "test_report_missing": "The declared test report was not written.",
        TestReportUnreadable = "test_report_unreadable": "A test report cannot be read or understood.",
        TestCountsDisagree = "test_counts_disagree": "The numbers of a test report contradict each other.",
        TestRunInterrupted = "test_run_interrupted": "The test run ended before all tests had run.",
        TestStatusUnknown = "test_status_unknown": "A test has a result that the engine does not know.",
        PluginFailed = "plugin_failed": "The plug-in reports a failure.",
        InvalidAnswer = "invalid_answer": "The answer of a plug-in cannot be understood.",
    }
    "How a command of `git` failed" {
        MergeConflict = "merge_conflict": "Changes conflict.",
        NothingToCommit = "nothing_to_commit": "There is nothing to commit.",
        IndexLocked = "index_locked": "Another process holds the lock of the index, or left it behind.",
        RefLocked = "ref_locked": "Another process holds the lock of a reference, or left it behind.",
        DubiousOwnership = "dubious_ownership": "`git` refuses the repository of a `git` job: it belongs to another user.",
        Authentication = "authentication": "The remote does not accept the credentials, or asks for some.",
        Rejected = "rejected": "The remote rejects the push.",
        IdentityUnknown = "identity_unknown": "`git` does not know the author's name and address.",
        LocalChanges = "local_changes": "Uncommitted changes would be overwritten.",
        RefMoved = "ref_moved": "A reference that only the engine writes is not where it was: another process moved it.",
        WorktreeLocked = "worktree_locked": "Another process keeps the worktrees of the repository locked, or a killed `git` left a lock file behind.",
        BranchInUse = "branch_in_use": "The branch of a workstream is checked out in another worktree.",
        GitFailed = "git_failed": "`git` could not change the repository or the worktree of a workstream.",
        GitKilled = "git_killed": "`git` was killed while it worked for the engine.",
    }
    "How an agent ended" {
        Ok = "ok": "The agent finished, and the worktree changed.",
        NoChange = "no_change": "The agent finished, and the worktree is as before.",
        Failed = "failed": "The agent says that it failed, its edits did not apply, or the worktree cannot be looked at after it.",
        Refused = "refused": "The model refused the task.",
        NeedsInput = "needs_input": "The agent needs a permission or an answer that no one could give.",
        Auth = "auth": "The service does not accept the key.",
        Billing = "billing": "The service demands payment.",
        Quota = "quota": "A quota is used up; the job is parked or handed on as far as it allows that.",
        RateLimited = "rate_limited": "The service received too many requests; the job is parked or handed on as far as it allows that.",
        Overloaded = "overloaded": "The service is overloaded, broken or unreachable; the job is parked or handed on as far as it allows that.",
        ContextOverflow = "context_overflow": "The context is larger than the model accepts.",
        Protocol = "protocol": "The stream of the agent is malformed or incomplete.",
        Lost = "lost": "The runner of the agent died.",
        ScopeViolation = "scope_violation": "The agent changed files outside `files_scope`, or files that no agent may change.",
        BudgetExceeded = "budget_exceeded": "The budget of the job or of its run is used up.",
    }
    "How a workstream ended" {
        Oscillation = "oscillation": "The fixes went in a circle: an earlier state of the files, or an earlier failure, came back.",
        NoProgress = "no_progress": "The same failure stayed after several fixes that changed the files.",
        FixLimit = "fix_limit": "All fixes that the limits allow were used, and a check still fails.",
        FixDisabled = "fix_disabled": "A check failed, and the limits or the tool allow no fix.",
        AttemptLimit = "attempt_limit": "The workstream had as many steps of agents as its limits allow.",
        CheckKilled = "check_killed": "A check was interrupted ten times in a row.",
        StepRepeats = "step_repeats": "A step was started again and again, and something ended each run of it before it counted.",
        GivenUp = "given_up": "The workstream had not started when another one of its run ended the run.",
        StepCanceled = "step_canceled": "A person canceled a step.",
        ToolMissing = "tool_missing": "A check could not be started.",
        SetupFailed = "setup_failed": "A command of `setup` failed in a new worktree.",
        BaseConflict = "base_conflict": "The workstreams that it builds on do not merge with each other.",
        IntegrationMoved = "integration_moved": "The branch that the run is merged into was moved by a person.",
    }
    "What is wrong with the work of a step" {
        GitDirChanged = "git_dir_changed": "The step changed hooks, settings, attributes or ignore rules of the repository.",
        SubmoduleChanged = "submodule_changed": "The step changed a submodule.",
        GateTampered = "gate_tampered": "The step changed a file that decides how checks run, and the scope does not name that file literally.",
        TestsVanished = "tests_vanished": "Test files were deleted, or a check passed with fewer tests than before.",
        CheckChangedFiles = "check_changed_files": "A check passed, but changed files of the worktree itself: the pass does not count.",
        MergeUnfinished = "merge_unfinished": "A person is in the middle of a merge or a rebase in the worktree.",
        TreeNotClean = "tree_not_clean": "The worktree holds what the engine cannot record or remove: a repository within, files of another user, names that git refuses.",
        IntegrationFailed = "integration_failed": "A check failed on the merged tree of the run.",
        Incomplete = "incomplete": "A workstream of the run did not succeed, so it is not integrated.",
        PatchPolicy = "patch_policy": "The change breaks the rules of `[workstreams] patch`.",
    }
    "A run that is not made, or does not go on" {
        RunQuarantined = "run_quarantined": "A person said that nothing of the run may be used.",
        BaselineFailed = "baseline_failed": "A check fails on the commit that the run begins on, before any change.",
        BaseMissing = "base_missing": "The commit to begin on does not exist.",
        EnvironmentOfCheckout = "environment_of_checkout": "A check would load the files of the checkout, not those of the worktree.",
    }
    "A job that cannot start" {
        StartFailed = "start_failed": "The system did not start the tool: it lacked descriptors, processes or memory, or gave another error.",
        ToolNotFound = "tool_not_found": "The tool's program was not found.",
        ToolNotExecutable = "tool_not_executable": "The tool's program exists and cannot be executed.",
        ToolVersion = "tool_version": "The tool has a version that the adapter does not support, or reports none.",
        NoAdapter = "no_adapter": "No adapter has this name.",
        AdapterInvalid = "adapter_invalid": "The manifest of the adapter is not valid.",
        CommandMissing = "command_missing": "The job names no command.",
        ArgumentInvalid = "argument_invalid": "An argument cannot be passed to a program.",
        ArgumentMissing = "argument_missing": "The job lacks a `metadata` value that the adapter requires.",
        EnvInvalid = "env_invalid": "A variable of the environment has an impossible name or value.",
        EnvMissing = "env_missing": "A variable that the job takes from the engine's environment is not set.",
        PromptMissing = "prompt_missing": "The agent has no prompt.",
        PromptEmpty = "prompt_empty": "The agent's prompt is empty.",
        PathEscapes = "path_escapes": "A path of the job leads out of the directory that it must stay in.",
        PathForeign = "path_foreign": "A path of the job was written on another operating system.",
        PathInvalid = "path_invalid": "A path of the job cannot be a path.",
        PathMissing = "path_missing": "A file or directory of the job does not exist, or is of another kind.",
        StdinNotAFile = "stdin_not_a_file": "The standard input of the job is not a regular file.",
        LogInUse = "log_in_use": "Another job is writing the same log.",
        LogNotWritable = "log_not_writable": "The log cannot be written.",
        JobFileNotMoved = "job_file_not_moved": "The job file could not be moved to `running/`.",
        KeepRefused = "keep_refused": "`metadata.keep` is not allowed for this adapter.",
        KeyMissing = "key_missing": "The agent's key is not set.",
        HomeMissing = "home_missing": "The user has no home directory, which the agent needs.",
        HomeNotWritable = "home_not_writable": "The agent cannot write to its home directory.",
        EvidenceFailed = "evidence_failed": "The state of the worktree cannot be determined.",
        GitMissing = "git_missing": "`git` is needed and was not found.",
        GitTooOld = "git_too_old": "`git` is older than workstreams need.",
        WorktreePlace = "worktree_place": "The directory for the worktrees of workstreams cannot be used.",
        NotARepository = "not_a_repository": "The agent's directory is not in a git repository.",
        RepositoryNotTrusted = "repository_not_trusted": "`git` refuses the agent's repository: it belongs to another user.",
        WorkingDirOutsideRepository = "working_dir_outside_repository": "The agent's directory lies outside the repository's worktree.",
        WorkTreeElsewhere = "work_tree_elsewhere": "The configuration of the repository names another worktree.",
        WorkTreeNotWritable = "work_tree_not_writable": "The worktree cannot be written.",
        ScopeInvalid = "scope_invalid": "A pattern of `files_scope` is not valid, or the directory of a file to create cannot be made.",
        ScopeMatchesNothing = "scope_matches_nothing": "`files_scope` matches no file that an agent may change.",
        Interrupted = "interrupted": "A signal interrupted a look at the worktree or a version check.",
        Killed = "killed": "A process of the engine was killed before it could answer.",
    }
    "What a queued job waits for" {
        WaitingTime = "waiting_time": "`not_before`, a retry or a parked job's time is in the future.",
        WaitingHold = "waiting_hold": "The job is held.",
        WaitingDependency = "waiting_dependency": "A job that it depends on has not succeeded.",
        WaitingAfter = "waiting_after": "A job that it comes after can still move.",
        LockNotReleased = "lock_not_released": "Its lock was left by a job of which nothing on this machine says that it is over.",
        WaitingLock = "waiting_lock": "Another job has a lock, a slot or the worktree that it needs.",
        WaitingParent = "waiting_parent": "The job is a part of another one, whose tool starts it.",
        DependencyCircle = "dependency_circle": "The job depends on itself through other jobs.",
    }
    "A refused job" {
        InvalidJobFile = "invalid_job_file": "The job file is not valid.",
        JobFileMissing = "job_file_missing": "The job file is missing, torn or cannot be read.",
        JobFileChanged = "job_file_changed": "The job file was changed after it was read or accepted.",
        JobFileChanging = "job_file_changing": "The job file is being changed at this moment.",
        JobFileUnreadable = "job_file_unreadable": "The job file cannot be read.",
        JobFileNotTrusted = "job_file_not_trusted": "What has the name of the job file is not a regular file that only its owner can write.",
        FileUnreadable = "file_unreadable": "A file or standard input that was named cannot be read.",
        NotAJobFile = "not_a_job_file": "The content of the file is not a job.",
        WrongName = "wrong_name": "The file in the queue has another name than its job.",
        Duplicate = "duplicate": "A second file of the same job was put aside.",
        IdQueued = "id_queued": "The id is in the queue already.",
        IdRunning = "id_running": "The job with this id is running, or its last change is not finished.",
        IdTaken = "id_taken": "A job with this id has ended.",
        IdChanged = "id_changed": "The id exists with different content.",
        IdBusy = "id_busy": "Another process keeps working on the job with this id.",
        KeyTaken = "key_taken": "Another job has the key.",
        KeyBusy = "key_busy": "Another process keeps the key locked.",
        KeyRefused = "key_refused": "The key cannot be used here.",
        IdRepeated = "id_repeated": "The id is in the batch twice.",
        KeyRepeated = "key_repeated": "The key is in the batch twice, with different content.",
        UnknownDependency = "unknown_dependency": "A dependency is neither a job nor in the batch.",
        DependencyCycle = "dependency_cycle": "Jobs of the batch depend on each other in a circle.",
        NotUnderParent = "not_under_parent": "The job is a part of another one, and only an attempt of that one may run it.",
        NotFound = "not_found": "There is no such job, or it has not what was asked for.",
        NotQueued = "not_queued": "The job is not in the queue.",
        Archived = "archived": "The job has ended and was archived by `gc`.",
        NeedsRecovery = "needs_recovery": "A crash left the job behind: run `engine recover`.",
        Unknown = "unknown": "The reason why the file was put aside cannot be read.",
    }
    "The root and the machine" {
        NoRoot = "no_root": "No root was found.",
        NoPlaceForRoot = "no_place_for_root": "A root cannot be made here.",
        RootNotReadable = "root_not_readable": "The root exists, but this user may not read it.",
        RootNotTrusted = "root_not_trusted": "Other users can write to the root, or it is a link.",
        RootNotAccepted = "root_not_accepted": "The root was copied, moved or cloned, and was not accepted: `engine init --adopt`.",
        NewerFormat = "newer_format": "A newer version of the engine wrote the state.",
        StateUnreadable = "state_unreadable": "A file of the state cannot be read.",
        StateNotWritable = "state_not_writable": "A file or directory of the state cannot be opened or written.",
        DiskFull = "disk_full": "The disk is full, or has less room than `min_free_bytes`.",
        LocksUnsupported = "locks_unsupported": "The file system does not support locks between processes.",
        InternalError = "internal_error": "The state table refused a change: an error of the engine.",
        Usage = "usage": "The command line is not valid.",
        Error = "error": "Any other error.",
    }
    "Findings of `explain`" {
        Ready = "ready": "Nothing keeps the job from starting.",
        Behind = "behind": "Other jobs are ahead of it.",
        Running = "running": "The job is running.",
        RunningElsewhere = "running_elsewhere": "The job is running on another host or in another container.",
        RunnerGone = "runner_gone": "The runner of the job is gone; recovery will decide.",
        RunnerStopped = "runner_stopped": "The runner of the job is stopped.",
        CancelRequested = "cancel_requested": "A request to cancel the job was written and not yet answered.",
        Held = "held": "The running job is held: it will not be repeated.",
        Ended = "ended": "The job has ended.",
        NotAJob = "not_a_job": "The file in the queue is not a job.",
        Quarantined = "quarantined": "The file was put aside.",
        PriorityAged = "priority_aged": "The job counts as more important because it has waited long.",
        PriorityLent = "priority_lent": "The job counts as more important because an important one waits for it.",
        LockSlotsDisagree = "lock_slots_disagree": "Running jobs disagree about how many may hold the lock.",
        ClockWasFast = "clock_was_fast": "The clock was ahead when the job was accepted.",
        LowSpace = "low_space": "The disk has less room than `min_free_bytes`.",
    }
}

impl Code {
    /// True if the job only has to wait: it stays in the queue, and starts by itself later.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        matches!(
            self,
            Self::WaitingTime
                | Self::WaitingHold
                | Self::WaitingDependency
                | Self::WaitingAfter
                | Self::WaitingLock
        )
    }

    /// True if a refusal passes by itself, or by what another process does with the job at this moment.
    #[must_use]
    pub fn passes(&self) -> bool {
        self.is_waiting() || matches!(self, Self::IdRunning | Self::NotQueued | Self::JobFileChanging)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.as_str())
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.as_str())
    }
}

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::of_word(&Cow::<str>::deserialize(deserializer)?))
    }
}

impl JsonSchema for Code {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Code".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_read_back_as_the_code_that_wrote_it() {
        let signals = [Code::Signal(9), Code::Other("of_tomorrow".into()), Code::Other("signal:x".into())];
        for code in Code::ALL.iter().map(|row| row.code.clone()).chain(signals) {
            let word = serde_json::to_string(&code).unwrap();
            assert_eq!(serde_json::from_str::<Code>(&word).unwrap(), code, "{word}");
        }
    }

    #[test]
    fn no_word_is_twice_in_the_table_and_each_is_a_word_for_programs() {
        let mut words: Vec<String> = Code::ALL.iter().map(|row| row.code.to_string()).collect();
        assert!(words.iter().all(|word| word.chars().all(|c| c.is_ascii_lowercase() || c == '_')));
        words.sort();
        words.dedup();
        assert_eq!(words.len(), Code::ALL.len());
    }
}
