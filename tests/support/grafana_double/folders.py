"""/api/folders."""

from .access import EDITOR, NONE
from .answers import Refused, denied, dumps, raw, refuse, refuse_with_id, reply
from .call import typed
from .world import BAD_UID, Folder, now, slugify

SHARED_WITH_ME = {"id": -1, "uid": "sharedwithme", "title": "Shared with me"}
_NEVER = "0001-01-01T00:00:00Z"


def not_found():
    refuse(404, "folder not found", status="not-found")


def url_of(folder):
    return f"/dashboards/f/{folder.uid}/{slugify(folder.title)}"


def _described(world, folder, who, *, just_made=False):
    able = who.is_admin or who.role == EDITOR and not just_made  # an editor's own, new folder says no
    rights = who.is_admin
    return {
        "id": folder.id, "uid": folder.uid, "orgId": 1, "title": folder.title, "url": url_of(folder),
        "hasAcl": False, "canSave": able, "canEdit": able, "canAdmin": rights, "canDelete": able,
        "createdBy": folder.created_by, "created": folder.created, "updatedBy": folder.updated_by,
        "updated": folder.updated, "version": folder.version,
    }


def _with_parents(world, folder, who, **how):
    body = _described(world, folder, who, **how)
    if folder.parent:
        body["parentUid"] = folder.parent
        parents, at = [], world.folders.get(folder.parent)
        while at is not None:
            parents.insert(0, _described(world, at, who))
            at = world.folders.get(at.parent) if at.parent else None
        if parents:
            body["parents"] = parents
    return body


def _reference(folder):
    body = {"id": folder.id, "uid": folder.uid, "title": folder.title}
    if folder.parent:
        body["parentUid"] = folder.parent
    return body


def list_folders(call):
    world, parent = call.world, call.one("parentUid")
    limit, page = call.number("limit", 1000), max(call.number("page", 1), 1)
    if limit < 0:
        refuse(500, "Folder API error: 400 error searching: limit cannot be negative: <nil>")
    if parent == "sharedwithme":
        return reply([])
    if parent and parent not in world.folders:
        not_found()
    found = [] if call.who.role == NONE else [f for f in world.folders.values() if f.parent == parent]
    found.sort(key=lambda folder: folder.title.lower())
    listed = [_reference(folder) for folder in found[(page - 1) * limit:page * limit]]
    if call.who.is_token and not call.who.is_admin and not parent and page == 1:
        listed.insert(0, SHARED_WITH_ME)
    return reply(listed)


def get_folder(call):
    uid = call.parts[2]
    if uid == "general":
        return reply({"id": 0, "uid": "general", "orgId": 0, "title": "Dashboards", "url": "", "hasAcl": False,
                      "canSave": True, "canEdit": True, "canAdmin": True, "canDelete": True,
                      "createdBy": "Anonymous", "created": _NEVER, "updatedBy": "Anonymous", "updated": _NEVER})
    return reply(_with_parents(call.world, _known(call, uid), call.who))


def get_by_id(call):
    for folder in call.world.folders.values():
        if str(folder.id) == call.parts[3]:
            return reply(_with_parents(call.world, folder, call.who))
    not_found()


def _known(call, uid, permission="folders:read"):
    """To who has no right to all folders, a missing one is one he has no right to."""
    folder = call.world.folders.get(uid)
    if folder is None:
        if not call.who.is_admin:
            raise Refused(denied(permission))
        not_found()
    return folder


def create_folder(call):
    world, body = call.world, call.object()
    uid, title, parent = (typed(body, name, str) for name in ("uid", "title", "parentUid"))
    title = title.strip()
    if not title:
        refuse(400, "folder title cannot be empty")
    if uid == "general":
        refuse(500, "Folder API error: invalid uid for folder provided")
    if "/" in uid:
        refuse(422, f'Folder.folder.grafana.app "{uid}" is invalid: metadata.name: Invalid value: "{uid}": '
                    "may not contain '/'")
    if BAD_UID.search(uid):
        refuse(400, "uid contains illegal characters")
    if len(uid) > 40:
        refuse(400, "uid too long, max 40 characters")
    if uid in world.folders:
        refuse(412, "the folder has been changed by someone else")
    folder = Folder()
    folder.uid, folder.title, folder.parent = uid or world.short_uid(), title, parent  # a missing parent is accepted
    folder.id, folder.version, folder.description = world.snowflake(), 1, typed(body, "description", str)
    folder.created = folder.updated = now()
    folder.created_by = "Anonymous" if call.who.is_token else call.who.login
    folder.updated_by = "Anonymous"
    world.folders[folder.uid] = folder
    world.folder_generation += 1
    return reply(_with_parents(world, folder, call.who, just_made=True))


def _changed(call, folder):
    folder.version += 1
    folder.updated = now()
    folder.updated_by = "Anonymous" if call.who.is_token else call.who.login
    call.world.folder_generation += 1
    return reply(_with_parents(call.world, folder, call.who))


def update_folder(call):
    body = call.object()
    version, overwrite = typed(body, "version", int), typed(body, "overwrite", bool)
    folder = _known(call, call.parts[2], "folders:write")
    if not overwrite and version != folder.version:
        refuse(412, "The dashboard has been changed by someone else")
    title, description = typed(body, "title", str, folder.title), typed(body, "description", str, folder.description)
    if not title.strip():
        refuse(400, "Dashboard title cannot be empty")
    if (title.strip(), description) == (folder.title, folder.description):
        return reply(_with_parents(call.world, folder, call.who))
    folder.title, folder.description = title.strip(), description
    return _changed(call, folder)


def move_folder(call):
    parent = typed(call.object(), "parentUid", str)
    folder = _known(call, call.parts[2], "folders:write")
    if parent and parent not in call.world.folders:
        not_found()
    if parent in call.world.below(folder.uid):
        refuse(500, "cannot move folder under its own descendant, this would create a circular reference")
    folder.parent = parent
    return _changed(call, folder)


def delete_folder(call):
    world, uid = call.world, call.parts[2]
    if uid not in world.folders:
        if not call.who.is_admin:
            raise Refused(denied("folders:delete"))
        refuse(404, f'folders.folder.grafana.app "{uid}" not found')
    inside = set(world.below(uid))
    rules = [rule.uid for rule in world.rules.values() if rule.stored["folderUID"] in inside]
    if rules and call.one("forceDeleteRules") != "true":
        refuse_with_id(400, "folder.not-empty", "Folder cannot be deleted: folder is not empty")
    for rule in rules:
        world.forget_rule(rule)
    for dashboard in [d.uid for d in world.dashboards.values() if d.folder in inside]:
        forget_dashboard(world, dashboard)
    for folder in inside:
        del world.folders[folder]
    world.folder_generation += 1
    return reply({"message": "Folder deleted"})


def forget_dashboard(world, uid):
    del world.dashboards[uid]
    for number in [n for n, note in world.annotations.items() if note["dashboardUID"] == uid]:
        del world.annotations[number]


def counts(call):
    world = call.world
    inside = set(world.below(_known(call, call.parts[2]).uid))
    return reply({
        "alertrule": sum(rule.stored["folderUID"] in inside for rule in world.rules.values()),
        "dashboard": sum(d.folder in inside for d in world.dashboards.values()),
        "folder": len(inside) - 1, "librarypanel": 0})


def permissions_of(entry, *, folder=None):
    """The default list: who made it, and that viewers may look and editors edit."""
    common = {"created": entry["created"], "updated": entry["created"], "userId": 0, "userUid": "", "userLogin": "",
              "userEmail": "", "userAvatarUrl": "/public/img/user_profile.png", "teamId": 0, "teamUid": "",
              "teamEmail": "", "teamAvatarUrl": "", "team": ""}
    names = {1: "View", 2: "Edit", 4: "Admin"}
    tail = {key: entry[key] for key in ("uid", "title", "slug", "isFolder", "url")}
    head = {"folderId" if folder else "dashboardId": entry["id"]}
    listed = []
    for role, level in ((None, 4), ("Viewer", 1), ("Editor", 2)) if folder else ((None, 4),):
        row = {**head, **common}
        if role:
            row["role"] = role
        else:
            row.update(userId=1, userUid="fg4yqpx1nx4hsa" if folder else "", userLogin="admin",
                       userEmail="admin@localhost")
        listed.append({**row, "permission": level, "permissionName": names[level], **tail, "inherited": False})
    return raw(dumps(listed))


def permissions(call):
    folder = _known(call, call.parts[2])
    return permissions_of({"id": folder.id, "created": folder.created, "uid": folder.uid, "title": folder.title,
                           "slug": "", "isFolder": True, "url": url_of(folder)}, folder=True)
