//! An error with the chain of its causes, on one line: what is shown, traced and recorded of it.

use std::error::Error;

/// The text of an error and of every cause behind it, each once, joined by `: `.
#[must_use]
pub fn causes(error: &dyn Error) -> String {
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
    struct Opening(#[source] std::io::Error);

    #[derive(Debug, thiserror::Error)]
    #[error(transparent)]
    struct Transparent(#[from] Opening);

    #[test]
    fn the_system_s_words_are_there_and_nothing_stands_twice() {
        let error = Transparent(Opening(std::io::Error::other("disk on fire")));
        assert_eq!(causes(&error), "error opening `x`: disk on fire");
    }
}
