"""Links over networks of their own (namespaces): silence, slowness, cables that are pulled and addresses that change.
tunneld, its upstream and its services are one machine, tunnelctl is another, and a router stands between."""

import contextlib
import os
import threading
import time

import pytest

from callers.http import ask
from programs import network
from programs.agent import Agent
from programs.loopback import free_port, wait_until
from programs.network import Network
from programs.services import services_of
from programs.tunneld import is_sanitized
from programs.tunnelctl import OK
from test_connect import Connect, call
from test_diagnose import certificate_for  # noqa: F401
from test_link_faults import answers

#: Five seconds are promised (docs/reliability.md); a crowded machine has as much again.
SOON = 10 * (4 if is_sanitized() else 1)


@pytest.fixture(scope="session")
def namespaces():
    if why := network.why_not():
        pytest.skip(why)


class Lab:
    """The three machines and what runs on them."""

    def __init__(self, new_directory, new_tunneld, new_sshd, new_origin, certificate):
        self.network = Network(new_directory("network"))
        self.new_directory, self.make_tunneld, self.certificate = new_directory, new_tunneld, certificate
        self.new_origin, self.new_sshd = new_origin, new_sshd
        self.daemon, self.clients = None, []

    def tunneld(self, **configuration):
        with self.on_server():
            origin, sshd = self.new_origin(), self.new_sshd()
            daemon = self.daemon = self.make_tunneld(via=sshd, services=services_of(origin), start=False, tls={
                "certificate_file": str(self.certificate), "key_file": str(self.certificate.with_suffix(".key"))}, **configuration)
            daemon.configuration["listen"] = [f"{Network.SERVER}:{daemon.port}"]
            daemon.certificate = self.certificate
            daemon.write_config()
            daemon.start()
        self.token = daemon.token()
        return daemon

    def on_server(self):
        return self.network.server.entered()

    def on_client(self):
        return self.network.client.entered()

    @property
    def url(self):
        return f"wss://{Network.SERVER}:{self.daemon.port}"

    def connect(self, *arguments):
        with self.on_client():
            made = Connect(self.new_directory("connect"), [*arguments, "--retry", "forever"], server=self.url,
                           token=self.token, ca=self.certificate)
        self.clients.append(made)
        return made

    def agent(self, services):
        agent = Agent(self.new_directory("agent"), self.daemon, self.token, services, name=f"agent-{os.urandom(4).hex()}",
                      arguments=["--retry", "forever"])
        agent.server = self.url
        with self.on_client():
            agent.start()
        self.clients.append(agent.program)
        return agent

    def metric(self, name):
        with self.on_server():
            return self.daemon.metric(name)

    def end(self):
        self.network.pass_again()
        for one in self.clients:
            one.kill()
        if self.daemon:
            with self.on_server():
                self.daemon.stop()
        self.network.end()


@pytest.fixture
def lab(namespaces, new_directory, new_tunneld, new_sshd, new_origin, certificate_for):  # noqa: F811
    made = Lab(new_directory, new_tunneld, new_sshd, new_origin, certificate_for(Network.SERVER)[1])
    yield made
    made.end()


@contextlib.contextmanager
def a_stream(lab, port):
    """Through that port of the client's, to the echo service."""
    with lab.on_client():
        connection = call(port)
    with connection:
        yield connection


def says_back(connection, text, seconds=30):
    connection.settimeout(seconds)
    connection.sendall(text)
    got = b""
    while len(got) < len(text):
        part = connection.recv(len(text) - len(got))
        assert part, "it ended"
        got += part
    assert got == text


# Silence (B2) -------------------------------------------------------------------------------------


@pytest.mark.deadline(120)
@pytest.mark.parametrize("ways", [("up", "down"), ("up",), ("down",)], ids=["both ways", "up", "down"])
def test_a_network_that_swallows_everything_costs_a_pause_and_no_byte(lab, ways):
    """tunneld gives a silent connection up and keeps the link; when the network is back, it goes on at once."""
    lab.tunneld(ws={"ping_interval": "1s", "dead_after": "2s"})
    port = free_port()
    connect = lab.connect("-L", f"{port}:echo").says("connected to")
    with a_stream(lab, port) as connection:
        says_back(connection, b"before")
        lab.network.swallow(*ways)
        connection.sendall(b"meanwhile")
        wait_until(lambda: lab.metric("tunnel_heartbeat_timeouts_total") >= 1, 30, "tunneld notices")
        assert lab.metric("tunnel_ssh_channels") == 1, "the stream may yet come back"
        lab.network.pass_again()
        began = time.monotonic()
        connection.settimeout(SOON)
        assert connection.recv(100) == b"meanwhile"
        print(f"back {time.monotonic() - began:.2f} s after the network was")
        says_back(connection, b"behind")
    connect.says("outcome=resumed")
    assert connect.stop() == OK


@pytest.mark.deadline(120)
def test_who_stays_silent_is_forgotten_and_begins_anew(lab):
    lab.tunneld(ws={"ping_interval": "1s", "dead_after": "2s"}, link={"resume_window": "2s"})
    port = free_port()
    connect = lab.connect("-L", f"{port}:echo").says("connected to")
    with a_stream(lab, port) as connection:
        says_back(connection, b"before")
        lab.network.swallow("up", "down")
        connection.sendall(b"meanwhile")
        wait_until(lambda: lab.metric("tunnel_ssh_channels") == 0 and lab.metric("tunnel_active_connections") == 0, 60,
                   "nothing of it is left")
        lab.network.pass_again()
        began = time.monotonic()
        with pytest.raises(ConnectionResetError):
            connection.settimeout(SOON)
            assert connection.recv(100) == b"", "bytes from nowhere"
            raise AssertionError("a broken stream ended in good order")

    def served():
        with lab.on_client():
            return answers(port)
    wait_until(served, SOON, f"new streams pass:\n{connect.err}")
    print(f"back {time.monotonic() - began:.2f} s after the network was")
    assert connect.stop() == OK


# Slowness (B3) ------------------------------------------------------------------------------------


@pytest.mark.deadline(120)
def test_a_slow_line_only_slows(lab):
    """64 kbit/s up and down, by a token bucket of the kernel."""
    lab.tunneld()
    for link in ("near", "far"):
        lab.network.router.run("tc", "qdisc", "add", "dev", link, "root", "tbf", "rate", "64kbit", "burst", "4kb", "latency", "2s")
    port = free_port()
    connect = lab.connect("-L", f"{port}:echo").says("connected to", 40)
    payload = os.urandom(24_000)
    with a_stream(lab, port) as connection:
        for at in range(0, len(payload), 6_000):
            says_back(connection, payload[at:at + 6_000], 60)
    assert connect.err.count("attempt n=") == 1, "and breaks nothing"
    assert connect.stop() == OK


# Cables and addresses (B4, B20) -------------------------------------------------------------------


@pytest.mark.deadline(120)
def test_another_address_is_noticed_and_used(lab):
    lab.tunneld()
    port = free_port()
    connect = lab.connect("-L", f"{port}:echo").says("connected to")
    with a_stream(lab, port) as connection:
        says_back(connection, b"before")
        for address in (Network.OTHER, Network.CLIENT):
            seen = connect.err.count("outcome=resumed")
            lab.network.move_client(address)
            began = time.monotonic()
            says_back(connection, b"behind", SOON)
            print(f"back after {time.monotonic() - began:.2f} s")
            wait_until(lambda seen=seen: connect.err.count("outcome=resumed") > seen, 10, "it says so")
    assert "no longer has the address" in connect.err
    assert connect.stop() == OK


@pytest.mark.deadline(120)
def test_an_agent_with_another_address_serves_again(lab):
    daemon = lab.tunneld()
    with lab.on_client():
        origin = lab.new_origin()
    agent = lab.agent({"home": origin.ports["http"]})

    def served():
        with lab.on_server(), contextlib.suppress(OSError, EOFError):
            return ask(daemon, lab.token, "/t/home/hello", "X-Tunnel-Timeout: 2").status == 200
        return False
    wait_until(served, 20, "it serves")
    lab.network.move_client(Network.OTHER)
    began = time.monotonic()
    wait_until(served, SOON, f"it serves again:\n{agent.log()}")
    assert "address lost" in agent.log()
    print(f"back after {time.monotonic() - began:.2f} s")


@pytest.mark.deadline(120)
def test_a_network_that_is_back_is_tried_at_once_however_long_the_pause(lab):
    """What the kernel tells, and no timer: twenty seconds into an outage the next try is seconds away."""
    lab.tunneld()
    port = free_port()
    connect = lab.connect("-L", f"{port}:echo").says("connected to")
    with a_stream(lab, port) as connection:
        says_back(connection, b"before")
        lab.network.unplug_client()
        connect.says("attempt n=5", 60)
        tried = connect.err.count("attempt n=")
        lab.network.move_client(Network.CLIENT)
        began = time.monotonic()
        says_back(connection, b"behind", SOON)
        print(f"back after {time.monotonic() - began:.2f} s")
    connect.says("outcome=resumed")
    [line] = [one for one in connect.said if "outcome=resumed" in one]
    assert "cause=network_changed" in line, line
    assert connect.err.count("attempt n=") <= tried + 2
    assert connect.stop() == OK


@pytest.mark.deadline(150)
def test_a_network_that_flaps_costs_pauses_and_leaves_nothing_behind(lab):
    """Ten times away and back, with another address each time."""
    lab.tunneld()
    port = free_port()
    connect = lab.connect("-L", f"{port}:echo").says("connected to")
    with a_stream(lab, port) as connection:
        says_back(connection, b"before")
        files, memory = lab.metric("process_open_fds"), lab.daemon.program.resident_bytes()
        for cycle in range(10):
            lab.network.unplug_client()
            connection.sendall(b"away %d" % cycle)
            threading.Event().wait(0.3)  # the outage itself is this long
            lab.network.move_client((Network.OTHER, Network.CLIENT)[cycle % 2])
            connection.settimeout(2 * SOON)
            assert connection.recv(100) == b"away %d" % cycle
        wait_until(lambda: lab.metric("process_open_fds") <= files + 2, 60, "tunneld has let the dead connections go")
        assert lab.daemon.program.resident_bytes() < memory + (8 << 20) * (8 if is_sanitized() else 1)
    assert connect.err.count("outcome=resumed") >= 10 and connect.err.count("outcome=connected") == 1
    assert connect.stop() == OK
