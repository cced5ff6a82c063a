"""The lines of one tenant."""

import bisect
import re

#: What Loki finds a level by in a line that says none (pkg/distributor, discover_log_levels).
_LEVELS = {"critical": "critical", "fatal": "fatal", "error": "error", "err": "error", "warning": "warn",
           "warn": "warn", "info": "info", "information": "info", "informational": "info", "debug": "debug",
           "dbg": "debug", "trace": "trace", "trc": "trace"}


def level_of(line):
    found = re.search(r'"?\b(?:level|lvl|severity|LEVEL)"?\s*[=:]\s*"?(\w+)', line)
    if found:
        return _LEVELS.get(found[1].lower(), "unknown")
    words = [word for word in re.findall(r"[A-Za-z]+", line.lower()) if word in _LEVELS]
    return _LEVELS[words[0]] if words else "unknown"


class Stream:
    def __init__(self, labels):
        self.labels = labels
        self._times, self._entries = [], []

    def add(self, at, line, metadata):
        """A second entry with the same time and line is the same one, as the real one has it."""
        place = bisect.bisect_right(self._times, at)
        begin = bisect.bisect_left(self._times, at)
        if any(self._entries[index][1] == line for index in range(begin, place)):
            return
        self._times.insert(place, at)
        self._entries.insert(place, (at, line, metadata))

    def between(self, start, end):
        return self._entries[bisect.bisect_left(self._times, start):bisect.bisect_left(self._times, end)]


class Lines:
    def __init__(self):
        self._streams = {}

    def add(self, labels, at, line, metadata):
        key = tuple(sorted(labels.items()))
        self._streams.setdefault(key, Stream(dict(key))).add(at, line, metadata)

    def streams(self, query=None):
        return [stream for _, stream in sorted(self._streams.items()) if query is None or query.selects(stream.labels)]

    def labels(self, query, start, end):
        """The labels of each stream with a line in that time."""
        return [stream.labels for stream in self.streams(query) if stream.between(start, end)]
