//! Files that decide how checks run, so that a step that changes one could pass them without being right.
//!
//! Responsible for the list that is built in, for which files of the tree a command line executes, and for which files test
//! runners collect. Pure. Hard rule: a name in doubt is in the list, because the scope can still name it literally.

use std::path::Path;

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

#[cfg(test)]
mod tests {
    use super::*;

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
