"""Answers of Prometheus and Loki as Grafana's data frames, and time as /api/ds/query understands it."""

import datetime
import math
import re

from . import durations

_LEGEND = re.compile(r"\{\{\s*(.+?)\s*\}\}")
#: gtime.RoundInterval: (up to, becomes), milliseconds.
_ROUNDS = (
    (10, 1), (15, 10), (35, 20), (75, 50), (150, 100), (350, 200), (750, 500), (1500, 1000), (3500, 2000),
    (7500, 5000), (12_500, 10_000), (17_500, 15_000), (25_000, 20_000), (45_000, 30_000), (90_000, 60_000),
    (210_000, 120_000), (450_000, 300_000), (750_000, 600_000), (1_050_000, 900_000), (1_500_000, 1_200_000),
    (2_700_000, 1_800_000), (5_400_000, 3_600_000), (9_000_000, 7_200_000), (16_200_000, 10_800_000),
    (32_400_000, 21_600_000), (64_800_000, 43_200_000), (129_600_000, 86_400_000), (604_800_000, 86_400_000),
    (1_814_400_000, 604_800_000), (3_628_800_000, 2_592_000_000))
_YEAR = 31_536_000_000
YEAR_ONE = -62_135_596_800_000  # Go's zero time, which an unparsable `from` becomes
SAFE_RESOLUTION = 11_000  # points that Prometheus will return at most


def round_interval(milliseconds):
    return next((becomes for limit, becomes in _ROUNDS if milliseconds < limit), _YEAR)


# Time -------------------------------------------------------------------------------------------

_RELATIVE = re.compile(r"now(?:([+-])(\d+)([smhdwMy]))?(?:/([smhdwMy]))?")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800, "M": 2_592_000, "y": 31_536_000}


def moment(text, now):
    """Milliseconds for "now-5m", "now/d", epoch milliseconds or RFC 3339; None when it is none of them."""
    if re.fullmatch(r"-?\d+", text):
        return int(text)
    match = _RELATIVE.fullmatch(text)
    if match:
        at = now
        if match[2]:
            at += (1 if match[1] == "+" else -1) * int(match[2]) * _SECONDS[match[3]] * 1000
        if match[4]:
            at -= at % (_SECONDS[match[4]] * 1000)
        return at
    try:
        parsed = datetime.datetime.fromisoformat(text)
        return int(parsed.replace(tzinfo=parsed.tzinfo or datetime.timezone.utc).timestamp() * 1000)
    except ValueError:
        return None


def step_of(query, start, end, source_interval):
    """Milliseconds between two points, as the Prometheus plugin reckons them."""
    minimum = query.get("intervalMs") or durations.parse(source_interval or "15s") or 15_000
    wanted = query.get("interval")
    if isinstance(wanted, str) and wanted and not wanted.startswith("$"):
        minimum = durations.parse(wanted.lstrip("<>=")) or minimum
    points = query.get("maxDataPoints") or 100
    calculated = round_interval((end - start) // points) if points > 0 else minimum
    calculated = max(calculated, minimum) if (end - start) // points >= minimum else minimum
    return max(calculated, round_interval((end - start) // SAFE_RESOLUTION)) * (query.get("intervalFactor") or 1)


def interpolated(expression, step, start, end, source_interval):
    """Grafana's own variables; the client replaces all others."""
    scrape = durations.parse(source_interval or "15s") or 15_000
    rate = max(step + scrape, 4 * scrape)
    span = end - start
    for name, value in (("__rate_interval_ms", str(rate)), ("__rate_interval", durations.prometheus(rate)),
                        ("__interval_ms", str(step)), ("__interval", durations.prometheus(step)),
                        ("__range_ms", str(span)), ("__range_s", str(span // 1000)),
                        ("__range", f"{span // 1000}s")):
        expression = expression.replace(f"${{{name}}}", value).replace(f"${name}", value)
    return expression


# Frames -----------------------------------------------------------------------------------------


def _series_name(labels):
    inner = ", ".join(f'{name}="{value}"' for name, value in sorted(labels.items()) if name != "__name__")
    name = labels.get("__name__", "")
    return f"{name}{{{inner}}}" if inner else name or "{}"


def _display(query, labels):
    legend = query.get("legendFormat") or ""
    name = _series_name(labels)
    if legend == "__auto":
        name = "" if labels else name
    elif legend:
        name = _LEGEND.sub(lambda match: labels.get(match[1], ""), legend)
    return query.get("expr", "") if name == "{}" else name


def encoded(values):
    """Numbers that JSON lacks become null and are named in `entities`."""
    listed, odd = [], {}
    for index, value in enumerate(values):
        if value is None or not isinstance(value, float) or math.isfinite(value):
            listed.append(int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 1e15
                          else value)
            continue
        odd.setdefault("NaN" if math.isnan(value) else "Inf" if value > 0 else "NegInf", []).append(index)
        listed.append(None)
    return listed, odd or None


def data_of(columns):
    pairs = [encoded(column) for column in columns]
    data = {"values": [values for values, _ in pairs]}
    if any(odd for _, odd in pairs):
        data["entities"] = [odd for _, odd in pairs]
    return data


def _executed(query, step):
    return f"Expr: {query.get('expr', '')}\nStep: {durations.go(step / 1000)}"


def empty_frame(ref, query, step):
    return {"schema": {"refId": ref, "meta": {
        "typeVersion": [0, 0], "custom": {"calculatedMinStep": step}, "executedQueryString": _executed(query, step)},
        "fields": []}, "data": {"values": []}}


def from_prometheus(ref, query, step, data):
    """One frame per series; the first also tells what was executed."""
    kind, result = data["resultType"], data["result"]
    text = kind == "string"
    if kind in ("scalar", "string"):
        result = [{"metric": {}, "value": result}]
    frames = []
    for series in result:
        labels = series["metric"]
        points = series["values"] if kind == "matrix" else [series["value"]]
        custom = {"resultType": kind}
        meta = {"type": "timeseries-multi" if kind == "matrix" or text else "numeric-multi",
                "typeVersion": [0, 0] if text else [0, 1], "custom": custom}
        if not frames:
            meta["custom"] = {"calculatedMinStep": step, **custom}
            meta["executedQueryString"] = _executed(query, step)
        fields = [
            {"name": "Time", "type": "time", "typeInfo": {"frame": "time.Time"}, "config": {"interval": step}},
            {"name": labels.get("__name__", "Value"), "type": "string" if text else "number",
             "typeInfo": {"frame": "string" if text else "float64"}, "labels": labels}]
        shown = _display(query, labels)
        if shown:
            fields[1]["config"] = {"displayNameFromDS": shown}
        columns = [[round(at * 1000) for at, _ in points], [value if text else float(value) for _, value in points]]
        frames.append({"schema": {"refId": ref, "meta": meta, "fields": fields}, "data": data_of(columns)})
    return frames or [empty_frame(ref, query, step)]


def from_log_streams(ref, query, streams):
    """Loki's lines as one frame of kind "labeled time values"."""
    rows = [(labels, stamp, line) for labels, entries in streams for stamp, line in entries]
    rows.sort(key=lambda row: row[1], reverse=query.get("direction", "backward") != "forward")
    names = (("labels", "other", "json.RawMessage"), ("Time", "time", "time.Time"), ("Line", "string", "string"),
             ("tsNs", "string", "string"), ("id", "string", "string"))
    fields = [{"name": name, "type": kind, "typeInfo": {"frame": frame}} for name, kind, frame in names]
    columns = [[row[0] for row in rows], [int(row[1]) // 1_000_000 for row in rows], [row[2] for row in rows],
               [str(row[1]) for row in rows], [f"{row[1]}_{index}" for index, row in enumerate(rows)]]
    return [{"schema": {"refId": ref, "meta": {
        "typeVersion": [0, 0], "custom": {"frameType": "LabeledTimeValues"},
        "executedQueryString": f"Expr: {query.get('expr', '')}"}, "fields": fields}, "data": {"values": columns}}]
