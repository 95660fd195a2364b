//! git's exit code, and from its words (in the C locale) what it did or why it failed.

use super::{Evidence, Reading, Verdict};
use crate::job::Code;

/// What git says when it fails, and the word for it; the first that is found counts.
const FAILURES: [(&str, Code); 18] = [
    ("CONFLICT (", Code::MergeConflict),
    ("nothing to commit", Code::NothingToCommit),
    ("nothing added to commit", Code::NothingToCommit),
    ("no changes added to commit", Code::NothingToCommit),
    ("index.lock': File exists", Code::IndexLocked),
    (".lock': File exists", Code::RefLocked),
    ("not a git repository", Code::NotARepository),
    ("detected dubious ownership", Code::DubiousOwnership),
    ("terminal prompts disabled", Code::Authentication),
    ("could not read Username", Code::Authentication),
    ("could not read Password", Code::Authentication),
    ("unable to get password from user", Code::Authentication),
    ("Authentication failed", Code::Authentication),
    // ssh names the ways that it tried: `Permission denied (publickey,password)`.
    (": Permission denied (", Code::Authentication),
    ("Host key verification failed", Code::Authentication),
    ("[rejected]", Code::Rejected),
    ("Please tell me who you are", Code::IdentityUnknown),
    ("would be overwritten by", Code::LocalChanges),
];

/// Options of git itself that take a value.
const WITH_VALUE: [&str; 6] = ["-C", "-c", "--git-dir", "--work-tree", "--namespace", "--exec-path"];

/// Reads a git run.
#[must_use]
pub(crate) fn read(evidence: &Evidence<'_>) -> Reading {
    let mut reading = Reading::of_exit_code(evidence);
    let out = String::from_utf8_lossy(&evidence.stdout.ending()).into_owned();
    let err = String::from_utf8_lossy(&evidence.stderr.ending()).into_owned();
    if let Some(operation) = operation(evidence.args) {
        reading.metadata.insert("git_command".to_owned(), operation.clone().into());
        reading.git_command = Some(operation);
    }
    let conflicts: Vec<&str> = out.lines().filter(|line| line.starts_with("CONFLICT (")).take(100).collect();
    if !conflicts.is_empty() {
        reading.metadata.insert("conflicts".to_owned(), conflicts.clone().into());
    }
    if reading.verdict == Verdict::Success {
        if let Some((branch, commit)) = out.lines().find_map(committed) {
            reading.metadata.insert("branch".to_owned(), branch.into());
            reading.metadata.insert("commit".to_owned(), commit.into());
        }
        return reading;
    }
    let found = FAILURES.iter().find(|(words, _)| out.contains(words) || err.contains(words));
    if let Some((words, code)) = found {
        let line = err.lines().chain(out.lines()).find(|line| line.contains(words)).unwrap_or(words);
        reading.fail(code.clone(), line.chars().take(500).collect::<String>());
    } else if let Some(line) =
        err.lines().find(|line| line.starts_with("fatal: ") || line.starts_with("git: "))
    {
        reading.fail(Code::ExitCode, line.chars().take(500).collect::<String>());
    }
    if reading.details.is_empty() {
        reading.details = super::last_lines(evidence.stdout, 20);
    }
    reading
}

/// The first argument that is not an option of git itself.
fn operation(args: &[String]) -> Option<String> {
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        if WITH_VALUE.contains(&arg.as_str()) {
            args.next();
        } else if !arg.starts_with('-') {
            return Some(arg.clone());
        }
    }
    None
}

/// `[main 1a2b3c4] message` or `[main (root-commit) 1a2b3c4] message`.
fn committed(line: &str) -> Option<(String, String)> {
    let (head, _) = line.strip_prefix('[')?.split_once("] ")?;
    let (branch, commit) = head.rsplit_once(' ')?;
    let is_hash = commit.len() >= 4 && commit.bytes().all(|b| b.is_ascii_hexdigit());
    let branch = branch.strip_suffix(" (root-commit)").unwrap_or(branch);
    is_hash.then(|| (branch.to_owned(), commit.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::super::Report;
    use super::super::testing::read_texts;
    use super::*;
    use crate::adapter::manifest::ReaderName;

    fn read(code: i32, out: &str, err: &str) -> Reading {
        read_texts(ReaderName::Git, code, out.as_bytes(), err.as_bytes(), &Report::NotNamed)
    }

    #[test]
    fn a_commit_is_read_with_its_branch_and_hash() {
        let reading = read(0, "[feature/x (root-commit) 1a2b3c4] message [a] b\n 1 file changed\n", "");
        assert_eq!(reading.metadata["commit"], "1a2b3c4");
        assert_eq!(reading.metadata["branch"], "feature/x");
        assert_eq!(reading.git_command.as_deref(), Some("commit"));
    }

    #[test]
    fn failures_get_the_word_for_what_git_says() {
        let code = |out, err| read(1, out, err).reason.unwrap().code;
        assert_eq!(
            code("Auto-merging a\nCONFLICT (content): Merge conflict in a\n", ""),
            Code::MergeConflict
        );
        assert_eq!(code("nothing to commit, working tree clean\n", ""), Code::NothingToCommit);
        assert_eq!(code("", "fatal: Unable to create '/r/.git/index.lock': File exists."), Code::IndexLocked);
        assert_eq!(
            code("", "fatal: could not read Username for 'x': terminal prompts disabled"),
            Code::Authentication
        );
        assert_eq!(code("", "error: something else"), Code::ExitCode);
    }
}
