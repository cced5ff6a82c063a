"""/api/prometheus/grafana: rules as they stand; a test says what is not "inactive, ok"."""

from . import durations
from .answers import reply

_NEVER = "0001-01-01T00:00:00Z"
_STATES = ("inactive", "normal", "pending", "firing", "alerting", "nodata", "error", "recovering")
_HEALTHS = ("ok", "error", "nodata")


def _rule_query(stored):
    texts, uids = [], []
    for query in stored["data"]:
        if query["datasourceUid"] in ("__expr__", "-100"):
            continue
        uids.append(query["datasourceUid"])
        model = query["model"]
        texts.append(str(model.get("expr", "")) if isinstance(model, dict) else "")
    return " | ".join(texts), sorted(set(uids))


def _rule_state(call, rule):
    stored = rule.stored
    told = call.world.rule_states.get(rule.uid, {})
    query, uids = _rule_query(stored)
    body = {"state": told.get("state", "inactive"), "name": stored["title"], "query": query,
            "queriedDatasourceUIDs": uids}
    for name, key in (("duration", "for"), ("keepFiringFor", "keep_firing_for")):
        seconds = durations.parse(stored[key]) / 1000
        if seconds:
            body[name] = int(seconds) if seconds.is_integer() else seconds
    if "annotations" in stored:
        body["annotations"] = stored["annotations"]
    if told.get("activeAt"):
        body["activeAt"] = told["activeAt"]
    alerts = told.get("alerts", [])
    if alerts:
        body["alerts"] = alerts
    totals = {}
    for alert in alerts:
        word = alert["state"].split()[0].lower()
        totals[word] = totals.get(word, 0) + 1
    if totals:
        body.update(totals=totals, totalsFiltered=totals)
    body.update(uid=rule.uid, folderUid=stored["folderUID"])
    if "labels" in stored:
        body["labels"] = stored["labels"]
    if stored["notification_settings"]:
        body["notificationSettings"] = stored["notification_settings"]
    body["health"] = told.get("health", "ok")
    if told.get("lastError"):
        body["lastError"] = told["lastError"]
    body.update(type="recording" if stored["record"] else "alerting",
                lastEvaluation=told.get("lastEvaluation", _NEVER), evaluationTime=told.get("evaluationTime", 0),
                isPaused=stored["isPaused"])
    if rule.provenance:
        body["provenance"] = rule.provenance
    return body


def _counted(rules):
    totals = {}
    for rule in rules:
        word = rule["state"] if rule["health"] == "ok" else rule["health"]
        for name in {rule["state"], word}:
            if name in ("firing", "pending", "inactive", "error", "nodata", "recovering"):
                totals[name] = totals.get(name, 0) + 1
    return totals


def _no_filter(what, value):
    return reply({"status": "error", "errorType": "bad_data", "error": f"unknown {what} '{value}'",
                  "data": {"groups": []}}, 400)


def rules(call):
    world = call.world
    states, healths = call.query.get("state", []), call.query.get("health", [])
    for value in states:
        if value not in _STATES:
            return _no_filter("state", value)
    for value in healths:
        if value not in _HEALTHS:
            return _no_filter("health", value)
    folder = call.one("folder_uid")
    if folder not in world.folders:  # a missing folder filters nothing
        folder = None
    groups_wanted, names, uids = (call.query.get(name, []) for name in ("rule_group", "rule_name", "rule_uid"))
    limit_groups, limit_rules = call.number("group_limit"), call.number("limit_rules")
    rule_limit, limit_alerts = call.number("rule_limit"), call.number("limit_alerts")
    grouped = {}
    for rule in world.rules_of(folder):
        stored = rule.stored
        if (groups_wanted and stored["ruleGroup"] not in groups_wanted or names and stored["title"] not in names
                or uids and rule.uid not in uids):
            continue
        grouped.setdefault((stored["folderUID"], stored["ruleGroup"]), []).append(rule)
    listed, everything, shown = [], [], 0
    for (uid, name), rules in grouped.items():
        bodies = [_rule_state(call, rule) for rule in rules]
        everything += bodies
        kept = [b for b in bodies if (not states or b["state"] in states or
                                      b["state"] == "firing" and "alerting" in states)
                and (not healths or b["health"] in healths)]
        totals = _counted(bodies)
        if limit_rules >= 0:
            kept = kept[:limit_rules]
        if not kept or limit_groups >= 0 and len(listed) >= limit_groups or 0 <= rule_limit <= shown:
            continue
        shown += len(kept)
        if limit_alerts >= 0:
            for body in kept:
                body.pop("alerts", None)
                if limit_alerts:
                    body["alerts"] = world.rule_states.get(body["uid"], {}).get("alerts", [])[:limit_alerts]
        title = world.folders[uid].title if uid in world.folders else ""
        listed.append({"name": name, "file": title, "folderUid": uid, "rules": kept, "totals": totals,
                       "interval": world.intervals[uid, name], "lastEvaluation": kept[0]["lastEvaluation"],
                       "evaluationTime": kept[0]["evaluationTime"]})
    data = {"groups": listed}
    if everything and limit_groups < 0 and rule_limit < 0:
        data["totals"] = _counted(everything)
    return reply({"status": "success", "data": data})


def alerts(call):
    alerts = [alert for told in call.world.rule_states.values() for alert in told.get("alerts", [])]
    return reply({"status": "success", "data": {"alerts": alerts}})
