//! The adapters that a command line looks at, each read once, and what a job names that is not here.
//!
//! For submission and validation: the job may be meant for another machine, so all of it is a warning. The runner itself
//! reports at the start what it cannot do.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::{Environment, Manifest, ManifestError, Manifests, honored, registry};
use crate::job::parse::locate;
use crate::job::parse::{Parsed, warnings_of_metadata};
use crate::job::{JobFile, Problem, ToolId};
use crate::process::program::{self, Program};

/// The result of looking for an adapter: the adapter, none, or the reason why it cannot be used.
pub(crate) type ManifestLookup = Result<Option<Rc<Manifest>>, Rc<ManifestError>>;

/// The adapters of a root, or the built-in ones.
#[derive(Debug)]
pub(crate) struct Known<'a> {
    manifests: Manifests<'a>,
    read: BTreeMap<ToolId, ManifestLookup>,
    programs: BTreeMap<(OsString, Option<OsString>, PathBuf), Program>,
}

impl<'a> Known<'a> {
    /// Those that count in a root, if there is one.
    pub(crate) fn new(manifests: impl Into<Manifests<'a>>) -> Self {
        Self { manifests: manifests.into(), read: BTreeMap::new(), programs: BTreeMap::new() }
    }

    /// The adapter of a tool.
    pub(crate) fn find(&mut self, tool: &ToolId) -> ManifestLookup {
        let read = || registry::find(self.manifests, tool).map(|found| found.map(Rc::new)).map_err(Rc::new);
        self.read.entry(tool.clone()).or_insert_with(read).clone()
    }

    /// The warnings of a valid job file, at their places: what `parse_job` warned of, keys of `metadata` that are almost
    /// known ones and that no adapter of the job uses, and keys that have no effect.
    pub(crate) fn warnings(&mut self, parsed: &Parsed, bytes: &[u8]) -> Vec<Problem> {
        let job = &parsed.job;
        let mut find = |tool: &ToolId| self.find(tool).ok().flatten();
        let mut is_used = |typo: &&Problem| {
            let key = typo.pointer.rsplit('/').next().unwrap_or_default();
            honored::uses(job, &locate::unescape(key), &mut find)
        };
        let mut warnings = parsed.warnings.clone();
        warnings.extend(parsed.likely_typos.iter().filter(|typo| !is_used(typo)).cloned());
        let keys = honored::without_effect(job, find);
        let keys = keys.into_iter().map(|without| (without.key, without.message));
        warnings.extend(warnings_of_metadata(bytes, keys.collect()));
        warnings
    }

    /// The things that a job names and this machine lacks: its adapter, the one it escalates to, its program. `environment`
    /// is the one that it would inherit, `working_dir` where it would run, if that is there. Each has its pointer, but no
    /// line; `parse::placed` gives it one.
    pub(crate) fn not_here(
        &mut self,
        job: &JobFile,
        environment: &Environment,
        working_dir: Option<&Path>,
    ) -> Vec<Problem> {
        let mut warnings = Vec::new();
        let manifest = match self.find(&job.tool) {
            Ok(Some(manifest)) => Some(manifest),
            Ok(None) => {
                let warning = would_not_start("/tool", &format!("there is no adapter `{}`", job.tool));
                let did_you_mean = registry::nearest(self.manifests, &job.tool);
                warnings.push(Problem { did_you_mean, ..warning });
                None
            }
            Err(error) => {
                warnings.push(would_not_start("/tool", &error.to_string()));
                None
            }
        };
        warnings.extend(job.escalates_to().and_then(|next| self.no_successor(next)));
        warnings.extend(self.no_program(job, manifest.as_deref(), environment, working_dir));
        warnings
    }

    fn no_successor(&mut self, tool: &ToolId) -> Option<Problem> {
        let (message, did_you_mean) = match self.find(tool) {
            Ok(Some(_)) => return None,
            Ok(None) => {
                let near = registry::nearest(self.manifests, tool);
                let message = format!("there is no adapter `{tool}` here to escalate to");
                (message, near.map(|near| format!("escalate_to_{near}")))
            }
            Err(error) => (format!("the job cannot escalate here: {error}"), None),
        };
        Some(Problem { did_you_mean, ..warning("/metadata/retry_policy", message) })
    }

    fn no_program(
        &mut self,
        job: &JobFile,
        manifest: Option<&Manifest>,
        environment: &Environment,
        working_dir: Option<&Path>,
    ) -> Option<Problem> {
        // Of an unknown adapter nothing is known that the job does not say.
        let of_adapter = manifest.and_then(|manifest| manifest.executable.as_deref());
        let (exe, pointer) = match job.command.exe.as_deref() {
            Some(exe) => (exe, "/command/exe"),
            None => (of_adapter?, "/tool"),
        };
        let own_path = manifest.and_then(|manifest| manifest.env.get("PATH"));
        let own_path = own_path.filter(|_| !job.env.contains_key("PATH"));
        // Not looked for: what another job makes is not there yet, and a template has no value yet.
        let is_made = exe.contains('/') && job.ahead().next().is_some();
        let is_template = !exe.contains('/') && own_path.is_some_and(|path| path.contains('{'));
        // Only a relative path depends on a directory that is not there.
        let is_lost = working_dir.is_none() && exe.contains('/') && !exe.starts_with('/');
        if exe.is_empty() || is_made || is_template || is_lost {
            return None;
        }
        let path = own_path.map(OsStr::new).or_else(|| environment.of_job(job, "PATH"));
        let found = self.program(OsStr::new(exe), path, working_dir.unwrap_or(Path::new("/")));
        not_found(exe, &found).map(|message| would_not_start(pointer, &message))
    }

    fn program(&mut self, exe: &OsStr, path: Option<&OsStr>, cwd: &Path) -> Program {
        let key = (exe.to_owned(), path.map(OsStr::to_owned), cwd.to_path_buf());
        self.programs.entry(key).or_insert_with(|| program::find(exe, path, cwd)).clone()
    }
}

/// A warning of a value for which a job would not start here; without a line.
#[must_use]
pub(crate) fn would_not_start(pointer: &str, why: &str) -> Problem {
    warning(pointer, format!("the job cannot start here: {why}"))
}

/// A warning without a line.
#[must_use]
pub(crate) fn warning(pointer: &str, message: String) -> Problem {
    Problem { pointer: pointer.to_owned(), ..Problem::at(1, 1, message) }
}

fn not_found(exe: &str, found: &Program) -> Option<String> {
    match found {
        Program::At(_) => None,
        Program::NotExecutable(path) => Some(format!("`{}` is not an executable file", path.display())),
        Program::Missing if exe.contains(char::is_whitespace) => {
            Some(format!("there is no program `{exe}`; a command line needs a shell: sh -c '…'"))
        }
        Program::Missing if exe.contains('/') => Some(format!("there is no program `{exe}`")),
        Program::Missing => Some(format!("there is no program `{exe}`: is it installed, and in PATH?")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::parse_job;

    fn messages(rest: &str) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        crate::fs::create_dir(&dir.path().join("adapters")).unwrap();
        let put = |name: &str, text: &str| {
            crate::fs::create_new(&dir.path().join(name), text.as_bytes()).unwrap();
        };
        put("adapters/mine.json", r#"{"id": "mine", "executable": "engine-test-absent"}"#);
        put("adapters/torn.json", r#"{"id": "torn""#);
        put("adapters/clouds.json", r#"{"id": "clouds", "executable": "sh"}"#);
        put(
            "adapters/elsewhere.json",
            r#"{"id": "elsewhere", "executable": "sh", "env": {"PATH": "/nowhere"}}"#,
        );
        put(
            "adapters/beside.json",
            r#"{"id": "beside", "executable": "x", "env": {"PATH": "{repo_root}/bin"}}"#,
        );
        put("text", "not a program");
        let job = parse_job(format!(r#"{{"job_id": "j", {rest}}}"#).as_bytes(), "f").unwrap().job;
        let environment = Environment::new([("PATH".into(), "/usr/bin:/bin".into())]);
        let mut known = Known::new(Manifests::OfRoot(dir.path()));
        known.not_here(&job, &environment, Some(dir.path())).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_adapter_that_is_not_there_is_named_with_the_nearest_one_that_is() {
        let sh = r#""command": {"exe": "sh"}"#;
        assert_eq!(messages(&format!(r#""tool": "shell", {sh}"#)), [""; 0]);
        let want = ["/tool: the job cannot start here: there is no adapter `cloud` (did you mean `clouds`?)"];
        assert_eq!(messages(&format!(r#""tool": "cloud", {sh}"#)), want);
        let want = ["/tool: the job cannot start here: there is no adapter `xyzzy`"];
        assert_eq!(messages(&format!(r#""tool": "xyzzy", {sh}"#)), want);
        let escalates = |to: &str| {
            messages(&format!(r#""tool": "shell", {sh}, "metadata": {{"retry_policy": "escalate_to_{to}"}}"#))
        };
        assert!(escalates("clouds").is_empty());
        let want = "there is no adapter `cloods` here to escalate to (did you mean `escalate_to_clouds`?)";
        assert_eq!(escalates("cloods"), [format!("/metadata/retry_policy: {want}")]);
    }

    #[test]
    fn a_key_that_the_adapter_uses_is_not_called_ignored() {
        let dir = tempfile::tempdir().unwrap();
        crate::fs::create_dir(&dir.path().join("adapters")).unwrap();
        let text = r#"{"id": "mine", "executable": "sh", "args": [["--m", "{models}"]]}"#;
        crate::fs::create_new(&dir.path().join("adapters/mine.json"), text.as_bytes()).unwrap();
        let warned = |tool: &str, rest: &str| {
            let metadata = r#""models": 1, "promt": "p", "max_tokens": 5"#;
            let text = format!(r#"{{"job_id": "j", "tool": "{tool}", "metadata": {{{metadata}}}{rest}}}"#);
            let parsed = parse_job(text.as_bytes(), "f").unwrap();
            let warnings = Known::new(Manifests::OfRoot(dir.path())).warnings(&parsed, text.as_bytes());
            let pointers = warnings.iter().map(|warning| warning.pointer.clone());
            pointers.collect::<Vec<_>>().concat()
        };
        // A plug-in is handed all of them, but nothing keeps the limit.
        assert_eq!(warned("plugin", ""), "/metadata/max_tokens");
        let own = r#", "stdin": {"text": "own"}"#;
        assert_eq!(warned("plugin", own), "/metadata/models/metadata/promt/metadata/max_tokens");
        assert_eq!(warned("mine", ""), "/metadata/promt/metadata/max_tokens");
        let own = r#", "command": {"exe": "sh"}"#;
        assert_eq!(warned("mine", own), "/metadata/models/metadata/promt/metadata/max_tokens");
        assert_eq!(warned("shell", ""), "/metadata/models/metadata/promt/metadata/max_tokens");
    }

    #[test]
    fn an_adapter_that_cannot_be_used_says_why() {
        let told = messages(r#""tool": "torn""#);
        assert!(told.len() == 1 && told[0].contains("is not a valid adapter manifest"), "{told:?}");
    }

    #[test]
    fn a_program_that_is_not_there_is_named_where_it_stands() {
        let shell = |exe: &str, rest: &str| {
            messages(&format!(r#""tool": "shell", "command": {{"exe": "{exe}"}}{rest}"#)).concat()
        };
        let refused = |pointer: &str, why: &str| format!("{pointer}: the job cannot start here: {why}");
        let absent = "there is no program `engine-test-absent`: is it installed, and in PATH?";
        assert_eq!(shell("engine-test-absent", ""), refused("/command/exe", absent));
        assert!(shell("make all", "").contains("sh -c"));
        assert!(shell("./text", "").contains("not an executable file"));
        let absent_here = "there is no program `./build/tool`";
        assert_eq!(shell("./build/tool", ""), refused("/command/exe", absent_here));
        // The job that it depends on may make it.
        assert_eq!(shell("./build/tool", r#", "depends_on": ["build"]"#), "");
        // The job says itself where programs are, before the adapter.
        assert!(shell("sh", r#", "env": {"PATH": "/nowhere"}"#).contains("no program `sh`"));
        assert_eq!(messages(r#""tool": "mine""#), [refused("/tool", absent)]);
        assert!(messages(r#""tool": "elsewhere""#).concat().contains("no program `sh`"));
        assert_eq!(messages(r#""tool": "elsewhere", "env": {"PATH": "/bin:/usr/bin"}"#), [""; 0]);
        assert_eq!(messages(r#""tool": "beside""#), [""; 0]);
    }
}
