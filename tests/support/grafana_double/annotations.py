"""/api/annotations."""

import re

from . import history
from .answers import refuse, refuse_with_id, reply
from .call import string_list, typed
from .world import milliseconds


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


def create(call):
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


def get(call):
    return reply(_note_shown(call.world, _known_note(call)))


def list_notes(call):
    notes = list(call.world.annotations.values())
    begin, end = call.number("from"), call.number("to")
    if begin > 0 and end > 0:
        notes = [note for note in notes if note["time"] <= end and note["timeEnd"] >= begin]
    if call.one("dashboardUID"):
        notes = [note for note in notes if note["dashboardUID"] == call.one("dashboardUID")]
    changes = history.as_annotations(call.world, call.one("alertUID"), begin, end)
    if call.one("type") == "alert":
        return reply(changes[:call.number("limit")])
    tags = set(call.query.get("tags", []))
    if tags:
        any_ = call.one("matchAny") == "true"
        notes = [n for n in notes if (tags & set(n["tags"]) if any_ else tags <= set(n["tags"]))]
    limit = call.number("limit")
    notes.sort(key=lambda note: (note["timeEnd"], note["time"]), reverse=True)
    return reply([_note_shown(call.world, note) for note in notes[:limit if limit > 0 else 100]])


def patch(call):
    note, body = _known_note(call), call.object()
    for name, kind in (("text", str), ("time", int), ("timeEnd", int)):
        if typed(body, name, kind):
            note[name] = body[name]
    if string_list(body, "tags"):
        note["tags"] = body["tags"]
    note["updated"] = milliseconds()
    return reply({"message": "Annotation patched"})


def put(call):
    note, new = _known_note(call), _note(call, for_update=True)
    note.update(text=new["text"], tags=new["tags"], time=new["time"], updated=milliseconds())
    if new["has_end"]:
        note["timeEnd"] = new["timeEnd"]
    return reply({"message": "Annotation updated"})


def delete(call):
    call.world.annotations.pop(_number_of(call), None)
    return reply({"message": "Annotation deleted"})


def tags(call):
    counted = {}
    for note in call.world.annotations.values():
        for tag in note["tags"]:
            counted[tag] = counted.get(tag, 0) + 1
    return reply({"result": {"tags": [{"tag": tag, "count": count} for tag, count in sorted(counted.items())]}})
