"""The parts of a soak. Each is a function of a Site and the chosen sizes; it records figures and raises
AssertionError when a promise is broken."""

import asyncio
import contextlib
import ipaddress
import json
import os
import random
import resource
import subprocess
import threading
import time

from ground import bench_load, percentile, services_of, slope  # first: it finds the end-to-end tests

from callers.http import ask, outcome
from callers.raw_http import RawHttp, request
from callers.websocket import stream
from callers.workers import BROKEN, Workers, post
from link_faults import flaps, link_starts
from links import agents, cuts, links
from programs import audit
from programs.loopback import wait_until

MIB = 1 << 20


def write_tokens(site, daemon, name, count, tier, connections=1):
    """A file of so many users' tokens, one a line for each connection that they will have."""
    file = site.folder / f"{name}.tokens"
    with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="ascii") as out:
        for number in range(count):
            out.write((daemon.token(f"{name}{number}", tier, "12h") + "\n") * connections)
    return file


def run_load(*arguments, seconds):
    # The load shares the machine with what it loads; nothing is pinned, so that neither starves.
    done = subprocess.run([bench_load(), *map(str, arguments)], capture_output=True, text=True, timeout=seconds + 300, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# Load ---------------------------------------------------------------------------------------------


def load(site, chosen):
    """Many users, and one of them at a hundred times his limit: does anybody else feel it?"""
    _, ports = site.bench_target()
    far = site.sshd()
    limit = 100  # requests a minute of the hostile one, as shipped
    each = chosen.rate * 60 // chosen.users
    daemon = site.tunneld(far, [{"name": "http", "target": f"127.0.0.1:{ports['http']}", "allow": ["*"]}],
                          tiers={"free": {"requests_per_minute": limit}, "premium": {"requests_per_minute": each * 2}},
                          limits={"global_requests_per_minute": 600_000 if chosen.rate < 9000 else 0, "max_unauthenticated": 2048},
                          ssh={"max_sessions": 50})
    to = daemon.url("/t/http/", tls=not chosen.plain)
    common = ["--to", to, "--ca-file", daemon.certificate, "--give-up", 7200]
    victims = write_tokens(site, daemon, "victim", chosen.users, "premium")
    hostile = write_tokens(site, daemon, "hostile", 1, "free", connections=8)
    # Opens every user's session; from here on the memory may not grow.
    run_load("crowds", *common, "--milliseconds", 3000, "--crowd", f"victims,{victims},{chosen.rate}", seconds=3)
    memory, files = daemon.program.resident_bytes(), daemon.open_files()
    figures = {}
    for name, seconds in (("alone", max(5, chosen.seconds // 5)), ("beside", chosen.seconds)):
        cpu = daemon.metric("process_cpu_seconds_total")
        more = ["--crowd-2", f"hostile,{hostile},{100 * limit / 60}"] if name == "beside" else []
        result = run_load("crowds", *common, "--milliseconds", seconds * 1000, "--crowd", f"victims,{victims},{chosen.rate}", *more,
                          seconds=seconds)
        one = figures[name] = result["crowds"]["victims"]
        used = (daemon.metric("process_cpu_seconds_total") - cpu) / result["seconds"]
        refused = sum(count for status, count in one["statuses"].items() if status != "200")
        site.record(f"load.{name}.requests_per_second", round(one["per_second"], 1), "req/s", users=chosen.users, n=one["sent"],
                    seconds=round(result["seconds"]), daemon_cpu=round(used, 2), load_cpu=round(result["own_cpu_s"] / result["seconds"], 2))
        for share in ("p50", "p95", "p99", "max"):
            site.record(f"load.{name}.{share}", round(one[f"{share}_ms"], 3), "ms")
        site.record(f"load.{name}.refused", refused, "requests")
        assert refused == 0, f"victims were refused: {one['statuses']}"
        if more:
            bad = result["crowds"]["hostile"]
            site.record("load.hostile.sent", bad["sent"], "requests", served=bad["statuses"].get("200", 0), refused=bad["statuses"].get("429", 0))
            allowed = limit * result["seconds"] / 60 + 17 + 2
            assert bad["statuses"].get("200", 0) <= allowed, f"{bad['statuses']}, allowed were {allowed:.0f}"
    grown = figures["beside"]["p95_ms"] / figures["alone"]["p95_ms"] - 1
    site.record("load.victims.p95_growth", round(100 * grown, 1), "%")
    wait_until(lambda: daemon.metric("tunnel_requests_in_flight") == 0, 60, "nothing is in flight")
    # sessions that idle are closed later; what the load itself held must be gone
    wait_until(lambda: daemon.open_files() <= files + 16, 120, "descriptors are back")
    site.record("load.memory_growth", round((daemon.program.resident_bytes() - memory) / MIB, 1), "MiB", base=round(memory / MIB, 1))
    daemon.stop()
    lines = sum(1 for file in audit.files(daemon.state / "audit") for _ in open(file, "rb"))
    site.record("load.audit_lines", lines, "lines", chain="intact" if audit.broken(daemon.state / "audit") is None else "BROKEN")
    assert audit.broken(daemon.state / "audit") is None


def connections(site, chosen):
    """A thousand and more streams, opened as fast as sshd lets them, held, and closed."""
    _, ports = site.bench_target()
    far = site.sshd()
    daemon = site.tunneld(far, [{"name": "echo", "target": f"127.0.0.1:{ports['echo']}", "allow": ["*"]}],
                          ssh={"max_sessions": 1000}, limits={"max_unauthenticated": 2048})
    tokens = write_tokens(site, daemon, "held", 1, "premium")
    wait_until(lambda: ask(daemon, None).status == 401, 10, "it answers")
    # Allocators and sessions once warm, so that growth is what the streams need.
    files, memory = daemon.open_files(), daemon.program.resident_bytes()
    for count in chosen.connections:
        began = time.monotonic()
        url = daemon.url("/ws/echo").replace("https", "wss")
        holder = subprocess.Popen([bench_load(), "idle", "--to", url, "--count", str(count), "--token-file", tokens,
                                   "--ca-file", daemon.certificate, "--give-up", "3600"],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        line = holder.stdout.readline()
        assert line, holder.stderr.read()
        took = time.monotonic() - began
        held = daemon.metric("tunnel_active_connections")
        resident = daemon.program.resident_bytes()
        cpu, at = daemon.metric("process_cpu_seconds_total"), time.monotonic()
        wait_until(lambda at=at: time.monotonic() - at > chosen.hold, chosen.hold + 10, "they were held")
        used = (daemon.metric("process_cpu_seconds_total") - cpu) / (time.monotonic() - at)
        still = daemon.metric("tunnel_active_connections")
        site.record(f"connections.{count}.held", int(still), "streams", opened_s=round(took, 1), held_s=chosen.hold, cpu=round(100 * used, 1))
        site.record(f"connections.{count}.memory_each", round((resident - memory) / count / 1024, 1), "KiB")
        assert held == still == count, f"{held} and {still} of {count} streams"
        assert daemon.metric("tunnel_heartbeat_timeouts_total") == 0
        holder.stdin.close()
        holder.wait(60)
        holder.stdout.close()
        holder.stderr.close()
        wait_until(lambda: daemon.metric("tunnel_active_connections") == 0 and daemon.metric("tunnel_ssh_channels") == 0, 60, "all are closed")
    began = time.monotonic()
    # Sessions stay for five minutes, and what is free goes back once a minute.
    wait_until(lambda: daemon.open_files() <= files + 16, 400, "the sessions that idled are closed")
    wait_until(lambda: daemon.program.resident_bytes() <= memory + 48 * MIB, 100, "memory is given back")
    site.record("connections.back_after", round(time.monotonic() - began), "s", descriptors=int(daemon.open_files() - files))
    site.record("connections.memory_after", round(daemon.program.resident_bytes() / MIB, 1), "MiB", before=round(memory / MIB, 1))
    daemon.stop()


# Faults -------------------------------------------------------------------------------------------

IMPATIENT = {"keepalive": "1s", "keepalive_reply": "1s", "connect_timeout": "2s", "handshake_timeout": "3s"}


def starts(site, chosen):
    """A session's start cut at every byte, both ways, by RST and FIN."""
    origin, far = site.origin(), site.sshd()
    wire = site.proxy(far.port)
    daemon = site.tunneld(far, services_of(origin), address=wire.port, threads=1, ssh=IMPATIENT)
    token, requests, executed_ever = daemon.token("ann"), 0, 0
    for way in ("up", "down"):
        for how in ("rst", "fin"):
            wire.rules(**{way: {"cut_after": 0, "cut_step": chosen.step, "cut_by": how}})
            begun, names = wire.state()["accepted"], {}
            while wire.state()["accepted"] - begun < 4097 // chosen.step:
                name = f"{way}-{how}-{len(names)}"
                names[name] = post(daemon, token, name, "X-Tunnel-Timeout: 10")
                assert names[name] in BROKEN | {(200, None)}, names[name]
            wire.heal()
            wire.cut()
            wait_until(lambda: outcome(ask(daemon, token)) == (200, None), 30, "a clean session serves")
            executed = origin._ask("/executions")
            assert all(executed.get(name, 0) <= 1 for name in names), "a request was executed twice"
            assert all(executed.get(name, 0) == 1 for name, result in names.items() if result == (200, None))
            requests, executed_ever = requests + len(names), executed_ever + sum(executed.get(name, 0) for name in names)
    site.record("starts.session_starts", wire.state()["accepted"], "cut", n=requests, executed=executed_ever, twice=0)
    settle(daemon)
    daemon.stop()


def campaign(site, chosen):
    """Random faults before the upstream, seed after seed; a seed that fails plays the same again."""
    origin, far = site.origin(), site.sshd()
    wire = site.proxy(far.port)
    daemon = site.tunneld(far, services_of(origin), address=wire.port, ssh=IMPATIENT, queue={"upstream_wait": "1s"})
    assert outcome(ask(daemon, daemon.token("warm"))) == (200, None)
    files, memory = daemon.open_files(), daemon.program.resident_bytes()
    kinds, recoveries, requests, moved, unanswered = {}, [], 0, 0, 0
    for seed in range(site.seed, site.seed + chosen.campaigns):
        with Workers(daemon, origin, f"c{seed}", seed=seed) as workers:
            for step in wire.play(seed, chosen.faults, calm_ms=[100, 600], fault_ms=[50, 900]):
                kinds[step["kind"]] = kinds.get(step["kind"], 0) + 1
            wire.wait_played(chosen.faults * 3 + 30)
            good = workers.good()
            wait_until(lambda good=good, workers=workers: workers.good() > good + 30, 60, f"all is well after seed {seed}")
        print(f"  seed {seed}: ", end="")
        workers.judge()
        recoveries += workers.recoveries
        requests, moved = requests + len(workers.outcomes), moved + workers.bytes
        unanswered += sum(result == (502, "TUNNEL_013") for result in workers.outcomes.values())
    site.record("campaign.faults", sum(kinds.values()), "faults", kinds=len(kinds), seeds=chosen.campaigns)
    site.record("campaign.requests", requests, "requests", executed_twice=0, outcome_unknown=unanswered)
    site.record("campaign.bytes", moved, "bytes", lost=0, doubled=0)
    for name, share in (("p50", 0.5), ("p95", 0.95), ("max", 1)):
        site.record(f"campaign.recovery_{name}", round(percentile(recoveries, share), 3), "s", n=len(recoveries))
    wire.cut()
    settle(daemon)
    wait_until(lambda: daemon.open_files() <= files + 24, 60, "descriptors are back")
    site.record("campaign.memory_growth", round((daemon.program.resident_bytes() - memory) / MIB, 1), "MiB")
    daemon.stop()
    assert audit.broken(daemon.state / "audit") is None


def settle(daemon):
    wait_until(lambda: daemon.metric("tunnel_ssh_channels") == 0 and daemon.metric("tunnel_requests_in_flight") == 0
               and daemon.metric("tunnel_queue_size") == 0, 60, "nothing is left")


def churn(site, chosen):
    """Streams that come and go, one in five vanishing half-open, for as long as is asked: does anything grow?"""
    origin, far = site.origin(), site.sshd()
    daemon = site.tunneld(far, services_of(origin), ws={"ping_interval": "2s", "dead_after": "5s"})
    front = site.proxy(daemon.plain_port)
    token = daemon.token("ann")
    draw = random.Random(site.seed)
    samples, counts = [], {"streams": 0, "vanished": 0}

    class Hole:
        """The daemon behind a proxy that makes its connections vanish."""
        plain_port = front.port

    async def one(vanishing):
        async with stream(Hole if vanishing else daemon, "echo", token, subprotocols=["binary"], tls=False) as ws:
            data = draw.randbytes(draw.randint(1, 20_000))
            await ws.send(data)
            received = 0
            while received < len(data):
                received += len(await ws.recv())
            await asyncio.sleep(draw.uniform(0, 1))
            if vanishing:
                counts["vanished"] += 1
                await asyncio.to_thread(front.vanish)
                ws.transport.abort()

    async def run():
        began, running = time.monotonic(), set()
        while (at := time.monotonic() - began) < chosen.seconds:
            task = asyncio.ensure_future(one(counts["streams"] % 5 == 0))
            running.add(task)
            task.add_done_callback(running.discard)
            counts["streams"] += 1
            if counts["streams"] % 20 == 0:
                samples.append((at, daemon.program.resident_bytes(), await asyncio.to_thread(daemon.open_files)))
            await asyncio.sleep(0.1)
        await asyncio.gather(*running, return_exceptions=True)

    asyncio.run(run())
    settled = [one for one in samples if one[0] > chosen.seconds / 3]
    site.record("churn.streams", counts["streams"], "streams", vanished=counts["vanished"], seconds=chosen.seconds)
    site.record("churn.memory_slope", round(slope([(at, rss) for at, rss, _ in settled]) / MIB, 2), "MiB/h", n=len(settled),
                first=round(settled[0][1] / MIB, 1), last=round(settled[-1][1] / MIB, 1))
    site.record("churn.descriptor_slope", round(slope([(at, fds) for at, _, fds in settled]), 1), "fds/h", first=settled[0][2], last=settled[-1][2])
    settle(daemon)
    daemon.stop()


# Strangers ----------------------------------------------------------------------------------------


def addresses(site, chosen):
    """Spoofed callers by the million, behind a proxy that is trusted: what do the tables cost?"""
    origin, far = site.origin(), site.sshd()
    daemon = site.tunneld(far, services_of(origin), trusted_proxies=["127.0.0.1/32"], penalty={"enabled": True},
                          limits={"address": {"requests_per_minute": 1000}}, log={"level": "ERROR"}, audit={"enabled": False})
    before, began, sent = daemon.program.resident_bytes(), time.monotonic(), 0
    with RawHttp(daemon.connect(tls=False)) as connection:
        while sent < chosen.addresses:
            connection.send(b"".join(request("GET", "/t/web/", f"X-Forwarded-For: {ipaddress.IPv4Address((0x10000000 + sent + n) & 0xFFFFFFFF)}",
                                             token="nonsense") for n in range(200)))
            for _ in range(200):
                assert connection.read_answer().status == 401
            sent += 200
    grown = daemon.program.resident_bytes() - before
    site.record("addresses.memory", round(grown / MIB, 1), "MiB", addresses=sent, per_second=round(sent / (time.monotonic() - began)))
    assert grown < 32 * MIB
    assert ask(daemon, daemon.token()).status == 200
    daemon.stop()


def slow(site, chosen):
    """Thousands that send a byte now and then, and what it does to an honest caller."""
    origin, far = site.origin(), site.sshd()
    daemon = site.tunneld(far, services_of(origin), limits={"header_timeout": "10s", "max_unauthenticated": 4096})
    token = daemon.token("ann")

    def honest(seconds):
        took, began = [], time.monotonic()
        with RawHttp(daemon.connect(tls=False)) as connection:
            while time.monotonic() - began < seconds:
                at = time.monotonic()
                connection.send(request("GET", "/t/web/hello", token=token))
                assert connection.read_answer().status == 200
                took.append(1000 * (time.monotonic() - at))
        return took

    honest(2)
    alone = honest(chosen.seconds / 2)
    stop, crowd = threading.Event(), []

    def dribble():
        while not stop.is_set():
            for at, connection in enumerate(list(crowd)):
                try:
                    connection.send(b"x")
                except OSError:
                    connection.close()
                    with contextlib.suppress(OSError):
                        crowd[at] = daemon.connect(tls=False, source=f"127.0.0.{2 + at % 8}")
                        crowd[at].send(b"GET /t/web/hello HTTP/1.1\r\nHost: x\r\nX-A: ")
            stop.wait(1)

    for number in range(chosen.slow):
        crowd.append(daemon.connect(tls=False, source=f"127.0.0.{2 + number % 8}"))
        crowd[-1].send(b"GET /t/web/hello HTTP/1.1\r\nHost: x\r\nX-A: ")
    thread = threading.Thread(target=dribble, daemon=True)
    thread.start()
    beside = honest(chosen.seconds / 2)
    stop.set()
    thread.join()
    for connection in crowd:
        connection.close()
    for name, took in (("alone", alone), ("beside", beside)):
        site.record(f"slow.{name}.p95", round(percentile(took, 0.95), 3), "ms", p50=round(percentile(took, 0.5), 3), n=len(took),
                    crowd=chosen.slow if name == "beside" else 0)
    daemon.stop()


def reloads(site, chosen):
    """SIGHUP a thousand times under load."""
    origin, far = site.origin(), site.sshd()
    daemon = site.tunneld(far, services_of(origin))
    with Workers(daemon, origin, "reload", seed=site.seed) as workers:
        for number in range(chosen.reloads):
            daemon.program.send(1)
            if number % 20 == 19:
                count = len(workers.outcomes)
                wait_until(lambda count=count: len(workers.outcomes) > count + 3, 30, "it serves meanwhile")
    workers.judge()
    bad = [result for result in workers.outcomes.values() if result != (200, None)]
    site.record("reloads.count", chosen.reloads, "SIGHUPs", n=len(workers.outcomes), failed=len(bad), streams_cut=workers.cuts)
    assert not bad and not workers.cuts
    daemon.stop()


PARTS = {"load": load, "connections": connections, "agents": agents, "links": links, "cuts": cuts, "starts": starts,
         "link_starts": link_starts, "flaps": flaps, "campaign": campaign, "churn": churn, "addresses": addresses, "slow": slow, "reloads": reloads}


def raise_file_limit():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
