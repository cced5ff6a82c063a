"""The OpenTelemetry collector double as a process (tests/support/otlp_collector/README.md)."""

import json
import pathlib
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

from .loopback import wait_until
from .process import Program

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "support" / "otlp_collector" / "server.py"


class OtlpCollector:
    """`endpoint` is what tracing.endpoint takes."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self._port = 0
        self.url = self.endpoint = None
        self.program = None

    def start(self):
        """Again after stop(): on the same port, knowing nothing."""
        self.program = Program("otlp-collector", [sys.executable, SCRIPT, "--port", self._port], self.directory,
                               stdout=subprocess.PIPE)
        line = self.program.process.stdout.readline().decode().strip()
        assert line, f"the collector did not start:\n{self.program.output()}"
        self.url, self._port = line, int(line.rpartition(":")[2])
        self.endpoint = line + "/v1/traces"
        return self

    def stop(self):
        self.program.kill()
        self.program.process.stdout.close()

    def control(self, method, name, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/_double/{name}", data, {"Content-Type": "application/json"},
                                         method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as wrong:
            raise AssertionError(f"{method} {name}: {wrong.code} {wrong.read().decode()}") from None

    # What came ------------------------------------------------------------------------------------

    def spans(self, **wanted):
        """Those whose fields are as `wanted`, e.g. name="tunnel.forward_request"."""
        return [span for span in self.control("GET", "spans")
                if all(span[field] == value for field, value in wanted.items())]

    def requests(self):
        return self.control("GET", "requests")

    def complaints(self):
        """What was taken though OTLP forbids it; empty unless tunneld has a bug."""
        return self.control("GET", "complaints")

    def wait_for(self, count=1, *, seconds=20, **wanted):
        """The spans that match, when there are at least `count`."""
        def enough():
            found = self.spans(**wanted)
            return found if len(found) >= count else None
        return wait_until(enough, seconds, f"{count} spans with {wanted} are at the collector")

    # How it answers -------------------------------------------------------------------------------

    def script(self, *steps):
        """One step for each of the next requests, e.g. {"status": 503, "headers": {"Retry-After": "1"}}."""
        self.control("POST", "script", list(steps))

    def reset(self):
        self.control("POST", "reset")


@pytest.fixture(scope="session")
def shared_otlp_collector(new_directory):
    collector = OtlpCollector(new_directory("otlp-collector")).start()
    yield collector
    collector.stop()


@pytest.fixture
def otlp_collector(shared_otlp_collector):
    """A collector that knows nothing yet; everything that a test sent to it must be as OTLP wants it."""
    if not shared_otlp_collector.program.alive():
        shared_otlp_collector.stop()
        shared_otlp_collector.start()
    shared_otlp_collector.reset()
    yield shared_otlp_collector
    assert not shared_otlp_collector.program.alive() or shared_otlp_collector.complaints() == []
