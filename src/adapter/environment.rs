//! The environment that tools inherit, and which of its values are secrets.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::iter;
use std::os::unix::ffi::OsStrExt;

use super::manifest::Manifest;
use crate::job::JobFile;
use crate::job::secret_names::{percent_decoded, secret_part};
use crate::job::spec::EnvValue;
use crate::process::redact::Secrets;

/// A snapshot of the engine's own environment, taken by the command line.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment {
    variables: BTreeMap<OsString, OsString>,
    home: Option<OsString>,
}

/// Shorter values of variables that only look like secrets (`TOKENIZERS_PARALLELISM=false`) are shown.
const SHORTEST_BY_NAME: usize = 6;

/// Shorter values that are named as secrets would take ordinary text apart.
const SHORTEST_BY_REFERENCE: usize = 4;

impl Environment {
    /// Takes a snapshot.
    pub(crate) fn new(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        Self { variables: variables.into_iter().collect(), home: None }
    }

    /// With the home directory that the user database names, for agents that inherit none.
    #[must_use]
    pub(crate) fn with_home(self, home: Option<OsString>) -> Self {
        Self { home, ..self }
    }

    /// The value of a variable.
    #[must_use]
    pub(crate) fn get(&self, name: &str) -> Option<&OsStr> {
        self.variables.get(OsStr::new(name)).map(OsString::as_os_str)
    }

    /// The variables whose names begin so and whose values are text.
    #[must_use]
    pub(crate) fn beginning_with(&self, beginning: &str) -> BTreeMap<String, String> {
        let text = |(name, value): (&OsString, &OsString)| {
            let name = name.to_str().filter(|name| name.starts_with(beginning))?;
            Some((name.to_owned(), value.to_str()?.to_owned()))
        };
        self.variables.iter().filter_map(text).collect()
    }

    /// The value that a variable has for the tool of a job, as far as the adapter does not set it.
    #[must_use]
    pub(crate) fn of_job<'a>(&'a self, job: &'a JobFile, name: &str) -> Option<&'a OsStr> {
        match job.env.get(name) {
            Some(EnvValue::Text(text)) => Some(OsStr::new(text)),
            Some(EnvValue::FromEnv(source)) => self.get(source),
            None => self.get(name),
        }
    }

    /// The value that a variable has for an agent: as the job says, else the adapter, else as it is inherited. An empty one is
    /// none: the place of a tool's own files that is made of it lies in the working directory. Without `HOME` the home
    /// directory of the user counts.
    #[must_use]
    pub(crate) fn of_agent<'a>(
        &'a self,
        job: &'a JobFile,
        manifest: &'a Manifest,
        name: &str,
    ) -> Option<&'a OsStr> {
        let of_manifest = manifest.env.get(name).filter(|_| !job.env.contains_key(name)).map(OsStr::new);
        let given = of_manifest.or_else(|| self.of_job(job, name)).filter(|value| !value.is_empty());
        given.or_else(|| self.home.as_deref().filter(|_| name == "HOME"))
    }

    /// The home directory of the engine's own helpers; a place where nothing is if there is none.
    #[must_use]
    pub(crate) fn home(&self) -> &OsStr {
        let inherited = self.get("HOME").filter(|home| !home.is_empty());
        inherited.or(self.home.as_deref()).unwrap_or(OsStr::new("/dev/null"))
    }

    /// True if a variable whose name ends so has a value.
    #[must_use]
    pub(crate) fn has_name_ending(&self, ending: &str) -> bool {
        let ends = |name: &OsStr| name.as_bytes().ends_with(ending.as_bytes());
        self.variables.iter().any(|(name, value)| ends(name) && !value.is_empty())
    }

    /// The values that must not be shown of a job, as far as they can be known: also before there is a plan, and of a job that
    /// does not start.
    #[must_use]
    pub(crate) fn secrets_of(&self, job: &JobFile, manifest: Option<&Manifest>) -> Secrets {
        let given: Vec<(OsString, OsString)> = job
            .env
            .iter()
            .filter_map(|(name, value)| match value {
                EnvValue::Text(text) => Some((name.into(), text.into())),
                EnvValue::FromEnv(source) => Some((name.into(), self.get(source)?.to_owned())),
            })
            .collect();
        let references: Vec<&OsStr> = job
            .env
            .values()
            .filter_map(|value| match value {
                EnvValue::FromEnv(source) => self.get(source),
                EnvValue::Text(_) => None,
            })
            .collect();
        let named = manifest.map(|manifest| manifest.secrets.as_slice()).unwrap_or_default();
        self.secrets(&given, &references, named)
    }

    /// The values that must not be shown: of variables whose names look like it, here or among `added`, and those
    /// named by `references` or given as such.
    #[must_use]
    pub(crate) fn secrets(
        &self,
        added: &[(OsString, OsString)],
        references: &[&OsStr],
        named: &[String],
    ) -> Secrets {
        let named: BTreeSet<&OsStr> = named.iter().map(OsStr::new).collect();
        let all = self.variables.iter().chain(added.iter().map(|(name, value)| (name, value)));
        let by_name = all
            .filter_map(|(name, value)| {
                let is_named = named.contains(name.as_os_str());
                let value = value.as_bytes();
                if is_named { Some(value) } else { secret_part(name.as_bytes(), value) }
            })
            // The tool may print the password of an address as it is written there, or what it means.
            .flat_map(|value| iter::once(Cow::from(value)).chain(percent_decoded(value).map(Cow::from)))
            .filter(|value| value.len() >= SHORTEST_BY_NAME);
        let by_reference = references
            .iter()
            .map(|value| value.as_bytes())
            .filter(|value| value.len() >= SHORTEST_BY_REFERENCE)
            .map(Into::into);
        Secrets::new(by_name.chain(by_reference).map(Cow::into_owned))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(name: &str, value: &str) -> (OsString, OsString) {
        (name.into(), value.into())
    }

    #[test]
    fn an_agent_has_the_home_of_the_job_the_adapter_or_the_user_and_never_an_empty_one() {
        let home = |environment: &Environment, env: &str| {
            let text = format!(r#"{{"job_id": "j", "tool": "claude", "env": {env}}}"#);
            let job = crate::job::parse_job(text.as_bytes(), "f").unwrap().job;
            let mut manifest = super::super::find(None, &job.tool).unwrap().unwrap();
            let mut homes = Vec::new();
            for own in [None, Some("/of-the-adapter")] {
                manifest.env.extend(own.map(|own| ("HOME".to_owned(), own.to_owned())));
                let found = environment.of_agent(&job, &manifest, "HOME");
                homes.push(found.map_or("-", |home| home.to_str().unwrap()).to_owned());
            }
            homes.join(" ")
        };
        let set = Environment::new([pair("HOME", "/inherited")]);
        assert_eq!(home(&set, "{}"), "/inherited /of-the-adapter");
        assert_eq!(home(&set, r#"{"HOME": "/of-the-job"}"#), "/of-the-job /of-the-job");
        for unset in [Environment::default(), Environment::new([pair("HOME", "")])] {
            assert_eq!(home(&unset, r#"{"HOME": ""}"#), "- -");
            assert_eq!(
                (home(&unset, "{}").as_str(), unset.home()),
                ("- /of-the-adapter", OsStr::new("/dev/null"))
            );
            let of_user = unset.with_home(Some("/of-the-user".into()));
            assert_eq!(home(&of_user, r#"{"HOME": ""}"#), "/of-the-user /of-the-user");
            assert_eq!(of_user.home(), "/of-the-user");
        }
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

    #[test]
    fn the_password_of_an_address_is_a_secret_as_it_stands_there_and_as_it_is_meant() {
        let environment = Environment::new([pair("DATABASE_URL", "postgres://app:s3cr%40t-pw@db/app")]);
        let secrets = environment.secrets(&[pair("OTHER_DSN", "x://u:pw@h")], &[], &[]);
        let text = "postgres://app:s3cr%40t-pw@db/app s3cr@t-pw x://u:pw@h";
        assert_eq!(secrets.redact(text), "postgres://app:[redacted]@db/app [redacted] x://u:pw@h");
    }

    #[test]
    fn ordinary_variables_do_not_take_the_output_apart() {
        let environment = Environment::new([
            pair("KEYBOARD", "german"),
            pair("GNOME_KEYRING_CONTROL", "/run/user/1000/keyring"),
            pair("GIT_ASKPASS", "/usr/bin/askpass"),
            pair("API_URL", "https://example.org"),
            pair("SSH_AUTH_SOCK", "/tmp/agent"),
        ]);
        assert!(environment.secrets(&[], &[], &[]).is_empty());
    }

    #[test]
    fn the_secrets_of_a_job_are_known_without_a_plan() {
        let environment =
            Environment::new([pair("ODD_NAME", "by-the-manifest"), pair("PLAIN", "by-reference")]);
        let job = r#"{"job_id": "j", "tool": "t", "env": {"MY_TOKEN": "in-the-job-file", "OTHER": "shown",
            "A": {"from_env": "PLAIN"}, "B": {"from_env": "ABSENT"}}}"#;
        let job = crate::job::parse_job(job.as_bytes(), "f").unwrap().job;
        let manifest: Manifest = serde_json::from_str(r#"{"id": "t", "secrets": ["ODD_NAME"]}"#).unwrap();
        let text = "by-the-manifest by-reference in-the-job-file shown";
        let redacted = environment.secrets_of(&job, Some(&manifest)).redact(text);
        assert_eq!(redacted, "[redacted] [redacted] [redacted] shown");
        let redacted = environment.secrets_of(&job, None).redact(text);
        assert_eq!(redacted, "by-the-manifest [redacted] [redacted] shown");
    }
}
