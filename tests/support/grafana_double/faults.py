"""What a test makes go wrong, and the log of what was asked."""

import re

#: POST that reads. Everything else that is not GET, HEAD or OPTIONS counts as a write.
_READS = re.compile(r"/api/ds/query|/api/v1/eval|/api/datasources/proxy/.*|/api/datasources/uid/[^/]+/resources/.*"
                    r"|/api/alertmanager/grafana/config/api/v1/receivers/test"
                    r"|/api/plugins/[^/]+/resources/api/v1/\w+Service\.(Query|Get)\w+")
#: What a request is answered with that read-only mode forbids.
FORBIDDEN_WRITE = 599


def is_write(method, path):
    return method not in ("GET", "HEAD", "OPTIONS") and not (method == "POST" and _READS.fullmatch(path))


class Rule:
    """One fault: which requests it meets, which of those it spoils, and how.

    match:  method (regex), path (regex, searched), body (regex, searched), writes (true: writes only)
    nth:    the first that is spoiled, counted from 1; count: how many from there on (0: all; default 1
            with nth, else all)
    action: one of status (with body, headers), close, exit, delay (seconds, then as usual);
            applied: true lets the request take effect first
    """

    def __init__(self, given):
        unknown = given.keys() - {"method", "path", "body", "writes", "nth", "count", "status", "answer", "headers",
                                  "close", "exit", "delay", "applied"}
        if unknown:
            raise ValueError(f"unknown in a fault: {', '.join(sorted(unknown))}")
        self.given = given
        self.method = re.compile(given.get("method", ".*"))
        self.path = re.compile(given.get("path", ""))
        self.body = re.compile(given["body"].encode()) if "body" in given else None
        self.first = given.get("nth", 1)
        self.count = given.get("count", 1 if "nth" in given else 0)
        self.met = self.spoiled = 0

    def spoils(self, method, path, body, write):
        if self.given.get("writes") and not write:
            return False
        if not self.method.fullmatch(method) or not self.path.search(path):
            return False
        if self.body and not self.body.search(body):
            return False
        self.met += 1
        if self.met < self.first or self.count and self.spoiled >= self.count:
            return False
        self.spoiled += 1
        return True

    def described(self):
        return {**self.given, "met": self.met, "spoiled": self.spoiled}


class Faults:
    def __init__(self):
        self.clear()

    def clear(self):
        self.rules = []
        self.delay = 0.0
        self.read_only = False
        self.racy = False
        self.log = []
        self.keep_bodies = False

    def pick(self, method, path, body, write):
        return [rule.given for rule in self.rules if rule.spoils(method, path, body, write)]
