"""A receiver of webhooks that checks what docs/incidents.md tells receivers to check."""

import hashlib
import hmac
import json
import time

from .server import Answer, Double, header


class Webhook(Double):
    def __init__(self, secret="webhook-secret-for-tests"):
        super().__init__()
        self.secret, self.now = secret, time.time
        self.calls = []  # each once, however often it was sent
        self._seen = {}

    def answer(self, method, path, query, headers, body):
        if method != "POST":
            raise Answer(405, {"message": "POST only"})
        timestamp = header(headers, "X-Tunnel-Timestamp")
        wanted = "sha256=" + hmac.new(self.secret.encode(), timestamp.encode() + b"." + body,
                                      hashlib.sha256).hexdigest()
        if not hmac.compare_digest(wanted, header(headers, "X-Tunnel-Signature")):
            raise Answer(401, {"message": "wrong signature"})
        if abs(self.now() - int(timestamp)) > 300:
            raise Answer(401, {"message": "too old"})
        key, call = header(headers, "Idempotency-Key"), json.loads(body)
        if key not in self._seen:
            self.calls.append(call)
            self._seen[key] = {"id": call["id"], "url": f"https://receiver.example/{len(self.calls)}"}
        return Answer(200, self._seen[key])
