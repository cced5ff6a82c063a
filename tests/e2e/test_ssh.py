"""The far side: real sshds that vanish, come back, change their key or crowd."""

import asyncio
import hashlib
import json
import os
import signal
import socket
import threading

import aiohttp
import pytest
import requests
import websockets

from callers.raw_http import RawHttp, request
from callers.websocket import HALF_CLOSE, receive_bytes, stream
from programs.loopback import free_port, wait_until
from programs.origin import BLOCK, stream_digest
from programs.services import upstream_to

MIB = 1 << 20


@pytest.fixture
def far(new_sshd):
    """An sshd of our own to break."""
    return new_sshd()


def get(daemon, token, path="/t/web/hello", **options):
    return requests.get(daemon.url(path), headers={"Authorization": f"Bearer {token}"},
                        verify=str(daemon.certificate), timeout=40, **options)


def code_of(answer):
    return answer.json()["error"]["code"]


# Who the far side is ------------------------------------------------------------------------------


@pytest.mark.short
def test_a_wrong_host_key_is_fatal_and_nothing_is_sent_to_it(new_tunneld, far, origin, unique):
    daemon = new_tunneld(via=far, upstream={"host_key_fingerprint": ["SHA256:" + "A" * 43]})
    answer = get(daemon, daemon.token(), f"/t/web/execute?id={unique}")
    assert (answer.status_code, code_of(answer)) == (502, "TUNNEL_015")
    assert origin.executions(unique) == 0
    assert "Accepted publickey" not in far.program.output(), "tunneld logged in to a machine it did not know"


def test_a_host_key_that_changes_later_is_refused_and_never_learnt(new_tunneld, far):
    daemon = new_tunneld(via=far)
    token = daemon.token()
    assert get(daemon, token).status_code == 200
    good = far.host_key.read_bytes(), far.host_key.with_suffix(".pub").read_bytes()
    far.new_host_key()
    far.restart()
    wait_until(lambda: (answer := get(daemon, token)).status_code == 502 and code_of(answer) == "TUNNEL_015", 30,
               "the new host key is refused")
    assert code_of(get(daemon, token)) == "TUNNEL_015", "it stays refused"
    far.host_key.write_bytes(good[0])
    far.host_key.with_suffix(".pub").write_bytes(good[1])
    far.restart()
    wait_until(lambda: get(daemon, token).status_code == 200, 30, "the right machine is believed again")


def test_known_hosts_files_identify_the_far_side(new_tunneld, far, new_directory):
    directory = new_directory("known-hosts")
    directory.mkdir()
    file = directory / "known_hosts"
    file.write_text(far.known_hosts_line())
    daemon = new_tunneld(via=far, upstream={"host_key_fingerprint": None, "known_hosts_file": str(file)})
    assert get(daemon, daemon.token()).status_code == 200


def test_a_machine_missing_from_known_hosts_is_refused(new_tunneld, far, new_directory):
    directory = new_directory("known-hosts")
    directory.mkdir()
    file = directory / "known_hosts"
    file.write_text("elsewhere " + far.known_hosts_line().split(" ", 1)[1])
    daemon = new_tunneld(via=far, upstream={"host_key_fingerprint": None, "known_hosts_file": str(file)})
    assert code_of(get(daemon, daemon.token())) == "TUNNEL_015"


def test_trust_on_first_use_learns_once_and_never_again(new_tunneld, far):
    daemon = new_tunneld(via=far, upstream={"host_key_fingerprint": None, "trust_on_first_use": True})
    token = daemon.token()
    assert get(daemon, token).status_code == 200
    far.new_host_key()
    far.restart()
    wait_until(lambda: (answer := get(daemon, token)).status_code == 502 and code_of(answer) == "TUNNEL_015", 30,
               "the changed key is refused")


def test_a_far_side_that_does_not_know_our_key_is_an_ssh_error(new_tunneld, far):
    daemon = new_tunneld(via=far)
    far.authorized_keys.write_text("")
    answer = get(daemon, daemon.token())
    assert (answer.status_code, code_of(answer)) == (502, "TUNNEL_008")


@pytest.mark.parametrize("restriction", ["KexAlgorithms diffie-hellman-group14-sha256", "Ciphers aes128-ctr",
                                         "KexAlgorithms ecdh-sha2-nistp256", "Ciphers chacha20-poly1305@openssh.com"])
def test_weaker_algorithms_are_never_agreed_to(new_tunneld, new_sshd, restriction):
    daemon = new_tunneld(via=new_sshd(extra=(restriction,)))
    assert code_of(get(daemon, daemon.token())) == "TUNNEL_008"


def test_a_target_the_far_side_does_not_permit_is_unreachable(new_tunneld, new_sshd, origin):
    server = new_sshd(permit_open=(f"127.0.0.1:{origin.ports['tcp_echo']}",))
    daemon = new_tunneld(via=server)
    answer = get(daemon, daemon.token())
    assert answer.status_code in (502, 503) and code_of(answer) in ("TUNNEL_001", "TUNNEL_008")


# Coming and going ---------------------------------------------------------------------------------


@pytest.mark.short
def test_an_upstream_that_is_down_is_unreachable_and_works_once_it_is_back(new_tunneld, far):
    daemon = new_tunneld(via=far)
    token = daemon.token()
    far.kill()
    answer = get(daemon, token)
    assert (answer.status_code, code_of(answer)) == (503, "TUNNEL_001")
    far.start()
    wait_until(lambda: get(daemon, token).status_code == 200, 30, "requests pass again")


def test_the_daemon_starts_while_its_upstream_is_down(new_tunneld, far):
    daemon = new_tunneld(via=far, start=False)
    far.kill()
    daemon.start()
    assert code_of(get(daemon, daemon.token())) == "TUNNEL_001"


def test_one_upstream_down_does_not_touch_another(new_tunneld, far, sshd, origin):
    daemon = new_tunneld(start=False, upstreams=[
        upstream_to(sshd, [{"name": "web", "target": f"127.0.0.1:{origin.ports['http']}", "allow": ["*"]}]),
        upstream_to(far, [{"name": "gone", "target": f"127.0.0.1:{origin.ports['http']}", "allow": ["*"]}], name="other")])
    daemon.start()
    far.kill()
    token = daemon.token()
    assert code_of(get(daemon, token, "/t/gone/hello")) == "TUNNEL_001"
    assert get(daemon, token).status_code == 200


def test_the_next_address_is_tried_when_the_first_does_not_answer(new_tunneld, far):
    daemon = new_tunneld(via=far, upstream={"address": [f"127.0.0.1:{free_port()}", f"127.0.0.1:{far.port}"]})
    assert get(daemon, daemon.token()).status_code == 200


@pytest.mark.short
def test_killing_the_session_mid_download_is_seen_by_the_caller_and_healed(new_tunneld, far):
    daemon = new_tunneld(via=far)
    token = daemon.token()
    with RawHttp(daemon.connect()) as connection:
        connection.send(request("GET", "/t/web/download?bytes=1073741824", token=token))
        assert connection.read_head().status == 200
        connection.read_exactly(4 * MIB)
        far.kill_sessions()
        received = len(connection.read_to_end())
        assert received < (1 << 30) - 4 * MIB, "a cut answer must not look whole"
    wait_until(lambda: get(daemon, token).status_code == 200, 30, "a new session serves")


@pytest.mark.short
def test_killing_the_session_mid_upload_is_reported_and_not_repeated(new_tunneld, far, origin, unique):
    daemon = new_tunneld(via=far)
    token = daemon.token()
    with RawHttp(daemon.connect()) as connection:
        connection.send(request("POST", f"/t/web/upload?{unique}", "Content-Length: 100000000", token=token, body=b"x" * MIB))
        wait_until(lambda: any(unique in line for line in origin.requests()), 20, "the upload has begun")
        far.kill_sessions()
        answer = connection.read_answer()
    assert (answer.status, json.loads(answer.body)["error"]["code"]) in ((502, "TUNNEL_013"), (502, "TUNNEL_008"))
    assert len([line for line in origin.requests() if unique in line]) == 1


def test_killing_the_session_ends_its_streams_with_1011(new_tunneld, far):
    daemon = new_tunneld(via=far)

    async def scenario():
        async with stream(daemon, "echo", daemon.token()) as ws:
            await ws.send(b"x")
            await ws.recv()
            far.kill_sessions()
            with pytest.raises(websockets.ConnectionClosed):
                await asyncio.wait_for(ws.recv(), 30)
            return ws.close_code

    assert asyncio.run(scenario()) == 1011


def test_killing_sshd_under_fifty_requests_answers_every_one(new_tunneld, far, origin, unique):
    daemon = new_tunneld(via=far)
    token = daemon.token()

    async def scenario():
        connector = aiohttp.TCPConnector(limit=0, ssl=daemon.tls_context())
        async with aiohttp.ClientSession(connector=connector, headers={"Authorization": f"Bearer {token}"}) as session:
            async def one(number):
                async with session.post(daemon.url(f"/t/web/execute?id={unique}{number}&gate={unique}")) as answer:
                    return answer.status, (await answer.json())["error"]["code"]

            posts = [asyncio.ensure_future(one(number)) for number in range(50)]
            while sum(origin.executions(f"{unique}{n}") for n in range(50)) < 50:
                assert not any(post.done() for post in posts), "a post was answered before its time"
                await asyncio.sleep(0.02)
            far.kill()
            return await asyncio.gather(*posts)

    assert asyncio.run(scenario()) == [(502, "TUNNEL_013")] * 50
    assert [origin.executions(f"{unique}{n}") for n in range(50)] == [1] * 50
    far.start()
    wait_until(lambda: get(daemon, token).status_code == 200, 30, "requests pass again")


@pytest.mark.deadline(120)
def test_a_far_side_that_freezes_is_noticed_by_keepalives(new_tunneld, far):
    """sshd is stopped but its kernel still acknowledges: only a missing keepalive answer tells."""
    daemon = new_tunneld(via=far, ssh={"keepalive": "1s", "keepalive_reply": "1s"})
    token = daemon.token()
    assert get(daemon, token).status_code == 200
    frozen = far.sessions()

    async def scenario():
        async with stream(daemon, "echo", token) as ws:
            await ws.send(b"x")
            await ws.recv()
            for pid in far.sessions():
                os.kill(pid, signal.SIGSTOP)
            with pytest.raises(websockets.ConnectionClosed):
                await asyncio.wait_for(ws.recv(), 60)
            return ws.close_code

    assert frozen
    assert asyncio.run(scenario()) == 1011
    wait_until(lambda: get(daemon, token).status_code == 200, 30, "a fresh session serves")
    for pid in far.sessions():
        os.kill(pid, signal.SIGCONT)


# Strangers on the other end -----------------------------------------------------------------------


class Impostor:
    """Listens where an sshd should and says `words` to each that connects; counts them."""

    def __init__(self, words, *, hang):
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        self.connections = []
        self.words, self.hang = words, hang
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                connection, _ = self.server.accept()
            except OSError:
                return
            self.connections.append(connection)
            try:
                connection.sendall(self.words)
            except OSError:
                pass
            if not self.hang:
                connection.close()

    def close(self):
        self.server.close()
        for connection in self.connections:
            connection.close()


IMPOSTORS = [
    ("closes at once", b"", False), ("speaks HTTP", b"HTTP/1.1 200 OK\r\n\r\n", False), ("says SSH-1", b"SSH-1.5-old\r\n", False),
    ("says nothing at all", b"", True), ("sends an endless banner", b"A" * 1_000_000, True),
    ("sends endless banner lines", b"hello\r\n" * 100_000, True), ("sends garbage after its banner", b"SSH-2.0-x\r\n" + os.urandom(5000), True),
    ("claims a packet of 4 GiB", b"SSH-2.0-x\r\n\xff\xff\xff\xff" + b"\0" * 1000, True)]


@pytest.mark.parametrize("what,words,hang", IMPOSTORS, ids=[row[0] for row in IMPOSTORS])
def test_an_impostor_instead_of_sshd_is_an_error_in_bounded_time(new_tunneld, far, what, words, hang):
    impostor = Impostor(words, hang=hang)
    try:
        daemon = new_tunneld(via=far, upstream={"address": [f"127.0.0.1:{impostor.port}"]},
                             ssh={"handshake_timeout": "2s", "connect_timeout": "2s"})
        before = daemon.program.resident_bytes()
        answer = get(daemon, daemon.token())
        assert answer.status_code in (502, 503, 504), what
        assert code_of(answer) in ("TUNNEL_001", "TUNNEL_007", "TUNNEL_008"), what
        assert daemon.program.resident_bytes() - before < 16 * MIB
        assert b"\x1b" not in daemon.program.output().encode()
    finally:
        impostor.close()


# Sessions and channels ----------------------------------------------------------------------------


@pytest.mark.short
def test_more_than_ten_streams_open_further_sessions(new_tunneld, far):
    daemon = new_tunneld(via=far)
    token = daemon.token()

    async def scenario():
        streams = [await stream(daemon, "echo", token) for _ in range(35)]
        for number, ws in enumerate(streams):
            await ws.send(b"%d" % number)
        assert [await ws.recv() for ws in streams] == [b"%d" % n for n in range(35)]
        sessions = far.program.output().count("Accepted publickey")
        for ws in streams:
            await ws.close()
        return sessions

    assert asyncio.run(scenario()) >= 4
    wait_until(lambda: daemon.metric("tunnel_ssh_channels") == 0, 20, "every channel is closed")


def test_a_hanging_target_holds_up_no_other_open(new_tunneld, far, origin):
    """The hole's backlog is full, so a connect to it hangs; a good target opens meanwhile."""
    hole = socket.socket()
    hole.bind(("127.0.0.1", 0))
    hole.listen(0)
    fillers = [socket.socket() for _ in range(4)]
    for filler in fillers:
        filler.setblocking(False)
        filler.connect_ex(hole.getsockname())
    daemon = new_tunneld(via=far, services=[
        {"name": "hole", "target": f"127.0.0.1:{hole.getsockname()[1]}", "allow": ["*"]},
        {"name": "web", "target": f"127.0.0.1:{origin.ports['http']}", "allow": ["*"]}])
    token = daemon.token()
    with RawHttp(daemon.connect()) as waiting:
        waiting.send(request("GET", "/t/hole/", "X-Tunnel-Timeout: 20", token=token))
        for _ in range(5):
            assert get(daemon, token).elapsed.total_seconds() < 10
        assert not waiting.buffer
    for one in [*fillers, hole]:
        one.close()


@pytest.mark.deadline(180)
@pytest.mark.slow
def test_rekeying_in_mid_transfer_changes_no_byte(new_tunneld, new_sshd):
    server = new_sshd(extra=("RekeyLimit 8M",))
    daemon = new_tunneld(via=server)
    token = daemon.token()

    async def scenario():
        async with stream(daemon, "echo", token, subprotocols=[HALF_CLOSE]) as ws:
            async def send():
                for _ in range(100 * MIB // len(BLOCK)):
                    await ws.send(BLOCK)
                await ws.send(b"")

            sending = asyncio.ensure_future(send())
            digest = hashlib.sha256()
            while message := await ws.recv():
                digest.update(message)
            await sending
            return digest.hexdigest()

    assert asyncio.run(scenario()) == stream_digest(100 * MIB)


@pytest.mark.short
def test_forty_streams_opened_and_closed_leave_nothing_behind(new_tunneld, far, origin):
    daemon = new_tunneld(via=far)
    token = daemon.token()

    async def scenario():
        for _ in range(40):
            async with stream(daemon, "echo", token) as ws:
                await ws.send(b"abc")
                assert await receive_bytes(ws, 3) == b"abc"

    asyncio.run(scenario())
    wait_until(lambda: daemon.metric("tunnel_ssh_channels") == 0, 20, "every channel is closed")
    files = daemon.open_files()
    asyncio.run(scenario())
    wait_until(lambda: daemon.open_files() <= files, 20, "no descriptor is left over")
