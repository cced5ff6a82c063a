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
from programs import audit
from programs.agent import Agent, is_alive
from programs.faultproxy import FaultProxy
from programs.loopback import free_port, wait_until
from programs.process import whole_lines
from programs.tunnelctl import (BAD_INPUT, CONFIG, CONFLICT, DENIED, GAVE_UP, OK, UNAVAILABLE, USAGE, Tunnelctl,
                                binary)


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


@pytest.mark.short_client
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


# Several control connections ---------------------------------------------------------------------


def listed(daemon, agent):
    """The agent as its owner sees it; None when it is not connected."""
    mine = json.loads(ask(daemon, daemon.token(), "/api/tunnel/me").body)["agents"]
    return next((one for one in mine if one["agentId"] == agent.name), None)


def has_connections(daemon, agent, count):
    wait_until(lambda: (listed(daemon, agent) or {}).get("connections") == count, 50,
               f"it holds {count} connections:\n{agent.log()}")


def test_it_holds_as_many_connections_as_it_is_told_to(new_tunneld, new_agent, behind):
    daemon = new_tunneld()
    agent = new_agent(daemon, behind, arguments=["--connections", "3"])
    has_connections(daemon, agent, 3)
    assert daemon.metric("tunnel_agents") == 1
    operator = daemon.token("root", "free", scope="tunnel:admin")
    shown = json.loads(daemon.admin("/api/tunnel/agents", token=operator)[1])
    assert [(one["agentId"], one["connections"]) for one in shown["agents"]] == [(agent.name, 3)]
    limits = json.loads(ask(daemon, daemon.token(), "/api/tunnel/me").body)["limits"]["connections"]
    assert limits["open"] == 1, "an agent takes one place, however many connections it holds"
    assert ask(daemon, daemon.token(), "/t/home/hello").status == 200
    assert agent.log().count("session opened") == 1, "one session for one ticket"


@pytest.mark.parametrize("which", [0, 1])
async def test_a_control_connection_that_leads_nowhere_delays_nothing(new_tunneld, new_agent, new_directory, behind,
                                                                     which):
    daemon = new_tunneld(ws={"ping_interval": "5s", "dead_after": "20s"})
    proxy = FaultProxy(new_directory("faultproxy"), daemon.port).start()
    try:
        agent = new_agent(daemon, behind, port=proxy.port, arguments=["--connections", "2"])
        await asyncio.to_thread(has_connections, daemon, agent, 2)
        # Those that fetched tunneld's keys have gone.
        await asyncio.to_thread(wait_until, lambda: proxy.state()["connections"] == 2, 30, "only they are left")
        proxy.vanish(only=which)
        first = daemon.token()
        async with stream(daemon, "wire", first) as before:
            await before.send(b"before")
            assert await receive_bytes(before, 6) == b"before"
            assert (await asyncio.to_thread(listed, daemon, agent))["connections"] == 2, "nobody has noticed yet"
            answer = await asyncio.to_thread(ask, daemon, first, "/t/home/hello")
            assert answer.status == 200, answer
            # When tunneld finds it out, what runs does not notice.
            await asyncio.to_thread(has_connections, daemon, agent, 1)
            await before.send(b"after")
            assert await receive_bytes(before, 5) == b"after"
        assert agent.log().count("session opened") == 1 and "session failed" not in agent.log()
        agent.stop()
    finally:
        proxy.stop()


def test_all_its_connections_come_back_and_give_way_together(new_tunneld, new_agent, behind):
    daemon = new_tunneld()
    agent = new_agent(daemon, behind, arguments=["--connections", "4"])
    has_connections(daemon, agent, 4)
    daemon.program.kill()
    daemon.start()
    has_connections(daemon, agent, 4)
    newer = new_agent(daemon, behind, name=agent.name, home=agent.home)
    assert agent.status() == CONFLICT
    has_connections(daemon, newer, 1)
    assert ask(daemon, daemon.token(), "/t/home/hello").status == 200


def test_one_connection_more_than_the_tier_allows_is_still_one_agent(new_tunneld, new_agent, behind):
    """All of an agent's connections take one place; another agent finds none."""
    daemon = new_tunneld(tiers={"free": {"connections": 1}})
    token = daemon.token("ann", "free")
    agent = new_agent(daemon, behind, token=token, arguments=["--connections", "2"])
    wait_until(lambda: agent.connections() == 2, 30, f"both stand:\n{agent.log()}")
    assert ask(daemon, token, "/t/home/hello").status == 200
    late = new_agent(daemon, behind, token=token, start=False, arguments=["--retry", "1"]).launch()
    assert late.status() == GAVE_UP
    assert "TUNNEL_012" in late.log(), late.log()


# When keys change --------------------------------------------------------------------------------


def forget(agent, *arguments, token=None):
    """tunnelctl agents forget."""
    ctl = Tunnelctl(agent.directory / "ctl", {"TUNNEL_TOKEN": token or agent.daemon.token()})
    return ctl.run("agents", "forget", agent.name, *arguments)


def as_owner(daemon):
    return ("--server", f"wss://127.0.0.1:{daemon.port}", "--ca-file", daemon.certificate)


def set_up_anew(agent):
    """The machine lost its disk, and the agent's keys with it."""
    agent.stop()
    for path in agent.state.iterdir():
        path.unlink()


def test_its_owner_makes_tunneld_forget_the_key_of_a_machine_set_up_anew(new_tunneld, new_agent, behind):
    daemon = new_tunneld()
    agent = new_agent(daemon, behind)
    forget(agent, *as_owner(daemon)).expect(UNAVAILABLE)
    assert "is connected" in forget(agent, *as_owner(daemon)).err
    set_up_anew(agent)
    agent.launch()
    assert agent.status() == DENIED and f"tunnelctl agents forget {agent.name}" in agent.log()
    other = daemon.token("mallory")
    forget(agent, *as_owner(daemon), token=other).expect(BAD_INPUT)
    forget(agent, *as_owner(daemon), token="not.a.token").expect(DENIED)
    agent.launch()
    assert agent.status() == DENIED, "nobody but its owner makes it forgotten"
    assert f"{agent.name} forgotten" in forget(agent, *as_owner(daemon)).expect(OK).out
    agent.launch()
    wait_until(lambda: listed(daemon, agent), 30, f"it is enrolled anew:\n{agent.log()}")
    assert ask(daemon, daemon.token(), "/t/home/hello").status == 200
    [told] = [line for line in audit.lines(daemon.state / "audit") if line["event"] == "agent.forgotten"]
    assert told["agent"] == agent.name and told["by"] == told["principal"] and told["host_key"].startswith("SHA256:")


def test_an_operator_makes_tunneld_forget_it_too(new_tunneld, new_agent, behind):
    daemon = new_tunneld()
    agent = new_agent(daemon, behind)
    root = daemon.token("root", "free", scope="tunnel:admin")
    [shown] = json.loads(daemon.admin("/api/tunnel/agents", token=root)[1])["agents"]
    set_up_anew(agent)
    page = ("--admin-url", daemon.admin_url())
    forget(agent, "--owner", "0123456789abcdef", *page, token=root).expect(BAD_INPUT)
    forget(agent, "--owner", shown["principal"], *page).expect(DENIED)
    forget(agent, "--owner", shown["principal"], *page, token=root).expect(OK)
    agent.launch()
    wait_until(lambda: listed(daemon, agent), 30, f"it is enrolled anew:\n{agent.log()}")


def test_it_follows_tunnelds_new_key_which_the_old_one_signed(new_tunneld, new_agent, behind, sshd):
    daemon = new_tunneld()
    agent, asleep = new_agent(daemon, behind), new_agent(daemon, {"far-too": behind["home"]})
    asleep.stop()
    old = daemon.ssh_key()
    next_key = daemon.command("ssh-key", "--next")
    sshd.authorize(next_key)  # upstreams with an sshd of their own have to know it beforehand
    assert daemon.ssh_key() == old and next_key != old
    assert daemon.command("ssh-key", "--rotate") == next_key
    again = daemon.command("ssh-key", "--rotate")  # once more, while one of the agents is away
    sshd.authorize(again)
    daemon.stop()
    daemon.start()
    agent.says("which the one before has signed", 60)
    assert daemon.ssh_key() == again
    token = daemon.token()
    assert ask(daemon, token, "/t/home/hello").status == 200
    assert ask(daemon, token, "/t/web/hello").status == 200
    asleep.launch()
    wait_until(lambda: listed(daemon, asleep), 30, f"it followed two keys at once:\n{asleep.log()}")
    assert ask(daemon, token, "/t/far-too/hello").status == 200


def test_a_key_of_tunnelds_that_nobody_signed_is_named_by_hand(new_tunneld, new_agent, behind, sshd):
    """Its state was lost."""
    daemon = new_tunneld()
    agent = new_agent(daemon, behind)
    agent.stop()
    daemon.stop()
    for path in daemon.state.glob("ssh_identity*"):
        path.unlink()
    sshd.authorize(daemon.ssh_key())
    daemon.start()
    agent.launch()
    assert agent.status() == DENIED
    line = agent.log().splitlines()[-1]
    named = line.split("--server-key ")[1]
    assert "TUNNEL_015" in line and str(agent.state / "known_servers") in line and line.count("SHA256:") == 3
    agent.arguments = ["--server-key", "SHA256:" + "A" * 43]
    agent.launch()
    assert agent.status() == DENIED
    agent.arguments = ["--server-key", named]
    agent.launch()
    wait_until(lambda: listed(daemon, agent), 30, f"it is trusted:\n{agent.log()}")
    assert "is the one of --server-key from now on" in agent.log()
    agent.stop()
    agent.arguments = []
    agent.launch()
    wait_until(lambda: listed(daemon, agent), 30, f"which is kept:\n{agent.log()}")


# What is said before anything connects -----------------------------------------------------------


@pytest.mark.parametrize("arguments, status, part", [
    (["--sshd", "/nowhere/sshd"], CONFIG, "/nowhere/sshd"),
    (["--service", "Bad=127.0.0.1:1"], USAGE, "name=host:port"),
    (["--service", "home=127.0.0.1:1"], USAGE, "given twice"),
    (["--retry", "sometimes"], USAGE, "--retry"),
    (["--metrics", "0.0.0.0:0"], CONFIG, "loopback"),
    (["--connections", "9"], USAGE, "--connections"),
    (["--service", "x=127.0.0.1"], USAGE, "no port"),
    (["--service", "x=127.0.0.1:0"], USAGE, "1 to 65535"),
    (["--service", "x=:80"], USAGE, "no name and no address"),
    (["--server-key", "SHA256:short"], USAGE, "SHA256: and 43 characters"),
    (["--sshd", "/bin/true"], CONFIG, "no OpenSSH"),
    (["--state-dir", "/proc/agent"], CONFIG, "--state-dir"),
], ids=lambda value: "-".join(value) if isinstance(value, list) else "")
def test_what_makes_no_sense_is_said_at_once(tunneld, new_agent, behind, arguments, status, part):
    agent = new_agent(tunneld, {"home": behind["home"]}, start=False)
    agent.arguments = arguments
    agent.launch()
    assert agent.status(10) == status, agent.log()
    assert part in agent.log()


def last_line(agent):
    """What it says as it ends: one line."""
    return agent.log().splitlines()[-1]


def test_more_services_than_the_tier_allows_are_refused(tunneld, new_agent, behind):
    many = {f"service-{number}": behind["home"] for number in range(6)}
    agent = new_agent(tunneld, many, token=tunneld.token("ann", "free"), start=False).launch()
    assert agent.status() == CONFIG
    assert "TUNNEL_010" in last_line(agent) and "at most 5" in last_line(agent)


def test_an_sshd_that_is_too_old_is_told_with_its_version(tunneld, new_agent, behind):
    agent = new_agent(tunneld, behind, start=False)
    old = agent.directory / "sshd"
    old.write_text("#!/bin/sh\necho 'unknown option -- V'\necho 'OpenSSH_7.2p2, OpenSSL 1.0.2'\nexit 1\n")
    old.chmod(0o755)
    agent.arguments = ["--sshd", old]
    agent.launch()
    assert agent.status() == CONFIG
    assert "is OpenSSH 7.2, and 7.8 or newer is needed" in last_line(agent)


def test_a_machine_without_sshd_says_which_package_to_install(tunneld, new_agent, behind):
    """In a file system of its own where there is none."""
    hide = "mount --bind /dev/null /usr/sbin/sshd && exec setpriv --reuid=%d --regid=%d --clear-groups -- \"$@\""
    agent = new_agent(tunneld, behind, start=False)
    command = ["unshare", "--mount", "sh", "-c", hide % (agent.user.pw_uid, agent.user.pw_gid), "sh", binary(),
               "agent", "--server", f"wss://127.0.0.1:{tunneld.port}", "--id", agent.name, "--token-file",
               agent.token_file, "--ca-file", tunneld.certificate, "--service", "x=127.0.0.1:80"]
    done = subprocess.run(command, env={"HOME": str(agent.home), "PATH": "/usr/bin:/bin"}, capture_output=True,
                          text=True, timeout=30)
    if "unshare" in done.stderr or "mount" in done.stderr:
        pytest.skip(f"no file system of one's own here: {done.stderr}")
    assert done.returncode == UNAVAILABLE, done
    assert "openssh-server" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("file, text, part", [
    ("known_servers", "nonsense\n", "known_servers:1: is damaged"),
    ("host_key", "nonsense\n", "no usable host key"),
    ("host_key", "", "no usable host key"),
])
def test_a_state_file_that_is_damaged_is_named(tunneld, new_agent, behind, file, text, part):
    agent = new_agent(tunneld, behind)
    agent.stop()
    (agent.state / file).write_text(text)
    agent.launch()
    assert agent.status() == CONFIG
    assert part in last_line(agent) and str(agent.state / file) in last_line(agent)


def test_a_state_folder_that_cannot_be_written_is_named(tunneld, new_agent, behind):
    agent = new_agent(tunneld, behind, start=False)
    agent.state.mkdir(parents=True, mode=0o500)
    for path in (agent.state, *list(agent.state.parents)[:4]):
        os.chown(path, agent.user.pw_uid, agent.user.pw_gid)
    agent.launch()
    assert agent.status() == CONFIG
    assert str(agent.state) in last_line(agent) and "--state-dir" in last_line(agent)


def test_a_server_that_is_no_tunneld_is_told_apart(tunneld, new_agent, behind, nginx):
    agent = new_agent(tunneld, behind, start=False)
    agent.server = f"ws://127.0.0.1:{nginx.port}"
    agent.launch()
    assert agent.status() == CONFIG
    assert "is this a tunneld?" in last_line(agent)


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
    records = [json.loads(line) for line in whole_lines(agent.log())]
    attempt = next(record for record in records if record["message"] == "attempt")
    assert attempt["outcome"] == "connected" and attempt["n"] == 1 and attempt["cause"] == "first"
    assert attempt["endpoint"].endswith("/agent") and attempt["timestamp"].endswith("Z")
