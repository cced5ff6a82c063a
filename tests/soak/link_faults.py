"""Parts of a soak: links whose connections break at every byte of their start, or again and again."""

import os
import socket

import ground  # noqa: F401  first: it finds the end-to-end tests

from callers import session_starts
from programs.agent import Agent
from programs.loopback import free_port, wait_until
from programs.services import services_of
from test_connect import Connect

MIB = 1 << 20


def at_rest(daemon):
    wait_until(lambda: daemon.metric("tunnel_active_connections") == 0 and daemon.metric("tunnel_ssh_channels") == 0
               and daemon.metric("tunnel_resume_buffer_bytes") == 0, 60, "no link is left")


def token_file(site, daemon):
    file = site.directory("token").with_suffix(".jwt")
    file.write_text(daemon.token())
    file.chmod(0o600)
    return file


def link_starts(site, chosen):
    """A caller's session start cut at every byte, both ways, by RST and FIN: does each get through in the end?"""
    origin, far = site.origin(), site.sshd()
    daemon = site.tunneld(far, services_of(origin), link={"resume_window": "3s"})
    wire, token = site.proxy(daemon.port), token_file(site, daemon)
    files, offsets, cut = daemon.open_files(), range(0, 4097, chosen.step), 0
    for way in ("up", "down"):
        for how in ("rst", "fin"):
            cut += session_starts.sweep(daemon, wire, token, offsets, way=way, how=how, crowd=100, seconds=180)
    site.record("link_starts.cut", cut, "cut", n=4 * len(offsets), wrong=0)
    at_rest(daemon)
    wait_until(lambda: daemon.open_files() <= files + 12, 60, "descriptors are back")
    daemon.stop()


def flaps(site, chosen):
    """A network that comes and goes under a caller and an agent at once: does anything grow, is a byte lost?"""
    origin, far = site.origin(), site.sshd()
    daemon = site.tunneld(far, services_of(origin))
    wire, port = site.proxy(daemon.port), free_port()
    agent = Agent(site.directory("agent"), daemon, daemon.token(), {"far-echo": origin.ports["tcp_echo"]}, name="flapping",
                  port=wire.port, arguments=["--retry", "forever"]).start()
    connect = Connect(site.directory("connect"), ["-L", f"{port}:far-echo", "--retry", "forever"],
                      server=f"wss://127.0.0.1:{wire.port}", token=daemon.token(), ca=daemon.certificate).says("connected to")
    files, memory = daemon.open_files(), daemon.program.resident_bytes()
    with socket.create_connection(("127.0.0.1", port), timeout=120) as stream:
        stream.sendall(b"begun")
        assert stream.recv(100) == b"begun"
        for number in range(chosen.flaps):
            sent = os.urandom(20_000)
            stream.sendall(sent[:10_000])
            wire.rules(accept="refuse")
            wire.cut(("rst", "fin")[number % 2])
            stream.sendall(sent[10_000:])
            wire.heal()
            got = b""
            while len(got) < len(sent):
                part = stream.recv(len(sent) - len(got))
                assert part, f"the stream ended in round {number}"
                got += part
            assert got == sent, f"round {number}"
    grown = daemon.program.resident_bytes() - memory
    site.record("flaps.rounds", chosen.flaps, "rounds", resumed=connect.err.count("outcome=resumed") + agent.log().count("outcome=resumed"),
                memory_mib=round(grown / MIB, 1))
    assert grown < 24 * MIB
    assert connect.stop() == 0
    connect.kill()
    agent.stop()
    at_rest(daemon)
    wait_until(lambda: daemon.open_files() <= files, 60, "descriptors are back")
    daemon.stop()
