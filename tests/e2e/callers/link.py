"""The wire format of docs/api/links.md by hand: the resume layer over a WebSocket, and yamux over that."""

import collections
import hashlib
import hmac
import json
import os
import socket
import struct
import threading

from .raw_websocket import RawWebSocket, frame

CHALLENGE, HELLO, WELCOME, DATA, ACK, GONE = range(6)
DATA_FRAME, WINDOW_UPDATE, PING, GO_AWAY = range(4)
SYN, ACKED, FIN, RST = 1, 2, 4, 8
PROTOCOL = "Sec-WebSocket-Protocol: tunnel.v1"
NO_SESSION = bytes(16)


class Refused(Exception):
    """The upgrade was answered with something else than 101."""

    def __init__(self, answer):
        super().__init__(repr(answer))
        self.status = answer.status
        self.code = json.loads(answer.body)["error"]["code"] if answer.body else None


class Closed(Exception):
    """The WebSocket was closed; the last reason of a GONE frame, if there was one."""

    def __init__(self, code, reason, gone):
        super().__init__(f"{code} {reason!r} gone={gone!r}")
        self.code, self.reason, self.gone = code, reason, gone


def link_frame(kind, payload=b""):
    return bytes([kind]) + len(payload).to_bytes(3, "big") + payload


class Link:
    """One link, over as many WebSockets as the test likes. Nothing runs by itself: what the server sent is
    looked at in the reads."""

    def __init__(self, daemon, token, *, tls=False, path="/ws", protocol=PROTOCOL):
        self.daemon, self.token, self.tls, self.path, self.protocol = daemon, token, tls, path, protocol
        self.session, self.secret, self.window = NO_SESSION, bytes(32), None
        self.received = 0  # offset of the next byte wanted
        self.sent = bytearray()  # kept for a replay, from offset `kept`
        self.kept = 0
        self.socket = None
        self.gone = None
        self.incoming = bytearray()  # the link's bytes, not yet taken
        self.frames = bytearray()
        self.books = threading.RLock()  # of what is sent and kept, where several threads write

    # WebSocket

    def upgrade(self, *fields):
        self.socket = RawWebSocket(self.daemon.connect(tls=self.tls))
        self.frames.clear()
        head = self.socket.open(self.path, self.token, self.protocol, *fields)
        if head.status != 101:
            head.body = self.socket.read_exactly(int(head.value("Content-Length") or 0))
            raise Refused(head)
        return head

    def cut(self):
        """Also for who reads in another thread."""
        try:
            self.socket.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.socket.socket.close()

    def send_raw(self, payload):
        self.socket.send(frame(payload))

    # Resume layer

    def next_frame(self):
        while True:
            if len(self.frames) >= 4:
                size = int.from_bytes(self.frames[1:4], "big")
                if len(self.frames) >= 4 + size:
                    kind, payload = self.frames[0], bytes(self.frames[4:4 + size])
                    del self.frames[:4 + size]
                    return kind, payload
            opcode, payload = self.socket.read_frame()
            if opcode == 8:
                code = struct.unpack(">H", payload[:2])[0] if payload else 1005
                self.socket.send(frame(payload[:2], opcode=8))
                raise Closed(code, payload[2:].decode(), self.gone)
            if opcode == 9:
                self.socket.send(frame(payload, opcode=10))
            elif opcode in (0, 2):
                self.frames += payload

    def challenge(self):
        kind, payload = self.next_frame()
        assert kind == CHALLENGE and payload[0] == 1 and len(payload) == 17, (kind, payload)
        return payload[1:]

    def hello(self, nonce, *, secret=None, received=None):
        offset = struct.pack(">Q", self.received if received is None else received)
        proof = bytes(32)
        if self.session != NO_SESSION:
            proof = hmac.new(secret or self.secret, nonce + self.session + offset, hashlib.sha256).digest()
        self.send_raw(link_frame(HELLO, b"\x01" + self.session + offset + proof))

    def welcome(self):
        """Offset that the server wants."""
        kind, payload = self.next_frame()
        if kind == GONE:
            self.gone = payload.decode()
            kind, payload = self.next_frame()  # raises Closed
        assert kind == WELCOME and len(payload) == 60, (kind, payload)
        assert self.session in (NO_SESSION, payload[:16])
        self.session = payload[:16]
        assert payload[24:56] != self.secret, "each welcome brings another secret"
        self.secret = payload[24:56]
        self.window = struct.unpack(">I", payload[56:])[0]
        return struct.unpack(">Q", payload[16:24])[0]

    def open(self):
        self.upgrade()
        self.hello(self.challenge())
        assert self.welcome() == 0
        return self

    def resume(self, *, secret=None, token=None):
        if token:
            self.token = token
        self.upgrade(f"Tunnel-Session: {self.session.hex()}")
        self.hello(self.challenge(), secret=secret)
        wanted = self.welcome()
        with self.books:
            self.acknowledged(wanted)
            assert self.kept <= wanted <= self.kept + len(self.sent)
            for start in range(0, len(self.sent), 65536):
                piece = bytes(self.sent[start:start + 65536])
                self.send_raw(link_frame(DATA, struct.pack(">Q", self.kept + start) + piece))
        return self

    def acknowledged(self, wanted):
        with self.books:
            if wanted > self.kept:
                del self.sent[:wanted - self.kept]
                self.kept = wanted

    def write(self, data, *, lost=False):
        """`lost`: kept for the replay, and the connection was cut before it was sent."""
        with self.books:
            for start in range(0, len(data), 65536):
                piece = data[start:start + 65536]
                offset = self.kept + len(self.sent)
                self.sent += piece
                if not lost:
                    self.send_raw(link_frame(DATA, struct.pack(">Q", offset) + piece))

    def acknowledge(self):
        self.send_raw(link_frame(ACK, struct.pack(">Q", self.received)))

    def receive(self):
        """Until some of the link's bytes have come."""
        while True:
            kind, payload = self.next_frame()
            if kind == DATA:
                assert struct.unpack(">Q", payload[:8])[0] == self.received, "neither a gap nor a repetition"
                assert len(payload) <= 8 + 65536
                self.received += len(payload) - 8
                self.incoming += payload[8:]
                self.acknowledge()
                return
            if kind == ACK:
                self.acknowledged(struct.unpack(">Q", payload)[0])
            elif kind == GONE:
                self.gone = payload.decode()
            else:
                raise AssertionError(f"frame {kind} {payload!r}")

    def read_exactly(self, count):
        while len(self.incoming) < count:
            self.receive()
        taken = bytes(self.incoming[:count])
        del self.incoming[:count]
        return taken


class Reset(Exception):
    """The stream was broken off."""


class Stream:
    """One yamux stream of a Tunnel."""

    def __init__(self, tunnel, number):
        self.tunnel, self.number = tunnel, number
        self.received = bytearray()
        self.ended = self.reset = False
        self.may_send = 256 * 1024
        self.opened = False

    def flags(self):
        first, self.opened = not self.opened, True
        return SYN if first else 0

    def send(self, data, *, lost=False):
        while data:
            while self.may_send == 0:
                self.tunnel.step()
            piece = data[:min(self.may_send, 65536)]
            data = data[len(piece):]
            self.may_send -= len(piece)
            self.tunnel.send(DATA_FRAME, self.flags(), self.number, len(piece), piece, lost=lost)
        return self

    def end(self):
        self.tunnel.send(DATA_FRAME, self.flags() | FIN, self.number, 0)
        return self

    def break_off(self):
        self.tunnel.send(WINDOW_UPDATE, RST, self.number, 0)

    def read_exactly(self, count):
        while len(self.received) < count:
            if self.reset:
                raise Reset
            assert not self.ended, f"ended after {bytes(self.received[:200])!r}"
            self.tunnel.step()
        return self.take(count)

    def take(self, count):
        taken = bytes(self.received[:count])
        del self.received[:count]
        return taken

    def read_line(self):
        while b"\n" not in self.received:
            if self.reset:
                raise Reset
            assert not self.ended, f"ended after {bytes(self.received[:200])!r}"
            self.tunnel.step()
        return json.loads(self.take(self.received.index(b"\n") + 1))

    def read_to_end(self):
        while not self.ended:
            if self.reset:
                raise Reset
            self.tunnel.step()
        return self.take(len(self.received))

    # Services

    def ask(self, service, *, early=b"", **more):
        self.send(json.dumps({"service": service, **more}).encode() + b"\n" + early)
        return self

    def expect_ok(self):
        answer = self.read_line()
        assert answer == {"ok": True}, answer
        return self

    def refusal(self):
        """(code, the whole error) of a stream that is refused; it must end behind that."""
        error = self.read_line()["error"]
        assert self.read_to_end() == b""
        return error["code"], error


class Tunnel:
    """yamux as a client over a Link; stream 1 is the control stream."""

    def __init__(self, daemon, token, **options):
        self.link = Link(daemon, token, **options)
        self.streams = {}
        self.next_number = 1
        self.pings = collections.Counter()
        self.gone_away = None
        self.control = None

    def open(self):
        self.link.open()
        self.control = self.stream()
        self.control.tunnel.send(WINDOW_UPDATE, self.control.flags(), 1, 0)
        return self

    def greeted(self):
        """Opened, and behind the server's hello."""
        self.open()
        hello = self.control.read_line()
        assert hello["type"] == "hello" and hello["sessionId"] == self.link.session.hex(), hello
        self.hello = hello
        return self

    def send(self, kind, flags, number, length, data=b"", *, lost=False):
        self.link.write(struct.pack(">BBHII", 0, kind, flags, number, length) + data, lost=lost)

    def stream(self):
        made = Stream(self, self.next_number)
        self.streams[self.next_number] = made
        self.next_number += 2
        return made

    def to(self, service, **more):
        """A stream to that service, granted."""
        return self.stream().ask(service, **more).expect_ok()

    def control_message(self, kind=None):
        message = self.control.read_line()
        assert kind in (None, message["type"]), message
        return message

    def tell(self, **message):
        self.control.send(json.dumps(message).encode() + b"\n")

    def step(self):
        """Takes one yamux frame."""
        version, kind, flags, number, length = struct.unpack(">BBHII", self.link.read_exactly(12))
        assert version == 0
        if kind == PING:
            if flags & SYN:
                self.send(PING, ACKED, 0, length)
            return
        if kind == GO_AWAY:
            self.gone_away = length
            return
        stream = self.streams.get(number)
        if kind == DATA_FRAME:
            data = self.link.read_exactly(length)
            if stream and length:
                stream.received += data
                self.send(WINDOW_UPDATE, 0, number, length)
        elif stream:
            stream.may_send += length
        if stream and flags & FIN:
            stream.ended = True
        if stream and flags & RST:
            stream.reset = True

    def closing(self):
        """The Closed that the server's end of the link brings."""
        try:
            while True:
                self.step()
        except Closed as closed:
            return closed

    def __enter__(self):
        return self.greeted()

    def __exit__(self, *_):
        if self.link.socket:
            self.link.cut()


def random_bytes(count):
    return os.urandom(count)
