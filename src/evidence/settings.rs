//! Settings of git by which some command of git runs a program, asks one for a password, or reads settings from elsewhere.
//!
//! Pure. Hard rule: a setting in doubt is one of them.

/// Sections of which every setting counts.
const SECTIONS: [&str; 19] = [
    "alias",
    "browser",
    "credential",
    "difftool",
    "filter",
    "gpg",
    "guitool",
    "hook",
    "include",
    "includeif",
    "instaweb",
    "man",
    "mergetool",
    "pager",
    "protocol",
    "sendemail",
    "tar",
    "trailer",
    "url",
];

/// Single settings: section and name, whatever is between them.
const SETTINGS: [(&str, &str); 29] = [
    ("core", "alternaterefscommand"),
    ("core", "askpass"),
    ("core", "attributesfile"),
    ("core", "editor"),
    ("core", "excludesfile"),
    ("core", "fsmonitor"),
    ("core", "gitproxy"),
    ("core", "hookspath"),
    ("core", "pager"),
    ("core", "sshcommand"),
    ("core", "worktree"),
    ("diff", "command"),
    ("diff", "external"),
    ("diff", "textconv"),
    ("diff", "tool"),
    ("gc", "recentobjectshook"),
    ("imap", "tunnel"),
    ("init", "templatedir"),
    ("interactive", "difffilter"),
    ("merge", "driver"),
    ("merge", "tool"),
    ("receive", "procreceiverefs"),
    ("remote", "receivepack"),
    ("remote", "uploadpack"),
    ("remote", "vcs"),
    ("sequence", "editor"),
    ("ssh", "variant"),
    ("submodule", "update"),
    ("uploadpack", "packobjectshook"),
];

/// True for a key as `git config --list` prints it: section and name in small letters.
#[must_use]
pub(super) fn may_run_a_program(key: &str) -> bool {
    let section = key.split('.').next().unwrap_or_default();
    let name = key.rsplit('.').next().unwrap_or_default();
    SECTIONS.contains(&section) || SETTINGS.contains(&(section, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_name_a_program_are_told_from_those_of_daily_work() {
        for key in [
            "core.hookspath",
            "core.fsmonitor",
            "core.sshcommand",
            "alias.st",
            "filter.lfs.smudge",
            "diff.image.textconv",
            "diff.external",
            "merge.ours.driver",
            "credential.https://example.com.helper",
            "include.path",
            "includeif.gitdir:~/x/.path",
            "remote.origin.uploadpack",
            "url.ext::sh -c x.insteadof",
        ] {
            assert!(may_run_a_program(key), "{key}");
        }
        for key in [
            "user.name",
            "remote.origin.url",
            "remote.origin.fetch",
            "branch.main.merge",
            "diff.algorithm",
            "merge.conflictstyle",
            "core.bare",
            "extensions.worktreeconfig",
            "submodule.x.url",
            "gc.auto",
        ] {
            assert!(!may_run_a_program(key), "{key}");
        }
    }
}
