//! A scripted model server on loopback: what the real agent tools talk to in the tests.
//!
//! It speaks the four protocols of the tools (`Api`) and decides nothing: each reply stands in the scenario, under the
//! job marker `[[job:NAME]]` of the prompt and the ordinal of the request. It is no model and no proxy. The one hard
//! rule: a request that the scenario has no reply for is answered with 500 and told by `Server::failures`.

mod chat;
mod gemini;
mod http;
mod messages;
mod responses;
mod scenario;
#[cfg(test)]
mod tests;
mod turn;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use http::Request;
use scenario::{Kind, Reply};
use turn::Answer;

pub use scenario::Scenarios;

/// How often a waiting connection looks whether the server ends or the client has gone.
const LOOK: Duration = Duration::from_millis(20);

/// The protocols, named after what the tools call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Api {
    /// `POST /v1/chat/completions` (aider).
    Chat,
    /// `POST /v1/responses` (codex).
    Responses,
    /// `POST /v1/messages` (claude).
    Messages,
    /// `POST /v1beta/models/<model>:generateContent` and `:streamGenerateContent` (gemini).
    Gemini,
}

/// The usage numbers of one answer, as they stand in its fields.
///
/// `input` includes `cached` except for `Api::Messages`, whose `input_tokens` leaves out what was read from the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tokens {
    pub input: u64,
    pub cached: u64,
    pub output: u64,
}

/// One request of a tool and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Served {
    pub api: Api,
    pub path: String,
    /// The last job marker in the body.
    pub marker: Option<String>,
    /// Counts from 1, per marker (per marker and protocol where the scenario has a list for each protocol); 0 for a
    /// side request.
    pub ordinal: usize,
    /// None until the answer was sent, and for a request that never got one.
    pub status: Option<u16>,
    /// Only where the whole answer was sent and it had usage numbers.
    pub tokens: Option<Tokens>,
    /// What the tool sent.
    #[serde(skip)]
    pub body: String,
}

/// Runs in threads of this process until it is dropped.
pub struct Server {
    port: u16,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

struct Shared {
    scenarios: Scenarios,
    ending: AtomicBool,
    books: Mutex<Books>,
}

#[derive(Default)]
struct Books {
    /// Requests so far by marker and, where each protocol has its own list, protocol.
    counts: BTreeMap<(String, Option<Api>), usize>,
    /// When a reply that lasts was first given: by marker, protocol and ordinal.
    first_given: BTreeMap<(String, Option<Api>, usize), Instant>,
    requests: Vec<Served>,
    side_requests: Vec<Served>,
    failures: Vec<String>,
}

impl Server {
    /// Listens on a free port of 127.0.0.1.
    pub fn start(scenarios: Scenarios) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared { scenarios, ending: AtomicBool::new(false), books: Mutex::default() });
        let acceptor = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        Ok(Self { port, shared, acceptor: Some(acceptor) })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Without a path: a tool that wants `/v1` in its base address gets it from the caller.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The requests for an answer of the model, in the order of their arrival.
    pub fn requests(&self) -> Vec<Served> {
        self.shared.books().requests.clone()
    }

    /// What the tools ask besides: token counts, titles, checks of their own, whether the server is there.
    pub fn side_requests(&self) -> Vec<Served> {
        self.shared.books().side_requests.clone()
    }

    /// The requests that the scenario did not foresee. A test asserts that there are none.
    pub fn failures(&self) -> Vec<String> {
        self.shared.books().failures.clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.ending.store(true, Ordering::SeqCst);
        // Wakes the acceptor; when this fails there is no listener left to wake.
        drop(TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))));
        if let Some(acceptor) = self.acceptor.take() {
            drop(acceptor.join());
        }
    }
}

impl Shared {
    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_ending(&self) -> bool {
        self.ending.load(Ordering::SeqCst)
    }
}

/// Ends when the server is dropped, after all its connections.
fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut connections: Vec<JoinHandle<()>> = Vec::new();
    while let Ok((stream, _)) = listener.accept() {
        if shared.is_ending() {
            break;
        }
        connections.retain(|connection| !connection.is_finished());
        let shared = Arc::clone(shared);
        connections.push(std::thread::spawn(move || serve(stream, &shared)));
    }
    for connection in connections {
        drop(connection.join());
    }
}

/// One request and its answer; every connection is closed after it.
fn serve(mut stream: TcpStream, shared: &Shared) {
    let Some(request) = http::read(&mut stream, &|| shared.is_ending()) else { return };
    let place = match place_of(&request) {
        Ok(place) => place,
        Err(answer) => {
            if answer.status == 404 {
                shared.books().failures.push(format!("no such address: {} {}", request.method, request.path));
            }
            drop(http::send(&mut stream, &answer, None));
            return;
        }
    };
    let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    if place.is_side || is_side(place.api, &body) {
        return serve_side(&mut stream, shared, &request, place, &body);
    }
    let marker = marker_of(&request.body);
    let (at, reply) = {
        let mut books = shared.books();
        let (ordinal, reply) = find_reply(&mut books, &shared.scenarios, place.api, marker.as_deref());
        books.requests.push(served(&request, place.api, marker, ordinal));
        (books.requests.len() - 1, reply)
    };
    let answer = match &reply {
        Some(reply) => answer_of(place, reply, &body, at),
        None => Answer::json(
            500,
            &error_body(place.api, 500, None, "the scripted server has no reply for this request"),
        ),
    };
    if !wait(&stream, shared, reply.as_ref()) {
        return;
    }
    // Entered before the client can have read it all, and taken back if it did not get there.
    let limit = reply.as_ref().and_then(|reply| reply.cut_after_bytes.or(reply.hang_after_bytes));
    let is_whole = limit.is_none_or(|limit| limit >= answer.body.len());
    set(shared, at, Some(answer.status), answer.tokens.filter(|_| is_whole));
    if http::send(&mut stream, &answer, limit).is_err() {
        set(shared, at, Some(answer.status), None);
    }
    if !is_whole && reply.is_some_and(|reply| reply.hang_after_bytes.is_some()) {
        is_gone_within(&stream, shared, None);
    }
}

fn set(shared: &Shared, at: usize, status: Option<u16>, tokens: Option<Tokens>) {
    if let Some(served) = shared.books().requests.get_mut(at) {
        (served.status, served.tokens) = (status, tokens);
    }
}

fn served(request: &Request, api: Api, marker: Option<String>, ordinal: usize) -> Served {
    let body = String::from_utf8_lossy(&request.body).into_owned();
    Served { api, path: request.path.clone(), marker, ordinal, status: None, tokens: None, body }
}

/// Whether there is still someone to answer after the wait that the scenario wants.
fn wait(stream: &TcpStream, shared: &Shared, reply: Option<&Reply>) -> bool {
    match reply {
        Some(reply) if reply.kind == Kind::Hang => {
            is_gone_within(stream, shared, None);
            false
        }
        Some(reply) if reply.delay_ms > 0 => {
            !is_gone_within(stream, shared, Some(Duration::from_millis(reply.delay_ms)))
        }
        _ => true,
    }
}

fn is_gone_within(stream: &TcpStream, shared: &Shared, wait: Option<Duration>) -> bool {
    http::is_gone_within(stream, wait, LOOK, &|| shared.is_ending())
}

/// Answers what is no turn of the model so that the tool goes on and no token is counted.
fn serve_side(stream: &mut TcpStream, shared: &Shared, request: &Request, place: Place, body: &Value) {
    let mut served = served(request, place.api, marker_of(&request.body), 0);
    let answer = match (place.api, request.method.as_str()) {
        (_, "HEAD" | "GET") => {
            Answer::json(200, &serde_json::json!({"object": "list", "data": [], "models": []}))
        }
        (Api::Messages, _) if place.is_side => Answer::json(200, &serde_json::json!({"input_tokens": 1200})),
        (Api::Gemini, _) if place.is_side => Answer::json(200, &serde_json::json!({"totalTokens": 1200})),
        (Api::Gemini, _) => gemini::side(place.is_stream, body),
        _ => encode(place, &turn::Turn::text("ok", Tokens::default()), body, 0),
    };
    served.status = Some(answer.status);
    shared.books().side_requests.push(served);
    drop(http::send(stream, &answer, None));
}

/// What an address means.
#[derive(Clone, Copy)]
struct Place {
    api: Api,
    /// The address itself says so; the others say it in the body.
    is_stream: bool,
    is_side: bool,
}

fn place_of(request: &Request) -> Result<Place, Answer> {
    let place = |api, is_stream, is_side| Ok(Place { api, is_stream, is_side });
    let path = request.path.split('?').next().unwrap_or_default();
    match (request.method.as_str(), path) {
        ("POST", "/v1/chat/completions") => place(Api::Chat, false, false),
        ("POST", "/v1/responses") => place(Api::Responses, false, false),
        ("POST", "/v1/messages") => place(Api::Messages, false, false),
        ("POST", "/v1/messages/count_tokens") | ("HEAD", "/") => place(Api::Messages, false, true),
        ("GET", "/v1/models") => place(Api::Responses, false, true),
        ("POST", path) if path.starts_with("/v1beta/models/") => match path.rsplit(':').next() {
            Some("generateContent") => place(Api::Gemini, false, false),
            Some("streamGenerateContent") => place(Api::Gemini, true, false),
            Some("countTokens") => place(Api::Gemini, false, true),
            _ => Err(Answer::json(
                404,
                &serde_json::json!({"error": {"code": 404, "message": "unknown method"}}),
            )),
        },
        _ => Err(Answer::json(404, &serde_json::json!({"error": {"message": "unknown address"}}))),
    }
}

/// Titles, classifiers and checks: claude's offer no tool, gemini's ask for JSON.
fn is_side(api: Api, body: &Value) -> bool {
    let has_tools = body["tools"].as_array().is_some_and(|tools| !tools.is_empty());
    match api {
        Api::Chat | Api::Responses => false,
        Api::Messages => !has_tools,
        Api::Gemini => !has_tools || body["generationConfig"]["responseMimeType"] == "application/json",
    }
}

/// The last one counts: in a resumed session the earlier prompts stand before it.
fn marker_of(body: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(body);
    let name = |rest: &str| {
        let name = rest.split("]]").next().filter(|name| name.len() < rest.len())?;
        let is_name = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        (!name.is_empty() && name.chars().all(is_name)).then(|| name.to_owned())
    };
    text.rsplit("[[job:").take(text.matches("[[job:").count()).find_map(name)
}

fn find_reply(
    books: &mut Books,
    scenarios: &Scenarios,
    api: Api,
    marker: Option<&str>,
) -> (usize, Option<Reply>) {
    let Some(marker) = marker else {
        books.failures.push(format!("a request for {api:?} has no job marker"));
        return (0, None);
    };
    let (own_list, script) = scenarios.script(marker, api);
    let (name, list) = (marker.to_owned(), own_list.then_some(api));
    let count = books.counts.entry((name.clone(), list)).or_default();
    let nth = |ordinal| script.and_then(|script| scenario::nth(script, ordinal)).cloned();
    let mut ordinal = *count + 1;
    let mut reply = nth(ordinal);
    if let Some(seconds) = reply.as_ref().and_then(|reply| reply.lasts_s) {
        let first = books.first_given.entry((name, list, ordinal)).or_insert_with(Instant::now);
        if first.elapsed() < Duration::from_secs(seconds) {
            return (ordinal, reply);
        }
        ordinal += 1;
        reply = nth(ordinal);
    }
    *count = ordinal;
    if reply.is_none() {
        books.failures.push(format!("no reply for request {ordinal} of `{marker}` for {api:?}"));
    }
    (ordinal, reply)
}

fn answer_of(place: Place, reply: &Reply, body: &Value, serial: usize) -> Answer {
    let api = place.api;
    let mut answer = match reply.kind {
        Kind::Malformed => turn::malformed(reply),
        Kind::Status => {
            let status = reply.status.unwrap_or(500);
            let code = reply.code.as_deref();
            let default =
                error_body(api, status, code, reply.message.as_deref().unwrap_or(turn::message_of(status)));
            Answer::json(status, reply.body.as_ref().unwrap_or(&default))
        }
        Kind::Quota => match api {
            Api::Chat => chat::quota(reply),
            Api::Responses => responses::quota(reply),
            Api::Messages => messages::quota(reply),
            Api::Gemini => gemini::quota(reply),
        },
        Kind::ContextOverflow => match api {
            Api::Chat | Api::Responses => Answer::json(400, &chat::context_overflow()),
            Api::Messages => Answer::json(400, &messages::context_overflow()),
            Api::Gemini => Answer::json(400, &gemini::context_overflow()),
        },
        _ => encode(place, &turn::of(api, reply, body), body, serial + 1),
    };
    answer.headers.extend(reply.headers.clone());
    answer
}

fn encode(place: Place, turn: &turn::Turn, body: &Value, serial: usize) -> Answer {
    let is_stream = place.is_stream || body["stream"] == true;
    if let turn::End::Error { code, message } = &turn.end
        && !is_stream
    {
        // There is no stream to break: the provider would have known before the head.
        let status = if code.starts_with("overloaded") { 529 } else { 500 };
        return Answer::json(status, &error_body(place.api, status, Some(code), message));
    }
    match place.api {
        Api::Chat => chat::encode(turn, body, is_stream, serial),
        Api::Responses => responses::encode(turn, body, is_stream, serial),
        Api::Messages => messages::encode(turn, body, is_stream, serial),
        Api::Gemini => gemini::encode(turn, is_stream, serial),
    }
}

fn error_body(api: Api, status: u16, code: Option<&str>, message: &str) -> Value {
    match api {
        Api::Chat | Api::Responses => chat::error(status, code, message),
        Api::Messages => messages::error(status, code, message),
        Api::Gemini => gemini::error(status, code, message),
    }
}
