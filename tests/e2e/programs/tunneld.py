"""The daemon under test, and what must hold each time it ends."""

import functools
import http.client
import json
import os
import pathlib
import signal
import socket
import ssl
import subprocess
import urllib.request

import yaml

from .loopback import free_port
from .process import Died, Program, running, whole_lines

REPOSITORY = pathlib.Path(__file__).resolve().parents[3]

SANITIZER_REPORTS = ("ERROR: AddressSanitizer", "ERROR: LeakSanitizer", "WARNING: ThreadSanitizer",
                     "SUMMARY: UndefinedBehaviorSanitizer", "runtime error:")


def binary():
    """tunneld from the folder TUNNEL_BIN names; the release build's by default."""
    folder = pathlib.Path(os.environ.get("TUNNEL_BIN", REPOSITORY / "build/release/bin"))
    return folder if folder.is_file() else folder / "tunneld"


@functools.cache
def is_sanitized():
    """Whether the program was built with a sanitizer: slower, and larger in memory."""
    contents = binary().read_bytes()
    return any(mark in contents for mark in (b"__asan_init", b"__tsan_init"))


#: What most tests would only stumble over: they send hundreds of requests as one user from one address,
#: and make services fail on purpose. Tests of limits, breakers and waiting say their own.
UNLIMITED = {
    "tiers": {tier: {"requests_per_minute": 0, "connections": 10_000} for tier in ("free", "premium", "enterprise")},
    "limits": {"address": {"requests_per_minute": 0, "handshakes_per_minute": 0}, "global_requests_per_minute": 0},
    "penalty": {"enabled": False},
    "breaker": {"failures": 1000},
    "queue": {"upstream_wait": "0s"},
}


def merged(base, changes):
    """`base` with `changes` laid over it, mapping by mapping; None removes a key."""
    result = dict(base)
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merged(result[key], value)
        elif value is None:
            result.pop(key, None)
        else:
            result[key] = value
    return result


def run(*arguments, env=None, timeout=30, **kwargs):
    """One short command of the daemon, to its end."""
    return subprocess.run([str(binary()), *map(str, arguments)], capture_output=True, text=True,
                          timeout=timeout, stdin=subprocess.DEVNULL, env={**os.environ, **(env or {})},
                          check=False, **kwargs)


class Tunneld:
    """One daemon in its own folder. `secrets` are strings it must never print."""

    def __init__(self, directory, configuration, *, env=None, open_files=None):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.state = self.directory / "state"
        self.certificate = self.state / "tls.crt"
        self.config = self.directory / "tunneld.yaml"
        self.configuration = configuration
        self.env = env or {}
        self.open_files_limit = open_files
        self.program = None
        self.secrets = set()
        self.expected_status = 0
        self.choose_ports()

    def choose_ports(self):
        self.port, self.plain_port, self.admin_port = free_port(), free_port(), free_port()
        self.write_config()

    def write_config(self):
        self.config.write_text(yaml.safe_dump(merged({
            **UNLIMITED,
            "listen": [f"127.0.0.1:{self.port}"],
            "plaintext_listen": [f"127.0.0.1:{self.plain_port}"],
            "admin_listen": f"127.0.0.1:{self.admin_port}",
            "state_dir": str(self.state),
        }, self.configuration), sort_keys=False))

    def command(self, *arguments):
        """Standard output of `tunneld <arguments> --config <ours>`; fails the test when it fails."""
        done = run(*arguments, "--config", self.config, env=self.env)
        assert done.returncode == 0, f"tunneld {arguments} ended with {done.returncode}: {done.stderr}"
        return done.stdout.strip()

    def ssh_key(self):
        return self.command("ssh-key")

    def token(self, subject="alice", tier="premium", expires="1h", scope=None):
        arguments = ["token", "create", "--subject", subject, "--tier", tier, "--expires", expires]
        if scope:
            arguments += ["--scope", scope]
        return self.secret(self.command(*arguments))

    def secret(self, text):
        """Notes something that must never appear in what the daemon prints or serves."""
        self.secrets.add(text)
        return text

    def start(self):
        for _ in range(5):
            self.launch()
            try:
                self.program.ready_when(self.is_ready, 60)
                return self
            except Died:
                self.program.forget()
                if "in use" not in self.program.output():
                    raise
                self.choose_ports()
        raise AssertionError("tunneld found no free port in five attempts")

    def launch(self):
        """Starts the process without waiting for anything."""
        command = [binary(), "serve", "--config", self.config]
        if not is_sanitized():
            # A daemon that grows without end must fail its test, not take the machine with it.
            command = ["prlimit", f"--data={1 << 30}", "--", *command]
        if self.open_files_limit:
            command = ["prlimit", f"--nofile={self.open_files_limit}", "--", *command]
        self.program = Program("tunneld", command, self.directory, env=self.env)
        return self.program

    def is_ready(self):
        try:
            return self.admin("/readyz")[0] == 200
        except OSError:
            return False

    def tls_context(self):
        """Trusts the daemon's certificate and nothing else."""
        return ssl.create_default_context(cafile=str(self.certificate))

    def connect(self, *, tls=True, timeout=20, source=None):
        """A raw connection to a public door; `source` is the loopback address it comes from."""
        raw = socket.create_connection(("127.0.0.1", self.port if tls else self.plain_port), timeout,
                                       source_address=(source, 0) if source else None)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self.tls_context().wrap_socket(raw, server_hostname="127.0.0.1") if tls else raw

    def url(self, path="", *, tls=True):
        return f"https://127.0.0.1:{self.port}{path}" if tls else f"http://127.0.0.1:{self.plain_port}{path}"

    def admin_url(self, path=""):
        return f"http://127.0.0.1:{self.admin_port}{path}"

    def admin(self, path, *, method="GET", token=None, body=None):
        """(status, text) from the admin listener."""
        connection = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=10)
        try:
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            if body is not None:
                body, headers["Content-Type"] = json.dumps(body), "application/json"
            connection.request(method, path, body=body, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def metrics(self):
        """{'name{label="x"}': value} of /metrics, labels as printed."""
        with urllib.request.urlopen(self.admin_url("/metrics"), timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        return {name: float(value) for name, value in
                (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))}

    def metric(self, name, **labels):
        """Sum of the samples of `name` whose labels include all of `labels`; 0 when there are none."""
        total = 0.0
        for sample, value in self.metrics().items():
            own_name, _, own_labels = sample.partition("{")
            if own_name == name and all(f'{key}="{wanted}"' in own_labels for key, wanted in labels.items()):
                total += value
        return total

    def open_files(self):
        """As the daemon counts them: /proc/PID/fd of a process that forbids core dumps is root's alone."""
        return self.metric("process_open_fds")

    def log_records(self):
        """The JSON log lines so far; a line that is not JSON fails the test."""
        return [json.loads(line) for line in whole_lines(self.program.printed()) if line.strip()]

    def check_secrets(self):
        """No token ever handed out appears in the log, the arguments or the metrics."""
        places = {"its output": self.program.output()}
        if self.program.alive():
            places["its command line"] = self.program.command_line()
            places["/metrics"] = self.admin("/metrics")[1]
        for secret in self.secrets:
            # The signature alone would do for a thief who knows the claims, so any part counts.
            for part in {secret, *[p for p in secret.split(".") if len(p) >= 16 and not p.startswith("eyJhbGci")]}:
                for place, text in places.items():
                    assert part not in text, f"a token shows in {place}: …{part[-12:]}"

    def stop(self, seconds=45):
        """SIGTERM, and everything that must hold at a daemon's end."""
        if self.program is None or self.program not in running:
            return  # never started, or a test ended it and looked at the status itself
        try:
            if self.program.alive():
                self.check_secrets()
                self.program.send(signal.SIGTERM)
            status = self.program.wait(seconds)
            output = self.program.output()
            for report in SANITIZER_REPORTS:
                assert report not in output, f"sanitizer report:\n{output[output.index(report) - 200:]}"
            self.check_secrets()
            assert status == self.expected_status, f"tunneld ended with {status}:\n{output[-4000:]}"
        finally:
            self.program.kill()

