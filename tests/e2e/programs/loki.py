"""The Loki double as a process (tests/support/loki_double/README.md)."""

import json
import pathlib
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from .process import Program

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "support" / "loki_double" / "server.py"


class Loki:
    """`url` is what --loki-url takes."""

    def __init__(self, directory, *options):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self._options, self._port = options, 0
        self.url = self.program = None

    def start(self):
        """Again after stop(): on the same port, knowing nothing."""
        self.program = Program("loki-double", [sys.executable, SCRIPT, "--port", self._port, *self._options],
                               self.directory, stdout=subprocess.PIPE)
        line = self.program.process.stdout.readline().decode().strip()
        assert line, f"the double did not start:\n{self.program.output()}"
        self.url, self._port = line, int(line.rpartition(":")[2])
        return self

    def stop(self):
        self.program.kill()
        self.program.process.stdout.close()

    # Lines ----------------------------------------------------------------------------------------

    def push(self, labels, lines, *, tenant=None):
        """As agents do: `lines` are texts of now, or (nanoseconds, text) or (nanoseconds, text, metadata)."""
        now = time.time_ns()
        values = [[str(now + number), line] if isinstance(line, str) else [str(line[0]), *line[1:]]
                  for number, line in enumerate(lines)]
        headers = {"Content-Type": "application/json", **({"X-Scope-OrgID": tenant} if tenant else {})}
        self._send("POST", "/loki/api/v1/push", {"streams": [{"stream": labels, "values": values}]}, headers)

    def _send(self, method, path, body=None, headers=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers or {}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.read()
        except urllib.error.HTTPError as wrong:
            raise AssertionError(f"{method} {path}: {wrong.code} {wrong.read().decode()}") from None

    # Steering -------------------------------------------------------------------------------------

    def control(self, method, name, body=None):
        return json.loads(self._send(method, "/_double/" + name, body))

    def requests(self, path=""):
        """Those whose path contains that: method, path, query, headers, status."""
        return [one for one in self.control("GET", "requests") if path in one["path"]]

    def script(self, *steps):
        """How the next requests are answered, e.g. {"status": 429, "body": "too many outstanding requests"}."""
        self.control("POST", "script", list(steps))

    def no_script(self):
        self.control("DELETE", "script")

    def settings(self, **settings):
        """patterns, multi_tenant, max_entries_limit, max_query_series, max_query_length, categorize."""
        self.control("POST", "settings", settings)

    def reset(self):
        self.control("POST", "reset")


@pytest.fixture(scope="session")
def shared_loki(new_directory):
    started = Loki(new_directory("loki")).start()
    yield started
    started.stop()


@pytest.fixture
def loki(shared_loki):
    """A double without lines."""
    shared_loki.reset()
    return shared_loki


@pytest.fixture
def new_loki(new_directory):
    """Starts one of its own, with options such as "--multi-tenant"."""
    made = []

    def make(*options):
        made.append(Loki(new_directory("loki"), *options))
        return made[-1].start()

    yield make
    for one in made:
        one.stop()
