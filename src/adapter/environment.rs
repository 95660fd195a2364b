//! The environment that tools inherit, and which of its values are secrets.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use crate::process::redact::Secrets;

/// A snapshot of the engine's own environment, taken by the command line.
#[derive(Debug, Clone, Default)]
pub struct Environment(BTreeMap<OsString, OsString>);

/// Shorter values of variables that only look like secrets (`TOKENIZERS_PARALLELISM=false`) are shown.
const SHORTEST_BY_NAME: usize = 6;

/// Shorter values that are named as secrets would take ordinary text apart.
const SHORTEST_BY_REFERENCE: usize = 4;

impl Environment {
    /// Takes a snapshot.
    pub fn new(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        Self(variables.into_iter().collect())
    }

    /// The value of a variable.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.0.get(OsStr::new(name)).map(OsString::as_os_str)
    }

    /// True if a variable whose name ends so has a value.
    #[must_use]
    pub fn has_name_ending(&self, ending: &str) -> bool {
        let ends = |name: &OsStr| name.as_bytes().ends_with(ending.as_bytes());
        self.0.iter().any(|(name, value)| ends(name) && !value.is_empty())
    }

    /// The values that must not be shown: of variables whose names look like it, here or among `added`, and those
    /// named by `references` or given as such.
    #[must_use]
    pub fn secrets(
        &self,
        added: &[(OsString, OsString)],
        references: &[&OsStr],
        named: &[String],
    ) -> Secrets {
        let all = self.0.iter().chain(added.iter().map(|(name, value)| (name, value)));
        let by_name = all
            .filter(|(name, _)| looks_secret(name) || named.iter().any(|n| n.as_str() == name.as_os_str()))
            .map(|(_, value)| value.as_bytes())
            .filter(|value| value.len() >= SHORTEST_BY_NAME);
        let by_reference = references
            .iter()
            .map(|value| value.as_bytes())
            .filter(|value| value.len() >= SHORTEST_BY_REFERENCE);
        Secrets::new(by_name.chain(by_reference).map(<[u8]>::to_vec))
    }
}

fn looks_secret(name: &OsStr) -> bool {
    let name = name.as_bytes();
    let holds = |word: &str| name.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word.as_bytes()));
    ["KEY", "TOKEN", "SECRET", "PASSWORD"].into_iter().any(holds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(name: &str, value: &str) -> (OsString, OsString) {
        (name.into(), value.into())
    }

    #[test]
    fn values_are_secrets_by_their_names_unless_they_are_short_words() {
        let environment = Environment::new([
            pair("OPENAI_API_KEY", "sk-inherited"),
            pair("TOKENIZERS_PARALLELISM", "false"),
            pair("HOME", "/home/somebody"),
        ]);
        let added = [pair("my_password", "hunter22"), pair("EMPTY_TOKEN", "")];
        let secrets = environment.secrets(&added, &[OsStr::new("abcd")], &["HOME".to_owned()]);
        let text = "sk-inherited false /home/somebody hunter22 abcd";
        assert_eq!(secrets.redact(text), "[redacted] false [redacted] [redacted] [redacted]");
    }
}
