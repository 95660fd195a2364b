//! No declared secret stands in any file that the engine writes, in no form; a literal one stays in the job file alone.

use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::{Project, Said, fake_tool};

/// The variables of the engine: by the redaction list, named by `from_env`, by the manifest, in an address.
const ENVIRONMENT: [(&str, &str); 4] = [
    ("CANARY_API_KEY", "key+canary/01 \"quoted\" \\ <it's & $x>"),
    ("HARMLESS", "reference-canary-02-äöü€😀?>"),
    ("ODD_NAME", "manifest&canary=03"),
    ("DATABASE_URL", "postgres://app:address-canary-05@db/app"),
];

/// Stands in the job file.
const LITERAL: &str = "literal-canary-04\nof two lines";

fn canaries() -> [&'static str; 5] {
    [ENVIRONMENT[0].1, ENVIRONMENT[1].1, ENVIRONMENT[2].1, "address-canary-05", LITERAL]
}

/// What the tool does: it hands on its prompt, and prints all it knows in every form, wrapped and unwrapped, on both streams.
const TOOL: &str = r#"
cat > prompt-as-given.txt
cat prompt-as-given.txt
everything() {
  for value in "$CANARY_API_KEY" "$REFERENCE" "$ODD_NAME" "$DATABASE_URL" "$MY_PASSWORD" address-canary-05; do
    printf '<%s>\n' "$value"
    for before in '' a ab abc 'user:name:'; do
      printf '%s%s:behind' "$before" "$value" | base64
      printf '%s%s' "$before" "$value" | base64 -w0
      printf '%s%s\n' "$before" "$value" | base64 -w0 | tr '+/' '-_'
      echo
    done
  done
  cat encoded.txt
  # What shells and Python themselves write.
  bash -xc ': "$CANARY_API_KEY" "$MY_PASSWORD" "it'"'"'s $REFERENCE"' 2>&1
  bash -c 'printf "%q %q\n" "$CANARY_API_KEY" "$MY_PASSWORD"; export -p'
  python3 -c 'import os, shlex, html
for name in "CANARY_API_KEY", "REFERENCE", "MY_PASSWORD":
    value = os.environ[name]
    print(repr(value), ascii(value), repr(value.encode()), shlex.quote(value), html.escape(value), value.encode().hex())'
}
everything
everything >&2
for value in "$CANARY_API_KEY" "$ODD_NAME" "$MY_PASSWORD" "$(printf %s "$MY_PASSWORD" | base64)"; do
  "$FAKE_TOOL" split-print "$value"
done
"#;

fn base64(bytes: &[u8]) -> String {
    let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits: Vec<usize> =
        bytes.iter().flat_map(|b| (0..8).rev().map(move |n| usize::from(b >> n & 1))).collect();
    let sextets = bits.chunks(6).map(|six| (0..6).fold(0, |n, at| n << 1 | six.get(at).unwrap_or(&0)));
    sextets.map(|sextet| char::from(letters[sextet])).collect()
}

fn in_json(text: &str) -> String {
    let quoted = serde_json::to_string(text).unwrap();
    quoted[1..quoted.len() - 1].to_owned()
}

fn in_ascii_json(text: &str) -> String {
    let unit = |c: char| match c {
        _ if c.is_ascii() => c.to_string(),
        _ => c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect(),
    };
    in_json(text).chars().map(unit).collect()
}

fn in_url(text: &str, escaped: fn(u8) -> String) -> String {
    let encode = |byte: u8| match byte {
        _ if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => char::from(byte).to_string(),
        _ => escaped(byte),
    };
    text.bytes().map(encode).collect()
}

fn in_markup(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// As Python's `repr` of a text.
fn in_python(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n")
}

fn in_hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

/// The forms of a value that are not base64.
fn written_out(value: &str) -> [String; 11] {
    [
        value.to_owned(),
        in_json(value),
        in_ascii_json(value),
        in_json(&in_json(value)),
        in_ascii_json(&in_ascii_json(value)),
        in_url(value, |byte| format!("%{byte:02X}")),
        in_url(value, |byte| format!("%{byte:02x}")),
        in_markup(value),
        in_python(value),
        in_hex(value),
        value.replace('\'', "'\\''"),
    ]
}

/// Everything that must stand nowhere: a line of a literal of several lines counts, too.
fn forbidden() -> Vec<String> {
    let mut all = Vec::new();
    for value in canaries().into_iter().flat_map(|value| value.lines().chain([value])) {
        all.extend(written_out(value));
        for before in 0..3 {
            let encoded = base64(&[&vec![0; before], value.as_bytes()].concat());
            let core = &encoded[(before * 8).div_ceil(6)..(before + value.len()) * 8 / 6];
            all.push(core.to_owned());
            all.push(core.replace('+', "-").replace('/', "_"));
        }
    }
    all
}

#[track_caller]
fn shows_nothing(what: &str, text: &str) {
    // Base64 that goes over several lines is one text.
    let joined = text.replace("\\r\\n", "").replace("\\n", "").replace(['\r', '\n'], "");
    for form in forbidden() {
        assert!(!text.contains(&form) && !joined.contains(&form), "{what} shows {form:?}:\n{text}");
    }
}

/// Looks through every file below the root but the job files, names included, and gives how many there are.
#[track_caller]
fn no_file_shows_anything(project: &Project, job_files: &[&str]) -> usize {
    let mut seen = 0;
    for entry in walkdir::WalkDir::new(project.root("")) {
        let entry = entry.unwrap();
        let name = entry.path().strip_prefix(project.root("")).unwrap().to_string_lossy().into_owned();
        shows_nothing("a name", &name);
        let is_job_file =
            name.starts_with("jobs/") && job_files.iter().any(|id| name.ends_with(&format!("/{id}.json")));
        if entry.file_type().is_file() && !is_job_file {
            seen += 1;
            shows_nothing(&name, &String::from_utf8_lossy(&std::fs::read(entry.path()).unwrap()));
        }
    }
    seen
}

/// A project with an adapter `leaky`, and a job of it that fails.
fn leaky(stdin: &str) -> (Project, Value) {
    let project = Project::new();
    let adapter = json!({"id": "leaky", "executable": "sh", "args": ["tool.sh"], "stdin": stdin,
        "secrets": ["ODD_NAME"]});
    std::fs::create_dir_all(project.root("adapters")).unwrap();
    std::fs::write(project.root("adapters/leaky.json"), adapter.to_string()).unwrap();
    std::fs::write(project.path("tool.sh"), format!("{TOOL}exit 3\n")).unwrap();
    let encoded: Vec<String> = canaries().into_iter().flat_map(written_out).collect();
    std::fs::write(project.path("encoded.txt"), encoded.join("\n") + "\n").unwrap();
    let prompt = format!("use {} and {} and {}", canaries()[0], canaries()[1], LITERAL);
    let env =
        json!({"REFERENCE": {"from_env": "HARMLESS"}, "MY_PASSWORD": LITERAL, "FAKE_TOOL": fake_tool()});
    let job = json!({"job_id": "j", "tool": "leaky", "env": env, "metadata": {"prompt": prompt}});
    (project, job)
}

/// The tool had everything, and its output was kept but for the secrets.
#[track_caller]
fn was_told_everything_and_logged(project: &Project) {
    let prompt = std::fs::read_to_string(project.path("prompt-as-given.txt")).unwrap();
    for value in [canaries()[0], canaries()[1], LITERAL] {
        assert!(prompt.contains(value) || prompt.contains(&in_json(value)), "{prompt}");
    }
    let log = std::fs::read_to_string(project.root("state/logs/j.1.log")).unwrap();
    assert!(log.contains("<[redacted]>\n"), "{log}");
    assert!(log.contains("<postgres://app:[redacted]@db/app>"), "{log}");
    // Six values on two streams, each in one plain and fifteen encoded texts, eleven forms of five of them, and what other
    // programs write of three.
    assert!(log.matches("[redacted]").count() >= 2 * (6 * 16 + 5 * 11 + 3 * 6), "{log}");
}

#[track_caller]
fn says_nothing(said: &Said) {
    shows_nothing("standard output", &said.out);
    shows_nothing("standard error", &said.err);
}

#[test]
fn a_direct_run_writes_no_secret_in_any_form_into_any_file() {
    for (stdin, output) in [("prompt", "always"), ("request", "failure")] {
        let (project, job) = leaky(stdin);
        let name = project.job(&job);
        let said = project.engine_with(&["run-job", "--output", output, "--job-file", &name], &ENVIRONMENT);
        assert_eq!(said.code, 3, "{}", said.err);
        says_nothing(&said);
        was_told_everything_and_logged(&project);
        assert!(no_file_shows_anything(&project, &["j"]) >= 4);
        let record = project.record("j").to_string();
        assert!(record.matches("[redacted]").count() > 50, "{record}");
        for args in [&["show", "--json", "j"][..], &["log", "j"], &["events"], &["explain", "j"]] {
            says_nothing(&project.engine(args));
        }
    }
}

#[test]
fn a_queued_job_and_its_retries_write_no_secret_into_any_file() {
    let (project, mut job) = leaky("prompt");
    job["metadata"]["retry_policy"] = json!("retry_same");
    job["metadata"]["max_retries"] = json!(1);
    job["metadata"]["backoff"] = json!({"strategy": "immediate"});
    job["key"] = json!("once");
    let mut submit = project.command(&["submit", "--json", "-"]);
    let mut submit = submit.stdin(Stdio::piped()).spawn().unwrap();
    submit.stdin.take().unwrap().write_all(job.to_string().as_bytes()).unwrap();
    let output = submit.wait_with_output().unwrap();
    assert!(output.status.success());
    shows_nothing("submit", &String::from_utf8_lossy(&output.stdout));
    shows_nothing("submit", &String::from_utf8_lossy(&output.stderr));
    no_file_shows_anything(&project, &["j"]);
    let said = project.engine_with(&["work", "--drain", "--slots", "1"], &ENVIRONMENT);
    assert_eq!(said.code, 1, "{}", said.err);
    says_nothing(&said);
    was_told_everything_and_logged(&project);
    assert_eq!(project.record("j")["attempts"].as_array().unwrap().len(), 2);
    assert!(no_file_shows_anything(&project, &["j"]) >= 6);
}

#[test]
fn a_prompt_file_holds_no_secret_while_the_tool_and_its_children_read_the_whole_prompt() {
    let (project, mut job) = leaky("none");
    let adapter = json!({"id": "leaky", "executable": "sh", "secrets": ["ODD_NAME"],
        "args": ["-c", "sh -c 'exec 3>&- 4>&- 5>&- 6>&-; cat \"$0\"' \"$0\" > got.txt", "{prompt_file}"]});
    std::fs::write(project.root("adapters/leaky.json"), adapter.to_string()).unwrap();
    let name = project.job(&job);
    let said = project.engine_with(&["run-job", "--job-file", &name], &ENVIRONMENT);
    assert_eq!(said.code, 0, "{}", said.err);
    assert_eq!(std::fs::read_to_string(project.path("got.txt")).unwrap(), job["metadata"]["prompt"]);
    let shown = std::fs::read_to_string(project.root("state/prompts/j.1.md")).unwrap();
    assert_eq!(shown, "use [redacted] and [redacted] and [redacted]");
    no_file_shows_anything(&project, &["j"]);
    // Without a secret in it the tool reads the file that people can read.
    job["metadata"]["prompt"] = json!("nothing to hide");
    job["job_id"] = json!("k");
    let name = project.job(&job);
    assert_eq!(project.engine_with(&["run-job", "--job-file", &name], &ENVIRONMENT).code, 0);
    assert_eq!(std::fs::read_to_string(project.path("got.txt")).unwrap(), "nothing to hide");
    assert_eq!(std::fs::read_to_string(project.root("state/prompts/k.1.md")).unwrap(), "nothing to hide");
}

#[test]
fn a_job_that_does_not_start_tells_no_secret() {
    let (project, job) = leaky("prompt");
    for (id, exe) in [("a", format!("/absent/{}", ENVIRONMENT[2].1)), ("b", format!("/absent/{LITERAL}"))] {
        let mut job = job.clone();
        job["job_id"] = json!(id);
        job["command"] = json!({"exe": exe});
        let name = project.job(&job);
        let said = project.engine_with(&["run-job", "--json", "--job-file", &name], &ENVIRONMENT);
        assert_eq!(said.code, 127, "{}", said.err);
        assert!(
            said.json()["reason"]["message"].as_str().unwrap().contains("/absent/[redacted]"),
            "{}",
            said.out
        );
        says_nothing(&said);
    }
    no_file_shows_anything(&project, &["a", "b"]);
}

#[test]
fn a_literal_secret_is_warned_of_by_its_place_and_without_its_value() {
    let project = Project::new();
    let text = "{\"job_id\": \"j\", \"tool\": \"shell\", \"command\": {\"exe\": \"true\"},\n \"env\": {\n  \
                \"MY_TOKEN\": \"literal-value-9\",\n  \"KEYBOARD\": \"literal-value-8\", \"SHORT_KEY\": \"short\"}}";
    std::fs::write(project.path("j.json"), text).unwrap();
    let place = "j.json:3:15: warning: /env/MY_TOKEN: ";
    let advice =
        "the value looks like a secret and is in the job file; {\"from_env\": \"MY_TOKEN\"} keeps it out";
    let out = project.engine(&["validate", "j.json"]).exits(0);
    assert_eq!(out, format!("{place}{advice}\nj.json: valid\n"));
    let said = project.engine(&["validate", "--json", "j.json"]);
    assert!(!said.out.contains("literal-value"), "{}", said.out);
    let warnings = &said.json()["warnings"];
    let want = json!([{"pointer": "/env/MY_TOKEN", "line": 3, "column": 15, "message": advice,
        "expected": null, "did_you_mean": null}]);
    assert_eq!((warnings, said.code), (&want, 0));
    let submitted = project.engine(&["submit", "j.json"]);
    assert!(submitted.err.contains(&format!("j.json:3:15: /env/MY_TOKEN: {advice}")), "{}", submitted.err);
    std::fs::write(project.path("k.json"), text.replace("\"j\"", "\"k\"")).unwrap();
    let ran = project.engine(&["run-job", "--job-file", "k.json"]);
    assert!(ran.err.contains(&format!("warning: /env/MY_TOKEN: {advice}")), "{}", ran.err);
    for said in [submitted, ran] {
        assert!(said.code == 0 && !said.err.contains("literal-value") && !said.out.contains("literal-value"));
    }
    assert!(!contains_below(&project.root("state"), "literal-value"));
}

fn contains_below(dir: &Path, text: &str) -> bool {
    let files =
        walkdir::WalkDir::new(dir).into_iter().map(Result::unwrap).filter(|e| e.file_type().is_file());
    files.into_iter().any(|e| String::from_utf8_lossy(&std::fs::read(e.path()).unwrap()).contains(text))
}
