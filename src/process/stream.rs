//! The two streams of a tool.

/// Which of the tool's two streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the streams'")]
pub enum Stream {
    Stdout,
    Stderr,
}
