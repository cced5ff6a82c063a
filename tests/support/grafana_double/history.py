"""/api/v1/rules/history: the state history as the backend among annotations answers it."""

import json

from .answers import refuse, reply
from .world import milliseconds


def tell(world, told):
    """[{"rule", "previous", "current", "time"? (ms), "labels"?, "values"?}]: what rules have done."""
    for one in told:
        rule = world.rules[one["rule"]]
        labels = {"alertname": rule.stored["title"], "grafana_folder": "Folder", **one.get("labels", {})}
        values = one.get("values", {})
        shown = ", ".join(f"{name}={value}" for name, value in labels.items())
        at = one.get("time") or milliseconds()
        world.changes.append({
            "id": world.next("annotation"), "rule": one["rule"], "alertId": 1, "alertName": rule.stored["title"],
            "dashboardUID": "", "newState": one["current"], "prevState": one["previous"], "created": at,
            "updated": at, "time": at, "timeEnd": at,
            "text": f"{rule.stored['title']} {{{shown}}} - "
                    + ", ".join(f"{name}={value:f}" for name, value in values.items()),
            "tags": [f"{name}:{value}" for name, value in labels.items()], "data": {"values": values}})


def newest_first(world):
    return sorted(world.changes, key=lambda change: change["time"], reverse=True)


def as_annotations(world, uid, begin, end):
    """The changes as /api/annotations shows them."""
    return [{name: value for name, value in change.items() if name != "rule"} for change in newest_first(world)
            if uid in ("", change["rule"]) and (begin <= 0 or end <= 0 or begin <= change["time"] <= end)]


def states(call):
    uid = call.one("ruleUID")
    if not uid:
        refuse(500, "ruleUID is required to query annotations")
    if uid not in call.world.rules:
        refuse(500, "failed to look up the requested rule")
    changes = [change for change in newest_first(call.world) if change["rule"] == uid]
    begin, end = call.number("from"), call.number("to")
    if begin > 0 and end > 0:
        changes = [change for change in changes if begin <= change["time"] // 1000 <= end]
    labels = {"from": "state-history", "ruleUID": uid}
    fields = [{"name": name, "type": type_, "typeInfo": {"frame": frame}, "labels": labels} for name, type_, frame in (
        ("time", "time", "time.Time"), ("text", "string", "string"), ("prev", "string", "string"),
        ("next", "string", "string"), ("data", "string", "string"))]
    # The server takes its own milliseconds for seconds, so its milliseconds are microseconds.
    return reply({"schema": {"name": "states", "fields": fields}, "data": {"values": [
        [change["time"] * 1000 for change in changes], [change["text"] for change in changes],
        [change["prevState"] for change in changes], [change["newState"] for change in changes],
        [json.dumps(change["data"], separators=(",", ":")) for change in changes]]}})
