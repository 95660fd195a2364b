//! The scripted model server as a program: for the recording of streams, and for a look by hand.
//!
//! `scripted_server --scenario FILE --port-file FILE [--log FILE] [--bodies DIR]` runs until it is killed.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "a helper of the tests: it plays the providers of the agents"
)]

mod server;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use server::{Scenarios, Server};

fn main() {
    if let Err(message) = run() {
        eprintln!("scripted_server: {message}");
        std::process::exit(99);
    }
}

fn run() -> Result<(), String> {
    let files = arguments()?;
    let file = |name: &str| files.get(name).ok_or(format!("`{name}` is missing"));
    let scenario = file("--scenario")?;
    let text = std::fs::read_to_string(scenario)
        .map_err(|e| format!("error reading `{}`: {e}", scenario.display()))?;
    let scenarios = serde_json::from_str(&text).map_err(|e| e.to_string()).and_then(Scenarios::from_value)?;
    let server = Server::start(scenarios).map_err(|e| format!("error listening: {e}"))?;
    put(file("--port-file")?, &server.port().to_string())?;
    eprintln!("listening on {}", server.url());
    let mut last = String::new();
    loop {
        std::thread::sleep(Duration::from_millis(50));
        let (requests, side_requests) = (server.requests(), server.side_requests());
        if let Some(dir) = files.get("--bodies") {
            let named =
                requests.iter().map(|it| ("turn", it)).chain(side_requests.iter().map(|it| ("side", it)));
            for (at, (kind, served)) in named.enumerate() {
                put(&dir.join(format!("{at:03}.{kind}.json")), &served.body)?;
            }
        }
        let log = serde_json::json!({"requests": requests, "side_requests": side_requests,
            "failures": server.failures()});
        let log = format!("{log:#}\n");
        if let Some(path) = files.get("--log").filter(|_| log != last) {
            put(path, &log)?;
            last = log;
        }
    }
}

fn arguments() -> Result<BTreeMap<String, PathBuf>, String> {
    let mut args = std::env::args().skip(1);
    let mut files = BTreeMap::new();
    while let Some(name) = args.next() {
        if !["--scenario", "--port-file", "--log", "--bodies"].contains(&name.as_str()) {
            return Err(format!("`{name}` is not an argument"));
        }
        let value = args.next().ok_or(format!("`{name}` needs a path"))?;
        files.insert(name, PathBuf::from(value));
    }
    Ok(files)
}

/// In one step, so that nobody reads half of it.
fn put(path: &Path, text: &str) -> Result<(), String> {
    let new = path.with_extension("new");
    std::fs::write(&new, text)
        .and_then(|()| std::fs::rename(&new, path))
        .map_err(|e| format!("error writing `{}`: {e}", path.display()))
}
