"""Links over networks and beside processes that fail, with the real programs at both ends: tunnelctl connect and
tunnelctl agent with its sshd. They come back by themselves, every byte arrives once and in order or its stream
ends visibly, and tunneld is left as it was. Networks of their own: test_link_networks.py; larger: scripts/soak."""

import contextlib
import hashlib
import hmac
import os
import random
import signal
import socket
import threading
import time

import pytest

from callers import session_starts, transfer
from callers.http import ask
from callers.link import ACK, GONE, HELLO, NO_SESSION, Closed, Link, Refused, Tunnel, link_frame, random_bytes
from callers.operator import Operator
from programs.faultproxy import FaultProxy
from programs.loopback import free_port, wait_until
from programs.records import Check, records
from programs.tunneld import is_sanitized
from programs.tunnelctl import CONFLICT, OK, UNAVAILABLE
from test_agent import behind, new_agent  # noqa: F401
from test_connect import call, new_connect  # noqa: F401
from test_diagnose import answering, by_proxy, head_of, listening, relay  # noqa: F401

MIB = 1 << 20
#: Five seconds are promised (docs/reliability.md); a crowded machine has as much again.
SOON = 10 * (4 if is_sanitized() else 1)


@pytest.fixture
def new_wire(new_directory):
    """Makes fault proxies before a port."""
    made = []

    def make(port):
        made.append(FaultProxy(new_directory("faultproxy"), port).start())
        return made[-1]

    yield make
    for proxy in made:
        proxy.stop()


class Resting:
    """A daemon without callers, as it must be again when they have gone."""

    def __init__(self, daemon):
        self.daemon, self.operator = daemon, Operator.of(daemon)
        self.before = self.look()

    def look(self):
        metrics = {name: self.daemon.metric(f"tunnel_{name}") for name in ("active_connections", "ssh_channels", "agents")}
        return {**metrics, "connections": len(self.operator.connections())}

    def check(self, seconds=60):
        """Within a minute, as is promised (R1.6)."""
        wait_until(lambda: self.look() == self.before, seconds, f"nothing is left of {self.before}: {self.look()}")
        wait_until(lambda: self.daemon.metric("tunnel_resume_buffer_bytes") == 0, seconds, "nothing is kept for a replay")
        assert self.daemon.program.alive()

    @contextlib.contextmanager
    def again(self, spare=12):
        """As before behind what is done here; `spare` descriptors are SSH sessions kept for the next caller."""
        files = self.daemon.open_files()
        yield
        self.check()
        wait_until(lambda: self.daemon.open_files() <= files + spare, 60, f"descriptors are back at {files}")


def token_file_of(daemon, new_directory):
    folder = new_directory("token")
    folder.mkdir()
    (folder / "token").write_text(daemon.token())
    return folder / "token"


def works(daemon, token, path="/t/home/hello"):
    try:
        return ask(daemon, token, path).status == 200
    except (EOFError, OSError):
        return False


def answers(port):
    """Whether the echo service is behind that local port now."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(b"there?")
            connection.shutdown(socket.SHUT_WR)
            return connection.recv(100) == b"there?"
    except OSError:
        return False


# Starts that break (B1) ---------------------------------------------------------------------------


@pytest.mark.deadline(150)
@pytest.mark.parametrize("how", ["rst", "fin"])
@pytest.mark.parametrize("way", ["up", "down"])
def test_a_callers_start_cut_at_any_byte_is_tried_again(new_tunneld, new_wire, new_directory, way, how):
    """Every 97th byte of the first 4,096. Every byte: scripts/soak."""
    daemon = new_tunneld(link={"resume_window": "3s"})
    wire = new_wire(daemon.port)
    token_file = token_file_of(daemon, new_directory)
    with Resting(daemon).again():
        cut = session_starts.sweep(daemon, wire, token_file, range(0, 4097, 97), way=way, how=how)
        print(f"{cut} connections cut")
        assert cut >= 20


@pytest.mark.deadline(150)
@pytest.mark.parametrize("way, how", [("up", "rst"), ("down", "fin")])
def test_an_agents_start_cut_at_any_byte_is_tried_again(new_tunneld, new_wire, new_agent, origin, way, how):
    """Its look for tunneld's keys and its announcement: every 97th byte, eight agents, unattended as under systemd."""
    daemon = new_tunneld(link={"resume_window": "3s"})
    wire = new_wire(daemon.port)
    token = daemon.token()
    resting = Resting(daemon)
    with resting.again():
        wire.rules(**{way: {"cut_after": 0, "cut_step": 97, "cut_by": how}})
        agents = [new_agent(daemon, {f"home-{number}": origin.ports["http"]}, port=wire.port, start=False) for number in range(8)]
        for agent in agents:
            agent.environment = {"INVOCATION_ID": "1"}
            agent.launch()
        for agent in agents:
            agent.says("announced agent=", 60)
        wire.heal()
        for number in range(8):
            assert works(daemon, token, f"/t/home-{number}/hello")
        assert wire.state()["cut"] >= 5
        for agent in agents:
            agent.stop()


@pytest.mark.deadline(150)
@pytest.mark.parametrize("way, how", [("up", "fin"), ("down", "rst")])
def test_an_agents_sessions_cut_at_any_byte_are_errors_and_then_work(new_tunneld, new_wire, new_agent, behind, way, how):
    """Every 293rd byte of the first 4,096 of the connections that carry SSH, resumed ones too."""
    daemon = new_tunneld(link={"resume_window": "3s"})
    wire = new_wire(daemon.port)
    token = daemon.token()
    resting = Resting(daemon)
    with resting.again():
        agent = new_agent(daemon, behind, port=wire.port)
        wire.rules(**{way: {"cut_after": 0, "cut_step": 293, "cut_by": how}}, only_new=True)  # not the control connection
        begun, statuses, body = wire.state()["accepted"], [], os.urandom(4000)
        while wire.state()["accepted"] - begun < 14:
            answer = ask(daemon, token, "/t/home/echo", "X-Tunnel-Timeout: 3", method="POST", body=body)
            statuses.append(answer.status)
            assert answer.status in (502, 503, 504) or answer.status == 200 and answer.body in (body, body[:len(answer.body)])
        wire.heal()
        wait_until(lambda: works(daemon, token), 20, "a clean session serves")
        print(f"{wire.state()['cut']} connections cut, {len(statuses)} requests, {statuses.count(200)} answered")
        assert wire.state()["cut"] >= 10
        agent.stop()
        wait_until(lambda: not agent.sshds(), 10, "no sshd is left")


@pytest.mark.deadline(120)
@pytest.mark.parametrize("way, at", [("down", 100), ("up", 800)], ids=["within TLS", "within the upgrade"])
def test_a_first_start_that_is_cut_is_tried_again_while_a_person_waits(new_tunneld, new_wire, new_connect, new_agent, behind, way, at):
    daemon = new_tunneld()
    wire = new_wire(daemon.port)
    port = free_port()
    wire.rules(**{way: {"cut_after": at, "cut_step": 10 * MIB}})
    connect = new_connect(daemon, "-L", f"{port}:echo", port=wire.port).says("connected to")
    assert "attempt n=2" in connect.err and "cause=broken" in connect.err and connect.stop() == OK
    wire.rules(**{way: {"cut_after": at, "cut_step": 10 * MIB}})
    agent = new_agent(daemon, behind, port=wire.port, start=False).launch()
    agent.says("announced agent=")


# Transfers through cuts (I1) ----------------------------------------------------------------------


@pytest.mark.deadline(200)
def test_megabytes_both_ways_survive_cuts_of_both_legs(new_tunneld, new_wire, new_connect, new_agent, origin):
    """From a caller through tunneld to a service behind an agent: 64 MiB up and 64 MiB down, SHA-256."""
    daemon = new_tunneld()
    callers_leg, agents_leg = new_wire(daemon.port), new_wire(daemon.port)
    new_agent(daemon, {"sink": origin.ports["tcp_digest"], "well": origin.ports["tcp_source"]}, port=agents_leg.port)
    up, down = free_port(), free_port()
    connect = new_connect(daemon, "-L", f"{up}:sink", "-L", f"{down}:well", "--retry", "forever", port=callers_leg.port)
    connect.says("connected to")
    seed = int.from_bytes(os.urandom(4), "big")
    # Of three cuts one is the caller's, who waits longer each time before he tries again.
    made = transfer.both_ways(up, down, 64 * MIB, legs=[callers_leg, agents_leg, agents_leg], cuts=20, seed=seed)
    assert made == 20
    assert connect.stop() == OK


# Damage (B5) --------------------------------------------------------------------------------------


@pytest.mark.deadline(120)
def test_a_byte_damaged_on_the_callers_leg_is_noticed_and_sent_again(new_tunneld, new_wire, new_connect):
    """TLS finds it, the connection is over, and the link goes on with the next."""
    daemon = new_tunneld()
    wire = new_wire(daemon.port)
    port = free_port()
    connect = new_connect(daemon, "-L", f"{port}:records", "--retry", "forever", port=wire.port).says("connected to")
    check = Check(5)
    with call(port, timeout=60) as connection:
        connection.sendall(b"5 200000\n")
        while check.good < 200_000:
            if check.good > 1000 and wire.state()["rules"]["down"]["corrupt_at"] is None and connect.err.count("resumed") == 0:
                wire.rules(down={"corrupt_at": 1_500_000})
            part = connection.recv(1 << 16)
            assert part, f"it ended after {check.good} records"
            check.take(part)
            assert check.wrong is None, check.wrong
    connect.says("outcome=resumed")
    assert connect.stop() == OK


@pytest.mark.deadline(120)
@pytest.mark.parametrize("way", ["up", "down"])
def test_a_byte_damaged_where_there_is_no_tls_never_reaches_anybody(new_tunneld, new_wire, new_agent, origin, way):
    """The agent's leg without TLS: SSH finds it. The stream ends, short and visibly, or goes on whole."""
    daemon = new_tunneld()
    wire = new_wire(daemon.plain_port)
    token, count, hurt = daemon.token(), 20_000, 0
    agent = new_agent(daemon, {"home": origin.ports["http"], "far-echo": origin.ports["tcp_echo"]}, start=False)
    agent.server = f"ws://127.0.0.1:{wire.port}"
    agent.start()
    with Tunnel(daemon, token) as tunnel:
        for damaged_at in (9_000, 60_001, 200_003):
            assert works(daemon, token)
            stream, check, data = tunnel.to("far-echo"), Check(damaged_at), records(damaged_at, count)
            wire.rules(**{way: {"corrupt_at": damaged_at}})
            wire.cut()  # offsets count from a connection's begin
            while check.good < count and not stream.ended and not stream.reset:
                if data and stream.may_send >= 16_000:
                    stream.send(data[:16_000])
                    data = data[16_000:]
                    continue
                tunnel.step()
                check.take(stream.take(len(stream.received)))
                assert check.wrong is None, check.wrong
            print(f"damaged at {damaged_at}: {check.good} records, {'reset' if stream.reset else 'ended' if stream.ended else 'whole'}")
            assert check.good == count or stream.reset, "an end in good order says that all is there"
            hurt += stream.reset
            wire.heal()
            wait_until(lambda: daemon.metric("tunnel_agents") == 1 and works(daemon, token), 30, "it serves again")
    assert hurt >= 2, "the damage was done"


# Killed (B6, B7) ----------------------------------------------------------------------------------


@pytest.mark.deadline(150)
@pytest.mark.parametrize("away", [0, 5])
def test_both_are_back_soon_after_tunneld_was_killed(new_tunneld, new_connect, new_agent, origin, away):
    daemon = new_tunneld()
    token = daemon.token()
    agent = new_agent(daemon, {"far-echo": origin.ports["tcp_echo"], "home": origin.ports["http"]}, token=token)
    near, far = free_port(), free_port()
    connect = new_connect(daemon, "-L", f"{near}:echo", "-L", f"{far}:far-echo", "--retry", "forever").says("connected to")
    with call(near) as first, call(far) as second:
        for old in (first, second):
            old.sendall(b"before")
            assert old.recv(100) == b"before"
        daemon.program.kill()
        threading.Event().wait(away)  # the outage itself is this long
        daemon.launch()
        wait_until(daemon.is_ready, 30, "the daemon is back")
        began = time.monotonic()
        for old in (first, second):
            with pytest.raises(ConnectionResetError):
                assert old.recv(100) == b"", "bytes from nowhere"
                raise AssertionError("a broken stream ended in good order")
    wait_until(lambda: answers(near), SOON, "new streams pass")
    wait_until(lambda: works(daemon, token), SOON, "the agent's services are there")
    print(f"back {time.monotonic() - began:.2f} s after it listened")
    wait_until(lambda: answers(far), SOON, "and by way of the caller's link")
    assert connect.process.poll() is None and agent.program.alive()


@pytest.mark.deadline(120)
def test_an_agent_that_was_killed_leaves_nothing_and_its_successor_serves(new_tunneld, new_agent, new_wire, behind):
    """Also where tunneld cannot know of its end, because the network swallowed that."""
    daemon = new_tunneld()
    token = daemon.token()
    wire = new_wire(daemon.port)
    resting = Resting(daemon)
    with resting.again():
        first = new_agent(daemon, behind, port=wire.port)
        assert works(daemon, token)
        first.program.send(signal.SIGKILL)
        first.program.wait(10)
        wait_until(lambda: resting.look()["agents"] == 0, 20, "tunneld has noticed")
        second = new_agent(daemon, behind, port=wire.port, name=first.name, home=first.home)
        wait_until(lambda: works(daemon, token), 20, "the next one serves")
        wire.vanish()
        second.program.send(signal.SIGKILL)
        second.program.wait(10)
        assert resting.look()["agents"] == 1, "tunneld believes that it lives"
        third = new_agent(daemon, behind, name=first.name, home=first.home)
        wait_until(lambda: works(daemon, token), SOON, "its successor serves")
        assert daemon.metric("tunnel_sessions_superseded_total") == 1 and resting.look()["agents"] == 1
        third.stop()


@pytest.mark.deadline(120)
def test_of_two_agents_with_one_name_the_older_one_ends_and_says_why(new_tunneld, new_agent, behind):
    daemon = new_tunneld()
    token = daemon.token()
    older = new_agent(daemon, behind, arguments=["--retry", "forever"])
    assert works(daemon, token)
    sshds = older.sshds()
    newer = new_agent(daemon, behind, name=older.name, home=older.home, arguments=["--retry", "forever"])
    assert older.status() == CONFLICT
    assert f"another agent with the id {older.name} runs" in older.log() and older.log().count("superseded") <= 1
    assert sshds and works(daemon, token)
    assert newer.connections() > 0 and newer.program.alive(), "they do not take turns"


# Stopped (B8, B9) ---------------------------------------------------------------------------------


def sleep_through(programs, seconds):
    for pid in programs:
        os.kill(pid, signal.SIGSTOP)
    threading.Event().wait(seconds)  # the fault itself is this long
    for pid in programs:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.deadline(120)
@pytest.mark.parametrize("window, resumed", [("60s", True), ("1s", False)])
def test_a_laptop_that_slept_is_back_soon(new_tunneld, new_connect, new_agent, origin, window, resumed):
    """Asleep for longer than tunneld waits for a sign of life: as it was, or begun anew, never half."""
    daemon = new_tunneld(ws={"ping_interval": "1s", "dead_after": "2s"}, link={"resume_window": window})
    token = daemon.token()
    agent = new_agent(daemon, {"far-echo": origin.ports["tcp_echo"], "home": origin.ports["http"]}, token=token)
    port = free_port()
    connect = new_connect(daemon, "-L", f"{port}:far-echo", "--retry", "forever").says("connected to")
    with call(port) as connection:
        connection.sendall(b"before")
        assert connection.recv(100) == b"before"
        sleep_through([connect.process.pid, agent.program.pid, *agent.sshds()], 5)
        began = time.monotonic()
        if resumed:
            connection.sendall(b"behind")
            assert connection.recv(100) == b"behind"
        else:
            with pytest.raises(ConnectionResetError):
                assert connection.recv(100) == b"", "bytes from nowhere"
                raise AssertionError("a broken stream ended in good order")
    wait_until(lambda: works(daemon, token) and answers(port), SOON, f"both serve again:\n{connect.err}\n{agent.log()}")
    print(f"back {time.monotonic() - began:.2f} s after it woke")
    assert connect.process.poll() is None and agent.program.alive()


@pytest.mark.deadline(120)
def test_a_tunneld_that_was_stopped_goes_on_with_its_links(new_tunneld, new_connect, new_agent, origin):
    daemon = new_tunneld(ws={"ping_interval": "1s", "dead_after": "2s"})
    token = daemon.token()
    agent = new_agent(daemon, {"far-echo": origin.ports["tcp_echo"], "home": origin.ports["http"]}, token=token)
    port = free_port()
    connect = new_connect(daemon, "-L", f"{port}:far-echo", "--retry", "forever").says("connected to")
    with call(port) as connection:
        for seconds in (1, 4):
            connection.sendall(b"before")
            assert connection.recv(100) == b"before"
            sleep_through([daemon.program.pid], seconds)
            connection.sendall(b"behind")
            assert connection.recv(100) == b"behind"
    wait_until(lambda: works(daemon, token), SOON, "the agent serves")
    assert connect.process.poll() is None and agent.program.alive()


@pytest.mark.deadline(120)
def test_an_agent_that_is_away_for_a_while_loses_no_ssh_session(new_tunneld, new_agent, new_wire, new_connect, origin):
    """Within the window, however impatient tunneld is with upstreams that nothing brings back."""
    daemon = new_tunneld(ssh={"keepalive": "1s", "keepalive_reply": "500ms", "keepalive_misses": 2})
    wire = new_wire(daemon.port)
    new_agent(daemon, {"far-echo": origin.ports["tcp_echo"]}, port=wire.port)
    port = free_port()
    new_connect(daemon, "-L", f"{port}:far-echo").says("connected to")
    with call(port) as connection:
        connection.sendall(b"before")
        assert connection.recv(100) == b"before"
        wire.rules(accept="refuse")
        wire.cut()
        connection.sendall(b"meanwhile")
        threading.Event().wait(5)  # the outage itself is this long
        wire.heal()
        assert connection.recv(100) == b"meanwhile"


# Silence (B2): without namespaces, as the fault proxy makes it ------------------------------------


@pytest.mark.slow
@pytest.mark.deadline(150)
def test_silence_is_noticed_by_both_with_the_heartbeat_as_it_is_delivered(new_tunneld, new_connect, new_agent, new_wire, behind):
    daemon = new_tunneld()
    token = daemon.token()
    wire = new_wire(daemon.port)
    port = free_port()
    agent = new_agent(daemon, behind, port=wire.port)
    connect = new_connect(daemon, "-L", f"{port}:echo", "--retry", "forever", port=wire.port).says("connected to")
    with call(port) as connection:
        connection.sendall(b"before")
        assert connection.recv(100) == b"before"
        announced = agent.connections()
        wire.rules(both={"blackhole": True})
        began = time.monotonic()
        connect.says("reconnecting", 60)
        wait_until(lambda: "disconnected" in agent.log(), 60, "the agent notices too")
        print(f"noticed after {time.monotonic() - began:.1f} s")
        wire.heal()
        wire.cut()  # attempts that began in the silence
        began = time.monotonic()
        wait_until(lambda: agent.connections() > announced, SOON, "the agent is back")
        connect.says("outcome=resumed", SOON)
        connection.sendall(b"behind")
        assert connection.recv(100) == b"behind"
        print(f"back after {time.monotonic() - began:.1f} s")
    assert works(daemon, token)


@pytest.mark.slow
@pytest.mark.deadline(200)
def test_who_vanishes_without_a_word_is_forgotten_within_a_minute(new_tunneld, new_connect, new_agent, new_wire, origin):
    """With heartbeat and window as they are delivered, which end together: a window of its own would be a minute more."""
    daemon = new_tunneld()
    wire = new_wire(daemon.port)
    resting = Resting(daemon)
    agent = new_agent(daemon, {"far-echo": origin.ports["tcp_echo"]}, port=wire.port)
    near, far = free_port(), free_port()
    gone = new_connect(daemon, "-L", f"{near}:echo", port=wire.port).says("connected to")
    healthy = new_connect(daemon, "-L", f"{far}:far-echo").says("connected to")
    with call(near) as lost, call(far, timeout=90) as waiting:
        for one in (lost, waiting):
            one.sendall(b"before")
            assert one.recv(100) == b"before"
        wire.vanish()
        began = time.monotonic()
        gone.kill()
        agent.program.send(signal.SIGKILL)
        agent.program.wait(10)
        with pytest.raises(ConnectionResetError):
            assert waiting.recv(100) == b"", "bytes from nowhere"
            raise AssertionError("a broken stream ended in good order")
        print(f"the agent's stream ended after {time.monotonic() - began:.1f} s")
    assert healthy.stop() == OK
    wait_until(lambda: resting.look() == resting.before, 30, f"nothing is left: {resting.look()}")
    print(f"all forgotten after {time.monotonic() - began:.1f} s")


# What stands between (B22) ------------------------------------------------------------------------


def gives_up(new_connect, daemon, server, *, environment=None):
    """What `connect` says when it does not try again."""
    connect = new_connect(daemon, "-L", f"{free_port()}:echo", server=server, environment=environment, ca=None)
    assert connect.end() == UNAVAILABLE, connect.err
    return connect.err


def agent_gives_up(new_agent, daemon, behind, server, *, environment=None):
    agent = new_agent(daemon, behind, start=False)
    agent.server, agent.environment = server, environment or {}
    agent.launch()
    assert agent.status() != 0
    return agent.log()


def middlebox(daemon, upgrades):
    """Passes plain requests on; `upgrades` are answered with that status, or passed on without their Upgrade (None)."""
    def serve(connection):
        while True:
            head = head_of(connection).decode()
            lines = head.split("\r\n")
            if "websocket" in head and upgrades is not None:
                connection.sendall(f"HTTP/1.1 {upgrades}\r\nVia: 1.1 box\r\nContent-Length: 0\r\n\r\n".encode())
                continue
            kept = [line for line in lines if line.split(":")[0].lower() not in ("upgrade", "connection")]
            kept[1:1] = ["Connection: close"]
            with socket.create_connection(("127.0.0.1", daemon.plain_port)) as far:
                far.sendall("\r\n".join(kept).encode())
                while part := far.recv(1 << 16):
                    connection.sendall(part)
            return
    return serve


@pytest.mark.parametrize("upgrades, cause", [("400 Bad Request", "upgrade_stripped"), ("200 OK", "upgrade_stripped"), (None, "upgrade_stripped")],
                         ids=["refused", "ignored", "stripped"])
def test_a_middlebox_that_lets_no_upgrade_through_is_named(tunneld, new_connect, new_agent, behind, listening, upgrades, cause):
    box = listening(middlebox(tunneld, upgrades))
    assert cause in gives_up(new_connect, tunneld, f"ws://127.0.0.1:{box.port}")
    assert cause in agent_gives_up(new_agent, tunneld, behind, f"ws://127.0.0.1:{box.port}")


def test_a_proxy_that_wants_a_password_is_named(tunneld, new_connect, new_agent, behind, listening):
    proxy = listening(answering("407 Proxy Authentication Required", 'Proxy-Authenticate: Basic realm="x"'))
    told = gives_up(new_connect, tunneld, "wss://tunnel.test", environment=by_proxy(proxy))
    assert "proxy_authentication" in told and "HTTPS_PROXY" in told
    told = agent_gives_up(new_agent, tunneld, behind, "wss://tunnel.test", environment=by_proxy(proxy))
    assert "proxy" in told.lower(), told


def test_a_sign_in_page_of_the_network_is_named(tunneld, new_connect, new_agent, behind, listening):
    portal = listening(answering("302 Found", "Location: http://login.hotel.test/"))
    told = gives_up(new_connect, tunneld, f"ws://127.0.0.1:{portal.port}")
    assert "captive_portal" in told and "sign in" in told
    told = agent_gives_up(new_agent, tunneld, behind, f"ws://127.0.0.1:{portal.port}")
    assert "302" in told, told


def test_an_answer_with_a_header_of_a_mebibyte_is_no_tunneld(tunneld, new_connect, new_agent, behind, listening):
    huge = listening(answering("101 Switching Protocols", "X-A: " + "y" * MIB))
    assert "not_http" in gives_up(new_connect, tunneld, f"ws://127.0.0.1:{huge.port}")
    assert agent_gives_up(new_agent, tunneld, behind, f"ws://127.0.0.1:{huge.port}")


def test_a_box_that_cuts_idle_connections_costs_a_pause_and_no_stream(new_tunneld, new_connect, listening):
    """It waits for two seconds; a heartbeat that is quicker would not meet it at all."""
    daemon = new_tunneld()

    def serve(connection):
        with socket.create_connection(("127.0.0.1", daemon.port)) as far:
            for one in (connection, far):
                one.settimeout(2)
            relay(connection, far)

    box = listening(serve)
    port = free_port()
    connect = new_connect(daemon, "-L", f"{port}:echo", "--retry", "forever", port=box.port).says("connected to")
    with call(port) as connection:
        for resumed in (1, 2):
            wait_until(lambda resumed=resumed: connect.err.count("outcome=resumed") >= resumed, 20, "it was cut, and is back")
            connection.sendall(b"still there")
            assert connection.recv(100) == b"still there"
    assert connect.err.count("outcome=connected") == 1


# Thieves (C7) -------------------------------------------------------------------------------------


class Thief:
    """Tries to take over the link of `tunnel`; must never get a WELCOME."""

    def __init__(self, daemon, tunnel):
        self.daemon = daemon
        self.session, self.secret, self.wanted = tunnel.link.session, tunnel.link.secret, tunnel.link.received
        self.tried = 0

    def tries(self, token, *, named=None, raw=None, **hello):
        """An upgrade that names the session, and a HELLO; `raw` is sent in its place."""
        self.tried += 1
        link = Link(self.daemon, token)
        try:
            link.upgrade(f"Tunnel-Session: {(named or self.session).hex()}")
        except Refused as refused:
            assert (refused.status, refused.code) == (404, "TUNNEL_010")
            return "not found"
        nonce = link.challenge()
        if raw is not None:
            link.send_raw(raw(nonce) if callable(raw) else raw)
        else:
            link.session = hello.pop("session", self.session)
            link.hello(nonce, **{"secret": self.secret, "received": self.wanted, **hello})
        with pytest.raises(Closed) as told:
            link.session = self.session
            link.welcome()
        assert told.value.gone, "it is told GONE"
        return "gone"


def proof_with(thief, change):
    """A HELLO by whoever knows the secret, with `change` of its bytes."""
    def hello(nonce):
        offset = thief.wanted.to_bytes(8, "big")
        body = bytearray(b"\x01" + thief.session + offset
                         + hmac.new(thief.secret, nonce + thief.session + offset, hashlib.sha256).digest())
        return link_frame(HELLO, bytes(change(body)))
    return hello


@pytest.mark.short
@pytest.mark.deadline(120)
def test_of_a_hundred_thieves_none_takes_a_link_over(new_tunneld):
    daemon = new_tunneld()
    token, mallory = daemon.token("alice"), daemon.token("mallory")
    draw = random.Random(7)
    with Tunnel(daemon, token) as tunnel, Tunnel(daemon, token) as other:
        stream = tunnel.to("echo")
        stream.send(b"x" * 50_000)
        assert stream.read_exactly(50_000) == b"x" * 50_000
        old_secret, recorded = tunnel.link.secret, []
        plain = tunnel.link.send_raw
        tunnel.link.send_raw = lambda payload: (recorded.append(payload), plain(payload))
        for _ in range(2):  # so that the secret of two welcomes ago is worth nothing, and there is a HELLO to replay
            tunnel.link.cut()
            tunnel.link.resume()
        [*_, replayed] = [one for one in recorded if one[0] == HELLO]
        tunnel.link.send_raw = plain
        resumed = daemon.metric("tunnel_sessions_resumed_total", result="ok")
        thief = Thief(daemon, tunnel)
        refusals = {"not found": 0, "gone": 0}

        def tries(*arguments, **how):
            refusals[thief.tries(*arguments, **how)] += 1

        for _ in range(10):
            tries(mallory)  # with the right secret, and another's token
            tries(mallory, named=other.link.session)
            tries(token, named=random_bytes(16))
            tries(token, secret=random_bytes(32))
            tries(token, secret=bytes(32))
            tries(token, secret=old_secret)
            tries(token, secret=other.link.secret)
            tries(token, raw=replayed)
        for place in draw.sample(range(1, 57), 30):  # session id, offset and proof with one bit changed
            bit = draw.randrange(8)

            def change(body, place=place, bit=bit):
                body[place] ^= 1 << bit
                return body
            tries(token, raw=proof_with(thief, change))
        tries(token, session=NO_SESSION)  # a new link by way of an old one
        tries(token, session=other.link.session, secret=other.link.secret)
        tries(token, named=other.link.session)
        tries(token, raw=link_frame(ACK, bytes(8)))
        tries(token, raw=link_frame(GONE))
        print(f"{thief.tried} attempts: {refusals}")
        assert thief.tried >= 100 and daemon.metric("tunnel_sessions_resumed_total", result="ok") == resumed
        # Acknowledgements that go back take nothing away, and give nothing twice.
        for wanted in (0, 1, tunnel.link.received // 2):
            tunnel.link.send_raw(link_frame(ACK, wanted.to_bytes(8, "big")))
        stream.send(b"still mine")
        assert stream.read_exactly(10) == b"still mine"
        tunnel.link.cut()
        tunnel.link.resume()
        stream.send(b"and again")
        assert stream.read_exactly(9) == b"and again"
        # Whoever has the secret and asks for what never was, or is no longer kept, ends it.
        for far in (other, tunnel):
            far.link.cut()
            owner = Thief(daemon, far)
            owner.wanted = far.link.received + 1_000_000 if far is other else 0
            assert owner.tries(token) == "gone"
            assert owner.tries(token) == "not found", "it is over"
