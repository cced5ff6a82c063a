"""WebSockets through the tunnel: /ws/<service> is one TCP stream, /t/<service>/ relays the service's own."""

import asyncio
import hashlib
import json
import os
import struct

import pytest
import websockets

from callers.raw_http import RawHttp, request
from callers.raw_websocket import UPGRADE, RawWebSocket, frame
from callers.websocket import HALF_CLOSE, receive_bytes, stream
from programs.loopback import wait_until
from programs.origin import BLOCK, stream_digest

MIB = 1 << 20

@pytest.fixture
def raw_websocket(tunneld, token):
    """An open raw WebSocket to /ws/echo."""
    connection = RawWebSocket(tunneld.connect())
    answer = connection.open("/ws/echo", token)
    assert answer.status == 101, answer
    yield connection
    connection.close()


# The stream door ----------------------------------------------------------------------------------


@pytest.mark.short
@pytest.mark.parametrize("tls", [True, False], ids=["tls", "plain"])
async def test_bytes_sent_to_an_echo_service_come_back(tunneld, token, tls):
    async with stream(tunneld, "echo", token, tls=tls) as ws:
        for message in (b"x", b"hello \x00\xff", os.urandom(70_000)):
            await ws.send(message)
            assert await receive_bytes(ws, len(message)) == message


@pytest.mark.short
@pytest.mark.parametrize("offered,chosen", [(None, None), (["binary"], "binary"), ([HALF_CLOSE], HALF_CLOSE),
                                            (["mqtt", "binary"], "binary")])
async def test_known_subprotocols_are_chosen(tunneld, token, offered, chosen):
    async with stream(tunneld, "echo", token, subprotocols=offered) as ws:
        assert ws.subprotocol == chosen


async def test_only_unknown_subprotocols_are_refused(tunneld, token):
    with pytest.raises(websockets.InvalidStatusCode) as refused:
        await stream(tunneld, "echo", token, subprotocols=["mqtt", "soap"])
    assert refused.value.status_code == 400


@pytest.mark.short
async def test_an_empty_message_ends_our_direction_and_the_answer_still_comes(tunneld, token):
    async with stream(tunneld, "digest", token, subprotocols=[HALF_CLOSE]) as ws:
        await ws.send(b"abc" * 100_000)
        await ws.send(b"")
        answer = b""
        while message := await ws.recv():
            answer += message
        count, digest = answer.split()
        assert (int(count), digest.decode()) == (300_000, hashlib.sha256(b"abc" * 100_000).hexdigest())


async def test_the_services_end_of_direction_is_an_empty_message_and_ours_stays_open(new_tunneld):
    """A service that says goodbye first and then still listens."""
    finished = asyncio.get_running_loop().create_future()

    async def goodbye_first(reader, writer):
        writer.write(b"goodbye")
        writer.write_eof()
        finished.set_result(await reader.read())
        writer.close()

    server = await asyncio.start_server(goodbye_first, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    daemon = new_tunneld(services=[
        {"name": "polite", "target": f"127.0.0.1:{port}", "allow": ["*"]}])
    async with server, stream(daemon, "polite", daemon.token(), subprotocols=[HALF_CLOSE]) as ws:
        assert await receive_bytes(ws, 7) == b"goodbye"
        assert await ws.recv() == b""
        await ws.send(b"still here")
        await ws.send(b"")
        assert await asyncio.wait_for(finished, 10) == b"still here"


@pytest.mark.short
async def test_without_half_close_the_services_end_closes_normally(tunneld, token):
    async with stream(tunneld, "source", token) as ws:
        await ws.send(b"1000\n")
        assert await receive_bytes(ws, 1000) == BLOCK[:1000]
        with pytest.raises(websockets.ConnectionClosedOK):
            await ws.recv()
        assert ws.close_code == 1000


async def test_our_close_reaches_the_service(tunneld, token, origin):
    async with stream(tunneld, "echo", token) as ws:
        await ws.send(b"x")
        await ws.recv()
    assert ws.close_code == 1000
    wait_until(lambda: tunneld.metric("tunnel_active_connections") == 0, 10, "no WebSocket is open")


@pytest.mark.slow
@pytest.mark.deadline(180)
async def test_two_hundred_megabytes_each_way_at_once_are_unchanged(tunneld, token):
    total = 200 * MIB
    async with stream(tunneld, "echo", token, subprotocols=[HALF_CLOSE]) as ws:
        async def send():
            for _ in range(total // len(BLOCK)):
                await ws.send(BLOCK)
            await ws.send(b"")

        sending = asyncio.ensure_future(send())
        digest, count = hashlib.sha256(), 0
        while message := await ws.recv():
            digest.update(message)
            count += len(message)
        await sending
    assert (count, digest.hexdigest()) == (total, stream_digest(total))


@pytest.mark.short
async def test_text_messages_carry_their_bytes_or_are_refused_as_such(tunneld, token):
    """A stream is bytes; a text message is a mistake that must not be silently dropped."""
    async with stream(tunneld, "echo", token) as ws:
        await ws.send("text")
        try:
            assert await receive_bytes(ws, 4) == b"text"
        except websockets.ConnectionClosedError:
            assert ws.close_code == 1003


@pytest.mark.short
@pytest.mark.deadline(120)
async def test_a_hundred_streams_at_once_each_get_their_own_bytes(tunneld, token):
    async def one(number):
        async with stream(tunneld, "echo", token) as ws:
            message = f"stream {number} ".encode() * 1000
            await ws.send(message)
            return await receive_bytes(ws, len(message)) == message

    assert await asyncio.gather(*(one(number) for number in range(100))) == [True] * 100


@pytest.mark.deadline(120)
async def test_a_reader_that_stops_leaves_other_streams_running(tunneld, token):
    """Three callers let an endless stream fill every buffer; a fourth moves 64 MiB beside them."""
    stalled = [RawWebSocket(tunneld.connect()) for _ in range(3)]
    for connection in stalled:
        assert connection.open("/ws/flood", token).status == 101
    before = tunneld.program.resident_bytes()
    async with stream(tunneld, "source", token) as ws:
        await ws.send(b"%d\n" % (64 * MIB))
        assert hashlib.sha256(await receive_bytes(ws, 64 * MIB)).hexdigest() == stream_digest(64 * MIB)
    assert tunneld.program.resident_bytes() - before < 48 * MIB
    for connection in stalled:
        connection.close()


# Refusals before the 101 --------------------------------------------------------------------------


@pytest.mark.short
@pytest.mark.parametrize("service", ["nowhere", "carols", "UPPER", "a" * 64])
async def test_unknown_and_forbidden_services_are_refused_alike(tunneld, token, service):
    with pytest.raises(websockets.InvalidStatusCode) as refused:
        await stream(tunneld, service, token)
    assert refused.value.status_code == 403


async def test_a_service_that_is_down_is_503_before_any_101(tunneld, token):
    with pytest.raises(websockets.InvalidStatusCode) as refused:
        await stream(tunneld, "dead", token)
    assert refused.value.status_code == 503


@pytest.mark.short
@pytest.mark.parametrize("without,status", [
    ("Sec-WebSocket-Version: 13", 426), ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", 400),
    ("Upgrade: websocket", 400), ("Connection: Upgrade", 400)])
def test_an_incomplete_upgrade_is_refused(tunneld, token, without, status):
    with RawHttp(tunneld.connect()) as connection:
        connection.send(request("GET", "/ws/echo", *[f for f in UPGRADE if f != without], token=token))
        answer = connection.read_answer()
    assert answer.status in (status, 426), answer  # RFC 9110 §15.5.22 allows 426 for a missing Upgrade
    if answer.status == 426:
        assert answer.value("Upgrade") == "websocket" or answer.value("Sec-WebSocket-Version") == "13"


@pytest.mark.parametrize("field", ["Sec-WebSocket-Version: 8", "Sec-WebSocket-Version: x", "Sec-WebSocket-Version: 14",
                                   "Sec-WebSocket-Key: short", "Sec-WebSocket-Key: " + "A" * 200,
                                   "Sec-WebSocket-Key: ????????????????????????"])
def test_a_wrong_upgrade_field_is_refused(tunneld, token, field):
    name = field.split(":")[0]
    with RawHttp(tunneld.connect()) as connection:
        connection.send(request("GET", "/ws/echo", *[f for f in UPGRADE if not f.startswith(name)], field, token=token))
        assert connection.read_answer().status in (400, 426)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_only_get_upgrades(tunneld, token, method):
    with RawHttp(tunneld.connect()) as connection:
        connection.send(request(method, "/ws/echo", *UPGRADE, token=token))
        assert connection.read_answer().status in (400, 405)


@pytest.mark.short
@pytest.mark.parametrize("origin_field", ["https://evil.test", "null", "http://127.0.0.1", ""])
def test_an_unlisted_origin_is_refused(tunneld, token, origin_field):
    with RawHttp(tunneld.connect()) as connection:
        connection.send(request("GET", "/ws/echo", *UPGRADE, f"Origin: {origin_field}", token=token))
        answer = connection.read_answer()
    assert (answer.status, json.loads(answer.body)["error"]["code"]) == (403, "TUNNEL_011")


# Frames from hostile callers ----------------------------------------------------------------------


@pytest.mark.short
@pytest.mark.parametrize("what,sent,codes", [
    ("an unmasked frame", frame(b"x", masked=False), {1002}),
    ("a reserved bit", frame(b"x", reserved=4), {1002}),
    ("a reserved opcode", frame(b"x", opcode=3), {1002}),
    ("a reserved control opcode", frame(b"x", opcode=11), {1002}),
    ("a ping over 125 bytes", frame(b"x" * 126, opcode=9), {1002}),
    ("a fragmented ping", frame(b"x", opcode=9, final=False), {1002}),
    ("a continuation of nothing", frame(b"x", opcode=0), {1002}),
    ("a new message inside a fragmented one", frame(b"x", final=False) + frame(b"y"), {1002}),
    ("a close frame of one byte", frame(b"x", opcode=8), {1002}),
    ("a close code nobody may send", frame(struct.pack(">H", 1005), opcode=8), {1002}),
    ("a close code out of range", frame(struct.pack(">H", 999), opcode=8), {1002}),
    ("a close reason that is not UTF-8", frame(struct.pack(">H", 1000) + b"\xff", opcode=8), {1002, 1007}),
    ("a frame over a mebibyte", frame(b"", length=MIB + 1), {1009}),
    ("a frame of 2^62 bytes", frame(b"", length=1 << 62), {1009, 1002}),
    ("a frame length with the top bit", frame(b"", length=1 << 63), {1002, 1009}),
])
def test_a_frame_that_breaks_the_protocol_ends_it_with_the_right_code(raw_websocket, what, sent, codes):
    raw_websocket.send(sent)
    assert raw_websocket.read_close_code() in codes, what
    raw_websocket.send(frame(struct.pack(">H", 1000), opcode=8))
    assert raw_websocket.is_closed()


def test_fragments_that_add_up_to_more_than_a_mebibyte_are_a_stream_or_too_big(raw_websocket):
    """Bytes are relayed as fragments come or the message is refused; they are never hoarded."""
    piece = b"x" * 65536
    raw_websocket.send(frame(piece, final=False))
    for _ in range(20):
        raw_websocket.send(frame(piece, opcode=0, final=False))
    opcode, payload = raw_websocket.read_frame()
    received = 0
    while opcode != 8 and received < 17 * 65536:
        received += len(payload)
        opcode, payload = raw_websocket.read_frame()
    assert opcode != 8 or struct.unpack(">H", payload[:2])[0] == 1009


def test_a_ping_is_answered_and_a_flood_of_them_ends_the_connection(raw_websocket):
    raw_websocket.send(frame(b"are you there", opcode=9))
    assert raw_websocket.read_frame() == (10, b"are you there")
    raw_websocket.send(b"".join(frame(b"%d" % n, opcode=9) for n in range(200)))
    assert raw_websocket.read_close_code() == 1008


@pytest.mark.short
def test_bytes_sent_together_with_the_upgrade_are_not_lost(tunneld, token):
    with RawWebSocket(tunneld.connect()) as connection:
        connection.send(request("GET", "/ws/echo", *UPGRADE, token=token) + frame(b"early"))
        assert connection.read_head().status == 101
        assert connection.read_frame() == (2, b"early")


def test_frames_after_a_refused_upgrade_are_not_websocket_nor_a_request(tunneld, origin, token, unique):
    """Nothing is treated as WebSocket unless we sent 101, and a second request behind is not smuggled."""
    with RawHttp(tunneld.connect()) as connection:
        connection.send(request("GET", "/ws/nowhere", *UPGRADE, token=token) + frame(b"GET /t/web/hello"))
        assert connection.read_answer().status == 403
        rest = connection.read_to_end()
    assert b"101" not in rest[:20]


async def test_a_server_ping_keeps_a_quiet_but_living_caller(new_tunneld):
    daemon = new_tunneld(ws={"ping_interval": "1s", "dead_after": "3s"})
    async with stream(daemon, "echo", daemon.token()) as ws:
        pinged = asyncio.get_running_loop().time() + 5
        while asyncio.get_running_loop().time() < pinged:
            await asyncio.sleep(0.1)  # quiet on purpose: only pongs go back
        await ws.send(b"still here")
        assert await receive_bytes(ws, 10) == b"still here"


def test_a_caller_that_stops_answering_pings_is_dropped(new_tunneld):
    daemon = new_tunneld(ws={"ping_interval": "1s", "dead_after": "3s"})
    with RawWebSocket(daemon.connect()) as connection:
        assert connection.open("/ws/echo", daemon.token()).status == 101
        assert connection.read_close_code() == 4408


def test_an_idle_stream_is_closed_after_the_idle_timeout(new_tunneld):
    daemon = new_tunneld(limits={"idle_timeout": "2s"})

    async def wait_for_the_end():
        async with stream(daemon, "echo", daemon.token()) as ws:
            with pytest.raises(websockets.ConnectionClosed):
                await asyncio.wait_for(ws.recv(), 20)
            return ws.close_code

    assert asyncio.run(wait_for_the_end()) == 4408


# The service's own WebSocket, relayed -------------------------------------------------------------


@pytest.mark.short
@pytest.mark.parametrize("tls", [True, False], ids=["tls", "plain"])
async def test_the_services_own_websocket_works_through_the_http_door(tunneld, token, tls):
    async with stream(tunneld, "chat", token, path="/t/chat/room?x=1", tls=tls) as ws:
        await ws.send("a text stays a text")
        assert await ws.recv() == "a text stays a text"
        blob = os.urandom(3 * MIB)
        await ws.send(blob)
        assert await ws.recv() == blob
        await (await ws.ping())


async def test_close_codes_of_the_service_pass_through(new_tunneld):
    async def close_with_a_reason(websocket):
        await websocket.close(4321, "enough")

    async with await websockets.serve(close_with_a_reason, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        daemon = new_tunneld(services=[
            {"name": "terse", "target": f"127.0.0.1:{port}", "allow": ["*"]}])
        async with stream(daemon, "terse", daemon.token(), path="/t/terse/") as ws:
            with pytest.raises(websockets.ConnectionClosed):
                await ws.recv()
        assert (ws.close_code, ws.close_reason) == (4321, "enough")


async def test_a_service_that_refuses_the_upgrade_answers_for_itself(tunneld, token):
    with pytest.raises(websockets.InvalidStatusCode) as refused:
        await stream(tunneld, "web", token, path="/t/web/hello")
    assert refused.value.status_code == 200


async def test_a_hundred_relayed_websockets_at_once(tunneld, token):
    async def one(number):
        async with stream(tunneld, "chat", token, path="/t/chat/") as ws:
            await ws.send(f"I am {number}")
            return await ws.recv() == f"I am {number}"

    assert await asyncio.gather(*(one(number) for number in range(100))) == [True] * 100
