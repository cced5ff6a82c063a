"""PagerDuty: Events API v2 (POST /v2/enqueue) and the REST API's incidents, on one address.

Sources: https://developer.pagerduty.com/docs/events-api-v2/, https://developer.pagerduty.com/api-reference/
"""

import json
import threading
import time

from .server import Answer, Double, header, now

_SEVERITIES = ("critical", "warning", "error", "info")


def _invalid(*errors):
    raise Answer(400, {"status": "invalid event", "message": "Event object is invalid", "errors": list(errors)})


def _refuse(status, message, code):
    raise Answer(status, {"error": {"message": message, "code": code}})


class Pagerduty(Double):
    def __init__(self, routing_key="0123456789abcdef0123456789abcdef", token="pagerduty-token-for-tests"):
        super().__init__()
        self.routing_key, self.token = routing_key, token
        self.lag = 0  #: seconds from an event's answer to what it does, as with the original
        self.events, self.notes = [], []
        self._incidents, self._taken, self._working = [], [], threading.RLock()

    @property
    def incidents(self):
        """With what is due of the events that were taken."""
        with self._working:
            while self._taken and self._taken[0][0] <= time.monotonic():
                self._work(self._taken.pop(0)[1])
            return self._incidents

    def answer(self, method, path, query, headers, body):
        if path == "/v2/enqueue" and method == "POST":
            return self._event(body)
        if header(headers, "Authorization") != "Token token=" + self.token:
            raise Answer(401, {"error": {"message": "Unauthorized", "code": 2006}})
        if method != "GET" and "@" not in header(headers, "From"):
            _refuse(400, "Requester User Not Found", 1008)
        parts = [part for part in path.split("/") if part]
        if parts[:1] != ["incidents"]:
            _refuse(404, "Not Found", 2100)
        if len(parts) == 1:
            return self._list(query)
        one = next((incident for incident in self.incidents if incident["id"] == parts[1]), None)
        if one is None:
            _refuse(404, "Incident Not Found", 2100)
        given = json.loads(body) if body else {}
        if len(parts) == 2 and method == "PUT":
            self._change(one, given["incident"])
        elif parts[2:] == ["notes"] and method == "POST":
            note = {"id": f"PN{len(self.notes)}", "incident": one["id"], "content": given["note"]["content"],
                    "created_at": now(), "user": {"summary": "On-call"}}
            self.notes.append(note)
            return Answer(200, {"note": note})
        elif parts[2:] == ["notes"]:
            mine = [note for note in self.notes if note["incident"] == one["id"]]
            return Answer(200, {"notes": mine[::-1]})
        elif parts[2:] == ["alerts"]:
            return Answer(200, {"alerts": [one["_alert"]], "more": False})
        return Answer(200, {"incident": self._shown(one)})

    @staticmethod
    def _shown(one):
        return {name: value for name, value in one.items() if not name.startswith("_")}

    def _event(self, body):
        if len(body) > 512 * 1024:
            raise Answer(413, {"status": "invalid event", "message": "Event object is too large", "errors": []})
        try:
            event = json.loads(body)
        except ValueError:
            _invalid("JSON is invalid")
        if len(event.get("routing_key", "")) != 32:
            _invalid("Length of 'routing_key' is incorrect (should be 32 characters)")
        if event["routing_key"] != self.routing_key:
            _invalid("Invalid routing key")
        action, key, payload = event.get("event_action"), event.get("dedup_key", ""), event.get("payload", {})
        if len(key) > 255:
            _invalid("Length of 'dedup_key' is incorrect (should be <= 255 characters)")
        if action == "trigger":
            wrong = [f"'payload.{name}' is missing or blank" for name in ("summary", "source", "severity")
                     if not payload.get(name)]
            if wrong or payload["severity"] not in _SEVERITIES or len(payload["summary"]) > 1024:
                _invalid(*(wrong or ["'payload' is invalid"]))
        elif action == "resolve":
            if not key:
                _invalid("'dedup_key' is missing or blank")
        elif action != "acknowledge":
            _invalid("'event_action' is invalid")
        self.events.append(event)
        with self._working:
            self._taken.append((time.monotonic() + self.lag, event))
        return Answer(202, {"status": "success", "message": "Event processed", "dedup_key": key})

    def _work(self, event):
        key = event.get("dedup_key", "")
        one = next((one for one in self._incidents if one["incident_key"] == key and one["status"] != "resolved"), None)
        if event["event_action"] == "trigger" and one is None:
            self._open(key, event)
        elif event["event_action"] == "resolve" and one:
            self._change(one, {"status": "resolved"})

    def _open(self, key, event):
        number, payload = len(self._incidents) + 1, event["payload"]
        self._incidents.append({
            "id": f"PT4KH{number:02}", "incident_number": number, "incident_key": key, "title": payload["summary"],
            "status": "triggered", "urgency": "low" if payload["severity"] in ("warning", "info") else "high",
            "created_at": now(), "resolved_at": None, "last_status_change_at": now(),
            "html_url": f"https://example.pagerduty.example/incidents/PT4KH{number:02}",
            "_alert": {"severity": payload["severity"],
                       "body": {"cef_details": {"details": payload.get("custom_details", {})}}}})

    @staticmethod
    def _change(one, given):
        for name in ("title", "status"):
            if name in given:
                one[name] = given[name]
        if given.get("status") == "resolved":
            one["resolved_at"] = one["last_status_change_at"] = now()

    def _list(self, query):
        found = self.incidents[::-1]
        if "incident_key" in query:
            found = [one for one in found if one["incident_key"] == query["incident_key"][0]]
        if "statuses[]" in query:
            found = [one for one in found if one["status"] in query["statuses[]"]]
        limit, offset = int(query.get("limit", ["25"])[0]), int(query.get("offset", ["0"])[0])
        return Answer(200, {"incidents": [self._shown(one) for one in found[offset:offset + limit]], "limit": limit,
                            "offset": offset, "total": None, "more": len(found) > offset + limit})
