//! How large the context of an agent is, and which files are left out where it is too large.
//!
//! Formulas of the historical estimator: a token is four characters; the priority files stay, then the smallest come first.
//! Its bound subtracted the priority files twice; this one counts them once.

/// What the context may hold, in tokens.
pub(crate) const MOST_TOKENS: u64 = 128_000;

/// A file that an agent would get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct File {
    /// Its path.
    pub(crate) path: String,
    /// Its length in characters.
    pub(crate) chars: u64,
    /// True if it is never left out.
    pub(crate) is_priority: bool,
}

/// A context that fits, and how it came about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Context {
    /// The files that stay, in the order in which they were given.
    pub(crate) files: Vec<String>,
    /// The tokens of those and of the rest of the prompt.
    pub(crate) estimated_tokens: u64,
    /// The number of those files.
    pub(crate) file_count: usize,
    /// The characters of those files and of the rest of the prompt.
    pub(crate) total_chars: u64,
    /// True if files were left out.
    pub(crate) optimization_applied: bool,
    /// The files that were left out, by name.
    pub(crate) pruned_files: Vec<String>,
}

/// The tokens of a text.
pub(crate) fn tokens(chars: u64) -> u64 {
    chars / 4
}

/// The bound after a context was too large: that of the model, or half of what it was, so that it does get smaller.
pub(crate) fn reduced_bound(files: &[File], other_chars: u64) -> u64 {
    let chars = files.iter().fold(other_chars, |sum, file| sum.saturating_add(file.chars));
    (tokens(chars) / 2).min(MOST_TOKENS)
}

/// Leaves files out until the rest fits the bound, as far as the priority files and the rest of the prompt do.
pub(crate) fn prune(files: &[File], other_chars: u64, bound: u64) -> Context {
    let sum =
        |files: &[&File]| files.iter().fold(other_chars, |chars, file| chars.saturating_add(file.chars));
    let all: Vec<&File> = files.iter().collect();
    if tokens(sum(&all)) <= bound {
        return context(&all, sum(&all), Vec::new());
    }
    let mut others: Vec<&File> = files.iter().filter(|file| !file.is_priority).collect();
    others.sort_by(|a, b| (a.chars, &a.path).cmp(&(b.chars, &b.path)));
    let mut kept: Vec<&File> = files.iter().filter(|file| file.is_priority).collect();
    let mut pruned = Vec::new();
    for file in others {
        if tokens(sum(&kept).saturating_add(file.chars)) <= bound {
            kept.push(file);
        } else {
            pruned.push(file.path.clone());
        }
    }
    kept.sort_by_key(|kept| files.iter().position(|file| std::ptr::eq(file, *kept)));
    pruned.sort();
    context(&kept, sum(&kept), pruned)
}

fn context(kept: &[&File], total_chars: u64, pruned_files: Vec<String>) -> Context {
    Context {
        files: kept.iter().map(|file| file.path.clone()).collect(),
        estimated_tokens: tokens(total_chars),
        file_count: kept.len(),
        total_chars,
        optimization_applied: !pruned_files.is_empty(),
        pruned_files,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(given: &[(&str, u64, bool)]) -> Vec<File> {
        let file = |&(path, chars, is_priority): &(&str, u64, bool)| File {
            path: path.to_owned(),
            chars,
            is_priority,
        };
        given.iter().map(file).collect()
    }

    #[test]
    fn what_fits_stays_whole() {
        let given = files(&[("b", 400, false), ("a", 399, true)]);
        let context = prune(&given, 1, 200);
        assert_eq!(
            (context.files, context.estimated_tokens, context.file_count),
            (vec!["b".into(), "a".into()], 200, 2)
        );
        assert_eq!((context.total_chars, context.optimization_applied), (800, false));
    }

    #[test]
    fn priority_files_stay_and_are_counted_once_and_the_smallest_of_the_others_come_first() {
        let given = files(&[
            ("large", 400, false),
            ("first", 200, true),
            ("small", 100, false),
            ("medium", 120, false),
        ]);
        // 200 + 40 + 100 + 120 = 460 characters are 115 tokens; counted twice, the priority file would leave nothing else.
        let context = prune(&given, 40, 115);
        assert_eq!(context.files, ["first", "small", "medium"]);
        assert_eq!(context.pruned_files, ["large"]);
        assert_eq!((context.estimated_tokens, context.total_chars), (115, 460));
        assert!(context.optimization_applied);
        assert_eq!(prune(&given, 40, 114).files, ["first", "small"]);
        assert_eq!(prune(&given, 40, 0).files, ["first"]);
    }

    #[test]
    fn a_reduced_context_is_smaller_than_the_one_that_was_too_large() {
        let given = files(&[("a", 300, false), ("b", 500, false)]);
        assert_eq!(prune(&given, 0, reduced_bound(&given, 0)).files, ["a"]);
        assert_eq!(reduced_bound(&files(&[("a", u64::MAX, false)]), 9), MOST_TOKENS);
    }
}
