//! A pseudo-terminal for tools that insist on one.

use std::io;
use std::os::fd::OwnedFd;

use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

/// Both ends of a new terminal.
#[derive(Debug)]
pub struct Pty {
    /// The engine's end.
    pub engine: OwnedFd,
    /// The tool's end.
    pub tool: OwnedFd,
}

/// Typed where the tool reads its terminal and no one types: end of file.
pub(crate) const END_OF_FILE: u8 = 4;

/// Opens a terminal of 50 rows and 200 columns.
///
/// # Errors
/// The system's, where it has no terminals to give.
pub fn open() -> io::Result<Pty> {
    let engine = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    rustix::pty::grantpt(&engine)?;
    rustix::pty::unlockpt(&engine)?;
    let name = rustix::pty::ptsname(&engine, Vec::new())?;
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC;
    let tool = rustix::fs::open(name, flags, rustix::fs::Mode::empty())?;
    let size = Winsize { ws_row: 50, ws_col: 200, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(&engine, size)?;
    Ok(Pty { engine, tool })
}
