"""Who may ask how often: by user and tier, by address, all together, and how many connections one may hold.

Rates here refill so slowly (6 a minute) that a test is over before the next one is granted: a bucket holds
ten seconds' worth and at least ten, so ten pass and the eleventh does not."""

import asyncio
import concurrent.futures
import contextlib
import ipaddress
import itertools
import json
import socket
import struct
import time

import pytest
import websockets

from callers.http import ask, ask_on, code_of, outcome
from callers.operator import Operator
from callers.raw_http import RawHttp, request
from callers.raw_websocket import RawWebSocket
from callers.websocket import stream
from programs.loopback import wait_until

MIB = 1 << 20
SLOW = 6  # requests a minute
BURST = 10
LIMITED = (429, "TUNNEL_005")


@pytest.fixture
def limited(new_tunneld):
    """Free users may send ten requests, premium ones as many as they like."""
    return new_tunneld(tiers={"free": {"requests_per_minute": SLOW}})


def until_refused(daemon, token, path="/t/web/hello", most=50, **options):
    """How many of one connection's requests were served before the first 429, and that answer."""
    with RawHttp(daemon.connect(tls=False)) as connection:
        for count in range(most):
            answer = ask_on(connection, token, path, **options)
            if answer.status == 429:
                return count, answer
            assert answer.status == 200, answer
    return most, None


# A user's rate ------------------------------------------------------------------------------------


@pytest.mark.short
def test_a_user_gets_exactly_the_burst_and_then_429(limited, origin, unique):
    served, answer = until_refused(limited, limited.token("ann", "free"), f"/t/web/execute?id={unique}")
    assert served == BURST
    assert outcome(answer) == LIMITED
    assert origin.executions(unique) == BURST, "what is refused never reaches the service"
    assert limited.metric("tunnel_rate_limit_violations_total", scope="user", user_tier="free") == 1


@pytest.mark.short
def test_every_answer_says_how_much_is_left(limited):
    token = limited.token("ann", "free")
    with RawHttp(limited.connect(tls=False)) as connection:
        answers = [ask_on(connection, token) for _ in range(BURST + 2)]
    assert [answer.value("X-RateLimit-Limit") for answer in answers] == [str(SLOW)] * (BURST + 2)
    assert [int(answer.value("X-RateLimit-Remaining")) for answer in answers] == [*range(BURST - 1, -1, -1), 0, 0]
    resets = [int(answer.value("X-RateLimit-Reset")) for answer in answers]
    # Unix time at which the bucket is full again: ten seconds for each request taken.
    assert resets == sorted(resets)
    assert 90 <= resets[BURST - 1] - time.time() <= 102
    for answer in answers[:BURST]:
        assert answer.value("Retry-After") is None
    for answer in answers[BURST:]:
        assert 1 <= int(answer.value("Retry-After")) <= 10
        assert json.loads(answer.body)["error"]["retryAfter"] == int(answer.value("Retry-After"))


def test_the_services_own_rate_headers_are_not_ours_to_change_when_nothing_is_limited(new_tunneld):
    daemon = new_tunneld()
    answer = ask(daemon, daemon.token())
    assert answer.status == 200 and answer.value("X-RateLimit-Limit") is None


def test_after_retry_after_the_next_request_is_served(new_tunneld):
    daemon = new_tunneld(tiers={"free": {"requests_per_minute": 60}})
    token = daemon.token("ann", "free")
    _, refused = until_refused(daemon, token, most=40)
    wait = int(refused.value("Retry-After"))
    assert wait == 1
    started = time.monotonic()
    wait_until(lambda: ask(daemon, token).status == 200, wait + 5, "a request is served again")
    print(f"served again after {time.monotonic() - started:.2f} s, promised {wait} s")


@pytest.mark.short
def test_eight_callers_at_once_get_together_what_one_would(limited, origin, unique):
    token = limited.token("ann", "free")

    def caller(_):
        with RawHttp(limited.connect(tls=False)) as connection:
            return [ask_on(connection, token, f"/t/web/execute?id={unique}").status for _ in range(20)]

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        statuses = list(itertools.chain(*pool.map(caller, range(8))))
    assert (statuses.count(200), statuses.count(429)) == (BURST, 160 - BURST)
    assert origin.executions(unique) == BURST


def test_one_users_limit_is_no_others(limited):
    ann, ben = limited.token("ann", "free"), limited.token("ben", "free")
    assert until_refused(limited, ann)[0] == BURST
    assert until_refused(limited, ben)[0] == BURST
    assert until_refused(limited, limited.token("paula", "premium"), most=30)[0] == 30


def test_more_tokens_and_more_addresses_give_no_more_quota(limited):
    tokens = [limited.token("ann", "free", scope=scope) for scope in (None, "a", "b", "c")]
    statuses = [ask(limited, token, source=f"127.0.0.{address}").status
                for address, token in zip(range(2, 22), itertools.cycle(tokens))]
    assert (statuses.count(200), statuses.count(429)) == (BURST, 10)


async def test_streams_take_from_the_same_bucket_and_are_refused_before_the_101(limited):
    token = limited.token("ann", "free")
    assert [ask(limited, token).status for _ in range(BURST - 2)] == [200] * (BURST - 2)
    for _ in range(2):
        async with stream(limited, "echo", token, tls=False) as ws:
            await ws.send(b"x")
            assert await ws.recv() == b"x"
    with pytest.raises(websockets.InvalidStatusCode) as refused:
        await stream(limited, "echo", token, tls=False)
    assert refused.value.status_code == 429
    assert int(refused.value.headers["Retry-After"]) >= 1
    assert refused.value.headers["X-RateLimit-Limit"] == str(SLOW)


def test_an_open_stream_is_not_slowed_by_the_request_limit(limited):
    token = limited.token("ann", "free")

    async def scenario():
        async with stream(limited, "echo", token, tls=False) as ws:
            for _ in range(100):
                await ws.send(b"x" * 1000)
                await ws.recv()

    asyncio.run(scenario())


def test_a_denied_service_costs_a_request_too(limited):
    """Otherwise names could be guessed for nothing."""
    token = limited.token("mallory", "free")
    with RawHttp(limited.connect(tls=False)) as connection:
        answers = [outcome(ask_on(connection, token, f"/t/guess{n}/")) for n in range(BURST + 5)]
    assert answers == [(403, "TUNNEL_017")] * BURST + [LIMITED] * 5


def test_all_users_together_have_a_limit_too(new_tunneld):
    daemon = new_tunneld(limits={"global_requests_per_minute": SLOW})
    answers = [outcome(ask(daemon, daemon.token(f"user{n}", "enterprise"))) for n in range(BURST + 4)]
    assert answers.count((200, None)) == BURST and answers.count(LIMITED) == 4
    assert daemon.metric("tunnel_rate_limit_violations_total", scope="global") == 4


@pytest.mark.short
def test_with_the_shipped_limits_a_free_user_gets_17_at_once(new_tunneld):
    """100 a minute: ten seconds' worth, and what is refilled meanwhile (one in 600 ms)."""
    daemon = new_tunneld(tiers={"free": {"requests_per_minute": None, "connections": None}})
    started = time.monotonic()
    served, refused = until_refused(daemon, daemon.token("ann", "free"), most=100)
    refilled = (time.monotonic() - started) / 0.6
    assert 17 <= served <= 17 + refilled + 1
    assert refused.value("X-RateLimit-Limit") == "100"


# Addresses ----------------------------------------------------------------------------------------


def test_strangers_of_one_address_are_limited_and_others_are_not(new_tunneld):
    daemon = new_tunneld(limits={"address": {"requests_per_minute": SLOW}})
    answers = [outcome(ask(daemon, "nonsense")) for _ in range(BURST + 3)]
    assert answers == [(401, "TUNNEL_002")] * BURST + [LIMITED] * 3
    assert outcome(ask(daemon, "nonsense", source="127.0.0.9")) == (401, "TUNNEL_002")
    assert daemon.metric("tunnel_rate_limit_violations_total", scope="ip") == 3


def test_whoever_shows_a_good_token_takes_nothing_from_his_address(new_tunneld):
    daemon = new_tunneld(limits={"address": {"requests_per_minute": SLOW}})
    token = daemon.token()
    assert [ask(daemon, token).status for _ in range(40)] == [200] * 40
    assert ask(daemon, "nonsense").status == 401, "the address's bucket is untouched"


def test_handshakes_of_strangers_are_limited_and_those_of_users_are_given_back(new_tunneld):
    daemon = new_tunneld(limits={"address": {"handshakes_per_minute": SLOW}})
    token = daemon.token()
    assert [ask(daemon, token).status for _ in range(40)] == [200] * 40, "a connection with a token is free"
    closed = 0
    for _ in range(BURST + 5):
        try:
            ask(daemon, "nonsense", source="127.0.0.9")
        except (EOFError, OSError):
            closed += 1
    assert closed == 5, "each one closed before a byte was read"
    assert ask(daemon, token).status == 200, "another address is served"


# The penalty box ----------------------------------------------------------------------------------


@pytest.fixture
def strict(new_tunneld):
    """Blocks an address after six failures."""
    return new_tunneld(penalty={"enabled": True, "throttle_after": 5, "block_after": 6})


def fail_until_blocked(daemon, source):
    """Wrong tokens until the answer is 429; the last answer."""
    for number in range(40):
        answer = ask(daemon, f"wrong{number}", source=source)
        assert outcome(answer) in ((401, "TUNNEL_002"), LIMITED), answer
        if answer.status == 429 and int(answer.value("Retry-After")) > 120:
            return answer
    raise AssertionError("never blocked")


@pytest.mark.short
def test_an_address_that_keeps_failing_is_blocked_for_its_time(strict):
    refused = fail_until_blocked(strict, "127.0.0.9")
    assert 3500 <= int(refused.value("Retry-After")) <= 3600
    assert strict.metric("tunnel_penalized_addresses", state="blocked") == 1
    assert outcome(ask(strict, None, source="127.0.0.9")) == LIMITED, "no token at all is no better"
    assert ask(strict, strict.token(), source="127.0.0.8").status == 200, "another address is not"


def test_a_user_known_before_passes_from_a_blocked_address(strict):
    """Honest people may share the address with the one who guesses (CGNAT)."""
    known = strict.token("ann")
    assert ask(strict, known, source="127.0.0.9").status == 200
    fail_until_blocked(strict, "127.0.0.9")
    assert ask(strict, known, source="127.0.0.9").status == 200


def test_an_operator_may_pardon_an_address(strict):
    fail_until_blocked(strict, "127.0.0.9")
    operator = Operator.of(strict)
    assert operator.ask("DELETE", "/api/tunnel/penalties/127.0.0.9").status in (200, 204)
    assert outcome(ask(strict, "wrong", source="127.0.0.9")) == (401, "TUNNEL_002")
    assert operator.ask("DELETE", "/api/tunnel/penalties/127.0.0.7").status == 404
    assert operator.ask("DELETE", "/api/tunnel/penalties/elsewhere").status in (400, 404)


def test_a_block_ends_by_itself(new_tunneld):
    daemon = new_tunneld(penalty={"enabled": True, "throttle_after": 1, "block_after": 2, "block_for": "1s", "window": "1s"})
    for number in range(4):
        ask(daemon, f"wrong{number}", source="127.0.0.9")
    wait_until(lambda: ask(daemon, daemon.token("new"), source="127.0.0.9").status == 200, 10, "the block is over")


# Whose address it is ------------------------------------------------------------------------------


def test_without_trusted_proxies_x_forwarded_for_is_what_anybody_may_write(new_tunneld):
    daemon = new_tunneld(limits={"address": {"requests_per_minute": SLOW}})
    answers = [outcome(ask(daemon, "nonsense", "/t/web/hello", f"X-Forwarded-For: 203.0.113.{n}")) for n in range(BURST + 3)]
    assert answers == [(401, "TUNNEL_002")] * BURST + [LIMITED] * 3


@pytest.fixture
def proxied(new_tunneld):
    return new_tunneld(limits={"address": {"requests_per_minute": SLOW}}, trusted_proxies=["127.0.0.1/32", "10.0.0.0/8"])


@pytest.mark.short
def test_behind_a_trusted_proxy_the_rightmost_untrusted_hop_counts(proxied):
    def of(*hops):
        return outcome(ask(proxied, "nonsense", "/t/web/hello", *[f"X-Forwarded-For: {hop}" for hop in hops]))

    answers = [of(f"198.51.100.{n}, 203.0.113.7") for n in range(BURST + 3)]
    assert answers == [(401, "TUNNEL_002")] * BURST + [LIMITED] * 3, "spoofed entries on the left are ignored"
    assert of("203.0.113.7, 203.0.113.8") == (401, "TUNNEL_002"), "another caller"
    assert of("203.0.113.7, 10.1.2.3") == LIMITED, "trusted hops on the right are skipped"
    assert of("203.0.113.9", "203.0.113.7") == LIMITED, "several fields are one list"
    assert of("203.0.113.7, 203.0.113.9", "10.1.2.3") == (401, "TUNNEL_002")


def test_an_untrusted_peer_may_write_what_it_likes_behind_other_proxies(proxied):
    answers = [outcome(ask(proxied, "nonsense", "/t/web/hello", f"X-Forwarded-For: 203.0.113.{n}", source="127.0.0.5"))
               for n in range(BURST + 2)]
    assert answers == [(401, "TUNNEL_002")] * BURST + [LIMITED] * 2


@pytest.mark.parametrize("hops", ["", " ", ",", "unknown", "203.0.113.7:80", "[2001:db8::1]", "_hidden", "999.1.1.1", "a" * 5000,
                                  "203.0.113.7,,", "::ffff:203.0.113.7", "203.0.113.7%eth0", "2001:db8::1"])
def test_no_x_forwarded_for_breaks_anything(proxied, hops):
    with RawHttp(proxied.connect(tls=False)) as connection:
        connection.send(request("GET", "/t/web/hello", f"X-Forwarded-For: {hops}", token=proxied.token()))
        assert connection.read_answer().status == 200


def test_addresses_of_one_ipv6_64_are_one_caller(proxied):
    answers = [outcome(ask(proxied, "nonsense", "/t/web/hello", f"X-Forwarded-For: 2001:db8:0:1::{n:x}"))
               for n in range(BURST + 3)]
    assert answers == [(401, "TUNNEL_002")] * BURST + [LIMITED] * 3
    assert outcome(ask(proxied, "nonsense", "/t/web/hello", "X-Forwarded-For: 2001:db8:0:2::1")) == (401, "TUNNEL_002")


@pytest.mark.deadline(120)
def test_twenty_thousand_spoofed_addresses_cost_little_memory(proxied):
    before = proxied.program.resident_bytes()
    sent = 0
    with contextlib.closing(proxied.connect(tls=False)) as raw:
        connection = RawHttp(raw)
        for block in range(200):
            connection.send(b"".join(request("GET", "/t/web/hello", f"X-Forwarded-For: {ipaddress.IPv4Address(0x5000_0000 + sent + n)}",
                                             token="nonsense") for n in range(100)))
            for _ in range(100):
                assert connection.read_answer().status in (401, 429)
            sent += 100
    grown = proxied.program.resident_bytes() - before
    print(f"{sent} addresses: {grown / MIB:.1f} MiB")
    assert grown < 32 * MIB


# PROXY protocol -----------------------------------------------------------------------------------

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"  # https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt, section 2.2


def proxy_header(source="203.0.113.7", *, command=1, version=2, family=0x11, extra=b""):
    address = ipaddress.ip_address(source)
    if address.version == 6:
        family = 0x21
    body = address.packed + ipaddress.ip_address("::1" if address.version == 6 else "127.0.0.1").packed + struct.pack(">HH", 4711, 443)
    body += extra
    return SIGNATURE + bytes([version << 4 | command, family]) + struct.pack(">H", len(body)) + body


@pytest.fixture
def behind_haproxy(new_tunneld):
    return new_tunneld(trusted_proxies=["127.0.0.1/32"], proxy_protocol=True)


def fields_seen(daemon, prefix, *, source=None):
    """The request as the service saw it, after those bytes in clear; None when the connection was closed."""
    try:
        with RawHttp(daemon.connect(tls=False, source=source)) as connection:
            connection.send(prefix + request("GET", "/t/web/request", token=daemon.token()))
            answer = connection.read_answer()
            return dict(json.loads(answer.body)["fields"]) if answer.status == 200 else answer.status
    except (EOFError, OSError):
        return None


@pytest.mark.short
@pytest.mark.parametrize("source", ["203.0.113.7", "2001:db8::7"])
def test_the_proxys_header_names_the_caller(behind_haproxy, source):
    seen = fields_seen(behind_haproxy, proxy_header(source))
    assert seen["X-Forwarded-For"] == source


def test_the_header_comes_before_tls(behind_haproxy):
    with socket.create_connection(("127.0.0.1", behind_haproxy.port), 10) as raw:
        raw.sendall(proxy_header())
        with behind_haproxy.tls_context().wrap_socket(raw, server_hostname="127.0.0.1") as tls:
            answer = ask_on(RawHttp(tls), behind_haproxy.token(), "/t/web/request")
    assert dict(json.loads(answer.body)["fields"])["X-Forwarded-For"] == "203.0.113.7"


def test_a_local_command_keeps_the_peer_and_unknown_tlvs_are_passed_over(behind_haproxy):
    assert fields_seen(behind_haproxy, proxy_header(command=0))["X-Forwarded-For"] == "127.0.0.1"
    assert fields_seen(behind_haproxy, proxy_header(extra=b"\x04\x00\x05hello"))["X-Forwarded-For"] == "203.0.113.7"


BAD_PROXY_HEADERS = [
    ("none", b""), ("version 1", b"PROXY TCP4 203.0.113.7 127.0.0.1 1 2\r\n"), ("version 3", proxy_header(version=3)),
    ("an unknown command", proxy_header(command=2)), ("a wrong signature", b"\r\n\r\n\0\r\nQUIX\n" + proxy_header()[12:]),
    ("a length too short for its family", SIGNATURE + b"\x21\x11\x00\x04abcd"),
    ("a length of 64 KiB", SIGNATURE + b"\x21\x11\xff\xff" + b"x" * 65535)]


@pytest.mark.parametrize("what,header", BAD_PROXY_HEADERS, ids=[row[0] for row in BAD_PROXY_HEADERS])
def test_a_trusted_proxy_with_a_bad_header_is_closed(behind_haproxy, what, header):
    assert fields_seen(behind_haproxy, header) is None
    assert fields_seen(behind_haproxy, proxy_header()) is not None, "the next connection is served"


def test_a_stranger_cannot_write_the_header(behind_haproxy):
    seen = fields_seen(behind_haproxy, b"", source="127.0.0.5")
    assert seen["X-Forwarded-For"] == "127.0.0.5", "he is served like anybody"
    assert fields_seen(behind_haproxy, proxy_header(), source="127.0.0.5") in (None, 400)


# Connections --------------------------------------------------------------------------------------


@pytest.fixture
def three_each(new_tunneld):
    return new_tunneld(tiers={"free": {"connections": 3}, "premium": {"connections": 5}}, limits={"idle_timeout": "2s"})


def opened(daemon, token, path="/ws/echo", *fields):
    """(status, connection or None) of a WebSocket."""
    connection = RawWebSocket(daemon.connect(tls=False))
    answer = connection.open(path, token, *fields)
    if answer.status == 101:
        return 101, connection
    rest = connection.read_exactly(int(answer.value("Content-Length") or 0))
    connection.close()
    answer.body = rest
    return outcome(answer), None


@pytest.mark.short
def test_over_the_quota_a_connection_is_refused_before_the_101(three_each):
    token = three_each.token("ann", "free")
    held = [opened(three_each, token) for _ in range(3)]
    assert [status for status, _ in held] == [101] * 3
    assert opened(three_each, token)[0] == (429, "TUNNEL_012")
    assert opened(three_each, three_each.token("ben", "free"))[0] == 101, "another user has his own"
    assert opened(three_each, three_each.token("ann", "premium"))[0] == 101, "the token's tier says how many"
    assert three_each.metric("tunnel_rate_limit_violations_total", scope="connections") == 1
    for _, connection in held:
        connection.close()


def test_plain_requests_need_no_place(three_each):
    token = three_each.token("ann", "free")
    held = [opened(three_each, token)[1] for _ in range(3)]
    assert ask(three_each, token).status == 200
    assert len(held) == 3


def close_politely(connection, _):
    connection.send(b"\x88\x82\0\0\0\0\x03\xe8")
    connection.read_close_code()
    connection.close()


def vanish(connection, _):
    connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # an RST
    connection.close()


def break_the_protocol(connection, _):
    connection.send(b"\x83\x80\0\0\0\0")
    assert connection.read_close_code() == 1002
    connection.close()


def sit_idle(connection, _):
    assert connection.read_close_code() == 4408
    connection.close()


def be_closed_by_the_operator(connection, daemon):
    operator = Operator.of(daemon)
    for one in operator.connections():
        if one["kind"] == "websocket":
            assert operator.ask("DELETE", f"/api/tunnel/connections/{one['id']}").status in (204, 404)
    connection.read_close_code()
    connection.close()


# An upgraded connection has no frames of ours, and ends as the service or the caller wants.
@pytest.mark.parametrize("path,leave", [
    *[("/ws/echo", leave) for leave in (close_politely, vanish, break_the_protocol, sit_idle, be_closed_by_the_operator)],
    *[("/t/chat/", leave) for leave in (close_politely, vanish)]], ids=lambda one: one if isinstance(one, str) else one.__name__)
def test_every_way_out_gives_the_place_back(three_each, path, leave):
    token = three_each.token("ann", "free")

    def all_three():
        held = [opened(three_each, token, path) for _ in range(3)]
        if [status for status, _ in held] == [101] * 3:
            return [connection for _, connection in held]
        for _, connection in held:  # places that are not free yet
            if connection:
                vanish(connection, three_each)
        return None

    held = all_three()
    for _ in range(2):
        assert opened(three_each, token, path)[0] == (429, "TUNNEL_012")
        for connection in held:
            leave(connection, three_each)
        held = wait_until(all_three, 20, "the three places are free again")
    for connection in held:
        connection.close()


def test_a_stream_that_never_opens_gives_its_place_back(three_each):
    token = three_each.token("ann", "free")
    for _ in range(10):
        status, _ = opened(three_each, token, "/ws/dead")
        assert status[0] in (502, 503), status
    assert [opened(three_each, token)[0] for _ in range(3)] == [101] * 3


def test_forty_handshakes_at_once_get_exactly_the_quota(three_each):
    token = three_each.token("ann", "free")
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: opened(three_each, token), range(40)))
    statuses = [status for status, _ in results]
    assert (statuses.count(101), statuses.count((429, "TUNNEL_012"))) == (3, 37)
    for _, connection in results:
        if connection:
            connection.close()


def test_the_request_that_is_over_the_quota_says_when_to_come_back(three_each):
    token = three_each.token("ann", "free")
    held = [opened(three_each, token)[1] for _ in range(3)]
    connection = RawWebSocket(three_each.connect(tls=False))
    answer = connection.open("/ws/echo", token)
    assert answer.status == 429 and int(answer.value("Retry-After")) >= 1
    assert code_of(connection_body(connection, answer)) == "TUNNEL_012"
    assert len(held) == 3


def connection_body(connection, answer):
    answer.body = connection.read_exactly(int(answer.value("Content-Length")))
    connection.close()
    return answer
