//! What a check would load from the user's checkout instead of the worktree: an editable install of the project in the Python
//! environment that the check uses, and entries of search paths.
//!
//! Reads files, and runs no Python. Hard rule: an environment that merely lies in the checkout is none of it; only what leads to
//! the project's own files is.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::adapter::Environment;
use crate::bundle::checks::Check;
use crate::bundle::settings::Settings;
use crate::fs;
use crate::job::spec::EnvValue;
use crate::job::{Code, Reason};
use crate::process::program::{self, Program as Found};

/// Larger files are no list of paths.
const LARGEST: u64 = 1 << 20;

/// The reasons why checks would judge files of a checkout; at most one for each check.
pub(super) fn of_checkout(
    checks: &[Check],
    settings: &Settings,
    environment: &Environment,
    top: &Path,
) -> Vec<Reason> {
    let mut found: Vec<(String, Vec<&str>)> = Vec::new();
    for check in checks.iter().filter(|check| check.may_load_python()) {
        let Some(what) = (Surroundings { check, settings, environment, top }).leads_to_checkout() else {
            continue;
        };
        match found.iter_mut().find(|(known, _)| *known == what) {
            Some((_, names)) => names.push(&check.name),
            None => found.push((what, vec![&check.name])),
        }
    }
    let reason = |(what, names): (String, Vec<&str>)| {
        let names = names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let message = format!(
            "{what}, so {names} would judge the files of the checkout, not those of the worktree: install the project \
            with `setup` into an environment of each worktree, or set `shared_environment = true` in [workstreams]"
        );
        Reason::new(Code::EnvironmentOfCheckout, message)
    };
    found.into_iter().map(reason).collect()
}

/// What a check runs in.
struct Surroundings<'a> {
    check: &'a Check,
    settings: &'a Settings,
    environment: &'a Environment,
    top: &'a Path,
}

impl Surroundings<'_> {
    fn variable(&self, name: &str) -> Option<&OsStr> {
        match self.check.env.get(name).or_else(|| self.settings.env.get(name)) {
            Some(EnvValue::Text(text)) => Some(OsStr::new(text)),
            Some(EnvValue::FromEnv(source)) => self.environment.get(source),
            None => self.environment.get(name),
        }
        .filter(|value| !value.is_empty())
    }

    /// The first thing that leads to the checkout, as a clause.
    fn leads_to_checkout(&self) -> Option<String> {
        self.search_path("PYTHONPATH", |_| true)
            // Packages of others, which the checkout and the worktree share on purpose.
            .or_else(|| self.search_path("NODE_PATH", |path| !path.iter().any(|part| part == "node_modules")))
            .or_else(|| self.prefixes().iter().find_map(|prefix| self.installed(prefix)))
    }

    /// Relative entries are those of the worktree.
    fn search_path(&self, name: &str, counts: impl Fn(&Path) -> bool) -> Option<String> {
        let mut entries = std::env::split_paths(self.variable(name)?).filter(|entry| entry.is_absolute());
        let entry = entries.find(|entry| counts(entry) && self.is_of_checkout(entry, None))?;
        Some(format!("`{name}` has the entry `{}`", entry.display()))
    }

    /// The Python environments that the check may use: the active one, that of the first Python, that of its program.
    fn prefixes(&self) -> Vec<PathBuf> {
        let path = self.variable("PATH").unwrap_or(OsStr::new(program::DEFAULT_PATH));
        let entries = std::env::split_paths(path).filter(|entry| entry.is_absolute());
        let path = std::env::join_paths(entries).unwrap_or_default();
        let prefix = |exe: &str| match program::find(OsStr::new(exe), Some(&path), self.top) {
            Found::At(found) => Some(found.parent()?.parent()?.to_path_buf()),
            Found::NotExecutable(_) | Found::Missing => None,
        };
        let own = self.check.program();
        let programs = ["python3", "python"].into_iter().chain(own.as_deref());
        let active = self.variable("VIRTUAL_ENV").map(PathBuf::from).filter(|active| active.is_absolute());
        let mut prefixes: Vec<PathBuf> = active.into_iter().chain(programs.filter_map(prefix)).collect();
        prefixes.dedup();
        prefixes
    }

    /// What an environment has installed from the checkout.
    fn installed(&self, prefix: &Path) -> Option<String> {
        let mut libraries = vec![prefix.join("lib")];
        if !prefix.join("pyvenv.cfg").is_file() {
            let home = Path::new(self.environment.home());
            libraries.extend([prefix.join("local/lib"), home.join(".local/lib")]);
        }
        let versions = libraries
            .iter()
            .flat_map(|lib| below(lib))
            .filter(|path| path.file_name().is_some_and(|name| name.as_bytes().starts_with(b"python3")));
        let sites =
            versions.flat_map(|version| ["site-packages", "dist-packages"].map(|name| version.join(name)));
        let mut files = sites.flat_map(|site| below(&site));
        let file = files.find(|file| self.file_leads(file, prefix))?;
        Some(format!("`{}` leads Python to `{}`", file.display(), self.top.display()))
    }

    /// True if a file or a directory of `site-packages` makes Python load the checkout.
    fn file_leads(&self, path: &Path, prefix: &Path) -> bool {
        let name = path.file_name().map(OsStr::to_string_lossy).unwrap_or_default();
        let dir = path.parent().unwrap_or(path);
        let is_within = |line: &[u8]| self.is_of_checkout(&dir.join(OsStr::from_bytes(line)), Some(prefix));
        match name.rsplit_once('.').map(|(_, ending)| ending) {
            Some("pth") => lines(path).iter().any(|line| !is_code(line) && is_within(line)),
            Some("egg-link") => lines(path).first().is_some_and(|line| is_within(line)),
            Some("dist-info") => editable(&path.join("direct_url.json")).is_some_and(|of| is_within(&of)),
            Some("py") if name.starts_with("__editable__") => {
                let top = format!("{}/", self.top.display());
                lines(path).iter().any(|line| String::from_utf8_lossy(line).contains(&top))
            }
            _ => false,
        }
    }

    /// True if a path is one of the project's; what an environment within the checkout keeps for itself is not.
    fn is_of_checkout(&self, path: &Path, prefix: Option<&Path>) -> bool {
        let Ok(path) = fs::canonical(path) else { return false };
        let is_of_environment =
            |prefix: &Path| fs::canonical(prefix).is_ok_and(|prefix| path.starts_with(prefix));
        path.starts_with(self.top) && !prefix.is_some_and(is_of_environment)
    }
}

/// The entries of a directory, sorted, so that the same one is named each time.
fn below(dir: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<PathBuf> =
        std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    entries.sort();
    entries
}

fn read(path: &Path) -> Option<Vec<u8>> {
    fs::read_limited(&fs::open_regular(path).ok()?, path, LARGEST).ok()?
}

fn lines(path: &Path) -> Vec<Vec<u8>> {
    let bytes = read(path).unwrap_or_default();
    let lines = bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
    lines.map(<[u8]>::to_vec).collect()
}

/// A line of a `.pth` file that is no path.
fn is_code(line: &[u8]) -> bool {
    line.starts_with(b"#") || line.starts_with(b"import ") || line.starts_with(b"import\t")
}

/// The directory of an editable install (PEP 610).
fn editable(path: &Path) -> Option<Vec<u8>> {
    let document: Value = serde_json::from_slice(&read(path)?).ok()?;
    document.pointer("/dir_info/editable")?.as_bool()?.then_some(())?;
    let encoded = document.get("url")?.as_str()?.strip_prefix("file://")?;
    Some(percent_decoded(encoded).into_vec())
}

fn percent_decoded(text: &str) -> OsString {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((first, behind)) = rest.split_first() {
        let code = behind.get(..2).filter(|_| *first == b'%').and_then(|code| str::from_utf8(code).ok());
        match code.and_then(|code| u8::from_str_radix(code, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = behind.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::bundle::checks::CheckCommand;
    use crate::fix_loop::limits::CheckKind;
    use crate::job::number::Seconds;

    const SITE: &str = "lib/python3.12/site-packages";

    struct Bench {
        dir: tempfile::TempDir,
    }

    impl Bench {
        fn new() -> Self {
            let bench = Self { dir: tempfile::tempdir().unwrap() };
            bench.put("project/src/pkg.py", "");
            bench.put("project/node_modules/x", "");
            bench.put("other/src/pkg.py", "");
            bench
        }

        fn path(&self, name: &str) -> PathBuf {
            fs::canonical(self.dir.path()).unwrap().join(name)
        }

        fn put(&self, name: &str, text: &str) {
            let path = self.path(name);
            let missing: Vec<&Path> = path.ancestors().skip(1).take_while(|above| !above.exists()).collect();
            missing.into_iter().rev().for_each(|dir| assert!(fs::create_dir(dir).unwrap()));
            let _ = fs::create_new(&path, text.replace("TOP", &self.path("").to_string_lossy()).as_bytes())
                .unwrap();
        }

        /// An environment with the program `python3`.
        fn environment(&self, prefix: &str) {
            use std::os::unix::fs::PermissionsExt;
            self.put(&format!("{prefix}/pyvenv.cfg"), "");
            self.put(&format!("{prefix}/bin/python3"), "");
            let file = std::fs::File::open(self.path(&format!("{prefix}/bin/python3"))).unwrap();
            file.set_permissions(std::fs::Permissions::from_mode(0o755)).unwrap();
        }

        fn said_of(&self, line: &str, variables: &[(&str, &str)]) -> String {
            let top = self.path("").to_string_lossy().into_owned();
            let pair = |(name, value): &(&str, &str)| ((*name).into(), value.replace("TOP", &top).into());
            let environment = Environment::new(variables.iter().map(pair));
            let check = Check {
                name: line.to_owned(),
                kind: CheckKind::Runtime,
                command: CheckCommand::Run(line.to_owned()),
                timeout_seconds: Seconds::HOUR,
                locks: Vec::new(),
                optional: false,
                junit_file: None,
                env: BTreeMap::new(),
            };
            let reasons = of_checkout(&[check], &Settings::default(), &environment, &self.path("project"));
            reasons.into_iter().map(|reason| reason.message).collect()
        }
    }

    #[test]
    fn every_kind_of_editable_install_is_found_and_no_other_install_is() {
        for (file, text, is_editable) in [
            ("__editable__.pkg-0.1.pth", "TOPproject/src\n", true),
            ("pkg.pth", "# the project\nTOPproject\n", true),
            ("easy-install.pth", "import sys\nTOPother\n../../../../src\n", true),
            ("pkg.egg-link", "TOPproject/src\n../\n", true),
            ("__editable___pkg_finder.py", "MAPPING = {'pkg': 'TOPproject/src/pkg'}\n", true),
            (
                "pkg-1.dist-info/direct_url.json",
                r#"{"url": "file://TOPpro%6Aect", "dir_info": {"editable": true}}"#,
                true,
            ),
            ("pkg-1.dist-info/direct_url.json", r#"{"url": "file://TOPproject", "dir_info": {}}"#, false),
            (
                "pkg-1.dist-info/direct_url.json",
                r#"{"url": "file://TOPother", "dir_info": {"editable": true}}"#,
                false,
            ),
            ("pkg.pth", "TOPother\nimport x; x.load('TOPproject')\nTOPproject-2\nTOPproject/gone\n", false),
            // What pip has checked out for itself.
            ("dep.pth", "TOPproject/.venv/src/dep\n", false),
        ] {
            let bench = Bench::new();
            bench.environment("project/.venv");
            bench.put("project/.venv/src/dep/x.py", "");
            bench.put("project-2/x.py", "");
            bench.put(&format!("project/.venv/{SITE}/{file}"), text);
            for variables in
                [[("VIRTUAL_ENV", "TOPproject/.venv")], [("PATH", "/none:TOPproject/.venv/bin:.venv/bin")]]
            {
                let said = bench.said_of("pytest -q", &variables);
                assert_eq!(!said.is_empty(), is_editable, "{file} {text}: {said}");
                let file = file.split('/').next().unwrap();
                assert!(
                    !is_editable || (said.contains(file) && said.contains("shared_environment")),
                    "{said}"
                );
            }
        }
    }

    #[test]
    fn what_does_not_load_python_or_brings_its_own_environment_is_let_through() {
        let bench = Bench::new();
        bench.environment("env");
        bench.put(&format!("env/{SITE}/pkg.pth"), "TOPproject/src");
        let active = [("VIRTUAL_ENV", "TOPenv"), ("PATH", "TOPenv/bin")];
        for (line, is_named) in [
            ("pytest", true),
            ("make test", true),
            ("cargo test && pytest", true),
            ("cargo test", false),
            ("uv run pytest", false),
            ("ruff check . && npm test", false),
            (".venv/bin/pytest -q", false),
            (". .venv/bin/activate && pytest", false),
            (". /env/bin/activate && pytest", true),
            ("./test.sh", true),
            ("$TESTS", true),
        ] {
            assert_eq!(!bench.said_of(line, &active).is_empty(), is_named, "{line}");
        }
        // The environment of the program alone.
        let program = bench.path("env/bin/python3").display().to_string();
        assert!(!bench.said_of(&format!("{program} -m pytest"), &[("PATH", "/none")]).is_empty());
        assert_eq!(bench.said_of("pytest", &[("PATH", "/none")]), "");
    }

    #[test]
    fn search_paths_that_name_the_checkout_are_found() {
        let bench = Bench::new();
        for (name, value, is_named) in [
            ("PYTHONPATH", "/none:TOPproject/src", true),
            ("PYTHONPATH", "src:TOPother/src:", false),
            ("NODE_PATH", "TOPproject/src", true),
            ("NODE_PATH", "TOPproject/node_modules", false),
        ] {
            let said = bench.said_of("pytest", &[(name, value), ("PATH", "/none")]);
            assert_eq!(said.contains(name), is_named, "{value}: {said}");
        }
    }
}
