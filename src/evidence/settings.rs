//! Settings of git by which a later command of git runs a program, asks one for a password, reads settings from elsewhere,
//! sends code elsewhere or takes it from elsewhere, or does not see a change.
//!
//! Pure. Hard rule: a setting in doubt is one of them.

use std::collections::BTreeMap;

/// What a changed setting can do to those who use the repository later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// It runs a program, reads from elsewhere, or hides changes.
    Danger,
    /// It is the address of something that it names. Another address leads code elsewhere; one more address, or one less, is
    /// daily work.
    Address,
    /// Daily work.
    Daily,
}

/// Sections of which every setting is a danger.
const SECTIONS: [&str; 24] = [
    "alias",
    "browser",
    "bundle",
    "credential",
    "difftool",
    "filter",
    "gpg",
    "guitool",
    "hook",
    "http",
    "include",
    "includeif",
    "instaweb",
    "man",
    "mergetool",
    "pager",
    "protocol",
    "receive",
    "sendemail",
    "tar",
    "trailer",
    "uploadarchive",
    "uploadpack",
    "url",
];

/// Single settings that are a danger: section and name, whatever is between them.
const SETTINGS: [(&str, &str); 50] = [
    ("core", "alternaterefscommand"),
    ("core", "alternaterefsprefixes"),
    ("core", "askpass"),
    ("core", "attributesfile"),
    // The next ten decide which changes git sees, and in which worktree.
    ("core", "autocrlf"),
    ("core", "bare"),
    ("core", "checkstat"),
    ("core", "eol"),
    ("core", "filemode"),
    ("core", "ignorecase"),
    ("core", "ignorestat"),
    ("core", "symlinks"),
    ("core", "trustctime"),
    ("core", "worktree"),
    ("core", "editor"),
    ("core", "excludesfile"),
    ("core", "fsmonitor"),
    ("core", "gitproxy"),
    ("core", "hookspath"),
    ("core", "pager"),
    ("core", "sshcommand"),
    ("diff", "command"),
    ("diff", "external"),
    ("diff", "textconv"),
    ("diff", "tool"),
    ("fetch", "bundleuri"),
    ("gc", "recentobjectshook"),
    ("help", "browser"),
    ("imap", "tunnel"),
    ("init", "templatedir"),
    ("interactive", "difffilter"),
    ("lfs", "clean"),
    ("lfs", "path"),
    ("lfs", "pushurl"),
    ("lfs", "smudge"),
    ("lfs", "standalonetransferagent"),
    ("lfs", "url"),
    ("merge", "driver"),
    ("merge", "tool"),
    ("remote", "proxy"),
    ("remote", "proxyauthmethod"),
    ("remote", "pushdefault"),
    ("remote", "receivepack"),
    ("remote", "uploadpack"),
    ("remote", "vcs"),
    ("sequence", "editor"),
    ("ssh", "variant"),
    ("submodule", "update"),
    ("transfer", "bundleuri"),
    ("web", "browser"),
];

/// Addresses, likewise.
const ADDRESSES: [(&str, &str); 7] = [
    ("remote", "lfspushurl"),
    ("remote", "lfsurl"),
    ("remote", "mirror"),
    ("remote", "push"),
    ("remote", "pushurl"),
    ("remote", "url"),
    ("submodule", "url"),
];

/// The section of a key as `git config --list` prints it, and its name, in small letters.
fn ends(key: &str) -> (&str, &str) {
    (key.split('.').next().unwrap_or_default(), key.rsplit('.').next().unwrap_or_default())
}

/// The meaning of a key.
#[must_use]
pub(super) fn meaning(key: &str) -> Meaning {
    let (section, name) = ends(key);
    if SECTIONS.contains(&section) || SETTINGS.contains(&(section, name)) {
        Meaning::Danger
    } else if ADDRESSES.contains(&(section, name)) {
        Meaning::Address
    } else {
        Meaning::Daily
    }
}

/// The settings of a file: each key with its values.
pub(super) type Settings = BTreeMap<String, Vec<Vec<u8>>>;

/// Reads what `git config --list -z` prints.
#[must_use]
pub(super) fn read(listed: &[u8]) -> Settings {
    let mut settings = Settings::new();
    for setting in listed.split(|byte| *byte == 0).filter(|setting| !setting.is_empty()) {
        let end = memchr::memchr(b'\n', setting).unwrap_or(setting.len());
        let (key, value) = setting.split_at(end);
        settings.entry(String::from_utf8_lossy(key).into_owned()).or_default().push(value.to_vec());
    }
    settings
}

/// The keys that differ.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    /// Those that are a danger.
    pub dangers: Vec<String>,
    /// Those of daily work.
    pub daily: Vec<String>,
}

/// Compares the settings of one file at two moments.
#[must_use]
pub(super) fn compare(before: &Settings, after: &Settings) -> Difference {
    let keys = before.keys().chain(after.keys().filter(|key| !before.contains_key(*key)));
    let mut found = Difference::default();
    for key in keys.filter(|key| before.get(*key) != after.get(*key)) {
        let is_danger = match meaning(key) {
            Meaning::Danger => true,
            Meaning::Address => [before, after].iter().all(|settings| has_address(settings, key)),
            Meaning::Daily => false,
        };
        if is_danger { &mut found.dangers } else { &mut found.daily }.push(shown(key));
    }
    found
}

/// True if there is an address of what a key is about, as of the remote `origin`.
fn has_address(settings: &Settings, key: &str) -> bool {
    let about = key.rsplit_once('.').map_or(key, |(about, _)| about);
    let is_one = |other: &&String| {
        meaning(other) == Meaning::Address && other.rsplit_once('.').is_some_and(|(of, _)| of == about)
    };
    settings.keys().any(|other| is_one(&other))
}

/// A key as a person may see it: the address in the middle of one may hold a password.
fn shown(key: &str) -> String {
    let (section, name) = ends(key);
    match key.contains(['@', '/']) {
        true => format!("{section}.….{name}"),
        false => key.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_that_runs_a_program_leads_elsewhere_or_hides_changes_is_told_from_one_of_daily_work() {
        for key in [
            "core.hookspath",
            "core.fsmonitor",
            "core.sshcommand",
            "core.askpass",
            "core.editor",
            "core.attributesfile",
            "core.excludesfile",
            "core.bare",
            "core.worktree",
            "core.ignorestat",
            "alias.st",
            "filter.lfs.smudge",
            "diff.image.textconv",
            "diff.external",
            "merge.ours.driver",
            "credential.https://example.com.helper",
            "gpg.ssh.program",
            "http.proxy",
            "http.https://example.com.sslverify",
            "include.path",
            "includeif.gitdir:~/x/.path",
            "init.templatedir",
            "pager.log",
            "protocol.ext.allow",
            "receive.denycurrentbranch",
            "remote.origin.uploadpack",
            "remote.origin.receivepack",
            "remote.origin.vcs",
            "remote.pushdefault",
            "sequence.editor",
            "submodule.x.update",
            "uploadpack.packobjectshook",
            "url.ext::sh -c x.insteadof",
        ] {
            assert_eq!(meaning(key), Meaning::Danger, "{key}");
        }
        for key in ["remote.origin.url", "remote.origin.pushurl", "submodule.x.url"] {
            assert_eq!(meaning(key), Meaning::Address, "{key}");
        }
        for key in [
            "user.name",
            "user.signingkey",
            "remote.origin.fetch",
            "branch.main.merge",
            "branch.main.remote",
            "commit.gpgsign",
            "diff.algorithm",
            "merge.conflictstyle",
            "extensions.worktreeconfig",
            "submodule.x.active",
            "gc.auto",
            "lfs.repositoryformatversion",
        ] {
            assert_eq!(meaning(key), Meaning::Daily, "{key}");
        }
    }

    #[test]
    fn another_address_is_a_danger_and_one_more_or_one_less_is_none() {
        let settings = |text: &str| read(text.replace(' ', "\0").replace('=', "\n").as_bytes());
        let dangers =
            |before: &str, after: &str| compare(&settings(before), &settings(after)).dangers.join(" ");
        for (before, after, want) in [
            ("remote.o.url=a", "remote.o.url=b", "remote.o.url"),
            ("remote.o.url=a", "remote.o.url=a remote.o.pushurl=b", "remote.o.pushurl"),
            ("remote.o.url=a", "remote.o.url=a remote.o.url=b", "remote.o.url"),
            ("remote.o.url=a remote.o.fetch=x", "remote.o.fetch=x", ""),
            ("remote.o.fetch=x", "remote.o.fetch=x remote.o.url=a", ""),
            ("", "remote.o.url=a remote.o.pushurl=b", ""),
            ("remote.o.url=a", "remote.o.url=a remote.p.url=b", ""),
            ("remote.a.b.url=a", "remote.a.b.url=b", "remote.a.b.url"),
        ] {
            assert_eq!(dangers(before, after), want, "{before} | {after}");
        }
        let found =
            compare(&settings("user.name=a x.y"), &settings("user.name=b url.https://t@h/.insteadof=x"));
        let want = ["url.….insteadof".to_owned()];
        assert_eq!(
            (found.dangers, found.daily),
            (want.to_vec(), vec!["user.name".to_owned(), "x.y".to_owned()])
        );
    }
}
