//! The tool that the tests run: it does what its arguments say, in order, and exits with 0.
//!
//! Each word that starts a process returns when that process is ready: it has written its pid file, or it runs.
#![expect(
    clippy::disallowed_methods,
    clippy::exit,
    clippy::print_stderr,
    reason = "a helper of the tests: it plays the tools that the engine must survive"
)]

use std::ffi::CString;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(60);

fn main() {
    play(std::env::args().skip(1).collect());
}

fn play(mut args: Vec<String>) {
    args.reverse();
    while let Some(word) = args.pop() {
        if word == "max-rss" {
            args.reverse();
            max_rss(&args);
        }
        if word == "become" {
            args.reverse();
            wrong(&format!("exec: {}", std::process::Command::new(own_path()).args(&args).exec()));
        }
        if word == "no-main-thread" {
            args.reverse();
            without_main_thread(args);
        }
        run(&word, &mut || args.pop().unwrap_or_else(|| wrong(&format!("`{word}` needs an argument"))));
    }
}

/// Says what is wrong with the script, with an exit code that no test expects.
fn wrong(message: &str) -> ! {
    eprintln!("fake_tool: {message}");
    std::process::exit(99);
}

fn run(word: &str, next: &mut dyn FnMut() -> String) {
    match word {
        "print" => out(&format!("{}\n", next())),
        "eprint" => eprintln!("{}", next()),
        "lines" => (1..=number(&next())).for_each(|n| out(&format!("line {n}\n"))),
        "elines" => (1..=number(&next())).for_each(|n| eprintln!("line {n}")),
        "write" => write_megabytes(number(&next())),
        "split-print" => split_print(&next()),
        "tick" => tick(number(&next()), seconds(&next())),
        "env" => out(&format!("{}\n", std::env::var(next()).unwrap_or_else(|_| "(unset)".to_owned()))),
        "stdin" => copy_stdin(),
        "isatty" => out(&format!("{} {} {}\n", is_a_tty(0), is_a_tty(1), is_a_tty(2))),
        "touch" => put(&next(), ""),
        "pid" => put(&next(), &std::process::id().to_string()),
        "wait-for" => wait_for(&next()),
        "sleep" => std::thread::sleep(seconds(&next())),
        "ignore-term" => handle_term(libc::SIG_IGN),
        "catch-term" => catch_term(next()),
        "burn" => burn(seconds(&next())),
        "hold-memory" => hold_memory(number(&next())),
        "exit" => std::process::exit(i32::try_from(number(&next())).unwrap_or(99)),
        "die" => die(&next()),
        "raise" => raise(&next()),
        "stop" => raise("19"),
        // SAFETY: a plain system call: from now on this process stops for its parent at each signal.
        "traceme" => drop(unsafe { libc::ptrace(libc::PTRACE_TRACEME) }),
        "comets" => comets(number(&next()), seconds(&next())),
        "double-fork" => double_fork(&next()),
        "setsid-child" => setsid_child(&next()),
        "hold-pipe" => hold_pipe(seconds(&next())),
        "alone" => alone(&next()),
        "exclusive" => exclusive(&next(), &mark().1),
        "fork-children" => (0..number(&next())).for_each(|_| child(|| std::thread::sleep(LONG))),
        _ => wrong(&format!("`{word}` is not a word")),
    }
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| wrong(&format!("`{text}` is not a number")))
}

fn seconds(text: &str) -> Duration {
    let seconds: f64 = text.parse().unwrap_or_else(|_| wrong(&format!("`{text}` is not a number")));
    Duration::from_secs_f64(seconds)
}

/// Writes to standard output at once; a reader that is gone ends the tool, as SIGPIPE does with others.
fn out(text: &str) {
    let mut stdout = std::io::stdout().lock();
    if stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).is_err() {
        std::process::exit(98);
    }
}

fn write_megabytes(megabytes: u64) {
    let block = "0123456789abcde\n".repeat(1 << 12);
    (0..megabytes * 16).for_each(|_| out(&block));
}

/// Prints a text in two pieces, the second after the reader has taken the first.
fn split_print(text: &str) {
    let (first, second) = text.split_at(text.len() / 2);
    out(first);
    let mut unread: libc::c_int = 1;
    while unread > 0 {
        // SAFETY: FIONREAD writes one int; on a pipe it may be asked at either end.
        if unsafe { libc::ioctl(1, libc::FIONREAD, &raw mut unread) } < 0 {
            wrong("`split-print` needs a pipe");
        }
        std::thread::yield_now();
    }
    out(&format!("{second}\n"));
}

fn tick(times: u64, every: Duration) {
    for _ in 0..times {
        out(".");
        std::thread::sleep(every);
    }
}

fn copy_stdin() {
    let mut bytes = Vec::new();
    if let Err(error) = std::io::stdin().lock().read_to_end(&mut bytes) {
        wrong(&format!("reading standard input: {error}"));
    }
    out(&String::from_utf8_lossy(&bytes));
}

fn is_a_tty(fd: i32) -> bool {
    // SAFETY: a plain system call on a number.
    unsafe { libc::isatty(fd) == 1 }
}

/// Writes a file whole: who sees it sees all of it.
fn put(path: &str, text: &str) {
    let temporary = format!("{path}.{}", std::process::id());
    let written = std::fs::write(&temporary, text).and_then(|()| std::fs::rename(&temporary, path));
    if let Err(error) = written {
        wrong(&format!("writing `{path}`: {error}"));
    }
}

fn wait_for(path: &str) {
    while !std::path::Path::new(path).exists() {
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn handle_term(handler: libc::sighandler_t) {
    // SAFETY: the handler is SIG_IGN, or `note_term`, which makes only async-signal-safe calls.
    unsafe { libc::signal(libc::SIGTERM, handler) };
}

static NOTE: AtomicPtr<libc::c_char> = AtomicPtr::new(std::ptr::null_mut());

extern "C" fn note_term(_: libc::c_int) {
    // SAFETY: open and close are async-signal-safe, and the text lives for ever.
    unsafe { libc::close(libc::open(NOTE.load(Ordering::SeqCst), libc::O_CREAT | libc::O_WRONLY, 0o600)) };
}

/// Notes in a file that TERM came, and goes on.
fn catch_term(path: String) {
    NOTE.store(CString::new(path).unwrap_or_default().into_raw(), Ordering::SeqCst);
    handle_term(note_term as *const () as libc::sighandler_t);
}

fn burn(time: Duration) {
    let start = std::time::Instant::now();
    while start.elapsed() < time {
        std::hint::spin_loop();
    }
}

fn hold_memory(megabytes: u64) {
    let memory = vec![1u8; usize::try_from(megabytes << 20).unwrap_or(0)];
    std::hint::black_box(&memory);
}

/// Ends by a signal, whatever the runtime of this language does about it.
fn die(signal: &str) {
    // SAFETY: a plain system call.
    unsafe { libc::signal(i32::try_from(number(signal)).unwrap_or(0), libc::SIG_DFL) };
    raise(signal);
    wrong("`die` did not end it");
}

/// Sends itself a signal; goes on if that is ignored or was a stop.
fn raise(signal: &str) {
    let signal = i32::try_from(number(signal)).unwrap_or(0);
    // SAFETY: a plain system call.
    unsafe { libc::raise(signal) };
}

/// Forks a child that does something and exits; returns when the child lives.
fn child(work: impl FnOnce()) {
    // SAFETY: this process has one thread, so the child may do whatever it could.
    match unsafe { libc::fork() } {
        0 => {
            work();
            std::process::exit(0);
        }
        -1 => wrong("fork failed"),
        _ => {}
    }
}

fn new_session() {
    // SAFETY: a plain system call.
    if unsafe { libc::setsid() } < 0 {
        wrong("setsid failed");
    }
}

/// Gives up the streams of the tool: nobody can find this process by them.
fn let_go_of_the_streams() {
    let null = c"/dev/null";
    // SAFETY: plain system calls; the path is a constant.
    unsafe {
        let fd = libc::open(null.as_ptr(), libc::O_RDWR);
        for stream in 0..3 {
            libc::dup2(fd, stream);
        }
    }
}

/// A daemon by the book: fork, setsid, fork, no streams; its pid is in the file.
fn double_fork(pid_file: &str) {
    child(|| {
        new_session();
        child(|| {
            let_go_of_the_streams();
            put(pid_file, &std::process::id().to_string());
            std::thread::sleep(LONG);
        });
    });
    wait_for(pid_file);
}

/// A child in a session of its own; its pid is in the file.
fn setsid_child(pid_file: &str) {
    child(|| {
        new_session();
        let_go_of_the_streams();
        put(pid_file, &std::process::id().to_string());
        std::thread::sleep(LONG);
    });
    wait_for(pid_file);
}

/// So many orphans, each of which is replaced by a child of its own within a millisecond, for some time at most; a single one
/// notes each of its lives in the file `beat`.
fn comets(count: u64, time: Duration) {
    let start = std::time::Instant::now();
    for _ in 0..count {
        child(|| {
            new_session();
            let_go_of_the_streams();
            while start.elapsed() < time {
                if count == 1 {
                    put("beat", &std::process::id().to_string());
                }
                // SAFETY: this process has one thread, so the child may do whatever it could.
                match unsafe { libc::fork() } {
                    0 => std::thread::sleep(Duration::from_millis(1)),
                    _ => std::process::exit(0),
                }
            }
        });
    }
}

/// Plays the rest of the script in a second thread while the first one is gone: the process is a zombie that works.
fn without_main_thread(rest: Vec<String>) -> ! {
    std::thread::spawn(|| {
        play(rest);
        std::process::exit(0);
    });
    // SAFETY: ends this thread only; what it owns stays in memory.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
    wrong("the main thread did not exit")
}

fn own_path() -> std::path::PathBuf {
    std::env::current_exe().unwrap_or_else(|error| wrong(&format!("current_exe: {error}")))
}

/// The id and the number of the attempt that this tool runs for.
fn mark() -> (String, String) {
    let mark = std::env::var("ENGINE_ATTEMPT").unwrap_or_default();
    let mut parts = mark.rsplit('/').map(str::to_owned);
    match (parts.next(), parts.next()) {
        (Some(attempt), Some(id)) => (id.clone(), format!("{id} {attempt}")),
        _ => wrong("no ENGINE_ATTEMPT"),
    }
}

/// Notes this start in `DIR/starts`, and in `DIR/overlaps` if another run of the id, or what it left, is alive.
fn alone(dir: &str) {
    let (id, who) = mark();
    exclusive(&format!("{dir}/{id}"), &who);
    note(&format!("{dir}/starts"), &who);
}

/// Holds a lock for as long as this process or a child of it lives: unlike a directory, nothing of it outlives a kill.
fn exclusive(path: &str, who: &str) {
    let path = CString::new(path).unwrap_or_default();
    // SAFETY: plain system calls; the descriptor is inherited by forks and closed by nobody.
    let held = unsafe {
        let fd = libc::open(path.as_ptr(), libc::O_CREAT | libc::O_RDWR, 0o600);
        libc::flock(fd, libc::LOCK_EX | libc::LOCK_NB)
    };
    if held < 0 {
        let path = path.to_string_lossy();
        let (dir, name) = path.rsplit_once('/').unwrap_or((".", &path));
        note(&format!("{dir}/overlaps"), &format!("{who} on {name}"));
    }
}

/// Adds a line by one write.
fn note(path: &str, line: &str) {
    let opened = std::fs::File::options().create(true).append(true).open(path);
    if let Err(error) = opened.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes())) {
        wrong(&format!("noting in `{path}`: {error}"));
    }
}

/// A grandchild, child of nobody here, that keeps standard output and error open.
fn hold_pipe(time: Duration) {
    child(|| child(|| std::thread::sleep(time)));
    // SAFETY: waits for any child; a null status is allowed.
    unsafe { libc::wait(std::ptr::null_mut()) };
}

/// `max-rss FILE COMMAND…`: runs a command and writes its largest resident set, in KB, into the file.
///
/// A process inherits the mark of who forked it, which is why no test can measure from its own, larger process.
fn max_rss(args: &[String]) -> ! {
    let [file, exe, args @ ..] = args else { wrong("`max-rss` needs a file and a command") };
    // SAFETY: as in `child`; an all-zero rusage is a valid value to be overwritten.
    unsafe {
        let pid = libc::fork();
        if pid == 0 {
            let error = std::process::Command::new(exe).args(args).exec();
            wrong(&format!("`{}`: {error}", std::ffi::OsStr::new(exe).as_bytes().escape_ascii()));
        }
        let (mut status, mut usage) = (0, std::mem::zeroed::<libc::rusage>());
        libc::wait4(pid, &raw mut status, 0, &raw mut usage);
        put(file, &usage.ru_maxrss.to_string());
        std::process::exit(if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 97 });
    }
}
