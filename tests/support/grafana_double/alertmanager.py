"""/api/alertmanager/grafana: receivers and their test, silences, no alerts."""

import datetime
import re
import urllib.parse

import aiohttp

from . import contact_points
from .answers import bad_request, refuse, refuse_with_id, reply
from .call import typed
from .world import DEFAULT_RECEIVER, now

_NEVER = "0001-01-01T00:00:00Z"


def alerts(call):
    for text in call.query.get("filter", []):
        if not re.fullmatch(r'\s*[^=!~"\s]+\s*(=~|!~|!=|=)\s*.*', text):
            refuse(400, f"bad matcher format: {text}: unable to retrieve alerts")
    return reply([])


def receivers(call):
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


async def test(call):
    body, status, shown = call.object(), 200, []
    for receiver in typed(body, "receivers", list, []):
        rows = []
        for config in receiver.get("grafana_managed_receiver_configs") or []:
            type_, settings = str(config.get("type", "")).lower(), config.get("settings") or {}
            if type_ not in contact_points.TYPES:
                refuse(400, f"unknown integration type: {type_}")
            row = {"name": config.get("name", ""), "uid": config.get("uid", ""), "status": "ok"}
            wrong = contact_points.complaint(type_, settings)
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
    for number, matcher in enumerate(matchers):
        try:
            re.compile(matcher.get("value", "") if matcher.get("isRegex") else "")
        except re.error as wrong:
            _silence_refused(f"invalid label matcher {number}: error parsing regexp: {wrong}")
    uid = typed(body, "id", str)
    if uid and uid not in call.world.silences:
        refuse_with_id(404, "alerting.notifications.silences.notFound",
                       f"[alerting.notifications.silences.notFound] silence {uid} not found")
    uid = uid or call.world.long_uid()
    call.world.silences[uid] = {
        "comment": body["comment"], "createdBy": body["createdBy"], "endsAt": body["endsAt"], "id": uid,
        "matchers": [dict(sorted({"isEqual": True, "isRegex": False, **m}.items())) for m in matchers],
        "startsAt": max(body["startsAt"], _stamp()), "updatedAt": _stamp()}
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


def _shown(silence):
    at = datetime.datetime.now(datetime.timezone.utc)
    state = ("pending" if _time(silence["startsAt"]) > at else
             "active" if _time(silence["endsAt"]) > at else "expired")
    return dict(sorted({**silence, "status": {"state": state}}.items()))


def silences(call):
    return reply([_shown(silence) for silence in call.world.silences.values()])


def silence_get(call):
    return reply(_shown(_silence(call)))


def silence_delete(call):
    found = _silence(call)
    if _shown(found)["status"]["state"] != "expired":
        found["endsAt"] = _stamp()
        found["startsAt"] = min(found["startsAt"], found["endsAt"])
    return reply({"message": "silence deleted"})
