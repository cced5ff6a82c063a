"""A TCP proxy that breaks connections on purpose; run as a program, prints its ports as one JSON line.

  faultproxy.py '{"target": "127.0.0.1:22", "port": 0, "control": 0, "seed": 1}'

`up` is from whoever connects to the target, `down` the way back. Rules (all optional; what is not said is
as in a good network):

  {"accept": "serve"      how a new connection is met; "hang": accepted and never answered, "reset": reset at
                          once, "refuse": the port is closed (ECONNREFUSED)
   "only_new": false      the connections that are there keep the rules they have
   "up", "down": {
     "delay_ms": 0, "jitter_ms": 0      each piece comes that much later, give or take; order is kept
     "bytes_per_second": 0              0: as fast as it goes
     "stall": false                     nothing is delivered nor, once 256 KiB wait, read
     "blackhole": false                 what comes is dropped, the ends of connections too: both sides believe
                                        that the other is there
     "cut_after": null, "cut_by": "rst" after so many bytes from the connection's begin both sides get an RST
                                        (or a FIN: "fin")
     "cut_step": 0                      added to cut_after for each further connection: a sweep over offsets
     "corrupt_at": null                 that byte arrives with its lowest bit flipped
     "write_bytes": 0                   written in pieces of at most so many bytes (1: dribble)
     "write_pause_ms": 0                pause between two of these
     "merge_ms": 0                      pieces are gathered for so long and written as one
   }}

Control, HTTP with JSON:
  GET  /state        {"connections": now, "accepted": ever, "up": bytes, "down": bytes, "cut": connections,
                      "dropped": bytes, "rules": ..., "playing": bool}
  PUT  /rules        for connections to come and those that are there (offsets count from their begin)
  POST /cut?by=rst   every connection now; fin: both sides get a FIN
  POST /vanish       every connection there is now is a blackhole for ever: half-open, whatever the rules say
                     (?only=0: just the oldest, 1: the next)
  POST /play         {"seed", "faults", "kinds", "calm_ms": [from, to], "fault_ms": [from, to]}: plays the
                     campaign() of that seed and heals at its end; answers with its steps

Jitter and campaigns come from the seed alone, so a run that failed can be played again.
"""

import asyncio
import collections
import contextlib
import json
import random
import socket
import struct
import sys
import urllib.parse

PIECE = 64 * 1024
HELD = 256 * 1024  # bytes that wait inside the proxy before it stops reading

DIRECTION = {"delay_ms": 0, "jitter_ms": 0, "bytes_per_second": 0, "stall": False, "blackhole": False,
             "cut_after": None, "cut_by": "rst", "cut_step": 0, "corrupt_at": None, "write_bytes": 0,
             "write_pause_ms": 0, "merge_ms": 0}
ACCEPT = ("serve", "hang", "reset", "refuse")


def checked(rules):
    """Rules with every field; ValueError names what is none."""
    if unknown := set(rules) - {"accept", "only_new", "up", "down"}:
        raise ValueError(f"no such rule: {sorted(unknown)}")
    if rules.get("accept", "serve") not in ACCEPT:
        raise ValueError(f"accept is one of {ACCEPT}")
    result = {"accept": rules.get("accept", "serve"), "only_new": bool(rules.get("only_new", False))}
    for direction in ("up", "down"):
        asked = rules.get(direction, {})
        if set(asked) - set(DIRECTION):
            raise ValueError(f"no such rule of a direction: {sorted(set(asked) - set(DIRECTION))}")
        result[direction] = {**DIRECTION, **asked}
    return result


# What a campaign may draw: name -> a function of the random generator that gives rules, or an act.
KINDS = {
    "reset": lambda draw: {"act": "rst"},
    "finish": lambda draw: {"act": "fin"},
    "refuse": lambda draw: {"rules": {"accept": "refuse"}, "act": "rst"},
    "hang": lambda draw: {"rules": {"accept": "hang"}, "act": "rst"},
    "stall": lambda draw: {"rules": {draw.choice(["up", "down"]): {"stall": True}}},
    "blackhole": lambda draw: {"rules": {"up": {"blackhole": True}, "down": {"blackhole": True}}},
    "blackhole_one_way": lambda draw: {"rules": {draw.choice(["up", "down"]): {"blackhole": True}}},
    "delay": lambda draw: {"rules": {side: {"delay_ms": draw.randint(5, 100), "jitter_ms": draw.randint(0, 50)}
                                     for side in ("up", "down")}},
    "slow": lambda draw: {"rules": {side: {"bytes_per_second": draw.choice([8192, 65536, 524288])}
                                    for side in ("up", "down")}},
    "split": lambda draw: {"rules": {side: {"write_bytes": draw.choice([1, 7, 100])} for side in ("up", "down")}},
    "merge": lambda draw: {"rules": {side: {"merge_ms": draw.randint(1, 40)} for side in ("up", "down")}},
    "cut": lambda draw: {"rules": {draw.choice(["up", "down"]): {
        "cut_after": draw.randint(0, 200_000), "cut_by": draw.choice(["rst", "fin"])}}},
}


def campaign(seed, faults, kinds=None, calm_ms=(50, 500), fault_ms=(50, 500)):
    """`faults` steps {"calm_ms", "kind", "fault_ms", "rules"?, "act"?}; the same for the same arguments."""
    draw = random.Random(f"campaign {seed}")
    steps = []
    for _ in range(faults):
        kind = draw.choice(sorted(kinds or KINDS))
        steps.append({"calm_ms": draw.randint(*calm_ms), "kind": kind, "fault_ms": draw.randint(*fault_ms),
                      **KINDS[kind](draw)})
    return steps


def reset(sock):
    """Closes with an RST, whatever is queued."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


class Direction:
    """One way of one connection: a reader that fills a queue, a writer that empties it."""

    def __init__(self, link, name, source, sink):
        self.link, self.name, self.source, self.sink = link, name, source, sink
        self.read = 0  # bytes taken from the source, ever
        self.queue = collections.deque()  # (due, bytes); b"" is the end
        self.held = 0
        self.last_due = 0.0
        self.changed = asyncio.Event()  # the queue or the rules
        self.draw = random.Random(f"{link.proxy.seed} {link.number} {name}")

    @property
    def rules(self):
        return self.link.rules[self.name]

    async def wait(self, seconds=None):
        """Until something changes, or for so long."""
        self.changed.clear()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self.changed.wait(), seconds)

    async def fill(self):
        loop = asyncio.get_running_loop()
        while True:
            while self.held >= HELD:
                await self.wait()
            data = await loop.sock_recv(self.source, PIECE)
            if self.rules["blackhole"]:
                self.link.proxy.dropped += len(data)
                if not data:
                    await asyncio.Event().wait()  # nobody will ever hear of it
                self.read += len(data)
                continue
            data, cut = self.spoilt(data)
            if data or not cut:
                self.put(data)
            if cut:
                self.put(None)
            if cut or not data:
                return

    def spoilt(self, data):
        """`data` as the rules leave it, and whether the connection is cut behind it."""
        at, rules = self.read, self.rules
        self.read += len(data)
        corrupt, limit = rules["corrupt_at"], self.link.cut_after[self.name]
        if corrupt is not None and at <= corrupt < at + len(data):
            data = bytearray(data)
            data[corrupt - at] ^= 1
        if limit is not None and self.read >= limit:
            return bytes(data[:max(0, limit - at)]), True
        return bytes(data), False

    def put(self, data):
        now = asyncio.get_running_loop().time()
        wait = self.rules["delay_ms"] + self.draw.uniform(-1, 1) * self.rules["jitter_ms"]
        self.last_due = max(self.last_due, now + max(0.0, wait) / 1000)
        self.queue.append((self.last_due, data))
        self.held += len(data or b"")
        self.changed.set()

    async def empty(self):
        """Returns at the end of the source; a cut ends the connection."""
        loop = asyncio.get_running_loop()
        while True:
            due = self.queue[0][0] if self.queue else None
            if due is None or self.rules["stall"]:
                await self.wait()
                continue
            if due > loop.time():
                await self.wait(due - loop.time())
                continue
            if self.rules["merge_ms"] and self.queue[-1][1]:
                await asyncio.sleep(self.rules["merge_ms"] / 1000)
            gathered = bytearray()
            while self.queue and self.queue[0][1] and self.queue[0][0] <= loop.time():
                gathered += self.queue.popleft()[1]
                if not self.rules["merge_ms"]:
                    break
            if gathered:
                await self.write(bytes(gathered))
                self.held -= len(gathered)
                self.changed.set()
                continue
            if self.queue[0][1] is None:
                return self.link.cut(self.rules["cut_by"])
            with contextlib.suppress(OSError):
                self.sink.shutdown(socket.SHUT_WR)
            return None

    async def write(self, data):
        loop = asyncio.get_running_loop()
        at = 0
        while at < len(data):
            while self.rules["stall"]:
                await self.wait()
            rate, size = self.rules["bytes_per_second"], self.rules["write_bytes"] or len(data)
            if rate:
                size = max(1, min(size, rate // 20))
            piece = data[at:at + size]
            if self.rules["blackhole"]:
                self.link.proxy.dropped += len(piece)
            else:
                await loop.sock_sendall(self.sink, piece)
                self.link.proxy.carried[self.name] += len(piece)
            at += len(piece)
            pause = self.rules["write_pause_ms"] / 1000 + (len(piece) / rate if rate else 0)
            if pause:
                await asyncio.sleep(pause)


class Link:
    """One connection through the proxy."""

    def __init__(self, proxy, number, client):
        self.proxy, self.number, self.client = proxy, number, client
        self.rules = proxy.rules
        self.cut_after = {side: None if rules["cut_after"] is None else
                          rules["cut_after"] + rules["cut_step"] * (number - proxy.rules_since)
                          for side, rules in self.rules.items() if side in ("up", "down")}
        self.server = self.end_by = None
        self.vanished = False
        self.directions = []
        self.ended = asyncio.Event()

    def set_rules(self, rules):
        if self.vanished:
            return
        for side in ("up", "down"):
            if rules[side]["cut_after"] != self.rules[side]["cut_after"]:
                self.cut_after[side] = rules[side]["cut_after"]
        self.rules = rules
        for direction in self.directions:
            direction.changed.set()

    def vanish(self):
        self.set_rules(checked({"up": {"blackhole": True}, "down": {"blackhole": True}}))
        self.vanished = True

    def cut(self, how):
        if not self.ended.is_set():
            self.proxy.cuts += 1
            self.end_by = how
            self.ended.set()

    async def run(self):
        self.server = socket.socket()
        try:
            await self.carry()
        finally:
            # Only here, when nothing waits on the sockets any more: the loop must not meet their numbers again.
            for sock in (self.client, self.server):
                if self.end_by == "rst":
                    reset(sock)
                else:
                    sock.close()

    async def carry(self):
        if self.rules["accept"] == "reset":
            self.end_by = "rst"
            return
        if self.rules["accept"] == "hang":
            await self.ended.wait()
            return
        self.server.setblocking(False)
        self.server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            await asyncio.get_running_loop().sock_connect(self.server, self.proxy.target)
        except OSError:
            self.end_by = "rst"
            return
        self.directions = [Direction(self, "up", self.client, self.server),
                           Direction(self, "down", self.server, self.client)]
        tasks = [asyncio.ensure_future(work) for one in self.directions for work in (one.fill(), one.empty())]
        tasks.append(asyncio.ensure_future(self.ended.wait()))
        emptied = {tasks[1], tasks[3]}
        try:
            pending = set(tasks)
            # Ends when both directions are emptied, when either fails, or when it is cut.
            while emptied & pending and not self.ended.is_set():
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                if any(task.exception() for task in done):
                    self.end_by = "rst"
                    break
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


class Proxy:
    def __init__(self, target, port, seed):
        host, _, number = target.rpartition(":")
        self.target, self.port, self.seed = (host, int(number)), port, seed
        self.rules = checked({})
        self.rules_since = 1  # number of the first connection under them
        self.links = set()
        self.accepted = self.cuts = self.dropped = 0
        self.carried = {"up": 0, "down": 0}
        self.listener = self.accepting = self.player = None
        self.open()

    def open(self):
        self.listener = socket.create_server(("127.0.0.1", self.port), backlog=1024)
        self.listener.setblocking(False)
        self.port = self.listener.getsockname()[1]
        self.accepting = asyncio.ensure_future(self.accept())

    def close(self):
        self.accepting.cancel()
        self.listener.close()
        self.listener = None

    async def accept(self):
        loop = asyncio.get_running_loop()
        while True:
            client, _ = await loop.sock_accept(self.listener)
            client.setblocking(False)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.accepted += 1
            link = Link(self, self.accepted, client)
            self.links.add(link)
            task = asyncio.ensure_future(link.run())
            task.add_done_callback(lambda done, link=link: self.gone(link, done))

    def gone(self, link, task):
        self.links.discard(link)
        if not task.cancelled() and task.exception():
            print(f"connection {link.number}: {task.exception()!r}", file=sys.stderr, flush=True)

    def set_rules(self, rules):
        self.rules = checked(rules)
        self.rules_since = self.accepted + 1
        for link in self.links if not self.rules["only_new"] else ():
            link.set_rules(self.rules)
        if self.rules["accept"] == "refuse" and self.listener:
            self.close()
        elif self.rules["accept"] != "refuse" and not self.listener:
            self.open()

    def cut_all(self, how):
        for link in list(self.links):
            link.cut(how)

    async def play(self, steps):
        for step in steps:
            await asyncio.sleep(step["calm_ms"] / 1000)
            if "rules" in step:
                self.set_rules(step["rules"])
            if "act" in step:
                self.cut_all(step["act"])
            await asyncio.sleep(step["fault_ms"] / 1000)
            self.set_rules({})

    def state(self):
        return {"connections": len(self.links), "accepted": self.accepted, **self.carried, "cut": self.cuts,
                "dropped": self.dropped, "rules": self.rules,
                "playing": self.player is not None and not self.player.done()}

    def control(self, method, target, body):
        """(status, answer)"""
        path = urllib.parse.urlsplit(target)
        query = dict(urllib.parse.parse_qsl(path.query))
        if (method, path.path) == ("GET", "/state"):
            return 200, self.state()
        if (method, path.path) == ("PUT", "/rules"):
            self.set_rules(json.loads(body))
            return 200, self.rules
        if (method, path.path) == ("POST", "/cut") and query.get("by", "rst") in ("rst", "fin"):
            self.cut_all(query.get("by", "rst"))
            return 200, self.state()
        if (method, path.path) == ("POST", "/vanish"):
            links = sorted(self.links, key=lambda link: link.number)
            for link in links if "only" not in query else [links[int(query["only"])]]:
                link.vanish()
            return 200, self.state()
        if (method, path.path) == ("POST", "/play"):
            steps = campaign(**json.loads(body))
            self.player = asyncio.ensure_future(self.play(steps))
            return 200, steps
        return 404, {"error": "no such page"}

    async def serve_control(self, reader, writer):
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            method, target, _ = head.split(" ", 2)
            length = [line.split(":")[1] for line in head.lower().split("\r\n") if line.startswith("content-length:")]
            body = await reader.readexactly(int(length[0]) if length else 0)
            try:
                status, answer = self.control(method, target, body)
            except (ValueError, TypeError, KeyError) as wrong:
                status, answer = 400, {"error": str(wrong)}
            text = json.dumps(answer).encode()
            writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (status, len(text), text))
            await writer.drain()
        writer.close()


async def main(options):
    proxy = Proxy(options["target"], options.get("port", 0), options.get("seed", 1))
    control = await asyncio.start_server(proxy.serve_control, "127.0.0.1", options.get("control", 0))
    print(json.dumps({"port": proxy.port, "control": control.sockets[0].getsockname()[1]}), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    sys.exit(asyncio.run(main(json.loads(sys.argv[1]))))
