"""One sample: a workload on a variant, with the CPU time of every part around it.

A sample is a flat dictionary of figures; the names are the rows of the table (report.py).
"""

import json
import os
import re
import socket
import subprocess
import time
from statistics import median

from .processes import (MIB, Failed, cpu_seconds, free_port, last_words, machine_busy_seconds, memory,
                        read_json_line, run, wait_for)

GIB = 1024 * MIB


class Sizes:
    """How much each workload does. CPU is read in ticks of 10 ms, so a sample needs some tenths of a second."""

    def __init__(self, quick):
        self.bulk_bytes = (96 if quick else 384) * MIB
        self.milliseconds = 700 if quick else 2000
        self.one_by_one = 150 if quick else 400
        self.side_by_side = 600 if quick else 2000
        self.idle_counts = (0, 100) if quick else (0, 100, 1000)
        self.setups = 2 if quick else 7
        self.strace_bytes = (32 if quick else 96) * MIB


def _load(site, variant, command, *arguments):
    return json.loads(run([site.bin / "bench_load", command, *arguments, *variant.client_arguments]))


class _CpuMeter:
    """CPU seconds of client, daemon and sshd, and of everybody else on the machine, while it is open."""

    def __init__(self, site, variant):
        self.roots = {role: [process.pid for process in processes]
                      for role, processes in variant.roles.items()}
        self.roots["sshd"] = [site.sshd.pid]
        self.target = site.target.pid

    def _read(self):
        return {**{role: cpu_seconds(*pids) for role, pids in self.roots.items()},
                "target": cpu_seconds(self.target), "machine": machine_busy_seconds(),
                "load": sum(os.times()[2:4]), "self": sum(os.times()[:2]), "clock": time.monotonic()}

    def __enter__(self):
        self.before = self._read()
        return self

    def __exit__(self, *_):
        after = self._read()
        self.used = {role: after[role] - self.before[role] for role in after}
        ours = sum(self.used[role] for role in self.used if role not in ("machine", "clock"))
        self.others = max(0.0, (self.used["machine"] - ours) / (self.used["clock"] * os.cpu_count()))

    def roles(self):
        return {role: self.used[role] for role in self.roots}


def bulk(site, variant, sizes, direction, streams):
    service = "source" if direction == "down" else "sink"
    with _CpuMeter(site, variant) as meter:
        result = _load(site, variant, "bulk", "--to", variant.endpoint(service), f"--{direction}",
                       "--streams", streams, "--bytes", sizes.bulk_bytes)
    name = f"bulk {direction} {streams}"
    figures = {f"{name} MiB/s": result["mib_per_second"], "others": meter.others}
    gib = result["bytes"] / GIB
    for role, seconds in meter.roles().items():
        figures[f"{name} CPU s/GiB {role}"] = seconds / gib
    figures[f"{name} CPU s/GiB without sshd"] = sum(
        seconds for role, seconds in meter.roles().items() if role != "sshd") / gib
    figures[f"{name} CPU s/GiB load tool"] = result["own_cpu_s_per_gib"]
    return figures


def http(site, variant, sizes, connections):
    with _CpuMeter(site, variant) as meter:
        result = _load(site, variant, "http", "--to", variant.http_url(), "--connections", connections,
                       "--milliseconds", sizes.milliseconds)
    name = f"http {connections}"
    figures = {f"{name} req/s": result["per_second"], f"{name} p50 ms": result["p50_ms"],
               f"{name} p95 ms": result["p95_ms"], f"{name} p99 ms": result["p99_ms"],
               "others": meter.others}
    for role, seconds in meter.roles().items():
        figures[f"{name} CPU us/request {role}"] = seconds / result["count"] * 1e6
    return figures


def new_streams(site, variant, sizes, parallel):
    with _CpuMeter(site, variant) as meter:
        result = _load(site, variant, "newstream", "--to", variant.endpoint("echo"), "--parallel", parallel,
                       "--count", sizes.one_by_one if parallel == 1 else sizes.side_by_side)
    name = f"new stream {parallel}"
    trips = {f"{name} round trips": result["p50_ms"] / (2 * site.delay_ms)} if site.delay_ms else {}
    return {**trips, f"{name} p50 ms": result["p50_ms"], f"{name} p95 ms": result["p95_ms"],
            f"{name} per s": result["per_second"], "others": meter.others}


def echo_beside_bulk(site, variant, sizes):
    with _CpuMeter(site, variant) as meter:
        result = _load(site, variant, "echo-beside-bulk", "--echo", variant.endpoint("echo"),
                       "--source", variant.endpoint("source"), "--milliseconds", sizes.milliseconds)
    return {"echo beside bulk p50 ms": result["p50_ms"], "echo beside bulk p95 ms": result["p95_ms"],
            "echo beside bulk p99 ms": result["p99_ms"],
            "echo beside bulk, its MiB/s": result["bulk_mib_per_second"], "others": meter.others}


def _first_echo_ms(site, variant, near):
    """From the start of a client of its own to the first echo of a stream through it."""
    port = free_port()
    begin = time.monotonic()
    client = variant.another_client(near, port)
    try:
        while not _echoes(port):
            if time.monotonic() > begin + 30:
                raise Failed(f"no echo through another client of {variant.name}: {last_words(client)}")
            time.sleep(0.001)
        return (time.monotonic() - begin) * 1000
    finally:
        site.processes.stop(client)


def _echoes(port):
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as stream:
            stream.sendall(bytes(64))
            return len(stream.recv(64, socket.MSG_WAITALL)) == 64
    except OSError:
        return False  # not listening yet, or not connected


def setup(site, variant, sizes):
    with _CpuMeter(site, variant) as meter:
        there = median(_first_echo_ms(site, variant, near=False) for _ in range(sizes.setups))
        figures = {"setup ms": there}
        if site.delay_ms:
            here = median(_first_echo_ms(site, variant, near=True) for _ in range(sizes.setups))
            figures["setup round trips"] = (there - here) / (2 * site.delay_ms)
    return {**figures, "others": meter.others}


WORKLOADS = {
    **{f"bulk {direction} {streams}":
       lambda *where, d=direction, n=streams: bulk(*where, d, n)
       for streams in (1, 16) for direction in ("down", "up")},
    **{f"http {connections}": lambda *where, n=connections: http(*where, n)
       for connections in (1, 32, 256)},
    **{f"new stream {parallel}": lambda *where, n=parallel: new_streams(*where, n) for parallel in (1, 16)},
    "echo beside bulk": echo_beside_bulk,
    "setup": setup,
}
# Over a path with a round trip: what depends on it.
WITH_DELAY = re.compile(r"bulk (down|up) 1$|new stream 1$|setup")


def fits(name, variant):
    """A variant without a client of its own has nothing to set up."""
    return name != "setup" or hasattr(variant, "another_client")


def prove(site, variant, seconds=30):
    """Waits until an echo and a request pass; a variant that does not get there raises Failed."""
    why = [""]

    def passes():
        try:
            _load(site, variant, "newstream", "--to", variant.endpoint("echo"), "--count", 1,
                  "--give-up", 5)
            _load(site, variant, "http", "--to", variant.http_url(), "--milliseconds", 10, "--give-up", 5)
            return True
        except Failed as failure:
            why[0] = str(failure)
            return False
    try:
        wait_for(f"round trip through {variant.name}", passes, seconds)
    except Failed as failure:
        words = " / ".join(last_words(process, 3) for part in variant.roles.values() for process in part)
        raise Failed(f"{failure}; {why[0]}; {words}") from None


def idle_memory(site, variant, sizes):
    """RSS and PSS of a freshly started variant with 0, 100, 1000 idle streams; started again, with idle HTTP
    connections where it has an HTTP door (elsewhere a connection is a stream)."""
    figures = {}

    def note(label):
        for role, processes in {**variant.roles, "sshd": [site.sshd]}.items():
            rss, pss = memory(*(process.pid for process in processes))
            figures[f"{label} RSS MiB {role}"] = rss / MIB
            figures[f"{label} PSS MiB {role}"] = pss / MIB

    def hold(kind, count, endpoint):
        if count == 0:
            return note(f"{kind} 0")
        holder = site.processes.start(
            f"{variant.name}:idle",
            [site.bin / "bench_load", "idle", "--to", endpoint, "--count", count, *variant.client_arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            read_json_line(holder, seconds=120)
            time.sleep(1)  # buffers of the opening are returned; nothing to wait for tells when
            note(f"{kind} {count}")
        finally:
            site.processes.stop(holder)

    counts = [count for count in sizes.idle_counts if count <= variant.most_streams]
    for kind in ("idle streams", "idle connections") if variant.http_door else ("idle streams",):
        variant.start()
        endpoint = variant.http_url() if kind == "idle connections" else variant.endpoint("echo")
        try:
            prove(site, variant)
            for count in counts:
                hold(kind, count, endpoint)
        finally:
            variant.stop()
        most = counts[-1]
        for role in ("client", "daemon"):
            if f"{kind} 0 RSS MiB {role}" in figures:
                grown = figures[f"{kind} {most} RSS MiB {role}"] - figures[f"{kind} 0 RSS MiB {role}"]
                figures[f"{kind} RSS KiB each {role}"] = grown * 1024 / most
    return figures


def system_calls(site, variant, sizes):
    """System calls a MiB of one bulk stream, of client and daemon, counted by strace."""
    figures = {}
    for role, processes in variant.roles.items():
        for direction, service in (("down", "source"), ("up", "sink")):
            report = site.path("strace.out")
            command = ["strace", "-f", "-c", "-o", report]
            for process in processes:
                command += ["-p", process.pid]
            tracer = site.processes.start(f"{variant.name}:strace", command)

            def attached():
                with open(tracer.log) as file:
                    return "attached" in file.read()
            try:
                wait_for("attached strace", attached, process=tracer)
                _load(site, variant, "bulk", "--to", variant.endpoint(service), f"--{direction}",
                      "--bytes", sizes.strace_bytes)
            finally:
                tracer.terminate()
                tracer.wait(10)
                site.processes.stop(tracer)
            with open(report) as file:
                total = [line for line in file if line.rstrip().endswith("total")]
            os.unlink(tracer.log)
            if not total:
                raise Failed(f"strace counted nothing of {variant.name} {role}")
            # "100.00  0.123456  12  34567  89 total": calls is the 4th column, errors may be missing.
            calls = int(total[0].split()[3])
            figures[f"system calls/MiB {direction} {role}"] = calls * MIB / sizes.strace_bytes
    return figures

