"""The service behind the tunnel in these tests; run as a program, prints its ports as one JSON line.

It speaks HTTP/1.1 by hand, so that it can also answer what no framework would, and it keeps count:
how often each `?id=` was executed, and every request line it ever parsed (a smuggled one would show).

  http       GET  /hello                       a short text
             ANY  /echo                        the body back, framed as it came
             ANY  /request                     the request as received, as JSON (fields in order)
             ANY  /execute?id=X[&then=close|hang|gate=G]   counts X, then answers, or does not
             PUT  /upload                      {"bytes", "sha256", "trailers"}
             GET  /download?bytes=N[&chunked=1]   the deterministic stream of programs/origin.py
             GET  /records?stream=S&count=N   records of programs/records.py
             PUT  /records?stream=S           {"good", "wrong"} of such a body
             GET  /events?count=N&gate=G       server-sent events, one each time gate G opens
             GET  /slow?gate=G                 no byte of an answer until gate G opens
             GET  /stall?gate=G                head and 4 bytes, the rest when gate G opens
             GET  /drip?bytes=N                N bytes, each in its own segment and chunk
             GET  /trailers                    chunked, with an X-Checksum trailer
             ANY  /early                       403 at once, body unread, connection closed
             GET  /cut?framing=sized|chunked   promises more than it sends, then closes
             GET  /interim                     103 Early Hints, then 200
             ANY  /status/NNN                  that status
             GET  /malformed/KIND              see MALFORMED
  tcp_echo   bytes come back; end of direction is answered by end of direction
  tcp_digest reads to the end of direction, then answers "<bytes> <sha256>\n" and closes
  tcp_source first line "N\n": sends N bytes of the deterministic stream and closes
  tcp_records first line "S N\n": sends N records of stream S and closes
  tcp_flood  sends the deterministic stream until the peer goes away
  websocket  echoes messages of either kind (the `websockets` library)
  control    GET /executions, /requests, /anomalies, /open as JSON; POST /gate/G opens gate G once,
             POST /forget clears the counts
"""

import asyncio
import collections
import contextlib
import hashlib
import json
import sys
import urllib.parse

import websockets

import records

BLOCK = bytes(hashlib.sha256(b"deterministic stream").digest() * 2048)  # 64 KiB

executions = collections.Counter()
requests_seen = []
anomalies = []
gates = collections.defaultdict(lambda: asyncio.Semaphore(0))
open_streams = 0

MALFORMED = {
    "status-line": b"HTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
    "no-status": b"HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi",
    "status-two-digits": b"HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nhi",
    "version-2": b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nhi",
    "two-lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 5\r\n\r\nhi",
    "length-and-chunked":
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    "negative-length": b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nhi",
    "huge-length": b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\nhi",
    "folded": b"HTTP/1.1 200 OK\r\nX-A: b\r\n c\r\nContent-Length: 2\r\n\r\nhi",
    "nul": b"HTTP/1.1 200 OK\r\nX-A: b\0c\r\nContent-Length: 2\r\n\r\nhi",
    "bare-cr": b"HTTP/1.1 200 OK\r\nX-A: b\rSet-Cookie: a=b\r\nContent-Length: 2\r\n\r\nhi",
    "space-before-colon": b"HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nhi",
    "no-colon": b"HTTP/1.1 200 OK\r\nnonsense\r\nContent-Length: 2\r\n\r\nhi",
    "unknown-coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhi",
    "many-fields": b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(2000)) + b"\r\n",
    "long-field": b"HTTP/1.1 200 OK\r\nX-A: " + b"y" * 100_000 + b"\r\n\r\n",
    "endless-head": b"HTTP/1.1 200 OK\r\n" + b"X-A: y\r\n" * 50_000,
    "unasked-101": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "binary": bytes(range(256)) * 8,
    "nothing": b"",
}
# These break after a good head, so the caller has its 200 already and must see a broken body.
BROKEN_BODY = {
    "bad-chunk-size": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhi\r\n0\r\n\r\n",
    "huge-chunk-size": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"f" * 17 + b"\r\nhi\r\n",
    "no-chunk-end": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhixx0\r\n\r\n",
}


class Request:
    def __init__(self, method, target, fields):
        self.method, self.target, self.fields = method, target, fields
        parts = urllib.parse.urlsplit(target)
        self.path = parts.path
        self.query = dict(urllib.parse.parse_qsl(parts.query))

    def values(self, name):
        return [value for field, value in self.fields if field.lower() == name]


async def read_request(reader):
    """One request head, or None at the end of the connection. Notes what no proxy may send."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except (asyncio.IncompleteReadError, ConnectionError) as ended:
        if getattr(ended, "partial", b""):
            anomalies.append(f"connection ended inside a head: {ended.partial[:200]!r}")
        return None
    lines = head[:-4].split("\r\n")
    words = lines[0].split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        anomalies.append(f"request line {lines[0]!r}")
        return None
    fields = []
    for line in lines[1:]:
        name, _, value = line.partition(":")
        fields.append((name, value.strip()))
        if name != name.strip() or not name or "\n" in line or "\r" in line or "\0" in line:
            anomalies.append(f"field line {line!r}")
    request = Request(words[0], words[1], fields)
    requests_seen.append(f"{request.method} {request.target}")
    lengths, codings = request.values("content-length"), request.values("transfer-encoding")
    if len(lengths) + len(codings) > 1 or (codings and codings != ["chunked"]):
        anomalies.append(f"framing {lengths} {codings} of {lines[0]!r}")
    if len(request.values("host")) != 1:
        anomalies.append(f"{len(request.values('host'))} Host fields in {lines[0]!r}")
    return request


async def body_of(request, reader, trailers):
    """The decoded body, piece by piece."""
    if request.values("transfer-encoding"):
        while True:
            size = int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)
            if size == 0:
                break
            while size:
                piece = await reader.read(min(size, 256 * 1024))
                if not piece:
                    raise ConnectionError("body cut")
                size -= len(piece)
                yield piece
            await reader.readexactly(2)
        while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
            name, _, value = line.decode("latin-1").partition(":")
            trailers[name.lower()] = value.strip()
    else:
        left = int((request.values("content-length") or ["0"])[0])
        while left:
            piece = await reader.read(min(left, 256 * 1024))
            if not piece:
                raise ConnectionError("body cut")
            left -= len(piece)
            yield piece


def head(status, reason, *fields):
    return (f"HTTP/1.1 {status} {reason}\r\n" + "".join(f"{f}\r\n" for f in fields) + "\r\n").encode()


def sized(body, *fields, status=200, reason="OK"):
    return head(status, reason, f"Content-Length: {len(body)}", *fields) + body


async def serve_http(reader, writer):
    global open_streams
    open_streams += 1
    try:
        while (request := await read_request(reader)) is not None:
            if not await answer(request, reader, writer):
                break
            await writer.drain()
    except (ConnectionError, asyncio.IncompleteReadError):
        pass
    finally:
        open_streams -= 1
        writer.close()


async def answer(request, reader, writer):
    """Writes the answer; False when the connection must end."""
    query, trailers = request.query, {}
    body = body_of(request, reader, trailers)
    if request.path == "/early":
        writer.write(sized(b"no\n", "Connection: close", status=403, reason="Forbidden"))
        await writer.drain()
        return False
    if "100-continue" in [value.lower() for value in request.values("expect")]:
        writer.write(head(100, "Continue"))
    if request.path == "/echo":
        chunked = bool(request.values("transfer-encoding"))
        length = (request.values("content-length") or ["0"])[0]
        writer.write(head(200, "OK", "Content-Type: application/octet-stream",
                          "Transfer-Encoding: chunked" if chunked else f"Content-Length: {length}"))
        async for piece in body:
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
            await writer.drain()
        if chunked:
            writer.write(b"0\r\n\r\n")
        return True
    if request.path == "/upload":
        digest, count = hashlib.sha256(), 0
        async for piece in body:
            digest.update(piece)
            count += len(piece)
        writer.write(sized(json.dumps({"bytes": count, "sha256": digest.hexdigest(),
                                       "trailers": trailers}).encode(),
                           "Content-Type: application/json"))
        return True
    if request.path == "/records" and request.method == "PUT":
        check = records.Check(int(query["stream"]))
        async for piece in body:
            check.take(piece)
        writer.write(sized(json.dumps({"good": check.good, "wrong": check.wrong}).encode(), "Content-Type: application/json"))
        return True
    received = b"".join([piece async for piece in body])
    if request.path == "/hello":
        writer.write(sized(b"" if request.method == "HEAD" else b"hello\n", "Content-Type: text/plain")
                     if request.method != "HEAD" else head(200, "OK", "Content-Length: 6"))
    elif request.path == "/request":
        writer.write(sized(json.dumps({"method": request.method, "target": request.target,
                                       "fields": request.fields, "trailers": trailers,
                                       "body": received.decode("latin-1")}).encode(),
                           "Content-Type: application/json", "Connection: X-Hop", "X-Hop: secret",
                           "Keep-Alive: timeout=5", "X-Kept: yes"))
    elif request.path == "/execute":
        executions[query["id"]] += 1
        if query.get("then") == "close":
            return False
        if query.get("then") == "hang":
            await reader.read(1)
            return False
        if "gate" in query:
            await gates[query["gate"]].acquire()
        writer.write(sized(b"done\n"))
    elif request.path == "/download":
        left, chunked = int(query["bytes"]), "chunked" in query
        writer.write(head(200, "OK", "Transfer-Encoding: chunked" if chunked else f"Content-Length: {left}"))
        while left:
            piece = BLOCK if left >= len(BLOCK) else BLOCK[:left]
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
            await writer.drain()
            left -= len(piece)
        if chunked:
            writer.write(b"0\r\n\r\n")
    elif request.path == "/records":
        left, first = int(query["count"]), 0
        writer.write(head(200, "OK", f"Content-Length: {left * records.SIZE}"))
        while left:
            now = min(left, 1024)
            writer.write(records.records(int(query["stream"]), now, first))
            await writer.drain()
            left, first = left - now, first + now
    elif request.path == "/events":
        writer.write(head(200, "OK", "Content-Type: text/event-stream", "Transfer-Encoding: chunked"))
        for number in range(int(query["count"])):
            await gates[query["gate"]].acquire()
            event = f"id: {number}\ndata: tick {number}\n\n".encode()
            writer.write(b"%x\r\n%b\r\n" % (len(event), event))
            await writer.drain()
        writer.write(b"0\r\n\r\n")
    elif request.path == "/slow":
        gone = asyncio.ensure_future(reader.read(1))
        opened = asyncio.ensure_future(gates[query["gate"]].acquire())
        await asyncio.wait({gone, opened}, return_when=asyncio.FIRST_COMPLETED)
        for task in (gone, opened):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        writer.write(sized(b"at last\n", "Connection: close"))
        await writer.drain()
        return False
    elif request.path == "/stall":
        writer.write(head(200, "OK", "Content-Length: 8") + b"half")
        await writer.drain()
        await gates[query["gate"]].acquire()
        writer.write(b"done")
    elif request.path == "/drip":
        writer.write(head(200, "OK", "Transfer-Encoding: chunked"))
        for number in range(int(query["bytes"])):
            writer.write(b"1\r\n%c\r\n" % (97 + number % 26))
            await writer.drain()
            await asyncio.sleep(0)
        writer.write(b"0\r\n\r\n")
    elif request.path == "/trailers":
        writer.write(head(200, "OK", "Transfer-Encoding: chunked", "Trailer: X-Checksum"))
        writer.write(b"5\r\nhello\r\n0\r\nX-Checksum: abc123\r\n\r\n")
    elif request.path == "/cut":
        if query["framing"] == "sized":
            writer.write(head(200, "OK", "Content-Length: 1000") + b"only this")
        else:
            writer.write(head(200, "OK", "Transfer-Encoding: chunked") + b"9\r\nonly this\r\n")
        await writer.drain()
        return False
    elif request.path == "/until-close":
        writer.write(head(200, "OK", "Connection: close") + b"ends with the connection")
        await writer.drain()
        return False
    elif request.path == "/interim":
        writer.write(head(103, "Early Hints", "Link: </style.css>; rel=preload"))
        await writer.drain()
        writer.write(sized(b"final\n"))
    elif request.path.startswith("/status/"):
        status = int(request.path.rsplit("/", 1)[1])
        if status in (204, 304):
            writer.write(head(status, "Nothing", 'ETag: "v1"'))
        else:
            writer.write(sized(b"" if request.method == "HEAD" else b"body\n", status=status, reason="Chosen"))
    elif request.path.startswith("/malformed/"):
        kind = request.path.rsplit("/", 1)[1]
        writer.write({**MALFORMED, **BROKEN_BODY}[kind])
        await writer.drain()
        return False
    else:
        writer.write(sized(b"no such path\n", status=404, reason="Not Found"))
    return True


async def serve_echo(reader, writer):
    with contextlib.suppress(ConnectionError):
        while piece := await reader.read(256 * 1024):
            writer.write(piece)
            await writer.drain()
    writer.close()


async def serve_digest(reader, writer):
    digest, count = hashlib.sha256(), 0
    with contextlib.suppress(ConnectionError):
        while piece := await reader.read(256 * 1024):
            digest.update(piece)
            count += len(piece)
        writer.write(f"{count} {digest.hexdigest()}\n".encode())
        await writer.drain()
    writer.close()


async def serve_source(reader, writer):
    with contextlib.suppress(ConnectionError, ValueError):
        left = int(await reader.readline())
        while left:
            piece = BLOCK if left >= len(BLOCK) else BLOCK[:left]
            writer.write(piece)
            await writer.drain()
            left -= len(piece)
    writer.close()


async def serve_records(reader, writer):
    with contextlib.suppress(ConnectionError, ValueError):
        stream, left = map(int, (await reader.readline()).split())
        first = 0
        while left:
            now = min(left, 1024)
            writer.write(records.records(stream, now, first))
            await writer.drain()
            left, first = left - now, first + now
    writer.close()


async def serve_flood(reader, writer):
    with contextlib.suppress(ConnectionError):
        while True:
            writer.write(BLOCK)
            await writer.drain()
    writer.close()


async def serve_websocket(websocket):
    with contextlib.suppress(websockets.ConnectionClosed):
        async for message in websocket:
            await websocket.send(message)


async def serve_control(reader, writer):
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        method, target, _ = (await reader.readuntil(b"\r\n\r\n")).decode().split(" ", 2)
        result = {}
        if method == "POST" and target.startswith("/gate/"):
            gates[target[6:]].release()
        elif method == "POST" and target == "/forget":
            executions.clear()
            requests_seen.clear()
            anomalies.clear()
        else:
            result = {"/executions": executions, "/requests": requests_seen, "/anomalies": anomalies,
                      "/open": open_streams}[target]
        writer.write(sized(json.dumps(result).encode(), "Connection: close"))
        await writer.drain()
    writer.close()


async def main():
    # The ports of an earlier run, so that a restarted service is found where it was.
    wanted = collections.defaultdict(int, json.loads(sys.argv[1]) if len(sys.argv) > 1 else {})
    limit = {"limit": 1 << 20}
    servers = {
        "http": await asyncio.start_server(serve_http, "127.0.0.1", wanted["http"], backlog=1024, **limit),
        "tcp_echo": await asyncio.start_server(serve_echo, "127.0.0.1", wanted["tcp_echo"], backlog=1024, **limit),
        "tcp_digest": await asyncio.start_server(serve_digest, "127.0.0.1", wanted["tcp_digest"], **limit),
        "tcp_source": await asyncio.start_server(serve_source, "127.0.0.1", wanted["tcp_source"], **limit),
        "tcp_records": await asyncio.start_server(serve_records, "127.0.0.1", wanted["tcp_records"], **limit),
        "tcp_flood": await asyncio.start_server(serve_flood, "127.0.0.1", wanted["tcp_flood"], **limit),
        "websocket": await websockets.serve(serve_websocket, "127.0.0.1", wanted["websocket"],
                                            max_size=16 << 20, ping_interval=None),
        "control": await asyncio.start_server(serve_control, "127.0.0.1", wanted["control"], **limit),
    }
    print(json.dumps({name: server.sockets[0].getsockname()[1] for name, server in servers.items()}),
          flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
