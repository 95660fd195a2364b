//! Takes out of a session what differs from run to run, from machine to machine and from user to user.

use crate::support::Project;

/// In a shape `9` is a digit, `#` some digits, `x` a hexadecimal digit; all else is itself.
const SHAPES: [(&str, &str); 21] = [
    ("2099-99-99T99:99:99.999Z", "[TIME]"),
    ("2099-99-99T99:99:99Z", "[TIME]"),
    ("done/2099-99-99", "done/[DAY]"),
    ("archive/2099-99", "archive/[MONTH]"),
    ("-20999999-999999-xxxxxxxx", "-[STAMP]"),
    ("pid:[#]", "pid:[N]"),
    ("(pid #)", "(pid [PID])"),
    ("kill -CONT #", "kill -CONT [PID]"),
    ("[HOST]:#", "[HOST]:[PID]"),
    ("took #.99 s", "took [N] s"),
    ("took         #.9 s", "took         [N] s"),
    ("  #.99 s", "  [N] s"),
    ("after #.99 s", "after [N] s"),
    ("cpu #.99 s", "cpu [N] s"),
    ("memory # KiB", "memory [N] KiB"),
    ("has # free bytes", "has [N] free bytes"),
    ("old-host:#", "old-host:[PID]"),
    ("  for # s  ", "  for [AGE]  "),
    ("  for # min # s  ", "  for [AGE]  "),
    ("  for # h # min  ", "  for [AGE]  "),
    ("(# bytes of files)", "([N] bytes of files)"),
];

/// Numbered in the order of their appearance, so that equal ones are seen to be equal.
const NUMBERED: [(&str, &str); 2] = [
    ("xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx", "UUID"),
    ("xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", "SHA256"),
];

/// Keys of documents whose numbers differ.
const KEYS: [&str; 9] = [
    "total_duration_s",
    "pid",
    "duration_s",
    "cpu_user_s",
    "cpu_system_s",
    "max_rss_bytes",
    "bytes",
    "wall_s",
    "size_bytes",
];

pub fn redact(project: &Project, text: &str) -> String {
    let mut text = places(project, text);
    for (shape, instead) in SHAPES {
        text = replace(&text, shape, |_| instead.to_owned());
    }
    for (shape, name) in NUMBERED {
        let mut seen: Vec<String> = Vec::new();
        text = replace(&text, shape, |found| {
            let at = seen.iter().position(|earlier| earlier == found).unwrap_or_else(|| {
                seen.push(found.to_owned());
                seen.len() - 1
            });
            format!("[{name} {}]", at + 1)
        });
    }
    KEYS.iter().fold(text, |text, key| without_number(&text, key))
}

/// Names of this machine.
fn places(project: &Project, text: &str) -> String {
    let dir = project.dir().canonicalize().unwrap();
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let text = text
        .replace(dir.to_str().unwrap(), "[DIR]")
        .replace(project.dir().to_str().unwrap(), "[DIR]")
        .replace(env!("CARGO_MANIFEST_DIR"), "[REPOSITORY]")
        .replace(&format!("\"host\": \"{host}\""), "\"host\": \"[HOST]\"")
        .replace(&format!("\"host\":\"{host}\""), "\"host\":\"[HOST]\"")
        .replace(&format!(" on {host} "), " on [HOST] ");
    replace(&text, &format!("  {host}:#"), |_| "  [HOST]:[PID]".to_owned())
}

/// Replaces what has the shape and is no part of a longer word of its kind.
fn replace(text: &str, shape: &str, mut instead: impl FnMut(&str) -> String) -> String {
    let bytes = text.as_bytes();
    let (mut at, mut kept, mut out) = (0, 0, String::new());
    while at < bytes.len() {
        match end_of(&bytes[at..], shape.as_bytes()) {
            Some(length) => {
                out.push_str(&text[kept..at]);
                out.push_str(&instead(&text[at..at + length]));
                at += length;
                kept = at;
            }
            None => at += 1,
        }
    }
    out + &text[kept..]
}

fn end_of(bytes: &[u8], shape: &[u8]) -> Option<usize> {
    let mut at = 0;
    for wanted in shape {
        let found = *bytes.get(at)?;
        let fits = match wanted {
            b'9' | b'#' => found.is_ascii_digit(),
            b'x' => found.is_ascii_digit() || (b'a'..=b'f').contains(&found),
            _ => found == *wanted,
        };
        if !fits {
            return None;
        }
        at += 1;
        while *wanted == b'#' && bytes.get(at).is_some_and(u8::is_ascii_digit) {
            at += 1;
        }
    }
    Some(at)
}

/// `"key":12` and `"key": 1.5` without the number.
fn without_number(text: &str, key: &str) -> String {
    let quoted = format!("\"{key}\":");
    let mut parts = text.split(quoted.as_str());
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let value = part.trim_start_matches(' ');
        let rest = value.trim_start_matches(|c: char| c.is_ascii_digit() || ".e-".contains(c));
        out.push_str(&quoted);
        out.push_str(&part[..part.len() - value.len()]);
        out.push_str(if rest.len() < value.len() { "[N]" } else { "" });
        out.push_str(rest);
    }
    out
}

#[test]
fn equal_values_keep_equal_names_and_the_rest_of_the_text_is_left() {
    let project = Project::without_root();
    let (one, two) = ("01234567-89ab-cdef-0123-456789abcdef", "11234567-89ab-cdef-0123-456789abcdef");
    let text = format!(
        "{}/a {one} {two} {one} 2026-11-30T17:34:01.888Z 2999-01-01T00:00:00.000Z \"pid\": 12, \"duration_s\":0.5e-3}} \"pid\":null",
        project.dir().display()
    );
    let want = "[DIR]/a [UUID 1] [UUID 2] [UUID 1] [TIME] 2999-01-01T00:00:00.000Z \"pid\": [N], \"duration_s\":[N]} \"pid\":null";
    assert_eq!(redact(&project, &text), want);
}
