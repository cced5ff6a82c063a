"""Callers that go on whatever breaks, keep every outcome, and judge afterwards whether a promise was broken."""

import contextlib
import random
import threading
import time

from programs.loopback import wait_until
from programs.records import SIZE, Check

from .http import ask, outcome
from .raw_http import RawHttp, request

MIB = 1 << 20

#: What a caller may be told while the way to the service is broken. 013: it was sent and not answered.
BROKEN = {(502, "TUNNEL_008"), (502, "TUNNEL_013"), (503, "TUNNEL_001"), (503, "TUNNEL_004"), (503, "TUNNEL_006"), (504, "TUNNEL_007")}


def post(daemon, token, name, *fields):
    """A request that must be executed at most once; its outcome, or None when the connection ended."""
    try:
        return outcome(ask(daemon, token, f"/t/web/execute?id={name}", *fields, method="POST"))
    except (EOFError, OSError):
        return None


class Workers:
    """Streams of records and requests that must not be repeated, until told to stop; every outcome is kept."""

    def __init__(self, daemon, origin, unique, *, users=3, seed=1, through=None):
        self.daemon, self.origin, self.unique = daemon, origin, unique
        self.door = through or daemon
        self.tokens = [daemon.token(f"user{number}") for number in range(users)]
        self.stopping = threading.Event()
        self.outcomes, self.wrong, self.bytes, self.cuts, self.recoveries = {}, [], 0, 0, []
        self.threads = [threading.Thread(target=self._posts, args=(number,), daemon=True) for number in range(users)]
        self.threads += [threading.Thread(target=self._streams, args=(number, seed), daemon=True) for number in range(users)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        wait_until(lambda: len(self.outcomes) > 20 and self.bytes > MIB // 4, 30, "the workers are at work")
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for thread in self.threads:
            thread.join(60)
            if thread.is_alive():
                self.wrong.append(f"{thread} hangs")

    def _posts(self, user):
        number, broken_since = 0, None
        while not self.stopping.is_set():
            number += 1
            name = f"{self.unique}-{user}-{number}"
            result = post(self.door, self.tokens[user], name)
            self.outcomes[name] = result
            if result == (200, None):
                if broken_since:
                    self.recoveries.append(time.monotonic() - broken_since)
                broken_since = None
            else:
                broken_since = broken_since or time.monotonic()
                if result is not None and result not in BROKEN:
                    self.wrong.append(f"{name}: {result}")
                self.stopping.wait(0.02)

    def _streams(self, user, seed):
        draw = random.Random(f"{seed} {user}")
        while not self.stopping.is_set():
            number, count = draw.randint(1, 1 << 30), draw.randint(1000, 60_000)
            check = Check(number)
            try:
                connection = RawHttp(self.door.connect(tls=False))
            except OSError:
                self.stopping.wait(0.02)
                continue
            with contextlib.suppress(OSError, EOFError), connection:
                connection.send(request("GET", f"/t/web/records?stream={number}&count={count}", token=self.tokens[user]))
                answer = connection.read_head()
                if answer.status != 200:
                    rest = connection.read_exactly(int(answer.value("Content-Length") or 0))
                    answer.body = rest
                    if outcome(answer) not in BROKEN:
                        self.wrong.append(f"stream: {outcome(answer)}")
                    self.stopping.wait(0.02)
                    continue
                while check.bytes < count * SIZE and check.wrong is None:
                    if not connection.buffer and not connection._more():
                        break
                    check.take(bytes(connection.buffer))
                    connection.buffer.clear()
            self.bytes += check.bytes
            if check.wrong:
                self.wrong.append(f"user {user}: {check.wrong}")
            elif check.bytes != count * SIZE:
                self.cuts += 1

    def good(self):
        """How many requests were answered by the service so far."""
        return sum(result == (200, None) for result in list(self.outcomes.values()))

    def judge(self):
        """The invariants that can be read off what the callers saw and what the service counted."""
        assert not self.wrong, self.wrong[:10]
        executed = self.origin._ask("/executions")
        for name, result in self.outcomes.items():
            times = executed.get(name, 0)
            assert times <= 1, f"{name} was executed {times} times"
            if result == (200, None):
                assert times == 1, f"{name} was answered and not executed"
            elif times == 1:
                assert result in (None, (502, "TUNNEL_013"), (504, "TUNNEL_007"), (502, "TUNNEL_008")), f"{name}: {result}, yet it was executed"
        good = self.good()
        longest = max(self.recoveries, default=0)
        print(f"{len(self.outcomes)} requests, {good} answered, {self.bytes / MIB:.1f} MiB, {self.cuts} streams cut, "
              f"{len(self.recoveries)} recoveries, longest {longest:.2f} s")
        return good
