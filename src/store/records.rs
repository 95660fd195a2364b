//! The records of a root.

use std::io::BufReader;
use std::path::{Path, PathBuf};

use super::error::{Result, unless_stale};
use super::handle::Store;
use super::record::{Record, next_line, parse, parse_line, tail};
use crate::clock::Timestamp;
use crate::fs;
use crate::job::JobId;
use crate::job::record::RecordLine;

impl Store {
    /// A path as a record holds it: relative to the root if it is in the project, so that the two can be moved and copied.
    #[must_use]
    pub fn path_in_record(&self, path: &str) -> String {
        let below = |dir: &Path| path.strip_prefix(&*dir.to_string_lossy())?.strip_prefix('/');
        if let Some(relative) = below(self.root()) {
            return relative.to_owned();
        }
        // A project that is not the root itself is its parent.
        below(self.project_dir()).map_or_else(|| path.to_owned(), |relative| format!("../{relative}"))
    }

    /// The path that a record of this root means.
    #[must_use]
    pub fn path_of_record(&self, id: &JobId, recorded: &str) -> PathBuf {
        // Older records hold absolute paths, also of the default names; their root may have been moved since.
        let is_default = |name: &&str| {
            !name.contains('/') && name.strip_prefix(id.as_str()).is_some_and(|rest| rest.starts_with('.'))
        };
        let absolute = Some(recorded).filter(|recorded| recorded.starts_with('/'));
        let default = absolute.and_then(|path| Some(path.rsplit_once("/state/logs/")?.1)).filter(is_default);
        match (default, recorded.strip_prefix("../")) {
            (Some(name), _) => self.state("logs").join(name),
            (None, Some(beside)) => self.root().parent().unwrap_or(self.root()).join(beside),
            (None, None) => self.root().join(recorded),
        }
    }

    /// Makes the paths of a record's line those of this root, for the reader.
    pub fn show_paths(&self, line: &mut RecordLine) {
        let id = line.job_id.clone();
        line.each_path(&mut |path| *path = self.path_of_record(&id, path).to_string_lossy().into_owned());
    }

    /// Reads the record of an id without locking it: what a reader shows. `None`: there is none.
    ///
    /// # Errors
    /// File system errors, `NewerFormat`, `Unreadable`.
    pub fn read_record(&self, id: &JobId) -> Result<Option<Record>> {
        self.last_line(id, parse)
    }

    /// The last line of a record, as `read_record`, but without what this program does not know of it: that costs as much again.
    ///
    /// # Errors
    /// As `read_record`.
    pub fn read_line(&self, id: &JobId) -> Result<Option<RecordLine>> {
        self.last_line(id, parse_line)
    }

    fn last_line<T>(&self, id: &JobId, parse: fn(&[u8], &Path, &JobId) -> Result<T>) -> Result<Option<T>> {
        unless_stale(|| {
            let path = self.record_path(id);
            let file = match fs::open_regular(&path) {
                Ok(file) => file,
                Err(error) if error.is_not_found() => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            tail(&file, &path)?.line.map(|line| parse(&line, &path, id)).transpose()
        })
    }

    /// Makes durable what a record says, before a process that did not write it reports it `REC_RESYNC`.
    ///
    /// # Errors
    /// File system errors.
    pub fn sync_record(&self, id: &JobId) -> Result<()> {
        let path = self.record_path(id);
        self.sync_data(&fs::open_regular(&path)?, &path)
    }

    /// All complete lines of a record, oldest first; a line that cannot be read is left out.
    ///
    /// # Errors
    /// File system errors.
    pub fn record_history(&self, id: &JobId) -> Result<Vec<Record>> {
        let path = self.record_path(id);
        let file = match fs::open_regular(&path) {
            Ok(file) => file,
            Err(error) if error.is_not_found() => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        let mut reader = BufReader::new(file);
        let mut history = Vec::new();
        let mut line = Vec::new();
        while next_line(&mut reader, &path, &mut line)? {
            history.extend(line.strip_suffix(b"\n").and_then(|line| parse(line, &path, id).ok()));
        }
        Ok(history)
    }

    /// When the first line of a record was written; none if there is no record. By this an archived record is known again.
    ///
    /// # Errors
    /// File system errors.
    pub fn record_begun(&self, id: &JobId) -> Result<Option<Timestamp>> {
        let path = self.record_path(id);
        let file = match fs::open_regular(&path) {
            Ok(file) => file,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut first = Vec::new();
        next_line(&mut BufReader::new(file), &path, &mut first)?;
        let line = first.strip_suffix(b"\n").and_then(|line| parse(line, &path, id).ok());
        Ok(line.map(|record| record.line.at))
    }

    /// All ids that have a record, sorted.
    ///
    /// # Errors
    /// File system errors.
    pub fn recorded_ids(&self) -> Result<Vec<JobId>> {
        let names = fs::names(&self.state("jobs"))?;
        let mut ids: Vec<JobId> =
            names.iter().filter_map(|n| JobId::new(n.strip_suffix(".jsonl")?).ok()).collect();
        ids.sort();
        Ok(ids)
    }
}
