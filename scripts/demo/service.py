#!/usr/bin/python3
"""The sample service behind the tunnel: a web page, an upload counter, a clock, and a TCP echo.

Started by scripts/run. Prints "<web port> <echo port>" once both listen on loopback; ends with SIGTERM. The
ports may be given, for a service that comes back where it was.

    GET  /          a greeting, with what the tunnel says about the caller
    PUT  /upload    the size and SHA-256 of the body, which is read as it comes
    GET  /clock     server-sent events, one a second
    GET  /file      96 MiB over some three seconds, with their SHA-256 in the field X-SHA256
"""

import hashlib
import http.server
import json
import random
import socketserver
import sys
import threading
import time


PIECE = random.Random(1).randbytes(1 << 20)
PIECES = 96
PIECES_A_SECOND = 32


class Pages(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/":
            self.answer(f"Hello from behind the tunnel.\n"
                        f"You came from {self.headers.get('X-Forwarded-For')} by "
                        f"{self.headers.get('X-Forwarded-Proto')}; "
                        f"your token stayed with tunneld: {'Authorization' not in self.headers}.\n")
        elif self.path == "/clock":
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Connection", "close")
            self.end_headers()
            try:
                while True:
                    self.wfile.write(time.strftime("data: %H:%M:%S\n\n").encode())
                    time.sleep(1)
            except OSError:
                self.close_connection = True
        elif self.path == "/file":
            self.send_response(200)
            self.send_header("Content-Type", "application/octet-stream")
            self.send_header("Content-Length", str(PIECES * len(PIECE)))
            self.send_header("X-SHA256", hashlib.sha256(PIECE * PIECES).hexdigest())
            self.end_headers()
            for _ in range(PIECES):
                self.wfile.write(PIECE)
                time.sleep(1 / PIECES_A_SECOND)
        else:
            self.answer("no such page\n", 404)

    def do_PUT(self):
        digest, count = hashlib.sha256(), 0
        for piece in self.body():
            digest.update(piece)
            count += len(piece)
        self.answer(json.dumps({"bytes": count, "sha256": digest.hexdigest()}) + "\n")

    def body(self):
        """The body's pieces, whichever way it is framed."""
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline().split(b";")[0], 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass  # trailers
            return
        left = int(self.headers.get("Content-Length", 0))
        while left and (piece := self.rfile.read(min(left, 1 << 18))):
            left -= len(piece)
            yield piece

    def answer(self, text, status=200):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while piece := self.request.recv(1 << 16):
            self.request.sendall(piece)


class EchoServer(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


def main(web_port=0, echo_port=0):
    web = http.server.ThreadingHTTPServer(("127.0.0.1", int(web_port)), Pages)
    echo = EchoServer(("127.0.0.1", int(echo_port)), Echo)
    threading.Thread(target=echo.serve_forever, daemon=True).start()
    print(web.server_address[1], echo.server_address[1], flush=True)
    web.serve_forever()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
