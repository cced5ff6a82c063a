"""A Prometheus that answers as a test says: enough for `tunnelctl monitor verify` and the Grafana double."""

import http.server
import json
import threading
import time
import urllib.parse


class FakePrometheus:
    """Every query has one series, but for those that contain a word of `empty` (none) or `broken` (an error).

    `asked` are the queries in their order. `rules` stand at /api/v1/rules: (group, name, health, lastError).
    """

    def __init__(self):
        self.empty, self.broken, self.rules, self.asked = set(), set(), [], []
        self.delay = 0.0
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"fake": self}))
        self._server.daemon_threads = True
        self.url = "http://127.0.0.1:%d" % self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()

    def answer(self, path, given):
        if path.startswith("/api/v1/query"):
            return self._query(path, given)
        if path == "/api/v1/rules":
            return 200, {"groups": [{"name": group, "file": "f", "interval": 30, "rules": [
                {"type": "alerting", "name": name, "query": "up", "health": health, "lastError": error,
                 "state": "inactive", "alerts": [], "labels": {}, "annotations": {}, "duration": 0,
                 "lastEvaluation": "2026-01-02T03:04:05Z", "evaluationTime": 0.001}]}
                for group, name, health, error in self.rules]}
        if path == "/api/v1/targets":
            return 200, {"activeTargets": [], "droppedTargets": []}
        if path.startswith("/api/v1/label/"):
            return 200, ["127.0.0.1:9100"]
        if path == "/api/v1/status/buildinfo":
            return 200, {"version": "2.53.0"}
        return 200, []

    def _query(self, path, given):
        query = given.get("query", [""])[0]
        self.asked.append(query)
        time.sleep(self.delay)  # what a test asked for
        if any(word in query for word in self.broken):
            return 422, f"the query {query} is broken"
        series = not any(word in query for word in self.empty)
        now = time.time()
        labels = {"__name__": "x", "instance": "127.0.0.1:9100", "job": "e2e"}
        if path == "/api/v1/query":
            return 200, {"resultType": "vector", "result": [{"metric": labels, "value": [now, "1"]}] if series else []}
        points = [[now - 60, "1"], [now, "2"]]
        return 200, {"resultType": "matrix", "result": [{"metric": labels, "values": points}] if series else []}


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    fake = None

    def _serve(self):
        path, _, query = self.path.partition("?")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        status, data = self.fake.answer(path, urllib.parse.parse_qs(query or body))
        answer = {"status": "success", "data": data} if status == 200 else {
            "status": "error", "errorType": "execution", "error": data}
        text = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = _serve

    def log_message(self, *_):
        pass
