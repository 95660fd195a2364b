//! A plug-in's answer: one JSON object on standard output, `{"success": bool, "message": text, "content": anything}`.

use crate::job::Code;
use serde_json::{Map, Value};

use super::{Evidence, Reading, Verdict};
use crate::job::parse::nearest::{LONGEST_SHOWN, nearest, unknown_keys};
use crate::job::parse::without_mark;

/// Reads the answer; a failing exit code outweighs it.
#[must_use]
pub(crate) fn read(evidence: &Evidence<'_>) -> Reading {
    let mut reading = Reading::of_exit_code(evidence);
    let Some(bytes) = evidence.stdout.whole() else {
        reading
            .fail(Code::InvalidAnswer, format!("the answer is too large: {} bytes", evidence.stdout.total()));
        return reading;
    };
    let answer: Option<Value> = serde_json::from_slice(without_mark(&bytes).trim_ascii()).ok();
    let success = answer.as_ref().and_then(|answer| answer.get("success")).and_then(Value::as_bool);
    let meant = answer.as_ref().and_then(Value::as_object).and_then(meant_as_success);
    let hint = meant.map_or_else(String::new, |key| format!("; it has `{key}`"));
    let (Some(answer), Some(success)) = (answer, success) else {
        if reading.verdict == Verdict::Success {
            let message = "standard output is not one JSON object with the key `success` (true or false)";
            reading.fail(Code::InvalidAnswer, format!("{message}{hint}"));
            reading.details = super::last_lines(evidence.stdout, 20);
        }
        return reading;
    };
    let message = answer.get("message").and_then(Value::as_str);
    if !success && reading.verdict == Verdict::Success {
        reading.fail(Code::PluginFailed, message.unwrap_or("the plug-in answered `success`: false"));
        reading.details = super::last_lines(evidence.stderr, 20);
    }
    for key in ["message", "content"] {
        if let Some(value) = answer.get(key) {
            reading.metadata.insert(key.to_owned(), value.clone());
        }
    }
    let unknown = answer.as_object().into_iter().flat_map(|answer| unknown_keys(answer, &KEYS, "the answer"));
    let warning = |text| Value::from(format!("{text}, other results belong in `content`"));
    let warnings: Vec<Value> = unknown.take(MOST_WARNINGS).map(warning).collect();
    if !warnings.is_empty() {
        reading.metadata.insert("warnings".to_owned(), warnings.into());
    }
    reading
}

const KEYS: [&str; 3] = ["success", "message", "content"];

/// More unknown keys are not named.
const MOST_WARNINGS: usize = 20;

/// A key that is almost `success`.
fn meant_as_success(answer: &Map<String, Value>) -> Option<&String> {
    let mut keys = answer.keys().filter(|key| key.len() <= LONGEST_SHOWN && *key != "success");
    keys.find(|key| nearest(key, &KEYS) == Some("success"))
}

#[cfg(test)]
mod tests {
    use super::super::Report;
    use super::super::testing::read_texts;
    use super::*;
    use crate::adapter::manifest::ReaderName;

    fn read(code: i32, out: &str) -> Reading {
        read_texts(ReaderName::PluginJson, code, out.as_bytes(), b"", &Report::NotNamed)
    }

    #[test]
    fn an_answer_is_read_and_a_failing_exit_code_outweighs_it() {
        let good = read(0, "{\"success\": true, \"message\": \"done\", \"content\": {\"n\": [1]}}\n");
        assert_eq!((good.verdict, &good.metadata["content"]["n"][0]), (Verdict::Success, &1.into()));
        assert_eq!(read(0, r#"{"success": false, "message": "no"}"#).reason.unwrap().message, "no");
        assert_eq!(read(3, r#"{"success": true}"#).reason.unwrap().code, Code::ExitCode);
    }

    #[test]
    fn a_byte_order_mark_before_the_answer_is_passed_over() {
        assert_eq!(read(0, "\u{feff}{\"success\": true}\r\n").verdict, Verdict::Success);
    }

    #[test]
    fn a_key_that_is_not_read_is_warned_of_with_the_nearest_one() {
        let reading = read(0, r#"{"success": true, "contents": 1, "zzzzzzz": 2, "_comment": "x"}"#);
        let warnings = &reading.metadata["warnings"];
        assert!(reading.verdict == Verdict::Success && warnings.as_array().unwrap().len() == 2, "{warnings}");
        assert!(
            warnings[0]
                .as_str()
                .unwrap()
                .starts_with("unknown key `contents` in the answer (did you mean `content`?)")
        );
        assert!(
            warnings[1].as_str().unwrap().starts_with("unknown key `zzzzzzz` in the answer; it is ignored")
        );
        let long = format!(r#"{{"success": true, "{}": 1}}"#, "k".repeat(100));
        assert!(
            read(0, &long).metadata["warnings"][0].as_str().unwrap().starts_with("unknown key of 100 bytes")
        );
        assert!(!read(0, r#"{"success": true}"#).metadata.contains_key("warnings"));
        let misspelled = read(0, r#"{"sucess": true}"#).reason.unwrap();
        assert!(misspelled.code == Code::InvalidAnswer && misspelled.message.ends_with("; it has `sucess`"));
    }

    #[test]
    fn anything_else_is_an_invalid_answer() {
        for out in ["", "ok", "[]", "{}", "{\"success\": 1}", "{\"success\": true} {}", "{\"success\": true"]
        {
            assert_eq!(read(0, out).reason.unwrap().code, Code::InvalidAnswer, "{out}");
        }
    }
}
