#!/usr/bin/python3
"""Sends bytes through a stream of the tunnel to an echo service and compares what comes back.

    stream.py URL CERTIFICATE AUTHORIZATION_FILE BYTES

URL is wss://host:port/ws/<service>. The file holds one header line, "Authorization: Bearer …", so that the
token is in no command line. Standard library only: this is all a WebSocket client needs to use the tunnel.
"""

import base64
import hashlib
import os
import socket
import ssl
import struct
import sys
import urllib.parse


def frame(payload, opcode=2):
    """One masked frame, as RFC 6455 section 5.2 wants it of clients."""
    key = os.urandom(4)
    length = len(payload)
    head = struct.pack(">BBH", 0x80 | opcode, 0x80 | 126, length) if length > 125 else bytes([0x80 | opcode, 0x80 | length])
    mask = int.from_bytes((key * (length // 4 + 1))[:length], "big")
    masked = (int.from_bytes(payload, "big") ^ mask).to_bytes(length, "big") if length else b""
    return head + key + masked


class Stream:
    def __init__(self, url, certificate, authorization):
        target = urllib.parse.urlsplit(url)
        raw = socket.create_connection((target.hostname, target.port), timeout=30)
        self.socket = ssl.create_default_context(cafile=certificate).wrap_socket(raw, server_hostname=target.hostname)
        self.read = self.socket.makefile("rb")
        nonce = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall((f"GET {target.path} HTTP/1.1\r\nHost: {target.netloc}\r\n{authorization}\r\n"
                             "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                             f"Sec-WebSocket-Key: {nonce}\r\n\r\n").encode())
        status = self.read.readline().decode().strip()
        if " 101 " not in status:
            raise SystemExit(f"stream: the tunnel answered {status}")
        while self.read.readline().strip():
            pass

    def send(self, data):
        for at in range(0, len(data), 32768):
            self.socket.sendall(frame(data[at:at + 32768]))

    def receive(self, count):
        received = bytearray()
        while len(received) < count:
            first, length = self.read.read(2)
            if length == 126:
                length = struct.unpack(">H", self.read.read(2))[0]
            elif length == 127:
                length = struct.unpack(">Q", self.read.read(8))[0]
            payload = self.read.read(length)
            if first & 0x0F == 8:
                raise SystemExit(f"stream: closed with {struct.unpack('>H', payload[:2])[0]}")
            if first & 0x0F in (0, 2):
                received += payload
        return bytes(received)


def main(url, certificate, authorization_file, count):
    with open(authorization_file, encoding="ascii") as file:
        stream = Stream(url, certificate, file.read().strip())
    sent = os.urandom(int(count))
    received = b""
    # In turns: Python's TLS sockets bear no second thread.
    for at in range(0, len(sent), 65536):
        part = sent[at:at + 65536]
        stream.send(part)
        received += stream.receive(len(part))
    stream.socket.sendall(frame(struct.pack(">H", 1000), opcode=8))
    if received != sent:
        raise SystemExit("stream: what came back differs from what was sent")
    print(hashlib.sha256(received).hexdigest())


if __name__ == "__main__":
    main(*sys.argv[1:])
