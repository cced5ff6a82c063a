"""The daemon's end: what it says first, what it still finishes, whom it tells, and how long it takes. What
does not need many requests at once is in test_lifecycle.py."""

import asyncio
import json
import signal
import time
from datetime import datetime

import aiohttp
import pytest
import websockets

from callers.http import ask, outcome
from callers.operator import Operator
from callers.raw_http import RawHttp, request
from callers.websocket import HALF_CLOSE, stream
from programs import audit
from programs.loopback import accepts, wait_until
from programs.records import SIZE, Check
from programs.tunneld import is_sanitized

IN_FLIGHT = 300


async def in_flight(daemon, origin, unique, count, token):
    """So many POSTs that the service holds until the gate opens; returns their tasks and the session."""
    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers={"Authorization": f"Bearer {token}"})

    async def one(number):
        url = daemon.url(f"/t/web/execute?id={unique}{number}&gate={unique}", tls=False)
        async with session.post(url, headers={"X-Tunnel-Timeout": "60"}) as answer:
            return answer.status, await answer.text()

    posts = [asyncio.ensure_future(one(number)) for number in range(count)]
    while True:
        done = await asyncio.to_thread(origin._ask, "/executions")
        if sum(done.get(f"{unique}{number}", 0) for number in range(count)) == count:
            return session, posts
        assert not any(post.done() for post in posts), [post.result() for post in posts if post.done()]
        await asyncio.sleep(0.05)


def of(origin, unique, count):
    executed = origin._ask("/executions")
    return [executed.get(f"{unique}{number}", 0) for number in range(count)]


@pytest.mark.deadline(150)
async def test_hundreds_in_flight_and_a_long_one_are_all_answered_and_none_twice(new_tunneld, origin, unique):
    """Three hundred requests and, long after the others, one more; the daemon is told to go meanwhile."""
    daemon = new_tunneld(ssh={"max_sessions": 50})
    session, posts = await in_flight(daemon, origin, unique, IN_FLIGHT, daemon.token("ann", "enterprise"))
    more_session, (long_one,) = await in_flight(daemon, origin, unique + "-long", 1, daemon.token("ben"))
    daemon.program.send(signal.SIGTERM)
    while await asyncio.to_thread(accepts, daemon.plain_port):
        await asyncio.sleep(0.02)
    for _ in range(IN_FLIGHT):
        await asyncio.to_thread(origin.open_gate, unique)
    assert await asyncio.gather(*posts) == [(200, "done\n")] * IN_FLIGHT
    assert daemon.program.alive() and not long_one.done()
    began = time.monotonic()
    while time.monotonic() - began < 3:  # the rest of a slow request's time
        assert daemon.program.alive() and not long_one.done()
        await asyncio.sleep(0.1)
    await asyncio.to_thread(origin.open_gate, unique + "-long")
    assert await long_one == (200, "done\n")
    await session.close()
    await more_session.close()
    assert await asyncio.to_thread(daemon.program.wait, 30) == 0
    assert of(origin, unique, IN_FLIGHT) == [1] * IN_FLIGHT


@pytest.mark.short
async def test_readiness_goes_first_then_the_door_then_the_rest(new_tunneld, origin, unique):
    daemon = new_tunneld()
    session, posts = await in_flight(daemon, origin, unique, 5, daemon.token("ann"))
    operator = Operator.of(daemon)
    before = operator.last_event()
    daemon.program.send(signal.SIGTERM)
    while await asyncio.to_thread(accepts, daemon.plain_port):
        await asyncio.sleep(0.01)
    assert daemon.admin("/readyz")[0] == 503, "nobody is sent to a door that is shut"
    assert daemon.admin("/healthz")[0] == 200
    assert daemon.metric("tunnel_drain_state") == 1
    assert operator.kinds(before) == ["draining"]
    for _ in range(5):
        await asyncio.to_thread(origin.open_gate, unique)
    assert await asyncio.gather(*posts) == [(200, "done\n")] * 5
    await session.close()
    assert await asyncio.to_thread(daemon.program.wait, 30) == 0


@pytest.mark.short
async def test_streams_are_told_when_it_ends_and_closed_with_1012_once_they_are_quiet(new_tunneld, origin, unique):
    daemon = new_tunneld(drain_timeout="20s")
    async with stream(daemon, "echo", daemon.token("ann"), subprotocols=[HALF_CLOSE], tls=False) as ws, \
            stream(daemon, "echo", daemon.token("ben"), subprotocols=["binary"], tls=False) as plain:
        for one in (ws, plain):
            await one.send(b"x")
            assert await one.recv() == b"x"
        began = time.time()
        daemon.program.send(signal.SIGTERM)
        notice = json.loads(await asyncio.wait_for(ws.recv(), 10))
        assert notice["type"] == "maintenance" and notice["reason"]
        deadline = datetime.fromisoformat(notice["deadline"].replace("Z", "+00:00")).timestamp()
        assert 15 <= deadline - began <= 25
        for one in (ws, plain):
            with pytest.raises(websockets.ConnectionClosed):
                while True:
                    assert isinstance(await asyncio.wait_for(one.recv(), 30), bytes)
            assert one.close_code == 1012
            reason = json.loads(one.close_reason)
            assert reason["code"] == "TUNNEL_004" and reason["retryAfterMs"] > 0
    assert await asyncio.to_thread(daemon.program.wait, 30) == 0


async def test_a_stream_that_is_busy_may_finish(new_tunneld):
    """A download of records goes on through the drain to its last byte."""
    daemon = new_tunneld(drain_timeout="30s")
    count = 400_000
    async with stream(daemon, "records", daemon.token("ann"), subprotocols=["binary"], tls=False) as ws:
        await ws.send(b"3 %d\n" % count)
        check = Check(3)
        check.take(await ws.recv())
        daemon.program.send(signal.SIGTERM)
        while check.bytes < count * SIZE:
            check.take(await asyncio.wait_for(ws.recv(), 30))
            assert check.wrong is None
    assert await asyncio.to_thread(daemon.program.wait, 40) == 0


async def test_what_does_not_end_in_time_is_cut_and_the_status_is_still_0(new_tunneld, origin, unique):
    daemon = new_tunneld(drain_timeout="1s")
    session, posts = await in_flight(daemon, origin, unique, 3, daemon.token("ann"))
    daemon.program.send(signal.SIGTERM)
    results = await asyncio.gather(*posts, return_exceptions=True)
    assert all(isinstance(one, aiohttp.ClientError) or one[0] in (502, 503, 504) for one in results), results
    await session.close()
    assert await asyncio.to_thread(daemon.program.wait, 15) == 0
    assert of(origin, unique, 3) == [1, 1, 1]
    ended = [record for record in daemon.log_records() if "sigterm" in json.dumps(record).lower()]
    assert ended


@pytest.mark.short
async def test_a_second_signal_ends_it_within_a_second(new_tunneld, origin, unique):
    daemon = new_tunneld()
    session, posts = await in_flight(daemon, origin, unique, 50, daemon.token("ann"))
    daemon.program.send(signal.SIGTERM)
    while await asyncio.to_thread(accepts, daemon.plain_port):
        await asyncio.sleep(0.02)
    began = time.monotonic()
    daemon.program.send(signal.SIGTERM)
    daemon.expected_status = 1
    assert await asyncio.to_thread(daemon.program.wait, 10) == 1
    took = time.monotonic() - began
    print(f"ended {1000 * took:.0f} ms after the second signal")
    assert took < (8 if is_sanitized() else 2)
    await asyncio.gather(*posts, return_exceptions=True)
    await session.close()
    lines = audit.lines(daemon.state / "audit")
    assert lines[-1]["event"] == "stopped" or audit.broken(daemon.state / "audit") is None


@pytest.mark.short
async def test_an_operator_may_drain_it(new_tunneld, origin, unique):
    daemon = new_tunneld(drain_timeout="20s")
    operator = Operator.of(daemon)
    session, posts = await in_flight(daemon, origin, unique, 5, daemon.token("ann"))
    began = time.time()
    reply = (await asyncio.to_thread(operator.ask, "POST", "/api/tunnel/drain", {})).expect(202)
    deadline = datetime.fromisoformat(reply.json()["deadline"].replace("Z", "+00:00")).timestamp()
    assert 15 <= deadline - began <= 40
    await asyncio.to_thread(wait_until, lambda: daemon.admin("/readyz")[0] == 503, 10, "readiness is withdrawn")
    again = await asyncio.to_thread(operator.ask, "POST", "/api/tunnel/drain", {})
    assert again.expect(202).json()["deadline"] == reply.json()["deadline"], "a second call changes nothing"
    for _ in range(5):
        await asyncio.to_thread(origin.open_gate, unique)
    assert await asyncio.gather(*posts) == [(200, "done\n")] * 5
    await session.close()
    assert await asyncio.to_thread(daemon.program.wait, 30) == 0
    drains = [entry for entry in audit.lines(daemon.state / "audit") if entry["event"] == "drain"]
    assert [entry["reason"] for entry in drains] == ["admin"]


def test_new_requests_on_old_connections_are_told_to_go_elsewhere(new_tunneld, origin, unique):
    daemon = new_tunneld()
    token = daemon.token("ann")
    with RawHttp(daemon.connect(tls=False)) as busy, RawHttp(daemon.connect(tls=False)) as idle:
        idle.send(request("GET", "/t/web/hello", token=token))
        assert idle.read_answer().status == 200
        busy.send(request("GET", f"/t/web/slow?gate={unique}", "X-Tunnel-Timeout: 60", token=token))
        wait_until(lambda: f"GET /slow?gate={unique}" in origin.requests(), 20, "a request is in flight")
        daemon.program.send(signal.SIGTERM)
        wait_until(lambda: not accepts(daemon.plain_port), 10, "it drains")
        idle.send(request("GET", "/t/web/hello", token=token))
        try:
            answer = idle.read_answer()
            assert outcome(answer) in ((200, None), (503, "TUNNEL_004"))
            assert (answer.value("Connection") or "").lower() == "close"
        except EOFError:
            pass  # closed between two requests, as RFC 9112 §9.3.1 lets a server
        origin.open_gate(unique)
        assert busy.read_answer().body == b"at last\n"
    assert daemon.program.wait(30) == 0


def test_the_end_is_in_the_log_the_audit_and_the_events_with_its_reason(new_tunneld):
    daemon = new_tunneld()
    assert ask(daemon, daemon.token()).status == 200
    daemon.program.send(signal.SIGINT)
    assert daemon.program.wait(20) == 0
    lines = audit.lines(daemon.state / "audit")
    assert [entry["reason"] for entry in lines if entry["event"] == "drain"] == ["sigint"]
    assert lines[-1]["event"] == "stopped"
    assert audit.broken(daemon.state / "audit") is None
    daemon.start()
    kinds = Operator.of(daemon).kinds()
    assert kinds == ["started", "draining", "stopped", "started"]


@pytest.mark.deadline(120)
async def test_bytes_of_a_stream_in_drain_are_whole_up_to_its_end(new_tunneld):
    """Whatever a stream delivered before 1012 is a prefix of what was sent, not a byte more or less."""
    daemon = new_tunneld(drain_timeout="2s")
    async with stream(daemon, "records", daemon.token("ann"), subprotocols=[HALF_CLOSE], tls=False) as ws:
        await ws.send(b"5 100000000\n")
        check = Check(5)
        for _ in range(10):
            check.take(await ws.recv())
        daemon.program.send(signal.SIGTERM)
        with pytest.raises(websockets.ConnectionClosed):
            while True:
                message = await asyncio.wait_for(ws.recv(), 30)
                if isinstance(message, bytes):
                    check.take(message)
        assert ws.close_code == 1012 and check.wrong is None and check.good > 1000
    assert await asyncio.to_thread(daemon.program.wait, 30) == 0
