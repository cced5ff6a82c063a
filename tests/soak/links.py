"""The parts of a soak that are about agents and links: crowds of them, played by bench_agents, and the real programs."""

import json
import random
import subprocess
import threading
import time

from ground import bench_load, process, services_of, slope  # first: it finds the end-to-end tests

from callers import transfer
from programs.agent import Agent
from programs.loopback import free_port, wait_until
from programs.tunnelctl import binary as tunnelctl

MIB = 1 << 20
#: A crowd that comes at once from one address is what is measured, so nothing may turn it away. The limits as
#: shipped are measured by themselves, in `agents`.
ROOM = {"max_unauthenticated": 16_384}


class Crowd:
    """bench_agents, which plays agents and callers of a file of principals, and answers one command after the other."""

    def __init__(self, site, daemon, members, *, attempts=1):
        file = site.folder / f"members-{site.count}"
        site.count += 1
        file.touch(mode=0o600)
        file.write_text("".join(f"{token} {' '.join(services)}\n" for token, services in members), encoding="ascii")
        self.process = subprocess.Popen([bench_load().with_name("bench_agents"), "--server", f"wss://127.0.0.1:{daemon.port}", "--members", file,
                                         "--ca-file", daemon.certificate, "--attempts", str(attempts)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"bench_agents ended with {self.process.wait(10)} on {command!r}"
        return json.loads(line)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(60)
        self.process.stdout.close()


def principals(daemon, count, services=()):
    return [(daemon.token(f"user{number}", "premium", "12h"), services) for number in range(count)]


def record_storm(site, name, storm, **more):
    site.record(f"{name}.p95", round(storm["p95_ms"]), "ms", p50=round(storm["p50_ms"]), max=round(storm["max_ms"]), came=storm["came"],
                failed=storm["failed"], crowd_cpu_s=round(storm["storm_cpu_s"], 2), **more)
    assert storm["failed"] == 0, storm


def cpu_of(daemon, story):
    """(what it returns, CPU seconds of the daemon meanwhile)."""
    before = daemon.metric("process_cpu_seconds_total")
    told = story()
    return told, round(daemon.metric("process_cpu_seconds_total") - before, 2)


def idle_for(daemon, seconds):
    """CPU seconds a minute of a daemon that is left alone."""
    began = time.monotonic()
    _, used = cpu_of(daemon, lambda: wait_until(lambda: time.monotonic() - began > seconds, seconds + 10, "the time is over"))
    return round(used * 60 / (time.monotonic() - began), 2)


def gone(daemon, kind):
    """What counts these players, at 0."""
    return daemon.metric("tunnel_agents") == 0 if kind == "agents" else daemon.metric("tunnel_resume_buffer_bytes") == 0 and \
        daemon.metric("tunnel_active_connections") == 0


# Agents -------------------------------------------------------------------------------------------


def agents(site, chosen):
    """A thousand agents, and then links: all at once, held, cut and back, gone. What does each of them cost?"""
    origin, far = site.origin(), site.sshd()
    count = chosen.agents
    daemon = site.tunneld(far, services_of(origin), limits=ROOM)
    members = principals(daemon, min(count, 100), ["echo"])
    with Crowd(site, daemon, members) as crowd:  # the daemon's first TLS, log lines and tokens
        crowd.ask("agents 10")
        crowd.ask("callers 10")
        crowd.ask("leave")
    wait_until(lambda: gone(daemon, "agents") and gone(daemon, "callers"), 30, "they have left")
    files, memory = daemon.open_files(), daemon.program.resident_bytes()
    for kind in ("agents", "callers"):
        with Crowd(site, daemon, members) as crowd:
            first, cpu = cpu_of(daemon, lambda crowd=crowd, kind=kind: crowd.ask(f"{kind} {count}"))
            record_storm(site, f"agents.{count}.{kind}.first", first, daemon_cpu_s=cpu, principals=len(members))
            resident = daemon.program.resident_bytes()
            each = site.record(f"agents.{count}.{kind}.memory_each", round((resident - memory) / count / 1024, 1), "KiB",
                               descriptors=int(daemon.open_files() - files), rss=round(resident / MIB, 1), before=round(memory / MIB, 1))
            assert count < 500 or each < 150, "a client's share is more than 0.15 MiB"
            site.record(f"agents.{count}.{kind}.idle_cpu", idle_for(daemon, chosen.hold), "s a minute", held_s=chosen.hold)
            assert crowd.ask("look")["up"] == count, "some were lost while nothing happened"
            crowd.ask("cut")
            if kind == "agents":
                wait_until(lambda: gone(daemon, "agents"), 30, "their ends are noticed")
            back, cpu = cpu_of(daemon, lambda crowd=crowd: crowd.ask("back"))
            resumed = daemon.metric("tunnel_sessions_resumed_total", result="ok")
            record_storm(site, f"agents.{count}.{kind}.back", back, daemon_cpu_s=cpu, resumed=int(resumed))
            assert kind == "agents" or resumed == count
            crowd.ask("leave")
        wait_until(lambda kind=kind: gone(daemon, kind), 30, "all are gone")
        began = time.monotonic()
        wait_until(lambda: daemon.open_files() <= files + 8, 60, "descriptors are back")
        wait_until(lambda: daemon.program.resident_bytes() <= memory + 24 * MIB, 120, "memory is given back")
        site.record(f"agents.{count}.{kind}.memory_after", round(daemon.program.resident_bytes() / MIB, 1), "MiB", before=round(memory / MIB, 1),
                    descriptors=int(daemon.open_files() - files), after_s=round(time.monotonic() - began))
    daemon.stop()
    behind_one_address(site, chosen, origin, far)


def behind_one_address(site, chosen, origin, far):
    """The same agents against the limits as shipped, which are meant against strangers: they come with tunnelctl's pauses."""
    count = chosen.agents
    for name, limits in (("shipped", {"address": {"requests_per_minute": 300, "handshakes_per_minute": 20}}), ("documented", ROOM)):
        daemon = site.tunneld(far, services_of(origin), limits=limits)
        with Crowd(site, daemon, principals(daemon, min(count, 100)), attempts=1000) as crowd:
            storm = crowd.ask(f"agents {count}")
            site.record(f"agents.{count}.one_address.{name}", round(storm["max_ms"] / 1000, 1), "s until the last is in", tries=storm["tries"],
                        p50_s=round(storm["p50_ms"] / 1000, 1))
            assert storm["failed"] == 0, storm
        daemon.stop()


# Links --------------------------------------------------------------------------------------------


class Connect:
    """`tunnelctl connect` with these services on local ports."""

    def __init__(self, site, daemon, port, services):
        self.ports = {service: free_port() for service in services}
        folder = site.made("connect")
        token = folder / "token"
        token.touch(mode=0o600)
        token.write_text(daemon.token("ann", "premium", "12h"))
        words = [f"{word}" for service, local in self.ports.items() for word in ("-L", f"{local}:{service}")]
        self.program = process.Program("connect", [tunnelctl(), "connect", "--server", f"wss://127.0.0.1:{port}", "--token-file", token,
                                                   "--ca-file", daemon.certificate, "--retry", "forever", *words], folder)
        self.program.ready_when(lambda: "connected to" in self.program.output(), 30)

    def resumed(self):
        return self.program.output().count("outcome=resumed")


def start_agent(site, daemon, token, services, port):
    return Agent(site.directory("agent"), daemon, token, services, name="far", port=port, arguments=["--retry", "forever"]).start()


class RandomCuts:
    """Cuts what passes a proxy every so many seconds, until it is left."""

    def __init__(self, proxy, seed, pauses):
        self.proxy, self.draw, self.pauses = proxy, random.Random(seed), pauses
        self.made, self.stop = 0, threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        while not self.stop.wait(self.draw.uniform(*self.pauses)):
            self.proxy.cut(self.draw.choice(["rst", "fin"]))
            self.made += 1

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()


class Samples:
    """Memory and descriptors of a daemon every few seconds, until it is left."""

    def __init__(self, daemon, every):
        self.daemon, self.every, self.taken = daemon, every, []
        self.stop, self.began = threading.Event(), time.monotonic()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        while not self.stop.wait(self.every):
            self.taken.append((time.monotonic() - self.began, self.daemon.program.resident_bytes(), self.daemon.open_files()))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()


def links(site, chosen):
    """Callers and agents that come, stream, are cut, come back and leave: is every byte right, and does anything grow?"""
    origin, far = site.origin(), site.sshd()
    window = 20
    daemon = site.tunneld(far, services_of(origin), limits=ROOM, link={"resume_window": f"{window}s"}, queue={"upstream_wait": "10s"})
    members = principals(daemon, 10, ["echo"])
    wire = site.proxy(daemon.port)
    agent = start_agent(site, daemon, members[0][0], {"far-echo": origin.ports["tcp_echo"]}, wire.port)
    members[0] = (members[0][0], ["echo", "far-echo"])
    files, memory = daemon.open_files(), daemon.program.resident_bytes()
    seconds = chosen.seconds
    # A connection counts as stable after half a minute: what is cut more often tries again after growing pauses.
    pauses = (32, 60) if seconds > 120 else (2, 8)
    with Crowd(site, daemon, members) as crowd, RandomCuts(wire, site.seed, pauses) as cut, Samples(daemon, max(1, seconds / 200)) as samples:
        told = crowd.ask(f"churn {seconds} 20 20 {site.seed}")
    warm = [one for one in samples.taken if one[0] > seconds / 5]
    site.record("links.callers", told["callers"], "links", seconds=seconds, streams=told["streams"], left=told["left"], vanished=told["vanished"],
                agents=told["agents"])
    site.record("links.bytes", told["bytes"], "bytes", lost_or_wrong_streams=told["wrong"], broken_streams=told["broken"],
                refused_streams=told["refused"])
    site.record("links.cuts", told["cuts"], "cuts", resumed=told["resumed"], daemon_resumed=int(daemon.metric("tunnel_sessions_resumed_total", result="ok")),
                expired=int(daemon.metric("tunnel_sessions_resumed_total", result="expired")), of_the_agents_leg=cut.made,
                played_agents_cut=told["agent_cuts"], back=told["agents_back"])
    site.record("links.memory_slope", round(slope([(at, rss) for at, rss, _ in warm]) / MIB, 2), "MiB/h", n=len(warm),
                first=round(warm[0][1] / MIB, 1), last=round(warm[-1][1] / MIB, 1), most=round(max(rss for _, rss, _ in warm) / MIB, 1))
    site.record("links.descriptor_slope", round(slope([(at, fds) for at, _, fds in warm]), 1), "fds/h", first=int(warm[0][2]), last=int(warm[-1][2]))
    print(f"  what failed: {told['faults'] or 'nothing'}")
    assert told["wrong"] == told["broken"] == told["refused"] == 0, told["faults"]
    assert told["resumed"] == told["cuts"], told["faults"]
    wait_until(lambda: daemon.metric("tunnel_agents") == 1 and daemon.metric("tunnel_resume_buffer_bytes") == 0, window + 60, "they are forgotten")
    agent.stop()
    wait_until(lambda: daemon.metric("tunnel_agents") == 0, 30, "the last agent has left")
    wait_until(lambda: daemon.open_files() <= files + 24, 400, "descriptors are back, idle SSH sessions closed")
    wait_until(lambda: daemon.program.resident_bytes() <= memory + 48 * MIB, 120, "memory is given back")
    site.record("links.memory_after", round(daemon.program.resident_bytes() / MIB, 1), "MiB", before=round(memory / MIB, 1),
                descriptors=int(daemon.open_files() - files))
    daemon.stop()


def cuts(site, chosen):
    """A gigabyte each way through links that are cut: does a byte get lost, and what do they keep afterwards?"""
    origin, far = site.origin(), site.sshd()
    daemon = site.tunneld(far, services_of(origin), limits=ROOM)
    near, way = site.proxy(daemon.port), site.proxy(daemon.port)
    agent = start_agent(site, daemon, daemon.token("ann", "premium", "12h"),
                        {"far-digest": origin.ports["tcp_digest"], "far-source": origin.ports["tcp_source"]}, way.port)
    connect = Connect(site, daemon, near.port, ["digest", "source", "far-digest", "far-source"])
    programs = {"tunneld": daemon.program, "connect": connect.program, "agent": agent.program}
    before = {name: program.resident_bytes() for name, program in programs.items()}
    size = chosen.mebibytes * MIB
    for name, services, legs in (("connect", ("digest", "source"), [near]), ("agent", ("far-digest", "far-source"), [near, way])):
        began, resumed = time.monotonic(), daemon.metric("tunnel_sessions_resumed_total", result="ok")
        with Samples(daemon, 0.5) as samples:
            made = transfer.both_ways(connect.ports[services[0]], connect.ports[services[1]], size, legs=legs, cuts=chosen.cuts, seed=site.seed,
                                      timeout=300)
        site.record(f"cuts.{name}.bytes", 2 * size, "bytes up and down", cuts=made, legs=len(legs), lost=0, seconds=round(time.monotonic() - began),
                    resumed=int(daemon.metric("tunnel_sessions_resumed_total", result="ok") - resumed),
                    daemon_most=f"{max((rss for _, rss, _ in samples.taken), default=0) / MIB:.0f} MiB")
        assert made == chosen.cuts, f"{made} cuts of {chosen.cuts}"
    wait_until(lambda: daemon.metric("tunnel_resume_buffer_bytes") < 64 * 1024, 60, "nothing waits for an acknowledgement")
    began = time.monotonic()
    wait_until(lambda: time.monotonic() - began > chosen.hold, chosen.hold + 10, "what is free has gone back")
    for name, program in programs.items():
        site.record(f"cuts.{name}.memory_after", round(program.resident_bytes() / MIB, 1), "MiB", before=round(before[name] / MIB, 1),
                    idle_s=chosen.hold)
    assert connect.program.stop() == 0
    agent.stop()
    daemon.stop()
