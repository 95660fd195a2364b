"""The measurement of benches/agents.sh; see there. Arguments: AGENTS ENGINE SERVER WORK RUNS [TOOL ...]"""

import json, os, statistics, subprocess, sys, time

agents, engine, server, work, runs, *tools = sys.argv[1:]
runs = int(runs)
tools = tools or ["aider", "codex", "claude", "gemini"]
MODELS = {"aider": "openai/mock", "codex": "gpt-5.5", "claude": "claude-sonnet-4-5", "gemini": "gemini-2.5-flash"}
EDIT = {"do": "edit", "text": "I will correct add()."}
DONE = {"do": "text", "text": "Done: add() adds now."}

# Plays the tool once: keeps what the engine gave it.
STAND_IN = """#!/bin/sh
[ "$1" = --version ] && exec {real} --version
env -0 >{record}/env
printf '%s\\0' "$@" >{record}/args
cat >{record}/stdin
cp -r {project}/.engine/state/attempts/. {record}/attempts
exit 3
"""


def fill(path, text, mode=0o644):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(text)
    os.chmod(path, mode)


def start_server():
    names = [f"{tool}-{kind}-{n}" for tool in tools for kind in ("bare", "engine") for n in range(-1, runs)]
    jobs = {name: [EDIT] if name.startswith("aider") else [EDIT, DONE] for name in names}
    fill(f"{work}/scenario.json", json.dumps({"jobs": jobs}))
    child = subprocess.Popen([server, "--scenario", f"{work}/scenario.json", "--port-file", f"{work}/port",
                              "--log", f"{work}/served"], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 10
    while not os.path.exists(f"{work}/port"):
        assert time.monotonic() < deadline, "the server does not start"
        time.sleep(0.02)
    return child, f"http://127.0.0.1:{open(f'{work}/port').read()}"


class Tool:
    """One tool in a repository and a root that all its runs share."""

    def __init__(self, name, url):
        self.name = name
        self.home, self.project, self.record = (f"{work}/{name}/{what}" for what in ("home", "project", "record"))
        self.bin = f"{agents}/aider/bin" if name == "aider" else f"{agents}/npm/node_modules/.bin"
        fill(f"{self.project}/calc.py", "def add(a, b):\n    return a - b\n")
        os.makedirs(f"{self.record}/attempts")
        os.makedirs(f"{work}/{name}/tmp")
        for words in ("init --quiet -b main", "config user.name t", "config user.email t@example.com", "add .",
                      "commit --quiet -m start"):
            subprocess.run(["git", "-C", self.project, *words.split()], check=True)
        fill(f"{self.project}/.git/info/exclude", ".engine/\n")
        self.environment = {"PATH": f"{self.bin}:{os.environ['PATH']}", "HOME": self.home, "LANG": "C.UTF-8", "TZ": "UTC",
                            "TMPDIR": f"{work}/{name}/tmp", "GIT_CONFIG_NOSYSTEM": "1", "BENCH_KEY": "bench-key-0123456789"}
        subprocess.run([engine, "init", "-q"], cwd=self.project, env=self.environment, check=True)
        self.variables = self.point_at(url)

    def point_at(self, url):
        key, home = {"from_env": "BENCH_KEY"}, self.home
        if self.name == "aider":
            fill(f"{home}/models.json", json.dumps({"openai/mock": {
                "max_tokens": 128000, "max_input_tokens": 128000, "max_output_tokens": 16000, "input_cost_per_token": 3e-06,
                "output_cost_per_token": 1.5e-05, "litellm_provider": "openai", "mode": "chat"}}))
            return {"OPENAI_API_BASE": f"{url}/v1", "OPENAI_API_KEY": key, "AIDER_EDIT_FORMAT": "diff", "AIDER_MAP_TOKENS": "0",
                    "AIDER_MODEL_METADATA_FILE": f"{home}/models.json"}
        if self.name == "codex":
            fill(f"{home}/.codex/config.toml", 'model_provider = "mock"\n[model_providers.mock]\nname = "mock"\n'
                 f'base_url = "{url}/v1"\nenv_key = "MOCK_KEY"\nwire_api = "responses"\n')
            return {"CODEX_HOME": f"{home}/.codex", "MOCK_KEY": key}
        if self.name == "claude":
            return {"ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": key, "CLAUDE_CONFIG_DIR": f"{home}/.claude"}
        fill(f"{home}/.gemini/settings.json", json.dumps({"security": {"auth": {"selectedType": "gemini-api-key"}}}))
        return {"GOOGLE_GEMINI_BASE_URL": url, "GEMINI_API_KEY": key}

    def before(self):
        subprocess.run(["git", "-C", self.project, "checkout", "--quiet", "."], check=True)

    def check(self):
        assert "a + b" in open(f"{self.project}/calc.py").read(), f"{self.name} made no edit"

    def job(self, marker):
        path = f"{work}/{self.name}/{marker}.json"
        fill(path, json.dumps({"job_id": marker, "tool": self.name, "env": self.variables, "metadata": {
            "prompt": f"[[job:{marker}]] Correct add() in calc.py.", "model": MODELS[self.name], "files_scope": ["calc.py"]}}))
        return [engine, "run-job", "--job-file", path, "--json"]

    def keep_command(self):
        """Lets the engine start the stand-in, which writes down what it was given."""
        stand_in = f"{work}/{self.name}/stand-in"
        real = f"{self.bin}/{self.name}"
        fill(f"{stand_in}/{self.name}", STAND_IN.format(real=real, record=self.record, project=self.project), 0o755)
        environment = dict(self.environment, PATH=f"{stand_in}:{self.environment['PATH']}")
        subprocess.run(self.job(f"{self.name}-record"), cwd=self.project, env=environment, stdout=subprocess.DEVNULL)
        moved = f"{self.project}/.engine/state/attempts".encode(), f"{self.record}/attempts".encode()
        read = lambda name: open(f"{self.record}/{name}", "rb").read().replace(*moved)
        split = lambda data: data.split(b"\0")[:-1]
        self.arguments, self.stdin = split(read("args")), read("stdin")
        pairs = (pair.split(b"=", 1) for pair in split(read("env")))
        self.given = {name: value for name, value in pairs if not name.startswith(b"ENGINE_")}
        self.given[b"PATH"] = self.environment["PATH"].encode()

    def bare(self, marker):
        self.before()
        text = self.stdin.replace(f"{self.name}-record".encode(), marker.encode())
        start = time.monotonic()
        subprocess.run([f"{self.bin}/{self.name}", *self.arguments], cwd=self.project, env=self.given, input=text,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        took = time.monotonic() - start
        self.check()
        return took

    def through_engine(self, marker):
        """The seconds, and the peak of the engine's own memory in kilobytes."""
        self.before()
        command, peak = self.job(marker), 0
        start = time.monotonic()
        child = subprocess.Popen(command, cwd=self.project, env=self.environment, stdin=subprocess.DEVNULL,
                                 stdout=subprocess.DEVNULL)
        while child.poll() is None:
            try:
                status = open(f"/proc/{child.pid}/status").read()
                peak = max(peak, int(status.split("VmHWM:")[1].split()[0]))
            except (OSError, IndexError):
                pass
            time.sleep(0.002)
        took = time.monotonic() - start
        assert child.returncode == 0, f"{marker} exits with {child.returncode}"
        self.check()
        return took, peak


def main():
    child, url = start_server()
    print("| tool | bare, s (median, min-max) | through the engine, s | difference, ms | ratio | engine's peak, MB | first run, s |")
    print("|---|---|---|---:|---:|---:|---:|")
    try:
        for name in tools:
            tool = Tool(name, url)
            tool.keep_command()
            # The first run asks for the version too, which is then remembered; and it warms the disk for both.
            tool.bare(f"{name}-bare--1")
            first, _ = tool.through_engine(f"{name}-engine--1")
            bare, through, peaks = [], [], []
            for n in range(runs):
                kinds = [lambda: bare.append(tool.bare(f"{name}-bare-{n}")),
                         lambda: [all_.append(one) for all_, one in zip((through, peaks), tool.through_engine(f"{name}-engine-{n}"))]]
                for kind in kinds if n % 2 == 0 else kinds[::-1]:
                    kind()
            middle = [statistics.median(times) for times in (bare, through)]
            show = lambda times: f"{statistics.median(times):.3f} ({min(times):.3f}-{max(times):.3f})"
            print(f"| {name} | {show(bare)} | {show(through)} | {(middle[1] - middle[0]) * 1e3:+.0f} | {middle[1] / middle[0]:.3f} | "
                  f"{max(peaks) / 1024:.1f} | {first:.2f} |", flush=True)
        failures = json.load(open(f"{work}/served"))["failures"]
        assert not failures, failures
    finally:
        child.terminate()
        child.wait()


main()
