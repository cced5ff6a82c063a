"""Many agents and links at once: all come, all are cut off in one moment, all come back. `scripts/soak agents` and
`scripts/soak links` do the same with a thousand, and for hours."""

import base64
import concurrent.futures
import hashlib
import json
import os
import socket
import struct

import pytest

from callers.http import ask, code_of, outcome
from callers.link import Tunnel
from callers.operator import Operator
from callers.raw_websocket import RawWebSocket, frame
from programs.agent import Agent
from programs.faultproxy import FaultProxy
from programs.loopback import wait_until

CROWD = 30


def key_of(name):
    """A host key that nobody has the private half of: it is asked for when a session begins, and none does."""
    blob = struct.pack(">I", 11) + b"ssh-ed25519" + struct.pack(">I", 32) + hashlib.sha256(name.encode()).digest()
    return "ssh-ed25519 " + base64.b64encode(blob).decode()


class Played:
    """An agent's control connection, and no more than that."""

    def __init__(self, daemon, token, name):
        self.daemon, self.token, self.name, self.boot = daemon, token, name, os.urandom(16).hex()
        self.socket = None

    def come(self):
        self.socket = RawWebSocket(self.daemon.connect(tls=False, timeout=60))
        head = self.socket.open("/agent", self.token, "Sec-WebSocket-Protocol: tunnel-agent.v1")
        assert head.status == 101, head
        announcement = {"type": "announce", "agentId": self.name, "bootId": self.boot, "user": "nobody", "hostKey": key_of(self.name),
                        "services": [{"name": f"of-{self.name}", "target": "127.0.0.1:9"}]}
        self.socket.send(frame(json.dumps(announcement).encode(), opcode=1))
        opcode, payload = self.socket.read_frame()
        told = json.loads(payload)
        assert opcode == 1 and told["type"] == "announced" and not told["warnings"], payload
        return self

    def cut(self):
        self.socket.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.socket.close()


def all_at_once(actions):
    with concurrent.futures.ThreadPoolExecutor(CROWD) as pool:
        return [done.result() for done in [pool.submit(action) for action in actions]]


@pytest.fixture
def crowd(new_tunneld):
    """(daemon, agents), five of each principal, which have not come yet."""
    daemon = new_tunneld()
    tokens = [daemon.token(f"owner{number}") for number in range(CROWD // 5)]
    return daemon, [Played(daemon, tokens[number % len(tokens)], f"played-{number}") for number in range(CROWD)]


@pytest.mark.short
@pytest.mark.deadline(120)
def test_a_crowd_of_agents_comes_is_cut_off_and_comes_back(crowd):
    daemon, agents = crowd
    before = daemon.open_files()
    all_at_once([agent.come for agent in agents])
    assert daemon.metric("tunnel_agents") == CROWD
    mine = json.loads(ask(daemon, agents[0].token, "/api/tunnel/me").body)["agents"]
    assert {one["agentId"] for one in mine} == {agent.name for agent in agents if agent.token == agents[0].token}
    for _ in range(2):
        for agent in agents:
            agent.cut()
        wait_until(lambda: daemon.metric("tunnel_agents") == 0, 30, "their ends are noticed")
        all_at_once([agent.come for agent in agents])
        assert daemon.metric("tunnel_agents") == CROWD
    listed = Operator.of(daemon).get("/api/tunnel/agents").expect(200).json()
    assert len(listed["agents"]) == CROWD
    for agent in agents:
        agent.cut()
    wait_until(lambda: daemon.metric("tunnel_agents") == 0 and daemon.open_files() <= before + 4, 30, "nothing is left of them")


def test_more_agents_than_are_written_one_by_one_are_known_after_a_restart(new_tunneld):
    daemon = new_tunneld()
    token = daemon.token()
    agents = [Played(daemon, token, f"played-{number}") for number in range(100)]
    all_at_once([agent.come for agent in agents[:CROWD]])
    for agent in agents[CROWD:]:
        agent.come()
    assert (daemon.state / "agents.json.additions").exists()
    daemon.stop()
    daemon.start()
    for agent in agents[:50]:
        agent.come()
    impostor = Played(daemon, token, "played-99")
    impostor.socket = RawWebSocket(daemon.connect(tls=False))
    assert impostor.socket.open("/agent", token, "Sec-WebSocket-Protocol: tunnel-agent.v1").status == 101
    impostor.socket.send(frame(json.dumps({"type": "announce", "agentId": "played-99", "bootId": impostor.boot, "user": "nobody",
                                           "hostKey": key_of("another"), "services": [{"name": "x", "target": "127.0.0.1:9"}]}).encode(), opcode=1))
    assert impostor.socket.read_close_code() == 4403


def test_an_agent_that_is_away_is_not_unknown(new_tunneld):
    daemon = new_tunneld(breaker={"failures": 5})
    agent = Played(daemon, daemon.token(), "played").come()
    agent.cut()
    wait_until(lambda: daemon.metric("tunnel_agents") == 0, 30, "its end is noticed")
    path = f"/t/of-{agent.name}/"
    for _ in range(8):  # more than open a breaker: an agent says itself when it is back
        assert outcome(ask(daemon, agent.token, path)) == (503, "TUNNEL_018")
    other = ask(daemon, daemon.token("mallory"), path)
    assert (other.status, code_of(other)) == (403, "TUNNEL_017"), "and to anybody else there is none"


@pytest.mark.deadline(180)
def test_requests_wait_for_an_agent_whose_connection_is_cut(new_tunneld, new_directory, origin):
    daemon = new_tunneld(queue={"upstream_wait": "20s"})
    token = daemon.token()
    proxy = FaultProxy(new_directory("faultproxy"), daemon.port).start()
    agent = Agent(new_directory("agent"), daemon, token, {"home": origin.ports["http"]}, name="far", port=proxy.port)
    try:
        agent.start()
        assert ask(daemon, token, "/t/home/hello").status == 200
        for by in ("rst", "fin", "rst"):
            proxy.cut(by)
            wait_until(lambda: daemon.metric("tunnel_agents") == 0 or agent.connections() > 1, 30, "the cut is noticed")
            answers = all_at_once([lambda: outcome(ask(daemon, token, "/t/home/hello"))] * 5)
            assert answers == [(200, None)] * 5
            wait_until(lambda: daemon.metric("tunnel_agents") == 1, 30, "it is back")
        agent.stop()
    finally:
        proxy.stop()


@pytest.mark.deadline(120)
def test_a_crowd_of_links_is_cut_off_and_every_stream_goes_on(new_tunneld):
    daemon = new_tunneld()
    tokens = [daemon.token(f"owner{number}") for number in range(5)]

    def begin(token):
        tunnel = Tunnel(daemon, token).greeted()
        return tunnel, tunnel.to("echo")

    tunnels = all_at_once([lambda token=tokens[number % 5]: begin(token) for number in range(20)])
    for round_number in range(3):
        for tunnel, stream in tunnels:
            stream.send(f"before {round_number}\n".encode())
            tunnel.link.cut()

        def go_on(tunnel, stream, wanted):
            tunnel.link.resume()
            stream.send(b"after\n")
            got = stream.read_exactly(len(wanted))
            assert got == wanted, got

        wanted = f"before {round_number}\nafter\n".encode()
        all_at_once([lambda one=one: go_on(*one, wanted) for one in tunnels])
    assert daemon.metric("tunnel_sessions_resumed_total", result="ok") == 60
    for tunnel, _ in tunnels:
        tunnel.link.cut()
