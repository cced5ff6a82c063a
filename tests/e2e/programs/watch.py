"""tunnelctl incident watch, as a service that is killed and started again."""

import json
import os
import pathlib
import urllib.error
import urllib.request

from .loopback import free_port, wait_until
from .process import Died, Program, whole_lines
from .tunnelctl import binary


class Watch:
    """One watch; its environment is that of `ctl`, and its state folder stays over restarts.

    `secrets` of `ctl` are texts that it must never show.
    """

    def __init__(self, ctl, backend, daemon=None, *, arguments=(), environment=None):
        self.ctl, self.daemon = ctl, daemon
        self.directory = pathlib.Path(ctl.directory)
        self.state = self.directory / "watch"
        self.arguments = ["--backend", backend, "--state-dir", self.state, *arguments]
        self.environment = {**ctl.environment, **(environment or {})}
        if daemon:
            token = self.directory / "tunneld.jwt"
            token.write_text(daemon.token("incident-watch", "free", scope="tunnel:admin"))
            token.chmod(0o600)
            self.environment |= {"TUNNEL_ADMIN_URL": daemon.admin_url(), "TUNNEL_TOKEN_FILE": str(token)}
        else:
            self.arguments.append("--no-events")
        self.port, self.program = None, None

    def start(self, *, ready=True):
        for _ in range(5):
            self.port = free_port()
            kept = {name: os.environ[name] for name in os.environ if name.endswith("SAN_OPTIONS")}
            command = ["env", "-i", f"PATH={os.environ['PATH']}", f"HOME={self.directory}",
                       *[f"{name}={value}" for name, value in {**kept, **self.environment}.items()],
                       binary(), "incident", "watch", "--output", "json", "--listen", f"127.0.0.1:{self.port}",
                       *self.arguments]
            self.program = Program("incident-watch", command, self.directory)
            try:
                if ready:
                    self.program.ready_when(self.watches, 20)
                return self
            except Died:
                self.program.forget()
                if "in use" not in self.program.output():
                    raise
        raise AssertionError("the watch found no free port in five attempts")

    def watches(self):
        """It takes alerts, and follows tunneld if it is there."""
        try:
            self.page("/healthz")
            return self.daemon is None or not self.daemon.program.alive() or self.metric("following") == 1
        except OSError:
            return False

    def kill(self):
        """kill -9."""
        self.program.kill()

    def stop(self):
        """SIGTERM; returns the exit status."""
        status = self.program.stop()
        self.check_secrets()
        return status

    def records(self):
        return [json.loads(line) for line in whole_lines(self.program.printed()) if line.startswith("{")]

    def check_secrets(self):
        text = self.program.output()
        for secret in [*self.ctl.secrets, *(self.daemon.secrets if self.daemon else [])]:
            assert secret not in text, "a secret in the log"

    def request(self, method, path, body=None, headers=None):
        """(status, text)"""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        asked = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, headers or {}, method=method)
        try:
            with urllib.request.urlopen(asked, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as wrong:
            return wrong.code, wrong.read().decode()

    def page(self, path):
        return self.request("GET", path)

    def metric(self, name, **labels):
        """Sum of the samples of tunnelctl_incident_<name> with those labels."""
        total = 0.0
        for line in self.page("/metrics")[1].splitlines():
            sample, _, value = line.rpartition(" ")
            own, _, own_labels = sample.partition("{")
            if own == "tunnelctl_incident_" + name and all(f'{k}="{v}"' in own_labels for k, v in labels.items()):
                total += float(value)
        return total

    def wait_until_told(self, seconds=20):
        """Nothing waits for the backend any more."""
        wait_until(lambda: self.metric("outbox_depth") == 0, seconds, "the backend knows everything")
