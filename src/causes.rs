//! An error with the chain of its causes, on one line, as it is shown, traced and recorded. Nothing is decided by that text:
//! whether the system lacked something is read from the causes themselves.

use std::error::Error;
use std::io;

/// A resource that the system lacked; the lack passes by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shortage {
    /// Open files, of this process or of the machine.
    Descriptors,
    /// Processes, of this user, group or machine.
    Processes,
    /// Memory.
    Memory,
    /// Pseudo-terminals.
    Terminals,
}

impl Shortage {
    const ALL: [(i32, Self); 4] = [
        (libc::EMFILE, Self::Descriptors),
        (libc::ENFILE, Self::Descriptors),
        (libc::EAGAIN, Self::Processes),
        (libc::ENOMEM, Self::Memory),
    ];

    /// The shortage that a number of the system means.
    #[must_use]
    pub fn from_errno(errno: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|(of, _)| *of == errno).map(|(_, shortage)| shortage)
    }

    /// The shortage behind an error, if one of its causes is one of the system's.
    #[must_use]
    pub fn behind(error: &(dyn Error + 'static)) -> Option<Self> {
        let number = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
        number.and_then(Self::from_errno).or_else(|| error.source().and_then(Self::behind))
    }

    /// The shortage of another program such as git, known only by its last words.
    #[must_use]
    pub fn reported_by(program: &str) -> Option<Self> {
        let said = program.trim_end();
        let tells = |errno: i32| {
            let ours = io::Error::from_raw_os_error(errno).to_string();
            let words = ours.split(" (os error").next().unwrap_or(&ours);
            // The dynamic linker has a number instead.
            let of_linker = format!(": Error {errno}");
            [words, &of_linker].into_iter().any(|end| said.ends_with(end))
        };
        Self::ALL.into_iter().find(|(errno, _)| tells(*errno)).map(|(_, shortage)| shortage)
    }
}

/// The text of an error and of every cause behind it, each once, joined by `: `.
#[must_use]
pub(crate) fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        // A transparent error repeats its cause.
        if !text.ends_with(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("error opening `x`")]
    struct Opening(#[source] io::Error);

    #[derive(Debug, thiserror::Error)]
    #[error(transparent)]
    struct Transparent(#[from] Opening);

    #[test]
    fn the_system_s_words_are_there_and_nothing_stands_twice() {
        let error = Transparent(Opening(io::Error::other("disk on fire")));
        assert_eq!(causes(&error), "error opening `x`: disk on fire");
    }

    #[test]
    fn a_shortage_is_found_behind_whatever_wraps_it_and_in_no_words() {
        let behind = |errno| {
            let source = io::Error::from_raw_os_error(errno);
            Shortage::behind(&Transparent(Opening(source)))
        };
        assert_eq!(
            [libc::EMFILE, libc::ENFILE, libc::EAGAIN, libc::ENOMEM, libc::EIO].map(behind),
            [
                Some(Shortage::Descriptors),
                Some(Shortage::Descriptors),
                Some(Shortage::Processes),
                Some(Shortage::Memory),
                None
            ]
        );
        let words = io::Error::other("Too many open files (os error 24)");
        assert_eq!(Shortage::behind(&Opening(words)), None);
    }

    #[test]
    fn the_shortage_of_another_program_is_read_at_the_end_of_what_it_said_and_in_no_name() {
        for (said, told) in [
            ("fatal: x: Too many open files\n", Some(Shortage::Descriptors)),
            ("libz.so.1: cannot open shared object file: Error 24", Some(Shortage::Descriptors)),
            ("fatal: cannot fork: Resource temporarily unavailable", Some(Shortage::Processes)),
            ("error x: Cannot allocate memory", Some(Shortage::Memory)),
            ("`Too many open files` is not a directory", None),
            ("error opening `Cannot allocate memory`: No such file or directory", None),
            ("error x: Input/output error", None),
        ] {
            assert_eq!(Shortage::reported_by(said), told, "{said}");
        }
    }
}
