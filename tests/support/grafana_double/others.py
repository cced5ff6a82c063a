"""The rest: rule states, the Alertmanager, annotations, links, plugins, who am I, /apis."""

import datetime
import html
import re
import urllib.parse

import aiohttp

from . import durations, notifications
from .access import NONE, SERVER
from .answers import JSON_OF_ROUTER, Answer, bad_request, refuse, refuse_with_id, reply
from .call import string_list, typed
from .world import DEFAULT_RECEIVER, VERSION, milliseconds, now

_NEVER = "0001-01-01T00:00:00Z"

# Server, organisation, user ---------------------------------------------------------------------


def health(_):
    return reply({"database": "ok", "version": VERSION, "commit": "e2289a38"}, content_type=JSON_OF_ROUTER)


def frontend_settings(call):
    sources = {}
    for source in call.world.datasources.values():
        sources[source["name"]] = {
            "id": source["id"], "uid": source["uid"], "type": source["type"], "name": source["name"],
            "url": f"/api/datasources/proxy/uid/{source['uid']}", "isDefault": source["isDefault"],
            "access": source["access"], "preload": False, "readOnly": source["readOnly"],
            "jsonData": source["jsonData"]}
    default = next((s["name"] for s in call.world.datasources.values() if s["isDefault"]), "-- Grafana --")
    return reply({
        "defaultDatasource": default, "datasources": sources, "minRefreshInterval": "5s", "panels": {}, "apps": {},
        "appUrl": call.world.url + "/", "appSubUrl": "", "namespace": "default", "allowOrgCreate": False,
        "authProxyEnabled": False, "disableLoginForm": False, "unifiedAlertingEnabled": True,
        "buildInfo": {"hideVersion": False, "version": VERSION, "versionString": f"Grafana v{VERSION} (e2289a38)",
                      "commit": "e2289a38", "commitShort": "e2289a38", "buildstamp": 0, "edition": "Open Source",
                      "latestVersion": "", "hasUpdate": False, "env": "production"},
        "featureToggles": {}}, content_type=JSON_OF_ROUTER)


_ORG = {"id": 1, "name": "Main Org.",
        "address": {"address1": "", "address2": "", "city": "", "zipCode": "", "state": "", "country": ""}}


def org(_):
    return reply(_ORG)


def orgs(_):
    return reply([{"id": 1, "name": "Main Org."}])


def org_by_id(call):
    if call.parts[2] != "1":
        refuse(404, "Organization not found")
    return reply(_ORG)


def user_orgs(call):
    if call.who.is_token:  # so it is: 304 and nothing
        return Answer(304)
    return reply([{"orgId": 1, "name": "Main Org.", "role": "Admin"}])


def user(call):
    common = {"theme": "", "orgId": 1, "isGrafanaAdmin": call.who.role == SERVER, "isDisabled": False,
              "isExternal": False, "isExternallySynced": False, "isGrafanaAdminExternallySynced": False}
    if call.who.role == SERVER:
        return reply({"id": 1, "uid": "fg4yqpx1nx4hsa", "email": "admin@localhost", "name": "",
                      "login": call.who.login, **common, "authLabels": [], "updatedAt": "2026-01-01T00:00:00Z",
                      "createdAt": "2026-01-01T00:00:00Z", "avatarUrl": "/public/img/user_profile.png",
                      "isProvisioned": False})
    number, name = call.who.account
    return reply({"id": 0, "uid": f"service-account:{number}", "email": call.who.login, "name": name,
                  "login": call.who.login, **common, "authLabels": None, "updatedAt": _NEVER, "createdAt": _NEVER,
                  "avatarUrl": "", "isProvisioned": False})


# Rule states ------------------------------------------------------------------------------------

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


def _limit(call, name):
    text = call.one(name)
    return int(text) if re.fullmatch(r"-?\d+", text) else -1


def _no_filter(what, value):
    return reply({"status": "error", "errorType": "bad_data", "error": f"unknown {what} '{value}'",
                  "data": {"groups": []}}, 400)


def rule_states(call):
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
    limit_groups, limit_rules = _limit(call, "group_limit"), _limit(call, "limit_rules")
    rule_limit, limit_alerts = _limit(call, "rule_limit"), _limit(call, "limit_alerts")
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


def firing_alerts(call):
    alerts = [alert for told in call.world.rule_states.values() for alert in told.get("alerts", [])]
    return reply({"status": "success", "data": {"alerts": alerts}})


# Alertmanager -----------------------------------------------------------------------------------


def am_alerts(call):
    for text in call.query.get("filter", []):
        if not re.fullmatch(r'\s*[^=!~"\s]+\s*(=~|!~|!=|=)\s*.*', text):
            refuse(400, f"bad matcher format: {text}: unable to retrieve alerts")
    return reply([])


def am_receivers(call):
    grouped = {DEFAULT_RECEIVER: []}
    for point in call.world.contact_points:
        grouped.setdefault(point["name"], []).append({
            "lastNotifyAttempt": _NEVER, "lastNotifyAttemptDuration": "0s", "name": point["type"],
            "sendResolved": not point["disableResolveMessage"]})
    return reply([{"active": True, "integrations": list_, "name": name} for name, list_ in grouped.items()])


_TEST_ALERT = {"annotations": {"__dashboardUid__": "dashboard_uid", "__orgId__": "1", "__panelId__": "1",
                               "summary": "Notification test"},
               "labels": {"alertname": "TestAlert", "grafana_folder": "Test Folder", "instance": "Grafana"}}


async def _delivered(call, config, settings):
    """None, or why the notification failed. Only loopback webhooks are really called."""
    url = settings.get("url") if config.get("type") == "webhook" else None
    at = urllib.parse.urlsplit(url) if isinstance(url, str) else None
    if at is None or at.hostname not in ("127.0.0.1", "localhost"):
        return None
    try:
        async with call.world.session.post(url, json={"alerts": [_TEST_ALERT]}) as answer:
            return None if answer.status < 300 else f"webhook response status {answer.status}"
    except (aiohttp.ClientError, OSError):
        return f'Post "<redacted>": dial tcp {at.hostname}:{at.port or 80}: connect: connection refused'


async def am_test(call):
    body, status, shown = call.object(), 200, []
    for receiver in typed(body, "receivers", list, []):
        rows = []
        for config in receiver.get("grafana_managed_receiver_configs") or []:
            type_, settings = str(config.get("type", "")).lower(), config.get("settings") or {}
            if type_ not in notifications._TYPES:
                refuse(400, f"unknown integration type: {type_}")
            row = {"name": config.get("name", ""), "uid": config.get("uid", ""), "status": "ok"}
            wrong = notifications.complaint(type_, settings)
            if wrong:
                status = 400
                wrong = (f'failed to validate integration "{row["name"]}" (UID {row["uid"]}) of type "{type_}": '
                         f"{wrong}")
            else:
                wrong = await _delivered(call, {**config, "type": type_}, settings)
                status = max(status, 207 if wrong else 200)
            if wrong:
                row.update(status="failed", error=wrong)
            rows.append(row)
        shown.append({"name": receiver.get("name", ""), "grafana_managed_receiver_configs": rows})
    return reply({"alert": _TEST_ALERT, "receivers": shown, "notified_at": now(nanoseconds=True)}, status)


def _time(text):
    try:
        return datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        bad_request()


def _stamp():
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def silence_create(call):
    body = call.object()
    matchers = typed(body, "matchers", list, [])

    def invalid(text):
        refuse(400, "silence failed validation: validation failure list:\nvalidation failure list:\n" + text)

    if not matchers:
        invalid("matchers in body should have at least 1 items")
    for name in ("comment", "createdBy", "startsAt", "endsAt"):
        if not typed(body, name, str):
            invalid(f"{name} in body is required")
    start, end = _time(body["startsAt"]), _time(body["endsAt"])
    if start > end:
        _silence_refused("start time must be before end time")
    if end < datetime.datetime.now(datetime.timezone.utc):
        _silence_refused("end time can't be in the past")
    uid = typed(body, "id", str) or call.world.long_uid()
    call.world.silences[uid] = {
        "comment": body["comment"], "createdBy": body["createdBy"], "endsAt": body["endsAt"], "id": uid,
        "matchers": [dict(sorted({"isEqual": True, "isRegex": False, **m}.items())) for m in matchers],
        "startsAt": max(body["startsAt"], _stamp()), "status": {"state": "active"}, "updatedAt": _stamp()}
    return reply({"silenceID": uid}, 202)


def _silence_refused(text):
    refuse_with_id(400, "alerting.notifications.silences.badRequest",
                   f"[alerting.notifications.silences.badRequest] invalid silence: {text}: unable to create silence")


def _silence(call):
    uid = call.parts[6]
    found = call.world.silences.get(uid)
    if found is None:
        refuse_with_id(404, "alerting.notifications.silences.notFound",
                       f"[alerting.notifications.silences.notFound] silence {uid} not found")
    return found


def silences(call):
    return reply(list(call.world.silences.values()))


def silence_get(call):
    return reply(_silence(call))


def silence_delete(call):
    _silence(call)["status"] = {"state": "expired"}
    return reply({"message": "silence deleted"})


# Annotations ------------------------------------------------------------------------------------


def _note(call, *, for_update=False):
    body = call.object()
    at = typed(body, "time", int) or milliseconds()
    tags = string_list(body, "tags")
    if sum(map(len, tags)) > 500:
        refuse_with_id(400, "annotations.tag-limit-exceeded", "Tags length exceeds the maximum allowed.")
    uid = typed(body, "dashboardUID", str)
    text = typed(body, "text", str)
    if uid and uid not in call.world.dashboards:
        refuse(500, "Error while checking annotation permissions")
    if not text and not for_update:
        refuse(400, "Failed to save annotation")
    return {"dashboardUID": uid, "panelId": typed(body, "panelId", int), "time": at,
            "timeEnd": typed(body, "timeEnd", int) or at, "text": text, "tags": tags,
            "data": typed(body, "data", dict, {}), "has_end": bool(body.get("timeEnd"))}


def annotation_create(call):
    world, note = call.world, _note(call)
    del note["has_end"]
    if note["timeEnd"] < note["time"]:
        note["time"], note["timeEnd"] = note["timeEnd"], note["time"]
    note.update(id=world.next("annotation"), created=milliseconds(), login=call.who.login)
    note["updated"] = note["created"]
    world.annotations[note["id"]] = note
    return reply({"id": note["id"], "message": "Annotation added"})


def _note_shown(world, note):
    body = {"id": note["id"]}
    if note["dashboardUID"]:
        body["dashboardId"] = world.dashboards[note["dashboardUID"]].id
    body["dashboardUID"] = note["dashboardUID"]
    if note["panelId"]:
        body["panelId"] = note["panelId"]
    body.update({name: note[name] for name in ("created", "updated", "time", "timeEnd")})
    for name in ("text", "tags"):
        if note[name]:
            body[name] = note[name]
    body.update(login=note["login"], email="admin@localhost" if note["login"] == "admin" else note["login"],
                avatarUrl="/public/img/user_profile.png", data=note["data"])
    return body


def _number_of(call):
    if not re.fullmatch(r"-?\d+", call.parts[2]):
        refuse(400, "annotationId is invalid")
    return int(call.parts[2])


def _known_note(call):
    note = call.world.annotations.get(_number_of(call))
    if note is None:
        refuse(404, "Annotation not found")
    return note


def annotation_get(call):
    return reply(_note_shown(call.world, _known_note(call)))


def annotation_list(call):
    notes = list(call.world.annotations.values())
    begin, end = _limit(call, "from"), _limit(call, "to")
    if begin > 0 and end > 0:
        notes = [note for note in notes if note["time"] <= end and note["timeEnd"] >= begin]
    if call.one("dashboardUID"):
        notes = [note for note in notes if note["dashboardUID"] == call.one("dashboardUID")]
    if call.one("type") == "alert":
        notes = []
    tags = set(call.query.get("tags", []))
    if tags:
        any_ = call.one("matchAny") == "true"
        notes = [n for n in notes if (tags & set(n["tags"]) if any_ else tags <= set(n["tags"]))]
    limit = _limit(call, "limit")
    notes.sort(key=lambda note: (note["timeEnd"], note["time"]), reverse=True)
    return reply([_note_shown(call.world, note) for note in notes[:limit if limit > 0 else 100]])


def annotation_patch(call):
    note, body = _known_note(call), call.object()
    for name, kind in (("text", str), ("time", int), ("timeEnd", int)):
        if typed(body, name, kind):
            note[name] = body[name]
    if string_list(body, "tags"):
        note["tags"] = body["tags"]
    note["updated"] = milliseconds()
    return reply({"message": "Annotation patched"})


def annotation_put(call):
    note, new = _known_note(call), _note(call, for_update=True)
    note.update(text=new["text"], tags=new["tags"], time=new["time"], updated=milliseconds())
    if new["has_end"]:
        note["timeEnd"] = new["timeEnd"]
    return reply({"message": "Annotation updated"})


def annotation_delete(call):
    call.world.annotations.pop(_number_of(call), None)
    return reply({"message": "Annotation deleted"})


def annotation_tags(call):
    counted = {}
    for note in call.world.annotations.values():
        for tag in note["tags"]:
            counted[tag] = counted.get(tag, 0) + 1
    return reply({"result": {"tags": [{"tag": tag, "count": count} for tag, count in sorted(counted.items())]}})


# Links ------------------------------------------------------------------------------------------


def short_url(call):
    path = typed(call.object(), "path", str).strip()
    if path.startswith("/"):
        refuse_with_id(400, "shorturl.absolute-path", "Path should be relative")
    if ".." in path:
        refuse_with_id(400, "shorturl.invalid-path", "Invalid short URL path")
    uid = call.world.short_uid()
    call.world.short_urls[uid] = path
    return reply({"uid": uid, "url": f"{call.world.url}/goto/{uid}?orgId=1"})


def _redirect(status, target, word):
    return Answer(status, f'<a href="{html.escape(target)}">{word}</a>.\n\n'.encode(), "text/html; charset=utf-8",
                  {"Location": target})


def to_login(call):
    at = call.path_and_query
    return _redirect(302, "/login" + ("" if at == "/" else "?redirectTo=" + urllib.parse.quote(at, safe="")), "Found")


def goto(call):
    path = call.world.short_urls.get(call.parts[1])
    if path is None:
        return _redirect(308, call.world.url + "/", "Permanent Redirect")
    target = path if "://" in path else f"{call.world.url}/{path}"
    return _redirect(302, target, "Found")


def page(status):
    return Answer(status, b'<!DOCTYPE html>\n<html lang="en-US">\n  <head>\n    <title>Grafana</title>\n  </head>\n'
                          b"  <body></body>\n</html>\n", "text/html; charset=UTF-8")


# Plugins ----------------------------------------------------------------------------------------


def plugins(call):
    if call.one("core") == "0" or call.one("type") == "app":
        return reply([])
    return reply([{"id": id_, "name": id_.capitalize(), "type": "datasource", "enabled": True, "pinned": False}
                  for id_ in ("prometheus", "loki")])


def plugin_settings(call):
    if call.parts[2] in ("prometheus", "loki"):
        return reply({"id": call.parts[2], "name": call.parts[2].capitalize(), "type": "datasource",
                      "enabled": False, "pinned": False})
    refuse(404, "Plugin not found, no installed plugin with that id")


def plugin_missing(call):
    refuse(404, "Plugin not found", JSON_OF_ROUTER)


# /apis ------------------------------------------------------------------------------------------

_VERSIONS = {"dashboard.grafana.app": ("v1beta1", "v0alpha1", "v2beta1", "v2alpha1"),
             "folder.grafana.app": ("v1beta1",)}
_KINDS = {"dashboard.grafana.app": ("dashboards", "Dashboard"), "folder.grafana.app": ("folders", "Folder")}


def _status(code, message, reason=None, details=None):
    body = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message}
    if reason:
        body.update(reason=reason, details=details or {})
    return reply({**body, "code": code}, code)


def _group(name):
    versions = [{"groupVersion": f"{name}/{version}", "version": version} for version in _VERSIONS[name]]
    return {"name": name, "versions": versions, "preferredVersion": versions[0]}


def _object(group, version, name, uid, spec, folder):
    annotations = {"grafana.app/createdBy": "user:fg4yqpx1nx4hsa"}
    if folder:
        annotations["grafana.app/folder"] = folder
    return {"kind": _KINDS[group][1], "apiVersion": f"{group}/{version}",
            "metadata": {"name": name, "namespace": "default", "resourceVersion": str(uid), "generation": 1,
                         "creationTimestamp": "2026-01-01T00:00:00Z", "annotations": annotations}, "spec": spec}


def apis(call):
    """Enough to see which versions there are and to read; writing goes through the old routes."""
    parts = call.parts[1:]
    missing = _status(404, "the server could not find the requested resource", "NotFound")
    if not call.world.apis or parts and parts[0] not in _VERSIONS:
        return Answer(404, b"404 page not found\n", "text/plain; charset=utf-8")
    if not parts:
        return reply({"kind": "APIGroupList", "groups": [_group(name) for name in _VERSIONS]})
    group = parts[0]
    if len(parts) == 1:
        return reply({"kind": "APIGroup", "apiVersion": "v1", **_group(group)})
    version, (plural, kind) = parts[1], _KINDS[group]
    if version not in _VERSIONS[group]:
        return missing
    if len(parts) == 2:
        verbs = ["create", "delete", "deletecollection", "get", "list", "patch", "update"]
        return reply({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": f"{group}/{version}",
                      "resources": [{"name": plural, "singularName": kind.lower(), "namespaced": True, "kind": kind,
                                     "verbs": verbs}]})
    if parts[2:5] != ["namespaces", "default", plural] or len(parts) > 6 or call.method != "GET":
        return missing
    world = call.world
    if group == "folder.grafana.app":
        found = {f.uid: _object(group, version, f.uid, f.id, {"title": f.title}, f.parent)
                 for f in world.folders.values()}
    else:
        found = {d.uid: _object(group, version, d.uid, d.id, d.content, d.folder) for d in world.dashboards.values()}
    if len(parts) == 5:
        visible = [] if call.who.role == NONE else list(found.values())
        return reply({"kind": kind + "List", "apiVersion": f"{group}/{version}",
                      "metadata": {"resourceVersion": "1"}, "items": visible})
    if parts[5] not in found:
        return _status(404, f'{plural}.{group} "{parts[5]}" not found', "NotFound",
                       {"name": parts[5], "group": group, "kind": plural})
    return reply(found[parts[5]])
