//! Streams that the real tools printed, read again: the class, the tokens and the session must come out.
//!
//! `tests/agents/record.py` makes the files. A tool's version is part of their names, so that another version is another file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use engine::clock::SystemClock;
use engine::for_tests::usage::{SessionBefore, Used, used};
use engine::for_tests::{
    AgentWatch, Dialect, Ending, Finish, Judged, Rules, SessionFile, Stream, Tokens, UsageSource, Watch,
    Watched, judge,
};
use engine::job::class::Class;
use serde_json::Value;

struct Case {
    dialect: Dialect,
    tool: String,
    name: String,
    base: PathBuf,
}

/// What came out of a recorded run.
struct Read {
    watched: Watched,
    judged: Judged,
    used: Used,
    /// The line at which the run would have been ended, and its stream.
    ended_at: Option<usize>,
}

fn streams() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/streams")
}

fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = std::fs::read_dir(streams())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter_map(|name| {
            let base = name.strip_suffix(".stdout")?.to_owned();
            let mut parts = base.splitn(3, '-');
            let (tool, _version, case) = (parts.next()?, parts.next()?, parts.next()?);
            let dialect = match tool {
                "aider" => Dialect::Aider,
                "claude" => Dialect::Claude,
                "codex" => Dialect::Codex,
                "gemini" => Dialect::Gemini,
                other => panic!("{other}"),
            };
            Some(Case { dialect, tool: tool.to_owned(), name: case.to_owned(), base: streams().join(&base) })
        })
        .collect();
    cases.sort_by(|a, b| a.base.cmp(&b.base));
    assert!(cases.len() > 30, "only {} cases", cases.len());
    cases
}

impl Case {
    fn file(&self, ending: &str) -> PathBuf {
        PathBuf::from(format!("{}.{ending}", self.base.display()))
    }

    fn text(&self, ending: &str) -> String {
        std::fs::read_to_string(self.file(ending)).unwrap_or_default()
    }

    fn exit(&self) -> i32 {
        self.text("exit").trim().parse().unwrap()
    }

    /// Reads the streams line by line, the session file before the end, as a run does.
    fn read(&self) -> Read {
        let clock = SystemClock::start();
        let rules = Rules {
            retry_budget: Duration::from_secs(60),
            stay_after_end: Duration::from_secs(10),
            on_session: Box::new(|_| {}),
            find_file: Box::new(|_| None),
            budget_check: None,
        };
        let file = SessionFile::at(self.file("side.jsonl"));
        let mut watch = AgentWatch::new(self.dialect.reader(), file, rules, &clock);
        let mut ended_at = None;
        // What the tool says on standard error comes before its result.
        let err = self.text("stderr");
        let out = self.text("stdout");
        let lines = err.lines().map(|line| (Stream::Stderr, line));
        let lines = lines.chain(out.lines().map(|line| (Stream::Stdout, line)));
        for (number, (stream, line)) in lines.enumerate() {
            let now = Duration::from_secs(number as u64);
            watch.line(stream, line, now);
            if watch.stop_at().is_some_and(|at| now >= at) {
                ended_at.get_or_insert(number);
            }
        }
        let watched = watch.finish();
        let exit = self.exit();
        let ending = Ending {
            exit_code: (exit >= 0).then_some(exit),
            changed: Some(self.served_edit()),
            was_stopped: exit < 0,
            allow_no_change: false,
            is_literal: false,
        };
        let judged = judge(&watched, ending);
        let used = used(&watched.seen, &watched.session, SessionBefore::New);
        Read { watched, judged, used, ended_at }
    }

    fn served_edit(&self) -> bool {
        matches!(
            self.name.as_str(),
            "success" | "rate_429_once" | "ok_then_402" | "term_in_the_middle" | "resume"
        )
    }

    /// The tokens that the server served, with cached ones among the input.
    fn served(&self) -> Tokens {
        let served: Value = serde_json::from_str(&self.text("served.json")).unwrap();
        let requests = served["requests"].as_array().unwrap();
        let answered = requests.iter().filter(|request| request["tokens"].is_object());
        let sum = |key: &str| answered.clone().map(|r| r["tokens"][key].as_u64().unwrap_or(0)).sum::<u64>();
        // The Messages API counts the cached ones apart.
        let apart = if self.dialect == Dialect::Claude { sum("cached") } else { 0 };
        Tokens {
            input_tokens: Some(sum("input") + apart),
            cached_input_tokens: Some(sum("cached")),
            cache_write_tokens: None,
            output_tokens: Some(sum("output")),
        }
    }
}

/// The class of a case; none for one that depends on the tool.
fn class_of(case: &Case) -> Option<Class> {
    let tool = case.tool.as_str();
    Some(match case.name.as_str() {
        "success" | "rate_429_once" | "resume" | "resumed" => Class::Ok,
        "no_change" => Class::NoChange,
        "http_401" | "http_403" => Class::Auth,
        "http_402" | "insufficient_quota" | "ok_then_402" => Class::Billing,
        "http_404" => Class::Failed,
        "http_500" | "http_529" | "overloaded" => Class::Overloaded,
        "dead_port" => Class::Overloaded,
        "rate_429" => Class::RateLimited,
        "rate_429_retry_after_3600" => match tool {
            // It gives up at once: the service said that it is of no use.
            "claude" => Class::Quota,
            _ => Class::RateLimited,
        },
        "quota" | "quota_api_key" => Class::Quota,
        "context_overflow" => Class::ContextOverflow,
        "malformed" => Class::Protocol,
        "cut_stream" => {
            if tool == "aider" {
                Class::Overloaded
            } else {
                Class::Protocol
            }
        }
        "empty_reply" => Class::Protocol,
        "refusal" => Class::Refused,
        "output_limit" => {
            if tool == "gemini" {
                Class::NoChange
            } else {
                Class::Failed
            }
        }
        "bad_edit" => Class::Failed,
        "denied" => Class::NeedsInput,
        "loop" => Class::Failed,
        _ => return None,
    })
}

#[test]
fn every_recorded_run_gets_its_class() {
    let mut wrong = Vec::new();
    for case in cases() {
        let Some(want) = class_of(&case) else { continue };
        let read = case.read();
        if read.judged.class != want {
            wrong.push(format!(
                "{} {}: {} ({}), not {}",
                case.tool,
                case.name,
                read.judged.class.code(),
                read.judged.message,
                want.code()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The second run of a session is tested apart; what an answer costs that was begun and cut off nobody knows.
const NOT_COUNTED: [&str; 3] = ["resume", "resumed", "overloaded_in_stream"];

#[test]
fn the_ledger_of_every_recorded_run_is_what_was_served_or_says_that_it_is_not_known() {
    let mut wrong = Vec::new();
    let mut unknown = BTreeMap::new();
    for case in cases().iter().filter(|case| !NOT_COUNTED.contains(&case.name.as_str())) {
        let read = case.read();
        let told = read.used.models.iter().fold(Tokens::default(), |sum, usage| sum.plus(usage.tokens));
        let served = case.served();
        if read.used.source == UsageSource::None {
            if served.total() != Some(0) {
                unknown.insert(format!("{} {}", case.tool, case.name), served.total());
            }
            assert_eq!(told.total(), None, "{} {}", case.tool, case.name);
            continue;
        }
        let cached_is_told = told.cached_input_tokens.is_none_or(|c| Some(c) == served.cached_input_tokens);
        if (told.input_tokens, told.output_tokens) != (served.input_tokens, served.output_tokens)
            || !cached_is_told
        {
            wrong.push(format!("{} {}: told {told:?}, served {served:?}", case.tool, case.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // Where the tool tells nothing anywhere, the entry says so.
    let silent = ["aider output_limit", "codex output_limit", "codex refusal_incomplete", "gemini loop"];
    assert!(unknown.keys().all(|case| silent.contains(&case.as_str())), "{unknown:?}");
}

#[test]
fn a_quota_is_read_with_the_time_of_its_end_where_the_tool_tells_it() {
    let mut told = Vec::new();
    for case in cases().iter().filter(|case| case.name == "quota") {
        let read = case.read();
        match case.tool.as_str() {
            "claude" => {
                assert_eq!(read.judged.reset_at.unwrap().to_string(), "2030-03-17T17:46:40.000Z");
            }
            "codex" => assert!(read.judged.reset_at.unwrap().to_string().starts_with("2030-03-1")),
            "aider" => assert!(read.judged.reset_at.is_some()),
            _ => {}
        }
        told.push(case.tool.clone());
    }
    assert_eq!(told, ["aider", "claude", "codex", "gemini"]);
}

#[test]
fn a_refusal_that_no_try_can_change_ends_the_run_at_its_first_notice() {
    for case in cases() {
        let read = case.read();
        match case.name.as_str() {
            // These tools try again; at the first notice they are ended.
            "http_401" if matches!(case.tool.as_str(), "claude" | "codex") => {
                assert!(read.ended_at.is_some(), "{} {}", case.tool, case.name);
            }
            "http_402" if matches!(case.tool.as_str(), "aider" | "codex") => {
                assert!(read.ended_at.is_some(), "{} {}", case.tool, case.name);
            }
            "success" | "no_change" | "rate_429_once" => {
                assert_eq!(read.ended_at, None, "{} {}", case.tool, case.name);
            }
            _ => {}
        }
    }
}

#[test]
fn the_session_is_known_from_the_stream_and_its_commands_are_listed() {
    for case in cases() {
        let read = case.read();
        let seen = &read.watched.seen;
        if case.dialect != Dialect::Aider && case.name == "success" {
            assert!(seen.session_id.as_ref().is_some_and(|id| id.len() > 20), "{}", case.tool);
            assert!(matches!(seen.finish, Some(Finish::Success)));
            assert!(seen.answer.as_ref().is_some_and(|answer| answer.contains("adds now")), "{}", case.tool);
        }
        if case.name == "hidden_command" {
            let session = &read.watched.session.commands;
            assert_eq!(session.len(), 1, "{session:?}");
            assert!(session[0].command.contains("Read-only file system"), "{session:?}");
            assert!(seen.commands.iter().all(|command| command.command == session[0].command), "{seen:?}");
        }
    }
}

#[test]
fn lines_that_are_no_events_and_events_that_nobody_knows_change_nothing() {
    for case in cases().into_iter().filter(|case| case.name == "success") {
        let clock = SystemClock::start();
        let rules = || Rules {
            stay_after_end: Duration::from_secs(10),
            retry_budget: Duration::from_secs(60),
            on_session: Box::new(|_| {}),
            find_file: Box::new(|_| None),
            budget_check: None,
        };
        let file = || SessionFile::at(case.file("side.jsonl"));
        let mut plain = AgentWatch::new(case.dialect.reader(), file(), rules(), &clock);
        let mut noisy = AgentWatch::new(case.dialect.reader(), file(), rules(), &clock);
        for line in case.text("stdout").lines() {
            plain.line(Stream::Stdout, line, Duration::ZERO);
            for noise in ["", "{", "null", "[1]", r#"{"type":7}"#, r#"{"type":"of.tomorrow","x":{"y":[]}}"#] {
                noisy.line(Stream::Stdout, noise, Duration::ZERO);
            }
            let line =
                line.strip_suffix('}').map_or(line.to_owned(), |rest| format!("{rest},\"new_key\":[1]}}"));
            noisy.line(Stream::Stdout, &line, Duration::ZERO);
        }
        let (plain, noisy) = (plain.finish(), noisy.finish());
        assert_eq!(plain.seen.finish, noisy.seen.finish);
        assert_eq!(plain.seen.usage, noisy.seen.usage);
        assert_eq!(plain.seen.session_id, noisy.seen.session_id);
    }
}
