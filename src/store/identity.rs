//! Which machine, boot and pid namespace this process is in: recorded with every attempt.
//!
//! Recovery acts alone only on attempts of the same boot and namespace, or of the same machine before a reboot. The boot
//! id proves the machine: a host name may change while it runs.

use serde::{Deserialize, Serialize};

use crate::job::{Attempt, SCHEMA_VERSION};

/// Where a process runs, as far as its pids and its death can be judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The node name.
    pub host: String,
    /// The kernel's random id of this boot.
    pub boot_id: String,
    /// The pid namespace, as `pid:[4026531836]`.
    pub pid_namespace: String,
}

/// `Origin` names the writer of a cache, in its header: program, store, machine and boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    schema_version: u32,
    store: String,
    host: String,
    boot_id: String,
}

impl Origin {
    /// The origin of a cache that is written now.
    #[must_use]
    pub fn new(store: &str, writer: &Identity) -> Self {
        let Identity { host, boot_id, .. } = writer.clone();
        Self { schema_version: SCHEMA_VERSION, store: store.to_owned(), host, boot_id }
    }

    /// True if a cache of this origin may be read by a writer of that one. A machine that was started again may have lost lines that its cache counted.
    /// The boot is the machine's, whatever its name is (each container has another); what another machine wrote is held against
    /// the journal or the file that it is of, as every cache is.
    #[must_use]
    pub fn counts_beside(&self, now: &Self) -> bool {
        let was_restarted = self.host == now.host && self.boot_id != now.boot_id;
        self.schema_version == now.schema_version && self.store == now.store && !was_restarted
    }
}

/// Whether the runner of an attempt can be judged from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judge {
    /// Same boot and namespace: a free lease proves its death.
    Here,
    /// Same host name, another boot: it is dead.
    BeforeReboot,
    /// Another machine or namespace: only a person can say.
    Elsewhere,
    /// This process does not know where it runs itself: `/proc` is missing.
    Unknown,
}

impl Identity {
    /// Asks the kernel.
    #[must_use]
    pub fn of_this_process() -> Self {
        let read =
            |path| std::fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default();
        let namespace = std::fs::read_link("/proc/self/ns/pid");
        Self {
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            boot_id: read("/proc/sys/kernel/random/boot_id"),
            pid_namespace: namespace.map(|link| link.to_string_lossy().into_owned()).unwrap_or_default(),
        }
    }

    /// Whether the runner of an attempt can be judged from here.
    #[must_use]
    pub fn judge(&self, attempt: &Attempt) -> Judge {
        let same_host = attempt.host == self.host;
        let same_namespace = attempt.pid_namespace == self.pid_namespace;
        match (attempt.boot_id.as_str(), self.boot_id.as_str()) {
            _ if self.pid_namespace.is_empty() => Judge::Unknown,
            // Some sandboxes have no boot id: there the host name has to do.
            ("", "") if same_host && same_namespace => Judge::Here,
            ("", _) => Judge::Elsewhere,
            (_, "") => Judge::Unknown,
            (its, ours) if its == ours && same_namespace => Judge::Here,
            (its, ours) if its != ours && same_host => Judge::BeforeReboot,
            _ => Judge::Elsewhere,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here() -> Identity {
        Identity { host: "h".into(), boot_id: "b".into(), pid_namespace: "pid:[1]".into() }
    }

    fn attempt_of(by: &Identity) -> Attempt {
        Attempt {
            attempt: 1,
            started_at: crate::clock::Timestamp::from_millis(0),
            ended_at: None,
            outcome: None,
            reason: None,
            exit_code: None,
            signal: None,
            usage: None,
            log_path: None,
            session_id: None,
            work: None,
            host: by.host.clone(),
            boot_id: by.boot_id.clone(),
            pid_namespace: by.pid_namespace.clone(),
            pid: 1,
            repeatable: false,
            dependencies: Vec::new(),
            after: None,
        }
    }

    #[test]
    fn the_boot_proves_the_machine_and_a_host_name_may_change() {
        let renamed = Identity { host: "other".into(), ..here() };
        assert_eq!(here().judge(&attempt_of(&renamed)), Judge::Here);
        let container = Identity { pid_namespace: "pid:[2]".into(), ..here() };
        assert_eq!(here().judge(&attempt_of(&container)), Judge::Elsewhere);
        let before = Identity { boot_id: "a".into(), ..here() };
        assert_eq!(here().judge(&attempt_of(&before)), Judge::BeforeReboot);
        let machine = Identity { host: "other".into(), ..before };
        assert_eq!(here().judge(&attempt_of(&machine)), Judge::Elsewhere);
    }

    #[test]
    fn where_there_is_no_boot_id_the_host_name_has_to_do() {
        let sandbox = Identity { boot_id: String::new(), ..here() };
        assert_eq!(sandbox.judge(&attempt_of(&sandbox)), Judge::Here);
        let renamed = Identity { host: "other".into(), ..sandbox.clone() };
        assert_eq!(sandbox.judge(&attempt_of(&renamed)), Judge::Elsewhere);
        assert_eq!(sandbox.judge(&attempt_of(&here())), Judge::Unknown);
    }

    #[test]
    fn without_proc_nothing_is_judged() {
        let blind = Identity { boot_id: String::new(), pid_namespace: String::new(), ..here() };
        assert_eq!(blind.judge(&attempt_of(&here())), Judge::Unknown);
        assert_eq!(blind.judge(&attempt_of(&blind)), Judge::Unknown);
        assert_eq!(here().judge(&attempt_of(&blind)), Judge::Elsewhere);
    }

    #[test]
    fn a_cache_counts_unless_its_machine_was_started_again() {
        let (_dir, store) = crate::store::testing::store();
        let of = |host: &str, boot_id: &str| {
            let origin = store.origin();
            let host = if host.is_empty() { origin.host.clone() } else { host.to_owned() };
            let boot_id = if boot_id.is_empty() { origin.boot_id.clone() } else { boot_id.to_owned() };
            Origin { host, boot_id, ..origin }
        };
        assert!(of("", "").counts_beside(&store.origin()));
        assert!(of("a-container", "").counts_beside(&store.origin()), "the boot proves the machine");
        assert!(of("another", "another").counts_beside(&store.origin()));
        assert!(!of("", "another").counts_beside(&store.origin()));
        assert!(!Origin { store: "another".to_owned(), ..of("", "") }.counts_beside(&store.origin()));
        assert!(!Origin { schema_version: 2, ..of("", "") }.counts_beside(&store.origin()));
    }
}
