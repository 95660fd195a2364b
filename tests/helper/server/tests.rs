//! What the tests of the agents rest on: nothing unforeseen is answered silently, and only what was sent is counted.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use super::{Api, Scenarios, Server, Tokens};

fn start(jobs: &Value) -> Server {
    Server::start(Scenarios::from_value(json!({"jobs": jobs})).unwrap()).unwrap()
}

/// Sends a request and reads until the server closes; gives the status, the length that was promised, and the body.
fn ask(server: &Server, path: &str, body: &Value) -> (u16, usize, String) {
    let mut stream = TcpStream::connect(server.url().trim_start_matches("http://")).unwrap();
    let body = body.to_string();
    write!(stream, "POST {path} HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), length.parse().unwrap(), body.to_owned())
}

fn chat(server: &Server, prompt: &str) -> (u16, usize, String) {
    let body = json!({"model": "mock", "messages": [{"role": "user", "content": prompt}]});
    ask(server, "/v1/chat/completions", &body)
}

fn text(body: &str) -> String {
    let body: Value = serde_json::from_str(body).unwrap();
    body["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
}

#[test]
fn a_request_without_a_reply_is_a_failure() {
    let server = start(&json!({"a": [{"do": "text"}]}));
    assert_eq!(chat(&server, "[[job:a]]").0, 200);
    assert!(server.failures().is_empty(), "{:?}", server.failures());
    assert_eq!(chat(&server, "[[job:a]]").0, 500, "the second request");
    assert_eq!(chat(&server, "[[job:b]]").0, 500, "an unknown marker");
    assert_eq!(chat(&server, "no marker").0, 500);
    assert_eq!(ask(&server, "/v2/chat", &json!({})).0, 404);
    assert_eq!(server.failures().len(), 4, "{:?}", server.failures());
    let counted: Vec<_> =
        server.requests().iter().map(|served| (served.status, served.tokens.is_some())).collect();
    assert_eq!(counted, [(Some(200), true), (Some(500), false), (Some(500), false), (Some(500), false)]);
}

#[test]
fn ordinals_count_for_each_marker() {
    let server = start(&json!({
        "a": [{"do": "text", "text": "a1", "times": 2}, {"do": "text", "text": "a3"}],
        "b": [{"do": "text", "text": "b1"}, {"do": "text", "text": "b2", "times": "always"}],
    }));
    let order = ["a", "b", "a", "b", "a", "b"];
    let texts = order.map(|name| text(&chat(&server, &format!("do it [[job:{name}]] now")).2));
    assert_eq!(texts, ["a1", "b1", "a1", "b2", "a3", "b2"]);
    let ordinals: Vec<usize> = server.requests().iter().map(|served| served.ordinal).collect();
    assert_eq!(ordinals, [1, 1, 2, 2, 3, 3]);
    assert!(server.failures().is_empty(), "{:?}", server.failures());
}

#[test]
fn a_list_for_each_protocol_is_counted_alone() {
    let server = start(&json!({"a": {"chat": [{"do": "text"}], "responses": [{"do": "text"}]}}));
    assert_eq!(chat(&server, "[[job:a]]").0, 200);
    assert_eq!(ask(&server, "/v1/responses", &json!({"input": "[[job:a]]"})).0, 200);
    let seen: Vec<_> = server.requests().iter().map(|served| (served.api, served.ordinal)).collect();
    assert_eq!(seen, [(Api::Chat, 1), (Api::Responses, 1)]);
    assert!(server.failures().is_empty(), "{:?}", server.failures());
}

#[test]
fn a_reply_that_lasts_is_one_ordinal_until_its_time_is_over() {
    let of = |seconds: u64| {
        let quota = json!({"do": "quota", "lasts_s": seconds});
        start(&json!({"a": [{"do": "text"}, quota, {"do": "text", "text": "open again"}]}))
    };
    let ask = |server: &Server| [(); 4].map(|()| chat(server, "[[job:a]]").0);
    let server = of(600);
    assert_eq!(ask(&server), [200, 429, 429, 429]);
    let ordinals: Vec<usize> = server.requests().iter().map(|served| served.ordinal).collect();
    assert_eq!(ordinals, [1, 2, 2, 2]);
    assert!(server.failures().is_empty(), "{:?}", server.failures());
    let server = of(0);
    assert_eq!(
        (chat(&server, "[[job:a]]").0, text(&chat(&server, "[[job:a]]").2)),
        (200, "open again".to_owned())
    );
    assert_eq!(server.requests()[1].ordinal, 3);
}

#[test]
fn the_last_marker_counts() {
    let server = start(&json!({"second": [{"do": "text"}]}));
    assert_eq!(chat(&server, "[[job:first]] and then [[job:second]] and [[job: no name").0, 200);
    assert_eq!(server.requests()[0].marker.as_deref(), Some("second"));
}

#[test]
fn a_cut_answer_is_cut_and_its_tokens_do_not_count() {
    let server = start(&json!({"a": [{"do": "text", "cut_after_bytes": 40}, {"do": "text"}]}));
    let (status, promised, body) = chat(&server, "[[job:a]]");
    assert_eq!((status, body.len()), (200, 40));
    assert!(promised > 40, "{promised}");
    let (_, promised, body) = chat(&server, "[[job:a]]");
    assert_eq!(promised, body.len());
    let tokens: Vec<_> = server.requests().iter().map(|served| served.tokens).collect();
    assert_eq!(tokens, [None, Some(Tokens { input: 1200, cached: 200, output: 80 })]);
}

#[test]
fn a_silent_answer_is_no_answer_and_ends_with_the_server() {
    let server = start(&json!({"a": [{"do": "hang"}]}));
    let mut stream = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    stream.write_all(b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: 9\r\n\r\n[[job:a]]").unwrap();
    while server.requests().is_empty() {
        std::thread::yield_now();
    }
    assert_eq!(server.requests()[0].tokens, None);
    drop(server);
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    assert!(answer.is_empty(), "{answer:?}");
}

#[test]
fn the_usage_of_each_protocol_is_what_is_told() {
    let usage = json!({"input": 1400, "cached": 800, "output": 40});
    let server = start(&json!({"a": [{"do": "edit", "usage": usage, "times": "always"}]}));
    let prompt = json!([{"role": "user", "content": "[[job:a]]"}]);
    let claude = json!({"messages": prompt, "tools": [{"name": "Edit"}], "stream": true});
    let gemini = json!({"contents": prompt, "tools": [{}]});
    for (path, body, said) in [
        ("/v1/chat/completions", json!({"messages": prompt}), "\"prompt_tokens\":1400"),
        ("/v1/responses", json!({"input": prompt, "stream": true}), "\"input_tokens\":1400"),
        ("/v1/messages", claude, "\"usage\":{\"output_tokens\":40}"),
        ("/v1beta/models/m:streamGenerateContent?alt=sse", gemini, "\"promptTokenCount\":1400"),
    ] {
        let (status, _, body) = ask(&server, path, &body);
        assert_eq!(status, 200);
        assert!(body.contains(said), "{path}: {body}");
    }
    let tokens =
        server.requests().into_iter().filter_map(|served| served.tokens).map(|it| it.input + it.output);
    assert_eq!(tokens.sum::<u64>(), 4 * 1440);
}

#[test]
fn what_is_no_turn_is_counted_apart() {
    let server = start(&json!({}));
    let title = json!({"messages": [], "stream": true});
    let check = json!({"generationConfig": {"responseMimeType": "application/json", "responseJsonSchema":
        {"type": "object", "properties": {"next": {"type": "string", "enum": ["user"]}}, "required": ["next"]}}});
    assert_eq!(ask(&server, "/v1/messages", &title).0, 200);
    assert_eq!(ask(&server, "/v1/messages/count_tokens", &title).0, 200);
    let (_, _, body) = ask(&server, "/v1beta/models/m:generateContent", &check);
    assert!(body.contains(r#"{\"next\":\"user\"}"#), "{body}");
    assert_eq!((server.requests().len(), server.side_requests().len()), (0, 3));
    assert!(server.failures().is_empty(), "{:?}", server.failures());
}

#[test]
fn a_scenario_with_an_unknown_word_is_refused() {
    for reply in
        [json!({"do": "txt"}), json!({"do": "text", "time": 3}), json!({"do": "text", "times": "ever"})]
    {
        let wrong = Scenarios::from_value(json!({"jobs": {"a": [reply]}}));
        assert!(wrong.is_err(), "{reply}");
    }
}

#[test]
fn an_error_event_is_an_error_also_where_nothing_is_streamed() {
    let server = start(&json!({"a": [{"do": "stream_error", "code": "overloaded_error", "times": 2}]}));
    let mut body = json!({"messages": "[[job:a]]", "tools": [{}], "stream": true});
    let (status, _, text) = ask(&server, "/v1/messages", &body);
    assert!(status == 200 && text.contains("event: error"), "{status} {text}");
    body["stream"] = json!(false);
    assert_eq!(ask(&server, "/v1/messages", &body).0, 529);
    assert!(server.requests().iter().all(|served| served.tokens.is_none()));
}
