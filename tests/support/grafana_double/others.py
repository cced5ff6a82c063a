"""The rest: health, who am I, links, plugins, /apis."""

import html
import urllib.parse

from . import irm, oncall
from .access import NONE, SERVER
from .answers import JSON_OF_ROUTER, Answer, refuse, refuse_with_id, reply
from .call import typed
from .world import VERSION

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
    if call.parts[2] == "grafana-irm-app" and call.world.oncall is not None:
        return reply({"id": "grafana-irm-app", "name": "Grafana IRM", "type": "app", "enabled": True, "pinned": True,
                      "jsonData": oncall.settings(call.world)})
    incidents = irm.settings(call.world, call.parts[2])
    if incidents is not None:
        return reply(incidents)
    if call.parts[2] in ("prometheus", "loki"):
        return reply({"id": call.parts[2], "name": call.parts[2].capitalize(), "type": "datasource",
                      "enabled": False, "pinned": False})
    refuse(404, "Plugin not found, no installed plugin with that id")


def plugin_resource(call):
    return irm.handle(call) or plugin_missing(call)


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
