"""Links: many streams over one WebSocket that may break, spoken here by hand (docs/api/links.md)."""

import json
import socket
import struct
import threading
import time

import pytest

from callers.http import ask
from callers.link import DATA, GONE, PROTOCOL, Closed, Link, Refused, Reset, Tunnel, link_frame, random_bytes
from callers.operator import Operator
from callers.raw_websocket import RawWebSocket, frame
from programs.loopback import wait_until
from programs.records import Check
from programs.tunneld import is_sanitized

SLOWER = 4 if is_sanitized() else 1


def claims_of(token):
    import base64
    part = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def refused(daemon, token, *fields, path="/ws", protocol=PROTOCOL):
    """(status, code) of an upgrade that is not granted."""
    with pytest.raises(Refused) as caught:
        Link(daemon, token, path=path, protocol=protocol).upgrade(*fields)
    return caught.value.status, caught.value.code


# Streams ------------------------------------------------------------------------------------------


@pytest.mark.short
@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("path", ["/ws", "/tunnel"])
def test_a_stream_carries_bytes_to_a_service_and_back(tunneld, token, tls, path):
    with Tunnel(tunneld, token, tls=tls, path=path) as tunnel:
        assert tunnel.hello["limits"]["streams"] == 1024 and tunnel.hello["heartbeatMs"] == 30000
        assert tunnel.link.window == 60000
        stream = tunnel.to("echo")
        stream.send(b"hello")
        assert stream.read_exactly(5) == b"hello"
        payload = random_bytes(3_000_000)
        got = bytearray()
        for start in range(0, len(payload), 100_000):
            stream.send(payload[start:start + 100_000])
            got += stream.read_exactly(100_000)
        assert got == payload


@pytest.mark.short
def test_what_follows_the_opening_line_belongs_to_the_service(tunneld, token):
    with Tunnel(tunneld, token) as tunnel:
        stream = tunnel.stream().ask("echo", early=b"early bytes", priority="high", correlationId="mine")
        stream.expect_ok()
        assert stream.read_exactly(11) == b"early bytes"


def test_a_half_close_leaves_the_other_direction_open(tunneld, token):
    with Tunnel(tunneld, token) as tunnel:
        stream = tunnel.to("digest")
        stream.send(b"a" * 100_000).end()
        assert len(stream.read_to_end()) > 0, "the digest comes behind the end"


@pytest.mark.short
def test_a_hundred_streams_share_a_link(new_tunneld):
    daemon = new_tunneld(ssh={"max_sessions": 20})
    with Tunnel(daemon, daemon.token()) as tunnel:
        streams = [tunnel.stream().ask("echo") for _ in range(100)]
        for stream in streams:
            stream.expect_ok()
        payloads = [random_bytes(20_000) for _ in streams]
        for stream, payload in zip(streams, payloads):
            stream.send(payload)
        for stream, payload in zip(streams, payloads):
            assert stream.read_exactly(len(payload)) == payload
        for stream in streams:
            stream.end()
            assert stream.read_to_end() == b""


def test_more_streams_than_a_link_may_have_are_reset(new_tunneld):
    daemon = new_tunneld(link={"max_streams": 2})
    with Tunnel(daemon, daemon.token()) as tunnel:
        assert tunnel.hello["limits"]["streams"] == 2
        held = [tunnel.to("echo"), tunnel.to("echo")]
        third = tunnel.stream().ask("echo")
        with pytest.raises(Reset):
            third.expect_ok()
        held[0].send(b"x")
        assert held[0].read_exactly(1) == b"x"


@pytest.mark.short
@pytest.mark.parametrize("service, code", [("carols", "TUNNEL_017"), ("nothere", "TUNNEL_017"), ("dead", "TUNNEL_001"),
                                           ("../etc", "TUNNEL_017"), ("", "TUNNEL_017")])
def test_a_service_that_is_not_to_be_had_is_one_line_and_the_end(tunneld, token, service, code):
    with Tunnel(tunneld, token) as tunnel:
        got, error = tunnel.stream().ask(service, correlationId="my-id").refusal()
        assert got == code and error["correlationId"] in ("my-id",) or code == "TUNNEL_017"
        assert tunnel.to("echo"), "the link goes on"


@pytest.mark.short
@pytest.mark.parametrize("line", [b"", b"nonsense", b"[]", b"{}", b'"web"', b'{"service":1}', b'{"service":null}',
                                  b'{"service":"echo","service":"web"}', b'{"service":"echo","priority":"urgent"}',
                                  b'{"service":"echo","priority":1}', b"{" * 1000, b"\xff\xfe", b"x" * 5000])
def test_an_opening_that_means_nothing_is_refused(tunneld, token, line):
    with Tunnel(tunneld, token) as tunnel:
        stream = tunnel.stream()
        stream.send(line + b"\n")
        assert stream.refusal()[0] == "TUNNEL_010"
        assert tunnel.to("echo")


def test_streams_cost_what_requests_cost(new_tunneld):
    daemon = new_tunneld(tiers={"premium": {"requests_per_minute": 60}})  # ten at once
    token = daemon.token()
    with Tunnel(daemon, token) as tunnel:
        codes = []
        for _ in range(12):
            stream = tunnel.stream().ask("echo")
            answer = stream.read_line()
            codes.append("ok" if "ok" in answer else answer["error"]["code"])
        assert codes[0] == "ok" and codes[-1] == "TUNNEL_005"
        assert codes.count("ok") <= 9 + 1


def test_a_service_that_keeps_failing_is_shut_for_streams_too(new_tunneld):
    daemon = new_tunneld(breaker={"failures": 2})
    with Tunnel(daemon, daemon.token()) as tunnel:
        codes = [tunnel.stream().ask("dead").refusal()[0] for _ in range(3)]
    assert codes[:2] == ["TUNNEL_001"] * 2 and codes[2] == "TUNNEL_014"


def test_a_stream_that_is_broken_off_frees_its_channel(new_tunneld):
    daemon = new_tunneld()
    with Tunnel(daemon, daemon.token()) as tunnel:
        stream = tunnel.to("echo")
        assert daemon.metric("tunnel_ssh_channels") == 1
        stream.break_off()
        wait_until(lambda: daemon.metric("tunnel_ssh_channels") == 0, 10, "the channel is closed")


def test_each_stream_is_logged_and_audited(new_tunneld):
    daemon = new_tunneld()
    with Tunnel(daemon, daemon.token()) as tunnel:
        stream = tunnel.to("echo", correlationId="seen-in-the-log")
        stream.send(b"12345")
        stream.read_exactly(5)
        stream.end()
        stream.read_to_end()

        def lines():
            return [record for record in daemon.log_records()
                    if record.get("correlation_id") == "seen-in-the-log" and record["message"] == "request"]
        wait_until(lambda: lines(), 10, "the stream's line")
        line = json.dumps(lines()[0])
        assert '"link"' in line and '"echo"' in line, line
    daemon.stop()
    audit = [json.loads(line) for path in (daemon.state / "audit").glob("*.jsonl") for line in path.read_text().splitlines()]
    events = [entry.get("event") for entry in audit]
    for event in ("link.opened", "stream.opened", "stream.closed", "link.closed"):
        assert event in events, events


# The upgrade --------------------------------------------------------------------------------------


@pytest.mark.short
def test_who_may_not_open_a_link_gets_an_http_answer(tunneld, token):
    assert refused(tunneld, None) == (401, "TUNNEL_002")
    assert refused(tunneld, token[:-8] + "AAAAAAAA") == (401, "TUNNEL_002")
    assert refused(tunneld, token, "Origin: https://evil.example") == (403, "TUNNEL_011")
    for protocol in ("X-None: 1", "Sec-WebSocket-Protocol: tunnel.raw.v1", "Sec-WebSocket-Protocol: tunnel-agent.v1"):
        assert refused(tunneld, token, protocol=protocol) == (400, "TUNNEL_010")


@pytest.mark.short
def test_a_browser_shows_its_token_as_a_subprotocol(tunneld, token):
    link = Link(tunneld, None, protocol=f"Sec-WebSocket-Protocol: tunnel.v1, bearer.{token}")
    head = link.upgrade()
    assert head.value("Sec-WebSocket-Protocol") == "tunnel.v1"
    link.cut()


def test_a_link_holds_one_place_for_as_long_as_it_lives(new_tunneld):
    daemon = new_tunneld(tiers={"free": {"connections": 1}}, link={"resume_window": "3s"})
    token = daemon.token("ann", "free")
    with Tunnel(daemon, token) as tunnel:
        assert refused(daemon, token) == (429, "TUNNEL_012")
        tunnel.link.cut()
        assert refused(daemon, token) == (429, "TUNNEL_012"), "it can still come back"
        tunnel.link.resume()
        assert tunnel.to("echo"), "and needs no place of its own for that"
        tunnel.link.cut()

        def free_again():
            try:
                Tunnel(daemon, token).greeted().link.cut()
                return True
            except Refused:
                return False
        wait_until(free_again, 20, "the window is over")


# Coming back --------------------------------------------------------------------------------------


@pytest.mark.short
def test_a_download_goes_on_where_it_was_cut(tunneld, token):
    resumed = tunneld.metric("tunnel_sessions_resumed_total", result="ok")
    with Tunnel(tunneld, token) as tunnel:
        stream = tunnel.to("records")
        stream.send(b"11 20000000\n")
        check, cuts = Check(11), 0
        while check.good < 60_000 and not stream.ended:
            tunnel.step()
            check.take(stream.take(len(stream.received)))
            assert check.wrong is None, check.wrong
            if check.good > (cuts + 1) * 9_000 and cuts < 5:
                cuts += 1
                tunnel.link.cut()
                tunnel.link.resume()
        assert cuts == 5
    assert tunneld.metric("tunnel_sessions_resumed_total", result="ok") == resumed + 5


@pytest.mark.short
def test_what_was_written_while_there_was_no_connection_arrives_once(tunneld, token):
    with Tunnel(tunneld, token) as tunnel:
        stream = tunnel.to("echo")
        sent, got = bytearray(), bytearray()
        for round_ in range(5):
            piece = random_bytes(20_000)
            sent += piece
            stream.send(piece[:10_000])
            tunnel.link.cut()
            stream.send(piece[10_000:], lost=True)
            tunnel.link.resume()
            while len(got) < len(sent):
                got += stream.read_exactly(min(4_000, len(sent) - len(got)))
        assert got == sent


@pytest.mark.short
def test_a_new_connection_takes_over_even_if_the_old_one_seems_to_live(tunneld, token):
    with Tunnel(tunneld, token) as tunnel:
        stream = tunnel.to("echo")
        old = tunnel.link.socket
        tunnel.link.resume()
        stream.send(b"over the new one")
        assert stream.read_exactly(16) == b"over the new one"
        assert old.is_closed() or old.read_to_end() is not None
        old.close()


@pytest.mark.short
def test_nobody_else_can_take_a_link_over_and_its_owner_still_can(tunneld, token):
    """The session id alone, and with another one's token, is worth nothing; nor is the right token alone."""
    with Tunnel(tunneld, token) as tunnel:
        stream = tunnel.to("echo")
        field = f"Tunnel-Session: {tunnel.link.session.hex()}"
        mallory = tunneld.token("mallory")
        stolen = refused(tunneld, mallory, field)
        assert stolen == refused(tunneld, mallory, "Tunnel-Session: " + "ab" * 16) == (404, "TUNNEL_010")
        before = tunneld.metric("tunnel_sessions_resumed_total", result="refused")
        thief = Link(tunneld, token)
        thief.session = tunnel.link.session
        with pytest.raises(Closed) as told:
            thief.resume(secret=bytes(32))
        assert told.value.gone
        wait_until(lambda: tunneld.metric("tunnel_sessions_resumed_total", result="refused") == before + 1, 10, "counted")
        stream.send(b"undisturbed")
        assert stream.read_exactly(11) == b"undisturbed"
        tunnel.link.cut()
        with pytest.raises(Closed):
            thief.resume(secret=random_bytes(32))
        tunnel.link.resume()
        stream.send(b"still mine")
        assert stream.read_exactly(10) == b"still mine"


@pytest.mark.short
@pytest.mark.parametrize("session", ["", "x", "00" * 16, "AB" * 16, "ab" * 15, "ab" * 17, "../../etc"])
def test_a_session_that_is_none_is_not_found(tunneld, token, session):
    assert refused(tunneld, token, f"Tunnel-Session: {session}") == (404, "TUNNEL_010")


@pytest.mark.short
@pytest.mark.parametrize("window", ["1s", "0s"])
def test_a_link_that_was_not_resumed_in_time_is_over(new_tunneld, window):
    daemon = new_tunneld(link={"resume_window": window})
    token = daemon.token()
    with Tunnel(daemon, token) as tunnel:
        tunnel.to("echo")
        session = tunnel.link.session.hex()
        assert daemon.metric("tunnel_ssh_channels") == 1
        tunnel.link.cut()
        wait_until(lambda: daemon.metric("tunnel_ssh_channels") == 0, 10, "its streams have ended")
        assert refused(daemon, token, f"Tunnel-Session: {session}") == (404, "TUNNEL_010")
    assert daemon.metric("tunnel_sessions_resumed_total", result="expired") == 1


def test_a_link_that_its_client_ended_is_over_at_once(new_tunneld):
    daemon = new_tunneld()
    token = daemon.token()
    with Tunnel(daemon, token) as tunnel:
        tunnel.to("echo")
        tunnel.link.send_raw(link_frame(GONE))
        assert tunnel.closing().code == 1000
        assert refused(daemon, token, f"Tunnel-Session: {tunnel.link.session.hex()}")[0] == 404
    wait_until(lambda: daemon.metric("tunnel_ssh_channels") == 0, 10, "its streams have ended")


def test_what_is_kept_for_a_replay_is_counted(new_tunneld):
    daemon = new_tunneld(link={"max_buffer": "256KiB"})
    with Tunnel(daemon, daemon.token()) as tunnel:
        stream = tunnel.to("flood")
        stream.send(b"\n")
        wait_until(lambda: daemon.metric("tunnel_resume_buffer_bytes") > 0, 20, "something is kept")
        assert daemon.metric("tunnel_resume_buffer_bytes") <= 2 * 256 * 1024


# Garbage ------------------------------------------------------------------------------------------


GARBAGE = {
    "unknown type": link_frame(9, b"x"),
    "hello again": link_frame(1, bytes(57)),
    "data with a gap": link_frame(DATA, struct.pack(">Q", 1 << 40) + b"x"),
    "data too long": bytes([DATA]) + (8 + 65537).to_bytes(3, "big"),
    "data too short": link_frame(DATA, b"1234"),
    "ack of what was not sent": link_frame(4, struct.pack(">Q", 1 << 40)),
    "welcome": link_frame(2, bytes(60)),
}


@pytest.mark.short
@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_ends_the_link(tunneld, token, garbage):
    with Tunnel(tunneld, token) as tunnel:
        tunnel.to("echo")
        tunnel.link.send_raw(garbage)
        closed = tunnel.closing()
        assert closed.code == 1002 and closed.gone, closed
        assert refused(tunneld, token, f"Tunnel-Session: {tunnel.link.session.hex()}")[0] == 404


@pytest.mark.short
@pytest.mark.parametrize("first", [b"", b"GET / HTTP/1.1\r\n\r\n" * 10, link_frame(DATA, bytes(9)), link_frame(1, b"\x02" + bytes(56))])
def test_who_does_not_say_hello_has_no_link(new_tunneld, first):
    daemon = new_tunneld()
    link = Link(daemon, daemon.token())
    link.upgrade()
    link.challenge()
    if first:
        link.send_raw(first)
        with pytest.raises((Closed, EOFError)):
            while True:
                link.next_frame()
    link.cut()
    wait_until(lambda: daemon.metric("tunnel_active_connections") == 0, 20, "it is gone")


@pytest.mark.short
@pytest.mark.parametrize("bytes_", [b"\x01" * 12, b"\xff" * 12, struct.pack(">BBHII", 0, 0, 1, 2, 0), struct.pack(">BBHII", 0, 0, 1, 3, 1 << 31),
                                    struct.pack(">BBHII", 0, 7, 0, 1, 0)])
def test_bytes_that_are_no_yamux_end_the_link(tunneld, token, bytes_):
    with Tunnel(tunneld, token) as tunnel:
        tunnel.link.write(bytes_)
        assert tunnel.closing().code == 1002


def test_a_text_message_ends_the_link_or_is_bytes(tunneld, token):
    with Tunnel(tunneld, token) as tunnel:
        tunnel.link.socket.send(frame(b"text", opcode=1))
        assert tunnel.closing().code in (1002, 1003)


def test_too_many_control_messages_end_the_link(tunneld, token):
    with Tunnel(tunneld, token) as tunnel:
        for _ in range(50):
            tunnel.tell(type="nothing")
        assert tunnel.closing().code == 1008


@pytest.mark.short
def test_a_control_message_that_means_nothing_is_an_error_and_the_link_goes_on(tunneld, token):
    with Tunnel(tunneld, token) as tunnel:
        for text in (b"nonsense", b'{"type":"resume"}', b"[]", b""):
            tunnel.control.send(text + b"\n")
            assert tunnel.control_message("error")["error"]["code"] == "TUNNEL_010"
        assert tunnel.to("echo")


# Its token ----------------------------------------------------------------------------------------


@pytest.mark.short
def test_a_link_is_warned_of_its_tokens_end_and_then_closed_with_4401(new_tunneld):
    daemon = new_tunneld(auth={"leeway": "0s"})
    token = daemon.token("ann", expires="3s")
    with Tunnel(daemon, token) as tunnel:
        tunnel.control_message("auth.expiring")
        stream = tunnel.to("echo")
        closed = tunnel.closing()
        assert closed.code == 4401 and json.loads(closed.reason)["code"] == "TUNNEL_003"
        assert -0.1 <= time.time() - claims_of(token)["exp"] <= 2 * SLOWER
        assert not stream.ended


@pytest.mark.short
def test_a_fresh_token_keeps_the_link(new_tunneld):
    daemon = new_tunneld(auth={"leeway": "0s"})
    first, second = daemon.token("ann", expires="3s"), daemon.token("ann", expires="10m")
    other = daemon.token("ben", expires="10m")
    with Tunnel(daemon, first) as tunnel:
        stream = tunnel.to("echo")
        tunnel.control_message("auth.expiring")
        tunnel.tell(type="auth.refresh", token=other)
        assert tunnel.control_message("error")["error"]["code"] == "TUNNEL_011"
        tunnel.tell(type="auth.refresh", token=second)
        tunnel.control_message("auth.ok")
        while time.time() < claims_of(first)["exp"] + 1:
            stream.send(b"x" * 100)
            assert stream.read_exactly(100) == b"x" * 100
        assert tunnel.to("echo")


def test_a_newer_token_shown_on_coming_back_keeps_it_too(new_tunneld):
    daemon = new_tunneld(auth={"leeway": "0s"})
    first, second = daemon.token("ann", expires="3s"), daemon.token("ann", expires="10m")
    with Tunnel(daemon, first) as tunnel:
        stream = tunnel.to("echo")
        tunnel.link.cut()
        tunnel.link.resume(token=second)
        while time.time() < claims_of(first)["exp"] + 1:
            stream.send(b"x" * 100)
            assert stream.read_exactly(100) == b"x" * 100


def test_an_expired_token_cannot_resume(new_tunneld):
    daemon = new_tunneld(auth={"leeway": "0s"})
    token = daemon.token("ann", expires="2s")
    with Tunnel(daemon, token) as tunnel:
        tunnel.link.cut()
        wait_until(lambda: ask(daemon, token).status == 401, 10, "it is expired")
        assert refused(daemon, token, f"Tunnel-Session: {tunnel.link.session.hex()}")[0] == 401


@pytest.mark.short
def test_a_revoked_token_ends_its_link(new_tunneld):
    daemon = new_tunneld()
    token = daemon.token("ann")
    with Tunnel(daemon, token) as tunnel:
        tunnel.to("echo")
        Operator.of(daemon).revoke(tokenId=claims_of(token)["jti"], reason="lost").expect(201)
        closed = tunnel.closing()
        assert closed.code == 4401 and json.loads(closed.reason)["code"] == "TUNNEL_002"


def test_an_operator_closes_a_link_for_good(new_tunneld):
    daemon = new_tunneld()
    token = daemon.token("ann")
    operator = Operator.of(daemon)
    with Tunnel(daemon, token) as tunnel:
        tunnel.to("echo")
        [connection] = [one for one in operator.connections() if one["kind"] == "websocket"]
        operator.ask("DELETE", f"/api/tunnel/connections/{connection['id']}").expect(204)
        assert tunnel.closing().code == 1008
        wait_until(lambda: daemon.metric("tunnel_ssh_channels") == 0, 10, "its streams have ended")
        assert refused(daemon, token, f"Tunnel-Session: {tunnel.link.session.hex()}")[0] == 404


# The end ------------------------------------------------------------------------------------------


@pytest.mark.short
@pytest.mark.parametrize("busy", [False, True])
def test_a_drain_is_told_and_ends_links_with_1012(new_tunneld, busy):
    daemon = new_tunneld()
    with Tunnel(daemon, daemon.token()) as tunnel:
        stream = tunnel.to("echo")
        if not busy:
            stream.end()
            stream.read_to_end()
        stopping = threading.Thread(target=daemon.stop)
        stopping.start()
        assert tunnel.control_message("maintenance")["reason"] == "sigterm"
        if busy:
            stream.send(b"still served")
            assert stream.read_exactly(12) == b"still served"
            assert tunnel.stream().ask("echo").refusal()[0] == "TUNNEL_004"
        began = time.monotonic()
        assert tunnel.closing().code == 1012
        assert time.monotonic() - began < 10 * SLOWER
        stopping.join()


def test_a_drain_does_not_wait_for_a_link_that_is_cut(new_tunneld):
    daemon = new_tunneld()
    with Tunnel(daemon, daemon.token()) as tunnel:
        tunnel.to("echo")
        tunnel.link.cut()
        began = time.monotonic()
        daemon.stop()
        assert time.monotonic() - began < 15 * SLOWER


# Agents -------------------------------------------------------------------------------------------


AGENT = "Sec-WebSocket-Protocol: tunnel-agent.v1"


class Agent:
    """An agent's control connection, and its sessions carried to an sshd that listens already."""

    def __init__(self, daemon, token, sshd, *, services, agent_id="office", boot_id=None):
        self.daemon, self.token, self.sshd = daemon, token, sshd
        self.agent_id, self.boot_id = agent_id, boot_id or random_bytes(16).hex()
        self.services = services
        self.sessions = []
        self.socket = RawWebSocket(daemon.connect(tls=False))
        self.head = self.socket.open("/agent", token, AGENT)
        assert self.head.status == 101, self.head
        self.ended = None

    def tell(self, message):
        text = message if isinstance(message, bytes) else json.dumps(message).encode()
        self.socket.send(frame(text, opcode=1))

    def announcement(self, **changes):
        return {"type": "announce", "agentId": self.agent_id, "bootId": self.boot_id, "user": self.sshd.user.pw_name,
                "hostKey": host_key(self.sshd), "services": self.services, **changes}

    def announce(self, **changes):
        self.tell(self.announcement(**changes))
        return self.message("announced")

    def message(self, kind=None):
        """The next message; Closed when there comes none."""
        while True:
            opcode, payload = self.socket.read_frame()
            if opcode == 1:
                message = json.loads(payload)
                assert kind in (None, message["type"]), message
                return message
            if opcode == 8:
                self.socket.send(frame(payload[:2], opcode=8))
                raise Closed(struct.unpack(">H", payload[:2])[0], payload[2:].decode(), None)
            if opcode == 9:
                self.socket.send(frame(payload, opcode=10))

    def serve(self):
        """Answers session.open until the connection ends."""
        def run():
            try:
                while True:
                    message = self.message()
                    if message["type"] == "session.open":
                        self.sessions.append(AgentSession(self, message["ticket"]))
            except (Closed, EOFError, OSError) as why:
                self.ended = why
        threading.Thread(target=run, daemon=True).start()
        return self

    def leave(self):
        try:
            self.socket.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.socket.close()
        for session in self.sessions:
            session.link.send_raw(link_frame(GONE))  # in good order, so that nobody waits for it to come back
            session.far.close()


class AgentSession:
    """One SSH transport: a link on one side, the sshd's port on the other."""

    def __init__(self, agent, ticket):
        self.link = Link(agent.daemon, agent.token, path=f"/agent/session/{ticket}", protocol=AGENT)
        self.far = socket.create_connection(("127.0.0.1", agent.sshd.port))
        self.lock = threading.Lock()
        self.away = False
        self.link.open()
        self.link.path = "/agent/session"
        plain = self.link.send_raw

        def send_raw(payload):
            with self.lock:
                plain(payload)
        self.link.send_raw = send_raw
        self.reader = self.start(self.forth)
        self.start(self.back)

    @staticmethod
    def start(story):
        thread = threading.Thread(target=story, daemon=True)
        thread.start()
        return thread

    def cut_and_resume(self):
        with self.link.books:
            self.away = True
            self.link.cut()
        self.reader.join(20)
        with self.link.books:  # what the service says meanwhile is kept and sent behind the welcome
            self.link.resume()
            self.away = False
        self.reader = self.start(self.forth)

    def forth(self):
        """Until the connection ends; another may follow."""
        try:
            while True:
                self.link.receive()
                self.far.sendall(self.link.incoming)
                self.link.incoming.clear()
        except (Closed, EOFError, OSError, ValueError):
            pass

    def back(self):
        try:
            while piece := self.far.recv(60_000):
                with self.link.books:
                    self.link.write(piece, lost=self.away)
        except OSError:
            pass


def host_key(sshd):
    kind, key = sshd.host_key.with_suffix(".pub").read_text().split()[:2]
    return f"{kind} {key}"


@pytest.fixture
def agents_services(origin):
    ports = origin.ports
    return [{"name": "home-echo", "target": f"127.0.0.1:{ports['tcp_echo']}"},
            {"name": "home-web", "target": f"127.0.0.1:{ports['http']}"}]


@pytest.mark.short
def test_an_agents_services_are_its_principals_alone(new_tunneld, sshd, agents_services):
    daemon = new_tunneld()
    ann, ben = daemon.token("ann"), daemon.token("ben")
    agent = Agent(daemon, ann, sshd, services=agents_services)
    told = agent.announce()
    assert [service["name"] for service in told["services"]] == ["home-echo", "home-web"]
    agent.serve()
    with Tunnel(daemon, ann) as tunnel, Tunnel(daemon, ben) as other:
        stream = tunnel.to("home-echo")
        stream.send(b"x" * 200_000)
        assert stream.read_exactly(200_000) == b"x" * 200_000
        assert other.stream().ask("home-echo").refusal()[0] == "TUNNEL_017"
        assert ask(daemon, ann, "/t/home-web/").status < 500
        me = json.loads(ask(daemon, ann, "/api/tunnel/me").body)
        assert [one["agentId"] for one in me["agents"]] == ["office"]
        assert json.loads(ask(daemon, ben, "/api/tunnel/me").body)["agents"] == []
        listed = Operator.of(daemon).get("/api/tunnel/agents").expect(200).json()
        assert listed["total"] == 1 and "ann" not in json.dumps(listed)
        assert daemon.metric("tunnel_agents") == 1
        agent.leave()
        wait_until(lambda: daemon.metric("tunnel_agents") == 0, 10, "the agent is gone")
        assert tunnel.stream().ask("home-echo").refusal()[0] in ("TUNNEL_017", "TUNNEL_018")
    kinds = Operator.of(daemon).kinds()
    assert "agent.connected" in kinds and "agent.lost" in kinds


@pytest.mark.short
@pytest.mark.parametrize("wrong, code", [(b"nonsense", 1008), (b"[]", 1008), (b'{"type":"announce"}', 1008), (b'{"type":1}', 1008)])
def test_an_agent_that_talks_nonsense_is_closed(tunneld, token, sshd, wrong, code):
    agent = Agent(tunneld, token, sshd, services=[])
    agent.tell(wrong)
    assert agent.message("error")["error"]["code"] == "TUNNEL_010"
    with pytest.raises(Closed) as closed:
        agent.message()
    assert closed.value.code == code


def test_an_agents_message_of_an_unknown_type_is_an_error_alone(tunneld, token, sshd, agents_services):
    agent = Agent(tunneld, token, sshd, services=agents_services, agent_id="curious")
    agent.announce()
    agent.tell({"type": "what"})
    assert agent.message("error")["error"]["code"] == "TUNNEL_010"
    agent.announce()
    agent.leave()


def test_an_agent_with_another_host_key_is_refused(new_tunneld, new_sshd, sshd, agents_services):
    daemon = new_tunneld()
    token = daemon.token("ann")
    first = Agent(daemon, token, sshd, services=agents_services)
    first.announce()
    first.leave()
    second = Agent(daemon, token, new_sshd(), services=agents_services)
    second.tell(second.announcement())
    assert second.message("error")["error"]["code"] == "TUNNEL_015"
    with pytest.raises(Closed) as closed:
        second.message()
    assert closed.value.code == 4403
    other = Agent(daemon, daemon.token("ben"), new_sshd(), services=agents_services)
    other.announce()
    other.leave()


def test_a_newer_boot_supersedes(new_tunneld, sshd, agents_services):
    daemon = new_tunneld()
    token = daemon.token("ann")
    first = Agent(daemon, token, sshd, services=agents_services)
    first.announce()
    second = Agent(daemon, token, sshd, services=agents_services)
    second.announce()
    with pytest.raises(Closed) as closed:
        first.message()
    assert closed.value.code == 4409
    assert daemon.metric("tunnel_sessions_superseded_total") == 1
    assert "agent.superseded" in Operator.of(daemon).kinds()
    assert daemon.metric("tunnel_agents") == 1
    second.leave()


def test_more_services_than_the_tier_allows_are_not_taken(new_tunneld, sshd, origin):
    daemon = new_tunneld(tiers={"free": {"forwards": 2}})
    services = [{"name": f"s{number}", "target": f"127.0.0.1:{origin.ports['tcp_echo']}"} for number in range(3)]
    agent = Agent(daemon, daemon.token("ann", "free"), sshd, services=services)
    agent.tell(agent.announcement())
    message = agent.message()
    assert message["type"] == "error" or message["warnings"], message
    agent.leave()


@pytest.mark.short
def test_a_ticket_that_is_none_is_not_found(tunneld, token):
    for path in ("/agent/session/" + "ab" * 16, "/agent/session/", "/agent/session", "/agent/session/x/y"):
        assert refused(tunneld, token, path=path, protocol=AGENT) == (404, "TUNNEL_010"), path
    assert refused(tunneld, None, path="/agent/session/" + "ab" * 16, protocol=AGENT)[0] == 401
    assert refused(tunneld, token, path="/agent", protocol=PROTOCOL) == (400, "TUNNEL_010")


def test_an_agents_session_survives_a_cut(new_tunneld, sshd, agents_services):
    daemon = new_tunneld()
    ann = daemon.token("ann")
    agent = Agent(daemon, ann, sshd, services=agents_services)
    agent.announce()
    agent.serve()
    with Tunnel(daemon, ann) as tunnel:
        stream = tunnel.to("home-echo")
        stream.send(b"before")
        assert stream.read_exactly(6) == b"before"
        stream.send(b"in between")
        agent.sessions[0].cut_and_resume()
        assert stream.read_exactly(10) == b"in between"
        for _ in range(3):
            agent.sessions[0].cut_and_resume()
            stream.send(b"x" * 50_000)
            assert stream.read_exactly(50_000) == b"x" * 50_000
    assert daemon.metric("tunnel_sessions_resumed_total", result="ok") == 4
    agent.leave()


def test_a_drain_does_not_wait_for_an_agents_session(new_tunneld, sshd, agents_services):
    daemon = new_tunneld()
    ann = daemon.token("ann")
    agent = Agent(daemon, ann, sshd, services=agents_services)
    agent.announce()
    agent.serve()
    assert ask(daemon, ann, "/t/home-web/").status < 500
    assert agent.sessions
    began = time.monotonic()
    daemon.stop()
    assert time.monotonic() - began < 15 * SLOWER
    assert isinstance(agent.ended, Closed) and agent.ended.code == 1012
    agent.leave()
