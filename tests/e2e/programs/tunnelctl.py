"""tunnelctl, run to its end or interrupted on its way."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

from .tunneld import binary as tunneld_binary
from .tunneld import is_sanitized

#: Its exit statuses (tunnelctl/commands/exit_status.h).
OK, FAILED, CHANGES, USAGE, BAD_INPUT, UNAVAILABLE, CONFLICT = 0, 1, 2, 64, 65, 69, 73
GAVE_UP, DENIED, CONFIG, INTERRUPTED = 75, 77, 78, 130


def binary():
    """tunnelctl, which stands beside tunneld."""
    return tunneld_binary().with_name("tunnelctl")


class Ended:
    """How one run ended and what it said."""

    def __init__(self, arguments, code, out, err, peak_bytes, seconds):
        self.arguments, self.code, self.out, self.err = arguments, code, out, err
        self.peak_bytes, self.seconds = peak_bytes, seconds

    def __str__(self):
        return f"tunnelctl {' '.join(self.arguments)}\n-> {self.code}\n--- out\n{self.out}--- err\n{self.err}"

    def expect(self, code):
        assert self.code == code, f"expected {code}: {self}"
        return self

    def json(self):
        """Standard output, which must be one JSON value and nothing else."""
        return json.loads(self.out)


class Tunnelctl:
    """Runs it in a folder, with an environment of our own: nothing of the caller's configuration counts.

    `secrets` are texts that no run may show, on whichever stream or as its arguments.
    """

    def __init__(self, directory, environment=None, secrets=()):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.environment = dict(environment or {})
        self.secrets = [secret for secret in secrets if secret]
        self.last = None

    @staticmethod
    def program():
        return binary()

    def with_environment(self, **changes):
        """Another one, with these variables; None removes one."""
        merged = {**self.environment, **changes}
        return Tunnelctl(self.directory, {k: v for k, v in merged.items() if v is not None}, self.secrets)

    def start(self, *arguments):
        for word in arguments:
            assert not any(secret in str(word) for secret in self.secrets), "a secret in argv"
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "ASAN_OPTIONS", "TSAN_OPTIONS", "UBSAN_OPTIONS")
                if name in os.environ}
        return Running(self, [str(word) for word in arguments],
                       {**kept, "HOME": str(self.directory), "XDG_RUNTIME_DIR": str(self.directory),
                        **self.environment})

    def run(self, *arguments, timeout=60):
        self.last = self.start(*arguments).end(timeout)
        return self.last

    def weigh(self, *arguments, timeout=110):
        """(exit status, file with its standard output, standard error, peak of its memory in bytes). The kernel counts
        what the parent had into a child's peak, so a small process starts it."""
        runs = ("import os, subprocess, sys\n"
                "child = subprocess.Popen(sys.argv[2:], stdout=open(sys.argv[1], 'w'), stdin=subprocess.DEVNULL)\n"
                "_, status, usage = os.wait4(child.pid, 0)\n"
                "print(os.waitstatus_to_exitcode(status), usage.ru_maxrss * 1024)\n")
        out = self.directory / "weighed.out"
        ended = subprocess.run([sys.executable, "-c", runs, out, binary(), *arguments], capture_output=True, text=True,
                               cwd=self.directory, timeout=timeout, check=True,
                               env={"PATH": os.environ["PATH"], "HOME": str(self.directory), **self.environment})
        code, peak = ended.stdout.split()
        return int(code), out, ended.stderr, int(peak)

    def monitor(self, command, *arguments, timeout=60):
        return self.run("monitor", command, *arguments, timeout=timeout)


class Running:
    """A run on its way."""

    def __init__(self, by, arguments, environment):
        self._by, self._arguments = by, arguments
        self._began = time.monotonic()
        self._out, self._err = [], []
        self.process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", str(binary()), *arguments], cwd=by.directory, env=environment,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self._readers = [threading.Thread(target=self._read, args=pair, daemon=True)
                         for pair in ((self.process.stdout, self._out), (self.process.stderr, self._err))]
        for reader in self._readers:
            reader.start()

    @staticmethod
    def _read(stream, into):
        with stream:
            into.append(stream.read())

    def interrupt(self, number=signal.SIGINT):
        os.kill(self.process.pid, number)

    def end(self, timeout=60):
        """Waits for the end. The peak of its memory is at least that of this test (weigh() has its own)."""
        limit = time.monotonic() + timeout * (4 if is_sanitized() else 1)
        pause = 0.001
        while True:
            pid, status, usage = os.wait4(self.process.pid, os.WNOHANG)
            if pid:
                break
            if time.monotonic() > limit:
                self.process.kill()
                self.process.wait()
                raise AssertionError(f"tunnelctl {' '.join(self._arguments)} still runs after {timeout} s:\n"
                                     f"{self._text(self._out)}{self._text(self._err)}")
            time.sleep(pause)  # between two looks
            pause = min(pause * 1.3, 0.02)
        seconds = time.monotonic() - self._began
        self.process.returncode = os.waitstatus_to_exitcode(status)
        for reader in self._readers:
            reader.join(10)
        ended = Ended(self._arguments, self.process.returncode, self._text(self._out), self._text(self._err),
                      usage.ru_maxrss * 1024, seconds)
        for secret in self._by.secrets:
            assert secret not in ended.out and secret not in ended.err, f"shows the secret {secret[:4]}...: {ended}"
        assert ended.code >= 0, f"ended by a signal: {ended}"
        return ended

    @staticmethod
    def _text(parts):
        return b"".join(parts).decode("utf-8", "replace")
