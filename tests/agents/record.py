#!/usr/bin/env python3
"""Records what the real agent tools print, as fixtures for the readers: tests/data/streams/<tool>-<version>-<case>.*

Each case is one run of one tool against the scripted server (tests/helper/scripted_server.rs), without the engine, in a
fresh repository with a home of its own and in a network that is loopback only. Stored are `.stdout`, `.stderr`, `.exit`
(the code; -15 = ended by signal 15), `.side.jsonl` (what the tool writes beside its stream) and `.served.json` (what the
server answered). Bytes are kept except: paths become `{repo}`, `{home}`, `{agents}`, `{tmp}`, the port `{port}`, and the long
texts that a tool puts into its own prompt `{instructions}`.

    record.py [--agents DIR] [--server FILE] [--jobs N] [--keep] [TOOL[:CASE] ...]
"""

import argparse, concurrent.futures, glob, json, os, re, shutil, signal, socket, subprocess, sys, tempfile, time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
OUT = os.path.join(ROOT, "tests/data/streams")
VERSIONS = {"aider": "0.86.2", "codex": "0.169.0", "claude": "2.1.197", "gemini": "0.61.0"}
LONGEST = 64 * 1024
TOTAL_LIMIT = 60

ALL = tuple(VERSIONS)
EDIT = {"do": "edit", "text": "I will correct add()."}
DONE = {"do": "text", "text": "Done: add() adds now.", "usage": {"input": 1400, "cached": 800, "output": 40}}
PROSE = {"do": "text", "text": "The function looks fine to me.", "usage": {"input": 1200, "cached": 200, "output": 30}}


def always(reply, **more):
    return dict(reply, times="always", **more)


def status(number, **more):
    return dict({"do": "status", "status": number}, **more)


# Aider takes a second turn only where one of its edits does not fit; the other one of the two is made.
HALF_EDIT = dict(EDIT, text="I will correct add() twice.\n\ncalc.py\n```python\n<<<<<<< SEARCH\n    return a * b\n"
                 "=======\n    return b + a\n>>>>>>> REPLACE\n```\n")
# Nothing in the file is like it: gemini takes what is only similar (`near_edit`).
BAD_EDIT = dict(EDIT, search="    result = compute(everything)\n    raise ValueError(result)")
HIDING = "echo x > written.txt; echo 'Read-only file system'; exit 1"
# case: (tools, replies, options); replies by tool where they differ. `term` = seconds until SIGTERM for the tools named.
CASES = {
    "success": (ALL, {"aider": [EDIT], "*": [EDIT, DONE]}, {}),
    "no_change": (ALL, [PROSE], {}),
    "http_401": (ALL, [always(status(401))], {"term": {"claude": 8}}),
    "http_402": (ALL, [always(status(402))], {"term": {"aider": 12}}),
    "rate_429": (ALL, [always(status(429))], {"term": {"aider": 12, "claude": 8, "gemini": 15}}),
    "rate_429_once": (ALL, {
        "aider": [status(429, headers={"retry-after": "1"}), EDIT],
        "*": [status(429, headers={"retry-after": "1"}), EDIT, DONE]}, {}),
    "rate_429_retry_after_3600": (ALL, [always(status(429, headers={"retry-after": "3600"}))],
                                  {"term": {"aider": 12, "codex": 5, "gemini": 12}}),
    "quota": (ALL, [always({"do": "quota"})], {"term": {"aider": 12}, "subscription": True}),
    "quota_api_key": (("claude",), [always({"do": "quota"})], {"term": {"claude": 8}}),
    "insufficient_quota": (("aider", "codex"), [always(status(
        429, code="insufficient_quota",
        message="You exceeded your current quota, please check your plan and billing details."))],
        {"term": {"aider": 12}}),
    "http_500": (ALL, [always(status(500))], {"term": {"aider": 12, "codex": 40, "claude": 8, "gemini": 12}}),
    "http_529": (ALL, [always(status(529))], {"term": {"aider": 12, "codex": 40, "claude": 8, "gemini": 12}}),
    "http_403": (("codex", "claude", "gemini"), [always(status(403))], {"term": {"claude": 8}}),
    "http_404": (ALL, [always(status(404))], {}),
    "http_404_no_code": (("codex",), [always(status(404, body={"detail": "Not Found"}))], {}),
    "context_overflow": (ALL, [always({"do": "context_overflow"})], {}),
    "dead_port": (ALL, [], {"dead": True, "term": {tool: 15 for tool in ALL}}),
    "term_in_the_middle": (ALL, {
        "aider": [HALF_EDIT, always({"do": "hang"})],
        "*": [EDIT, always({"do": "hang"})]}, {"term_at_hang": True}),
    "ok_then_402": (ALL, {"aider": [HALF_EDIT, always(status(402))], "*": [EDIT, always(status(402))]},
                    {"term": {"aider": 12}}),
    "cut_stream": (ALL, [always(EDIT, cut_after_bytes=200)], {"term": {"aider": 12}}),
    "cut_stream_once": (ALL, {"aider": [dict(EDIT, cut_after_bytes=200), EDIT],
                              "*": [dict(EDIT, cut_after_bytes=200), EDIT, DONE]}, {}),
    "malformed": (ALL, {"gemini": [always({"do": "malformed", "text": "data: {this is not JSON\n\n"})],
                        "*": [always({"do": "malformed"})]}, {"term": {"aider": 12}}),
    "html_answer": (("gemini",), [always({"do": "malformed"})], {"term": {"gemini": 20}}),
    "hang": (ALL, [always({"do": "hang"})], {"term": {"aider": 12, "codex": 8, "claude": 8, "gemini": 10}}),
    "hang_in_stream": (("codex", "claude"), [always(EDIT, hang_after_bytes=700)],
                       {"term": {"codex": 8, "claude": 8}}),
    "near_edit": (("gemini",), [dict(EDIT, search="    return a * b"), DONE], {}),
    "bad_edit": (ALL, {"aider": [always(BAD_EDIT)], "*": [BAD_EDIT, DONE]}, {}),
    "empty_reply": (ALL, [always({"do": "empty", "usage": {"input": 1200, "cached": 0, "output": 0}})], {}),
    "refusal": (ALL, [always({"do": "refusal"})], {}),
    "refusal_incomplete": (("codex",), [always({"do": "refusal", "code": "incomplete"})], {}),
    "prompt_blocked": (("gemini",), [always({"do": "refusal", "code": "prompt"})], {}),
    "output_limit": (ALL, [always({"do": "output_limit"})], {}),
    "overloaded_in_stream": (("claude",), [always({
        "do": "stream_error", "text": "I will", "code": "overloaded_error", "message": "Overloaded"})],
        {"term": {"claude": 8}}),
    "overloaded_before_text": (("claude",), [always({
        "do": "stream_error", "code": "overloaded_error", "message": "Overloaded"})], {"term": {"claude": 8}}),
    "json_answer": (("claude",), [always({"do": "malformed", "text": "{this is not JSON"})], {}),
    "rate_limit_in_stream": (("codex",), [always({
        "do": "stream_error", "code": "rate_limit_exceeded",
        "message": "Rate limit reached for mock. Please try again in 1.5s."})], {"term": {"codex": 15}}),
    "no_final_event": (("codex",), [always(dict(PROSE, no_final_event=True))], {}),
    "command": (("codex",), [{"do": "shell", "command": "echo hi; exit 3"}, DONE], {}),
    # Whether codex tells of such a command is a race: one run in three does not.
    "hidden_command": (("codex",), [{"do": "shell", "command": HIDING}, DONE], {"until_not": "command_execution"}),
    "read_only_command": (("codex",), [{"do": "shell", "command": HIDING}, DONE], {"until": "command_execution"}),
    "known_model": (("codex",), [EDIT, DONE], {"model": "gpt-5.5"}),
    "denied": (("claude", "gemini"), [{"do": "shell", "command": "touch ../outside.txt"}, DONE], {}),
    "loop": (("gemini",), [always({"do": "tool", "tool": "read_file", "args": {"file_path": "calc.py"}})], {}),
    "max_turns": (("claude",), [EDIT, DONE], {"flags": ["--max-turns", "1"]}),
    "missing_key": (ALL, [], {"no_key": True}),
    "resume": (("codex", "claude", "gemini"), [EDIT, DONE, dict(PROSE, usage={
        "input": 1500, "cached": 900, "output": 30})], {"resume": True}),
}


def replies_of(case, tool):
    replies = CASES[case][1]
    return replies if isinstance(replies, list) else replies.get(tool, replies.get("*"))


def fill(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(text)


class Run:
    """One case of one tool: its directories, its command, its processes."""

    def __init__(self, tool, case, options):
        self.tool, self.case, self.agents = tool, case, options.agents
        self.how = CASES[case][2]
        self.base = tempfile.mkdtemp(prefix="record-")
        self.home, self.repo, self.tmp = (os.path.join(self.base, name) for name in ("home", "repo", "tmp"))
        for directory in (self.home, self.repo, self.tmp):
            os.mkdir(directory)
        fill(self.repo + "/calc.py", "def add(a, b):\n    return a - b\n")
        for words in ("init --quiet -b main", "config user.name t", "config user.email t@example.com", "add .",
                      "commit --quiet -m start"):
            subprocess.run(["git", "-C", self.repo] + words.split(), check=True)
        self.mark = "RECORD_MARK=" + self.base
        self.server = None

    def start_server(self, program):
        if self.how.get("dead"):
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                self.port = free.getsockname()[1]
            return
        job = {"jobs": {self.case: replies_of(self.case, self.tool)}}
        fill(self.base + "/scenario.json", json.dumps(job))
        os.mkdir(self.base + "/bodies")
        port_file = self.base + "/port"
        self.server = subprocess.Popen(
            [program, "--scenario", self.base + "/scenario.json", "--port-file", port_file,
             "--log", self.base + "/log", "--bodies", self.base + "/bodies"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while not os.path.exists(port_file):
            if time.monotonic() > deadline:
                raise RuntimeError("the server does not start")
            time.sleep(0.02)
        self.port = int(open(port_file).read())

    def log(self):
        try:
            return json.load(open(self.base + "/log"))
        except FileNotFoundError:
            return {"requests": [], "side_requests": [], "failures": []}

    def environment(self):
        bin_directory = self.agents + "/npm/node_modules/.bin"
        return {
            "PATH": bin_directory + ":" + os.environ["PATH"], "HOME": self.home, "TMPDIR": self.tmp, "LANG": "C.UTF-8",
            "TZ": "UTC", "NO_COLOR": "1", "RECORD_MARK": self.base, "GIT_CONFIG_NOSYSTEM": "1",
        }

    def command(self, session=None):
        """The command line, the variables and the text for stdin."""
        url, env = "http://127.0.0.1:%d" % self.port, self.environment()
        prompt = "[[job:%s]] Correct add() in calc.py: it subtracts.\n" % self.case
        if session:
            prompt = "[[job:%s]] Is it right now?\n" % self.case
        key = "" if self.how.get("no_key") else "test-key"
        command, env, text = getattr(self, self.tool)(url, env, prompt, key, session)
        return command + self.how.get("flags", []), env, text

    def aider(self, url, env, prompt, key, _session):
        side = self.base + "/side"
        fill(side + "/message", prompt)
        fill(side + "/metadata.json", json.dumps({"openai/mock": {
            "max_tokens": 128000, "max_input_tokens": 128000, "max_output_tokens": 16000,
            "input_cost_per_token": 3e-06, "output_cost_per_token": 1.5e-05,
            "litellm_provider": "openai", "mode": "chat"}}))
        command = [
            self.agents + "/aider/bin/aider", "--model", "openai/mock", "--openai-api-base", url + "/v1",
            "--model-metadata-file", side + "/metadata.json", "--edit-format", "diff", "--yes-always",
            "--message-file", side + "/message", "--no-auto-commits", "--no-dirty-commits", "--no-gitignore",
            "--no-check-update", "--no-show-release-notes", "--no-analytics", "--analytics-log", side + "/analytics.jsonl",
            "--no-pretty", "--no-stream", "--no-fancy-input", "--no-suggest-shell-commands", "--no-detect-urls",
            "--disable-playwright", "--no-show-model-warnings", "--no-auto-lint", "--no-auto-test", "--map-tokens", "0",
            "--chat-history-file", side + "/chat", "--input-history-file", side + "/input",
            "--llm-history-file", side + "/llm", "--file", "calc.py"]
        return command + (["--openai-api-key", key] if key else []), env, ""

    def codex(self, url, env, prompt, key, session):
        env["CODEX_HOME"] = self.home + "/.codex"
        os.makedirs(env["CODEX_HOME"], exist_ok=True)
        if key:
            env["MOCK_KEY"] = key
        provider = '{name="mock",base_url="%s/v1",env_key="MOCK_KEY",wire_api="responses"}' % url
        settings = ["-m", self.how.get("model", "mock"), "--disable", "plugins", "-c", "analytics.enabled=false",
                    "-c", 'model_provider="mock"', "-c", "model_providers.mock=" + provider]
        if session:
            head = ["codex", "exec", "resume", session, "--json", "--skip-git-repo-check"]
        else:
            head = ["codex", "exec", "--json", "--color", "never", "--sandbox", "workspace-write",
                    "--skip-git-repo-check", "-C", self.repo]
        return head + ["-o", self.base + "/last"] + settings + ["-"], env, prompt

    def claude(self, url, env, prompt, key, session):
        env.update(ANTHROPIC_BASE_URL=url, CLAUDE_CONFIG_DIR=self.home + "/.claude", DISABLE_AUTOUPDATER="1",
                   CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC="1", DISABLE_TELEMETRY="1", DISABLE_ERROR_REPORTING="1")
        command = ["claude", "-p", "--output-format", "stream-json", "--verbose", "--strict-mcp-config",
                   "--permission-mode", "acceptEdits", "--tools", "Read,Edit,Write,Bash", "--model", "claude-sonnet-4-5"]
        if self.how.get("subscription"):
            env["CLAUDE_CODE_OAUTH_TOKEN"] = "test-token"
        else:
            command.append("--bare")
            if key:
                env["ANTHROPIC_API_KEY"] = key
        return command + (["--resume", session] if session else []), env, prompt

    def gemini(self, url, env, prompt, key, session):
        env.update(GOOGLE_GEMINI_BASE_URL=url, GEMINI_CLI_NO_RELAUNCH="true")
        if key:
            env["GEMINI_API_KEY"] = key
        fill(self.home + "/.gemini/settings.json", json.dumps({
            "security": {"auth": {"selectedType": "gemini-api-key"}}, "privacy": {"usageStatisticsEnabled": False},
            "general": {"enableAutoUpdate": False, "enableAutoUpdateNotification": False},
            "telemetry": {"enabled": False}}))
        command = ["gemini", "--output-format", "stream-json", "--approval-mode", "auto_edit", "--skip-trust",
                   "-m", "gemini-2.5-flash"]
        return command + (["--resume", "latest"] if session else []), env, prompt

    def run_tool(self, session=None):
        command, env, text = self.command(session)
        fill(self.base + "/stdin", text)
        with open(self.base + "/stdin") as stdin, open(self.base + "/stdout", "wb") as out, \
                open(self.base + "/stderr", "wb") as err:
            child = subprocess.Popen(command, env=env, cwd=self.repo, stdin=stdin, stdout=out, stderr=err,
                                     start_new_session=True)
        start, termed = time.monotonic(), None
        term = self.how.get("term", {}).get(self.tool)
        while child.poll() is None:
            now = time.monotonic() - start
            is_due = term is not None and now > term or now > TOTAL_LIMIT
            if self.how.get("term_at_hang") and not is_due and len(self.log()["requests"]) > 1:
                # What the tool prints about the first answer comes before this.
                time.sleep(1.5)
                is_due = True
            if is_due and termed is None:
                os.killpg(child.pid, signal.SIGTERM)
                termed = now
            if termed is not None and now > termed + 10:
                os.killpg(child.pid, signal.SIGKILL)
            time.sleep(0.05)
        self.seconds, self.termed = time.monotonic() - start, termed
        # The server writes its log every 50 ms.
        time.sleep(0.3)
        self.left = self.end_what_is_left()
        return child.returncode

    def end_what_is_left(self):
        """Ends the processes that carry the mark of this run, and only those."""
        left = 0
        for path in glob.glob("/proc/[0-9]*/environ"):
            try:
                marked = self.mark.encode() in open(path, "rb").read().split(b"\0")
                if marked:
                    os.kill(int(path.split("/")[2]), signal.SIGKILL)
                    left += 1
            except OSError:
                pass
        return left

    def session(self):
        for line in open(self.base + "/stdout"):
            event = json.loads(line)
            found = event.get("thread_id") or event.get("session_id")
            if found:
                return found
        raise RuntimeError("no session in the first run")

    def is_wanted(self):
        """Some tools do not print the same each time."""
        printed = open(self.base + "/stdout").read()
        until, until_not = self.how.get("until", ""), self.how.get("until_not")
        return until in printed and not (until_not and until_not in printed)

    def side_files(self):
        pattern = {
            "aider": self.base + "/side/analytics.jsonl",
            "codex": self.home + "/.codex/sessions/**/rollout-*.jsonl",
            "claude": self.home + "/.claude/projects/*/*.jsonl",
            "gemini": self.home + "/.gemini/tmp/*/chats/session-*",
        }[self.tool]
        return sorted(glob.glob(pattern, recursive=True))

    def clean(self, data):
        dashed = re.sub("[^A-Za-z0-9]", "-", self.repo)
        names = [(self.repo, "{repo}"), (dashed, "{repo-dashed}"), (self.home, "{home}"), (self.tmp, "{tmp}"),
                 (self.base, "{base}"), (os.path.realpath(self.agents + "/npm"), "{agents}/npm"),
                 (os.path.realpath(self.agents + "/aider"), "{agents}/aider"), (self.agents, "{agents}"),
                 (socket.gethostname(), "{host}")]
        for found, name in names:
            data = data.replace(found.encode(), name.encode())
        data = re.sub(rb"(127\.0\.0\.1|localhost)(:|\", ?port=| port )%d\b" % self.port, rb"\1\2{port}", data)
        return data.replace(b":%d" % self.port, b":{port}")

    def store(self, code):
        stem = "%s/%s-%s-%s" % (OUT, self.tool, VERSIONS[self.tool], self.case)
        for old in glob.glob(stem + ".*"):
            os.remove(old)
        served = self.log()
        for request in served["requests"] + served["side_requests"]:
            request.pop("path")
            request.pop("marker")
        parts = {name: self.clean(open(self.base + "/" + name, "rb").read()) for name in ("stdout", "stderr")}
        parts["exit"] = b"%d\n" % code
        parts["served.json"] = (json.dumps(served, indent=1) + "\n").encode()
        side = b"".join(without_instructions(self.clean(open(path, "rb").read())) for path in self.side_files())
        if side:
            parts["side.jsonl"] = side
        for name, data in parts.items():
            if os.path.basename(self.base).encode() in data:
                raise RuntimeError("%s names the directory of the run" % name)
            if len(data) > LONGEST:
                raise RuntimeError("%s is %d bytes: make the case shorter" % (name, len(data)))
            open(stem + "." + name, "wb").write(data)
        changed = subprocess.run(["git", "-C", self.repo, "status", "--porcelain"], stdout=subprocess.PIPE, text=True)
        return "%-6s %-26s exit %4d %5.1fs%s req %d+%d served %s tree [%s] left %d failures %s" % (
            self.tool, self.case, code, self.seconds, " TERM" if self.termed is not None else "",
            len(served["requests"]), len(served["side_requests"]), total(served["requests"]),
            " ".join(changed.stdout.split()), self.left, served["failures"][:2])

    def end(self, keep):
        if self.server:
            self.server.terminate()
            self.server.wait()
        if not keep:
            shutil.rmtree(self.base, ignore_errors=True)


def total(requests):
    tokens = [request["tokens"] for request in requests if request["tokens"]]
    return "%d/%d (c %d)" % tuple(sum(each[name] for each in tokens) for name in ("input", "output", "cached"))


def without_instructions(data):
    """Takes the tool's own prompts out of a side file: they are long, and not ours to store."""
    def shorten(value, key=None):
        if isinstance(value, dict):
            if value.get("role") == "developer":
                value = dict(value, content=[dict(part, text="{instructions}") for part in value["content"]])
            return {name: shorten(inner, name) for name, inner in value.items()}
        if isinstance(value, list):
            return [shorten(inner, key) for inner in value]
        return "{instructions}" if isinstance(value, str) and len(value) > 600 and "[[job:" not in value else value

    lines = []
    for line in data.splitlines(keepends=True):
        try:
            value = json.loads(line)
        except ValueError:
            lines.append(line)
            continue
        short = shorten(value)
        lines.append(line if short == value else (json.dumps(short, separators=(",", ":"), ensure_ascii=False) + "\n").encode())
    return b"".join(lines)


def record(tool, case, options):
    for _ in range(30):
        run = Run(tool, case, options)
        try:
            run.start_server(options.server)
            code = run.run_tool()
            if run.how.get("resume"):
                code = run.run_tool(run.session())
            if run.is_wanted():
                return run.store(code) + (" kept " + run.base if options.keep else "")
        except Exception as error:
            return "%-6s %-26s NOT RECORDED: %r" % (tool, case, error)
        finally:
            run.end(options.keep)
    return "%-6s %-26s NOT RECORDED: it did not happen" % (tool, case)


def alone():
    """Starts this program again in a network that is loopback only, and shows that it is."""
    if os.environ.get("RECORD_ALONE") != "1":
        shell = 'ip link set lo up && exec "$@"'
        os.environ["RECORD_ALONE"] = "1"
        os.execvp("unshare", ["unshare", "--net", *([] if os.getuid() == 0 else ["--map-root-user"]), "sh", "-c", shell,
                              "sh", sys.executable, *sys.argv])
    try:
        socket.create_connection(("192.0.2.1", 80), 1).close()
    except OSError:
        return
    sys.exit("there is a network besides loopback")


def main():
    parser = argparse.ArgumentParser(description="records the streams of the agent tools")
    parser.add_argument("--agents", default=os.environ.get("ENGINE_AGENTS_DIR", ROOT + "/target/agents"))
    parser.add_argument("--server", default=ROOT + "/target/debug/examples/scripted_server")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("what", nargs="*", help="TOOL, TOOL:CASE or :CASE; default all")
    options = parser.parse_args()
    options.agents, options.server = os.path.abspath(options.agents), os.path.abspath(options.server)
    alone()
    os.makedirs(OUT, exist_ok=True)
    wanted = [what.partition(":")[::2] for what in options.what] or [("", "")]
    runs = [(tool, case) for case in CASES for tool in CASES[case][0]
            if any(t in ("", tool) and c in ("", case) for t, c in wanted)]
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for line in pool.map(lambda run: record(*run, options), runs):
            print(line, flush=True)


main()
