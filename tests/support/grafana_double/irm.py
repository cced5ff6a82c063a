"""Grafana IRM's incidents: POST /api/plugins/grafana-irm-app/resources/api/v1/{Service}.{Method}.

Not from recordings but from its Go client (https://github.com/grafana/incident-go): `world.irm` is None where the
plugin is absent, as on the recorded server.
"""

import datetime

from .access import VIEWER
from .answers import JSON, Answer, dumps, refuse, reply
from .world import now

PLUGINS = ("grafana-irm-app", "grafana-incident-app")
PAGE = 2  #: Incidents on a page at most, whatever is asked for: small, so that tests turn pages

_SEVERITIES = ("pending", "critical", "major", "minor")


def tell(world, given):
    """{"plugin"?}: the plugin is there and keeps no incidents yet; null: it is absent."""
    world.irm = None if given is None else {
        "plugin": given.get("plugin", PLUGINS[0]), "enabled": given.get("enabled", True), "incidents": [],
        "activity": [], "number": 0}


def settings(world, plugin):
    if world.irm is None or world.irm["plugin"] != plugin:
        return None
    return {"id": plugin, "name": "Grafana IRM", "type": "app", "enabled": world.irm["enabled"], "pinned": True}


class _Wrong(Exception):
    pass


def _number(irm):
    irm["number"] += 1
    return irm["number"]


def _incident(irm, body, key="incidentID"):
    for one in irm["incidents"]:
        if one["incidentID"] == body.get(key):
            return one
    raise _Wrong("incident not found")


def _note(irm, who, incident, kind, text, event_time=""):
    at = now()
    item = {"activityItemID": f"activity-{_number(irm)}", "incidentID": incident["incidentID"],
            "user": {"userID": "grafana-incident:1", "name": who, "photoURL": ""}, "subjectUser": None,
            "createdTime": at, "eventTime": event_time or at, "activityKind": kind, "body": text, "url": "",
            "tags": [], "immutable": kind != "userNote", "fieldValues": {}, "attachments": [], "relevance": "normal"}
    irm["activity"].append(item)
    return item


def _create(irm, body, who):
    if not body.get("title"):
        raise _Wrong("title is required")
    if body.get("severity") not in _SEVERITIES:
        raise _Wrong("invalid severity")
    number = str(_number(irm))
    at = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    one = {"incidentID": number, "refs": [], "severity": body["severity"], "labels": list(body.get("labels") or []),
           "isDrill": bool(body.get("isDrill")), "createdTime": at, "modifiedTime": at,
           "createdByUser": {"userID": "grafana-incident:1", "name": who, "photoURL": ""}, "closedTime": "",
           "durationSeconds": 0, "status": body.get("status") or "active", "title": body["title"],
           "overviewURL": f"/a/{irm['plugin']}/incidents/{number}/title", "summary": "", "heroImagePath": "",
           "roomPrefix": body.get("roomPrefix", ""), "incidentStart": at, "incidentEnd": ""}
    irm["incidents"].append(one)
    _note(irm, who, one, "incidentCreated", "")
    if body.get("attachURL"):
        _note(irm, who, one, "userNote", f"[{body.get('attachCaption', '')}]({body['attachURL']})")
    return {"incident": one}


def _status(irm, body, who):
    one = _incident(irm, body)
    if body.get("status") not in ("active", "resolved"):
        raise _Wrong("invalid status")
    if one["status"] != body["status"]:
        one["status"] = body["status"]
        one["closedTime"] = one["incidentEnd"] = now() if body["status"] == "resolved" else ""
        _note(irm, who, one, "incidentStatusChanged", "")
    return {"incident": one}


def _severity(irm, body, who):
    one = _incident(irm, body)
    if body.get("severity") not in _SEVERITIES:
        raise _Wrong("invalid severity")
    one["severity"] = body["severity"]
    return {"incident": one}


def _title(irm, body, who):
    one = _incident(irm, body)
    one["title"] = body["title"]
    return {"incident": one}


def _assign(irm, body, who):
    one = _incident(irm, body)
    one["labels"].append({"key": body["key"], "label": body["value"], "description": "", "colorHex": ""})
    return {"incident": one}


def _unassign(irm, body, who):
    one = _incident(irm, body)
    one["labels"] = [label for label in one["labels"] if (label["key"], label["label"]) != (body["key"], body["value"])]
    return {"incident": one}


def _page(found, body):
    query, cursor = body.get("query") or {}, body.get("cursor") or {}
    begin = int(cursor.get("nextValue") or 0)
    end = begin + min(query.get("limit") or PAGE, PAGE)
    more = end < len(found)
    return found[begin:end], query, {"nextValue": str(end) if more else "", "hasMore": more}


def _previews(irm, body, who):
    words = (body.get("query") or {}).get("queryString", "").split()
    found = list(reversed(irm["incidents"]))
    for word in words:
        name, _, value = word.partition(":")
        if name == "status":
            found = [one for one in found if one["status"] == value]
        elif name == "isdrill":
            found = [one for one in found if one["isDrill"] == (value == "true")]
    rows, query, cursor = _page(found, body)
    shown = [{**{name: one[name] for name in (
        "incidentID", "labels", "isDrill", "createdTime", "modifiedTime", "closedTime", "createdByUser", "title",
        "summary", "heroImagePath", "status", "incidentStart", "incidentEnd")}, "severityID": "1",
        "severityLabel": one["severity"].capitalize(), "incidentType": "internal", "description": "", "slug": "title",
        "fieldValues": [], "version": 1} for one in rows]
    return {"incidentPreviews": shown, "query": query, "cursor": cursor}


def _activity(irm, body, who):
    one = _incident(irm, body.get("query") or {})
    kinds = (body.get("query") or {}).get("activityKind")
    found = [item for item in irm["activity"]
             if item["incidentID"] == one["incidentID"] and (not kinds or item["activityKind"] in kinds)]
    rows, query, cursor = _page(found, body)
    return {"activityItems": rows, "query": query, "cursor": cursor}


def _add_activity(irm, body, who):
    one = _incident(irm, body)
    return {"activityItem": _note(irm, who, one, body.get("activityKind", "userNote"), body.get("body", ""),
                                  body.get("eventTime", ""))}


_METHODS = {
    "IncidentsService.CreateIncident": _create, "IncidentsService.UpdateStatus": _status,
    "IncidentsService.UpdateSeverity": _severity, "IncidentsService.UpdateTitle": _title,
    "IncidentsService.AssignLabel": _assign, "IncidentsService.UnassignLabel": _unassign,
    "IncidentsService.GetIncident": lambda irm, body, who: {"incident": _incident(irm, body)},
    "IncidentsService.QueryIncidentPreviews": _previews, "ActivityService.QueryActivity": _activity,
    "ActivityService.AddActivity": _add_activity,
}


def handle(call):
    """None when the plugin is not there."""
    irm = call.world.irm
    if irm is None or call.parts[2] != irm["plugin"] or not call.rest.startswith("api/v1/"):
        return None
    method = _METHODS.get(call.rest.removeprefix("api/v1/"))
    if method is None or call.method != "POST":
        return Answer(404, b"404 page not found\n", "text/plain; charset=utf-8")
    if call.who.role == VIEWER and "Query" not in call.rest and "Get" not in call.rest:
        refuse(403, "Permission denied")
    try:
        return reply({**method(irm, call.object(), call.who.login), "error": ""})
    except _Wrong as wrong:
        return Answer(500, dumps({"error": str(wrong)}), JSON)
