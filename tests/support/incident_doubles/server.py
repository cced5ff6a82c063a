"""What the doubles share: HTTP in a thread, faults, a log."""

import datetime
import http.server
import json
import re
import socket
import threading
import urllib.parse


class Answer(Exception):
    """Ends a request with that answer."""

    def __init__(self, status, body=None, headers=None):
        super().__init__(status)
        self.status, self.body, self.headers = status, body, headers or {}


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    double = None


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def _any(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        answer = self.server.double.take(self.command, self.path, dict(self.headers.items()), body)
        if answer is None:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        page = isinstance(answer.body, str)
        text = answer.body.encode() if page else b"" if answer.body is None else json.dumps(answer.body).encode()
        self.send_response(answer.status)
        for name, value in {"Content-Type": "text/html" if page else "application/json; charset=utf-8",
                            **answer.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = _any


class Double:
    """A service with `answer(method, path, query, headers, body)`, which returns or raises an Answer."""

    def __init__(self):
        self.log, self.port = [], 0
        self._faults, self._lock, self._server = [], threading.Lock(), None

    def __enter__(self):
        self.up()
        return self

    def __exit__(self, *_):
        self.down()

    def up(self):
        self._server = _Server(("127.0.0.1", self.port), _Handler)
        self._server.double = self
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def down(self):
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def fault(self, **given):
        self._faults.append({"method": "", "path": "", "nth": 1, "count": 1, "met": 0, "spoiled": 0, **given})

    def no_faults(self):
        self._faults = []

    def _spoilt(self, method, path):
        for one in self._faults:
            if not re.search(one["method"], method) or not re.search(one["path"], path):
                continue
            one["met"] += 1
            if one["met"] >= one["nth"] and (not one["count"] or one["spoiled"] < one["count"]):
                one["spoiled"] += 1
                return one
        return None

    def take(self, method, path, headers, body):
        """The answer; None breaks the connection."""
        with self._lock:
            at = urllib.parse.urlsplit(path)
            self.log.append((method, path, body.decode("utf-8", "replace"), headers))
            fault = self._spoilt(method, path)
            answer = None
            if fault is None or fault.get("applied"):
                try:
                    answer = self.answer(method, urllib.parse.unquote(at.path), urllib.parse.parse_qs(at.query),
                                         headers, body)
                except Answer as ended:
                    answer = ended
            if fault is None:
                return answer
            return None if fault.get("close") else Answer(fault["status"], fault.get("body", {"message": "injected"}),
                                                          fault.get("headers"))

    def answer(self, method, path, query, headers, body):
        raise NotImplementedError


def header(headers, name):
    return next((value for key, value in headers.items() if key.lower() == name.lower()), "")


def now():
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
