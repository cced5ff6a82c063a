"""A real OpenSSH server without privileges: the far side of the tunnel."""

import os
import pathlib
import pwd
import signal
import subprocess

from .loopback import accepts, free_port
from .process import Died, Program


def login_user():
    """Who sshd runs as and lets in. Without privileges it can only log in the user that runs it.

    Started by root it runs as www-data, which every Debian has: root's own sshd would need /run/sshd,
    and `nobody` counts as a locked account there.
    """
    return pwd.getpwnam("www-data") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())


class Sshd:
    """Forwards TCP to the ports it is told to permit, and allows nothing else: no shell, no PTY.

    `extra` lines of sshd_config win over those here.
    `restart()` keeps the port; `new_host_key()` before it makes it look like another machine.
    """

    def __init__(self, directory, *, permit_open=("any",), extra=()):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        self.user = login_user()
        self.permit_open = permit_open
        self.extra = extra
        self.port = None
        self.program = None
        self.authorized_keys = self.directory / "authorized_keys"
        self.authorized_keys.touch(mode=0o644)
        self.host_key = self.directory / "host_key"
        self.new_host_key()

    def new_host_key(self):
        for path in (self.host_key, self.host_key.with_suffix(".pub")):
            path.unlink(missing_ok=True)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", self.host_key],
                       check=True)
        os.chown(self.host_key, self.user.pw_uid, self.user.pw_gid)

    @property
    def fingerprint(self):
        """SHA256:… of the host key, as ssh-keygen and tunneld print it."""
        printed = subprocess.run(["ssh-keygen", "-l", "-f", self.host_key.with_suffix(".pub")],
                                 check=True, capture_output=True, text=True).stdout
        return printed.split()[1]

    def known_hosts_line(self):
        kind, key = self.host_key.with_suffix(".pub").read_text().split()[:2]
        return f"[127.0.0.1]:{self.port} {kind} {key}\n"

    def authorize(self, public_key_line):
        with open(self.authorized_keys, "a", encoding="ascii") as file:
            file.write(public_key_line.rstrip("\n") + "\n")

    def start(self):
        for attempt in range(5):
            if self.port is None or attempt:
                self.port = free_port()
            self._write_config()
            self.program = Program("sshd", ["/usr/sbin/sshd", "-D", "-e", "-f", self.config],
                                   self.directory, user=self.user)
            try:
                self.program.ready_when(lambda: accepts(self.port))
                return self
            except Died:
                self.program.forget()
                if "Address already in use" not in self.program.output():
                    raise
        raise AssertionError("sshd found no free port in five attempts")

    @property
    def config(self):
        return self.directory / "sshd_config"

    def _write_config(self):
        lines = [
            *self.extra,  # first, because sshd takes the first value of a setting
            f"ListenAddress 127.0.0.1:{self.port}",
            f"HostKey {self.host_key}",
            f"AuthorizedKeysFile {self.authorized_keys}",
            "StrictModes no",
            "PidFile none",
            "UsePAM no",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "AuthenticationMethods publickey",
            "AllowTcpForwarding local",
            f"PermitOpen {' '.join(self.permit_open)}",
            "PermitListen none",
            "AllowStreamLocalForwarding no",
            "AllowAgentForwarding no",
            "X11Forwarding no",
            "PermitTTY no",
            "PermitTunnel no",
            "ForceCommand /bin/false",
            "PermitUserRC no",
            "KexAlgorithms curve25519-sha256",
            "Ciphers aes256-gcm@openssh.com",
            "MaxStartups 100:30:200",
            "LogLevel VERBOSE",
        ]
        self.config.write_text("\n".join(lines) + "\n")

    def sessions(self):
        """Process ids below the listener: each session's, which carry the channels."""
        return descendants(self.program.pid)

    def kill(self):
        """Kills the listener and every session: the far side vanishes.

        A session is a process group of its own (sshd calls setsid), so each is ended by its id.
        """
        pids = self.sessions() if self.program.alive() else []
        self.program.kill()
        kill_all(pids)

    def kill_sessions(self):
        """Kills what carries the channels; the listener stays and takes new sessions."""
        kill_all(self.sessions())

    def restart(self):
        self.kill()
        return self.start()

    def stop(self):
        if self.program is not None:
            self.kill()


def descendants(pid):
    """All processes below `pid`, children before grandchildren."""
    found = []
    for task in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = task.read_text().split()
        except OSError:
            continue  # ended between the two looks
        for child in map(int, children):
            found += [child, *descendants(child)]
    return found


def kill_all(pids):
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
