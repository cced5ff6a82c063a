"""More of what strangers send, beyond test_hostile.py and test_auth.py: frames, handshakes, tokens bent at
random, compressed bombs, slow crowds, and settings from nowhere. Nothing of it is served, nobody else notices."""

import asyncio
import base64
import concurrent.futures
import json
import os
import random
import re
import socket
import struct
import time
import zlib

import pytest
import websockets

from callers.http import ask, ask_on, outcome
from callers.raw_http import RawHttp, request
from callers.raw_websocket import RawWebSocket, frame
from callers.websocket import HALF_CLOSE, stream
from programs.loopback import wait_until
from programs.services import services_of, upstream_to
from programs.tunneld import Tunneld, is_sanitized, run

KIB, MIB = 1 << 10, 1 << 20


# Frames -------------------------------------------------------------------------------------------


def close_frame(code=None, reason=b""):
    return frame(b"" if code is None else struct.pack(">H", code) + reason, opcode=8)


def raw_frame(first, second, extended=b"", payload=b"", key=b"\0\0\0\0"):
    """Header bytes as given; masked by zeros."""
    return bytes([first, second]) + extended + (key if second & 0x80 else b"") + payload


def wrong_frames():
    """(what, bytes, close codes that are right)"""
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        for reserved in (0, 1, 5):
            for final in (True, False):
                yield f"opcode {opcode}, reserved {reserved}, final {final}", frame(b"x", opcode=opcode, reserved=reserved, final=final), {1002}
    for opcode in (0, 1, 2, 8, 9, 10):
        for reserved in range(1, 8):
            yield f"reserved bits {reserved} on opcode {opcode}", frame(b"x", opcode=opcode, reserved=reserved), {1002}
        yield f"unmasked opcode {opcode}", frame(b"xx", opcode=opcode, masked=False), {1002}
        yield f"unmasked empty opcode {opcode}", frame(b"", opcode=opcode, masked=False), {1002}
    for opcode in (8, 9, 10):
        yield f"fragmented control {opcode}", frame(b"", opcode=opcode, final=False), {1002}
        for size in (126, 127, 200, 65535, 65536, 1 << 20):
            yield f"control {opcode} of {size} bytes", frame(b"\x03\xe8" + b"x" * (size - 2), opcode=opcode), {1002}
            yield f"control {opcode} that claims {size} bytes", frame(b"", opcode=opcode, length=size), {1002}
    yield "a close of one byte", frame(b"\x03", opcode=8), {1002}
    for code in [0, 1, 2, 500, 999, 1004, 1005, 1006, 1015, 1016, 1017, 1100, 1500, 1999, 2000, 2500, 2999, 5000, 5001, 10000, 32768, 65535]:
        yield f"close code {code}", close_frame(code), {1002}
    for what, bad in [("lone continuation", b"\x80"), ("overlong slash", b"\xc0\xaf"), ("surrogate", b"\xed\xa0\x80"),
                      ("beyond U+10FFFF", b"\xf4\x90\x80\x80"), ("cut short", b"\xe2\x82"), ("0xFF", b"\xff"), ("overlong NUL", b"\xc0\x80"),
                      ("five bytes", b"\xf8\x88\x80\x80\x80"), ("0xFE", b"ab\xfe"), ("latin-1", b"caf\xe9")]:
        yield f"close reason: {what}", close_frame(1000, bad), {1007, 1002}
        yield f"text: {what}", frame(bad, opcode=1), {1007}
        yield f"text in fragments: {what}", frame(b"ok", opcode=1, final=False) + frame(bad, opcode=0), {1007}
        yield f"text cut in the midst: {what}", b"".join(
            frame(bad[at:at + 1], opcode=0 if at else 1, final=at == len(bad) - 1) for at in range(len(bad))), {1007}
    yield "a continuation of nothing", frame(b"x", opcode=0), {1002}
    yield "a last continuation of nothing", frame(b"x", opcode=0, final=False), {1002}
    for first in (1, 2):
        for second in (1, 2):
            yield f"message {second} inside message {first}", frame(b"x", opcode=first, final=False) + frame(b"y", opcode=second), {1002}
    for length in (1 << 63, (1 << 64) - 1, (1 << 63) + 5):
        for opcode in (1, 2, 0):
            yield f"length {length} of opcode {opcode}", raw_frame(0x80 | opcode, 0xFF, struct.pack(">Q", length)), {1002, 1009}
    for length in (MIB + 1, 2 * MIB, 1 << 31, 1 << 32, (1 << 32) - 1, 1 << 40, (1 << 63) - 1):
        yield f"claims {length} bytes", raw_frame(0x82, 0xFF, struct.pack(">Q", length)), {1009}
        yield f"claims {length} bytes as a fragment", raw_frame(0x02, 0xFF, struct.pack(">Q", length)), {1009}
    for size in (0, 1, 100, 125):
        yield f"{size} bytes with a length of 16 bits", raw_frame(0x82, 0xFE, struct.pack(">H", size), b"x" * size), {1002}
        yield f"{size} bytes with a length of 64 bits", raw_frame(0x82, 0xFF, struct.pack(">Q", size), b"x" * size), {1002}
    for size in (126, 1000, 65535):
        yield f"{size} bytes with a length of 64 bits", raw_frame(0x82, 0xFF, struct.pack(">Q", size), b"x" * size), {1002}
    yield "fragments over a mebibyte", frame(b"x" * (MIB - 1), final=False) + frame(b"xx", opcode=0), {1009}
    yield "fragments whose sum is claimed", frame(b"x" * 10, final=False) + raw_frame(0x80, 0xFF, struct.pack(">Q", MIB - 9)), {1009}
    yield "2,000 fragments", frame(b"x", final=False) + frame(b"", opcode=0, final=False) * 2000, {1009, 1008}
    yield "200 pings", frame(b"x", opcode=9) * 200, {1008}


WRONG_FRAMES = list(wrong_frames())


def test_there_are_at_least_two_hundred_kinds_of_wrong_frames():
    assert len({bad for _, bad, _ in WRONG_FRAMES}) >= 200
    assert len({what for what, _, _ in WRONG_FRAMES}) == len(WRONG_FRAMES)


@pytest.mark.short
@pytest.mark.deadline(200)
def test_every_wrong_frame_ends_its_stream_with_the_right_code_and_no_other(tunneld, token):
    wrong = []
    with RawWebSocket(tunneld.connect(tls=False)) as beside:
        assert beside.open("/ws/echo", token).status == 101
        for number, (what, bad, codes) in enumerate(WRONG_FRAMES):
            with RawWebSocket(tunneld.connect(tls=False)) as connection:
                assert connection.open("/ws/echo", token).status == 101
                connection.send(bad)
                try:
                    code = connection.read_close_code()
                    closed = connection.read_to_end() is not None and connection.is_closed()
                except (EOFError, OSError) as ended:
                    code, closed = f"none ({ended!r})", True
                if code not in codes or not closed:
                    wrong.append(f"{what}: close code {code}, wanted {sorted(codes)}")
            if number % 25 == 0:
                beside.send(frame(b"still %d" % number))
                assert beside.read_frame() == (2, b"still %d" % number), "the stream beside lives on"
    assert not wrong, f"{len(wrong)} of {len(WRONG_FRAMES)}:\n" + "\n".join(wrong)


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4401, 4999])
def test_every_code_that_may_be_sent_is_answered_with_itself(tunneld, token, code):
    with RawWebSocket(tunneld.connect(tls=False)) as connection:
        connection.open("/ws/echo", token)
        connection.send(close_frame(code, "ganz gewöhnlich".encode()))
        assert connection.read_close_code() == code


def test_odd_frames_that_are_right_are_served(tunneld, token):
    """Empty ones, pings between fragments, one byte at a time, the largest that may be."""
    with RawWebSocket(tunneld.connect(tls=False)) as connection:
        connection.open("/ws/echo", token)
        connection.send(frame(b"") + frame(b"a", final=False) + frame(b"ping", opcode=9) + frame(b"", opcode=0, final=False)
                        + frame(b"b", opcode=0) + frame(b"unasked", opcode=10) + frame("ü".encode(), opcode=1))
        data, pongs = b"", []
        while len(data) < 4:
            opcode, payload = connection.read_frame()
            if opcode == 10:
                pongs.append(payload)
            else:
                data += payload
        assert data == b"ab" + "ü".encode() and pongs == [b"ping"]
        for byte in frame(b"slow"):
            connection.send(bytes([byte]))
        echoed = b""
        while len(echoed) < 4:  # a message's bytes go on as they come
            echoed += connection.read_frame()[1]
        assert echoed == b"slow"
        connection.send(frame(b"x" * MIB))
        received = 0
        while received < MIB:
            received += len(connection.read_frame()[1])


def test_random_bytes_after_the_handshake_end_in_a_close_or_an_end(tunneld, token):
    draw = random.Random(1)
    for _ in range(60):
        with RawWebSocket(tunneld.connect(tls=False)) as connection:
            connection.open("/ws/echo", token)
            connection.send(draw.randbytes(draw.randint(2, 4000)))
            connection.socket.shutdown(socket.SHUT_WR)
            connection.socket.settimeout(20)
            connection.read_to_end()
    assert outcome(ask(tunneld, token)) == (200, None)


# Handshakes ---------------------------------------------------------------------------------------

GOOD = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
BAD = {
    "Upgrade": [None, "", "websocke", "websockets", "web socket", "h2c", "WebSocket2", "x, y", "\x0bwebsocket"],
    "Connection": [None, "", "close", "keep-alive", "Upgradex", "up grade", "Upgrade\x0b"],
    "Sec-WebSocket-Version": [None, "", "0", "7", "8", "12", "14", "255", "-13", "+13", "13.0", "0x0d", "1 3", "13;x", "thirteen"],
    "Sec-WebSocket-Key": [None, "", "short", "dGhlIHNhbXBsZSBub25jZQ=", "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25j",
                          base64.b64encode(bytes(17)).decode(), base64.b64encode(bytes(15)).decode(), "!" * 24, "=" * 24,
                          "dGhlIHNhbXBsZ SBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ==x", "a" * 4000],
}


def wrong_handshakes(count):
    """Seeded combinations, each with at least one field wrong; some with the field twice."""
    draw = random.Random(4)
    seen = set()
    while len(seen) < count:
        lines = []
        wrong = draw.sample(sorted(GOOD), draw.randint(1, 4))
        for name in draw.sample(sorted(GOOD), 4):
            value = draw.choice(BAD[name]) if name in wrong else GOOD[name]
            if value is not None:
                spelling = draw.choice([name, name.lower(), name.upper()])
                lines.append(f"{spelling}: {value}")
                if name in wrong and draw.random() < 0.1 and name.startswith("Sec"):
                    lines.append(f"{name}: {value}")
        seen.add(tuple(lines))
    return sorted(seen)


@pytest.mark.short
@pytest.mark.deadline(200)
def test_two_thousand_wrong_handshakes_open_nothing(tunneld, token, origin):
    """Behind each, frames and a further request: neither is served as a stream."""
    cases, wrong = wrong_handshakes(400 if is_sanitized() else 2000), []
    before = len(origin.requests())
    for lines in cases:
        with RawHttp(tunneld.connect(tls=False)) as connection:
            connection.send(request("GET", "/ws/echo", *lines, token=token) + frame(b"hello") + frame(b"\x03\xe8", opcode=8)
                            + b"\r\n\r\n")  # so that it is a whole request, which is refused, and not half of one
            try:
                answer = connection.read_answer()
                rest = connection.read_to_end()
            except (EOFError, OSError) as ended:
                wrong.append(f"{lines}: {ended!r}")
                continue
            if not 400 <= answer.status < 500 or b"hello" in rest or b" 101 " in rest:
                wrong.append(f"{lines}: {answer} then {rest[:100]!r}")
    assert not wrong, f"{len(wrong)} of {len(cases)}:\n" + "\n".join(wrong[:20])
    assert len(origin.requests()) == before


# Tokens -------------------------------------------------------------------------------------------


@pytest.mark.short
@pytest.mark.deadline(120)
def test_a_thousand_tokens_bent_at_random_are_all_refused_alike(tunneld):
    good = tunneld.token("ann")
    draw = random.Random(7)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    answers = set()
    bent = set()
    while len(bent) < 1000:
        text = list(good)
        for _ in range(draw.choice([1, 1, 1, 2, 5])):
            at = draw.randrange(len(text))
            what = draw.random()
            if what < 0.6:
                text[at] = draw.choice(alphabet)
            elif what < 0.8:
                del text[at]
            else:
                text.insert(at, draw.choice(alphabet + "."))
        text = "".join(text)
        if text != good:
            bent.add(text)
    with RawHttp(tunneld.connect(tls=False)) as connection:
        for token in sorted(bent):
            answer = ask_on(connection, token)
            assert answer.status == 401, token
            error = json.loads(answer.body)["error"]
            answers.add((error["code"], error["message"], error["userMessage"], error["suggestion"], answer.value("WWW-Authenticate")))
    assert len(answers) == 1, "one answer for all"
    assert outcome(ask(tunneld, good)) == (200, None)


# Compression --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def deflating(new_directory, origin, nginx, sshd):
    daemon = Tunneld(new_directory("tunneld"), {"ws": {"compression": True}, "upstreams": [upstream_to(sshd, services_of(origin, nginx))]})
    sshd.authorize(daemon.ssh_key())
    daemon.start()
    yield daemon
    daemon.stop()


OFFER = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"


def deflated(data, level=9):
    """As RFC 7692 §7.2.1 has it: a raw deflate stream without its last four bytes."""
    packer = zlib.compressobj(level, zlib.DEFLATED, -12)
    return (packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]


def inflated(data):
    return zlib.decompressobj(-15).decompress(data + b"\0\0\xff\xff")


def opened(daemon, offer=OFFER, token=None):
    connection = RawWebSocket(daemon.connect(tls=False))
    answer = connection.open("/ws/echo", token or daemon.token("ann"), *([offer] if offer else []))
    return connection, answer


@pytest.mark.short
def test_compression_is_agreed_to_only_where_it_is_on_and_without_memory_between_messages(deflating, tunneld, token):
    connection, answer = opened(deflating)
    with connection:
        agreed = answer.value("Sec-WebSocket-Extensions")
        assert "server_no_context_takeover" in agreed and "client_no_context_takeover" in agreed
        bits = re.search(r"server_max_window_bits=(\d+)", agreed)
        assert bits is None or int(bits.group(1)) <= 12
    connection, answer = opened(tunneld, token=token)
    with connection:
        assert answer.status == 101 and answer.value("Sec-WebSocket-Extensions") is None
    connection, answer = opened(deflating, offer=None)
    with connection:
        assert answer.status == 101 and answer.value("Sec-WebSocket-Extensions") is None


@pytest.mark.parametrize("offer", ["permessage-deflate; server_max_window_bits=7", "permessage-deflate; server_max_window_bits=16",
                                   "permessage-deflate; server_max_window_bits=08", "permessage-deflate; unknown=1",
                                   "permessage-deflate; server_no_context_takeover=1", "permessage-bzip2", "x-webkit-deflate-frame",
                                   "permessage-deflate; client_max_window_bits=99", "permessage-deflate; server_no_context_takeover; server_no_context_takeover"])
def test_offers_that_make_no_sense_are_passed_over(deflating, offer):
    connection, answer = opened(deflating, f"Sec-WebSocket-Extensions: {offer}")
    with connection:
        assert answer.status in (101, 400)
        if answer.status == 101:
            assert answer.value("Sec-WebSocket-Extensions") is None
            connection.send(frame(b"plain"))
            assert connection.read_frame() == (2, b"plain")


@pytest.mark.short
def test_what_is_compressed_arrives_and_comes_back_whole(deflating):
    text = json.dumps([{"name": f"row {n}", "value": n * n} for n in range(1000)]).encode()
    connection, _ = opened(deflating)
    with connection:
        for data in (text, b"", b"x", os.urandom(5000), text[:100]):
            packed = deflated(data)
            connection.send(frame(packed, reserved=4))
            received = b""
            while len(received) < len(data):
                first, second = connection.read_exactly(2)
                length = second & 0x7F
                if length >= 126:
                    length = int.from_bytes(connection.read_exactly(2 if length == 126 else 8), "big")
                payload = connection.read_exactly(length)
                received += inflated(payload) if first & 0x40 else payload
            assert received == data
        half = len(deflated(text)) // 2
        connection.send(frame(deflated(text)[:half], reserved=4, final=False) + frame(b"between", opcode=9)
                        + frame(deflated(text)[half:], opcode=0))
        assert connection.read_frame()[0] == 10
    wait_until(lambda: deflating.metric("tunnel_compression_bytes_total") > 0, 10, "it is counted")


def bombs():
    """(what, bytes of a compressed message, accepted?)"""
    yield "64 KiB of zeros", deflated(bytes(64 * KIB)), True
    yield "text of a mebibyte", deflated(random.Random(1).randbytes(MIB // 2).hex().encode()), True
    yield "a mebibyte and a byte", deflated(random.Random(1).randbytes(MIB // 2).hex().encode() + b"x"), False
    for size in (256 * KIB, MIB, MIB + 1, 10 * MIB, 100 * MIB):
        yield f"{size} zeros", deflated(bytes(size)), False
    inner = deflated(bytes(10 * MIB))
    yield "a bomb in a bomb", deflated(inner * 2), True  # only the outer one is ours to open
    for ratio in (50, 90):
        data = b"".join(random.Random(n).randbytes(100) + bytes(100 * ratio) for n in range(100 * KIB * 4 // (100 * (ratio + 1))))
        yield f"{ratio} to one", deflated(data), None
    yield "nothing but empty blocks", b"\x00\x00\x00\xff\xff" * 10_000 + b"\x00", None


@pytest.mark.short
@pytest.mark.deadline(120)
def test_compressed_bombs_are_refused_before_they_take_memory(deflating):
    warm, _ = opened(deflating)
    with warm:
        warm.send(frame(deflated(b"x" * 60_000), reserved=4))
        warm.read_frame()
    token = deflating.token("ann")
    base = deflating.program.forget_peak()
    for what, bomb, accepted in bombs():
        if len(bomb) > MIB:
            continue
        connection, _ = opened(deflating, token=token)
        with connection:
            connection.send(frame(bomb, reserved=4))
            if accepted is None:
                connection.send(close_frame(1000))
                assert connection.read_close_code() in (1000, 1009, 1002), what
            elif accepted:
                opcode, payload = connection.read_frame()
                assert opcode == 2 and payload, what
            else:
                assert connection.read_close_code() == 1009, what
    grown = deflating.program.peak_resident_bytes() - base
    print(f"peak grew by {grown / MIB:.1f} MiB")
    assert grown < (64 if is_sanitized() else 12) * MIB
    assert deflating.metric("tunnel_frames_rejected_total", reason="inflate") >= 5


def test_two_hundred_bombs_leave_nothing_behind(deflating):
    bomb, token = frame(deflated(bytes(10 * MIB)), reserved=4), deflating.token("ann")

    def throw():
        connection, _ = opened(deflating, token=token)
        with connection:
            connection.send(bomb)
            assert connection.read_close_code() == 1009

    for _ in range(50):
        throw()
    before = deflating.program.resident_bytes()
    for _ in range(150):
        throw()
    assert deflating.program.resident_bytes() - before < 4 * MIB


BROKEN_COMPRESSION = [
    ("not deflate at all", frame(b"\xff" * 100, reserved=4), {1002, 1007, 1009, 1011}),
    ("cut short in a block", frame(deflated(random.Random(2).randbytes(1000))[:50], reserved=4), {1002, 1007}),
    ("a reserved block type", frame(b"\x07", reserved=4), {1002, 1007}),
    ("a distance before the beginning", frame(bytes([0x4b, 0x04, 0x42, 0xff, 0xff]), reserved=4), {1002, 1007}),
    ("compressed continuation", frame(b"a", final=False) + frame(deflated(b"b"), opcode=0, reserved=4), {1002}),
    ("compressed ping", frame(deflated(b"x"), opcode=9, reserved=4), {1002}),
    ("compressed close", frame(deflated(b"\x03\xe8"), opcode=8, reserved=4), {1002}),
    ("another reserved bit", frame(deflated(b"x"), reserved=6), {1002}),
    ("text that is not UTF-8 inside", frame(deflated(b"\xff\xfe"), opcode=1, reserved=4), {1007})]


@pytest.mark.short
@pytest.mark.parametrize("what,sent,codes", BROKEN_COMPRESSION, ids=[row[0] for row in BROKEN_COMPRESSION])
def test_broken_compression_ends_the_stream(deflating, what, sent, codes):
    connection, _ = opened(deflating)
    with connection:
        connection.send(sent)
        assert connection.read_close_code() in codes, what


def test_without_agreement_the_bit_is_an_error(tunneld, token):
    connection, _ = opened(tunneld, token=token)
    with connection:
        connection.send(frame(deflated(b"x"), reserved=4))
        assert connection.read_close_code() == 1002


# Slow crowds --------------------------------------------------------------------------------------


@pytest.mark.deadline(150)
@pytest.mark.parametrize("kind", ["slow heads", "slow bodies", "slow readers", "half handshakes", "silence"])
def test_a_slow_crowd_costs_the_honest_nothing(new_tunneld, kind):
    """A hundred of each; honest requests are all served meanwhile, and the crowd is gone in the end."""
    daemon = new_tunneld(limits={"header_timeout": "2s", "body_timeout": "2s", "write_stall": "2s"})
    token = daemon.token("ann")
    crowd = []
    for _ in range(100):
        connection = daemon.connect(tls=False, source="127.0.0.3")
        crowd.append(connection)
        if kind == "slow heads":
            connection.sendall(b"GET /t/web/hello HTTP/1.1\r\nHost: x\r\nX-A: ")
        elif kind == "slow bodies":
            connection.sendall(request("POST", "/t/web/upload", "Content-Length: 1000000", token=token, body=b"x"))
        elif kind == "slow readers":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.sendall(request("GET", f"/t/web/download?bytes={64 * MIB}", token=token))
        elif kind == "half handshakes":
            connection.sendall(b"GET /ws/echo HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n")
    took = []
    deadline = time.monotonic() + 30
    alive = True
    while alive and time.monotonic() < deadline:
        for connection in crowd:
            try:
                if kind in ("slow heads", "half handshakes", "slow bodies"):
                    connection.send(b"y")
            except OSError:
                pass
        for _ in range(10):
            began = time.monotonic()
            assert ask(daemon, token).status == 200
            took.append(time.monotonic() - began)
        if kind == "slow bodies":
            break  # a byte now and then is progress; only a pause is not
        alive = daemon.metric("tunnel_active_connections") + len([1 for c in crowd if not ended(c)]) > 0 and not all(map(ended, crowd))
    took.sort()
    print(f"{kind}: {len(took)} honest requests, p50 {took[len(took) // 2] * 1000:.1f} ms, p95 {took[len(took) * 95 // 100] * 1000:.1f} ms")
    if kind != "slow bodies":
        assert all(map(ended, crowd)), f"{sum(not ended(one) for one in crowd)} are still there"
    for connection in crowd:
        connection.close()
    wait_until(lambda: daemon.metric("tunnel_requests_in_flight") == 0, 20, "nothing is left")


def ended(connection):
    """Whether the peer closed it; what it still sends is thrown away."""
    connection.setblocking(False)
    try:
        while True:
            if not connection.recv(256 * KIB, socket.MSG_DONTWAIT):
                return True
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        connection.setblocking(True)


@pytest.mark.deadline(120)
def test_a_storm_of_strangers_leaves_room_for_those_who_are_in(new_tunneld):
    """Over the limit of unauthenticated connections new ones are dropped; an open stream and a kept
    connection notice nothing."""
    daemon = new_tunneld(limits={"max_unauthenticated": 32, "header_timeout": "3s"})
    token = daemon.token("ann")
    with RawHttp(daemon.connect(tls=False)) as kept, RawWebSocket(daemon.connect(tls=False)) as open_stream:
        assert ask_on(kept, token).status == 200
        assert open_stream.open("/ws/echo", token).status == 101
        strangers = []
        for _ in range(400):
            try:
                strangers.append(daemon.connect(tls=False, source="127.0.0.3"))
            except OSError:
                pass
        for number in range(30):
            assert ask_on(kept, token).status == 200
            open_stream.send(frame(b"%d" % number))
            assert open_stream.read_frame() == (2, b"%d" % number)
        for stranger in strangers:
            stranger.close()

    def comes_in():
        try:
            return ask(daemon, token).status == 200
        except (OSError, EOFError):
            return False

    wait_until(comes_in, 20, "new callers come in again")


# Settings -----------------------------------------------------------------------------------------

WRONG_SETTINGS = [
    "tiers.free.requests_per_minute=-1", "tiers.free.requests_per_minute=10000001", "tiers.free.requests_per_minute=many",
    "tiers.premium.requests_per_minute=1e3", "tiers.enterprise.requests_per_minute=", "tiers.free.connections=0",
    "tiers.free.connections=100001", "tiers.premium.queue=9", "tiers.enterprise.queue=1001", "tiers.gold.queue=50", "tiers.free=5",
    "limits.address.requests_per_minute=-5", "limits.address.handshakes_per_minute=20.5", "limits.global_requests_per_minute=100000001",
    "penalty.enabled=perhaps", "penalty.enabled=1", "penalty.throttle_after=0", "penalty.block_after=1", "penalty.block_after=1001",
    "penalty.window=0s", "penalty.window=25h", "penalty.block_for=1", "penalty.block_for=forever", "trusted_proxies=10.0.0.0/33",
    "trusted_proxies=everybody", "trusted_proxies=10.0.0.0/-1", "trusted_proxies=2001:db8::/129", "trusted_proxies=10.0.0/8",
    "proxy_protocol=v2", "queue.bytes=1KiB", "queue.bytes=17GiB", "queue.upstream_wait=-1s", "queue.upstream_wait=11m",
    "breaker.failures=0", "breaker.failures=1001", "breaker.successes=0", "breaker.successes=101", "breaker.reset=99ms",
    "breaker.reset=61m", "breaker.max_reset=25h", "audit.enabled=maybe", "audit.on_error=ignore", "audit.max_file_bytes=1KiB",
    "audit.files=0", "audit.files=10001", "audit.retention=30m", "audit.flush=1ms", "audit.flush=2s", "events.bytes=1KiB",
    "events.bytes=2GiB", "tracing.sample_percent=-1", "tracing.sample_percent=101", "tracing.endpoint=collector:4318",
    "ws.compression=gzip", "ws.compression_level=0", "ws.compression_level=7", "ws.compression_threshold=-1",
    "ws.compression_threshold=2MiB", "ws.warn_frame=1", "ws.warn_frame=11MiB", "request.slow=0ms", "request.slow=11m",
]


@pytest.mark.short
def test_every_setting_out_of_range_stops_the_start_and_is_named(tmp_path):
    wrong = []

    def judge(setting):
        key = setting.split("=")[0]
        done = run("check-config", "--set", f"state_dir={tmp_path}", "--set", setting)
        if done.returncode != 78 or key not in done.stderr + done.stdout:
            wrong.append(f"{setting}: {done.returncode} {done.stderr.strip()}")
        variable = "TUNNELD_" + key.upper().replace(".", "_")
        done = run("check-config", "--set", f"state_dir={tmp_path}", env={variable: setting.split("=", 1)[1]})
        if done.returncode != 78:
            wrong.append(f"{variable}={setting.split('=', 1)[1]}: {done.returncode} {done.stderr.strip()}")

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        list(pool.map(judge, WRONG_SETTINGS))
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("settings,named", [
    (["penalty.throttle_after=10", "penalty.block_after=10"], "penalty.block_after"),
    (["breaker.reset=10m", "breaker.max_reset=1m"], "breaker.max_reset"), (["proxy_protocol=true"], "trusted_proxies")])
def test_settings_that_contradict_each_other_are_refused_together(tmp_path, settings, named):
    done = run("check-config", "--set", f"state_dir={tmp_path}", *[word for one in settings for word in ("--set", one)])
    assert done.returncode == 78 and named in done.stderr + done.stdout


@pytest.mark.parametrize("variable,value", [("RATE_LIMIT_FREE_RPM", "lots"), ("RATE_LIMIT_FREE_CONN", "-1"), ("CB_FAILURE_THRESHOLD", "0"),
                                            ("CB_RESET_TIMEOUT", "soon"), ("RATE_LIMIT_GLOBAL_RPM", "1e9")])
def test_old_names_of_the_environment_are_checked_as_strictly(tmp_path, variable, value):
    assert run("check-config", "--set", f"state_dir={tmp_path}", env={variable: value}).returncode == 78


@pytest.mark.deadline(60)
async def test_control_messages_and_bytes_never_mix(new_tunneld):
    """Random text beside random bytes: the service sees the bytes alone, in order."""
    daemon = new_tunneld()
    draw = random.Random(11)
    async with stream(daemon, "echo", daemon.token("ann"), subprotocols=[HALF_CLOSE], tls=False) as ws:
        sent, received = b"", b""
        for number in range(30):
            piece = draw.randbytes(draw.randint(1, 3000))
            await ws.send(piece)
            sent += piece
            if number % 5 == 4:
                await ws.send(draw.choice(['{"type":"x"}', "garbage", "{}", '{"type":"auth.refresh","token":"x"}']))
        try:
            while len(received) < len(sent):
                message = await asyncio.wait_for(ws.recv(), 20)
                if isinstance(message, bytes):
                    received += message
                else:
                    assert json.loads(message)["type"] == "error"
        except websockets.ConnectionClosed:
            pytest.fail(f"closed with {ws.close_code} {ws.close_reason}")
        assert received == sent
