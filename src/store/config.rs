//! `engine.toml`: all keys optional, unknown keys refused.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Result, StoreError};
use crate::bundle::table::WorkstreamsTable;
use crate::cost::budget::Ceiling;
use crate::fs;
use crate::job::number::{Count, Seconds, Usd};

/// The settings of a root.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// `full` (default) survives power loss; `fast` survives kill -9 only.
    pub durability: Durability,
    /// Slots for all workers of the root together.
    pub slots: Option<Count>,
    /// No job starts while fewer bytes are free. Default 64 MiB.
    pub min_free_bytes: u64,
    /// Default of `metadata.grace_seconds`.
    pub grace_seconds: Option<Seconds>,
    /// Default total time by tool.
    pub timeouts: BTreeMap<String, Seconds>,
    /// How long finished jobs are kept.
    pub retention: Retention,
    /// What may be spent.
    pub budget: Budget,
    /// How workstreams are run.
    pub(crate) workstreams: WorkstreamsTable,
    /// Other users may read what the engine writes, less the umask.
    pub shared_read: bool,
}

/// How much survives a power loss.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// All settings.
    #[default]
    Full,
    /// What the kernel happened to write.
    Fast,
}

/// How long finished jobs are kept; read by `gc`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    /// At most this many days.
    pub days: Option<Count>,
    /// At most this many jobs.
    pub count: Option<Count>,
    /// At most this many bytes.
    pub bytes: Option<Count>,
}

/// What the agents of one run may spend together; a job without `run_id` is a run by itself.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Budget {
    /// The limit in US dollars.
    pub max_cost_usd: Option<Usd>,
    /// The limit in tokens, input and output together.
    pub max_tokens: Option<Count>,
    /// What happens at the limit.
    pub mode: BudgetMode,
}

impl Budget {
    /// What a run may spend.
    #[must_use]
    pub fn ceiling(&self) -> Ceiling {
        Ceiling { max_cost_usd: self.max_cost_usd.map(Usd::get), max_tokens: self.max_tokens.map(Count::get) }
    }
}

/// What happens when a budget is used up; at 80 % there is a warning in any case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BudgetMode {
    /// A warning.
    Warn,
    /// Running agents are ended, others are not started.
    #[default]
    Halt,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            durability: Durability::Full,
            slots: None,
            min_free_bytes: 64 << 20,
            grace_seconds: None,
            timeouts: BTreeMap::new(),
            retention: Retention::default(),
            budget: Budget::default(),
            workstreams: WorkstreamsTable::default(),
            shared_read: false,
        }
    }
}

impl Config {
    /// How many slots all workers of the root share, if that is limited.
    #[must_use]
    pub fn shared_slots(&self) -> Option<u32> {
        self.slots.and_then(|slots| u32::try_from(slots.get()).ok()).filter(|slots| *slots > 0)
    }

    /// Reads the settings of a root.
    ///
    /// # Errors
    /// `Unreadable` with the line of the first mistake; file system errors.
    pub fn read(root: &Path) -> Result<Self> {
        match text(root) {
            Ok(text) => parse(root, &text),
            Err(StoreError::Fs(error)) if error.is_not_found() => Ok(Self::default()),
            Err(StoreError::Fs(error)) if error.source.kind() == std::io::ErrorKind::PermissionDenied => {
                Err(StoreError::NoReader { path: root.to_path_buf() })
            }
            Err(error) => Err(error),
        }
    }

    /// Sets `shared_read` in the file of a root; the rest of the file stays as it is.
    ///
    /// # Errors
    /// `Unreadable` where the file says `false`; file system errors.
    pub fn share_reading(root: &Path) -> Result<()> {
        let text = text(root)?;
        if !parse(root, &text)?.shared_read {
            // Before everything else, so that it is in no table.
            let text = format!("shared_read = true\n{text}");
            parse(root, &text)?;
            fs::replace(&path(root), text.as_bytes())?;
        }
        Ok(())
    }
}

fn path(root: &Path) -> PathBuf {
    root.join("engine.toml")
}

fn unreadable(root: &Path, problem: impl Into<String>) -> StoreError {
    StoreError::Unreadable { path: path(root), problem: problem.into() }
}

fn text(root: &Path) -> Result<String> {
    let path = path(root);
    let bytes = fs::read_limited(&fs::open_regular(&path)?, &path, 1 << 20)?
        .ok_or_else(|| unreadable(root, "it is larger than 1 MiB"))?;
    let text = std::str::from_utf8(crate::job::parse::without_mark(&bytes));
    text.map(str::to_owned).map_err(|_| unreadable(root, "it is not UTF-8"))
}

fn parse(root: &Path, text: &str) -> Result<Config> {
    // The usual file holds comments only: the parser need not start.
    if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        return Ok(Config::default());
    }
    toml::from_str(text).map_err(|error| unreadable(root, error.to_string().trim_end().replace('\n', "; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> std::result::Result<Config, String> {
        let dir = tempfile::tempdir().unwrap();
        fs::create_new(&dir.path().join("engine.toml"), text.as_bytes()).unwrap();
        Config::read(dir.path()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_byte_order_mark_is_passed_over() {
        assert!(config("\u{feff}slots = 2").unwrap().slots.is_some());
    }

    #[test]
    fn a_budget_is_read_however_its_numbers_are_written_and_halts_by_default() {
        let budget = config("[budget]\nmax_cost_usd = 5\nmax_tokens = 1e6\n").unwrap().budget;
        let ceiling = Ceiling { max_cost_usd: Some(5.0), max_tokens: Some(1_000_000) };
        assert_eq!((budget.ceiling(), budget.mode), (ceiling, BudgetMode::Halt));
        let budget = config("budget = { max_cost_usd = 0.5, mode = \"warn\" }").unwrap().budget;
        assert_eq!((budget.ceiling().max_cost_usd, budget.mode), (Some(0.5), BudgetMode::Warn));
        assert!(config("slots = 2").unwrap().budget.ceiling().is_open());
        assert!(config("# nothing").unwrap().budget.ceiling().is_open());
    }

    #[test]
    fn a_budget_that_can_not_be_kept_is_refused_with_its_line() {
        for (line, wanted) in [
            ("max_cost_usd = -1", "an amount in US dollars from 0"),
            ("max_cost_usd = nan", "an amount in US dollars from 0"),
            ("max_cost_usd = \"5\"", "a number"),
            ("max_tokens = 1.5", "an integer from 0"),
            ("max_tokens = -1", "an integer from 0"),
            ("mode = \"stop\"", "`warn` or `halt`"),
            ("max_cost = 5", "unknown field `max_cost`"),
        ] {
            let problem = config(&format!("slots = 1\n[budget]\n{line}\n")).unwrap_err();
            assert!(problem.contains(wanted) && problem.contains("line 3"), "{line}: {problem}");
        }
    }

    #[test]
    fn a_mistake_in_the_settings_of_workstreams_is_refused_with_its_line() {
        for (line, wanted) in [
            ("max_workers = 0", "expected an integer from 1"),
            ("static = [\"\"]", "a check is an empty text"),
            ("static = [{ run = \"a\", profile = \"b\" }]", "exactly one of `run`, `profile` and `adapter`"),
            ("runtime = [{ run = \"a\", locks = [\"a b\"] }]", "a b"),
            ("limits = { repeats = 1 }", "expected an integer from 2"),
            ("limits = { fixes = { edit = 1 } }", "unknown field `edit`"),
            ("limits = { fix_for = [\"edit\"] }", "unknown variant `edit`"),
            ("keep_worktrees = \"sometimes\"", "unknown variant `sometimes`"),
            ("timeouts = { edit = 0 }", "a number of seconds above 0"),
            ("patch = { max_lines = 3 }", "unknown field `max_lines`"),
            ("recovery = { fallback = [\"a b\"] }", "a b"),
            ("waves = 3", "unknown field `waves`"),
        ] {
            let problem = config(&format!("slots = 1\n[workstreams]\n{line}\n")).unwrap_err();
            assert!(problem.contains(wanted) && problem.contains("line 3"), "{line}: {problem}");
        }
        let text = "[workstreams]\nstatic = [\"ruff check .\", { name = \"types\", run = \"mypy src\", locks = [\"cpu:2\"] }]\n\
                    env = { API_KEY = { from_env = \"API_KEY\" } }\nwave_delay_sec = 1.5\n[workstreams.limits]\nfixes.static = 1\n";
        let table = config(text).unwrap().workstreams;
        assert_eq!((table.of_static.unwrap().len(), table.wave_delay_sec.is_some()), (2, true));
    }
}
