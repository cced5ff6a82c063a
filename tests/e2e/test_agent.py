"""tunnelctl agent: services that no open port leads to, reached through tunneld."""

import asyncio
import json
import os
import signal
import subprocess
import urllib.request

import pytest

from callers.http import ask, ask_on, code_of
from callers.raw_http import RawHttp
from callers.websocket import receive_bytes, stream
from programs.agent import Agent, is_alive
from programs.faultproxy import FaultProxy
from programs.loopback import free_port, wait_until
from programs.tunnelctl import CONFIG, CONFLICT, DENIED, GAVE_UP, USAGE


@pytest.fixture
def new_agent(new_directory):
    """Starts an agent for a daemon; `start=False` only prepares it."""
    made = []

    def make(daemon, services, *, token=None, start=True, name=None, **options):
        # A name is bound to a host key, and the daemon may be shared.
        name = name or f"agent-{os.urandom(4).hex()}"
        agent = Agent(new_directory("agent"), daemon, token or daemon.token(), services, name=name, **options)
        made.append(agent)
        return agent.start() if start else agent

    yield make
    failures = []
    for agent in made:
        try:
            agent.stop()
        except AssertionError as failure:
            failures.append(str(failure))
    assert not failures, "\n".join(failures)


@pytest.fixture
def behind(origin):
    """What stands behind the agent, by names that no upstream of the configuration has."""
    return {"home": origin.ports["http"], "wire": origin.ports["tcp_echo"], "source-far": origin.ports["tcp_source"],
            "void": free_port()}


# What it is for ----------------------------------------------------------------------------------


@pytest.mark.short
def test_a_request_reaches_a_service_behind_the_agent(tunneld, new_agent, behind, token):
    agent = new_agent(tunneld, behind)
    answer = ask(tunneld, token, "/t/home/hello")
    assert answer.status == 200, answer
    with RawHttp(tunneld.connect()) as connection:
        for _ in range(20):
            assert ask_on(connection, token, "/t/home/hello").body == answer.body
    assert 1 <= agent.log().count("session opened") <= 10, "sessions are used again"


async def test_a_stream_reaches_a_service_behind_the_agent(tunneld, new_agent, behind, token):
    new_agent(tunneld, behind)
    async with stream(tunneld, "wire", token) as ws:
        for size in (1, 1000, 200_000):
            data = os.urandom(size)
            await ws.send(data)
            assert await receive_bytes(ws, size) == data


def test_a_service_nobody_listens_on_is_the_services_fault(tunneld, new_agent, behind, token):
    new_agent(tunneld, behind)
    answer = ask(tunneld, token, "/t/void/hello")
    assert answer.status in (502, 503), answer


def test_somebody_else_does_not_see_the_service(tunneld, new_agent, behind):
    new_agent(tunneld, behind, token=tunneld.token("alice"))
    assert ask(tunneld, tunneld.token("alice"), "/t/home/hello").status == 200
    other = tunneld.token("mallory")
    theirs, nobodys = ask(tunneld, other, "/t/home/hello"), ask(tunneld, other, "/t/nobodys/hello")
    assert (theirs.status, code_of(theirs)) == (nobodys.status, code_of(nobodys)) == (403, "TUNNEL_017")


def test_its_sshd_lets_nothing_else_through(tunneld, new_agent, behind, token, origin):
    """Only what was announced: the key of tunneld, restricted to these targets."""
    agent = new_agent(tunneld, {"home": behind["home"]})
    assert ask(tunneld, token, "/t/home/hello").status == 200
    config = (agent.state / "sshd_config").read_text()
    assert f"PermitOpen 127.0.0.1:{behind['home']}\n" in config
    keys = (agent.state / "authorized_keys").read_text()
    assert keys.startswith("restrict,port-forwarding,permitopen=") and keys.count("\n") == 1
    assert tunneld.ssh_key().split()[1] in keys
    for path in agent.state.iterdir():
        assert path.stat().st_mode & 0o077 == 0, f"{path} is open to others"


# Whom it lets in and whom it goes to -------------------------------------------------------------


def test_a_wrong_token_ends_it(tunneld, new_agent, behind):
    agent = new_agent(tunneld, behind, token="not.a.token", start=False).launch()
    assert agent.status() == DENIED
    assert "TUNNEL_002" in agent.log() and agent.log().count("\n") <= 3, agent.log()


def test_a_tunneld_with_another_key_is_not_trusted(new_tunneld, new_agent, behind):
    daemon = new_tunneld()
    agent = new_agent(daemon, behind)
    agent.stop()
    pins = agent.state / "known_servers"
    key = subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", agent.directory / "other"], check=True)
    assert key.returncode == 0
    origin = pins.read_text().split()[0]
    pins.write_text(f"{origin} " + (agent.directory / "other.pub").read_text())
    agent.launch()
    assert agent.status() == DENIED
    assert "TUNNEL_015" in agent.log() and str(pins) in agent.log()


def test_another_host_key_under_the_same_name_is_refused(tunneld, new_agent, behind):
    enrolled = new_agent(tunneld, behind)
    enrolled.stop()
    impostor = new_agent(tunneld, behind, name=enrolled.name, start=False).launch()  # a state folder of its own
    assert impostor.status() == DENIED
    assert "TUNNEL_015" in impostor.log()


def test_a_newer_one_of_the_same_name_takes_its_place(tunneld, new_agent, behind, token):
    first = new_agent(tunneld, behind)
    second = new_agent(tunneld, behind, name=first.name, home=first.home)
    assert first.status() == CONFLICT
    assert f"another agent with the id {first.name} runs" in first.log()
    assert ask(tunneld, token, "/t/home/hello").status == 200
    assert second.program.alive()


# What is said before anything connects -----------------------------------------------------------


@pytest.mark.parametrize("arguments, status, part", [
    (["--sshd", "/nowhere/sshd"], CONFIG, "/nowhere/sshd"),
    (["--service", "Bad=127.0.0.1:1"], USAGE, "name=host:port"),
    (["--service", "home=127.0.0.1:1"], USAGE, "given twice"),
    (["--retry", "sometimes"], USAGE, "--retry"),
    (["--metrics", "0.0.0.0:0"], CONFIG, "loopback"),
    (["--connections", "9"], USAGE, "--connections"),
], ids=lambda value: "-".join(value) if isinstance(value, list) else "")
def test_what_makes_no_sense_is_said_at_once(tunneld, new_agent, behind, arguments, status, part):
    agent = new_agent(tunneld, {"home": behind["home"]}, start=False)
    agent.arguments = arguments
    agent.launch()
    assert agent.status(10) == status, agent.log()
    assert part in agent.log()


def test_a_server_that_is_not_there_is_given_up(tunneld, new_agent, behind):
    agent = new_agent(tunneld, behind, arguments=["--retry", "2"], start=False)
    agent.port = free_port()
    agent.launch()
    assert agent.status(30) == GAVE_UP
    assert agent.log().count("agent: attempt ") == 2 and "gave up" in agent.log()


# What breaks -------------------------------------------------------------------------------------


def test_killed_it_leaves_no_sshd_behind(tunneld, new_agent, behind, token):
    agent = new_agent(tunneld, behind)
    assert ask(tunneld, token, "/t/home/hello").status == 200
    sshds = agent.sshds()
    assert sshds
    os.kill(agent.program.pid, signal.SIGKILL)
    agent.program.wait(10)
    wait_until(lambda: not any(map(is_alive, sshds)), 10, "its sshds are gone")


def test_it_comes_back_when_tunneld_was_restarted(new_tunneld, new_agent, behind):
    daemon = new_tunneld()
    token = daemon.token()
    agent = new_agent(daemon, behind, token=token)
    assert ask(daemon, token, "/t/home/hello").status == 200
    before = agent.connections()
    daemon.stop()
    daemon.start()
    wait_until(lambda: agent.connections() > before, 30, "the agent is back")
    assert ask(daemon, token, "/t/home/hello").status == 200
    assert agent.program.alive()


def test_it_comes_back_after_tunneld_was_killed(new_tunneld, new_agent, behind):
    daemon = new_tunneld()
    token = daemon.token()
    agent = new_agent(daemon, behind, token=token, arguments=["--retry", "forever"])
    assert ask(daemon, token, "/t/home/hello").status == 200
    before = agent.connections()
    left = agent.sshds()
    daemon.program.kill()
    daemon.start()
    wait_until(lambda: agent.connections() > before, 30, "the agent is back")
    assert ask(daemon, token, "/t/home/hello").status == 200
    wait_until(lambda: not any(map(is_alive, left)), 30, "the session that nobody resumes is over")


async def test_a_stream_survives_cuts_between_the_agent_and_tunneld(tunneld, new_agent, new_directory, behind, token):
    proxy = FaultProxy(new_directory("faultproxy"), tunneld.port).start()
    try:
        agent = new_agent(tunneld, behind, port=proxy.port)
        async with stream(tunneld, "wire", token) as ws:
            for number, by in enumerate(("rst", "fin", "rst")):
                data = os.urandom(3_000_000)
                sending = asyncio.create_task(send_all(ws, data))
                first = await receive_bytes_at_least(ws, 100_000)
                proxy.cut(by)
                rest = await receive_bytes_at_least(ws, len(data) - len(first))
                await sending
                assert first + rest == data, f"cut {number} lost or repeated bytes"
        assert agent.log().count("outcome=resumed") >= 3
        agent.stop()
    finally:
        proxy.stop()


async def send_all(websocket, data):
    for at in range(0, len(data), 65536):
        await websocket.send(data[at:at + 65536])


async def receive_bytes_at_least(websocket, count):
    received = bytearray()
    while len(received) < count:
        received += await websocket.recv()
    return bytes(received)


def test_stopped_and_continued_it_goes_on(tunneld, new_agent, behind, token):
    agent = new_agent(tunneld, behind)
    assert ask(tunneld, token, "/t/home/hello").status == 200
    agent.program.send(signal.SIGSTOP)
    agent.program.send(signal.SIGCONT)
    assert ask(tunneld, token, "/t/home/hello").status == 200


async def test_stopped_in_the_middle_of_a_stream_it_lets_it_finish(tunneld, new_agent, behind, token):
    agent = new_agent(tunneld, behind)
    async with stream(tunneld, "wire", token) as ws:
        await ws.send(b"before")
        assert await receive_bytes(ws, 6) == b"before"
        agent.program.send(signal.SIGTERM)
        await ws.send(b"after")
        assert await receive_bytes(ws, 5) == b"after"
    assert await asyncio.to_thread(agent.status, 20) == 0


# How it is watched -------------------------------------------------------------------------------


def test_metrics_say_what_it_did(tunneld, new_agent, behind, token):
    port = free_port()
    agent = new_agent(tunneld, behind, arguments=["--metrics", f"127.0.0.1:{port}"])
    assert ask(tunneld, token, "/t/home/hello").status == 200
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    values = {line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
              for line in text.splitlines() if not line.startswith("#")}
    assert values["tunnel_agent_connected"] == 1 and values["tunnel_agent_connections_total"] == 1
    assert values['tunnel_agent_sessions_total{result="opened"}'] >= 1
    assert values['tunnel_agent_session_bytes_total{direction="in"}'] > 0
    assert agent.program.alive()


def test_its_log_is_json_when_asked_for(tunneld, new_agent, behind):
    agent = new_agent(tunneld, behind, arguments=["--output", "json"], start=False).launch()
    wait_until(lambda: '"announced"' in agent.log(), 20, "it is announced")
    records = [json.loads(line) for line in agent.log().splitlines()]
    attempt = next(record for record in records if record["message"] == "attempt")
    assert attempt["outcome"] == "connected" and attempt["n"] == 1 and attempt["cause"] == "first"
    assert attempt["endpoint"].endswith("/agent") and attempt["timestamp"].endswith("Z")
