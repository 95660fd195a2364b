//! Keys and names that nothing knows, and the known ones that may have been meant.
//!
//! Hard rule: a key of a tool that is too long to be one of ours is not shown.

use serde_json::{Map, Value};

use crate::job::annotations;

/// The name most like the given one, if any is like it at all.
#[must_use]
pub(crate) fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let name: String = name.chars().take(80).collect::<String>().to_lowercase();
    known
        .iter()
        .map(|candidate| (strsim::normalized_damerau_levenshtein(&name, candidate), *candidate))
        .filter(|(likeness, _)| *likeness >= 0.5)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// A longer key of a tool is not shown: cut, it could hold half of a secret.
pub(crate) const LONGEST_SHOWN: usize = 60;

/// A sentence for each key of an object of a tool's that is none of the known ones. `place` names the object.
pub(crate) fn unknown_keys<'a>(
    object: &'a Map<String, Value>,
    known: &'a [&'a str],
    place: &'a str,
) -> impl Iterator<Item = String> + 'a {
    let unknown = |key: &&String| !known.contains(&key.as_str()) && !annotations::is_annotation(key);
    object.keys().filter(unknown).map(move |key| {
        if key.len() > LONGEST_SHOWN {
            return format!("unknown key of {} bytes in {place}; it is ignored", key.len());
        }
        let hint = nearest(key, known).map_or_else(String::new, |near| format!(" (did you mean `{near}`?)"));
        format!("unknown key `{key}` in {place}{hint}; it is ignored")
    })
}
