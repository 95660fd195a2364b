//! Which machine, boot and pid namespace this process is in: recorded with every attempt.
//!
//! Recovery acts alone only on attempts of the same three, or of the same machine before a reboot.

use crate::job::Attempt;

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

/// Whether the runner of an attempt can be judged from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judge {
    /// Same machine, boot and namespace: a free lease proves its death.
    Here,
    /// Same machine, another boot: it is dead.
    BeforeReboot,
    /// Another machine or namespace: only a person can say.
    Elsewhere,
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
        if attempt.host != self.host {
            Judge::Elsewhere
        } else if attempt.boot_id != self.boot_id {
            Judge::BeforeReboot
        } else if attempt.pid_namespace == self.pid_namespace {
            Judge::Here
        } else {
            Judge::Elsewhere
        }
    }
}
