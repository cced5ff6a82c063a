"""The HTTP API: parameters as Loki reads them (pkg/loghttp), answers as it writes them (pkg/util/marshal)."""

import collections
import datetime
import json
import re
import time
import urllib.parse

from . import evaluation, logql
from .logql import Aggregation, Binary, LogQuery, Metric, Refused
from .store import Lines, level_of

SECOND = 10**9
HOUR = 3600 * SECOND
DAY = 24 * HOUR
_SUCCESS = {"status": "success"}


def push(lines, text):
    """POST /push, as JSON."""
    try:
        body = json.loads(text)
        streams = [(stream["stream"], stream["values"]) for stream in body["streams"]]
    except (ValueError, KeyError, TypeError):
        raise Refused(400, "couldn't parse push request: EOF") from None
    if not streams:
        raise Refused(422, "error at least one valid stream is required for ingestion\n")
    for labels, values in streams:
        if not labels:
            raise Refused(400, "error at least one label pair is required per stream\n")
        for at, line, *metadata in values:
            known = dict(metadata[0]) if metadata else {}
            known.setdefault("detected_level", level_of(line))
            lines.add(labels, int(at), line, known)


def _whole(text, default):
    if text == "":
        return default
    if not re.fullmatch(r"[+-]?\d+", text):
        raise Refused(400, f'strconv.Atoi: parsing {json.dumps(text)}: invalid syntax')
    return int(text)


def _rfc3339(text):
    found = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)", text)
    if not found:
        return None
    moment = datetime.datetime.fromisoformat(found[1] + found[3].replace("Z", "+00:00"))
    return int(moment.timestamp()) * SECOND + int((found[2] or "").ljust(9, "0"))


def _timestamp(text, default, name=""):
    if text == "":
        return default
    if "." in text:
        try:
            return round(float(text) * 1000) * 10**6
        except ValueError:
            pass
    if re.fullmatch(r"[+-]?\d+", text):
        return int(text) * (SECOND if len(text) <= 10 else 1)
    if (moment := _rfc3339(text)) is not None:
        return moment
    why = f'strconv.ParseInt: parsing {json.dumps(text)}: invalid syntax'
    raise Refused(400, f"could not parse '{name}' parameter: {why}" if name else why)


def _length(nanoseconds):
    """As Prometheus prints a duration: "30d1h"."""
    milliseconds, text = nanoseconds // 10**6, ""
    for unit, size in (("d", 86400000), ("h", 3600000), ("m", 60000), ("s", 1000), ("ms", 1)):
        count, milliseconds = divmod(milliseconds, size)
        text += f"{count}{unit}" if count else ""
    return text or "0s"


class Request:
    def __init__(self, given):
        self._given = given
        self.now = time.time_ns()

    def one(self, name):
        return next((value for key, value in self._given if key == name), "")

    def all(self, name):
        return [value for key, value in self._given if key == name]

    def bounds(self):
        since = HOUR
        if text := self.one("since"):
            try:
                since = logql.duration(text)
            except ValueError as wrong:
                raise Refused(400, f"could not parse 'since' parameter: {wrong}") from None
        end = _timestamp(self.one("end"), self.now, "end")
        return _timestamp(self.one("start"), min(end, self.now) - since, "start"), end

    def limit(self):
        limit = _whole(self.one("limit"), 100)
        if limit <= 0:
            raise Refused(400, "limit must be a positive value")
        return limit

    def backward(self):
        direction = self.one("direction")
        if direction.upper() not in ("", "FORWARD", "BACKWARD"):
            raise Refused(400, f"invalid direction '{direction}'")
        return direction.upper() != "FORWARD"

    def step(self, start, end):
        text = self.one("step")
        if not text:
            return max((end - start) // SECOND // 250, 1) * SECOND
        try:
            step = round(float(text) * SECOND)
        except ValueError:
            try:
                step = logql.duration(text)
            except ValueError:
                raise Refused(400, f"cannot parse {json.dumps(text)} to a valid duration") from None
        if step <= 0:
            raise Refused(400, "zero or negative query resolution step widths are not accepted. Try a positive "
                               "integer")
        return step

    def range(self):
        """start, end, limit, backward, step: checked in that order."""
        start, end = self.bounds()
        if end < start:
            raise Refused(400, "end timestamp must not be before or equal to start time")
        limit, backward, step = self.limit(), self.backward(), self.step(start, end)
        if (end - start) // step > 11000:
            raise Refused(400, "exceeded maximum resolution of 11,000 points per time series. Try increasing the "
                               "value of the step parameter")
        return start, end, limit, backward, step


class Loki:
    """The lines of each tenant, and the limits that the real one has unasked."""

    def __init__(self, patterns=False, multi_tenant=False):
        self.patterns, self.multi_tenant = patterns, multi_tenant
        self.max_entries_limit, self.max_query_series = 5000, 500
        self.max_query_length = 30 * DAY + HOUR
        self.categorize = True  # false: a Loki before 2.9.3, which does not know that flag
        self._tenants = collections.defaultdict(Lines)

    def of(self, tenant):
        return self._tenants[tenant]

    def read(self, name, lines, given, categorize):
        """The answer to GET or POST /loki/api/v1/<name>; None if there is no such path."""
        request = Request(given)
        found = re.fullmatch(r"label/([^/]+)/values", name)
        if found:
            return self._values(request, lines, urllib.parse.unquote(found[1]))
        handler = {"query": self._query, "query_range": self._query_range, "labels": self._labels,
                   "label": self._labels, "series": self._series, "index/stats": self._stats,
                   "patterns": self._patterns, "status/buildinfo": self._build}.get(name)
        if handler is None:
            return None
        if handler in (self._query, self._query_range):
            return handler(request, lines, categorize and self.categorize)
        return handler(request, lines)

    @staticmethod
    def _build(_, __):
        return {"version": "3.5.0", "revision": "double", "branch": "HEAD", "goVersion": "go1.24.1"}

    # Queries --------------------------------------------------------------------------------------

    @staticmethod
    def _result(kind, result, categorize=False):
        flags = {"encodingFlags": ["categorize-labels"]} if categorize else {}
        return {**_SUCCESS, "data": {"resultType": kind, **flags, "result": result, "stats": {"summary": {
            "totalEntriesReturned": len(result)}}}}

    def _query(self, request, lines, categorize):
        query = request.one("query")
        request.limit()
        at = _timestamp(request.one("time"), request.now)
        request.backward()
        expression = logql.parse(query)
        if isinstance(expression, LogQuery):
            raise Refused(400, "log queries are not supported as an instant query type, please change your query to "
                               "a range query type")
        given = evaluation.value_at(lines, expression, at)
        if not isinstance(given, dict):
            return self._result("scalar", [at / SECOND, evaluation.text_of(given)], categorize)
        self._few(given)
        return self._result("vector", [{"metric": dict(labels), "value": [at / SECOND, evaluation.text_of(value)]}
                                       for labels, value in sorted(given.items())], categorize)

    def _query_range(self, request, lines, categorize):
        start, end, limit, backward, step = request.range()
        expression = logql.parse(request.one("query"))
        if end - start > self.max_query_length:
            raise Refused(400, f"the query time range exceeds the limit (query length: {_length(end - start)}, limit: "
                               f"{_length(self.max_query_length)})")
        if isinstance(expression, LogQuery):
            if limit > self.max_entries_limit:
                raise Refused(400, "max entries limit per query exceeded, limit > max_entries_limit_per_query "
                                   f"({limit} > {self.max_entries_limit})")
            return self._result("streams", evaluation.streams(
                lines, expression, start, end, limit, backward, categorize), categorize)
        matrix = collections.defaultdict(list)
        # Metric queries are aligned to their step, so that their results can be cached.
        start, end = start // step * step, -(-end // step) * step
        for at in range(start, end + 1, step):
            given = evaluation.value_at(lines, expression, at)
            for labels, value in (given if isinstance(given, dict) else {(): given}).items():
                matrix[labels].append([at / SECOND, evaluation.text_of(value)])
        self._few(matrix)
        return self._result("matrix", [{"metric": dict(labels), "values": values}
                                       for labels, values in sorted(matrix.items())], categorize)

    def _few(self, series):
        if len(series) > self.max_query_series:
            raise Refused(400, f"maximum number of series ({self.max_query_series}) reached for a single query; "
                               "consider reducing query cardinality by adding more specific stream selectors, reducing "
                               "the time range, or aggregating results with functions like sum(), count() or topk()")

    # What there is --------------------------------------------------------------------------------

    @staticmethod
    def _found(request, lines):
        start, end = request.bounds()
        query = request.one("query")
        return lines.labels(logql.selector(query) if query else None, start, end + 1)

    def _labels(self, request, lines):
        return self._listed({name for labels in self._found(request, lines) for name in labels})

    def _values(self, request, lines, label):
        return self._listed({labels[label] for labels in self._found(request, lines) if label in labels})

    @staticmethod
    def _listed(names):
        return {**_SUCCESS, **({"data": sorted(names)} if names else {})}

    def _series(self, request, lines):
        start, end = request.bounds()
        groups = sorted({*request.all("match"), *request.all("match[]")} - {"{}"})
        queries = [logql.selector(group) for group in groups] or [None]
        found = {tuple(sorted(labels.items())) for query in queries for labels in lines.labels(query, start, end + 1)}
        return {**_SUCCESS, "data": [dict(labels) for labels in sorted(found)]}

    def _stats(self, request, lines):
        start, end, *_ = request.range()
        query = logql.selector(request.one("query"))
        streams = [found for stream in lines.streams(query) if (found := stream.between(start, end + 1))]
        return {"streams": len(streams), "chunks": len(streams), "entries": sum(map(len, streams)),
                "bytes": sum(len(line.encode()) for found in streams for _, line, _ in found)}

    def _patterns(self, request, lines):
        start, end = request.bounds()
        step = request.step(start, end)
        query = logql.parse(request.one("query"))
        if not self.patterns:
            raise Refused(404, "")
        if isinstance(query, (Metric, Aggregation, Binary)):
            raise Refused(400, "only log selector is supported")
        counts = collections.defaultdict(collections.Counter)
        for at, line, _, metadata, _ in evaluation.entries(lines, LogQuery(query.matchers, []), start, end):
            pattern = re.sub(r"\S*\d\S*", "<_>", line)
            counts[pattern, metadata.get("detected_level", "")][at // step * step // SECOND] += 1
        return {**_SUCCESS, "data": [
            {"pattern": pattern, "level": level, "samples": [[at, count] for at, count in sorted(samples.items())]}
            for (pattern, level), samples in sorted(counts.items(), key=lambda one: -sum(one[1].values()))]}
