"""Twenty users beside each other: none reaches, sees or disturbs what is another's, by any page or message,
and no byte of one arrives at another."""

import asyncio
import hashlib
import json
import os
import re

import pytest
import websockets

from callers.http import ask, code_of, outcome
from callers.operator import Operator
from callers.raw_http import request
from callers.raw_websocket import RawWebSocket
from callers.websocket import HALF_CLOSE, stream
from programs import audit
from programs.loopback import free_port, wait_until
from programs.records import Check
from programs.services import services_of, upstream_to
from programs.tunneld import Tunneld

USERS = 20


class User:
    """One principal, with a service only he may use and a text only he may see."""

    def __init__(self, daemon, number):
        self.number = number
        self.name = f"user{number:02}-{os.urandom(6).hex()}"
        self.canary = f"canary{number:02}-{os.urandom(12).hex()}"
        self.service = f"own{number:02}"
        self.correlation = f"corr-{number:02}-{os.urandom(6).hex()}"
        self.daemon, self.token = daemon, None
        self.seen = []  # everything this user ever received

    def ask(self, path, *fields, **options):
        answer = ask(self.daemon, self.token, path, *fields, **options)
        self.seen += [repr(answer.fields), answer.body.decode("latin-1")]
        return answer


@pytest.fixture(scope="module")
def crowd(new_directory, origin, nginx, sshd):
    """(daemon, users); each user's services answer only him."""
    directory = new_directory("tunneld")
    daemon = Tunneld(directory, {"breaker": {"failures": 3, "reset": "1h", "max_reset": "1h"}, "tiers": {"free": {"connections": 10}}})
    users = [User(daemon, number) for number in range(USERS)]
    own = [{"name": user.service, "target": f"127.0.0.1:{origin.ports['http']}", "allow": [f"sub:{user.name}"]} for user in users]
    broken = [{"name": f"dead{user.number:02}", "target": f"127.0.0.1:{free_port()}", "allow": [f"sub:{user.name}"]} for user in users]
    daemon.configuration["upstreams"] = [upstream_to(sshd, services_of(origin, nginx) + own + broken)]
    daemon.write_config()
    sshd.authorize(daemon.ssh_key())
    for user in users:
        user.token = daemon.token(user.name, "free")
    daemon.start()
    yield daemon, users
    daemon.stop()


def others(users):
    """(user, another) for every pair."""
    return [(user, other) for user in users for other in users if other is not user]


@pytest.mark.short
@pytest.mark.deadline(120)
def test_nobody_reaches_anothers_service_at_either_door(crowd, origin):
    daemon, users = crowd
    before = len(origin.requests())
    unknown = {}
    for user, other in others(users):
        answer = user.ask(f"/t/{other.service}/echo?{user.canary}")
        assert outcome(answer) == (403, "TUNNEL_017")
        if user not in unknown:
            unknown[user] = comparable(user.ask("/t/nosuch/echo"), "nosuch")
        assert comparable(answer, other.service) == unknown[user], "a service that exists looks like one that does not"
    assert len(origin.requests()) == before, "none of it reached the service"
    for user, other in others(users)[::7]:
        with RawWebSocket(daemon.connect(tls=False)) as connection:
            assert connection.open(f"/ws/{other.service}", user.token).status == 403
    for user in users:
        assert user.ask(f"/t/{user.service}/hello").body == b"hello\n"


def comparable(answer, name):
    error = json.loads(answer.body)["error"]
    for varying in ("timestamp", "requestId", "correlationId"):
        error.pop(varying)
    return answer.status, json.dumps(error).replace(name, "NAME")


@pytest.mark.short
@pytest.mark.deadline(120)
async def test_each_stream_carries_its_own_bytes_and_no_others(crowd):
    """All twenty at once, twice each, every record marked with whose it is."""
    daemon, users = crowd

    async def download(user, turn):
        number = user.number * 100 + turn
        async with stream(daemon, "records", user.token, subprotocols=["binary"], tls=False) as ws:
            await ws.send(b"%d 20000\n" % number)
            check = Check(number)
            while check.good < 20000:
                check.take(await asyncio.wait_for(ws.recv(), 60))
                assert check.wrong is None, check.wrong

    async def echo(user):
        async with stream(daemon, "echo", user.token, subprotocols=["binary"], tls=False) as ws:
            for _ in range(50):
                await ws.send(user.canary.encode())
                received = b""
                while len(received) < len(user.canary):
                    received += await asyncio.wait_for(ws.recv(), 60)
                assert received.decode() == user.canary

    await asyncio.gather(*[download(user, turn) for user in users for turn in range(2)], *[echo(user) for user in users])


@pytest.mark.deadline(120)
async def test_answers_never_change_hands_under_load_with_callers_that_leave(crowd):
    """Half of the requests are given up midway, so that channels are handed on in every state."""
    daemon, users = crowd

    async def caller(user):
        for turn in range(30):
            reader, writer = await asyncio.open_connection("127.0.0.1", daemon.plain_port)
            body = f"{user.canary}:{turn}:".encode() * 50
            writer.write(request("POST", "/t/web/echo", f"Content-Length: {len(body)}", token=user.token, body=body))
            if turn % 2:
                await reader.read(1)
            else:
                head = await reader.readuntil(b"\r\n\r\n")
                assert b" 200 " in head.split(b"\r\n")[0], head
                assert await reader.readexactly(len(body)) == body
            writer.close()

    await asyncio.gather(*[caller(user) for user in users for _ in range(2)])


@pytest.mark.short
def test_me_is_about_the_one_who_asks(crowd):
    _, users = crowd
    for user in users:
        answer = user.ask("/api/tunnel/me")
        assert answer.status == 200, answer
        text = answer.body.decode()
        for other in users:
            if other is not user:
                assert other.name not in text and other.service not in text
    assert ask(users[0].daemon, None, "/api/tunnel/me").status == 401

    def counted(user):
        return json.loads(user.ask("/api/tunnel/me").body)["usage"]["requests"]
    # A request is counted when its answer has left, which its caller may see before.
    earlier = [counted(user) for user in users[:2]]
    assert users[1].ask("/t/web/hello").status == 200
    wait_until(lambda: counted(users[1]) == earlier[1] + 1, 10, "one's own request is counted")
    for _ in range(5):
        users[0].ask("/t/web/hello")
    wait_until(lambda: counted(users[0]) == earlier[0] + 5, 10, "the other's are counted")
    assert counted(users[1]) == earlier[1] + 1, "another's requests are not mine"


@pytest.mark.short
@pytest.mark.deadline(120)
def test_no_users_token_opens_any_page_of_the_operator(crowd):
    daemon, users = crowd
    for user in users:
        for _ in range(3):
            assert outcome(user.ask(f"/t/dead{user.number:02}/")) == (503, "TUNNEL_001")
    operator = Operator.of(daemon)
    breakers = {one["service"]: one for one in operator.breakers()}
    assert len(breakers) == USERS
    with RawWebSocket(daemon.connect(tls=False)) as held:
        assert held.open("/ws/echo", users[0].token).status == 101
        # The 101 may be here before the list says what the connection has become.
        wait_until(lambda: [one for one in operator.connections() if one["kind"] == "websocket"], 10, "it is listed")
        (mine,) = [one for one in operator.connections() if one["kind"] == "websocket"]
        for user, other in others(users):
            theirs = breakers[f"dead{other.number:02}"]
            for method, path, body in [
                    ("POST", f"/api/tunnel/circuit-breakers/{theirs['id']}/reset", {}),
                    ("GET", f"/api/tunnel/metrics/user/{theirs['principal']}", None)][:1 + user.number % 2]:
                reply = Operator(daemon, user.token).ask(method, path, body)
                user.seen.append(reply.text)
                assert (reply.status, reply.code) == (403, "TUNNEL_011")
        for user in users:
            for method, path, body in [
                    ("DELETE", f"/api/tunnel/connections/{mine['id']}", None), ("GET", "/api/tunnel/connections", None),
                    ("GET", "/api/tunnel/circuit-breakers", None), ("GET", "/api/tunnel/metrics/users", None),
                    ("GET", "/api/tunnel/events", None), ("GET", "/api/tunnel/diagnostics", None), ("GET", "/api/tunnel/config", None),
                    ("POST", "/api/tunnel/revocations", {"issuer": "tunneld", "subject": users[0].name}),
                    ("GET", "/api/tunnel/revocations", None), ("POST", "/api/tunnel/drain", {})]:
                reply = Operator(daemon, user.token).ask(method, path, body)
                user.seen.append(reply.text)
                assert (reply.status, reply.code) == (403, "TUNNEL_011"), path
        held.send(b"\x82\x85\0\0\0\0hello")
        assert held.read_frame() == (2, b"hello"), "the stream they wanted to close lives on"
    assert {one["service"]: one["state"] for one in operator.breakers()} == {f"dead{u.number:02}": "open" for u in users}
    for user in users:
        assert outcome(user.ask(f"/t/dead{user.number:02}/")) == (503, "TUNNEL_014")
        assert user.ask("/t/web/hello").status == 200
    for one in breakers.values():
        operator.reset_breaker(one["id"]).expect(200)


@pytest.mark.deadline(120)
async def test_nobody_prolongs_or_takes_over_anothers_stream(crowd):
    daemon, users = crowd
    for user in users:
        async with stream(daemon, "echo", user.token, subprotocols=[HALF_CLOSE], tls=False) as ws:
            for other in users:
                if other is user or (user.number + other.number) % 3:
                    continue
                await ws.send(json.dumps({"type": "auth.refresh", "token": other.token}))
                message = json.loads(await asyncio.wait_for(ws.recv(), 20))
                assert message["type"] == "error", message
                assert other.name not in json.dumps(message) and other.token not in json.dumps(message)
                await ws.send(b"mine")
                assert await asyncio.wait_for(ws.recv(), 20) == b"mine"


@pytest.mark.deadline(60)
def test_a_correlation_id_of_another_opens_nothing(crowd, origin, unique):
    """Two users with the same ids for everything a caller may choose stay two users."""
    _, users = crowd
    for user in users[:5]:
        answer = user.ask(f"/t/web/execute?id={unique}-{user.number}", "X-Correlation-ID: the-same", "Idempotency-Key: the-same", method="POST")
        assert (answer.status, answer.body) == (200, b"done\n")
        assert origin.executions(f"{unique}-{user.number}") == 1


@pytest.mark.short
@pytest.mark.deadline(120)
def test_no_users_secret_ever_shows_at_another_or_in_what_is_public(crowd):
    daemon, users = crowd
    for user in users:
        body = user.canary.encode() * 20
        answer = user.ask(f"/t/{user.service}/echo?{user.canary}", f"X-Secret: {user.canary}", f"X-Correlation-ID: {user.correlation}",
                          f"Cookie: session={user.canary}", method="POST", body=body)
        assert answer.body == body
        user.ask(f"/t/nosuch-{user.number}/{user.canary}")
        user.ask("/api/tunnel/health")
        user.ask("/api/tunnel/me")
    for user in users:
        text = "\n".join(user.seen)
        for other in users:
            if other is not user:
                for secret in (other.canary, other.name, other.correlation, other.token, other.token.split(".")[2]):
                    assert secret not in text, f"{user.name} saw {secret}"
    public = "\n".join([daemon.admin("/metrics")[1], daemon.admin("/api/tunnel/metrics")[1], daemon.admin("/api/tunnel/health")[1],
                        daemon.program.output(), daemon.program.command_line(),
                        *[json.dumps(line) for line in audit.lines(daemon.state / "audit") if line["event"] != "auth.accepted"]])
    for user in users:
        for secret in (user.canary, user.name, user.token, user.token.split(".")[2]):
            assert secret not in public, "in what operators read"


def test_what_stands_for_a_user_is_a_hash_and_the_same_everywhere(crowd):
    daemon, users = crowd
    operator = Operator.of(daemon)
    listed = operator.get("/api/tunnel/metrics/users", limit=100).expect(200).json()["users"]
    assert len(listed) >= USERS
    hashes = {one["principal"] for one in listed}
    assert all(re.fullmatch("[0-9a-f]{16,64}", one) for one in hashes)
    for user in users:
        assert user.name not in json.dumps(listed)
        assert hashlib.sha256(user.name.encode()).hexdigest()[:16] not in hashes, "not simply that of the subject"


@pytest.mark.deadline(60)
async def test_one_users_stalled_stream_holds_up_nobody(crowd):
    """Twenty streams over one daemon; one of them never reads what it asked for."""
    daemon, users = crowd
    stalled = await stream(daemon, "flood", users[0].token, subprotocols=["binary"], tls=False, max_queue=1)

    async def works(user):
        async with stream(daemon, "records", user.token, subprotocols=["binary"], tls=False) as ws:
            await ws.send(b"%d 5000\n" % user.number)
            check = Check(user.number)
            while check.good < 5000:
                check.take(await asyncio.wait_for(ws.recv(), 30))
        assert check.wrong is None

    await asyncio.gather(*[works(user) for user in users])
    stalled.transport.abort()


def test_one_users_wrong_tokens_lock_nobody_out(crowd):
    """A forged token that claims to be somebody harms that somebody in no way."""
    _, users = crowd
    victim = users[3]
    head, payload, signature = victim.token.split(".")
    for turn in range(30):
        forged = f"{head}.{payload}.{signature[:-8]}{turn:08d}"
        assert code_of(ask(victim.daemon, forged)) == "TUNNEL_002"
    assert victim.ask("/t/web/hello").status == 200
    wait_until(lambda: victim.daemon.metric("tunnel_requests_in_flight") == 0, 20, "nothing is left")


async def test_a_taken_quota_is_the_takers_alone(crowd):
    daemon, users = crowd
    held = [await stream(daemon, "echo", users[5].token, subprotocols=["binary"], tls=False) for _ in range(10)]
    with pytest.raises(websockets.InvalidStatusCode) as refused:
        await stream(daemon, "echo", users[5].token, subprotocols=["binary"], tls=False)
    assert refused.value.status_code == 429
    for user in users[6:10]:
        async with stream(daemon, "echo", user.token, subprotocols=["binary"], tls=False) as ws:
            await ws.send(b"x")
            assert await ws.recv() == b"x"
    for ws in held:
        await ws.close()
