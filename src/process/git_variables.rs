//! The variables of git that lead it to a repository other than the one of its working directory.

/// What `git rev-parse --local-env-vars` names in git 2.47, but for `GIT_CONFIG_COUNT` and `GIT_CONFIG_PARAMETERS`, which
/// carry settings of the caller (credentials, `safe.directory`) and name no repository. `GIT_INTERNAL_SUPER_PREFIX` is
/// of git before 2.38.
pub const REPOSITORY_LOCAL: [&str; 14] = [
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_CONFIG",
    "GIT_DIR",
    "GIT_GRAFT_FILE",
    "GIT_IMPLICIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_INTERNAL_SUPER_PREFIX",
    "GIT_NO_REPLACE_OBJECTS",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_REPLACE_REF_BASE",
    "GIT_SHALLOW_FILE",
    "GIT_WORK_TREE",
];

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "asks the git of this machine")]
mod tests {
    use super::*;

    #[test]
    fn every_variable_that_git_names_as_local_is_here() {
        let said =
            std::process::Command::new("git").args(["rev-parse", "--local-env-vars"]).output().unwrap();
        let kept = ["GIT_CONFIG_COUNT", "GIT_CONFIG_PARAMETERS"];
        let named = String::from_utf8(said.stdout).unwrap();
        let missing: Vec<&str> =
            named.lines().filter(|name| !REPOSITORY_LOCAL.contains(name) && !kept.contains(name)).collect();
        assert_eq!(missing, [] as [&str; 0]);
        assert!(named.contains("GIT_DIR"), "{named}");
    }
}
