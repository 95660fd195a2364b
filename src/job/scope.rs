//! One pattern of `files_scope`: a path or a glob, relative to the repository.
//!
//! `*` does not cross `/`, `**` does; the name of a directory, or a glob that ends in `/`, means all that is below it. Hard
//! rule: no pattern leads out of the repository.

use std::path::{Component, Path};

use glob::{MatchOptions, Pattern};

const OPTIONS: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    // A file is not hidden from its scope by its name.
    require_literal_leading_dot: false,
};

/// A pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PathPattern {
    given: String,
    path: String,
    glob: Option<Pattern>,
    /// Whether a directory that it names means all that is below.
    whole_directories: bool,
}

impl PathPattern {
    /// Reads a pattern that is relative to the directory `prefix` of the repository whose top is `top`.
    ///
    /// # Errors
    /// The end of a sentence that begins with the pattern.
    pub(crate) fn new(given: &str, top: &Path, prefix: &Path) -> Result<Self, String> {
        if given.is_empty() {
            return Err("is empty".to_owned());
        }
        let path = relative(given, top, prefix).ok_or("leads out of the repository")?;
        let has_wildcard = path.contains(['*', '?', '[']);
        let compiled = has_wildcard.then(|| Pattern::new(&path)).transpose();
        let glob = compiled.map_err(|error| format!("is not a valid glob: {}", error.msg))?;
        let whole_directories = !has_wildcard || given.ends_with('/');
        Ok(Self { given: given.to_owned(), path, glob, whole_directories })
    }

    /// The pattern as it was given.
    pub(crate) fn given(&self) -> &str {
        &self.given
    }

    /// Relative to the repository, without `.`, `..` and a trailing `/`; empty for the repository itself.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// True for a glob.
    pub(crate) fn has_wildcard(&self) -> bool {
        self.glob.is_some()
    }

    /// True if it means this path, which is relative to the top of the repository.
    pub(crate) fn holds(&self, path: &str) -> bool {
        if self.path.is_empty() || self.is(path) {
            return true;
        }
        self.whole_directories
            && path.match_indices('/').any(|(at, _)| path.get(..at).is_some_and(|dir| self.is(dir)))
    }

    /// A name such as `[id].ts` is itself, whatever it means as a glob.
    fn is(&self, path: &str) -> bool {
        path == self.path || self.glob.as_ref().is_some_and(|glob| glob.matches_with(path, OPTIONS))
    }
}

/// The path from the top of the repository, by its text alone; `None` if it leads out.
fn relative(given: &str, top: &Path, prefix: &Path) -> Option<String> {
    let given = Path::new(given);
    let path = match given.is_absolute() {
        true => given.strip_prefix(top).ok()?.to_path_buf(),
        false => prefix.join(given),
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => parts.push(name.to_str()?),
            Component::CurDir => {}
            Component::ParentDir => drop(parts.pop()?),
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(parts.join("/"))
}
