"""What goes out: bodies spelled as Go spells them, and the shapes of Grafana's errors."""

import json
import random

JSON = "application/json"
#: What Grafana's own router and its access checks say; handlers say plain JSON.
JSON_OF_ROUTER = "application/json; charset=UTF-8"


def dumps(value, *, by_name=False):
    """Compact JSON in which <, > and & are escaped, as Go's encoder does by default.

    `by_name` sorts all keys: Go does so with maps, not with structs.
    """
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False, sort_keys=by_name)
    if "<" in text or ">" in text or "&" in text:
        text = text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
    return text.encode()


class Answer:
    __slots__ = ("status", "body", "content_type", "headers")

    def __init__(self, status, body=b"", content_type=None, headers=None):
        self.status = status
        self.body = body
        self.content_type = content_type
        self.headers = headers


class Refused(Exception):
    """Ends a request with that answer."""

    def __init__(self, answer):
        super().__init__(answer.status)
        self.answer = answer


def reply(value, status=200, content_type=JSON):
    return Answer(status, dumps(value), content_type)


def raw(body, status=200):
    return Answer(status, body, JSON)


def empty(status):
    return Answer(status)


def refuse(code, message, content_type=JSON, /, **more):
    """`more` goes into the body, where dashboards and folders have a `status` of their own."""
    raise Refused(reply({"message": message, **more}, code, content_type))


def refuse_with_id(status, message_id, message, extra=None):
    """The shape of errutil: alerting notifications, short links, queries."""
    body = {"statusCode": status, "messageId": message_id, "message": message}
    if extra is not None:
        body["extra"] = extra
    raise Refused(reply(body, status))


def bad_request():
    """All that a client learns of a body that does not parse."""
    refuse(400, "bad request data")


def no_route():
    return reply({"message": "Not found"}, 404, JSON_OF_ROUTER)


def unauthorized(message="Unauthorized", message_id="auth.unauthorized"):
    body = {"extra": None, "message": message, "messageId": message_id, "statusCode": 401, "traceID": ""}
    return reply(body, 401, JSON_OF_ROUTER)


def unauthorized_briefly():
    """A token that was once valid, or a legacy key."""
    return reply({"message": "Unauthorized", "traceID": ""}, 401, JSON_OF_ROUTER)


def denied(permission):
    return reply({
        "accessErrorId": f"ACE{random.randrange(10**10):010}",
        "message": "You'll need additional permissions to perform this action. Permissions needed: " + permission,
        "title": "Access denied"}, 403, JSON_OF_ROUTER)
