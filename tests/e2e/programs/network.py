"""Networks of our own, made of network namespaces: machines whose cables, addresses and routes a test may break
without anybody else noticing. They need root, or whatever else lets a process unshare its network."""

import contextlib
import ctypes
import os
import pathlib
import subprocess

from .loopback import wait_until
from .process import Program

_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000


def why_not():
    """Why there can be no networks of our own here; None when there can."""
    tried = subprocess.run(["unshare", "--net", "--", "ip", "link", "add", "here", "type", "veth", "peer", "name", "there"],
                           capture_output=True, text=True, check=False)
    if tried.returncode == 0:
        return None
    return f"no network namespaces: {(tried.stderr or 'unshare failed').strip().splitlines()[-1]}"


class Machine:
    """A network namespace. It is there for as long as the process that holds it, and ends with the test run."""

    def __init__(self, directory, name):
        pathlib.Path(directory).mkdir(parents=True, exist_ok=True)
        self.name = name
        self.holder = Program(f"machine-{name}", ["unshare", "--net", "--", "sleep", "infinity"], directory)
        own = os.readlink("/proc/self/ns/net")
        wait_until(lambda: os.readlink(f"/proc/{self.holder.pid}/ns/net") != own, 10, f"{name} has a network of its own")
        self.ip("link", "set", "lo", "up")

    @contextlib.contextmanager
    def entered(self):
        """What this thread starts and connects meanwhile is in that network."""
        with open("/proc/thread-self/ns/net", "rb") as home, open(f"/proc/{self.holder.pid}/ns/net", "rb") as there:
            _enter(there)
            try:
                yield self
            finally:
                _enter(home)

    def ip(self, *words):
        """`ip WORDS` there; fails the test when it fails."""
        self.run("ip", *words)

    def run(self, *words):
        done = subprocess.run(["nsenter", f"--net=/proc/{self.holder.pid}/ns/net", "--", *map(str, words)],
                              capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{words} on {self.name}: {done.stderr}"
        return done.stdout

    def end(self):
        self.holder.kill()


def _enter(file):
    if _libc.setns(file.fileno(), _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), f"setns: {os.strerror(ctypes.get_errno())}")


class Network:
    """client -- router -- server, by cables of their own; whoever is to reach the other goes through the router.

    The client has CLIENT, and OTHER is free for it too; the server has SERVER.
    """

    CLIENT, OTHER, CLIENTS_ROUTER = "10.61.1.2", "10.61.1.3", "10.61.1.1"
    SERVER, SERVERS_ROUTER = "10.61.2.2", "10.61.2.1"

    def __init__(self, directory):
        self.client, self.router, self.server = (Machine(directory, name) for name in ("client", "router", "server"))
        self._cable(self.client, "wan0", f"{self.CLIENT}/24", "near", f"{self.CLIENTS_ROUTER}/24")
        self._cable(self.server, "wan0", f"{self.SERVER}/24", "far", f"{self.SERVERS_ROUTER}/24")
        self.router.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
        self.client.ip("route", "add", "default", "via", self.CLIENTS_ROUTER)
        self.server.ip("route", "add", "default", "via", self.SERVERS_ROUTER)

    def _cable(self, machine, name, address, at_router, routers_address):
        self.router.ip("link", "add", at_router, "type", "veth", "peer", "name", name, "netns", machine.holder.pid)
        for where, link, own in ((self.router, at_router, routers_address), (machine, name, address)):
            where.ip("address", "add", own, "dev", link)
            where.ip("link", "set", link, "up")

    def swallow(self, *ways):
        """From now on the router drops, without a word, what goes to the server ("up") or to the client ("down")."""
        for way in ways:
            for address in ([self.SERVER] if way == "up" else [self.CLIENT, self.OTHER]):
                self.router.ip("route", "replace", "blackhole", f"{address}/32")

    def pass_again(self):
        for address in (self.SERVER, self.CLIENT, self.OTHER):
            self.router.run("sh", "-c", f"ip route del blackhole {address}/32 2>/dev/null || true")

    def move_client(self, address):
        """The client has another address than before, as after a change of the Wi-Fi."""
        for old in {self.CLIENT, self.OTHER} - {address}:
            self.client.run("sh", "-c", f"ip address del {old}/24 dev wan0 2>/dev/null || true")
        self.client.ip("address", "add", f"{address}/24", "dev", "wan0")
        self.client.ip("route", "replace", "default", "via", self.CLIENTS_ROUTER)

    def unplug_client(self):
        """The client loses its address and with it its route."""
        self.client.ip("address", "flush", "dev", "wan0", "scope", "global")

    def end(self):
        for machine in (self.client, self.router, self.server):
            machine.end()
