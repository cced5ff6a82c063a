"""Runs tests/support/faultproxy/faultproxy.py, a network that breaks on command."""

import json
import pathlib
import subprocess
import sys
import urllib.request

from .loopback import free_port, wait_until
from .process import Program

SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "support/faultproxy/faultproxy.py"


class FaultProxy:
    """Connections to `port` reach 127.0.0.1:`target`. Rules are faultproxy.py's."""

    def __init__(self, directory, target, *, seed=1):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.target, self.seed = target, seed
        self.port = self.control = self.program = None

    def start(self):
        # Below the ephemeral range, for the port is closed and opened again by rules.
        options = {"target": f"127.0.0.1:{self.target}", "port": free_port(), "seed": self.seed}
        self.program = Program("faultproxy", [sys.executable, SCRIPT, json.dumps(options)], self.directory,
                               stdout=subprocess.PIPE)
        line = self.program.process.stdout.readline()
        assert line, f"the fault proxy did not start:\n{self.program.output()}"
        ports = json.loads(line)
        self.port, self.control = ports["port"], ports["control"]
        return self

    def stop(self):
        self.program.kill()
        self.program.process.stdout.close()

    def _ask(self, path, method="GET", body=None):
        data = None if body is None else json.dumps(body).encode()
        url = f"http://127.0.0.1:{self.control}{path}"
        with urllib.request.urlopen(urllib.request.Request(url, data=data, method=method), timeout=10) as answer:
            return json.load(answer)

    def rules(self, *, accept="serve", up=None, down=None, both=None, only_new=False):
        """From now on these rules, and no others; `only_new`: for connections to come."""
        return self._ask("/rules", "PUT", {"accept": accept, "only_new": only_new, "up": {**(both or {}), **(up or {})},
                                           "down": {**(both or {}), **(down or {})}})

    def heal(self):
        return self.rules()

    def cut(self, by="rst"):
        """Every connection there is: RST to both sides, or FIN."""
        return self._ask(f"/cut?by={by}", "POST", {})

    def vanish(self, only=None):
        """Every connection there is becomes half-open: nothing passes it any more, not even its end. `only`: just
        that one, 0 for the oldest."""
        return self._ask("/vanish" if only is None else f"/vanish?only={only}", "POST", {})

    def state(self):
        return self._ask("/state")

    def play(self, seed, faults, **options):
        """Begins a campaign; returns its steps."""
        return self._ask("/play", "POST", {"seed": seed, "faults": faults, **options})

    def wait_played(self, seconds):
        wait_until(lambda: not self.state()["playing"], seconds, "the campaign is over")
