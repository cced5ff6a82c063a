"""Free loopback ports and waiting for conditions: nothing here sleeps for a fixed time."""

import collections
import random
import socket
import time

# Below the kernel's ephemeral range (32768 and up), so that no outgoing connection of another test
# takes a port between our look and the program's bind.
_PORTS = range(15000, 32000)
_given = collections.deque(maxlen=1000)


def free_port():
    """A TCP port of 127.0.0.1 that nobody listens on right now, and none that was given out shortly before: one
    program may want several. Callers retry on a lost race."""
    while True:
        port = random.choice(_PORTS)
        if port in _given:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            _given.append(port)
            return port


def accepts(port):
    """Whether something listens on that port."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


def wait_until(condition, seconds, what):
    """Polls `condition` until it returns something true and returns that.

    Fails the test with `what` (a phrase such as "sshd accepts connections") after `seconds`.
    """
    limit = time.monotonic() + seconds
    pause = 0.005
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > limit:
            raise AssertionError(f"gave up after {seconds} s waiting until {what}")
        time.sleep(pause)  # between two looks at a condition, never instead of one
        pause = min(pause * 1.5, 0.1)
