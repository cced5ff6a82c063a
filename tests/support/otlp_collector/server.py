#!/usr/bin/python3
"""Serves the double over HTTP: prints its URL, ends on SIGTERM."""

import argparse
import gzip
import http.server
import json
import pathlib
import signal
import sys
import threading
import zlib

if __package__ in (None, ""):  # run as a script
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
    __package__ = "otlp_collector"
    import otlp_collector  # noqa: F401

from google.protobuf.message import DecodeError

from . import messages

PATH = "/v1/traces"
PROTOBUF = "application/x-protobuf"
MOST_BODY = 64 * 1024 * 1024  # what the specification recommends
_STEP = {"status", "headers", "message", "partial", "hang", "close", "body", "content_type", "count"}


class Collector:
    """What came, and how the next requests are to be answered."""

    def __init__(self):
        self.lock = threading.Condition()  # held by whoever touches the rest
        self.generation = 0
        self.forget()

    def forget(self):
        self.spans, self.requests, self.complaints, self.steps = [], [], [], []

    def reset(self):
        self.forget()
        self.generation += 1
        self.lock.notify_all()

    def add_steps(self, given):
        for step in given:
            unknown = step.keys() - _STEP
            if unknown:
                raise ValueError(f"unknown in a step: {', '.join(sorted(unknown))}")
        self.steps += [{"count": 1, **step} for step in given]

    def next_step(self):
        """The step that the present request has to follow; {} for a good answer."""
        if not self.steps:
            return {}
        step = self.steps[0]
        if step["count"] == 1:
            self.steps.pop(0)
        elif step["count"]:
            step["count"] -= 1
        return step

    def hang(self):
        """Until the next reset."""
        generation = self.generation
        self.lock.wait_for(lambda: self.generation != generation)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    collector = None

    def do_POST(self):
        length = int(self.headers.get("Content-Length") or 0)
        if length > MOST_BODY:
            self.close_connection = True
            return self._refuse(413, "request body too large")
        body = self.rfile.read(length)
        if self.path.startswith("/_double/"):
            return self._control(body)
        return self._export(body)

    def do_GET(self):
        if self.path.startswith("/_double/"):
            return self._control(b"")
        if self.path == PATH:
            return self._refuse(405, "405 method not allowed, supported: [POST]")
        return self._refuse(404, "404 page not found")

    do_PUT = do_DELETE = do_PATCH = do_GET

    # Traces -------------------------------------------------------------------------------------

    def _export(self, body):
        collector = self.collector
        with collector.lock:
            entry = {"path": self.path, "headers": {name.lower(): value for name, value in self.headers.items()},
                     "bytes": len(body), "spans": 0, "status": 0}
            collector.requests.append(entry)
            step = collector.next_step()
            if step.get("hang"):
                collector.hang()
            if step.get("hang") or step.get("close"):
                self.close_connection = True
                return
            status, answer, content_type = self._answer(step, entry, body)
            entry["status"] = status
        self._send(status, answer, content_type, step.get("headers", {}))

    def _answer(self, step, entry, body):
        """Status, body and content type; takes the spans if they are taken."""
        if "status" in step and step["status"] >= 300:
            return step["status"], messages.status(step.get("message", "scripted")), PROTOBUF
        if self.path != PATH:
            return 404, messages.status("404 page not found"), PROTOBUF
        kind = (self.headers.get("Content-Type") or "").split(";")[0].strip().lower()
        if kind != PROTOBUF:
            return 415, f"415 unsupported media type, supported: [{PROTOBUF}]".encode(), "text/plain"
        try:
            request = messages.ExportRequest.FromString(_decoded(body, self.headers.get("Content-Encoding")))
        except (DecodeError, ValueError, OSError, EOFError, zlib.error) as wrong:
            return 400, messages.status(f"cannot decode the request: {wrong}"), PROTOBUF
        spans = messages.flattened(request)
        entry["spans"] = len(spans)
        self.collector.complaints += messages.complaints(request)
        response = messages.ExportResponse()
        if partial := step.get("partial"):
            response.partial_success.rejected_spans = partial.get("rejected", 0)
            response.partial_success.error_message = partial.get("message", "")
            spans = spans[:max(len(spans) - partial.get("rejected", 0), 0)]
        self.collector.spans += spans
        if "body" in step:
            return step.get("status", 200), step["body"].encode(), step.get("content_type", PROTOBUF)
        return step.get("status", 200), response.SerializeToString(), PROTOBUF

    def _refuse(self, status, message):
        self._send(status, messages.status(message), PROTOBUF, {})

    # Steering -----------------------------------------------------------------------------------

    def _control(self, body):
        name, collector = self.path.removeprefix("/_double/"), self.collector
        status, result = 200, {}
        with collector.lock:
            if (self.command, name) in (("GET", "spans"), ("GET", "requests"), ("GET", "complaints"), ("GET", "steps")):
                result = getattr(collector, name)
            elif (self.command, name) == ("POST", "reset"):
                collector.reset()
            elif (self.command, name) == ("POST", "script"):
                try:
                    given = json.loads(body)
                    collector.add_steps(given if isinstance(given, list) else [given])
                except (ValueError, AttributeError, TypeError) as wrong:  # a test's own mistake
                    status, result = 400, {"error": str(wrong)}
            else:
                status, result = 404, {"error": f"no {self.command} {self.path}"}
            text = json.dumps(result).encode()
        self._send(status, text, "application/json", {})

    def _send(self, status, body, content_type, headers):
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def _decoded(body, coding):
    if coding in (None, "", "identity"):
        return body
    if coding == "gzip":
        return gzip.decompress(body)
    raise ValueError(f"unsupported Content-Encoding {coding}")


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        """Callers that have left are no news."""


def serve(port=0):
    """A server that is listening, and its collector; the caller runs serve_forever()."""
    collector = Collector()
    return Server(("127.0.0.1", port), type("BoundHandler", (Handler,), {"collector": collector})), collector


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    server, _ = serve(parser.parse_args().port)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    print("http://127.0.0.1:%d" % server.server_address[1], flush=True)
    server.serve_forever(poll_interval=0.05)
    server.server_close()


if __name__ == "__main__":
    main()
