"""`tunnelctl connect --http`: requests to a port of this machine, which wait while there is no connection and reach
the service at most once."""

import concurrent.futures
import hashlib
import http.client
import itertools
import json
import random
import signal
import socket
import threading
import time

import pytest
import websockets

from callers.http import outcome
from callers.raw_http import RawHttp, request
from programs.loopback import accepts, free_port, wait_until
from programs.origin import BLOCK, stream_digest
from programs.tunnelctl import CONFLICT, INTERRUPTED, OK, UNAVAILABLE, USAGE
from test_connect import faultproxy, new_connect  # noqa: F401

MIB = 1 << 20
DONE = (200, None)


class Caller:
    """One request on a connection of its own."""

    def __init__(self, port, method, path, *fields, body=b"", timeout=60, host="tunnel.test"):
        self.method = method
        if body or method in ("POST", "PUT"):
            fields = (*fields, f"Content-Length: {len(body)}")
        self.http = RawHttp(socket.create_connection(("127.0.0.1", port), timeout=timeout))
        self.http.socket.settimeout(timeout)
        self.http.send(request(method, path, *fields, host=host, body=body))
        self.sent = time.monotonic()

    def answer(self):
        with self.http:
            return self.http.read_answer(self.method)

    def outcome(self):
        return outcome(self.answer())


def ask(port, path, *fields, method="GET", **more):
    return Caller(port, method, path, *fields, **more).answer()


def execute(port, name, *fields, method="POST", **more):
    return Caller(port, method, f"/execute?id={name}", *fields, **more)


def executed(origin, unique):
    """Names in the order in which the service saw them."""
    return [line.split(f"id={unique}-")[1].split("&")[0] for line in origin.requests() if f"id={unique}-" in line]


@pytest.fixture
def away(new_tunneld, new_connect):  # noqa: F811
    """(daemon, port, connect) whose daemon was there and has gone."""

    def make(*arguments, **configuration):
        daemon, port = new_tunneld(**configuration), free_port()
        connect = new_connect(daemon, "--http", f"{port}:web", "--retry", "forever", *arguments).says("connected to")
        lose(daemon, connect)
        return daemon, port, connect

    return make


def lose(daemon, connect):
    before = connect.err.count("reconnecting:")
    daemon.program.kill()
    wait_until(lambda: connect.err.count("reconnecting:") > before, 20, "it is noticed")


def bring_back(daemon):
    daemon.launch()
    wait_until(daemon.is_ready, 30, "the daemon is back")


def wait_until_read(port):
    """Everything sent before has been read by the listener: so has a later request, which waits in vain."""
    assert ask(port, "/hello", "X-Tunnel-Timeout: 1").status == 504


# Requests -----------------------------------------------------------------------------------------


@pytest.mark.short_client
def test_a_request_reaches_the_service_as_the_caller_sent_it(tunneld, new_connect):  # noqa: F811
    port = free_port()
    connect = new_connect(tunneld, "--http", f"{port}:web").says(f"; 127.0.0.1:{port} -> web")
    answer = ask(port, "/request?a=%2F&b", "Authorization: Bearer the-service's-own", "X-Tunnel-Priority: high",
                 "X-Tunnel-Timeout: 20", "Idempotency-Key: k", "X-Forwarded-Host: forged", method="POST",
                 body=b"the body", host="somewhere.test:8080")
    seen = json.loads(answer.body)
    fields = {}
    for name, value in seen["fields"]:
        fields.setdefault(name.lower(), []).append(value)
    assert (seen["method"], seen["target"], seen["body"]) == ("POST", "/request?a=%2F&b", "the body")
    assert fields["authorization"] == ["Bearer the-service's-own"]
    assert fields["host"] == ["somewhere.test:8080"]
    assert fields["x-forwarded-host"] == ["somewhere.test:8080"]
    assert fields["x-forwarded-for"] == ["127.0.0.1"] and fields["x-forwarded-proto"] == ["http"]
    assert not [name for name in fields if name.startswith("x-tunnel-") or name == "idempotency-key"]
    assert connect.token not in json.dumps(seen)
    assert answer.value("X-Kept") == "yes" and answer.value("X-Hop") is None
    assert connect.stop() == OK


@pytest.mark.short_client
def test_many_requests_at_once_do_not_mix_and_their_connections_are_kept(tunneld, new_connect):  # noqa: F811
    port = free_port()
    new_connect(tunneld, "--http", f"{port}:web").says("connected to")

    def talk(number):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        for turn in range(5):
            body = f"{number}/{turn} ".encode() * 1000
            connection.request("POST" if turn % 2 else "PUT", "/echo", body)
            assert connection.getresponse().read() == body
        connection.close()
        return True

    with concurrent.futures.ThreadPoolExecutor(40) as pool:
        assert all(pool.map(talk, range(40)))


@pytest.mark.short_client
def test_events_arrive_one_by_one(tunneld, new_connect, origin, unique):  # noqa: F811
    port = free_port()
    new_connect(tunneld, "--http", f"{port}:web").says("connected to")
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    origin.open_gate(unique)
    connection.request("GET", f"/events?count=3&gate={unique}")
    answer = connection.getresponse()
    for number in range(3):
        assert answer.readline() == f"id: {number}\n".encode()
        assert answer.readline() == f"data: tick {number}\n".encode()
        assert answer.readline() == b"\n"
        origin.open_gate(unique)
    assert answer.read() == b""


@pytest.mark.deadline(120)
def test_a_large_upload_is_whole_and_comes_with_its_trailers(tunneld, new_connect):  # noqa: F811
    port = free_port()
    new_connect(tunneld, "--http", f"{port}:web").says("connected to")
    blocks = 100 * MIB // len(BLOCK)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", "/upload", (BLOCK for _ in range(blocks)), {"Content-Length": str(100 * MIB)})
    got = json.loads(connection.getresponse().read())
    assert (got["bytes"], got["sha256"]) == (100 * MIB, stream_digest(100 * MIB))
    with RawHttp(socket.create_connection(("127.0.0.1", port), timeout=20)) as raw:
        raw.send(request("POST", "/upload", "Transfer-Encoding: chunked", "Trailer: X-Sum"))
        raw.send(b"5\r\nhello\r\n0\r\nX-Sum: 42\r\n\r\n")
        got = json.loads(raw.read_answer("POST").body)
    assert (got["bytes"], got["trailers"]) == (5, {"x-sum": "42"})


@pytest.mark.short_client
async def test_a_websocket_passes(tunneld, new_connect):  # noqa: F811
    port = free_port()
    connect = new_connect(tunneld, "--http", f"{port}:chat").says("connected to")
    async with websockets.connect(f"ws://127.0.0.1:{port}/", open_timeout=20) as chat:
        await chat.send("hello")
        assert await chat.recv() == "hello"
    assert connect.stop() == OK


@pytest.mark.short_client
def test_a_refused_stream_is_answered_as_the_server_said(tunneld, new_connect):  # noqa: F811
    unknown, dead = free_port(), free_port()
    connect = new_connect(tunneld, "--http", f"{unknown}:nonesuch", "--http", f"{dead}:dead").says("connected to")
    for method in ("GET", "POST"):
        assert outcome(ask(unknown, "/", method=method)) == (403, "TUNNEL_017")
        assert outcome(ask(dead, "/", method=method)) == (503, "TUNNEL_001")
    assert outcome(ask(unknown, "/", method="PUT", body=bytes(300_000))) == (403, "TUNNEL_017")
    assert connect.process.poll() is None


@pytest.mark.short_client
def test_bad_requests_are_told(tunneld, new_connect, origin, unique):  # noqa: F811
    port = free_port()
    new_connect(tunneld, "--http", f"{port}:web").says("connected to")
    for field in ("X-Tunnel-Timeout: 601", "X-Tunnel-Timeout: soon", "X-Tunnel-Priority: urgent"):
        assert execute(port, f"{unique}-x", field).outcome() == (400, "TUNNEL_010")
    assert executed(origin, unique) == []


def test_a_client_that_asks_too_often_is_paced_and_not_refused(new_tunneld, new_connect, origin, unique):  # noqa: F811
    tiers = {tier: {"requests_per_minute": 300, "connections": 10} for tier in ("free", "premium", "enterprise")}
    daemon, port = new_tunneld(tiers=tiers), free_port()
    new_connect(daemon, "--http", f"{port}:web").says("connected to")
    callers = [execute(port, f"{unique}-{n}") for n in range(70)]  # the burst is 50
    assert {caller.outcome() for caller in callers} == {DONE}
    assert sorted(map(int, executed(origin, unique))) == list(range(70))


# Waiting for the connection -----------------------------------------------------------------------


@pytest.mark.deadline(90)
def test_a_hundred_requests_wait_for_the_connection_and_each_is_served_once_in_turn(away, origin, unique):
    daemon, port, connect = away("--queue", "200")
    kinds = [("low", 30), ("normal", 35), ("high", 35)]
    callers = {f"{kind}{n}": execute(port, f"{unique}-{kind}{n}", f"X-Tunnel-Priority: {kind}", "X-Tunnel-Timeout: 60")
               for kind, count in kinds for n in range(count)}
    wait_until_read(port)
    assert executed(origin, unique) == []
    bring_back(daemon)
    assert {name: caller.outcome() for name, caller in callers.items()} == dict.fromkeys(callers, DONE)
    order = executed(origin, unique)
    assert sorted(order) == sorted(callers)
    # Ten at a time are on their way, and among those the order is the network's.
    first = [name.rstrip("0123456789") for name in order[:39]]
    assert 18 <= first.count("high") <= 30 and 6 <= first.count("normal") <= 18 and first.count("low") <= 9
    for kind, _ in kinds:
        numbers = [int(name.removeprefix(kind)) for name in order if name.startswith(kind)]
        assert all(abs(number - place) <= 10 for place, number in enumerate(numbers)), f"{kind}: {numbers}"
    assert connect.stop() == OK


def test_at_most_ten_are_on_their_way_at_a_time(away, origin, unique):
    daemon, port, _ = away()
    callers = [Caller(port, "POST", f"/execute?id={unique}-{n}&gate={unique}", "X-Tunnel-Timeout: 60") for n in range(30)]
    wait_until_read(port)
    bring_back(daemon)
    for done in range(21):
        wait_until(lambda: len(executed(origin, unique)) >= done + 10, 20, "ten are at the service")
        assert len(executed(origin, unique)) == done + 10
        origin.open_gate(unique)
    for _ in range(9):
        origin.open_gate(unique)
    assert {caller.outcome() for caller in callers} == {DONE}


@pytest.mark.short_client
def test_a_full_queue_refuses_at_once_and_says_so(away, origin, unique):
    daemon, port, connect = away("--queue", "10")
    waiting = [execute(port, f"{unique}-{n}", "X-Tunnel-Timeout: 40") for n in range(10)]
    connect.says("the queue is 80 % full")
    connect.says("100 % full")
    began = time.monotonic()
    refused = execute(port, f"{unique}-late").answer()
    assert outcome(refused) == (503, "TUNNEL_006") and int(refused.value("Retry-After")) >= 1
    assert time.monotonic() - began < 1
    bring_back(daemon)
    assert {caller.outcome() for caller in waiting} == {DONE}
    assert sorted(executed(origin, unique)) == [str(n) for n in range(10)]


@pytest.mark.short_client
def test_low_priority_gives_way_in_a_queue_that_is_nearly_full_and_is_told(away, origin, unique):
    daemon, port, connect = away("--queue", "20")
    low = [execute(port, f"{unique}-low{n}", "X-Tunnel-Priority: low", "X-Tunnel-Timeout: 40") for n in range(10)]
    connect_waits = [execute(port, f"{unique}-n{n}", "X-Tunnel-Timeout: 40") for n in range(9)]
    connect.says("those of low priority are dropped")
    assert execute(port, f"{unique}-low-late", "X-Tunnel-Priority: low").outcome() == (503, "TUNNEL_006")
    high = [execute(port, f"{unique}-high{n}", "X-Tunnel-Priority: high", "X-Tunnel-Timeout: 40") for n in range(3)]
    evicted = [low[n] for n in (9, 8, 7)]
    assert [caller.outcome() for caller in evicted] == [(503, "TUNNEL_006")] * 3
    bring_back(daemon)
    assert {caller.outcome() for caller in low[:7] + connect_waits + high} == {DONE}
    assert len(executed(origin, unique)) == 19 and "low9" not in executed(origin, unique)


@pytest.mark.short_client
def test_who_waits_longer_than_its_deadline_is_told_and_never_sent(away, origin, unique):
    daemon, port, _ = away("--request-timeout", "2")
    patient = execute(port, f"{unique}-patient", "X-Tunnel-Timeout: 40")
    usual, hurried = execute(port, f"{unique}-usual"), execute(port, f"{unique}-hurried", "X-Tunnel-Timeout: 1")
    assert hurried.outcome() == (504, "TUNNEL_007")
    assert 0.9 < time.monotonic() - hurried.sent < 2
    assert usual.outcome() == (504, "TUNNEL_007")
    assert 1.9 < time.monotonic() - usual.sent < 4
    bring_back(daemon)
    assert patient.outcome() == DONE
    assert executed(origin, unique) == ["patient"]


@pytest.mark.short_client
def test_who_leaves_the_queue_is_never_sent(away, origin, unique):
    daemon, port, _ = away()
    gone = [execute(port, f"{unique}-gone{n}") for n in range(5)]
    stays = execute(port, f"{unique}-stays", "X-Tunnel-Timeout: 40")
    wait_until_read(port)
    for caller in gone:
        caller.http.close()
    wait_until_read(port)
    bring_back(daemon)
    assert stays.outcome() == DONE
    assert executed(origin, unique) == ["stays"]


def test_a_port_serves_before_the_first_connection_is_there(new_tunneld, new_connect):  # noqa: F811
    daemon, port = new_tunneld(), free_port()
    daemon.program.kill()
    new_connect(daemon, "--http", f"{port}:web", "--retry", "forever")
    wait_until(lambda: accepts(port), 20, "the port is there")
    caller = Caller(port, "GET", "/hello", "X-Tunnel-Timeout: 40")
    bring_back(daemon)
    assert caller.answer().body == b"hello\n"


# At most once -------------------------------------------------------------------------------------


@pytest.mark.deadline(90)
def test_a_link_that_breaks_for_good_repeats_only_what_may_be_repeated(new_tunneld, new_connect, origin, unique):  # noqa: F811
    daemon, port = new_tunneld(), free_port()
    connect = new_connect(daemon, "--http", f"{port}:web", "--retry", "forever").says("connected to")

    def held(name, *fields, method="POST", **more):
        return Caller(port, method, f"/execute?id={unique}-{name}&gate={unique}", "X-Tunnel-Timeout: 60", *fields, **more)

    once = held("post", body=b"pay")
    keyed = held("keyed", "Idempotency-Key: 1", body=b"pay")
    idempotent = [held("get", method="GET"), held("put", method="PUT", body=b"x" * 10_000)]
    large = held("large", "Idempotency-Key: 2", body=bytes(300_000))
    wait_until(lambda: len(executed(origin, unique)) == 5, 20, "all are at the service")
    lose(daemon, connect)
    bring_back(daemon)
    assert once.outcome() == (502, "TUNNEL_013")
    assert large.outcome() == (502, "TUNNEL_008")  # may be sent again, but its body is gone
    wait_until(lambda: len(executed(origin, unique)) == 8, 30, "the others are there again")
    for _ in range(8):
        origin.open_gate(unique)
    assert {caller.outcome() for caller in (keyed, *idempotent)} == {DONE}
    counts = {name: origin.executions(f"{unique}-{name}") for name in ("post", "large", "keyed", "get", "put")}
    assert counts == {"post": 1, "large": 1, "keyed": 2, "get": 2, "put": 2}


@pytest.mark.deadline(120)
def test_posts_are_done_at_most_once_though_the_wire_is_cut_at_random(tunneld, new_connect, faultproxy, origin, unique):  # noqa: F811
    port = free_port()
    new_connect(tunneld, "--http", f"{port}:web", "--retry", "forever", port=faultproxy.port).says("connected to")
    dice, over = random.Random(7), threading.Event()

    def cut():
        while not over.wait(dice.uniform(0.02, 0.6)):
            faultproxy.cut(dice.choice(["rst", "fin"]))

    cutter = threading.Thread(target=cut)
    cutter.start()
    try:
        with concurrent.futures.ThreadPoolExecutor(20) as pool:
            outcomes = list(pool.map(lambda n: execute(port, f"{unique}-{n}", "X-Tunnel-Timeout: 60").outcome(), range(300)))
    finally:
        over.set()
        cutter.join(20)
    check_at_most_once(origin, unique, outcomes)
    assert outcomes.count(DONE) == 300, "a link that is resumed loses none"


@pytest.mark.deadline(150)
def test_posts_are_done_at_most_once_though_the_server_is_killed_again_and_again(new_tunneld, new_connect, origin, unique):  # noqa: F811
    daemon, port = new_tunneld(), free_port()
    new_connect(daemon, "--http", f"{port}:web", "--retry", "forever").says("connected to")
    dice, over, numbers = random.Random(11), threading.Event(), itertools.count()
    outcomes = {}

    def post():
        while not over.is_set():
            number = next(numbers)
            outcomes[number] = execute(port, f"{unique}-{number}", "X-Tunnel-Timeout: 60").outcome()

    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        posting = [pool.submit(post) for _ in range(20)]
        try:
            for _ in range(4):
                wait_until(lambda: ask(port, "/hello", "X-Tunnel-Timeout: 60").status == 200, 60, "it serves again")
                over.wait(dice.uniform(0.1, 1.5))
                daemon.program.kill()  # from here: a program ends with the thread that started it
                bring_back(daemon)
        finally:
            over.set()
        for one in posting:
            one.result()
    outcomes = [outcomes[number] for number in sorted(outcomes)]
    check_at_most_once(origin, unique, outcomes)
    assert set(outcomes) <= {DONE, (502, "TUNNEL_013")}
    assert outcomes.count(DONE) > len(outcomes) / 2


def check_at_most_once(origin, unique, outcomes):
    seen = executed(origin, unique)
    assert len(seen) == len(set(seen)), "one was done twice"
    for number, result in enumerate(outcomes):
        if result == DONE:
            assert str(number) in seen


# The end ------------------------------------------------------------------------------------------


@pytest.mark.short_client
def test_a_stop_lets_requests_finish_and_takes_no_new_ones(tunneld, new_connect, origin, unique):  # noqa: F811
    port = free_port()
    connect = new_connect(tunneld, "--http", f"{port}:web").says("connected to")
    assert ask(port, "/hello").status == 200  # its stream is kept, which must hold nothing up
    caller = Caller(port, "POST", f"/execute?id={unique}-x&gate={unique}")
    wait_until(lambda: executed(origin, unique) == ["x"], 20, "it is at the service")
    connect.process.send_signal(signal.SIGINT)
    connect.says("stopping: 1 request left, 10 s")
    wait_until(lambda: not accepts(port), 5, "the port is closed")
    origin.open_gate(unique)
    assert caller.outcome() == DONE
    assert connect.end(8) == OK


def test_a_stop_flushes_the_queue_when_the_connection_comes_back_in_time(away, origin, unique):
    daemon, port, connect = away()
    callers = [execute(port, f"{unique}-{n}", "X-Tunnel-Timeout: 60") for n in range(20)]
    wait_until_read(port)
    connect.process.send_signal(signal.SIGTERM)
    connect.says("stopping: 20 requests left, 20 of them waiting for the connection, 10 s")
    bring_back(daemon)
    assert {caller.outcome() for caller in callers} == {DONE}
    assert connect.end(15) == OK
    assert sorted(map(int, executed(origin, unique))) == list(range(20))


def test_after_ten_seconds_the_rest_is_answered(away, origin, unique):
    _, port, connect = away()
    callers = [execute(port, f"{unique}-{n}", "X-Tunnel-Timeout: 60") for n in range(20)]
    wait_until_read(port)
    began = time.monotonic()
    connect.process.send_signal(signal.SIGTERM)
    assert {caller.outcome() for caller in callers} == {(503, "TUNNEL_004")}
    assert 8 < time.monotonic() - began < 13
    assert connect.end(8) == INTERRUPTED
    assert "20 requests still waited and are answered with 503" in connect.err
    assert executed(origin, unique) == []


def test_who_is_left_when_the_tunnel_ends_is_answered(new_tunneld, new_connect, origin, unique):  # noqa: F811
    daemon, port = new_tunneld(), free_port()
    connect = new_connect(daemon, "--http", f"{port}:web", "--no-reconnect").says("connected to")
    post, get = (Caller(port, method, f"/execute?id={unique}-{method}&gate={unique}") for method in ("POST", "GET"))
    wait_until(lambda: len(executed(origin, unique)) == 2, 20, "both are at the service")
    daemon.program.kill()
    assert post.outcome() == (502, "TUNNEL_013")
    assert get.outcome() == (503, "TUNNEL_004")
    assert connect.end() == UNAVAILABLE
    assert len(executed(origin, unique)) == 2


# The command line ---------------------------------------------------------------------------------


@pytest.mark.short_client
@pytest.mark.parametrize("arguments", [("--http", "8080"), ("--http", "8080:web", "--stdio", "web"),
                                       ("--http", "8080:web", "--queue", "9"), ("--http", "8080:web", "--queue", "1001"),
                                       ("--http", "8080:web", "--request-timeout", "0"),
                                       ("--http", "8080:web", "--request-timeout", "601")])
def test_a_command_line_that_makes_no_sense_is_refused(tunneld, new_connect, arguments):  # noqa: F811
    assert new_connect(tunneld, *arguments).end() == USAGE


@pytest.mark.short_client
def test_a_port_in_use_is_said_before_anything_connects(tunneld, new_connect):  # noqa: F811
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        connect = new_connect(tunneld, "--http", f"{taken.getsockname()[1]}:web")
        assert connect.end() == CONFLICT
    assert "--http 127.0.0.1:" in connect.err and "in use" in connect.err and "attempt" not in connect.err
