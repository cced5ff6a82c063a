"""tunnelctl agent, on its way until a test ends it."""

import os
import pathlib
import re
import signal

from .loopback import wait_until
from .process import Program
from .sshd import descendants, login_user
from .tunnelctl import binary


class Agent:
    """One agent, as an ordinary user with a home of its own; its log is stderr.

    `secrets` are texts that it must never show.
    """

    def __init__(self, directory, daemon, token, services, *, name, arguments=(), home=None, port=None):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.user = login_user()
        self.daemon, self.name, self.services = daemon, name, dict(services)
        self.arguments = [str(word) for word in arguments]
        self.home = pathlib.Path(home) if home else self.directory / "home"
        self.home.mkdir(mode=0o700, exist_ok=True)
        self.token_file = self.directory / "token"
        self.secrets = set()
        self.give(token)
        self.certificate = self.directory / "ca.pem"
        for path in (self.directory, self.home):
            os.chown(path, self.user.pw_uid, self.user.pw_gid)
        self.port = port  # unset: the daemon's
        self.server = None  # unset: wss:// on loopback, at that port
        self.environment = {}
        self.program = None

    @property
    def state(self):
        return self.home / ".local/state/tunnelctl/agents" / self.name

    def give(self, token):
        """Puts a token where the agent reads it, whole."""
        self.secrets.add(token)
        fresh = self.token_file.with_suffix(".new")
        fresh.write_text(token + "\n")
        fresh.chmod(0o600)
        os.chown(fresh, self.user.pw_uid, self.user.pw_gid)
        fresh.rename(self.token_file)

    def launch(self):
        self.certificate.write_bytes(self.daemon.certificate.read_bytes())
        server = self.server or f"wss://127.0.0.1:{self.port or self.daemon.port}"
        command = [binary(), "agent", "--server", server, "--id", self.name,
                   "--token-file", self.token_file, "--ca-file", self.certificate, *self.arguments]
        for name, port in self.services.items():
            command += ["--service", f"{name}=127.0.0.1:{port}"]
        clean = {"HOME": str(self.home), "XDG_STATE_HOME": "", "INVOCATION_ID": "", "NOTIFY_SOCKET": "",
                 "XDG_RUNTIME_DIR": str(self.home)}
        self.program = Program(f"agent-{self.name}", command, self.directory, user=self.user, env={**clean, **self.environment})
        return self

    def start(self):
        """Until tunneld has its services."""
        self.launch()
        self.program.ready_when(lambda: self.connections() > 0, 30)
        return self

    def log(self):
        text = self.program.errors.read_bytes().decode("utf-8", "replace")
        for secret in self.secrets:
            assert secret not in text, "the agent's log shows its token"
        return text

    def connections(self):
        """How often it was announced; counts runs before this one too."""
        return len(re.findall(r"agent: announced ", self.log()))

    def says(self, part, seconds=20):
        wait_until(lambda: part in self.log(), seconds, f"the agent says {part!r}:\n{self.log()}")

    def sshds(self):
        """Process ids of its SSH servers, children before grandchildren."""
        return descendants(self.program.pid) if self.program.alive() else []

    def status(self, seconds=30):
        """Waits for its end and tells its exit status."""
        return self.program.wait(seconds)

    def stop(self):
        """SIGTERM, after which no sshd may be left."""
        if self.program is None:
            return
        try:
            if not self.program.alive():
                return
            left = self.sshds()
            self.program.send(signal.SIGTERM)
            status = self.program.wait(20)
            assert status == 0, f"the agent ended with {status}:\n{self.log()}"
            wait_until(lambda: not any(map(is_alive, left)), 10, "its sshds are gone")
        finally:
            self.program.kill()


def is_alive(pid):
    """Whether there is such a process that has not ended: a zombie nobody has waited for does not count."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
