"""Session starts that break at a chosen byte: many `tunnelctl connect` at once, each over a connection that a
fault proxy cuts a little later than the one before. All must get through in the end, with every byte right."""

import os
import subprocess

from programs.tunnelctl import OK, binary


class Caller:
    """One `tunnelctl connect --stdio SERVICE` that is given some bytes and their end."""

    def __init__(self, daemon, port, token_file, payload, service="echo"):
        self.payload = payload
        reader, writer = os.pipe()
        os.write(writer, payload)  # a pipe holds 64 KiB
        os.close(writer)
        command = ["setpriv", "--pdeathsig", "KILL", "--", str(binary()), "connect", "--server", f"wss://127.0.0.1:{port}",
                   "--ca-file", str(daemon.certificate), "--token-file", str(token_file), "--retry", "forever", "--stdio", service]
        self.process = subprocess.Popen(command, stdin=reader, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        os.close(reader)

    def judge(self, seconds):
        """Waits for its end, which must be a good one; returns how often it tried."""
        try:
            out, err = self.process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"a caller hangs:\n{self.process.communicate()[1].decode()}") from None
        err = err.decode()
        assert self.process.returncode == OK, f"ended with {self.process.returncode}:\n{err}"
        assert out == self.payload, f"{len(out)} of {len(self.payload)} bytes, and not the right ones:\n{err}"
        return 1 + err.count("outcome=") - err.count("outcome=connected") - err.count("outcome=resumed")


def sweep(daemon, proxy, token_file, offsets, *, way, how, crowd=50, seconds=90):
    """A caller for each of `offsets` (a range), `crowd` of them at a time. `proxy` leads to the daemon's TLS port.
    Returns how many connections were cut."""
    before = proxy.state()["cut"]
    for first in range(0, len(offsets), crowd):
        some = offsets[first:first + crowd]
        # Who comes again meets an offset behind all of these: then it breaks later, and is resumed.
        proxy.rules(**{way: {"cut_after": some.start, "cut_step": offsets.step, "cut_by": how}})
        callers = [Caller(daemon, proxy.port, token_file, os.urandom(2000)) for _ in some]
        try:
            for caller in callers:
                caller.judge(seconds)
        finally:
            for caller in callers:
                if caller.process.poll() is None:
                    caller.process.kill()
                    caller.process.communicate()
    proxy.heal()
    return proxy.state()["cut"] - before
