"""/api/v1/provisioning/alert-rules and rule groups."""

import json
import re

from . import durations, export
from .answers import (JSON_OF_ROUTER, Answer, Refused, bad_request, dumps, empty, raw, refuse, refuse_with_id,
                      reply)
from .call import string_list, string_map, typed
from .world import BAD_UID, Rule, now, sorted_keys

SCHEDULER_INTERVAL = 10  # seconds
_NO_DATA = ("OK", "NoData", "Alerting", "KeepLast")
_ERROR = ("OK", "Error", "Alerting", "KeepLast")
_NEVER = "0001-01-01T00:00:00Z"


# Reading a rule ---------------------------------------------------------------------------------


def _duration(body, name):
    """Absence is zero; anything that does not parse spoils the whole body."""
    text = body.get(name)
    if text is None:
        return "0s"
    milliseconds = durations.parse(text) if isinstance(text, str) else None
    if milliseconds is None:
        bad_request()
    return durations.prometheus(milliseconds)


def _settings(body):
    """`notification_settings`, without its empty fields."""
    given = typed(body, "notification_settings", dict)
    if given is None:
        return None
    kept = {"receiver": typed(given, "receiver", str)}
    for name in ("group_by", "mute_time_intervals", "active_time_intervals"):
        if string_list(given, name):
            kept[name] = given[name]
    for name in ("group_wait", "group_interval", "repeat_interval"):
        if given.get(name) is not None:
            kept[name] = _duration(given, name)
    return kept


def _record(body):
    given = typed(body, "record", dict)
    if given is None:
        return None
    kept = {name: typed(given, name, str) for name in ("metric", "from")}
    if typed(given, "target_datasource_uid", str):
        kept["target_datasource_uid"] = given["target_datasource_uid"]
    return kept


def _query(body):
    if not isinstance(body, dict):
        bad_request()
    span = typed(body, "relativeTimeRange", dict, {})
    return {"refId": typed(body, "refId", str), "queryType": typed(body, "queryType", str),
            "relativeTimeRange": {"from": typed(span, "from", int), "to": typed(span, "to", int)},
            "datasourceUid": typed(body, "datasourceUid", str), "model": body.get("model")}


def parsed(body):
    """A rule as Grafana decodes it; a wrong type anywhere is "bad request data"."""
    if not isinstance(body, dict):
        bad_request()
    rule = {
        "id": typed(body, "id", int), "uid": typed(body, "uid", str), "orgID": typed(body, "orgID", int),
        "folderUID": typed(body, "folderUID", str), "ruleGroup": typed(body, "ruleGroup", str),
        "title": typed(body, "title", str), "condition": typed(body, "condition", str),
        "data": None if body.get("data") is None else [_query(query) for query in typed(body, "data", list)],
        "updated": _NEVER,
        "noDataState": typed(body, "noDataState", str), "execErrState": typed(body, "execErrState", str),
        "for": _duration(body, "for"), "keep_firing_for": _duration(body, "keep_firing_for"),
    }
    annotations, labels = string_map(body, "annotations"), string_map(body, "labels")
    if annotations:
        rule["annotations"] = annotations
    if labels:
        rule["labels"] = labels
    rule.update(isPaused=typed(body, "isPaused", bool), notification_settings=_settings(body), record=_record(body))
    resolve = body.get("missingSeriesEvalsToResolve")
    if resolve is not None:
        rule["missingSeriesEvalsToResolve"] = typed(body, "missingSeriesEvalsToResolve", int)
    return rule


# Refusing a rule --------------------------------------------------------------------------------


def _check_uid(rule, *, in_group):
    uid, wrong = rule["uid"], None
    if len(uid) > 40:
        wrong = "UID is longer than 40 symbols"
    elif BAD_UID.search(uid):
        wrong = "invalid format of UID. Only letters, numbers, '-' and '_' are allowed"
    if wrong:
        named = f': cannot create rule with UID "{uid}"' if in_group else f"\ncannot create rule with UID '{uid}'"
        refuse(400, f"invalid alert rule{named}: {wrong}")


def _check_annotations(rule):
    annotations = rule.get("annotations", {})
    pair = [name in annotations for name in ("__dashboardUid__", "__panelId__")]
    if any(pair) and not all(pair):
        refuse(400, "invalid alert rule: both annotations __dashboardUid__ and __panelId__ must be specified")
    if pair[1] and not re.fullmatch(r"-?\d+", annotations["__panelId__"]):
        refuse(400, "invalid alert rule: annotation __panelId__ must be a valid integer Panel ID")


def _check_models(rule):
    """A query without a model is more than the real one can take."""
    if any(query["model"] is None for query in rule["data"] or ()):
        raise Refused(Answer(500, b'{"error":"Server Error","message":"Internal Server Error - please inspect '
                                  b'Grafana server log for details"}', JSON_OF_ROUTER))


def _check_settings(world, rule):
    settings = rule["notification_settings"]
    if settings is None:
        return
    if not settings["receiver"]:
        refuse(400, "invalid alert rule\nreceiver must be specified")
    if settings["receiver"] not in world.receivers():
        refuse(400, f"invalid alert rule\nreceiver {settings['receiver']} does not exist")
    for name in settings.get("mute_time_intervals", []) + settings.get("active_time_intervals", []):
        if name not in world.mute_timings:
            refuse(400, f"invalid alert rule\ntime interval {name} does not exist")
    for name, word in (("group_interval", "group"), ("repeat_interval", "repeat")):
        if settings.get(name) == "0s":
            refuse(400, f"invalid alert rule\n{word} interval must be greater than zero")


def _check_rule(rule, prefix="", *, interval=None):
    """What the store refuses. `prefix` names the group write that met it."""

    def no(message):
        refuse(400, f"{prefix}invalid alert rule: {message}")

    if not rule["folderUID"]:
        no("folderUID must be set")
    if interval is not None:
        _check_interval(interval)
    if not rule["data"]:
        no("no queries or expressions are found")
    if not rule["title"]:
        no("title is empty")
    if len(rule["title"]) > 190:
        no("name length should not be greater than 190")
    if len(rule["ruleGroup"]) > 190:
        no("rule group name length should not be greater than 190")
    if rule["record"] is None:
        if rule["noDataState"] not in _NO_DATA:
            no(f"unknown NoData state option {rule['noDataState']}")
        if rule["execErrState"] not in _ERROR:
            no(f"unknown Error state option {rule['execErrState']}")
    for query in rule["data"]:
        start, end = query["relativeTimeRange"]["from"], query["relativeTimeRange"]["to"]
        if query["datasourceUid"] not in ("__expr__", "-100") and start <= end:
            refuse(400, f"{prefix}invalid alert rule\ninvalid alert query {query['refId']}: "
                        "[alerting.alert-rule.invalidRelativeTime] Invalid alert rule query "
                        f"{query['refId']}: invalid relative time range "
                        f"[From: {durations.go(start)}, To: {durations.go(end)}]")


def _check_interval(seconds):
    if seconds <= 0 or seconds % SCHEDULER_INTERVAL:
        refuse(400, f"invalid alert rule: interval ({durations.go(seconds)}) should be non-zero and divided exactly "
                    f"by scheduler interval: {SCHEDULER_INTERVAL}")


def _check_folder(world, folder):
    if folder not in world.folders:
        refuse(400, "invalid alert rule: folder does not exist")


def _uid_taken(uid):
    cause = "UNIQUE constraint failed: alert_rule.org_id, alert_rule.uid"
    refuse_with_id(409, "alerting.alert-rule.conflict",
                   f"Failed to save alert rule '{uid}' in organization 1 due to conflict: {cause}",
                   {"Error": cause, "OrgID": 1, "RuleUID": uid})


# Keeping a rule ---------------------------------------------------------------------------------


def _model_as_stored(model, ref):
    if not isinstance(model, dict):
        return model
    return sorted_keys({"intervalMs": 1000, "maxDataPoints": 43200, **model, "refId": ref})


def _as_stored(rule):
    stored = dict(rule)
    stored["orgID"] = 1
    stored["data"] = [{**query, "model": _model_as_stored(query["model"], query["refId"])} for query in rule["data"]]
    stored["updated"] = now()
    if rule["record"] is not None:
        stored.update(condition="", noDataState="", execErrState="", keep_firing_for="0s", **{"for": "0s"})
    return stored


def _keep(world, rule, provenance, *, position):
    """Inserts or replaces; the numeric id and the version follow the uid."""
    old = world.rules.get(rule["uid"])
    kept = Rule()
    kept.uid, kept.provenance, kept.position = rule["uid"], provenance, position
    kept.stored = _as_stored(rule)
    if old is not None:
        kept.stored["id"], kept.version = old.stored["id"], old.version + 1
    elif rule["id"] > 0:
        world.seen("rule", rule["id"])
    else:
        kept.stored["id"] = world.next("rule")
    world.keep_rule(kept)
    return kept


def text_of(rule, *, with_provenance=True):
    """A stored rule as JSON, made once."""
    if rule._text is None:
        rule._bare = dumps(rule.stored)
        rule._text = rule._bare
        if rule.provenance:
            body = {}
            for name, value in rule.stored.items():
                if name == "isPaused":
                    body["provenance"] = rule.provenance
                body[name] = value
            rule._text = dumps(body)
    return rule._text if with_provenance else rule._bare


def _with_exact_time(rule):
    body = json.loads(text_of(rule))
    return {**body, "updated": now(nanoseconds=True)}


# Single rules -----------------------------------------------------------------------------------


def list_rules(call):
    return raw(b"[" + b",".join([text_of(rule) for rule in call.world.rules_of()]) + b"]")


def get_rule(call):
    rule = call.world.rules.get(call.parts[4])
    return raw(text_of(rule)) if rule else empty(404)


def create_rule(call):
    world, rule = call.world, parsed(call.object())
    _check_uid(rule, in_group=False)
    _check_annotations(rule)
    _check_models(rule)
    _check_settings(world, rule)
    key = (rule["folderUID"], rule["ruleGroup"])
    if not rule["folderUID"]:
        refuse(400, "invalid alert rule: folderUID must be set")
    _check_folder(world, rule["folderUID"])
    interval = world.intervals.get(key, 60) if rule["ruleGroup"] else 0
    _check_rule(rule, interval=interval)
    if rule["uid"] in world.rules:
        _uid_taken(rule["uid"])
    rule["uid"] = rule["uid"] or world.short_uid()
    kept = _keep(world, rule, call.provenance, position=len(world.rules_of(*key)))
    world.intervals[key] = interval
    return reply(_with_exact_time(kept), 201)


def update_rule(call):
    world, uid = call.world, call.parts[4]
    rule = parsed(call.object())
    old = world.rules.get(uid)
    if old is None:
        return empty(404)
    rule["uid"] = uid
    _check_uid(rule, in_group=False)
    _check_annotations(rule)
    _check_models(rule)
    _check_settings(world, rule)
    if not rule["folderUID"]:
        refuse(400, "invalid alert rule: folderUID must be set")
    _check_folder(world, rule["folderUID"])
    key = (rule["folderUID"], rule["ruleGroup"])
    interval = world.intervals.get(key, 60) if rule["ruleGroup"] else 0
    _check_rule(rule, interval=interval)
    if old.provenance not in ("", call.provenance):
        refuse(500, "Internal Server Error")  # its log: cannot change provenance from 'api' to ''
    same_group = key == (old.stored["folderUID"], old.stored["ruleGroup"])
    position = old.position if same_group else len(world.rules_of(*key))
    kept = _keep(world, rule, call.provenance, position=position)
    world.intervals[key] = interval
    return reply(_with_exact_time(kept))


def delete_rule(call):
    rule = call.world.rules.get(call.parts[4])
    if rule is not None:
        if rule.provenance == "file":
            refuse(500, "Internal Server Error")
        call.world.forget_rule(rule.uid)
    return empty(204)


# Groups -----------------------------------------------------------------------------------------


def _no_group():
    refuse_with_id(404, "alerting.alert-rule.notFound", "NotFound")


def get_group(call):
    folder, group = call.parts[4], call.parts[6]
    rules = call.world.rules_of(folder, group)
    if not rules:
        _no_group()
    head = dumps({"title": group, "folderUid": folder, "interval": call.world.intervals[folder, group]})
    texts = b",".join([text_of(rule, with_provenance=False) for rule in rules])
    return raw(head[:-1] + b',"rules":[' + texts + b"]}")


def put_group(call):
    world, folder, group = call.world, call.parts[4], call.parts[6]
    body = call.object()
    interval = typed(body, "interval", int)
    typed(body, "title", str), typed(body, "folderUid", str)
    given = typed(body, "rules", list)
    rules = [parsed(rule) for rule in given or []]
    for rule in rules:
        _check_uid(rule, in_group=True)
        _check_annotations(rule)
        _check_models(rule)
        _check_settings(world, rule)
    _check_folder(world, folder)
    _check_interval(interval)
    answer = {"title": group, "folderUid": folder, "interval": interval,
              "rules": None if given is None else rules}
    if not rules:
        return reply(answer)  # an empty list deletes nothing
    placed = [_completed(world, {**rule, "folderUID": folder, "ruleGroup": group}) for rule in rules]
    _check_conflicts(call, placed, folder, group)
    listed = {rule["uid"] for rule in placed}
    for rule in world.rules_of(folder, group):
        if rule.uid not in listed:
            world.forget_rule(rule.uid)
    for position, rule in enumerate(placed):
        rule["uid"] = rule["uid"] or world.short_uid()
        _keep(world, rule, call.provenance, position=position)
    world.intervals[folder, group] = interval
    return reply(answer)


def _completed(world, rule):
    """In a group, what a known rule leaves empty stays as it was: title, states, and queries together
    with the condition."""
    old = world.rules.get(rule["uid"])
    if old is None:
        return rule
    for name in ("title", "noDataState", "execErrState"):
        rule[name] = rule[name] or old.stored[name]
    if not rule["condition"] or not rule["data"]:
        rule["condition"], rule["data"] = old.stored["condition"], old.stored["data"]
    return rule


def _check_conflicts(call, rules, folder, group):
    """Before anything is written: a refused PUT changes nothing."""
    world, seen = call.world, set()
    for rule in rules:
        exists = rule["uid"] in world.rules
        _check_rule(rule, "failed to update alert rules: " if exists else "failed to insert alert rules: ")
        if rule["uid"] and rule["uid"] in seen:
            if not exists:
                _uid_taken(rule["uid"])
            version = world.rules[rule["uid"]].version
            refuse(409, "failed to update alert rules: version conflict while updating a record in the database with "
                        f"optimistic locking: alert rule UID {rule['uid']} version {version}")
        seen.add(rule["uid"])
    touched = [world.rules[rule["uid"]] for rule in rules if rule["uid"] in world.rules]
    if any(rule.provenance == "file" for rule in touched + world.rules_of(folder, group)):
        refuse(500, "Internal Server Error")


def delete_group(call):
    rules = call.world.rules_of(call.parts[4], call.parts[6])
    if not rules:
        _no_group()
    if any(rule.provenance == "file" for rule in rules):
        refuse(500, "Internal Server Error")
    for rule in rules:
        call.world.forget_rule(rule.uid)
    return empty(204)


# Exports ----------------------------------------------------------------------------------------


def _exported(rule):
    stored = rule.stored
    body = {"uid": rule.uid, "title": stored["title"]}
    if stored["condition"]:
        body["condition"] = stored["condition"]
    body["data"] = [{key: value for key, value in query.items() if key != "queryType" or value}
                    for query in stored["data"]]
    for name in ("noDataState", "execErrState"):
        if stored[name]:
            body[name] = stored[name]
    for name, key in (("for", "for"), ("keepFiringFor", "keep_firing_for")):
        if stored[key] != "0s":
            body[name] = stored[key]
    for name in ("annotations", "labels"):
        if name in stored:
            body[name] = stored[name]
    body["isPaused"] = stored["isPaused"]
    for name in ("notification_settings", "record"):
        if stored[name] is not None:
            body[name] = stored[name]
    return body


def _exported_groups(call, rules, *, titled):
    groups = {}
    for rule in rules:
        groups.setdefault((rule.stored["folderUID"], rule.stored["ruleGroup"]), []).append(rule)
    listed = []
    for (folder, group), members in groups.items():
        title = call.world.folders[folder].title if titled and folder in call.world.folders else ""
        listed.append({"orgId": 1, "name": group, "folder": title,
                       "interval": durations.prometheus(call.world.intervals[folder, group] * 1000),
                       "rules": [_exported(rule) for rule in members]})
    return export.answer(call, {"apiVersion": 1, "groups": listed})


def export_rule(call):
    rule = call.world.rules.get(call.parts[4])
    if rule is None:
        refuse(404, "could not find alert rule")
    return _exported_groups(call, [rule], titled=False)


def export_rules(call):
    folders = [uid for value in call.query.get("folderUid", []) for uid in value.split(",") if uid]
    group, uid = call.one("group"), call.one("ruleUid")
    if uid:
        rule = call.world.rules.get(uid)
        if rule is None:
            refuse(404, "could not find alert rule")
        return _exported_groups(call, [rule], titled=False)
    if group and len(folders) != 1:
        refuse(400, "group name must be specified together with a single folder_uid parameter. "
                    f"Got {len(folders)}")
    rules = [rule for rule in call.world.rules_of(None, group or None)
             if not folders or rule.stored["folderUID"] in folders]
    if not rules:
        return empty(404)
    return _exported_groups(call, rules, titled=not group)


def export_group(call):
    rules = call.world.rules_of(call.parts[4], call.parts[6])
    if not rules:
        _no_group()
    return _exported_groups(call, rules, titled=False)
