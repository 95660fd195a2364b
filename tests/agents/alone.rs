//! A test in a network that is loopback only, so that no tool can ask anybody but the scripted server.

use std::io::Write;
use std::net::UdpSocket;
use std::process::{Command, Stdio};

/// Set for the process that runs alone; its value is the file in which it tells that it ran.
const ALONE: &str = "ENGINE_AGENTS_ALONE";

/// Says something past the capture of the test's output.
pub fn tell(text: &str) {
    drop(writeln!(std::io::stderr(), "{text}"));
}

/// Runs the test `test` again in a network of its own, and gives true when it has passed there; false means that the caller
/// is to run it, being alone already or because this machine allows no network of one's own.
pub fn elsewhere(test: &str) -> bool {
    if let Some(proof) = std::env::var_os(ALONE) {
        assert!(!has_network(), "there is a network besides loopback");
        std::fs::write(proof, "ran").unwrap();
        return false;
    }
    if !in_own_network(&["true"]).status().is_ok_and(|status| status.success()) {
        let network = if has_network() { "there is one besides loopback" } else { "there is none anyway" };
        tell(&format!("NOT ISOLATED: `unshare --net` does not work here; network: {network}"));
        return false;
    }
    let proof = tempfile::NamedTempFile::new().unwrap();
    let program = std::env::current_exe().unwrap();
    let mut command = in_own_network(&[program.to_str().unwrap(), "--exact", test, "--nocapture"]);
    command.env(ALONE, proof.path()).stdout(Stdio::inherit()).stderr(Stdio::inherit());
    let status = command.status().unwrap();
    // A name that no test has would pass too.
    assert_eq!(std::fs::read_to_string(proof.path()).unwrap(), "ran", "`{test}` did not run");
    assert!(status.success(), "`{test}` failed in a network of its own");
    true
}

fn in_own_network(program: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    command.arg("--net");
    if !rustix::process::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    command.args(["sh", "-c", "ip link set lo up && exec \"$@\"", "sh"]).args(program);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Asks only whether there is a route; nothing is sent. The address is kept for documents and belongs to nobody.
fn has_network() -> bool {
    UdpSocket::bind("0.0.0.0:0").and_then(|socket| socket.connect("192.0.2.1:9")).is_ok()
}
