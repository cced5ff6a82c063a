"""Runs origin_server.py and asks it what it saw."""

import hashlib
import json
import pathlib
import subprocess
import sys
import urllib.request

from .process import Program

BLOCK = bytes(hashlib.sha256(b"deterministic stream").digest() * 2048)  # as in origin_server.py


def stream_digest(count):
    """SHA-256 of the first `count` bytes of the deterministic stream."""
    digest = hashlib.sha256()
    for _ in range(count // len(BLOCK)):
        digest.update(BLOCK)
    digest.update(BLOCK[:count % len(BLOCK)])
    return digest.hexdigest()


class Origin:
    """`ports` maps the names in origin_server.py to port numbers, kept by restart()."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.ports = {}
        self.program = None

    def start(self):
        script = pathlib.Path(__file__).with_name("origin_server.py")
        self.program = Program("origin", [sys.executable, script, json.dumps(self.ports)], self.directory,
                               stdout=subprocess.PIPE)
        line = self.program.process.stdout.readline()
        assert line, f"the origin did not start:\n{self.program.output()}"
        self.ports = json.loads(line)
        return self

    def stop(self):
        self.program.kill()
        self.program.process.stdout.close()

    def restart(self):
        """Ends it if it still runs and starts it again on the same ports, counts at zero."""
        self.stop()
        return self.start()

    def _ask(self, path, method="GET"):
        url = f"http://127.0.0.1:{self.ports['control']}{path}"
        with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=10) as answer:
            return json.load(answer)

    def executions(self, request_id):
        return self._ask("/executions").get(request_id, 0)

    def requests(self):
        """Every request line parsed so far, in order: "GET /hello"."""
        return self._ask("/requests")

    def anomalies(self):
        """What reached the service that no proxy may send."""
        return self._ask("/anomalies")

    def open_connections(self):
        return self._ask("/open")

    def open_gate(self, name):
        self._ask(f"/gate/{name}", "POST")
