"""Requests that wait for a channel: in whose turn, for how long, and what each is told. A principal has one
channel here, and a gate at the service holds it, so that everything behind it waits until the test says."""

import asyncio
import json
import time

import pytest

from callers.http import ask, outcome
from callers.raw_http import RawHttp, request
from callers.websocket import HALF_CLOSE, stream
from programs.loopback import wait_until

FULL = (503, "TUNNEL_006")


def narrow(new_tunneld, *, capacity=20, channels=1, **more):
    """A daemon whose principals have so many channels and places to wait."""
    return new_tunneld(threads=1, ssh={"max_channels": channels, "max_sessions": 1},
                       tiers={tier: {"queue": capacity} for tier in ("free", "premium", "enterprise")}, **more)


@pytest.fixture
def daemon(new_tunneld):
    return narrow(new_tunneld)


class Held:
    """Requests under way, in the order they were sent; each waits its turn at the service or in the queue."""

    def __init__(self, daemon, origin, unique, token=None):
        self.daemon, self.origin, self.unique = daemon, origin, unique
        self.token = token or daemon.token("ann", "free")
        self.connections = {}

    def send(self, name, *fields, method="POST", gate=True):
        connection = RawHttp(self.daemon.connect(tls=False, timeout=40))
        gate = f"&gate={self.unique}" if gate else ""
        connection.send(request(method, f"/t/web/execute?id={self.unique}-{name}{gate}", "Content-Length: 0", *fields,
                                token=self.token))
        self.connections[name] = connection
        return connection

    def occupy(self):
        """The one channel: returns once the service holds the request."""
        self.send("first", "X-Tunnel-Timeout: 120")
        wait_until(lambda: self.origin.executions(f"{self.unique}-first") == 1, 20, "the channel is taken")
        self.waited_before = self.waited()  # it had to wait itself, for its session
        return self

    def waited(self):
        """How many waited for a channel so far."""
        return self.daemon.metric("tunnel_queue_wait_seconds_count")

    def wait(self, name, *fields, **options):
        """One more that has to wait; returns once it does."""
        before = self.waiting()
        self.send(name, "X-Tunnel-Timeout: 120", *fields, **options)
        wait_until(lambda: self.waiting() > before, 20, f"{name} waits")
        return self

    def waiting(self):
        return self.daemon.metric("tunnel_queue_size")

    def release(self, count):
        for _ in range(count):
            self.origin.open_gate(self.unique)

    def outcomes(self):
        """name -> (status, code), once all are answered."""
        found = {name: outcome(connection.read_answer("POST")) for name, connection in self.connections.items()}
        for connection in self.connections.values():
            connection.close()
        return found

    def executed(self):
        """Names in the order the service saw them."""
        return [line.split(f"id={self.unique}-")[1].split("&")[0] for line in self.origin.requests() if f"id={self.unique}-" in line]


@pytest.fixture
def held(daemon, origin, unique):
    return Held(daemon, origin, unique).occupy()


# Waiting ------------------------------------------------------------------------------------------


@pytest.mark.short
def test_those_that_wait_are_served_in_turn_and_each_once(held):
    for number in range(10):
        held.wait(f"n{number}")
    held.release(11)
    assert set(held.outcomes().values()) == {(200, None)}
    assert held.executed() == ["first", *[f"n{n}" for n in range(10)]]
    assert held.waiting() == 0
    assert held.waited() - held.waited_before == 10


@pytest.mark.short
def test_urgent_requests_overtake_and_low_ones_never_starve(held):
    """Eight high, four normal and one low of each thirteen, first in first out within each."""
    kinds = ["low"] * 6 + ["normal"] * 6 + ["high"] * 6
    for number, kind in enumerate(kinds):
        held.wait(f"{kind}{number}", f"X-Tunnel-Priority: {kind}")
    held.release(19)
    assert set(held.outcomes().values()) == {(200, None)}
    order = held.executed()[1:]
    assert len(order) == len(set(order)) == 18
    for kind in ("low", "normal", "high"):
        numbers = [int(name.removeprefix(kind)) for name in order if name.startswith(kind)]
        assert numbers == sorted(numbers), f"{kind} is first in, first out"
    first = [name.rstrip("0123456789") for name in order[:11]]
    assert first.count("high") == 6 and first.count("normal") >= 4 and first.count("low") <= 1
    assert order[0].startswith("high")
    assert any(name.startswith("low") for name in order[:14]), "low has its turn before all others are through"


def test_a_priority_of_no_such_name_is_refused_by_name(daemon):
    for wrong in ("urgent", "HIGH", "", "high, low", "1", "high;q=1"):
        answer = ask(daemon, daemon.token(), "/t/web/hello", f"X-Tunnel-Priority: {wrong}")
        assert outcome(answer) == (400, "TUNNEL_010"), wrong
        assert b"X-Tunnel-Priority" in answer.body


def test_the_priority_is_not_the_services_business(daemon):
    answer = ask(daemon, daemon.token(), "/t/web/request", "X-Tunnel-Priority: high")
    assert not [name for name, _ in json.loads(answer.body)["fields"] if "priority" in name.lower()]


# Full ---------------------------------------------------------------------------------------------


@pytest.mark.short
def test_a_full_queue_refuses_at_once_and_says_when_to_come_back(held):
    for number in range(20):
        held.wait(f"n{number}")
    answer = ask(held.daemon, held.token, f"/t/web/execute?id={held.unique}-over", method="POST")
    assert outcome(answer) == FULL
    assert int(answer.value("Retry-After")) >= 1
    assert held.daemon.metric("tunnel_queue_fill_ratio") == 1
    held.release(21)
    results = held.outcomes()
    assert len(results) == 21 and set(results.values()) == {(200, None)}
    assert "over" not in held.executed(), "what was refused was never sent"
    assert held.daemon.metric("tunnel_queue_dropped_total", reason="full") == 1


def test_one_users_full_queue_touches_no_other(held):
    for number in range(20):
        held.wait(f"n{number}")
    ben = held.daemon.token("ben", "free")
    assert [ask(held.daemon, ben).status for _ in range(20)] == [200] * 20
    assert outcome(ask(held.daemon, held.token, f"/t/web/execute?id={held.unique}-over", method="POST")) == FULL
    held.release(21)
    assert set(held.outcomes().values()) == {(200, None)}


def test_a_nearly_full_queue_takes_no_low_request_and_drops_the_newest_low_for_a_better_one(held):
    for number in range(19):  # 95 %
        held.wait(f"low{number}", "X-Tunnel-Priority: low")
    assert outcome(ask(held.daemon, held.token, "/t/web/hello", "X-Tunnel-Priority: low")) == FULL
    held.send("high", "X-Tunnel-Priority: high", "X-Tunnel-Timeout: 120")
    dropped = held.connections["low18"].read_answer("POST")
    assert outcome(dropped) == FULL and b"low" in dropped.body, "its owner is told why"
    del held.connections["low18"]
    held.release(20)
    assert set(held.outcomes().values()) == {(200, None)}
    assert held.executed()[1] == "high" and "low18" not in held.executed()
    assert held.daemon.metric("tunnel_queue_dropped_total", reason="evicted", priority="low") == 1


# No longer wanted ---------------------------------------------------------------------------------


@pytest.mark.short
def test_a_request_that_waited_too_long_is_answered_504_and_never_sent(held):
    held.wait("patient")
    started = time.monotonic()
    held.send("hasty", "X-Tunnel-Timeout: 1")
    answer = held.connections.pop("hasty").read_answer("POST")
    assert outcome(answer) == (504, "TUNNEL_007")
    assert time.monotonic() - started >= 0.9
    held.release(2)
    assert set(held.outcomes().values()) == {(200, None)}
    assert "hasty" not in held.executed()
    assert held.daemon.metric("tunnel_queue_dropped_total", reason="expired") == 1


def test_a_caller_that_leaves_gives_up_its_place_and_is_never_sent(held):
    held.wait("patient")
    held.wait("leaving")
    held.connections.pop("leaving").close()
    wait_until(lambda: held.waiting() == 1, 20, "the place is free")
    held.release(2)
    assert set(held.outcomes().values()) == {(200, None)}
    assert held.executed() == ["first", "patient"]


def test_every_request_ends_in_exactly_one_way(held):
    """Served, refused, expired or left: the counters add up to what was sent."""
    for number in range(12):
        held.wait(f"n{number}")
    for number in range(4):
        before = held.waiting()
        held.send(f"hasty{number}", "X-Tunnel-Timeout: 1")
        wait_until(lambda: held.waiting() > before, 20, "it waits")
    for number in range(4):
        held.wait(f"leaving{number}")
    refused = [outcome(ask(held.daemon, held.token, method="POST", path=f"/t/web/execute?id={held.unique}-r{n}")) for n in range(3)]
    assert refused == [FULL] * 3
    for number in range(4):
        held.connections.pop(f"leaving{number}").close()
    hasty = [outcome(held.connections.pop(f"hasty{n}").read_answer("POST")) for n in range(4)]
    assert hasty == [(504, "TUNNEL_007")] * 4
    held.release(13)
    assert set(held.outcomes().values()) == {(200, None)}
    assert sorted(held.executed()) == sorted(["first", *[f"n{n}" for n in range(12)]])
    wait_until(lambda: held.waiting() == 0, 10, "nobody waits")
    dropped = {reason: held.daemon.metric("tunnel_queue_dropped_total", reason=reason)
               for reason in ("full", "expired", "abandoned", "evicted", "failed")}
    assert dropped == {"full": 3, "expired": 4, "abandoned": 4, "evicted": 0, "failed": 0}
    assert held.waited() - held.waited_before == 20


# Told in time -------------------------------------------------------------------------------------


async def test_callers_are_told_how_full_their_queue_is_and_when_it_is_over(new_tunneld, origin, unique):
    daemon = narrow(new_tunneld, channels=2)
    held = Held(daemon, origin, unique)
    async with stream(daemon, "echo", held.token, subprotocols=[HALF_CLOSE], tls=False) as ws, \
            stream(daemon, "echo", daemon.token("ben", "free"), subprotocols=[HALF_CLOSE], tls=False) as stranger:
        await asyncio.to_thread(held.occupy)

        async def told():
            message = await asyncio.wait_for(ws.recv(), 20)
            assert isinstance(message, str), "control messages are text, the stream's bytes are binary"
            message = json.loads(message)
            assert message["type"] == "flow"
            return message

        for count, level in ((12, "slow_down"), (16, "throttle"), (18, "pause"), (19, "drop_low")):
            while held.waiting() < count:
                await asyncio.to_thread(held.wait, f"n{int(held.waiting())}")
            message = await told()
            assert (message["level"], message["fill"]) == (level, count / 20)
            assert message["recommendedDelayMs"] > 0
        await asyncio.to_thread(held.release, 20)
        while (message := await told())["level"] != "open":
            pass
        assert message["recommendedDelayMs"] == 0
        await ws.send(b"still a stream")
        assert await ws.recv() == b"still a stream"
        await stranger.send(b"x")
        assert await stranger.recv() == b"x", "another user's stream heard nothing of it"
    assert set((await asyncio.to_thread(held.outcomes)).values()) == {(200, None)}
    assert daemon.metric("tunnel_backpressure_events_total", level="drop_low") == 1


async def test_without_the_subprotocol_a_stream_is_bytes_alone(new_tunneld, origin, unique):
    daemon = narrow(new_tunneld, channels=2)
    held = Held(daemon, origin, unique)
    async with stream(daemon, "echo", held.token, subprotocols=["binary"], tls=False) as ws:
        await asyncio.to_thread(held.occupy)
        for number in range(15):
            await asyncio.to_thread(held.wait, f"n{number}")
        await ws.send(b"x")
        assert await asyncio.wait_for(ws.recv(), 20) == b"x"
        await asyncio.to_thread(held.release, 16)
    await asyncio.to_thread(held.outcomes)


# The upstream is away -----------------------------------------------------------------------------


@pytest.mark.short
def test_requests_wait_for_an_upstream_that_restarts(new_tunneld, new_sshd, origin, unique):
    far = new_sshd()
    daemon = new_tunneld(via=far, queue={"upstream_wait": "30s"})
    held = Held(daemon, origin, unique)
    far.kill()
    for number in range(5):
        held.send(f"n{number}", gate=False)
    wait_until(lambda: held.waiting() == 5, 20, "all wait")
    far.start()
    assert set(held.outcomes().values()) == {(200, None)}
    assert sorted(held.executed()) == [f"n{n}" for n in range(5)]


def test_an_upstream_that_stays_away_is_told_after_the_wait(new_tunneld, new_sshd):
    far = new_sshd()
    daemon = new_tunneld(via=far, queue={"upstream_wait": "1s"})
    far.kill()
    started = time.monotonic()
    assert outcome(ask(daemon, daemon.token())) == (503, "TUNNEL_001")
    assert time.monotonic() - started >= 0.9
    assert outcome(ask(daemon, daemon.token("ben"), "/t/web/hello", "X-Tunnel-Timeout: 1")) in ((503, "TUNNEL_001"), (504, "TUNNEL_007"))


def test_a_wrong_host_key_is_not_waited_for(new_tunneld, new_sshd):
    daemon = new_tunneld(via=new_sshd(), queue={"upstream_wait": "30s"},
                         upstream={"host_key_fingerprint": ["SHA256:" + "A" * 43]})
    started = time.monotonic()
    assert outcome(ask(daemon, daemon.token())) == (502, "TUNNEL_015")
    assert time.monotonic() - started < 15
