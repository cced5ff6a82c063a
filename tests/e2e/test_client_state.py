"""How `tunnelctl connect` and `tunnelctl agent` are seen while they run, and told when to come back."""

import json
import os
import re
import signal
import socket
import stat
import subprocess
import threading

import pytest

from callers.websocket import receive_bytes, stream
from programs.loopback import accepts, free_port, wait_until
from programs.tunnelctl import FAILED, GAVE_UP, INTERRUPTED, OK, UNAVAILABLE, Tunnelctl, binary
from test_agent import behind, new_agent  # noqa: F401
from test_connect import call, echo, faultproxy, new_connect  # noqa: F401
from test_tunnelctl_tunnel import Terminal


@pytest.fixture
def runtime(new_directory):
    """A user's $XDG_RUNTIME_DIR."""
    folder = new_directory("runtime")
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def ctl(new_directory, runtime):
    return Tunnelctl(new_directory("tunnelctl"), {"XDG_RUNTIME_DIR": str(runtime)})


def clients(ctl, status=None):
    done = ctl.run("status", "--clients", "--output", "json")
    if status is not None:
        done.expect(status)
    return done.json()["clients"]


def files(runtime):
    folder = runtime / "tunnelctl"
    return sorted(folder.iterdir()) if folder.exists() else []


class Notified:
    """What systemd has at the other end of $NOTIFY_SOCKET. It reads at once, for the kernel keeps only a few."""

    def __init__(self, directory):
        directory.mkdir()
        self.path = directory / "socket"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(self.path))
        os.chmod(directory, 0o755)
        os.chmod(self.path, 0o666)
        self.told = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        while told := self.socket.recv(4096):  # an empty one is close()'s
            self.told.append(told.decode())

    def until(self, part, seconds=30):
        wait_until(lambda: any(part in each for each in self.told), seconds, f"somebody says {part!r}: {self.told}")

    def close(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.sendto(b"", str(self.path))
        self.reader.join(10)
        self.socket.close()


@pytest.fixture
def systemd(new_directory):
    notified = Notified(new_directory("notify"))
    yield notified
    notified.close()


# The state ------------------------------------------------------------------------------------------


@pytest.mark.short_client
def test_connect_is_shown_while_it_runs(tunneld, new_connect, ctl, runtime, faultproxy):
    assert clients(ctl, FAILED) == []
    port = free_port()
    connect = new_connect(tunneld, "-L", f"{port}:echo", port=faultproxy.port,
                          environment={"XDG_RUNTIME_DIR": str(runtime)}).says("connected to")
    [state] = clients(ctl, OK)
    assert (state["kind"], state["state"], state["pid"]) == ("connect", "connected", connect.process.pid)
    assert state["serves"] == [f"127.0.0.1:{port} -> echo"]
    assert state["server"] == f"wss://127.0.0.1:{faultproxy.port}"
    assert (state["attempts"], state["reconnects"]) == (1, 0)
    assert re.fullmatch("[0-9a-f]{32}", state["sessionId"])
    assert any("attempt 1 (first" in event["what"] for event in state["events"])
    [file] = files(runtime)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600 and stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    faultproxy.cut("rst")
    wait_until(lambda: clients(ctl)[0]["reconnects"] == 1, 30, "the cut is seen")
    text = file.read_text()
    assert connect.token not in text and "TUNNEL_TOKEN" not in text
    assert echo(port, b"x" * 10_000) == b"x" * 10_000
    wait_until(lambda: clients(ctl)[0]["bytes"]["in"] >= 10_000, 20, "its bytes are seen")
    shown = ctl.run("status", "--clients").expect(OK).out
    assert f"connect to wss://127.0.0.1:{faultproxy.port} (pid {connect.process.pid}): connected" in shown
    assert connect.stop() == OK
    assert files(runtime) == []
    assert clients(ctl, FAILED) == []


def test_its_quality_is_known_after_some_pings(tunneld, new_connect, ctl, runtime):
    new_connect(tunneld, "-L", f"{free_port()}:echo",
                environment={"XDG_RUNTIME_DIR": str(runtime)}).says("connected to")
    wait_until(lambda: "quality" in clients(ctl)[0], 45, "a ping is answered")
    quality = clients(ctl)[0]["quality"]
    assert quality["band"] in ("excellent", "good", "fair", "poor")
    assert 0 < quality["p50Ms"] <= quality["p95Ms"]
    assert 0 <= quality["missedPongRatio"] <= 1
    assert "quality     " in ctl.run("status", "--clients").out


def test_where_no_tunneld_runs_the_clients_are_what_status_is_about(tunneld, new_connect, ctl, runtime):
    if accepts(9090):
        pytest.skip("something listens where a tunneld of this machine would")
    ctl.run("status").expect(UNAVAILABLE)
    connect = new_connect(tunneld, "-L", f"{free_port()}:echo",
                          environment={"XDG_RUNTIME_DIR": str(runtime)}).says("connected to")
    assert f"(pid {connect.process.pid}): connected" in ctl.run("status").expect(OK).out
    ctl.run("status", "--admin-url", f"http://127.0.0.1:{free_port()}").expect(UNAVAILABLE)
    beside = ctl.with_environment(TUNNEL_ADMIN_URL=tunneld.admin_url())
    told = beside.run("status", "--interval", "0", "--output", "json").expect(OK).json()
    assert told["serving"] and told["clients"][0]["pid"] == connect.process.pid


@pytest.mark.short_client
def test_what_a_killed_one_left_is_removed(tunneld, new_connect, ctl, runtime):
    connect = new_connect(tunneld, "-L", f"{free_port()}:echo",
                          environment={"XDG_RUNTIME_DIR": str(runtime)}).says("connected to")
    connect.process.kill()
    connect.process.wait(10)
    assert len(files(runtime)) == 1
    assert clients(ctl, FAILED) == []
    assert files(runtime) == []


def test_one_that_is_away_says_why(tunneld, new_connect, ctl, runtime):
    new_connect(tunneld, "-L", f"{free_port()}:echo", "--retry", "forever", port=free_port(),
                environment={"XDG_RUNTIME_DIR": str(runtime)}).says("attempt n=1")
    [state] = clients(ctl, FAILED)
    assert state["state"] == "connecting"
    wait_until(lambda: clients(ctl)[0]["attempts"] >= 2, 30, "it tries again")
    assert "connection refused" in clients(ctl)[0]["events"][-1]["what"].lower()


def test_a_folder_that_others_can_read_is_not_used_and_hinders_nobody(tunneld, new_connect, runtime):
    (runtime / "tunnelctl").mkdir(mode=0o755)
    connect = new_connect(tunneld, "-L", f"{free_port()}:echo",
                          environment={"XDG_RUNTIME_DIR": str(runtime)}).says("connected to")
    assert files(runtime) == []
    assert connect.stop() == OK


def test_changes_are_shown_as_they_happen(new_tunneld, new_connect, ctl, runtime):
    daemon = new_tunneld()
    watch = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", "--", str(binary()), "status", "--clients", "--watch", "--output", "json"],
        env={**os.environ, "HOME": str(ctl.directory), "XDG_RUNTIME_DIR": str(runtime)}, stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL)
    seen = []
    reader = threading.Thread(target=lambda: seen.extend(
        [client["state"] for client in json.loads(line)["clients"]] for line in iter(watch.stdout.readline, b"")),
        daemon=True)
    reader.start()
    try:
        connect = new_connect(daemon, "-L", f"{free_port()}:echo", "--retry", "forever",
                              environment={"XDG_RUNTIME_DIR": str(runtime)})
        wait_until(lambda: ["connected"] in seen, 30, f"it is connected: {seen}")
        daemon.program.kill()
        wait_until(lambda: ["reconnecting"] in seen, 30, f"it is cut: {seen}")
        daemon.launch()
        wait_until(lambda: seen[-1] == ["connected"], 60, f"it is back: {seen}")
        connect.stop()
        wait_until(lambda: seen[-1] == [], 30, f"it has ended: {seen}")
        watch.send_signal(signal.SIGINT)
        assert watch.wait(20) == INTERRUPTED
    finally:
        watch.kill()
        watch.wait(10)
        reader.join(10)
        watch.stdout.close()


@pytest.mark.parametrize("keys, status", [(b"q", OK), (b"\x03", INTERRUPTED)])
def test_on_a_terminal_they_are_watched_in_place(tunneld, new_connect, ctl, runtime, keys, status):
    new_connect(tunneld, "-L", f"{free_port()}:echo", environment={"XDG_RUNTIME_DIR": str(runtime)}).says("connected to")
    terminal = Terminal(ctl, "status", "--clients", "--watch")
    terminal.wait_for(b"connect to wss://")
    terminal.wait_for(b"\x1b[J")
    terminal.press(keys)
    assert terminal.end() == status


def test_an_agent_is_shown_too(tunneld, new_agent, behind, ctl):
    agent = new_agent(tunneld, behind, start=False)
    agent.environment["XDG_RUNTIME_DIR"] = str(agent.home)
    agent.start()
    [file] = files(agent.home)
    state = json.loads(file.read_text())
    assert (state["kind"], state["id"], state["state"]) == ("agent", agent.name, "connected")
    assert f"home=127.0.0.1:{behind['home']}" in state["serves"]
    assert not any(secret in file.read_text() for secret in agent.secrets)
    seen = ctl.with_environment(XDG_RUNTIME_DIR=str(agent.home)).run("status", "--clients", "--output", "json")
    # Another user's are not shown, whatever the environment says.
    ids = [client.get("id") for client in seen.json()["clients"]]
    assert (agent.name in ids) == (os.geteuid() == agent.user.pw_uid)
    agent.stop()
    assert files(agent.home) == []


# systemd --------------------------------------------------------------------------------------------


@pytest.mark.short_client
def test_systemd_hears_of_connect(tunneld, new_connect, faultproxy, systemd):
    connect = new_connect(tunneld, "-L", f"{free_port()}:echo", port=faultproxy.port,
                          environment={"NOTIFY_SOCKET": str(systemd.path), "WATCHDOG_USEC": "200000"})
    systemd.until("READY=1\nSTATUS=connected: ")
    assert any(each.startswith("STATUS=connecting: ") for each in systemd.told)
    systemd.until("WATCHDOG=1")
    faultproxy.cut("rst")
    systemd.until("STATUS=reconnecting: ")
    connect.says("connected again")
    assert connect.stop() == OK
    systemd.until("STOPPING=1")
    assert sum("READY=1" in each for each in systemd.told) == 1


def test_systemd_hears_of_the_agent_when_tunneld_has_its_services(tunneld, new_agent, behind, systemd):
    agent = new_agent(tunneld, behind, start=False)
    agent.environment["NOTIFY_SOCKET"] = str(systemd.path)
    agent.start()
    systemd.until("READY=1\nSTATUS=connected: ")
    agent.stop()
    systemd.until("STOPPING=1")


def test_a_proxy_command_is_not_the_service_it_was_started_from(tunneld, new_connect, systemd):
    connect = new_connect(tunneld, "--stdio", "digest", stdin=subprocess.PIPE,
                          environment={"NOTIFY_SOCKET": str(systemd.path)})
    connect.process.stdin.write(b"hello")
    connect.process.stdin.close()
    assert connect.process.stdout.read().startswith(b"5 ")
    assert connect.end() == OK
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as later:
        later.sendto(b"what came before has been read", str(systemd.path))
    systemd.until("has been read")
    assert len(systemd.told) == 1


# Coming back, and giving up -------------------------------------------------------------------------


def test_a_server_that_restarts_says_when_to_come_back(new_tunneld, new_connect, ctl, runtime):
    daemon = new_tunneld()
    connect = new_connect(daemon, "-L", f"{free_port()}:echo", "--retry", "forever",
                          environment={"XDG_RUNTIME_DIR": str(runtime)}).says("connected to")
    daemon.stop()
    connect.says("the server restarts (close code 1012, TUNNEL_004)")
    daemon.start()
    wait_until(lambda: connect.err.count("connected to") >= 2, 60, "it is back")
    delay = int(re.search(r"delay_ms=(\d+) [^\n]*cause=restart", connect.err)[1])
    assert delay >= 1000, "the reason of the Close has retryAfterMs 1000"
    [state] = clients(ctl, OK)
    assert any("close code 1012, TUNNEL_004" in event["what"] for event in state["events"])


@pytest.mark.short_client
def test_giving_up_has_a_code_and_a_page(tunneld, new_connect, ctl, systemd):
    connect = new_connect(tunneld, "-L", f"{free_port()}:echo", "--retry", "2", port=free_port(),
                          environment={"NOTIFY_SOCKET": str(systemd.path)})
    assert connect.end() == GAVE_UP
    assert "tunnelctl: TUNNEL_019: gave up after 2 attempts in a row: " in connect.err
    systemd.until("STATUS=error: TUNNEL_019: gave up")
    page = ctl.run("explain", "tunnel_019").expect(OK).out
    assert page.startswith("# TUNNEL_019: ") and "--retry forever" in page


def test_an_agent_that_gives_up_says_the_same(tunneld, new_agent, behind):
    agent = new_agent(tunneld, behind, arguments=["--retry", "1"], start=False)
    agent.port = free_port()
    agent.launch()
    assert agent.status(30) == GAVE_UP
    assert "TUNNEL_019: gave up after 1 attempt: " in agent.log()


# The end --------------------------------------------------------------------------------------------


async def test_an_agents_end_is_told_while_sessions_move(tunneld, new_agent, behind, token):
    agent = new_agent(tunneld, behind)
    async with stream(tunneld, "wire", token) as ws:
        await ws.send(b"before")
        assert await receive_bytes(ws, 6) == b"before"
        agent.program.send(signal.SIGTERM)
        agent.says("stopping sessions=1 left_s=10")
        await ws.send(b"after")
        assert await receive_bytes(ws, 5) == b"after"
        agent.program.send(signal.SIGINT)  # and now at once
        assert agent.status(20) == INTERRUPTED


def test_a_state_file_does_not_survive_a_second_signal_for_long(tunneld, new_connect, ctl, runtime):
    port = free_port()
    connect = new_connect(tunneld, "-L", f"{port}:echo",
                          environment={"XDG_RUNTIME_DIR": str(runtime)}).says("connected to")
    with call(port) as connection:
        connection.sendall(b"x")
        assert connection.recv(1) == b"x"
        connect.process.send_signal(signal.SIGTERM)
        connect.says("stopping: 1 stream left, 10 s")
        assert connect.stop(signal.SIGTERM) == INTERRUPTED
    assert clients(ctl, FAILED) == []
    assert files(runtime) == []
