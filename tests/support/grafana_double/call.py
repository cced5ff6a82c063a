"""One request, and Go's view of its body."""

import json
import re
import urllib.parse

from .answers import bad_request


def _no_constant(_):
    raise ValueError("NaN is not JSON")


_decode = json.JSONDecoder(parse_constant=_no_constant).raw_decode


class Call:
    __slots__ = ("world", "method", "path", "path_and_query", "parts", "query", "headers", "body", "who", "rest")

    def __init__(self, world, method, raw_path, headers, body):
        path, _, query = raw_path.partition("?")
        self.world = world
        self.method = method
        self.path, self.path_and_query = path, raw_path
        self.parts = [urllib.parse.unquote(part) for part in path.split("/")[1:]]
        self.query = urllib.parse.parse_qs(query, keep_blank_values=True) if query else {}
        self.headers = headers
        self.body = body
        self.who = None
        self.rest = ""  # of the path, below a route that ends in **

    def one(self, name, default=""):
        return self.query.get(name, (default,))[0]

    def number(self, name, default=-1):
        """A whole number; anything else counts as not given."""
        text = self.one(name)
        return int(text) if re.fullmatch(r"-?\d+", text) else default

    def json(self):
        """The body's first JSON value; what follows it is ignored, nothing at all is null."""
        if self.headers.get("Content-Type", "").partition(";")[0].strip().lower() != "application/json":
            bad_request()
        try:
            text = self.body.decode().lstrip()
            return _decode(text)[0] if text else None
        except (ValueError, RecursionError):
            bad_request()

    def object(self):
        value = self.json()
        if value is None:
            return {}
        if not isinstance(value, dict):
            bad_request()
        return value

    @property
    def keeps_editable(self):
        """Whether the client asked for objects without provenance; the header's value is ignored."""
        return "X-Disable-Provenance" in self.headers

    @property
    def provenance(self):
        return "" if self.keeps_editable else "api"


_ZERO = {str: "", int: 0, bool: False, float: 0.0}


def typed(source, name, kind, default=None):
    """A field as Go decodes it into a struct: null and absence leave the zero value."""
    value = source.get(name)
    if value is None:
        return _ZERO.get(kind) if default is None else default
    if kind is int and isinstance(value, bool) or not isinstance(value, (int, float) if kind is float else kind):
        bad_request()
    if kind is not bool and isinstance(value, bool):
        bad_request()
    return value


def string_map(source, name):
    value = typed(source, name, dict, {})
    if not all(isinstance(text, str) for text in value.values()):
        bad_request()
    return value


def string_list(source, name):
    value = typed(source, name, list, [])
    if not all(isinstance(text, str) for text in value):
        bad_request()
    return value
