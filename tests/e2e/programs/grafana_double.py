"""The Grafana double as a process, and what tests tell it (tests/support/grafana_double/README.md)."""

import json
import pathlib
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

from .process import Program

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "support" / "grafana_double" / "server.py"


class GrafanaDouble:
    """`url`, `tokens` by role (admin, editor, viewer, none) and the controls under /_double/."""

    admin = ("admin", "admin")

    def __init__(self, directory, *options):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self._options = options
        self._port = 0
        self.url = None
        self.tokens = {}
        self.program = None

    def start(self):
        """Again after stop() or its death: on the same port, knowing nothing."""
        self.program = Program("grafana-double", [sys.executable, SCRIPT, "--port", self._port, *self._options],
                               self.directory, stdout=subprocess.PIPE)
        line = self.program.process.stdout.readline().decode().strip()
        assert line, f"the double did not start:\n{self.program.output()}"
        self.url = line
        self._port = int(line.rpartition(":")[2])
        self.tokens = self.control("GET", "tokens")
        return self

    def stop(self):
        self.program.kill()
        self.program.process.stdout.close()

    # Asking it ----------------------------------------------------------------------------------

    def control(self, method, name, body=None):
        """/_double/<name>; fails the test when the double does not understand."""
        return json.loads(self._send(method, "/_double/" + name, body))

    def _send(self, method, path, body):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.read()
        except urllib.error.HTTPError as wrong:
            raise AssertionError(f"{method} {path}: {wrong.code} {wrong.read().decode()}") from None

    def state(self, *, exact=False):
        """Everything that clients have made, as canonical JSON: equal text is equal state. `exact` adds
        numeric ids, versions and times, which no rollback can restore."""
        return self._send("GET", "/_double/state" + ("?exact=1" if exact else ""), None).decode()

    def log(self):
        """Every request since the last reset: n, method, path, query, role, status, write, applied."""
        return self.control("GET", "log")

    def writes(self):
        return [f"{entry['method']} {entry['path']}" for entry in self.log() if entry["write"]]

    def violations(self):
        """Writes that read-only mode refused."""
        return self.control("GET", "violations")

    # Steering it --------------------------------------------------------------------------------

    def reset(self):
        """As after the start: no objects, no faults, no log."""
        self.control("POST", "reset")

    def forget_log(self):
        self.control("DELETE", "log")

    def fault(self, **fault):
        """Adds one, e.g. writes=True, nth=3, status=500; or method="PUT", path="policies", close=True."""
        self.control("POST", "faults", fault)

    def no_faults(self):
        self.control("DELETE", "faults")

    def mode(self, **mode):
        """read_only, racy, delay, keep_bodies, apis."""
        self.control("POST", "mode", mode)

    def set_token(self, role, *, token=None, state="valid"):
        """A new token, or another role or state for a known one; returns it."""
        return self.control("POST", "token", {"role": role, "token": token, "state": state})["token"]

    def set_provenance(self, kind, id_, provenance):
        self.control("POST", "provenance", {"kind": kind, "id": id_, "provenance": provenance})

    def preset(self, *steps):
        """Each (method, path, body), done by the server's admin and not logged; returns their answers."""
        return self.control("POST", "preset", [
            {"method": method, "path": path, **({} if body is None else {"body": body})}
            for method, path, body in steps])

    def fill(self, **counts):
        """dashboards=1000, rules=5000, panels=10, folder="filled"."""
        self.control("POST", "fill", counts)

    def add_datasource(self, uid, type_, url, *, default=False, name=None):
        self.preset(("POST", "/api/datasources", {
            "uid": uid, "name": name or uid, "type": type_, "access": "proxy", "url": url, "isDefault": default}))


@pytest.fixture(scope="session")
def shared_grafana_double(new_directory):
    double = GrafanaDouble(new_directory("grafana-double")).start()
    yield double
    double.stop()


@pytest.fixture
def grafana_double(shared_grafana_double):
    """A double that knows nothing yet; started anew when a test has let it die."""
    if not shared_grafana_double.program.alive():
        shared_grafana_double.stop()
        shared_grafana_double.start()
    shared_grafana_double.reset()
    return shared_grafana_double


@pytest.fixture
def new_grafana_double(new_directory):
    """Starts a double of its own, with options such as "--racy" or "--no-apis"."""
    made = []

    def make(*options):
        made.append(GrafanaDouble(new_directory("grafana-double"), *options))
        return made[-1].start()

    yield make
    for double in made:
        double.stop()
