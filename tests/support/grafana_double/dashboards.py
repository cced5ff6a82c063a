"""/api/dashboards and /api/search."""

import base64
import re

from . import folders
from .access import EDITORS, NONE
from .answers import dumps, raw, refuse, reply
from .call import typed
from .world import BAD_UID, Dashboard, canonical, now, slugify, sorted_keys

MOST_BYTES = 16 * 1024 * 1024
MINIMUM_REFRESH = 5  # seconds; less is raised silently
_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}


def _title(dashboard):
    return dashboard.content["title"]


def _url(dashboard):
    return f"/d/{dashboard.uid}/{slugify(_title(dashboard))}"


def not_found(call):
    """Who has no right to all dashboards hears it from the access check, which titles its answer."""
    more = {} if call.who.is_admin else {"title": "Not found"}
    refuse(404, "Dashboard not found", **more)


def known(call, uid):
    dashboard = call.world.dashboards.get(uid)
    if dashboard is None:
        not_found(call)
    return dashboard


def get_dashboard(call):
    dashboard = known(call, call.parts[3])
    key = (call.world.folder_generation, call.who.role)
    body = dashboard.bodies.get(key)
    if body is None:
        if len(dashboard.bodies) > 8:
            dashboard.bodies.clear()
        body = dashboard.bodies[key] = (b'{"meta":' + dumps(_meta(call, dashboard)) + b',"dashboard":'
                                        + _text_of(dashboard) + b"}")
    return raw(body)


def _text_of(dashboard):
    if dashboard.text is None:
        dashboard.text = dumps({**dashboard.content, "id": dashboard.id, "version": dashboard.version}, by_name=True)
    return dashboard.text


def _meta(call, dashboard):
    folder = call.world.folders.get(dashboard.folder)
    able, rights = call.who.role in EDITORS, call.who.is_admin
    first = dashboard.version == 1  # names appear with the second version
    notes = {"canAdd": able, "canEdit": able, "canDelete": able}
    return {
        "type": "db", "canSave": able, "canEdit": able, "canAdmin": rights, "canStar": True, "canDelete": able,
        "slug": slugify(_title(dashboard)), "url": _url(dashboard), "expires": "0001-01-01T00:00:00Z",
        "created": dashboard.created, "updated": dashboard.updated,
        "updatedBy": "Anonymous" if first else dashboard.updated_by,
        "createdBy": "Anonymous" if first else dashboard.created_by, "version": dashboard.version,
        "hasAcl": False, "isFolder": False,
        "apiVersion": "v0alpha1", "folderId": folder.id if folder else 0, "folderUid": dashboard.folder,
        "folderTitle": folder.title if folder else "General", "folderUrl": folders.url_of(folder) if folder else "",
        "provisioned": bool(dashboard.provisioned), "provisionedExternalId": dashboard.provisioned or "",
        "annotationsPermissions": {"dashboard": notes, "organization": notes},
    }


def _saved(dashboard):
    return reply({"folderUid": dashboard.folder, "id": dashboard.id, "slug": slugify(_title(dashboard)),
                  "status": "success", "uid": dashboard.uid, "url": _url(dashboard), "version": dashboard.version})


def _raised(refresh):
    """`refresh` as it is stored."""
    if isinstance(refresh, str):
        match = re.fullmatch(r"(\d+)(ms|s|m|h|d)", refresh)
        if match and int(match[1]) * _UNITS[match[2]] < MINIMUM_REFRESH:
            return f"{MINIMUM_REFRESH}s"
    return refresh


def _folder_named(call, body):
    uid, number = typed(body, "folderUid", str), typed(body, "folderId", int)
    if uid == "general":
        refuse(404, 'folders.folder.grafana.app "general" not found')
    if uid:
        if uid not in call.world.folders:
            refuse(400, "folder not found")
        return uid
    if number:
        for folder in call.world.folders.values():
            if folder.id == number:
                return folder.uid
        refuse(400, "folder not found")
    return ""


def save_dashboard(call):
    body = call.object()
    if len(call.body) > MOST_BYTES:
        refuse(413, "Dashboard is too large, max is 16 MB")
    if body.get("dashboard") is None:
        refuse(400, "bad request data")
    overwrite, message = typed(body, "overwrite", bool), typed(body, "message", str)
    content = body["dashboard"] if isinstance(body["dashboard"], dict) else {}
    return _saved(store(call, content, _folder_named, body, overwrite, message))


def store(call, content, folder_named, body, overwrite, message, *, restored_from=0):
    world = call.world
    title, uid, number = (content.get(name) for name in ("title", "uid", "id"))
    title = title.strip() if isinstance(title, str) else ""
    uid = uid if isinstance(uid, str) else ""
    if not title:
        refuse(400, "Dashboard title cannot be empty", status="empty-name")
    if BAD_UID.search(uid):
        refuse(400, "uid contains illegal characters")
    if len(uid) > 40:
        refuse(400, "uid too long, max 40 characters")
    if isinstance(number, int) and number > 0:
        with_id = next((d for d in world.dashboards.values() if d.id == number), None)
        if with_id is None:
            refuse(404, "Dashboard not found", status="not-found")
        uid = uid or with_id.uid
    folder = folder_named(call, body)
    existing = world.dashboards.get(uid)
    if existing is not None and existing.provisioned:
        refuse(400, "Cannot save provisioned dashboard")
    if existing is not None and not overwrite and content.get("version") != existing.version:
        refuse(412, "The dashboard has been changed by someone else", status="version-mismatch")
    uid = uid or world.long_uid()
    kept = {key: value for key, value in content.items() if key not in ("id", "version")}
    kept.update(title=title, uid=uid)
    if "refresh" in kept:
        kept["refresh"] = _raised(kept["refresh"])
    if existing is None:
        dashboard = Dashboard()
        dashboard.uid, dashboard.id, dashboard.version = uid, world.snowflake(), 1
        dashboard.created, dashboard.created_by, dashboard.updated_by = now(), call.who.name, call.who.name
        dashboard.history, dashboard.provisioned = [], None
        world.dashboards[uid] = dashboard
    else:
        dashboard = existing
        dashboard.updated_by = call.who.name
        if (dashboard.folder, canonical(dashboard.content)) != (folder, canonical(kept)):
            dashboard.version += 1
    dashboard.updated = now()
    dashboard.folder, dashboard.content, dashboard.text, dashboard.bodies = folder, kept, None, {}
    tags = kept.get("tags")
    dashboard.tags = [tag for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else []
    dashboard.history.append({
        "version": dashboard.version, "created": dashboard.updated, "message": message, "content": kept,
        "by": dashboard.updated_by, "restored_from": restored_from, "folder": folder})
    return dashboard


def delete_dashboard(call):
    dashboard = known(call, call.parts[3])
    if dashboard.provisioned:
        refuse(400, "provisioned dashboard cannot be deleted")
    folders.forget_dashboard(call.world, dashboard.uid)
    return reply({"message": f"Dashboard {_title(dashboard)} deleted", "title": _title(dashboard),
                  "uid": dashboard.uid})


# Versions ---------------------------------------------------------------------------------------


def _version_json(dashboard, entry):
    number = entry["version"]
    return {"id": number, "dashboardId": dashboard.id, "uid": dashboard.uid, "parentVersion": number - 1,
            "restoredFrom": entry["restored_from"], "version": number, "created": entry["created"],
            "message": entry["message"], "data": sorted_keys({**entry["content"], "version": number}),
            "createdBy": entry["by"]}


def list_versions(call):
    dashboard = known(call, call.parts[3])
    entries = list(reversed(dashboard.history))
    limit, token = call.one("limit"), call.one("continueToken")
    start = 0
    if token:
        try:
            start = int(base64.b64decode(token))
        except ValueError:
            refuse(400, "bad request data")
    most = int(limit) if limit.isdigit() and int(limit) > 0 else 1000
    shown = entries[start:start + most]
    more = base64.b64encode(str(start + most).encode()).decode() if start + most < len(entries) else ""
    # The list words the first version's message itself.
    named = [{**entry, "message": "Initial save"} if entry["version"] == 1 else entry for entry in shown]
    return reply({"continueToken": more, "versions": [_version_json(dashboard, entry) for entry in named]})


def _entry(dashboard, number):
    return next((entry for entry in dashboard.history if str(entry["version"]) == str(number)), None)


def get_version(call):
    dashboard = known(call, call.parts[3])
    entry = _entry(dashboard, call.parts[5])
    if entry is None:
        refuse(500, f"Dashboard version {call.parts[5]} not found for dashboardId {dashboard.id}")
    if entry["version"] == 1:  # read alone, the first has no author
        entry = {**entry, "by": "Anonymous"}
    return reply(_version_json(dashboard, entry))


def restore(call):
    dashboard = known(call, call.parts[3])
    number = typed(call.object(), "version", int)
    entry = _entry(dashboard, number)
    if entry is None:
        refuse(404, "Dashboard not found")
    if canonical(entry["content"]) == canonical(dashboard.content):
        refuse(400, "Current dashboard is identical to the specified version")
    folder = dashboard.folder
    return _saved(store(call, entry["content"], lambda *_: folder, {}, True, f"Restored from version {number}",
                        restored_from=number))


def permissions(call):
    dashboard = known(call, call.parts[3])
    return folders.permissions_of({
        "id": dashboard.id, "created": dashboard.created, "uid": dashboard.uid, "title": _title(dashboard),
        "slug": slugify(_title(dashboard)), "isFolder": False, "url": _url(dashboard)})


def tags(call):
    found = {}
    for dashboard in call.world.dashboards.values():
        for tag in dashboard.tags:
            found[tag] = found.get(tag, 0) + 1
    return reply([{"term": tag, "count": count} for tag, count in sorted(found.items())])


def home(call):
    return reply({"meta": {"isHome": True, "canSave": False, "canEdit": call.who.role in EDITORS, "canStar": False,
                           "canAdmin": False, "canDelete": False, "slug": "", "url": "", "version": 0},
                  "dashboard": {"title": "Home", "uid": "", "version": 0, "schemaVersion": 41, "panels": []}})


def import_dashboard(call):
    body = call.object()
    content = typed(body, "dashboard", dict, {})
    dashboard = store(call, content, _folder_named, body, typed(body, "overwrite", bool), "")
    return reply({"uid": dashboard.uid, "pluginId": "", "title": _title(dashboard), "imported": True,
                  "importedUri": "db/" + slugify(_title(dashboard)), "importedUrl": _url(dashboard),
                  "slug": slugify(_title(dashboard)), "dashboardId": dashboard.id, "folderId": 0,
                  "folderUid": dashboard.folder, "description": "", "path": "", "removed": False})


# Search -----------------------------------------------------------------------------------------


def _folder_hit(folder, parent):
    hit = {"id": folder.id, "uid": folder.uid, "orgId": 1, "title": folder.title,
           "uri": "db/" + slugify(folder.title), "url": folders.url_of(folder), "slug": "", "type": "dash-folder",
           "tags": [], "isStarred": False}
    return {**hit, **_in_folder(parent), "sortMeta": 0, "isDeleted": False}


def _dashboard_hit(dashboard, folder):
    title = _title(dashboard)
    hit = {"id": dashboard.id, "uid": dashboard.uid, "orgId": 1, "title": title, "uri": "db/" + slugify(title),
           "url": _url(dashboard), "slug": "", "type": "dash-db", "tags": dashboard.tags, "isStarred": False}
    return {**hit, **_in_folder(folder), "sortMeta": 0, "isDeleted": False}


def _in_folder(folder):
    if folder is None:
        return {}
    return {"folderId": folder.id, "folderUid": folder.uid, "folderTitle": folder.title,
            "folderUrl": folders.url_of(folder)}


def search(call):
    world, kind = call.world, call.one("type")
    limit = call.one("limit")
    limit = int(limit) if re.fullmatch(r"-?\d+", limit) else 1000
    if limit > 5000:
        refuse(422, "Limit is above maximum allowed (5000), use page parameter to access hits beyond limit")
    if kind not in ("", "dash-db", "dash-folder"):
        refuse(500, "Search failed")
    limit = limit if limit > 0 else 1000
    page = call.one("page")
    page = int(page) if page.isdigit() and int(page) > 0 else 1
    words = call.one("query").lower().split()
    in_folders = call.query.get("folderUIDs", [])
    uids = call.query.get("dashboardUIDs", []) + call.query.get("dashboardUID", [])
    wanted_tags = set(call.query.get("tag", []))

    def matches(title, uid, folder, its_tags):
        return (all(word in title.lower() for word in words)
                and (not in_folders or (folder or "general") in in_folders)
                and (not uids or uid in uids)
                and wanted_tags.issubset(its_tags))

    if call.who.role == NONE:
        return reply([])
    found = []
    if kind != "dash-db":
        found += [(f.title, f) for f in world.folders.values() if matches(f.title, f.uid, f.parent, ())]
    if kind != "dash-folder":
        found += [(_title(d), d) for d in world.dashboards.values() if matches(_title(d), d.uid, d.folder, d.tags)]
    # Of one title the newest dashboard came first, but the oldest folder.
    found.sort(key=lambda pair: (pair[0].lower(), -pair[1].id if isinstance(pair[1], Dashboard) else pair[1].id))
    hits = []
    for _, item in found[(page - 1) * limit:page * limit]:
        if isinstance(item, Dashboard):
            hits.append(_dashboard_hit(item, world.folders.get(item.folder)))
        else:
            hits.append(_folder_hit(item, world.folders.get(item.parent)))
    return reply(hits)
