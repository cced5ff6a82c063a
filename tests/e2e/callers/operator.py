"""An operator at the admin listener, with a token of scope tunnel:admin."""

import contextlib
import http.client
import json
import urllib.parse


class Reply:
    """What the admin listener answered."""

    def __init__(self, status, fields, text):
        self.status, self.fields, self.text = status, fields, text

    def value(self, name):
        return next((value for field, value in self.fields if field.lower() == name.lower()), None)

    def json(self):
        return json.loads(self.text)

    @property
    def code(self):
        """TUNNEL_0NN of a refusal."""
        return self.json()["error"]["code"]

    def expect(self, status):
        assert self.status == status, f"expected {status}: {self}"
        return self

    def __repr__(self):
        return f"<{self.status} {self.fields} {self.text[:600]}>"


class Operator:
    """`token` None: what an admin page says to somebody without one."""

    def __init__(self, daemon, token=None):
        self.daemon = daemon
        self.token = token

    @classmethod
    def of(cls, daemon, subject="root"):
        return cls(daemon, daemon.token(subject, "free", scope="tunnel:admin"))

    def ask(self, method, path, body=None, *, raw=None, headers=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.daemon.admin_port, timeout=20)
        fields = {**({"Authorization": f"Bearer {self.token}"} if self.token else {}), **(headers or {})}
        if raw is None and body is not None:
            raw, fields["Content-Type"] = json.dumps(body).encode(), "application/json"
        try:
            connection.request(method, path, body=raw, headers=fields)
            answer = connection.getresponse()
            return Reply(answer.status, answer.getheaders(), answer.read().decode())
        finally:
            connection.close()

    def get(self, path, **query):
        return self.ask("GET", path + ("?" + urllib.parse.urlencode(query) if query else ""))

    # The pages the tests use most.

    def breakers(self):
        return self.get("/api/tunnel/circuit-breakers").expect(200).json()["breakers"]

    def reset_breaker(self, which):
        return self.ask("POST", f"/api/tunnel/circuit-breakers/{which}/reset")

    def connections(self):
        return self.get("/api/tunnel/connections").expect(200).json()["connections"]

    def diagnostics(self):
        return self.get("/api/tunnel/diagnostics").expect(200).json()

    def config(self):
        return self.get("/api/tunnel/config").expect(200).json()

    def configure(self, changes, *, etag=None):
        """Puts them with the ETag of now, or with the one given."""
        etag = etag or self.get("/api/tunnel/config").expect(200).value("ETag")
        return self.ask("PUT", "/api/tunnel/config", changes, headers={"If-Match": etag})

    def revoke(self, **what):
        return self.ask("POST", "/api/tunnel/revocations", what)

    # Events.

    def events(self, after=0, limit=1000):
        return self.get("/api/tunnel/events", after=after, limit=limit).expect(200).json()["events"]

    def kinds(self, after=0):
        return [event["kind"] for event in self.events(after)]

    def last_event(self):
        return self.get("/api/tunnel/events", after=0, limit=1).expect(200).json()["last"]

    @contextlib.contextmanager
    def stream(self, last_event_id=None, **query):
        """Server-sent events as they come: an EventStream."""
        connection = http.client.HTTPConnection("127.0.0.1", self.daemon.admin_port, timeout=20)
        headers = {"Authorization": f"Bearer {self.token}", "Accept": "text/event-stream"}
        if last_event_id is not None:
            headers["Last-Event-ID"] = str(last_event_id)
        try:
            connection.request("GET", "/api/tunnel/events" + ("?" + urllib.parse.urlencode(query) if query else ""),
                               headers=headers)
            yield EventStream(connection.getresponse())
        finally:
            connection.close()


class EventStream:
    """Reads text/event-stream (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

    def __init__(self, answer):
        self.status, self.answer = answer.status, answer
        self.content_type = answer.getheader("Content-Type")

    def next(self):
        """(id, kind, data as JSON), or None at the stream's end."""
        fields = {}
        while line := self.answer.readline():
            line = line.decode().rstrip("\r\n")
            if not line and "data" in fields:
                return int(fields["id"]), fields["event"], json.loads(fields["data"])
            if not line or line.startswith(":"):
                continue
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        return None
