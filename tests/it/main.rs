//! The integration tests, one binary.
#![expect(clippy::disallowed_methods, reason = "a test plays the user, the editor and the crash")]

mod generated;
