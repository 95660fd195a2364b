//! A plug-in's answer: one JSON object on standard output, `{"success": bool, "message": text, "content": anything}`.

use serde_json::Value;

use super::{Evidence, Reading, Verdict};

/// Reads the answer; a failing exit code outweighs it.
#[must_use]
pub fn read(evidence: &Evidence<'_>) -> Reading {
    let mut reading = Reading::of_exit_code(evidence);
    let Some(bytes) = evidence.stdout.whole() else {
        reading.fail("invalid_answer", format!("the answer has {} bytes, too many", evidence.stdout.total()));
        return reading;
    };
    let answer: Option<Value> = serde_json::from_slice(bytes.trim_ascii()).ok();
    let success = answer.as_ref().and_then(|answer| answer.get("success")).and_then(Value::as_bool);
    let (Some(answer), Some(success)) = (answer, success) else {
        if reading.verdict == Verdict::Success {
            reading.fail(
                "invalid_answer",
                "standard output is not one JSON object with the key `success` (true or false)",
            );
            reading.details = super::last_lines(evidence.stdout, 20);
        }
        return reading;
    };
    let message = answer.get("message").and_then(Value::as_str);
    if !success && reading.verdict == Verdict::Success {
        reading.fail("plugin_failed", message.unwrap_or("the plug-in answered `success`: false"));
        reading.details = super::last_lines(evidence.stderr, 20);
    }
    for key in ["message", "content"] {
        if let Some(value) = answer.get(key) {
            reading.metadata.insert(key.to_owned(), value.clone());
        }
    }
    reading
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
        assert_eq!(read(3, r#"{"success": true}"#).reason.unwrap().code, "exit_code");
    }

    #[test]
    fn anything_else_is_an_invalid_answer() {
        for out in ["", "ok", "[]", "{}", "{\"success\": 1}", "{\"success\": true} {}", "{\"success\": true"]
        {
            assert_eq!(read(0, out).reason.unwrap().code, "invalid_answer", "{out}");
        }
    }
}
