"""Single requests to the public door, and crowds of them."""

import json

from .raw_http import RawHttp, request


def ask(daemon, token, path="/t/web/hello", *fields, method="GET", body=b"", tls=False, source=None):
    """One request on a connection of its own, by default without TLS, whose handshake only takes time."""
    with RawHttp(daemon.connect(tls=tls, source=source)) as connection:
        return ask_on(connection, token, path, *fields, method=method, body=body)


def ask_on(connection, token, path="/t/web/hello", *fields, method="GET", body=b""):
    """One more request on that connection."""
    if body or method in ("POST", "PUT"):
        fields = (*fields, f"Content-Length: {len(body)}")
    connection.send(request(method, path, *fields, token=token, body=body))
    return connection.read_answer(method)


def code_of(answer):
    """TUNNEL_0NN of a refusal; None when it is none of ours."""
    try:
        return json.loads(answer.body)["error"]["code"]
    except (ValueError, KeyError, TypeError):
        return None


def outcome(answer):
    """(status, code)"""
    return answer.status, code_of(answer)
