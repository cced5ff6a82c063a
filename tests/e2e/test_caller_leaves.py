"""Callers that hang up before they are answered: what they held is free at once, and nobody works for them."""

import socket
import struct

import pytest

from callers.http import ask, outcome
from callers.raw_http import RawHttp, request
from callers.raw_websocket import UPGRADE
from programs.loopback import wait_until

NOW = 10  # seconds that are no wait for a turn or a deadline: those take 120 here


def close(connection):
    connection.close()


def reset(connection):
    connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def end_sending(connection):
    connection.socket.shutdown(socket.SHUT_WR)


WAYS = {"close": close, "reset": reset, "half-close": end_sending}


@pytest.fixture
def daemon(new_tunneld):
    """One channel a principal, and circuits that open at the second failure."""
    return new_tunneld(threads=1, ssh={"max_channels": 1, "max_sessions": 1}, breaker={"failures": 2})


@pytest.fixture
def token(daemon):
    return daemon.token("ann", "free")


def begin(daemon, token, target, *fields, tls=False, method="POST", body=b""):
    """A request under way on a connection of its own."""
    connection = RawHttp(daemon.connect(tls=tls, timeout=40))
    length = () if method == "GET" else (f"Content-Length: {len(body)}",)
    return connection.send(request(method, target, "X-Tunnel-Timeout: 120", *length, *fields, token=token, body=body))


def waiting(daemon):
    return daemon.metric("tunnel_queue_size")


@pytest.fixture
def channel_taken(daemon, token, origin, unique):
    """The one channel is held by a request that the service answers when its gate opens."""
    first = begin(daemon, token, f"/t/web/execute?id={unique}-first&gate={unique}")
    wait_until(lambda: origin.executions(f"{unique}-first") == 1, 20, "the channel is taken")
    yield first
    first.close()


def left(daemon):
    """Requests in the access log whose callers left."""
    return [record for record in daemon.log_records() if record.get("status") == 499]


# In the queue -------------------------------------------------------------------------------------


@pytest.mark.short
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("way", WAYS)
def test_a_caller_that_leaves_frees_its_place_in_the_queue_at_once(daemon, token, origin, unique, channel_taken, way, tls):
    if tls and way == "half-close":
        pytest.skip("a socket of Python's ssl cannot be half-closed")
    leaving = begin(daemon, token, f"/t/web/execute?id={unique}-leaving", tls=tls)
    wait_until(lambda: waiting(daemon) == 1, NOW, "it waits")
    WAYS[way](leaving)
    wait_until(lambda: waiting(daemon) == 0, NOW, "its place is free")
    assert daemon.metric("tunnel_queue_dropped_total", reason="abandoned") == 1
    origin.open_gate(unique)
    assert outcome(channel_taken.read_answer("POST")) == (200, None)
    assert outcome(ask(daemon, token)) == (200, None), "the channel serves on"
    assert origin.executions(f"{unique}-leaving") == 0, "the service never heard of it"


def test_one_that_leaves_with_its_body_unread_frees_its_place_too(daemon, token, origin, unique, channel_taken):
    """As far as the kernel took the body: an end behind what never reached us is known to nobody."""
    leaving = begin(daemon, token, f"/t/web/execute?id={unique}-leaving", body=b"x" * 40_000)
    wait_until(lambda: waiting(daemon) == 1, NOW, "it waits")
    leaving.close()
    wait_until(lambda: waiting(daemon) == 0, NOW, "its place is free")
    origin.open_gate(unique)
    assert outcome(channel_taken.read_answer("POST")) == (200, None)
    assert origin.executions(f"{unique}-leaving") == 0


def test_a_stream_that_is_not_wanted_any_more_leaves_the_queue_and_its_connection_place(daemon, token, origin, unique, channel_taken):
    leaving = RawHttp(daemon.connect(tls=False)).send(request("GET", "/ws/echo", *UPGRADE, token=token))
    wait_until(lambda: waiting(daemon) == 1, NOW, "it waits")
    leaving.close()
    wait_until(lambda: waiting(daemon) == 0, NOW, "its place is free")
    wait_until(lambda: [record["door"] for record in left(daemon)] == ["websocket"], NOW, "it is in the access log")
    origin.open_gate(unique)
    assert outcome(channel_taken.read_answer("POST")) == (200, None)


def test_a_caller_whose_next_request_is_already_there_has_not_left(daemon, token, origin, unique, channel_taken):
    patient = begin(daemon, token, f"/t/web/execute?id={unique}-second")
    wait_until(lambda: waiting(daemon) == 1, NOW, "it waits")
    patient.send(request("GET", "/t/web/hello", token=token))
    origin.open_gate(unique)
    assert outcome(channel_taken.read_answer("POST")) == (200, None)
    assert outcome(patient.read_answer("POST")) == (200, None)
    assert patient.read_answer().body == b"hello\n"
    patient.close()
    assert left(daemon) == []


# At the service -----------------------------------------------------------------------------------


@pytest.mark.short
def test_a_caller_that_leaves_a_slow_service_frees_the_channel_and_is_no_failure_of_it(daemon, token, origin, unique):
    for number in range(4):  # twice what opens the circuit
        before = len(origin.requests())
        leaving = begin(daemon, token, f"/t/web/slow?gate={unique}", method="GET")
        wait_until(lambda: len(origin.requests()) > before, NOW, "the service has the request")
        leaving.close()
        wait_until(lambda: len(left(daemon)) == number + 1, NOW, "it is in the access log")
        assert outcome(ask(daemon, token)) == (200, None), "the one channel is free, the circuit closed"
    # The last answer is on its way to us a moment before its request is counted as over.
    wait_until(lambda: daemon.metric("tunnel_requests_in_flight") == 0, NOW, "nothing is left")
    assert {record["service"] for record in left(daemon)} == {"web"}


def test_one_that_leaves_in_the_middle_of_an_answer_is_noticed_before_the_next_byte(daemon, token, origin, unique):
    leaving = begin(daemon, token, f"/t/web/stall?gate={unique}", method="GET")
    assert leaving.read_head().status == 200
    leaving.close()
    assert outcome(ask(daemon, token)) == (200, None), "the one channel is free"
    origin.open_gate(unique)
