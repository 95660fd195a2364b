//! The adapters that a command line looks at, each read once, and what a job names that is not here.
//!
//! For those who hand a job in or check it: it may be meant for another machine, so all of it is a warning. What a runner
//! cannot do it says itself, at the start.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::{Environment, Manifest, ManifestError, Manifests, honored, registry};
use crate::job::parse::{Parsed, warnings_of_metadata};
use crate::job::problem::Kind;
use crate::job::schema::nearest;
use crate::job::{JobFile, Problem, ToolId, locate};
use crate::process::program::{self, Program};

/// What is known of a tool: its adapter, that there is none, or why it cannot be used.
pub type Found = Result<Option<Rc<Manifest>>, Rc<ManifestError>>;

/// The adapters of a root, or the built-in ones.
#[derive(Debug)]
pub struct Known<'a> {
    manifests: Manifests<'a>,
    read: BTreeMap<ToolId, Found>,
    programs: BTreeMap<(OsString, Option<OsString>, PathBuf), Program>,
}

impl<'a> Known<'a> {
    /// Those that count in a root, if there is one.
    pub fn of(manifests: impl Into<Manifests<'a>>) -> Self {
        Self { manifests: manifests.into(), read: BTreeMap::new(), programs: BTreeMap::new() }
    }

    /// The adapter of a tool.
    pub fn find(&mut self, tool: &ToolId) -> Found {
        let read = || registry::find(self.manifests, tool).map(|found| found.map(Rc::new)).map_err(Rc::new);
        self.read.entry(tool.clone()).or_insert_with(read).clone()
    }

    /// What is to be said of a valid job file, at its places: what `parse_job` warned of, but for keys of `metadata` that the
    /// adapter uses, and the keys that have no effect.
    pub fn warnings(&mut self, parsed: &Parsed, bytes: &[u8]) -> Vec<Problem> {
        let job = &parsed.job;
        let mut find = |tool: &ToolId| self.find(tool).ok().flatten();
        let used = |problem: &Problem, find: &mut dyn FnMut(&ToolId) -> Option<Rc<Manifest>>| {
            let key = problem.pointer.rsplit('/').next().unwrap_or_default();
            problem.kind == Kind::Unused && honored::uses(job, &locate::unescape(key), find)
        };
        let mut warnings = parsed.warnings.clone();
        warnings.retain(|problem| !used(problem, &mut find));
        let keys = honored::without_effect(job, find);
        let keys = keys.into_iter().map(|without| (without.key, without.message));
        warnings.extend(warnings_of_metadata(bytes, keys.collect()));
        warnings
    }

    /// What a job names and is not here: its adapter, the one it escalates to, its program. `environment` is the one that it
    /// would inherit, `working_dir` where it would run. Each has its pointer, but no line; `parse::placed` gives it one.
    pub fn not_here(&mut self, job: &JobFile, environment: &Environment, working_dir: &Path) -> Vec<Problem> {
        let mut warnings = Vec::new();
        let manifest = self.adapter(&job.tool, "/tool", &mut warnings);
        if let Some(next) = job.escalates_to() {
            self.adapter(next, "/metadata/retry_policy", &mut warnings);
        }
        // Of an unknown adapter nothing is known that the job does not say.
        let of_adapter = manifest.as_ref().and_then(|manifest| manifest.executable.as_deref());
        let (exe, pointer) = match job.command.exe.as_deref() {
            Some(exe) => (exe, "/command/exe"),
            None => (of_adapter.unwrap_or_default(), "/tool"),
        };
        // What another job makes is not there yet.
        let may_come = exe.contains('/') && !job.dependencies().is_empty();
        if !exe.is_empty() && !may_come {
            let found = self.program(OsStr::new(exe), environment.of_job(job, "PATH"), working_dir);
            warnings.extend(not_found(exe, &found).map(|message| warning(pointer, message)));
        }
        warnings
    }

    fn adapter(&mut self, tool: &ToolId, pointer: &str, warnings: &mut Vec<Problem>) -> Option<Rc<Manifest>> {
        match self.find(tool) {
            Ok(Some(manifest)) => return Some(manifest),
            Ok(None) => {
                let ids = registry::ids(self.manifests);
                let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
                let near = nearest(tool.as_str(), &ids);
                let hint = if near.is_none() { "; see `engine adapters`" } else { "" };
                let is_policy = pointer != "/tool";
                let did_you_mean = near.map(|near| match is_policy {
                    true => format!("escalate_to_{near}"),
                    false => near.to_owned(),
                });
                let message = format!("there is no adapter `{tool}`{hint}");
                warnings.push(Problem { did_you_mean, ..warning(pointer, message) });
            }
            Err(error) => warnings.push(warning(pointer, error.to_string())),
        }
        None
    }

    fn program(&mut self, exe: &OsStr, path: Option<&OsStr>, cwd: &Path) -> Program {
        let key = (exe.to_owned(), path.map(OsStr::to_owned), cwd.to_path_buf());
        self.programs.entry(key).or_insert_with(|| program::find(exe, path, cwd)).clone()
    }
}

fn warning(pointer: &str, message: String) -> Problem {
    Problem { pointer: pointer.to_owned(), ..Problem::at(1, 1, message) }
}

fn not_found(exe: &str, found: &Program) -> Option<String> {
    match found {
        Program::At(_) => None,
        Program::NotExecutable(path) => {
            Some(format!("`{}` is no file that is marked as executable", path.display()))
        }
        Program::Missing if exe.contains(char::is_whitespace) => {
            Some(format!("`{exe}` was not found; a command line needs a shell: sh -c '…'"))
        }
        Program::Missing if exe.contains('/') => Some(format!("`{exe}` was not found")),
        Program::Missing => Some(format!("`{exe}` was not found; is it installed, and in PATH?")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::parse_job;

    fn told(rest: &str) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        crate::fs::create_dir(&dir.path().join("adapters")).unwrap();
        let put = |name: &str, text: &str| {
            crate::fs::create_new(&dir.path().join(name), text.as_bytes()).unwrap();
        };
        put("adapters/mine.json", r#"{"id": "mine", "executable": "engine-test-absent"}"#);
        put("adapters/torn.json", r#"{"id": "torn""#);
        put("adapters/clouds.json", r#"{"id": "clouds", "executable": "sh"}"#);
        put("text", "not a program");
        let job = parse_job(format!(r#"{{"job_id": "j", {rest}}}"#).as_bytes(), "f").unwrap().job;
        let environment = Environment::new([("PATH".into(), "/usr/bin:/bin".into())]);
        let mut known = Known::of(Manifests::OfRoot(dir.path()));
        known.not_here(&job, &environment, dir.path()).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_adapter_that_is_not_there_is_named_with_the_nearest_one_that_is() {
        let sh = r#""command": {"exe": "sh"}"#;
        assert_eq!(told(&format!(r#""tool": "shell", {sh}"#)), [""; 0]);
        let want = ["/tool: there is no adapter `cloud` (did you mean `clouds`?)"];
        assert_eq!(told(&format!(r#""tool": "cloud", {sh}"#)), want);
        let want = ["/tool: there is no adapter `xyzzy`; see `engine adapters`"];
        assert_eq!(told(&format!(r#""tool": "xyzzy", {sh}"#)), want);
        let want =
            ["/metadata/retry_policy: there is no adapter `clod` (did you mean `escalate_to_clouds`?)"];
        let escalates = |to: &str| {
            told(&format!(r#""tool": "shell", {sh}, "metadata": {{"retry_policy": "escalate_to_{to}"}}"#))
        };
        assert!(escalates("clouds").is_empty());
        assert_eq!(escalates("cloods"), [want[0].replace("clod", "cloods")]);
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
            let warnings = Known::of(Manifests::OfRoot(dir.path())).warnings(&parsed, text.as_bytes());
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
        let told = told(r#""tool": "torn""#);
        assert!(told.len() == 1 && told[0].contains("is not a valid adapter manifest"), "{told:?}");
    }

    #[test]
    fn a_program_that_is_not_there_is_named_where_it_stands() {
        let shell = |exe: &str, rest: &str| {
            told(&format!(r#""tool": "shell", "command": {{"exe": "{exe}"}}{rest}"#)).concat()
        };
        assert!(
            shell("engine-test-absent", "")
                .starts_with("/command/exe: `engine-test-absent` was not found; is")
        );
        assert!(shell("make all", "").contains("sh -c"));
        assert!(
            shell("./text", "").contains("not executable")
                || shell("./text", "").contains("marked as executable")
        );
        assert_eq!(shell("./build/tool", ""), "/command/exe: `./build/tool` was not found");
        // The job that it depends on may make it.
        assert_eq!(shell("./build/tool", r#", "depends_on": ["build"]"#), "");
        // The job says itself where programs are.
        assert!(shell("sh", r#", "env": {"PATH": "/nowhere"}"#).contains("`sh` was not found"));
        assert!(told(r#""tool": "mine""#).concat().starts_with("/tool: `engine-test-absent` was not found"));
    }
}
