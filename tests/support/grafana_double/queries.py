"""/api/ds/query, the datasource proxy and what asks a real Prometheus or Loki."""

import asyncio
import json
import re
import time
import urllib.parse

import aiohttp

from . import expressions, frames
from .answers import JSON_OF_ROUTER, Answer, bad_request, dumps, empty, raw, refuse, refuse_with_id, reply
from .call import typed
from .expressions import Failed, Series

#: A datasource whose host ends so is answered from the lines a test has set, never over the network.
FAKE_HOST = ".fake"
_POST_ALLOWED = {"prometheus": ("api/v1/query", "api/v1/query_range", "api/v1/series", "api/v1/labels",
                                "api/v1/query_exemplars")}


class Unreachable(Exception):
    pass


async def _ask(call, method, url, *, data=None, headers=None):
    """Status, content type and body; a refused connection reads as Go words it."""
    try:
        async with call.world.session.request(method, url, data=data, headers=headers) as answer:
            return answer.status, answer.headers.get("Content-Type"), await answer.read()
    except (aiohttp.ClientError, asyncio.TimeoutError, OSError, ValueError) as wrong:
        at = urllib.parse.urlsplit(url)
        verb = method.capitalize()
        cause = "connect: connection refused" if isinstance(wrong, aiohttp.ClientConnectorError) else str(wrong)
        raise Unreachable(f'{verb} "{url.partition("?")[0]}": dial tcp {at.hostname}:{at.port or 80}: {cause}') \
            from None


# Proxy and resources ----------------------------------------------------------------------------


def _is_fake(source):
    return (urllib.parse.urlsplit(source["url"]).hostname or "").endswith(FAKE_HOST)


async def _forward(call, source, path):
    if _is_fake(source):
        return fake_loki(call, path)
    _, _, query = call.path_and_query.partition("?")
    url = source["url"].rstrip("/") + "/" + path + ("?" + query if query else "")
    headers = {name: call.headers[name] for name in ("Content-Type", "X-Loki-Response-Encoding-Flags")
               if name in call.headers}
    for name, header in source["jsonData"].items():  # e.g. the tenant, which only Grafana knows
        if number := re.fullmatch(r"httpHeaderName(\d+)", name):
            headers[header] = source["secureJsonData"].get(f"httpHeaderValue{number[1]}", "")
    try:
        status, type_, body = await _ask(call, call.method, url, data=call.body or None, headers=headers)
    except Unreachable:
        return empty(502)
    return Answer(status, body, type_)


async def proxy(call):
    if call.parts[3] == "uid":
        source, path = call.world.datasources.get(call.parts[4]), call.rest
    else:
        number = call.parts[3]
        source = next((s for s in call.world.datasources.values() if str(s["id"]) == number), None)
        path = "/".join([*call.parts[4:]])
    if source is None:
        refuse(404, "Unable to find datasource", JSON_OF_ROUTER, traceID="")
    allowed = _POST_ALLOWED.get(source["type"])
    if call.method in ("DELETE", "PUT", "POST", "PATCH") and allowed is not None:
        if call.method != "POST" or path not in allowed:
            refuse(403, f"non allow-listed {call.method}s not allowed on proxied Prometheus datasource",
                   JSON_OF_ROUTER)
    return await _forward(call, source, path)


async def resource(call):
    source = call.world.datasources.get(call.parts[3])
    if source is None:
        refuse(500, "Unable to load datasource meta data", JSON_OF_ROUTER, traceID="")
    path = call.rest
    if source["type"] == "loki" and not path.startswith("loki/"):
        path = "loki/api/v1/" + path
    return await _forward(call, source, path)


async def health(call):
    source = call.world.datasources.get(call.parts[3])
    if source is None:
        refuse(500, "Unable to load datasource metadata")
    if _is_fake(source):
        return reply({"message": "Data source successfully connected.", "status": "OK"})
    base = source["url"].rstrip("/")
    if source["type"] == "loki":
        try:
            status, _, _ = await _ask(call, "GET", base + "/loki/api/v1/query?query=vector(1)%2Bvector(1)")
        except Unreachable:
            status = 0
        if status != 200:
            refuse(400, "Unable to connect with Loki. Please check the server logs for more details.",
                   status="ERROR")
        return reply({"message": "Data source successfully connected.", "status": "OK"})
    if source["type"] != "prometheus":
        refuse(404, "Plugin not found")
    try:
        status, _, body = await _ask(call, "POST", base + "/api/v1/query", data={"query": "1+1"})
        cause = "" if status == 200 else f"{status} {body[:100].decode('utf-8', 'replace')}"
    except Unreachable as wrong:
        cause = str(wrong)
    if cause:
        refuse(400, f"{cause} - There was an error returned querying the Prometheus API.", status="ERROR")
    return reply({"details": {"application": "Prometheus", "features": {"rulerApiEnabled": False}},
                  "message": "Successfully queried the Prometheus API.", "status": "OK"})


# A small Loki -----------------------------------------------------------------------------------


def _streams(world, start, end):
    grouped = {}
    for entry in world.loki_lines:
        if start <= entry["time"] // 1_000_000 <= end:
            key = json.dumps(entry["labels"], sort_keys=True)
            grouped.setdefault(key, (entry["labels"], []))[1].append((entry["time"], entry["line"]))
    return list(grouped.values())


def fake_loki(call, path):
    labels = {}
    for entry in call.world.loki_lines:
        for name, value in entry["labels"].items():
            labels.setdefault(name, set()).add(value)
    parts = path.split("/")
    if path.endswith("/labels"):
        return reply({"status": "success", "data": sorted(labels)})
    if len(parts) > 2 and parts[-1] == "values":
        return reply({"status": "success", "data": sorted(labels.get(parts[-2], ()))})
    if parts[-1] in ("query", "query_range"):
        streams = [{"stream": names, "values": [[str(at), line] for at, line in lines]}
                   for names, lines in _streams(call.world, 0, 1 << 62)]
        return reply({"status": "success", "data": {"resultType": "streams", "result": streams, "stats": {}}})
    return Answer(404, b"404 page not found\n", "text/plain; charset=utf-8")


# /api/ds/query ----------------------------------------------------------------------------------


class Query:
    """One query of a request, once its datasource is known. `source` is None for an expression."""

    __slots__ = ("ref", "model", "source")

    def __init__(self, ref, model, source):
        self.ref, self.model, self.source = ref, model, source


def _read(call, listed):
    queries = []
    for model in listed:
        if not isinstance(model, dict):
            bad_request()
        named = model.get("datasource")
        uid = named.get("uid") if isinstance(named, dict) else named if isinstance(named, str) else None
        number = model.get("datasourceId")
        if not uid and not number:
            refuse_with_id(400, "query.invalidDatasourceId",
                           "Query does not contain a valid data source identifier")
        ref = model.get("refId") or "A"
        if uid in ("__expr__", "-100"):
            queries.append(Query(ref, model, None))
            continue
        source = call.world.datasources.get(uid) if isinstance(named, dict) or not named else None
        if source is None and not uid:
            source = next((s for s in call.world.datasources.values() if s["id"] == number), None)
        if source is None:
            refuse(404, "Data source not found")
        queries.append(Query(ref, model, source))  # `hide` is for panels, the server runs it all the same
    if len({query.ref for query in queries}) < len(queries):
        refuse_with_id(400, "query.duplicateRefId", "Multiple queries using the same RefId is not allowed ")
    return queries


async def ds_query(call):
    body = call.object()
    start, end = typed(body, "from", str), typed(body, "to", str)
    listed = typed(body, "queries", list, [])
    if not listed:
        refuse_with_id(400, "query.noQueries", "No queries found")
    queries = _read(call, listed)
    now = int(time.time() * 1000)
    begins, ends = _bound(start, now), _bound(end, now)
    if all(query.source for query in queries):
        answers = await asyncio.gather(*(plain(call, query, begins, ends) for query in queries))
        results = {query.ref: answer for query, answer in zip(queries, answers)}
    else:
        results = await pipeline(call, queries, begins, ends)
        if results is None:
            refuse(500, "Query data error")
    failed = any("error" in result for result in results.values())
    return raw(dumps({"results": results}), 400 if failed else 200)


def _bound(text, now):
    if not text:
        return 0
    at = frames.moment(text, now)
    return frames.YEAR_ONE if at is None else at


def _seconds(milliseconds):
    return f"{milliseconds / 1000:.3f}"


async def plain(call, query, start, end):
    if query.source["type"] == "loki":
        return await _loki(call, query, start, end)
    if query.source["type"] != "prometheus":
        return {"error": "An error occurred within the plugin", "errorSource": "downstream", "status": 500,
                "frames": []}
    model, source = query.model, query.source
    scrape = source["jsonData"].get("timeInterval")
    step = frames.step_of(model, start, end, scrape)
    expression = frames.interpolated(str(model.get("expr") or ""), step, start, end, scrape)
    instant, range_ = bool(model.get("instant")), bool(model.get("range"))
    made = []
    for is_range in ([True] if range_ or not instant else []) + ([False] if instant else []):
        if is_range:
            form = {"query": expression, "start": _seconds(start // step * step),
                    "end": _seconds(end // step * step), "step": _seconds(step)}
            if start > end:
                form.update(start=_seconds(start), end=_seconds(end))
        else:
            form = {"query": expression, "time": _seconds(end)}
        if end == 0 or start == frames.YEAR_ONE:  # Prometheus has nothing there
            made.append(frames.empty_frame(query.ref, {**model, "expr": expression}, step))
            continue
        url = source["url"].rstrip("/") + ("/api/v1/query_range" if is_range else "/api/v1/query")
        try:
            if source["jsonData"].get("httpMethod", "POST") == "GET":
                status, _, body = await _ask(call, "GET", url + "?" + urllib.parse.urlencode(form))
            else:
                status, _, body = await _ask(call, "POST", url, data=form)
        except Unreachable as wrong:
            return {"error": str(wrong), "errorSource": "downstream", "status": 502, "frames": []}
        try:
            answer = json.loads(body)
        except ValueError:
            answer = {"status": "error", "errorType": "unexpected", "error": body[:200].decode("utf-8", "replace")}
        if answer.get("status") != "success":
            return {"error": f"{answer.get('errorType')}: {answer.get('error')}", "errorSource": "downstream",
                    "status": status if status >= 400 else 500,
                    "frames": [frames.empty_frame(query.ref, {**model, "expr": expression}, step)]}
        made += frames.from_prometheus(query.ref, {**model, "expr": expression}, step, answer["data"])
    return {"status": 200, "frames": made}


async def _loki(call, query, start, end):
    model, source = query.model, query.source
    if _is_fake(source):
        return {"status": 200, "frames": frames.from_log_streams(
            query.ref, model, _streams(call.world, start, end))}
    instant = model.get("queryType") == "instant"
    step = frames.step_of(model, start, end, source["jsonData"].get("timeInterval"))
    expression = frames.interpolated(str(model.get("expr") or ""), step, start, end, None)
    form = {"query": expression, "limit": str(model.get("maxLines") or 1000)}
    if instant:
        form["time"] = str(end * 1_000_000)
    else:
        form.update(start=str(start * 1_000_000), end=str(end * 1_000_000), step=f"{step / 1000}s")
    url = source["url"].rstrip("/") + ("/loki/api/v1/query" if instant else "/loki/api/v1/query_range")
    try:
        status, _, body = await _ask(call, "GET", url + "?" + urllib.parse.urlencode(form))
    except Unreachable as wrong:
        return {"error": str(wrong), "errorSource": "downstream", "status": 500, "frames": []}
    if status != 200:
        return {"error": body[:500].decode("utf-8", "replace"), "errorSource": "downstream", "status": status,
                "frames": []}
    data = json.loads(body)["data"]
    if data["resultType"] != "streams":
        return {"status": 200, "frames": frames.from_prometheus(query.ref, {**model, "expr": expression}, step, data)}
    streams = [(row["stream"], [(int(at), line) for at, line in row["values"]]) for row in data["result"]]
    return {"status": 200, "frames": frames.from_log_streams(query.ref, model, streams)}


# Expressions ------------------------------------------------------------------------------------


def _needs(query):
    model = query.model
    if query.source is not None:
        return []
    if model.get("type") == "math":
        return expressions.variables(str(model.get("expression") or ""))
    return [str(model.get("expression") or "").lstrip("$").strip("{}")]


def _series_of(result):
    """Frames of a plain query as series, without what only a panel needs; None is no data."""
    rows = []
    for frame in result["frames"]:
        fields = frame["schema"]["fields"]
        if not fields:
            continue
        times, values = frame["data"]["values"]
        entities = (frame["data"].get("entities") or [None, None])[1] or {}
        values = list(values)
        for name, number in (("NaN", float("nan")), ("Inf", float("inf")), ("NegInf", float("-inf"))):
            for index in entities.get(name, ()):
                values[index] = number
        is_number = frame["schema"]["meta"].get("type") == "numeric-multi"
        rows.append(Series(fields[1].get("labels", {}), list(zip(times, map(float, values))), is_number,
                           (fields[1]["name"], fields[1].get("config")), fields[0].get("config")))
    return rows or None


def _frames_of(ref, rows, notice=None, of_math=False):
    if rows is None:
        return [{"schema": {"name": "no data", "refId": ref, "fields": []}, "data": {"values": []}}]
    made = []
    for row in rows:
        name, config = row.config or (ref, None)
        field = {"name": name, "type": "number", "typeInfo": {"frame": "float64", "nullable": True}}
        if row.labels or row.config or not of_math:
            field["labels"] = row.labels
        if config:
            field["config"] = config
        meta = {"type": "numeric-multi" if row.is_number else "timeseries-multi", "typeVersion": [0, 1]}
        if notice and not made:
            meta["notices"] = [{"severity": "warning", "text": notice}]
        values = [value for _, value in row.points]
        if row.is_number:
            fields, columns = [field], [values]
        else:
            fields = [{"name": "Time", "type": "time", "typeInfo": {"frame": "time.Time"}}, field]
            if row.of_time:
                fields[0]["config"] = row.of_time
            columns = [[at for at, _ in row.points], values]
        made.append({"schema": {"refId": ref, "meta": meta, "fields": fields}, "data": frames.data_of(columns)})
    return made


def _evaluate(query, known):
    """Rows of an expression and a notice, or Failed."""
    model, kind = query.model, query.model.get("type")
    if any(known[need] is None for need in _needs(query)):
        return None, None
    if kind == "math":
        return expressions.calculated(str(model.get("expression") or ""), known), None
    rows = known[_needs(query)[0]]
    if kind == "reduce":
        if rows and all(row.is_number for row in rows):
            text = (f"Reduce operation is not needed. Input query or expression {_needs(query)[0]} is already "
                    "reduced data.")
            kept = [expressions.replaced(row, model.get("settings")) for row in rows]
            return [row for row in kept if row], text
        settings = model.get("settings")
        return [Series(row.labels, [(None, expressions.reduced(row, model.get("reducer"), settings))], True)
                for row in rows], None
    if kind == "threshold":
        evaluator = ((model.get("conditions") or [{}])[0]).get("evaluator") or {}
        return [Series(row.labels, [(at, expressions.threshold(value, evaluator)) for at, value in row.points],
                       row.is_number) for row in rows], None
    raise Failed(f"unknown command type '{kind}' in expression '{query.ref}'")


async def pipeline(call, queries, start, end):
    """Results by refId, or None when an expression names what is not there."""
    by_ref = {query.ref: query for query in queries}
    if any(need not in by_ref for query in queries for need in _needs(query)):
        return None
    plain_ones = [query for query in queries if query.source is not None]
    answers = await asyncio.gather(*(plain(call, query, start, end) for query in plain_ones))
    results, known = {}, {}
    for query, answer in zip(plain_ones, answers):
        if "error" in answer:
            text = f"[sse.dataQueryError] failed to execute query [{query.ref}]: {answer['error']}"
            results[query.ref] = {"error": text, "errorSource": "", "status": 500, "frames": []}
            continue
        known[query.ref] = _series_of(answer)
        rows = known[query.ref]
        results[query.ref] = {"status": 200,
                              "frames": answer["frames"] if rows is None else _frames_of(query.ref, rows)}
    waiting = [query for query in queries if query.source is None]
    while waiting:
        ready = [query for query in waiting if all(need in results for need in _needs(query))]
        if not ready:
            return None  # a circle
        for query in ready:
            waiting.remove(query)
            broken = next((need for need in _needs(query) if need not in known), None)
            try:
                if broken:
                    raise Failed(f"[sse.dependencyError] did not execute expression [{query.ref}] due to a failure "
                                 f"of the dependent expression or query [{broken}]")
                rows, notice = _evaluate(query, known)
            except Failed as wrong:
                if wrong.parsing:
                    refuse_with_id(400, "sse.parseError", f"failed to parse expression [{query.ref}]: {wrong}",
                                   {"error": str(wrong), "refId": query.ref})
                results[query.ref] = {"error": str(wrong), "errorSource": "", "status": 500, "frames": []}
                continue
            known[query.ref] = rows
            results[query.ref] = {"status": 200, "frames": _frames_of(
                query.ref, rows, notice, of_math=query.model.get("type") == "math")}
    return {query.ref: results[query.ref] for query in queries}


async def evaluate(call):
    """/api/v1/eval: the queries of a rule at a time; errors stay inside, the status is 200."""
    body = call.object()
    at = frames.moment(typed(body, "now", str).replace("Z", "+00:00"), 0) or int(time.time() * 1000)
    queries, start = [], at - 300_000
    for entry in typed(body, "data", list, []):
        model = entry.get("model") or {}
        uid = entry.get("datasourceUid")
        source = None if uid in ("__expr__", "-100") else call.world.datasources.get(uid)
        if source is None and uid not in ("__expr__", "-100"):
            refuse(404, "Data source not found")
        queries.append(Query(entry.get("refId"), model, source))
        span = entry.get("relativeTimeRange") or {}
        start = min(start, at - 1000 * span.get("from", 300))
    results = await pipeline(call, queries, start, at)
    if results is None:
        refuse(400, "invalid queries or expressions: failed to build query 'C'")
    return reply({"results": results})
