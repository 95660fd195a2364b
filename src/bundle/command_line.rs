//! What can be told from a command line for `/bin/sh` without running it: its program, its scripts, whether it calls pytest.
//!
//! Not a shell: variables and substitutions are not followed, and a word with one is unknown. Hard rule: what it cannot tell
//! it leaves out, for a guess here would refuse a run or read its result wrongly.

/// A word of a command line; `None` if only the shell knows it.
type Word = Option<String>;

/// Simple commands, each as its words, in the order of the line.
fn commands(line: &str) -> Vec<Vec<Word>> {
    let mut splitter = Splitter::default();
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\'' => splitter.quoted(chars.by_ref().take_while(|c| *c != '\'')),
            '"' => {
                splitter.begin();
                while let Some(c) = chars.next().filter(|c| *c != '"') {
                    match c {
                        '\\' => splitter.escaped(chars.next()),
                        '$' | '`' => splitter.known = false,
                        c => splitter.word.push(c),
                    }
                }
            }
            '\\' => splitter.escaped(chars.next()),
            '$' | '`' => {
                splitter.begin();
                splitter.known = false;
            }
            '#' if !splitter.open => while chars.next_if(|c| *c != '\n').is_some() {},
            // `2>&1` and `>|` are no ends of a command.
            '>' | '<' => {
                splitter.redirect();
                while chars.next_if(|c| matches!(c, '>' | '<' | '&' | '|')).is_some() {}
            }
            ';' | '&' | '|' | '\n' | '(' | ')' => splitter.end_command(),
            c if c.is_whitespace() => splitter.end_word(),
            c => {
                splitter.begin();
                splitter.word.push(c);
            }
        }
    }
    splitter.end_command();
    splitter.commands
}

#[derive(Default)]
struct Splitter {
    commands: Vec<Vec<Word>>,
    command: Vec<Word>,
    word: String,
    open: bool,
    known: bool,
    /// The next word is the file of a redirection.
    redirected: bool,
}

impl Splitter {
    fn begin(&mut self) {
        if !self.open {
            (self.open, self.known) = (true, true);
        }
    }

    fn quoted(&mut self, text: impl Iterator<Item = char>) {
        self.begin();
        self.word.extend(text);
    }

    fn escaped(&mut self, c: Option<char>) {
        // A line break behind a backslash is none.
        if let Some(c) = c.filter(|c| *c != '\n') {
            self.quoted(std::iter::once(c));
        }
    }

    fn redirect(&mut self) {
        // The number of a descriptor is no word.
        if self.open && self.word.bytes().all(|byte| byte.is_ascii_digit()) {
            self.word.clear();
            self.open = false;
        }
        self.end_word();
        self.redirected = true;
    }

    fn end_word(&mut self) {
        if !std::mem::take(&mut self.open) {
            return;
        }
        let word = std::mem::take(&mut self.word);
        if !std::mem::take(&mut self.redirected) {
            self.command.push(self.known.then_some(word));
        }
    }

    fn end_command(&mut self) {
        self.end_word();
        self.redirected = false;
        let command = std::mem::take(&mut self.command);
        if !command.is_empty() {
            self.commands.push(command);
        }
    }
}

/// Words of the shell's grammar that a command may follow.
const GRAMMAR: [&str; 11] = ["!", "{", "}", "if", "then", "else", "elif", "while", "until", "do", "time"];

/// Programs that run the command that follows them.
const WRAPPERS: [&str; 14] = [
    "command", "env", "exec", "hatch", "ionice", "nice", "nohup", "pdm", "pipenv", "poetry", "rye", "setsid",
    "timeout", "uv",
];

/// A command without what stands before its program: assignments and words of the grammar.
fn from_program(command: &[Word]) -> &[Word] {
    let is_before =
        |word: &Word| word.as_deref().is_some_and(|word| GRAMMAR.contains(&word) || is_assignment(word));
    let before = command.iter().take_while(|word| is_before(word)).count();
    command.get(before..).unwrap_or_default()
}

fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| {
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        !name.is_empty() && name.chars().all(is_name) && !name.starts_with(|c: char| c.is_ascii_digit())
    })
}

/// A command without what stands before its program and without the programs that only run it: `uv run`, `timeout 60`.
fn from_last_program(command: &[Word]) -> &[Word] {
    let mut rest = from_program(command);
    while let Some((Some(first), behind)) = rest.split_first() {
        if !WRAPPERS.contains(&base(first)) {
            break;
        }
        let is_of_wrapper = |word: &Word| {
            word.as_deref().is_some_and(|word| {
                word == "run" || word.starts_with('-') || is_assignment(word) || is_duration(word)
            })
        };
        let of_wrapper = behind.iter().take_while(|word| is_of_wrapper(word)).count();
        rest = behind.get(of_wrapper..).unwrap_or_default();
    }
    rest
}

fn is_duration(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_digit())
        && word.trim_end_matches(['s', 'm', 'h', 'd']).parse::<f64>().is_ok()
}

fn base(program: &str) -> &str {
    program.rsplit('/').next().unwrap_or(program)
}

/// The program that a command line starts first; none if only the shell can tell, or if the shell itself is it.
#[must_use]
pub(super) fn program(line: &str) -> Option<String> {
    from_program(commands(line).first()?).first()?.clone().filter(|word| !is_of_the_shell(word))
}

/// True for a word that `/bin/sh` itself knows.
fn is_of_the_shell(word: &str) -> bool {
    const WORDS: [&str; 30] = [
        "!", ".", ":", "[", "alias", "break", "case", "cd", "command", "echo", "eval", "exec", "exit",
        "export", "false", "for", "if", "printf", "read", "return", "set", "shift", "test", "trap", "true",
        "ulimit", "umask", "unset", "until", "while",
    ];
    WORDS.contains(&word) || word.starts_with(['(', '{'])
}

/// Programs that load no Python of the environment: of other languages, or with an environment of their own.
const WITHOUT_PYTHON: [&str; 13] =
    ["bun", "cargo", "deno", "go", "hatch", "nox", "npm", "npx", "pnpm", "ruff", "tox", "uv", "uvx"];

/// True unless none of its commands can load a package of the Python environment that is active.
#[must_use]
pub(super) fn may_load_python(line: &str) -> bool {
    let commands = commands(line);
    !commands.iter().any(|command| activates(command)) && commands.iter().any(|command| may_load(command))
}

/// True for `. .venv/bin/activate`: what follows uses an environment of the tree itself.
fn activates(command: &[Word]) -> bool {
    let mut words = from_program(command).iter().map(|word| word.as_deref().unwrap_or_default());
    let (program, script) = (words.next(), words.next().unwrap_or_default());
    matches!(program, Some("." | "source")) && !script.starts_with('/') && script.ends_with("bin/activate")
}

/// As `may_load_python`, for words that are passed to a program as they are.
#[must_use]
pub(super) fn words_may_load_python<'w>(words: impl Iterator<Item = &'w str>) -> bool {
    may_load(&words.map(|word| Some(word.to_owned())).collect::<Vec<_>>())
}

fn may_load(command: &[Word]) -> bool {
    // A wrapper may bring an environment, and so may what it runs.
    let programs = [from_program(command), from_last_program(command)].map(<[Word]>::first);
    let is_without = |word: &Word| {
        let Some(word) = word.as_deref() else { return false };
        let runs_others = matches!(word, "." | "command" | "eval" | "exec");
        WITHOUT_PYTHON.contains(&base(word))
            || is_in_own_environment(word)
            || (is_of_the_shell(word) && !runs_others)
    };
    programs[0].is_some() && !programs.into_iter().flatten().any(is_without)
}

/// True for a program of an environment in the tree itself, as `.venv/bin/pytest`.
fn is_in_own_environment(program: &str) -> bool {
    let dir = program.rsplit_once('/').map(|(dir, _)| dir);
    !program.starts_with('/') && dir.is_some_and(|dir| base(dir) == "bin")
}

/// True if one of its commands is pytest.
#[must_use]
pub(super) fn calls_pytest(line: &str) -> bool {
    commands(line).iter().any(|command| is_pytest(command))
}

/// As `calls_pytest`, for words that are passed to a program as they are.
#[must_use]
pub(super) fn words_call_pytest<'w>(words: impl Iterator<Item = &'w str>) -> bool {
    is_pytest(&words.map(|word| Some(word.to_owned())).collect::<Vec<_>>())
}

fn is_pytest(command: &[Word]) -> bool {
    let Some((Some(program), rest)) = from_last_program(command).split_first() else { return false };
    let program = base(program);
    if matches!(program, "pytest" | "py.test") {
        return true;
    }
    // `python -m pytest`, `coverage run -m pytest`.
    let module = rest.iter().position(|word| word.as_deref() == Some("-m")).and_then(|at| rest.get(at + 1));
    (program.starts_with("python") || program == "coverage")
        && module.is_some_and(|module| module.as_deref() == Some("pytest"))
}

/// Programs that execute the file that is their first argument.
const INTERPRETERS: [&str; 13] =
    ["bash", "bun", "coverage", "dash", "deno", "lua", "node", "perl", "php", "ruby", "sh", "source", "zsh"];

/// The files of the tree that a command line may execute: programs named by a path, and scripts of interpreters.
#[must_use]
pub(super) fn executes(line: &str) -> Vec<String> {
    commands(line).iter().flat_map(|command| executed(command)).collect()
}

/// As `executes`, for words that are passed to a program as they are.
#[must_use]
pub(super) fn words_execute<'w>(words: impl Iterator<Item = &'w str>) -> Vec<String> {
    executed(&words.map(|word| Some(word.to_owned())).collect::<Vec<_>>())
}

fn executed(command: &[Word]) -> Vec<String> {
    let Some((Some(program), rest)) = from_last_program(command).split_first() else { return Vec::new() };
    let is_interpreter =
        program == "." || INTERPRETERS.contains(&base(program)) || base(program).starts_with("python");
    let script = if is_interpreter { script(base(program), rest) } else { None };
    let program = Some(program).filter(|program| program.contains('/'));
    program.into_iter().chain(script).filter_map(|path| in_tree(path)).collect()
}

/// The first argument that is no option; none behind an option that holds the code itself.
fn script<'w>(interpreter: &str, arguments: &'w [Word]) -> Option<&'w String> {
    let holds_code = |option: &str| match interpreter {
        "bash" | "dash" | "sh" | "zsh" => option == "-c",
        "node" | "bun" | "perl" | "php" | "ruby" | "lua" => matches!(option, "-e" | "-E" | "-r"),
        _ => matches!(option, "-c" | "-m"),
    };
    let known = arguments.iter().map_while(Option::as_ref);
    known.take_while(|word| !holds_code(word)).find(|word| *word != "run" && !word.starts_with(['-', '+']))
}

/// A path of the tree without `.`; none if it is elsewhere.
fn in_tree(path: &str) -> Option<String> {
    let parts: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    (!path.starts_with(['/', '~']) && !parts.is_empty() && !parts.contains(&"..")).then(|| parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_the_first_word_that_is_one() {
        for (line, wanted) in [
            ("ruff check .", Some("ruff")),
            ("  CI=1 A='b c' mypy src", Some("mypy")),
            ("! grep -r TODO src", Some("grep")),
            ("(cd sub && make)", None),
            ("if test -f x; then y; fi", None),
            ("if grep -q x y; then z; fi", Some("grep")),
            ("'my tool' x", Some("my tool")),
            ("\"./a b\"/c", Some("./a b/c")),
            ("a\\ b", Some("a b")),
            ("> log ruff", Some("ruff")),
            ("2>&1 ruff", Some("ruff")),
            ("# words\nmake test", Some("make")),
            ("ru\\\nff", Some("ruff")),
            ("$TOOL x", None),
            ("\"$HOME/bin/x\"", None),
            ("`which x`", None),
            ("# nothing", None),
            ("", None),
        ] {
            assert_eq!(program(line).as_deref(), wanted, "{line}");
        }
    }

    #[test]
    fn pytest_is_found_where_it_is_called_and_not_where_it_is_named() {
        for line in [
            "pytest",
            "pytest -q | tee log",
            "py.test",
            "python -m pytest -q",
            "python3.12 -X dev -m pytest",
            ".venv/bin/pytest",
            "cd sub && CI=1 pytest",
            "uv run pytest",
            "uv run --no-sync python -m pytest",
            "timeout 60s poetry run pytest -q",
            "env -i A=b pytest",
            "coverage run -m pytest",
            "ruff check . && (pytest -q)",
            "ruff check . 2>&1; pytest",
            "if pytest; then echo well; fi",
        ] {
            assert!(calls_pytest(line), "{line}");
        }
        for line in [
            "pip install pytest && make",
            "echo pytest",
            "grep pytest setup.cfg",
            "python pytest.py",
            "python -m pytest_cov",
            "echo 'a; pytest'",
            "make # pytest",
            "cat > pytest",
            "cat >& pytest",
            "$X pytest",
            "",
        ] {
            assert!(!calls_pytest(line), "{line}");
        }
    }

    #[test]
    fn scripts_of_the_tree_are_named_and_programs_of_the_machine_are_not() {
        for (line, wanted) in [
            ("./run.sh --fast", vec!["run.sh"]),
            ("sh ci/check.sh && python tools/lint.py src", vec!["ci/check.sh", "tools/lint.py"]),
            ("bash -eu ./a.sh", vec!["a.sh"]),
            ("uv run python x/y.py", vec!["x/y.py"]),
            (".venv/bin/python a.py", vec![".venv/bin/python", "a.py"]),
            (". ./env.sh; make", vec!["env.sh"]),
            ("python -m pytest tests", vec![]),
            ("python -c 'print(1)' a.py", vec![]),
            ("/usr/bin/env python3 a.py", vec!["a.py"]),
            ("sh -e ci/check.sh", vec!["ci/check.sh"]),
            ("python tools/lint.py -c lint.cfg", vec!["tools/lint.py"]),
            ("node -e 'x()' a.js", vec![]),
            ("../out.sh", vec![]),
            ("/bin/x $Y", vec![]),
            ("ruff check src", vec![]),
        ] {
            assert_eq!(executes(line), wanted, "{line}");
        }
    }
}
