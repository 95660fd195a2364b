//! What must hold after every case, whatever it was. Everything that does not hold is collected, so that all is told at once.

use std::path::Path;

use engine::job::RecordLine;

use crate::bench::{Bench, CANARY};

/// The living processes that carry a text in their environment or command line.
pub fn processes_with(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let read = |file: &str| std::fs::read(entry.path().join(file)).unwrap_or_default();
        let holds = |file: &str| read(file).windows(text.len()).any(|window| window == text.as_bytes());
        let stat = String::from_utf8_lossy(&read("stat")).into_owned();
        let is_zombie = stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z'));
        if pid != std::process::id() && !is_zombie && (holds("environ") || holds("cmdline")) {
            let line = String::from_utf8_lossy(&read("cmdline")).replace('\0', " ");
            found.push(format!("{pid} {}", line.chars().take(120).collect::<String>()));
        }
    }
    found
}

/// The record is whole, and each of its lines is one.
pub fn record(bench: &Bench, job: &str, problems: &mut Vec<String>) {
    let lines = bench.record_of(job);
    if lines.is_empty() {
        problems.push(format!("there is no record of {job}"));
    }
    for line in lines {
        if let Err(error) = serde_json::from_str::<RecordLine>(&line) {
            problems.push(format!("a line of the record is none: {error}: {line}"));
        }
    }
}

/// Nothing in the project, in the worktrees, nor what the engine printed, holds the key, as it is or in base64.
pub fn no_secret(bench: &Bench, printed: &str, problems: &mut Vec<String>) {
    let forms = forms(CANARY);
    let mut look = |what: &str, bytes: &[u8]| {
        for form in &forms {
            if bytes.windows(form.len()).any(|window| window == form.as_bytes()) {
                problems.push(format!("the key is in {what}, as `{form}`"));
            }
        }
    };
    look("what was printed", printed.as_bytes());
    let mut files = 0;
    let mut look_at = |path: &Path| {
        files += 1;
        look(&path.display().to_string(), path.to_string_lossy().as_bytes());
        if path.is_file() && !path.is_symlink() {
            look(&path.display().to_string(), &std::fs::read(path).unwrap());
        }
    };
    walk(&bench.path("project"), &mut look_at);
    let worktrees = bench.path("home/.cache/engine");
    if worktrees.exists() {
        walk(&worktrees, &mut look_at);
    }
    assert!(files > 10, "only {files} files were looked at");
}

fn walk(dir: &Path, look: &mut dyn FnMut(&Path)) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() {
            walk(&path, look);
        } else {
            look(&path);
        }
    }
}

/// The text, and what of it is in base64 wherever it stands in what is encoded.
fn forms(text: &str) -> Vec<String> {
    let encoded = (0..3).map(|before| {
        let bytes = [vec![b'x'; before], text.as_bytes().to_vec()].concat();
        let whole = &bytes[..bytes.len() / 3 * 3];
        // The first characters hold bits of what stands before.
        base64(whole)[(before * 8).div_ceil(6)..].to_owned()
    });
    std::iter::once(text.to_owned()).chain(encoded).collect()
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks_exact(3) {
        let bits = u32::from(three[0]) << 16 | u32::from(three[1]) << 8 | u32::from(three[2]);
        text.extend([18, 12, 6, 0].map(|shift| char::from(DIGITS[(bits >> shift & 63) as usize])));
    }
    text
}

#[test]
fn a_key_is_found_in_base64_wherever_it_stands() {
    assert_eq!(base64(b"ab-key-abc.."), "YWIta2V5LWFiYy4u");
    let forms = forms("key-abc");
    for (before, encoded) in ["a2V5LWFiYy4u", "eGtleS1hYmMu", "eHhrZXktYWJj"].into_iter().enumerate() {
        assert!(encoded.contains(&forms[before + 1]), "{before} {forms:?}");
    }
}
