//! Files that a tool leaves as evidence of what it did: a test report.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::adapter::read::Report;
use crate::fs;
use crate::job::JobFile;

/// A larger report is not read.
const MAX_REPORT_BYTES: u64 = 64 << 20;

/// The test report that a job names, as it was before the tool started.
#[derive(Debug)]
pub struct ReportFile {
    path: PathBuf,
    before: Option<Stamp>,
}

/// What changes when a file is written again.
type Stamp = (u64, u64, i64, i64);

impl ReportFile {
    /// Looks at the report before the start; `None` if the job names none.
    #[must_use]
    pub fn before(job: &JobFile, working_dir: &Path) -> Option<Self> {
        let name = job.metadata.all.get("junit_file")?.as_str().filter(|name| !name.is_empty())?;
        let path = working_dir.join(name);
        let before = stamp(&path);
        Some(Self { path, before })
    }

    /// Reads the report, if the tool wrote it: an old one is no evidence.
    #[must_use]
    pub fn after(&self) -> Report {
        let now = stamp(&self.path);
        if now.is_none() || now == self.before {
            return Report::NotWritten;
        }
        let read = fs::open_regular(&self.path)
            .and_then(|file| fs::read_limited(&file, &self.path, MAX_REPORT_BYTES));
        read.ok().flatten().map_or(Report::NotWritten, Report::Written)
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = std::fs::symlink_metadata(path).ok()?;
    Some((metadata.ino(), metadata.size(), metadata.mtime(), metadata.mtime_nsec()))
}
