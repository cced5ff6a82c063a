"""A real program under test: started in its own folder, output kept, ended by its process id."""

import os
import pathlib
import signal
import subprocess

from .loopback import wait_until

#: Everything started and not yet forgotten, so that a failing test can show what each one printed.
running = []


def whole_lines(text):
    """Of what somebody is still writing: the last line may be half there."""
    return text.split("\n")[:-1]


class Died(AssertionError):
    """The program ended before it was ready."""


class Program:
    """One child process; what it prints is kept in two files of its folder.

    Start it from the main thread: it ends with the thread that started it.
    """

    def __init__(self, name, argv, directory, *, user=None, env=None, extra_fds=(), stdout=None):
        self.name = name
        self.argv = [str(word) for word in argv]
        self.directory = pathlib.Path(directory)
        self.log = self.directory / f"{name}.log"  # standard output
        self.errors = self.directory / f"{name}.err"
        self._seen = [0, 0]
        ids = {}
        if user is not None and os.geteuid() == 0:  # others start everything as themselves
            ids = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        # Should this test run be killed itself, the kernel ends what it started. By setpriv and not by
        # preexec_fn, which may deadlock beside threads.
        command = ["setpriv", "--pdeathsig", "KILL", "--", *self.argv]
        with open(self.log, "ab") as log, open(self.errors, "ab") as errors:
            self.process = subprocess.Popen(
                command, cwd=self.directory, stdin=subprocess.DEVNULL, stdout=stdout or log,
                stderr=errors, env={**os.environ, **(env or {})}, pass_fds=extra_fds,
                start_new_session=True, **ids)
        running.append(self)

    @property
    def pid(self):
        return self.process.pid

    def printed(self):
        """Standard output so far."""
        return self.log.read_bytes().decode("utf-8", "replace")

    def output(self):
        """Standard output and standard error so far, one after the other."""
        return self.printed() + self.errors.read_bytes().decode("utf-8", "replace")

    def fresh_output(self):
        """What was printed since the last call: what belongs to the test that just ran."""
        fresh = ""
        for at, path in enumerate((self.log, self.errors)):
            text = path.read_bytes()
            fresh += text[self._seen[at]:].decode("utf-8", "replace")[-6000:]
            self._seen[at] = len(text)
        return fresh

    def alive(self):
        return self.process.poll() is None

    def ready_when(self, condition, seconds=20):
        """Waits for `condition` and notices at once when the program ends instead."""

        def ready():
            if not self.alive():
                raise Died(f"{self.name} ended with {self.process.returncode}:\n{self.output()}")
            return condition()

        return wait_until(ready, seconds, f"{self.name} is ready")

    def send(self, number):
        os.kill(self.pid, number)

    def wait(self, seconds):
        """The exit status, negative for a signal; fails the test when it does not end in time."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} (pid {self.pid}) still runs after {seconds} s") from None

    def kill(self):
        """Ends the program and its children at once, whatever state it is in, and forgets it.

        Its session is ours alone (start_new_session), so the group holds nobody else's processes.
        """
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        self.process.wait(10)
        self.forget()

    def stop(self, seconds=20):
        """SIGTERM, then wait; returns the exit status."""
        if self.alive():
            self.send(signal.SIGTERM)
        try:
            return self.wait(seconds)
        finally:
            self.kill()

    def forget(self):
        if self in running:
            running.remove(self)

    # What /proc knows about it.

    def _status(self, field):
        for line in pathlib.Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
        raise KeyError(field)

    def resident_bytes(self):
        return self._status("VmRSS")

    def peak_resident_bytes(self):
        return self._status("VmHWM")

    def forget_peak(self):
        """Lets the peak start anew and returns where it starts from."""
        try:
            pathlib.Path(f"/proc/{self.pid}/clear_refs").write_text("5")  # proc(5)
        except PermissionError:
            pass  # a process that forbids core dumps belongs to root here: the old peak counts on
        return self.peak_resident_bytes()

    def command_line(self):
        return pathlib.Path(f"/proc/{self.pid}/cmdline").read_bytes().decode("utf-8", "replace")
