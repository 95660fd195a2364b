//! Says why the kernel does not execute a file that is there: its mode, its mount, its interpreter, its machine.
//!
//! `execve` answers ENOENT for a missing interpreter as for a missing file. Only asked after a start has failed. Hard rule:
//! the answer is for people; the content of a file decides nothing.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, StatVfsMountFlags};
use rustix::io::Errno;

use crate::fs;

/// The kernel reads so much of the first line of a script.
const FIRST_LINE: usize = 256;
/// So many scripts may be the interpreter of one another.
const DEEPEST: u32 = 5;
/// A longer path of a loader is none.
const LONGEST_LOADER: usize = 4096;

/// Why a file cannot be executed; `None` if nothing is found to be wrong with it, or it is gone.
#[must_use]
pub(crate) fn why(path: &Path, cwd: &Path) -> Option<String> {
    why_not(path, cwd, 0)
}

fn why_not(path: &Path, cwd: &Path, depth: u32) -> Option<String> {
    if let Some(problem) = access(path) {
        return Some(problem);
    }
    let file = fs::open_regular(&fs::canonical(path).ok()?).ok()?;
    let mut bytes = [0; FIRST_LINE];
    let length = file.read_at(&mut bytes, 0).ok()?;
    let head = bytes.get(..length)?;
    match head {
        [] => Some("it is empty".to_owned()),
        [b'#', b'!', line @ ..] => script(line, cwd, depth),
        [0xef, 0xbb, 0xbf, b'#', b'!', ..] => {
            Some("a byte order mark precedes its `#!`, so the kernel does not see its interpreter".to_owned())
        }
        [0x7f, b'E', b'L', b'F', class, ..] => elf(&file, *class, head),
        _ => Some("it is not a program for this machine and has no `#!` line".to_owned()),
    }
}

/// What the file system says against it.
fn access(path: &Path) -> Option<String> {
    let Err(refused) = rustix::fs::access(path, Access::EXEC_OK) else {
        return path.is_dir().then(|| "it is a directory".to_owned());
    };
    if path.is_dir() {
        return Some("it is a directory".to_owned());
    }
    match (refused, std::fs::metadata(path)) {
        (Errno::NOENT, _) => None,
        (Errno::ACCESS, Ok(file)) if file.is_file() => {
            let is_noexec =
                rustix::fs::statvfs(path).is_ok_and(|mount| mount.f_flag.contains(StatVfsMountFlags::NOEXEC));
            Some(match is_noexec {
                true => "its file system is mounted with `noexec`".to_owned(),
                false => "it is not marked as executable for this user; see `chmod +x`".to_owned(),
            })
        }
        (Errno::ACCESS, Ok(_)) => Some("it is not a regular file".to_owned()),
        (Errno::ACCESS, Err(_)) => Some("this user cannot enter a directory that leads to it".to_owned()),
        (error, _) => Some(io::Error::from(error).to_string()),
    }
}

/// Why the interpreter of a script is not executed; `line` is what follows its `#!`.
fn script(line: &[u8], cwd: &Path, depth: u32) -> Option<String> {
    let end = memchr::memchr(b'\n', line);
    let line = line.get(..end.unwrap_or(line.len())).unwrap_or_default();
    let words = line.trim_ascii_start();
    // Only a space or a tab ends the name; a carriage return is part of it.
    let length = memchr::memchr3(b' ', b'\t', 0, words);
    let name = words.get(..length.unwrap_or(words.len())).unwrap_or_default();
    if name.is_empty() {
        return Some("its `#!` line names no interpreter".to_owned());
    }
    if end.is_none() && length.is_none() && line.len() >= FIRST_LINE - 2 {
        return Some(format!("its `#!` line is longer than the kernel reads ({FIRST_LINE} bytes)"));
    }
    let interpreter = cwd.join(PathBuf::from(OsString::from_vec(name.to_vec())));
    let shown = String::from_utf8_lossy(name).escape_debug().to_string();
    if depth >= DEEPEST {
        return Some(format!("its interpreter `{shown}` starts a chain of scripts that is too long"));
    }
    if interpreter.try_exists().is_ok_and(|exists| !exists) {
        let hint = match name.ends_with(b"\r") {
            true => "; its `#!` line ends in a carriage return: save it with Unix line endings",
            false => "",
        };
        return Some(format!("its interpreter `{shown}` was not found{hint}"));
    }
    let problem = why_not(&interpreter, cwd, depth + 1)?;
    Some(format!("its interpreter `{shown}` cannot be executed: {problem}"))
}

/// Why a program in the format of this system is not executed: it is for another machine, or its loader is missing.
fn elf(file: &File, class: u8, head: &[u8]) -> Option<String> {
    let own = own_header()?;
    let machine = |head: &[u8]| Some(u16::from_ne_bytes(head.get(18..20)?.try_into().ok()?));
    // The fifth byte tells 32 from 64 bits, the sixth the order of bytes.
    if head.get(5) != own.get(5) || machine(head) != machine(&own) {
        let is_known = head.get(5) == own.get(5);
        let name = machine(head).filter(|_| is_known).map_or("another byte order".to_owned(), machine_name);
        return Some(format!(
            "it is a program for {name}, which this machine ({}) does not run",
            std::env::consts::ARCH
        ));
    }
    let loader = if class == 2 { loader_of(file, head)? } else { return None };
    let missing = loader.try_exists().is_ok_and(|exists| !exists);
    missing.then(|| {
        format!("its loader `{}` was not found; it is built for another C library", loader.display())
    })
}

/// The head of the program that runs here.
fn own_header() -> Option<[u8; 20]> {
    let mut head = [0; 20];
    File::open("/proc/self/exe").ok()?.read_exact_at(&mut head, 0).ok()?;
    Some(head)
}

fn machine_name(machine: u16) -> String {
    let name = match machine {
        3 => "x86",
        8 => "mips",
        20 | 21 => "powerpc",
        22 => "s390x",
        40 => "arm",
        62 => "x86_64",
        183 => "aarch64",
        243 => "riscv",
        258 => "loongarch",
        other => return format!("the ELF machine {other}"),
    };
    name.to_owned()
}

/// The path in the program header `PT_INTERP` of a 64-bit program of this machine.
fn loader_of(file: &File, head: &[u8]) -> Option<PathBuf> {
    const HEADER: u64 = 56;
    const MOST_HEADERS: u64 = 64;
    const PT_INTERP: u32 = 3;
    let number = |bytes: &[u8], at: usize| Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    let table = number(head, 32)?;
    let count = u64::from(u16::from_ne_bytes(head.get(56..58)?.try_into().ok()?));
    for index in 0..count.min(MOST_HEADERS) {
        let mut header = [0; HEADER as usize];
        file.read_exact_at(&mut header, table.checked_add(index * HEADER)?).ok()?;
        if u32::from_ne_bytes(header.get(..4)?.try_into().ok()?) != PT_INTERP {
            continue;
        }
        let length = usize::try_from(number(&header, 32)?).ok().filter(|length| *length <= LONGEST_LOADER)?;
        let mut path = vec![0; length];
        file.read_exact_at(&mut path, number(&header, 8)?).ok()?;
        path.truncate(memchr::memchr(0, &path).unwrap_or(length));
        return Some(PathBuf::from(OsString::from_vec(path)));
    }
    None
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// Why a file with this content cannot be executed.
    fn why_of(dir: &Path, name: &str, content: &[u8]) -> Option<String> {
        let path = dir.join(name);
        let file = fs::create_new(&path, content).unwrap();
        file.set_permissions(std::fs::Permissions::from_mode(0o700)).unwrap();
        why(&path, dir)
    }

    #[test]
    fn each_reason_is_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let of = |name: &str, content: &[u8]| why_of(dir.path(), name, content).unwrap();
        let missing = of("missing", b"#! /no/such/one -x\n");
        assert_eq!(missing, "its interpreter `/no/such/one` was not found");
        let windows = of("windows", b"#!/bin/sh\r\necho\r\n");
        assert!(
            windows
                .starts_with("its interpreter `/bin/sh\\r` was not found; its `#!` line ends in a carriage")
        );
        assert!(of("mark", b"\xef\xbb\xbf#!/bin/sh\n").contains("byte order mark"));
        assert_eq!(of("empty", b""), "it is empty");
        assert_eq!(of("text", b"echo hi\n"), "it is not a program for this machine and has no `#!` line");
        assert_eq!(of("bare", b"#!  \n"), "its `#!` line names no interpreter");
        let long = [b"#!/".as_slice(), &[b'x'; 300]].concat();
        assert!(of("long", &long).contains("longer than the kernel reads"));
        assert_eq!(why_of(dir.path(), "right", b"#!/bin/sh\n"), None);
    }

    #[test]
    fn an_interpreter_that_cannot_be_executed_itself_is_explained_too() {
        let dir = tempfile::tempdir().unwrap();
        let plain = fs::create_new(&dir.path().join("plain"), b"x").unwrap();
        plain.set_permissions(std::fs::Permissions::from_mode(0o600)).unwrap();
        let told = why_of(dir.path(), "script", b"#!plain\n").unwrap();
        assert!(told.starts_with("its interpreter `plain` cannot be executed: it is not marked"), "{told}");
        let nested = why_of(dir.path(), "outer", b"#!./script\n").unwrap();
        assert!(nested.starts_with("its interpreter `./script` cannot be executed: its interpreter `plain`"));
        let told = why_of(dir.path(), "circle", b"#!./circle\n").unwrap();
        assert!(told.ends_with("too long"), "{told}");
        let told = why_of(dir.path(), "of-dir", b"#!/tmp\n").unwrap();
        assert!(told.ends_with("it is a directory"), "{told}");
    }

    #[test]
    fn a_program_for_another_machine_and_one_without_its_loader_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let mut head = own_header().unwrap().to_vec();
        let machine = if cfg!(target_arch = "aarch64") { 62u16 } else { 183 };
        head[18..20].copy_from_slice(&machine.to_ne_bytes());
        head.resize(64, 0);
        let told = why_of(dir.path(), "foreign", &head).unwrap();
        assert!(told.starts_with("it is a program for ") && told.contains("which this machine ("), "{told}");
        let mut program = own_header().unwrap().to_vec();
        program.resize(64, 0);
        program[32..40].copy_from_slice(&64u64.to_ne_bytes());
        program[56..58].copy_from_slice(&1u16.to_ne_bytes());
        program.extend(3u32.to_ne_bytes());
        program.extend(0u32.to_ne_bytes());
        program.extend(120u64.to_ne_bytes());
        program.extend([0; 16]);
        program.extend(12u64.to_ne_bytes());
        program.extend([0; 16]);
        program.extend(b"/no/such/ld\0");
        let told = why_of(dir.path(), "no-loader", &program).unwrap();
        assert_eq!(told, "its loader `/no/such/ld` was not found; it is built for another C library");
    }
}
