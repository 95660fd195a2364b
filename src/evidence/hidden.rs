//! Files that are ignored only because an ignore rule was changed while the job ran.
//!
//! The rules outside of the work tree are frozen by `repository`. Of the rules in it (`.gitignore`) those of before are
//! laid out once more, and whatever is ignored now is asked for by them. Hard rule: a rule can not hide what it came with.

use std::path::Path;

use super::index::Entries;
use super::tree::Ours;
use crate::causes::causes;
use crate::job::Reason;

/// The files that are ignored now and would not have been by the rules of before. Costs nothing if no rule was changed.
///
/// # Errors
/// A reason where git fails.
pub fn newly_ignored(
    place: &Ours,
    index: &Path,
    before: &Entries,
    after: &Entries,
) -> Result<Vec<Vec<u8>>, Reason> {
    let rules = |entries: &Entries| -> Vec<(Vec<u8>, super::index::Entry)> {
        let found = entries
            .iter()
            .filter(|(path, _)| path.as_slice() == b".gitignore" || path.ends_with(b"/.gitignore"));
        found.map(|(path, entry)| (path.clone(), entry.clone())).collect()
    };
    let (old, new) = (rules(before), rules(after));
    if old == new {
        return Ok(Vec::new());
    }
    let list = ["ls-files", "-z", "--others", "--ignored", "--exclude-standard"];
    let ignored = place.git(index, &list).output()?;
    let ignored: Vec<&[u8]> = ignored.split(|byte| *byte == 0).filter(|path| !path.is_empty()).collect();
    if ignored.is_empty() {
        return Ok(Vec::new());
    }
    let rules_dir = place.scratch().dir(&format!("{}.rules", place.name()));
    let rules_dir = rules_dir.map_err(|error| Reason::new("evidence_failed", causes(&error)))?;
    let old_index = place.git_dir.join("index.before");
    let names: Vec<u8> = old.iter().flat_map(|(path, _)| path.iter().copied().chain([0])).collect();
    let mut prefix = std::ffi::OsString::from("--prefix=");
    prefix.push(&rules_dir);
    prefix.push("/");
    if !names.is_empty() {
        place
            .git(&old_index, &["checkout-index", "-z", "--stdin", "-f"])
            .arg(prefix)
            .input(names)
            .output()?;
    }
    let ours = place.with_top(rules_dir);
    // A repository ends in `/`. Nothing stands in the directory that is asked, so it is asked for a file of it.
    let asked =
        |path: &&[u8]| if path.ends_with(b"/") { [path, b"x".as_slice()].concat() } else { path.to_vec() };
    let input = ignored.iter().flat_map(|path| asked(path).into_iter().chain([0])).collect();
    let ask = ours.git(&old_index, &["check-ignore", "--no-index", "-z", "--stdin"]);
    let answer = ask.input(input).answer()?;
    // 1 means that none is ignored.
    if !matches!(answer.code, Some(0 | 1)) {
        return Err(super::git::failed("check-ignore", &answer));
    }
    let still: std::collections::BTreeSet<&[u8]> = answer.stdout.split(|byte| *byte == 0).collect();
    Ok(ignored
        .into_iter()
        .filter(|path| !still.contains(asked(path).as_slice()))
        .map(<[u8]>::to_vec)
        .collect())
}
