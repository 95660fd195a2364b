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
    /// The heading that it stands under.
    pub group: &'static str,
    /// The code.
    pub code: Code,
    /// What it means, in a sentence.
    pub meaning: &'static str,
}

macro_rules! codes {
    ($($group:literal { $(#[doc = $meaning:literal] $name:ident = $word:literal,)+ })+) => {
        /// Why something is as it is, as a word for programs.
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Code {
            $($(#[doc = $meaning] $name,)+)+
            /// A signal that was not the engine's ended the tool: `signal:9`.
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
        /// The tool's exit status says failure.
        ExitCode = "exit_code",
        /// The tool ran longer than `timeout_seconds`.
        TimedOut = "timed_out",
        /// The tool printed nothing for longer than `idle_timeout_seconds`.
        Stalled = "stalled",
        /// A person canceled the job with `engine cancel` or a signal to its runner.
        CanceledByUser = "canceled_by_user",
        /// The runner died while the tool may have been running.
        Crash = "crash",
        /// The runner of the job crashed as often as `max_crashes` allows.
        Poison = "poison",
        /// Processes of the job could not be ended.
        LeftAlive = "left_alive",
        /// The job was handed on to another job, named in the message.
        Escalated = "escalated",
        /// The result could not be written: recovery will call the attempt lost.
        ResultNotKept = "result_not_kept",
        /// Tests failed or ended with an error.
        TestsFailed = "tests_failed",
        /// The run of the tests says of itself that no test ran.
        NoTestsRun = "no_tests_run",
        /// The output of the tests holds no summary.
        NoTestSummary = "no_test_summary",
        /// The declared test report was not written.
        TestReportMissing = "test_report_missing",
        /// A test report cannot be read or understood.
        TestReportUnreadable = "test_report_unreadable",
        /// The numbers of a test report contradict each other.
        TestCountsDisagree = "test_counts_disagree",
        /// The run of the tests ended before all of them had run.
        TestRunInterrupted = "test_run_interrupted",
        /// A test ended in a way that the engine does not know.
        TestStatusUnknown = "test_status_unknown",
        /// The plug-in says in its answer that it failed.
        PluginFailed = "plugin_failed",
        /// The answer of a plug-in cannot be understood.
        InvalidAnswer = "invalid_answer",
    }
    "How a command of `git` failed" {
        /// Changes conflict.
        MergeConflict = "merge_conflict",
        /// There is nothing to commit.
        NothingToCommit = "nothing_to_commit",
        /// Another process holds the lock of the index, or left it behind.
        IndexLocked = "index_locked",
        /// Another process holds the lock of a reference, or left it behind.
        RefLocked = "ref_locked",
        /// `git` does not trust the repository: it belongs to another user.
        DubiousOwnership = "dubious_ownership",
        /// The remote does not accept the credentials, or asks for some.
        Authentication = "authentication",
        /// The remote rejects the push.
        Rejected = "rejected",
        /// `git` does not know the author's name and address.
        IdentityUnknown = "identity_unknown",
        /// Uncommitted changes would be overwritten.
        LocalChanges = "local_changes",
    }
    "How an agent ended" {
        /// The agent finished, and the work tree changed.
        Ok = "ok",
        /// The agent finished, and the work tree is as before.
        NoChange = "no_change",
        /// The agent says that it failed, or its edits did not apply.
        Failed = "failed",
        /// The model refused the task.
        Refused = "refused",
        /// The agent needs a permission or an answer that no one could give.
        NeedsInput = "needs_input",
        /// The service does not accept the key.
        Auth = "auth",
        /// The service demands payment.
        Billing = "billing",
        /// The quota of a period is used up; the job is parked.
        Quota = "quota",
        /// The service received too many requests; the job is parked.
        RateLimited = "rate_limited",
        /// The service is overloaded, broken or unreachable; the job is parked.
        Overloaded = "overloaded",
        /// The context is larger than the model accepts.
        ContextOverflow = "context_overflow",
        /// The stream of the agent makes no sense or has no end.
        Protocol = "protocol",
        /// The runner of the agent died.
        Lost = "lost",
        /// The agent changed files outside `files_scope`, or changed what no agent may.
        ScopeViolation = "scope_violation",
        /// The budget of the job or of its run is used up.
        BudgetExceeded = "budget_exceeded",
        /// What the agent did to its work tree cannot be determined.
        EvidenceFailed = "evidence_failed",
    }
    "A job that could not be started" {
        /// The system lacked descriptors, processes or memory before the tool started.
        StartFailed = "start_failed",
        /// The tool's program was not found.
        ToolNotFound = "tool_not_found",
        /// The tool's program exists and cannot be executed.
        ToolNotExecutable = "tool_not_executable",
        /// The tool has a version that the adapter does not support, or says none.
        ToolVersion = "tool_version",
        /// No adapter has this name.
        NoAdapter = "no_adapter",
        /// The manifest of the adapter is not valid.
        AdapterInvalid = "adapter_invalid",
        /// The job names no command.
        CommandMissing = "command_missing",
        /// An argument cannot be passed to a program.
        ArgumentInvalid = "argument_invalid",
        /// The job lacks a `metadata` value that the adapter requires.
        ArgumentMissing = "argument_missing",
        /// A variable of the environment has an impossible name or value.
        EnvInvalid = "env_invalid",
        /// A variable that the job takes from the engine's environment is not set.
        EnvMissing = "env_missing",
        /// The agent has no prompt.
        PromptMissing = "prompt_missing",
        /// The agent's prompt is empty.
        PromptEmpty = "prompt_empty",
        /// A path of the job leads out of the directory that it must stay in.
        PathEscapes = "path_escapes",
        /// A path of the job was written on another operating system.
        PathForeign = "path_foreign",
        /// A path of the job cannot be a path.
        PathInvalid = "path_invalid",
        /// A file or directory of the job does not exist.
        PathMissing = "path_missing",
        /// The standard input of the job is not a regular file.
        StdinNotAFile = "stdin_not_a_file",
        /// Another job is writing the same log.
        LogInUse = "log_in_use",
        /// The log cannot be written.
        LogNotWritable = "log_not_writable",
        /// The job file could not be moved to `running/`.
        JobFileNotMoved = "job_file_not_moved",
        /// `metadata.keep` is not allowed for this adapter.
        KeepRefused = "keep_refused",
        /// The agent's key is not set.
        KeyMissing = "key_missing",
        /// The user has no home directory, which the agent needs.
        HomeMissing = "home_missing",
        /// The agent cannot write to its home directory.
        HomeNotWritable = "home_not_writable",
        /// `git` is needed and was not found.
        GitMissing = "git_missing",
        /// The agent's directory is not in a git repository.
        NotARepository = "not_a_repository",
        /// `git` does not trust the repository: it belongs to another user.
        RepositoryNotTrusted = "repository_not_trusted",
        /// The agent's directory lies outside the repository's work tree.
        WorkingDirOutsideRepository = "working_dir_outside_repository",
        /// The configuration of the repository names another work tree.
        WorkTreeElsewhere = "work_tree_elsewhere",
        /// The work tree cannot be written.
        WorkTreeNotWritable = "work_tree_not_writable",
        /// A pattern of `files_scope` is not valid.
        ScopeInvalid = "scope_invalid",
        /// `files_scope` matches no file that an agent may change.
        ScopeMatchesNothing = "scope_matches_nothing",
        /// A signal interrupted what is done before the tool starts.
        Interrupted = "interrupted",
        /// A process of the engine was killed before it could answer.
        Killed = "killed",
    }
    "What a queued job waits for" {
        /// `not_before`, a retry or a parked job's time is in the future.
        WaitingTime = "waiting_time",
        /// The job is held.
        WaitingHold = "waiting_hold",
        /// A job that it depends on has not succeeded.
        WaitingDependency = "waiting_dependency",
        /// Another job has a lock, a slot or the work tree that it needs.
        WaitingLock = "waiting_lock",
        /// The job depends on itself through other jobs.
        DependencyCircle = "dependency_circle",
    }
    "A job that is refused" {
        /// The job file is not valid.
        InvalidJobFile = "invalid_job_file",
        /// The job file is not there.
        JobFileMissing = "job_file_missing",
        /// The job file was changed after it was read or accepted.
        JobFileChanged = "job_file_changed",
        /// The job file is being changed at this moment.
        JobFileChanging = "job_file_changing",
        /// The job file cannot be read.
        JobFileUnreadable = "job_file_unreadable",
        /// Other users can write the job file.
        JobFileNotTrusted = "job_file_not_trusted",
        /// A file or standard input that was named cannot be read.
        FileUnreadable = "file_unreadable",
        /// The file in the queue is not a regular file with a job in it.
        NotAJobFile = "not_a_job_file",
        /// The file in the queue has another name than its job.
        WrongName = "wrong_name",
        /// A second file of the same job was put aside.
        Duplicate = "duplicate",
        /// The id is in the queue already.
        IdQueued = "id_queued",
        /// The job of this id is running.
        IdRunning = "id_running",
        /// The id has ended or was archived, and is not free.
        IdTaken = "id_taken",
        /// The id exists with other content.
        IdChanged = "id_changed",
        /// Another process works on the job of this id and does not end.
        IdBusy = "id_busy",
        /// Another job has the key.
        KeyTaken = "key_taken",
        /// Another process takes the key and does not end.
        KeyBusy = "key_busy",
        /// The key cannot be used here.
        KeyRefused = "key_refused",
        /// The id is in the batch twice.
        IdRepeated = "id_repeated",
        /// The key is in the batch twice, with different content.
        KeyRepeated = "key_repeated",
        /// A dependency is neither a job nor in the batch.
        UnknownDependency = "unknown_dependency",
        /// Jobs of the batch depend on each other in a circle.
        DependencyCycle = "dependency_cycle",
        /// There is no such job.
        NotFound = "not_found",
        /// The job is not in the queue.
        NotQueued = "not_queued",
        /// The job has ended and was archived by `gc`.
        Archived = "archived",
        /// A crash left the job behind: run `engine recover`.
        NeedsRecovery = "needs_recovery",
        /// Why the file was put aside cannot be read.
        Unknown = "unknown",
    }
    "The root and the machine" {
        /// No root was found.
        NoRoot = "no_root",
        /// A root cannot be made at this place.
        NoPlaceForRoot = "no_place_for_root",
        /// The root exists and this user may not read it.
        RootNotReadable = "root_not_readable",
        /// Other users can write to the root, or it is a link.
        RootNotTrusted = "root_not_trusted",
        /// The root was copied, moved or cloned, and was not accepted: `engine init --adopt`.
        RootNotAccepted = "root_not_accepted",
        /// A newer version of the engine wrote the state.
        NewerFormat = "newer_format",
        /// A file of the state cannot be read.
        StateUnreadable = "state_unreadable",
        /// A file of the state cannot be written.
        StateNotWritable = "state_not_writable",
        /// The disk is full, or has less room than `min_free_bytes`.
        DiskFull = "disk_full",
        /// The file system does not support locks between processes.
        LocksUnsupported = "locks_unsupported",
        /// The state table refused a change: an error of the engine.
        InternalError = "internal_error",
        /// The command was called wrongly.
        Usage = "usage",
        /// Any other error.
        Error = "error",
    }
    "Findings of `explain`" {
        /// Nothing keeps the job from starting.
        Ready = "ready",
        /// Other jobs are ahead of it.
        Behind = "behind",
        /// The job is running.
        Running = "running",
        /// The job is running on another host.
        RunningElsewhere = "running_elsewhere",
        /// The runner of the job is gone; recovery will decide.
        RunnerGone = "runner_gone",
        /// The runner of the job is stopped.
        RunnerStopped = "runner_stopped",
        /// A request to cancel the job was written and not yet answered.
        CancelRequested = "cancel_requested",
        /// The running job is held: it will not be repeated.
        Held = "held",
        /// The job has ended.
        Ended = "ended",
        /// The file in the queue is not a job.
        NotAJob = "not_a_job",
        /// The file was put aside.
        Quarantined = "quarantined",
        /// The job counts as more important because it has waited long.
        PriorityAged = "priority_aged",
        /// The job counts as more important because an important one waits for it.
        PriorityLent = "priority_lent",
        /// Running jobs disagree about how many may hold the lock.
        LockSlotsDisagree = "lock_slots_disagree",
        /// The clock was ahead when the job was accepted.
        ClockWasFast = "clock_was_fast",
        /// The disk has less room than `min_free_bytes`.
        LowSpace = "low_space",
    }
}

impl Code {
    /// True if the job only has to wait: it stays in the queue, and starts by itself later.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        matches!(self, Self::WaitingTime | Self::WaitingHold | Self::WaitingDependency | Self::WaitingLock)
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
