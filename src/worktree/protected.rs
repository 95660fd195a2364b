//! Files that decide how checks run, so that a step that changes one could pass them without being right.
//!
//! Responsible for the list that is built in, for which files of the tree a command line executes, and for which files test
//! runners collect. Pure. Hard rule: a name in doubt is in the list, because the scope can still name it literally.

use std::path::{Component, Path, PathBuf};

use crate::evidence::Scope;
use crate::job::Reason;

/// What configures test runners, linters, type checkers, build tools, continuous integration, and the engine.
const CONFIGURE_CHECKS: [&str; 91] = [
    // Python.
    "**/conftest.py",
    "**/pytest.ini",
    "**/.pytest.ini",
    "**/pytest.toml",
    "**/.pytest.toml",
    "**/pyproject.toml",
    "**/setup.cfg",
    "**/tox.ini",
    "**/tox.toml",
    "**/noxfile.py",
    "**/.coveragerc",
    "**/ruff.toml",
    "**/.ruff.toml",
    "**/mypy.ini",
    "**/.mypy.ini",
    "**/.flake8",
    "**/.pylintrc",
    "**/pylintrc",
    "**/.bandit",
    "**/pyrightconfig.json",
    "**/sitecustomize.py",
    "**/usercustomize.py",
    // JavaScript.
    "**/package.json",
    "**/tsconfig*.json",
    "**/.eslintrc*",
    "**/eslint.config.*",
    "**/.eslintignore",
    "**/biome.json*",
    "**/.prettierrc*",
    "**/prettier.config.*",
    "**/.stylelintrc*",
    "**/jest.config.*",
    "**/jest.setup.*",
    "**/vitest.config.*",
    "**/vite.config.*",
    "**/playwright.config.*",
    "**/cypress.config.*",
    "**/karma.conf.*",
    "**/.mocharc*",
    "**/.nycrc*",
    "**/babel.config.*",
    // Rust.
    "**/clippy.toml",
    "**/.clippy.toml",
    "**/rustfmt.toml",
    "**/.rustfmt.toml",
    "**/.cargo/**",
    "**/.config/nextest.toml",
    "**/deny.toml",
    // Other languages.
    "**/.golangci.*",
    "**/.rspec",
    "**/.rubocop*.yml",
    "**/phpunit.xml*",
    "**/phpstan.neon*",
    "**/psalm.xml*",
    "**/checkstyle*.xml",
    "**/.clang-tidy",
    "**/.clang-format",
    "**/.editorconfig",
    "**/.shellcheckrc",
    "**/.yamllint*",
    "**/.markdownlint*",
    // Build tools.
    "**/Makefile",
    "**/makefile",
    "**/GNUmakefile",
    "**/*.mk",
    "**/justfile",
    "**/Justfile",
    "**/.justfile",
    "**/Taskfile.y*ml",
    "**/Rakefile",
    "**/CMakeLists.txt",
    "**/CTestConfig.cmake",
    // Continuous integration.
    "**/.pre-commit-config.yaml",
    ".github/**",
    ".gitlab-ci.yml",
    ".gitlab/**",
    ".circleci/**",
    ".buildkite/**",
    ".travis.yml",
    ".ci/**",
    "azure-pipelines.yml",
    "bitbucket-pipelines.yml",
    "**/Jenkinsfile",
    // The engine.
    "engine.toml",
    "adapters/**",
    "routing.json",
    "panels/**",
    "config/circuit_breakers.yaml",
    "config/circuit_breaker_config.yaml",
    "config/tool_profiles.json",
    "**/invoke.yaml",
];

/// What test runners collect by default, by the name of the file.
const COLLECTED: [&str; 30] = [
    "**/test_*.py",
    "**/*_test.py",
    "**/*.test.js",
    "**/*.test.jsx",
    "**/*.test.ts",
    "**/*.test.tsx",
    "**/*.test.mjs",
    "**/*.test.cjs",
    "**/*.spec.js",
    "**/*.spec.jsx",
    "**/*.spec.ts",
    "**/*.spec.tsx",
    "**/*.spec.mjs",
    "**/*.spec.cjs",
    "**/__tests__/**/*.js",
    "**/__tests__/**/*.jsx",
    "**/__tests__/**/*.ts",
    "**/__tests__/**/*.tsx",
    "**/*.cy.*",
    "**/*_test.go",
    "**/tests/*.rs",
    "**/*_spec.rb",
    "**/*_test.rb",
    "**/*Test.java",
    "**/*Tests.java",
    "**/*Test.kt",
    "**/*Tests.cs",
    "**/*Test.php",
    "**/*_test.exs",
    "**/*.bats",
];

/// Programs that run a script, whose name is their first argument that is no option.
const INTERPRETERS: [&str; 17] = [
    "bash", "dash", "sh", "zsh", "ksh", "node", "deno", "bun", "tsx", "ts-node", "perl", "php", "ruby",
    "lua", "Rscript", "pypy", "uv",
];

/// Words that run the command behind them.
const PREFIXES: [&str; 11] =
    ["env", "exec", "command", "time", "nice", "nohup", "timeout", "run", "poetry", "pipenv", "xvfb-run"];

fn patterns(all: &[&str], more: &[String]) -> Result<Scope, Reason> {
    let all: Vec<String> = all.iter().map(|pattern| (*pattern).to_owned()).chain(more.to_vec()).collect();
    Scope::new(&all, Path::new("/"), Path::new("/"))
}

/// The files that are protected, with those of the settings.
///
/// # Errors
/// `scope_invalid` that names a pattern of the settings.
pub(super) fn protected(of_settings: &[String]) -> Result<Scope, Reason> {
    patterns(&CONFIGURE_CHECKS, of_settings)
}

/// The files that test runners collect.
///
/// # Errors
/// None in practice: the patterns are constant.
pub(super) fn collected() -> Result<Scope, Reason> {
    patterns(&COLLECTED, &[])
}

/// The files of the tree that a command line for `/bin/sh -c` may execute: of each command its first word, or the script after an
/// interpreter. Words that are no files of the tree do no harm.
#[must_use]
pub(super) fn executed(command_line: &str) -> Vec<PathBuf> {
    let separators = |c: char| matches!(c, ';' | '|' | '&' | '(' | ')' | '\n' | '`' | '{' | '}');
    command_line.split(separators).flat_map(of_command).collect()
}

fn of_command(command: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for word in command.split_whitespace() {
        let word = word.trim_matches(|c| matches!(c, '"' | '\''));
        let is_number = word.trim_end_matches(['s', 'm', 'h']).parse::<f64>().is_ok();
        let is_set = word.split_once('=').is_some_and(|(name, _)| !name.contains('/'));
        if word.is_empty() || word.starts_with('-') || is_set || is_number {
            continue;
        }
        let name = word.rsplit('/').next().unwrap_or(word);
        found.extend(relative(word));
        let is_interpreter = INTERPRETERS.contains(&name) || name.starts_with("python");
        if !is_interpreter && !(PREFIXES.contains(&name) && (word == name || word.starts_with('/'))) {
            break;
        }
    }
    found
}

/// A path of the tree without `.`; none for one that is absolute or leads out.
fn relative(word: &str) -> Option<PathBuf> {
    let mut path = PathBuf::new();
    for part in Path::new(word).components() {
        match part {
            Component::Normal(name) => path.push(name),
            Component::CurDir => {}
            Component::ParentDir if path.pop() => {}
            _ => return None,
        }
    }
    (!path.as_os_str().is_empty()).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_check_executes_is_found_behind_interpreters_settings_and_separators() {
        for (line, want) in [
            ("./check.sh --all", vec!["check.sh"]),
            ("bash -e scripts/check.sh src", vec!["bash", "scripts/check.sh"]),
            ("CI=1 timeout 60 python3 -u tools/run.py a.py", vec!["timeout", "python3", "tools/run.py"]),
            ("cd x && ./y/../z.sh; make test | tee log", vec!["cd", "z.sh", "make", "tee"]),
            ("timeout 5m nice ./a", vec!["timeout", "nice", "a"]),
            ("/usr/bin/env node 'test.js'", vec!["node", "test.js"]),
            ("../out.sh", vec![]),
            ("pytest -q", vec!["pytest"]),
        ] {
            let want: Vec<PathBuf> = want.into_iter().map(PathBuf::from).collect();
            assert_eq!(executed(line), want, "{line}");
        }
    }

    #[test]
    fn settings_of_checks_are_protected_anywhere_and_sources_are_not() {
        let protected = protected(&["secrets/**".to_owned()]).unwrap();
        for (path, want) in [
            ("conftest.py", true),
            ("pkg/tests/conftest.py", true),
            ("pyproject.toml", true),
            (".github/workflows/ci.yml", true),
            ("web/tsconfig.build.json", true),
            ("secrets/a", true),
            ("engine.toml", true),
            ("sub/engine.toml", false),
            ("calc.py", false),
            ("tests/test_calc.py", false),
            ("docs/Makefile.md", false),
        ] {
            assert_eq!(protected.contains(Path::new(path)), want, "{path}");
        }
        assert!(super::protected(&["../x".to_owned()]).is_err());
    }

    #[test]
    fn a_file_is_a_test_by_the_name_that_runners_look_for() {
        let collected = collected().unwrap();
        for (path, want) in [
            ("test_a.py", true),
            ("pkg/tests/a_test.py", true),
            ("tests/data/sample.json", false),
            ("tests/helpers.py", false),
            ("src/a.test.tsx", true),
            ("src/__tests__/deep/er.ts", true),
            ("pkg/x_test.go", true),
            ("tests/it.rs", true),
            ("tests/it/main.rs", false),
            ("src/test/java/ATest.java", true),
            ("contest.py", false),
        ] {
            assert_eq!(collected.contains(Path::new(path)), want, "{path}");
        }
    }
}
