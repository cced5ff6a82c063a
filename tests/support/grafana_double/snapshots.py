"""/api/snapshots."""

import datetime
import random
import string

from .answers import refuse, refuse_with_id, reply
from .call import typed
from .world import now


def _key():
    return "".join(random.choices(string.ascii_letters + string.digits, k=32))


def create(call):
    body = call.object()
    if not isinstance(body.get("dashboard"), dict):
        refuse(400, "bad request data", traceID="")
    dashboard = body["dashboard"]
    if typed(body, "external", bool):
        refuse(403, "External dashboard creation is disabled")
    if typed(dashboard, "uid", str) not in call.world.dashboards:
        refuse(400, "Dashboard not found", traceID="")
    key, delete_key = typed(body, "key", str) or _key(), typed(body, "deleteKey", str) or _key()
    if key in call.world.snapshots:
        refuse(500, "Failed to create snapshot")
    seconds = typed(body, "expires", int)
    expires = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=seconds or 50 * 365 * 86400)
    call.world.snapshots[key] = {
        "key": key, "deleteKey": delete_key, "name": typed(body, "name", str) or "Unnamed snapshot",
        "created": now(), "expires": expires.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "dashboard": {**dashboard, "snapshot": {"originalUrl": "/d/" + dashboard["uid"]}}}
    return reply({"key": key, "deleteKey": delete_key, "url": f"{call.world.url}/dashboard/snapshot/{key}",
                  "deleteUrl": f"{call.world.url}/api/snapshots-delete/{delete_key}"})


def _known(call):
    found = call.world.snapshots.get(call.parts[2])
    if found is None:
        refuse_with_id(404, "dashboardsnapshots.not-found", "Snapshot not found")
    return found


def get(call):
    found = _known(call)
    return reply({"meta": {
        "isSnapshot": True, "type": "snapshot", "canSave": False, "canEdit": False, "canAdmin": False,
        "canStar": False, "canDelete": False, "slug": "", "url": "", "expires": found["expires"],
        "created": found["created"], "updated": "0001-01-01T00:00:00Z", "updatedBy": "", "createdBy": "",
        "version": 0, "hasAcl": False, "isFolder": False, "folderId": 0, "folderUid": "", "folderTitle": "",
        "folderUrl": "", "provisioned": False, "provisionedExternalId": "", "annotationsPermissions": None},
        "dashboard": dict(sorted(found["dashboard"].items()))})


def list_snapshots(call):
    wanted, limit = call.one("query").lower(), call.number("limit")
    found = [s for s in call.world.snapshots.values() if wanted in s["name"].lower()]
    return reply([{"name": s["name"], "key": s["key"], "external": False, "externalUrl": "", "expires": s["expires"],
                   "created": s["created"], "updated": s["created"]} for s in found[:limit if limit > 0 else 1000]])


_GONE = {"message": "Snapshot deleted. It might take an hour before it's cleared from any CDN caches."}


def delete(call):
    found = _known(call)
    del call.world.snapshots[found["key"]]
    return reply({**_GONE, "id": 1})


def delete_by_key(call):
    found = next((s for s in call.world.snapshots.values() if s["deleteKey"] == call.parts[2]), None)
    if found is None:
        refuse_with_id(404, "dashboardsnapshots.not-found", "Snapshot not found")
    del call.world.snapshots[found["key"]]
    return reply(_GONE)
