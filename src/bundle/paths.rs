//! The paths of a bundle, normalised as in the original: slashes forward, none at the ends.
//!
//! Hard rule: what is read here is a pattern that a scope takes, and leads out of no repository.

use std::path::Path;

use crate::job::scope::PathPattern;

/// Reads a path, a directory or a glob.
///
/// # Errors
/// The end of a sentence that begins with the path.
pub(super) fn read(given: &str) -> Result<PathPattern, String> {
    let slashed = given.replace('\\', "/");
    let relative = slashed.trim_start_matches('/');
    if relative.get(1..).is_some_and(|rest| rest.starts_with(":/")) {
        return Err("names a drive: paths are relative to the repository".to_owned());
    }
    PathPattern::new(relative, Path::new("/"), Path::new(""))
}

/// A path as it is shown and handed on. A glob keeps the slash that makes it mean directories.
pub(super) fn shown(path: &PathPattern) -> String {
    match (path.path(), path.has_wildcard() && path.given().ends_with('/')) {
        ("", _) => ".".to_owned(),
        (glob, true) => format!("{glob}/"),
        (plain, false) => plain.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes_are_normalised_and_what_leads_out_is_refused() {
        let shown = |given: &str| read(given).map(|path| shown(&path));
        for (given, want) in [
            ("src\\a.py", "src/a.py"),
            ("/src//a.py/", "src/a.py"),
            ("a/b/../c", "a/c"),
            (".", "."),
            ("src/**/*.py", "src/**/*.py"),
            ("src/*/", "src/*/"),
            ("app/[id]/page.ts", "app/[id]/page.ts"),
        ] {
            assert_eq!(shown(given).as_deref(), Ok(want), "{given}");
        }
        for given in ["..", "a/../../b", "..\\x", "/..", "", "/", "a[", "src/***", "C:\\x", "c:/x"] {
            assert!(shown(given).is_err(), "{given}");
        }
    }
}
