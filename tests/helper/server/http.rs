//! As much of HTTP/1.1 as the four tools use: one request, one answer, then the connection is closed.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::LOOK;
use super::turn::Answer;

/// A head that is longer is none.
const LONGEST_HEAD: usize = 64 * 1024;

pub(super) struct Request {
    pub method: String,
    /// With the query.
    pub path: String,
    pub body: Vec<u8>,
}

/// None where the client went away, or the server ends, before the request was whole.
pub(super) fn read(stream: &mut TcpStream, is_ending: &dyn Fn() -> bool) -> Option<Request> {
    stream.set_read_timeout(Some(LOOK)).ok()?;
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        if bytes.len() > LONGEST_HEAD || !more(stream, &mut bytes, is_ending) {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..head_end]).into_owned();
    let mut body = bytes.split_off(head_end + 4);
    let mut words = head.lines().next()?.split(' ').map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    if header(&head, "expect").is_some() {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
    }
    if header(&head, "transfer-encoding").is_some_and(|value| value.contains("chunked")) {
        while !body.ends_with(b"0\r\n\r\n") {
            more(stream, &mut body, is_ending).then_some(())?;
        }
        body = unchunked(&body)?;
    } else {
        let length = header(&head, "content-length").map_or(Some(0), |value| value.parse::<usize>().ok())?;
        while body.len() < length {
            more(stream, &mut body, is_ending).then_some(())?;
        }
    }
    Some(Request { method, path, body })
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let value = |line: &'a str| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim())
    };
    head.lines().find_map(value)
}

/// Appends what has come; false when nothing more will.
fn more(stream: &mut TcpStream, bytes: &mut Vec<u8>, is_ending: &dyn Fn() -> bool) -> bool {
    let mut piece = [0; 16 * 1024];
    while !is_ending() {
        match stream.read(&mut piece) {
            Ok(0) => return false,
            Ok(length) => {
                bytes.extend_from_slice(&piece[..length]);
                return true;
            }
            Err(error) if is_no_news(&error) => {}
            Err(_) => return false,
        }
    }
    false
}

fn is_no_news(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

fn unchunked(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = bytes.windows(2).position(|two| two == b"\r\n")?;
        let size = std::str::from_utf8(&bytes[..line]).ok()?.split(';').next()?;
        let size = usize::from_str_radix(size.trim(), 16).ok()?;
        let from = line + 2;
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(bytes.get(from..from + size)?);
        bytes = bytes.get(from + size + 2..)?;
    }
}

/// Waits; true when the client closes the connection, or the server ends, within `wait` (None: for ever).
pub(super) fn is_gone_within(
    stream: &TcpStream,
    wait: Option<Duration>,
    look: Duration,
    is_ending: &dyn Fn() -> bool,
) -> bool {
    let start = Instant::now();
    let mut byte = [0];
    loop {
        let left = wait.map_or(look, |wait| wait.saturating_sub(start.elapsed()).min(look));
        if left.is_zero() {
            return false;
        }
        if is_ending() || stream.set_read_timeout(Some(left)).is_err() {
            return true;
        }
        match stream.peek(&mut byte) {
            // Bytes after the request are of no meaning here, but would make `peek` return at once.
            Ok(length) if length > 0 => std::thread::sleep(left),
            Err(error) if is_no_news(&error) => {}
            _ => return true,
        }
    }
}

/// Sends the head and as much of the body as `limit` allows.
///
/// The head promises the whole body, so a client can tell that it was cut. "Sent" means that the kernel took it.
pub(super) fn send(stream: &mut TcpStream, answer: &Answer, limit: Option<usize>) -> std::io::Result<()> {
    let mut head = format!(
        "HTTP/1.1 {} {}\r\ncontent-type: {}\r\ncontent-length: {}\r\nconnection: close\r\n",
        answer.status,
        phrase(answer.status),
        answer.content_type,
        answer.body.len()
    );
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    let length = limit.unwrap_or(usize::MAX).min(answer.body.len());
    stream.write_all(head.as_bytes())?;
    stream.write_all(&answer.body[..length])?;
    stream.flush()
}

fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        _ => "Status",
    }
}
