"""A token's life beside an open stream: told before its end, renewed without a break, ended in time, revoked."""

import asyncio
import base64
import json
import time
from datetime import datetime

import pytest
import websockets

from callers.http import ask, outcome
from callers.operator import Operator
from callers.websocket import HALF_CLOSE, receive_bytes, stream
from programs.loopback import wait_until
from programs.records import Check
from programs.tunneld import is_sanitized

SLOWER = 4 if is_sanitized() else 1


@pytest.fixture
def daemon(new_tunneld):
    return new_tunneld(auth={"leeway": "0s"})


def claims_of(token):
    part = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def unix(text):
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def tap(daemon, token, service="echo"):
    return stream(daemon, service, token, subprotocols=[HALF_CLOSE], tls=False)


async def control(ws, kind=None):
    """The next control message, which must be of that kind."""
    message = await asyncio.wait_for(ws.recv(), 20)
    assert isinstance(message, str), message
    message = json.loads(message)
    assert kind in (None, message["type"]), message
    return message


async def closing(ws, seconds=20):
    """(close code, reason, when) once the peer closes."""
    with pytest.raises(websockets.ConnectionClosed):
        while True:
            await asyncio.wait_for(ws.recv(), seconds)
    return ws.close_code, ws.close_reason, time.time()


async def refresh(ws, token):
    await ws.send(json.dumps({"type": "auth.refresh", "token": token}))


# Its end ------------------------------------------------------------------------------------------


@pytest.mark.short
async def test_a_stream_is_warned_and_then_closed_with_4401_within_a_second(daemon):
    token = daemon.token("ann", expires="3s")
    ends = claims_of(token)["exp"]
    async with tap(daemon, token) as ws:
        assert unix((await control(ws, "auth.expiring"))["expiresAt"]) == ends
        await ws.send(b"x")
        assert await ws.recv() == b"x", "until then it is served"
        code, reason, when = await closing(ws)
    assert code == 4401 and json.loads(reason)["code"] == "TUNNEL_003"
    print(f"closed {1000 * (when - ends):.0f} ms after exp")
    assert -0.1 <= when - ends <= 2 * SLOWER  # one second, and what a busy machine adds


async def test_a_stream_in_mid_download_ends_as_punctually(daemon):
    token = daemon.token("ann", expires="2s")
    ends, received = claims_of(token)["exp"], 0
    async with tap(daemon, token, "flood") as ws:
        with pytest.raises(websockets.ConnectionClosed):
            while True:
                received += len(await asyncio.wait_for(ws.recv(), 20))
        when = time.time()
    assert ws.close_code == 4401 and received > 1 << 20
    assert -0.1 <= when - ends <= 3 * SLOWER


async def test_a_stream_without_control_messages_gets_no_text_and_ends_too(daemon):
    async with stream(daemon, "echo", daemon.token("ann", expires="2s"), subprotocols=["binary"], tls=False) as ws:
        with pytest.raises(websockets.ConnectionClosed):
            assert isinstance(await asyncio.wait_for(ws.recv(), 20), bytes)
    assert ws.close_code == 4401


async def test_a_token_with_a_long_life_is_not_announced(daemon):
    async with tap(daemon, daemon.token("ann", expires="10m")) as ws:
        for _ in range(20):
            await ws.send(b"x")
            assert await asyncio.wait_for(ws.recv(), 20) == b"x"


# Renewed ------------------------------------------------------------------------------------------


@pytest.mark.short
async def test_a_fresh_token_of_the_same_user_keeps_the_stream(daemon):
    first = daemon.token("ann", expires="3s")
    second = daemon.token("ann", expires="10m")
    async with tap(daemon, first) as ws:
        await control(ws, "auth.expiring")
        await refresh(ws, second)
        assert unix((await control(ws, "auth.ok"))["expiresAt"]) == claims_of(second)["exp"]
        while time.time() < claims_of(first)["exp"] + 1:
            await ws.send(b"x" * 1000)
            assert await receive_bytes(ws, 1000) == b"x" * 1000
        await ws.send(b"still here")
        assert await ws.recv() == b"still here"


async def test_a_refresh_in_mid_download_changes_no_byte(daemon):
    first, second = daemon.token("ann", expires="3s"), daemon.token("ann", expires="10m")
    ws = await tap(daemon, first, "records")
    await ws.send(b"7 100000000\n")
    check, kinds, sent = Check(7), [], False
    while time.time() < claims_of(first)["exp"] + 1:
        message = await asyncio.wait_for(ws.recv(), 20)
        if isinstance(message, str):
            kinds.append(json.loads(message)["type"])
        else:
            check.take(message)
            assert check.wrong is None
        if not sent and check.good > 1000:
            sent = True
            await refresh(ws, second)
    assert "auth.ok" in kinds and check.good > 10_000
    ws.transport.abort()


@pytest.mark.short
@pytest.mark.parametrize("other", ["another user", "forged", "expired", "nonsense"])
async def test_no_other_token_prolongs_it(daemon, other):
    token = daemon.token("ann", expires="4s")
    wrong = {"another user": lambda: daemon.token("ben", expires="10m"),
             "forged": lambda: token[:-8] + "AAAAAAAA",
             "expired": lambda: daemon.token("ann", expires="1s"),
             "nonsense": lambda: "nonsense"}[other]()
    if other == "expired":
        wait_until(lambda: outcome(ask(daemon, wrong)) == (401, "TUNNEL_003"), 10, "it is expired")
    async with tap(daemon, token) as ws:
        await control(ws, "auth.expiring")
        await refresh(ws, wrong)
        message = await control(ws, "error")
        assert message["code"] in ("TUNNEL_002", "TUNNEL_003", "TUNNEL_011"), message
        assert wrong not in json.dumps(message)
        code, _, when = await closing(ws)
    assert code == 4401 and when >= claims_of(token)["exp"] - 0.1, "and the first token's end stands"


async def test_a_shorter_token_shortens_nothing_unexpectedly(daemon):
    """A refresh is what the issuer says now: its end counts, later or earlier."""
    async with tap(daemon, daemon.token("ann", expires="10m")) as ws:
        second = daemon.token("ann", expires="3s")
        await refresh(ws, second)
        assert unix((await control(ws, "auth.ok"))["expiresAt"]) == claims_of(second)["exp"]
        code, _, _ = await closing(ws)
    assert code == 4401


@pytest.mark.short
@pytest.mark.parametrize("text", [
    "", "nonsense", "[]", "{}", "null", '"auth.refresh"', '{"type":1}', '{"type":"auth.refresh"}', '{"type":"auth.refresh","token":1}',
    '{"type":"auth.refresh","token":""}', '{"type":"auth.refresh","token":null}', '{"type":"auth.refresh","type":"x","token":"y"}',
    '{"type":"resume","session":"1"}', '{"type":"flow","level":"open"}', '{"type":"drain"}', '{"type":"auth.ok"}',
    '{"type":"__proto__"}', "{" * 1000, "[" * 100, '{"type":"auth.refresh","token":"a"', '{"type":"auth.refresh","token":"\\ud800"}'])
async def test_a_message_that_means_nothing_is_an_error_message_and_the_stream_goes_on(daemon, text):
    async with tap(daemon, daemon.token("ann")) as ws:
        await ws.send(text)
        assert (await control(ws, "error"))["code"] in ("TUNNEL_010", "TUNNEL_002")
        await ws.send(b"bytes")
        assert await ws.recv() == b"bytes", "none of it reached the service"


async def test_a_flood_of_control_messages_ends_the_stream(daemon):
    async with tap(daemon, daemon.token("ann")) as ws:
        for _ in range(200):
            try:
                await ws.send('{"type":"nothing"}')
            except websockets.ConnectionClosed:
                break
        code, _, _ = await closing(ws)
    assert code == 1008


async def test_a_control_message_that_is_too_large_ends_the_stream(daemon):
    async with tap(daemon, daemon.token("ann")) as ws:
        await ws.send('{"type":"auth.refresh","token":"' + "a" * 17_000 + '"}')
        code, _, _ = await closing(ws)
    assert code == 1009


# Revoked ------------------------------------------------------------------------------------------


@pytest.mark.short
async def test_a_revoked_token_is_refused_and_its_streams_end_within_five_seconds(daemon):
    operator = Operator.of(daemon)
    token, other = daemon.token("ann"), daemon.token("ann")
    async with tap(daemon, token) as ws, tap(daemon, other) as spared:
        await ws.send(b"x")
        await ws.recv()
        reply = await asyncio.to_thread(operator.revoke, tokenId=claims_of(token)["jti"], reason="laptop lost")
        reply.expect(201)
        began = time.monotonic()
        assert outcome(ask(daemon, token)) == (401, "TUNNEL_002")
        code, _, _ = await closing(ws)
        took = time.monotonic() - began
        assert code in (4401, 4403)
        print(f"the stream ended {1000 * took:.0f} ms after the call")
        assert took < 5 * SLOWER
        await spared.send(b"x")
        assert await spared.recv() == b"x", "another token of the same user lives on"
    assert ask(daemon, other).status == 200
    listed = operator.get("/api/tunnel/revocations").expect(200).json()
    assert "laptop lost" in json.dumps(listed)


@pytest.mark.short
async def test_all_tokens_of_a_subject_are_revoked_and_later_ones_are_good(daemon):
    operator = Operator.of(daemon)
    tokens = [daemon.token("ann") for _ in range(3)]
    ben = daemon.token("ben")
    async with tap(daemon, tokens[0]) as ws:
        reply = await asyncio.to_thread(operator.revoke, issuer=claims_of(tokens[0])["iss"], subject="ann")
        reply.expect(201)
        code, _, _ = await closing(ws)
        assert code in (4401, 4403)
    assert [outcome(ask(daemon, token)) for token in tokens] == [(401, "TUNNEL_002")] * 3
    assert ask(daemon, ben).status == 200
    wait_until(lambda: ask(daemon, daemon.token("ann")).status == 200, 10, "a token issued later is believed")


@pytest.mark.short
def test_a_restart_forgives_nothing_and_neither_does_a_kill(daemon):
    token = daemon.token("ann")
    assert ask(daemon, token).status == 200
    Operator.of(daemon).revoke(tokenId=claims_of(token)["jti"]).expect(201)
    daemon.program.kill()
    daemon.start()
    assert outcome(ask(daemon, token)) == (401, "TUNNEL_002")
    daemon.stop()
    daemon.start()
    assert outcome(ask(daemon, token)) == (401, "TUNNEL_002")


@pytest.mark.parametrize("body", [{}, {"tokenId": ""}, {"tokenId": 1}, {"tokenId": "a" * 1000}, {"subject": "ann"}, {"issuer": "x"},
                                  {"issuer": "x", "subject": ""}, {"tokenId": "a", "subject": "b", "issuer": "c"}, [], "a", None,
                                  {"tokenId": "a", "reason": 5}, {"tokenId": "a", "reason": "r" * 5000}, {"tokenId": "a", "nonsense": 1}])
def test_a_revocation_that_names_nothing_is_refused_and_changes_nothing(daemon, body):
    operator = Operator.of(daemon)
    before = operator.get("/api/tunnel/revocations").expect(200).text
    reply = operator.ask("POST", "/api/tunnel/revocations", raw=json.dumps(body).encode(), headers={"Content-Type": "application/json"})
    assert (reply.status, reply.code) == (400, "TUNNEL_010"), body
    assert strip_time(operator.get("/api/tunnel/revocations").text) == strip_time(before)


def strip_time(text):
    return {name: value for name, value in json.loads(text).items() if name != "timestamp"}


def test_users_cannot_revoke(daemon):
    token = daemon.token("ann")
    assert Operator(daemon, token).revoke(tokenId=claims_of(token)["jti"]).code == "TUNNEL_011"
    assert ask(daemon, token).status == 200
